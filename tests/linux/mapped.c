/* Mapped files: pages that come when they are touched, by programs and by system calls, holes, and file systems that are full. */
#include "check.h"
#include <linux/falloc.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { PAGE = 4096 };

static int faults(void (*touch)(void *), void *at)
{
    pid_t pid = fork();
    if (pid == 0) { touch(at); _exit(0); }
    int status = wait_status(pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}
static void store(void *at) { *(volatile char *)at = 1; }
static void load(void *at) { (void)*(volatile char *)at; }

/* A new file without a name in a directory, of some size. */
static int sparse(const char *directory, off_t size)
{
    char path[64];
    snprintf(path, sizeof path, "%s/sparse-XXXXXX", directory);
    int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0 && ftruncate(fd, size) == 0);
    return fd;
}

static long blocks(int fd)
{
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    return st.st_blocks;
}

static char *shared(int fd, size_t length, off_t offset)
{
    char *p = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
    CHECK(p != MAP_FAILED);
    return p;
}

CASE(a_sparse_file_costs_what_is_touched, "mmap(2)")
{
    size_t size = 1ul << 36;
    int fd = sparse("/tmp", size);
    char *all = shared(fd, size, 0);
    CHECK(blocks(fd) == 0);
    all[0] = 1; all[size / 2] = 2; all[size - 1] = 3;
    CHECK(blocks(fd) == 3 * 8);
    char c;
    CHECK(pread(fd, &c, 1, size / 2) == 1 && c == 2 && pwrite(fd, "x", 1, size / 4) == 1 && all[size / 4] == 'x');
    char *end = shared(fd, PAGE, size - PAGE);
    CHECK(end[PAGE - 1] == 3 && (end[0] = 4, all[size - PAGE] == 4));
    char *own = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    CHECK(own != MAP_FAILED && own[size / 2] == 2 && own[size / 8] == 0 && (own[size / 8] = 9, all[size / 8] == 0));
    CHECK(munmap(all, size) == 0 && munmap(own, size) == 0 && end[PAGE - 1] == 3);
}

CASE(many_pages_that_are_there_are_all_seen, "mmap(2)")
{
    enum { PAGES = 1500 };
    int fd = sparse("/tmp", PAGES * PAGE);
    for (int i = 0; i < PAGES; i += 1 + i % 3) CHECK(pwrite(fd, &i, sizeof i, i * PAGE) == sizeof i);
    char *p = shared(fd, PAGES * PAGE, 0);
    for (int i = 0; i < PAGES; i += 1 + i % 3) CHECK(*(int *)(p + i * PAGE) == i);
    char *ro = mmap(0, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(faults(store, ro) == SIGSEGV && mprotect(ro, PAGE, PROT_READ | PROT_WRITE) == 0 && faults(store, ro) == 0);
    CHECK(faults(store, ro + 2 * PAGE) == SIGSEGV && faults(load, ro + 2 * PAGE) == 0);
}

CASE(system_calls_touch_pages_too, "mmap(2)")
{
    enum { LENGTH = 40 * PAGE };
    int fd = sparse("/tmp", LENGTH * 8), other = sparse("/tmp", 0), pipes[2];
    char *p = shared(fd, LENGTH * 8, 0), *buffer = malloc(LENGTH);
    memset(buffer, 'a', LENGTH);
    CHECK(pwrite(other, buffer, LENGTH, 0) == LENGTH);
    /* Into pages that nobody has touched, from the middle of one to the middle of another. */
    CHECK(pread(other, p + 100, LENGTH - 200, 0) == LENGTH - 200 && !memcmp(p + 100, buffer, LENGTH - 200));
    CHECK(p[99] == 0 && p[LENGTH - 100] == 0);
    /* Out of such pages. */
    CHECK(pwrite(other, p + LENGTH + 7, LENGTH, 0) == LENGTH && pread(other, buffer, LENGTH, 0) == LENGTH);
    for (int i = 0; i < LENGTH; i++) CHECK(buffer[i] == 0);
    char *q = p + 2 * LENGTH;
    CHECK(getcwd(q, 100) && q[0] == '/');
    struct iovec pieces[3] = { { q + PAGE, 3 }, { q + 2 * PAGE - 1, PAGE + 2 }, { q + 9 * PAGE, 5 } };
    CHECK(pread(other, buffer, LENGTH, 0) == LENGTH && preadv(other, pieces, 3, 0) == 3 + PAGE + 2 + 5);
    CHECK(pipe(pipes) == 0 && write(pipes[1], q + 20 * PAGE, 3 * PAGE) == 3 * PAGE && read(pipes[0], q + 30 * PAGE, 3 * PAGE) == 3 * PAGE);
    /* A futex word, and a path, in pages that nobody has touched. */
    int *word = (int *)(p + 3 * LENGTH);
    CHECK(syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0) == 0);
    CHECK_ERRNO(syscall(SYS_futex, word, FUTEX_WAIT, 1, 0, 0, 0), EAGAIN);
    CHECK_ERRNO(open(p + 4 * LENGTH, O_RDONLY), ENOENT);
    /* Beyond the end and without the right there is still nothing to be had. */
    CHECK(ftruncate(fd, PAGE) == 0);
    CHECK_ERRNO(pread(other, p + PAGE, 10, 0), EFAULT);
    char *ro = mmap(0, PAGE, PROT_READ, MAP_SHARED, sparse("/tmp", PAGE), 0);
    CHECK_ERRNO(pread(other, ro, 10, 0), EFAULT);
}

CASE(a_file_that_grows_is_there_for_system_calls, "mmap(2)")
{
    int fd = sparse("/tmp", PAGE);
    char *p = shared(fd, 4 * PAGE, 0);
    CHECK(faults(load, p + PAGE) == SIGBUS && ftruncate(fd, 4 * PAGE) == 0);
    CHECK(pwrite(fd, "grown", 5, 2 * PAGE) == 5);
    CHECK(write(open("/dev/null", O_WRONLY), p + PAGE, 3 * PAGE) == 3 * PAGE && !memcmp(p + 2 * PAGE, "grown", 5));
}

CASE(a_hole_is_punched_for_everybody, "fallocate(2)")
{
    int fd = sparse("/tmp", 8 * PAGE);
    char *p = shared(fd, 8 * PAGE, 0), *own = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    memset(p, 5, 8 * PAGE);
    own[PAGE] = 6;
    CHECK(blocks(fd) == 8 * 8);
    int go[2], ready[2];
    char c;
    CHECK(pipe(go) == 0 && pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(p[2 * PAGE] == 5 && write(ready[1], "x", 1) == 1 && read(go[0], &c, 1) == 1);
        CHECK(p[PAGE] == 0 && p[2 * PAGE] == 0 && p[PAGE - 1] == 5 && p[3 * PAGE + 10] == 5 && own[PAGE] == 6);
        p[2 * PAGE] = 7;
        _exit(0);
    }
    CHECK(read(ready[0], &c, 1) == 1 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, 2 * PAGE + 10) == 0);
    CHECK(blocks(fd) == 6 * 8 && write(go[1], "x", 1) == 1 && wait_status(pid) == 0);
    CHECK(p[3 * PAGE] == 0 && p[3 * PAGE + 10] == 5 && p[2 * PAGE] == 7 && own[PAGE] == 6 && blocks(fd) >= 7 * 8);
    CHECK(madvise(p + 4 * PAGE, 2 * PAGE, MADV_REMOVE) == 0 && p[4 * PAGE] == 0 && p[6 * PAGE] == 5);
    CHECK_ERRNO(madvise(own, PAGE, MADV_REMOVE), EACCES);
    int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(ftruncate(sealed, 2 * PAGE) == 0 && fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE) == 0);
    CHECK_ERRNO(fallocate(sealed, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE), EPERM);
}

CASE(a_file_that_is_opened_anew_is_gone_from_mappings, "open(2)")
{
    int fd = open("/tmp/opened-anew", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
    char *p = shared(fd, 2 * PAGE, 0), *own = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    p[0] = p[PAGE] = own[0] = 1;
    CHECK(open("/tmp/opened-anew", O_RDWR | O_TRUNC) >= 0 && unlink("/tmp/opened-anew") == 0);
    CHECK(faults(load, p) == SIGBUS && faults(store, p + PAGE) == SIGBUS && faults(load, own) == SIGBUS);
    CHECK(ftruncate(fd, PAGE) == 0 && p[0] == 0);
}

CASE(shared_memory_without_a_name_is_sparse_over_a_fork, "mmap(2)")
{
    size_t size = 1ul << 34;
    volatile char *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED);
    pid_t pid = fork();
    if (pid == 0) { p[size - 1] = 1; p[size / 2] = 2; _exit(p[0] ? 1 : 0); }
    CHECK(wait_status(pid) == 0 && p[size - 1] == 1 && p[size / 2] == 2 && p[size / 4] == 0);
    char *moved = mremap((void *)p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)0x200000000000);
    CHECK(moved != MAP_FAILED && moved[size - 1] == 1 && moved[1] == 0);
}

CASE(what_is_in_memory_is_told, "mincore(2)")
{
    int fd = sparse("/tmp", 4 * PAGE);
    unsigned char there[4];
    CHECK(pwrite(fd, "x", 1, 2 * PAGE) == 1);
    char *p = shared(fd, 4 * PAGE, 0);
    CHECK(mincore(p, 4 * PAGE, there) == 0 && !(there[0] & 1) && (there[2] & 1));
    p[0] = 1;
    CHECK(mincore(p, 4 * PAGE, there) == 0 && (there[0] & 1) && !(there[1] & 1));
}

CASE(a_write_from_memory_that_ends_is_short, "write(2)")
{
    char *p = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), back[2 * PAGE];
    memset(p, 'n', 2 * PAGE);
    CHECK(munmap(p + 2 * PAGE, PAGE) == 0);
    int fd = sparse("/tmp", 0);
    memset(back, 'o', sizeof back);
    CHECK(write(fd, back, 2 * PAGE) == 2 * PAGE);
    /* Into pages that are there: what can be had is written, nothing else changes. */
    CHECK(pwrite(fd, p + 2 * PAGE - 100, 200, 50) == 100 && pread(fd, back, 2 * PAGE, 0) == 2 * PAGE);
    CHECK(back[49] == 'o' && back[50] == 'n' && back[149] == 'n' && back[150] == 'o');
    CHECK(pwrite(fd, p + PAGE - 13, 2 * PAGE, 1) == PAGE + 13 && pread(fd, back, 2 * PAGE, 0) == 2 * PAGE);
    CHECK(back[0] == 'o' && back[1] == 'n' && back[PAGE + 13] == 'n' && back[PAGE + 14] == 'o');
    /* Into a new page, which is zero but for that. */
    CHECK(pwrite(fd, p + 2 * PAGE - 9, PAGE, 4 * PAGE) == 9 && lseek(fd, 0, SEEK_END) == 4 * PAGE + 9);
    CHECK(ftruncate(fd, 5 * PAGE) == 0 && pread(fd, back, PAGE, 4 * PAGE) == PAGE && back[8] == 'n' && back[9] == 0 && back[PAGE - 1] == 0);
    /* Nothing at all is an error. */
    CHECK_ERRNO(pwrite(fd, p + 2 * PAGE, 10, 0), EFAULT);
    CHECK(pread(fd, p + 2 * PAGE - 77, 500, 0) == 77);
    CHECK_ERRNO(pread(fd, p + 2 * PAGE, 500, 0), EFAULT);
}

/* /tmp/small is a file system of 1 MiB. */
CASE(a_full_file_system_is_a_bus_error, "mmap(2)")
{
    int fd = sparse("/tmp/small", 64 << 20), from = sparse("/tmp", 0);
    char *p = shared(fd, 64 << 20, 0);
    int status, room = 0;
    while (room < 1024 && (status = faults(store, p + room * PAGE)) == 0) room++;
    CHECK(status == SIGBUS && room >= 200 && room <= 256);
    CHECK(pwrite(from, "abc", 3, 0) == 3);
    CHECK_ERRNO(pread(from, p + 1000 * PAGE, 3, 0), EFAULT);
    CHECK_ERRNO(pwrite(fd, "x", 1, 2000 * PAGE), ENOSPC);
    CHECK(faults(load, p + 1001 * PAGE) == SIGBUS && p[5 * PAGE] == 1);
    /* A hole makes room, also with the page mapped. */
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * PAGE, PAGE) == 0);
    CHECK(pread(from, p + 1000 * PAGE, 3, 0) == 3 && p[1000 * PAGE + 2] == 'c' && faults(load, p + 5 * PAGE) == SIGBUS);
    CHECK(ftruncate(fd, 0) == 0);
    /* What is reserved in vain is given back. */
    CHECK_ERRNO(fallocate(fd, 0, 0, 2 << 20), ENOSPC);
    CHECK(blocks(fd) == 0 && fallocate(fd, 0, 0, 512 << 10) == 0 && blocks(fd) == 1024);
}
