#include "base/jose.h"
#include <stdlib.h>
#include <string.h>

#define JWS_HEADER_MAX 8192 /* bytes of a decoded protected header; a 4096-bit RSA jwk takes 1 kB */

static const struct alg {
    char name[8];
    enum key_type type;
} algs[] = {
    {"ES256", KEY_P256},
    {"ES384", KEY_P384},
    {"RS256", KEY_RSA},
    {"EdDSA", KEY_ED25519},
};

static const struct alg *alg_by_name(const char *name)
{
    for (size_t i = 0; i < sizeof algs / sizeof algs[0]; i++)
        if (strcmp(algs[i].name, name) == 0)
            return &algs[i];
    return NULL;
}

const char *jws_alg(const struct key *k)
{
    for (size_t i = 0; i < sizeof algs / sizeof algs[0]; i++)
        if (algs[i].type == key_kind(k))
            return algs[i].name;
    return ""; /* not reached: every type stands in the table */
}

/* ---- JWS in (RFC 7515 §7.2.2, RFC 8555 §6.2) ---- */

static int own_str(char **dst, const json_t *v, struct err *e)
{
    size_t n = json_string_length(v);
    *dst = malloc(n + 1);
    if (!*dst)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a JWS header");
    memcpy(*dst, json_string_value(v), n + 1);
    return 0;
}

static int read_nonce(struct jws *j, const json_t *nonce, struct err *e)
{
    if (!nonce)
        return 0;
    const char *s = json_string_value(nonce);
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if (!s || !*s || s[strspn(s, set)])
        return err_set(e, ERR_MALFORMED, "jws-header",
                       "JWS \"nonce\" is not base64url (RFC 8555 §6.5.2)");
    return own_str(&j->nonce, nonce, e);
}

/* RFC 8555 §6.2: exactly one of jwk and kid. */
static int read_key(struct jws *j, const json_t *jwk, const json_t *kid, struct err *e)
{
    if (!jwk == !kid)
        return err_set(e, ERR_MALFORMED, "jws-key",
                       "JWS header must hold either \"jwk\" or \"kid\", and has %s (RFC 8555 §6.2)",
                       jwk ? "both" : "neither");
    if (kid) {
        if (json_string_length(kid) == 0)
            return err_set(e, ERR_MALFORMED, "jws-key", "JWS \"kid\" is not a string, or empty");
        return own_str(&j->kid, kid, e);
    }
    j->jwk = jwk_parse(jwk, e);
    return j->jwk ? jwk_thumbprint(j->thumbprint, j->jwk, e) : -1;
}

static int read_header(struct jws *j, const json_t *h, struct err *e)
{
    if (!json_is_object(h))
        return err_set(e, ERR_MALFORMED, "jws-header", "JWS protected header is not an object");
    const char *alg = json_want_str(h, "alg", e);
    if (!alg)
        return err_wrap(e, "JWS protected header");
    if (!alg_by_name(alg))
        return err_set(e, ERR_BAD_SIG_ALG, "jws-alg",
                       "JWS algorithm \"%.16s\" is not accepted; use ES256, ES384, EdDSA or RS256", alg);
    memcpy(j->alg, alg_by_name(alg)->name, sizeof j->alg);
    if (json_object_get(h, "crit") || json_object_get(h, "b64"))
        return err_set(e, ERR_MALFORMED, "jws-crit",
                       "JWS asks for an extension (\"crit\" or \"b64\"); none is known here (RFC 7515 §4.1.11)");
    const json_t *url = json_object_get(h, "url");
    if (json_string_length(url) == 0)
        return err_set(e, ERR_MALFORMED, "jws-header",
                       "JWS \"url\" is missing, empty or not a string (RFC 8555 §6.4)");
    if (own_str(&j->url, url, e) < 0 || read_nonce(j, json_object_get(h, "nonce"), e) < 0)
        return -1;
    return read_key(j, json_object_get(h, "jwk"), json_object_get(h, "kid"), e);
}

static int read_protected(struct jws *j, const json_t *v, struct err *e)
{
    uint8_t text[JWS_HEADER_MAX];
    long n = b64url_decode(text, sizeof text, json_string_value(v), json_string_length(v));
    if (n <= 0)
        return err_set(e, ERR_MALFORMED, "jws-syntax",
                       "JWS \"protected\" is empty, not base64url, or over %d bytes", JWS_HEADER_MAX);
    json_t *h = json_parse(text, (size_t)n, sizeof text, e);
    if (!h)
        return err_wrap(e, "JWS protected header");
    int rc = read_header(j, h, e);
    json_decref(h);
    return rc;
}

static int read_payload(struct jws *j, const json_t *v, struct err *e)
{
    size_t len = json_string_length(v), room = len / 4 * 3 + 3;
    j->payload_empty = len == 0;
    j->payload.max = JWS_MAX;
    if (len == 0)
        return 0;
    j->payload.p = malloc(room);
    if (!j->payload.p)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a JWS payload");
    j->payload.cap = room;
    long n = b64url_decode(j->payload.p, room, json_string_value(v), len);
    if (n < 0)
        return err_set(e, ERR_MALFORMED, "jws-syntax", "JWS \"payload\" is not base64url");
    j->payload.len = (size_t)n;
    return 0;
}

static int keep_signing_input(struct jws *j, const json_t *prot, const json_t *payload, struct err *e)
{
    size_t a = json_string_length(prot), b = json_string_length(payload);
    j->signing_input = malloc(a + 1 + b + 1);
    if (!j->signing_input)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a JWS");
    memcpy(j->signing_input, json_string_value(prot), a);
    j->signing_input[a] = '.';
    memcpy(j->signing_input + a + 1, json_string_value(payload), b + 1);
    j->signing_len = a + 1 + b;
    return 0;
}

static int read_flattened(struct jws *j, const json_t *o, struct err *e)
{
    if (!json_is_object(o) || json_object_get(o, "signatures"))
        return err_set(e, ERR_MALFORMED, "jws-syntax",
                       "JWS must be in flattened JSON serialization (RFC 8555 §6.2)");
    if (json_object_get(o, "header"))
        return err_set(e, ERR_MALFORMED, "jws-header", "JWS has an unprotected header (RFC 8555 §6.2)");
    const json_t *prot = json_object_get(o, "protected"), *payload = json_object_get(o, "payload"),
                 *sig = json_object_get(o, "signature");
    if (!json_is_string(prot) || !json_is_string(payload) || !json_is_string(sig))
        return err_set(e, ERR_MALFORMED, "jws-syntax",
                       "JWS needs \"protected\", \"payload\" and \"signature\" as strings (RFC 7515 §7.2.2)");
    long n = b64url_decode(j->sig, sizeof j->sig, json_string_value(sig), json_string_length(sig));
    /* An empty signature is what "alg": "none" looks like; let the header say so first. */
    if (n < 0)
        return err_set(e, ERR_MALFORMED, "jws-syntax", "JWS \"signature\" is not base64url, or over %zu bytes",
                       sizeof j->sig);
    j->sig_len = (size_t)n;
    if (read_protected(j, prot, e) < 0)
        return -1;
    if (n == 0)
        return err_set(e, ERR_MALFORMED, "jws-syntax", "JWS \"signature\" is empty");
    if (read_payload(j, payload, e) < 0)
        return -1;
    return keep_signing_input(j, prot, payload, e);
}

int jws_parse(struct jws *j, const char *body, size_t len, struct err *e)
{
    memset(j, 0, sizeof *j);
    json_t *o = json_parse(body, len, JWS_MAX, e);
    if (!o)
        return -1;
    int rc = read_flattened(j, o, e);
    json_decref(o);
    if (rc < 0)
        jws_free(j);
    return rc;
}

int jws_verify(const struct jws *j, const struct key *k, struct err *e)
{
    const char *want = jws_alg(k);
    if (strcmp(want, j->alg) != 0)
        return err_set(e, ERR_BAD_SIG_ALG, "jws-alg", "JWS algorithm %s does not fit its key, which asks for %s",
                       j->alg, want);
    return key_verify(k, false, j->sig, j->sig_len, j->signing_input, j->signing_len, e);
}

void jws_free(struct jws *j)
{
    free(j->kid);
    free(j->url);
    free(j->nonce);
    key_free(j->jwk);
    buf_free(&j->payload);
    free(j->signing_input);
    memset(j, 0, sizeof *j);
}

/* ---- JWS out ---- */

static int write_header(struct buf *h, const struct key *k, const char *kid, const char *nonce,
                        const char *url, struct err *e)
{
    buf_fmt(h, "{\"alg\":\"%s\",", jws_alg(k));
    if (kid) {
        buf_str(h, "\"kid\":");
        jw_str(h, kid);
    } else {
        buf_str(h, "\"jwk\":");
        if (jwk_write(h, k, e) < 0)
            return -1;
    }
    if (nonce) {
        buf_str(h, ",\"nonce\":");
        jw_str(h, nonce);
    }
    buf_str(h, ",\"url\":");
    jw_str(h, url);
    buf_u8(h, '}');
    return h->failed ? err_set(e, ERR_TOO_LARGE, "jws-header", "JWS header over %d bytes", JWS_HEADER_MAX) : 0;
}

int jws_sign(struct buf *out, const struct key *k, const char *kid, const char *nonce,
             const char *url, const char *payload, size_t payload_len, struct err *e)
{
    uint8_t sig[512];
    struct buf header, input;
    long n = -1;
    buf_init(&header, JWS_HEADER_MAX);
    buf_init(&input, JWS_MAX);
    if (write_header(&header, k, kid, nonce, url, e) == 0) {
        buf_b64url(&input, header.p, header.len);
        size_t dot = input.len;
        buf_u8(&input, '.');
        if (payload)
            buf_b64url(&input, payload, payload_len);
        if (input.failed)
            err_set(e, ERR_TOO_LARGE, "jws-size", "JWS over %d bytes", JWS_MAX);
        else
            n = key_sign(k, false, sig, sizeof sig, input.p, input.len, e);
        if (n >= 0) {
            buf_str(out, "{\"protected\":\"");
            buf_put(out, input.p, dot);
            buf_str(out, "\",\"payload\":\"");
            buf_put(out, input.p + dot + 1, input.len - dot - 1);
            buf_str(out, "\",\"signature\":\"");
            buf_b64url(out, sig, (size_t)n);
            buf_str(out, "\"}");
        }
    }
    buf_free(&header);
    buf_free(&input);
    if (n >= 0 && out->failed)
        return err_set(e, ERR_TOO_LARGE, "jws-size", "no room for the JWS");
    return n < 0 ? -1 : 0;
}
