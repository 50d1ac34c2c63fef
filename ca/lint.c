#include "ca/lint.h"
#include "base/crl_name.h"
#include "base/der.h"
#include "base/oid.h"
#include "base/spiffe.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define BACKDATE_MAX 10 /* seconds before now; written down here again on purpose */

struct read { /* the TBSCertificate, field by field */
    struct bytes version, serial, algorithm, issuer, subject, spki;
    struct bytes validity; /* whole element */
    int64_t not_before, not_after;
    struct bytes extensions; /* contents of the Extensions SEQUENCE */
    struct bytes before_proof;
    struct bytes spki_algorithm, spki_bits;
    uint8_t spki_hash[DIGEST_SHA256];
};

static int refuse(struct err *e, const char *rule, const char *what)
{
    return err_set(e, ERR_INTERNAL, rule,
                   "the certificate read back before signing is wrong: %s; it was not signed", what);
}

static int whole(struct cur *c, uint8_t want, struct bytes *contents, struct bytes *element)
{
    uint8_t tag;
    if (der_any(c, &tag, contents, element) < 0 || tag != want)
        return -1;
    return 0;
}

/* RFC 5280 section 4.1: exactly these fields, in this order, nothing optional but extensions. */
static int read_tbs(struct read *r, struct bytes tbs, struct err *e)
{
    struct cur c = cur_of(tbs.p, tbs.len), in, times, key, ext;
    struct bytes skip, spki;
    memset(r, 0, sizeof *r);
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) ||
        whole(&in, DER_CTX_CONS, &skip, &r->version) < 0 || der_uint(&in, &r->serial) < 0 ||
        whole(&in, DER_SEQUENCE, &skip, &r->algorithm) < 0 ||
        whole(&in, DER_SEQUENCE, &skip, &r->issuer) < 0 ||
        whole(&in, DER_SEQUENCE, &skip, &r->validity) < 0)
        return refuse(e, "lint-form", "a field before the subject is missing or malformed");
    times = cur_of(skip.p, skip.len);
    if (der_time(&times, &r->not_before) < 0 || der_time(&times, &r->not_after) < 0 || !cur_done(&times))
        return refuse(e, "lint-validity", "the validity is malformed");
    if (whole(&in, DER_SEQUENCE, &skip, &r->subject) < 0 ||
        whole(&in, DER_SEQUENCE, &spki, &r->spki) < 0)
        return refuse(e, "lint-form", "subject or key is missing or malformed");
    key = cur_of(spki.p, spki.len);
    if (whole(&key, DER_SEQUENCE, &skip, &r->spki_algorithm) < 0 ||
        der_bits(&key, &r->spki_bits) < 0 || !cur_done(&key))
        return refuse(e, "lint-key", "the key is malformed");
    if (der_enter(&in, DER_CTX_CONS | 3, &ext) < 0 || !cur_done(&in) ||
        der_get(&ext, DER_SEQUENCE, &r->extensions) < 0 || !cur_done(&ext))
        return refuse(e, "lint-extensions", "the extensions are missing, or something follows them");
    return 0;
}

static int check_fields(struct read *r, const struct lint_policy *p, struct digest *d,
                        const struct lint_expect *x, struct err *e)
{
    static const uint8_t v3[] = {0xa0, 3, 2, 1, 2};
    static const char algorithm[] = "\x30\x0a\x06\x08" OID_ECDSA_SHA256;
    if (!bytes_eq(r->version, v3, sizeof v3))
        return refuse(e, "lint-form", "it is not version 3");
    uint8_t serial[8];
    uint64_t want = (uint64_t)p->config->log.number << 48 | x->index;
    for (int i = 0; i < 8; i++)
        serial[i] = (uint8_t)(want >> (56 - 8 * i));
    size_t skip = p->config->log.number < 256 ? 1 : 0; /* numbers start at 1: one zero at most */
    if (x->index >> 48 || p->config->log.number == 0 ||
        !bytes_eq(r->serial, serial + skip, sizeof serial - skip))
        return refuse(e, "lint-serial", "the serial is not (log number << 48) | index");
    if (!bytes_eq(r->algorithm, algorithm, sizeof algorithm - 1))
        return refuse(e, "lint-form", "the signature algorithm is not ecdsa-with-SHA256");
    if (!bytes_eq(r->issuer, p->issuer_name.p, p->issuer_name.len))
        return refuse(e, "lint-issuer", "the issuer is not the issuing certificate's subject");
    if (!bytes_eq(r->subject, "\x30\x00", 2))
        return refuse(e, "lint-form", "the subject is not empty");
    if (r->not_before > x->now || r->not_before < x->now - BACKDATE_MAX ||
        r->not_after != x->now + x->request->lifetime || r->not_after <= x->now ||
        r->not_after > x->now + p->config->ca.max_lifetime || r->not_after > p->issuer_not_after)
        return refuse(e, "lint-validity", "the validity is not now and the lifetime asked for");
    if (!bytes_eq(r->spki, x->request->spki.p, x->request->spki.len))
        return refuse(e, "lint-key", "the key is not the one asked for");
    if (digest_sha256(d, r->spki.p, r->spki.len, r->spki_hash) < 0)
        return refuse(e, "lint-key", "the key cannot be hashed");
    return 0;
}

/* --- extensions ----------------------------------------------------------------------------------- */

struct extension {
    struct bytes oid, value;
    bool critical;
};

static int read_extension(struct cur *c, struct extension *x)
{
    struct cur in;
    x->critical = false;
    if (der_enter(c, DER_SEQUENCE, &in) < 0 || der_get(&in, DER_OID, &x->oid) < 0)
        return -1;
    if (der_peek(&in, DER_BOOLEAN) && (der_bool(&in, &x->critical) < 0 || !x->critical))
        return -1; /* FALSE is the default, and left out in DER */
    return der_get(&in, DER_OCTET_STRING, &x->value) < 0 || !cur_done(&in) ? -1 : 0;
}

static bool is_ext(const struct extension *x, const char *oid, size_t oid_len, bool critical)
{
    return x->critical == critical && bytes_eq(x->oid, oid, oid_len);
}
#define IS_EXT(x, oid, critical) is_ext(x, oid, OID_LEN(oid), critical)

static bool aki_good(struct bytes value, const struct lint_policy *p)
{
    struct cur c = cur_of(value.p, value.len), in;
    struct bytes id;
    return der_enter(&c, DER_SEQUENCE, &in) == 0 && cur_done(&c) && der_get(&in, 0x80, &id) == 0 &&
           cur_done(&in) && bytes_eq(id, p->issuer_key_id.p, p->issuer_key_id.len);
}

static bool ski_good(struct bytes value, struct digest *d, struct bytes bits)
{
    struct cur c = cur_of(value.p, value.len);
    struct bytes id;
    uint8_t want[DIGEST_SHA256];
    return der_get(&c, DER_OCTET_STRING, &id) == 0 && cur_done(&c) &&
           digest_sha256(d, bits.p, bits.len, want) == 0 && bytes_eq(id, want, KEY_ID_LEN);
}

static bool eku_good(struct bytes value)
{
    struct cur c = cur_of(value.p, value.len), in;
    struct bytes server, client;
    return der_enter(&c, DER_SEQUENCE, &in) == 0 && cur_done(&c) && der_get(&in, DER_OID, &server) == 0 &&
           der_get(&in, DER_OID, &client) == 0 && cur_done(&in) &&
           bytes_eq(server, OID_EKU_SERVER, OID_LEN(OID_EKU_SERVER)) &&
           bytes_eq(client, OID_EKU_CLIENT, OID_LEN(OID_EKU_CLIENT));
}

/* noRevAvail up to the short limit, else the one CRL that its key belongs to. The shard is reckoned here once
 * more: the hash's leading bits, as the name has them. */
static bool revocation_good(const struct extension *x, const struct config *c, uint32_t lifetime,
                            const uint8_t spki_hash[DIGEST_SHA256])
{
    char want[CRL_URL_MAX];
    struct cur in = cur_of(x->value.p, x->value.len), points, point, name, full;
    struct bytes url;
    unsigned shard = 0;
    if (lifetime <= c->crl.short_limit)
        return IS_EXT(x, OID_EXT_NO_REV_AVAIL, false) && bytes_eq(x->value, "\x05\x00", 2);
    for (unsigned n = 1, bit = 0; n < c->crl.shards; n *= 2, bit++)
        shard = shard << 1 | (spki_hash[bit / 8] >> (7 - bit % 8) & 1);
    snprintf(want, sizeof want, "%s/crl/%u-%u.crl", c->external_url, c->crl.shards, shard);
    return IS_EXT(x, OID_EXT_CDP, false) && der_enter(&in, DER_SEQUENCE, &points) == 0 && cur_done(&in) &&
           der_enter(&points, DER_SEQUENCE, &point) == 0 && cur_done(&points) &&
           der_enter(&point, 0xa0, &name) == 0 && cur_done(&point) && der_enter(&name, 0xa0, &full) == 0 &&
           cur_done(&name) && der_get(&full, 0x86, &url) == 0 && cur_done(&full) && bytes_eq_str(url, want);
}

/* The address that a text of the request stands for; 0 when it is a DNS name. */
static size_t address_of(struct bytes text, uint8_t out[16])
{
    char s[64];
    if (text.len >= sizeof s)
        return 0;
    snprintf(s, sizeof s, "%.*s", (int)text.len, (const char *)text.p);
    if (inet_pton(AF_INET, s, out) == 1)
        return 4;
    return inet_pton(AF_INET6, s, out) == 1 ? 16 : 0;
}

static bool in_zone(struct bytes name, const char *zone)
{
    size_t n = strlen(zone), from = name.len - n;
    if (name.len < n || memcmp(name.p + from, zone, n) != 0)
        return false;
    return from == 0 || name.p[from - 1] == '.';
}

static bool name_permitted(const struct lint_policy *p, uint8_t profile, struct bytes name)
{
    const struct config *c = p->config;
    bool server = profile == CA_PROFILE_SERVER;
    size_t n = server ? c->names_count : c->ca.permitted_dns_count;
    for (size_t i = 0; i < n; i++)
        if (server ? bytes_eq_str(name, c->names[i]) : in_zone(name, c->ca.permitted_dns[i]))
            return true;
    return false;
}

/* The names of one kind, in the order asked for, must be the next ones in the SAN. */
static int match_names(struct cur *san, const struct lint_policy *p, const struct ca_issue *m, bool addresses)
{
    for (size_t i = 0; i < m->dns_count; i++) {
        uint8_t address[16];
        size_t n = address_of(m->dns[i], address);
        struct bytes got;
        if (n > 0 && m->profile != CA_PROFILE_SERVER)
            return -1;
        if ((n > 0) != addresses)
            continue;
        if (!name_permitted(p, m->profile, m->dns[i]))
            return -1;
        if (der_get(san, addresses ? 0x87 : 0x82, &got) < 0)
            return -1;
        if (addresses ? !bytes_eq(got, address, n) : !bytes_eq(got, m->dns[i].p, m->dns[i].len))
            return -1;
    }
    return 0;
}

static bool san_good(struct bytes value, const struct lint_policy *p, const struct ca_issue *m)
{
    static const char reserved[] = "/mayfly", server[] = "/mayfly/server";
    struct cur c = cur_of(value.p, value.len), in;
    struct bytes uri;
    struct spiffe_id id;
    struct err e = {0};
    if (der_enter(&c, DER_SEQUENCE, &in) < 0 || !cur_done(&c) || der_get(&in, 0x86, &uri) < 0 ||
        !bytes_eq(uri, m->spiffe_id.p, m->spiffe_id.len) ||
        spiffe_parse_workload(&id, (const char *)uri.p, uri.len, p->config->trust_domain, &e) < 0)
        return false;
    if (m->profile == CA_PROFILE_SERVER) {
        if (!bytes_eq_str(id.path, server))
            return false;
    } else {
        struct bytes head = {id.path.p, sizeof reserved - 1};
        if (m->profile != CA_PROFILE_WORKLOAD ||
            (id.path.len >= head.len && bytes_eq_str(head, reserved) &&
             (id.path.len == head.len || id.path.p[head.len] == '/')))
            return false;
    }
    if (match_names(&in, p, m, false) < 0)
        return false;
    if (m->profile == CA_PROFILE_SERVER && match_names(&in, p, m, true) < 0)
        return false;
    return cur_done(&in); /* nobody asked for what is left */
}

/* The text's form and index; see the header for what is not checked. */
static bool proof_good(struct bytes value, uint64_t index)
{
    static const char first[] = "c2sp.org/tlog-proof@v1";
    struct cur c = cur_of(value.p, value.len);
    struct bytes line;
    char want[40];
    snprintf(want, sizeof want, "index %llu", (unsigned long long)index);
    if (cur_line(&c, &line) < 0 || !bytes_eq_str(line, first) || cur_line(&c, &line) < 0)
        return false;
    if (line.len > 6 && memcmp(line.p, "extra ", 6) == 0 && cur_line(&c, &line) < 0)
        return false;
    return bytes_eq_str(line, want) && cur_left(&c) > 0;
}

static int check_extensions(struct read *r, const struct lint_policy *p, struct digest *d,
                            const struct lint_expect *x, struct err *e)
{
    struct cur c = cur_of(r->extensions.p, r->extensions.len);
    struct extension ext[8];
    for (size_t i = 0; i < 8; i++) {
        if (i == 7)
            r->before_proof = (struct bytes){r->extensions.p, (size_t)(c.p - r->extensions.p)};
        if (read_extension(&c, &ext[i]) < 0)
            return refuse(e, "lint-extensions", "one is missing or malformed");
    }
    if (!cur_done(&c))
        return refuse(e, "lint-extensions", "there are more than eight");
    if (!IS_EXT(&ext[0], OID_EXT_AKI, false) || !aki_good(ext[0].value, p))
        return refuse(e, "lint-extensions", "authorityKeyIdentifier");
    if (!IS_EXT(&ext[1], OID_EXT_SKI, false) || !ski_good(ext[1].value, d, r->spki_bits))
        return refuse(e, "lint-extensions", "subjectKeyIdentifier");
    if (!IS_EXT(&ext[2], OID_EXT_KEY_USAGE, true) || !bytes_eq(ext[2].value, "\x03\x02\x07\x80", 4))
        return refuse(e, "lint-extensions", "keyUsage is not digitalSignature alone");
    if (!IS_EXT(&ext[3], OID_EXT_EKU, false) || !eku_good(ext[3].value))
        return refuse(e, "lint-extensions", "extKeyUsage");
    if (!IS_EXT(&ext[4], OID_EXT_BASIC, true) || !bytes_eq(ext[4].value, "\x30\x00", 2))
        return refuse(e, "lint-extensions", "basicConstraints is not cA=FALSE");
    if (!revocation_good(&ext[5], p->config, x->request->lifetime, r->spki_hash))
        return refuse(e, "lint-extensions", "neither noRevAvail nor the CRL of its key, as its lifetime asks for");
    if (!IS_EXT(&ext[6], OID_EXT_SAN, true) || !san_good(ext[6].value, p, x->request))
        return refuse(e, "lint-san", "the names are not the ones asked for, or not permitted");
    if (!IS_EXT(&ext[7], OID_STAPLED_PROOF, false) || !proof_good(ext[7].value, x->index))
        return refuse(e, "lint-proof", "the stapled proof is not one for this index");
    return 0;
}

/* Signed is what was logged: the entry is read beside the certificate, element by element. */
static int check_logged(const struct read *r, struct bytes log_body, struct err *e)
{
    struct cur c = cur_of(log_body.p, log_body.len), ext;
    struct bytes skip, version, issuer, validity, subject, algorithm, hash, extensions;
    if (whole(&c, DER_CTX_CONS, &skip, &version) < 0 || whole(&c, DER_SEQUENCE, &skip, &issuer) < 0 ||
        whole(&c, DER_SEQUENCE, &skip, &validity) < 0 || whole(&c, DER_SEQUENCE, &skip, &subject) < 0 ||
        whole(&c, DER_SEQUENCE, &skip, &algorithm) < 0 || der_get(&c, DER_OCTET_STRING, &hash) < 0 ||
        der_enter(&c, DER_CTX_CONS | 3, &ext) < 0 || !cur_done(&c) ||
        der_get(&ext, DER_SEQUENCE, &extensions) < 0 || !cur_done(&ext))
        return refuse(e, "lint-log", "its log entry is malformed");
    if (!bytes_eq(version, r->version.p, r->version.len) ||
        !bytes_eq(issuer, r->issuer.p, r->issuer.len) ||
        !bytes_eq(validity, r->validity.p, r->validity.len) ||
        !bytes_eq(subject, r->subject.p, r->subject.len) ||
        !bytes_eq(algorithm, r->spki_algorithm.p, r->spki_algorithm.len) ||
        !bytes_eq(hash, r->spki_hash, sizeof r->spki_hash) ||
        !bytes_eq(extensions, r->before_proof.p, r->before_proof.len))
        return refuse(e, "lint-log", "it differs from its log entry");
    return 0;
}

int lint_leaf(const struct lint_policy *p, struct digest *d, const struct lint_expect *x,
              struct bytes tbs, struct err *e)
{
    struct read r;
    if (read_tbs(&r, tbs, e) < 0 || check_fields(&r, p, d, x, e) < 0 ||
        check_extensions(&r, p, d, x, e) < 0 || check_logged(&r, x->log_body, e) < 0)
        return -1;
    return 0;
}
