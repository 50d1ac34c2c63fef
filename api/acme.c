/* ACME (RFC 8555): the gate that every signed request passes, the directory, nonces, accounts. */
#include "api/internal.h"
#include <string.h>
#include <strings.h>

/* --- URLs ----------------------------------------------------------------------------------------- */

const char *base_strip(const struct api_server *s, const char *url)
{
    for (size_t i = 0; i < s->bases_count; i++)
        if (strncmp(url, s->bases[i].url, s->bases[i].len) == 0 && url[s->bases[i].len] == '/')
            return url + s->bases[i].len;
    return NULL;
}

void url_write(struct buf *b, const struct request *r, const char *path, const char *id)
{
    buf_put(b, r->base->url, r->base->len);
    buf_str(b, path);
    buf_str(b, id);
}

bool acme_id_ok(const char *id)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t n = strspn(id, set);
    return n == RA_ID_LEN && !id[n];
}

/* --- the gate --------------------------------------------------------------------------------------- */

/* RFC 8555 §6.2. */
static int content_type_check(const struct request *r, struct err *e)
{
    static const char want[] = "application/jose+json";
    const char *have = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Content-Type");
    size_t n = have ? strcspn(have, "; \t") : 0;
    if (n == sizeof want - 1 && strncasecmp(have, want, n) == 0)
        return 0;
    return err_set(e, ERR_MALFORMED, "content-type", "Content-Type must be %s, not %.64s (RFC 8555 §6.2)", want,
                   have ? have : "absent");
}

/* §6.4: the URL that was signed is the one that was asked for, its query included (ours have none). */
static int url_check(const struct request *r, struct err *e)
{
    const char *path = base_strip(r->server, r->jws.url);
    if (path && strcmp(path, r->path) == 0 &&
        MHD_get_connection_values(r->connection, MHD_GET_ARGUMENT_KIND, NULL, NULL) == 0)
        return 0;
    return err_set(e, ERR_UNAUTHORIZED, "jws-url",
                   "the JWS was signed for the url %.160s, not for %s%.160s (RFC 8555 §6.4)", r->jws.url,
                   r->base->url, r->path);
}

static int session_find(struct request *r, struct err *e)
{
    static const char account[] = "/acme/account/";
    const char *path = base_strip(r->server, r->jws.kid);
    if (path && strncmp(path, account, sizeof account - 1) == 0 && acme_id_ok(path + sizeof account - 1))
        r->session = ra_session_find(r->server->ra, path + sizeof account - 1);
    if (!r->session)
        return err_set(e, ERR_NO_ACCOUNT, "account",
                       "no account is at the kid %.200s; make one at %s/acme/new-account", r->jws.kid, r->base->url);
    return 0;
}

static int key_check(struct request *r, struct err *e)
{
    bool by_key = r->route->kind == ROUTE_ACME_JWK || (r->route->kind == ROUTE_ACME_ANY && r->jws.jwk);
    if (by_key != (r->jws.jwk != NULL))
        return err_set(e, ERR_MALFORMED, "jws-key", "this request is signed with \"%s\" in its header, not \"%s\" (RFC 8555 §6.2)",
                       by_key ? "jwk" : "kid", by_key ? "kid" : "jwk");
    return by_key ? 0 : session_find(r, e);
}

/* §7.3.6: whoever ended it. */
static int account_check(const struct ra_session *s, struct err *e)
{
    if (ra_session_revoked(s))
        return err_set(e, ERR_UNAUTHORIZED, "session-revoked",
                       "the session was revoked; start again with new evidence, as a join token made since");
    if (ra_session_deactivated(s))
        return err_set(e, ERR_UNAUTHORIZED, "account-deactivated", "the account is deactivated (RFC 8555 §7.3.6)");
    return 0;
}

/* In the order of what costs least; the signature last. The nonce is spent before it: whoever knows
 * a nonce could spend it anyway. */
int acme_authenticate(struct request *r, struct err *e)
{
    if (content_type_check(r, e) < 0 || jws_parse(&r->jws, (const char *)r->body.p, r->body.len, e) < 0 ||
        url_check(r, e) < 0 || key_check(r, e) < 0 || nonce_use(r->server->nonces, r->jws.nonce, e) < 0)
        return -1;
    if (jws_verify(&r->jws, r->session ? ra_session_key(r->session) : r->jws.jwk, e) < 0)
        return -1;
    if (r->session)
        ra_session_touch(r->session); /* by its owner: who only knows its URL keeps no account alive */
    return r->session ? account_check(r->session, e) : 0;
}

/* --- directory, nonces ------------------------------------------------------------------------------ */

/* §7.1.1 */
void acme_directory(struct request *r)
{
    static const struct {
        const char *name, *path;
    } entries[] = {{"newNonce", "/acme/new-nonce"}, {"newAccount", "/acme/new-account"}, {"newOrder", "/acme/new-order"},
                 {"revokeCert", "/acme/revoke-cert"},
                 {"agentEntries", "/acme/agent-entries"}, {"renewalInfo", "/acme/renewal-info"},
                 {"newJwtSvid", "/acme/new-jwt-svid"}};
    struct buf *b = &r->out;
    buf_u8(b, '{');
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        buf_fmt(b, "\"%s\":\"", entries[i].name);
        url_write(b, r, entries[i].path, "\",");
    }
    buf_str(b, "\"meta\":{\"mayfly\":{\"oneRoundTrip\":true,\"evidence\":[");
    for (size_t i = 0; i < attest_media_types_count; i++) {
        buf_str(b, i ? "," : "");
        jw_str(b, attest_media_types[i]);
    }
    buf_str(b, "],\"identifiers\":[\"uri\",\"dns\"],\"trustDomain\":");
    jw_str(b, r->server->config->trust_domain);
    buf_str(b, "}}}");
    request_json(r, 200);
}

/* §7.2: 200 to HEAD, 204 to GET. */
void acme_new_nonce(struct request *r)
{
    r->nonce_wanted = true;
    r->cache = "no-store";
    r->status = r->method == M_HEAD ? 200 : 204;
}

/* What rel="up" of a certificate points to. */
void acme_issuer(struct request *r)
{
    struct ca_snapshot s;
    struct err e = {0};
    ra_signer(r->server->ra, &s);
    if (!s.known) {
        err_set(&e, ERR_UNAVAILABLE, "signer-away", "the signer has not shown its certificate yet; try again");
        request_fail(r, &e);
        return;
    }
    buf_put(&r->out, s.issuing, s.issuing_len);
    r->status = 200;
    r->content_type = "application/pkix-cert";
}

/* --- accounts (§7.3) -------------------------------------------------------------------------------- */

static void account_answer(struct request *r, const struct ra_session *s, bool created)
{
    buf_fmt(&r->out, "{\"status\":\"%s\",\"orders\":\"", ra_session_deactivated(s) ? "deactivated" : "valid");
    url_write(&r->out, r, "/acme/orders/", ra_session_id(s));
    buf_str(&r->out, "\"}");
    url_write(&r->location, r, "/acme/account/", ra_session_id(s));
    request_json(r, created ? 201 : 200);
}

static void account_done(void *arg, struct ra_session *s, bool created, const struct err *e)
{
    struct request *r = arg;
    if (!request_claim(r))
        return;
    if (e)
        request_fail(r, e);
    else
        account_answer(r, s, created);
    request_settle(r);
}

static void account_existing(struct request *r)
{
    struct err e = {0};
    if (account_check(r->session, &e) < 0)
        request_fail(r, &e);
    else
        account_answer(r, r->session, false);
}

void acme_new_account(struct request *r)
{
    struct payload_account p = {0};
    struct err e = {0};
    int rc = payload_account_parse(&p, r->jws.payload.p, r->jws.payload.len, &e);
    if (rc == 0)
        r->session = ra_session_find_key(r->server->ra, r->jws.thumbprint);
    if (rc == 0 && r->session) {
        account_existing(r);
        return;
    }
    if (rc == 0 && p.only_return_existing)
        rc = err_set(&e, ERR_NO_ACCOUNT, "account", "no account has this key, and none was to be made");
    if (rc == 0) {
        struct key *key = r->jws.jwk;
        request_ask(r);
        r->jws.jwk = NULL; /* theirs, unless they say no */
        rc = ra_session_new(r->server->ra, key, r->jws.thumbprint, account_done, r, &e);
        if (rc < 0) {
            r->jws.jwk = key;
            request_unask(r);
        }
    }
    if (rc < 0)
        request_fail(r, &e);
}

/* Read, update (contacts are checked, not kept), deactivate. */
void acme_account(struct request *r)
{
    struct payload_account p = {0};
    struct err e = {0};
    int rc = 0;
    if (strcmp(r->arg, ra_session_id(r->session)) != 0)
        rc = err_set(&e, ERR_UNAUTHORIZED, "account", "this is not the account that signed");
    else if (!r->jws.payload_empty)
        rc = payload_account_parse(&p, r->jws.payload.p, r->jws.payload.len, &e);
    if (rc == 0 && !p.deactivate) {
        account_answer(r, r->session, false);
        return;
    }
    if (rc == 0) {
        request_ask(r);
        rc = ra_session_deactivate(r->server->ra, r->session, account_done, r, &e);
        if (rc < 0)
            request_unask(r);
    }
    if (rc < 0)
        request_fail(r, &e);
}
