/* Builds what is logged and what is signed. Both come from one set of parts, so that whoever holds
 * the certificate can rebuild its log entry (tlog/entry.h); the serial and the stapled proof, which
 * only the log can give, are added last. Everything is written into arrays of the caller; nothing
 * is allocated. Not done here: deciding (profile.c), checking (lint.c).
 *
 * Leaf extensions, in this order: authorityKeyIdentifier, subjectKeyIdentifier, keyUsage,
 * extKeyUsage, basicConstraints, noRevAvail or cRLDistributionPoints, subjectAltName, stapled proof.
 * A lifetime of at most crl.short_limit has noRevAvail (RFC 9608); a longer one names the CRL that
 * would say so if it were revoked (base/crl_name.h).
 */
#ifndef CA_TBS_H
#define CA_TBS_H
#include "base/der.h"
#include "ca/digest.h"
#include "ca/profile.h"

#define TBS_SERIAL(log_number, index) ((uint64_t)(log_number) << 48 | (index))
#define TBS_INDEX_MAX ((UINT64_C(1) << 48) - 1)

struct tbs_parts {
    struct bytes signature_algorithm; /* whole AlgorithmIdentifier */
    struct bytes issuer, subject;     /* whole Names */
    int64_t not_before, not_after;
    struct bytes spki, spki_algorithm; /* whole elements */
    uint8_t spki_hash[DIGEST_SHA256];
    struct bytes extensions; /* elements one after the other, without the stapled proof */
};
/* Each returns a view into the array, empty when it did not fit. */
struct bytes tbs_log_body(uint8_t *array, size_t cap, const struct tbs_parts *p);
struct bytes tbs_build(uint8_t *array, size_t cap, const struct tbs_parts *p, uint64_t serial,
                       struct bytes proof); /* empty proof: no stapled proof */
struct bytes tbs_certificate(uint8_t *array, size_t cap, struct bytes tbs,
                             struct bytes signature_algorithm, struct bytes signature);

/* One extension around what was written since mark. */
void tbs_extension(struct derw *w, const char *oid, size_t oid_len, bool critical, size_t mark);

extern const struct bytes tbs_ecdsa_sha256, tbs_ecdsa_sha384; /* AlgorithmIdentifiers */

/* What every leaf of one issuing certificate has in common. */
struct tbs_template {
    struct bytes issuer; /* view into the issuing certificate */
    const struct config *config; /* not owned: its crl and external_url */
    uint8_t aki_array[64], fixed_array[128], no_rev_avail_array[16];
    struct bytes aki;   /* authorityKeyIdentifier, whole extension */
    struct bytes fixed; /* keyUsage to basicConstraints, whole extensions */
    struct bytes no_rev_avail;
};
int tbs_template_init(struct tbs_template *t, const struct config *config, struct bytes issuer_name,
                      struct bytes issuer_key_id, struct err *e);
/* DistributionPointName { fullName { URI } }, as cRLDistributionPoints and issuingDistributionPoint have it. */
void tbs_point_name(struct derw *w, const char *url, size_t len);
/* Fills p for this leaf; its extensions are written into the array. */
int tbs_leaf(struct tbs_parts *p, uint8_t *array, size_t cap, const struct tbs_template *t,
             struct digest *d, const struct profile_leaf *leaf, struct err *e);
#endif
