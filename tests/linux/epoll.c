/* epoll, and what is watched through it: eventfd, timerfd, signalfd. */
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>

static int add(int e, int fd, uint32_t events)
{
    struct epoll_event event = { events, { .fd = fd } };
    return epoll_ctl(e, EPOLL_CTL_ADD, fd, &event);
}

static int change(int e, int fd, uint32_t events)
{
    struct epoll_event event = { events, { .fd = fd } };
    return epoll_ctl(e, EPOLL_CTL_MOD, fd, &event);
}

/* The events of a wait without time, 0 for none. */
static uint32_t now(int e)
{
    struct epoll_event out = { 0 };
    int n = epoll_wait(e, &out, 1, 0);
    return n < 0 ? 0xdead : n == 0 ? 0 : out.events;
}

CASE(arguments, "epoll_ctl(2)")
{
    int e = epoll_create1(0), p[2], fd = open("/tmp/plain", O_CREAT | O_RDWR, 0600);
    struct epoll_event event = { EPOLLIN };
    CHECK(e >= 0 && pipe(p) == 0);
    CHECK_ERRNO(epoll_create(0), EINVAL);
    CHECK_ERRNO(epoll_create1(1), EINVAL);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, 999, &event), EBADF);
    CHECK_ERRNO(epoll_ctl(999, EPOLL_CTL_ADD, p[0], &event), EBADF);
    CHECK_ERRNO(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &event), EINVAL);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, e, &event), EINVAL);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, fd, &event), EPERM);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, p[0], 0), EFAULT);
    CHECK_ERRNO(epoll_ctl(e, 77, p[0], &event), EINVAL);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event), ENOENT);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_DEL, p[0], 0), ENOENT);
    CHECK(add(e, p[0], EPOLLIN) == 0);
    CHECK_ERRNO(add(e, p[0], EPOLLIN), EEXIST);
    CHECK_ERRNO(epoll_wait(e, &event, 0, 0), EINVAL);
    CHECK_ERRNO(epoll_wait(p[0], &event, 1, 0), EINVAL);
}

CASE(level_stays_edge_goes, "epoll(7)")
{
    int e = epoll_create1(0), p[2];
    char c;
    CHECK(pipe(p) == 0 && add(e, p[0], EPOLLIN) == 0 && now(e) == 0);
    CHECK(write(p[1], "ab", 2) == 2 && now(e) == EPOLLIN && now(e) == EPOLLIN);
    CHECK(change(e, p[0], EPOLLIN | EPOLLET) == 0 && now(e) == EPOLLIN && now(e) == 0);
    CHECK(read(p[0], &c, 1) == 1 && now(e) == 0);
    CHECK(write(p[1], "c", 1) == 1 && now(e) == EPOLLIN && now(e) == 0);
    CHECK(read(p[0], &c, 1) == 1 && read(p[0], &c, 1) == 1 && now(e) == 0);
    close(p[1]);
    CHECK(now(e) == EPOLLHUP && now(e) == 0);
}

CASE(an_edge_of_both_directions, "epoll(7)")
{
    int e = epoll_create1(0), p[2];
    char c;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && add(e, p[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) == 0);
    CHECK(now(e) == EPOLLOUT && now(e) == 0);
    CHECK(write(p[1], "x", 1) == 1 && now(e) == (EPOLLIN | EPOLLOUT) && now(e) == 0);
    CHECK(write(p[1], "y", 1) == 1 && now(e) == (EPOLLIN | EPOLLOUT));
    CHECK(shutdown(p[1], SHUT_WR) == 0 && now(e) == (EPOLLIN | EPOLLOUT | EPOLLRDHUP));
    close(p[1]);
    CHECK(now(e) == (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP));
    CHECK(read(p[0], &c, 1) == 1);
}

CASE(once_only, "epoll(7)")
{
    int e = epoll_create1(0), p[2];
    CHECK(pipe(p) == 0 && add(e, p[0], EPOLLIN | EPOLLONESHOT) == 0 && write(p[1], "x", 1) == 1);
    CHECK(now(e) == EPOLLIN && now(e) == 0 && write(p[1], "y", 1) == 1 && now(e) == 0);
    CHECK(change(e, p[0], EPOLLIN | EPOLLONESHOT) == 0 && now(e) == EPOLLIN && now(e) == 0);
    close(p[1]);
    CHECK(now(e) == 0);
}

CASE(many_ready_files_take_turns, "epoll_wait(2)")
{
    int e = epoll_create1(0), seen[10] = { 0 }, fds[10];
    for (int i = 0; i < 10; i++) { fds[i] = eventfd(1, 0); CHECK(add(e, fds[i], EPOLLIN) == 0); }
    for (int i = 0; i < 10; i++) {
        struct epoll_event out[3];
        CHECK(epoll_wait(e, out, 3, 0) == 3);
        for (int k = 0; k < 3; k++) for (int j = 0; j < 10; j++) seen[j] += out[k].data.fd == fds[j];
    }
    for (int i = 0; i < 10; i++) CHECK(seen[i] == 3);
    struct epoll_event all[200];
    CHECK(epoll_wait(e, all, 200, 0) == 10);
    for (int i = 0; i < 100; i++) CHECK(add(e, eventfd(1, 0), EPOLLIN) == 0);
    CHECK(epoll_wait(e, all, 200, 0) == 110);
}

CASE(a_registration_belongs_to_the_open_file, "epoll(7)")
{
    int e = epoll_create1(0), p[2];
    struct epoll_event event = { EPOLLIN, { .fd = 1 } };
    CHECK(pipe(p) == 0 && add(e, p[0], EPOLLIN) == 0 && write(p[1], "x", 1) == 1);
    int copy = dup(p[0]);
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, copy, &event) == 0);
    struct epoll_event out[4];
    CHECK(epoll_wait(e, out, 4, 0) == 2);
    /* Closing one descriptor leaves the open file, and so the registration. */
    CHECK(close(p[0]) == 0 && epoll_wait(e, out, 4, 0) == 2 && close(copy) == 0 && epoll_wait(e, out, 4, 0) == 0);
    int q[2];
    CHECK(pipe(q) == 0 && add(e, q[0], EPOLLIN) == 0 && now(e) == 0);
}

CASE(instances_watch_instances, "epoll(7)")
{
    int inner = epoll_create1(0), outer = epoll_create1(0), p[2];
    CHECK(pipe(p) == 0 && add(inner, p[0], EPOLLIN) == 0 && add(outer, inner, EPOLLIN) == 0 && now(outer) == 0);
    CHECK(write(p[1], "x", 1) == 1 && now(outer) == EPOLLIN && now(inner) == EPOLLIN);
    struct pollfd f = { inner, POLLIN, 0 };
    CHECK(poll(&f, 1, 0) == 1 && f.revents == POLLIN);
    char c;
    CHECK(read(p[0], &c, 1) == 1 && now(outer) == 0 && poll(&f, 1, 0) == 0);
    CHECK_ERRNO(add(inner, outer, EPOLLIN), ELOOP);
    int chain[8];
    chain[0] = epoll_create1(0);
    for (int i = 1; i < 8; i++) {
        chain[i] = epoll_create1(0);
        int r = add(chain[i], chain[i - 1], EPOLLIN), why = errno;
        CHECK(i < 5 ? r == 0 : r == -1 && (why == ELOOP || why == EINVAL));
        if (r) break;
    }
    pid_t pid = fork();
    if (pid == 0) { sleep_ms(30); _exit(write(p[1], "y", 1) == 1 ? 0 : 1); }
    struct epoll_event out;
    CHECK(epoll_wait(outer, &out, 1, 5000) == 1 && wait_status(pid) == 0);
}

CASE(exclusive_wake_up, "epoll_ctl(2)")
{
    int e = epoll_create1(0), f = epoll_create1(0), p[2];
    CHECK(pipe(p) == 0 && add(e, p[0], EPOLLIN | EPOLLEXCLUSIVE) == 0 && add(f, p[0], EPOLLIN | EPOLLEXCLUSIVE) == 0);
    CHECK_ERRNO(change(e, p[0], EPOLLIN), EINVAL);
    CHECK_ERRNO(change(e, p[0], EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
    int g = epoll_create1(0);
    CHECK_ERRNO(add(g, p[0], EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT), EINVAL);
    CHECK_ERRNO(add(g, e, EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
    CHECK(write(p[1], "x", 1) == 1 && (now(e) == EPOLLIN || now(f) == EPOLLIN));
}

CASE(counters, "eventfd(2)")
{
    uint64_t x = 3;
    int f = eventfd(2, EFD_NONBLOCK), e = epoll_create1(0);
    CHECK(write(f, &x, 8) == 8 && read(f, &x, 8) == 8 && x == 5);
    CHECK_ERRNO(read(f, &x, 8), EAGAIN);
    CHECK_ERRNO(read(f, &x, 7), EINVAL);
    CHECK_ERRNO(write(f, &x, 7), EINVAL);
    x = UINT64_MAX;
    CHECK_ERRNO(write(f, &x, 8), EINVAL);
    x = UINT64_MAX - 1;
    CHECK(add(e, f, EPOLLIN | EPOLLOUT) == 0 && now(e) == EPOLLOUT);
    CHECK(write(f, &x, 8) == 8 && now(e) == EPOLLIN);
    x = 1;
    CHECK_ERRNO(write(f, &x, 8), EAGAIN);
    int s = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK(read(s, &x, 8) == 8 && x == 1 && read(s, &x, 8) == 8 && x == 1);
    CHECK_ERRNO(read(s, &x, 8), EAGAIN);
    CHECK_ERRNO(eventfd(0, 2 | EFD_CLOEXEC | 4), EINVAL);
}

CASE(a_counter_makes_an_edge_of_each_write, "eventfd(2)")
{
    uint64_t x = 1;
    int f = eventfd(0, 0), e = epoll_create1(0);
    CHECK(add(e, f, EPOLLIN | EPOLLET) == 0 && now(e) == 0);
    for (int i = 0; i < 3; i++) CHECK(write(f, &x, 8) == 8 && now(e) == EPOLLIN && now(e) == 0);
}

CASE(timers_are_read, "timerfd_create(2)")
{
    int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), e = epoll_create1(0);
    uint64_t x = 0;
    struct itimerspec s = { { 0, 0 }, { 0, 30000000 } }, got;
    CHECK_ERRNO(read(t, &x, 8), EAGAIN);
    CHECK(timerfd_settime(t, 0, &s, 0) == 0 && timerfd_gettime(t, &got) == 0 && got.it_value.tv_nsec > 0 && got.it_value.tv_nsec <= 30000000);
    CHECK(add(e, t, EPOLLIN) == 0 && now(e) == 0);
    struct epoll_event out;
    CHECK(epoll_wait(e, &out, 1, 5000) == 1 && out.events == EPOLLIN && read(t, &x, 8) == 8 && x == 1 && now(e) == 0);
    s = (struct itimerspec){ { 0, 5000000 }, { 0, 5000000 } };
    CHECK(timerfd_settime(t, 0, &s, 0) == 0 && (sleep_ms(40), 1) && read(t, &x, 8) == 8 && x >= 5);
    s = (struct itimerspec){ { 0, 0 }, { 0, 0 } };
    CHECK(timerfd_settime(t, 0, &s, &got) == 0 && got.it_interval.tv_nsec == 5000000);
    CHECK(epoll_wait(e, &out, 1, 20) == 0);
    CHECK_ERRNO(timerfd_create(12345, 0), EINVAL);
    s.it_value.tv_nsec = 2000000000;
    CHECK_ERRNO(timerfd_settime(t, 0, &s, 0), EINVAL);
    /* A time that is past expires at once. */
    struct timespec before;
    clock_gettime(CLOCK_MONOTONIC, &before);
    s = (struct itimerspec){ { 0, 0 }, before };
    CHECK(timerfd_settime(t, TFD_TIMER_ABSTIME, &s, 0) == 0 && epoll_wait(e, &out, 1, 1000) == 1 && read(t, &x, 8) == 8 && x == 1);
}

static void *set_timer_later(void *fd)
{
    sleep_ms(30);
    struct itimerspec s = { { 0, 0 }, { 0, 10000000 } };
    timerfd_settime((int)(long)fd, 0, &s, 0);
    return 0;
}

CASE(a_timer_set_while_another_thread_waits, "timerfd_create(2)")
{
    int t = timerfd_create(CLOCK_MONOTONIC, 0), e = epoll_create1(0), outer = epoll_create1(0);
    pthread_t thread;
    struct epoll_event out;
    CHECK(add(e, t, EPOLLIN | EPOLLET) == 0 && add(outer, e, EPOLLIN) == 0);
    CHECK(pthread_create(&thread, 0, set_timer_later, (void *)(long)t) == 0);
    CHECK(epoll_wait(outer, &out, 1, 5000) == 1 && epoll_wait(e, &out, 1, 0) == 1 && now(e) == 0);
    pthread_join(thread, 0);
}

CASE(signals_are_read, "signalfd(2)")
{
    sigset_t set;
    struct signalfd_siginfo info;
    struct epoll_event out;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, 0) == 0);
    int s = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), e = epoll_create1(0);
    CHECK(add(e, s, EPOLLIN) == 0 && now(e) == 0);
    CHECK_ERRNO(read(s, &info, sizeof info), EAGAIN);
    CHECK(kill(getpid(), SIGUSR1) == 0 && now(e) == EPOLLIN && read(s, &info, sizeof info) == sizeof info);
    CHECK(info.ssi_signo == SIGUSR1 && info.ssi_pid == getpid() && now(e) == 0);
    union sigval value = { .sival_int = 42 };
    CHECK(sigqueue(getpid(), SIGRTMIN, value) == 0 && read(s, &info, sizeof info) == sizeof info && info.ssi_int == 42);
    pid_t pid = fork();
    if (pid == 0) { sleep_ms(30); kill(getppid(), SIGUSR1); _exit(0); }
    CHECK(epoll_wait(e, &out, 1, 5000) == 1 && read(s, &info, sizeof info) == sizeof info && info.ssi_pid == pid);
    CHECK(wait_status(pid) == 0);
    CHECK_ERRNO(read(s, &info, 10), EINVAL);
}

static int shared_epoll, shared_event, woken;
static void *wait_for_one(void *unused)
{
    struct epoll_event out;
    for (;;) {
        uint64_t x;
        if (epoll_wait(shared_epoll, &out, 1, -1) != 1) return (void *)1;
        if (read(shared_event, &x, 8) == 8) {
            if (__sync_add_and_fetch(&woken, 1) >= 2000) return 0;
        }
        if (__sync_add_and_fetch(&woken, 0) >= 2000) return 0;
    }
}

CASE(no_wake_up_is_lost_among_threads, "epoll(7)")
{
    pthread_t threads[6];
    shared_epoll = epoll_create1(0);
    shared_event = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
    CHECK(add(shared_epoll, shared_event, EPOLLIN) == 0);
    for (int i = 0; i < 6; i++) CHECK(pthread_create(&threads[i], 0, wait_for_one, 0) == 0);
    uint64_t one = 1, many = 100;
    for (int i = 0; i < 2000; i++) CHECK(write(shared_event, &one, 8) == 8);
    for (int i = 0; i < 100 && __sync_add_and_fetch(&woken, 0) < 2000; i++) sleep_ms(20);
    CHECK(__sync_add_and_fetch(&woken, 0) >= 2000);
    CHECK(write(shared_event, &many, 8) == 8);
    for (int i = 0; i < 6; i++) { void *r; CHECK(pthread_join(threads[i], &r) == 0 && r == 0); }
}

CASE(a_signal_ends_a_wait, "epoll_wait(2)")
{
    struct epoll_event out;
    int e = epoll_create1(0);
    struct sigaction a = { .sa_handler = (void (*)(int))getpid, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &a, 0);
    struct itimerval t = { { 0, 0 }, { 0, 30000 } };
    setitimer(ITIMER_REAL, &t, 0);
    CHECK_ERRNO(epoll_wait(e, &out, 1, 5000), EINTR);
    sigset_t none;
    sigfillset(&none);
    setitimer(ITIMER_REAL, &t, 0);
    CHECK(epoll_pwait(e, &out, 1, 100, &none) == 0);
}

CASE(poll_and_select_say_the_same, "poll(2)")
{
    int p[2], q[2];
    CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, q) == 0);
    struct pollfd f[4] = { { p[1], POLLOUT | POLLIN, 0 }, { q[0], POLLIN | POLLOUT | POLLPRI, 0 }, { p[0], POLLIN, 0 }, { -1, POLLIN, 7 } };
    CHECK(poll(f, 4, 0) == 2 && f[0].revents == POLLOUT && f[1].revents == POLLOUT && f[2].revents == 0 && f[3].revents == 0);
    struct timespec t = { 0, 20000000 };
    CHECK(ppoll(f + 2, 1, &t, 0) == 0);
    fd_set in, out;
    FD_ZERO(&in); FD_ZERO(&out); FD_SET(q[0], &in); FD_SET(q[0], &out); FD_SET(p[0], &in);
    struct timeval v = { 0, 0 };
    CHECK(select(q[1] + 1, &in, &out, 0, &v) == 1 && FD_ISSET(q[0], &out) && !FD_ISSET(q[0], &in));
    close(q[1]);
    FD_SET(q[0], &in); FD_SET(q[0], &out);
    CHECK(select(q[0] + 1, &in, &out, 0, &v) == 2);
    int gone = dup(p[0]);
    close(gone);
    FD_ZERO(&in); FD_SET(gone, &in);
    CHECK_ERRNO(select(gone + 1, &in, 0, 0, &v), EBADF);
    CHECK_ERRNO(poll((void *)8, 1, 0), EFAULT);
}

CASE(a_fault_loses_no_edge, "epoll_wait(2): EFAULT, and the event is told to the next")
{
    int e = epoll_create1(0), p[2];
    CHECK(pipe(p) == 0 && add(e, p[0], EPOLLIN | EPOLLET) == 0 && write(p[1], "a", 1) == 1);
    void *read_only = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(read_only != MAP_FAILED);
    CHECK_ERRNO(epoll_wait(e, read_only, 1, 0), EFAULT);
    CHECK(now(e) == EPOLLIN && now(e) == 0);
}
