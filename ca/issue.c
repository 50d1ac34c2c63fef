/* How a certificate comes to be. Steps 1 to 7 are taken by the corridor thread, for a batch; 8 and
 * 9 by the signing threads (crew.c), for one certificate each:
 *
 *   1 receive   all requests that wait
 *   2 parse     each (msg.c)
 *   3 profile   everything that this signer may ever sign (profile.c), and the rate cap
 *   4 clock     which never steps back, and the lifetime
 *   5 entry     of the log: what will stand in the certificate, and why it was given
 *   6 append    durable, under a signed head
 *   7 TBS       with the serial that the log gave and the proof stapled in (tbs.c)
 *   8 lint      reads it back (lint.c)
 *   9 sign      in the token; assemble; answer
 *
 * A record (record.c) is a request for an entry without a certificate: it is answered after step 6.
 *
 * A request is refused in steps 2 to 5, by rule, and nothing is left of it. From step 6 on nothing
 * is refused: what fails there is final, the process ends, and start-up recovers. What a crash
 * leaves is at worst a logged entry that was never signed, and never will be.
 *
 * Batching: the corridor takes the next batch when the signing threads have taken the last jobs of
 * the one before. So the next batch is being logged while the last one is being signed; under
 * load batches grow, since a batch costs two disk flushes and a head signature however large it
 * is; and a lone request waits for nobody. */
#include "ca/issue.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "ca/crew.h"
#include "ca/job.h"
#include "ca/lint.h"
#include "ca/record.h"
#include "tlog/proof.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define JOBS (TLOG_BATCH_MAX + IPC_BATCH) /* beside a share for each signing thread */
#define DRAIN_MS 3000
#define REFUSED_LINES 10 /* log lines a second */
#define WARN_BEFORE (30 * 86400)
#define WARN_EVERY 86400
/* What a certificate has beside names, key and the proof's extra: fixed fields and extensions,
 * a path of 48 hashes, a checkpoint with an origin of 255 bytes twice, the signature. */
#define CERT_OVERHEAD (700 + 48 * 45 + 900 + 100)

struct station { /* what one signing thread keeps */
    struct digest digest;
    struct { /* answers of its share that are still to be given */
        struct buf frame;
        struct caller *caller; /* held */
    } out[CREW_SHARE_MAX];
    unsigned n;
    uint8_t cert[CA_CERT_MAX];
};

struct corridor {
    const struct issue_options *o;
    struct tbs_template template;
    struct lint_policy lint;
    struct door *door;
    struct crew *crew;
    struct station *stations;
    int wake_fd;
    int64_t started;
    uint64_t first_index, signed_before; /* the log's size, and the issuing key's signatures (self-tests), at the start */
    atomic_ullong issued, refused;

    /* the rest is the corridor thread's own */
    struct clock_guard clock;
    struct digest digest;
    struct buf answer, proof;
    uint8_t body[JOB_BODY_MAX];
    struct job *batch[TLOG_BATCH_MAX];
    size_t n;
    struct {
        int64_t at; /* monotonic us */
        double tokens;
    } rate;
    int64_t record_due; /* monotonic us at which the records so far are paid for */
    struct {
        int64_t second;
        unsigned lines, hidden;
    } said;
    int64_t warned;
};

static int fault(const char *name, int asked, struct err *e)
{
    return asked ? err_set(e, ERR_INTERNAL, "fault", "fault point %s", name) : 0;
}
#define STEP(name) fault(name, FAULT(name), e)

/* --- refusing --------------------------------------------------------------------------------------- */

static void say_refused(struct corridor *c, const struct job *j, const struct err *why)
{
    char id[SPIFFE_ID_MAX + 1] = "";
    int64_t second = clock_mono_ms() / 1000;
    if (second != c->said.second) {
        if (c->said.hidden)
            log_info("more requests refused", "count", log_num(c->said.hidden), NULL);
        c->said.second = second;
        c->said.lines = c->said.hidden = 0;
    }
    if (c->said.lines == REFUSED_LINES) {
        c->said.hidden++;
        return;
    }
    c->said.lines++;
    size_t n = j->request.spiffe_id.len;
    memcpy(id, n ? (const char *)j->request.spiffe_id.p : "", n);
    id[n] = 0; /* n <= SPIFFE_ID_MAX: ca_issue_parse; odd bytes are escaped by the log */
    log_info("request refused", "rule", why->rule, "why", why->msg, "spiffe_id", id, NULL);
}

/* Ends a job of the corridor thread with a refusal. */
static void refuse(struct corridor *c, struct job *j, const struct err *why)
{
    say_refused(c, j, why);
    atomic_fetch_add(&c->refused, 1);
    ca_refused_write(&c->answer, j->id, why);
    caller_answer(j->caller, &c->answer);
    caller_let_go(j->caller);
    crew_return(c->crew, j);
}

/* Keeps the jobs that pass; refuses the others. */
static void sift(struct corridor *c, int (*pass)(struct corridor *c, struct job *j, struct err *e))
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        struct err why = {0};
        if (pass(c, c->batch[i], &why) == 0)
            c->batch[kept++] = c->batch[i];
        else
            refuse(c, c->batch[i], &why);
    }
    c->n = kept;
}

/* --- 1 receive, 2 parse ------------------------------------------------------------------------------ */

static void answer_info(struct corridor *c, struct caller *caller, uint64_t id)
{
    const struct issue_options *o = c->o;
    const char *token = hsm_token_name(o->hsm);
    size_t token_len = strlen(token);
    struct tlog_status s;
    tlog_status(o->log, &s);
    struct ca_info m = {.root = {o->root->der, o->root->len},
                        .issuing = {o->issuing->der, o->issuing->len},
                        .vkey = o->vkey,
                        .log_size = s.size,
                        .issued = atomic_load(&c->issued),
                        .refused = atomic_load(&c->refused),
                        .signatures = hsm_sign_count(o->hsm),
                        .first_index = c->first_index,
                        .issuing_signatures = hsm_sign_count_of(o->hsm, HSM_KEY_ISSUING) - c->signed_before,
                        .started = c->started,
                        .token = {(const uint8_t *)token, token_len > 255 ? 255 : token_len}};
    ca_info_write(&c->answer, id, &m);
    caller_answer(caller, &c->answer);
}

/* Beside the batch: nothing is appended, and what is to be written the publisher writes. */
static void answer_cosign(struct corridor *c, struct caller *caller, const struct ipc_frame *f)
{
    struct err why = {0};
    if (witnesses_accept(c->o->witnesses, c->o->log, f->body, &why) < 0)
        ca_refused_write(&c->answer, f->id, &why);
    else
        ipc_frame_begin(&c->answer, CA_COSIGNED, f->id);
    caller_answer(caller, &c->answer);
}

static int receive(void *arg, struct caller *caller, const struct ipc_frame *f, struct err *e)
{
    struct corridor *c = arg;
    if (f->type == CA_INFO && f->body.len == 0) {
        answer_info(c, caller, f->id);
        return 0;
    }
    if (f->type == CA_COSIGN) {
        answer_cosign(c, caller, f);
        return 0;
    }
    if (f->type != CA_ISSUE && f->type != CA_RECORD)
        return err_set(e, ERR_MALFORMED, "ca-msg", "a message of type %u, which is no question",
                       f->type);
    struct job *j = crew_take(c->crew);
    if (!j)
        return err_set(e, ERR_INTERNAL, "signer-jobs", "the pool of jobs is empty");
    memcpy(j->frame, f->body.p, f->body.len);
    caller_hold(caller);
    j->caller = caller;
    j->id = f->id;
    j->request = (struct ca_issue){0};
    j->record = (struct tlog_record_info){0};
    struct err why = {0};
    const struct bytes body = {j->frame, f->body.len};
    if ((f->type == CA_RECORD ? record_accept(j, body, &why) : ca_issue_parse(&j->request, body, &why)) == 0) {
        c->batch[c->n++] = j;
    } else {
        j->request = (struct ca_issue){0};
        refuse(c, j, &why);
    }
    return 0;
}

/* --- 3 profile and rate ------------------------------------------------------------------------------- */

static int take_token(struct corridor *c, struct err *e)
{
    double rate = c->o->config->ca.rate;
    if (rate <= 0)
        return 0;
    int64_t now = clock_mono_us();
    c->rate.tokens += (double)(now - c->rate.at) * rate / 1e6;
    c->rate.at = now;
    if (c->rate.tokens > rate) /* at most one second's worth in one burst */
        c->rate.tokens = rate;
    if (c->rate.tokens < 1)
        return err_set(e, ERR_RATE, "rate",
                       "over %u certificates a second (ca.rate); try again in a moment",
                       c->o->config->ca.rate);
    c->rate.tokens -= 1;
    return 0;
}

/* At most a second's worth in one burst. */
static int take_record_token(struct corridor *c, struct err *e)
{
    int64_t now = clock_mono_us();
    if (c->record_due < now - 1000000)
        c->record_due = now - 1000000;
    if (c->record_due > now)
        return err_set(e, ERR_RATE, "rate", "over %d records a second; try again in a moment", RECORDS_A_SECOND);
    c->record_due += RECORD_EVERY_US;
    return 0;
}

static int pass_profile(struct corridor *c, struct job *j, struct err *e)
{
    if (j->record.type)
        return take_record_token(c, e);
    if (profile_check(&j->leaf, c->o->config, &j->request, e) < 0)
        return -1;
    return take_token(c, e);
}

/* --- 4 clock ------------------------------------------------------------------------------------------- */

static int pass_clock(struct corridor *c, struct job *j, struct err *e)
{
    if (clock_guard_now(&c->clock, &j->now, e) < 0)
        return -1;
    if (j->record.type)
        return 0;
    return profile_validity(&j->leaf, j->now, c->o->issuing->not_after, e);
}

static void warn_issuer_ending(struct corridor *c)
{
    char when[21];
    int64_t now = clock_wall();
    if (c->o->issuing->not_after - now > WARN_BEFORE || now - c->warned < WARN_EVERY)
        return;
    c->warned = now;
    clock_rfc3339(when, c->o->issuing->not_after);
    log_warn("the issuing certificate ends soon; make a new one in time", "not_after", when, NULL);
}

/* --- 5 entry --------------------------------------------------------------------------------------------- */

static int pass_entry(struct corridor *c, struct job *j, struct err *e)
{
    if (j->record.type)
        return record_entry(j, e);
    const struct ca_issue *m = &j->request;
    const struct tlog_ext_info info = {.attestor = m->attestor,
                                       .evidence = m->evidence,
                                       .entry_id = m->entry_id,
                                       .entry_revision = m->entry_revision,
                                       .requester = m->requester,
                                       .session = m->session};
    if (tbs_leaf(&j->parts, j->extensions, sizeof j->extensions, &c->template, &c->digest, &j->leaf,
                 e) < 0)
        return -1;
    buf_reset(&j->log_ext);
    tlog_ext_write(&info, &j->log_ext);
    struct tlog_entry entry = {.type = TLOG_ENTRY_TBS_CERT,
                               .extensions = {j->log_ext.p, j->log_ext.len},
                               .body = tbs_log_body(c->body, sizeof c->body, &j->parts)};
    buf_reset(&j->log_entry);
    tlog_entry_write(&entry, &j->log_entry);
    size_t cert = j->parts.extensions.len + m->spki.len + j->parts.issuer.len +
                  B64_LEN(j->log_ext.len) + CERT_OVERHEAD;
    if (j->log_ext.failed || j->log_entry.failed || entry.body.len == 0 || cert > CA_CERT_MAX)
        return err_set(e, ERR_TOO_LARGE, "cert-size",
                       "names and key would make a certificate of over %d bytes", CA_CERT_MAX);
    j->log_body =
        (struct bytes){j->log_entry.p + j->log_entry.len - entry.body.len, entry.body.len};
    return 0;
}

/* --- 6 append, 7 TBS --------------------------------------------------------------------------------------- */

static int append(struct corridor *c, struct err *e)
{
    struct bytes entries[TLOG_BATCH_MAX];
    uint64_t first;
    for (size_t i = 0; i < c->n; i++)
        entries[i] = (struct bytes){c->batch[i]->log_entry.p, c->batch[i]->log_entry.len};
    if (tlog_append(c->o->log, entries, c->n, &first, e) < 0)
        return -1;
    if (first + c->n - 1 > TBS_INDEX_MAX)
        return err_set(e, ERR_INTERNAL, "log-full", "the log's indexes do not fit a serial; start a new log");
    for (size_t i = 0; i < c->n; i++)
        c->batch[i]->index = first + i;
    return 0;
}

static int build(struct corridor *c, size_t k, struct err *e)
{
    struct job *j = c->batch[k];
    if (j->record.type)
        return 0;
    buf_reset(&c->proof);
    tlog_batch_proof(c->o->log, k, (struct bytes){j->log_ext.p, j->log_ext.len}, &c->proof);
    j->tbs = tbs_build(j->tbs_array, sizeof j->tbs_array, &j->parts,
                       TBS_SERIAL(c->o->config->log.number, j->index),
                       (struct bytes){c->proof.p, c->proof.len});
    if (c->proof.failed || j->tbs.len == 0)
        return err_set(e, ERR_INTERNAL, "cert-size", "certificate %llu does not fit its array",
                       (unsigned long long)j->index);
    return 0;
}

/* --- 8 lint, 9 sign: on a signing thread --------------------------------------------------------------------- */

static int sign(struct corridor *c, struct station *s, const struct job *j, struct bytes *cert,
                struct err *e)
{
    uint8_t hash[DIGEST_SHA256], rs[64], der[80];
    size_t len = sizeof rs;
    if (digest_sha256(&s->digest, j->tbs.p, j->tbs.len, hash) < 0)
        return err_set(e, ERR_INTERNAL, "digest", "SHA-256 failed; is memory exhausted?");
    if (hsm_sign(c->o->hsm, HSM_KEY_ISSUING, hash, sizeof hash, rs, &len, e) < 0)
        return -1;
    long n = len == sizeof rs ? der_ecdsa_from_rs(der, sizeof der, rs, 32) : -1;
    if (n < 0)
        return err_set(e, ERR_HSM, "hsm-signature", "the token's signature has %zu bytes", len);
    *cert = tbs_certificate(s->cert, sizeof s->cert, j->tbs, j->parts.signature_algorithm,
                            (struct bytes){der, (size_t)n});
    if (cert->len == 0)
        return err_set(e, ERR_INTERNAL, "cert-size", "certificate %llu does not fit its array",
                       (unsigned long long)j->index);
    return 0;
}

/* Gives the answers of a share, and lets the callers go. */
static int answer(void *arg, unsigned worker, struct err *e)
{
    struct station *s = &((struct corridor *)arg)->stations[worker];
    int r = 0;
    for (unsigned i = 0; i < s->n; i++) {
        caller_answer(s->out[i].caller, &s->out[i].frame);
        caller_let_go(s->out[i].caller);
        if (r == 0)
            r = STEP("issue-answered");
    }
    s->n = 0;
    return r;
}

static int finish(struct corridor *c, struct station *s, struct job *j, struct buf *frame, struct err *e)
{
    struct bytes cert;
    const struct lint_expect expect = {
        .request = &j->request, .index = j->index, .now = j->now, .log_body = j->log_body};
    if (lint_leaf(&c->lint, &s->digest, &expect, j->tbs, e) < 0) { /* 8 */
        /* Refused before the process ends: asked again, it would end the next one too. */
        ca_refused_write(frame, j->id, e);
        caller_answer(j->caller, frame);
        return -1;
    }
    if (sign(c, s, j, &cert, e) < 0 || STEP("issue-signed") < 0) /* 9 */
        return -1;
    const struct ca_issued m = {.index = j->index,
                                .not_before = j->parts.not_before,
                                .not_after = j->parts.not_after,
                                .cert = cert};
    ca_issued_write(frame, j->id, &m);
    atomic_fetch_add(&c->issued, 1);
    return 0;
}

static int work(void *arg, unsigned worker, struct job *j, struct err *e)
{
    struct corridor *c = arg;
    struct station *s = &c->stations[worker];
    if (finish(c, s, j, &s->out[s->n].frame, e) < 0) {
        caller_let_go(j->caller);
        return -1;
    }
    s->out[s->n++].caller = j->caller;
    return 0;
}

/* --- the corridor -------------------------------------------------------------------------------------------- */

/* Records are done; what stays in the batch becomes certificates. */
static void answer_records(struct corridor *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        struct job *j = c->batch[i];
        if (!j->record.type) {
            c->batch[kept++] = j;
            continue;
        }
        ca_recorded_write(&c->answer, j->id, j->index);
        caller_answer(j->caller, &c->answer);
        caller_let_go(j->caller);
        crew_return(c->crew, j);
    }
    c->n = kept;
}

/* Takes the batch through steps 3 to 7. On failure what is left in c->batch was not submitted. */
static int walk(struct corridor *c, struct err *e)
{
    if (STEP("issue-received") < 0)
        return -1;
    sift(c, pass_profile); /* 3 */
    sift(c, pass_clock);   /* 4 */
    sift(c, pass_entry);   /* 5 */
    if (c->n == 0)
        return 0;
    if (STEP("issue-checked") < 0 || append(c, e) < 0 || STEP("issue-logged") < 0) /* 6 */
        return -1;
    for (size_t k = 0; k < c->n; k++) { /* 7 */
        if (build(c, k, e) < 0 || STEP("issue-tbs") < 0)
            return -1;
    }
    answer_records(c);
    crew_submit(c->crew, c->batch, c->n); /* to 8 and 9 */
    c->n = 0;
    return 0;
}

static int run(struct corridor *c, struct err *e)
{
    struct door_event ev = {0};
    while (!ev.stop) {
        if (crew_wait_taken(c->crew, e) < 0 || door_wait(c->door, &ev, e) < 0)
            return -1;
        if (ev.wake) /* a signing thread failed: crew_wait says with what */
            continue;
        /* Since crew_wait_taken the backlog only fell, so the pool holds a whole batch. */
        size_t room = TLOG_BATCH_MAX;
        door_receive(c->door, &room, receive, c); /* 1, 2 */
        if (c->n > 0 && walk(c, e) < 0)
            return -1;
        warn_issuer_ending(c);
    }
    log_info("draining", NULL);
    int r = crew_wait(c->crew, 0, DRAIN_MS, e);
    if (r > 0) { /* somebody does not take the answers */
        door_hang_up(c->door);
        r = crew_wait(c->crew, 0, -1, e);
    }
    return r;
}

static int open_stations(struct corridor *c, struct err *e)
{
    unsigned n = c->o->config->token.threads;
    c->stations = calloc(n, sizeof *c->stations);
    if (!c->stations)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the signing threads");
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < CREW_SHARE_MAX; k++)
            buf_init(&c->stations[i].out[k].frame, IPC_FRAME_MAX);
        if (digest_init(&c->stations[i].digest, e) < 0)
            return -1;
    }
    return digest_init(&c->digest, e);
}

/* The time below which nothing is issued: the newest entry's, or, where the operator says that the
 * clock ran ahead when that was made, the present. */
static void clock_floor(struct corridor *c)
{
    char now[21], newest[21];
    bool record;
    int64_t newest_entry = tlog_newest_time(c->o->log, &record);
    /* A certificate's entry says not_before; it was made that much later. */
    c->clock.last = newest_entry && !record ? newest_entry + PROFILE_BACKDATE : newest_entry;
    if (!c->o->accept_clock_back || c->clock.last <= c->started)
        return;
    clock_rfc3339(now, c->started);
    clock_rfc3339(newest, c->clock.last);
    log_warn("the clock is behind the log's newest entry, and accepted by the operator", "clock", now,
             "newest_entry", newest, NULL);
    c->clock.last = c->started;
}

static int open_corridor(struct corridor *c, struct err *e)
{
    const struct issue_options *o = c->o;
    struct tlog_status log;
    c->started = clock_wall();
    tlog_status(o->log, &log);
    c->first_index = log.size;
    c->signed_before = hsm_sign_count_of(o->hsm, HSM_KEY_ISSUING);
    clock_floor(c);
    c->rate.at = clock_mono_us();
    c->rate.tokens = o->config->ca.rate;
    c->lint = (struct lint_policy){.config = o->config,
                                   .issuer_name = o->issuing->subject,
                                   .issuer_key_id = o->issuing->key_id,
                                   .issuer_not_after = o->issuing->not_after};
    buf_init(&c->answer, IPC_FRAME_MAX);
    buf_init(&c->proof, TLOG_PROOF_MAX);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd < 0)
        return err_errno(e, "signer-wake", "cannot make an eventfd");
    if (tbs_template_init(&c->template, o->issuing->subject, o->issuing->key_id, e) < 0 ||
        open_stations(c, e) < 0)
        return -1;
    c->door = door_new(o->listen_fd, c->wake_fd, o->stop_fd, o->peer_uid, e);
    const struct crew_options crew = {.threads = o->config->token.threads,
                                      .jobs = JOBS + o->config->token.threads * CREW_SHARE_MAX,
                                      .work = work,
                                      .flush = answer,
                                      .arg = c,
                                      .wake_fd = c->wake_fd};
    if (!c->door || !(c->crew = crew_new(&crew, e)))
        return -1;
    return 0;
}

static void close_corridor(struct corridor *c)
{
    if (c->door)
        door_hang_up(c->door); /* so that no signing thread waits for a caller that does not read */
    for (size_t i = 0; i < c->n; i++)
        caller_let_go(c->batch[i]->caller);
    crew_free(c->crew);
    door_free(c->door);
    for (unsigned i = 0; c->stations && i < c->o->config->token.threads; i++) {
        digest_free(&c->stations[i].digest);
        for (unsigned k = 0; k < CREW_SHARE_MAX; k++)
            buf_free(&c->stations[i].out[k].frame);
        for (unsigned k = 0; k < c->stations[i].n; k++) /* a share that was cut short */
            caller_let_go(c->stations[i].out[k].caller);
    }
    free(c->stations);
    digest_free(&c->digest);
    buf_free(&c->answer);
    buf_free(&c->proof);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    free(c);
}

int issue_run(const struct issue_options *o, struct err *e)
{
    struct corridor *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the corridor");
    c->o = o;
    c->wake_fd = -1;
    int r = open_corridor(c, e) < 0 ? -1 : run(c, e);
    close_corridor(c);
    return r;
}
