/* What changes while connections stand: the proxy's own identity, and what is revoked. */
#include "tests/unit/proxy/rig.h"

/* --- the own identity ----------------------------------------------------------------------------------- */

static void rotation(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    SSL *s = tls_client(r, &r->web, 0);
    int up = accept(r->upstream, NULL, NULL);
    for (int i = 0; i < 5; i++) {
        uint64_t before = atomic_load(&r->p->m.rotations);
        kit_id_free(&r->ours);
        kit_make(&r->ours, &r->k, &(struct kit_leaf){.id = ID("ours"), .serial = 100 + (uint64_t)i, .unlogged = true});
        struct wl_state *w = kit_state(&r->k, &r->ours);
        give_and_wait(r, w);
        assert_int_equal(atomic_load(&r->p->m.rotations), before + 1);
        SSL *n = tls_client(r, &r->web, 0);
        assert_non_null(n);
        X509 *x = SSL_get1_peer_certificate(n);
        assert_int_equal(ASN1_INTEGER_get(X509_get0_serialNumber(x)), 100 + i);
        X509_free(x);
        close(accept(r->upstream, NULL, NULL));
        tls_close(n);
        assert_int_equal(SSL_write(s, "on", 2), 2);
        plain_expect(up, "on");
    }
    struct wl_state *bad = kit_state(&r->k, &r->web); /* a failed renewal: key and chain of different ones */
    secret_free(&bad->svids[0]->key);
    struct wl_svid *mixed = kit_svid(&r->k, &r->db);
    bad->svids[0]->key = mixed->key;
    mixed->key = (struct secret){0};
    wl_svid_unref(mixed);
    give_and_wait(r, bad);
    assert_int_equal(atomic_load(&r->p->m.troubles), 1);
    SSL *n = tls_client(r, &r->web, 0); /* the last good one is kept */
    assert_non_null(n);
    tls_close(n);
    tls_close(s);
    close(up);
    rig_end(r);
}

static void own_expired(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    const char *why;
    SSL *s = tls_client(r, &r->web, 0);
    int up = accept(r->upstream, NULL, NULL);
    bool ready = false;
    for (int lives = 1; lives < 50 && !ready; lives *= 4) { /* on a busy machine the first may be over before it is taken */
        uint64_t before = atomic_load(&r->p->m.rotations);
        kit_id_free(&r->ours);
        kit_make(&r->ours, &r->k, &(struct kit_leaf){.id = ID("ours"), .from = -10, .until = lives});
        give_and_wait(r, kit_state(&r->k, &r->ours));
        ready = proxy_ready(r->p, &why) && atomic_load(&r->p->m.rotations) > before;
    }
    assert_true(ready);
    for (int i = 0; i < LONG_MS / 10 && proxy_ready(r->p, &why); i++)
        usleep(10000);
    assert_false(proxy_ready(r->p, &why));
    assert_null(tls_client(r, &r->web, 0));
    assert_int_equal(failed(r, FAIL_OWN_EXPIRED), 1);
    assert_int_equal(SSL_write(s, "established", 11), 11); /* goes on */
    plain_expect(up, "established");
    tls_close(s);
    close(up);
    rig_end(r);
}

static void as_another(struct proxy_listener_conf *l)
{
    l->id = strdup(ID("another"));
}
static void own_missing(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, as_another);
    const char *why;
    assert_null(tls_client(r, &r->web, 0));
    assert_int_equal(failed(r, FAIL_NO_IDENTITY), 1);
    assert_int_equal(atomic_load(&r->p->m.rotations), 1);
    assert_false(proxy_ready(r->p, &why)); /* the agent gave something, but not what is needed */
    assert_string_equal(why, "the agent gives no identity for one of the listeners");
    rig_end(r);
}

/* A configuration of listeners that use these; NULL: the agent's first. */
static void uses(struct proxy_conf *c, const char *const *ids, size_t n)
{
    proxy_conf_defaults(c);
    c->listeners = calloc(n, sizeof *c->listeners);
    assert_non_null(c->listeners);
    for (c->n = 0; c->n < n; c->n++) {
        proxy_listener_defaults(&c->listeners[c->n]);
        c->listeners[c->n].id = ids[c->n] ? strdup(ids[c->n]) : NULL;
    }
}

static void state_add(struct wl_state *w, struct wl_svid *v)
{
    w->svids = realloc(w->svids, (w->n + 1) * sizeof *w->svids);
    assert_non_null(w->svids);
    w->svids[w->n++] = v;
}

/* Of several identities one has run out: those of the others are taken. */
static void one_expired(void **state)
{
    struct kit k;
    struct kit_id old, new;
    struct proxy_conf conf;
    struct err e = {0};
    uses(&conf, (const char *const[]){NULL, ID("new")}, 2);
    kit_new(&k, "example.org");
    kit_make(&old, &k, &(struct kit_leaf){.id = ID("old"), .from = -60, .until = -5});
    kit_make(&new, &k, &(struct kit_leaf){.id = ID("new")});
    struct wl_state *w = kit_state(&k, &old);
    assert_null(creds_new(w, &conf, clock_wall(), &e));
    assert_string_equal(e.rule, "own-expired");
    state_add(w, kit_svid(&k, &new));
    struct creds *c = creds_new(w, &conf, clock_wall(), &e);
    assert_non_null(c);
    assert_non_null(creds_find(c, ID("new")));
    creds_unref(c);
    wl_state_unref(w);
    kit_id_free(&old);
    kit_id_free(&new);
    kit_free(&k);
    proxy_conf_free(&conf);
}

#define MANY 200 /* identities of the process, many more than it has listeners */
/* Of all that the agent gives only what listeners use is made: their number has no limit, and what is wrong with the
 * others is nobody's trouble. */
static void many_identities(void **state)
{
    struct rig *r = rig_new(PROXY_SERVER, as_another);
    struct kit_id other, another;
    struct proxy_conf conf;
    struct err e = {0};
    const char *why;
    kit_make(&other, &r->k, &(struct kit_leaf){.id = ID("other"), .from = -60, .until = -5});
    kit_make(&another, &r->k, &(struct kit_leaf){.id = ID("another"), .serial = 4711});
    struct wl_state *w = kit_state(&r->k, &r->ours);
    for (int i = 0; i < MANY; i++) {
        state_add(w, kit_svid(&r->k, &other));
        free(w->svids[w->n - 1]->spiffe_id);
        w->svids[w->n - 1]->spiffe_id = malloc(64);
        snprintf(w->svids[w->n - 1]->spiffe_id, 64, ID("other/%d"), i);
        secret_free(&w->svids[w->n - 1]->key); /* damaged, as the agent should give none */
    }
    state_add(w, kit_svid(&r->k, &another));
    state_add(w, kit_svid(&r->k, &r->web)); /* the same ID once more: the agent's first one counts */
    free(w->svids[w->n - 1]->spiffe_id);
    w->svids[w->n - 1]->spiffe_id = strdup(ID("another"));
    uses(&conf, (const char *const[]){ID("another"), NULL, ID("missing"), ID("another")}, 4);
    struct creds *c = creds_new(w, &conf, clock_wall(), &e);
    if (!c)
        fail_msg("%s", e.msg);
    assert_int_equal(c->n, 2);
    assert_string_equal(creds_find(c, NULL)->id, ID("ours"));
    assert_int_equal(ASN1_INTEGER_get(X509_get0_serialNumber(SSL_CTX_get0_certificate(creds_find(c, ID("another"))->ctx))), 4711);
    assert_null(creds_find(c, ID("missing")));
    assert_null(creds_find(c, ID("other/0")));
    creds_unref(c);
    proxy_conf_free(&conf);
    assert_false(proxy_ready(r->p, &why));
    give_and_wait(r, w);
    assert_true(proxy_ready(r->p, &why));
    SSL *s = tls_client(r, &r->web, 0);
    assert_non_null(s);
    close(accept(r->upstream, NULL, NULL));
    tls_close(s);
    kit_id_free(&other);
    kit_id_free(&another);
    rig_end(r);
}

/* --- revocations ---------------------------------------------------------------------------------------- */

static void revoked_later(void **state)
{
    const uint64_t serial = (uint64_t)7 << 48 | 2;
    struct rig *r = rig_new(PROXY_SERVER, close_revoked);
    struct kit_id named;
    char byte;
    kit_make(&named, &r->k, &(struct kit_leaf){.id = ID("web"), .crl = "URI:" URL});
    SSL *other = tls_client(r, &r->web, 0); /* the same serial, but it names no CRL */
    assert_non_null(other);
    int up_other = accept(r->upstream, NULL, NULL);
    with_crls(r, NULL, 0);
    SSL *s = tls_client(r, &named, 0);
    assert_non_null(s);
    int up = accept(r->upstream, NULL, NULL);
    assert_int_equal(SSL_write(s, "fine", 4), 4);
    plain_expect(up, "fine");
    with_crls(r, &serial, 1);
    assert_true(SSL_read(s, &byte, 1) <= 0);
    assert_int_equal(ended(r, END_REVOKED), 1);
    assert_int_equal(SSL_write(other, "still", 5), 5);
    plain_expect(up_other, "still");
    SSL *again = tls_client(r, &named, 0);
    if (again) { /* TLS 1.3: the client learns of it with its first read */
        assert_true(SSL_read(again, &byte, 1) <= 0);
        tls_close(again);
    }
    assert_int_equal(failed(r, FAIL_REVOKED), 1);
    close(up);
    close(up_other);
    tls_close(s);
    tls_close(other);
    kit_id_free(&named);
    rig_end(r);
}

/* Revoked while its handshake was under way: judged by what is known when its certificate comes. */
static void revoked_meanwhile(void **state)
{
    const uint64_t serial = (uint64_t)7 << 48 | 2;
    struct rig *r = rig_new(PROXY_SERVER, NULL);
    struct kit_id named;
    char byte;
    kit_make(&named, &r->k, &(struct kit_leaf){.id = ID("web"), .crl = "URI:" URL});
    with_crls(r, NULL, 0);
    SSL_CTX *c = kit_ctx(&r->k, &named);
    SSL *s = SSL_new(c);
    SSL_CTX_free(c);
    SSL_set_fd(s, unix_socket(r->in, false));
    for (int i = 0; i < LONG_MS / 10 && !atomic_load(&r->p->listeners[0].m.handshaking); i++)
        usleep(10000);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.handshaking), 1);
    with_crls(r, &serial, 1);
    if (SSL_connect(s) == 1)
        assert_true(SSL_read(s, &byte, 1) <= 0);
    assert_int_equal(failed(r, FAIL_REVOKED), 1);
    assert_int_equal(atomic_load(&r->p->listeners[0].m.handshakes), 0);
    tls_close(s);
    kit_id_free(&named);
    rig_end(r);
}

int main(void)
{
    proxy_memory_setup();
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotation), cmocka_unit_test(own_expired), cmocka_unit_test(own_missing),
        cmocka_unit_test(one_expired), cmocka_unit_test(many_identities), cmocka_unit_test(revoked_later),
        cmocka_unit_test(revoked_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
