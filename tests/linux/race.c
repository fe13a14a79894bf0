/* Many threads and processes at once, on as many CPUs as there are: what each of them is promised alone holds for all of them together.
 * The work of each case is bounded, so that it ends on one slow CPU too. */
#include "check.h"
#include <dirent.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

enum { WORKERS = 6, ROUNDS = 60 };

/* Runs a function in WORKERS threads, each with its number, and waits for all. */
static void together(void *(*work)(void *))
{
    pthread_t t[WORKERS];
    for (long i = 0; i < WORKERS; i++) CHECK(pthread_create(&t[i], 0, work, (void *)i) == 0);
    for (int i = 0; i < WORKERS; i++) CHECK(pthread_join(t[i], 0) == 0);
}

static void *fork_and_wait(void *me)
{
    for (int i = 0; i < ROUNDS / 2; i++) {
        int code = ((long)me * 16 + i) & 0xff;
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) _exit(code);
        int status = wait_status(pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code);
    }
    return 0;
}
CASE(threads_fork_and_reap_their_own, "fork(2), waitpid(2)") { together(fork_and_wait); }

static char *region;
enum { PAGES = 16, PAGE = 4096 };
static void *write_while_forking(void *me)
{
    volatile char *own = region + (long)me * PAGES * PAGE;
    for (int i = 1; i <= ROUNDS; i++) {
        for (int page = 0; page < PAGES; page++) own[page * PAGE] = i;
        if (me == 0 && i % 4 == 0) {
            pid_t pid = fork();
            CHECK(pid >= 0);
            if (pid == 0) {
                /* The child's copy is of one moment: nothing that its parent's threads write comes in later. */
                char before[WORKERS * PAGES], after[WORKERS * PAGES];
                for (int page = 0; page < WORKERS * PAGES; page++) before[page] = ((volatile char *)region)[page * PAGE];
                sleep_ms(1);
                for (int page = 0; page < WORKERS * PAGES; page++) after[page] = ((volatile char *)region)[page * PAGE];
                _exit(memcmp(before, after, sizeof before) != 0);
            }
            CHECK(wait_status(pid) == 0);
        }
        for (int page = 0; page < PAGES; page++) CHECK(own[page * PAGE] == (char)i);
    }
    return 0;
}
CASE(a_fork_sees_one_moment_while_threads_write, "fork(2)")
{
    region = mmap(0, WORKERS * PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(region != MAP_FAILED);
    together(write_while_forking);
}

static void *map_and_unmap(void *me)
{
    for (int i = 0; i < 4 * ROUNDS; i++) {
        size_t size = (1 + (i + (long)me) % 8) * PAGE;
        volatile char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(at != MAP_FAILED);
        for (size_t byte = 0; byte < size; byte += PAGE) { CHECK(at[byte] == 0); at[byte] = 1 + (long)me; }
        CHECK(mprotect((void *)at, PAGE, PROT_READ) == 0);
        for (size_t byte = 0; byte < size; byte += PAGE) CHECK(at[byte] == 1 + (long)me);
        CHECK(madvise((void *)(at + size - PAGE), PAGE, MADV_DONTNEED) == 0 && at[size - PAGE] == 0);
        CHECK(munmap((void *)at, size) == 0);
    }
    return 0;
}
CASE(threads_map_and_unmap, "mmap(2), mprotect(2), madvise(2)") { together(map_and_unmap); }

static atomic_int handled;
static void count(int signo) { (void)signo; handled++; }
static void *signal_itself(void *me)
{
    (void)me;
    for (int i = 0; i < 4 * ROUNDS; i++) { CHECK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1) == 0); }
    return 0;
}
CASE(a_signal_to_oneself_is_handled_before_the_call_returns, "tgkill(2), signal(7)")
{
    struct sigaction action = { .sa_handler = count, .sa_flags = SA_RESTART };
    CHECK(sigaction(SIGUSR1, &action, 0) == 0);
    together(signal_itself);
    CHECK(handled == WORKERS * 4 * ROUNDS);
}

static void *queue_to_parent(void *me)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < ROUNDS; i++) {
            union sigval value = { .sival_int = (int)(long)me };
            while (sigqueue(getppid(), SIGRTMIN, value) < 0) if (errno != EAGAIN) _exit(1);
        }
        _exit(0);
    }
    CHECK(wait_status(pid) == 0);
    return 0;
}
static int sums[WORKERS];
static void *take_queued(void *all)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set); sigaddset(&set, SIGRTMIN);
    for (int i = 0; i < (long)all; i++) {
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN);
        CHECK(info.si_value.sival_int >= 0 && info.si_value.sival_int < WORKERS);
        sums[info.si_value.sival_int]++;
    }
    return 0;
}
CASE(no_queued_signal_is_lost, "sigqueue(3), sigwaitinfo(2)")
{
    sigset_t set;
    pthread_t taker;
    sigemptyset(&set); sigaddset(&set, SIGRTMIN);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, 0) == 0);
    CHECK(pthread_create(&taker, 0, take_queued, (void *)(long)(WORKERS * ROUNDS)) == 0);
    together(queue_to_parent);
    CHECK(pthread_join(taker, 0) == 0);
    for (int i = 0; i < WORKERS; i++) CHECK(sums[i] == ROUNDS);
}

/* A lock of one word over futex(2), as in "Futexes Are Tricky". */
static atomic_int word;
static long guarded;
static void *lock_by_futex(void *me)
{
    (void)me;
    for (int i = 0; i < 10 * ROUNDS; i++) {
        int seen = 0;
        if (!atomic_compare_exchange_strong(&word, &seen, 1)) {
            if (seen != 2) seen = atomic_exchange(&word, 2);
            while (seen != 0) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 2, 0, 0, 0); seen = atomic_exchange(&word, 2); }
        }
        long value = guarded;
        if (i % 16 == 0) sched_yield();
        guarded = value + 1;
        if (atomic_fetch_sub(&word, 1) != 1) { atomic_store(&word, 0); syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0); }
    }
    return 0;
}
CASE(a_lock_of_one_futex_excludes, "futex(2)") { together(lock_by_futex); CHECK(guarded == WORKERS * 10 * ROUNDS); }

static int instance, semaphore_fd;
static atomic_int taken;
static void *take_events(void *me)
{
    (void)me;
    for (;;) {
        struct epoll_event event;
        uint64_t one;
        int got = epoll_wait(instance, &event, 1, 5000);
        CHECK(got == 1);
        if (event.data.u32 == 1) return 0;
        ssize_t length = read(semaphore_fd, &one, sizeof one);
        if (length == sizeof one) { taken++; continue; }
        /* Another one was faster. */
        int error = errno;
        CHECK(length == -1 && error == EAGAIN);
    }
}
CASE(many_waiters_of_one_epoll_lose_nothing, "epoll(7), eventfd(2)")
{
    int stop = eventfd(0, EFD_NONBLOCK);
    pthread_t t[WORKERS];
    instance = epoll_create1(0);
    semaphore_fd = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = 0 };
    CHECK(epoll_ctl(instance, EPOLL_CTL_ADD, semaphore_fd, &event) == 0);
    for (long i = 0; i < WORKERS; i++) CHECK(pthread_create(&t[i], 0, take_events, (void *)i) == 0);
    uint64_t one = 1;
    for (int i = 0; i < 5 * ROUNDS; i++) CHECK(write(semaphore_fd, &one, sizeof one) == sizeof one);
    for (int i = 0; i < 5000 && taken < 5 * ROUNDS; i++) sleep_ms(1);
    CHECK(taken == 5 * ROUNDS);
    event.data.u32 = 1;
    CHECK(epoll_ctl(instance, EPOLL_CTL_ADD, stop, &event) == 0 && write(stop, &one, sizeof one) == sizeof one);
    for (int i = 0; i < WORKERS; i++) CHECK(pthread_join(t[i], 0) == 0);
}

static void *make_and_rename(void *me)
{
    char from[64], to[64];
    snprintf(from, sizeof from, "/tmp/race.d/new-%ld", (long)me);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = open(from, O_CREAT | O_EXCL | O_WRONLY, 0600);
        CHECK(fd >= 0 && write(fd, "whole", 5) == 5 && close(fd) == 0);
        snprintf(to, sizeof to, "/tmp/race.d/kept-%d", i % 4);
        /* Whoever looks sees some worker's file whole: rename(2) replaces in one step. */
        CHECK(rename(from, to) == 0);
        char bytes[8];
        CHECK((fd = open(to, O_RDONLY)) >= 0 && read(fd, bytes, sizeof bytes) == 5 && !memcmp(bytes, "whole", 5) && close(fd) == 0);
    }
    return 0;
}
CASE(renames_replace_in_one_step, "rename(2), open(2)")
{
    CHECK(mkdir("/tmp/race.d", 0700) == 0);
    together(make_and_rename);
    DIR *directory = opendir("/tmp/race.d");
    CHECK(directory);
    int found = 0;
    for (struct dirent *entry; (entry = readdir(directory)); ) found += entry->d_name[0] != '.';
    CHECK(closedir(directory) == 0 && found == 4);
    for (int i = 0; i < 4; i++) { char name[64]; snprintf(name, sizeof name, "/tmp/race.d/kept-%d", i); CHECK(unlink(name) == 0); }
    CHECK(rmdir("/tmp/race.d") == 0);
}

static int log_fd;
static void *append_lines(void *me)
{
    char line[33];
    memset(line, 'a' + (int)(long)me, 31); line[31] = '\n';
    for (int i = 0; i < ROUNDS; i++) CHECK(write(log_fd, line, 32) == 32);
    return 0;
}
CASE(appended_lines_do_not_mix, "write(2), O_APPEND of open(2)")
{
    char line[32];
    int lines[WORKERS] = { 0 };
    log_fd = open("/tmp/race.log", O_CREAT | O_TRUNC | O_RDWR | O_APPEND, 0600);
    CHECK(log_fd >= 0);
    together(append_lines);
    for (long at = 0; pread(log_fd, line, sizeof line, at) == sizeof line; at += sizeof line) {
        for (int i = 1; i < 31; i++) CHECK(line[i] == line[0]);
        CHECK(line[31] == '\n' && line[0] >= 'a' && line[0] < 'a' + WORKERS);
        lines[line[0] - 'a']++;
    }
    for (int i = 0; i < WORKERS; i++) CHECK(lines[i] == ROUNDS);
    CHECK(unlink("/tmp/race.log") == 0);
}

/* Descriptors that come and go: who holds a number holds one file, whoever else opens and closes at the same time. */
static void *open_and_close(void *me)
{
    for (int i = 0; i < 2 * ROUNDS; i++) {
        int ends[2], copy;
        long told = (long)me * 1000 + i, heard = -1;
        CHECK(pipe2(ends, O_CLOEXEC) == 0 && (copy = fcntl(ends[1], F_DUPFD_CLOEXEC, 20)) >= 20);
        CHECK(close(ends[1]) == 0 && write(copy, &told, sizeof told) == sizeof told && close(copy) == 0);
        CHECK(read(ends[0], &heard, sizeof heard) == sizeof heard && heard == told);
        CHECK(read(ends[0], &heard, sizeof heard) == 0 && close(ends[0]) == 0);
    }
    return 0;
}
CASE(descriptors_that_come_and_go_are_not_mixed, "pipe(2), fcntl(2), close(2)") { together(open_and_close); }

/* A watch that is added and taken away while others wait on the same instance. */
static void *add_and_remove(void *me)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u32 = 100 + (int)(long)me }, got[WORKERS + 1];
        uint64_t one = 1;
        int fd = eventfd(0, 0);
        CHECK(fd >= 0 && epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event) == 0 && write(fd, &one, sizeof one) == sizeof one);
        int count = epoll_wait(instance, got, WORKERS + 1, 5000), own = 0;
        CHECK(count >= 1);
        for (int j = 0; j < count; j++) own += got[j].data.u32 == event.data.u32;
        CHECK(own == 1);
        /* Half of them are taken away by their close alone. */
        if (i % 2) CHECK(epoll_ctl(instance, EPOLL_CTL_DEL, fd, 0) == 0);
        CHECK(close(fd) == 0);
    }
    return 0;
}
CASE(watches_are_added_and_removed_while_others_wait, "epoll_ctl(2)")
{
    CHECK((instance = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    together(add_and_remove);
    struct epoll_event none;
    CHECK(epoll_wait(instance, &none, 1, 0) == 0);
}

/* Signals that arrive while a thread forks and its child begins: each is handled once, by the one it was sent to. */
static atomic_int stop_signals;
static void *signal_the_process(void *unused)
{
    (void)unused;
    while (!stop_signals) { CHECK(kill(getpid(), SIGUSR1) == 0); sched_yield(); }
    return 0;
}
CASE(forks_under_signals_return_once, "fork(2), signal(7)")
{
    struct sigaction action = { .sa_handler = count, .sa_flags = SA_RESTART };
    pthread_t t;
    handled = 0;
    CHECK(sigaction(SIGUSR1, &action, 0) == 0 && pthread_create(&t, 0, signal_the_process, 0) == 0);
    for (int i = 0; i < 2 * ROUNDS; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        /* Pending signals are not inherited. */
        if (pid == 0) { int before = handled; sched_yield(); _exit(handled != before); }
        CHECK(wait_status(pid) == 0);
    }
    stop_signals = 1;
    CHECK(pthread_join(t, 0) == 0 && handled > 0);
}

/* A file that grows and shrinks under those who map it: its first page is always there, and what is written there stays. */
static int shared_fd;
static void *resize(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) { CHECK(ftruncate(shared_fd, i % 2 ? PAGES * PAGE : PAGE) == 0); sched_yield(); }
    return 0;
}
static void *map_and_write(void *me)
{
    for (int i = 0; i < ROUNDS / 2; i++) {
        volatile char *at = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, 0);
        CHECK(at != MAP_FAILED);
        at[(long)me] = 1 + (long)me;
        CHECK(at[(long)me] == 1 + (long)me);
        CHECK(munmap((void *)at, PAGES * PAGE) == 0);
    }
    return 0;
}
CASE(a_file_is_resized_while_others_map_it, "mmap(2), ftruncate(2)")
{
    pthread_t t[WORKERS], resizer;
    CHECK((shared_fd = open("/tmp/race.map", O_CREAT | O_TRUNC | O_RDWR, 0600)) >= 0 && ftruncate(shared_fd, PAGE) == 0);
    CHECK(pthread_create(&resizer, 0, resize, 0) == 0);
    for (long i = 0; i < WORKERS; i++) CHECK(pthread_create(&t[i], 0, map_and_write, (void *)i) == 0);
    CHECK(pthread_join(resizer, 0) == 0);
    for (int i = 0; i < WORKERS; i++) CHECK(pthread_join(t[i], 0) == 0);
    char bytes[WORKERS];
    CHECK(pread(shared_fd, bytes, WORKERS, 0) == WORKERS);
    for (int i = 0; i < WORKERS; i++) CHECK(bytes[i] == 0 || bytes[i] == 1 + i);
    CHECK(close(shared_fd) == 0 && unlink("/tmp/race.map") == 0);
}

/* Shared memory that several processes count in, each under a lock of one futex in it. */
CASE(processes_count_under_a_shared_futex, "futex(2), mmap(2)")
{
    struct shared { atomic_int word; long counted; } *shared = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t pids[WORKERS];
    for (int p = 0; p < WORKERS; p++) {
        CHECK((pids[p] = fork()) >= 0);
        if (pids[p]) continue;
        for (int i = 0; i < 5 * ROUNDS; i++) {
            int seen = 0;
            if (!atomic_compare_exchange_strong(&shared->word, &seen, 1)) {
                if (seen != 2) seen = atomic_exchange(&shared->word, 2);
                while (seen != 0) { syscall(SYS_futex, &shared->word, FUTEX_WAIT, 2, 0, 0, 0); seen = atomic_exchange(&shared->word, 2); }
            }
            long value = shared->counted;
            if (i % 16 == 0) sched_yield();
            shared->counted = value + 1;
            if (atomic_fetch_sub(&shared->word, 1) != 1) { atomic_store(&shared->word, 0); syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1, 0, 0, 0); }
        }
        _exit(0);
    }
    for (int p = 0; p < WORKERS; p++) CHECK(wait_status(pids[p]) == 0);
    CHECK(shared->counted == WORKERS * 5 * ROUNDS);
}
