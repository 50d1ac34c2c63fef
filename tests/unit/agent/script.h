/* An authority in a few lines behind the client's transport: each JWS is opened and verified, and a callback of the
 * test answers it by path. Used from the thread that asks. */
#ifndef UNIT_AGENT_SCRIPT_H
#define UNIT_AGENT_SCRIPT_H
#include "agent/wire.h"
#include "base/jose.h"
#include "unit/agent/pki.h"

#define SCRIPT_HOST "https://ca.test:443"

struct script {
    /* doc: the payload, NULL for GET and POST-as-GET. -1 with e: as if the network failed. */
    int (*answer)(struct script *s, const char *path, const json_t *doc, const char *nonce, struct http_answer *a,
                  struct err *e);
    void *arg;
    struct key *account;
    char thumbprint[44];
    unsigned nonces, calls, accounts;
    bool old; /* knows nothing but RFC 8555 */
};

static inline void script_problem(struct http_answer *a, unsigned status, const char *type, const char *rule)
{
    a->status = status;
    buf_fmt(&a->body, "{\"type\":\"urn:ietf:params:acme:error:%s\",\"detail\":\"as the test wants\",\"rule\":\"%s\"}", type,
            rule);
}

static inline void script_directory(const struct script *s, struct http_answer *a)
{
    buf_str(&a->body, "{\"newNonce\":\"" SCRIPT_HOST "/nonce\",\"newAccount\":\"" SCRIPT_HOST
                      "/account\",\"newOrder\":\"" SCRIPT_HOST "/order\"");
    if (!s->old)
        buf_str(&a->body, ",\"renewalInfo\":\"" SCRIPT_HOST "/ari\",\"newJwtSvid\":\"" SCRIPT_HOST
                          "/jwt\",\"agentEntries\":\"" SCRIPT_HOST "/entries\"");
    buf_str(&a->body, "}");
}

static inline int script_post(struct script *s, const char *path, const struct http_request *q, struct http_answer *a,
                              struct err *e)
{
    struct jws j = {0};
    assert_int_equal(jws_parse(&j, (const char *)q->body.p, q->body.len, e), 0);
    if (j.jwk) {
        key_free(s->account);
        s->account = key_from_evp(key_evp(j.jwk), e);
        strcpy(s->thumbprint, j.thumbprint);
    }
    assert_int_equal(jws_verify(&j, s->account, e), 0);
    int rc = 0;
    if (strcmp(path, "/account") == 0) {
        s->accounts++;
        a->status = 201;
        strcpy(a->location, SCRIPT_HOST "/account/1");
    } else {
        json_t *doc = j.payload_empty ? NULL : json_parse(j.payload.p, j.payload.len, 65536, e);
        rc = s->answer(s, path, doc, j.nonce, a, e);
        json_decref(doc);
    }
    jws_free(&j);
    return rc;
}

static inline int script_send(void *arg, const struct http_request *q, struct http_answer *a, struct err *e)
{
    struct script *s = arg;
    const char *path = q->url + strlen(SCRIPT_HOST);
    assert_memory_equal(q->url, SCRIPT_HOST, strlen(SCRIPT_HOST));
    buf_reset(&a->body);
    a->status = 200;
    a->retry_after = 0;
    a->nonce[0] = a->location[0] = a->etag[0] = 0;
    snprintf(a->nonce, sizeof a->nonce, "nonce-%u", s->nonces++);
    s->calls++;
    if (strcmp(path, "/nonce") == 0)
        return 0;
    if (strcmp(path, "/acme/directory") == 0) {
        script_directory(s, a);
        return 0;
    }
    return strcmp(q->method, "POST") == 0 ? script_post(s, path, q, a, e) : s->answer(s, path, NULL, "", a, e);
}

static inline void script_wait(void *arg, unsigned ms)
{
}

static inline struct acme_client *script_client(struct script *s)
{
    struct err e;
    struct acme_transport t = {script_send, script_wait, s};
    struct acme_client *c = acme_client_over("https://ca.test", &t, &e);
    assert_non_null(c);
    return c;
}

#endif
