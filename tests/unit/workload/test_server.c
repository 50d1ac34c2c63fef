#include "unit/workload/h2.h"
#include "base/clock.h"
#include <unistd.h>

static struct fake_ca ca;
static struct wl_bundles *bundles;

static int setup(void **state)
{
    ca = fake_ca_new("spiffe://test.example", 1);
    bundles = fake_bundles(&ca, "test.example", "{\"keys\":[]}", NULL, NULL);
    return 0;
}

static int teardown(void **state)
{
    fake_ca_free(&ca);
    wl_bundles_unref(bundles);
    return 0;
}

static struct wl_state *state_of(long serial)
{
    struct wl_svid *v = fake_svid(&ca, "spiffe://test.example/web", "hint", serial);
    return fake_state(&v, 1, wl_bundles_ref(bundles));
}

/* The last message is exactly this state. */
static void assert_x509(int32_t id, const struct wl_state *st, size_t count)
{
    struct bytes m;
    assert_int_equal(h2_messages(id, &m), count);
    X509SVIDResponse *r = x509_svidresponse__unpack(NULL, m.len, m.p);
    assert_non_null(r);
    assert_int_equal(r->n_svids, st->n);
    assert_string_equal(r->svids[0]->spiffe_id, st->svids[0]->spiffe_id);
    assert_string_equal(r->svids[0]->hint, st->svids[0]->hint);
    assert_int_equal(r->svids[0]->x509_svid.len, st->svids[0]->chain_len);
    assert_memory_equal(r->svids[0]->x509_svid.data, st->svids[0]->chain, st->svids[0]->chain_len);
    assert_int_equal(r->svids[0]->x509_svid_key.len, st->svids[0]->key.len);
    assert_memory_equal(r->svids[0]->x509_svid_key.data, st->svids[0]->key.p, st->svids[0]->key.len);
    assert_int_equal(r->svids[0]->bundle.len, st->bundles->list[0].x509.len);
    assert_int_equal(r->n_crl, 1);
    x509_svidresponse__free_unpacked(r, NULL);
}

static void assert_scratch_clean(void)
{
    assert_int_equal(t.s->scratch.used, 0);
    assert_null(t.s->scratch.owner);
    uint8_t any = 0;
    for (size_t i = 0; i < t.s->scratch.mem.cap; i++)
        any |= t.s->scratch.mem.p[i];
    assert_int_equal(any, 0);
}

static void test_stream(void **state)
{
    struct wl_state *a = state_of(10), *b = state_of(11);
    h2_open(NULL);
    int32_t id = h2_ask((struct ask){.path = API "FetchX509SVID"});
    assert_non_null(t.last);
    assert_int_equal(t.a[id].data.len, 0);
    wl_call_set_data(t.last, a);
    assert_ptr_equal(wl_call_data(t.last), a);
    wl_call_state(t.last, a);
    assert_true(h2_pump());
    assert_string_equal(t.a[id].http, "200");
    assert_x509(id, a, 1);
    assert_scratch_clean();
    wl_call_state(t.last, a); /* the very same is no news */
    h2_pump();
    assert_x509(id, a, 1);
    wl_call_state(t.last, b);
    h2_pump();
    assert_x509(id, b, 2);
    assert_int_equal(a->refs, 1); /* nothing holds an old state's keys */
    wl_call_fail(t.last, WL_UNAVAILABLE, "50% d\xc3\xa9j\xc3\xa0\n");
    h2_pump();
    assert_int_equal(t.a[id].status, 14);
    assert_string_equal(t.a[id].message, "50% d\xc3\xa9j\xc3\xa0\n");
    assert_true(t.a[id].ended && !t.a[id].reset);
    assert_int_equal(b->refs, 1);
    assert_null(t.last);
    h2_close();
    wl_state_unref(a);
    wl_state_unref(b);
}

/* However short writes fall, what arrives is whole, and nothing is left lying. */
static void test_short_writes(void **state)
{
    struct wl_state *a = state_of(20), *b = state_of(21);
    static const size_t pieces[] = {1, 2, 3, 8, 9, 10, 100, 1000};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        h2_open(NULL);
        const struct ask ask = {.path = API "FetchX509SVID"};
        int32_t id = h2_ask(ask), other = h2_ask(ask);
        t.piece = pieces[i];
        for (struct wl_call *k = t.c->calls; k; k = k->next)
            wl_call_state(k, a);
        for (int turn = 0; turn < 5000 && (turn < 50 || t.c->blocked); turn++) {
            t.budget = pieces[i];
            assert_true(h2_pump());
            assert_scratch_clean();
            if (turn == 40) /* in the middle of a message: it is finished first */
                for (struct wl_call *k = t.c->calls; k; k = k->next)
                    wl_call_state(k, b);
        }
        t.budget = SIZE_MAX;
        h2_pump();
        struct bytes m;
        size_t n = h2_messages(id, &m);
        assert_true(n == 1 || n == 2);
        assert_x509(id, b, n);
        assert_x509(other, b, h2_messages(other, &m));
        assert_int_equal(a->refs, 1);
        h2_close();
    }
    wl_state_unref(a);
    wl_state_unref(b);
}

/* Who does not read holds a reference, and gets the newest when it does. */
static void test_slow_reader(void **state)
{
    struct wl_state *s[20];
    h2_open(NULL);
    int32_t id = h2_ask((struct ask){.path = API "FetchX509SVID"});
    t.budget = 0;
    size_t memory = t.c->memory;
    for (int i = 0; i < 20; i++) {
        s[i] = state_of(100 + i);
        wl_call_state(t.last, s[i]);
        assert_true(h2_pump());
    }
    assert_true(t.c->memory < memory + 4096);
    t.budget = SIZE_MAX;
    h2_pump();
    struct bytes m;
    assert_true(h2_messages(id, &m) <= 2);
    assert_x509(id, s[19], h2_messages(id, &m));
    for (int i = 0; i < 19; i++)
        assert_int_equal(s[i]->refs, 1);
    h2_close();
    for (int i = 0; i < 20; i++)
        wl_state_unref(s[i]);
}

static void test_reset_within_a_frame(void **state)
{
    struct wl_state *a = state_of(30);
    h2_open(NULL);
    int32_t id = h2_ask((struct ask){.path = API "FetchX509SVID"});
    wl_call_state(t.last, a);
    t.budget = 100; /* headers, and a part of DATA */
    assert_true(h2_pump());
    assert_true(t.c->part_sent > 0);
    nghttp2_submit_rst_stream(t.h2, 0, id, NGHTTP2_CANCEL);
    t.budget = SIZE_MAX;
    assert_false(h2_pump()); /* rather than frames out of step */
    assert_int_equal(a->refs, 1);
    h2_close();
    wl_state_unref(a);
}

struct expect {
    struct ask ask;
    const char *http;
    int status;
};

static void test_refusals(void **state)
{
    static const uint8_t two[10], compressed[] = {1, 0, 0, 0, 1, 9}, large[] = {0, 0, 1, 0, 1},
                                  half[] = {0, 0, 0, 0, 9, 1}, empty_aud[] = {0, 0, 0, 0, 2, 0x0a, 0},
                                  nul[] = {0, 0, 0, 0, 3, 0x0a, 1, 0}, aud[] = {0, 0, 0, 0, 3, 0x0a, 1, 'a'},
                                  bad_id[] = {0, 0, 0, 0, 6, 0x0a, 1, 'a', 0x12, 1, 'b'};
    const struct expect list[] = {
        {{.path = API "FetchX509SVID", .method = "GET"}, "405", -1},
        {{.path = API "FetchX509SVID", .type = "text/html"}, "415", -1},
        {{.path = API "FetchX509SVID", .type = "application/grpc-web"}, "415", -1},
        {{.path = API "FetchX509SVID", .te = ""}, "200", 3},
        {{.path = API "FetchX509SVID", .meta = "True"}, "200", 3},
        {{.path = API "FetchX509SVID", .timeout = "5"}, "200", 3},
        {{.path = API "FetchX509SVID", .timeout = "123456789S"}, "200", 3},
        {{.path = API "FetchX509SVIDs"}, "200", 12},
        {{.path = SDS "DeltaSecrets"}, "200", 12},
        {{.path = API "FetchX509SVID", .body = two, .len = sizeof two}, "200", 12},
        {{.path = API "FetchX509SVID", .body = two, .len = 0}, "200", 12},
        {{.path = API "FetchJWTSVID", .body = compressed, .len = sizeof compressed}, "200", 12},
        {{.path = API "FetchJWTSVID", .body = large, .len = sizeof large, .open = true}, "200", 8},
        {{.path = API "FetchJWTSVID", .body = half, .len = sizeof half}, "200", 13},
        {{.path = API "FetchJWTSVID"}, "200", 3},
        {{.path = API "FetchJWTSVID", .body = empty_aud, .len = sizeof empty_aud}, "200", 3},
        {{.path = API "FetchJWTSVID", .body = nul, .len = sizeof nul}, "200", 13},
        {{.path = API "FetchJWTSVID", .body = bad_id, .len = sizeof bad_id}, "200", 3},
        {{.path = API "ValidateJWTSVID", .body = aud, .len = sizeof aud}, "200", 3},
    };
    h2_open(NULL);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int32_t id = h2_ask(list[i].ask);
        assert_string_equal(t.a[id].http, list[i].http);
        assert_int_equal(t.a[id].status, list[i].status);
        assert_true(t.a[id].ended);
        assert_int_equal(t.a[id].data.len, 0);
    }
    assert_int_equal(t.asked, 0);
    assert_null(t.c->calls);
    assert_int_equal(t.c->user->request_bytes, 0);
    struct wl_stats stats;
    wl_server_stats(t.s, &stats);
    assert_int_equal(stats.refused, sizeof list / sizeof *list);
    assert_int_equal(stats.open_calls, 0);
    h2_close();
}

static void test_unary(void **state)
{
    static const uint8_t aud[] = {0, 0, 0, 0, 3, 0x0a, 1, 'a'}, val[] = {0, 0, 0, 0, 6, 0x0a, 1, 'a', 0x12, 1,
                                                                         'b'};
    char id_[] = "spiffe://test.example/web", svid[] = "a.b.c", hint[] = "";
    struct wl_jwt j = {id_, svid, hint};
    struct bytes m;
    h2_open(NULL);
    int32_t id = h2_ask((struct ask){.path = API "FetchJWTSVID", .body = aud, .len = sizeof aud});
    wl_call_claims(t.last, id_, "{}", 2); /* another method's answer is none */
    wl_call_jwt(t.last, &j, 1);
    wl_call_fail(t.last, WL_INTERNAL, "too late");
    h2_pump();
    assert_int_equal(t.a[id].status, 0);
    assert_int_equal(h2_messages(id, &m), 1);
    JWTSVIDResponse *r = jwtsvidresponse__unpack(NULL, m.len, m.p);
    assert_int_equal(r->n_svids, 1);
    assert_string_equal(r->svids[0]->svid, "a.b.c");
    jwtsvidresponse__free_unpacked(r, NULL);
    id = h2_ask((struct ask){.path = API "FetchJWTSVID", .body = aud, .len = sizeof aud});
    wl_call_jwt(t.last, NULL, 0);
    h2_pump();
    assert_int_equal(t.a[id].status, 7);
    static const struct {
        const char *json;
        int status;
    } claims[] = {{"{\"sub\":\"x\",\"exp\":5,\"a\":[1.5,{\"b\":null}]}", 0}, {"[]", 13}, {"{", 13},
                  {"{\"a\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}", 13}};
    for (size_t i = 0; i < 4; i++) {
        id = h2_ask((struct ask){.path = API "ValidateJWTSVID", .body = val, .len = sizeof val});
        wl_call_claims(t.last, id_, claims[i].json, strlen(claims[i].json));
        h2_pump();
        assert_int_equal(t.a[id].status, claims[i].status);
        if (i)
            continue;
        assert_int_equal(h2_messages(id, &m), 1);
        ValidateJWTSVIDResponse *v = validate_jwtsvidresponse__unpack(NULL, m.len, m.p);
        assert_non_null(v);
        assert_int_equal(v->claims->n_fields, 3);
        assert_true(v->claims->fields[1]->value->number_value == 5);
        assert_int_equal(v->claims->fields[2]->value->list_value->n_values, 2);
        validate_jwtsvidresponse__free_unpacked(v, NULL);
    }
    assert_scratch_clean();
    h2_close();
}

/* Time is moved by moving what it is compared with. */
static void test_deadlines(void **state)
{
    static const uint8_t aud[] = {0, 0, 0, 0, 3, 0x0a, 1, 'a'};
    h2_open(&(struct wl_limits){.idle_seconds = 100});
    assert_int_equal(t.c->memory > 0, 1);
    int32_t id = h2_ask((struct ask){.path = API "FetchJWTSVID", .body = aud, .len = sizeof aud,
                                     .timeout = "1H"});
    assert_in_range(t.last->deadline, clock_mono_ms() + 3500000, clock_mono_ms() + 3600000);
    t.last->deadline = clock_mono_ms();
    h2_pump();
    assert_int_equal(t.a[id].status, 4);
    assert_int_equal(t.cancelled, 1);
    id = h2_ask((struct ask){.path = API "FetchJWTSVID", .body = aud, .len = 3, .open = true});
    assert_int_equal(t.a[id].status, -1);
    t.c->calls->request_deadline = clock_mono_ms();
    h2_pump();
    assert_int_equal(t.a[id].status, 4); /* a request that does not come to its end */
    assert_true(t.a[id].ended);
    assert_int_equal(t.c->user->request_bytes, 0);
    t.c->idle_since = clock_mono_ms() - 99000;
    assert_true(h2_pump());
    id = h2_ask((struct ask){.path = API "FetchX509SVID"});
    t.c->idle_since = clock_mono_ms() - 101000;
    assert_true(h2_pump()); /* an open call is not idle */
    nghttp2_submit_rst_stream(t.h2, 0, id, NGHTTP2_CANCEL);
    h2_pump();
    assert_int_equal(t.asked, t.cancelled);
    t.c->idle_since = clock_mono_ms() - 101000;
    assert_false(h2_pump());
    h2_close();

    h2_open(NULL);
    t.c->born = clock_mono_ms() - LIMIT_PREFACE_S * 1000; /* says nothing at all */
    assert_false(conn_settle(t.c));
    t.c = NULL;
    h2_close();
}

static void test_sds_stream(void **state)
{
    static const uint8_t def[] = {0, 0, 0, 0, 9, 0x1a, 7, 'd', 'e', 'f', 'a', 'u', 'l', 't'},
                         root[] = {0, 0, 0, 0, 8, 0x1a, 6, 'R', 'O', 'O', 'T', 'C', 'A'};
    struct wl_state *a = state_of(50), *b = state_of(51);
    struct bytes m;
    h2_open(NULL);
    int32_t id = h2_ask((struct ask){.path = SDS "StreamSecrets", .body = def, .len = sizeof def,
                                     .open = true, .meta = ""});
    assert_int_equal(t.asked, 1);
    wl_call_state(t.last, a);
    h2_pump();
    assert_int_equal(h2_messages(id, &m), 1);
    h2_more(id, root, sizeof root, false); /* without the nonce: stale */
    assert_int_equal(h2_messages(id, &m), 1);
    wl_call_state(t.last, b);
    h2_pump();
    assert_int_equal(h2_messages(id, &m), 2);
    static const uint8_t ack[] = {0, 0, 0, 0, 11, 0x1a, 6, 'R', 'O', 'O', 'T', 'C', 'A', 0x2a, 1, '2'};
    h2_more(id, ack, sizeof ack, false);
    assert_int_equal(h2_messages(id, &m), 3);
    wl_call_state(t.last, a); /* other SVIDs, the same bundle */
    h2_pump();
    assert_int_equal(h2_messages(id, &m), 3);
    assert_int_equal(b->refs, 1);
    /* half a message, then the rest; in one piece with another */
    h2_more(id, ack, 4, false);
    assert_true(t.c->user->request_bytes > 0);
    h2_more(id, ack + 4, sizeof ack - 4, true);
    assert_int_equal(t.a[id].status, 0);
    assert_true(t.a[id].ended);
    assert_int_equal(a->refs, 1);
    h2_close();
    wl_state_unref(a);
    wl_state_unref(b);
}

static void test_admission(void **state)
{
    h2_open(&(struct wl_limits){.connections = 4, .connections_per_uid = 2});
    struct conn *second = conn_new(t.s, -1, 1000);
    assert_non_null(second);
    assert_null(conn_new(t.s, -1, 1000));
    assert_non_null(conn_new(t.s, -1, 1));
    assert_non_null(conn_new(t.s, -1, 2));
    assert_null(conn_new(t.s, -1, 3)); /* the total */
    conn_free(second);
    t.refuse = true;
    assert_null(conn_new(t.s, -1, 1000)); /* the provider does not want it */
    t.refuse = false;
    assert_non_null(conn_new(t.s, -1, 1000));
    struct wl_stats stats;
    wl_server_stats(t.s, &stats);
    assert_int_equal(stats.open_connections, 4);
    assert_int_equal(stats.connections, 5);
    assert_int_equal(stats.refused, 3);
    h2_close();
}

/* Unfinished requests are counted for the user, whatever number of streams they come on. */
static void test_request_bytes(void **state)
{
    static uint8_t big[60000] = {0, 0, 0, 0xff, 0xf0};
    h2_open(NULL);
    unsigned refused = 0;
    struct conn *first = t.c;
    for (int round = 0; round < 12; round++) {
        if (round) { /* another connection, with a client of its own */
            nghttp2_session_del(t.h2);
            h2_client();
            t.c = conn_new(t.s, -1, 1000);
            assert_non_null(t.c);
            for (int i = 0; i < STREAMS; i++)
                t.a[i].status = -1;
        }
        for (int i = 0; i < 2; i++) {
            int32_t id = h2_ask((struct ask){.path = API "FetchJWTSVID", .body = big, .len = sizeof big,
                                             .open = true});
            refused += t.a[id].status == 8;
        }
        assert_true(first->user->request_bytes <= LIMIT_REQUESTS_PER_UID);
    }
    assert_true(refused > 4);
    h2_close();
}

/* As many as a test's client may ask; how many were refused for want of room. */
static unsigned ask_all(struct ask q)
{
    unsigned refused = 0;
    for (int i = 0; i < 120; i++) {
        refused += t.a[h2_ask(q)].status == 8;
        assert_true(t.c->user->kept_bytes <= LIMIT_KEPT_PER_UID);
    }
    return refused;
}

static void test_kept_names(void **state)
{
    static uint8_t names[50305] = {0, 0, 0, 50300 >> 8, 50300 & 0xff};
    h2_open(&(struct wl_limits){.streams_per_connection = 200});
    for (uint8_t *p = names + GRPC_PREFIX; p < names + sizeof names; p += 503) {
        memcpy(p, "\x1a\xf4\x03", 3);
        memset(p + 3, 'x', 500);
    }
    /* Nobody can say yet that these names stand for nothing. */
    unsigned refused = ask_all((struct ask){.path = SDS "StreamSecrets", .body = names, .len = sizeof names,
                                            .open = true, .meta = ""});
    assert_in_range(refused, 30, 60);
    h2_close();
}

static void test_kept_requests(void **state)
{
    static uint8_t body[60012] = {0, 0, 0, 60007 >> 8, 60007 & 0xff, 0x0a, 1, 'a', 0x7a, 0xe0, 0xd4};
    body[11] = 3; /* a field of 60000 bytes, of a later version perhaps */
    h2_open(&(struct wl_limits){.streams_per_connection = 200});
    unsigned refused = ask_all((struct ask){.path = API "FetchJWTSVID", .body = body, .len = sizeof body});
    assert_in_range(refused, 40, 60);
    assert_int_equal(t.asked, 120 - refused);
    wl_call_fail(t.last, WL_UNAVAILABLE, "");
    h2_pump();
    assert_true(t.c->user->kept_bytes < LIMIT_KEPT_PER_UID - 60000);
    h2_close();
}

static void test_kept_answers(void **state)
{
    static const uint8_t aud[] = {0, 0, 0, 0, 3, 0x0a, 1, 'a'};
    static char svid[200000];
    char id_[] = "spiffe://test.example/web", hint[] = "";
    struct wl_jwt j = {id_, svid, hint};
    unsigned refused = 0, given = 0;
    memset(svid, 's', sizeof svid - 1);
    h2_open(NULL);
    h2_pump();
    t.budget = 0;
    for (int i = 0; i < 30; i++) {
        h2_ask((struct ask){.path = API "FetchJWTSVID", .body = aud, .len = sizeof aud});
        wl_call_jwt(t.last, &j, 1);
        assert_true(t.c->user->kept_bytes <= LIMIT_KEPT_PER_UID);
    }
    assert_true(t.c->user->kept_bytes > LIMIT_KEPT_PER_UID - sizeof svid);
    t.budget = SIZE_MAX;
    h2_pump();
    for (int i = 0; i < STREAMS; i++) {
        given += t.a[i].status == 0;
        refused += t.a[i].status == 8;
    }
    assert_int_equal(given, 20);
    assert_int_equal(refused, 10);
    assert_int_equal(t.c->user->kept_bytes, 0);
    assert_scratch_clean();
    h2_close();
}

/* Answers that a client does not fetch pile up in nghttp2: up to the limit, then the connection goes. */
static void test_memory(void **state)
{
    static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    h2_open(NULL);
    assert_true(t.c->memory > 10000 && t.c->memory < 40000);
    assert_int_equal(t.c->user->memory, t.c->memory);
    conn_feed(t.c, hello, sizeof hello - 1);
    t.budget = 0;
    bool lives = true;
    for (uint32_t id = 1; lives &&
         id < 200000; id += 2) { /* streams beyond the limit: each is refused with a frame */
        uint8_t get[] = {0, 0, 5, 1, 4, 0, (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id, 0x83, 0x84,
                         0x86, 1, 0};
        conn_feed(t.c, get, sizeof get);
        lives = conn_settle(t.c);
        if (lives)
            assert_true(t.c->memory <= LIMIT_SESSION_MEMORY);
    }
    assert_false(lives);
    assert_null(t.s->users);
    t.c = NULL;
    h2_close();
}

/* gRPC's C core resets streams that it never opened; the others live on. Frames of no use have an end. */
static void test_frames(void **state)
{
    static const uint8_t reset[] = {0, 0, 4, 3, 0, 0, 0, 0, 9, 0, 0, 0, 8}, even[] = {0, 0, 4, 3, 0, 0, 0, 0,
                                                                                      8, 0, 0, 0, 8},
                         ping[] = {0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    h2_open(NULL);
    int32_t id = h2_ask((struct ask){.path = API "FetchX509SVID"});
    for (size_t i = 0; i < sizeof reset; i++)
        conn_feed(t.c, reset + i, 1);
    assert_true(h2_pump());
    struct wl_state *a = state_of(70);
    wl_call_state(t.last, a);
    assert_true(h2_pump());
    assert_x509(id, a, 1);
    conn_feed(t.c, reset, sizeof reset);
    conn_feed(t.c, even, sizeof even); /* no client has those: RFC 9113 §5.1.1 */
    assert_false(h2_pump());
    h2_close();
    wl_state_unref(a);

    h2_open(NULL);
    h2_pump();
    unsigned n = 0;
    while (n < 2 * LIMIT_CHATTER_BURST) {
        conn_feed(t.c, ping, sizeof ping);
        n++;
        if (!conn_settle(t.c))
            break;
    }
    t.c = NULL;
    assert_in_range(n, LIMIT_CHATTER_BURST - 10, 2 * LIMIT_CHATTER_BURST - 1);
    h2_close();
}

/* A call that was answered is the provider's no more, also when its client does not read. */
static void test_released_while_blocked(void **state)
{
    struct wl_state *a = state_of(61);
    h2_open(NULL);
    int32_t id = h2_ask((struct ask){.path = API "FetchX509SVID"});
    t.budget = 50;
    wl_call_state(t.last, a);
    h2_pump();
    event_base_loop(t.base, EVLOOP_NONBLOCK); /* what was asked for before */
    assert_true(t.c->blocked);
    wl_call_fail(t.last, WL_PERMISSION_DENIED, "no more");
    event_base_loop(t.base, EVLOOP_NONBLOCK);
    assert_int_equal(t.cancelled, 1);
    assert_true(t.c->timer_at != NEVER); /* and the connection is idle from now on */
    t.budget = SIZE_MAX;
    h2_pump();
    assert_x509(id, a, 1);
    assert_int_equal(t.a[id].status, 7);
    h2_close();
    wl_state_unref(a);
}

static void test_free_with_calls(void **state)
{
    struct wl_state *a = state_of(60);
    h2_open(NULL);
    for (int i = 0; i < 30; i++) {
        h2_ask((struct ask){.path = API "FetchX509SVID"});
        wl_call_state(t.last, a);
    }
    t.budget = 50;
    h2_pump();
    h2_close(); /* asserts that each was cancelled */
    assert_int_equal(a->refs, 1);
    wl_state_unref(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_short_writes),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_reset_within_a_frame),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_sds_stream),
        cmocka_unit_test(test_admission),
        cmocka_unit_test(test_request_bytes),
        cmocka_unit_test(test_kept_names),
        cmocka_unit_test(test_kept_requests),
        cmocka_unit_test(test_kept_answers),
        cmocka_unit_test(test_free_with_calls),
        cmocka_unit_test(test_released_while_blocked),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_frames),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
