#include "api/nonce.h"
#include "base/bytes.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct nonce_table {
    _Atomic uint32_t next;
    _Atomic uint64_t slots[NONCE_SLOTS]; /* 0: nothing good here */
};

struct nonce_table *nonce_table_new(struct err *e)
{
    struct nonce_table *t = malloc(sizeof *t);
    if (!t) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the nonce table");
        return NULL;
    }
    /* Written, not merely zero: every page is resident from the start. */
    atomic_init(&t->next, 0);
    for (size_t i = 0; i < NONCE_SLOTS; i++)
        atomic_init(&t->slots[i], 0);
    return t;
}

void nonce_table_free(struct nonce_table *t)
{
    free(t);
}

static void random_fill(uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno != EINTR)
            abort(); /* no randomness: no nonce may be given out */
        if (got > 0) {
            p += got;
            n -= (size_t)got;
        }
    }
}

/* One system call for 32 nonces. The numbers become public one by one, so a buffer of them is no
 * secret that outlives its use: each is wiped by being given out. */
static uint64_t random_number(void)
{
    static _Thread_local uint64_t pool[32];
    static _Thread_local unsigned left;
    uint64_t v;
    do {
        if (left == 0) {
            random_fill((uint8_t *)pool, sizeof pool);
            left = sizeof pool / sizeof *pool;
        }
        v = pool[--left];
        pool[left] = 0;
    } while (v == 0);
    return v;
}

void nonce_make(struct nonce_table *t, char out[NONCE_LEN + 1])
{
    uint32_t slot = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed) % NONCE_SLOTS;
    uint64_t v = random_number();
    uint8_t raw[12];
    memcpy(raw, &slot, sizeof slot);
    memcpy(raw + sizeof slot, &v, sizeof v);
    atomic_store(&t->slots[slot], v);
    b64url_encode(out, raw, sizeof raw);
}

int nonce_use(struct nonce_table *t, const char *nonce, struct err *e)
{
    uint8_t raw[12];
    uint32_t slot = NONCE_SLOTS;
    uint64_t v = 0;
    size_t len = nonce ? strlen(nonce) : 0;
    if (len == NONCE_LEN && b64url_decode(raw, sizeof raw, nonce, len) == sizeof raw) {
        memcpy(&slot, raw, sizeof slot);
        memcpy(&v, raw + sizeof slot, sizeof v);
    }
    if (slot < NONCE_SLOTS && v != 0 && atomic_compare_exchange_strong(&t->slots[slot], &v, 0))
        return 0;
    return err_set(e, ERR_BAD_NONCE, "nonce",
                   "the nonce is %s; try again with the Replay-Nonce of this answer (RFC 8555 §6.5)",
                   nonce ? "used, too old, or not from this server" : "missing");
}
