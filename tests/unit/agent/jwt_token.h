/* JWTs made by OpenSSL itself, for what judges them. */
#ifndef UNIT_AGENT_JWT_TOKEN_H
#define UNIT_AGENT_JWT_TOKEN_H
#include "base/bytes.h"
#include "base/der.h"
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

static inline void jwt_b64_bn(struct buf *b, const EVP_PKEY *k, const char *name, int width)
{
    uint8_t raw[512];
    BIGNUM *n = NULL;
    assert_int_equal(EVP_PKEY_get_bn_param(k, name, &n), 1);
    int len = width ? width : BN_num_bytes(n);
    assert_int_equal(BN_bn2binpad(n, raw, len), len);
    buf_b64url(b, raw, (size_t)len);
    BN_free(n);
}

/* A member of "keys". */
static inline void jwt_ec_key(struct buf *b, const EVP_PKEY *k, const char *kid, const char *curve, int width)
{
    buf_fmt(b, "{\"use\":\"jwt-svid\",\"kty\":\"EC\",\"kid\":\"%s\",\"crv\":\"%s\",\"x\":\"", kid, curve);
    jwt_b64_bn(b, k, OSSL_PKEY_PARAM_EC_PUB_X, width);
    buf_str(b, "\",\"y\":\"");
    jwt_b64_bn(b, k, OSSL_PKEY_PARAM_EC_PUB_Y, width);
    buf_str(b, "\"}");
}

static inline void jwt_sign(struct buf *out, EVP_PKEY *k, const char *alg, const char *header, const char *claims)
{
    uint8_t sig[600], rs[132];
    size_t n = sizeof sig;
    char md[8];
    EVP_PKEY_CTX *p;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    buf_init(out, 65536);
    buf_b64url(out, header, strlen(header));
    buf_str(out, ".");
    buf_b64url(out, claims, strlen(claims));
    snprintf(md, sizeof md, "SHA%s", alg + 2);
    assert_int_equal(EVP_DigestSignInit_ex(ctx, &p, md, NULL, NULL, k, NULL), 1);
    if (alg[0] == 'P') {
        EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(p, RSA_PSS_SALTLEN_DIGEST);
    }
    assert_int_equal(EVP_DigestSign(ctx, sig, &n, out->p, out->len), 1);
    EVP_MD_CTX_free(ctx);
    buf_str(out, ".");
    if (alg[0] != 'E') {
        buf_b64url(out, sig, n);
        return;
    }
    size_t width = (size_t)(EVP_PKEY_get_bits(k) + 7) / 8;
    assert_int_equal(der_ecdsa_to_rs(rs, width, sig, n), 0);
    buf_b64url(out, rs, 2 * width);
}

#endif
