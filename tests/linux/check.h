/* The smallest test harness that tells what failed: cases register themselves, run in order in their own child process, and print
 * one line each. A program passes on real Linux first and then on MettEagle; each case names the man page whose promise it holds to. */
#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct test_case { const char *name, *page; void (*run)(void); };
static struct test_case cases[128];
static int case_count;

#define CASE(ident, page)                                                                  \
    static void ident(void);                                                               \
    __attribute__((constructor)) static void register_##ident(void)                        \
    { cases[case_count++] = (struct test_case){ #ident, page, ident }; }                   \
    static void ident(void)

/* Ends the case with the place, the expression and errno. */
#define CHECK(expression)                                                                  \
    do { errno = 0; if (!(expression)) {                                                   \
        printf("  %s:%d: %s (errno %d %s)\n", __FILE__, __LINE__, #expression, errno, strerror(errno)); \
        fflush(stdout); _exit(1); } } while (0)

/* The call must fail with exactly this errno. */
#define CHECK_ERRNO(call, expected)                                                        \
    do { errno = 0; long check_r = (long)(call); if (check_r != -1 || errno != (expected)) {                  \
        printf("  %s:%d: %s gave %ld, errno %d %s, expected %s\n", __FILE__, __LINE__, #call, check_r, errno, strerror(errno), #expected); \
        fflush(stdout); _exit(1); } } while (0)

/* Waits for a child and returns its wait status. */
static inline int wait_status(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) ;
    return status;
}

static inline void sleep_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    while (nanosleep(&t, &t) < 0 && errno == EINTR) ;
}

int main(int argc, char **argv)
{
    int failed = 0, passed = 0;
    /* What the program was started with must not matter: a job in the background ignores SIGINT, one under nohup SIGHUP. */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
    for (int signo = 1; signo < NSIG; signo++) signal(signo, SIG_DFL);
    setvbuf(stdout, 0, _IOLBF, 0);
    for (int i = 0; i < case_count; i++) {
        if (argc > 1 && strcmp(argv[1], cases[i].name)) continue;
        fflush(stdout);
        pid_t pid = fork();
        if (pid < 0) { printf("test %s ... FAILED (fork: %s)\n", cases[i].name, strerror(errno)); failed++; continue; }
        if (pid == 0) { alarm(60); cases[i].run(); fflush(stdout); _exit(0); }
        int status = wait_status(pid);
        if (status == 0) { printf("test %s ... ok\n", cases[i].name); passed++; }
        else { printf("test %s ... FAILED (wait status 0x%x, see %s)\n", cases[i].name, status, cases[i].page); failed++; }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
#endif
