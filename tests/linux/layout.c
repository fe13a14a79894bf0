/* Where the parts of a program go (personality(2), proc(5) on randomize_va_space).
 * compile: -static-pie */
#include "check.h"
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>

enum { PROGRAM, STACK, MAPPINGS, VDSO, BREAK, RANDOM, PARTS };
typedef struct { unsigned long at[PARTS]; } layout;

/* Called with LAYOUT in its environment the program tells where its parts are instead of testing. */
__attribute__((constructor)) static void tell(int argc, char **argv, char **envp)
{
    char *fd = getenv("LAYOUT");
    (void)argc; (void)envp;
    if (!fd) return;
    layout own = { { 0 } };
    own.at[PROGRAM] = (unsigned long)tell;
    own.at[STACK] = (unsigned long)argv;
    own.at[MAPPINGS] = (unsigned long)mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    own.at[VDSO] = getauxval(AT_SYSINFO_EHDR);
    own.at[BREAK] = (unsigned long)sbrk(0);
    memcpy(&own.at[RANDOM], (void *)getauxval(AT_RANDOM), sizeof own.at[RANDOM]);
    _exit(write(atoi(fd), &own, sizeof own) != sizeof own);
}

/* The parts of a run of this program under a personality. */
static layout run(unsigned long domain)
{
    int ends[2];
    layout found;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char name[32];
        snprintf(name, sizeof name, "LAYOUT=%d", ends[1]);
        char *arguments[] = { "layout", 0 }, *environment[] = { name, 0 };
        CHECK(personality(domain) >= 0);
        execve("/proc/self/exe", arguments, environment);
        _exit(1);
    }
    CHECK(close(ends[1]) == 0 && read(ends[0], &found, sizeof found) == sizeof found && close(ends[0]) == 0);
    CHECK(wait_status(pid) == 0);
    return found;
}

enum { RUNS = 12 };

CASE(every_part_has_another_place_in_every_run, "personality(2), proc(5)")
{
    layout runs[RUNS];
    for (int i = 0; i < RUNS; i++) runs[i] = run(0);
    for (int part = 0; part < PARTS; part++) {
        int different = 0;
        for (int i = 0; i < RUNS; i++) {
            int seen = 0;
            for (int j = 0; j < i; j++) seen |= runs[i].at[part] == runs[j].at[part];
            different += !seen;
        }
        /* Of twelve that are drawn by twenty bits two have the same place once in fifteen thousand runs, and three of them never. */
        if (different < RUNS - 2) printf("  part %d has %d places\n", part, different);
        CHECK(different >= RUNS - 2);
    }
}

/* The distance between the parts differs too: who has seen one of them knows no other. */
CASE(one_part_does_not_tell_of_another, "personality(2)")
{
    layout runs[RUNS];
    for (int i = 0; i < RUNS; i++) runs[i] = run(0);
    int parts[] = { PROGRAM, STACK, MAPPINGS };
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < a; b++) {
            int same = 0;
            for (int i = 1; i < RUNS; i++)
                same += runs[i].at[parts[a]] - runs[i].at[parts[b]] == runs[0].at[parts[a]] - runs[0].at[parts[b]];
            /* A static program that is position-independent lies among the mappings in some versions of Linux. */
            CHECK(same < RUNS - 1 || (parts[a] == MAPPINGS && parts[b] == PROGRAM));
        }
}

CASE(without_randomness_every_run_is_the_same, "personality(2): ADDR_NO_RANDOMIZE")
{
    layout first = run(ADDR_NO_RANDOMIZE);
    for (int i = 0; i < RUNS / 2; i++) {
        layout next = run(ADDR_NO_RANDOMIZE);
        for (int part = 0; part < PARTS; part++)
            if (part == RANDOM) CHECK(next.at[part] != first.at[part]);
            else CHECK(next.at[part] == first.at[part]);
    }
}

CASE(a_fork_keeps_the_layout_and_the_personality, "personality(2), fork(2)")
{
    int here;
    CHECK(personality(ADDR_NO_RANDOMIZE) >= 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        int *there = &here;
        CHECK(personality(0xffffffff) == ADDR_NO_RANDOMIZE && (void *)there == (void *)&here);
        _exit(0);
    }
    CHECK(wait_status(pid) == 0);
}

CASE(all_of_the_stack_limit_can_be_used, "getrlimit(2): RLIMIT_STACK")
{
    volatile char *at = (volatile char *)&at;
    /* What is below eight megabytes by more than the strings and this function took. */
    for (long down = 0; down < (8 << 20) - (256 << 10); down += 4096) at[-down] = 1;
}
