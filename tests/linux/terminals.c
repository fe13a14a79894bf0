/* Pseudo-terminals: line discipline, job control, window size. */
#include "check.h"
#include <sys/ioctl.h>
#include <termios.h>

static int open_pair(int *slave)
{
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), number, unlock = 0;
    CHECK(master >= 0 && ioctl(master, TIOCGPTN, &number) == 0 && ioctl(master, TIOCSPTLCK, &unlock) == 0);
    char name[32];
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    *slave = open(name, O_RDWR | O_NOCTTY);
    CHECK(*slave >= 0);
    return master;
}
static void expect(int fd, const char *text)
{
    char got[256];
    size_t n = 0;
    while (n < strlen(text)) {
        struct pollfd f = { fd, POLLIN, 0 };
        CHECK(poll(&f, 1, 5000) == 1);
        ssize_t r = read(fd, got + n, sizeof got - n);
        CHECK(r > 0);
        n += r;
    }
    CHECK(n == strlen(text) && !memcmp(got, text, n));
}

CASE(canonical_mode_edits_lines, "termios(3)")
{
    int slave, master = open_pair(&slave);
    char line[32];
    CHECK(isatty(slave) && write(master, "helo\177lo\n", 8) == 8);
    CHECK(read(slave, line, sizeof line) == 6 && !memcmp(line, "hello\n", 6));
    expect(master, "helo\b \blo\r\n");
    CHECK(write(slave, "a\nb", 3) == 3);
    expect(master, "a\r\nb");
    CHECK(write(master, "\004", 1) == 1 && read(slave, line, sizeof line) == 0);
    CHECK(write(master, "word\027x\n", 7) == 7 && read(slave, line, sizeof line) == 2 && line[0] == 'x');
}

CASE(raw_mode_passes_everything, "termios(3)")
{
    int slave, master = open_pair(&slave);
    struct termios t;
    CHECK(tcgetattr(slave, &t) == 0);
    cfmakeraw(&t);
    CHECK(tcsetattr(slave, TCSANOW, &t) == 0 && write(master, "\003\004\n", 3) == 3);
    char c[8];
    CHECK(read(slave, c, 8) == 3 && c[0] == 3 && c[1] == 4 && c[2] == '\n');
    t.c_cc[VMIN] = 0; t.c_cc[VTIME] = 1;
    CHECK(tcsetattr(slave, TCSANOW, &t) == 0 && read(slave, c, 8) == 0);
}

CASE(window_size_travels, "ioctl_tty(2)")
{
    int slave, master = open_pair(&slave);
    struct winsize w = { 30, 100, 0, 0 }, x;
    CHECK(ioctl(master, TIOCSWINSZ, &w) == 0 && ioctl(slave, TIOCGWINSZ, &x) == 0 && x.ws_row == 30 && x.ws_col == 100);
}

CASE(control_characters_signal_the_foreground, "termios(3)")
{
    int slave, master = open_pair(&slave);
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(master);
        if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0)) _exit(1);
        if (tcgetpgrp(slave) != getpid() || tcgetsid(slave) != getpid()) _exit(2);
        if (write(ready[1], "x", 1) != 1) _exit(3);
        for (;;) pause();
    }
    char c;
    CHECK(read(ready[0], &c, 1) == 1 && write(master, "\003", 1) == 1);
    int status = wait_status(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

CASE(background_readers_stop, "termios(3)")
{
    int slave, master = open_pair(&slave);
    pid_t pid = fork();
    if (pid == 0) {
        if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0)) _exit(1);
        pid_t job = fork();
        if (job == 0) { setpgid(0, 0); char c; _exit(read(slave, &c, 1) == 1 ? 0 : 9); }
        setpgid(job, job);
        int status;
        if (waitpid(job, &status, WUNTRACED) != job || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTTIN) _exit(2);
        signal(SIGTTOU, SIG_IGN);
        if (tcsetpgrp(slave, job) || kill(-job, SIGCONT)) _exit(3);
        if (waitpid(job, &status, 0) != job || status != 0) _exit(4);
        _exit(0);
    }
    sleep_ms(100);
    CHECK(write(master, "k\n", 2) == 2);
    CHECK(wait_status(pid) == 0);
}

CASE(hangup_when_the_master_closes, "tty(4)")
{
    int slave, master = open_pair(&slave);
    int ready[2];
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(master);
        if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) || write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char c;
    CHECK(read(ready[0], &c, 1) == 1 && close(master) == 0);
    CHECK(WTERMSIG(wait_status(pid)) == SIGHUP);
    CHECK(read(slave, &c, 1) == 0);
}
