/* Search in the log, over HTTP: who may, the query, the answer. Finding is audit/'s, on a thread of
 * its own; meanwhile the connection is suspended. Open to any web page (CORS) where it is open to
 * the public; with audit.access: mtls, to whom ra/ admits by the certificate shown. */
#include "api/internal.h"
#include "audit/service.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEER_MAX 5 /* certificates; one more than count */

/* MHD hands out decoded pairs; the filters are read from the query as it came, so that nothing is
 * decoded twice or taken for something else. Called before anything else of a request. */
void *audit_uri_seen(void *unused, const char *uri, struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct api_conn *conn = i ? i->socket_context : NULL;
    if (!conn)
        return NULL;
    free(conn->query);
    conn->query = NULL;
    if (strncmp(uri, "/audit/", 7) == 0) {
        const char *query = strchr(uri, '?');
        conn->query = strdup(query ? query + 1 : "");
    }
    return NULL;
}

struct asked { /* between the handler and the answer */
    struct audit_question q;
    struct request *r;
    char *query; /* owned */
};

static void asked_free(struct asked *a)
{
    buf_free(&a->q.out);
    free(a->query);
    free(a);
}

/* The query with another cursor. */
static char *query_next(const char *query, const char *cursor)
{
    struct buf b;
    buf_init(&b, AUDIT_QUERY_MAX + 64);
    for (const char *p = query; *p;) {
        size_t n = strcspn(p, "&");
        if (strncmp(p, "cursor=", 7) != 0) {
            buf_put(&b, p, n);
            buf_u8(&b, '&');
        }
        p += n + (p[n] == '&');
    }
    buf_fmt(&b, "cursor=%s", cursor);
    char *next = buf_cstr(&b) && !strpbrk(buf_cstr(&b), "<>\" ") ? strdup(buf_cstr(&b)) : NULL;
    buf_free(&b);
    return next;
}

static void answered(struct audit_question *q, const struct err *e)
{
    static const char *const types[] = {
        [AUDIT_JSON] = "application/json", [AUDIT_JSONL] = "application/jsonl", [AUDIT_CSV] = "text/csv; charset=utf-8; header=present"};
    struct asked *a = q->arg;
    struct request *r = a->r;
    if (request_claim(r)) {
        if (e) {
            request_fail(r, e);
        } else {
            struct buf out = r->out;
            r->out = q->out;
            q->out = out;
            r->status = 200;
            r->content_type = types[q->filter.format];
            r->cache = "no-store";
            r->next_page = *q->next ? query_next(a->query, q->next) : NULL;
        }
        request_settle(r);
    }
    asked_free(a);
}

static int may_ask(const struct request *r, struct err *e)
{
    struct bytes chain[PEER_MAX];
    enum config_audit access = r->admin ? CONFIG_AUDIT_PUBLIC : r->server->config->audit_access;
    if (access == CONFIG_AUDIT_MTLS && ra_auditor(r->server->ra, chain, tls_peer(r->tls, chain, PEER_MAX), e) < 0)
        return -1;
    if (access == CONFIG_AUDIT_LOCAL)
        return err_set(e, ERR_UNAUTHORIZED, "audit-access",
                       "this authority answers searches on its own host only: use 'mayfly log search' there. Its operator opens "
                       "them to everybody with audit.access: public in mayfly.yaml, or to auditors with mtls. /log/ is open: search a mirror of it with "
                       "'mayfly log search --log DIR --vkey KEY'");
    return r->server->audit ? 0 : err_set(e, ERR_UNAVAILABLE, "audit-index", "this server keeps no audit index");
}

static int question_make(struct asked *a, struct err *e)
{
    struct request *r = a->r;
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct api_conn *conn = i ? i->socket_context : NULL;
    if (!conn || !conn->query)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a query");
    a->query = conn->query;
    conn->query = NULL;
    if (a->q.stats && *a->query)
        return err_set(e, ERR_MALFORMED, "audit-filter", "statistics take no filters");
    return audit_query_parse(&a->q.filter, a->query, strlen(a->query), e);
}

static void ask(struct request *r, bool stats)
{
    struct err e = {0};
    struct asked *a = calloc(1, sizeof *a);
    r->cors = !r->admin && r->server->config->audit_access != CONFIG_AUDIT_MTLS; /* pages get no certificate */
    if (!a) {
        err_set(&e, ERR_INTERNAL, "memory", "out of memory for a question");
        request_fail(r, &e);
        return;
    }
    a->r = r;
    a->q.stats = stats;
    a->q.first = r->admin;
    a->q.done = answered;
    a->q.arg = a;
    buf_init(&a->q.out, AUDIT_ANSWER_MAX);
    if (may_ask(r, &e) == 0 && question_make(a, &e) == 0) {
        request_ask(r);
        if (audit_ask(r->server->audit, &a->q, &e) == 0)
            return;
        request_unask(r);
    }
    request_fail(r, &e);
    asked_free(a);
}

void audit_entries(struct request *r)
{
    ask(r, false);
}

void audit_statistics(struct request *r)
{
    ask(r, true);
}
