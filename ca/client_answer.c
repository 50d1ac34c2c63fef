/* The signer's answers: each finds the call that it belongs to, and is handed to whoever asked. What it
 * says of itself is kept for ca_client_snapshot. */
#include "ca/client_parts.h"
#include "base/clock.h"
#include <string.h>

static int mismatched(const struct slot *call, struct err *e)
{
    err_set(e, ERR_MALFORMED, "ca-msg", "the signer answered what was not asked");
    client_call_fail(call, e);
    return -1;
}

static int answer_refused(struct ca_client *c, const struct ipc_frame *f, struct err *e)
{
    struct err why = {0};
    struct slot call;
    if (ca_refused_parse(&why, f->body, e) < 0)
        return -1;
    if (client_call_take(c, f, &call))
        client_call_fail(&call, &why);
    return 0;
}

static int answer_recorded(struct ca_client *c, const struct ipc_frame *f, struct err *e)
{
    uint64_t index;
    struct slot call;
    if (ca_recorded_parse(&index, f->body, e) < 0)
        return -1;
    if (!client_call_take(c, f, &call))
        return 0;
    if (!call.record)
        return mismatched(&call, e);
    call.record(call.arg, index, NULL);
    return 0;
}

static int answer_issued(struct ca_client *c, const struct ipc_frame *f, struct err *e)
{
    struct ca_issued issued;
    struct slot call;
    if (ca_issued_parse(&issued, f->body, e) < 0)
        return -1;
    if (!client_call_take(c, f, &call))
        return 0;
    if (!call.issue)
        return mismatched(&call, e);
    call.issue(call.arg, &issued, NULL);
    return 0;
}

static int answer_crl(struct ca_client *c, const struct ipc_frame *f, struct err *e)
{
    struct ca_crl_signed crl;
    struct slot call;
    if (ca_crl_signed_parse(&crl, f->body, e) < 0)
        return -1;
    if (!client_call_take(c, f, &call))
        return 0;
    if (!call.crl)
        return mismatched(&call, e);
    call.crl(call.arg, &crl, NULL);
    return 0;
}

static int answer_jwt(struct ca_client *c, const struct ipc_frame *f, struct err *e)
{
    struct ca_jwt_signed jwt;
    struct slot call;
    if (ca_jwt_signed_parse(&jwt, f->body, e) < 0)
        return -1;
    if (!client_call_take(c, f, &call))
        return 0;
    if (!call.jwt)
        return mismatched(&call, e);
    call.jwt(call.arg, &jwt, NULL);
    return 0;
}

static int answer_info(struct ca_client *c, const struct ipc_frame *f, struct err *e)
{
    struct ca_info m;
    struct ca_snapshot *s = &c->snapshot;
    if (ca_info_parse(&m, f->body, e) < 0)
        return -1;
    pthread_mutex_lock(&c->lock);
    c->answered_at = clock_mono_ms();
    s->known = true;
    memcpy(s->root, m.root.p, m.root.len);
    s->root_len = m.root.len;
    memcpy(s->issuing, m.issuing.p, m.issuing.len);
    s->issuing_len = m.issuing.len;
    memcpy(s->vkey, m.vkey.p, m.vkey.len);
    s->vkey[m.vkey.len] = 0;
    memcpy(s->token, m.token.p, m.token.len);
    s->token[m.token.len] = 0;
    s->log_size = m.log_size;
    s->issued = m.issued;
    s->refused = m.refused;
    s->signatures = m.signatures;
    s->first_index = m.first_index;
    s->issuing_signatures = m.issuing_signatures;
    s->started = m.started;
    s->abandoned = m.abandoned;
    s->quorum = m.quorum;
    s->witnesses = m.witnesses;
    s->cosigned = m.cosigned;
    s->unwitnessed = m.unwitnessed;
    memcpy(s->jwt_key, m.jwt_key.len ? m.jwt_key.p : s->jwt_key, m.jwt_key.len);
    s->jwt_key_len = m.jwt_key.len;
    s->jwt_since = m.jwt_since;
    s->jwt_signatures = m.jwt_signatures;
    s->jwt_abandoned = m.jwt_abandoned;
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int client_answer(struct ca_client *c, struct bytes frame, struct err *e)
{
    struct ipc_frame f;
    if (ipc_frame_parse(&f, frame.p, frame.len, e) < 0)
        return -1;
    switch (f.type) {
    case CA_ISSUED: return answer_issued(c, &f, e);
    case CA_RECORDED: return answer_recorded(c, &f, e);
    case CA_CRL_SIGNED: return answer_crl(c, &f, e);
    case CA_JWT_SIGNED: return answer_jwt(c, &f, e);
    case CA_REFUSED: return answer_refused(c, &f, e);
    case CA_INFO_REPLY: return answer_info(c, &f, e);
    default: return err_set(e, ERR_MALFORMED, "ca-msg", "the signer sent a message of type %u", f.type);
    }
}
