/* The edge of libmayfly-tlog (include/mayfly/tlog.h): arguments in, tlog/policy and tlog/proof
 * asked, the answer copied into the caller's structs. Nothing is decided here. */
#include "base/clock.h"
#include "tlog/policy.h"
#include <mayfly/tlog.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

/* The structs as the first release had them: no caller has smaller ones. */
#define ERROR_SIZE_FIRST sizeof(struct mayfly_tlog_error)
#define RESULT_SIZE_FIRST sizeof(struct mayfly_tlog_result)

struct mayfly_tlog_policy {
    struct tlog_policy *rules; /* owned */
};

/* Writes what the caller's struct, older or newer than ours, has room for. */
static void give(void *theirs, size_t size, const void *ours, size_t our_size)
{
    size_t n = size < our_size ? size : our_size;
    memcpy(theirs, ours, n);
    memset((char *)theirs + n, 0, size - n);
    memcpy(theirs, &size, sizeof size);
}

static bool error_usable(const struct mayfly_tlog_error *error)
{
    return !error || error->size >= ERROR_SIZE_FIRST;
}

static void error_give(struct mayfly_tlog_error *error, const struct err *e)
{
    struct mayfly_tlog_error ours = MAYFLY_TLOG_ERROR_INIT;
    if (!error)
        return;
    memcpy(ours.rule, e->rule, sizeof ours.rule);
    memcpy(ours.message, e->msg, sizeof ours.message);
    give(error, error->size, &ours, sizeof ours);
}

static int code_of(const struct err *e)
{
    if (e->code == ERR_INTERNAL)
        return MAYFLY_TLOG_INTERNAL;
    if (strcmp(e->rule, "cert-format") == 0 || strcmp(e->rule, "vkey-format") == 0 ||
        strcmp(e->rule, "policy") == 0)
        return MAYFLY_TLOG_MALFORMED;
    return MAYFLY_TLOG_UNPROVEN;
}

/* --- policy -------------------------------------------------------------------------------------- */

struct mayfly_tlog_policy *mayfly_tlog_policy_new(void)
{
    struct mayfly_tlog_policy *p = malloc(sizeof *p);
    struct tlog_policy *rules = tlog_policy_new();
    if (!p || !rules) {
        tlog_policy_free(rules);
        free(p);
        return NULL;
    }
    p->rules = rules;
    return p;
}

void mayfly_tlog_policy_free(struct mayfly_tlog_policy *policy)
{
    if (!policy)
        return;
    tlog_policy_free(policy->rules);
    free(policy);
}

static int rules_read(struct mayfly_tlog_policy *policy, const char *text, size_t len,
                      struct err *e)
{
    struct tlog_policy *fresh = tlog_policy_new();
    if (!fresh)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a policy");
    if (tlog_policy_parse(fresh, text, len, e) < 0) {
        tlog_policy_free(fresh);
        return -1;
    }
    tlog_policy_free(policy->rules);
    policy->rules = fresh;
    return 0;
}

int mayfly_tlog_policy_parse(struct mayfly_tlog_policy *policy, const char *text, size_t len,
                             struct mayfly_tlog_error *error)
{
    struct err e = {0};
    if (!policy || (!text && len) || !error_usable(error))
        return MAYFLY_TLOG_MISUSE;
    ERR_set_mark();
    int rc = rules_read(policy, text, len, &e);
    ERR_pop_to_mark();
    error_give(error, &e);
    return rc < 0 ? code_of(&e) : MAYFLY_TLOG_OK;
}

int mayfly_tlog_policy_add_issuer(struct mayfly_tlog_policy *policy, const void *certificate,
                                  size_t len, struct mayfly_tlog_error *error)
{
    struct err e = {0};
    struct tlog_vkey log;
    struct bytes der;
    struct buf room;
    if (!policy || (!certificate && len) || !error_usable(error))
        return MAYFLY_TLOG_MISUSE;
    buf_init(&room, TLOG_CERT_FILE_MAX);
    ERR_set_mark();
    int rc = tlog_cert_from_file(&der, &room, certificate, len, &e);
    if (rc == 0)
        rc = tlog_binding_from_cert(&log, der.p, der.len, &e);
    if (rc == 0)
        rc = tlog_policy_add_log(policy->rules, &log, &e);
    ERR_pop_to_mark();
    buf_free(&room);
    error_give(error, &e);
    return rc < 0 ? code_of(&e) : MAYFLY_TLOG_OK;
}

/* --- certificates -------------------------------------------------------------------------------- */

/* Texts are never cut: half a name is another name. */
static int text_give(char *dst, size_t cap, struct bytes text, struct err *e)
{
    if (text.len >= cap)
        return err_set(e, ERR_TOO_LARGE, "entry-format",
                       "the log entry has a text of %zu bytes where at most %zu are expected",
                       text.len, cap - 1);
    if (text.len)
        memcpy(dst, text.p, text.len);
    return 0;
}

static int result_fill(struct mayfly_tlog_result *r, const struct tlog_claim *c,
                       const struct tlog_accepted *a, struct err *e)
{
    struct tlog_ext_info x;
    if (tlog_entry_extensions(&x, (struct bytes){c->proof.extra, c->proof.extra_len}, e) < 0 ||
        text_give(r->attestor, sizeof r->attestor, x.attestor, e) < 0 ||
        text_give(r->entry_id, sizeof r->entry_id, x.entry_id, e) < 0 ||
        text_give(r->requester, sizeof r->requester, x.requester, e) < 0)
        return -1;
    memcpy(r->origin, a->checkpoint.origin, sizeof r->origin);
    r->index = c->proof.index;
    r->tree_size = a->checkpoint.size;
    r->cosigned_time = (uint64_t)a->oldest;
    r->witnesses = a->witnesses;
    r->log_number = c->log_number;
    r->entry_revision = x.entry_revision;
    return 0;
}

static int cert_prove(const struct tlog_policy *rules, const void *certificate, size_t len,
                      struct bytes proof, struct mayfly_tlog_result *r, struct err *e)
{
    struct tlog_claim claim;
    struct tlog_accepted accepted;
    struct bytes der;
    struct buf room;
    buf_init(&room, TLOG_CERT_FILE_MAX);
    int rc = tlog_cert_from_file(&der, &room, certificate, len, e);
    if (rc == 0)
        rc = tlog_cert_claim(&claim, der.p, der.len, proof, e);
    if (rc == 0)
        rc = tlog_policy_prove(rules, clock_wall(), &claim, &accepted, e);
    if (rc == 0)
        rc = result_fill(r, &claim, &accepted, e);
    buf_free(&room);
    return rc;
}

static int verify(const struct mayfly_tlog_policy *policy, const void *certificate, size_t len,
                  struct bytes proof, struct mayfly_tlog_result *result)
{
    struct mayfly_tlog_result ours = MAYFLY_TLOG_RESULT_INIT;
    struct err e = {0};
    if (!policy || (!certificate && len) || !result || result->size < RESULT_SIZE_FIRST)
        return MAYFLY_TLOG_MISUSE;
    ERR_set_mark();
    int rc = cert_prove(policy->rules, certificate, len, proof, &ours, &e);
    ERR_pop_to_mark();
    if (rc < 0) {
        memset(&ours, 0, sizeof ours);
        memcpy(ours.rule, e.rule, sizeof ours.rule);
        memcpy(ours.message, e.msg, sizeof ours.message);
    }
    give(result, result->size, &ours, sizeof ours);
    return rc < 0 ? code_of(&e) : MAYFLY_TLOG_OK;
}

int mayfly_tlog_verify(const struct mayfly_tlog_policy *policy, const void *certificate, size_t len,
                       struct mayfly_tlog_result *result)
{
    return verify(policy, certificate, len, (struct bytes){NULL, 0}, result);
}

int mayfly_tlog_verify_proof(const struct mayfly_tlog_policy *policy, const void *certificate,
                             size_t len, const void *proof, size_t proof_len,
                             struct mayfly_tlog_result *result)
{
    if (!proof || !proof_len)
        return MAYFLY_TLOG_MISUSE; /* not: fall back to the stapled one */
    return verify(policy, certificate, len, (struct bytes){proof, proof_len}, result);
}
