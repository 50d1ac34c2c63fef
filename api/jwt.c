/* newJwtSvid, ours beside ACME: a JWT-SVID for a SPIFFE ID that the session is authorized for, or becomes so by
 * the evidence along with it, which covers this request's nonce. */
#include "api/internal.h"

static void svid_write(struct request *r, const struct ca_jwt_signed *s)
{
    struct buf *b = &r->out;
    r->secret = true; /* whoever has it may show it */
    r->cache = "no-store";
    buf_str(b, "{\"spiffe_id\":");
    jw_str(b, json_string_value(json_object_get(r->order.doc, "spiffe_id")));
    buf_str(b, ",\"svid\":\"");
    buf_put(b, s->jwt.p, s->jwt.len); /* base64url and dots */
    buf_fmt(b, "\",\"issued\":%lld,\"expires\":%lld,\"index\":%llu}", (long long)s->issued, (long long)s->expires,
            (unsigned long long)s->index);
    request_json(r, 200);
}

static void jwt_done(void *arg, const struct ca_jwt_signed *s, const struct err *e)
{
    struct request *r = arg;
    if (!request_claim(r))
        return;
    if (e)
        request_fail(r, e);
    else
        svid_write(r, s);
    request_settle(r);
}

void acme_new_jwt(struct request *r)
{
    struct err e = {0};
    struct payload_jwt p;
    if (payload_jwt_parse(&r->order, &p, r->jws.payload.p, r->jws.payload.len, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    const struct ra_jwt_request ask = {.spiffe_id = p.spiffe_id, .audiences = p.audiences,
                                       .audiences_count = p.audiences_count, .ttl = p.ttl,
                                       .evidence = r->order.evidence, .freshness = r->jws.nonce};
    request_ask(r);
    ra_jwt_new(r->server->ra, r->session, &ask, jwt_done, r);
}
