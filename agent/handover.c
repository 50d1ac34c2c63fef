/* What a re-execution of our own (SIGHUP) takes along beside the agent's keys (keep.c): the list of entries, the SVIDs
 * of workloads with their keys, the bundle and CRLs. So an authority that is away now costs nobody what is still valid,
 * and one that is there issues nothing twice.
 *
 * A memfd: the private keys stand first, so that only their pages need be locked; what is public follows. Its size is
 * sealed. It is not sealed against writing, because the keys are wiped in it once they were taken out: its descriptor
 * goes to nobody else, and what is read is parsed as anything from outside is. Whatever is odd in it is as if nothing
 * had been handed over.
 *
 *   magic ‖ u32 length ‖ keys: each u16 length ‖ PKCS#8 ‖ what is public, see put_public */
#include "agent/handover.h"
#include "base/crl_name.h"
#include "base/spiffe.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "mayfly agent handover v1\n"
#define HEAD (sizeof MAGIC + 4)
#define KEY_MAX 1024
#define SECRETS_MAX (ENTRIES_MAX * (KEY_MAX + 2u))
#define PUBLIC_MAX (64u << 20)
#define TIME_MAX ((uint64_t)1 << 53) /* milliseconds: sums of two do not overflow */
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

/* --- writing ------------------------------------------------------------------------------------------------------- */

static void put_text(struct buf *b, const char *s)
{
    buf_vec16(b, s, strlen(s));
}

static void put_texts(struct buf *b, char *const *list, size_t n)
{
    buf_u8(b, (uint8_t)n);
    for (size_t i = 0; i < n; i++)
        put_text(b, list[i]);
}

static void put_long(struct buf *b, const void *p, size_t n)
{
    buf_u32(b, (uint32_t)n);
    buf_put(b, p, n);
}

static void put_time(struct buf *b, int64_t t)
{
    buf_u64(b, t < 0 ? 0 : (uint64_t)t > TIME_MAX ? TIME_MAX : (uint64_t)t);
}

static void put_identity(struct buf *b, const struct identity *i)
{
    put_text(b, i->entry_id);
    put_text(b, i->spiffe_id);
    put_text(b, i->hint);
    buf_u64(b, (uint64_t)i->revision);
    buf_u64(b, (uint64_t)i->number);
    put_texts(b, i->selectors, i->selectors_count);
    put_texts(b, i->dns, i->dns_count);
    buf_u8(b, i->svid != NULL);
    if (!i->svid)
        return;
    put_text(b, i->svid->hint);
    put_long(b, i->svid->chain, i->svid->chain_len);
    put_time(b, i->from_ms);
    put_time(b, i->renew_wall_ms);
    put_time(b, i->renew_mono_ms);
    put_time(b, i->ari_mono_ms);
    buf_u8(b, i->stale);
}

static void put_public(struct buf *b, const struct agent *a)
{
    const struct self *s = &a->self;
    put_text(b, a->config->id);
    put_text(b, a->config->server);
    put_text(b, a->version);
    buf_u64(b, (uint64_t)a->entries_revoked);
    put_time(b, a->entries_at_ms);
    put_time(b, a->entries_of_ms);
    buf_u32(b, (uint32_t)a->identities.n);
    for (size_t i = 0; i < a->identities.n; i++)
        put_identity(b, a->identities.list[i]);
    put_long(b, s->bundle.p, s->bundle.len);
    buf_u32(b, s->crls_count);
    for (unsigned i = 0; i < s->crls_count; i++) {
        put_text(b, s->crls[i].etag);
        put_long(b, s->crls[i].der.p, s->crls[i].der.len);
    }
}

static size_t secrets_size(const struct identities *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->list[i]->svid)
            n += 2 + s->list[i]->svid->key.len;
    return n;
}

static void u16_at(uint8_t *p, size_t n)
{
    p[0] = (uint8_t)(n >> 8);
    p[1] = (uint8_t)n;
}

static void fill(uint8_t *p, const struct identities *s, size_t secrets, const struct buf *public)
{
    memcpy(p, MAGIC, sizeof MAGIC);
    u16_at(p + sizeof MAGIC, secrets >> 16);
    u16_at(p + sizeof MAGIC + 2, secrets & 0xffff);
    p += HEAD;
    for (size_t i = 0; i < s->n; i++) {
        const struct wl_svid *v = s->list[i]->svid;
        if (!v)
            continue;
        u16_at(p, v->key.len);
        memcpy(p + 2, v->key.p, v->key.len);
        p += 2 + v->key.len;
    }
    memcpy(p, public->p, public->len);
}

void handover_close(struct handover *m)
{
    if (m->map) {
        secret_wipe(m->map, m->secret); /* also where it could not be locked */
        munmap(m->map, m->len);
    }
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct handover){.fd = -1};
}

/* Locked before anything secret is written to it. */
static int map(struct handover *m, size_t len, size_t secret, struct err *e)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    if (p == MAP_FAILED)
        return err_errno(e, "handover", "cannot map what is handed over");
    m->map = p;
    m->len = len;
    m->secret = secret;
    madvise(p, len, MADV_DONTDUMP);
    if (mlock(p, secret) < 0)
        return err_errno(e, "secret-memory",
                         "cannot lock the keys that are handed over; raise the memlock limit (LimitMEMLOCK= in the unit)");
    return 0;
}

int handover_write(struct handover *m, const struct agent *a, struct err *e)
{
    struct buf public;
    size_t secrets = secrets_size(&a->identities);
    *m = (struct handover){.fd = -1};
    buf_init(&public, PUBLIC_MAX);
    put_public(&public, a);
    size_t len = HEAD + secrets + public.len;
    int rc = !public.failed && secrets <= SECRETS_MAX ? 0 : err_set(e, ERR_TOO_LARGE, "handover", "it is too much");
    if (rc == 0 && (m->fd = memfd_create(FD_NAME_HANDOVER, MFD_CLOEXEC | MFD_ALLOW_SEALING)) < 0)
        rc = err_errno(e, "handover", "cannot make memory for it");
    if (rc == 0 && ftruncate(m->fd, (off_t)len) < 0)
        rc = err_errno(e, "handover", "cannot make memory for it");
    if (rc == 0)
        rc = map(m, len, HEAD + secrets, e);
    if (rc == 0) {
        fill(m->map, &a->identities, secrets, &public);
        if (fcntl(m->fd, F_ADD_SEALS, SEALS) < 0)
            rc = err_errno(e, "handover", "cannot seal it");
    }
    buf_free(&public);
    if (rc < 0)
        handover_close(m);
    return rc;
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

void handed_free(struct handed *h)
{
    free(h->id);
    free(h->server);
    identities_free(&h->identities);
    buf_free(&h->bundle);
    for (unsigned i = 0; i < h->crls_count; i++)
        buf_free(&h->crls[i].der);
    free(h->crls);
    memset(h, 0, sizeof *h);
}

/* A string, owned: from least to most bytes, none of them NUL. */
static char *take_text(struct cur *c, size_t least, size_t most)
{
    struct bytes b;
    if (cur_vec16(c, &b) < 0 || b.len < least || b.len > most || (b.len > 0 && memchr(b.p, 0, b.len)))
        return NULL;
    return b.len > 0 ? strndup((const char *)b.p, b.len) : strdup("");
}

static bool take_texts(struct cur *c, char ***list, size_t *n, size_t max, size_t text_max)
{
    uint8_t count;
    if (cur_u8(c, &count) < 0 || count > max || !(*list = calloc(count + 1u, sizeof **list)))
        return false;
    for (; *n < count; (*n)++)
        if (!((*list)[*n] = take_text(c, 1, text_max)))
            return false;
    return true;
}

static bool take_long(struct cur *c, size_t max, struct bytes *b)
{
    uint32_t n;
    return cur_u32(c, &n) == 0 && n <= max && cur_take(c, n, b) == 0;
}

static bool take_bool(struct cur *c, bool *v)
{
    uint8_t b;
    if (cur_u8(c, &b) < 0 || b > 1)
        return false;
    *v = b;
    return true;
}

static bool take_time(struct cur *c, int64_t *t)
{
    uint64_t v;
    if (cur_u64(c, &v) < 0 || v > TIME_MAX)
        return false;
    *t = (int64_t)v;
    return true;
}

static bool take_key(struct cur *keys, struct secret *s, struct err *e)
{
    struct bytes b;
    if (cur_vec16(keys, &b) < 0 || b.len == 0 || b.len > KEY_MAX || secret_new(s, b.len, e) < 0)
        return false;
    memcpy(s->p, b.p, b.len);
    s->len = b.len;
    return true;
}

/* Its own times and what it certifies are read from it when it is verified (handover_take). */
static bool take_svid(struct cur *c, struct cur *keys, struct identity *i, struct err *e)
{
    struct bytes chain;
    struct wl_svid *s = calloc(1, sizeof *s);
    if (!s)
        return false;
    atomic_init(&s->refs, 1);
    i->svid = s;
    s->spiffe_id = strdup(i->spiffe_id);
    s->hint = take_text(c, 0, HINT_MAX);
    if (!s->spiffe_id || !s->hint || !take_long(c, CHAIN_PEM_MAX, &chain) || chain.len == 0 ||
        !(s->chain = malloc(chain.len)))
        return false;
    memcpy(s->chain, chain.p, chain.len);
    s->chain_len = chain.len;
    return take_time(c, &i->from_ms) && take_time(c, &i->renew_wall_ms) && take_time(c, &i->renew_mono_ms) &&
           take_time(c, &i->ari_mono_ms) && take_bool(c, &i->stale) && take_key(keys, &s->key, e);
}

static bool take_entry(struct cur *c, struct entry *x)
{
    uint64_t revision, number;
    struct spiffe_id id;
    struct err ignored;
    if (!(x->id = take_text(c, 1, ENTRY_ID_MAX)) || !(x->spiffe_id = take_text(c, 1, SPIFFE_ID_MAX)) ||
        spiffe_parse(&id, x->spiffe_id, strlen(x->spiffe_id), &ignored) < 0 || id.path.len == 0 ||
        !(x->hint = take_text(c, 0, HINT_MAX)) || cur_u64(c, &revision) < 0 ||
        cur_u64(c, &number) < 0 || number > INT64_MAX)
        return false;
    x->revision = (int64_t)revision;
    x->number = (int64_t)number;
    return take_texts(c, &x->selectors, &x->selectors_count, ENTRY_SELECTORS_MAX, ATTEST_SELECTOR_LEN) &&
           take_texts(c, &x->dns, &x->dns_count, ENTRY_DNS_MAX, 253);
}

static bool take_identity(struct cur *c, struct cur *keys, struct identities *s, struct err *e)
{
    struct entry x = {0};
    struct identity *i = NULL;
    bool has;
    bool ok = take_entry(c, &x) && !identity_of(s, x.spiffe_id) && (i = identity_add(s, &x, e)) && take_bool(c, &has) &&
              (!has || take_svid(c, keys, i, e));
    entry_free(&x);
    return ok;
}

static bool take_crls(struct cur *c, struct handed *h)
{
    uint32_t n;
    if (cur_u32(c, &n) < 0 || n > CRL_SHARDS_MAX || !(h->crls = calloc(n + 1u, sizeof *h->crls)))
        return false;
    for (; h->crls_count < n; h->crls_count++) {
        struct crl_slot *slot = &h->crls[h->crls_count];
        struct bytes der;
        char *etag = take_text(c, 0, ETAG_MAX);
        bool ok = etag && take_long(c, CRL_BYTES_MAX, &der);
        if (ok) {
            strcpy(slot->etag, etag);
            buf_init(&slot->der, CRL_BYTES_MAX);
            buf_put(&slot->der, der.p, der.len);
        }
        free(etag);
        if (!ok || slot->der.failed)
            return false;
    }
    return true;
}

static bool take_list(struct cur *c, struct cur *keys, struct handed *h, struct err *e)
{
    uint32_t n;
    uint64_t revoked;
    char *version;
    if (!(h->id = take_text(c, 1, SPIFFE_ID_MAX)) || !(h->server = take_text(c, 1, URL_MAX)) ||
        !(version = take_text(c, 0, VERSION_TEXT_MAX)))
        return false;
    strcpy(h->version, version);
    free(version);
    if (cur_u64(c, &revoked) < 0 || !take_time(c, &h->entries_at_ms) || !take_time(c, &h->entries_of_ms) ||
        cur_u32(c, &n) < 0 || n > ENTRIES_MAX)
        return false;
    h->entries_revoked = (int64_t)revoked;
    for (uint32_t i = 0; i < n; i++)
        if (!take_identity(c, keys, &h->identities, e))
            return false;
    return true;
}

/* How many of the first bytes are to be locked, of total; p has HEAD of them, if so many are there. 0: nothing of ours. */
static size_t secret_part(const void *p, size_t total)
{
    struct bytes magic;
    uint32_t n;
    struct cur c = cur_of(p, total < HEAD ? total : HEAD);
    return cur_take(&c, sizeof MAGIC, &magic) == 0 && bytes_eq(magic, MAGIC, sizeof MAGIC) && cur_u32(&c, &n) == 0 &&
                   n <= SECRETS_MAX && n <= total - HEAD
               ? HEAD + n
               : 0;
}

int handover_parse(struct handed *h, const void *p, size_t len, struct err *e)
{
    struct bytes bundle;
    size_t secret = secret_part(p, len);
    memset(h, 0, sizeof *h);
    err_clear(e);
    if (secret > 0) {
        struct cur keys = cur_of((const uint8_t *)p + HEAD, secret - HEAD),
                   c = cur_of((const uint8_t *)p + secret, len - secret);
        bool ok = take_list(&c, &keys, h, e) && take_long(&c, ANSWER_BIG_MAX, &bundle);
        if (ok) {
            buf_init(&h->bundle, ANSWER_BIG_MAX);
            buf_put(&h->bundle, bundle.p, bundle.len);
        }
        if (ok && !h->bundle.failed && take_crls(&c, h) && cur_done(&c) && cur_done(&keys))
            return 0;
    }
    handed_free(h);
    return e->code != ERR_NONE ? -1 : err_set(e, ERR_CORRUPT, "handover", "it is damaged, or another version's");
}

int handover_read(struct handed *h, int fd, struct err *e)
{
    struct handover m = {.fd = fd};
    struct stat st;
    uint8_t head[HEAD];
    int rc = -1, seals = fcntl(fd, F_GET_SEALS);
    memset(h, 0, sizeof *h);
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) < 0 || st.st_size < (off_t)HEAD ||
        st.st_size > (off_t)(HEAD + SECRETS_MAX + PUBLIC_MAX) || pread(fd, head, HEAD, 0) != (ssize_t)HEAD)
        err_set(e, ERR_CORRUPT, "handover", "it is not as this agent leaves it (a memfd of sealed size)");
    else if (secret_part(head, (size_t)st.st_size) == 0)
        err_set(e, ERR_CORRUPT, "handover", "it is damaged, or another version's");
    else if (map(&m, (size_t)st.st_size, secret_part(head, (size_t)st.st_size), e) == 0)
        rc = handover_parse(h, m.map, m.len, e);
    handover_close(&m);
    return rc;
}
