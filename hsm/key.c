/* The keys: what each must be, finding it, and demanding its attributes. The attributes are
 * the module's own claims; what we can prove ourselves is that the key signs and that the public
 * half verifies it (the self-test). */
#include "base/der.h"
#include "base/key.h"
#include "base/oid.h"
#include "hsm/internal.h"
#include <openssl/rand.h>

const char *const hsm_key_label[HSM_KEYS] = {
    [HSM_KEY_ROOT] = "mayfly-root",
    [HSM_KEY_ISSUING] = "mayfly-issuing",
    [HSM_KEY_LOG] = "mayfly-log",
    [HSM_KEY_JWT] = "mayfly-jwt",
    [HSM_KEY_AGENT_SESSION] = "mayfly-agent-session",
    [HSM_KEY_AGENT_SVID] = "mayfly-agent-svid",
};

/* Who makes one that is missing. */
static const char *const maker[HSM_KEYS] = {
    [HSM_KEY_ROOT] = "`mayfly init` generates",
    [HSM_KEY_ISSUING] = "`mayfly init` generates",
    [HSM_KEY_LOG] = "`mayfly init` generates",
    [HSM_KEY_JWT] = "`mayflyd` generates at its start",
    [HSM_KEY_AGENT_SESSION] = "`mayfly-agent` generates",
    [HSM_KEY_AGENT_SVID] = "`mayfly-agent` generates",
};

/* DER of the parameters: an OID, or for Ed25519 also the curve's name (PKCS#11 v3.0 §2.3.10). */
#define PARAMS_P384 "\x06\x05" OID_P384
#define PARAMS_P256 "\x06\x08" OID_P256
#define PARAMS_ED25519 "\x06\x03" OID_ED25519
#define PARAMS_ED25519_NAME "\x13\x0c" "edwards25519"

#define KIND_P256                                                                                  \
    {                                                                                              \
        .curve = "P-256", .type = CKK_EC, .sign = CKM_ECDSA, .generate = CKM_EC_KEY_PAIR_GEN,      \
        .params = PARAMS_P256, .params_len = OID_LEN(PARAMS_P256), .input = 32, .sig = 64, .point = 65 \
    }

const struct hsm_kind hsm_kinds[HSM_KEYS] = {
    [HSM_KEY_ROOT] = {.curve = "P-384", .type = CKK_EC, .sign = CKM_ECDSA,
                      .generate = CKM_EC_KEY_PAIR_GEN, .params = PARAMS_P384,
                      .params_len = OID_LEN(PARAMS_P384), .input = 48, .sig = 96, .point = 97},
    [HSM_KEY_ISSUING] = KIND_P256,
    [HSM_KEY_LOG] = {.curve = "Ed25519", .type = CKK_EC_EDWARDS, .sign = CKM_EDDSA,
                     .generate = CKM_EC_EDWARDS_KEY_PAIR_GEN, .params = PARAMS_ED25519,
                     .params_len = OID_LEN(PARAMS_ED25519), .params_alt = PARAMS_ED25519_NAME,
                     .params_alt_len = OID_LEN(PARAMS_ED25519_NAME), .input = 0, .sig = 64,
                     .point = 32},
    [HSM_KEY_JWT] = KIND_P256,
    [HSM_KEY_AGENT_SESSION] = KIND_P256,
    [HSM_KEY_AGENT_SVID] = KIND_P256,
};

const struct hsm_demand hsm_demands[HSM_DEMANDS] = {
    {CKA_TOKEN, "CKA_TOKEN", true},
    {CKA_PRIVATE, "CKA_PRIVATE", true},
    {CKA_SENSITIVE, "CKA_SENSITIVE", true},
    {CKA_ALWAYS_SENSITIVE, "CKA_ALWAYS_SENSITIVE", true},
    {CKA_NEVER_EXTRACTABLE, "CKA_NEVER_EXTRACTABLE", true},
    {CKA_LOCAL, "CKA_LOCAL", true},
    {CKA_SIGN, "CKA_SIGN", true},
    {CKA_EXTRACTABLE, "CKA_EXTRACTABLE", false},
    {CKA_DECRYPT, "CKA_DECRYPT", false},
    {CKA_UNWRAP, "CKA_UNWRAP", false},
    {CKA_DERIVE, "CKA_DERIVE", false},
};

int hsm_find(struct hsm *h, struct hsm_session *s, CK_OBJECT_CLASS class, enum hsm_key_role role,
             struct bytes id, CK_OBJECT_HANDLE *out, unsigned *n, struct err *e)
{
    CK_FUNCTION_LIST *f = h->module.f;
    const char *label = hsm_key_label[role];
    CK_ATTRIBUTE t[3] = {hsm_attr(CKA_CLASS, &class, sizeof(class)),
                         hsm_attr(CKA_LABEL, label, strlen(label)), hsm_attr(CKA_ID, id.p, id.len)};
    CK_OBJECT_HANDLE found[2];
    CK_ULONG count = 0;
    hsm_slow_begin(h, "C_FindObjects");
    CK_RV rv = f->C_FindObjectsInit(s->handle, t, id.len > 0 ? 3 : 2);
    if (rv == CKR_OK) {
        /* A module may answer fewer than asked for while there are more; only 0 ends the search. */
        CK_ULONG got = 1;
        while (rv == CKR_OK && got > 0 && count < 2) {
            got = 0;
            rv = f->C_FindObjects(s->handle, found + count, 2 - count, &got);
            count += rv == CKR_OK && got <= 2 - count ? got : 0;
        }
        CK_RV end = f->C_FindObjectsFinal(s->handle);
        rv = rv == CKR_OK ? end : rv;
    }
    hsm_slow_end(h);
    if (rv != CKR_OK) {
        hsm_fail(e, "hsm-find", rv, "searching the token");
        return err_wrap(e, "key %s", label);
    }
    *n = (unsigned)count;
    if (count > 0)
        *out = found[0];
    return 0;
}

/* Reads one attribute into dst (cap bytes). *len is its length, or -1 when the object lacks it. */
static int attribute_read(struct hsm *h, struct hsm_session *s, CK_OBJECT_HANDLE o,
                          CK_ATTRIBUTE_TYPE type, void *dst, size_t cap, long *len, struct err *e)
{
    CK_ATTRIBUTE a = {.type = type, .pValue = dst, .ulValueLen = cap};
    hsm_slow_begin(h, "C_GetAttributeValue");
    CK_RV rv = h->module.f->C_GetAttributeValue(s->handle, o, &a, 1);
    hsm_slow_end(h);
    *len = -1;
    if (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_SENSITIVE)
        return 0;
    if (rv == CKR_BUFFER_TOO_SMALL)
        return err_set(e, ERR_HSM, "hsm-key-type", "attribute 0x%lx is longer than %zu bytes", type, cap);
    if (rv != CKR_OK)
        return hsm_fail(e, "hsm-find", rv, "reading a key's attributes");
    if (a.ulValueLen <= cap)
        *len = (long)a.ulValueLen;
    return 0;
}

int hsm_flag_read(struct hsm *h, struct hsm_session *s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_TYPE type,
                  enum hsm_flag *out, struct err *e)
{
    CK_BBOOL v = CK_FALSE;
    long len;
    if (attribute_read(h, s, o, type, &v, sizeof(v), &len, e))
        return -1;
    *out = len != sizeof(v) ? HSM_FLAG_ABSENT : v ? HSM_FLAG_TRUE : HSM_FLAG_FALSE;
    return 0;
}

static int demands_check(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                         CK_OBJECT_HANDLE o, struct err *e)
{
    static const char *const is[] = {"is false", "is true", "is absent"};
    for (size_t i = 0; i < HSM_DEMANDS; i++) {
        const struct hsm_demand *d = &hsm_demands[i];
        enum hsm_flag v;
        if (hsm_flag_read(h, s, o, d->type, &v, e))
            return err_wrap(e, "key %s", hsm_key_label[role]);
        if (v != (d->value ? HSM_FLAG_TRUE : HSM_FLAG_FALSE))
            return err_set(e, ERR_HSM, "hsm-attribute",
                           "key %s is refused: %s %s and must be %s. Such a key cannot be mended; "
                           "generate a new one in the token",
                           hsm_key_label[role], d->name, is[v], d->value ? "true" : "false");
    }
    return 0;
}

int hsm_key_type_check(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                       CK_OBJECT_HANDLE o, struct err *e)
{
    const struct hsm_kind *k = &hsm_kinds[role];
    CK_KEY_TYPE type = 0;
    uint8_t params[64];
    long type_len, params_len;
    if (attribute_read(h, s, o, CKA_KEY_TYPE, &type, sizeof(type), &type_len, e) ||
        attribute_read(h, s, o, CKA_EC_PARAMS, params, sizeof(params), &params_len, e))
        return err_wrap(e, "key %s", hsm_key_label[role]);
    if (type_len != sizeof(type) || type != k->type)
        return err_set(e, ERR_HSM, "hsm-key-type",
                       "key %s is refused: CKA_KEY_TYPE is 0x%lx where a %s key (0x%lx) is due",
                       hsm_key_label[role], type, k->curve, k->type);
    struct bytes have = {params, params_len > 0 ? (size_t)params_len : 0};
    if (!bytes_eq(have, k->params, k->params_len) &&
        !(k->params_alt && bytes_eq(have, k->params_alt, k->params_alt_len)))
        return err_set(e, ERR_HSM, "hsm-key-type",
                       "key %s is refused: CKA_EC_PARAMS names another curve than %s",
                       hsm_key_label[role], k->curve);
    return 0;
}

/* CKA_EC_POINT is an OCTET STRING around the point (PKCS#11 v3.0 §2.3.3); some modules give the
 * bare point. The lengths tell the two apart. */
static int point_take(const struct hsm_kind *k, const uint8_t *p, size_t len, struct hsm_key *key)
{
    if (len == k->point + 2 && p[0] == DER_OCTET_STRING && p[1] == k->point)
        p += 2;
    else if (len != k->point)
        return -1;
    if (k->type == CKK_EC && p[0] != 0x04)
        return -1;
    memcpy(key->point, p, k->point);
    key->point_len = k->point;
    return 0;
}

/* RFC 5480 §2 and RFC 8410 §4. */
static int spki_build(const struct hsm_kind *k, struct hsm_key *key, struct err *e)
{
    uint8_t room[HSM_SPKI_MAX];
    struct derw w;
    derw_init(&w, room, sizeof(room));
    derw_raw(&w, key->point, key->point_len);
    derw_raw(&w, "", 1); /* no unused bits */
    derw_wrap(&w, DER_BIT_STRING, 0);
    size_t algorithm = derw_mark(&w);
    derw_raw(&w, k->params, k->params_len);
    if (k->type == CKK_EC)
        derw_oid(&w, OID_EC_PUBLIC_KEY, OID_LEN(OID_EC_PUBLIC_KEY));
    derw_wrap(&w, DER_SEQUENCE, algorithm);
    derw_wrap(&w, DER_SEQUENCE, 0);
    struct bytes der = derw_bytes(&w);
    if (w.failed)
        return err_set(e, ERR_INTERNAL, "hsm-spki", "a public key did not fit");
    memcpy(key->spki, der.p, der.len);
    key->spki_len = der.len;
    return 0;
}

int hsm_key_public_half(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                        struct hsm_key *k, struct err *e)
{
    uint8_t id[64], point[HSM_POINT_MAX + 8];
    long id_len, point_len;
    unsigned n = 0;
    if (attribute_read(h, s, k->private, CKA_ID, id, sizeof(id), &id_len, e))
        return err_wrap(e, "key %s", hsm_key_label[role]);
    struct bytes same_id = {id, id_len > 0 ? (size_t)id_len : 0};
    if (hsm_find(h, s, CKO_PUBLIC_KEY, role, same_id, &k->public, &n, e))
        return -1;
    if (n == 0)
        return err_set(e, ERR_NOT_FOUND, "hsm-key-missing",
                       "the public half of key %s (same CKA_LABEL and CKA_ID) is not in the token",
                       hsm_key_label[role]);
    if (n > 1)
        return err_set(e, ERR_HSM, "hsm-key-duplicate",
                       "more than one public key is labelled %s; remove the one that is not ours",
                       hsm_key_label[role]);
    if (hsm_key_type_check(h, s, role, k->public, e))
        return err_wrap(e, "public half");
    if (attribute_read(h, s, k->public, CKA_EC_POINT, point, sizeof(point), &point_len, e))
        return err_wrap(e, "key %s", hsm_key_label[role]);
    if (point_len < 0 || point_take(&hsm_kinds[role], point, (size_t)point_len, k))
        return err_set(e, ERR_HSM, "hsm-key-type",
                       "key %s is refused: CKA_EC_POINT of its public half is not an uncompressed %s "
                       "point",
                       hsm_key_label[role], hsm_kinds[role].curve);
    return spki_build(&hsm_kinds[role], k, e);
}

int hsm_key_self_test(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                      const struct hsm_key *k, struct err *e)
{
    const struct hsm_kind *kind = &hsm_kinds[role];
    uint8_t msg[32], digest[EVP_MAX_MD_SIZE], sig[HSM_SIG_MAX];
    struct bytes in = {msg, sizeof(msg)};
    if (RAND_bytes(msg, sizeof(msg)) != 1)
        return err_set(e, ERR_INTERNAL, "random", "no random bytes for the keys' self-test");
    if (kind->input != 0) {
        const EVP_MD *md = kind->input == 48 ? EVP_sha384() : EVP_sha256();
        if (EVP_Digest(msg, sizeof(msg), digest, NULL, md, NULL) != 1)
            return err_set(e, ERR_INTERNAL, "memory", "out of memory hashing");
        in = (struct bytes){digest, kind->input};
    }
    /* Also checks that the point is on its curve. */
    struct key *pub = key_from_spki(k->spki, k->spki_len, e);
    if (!pub) {
        /* Outside code would read ERR_BAD_KEY as the fault of whoever asks for a certificate. */
        char why[sizeof(e->msg)];
        memcpy(why, e->msg, sizeof(why));
        return err_set(e, ERR_HSM, "hsm-key-type", "key %s: its public half is no valid key: %.300s",
                       hsm_key_label[role], why);
    }
    int rc = hsm_sign_with(h, s, role, k, in, sig, e);
    if (rc == 0 && key_verify(pub, false, sig, kind->sig, msg, sizeof(msg), e) != 0)
        rc = err_set(e, ERR_HSM, "hsm-key-self-test",
                     "key %s signed, and its public half does not verify that: the two do not belong "
                     "together, or the token is broken",
                     hsm_key_label[role]);
    key_free(pub);
    return rc;
}

static int key_load(struct hsm *h, struct hsm_session *s, enum hsm_key_role role, struct hsm_key *k,
                    struct err *e)
{
    /* 1. One private key of that name. */
    unsigned n = 0;
    if (hsm_find(h, s, CKO_PRIVATE_KEY, role, (struct bytes){NULL, 0}, &k->private, &n, e))
        return -1;
    if (n == 0)
        return err_set(e, ERR_NOT_FOUND, "hsm-key-missing",
                       "key %s is not in token %.100s; %s what is missing", hsm_key_label[role], h->name,
                       maker[role]);
    if (n > 1)
        return err_set(e, ERR_HSM, "hsm-key-duplicate",
                       "more than one private key is labelled %s in token %.100s; remove the one that is "
                       "not ours",
                       hsm_key_label[role], h->name);
    /* 2. Held as demanded, 3. of the right kind, 4. with its public half, 5. which verifies it. */
    if (demands_check(h, s, role, k->private, e) || hsm_key_type_check(h, s, role, k->private, e) ||
        hsm_key_public_half(h, s, role, k, e) || hsm_key_self_test(h, s, role, k, e))
        return -1;
    k->loaded = true;
    return 0;
}

int hsm_load_keys(struct hsm *h, unsigned need, struct err *e)
{
    struct hsm_session *s = hsm_pool_take(h, e);
    if (!s)
        return -1;
    int rc = 0;
    for (unsigned role = 0; role < HSM_KEYS && rc == 0; role++) {
        struct hsm_key k = {0};
        if (!(need & 1u << role))
            continue;
        rc = key_load(h, s, (enum hsm_key_role)role, &k, e);
        if (rc == 0)
            h->keys[role] = k;
    }
    hsm_pool_give(h, s);
    return rc;
}

struct bytes hsm_public(const struct hsm *h, enum hsm_key_role role)
{
    return (struct bytes){h->keys[role].point, h->keys[role].point_len};
}

struct bytes hsm_spki(const struct hsm *h, enum hsm_key_role role)
{
    return (struct bytes){h->keys[role].spki, h->keys[role].spki_len};
}
