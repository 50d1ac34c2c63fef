#include "audit/write.h"
#include "base/clock.h"
#include "base/json.h"
#include <stdio.h>
#include <string.h>

/* --- JSON --------------------------------------------------------------------------------------------- */

static void name(struct buf *b, const char *key)
{
    buf_u8(b, ',');
    jw_str(b, key);
    buf_u8(b, ':');
}

static void text(struct buf *b, const char *key, struct bytes v)
{
    if (v.len == 0)
        return;
    name(b, key);
    jw_strn(b, (const char *)v.p, v.len);
}

static void word(struct buf *b, const char *key, const char *v)
{
    text(b, key, (struct bytes){(const uint8_t *)v, v ? strlen(v) : 0});
}

static void number(struct buf *b, const char *key, int64_t v)
{
    if (v < 0)
        return;
    name(b, key);
    buf_fmt(b, "%lld", (long long)v);
}

static void hex(struct buf *b, const char *key, struct bytes v)
{
    if (v.len == 0)
        return;
    name(b, key);
    buf_u8(b, '"');
    buf_hex(b, v.p, v.len);
    buf_u8(b, '"');
}

static void names(struct buf *b, const struct audit_entry *t)
{
    name(b, "names");
    for (size_t i = 0; i < t->names_count; i++) {
        buf_u8(b, i ? ',' : '[');
        jw_strn(b, (const char *)t->names[i].p, t->names[i].len);
    }
    buf_str(b, t->names_count ? "]" : "[]");
}

/* A certificate's serial number names its entry: (log number << 48) | index. */
static void serial_text(char dst[17], const struct audit_entry *t, uint16_t log_number)
{
    *dst = 0;
    if (t->kind == AUDIT_ISSUED && log_number > 0)
        snprintf(dst, 17, "%llx", (unsigned long long)log_number << 48 | (unsigned long long)t->index);
}

static void issued(struct buf *b, const struct audit_entry *t, uint16_t log_number)
{
    char serial[17];
    serial_text(serial, t, log_number);
    word(b, "serial", serial);
    text(b, "spiffe_id", t->spiffe_id);
    names(b, t);
    number(b, "not_before", t->time);
    number(b, "not_after", t->not_after);
    hex(b, "spki_sha256", t->key);
    text(b, "attestor", t->attestor);
    hex(b, "evidence_sha256", t->ext.evidence);
    text(b, "entry_id", t->entry_id);
    if (t->entry_id.len > 0)
        number(b, "entry_revision", (int64_t)t->revision);
    text(b, "requester", t->agent);
    hex(b, "session_sha256", t->ext.session);
}

static void audiences(struct buf *b, struct bytes all)
{
    struct cur c = cur_of(all.p, all.len);
    struct bytes one;
    name(b, "audiences");
    buf_u8(b, '[');
    for (bool some = false; tlog_audience_next(&c, &one); some = true) {
        buf_str(b, some ? "," : "");
        jw_strn(b, (const char *)one.p, one.len);
    }
    buf_u8(b, ']');
}

static void jwt(struct buf *b, const struct audit_entry *t, uint16_t log_number)
{
    const struct tlog_record_info *r = &t->record;
    if (log_number > 0)
        buf_fmt(b, ",\"jti\":\"%u-%llu\"", log_number, (unsigned long long)t->index);
    word(b, "what", tlog_record_code(t->type, r->code));
    text(b, "spiffe_id", r->spiffe_id);
    audiences(b, r->audiences);
    number(b, "not_before", t->time);
    number(b, "not_after", t->not_after);
    text(b, "kid", r->kid);
    text(b, "attestor", r->attestor);
    hex(b, "evidence_sha256", r->evidence);
    text(b, "entry_id", r->entry_id);
    number(b, "entry_revision", (int64_t)r->revision);
    text(b, "requester", r->requester);
    hex(b, "session_sha256", r->session);
}

static void recorded(struct buf *b, const struct audit_entry *t)
{
    static const char *const code_is[AUDIT_KINDS] = {
        [AUDIT_REFUSED] = "stage", [AUDIT_REVOKED] = "by", [AUDIT_CHANGED] = "what", [AUDIT_AUTHORITY] = "what"};
    const struct tlog_record_info *r = &t->record;
    number(b, "time", t->time);
    word(b, code_is[t->kind], tlog_record_code(t->type, r->code));
    text(b, "value", r->value);
    if (t->kind == AUDIT_REVOKED)
        number(b, "reason", r->reason);
    text(b, "rule", r->rule);
    text(b, "why", r->why);
    text(b, "spiffe_id", r->spiffe_id);
    text(b, "attestor", r->attestor);
    text(b, "requester", r->requester);
    hex(b, "session_sha256", r->session);
    if (t->kind == AUDIT_REFUSED)
        number(b, "count", r->count);
    text(b, "entry_id", r->entry_id);
    if (t->kind == AUDIT_CHANGED) {
        number(b, "entry_revision", (int64_t)r->revision);
        number(b, "ttl", r->ttl);
        if (r->flags & TLOG_FLAG_AUDITOR)
            buf_str(b, ",\"auditor\":true");
    }
    text(b, "parent", r->parent);
    hex(b, "sha256", r->digest);
    text(b, "actor", r->actor);
    text(b, "comment", r->comment);
}

static void json_entry(struct buf *b, const struct audit_found *f, uint16_t log_number)
{
    const struct audit_entry *t = f->entry;
    buf_fmt(b, "{\"index\":%llu,\"outcome\":\"%s\",\"type\":%u", (unsigned long long)t->index, audit_kind_name(t->kind), t->type);
    if (t->kind == AUDIT_ISSUED)
        issued(b, t, log_number);
    else if (t->kind == AUDIT_JWT)
        jwt(b, t, log_number);
    else if (audit_kind_is_record(t->kind))
        recorded(b, t);
    buf_str(b, ",\"entry\":\"");
    buf_b64(b, t->raw.p, t->raw.len);
    buf_str(b, "\",\"proof\":[");
    for (size_t i = 0; i < f->path_len; i++) {
        buf_str(b, i ? ",\"" : "\"");
        buf_b64(b, f->path[i].b, sizeof f->path[i].b);
        buf_u8(b, '"');
    }
    buf_str(b, "]}");
}

/* --- CSV ----------------------------------------------------------------------------------------------- */

static const char header[] = "index,outcome,time,not_after,spiffe_id,names,agent,attestor,entry,revision,"
                             "key_sha256,serial,code,rule,detail,actor,count\r\n";

/* Certificates' names and extensions are checked by nobody for UTF-8, and are ASCII where they are
 * right; records' texts are UTF-8. */
static void cell_bytes(struct buf *b, struct bytes v, bool ascii)
{
    for (size_t i = 0; i < v.len; i++) {
        uint8_t c = v.p[i];
        if (c < 0x20 || c == 0x7f || (ascii && c > 0x7f))
            c = '?';
        if (c == '"')
            buf_u8(b, '"');
        buf_u8(b, c);
    }
}

static void cell(struct buf *b, struct bytes v, bool ascii)
{
    buf_u8(b, ',');
    if (v.len == 0)
        return;
    buf_u8(b, '"');
    if (memchr("=+-@", v.p[0], 4))
        buf_u8(b, '\'');
    cell_bytes(b, v, ascii);
    buf_u8(b, '"');
}

static void cell_word(struct buf *b, const char *v)
{
    cell(b, (struct bytes){(const uint8_t *)v, v ? strlen(v) : 0}, false);
}

static void cell_time(struct buf *b, int64_t t)
{
    char at[21] = "";
    if (t >= 0)
        clock_rfc3339(at, t);
    buf_u8(b, ',');
    buf_str(b, at);
}

static void cell_number(struct buf *b, bool has, uint64_t v)
{
    buf_u8(b, ',');
    if (has)
        buf_fmt(b, "%llu", (unsigned long long)v);
}

/* The names but the first URI, which has a cell of its own, with spaces between. */
static void cell_names(struct buf *b, const struct audit_entry *t)
{
    bool some = false;
    buf_u8(b, ',');
    for (size_t i = 0; i < t->names_count; i++) {
        if (t->names[i].p == t->spiffe_id.p || t->names[i].len == 0)
            continue;
        buf_str(b, some ? " " : memchr("=+-@", t->names[i].p[0], 4) ? "\"'" : "\"");
        cell_bytes(b, t->names[i], true);
        some = true;
    }
    if (some)
        buf_u8(b, '"');
}

/* With spaces between; the JSON tells them apart. */
static void cell_audiences(struct buf *b, struct bytes all)
{
    struct cur c = cur_of(all.p, all.len);
    struct bytes one;
    buf_u8(b, ',');
    for (bool some = false; tlog_audience_next(&c, &one); some = true) {
        buf_str(b, some ? " " : memchr("=+-@", one.p[0], 4) ? "\"'" : "\"");
        cell_bytes(b, one, false);
    }
    buf_u8(b, '"'); /* there is one at least */
}

static void cell_detail(struct buf *b, const struct audit_entry *t, bool record)
{
    const struct tlog_record_info *r = &t->record;
    if (t->kind == AUDIT_JWT)
        cell_audiences(b, r->audiences);
    else
        cell(b, !record ? (struct bytes){NULL, 0} : t->kind == AUDIT_REFUSED ? r->why : r->value, false);
}

static void csv_entry(struct buf *b, const struct audit_found *f, uint16_t log_number)
{
    const struct audit_entry *t = f->entry;
    const struct tlog_record_info *r = &t->record;
    bool certificate = t->kind == AUDIT_ISSUED, record = audit_kind_is_record(t->kind);
    char key[HEX_LEN(32) + 1] = "", serial[17];
    hex_encode(key, t->key.p, t->key.len);
    serial_text(serial, t, log_number);
    buf_fmt(b, "%llu,%s", (unsigned long long)t->index, audit_kind_name(t->kind));
    cell_time(b, t->time);
    cell_time(b, t->not_after);
    cell(b, t->spiffe_id, certificate);
    cell_names(b, t);
    cell(b, t->agent, certificate);
    cell(b, t->attestor, certificate);
    cell(b, t->entry_id, certificate);
    bool revised = certificate || t->kind == AUDIT_CHANGED || t->kind == AUDIT_JWT;
    cell_number(b, t->entry_id.len > 0 && revised, t->revision);
    cell_word(b, key);
    cell_word(b, serial);
    cell_word(b, record ? tlog_record_code(t->type, r->code) : NULL);
    cell(b, t->rule, false);
    cell_detail(b, t, record);
    cell(b, record ? r->actor : (struct bytes){NULL, 0}, false);
    cell_number(b, t->kind == AUDIT_REFUSED, r->count);
    buf_str(b, "\r\n");
}

/* --- the answer ------------------------------------------------------------------------------------------ */

void audit_write_begin(struct audit_writer *w, const struct tlog_reader *r, uint64_t indexed)
{
    struct bytes note = tlog_reader_note(r);
    w->written = 0;
    if (w->format == AUDIT_CSV) {
        buf_str(w->out, header);
        return;
    }
    buf_str(w->out, "{\"checkpoint\":");
    jw_strn(w->out, (const char *)note.p, note.len);
    buf_fmt(w->out, ",\"size\":%llu,\"indexed\":%llu%s", (unsigned long long)tlog_reader_head(r)->size,
            (unsigned long long)indexed, w->format == AUDIT_JSON ? ",\"entries\":[" : "}\n");
}

void audit_write_entry(struct audit_writer *w, const struct audit_found *f)
{
    if (w->format == AUDIT_CSV) {
        csv_entry(w->out, f, w->log_number);
    } else {
        if (w->format == AUDIT_JSON && w->written > 0)
            buf_u8(w->out, ',');
        json_entry(w->out, f, w->log_number);
        if (w->format == AUDIT_JSONL)
            buf_u8(w->out, '\n');
    }
    w->written++;
}

void audit_write_end(struct audit_writer *w, const char *next)
{
    if (w->format == AUDIT_JSON)
        buf_fmt(w->out, *next ? "],\"next\":\"%s\"}" : "]}", next);
    else if (w->format == AUDIT_JSONL && *next)
        buf_fmt(w->out, "{\"next\":\"%s\"}\n", next);
}

/* --- statistics -------------------------------------------------------------------------------------------- */

static void counts(struct buf *b, const char *key, const struct audit_count *c, size_t n)
{
    name(b, key);
    for (size_t i = 0; i < n; i++)
        buf_fmt(b, "%s{\"start\":%lld,\"issued\":%llu,\"refused\":%llu,\"revoked\":%llu}", i ? "," : "[", (long long)c[i].start,
                (unsigned long long)c[i].issued, (unsigned long long)c[i].refused, (unsigned long long)c[i].revoked);
    buf_u8(b, ']');
}

void audit_write_stats(struct buf *out, const struct audit_stats *s)
{
    buf_fmt(out, "{\"indexed\":%llu", (unsigned long long)s->indexed);
    counts(out, "hours", s->hours, AUDIT_HOURS);
    counts(out, "days", s->days, AUDIT_DAYS);
    name(out, "lifetimes");
    for (size_t i = 0; i < AUDIT_LIFETIMES; i++) {
        buf_str(out, i ? ",{\"up_to\":" : "[{\"up_to\":");
        if (s->lifetimes[i].up_to > 0)
            buf_fmt(out, "%u", s->lifetimes[i].up_to);
        else
            buf_str(out, "null");
        buf_fmt(out, ",\"count\":%llu}", (unsigned long long)s->lifetimes[i].count);
    }
    buf_str(out, "]}");
}
