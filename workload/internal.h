/* The server's parts: server.c listens and counts, conn.c is one connection (frames.c takes its
 * bytes, conn_h2.c is what nghttp2 calls), call.c what its
 * streams ask (headers, requests), reply.c what they get. Private to those, their unit tests and fuzzers.
 *
 * Order of events: everything happens in turns of one connection (conn_feed, conn_settle). Within a turn
 * nghttp2 calls call.c, that calls the provider, and the provider may call wl_call_*, which only note and
 * submit; bytes are written, calls released and connections freed at the end of the turn. wl_call_* outside
 * of a turn ask for one (conn_kick).
 */
#ifndef WORKLOAD_INTERNAL_H
#define WORKLOAD_INTERNAL_H
#include "workload/grpc.h"
#include "workload/limits.h"
#include "workload/request.h"
#include "workload/scratch.h"
#include "workload/workload.h"
#include <event2/event.h>
#include <event2/event_struct.h>
#include <nghttp2/nghttp2.h>
#include <sys/uio.h>

#define NEVER INT64_MAX

struct user { /* of clients, by uid */
    struct user *next;
    uid_t uid;
    unsigned connections;
    size_t request_bytes; /* held for requests that are not whole */
    size_t kept_bytes;    /* what its calls keep: see call_keeps */
    size_t memory;        /* nghttp2's, of all its connections */
};

struct conn;
struct wl_server {
    struct event_base *base;
    struct wl_provider p;
    struct wl_limits l;
    int fd; /* listening; -1: none */
    struct event acceptor, retry;
    struct conn *conns;
    struct user *users;
    struct scratch scratch;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    struct wl_stats stats;
    ssize_t (*write)(int fd, const struct iovec *v, int n); /* tests put theirs here */
    uint8_t in[16384];
};
struct wl_server *server_make(struct event_base *base, const struct wl_provider *p, const struct wl_limits *l,
                              struct err *e); /* without a listener */

struct conn {
    struct wl_server *s;
    struct conn *next, **prev;
    int fd; /* -1: bytes come through conn_feed only */
    struct event in, out, timer;
    int64_t timer_at;
    nghttp2_session *h2;
    size_t memory; /* that nghttp2 holds for it */
    void *caller;
    struct user *user;
    struct wl_call *calls;
    int64_t born, idle_since, chatter_at;
    int chatter;          /* frames without use that it still has */
    int32_t part_stream;  /* whose DATA frame is written in part */
    size_t part_sent;     /* bytes of it; 0: no such frame */
    /* where the client's bytes are: in the preface, in a frame's head, in its payload (frames.c) */
    unsigned preface_left, head_len, payload_left;
    uint8_t head[9];
    bool skip;            /* this payload */
    int32_t newest;       /* the greatest stream whose HEADERS came */
    bool settled_in;      /* the client's SETTINGS came */
    bool busy, blocked, dead;
};
/* The connection takes fd over. NULL when it was refused (fd closed). */
struct conn *conn_new(struct wl_server *s, int fd, uid_t uid);
void conn_feed(struct conn *c, const uint8_t *p, size_t n); /* frames.c */
#define CONN_PREFACE 24
bool conn_settle(struct conn *c); /* ends a turn; false: the connection is no more */
void conn_free(struct conn *c);
void conn_kick(struct conn *c);
void conn_break(struct conn *c, const char *why); /* ends with this turn */
/* Flow control: n bytes are dealt with; stream 0: the connection's only. */
void conn_consume(struct conn *c, int32_t stream, size_t n);
int conn_callbacks(nghttp2_session_callbacks **cb, nghttp2_option **opt, struct err *e);
void conn_goodbye(struct conn *c); /* GOAWAY, as far as it can be written */

enum method_kind { M_X509, M_X509_BUNDLES, M_JWT, M_JWT_BUNDLES, M_VALIDATE, M_SDS, M_SDS_ONCE };
struct method {
    const char *path;
    enum method_kind kind;
    bool metadata; /* demands workload.spiffe.io: true */
};

struct wl_call {
    struct conn *c;
    struct wl_call *next, **prev;
    int32_t stream;
    const struct method *method; /* NULL: unknown */
    void *data;                  /* the provider's */
    /* headers */
    size_t header_bytes;
    bool post, grpc, te, bad_timeout;
    unsigned metadata; /* 1: there once, and true */
    int64_t deadline, request_deadline;
    /* request */
    struct grpc_in in;
    size_t held; /* bytes received and not yet given back to flow control */
    bool whole, half_closed;
    bool asked, released; /* provider: was called; cancel was */
    size_t waits;         /* bytes of a unary request that the provider has to answer: it may have copied them */
    size_t kept;          /* of the user's kept_bytes */
    /* reply: streams send `state` (and `names` of it); what is newer waits, and replaces what waited */
    struct wl_state *state, *state_next;
    struct names *names, *names_next;
    bool want;                 /* there is something to send, as soon as the state is known */
    uint64_t version, nonce;   /* SDS: of the data; of the last message */
    uint64_t refused;          /* the nonce whose refusal was logged */
    uint64_t out_version;
    struct buf answer;         /* unary: the message, prefix and all */
    size_t out_len, out_off;   /* the message under way; out_len 0: none */
    bool responded, done;
    enum wl_status status;
    char *message; /* owned; NULL: none */
};
/* call.c */
struct wl_call *call_new(struct conn *c, int32_t stream);
void call_free(struct wl_call *k);
int call_header(struct wl_call *k, struct bytes name, struct bytes value);
void call_headers_done(struct wl_call *k);
void call_data(struct wl_call *k, const uint8_t *p, size_t n);
void call_end(struct wl_call *k); /* the client's END_STREAM */
void call_release(struct wl_call *k);
/* Whether its user may keep that much more; false: the call has ended with it. */
bool call_room(struct wl_call *k, size_t more);
void call_keeps(struct wl_call *k); /* names, answer or waits are others than before */
int64_t call_deadline(const struct wl_call *k);
void call_expire(struct wl_call *k, int64_t now);
/* reply.c */
void reply_finish(struct wl_call *k, enum wl_status status, const char *message);
void reply_http(struct wl_call *k, unsigned http_status); /* for what is no gRPC */
void reply_sds(struct wl_call *k, struct request_sds *r);    /* takes r's names */
/* Its bytes under way, made anew if need be. */
int reply_bytes(struct wl_call *k, struct bytes *out);
void reply_sent(struct wl_call *k, size_t n);

#endif
