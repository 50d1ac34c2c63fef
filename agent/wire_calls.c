/* Requests beyond RFC 8555, on the ACME client's one connection (wire.h). */
#include "agent/wire.h"
#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct bytes body_of(const struct http_answer *a)
{
    return (struct bytes){a->body.p, a->body.len};
}

/* What is not there may come with an update of the authority: the directory is read again then. */
static int offered(struct acme_client *c, const char *url, const char *what, struct err *e)
{
    if (!*url)
        c->has_directory = false;
    return *url ? 0
                : err_set(e, ERR_UNSUPPORTED_ID, "acme-directory",
                          "the authority offers no %s: it is older than this agent; update it", what);
}

/* --- entries ---------------------------------------------------------------------------------------------------------- */

struct entries_call {
    struct acme_client *c;
    const char *agent, *have;
    struct entry_list *out;
};

static int entries_page(struct entries_call *q, const char *have, const char *after, struct entry_list *page,
                        struct err *e)
{
    struct http_answer a;
    struct buf payload;
    buf_init(&payload, 16384);
    buf_str(&payload, "{\"agent\":");
    jw_str(&payload, q->agent);
    buf_str(&payload, ",\"have\":");
    jw_str(&payload, have);
    buf_str(&payload, ",\"after\":");
    jw_str(&payload, after);
    buf_str(&payload, "}");
    http_answer_init_max(&a, ANSWER_BIG_MAX);
    const char *text = buf_cstr(&payload);
    int rc = text ? acme_post_text(q->c, q->c->directory.entries, text, &a, e)
                  : err_set(e, ERR_INTERNAL, "memory", "out of memory");
    if (rc == 0)
        rc = entry_list_parse(page, body_of(&a), e);
    buf_free(&payload);
    http_answer_free(&a);
    return rc;
}

static int append(struct entry_list *all, struct entry_list *page, struct err *e)
{
    if (all->n + page->n > ENTRIES_MAX)
        return err_set(e, ERR_TOO_LARGE, "entries", "more than %d entries for one agent", ENTRIES_MAX);
    struct entry *list = realloc(all->list, (all->n + page->n + 1) * sizeof *list);
    if (!list)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    all->list = list;
    if (page->n)
        memcpy(list + all->n, page->list, page->n * sizeof *list);
    all->n += page->n;
    page->n = 0; /* they are in all now */
    return 0;
}

/* All pages are of one version, else from the beginning: an entry must not be missed because another came. */
static int entries_step(void *arg, struct err *e)
{
    struct entries_call *q = arg;
    const char *have = q->have, *after = "";
    if (offered(q->c, q->c->directory.entries, "agentEntries", e) < 0)
        return -1;
    for (int restarts = 0, rc = 0; rc == 0;) {
        struct entry_list page;
        if (entries_page(q, have, after, &page, e) < 0)
            return -1;
        if (*after && strcmp(page.version, q->out->version) != 0) {
            entry_list_free(&page);
            entry_list_free(q->out);
            have = after = "";
            if (++restarts > 4)
                return err_set(e, ERR_UNAVAILABLE, "entries", "the list of entries changes faster than it can be read");
            continue;
        }
        strcpy(q->out->version, page.version);
        q->out->revoked = page.revoked;
        q->out->unchanged = page.unchanged && !*after && *have;
        bool more = page.more && !q->out->unchanged;
        rc = append(q->out, &page, e);
        entry_list_free(&page);
        if (rc < 0 || !more)
            return rc;
        const char *last = q->out->list[q->out->n - 1].spiffe_id;
        if (strcmp(last, after) <= 0 && *after)
            return err_set(e, ERR_INTERNAL, "acme-answer", "the authority's pages of entries are not in order");
        after = last;
    }
    return -1;
}

int acme_entries(struct acme_client *c, const char *agent, const char *have, unsigned deadline_ms,
                 struct entry_list *out, struct err *e)
{
    struct entries_call q = {c, agent, have, out};
    memset(out, 0, sizeof *out);
    c->deadline = clock_mono_ms() + deadline_ms;
    int rc = acme_with_session(c, entries_step, &q, e);
    if (rc < 0)
        entry_list_free(out);
    return rc;
}

/* --- JWT-SVIDs ---------------------------------------------------------------------------------------------------------- */

struct jwt_call {
    struct acme_client *c;
    const struct jwt_want *w;
    struct jwt_answer *out;
    bool with_evidence;
};

static int jwt_payload(void *arg, const char *nonce, struct buf *out, struct err *e)
{
    const struct jwt_call *q = arg;
    buf_str(out, "{\"spiffe_id\":");
    jw_str(out, q->w->spiffe_id);
    buf_str(out, ",\"audience\":[");
    for (size_t i = 0; i < q->w->audience_count; i++) {
        buf_str(out, i ? "," : "");
        jw_str(out, q->w->audience[i]);
    }
    buf_str(out, "]");
    if (q->with_evidence) {
        buf_str(out, ",\"evidence\":");
        if (acme_evidence(q->c, q->w->evidence, q->w->arg, nonce, out, e) < 0)
            return -1;
    }
    buf_str(out, "}");
    return 0;
}

static int jwt_step(void *arg, struct err *e)
{
    struct jwt_call *q = arg;
    struct http_answer a;
    if (offered(q->c, q->c->directory.new_jwt, "newJwtSvid", e) < 0)
        return -1;
    q->with_evidence = q->w->evidence && !id_set_has(&q->c->authorized, q->w->spiffe_id);
    http_answer_init(&a);
    int rc = acme_post(q->c, q->c->directory.new_jwt, jwt_payload, q, &a, e);
    if (rc < 0 && e->code == ERR_UNAUTHORIZED && !q->with_evidence && q->w->evidence) {
        id_set_remove(&q->c->authorized, q->w->spiffe_id); /* the session's hour is over */
        q->with_evidence = true;
        rc = acme_post(q->c, q->c->directory.new_jwt, jwt_payload, q, &a, e);
    }
    if (rc == 0)
        rc = jwt_answer_parse(q->out, q->w->spiffe_id, body_of(&a), e);
    if (rc == 0)
        id_set_add(&q->c->authorized, q->w->spiffe_id);
    http_answer_free(&a);
    return rc;
}

int acme_jwt(struct acme_client *c, const struct jwt_want *w, struct jwt_answer *out, struct err *e)
{
    struct jwt_call q = {.c = c, .w = w, .out = out};
    memset(out, 0, sizeof *out);
    c->deadline = clock_mono_ms() + w->deadline_ms;
    return acme_with_session(c, jwt_step, &q, e);
}

/* --- renewal advice, bundle ----------------------------------------------------------------------------------------------- */

int acme_renewal_info(struct acme_client *c, const char *cert_id, unsigned deadline_ms, struct ari *out, struct err *e)
{
    char url[URL_MAX + CERT_ID_MAX + 2];
    struct http_answer a;
    c->deadline = clock_mono_ms() + deadline_ms;
    if (acme_session(c, e) < 0)
        return -1;
    if (!*c->directory.renewal_info)
        return err_set(e, ERR_NOT_FOUND, "acme-directory", "the authority gives no renewal advice");
    snprintf(url, sizeof url, "%s/%s", c->directory.renewal_info, cert_id);
    if (url_same_origin(&c->server, url, "renewalInfo", e) < 0)
        return -1;
    http_answer_init(&a);
    struct http_request q = {.method = "GET", .url = url, .deadline = c->deadline};
    int rc = c->transport.send(c->transport.arg, &q, &a, e); /* never waited for: the next poll will tell */
    if (rc == 0 && a.status != 200) {
        rc = acme_problem(&a, e);
        if (a.status == 404)
            e->code = ERR_NOT_FOUND;
    } else if (rc == 0) {
        rc = ari_parse(out, body_of(&a), e);
    }
    out->retry_after = a.retry_after;
    http_answer_free(&a);
    return rc;
}

int acme_bundle(struct acme_client *c, unsigned deadline_ms, struct buf *out, struct err *e)
{
    char url[ORIGIN_MAX + 32];
    struct http_answer a;
    c->deadline = clock_mono_ms() + deadline_ms;
    snprintf(url, sizeof url, "%s/spiffe/bundle", c->server.origin);
    http_answer_init_max(&a, ANSWER_BIG_MAX);
    int rc = acme_plain(c, "GET", url, NULL, &a, e);
    if (rc == 0) {
        buf_put(out, a.body.p, a.body.len);
        rc = out->failed ? err_set(e, ERR_TOO_LARGE, "bundle-size", "the bundle does not fit") : 0;
    }
    http_answer_free(&a);
    return rc;
}
