/* What there is of a network: interfaces, netlink, /proc, and sockets that are refused. */
#include "check.h"
#include "loopback.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

CASE(families_and_kinds, "socket(2)")
{
    CHECK_ERRNO(socket(77, SOCK_STREAM, 0), EAFNOSUPPORT);
    CHECK_ERRNO(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    CHECK_ERRNO(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP), EPROTONOSUPPORT);
    CHECK_ERRNO(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT);
    CHECK_ERRNO(socket(AF_UNIX, SOCK_STREAM, 5), EPROTONOSUPPORT);
    CHECK_ERRNO(socket(AF_INET, SOCK_STREAM | 0x100, 0), EINVAL);
    int s = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
    CHECK(s >= 0 && (fcntl(s, F_GETFL) & O_NONBLOCK) && fcntl(s, F_GETFD) == FD_CLOEXEC);
    struct stat st;
    CHECK(fstat(s, &st) == 0 && S_ISSOCK(st.st_mode));
    CHECK_ERRNO(lseek(s, 0, SEEK_SET), ESPIPE);
    CHECK_ERRNO(getsockopt(0x7000, SOL_SOCKET, SO_TYPE, 0, 0), EBADF);
}

CASE(raw_sockets_need_privilege, "raw(7)")
{
    pid_t pid = fork();
    if (pid == 0) {
        /* As a user without capabilities, if there is another user here. */
        if (setresuid(1234, 1234, 1234)) _exit(0);
        _exit(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) == -1 && errno == EPERM && socket(AF_PACKET, SOCK_RAW, 0) == -1 && errno == EPERM ? 0 : 1);
    }
    CHECK(wait_status(pid) == 0);
}

CASE(the_interface, "netdevice(7)")
{
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r = { 0 };
    strcpy(r.ifr_name, "lo");
    CHECK(ioctl(s, SIOCGIFFLAGS, &r) == 0 && (r.ifr_flags & (IFF_UP | IFF_LOOPBACK | IFF_RUNNING)) == (IFF_UP | IFF_LOOPBACK | IFF_RUNNING));
    CHECK(ioctl(s, SIOCGIFINDEX, &r) == 0 && r.ifr_ifindex == 1 && if_nametoindex("lo") == 1);
    CHECK(ioctl(s, SIOCGIFMTU, &r) == 0 && r.ifr_mtu == 65536);
    CHECK(ioctl(s, SIOCGIFADDR, &r) == 0 && ((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    CHECK(ioctl(s, SIOCGIFNETMASK, &r) == 0 && ((struct sockaddr_in *)&r.ifr_addr)->sin_addr.s_addr == htonl(0xff000000));
    CHECK(ioctl(s, SIOCGIFHWADDR, &r) == 0 && r.ifr_hwaddr.sa_family == 772);
    struct ifreq name = { .ifr_ifindex = 1 };
    CHECK(ioctl(s, SIOCGIFNAME, &name) == 0 && !strcmp(name.ifr_name, "lo"));
    name.ifr_ifindex = 77;
    CHECK_ERRNO(ioctl(s, SIOCGIFNAME, &name), ENODEV);
    strcpy(r.ifr_name, "eth7");
    CHECK_ERRNO(ioctl(s, SIOCGIFFLAGS, &r), ENODEV);
    struct ifreq list[4];
    struct ifconf all = { sizeof list, { (void *)list } };
    CHECK(ioctl(s, SIOCGIFCONF, &all) == 0 && all.ifc_len == sizeof list[0] && !strcmp(list[0].ifr_name, "lo"));
    CHECK_ERRNO(ioctl(s, 0x12345, 0), ENOTTY);
}

CASE(addresses_by_netlink, "getifaddrs(3)")
{
    struct ifaddrs *all, *a;
    int v4s = 0, v6s = 0, links = 0;
    CHECK(getifaddrs(&all) == 0);
    for (a = all; a; a = a->ifa_next) {
        CHECK(!strcmp(a->ifa_name, "lo"));
        if (a->ifa_addr->sa_family == AF_INET) { v4s++; CHECK(((struct sockaddr_in *)a->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK)); }
        if (a->ifa_addr->sa_family == AF_INET6) v6s++;
        if (a->ifa_addr->sa_family == AF_PACKET) links++;
    }
    CHECK(v4s == 1 && links == 1 && v6s <= 1);
    struct if_nameindex *names = if_nameindex();
    CHECK(names && names[0].if_index == 1 && !strcmp(names[0].if_name, "lo") && names[1].if_index == 0);
}

CASE(netlink_messages, "netlink(7)")
{
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl at = { AF_NETLINK }, got;
    socklen_t n = sizeof got;
    CHECK(s >= 0 && bind(s, (void *)&at, sizeof at) == 0 && getsockname(s, (void *)&got, &n) == 0 && n == sizeof got && got.nl_pid != 0);
    struct { struct nlmsghdr h; struct rtgenmsg g; } ask = { { sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7 }, { AF_UNSPEC } };
    CHECK(sendto(s, &ask, sizeof ask, 0, (void *)&at, sizeof at) == sizeof ask);
    char buf[8192];
    int done = 0, links = 0;
    while (!done) {
        ssize_t length = recv(s, buf, sizeof buf, 0);
        CHECK(length > 0);
        for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, length); h = NLMSG_NEXT(h, length)) {
            CHECK(h->nlmsg_seq == 7 && h->nlmsg_pid == got.nl_pid);
            if (h->nlmsg_type == NLMSG_DONE) done = 1;
            if (h->nlmsg_type == RTM_NEWLINK) { struct ifinfomsg *i = NLMSG_DATA(h); links += i->ifi_index == 1 && i->ifi_type == 772; }
        }
    }
    CHECK(links == 1);
    struct { struct nlmsghdr h; struct ifinfomsg i; } one = { { sizeof one, RTM_GETLINK, NLM_F_REQUEST, 8 }, { AF_UNSPEC, 0, 0, 99 } };
    CHECK(send(s, &one, sizeof one, 0) == sizeof one && recv(s, buf, sizeof buf, 0) > 0);
    struct nlmsghdr *h = (void *)buf;
    CHECK(h->nlmsg_type == NLMSG_ERROR && ((struct nlmsgerr *)NLMSG_DATA(h))->error == -ENODEV);
    CHECK_ERRNO(recv(s, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
}

static int file_has(const char *path, const char *text)
{
    static char buf[65536];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return 0;
    ssize_t n = 0, m;
    while ((m = read(fd, buf + n, sizeof buf - 1 - n)) > 0) n += m;
    buf[n] = 0;
    close(fd);
    return strstr(buf, text) != 0;
}

CASE(files_about_the_network, "proc(5)")
{
    struct sockaddr_in at = v4(INADDR_LOOPBACK, 0);
    socklen_t n = sizeof at;
    int l = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0), x = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(l, (void *)&at, n) == 0 && listen(l, 5) == 0 && getsockname(l, (void *)&at, &n) == 0);
    char line[64];
    sprintf(line, "0100007F:%04X 00000000:0000 0A", ntohs(at.sin_port));
    CHECK(file_has("/proc/net/tcp", line) && file_has("/proc/self/net/tcp", line));
    CHECK(bind(u, (void *)&at, n) == 0);
    sprintf(line, "0100007F:%04X 00000000:0000 07", ntohs(at.sin_port));
    CHECK(file_has("/proc/net/udp", line));
    struct sockaddr_un name = { AF_UNIX, "\0in-proc" };
    CHECK(bind(x, (void *)&name, 2 + 8) == 0 && file_has("/proc/net/unix", "@in-proc"));
    CHECK(file_has("/proc/net/dev", "    lo:") && file_has("/proc/net/route", "Iface"));
    CHECK(file_has("/proc/sys/net/core/somaxconn", "\n") && file_has("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"));
    char link[64] = { 0 };
    sprintf(line, "/proc/self/fd/%d", l);
    CHECK(readlink(line, link, 63) > 0 && !strncmp(link, "socket:[", 8));
}

CASE(absurd_lengths_and_addresses, "recv(2)")
{
    int p[2], s = socket(AF_INET, SOCK_STREAM, 0);
    char c;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    CHECK_ERRNO(send(p[0], (void *)8, 10, 0), EFAULT);
    CHECK(write(p[0], "ab", 2) == 2);
    CHECK_ERRNO(recv(p[1], (void *)8, 10, 0), EFAULT);
    CHECK(read(p[1], &c, 1) == 1 && c == 'a');
    CHECK_ERRNO(bind(s, (void *)8, 16), EFAULT);
    CHECK_ERRNO(bind(s, (void *)&c, 1), EINVAL);
    CHECK_ERRNO(bind(s, (void *)&c, 0x7fffffff), EINVAL);
    CHECK_ERRNO(bind(s, (void *)&c, -1), EINVAL);
    struct msghdr m = { 0 };
    m.msg_iovlen = 1025;
    CHECK_ERRNO(sendmsg(p[0], &m, 0), EMSGSIZE);
    CHECK_ERRNO(recvmsg(p[0], (void *)8, 0), EFAULT);
    socklen_t n = -1;
    CHECK_ERRNO(getsockname(s, (void *)&c, &n), EINVAL);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4), EFAULT);
    CHECK_ERRNO(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &c, -1), EINVAL);
}
