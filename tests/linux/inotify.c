/* inotify: who is told of what happens to files. */
#include "check.h"
#include <ftw.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

/* The next event, as "mask name"; reads more when there is none left. */
static char buffer[65536] __attribute__((aligned(8)));
static ssize_t have, at;
static struct inotify_event *next(int i)
{
    if (at >= have) {
        at = 0;
        have = read(i, buffer, sizeof buffer);
        if (have <= 0) { have = 0; return 0; }
    }
    struct inotify_event *e = (void *)(buffer + at);
    at += sizeof *e + e->len;
    return e;
}

#define EXPECT(i, number, bits, text) do {                                                  \
    struct inotify_event *e_ = next(i);                                                     \
    if (!e_ || e_->wd != (number) || e_->mask != (bits) || strcmp(e_->len ? e_->name : "", text)) { \
        printf("  %s:%d: expected %d %#x %s, got %d %#x %s\n", __FILE__, __LINE__, number, (unsigned)(bits), text, \
            e_ ? e_->wd : -9, e_ ? e_->mask : 0, e_ && e_->len ? e_->name : ""); fflush(stdout); _exit(1); } } while (0)
#define NOTHING(i) CHECK(next(i) == 0)

static int forget(const char *path, const struct stat *st, int kind, struct FTW *where) { return remove(path); }

static int fresh(void)
{
    have = at = 0;
    nftw("/tmp/watch", forget, 16, FTW_DEPTH | FTW_PHYS);
    CHECK(mkdir("/tmp/watch", 0755) == 0);
    int i = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    CHECK(i >= 0);
    return i;
}

static int touch(const char *path) { int fd = open(path, O_CREAT | O_WRONLY, 0644); close(fd); return fd; }

CASE(what_happens_in_a_directory, "inotify(7)")
{
    int i = fresh(), wd = inotify_add_watch(i, "/tmp/watch", IN_ALL_EVENTS);
    char c;
    CHECK(wd == 1);
    int fd = open("/tmp/watch/a", O_CREAT | O_RDWR, 0644);
    EXPECT(i, wd, IN_CREATE, "a"); EXPECT(i, wd, IN_OPEN, "a");
    CHECK(write(fd, "xy", 2) == 2 && lseek(fd, 0, SEEK_SET) == 0 && read(fd, &c, 1) == 1 && close(fd) == 0);
    EXPECT(i, wd, IN_MODIFY, "a"); EXPECT(i, wd, IN_ACCESS, "a"); EXPECT(i, wd, IN_CLOSE_WRITE, "a");
    CHECK((fd = open("/tmp/watch/a", O_RDONLY)) >= 0 && close(fd) == 0);
    EXPECT(i, wd, IN_OPEN, "a"); EXPECT(i, wd, IN_CLOSE_NOWRITE, "a");
    CHECK(chmod("/tmp/watch/a", 0600) == 0);
    EXPECT(i, wd, IN_ATTRIB, "a");
    CHECK(truncate("/tmp/watch/a", 0) == 0);
    EXPECT(i, wd, IN_MODIFY, "a");
    CHECK(mkdir("/tmp/watch/d", 0755) == 0 && rmdir("/tmp/watch/d") == 0);
    EXPECT(i, wd, IN_CREATE | IN_ISDIR, "d"); EXPECT(i, wd, IN_DELETE | IN_ISDIR, "d");
    CHECK(symlink("a", "/tmp/watch/s") == 0 && link("/tmp/watch/a", "/tmp/watch/l") == 0);
    EXPECT(i, wd, IN_CREATE, "s"); EXPECT(i, wd, IN_CREATE, "l");
    CHECK(unlink("/tmp/watch/a") == 0);
    EXPECT(i, wd, IN_DELETE, "a");
    NOTHING(i);
}

CASE(moves_are_tied_by_a_cookie, "inotify(7)")
{
    int i = fresh();
    CHECK(mkdir("/tmp/watch/one", 0755) == 0 && mkdir("/tmp/watch/two", 0755) == 0 && touch("/tmp/watch/one/f") >= 0);
    int one = inotify_add_watch(i, "/tmp/watch/one", IN_MOVE), two = inotify_add_watch(i, "/tmp/watch/two", IN_MOVE);
    int file = inotify_add_watch(i, "/tmp/watch/one/f", IN_MOVE_SELF);
    CHECK(rename("/tmp/watch/one/f", "/tmp/watch/two/g") == 0);
    struct inotify_event *e = next(i);
    CHECK(e && e->wd == one && e->mask == IN_MOVED_FROM && !strcmp(e->name, "f") && e->cookie);
    uint32_t cookie = e->cookie;
    e = next(i);
    CHECK(e && e->wd == two && e->mask == IN_MOVED_TO && !strcmp(e->name, "g") && e->cookie == cookie);
    EXPECT(i, file, IN_MOVE_SELF, "");
    CHECK(rename("/tmp/watch/two", "/tmp/watch/one/two") == 0);
    e = next(i);
    CHECK(e && e->wd == one && e->mask == (IN_MOVED_TO | IN_ISDIR) && e->cookie != cookie);
    NOTHING(i);
}

CASE(a_file_watched_itself, "inotify(7)")
{
    int i = fresh();
    CHECK(touch("/tmp/watch/f") >= 0);
    int wd = inotify_add_watch(i, "/tmp/watch/f", IN_ALL_EVENTS);
    CHECK(chmod("/tmp/watch/f", 0600) == 0);
    EXPECT(i, wd, IN_ATTRIB, "");
    CHECK(unlink("/tmp/watch/f") == 0);
    EXPECT(i, wd, IN_ATTRIB, ""); EXPECT(i, wd, IN_DELETE_SELF, ""); EXPECT(i, wd, IN_IGNORED, "");
    CHECK_ERRNO(inotify_rm_watch(i, wd), EINVAL);
    /* What is open lives until it is closed. */
    int fd = open("/tmp/watch/g", O_CREAT | O_WRONLY, 0644);
    wd = inotify_add_watch(i, "/tmp/watch/g", IN_DELETE_SELF | IN_CLOSE);
    CHECK(unlink("/tmp/watch/g") == 0);
    NOTHING(i);
    close(fd);
    EXPECT(i, wd, IN_CLOSE_WRITE, ""); EXPECT(i, wd, IN_DELETE_SELF, ""); EXPECT(i, wd, IN_IGNORED, "");
}

CASE(a_directory_watched_itself, "inotify(7)")
{
    int i = fresh(), wd = inotify_add_watch(i, "/tmp/watch", IN_DELETE_SELF | IN_ATTRIB);
    CHECK(rmdir("/tmp/watch") == 0);
    EXPECT(i, wd, IN_DELETE_SELF, ""); EXPECT(i, wd, IN_IGNORED, "");
    NOTHING(i);
}

CASE(masks_are_replaced_or_added_to, "inotify_add_watch(2)")
{
    int i = fresh(), wd = inotify_add_watch(i, "/tmp/watch", IN_CREATE);
    CHECK(inotify_add_watch(i, "/tmp/watch", IN_DELETE) == wd && touch("/tmp/watch/a") >= 0);
    NOTHING(i);
    CHECK(inotify_add_watch(i, "/tmp/watch", IN_CREATE | IN_MASK_ADD) == wd && touch("/tmp/watch/b") >= 0 && unlink("/tmp/watch/b") == 0);
    EXPECT(i, wd, IN_CREATE, "b"); EXPECT(i, wd, IN_DELETE, "b");
    CHECK_ERRNO(inotify_add_watch(i, "/tmp/watch", IN_CREATE | IN_MASK_CREATE), EEXIST);
    CHECK_ERRNO(inotify_add_watch(i, "/tmp/watch", 0), EINVAL);
    CHECK_ERRNO(inotify_add_watch(i, "/tmp/nowhere", IN_CREATE), ENOENT);
    CHECK_ERRNO(inotify_add_watch(i, "/tmp/watch/a", IN_CREATE | IN_ONLYDIR), ENOTDIR);
    CHECK_ERRNO(inotify_add_watch(0x7000, "/tmp/watch", IN_CREATE), EBADF);
    CHECK_ERRNO(inotify_add_watch(1, "/tmp/watch", IN_CREATE), EINVAL);
    CHECK_ERRNO(inotify_init1(1), EINVAL);
    CHECK(symlink("a", "/tmp/watch/link") == 0 && inotify_add_watch(i, "/tmp/watch/link", IN_ATTRIB | IN_DONT_FOLLOW) == wd + 1);
    CHECK(inotify_rm_watch(i, wd) == 0);
    EXPECT(i, wd, IN_CREATE, "link"); EXPECT(i, wd, IN_IGNORED, "");
}

CASE(once_only, "inotify(7)")
{
    int i = fresh(), wd = inotify_add_watch(i, "/tmp/watch", IN_CREATE | IN_ONESHOT);
    CHECK(touch("/tmp/watch/a") >= 0 && touch("/tmp/watch/b") >= 0);
    EXPECT(i, wd, IN_CREATE, "a"); EXPECT(i, wd, IN_IGNORED, "");
    NOTHING(i);
}

CASE(the_same_event_is_told_once, "inotify(7)")
{
    int i = fresh(), wd, waiting;
    int fd = open("/tmp/watch/f", O_CREAT | O_WRONLY, 0644);
    wd = inotify_add_watch(i, "/tmp/watch", IN_MODIFY);
    for (int n = 0; n < 5; n++) CHECK(write(fd, "x", 1) == 1);
    CHECK(ioctl(i, FIONREAD, &waiting) == 0 && waiting == 32);
    EXPECT(i, wd, IN_MODIFY, "f");
    NOTHING(i);
}

CASE(reading_events, "inotify(7)")
{
    int i = fresh(), wd = inotify_add_watch(i, "/tmp/watch", IN_CREATE), e = epoll_create1(0);
    struct epoll_event event = { EPOLLIN }, out;
    char small[20], two[64];
    CHECK_ERRNO(read(i, small, sizeof small), EAGAIN);
    CHECK(epoll_ctl(e, EPOLL_CTL_ADD, i, &event) == 0 && epoll_wait(e, &out, 1, 0) == 0);
    CHECK(touch("/tmp/watch/a") >= 0 && touch("/tmp/watch/bbbbbbbbbbbbbbbb") >= 0 && epoll_wait(e, &out, 1, 0) == 1);
    CHECK_ERRNO(read(i, small, sizeof small), EINVAL);
    CHECK(read(i, two, sizeof two) == 32 && read(i, two, sizeof two) == 48);
    fcntl(i, F_SETFL, 0);
    pid_t pid = fork();
    if (pid == 0) { sleep_ms(30); _exit(touch("/tmp/watch/c") >= 0 ? 0 : 1); }
    EXPECT(i, wd, IN_CREATE, "c");
    CHECK(wait_status(pid) == 0);
    CHECK_ERRNO(write(i, "x", 1), EBADF);
}

CASE(too_many_events_overflow, "inotify(7)")
{
    int i = fresh(), limit = 16384, count = 0, overflow = 0;
    FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    if (f) { (void)!fscanf(f, "%d", &limit); fclose(f); }
    if (limit > 100000) return;
    CHECK(touch("/tmp/watch/a") >= 0 && inotify_add_watch(i, "/tmp/watch", IN_OPEN | IN_CLOSE) == 1);
    for (int n = 0; n < limit; n++) { int fd = open("/tmp/watch/a", O_RDONLY); close(fd); }
    struct inotify_event *e;
    while ((e = next(i))) { count++; if (e->mask == IN_Q_OVERFLOW && e->wd == -1) overflow++; }
    CHECK(overflow == 1 && count == limit + 1);
}
