/* Names of upstreams. getaddrinfo blocks, so a thread of its own asks; what it found last is what connections use.
 * Without a name among the addresses there is no thread. */
#include "base/clock.h"
#include "base/thread.h"
#include "proxy/internal.h"
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MS 30000
#define SOON_MS 1000

struct entry {
    struct address a;
    bool name, lost; /* lost: it means nothing now, and that was said */
    struct resolved r; /* under the lock */
};
struct resolver {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct entry *list; /* owned; complete before the thread starts */
    int n;
    bool names, started, stop, soon;
    pthread_t thread;
};

struct resolver *resolver_new(struct err *e)
{
    struct resolver *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    pthread_mutex_init(&r->lock, NULL);
    cond_init_mono(&r->cond);
    return r;
}

/* Whether it means something. flags: AI_NUMERICHOST asks nobody. */
static bool ask(struct resolved *out, const struct address *a, int flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | flags};
    struct addrinfo *list = NULL;
    memset(out, 0, sizeof *out);
    if (getaddrinfo(a->host, a->port, &hints, &list) != 0)
        return false;
    for (const struct addrinfo *ai = list; ai && out->n < RESOLVED_MAX; ai = ai->ai_next) {
        if (ai->ai_addrlen > sizeof out->addr[0])
            continue;
        memcpy(&out->addr[out->n], ai->ai_addr, ai->ai_addrlen);
        out->len[out->n++] = ai->ai_addrlen;
    }
    freeaddrinfo(list);
    return out->n > 0;
}

/* Once for each change: the last addresses, if there were any, go on being used, and may be somebody else's by now. Only
 * who asks writes n->r, so it reads it without the lock. */
static void answered(struct entry *n, bool found)
{
    if (!found && !n->lost)
        log_warn(n->r.n > 0 ? "the upstream's name has no address now; it is asked for again, and what it meant before is used"
                            : "the upstream's name has no address; it is asked for again, and connections fail until it has one",
                 "host", n->a.host, NULL);
    else if (found && n->lost)
        log_info("the upstream's name has an address now", "host", n->a.host, NULL);
    n->lost = !found;
}

int resolver_add(struct resolver *r, const struct address *a, struct err *e)
{
    struct entry *list = realloc(r->list, ((size_t)r->n + 1) * sizeof *list);
    if (!list)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    r->list = list;
    struct entry *n = &list[r->n];
    memset(n, 0, sizeof *n);
    n->a = *a;
    if (address_is_unix(a)) {
        n->r.n = 1;
        n->r.addr[0].un.sun_family = AF_UNIX;
        strcpy(n->r.addr[0].un.sun_path, a->path);
        n->r.len[0] = sizeof n->r.addr[0].un;
    } else if (!ask(&n->r, a, AI_NUMERICHOST)) {
        n->name = r->names = true;
        answered(n, ask(&n->r, a, AI_ADDRCONFIG));
    }
    return r->n++;
}

bool resolver_names(const struct resolver *r)
{
    return r->names;
}

void resolver_get(struct resolver *r, int number, struct resolved *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->list[number].r;
    pthread_mutex_unlock(&r->lock);
}

void resolver_soon(struct resolver *r)
{
    pthread_mutex_lock(&r->lock);
    r->soon = true;
    pthread_cond_signal(&r->cond);
    pthread_mutex_unlock(&r->lock);
}

static void ask_all(struct resolver *r)
{
    struct resolved found;
    for (int i = 0; i < r->n; i++) {
        if (!r->list[i].name)
            continue;
        bool good = ask(&found, &r->list[i].a, AI_ADDRCONFIG);
        answered(&r->list[i], good);
        if (!good)
            continue; /* what it meant before is better than nothing */
        pthread_mutex_lock(&r->lock);
        r->list[i].r = found;
        pthread_mutex_unlock(&r->lock);
    }
}

static void *run(void *arg)
{
    struct resolver *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        int64_t began = clock_mono_ms();
        /* However many connections fail, a name is asked for once a second at most. */
        while (!r->stop && cond_wait_until(&r->cond, &r->lock, began + (r->soon ? SOON_MS : AGAIN_MS)))
            ;
        r->soon = false;
        if (r->stop)
            break;
        pthread_mutex_unlock(&r->lock);
        ask_all(r);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

int resolver_start(struct resolver *r, struct err *e)
{
    if (!r->names)
        return 0;
    if (thread_start(&r->thread, run, r, "the thread that resolves names", e) < 0)
        return -1;
    r->started = true;
    return 0;
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    if (r->started) {
        pthread_mutex_lock(&r->lock);
        r->stop = true;
        pthread_cond_signal(&r->cond);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    pthread_cond_destroy(&r->cond);
    pthread_mutex_destroy(&r->lock);
    free(r->list);
    free(r);
}
