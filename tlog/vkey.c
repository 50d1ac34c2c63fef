/* Verifier keys of signed notes (C2SP signed-note): name+hex8(keyID)+base64(type ‖ public key).
 * Type 01, Ed25519, is what a log that meets public witnesses must sign with; type 04 are witnesses
 * (C2SP tlog-cosignature), Ed25519 too. */
#include "tlog/checkpoint.h"
#include "tlog/internal.h"
#include <string.h>

/* Encodings of the points of small order, the sign bit left out, the two non-canonical ones at the
 * end. Under such a key a signature can be made that fits every message, by anybody. */
static const uint8_t small_order[][32] = {
    {0},
    {1},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
     0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
     0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};

static bool small_order_is(const uint8_t pub[32])
{
    for (size_t i = 0; i < sizeof small_order / sizeof small_order[0]; i++)
        if (memcmp(pub, small_order[i], 31) == 0 && (pub[31] & 0x7f) == small_order[i][31])
            return true;
    return false;
}

/* signed-note: not empty, no white space, no plus. We ask for printable ASCII besides, so that a
 * name reads the same everywhere. */
static bool name_ok(const char *name, size_t len)
{
    if (len == 0 || len > TLOG_ORIGIN_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (name[i] <= 0x20 || name[i] >= 0x7f || name[i] == '+')
            return false;
    return true;
}

static void key_id(struct tlog_vkey *k)
{
    uint8_t text[TLOG_ORIGIN_MAX + 2 + 32], hash[TLOG_HASH];
    size_t n = strlen(k->name);
    memcpy(text, k->name, n);
    text[n++] = '\n';
    text[n++] = (uint8_t)k->type;
    memcpy(text + n, k->pub, 32);
    tlog_sha256(hash, text, n + 32);
    memcpy(k->id, hash, 4);
}

static int vkey_fill(struct tlog_vkey *k, enum tlog_key_type type, const char *name, size_t len,
                     const uint8_t pub[32], struct err *e)
{
    memset(k, 0, sizeof *k);
    if (!name_ok(name, len))
        return err_set(e, ERR_MALFORMED, "vkey-format",
                       "the name of a verifier key must be 1 to %d printable ASCII characters without space or '+' "
                       "(C2SP signed-note)",
                       TLOG_ORIGIN_MAX);
    memcpy(k->name, name, len);
    memcpy(k->pub, pub, 32);
    k->type = type;
    if (small_order_is(pub))
        return err_set(e, ERR_BAD_KEY, "vkey-format",
                       "the verifier key of %s is a point of small order, under which anybody can "
                       "sign: it is nobody's key",
                       k->name);
    key_id(k);
    k->evp = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, 32);
    if (!k->evp)
        return err_set(e, ERR_BAD_KEY, "vkey-format", "verifier key of %s is no Ed25519 public key",
                       k->name);
    return 0;
}

int tlog_vkey_make(struct tlog_vkey *k, const char *name, const uint8_t pub[32], struct err *e)
{
    return vkey_fill(k, TLOG_KEY_LOG, name, strlen(name), pub, e);
}

int tlog_vkey_make_witness(struct tlog_vkey *k, const char *name, const uint8_t pub[32],
                           struct err *e)
{
    return vkey_fill(k, TLOG_KEY_WITNESS, name, strlen(name), pub, e);
}

static int type_refused(uint8_t found, enum tlog_key_type wanted, struct err *e)
{
    if (wanted == TLOG_KEY_LOG)
        return err_set(e, ERR_BAD_KEY, "vkey-format",
                       "verifier key type %u is not supported: the log signs with Ed25519 (type 1)",
                       found);
    return err_set(e, ERR_BAD_KEY, "vkey-format",
                   "verifier key type %u is no witness's: a cosignature is by a key of type 4 "
                   "(C2SP tlog-cosignature)",
                   found);
}

static int vkey_read(struct tlog_vkey *k, enum tlog_key_type type, const char *s, size_t len,
                     struct err *e)
{
    uint8_t id[4], key[33];
    memset(k, 0, sizeof *k);
    const char *plus = len ? memchr(s, '+', len) : NULL;
    size_t name = plus ? (size_t)(plus - s) : 0;
    /* '+' 8 hex digits '+' 44 characters: 33 bytes need no padding */
    if (!plus || len - name != 1 + 8 + 1 + 44 || s[name + 9] != '+' ||
        hex_decode(id, sizeof id, s + name + 1, 8) != 4 ||
        b64_decode(key, sizeof key, s + name + 10, 44) != 33)
        return err_set(e, ERR_MALFORMED, "vkey-format",
                       "a verifier key reads name+8 hex digits+base64 of 33 bytes (C2SP "
                       "signed-note); check that it was copied whole");
    if (key[0] != type)
        return type_refused(key[0], type, e);
    if (vkey_fill(k, type, s, name, key + 1, e) < 0)
        return -1;
    if (memcmp(id, k->id, 4) != 0) {
        tlog_vkey_free(k);
        return err_set(e, ERR_MALFORMED, "vkey-format",
                       "the verifier key's ID is not the hash of its name and key: it was altered "
                       "or mistyped");
    }
    return 0;
}

int tlog_vkey_parse(struct tlog_vkey *k, const char *s, size_t len, struct err *e)
{
    return vkey_read(k, TLOG_KEY_LOG, s, len, e);
}

int tlog_vkey_parse_witness(struct tlog_vkey *k, const char *s, size_t len, struct err *e)
{
    return vkey_read(k, TLOG_KEY_WITNESS, s, len, e);
}

bool tlog_vkey_verify(const struct tlog_vkey *k, const uint8_t sig[64], const void *msg,
                      size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, k->evp) == 1 &&
              EVP_DigestVerify(ctx, sig, 64, msg, len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

void tlog_vkey_write(const struct tlog_vkey *k, struct buf *out)
{
    uint8_t key[33] = {(uint8_t)k->type};
    memcpy(key + 1, k->pub, 32);
    buf_str(out, k->name);
    buf_str(out, "+");
    buf_hex(out, k->id, 4);
    buf_str(out, "+");
    buf_b64(out, key, sizeof key);
}

void tlog_vkey_free(struct tlog_vkey *k)
{
    EVP_PKEY_free(k->evp);
    memset(k, 0, sizeof *k);
}
