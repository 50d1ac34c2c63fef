/* What the agent believes before it speaks: the root that a join token pins, or the certificates of
 * a bundle. The system's own roots are never asked. */
#include "agent/internal.h"
#include "base/fileio.h"
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <pthread.h>
#include <string.h>

/* Roots whose own signature was found good: the same few are looked at again and again, and each look costs a
 * millisecond (P-384). */
static struct {
    pthread_mutex_t lock; /* guards the rest */
    uint8_t sha256[ROOTS_MAX][32];
    unsigned next;
} good = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool was_good(const uint8_t hash[32])
{
    bool was = false;
    pthread_mutex_lock(&good.lock);
    for (unsigned i = 0; i < ROOTS_MAX && i < good.next && !was; i++)
        was = memcmp(good.sha256[i], hash, 32) == 0;
    pthread_mutex_unlock(&good.lock);
    return was;
}

static void is_good(const uint8_t hash[32])
{
    pthread_mutex_lock(&good.lock);
    memcpy(good.sha256[good.next++ % ROOTS_MAX], hash, 32);
    if (good.next == 2 * ROOTS_MAX) /* all are in use; only the place matters */
        good.next = ROOTS_MAX;
    pthread_mutex_unlock(&good.lock);
}

static bool signs_itself(X509 *x)
{
    static const uint8_t none[32];
    uint8_t hash[32];
    x509_sha256(hash, x);
    if (memcmp(hash, none, 32) != 0 && was_good(hash))
        return true;
    if (X509_self_signed(x, 1) != 1)
        return false;
    is_good(hash);
    return true;
}

/* A root: a CA that signs itself, and really does. */
static int check_root(X509 *x, struct err *e)
{
    if (X509_check_ca(x) != 1)
        return err_set(e, ERR_CONFIG, "trust-bundle", "it holds a certificate that is no CA");
    if (!signs_itself(x)) {
        ERR_clear_error();
        return err_set(
            e, ERR_CONFIG, "trust-bundle",
            "it holds a CA certificate that is not self-signed: only roots belong into a bundle");
    }
    return 0;
}

static int add_roots(struct agent_trust *t, const STACK_OF(X509) * list, struct err *e)
{
    for (int i = 0; i < sk_X509_num(list); i++) {
        X509 *x = sk_X509_value(list, i);
        if (check_root(x, e) < 0 || x509_to_pem(&t->roots_pem, x, e) < 0)
            return -1;
    }
    return 0;
}

static int parse_pem(struct agent_trust *t, const void *p, size_t len, struct err *e)
{
    STACK_OF(X509) * list;
    if (x509_from_pem(&list, p, len, ROOTS_MAX, e) < 0) {
        e->code = ERR_CONFIG;
        return -1;
    }
    int rc = add_roots(t, list, e);
    sk_X509_pop_free(list, X509_free);
    return rc;
}

/* One x5c member: standard base64 of one DER certificate, nothing after it. */
static int parse_x5c(struct agent_trust *t, const json_t *x5c, struct err *e)
{
    uint8_t der[8192];
    const json_t *item = json_array_get(x5c, 0);
    if (json_array_size(x5c) != 1 || !json_is_string(item))
        return err_set(
            e, ERR_CONFIG, "trust-bundle",
            "an x509-svid key must have exactly one certificate in x5c (SPIFFE Trust Domain and "
            "Bundle section 4.2.2)");
    long n = b64_decode(der, sizeof der, json_string_value(item), json_string_length(item));
    const unsigned char *at = der;
    X509 *x = n > 0 ? d2i_X509(NULL, &at, n) : NULL;
    int rc;
    if (!x || at != der + n)
        rc = err_set(e, ERR_CONFIG, "trust-bundle", "its x5c holds no DER certificate in base64");
    else
        rc = check_root(x, e) < 0 ? -1 : x509_to_pem(&t->roots_pem, x, e);
    X509_free(x);
    ERR_clear_error();
    return rc;
}

static int parse_bundle(struct agent_trust *t, const void *p, size_t len, struct err *e)
{
    int rc = 0, found = 0;
    size_t i;
    json_t *doc = json_parse(p, len, BUNDLE_MAX, e), *k;
    if (!doc) {
        e->code = ERR_CONFIG;
        return -1;
    }
    const json_t *keys = json_object_get(doc, "keys");
    if (!json_is_array(keys))
        rc =
            err_set(e, ERR_CONFIG, "trust-bundle", "it has no array \"keys\": not a SPIFFE bundle");
    json_array_foreach(keys, i, k)
    {
        const char *use = json_maybe_str(k, "use");
        if (rc < 0 || !use || strcmp(use, "x509-svid") != 0)
            continue;
        rc = ++found > ROOTS_MAX
                 ? err_set(e, ERR_CONFIG, "trust-bundle", "it has more than %d roots", ROOTS_MAX)
                 : parse_x5c(t, json_object_get(k, "x5c"), e);
    }
    if (rc == 0 && !found)
        rc = err_set(e, ERR_CONFIG, "trust-bundle", "it has no key of use x509-svid");
    json_decref(doc);
    return rc;
}

int agent_trust_parse(struct agent_trust *t, const void *p, size_t len, const char *name,
                      struct err *e)
{
    const char *s = p;
    size_t i = 0;
    buf_free(&t->roots_pem);
    buf_init(&t->roots_pem, BUNDLE_MAX);
    while (i < len && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t'))
        i++;
    int rc = i < len && s[i] == '{' ? parse_bundle(t, p, len, e) : parse_pem(t, p, len, e);
    if (rc < 0) {
        buf_reset(&t->roots_pem);
        err_wrap(e, "trust bundle %s", name);
    }
    return rc;
}

int agent_trust_from_file(struct agent_trust *t, const char *path, struct err *e)
{
    struct buf b;
    buf_init(&b, BUNDLE_MAX);
    int rc = file_read(&b, path, BUNDLE_MAX, e);
    if (rc < 0)
        err_wrap(e, "trust bundle");
    else
        rc = agent_trust_parse(t, b.p, b.len, path, e);
    buf_free(&b);
    return rc;
}

void agent_trust_free(struct agent_trust *t)
{
    buf_free(&t->roots_pem);
    memset(t, 0, sizeof *t);
}

int agent_trust_roots(const struct agent_trust *t, STACK_OF(X509) * *out, struct err *e)
{
    return x509_from_pem(out, t->roots_pem.p, t->roots_pem.len, ROOTS_MAX, e);
}

/* Borrowed from the list; NULL when no certificate has this hash. */
static X509 *find_anchor(const STACK_OF(X509) * list, const uint8_t anchor[32])
{
    uint8_t hash[32];
    for (int i = 0; i < sk_X509_num(list); i++) {
        x509_sha256(hash, sk_X509_value(list, i));
        if (memcmp(hash, anchor, 32) == 0)
            return sk_X509_value(list, i);
    }
    return NULL;
}

int agent_trust_pin(struct agent_trust *t, const uint8_t anchor[32], struct err *e)
{
    STACK_OF(X509) * roots;
    memcpy(t->anchor_sha256, anchor, 32);
    t->pinned = true;
    if (t->roots_pem.len == 0)
        return 0;
    if (agent_trust_roots(t, &roots, e) < 0)
        return -1;
    bool agree = find_anchor(roots, anchor) != NULL;
    sk_X509_pop_free(roots, X509_free);
    if (!agree)
        return err_set(e, ERR_CONFIG, "trust-disagree",
                       "the join token names an authority whose root is not in the trust bundle: "
                       "one of them is of "
                       "another authority, or the bundle is out of date");
    return 0;
}

/* The pinned root as the server sent it, in a list of its own. */
static int learn_root(const struct agent_trust *t, STACK_OF(X509) * sent, STACK_OF(X509) * *roots,
                      struct err *e)
{
    X509 *root = find_anchor(sent, t->anchor_sha256);
    *roots = NULL;
    if (!root || !signs_itself(root)) {
        char hex[HEX_LEN(32) + 1];
        hex_encode(hex, t->anchor_sha256, 32);
        ERR_clear_error();
        return err_set(
            e, ERR_CORRUPT, "trust-pin",
            "it does not show the root that the join token names (SHA-256 %.16s…): another server "
            "answers here, or the token is of another authority. Nothing was sent to it",
            hex);
    }
    *roots = sk_X509_new_null();
    if (!*roots || !X509_up_ref(root))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    if (!sk_X509_push(*roots, root)) {
        X509_free(root);
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    }
    return 0;
}

int agent_trust_server(struct agent_trust *t, X509 *leaf, STACK_OF(X509) * sent, const char *host,
                       int64_t now, struct err *e)
{
    STACK_OF(X509) *roots = NULL;
    bool learn = t->roots_pem.len == 0;
    if (sent && sk_X509_num(sent) > CHAIN_CERTS_MAX)
        return err_set(e, ERR_CORRUPT, "chain", "it shows more than %d certificates",
                       CHAIN_CERTS_MAX);
    if (learn && !t->pinned)
        return err_set(e, ERR_CONFIG, "trust-none",
                       "nothing says whom to trust: give --token or --trust-bundle");
    int rc = learn ? learn_root(t, sent, &roots, e) : agent_trust_roots(t, &roots, e);
    struct x509_check q = {
        .leaf = leaf, .untrusted = sent, .roots = roots, .host = host, .now = now};
    if (rc == 0)
        rc = x509_verify(&q, NULL, e);
    if (rc == 0 && learn) {
        buf_free(&t->roots_pem);
        buf_init(&t->roots_pem, BUNDLE_MAX);
        rc = add_roots(t, roots, e);
        if (rc < 0)
            buf_reset(&t->roots_pem);
    }
    sk_X509_pop_free(roots, X509_free);
    return rc;
}
