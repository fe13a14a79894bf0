/* What may be run, and with what: files that are written or run, scripts that name scripts, long arguments, limits of CPU time. */
#include "check.h"
#include <grp.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define SELF "/proc/self/exe"
static char *const ENVIRONMENT[] = { 0 };

/* A copy of this program under a name. Only children have it open for writing: none is left that could inherit that. */
static void copy_self(const char *path)
{
    unlink(path);
    pid_t pid = fork();
    if (pid == 0) {
        int in = open(SELF, O_RDONLY), out = open(path, O_WRONLY | O_CREAT | O_EXCL, 0755);
        if (in < 0 || out < 0 || fchmod(out, 0755)) _exit(1);
        char buffer[65536];
        ssize_t count;
        while ((count = read(in, buffer, sizeof buffer)) > 0)
            if (write(out, buffer, count) != count) _exit(2);
        _exit(count != 0);
    }
    CHECK(wait_status(pid) == 0);
}

static void write_file(const char *path, const char *text, size_t length, mode_t mode)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
    CHECK(fd >= 0 && write(fd, text, length) == (ssize_t)length && fchmod(fd, mode) == 0 && close(fd) == 0);
}

/* Runs a program in a child; its exit status, or 256 more than the errno of execve(2): one that succeeded by mistake would end the case well. */
static int run_with(const char *path, char *const argv[], char *const environment[])
{
    int tell[2];
    CHECK(pipe2(tell, O_CLOEXEC) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execve(path, argv, environment);
        char error = errno;
        write(tell[1], &error, 1);
        _exit(1);
    }
    close(tell[1]);
    char error = 0;
    ssize_t count = read(tell[0], &error, 1);
    close(tell[0]);
    int status = wait_status(pid);
    return count == 1 ? 256 + error : WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

static int run(const char *path, char *const argv[]) { return run_with(path, argv, ENVIRONMENT); }

static char *const QUICK[] = { "exec", "quickly_over", 0 };
CASE(quickly_over, "execve(2)") { }
/* Waits for its standard input to end; or a child of its does. */
CASE(held, "execve(2)")
{
    if (!getenv("HELD")) return;
    if (getenv("HELD")[0] == 'f' && fork() > 0) return;
    char byte;
    while (read(0, &byte, 1) > 0) ;
}

/* A copy that runs until the returned descriptor is closed. */
static pid_t hold(const char *path, char *how, int *gate)
{
    int in[2], out[2];
    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(open("/dev/null", O_WRONLY), 1);
        execve(path, (char *[]){ "exec", "held", 0 }, (char *[]){ how, 0 });
        _exit(1);
    }
    close(in[0]);
    /* The end of execve(2) closes the child's end. */
    close(out[1]);
    char byte;
    CHECK(read(out[0], &byte, 1) == 0);
    close(out[0]);
    *gate = in[1];
    return pid;
}

CASE(what_runs_is_not_opened_for_writing, "open(2) ETXTBSY")
{
    const char *path = "/tmp/runs";
    copy_self(path);
    int gate;
    pid_t pid = hold(path, "HELD=self", &gate);
    CHECK_ERRNO(open(path, O_WRONLY), ETXTBSY);
    CHECK_ERRNO(open(path, O_RDWR), ETXTBSY);
    CHECK_ERRNO(open(path, O_RDONLY | O_TRUNC), ETXTBSY);
    CHECK_ERRNO(creat(path, 0755), ETXTBSY);
    CHECK_ERRNO(truncate(path, 0), ETXTBSY);
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && close(fd) == 0);
    /* Whatever changes no contents is allowed: its name, its owner, its mode. */
    CHECK(chmod(path, 0700) == 0 && rename(path, "/tmp/renamed") == 0 && rename("/tmp/renamed", path) == 0);
    close(gate);
    CHECK(waitid(P_PID, pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT) == 0);
    /* It is over, though nobody has waited. */
    fd = open(path, O_WRONLY);
    CHECK(fd >= 0);
    CHECK(wait_status(pid) == 0);
    close(fd);
    unlink(path);
}

CASE(a_fork_runs_its_program_too, "open(2) ETXTBSY")
{
    const char *path = "/tmp/forked";
    copy_self(path);
    int gate;
    CHECK(wait_status(hold(path, "HELD=forked", &gate)) == 0);
    CHECK_ERRNO(open(path, O_WRONLY), ETXTBSY);
    close(gate);
    /* The child that is left is nobody's here to wait for. */
    int fd;
    while ((fd = open(path, O_WRONLY)) < 0) {
        sleep_ms(5);
    }
    unlink(path);
}

CASE(what_is_written_is_not_run, "execve(2) ETXTBSY")
{
    const char *path = "/tmp/written";
    copy_self(path);
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0);
    CHECK(run(path, QUICK) == 256 + ETXTBSY);
    int twin = dup(fd);
    close(fd);
    CHECK(run(path, QUICK) == 256 + ETXTBSY);
    close(twin);
    CHECK(run(path, QUICK) == 0);
    /* Reading it, or having its name, keeps nobody. */
    fd = open(path, O_RDONLY);
    twin = open(path, O_PATH);
    CHECK(fd >= 0 && twin >= 0 && run(path, QUICK) == 0);
    unlink(path);
}

CASE(a_script_that_is_written_is_not_run_but_one_that_runs_is_written, "execve(2) ETXTBSY")
{
    const char *path = "/tmp/script";
    copy_self("/tmp/reader");
    write_file(path, "#!/tmp/reader held\n", 19, 0755);
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0);
    CHECK(run(path, QUICK) == 256 + ETXTBSY);
    close(fd);
    int gate;
    pid_t pid = hold(path, "HELD=self", &gate);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    CHECK_ERRNO(open("/tmp/reader", O_RDWR), ETXTBSY);
    close(gate);
    CHECK(wait_status(pid) == 0);
    unlink(path);
    unlink("/tmp/reader");
}

CASE(a_memory_file_runs_while_its_first_descriptor_is_open, "memfd_create(2), fexecve(3)")
{
    int fd = memfd_create("program", MFD_CLOEXEC), in = open(SELF, O_RDONLY);
    struct stat own;
    CHECK(fd >= 0 && in >= 0 && fstat(in, &own) == 0);
    for (off_t left = own.st_size; left > 0;) {
        static char buffer[65536];
        ssize_t count = read(in, buffer, sizeof buffer);
        CHECK(count > 0 && write(fd, buffer, count) == count);
        left -= count;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), 1);
        syscall(SYS_execveat, fd, "", QUICK, ENVIRONMENT, AT_EMPTY_PATH);
        _exit(99);
    }
    CHECK(wait_status(pid) == 0);
    char name[32];
    sprintf(name, "/proc/self/fd/%d", fd);
    int again = open(name, O_RDWR);
    CHECK(again >= 0);
    CHECK_ERRNO(syscall(SYS_execveat, fd, "", QUICK, ENVIRONMENT, AT_EMPTY_PATH), ETXTBSY);
}

/* Scripts /tmp/s1 ... /tmp/sN, each read by the one before; the last names a program. */
static void make_scripts(int count, const char *last)
{
    for (int i = 1; i <= count; i++) {
        char path[32], text[64];
        sprintf(path, "/tmp/s%d", i);
        if (i == count) sprintf(text, "#!%s\n", last);
        else sprintf(text, "#!/tmp/s%d\n", i + 1);
        write_file(path, text, strlen(text), 0755);
    }
}

CASE(scripts_name_scripts_five_deep, "execve(2), \"Interpreter scripts\"")
{
    char *argv[] = { "s", "quickly_over", 0 };
    copy_self("/tmp/reader");
    for (int depth = 1; depth <= 5; depth++) {
        make_scripts(depth, "/tmp/reader");
        CHECK(run("/tmp/s1", argv) == 0);
    }
    make_scripts(6, "/tmp/reader");
    CHECK(run("/tmp/s1", argv) == 256 + ELOOP);
    make_scripts(5, "/tmp/nowhere");
    CHECK(run("/tmp/s1", argv) == 256 + ENOENT);
    /* The sixth is looked for before it is one too many. */
    make_scripts(6, "/tmp/nowhere");
    CHECK(run("/tmp/s1", argv) == 256 + ENOENT);
    make_scripts(1, "/tmp/s1");
    CHECK(run("/tmp/s1", argv) == 256 + ELOOP);
    unlink("/tmp/reader");
}

/* Prints its arguments where it was told to. */
CASE(arguments_are_told, "execve(2)")
{
    if (!getenv("TOLD")) return;
    char buffer[4096];
    int in = open("/proc/self/cmdline", O_RDONLY), out = open("/tmp/told", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    write(out, buffer, read(in, buffer, sizeof buffer));
}

static void check_line(const char *text, size_t length, const char *expected, size_t expected_length)
{
    write_file("/tmp/line", text, length, 0755);
    unlink("/tmp/told");
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), 1);
        execve("/tmp/line", (char *[]){ "line", "last", 0 }, (char *[]){ "TOLD=1", 0 });
        _exit(errno);
    }
    int status = wait_status(pid);
    if (!expected) { CHECK(WEXITSTATUS(status) == expected_length); return; }
    char told[4096];
    int fd = open("/tmp/told", O_RDONLY);
    CHECK(fd >= 0);
    ssize_t count = read(fd, told, sizeof told);
    CHECK(count == (ssize_t)expected_length && memcmp(told, expected, expected_length) == 0);
    close(fd);
}
#define LINE(text, expected) check_line(text, sizeof text - 1, expected, sizeof expected)
#define LINE_ERROR(text, error) check_line(text, sizeof text - 1, 0, error)

CASE(the_line_of_a_script, "execve(2), \"Interpreter scripts\"")
{
    copy_self("/tmp/reader");
    LINE("#!/tmp/reader arguments_are_told\n", "/tmp/reader\0arguments_are_told\0/tmp/line\0last");
    LINE("#! \t/tmp/reader\targuments_are_told \t\nmore\n", "/tmp/reader\0arguments_are_told\0/tmp/line\0last");
    LINE("#!/tmp/reader arguments_are_told", "/tmp/reader\0arguments_are_told\0/tmp/line\0last");
    LINE("#!/tmp/reader arguments_are_told\0x\n", "/tmp/reader\0arguments_are_told\0/tmp/line\0last");
    LINE_ERROR("#!/tmp/reader\r\n", ENOENT);
    LINE_ERROR("#!\n/tmp/reader\n", ENOEXEC);
    LINE_ERROR("#!   \n", ENOEXEC);
    LINE_ERROR("#!/tmp\n", EACCES);
    char cut[300];
    memset(cut, 'a', sizeof cut);
    memcpy(cut, "#!/", 3);
    check_line(cut, sizeof cut, 0, ENOEXEC);
    unlink("/tmp/line");
    unlink("/tmp/told");
    unlink("/tmp/reader");
}

static char *filled(size_t length)
{
    char *text = malloc(length + 1);
    memset(text, 'x', length);
    text[length] = 0;
    return text;
}

CASE(one_argument_is_at_most_128_kibibytes, "execve(2), \"Limits on size of arguments and environment\"")
{
    char *longest = filled(131071), *longer = filled(131072);
    char *argv[] = { "exec", "quickly_over", longest, 0 };
    CHECK(run(SELF, argv) == 0);
    argv[2] = longer;
    CHECK(run(SELF, argv) == 256 + E2BIG);
    argv[2] = 0;
    CHECK(run_with(SELF, argv, (char *[]){ longer, 0 }) == 256 + E2BIG);
}

CASE(all_arguments_are_at_most_a_quarter_of_the_stack, "execve(2), \"Limits on size of arguments and environment\"")
{
    char *piece = filled(100000), *argv[80] = { "exec", "quickly_over" };
    struct rlimit stack = { 4 << 20, RLIM_INFINITY };
    CHECK(setrlimit(RLIMIT_STACK, &stack) == 0);
    for (int i = 2; i < 12; i++) argv[i] = piece;
    CHECK(run(SELF, argv) == 0);
    argv[12] = piece;
    CHECK(run(SELF, argv) == 256 + E2BIG);
    /* Pointers count too. */
    static char *many[140000];
    for (int i = 0; i < 139999; i++) many[i] = "";
    CHECK(run(SELF, many) == 256 + E2BIG);
    /* A short stack has room for 128 KiB, a long one for 6 MiB. */
    stack.rlim_cur = 256 << 10;
    CHECK(setrlimit(RLIMIT_STACK, &stack) == 0);
    argv[3] = 0;
    CHECK(run(SELF, argv) == 0);
    argv[3] = piece;
    argv[4] = 0;
    CHECK(run(SELF, argv) == 256 + E2BIG);
    stack.rlim_cur = RLIM_INFINITY;
    CHECK(setrlimit(RLIMIT_STACK, &stack) == 0);
    for (int i = 2; i < 64; i++) argv[i] = piece;
    CHECK(run(SELF, argv) == 0);
    argv[64] = piece;
    CHECK(run(SELF, argv) == 256 + E2BIG);
}

/* Does something as another user and group, and tells how that went. */
static int as_user(uid_t uid, gid_t gid, int (*act)(const char *), const char *path)
{
    pid_t pid = fork();
    if (pid == 0) _exit(setgroups(0, 0) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid) ? 99 : act(path));
    int status = wait_status(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}
static int act_write(const char *path) { int fd = open(path, O_WRONLY); return write(fd, "x", 1) != 1; }
static int act_nothing(const char *path) { int fd = open(path, O_WRONLY); return write(fd, "x", 0) != 0; }
static int act_append(const char *path) { int fd = open(path, O_WRONLY | O_APPEND); return write(fd, "x", 1) != 1; }
static int act_truncate(const char *path) { return truncate(path, 5); }
static int act_cut(const char *path) { return open(path, O_WRONLY | O_TRUNC) < 0; }
static int act_allocate(const char *path) { int fd = open(path, O_WRONLY); return fallocate(fd, 0, 0, 100); }
static int act_chown(const char *path) { return chown(path, -1, 500); }
static int act_chown_nothing(const char *path) { return chown(path, -1, -1); }
static int act_chmod(const char *path) { return chmod(path, 06755); }

static mode_t after(mode_t mode, gid_t group, uid_t uid, int (*act)(const char *))
{
    const char *path = "/tmp/set_ids";
    write_file(path, "0123456789", 10, 0600);
    CHECK(chown(path, 500, group) == 0 && chmod(path, mode) == 0);
    CHECK(as_user(uid, uid, act, path) == 0);
    struct stat stat_of;
    CHECK(stat(path, &stat_of) == 0);
    unlink(path);
    return stat_of.st_mode & 07777;
}

CASE(a_write_takes_set_user_id_and_set_group_id, "write(2), chown(2), inode(7)")
{
    int (*const changes[])(const char *) = { act_write, act_append, act_truncate, act_cut, act_allocate };
    for (int i = 0; i < 5; i++) {
        CHECK(after(06755, 500, 500, changes[i]) == 0755);
        /* Set-group-ID without the group's execution stands for something else; it stays with members. */
        CHECK(after(06644, 500, 500, changes[i]) == 02644);
        CHECK(after(06666, 0, 500, changes[i]) == 0666);
        CHECK(after(06777, 500, 77, changes[i]) == 0777);
        /* Who has CAP_FSETID takes nothing. */
        CHECK(after(06755, 500, 0, changes[i]) == 06755);
    }
    CHECK(after(06755, 500, 500, act_nothing) == 06755);
}

CASE(chown_takes_them_from_everybody, "chown(2)")
{
    int (*const changes[])(const char *) = { act_chown, act_chown_nothing };
    for (int i = 0; i < 2; i++) {
        CHECK(after(06755, 500, 500, changes[i]) == 0755);
        CHECK(after(06755, 500, 0, changes[i]) == 0755);
        CHECK(after(06644, 500, 0, changes[i]) == 02644);
        CHECK(after(06644, 0, 500, changes[i]) == 0644);
    }
    const char *path = "/tmp/set_directory";
    CHECK(mkdir(path, 0755) == 0 && chown(path, 500, 0) == 0 && chmod(path, 06755) == 0 && chown(path, 501, -1) == 0);
    struct stat stat_of;
    CHECK(stat(path, &stat_of) == 0 && (stat_of.st_mode & 07777) == 06755);
    /* Only a member gives set-group-ID, to directories as to files. */
    CHECK(as_user(501, 501, act_chmod, path) == 0);
    CHECK(stat(path, &stat_of) == 0 && (stat_of.st_mode & 07777) == 04755);
    rmdir(path);
    CHECK(after(0600, 0, 500, act_chmod) == 04755);
    CHECK(after(0600, 500, 500, act_chmod) == 06755);
}

static volatile sig_atomic_t warnings;
static void warned(int signo) { warnings++; }

static double cpu_time(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

CASE(cpu_time_has_a_limit_for_who_only_computes, "getrlimit(2) RLIMIT_CPU")
{
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGXCPU, warned);
        setrlimit(RLIMIT_CPU, &(struct rlimit){ 1, 3 });
        while (warnings < 2) ;
        struct rlimit now;
        getrlimit(RLIMIT_CPU, &now);
        if (now.rlim_cur != 3 || now.rlim_max != 3) _exit(1);
        for (;;) ;
    }
    int status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(cpu_time(RUSAGE_CHILDREN) >= 2);
}

CASE(a_child_has_its_parents_limit_and_its_own_time, "getrlimit(2) RLIMIT_CPU")
{
    pid_t pid = fork();
    if (pid == 0) {
        setrlimit(RLIMIT_CPU, &(struct rlimit){ 1, RLIM_INFINITY });
        pid_t child = fork();
        if (child == 0) for (;;) ;
        int status = wait_status(child);
        _exit(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU && cpu_time(RUSAGE_SELF) < 0.9));
    }
    CHECK(wait_status(pid) == 0);
}
