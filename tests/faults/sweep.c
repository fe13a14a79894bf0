/* A fault sweep from inside: pages take all memory of the container and are given back one by one, and an operation is tried with every amount in between. Each attempt works or says why not, repeating it takes nothing more, and at the end as much is in use as at the beginning.
 *
 * A worker makes the attempts, so that one that dies of a page it cannot have is made anew. Usage: sweep OPERATION; it ends with 0 or says what is wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096L
/* Pages after which an operation must work, and attempts in a row that show that it does. */
#define ENOUGH 1500
#define FULL 20
#define MANY (2 * FULL)
#define MORE (20 * MANY)
#define MOST (1L << 18)
#define STEADY 4
/* Bytes that may be in use at the end beyond the beginning: what the system inside keeps at hand. */
#define KEPT (64 * PAGE)

static const char *self;
/* Pages that take memory: those below `filled` do. */
static char *filler;
static long filled;
/* How much of what an operation does many times it does, of FULL. */
static int scale;

static int child_status(pid_t pid)
{
    int status = -1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) ;
    return status;
}

/* Each operation gives everything back and returns 0 or an errno; EAGAIN stands for a child that died. */
static int do_fork(void)
{
    pid_t pid = fork();
    if (pid < 0) return errno;
    if (pid == 0) _exit(7);
    int status = child_status(pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : EAGAIN;
}

static int do_exec(void)
{
    pid_t pid = fork();
    if (pid < 0) return errno;
    if (pid == 0) {
        execl(self, self, "exit", (char *)0);
        /* Its words cannot be read when their page cannot be had. */
        _exit(errno == ENOMEM || errno == EFAULT ? 8 : 9);
    }
    int status = child_status(pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 7) return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 9 ? EPROTO : EAGAIN;
}

/* The rest happens many times before anything is closed: the system inside has some memory at hand. */
static int do_pipes(void)
{
    static char bytes[16 * PAGE];
    int ends[2 * MANY], result = 0, made = 0;
    while (result == 0 && made < scale * MANY / FULL) {
        if (pipe2(ends + 2 * made, O_NONBLOCK) < 0) {
            result = errno;
            break;
        }
        made++;
        if (write(ends[2 * made - 1], bytes, sizeof bytes) <= 0) result = errno;
    }
    for (int end = 0; end < 2 * made; end++) close(ends[end]);
    return result;
}

static int do_files(void)
{
    static char bytes[8 * PAGE];
    char name[32];
    int result = 0, made = 0;
    while (result == 0 && made < scale * MANY / FULL) {
        snprintf(name, sizeof name, "/tmp/made-%d", made);
        int file = open(name, O_CREAT | O_RDWR, 0600);
        if (file < 0) {
            result = errno;
            break;
        }
        made++;
        ssize_t count = write(file, bytes, sizeof bytes);
        if (count != sizeof bytes) result = count < 0 ? errno : ENOSPC;
        close(file);
    }
    while (made-- > 0) {
        snprintf(name, sizeof name, "/tmp/made-%d", made);
        if (unlink(name) < 0) return EPROTO;
    }
    return result;
}

static int do_folders(void)
{
    char name[32], link[48];
    int result = 0, made = 0;
    while (result == 0 && made < scale * MORE / FULL) {
        snprintf(name, sizeof name, "/tmp/folder-%d", made);
        snprintf(link, sizeof link, "%s/link", name);
        if (mkdir(name, 0700) < 0) {
            result = errno;
            break;
        }
        made++;
        if (symlink("/a/rather/long/target/of/a/link/that/leads/nowhere/at/all", link) < 0) result = errno;
    }
    while (made-- > 0) {
        snprintf(name, sizeof name, "/tmp/folder-%d", made);
        snprintf(link, sizeof link, "%s/link", name);
        if (unlink(link) < 0 && errno != ENOENT) return EPROTO;
        if (rmdir(name) < 0) return EPROTO;
    }
    return result;
}

static int do_sockets(void)
{
    static char bytes[16 * PAGE];
    int ends[2 * MANY], result = 0, made = 0;
    while (result == 0 && made < scale * MANY / FULL) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends + 2 * made) < 0) {
            result = errno;
            break;
        }
        made++;
        if (send(ends[2 * made - 1], bytes, sizeof bytes, MSG_DONTWAIT) < 0) result = errno;
    }
    for (int end = 0; end < 2 * made; end++) close(ends[end]);
    return result;
}

static int do_events(void)
{
    int events[MORE], result = 0, made = 0, poller = epoll_create1(0);
    struct epoll_event wanted = { .events = EPOLLIN };
    if (poller < 0) return errno;
    while (result == 0 && made < scale * MORE / FULL) {
        if ((events[made] = eventfd(0, 0)) < 0) {
            result = errno;
            break;
        }
        if (epoll_ctl(poller, EPOLL_CTL_ADD, events[made++], &wanted) < 0) result = errno;
    }
    while (made-- > 0) close(events[made]);
    close(poller);
    return result;
}

/* Giving back a part of what one table promises may need another table: then it is tried again before anything else. */
static int do_maps(void)
{
    static char *left;
    static long left_length;
    if (left && munmap(left, left_length) < 0) return errno;
    left = 0;
    const long length = 4L * MORE * scale / FULL * PAGE;
    char *place = mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) return errno;
    int result = 0;
    for (long at = PAGE; at < length; at += 2 * PAGE)
        if (mprotect(place + at, PAGE, PROT_READ) < 0) result = errno;
    if (munmap(place, length) < 0) {
        result = errno;
        left = place;
        left_length = length;
    }
    return result;
}

/* Operations, and the pages from one amount to the next. */
static const struct { const char *name; int (*run)(void); long step; } operations[] = {
    { "fork", do_fork, 1 },       { "exec", do_exec, 1 },       { "pipes", do_pipes, 5 },   { "files", do_files, 5 },
    { "folders", do_folders, 3 }, { "sockets", do_sockets, 5 }, { "events", do_events, 3 }, { "maps", do_maps, 3 },
};

static int (*operation)(void);
static int ask, hear, usage;
/* Bytes that this container may use. */
static long limit;
/* What the sweeps have counted, and the pages that were enough at last. */
static long refused, died, enough;
static pid_t worker;

static void fail(const char *what, long more)
{
    int why = errno;
    /* Saying it takes memory. */
    if (filled > 0) madvise(filler, filled * PAGE, MADV_DONTNEED);
    errno = why;
    printf("%s (%ld, errno %d %s)\n", what, more, errno, strerror(errno));
    exit(1);
}

static long used(void)
{
    char text[32];
    for (int attempt = 0; attempt < 1000; attempt++) {
        ssize_t count = pread(usage, text, sizeof text - 1, 0);
        if (count > 0) {
            text[count] = 0;
            return atol(text);
        }
        usleep(1000);
    }
    fail("the use of memory cannot be read", 0);
    return 0;
}

static void start(void)
{
    int to[2], from[2];
    if (pipe(to) < 0 || pipe(from) < 0) fail("no pipe", 0);
    worker = fork();
    if (worker < 0) fail("no worker", 0);
    if (worker == 0) {
        char result, order;
        /* Of all processes those that make attempts shall be killed, not the one that holds the memory. */
        int offer = open("/proc/self/oom_score_adj", O_WRONLY);
        if (write(offer, "1000", 4) != 4) _exit(1);
        close(offer);
        close(to[1]);
        close(from[0]);
        while (read(to[0], &order, 1) == 1) {
            scale = order;
            result = operation();
            if (write(from[1], &result, 1) != 1) break;
        }
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    ask = to[1];
    hear = from[0];
}

static void stop(void)
{
    close(ask);
    close(hear);
    child_status(worker);
}

/* One attempt at a scale: 0, an errno, or -1 when the worker has died. */
static int attempt(char order)
{
    char result;
    struct pollfd answer = { .fd = hear, .events = POLLIN };
    if (write(ask, &order, 1) != 1) return -1;
    int ready;
    while ((ready = poll(&answer, 1, 60000)) < 0 && errno == EINTR) ;
    if (ready == 0) fail("an attempt does not end", 0);
    return read(hear, &result, 1) == 1 ? result : -1;
}

/* Gives the pages above a number back. */
static void shrink(long pages)
{
    if (pages < filled && madvise(filler + pages * PAGE, (filled - pages) * PAGE, MADV_DONTNEED) < 0)
        fail("pages cannot be given back", pages);
    filled = pages < filled ? pages : filled;
}

/* Takes all memory but some pages. A page that cannot be had would be this process's end; where a table of pages begins, one page takes more than itself. */
static void fill(long spare)
{
    long tables = 2;
    while (limit - used() > (spare + (filled % 512 == 0 ? tables : 0)) * PAGE) {
        if (filled == MOST) fail("the memory of this container is not limited", filled);
        *(volatile char *)(filler + filled++ * PAGE) = 1;
    }
}

static void begin(long spare)
{
    shrink(0);
    start();
    for (int round = 0; round < 4; round++)
        if (attempt(1) != 0) fail("it does not work with plenty of memory", round);
    fill(spare);
}

/* Whether no more is in use than before, perhaps a moment later. */
static int is_back(long before, long allowance)
{
    for (int round = 0; round < 300; round++) {
        if (used() <= before + allowance) return 1;
        usleep(1000);
    }
    return 0;
}

/* Whether attempts take more again and again: one may move what is kept at hand. */
static int leaks(void)
{
    for (int round = 0; round < 8; round++) {
        long before = used();
        if (attempt(FULL) < 0 || is_back(before, 0)) return 0;
    }
    return 1;
}

/* Attempts with every amount of memory, until they work. */
static void sweep(long step)
{
    long steady = 0, spare = 0;
    begin(0);
    for (; steady < STEADY; spare += step) {
        if (spare > ENOUGH) fail("it does not work again", spare);
        int results[3];
        for (int round = 0; round < 3; round++) {
            results[round] = attempt(FULL);
            if (results[round] == EPROTO) fail("it ended as it must not", spare);
            if (results[round] < 0) break;
        }
        if (results[0] < 0 || results[1] < 0 || results[2] < 0) {
            died++;
            stop();
            begin(spare + step);
            continue;
        }
        if (leaks()) fail("an attempt leaves something behind", spare);
        int works = results[0] == 0 && results[1] == 0 && results[2] == 0;
        refused += !works;
        steady = works ? steady + 1 : 0;
        shrink(filled - step);
    }
    stop();
    enough = spare;
}

int main(int count, char **words)
{
    if (count != 2) return 2;
    if (strcmp(words[1], "exit") == 0) return 7;
    self = words[0];
    long step = 1;
    for (size_t index = 0; index < sizeof operations / sizeof *operations; index++) {
        if (strcmp(operations[index].name, words[1]) != 0) continue;
        operation = operations[index].run;
        step = operations[index].step;
    }
    if (!operation) return 2;
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, 0, _IONBF, 0);
    int most = open("/sys/fs/cgroup/memory.max", O_RDONLY);
    usage = open("/sys/fs/cgroup/memory.current", O_RDONLY);
    char text[32] = "";
    limit = read(most, text, sizeof text - 1) > 0 ? atol(text) : 0;
    filler = mmap(0, MOST * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (usage < 0 || limit <= 0 || filler == MAP_FAILED) fail("no file", 0);
    /* Twice: what is kept at hand after the first time is no more after the second. */
    long first = 0;
    for (int pass = 0; pass < 2; pass++) {
        sweep(step);
        shrink(0);
        if (pass == 0) first = used();
    }
    if (!is_back(first, KEPT)) fail("more is in use than at the beginning", used() - first);
    printf("%s: %ld refused, %ld died, %ld pages are enough, %+ld bytes\n", words[1], refused, died, enough, used() - first);
    return 0;
}
