/* The corridor from end to end: real token, real log, real signer process, several asking threads.
 * Every certificate is verified by OpenSSL against the root and by the log's own verifier. */
#ifndef UNIT_CA_CORRIDOR_H
#define UNIT_CA_CORRIDOR_H
#include "ca/client.h"
#include "unit/ca/asked.h"
#include "unit/ca/house.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>

#define ASKERS 6
#define DEADLINE_MS 120000

static struct house house;
static struct ca_client *client;
static X509 *root, *issuing;
static X509_STORE *store;
static struct tlog_vkey vkey;

static inline X509 *load(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/ca/%s", house.dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    assert_non_null(x);
    fclose(f);
    return x;
}

static inline void open_house(const char *more)
{
    struct err e = {0};
    house_build(&house, more);
    assert_ok(house_child(&house, house_ceremony, &e), &e);
    root = load("root.pem");
    issuing = load("issuing.pem");
    store = X509_STORE_new();
    X509_STORE_add_cert(store, root);
    X509_STORE_set_flags(store, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    uint8_t *der = NULL;
    int len = i2d_X509(issuing, &der);
    assert_ok(tlog_binding_from_cert(&vkey, der, (size_t)len, &e), &e);
    OPENSSL_free(der);
    house_keeper(&house);
    house_start(&house);
    client = ca_client_new(house.socket, DEADLINE_MS, &e);
    assert_non_null(client);
}

static inline int setup(void **state)
{
    open_house("");
    return 0;
}

static inline int teardown(void **state)
{
    ca_client_free(client);
    house_pull_down(&house);
    X509_free(root);
    X509_free(issuing);
    X509_STORE_free(store);
    tlog_vkey_free(&vkey);
    return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* --- asking --------------------------------------------------------------------------------------------- */

struct answer {
    struct asked asked;
    uint64_t index;
    int64_t not_before, not_after;
    uint8_t cert[CA_CERT_MAX];
    size_t len; /* 0: refused */
};

static inline void on_answer(void *arg, const struct ca_issued *r, const struct err *e)
{
    struct answer *a = arg;
    if (r) {
        a->index = r->index;
        a->not_before = r->not_before;
        a->not_after = r->not_after;
        memcpy(a->cert, r->cert.p, r->cert.len);
        a->len = r->cert.len;
    }
    asked_settle(&a->asked, e);
}

static inline void ask_begin(struct answer *a, const struct ca_issue *m)
{
    struct err e = {0};
    memset(a, 0, sizeof *a);
    asked_begin(&a->asked);
    assert_ok(ca_client_issue(client, m, on_answer, a, &e), &e);
}

static inline void ask_end(struct answer *a)
{
    asked_wait(&a->asked);
}

static inline void ask(struct answer *a, const struct ca_issue *m)
{
    ask_begin(a, m);
    ask_end(a);
}

/* --- verifying ------------------------------------------------------------------------------------------ */

static inline void verify(const struct answer *a, const struct ca_issue *m)
{
    struct err e = {0};
    const uint8_t *p = a->cert;
    X509 *x = d2i_X509(NULL, &p, (long)a->len);
    assert_non_null(x);
    assert_ptr_equal(p, a->cert + a->len);
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *others = sk_X509_new_null();
    sk_X509_push(others, issuing);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, x, others), 1);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    X509_STORE_CTX_set_time(ctx, 0, (time_t)a->not_after - 1);
    if (X509_verify_cert(ctx) != 1) {
        print_message("%s\n", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        fail();
    }
    assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0), 1);
    uint8_t *spki = NULL;
    int len = i2d_PUBKEY(X509_get0_pubkey(x), &spki);
    assert_true(bytes_eq(m->spki, spki, (size_t)len));
    OPENSSL_free(spki);
    X509_STORE_CTX_free(ctx);
    sk_X509_free(others);
    X509_free(x);

    struct tlog_proven proven;
    assert_ok(tlog_cert_verify(a->cert, a->len, &vkey, &proven, &e), &e);
    assert_true(proven.index == a->index && proven.log_number == 1);
}

/* With the signer stopped, so that all is published: the entry under that index is the one the
 * certificate and its request stand for. */
static inline void stands_in_log(const struct answer *a, const struct ca_issue *m)
{
    struct err e = {0};
    struct buf body, entry, note;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct tlog_hash path[TLOG_LEVELS];
    size_t path_len;
    struct tlog_entry t;
    struct tlog_ext_info x;
    buf_init(&body, 65536);
    buf_init(&entry, 65536);
    buf_init(&note, 65536);
    assert_ok(tlog_cert_body(&body, &f, &stapled, a->cert, a->len, &e), &e);
    assert_true(stapled.len > 0);
    assert_ok(tlog_read_entry(house.config->log.dir, &vkey, a->index, &entry, path, &path_len, &note, &e), &e);
    assert_ok(tlog_entry_parse(&t, entry.p, entry.len, &e), &e);
    assert_true(bytes_eq(t.body, body.p, body.len));
    assert_ok(tlog_entry_extensions(&x, t.extensions, &e), &e);
    assert_true(bytes_eq(x.attestor, m->attestor.p, m->attestor.len));
    assert_true(bytes_eq(x.evidence, m->evidence.p, m->evidence.len));
    assert_true(bytes_eq(x.requester, m->requester.p, m->requester.len));
    assert_true(x.entry_revision == m->entry_revision);
    buf_free(&body);
    buf_free(&entry);
    buf_free(&note);
}

/* --- load ----------------------------------------------------------------------------------------------- */

struct asker {
    pthread_t thread;
    struct key *key;
    struct ca_issue m;
    struct answer *answers;
    size_t n;
};

static inline void *asker_thread(void *arg)
{
    struct asker *k = arg;
    for (size_t i = 0; i < k->n; i++)
        ask(&k->answers[i], &k->m);
    return NULL;
}

static inline int by_index(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static struct asker askers[ASKERS];

static inline void load_begin(size_t each)
{
    static const enum key_type types[] = {KEY_P256, KEY_P384, KEY_RSA, KEY_ED25519, KEY_P256, KEY_P256};
    for (size_t i = 0; i < ASKERS; i++) {
        struct asker *k = &askers[i];
        k->key = test_key(types[i % 6]);
        k->m = test_request(k->key);
        k->m.lifetime = 60 + (uint32_t)i;
        k->n = each;
        k->answers = calloc(each, sizeof *k->answers);
        assert_non_null(k->answers);
        assert_int_equal(pthread_create(&k->thread, NULL, asker_thread, k), 0);
    }
}

/* Waits, verifies each, and that no index came twice. Returns the greatest index. */
static inline uint64_t load_end(void)
{
    uint64_t all[ASKERS * 64];
    size_t n = 0;
    for (size_t i = 0; i < ASKERS; i++) {
        struct asker *k = &askers[i];
        pthread_join(k->thread, NULL);
        for (size_t j = 0; j < k->n; j++) {
            if (!k->answers[j].len)
                print_message("refused: [%s] %s\n", k->answers[j].asked.e.rule, k->answers[j].asked.e.msg);
            assert_true(k->answers[j].len > 0);
            verify(&k->answers[j], &k->m);
            all[n++] = k->answers[j].index;
        }
    }
    qsort(all, n, sizeof *all, by_index);
    for (size_t i = 1; i < n; i++)
        assert_true(all[i] > all[i - 1]);
    return all[n - 1];
}

static inline void load_free(bool check_log)
{
    for (size_t i = 0; i < ASKERS; i++) {
        for (size_t j = 0; check_log && j < askers[i].n; j++)
            stands_in_log(&askers[i].answers[j], &askers[i].m);
        free(askers[i].answers);
        key_free(askers[i].key);
    }
}

#endif
