#include "ca/jwt.h"
#include "base/json.h"
#include "tlog/record.h"
#include <string.h>

#define SIGNATURE_LEN (1 + B64URL_LEN(64) + 1) /* the dot before it, and a NUL that b64url_encode may write */

_Static_assert(CA_AUDIENCES_BYTES == TLOG_AUDIENCES_BYTES, "what may be asked for can be logged");

int jwt_entry(struct buf *log_entry, const struct jwt_policy *p, const struct ca_jwt *m, int64_t now, struct err *e)
{
    const struct tlog_entry entry = {.type = TLOG_ENTRY_JWT};
    const struct tlog_record_info r = {.type = TLOG_ENTRY_JWT,
                                       .time = now,
                                       .code = TLOG_JWT_SVID,
                                       .expires = now + m->lifetime,
                                       .spiffe_id = m->spiffe_id,
                                       .audiences = m->audiences,
                                       .kid = {(const uint8_t *)p->kid, strlen(p->kid)},
                                       .attestor = m->attestor,
                                       .evidence = m->evidence,
                                       .entry_id = m->entry_id,
                                       .revision = m->entry_revision,
                                       .requester = m->requester,
                                       .session = m->session};
    buf_reset(log_entry);
    tlog_entry_write(&entry, log_entry); /* the envelope; the body follows it */
    if (tlog_record_write(&r, log_entry, e) == 0)
        return 0;
    if (e->code == ERR_MALFORMED)
        e->code = ERR_DENIED; /* an audience, mostly: what cannot be logged is not signed */
    return -1;
}

/* Members in the order of their names (RFC 8785), so that there is one text for what a record says. */
static void claims_write(struct buf *b, const struct jwt_policy *p, const struct ca_jwt *m, int64_t now, uint64_t index)
{
    struct cur c = cur_of(m->audiences.p, m->audiences.len);
    struct bytes one;
    buf_str(b, "{\"aud\":");
    for (char before = '['; tlog_audience_next(&c, &one); before = ',') {
        buf_u8(b, (uint8_t)before);
        jw_strn(b, (const char *)one.p, one.len);
    }
    buf_fmt(b, "],\"exp\":%lld,\"iat\":%lld,\"jti\":\"%u-%llu\",\"sub\":", (long long)(now + m->lifetime), (long long)now,
            (unsigned)p->config->log.number, (unsigned long long)index);
    jw_strn(b, (const char *)m->spiffe_id.p, m->spiffe_id.len);
    buf_u8(b, '}');
}

static size_t part_write(uint8_t *array, size_t cap, const struct buf *text)
{
    if (text->failed || B64URL_LEN(text->len) + SIGNATURE_LEN > cap)
        return 0;
    return b64url_encode((char *)array, text->p, text->len);
}

struct bytes jwt_build(uint8_t *array, size_t cap, struct buf *scratch, const struct jwt_policy *p, const struct ca_jwt *m,
                       int64_t now, uint64_t index)
{
    const struct bytes none = {array, 0};
    buf_reset(scratch);
    buf_fmt(scratch, "{\"alg\":\"ES256\",\"kid\":\"%s\",\"typ\":\"JWT\"}", p->kid);
    size_t n = part_write(array, cap, scratch);
    if (n == 0)
        return none;
    array[n++] = '.';
    buf_reset(scratch);
    claims_write(scratch, p, m, now, index);
    size_t claims = part_write(array + n, cap - n, scratch);
    return claims ? (struct bytes){array, n + claims} : none;
}
