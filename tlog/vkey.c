/* Verifier keys of signed notes (C2SP signed-note): name+hex8(keyID)+base64(type ‖ public key).
 * Only type 01, Ed25519: what a log that meets public witnesses must sign with. */
#include "tlog/checkpoint.h"
#include "tlog/internal.h"
#include <string.h>

#define VKEY_ED25519 1

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
    text[n++] = VKEY_ED25519;
    memcpy(text + n, k->pub, 32);
    tlog_sha256(hash, text, n + 32);
    memcpy(k->id, hash, 4);
}

static int vkey_fill(struct tlog_vkey *k, const char *name, size_t len, const uint8_t pub[32],
                     struct err *e)
{
    memset(k, 0, sizeof *k);
    if (!name_ok(name, len))
        return err_set(e, ERR_MALFORMED, "vkey-format",
                       "log name must be 1 to %d printable ASCII characters without space or '+' "
                       "(C2SP signed-note)",
                       TLOG_ORIGIN_MAX);
    memcpy(k->name, name, len);
    memcpy(k->pub, pub, 32);
    key_id(k);
    k->evp = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, 32);
    if (!k->evp)
        return err_set(e, ERR_BAD_KEY, "vkey-format", "verifier key of %s is no Ed25519 public key",
                       k->name);
    return 0;
}

int tlog_vkey_make(struct tlog_vkey *k, const char *name, const uint8_t pub[32], struct err *e)
{
    return vkey_fill(k, name, strlen(name), pub, e);
}

int tlog_vkey_parse(struct tlog_vkey *k, const char *s, size_t len, struct err *e)
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
    if (key[0] != VKEY_ED25519)
        return err_set(e, ERR_BAD_KEY, "vkey-format",
                       "verifier key type %u is not supported: the log signs with Ed25519 (type 1)",
                       key[0]);
    if (vkey_fill(k, s, name, key + 1, e) < 0)
        return -1;
    if (memcmp(id, k->id, 4) != 0) {
        tlog_vkey_free(k);
        return err_set(e, ERR_MALFORMED, "vkey-format",
                       "the verifier key's ID is not the hash of its name and key: it was altered "
                       "or mistyped");
    }
    return 0;
}

void tlog_vkey_write(const struct tlog_vkey *k, struct buf *out)
{
    uint8_t key[33] = {VKEY_ED25519};
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
