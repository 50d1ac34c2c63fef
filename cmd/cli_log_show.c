/* mayfly log show: one entry, verified, for people or as JSON (audit/write.h). */
#include "audit/write.h"
#include "base/clock.h"
#include "cmd/cli_log.h"
#include "tlog/reader.h"
#include <stdio.h>
#include <string.h>

#define COMMAND "mayfly log show"
#define ENTRY_JSON_MAX (1u << 20)

static const char help[] =
    "usage: " COMMAND " INDEX [OPTION...]\n"
    "\n"
    "One entry of the log: a certificate, or a record of a refusal, a revocation or a change. Its\n"
    "inclusion under the signed head is verified before it is shown. A certificate's serial number\n"
    "ends with the index of its entry, in hex.\n"
    "\n" CLI_LOG_HELP
    "\n"
    "Example:\n"
    "  " COMMAND " 3 --dir ./authority\n";

/* --- for people ------------------------------------------------------------------------------------- */

/* Nobody has checked a certificate's names: what a terminal would obey is not printed. */
static void row(const char *what, struct bytes v)
{
    char text[TLOG_NAME_MAX + 1];
    if (v.len == 0)
        return;
    tlog_text_clean(text, sizeof text, (const char *)v.p, v.len);
    printf("  %-11s %s\n", what, text);
}

static void row_entry(struct bytes id, uint64_t revision)
{
    char text[128];
    if (id.len == 0)
        return;
    tlog_text_clean(text, sizeof text, (const char *)id.p, id.len);
    printf("  %-11s %s, revision %llu\n", "entry", text, (unsigned long long)revision);
}

static void row_time(const char *what, int64_t at)
{
    char when[64];
    if (at < 0)
        return;
    cli_when(when, sizeof when, at);
    printf("  %-11s %s\n", what, when);
}

static void row_hex(const char *what, struct bytes v)
{
    char hex[HEX_LEN(32) + 1];
    if (v.len != 32)
        return;
    hex_encode(hex, v.p, v.len);
    printf("  %-11s %s\n", what, hex);
}

static void show_certificate(const struct audit_entry *t)
{
    for (size_t i = 0; i < t->names_count; i++)
        row(i ? "" : "names", t->names[i]);
    row_time("valid from", t->time);
    row_time("valid to", t->not_after);
    row_hex("key SHA-256", t->key);
    row("attestor", t->attestor);
    row_entry(t->entry_id, t->revision);
    row("requester", t->agent);
    row_hex("session", t->ext.session);
}

static void show_record(const struct audit_entry *t)
{
    static const char *const code_is[AUDIT_KINDS] = {
        [AUDIT_REFUSED] = "stage", [AUDIT_REVOKED] = "by", [AUDIT_CHANGED] = "what", [AUDIT_AUTHORITY] = "what"};
    const struct tlog_record_info *r = &t->record;
    const char *code = tlog_record_code(t->type, r->code);
    row_time("time", t->time);
    if (code)
        printf("  %-11s %s\n", code_is[t->kind], code);
    row("value", r->value);
    row("SPIFFE ID", r->spiffe_id);
    row_entry(r->entry_id, r->revision);
    row("parent", r->parent);
    row("rule", r->rule);
    row("why", r->why);
    if (t->kind == AUDIT_REFUSED && r->count > 1)
        printf("  %-11s %u, alike\n", "times", r->count);
    if (t->kind == AUDIT_REVOKED)
        printf("  %-11s %u (RFC 5280)\n", "reason", r->reason);
    row("attestor", r->attestor);
    row("requester", r->requester);
    row_hex("session", r->session);
    row_hex("SHA-256", r->digest);
    if (r->flags & TLOG_FLAG_AUDITOR)
        printf("  %-11s %s\n", "auditor", "its SVIDs may search the log");
    row("by", r->actor);
    row("comment", r->comment);
}

static void show_jwt(const struct audit_entry *t)
{
    const struct tlog_record_info *r = &t->record;
    struct cur c = cur_of(r->audiences.p, r->audiences.len);
    struct bytes one;
    row("SPIFFE ID", r->spiffe_id);
    for (bool first = true; tlog_audience_next(&c, &one); first = false)
        row(first ? "for" : "", one);
    row_time("valid from", t->time);
    row_time("valid to", t->not_after);
    row("key (kid)", r->kid);
    row("attestor", r->attestor);
    row_entry(r->entry_id, r->revision);
    row("requester", r->requester);
    row_hex("session", r->session);
}

static const char *type_words(const struct audit_entry *t)
{
    static const char *const words[AUDIT_KINDS] = {
        [AUDIT_ISSUED] = "certificate",      [AUDIT_REFUSED] = "refusal",
        [AUDIT_REVOKED] = "revocation",      [AUDIT_CHANGED] = "change of a registration entry",
        [AUDIT_AUTHORITY] = "change of the authority",
        [AUDIT_JWT] = "JWT-SVID",
        [AUDIT_NULL] = "null entry (every log starts with it)",
        [AUDIT_OTHER] = "of no form that this program knows"};
    return words[t->kind];
}

static void show_people(const struct audit_entry *t, const struct tlog_checkpoint *head)
{
    printf("entry %llu of %s, inclusion verified under the head of size %llu\n", (unsigned long long)t->index,
           head->origin, (unsigned long long)head->size);
    printf("  %-11s %s\n", "type", type_words(t));
    if (t->kind == AUDIT_ISSUED)
        show_certificate(t);
    else if (t->kind == AUDIT_JWT)
        show_jwt(t);
    else if (audit_kind_is_record(t->kind))
        show_record(t);
}

/* --- for programs ------------------------------------------------------------------------------------- */

static int show_json(const struct audit_found *f, const struct tlog_reader *r, uint16_t log_number, struct err *e)
{
    struct buf out;
    buf_init(&out, ENTRY_JSON_MAX);
    struct audit_writer w = {.out = &out, .format = AUDIT_JSON, .log_number = log_number};
    audit_write_begin(&w, r, tlog_reader_head(r)->size);
    audit_write_entry(&w, f);
    audit_write_end(&w, "");
    int rc = out.failed ? err_set(e, ERR_INTERNAL, "memory", "no room for the entry") : 0;
    if (rc == 0) {
        fwrite(out.p, 1, out.len, stdout);
        if (out.len && out.p[out.len - 1] != '\n')
            putchar('\n');
    }
    buf_free(&out);
    return rc;
}

static int show(struct log_args *a, uint64_t index, struct err *e)
{
    struct tlog_reader *r = NULL;
    struct tlog_hash path[TLOG_LEVELS];
    struct bytes raw;
    struct audit_entry t;
    struct audit_found f = {.entry = &t, .path = path};
    int rc = tlog_reader_open_at(&r, &a->at, &a->vkey, e);
    if (rc == 0)
        rc = tlog_reader_entry(r, index, &raw, path, &f.path_len, e);
    if (rc < 0) {
        log_unverified(e);
    } else {
        audit_entry_decode(&t, index, raw);
        if (a->cli.json)
            rc = show_json(&f, r, a->config ? (uint16_t)a->config->log.number : 0, e);
        else
            show_people(&t, tlog_reader_head(r));
    }
    tlog_reader_close(r);
    return rc;
}

int cli_log_show(int argc, char **argv)
{
    static const struct option options[] = {CLI_LOG_OPTIONS};
    struct log_args a = {0};
    struct err e = {0};
    long index = 0;
    for (int o; (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;)
        if (!log_args_option(&a, o, help))
            return ARGS_USAGE;
    int rc = optind + 1 == argc ? args_number(argv[optind], 0, (1L << 48) - 1, "INDEX", &index, &e)
                                : err_set(&e, ERR_USAGE, "arguments", "one INDEX is needed, e.g. '" COMMAND " 3'");
    if (rc == 0)
        rc = log_args_load(&a, &e);
    if (rc == 0)
        rc = show(&a, (uint64_t)index, &e);
    int code = rc < 0 ? cli_fail(&a.cli, COMMAND, &e) : ARGS_OK;
    log_args_free(&a);
    return code;
}
