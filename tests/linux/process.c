/* Processes: fork, exec, exit, wait, process groups and sessions. */
#include "check.h"
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

CASE(exit_status_reaches_the_parent, "wait(2)")
{
    pid_t pid = fork();
    if (pid == 0) _exit(42);
    int status = wait_status(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    CHECK_ERRNO(waitpid(pid, 0, 0), ECHILD);
}

CASE(wait_any_and_wnohang, "wait(2)")
{
    CHECK_ERRNO(waitpid(-1, 0, WNOHANG), ECHILD);
    int gate[2];
    CHECK(pipe(gate) == 0);
    pid_t pid = fork();
    if (pid == 0) { char c; close(gate[1]); _exit(read(gate[0], &c, 1) == 0 ? 3 : 4); }
    int status;
    CHECK(waitpid(-1, &status, WNOHANG) == 0);
    close(gate[1]);
    CHECK(waitpid(-1, &status, 0) == pid && WEXITSTATUS(status) == 3);
}

CASE(waitid_tells_all, "waitid(2)")
{
    pid_t pid = fork();
    if (pid == 0) { kill(getpid(), SIGKILL); _exit(0); }
    siginfo_t info = { 0 };
    CHECK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT) == 0);
    CHECK(info.si_pid == pid && info.si_code == CLD_KILLED && info.si_status == SIGKILL && info.si_signo == SIGCHLD);
    CHECK(waitid(P_PID, pid, &info, WEXITED) == 0);
    CHECK_ERRNO(waitid(P_PID, pid, &info, WEXITED), ECHILD);
}

CASE(signal_death_is_reported, "wait(2)")
{
    pid_t pid = fork();
    if (pid == 0) { *(volatile int *)8 = 1; _exit(0); }
    int status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

CASE(fork_separates_memory, "fork(2)")
{
    static volatile int value = 1;
    volatile int *heap = malloc(1 << 20);
    for (int i = 0; i < 1 << 18; i += 1024) heap[i] = i;
    pid_t pid = fork();
    if (pid == 0) {
        value = 2;
        for (int i = 0; i < 1 << 18; i += 1024) { if (heap[i] != i) _exit(1); heap[i] = -1; }
        _exit(0);
    }
    int status = wait_status(pid);
    CHECK(status == 0 && value == 1);
    for (int i = 0; i < 1 << 18; i += 1024) CHECK(heap[i] == i);
}

CASE(fork_shares_file_offsets, "fork(2)")
{
    int fd = open("/tmp/offset", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, "abcdef", 6) == 6 && lseek(fd, 0, SEEK_SET) == 0);
    pid_t pid = fork();
    char c[3];
    if (pid == 0) _exit(read(fd, c, 3) == 3 ? 0 : 1);
    CHECK(wait_status(pid) == 0);
    CHECK(read(fd, c, 1) == 1 && c[0] == 'd');
    unlink("/tmp/offset");
}

CASE(vfork_waits_for_the_child, "vfork(2)")
{
    volatile int seen = 0;
    pid_t pid = vfork();
    if (pid == 0) { seen = 1; _exit(7); }
    CHECK(seen == 1);
    CHECK(WEXITSTATUS(wait_status(pid)) == 7);
}

static void nothing_done(int signo) { (void)signo; }

CASE(vfork_is_not_interrupted_by_signals, "vfork(2)")
{
    struct sigaction action = { .sa_handler = nothing_done };
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    for (int round = 0; round < 5; round++) {
        struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };
        CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
        pid_t pid = vfork();
        if (pid == 0) {
            struct timespec pause = { 0, 20 * 1000 * 1000 };
            nanosleep(&pause, NULL);
            _exit(7);
        }
        CHECK(pid > 0);
        CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
        int status = wait_status(pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
}

CASE(exec_errors, "execve(2)")
{
    char *argv[] = { "x", 0 }, *envp[] = { 0 };
    CHECK_ERRNO(execve("/nowhere", argv, envp), ENOENT);
    CHECK_ERRNO(execve("/tmp", argv, envp), EACCES);
    int fd = open("/tmp/plain", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0 && write(fd, "garbage\n", 8) == 8 && close(fd) == 0);
    CHECK_ERRNO(execve("/tmp/plain", argv, envp), EACCES);
    CHECK(chmod("/tmp/plain", 0755) == 0);
    CHECK_ERRNO(execve("/tmp/plain", argv, envp), ENOEXEC);
    CHECK_ERRNO(execve("/tmp/plain/x", argv, envp), ENOTDIR);
    CHECK_ERRNO(execve((char *)8, argv, envp), EFAULT);
    unlink("/tmp/plain");
}

CASE(exec_of_a_truncated_elf_is_refused, "execve(2)")
{
    char self[4096];
    int in = open("/proc/self/exe", O_RDONLY), out = open("/tmp/cut", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    CHECK(in >= 0 && out >= 0 && read(in, self, sizeof self) == sizeof self);
    CHECK(write(out, self, 70) == 70 && close(out) == 0);
    char *argv[] = { "cut", 0 }, *envp[] = { 0 };
    errno = 0;
    CHECK(execve("/tmp/cut", argv, envp) == -1);
    CHECK(execve("/tmp/cut", argv, envp) == -1 && (errno == ENOEXEC || errno == EIO || errno == EINVAL));
    unlink("/tmp/cut");
}

CASE(exec_passes_arguments_environment_and_descriptors, "execve(2)")
{
    int out[2];
    CHECK(pipe(out) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        char *argv[] = { "process", "--child", "two words", 0 }, *envp[] = { "KEY=value", 0 };
        execve("/proc/self/exe", argv, envp);
        _exit(99);
    }
    close(out[1]);
    char text[64] = "";
    size_t n = 0;
    ssize_t r;
    while (n < sizeof text - 1 && (r = read(out[0], text + n, sizeof text - 1 - n)) > 0) n += r;
    CHECK(wait_status(pid) == 0);
    CHECK(strcmp(text, "two words value") == 0);
}

__attribute__((constructor(101))) static void child_mode(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--child")) {
        dprintf(1, "%s %s", argv[2], getenv("KEY"));
        _exit(0);
    }
    if (argc == 3 && !strcmp(argv[1], "--about")) {
        char name[16];
        prctl(PR_GET_NAME, name);
        dprintf(1, "%s %s %d", name, (char *)getauxval(AT_EXECFN), geteuid());
        _exit(0);
    }
    if (argc == 2 && !strcmp(argv[1], "--fds")) {
        int open_count = 0;
        for (int fd = 3; fd < 64; fd++) if (fcntl(fd, F_GETFD) >= 0) open_count++;
        _exit(open_count);
    }
}

CASE(a_script_gives_its_name_and_not_its_rights, "execve(2)")
{
    int fd = open("/tmp/about", O_WRONLY | O_CREAT | O_TRUNC, 0755), out[2];
    CHECK(fd >= 0 && dprintf(fd, "#!/proc/self/exe --about\n") > 0);
    CHECK(fchown(fd, 1000, 1000) == 0 && fchmod(fd, 04755) == 0 && close(fd) == 0 && pipe(out) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        char *argv[] = { "other", 0 };
        execv("/tmp/about", argv);
        _exit(99);
    }
    close(out[1]);
    CHECK(wait_status(pid) == 0);
    char text[64] = "";
    CHECK(read(out[0], text, sizeof text - 1) > 0);
    CHECK(strcmp(text, "about /tmp/about 0") == 0);
}

CASE(exec_closes_cloexec_descriptors, "fcntl(2)")
{
    pid_t pid = fork();
    if (pid == 0) {
        for (int fd = 3; fd < 64; fd++) close(fd);
        open("/dev/null", O_RDONLY | O_CLOEXEC);
        open("/dev/null", O_RDONLY);
        char *argv[] = { "process", "--fds", 0 };
        execv("/proc/self/exe", argv);
        _exit(99);
    }
    CHECK(WEXITSTATUS(wait_status(pid)) == 1);
}

CASE(scripts_run_through_their_interpreter, "execve(2)")
{
    int fd = open("/tmp/script", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    CHECK(fd >= 0 && dprintf(fd, "#!/proc/self/exe --child\n") > 0 && close(fd) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = { "script", 0 }, *envp[] = { "KEY=value", 0 };
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execve("/tmp/script", argv, envp);
        _exit(99);
    }
    CHECK(wait_status(pid) == 0);
    unlink("/tmp/script");
    fd = open("/tmp/script2", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    CHECK(fd >= 0 && dprintf(fd, "#!/no/such/interpreter\n") > 0 && close(fd) == 0);
    char *argv[] = { "script", 0 }, *envp[] = { 0 };
    CHECK_ERRNO(execve("/tmp/script2", argv, envp), ENOENT);
    unlink("/tmp/script2");
}

CASE(process_groups_and_sessions, "setpgid(2)")
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setpgid(0, 0) || getpgrp() != getpid()) _exit(1);
        if (setsid() != -1 || errno != EPERM) _exit(2);
        pid_t inner = fork();
        if (inner == 0) {
            if (setsid() != getpid() || getsid(0) != getpid() || getpgrp() != getpid()) _exit(3);
            _exit(0);
        }
        _exit(WEXITSTATUS(wait_status(inner)));
    }
    CHECK(wait_status(pid) == 0);
}

CASE(orphans_get_a_new_parent, "fork(2)")
{
    int report[2];
    CHECK(pipe(report) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        pid_t parent = getpid();
        if (fork() == 0) {
            for (int i = 0; i < 200 && getppid() == parent; i++) sleep_ms(10);
            pid_t now = getppid();
            char ok = now != parent;
            if (write(report[1], &ok, 1) != 1) _exit(1);
            _exit(0);
        }
        _exit(0);
    }
    CHECK(wait_status(pid) == 0);
    char ok = 0;
    CHECK(read(report[0], &ok, 1) == 1 && ok);
}

CASE(many_children_at_once, "fork(2)")
{
    pid_t child[64];
    for (int i = 0; i < 64; i++) if ((child[i] = fork()) == 0) _exit(i);
    for (int i = 0; i < 64; i++) CHECK(WEXITSTATUS(wait_status(child[i])) == i);
}

CASE(a_long_chain_of_forks_and_execs, "fork(2)")
{
    for (int i = 0; i < 100; i++) {
        pid_t pid = fork();
        if (pid == 0) { char *argv[] = { "process", "--fds", 0 }; for (int fd = 3; fd < 64; fd++) close(fd); execv("/proc/self/exe", argv); _exit(99); }
        CHECK(wait_status(pid) == 0);
    }
}

CASE(rlimits_are_kept_and_bounded, "getrlimit(2)")
{
    struct rlimit l;
    CHECK(getrlimit(RLIMIT_NOFILE, &l) == 0);
    l.rlim_cur = 16;
    CHECK(setrlimit(RLIMIT_NOFILE, &l) == 0);
    int last = -1, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0) last = fd;
    CHECK(errno == EMFILE || last == 15);
    CHECK(last == 15);
    l.rlim_cur = l.rlim_max + 1;
    if (l.rlim_cur > l.rlim_max) CHECK_ERRNO(setrlimit(RLIMIT_NOFILE, &l), EINVAL);
}

/* The line of a key in a file of /proc, behind the key. */
static const char *line_of(const char *path, const char *key)
{
    static char text[8192];
    int fd = open(path, O_RDONLY);
    ssize_t count = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    if (count <= 0) return "";
    text[count] = 0;
    char *found = strstr(text, key);
    if (!found) return "";
    found += strlen(key);
    found[strcspn(found, "\n")] = 0;
    return found;
}

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0) return -1;
    int result = write(fd, text, strlen(text)), kept = errno;
    close(fd);
    errno = kept;
    return result;
}

CASE(what_is_written_to_proc_is_kept, "proc(5): comm, oom_score_adj")
{
    char name[17] = { 0 };
    CHECK(put("/proc/self/comm", "a name that is too long\n") == 24);
    CHECK(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "a name that is "));
    CHECK(put("/proc/self/oom_score_adj", "300\n") == 4 && !strcmp(line_of("/proc/self/oom_score_adj", ""), "300"));
    CHECK(put("/proc/self/oom_score_adj", "0") == 1 && put("/proc/self/oom_score_adj", "300") == 3);
    CHECK_ERRNO(put("/proc/self/oom_score_adj", "1001"), EINVAL);
    CHECK_ERRNO(put("/proc/self/oom_score_adj", "much"), EINVAL);
    pid_t child = fork();
    if (child == 0) _exit(strcmp(line_of("/proc/self/oom_score_adj", ""), "300") != 0);
    CHECK(wait_status(child) == 0);
    CHECK(put("/proc/self/stat", "1") == -1);
}

CASE(status_tells_the_umask, "proc(5): status")
{
    umask(027);
    CHECK(!strcmp(line_of("/proc/self/status", "\nUmask:\t"), "0027"));
}

CASE(priorities_of_groups_and_users, "getpriority(2)")
{
    int p[2];
    CHECK(setpgid(0, 0) == 0 && pipe(p) == 0);
    pid_t child = fork();
    if (child == 0) { char c; close(p[1]); read(p[0], &c, 1); _exit(getpriority(PRIO_PROCESS, 0) != 5); }
    CHECK(setpriority(PRIO_PROCESS, child, 3) == 0 && getpriority(PRIO_PGRP, 0) == 0);
    CHECK(setpriority(PRIO_PGRP, 0, 5) == 0 && getpriority(PRIO_PROCESS, child) == 5 && getpriority(PRIO_PROCESS, 0) == 5);
    CHECK(getpriority(PRIO_PGRP, getpid()) == 5);
    CHECK_ERRNO(getpriority(PRIO_PGRP, 0x7ffffff), ESRCH);
    CHECK_ERRNO(setpriority(PRIO_USER, 4000000, 0), ESRCH);
    CHECK_ERRNO(getpriority(3, 0), EINVAL);
    close(p[1]);
    CHECK(wait_status(child) == 0);
}

CASE(a_file_of_proc_is_written_anew_for_every_reader_at_its_beginning, "proc(5)")
{
    char text[64];
    int fd = open("/proc/self/comm", O_RDONLY);
    CHECK(prctl(PR_SET_NAME, "first") == 0 && pread(fd, text, 64, 0) == 6 && !memcmp(text, "first\n", 6));
    CHECK(prctl(PR_SET_NAME, "second") == 0 && pread(fd, text, 64, 0) == 7 && !memcmp(text, "second\n", 7));
    CHECK(prctl(PR_SET_NAME, "3") == 0 && read(fd, text, 64) == 2 && read(fd, text, 64) == 0);
    CHECK(prctl(PR_SET_NAME, "fourth") == 0 && lseek(fd, 0, SEEK_SET) == 0 && read(fd, text, 64) == 7 && !memcmp(text, "fourth\n", 7));
}
