/* Orders and certificates (RFC 8555 §7.4), and the order that needs one round trip. */
#include "api/internal.h"
#include "base/clock.h"
#include <string.h>

/* PEM as a JSON string: plain text but for its line ends. */
static void pem_write(struct buf *b, const char *pem, size_t len)
{
    buf_u8(b, '"');
    while (len > 0) {
        const char *nl = memchr(pem, '\n', len);
        size_t n = nl ? (size_t)(nl - pem) : len;
        buf_put(b, pem, n);
        if (!nl)
            break;
        buf_put(b, "\\n", 2);
        pem += n + 1;
        len -= n + 1;
    }
    buf_u8(b, '"');
}

static void order_write(struct buf *b, const struct request *r, const struct ra_order_view *o, bool with_chain)
{
    char expires[21];
    clock_rfc3339(expires, o->expires);
    buf_str(b, "{\"status\":\"");
    buf_str(b, ra_status_name(o->status));
    buf_str(b, "\",\"expires\":\"");
    buf_str(b, expires);
    buf_str(b, "\",\"identifiers\":[");
    for (size_t i = 0; i < o->identifiers_count; i++) {
        buf_str(b, i ? ",{\"type\":" : "{\"type\":");
        jw_str(b, o->identifiers[i].type);
        buf_str(b, ",\"value\":");
        jw_str(b, o->identifiers[i].value);
        buf_u8(b, '}');
    }
    buf_str(b, "],\"authorizations\":[");
    for (size_t i = 0; i < o->authz_count; i++) {
        buf_str(b, i ? ",\"" : "\"");
        url_write(b, r, "/acme/authz/", o->authz[i]);
        buf_u8(b, '"');
    }
    buf_str(b, "],\"finalize\":\"");
    url_write(b, r, "/acme/finalize/", o->id);
    buf_u8(b, '"');
    if (o->status == RA_VALID && o->chain_pem) {
        buf_str(b, ",\"certificate\":\"");
        url_write(b, r, "/acme/certificate/", o->id);
        buf_u8(b, '"');
        if (with_chain) {
            buf_str(b, ",\"certificateChain\":");
            pem_write(b, o->chain_pem, o->chain_len);
        }
    }
    if (o->error.code != ERR_NONE) {
        buf_str(b, ",\"error\":");
        problem_write(b, &o->error, true);
    }
    buf_u8(b, '}');
}

/* Location on every answer that shows an order: clients look for it after newOrder, finalize and
 * each poll. */
static void order_answer(struct request *r, const struct ra_order_view *o, unsigned status, bool with_chain)
{
    order_write(&r->out, r, o, with_chain);
    url_write(&r->location, r, "/acme/order/", o->id);
    if (o->status == RA_PROCESSING)
        r->retry_after = 1;
    request_json(r, status);
}

static void order_settle(struct request *r, const struct ra_order_view *o, const struct err *e, unsigned status,
                         bool with_chain)
{
    if (!request_claim(r))
        return;
    if (e)
        request_fail(r, e);
    else
        order_answer(r, o, status, with_chain);
    request_settle(r);
}

static void new_order_done(void *arg, const struct ra_order_view *o, const struct err *e)
{
    struct request *r = arg;
    order_settle(r, o, e, 201, true);
}

static void order_done(void *arg, const struct ra_order_view *o, const struct err *e)
{
    struct request *r = arg;
    order_settle(r, o, e, 200, false);
}

/* With "csr" the order is finalized at once if everything is authorized, or becomes so by
 * "evidence", which covers this request's nonce; without, it is RFC 8555's. */
void acme_new_order(struct request *r)
{
    struct err e = {0};
    if (payload_order_parse(&r->order, r->jws.payload.p, r->jws.payload.len, &e) < 0 || acme_check_replaces(r, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    struct ra_order_request ask = {.identifiers = r->order.identifiers,
                                   .identifiers_count = r->order.identifiers_count,
                                   .csr = {r->order.csr.p, r->order.csr.len},
                                   .evidence = r->order.evidence,
                                   .freshness = r->jws.nonce};
    request_ask(r);
    ra_order_new(r->server->ra, r->session, &ask, new_order_done, r);
}

/* POST-as-GET only. */
static bool payload_must_be_empty(struct request *r)
{
    struct err e = {0};
    if (r->jws.payload_empty)
        return true;
    err_set(&e, ERR_MALFORMED, "payload", "this is read with an empty payload (POST-as-GET, RFC 8555 §6.3)");
    request_fail(r, &e);
    return false;
}

struct orders {
    struct request *r;
    size_t n;
};

static void orders_each(void *arg, const char *id)
{
    struct orders *l = arg;
    struct buf *b = &l->r->out;
    buf_str(b, l->n++ ? ",\"" : "\"");
    url_write(b, l->r, "/acme/order/", id);
    buf_u8(b, '"');
}

/* §7.1.2.1: the account's open orders; so few that there is one page. Finished ones go soon anyway. */
void acme_orders(struct request *r)
{
    struct err e = {0};
    if (!payload_must_be_empty(r))
        return;
    if (strcmp(r->arg, ra_session_id(r->session)) != 0) {
        err_set(&e, ERR_UNAUTHORIZED, "account", "this is not the account that signed");
        request_fail(r, &e);
        return;
    }
    buf_str(&r->out, "{\"orders\":[");
    ra_order_each(r->server->ra, r->session, orders_each, &(struct orders){r, 0});
    buf_str(&r->out, "]}");
    request_json(r, 200);
}

void acme_order(struct request *r)
{
    if (!payload_must_be_empty(r))
        return;
    request_ask(r);
    ra_order_get(r->server->ra, r->session, r->arg, order_done, r);
}

void acme_finalize(struct request *r)
{
    struct err e = {0};
    if (payload_finalize_parse(&r->order, r->jws.payload.p, r->jws.payload.len, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    request_ask(r);
    ra_order_finalize(r->server->ra, r->session, r->arg, (struct bytes){r->order.csr.p, r->order.csr.len}, order_done, r);
}

static void certificate_done(void *arg, const struct ra_order_view *o, const struct err *e)
{
    struct request *r = arg;
    struct err none = {0};
    if (!request_claim(r))
        return;
    if (!e && (o->status != RA_VALID || !o->chain_pem)) {
        err_set(&none, ERR_NOT_READY, "certificate", "the order is %s; it has no certificate", ra_status_name(o->status));
        e = &none;
    }
    if (e) {
        request_fail(r, e);
    } else {
        buf_put(&r->out, o->chain_pem, o->chain_len);
        url_write(&r->up, r, "/acme/issuer", "");
        r->content_type = "application/pem-certificate-chain";
        r->status = 200;
    }
    request_settle(r);
}

/* A certificate is addressed by its order. */
void acme_certificate(struct request *r)
{
    if (!payload_must_be_empty(r))
        return;
    request_ask(r);
    ra_order_get(r->server->ra, r->session, r->arg, certificate_done, r);
}
