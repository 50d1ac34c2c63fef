/* What is asked of a request before anything of it is logged, and the word to who is refused. On the
 * corridor thread. */
#include "ca/corridor.h"
#include "base/log.h"
#include "ca/record.h"
#include <string.h>

#define REFUSED_LINES 10 /* log lines a second */
/* What a certificate has beside names, key and the proof's extra: fixed fields and extensions,
 * a path of 48 hashes, a checkpoint with an origin of 255 bytes twice, the signature. */
#define CERT_OVERHEAD (700 + 48 * 45 + 900 + 100)
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
    const struct bytes asked = j->is_jwt ? j->jwt.spiffe_id : j->request.spiffe_id;
    memcpy(id, asked.len ? (const char *)asked.p : "", asked.len);
    id[asked.len] = 0; /* <= SPIFFE_ID_MAX: ca_issue_parse, ca_jwt_parse; odd bytes are escaped by the log */
    log_info("request refused", "rule", why->rule, "why", why->msg, "spiffe_id", id, NULL);
}

void check_drop_crl(struct job *j)
{
    free(j->crl);
    j->crl = NULL;
}

/* Ends a job of the corridor thread with a refusal. */
void check_refuse(struct corridor *c, struct job *j, const struct err *why)
{
    say_refused(c, j, why);
    atomic_fetch_add(&c->refused, 1);
    ca_refused_write(&c->answer, j->id, why);
    caller_answer(j->caller, &c->answer);
    caller_let_go(j->caller);
    check_drop_crl(j);
    crew_return(c->crew, j);
}

/* Keeps the jobs that pass; refuses the others. */
void check_sift(struct corridor *c, check_cb *pass)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        struct err why = {0};
        if (pass(c, c->batch[i], &why) == 0)
            c->batch[kept++] = c->batch[i];
        else
            check_refuse(c, c->batch[i], &why);
    }
    c->n = kept;
}

/* --- 3 profile, quorum and rate ------------------------------------------------------------------------------- */

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
                       "over %u certificates and JWT-SVIDs a second (ca.rate); try again in a moment",
                       c->o->config->ca.rate);
    c->rate.tokens -= 1;
    return 0;
}

/* At most a second's worth in one burst. */
static int take_due(int64_t *due, int64_t each_us, const char *what, struct err *e)
{
    int64_t now = clock_mono_us();
    if (*due < now - 1000000)
        *due = now - 1000000;
    if (*due > now)
        return err_set(e, ERR_RATE, "rate", "over %d %s a second; try again in a moment", (int)(1000000 / each_us), what);
    *due += each_us;
    return 0;
}

static int pass_crl(struct corridor *c, const struct job *j, struct err *e)
{
    struct tlog_status log;
    tlog_status(c->o->log, &log);
    if (crl_check(j->crl, c->o->config->log.number, log.size, e) < 0)
        return -1;
    return take_due(&c->crl_due, CRL_EVERY_US, "CRLs", e);
}

static int pass_jwt(const struct corridor *c, const struct job *j, struct err *e)
{
    if (!*c->jwt.kid)
        return err_set(e, ERR_DENIED, "jwt-off", "JWT-SVIDs are off: %s", c->o->jwt_off);
    return profile_check_jwt(c->o->config, &j->jwt, e);
}

int check_profile(struct corridor *c, struct job *j, struct err *e)
{
    if (j->record.type)
        return take_due(&c->record_due, RECORD_EVERY_US, "records", e);
    if (j->crl)
        return pass_crl(c, j, e);
    int r = j->is_jwt ? pass_jwt(c, j, e) : profile_check(&j->leaf, c->o->config, &j->request, e);
    if (r < 0 || quorum_admit(c->o->quorum, e) < 0)
        return -1;
    return take_token(c, e);
}

/* --- 4 clock ------------------------------------------------------------------------------------------- */

int check_clock(struct corridor *c, struct job *j, struct err *e)
{
    if (clock_guard_now(&c->clock, &j->now, e) < 0)
        return -1;
    if (j->record.type || j->crl || j->is_jwt)
        return 0;
    return profile_validity(&j->leaf, j->now, c->o->issuing->not_after, e);
}

/* --- 5 entry --------------------------------------------------------------------------------------------- */

int check_entry(struct corridor *c, struct job *j, struct err *e)
{
    if (j->record.type)
        return record_entry(j, e);
    if (j->crl)
        return crl_entry(j->crl, &j->log_entry, &c->template, &c->digest, j->now, c->o->issuing->not_after, e);
    if (j->is_jwt)
        return jwt_entry(&j->log_entry, &c->jwt, &j->jwt, j->now, e);
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
                  B64_LEN(j->log_ext.len) + CERT_OVERHEAD + quorum_proof_max(c->o->quorum);
    if (j->log_ext.failed || j->log_entry.failed || entry.body.len == 0 || cert > CA_CERT_MAX)
        return err_set(e, ERR_TOO_LARGE, "cert-size",
                       "names and key would make a certificate of over %d bytes", CA_CERT_MAX);
    j->log_body =
        (struct bytes){j->log_entry.p + j->log_entry.len - entry.body.len, entry.body.len};
    return 0;
}
