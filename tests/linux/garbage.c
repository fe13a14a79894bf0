/* A program that calls everything with garbage. It may end in any way; who has not called keeps what it has: this program's other processes here, another
 * compartment while this one runs, and the machine. Nothing is expected of a call but that it concerns its caller alone. */
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

enum { CALLS = 300, LAST_NUMBER = 470, BUFFER = 16384, NOBODY = 65534 };

static __thread uint64_t seed;
static uint64_t draw(void)
{
    seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dUL;
}

static char *buffer, *read_only, *edge;
static const char *names[] = { "file", "folder", "link", "none", ".", "..", "/tmp", "/dev/null", "/proc/self/maps", "/proc/self/fd/1", "", "folder/below" };

/* A word as a program might pass it, and as none would. */
static uint64_t word(void)
{
    switch (draw() % 20) {
    case 0: return 0;
    case 1: return 1;
    case 2: return -1;
    case 3: case 4: case 5: return draw() % 32;
    case 6: return 1UL << draw() % 64;
    case 7: return (1UL << draw() % 64) - 1;
    case 8: return draw();
    case 9: case 10: case 11: return (uint64_t)buffer + draw() % BUFFER;
    case 12: return (uint64_t)buffer + draw() % (BUFFER / 8) * 8;
    case 13: return (uint64_t)read_only + draw() % 4096;
    case 14: return (uint64_t)edge - draw() % 64;
    case 15: return 0xffff800000000000UL + draw() % (1UL << 47);
    case 16: return 0x7ffffffff000UL - draw() % 8192;
    case 17: return -(draw() % 4096);
    case 18: return draw() & 0xffffffff;
    default: return (uint64_t)names[draw() % (sizeof names / sizeof *names)];
    }
}

/* Structures are words too; some of them hold names. */
static void fill(void)
{
    for (int i = 0; i < BUFFER / 8; i++) ((uint64_t *)buffer)[i] = word();
    for (int i = 0; i < 8; i++) strcpy(buffer + draw() % (BUFFER - 64), names[draw() % (sizeof names / sizeof *names)]);
}

static pid_t caller;
static void call(long number)
{
    syscall(number, word(), word(), word(), word(), word(), word());
    /* What the call made is no second caller. */
    if (syscall(SYS_getpid) != caller) syscall(SYS_exit_group, 0);
}

static void *calls(void *from)
{
    seed = (uint64_t)from * 0x9e3779b97f4a7c15UL + 1;
    for (int i = 0; i < CALLS; i++) {
        if (i % 16 == 0) fill();
        call(draw() % LAST_NUMBER);
    }
    return 0;
}

/* Descriptors of every kind, in the numbers that garbage hits most. */
static void open_all(void)
{
    int ends[2];
    CHECK(open("file", O_RDWR | O_CREAT, 0600) >= 0 && open(".", O_RDONLY | O_DIRECTORY) >= 0 && open("/proc/self/status", O_RDONLY) >= 0);
    CHECK(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0 && socket(AF_INET, SOCK_DGRAM, 0) >= 0 && socket(AF_INET6, SOCK_STREAM, 0) >= 0);
    CHECK(eventfd(0, EFD_NONBLOCK) >= 0 && epoll_create1(0) >= 0 && timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK) >= 0);
    CHECK(inotify_init1(IN_NONBLOCK) >= 0 && memfd_create("garbage", MFD_ALLOW_SEALING) >= 0);
    posix_openpt(O_RDWR | O_NOCTTY);
}

/* What this process must not take from the system, whatever it calls: it is nobody, and small. */
static void confine(void)
{
    struct rlimit file = { 1 << 20, 1 << 20 }, memory = { 256 << 20, 256 << 20 }, processes = { 64, 64 }, none = { 0, 0 };
    CHECK(setsid() >= 0 && setrlimit(RLIMIT_FSIZE, &file) == 0 && setrlimit(RLIMIT_AS, &memory) == 0);
    CHECK(setrlimit(RLIMIT_NPROC, &processes) == 0 && setrlimit(RLIMIT_CORE, &none) == 0);
    if (setgid(NOBODY) == 0) CHECK(setuid(NOBODY) == 0);
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
}

static void begin(uint64_t round, int threads)
{
    pthread_t others[8];
    confine();
    int quiet = open("/dev/null", O_RDWR);
    CHECK(quiet >= 0 && dup2(quiet, 0) == 0 && dup2(quiet, 1) == 1 && dup2(quiet, 2) == 2);
    open_all();
    caller = getpid();
    buffer = mmap(0, BUFFER, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    read_only = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *two = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    edge = two + 4096;
    CHECK(buffer != MAP_FAILED && read_only != MAP_FAILED && two != MAP_FAILED && munmap(edge, 4096) == 0);
    for (long i = 1; i < threads; i++) pthread_create(&others[i], 0, calls, (void *)(round * 8 + i));
    calls((void *)(round * 8));
    _exit(0);
}

/* Runs a process of garbage until it ends, at most for a while: many calls only wait. */
static void round_of_garbage(uint64_t number, int threads)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) begin(number, threads);
    int status, left = 400;
    while (left-- > 0 && waitpid(pid, &status, WNOHANG) == 0) sleep_ms(1);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

static void rounds(uint64_t from, int count, int threads)
{
    static char mine[4096];
    memset(mine, 0x5a, sizeof mine);
    mkdir("/tmp/garbage", 0777);
    CHECK(chdir("/tmp/garbage") == 0 && chmod(".", 0777) == 0);
    int kept = open("/tmp/kept", O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(kept >= 0 && write(kept, mine, sizeof mine) == sizeof mine && close(kept) == 0);
    for (int i = 0; i < count; i++) round_of_garbage(from + i, threads);
    /* All that was ours is, in memory and in a file that nobody else may open. */
    char theirs[sizeof mine];
    int fd = open("/tmp/kept", O_RDONLY);
    CHECK(fd >= 0 && read(fd, theirs, sizeof theirs) == sizeof theirs && !memcmp(mine, theirs, sizeof mine));
    for (unsigned i = 0; i < sizeof mine; i++) CHECK(mine[i] == 0x5a);
    CHECK(close(fd) == 0 && unlink("/tmp/kept") == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) _exit(7);
    int status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

CASE(calls_with_garbage_concern_their_caller_alone, "syscalls(2)") { rounds(1000, 60, 1); }
CASE(threads_that_call_with_garbage_concern_their_process_alone, "syscalls(2)") { rounds(5000, 30, 4); }

CASE(numbers_that_are_no_calls_are_told_so, "syscall(2): ENOSYS")
{
    long numbers[] = { 600, 1000, 4096, 0x10000, 0x7fffffff, -1, -4096, 0x80000000L, 0xffffffffL };
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) CHECK_ERRNO(syscall(numbers[i], 1, 2, 3, 4, 5, 6), ENOSYS);
}
