#include "ca/crl.h"
#include "base/crl_name.h"
#include "base/oid.h"
#include "tlog/record.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENUMERATED 0x0a
#define REVOKED_LEN 17 /* of an element in the request (ca/msg.c) */
#define REST_MAX 192   /* the number, the signature and what is around all */
#define EXT(w, oid, critical, mark) tbs_extension(w, oid, OID_LEN(oid), critical, mark)

_Static_assert(IPC_FRAME_MAX - IPC_HEADER - 3 * 8 - 2 >= CA_CRL_MAX, "the answer fits its frame");

struct crl_draft *crl_draft_new(struct bytes body, struct err *e)
{
    struct crl_draft *d = malloc(sizeof *d); /* large and rare, so not one for each job */
    if (!d) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for a CRL");
        return NULL;
    }
    if (ca_crl_parse(&d->request, body, e) == 0)
        return d;
    free(d);
    return NULL;
}

int crl_check(const struct crl_draft *d, uint16_t log_number, uint64_t log_size, struct err *e)
{
    struct cur c = cur_of(d->request.revoked.p, d->request.revoked.len);
    struct ca_crl_revoked r;
    while (ca_crl_next(&c, &r)) {
        uint64_t index = r.serial & TBS_INDEX_MAX;
        if (r.serial >> 48 != log_number || index == 0 || index >= log_size)
            return err_set(e, ERR_DENIED, "crl-serial", "no certificate of this log has the serial %llx",
                           (unsigned long long)r.serial);
        if (r.reason > 10 || r.reason == 7 || r.reason == 8)
            return err_set(e, ERR_DENIED, "crl-reason", "%u is no reason to revoke (RFC 5280 section 5.3.1)", r.reason);
    }
    return 0;
}

/* --- building: back to front, so in each function the last field stands first ---------------------------- */

static void write_revoked(struct derw *w, const struct crl_draft *d)
{
    if (d->request.count == 0) /* RFC 5280, section 5.1.2.6: then the field is absent */
        return;
    for (size_t i = d->request.count; i > 0; i--) {
        struct cur c = cur_of(d->request.revoked.p + (i - 1) * REVOKED_LEN, REVOKED_LEN);
        struct ca_crl_revoked r;
        size_t m = derw_mark(w);
        ca_crl_next(&c, &r);
        if (r.reason != 0) { /* section 5.3.1: unspecified is left out */
            derw_tlv(w, ENUMERATED, &r.reason, 1);
            EXT(w, OID_EXT_REASON, false, m);
            derw_wrap(w, DER_SEQUENCE, m);
        }
        derw_time(w, r.time < d->this_update ? r.time : d->this_update); /* no clock but ours says when it is */
        derw_u64(w, r.serial);
        derw_wrap(w, DER_SEQUENCE, m);
    }
    derw_wrap(w, DER_SEQUENCE, 0);
}

static struct bytes write_fields(struct crl_draft *d, size_t cap, const struct tbs_template *t)
{
    struct derw w;
    derw_init(&w, d->body, cap);
    write_revoked(&w, d);
    derw_time(&w, d->next_update);
    derw_time(&w, d->this_update);
    derw_raw(&w, t->issuer.p, t->issuer.len);
    derw_raw(&w, tbs_ecdsa_sha256.p, tbs_ecdsa_sha256.len);
    derw_u64(&w, 1); /* version 2 */
    return derw_bytes(&w);
}

/* Section 5.2.5: one that says which list it is cannot stand for another. */
static struct bytes write_extensions(struct crl_draft *d, const struct tbs_template *t)
{
    static const uint8_t yes = 0xff;
    char url[CRL_URL_MAX];
    struct derw w;
    size_t n = crl_url_write(url, t->config->external_url, (struct crl_name){d->request.shards, d->request.shard});
    derw_init(&w, d->body, sizeof d->body);
    derw_tlv(&w, DER_CTX | 1, &yes, 1); /* onlyContainsUserCerts */
    tbs_point_name(&w, url, n);
    derw_wrap(&w, DER_SEQUENCE, 0);
    EXT(&w, OID_EXT_IDP, true, 0);
    derw_raw(&w, t->aki.p, t->aki.len);
    return n ? derw_bytes(&w) : (struct bytes){d->body, 0};
}

static int write_body(struct crl_draft *d, const struct tbs_template *t, struct err *e)
{
    d->extensions = write_extensions(d, t);
    d->fields = write_fields(d, sizeof d->body - d->extensions.len, t);
    if (d->extensions.len == 0 || d->fields.len == 0 || d->fields.len + d->extensions.len + REST_MAX > CA_CRL_MAX)
        return err_set(e, ERR_TOO_LARGE, "crl-size", "the CRL does not fit %d bytes", CA_CRL_MAX);
    return 0;
}

static int write_entry(const struct crl_draft *d, struct buf *log_entry, int64_t now, struct err *e)
{
    char value[32];
    struct tlog_entry entry = {.type = TLOG_ENTRY_AUTHORITY};
    int n = snprintf(value, sizeof value, "%u-%u", d->request.shards, d->request.shard);
    const struct tlog_record_info r = {.type = TLOG_ENTRY_AUTHORITY, .time = now, .code = TLOG_NEW_CRL,
                                       .value = {(const uint8_t *)value, (size_t)n},
                                       .digest = {d->digest, sizeof d->digest}};
    buf_reset(log_entry);
    tlog_entry_write(&entry, log_entry); /* the envelope; the body follows it */
    return tlog_record_write(&r, log_entry, e);
}

int crl_entry(struct crl_draft *d, struct buf *log_entry, const struct tbs_template *t, struct digest *digest,
              int64_t now, int64_t issuer_not_after, struct err *e)
{
    d->this_update = now - PROFILE_BACKDATE; /* as certificates, for clocks that run behind */
    d->next_update = now + t->config->crl.lifetime;
    if (d->next_update > issuer_not_after)
        d->next_update = issuer_not_after;
    if (d->next_update <= now)
        return err_set(e, ERR_DENIED, "issuer-lifetime", "the issuing certificate has ended");
    if (write_body(d, t, e) < 0)
        return -1;
    if (digest_sha256(digest, d->fields.p, d->fields.len + d->extensions.len, d->digest) < 0)
        return err_set(e, ERR_INTERNAL, "digest", "SHA-256 failed; is memory exhausted?");
    return write_entry(d, log_entry, now, e);
}

int crl_build(struct crl_draft *d, uint64_t index, struct err *e)
{
    struct derw w;
    derw_init(&w, d->tbs_array, sizeof d->tbs_array);
    derw_u64(&w, index);
    EXT(&w, OID_EXT_CRL_NUMBER, false, 0);
    derw_raw(&w, d->extensions.p, d->extensions.len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    derw_wrap(&w, DER_CTX_CONS, 0);
    derw_raw(&w, d->fields.p, d->fields.len);
    derw_wrap(&w, DER_SEQUENCE, 0);
    d->tbs = derw_bytes(&w);
    if (d->tbs.len == 0)
        return err_set(e, ERR_INTERNAL, "crl-size", "CRL %llu does not fit its array", (unsigned long long)index);
    return 0;
}
