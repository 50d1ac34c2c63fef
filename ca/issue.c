/* How a certificate comes to be. Steps 1 to 7 are taken by the corridor thread, for a batch; 8 and
 * 9 by the signing threads (crew.c), for one certificate each:
 *
 *   1 receive   all requests that wait
 *   2 parse     each (msg.c)
 *   3 profile   everything that this signer may ever sign (profile.c), and the rate cap
 *   4 clock     which never steps back, and the lifetime
 *   5 entry     of the log: what will stand in the certificate, and why it was given
 *   6 append    durable, under a signed head; and, where a quorum is configured, cosigned (quorum.h)
 *   7 TBS       with the serial that the log gave and the proof stapled in (tbs.c)
 *   8 lint      reads it back (lint.c)
 *   9 sign      in the token; assemble; answer
 *
 * A record (record.c) is a request for an entry without a certificate: it is answered after step 6.
 * A CRL (crl.c) takes all nine steps, with a TBSCertList of its own instead of a TBSCertificate; and so does a
 * JWT-SVID (jwt.c), with its header and claims, and with a key of its own.
 *
 * A request is refused in steps 2 to 5, by rule, and nothing is left of it. From step 6 on nothing
 * is refused but for want of a quorum: what else fails there is final, the process ends, and start-up
 * recovers. What a crash or a missing quorum leaves is at worst a logged entry that was never signed,
 * and never will be; the latter are counted, and told (CA_INFO). A record waits for no quorum.
 *
 * Batching: the corridor takes the next batch when the signing threads have taken the last jobs of
 * the one before. So the next batch is being logged while the last one is being signed; under
 * load batches grow, since a batch costs two disk flushes and a head signature however large it
 * is; and a lone request waits for nobody. */
#include "base/log.h"
#include "ca/corridor.h"
#include "ca/record.h"
#include "tlog/proof.h"
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define JOBS (TLOG_BATCH_MAX + IPC_BATCH) /* beside a share for each signing thread */
#define DRAIN_MS 3000
#define WARN_BEFORE (30 * 86400)
#define WARN_EVERY 86400

/* --- 1 receive, 2 parse ------------------------------------------------------------------------------ */

static void answer_info(struct corridor *c, struct caller *caller, uint64_t id)
{
    const struct issue_options *o = c->o;
    const char *token = hsm_token_name(o->hsm);
    size_t token_len = strlen(token);
    struct tlog_status s;
    struct quorum_status q;
    tlog_status(o->log, &s);
    quorum_status(o->quorum, &q);
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
                        .token = {(const uint8_t *)token, token_len > 255 ? 255 : token_len},
                        .abandoned = c->abandoned,
                        .quorum = (uint8_t)q.needed,
                        .witnesses = (uint8_t)q.witnesses,
                        .cosigned = (uint8_t)q.cosigned,
                        .unwitnessed = q.open,
                        .jwt_key = c->jwt.spki,
                        .jwt_since = c->notices.jwt_since,
                        .jwt_signatures = hsm_sign_count_of(o->hsm, HSM_KEY_JWT) - c->jwt_signed_before,
                        .jwt_abandoned = c->jwt_abandoned};
    ca_info_write(&c->answer, id, &m);
    caller_answer(caller, &c->answer);
}

static int accept(struct job *j, uint8_t type, struct bytes body, struct err *e)
{
    switch (type) {
    case CA_RECORD: return record_accept(j, body, e);
    case CA_CRL: return (j->crl = crl_draft_new(body, e)) ? 0 : -1;
    case CA_JWT: return ca_jwt_parse(&j->jwt, body, e);
    default: return ca_issue_parse(&j->request, body, e);
    }
}

static int receive(void *arg, struct caller *caller, const struct ipc_frame *f, struct err *e)
{
    struct corridor *c = arg;
    if (f->type == CA_INFO && f->body.len == 0) {
        answer_info(c, caller, f->id);
        return 0;
    }
    if (f->type != CA_ISSUE && f->type != CA_RECORD && f->type != CA_CRL && f->type != CA_JWT)
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
    j->is_jwt = f->type == CA_JWT;
    struct err why = {0};
    const struct bytes body = {j->frame, f->body.len};
    if (accept(j, f->type, body, &why) == 0) {
        c->batch[c->n++] = j;
    } else {
        j->request = (struct ca_issue){0};
        j->is_jwt = false; /* nothing of it is to be relied on */
        check_refuse(c, j, &why);
    }
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
    c->batch_first = first;
    return 0;
}

static int pass_quorum(struct corridor *c, struct job *j, struct err *e)
{
    if (c->unwitnessed.code == ERR_NONE || j->crl)
        return 0;
    *e = c->unwitnessed;
    *(j->is_jwt ? &c->jwt_abandoned : &c->abandoned) += 1;
    return -1;
}

static bool has_certificates(const struct corridor *c)
{
    size_t i = 0;
    while (i < c->n && c->batch[i]->crl)
        i++;
    return i < c->n;
}

/* The certificates and JWT-SVIDs of a batch that finds no quorum are in the log, and never signed. Its CRLs
 * are: witnesses that are away let nobody's certificate live longer. */
static void await_quorum(struct corridor *c)
{
    err_clear(&c->unwitnessed);
    if (has_certificates(c) && quorum_await(c->o->quorum, &c->unwitnessed) < 0)
        check_sift(c, pass_quorum);
}

static int build(struct corridor *c, struct job *j, struct err *e)
{
    if (j->crl)
        return crl_build(j->crl, j->index, e);
    if (j->is_jwt) {
        j->tbs = jwt_build(j->tbs_array, sizeof j->tbs_array, &c->proof, &c->jwt, &j->jwt, j->now, j->index);
        return j->tbs.len ? 0 : err_set(e, ERR_INTERNAL, "jwt-size", "JWT-SVID %llu does not fit its array",
                                        (unsigned long long)j->index);
    }
    buf_reset(&c->proof);
    tlog_batch_proof(c->o->log, (size_t)(j->index - c->batch_first), (struct bytes){j->log_ext.p, j->log_ext.len},
                     &c->proof);
    j->tbs = tbs_build(j->tbs_array, sizeof j->tbs_array, &j->parts,
                       TBS_SERIAL(c->o->config->log.number, j->index),
                       (struct bytes){c->proof.p, c->proof.len});
    if (c->proof.failed || j->tbs.len == 0)
        return err_set(e, ERR_INTERNAL, "cert-size", "certificate %llu does not fit its array",
                       (unsigned long long)j->index);
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
    quorum_batch(c->o->quorum);
    check_sift(c, check_profile); /* 3 */
    check_sift(c, check_clock);   /* 4 */
    check_sift(c, check_entry);   /* 5 */
    if (c->n == 0)
        return 0;
    /* What the signer itself has to say comes before what rests on it; the clock has just been good. */
    if (STEP("issue-checked") < 0 || notices_tell(&c->notices, c->clock.last, e) < 0 || append(c, e) < 0 || STEP("issue-logged") < 0) /* 6 */
        return -1;
    answer_records(c);
    await_quorum(c);
    for (size_t k = 0; k < c->n; k++) { /* 7 */
        if (build(c, c->batch[k], e) < 0 || STEP("issue-tbs") < 0)
            return -1;
    }
    crew_submit(c->crew, c->batch, c->n); /* to 8 and 9 */
    c->n = 0;
    return 0;
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
    c->ahead = c->clock.last;
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
    c->jwt_signed_before = hsm_sign_count_of(o->hsm, HSM_KEY_JWT);
    c->jwt = (struct jwt_policy){.config = o->config, .kid = o->jwt_kid, .spki = hsm_spki(o->hsm, HSM_KEY_JWT)};
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
    if (tbs_template_init(&c->template, o->config, o->issuing->subject, o->issuing->key_id, e) < 0 ||
        open_stations(c, e) < 0)
        return -1;
    c->door = door_new(o->listen_fd, c->wake_fd, o->stop_fd, o->peer_uid, e);
    const struct crew_options crew = {.threads = o->config->token.threads,
                                      .jobs = JOBS + o->config->token.threads * CREW_SHARE_MAX,
                                      .work = finish_work,
                                      .flush = finish_answer,
                                      .arg = c,
                                      .wake_fd = c->wake_fd};
    if (!c->door || !(c->crew = crew_new(&crew, e)))
        return -1;
    const struct notices_facts facts = {.config = o->config, .log = o->log, .vkey = o->vkey, .ahead = c->ahead,
                                        .jwt_kid = o->jwt_kid, .jwt_key = c->jwt.spki};
    return notices_init(&c->notices, &facts, e);
}

/* At once where the clock is good; else with the first batch (walk). */
static int tell_first(struct corridor *c, struct err *e)
{
    struct err why = {0};
    int64_t now;
    return clock_guard_now(&c->clock, &now, &why) < 0 ? 0 : notices_tell(&c->notices, now, e);
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
    notices_free(&c->notices);
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
    int r = open_corridor(c, e) < 0 || tell_first(c, e) < 0 ? -1 : run(c, e);
    close_corridor(c);
    return r;
}
