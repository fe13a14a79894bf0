/* Clocks, sleeping, timers. */
#include "check.h"
#include <sys/resource.h>
#include <sys/time.h>
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/times.h>

static int64_t now(clockid_t clock)
{
    struct timespec t;
    CHECK(clock_gettime(clock, &t) == 0);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

CASE(clocks_go_forward, "clock_gettime(2)")
{
    int64_t last = now(CLOCK_MONOTONIC);
    for (int i = 0; i < 10000; i++) { int64_t t = now(CLOCK_MONOTONIC); CHECK(t >= last); last = t; }
    CHECK(now(CLOCK_REALTIME) > 1600000000ll * 1000000000);
    struct timeval tv;
    CHECK(gettimeofday(&tv, 0) == 0 && llabs(tv.tv_sec - now(CLOCK_REALTIME) / 1000000000) <= 1 && llabs(time(0) - tv.tv_sec) <= 1);
    struct timespec t;
    CHECK(clock_getres(CLOCK_MONOTONIC, &t) == 0);
    CHECK_ERRNO(clock_gettime(99, &t), EINVAL);
}

/* A function of the vDSO, found as a loader does: program headers, dynamic section, symbols. */
static void *vdso(const char *name)
{
    char *base = (char *)getauxval(AT_SYSINFO_EHDR);
    CHECK(base && !memcmp(base, ELFMAG, SELFMAG));
    Elf64_Ehdr *header = (Elf64_Ehdr *)base;
    Elf64_Phdr *part = (Elf64_Phdr *)(base + header->e_phoff);
    char *bias = 0;
    Elf64_Dyn *dynamic = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        if (part[i].p_type == PT_LOAD) bias = base + part[i].p_offset - part[i].p_vaddr;
        if (part[i].p_type == PT_DYNAMIC) dynamic = (Elf64_Dyn *)(base + part[i].p_offset);
    }
    CHECK(bias && dynamic);
    char *strings = 0;
    Elf64_Sym *symbols = 0;
    size_t length = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_STRTAB) strings = bias + dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_SYMTAB) symbols = (Elf64_Sym *)(bias + dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_STRSZ) length = dynamic->d_un.d_val;
    }
    CHECK(strings && symbols && length);
    for (int i = 1; i < 64 && symbols[i].st_name < length; i++)
        if (!strcmp(strings + symbols[i].st_name, name)) return bias + symbols[i].st_value;
    return 0;
}

CASE(the_vdso_tells_the_time_of_the_system_calls, "vdso(7)")
{
    int (*gettime)(clockid_t, struct timespec *) = vdso("__vdso_clock_gettime");
    int (*timeofday)(struct timeval *, void *) = vdso("__vdso_gettimeofday");
    time_t (*seconds)(time_t *) = vdso("__vdso_time");
    int (*cpu)(unsigned *, unsigned *, void *) = vdso("__vdso_getcpu");
    CHECK(gettime && timeofday && seconds && cpu && !vdso("__vdso_none"));
    clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME };
    for (int i = 0; i < 400; i++) {
        struct timespec before, between, after;
        clockid_t clock = clocks[i % 4];
        CHECK(syscall(SYS_clock_gettime, clock, &before) == 0 && gettime(clock, &between) == 0 && syscall(SYS_clock_gettime, clock, &after) == 0);
        CHECK(between.tv_nsec >= 0 && between.tv_nsec < 1000000000);
        int64_t a = before.tv_sec * 1000000000ll + before.tv_nsec, b = between.tv_sec * 1000000000ll + between.tv_nsec;
        CHECK(a <= b && b <= after.tv_sec * 1000000000ll + after.tv_nsec);
    }
    struct timespec t;
    struct timeval tv;
    time_t stored;
    unsigned number = 9999;
    CHECK(gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0 && t.tv_sec == 0 && gettime(99, &t) == -EINVAL);
    CHECK(timeofday(&tv, 0) == 0 && llabs(tv.tv_sec - now(CLOCK_REALTIME) / 1000000000) <= 1 && tv.tv_usec >= 0 && tv.tv_usec < 1000000);
    CHECK(llabs(seconds(&stored) - tv.tv_sec) <= 1 && llabs(stored - tv.tv_sec) <= 1);
    CHECK(cpu(&number, 0, 0) == 0 && number < 4096);
    pid_t pid = fork();
    if (pid == 0) { struct timespec u; _exit(gettime(CLOCK_MONOTONIC, &u) || u.tv_sec < t.tv_sec); }
    CHECK(wait_status(pid) == 0);
}

CASE(sleeping_lasts, "nanosleep(2)")
{
    int64_t before = now(CLOCK_MONOTONIC);
    struct timespec t = { 0, 30000000 };
    CHECK(nanosleep(&t, 0) == 0 && now(CLOCK_MONOTONIC) - before >= 30000000);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    t.tv_nsec += 20000000;
    if (t.tv_nsec >= 1000000000) { t.tv_nsec -= 1000000000; t.tv_sec++; }
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0) == 0);
    CHECK(now(CLOCK_MONOTONIC) >= t.tv_sec * 1000000000ll + t.tv_nsec);
    t.tv_nsec = 1000000000;
    CHECK_ERRNO(nanosleep(&t, 0), EINVAL);
}

CASE(processor_time_is_counted, "clock_gettime(2)")
{
    int64_t before = now(CLOCK_PROCESS_CPUTIME_ID);
    for (volatile int i = 0; i < 20000000; i++) ;
    CHECK(now(CLOCK_PROCESS_CPUTIME_ID) > before);
    struct rusage u;
    CHECK(getrusage(RUSAGE_SELF, &u) == 0 && u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec > 0);
    pid_t pid = fork();
    if (pid == 0) { for (volatile int i = 0; i < 20000000; i++) ; _exit(0); }
    CHECK(wait_status(pid) == 0 && getrusage(RUSAGE_CHILDREN, &u) == 0 && u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec > 0);
}

static volatile sig_atomic_t ticks;
static void tick(int signal) { (void)signal; ticks++; }
CASE(interval_timers_repeat, "setitimer(2)")
{
    signal(SIGALRM, tick);
    struct itimerval t = { { 0, 10000 }, { 0, 10000 } }, old;
    CHECK(setitimer(ITIMER_REAL, &t, 0) == 0);
    while (ticks < 3) pause();
    CHECK(getitimer(ITIMER_REAL, &old) == 0 && old.it_interval.tv_usec == 10000);
    t = (struct itimerval){ 0 };
    CHECK(setitimer(ITIMER_REAL, &t, 0) == 0);
    CHECK(alarm(100) == 0 && alarm(0) == 100);
}

CASE(posix_timers_signal, "timer_create(2)")
{
    timer_t id;
    signal(SIGUSR2, tick);
    struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
    struct itimerspec t = { { 0, 0 }, { 0, 10000000 } };
    CHECK(timer_create(CLOCK_MONOTONIC, &e, &id) == 0 && timer_settime(id, 0, &t, 0) == 0);
    while (!ticks) pause();
    CHECK(timer_delete(id) == 0);
    CHECK_ERRNO(timer_delete(id), EINVAL);
}

CASE(timer_descriptors, "timerfd_create(2)")
{
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec t = { { 0, 5000000 }, { 0, 5000000 } };
    uint64_t n = 0;
    CHECK(fd >= 0 && timerfd_settime(fd, 0, &t, 0) == 0);
    sleep_ms(30);
    CHECK(read(fd, &n, 8) == 8 && n >= 3);
    struct pollfd f = { fd, POLLIN, 0 };
    CHECK(poll(&f, 1, 1000) == 1);
}

static volatile sig_atomic_t expired;
static void on_expiry(int signo) { expired = signo; }

/* Computes until a timer of CPU time has fired. */
static void compute(void)
{
    int64_t begin = now(CLOCK_PROCESS_CPUTIME_ID);
    while (!expired && now(CLOCK_PROCESS_CPUTIME_ID) - begin < 20000000000ll) ;
    CHECK(expired);
}

CASE(interval_timers_of_cpu_time, "setitimer(2)")
{
    int which[] = { ITIMER_VIRTUAL, ITIMER_PROF }, signo[] = { SIGVTALRM, SIGPROF };
    for (int i = 0; i < 2; i++) {
        signal(signo[i], on_expiry);
        expired = 0;
        struct itimerval set = { { 0, 0 }, { 0, 50000 } }, left;
        CHECK(setitimer(which[i], &set, 0) == 0);
        /* Time that passes without computing does not count. */
        sleep_ms(150);
        CHECK(!expired && getitimer(which[i], &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_usec > 0);
        compute();
        CHECK(expired == signo[i] && getitimer(which[i], &left) == 0 && left.it_value.tv_usec == 0);
        set.it_interval.tv_usec = 10000;
        CHECK(setitimer(which[i], &set, 0) == 0);
        for (int n = 0; n < 3; n++) { expired = 0; compute(); }
        memset(&set, 0, sizeof set);
        CHECK(setitimer(which[i], &set, &left) == 0 && left.it_interval.tv_usec == 10000);
    }
    CHECK_ERRNO(getitimer(3, &(struct itimerval){ 0 }), EINVAL);
}

CASE(posix_timers_of_cpu_time, "timer_create(2)")
{
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    signal(SIGUSR1, on_expiry);
    CHECK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) == 0);
    struct itimerspec set = { { 0, 0 }, { 0, 50000000 } }, left;
    CHECK(timer_settime(timer, 0, &set, 0) == 0);
    sleep_ms(150);
    CHECK(!expired && timer_gettime(timer, &left) == 0 && left.it_value.tv_nsec > 0);
    compute();
    CHECK(timer_gettime(timer, &left) == 0 && left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    CHECK(timer_delete(timer) == 0);
}

static void *spin(void *clock)
{
    clockid_t own;
    CHECK(pthread_getcpuclockid(pthread_self(), &own) == 0);
    while (now(own) < 100000000) ;
    *(clockid_t *)clock = own;
    return 0;
}

CASE(clocks_of_threads_and_processes, "pthread_getcpuclockid(3)")
{
    pthread_t thread;
    clockid_t clock, first;
    CHECK(pthread_getcpuclockid(pthread_self(), &first) == 0);
    int64_t before = now(first);
    CHECK(pthread_create(&thread, 0, spin, &clock) == 0 && pthread_join(thread, 0) == 0);
    struct timespec t;
    CHECK_ERRNO(clock_gettime(clock, &t), EINVAL);
    CHECK(now(first) - before < 50000000 && now(CLOCK_PROCESS_CPUTIME_ID) >= 100000000);
    CHECK(clock_getcpuclockid(0, &clock) == 0 && now(clock) >= 100000000);
}
