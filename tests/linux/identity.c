/* Users, groups, and what /proc and uname tell. */
#include "check.h"
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

CASE(changing_users_is_one_way, "setuid(2)")
{
    if (getuid() != 0) return;
    gid_t groups[] = { 5, 6 }, got[8];
    CHECK(setgroups(2, groups) == 0 && getgroups(8, got) == 2 && got[1] == 6);
    CHECK(setresgid(10, 11, 12) == 0 && setresuid(1, 2, 3) == 0);
    uid_t r, e, s;
    CHECK(getresuid(&r, &e, &s) == 0 && r == 1 && e == 2 && s == 3 && getegid() == 11);
    CHECK(seteuid(3) == 0 && geteuid() == 3);
    CHECK_ERRNO(setuid(0), EPERM);
    CHECK_ERRNO(setgroups(0, 0), EPERM);
}

CASE(uname_and_sysinfo, "uname(2)")
{
    struct utsname u;
    CHECK(uname(&u) == 0 && !strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64") && u.release[0] >= '4');
    struct sysinfo i;
    CHECK(sysinfo(&i) == 0 && i.totalram > 0 && i.procs >= 1);
}

static size_t slurp(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    size_t n = 0;
    ssize_t r;
    while (n < size - 1 && (r = read(fd, text + n, size - 1 - n)) > 0) n += r;
    text[n] = 0;
    close(fd);
    return n;
}

CASE(proc_tells_about_this_process, "proc(5)")
{
    static char text[65536];
    int pid;
    char name[64];
    CHECK(slurp("/proc/self/stat", text, sizeof text) && sscanf(text, "%d (%63[^)])", &pid, name) == 2 && pid == getpid());
    CHECK(slurp("/proc/self/status", text, sizeof text) && strstr(text, "Pid:\t") && strstr(text, "VmRSS:"));
    CHECK(slurp("/proc/self/maps", text, sizeof text) && strstr(text, "r-xp") && strstr(text, "[stack]"));
    CHECK(slurp("/proc/self/cmdline", text, sizeof text) > 3);
    CHECK(readlink("/proc/self/exe", text, sizeof text) > 0);
    CHECK(slurp("/proc/meminfo", text, sizeof text) && strstr(text, "MemTotal:") && strstr(text, "MemAvailable:"));
    CHECK(slurp("/proc/cpuinfo", text, sizeof text) && strstr(text, "processor"));
    CHECK(slurp("/proc/stat", text, sizeof text) && strstr(text, "cpu "));
    CHECK(slurp("/proc/mounts", text, sizeof text) && strstr(text, " / "));
    CHECK(slurp("/proc/uptime", text, sizeof text) && slurp("/proc/loadavg", text, sizeof text));
    CHECK_ERRNO(open("/proc/999999/stat", O_RDONLY), ENOENT);
    char path[64];
    int fd = open("/dev/null", O_RDONLY);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, text, sizeof text);
    CHECK(n == 9 && !memcmp(text, "/dev/null", 9));
}

CASE(names_of_threads, "prctl(2)")
{
    char name[16];
    CHECK(prctl(PR_SET_NAME, "a name") == 0 && prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "a name"));
    CHECK_ERRNO(prctl(12345), EINVAL);
}

CASE(scheduling_names_threads_that_are, "sched_setscheduler(2)")
{
    struct sched_param p = { 7 };
    cpu_set_t set;
    CHECK(sched_getscheduler(0) == SCHED_OTHER && sched_getscheduler(getpid()) == SCHED_OTHER);
    CHECK(sched_getparam(0, &p) == 0 && p.sched_priority == 0);
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1 && sched_setaffinity(0, sizeof set, &set) == 0);
    CHECK_ERRNO(sched_getscheduler(-1), EINVAL);
    CHECK_ERRNO(sched_getparam(-1, &p), EINVAL);
    CHECK_ERRNO(sched_setscheduler(-1, SCHED_OTHER, &p), EINVAL);
    CHECK(sched_setparam(0, &p) == 0);
    CHECK_ERRNO(sched_setparam(-1, &p), EINVAL);
    CHECK_ERRNO(sched_setparam(0, 0), EINVAL);
    CHECK_ERRNO(sched_setparam(4000000, &p), ESRCH);
    CHECK_ERRNO(sched_getscheduler(4000000), ESRCH);
    CHECK_ERRNO(sched_getaffinity(-1, sizeof set, &set), ESRCH);
    CHECK_ERRNO(sched_setaffinity(-1, sizeof set, &set), ESRCH);
}
