/* Generating keys, finding them, and refusing those that are not held as demanded. */
#include "unit/hsm/token.h"

static unsigned rows, bad_rows;
static char first_bad[96];

static void row(void *arg, const char *key, const char *attribute, const char *value, bool ok)
{
    (void)arg;
    rows++;
    if (!ok && bad_rows++ == 0)
        snprintf(first_bad, sizeof(first_bad), "%s %s %s", key, attribute, value);
}

static void scene_generate(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    for (unsigned r = 0; r < HSM_KEYS; r++) {
        CHECK(!hsm_has_key(h, (enum hsm_key_role)r));
        CHECK(hsm_load_keys(h, 1u << r, &e) != 0);
        CHECK(e.code == ERR_NOT_FOUND);
        CHECK_RULE(&e, "hsm-key-missing");
        CHECK(strstr(e.msg, hsm_key_label[r]));
        CHECK_OK(hsm_generate(h, (enum hsm_key_role)r, &e), &e);
        CHECK(hsm_has_key(h, (enum hsm_key_role)r));
        CHECK(hsm_generate(h, (enum hsm_key_role)r, &e) != 0);
        CHECK(e.code == ERR_EXISTS);
    }
    CHECK_OK(hsm_load_keys(h, ALL_KEYS, &e), &e);
    static const size_t point[HSM_KEYS] = {97, 65, 32, 65, 65, 65},
                        spki[HSM_KEYS] = {120, 91, 44, 91, 91, 91};
    for (unsigned r = 0; r < HSM_KEYS; r++) {
        CHECK(hsm_public(h, (enum hsm_key_role)r).len == point[r]);
        CHECK(hsm_spki(h, (enum hsm_key_role)r).len == spki[r]);
    }
    CHECK(hsm_sign_count(h) == HSM_KEYS); /* the self-tests */
    CHECK_OK(hsm_report(h, row, NULL, &e), &e);
    CHECK(rows == HSM_AUTHORITY_KEYS * (HSM_DEMANDS + 5) && bad_rows == 0); /* and none of an agent's */
    hsm_close(h);
}

static void scene_found_again(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(2, 5000);
    CHECK_OK(hsm_load_keys(h, ALL_KEYS, &e), &e);
    hsm_close(h);
}

/* An authority older than the JWT key. */
static void scene_no_jwt_key(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    for (unsigned r = 0; r < HSM_KEY_JWT; r++)
        CHECK_OK(hsm_generate(h, (enum hsm_key_role)r, &e), &e);
    CHECK_OK(hsm_load_keys(h, (1u << HSM_KEY_JWT) - 1, &e), &e);
    CHECK_OK(hsm_report(h, row, NULL, &e), &e);
    CHECK(rows == HSM_KEY_JWT * (HSM_DEMANDS + 5) + 1 && bad_rows == 0);
    CHECK(hsm_load_keys(h, 1u << HSM_KEY_JWT, &e) != 0);
    CHECK_RULE(&e, "hsm-key-missing");
    CHECK(strstr(e.msg, "mayflyd"));
    hsm_close(h);
}

static void jwt_key_may_be_missing(void **state)
{
    run(*state, scene_no_jwt_key);
}

static void generates_and_demands(void **state)
{
    run(*state, scene_generate);
    run(*state, scene_found_again);
}

/* Raw generation, for keys that we would not make. */
static void raw_generate(struct hsm *h, enum hsm_key_role label, const struct hsm_kind *k,
                         CK_BBOOL extractable, CK_BBOOL derive, uint8_t id)
{
    CK_SESSION_HANDLE s;
    CK_FUNCTION_LIST *f = h->module.f;
    CHECK(f->C_OpenSession(h->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s) == CKR_OK);
    CK_BBOOL yes = CK_TRUE;
    const char *name = hsm_key_label[label];
    CK_ATTRIBUTE public[] = {hsm_attr(CKA_TOKEN, &yes, 1),
                             hsm_attr(CKA_EC_PARAMS, k->params, k->params_len),
                             hsm_attr(CKA_LABEL, name, strlen(name)), hsm_attr(CKA_ID, &id, 1)};
    CK_ATTRIBUTE private[] = {hsm_attr(CKA_TOKEN, &yes, 1), hsm_attr(CKA_PRIVATE, &yes, 1),
                              hsm_attr(CKA_SENSITIVE, &yes, 1),
                              hsm_attr(CKA_EXTRACTABLE, &extractable, 1),
                              hsm_attr(CKA_DERIVE, &derive, 1), hsm_attr(CKA_SIGN, &yes, 1),
                              hsm_attr(CKA_DECRYPT, &derive, 1), hsm_attr(CKA_UNWRAP, &derive, 1),
                              hsm_attr(CKA_LABEL, name, strlen(name)), hsm_attr(CKA_ID, &id, 1)};
    CK_MECHANISM m = {.mechanism = k->generate};
    CK_OBJECT_HANDLE pub, priv;
    CHECK(f->C_GenerateKeyPair(s, &m, public, 4, private, 10, &pub, &priv) == CKR_OK);
    f->C_CloseSession(s);
}

static void scene_extractable(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    raw_generate(h, HSM_KEY_ISSUING, &hsm_kinds[HSM_KEY_ISSUING], CK_TRUE, CK_FALSE, 1);
    CHECK(hsm_load_keys(h, 1u << HSM_KEY_ISSUING, &e) != 0);
    CHECK_RULE(&e, "hsm-attribute");
    CHECK(strstr(e.msg, "mayfly-issuing") && strstr(e.msg, "EXTRACTABLE"));
    uint8_t sig[64], digest[32] = {0};
    size_t n = sizeof(sig);
    CHECK(hsm_sign(h, HSM_KEY_ISSUING, digest, 32, sig, &n, &e) != 0); /* not loaded */
    CHECK_RULE(&e, "hsm-key-missing");
    CHECK_OK(hsm_report(h, row, NULL, &e), &e);
    CHECK(strcmp(first_bad, "mayfly-root in the token absent") == 0);
    CHECK(bad_rows == 4); /* two keys missing, NEVER_EXTRACTABLE, EXTRACTABLE */
    hsm_close(h);
}

static void extractable_is_refused(void **state)
{
    run(*state, scene_extractable);
}

static void scene_derive(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    raw_generate(h, HSM_KEY_LOG, &hsm_kinds[HSM_KEY_LOG], CK_FALSE, CK_TRUE, 1);
    CHECK(hsm_load_keys(h, 1u << HSM_KEY_LOG, &e) != 0);
    CHECK_RULE(&e, "hsm-attribute");
    CHECK(strstr(e.msg, "mayfly-log") && strstr(e.msg, "CKA_DECRYPT is true"));
    hsm_close(h);
}

static void other_uses_are_refused(void **state)
{
    run(*state, scene_derive);
}

static void scene_wrong_curve(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    raw_generate(h, HSM_KEY_ROOT, &hsm_kinds[HSM_KEY_ISSUING], CK_FALSE, CK_FALSE, 1);
    CHECK(hsm_load_keys(h, 1u << HSM_KEY_ROOT, &e) != 0);
    CHECK_RULE(&e, "hsm-key-type");
    CHECK(strstr(e.msg, "mayfly-root") && strstr(e.msg, "P-384"));
    raw_generate(h, HSM_KEY_LOG, &hsm_kinds[HSM_KEY_ISSUING], CK_FALSE, CK_FALSE, 1);
    CHECK(hsm_load_keys(h, 1u << HSM_KEY_LOG, &e) != 0);
    CHECK_RULE(&e, "hsm-key-type");
    hsm_close(h);
}

static void wrong_curve_is_refused(void **state)
{
    run(*state, scene_wrong_curve);
}

static void scene_duplicate(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    raw_generate(h, HSM_KEY_ISSUING, &hsm_kinds[HSM_KEY_ISSUING], CK_FALSE, CK_FALSE, 9);
    CHECK(hsm_load_keys(h, ALL_KEYS, &e) != 0);
    CHECK_RULE(&e, "hsm-key-duplicate");
    CHECK(strstr(e.msg, "mayfly-issuing"));
    CHECK_OK(hsm_report(h, row, NULL, &e), &e);
    CHECK(bad_rows == 1 && strcmp(first_bad, "mayfly-issuing only one false") == 0);
    hsm_close(h);
}

static void duplicate_is_refused(void **state)
{
    run(*state, scene_duplicate);
}

static void destroy_public(struct hsm *h, enum hsm_key_role role)
{
    struct err e = {0};
    CK_SESSION_HANDLE s;
    CK_FUNCTION_LIST *f = h->module.f;
    CHECK(f->C_OpenSession(h->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s) == CKR_OK);
    struct hsm_session own = {.handle = s};
    CK_OBJECT_HANDLE o;
    unsigned n;
    CHECK_OK(hsm_find(h, &own, CKO_PUBLIC_KEY, role, (struct bytes){NULL, 0}, &o, &n, &e), &e);
    CHECK(n == 1 && f->C_DestroyObject(s, o) == CKR_OK);
    f->C_CloseSession(s);
}

static void destroy_private(struct hsm *h, enum hsm_key_role role)
{
    struct err e = {0};
    CK_SESSION_HANDLE s;
    CK_FUNCTION_LIST *f = h->module.f;
    CHECK(f->C_OpenSession(h->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s) == CKR_OK);
    struct hsm_session own = {.handle = s};
    CK_OBJECT_HANDLE o;
    unsigned n;
    CHECK_OK(hsm_find(h, &own, CKO_PRIVATE_KEY, role, (struct bytes){NULL, 0}, &o, &n, &e), &e);
    CHECK(n == 1 && f->C_DestroyObject(s, o) == CKR_OK);
    f->C_CloseSession(s);
}

static void scene_halves(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    destroy_public(h, HSM_KEY_LOG);
    CHECK(hsm_load_keys(h, 1u << HSM_KEY_LOG, &e) != 0);
    CHECK_RULE(&e, "hsm-key-missing");
    CHECK(strstr(e.msg, "public half"));
    destroy_private(h, HSM_KEY_ROOT);
    CHECK(!hsm_has_key(h, HSM_KEY_ROOT));
    CHECK(hsm_generate(h, HSM_KEY_ROOT, &e) != 0);
    CHECK(e.code == ERR_EXISTS && strstr(e.msg, "without its private half"));
    destroy_public(h, HSM_KEY_ROOT);
    CHECK_OK(hsm_generate(h, HSM_KEY_ROOT, &e), &e);
    hsm_close(h);
}

static void halves_are_told(void **state)
{
    run(*state, scene_halves);
}

/* A module that gives the bare point, one that gives another key's point, one that gives junk. */
static CK_C_GetAttributeValue real_get;
static enum { POINT_RAW, POINT_FLIPPED, POINT_SHORT } point_as;

static CK_RV odd_point(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *a, CK_ULONG n)
{
    CK_RV rv = real_get(s, o, a, n);
    if (rv != CKR_OK || a->type != CKA_EC_POINT || !a->pValue)
        return rv;
    uint8_t *p = a->pValue;
    if (point_as == POINT_RAW) {
        memmove(p, p + 2, a->ulValueLen - 2);
        a->ulValueLen -= 2;
    } else if (point_as == POINT_FLIPPED) {
        p[a->ulValueLen - 1] ^= 1;
    } else {
        a->ulValueLen = 5;
    }
    return rv;
}

static void scene_points(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    real_get = h->module.f->C_GetAttributeValue;
    h->module.f->C_GetAttributeValue = odd_point;
    point_as = POINT_RAW;
    CHECK_OK(hsm_load_keys(h, ALL_KEYS, &e), &e);
    for (unsigned r = 0; r < HSM_KEYS; r++) {
        point_as = POINT_FLIPPED;
        CHECK(hsm_load_keys(h, 1u << r, &e) != 0);
        CHECK(e.code == ERR_HSM && strstr(e.msg, hsm_key_label[r]));
        CHECK(strcmp(e.rule, "hsm-key-type") == 0 || strcmp(e.rule, "hsm-key-self-test") == 0);
        point_as = POINT_SHORT;
        CHECK(hsm_load_keys(h, 1u << r, &e) != 0);
        CHECK_RULE(&e, "hsm-key-type");
    }
    hsm_close(h);
}

static void points_raw_and_false(void **state)
{
    run(*state, scene_points);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(generates_and_demands, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(jwt_key_may_be_missing, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(extractable_is_refused, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(other_uses_are_refused, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(wrong_curve_is_refused, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(duplicate_is_refused, keys_setup, box_teardown),
        cmocka_unit_test_setup_teardown(halves_are_told, keys_setup, box_teardown),
        cmocka_unit_test_setup_teardown(points_raw_and_false, keys_setup, box_teardown),
    };
    int skip = need_softhsm();
    return skip ? skip : cmocka_run_group_tests(tests, NULL, NULL);
}
