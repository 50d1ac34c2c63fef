/* The client against a signer that this test plays. */
#include "base/clock.h"
#include "ca/client.h"
#include "unit/ca/request.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static char dir[64], path[96];
static struct key *key;
static const uint8_t cert[700] = {0x30};

static int setup(void **state)
{
    strcpy(dir, "/tmp/mayfly-client-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    key = test_key(KEY_P256);
    return 0;
}

static int teardown(void **state)
{
    unlink(path);
    rmdir(dir);
    key_free(key);
    return 0;
}

/* --- the signer's side ------------------------------------------------------------------------------ */

static struct ipc_reader *reader;
static struct bytes waiting[IPC_BATCH];
static int waiting_count, waiting_at;

static int signer_listen(void)
{
    struct err e = {0};
    int fd = ipc_listen(path, 0600, &e);
    assert_true(fd >= 0);
    return fd;
}

static int signer_accept(int listener)
{
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    waiting_count = waiting_at = 0;
    return fd;
}

static void answer_info(int fd, uint64_t id)
{
    struct err e = {0};
    struct buf b;
    struct ca_info m = {.root = {cert, 5}, .issuing = {cert, 6}, .vkey = text("vkey"), .log_size = 9,
                        .issued = 3, .started = 1, .token = text("token")};
    buf_init(&b, IPC_FRAME_MAX);
    ca_info_write(&b, id, &m);
    ipc_send(fd, &b, &e);
    buf_free(&b);
}

/* The id of the next issue request; info is answered on the way. 0: the client hung up. */
static uint64_t signer_next(int fd, struct ca_issue *m)
{
    struct err e = {0};
    struct ipc_frame f;
    for (;;) {
        while (waiting_at == waiting_count) {
            waiting_at = 0;
            waiting_count = ipc_recv(reader, fd, -1, waiting, &e);
            if (waiting_count < 0) {
                waiting_count = 0;
                return 0;
            }
        }
        struct bytes w = waiting[waiting_at++];
        assert_ok(ipc_frame_parse(&f, w.p, w.len, &e), &e);
        if (f.type == CA_INFO) {
            answer_info(fd, f.id);
            continue;
        }
        assert_int_equal(f.type, CA_ISSUE);
        assert_ok(ca_issue_parse(m, f.body, &e), &e);
        return f.id;
    }
}

static void signer_issue(int fd, uint64_t id, uint64_t index)
{
    struct err e = {0};
    struct buf b;
    struct ca_issued m = {.index = index, .not_before = 1, .not_after = 2, .cert = {cert, sizeof cert}};
    buf_init(&b, IPC_FRAME_MAX);
    ca_issued_write(&b, id, &m);
    ipc_send(fd, &b, &e);
    buf_free(&b);
}

static void signer_refuse(int fd, uint64_t id)
{
    struct err e = {0}, why = {0};
    struct buf b;
    err_set(&why, ERR_DENIED, "lifetime", "too long");
    buf_init(&b, IPC_FRAME_MAX);
    ca_refused_write(&b, id, &why);
    ipc_send(fd, &b, &e);
    buf_free(&b);
}

/* --- the asking side --------------------------------------------------------------------------------- */

struct result {
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned calls, good;
    uint64_t index_sum;
    struct err e;
};
static struct result result = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static void on_answer(void *arg, const struct ca_issued *r, const struct err *e)
{
    struct result *x = arg;
    assert_true(!r != !e);
    pthread_mutex_lock(&x->lock);
    x->calls++;
    if (r) {
        assert_int_equal(r->cert.len, sizeof cert);
        x->good++;
        x->index_sum += r->index;
    } else {
        x->e = *e;
    }
    pthread_cond_signal(&x->done);
    pthread_mutex_unlock(&x->lock);
}

static void wait_for(unsigned calls)
{
    pthread_mutex_lock(&result.lock);
    while (result.calls < calls)
        pthread_cond_wait(&result.done, &result.lock);
    assert_int_equal(result.calls, calls);
    pthread_mutex_unlock(&result.lock);
}

static struct ca_client *begin(unsigned deadline_ms)
{
    struct err e = {0};
    result.calls = result.good = 0;
    result.index_sum = 0;
    reader = ipc_reader_new(&e);
    struct ca_client *c = ca_client_new(path, deadline_ms, &e);
    assert_non_null(c);
    return c;
}

static void ask(struct ca_client *c)
{
    struct err e = {0};
    struct ca_issue m = test_request(key);
    assert_ok(ca_client_issue(c, &m, on_answer, &result, &e), &e);
}

static void end(struct ca_client *c, int listener, int fd)
{
    ca_client_free(c);
    if (fd >= 0)
        close(fd);
    if (listener >= 0)
        close(listener);
    ipc_reader_free(reader);
    unlink(path);
}

/* --- scenarios ----------------------------------------------------------------------------------------- */

static void answers(void **state)
{
    struct ca_issue m;
    int l = signer_listen();
    struct ca_client *c = begin(60000);
    ask(c);
    ask(c);
    ask(c);
    int fd = signer_accept(l);
    uint64_t a = signer_next(fd, &m), b = signer_next(fd, &m), d = signer_next(fd, &m);
    assert_true(a && b && d && a != b && b != d && a != d);
    assert_true(bytes_eq_str(m.spiffe_id, "spiffe://example.org/web/1"));
    signer_issue(fd, d, 3); /* in any order */
    signer_refuse(fd, b);
    signer_issue(fd, a, 1);
    wait_for(3);
    assert_int_equal(result.good, 2);
    assert_int_equal(result.index_sum, 4);
    assert_int_equal(result.e.code, ERR_DENIED);
    assert_string_equal(result.e.rule, "lifetime");
    signer_issue(fd, a, 1); /* twice, and for nobody: ignored */
    signer_issue(fd, 0, 1);
    signer_issue(fd, UINT64_MAX, 1);
    ask(c);
    signer_issue(fd, signer_next(fd, &m), 10);
    wait_for(4);
    assert_int_equal(result.index_sum, 14);
    end(c, l, fd);
    assert_int_equal(result.calls, 4);
}

static void sent_again(void **state)
{
    struct ca_issue m;
    int l = signer_listen();
    struct ca_client *c = begin(60000);
    for (int i = 0; i < 10; i++)
        ask(c);
    int fd = signer_accept(l);
    for (int i = 0; i < 10; i++) {
        uint64_t id = signer_next(fd, &m);
        if (i < 4)
            signer_issue(fd, id, 1);
    }
    wait_for(4);
    close(fd); /* the signer dies with six in hand */
    fd = signer_accept(l);
    uint64_t last = 0;
    for (int i = 0; i < 6; i++) {
        uint64_t id = signer_next(fd, &m);
        assert_true(id > last); /* in the order they were asked */
        last = id;
        signer_issue(fd, id, 1);
    }
    wait_for(10);
    assert_int_equal(result.good, 10);
    end(c, l, fd);
    assert_int_equal(result.calls, 10);
}

static void nonsense_ends_the_connection(void **state)
{
    struct ca_issue m;
    struct err e = {0};
    struct buf b;
    int l = signer_listen();
    struct ca_client *c = begin(60000);
    ask(c);
    int fd = signer_accept(l);
    uint64_t id = signer_next(fd, &m);
    buf_init(&b, IPC_FRAME_MAX);
    ipc_frame_begin(&b, CA_ISSUED, id);
    buf_u8(&b, 1);
    assert_ok(ipc_send(fd, &b, &e), &e);
    close(fd);
    fd = signer_accept(l);
    assert_int_equal(signer_next(fd, &m), id);
    signer_issue(fd, id, 1);
    wait_for(1);
    assert_int_equal(result.good, 1);
    buf_free(&b);
    end(c, l, fd);
}

static void deadline(void **state)
{
    int64_t start = clock_mono_ms();
    struct ca_client *c = begin(200); /* nobody listens */
    struct ca_snapshot s;
    ask(c);
    ask(c);
    wait_for(2);
    assert_true(clock_mono_ms() - start >= 200);
    assert_int_equal(result.good, 0);
    assert_int_equal(result.e.code, ERR_UNAVAILABLE);
    assert_string_equal(result.e.rule, "signer-away");
    ca_client_snapshot(c, &s);
    assert_false(s.ready);
    assert_false(s.known);
    end(c, -1, -1);
    assert_int_equal(result.calls, 2);
}

static void silent_signer(void **state)
{
    struct ca_issue m;
    int l = signer_listen();
    struct ca_client *c = begin(200);
    int fd = signer_accept(l);
    ask(c);
    uint64_t id = signer_next(fd, &m);
    wait_for(1);
    assert_string_equal(result.e.rule, "signer-away");
    signer_issue(fd, id, 1); /* too late: nobody asks any more */
    ask(c);
    uint64_t id2 = signer_next(fd, &m);
    assert_true(id2 != id);
    signer_issue(fd, id2, 5);
    wait_for(2);
    assert_int_equal(result.good + (result.index_sum == 5), 2);
    end(c, l, fd);
}

static void *answer_all(void *arg)
{
    struct ca_issue m;
    int fd = *(int *)arg;
    for (uint64_t id; (id = signer_next(fd, &m)) != 0;)
        signer_issue(fd, id, 1);
    return NULL;
}

/* A signer that is away while the parent keeps its listener: connections are taken, nothing is ever
 * read. What expired still fills the socket, so round upon round meets a full queue. */
static void outage_blocks_nobody(void **state)
{
    enum { ROUNDS = 8, EACH = 200 };
    struct ca_snapshot s;
    pthread_t signer;
    int l = signer_listen();
    alarm(120); /* without the mend this hangs for ever */
    struct ca_client *c = begin(20);
    for (unsigned r = 1; r <= ROUNDS; r++) {
        for (int i = 0; i < EACH; i++)
            ask(c);
        wait_for(r * EACH);
        ca_client_snapshot(c, &s);
        assert_false(s.ready);
    }
    assert_int_equal(result.good, 0);
    assert_string_equal(result.e.rule, "signer-away");
    /* The next signer takes the connection over, stale requests first; then service goes on. */
    int fd = signer_accept(l);
    unsigned asked = ROUNDS * EACH;
    assert_int_equal(pthread_create(&signer, NULL, answer_all, &fd), 0);
    while (result.good == 0) {
        ask(c);
        wait_for(++asked);
    }
    ca_client_free(c);
    pthread_join(signer, NULL);
    alarm(0);
    end(NULL, l, fd);
    assert_int_equal(result.calls, asked);
}

/* The same, given up while requests wait behind the full queue. */
static void outage_ends_with_free(void **state)
{
    int l = signer_listen();
    alarm(120);
    struct ca_client *c = begin(20);
    for (unsigned r = 1; r <= 4; r++) {
        for (int i = 0; i < 200; i++)
            ask(c);
        if (r < 4)
            wait_for(r * 200);
    }
    end(c, l, -1);
    alarm(0);
    assert_int_equal(result.calls, 800);
}

static void queue_is_bounded(void **state)
{
    struct err e = {0};
    struct ca_issue m = test_request(key);
    struct ca_client *c = begin(600000);
    for (int i = 0; i < CA_CLIENT_PENDING_MAX; i++)
        ask(c);
    assert_int_equal(ca_client_issue(c, &m, on_answer, &result, &e), -1);
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    assert_string_equal(e.rule, "signer-queue");
    /* All are sent when the signer comes, though its queue holds far fewer. */
    int l = signer_listen(), fd = signer_accept(l);
    for (int i = 0; i < CA_CLIENT_PENDING_MAX; i++)
        signer_issue(fd, signer_next(fd, &m), 1);
    wait_for(CA_CLIENT_PENDING_MAX);
    assert_int_equal(result.good, CA_CLIENT_PENDING_MAX);
    end(c, l, fd);
}

static void bad_request(void **state)
{
    static const uint8_t zeros[3000];
    struct err e = {0};
    struct ca_issue m = test_request(key);
    struct ca_client *c = begin(60000);
    m.spiffe_id = (struct bytes){zeros, sizeof zeros};
    assert_int_equal(ca_client_issue(c, &m, on_answer, &result, &e), -1);
    assert_string_equal(e.rule, "ca-msg");
    end(c, -1, -1);
    assert_int_equal(result.calls, 0);
}

static void free_answers_all(void **state)
{
    struct ca_client *c = begin(600000);
    for (int i = 0; i < 50; i++)
        ask(c);
    end(c, -1, -1);
    assert_int_equal(result.calls, 50);
    assert_int_equal(result.e.code, ERR_UNAVAILABLE);
}

static void snapshot(void **state)
{
    struct ca_issue m;
    struct ca_snapshot s;
    int l = signer_listen();
    struct ca_client *c = begin(60000);
    int fd = signer_accept(l);
    ask(c);
    signer_issue(fd, signer_next(fd, &m), 1);
    wait_for(1); /* answered, so the thread is past its own question ... */
    ask(c);
    signer_issue(fd, signer_next(fd, &m), 1);
    wait_for(2); /* ... whose answer therefore went before this one */
    ca_client_snapshot(c, &s);
    assert_true(s.ready);
    assert_true(s.known);
    assert_int_equal(s.root_len, 5);
    assert_int_equal(s.issuing_len, 6);
    assert_string_equal(s.vkey, "vkey");
    assert_string_equal(s.token, "token");
    assert_int_equal(s.log_size, 9);
    assert_int_equal(s.issued, 3);
    close(fd);
    fd = signer_accept(l); /* connected again, not yet answered: not ready, still known */
    ask(c);
    ca_client_snapshot(c, &s);
    assert_false(s.ready);
    assert_true(s.known);
    end(c, l, fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),          cmocka_unit_test(sent_again),
        cmocka_unit_test(nonsense_ends_the_connection), cmocka_unit_test(deadline),
        cmocka_unit_test(silent_signer),    cmocka_unit_test(outage_blocks_nobody),
        cmocka_unit_test(outage_ends_with_free),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(bad_request),      cmocka_unit_test(free_answers_all),
        cmocka_unit_test(snapshot),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
