#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/ipc.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], sock[96];

static int setup(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/mayfly-ipc-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(sock, sizeof sock, "%s/s.sock", dir);
    return 0;
}

static int teardown(void **state)
{
    unlink(sock);
    return rmdir(dir);
}

static void pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
}

static void frame(struct buf *b, uint8_t type, uint64_t id, const char *body)
{
    ipc_frame_begin(b, type, id);
    buf_str(b, body);
}

static void test_parse(void **state)
{
    struct ipc_frame f;
    struct err e;
    struct buf b;
    buf_init(&b, IPC_FRAME_MAX);
    frame(&b, 7, 0x0102030405060708, "body");
    assert_int_equal(b.len, IPC_HEADER + 4);
    assert_int_equal(ipc_frame_parse(&f, b.p, b.len, &e), 0);
    assert_int_equal(f.type, 7);
    assert_true(f.id == 0x0102030405060708);
    assert_true(bytes_eq_str(f.body, "body"));
    assert_int_equal(ipc_frame_parse(&f, b.p, IPC_HEADER, &e), 0);
    assert_int_equal(f.body.len, 0);
    for (size_t n = 0; n < IPC_HEADER; n++) {
        assert_int_equal(ipc_frame_parse(&f, b.p, n, &e), -1);
        assert_int_equal(e.code, ERR_MALFORMED);
        assert_string_equal(e.rule, "ipc-frame");
    }
    b.p[0] = 2;
    assert_int_equal(ipc_frame_parse(&f, b.p, b.len, &e), -1);
    assert_int_equal(e.code, ERR_MALFORMED);
    buf_free(&b);
    uint8_t *big = calloc(1, IPC_FRAME_MAX + 1);
    big[0] = IPC_VERSION;
    assert_int_equal(ipc_frame_parse(&f, big, IPC_FRAME_MAX, &e), 0);
    assert_int_equal(ipc_frame_parse(&f, big, IPC_FRAME_MAX + 1, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(big);
}

static void test_batches(void **state)
{
    int fds[2];
    struct err e;
    struct buf b;
    struct bytes out[IPC_BATCH];
    struct ipc_frame f;
    struct ipc_reader *r = ipc_reader_new(&e);
    pair(fds);
    buf_init(&b, IPC_FRAME_MAX);
    assert_int_equal(ipc_recv(r, fds[0], 0, out, &e), 0);
    assert_int_equal(ipc_recv(r, fds[0], 1, out, &e), 0); /* timeout */
    for (uint64_t i = 0; i < 100; i++) {
        frame(&b, 1, i, "x");
        assert_int_equal(ipc_send(fds[1], &b, &e), 0);
    }
    uint64_t want = 0;
    while (want < 100) {
        int n = ipc_recv(r, fds[0], -1, out, &e);
        assert_true(n > 0 && n <= IPC_BATCH);
        for (int i = 0; i < n; i++) {
            assert_int_equal(ipc_frame_parse(&f, out[i].p, out[i].len, &e), 0);
            assert_true(f.id == want++);
        }
    }
    /* frames that wait are handed out before the end of the other side */
    frame(&b, 2, 7, "last");
    assert_int_equal(ipc_send(fds[1], &b, &e), 0);
    close(fds[1]);
    assert_int_equal(ipc_recv(r, fds[0], -1, out, &e), 1);
    assert_int_equal(ipc_recv(r, fds[0], -1, out, &e), -2);
    assert_int_equal(ipc_recv(r, fds[0], -1, out, &e), -2);
    assert_int_equal(ipc_send(fds[0], &b, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    close(fds[0]);
    buf_free(&b);
    ipc_reader_free(r);
}

static void test_hostile(void **state)
{
    int fds[2];
    struct err e;
    struct bytes out[IPC_BATCH];
    struct ipc_reader *r = ipc_reader_new(&e);
    uint8_t *big = calloc(1, IPC_FRAME_MAX + 1);
    pair(fds);
    assert_int_equal(send(fds[1], big, IPC_FRAME_MAX + 1, 0), IPC_FRAME_MAX + 1);
    assert_int_equal(ipc_recv(r, fds[0], 0, out, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_int_equal(send(fds[1], big, IPC_FRAME_MAX, 0), IPC_FRAME_MAX);
    assert_int_equal(send(fds[1], "", 0, 0), 0);
    assert_int_equal(send(fds[1], "after", 5, 0), 5);
    assert_int_equal(ipc_recv(r, fds[0], 0, out, &e), 1); /* an empty datagram ends it */
    assert_int_equal(out[0].len, IPC_FRAME_MAX);
    assert_int_equal(ipc_recv(r, fds[0], 0, out, &e), -2);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(ipc_recv(r, fds[0], 0, out, &e), -1); /* a closed descriptor */
    assert_int_equal(e.code, ERR_IO);
    struct buf b;
    buf_init(&b, 4);
    frame(&b, 1, 1, "");
    assert_true(b.failed);
    assert_int_equal(ipc_send(fds[0], &b, &e), -1);
    assert_string_equal(e.rule, "ipc-frame");
    buf_free(&b);
    free(big);
    ipc_reader_free(r);
}

struct flood {
    int fd;
    int sent;
};

static void *flood(void *arg)
{
    struct flood *s = arg;
    struct err e;
    struct buf b;
    static char body[8192];
    memset(body, 'x', sizeof body - 1);
    buf_init(&b, IPC_FRAME_MAX);
    for (uint64_t i = 0; i < 500; i++) {
        frame(&b, 1, i, body);
        if (ipc_send(s->fd, &b, &e) == 0)
            s->sent++;
    }
    buf_free(&b);
    return NULL;
}

/* 4 MB through a queue that holds far less: senders wait, on blocking descriptors and others. */
static void test_backpressure(void **state)
{
    for (int nonblock = 0; nonblock < 2; nonblock++) {
        int fds[2];
        struct err e;
        struct bytes out[IPC_BATCH];
        struct ipc_reader *r = ipc_reader_new(&e);
        pair(fds);
        if (nonblock)
            fcntl(fds[1], F_SETFL, O_NONBLOCK);
        struct flood s = {.fd = fds[1]};
        pthread_t t;
        pthread_create(&t, NULL, flood, &s);
        int got = 0;
        while (got < 500) {
            int n = ipc_recv(r, fds[0], -1, out, &e);
            assert_true(n > 0);
            got += n;
        }
        pthread_join(t, NULL);
        assert_int_equal(s.sent, 500);
        close(fds[0]);
        close(fds[1]);
        ipc_reader_free(r);
    }
}

static void test_listen(void **state)
{
    struct err e;
    struct stat st;
    assert_int_equal(ipc_connect(sock, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    int fd = ipc_listen(sock, 0660, &e);
    assert_true(fd >= 0);
    assert_int_equal(stat(sock, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(ipc_listen(sock, 0660, &e), -1); /* in use */
    assert_int_equal(e.code, ERR_EXISTS);
    int probe = accept(fd, NULL, NULL);
    close(probe);
    int c = ipc_connect(sock, &e), s = accept(fd, NULL, NULL);
    assert_true(c >= 0 && s >= 0);
    uid_t uid;
    gid_t gid;
    pid_t pid;
    assert_int_equal(ipc_peer(s, &uid, &gid, &pid, &e), 0);
    assert_int_equal(uid, getuid());
    assert_int_equal(gid, getgid());
    assert_int_equal(pid, getpid());
    close(c);
    close(s);
    close(fd);
    fd = ipc_listen(sock, 0600, &e); /* stale now: replaced */
    assert_true(fd >= 0);
    close(fd);
    unlink(sock);
    close(open(sock, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(ipc_listen(sock, 0600, &e), -1); /* not a socket: left alone */
    assert_int_equal(e.code, ERR_EXISTS);
    assert_int_equal(stat(sock, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    char path[200];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    path[199] = 0;
    assert_int_equal(ipc_listen(path, 0600, &e), -1);
    assert_string_equal(e.rule, "ipc-path");
    assert_int_equal(ipc_peer(-1, &uid, &gid, &pid, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_hostile),      cmocka_unit_test(test_backpressure),
        cmocka_unit_test_setup_teardown(test_listen, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
