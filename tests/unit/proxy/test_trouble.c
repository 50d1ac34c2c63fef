/* What the log says of a source that has no identity for us, and of an upstream without an address. */
#include "base/clock.h"
#include "proxy/internal.h"
#include "proxy/trust_parts.h"
#include "tests/proxykit/kit.h"
#include "tests/unit/proxy/hear.h"
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    struct proxy_conf conf;
    struct proxy *p; /* made, not running: its thread is the test's */
    struct source_ops ops;
    struct source source;
    char dir[64], in[80];
};
#define ID(x) "spiffe://example.org/" x

static void source_end(struct source *s)
{
    (void)s;
}

static struct source *source_make(void *arg, struct event_base *base, const struct source_ops *ops, struct err *e)
{
    struct rig *r = arg;
    r->ops = *ops;
    r->source.stop = source_end;
    return &r->source;
}

static void begin_as(struct rig *r, const char *id)
{
    struct proxy_listener_conf l;
    struct err e = {0};
    *r = (struct rig){.dir = "/tmp/mayfly-proxy-test.XXXXXX"};
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->in, sizeof r->in, "%s/in", r->dir);
    proxy_conf_defaults(&r->conf);
    proxy_listener_defaults(&l);
    r->conf.threads = 1;
    l.mode = PROXY_SERVER;
    l.listen = malloc(96);
    l.to = strdup("127.0.0.1:1");
    snprintf(l.listen, 96, "unix:%s", r->in);
    l.id = id ? strdup(id) : NULL;
    assert_int_equal(proxy_rules_add(&l.allow, "spiffe://example.org/web", &e), 0);
    assert_int_equal(proxy_conf_add(&r->conf, &l, &e), 0);
    r->p = proxy_new(&r->conf, source_make, r, &e);
    if (!r->p)
        fail_msg("%s", e.msg);
}

static void begin(struct rig *r)
{
    begin_as(r, NULL);
}

static void finish(struct rig *r)
{
    proxy_free(r->p);
    proxy_conf_free(&r->conf);
    unlink(r->in);
    assert_int_equal(rmdir(r->dir), 0);
}

static void say(const struct rig *r, const struct err *e, char *said, size_t cap)
{
    hear();
    r->ops.trouble(r->ops.arg, e);
    heard_end(said, cap);
}

static void starting(struct err *e)
{
    err_set(e, ERR_UNAVAILABLE, "workload-status", "the Workload API answers with status 14: no identity of its own yet");
}
static void denied(struct err *e)
{
    err_set(e, ERR_UNAUTHORIZED, "workload-status", "the Workload API answers with status 7: no identity issued");
}

/* To register an entry helps who was refused by the agent, and not whose folder holds a certificate that is no SVID. */
static void what_to_do(void **state)
{
    char said[4096];
    struct rig r;
    struct err e = {0};
    begin(&r);
    denied(&e);
    say(&r, &e, said, sizeof said);
    assert_non_null(strstr(said, "no identity issued; register an entry"));
    err_set(&e, ERR_UNAUTHORIZED, "svid-id", "the certificate has no SPIFFE ID");
    say(&r, &e, said, sizeof said);
    assert_non_null(strstr(said, "no SPIFFE ID"));
    assert_null(strstr(said, "register"));
    finish(&r);
}

/* The agent had no authority, and then it has no entry: another trouble, though the rule is the same. */
static void another_reason(void **state)
{
    char said[4096];
    struct rig r;
    struct err e = {0};
    begin(&r);
    starting(&e);
    say(&r, &e, said, sizeof said);
    assert_non_null(strstr(said, "status 14"));
    assert_null(strstr(said, "register"));
    say(&r, &e, said, sizeof said);
    assert_string_equal(said, ""); /* told already */
    denied(&e);
    say(&r, &e, said, sizeof said);
    assert_non_null(strstr(said, "no identity issued; register an entry"));
    say(&r, &e, said, sizeof said);
    assert_string_equal(said, "");
    finish(&r);
}

/* Two that take turns: a number of lines, then silence; what it was silent about is told when its turn comes. */
static void taking_turns(void **state)
{
    char said[65536];
    struct rig r;
    struct err e = {0};
    begin(&r);
    r.p->tell_again_ms = UINT_MAX; /* not in this test's time */
    hear();
    for (int i = 0; i < 100; i++) {
        if (i % 2)
            denied(&e);
        else
            starting(&e);
        r.ops.trouble(r.ops.arg, &e);
    }
    heard_end(said, sizeof said);
    assert_int_equal(lines(said), TELLINGS);
    err_set(&e, ERR_UNAVAILABLE, "workload-connect", "cannot connect");
    say(&r, &e, said, sizeof said);
    assert_string_equal(said, "");
    r.p->tell_again_ms = 1;
    hear();
    for (int i = 0; i < 60 && r.p->told.msg[0] == 't'; i++) /* the proxy looks by itself each second */
        event_base_loop(r.p->workers[0].base, EVLOOP_ONCE);
    heard_end(said, sizeof said);
    assert_non_null(strstr(said, "cannot connect"));
    assert_int_equal(lines(said), 1);
    finish(&r);
}

static void give(const struct rig *r, struct wl_state *s, char *said, size_t cap)
{
    hear();
    r->ops.state(r->ops.arg, s);
    heard_end(said, cap);
}

/* The log names what a listener uses, not whatever the agent gives first, and it once. */
static void whose_identity(void **state)
{
    char said[4096], until[21];
    struct kit k;
    struct kit_id api, shop, later;
    struct rig r;
    struct err e = {0};
    begin_as(&r, ID("shop"));
    kit_new(&k, "example.org");
    kit_make(&api, &k, &(struct kit_leaf){.id = ID("api"), .until = 7200});
    kit_make(&shop, &k, &(struct kit_leaf){.id = ID("shop"), .from = -60, .until = 600});
    kit_make(&later, &k, &(struct kit_leaf){.id = ID("shop"), .from = -60, .until = 1200});
    struct wl_state *first = kit_state(&k, &api), *second = kit_state(&k, &api);
    first->svids = realloc(first->svids, 2 * sizeof *first->svids);
    second->svids = realloc(second->svids, 2 * sizeof *second->svids);
    assert_true(first->svids && second->svids);
    first->svids[first->n++] = kit_svid(&k, &shop);
    second->svids[second->n++] = kit_svid(&k, &later);
    give(&r, first, said, sizeof said);
    clock_rfc3339(until, cert_time(X509_get0_notAfter(shop.leaf)));
    assert_int_equal(lines(said), 1);
    assert_non_null(strstr(said, "id=" ID("shop")));
    assert_non_null(strstr(said, until));
    assert_null(strstr(said, ID("api")));
    give(&r, first, said, sizeof said); /* bundles, perhaps: of this identity there is no news */
    assert_string_equal(said, "");
    give(&r, second, said, sizeof said);
    clock_rfc3339(until, cert_time(X509_get0_notAfter(later.leaf)));
    assert_non_null(strstr(said, until));
    starting(&e);
    say(&r, &e, said, sizeof said);
    assert_non_null(strstr(said, "the last identity is kept"));
    give(&r, second, said, sizeof said); /* that it is over */
    assert_non_null(strstr(said, until));
    wl_state_unref(first);
    wl_state_unref(second);
    kit_id_free(&api);
    kit_id_free(&shop);
    kit_id_free(&later);
    kit_free(&k);
    finish(&r);
}

/* That a listener's identity is missing is told once, not with each state that is without it. */
static void missing_identity(void **state)
{
    char said[4096];
    struct kit k;
    struct kit_id api, shop;
    struct rig r;
    struct err e = {0};
    begin_as(&r, ID("shop"));
    kit_new(&k, "example.org");
    kit_make(&api, &k, &(struct kit_leaf){.id = ID("api")});
    kit_make(&shop, &k, &(struct kit_leaf){.id = ID("shop")});
    struct wl_state *without = kit_state(&k, &api), *with = kit_state(&k, &shop);
    for (int i = 0; i < 2; i++) { /* at first, and after it was there */
        give(&r, without, said, sizeof said);
        assert_int_equal(lines(said), 1);
        assert_non_null(strstr(said, "gives no such identity"));
        give(&r, without, said, sizeof said);
        assert_string_equal(said, "");
        give(&r, with, said, sizeof said);
        assert_non_null(strstr(said, "id=" ID("shop")));
    }
    give(&r, without, said, sizeof said);
    starting(&e);
    say(&r, &e, said, sizeof said);
    give(&r, without, said, sizeof said); /* the agent is back, without it */
    assert_non_null(strstr(said, "gives no such identity"));
    wl_state_unref(without);
    wl_state_unref(with);
    kit_id_free(&api);
    kit_id_free(&shop);
    kit_free(&k);
    finish(&r);
}

/* A name without an address at the start: there is no meaning from before. A label of more than 63 bytes is none, whoever
 * is asked. */
static void name_of_nothing(void **state)
{
    char said[4096];
    struct err e = {0};
    struct address a = {.port = "443"};
    struct resolved now;
    memset(a.host, 'x', 70);
    strcpy(a.host + 70, ".example.org");
    struct resolver *r = resolver_new(&e);
    assert_non_null(r);
    hear();
    int number = resolver_add(r, &a, &e);
    heard_end(said, sizeof said);
    assert_int_equal(number, 0);
    resolver_get(r, number, &now);
    assert_int_equal(now.n, 0);
    assert_int_equal(lines(said), 1);
    assert_non_null(strstr(said, "has no address; it is asked for again"));
    assert_null(strstr(said, "before"));
    resolver_free(r);
}

int main(void)
{
    proxy_memory_setup();
    log_setup("test", LOG_INFO, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_to_do),
        cmocka_unit_test(another_reason),
        cmocka_unit_test(taking_turns),
        cmocka_unit_test(whose_identity),
        cmocka_unit_test(missing_identity),
        cmocka_unit_test(name_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
