/* Files and directories: open flags, rename, links, permissions, sparse files, directory reading. */
#include "check.h"
#include <sys/resource.h>
#include <dirent.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static void fresh(const char *dir)
{
    char command[256];
    snprintf(command, sizeof command, "%s", dir);
    CHECK(mkdir(command, 0755) == 0 && chdir(command) == 0);
}
static void put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}
static int holds(const char *name, const char *text)
{
    char buffer[4096] = "";
    int fd = open(name, O_RDONLY);
    if (fd < 0) return 0;
    ssize_t n = read(fd, buffer, sizeof buffer - 1);
    close(fd);
    return n == (ssize_t)strlen(text) && !memcmp(buffer, text, n);
}

CASE(open_flags, "open(2)")
{
    fresh("/tmp/open_flags");
    CHECK_ERRNO(open("f", O_RDONLY), ENOENT);
    put("f", "hello");
    CHECK_ERRNO(open("f", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
    CHECK_ERRNO(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO(open(".", O_WRONLY), EISDIR);
    CHECK_ERRNO(open("f/x", O_RDONLY), ENOTDIR);
    CHECK(symlink("f", "s") == 0);
    CHECK_ERRNO(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
    int fd = open("f", O_WRONLY | O_APPEND);
    CHECK(fd >= 0 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "!", 1) == 1);
    CHECK(holds("f", "hello!"));
    char c;
    CHECK_ERRNO(read(fd, &c, 1), EBADF);
    CHECK(symlink("loop", "loop") == 0);
    CHECK_ERRNO(open("loop", O_RDONLY), ELOOP);
    char name[300];
    memset(name, 'n', 299); name[299] = 0;
    CHECK_ERRNO(open(name, O_RDONLY), ENAMETOOLONG);
    CHECK_ERRNO(open("", O_RDONLY), ENOENT);
    CHECK_ERRNO(open("f/", O_RDONLY), ENOTDIR);
}

CASE(rename_rules, "rename(2)")
{
    fresh("/tmp/rename_rules");
    put("a", "A"); put("b", "B");
    CHECK(rename("a", "b") == 0 && holds("b", "A"));
    CHECK_ERRNO(rename("a", "c"), ENOENT);
    CHECK(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0);
    CHECK_ERRNO(rename("b", "d"), EISDIR);
    CHECK_ERRNO(rename("d", "b"), ENOTDIR);
    CHECK_ERRNO(rename("d", "d/x"), EINVAL);
    put("e/f", "x");
    CHECK_ERRNO(rename("d", "e"), ENOTEMPTY);
    CHECK(unlink("e/f") == 0 && rename("d", "e") == 0);
    CHECK_ERRNO(rename("d", "z"), ENOENT);
    put("p", "P"); put("q", "Q");
    CHECK_ERRNO(renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_NOREPLACE), EEXIST);
    CHECK(renameat2(AT_FDCWD, "p", AT_FDCWD, "q", RENAME_EXCHANGE) == 0 && holds("p", "Q") && holds("q", "P"));
}

CASE(hard_links_and_unlinked_files, "link(2)")
{
    fresh("/tmp/hard_links");
    put("a", "one");
    struct stat s, t;
    CHECK(link("a", "b") == 0 && stat("a", &s) == 0 && stat("b", &t) == 0);
    CHECK(s.st_ino == t.st_ino && s.st_nlink == 2);
    CHECK_ERRNO(link("a", "b"), EEXIST);
    CHECK_ERRNO(link(".", "dir"), EPERM);
    int fd = open("a", O_RDWR);
    CHECK(unlink("a") == 0 && unlink("b") == 0 && fstat(fd, &s) == 0 && s.st_nlink == 0);
    CHECK(write(fd, "two!", 4) == 4);
    char c[4];
    CHECK(pread(fd, c, 4, 0) == 4 && !memcmp(c, "two!", 4));
}

CASE(directories, "rmdir(2)")
{
    fresh("/tmp/directories");
    CHECK(mkdir("d", 0755) == 0);
    CHECK_ERRNO(mkdir("d", 0755), EEXIST);
    CHECK_ERRNO(mkdir("x/y", 0755), ENOENT);
    put("d/f", "");
    CHECK_ERRNO(rmdir("d"), ENOTEMPTY);
    CHECK_ERRNO(unlink("d"), EISDIR);
    CHECK_ERRNO(rmdir("d/f"), ENOTDIR);
    CHECK(unlink("d/f") == 0 && rmdir("d") == 0);
    CHECK_ERRNO(rmdir("."), EINVAL);
    struct stat s;
    CHECK(mkdir("n", 0755) == 0 && mkdir("n/m", 0755) == 0 && stat("n", &s) == 0);
    CHECK(s.st_nlink == 3 || s.st_nlink == 1);
}

CASE(reading_a_large_directory, "getdents(2)")
{
    fresh("/tmp/large");
    for (int i = 0; i < 1000; i++) { char n[16]; snprintf(n, sizeof n, "f%d", i); put(n, ""); }
    char seen[1000] = { 0 };
    DIR *d = opendir(".");
    struct dirent *e;
    int total = 0, half = 0;
    long place = 0;
    while ((e = readdir(d))) {
        if (e->d_name[0] != 'f') continue;
        int i = atoi(e->d_name + 1);
        CHECK(i >= 0 && i < 1000 && !seen[i]);
        seen[i] = 1;
        /* Entries may go while the directory is read; none of the others may be missed. */
        CHECK(unlink(e->d_name) == 0);
        if (++total == 500) place = telldir(d);
    }
    CHECK(total == 1000 && place != 0);
    rewinddir(d);
    while ((e = readdir(d))) half++;
    CHECK(half == 2);
}

CASE(sparse_files, "lseek(2)")
{
    fresh("/tmp/sparse");
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    CHECK(pwrite(fd, "x", 1, 1 << 20) == 1);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && s.st_size == (1 << 20) + 1 && s.st_blocks * 512 < 1 << 19);
    char c = 1;
    CHECK(pread(fd, &c, 1, 4096) == 1 && c == 0);
    CHECK(lseek(fd, 0, SEEK_DATA) == 1 << 20 && lseek(fd, 0, SEEK_HOLE) == 0);
    CHECK(ftruncate(fd, 10) == 0 && fstat(fd, &s) == 0 && s.st_size == 10);
    CHECK(pread(fd, &c, 1, 10) == 0);
    CHECK_ERRNO(lseek(fd, -1, SEEK_SET), EINVAL);
    CHECK(ftruncate(fd, 5000) == 0 && pread(fd, &c, 1, 4999) == 1 && c == 0);
    CHECK_ERRNO(ftruncate(fd, -1), EINVAL);
}

CASE(holes_of_any_size, "lseek(2)")
{
    fresh("/tmp/holes");
    off_t size = 1ll << 60;
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    CHECK(ftruncate(fd, size) == 0 && lseek(fd, 0, SEEK_HOLE) == 0);
    CHECK_ERRNO(lseek(fd, 0, SEEK_DATA), ENXIO);
    CHECK(pwrite(fd, "x", 1, 1 << 20) == 1 && pwrite(fd, "y", 1, size - 4096) == 1);
    CHECK(lseek(fd, 0, SEEK_DATA) == 1 << 20 && lseek(fd, 1 << 20, SEEK_HOLE) == (1 << 20) + 4096);
    CHECK(lseek(fd, (1 << 20) + 5, SEEK_DATA) == (1 << 20) + 5 && lseek(fd, 2 << 20, SEEK_DATA) == size - 4096);
    CHECK(lseek(fd, size - 4096, SEEK_HOLE) == size);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, size - 4096) == 0);
    char c = 1;
    CHECK(lseek(fd, 0, SEEK_DATA) == size - 4096 && pread(fd, &c, 1, 1 << 20) == 1 && c == 0);
    CHECK(pread(fd, &c, 1, size - 4096) == 1 && c == 0);
}

CASE(vectors, "readv(2)")
{
    fresh("/tmp/vectors");
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    struct iovec out[3] = { { "ab", 2 }, { "", 0 }, { "cde", 3 } };
    CHECK(writev(fd, out, 3) == 5);
    char x[1], y[9];
    struct iovec in[2] = { { x, 1 }, { y, 9 } };
    CHECK(preadv(fd, in, 2, 0) == 5 && x[0] == 'a' && !memcmp(y, "bcde", 4));
    CHECK_ERRNO(writev(fd, out, -1), EINVAL);
    CHECK_ERRNO(write(fd, (void *)16, 4), EFAULT);
    CHECK_ERRNO(read(fd, (void *)0xffff800000000000ul, 4) == 0 ? 0 : pread(fd, (void *)0xffff800000200000ul, 4, 0), EFAULT);
}

CASE(permissions_of_an_ordinary_user, "chmod(2)")
{
    fresh("/tmp/permissions");
    CHECK(chmod(".", 0755) == 0);
    put("secret", "x"); put("open", "y");
    CHECK(chmod("secret", 0600) == 0 && chmod("open", 0644) == 0);
    CHECK(mkdir("sticky", 0777) == 0 && chmod("sticky", 01777) == 0);
    put("sticky/root", "z");
    if (getuid() != 0) return;
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(1000) || setuid(1000)) _exit(1);
        if (open("secret", O_RDONLY) != -1 || errno != EACCES) _exit(2);
        if (open("open", O_RDONLY) < 0) _exit(3);
        if (open("open", O_WRONLY) != -1 || errno != EACCES) _exit(4);
        if (open("new", O_WRONLY | O_CREAT, 0644) != -1 || errno != EACCES) _exit(5);
        if (unlink("sticky/root") != -1 || (errno != EPERM && errno != EACCES)) _exit(6);
        if (chmod("open", 0777) != -1 || errno != EPERM) _exit(7);
        if (chown("open", 1000, 1000) != -1 || errno != EPERM) _exit(8);
        if (setuid(0) != -1 || errno != EPERM) _exit(9);
        if (access("secret", R_OK) != -1 || errno != EACCES) _exit(10);
        _exit(0);
    }
    CHECK(wait_status(pid) == 0);
}

CASE(umask_and_times, "umask(2)")
{
    fresh("/tmp/umask_times");
    umask(027);
    int fd = open("f", O_WRONLY | O_CREAT, 0666);
    struct stat s;
    CHECK(fstat(fd, &s) == 0 && (s.st_mode & 0777) == 0640);
    struct timespec t[2] = { { 1000, 5 }, { 2000, 7 } };
    CHECK(futimens(fd, t) == 0 && fstat(fd, &s) == 0);
    CHECK(s.st_atim.tv_sec == 1000 && s.st_mtim.tv_sec == 2000 && s.st_mtim.tv_nsec == 7);
    CHECK(write(fd, "x", 1) == 1 && fstat(fd, &s) == 0 && s.st_mtim.tv_sec > 2000);
}

CASE(symbolic_links, "symlink(7)")
{
    fresh("/tmp/symlinks");
    CHECK(mkdir("d", 0755) == 0 && symlink("d", "s") == 0 && symlink("../../symlinks/d/f", "d/up") == 0);
    put("s/f", "text");
    CHECK(holds("d/f", "text") && holds("d/up", "text"));
    char target[32];
    CHECK(readlink("d/up", target, sizeof target) == 18 && !memcmp(target, "../../symlinks/d/f", 18));
    CHECK(readlink("d/up", target, 3) == 3);
    CHECK_ERRNO(readlink("d/f", target, 32), EINVAL);
    struct stat l;
    CHECK(lstat("s", &l) == 0 && S_ISLNK(l.st_mode) && l.st_size == 1);
    CHECK(unlink("s") == 0 && holds("d/f", "text"));
    CHECK(symlink("nowhere", "dangling") == 0);
    int fd = open("dangling", O_WRONLY | O_CREAT, 0644);
    CHECK(fd >= 0 && access("nowhere", F_OK) == 0);
    char path[PATH_MAX];
    CHECK(chdir("d") == 0 && getcwd(path, sizeof path) && !strcmp(path, "/tmp/symlinks/d"));
    CHECK_ERRNO((long)getcwd(path, 3) ? 0 : -1, ERANGE);
}

CASE(locks, "flock(2)")
{
    fresh("/tmp/locks");
    int a = open("f", O_RDWR | O_CREAT, 0644), b = open("f", O_RDWR);
    CHECK(flock(a, LOCK_EX) == 0);
    CHECK_ERRNO(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK(close(a) == 0 && flock(b, LOCK_EX | LOCK_NB) == 0);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10 };
    CHECK(fcntl(b, F_SETLK, &lock) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int c = open("f", O_RDWR);
        struct flock mine = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10 };
        if (fcntl(c, F_SETLK, &mine) != -1 || (errno != EAGAIN && errno != EACCES)) _exit(1);
        if (fcntl(c, F_GETLK, &mine) || mine.l_type != F_WRLCK || mine.l_pid != getppid() || mine.l_start != 0) _exit(2);
        mine = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 1 };
        if (fcntl(c, F_SETLK, &mine)) _exit(3);
        _exit(0);
    }
    CHECK(wait_status(pid) == 0);
}

CASE(temporary_files_without_a_name, "open(2)")
{
    fresh("/tmp/tmpfile");
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 0 && write(fd, "t", 1) == 1);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0 && holds("named", "t"));
}

CASE(devices, "null(4)")
{
    char buffer[16];
    memset(buffer, 1, sizeof buffer);
    int fd = open("/dev/null", O_RDWR);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1 && read(fd, buffer, 1) == 0);
    fd = open("/dev/zero", O_RDWR);
    CHECK(fd >= 0 && read(fd, buffer, 16) == 16 && buffer[15] == 0);
    fd = open("/dev/full", O_RDWR);
    CHECK(fd >= 0);
    CHECK_ERRNO(write(fd, "x", 1), ENOSPC);
    char other[16];
    fd = open("/dev/urandom", O_RDONLY);
    CHECK(fd >= 0 && read(fd, buffer, 16) == 16 && read(fd, other, 16) == 16 && memcmp(buffer, other, 16));
    /* Long requests are made another way than short ones. */
    static unsigned char one[70000], two[70000];
    CHECK(read(fd, one, sizeof one) == sizeof one && read(fd, two, sizeof two) == sizeof two);
    unsigned counts[256] = { 0 };
    size_t same = 0;
    for (size_t i = 0; i < sizeof one; i++) {
        counts[one[i]]++;
        same += one[i] == two[i];
    }
    CHECK(same < 500);
    for (int i = 0; i < 256; i++) CHECK(counts[i] > 100 && counts[i] < 500);
}

CASE(write_that_faults, "write(2)")
{
    fresh("/tmp/write_that_faults");
    put("f", "kept");
    void *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("f", O_WRONLY);
    CHECK(nothing != MAP_FAILED && fd >= 0);
    CHECK_ERRNO(write(fd, nothing, 3), EFAULT);
    CHECK(holds("f", "kept"));
    /* What a write brought before it met the hole does not show in a file that grows, unless the write says so. */
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), after[5] = { 1 };
    CHECK(two != MAP_FAILED && memset(two, 'x', 4096) && munmap(two + 4096, 4096) == 0);
    ssize_t written = pwrite(fd, two + 4092, 8, 4);
    int why = errno;
    CHECK(written == 4 || (written == -1 && why == EFAULT));
    CHECK(ftruncate(fd, 12) == 0);
    int in = open("f", O_RDONLY);
    CHECK(pread(in, after, 4, 4) == 4 && !memcmp(after, written == 4 ? "xxxx" : "\0\0\0\0", 4));
}

CASE(descriptors, "dup(2)")
{
    int fd = open("/dev/null", O_RDONLY);
    CHECK(dup2(fd, 50) == 50 && fcntl(fd, F_DUPFD, 60) == 60 && fcntl(fd, F_DUPFD_CLOEXEC, 70) == 70);
    CHECK((fcntl(70, F_GETFD) & FD_CLOEXEC) && !(fcntl(60, F_GETFD) & FD_CLOEXEC));
    CHECK_ERRNO(dup2(fd, -1), EBADF);
    CHECK_ERRNO(dup3(fd, fd, 0), EINVAL);
    CHECK(dup2(fd, fd) == fd && close(fd) == 0);
    CHECK_ERRNO(close(fd), EBADF);
    CHECK((fcntl(50, F_GETFL) & O_ACCMODE) == O_RDONLY);
}

CASE(a_file_is_written_up_to_its_limit, "getrlimit(2) RLIMIT_FSIZE")
{
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 5000, 5000 }) == 0);
    static char bytes[8000];
    int fd = open("/tmp/limited", O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, bytes, sizeof bytes) == 5000);
    CHECK_ERRNO(write(fd, bytes, 1), EFBIG);
    CHECK(write(fd, bytes, 0) == 0);
    CHECK(pwrite(fd, bytes, 100, 4950) == 50);
    CHECK_ERRNO(pwrite(fd, bytes, 1, 6000), EFBIG);
    CHECK_ERRNO(ftruncate(fd, 5001), EFBIG);
    struct stat stat_of;
    CHECK(fstat(fd, &stat_of) == 0 && stat_of.st_size == 5000);
    unlink("/tmp/limited");
}
