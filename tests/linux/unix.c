/* Unix sockets: names, messages, identities, files in messages. */
#define _GNU_SOURCE
#include "check.h"
#include "loopback.h"
#include <sys/epoll.h>
#include <stddef.h>
#include <sys/resource.h>

static struct sockaddr_un path_name(const char *path)
{
    struct sockaddr_un a = { AF_UNIX };
    strcpy(a.sun_path, path);
    return a;
}

static socklen_t abstract(struct sockaddr_un *a, const char *name)
{
    *a = (struct sockaddr_un){ AF_UNIX };
    memcpy(a->sun_path + 1, name, strlen(name));
    return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

/* Sends a byte with descriptors. */
static ssize_t send_fds(int s, const int *fds, int count)
{
    char c = 'f', control[CMSG_SPACE(sizeof(int) * 300)] = { 0 };
    struct iovec v = { &c, 1 };
    struct msghdr m = { 0, 0, &v, 1, control, CMSG_SPACE(sizeof(int) * count) };
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    *h = (struct cmsghdr){ CMSG_LEN(sizeof(int) * count), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(h), fds, sizeof(int) * count);
    return sendmsg(s, &m, 0);
}

/* Receives a message with room for descriptors; how many came. */
static int receive_fds(int s, int *fds, int room, int *flags, int how)
{
    char c[16], control[CMSG_SPACE(sizeof(int) * 300)];
    struct iovec v = { c, sizeof c };
    struct msghdr m = { 0, 0, &v, 1, control, room ? CMSG_LEN(sizeof(int) * room) : 0 };
    if (recvmsg(s, &m, how) <= 0) return -1;
    if (flags) *flags = m.msg_flags;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (!h || h->cmsg_type != SCM_RIGHTS) return 0;
    int count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(h), sizeof(int) * count);
    return count;
}

CASE(pairs_of_every_kind, "socketpair(2)")
{
    int kinds[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
    for (int i = 0; i < 3; i++) {
        int p[2];
        char buf[16];
        CHECK(socketpair(AF_UNIX, kinds[i] | SOCK_CLOEXEC, 0, p) == 0 && fcntl(p[0], F_GETFD) == FD_CLOEXEC);
        CHECK(write(p[0], "ab", 2) == 2 && write(p[0], "cd", 2) == 2);
        CHECK(read(p[1], buf, 16) == (kinds[i] == SOCK_STREAM ? 4 : 2));
        CHECK(write(p[1], "x", 1) == 1 && read(p[0], buf, 16) == 1);
    }
    int p[2];
    CHECK_ERRNO(socketpair(AF_INET, SOCK_STREAM, 0, p), EOPNOTSUPP);
    CHECK_ERRNO(socketpair(AF_UNIX, SOCK_STREAM, 77, p), EPROTONOSUPPORT);
    CHECK_ERRNO(socketpair(AF_UNIX, 9, 0, p), ESOCKTNOSUPPORT);
    CHECK_ERRNO(socketpair(77, SOCK_STREAM, 0, p), EAFNOSUPPORT);
}

CASE(a_path_is_a_name, "unix(7)")
{
    struct sockaddr_un at = path_name("/tmp/socket"), got;
    socklen_t n = sizeof got;
    struct stat st;
    unlink("/tmp/socket");
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_ERRNO(connect(c, (void *)&at, sizeof at), ENOENT);
    CHECK_ERRNO(listen(l, 5), EINVAL);
    umask(022);
    CHECK(bind(l, (void *)&at, sizeof at) == 0 && stat("/tmp/socket", &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0755);
    CHECK_ERRNO(connect(c, (void *)&at, sizeof at), ECONNREFUSED);
    CHECK(listen(l, 5) == 0);
    CHECK_ERRNO(bind(c, (void *)&at, sizeof at), EADDRINUSE);
    CHECK(connect(c, (void *)&at, sizeof at) == 0);
    CHECK_ERRNO(connect(c, (void *)&at, sizeof at), EISCONN);
    int a = accept(l, (void *)&got, &n);
    CHECK(a >= 0 && n == 2 && got.sun_family == AF_UNIX);
    n = sizeof got;
    CHECK(getpeername(c, (void *)&got, &n) == 0 && !strcmp(got.sun_path, "/tmp/socket") && n == 2 + strlen("/tmp/socket") + 1);
    n = sizeof got;
    CHECK(getsockname(a, (void *)&got, &n) == 0 && !strcmp(got.sun_path, "/tmp/socket"));
    CHECK_ERRNO(open("/tmp/socket", O_RDWR), ENXIO);
    /* The name outlives the socket. */
    close(l);
    int d = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_ERRNO(connect(d, (void *)&at, sizeof at), ECONNREFUSED);
    int fd = open("/tmp/plain", O_CREAT | O_RDWR, 0644);
    struct sockaddr_un plain = path_name("/tmp/plain");
    CHECK_ERRNO(connect(d, (void *)&plain, sizeof plain), ECONNREFUSED);
    int dgram = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un other = path_name("/tmp/socket2");
    unlink("/tmp/socket2");
    CHECK(bind(dgram, (void *)&other, sizeof other) == 0);
    CHECK_ERRNO(connect(d, (void *)&other, sizeof other), EPROTOTYPE);
}

CASE(permission_to_write_is_needed, "unix(7)")
{
    struct sockaddr_un at = path_name("/tmp/private");
    unlink("/tmp/private");
    int l = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(l, (void *)&at, sizeof at) == 0 && listen(l, 5) == 0 && chmod("/tmp/private", 0700) == 0 && chmod("/tmp", 01777) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int c = socket(AF_UNIX, SOCK_STREAM, 0);
        if (setresuid(1234, 1234, 1234)) _exit(2);
        _exit(connect(c, (void *)&at, sizeof at) == -1 && errno == EACCES ? 0 : 1);
    }
    int status = wait_status(pid);
    /* A namespace may know no other user. */
    CHECK(status == 0 || WEXITSTATUS(status) == 2);
}

CASE(abstract_names, "unix(7)")
{
    struct sockaddr_un at, got;
    socklen_t n = abstract(&at, "one\0two"), m = sizeof got;
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), other = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(l, (void *)&at, n) == 0 && listen(l, 1) == 0);
    CHECK_ERRNO(bind(other, (void *)&at, n), EADDRINUSE);
    CHECK(connect(c, (void *)&at, n) == 0 && getpeername(c, (void *)&got, &m) == 0 && m == n && !memcmp(&got, &at, n));
    CHECK_ERRNO(connect(other, (void *)&at, n - 1), ECONNREFUSED);
    close(l);
    CHECK(bind(other, (void *)&at, n) == 0);
    /* Without a name, one is chosen. */
    int any = socket(AF_UNIX, SOCK_DGRAM, 0);
    m = sizeof got;
    CHECK(bind(any, (void *)&at, 2) == 0 && getsockname(any, (void *)&got, &m) == 0 && m == 2 + 6 && got.sun_path[0] == 0);
}

CASE(datagrams_between_names, "unix(7)")
{
    struct sockaddr_un a, b, from;
    socklen_t n = abstract(&a, "dgram-a"), m = abstract(&b, "dgram-b"), f = sizeof from;
    int s = socket(AF_UNIX, SOCK_DGRAM, 0), t = socket(AF_UNIX, SOCK_DGRAM, 0), u = socket(AF_UNIX, SOCK_DGRAM, 0);
    char buf[16];
    CHECK(bind(s, (void *)&a, n) == 0 && bind(t, (void *)&b, m) == 0);
    CHECK(sendto(s, "hi", 2, 0, (void *)&b, m) == 2 && recvfrom(t, buf, 16, 0, (void *)&from, &f) == 2 && f == n && !memcmp(&from, &a, n));
    CHECK(sendto(u, "anon", 4, 0, (void *)&b, m) == 4 && (f = sizeof from, recvfrom(t, buf, 2, MSG_TRUNC, (void *)&from, &f)) == 4 && f == 0);
    CHECK_ERRNO(send(u, "x", 1, 0), ENOTCONN);
    CHECK(connect(u, (void *)&b, m) == 0 && send(u, "x", 1, 0) == 1 && recv(t, buf, 16, 0) == 1);
    /* Connected to b, a does not hear u. */
    CHECK(connect(s, (void *)&b, m) == 0);
    CHECK_ERRNO(sendto(u, "x", 1, 0, (void *)&a, n), EPERM);
    close(t);
    CHECK_ERRNO(send(u, "x", 1, 0), ECONNREFUSED);
    CHECK_ERRNO(sendto(u, "x", 1, 0, (void *)&b, m), ECONNREFUSED);
    CHECK_ERRNO(connect(u, (void *)&b, m), ECONNREFUSED);
}

CASE(a_full_datagram_receiver_makes_senders_wait, "unix(7)")
{
    struct sockaddr_un at;
    socklen_t n = abstract(&at, "dgram-full");
    int t = socket(AF_UNIX, SOCK_DGRAM, 0), s = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(bind(t, (void *)&at, n) == 0 && connect(s, (void *)&at, n) == 0);
    int sent = 0;
    while (send(s, "x", 1, MSG_DONTWAIT) == 1) sent++;
    int why = errno;
    CHECK(why == EAGAIN && sent >= 10);
    struct pollfd f = { s, POLLOUT, 0 };
    CHECK(poll(&f, 1, 0) == 0);
    int e = epoll_create1(0);
    struct epoll_event event = { EPOLLOUT }, out;
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, s, &event) == 0 && epoll_wait(e, &out, 1, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) { sleep_ms(40); char c; for (int i = 0; i < sent; i++) if (recv(t, &c, 1, 0) != 1) _exit(1); _exit(0); }
    CHECK(epoll_wait(e, &out, 1, 5000) == 1 && out.events == EPOLLOUT);
    CHECK(send(s, "x", 1, 0) == 1 && wait_status(pid) == 0);
}

CASE(packets_in_order_with_their_bounds, "unix(7)")
{
    int p[2];
    char buf[8];
    struct iovec v = { buf, 2 };
    struct msghdr m = { 0, 0, &v, 1 };
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) == 0 && write(p[0], "abcd", 4) == 4 && write(p[0], "ef", 2) == 2);
    CHECK(recvmsg(p[1], &m, 0) == 2 && (m.msg_flags & MSG_TRUNC));
    CHECK(read(p[1], buf, 8) == 2 && close(p[0]) == 0 && read(p[1], buf, 8) == 0);
    int fresh = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    CHECK_ERRNO(read(fresh, buf, 1), ENOTCONN);
    CHECK_ERRNO(send(fresh, buf, 1, 0), ENOTCONN);
    int stream = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_ERRNO(read(stream, buf, 1), EINVAL);
    CHECK_ERRNO(send(stream, buf, 1, 0), ENOTCONN);
}

CASE(the_end_of_a_stream, "unix(7)")
{
    int p[2];
    char c;
    signal(SIGPIPE, SIG_IGN);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && write(p[0], "x", 1) == 1 && close(p[0]) == 0);
    struct pollfd f = { p[1], POLLIN | POLLOUT | POLLRDHUP, 0 };
    CHECK(poll(&f, 1, 0) == 1 && (f.revents & (POLLIN | POLLHUP | POLLRDHUP)) == (POLLIN | POLLHUP | POLLRDHUP));
    CHECK(read(p[1], &c, 1) == 1 && read(p[1], &c, 1) == 0);
    CHECK_ERRNO(write(p[1], "x", 1), EPIPE);
    /* What the peer had not read is lost, and that is an error once. */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && write(p[1], "x", 1) == 1 && close(p[0]) == 0);
    CHECK_ERRNO(read(p[1], &c, 1), ECONNRESET);
    CHECK(read(p[1], &c, 1) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && shutdown(p[0], SHUT_RD) == 0);
    CHECK_ERRNO(write(p[1], "x", 1), EPIPE);
    CHECK(write(p[0], "y", 1) == 1 && read(p[1], &c, 1) == 1 && read(p[0], &c, 1) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && shutdown(p[0], SHUT_WR) == 0 && read(p[1], &c, 1) == 0);
    pid_t pid = fork();
    if (pid == 0) { signal(SIGPIPE, SIG_DFL); send(p[0], "x", 1, MSG_NOSIGNAL); send(p[0], "x", 1, 0); _exit(0); }
    int status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
}

CASE(a_full_stream_blocks_or_says_so, "unix(7)")
{
    int p[2];
    static char block[100000];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    size_t total = 0;
    ssize_t n;
    while ((n = send(p[0], block, 4096, MSG_DONTWAIT)) > 0) total += n;
    int why = errno;
    CHECK(why == EAGAIN && total >= 50000 && total <= 1000000);
    struct pollfd f = { p[0], POLLOUT, 0 };
    CHECK(poll(&f, 1, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) { close(p[1]); _exit(write(p[0], block, sizeof block) == sizeof block ? 0 : 1); }
    close(p[0]);
    size_t got = 0;
    while ((n = read(p[1], block, 777)) > 0) got += n;
    CHECK(n == 0 && got == total + sizeof block && wait_status(pid) == 0);
}

CASE(who_is_at_the_other_end, "unix(7)")
{
    struct sockaddr_un at;
    socklen_t n = abstract(&at, "cred"), m = sizeof(struct ucred);
    int l = socket(AF_UNIX, SOCK_STREAM, 0), p[2];
    struct ucred who;
    CHECK(bind(l, (void *)&at, n) == 0 && listen(l, 1) == 0);
    pid_t pid = fork();
    if (pid == 0) { int c = socket(AF_UNIX, SOCK_STREAM, 0); char x; if (connect(c, (void *)&at, n)) _exit(1); _exit(read(c, &x, 1) == 1 ? 0 : 2); }
    int a = accept(l, 0, 0);
    CHECK(a >= 0 && getsockopt(a, SOL_SOCKET, SO_PEERCRED, &who, &m) == 0 && who.pid == pid && who.uid == getuid() && who.gid == getgid());
    CHECK(write(a, "x", 1) == 1 && wait_status(pid) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && getsockopt(p[0], SOL_SOCKET, SO_PEERCRED, &who, &m) == 0 && who.pid == getpid());
    int fresh = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(getsockopt(fresh, SOL_SOCKET, SO_PEERCRED, &who, &m) == 0 && who.pid == 0 && who.uid == (uid_t)-1);
}

CASE(senders_identify_themselves, "unix(7)")
{
    int p[2], on = 1;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, p) == 0 && setsockopt(p[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    pid_t pid = fork();
    if (pid == 0) _exit(write(p[0], "x", 1) == 1 ? 0 : 1);
    char c, control[CMSG_SPACE(sizeof(struct ucred))];
    struct iovec v = { &c, 1 };
    struct msghdr m = { 0, 0, &v, 1, control, sizeof control };
    CHECK(recvmsg(p[1], &m, 0) == 1 && wait_status(pid) == 0);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    CHECK(h && h->cmsg_type == SCM_CREDENTIALS && ((struct ucred *)CMSG_DATA(h))->pid == pid);
    /* Nobody may say to be a process that is not there. */
    *(struct ucred *)CMSG_DATA(h) = (struct ucred){ 0x3ffff0, 0, 0 };
    m.msg_controllen = CMSG_SPACE(sizeof(struct ucred));
    CHECK_ERRNO(sendmsg(p[0], &m, 0), ESRCH);
}

CASE(files_travel, "unix(7)")
{
    int p[2], q[2], got[4], flags;
    char c;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && pipe(q) == 0);
    CHECK(send_fds(p[0], q, 2) == 1 && close(q[1]) == 0 && receive_fds(p[1], got, 4, &flags, 0) == 2 && !(flags & MSG_CTRUNC));
    CHECK(write(got[1], "z", 1) == 1 && read(q[0], &c, 1) == 1 && c == 'z' && fcntl(got[0], F_GETFD) == 0);
    CHECK(send_fds(p[0], q, 1) == 1 && receive_fds(p[1], got, 1, &flags, MSG_CMSG_CLOEXEC) == 1 && fcntl(got[0], F_GETFD) == FD_CLOEXEC);
    /* Without room they are gone, and the flag says so. */
    int two[2] = { q[0], got[0] };
    CHECK(send_fds(p[0], two, 2) == 1 && receive_fds(p[1], got, 1, &flags, 0) == 1 && (flags & MSG_CTRUNC));
    CHECK(send_fds(p[0], two, 2) == 1 && receive_fds(p[1], got, 0, &flags, 0) == 0 && (flags & MSG_CTRUNC));
    /* read(2) drops them. */
    CHECK(send_fds(p[0], two, 1) == 1 && read(p[1], &c, 1) == 1 && c == 'f');
    /* A bad descriptor or too many of them send nothing. */
    int bad[2] = { q[0], 999 };
    CHECK_ERRNO(send_fds(p[0], bad, 2), EBADF);
    int many[254];
    for (int i = 0; i < 254; i++) many[i] = q[0];
    CHECK_ERRNO(send_fds(p[0], many, 254), EINVAL);
    CHECK(send_fds(p[0], many, 253) == 1);
    CHECK_ERRNO(recv(p[0], &c, 1, MSG_DONTWAIT), EAGAIN);
    /* MSG_PEEK gives them out and keeps them. */
    int first[253], second[253];
    CHECK(receive_fds(p[1], first, 253, &flags, MSG_PEEK) == 253 && receive_fds(p[1], second, 253, &flags, 0) == 253);
}

CASE(files_divide_a_stream, "unix(7)")
{
    int p[2], got[2], flags;
    char buf[16];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    CHECK(write(p[0], "ab", 2) == 2 && send_fds(p[0], p, 1) == 1 && write(p[0], "cd", 2) == 2);
    /* What is before comes with it, what is behind does not. */
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec v = { buf, sizeof buf };
    struct msghdr m = { 0, 0, &v, 1, control, sizeof control };
    CHECK(recvmsg(p[1], &m, 0) == 3 && CMSG_FIRSTHDR(&m) && !memcmp(buf, "abf", 3));
    m.msg_controllen = sizeof control;
    CHECK(recvmsg(p[1], &m, 0) == 2 && !CMSG_FIRSTHDR(&m) && !memcmp(buf, "cd", 2));
}

CASE(circles_of_files_are_freed, "unix(7)")
{
    struct rlimit few = { 200, 200 };
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    /* Each round leaves a pair of sockets whose only references are in each other's messages. */
    for (int i = 0; i < 2000; i++) {
        int p[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
        while (send_fds(p[0], &p[0], 1) != 1) { CHECK(errno == 0 || errno == ETOOMANYREFS); sleep_ms(1); }
        while (send_fds(p[1], &p[1], 1) != 1) { CHECK(errno == 0 || errno == ETOOMANYREFS); sleep_ms(1); }
        CHECK(close(p[0]) == 0 && close(p[1]) == 0);
        /* Closing another socket is what makes Linux look for circles. */
        if (i % 20 == 0) { int q = socket(AF_UNIX, SOCK_STREAM, 0); close(q); sleep_ms(1); }
    }
}

CASE(a_long_chain_of_files_is_dropped, "unix(7)")
{
    /* Each socket is in the message before it: dropping the first drops all, one inside the other. */
    int before[2], p[2];
    /* Files in flight count against the limit of open files of whoever sends them. */
    struct rlimit most;
    CHECK(getrlimit(RLIMIT_NOFILE, &most) == 0 && most.rlim_max > 10002);
    most.rlim_cur = most.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &most) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, before) == 0);
    for (int i = 0; i < 5000; i++) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
        CHECK(send_fds(p[0], before, 2) == 1 && close(before[0]) == 0 && close(before[1]) == 0);
        before[0] = p[0]; before[1] = p[1];
    }
    CHECK(close(before[0]) == 0 && close(before[1]) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0 && write(p[0], "x", 1) == 1);
}

CASE(limits_of_files_in_flight, "unix(7)")
{
    struct rlimit few = { 50, 50 };
    int p[2], sent = 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    if (getuid() == 0) {
        /* Root is not bound by the limit of Linux; any other user is. */
        return;
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (send_fds(p[0], p, 1) == 1) sent++;
    int why = errno;
    CHECK(why == ETOOMANYREFS && sent <= 52);
}

CASE(a_backlog_is_full, "listen(2)")
{
    struct sockaddr_un at;
    socklen_t n = abstract(&at, "backlog");
    int l = socket(AF_UNIX, SOCK_STREAM, 0), a = socket(AF_UNIX, SOCK_STREAM, 0), b = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(bind(l, (void *)&at, n) == 0 && listen(l, 0) == 0 && connect(a, (void *)&at, n) == 0);
    CHECK_ERRNO(connect(b, (void *)&at, n), EAGAIN);
    pid_t pid = fork();
    if (pid == 0) { int c = socket(AF_UNIX, SOCK_STREAM, 0); _exit(connect(c, (void *)&at, n) == 0 ? 0 : 1); }
    sleep_ms(30);
    CHECK(accept(l, 0, 0) >= 0 && wait_status(pid) == 0 && accept(l, 0, 0) >= 0);
    /* Those that were not accepted are reset when the listener goes. */
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    char x;
    CHECK(connect(c, (void *)&at, n) == 0 && close(l) == 0);
    CHECK_ERRNO(read(c, &x, 1), ECONNRESET);
}
