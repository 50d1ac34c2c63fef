/* Join tokens: made here, shown once, kept as a hash. */
#include "base/clock.h"
#include "base/secmem.h"
#include "ra/store.h"
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct token_op {
    struct op op;
    struct token *t; /* owned until memory has it */
    struct ra_token_view view; /* the text: wiped */
    ra_token_cb *cb;
    void *arg;
};

void token_free(struct token *t)
{
    if (!t)
        return;
    strings_free(&t->selectors);
    free(t->spiffe_id);
    free(t);
}

static void op_free(struct token_op *o)
{
    token_free(o->t);
    secret_wipe(o, sizeof *o);
    free(o);
}

static int token_write(struct op *op, struct store *s, struct err *e)
{
    return store_token_add(s, ((struct token_op *)(void *)op)->t, e);
}

static void token_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct token_op *o = (struct token_op *)(void *)op;
    if (!e) {
        pthread_mutex_lock(&ra->lock);
        map_add(&ra->tokens, &o->t->node, o->t->hash, sizeof o->t->hash);
        pthread_mutex_unlock(&ra->lock);
        log_info("join token created", "spiffe_id", o->t->spiffe_id ? o->t->spiffe_id : "", "expires",
                 log_num(o->t->expires), NULL);
        o->t = NULL;
    }
    o->cb(o->arg, e ? NULL : &o->view, e);
    op_free(o);
}

static int find_entry(struct ra *ra, const char *spiffe_id, char entry[RA_ID_LEN + 1], struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    const struct entry *x = registry_by_spiffe_id(&ra->entries, spiffe_id);
    if (x)
        memcpy(entry, x->x.id, RA_ID_LEN + 1);
    pthread_mutex_unlock(&ra->lock);
    return x ? 0
             : err_set(e, ERR_NOT_FOUND, "token-entry",
                       "no entry for %.200s, so a token would prove nothing; first `mayfly entry create --id %.200s`",
                       spiffe_id, spiffe_id);
}

/* entry: that of the SPIFFE ID, if one is asked for. */
static int check_request(struct ra *ra, const struct ra_token_request *r, char *const *selectors,
                         char entry[RA_ID_LEN + 1], struct err *e)
{
    struct spiffe_id id;
    unsigned lifetime = r->lifetime ? r->lifetime : ra->config->token_lifetime;
    if (!r->spiffe_id && r->selectors_count == 0)
        return err_set(e, ERR_MALFORMED, "token-empty",
                       "a join token is made for a SPIFFE ID, or gives selectors; name one of them");
    if (lifetime > RA_TOKEN_LIFETIME_MAX)
        return err_set(e, ERR_MALFORMED, "lifetime", "a join token lives at most %u seconds", RA_TOKEN_LIFETIME_MAX);
    if (selectors_check(selectors, r->selectors_count, e) < 0)
        return -1;
    if (!r->spiffe_id)
        return 0;
    if (spiffe_parse_workload(&id, r->spiffe_id, strlen(r->spiffe_id), ra->config->trust_domain, e) < 0)
        return -1;
    return find_entry(ra, r->spiffe_id, entry, e);
}

/* What agents will trust first: the hash of the root. */
static int anchor_hash(struct ra *ra, uint8_t out[32], struct err *e)
{
    struct ca_snapshot *s = malloc(sizeof *s);
    if (!s)
        return no_memory(e);
    ca_client_snapshot(ra->ca, s);
    int rc = 0;
    if (!s->known)
        rc = err_set(e, ERR_UNAVAILABLE, "signer-away",
                     "the signer has not shown its root certificate yet; try again in a moment");
    else if (EVP_Digest(s->root, s->root_len, out, NULL, EVP_sha256(), NULL) != 1)
        rc = err_set(e, ERR_INTERNAL, "crypto", "cannot hash the root certificate");
    free(s);
    return rc;
}

static int token_fill(struct ra *ra, struct token_op *o, const struct ra_token_request *r, char *const *selectors,
                      struct err *e)
{
    uint8_t secret[32], anchor[32];
    struct token *t = o->t;
    t->created = clock_wall();
    t->expires = t->created + (r->lifetime ? r->lifetime : ra->config->token_lifetime);
    if ((r->spiffe_id && !(t->spiffe_id = strdup(r->spiffe_id))) ||
        strings_copy(&t->selectors, selectors, r->selectors_count) < 0)
        return no_memory(e);
    if (anchor_hash(ra, anchor, e) < 0 || random_fill(secret, sizeof secret, e) < 0)
        return -1;
    join_token_write(o->view.text, secret, anchor);
    o->view.expires = t->expires;
    int ok = EVP_Digest(secret, sizeof secret, t->hash, NULL, EVP_sha256(), NULL);
    secret_wipe(secret, sizeof secret);
    return ok == 1 ? 0 : err_set(e, ERR_INTERNAL, "crypto", "cannot hash");
}

void ra_token_create(struct ra *ra, const struct ra_token_request *r, ra_token_cb *cb, void *arg)
{
    struct err e = {0};
    char *selectors[RA_SELECTORS_MAX];
    size_t n = r->selectors_count;
    struct token_op *o = calloc(1, sizeof *o);
    if (!o) {
        no_memory(&e);
        cb(arg, NULL, &e);
        return;
    }
    o->op = (struct op){.write = token_write, .done = token_done};
    o->cb = cb;
    o->arg = arg;
    if (n <= RA_SELECTORS_MAX && n > 0)
        memcpy(selectors, r->selectors, n * sizeof *selectors); /* read only; the type of ra_entry's list */
    if (!(o->t = calloc(1, sizeof *o->t)))
        no_memory(&e);
    else if (check_request(ra, r, selectors, o->t->entry, &e) == 0 && token_fill(ra, o, r, selectors, &e) == 0 &&
        writer_push(ra, &o->op, &e) == 0)
        return;
    op_free(o);
    cb(arg, NULL, &e);
}

/* --- spending: the half that memory knows. The other half is store_token_spend. ------------------------------- */

static int give(struct attest_result *r, const struct token *t, struct err *e)
{
    if (t->spiffe_id)
        snprintf(r->spiffe_id, sizeof r->spiffe_id, "%s", t->spiffe_id);
    for (size_t i = 0; i < t->selectors.n && r->selectors_count < ATTEST_SELECTORS_MAX; i++) {
        char *s = strdup(t->selectors.v[i]);
        if (!s)
            return no_memory(e);
        r->selectors[r->selectors_count++] = s;
    }
    return 0;
}

int token_read(struct ra *ra, struct attest_result *r, char entry[RA_ID_LEN + 1], int64_t now, struct err *e)
{
    int rc;
    pthread_mutex_lock(&ra->lock);
    struct map_node *n = map_find(&ra->tokens, r->token_hash, sizeof r->token_hash);
    const struct token *t = n ? MAP_OBJECT(n, struct token, node) : NULL;
    if (!t)
        rc = err_set(e, ERR_BAD_EVIDENCE, "token-unknown",
                     "this authority does not know the join token (never made here, or long expired); make one with "
                     "`mayfly token create`");
    else if (t->revoked)
        rc = err_set(e, ERR_BAD_EVIDENCE, "token-revoked",
                     "what the join token was made for was revoked since; make another with `mayfly token create`");
    else if (t->spent)
        rc = err_set(e, ERR_BAD_EVIDENCE, "token-spent",
                     "the join token was spent already; each proves its holder once. Make another with `mayfly token "
                     "create`; if you did not spend it, somebody else did");
    else if (t->expires <= now)
        rc = err_set(e, ERR_BAD_EVIDENCE, "token-expired",
                     "the join token has expired; make another with `mayfly token create`");
    else if (*t->entry && !registry_find(&ra->entries, t->entry))
        rc = err_set(e, ERR_BAD_EVIDENCE, "token-entry",
                     "the entry that the join token was made for was deleted since; make another with `mayfly token "
                     "create`");
    else
        rc = give(r, t, e);
    if (rc == 0)
        memcpy(entry, t->entry, sizeof t->entry);
    pthread_mutex_unlock(&ra->lock);
    return rc;
}
