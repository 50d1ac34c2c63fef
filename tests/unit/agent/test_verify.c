/* Nothing that any of these refuse may ever reach a disk. */
#include "unit/agent/pki.h"

struct fixture {
    struct pki pki;
    EVP_PKEY *key;
    struct agent_trust trust;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    pki_new(&f->pki);
    f->key = pki_key();
    pki_trust(&f->trust, f->pki.root);
    *state = f;
    return 0;
}

/* The same, with the way from the issuing certificate to the root known already: nothing is taken more lightly. */
static int setup_known(void **state)
{
    struct err e;
    struct acme_identity i;
    struct agent_verified v;
    setup(state);
    struct fixture *f = *state;
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    int rc = agent_verify(&v, &f->trust, &i, PKI_ID, PKI_NOW, &e);
    acme_identity_free(&i);
    return rc;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pki_free(&f->pki);
    EVP_PKEY_free(f->key);
    agent_trust_free(&f->trust);
    free(f);
    return 0;
}

static void refuse_identity(struct fixture *f, struct acme_identity *i, int64_t now,
                            const char *rule)
{
    struct err e;
    struct agent_verified v;
    assert_refused(agent_verify(&v, &f->trust, i, PKI_ID, now, &e), ERR_CORRUPT, rule);
    assert_int_equal(v.not_after, 0);
    assert_int_equal(v.spiffe_id[0], 0);
    acme_identity_free(i);
}

static void refuse_spec(struct fixture *f, struct pki_spec spec, const char *rule)
{
    struct acme_identity i;
    pki_identity(&i, spec, &f->pki.log, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW, rule);
}

static void test_good(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i;
    struct agent_verified v;
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    assert_done(agent_verify(&v, &f->trust, &i, PKI_ID, PKI_NOW, &e));
    assert_string_equal(v.spiffe_id, PKI_ID);
    assert_int_equal(v.not_before, PKI_NOW - 60);
    assert_int_equal(v.not_after, PKI_NOW + 240);
    assert_int_equal(v.proven.index, PKI_INDEX);
    assert_int_equal(v.proven.log_number, PKI_LOG_NUMBER);
    assert_int_equal(v.proven.checkpoint.size, 4);
    assert_string_equal(v.log_origin, "example.org/log1");
    acme_identity_free(&i);
}

static void test_time(void **state)
{
    struct fixture *f = *state;
    struct acme_identity i;
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW + 241, "chain-time");
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW - 61, "chain-time");
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    struct pki_spec s = pki_leaf_spec(&f->pki, f->key);
    s.san = "critical,URI:spiffe://example.org/web2";
    refuse_spec(f, s, "svid-id");
    s.san = "critical,URI:spiffe://example.org/we";
    refuse_spec(f, s, "svid-id");
    s.san = "critical,URI:" PKI_ID ",URI:spiffe://example.org/other";
    refuse_spec(f, s, "svid-uri");
    s.san = "critical,DNS:web.example.org";
    refuse_spec(f, s, "svid-uri");
    s.san = NULL;
    refuse_spec(f, s, "svid-uri");
    s.san = "URI:" PKI_ID; /* not critical beside an empty subject */
    refuse_spec(f, s, "svid-san");
}

static void test_usage(void **state)
{
    struct fixture *f = *state;
    struct pki_spec s = pki_leaf_spec(&f->pki, f->key);
    s.usage = NULL;
    refuse_spec(f, s, "svid-usage");
    s.usage = "digitalSignature";
    refuse_spec(f, s, "svid-usage");
    s.usage = "critical,keyAgreement";
    refuse_spec(f, s, "svid-usage");
    s.usage = "critical,digitalSignature,cRLSign";
    refuse_spec(f, s, "svid-usage");
    s = pki_leaf_spec(&f->pki, f->key);
    s.eku = "serverAuth";
    refuse_spec(f, s, "svid-usage");
    s = pki_leaf_spec(&f->pki, f->key);
    s.basic = "critical,CA:TRUE";
    s.usage = "critical,digitalSignature,keyCertSign";
    refuse_spec(f, s, "svid-ca");
}

static void test_key_mismatch(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i;
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    key_free(i.key);
    i.key = key_generate(KEY_P256, &e);
    refuse_identity(f, &i, PKI_NOW, "svid-key");
}

static void test_foreign_root(void **state)
{
    struct fixture *f = *state;
    struct pki other;
    struct acme_identity i;
    pki_new(&other); /* the same names, other keys */
    pki_identity(&i, pki_leaf_spec(&other, f->key), &other.log, other.issuing);
    refuse_identity(f, &i, PKI_NOW, "chain");
    /* our issuing certificate beside a leaf of theirs */
    pki_identity(&i, pki_leaf_spec(&other, f->key), &other.log, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW, "chain");
    pki_free(&other);
}

/* The root signs the leaf directly; beside it stands an honest issuing certificate that had no part
 * in it. Its log would vouch for nothing. */
static void test_issuing_did_not_sign(void **state)
{
    struct fixture *f = *state;
    struct acme_identity i;
    struct pki_spec s = pki_leaf_spec(&f->pki, f->key);
    s.issuer = f->pki.root;
    s.issuer_key = f->pki.root_key;
    pki_identity(&i, s, &f->pki.log, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW, "chain");
}

static void test_chain_shape(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i;
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, NULL);
    refuse_identity(f, &i, PKI_NOW, "chain");
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    assert_done(x509_to_pem(&i.chain_pem, f->pki.root, &e));
    refuse_identity(f, &i, PKI_NOW, "chain");
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    buf_reset(&i.chain_pem);
    refuse_identity(f, &i, PKI_NOW, "pem-empty");
}

/* An issuing certificate changed in one respect, and a leaf below it. */
static void refuse_issuing(struct fixture *f, struct pki_spec issuing, const char *rule)
{
    struct acme_identity i;
    X509 *x = pki_cert(&issuing);
    struct pki_spec leaf = pki_leaf_spec(&f->pki, f->key);
    leaf.issuer = x;
    pki_identity(&i, leaf, &f->pki.log, x);
    refuse_identity(f, &i, PKI_NOW, rule);
    X509_free(x);
}

static void test_issuing(void **state)
{
    struct fixture *f = *state;
    struct pki_spec s = pki_issuing_spec(&f->pki);
    s.san = "URI:spiffe://example.com";
    refuse_issuing(f, s, "svid-issuing");
    s.san = "URI:spiffe://example.org/signer";
    refuse_issuing(f, s, "svid-issuing");
    s = pki_issuing_spec(&f->pki);
    s.usage = NULL;
    refuse_issuing(f, s, "svid-issuing");
    s.basic = "critical,CA:FALSE";
    s.usage = "critical,digitalSignature";
    refuse_issuing(f, s, "chain");
    s = pki_issuing_spec(&f->pki);
    s.binding = NULL;
    refuse_issuing(f, s, "binding-missing");
}

static void test_log(void **state)
{
    struct fixture *f = *state;
    struct acme_identity i;
    struct pki_log other;
    struct buf proof;
    struct pki_spec s = pki_leaf_spec(&f->pki, f->key);
    pki_identity(&i, s, NULL, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW, "proof-missing");

    pki_log_new(&other, "example.org/log1"); /* the right name, the wrong key */
    pki_identity(&i, s, &other, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW, "checkpoint-signature");
    pki_log_free(&other);
    pki_log_new(&other, "example.net/log1");
    pki_identity(&i, s, &other, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW, "checkpoint-origin");
    pki_log_free(&other);

    /* the proof of another leaf: the same but for one second */
    buf_init(&proof, 65536);
    struct pki_spec brother = s;
    brother.not_after = PKI_NOW + 239;
    pki_prove(&f->pki.log, &brother, &proof);
    s.proof = (struct bytes){proof.p, proof.len};
    refuse_spec(f, s, "inclusion");
    buf_free(&proof);

    s = pki_leaf_spec(&f->pki, f->key);
    s.serial++; /* names another entry than the proof does */
    refuse_spec(f, s, "proof-serial");
}

/* The way to the root is gone once, and again when the roots are others or the time is not the pair's. */
static void test_known(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i;
    struct agent_verified v;
    struct pki other;
    unsigned long whole = verify_chain_whole();
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    assert_done(agent_verify(&v, &f->trust, &i, PKI_ID, PKI_NOW, &e));
    assert_int_equal(verify_chain_whole(), whole);
    acme_identity_free(&i);
    /* A leaf that lives longer than its issuing certificate is not carried over that one's end. */
    struct pki_spec s = pki_leaf_spec(&f->pki, f->key);
    s.not_after = PKI_NOW + 100000000;
    pki_identity(&i, s, &f->pki.log, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW + 90000001, "chain-time");
    assert_int_equal(verify_chain_whole(), whole + 1);
    /* Nor by roots that are others now. */
    pki_new(&other);
    agent_trust_free(&f->trust);
    pki_trust(&f->trust, other.root);
    pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
    refuse_identity(f, &i, PKI_NOW, "chain");
    assert_int_equal(verify_chain_whole(), whole + 2);
    pki_free(&other);
}

/* A root that constrains names is asked each time: below it a leaf would not be held to that. */
static void test_constrained(void **state)
{
    struct fixture *f = *state;
    struct err e;
    struct acme_identity i;
    struct agent_verified v;
    struct pki_spec root = pki_root_spec(f->pki.root_key, "root");
    root.constraints = "critical,permitted;URI:example.org,permitted;DNS:example.org";
    X509 *x = pki_cert(&root);
    agent_trust_free(&f->trust);
    pki_trust(&f->trust, x);
    for (int n = 0; n < 2; n++) {
        unsigned long whole = verify_chain_whole();
        pki_identity(&i, pki_leaf_spec(&f->pki, f->key), &f->pki.log, f->pki.issuing);
        int rc = agent_verify(&v, &f->trust, &i, PKI_ID, PKI_NOW, &e);
        assert_done(rc);
        assert_int_equal(verify_chain_whole(), whole + 1);
        acme_identity_free(&i);
    }
    struct pki_spec leaf = pki_leaf_spec(&f->pki, f->key);
    leaf.san = "critical,URI:" PKI_ID ",DNS:web.example.com";
    refuse_spec(f, leaf, "chain");
    X509_free(x);
}

#define TWICE(test)                                                                                                    \
    cmocka_unit_test_setup_teardown(test, setup, teardown), cmocka_unit_test_setup_teardown(test, setup_known, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(test_good),
        TWICE(test_time),
        TWICE(test_names),
        TWICE(test_usage),
        TWICE(test_key_mismatch),
        TWICE(test_foreign_root),
        TWICE(test_issuing_did_not_sign),
        TWICE(test_chain_shape),
        TWICE(test_issuing),
        TWICE(test_log),
        cmocka_unit_test_setup_teardown(test_known, setup_known, teardown),
        TWICE(test_constrained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
