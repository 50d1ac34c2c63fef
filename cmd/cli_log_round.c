#include "base/clock.h"
#include "base/fileio.h"
#include "cmd/cli_log_monitor.h"
#include "tlog/audit.h"
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define COMMAND MONITOR_COMMAND
#define COSIGNED_TRIES 5 /* witnesses follow the head by a moment */
#define COSIGNED_WAIT_MS 400
#define MOVED_TRIES 5

/* --- alerts --------------------------------------------------------------------------------------- */

static void on_rule(void *arg, const struct audit_entry *t, const struct err *why)
{
    struct monitor *m = arg;
    alerts_add(&m->alerts, why, t);
}

static void on_finding(void *arg, uint64_t index, const struct err *why)
{
    struct monitor *m = arg;
    static const struct audit_entry none = {.time = -1};
    struct audit_entry *t = &m->entry;
    *t = none;
    t->index = index;
    alerts_add(&m->alerts, why, t);
}

static int on_entry(void *arg, uint64_t index, struct bytes raw, struct err *e)
{
    struct monitor *m = arg;
    audit_entry_decode(&m->entry, index, raw);
    audit_rules_judge(&m->rules, &m->entry, on_rule, m);
    return *m->stop ? err_set(e, ERR_UNAVAILABLE, "stopped", "it was stopped") : 0;
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    static char what[] = "monitoring";
    cli_progress(what, done, total);
}

/* The next round finds them again. */
static void alerts_drop(struct monitor *m)
{
    alerts_reset(&m->alerts);
    m->cosigned_bad = m->stale_said = false;
}

/* Once while it lasts. */
static void trouble_add(struct monitor *m, const struct err *why)
{
    if (strcmp(m->said, why->rule) != 0)
        alerts_add(&m->alerts, why, NULL);
    snprintf(m->said, sizeof m->said, "%s", why->rule);
}

/* --- the head ------------------------------------------------------------------------------------- */

static int note_read(struct monitor *m, struct err *e)
{
    char path[PATH_MAX];
    int rc;
    if (m->fetch) {
        rc = log_fetch_get(m->fetch, "checkpoint", TLOG_NOTE_MAX, &m->head, e);
        if (rc < 0 && e->code == ERR_NOT_FOUND)
            e->code = ERR_UNAVAILABLE;
    } else {
        snprintf(path, sizeof path, "%.4000s/checkpoint", m->a.dir);
        rc = file_read(&m->head, path, TLOG_NOTE_MAX, e);
        if (rc < 0 && e->code == ERR_NOT_FOUND)
            err_set(e, ERR_CORRUPT, "log-missing", "%.300s is missing: is this a log's folder?", path);
    }
    if (rc == 0)
        rc = tlog_checkpoint_open(&m->head_at, m->head.p, m->head.len, &m->a.vkey, e);
    m->a.at.size = m->head_at.size;
    return rc < 0 ? log_unverified(e) : 0;
}

/* Over HTTP with what a log that goes on soon replaces. */
static int head_read(struct monitor *m, struct err *e)
{
    for (int i = 1; note_read(m, e) == 0; i++) {
        if (!m->fetch || m->head_at.size <= m->kept_at.size || tlog_place_edge(&m->a.at, m->kept_at.size, e) == 0)
            return 0;
        if (e->code != ERR_NOT_READY || i == MOVED_TRIES)
            break;
    }
    if (e->code == ERR_NOT_READY)
        e->code = ERR_UNAVAILABLE;
    return -1;
}

void monitor_pause(const struct monitor *m, long ms)
{
    if (!*m->stop)
        poll(NULL, 0, (int)ms); /* a signal ends it */
}

/* The head as soon as it is cosigned, or the last one that was read: *good tells. */
static int head_cosigned(struct monitor *m, bool *good, struct err *why, struct err *e)
{
    struct tlog_accepted accepted;
    *good = true;
    for (int i = 0; head_read(m, e) == 0; i++) {
        *good = !m->policy || tlog_policy_open(m->policy, clock_wall(), m->head.p, m->head.len, &accepted, why) == 0;
        if (*good || i + 1 == COSIGNED_TRIES || *m->stop)
            return 0;
        monitor_pause(m, COSIGNED_WAIT_MS);
    }
    return -1;
}

static int policy_look(struct monitor *m, struct err *e)
{
    bool good;
    struct err why;
    if (head_cosigned(m, &good, &why, e) < 0)
        return -1;
    if (!good && !m->cosigned_bad)
        alerts_add(&m->alerts, &why, NULL);
    m->cosigned_bad = !good;
    return 0;
}

/* --- forks ---------------------------------------------------------------------------------------- */

static int evidence_write(const struct monitor *m, const char *which, const struct buf *note, char path[PATH_MAX], struct err *e)
{
    char root[17];
    hex_encode(root, m->head_at.root.b, 8);
    snprintf(path, PATH_MAX, "%.3900s.fork-%llu-%s-%s", m->state, (unsigned long long)m->head_at.size, root, which);
    return file_write_atomic(path, note->p, note->len, 0600, true, e);
}

static bool is_fork(const struct err *e)
{
    return strcmp(e->rule, "log-fork") == 0 || strcmp(e->rule, "log-rollback") == 0;
}

/* Both heads, each signed by the log's key: who has them needs nothing else to show it. */
static void fork_add(struct monitor *m, const struct err *why)
{
    char kept[PATH_MAX] = "", seen[PATH_MAX] = "";
    struct err more = *why, e;
    if (evidence_write(m, "kept", &m->kept, kept, &e) < 0 || evidence_write(m, "seen", &m->head, seen, &e) < 0)
        err_set(&more, why->code, "log-fork", "%.250s (the evidence could not be kept: %.150s)", why->msg, e.msg);
    else
        err_set(&more, why->code, "log-fork", "%.250s. Evidence: %.180s and -seen", why->msg, kept);
    snprintf(more.rule, sizeof more.rule, "%s", why->rule);
    alerts_add(&m->alerts, &more, NULL);
}

static int heads_compare(const struct monitor *m, struct err *e)
{
    unsigned long long kept = m->kept_at.size, now = m->head_at.size;
    if (now < kept)
        return err_set(e, ERR_CORRUPT, "log-rollback",
                       "the log went back: its head has %llu entries, and one of %llu was verified before", now, kept);
    if (now == kept && memcmp(&m->kept_at.root, &m->head_at.root, sizeof m->kept_at.root) != 0)
        return err_set(e, ERR_CORRUPT, "log-fork",
                       "two heads of %llu entries with different roots, both signed by the log's key: two histories", now);
    return 0;
}

/* --- a round -------------------------------------------------------------------------------------- */

static int entries_audit(struct monitor *m, struct err *e)
{
    struct tlog_audit_report r;
    const struct tlog_audit_options o = {.at = &m->a.at,
                                         .vkey = &m->a.vkey,
                                         .head = {m->head.p, m->head.len},
                                         .from = {m->kept.p, m->kept.len},
                                         .latest = m->latest,
                                         .max_lifetime = m->max_lifetime,
                                         .finding = on_finding,
                                         .entry = on_entry,
                                         .progress = on_progress,
                                         .arg = m};
    int rc = tlog_audit(&o, &r, e);
    if (m->fetch && (rc < 0 || m->kept_at.size >> 16 != m->head_at.size >> 16))
        tlog_place_forget(&m->a.at, rc < 0 ? m->head_at.size : m->kept_at.size);
    if (rc < 0) {
        alerts_drop(m); /* nothing of it is proven */
        return log_unverified(e);
    }
    m->head_latest = r.latest;
    return 0;
}

static void age_look(struct monitor *m)
{
    struct stat st;
    struct err why;
    int64_t now = clock_wall();
    if (m->max_age == 0 || stat(m->state, &st) < 0)
        return;
    bool stale = now - st.st_mtime > (int64_t)m->max_age;
    if (stale && !m->stale_said) {
        err_set(&why, ERR_CORRUPT, "log-stale", "no new head for %lld s: the log stands still at %llu entries",
                (long long)(now - st.st_mtime), (unsigned long long)m->kept_at.size);
        alerts_add(&m->alerts, &why, NULL);
    }
    m->stale_said = stale;
}

/* 1: a new head is to be kept; 0: nothing new; -1 with e. */
static int look(struct monitor *m, struct err *e)
{
    if (policy_look(m, e) < 0)
        return -1;
    if (m->kept.len == 0 && !m->from_start)
        return 1;
    if (m->kept.len > 0 && heads_compare(m, e) < 0)
        return -1;
    if (m->kept.len > 0 && m->head_at.size == m->kept_at.size)
        return 0;
    return entries_audit(m, e) < 0 ? -1 : 1;
}

static int state_keep(struct monitor *m, struct err *e)
{
    if (file_write_atomic(m->state, m->head.p, m->head.len, 0600, true, e) < 0)
        return -1;
    buf_reset(&m->kept);
    buf_put(&m->kept, m->head.p, m->head.len);
    m->kept_at = m->head_at;
    m->latest = m->head_latest;
    m->stale_said = false;
    return 0;
}

/* Shown once, even when the webhook has to be tried again; posted, even when nobody reads the output. */
static int deliver(struct monitor *m, struct err *e)
{
    if (!m->pending)
        alerts_end(&m->alerts);
    if (m->alerts.failed) {
        alerts_drop(m);
        m->keep = false; /* and the round is done again */
        m->said[0] = 0;
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the alerts");
    }
    m->pending = true;
    int rc = alerts_print(&m->alerts, m->a.cli.json, e);
    m->output_gone = rc < 0 && strcmp(e->rule, "output-gone") == 0;
    struct err posting;
    if (m->webhook && alerts_post(&m->alerts, m->webhook, &posting) < 0) {
        *e = posting;
        rc = -1;
    }
    if (rc < 0)
        return -1;
    m->pending = false;
    alerts_reset(&m->alerts);
    return 0;
}

/* What the round came to, as an exit status. */
static int trouble(struct monitor *m, struct err *why)
{
    struct err e = {0};
    int code = is_fork(why) ? ARGS_FORK : args_exit_code(why);
    if (code == ARGS_FORK)
        fork_add(m, why);
    else if (code == ARGS_UNVERIFIED)
        trouble_add(m, why);
    else if (strcmp(m->said, why->rule) != 0)
        cli_fail(&m->a.cli, COMMAND, why);
    snprintf(m->said, sizeof m->said, "%s", why->rule);
    age_look(m);
    if (deliver(m, &e) < 0) {
        cli_fail(&m->a.cli, COMMAND, &e);
        return code == ARGS_FORK ? code : args_exit_code(&e);
    }
    return code;
}

static int round_end(struct monitor *m, struct err *e)
{
    size_t alerts = m->alerts.count + m->alerts.left_out;
    if (deliver(m, e) < 0 || (m->keep && state_keep(m, e) < 0))
        return cli_fail(&m->a.cli, COMMAND, e);
    m->keep = false;
    return alerts > 0 ? ARGS_ALERTS : ARGS_OK;
}

int monitor_round(struct monitor *m)
{
    struct err e = {0};
    if (m->pending || m->keep)
        return round_end(m, &e); /* what is left of the last round, before another head is looked at */
    int news = look(m, &e);
    if (news < 0 && *m->stop)
        return ARGS_FAILED; /* cut short: nothing was found out */
    if (news < 0)
        return trouble(m, &e);
    m->said[0] = 0;
    m->keep = news > 0;
    if (news == 0)
        age_look(m);
    return round_end(m, &e);
}
