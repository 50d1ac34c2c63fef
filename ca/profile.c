#include "ca/profile.h"
#include "base/der.h"
#include "base/oid.h"
#include "base/spiffe.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define RESERVED_PATH "/mayfly"
#define SERVER_PATH "/mayfly/server"
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096
#define RSA_EXPONENT_MIN 65537u
#define RSA_EXPONENT_MAX (UINT64_C(1) << 32)

/* --- the key -------------------------------------------------------------------------------------
 * The form only: algorithm, curve, point length and format, modulus and exponent sizes. That the
 * point lies on its curve was checked when the frontend verified the CSR's signature; a frontend
 * that lies about it gets a certificate for a key that nobody can use. */

static int check_rsa(struct bytes bits, struct err *e)
{
    struct cur c = cur_of(bits.p, bits.len), in;
    struct bytes n;
    uint64_t exponent;
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) || der_uint(&in, &n) < 0 ||
        der_u64(&in, &exponent) < 0 || !cur_done(&in) || n.len == 0)
        return err_set(e, ERR_BAD_KEY, "key-type", "the RSA key is not RFC 8017's RSAPublicKey");
    size_t size = n.len * 8;
    for (uint8_t top = n.p[0]; !(top & 0x80) && size > 0; top = (uint8_t)(top << 1))
        size--;
    if (size < RSA_BITS_MIN || size > RSA_BITS_MAX || !(n.p[n.len - 1] & 1))
        return err_set(e, ERR_BAD_KEY, "key-size",
                       "RSA modulus of %zu bits; an odd one of %d to %d bits is accepted", size,
                       RSA_BITS_MIN, RSA_BITS_MAX);
    if (exponent < RSA_EXPONENT_MIN || exponent > RSA_EXPONENT_MAX || !(exponent & 1))
        return err_set(e, ERR_BAD_KEY, "key-size",
                       "RSA public exponent must be odd, from 65537 to 2^32");
    return 0;
}

static int check_ec(struct bytes curve, struct bytes bits, struct err *e)
{
    size_t width = bytes_eq(curve, OID_P256, OID_LEN(OID_P256))   ? 32
                   : bytes_eq(curve, OID_P384, OID_LEN(OID_P384)) ? 48
                                                                  : 0;
    if (width == 0)
        return err_set(e, ERR_BAD_KEY, "key-type", "the curve is neither P-256 nor P-384");
    if (bits.len != 1 + 2 * width || bits.p[0] != 0x04)
        return err_set(e, ERR_BAD_KEY, "key-point",
                       "the point is not an uncompressed one of its curve (SEC 1, section 2.3.3)");
    return 0;
}

static int check_spki(struct profile_leaf *leaf, struct bytes spki, struct err *e)
{
    struct cur c = cur_of(spki.p, spki.len), in, alg;
    struct bytes oid, param, body;
    uint8_t tag;
    leaf->spki = spki;
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) ||
        der_any(&in, &tag, &body, &leaf->spki_algorithm) < 0 || tag != DER_SEQUENCE ||
        der_bits(&in, &leaf->spki_bits) < 0 || !cur_done(&in))
        return err_set(e, ERR_BAD_KEY, "key-type",
                       "the key is not a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7)");
    alg = cur_of(body.p, body.len);
    der_get(&alg, DER_OID, &oid);
    if (bytes_eq(oid, OID_ED25519, OID_LEN(OID_ED25519)) && cur_done(&alg)) {
        if (leaf->spki_bits.len != 32)
            return err_set(e, ERR_BAD_KEY, "key-size", "an Ed25519 key has 32 bytes (RFC 8410)");
        return 0;
    }
    if (bytes_eq(oid, OID_EC_PUBLIC_KEY, OID_LEN(OID_EC_PUBLIC_KEY)) &&
        der_get(&alg, DER_OID, &param) == 0 && cur_done(&alg))
        return check_ec(param, leaf->spki_bits, e);
    if (bytes_eq(oid, OID_RSA, OID_LEN(OID_RSA)) && der_get(&alg, DER_NULL, &param) == 0 &&
        param.len == 0 && cur_done(&alg))
        return check_rsa(leaf->spki_bits, e);
    return err_set(e, ERR_BAD_KEY, "key-type",
                   "the key is none of P-256, P-384, RSA and Ed25519, or its parameters are wrong");
}

/* --- the names ----------------------------------------------------------------------------------- */

/* An address written where a DNS name belongs: "10.0.0.1", or anything whose last label is all
 * digits and so would be read as one. */
static bool looks_like_address(struct bytes name)
{
    size_t i = name.len;
    while (i > 0 && name.p[i - 1] != '.')
        i--;
    for (; i < name.len; i++)
        if (name.p[i] < '0' || name.p[i] > '9')
            return false;
    return true;
}

static bool is_within(struct bytes name, const char *zone)
{
    size_t n = strlen(zone);
    if (name.len == n)
        return memcmp(name.p, zone, n) == 0;
    return name.len > n && name.p[name.len - n - 1] == '.' &&
           memcmp(name.p + name.len - n, zone, n) == 0;
}

static int check_workload_dns(struct bytes name, const struct config *policy, struct err *e)
{
    if (dns_name_check((const char *)name.p, name.len, e) < 0)
        return -1;
    if (looks_like_address(name))
        return err_set(e, ERR_DENIED, "dns-name", "\"%.*s\" is an address; a workload has names only",
                       (int)name.len, (const char *)name.p);
    for (size_t i = 0; i < policy->ca.permitted_dns_count; i++)
        if (is_within(name, policy->ca.permitted_dns[i]))
            return 0;
    return err_set(e, ERR_DENIED, "dns-permitted",
                   "DNS name \"%.*s\" is outside ca.permitted_dns; add its domain there and reload",
                   (int)name.len, (const char *)name.p);
}

static int check_workload(struct profile_leaf *leaf, const struct config *policy,
                          const struct ca_issue *m, struct err *e)
{
    struct spiffe_id id;
    size_t n = strlen(RESERVED_PATH);
    if (spiffe_parse_workload(&id, (const char *)m->spiffe_id.p, m->spiffe_id.len,
                              policy->trust_domain, e) < 0)
        return -1;
    if (id.path.len >= n && memcmp(id.path.p, RESERVED_PATH, n) == 0 &&
        (id.path.len == n || id.path.p[n] == '/'))
        return err_set(e, ERR_DENIED, "reserved",
                       "paths under " RESERVED_PATH "/ are the authority's own; choose another");
    for (size_t i = 0; i < m->dns_count; i++) {
        if (check_workload_dns(m->dns[i], policy, e) < 0)
            return -1;
        leaf->names[leaf->names_count++] = (struct profile_name){.text = m->dns[i]};
    }
    return 0;
}

static bool is_configured(struct bytes name, const struct config *policy)
{
    for (size_t i = 0; i < policy->names_count; i++)
        if (bytes_eq_str(name, policy->names[i]))
            return true;
    return false;
}

/* Text to address; 0 when it is none. Zones ("%eth0") are refused by inet_pton. */
static uint8_t read_address(struct bytes text, uint8_t out[16])
{
    char s[INET6_ADDRSTRLEN];
    if (text.len >= sizeof s || memchr(text.p, 0, text.len))
        return 0;
    memcpy(s, text.p, text.len);
    s[text.len] = 0;
    if (inet_pton(AF_INET, s, out) == 1)
        return 4;
    return inet_pton(AF_INET6, s, out) == 1 ? 16 : 0;
}

static int check_server(struct profile_leaf *leaf, const struct config *policy,
                        const struct ca_issue *m, struct err *e)
{
    char id[sizeof "spiffe://" SERVER_PATH + SPIFFE_TD_MAX];
    snprintf(id, sizeof id, "spiffe://%.*s" SERVER_PATH, SPIFFE_TD_MAX, policy->trust_domain);
    if (!bytes_eq_str(m->spiffe_id, id))
        return err_set(e, ERR_DENIED, "spiffe-id", "the server profile is for %s only", id);
    struct profile_name addresses[CA_DNS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < m->dns_count; i++) {
        struct profile_name name = {.text = m->dns[i]};
        if (!is_configured(name.text, policy))
            return err_set(e, ERR_DENIED, "dns-permitted",
                           "a name that the configuration's `names` does not have");
        name.address_len = read_address(name.text, name.address);
        if (name.address_len)
            addresses[n++] = name;
        else if (dns_name_check((const char *)name.text.p, name.text.len, e) < 0)
            return -1;
        else
            leaf->names[leaf->names_count++] = name;
    }
    for (size_t i = 0; i < n; i++)
        leaf->names[leaf->names_count++] = addresses[i];
    return 0;
}

/* --- what goes into the log beside the certificate ------------------------------------------------ */

static bool is_word(struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        uint8_t ch = b.p[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
              ch == '-' || ch == '_' || ch == '.'))
            return false;
    }
    return true;
}

static int check_log_fields(const struct config *policy, const struct ca_issue *m, struct err *e)
{
    struct spiffe_id id;
    if (!is_word(m->attestor) || !is_word(m->entry_id))
        return err_set(e, ERR_DENIED, "log-fields",
                       "attestor and entry id may have letters, digits, '-', '_' and '.' only");
    if (m->requester.len && spiffe_parse_workload(&id, (const char *)m->requester.p, m->requester.len,
                                                  policy->trust_domain, e) < 0)
        return err_wrap(e, "requester");
    return 0;
}

int profile_check(struct profile_leaf *leaf, const struct config *policy, const struct ca_issue *m,
                  struct err *e)
{
    leaf->uri = m->spiffe_id;
    leaf->names_count = 0;
    leaf->lifetime = m->lifetime;
    leaf->not_before = leaf->not_after = 0;
    int r;
    switch (m->profile) {
    case CA_PROFILE_WORKLOAD: r = check_workload(leaf, policy, m, e); break;
    case CA_PROFILE_SERVER: r = check_server(leaf, policy, m, e); break;
    default: r = err_set(e, ERR_DENIED, "profile", "there is no profile %u", m->profile);
    }
    if (r < 0 || check_spki(leaf, m->spki, e) < 0 || check_log_fields(policy, m, e) < 0)
        return -1;
    if (m->lifetime < 1 || m->lifetime > policy->ca.max_lifetime)
        return err_set(e, ERR_DENIED, "lifetime",
                       "lifetime of %u seconds; this authority gives 1 to %u (ca.max_lifetime)",
                       m->lifetime, policy->ca.max_lifetime);
    return 0;
}

int profile_validity(struct profile_leaf *leaf, int64_t now, int64_t issuer_not_after, struct err *e)
{
    leaf->not_before = now - PROFILE_BACKDATE;
    leaf->not_after = now + leaf->lifetime;
    if (leaf->not_after > issuer_not_after)
        return err_set(e, ERR_DENIED, "issuer-lifetime",
                       "the certificate would outlive the issuing certificate; make a new issuing "
                       "certificate, or ask for a shorter lifetime");
    return 0;
}
