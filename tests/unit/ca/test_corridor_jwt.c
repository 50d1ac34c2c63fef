/* JWT-SVIDs through the corridor: real token, real log, a signer process of its own, and killed at each step. */
#include "base/jose.h"
#include "ca/client.h"
#include "tlog/record.h"
#include "unit/ca/asked.h"
#include "unit/ca/house.h"
#include <pthread.h>

#define DEADLINE_MS 120000
#define ASKERS 4
#define EACH 12

static struct house house;
static struct ca_client *client;
static struct tlog_vkey vkey;
static struct key *jwt_key;
static char kid[44];

static void learn_keys(void)
{
    static struct ca_snapshot s;
    struct err e = {0};
    do
        ca_client_snapshot(client, &s);
    while (!s.known && usleep(1000) == 0);
    assert_ok(tlog_vkey_parse(&vkey, s.vkey, strlen(s.vkey), &e), &e);
    jwt_key = key_from_spki(s.jwt_key, s.jwt_key_len, &e);
    assert_non_null(jwt_key);
    assert_int_equal(key_kind(jwt_key), KEY_P256);
    assert_ok(jwk_thumbprint(kid, jwt_key, &e), &e);
}

static void open_house(const char *more)
{
    struct err e = {0};
    house_build(&house, more);
    assert_ok(house_child(&house, house_ceremony, &e), &e);
    house_keeper(&house);
    house_start(&house);
    client = ca_client_new(house.socket, DEADLINE_MS, &e);
    assert_non_null(client);
    learn_keys();
}

static int setup(void **state)
{
    open_house("");
    return 0;
}

static int setup_rate(void **state)
{
    open_house("  rate: 5\n");
    return 0;
}

static int teardown(void **state)
{
    ca_client_free(client);
    house_pull_down(&house);
    tlog_vkey_free(&vkey);
    key_free(jwt_key);
    return 0;
}

/* --- asking ------------------------------------------------------------------------------------------- */

struct answer {
    struct asked asked;
    uint64_t index;
    int64_t issued, expires;
    char jwt[CA_JWT_BYTES + 1]; /* "": refused */
};

static void on_answer(void *arg, const struct ca_jwt_signed *r, const struct err *e)
{
    struct answer *a = arg;
    if (r) {
        a->index = r->index;
        a->issued = r->issued;
        a->expires = r->expires;
        memcpy(a->jwt, r->jwt.p, r->jwt.len);
    }
    asked_settle(&a->asked, e);
}

static void ask(struct answer *a, const struct ca_jwt *m)
{
    struct err e = {0};
    memset(a, 0, sizeof *a);
    asked_begin(&a->asked);
    assert_ok(ca_client_jwt(client, m, on_answer, a, &e), &e);
    asked_wait(&a->asked);
}

static void asked_in_vain(const struct ca_jwt *m, const char *rule)
{
    static struct answer a;
    ask(&a, m);
    assert_string_equal(a.jwt, "");
    assert_string_equal(a.asked.e.rule, rule);
}

/* --- verifying ------------------------------------------------------------------------------------------ */

/* By OpenSSL, with the key that the frontend is told of. */
static void verify(const struct answer *a)
{
    struct err e = {0};
    uint8_t sig[64];
    const char *dot = strrchr(a->jwt, '.');
    assert_non_null(dot);
    assert_int_equal(b64url_decode(sig, sizeof sig, dot + 1, strlen(dot + 1)), 64);
    assert_ok(key_verify(jwt_key, false, sig, sizeof sig, a->jwt, (size_t)(dot - a->jwt), &e), &e);
}

/* With the signer stopped, so that all is published: from its record alone the token is rebuilt, but for the
 * signature, as tlog/FORMAT.md says. */
static void stands_in_log(const struct answer *a)
{
    struct err e = {0};
    struct buf entry, note, text, token;
    struct tlog_hash path[TLOG_LEVELS];
    size_t path_len;
    struct tlog_entry t;
    struct tlog_record_info r;
    struct bytes one;
    struct buf *const all[] = {&entry, &note, &text, &token};
    for (size_t i = 0; i < 4; i++)
        buf_init(all[i], 65536);
    assert_ok(tlog_read_entry(house.config->log.dir, &vkey, a->index, &entry, path, &path_len, &note, &e), &e);
    assert_ok(tlog_entry_parse(&t, entry.p, entry.len, &e), &e);
    assert_int_equal(t.type, TLOG_ENTRY_JWT);
    assert_ok(tlog_record_parse(&r, t.type, t.body, &e), &e);
    assert_true(r.time == a->issued && r.expires == a->expires && bytes_eq_str(r.kid, kid));
    buf_fmt(&text, "{\"alg\":\"ES256\",\"kid\":\"%.*s\",\"typ\":\"JWT\"}", (int)r.kid.len, (const char *)r.kid.p);
    buf_b64url(&token, text.p, text.len);
    buf_reset(&text);
    struct cur c = cur_of(r.audiences.p, r.audiences.len);
    buf_str(&text, "{\"aud\":[");
    for (bool some = false; tlog_audience_next(&c, &one); some = true) {
        buf_str(&text, some ? "," : "");
        jw_strn(&text, (const char *)one.p, one.len);
    }
    buf_fmt(&text, "],\"exp\":%lld,\"iat\":%lld,\"jti\":\"1-%llu\",\"sub\":\"%.*s\"}", (long long)r.expires, (long long)r.time,
            (unsigned long long)a->index, (int)r.spiffe_id.len, (const char *)r.spiffe_id.p);
    buf_str(&token, ".");
    buf_b64url(&token, text.p, text.len);
    assert_int_equal(strncmp(a->jwt, buf_cstr(&token), token.len), 0);
    assert_int_equal(a->jwt[token.len], '.');
    for (size_t i = 0; i < 4; i++)
        buf_free(all[i]);
}

static void one(void **state)
{
    static struct answer a;
    static struct ca_snapshot s;
    const struct ca_jwt m = test_jwt();
    ask(&a, &m);
    assert_string_not_equal(a.jwt, "");
    verify(&a);
    assert_int_equal(a.expires - a.issued, 300);
    do /* what reconcile is told */
        ca_client_snapshot(client, &s);
    while (s.jwt_signatures == 0 && usleep(1000) == 0);
    assert_true(s.jwt_signatures == 1 && s.jwt_abandoned == 0 && s.jwt_since > 0 && s.jwt_since <= a.issued);
    assert_true(s.issuing_signatures == 0);
    assert_int_equal(house_stop(&house), 0);
    stands_in_log(&a);
}

/* Refused, and nothing of it stands in the log. */
static void refusals(void **state)
{
    struct err e = {0};
    struct tlog_verify_report before, after;
    static struct answer a;
    const struct ca_jwt m = test_jwt();
    struct ca_jwt x = m;
    ask(&a, &m);
    assert_int_equal(house_stop(&house), 0);
    assert_ok(tlog_verify_dir(house.config->log.dir, &vkey, &before, NULL, NULL, &e), &e);
    house_start(&house);
    x.lifetime = 3601;
    asked_in_vain(&x, "lifetime");
    x = m, x.spiffe_id = text("spiffe://example.com/web");
    asked_in_vain(&x, "trust-domain");
    x = m, x.spiffe_id = text("spiffe://example.org/mayfly/server");
    asked_in_vain(&x, "reserved");
    x = m, x.audiences = text("\001");
    asked_in_vain(&x, "record-format");
    x = m, x.audiences = text("\002a\n");
    asked_in_vain(&x, "record-format");
    x = m, x.entry_id = text("a b");
    asked_in_vain(&x, "log-fields");
    assert_int_equal(house_stop(&house), 0);
    assert_ok(tlog_verify_dir(house.config->log.dir, &vkey, &after, NULL, NULL, &e), &e);
    assert_int_equal(after.size, before.size);
}

/* One cap for all that the signer gives out. */
static void rate(void **state)
{
    static struct answer a;
    const struct ca_jwt m = test_jwt();
    unsigned refused = 0;
    for (int i = 0; i < 20; i++) {
        ask(&a, &m);
        refused += strcmp(a.asked.e.rule, "rate") == 0;
    }
    assert_true(refused > 0);
}

/* The frontend cannot have a record of one written without asking for one. */
static void no_record_alone(void **state)
{
    struct err e = {0}, why;
    struct ipc_frame f;
    struct bytes out[IPC_BATCH];
    struct buf body, frame;
    const struct ca_jwt m = test_jwt();
    buf_init(&body, TLOG_RECORD_MAX);
    buf_init(&frame, IPC_FRAME_MAX);
    const struct tlog_record_info r = {.type = TLOG_ENTRY_JWT, .time = 1, .code = TLOG_JWT_SVID, .expires = 2,
                                       .spiffe_id = m.spiffe_id, .audiences = m.audiences, .kid = text("k"),
                                       .entry_id = m.entry_id};
    assert_ok(tlog_record_write(&r, &body, &e), &e);
    ca_record_write(&frame, 7, &(struct ca_record){TLOG_ENTRY_JWT, {body.p, body.len}});
    struct ipc_reader *reader = ipc_reader_new(&e);
    int fd = ipc_connect(house.socket, &e);
    assert_ok(ipc_send(fd, &frame, &e), &e);
    assert_int_equal(ipc_recv(reader, fd, -1, out, &e), 1);
    assert_ok(ipc_frame_parse(&f, out[0].p, out[0].len, &e), &e);
    assert_int_equal(f.type, CA_REFUSED);
    assert_ok(ca_refused_parse(&why, f.body, &e), &e);
    assert_string_equal(why.rule, "record-type");
    close(fd);
    ipc_reader_free(reader);
    buf_free(&body);
    buf_free(&frame);
}

/* --- killed at each step ------------------------------------------------------------------------------ */

struct asker {
    pthread_t thread;
    struct ca_jwt m;
    struct answer *answers;
};

static void *asker_thread(void *arg)
{
    struct asker *k = arg;
    for (size_t i = 0; i < EACH; i++)
        ask(&k->answers[i], &k->m);
    return NULL;
}

static void load(struct asker askers[ASKERS])
{
    for (size_t i = 0; i < ASKERS; i++) {
        askers[i].m = test_jwt();
        askers[i].answers = calloc(EACH, sizeof *askers[i].answers);
        assert_int_equal(pthread_create(&askers[i].thread, NULL, asker_thread, &askers[i]), 0);
    }
    for (size_t i = 0; i < ASKERS; i++)
        pthread_join(askers[i].thread, NULL);
}

/* Every token that anyone received verifies and is in the log, each with an entry of its own. */
static void check_load(struct asker askers[ASKERS], bool published)
{
    for (size_t n = 0; n < ASKERS * EACH; n++) {
        const struct answer *a = &askers[n / EACH].answers[n % EACH];
        assert_string_not_equal(a->jwt, "");
        verify(a);
        if (published)
            stands_in_log(a);
        for (size_t k = 0; k < n; k++)
            assert_true(askers[k / EACH].answers[k % EACH].index != a->index);
    }
    for (size_t i = 0; i < ASKERS; i++)
        free(askers[i].answers);
}

static void kills(void **state)
{
    static const char *const points[] = {"issue-received", "issue-checked", "issue-logged", "issue-tbs",  "jwt-signed",
                                         "issue-answered", "tlog-journal",  "tlog-synced",  "tlog-signed", "tlog-head"};
    uint64_t size = 0;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct asker askers[ASKERS];
        struct tlog_verify_report r;
        struct err e = {0};
        char words[64];
        snprintf(words, sizeof words, "%s kill %zu\n", points[i], 2 + i % 3);
        house_file(house.fault, words);
        load(askers);
        if (access(house.fault, F_OK) == 0)
            fail_msg("%s did not fire", points[i]);
        assert_int_equal(house_stop(&house), 0);
        assert_ok(tlog_verify_dir(house.config->log.dir, &vkey, &r, NULL, NULL, &e), &e);
        assert_true(r.size > size);
        size = r.size;
        check_load(askers, true);
        house_start(&house);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {T(one), T(refusals), cmocka_unit_test_setup_teardown(rate, setup_rate, teardown),
                                       T(no_record_alone), T(kills)};
    if (need_softhsm())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
