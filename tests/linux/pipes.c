/* Pipes, FIFOs, socket pairs, poll, select, epoll, eventfd. */
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>

CASE(end_of_file_and_broken_pipe, "pipe(7)")
{
    int p[2];
    char c;
    CHECK(pipe(p) == 0 && write(p[1], "ab", 2) == 2 && close(p[1]) == 0);
    CHECK(read(p[0], &c, 1) == 1 && read(p[0], &c, 1) == 1 && c == 'b' && read(p[0], &c, 1) == 0);
    CHECK(pipe(p) == 0 && close(p[0]) == 0);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERRNO(write(p[1], "x", 1), EPIPE);
    pid_t pid = fork();
    if (pid == 0) { signal(SIGPIPE, SIG_DFL); if (write(p[1], "x", 1)) _exit(1); _exit(0); }
    CHECK(WTERMSIG(wait_status(pid)) == SIGPIPE);
}

CASE(a_full_pipe_blocks_or_says_so, "pipe(7)")
{
    int p[2];
    char block[4096] = { 1 };
    CHECK(pipe2(p, O_NONBLOCK) == 0);
    size_t total = 0;
    ssize_t n;
    while ((n = write(p[1], block, sizeof block)) > 0) total += n;
    CHECK(errno == EAGAIN || total == 65536);
    CHECK(total == 65536);
    int waiting;
    CHECK(ioctl(p[0], FIONREAD, &waiting) == 0 && waiting == 65536);
    struct pollfd f = { p[1], POLLOUT, 0 };
    CHECK(poll(&f, 1, 0) == 0);
    CHECK(read(p[0], block, 4096) == 4096 && poll(&f, 1, 0) == 1 && f.revents == POLLOUT);
    CHECK(fcntl(p[1], F_SETFL, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) { char big[100000]; memset(big, 2, sizeof big); _exit(write(p[1], big, sizeof big) == sizeof big ? 0 : 1); }
    fcntl(p[0], F_SETFL, 0);
    close(p[1]);
    total = 0;
    while ((n = read(p[0], block, sizeof block)) > 0) total += n;
    CHECK(n == 0 && total == 65536 - 4096 + 100000 && wait_status(pid) == 0);
}

CASE(small_writes_are_atomic, "pipe(7)")
{
    int p[2];
    CHECK(pipe(p) == 0);
    for (int w = 0; w < 4; w++) if (fork() == 0) {
        char line[100];
        memset(line, 'a' + w, sizeof line);
        for (int i = 0; i < 500; i++) if (write(p[1], line, sizeof line) != sizeof line) _exit(1);
        _exit(0);
    }
    close(p[1]);
    char line[100];
    int lines = 0;
    for (;;) {
        size_t have = 0;
        ssize_t n;
        while (have < sizeof line && (n = read(p[0], line + have, sizeof line - have)) > 0) have += n;
        if (have == 0) break;
        CHECK(have == sizeof line);
        for (size_t i = 1; i < sizeof line; i++) CHECK(line[i] == line[0]);
        lines++;
    }
    CHECK(lines == 2000);
    for (int w = 0; w < 4; w++) { int status; CHECK(wait(&status) > 0 && status == 0); }
}

CASE(fifos_meet, "fifo(7)")
{
    unlink("/tmp/fifo");
    CHECK(mkfifo("/tmp/fifo", 0600) == 0);
    CHECK_ERRNO(open("/tmp/fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    pid_t pid = fork();
    if (pid == 0) { int fd = open("/tmp/fifo", O_WRONLY); _exit(write(fd, "hi", 2) == 2 ? 0 : 1); }
    char c[2];
    int fd = open("/tmp/fifo", O_RDONLY);
    CHECK(fd >= 0 && read(fd, c, 2) == 2 && read(fd, c, 2) == 0 && wait_status(pid) == 0);
    unlink("/tmp/fifo");
}

CASE(poll_does_not_touch_events, "poll(2)")
{
    int p[2];
    CHECK(pipe(p) == 0);
    struct pollfd f[3] = { { p[0], POLLIN, 0x55 }, { -1, POLLIN, 0x55 }, { 99, POLLIN, 0 } };
    CHECK(poll(f, 3, 0) == 1 && f[0].revents == 0 && f[1].revents == 0 && f[2].revents == POLLNVAL && f[0].events == POLLIN);
    CHECK(write(p[1], "x", 1) == 1 && poll(f, 1, -1) == 1 && f[0].revents == POLLIN);
    close(p[1]);
    char c;
    CHECK(read(p[0], &c, 1) == 1 && poll(f, 1, -1) == 1 && f[0].revents == POLLHUP);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    CHECK(poll(0, 0, 50) == 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 49);
}

CASE(select_waits_for_a_child, "select(2)")
{
    int p[2];
    CHECK(pipe(p) == 0);
    pid_t pid = fork();
    if (pid == 0) { sleep_ms(30); _exit(write(p[1], "x", 1) == 1 ? 0 : 1); }
    fd_set set;
    FD_ZERO(&set); FD_SET(p[0], &set);
    struct timeval t = { 10, 0 };
    CHECK(select(p[0] + 1, &set, 0, 0, &t) == 1 && FD_ISSET(p[0], &set));
    CHECK(wait_status(pid) == 0);
    FD_ZERO(&set); FD_SET(p[1], &set);
    t = (struct timeval){ 0, 0 };
    CHECK(select(p[1] + 1, &set, 0, 0, &t) == 0);
}

CASE(epoll_level_edge_and_oneshot, "epoll(7)")
{
    int p[2], e = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { EPOLLIN, { .u64 = 77 } }, out[4];
    CHECK(e >= 0 && pipe(p) == 0 && epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event) == 0);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event), EEXIST);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_DEL, p[1], &event), ENOENT);
    CHECK(epoll_wait(e, out, 4, 0) == 0 && write(p[1], "ab", 2) == 2);
    CHECK(epoll_wait(e, out, 4, 0) == 1 && out[0].data.u64 == 77 && out[0].events == EPOLLIN && epoll_wait(e, out, 4, 0) == 1);
    event.events = EPOLLIN | EPOLLET;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event) == 0 && epoll_wait(e, out, 4, 0) == 1 && epoll_wait(e, out, 4, 0) == 0);
    CHECK(write(p[1], "c", 1) == 1 && epoll_wait(e, out, 4, 0) == 1);
    event.events = EPOLLIN | EPOLLONESHOT;
    CHECK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &event) == 0 && epoll_wait(e, out, 4, 0) == 1 && epoll_wait(e, out, 4, 0) == 0);
    int file = open("/tmp", O_RDONLY);
    CHECK_ERRNO(epoll_ctl(e, EPOLL_CTL_ADD, file, &event), EPERM);
}

CASE(eventfd_counts, "eventfd(2)")
{
    int fd = eventfd(3, EFD_NONBLOCK);
    uint64_t value = 4;
    CHECK(write(fd, &value, 8) == 8 && read(fd, &value, 8) == 8 && value == 7);
    CHECK_ERRNO(read(fd, &value, 8), EAGAIN);
    value = UINT64_MAX;
    CHECK_ERRNO(write(fd, &value, 8), EINVAL);
    int sem = eventfd(2, EFD_SEMAPHORE);
    CHECK(read(sem, &value, 8) == 8 && value == 1);
}

CASE(socket_pairs, "unix(7)")
{
    int s[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    CHECK(write(s[0], "ping", 4) == 4);
    char text[8];
    CHECK(read(s[1], text, 8) == 4 && write(s[1], "pong", 4) == 4 && read(s[0], text, 8) == 4);
    CHECK(shutdown(s[0], SHUT_WR) == 0 && read(s[1], text, 8) == 0);
    close(s[0]);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERRNO(write(s[1], "x", 1), EPIPE);
}
