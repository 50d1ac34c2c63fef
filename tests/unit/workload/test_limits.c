/* What the server refuses, and what of a client it holds: requests, calls, answers, time. */
#include "unit/workload/states.h"
#include "base/clock.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_deadlines), cmocka_unit_test(test_admission),
        cmocka_unit_test(test_request_bytes), cmocka_unit_test(test_kept_names),
        cmocka_unit_test(test_kept_requests), cmocka_unit_test(test_kept_answers),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
