#include "ca/quorum.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "ca/door.h"
#include "ca/msg.h"
#include "tlog/policy.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define GRACE_EVERY 5 /* of the time-out, between two waits for an open breaker */
#define COSIGN_FRAMES 64 /* answered in one go */

_Static_assert(CONFIG_WITNESSES_MAX <= TLOG_COSIGNERS, "every configured witness has its place");
_Static_assert(CA_ROOT_LEN == TLOG_HASH, "a root is a hash");

struct quorum {
    struct quorum_options o;

    pthread_t thread;
    bool running;
    int published_fd; /* not owned */
    int stop_fd;      /* an eventfd; owned */
    struct door *door;
    struct buf frame; /* the thread's */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t come;
    struct tlog_checkpoint head; /* the newest that a witness cosigned, by: */
    unsigned count;
    struct {
        size_t witness;
        struct tlog_cosignature s;
    } by[CONFIG_WITNESSES_MAX];
    bool open;          /* the breaker */
    bool trial;         /* it was closed after a batch had missed the quorum, and none has had it since */
    int64_t grace_till; /* monotonic ms: until then an open breaker is waited for */
    int64_t grace_next; /* and from then on once more */

    bool tried; /* the corridor's: this batch has its one certificate of a trial */
};

/* --- counting --------------------------------------------------------------------------------------- */

static bool same(const struct tlog_checkpoint *a, const struct tlog_checkpoint *b)
{
    return a->size == b->size && memcmp(&a->root, &b->root, sizeof a->root) == 0;
}

/* Of the published head, as far as anything was cosigned of it. Lock held. */
static unsigned count_of(const struct quorum *q, uint64_t published)
{
    return q->head.size == published ? q->count : 0;
}

static void count(struct quorum *q, const struct tlog_checkpoint *c, size_t witness, const struct tlog_cosignature *s)
{
    pthread_mutex_lock(&q->lock);
    if (c->size > q->head.size || q->count == 0) {
        q->head = *c;
        q->count = 0;
    }
    unsigned at = 0;
    while (at < q->count && q->by[at].witness != witness)
        at++;
    if (same(&q->head, c) && at == q->count) {
        q->by[at].witness = witness;
        q->by[at].s = *s;
        q->count++;
    }
    bool there = q->count >= q->o.needed, opened = there && q->open;
    if (there) {
        q->open = false;
        pthread_cond_broadcast(&q->come);
    }
    pthread_mutex_unlock(&q->lock);
    if (opened)
        log_info("the witnesses' quorum is there; certificates are issued", "size", log_num((long long)c->size), NULL);
}

int quorum_take(struct quorum *q, struct bytes body, struct err *e)
{
    const struct witnesses *w = q->o.witnesses;
    struct ca_cosign m;
    struct tlog_checkpoint c = {.origin = ""};
    struct tlog_cosignature s;
    size_t i = 0;
    if (ca_cosign_parse(&m, body, e) < 0)
        return -1;
    while (i < w->count && !bytes_eq(m.key_id, w->key[i].id, sizeof w->key[i].id))
        i++;
    if (i == w->count)
        return err_set(e, ERR_UNAUTHORIZED, "witness", "no configured witness has a key of that id");
    if (m.time > (uint64_t)clock_wall() + TLOG_POLICY_AHEAD) /* relying parties would not count it */
        return err_set(e, ERR_MALFORMED, "cosignature-time", "the clock of %s is ahead of ours by over %d s",
                       w->key[i].name, TLOG_POLICY_AHEAD);
    c.size = m.size;
    memcpy(&c.root, m.root.p, sizeof c.root);
    s.time = m.time;
    memcpy(s.sig, m.sig.p, sizeof s.sig);
    if (tlog_cosign(q->o.log, &c, &w->key[i], &s, e) < 0)
        return -1;
    count(q, &c, i, &s);
    return 0;
}

/* --- the corridor's wait ---------------------------------------------------------------------------- */

/* False: the time is up. Lock held. */
static bool wait_till(struct quorum *q, int64_t mono_ms)
{
    return cond_wait_until(&q->come, &q->lock, mono_ms);
}

static int missing(const struct quorum *q, unsigned cosigned, const char *what, struct err *e)
{
    return err_set(e, ERR_UNAVAILABLE, "witness-quorum",
                   "%u of %zu witnesses cosigned the log's head%s, and certificates need %u (witnesses.quorum): "
                   "nothing is issued until they do; try again in a moment",
                   cosigned, q->o.witnesses->count, what, q->o.needed);
}

/* The corridor stands still, so that the head does, too: records that go on would make each cosignature
 * one of an old head. Twice the time, since the witnesses may just be asked about the one before. */
static void grace_begin(struct quorum *q)
{
    tlog_publish_now(q->o.log);
    pthread_mutex_lock(&q->lock);
    q->grace_till = clock_mono_ms() + 2 * (int64_t)q->o.timeout_ms;
    q->grace_next = q->grace_till + GRACE_EVERY * (int64_t)q->o.timeout_ms;
    pthread_mutex_unlock(&q->lock);
}

void quorum_batch(struct quorum *q)
{
    q->tried = false;
}

int quorum_admit(struct quorum *q, struct err *e)
{
    struct quorum_status s;
    if (q->o.needed == 0)
        return 0;
    pthread_mutex_lock(&q->lock);
    bool grace = q->open && clock_mono_ms() >= q->grace_next;
    pthread_mutex_unlock(&q->lock);
    if (grace)
        grace_begin(q);
    pthread_mutex_lock(&q->lock);
    while (q->open && clock_mono_ms() < q->grace_till && wait_till(q, q->grace_till))
        ;
    bool trial = q->trial;
    pthread_mutex_unlock(&q->lock);
    quorum_status(q, &s);
    if (s.open)
        return missing(q, s.cosigned, "", e);
    if (trial && q->tried)
        return missing(q, s.cosigned, " lately, one certificate is tried", e);
    q->tried = true;
    return 0;
}

int quorum_await(struct quorum *q, struct err *e)
{
    struct tlog_status s;
    if (q->o.needed == 0)
        return 0;
    tlog_status(q->o.log, &s);
    const struct tlog_checkpoint head = {.size = s.size, .root = s.root};
    tlog_publish_now(q->o.log);
    int64_t until = clock_mono_ms() + q->o.timeout_ms;
    bool more = true, there;
    pthread_mutex_lock(&q->lock);
    while (!(there = same(&q->head, &head) && q->count >= q->o.needed) && more)
        more = wait_till(q, until);
    unsigned cosigned = same(&q->head, &head) ? q->count : 0;
    for (unsigned i = 0; there && i < q->o.needed; i++)
        tlog_batch_cosigned(q->o.log, &q->o.witnesses->key[q->by[i].witness], &q->by[i].s);
    q->trial = !there;
    if (!there) {
        q->open = true;
        q->grace_next = clock_mono_ms() + GRACE_EVERY * (int64_t)q->o.timeout_ms;
    }
    pthread_mutex_unlock(&q->lock);
    if (there)
        return 0;
    missing(q, cosigned, " in time", e);
    log_err(LOG_WARN, "no certificate is issued", e);
    return -1;
}

size_t quorum_proof_max(const struct quorum *q)
{
    size_t longest = 0;
    for (size_t i = 0; i < q->o.witnesses->count; i++) {
        size_t n = strlen(q->o.witnesses->key[i].name);
        longest = n > longest ? n : longest;
    }
    return q->o.needed * (longest + B64_LEN(4 + TLOG_COSIGNATURE) + 6); /* a dash, two spaces, a newline */
}

void quorum_status(struct quorum *q, struct quorum_status *s)
{
    struct tlog_status log;
    tlog_status(q->o.log, &log);
    pthread_mutex_lock(&q->lock);
    *s = (struct quorum_status){.needed = q->o.needed,
                                .witnesses = (unsigned)q->o.witnesses->count,
                                .cosigned = count_of(q, log.published_size),
                                .open = q->open};
    pthread_mutex_unlock(&q->lock);
}

/* --- the notary's door ------------------------------------------------------------------------------ */

static int receive(void *arg, struct caller *caller, const struct ipc_frame *f, struct err *e)
{
    struct quorum *q = arg;
    struct err why = {0};
    if (f->type != CA_COSIGN)
        return err_set(e, ERR_MALFORMED, "ca-msg", "a message of type %u, which is no cosignature", f->type);
    if (quorum_take(q, f->body, &why) < 0)
        ca_refused_write(&q->frame, f->id, &why);
    else
        ipc_frame_begin(&q->frame, CA_COSIGNED, f->id);
    caller_answer(caller, &q->frame);
    return 0;
}

static void *quorum_thread(void *arg)
{
    struct quorum *q = arg;
    struct door_event ev = {0};
    struct err e = {0};
    while (!ev.stop) {
        if (door_wait(q->door, &ev, &e) < 0) {
            log_err(LOG_ERROR, "cosignatures can not be received", &e);
            _exit(1); /* start-up is recovery */
        }
        if (ev.wake) {
            eventfd_t n;
            eventfd_read(q->published_fd, &n);
            ipc_frame_begin(&q->frame, CA_HEAD, 0);
            door_tell(q->door, &q->frame);
        }
        size_t room = COSIGN_FRAMES;
        door_receive(q->door, &room, receive, q);
    }
    return NULL;
}

int quorum_listen(struct quorum *q, int listen_fd, int published_fd, uid_t peer_uid, struct err *e)
{
    q->published_fd = published_fd;
    q->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->stop_fd < 0)
        return err_errno(e, "signer-wake", "cannot make an eventfd");
    if (!(q->door = door_new(listen_fd, published_fd, q->stop_fd, peer_uid, e)))
        return -1;
    q->running = thread_start(&q->thread, quorum_thread, q, "the thread that receives cosignatures", e) == 0;
    return q->running ? 0 : -1;
}

struct quorum *quorum_new(const struct quorum_options *o, struct err *e)
{
    struct quorum *q = calloc(1, sizeof *q);
    if (!q) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for the quorum");
        return NULL;
    }
    q->o = *o;
    q->stop_fd = -1;
    q->open = o->needed > 0;
    buf_init(&q->frame, IPC_FRAME_MAX);
    pthread_mutex_init(&q->lock, NULL);
    cond_init_mono(&q->come);
    return q;
}

void quorum_free(struct quorum *q)
{
    if (!q)
        return;
    if (q->running) {
        eventfd_write(q->stop_fd, 1);
        pthread_join(q->thread, NULL);
    }
    door_free(q->door);
    if (q->stop_fd >= 0)
        close(q->stop_fd);
    buf_free(&q->frame);
    pthread_cond_destroy(&q->come);
    pthread_mutex_destroy(&q->lock);
    free(q);
}
