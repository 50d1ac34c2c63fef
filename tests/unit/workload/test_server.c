/* What the server sends: streams of states and single answers, however the client reads, and when it goes. */
#include "unit/workload/states.h"

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
        cmocka_unit_test(test_stream), cmocka_unit_test(test_short_writes), cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_reset_within_a_frame), cmocka_unit_test(test_unary),
        cmocka_unit_test(test_sds_stream), cmocka_unit_test(test_free_with_calls),
        cmocka_unit_test(test_released_while_blocked), cmocka_unit_test(test_frames),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
