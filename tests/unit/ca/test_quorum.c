/* The witnesses' quorum: whose cosignatures count, for which head, and what the corridor is told. */
#include "ca/quorum.h"
#include "base/clock.h"
#include "ca/msg.h"
#include "tests/unit/tlog/proven.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define LONG_MS 60000 /* nobody waits for it to be over */
#define WITNESSES 3

static struct test_log t, witness[WITNESSES], stranger;
static struct witnesses keys;
static struct tlog *tlog;
static struct quorum *q;
static int told;

static int setup(void **state)
{
    struct err e;
    test_begin(&t);
    told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t.o.published_fd = told;
    assert_ok(tlog_create(&t.o, &e), e);
    assert_ok(tlog_open(&tlog, &t.o, &e), e);
    for (int i = 0; i < WITNESSES; i++) {
        char name[40];
        snprintf(name, sizeof name, "w%d.example.net", i + 1);
        test_witness(&witness[i], name);
        keys.key[i] = witness[i].vkey;
    }
    keys.count = WITNESSES;
    test_witness(&stranger, "stranger.example.net");
    return 0;
}

static int teardown(void **state)
{
    quorum_free(q);
    q = NULL;
    tlog_close(tlog);
    for (int i = 0; i < WITNESSES; i++)
        test_key_free(&witness[i]);
    test_key_free(&stranger);
    close(told);
    test_end(&t);
    return 0;
}

static void make(unsigned needed, unsigned timeout_ms)
{
    struct err e;
    q = quorum_new(&(struct quorum_options){.witnesses = &keys, .log = tlog, .needed = needed, .timeout_ms = timeout_ms}, &e);
    assert_non_null(q);
}

/* The newest head; published or not. */
static struct tlog_checkpoint head_now(void)
{
    struct tlog_status s;
    tlog_status(tlog, &s);
    struct tlog_checkpoint c = {.size = s.size, .root = s.root};
    snprintf(c.origin, sizeof c.origin, "%s", t.vkey.name);
    return c;
}

static void append(unsigned n)
{
    append_many(tlog, n, n, 40);
}

/* The body of the message by which a notary brings it. */
static void cosign(struct buf *frame, struct test_log *by, uint64_t time, const struct tlog_checkpoint *c)
{
    uint8_t sig[64];
    struct buf text, msg;
    struct err e;
    buf_init(&text, 1000);
    buf_init(&msg, 1000);
    tlog_checkpoint_body(c, &text);
    tlog_cosign_text(time, view(&text), &msg);
    assert_ok(test_sign(by, msg.p, msg.len, sig, &e), e);
    const struct ca_cosign m = {.size = c->size,
                                .root = {c->root.b, sizeof c->root},
                                .key_id = {by->vkey.id, sizeof by->vkey.id},
                                .time = time,
                                .sig = {sig, sizeof sig}};
    buf_init(frame, IPC_FRAME_MAX);
    ca_cosign_write(frame, 1, &m);
    assert_false(frame->failed);
    buf_free(&text);
    buf_free(&msg);
}

static int bring(struct test_log *by, uint64_t time, const struct tlog_checkpoint *c, struct err *e)
{
    struct buf frame;
    struct ipc_frame f;
    memset(e, 0, sizeof *e);
    cosign(&frame, by, time, c);
    assert_ok(ipc_frame_parse(&f, frame.p, frame.len, e), *e);
    int rc = quorum_take(q, f.body, e);
    buf_free(&frame);
    return rc;
}

static uint64_t now(void)
{
    return (uint64_t)clock_wall();
}

static void counts(unsigned cosigned, bool open)
{
    struct quorum_status s;
    quorum_status(q, &s);
    assert_int_equal(s.witnesses, WITNESSES);
    assert_int_equal(s.cosigned, cosigned);
    assert_int_equal(s.open, open);
}

/* --- counting ------------------------------------------------------------------------------------- */

static void only_good_ones_count(void **state)
{
    struct err e;
    make(2, 1);
    struct tlog_checkpoint head = head_now(), other = head;
    counts(0, true);
    assert_int_equal(bring(&stranger, now(), &head, &e), -1);
    assert_rule(e, "witness");
    other.root.b[3] ^= 1;
    assert_int_equal(bring(&witness[0], now(), &other, &e), -1); /* another root */
    assert_rule(e, "cosign-stale");
    other = head;
    other.size++;
    assert_int_equal(bring(&witness[0], now(), &other, &e), -1); /* not there yet */
    assert_rule(e, "cosign-stale");
    assert_int_equal(bring(&witness[0], now() + 3600, &head, &e), -1);
    assert_rule(e, "cosignature-time");
    struct test_log forger = {.key = stranger.key, .vkey = witness[1].vkey}; /* that says it is another */
    assert_int_equal(bring(&forger, now(), &head, &e), -1);
    assert_rule(e, "cosignature");
    assert_int_equal(quorum_take(q, (struct bytes){(const uint8_t *)"x", 1}, &e), -1);
    assert_rule(e, "ca-msg");
    counts(0, true);
    assert_ok(bring(&witness[0], now(), &head, &e), e);
    assert_ok(bring(&witness[0], now() - 1, &head, &e), e); /* the same once more */
    counts(1, true);
    assert_int_equal(quorum_admit(q, &e), -1);
    assert_rule(e, "witness-quorum");
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(e.msg, "1 of 3"));
    assert_ok(bring(&witness[2], now(), &head, &e), e);
    counts(2, false);
    assert_ok(quorum_admit(q, &e), e);
}

/* A log that wants none: nobody waits, and what comes is published all the same. */
static void none_needed(void **state)
{
    struct err e;
    make(0, LONG_MS);
    counts(0, false);
    assert_ok(quorum_admit(q, &e), e);
    append(3);
    assert_ok(quorum_await(q, &e), e);
    assert_int_equal(quorum_proof_max(q), 0);
}

/* Two names for one key would be one witness that counts twice. */
static void one_key_twice(void **state)
{
    struct err e = {0};
    struct tlog_vkey alias;
    struct witnesses w;
    struct buf text[2];
    struct config_witness list[2];
    struct config c = {.witnesses = {.list = list, .count = 2}};
    assert_ok(tlog_vkey_make_witness(&alias, "alias.example.net", witness[0].vkey.pub, &e), e);
    const struct tlog_vkey *const key[2] = {&witness[0].vkey, &alias};
    for (int i = 0; i < 2; i++) {
        buf_init(&text[i], 1000);
        tlog_vkey_write(key[i], &text[i]);
        list[i] = (struct config_witness){.vkey = (char *)(uintptr_t)buf_cstr(&text[i])};
    }
    assert_int_equal(witnesses_load(&w, &c, &e), -1);
    assert_rule(e, "witness");
    assert_int_equal(e.code, ERR_CONFIG);
    witnesses_free(&w);
    buf_free(&text[0]);
    buf_free(&text[1]);
    tlog_vkey_free(&alias);
}

/* --- waiting -------------------------------------------------------------------------------------- */

static void until_published(uint64_t size)
{
    struct tlog_status s;
    do {
        usleep(1000);
        tlog_status(tlog, &s);
    } while (s.published_size < size);
}

/* What a notary and its witnesses do, the wrong things first. */
static void *bring_some(void *arg)
{
    const struct tlog_checkpoint *old = arg, head = head_now();
    struct err e;
    until_published(head.size); /* the wait has it published: its own interval is an hour */
    assert_int_equal(bring(&witness[0], now(), old, &e), -1);
    assert_rule(e, "cosign-stale");
    assert_ok(bring(&witness[1], now(), &head, &e), e);
    assert_ok(bring(&witness[1], now(), &head, &e), e);
    assert_ok(bring(&witness[2], now(), &head, &e), e);
    return NULL;
}

static void proof_has(const char *w1, const char *w2)
{
    struct tlog_proof p;
    struct tlog_note n;
    struct buf text;
    struct err e;
    buf_init(&text, TLOG_PROOF_MAX);
    tlog_batch_proof(tlog, 0, (struct bytes){NULL, 0}, &text);
    assert_ok(tlog_proof_parse(&p, text.p, text.len, &e), e);
    assert_ok(tlog_note_parse(&n, p.checkpoint.p, p.checkpoint.len, &e), e);
    assert_int_equal(n.sig_count, 3);
    assert_true(bytes_eq_str(n.sigs[1].name, w1));
    assert_true(bytes_eq_str(n.sigs[2].name, w2));
    for (int i = 1; i < WITNESSES; i++) {
        uint64_t time;
        assert_int_equal(tlog_cosign_find(&n, &witness[i].vkey, &time, &e), 1);
    }
    buf_free(&text);
}

static void waited_for(void **state)
{
    struct tlog_checkpoint old = head_now();
    struct err e;
    pthread_t notary;
    make(2, LONG_MS);
    assert_ok(bring(&witness[0], now(), &old, &e), e);
    assert_ok(bring(&witness[1], now(), &old, &e), e);
    assert_ok(quorum_admit(q, &e), e);
    append(5);
    size_t reserved = quorum_proof_max(q);
    assert_int_equal(pthread_create(&notary, NULL, bring_some, &old), 0);
    assert_ok(quorum_await(q, &e), e);
    pthread_join(notary, NULL);
    struct buf plain;
    buf_init(&plain, 1000);
    tlog_cosign_line(&witness[0].vkey, &(struct tlog_cosignature){0}, &plain);
    assert_true(2 * plain.len <= reserved); /* what is reserved in a certificate is enough */
    buf_free(&plain);
    proof_has("w2.example.net", "w3.example.net");
    counts(2, false);
    const struct tlog_checkpoint head = head_now();
    assert_ok(bring(&witness[0], now(), &head, &e), e);
    counts(3, false);
    proof_has("w2.example.net", "w3.example.net"); /* as many as are needed */
}

/* Too few in time: refused, and whatever comes next before it is logged; until the quorum is there. */
static void missed(void **state)
{
    struct err e;
    struct tlog_checkpoint head = head_now();
    make(2, 1);
    for (int i = 0; i < 2; i++)
        assert_ok(bring(&witness[i], now(), &head, &e), e);
    assert_ok(quorum_admit(q, &e), e);
    append(2);
    assert_int_equal(quorum_await(q, &e), -1);
    assert_rule(e, "witness-quorum");
    assert_int_equal(e.code, ERR_UNAVAILABLE);
    assert_int_equal(quorum_admit(q, &e), -1);
    assert_rule(e, "witness-quorum");
    head = head_now();
    until_published(head.size);
    counts(0, true);
    assert_ok(bring(&witness[2], now(), &head, &e), e);
    assert_int_equal(quorum_admit(q, &e), -1);
    append(1); /* a record: it needs no quorum, and moves the head on */
    tlog_publish_now(tlog);
    struct tlog_checkpoint next = head_now();
    until_published(next.size);
    counts(0, true);
    assert_int_equal(bring(&witness[0], now(), &head, &e), -1); /* late */
    assert_rule(e, "cosign-stale");
    assert_ok(bring(&witness[0], now(), &next, &e), e);
    counts(1, true);
    assert_ok(bring(&witness[1], now(), &next, &e), e);
    counts(2, false);
    /* They may be there and slow: one certificate a batch, until one has its quorum in time. */
    quorum_batch(q);
    assert_ok(quorum_admit(q, &e), e);
    assert_int_equal(quorum_admit(q, &e), -1);
    assert_rule(e, "witness-quorum");
    quorum_batch(q);
    assert_ok(quorum_admit(q, &e), e);
    assert_int_equal(quorum_admit(q, &e), -1);
    append(0);
    assert_ok(quorum_await(q, &e), e);
    quorum_batch(q);
    assert_ok(quorum_admit(q, &e), e);
    assert_ok(quorum_admit(q, &e), e);
}

/* While the breaker is open a request makes the corridor stand still now and then: records that are told
 * each moment would make every cosignature one of an old head. */
static void *bring_when_still(void *arg)
{
    struct tlog_status s;
    struct err e;
    do {
        usleep(1000);
        tlog_status(tlog, &s);
    } while (s.published_size < s.size);
    const struct tlog_checkpoint head = head_now();
    for (int i = 0; i < 2; i++)
        assert_ok(bring(&witness[i], now(), &head, &e), e);
    return NULL;
}

static void stands_still(void **state)
{
    struct err e;
    pthread_t notary;
    make(2, LONG_MS);
    append(1); /* not published yet: its own interval is an hour */
    assert_int_equal(pthread_create(&notary, NULL, bring_when_still, NULL), 0);
    assert_ok(quorum_admit(q, &e), e);
    pthread_join(notary, NULL);
}

/* At the start the first request waits for what the notary is about to bring. */
static void *bring_first(void *arg)
{
    const struct tlog_checkpoint head = head_now();
    struct err e;
    assert_ok(bring(&witness[0], now(), &head, &e), e);
    assert_ok(bring(&witness[2], now(), &head, &e), e);
    return NULL;
}

static void start_is_waited_for(void **state)
{
    struct err e;
    pthread_t notary;
    make(2, LONG_MS);
    counts(0, true);
    assert_int_equal(pthread_create(&notary, NULL, bring_first, NULL), 0);
    assert_ok(quorum_admit(q, &e), e);
    pthread_join(notary, NULL);
}

/* --- the door ------------------------------------------------------------------------------------- */

static int knock(const char *path, struct ipc_reader **r)
{
    struct err e;
    int fd = ipc_connect(path, &e);
    assert_true(fd >= 0);
    *r = ipc_reader_new(&e);
    return fd;
}

static void answered(struct ipc_reader *r, int fd, uint8_t type)
{
    struct bytes frames[IPC_BATCH];
    struct ipc_frame f;
    struct err e;
    assert_int_equal(ipc_recv(r, fd, LONG_MS, frames, &e), 1);
    assert_ok(ipc_frame_parse(&f, frames[0].p, frames[0].len, &e), e);
    assert_int_equal(f.type, type);
}

static void door(void **state)
{
    struct err e;
    struct ipc_reader *r;
    struct bytes frames[IPC_BATCH];
    struct buf frame;
    char path[160];
    make(1, LONG_MS);
    snprintf(path, sizeof path, "%s/notary.sock", t.base);
    int listen_fd = ipc_listen(path, 0600, &e);
    assert_true(listen_fd >= 0);
    eventfd_t n;
    eventfd_read(told, &n); /* of the start */
    assert_ok(quorum_listen(q, listen_fd, told, geteuid(), &e), e);
    int fd = knock(path, &r);
    const struct tlog_checkpoint old = head_now();
    cosign(&frame, &witness[0], now(), &old);
    assert_ok(ipc_send(fd, &frame, &e), e);
    answered(r, fd, CA_COSIGNED);
    append(1);
    tlog_publish_now(tlog);
    answered(r, fd, CA_HEAD);
    assert_ok(ipc_send(fd, &frame, &e), e);
    answered(r, fd, CA_REFUSED);
    /* Nothing else is asked here. */
    ipc_frame_begin(&frame, CA_INFO, 1);
    assert_ok(ipc_send(fd, &frame, &e), e);
    assert_int_equal(ipc_recv(r, fd, LONG_MS, frames, &e), -2);
    buf_free(&frame);
    ipc_reader_free(r);
    close(fd);
    quorum_free(q);
    q = NULL;
    close(listen_fd);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(only_good_ones_count), TEST(none_needed), TEST(one_key_twice),
                                       TEST(waited_for),           TEST(missed), TEST(stands_still),      TEST(start_is_waited_for),
                                       TEST(door)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
