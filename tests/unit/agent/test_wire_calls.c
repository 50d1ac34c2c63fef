/* Requests beyond RFC 8555: pages of entries, JWT-SVIDs with evidence when it is due, renewal advice, the bundle. */
#include "unit/agent/script.h"

struct fixture {
    struct script s;
    struct acme_client *c;
    /* how it behaves */
    unsigned pages, changes, lapses;
    const char *say;
    /* what it saw */
    char have[64], after[64];
    unsigned asked, with_evidence;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->s.arg = f;
    f->c = script_client(&f->s);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    acme_client_free(f->c);
    key_free(f->s.account);
    free(f);
    return 0;
}

/* Three entries a page, f->pages of them; the version changes f->changes times after a first page. */
static int on_entries(struct script *s, const char *path, const json_t *doc, const char *nonce, struct http_answer *a,
                      struct err *e)
{
    struct fixture *f = s->arg;
    assert_string_equal(path, "/entries");
    assert_string_equal(json_maybe_str(doc, "agent"), "spiffe://x/agent");
    snprintf(f->have, sizeof f->have, "%s", json_maybe_str(doc, "have"));
    snprintf(f->after, sizeof f->after, "%s", json_maybe_str(doc, "after"));
    unsigned begin = 0;
    f->asked++;
    if (*f->after) {
        assert_int_equal(sscanf(f->after, "spiffe://x/%u", &begin), 1);
        begin++;
    }
    unsigned version = *f->after && f->changes ? (f->changes--, 2) : 1;
    if (!*f->after && strcmp(f->have, "v1") == 0 && !f->changes) {
        buf_str(&a->body, "{\"version\":\"v1\",\"unchanged\":true}");
        return 0;
    }
    buf_fmt(&a->body, "{\"version\":\"v%u\",\"more\":%s,\"entries\":[", version, begin / 3 + 1 < f->pages ? "true" : "false");
    for (unsigned i = begin; i < begin + 3; i++)
        buf_fmt(&a->body, "%s{\"id\":\"e%u\",\"spiffe_id\":\"spiffe://x/%03u\",\"ttl\":60,\"revision\":1}", i > begin ? "," : "",
                i, i);
    buf_str(&a->body, "]}");
    return 0;
}

static void test_entries(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct entry_list l;
    f->s.answer = on_entries;
    f->pages = 3;
    assert_int_equal(acme_entries(f->c, "spiffe://x/agent", "", 5000, &l, &e), 0);
    assert_int_equal(l.n, 9);
    assert_int_equal(f->asked, 3);
    assert_string_equal(l.list[8].spiffe_id, "spiffe://x/008");
    assert_string_equal(l.version, "v1");
    assert_false(l.unchanged);
    entry_list_free(&l);
    /* Nothing new: one request. */
    f->asked = 0;
    assert_int_equal(acme_entries(f->c, "spiffe://x/agent", "v1", 5000, &l, &e), 0);
    assert_true(l.unchanged);
    assert_int_equal(l.n, 0);
    assert_int_equal(f->asked, 1);
    entry_list_free(&l);
    /* It changed between two pages: from the beginning, so that none is missed or comes twice. */
    f->asked = 0;
    f->changes = 1;
    assert_int_equal(acme_entries(f->c, "spiffe://x/agent", "", 5000, &l, &e), 0);
    assert_int_equal(l.n, 9);
    assert_int_equal(f->asked, 5);
    entry_list_free(&l);
    /* It never stands still: not for ever. */
    f->changes = 1000;
    assert_int_equal(acme_entries(f->c, "spiffe://x/agent", "", 5000, &l, &e), -1);
    assert_string_equal(e.rule, "entries");
    assert_null(l.list);
}

static void test_old_authority(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct entry_list l;
    f->s.old = true;
    assert_int_equal(acme_entries(f->c, "spiffe://x/agent", "", 5000, &l, &e), -1);
    assert_string_equal(e.rule, "acme-directory");
    /* Updated meanwhile: the directory is read again. */
    f->s.old = false;
    f->s.answer = on_entries;
    f->pages = 1;
    assert_int_equal(acme_entries(f->c, "spiffe://x/agent", "", 5000, &l, &e), 0);
    entry_list_free(&l);
}

static int vouch(void *arg, const uint8_t digest[32], struct buf *out, struct err *e)
{
    char hex[65];
    hex_encode(hex, digest, 32);
    buf_fmt(out, "[\"test/digest\",\"%s\"]", hex);
    return 0;
}

static int on_jwt(struct script *s, const char *path, const json_t *doc, const char *nonce, struct http_answer *a, struct err *e)
{
    struct fixture *f = s->arg;
    const json_t *evidence = json_object_get(doc, "evidence");
    assert_string_equal(path, "/jwt");
    assert_string_equal(json_maybe_str(doc, "spiffe_id"), "spiffe://x/web");
    assert_int_equal(json_array_size(json_object_get(doc, "audience")), 2);
    f->asked++;
    if (evidence) { /* over this very request's nonce */
        uint8_t digest[32];
        char hex[65];
        attest_key_authorization(digest, nonce, s->thumbprint);
        hex_encode(hex, digest, 32);
        assert_string_equal(json_string_value(json_array_get(evidence, 1)), hex);
        f->with_evidence++;
    } else if (f->lapses) {
        f->lapses--;
        script_problem(a, 403, "unauthorized", "authorization");
        return 0;
    }
    buf_str(&a->body, f->say ? f->say : "{\"spiffe_id\":\"spiffe://x/web\",\"svid\":\"a.b.c\",\"issued\":100,\"expires\":400,\"index\":1}");
    return 0;
}

static int jwt(struct fixture *f, struct jwt_answer *j, struct err *e)
{
    static const char *const audience[] = {"db", "cache"};
    struct jwt_want w = {.spiffe_id = "spiffe://x/web", .audience = audience, .audience_count = 2, .evidence = vouch, .deadline_ms = 5000};
    return acme_jwt(f->c, &w, j, e);
}

static void test_jwt(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct jwt_answer j;
    f->s.answer = on_jwt;
    assert_int_equal(jwt(f, &j, &e), 0);
    assert_string_equal(j.svid, "a.b.c");
    free(j.svid);
    assert_int_equal(f->with_evidence, 1);
    assert_int_equal(jwt(f, &j, &e), 0); /* shown once is enough */
    free(j.svid);
    assert_int_equal(f->with_evidence, 1);
    f->lapses = 1; /* until the session's hour is over */
    assert_int_equal(jwt(f, &j, &e), 0);
    free(j.svid);
    assert_int_equal(f->with_evidence, 2);
    assert_int_equal(f->asked, 4);
    f->say = "{\"spiffe_id\":\"spiffe://x/other\",\"svid\":\"a.b.c\",\"issued\":100,\"expires\":400}";
    assert_int_equal(jwt(f, &j, &e), -1);
    assert_string_equal(e.rule, "acme-answer");
    assert_null(j.svid);
}

static int on_advice(struct script *s, const char *path, const json_t *doc, const char *nonce, struct http_answer *a,
                     struct err *e)
{
    struct fixture *f = s->arg;
    assert_string_equal(path, "/ari/AQ.Ag");
    if (!f->say) {
        script_problem(a, 404, "malformed", "renewal");
        return 0;
    }
    a->retry_after = 21;
    buf_str(&a->body, f->say);
    return 0;
}

static void test_advice(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct ari w;
    f->s.answer = on_advice;
    assert_int_equal(acme_renewal_info(f->c, "AQ.Ag", 5000, &w, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    f->say = "{\"suggestedWindow\":{\"start\":\"2026-01-31T12:00:00Z\",\"end\":\"2026-01-31T12:00:05Z\"}}";
    assert_int_equal(acme_renewal_info(f->c, "AQ.Ag", 5000, &w, &e), 0);
    assert_int_equal(w.retry_after, 21);
    assert_int_equal(w.end - w.start, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_old_authority, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jwt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_advice, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
