/* Moving bytes between pipes and files without reading them; sizes of pipes. */
#include "check.h"
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int plain(const char *text)
{
    int fd = open("/tmp/spliced", O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static int length(int fd) { int n = -1; ioctl(fd, FIONREAD, &n); return n; }

CASE(from_a_file_into_a_pipe, "splice(2)")
{
    int p[2], fd = plain("0123456789");
    char buf[16];
    loff_t at = 4;
    CHECK(pipe(p) == 0 && splice(fd, 0, p[1], 0, 3, 0) == 3 && splice(fd, &at, p[1], 0, 100, 0) == 6 && at == 10);
    CHECK(lseek(fd, 0, SEEK_CUR) == 3 && read(p[0], buf, 16) == 9 && !memcmp(buf, "012456789", 9));
    CHECK(splice(fd, &at, p[1], 0, 5, 0) == 0);
}

CASE(from_a_pipe_into_a_file, "splice(2)")
{
    int p[2], fd = plain("..........");
    char buf[16];
    loff_t at = 5;
    CHECK(pipe(p) == 0 && write(p[1], "abcdef", 6) == 6 && splice(p[0], 0, fd, &at, 2, 0) == 2 && at == 7);
    CHECK(splice(p[0], 0, fd, 0, 100, 0) == 4 && pread(fd, buf, 16, 0) == 10 && !memcmp(buf, "cdef.ab...", 10) && length(p[0]) == 0);
    close(p[1]);
    CHECK(splice(p[0], 0, fd, 0, 10, 0) == 0);
}

CASE(from_pipe_to_pipe, "splice(2)")
{
    int p[2], q[2];
    char buf[16];
    CHECK(pipe(p) == 0 && pipe(q) == 0 && write(p[1], "hello", 5) == 5);
    CHECK(tee(p[0], q[1], 3, 0) == 3 && length(p[0]) == 5 && length(q[0]) == 3);
    CHECK(splice(p[0], 0, q[1], 0, 100, 0) == 5 && length(p[0]) == 0 && read(q[0], buf, 16) == 8 && !memcmp(buf, "helhello", 8));
    CHECK_ERRNO(splice(p[0], 0, q[1], 0, 5, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_ERRNO(tee(p[0], q[1], 5, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_ERRNO(tee(p[0], p[1], 5, 0), EINVAL);
}

CASE(a_full_target_costs_nothing, "splice(2)")
{
    int p[2], q[2], s[2];
    static char block[65536];
    CHECK(pipe(p) == 0 && pipe2(q, O_NONBLOCK) == 0 && write(q[1], block, 65536) == 65536 && write(p[1], "kept", 4) == 4);
    CHECK_ERRNO(splice(p[0], 0, q[1], 0, 4, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK(length(p[0]) == 4);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && fcntl(s[0], F_SETFL, O_NONBLOCK) == 0);
    while (write(s[0], block, 4096) > 0) ;
    CHECK_ERRNO(splice(p[0], 0, s[0], 0, 4, 0), EAGAIN);
    CHECK(length(p[0]) == 4 && read(p[0], block, 10) == 4 && !memcmp(block, "kept", 4));
}

CASE(through_sockets, "splice(2)")
{
    int p[2], s[2];
    char buf[16];
    CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && write(p[1], "abc", 3) == 3);
    CHECK(splice(p[0], 0, s[0], 0, 10, 0) == 3 && splice(s[1], 0, p[1], 0, 10, 0) == 3 && read(p[0], buf, 16) == 3);
}

CASE(arguments, "splice(2)")
{
    int p[2], q[2], fd = plain("x"), appending = open("/tmp/spliced", O_WRONLY | O_APPEND), other = open("/tmp/spliced", O_RDWR);
    loff_t at = 0;
    CHECK(pipe(p) == 0 && pipe(q) == 0 && write(p[1], "abc", 3) == 3);
    CHECK_ERRNO(splice(fd, 0, other, 0, 1, 0), EINVAL);
    CHECK_ERRNO(splice(p[0], &at, fd, 0, 1, 0), ESPIPE);
    CHECK_ERRNO(splice(fd, 0, p[1], &at, 1, 0), ESPIPE);
    CHECK_ERRNO(splice(p[1], 0, fd, 0, 1, 0), EBADF);
    CHECK_ERRNO(splice(fd, 0, p[0], 0, 1, 0), EBADF);
    CHECK_ERRNO(splice(p[0], 0, appending, 0, 1, 0), EINVAL);
    CHECK_ERRNO(splice(p[0], 0, q[1], 0, 1, 0x100), EINVAL);
    CHECK_ERRNO(tee(p[0], fd, 1, 0), EINVAL);
    signal(SIGPIPE, SIG_IGN);
    close(q[0]);
    CHECK_ERRNO(splice(p[0], 0, q[1], 0, 1, 0), EPIPE);
}

CASE(from_and_to_memory, "vmsplice(2)")
{
    int p[2];
    char a[4] = "abcd", b[4] = "efgh", got[8];
    struct iovec in[2] = { { a, 4 }, { b, 3 } }, out = { got, 8 };
    CHECK(pipe(p) == 0 && vmsplice(p[1], in, 2, 0) == 7 && vmsplice(p[0], &out, 1, 0) == 7 && !memcmp(got, "abcdefg", 7));
    CHECK_ERRNO(vmsplice(open("/dev/null", O_WRONLY), in, 1, 0), EBADF);
}

CASE(sizes_of_pipes, "fcntl(2)")
{
    int p[2];
    static char block[1 << 20];
    CHECK(pipe2(p, O_NONBLOCK) == 0 && fcntl(p[0], F_GETPIPE_SZ) == 65536);
    CHECK(fcntl(p[1], F_SETPIPE_SZ, 5000) == 8192 && fcntl(p[0], F_GETPIPE_SZ) == 8192);
    CHECK(write(p[1], block, sizeof block) == 8192);
    CHECK_ERRNO(write(p[1], block, 1), EAGAIN);
    CHECK_ERRNO(fcntl(p[1], F_SETPIPE_SZ, 4096), EBUSY);
    CHECK(fcntl(p[1], F_SETPIPE_SZ, 1 << 20) == 1 << 20 && write(p[1], block, sizeof block) == sizeof block - 8192);
    CHECK_ERRNO(fcntl(open("/dev/null", O_RDONLY), F_GETPIPE_SZ), EBADF);
}
