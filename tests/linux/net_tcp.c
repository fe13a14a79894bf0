/* TCP over the loopback of a host that has no other interface. */
#include "check.h"
#include "loopback.h"
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <netinet/tcp.h>
#include <pthread.h>

static int listener(struct sockaddr_in *at, int backlog)
{
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t n = sizeof *at;
    *at = v4(INADDR_LOOPBACK, 0);
    CHECK(s >= 0 && bind(s, (void *)at, sizeof *at) == 0 && listen(s, backlog) == 0);
    CHECK(getsockname(s, (void *)at, &n) == 0 && n == sizeof *at && at->sin_port != 0);
    return s;
}

/* A connected pair: p[0] is the client's end, p[1] the accepted one. */
static void tcp_pair(int p[2])
{
    struct sockaddr_in at;
    int l = listener(&at, 5);
    p[0] = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(p[0] >= 0 && connect(p[0], (void *)&at, sizeof at) == 0);
    p[1] = accept(l, 0, 0);
    CHECK(p[1] >= 0 && close(l) == 0);
}

static short poll_of(int fd, short events)
{
    struct pollfd f = { fd, events, 0 };
    return poll(&f, 1, 0) < 0 ? -1 : f.revents;
}

CASE(bytes_travel_both_ways, "tcp(7)")
{
    int p[2];
    char buf[64];
    tcp_pair(p);
    CHECK(write(p[0], "hello", 5) == 5 && read(p[1], buf, sizeof buf) == 5 && !memcmp(buf, "hello", 5));
    CHECK(send(p[1], "world", 5, 0) == 5 && recv(p[0], buf, 3, 0) == 3 && recv(p[0], buf, 9, 0) == 2 && buf[0] == 'l');
    int n = -1;
    CHECK(write(p[0], "abc", 3) == 3 && ioctl(p[1], FIONREAD, &n) == 0 && n == 3);
    CHECK(recv(p[1], buf, 2, MSG_PEEK) == 2 && buf[0] == 'a' && recv(p[1], buf, 9, MSG_DONTWAIT) == 3);
    CHECK_ERRNO(recv(p[1], buf, 9, MSG_DONTWAIT), EAGAIN);
}

CASE(names_of_both_ends, "getsockname(2)")
{
    int p[2];
    tcp_pair(p);
    struct sockaddr_in a, b;
    socklen_t n = sizeof a;
    CHECK(getsockname(p[0], (void *)&a, &n) == 0 && getpeername(p[1], (void *)&b, &n) == 0 && same(&a, &b));
    CHECK(a.sin_addr.s_addr == htonl(INADDR_LOOPBACK) && a.sin_port != 0);
    CHECK(getpeername(p[0], (void *)&a, &n) == 0 && getsockname(p[1], (void *)&b, &n) == 0 && same(&a, &b));
    struct sockaddr_in cut = { 0 };
    n = 4;
    CHECK(getsockname(p[0], (void *)&cut, &n) == 0 && n == 16 && cut.sin_family == AF_INET && cut.sin_addr.s_addr == 0);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    n = sizeof a;
    CHECK(getsockname(s, (void *)&a, &n) == 0 && a.sin_port == 0 && a.sin_addr.s_addr == 0);
    CHECK_ERRNO(getpeername(s, (void *)&a, &n), ENOTCONN);
}

CASE(nobody_listens, "connect(2)")
{
    int s = socket(AF_INET, SOCK_STREAM, 0), l;
    struct sockaddr_in at;
    l = listener(&at, 1);
    close(l);
    CHECK_ERRNO(connect(s, (void *)&at, sizeof at), ECONNREFUSED);
    /* The same socket may try again. */
    struct sockaddr_in other;
    l = listener(&other, 1);
    CHECK(connect(s, (void *)&other, sizeof other) == 0);
    CHECK_ERRNO(connect(s, (void *)&other, sizeof other), EISCONN);
}

CASE(other_hosts_are_unreachable, "connect(2)")
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in far = v4(0x08080808, 53);
    CHECK_ERRNO(connect(s, (void *)&far, sizeof far), ENETUNREACH);
    struct sockaddr_in6 far6 = { AF_INET6, htons(53) };
    inet_pton(AF_INET6, "2001:db8::1", &far6.sin6_addr);
    int s6 = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK_ERRNO(connect(s6, (void *)&far6, sizeof far6), ENETUNREACH);
    struct sockaddr_in not_ours = v4(0x0a000001, 0);
    CHECK_ERRNO(bind(s, (void *)&not_ours, sizeof not_ours), EADDRNOTAVAIL);
    struct sockaddr_in wrong = v4(INADDR_LOOPBACK, 1);
    wrong.sin_family = AF_UNIX;
    CHECK_ERRNO(connect(s, (void *)&wrong, sizeof wrong), EAFNOSUPPORT);
    CHECK_ERRNO(connect(s, (void *)&wrong, 3), EINVAL);
}

CASE(the_whole_of_127_is_this_host, "ip(7)")
{
    int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = v4(0x7f010203, 0), got;
    socklen_t n = sizeof at;
    CHECK(bind(l, (void *)&at, n) == 0 && listen(l, 1) == 0 && getsockname(l, (void *)&at, &n) == 0);
    CHECK(connect(c, (void *)&at, n) == 0 && getsockname(c, (void *)&got, &n) == 0);
    CHECK(got.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    int any = socket(AF_INET, SOCK_STREAM, 0), d = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in zero = v4(INADDR_ANY, 0);
    CHECK(bind(any, (void *)&zero, n) == 0 && listen(any, 1) == 0 && getsockname(any, (void *)&zero, &n) == 0);
    CHECK(connect(d, (void *)&zero, n) == 0 && getpeername(d, (void *)&got, &n) == 0);
    CHECK(got.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    int e = accept(any, (void *)&got, &n);
    CHECK(e >= 0 && getsockname(e, (void *)&got, &n) == 0 && got.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
}

CASE(a_half_closed_connection_still_receives, "shutdown(2)")
{
    int p[2];
    char c;
    tcp_pair(p);
    CHECK(write(p[0], "x", 1) == 1 && shutdown(p[0], SHUT_WR) == 0);
    CHECK(read(p[1], &c, 1) == 1 && read(p[1], &c, 1) == 0 && read(p[1], &c, 1) == 0);
    CHECK(poll_of(p[1], POLLIN | POLLRDHUP | POLLOUT) == (POLLIN | POLLRDHUP | POLLOUT));
    CHECK(write(p[1], "y", 1) == 1 && read(p[0], &c, 1) == 1 && c == 'y');
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERRNO(write(p[0], "z", 1), EPIPE);
    CHECK(shutdown(p[1], SHUT_WR) == 0 && read(p[0], &c, 1) == 0);
    CHECK((poll_of(p[1], POLLIN) & POLLHUP) && (poll_of(p[0], POLLIN) & POLLHUP));
    int fresh = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(shutdown(fresh, SHUT_RDWR), ENOTCONN);
}

CASE(shutting_the_receiving_side_lets_data_through, "shutdown(2)")
{
    int p[2];
    char c;
    tcp_pair(p);
    CHECK(shutdown(p[0], SHUT_RD) == 0 && read(p[0], &c, 1) == 0);
    CHECK(write(p[1], "x", 1) == 1 && read(p[0], &c, 1) == 1 && c == 'x');
}

CASE(writing_to_a_peer_that_is_gone, "tcp(7)")
{
    int p[2];
    char c;
    signal(SIGPIPE, SIG_IGN);
    tcp_pair(p);
    close(p[1]);
    CHECK(read(p[0], &c, 1) == 0);
    CHECK(write(p[0], "x", 1) == 1);
    sleep_ms(20);
    CHECK_ERRNO(write(p[0], "x", 1), EPIPE);
    CHECK(read(p[0], &c, 1) == 0);
}

CASE(closing_with_unread_data_resets, "tcp(7)")
{
    int p[2], error = -1;
    char c;
    socklen_t n = sizeof error;
    tcp_pair(p);
    CHECK(write(p[0], "unread", 6) == 6 && write(p[1], "late", 4) == 4);
    sleep_ms(20);
    close(p[1]);
    sleep_ms(20);
    short seen = poll_of(p[0], POLLIN | POLLOUT);
    CHECK((seen & POLLERR) && (seen & POLLHUP) && (seen & POLLIN));
    char buf[8];
    CHECK(read(p[0], buf, 8) == 4);
    CHECK_ERRNO(read(p[0], &c, 1), ECONNRESET);
    CHECK(getsockopt(p[0], SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0 && read(p[0], &c, 1) == 0);
    tcp_pair(p);
    struct linger linger = { 1, 0 };
    CHECK(setsockopt(p[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0 && close(p[1]) == 0);
    sleep_ms(20);
    CHECK(getsockopt(p[0], SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == ECONNRESET);
}

CASE(a_full_connection_blocks_or_says_so, "tcp(7)")
{
    int p[2];
    tcp_pair(p);
    int small = 16384;
    setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    CHECK(fcntl(p[0], F_SETFL, O_NONBLOCK) == 0);
    static char block[65536];
    size_t total = 0;
    ssize_t n;
    while ((n = write(p[0], block, sizeof block)) > 0) total += n;
    int why = errno;
    CHECK(n < 0 && why == EAGAIN && total > 10000 && poll_of(p[0], POLLOUT) == 0);
    CHECK(fcntl(p[0], F_SETFL, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) { close(p[1]); _exit(write(p[0], block, sizeof block) == sizeof block ? 0 : 1); }
    close(p[0]);
    size_t got = 0;
    while ((n = read(p[1], block, 1000)) > 0) got += n;
    CHECK(n == 0 && got == total + sizeof block && wait_status(pid) == 0);
}

CASE(connecting_without_waiting, "connect(2)")
{
    struct sockaddr_in at;
    int l = listener(&at, 5), s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), error = -1;
    socklen_t n = sizeof error;
    CHECK(poll_of(s, POLLIN | POLLOUT) == (POLLOUT | POLLHUP));
    CHECK_ERRNO(connect(s, (void *)&at, sizeof at), EINPROGRESS);
    struct pollfd f = { s, POLLOUT, 0 };
    CHECK(poll(&f, 1, 1000) == 1 && f.revents == POLLOUT);
    CHECK(getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0);
    CHECK(connect(s, (void *)&at, sizeof at) == 0);
    CHECK_ERRNO(connect(s, (void *)&at, sizeof at), EISCONN);
    close(l);
    int r = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_ERRNO(connect(r, (void *)&at, sizeof at), EINPROGRESS);
    f.fd = r;
    CHECK(poll(&f, 1, 1000) == 1 && (f.revents & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
    CHECK(getsockopt(r, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == ECONNREFUSED);
    CHECK(getsockopt(r, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0);
}

CASE(accept_without_waiting_and_its_errors, "accept(2)")
{
    struct sockaddr_in at, from;
    int l = listener(&at, 5), s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fcntl(l, F_SETFL, O_NONBLOCK) == 0 && poll_of(l, POLLIN) == 0);
    CHECK_ERRNO(accept(l, 0, 0), EAGAIN);
    CHECK_ERRNO(accept(s, 0, 0), EINVAL);
    CHECK_ERRNO(accept4(l, 0, 0, 0x40000000), EINVAL);
    CHECK(connect(s, (void *)&at, sizeof at) == 0 && poll_of(l, POLLIN) == POLLIN);
    socklen_t n = sizeof from;
    int c = accept4(l, (void *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(c >= 0 && n == sizeof from && (fcntl(c, F_GETFL) & O_NONBLOCK) && fcntl(c, F_GETFD) == FD_CLOEXEC);
    struct sockaddr_in own;
    CHECK(getsockname(s, (void *)&own, &n) == 0 && same(&own, &from));
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK_ERRNO(accept(udp, 0, 0), EOPNOTSUPP);
    CHECK_ERRNO(listen(udp, 1), EOPNOTSUPP);
    CHECK_ERRNO(accept(0x7000, 0, 0), EBADF);
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    CHECK_ERRNO(accept(pipes[0], 0, 0), ENOTSOCK);
}

CASE(a_full_backlog_makes_connectors_wait, "listen(2)")
{
    struct sockaddr_in at;
    int l = listener(&at, 0), a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(connect(a, (void *)&at, sizeof at) == 0);
    CHECK_ERRNO(connect(b, (void *)&at, sizeof at), EINPROGRESS);
    CHECK_ERRNO(connect(b, (void *)&at, sizeof at), EALREADY);
    CHECK(poll_of(b, POLLOUT) == 0);
    int c = accept(l, 0, 0);
    struct pollfd f = { b, POLLOUT, 0 };
    CHECK(c >= 0 && poll(&f, 1, 5000) == 1 && f.revents == POLLOUT && accept(l, 0, 0) >= 0);
}

CASE(a_listener_that_closes_refuses_who_waits, "listen(2)")
{
    struct sockaddr_in at;
    int l = listener(&at, 5), s = socket(AF_INET, SOCK_STREAM, 0);
    char c;
    CHECK(connect(s, (void *)&at, sizeof at) == 0 && close(l) == 0);
    sleep_ms(20);
    CHECK_ERRNO(read(s, &c, 1), ECONNRESET);
}

static void *shut_later(void *fd) { sleep_ms(50); shutdown((int)(long)fd, SHUT_RD); return 0; }

CASE(shutting_a_listener_wakes_accept, "shutdown(2)")
{
    struct sockaddr_in at;
    int l = listener(&at, 5);
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, shut_later, (void *)(long)l) == 0);
    CHECK_ERRNO(accept(l, 0, 0), EINVAL);
    pthread_join(thread, 0);
}

CASE(ports_are_taken_once, "bind(2)")
{
    struct sockaddr_in at, any;
    int l = listener(&at, 5), s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    CHECK_ERRNO(bind(s, (void *)&at, sizeof at), EADDRINUSE);
    any = at;
    any.sin_addr.s_addr = INADDR_ANY;
    CHECK_ERRNO(bind(s, (void *)&any, sizeof any), EADDRINUSE);
    struct sockaddr_in other = at;
    other.sin_addr.s_addr = htonl(0x7f000002);
    CHECK(bind(s, (void *)&other, sizeof other) == 0);
    CHECK_ERRNO(bind(s, (void *)&other, sizeof other), EINVAL);
    /* With SO_REUSEADDR nobody may listen beside a listener, but bound ones may be two. */
    int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(a, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(b, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CHECK_ERRNO(bind(a, (void *)&at, sizeof at), EADDRINUSE);
    struct sockaddr_in free_port = v4(INADDR_LOOPBACK, 0);
    socklen_t n = sizeof free_port;
    CHECK(bind(a, (void *)&free_port, n) == 0 && getsockname(a, (void *)&free_port, &n) == 0);
    CHECK(bind(b, (void *)&free_port, n) == 0 && listen(a, 1) == 0);
    CHECK_ERRNO(listen(b, 1), EADDRINUSE);
    close(l);
}

CASE(a_port_outlives_its_listener_while_connections_last, "socket(7)")
{
    struct sockaddr_in at;
    int l = listener(&at, 5), c = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    CHECK(connect(c, (void *)&at, sizeof at) == 0);
    int a = accept(l, 0, 0), s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(a >= 0 && close(l) == 0);
    CHECK_ERRNO(bind(s, (void *)&at, sizeof at), EADDRINUSE);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CHECK_ERRNO(bind(s, (void *)&at, sizeof at), EADDRINUSE);
    /* Ended from here, the connection keeps the port for a while. */
    close(a);
    close(c);
    CHECK_ERRNO(bind(s, (void *)&at, sizeof at), EADDRINUSE);
}

CASE(a_server_that_reuses_its_port_restarts, "socket(7)")
{
    struct sockaddr_in at = v4(INADDR_LOOPBACK, 0);
    socklen_t n = sizeof at;
    int on = 1;
    for (int round = 0; round < 3; round++) {
        int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
        CHECK(bind(l, (void *)&at, sizeof at) == 0 && listen(l, 5) == 0 && getsockname(l, (void *)&at, &n) == 0);
        CHECK(connect(c, (void *)&at, sizeof at) == 0);
        int a = accept(l, 0, 0);
        CHECK(a >= 0 && close(a) == 0 && close(l) == 0 && close(c) == 0);
    }
}

CASE(listeners_share_a_port_when_all_say_so, "socket(7)")
{
    struct sockaddr_in at = v4(INADDR_LOOPBACK, 0);
    socklen_t n = sizeof at;
    int a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0), on = 1, taken = 0;
    CHECK(setsockopt(a, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 && setsockopt(b, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0);
    CHECK(bind(a, (void *)&at, n) == 0 && getsockname(a, (void *)&at, &n) == 0 && bind(b, (void *)&at, n) == 0);
    CHECK(listen(a, 50) == 0 && listen(b, 50) == 0);
    fcntl(a, F_SETFL, O_NONBLOCK); fcntl(b, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 40; i++) { int c = socket(AF_INET, SOCK_STREAM, 0); CHECK(connect(c, (void *)&at, n) == 0); }
    sleep_ms(20);
    int from_a = 0, from_b = 0;
    while (accept(a, 0, 0) >= 0) from_a++;
    while (accept(b, 0, 0) >= 0) from_b++;
    CHECK(from_a + from_b == 40 && from_a > 0 && from_b > 0);
}

CASE(ipv6_takes_both_families, "ipv6(7)")
{
    int l = socket(AF_INET6, SOCK_STREAM, 0), off = 1, on = 1;
    struct sockaddr_in6 at = { AF_INET6 }, from;
    socklen_t n = sizeof at;
    CHECK(bind(l, (void *)&at, n) == 0 && listen(l, 5) == 0 && getsockname(l, (void *)&at, &n) == 0 && n == 28);
    int four = socket(AF_INET, SOCK_STREAM, 0), six = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in at4 = v4(INADDR_LOOPBACK, ntohs(at.sin6_port));
    CHECK(connect(four, (void *)&at4, sizeof at4) == 0);
    int a = accept(l, (void *)&from, &n);
    char text[64];
    CHECK(a >= 0 && n == 28 && from.sin6_family == AF_INET6 && !strcmp(inet_ntop(AF_INET6, &from.sin6_addr, text, 64), "::ffff:127.0.0.1"));
    at.sin6_addr = in6addr_loopback;
    CHECK(connect(six, (void *)&at, sizeof at) == 0 && (a = accept(l, (void *)&from, &n)) >= 0);
    CHECK(!strcmp(inet_ntop(AF_INET6, &from.sin6_addr, text, 64), "::1"));
    CHECK(write(six, "6", 1) == 1 && read(a, text, 1) == 1 && text[0] == '6');
    /* A mapped address leads to IPv4. */
    int mapped = socket(AF_INET6, SOCK_STREAM, 0);
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &at.sin6_addr);
    CHECK(connect(mapped, (void *)&at, sizeof at) == 0);
    /* An IPv6-only listener leaves IPv4 alone. */
    int only = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 any = { AF_INET6 };
    CHECK(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0);
    CHECK(bind(only, (void *)&any, sizeof any) == 0 && listen(only, 5) == 0 && getsockname(only, (void *)&any, &n) == 0);
    at4.sin_port = any.sin6_port;
    int refused = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_ERRNO(connect(refused, (void *)&at4, sizeof at4), ECONNREFUSED);
    CHECK_ERRNO(setsockopt(only, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), EINVAL);
    int beside = socket(AF_INET, SOCK_STREAM, 0);
    at4.sin_addr.s_addr = INADDR_ANY;
    CHECK(bind(beside, (void *)&at4, sizeof at4) == 0);
}

CASE(options_are_kept, "tcp(7)")
{
    int s = socket(AF_INET, SOCK_STREAM, 0), value, on = 1;
    socklen_t n = sizeof value;
#define GET(level, name) (n = sizeof value, value = -7, getsockopt(s, level, name, &value, &n) == 0 ? value : -1)
#define SET(level, name, to) (value = (to), setsockopt(s, level, name, &value, sizeof value))
    CHECK(GET(IPPROTO_TCP, TCP_NODELAY) == 0 && SET(IPPROTO_TCP, TCP_NODELAY, 5) == 0 && GET(IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(GET(IPPROTO_TCP, TCP_KEEPIDLE) == 7200 && SET(IPPROTO_TCP, TCP_KEEPIDLE, 60) == 0 && GET(IPPROTO_TCP, TCP_KEEPIDLE) == 60);
    CHECK(GET(IPPROTO_TCP, TCP_KEEPINTVL) == 75 && GET(IPPROTO_TCP, TCP_KEEPCNT) == 9);
    CHECK_ERRNO(SET(IPPROTO_TCP, TCP_KEEPCNT, 1000), EINVAL);
    CHECK(GET(SOL_SOCKET, SO_KEEPALIVE) == 0 && SET(SOL_SOCKET, SO_KEEPALIVE, 1) == 0 && GET(SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(GET(SOL_SOCKET, SO_TYPE) == SOCK_STREAM && GET(SOL_SOCKET, SO_DOMAIN) == AF_INET && GET(SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
    CHECK(GET(SOL_SOCKET, SO_ACCEPTCONN) == 0 && listen(s, 1) == 0 && GET(SOL_SOCKET, SO_ACCEPTCONN) == 1);
    CHECK(SET(SOL_SOCKET, SO_RCVBUF, 10000) == 0 && GET(SOL_SOCKET, SO_RCVBUF) == 20000);
    CHECK(SET(SOL_SOCKET, SO_SNDBUF, 1) == 0 && GET(SOL_SOCKET, SO_SNDBUF) == 4608);
    CHECK(SET(SOL_SOCKET, SO_RCVBUF, 0x7fffffff) == 0 && GET(SOL_SOCKET, SO_RCVBUF) >= 0x10000);
    CHECK(GET(IPPROTO_IP, IP_TTL) == 64 && SET(IPPROTO_IP, IP_TTL, 9) == 0 && GET(IPPROTO_IP, IP_TTL) == 9);
    CHECK_ERRNO(SET(IPPROTO_IP, IP_TTL, 256), EINVAL);
    CHECK_ERRNO(SET(SOL_SOCKET, SO_TYPE, 1), ENOPROTOOPT);
    CHECK_ERRNO(SET(SOL_SOCKET, 0x7777, 1), ENOPROTOOPT);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, 1), EINVAL);
    struct linger l = { 1, 33 }, m = { 0 };
    n = sizeof m;
    CHECK(setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l) == 0 && getsockopt(s, SOL_SOCKET, SO_LINGER, &m, &n) == 0 && m.l_linger == 33);
    struct timeval t = { 1, 500000 }, u = { 0 };
    n = sizeof u;
    CHECK(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0 && getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &u, &n) == 0 && u.tv_sec == 1 && u.tv_usec == 500000);
    char name[16];
    n = sizeof name;
    CHECK(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, name, &n) == 0 && name[0]);
    int p[2];
    struct tcp_info info = { 0 };
    n = sizeof info;
    tcp_pair(p);
    CHECK(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_state == TCP_ESTABLISHED);
    n = sizeof info;
    CHECK(shutdown(p[1], SHUT_WR) == 0 && (sleep_ms(20), 1) && getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &info, &n) == 0 && info.tcpi_state == TCP_CLOSE_WAIT);
}

CASE(a_receive_can_time_out, "socket(7)")
{
    int p[2];
    char c;
    tcp_pair(p);
    struct timeval t = { 0, 60000 };
    CHECK(setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
    long before = now_ms();
    CHECK_ERRNO(read(p[0], &c, 1), EAGAIN);
    CHECK(now_ms() - before >= 55);
}

CASE(waiting_for_all, "recv(2)")
{
    int p[2];
    char buf[64] = { 0 };
    tcp_pair(p);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 10; i++) { sleep_ms(5); if (write(p[1], "0123456789" + i, 1) != 1) _exit(1); }
        _exit(0);
    }
    CHECK(recv(p[0], buf, 10, MSG_WAITALL) == 10 && !memcmp(buf, "0123456789", 10) && wait_status(pid) == 0);
    CHECK(write(p[1], "ab", 2) == 2 && close(p[1]) == 0 && recv(p[0], buf, 10, MSG_WAITALL) == 2);
}

CASE(connections_are_dissolved, "connect(2)")
{
    struct sockaddr_in at;
    struct sockaddr none = { AF_UNSPEC };
    char c;
    int l = listener(&at, 5), s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(s, (void *)&at, sizeof at) == 0);
    int a = accept(l, 0, 0);
    CHECK(connect(s, &none, sizeof none) == 0);
    sleep_ms(20);
    CHECK_ERRNO(read(a, &c, 1), ECONNRESET);
    CHECK(connect(s, (void *)&at, sizeof at) == 0 && accept(l, 0, 0) >= 0);
}

CASE(many_connections_at_once, "accept(2)")
{
    struct sockaddr_in at;
    int l = listener(&at, 128), e = epoll_create1(0);
    struct epoll_event event = { EPOLLIN, { .fd = l } }, out[32];
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, l, &event) == 0 && fcntl(l, F_SETFL, O_NONBLOCK) == 0);
    for (int child = 0; child < 4; child++) if (fork() == 0) {
        for (int i = 0; i < 50; i++) {
            int s = socket(AF_INET, SOCK_STREAM, 0);
            char c;
            if (connect(s, (void *)&at, sizeof at) || write(s, "q", 1) != 1 || read(s, &c, 1) != 1 || c != 'r') _exit(1);
            close(s);
        }
        _exit(0);
    }
    int served = 0;
    while (served < 200) {
        int n = epoll_wait(e, out, 32, 10000);
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            if (out[i].data.fd == l) {
                int c;
                while ((c = accept(l, 0, 0)) >= 0) { event.data.fd = c; CHECK(epoll_ctl(e, EPOLL_CTL_ADD, c, &event) == 0); }
                int why = errno;
                CHECK(why == EAGAIN);
            } else {
                char c;
                CHECK(read(out[i].data.fd, &c, 1) == 1 && c == 'q' && write(out[i].data.fd, "r", 1) == 1);
                CHECK(close(out[i].data.fd) == 0);
                served++;
            }
        }
    }
    for (int child = 0; child < 4; child++) { int status; CHECK(wait(&status) > 0 && status == 0); }
}
