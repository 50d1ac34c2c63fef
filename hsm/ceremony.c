/* Key ceremony: keys are born in the token and stay there. */
#include "hsm/internal.h"
#include <openssl/rand.h>

static CK_RV generate_call(struct hsm *h, CK_SESSION_HANDLE s, enum hsm_key_role role,
                           const uint8_t id[16], const char *params, size_t params_len)
{
    const struct hsm_kind *k = &hsm_kinds[role];
    const char *label = hsm_key_label[role];
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_OBJECT_CLASS public_class = CKO_PUBLIC_KEY, private_class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE public[] = {
        hsm_attr(CKA_CLASS, &public_class, sizeof(public_class)),
        hsm_attr(CKA_KEY_TYPE, &k->type, sizeof(k->type)),
        hsm_attr(CKA_TOKEN, &yes, 1),
        hsm_attr(CKA_VERIFY, &yes, 1),
        hsm_attr(CKA_EC_PARAMS, params, params_len),
        hsm_attr(CKA_LABEL, label, strlen(label)),
        hsm_attr(CKA_ID, id, 16),
    };
    CK_ATTRIBUTE private[] = {
        hsm_attr(CKA_CLASS, &private_class, sizeof(private_class)),
        hsm_attr(CKA_KEY_TYPE, &k->type, sizeof(k->type)),
        hsm_attr(CKA_TOKEN, &yes, 1),
        hsm_attr(CKA_PRIVATE, &yes, 1),
        hsm_attr(CKA_SENSITIVE, &yes, 1),
        hsm_attr(CKA_EXTRACTABLE, &no, 1),
        hsm_attr(CKA_SIGN, &yes, 1),
        hsm_attr(CKA_DECRYPT, &no, 1),
        hsm_attr(CKA_UNWRAP, &no, 1),
        hsm_attr(CKA_DERIVE, &no, 1),
        hsm_attr(CKA_LABEL, label, strlen(label)),
        hsm_attr(CKA_ID, id, 16),
    };
    CK_MECHANISM mechanism = {.mechanism = k->generate, .pParameter = NULL, .ulParameterLen = 0};
    CK_OBJECT_HANDLE pub, priv;
    hsm_slow_begin(h, "C_GenerateKeyPair");
    CK_RV rv = h->module.f->C_GenerateKeyPair(s, &mechanism, public, sizeof(public) / sizeof(public[0]),
                                              private, sizeof(private) / sizeof(private[0]), &pub,
                                              &priv);
    hsm_slow_end(h);
    return rv;
}

static bool params_unknown(CK_RV rv)
{
    return rv == CKR_CURVE_NOT_SUPPORTED || rv == CKR_DOMAIN_PARAMS_INVALID ||
           rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT;
}

static int generate_pair(struct hsm *h, enum hsm_key_role role, struct err *e)
{
    const struct hsm_kind *k = &hsm_kinds[role];
    uint8_t id[16];
    if (RAND_bytes(id, sizeof(id)) != 1)
        return err_set(e, ERR_INTERNAL, "random", "no random bytes for a key's CKA_ID");
    CK_SESSION_HANDLE s;
    hsm_slow_begin(h, "C_OpenSession");
    CK_RV rv = h->module.f->C_OpenSession(h->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s);
    hsm_slow_end(h);
    if (rv != CKR_OK)
        return hsm_fail(e, "hsm-sessions", rv, "opening a session that may write");
    rv = generate_call(h, s, role, id, k->params, k->params_len);
    if (params_unknown(rv) && k->params_alt)
        rv = generate_call(h, s, role, id, k->params_alt, k->params_alt_len);
    hsm_slow_begin(h, "C_CloseSession");
    h->module.f->C_CloseSession(s);
    hsm_slow_end(h);
    if (rv == CKR_MECHANISM_INVALID || params_unknown(rv))
        return err_set(e, ERR_HSM, "hsm-generate",
                       "the token cannot generate a %s key in itself (%s); use a token that can",
                       k->curve, hsm_rv_name(rv));
    return rv == CKR_OK ? 0 : hsm_fail(e, "hsm-generate", rv, "generating the pair");
}

int hsm_generate(struct hsm *h, enum hsm_key_role role, struct err *e)
{
    struct hsm_session *s = hsm_pool_take(h, e);
    if (!s)
        return -1;
    const struct bytes any = {NULL, 0};
    CK_OBJECT_HANDLE o;
    unsigned privates = 0, publics = 0;
    int rc = hsm_find(h, s, CKO_PRIVATE_KEY, role, any, &o, &privates, e) ||
                     hsm_find(h, s, CKO_PUBLIC_KEY, role, any, &o, &publics, e)
                 ? -1
                 : 0;
    hsm_pool_give(h, s);
    if (rc != 0)
        return -1;
    if (privates > 0)
        return err_set(e, ERR_EXISTS, "hsm-key-exists",
                       "key %s is already in token %.100s; it is kept", hsm_key_label[role], h->name);
    /* What a generation cut short may leave behind. */
    if (publics > 0)
        return err_set(e, ERR_EXISTS, "hsm-key-exists",
                       "token %.100s holds a public key %s without its private half; remove it "
                       "(pkcs11-tool --delete-object --type pubkey --label %s), then generate again",
                       h->name, hsm_key_label[role], hsm_key_label[role]);
    if (generate_pair(h, role, e))
        return err_wrap(e, "key %s", hsm_key_label[role]);
    return 0;
}

bool hsm_has_key(struct hsm *h, enum hsm_key_role role)
{
    struct err e = {0};
    struct hsm_session *s = hsm_pool_take(h, &e);
    if (!s)
        return false;
    CK_OBJECT_HANDLE o;
    unsigned n = 0;
    int rc = hsm_find(h, s, CKO_PRIVATE_KEY, role, (struct bytes){NULL, 0}, &o, &n, &e);
    hsm_pool_give(h, s);
    return rc == 0 && n > 0;
}
