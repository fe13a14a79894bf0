/* Threads of the C library: creation, join, mutexes, condition variables, thread-local storage, exec and exit among threads. */
#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static long counter;
static __thread long mine;

static void *add(void *times)
{
    for (long i = 0; i < (long)times; i++) { pthread_mutex_lock(&lock); counter++; mine++; pthread_mutex_unlock(&lock); }
    return (void *)mine;
}
CASE(mutexes_exclude, "pthread_mutex_lock(3)")
{
    pthread_t t[8];
    for (int i = 0; i < 8; i++) CHECK(pthread_create(&t[i], 0, add, (void *)2000) == 0);
    for (int i = 0; i < 8; i++) { void *r; CHECK(pthread_join(t[i], &r) == 0 && (long)r == 2000); }
    CHECK(counter == 16000 && mine == 0);
}

static int player;
static void *play(void *me)
{
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        while (player != (int)(long)me) pthread_cond_wait(&turn, &lock);
        player = !player;
        pthread_cond_broadcast(&turn);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}
CASE(condition_variables_alternate, "pthread_cond_wait(3)")
{
    pthread_t a, b;
    CHECK(pthread_create(&a, 0, play, (void *)0) == 0 && pthread_create(&b, 0, play, (void *)1) == 0);
    CHECK(pthread_join(a, 0) == 0 && pthread_join(b, 0) == 0);
}

CASE(futex_errors_and_timeouts, "futex(2)")
{
    int word = 1;
    struct timespec t = { 0, 10000000 };
    CHECK_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT, 0, 0, 0, 0), EAGAIN);
    CHECK_ERRNO(syscall(SYS_futex, &word, FUTEX_WAIT, 1, &t, 0, 0), ETIMEDOUT);
    CHECK(syscall(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0) == 0);
    CHECK_ERRNO(syscall(SYS_futex, 8l, FUTEX_WAIT, 1, 0, 0, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_futex, (char *)&word + 1, FUTEX_WAIT, 1, 0, 0, 0), EINVAL);
}

CASE(a_shared_futex_crosses_processes, "futex(2)")
{
    int *word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0) syscall(SYS_futex, word, FUTEX_WAIT, 0, 0, 0, 0);
        _exit(*word);
    }
    sleep_ms(30);
    __atomic_store_n(word, 5, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0);
    CHECK(WEXITSTATUS(wait_status(pid)) == 5);
}

static void *wait_privately(void *word)
{
    return (void *)(long)(syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0) == 0);
}
CASE(private_and_shared_futexes_do_not_meet_in_shared_memory, "futex(2), FUTEX_PRIVATE_FLAG")
{
    int *word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(word != MAP_FAILED);
    pthread_t t;
    void *woken;
    CHECK(pthread_create(&t, 0, wait_privately, word) == 0);
    sleep_ms(50);
    CHECK(syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0) == 1);
    CHECK(pthread_join(t, &woken) == 0 && woken);
}

static void *forever(void *x) { for (;;) pause(); return x; }
static void *spin(void *x) { for (;;) __asm__ volatile(""); return x; }
CASE(exit_ends_all_threads, "exit_group(2)")
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t t;
        pthread_create(&t, 0, forever, 0); pthread_create(&t, 0, spin, 0);
        sleep_ms(10);
        _exit(9);
    }
    CHECK(WEXITSTATUS(wait_status(pid)) == 9);
}

static void *exec_it(void *x) { execl("/proc/self/exe", "threads", "no_such_case", (char *)0); return x; }
CASE(exec_from_a_thread_replaces_the_process, "execve(2)")
{
    pid_t pid = fork();
    if (pid == 0) {
        pthread_t t;
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        pthread_create(&t, 0, spin, 0); pthread_create(&t, 0, exec_it, 0);
        for (;;) pause();
    }
    CHECK(wait_status(pid) == 0);
}

CASE(fork_from_a_thread_copies_one, "fork(2)")
{
    pthread_t t;
    CHECK(pthread_create(&t, 0, forever, 0) == 0);
    pid_t pid = fork();
    if (pid == 0) { char *argv[] = { "threads", "no_such_case", 0 }; int null = open("/dev/null", O_WRONLY); dup2(null, 1); execv("/proc/self/exe", argv); _exit(1); }
    CHECK(wait_status(pid) == 0);
}

static void *count_to(void *x) { __atomic_fetch_add((long *)x, 1, __ATOMIC_SEQ_CST); return 0; }
CASE(many_threads_come_and_go, "pthread_create(3)")
{
    long n = 0;
    for (int round = 0; round < 20; round++) {
        pthread_t t[16];
        for (int i = 0; i < 16; i++) CHECK(pthread_create(&t[i], 0, count_to, &n) == 0);
        for (int i = 0; i < 16; i++) CHECK(pthread_join(t[i], 0) == 0);
    }
    CHECK(n == 320);
}

static volatile sig_atomic_t handled_by;
static void handled(int signal) { (void)signal; handled_by = (int)syscall(SYS_gettid); }
static void *signal_me(void *x) { sleep_ms(20); *(int *)x = (int)syscall(SYS_gettid); while (!handled_by) sleep_ms(1); return 0; }
CASE(signals_to_one_thread, "tgkill(2)")
{
    volatile int tid = 0;
    pthread_t t;
    signal(SIGUSR1, handled);
    CHECK(pthread_create(&t, 0, signal_me, (void *)&tid) == 0);
    while (!tid) sleep_ms(1);
    CHECK(syscall(SYS_tgkill, getpid(), tid, SIGUSR1) == 0 && pthread_join(t, 0) == 0 && handled_by == tid);
}

/* Reads a file of /proc whole, without the newline at its end. */
static void text_of(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t length = read(fd, text, size - 1);
    CHECK(length >= 0 && close(fd) == 0);
    if (length > 0 && text[length - 1] == '\n') length--;
    text[length] = 0;
}
static pid_t named_tid;
static void *be_named(void *ends)
{
    char go, text[64];
    CHECK(pthread_setname_np(pthread_self(), "worker") == 0);
    named_tid = gettid();
    CHECK(write(((int *)ends)[1], "x", 1) == 1 && read(((int *)ends)[2], &go, 1) == 1);
    text_of("/proc/thread-self/comm", text, sizeof text);
    CHECK(!strcmp(text, "renamed"));
    return 0;
}
CASE(every_thread_has_a_directory_with_its_own_name, "proc_pid_task(5), proc_pid_comm(5)")
{
    int ends[4];
    char go, path[64], text[4096], line[64];
    pthread_t t;
    CHECK(pipe(ends) == 0 && pipe(ends + 2) == 0);
    CHECK(pthread_setname_np(pthread_self(), "leader") == 0);
    CHECK(pthread_create(&t, 0, be_named, ends) == 0 && read(ends[0], &go, 1) == 1);
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", named_tid);
    text_of(path, text, sizeof text);
    CHECK(!strcmp(text, "worker"));
    text_of("/proc/self/comm", text, sizeof text);
    CHECK(!strcmp(text, "leader"));
    snprintf(path, sizeof path, "/proc/self/task/%d/status", named_tid);
    text_of(path, text, sizeof text);
    snprintf(line, sizeof line, "\nPid:\t%d\n", named_tid);
    CHECK(!strncmp(text, "Name:\tworker\n", 13) && strstr(text, line));
    snprintf(line, sizeof line, "\nTgid:\t%d\n", getpid());
    CHECK(strstr(text, line));
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", named_tid);
    text_of(path, text, sizeof text);
    snprintf(line, sizeof line, "%d (worker) ", named_tid);
    CHECK(!strncmp(text, line, strlen(line)));
    /* Another thread of the process may name it. */
    CHECK(pthread_setname_np(t, "renamed") == 0);
    CHECK(write(ends[3], "x", 1) == 1 && pthread_join(t, 0) == 0);
    text_of("/proc/self/comm", text, sizeof text);
    CHECK(!strcmp(text, "leader"));
    CHECK(access(path, F_OK) < 0 && errno == ENOENT);
}
