#include "base/key_spki.h"
#include "base/der.h"
#include "base/oid.h"
#include <string.h>

/* RFC 5280 §4.1, RFC 5480 (EC), RFC 8017 A.1.1 (RSA), RFC 8410 (Ed25519). */

#define ED25519_LEN 32
#define OID_IS(b, oid) bytes_eq(b, oid, OID_LEN(oid))

static int refuse_type(struct err *e)
{
    return err_set(e, ERR_BAD_KEY, "key-type",
                   "key type not accepted; use EC P-256 or P-384, Ed25519, or RSA");
}

static int read_ec(struct spki *s, struct cur *alg, struct bytes bits, struct err *e)
{
    struct bytes curve;
    if (der_get(alg, DER_OID, &curve) < 0 || !cur_done(alg))
        return err_set(e, ERR_BAD_KEY, "key-type", "EC key without a named curve (RFC 5480 §2.1.1)");
    size_t width;
    if (OID_IS(curve, OID_P256)) {
        s->type = KEY_P256;
        width = 32;
    } else if (OID_IS(curve, OID_P384)) {
        s->type = KEY_P384;
        width = 48;
    } else {
        return refuse_type(e);
    }
    if (bits.len != 1 + 2 * width || bits.p[0] != 0x04)
        return err_set(e, ERR_BAD_KEY, "key-point", "EC point is not in uncompressed form");
    s->point = bits;
    return 0;
}

/* Keys of a flawed generator (CVE-2017-15361, "ROCA": many TPMs and smart cards) factor cheaply.
 * Their modulus is a power of 65537 modulo every small prime; of other keys, one in 2^27 is. */
static bool rsa_roca(struct bytes n)
{
    static const unsigned char primes[] = {
        3,  5,  7,  11, 13, 17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67,  71,
        73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167};
    for (size_t i = 0; i < sizeof primes; i++) {
        unsigned p = primes[i], rest = 0, power = 1;
        for (size_t k = 0; k < n.len; k++)
            rest = (rest * 256 + n.p[k]) % p;
        do
            power = power * (65537 % p) % p;
        while (power != rest && power != 1);
        if (power != rest)
            return false;
    }
    return true;
}

static int read_rsa(struct spki *s, struct cur *alg, struct bytes bits, struct err *e)
{
    struct bytes null;
    struct cur c = cur_of(bits.p, bits.len), in;
    if (der_get(alg, DER_NULL, &null) < 0 || null.len != 0 || !cur_done(alg) ||
        der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) || der_uint(&in, &s->n) < 0 ||
        der_uint(&in, &s->e) < 0 || !cur_done(&in))
        return err_set(e, ERR_BAD_KEY, "key-type", "RSA key is not valid DER (RFC 8017 A.1.1)");
    s->type = KEY_RSA;
    size_t bit_count = s->n.len * 8;
    for (unsigned bit = 0x80; s->n.len && bit && !(s->n.p[0] & bit); bit >>= 1)
        bit_count--;
    if (bit_count < RSA_MIN_BITS || bit_count > RSA_MAX_BITS)
        return err_set(e, ERR_BAD_KEY, "key-size", "RSA key of %zu bits; %d to %d are accepted",
                       bit_count, RSA_MIN_BITS, RSA_MAX_BITS);
    uint64_t exponent = 0;
    for (size_t i = 0; i < s->e.len && i < 8; i++)
        exponent = exponent << 8 | s->e.p[i];
    if (s->e.len > 5 || exponent < 65537 || exponent > 1ULL << 32 || exponent % 2 == 0)
        return err_set(e, ERR_BAD_KEY, "key-size",
                       "RSA public exponent must be odd, from 65537 to 2^32");
    if (s->n.p[s->n.len - 1] % 2 == 0)
        return err_set(e, ERR_BAD_KEY, "key-size", "RSA modulus is even");
    if (rsa_roca(s->n))
        return err_set(e, ERR_BAD_KEY, "key-weak",
                       "RSA key comes from a flawed generator (CVE-2017-15361): make another, elsewhere");
    return 0;
}

/* Points of small order verify signatures that nobody made, and a y of p or more is a second name
 * for another point: refused both. The sign bit does not matter to either. */
static bool ed25519_weak(const uint8_t *k)
{
    static const uint8_t small[][ED25519_LEN] = {
        {0},
        {1},
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
         0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
         0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
        {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    };
    uint8_t y[ED25519_LEN];
    memcpy(y, k, sizeof y);
    y[31] &= 0x7f;
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        if (memcmp(y, small[i], sizeof y) == 0)
            return true;
    bool high = y[31] == 0x7f && y[0] >= 0xed;
    for (size_t i = 1; i < 31; i++)
        high = high && y[i] == 0xff;
    return high;
}

static int read_ed25519(struct spki *s, struct cur *alg, struct bytes bits, struct err *e)
{
    if (!cur_done(alg))
        return err_set(e, ERR_BAD_KEY, "key-type", "Ed25519 key with parameters (RFC 8410 §3)");
    if (bits.len != ED25519_LEN || ed25519_weak(bits.p))
        return err_set(e, ERR_BAD_KEY, "key-point", "not an Ed25519 point, or one of small order");
    s->type = KEY_ED25519;
    s->point = bits;
    return 0;
}

static int refuse_form(struct err *e)
{
    return err_set(e, ERR_BAD_KEY, "key-type",
                   "public key is not a DER SubjectPublicKeyInfo (RFC 5280 §4.1)");
}

int spki_read(struct spki *s, const uint8_t *der, size_t len, struct err *e)
{
    struct cur c = cur_of(der, len), in, alg;
    struct bytes oid, body;
    uint8_t tag;
    memset(s, 0, sizeof *s);
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) ||
        der_any(&in, &tag, &body, &s->algorithm) < 0 || tag != DER_SEQUENCE ||
        der_bits(&in, &s->bits) < 0 || !cur_done(&in))
        return refuse_form(e);
    alg = cur_of(body.p, body.len);
    if (der_get(&alg, DER_OID, &oid) < 0)
        return refuse_form(e);
    if (OID_IS(oid, OID_EC_PUBLIC_KEY))
        return read_ec(s, &alg, s->bits, e);
    if (OID_IS(oid, OID_RSA))
        return read_rsa(s, &alg, s->bits, e);
    if (OID_IS(oid, OID_ED25519))
        return read_ed25519(s, &alg, s->bits, e);
    return refuse_type(e);
}
