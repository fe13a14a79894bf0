/* What the programs about sockets share. */
#ifndef LOOPBACK_H
#define LOOPBACK_H
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A new network namespace of Linux has its loopback down. */
__attribute__((constructor)) static void bring_loopback_up(void)
{
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq request = { 0 };
    strcpy(request.ifr_name, "lo");
    if (ioctl(s, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
        request.ifr_flags |= IFF_UP;
        ioctl(s, SIOCSIFFLAGS, &request);
    }
    close(s);
}

static inline struct sockaddr_in v4(uint32_t ip, uint16_t port)
{
    struct sockaddr_in a = { AF_INET, htons(port), { htonl(ip) } };
    return a;
}

static inline int same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
}

static inline long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
#endif
