#include "ca/notices.h"
#include "base/fault.h"
#include "base/fileio.h"
#include "base/log.h"
#include "tlog/reader.h"
#include "tlog/record.h"
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLICY_MAX 65536
#define CUT " …"
#define POLICY_STATE "policy"
#define JWT_STATE "jwt-key"
#define STATE_MAX 64

/* --- the policy -------------------------------------------------------------------------------------- */

void notices_policy(const struct config *c, struct buf *out)
{
    buf_fmt(out, "trust_domain=%s max_lifetime=%u rate=%u", c->trust_domain, c->ca.max_lifetime, c->ca.rate);
    for (size_t i = 0; i < c->ca.permitted_dns_count; i++)
        buf_fmt(out, " permitted_dns=%s", c->ca.permitted_dns[i]);
    for (size_t i = 0; i < c->names_count; i++)
        buf_fmt(out, " name=%s", c->names[i]);
    buf_fmt(out, " crl_short_limit=%u crl_shards=%u crl_lifetime=%u", c->crl.short_limit, c->crl.shards, c->crl.lifetime);
    buf_fmt(out, " quorum=%u", c->witnesses.quorum);
    for (size_t i = 0; i < c->witnesses.count; i++)
        buf_fmt(out, " witness=%s", c->witnesses.list[i].vkey);
}

/* As much of the text as a record's value takes, in whole words. */
static struct bytes policy_value(const struct buf *text, char value[TLOG_NAME_MAX])
{
    size_t n = text->len;
    if (n <= TLOG_NAME_MAX)
        return (struct bytes){text->p, n};
    for (n = TLOG_NAME_MAX - (sizeof CUT - 1); n > 0 && text->p[n] != ' ';)
        n--;
    memcpy(value, text->p, n);
    memcpy(value + n, CUT, sizeof CUT - 1);
    return (struct bytes){(const uint8_t *)value, n + sizeof CUT - 1};
}

static void policy_record(struct tlog_record_info *r, const struct buf *text, char value[TLOG_NAME_MAX],
                          uint8_t digest[32])
{
    SHA256(text->p, text->len, digest);
    *r = (struct tlog_record_info){.type = TLOG_ENTRY_AUTHORITY,
                                   .code = TLOG_NEW_POLICY,
                                   .value = policy_value(text, value),
                                   .digest = {digest, 32}};
}

/* --- what the log was told last ---------------------------------------------------------------------------- */

static int state_path(const struct config *c, const char *state, char path[4096], struct err *e)
{
    int n = snprintf(path, 4096, "%s/%s", c->log.dir, state);
    return n > 0 && n < 4096 ? 0 : err_set(e, ERR_CONFIG, "path", "the path of the log's folder is too long");
}

static bool state_read(const struct config *c, const char *state, uint64_t *index)
{
    char path[4096];
    struct err ignored = {0};
    struct buf b;
    buf_init(&b, STATE_MAX);
    bool ok = state_path(c, state, path, &ignored) == 0 && file_read(&b, path, STATE_MAX - 1, &ignored) == 0 && buf_cstr(&b);
    char *end = NULL;
    if (ok)
        *index = strtoull(buf_cstr(&b), &end, 10);
    ok = ok && end != buf_cstr(&b) && strcmp(end, "\n") == 0;
    buf_free(&b);
    return ok;
}

/* What fails here costs one more record after the next start. */
static void state_write(const struct config *c, const char *state, uint64_t index)
{
    char path[4096], text[STATE_MAX];
    struct err e = {0};
    int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)index);
    if (state_path(c, state, path, &e) < 0 || file_write_atomic(path, text, (size_t)n, 0644, false, &e) < 0)
        log_err(LOG_WARN, "where the log has the policy or the JWT key is not remembered", &e);
}

/* Before the log is told of another policy: an index that was once right would hide that one from the start
 * after a crash, where the configuration is the former again. */
static int state_forget(const struct config *c, const char *state, struct err *e)
{
    char path[4096];
    if (state_path(c, state, path, e) < 0)
        return -1;
    if (unlink(path) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "log-io", "cannot remove %s", path);
    return file_sync_dir(c->log.dir, e);
}

/* Whether the entry there says this digest; and since when. */
static bool same_there(const struct config *c, const struct tlog_vkey *k, uint64_t index, uint8_t code,
                       const uint8_t digest[32], int64_t *since)
{
    const struct tlog_place at = {.dir = c->log.dir, .archive = c->log.archive};
    struct tlog_reader *log;
    struct tlog_hash path[TLOG_LEVELS];
    size_t path_len;
    struct bytes raw;
    struct tlog_entry t;
    struct tlog_record_info r;
    struct err ignored = {0};
    if (tlog_reader_open_at(&log, &at, k, &ignored) < 0)
        return false;
    bool same = tlog_reader_entry(log, index, &raw, path, &path_len, &ignored) == 0 &&
                tlog_entry_parse(&t, raw.p, raw.len, &ignored) == 0 && t.type == TLOG_ENTRY_AUTHORITY &&
                tlog_record_parse(&r, t.type, t.body, &ignored) == 0 && r.code == code &&
                bytes_eq(r.digest, digest, 32);
    if (same)
        *since = r.time;
    tlog_reader_close(log);
    return same;
}

static bool told_already(const struct notices *n, struct bytes vkey, const char *state, uint8_t code, struct bytes text,
                         int64_t *since)
{
    struct tlog_vkey k = {0};
    struct err ignored = {0};
    uint8_t digest[32];
    uint64_t index;
    SHA256(text.p, text.len, digest);
    bool told = state_read(n->config, state, &index) &&
                tlog_vkey_parse(&k, (const char *)vkey.p, vkey.len, &ignored) == 0 &&
                same_there(n->config, &k, index, code, digest, since);
    tlog_vkey_free(&k);
    return told;
}

int notices_init(struct notices *n, const struct notices_facts *f, struct err *e)
{
    int64_t ignored;
    *n = (struct notices){.config = f->config, .log = f->log, .ahead = f->ahead,
                          .jwt_kid = f->jwt_kid ? f->jwt_kid : "", .jwt_key = f->jwt_key};
    buf_init(&n->policy, POLICY_MAX);
    notices_policy(f->config, &n->policy);
    if (n->policy.failed)
        return err_set(e, ERR_CONFIG, "policy-size", "ca.permitted_dns and the witnesses are over %d bytes together", POLICY_MAX);
    if (told_already(n, f->vkey, POLICY_STATE, TLOG_NEW_POLICY, (struct bytes){n->policy.p, n->policy.len}, &ignored))
        buf_reset(&n->policy);
    if (*n->jwt_kid && told_already(n, f->vkey, JWT_STATE, TLOG_NEW_JWT_KEY, n->jwt_key, &n->jwt_since))
        n->jwt_kid = "";
    return 0;
}

void notices_free(struct notices *n)
{
    buf_free(&n->policy);
}

/* --- telling --------------------------------------------------------------------------------------------- */

static int entry_write(struct buf *out, const struct tlog_record_info *r, struct err *e)
{
    const struct tlog_entry t = {.type = r->type};
    buf_init(out, TLOG_ENTRY_MAX);
    tlog_entry_write(&t, out); /* the envelope; the body follows it */
    return tlog_record_write(r, out, e);
}

static int clock_entry(struct buf *out, int64_t ahead, int64_t now, struct err *e)
{
    char text[24];
    uint8_t digest[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)ahead);
    SHA256((const uint8_t *)text, (size_t)n, digest);
    const struct tlog_record_info r = {.type = TLOG_ENTRY_AUTHORITY,
                                       .time = now,
                                       .code = TLOG_CLOCK_BACK,
                                       .value = {(const uint8_t *)text, (size_t)n},
                                       .digest = {digest, sizeof digest}};
    return entry_write(out, &r, e);
}

static int policy_entry(struct buf *out, const struct buf *text, int64_t now, struct err *e)
{
    char value[TLOG_NAME_MAX];
    uint8_t digest[32];
    struct tlog_record_info r;
    policy_record(&r, text, value, digest);
    r.time = now;
    return entry_write(out, &r, e);
}

static int jwt_entry(struct buf *out, const char *kid, struct bytes key, int64_t now, struct err *e)
{
    uint8_t digest[32];
    SHA256(key.p, key.len, digest);
    const struct tlog_record_info r = {.type = TLOG_ENTRY_AUTHORITY,
                                       .time = now,
                                       .code = TLOG_NEW_JWT_KEY,
                                       .value = {(const uint8_t *)kid, strlen(kid)},
                                       .digest = {digest, sizeof digest}};
    return entry_write(out, &r, e);
}

/* Where the log has the new ones now. */
static void remember(struct notices *n, bool policy, bool jwt, uint64_t last, int64_t now)
{
    if (jwt) {
        state_write(n->config, JWT_STATE, last);
        log_info("the log was told of the key of JWT-SVIDs", "index", log_num((long long)last), "kid", n->jwt_kid, NULL);
        n->jwt_since = now;
        n->jwt_kid = "";
        last--;
    }
    if (policy) {
        state_write(n->config, POLICY_STATE, last);
        log_info("the log was told of the policy", "index", log_num((long long)last), "policy", buf_cstr(&n->policy), NULL);
        buf_reset(&n->policy);
    }
    n->ahead = 0;
}

int notices_tell(struct notices *n, int64_t now, struct err *e)
{
    struct buf entries[3];
    struct bytes views[3];
    const bool policy = n->policy.len > 0, jwt = *n->jwt_kid;
    size_t count = 0;
    uint64_t first = 0;
    int rc = 0;
    if (n->ahead) /* first: so that what follows is no step back */
        rc = clock_entry(&entries[count++], n->ahead, now, e);
    if (rc == 0 && policy)
        rc = policy_entry(&entries[count++], &n->policy, now, e);
    if (rc == 0 && jwt)
        rc = jwt_entry(&entries[count++], n->jwt_kid, n->jwt_key, now, e);
    for (size_t i = 0; i < count; i++)
        views[i] = (struct bytes){entries[i].p, entries[i].len};
    if (rc == 0 && policy)
        rc = state_forget(n->config, POLICY_STATE, e);
    if (rc == 0 && jwt)
        rc = state_forget(n->config, JWT_STATE, e);
    if (rc == 0 && count > 0)
        rc = tlog_append(n->log, views, count, &first, e);
    if (rc == 0 && FAULT("notices-told"))
        rc = err_set(e, ERR_INTERNAL, "fault", "fault point notices-told");
    if (rc == 0)
        remember(n, policy, jwt, first + count - 1, now);
    for (size_t i = 0; i < count; i++)
        buf_free(&entries[i]);
    return rc;
}
