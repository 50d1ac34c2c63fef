/* What the tests of tlog/ share: an in-memory log key, a folder of their own, entries,
 * certificates written by hand, damage. */
#ifndef TLOG_TEST_SUPPORT_H
#define TLOG_TEST_SUPPORT_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/der.h"
#include "base/fileio.h"
#include "base/oid.h"
#include "tlog/internal.h"
#include "tlog/proof.h"
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define assert_rule(e, r) assert_string_equal((e).rule, r)
#define assert_ok(call, e)                                                                         \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s: [%s] %s", #call, (e).rule, (e).msg);                                     \
    } while (0)

struct test_log {
    char base[64], dir[96]; /* dir is below base */
    struct tlog_vkey vkey;
    EVP_PKEY *key;
    int signs;      /* signatures made */
    bool sign_fail; /* the next ones fail */
    struct tlog_options o;
};

UNUSED static int test_sign(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64],
                            struct err *e)
{
    struct test_log *t = arg;
    size_t n = 64;
    if (t->sign_fail)
        return err_set(e, ERR_HSM, "test-sign", "told to fail");
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, t->key), 1);
    assert_int_equal(EVP_DigestSign(ctx, sig, &n, msg, len), 1);
    EVP_MD_CTX_free(ctx);
    t->signs++;
    return 0;
}

UNUSED static void test_key(struct test_log *t, const char *name)
{
    struct err e;
    uint8_t pub[32];
    size_t n = sizeof pub;
    t->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    assert_non_null(t->key);
    assert_int_equal(EVP_PKEY_get_raw_public_key(t->key, pub, &n), 1);
    assert_ok(tlog_vkey_make(&t->vkey, name, pub, &e), e);
}

UNUSED static void test_begin(struct test_log *t)
{
    memset(t, 0, sizeof *t);
    snprintf(t->base, sizeof t->base, "/tmp/tlog-test-XXXXXX");
    assert_non_null(mkdtemp(t->base));
    snprintf(t->dir, sizeof t->dir, "%s/log", t->base);
    test_key(t, "log.example.org/test");
    t->o = (struct tlog_options){.dir = t->dir,
                                 .vkey = &t->vkey,
                                 .sign = test_sign,
                                 .sign_arg = t,
                                 .publish_ms = 3600 * 1000};
}

UNUSED static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
UNUSED static void shell(const char *fmt, ...)
{
    char cmd[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    assert_int_equal(system(cmd), 0);
}

UNUSED static void test_end(struct test_log *t)
{
    shell("rm -rf '%s'", t->base);
    tlog_vkey_free(&t->vkey);
    EVP_PKEY_free(t->key);
}

UNUSED static struct bytes view(const struct buf *b)
{
    return (struct bytes){b->p, b->len};
}

/* A Name of one CN. */
UNUSED static void name_put(struct derw *w, const char *cn)
{
    size_t m = derw_mark(w);
    derw_tlv(w, DER_UTF8, cn, strlen(cn));
    derw_oid(w, OID_CN, OID_LEN(OID_CN));
    derw_wrap(w, DER_SEQUENCE, m);
    derw_wrap(w, DER_SET, m);
    derw_wrap(w, DER_SEQUENCE, m);
}

UNUSED static void ext_put(struct derw *w, const char *oid, size_t oid_len, bool critical,
                           const void *value, size_t len)
{
    size_t m = derw_mark(w);
    derw_tlv(w, DER_OCTET_STRING, value, len);
    if (critical)
        derw_bool(w, true);
    derw_oid(w, oid, oid_len);
    derw_wrap(w, DER_SEQUENCE, m);
}

/* A certificate written by hand: what is to be wrong with it can be said. */
struct test_cert {
    uint64_t serial;
    int64_t not_before, not_after;
    struct bytes stapled; /* .p NULL: none */
    bool stapled_first, stapled_critical, stapled_twice, no_other_extensions;
    bool unique_ids, other_inner_alg, version1, trailing;
    const char *binding; /* log binding vkey, or NULL */
};

UNUSED static void spki_put(struct derw *w)
{
    static const uint8_t point[65] = {4, 1, 2, 3};
    size_t m = derw_mark(w);
    derw_raw(w, point, sizeof point);
    derw_raw(w, "", 1);
    derw_wrap(w, DER_BIT_STRING, m);
    size_t a = derw_mark(w);
    derw_oid(w, OID_P256, OID_LEN(OID_P256));
    derw_oid(w, OID_EC_PUBLIC_KEY, OID_LEN(OID_EC_PUBLIC_KEY));
    derw_wrap(w, DER_SEQUENCE, a);
    derw_wrap(w, DER_SEQUENCE, m);
}

UNUSED static void extensions_put(struct derw *w, const struct test_cert *c)
{
    size_t m = derw_mark(w);
    bool staple = c->stapled.p != NULL;
    for (int i = 0; staple && !c->stapled_first && i < 1 + c->stapled_twice; i++)
        ext_put(w, OID_STAPLED_PROOF, OID_LEN(OID_STAPLED_PROOF), c->stapled_critical, c->stapled.p,
                c->stapled.len);
    if (c->binding) {
        uint8_t array[512];
        struct derw v;
        derw_init(&v, array, sizeof array);
        derw_tlv(&v, DER_UTF8, c->binding, strlen(c->binding));
        ext_put(w, OID_LOG_BINDING, OID_LEN(OID_LOG_BINDING), false, derw_bytes(&v).p,
                derw_bytes(&v).len);
    }
    if (!c->no_other_extensions) {
        ext_put(w, OID_EXT_NO_REV_AVAIL, OID_LEN(OID_EXT_NO_REV_AVAIL), false, "\x05\x00", 2);
        ext_put(w, OID_EXT_KEY_USAGE, OID_LEN(OID_EXT_KEY_USAGE), true, "\x03\x02\x07\x80", 4);
    }
    if (staple && c->stapled_first)
        ext_put(w, OID_STAPLED_PROOF, OID_LEN(OID_STAPLED_PROOF), c->stapled_critical, c->stapled.p,
                c->stapled.len);
    if (derw_mark(w) == m)
        return;
    derw_wrap(w, DER_SEQUENCE, m);
    derw_wrap(w, DER_CTX_CONS | 3, m);
}

UNUSED static void alg_put(struct derw *w, bool other)
{
    size_t m = derw_mark(w);
    if (other)
        derw_oid(w, OID_ECDSA_SHA384, OID_LEN(OID_ECDSA_SHA384));
    else
        derw_oid(w, OID_ECDSA_SHA256, OID_LEN(OID_ECDSA_SHA256));
    derw_wrap(w, DER_SEQUENCE, m);
}

UNUSED static void cert_make(struct buf *out, const struct test_cert *c)
{
    static uint8_t array[65536];
    struct derw w;
    derw_init(&w, array, sizeof array);
    derw_tlv(&w, DER_BIT_STRING, "\x00\x30\x06\x02\x01\x01\x02\x01\x01", 9);
    alg_put(&w, false);
    size_t tbs = derw_mark(&w);
    extensions_put(&w, c);
    if (c->unique_ids) {
        derw_tlv(&w, DER_CTX | 2, "\x00\x02", 2);
        derw_tlv(&w, DER_CTX | 1, "\x00\x01", 2);
    }
    spki_put(&w);
    name_put(&w, "workload");
    size_t m = derw_mark(&w);
    derw_time(&w, c->not_after);
    derw_time(&w, c->not_before);
    derw_wrap(&w, DER_SEQUENCE, m);
    name_put(&w, "issuer");
    alg_put(&w, c->other_inner_alg);
    derw_u64(&w, c->serial);
    if (!c->version1)
        derw_raw(&w, "\xa0\x03\x02\x01\x02", 5);
    derw_wrap(&w, DER_SEQUENCE, tbs);
    derw_wrap(&w, DER_SEQUENCE, 0);
    assert_false(w.failed);
    buf_put(out, derw_bytes(&w).p, derw_bytes(&w).len);
    if (c->trailing)
        buf_u8(out, 0);
    assert_false(out->failed);
}

/* Entry i of a test log: recognizable, padded to about `size` bytes, type private. */
UNUSED static void entry_make(struct buf *out, uint64_t i, size_t size)
{
    buf_reset(out);
    buf_u16(out, 0);
    buf_u16(out, 0xff80);
    buf_u64(out, i * 2654435761u);
    while (out->len < size)
        buf_u64(out, i);
    assert_false(out->failed);
}

/* Appends n entries, numbered by their index, in batches of at most `batch`. */
UNUSED static void append_many(struct tlog *t, uint64_t n, size_t batch, size_t size)
{
    static struct buf b[TLOG_BATCH_MAX];
    struct bytes v[TLOG_BATCH_MAX];
    struct tlog_status s;
    struct err e;
    tlog_status(t, &s);
    for (uint64_t next = s.size, end = s.size + n; next < end;) {
        size_t k = end - next < batch ? (size_t)(end - next) : batch;
        for (size_t i = 0; i < k; i++) {
            if (!b[i].max)
                buf_init(&b[i], TLOG_ENTRY_MAX + 8);
            entry_make(&b[i], next + i, size);
            v[i] = view(&b[i]);
        }
        uint64_t first;
        assert_ok(tlog_append(t, v, k, &first, &e), e);
        assert_int_equal(first, next);
        next += k;
    }
    for (size_t i = 0; i < TLOG_BATCH_MAX; i++)
        buf_free(&b[i]);
    memset(b, 0, sizeof b);
}

UNUSED static struct tlog *open_ok(struct test_log *t)
{
    struct tlog *log;
    struct err e;
    assert_ok(tlog_open(&log, &t->o, &e), e);
    return log;
}

/* Opening is refused, for this reason, and changes nothing. */
UNUSED static void open_refused(struct test_log *t, const char *rule)
{
    struct tlog *log;
    struct err e;
    char before[160];
    snprintf(before, sizeof before, "%s/before", t->base);
    shell("rm -rf %s; if [ -d %s ]; then cp -a %s %s; else mkdir %s; fi", before, t->dir, t->dir,
          before, before);
    assert_int_equal(tlog_open(&log, &t->o, &e), -1);
    assert_null(log);
    if (strcmp(e.rule, rule) != 0)
        fail_msg("wanted rule %s, got [%s] %s", rule, e.rule, e.msg);
    assert_true(strlen(e.msg) > 20);
    shell("if [ -d %s ]; then diff -r %s %s; else rmdir %s; fi", t->dir, t->dir, before, before);
    shell("rm -rf %s", before);
}

UNUSED static void flip(const char *dir, const char *name, off_t at)
{
    char path[256];
    uint8_t v;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR);
    if (fd < 0)
        fail_msg("no file %s", path);
    if (at < 0)
        at += lseek(fd, 0, SEEK_END);
    assert_int_equal(pread(fd, &v, 1, at), 1);
    v ^= 4;
    assert_int_equal(pwrite(fd, &v, 1, at), 1);
    close(fd);
}

UNUSED static uint64_t verify_ok(struct test_log *t)
{
    struct tlog_verify_report r;
    struct err e;
    assert_ok(tlog_verify_dir(t->dir, &t->vkey, &r, NULL, NULL, &e), e);
    return r.size;
}

UNUSED static bool exists(struct test_log *t, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", t->dir, name);
    return access(path, F_OK) == 0;
}
#endif
