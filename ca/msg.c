/* The fixed table of messages, both directions of each side by side. A field that is over its bound
 * is refused when read, and never written: the writer's buffer is marked failed. */
#include "ca/msg.h"
#include "base/crl_name.h"
#include "base/spiffe.h"
#include <string.h>

#define ATTESTOR_MAX 32
#define DIGEST_LEN 32
#define INFO_CERT_MAX 4096
#define INFO_VKEY_MAX 511

static int malformed(struct err *e, const char *message, const char *field)
{
    return err_set(e, ERR_MALFORMED, "ca-msg",
                   "%s: %s is missing, over its bound, or followed by other bytes; "
                   "the two sides are not of one version",
                   message, field);
}

static bool digest_or_nothing(struct bytes b)
{
    return b.len == 0 || b.len == DIGEST_LEN;
}

/* --- CA_ISSUE ---------------------------------------------------------------------------------- */

static bool issue_bounded(const struct ca_issue *m)
{
    if (m->dns_count > CA_DNS_MAX || m->spiffe_id.len > SPIFFE_ID_MAX || m->spki.len > CA_SPKI_MAX ||
        m->attestor.len > ATTESTOR_MAX || m->entry_id.len > CA_ENTRY_ID_MAX ||
        m->requester.len > SPIFFE_ID_MAX)
        return false;
    return digest_or_nothing(m->evidence) && digest_or_nothing(m->session);
}

void ca_issue_write(struct buf *b, uint64_t id, const struct ca_issue *m)
{
    ipc_frame_begin(b, CA_ISSUE, id);
    if (!issue_bounded(m)) {
        b->failed = true;
        return;
    }
    buf_u8(b, m->profile);
    buf_u32(b, m->lifetime);
    buf_vec16(b, m->spiffe_id.p, m->spiffe_id.len);
    buf_u8(b, m->dns_count);
    for (size_t i = 0; i < m->dns_count; i++)
        buf_vec8(b, m->dns[i].p, m->dns[i].len);
    buf_vec16(b, m->spki.p, m->spki.len);
    buf_vec8(b, m->attestor.p, m->attestor.len);
    buf_vec8(b, m->evidence.p, m->evidence.len);
    buf_vec8(b, m->entry_id.p, m->entry_id.len);
    buf_u64(b, m->entry_revision);
    buf_vec16(b, m->requester.p, m->requester.len);
    buf_vec8(b, m->session.p, m->session.len);
}

int ca_issue_parse(struct ca_issue *m, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    memset(m, 0, sizeof *m);
    cur_u8(&c, &m->profile);
    cur_u32(&c, &m->lifetime);
    cur_vec16(&c, &m->spiffe_id);
    cur_u8(&c, &m->dns_count);
    if (c.failed || m->dns_count > CA_DNS_MAX)
        return malformed(e, "issue request", "profile, lifetime, SPIFFE ID or DNS count");
    for (size_t i = 0; i < m->dns_count; i++)
        cur_vec8(&c, &m->dns[i]);
    cur_vec16(&c, &m->spki);
    cur_vec8(&c, &m->attestor);
    cur_vec8(&c, &m->evidence);
    cur_vec8(&c, &m->entry_id);
    cur_u64(&c, &m->entry_revision);
    cur_vec16(&c, &m->requester);
    cur_vec8(&c, &m->session);
    if (!cur_done(&c) || !issue_bounded(m))
        return malformed(e, "issue request", "a field");
    return 0;
}

/* --- CA_ISSUED --------------------------------------------------------------------------------- */

void ca_issued_write(struct buf *b, uint64_t id, const struct ca_issued *m)
{
    ipc_frame_begin(b, CA_ISSUED, id);
    buf_u64(b, m->index);
    buf_u64(b, (uint64_t)m->not_before);
    buf_u64(b, (uint64_t)m->not_after);
    buf_vec16(b, m->cert.p, m->cert.len);
    if (m->cert.len == 0 || m->cert.len > CA_CERT_MAX)
        b->failed = true;
}

int ca_issued_parse(struct ca_issued *m, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    uint64_t not_before, not_after;
    memset(m, 0, sizeof *m);
    cur_u64(&c, &m->index);
    cur_u64(&c, &not_before);
    cur_u64(&c, &not_after);
    cur_vec16(&c, &m->cert);
    if (!cur_done(&c) || m->cert.len == 0 || m->cert.len > CA_CERT_MAX)
        return malformed(e, "issued answer", "a field");
    if (not_before > INT64_MAX || not_after > INT64_MAX || not_before > not_after)
        return malformed(e, "issued answer", "the validity");
    m->not_before = (int64_t)not_before;
    m->not_after = (int64_t)not_after;
    return 0;
}

/* --- CA_REFUSED -------------------------------------------------------------------------------- */

void ca_refused_write(struct buf *b, uint64_t id, const struct err *why)
{
    ipc_frame_begin(b, CA_REFUSED, id);
    buf_u8(b, (uint8_t)why->code);
    buf_vec8(b, why->rule, strnlen(why->rule, sizeof why->rule - 1));
    buf_vec16(b, why->msg, strnlen(why->msg, sizeof why->msg - 1));
}

/* Text into a fixed array; nothing that could end the string or a log line early. */
static bool text_copy(char *dst, size_t cap, struct bytes src)
{
    if (src.len >= cap || memchr(src.p, 0, src.len))
        return false;
    memcpy(dst, src.p, src.len);
    dst[src.len] = 0;
    return true;
}

int ca_refused_parse(struct err *why, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    struct bytes rule, msg;
    uint8_t code;
    memset(why, 0, sizeof *why);
    cur_u8(&c, &code);
    cur_vec8(&c, &rule);
    cur_vec16(&c, &msg);
    if (!cur_done(&c) || code == ERR_NONE || code >= ERR_CODES)
        return malformed(e, "refusal", "the code");
    if (!text_copy(why->rule, sizeof why->rule, rule) || !text_copy(why->msg, sizeof why->msg, msg))
        return malformed(e, "refusal", "rule or message");
    why->code = (enum err_code)code;
    return 0;
}

/* --- CA_RECORD and CA_RECORDED ----------------------------------------------------------------- */

void ca_record_write(struct buf *b, uint64_t id, const struct ca_record *m)
{
    ipc_frame_begin(b, CA_RECORD, id);
    buf_u16(b, m->type);
    buf_vec16(b, m->body.p, m->body.len);
    if (m->body.len == 0 || m->body.len > CA_RECORD_MAX)
        b->failed = true;
}

int ca_record_parse(struct ca_record *m, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    memset(m, 0, sizeof *m);
    cur_u16(&c, &m->type);
    cur_vec16(&c, &m->body);
    return cur_done(&c) && m->body.len > 0 && m->body.len <= CA_RECORD_MAX ? 0 : malformed(e, "record", "a field");
}

void ca_recorded_write(struct buf *b, uint64_t id, uint64_t index)
{
    ipc_frame_begin(b, CA_RECORDED, id);
    buf_u64(b, index);
}

int ca_recorded_parse(uint64_t *index, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    cur_u64(&c, index);
    return cur_done(&c) ? 0 : malformed(e, "recorded answer", "the index");
}

/* --- CA_COSIGN --------------------------------------------------------------------------------- */

void ca_cosign_write(struct buf *b, uint64_t id, const struct ca_cosign *m)
{
    ipc_frame_begin(b, CA_COSIGN, id);
    buf_u64(b, m->size);
    buf_put(b, m->root.p, m->root.len);
    buf_put(b, m->key_id.p, m->key_id.len);
    buf_u64(b, m->time);
    buf_put(b, m->sig.p, m->sig.len);
    if (m->root.len != CA_ROOT_LEN || m->key_id.len != CA_KEY_ID_LEN || m->sig.len != CA_COSIGNATURE_LEN)
        b->failed = true;
}

int ca_cosign_parse(struct ca_cosign *m, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    memset(m, 0, sizeof *m);
    cur_u64(&c, &m->size);
    cur_take(&c, CA_ROOT_LEN, &m->root);
    cur_take(&c, CA_KEY_ID_LEN, &m->key_id);
    cur_u64(&c, &m->time);
    cur_take(&c, CA_COSIGNATURE_LEN, &m->sig);
    return cur_done(&c) ? 0 : malformed(e, "cosignature", "a field");
}

/* --- CA_CRL and CA_CRL_SIGNED ------------------------------------------------------------------ */

#define REVOKED_LEN 17

static bool crl_bounded(const struct ca_crl *m)
{
    struct cur c = cur_of(m->revoked.p, m->revoked.len);
    struct ca_crl_revoked r;
    uint64_t last = 0;
    if (!crl_name_good((struct crl_name){m->shards, m->shard}) || m->count > CA_CRL_REVOKED_MAX ||
        m->revoked.len != (size_t)m->count * REVOKED_LEN)
        return false;
    while (ca_crl_next(&c, &r)) {
        if (r.serial <= last || r.time < 0)
            return false;
        last = r.serial;
    }
    return true;
}

void ca_crl_put(struct buf *revoked, const struct ca_crl_revoked *r)
{
    buf_u64(revoked, r->serial);
    buf_u64(revoked, (uint64_t)r->time);
    buf_u8(revoked, r->reason);
}

bool ca_crl_next(struct cur *revoked, struct ca_crl_revoked *r)
{
    uint64_t time = 0;
    if (cur_left(revoked) == 0)
        return false;
    cur_u64(revoked, &r->serial);
    cur_u64(revoked, &time);
    cur_u8(revoked, &r->reason);
    r->time = time <= INT64_MAX ? (int64_t)time : -1;
    return !revoked->failed;
}

void ca_crl_write(struct buf *b, uint64_t id, const struct ca_crl *m)
{
    ipc_frame_begin(b, CA_CRL, id);
    if (!crl_bounded(m)) {
        b->failed = true;
        return;
    }
    buf_u16(b, m->shards);
    buf_u16(b, m->shard);
    buf_u16(b, m->count);
    buf_put(b, m->revoked.p, m->revoked.len);
}

int ca_crl_parse(struct ca_crl *m, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    memset(m, 0, sizeof *m);
    cur_u16(&c, &m->shards);
    cur_u16(&c, &m->shard);
    cur_u16(&c, &m->count);
    cur_take(&c, (size_t)m->count * REVOKED_LEN, &m->revoked);
    return cur_done(&c) && crl_bounded(m) ? 0 : malformed(e, "CRL request", "a field");
}

/* A CRL or a JWT-SVID that was made: its number in the log, from when until when, and the bytes. */
static void made_write(struct buf *b, uint64_t number, int64_t from, int64_t until, struct bytes made, size_t max)
{
    buf_u64(b, number);
    buf_u64(b, (uint64_t)from);
    buf_u64(b, (uint64_t)until);
    buf_vec16(b, made.p, made.len);
    if (made.len == 0 || made.len > max || from < 0 || from >= until)
        b->failed = true;
}

static bool made_parse(struct bytes body, uint64_t *number, int64_t *from, int64_t *until, struct bytes *made,
                       size_t max)
{
    struct cur c = cur_of(body.p, body.len);
    uint64_t first = 0, last = 0;
    cur_u64(&c, number);
    cur_u64(&c, &first);
    cur_u64(&c, &last);
    cur_vec16(&c, made);
    *from = first <= INT64_MAX ? (int64_t)first : -1;
    *until = last <= INT64_MAX ? (int64_t)last : -1;
    return cur_done(&c) && made->len > 0 && made->len <= max && *from >= 0 && *from < *until;
}

void ca_crl_signed_write(struct buf *b, uint64_t id, const struct ca_crl_signed *m)
{
    ipc_frame_begin(b, CA_CRL_SIGNED, id);
    made_write(b, m->number, m->this_update, m->next_update, m->crl, CA_CRL_MAX);
}

int ca_crl_signed_parse(struct ca_crl_signed *m, struct bytes body, struct err *e)
{
    memset(m, 0, sizeof *m);
    return made_parse(body, &m->number, &m->this_update, &m->next_update, &m->crl, CA_CRL_MAX)
               ? 0
               : malformed(e, "signed CRL", "a field");
}

/* --- CA_JWT and CA_JWT_SIGNED ------------------------------------------------------------------ */

static bool jwt_bounded(const struct ca_jwt *m)
{
    return m->spiffe_id.len <= SPIFFE_ID_MAX && m->audiences.len > 0 && m->audiences.len <= CA_AUDIENCES_BYTES &&
           m->attestor.len <= ATTESTOR_MAX && digest_or_nothing(m->evidence) && m->entry_id.len <= CA_ENTRY_ID_MAX &&
           m->requester.len <= SPIFFE_ID_MAX && digest_or_nothing(m->session);
}

void ca_jwt_write(struct buf *b, uint64_t id, const struct ca_jwt *m)
{
    ipc_frame_begin(b, CA_JWT, id);
    if (!jwt_bounded(m)) {
        b->failed = true;
        return;
    }
    buf_u32(b, m->lifetime);
    buf_vec16(b, m->spiffe_id.p, m->spiffe_id.len);
    buf_vec16(b, m->audiences.p, m->audiences.len);
    buf_vec8(b, m->attestor.p, m->attestor.len);
    buf_vec8(b, m->evidence.p, m->evidence.len);
    buf_vec8(b, m->entry_id.p, m->entry_id.len);
    buf_u64(b, m->entry_revision);
    buf_vec16(b, m->requester.p, m->requester.len);
    buf_vec8(b, m->session.p, m->session.len);
}

int ca_jwt_parse(struct ca_jwt *m, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    memset(m, 0, sizeof *m);
    cur_u32(&c, &m->lifetime);
    cur_vec16(&c, &m->spiffe_id);
    cur_vec16(&c, &m->audiences);
    cur_vec8(&c, &m->attestor);
    cur_vec8(&c, &m->evidence);
    cur_vec8(&c, &m->entry_id);
    cur_u64(&c, &m->entry_revision);
    cur_vec16(&c, &m->requester);
    cur_vec8(&c, &m->session);
    return cur_done(&c) && jwt_bounded(m) ? 0 : malformed(e, "JWT request", "a field");
}

void ca_jwt_signed_write(struct buf *b, uint64_t id, const struct ca_jwt_signed *m)
{
    ipc_frame_begin(b, CA_JWT_SIGNED, id);
    made_write(b, m->index, m->issued, m->expires, m->jwt, CA_JWT_BYTES);
}

int ca_jwt_signed_parse(struct ca_jwt_signed *m, struct bytes body, struct err *e)
{
    memset(m, 0, sizeof *m);
    return made_parse(body, &m->index, &m->issued, &m->expires, &m->jwt, CA_JWT_BYTES)
               ? 0
               : malformed(e, "signed JWT", "a field");
}

/* --- CA_INFO and CA_INFO_REPLY ----------------------------------------------------------------- */

static bool info_bounded(const struct ca_info *m)
{
    return m->root.len > 0 && m->root.len <= INFO_CERT_MAX && m->issuing.len > 0 &&
           m->issuing.len <= INFO_CERT_MAX && m->vkey.len > 0 && m->vkey.len <= INFO_VKEY_MAX &&
           !memchr(m->vkey.p, 0, m->vkey.len) && !memchr(m->token.p, 0, m->token.len) &&
           m->started >= 0 && m->jwt_key.len <= CA_JWT_KEY_MAX && m->jwt_since >= 0 && m->quorum <= m->witnesses &&
           m->cosigned <= m->witnesses;
}

void ca_info_write(struct buf *b, uint64_t id, const struct ca_info *m)
{
    ipc_frame_begin(b, CA_INFO_REPLY, id);
    if (!info_bounded(m)) {
        b->failed = true;
        return;
    }
    buf_vec16(b, m->root.p, m->root.len);
    buf_vec16(b, m->issuing.p, m->issuing.len);
    buf_vec16(b, m->vkey.p, m->vkey.len);
    buf_u64(b, m->log_size);
    buf_u64(b, m->issued);
    buf_u64(b, m->refused);
    buf_u64(b, m->signatures);
    buf_u64(b, m->first_index);
    buf_u64(b, m->issuing_signatures);
    buf_u64(b, (uint64_t)m->started);
    buf_vec8(b, m->token.p, m->token.len);
    buf_u64(b, m->abandoned);
    buf_u8(b, m->quorum);
    buf_u8(b, m->witnesses);
    buf_u8(b, m->cosigned);
    buf_u8(b, m->unwitnessed);
    buf_vec8(b, m->jwt_key.p, m->jwt_key.len);
    buf_u64(b, (uint64_t)m->jwt_since);
    buf_u64(b, m->jwt_signatures);
    buf_u64(b, m->jwt_abandoned);
}

int ca_info_parse(struct ca_info *m, struct bytes body, struct err *e)
{
    struct cur c = cur_of(body.p, body.len);
    uint64_t started, jwt_since = 0;
    uint8_t unwitnessed;
    memset(m, 0, sizeof *m);
    cur_vec16(&c, &m->root);
    cur_vec16(&c, &m->issuing);
    cur_vec16(&c, &m->vkey);
    cur_u64(&c, &m->log_size);
    cur_u64(&c, &m->issued);
    cur_u64(&c, &m->refused);
    cur_u64(&c, &m->signatures);
    cur_u64(&c, &m->first_index);
    cur_u64(&c, &m->issuing_signatures);
    cur_u64(&c, &started);
    cur_vec8(&c, &m->token);
    cur_u64(&c, &m->abandoned);
    cur_u8(&c, &m->quorum);
    cur_u8(&c, &m->witnesses);
    cur_u8(&c, &m->cosigned);
    cur_u8(&c, &unwitnessed);
    cur_vec8(&c, &m->jwt_key);
    cur_u64(&c, &jwt_since);
    cur_u64(&c, &m->jwt_signatures);
    cur_u64(&c, &m->jwt_abandoned);
    if (!cur_done(&c) || started > INT64_MAX || unwitnessed > 1 || jwt_since > INT64_MAX)
        return malformed(e, "info answer", "a field");
    m->started = (int64_t)started;
    m->jwt_since = (int64_t)jwt_since;
    m->unwitnessed = unwitnessed;
    if (!info_bounded(m))
        return malformed(e, "info answer", "a certificate, a key or the token name");
    return 0;
}
