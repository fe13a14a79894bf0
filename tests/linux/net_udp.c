/* UDP over loopback. */
#include "check.h"
#include "loopback.h"

static int bound(int family, void *at, socklen_t *n)
{
    int s = socket(family, SOCK_DGRAM, 0);
    CHECK(s >= 0 && bind(s, at, *n) == 0 && getsockname(s, at, n) == 0);
    return s;
}

static int bound4(struct sockaddr_in *at)
{
    socklen_t n = sizeof *at;
    *at = v4(INADDR_LOOPBACK, 0);
    return bound(AF_INET, at, &n);
}

CASE(messages_keep_their_bounds, "udp(7)")
{
    struct sockaddr_in a, b, from;
    int s = bound4(&a), t = bound4(&b), waiting;
    char buf[64];
    socklen_t n = sizeof from;
    CHECK(sendto(s, "one", 3, 0, (void *)&b, sizeof b) == 3 && sendto(s, "", 0, 0, (void *)&b, sizeof b) == 0 && sendto(s, "three", 5, 0, (void *)&b, sizeof b) == 5);
    CHECK(ioctl(t, FIONREAD, &waiting) == 0 && waiting == 3);
    CHECK(recvfrom(t, buf, 64, MSG_PEEK, (void *)&from, &n) == 3 && n == sizeof from && same(&from, &a));
    CHECK(recv(t, buf, 2, 0) == 2 && recv(t, buf, 64, 0) == 0);
    CHECK(recv(t, buf, 2, MSG_TRUNC) == 5);
    CHECK_ERRNO(recv(t, buf, 2, MSG_DONTWAIT), EAGAIN);
}

CASE(cut_messages_say_so, "recvmsg(2)")
{
    struct sockaddr_in a, b, from;
    int s = bound4(&a), t = bound4(&b);
    char buf[4];
    struct iovec v[2] = { { buf, 2 }, { buf + 2, 1 } };
    struct msghdr m = { &from, sizeof from, v, 2 };
    CHECK(sendto(s, "abcdef", 6, 0, (void *)&b, sizeof b) == 6 && recvmsg(t, &m, 0) == 3);
    CHECK((m.msg_flags & MSG_TRUNC) && m.msg_namelen == sizeof from && same(&from, &a) && !memcmp(buf, "abc", 3));
}

CASE(a_connected_socket_hears_its_peer_only, "udp(7)")
{
    struct sockaddr_in a, b, c;
    int s = bound4(&a), t = bound4(&b), u = bound4(&c);
    char buf[8];
    CHECK(connect(s, (void *)&b, sizeof b) == 0);
    CHECK(sendto(u, "no", 2, 0, (void *)&a, sizeof a) == 2 && sendto(t, "yes", 3, 0, (void *)&a, sizeof a) == 3);
    CHECK(recv(s, buf, 8, 0) == 3);
    CHECK_ERRNO(recv(s, buf, 8, MSG_DONTWAIT), EAGAIN);
    CHECK(send(s, "x", 1, 0) == 1 && recv(t, buf, 8, 0) == 1);
    /* A destination goes before the peer. */
    CHECK(sendto(s, "y", 1, 0, (void *)&c, sizeof c) == 1 && recv(u, buf, 8, 0) == 1);
    struct sockaddr_in got;
    socklen_t n = sizeof got;
    CHECK(getpeername(s, (void *)&got, &n) == 0 && same(&got, &b));
    struct sockaddr none = { AF_UNSPEC };
    CHECK(connect(s, &none, sizeof none) == 0);
    CHECK_ERRNO(getpeername(s, (void *)&got, &n), ENOTCONN);
    CHECK_ERRNO(send(s, "x", 1, 0), EDESTADDRREQ);
    CHECK(connect(s, (void *)&b, sizeof b) == 0 && connect(s, (void *)&c, sizeof c) == 0 && send(s, "z", 1, 0) == 1 && recv(u, buf, 8, 0) == 1);
}

CASE(nobody_is_there, "udp(7)")
{
    struct sockaddr_in a, b;
    int s = bound4(&a), gone = bound4(&b), error = -1;
    socklen_t n = sizeof error;
    char buf[8];
    close(gone);
    /* Who has no peer is not told. */
    CHECK(sendto(s, "x", 1, 0, (void *)&b, sizeof b) == 1 && sendto(s, "x", 1, 0, (void *)&b, sizeof b) == 1);
    CHECK(connect(s, (void *)&b, sizeof b) == 0 && send(s, "x", 1, 0) == 1);
    struct pollfd f = { s, POLLIN, 0 };
    CHECK(poll(&f, 1, 1000) == 1 && (f.revents & POLLERR));
    CHECK_ERRNO(recv(s, buf, 8, 0), ECONNREFUSED);
    CHECK_ERRNO(recv(s, buf, 8, MSG_DONTWAIT), EAGAIN);
    CHECK(send(s, "x", 1, 0) == 1);
    CHECK_ERRNO(send(s, "x", 1, 0), ECONNREFUSED);
    CHECK(send(s, "x", 1, 0) == 1 && getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == ECONNREFUSED);
}

CASE(errors_of_sending, "udp(7)")
{
    struct sockaddr_in a, far = v4(0x08080808, 53), nowhere = v4(INADDR_LOOPBACK, 0);
    int s = bound4(&a);
    static char big[66000];
    CHECK_ERRNO(sendto(s, "x", 1, 0, (void *)&far, sizeof far), ENETUNREACH);
    CHECK_ERRNO(connect(s, (void *)&far, sizeof far), ENETUNREACH);
    CHECK_ERRNO(sendto(s, "x", 1, 0, (void *)&nowhere, sizeof nowhere), EINVAL);
    CHECK_ERRNO(sendto(s, big, 65508, 0, (void *)&a, sizeof a), EMSGSIZE);
    CHECK(sendto(s, big, 65507, 0, (void *)&a, sizeof a) == 65507 && recv(s, big, sizeof big, 0) == 65507);
    far.sin_family = AF_UNIX;
    CHECK_ERRNO(sendto(s, "x", 1, 0, (void *)&far, sizeof far), EAFNOSUPPORT);
    CHECK_ERRNO(sendto(s, "x", 1, 0, (void *)&a, 8), EINVAL);
    struct sockaddr_in directed = v4(0x7fffffff, 9);
    CHECK_ERRNO(sendto(s, "x", 1, 0, (void *)&directed, sizeof directed), EACCES);
    int on = 1;
    CHECK(setsockopt(s, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0 && sendto(s, "x", 1, 0, (void *)&directed, sizeof directed) == 1);
}

CASE(a_socket_gets_a_port_when_it_needs_one, "udp(7)")
{
    struct sockaddr_in a, own = { 0 };
    int t = bound4(&a), s = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t n = sizeof own;
    char c;
    CHECK(getsockname(s, (void *)&own, &n) == 0 && own.sin_port == 0);
    CHECK(sendto(s, "x", 1, 0, (void *)&a, sizeof a) == 1 && getsockname(s, (void *)&own, &n) == 0 && own.sin_port != 0 && own.sin_addr.s_addr == 0);
    struct sockaddr_in from;
    CHECK(recvfrom(t, &c, 1, 0, (void *)&from, &n) == 1 && from.sin_port == own.sin_port && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(connect(s, (void *)&a, sizeof a) == 0 && getsockname(s, (void *)&own, &n) == 0 && own.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(sendto(t, "y", 1, 0, (void *)&from, n) == 1 && recv(s, &c, 1, 0) == 1 && c == 'y');
}

CASE(ports_may_be_shared, "socket(7)")
{
    struct sockaddr_in a;
    int s = bound4(&a), t = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    CHECK_ERRNO(bind(t, (void *)&a, sizeof a), EADDRINUSE);
    CHECK(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 && setsockopt(t, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    CHECK(bind(t, (void *)&a, sizeof a) == 0);
    /* TCP's ports are others. */
    int l = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(l, (void *)&a, sizeof a) == 0);
    /* The more exact address gets it. */
    struct sockaddr_in any = v4(INADDR_ANY, 0), exact = v4(0x7f000005, 0);
    socklen_t n = sizeof any;
    int u = bound(AF_INET, &any, &n), v = socket(AF_INET, SOCK_DGRAM, 0);
    char c;
    exact.sin_port = any.sin_port;
    CHECK_ERRNO(bind(v, (void *)&exact, n), EADDRINUSE);
    setsockopt(u, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(v, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CHECK(bind(v, (void *)&exact, n) == 0 && sendto(s, "e", 1, 0, (void *)&exact, n) == 1);
    CHECK(recv(v, &c, 1, MSG_DONTWAIT) == 1);
    CHECK_ERRNO(recv(u, &c, 1, MSG_DONTWAIT), EAGAIN);
}

CASE(a_full_receiver_loses_messages, "udp(7)")
{
    struct sockaddr_in a, b;
    int s = bound4(&a), t = bound4(&b), small = 2048;
    char block[1000], n = 0;
    CHECK(setsockopt(t, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    for (int i = 0; i < 100; i++) CHECK(sendto(s, block, sizeof block, 0, (void *)&b, sizeof b) == sizeof block);
    while (recv(t, block, sizeof block, MSG_DONTWAIT) > 0) n++;
    CHECK(n >= 1 && n < 20);
}

CASE(shutdown_wakes_receivers, "shutdown(2)")
{
    struct sockaddr_in a;
    int s = bound4(&a);
    char c;
    pid_t pid = fork();
    if (pid == 0) { char c; _exit(recv(s, &c, 1, 0) == 0 ? 0 : 1); }
    sleep_ms(30);
    CHECK_ERRNO(shutdown(s, SHUT_RDWR), ENOTCONN);
    CHECK(wait_status(pid) == 0 && recv(s, &c, 1, 0) == 0);
}

CASE(both_families_meet, "ipv6(7)")
{
    struct sockaddr_in6 at = { AF_INET6 }, from;
    socklen_t n = sizeof at;
    int six = bound(AF_INET6, &at, &n), four = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in at4 = v4(INADDR_LOOPBACK, ntohs(at.sin6_port));
    char buf[64];
    CHECK(sendto(four, "4", 1, 0, (void *)&at4, sizeof at4) == 1);
    n = sizeof from;
    CHECK(recvfrom(six, buf, 64, 0, (void *)&from, &n) == 1 && n == 28 && !strcmp(inet_ntop(AF_INET6, &from.sin6_addr, buf, 64), "::ffff:127.0.0.1"));
    CHECK(sendto(six, "back", 4, 0, (void *)&from, n) == 4 && recv(four, buf, 64, 0) == 4);
    at.sin6_addr = in6addr_loopback;
    int other = socket(AF_INET6, SOCK_DGRAM, 0);
    CHECK(sendto(other, "6", 1, 0, (void *)&at, sizeof at) == 1 && recvfrom(six, buf, 64, 0, (void *)&from, &n) == 1);
    CHECK(!strcmp(inet_ntop(AF_INET6, &from.sin6_addr, buf, 64), "::1"));
    CHECK_ERRNO(sendto(four, "x", 1, 0, (void *)&at, sizeof at), EAFNOSUPPORT);
}

CASE(what_the_header_said, "ip(7)")
{
    struct sockaddr_in a, b = v4(INADDR_ANY, 0);
    socklen_t n = sizeof b;
    int s = bound4(&a), t = bound(AF_INET, &b, &n), on = 1, ttl = 7;
    CHECK(setsockopt(t, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) == 0 && setsockopt(t, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0);
    CHECK(setsockopt(s, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) == 0);
    b.sin_addr.s_addr = htonl(0x7f000009);
    CHECK(sendto(s, "x", 1, 0, (void *)&b, sizeof b) == 1);
    char c, control[128];
    struct iovec v = { &c, 1 };
    struct msghdr m = { 0, 0, &v, 1, control, sizeof control };
    CHECK(recvmsg(t, &m, 0) == 1);
    int found = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *info = (void *)CMSG_DATA(h);
            CHECK(info->ipi_addr.s_addr == htonl(0x7f000009) && info->ipi_ifindex == 1);
            found |= 1;
        }
        if (h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_TTL) { CHECK(*(int *)CMSG_DATA(h) == 7); found |= 2; }
    }
    CHECK(found == 3 && !(m.msg_flags & MSG_CTRUNC));
    /* Too little room cuts it off. */
    CHECK(sendto(s, "x", 1, 0, (void *)&b, sizeof b) == 1);
    m.msg_controllen = 16;
    CHECK(recvmsg(t, &m, 0) == 1 && (m.msg_flags & MSG_CTRUNC));
}

CASE(time_stamps, "socket(7)")
{
    struct sockaddr_in a, b;
    int s = bound4(&a), t = bound4(&b), on = 1;
    CHECK(setsockopt(t, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on) == 0 && sendto(s, "x", 1, 0, (void *)&b, sizeof b) == 1);
    char c, control[128];
    struct iovec v = { &c, 1 };
    struct msghdr m = { 0, 0, &v, 1, control, sizeof control };
    CHECK(recvmsg(t, &m, 0) == 1);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    CHECK(h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SO_TIMESTAMP);
    long seconds = ((struct timeval *)CMSG_DATA(h))->tv_sec;
    /* Not time(2), which may be a tick behind at the turn of a second. */
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0 && seconds <= now.tv_sec && seconds > now.tv_sec - 10);
}

CASE(groups_on_the_loopback, "ip(7)")
{
    struct sockaddr_in at = v4(INADDR_ANY, 0), group = v4(0xe0000101, 0);
    socklen_t n = sizeof at;
    int t = bound(AF_INET, &at, &n), s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ip_mreq join = { group.sin_addr, { htonl(INADDR_LOOPBACK) } }, nowhere = { group.sin_addr, { 0 } };
    group.sin_port = at.sin_port;
    CHECK_ERRNO(sendto(s, "x", 1, 0, (void *)&group, n), ENETUNREACH);
    CHECK_ERRNO(setsockopt(t, IPPROTO_IP, IP_ADD_MEMBERSHIP, &nowhere, sizeof nowhere), ENODEV);
    CHECK(setsockopt(t, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == 0);
    CHECK_ERRNO(setsockopt(t, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join), EADDRINUSE);
    struct in_addr lo = { htonl(INADDR_LOOPBACK) };
    char c;
    CHECK(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo) == 0);
    CHECK(sendto(s, "g", 1, 0, (void *)&group, n) == 1 && recv(t, &c, 1, MSG_DONTWAIT) == 1 && c == 'g');
    CHECK(setsockopt(t, IPPROTO_IP, IP_DROP_MEMBERSHIP, &join, sizeof join) == 0);
    CHECK_ERRNO(setsockopt(t, IPPROTO_IP, IP_DROP_MEMBERSHIP, &join, sizeof join), EADDRNOTAVAIL);
}

CASE(several_messages_in_one_call, "sendmmsg(2)")
{
    struct sockaddr_in a, b;
    int s = bound4(&a), t = bound4(&b);
    CHECK(connect(s, (void *)&b, sizeof b) == 0);
    char text[3][4] = { "aaa", "bb", "c" }, got[4][8];
    struct iovec out[3], in[4];
    struct mmsghdr sent[3] = { 0 }, received[4] = { 0 };
    for (int i = 0; i < 3; i++) { out[i] = (struct iovec){ text[i], strlen(text[i]) }; sent[i].msg_hdr = (struct msghdr){ 0, 0, &out[i], 1 }; }
    for (int i = 0; i < 4; i++) { in[i] = (struct iovec){ got[i], 8 }; received[i].msg_hdr = (struct msghdr){ 0, 0, &in[i], 1 }; }
    CHECK(sendmmsg(s, sent, 3, 0) == 3 && sent[0].msg_len == 3 && sent[2].msg_len == 1);
    CHECK(recvmmsg(t, received, 4, MSG_WAITFORONE, 0) == 3 && received[1].msg_len == 2 && !memcmp(got[1], "bb", 2));
    CHECK_ERRNO(recvmmsg(t, received, 4, MSG_DONTWAIT, 0), EAGAIN);
}
