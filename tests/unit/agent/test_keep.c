/* Keys that are kept: back as they were, and nothing else is taken for them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "agent/daemon.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void fill(struct kept *k, struct key **session, struct key **svid)
{
    struct err e;
    memset(k, 0, sizeof *k);
    *session = key_generate(KEY_P256, &e);
    *svid = key_generate(KEY_P256, &e);
    assert_int_equal(key_to_pkcs8_secret(*session, &k->session, &e), 0);
    assert_int_equal(key_to_pkcs8_secret(*svid, &k->svid, &e), 0);
    k->id = strdup("spiffe://example.org/host");
    buf_init(&k->chain_pem, 1024);
    buf_str(&k->chain_pem, "-----BEGIN…");
}

static void test_round_trip(void **state)
{
    struct err e;
    struct kept k, back;
    struct keep m, again;
    struct key *session, *svid;
    fill(&k, &session, &svid);
    assert_int_equal(keep_write(&m, &k, &e), 0);
    assert_int_equal(fcntl(m.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_true(pwrite(m.fd, "x", 1, 0) < 0); /* sealed */
    assert_int_equal(keep_read(&again, &back, fcntl(m.fd, F_DUPFD_CLOEXEC, 3), &e), 0);
    assert_string_equal(back.id, k.id);
    assert_memory_equal(back.session.p, k.session.p, k.session.len);
    assert_int_equal(back.chain_pem.len, k.chain_pem.len);
    struct key *one = key_from_pkcs8_secret(&back.session, &e), *two = key_from_pkcs8_secret(&back.svid, &e);
    assert_non_null(one);
    assert_non_null(two);
    assert_memory_equal(key_spki(one).p, key_spki(session).p, key_spki(session).len);
    assert_memory_equal(key_spki(two).p, key_spki(svid).p, key_spki(svid).len);
    /* The private half is the same too: what one signs the other verifies. */
    uint8_t sig[512];
    long n = key_sign(two, true, sig, sizeof sig, "hello", 5, &e);
    assert_true(n > 0);
    assert_int_equal(key_verify(svid, true, sig, (size_t)n, "hello", 5, &e), 0);
    key_free(one);
    key_free(two);
    key_free(session);
    key_free(svid);
    kept_free(&back);
    kept_free(&k);
    keep_close(&m);
    keep_close(&again);
    assert_int_equal(m.fd, -1);
}

/* Each prefix, and each with a byte turned: refused, or (in keys and chain) read as other bytes, but never beyond. */
static void test_damage(void **state)
{
    struct err e;
    struct kept k, back;
    struct keep m, again;
    struct key *session, *svid;
    uint8_t whole[4096];
    fill(&k, &session, &svid);
    assert_int_equal(keep_write(&m, &k, &e), 0);
    ssize_t len = pread(m.fd, whole, sizeof whole, 0);
    assert_true(len > 0);
    for (ssize_t cut = 0; cut <= len + 1; cut += cut < 100 || cut > len - 20 ? 1 : 13) {
        int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(write(fd, whole, (size_t)(cut > len ? len : cut)), cut > len ? len : cut);
        if (cut > len)
            assert_int_equal(write(fd, "!", 1), 1);
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        int rc = keep_read(&again, &back, fd, &e);
        assert_int_equal(rc, cut == len ? 0 : -1);
        if (rc == 0) {
            kept_free(&back);
            keep_close(&again);
        } else {
            assert_int_equal(again.fd, -1);
            assert_string_equal(e.rule, "keep");
        }
    }
    int open_fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING); /* right bytes, but anybody may change them */
    assert_int_equal(write(open_fd, whole, (size_t)len), len);
    assert_int_equal(keep_read(&again, &back, open_fd, &e), -1);
    key_free(session);
    key_free(svid);
    kept_free(&k);
    keep_close(&m);
}

/* Where the machine makes every such memory not executable (vm.memfd_noexec), it has one seal more. */
static void test_more_seals(void **state)
{
    struct err e;
    struct kept k, back;
    struct keep m, again;
    struct key *session, *svid;
    uint8_t whole[4096];
    int fd = memfd_create("x", MFD_CLOEXEC | 8u /* MFD_NOEXEC_SEAL */);
    if (fd < 0)
        skip(); /* before Linux 6.3 */
    fill(&k, &session, &svid);
    assert_int_equal(keep_write(&m, &k, &e), 0);
    ssize_t len = pread(m.fd, whole, sizeof whole, 0);
    assert_int_equal(write(fd, whole, (size_t)len), len);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    assert_int_equal(keep_read(&again, &back, fd, &e), 0);
    assert_string_equal(back.id, k.id);
    kept_free(&back);
    keep_close(&again);
    key_free(session);
    key_free(svid);
    kept_free(&k);
    keep_close(&m);
}

static void test_key_forms(void **state)
{
    struct err e;
    struct key *k = key_generate(KEY_P384, &e);
    struct secret s, bad;
    assert_int_equal(key_to_pkcs8_secret(k, &s, &e), -1);
    assert_string_equal(e.rule, "key-der");
    key_free(k);
    k = key_generate(KEY_P256, &e);
    struct bytes spki = key_spki(k);
    struct key *public = key_from_spki(spki.p, spki.len, &e);
    assert_int_equal(key_to_pkcs8_secret(public, &s, &e), -1);
    key_free(public);
    assert_int_equal(key_to_pkcs8_secret(k, &s, &e), 0);
    assert_int_equal(s.len, 138);
    /* OpenSSL reads the same. */
    const uint8_t *p = s.p;
    EVP_PKEY *theirs = d2i_AutoPrivateKey(NULL, &p, (long)s.len);
    assert_non_null(theirs);
    assert_int_equal(EVP_PKEY_eq(theirs, key_evp(k)), 1);
    EVP_PKEY_free(theirs);
    assert_int_equal(secret_new(&bad, s.len, &e), 0);
    for (size_t i = 0; i < s.len; i += 7) {
        memcpy(bad.p, s.p, s.len);
        bad.len = s.len;
        bad.p[i] ^= 0x40;
        struct key *no = key_from_pkcs8_secret(&bad, &e);
        assert_null(no);
        assert_string_equal(e.rule, "key-der");
    }
    secret_free(&bad);
    secret_free(&s);
    key_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_more_seals),
        cmocka_unit_test(test_key_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
