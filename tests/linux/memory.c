/* Memory: mmap in its kinds, protection, remapping, copy-on-write, the break. */
#include "check.h"

static int faults(void (*touch)(void *), void *at)
{
    pid_t pid = fork();
    if (pid == 0) { touch(at); _exit(0); }
    int status = wait_status(pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}
static void store(void *at) { *(volatile char *)at = 1; }
static void load(void *at) { (void)*(volatile char *)at; }
static void call(void *at) { ((void (*)(void))at)(); }

CASE(anonymous_memory_is_zero_and_bounded, "mmap(2)")
{
    char *p = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    for (int i = 0; i < 3 * 4096; i++) CHECK(p[i] == 0);
    memset(p, 7, 3 * 4096);
    CHECK(munmap(p + 4096, 4096) == 0 && p[0] == 7 && p[8192] == 7);
    CHECK(faults(load, p + 4096) == SIGSEGV);
    char *again = mmap(p + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK(again == p + 4096 && again[0] == 0);
    CHECK_ERRNO((long)mmap(0, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    CHECK_ERRNO((long)mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK_ERRNO((long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, 99, 0), EBADF);
}

CASE(protection_is_enforced, "mprotect(2)")
{
    char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = (char)0xc3;
    CHECK(mprotect(p, 4096, PROT_READ) == 0 && p[0] == (char)0xc3 && faults(store, p) == SIGSEGV);
    CHECK(mprotect(p, 4096, PROT_NONE) == 0 && faults(load, p) == SIGSEGV);
    CHECK(mprotect(p, 4096, PROT_READ) == 0 && p[0] == (char)0xc3 && faults(call, p) == SIGSEGV);
    CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0 && faults(call, p) == 0);
    CHECK_ERRNO(mprotect(p + 1, 4096, PROT_READ), EINVAL);
    CHECK(munmap(p, 4096) == 0);
    CHECK_ERRNO(mprotect(p, 4096, PROT_READ), ENOMEM);
}

CASE(a_file_mapped_private_and_shared, "mmap(2)")
{
    int fd = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(write(fd, "hello", 5) == 5);
    char *private = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(private != MAP_FAILED && shared != MAP_FAILED && !memcmp(private, "hello", 6) && !memcmp(shared, "hello", 6));
    private[0] = 'J';
    char c;
    CHECK(pread(fd, &c, 1, 0) == 1 && c == 'h' && shared[0] == 'h');
    shared[1] = 'a';
    CHECK(pread(fd, &c, 1, 1) == 1 && c == 'a');
    CHECK(pwrite(fd, "L", 1, 2) == 1 && shared[2] == 'L');
    pid_t pid = fork();
    if (pid == 0) { shared[3] = 'Z'; private[3] = 'Q'; _exit(0); }
    CHECK(wait_status(pid) == 0 && shared[3] == 'Z' && private[3] != 'Q');
    CHECK(ftruncate(fd, 8192) == 0);
    char *two = mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(two[5000] == 0 && ftruncate(fd, 100) == 0 && faults(load, two + 4096) == SIGBUS);
    int ro = open("/tmp/mapped", O_RDONLY);
    CHECK_ERRNO((long)mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0), EACCES);
    CHECK_ERRNO((long)mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 100), EINVAL);
    unlink("/tmp/mapped");
}

CASE(shared_anonymous_memory_crosses_fork, "mmap(2)")
{
    volatile int *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) { p[0] = 5; p[1024] = 6; _exit(0); }
    CHECK(wait_status(pid) == 0 && p[0] == 5 && p[1024] == 6);
}

CASE(remapping, "mremap(2)")
{
    char *p = mmap(0, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p[0] = 1; p[4096] = 2;
    char *q = mremap(p, 2 * 4096, 64 * 4096, MREMAP_MAYMOVE);
    CHECK(q != MAP_FAILED && q[0] == 1 && q[4096] == 2 && q[63 * 4096] == 0);
    q = mremap(q, 64 * 4096, 4096, 0);
    CHECK(q != MAP_FAILED && q[0] == 1 && faults(load, q + 4096) == SIGSEGV);
    char *to = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mremap(q, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to && to[0] == 1);
    CHECK_ERRNO((long)mremap((void *)0x10000, 4096, 8192, 0), EFAULT);
}

CASE(the_break_moves, "brk(2)")
{
    char *old = sbrk(0);
    CHECK(sbrk(100000) == old);
    memset(old, 3, 100000);
    CHECK(sbrk(-100000) != (void *)-1 && sbrk(0) == old);
    CHECK(sbrk(100000) == old && old[50000] == 0);
}

CASE(advice_dontneed_gives_zeroes, "madvise(2)")
{
    char *p = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(p, 9, 4 * 4096);
    CHECK(madvise(p + 4096, 4096, MADV_DONTNEED) == 0 && p[4096] == 0 && p[0] == 9 && p[8192] == 9);
    CHECK_ERRNO(madvise(p, 4096, 12345), EINVAL);
}

CASE(a_huge_reservation_costs_nothing, "mmap(2)")
{
    char *p = mmap(0, 1ul << 36, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p != MAP_FAILED);
    p[0] = 1; p[(1ul << 36) - 1] = 2; p[1ul << 35] = 3;
    pid_t pid = fork();
    if (pid == 0) { p[1ul << 35] = 4; _exit(p[0] == 1 && p[(1ul << 36) - 1] == 2 ? 0 : 1); }
    CHECK(wait_status(pid) == 0 && p[1ul << 35] == 3 && munmap(p, 1ul << 36) == 0);
}

CASE(the_stack_grows, "setrlimit(2)")
{
    volatile char deep[1 << 20];
    for (size_t i = sizeof deep; i > 0; i -= 4096) deep[i - 1] = 1;
    CHECK(deep[4095] == 1);
}

CASE(copy_on_write_after_many_forks, "fork(2)")
{
    enum { PAGES = 64 };
    char *p = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < PAGES; i++) p[i * 4096] = i;
    for (int round = 0; round < 20; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            for (int i = 0; i < PAGES; i++) { if (p[i * 4096] != i) _exit(1); p[i * 4096] = -1; }
            pid_t inner = fork();
            if (inner == 0) { for (int i = 0; i < PAGES; i++) if (p[i * 4096] != -1) _exit(2); _exit(0); }
            _exit(wait_status(inner) ? 3 : 0);
        }
        p[round * 4096] = round;
        CHECK(wait_status(pid) == 0);
    }
}

static long resident_pages(void)
{
    char text[128] = { 0 };
    long total, resident;
    int fd = open("/proc/self/statm", O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0 && close(fd) == 0);
    CHECK(sscanf(text, "%ld %ld", &total, &resident) == 2 && resident <= total);
    return resident;
}

CASE(resident_is_what_was_touched, "proc_pid_statm(5)")
{
    long before = resident_pages();
    char *p = mmap(0, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    /* Where huge pages exist, a touch must not bring 2 MiB. */
    madvise(p, 64 << 20, MADV_NOHUGEPAGE);
    CHECK(resident_pages() < before + 512);
    for (int i = 0; i < 2048; i++) p[i * 4096] = 1;
    long touched = resident_pages();
    CHECK(touched >= before + 2000 && touched < before + 2560);
    CHECK(madvise(p, 64 << 20, MADV_DONTNEED) == 0 && resident_pages() < before + 512);
}

/* The number of areas is bounded: what would make one more of them fails, what needs none works. */
CASE(a_hole_in_an_area_needs_another_one, "munmap(2), mprotect(2): ENOMEM")
{
    enum { MOST = 65530 };
    size_t page = 4096, pages = 2 * MOST;
    char *at = mmap(0, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    char *whole = mmap(0, 8 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(whole != MAP_FAILED);
    size_t i = 1;
    while (i < pages && mprotect(at + i * page, page, PROT_READ) == 0) i += 2;
    CHECK(i < pages);
    CHECK_ERRNO(mprotect(at + i * page, page, PROT_READ), ENOMEM);
    CHECK_ERRNO(munmap(whole + 2 * page, page), ENOMEM);
    CHECK_ERRNO(mprotect(whole + 2 * page, page, PROT_WRITE), ENOMEM);
    CHECK(munmap(whole, page) == 0);
    CHECK(munmap(at, pages * page) == 0 && munmap(whole + 2 * page, page) == 0 && mprotect(whole + 4 * page, page, PROT_WRITE) == 0);
}
