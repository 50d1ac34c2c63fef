/* Authorizations and their one challenge, remote-attest-01 (RFC 8555 §7.5,
 * draft-ietf-acme-rats). A challenge is addressed by its authorization. */
#include "api/internal.h"
#include "base/clock.h"

static void challenge_write(struct buf *b, const struct request *r, const struct ra_authz_view *a)
{
    char when[21];
    buf_str(b, "{\"type\":\"remote-attest-01\",\"url\":\"");
    url_write(b, r, "/acme/challenge/", a->id);
    buf_fmt(b, "\",\"status\":\"%s\",\"token\":\"%s\",\"freshness_nonce\":\"%s\",\"attestClaimsHint\":[",
            ra_status_name(a->challenge_status), a->challenge_token, a->challenge_token);
    for (size_t i = 0; i < attest_media_types_count; i++) {
        buf_str(b, i ? "," : "");
        jw_str(b, attest_media_types[i]);
    }
    buf_u8(b, ']');
    if (a->validated) {
        clock_rfc3339(when, a->validated);
        buf_fmt(b, ",\"validated\":\"%s\"", when);
    }
    if (a->error.code != ERR_NONE) {
        buf_str(b, ",\"error\":");
        problem_write(b, &a->error, true);
    }
    buf_u8(b, '}');
}

static void authz_write(struct buf *b, const struct request *r, const struct ra_authz_view *a)
{
    char expires[21];
    clock_rfc3339(expires, a->expires);
    buf_fmt(b, "{\"status\":\"%s\",\"expires\":\"%s\",\"identifier\":{\"type\":", ra_status_name(a->status), expires);
    jw_str(b, a->identifier.type);
    buf_str(b, ",\"value\":");
    jw_str(b, a->identifier.value);
    buf_str(b, "},\"challenges\":[");
    challenge_write(b, r, a);
    buf_str(b, "]}");
}

static void authz_done(void *arg, const struct ra_authz_view *a, const struct err *e)
{
    struct request *r = arg;
    if (!request_claim(r))
        return;
    if (e) {
        request_fail(r, e);
    } else {
        authz_write(&r->out, r, a);
        request_json(r, 200);
        r->retry_after = a->challenge_status == RA_PROCESSING ? 1 : 0;
    }
    request_settle(r);
}

static void challenge_done(void *arg, const struct ra_authz_view *a, const struct err *e)
{
    struct request *r = arg;
    if (!request_claim(r))
        return;
    if (e) {
        request_fail(r, e);
    } else {
        challenge_write(&r->out, r, a);
        url_write(&r->up, r, "/acme/authz/", a->id);
        request_json(r, 200);
        r->retry_after = a->challenge_status == RA_PROCESSING ? 1 : 0;
    }
    request_settle(r);
}

void acme_authz(struct request *r)
{
    struct err e = {0};
    bool read = r->jws.payload_empty;
    if (!read && payload_authz_parse(r->jws.payload.p, r->jws.payload.len, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    request_ask(r);
    (read ? ra_authz_get : ra_authz_deactivate)(r->server->ra, r->session, r->arg, authz_done, r);
}

void acme_challenge(struct request *r)
{
    struct err e = {0};
    if (r->jws.payload_empty) {
        request_ask(r);
        ra_authz_get(r->server->ra, r->session, r->arg, challenge_done, r);
        return;
    }
    if (payload_evidence_parse(&r->order, r->jws.payload.p, r->jws.payload.len, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    request_ask(r);
    ra_challenge_answer(r->server->ra, r->session, r->arg, r->order.evidence, challenge_done, r);
}
