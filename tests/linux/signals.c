/* Signals: delivery, masks, restart, queues, alternate stacks, stop and continue. */
#include "check.h"
#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile sig_atomic_t count, last, code;
static volatile uintptr_t address;
static void note(int signal, siginfo_t *info, void *context)
{
    (void)context;
    count++; last = signal; code = info->si_code; address = (uintptr_t)info->si_addr;
}
static void install(int signal, int flags)
{
    struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO | flags };
    CHECK(sigaction(signal, &action, 0) == 0);
}

CASE(a_handler_runs_and_returns, "sigaction(2)")
{
    install(SIGUSR1, 0);
    CHECK(raise(SIGUSR1) == 0 && count == 1 && last == SIGUSR1);
    CHECK(kill(getpid(), SIGUSR1) == 0 && count == 2 && code == SI_USER);
}

CASE(blocked_signals_wait, "sigprocmask(2)")
{
    install(SIGUSR1, 0);
    sigset_t set, old, pending;
    sigemptyset(&set); sigaddset(&set, SIGUSR1);
    CHECK(sigprocmask(SIG_BLOCK, &set, &old) == 0);
    kill(getpid(), SIGUSR1); kill(getpid(), SIGUSR1);
    CHECK(count == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
    CHECK(sigprocmask(SIG_SETMASK, &old, 0) == 0 && count == 1);
}

CASE(real_time_signals_queue_in_order, "signal(7)")
{
    static volatile int values[8];
    sigset_t set;
    sigemptyset(&set); sigaddset(&set, SIGRTMIN);
    CHECK(sigprocmask(SIG_BLOCK, &set, 0) == 0);
    for (int i = 0; i < 5; i++) CHECK(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = i }) == 0);
    for (int i = 0; i < 5; i++) {
        siginfo_t info;
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN && info.si_code == SI_QUEUE);
        values[i] = info.si_value.sival_int;
        CHECK(values[i] == i);
    }
    struct timespec zero = { 0, 0 };
    CHECK_ERRNO(sigtimedwait(&set, 0, &zero), EAGAIN);
}

CASE(interrupted_calls, "signal(7)")
{
    int fds[2];
    char c;
    CHECK(pipe(fds) == 0);
    install(SIGALRM, 0);
    struct itimerval timer = { .it_value = { 0, 20000 } };
    CHECK(setitimer(ITIMER_REAL, &timer, 0) == 0);
    CHECK_ERRNO(read(fds[0], &c, 1), EINTR);
    CHECK(count == 1);
    install(SIGALRM, SA_RESTART);
    pid_t pid = fork();
    if (pid == 0) { sleep_ms(100); if (write(fds[1], "x", 1) != 1) _exit(1); _exit(0); }
    CHECK(setitimer(ITIMER_REAL, &timer, 0) == 0);
    CHECK(read(fds[0], &c, 1) == 1 && c == 'x' && count == 2);
    CHECK(wait_status(pid) == 0);
}

CASE(segmentation_faults_tell_the_address, "sigaction(2)")
{
    static sigjmp_buf back;
    struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO };
    (void)action;
    install(SIGSEGV, 0);
    char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    (void)back;
    pid_t pid = fork();
    if (pid == 0) {
        /* The handler makes the page writable, and the store is tried again. */
        struct sigaction repair = { .sa_flags = SA_SIGINFO };
        extern void repair_page(int, siginfo_t *, void *);
        repair.sa_sigaction = repair_page;
        sigaction(SIGSEGV, &repair, 0);
        *(volatile char *)page = 1;
        _exit(page[0] == 1 ? 0 : 1);
    }
    CHECK(wait_status(pid) == 0);
}
void repair_page(int signal, siginfo_t *info, void *context)
{
    (void)signal; (void)context;
    if (info->si_code != SEGV_ACCERR) _exit(5);
    if (mprotect((void *)((uintptr_t)info->si_addr & ~4095ul), 4096, PROT_READ | PROT_WRITE)) _exit(6);
}

static void skip_trap(int signal, siginfo_t *info, void *context)
{
    (void)info; last = signal;
    ucontext_t *u = context;
    u->uc_mcontext.gregs[REG_RIP] += 2;
    u->uc_mcontext.gregs[REG_RAX] = 77;
}
CASE(handlers_may_change_registers, "sigaction(2)")
{
    struct sigaction action = { .sa_sigaction = skip_trap, .sa_flags = SA_SIGINFO };
    CHECK(sigaction(SIGILL, &action, 0) == 0);
    long result;
    __asm__ volatile("ud2" : "=a"(result) : "a"(1) : "memory");
    CHECK(result == 77 && last == SIGILL);
}

static double vector_keep;
static void use_vectors(int signal) { (void)signal; volatile double x = 1.5; for (int i = 0; i < 100; i++) x = x * 1.0001 + 0.5; vector_keep = x; count++; }
CASE(vector_registers_survive_a_handler, "sigreturn(2)")
{
    signal(SIGUSR1, use_vectors);
    uint64_t in[4] = { 1, 2, 3, 4 }, out[2] = { 0, 0 };
    __asm__ volatile("movdqu %2, %%xmm7\n\t" "mov $39, %%eax\n\tsyscall\n\t" "mov %%eax, %%edi\n\tmov $10, %%esi\n\tmov $62, %%eax\n\tsyscall\n\t"
        "movdqu %%xmm7, %0" : "=m"(*(__uint128_t *)out), "+m"(count) : "m"(*(__uint128_t *)in) : "rax", "rcx", "r11", "rdi", "rsi", "xmm7", "memory");
    CHECK(count == 1 && out[0] == 1 && out[1] == 2);
}

static void on_alternate(int signal) { (void)signal; int here; address = (uintptr_t)&here; }
CASE(the_alternate_stack_is_used, "sigaltstack(2)")
{
    static char area[65536];
    stack_t stack = { .ss_sp = area, .ss_size = sizeof area };
    CHECK(sigaltstack(&stack, 0) == 0);
    struct sigaction action = { .sa_handler = on_alternate, .sa_flags = SA_ONSTACK };
    CHECK(sigaction(SIGUSR2, &action, 0) == 0 && raise(SIGUSR2) == 0);
    CHECK(address >= (uintptr_t)area && address < (uintptr_t)area + sizeof area);
}

CASE(stop_and_continue, "wait(2)")
{
    pid_t pid = fork();
    if (pid == 0) for (;;) pause();
    int status;
    CHECK(kill(pid, SIGSTOP) == 0);
    CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
    CHECK(kill(pid, SIGTERM) == 0);
    status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

CASE(spinning_processes_can_be_killed, "kill(2)")
{
    pid_t pid = fork();
    if (pid == 0) for (;;) __asm__ volatile("");
    sleep_ms(20);
    CHECK(kill(pid, SIGKILL) == 0 && WTERMSIG(wait_status(pid)) == SIGKILL);
}

CASE(signals_to_a_group, "kill(2)")
{
    pid_t leader = fork();
    if (leader == 0) {
        setpgid(0, 0);
        pid_t other = fork();
        if (other == 0) for (;;) pause();
        signal(SIGTERM, SIG_IGN);
        kill(0, SIGTERM);
        int status = wait_status(other);
        _exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM ? 0 : 1);
    }
    CHECK(wait_status(leader) == 0);
    CHECK_ERRNO(kill(999999, 0), ESRCH);
    CHECK_ERRNO(kill(getpid(), 65), EINVAL);
}

CASE(ignored_children_leave_no_zombies, "sigaction(2)")
{
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0) _exit(3);
    CHECK_ERRNO(waitpid(pid, 0, 0), ECHILD);
}

CASE(sigsuspend_waits_for_a_handler, "sigsuspend(2)")
{
    install(SIGUSR1, 0);
    sigset_t block, empty;
    sigemptyset(&empty); sigemptyset(&block); sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, 0);
    kill(getpid(), SIGUSR1);
    CHECK(count == 0);
    CHECK_ERRNO(sigsuspend(&empty), EINTR);
    CHECK(count == 1);
}

CASE(arithmetic_faults, "signal(7)")
{
    pid_t pid = fork();
    if (pid == 0) { __asm__ volatile("xor %%edx, %%edx\n\txor %%ecx, %%ecx\n\tmov $1, %%eax\n\tdiv %%ecx" ::: "eax", "ecx", "edx"); _exit(0); }
    CHECK(WTERMSIG(wait_status(pid)) == SIGFPE);
    pid = fork();
    if (pid == 0) { __asm__ volatile("hlt"); _exit(0); }
    CHECK(WTERMSIG(wait_status(pid)) == SIGSEGV);
    pid = fork();
    if (pid == 0) { __asm__ volatile("int3"); _exit(0); }
    CHECK(WTERMSIG(wait_status(pid)) == SIGTRAP);
}

CASE(signals_through_a_descriptor_of_a_process, "pidfd_send_signal(2)")
{
    signal(SIGUSR1, SIG_DFL);
    for (int by_proc = 0; by_proc < 2; by_proc++) {
        pid_t pid = fork();
        if (pid == 0) for (;;) pause();
        char path[32];
        snprintf(path, sizeof path, "/proc/%d", pid);
        int fd = by_proc ? open(path, O_DIRECTORY) : syscall(SYS_pidfd_open, pid, 0);
        CHECK(fd >= 0 && syscall(SYS_pidfd_send_signal, fd, 0, 0, 0) == 0);
        CHECK_ERRNO(syscall(SYS_pidfd_send_signal, fd, 0, 0, 1 << 10), EINVAL);
        CHECK_ERRNO(syscall(SYS_pidfd_send_signal, fd, 65, 0, 0), EINVAL);
        CHECK(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, 0, 0) == 0);
        int status = wait_status(pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
        CHECK_ERRNO(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, 0, 0), ESRCH);
        close(fd);
    }
    CHECK_ERRNO(syscall(SYS_pidfd_send_signal, 0, SIGUSR1, 0, 0), EBADF);
    /* A process of another user's is none of one's own. */
    int fd = syscall(SYS_pidfd_open, getpid(), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(65534) || setuid(65534)) _exit(2);
        _exit(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, 0, 0) == -1 && errno == EPERM ? 0 : 1);
    }
    CHECK(wait_status(pid) == 0);
}
