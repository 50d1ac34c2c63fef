/* Private to proxy/: what its files share. The order of things:
 *
 *   proxy.c     makes all, owns the threads, drains and ends
 *   source*.c   where identity comes from: the Workload API, or a folder; always on the first thread's loop
 *   creds.c     a wl_state made into what handshakes need (SSL_CTX, trust); immutable, swapped under a lock
 *   worker.c    a thread: its loop, listeners, scratch memory, verdicts, limits
 *   admission.c who makes room when too many handshakes are unfinished
 *   conn.c      a connection's steps: PROXY header, TLS, judgement, upstream, relaying, end
 *   connect.c   the upstream; handshake.c TLS and the judgement in it
 *   relay.c     bytes between its two sides
 *
 * Threads: a connection lives and dies on one worker. Shared are `struct proxy` (what is marked), the published
 * identity, resolved addresses, metrics (atomic), and nothing else.
 */
#ifndef PROXY_INTERNAL_H
#define PROXY_INTERNAL_H
#include "proxy/pp2.h"
#include "proxy/proxy.h"
#include "proxy/trust.h"
#include <event2/event.h>
#include <event2/event_struct.h>
#include <openssl/ssl.h>

/* --- addresses (address.c, resolve.c) ------------------------------------------------------------------------- */

struct address { /* HOST:PORT or unix:/path, parsed */
    char host[256], port[8]; /* empty for a Unix socket */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};
int address_parse(struct address *a, const char *text, struct err *e); /* rule "address" */
bool address_is_unix(const struct address *a);
/* A listening socket, non-blocking. shared: others of ours listen there too (SO_REUSEPORT). A stale Unix socket is
 * removed; one that somebody answers on is not (rule "socket-in-use"). */
int address_listen(const struct address *a, bool shared, mode_t mode, struct err *e);
void address_text(char *dst, size_t cap, const struct sockaddr *sa);
void address_unmap(union pp2_addr *a); /* IPv4 within IPv6 becomes IPv4; all else stays */

#define RESOLVED_MAX 8
struct resolved { /* what a name means now */
    union pp2_addr addr[RESOLVED_MAX];
    socklen_t len[RESOLVED_MAX];
    unsigned n;
};
struct resolver;
/* Literals and paths are known at once. Names: asked for now, and again in the background every 30 s (and soon after
 * a failure) by a thread that resolver_start makes. A name that means nothing yet is no error. */
struct resolver *resolver_new(struct err *e);
int resolver_add(struct resolver *r, const struct address *a, struct err *e); /* its number, or -1 */
bool resolver_names(const struct resolver *r); /* are there any? */
void resolver_get(struct resolver *r, int number, struct resolved *out);
void resolver_soon(struct resolver *r); /* nobody answered there */
int resolver_start(struct resolver *r, struct err *e);
void resolver_free(struct resolver *r);

/* --- metrics (metrics.c): atomic, so that any thread counts and one prints ------------------------------------------ */

enum fail_reason { /* of handshakes and connections that did not come to relaying */
    FAIL_TLS, FAIL_NO_CERTIFICATE, FAIL_CHAIN, FAIL_EXPIRED, FAIL_REVOKED, FAIL_CRL, FAIL_UNLOGGED, FAIL_FOREIGN,
    FAIL_SVID, FAIL_DENIED, FAIL_TIMEOUT, FAIL_EVICTED, FAIL_LIMIT, FAIL_OWN_EXPIRED, FAIL_NO_IDENTITY, FAIL_PROXY_HEADER, FAIL_UPSTREAM,
    FAIL_CLOSED, FAIL_REASONS
};
enum end_reason { END_DONE, END_ABORTED, END_TRUNCATED, END_AGE, END_IDLE, END_REVOKED, END_DRAINED, END_REASONS };
struct peer_metrics {
    char *id;
    atomic_ullong connections, in, out; /* in: from the peer */
    atomic_uint open;
};
struct listener_metrics {
    atomic_ullong accepted, handshakes, failed[FAIL_REASONS], ended[END_REASONS];
    atomic_uint open, handshaking;
};
struct metrics {
    pthread_mutex_t lock; /* the table's growth */
    struct peer_metrics *peers; /* owned; `max` of them, and one for all others */
    unsigned max;
    atomic_uint n;
    atomic_ullong rotations, troubles;
    atomic_int_fast64_t expires; /* when the first of the SVIDs in use runs out; 0: none */
};
int metrics_init(struct metrics *m, unsigned peers, struct err *e);
void metrics_free(struct metrics *m);
struct peer_metrics *metrics_peer(struct metrics *m, const char *id); /* never NULL */
const char *fail_name(enum fail_reason r);
struct proxy;
void metrics_print(struct buf *b, struct proxy *p);

/* --- identity (creds.c) --------------------------------------------------------------------------------------------- */

struct cred { /* one SVID of ours */
    char *id;     /* owned */
    SSL_CTX *ctx; /* owned; serves both roles */
    int64_t not_before, not_after;
};
struct creds {
    atomic_uint refs;
    struct trust *trust; /* owned reference */
    struct cred *list;   /* owned; those that listeners use, in the agent's order */
    size_t n;            /* 0: what the listeners name is none of the agent's */
};
/* Refuses what could not be used: no SVID, a key that does not fit, nothing still valid. Of identities that no listener
 * uses nothing is made, and nothing refused. */
struct creds *creds_new(const struct wl_state *s, const struct proxy_conf *conf, int64_t now, struct err *e);
void creds_unref(struct creds *c);
const struct cred *creds_find(const struct creds *c, const char *id); /* id NULL: the first */

/* --- where identity comes from ------------------------------------------------------------------------------------ */

struct source_ops {
    void *arg;
    void (*state)(void *arg, struct wl_state *s); /* borrowed */
    void (*trouble)(void *arg, const struct err *e);
};
struct source; /* begins with its own functions */
typedef void source_cb(struct source *s);
struct source {
    source_cb *stop;
    source_cb *look; /* at once, and tell again what is there; NULL: it is told by itself */
};
struct source *source_workload(struct event_base *base, const char *endpoint, const struct source_ops *ops, struct err *e);
struct source *source_folder(struct event_base *base, const char *dir, const struct source_ops *ops, struct err *e);

/* --- workers and connections -------------------------------------------------------------------------------------- */

/* Scratch of one thread. A connection has memory of its own only for what could not be sent.
 * Two pieces of 62 KiB: encrypted, each still fits one of the kernel's segments of 64 KiB. (Measured: with 64 KiB every
 * send leaves a crumb that travels alone, at a sixth of the throughput.) */
#define SCRATCH_IN (2 * 63488)             /* one recv */
#define SCRATCH_PLAIN (SCRATCH_IN + 32768) /* what it decrypts to, with a record that was begun before */
#define SCRATCH_OUT (SCRATCH_IN + 32768)   /* what a recv encrypts to, or a flight of the handshake */
#define HEARING_MAX 1048576          /* unsent to a TLS peer who only makes us answer */

#define ADDRESS_SLOTS 4096 /* a collision counts two addresses together: stricter, never laxer */
struct address_count {
    unsigned n[ADDRESS_SLOTS];
};

struct proxy;
struct worker;
struct conn;

struct listener {
    const struct proxy_listener_conf *conf;
    struct address to;
    int target;          /* of the resolver */
    struct listener_metrics m;
    atomic_uint connections; /* of all workers */
    char sni[256];
    pthread_mutex_t lock; /* per_address */
    struct address_count *per_address; /* connections; NULL: no limit */
};
struct door { /* a listener as one worker has it */
    struct listener *l;
    struct worker *w;
    int fd;                 /* its own, though perhaps of the same socket as another worker's */
    struct event ev, retry;
    bool paused;
    unsigned handshaking;   /* its own, in the worker's list */
    struct address_count *crowd; /* owned: how many of them each address has */
};
struct side {
    int fd;
    struct event rd, wr;
    uint8_t *pend; /* owned: what could not be sent; NULL: nothing */
    size_t pend_off, pend_len, pend_cap;
    bool reading, writing; /* events that are added */
    bool ended;            /* it will say nothing more: FIN, close_notify */
    bool finish, finished; /* it is to be told of the other's end; was told */
};
enum conn_state { CONN_HEADER, CONN_TLS, CONN_CONNECT, CONN_RELAY };
struct conn {
    struct conn *next, *prev; /* of the worker's list: all, or those that are in a handshake */
    struct worker *w;
    struct door *door;
    struct listener *l;
    enum conn_state state;
    struct side tls, plain;
    SSL *ssl;
    struct creds *creds;        /* owned reference, until the handshake is over */
    uint32_t records;           /* sent under the present key, about */
    uint8_t *early;             /* owned: bytes that came behind the handshake */
    size_t early_off, early_len;
    struct peer *peer;          /* owned reference, from the judgement on */
    struct peer_metrics *pm;
    char *claimed;              /* owned: the ID that a refused peer claims, for the log; unverified */
    struct err why;             /* of a refusal, from the judgement to the log line */
    union pp2_addr src, dst;    /* the client's, as it or the balancer in front says */
    struct resolved *targets;   /* owned, while connecting */
    unsigned tried;
    int64_t connecting;         /* monotonic ms: since when */
    int64_t since;              /* monotonic ms */
    int64_t old;                /* monotonic ms, when relaying: its age ends it; 0: never */
    int64_t moved;              /* monotonic ms: the last turn since one side ended; 0: none has */
    struct event timer;
    bool handshaking;           /* counted so, and in the worker's list of those */
    bool answered;              /* its peer said what a handshake begins with, and it is our turn no more */
    int place;                  /* in door->crowd; -1: none, it came from no address */
    bool counted_address;
    bool heard;                 /* the one who connected to us said something */
    uint8_t *header;            /* owned: PROXY header that is coming */
    size_t header_len;
};
struct conn_list {
    struct conn *first, *last;
    unsigned n;
};
struct worker {
    struct proxy *p;
    unsigned number;
    pthread_t thread;
    bool started;
    struct event_base *base;
    struct door doors[PROXY_LISTENERS_MAX];
    size_t doors_count;
    struct conn_list conns, handshakes;
    struct verdicts *verdicts;
    uint8_t *in, *plain, *out;        /* owned; scratch */
    size_t in_off, in_len, out_len;
    bool out_full;
    struct conn *current;             /* whom scratch belongs to now */
    int wake_fd;                      /* eventfd: others want something */
    struct event wake, tidy;
    atomic_bool want_drain, want_stop, want_review; /* of this worker */
    bool draining;
    atomic_bool done;                 /* its thread has nothing left to do */
    unsigned handshakes_done, tidied; /* memory.c: when to give code pages back */
    int64_t log_second;               /* refusals told in this second */
    unsigned log_count, log_silent;
};
#define TELLINGS 8           /* changed troubles with the source that are told of at once */
#define TELL_AGAIN_MS 60000  /* and each further one waits its turn */
#define PATIENCE_MS 1000         /* that a handshake has before it makes room for others */
#define PATIENCE_SILENT_MS 100   /* if no whole ClientHello came */
#define KEY_RECORDS (1u << 22) /* a TLS key is replaced after so many, at most 64 GiB */
struct proxy {
    const struct proxy_conf *conf;
    struct listener *listeners; /* owned */
    size_t n;
    struct worker *workers;     /* owned */
    unsigned threads;
    struct resolver *resolver;
    pthread_mutex_t lock;       /* creds */
    struct creds *creds;        /* owned reference; NULL: none yet */
    struct metrics m;
    struct source *source;
    struct http *http;
    struct event *term, *intr, *hup, *drain_timer, *check;
    atomic_bool draining;
    atomic_bool expired_said;
    atomic_bool missing;        /* a listener's identity is none of the agent's */
    struct err trouble;         /* of the source, the first thread's; code 0: none */
    struct err told;            /* the trouble that the log told of last */
    unsigned tellings;          /* that may follow at once */
    int64_t telling_ms;         /* monotonic: since when the next of them is earned */
    unsigned tell_again_ms;     /* TELL_AGAIN_MS, but in a test */
    atomic_uint key_records;    /* KEY_RECORDS, but in a test */
    atomic_uint patience, patience_silent; /* PATIENCE_MS, PATIENCE_SILENT_MS, but in a test */
};

/* proxy.c. A reference, or NULL: none yet. */
struct creds *proxy_creds(struct proxy *p);
/* Made, not yet running; a test takes these apart. make_source NULL: as the configuration says. */
typedef struct source *proxy_source_cb(void *arg, struct event_base *base, const struct source_ops *ops, struct err *e);
struct proxy *proxy_new(const struct proxy_conf *c, proxy_source_cb *make_source, void *arg, struct err *e);
int proxy_serve(struct proxy *p, struct err *e); /* until proxy_stop or a signal; -1: could not begin */
void proxy_stop(struct proxy *p);                /* from any thread: drain, then end */
void proxy_free(struct proxy *p);
bool proxy_ready(struct proxy *p, const char **why);

/* worker.c */
int worker_init(struct worker *w, struct proxy *p, unsigned number, struct err *e);
int worker_open(struct worker *w, struct door *d, struct listener *l, int fd, struct err *e);
int worker_start(struct worker *w, struct err *e); /* a thread of its own; not the first */
void worker_wake(struct worker *w);
void worker_free(struct worker *w);
void worker_slot_free(struct worker *w, struct conn *c); /* a handshake is over, or a connection */
bool worker_may_log(struct worker *w);                   /* refusals: a bounded number each second */
int address_slot(const struct sockaddr *sa); /* of an IPv4 address or IPv6 /64, below ADDRESS_SLOTS; -1: of neither */
struct address_count *address_count_new(void); /* for max_per_address; NULL: out of memory */
bool address_count_add(struct listener *l, const struct sockaddr *sa); /* IPv4 or IPv6; false: its places are taken */
void address_count_drop(struct listener *l, const struct sockaddr *sa);

/* admission.c */
void admission_enter(struct conn *c); /* counted by the address that it has now */
void admission_leave(struct conn *c);
/* Whether there may be one more unfinished handshake, if *victim (NULL: nobody) is given up for it. */
bool admission_room(struct door *d, struct conn **victim);

/* conn.c */
void conn_accept(struct door *d, int fd, const union pp2_addr *from);
void conn_fail(struct conn *c, enum fail_reason r, const struct err *why); /* logs, counts, ends it */
void conn_end(struct conn *c, enum end_reason r); /* whatever state it is in; reset unless done */
void conn_side_open(struct conn *c, struct side *s, int fd);
void conn_side_close(struct side *s, bool reset);
void conn_deadline(struct conn *c, int64_t ms);
void conn_tls_start(struct conn *c);   /* may end c, as may what follows */
void conn_relay_start(struct conn *c);
void conn_half_closed(struct conn *c); /* one side has ended; told again with each turn */
/* connect.c */
struct side *conn_outward(struct conn *c); /* the side that we connect */
void conn_socket_options(int fd, sa_family_t family);
void connect_start(struct conn *c);
void connect_next(struct conn *c);  /* the addresses that are left */
void connect_ready(struct conn *c); /* the kernel has news of it */
/* handshake.c */
int handshake_setup(struct err *e);
int handshake_verify(X509_STORE_CTX *store, void *arg); /* for SSL_CTX_set_cert_verify_callback */
int handshake_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned in_len,
                   void *arg); /* for SSL_CTX_set_alpn_select_cb */
int handshake_begin(struct conn *c, struct err *e);
enum handshake_step { STEP_MORE, STEP_DONE, STEP_FAILED };
enum handshake_step handshake_step(struct conn *c, enum fail_reason *r, struct err *e);

/* relay.c */
void relay_begin(struct conn *c);
void relay_tls_readable(struct conn *c);
void relay_plain_readable(struct conn *c);
void relay_writable(struct conn *c, struct side *s);
/* Sends, keeps what could not be. -1: the side is broken. */
int side_send(struct conn *c, struct side *s, const uint8_t *p, size_t n);
int side_flush(struct conn *c, struct side *s);
int scratch_flush(struct conn *c); /* what SSL wrote goes to the TLS side */
void side_read(struct side *s, bool on);
void side_free(struct side *s);
/* Claims scratch for c; receives into it. Bytes, 0 at the end, -1: none now (errno EAGAIN) or broken. */
void scratch_claim(struct conn *c);
long scratch_recv(struct conn *c);
void scratch_keep(struct conn *c); /* what SSL has not taken yet into c->early */

/* bio.c: an SSL's other side is its worker's scratch. */
int scratch_bio_setup(struct err *e);
BIO *scratch_bio_new(struct conn *c);

/* http.c */
struct http *http_new(struct proxy *p, struct event_base *base, const char *listen, struct err *e);
void http_free(struct http *h);

/* memory.c: code pages that nobody needs now. */
void memory_give_back(void);
#endif
