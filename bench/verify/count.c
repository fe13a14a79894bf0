/* A plugin of QEMU that counts every instruction the machine executes, and writes "COUNT ADDRESS" for each RDTSC outside the kernel: how many came
 * before it, and where it lies. The one argument is to=FILE.
 * Interface: QEMU's manual, "TCG Plugins"; declared here because Debian ships no header. VERSION is the interface's, which differs by QEMU. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;
struct instruction;
enum { NO_REGISTERS };

size_t qemu_plugin_tb_n_insns(const struct block *);
struct instruction *qemu_plugin_tb_get_insn(const struct block *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct instruction *);
void *qemu_plugin_insn_haddr(const struct instruction *);
size_t qemu_plugin_insn_size(const struct instruction *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct instruction *, void (*)(unsigned cpu, void *), int registers, void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = VERSION;

/* Both systems link their kernels here. */
static const uint64_t kernel = 0xffffffff80000000;
static uint64_t count;
static FILE *file;

static void other(unsigned cpu, void *data)
{
    (void)cpu, (void)data;
    count++;
}

static void rdtsc(unsigned cpu, void *address)
{
    (void)cpu;
    fprintf(file, "%ju %jx\n", (uintmax_t)count++, (uintmax_t)(uintptr_t)address);
}

static int is_rdtsc(const struct instruction *instruction)
{
    const void *bytes = qemu_plugin_insn_haddr(instruction);
    return qemu_plugin_insn_size(instruction) == 2 && bytes && memcmp(bytes, "\x0f\x31", 2) == 0;
}

static void translated(plugin_id id, struct block *block)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct instruction *instruction = qemu_plugin_tb_get_insn(block, i);
        uint64_t address = qemu_plugin_insn_vaddr(instruction);
        int shown = address < kernel && is_rdtsc(instruction);
        qemu_plugin_register_vcpu_insn_exec_cb(instruction, shown ? rdtsc : other, NO_REGISTERS, (void *)(uintptr_t)address);
    }
}

static void ended(plugin_id id, void *data)
{
    (void)id, (void)data;
    if (fclose(file))
        perror("the counts cannot be written");
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int arguments, char **argument)
{
    (void)info;
    if (arguments != 1 || strncmp(argument[0], "to=", 3) || !(file = fopen(argument[0] + 3, "w"))) {
        perror("the file of the counts cannot be opened");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
