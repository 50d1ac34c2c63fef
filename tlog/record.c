/* Record entries, both directions. */
#include "tlog/record.h"
#include <stddef.h>
#include <string.h>

enum form { F_END, F_TIME, F_CODE, F_U8, F_U32, F_U64, F_TEXT8, F_TEXT16, F_HASH, F_DIGEST, F_FLAGS, F_EXPIRES, F_AUDIENCES };
struct field {
    enum form form;
    size_t at;       /* in struct tlog_record_info */
    uint16_t max;    /* of a text, in bytes; of flags, the known ones */
    bool must;       /* a text that may not be empty */
    const char *name;
};
struct layout {
    uint16_t type;
    const char *kind;
    const char *const *codes; /* by code, from 1; ended by NULL */
    struct field fields[14];
};
#define AT(f) offsetof(struct tlog_record_info, f)

static const char *const by[] = {"serial", "spiffe_id", "prefix", "entry", "agent", "key", NULL};
static const char *const stages[] = {"attestation", "registration", "policy", "signer", NULL};
static const char *const changes[] = {"created", "updated", "deleted", NULL};
static const char *const authorities[] = {"root", "issuing", "crl", "policy", "clock", "jwt_key", NULL};
static const char *const jwts[] = {"svid", NULL};

/* The specification, in the order of the bytes. */
static const struct layout layouts[] = {
    {TLOG_ENTRY_REVOCATION, "revocation", by,
     {{F_TIME, AT(time), 0, true, "time"},
      {F_CODE, AT(code), 0, true, "by"},
      {F_TEXT16, AT(value), TLOG_NAME_MAX, true, "value"},
      {F_U8, AT(reason), 0, true, "reason"},
      {F_TEXT8, AT(actor), TLOG_ACTOR_MAX, true, "actor"},
      {F_TEXT16, AT(comment), TLOG_COMMENT_MAX, false, "comment"}}},
    {TLOG_ENTRY_REFUSAL, "refusal", stages,
     {{F_TIME, AT(time), 0, true, "time"},
      {F_CODE, AT(code), 0, true, "stage"},
      {F_TEXT8, AT(rule), TLOG_RULE_MAX, true, "rule"},
      {F_TEXT16, AT(why), TLOG_WHY_MAX, true, "why"},
      {F_TEXT16, AT(spiffe_id), TLOG_NAME_MAX, false, "spiffe_id"},
      {F_TEXT8, AT(attestor), 32, false, "attestor"},
      {F_TEXT16, AT(requester), TLOG_NAME_MAX, false, "requester"},
      {F_HASH, AT(session), 0, false, "session"},
      {F_U32, AT(count), 0, true, "count"}}},
    {TLOG_ENTRY_CHANGE, "entry", changes,
     {{F_TIME, AT(time), 0, true, "time"},
      {F_CODE, AT(code), 0, true, "what"},
      {F_TEXT8, AT(entry_id), 64, true, "entry_id"},
      {F_U64, AT(revision), 0, true, "revision"},
      {F_TEXT16, AT(spiffe_id), TLOG_NAME_MAX, true, "spiffe_id"},
      {F_TEXT16, AT(parent), TLOG_NAME_MAX, false, "parent"},
      {F_U32, AT(ttl), 0, false, "ttl"},
      {F_DIGEST, AT(digest), 0, true, "digest"},
      {F_TEXT8, AT(actor), TLOG_ACTOR_MAX, true, "actor"},
      {F_FLAGS, AT(flags), TLOG_FLAG_AUDITOR, false, "flags"}}},
    {TLOG_ENTRY_AUTHORITY, "authority", authorities,
     {{F_TIME, AT(time), 0, true, "time"},
      {F_CODE, AT(code), 0, true, "what"},
      {F_TEXT16, AT(value), TLOG_NAME_MAX, false, "value"},
      {F_DIGEST, AT(digest), 0, true, "digest"}}},
    {TLOG_ENTRY_JWT, "jwt", jwts,
     {{F_TIME, AT(time), 0, true, "time"},
      {F_CODE, AT(code), 0, true, "what"},
      {F_EXPIRES, AT(expires), 0, true, "expires"},
      {F_TEXT16, AT(spiffe_id), TLOG_NAME_MAX, true, "spiffe_id"},
      {F_AUDIENCES, AT(audiences), TLOG_AUDIENCES_BYTES, true, "audiences"},
      {F_TEXT8, AT(kid), TLOG_KID_MAX, true, "kid"},
      {F_TEXT8, AT(attestor), 32, false, "attestor"},
      {F_HASH, AT(evidence), 0, false, "evidence"},
      {F_TEXT8, AT(entry_id), 64, true, "entry_id"},
      {F_U64, AT(revision), 0, true, "revision"},
      {F_TEXT16, AT(requester), TLOG_NAME_MAX, false, "requester"},
      {F_HASH, AT(session), 0, false, "session"}}},
};

static const struct layout *layout_of(uint16_t type)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i].type == type)
            return &layouts[i];
    return NULL;
}

bool tlog_record_is(uint16_t type)
{
    return layout_of(type) != NULL;
}

const char *tlog_record_kind(uint16_t type)
{
    const struct layout *l = layout_of(type);
    return l ? l->kind : NULL;
}

const char *tlog_record_code(uint16_t type, uint8_t code)
{
    const struct layout *l = layout_of(type);
    size_t known = 0;
    while (l && l->codes[known])
        known++;
    return code >= 1 && code <= known ? l->codes[code - 1] : NULL;
}

static int refuse(const struct layout *l, const struct field *f, const char *why, struct err *e)
{
    return err_set(e, ERR_MALFORMED, "record-format", "not a %s record: %s %s", l->kind, f->name, why);
}

/* --- what a field may hold -------------------------------------------------------------------------- */

/* Length of the UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates), 0: none. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    static const struct {
        uint8_t from, to, low, high; /* first byte; second byte */
        size_t len;
    } forms[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
                 {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
                 {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    if (*p >= 0x20 && *p < 0x7f)
        return 1;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t n = forms[i].len;
        if (*p < forms[i].from || *p > forms[i].to)
            continue;
        bool ok = n <= left && p[1] >= forms[i].low && p[1] <= forms[i].high &&
                  !(*p == 0xc2 && p[1] < 0xa0); /* C1 controls */
        for (size_t k = 2; ok && k < n; k++)
            ok = p[k] >= 0x80 && p[k] <= 0xbf;
        return ok ? n : 0;
    }
    return 0;
}

static bool printable(struct bytes s)
{
    for (size_t i = 0; i < s.len;) {
        size_t n = utf8_sequence(s.p + i, s.len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

size_t tlog_text_clean(char *dst, size_t cap, const char *src, size_t len)
{
    size_t used = 0;
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence((const uint8_t *)src + i, len - i);
        size_t want = n ? n : 1;
        if (used + want >= cap)
            break;
        memcpy(dst + used, n ? src + i : "?", want);
        used += want;
        i += want;
    }
    dst[used] = 0;
    return used;
}

static int text_check(const struct layout *l, const struct field *f, struct bytes s, struct err *e)
{
    if (s.len > f->max)
        return refuse(l, f, "is too long", e);
    if (s.len == 0 && f->must)
        return refuse(l, f, "is empty", e);
    return printable(s) ? 0 : refuse(l, f, "is no printable UTF-8", e);
}

bool tlog_audience_next(struct cur *audiences, struct bytes *audience)
{
    return cur_left(audiences) > 0 && cur_vec8(audiences, audience) == 0;
}

static int audiences_check(const struct layout *l, const struct field *f, struct bytes all, struct err *e)
{
    struct cur c = cur_of(all.p, all.len);
    struct bytes one;
    size_t n = 0;
    if (all.len > f->max)
        return refuse(l, f, "are too long", e);
    for (; tlog_audience_next(&c, &one); n++)
        if (one.len == 0 || !printable(one))
            return refuse(l, f, "have one that is empty or no printable UTF-8", e);
    if (!cur_done(&c) || n == 0 || n > TLOG_AUDIENCES_MAX)
        return refuse(l, f, "are none, too many, or cut short", e);
    return 0;
}

static int field_check(const struct layout *l, const struct field *f, const struct tlog_record_info *r,
                       struct err *e)
{
    const void *at = (const char *)r + f->at;
    switch (f->form) {
    case F_TIME:
        return r->time >= 0 ? 0 : refuse(l, f, "is before 1970", e);
    case F_CODE:
        return tlog_record_code(l->type, r->code) ? 0 : refuse(l, f, "is of no known kind", e);
    case F_U8: /* RFC 5280 §5.3.1: 0..10 without 7, and removeFromCRL (8) means nothing here */
        return r->reason <= 10 && r->reason != 7 && r->reason != 8 ? 0 : refuse(l, f, "is no reason code", e);
    case F_U32:
        return !f->must || *(const uint32_t *)at > 0 ? 0 : refuse(l, f, "is 0", e);
    case F_TEXT8:
    case F_TEXT16:
        return text_check(l, f, *(const struct bytes *)at, e);
    case F_HASH: {
        const struct bytes *hash = at;
        return hash->len == 0 || hash->len == 32 ? 0 : refuse(l, f, "is not 32 bytes", e);
    }
    case F_EXPIRES:
        return r->expires > r->time ? 0 : refuse(l, f, "is not after its time", e);
    case F_AUDIENCES:
        return audiences_check(l, f, r->audiences, e);
    case F_DIGEST:
        return r->digest.len == 32 ? 0 : refuse(l, f, "is not 32 bytes", e);
    case F_FLAGS:
        return (r->flags & ~f->max) == 0 ? 0 : refuse(l, f, "are not all known", e);
    case F_U64:
    case F_END:
        break;
    }
    return 0;
}

/* --- both directions -------------------------------------------------------------------------------- */

static void field_read(const struct field *f, struct tlog_record_info *r, struct cur *c)
{
    void *at = (char *)r + f->at;
    uint64_t time;
    switch (f->form) {
    case F_TIME:
    case F_EXPIRES:
        if (cur_u64(c, &time) == 0)
            *(int64_t *)at = time <= INT64_MAX ? (int64_t)time : -1;
        break;
    case F_CODE:
    case F_U8:
        cur_u8(c, at);
        break;
    case F_U32:
        cur_u32(c, at);
        break;
    case F_U64:
        cur_u64(c, at);
        break;
    case F_TEXT8:
    case F_HASH:
        cur_vec8(c, at);
        break;
    case F_TEXT16:
    case F_AUDIENCES:
        cur_vec16(c, at);
        break;
    case F_DIGEST:
        cur_take(c, 32, at);
        break;
    case F_FLAGS: /* there when not 0 only, so that every change has one form */
        if (cur_left(c) > 0 && cur_u8(c, at) == 0 && r->flags == 0)
            c->failed = true;
        break;
    case F_END:
        break;
    }
}

static void field_write(const struct field *f, const struct tlog_record_info *r, struct buf *out)
{
    const void *at = (const char *)r + f->at;
    const struct bytes *s = at;
    switch (f->form) {
    case F_TIME:
    case F_EXPIRES:
        buf_u64(out, (uint64_t)*(const int64_t *)at);
        break;
    case F_CODE:
    case F_U8:
        buf_u8(out, *(const uint8_t *)at);
        break;
    case F_U32:
        buf_u32(out, *(const uint32_t *)at);
        break;
    case F_U64:
        buf_u64(out, *(const uint64_t *)at);
        break;
    case F_TEXT8:
    case F_HASH:
        buf_vec8(out, s->p, s->len);
        break;
    case F_TEXT16:
    case F_AUDIENCES:
        buf_vec16(out, s->p, s->len);
        break;
    case F_DIGEST:
        buf_put(out, s->p, s->len);
        break;
    case F_FLAGS:
        if (r->flags)
            buf_u8(out, r->flags);
        break;
    case F_END:
        break;
    }
}

int tlog_record_parse(struct tlog_record_info *r, uint16_t type, struct bytes body, struct err *e)
{
    const struct layout *l = layout_of(type);
    memset(r, 0, sizeof *r);
    r->type = type;
    if (!l)
        return err_set(e, ERR_MALFORMED, "record-format", "entry type 0x%04x is no record", type);
    if (body.len > TLOG_RECORD_MAX)
        return err_set(e, ERR_TOO_LARGE, "record-format", "a record has at most %d bytes", TLOG_RECORD_MAX);
    struct cur c = cur_of(body.p, body.len);
    for (const struct field *f = l->fields; f->form != F_END; f++) {
        field_read(f, r, &c);
        if (c.failed)
            return refuse(l, f, "runs past the end", e);
        if (field_check(l, f, r, e) < 0)
            return -1;
    }
    return cur_done(&c) ? 0
                        : err_set(e, ERR_MALFORMED, "record-format", "bytes are left after a %s record", l->kind);
}

int tlog_record_write(const struct tlog_record_info *r, struct buf *out, struct err *e)
{
    const struct layout *l = layout_of(r->type);
    if (!l)
        return err_set(e, ERR_MALFORMED, "record-format", "entry type 0x%04x is no record", r->type);
    for (const struct field *f = l->fields; f->form != F_END; f++) {
        if (field_check(l, f, r, e) < 0)
            return -1;
        field_write(f, r, out);
    }
    return out->failed ? err_set(e, ERR_INTERNAL, "memory", "no room for a %s record", l->kind) : 0;
}
