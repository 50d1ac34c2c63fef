/* What the store can account for in the log. Until somebody has held it against the log (ra_told_settle) the
 * log is told of no change: nothing that an older copy of the store has to say may come to stand there, nor
 * raise the index that tells its age. Its own lock, never taken together with another. */
#include "ra/store.h"
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#define TIME_LEN 8 /* a body begins with it, and the signer sets it */

struct known { /* a row of the outbox as the store was opened; it may stand in the log any number of times */
    struct map_node node;
    uint8_t digest[32];
};

int told_init(struct ra *ra)
{
    pthread_mutex_init(&ra->told.lock, NULL);
    return map_init(&ra->told.known);
}

static void known_free(void *arg, struct map_node *n)
{
    (void)arg;
    free(MAP_OBJECT(n, struct known, node));
}

void told_free(struct ra *ra)
{
    map_drain(&ra->told.known, known_free, NULL);
    map_free(&ra->told.known);
    pthread_mutex_destroy(&ra->told.lock);
}

/* --- what is known --------------------------------------------------------------------------------------- */

static bool digest_of(uint8_t out[32], uint16_t type, struct bytes body)
{
    uint8_t both[2 + 32] = {(uint8_t)(type >> 8), (uint8_t)type};
    return body.len >= TIME_LEN && SHA256(body.p + TIME_LEN, body.len - TIME_LEN, both + 2) &&
           SHA256(both, sizeof both, out);
}

int told_waiting(struct ra *ra, const struct deed *d, struct err *e)
{
    struct known *k = calloc(1, sizeof *k);
    if (!k || !digest_of(k->digest, d->type, d->body)) {
        free(k);
        return no_memory(e);
    }
    if (map_find(&ra->told.known, k->digest, sizeof k->digest))
        free(k);
    else
        map_add(&ra->told.known, &k->node, k->digest, sizeof k->digest);
    return 0;
}

bool ra_told_knows(struct ra *ra, uint16_t type, struct bytes body)
{
    uint8_t digest[32];
    if (!digest_of(digest, type, body))
        return false;
    pthread_mutex_lock(&ra->told.lock);
    bool known = map_find(&ra->told.known, digest, sizeof digest) != NULL;
    pthread_mutex_unlock(&ra->told.lock);
    return known;
}

int64_t ra_told_index(struct ra *ra)
{
    return ra->told.index; /* written before any thread was */
}

/* --- taken out of the outbox --------------------------------------------------------------------------------- */

struct forget_op { /* of a change that the log has */
    struct op op;
    int64_t id; /* its row of the outbox; 0: none */
    uint64_t index;
};

static int forget_write(struct op *op, struct store *s, struct err *e)
{
    const struct forget_op *o = (struct forget_op *)(void *)op;
    if (store_told(s, o->index, e) < 0 || (o->id && store_deed_delete(s, o->id, e) < 0))
        return -1;
    return o->id ? store_revocation_told(s, o->id, o->index, e) : 0;
}

/* When it fails the log is told once more after the next start. */
static void forget_done(struct op *op, struct ra *ra, const struct err *e)
{
    (void)ra;
    (void)e;
    free(op);
}

static void forget(struct ra *ra, int64_t id, uint64_t index)
{
    struct err e = {0};
    struct forget_op *o = calloc(1, sizeof *o);
    if (!o)
        return;
    *o = (struct forget_op){.op = {.write = forget_write, .done = forget_done}, .id = id, .index = index};
    if (writer_push(ra, &o->op, &e) < 0)
        free(o);
}

void told_in_log(void *arg, int64_t id, uint64_t index)
{
    revocation_told(arg, id, index);
    forget(arg, id, index);
}

void ra_told_settle(struct ra *ra, uint64_t index)
{
    pthread_mutex_lock(&ra->told.lock);
    map_drain(&ra->told.known, known_free, NULL);
    pthread_mutex_unlock(&ra->told.lock);
    if (index)
        forget(ra, 0, index);
    teller_release(ra->teller);
}
