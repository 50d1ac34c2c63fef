/* Signing: right, at once from many threads, and when the token misbehaves. */
#include "base/der.h"
#include "unit/hsm/token.h"
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <pthread.h>

static struct hsm *open_keys(unsigned sessions, unsigned timeout_ms)
{
    struct err e = {0};
    struct hsm *h = open_ok(sessions, timeout_ms);
    CHECK_OK(hsm_load_keys(h, ALL_KEYS, &e), &e);
    return h;
}

/* Against OpenSSL alone, from the SPKI that goes into certificates. */
static bool verifies(struct hsm *h, enum hsm_key_role role, const uint8_t *msg, size_t len,
                     const uint8_t *sig, size_t n)
{
    struct bytes spki = hsm_spki(h, role);
    const unsigned char *p = spki.p;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &p, (long)spki.len);
    CHECK(pkey && p == spki.p + spki.len);
    bool ok;
    if (role == HSM_KEY_LOG) {
        EVP_MD_CTX *md = EVP_MD_CTX_new();
        ok = EVP_DigestVerifyInit(md, NULL, NULL, NULL, pkey) == 1 &&
             EVP_DigestVerify(md, sig, n, msg, len) == 1;
        EVP_MD_CTX_free(md);
    } else {
        uint8_t der[128];
        long der_len = der_ecdsa_from_rs(der, sizeof(der), sig, n / 2);
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(pkey, NULL);
        ok = der_len > 0 && EVP_PKEY_verify_init(c) == 1 &&
             EVP_PKEY_verify(c, der, (size_t)der_len, msg, len) == 1;
        EVP_PKEY_CTX_free(c);
    }
    EVP_PKEY_free(pkey);
    return ok;
}

static void scene_verifies(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_keys(1, 5000);
    static const size_t sizes[HSM_KEYS][2] = {{48, 96}, {32, 64}, {177, 64}, {32, 64}, {32, 64}, {32, 64}};
    uint64_t before = hsm_sign_count(h);
    for (unsigned r = 0; r < HSM_KEYS; r++) {
        enum hsm_key_role role = (enum hsm_key_role)r;
        uint8_t msg[200], sig[100];
        size_t len = sizes[r][0], n = sizeof(sig);
        memset(msg, 'a' + (int)r, sizeof(msg));
        CHECK_OK(hsm_sign(h, role, msg, len, sig, &n, &e), &e);
        CHECK(n == sizes[r][1]);
        CHECK(verifies(h, role, msg, len, sig, n));
        msg[0] ^= 1;
        CHECK(!verifies(h, role, msg, len, sig, n));
        n = sizes[r][1] - 1;
        CHECK(hsm_sign(h, role, msg, len, sig, &n, &e) != 0);
        n = sizeof(sig);
        if (role != HSM_KEY_LOG)
            CHECK(hsm_sign(h, role, msg, len + 1, sig, &n, &e) != 0);
    }
    CHECK(hsm_sign_count(h) == before + HSM_KEYS);
    hsm_close(h);
}

static void all_roles_verify(void **state)
{
    run(*state, scene_verifies);
}

#define THREADS 8
#define EACH 40

static void *signer(void *arg)
{
    struct hsm *h = arg;
    struct err e = {0};
    for (unsigned i = 0; i < EACH; i++) {
        enum hsm_key_role role = (enum hsm_key_role)(i % HSM_KEYS);
        uint8_t msg[48], sig[96];
        size_t n = sizeof(sig), len = role == HSM_KEY_ROOT || role == HSM_KEY_LOG ? 48 : 32;
        memset(msg, (int)i, sizeof(msg));
        memcpy(msg, &arg, sizeof(arg));
        CHECK_OK(hsm_sign(h, role, msg, len, sig, &n, &e), &e);
        CHECK(verifies(h, role, msg, len, sig, n));
    }
    return NULL;
}

static void scene_threads(struct box *b)
{
    (void)b;
    struct hsm *h = open_keys(2, 60000);
    uint64_t before = hsm_sign_count(h);
    pthread_t t[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_create(&t[i], NULL, signer, h) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    CHECK(hsm_sign_count(h) == before + THREADS * EACH);
    hsm_close(h);
}

static void eight_threads_two_sessions(void **state)
{
    run(*state, scene_threads);
}

static int sign_issuing(struct hsm *h, struct err *e)
{
    uint8_t digest[32] = {7}, sig[64];
    size_t n = sizeof(sig);
    return hsm_sign(h, HSM_KEY_ISSUING, digest, sizeof(digest), sig, &n, e);
}

static void scene_busy(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_keys(1, 50);
    struct hsm_session *s = hsm_pool_take(h, &e);
    CHECK(s);
    CHECK(sign_issuing(h, &e) != 0);
    CHECK_RULE(&e, "hsm-busy");
    CHECK(e.code == ERR_UNAVAILABLE);
    hsm_pool_give(h, s);
    CHECK_OK(sign_issuing(h, &e), &e);
    hsm_close(h);
}

static void busy_is_told(void **state)
{
    run(*state, scene_busy);
}

static CK_RV sign_answer;

static CK_RV odd_sign(CK_SESSION_HANDLE s, unsigned char *data, CK_ULONG n, unsigned char *sig,
                      CK_ULONG *sig_len)
{
    (void)s, (void)data, (void)n, (void)sig;
    *sig_len = 63;
    return sign_answer;
}

static void scene_answers(struct box *b)
{
    (void)b;
    static const struct {
        CK_RV rv;
        const char *rule;
    } cases[] = {
        {CKR_OK, "hsm-sign"}, /* but too short */
        {CKR_DEVICE_ERROR, "hsm-lost"},
        {CKR_DEVICE_MEMORY, "hsm-lost"},
        {CKR_DEVICE_REMOVED, "hsm-lost"},
        {CKR_TOKEN_NOT_PRESENT, "hsm-lost"},
        {CKR_SESSION_CLOSED, "hsm-lost"},
        {CKR_SESSION_HANDLE_INVALID, "hsm-lost"},
        {CKR_OBJECT_HANDLE_INVALID, "hsm-lost"},
        {CKR_KEY_HANDLE_INVALID, "hsm-lost"},
        {CKR_USER_NOT_LOGGED_IN, "hsm-lost"},
        {CKR_CRYPTOKI_NOT_INITIALIZED, "hsm-lost"},
        {CKR_GENERAL_ERROR, "hsm-lost"},
        {CKR_BUFFER_TOO_SMALL, "hsm-lost"},
        {CKR_HOST_MEMORY, "hsm-sign"},
        {CKR_KEY_FUNCTION_NOT_PERMITTED, "hsm-sign"},
        {CKR_VENDOR_DEFINED | 5, "hsm-sign"},
    };
    struct hsm *h = open_keys(1, 5000);
    CK_FUNCTION_LIST *f = h->module.f;
    f->C_Sign = odd_sign;
    uint64_t before = hsm_sign_count(h);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err e = {0};
        /* Our C_Sign leaves SoftHSM2's operation open; a session of its own ends it. The login would
         * end with the last session, so the new one comes first. */
        CK_SESSION_HANDLE old = h->pool.all[0].handle;
        CHECK(f->C_OpenSession(h->slot, CKF_SERIAL_SESSION, NULL, NULL, &h->pool.all[0].handle) == CKR_OK);
        f->C_CloseSession(old);
        sign_answer = cases[i].rv;
        CHECK(sign_issuing(h, &e) != 0);
        CHECK(e.code == ERR_HSM);
        CHECK_RULE(&e, cases[i].rule);
        CHECK(strstr(e.msg, "mayfly-issuing"));
    }
    CHECK(hsm_sign_count(h) == before);
}

static void answers_are_sorted(void **state)
{
    run(*state, scene_answers);
}

static void scene_removed(struct box *b)
{
    struct err e = {0};
    struct hsm *h = open_keys(2, 5000);
    CHECK_OK(sign_issuing(h, &e), &e);
    CHECK(nftw(b->tokens, remove_path, 8, FTW_DEPTH | FTW_PHYS) == 0);
    CHECK(sign_issuing(h, &e) != 0);
    CHECK(e.code == ERR_HSM);
    CHECK_RULE(&e, "hsm-lost");
    CHECK(sign_issuing(h, &e) != 0); /* and stays so */
    CHECK(hsm_load_keys(h, ALL_KEYS, &e) != 0);
    hsm_close(h);
}

static void token_removed_mid_flight(void **state)
{
    run(*state, scene_removed);
}

#ifdef MAYFLY_FAULTS
static void fault_write(struct box *b, const char *line)
{
    FILE *f = fopen(b->fault, "w");
    CHECK(f && fputs(line, f) >= 0 && fclose(f) == 0);
}

static void scene_lost(struct box *b)
{
    struct err e = {0};
    struct hsm *h = open_keys(1, 5000);
    fault_write(b, "hsm-lost fail\n");
    CHECK(sign_issuing(h, &e) != 0);
    CHECK_RULE(&e, "hsm-lost");
    CHECK(strstr(e.msg, "CKR_DEVICE_REMOVED"));
}

static void fault_lost(void **state)
{
    run(*state, scene_lost);
}

static void scene_hang(struct box *b)
{
    struct err e = {0};
    struct hsm *h = open_keys(2, 300);
    fault_write(b, "hsm-call hang\n");
    sign_issuing(h, &e);
    _exit(1); /* not reached */
}

/* As above, after the watchdog has gone to sleep for want of calls. */
static void scene_hang_after_idle(struct box *b)
{
    struct err e = {0};
    struct hsm *h = open_keys(2, 300);
    while (!atomic_load(&h->dog.asleep))
        usleep(10000);
    CHECK_OK(sign_issuing(h, &e), &e);
    while (!atomic_load(&h->dog.asleep))
        usleep(10000);
    fault_write(b, "hsm-call hang\n");
    sign_issuing(h, &e);
    _exit(1);
}

static void hang_ends_the_process(void **state)
{
    assert_int_equal(run_status(*state, scene_hang), HSM_EXIT_HUNG);
    assert_int_equal(run_status(*state, scene_hang_after_idle), HSM_EXIT_HUNG);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_roles_verify, keys_setup, box_teardown),
        cmocka_unit_test_setup_teardown(eight_threads_two_sessions, keys_setup, box_teardown),
        cmocka_unit_test_setup_teardown(busy_is_told, keys_setup, box_teardown),
        cmocka_unit_test_setup_teardown(answers_are_sorted, keys_setup, box_teardown),
        cmocka_unit_test_setup_teardown(token_removed_mid_flight, keys_setup, box_teardown),
#ifdef MAYFLY_FAULTS
        cmocka_unit_test_setup_teardown(fault_lost, keys_setup, box_teardown),
        cmocka_unit_test_setup_teardown(hang_ends_the_process, keys_setup, box_teardown),
#endif
    };
    int skip = need_softhsm();
    return skip ? skip : cmocka_run_group_tests(tests, NULL, NULL);
}
