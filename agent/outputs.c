/* Sets of files, as configured: each wants the identity of its SPIFFE ID, and is written on a thread of its own when
 * that or the bundle changes. Its program is told on other threads, so that a hook that hangs keeps no other set
 * from being written. The agent itself vouches for what stands there: owner, group and folder. Whether it still stands:
 * outputs_watch.c. */
#include "agent/daemon.h"
#include "agent/outputs_parts.h"
#include "agent/pem.h"
#include "base/clock.h"
#include "base/log.h"
#include <event2/event.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RELOAD_RETRIES_MAX 4 /* doublings: then every 80 s */
#define SEEK_MS 60000 /* so long its entry is asked for each second, and then as often as the list is asked for anyhow */

/* --- evidence ----------------------------------------------------------------------------------------------------------- */

static int add(struct output *o, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int add(struct output *o, struct err *e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&o->selectors[o->selectors_count], fmt, args);
    va_end(args);
    if (n < 0)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a set of files");
    o->selectors_count++;
    return 0;
}

static int say_selectors(struct output *o, struct err *e)
{
    const struct agent_files *f = o->config;
    uid_t uid = f->uid == (uid_t)-1 ? geteuid() : f->uid;
    gid_t gid = f->gid == (gid_t)-1 ? getegid() : f->gid;
    const struct passwd *p = getpwuid(uid);
    int rc = add(o, e, "files:dir:%s", f->dir) | add(o, e, "unix:uid:%u", uid) | add(o, e, "unix:gid:%u", gid);
    if (p)
        rc |= add(o, e, "unix:user:%s", p->pw_name);
    const struct group *g = getgrgid(gid);
    if (g)
        rc |= add(o, e, "unix:group:%s", g->gr_name);
    return rc;
}

static bool has_selectors(const struct output *o, const struct identity *i)
{
    bool all = i->selectors_count > 0;
    for (size_t k = 0; all && k < i->selectors_count; k++) {
        bool there = false;
        for (size_t m = 0; m < o->selectors_count && !there; m++)
            there = strcmp(o->selectors[m], i->selectors[k]) == 0;
        all = there;
    }
    return all;
}

static void match(struct output *o)
{
    struct agent *a = o->agent;
    struct err e;
    struct identity *i = identity_of(&a->identities, o->config->id), *old = o->identity;
    bool fits = i && !i->gone && has_selectors(o, i);
    o->identity = fits && identity_evidence(i, o->selectors, o->selectors_count, &e) == 0 ? i : NULL;
    if (o->identity)
        engine_want(a, o->identity);
    if (old)
        engine_unwant(a, old);
    if (o->identity || !a->entries_known) {
        o->said = false;
    } else if (!o->said) {
        o->said = true;
        log_warn(i ? "a set of files has no identity: its entry wants selectors that these files have not"
                   : "a set of files has no identity: no entry of that ID has this agent as parent",
                 "id", o->config->id, "dir", o->config->dir, NULL);
    }
}

/* Of several sets and hooks the log says which. */
static void say_failed(struct output *o, const char *what, const struct err *e)
{
    engine_count(o->agent, e);
    log_error(what, "id", o->config->id, "dir", o->config->dir, "error", e->msg, "code", err_code_name(e->code), "rule", e->rule,
              NULL);
}

/* --- telling -------------------------------------------------------------------------------------------------------------- */

struct telling {
    struct task task;
    struct output *output;
    struct err err;
};

static void tell_now(struct task *t)
{
    struct telling *w = (struct telling *)t;
    if (output_reload(&w->output->files, w->output->config->id, &w->err) == 0)
        err_clear(&w->err);
}

/* A server that was not told serves its old certificate until that is over: it is told again, ever more seldom. */
static void note_told(struct output *o, const struct err *e)
{
    o->agent->counters.reloads++;
    o->reload_error = *e;
    if (e->code == ERR_NONE) {
        o->due = false;
        o->reloaded = true;
        o->reload_failures = 0;
        return;
    }
    o->agent->counters.reload_failed++;
    say_failed(o, "the reload hook failed; it is tried again", e);
    unsigned doublings = o->reload_failures < RELOAD_RETRIES_MAX ? o->reload_failures : RELOAD_RETRIES_MAX;
    o->reload_failures++;
    o->reload_mono_ms = clock_mono_ms() + ((int64_t)RETRY_MS << doublings);
}

/* Sets of one server have one command, which need not bear running twice at once. */
static bool hook_runs(const struct output *o)
{
    const struct agent *a = o->agent;
    for (size_t k = 0; o->files.reload && k < a->outputs_count; k++) {
        const struct output *x = &a->outputs[k];
        if (x->telling && x->files.reload && strcmp(x->files.reload, o->files.reload) == 0)
            return true;
    }
    return false;
}

static void tell(struct output *o);
static void on_told(struct task *t)
{
    struct telling *w = (struct telling *)t;
    struct agent *a = w->output->agent;
    w->output->telling = false;
    if (t->worked)
        note_told(w->output, &w->err);
    for (size_t k = 0; k < a->outputs_count; k++) /* who waited for this command */
        tell(&a->outputs[k]);
    free(w);
}

static void tell(struct output *o)
{
    if (!o->due || o->telling || o->writing || o->lost || o->agent->stopping)
        return;
    if (clock_mono_ms() < o->reload_mono_ms || hook_runs(o))
        return;
    struct telling *w = calloc(1, sizeof *w);
    if (!w)
        return; /* the tick comes by again */
    w->task.work = tell_now;
    w->task.done = on_told;
    w->output = o;
    o->telling = true;
    queue_put(o->agent->hooks, &w->task);
}

/* --- writing -------------------------------------------------------------------------------------------------------------- */

struct writing {
    struct task task;
    struct output *output;
    struct wl_svid *svid;       /* owned */
    struct wl_bundles *bundles; /* owned */
    char *jwt;                  /* owned; NULL: none */
    int64_t jwt_from, jwt_expires;
    struct output_stamp stamp;
    struct err err;
};

/* A list that does not fit is left out whole: who needs it refuses, as without any. */
static int put_crls(struct buf *out, const struct writing *w, struct err *e)
{
    size_t left_out = pem_crls(out, w->bundles->crls, w->bundles->crls_count);
    if (left_out)
        log_warn("more CRLs than crl.pem has room for", "dir", w->output->config->dir, "left out", log_num((long long)left_out),
                 NULL);
    return out->failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory for CRLs") : 0;
}

static int write_now(struct writing *w, struct err *e)
{
    struct buf chain, roots, crls;
    buf_init(&chain, CHAIN_PEM_MAX);
    buf_init(&roots, BUNDLE_MAX);
    buf_init(&crls, OUTPUT_CRLS_MAX);
    int rc = pem_certificates(&chain, w->svid->chain, w->svid->chain_len, e);
    if (rc == 0)
        rc = pem_certificates(&roots, w->bundles->list[0].x509.p, w->bundles->list[0].x509.len, e);
    if (rc == 0)
        rc = put_crls(&crls, w, e);
    struct output_set set = {.spiffe_id = w->svid->spiffe_id,
                             .chain_pem = {chain.p, chain.len},
                             .bundle_pem = {roots.p, roots.len},
                             .key_der = &w->svid->key,
                             .stamp = &w->stamp,
                             .crl_pem = {crls.p, crls.len},
                             .jwt = {(const uint8_t *)w->jwt, w->jwt ? strlen(w->jwt) : 0}};
    if (rc == 0)
        rc = output_write(&w->output->files, &set, e);
    buf_free(&chain);
    buf_free(&roots);
    buf_free(&crls);
    return rc;
}

static void work(struct task *t)
{
    struct writing *w = (struct writing *)t;
    if (write_now(w, &w->err) == 0)
        err_clear(&w->err);
}

static void keep_written(struct output *o, struct writing *w)
{
    wl_svid_unref(o->written);
    wl_bundles_unref(o->bundles);
    o->written = w->svid;
    o->bundles = w->bundles;
    o->jwt_from = w->jwt_from;
    o->jwt_expires = w->jwt_expires;
    o->stamp = w->stamp;
    o->lost = false;
    w->svid = NULL;
    w->bundles = NULL;
    log_info("a set of files was written", "id", o->config->id, "dir", o->config->dir, NULL);
}

static void on_written(struct task *t)
{
    struct writing *w = (struct writing *)t;
    struct output *o = w->output;
    o->writing = false;
    if (t->worked)
        o->write_error = w->err;
    if (t->worked && w->err.code == ERR_NONE) {
        keep_written(o, w);
        o->retry_mono_ms = o->reload_mono_ms = 0;
        o->due = true;
        tell(o);
    } else if (t->worked) {
        say_failed(o, "a set of files could not be written", &w->err);
        o->retry_mono_ms = clock_mono_ms() + RETRY_MS;
    }
    wl_svid_unref(w->svid);
    wl_bundles_unref(w->bundles);
    free(w->jwt);
    free(w);
}

static void put(struct output *o, struct wl_svid *svid, const struct jwt_found *jwt)
{
    struct writing *w = calloc(1, sizeof *w);
    if (!w)
        return; /* the tick comes by again */
    w->task.work = work;
    w->task.done = on_written;
    w->output = o;
    w->svid = wl_svid_ref(svid);
    w->bundles = wl_bundles_ref(o->agent->bundles);
    if (jwt->svid && !(w->jwt = strdup(jwt->svid))) {
        wl_svid_unref(w->svid);
        wl_bundles_unref(w->bundles);
        free(w);
        return;
    }
    w->jwt_from = jwt->from;
    w->jwt_expires = jwt->expires;
    o->writing = true;
    o->writes++;
    queue_put(o->agent->writer, &w->task);
}

static bool same_bytes(const struct buf *a, const struct buf *b)
{
    return bytes_eq((struct bytes){a->p, a->len}, b->p, b->len);
}

/* Of bundles, what files are made of. */
static bool same_files(const struct wl_bundles *a, const struct wl_bundles *b)
{
    bool same = a == b || (a && b && same_bytes(&a->list[0].x509, &b->list[0].x509) && a->crls_count == b->crls_count);
    for (size_t i = 0; a != b && same && i < a->crls_count; i++)
        same = same_bytes(&a->crls[i], &b->crls[i]);
    return same;
}

/* Writes when what should stand there is another than what does. */
void output_look(struct output *o)
{
    struct agent *a = o->agent;
    struct err e;
    struct jwt_found jwt = {0};
    const struct agent_files *f = o->config;
    struct wl_svid *svid = o->identity ? identity_svid(o->identity, clock_wall()) : NULL;
    if (a->stopping) /* what comes back while the threads end: there is nobody to write it any more */
        return;
    if (a->bundles_kept) /* or else crl.pem would be gone for a moment */
        return;
    if (!svid || !a->bundles || o->writing || o->telling || clock_mono_ms() < o->retry_mono_ms)
        return;
    if (f->audience_count > 0) {
        jwt = jwt_find(o->identity, f->audience, f->audience_count, clock_wall());
        bool rest = jwt.failed_mono_ms > 0 && clock_mono_ms() < jwt.failed_mono_ms + RETRY_MS;
        if (!jwt.fresh && !jwt.busy && !rest)
            jwt_fetch(a, o->identity, f->audience, f->audience_count, &e);
        if (!jwt.svid)
            return; /* a set is whole or is not there */
    }
    bool same = svid == o->written && same_files(a->bundles, o->bundles) && jwt.expires == o->jwt_expires;
    /* After a failure also what stands there already: nothing else would say that all is well again. */
    if (!same || output_again(o) || o->write_error.code != ERR_NONE)
        put(o, svid, &jwt);
    else
        tell(o);
}

/* --- seams ------------------------------------------------------------------------------------------------------------------ */

void outputs_changed(struct agent *a, struct identity *i)
{
    for (size_t k = 0; k < a->outputs_count; k++)
        if (!i || a->outputs[k].identity == i)
            output_look(&a->outputs[k]);
}

void outputs_entries(struct agent *a)
{
    for (size_t k = 0; k < a->outputs_count; k++) {
        match(&a->outputs[k]);
        output_look(&a->outputs[k]);
    }
}

static void seek(struct output *o)
{
    int64_t now = clock_mono_ms();
    if (o->identity || !o->agent->entries_known)
        o->missed_mono_ms = 0;
    else if (o->missed_mono_ms == 0)
        o->missed_mono_ms = now;
    if (o->missed_mono_ms > 0 && now - o->missed_mono_ms < SEEK_MS)
        entries_hurry(o->agent, now);
}

void outputs_tick(struct agent *a)
{
    outputs_changed(a, NULL);
    for (size_t k = 0; k < a->outputs_count; k++)
        seek(&a->outputs[k]);
    for (size_t k = 0; k < a->outputs_count; k++)
        output_watch(&a->outputs[k]);
}

int outputs_start(struct agent *a, struct err *e)
{
    a->outputs = calloc(a->config->files_count + 1, sizeof *a->outputs);
    if (!a->outputs)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for sets of files");
    for (; a->outputs_count < a->config->files_count; ) {
        struct output *o = &a->outputs[a->outputs_count++];
        const struct agent_files *f = &a->config->files[a->outputs_count - 1];
        o->agent = a;
        o->config = f;
        o->files = (struct output_config){.dir = f->dir,
                                          .uid = f->uid,
                                          .gid = f->gid,
                                          .mode = f->mode,
                                          .combined = f->combined,
                                          .reload = f->reload,
                                          .pid_file = f->pid_file,
                                          .signal = f->signal,
                                          .reload_timeout_ms = f->reload_timeout * 1000};
        if (say_selectors(o, e) < 0 || output_try(&o->files, e) < 0)
            return err_wrap(e, "files of %s", f->id);
    }
    return 0;
}

void outputs_stop(struct agent *a)
{
    for (size_t k = 0; k < a->outputs_count; k++) {
        struct output *o = &a->outputs[k];
        for (size_t i = 0; i < o->selectors_count; i++)
            free(o->selectors[i]);
        wl_svid_unref(o->written);
        wl_bundles_unref(o->bundles);
    }
    free(a->outputs);
    a->outputs = NULL;
    a->outputs_count = 0;
}
