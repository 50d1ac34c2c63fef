/* Peers of every kind before the judgement. */
#include "proxy/trust.h"
#include "tests/proxykit/kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define WEB "spiffe://example.org/web"
#define URL "https://ca.example.org/crl/16-3.crl"

struct world {
    struct kit k, other;
    struct trust *t;
    struct verdicts *v;
};

static struct trust *trust_of(struct kit *const *kits, size_t n, const struct buf *crls, size_t crls_n)
{
    struct err e = {0};
    struct wl_bundles *b = kit_bundles(kits, n, crls, crls_n);
    struct trust *t = trust_new(b, &e);
    wl_bundles_unref(b);
    assert_non_null(t);
    return t;
}

static int setup(void **s)
{
    struct world *w = calloc(1, sizeof *w);
    kit_new(&w->k, "example.org");
    kit_new(&w->other, "other.org");
    w->t = trust_of((struct kit *const[]){&w->k}, 1, NULL, 0);
    w->v = verdicts_new();
    *s = w;
    return 0;
}

static int teardown(void **s)
{
    struct world *w = *s;
    verdicts_free(w->v);
    trust_free(w->t);
    kit_free(&w->k);
    kit_free(&w->other);
    free(w);
    return 0;
}

/* The rule that refused, or "" and the peer. */
static char rule[32];
static struct peer *ask(struct world *w, struct kit *signer, X509 *leaf, bool proof, bool server, bool optional, int64_t shift)
{
    struct err e = {0};
    STACK_OF(X509) *chain = sk_X509_new_null();
    sk_X509_push(chain, leaf);
    if (signer)
        sk_X509_push(chain, signer->issuing);
    const struct question q = {.leaf = leaf, .chain = chain, .proof = proof, .server = server, .crl_optional = optional,
                               .now = time(NULL) + shift};
    struct peer *p = trust_judge(w->t, w->v, &q, &e);
    sk_X509_free(chain);
    snprintf(rule, sizeof rule, "%s", e.rule);
    if (!p)
        assert_int_not_equal(e.code, ERR_NONE);
    return p;
}

static void judge(struct world *w, struct kit *signer, const struct kit_leaf *l, const char *want)
{
    struct kit_id i;
    kit_make(&i, signer, l);
    struct peer *p = ask(w, signer, i.leaf, true, false, false, 0);
    if (strcmp(rule, want) != 0)
        fail_msg("rule '%s', not '%s'", rule, want);
    assert_int_equal(p != NULL, *want == 0);
    peer_unref(p);
    kit_id_free(&i);
}

static void good(void **s)
{
    struct world *w = *s;
    struct kit_id i;
    kit_make(&i, &w->k, &(struct kit_leaf){.id = WEB});
    struct peer *p = ask(w, &w->k, i.leaf, true, false, false, 0);
    assert_non_null(p);
    assert_string_equal(p->id, WEB);
    assert_true(p->proven);
    assert_int_equal(p->log_index, 2);
    assert_int_equal(trust_remembered(w->t), 1);
    /* known again: the very same verdict, for its purpose and while it holds */
    struct peer *q = ask(w, &w->k, i.leaf, true, false, false, 0);
    assert_ptr_equal(p, q);
    peer_unref(q);
    q = ask(w, &w->k, i.leaf, true, true, false, 0);
    assert_non_null(q);
    assert_ptr_not_equal(p, q);
    peer_unref(q);
    q = ask(w, NULL, i.leaf, true, false, false, 0);
    assert_ptr_equal(p, q); /* it came without its issuing certificate, but we know it */
    peer_unref(q);
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 3700));
    assert_string_equal(rule, "chain-time");
    assert_null(ask(w, &w->k, i.leaf, true, false, false, -120));
    assert_string_equal(rule, "chain-time");
    peer_unref(p);
    kit_id_free(&i);
}

/* The path above the issuing certificate is verified once; other leaves of it are judged as strictly. */
static void shortened(void **s)
{
    struct world *w = *s;
    judge(w, &w->k, &(struct kit_leaf){.id = WEB}, "");
    assert_int_equal(trust_remembered(w->t), 1);
    judge(w, &w->k, &(struct kit_leaf){.id = "spiffe://example.org/b"}, "");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .from = -600, .until = -1}, "chain-time");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .from = 60, .until = 600}, "chain-time");
    assert_int_equal(trust_remembered(w->t), 1);
    struct kit_id i;
    kit_make(&i, &w->k, &(struct kit_leaf){.id = "spiffe://example.org/c"});
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 90000)); /* the issuing certificate ran out too */
    kit_issuing(&w->k); /* a new one of the same name: it did not sign this */
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 0));
    assert_string_equal(rule, "chain");
    judge(w, &w->k, &(struct kit_leaf){.id = "spiffe://example.org/c"}, "");
    assert_int_equal(trust_remembered(w->t), 2);
    kit_id_free(&i);
}

static void forged(void **s)
{
    struct world *w = *s;
    struct kit evil;
    judge(w, &w->k, &(struct kit_leaf){.id = WEB}, "");
    kit_new(&evil, "example.org"); /* the same names, other keys */
    judge(w, &evil, &(struct kit_leaf){.id = WEB}, "chain");
    struct kit_id i;
    kit_make(&i, &evil, &(struct kit_leaf){.id = WEB});
    assert_null(ask(w, &w->k, i.leaf, false, false, false, 0)); /* beside the true issuing certificate */
    assert_string_equal(rule, "chain");
    assert_null(ask(w, NULL, i.leaf, false, false, false, 0));
    assert_string_equal(rule, "chain");
    kit_id_free(&i);
    kit_free(&evil);
}

static void foreign(void **s)
{
    struct world *w = *s;
    judge(w, &w->other, &(struct kit_leaf){.id = "spiffe://other.org/x"}, "trust-domain");
    judge(w, &w->k, &(struct kit_leaf){.id = "spiffe://other.org/x"}, "trust-domain");
    trust_free(w->t);
    w->t = trust_of((struct kit *const[]){&w->k, &w->other}, 2, NULL, 0);
    judge(w, &w->other, &(struct kit_leaf){.id = "spiffe://other.org/x"}, "");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB}, "");
    /* Federation lets each speak for itself alone; also when both issuing certificates are remembered. */
    judge(w, &w->k, &(struct kit_leaf){.id = "spiffe://other.org/x"}, "chain");
    judge(w, &w->other, &(struct kit_leaf){.id = WEB}, "chain");
}

static void unlogged(void **s)
{
    struct world *w = *s;
    struct kit_id i;
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .unlogged = true}, "proof-missing");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .bad_proof = true}, "checkpoint-signature");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .serial = (uint64_t)7 << 48 | 3}, "proof-serial");
    kit_make(&i, &w->k, &(struct kit_leaf){.id = WEB, .unlogged = true});
    struct peer *p = ask(w, &w->k, i.leaf, false, false, false, 0); /* fine where nobody asks for the proof */
    assert_non_null(p);
    assert_false(p->proven);
    peer_unref(p);
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 0)); /* and its verdict is none for who does */
    assert_string_equal(rule, "proof-missing");
    kit_id_free(&i);
    kit_make(&i, &w->k, &(struct kit_leaf){.id = WEB});
    p = ask(w, &w->k, i.leaf, false, false, false, 0);
    assert_false(p->proven);
    struct peer *q = ask(w, &w->k, i.leaf, true, false, false, 0);
    assert_ptr_equal(p, q);
    assert_true(q->proven);
    peer_unref(p);
    peer_unref(q);
    kit_id_free(&i);
}

static void shapes(void **s)
{
    struct world *w = *s;
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .ca = true, .usage = "critical,digitalSignature,keyCertSign"}, "svid-ca");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .usage = "digitalSignature"}, "svid-usage");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .usage = "critical,keyAgreement"}, "svid-usage");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .usage = "critical,digitalSignature,cRLSign"}, "svid-usage");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .eku = "serverAuth"}, "svid-usage");
    judge(w, &w->k, &(struct kit_leaf){.id = WEB, .eku = "codeSigning"}, "svid-usage");
    judge(w, &w->k, &(struct kit_leaf){.san = "critical,DNS:web.example.org"}, "svid-uri");
    judge(w, &w->k, &(struct kit_leaf){.san = "critical,URI:" WEB ",URI:spiffe://example.org/b"}, "svid-uri");
    judge(w, &w->k, &(struct kit_leaf){.san = "critical,URI:https://example.org/web"}, "svid-uri");
    judge(w, &w->k, &(struct kit_leaf){.san = "critical,URI:spiffe://example.org"}, "svid-uri");
    judge(w, &w->k, &(struct kit_leaf){.san = "critical,URI:spiffe://example.org/web/"}, "svid-uri");
    judge(w, &w->k, &(struct kit_leaf){.san = "URI:" WEB}, "svid-san");
    judge(w, &w->k, &(struct kit_leaf){.san = "URI:" WEB ",DNS:web", .cn = "web"}, "");
}

/* What an authority's certificates say of themselves binds every leaf, the first and those behind it. */
static void authorities(void **s)
{
    static const struct {
        struct kit_authority as;
        const char *rule;    /* of a leaf example.org/web with the DNS name good.example.org; "": it comes in */
        const char *bad_dns; /* of the same with bad.example.com */
        unsigned remembered;
    } cases[] = {
        {{.names = "critical,permitted;DNS:example.org"}, "", "chain", 1},
        {{.root_names = "critical,permitted;DNS:example.org"}, "", "chain", 0}, /* never shortened */
        {{.names = "critical,excluded;DNS:example.com"}, "", "chain", 1},
        {{.names = "critical,permitted;URI:example.org"}, "", "", 1},
        {{.names = "critical,permitted;URI:example.com"}, "chain", "chain", 0},
        {{.root_names = "critical,excluded;URI:example.org"}, "chain", "chain", 0},
        {{.policy = "critical,requireExplicitPolicy:0"}, "chain", "chain", 0}, /* and the leaf has no policy */
        {{.san = "URI:spiffe://example.com"}, "svid-issuing", "svid-issuing", 1},
        {{.san = "URI:spiffe://example.org/ca"}, "svid-issuing", "svid-issuing", 1},
        {{.san = "URI:spiffe://example.org,URI:spiffe://example.com"}, "svid-issuing", "svid-issuing", 1},
        {{.usage = "critical,cRLSign"}, "chain", "chain", 0},
    };
    struct world *w = *s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kit k;
        kit_new_as(&k, "example.org", &cases[i].as);
        trust_free(w->t);
        w->t = trust_of((struct kit *const[]){&k}, 1, NULL, 0);
        for (int again = 0; again < 2; again++) { /* the second time by the short way, where there is one */
            judge(w, &k, &(struct kit_leaf){.san = "critical,URI:" WEB ",DNS:good.example.org"}, cases[i].rule);
            judge(w, &k, &(struct kit_leaf){.san = "critical,URI:" WEB ",DNS:bad.example.com"}, cases[i].bad_dns);
        }
        assert_int_equal(trust_remembered(w->t), cases[i].remembered);
        kit_free(&k);
    }
}

static void revoked(void **s)
{
    struct world *w = *s;
    const uint64_t serial = (uint64_t)7 << 48 | 2;
    struct buf good_crl, bad_crl, stale, elsewhere;
    struct kit_id i;
    const struct kit_leaf l = {.id = WEB, .crl = "URI:" URL};
    judge(w, &w->k, &l, "crl-missing");
    kit_make(&i, &w->k, &l);
    struct peer *old = ask(w, &w->k, i.leaf, true, false, true, 0); /* crl_optional */
    assert_non_null(old);
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 0)); /* that leave is not remembered for others */
    buf_init(&good_crl, 65536);
    buf_init(&bad_crl, 65536);
    buf_init(&stale, 65536);
    buf_init(&elsewhere, 65536);
    kit_crl(&good_crl, &w->k, URL, (uint64_t[]){5, 6}, 2, 600);
    kit_crl(&bad_crl, &w->k, URL, &serial, 1, 600);
    kit_crl(&stale, &w->k, URL, NULL, 0, -1);
    kit_crl(&elsewhere, &w->k, "https://ca.example.org/crl/16-4.crl", NULL, 0, 600);
    struct kit *const kits[] = {&w->k};

    trust_free(w->t);
    w->t = trust_of(kits, 1, (struct buf[]){elsewhere, stale}, 2);
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 0));
    assert_string_equal(rule, "crl-missing");
    assert_false(trust_revoked(w->t, old));

    trust_free(w->t);
    w->t = trust_of(kits, 1, (struct buf[]){elsewhere, good_crl}, 2);
    struct peer *p = ask(w, &w->k, i.leaf, true, false, false, 0);
    assert_non_null(p);
    assert_true(p->not_after < time(NULL) + 600); /* the verdict ends with the CRL */
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 601));
    assert_string_equal(rule, "crl-missing");
    peer_unref(p);

    trust_free(w->t);
    w->t = trust_of(kits, 1, &bad_crl, 1);
    assert_true(trust_revoked(w->t, old));
    assert_null(ask(w, &w->k, i.leaf, true, false, false, 0));
    assert_string_equal(rule, "revoked");
    assert_null(ask(w, &w->k, i.leaf, true, false, true, 0)); /* optional is for missing ones */
    assert_string_equal(rule, "revoked");

    kit_issuing(&w->k); /* a CRL that another certificate signed says nothing about ours */
    struct buf forged_crl;
    buf_init(&forged_crl, 65536);
    kit_crl(&forged_crl, &w->k, URL, &serial, 1, 600);
    trust_free(w->t);
    w->t = trust_of(kits, 1, &forged_crl, 1);
    assert_false(trust_revoked(w->t, old));
    bad_crl.p[bad_crl.len - 1] ^= 1;
    peer_unref(old);
    buf_free(&good_crl);
    buf_free(&bad_crl);
    buf_free(&stale);
    buf_free(&elsewhere);
    buf_free(&forged_crl);
    kit_id_free(&i);
}

static void bundles(void **s)
{
    struct err e = {0};
    struct wl_bundles b = {0};
    assert_null(trust_new(&b, &e));
    assert_string_equal(e.rule, "bundle");
    struct wl_bundle one = {.trust_domain = (char[]){"example.org"}};
    b.list = &one;
    b.n = 1;
    buf_init(&one.x509, 100);
    buf_str(&one.x509, "no certificate");
    assert_null(trust_new(&b, &e));
    assert_string_equal(e.rule, "bundle");
    buf_free(&one.x509);
}

/* Many certificates: slots are reused, nothing is mixed up. */
static void many(void **s)
{
    struct world *w = *s;
    char id[64];
    for (int i = 0; i < 700; i++) {
        struct kit_id k;
        snprintf(id, sizeof id, "spiffe://example.org/n/%d", i);
        kit_make(&k, &w->k, &(struct kit_leaf){.id = id});
        for (int again = 0; again < 2; again++) {
            struct peer *p = ask(w, &w->k, k.leaf, true, false, false, 0);
            assert_non_null(p);
            assert_string_equal(p->id, id);
            peer_unref(p);
        }
        kit_id_free(&k);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(good), T(shortened), T(forged), T(foreign), T(unlogged),
                                       T(shapes), T(authorities),
                                       T(revoked), T(bundles), T(many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
