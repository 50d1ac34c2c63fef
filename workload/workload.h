/* The Workload API's edge, both sides: HTTP/2 and gRPC over a Unix socket, the SPIFFE Workload API and
 * Envoy's SDS v3. Bytes in, typed calls out.
 *
 * server.c and what is below it read hostile bytes of local clients and turn them into calls of
 * `struct wl_provider`; client.c is what our own programs (run, proxy) ask with. Messages are packed by
 * protobuf-c from workload.proto and sds.proto, into locked memory (scratch.h), and read by a reader of our
 * own (wire.h). What others may do to us is bounded in limits.h.
 *
 * Not done here: who the caller is and what it may have (agent/ decides), renewing, files, TLS.
 *
 * Threads: everything runs on the thread of one libevent base, and every function here is to be called
 * on it. Nothing blocks.
 */
#ifndef WORKLOAD_WORKLOAD_H
#define WORKLOAD_WORKLOAD_H
#include "base/bytes.h"
#include "base/secmem.h"
#include <stdatomic.h>
#include <sys/types.h>

struct event_base;

/* --- what is handed out: immutable once shared, reference counted, from any thread ------------------ */

struct wl_svid { /* one X509-SVID with its key */
    atomic_uint refs;
    char *spiffe_id, *hint;     /* owned; hint "" when none. One that an SVID before it has is not sent with this one */
    uint8_t *chain;             /* owned: DER certificates one after the other, leaf first, without the root */
    size_t chain_len;
    struct secret key;          /* PKCS#8 DER, in locked memory */
    int64_t not_before, not_after;
};
struct wl_svid *wl_svid_ref(struct wl_svid *s);
void wl_svid_unref(struct wl_svid *s);

struct wl_bundle { /* of one trust domain */
    char *trust_domain;         /* owned: "example.org" */
    struct buf x509;            /* DER roots one after the other */
    struct buf jwks;            /* the JWKS document of its JWT keys (JSON) */
};
struct wl_bundles { /* [0] is our own; the rest are federated */
    atomic_uint refs;
    struct wl_bundle *list;     /* owned */
    size_t n;
    struct buf *crls;           /* owned: DER, one each */
    size_t crls_count;
};
struct wl_bundles *wl_bundles_ref(struct wl_bundles *b);
void wl_bundles_unref(struct wl_bundles *b);

struct wl_state { /* all that one caller may have now */
    atomic_uint refs;
    struct wl_svid **svids;     /* owned references; the first is the default, and the provider keeps it the first */
    size_t n;
    struct wl_bundles *bundles; /* owned reference */
};
struct wl_state *wl_state_ref(struct wl_state *s);
void wl_state_unref(struct wl_state *s);

struct wl_jwt {
    char *spiffe_id, *svid, *hint; /* borrowed for the call */
};

/* gRPC status codes that are used (grpc.io, "Status codes and their use in gRPC"). */
enum wl_status { WL_OK = 0, WL_UNKNOWN = 2, WL_INVALID_ARGUMENT = 3, WL_DEADLINE_EXCEEDED = 4, WL_NOT_FOUND = 5,
                 WL_PERMISSION_DENIED = 7, WL_RESOURCE_EXHAUSTED = 8, WL_UNIMPLEMENTED = 12,
                 WL_INTERNAL = 13, WL_UNAVAILABLE = 14, WL_UNAUTHENTICATED = 16 };

/* --- server ----------------------------------------------------------------------------------------- */

struct wl_call; /* one RPC that waits for the provider: lives until it was answered for good or cancelled */

/* What the agent does for it. All on the loop's thread; none may block; answers may come at once, from
 * within, or later. `caller` is what connect gave. */
struct wl_provider {
    void *arg;
    /* A client connected; fd is its socket (SO_PEERCRED, SO_PEERPIDFD are there to be read now; it stays the
     * server's). Answers the caller's object, or NULL: the connection is closed. The kernel's attestation
     * starts here. */
    void *(*connect)(void *arg, int fd);
    void (*disconnect)(void *arg, void *caller); /* after the last cancel */
    /* A stream wants the caller's state: wl_call_state at once or as soon as it is known, and again with each
     * change, until cancel. wl_call_fail ends it. For X.509, bundles, SDS and JWT bundles alike. */
    void (*watch)(void *arg, void *caller, struct wl_call *c);
    /* A unary JWT-SVID: wl_call_jwt or wl_call_fail, once. spiffe_id "" means all of the caller's; it is well
     * formed, and the audience has at least one, none of them empty. Strings are borrowed for the call, here
     * and below. */
    void (*jwt)(void *arg, void *caller, struct wl_call *c, const char *const *audience, size_t n,
                const char *spiffe_id);
    /* ValidateJWTSVID: wl_call_claims or wl_call_fail, once. */
    void (*validate)(void *arg, void *caller, struct wl_call *c, const char *audience, const char *svid);
    /* The call is over (client gone, reset, answered): nothing may be done with c afterwards. Called exactly
     * once for every watch, jwt and validate, also after wl_call_fail, wl_call_jwt and wl_call_claims; but
     * never from within a wl_call_*: those may be called in a walk over one's calls. */
    void (*cancel)(void *arg, void *caller, struct wl_call *c);
};
void *wl_call_data(const struct wl_call *c);            /* the provider's own pointer, NULL at first */
void wl_call_set_data(struct wl_call *c, void *data);
/* Takes a reference of its own, and holds it until the next state comes: not longer, for keys are in it. A
 * state without SVIDs ends X.509 streams and SDS streams that name one with PermissionDenied ("no identity
 * issued"); bundle streams go on, the provider fails them where they should not. Told apart by pointers: the
 * same state is no news, for bundle streams the same `bundles` are none, for SDS the same SVID objects. A
 * state replaces one not yet sent. */
void wl_call_state(struct wl_call *c, struct wl_state *s);
void wl_call_jwt(struct wl_call *c, const struct wl_jwt *list, size_t n);
/* claims: the JWT's payload, a JSON object (text). */
void wl_call_claims(struct wl_call *c, const char *spiffe_id, const char *claims, size_t len);
void wl_call_fail(struct wl_call *c, enum wl_status status, const char *message);

struct wl_limits { /* 0: the default */
    unsigned connections;            /* at once; 4096 */
    unsigned connections_per_uid;    /* 1024 */
    unsigned streams_per_connection; /* 64 */
    unsigned message_bytes;          /* of a request; 65536 */
    unsigned idle_seconds;           /* a connection without an open call; 600 */
};
struct wl_stats {
    uint64_t connections, calls, refused; /* since start */
    unsigned open_connections, open_calls;
};
struct wl_server;
/* listen_fd: a listening stream socket, owned from here on (also on failure). The provider is copied. */
struct wl_server *wl_server_new(struct event_base *base, int listen_fd, const struct wl_provider *p,
                                const struct wl_limits *l, struct err *e);
void wl_server_stats(const struct wl_server *s, struct wl_stats *out);
/* GOAWAY, then every call cancelled and every connection closed. Not from within the provider's functions. */
void wl_server_free(struct wl_server *s);
/* Makes the socket: folder (0755), stale socket removed, bound, mode, listening. An existing socket that
 * somebody answers on is refused: ERR_EXISTS, rule "socket-in-use". Answers the fd or -1. */
int wl_socket_listen(const char *path, mode_t mode, struct err *e);

/* --- client ----------------------------------------------------------------------------------------- */

struct wl_client_ops {
    void *arg;
    /* Each message of FetchX509SVID; borrowed: ref to keep. With jwt also each of FetchJWTBundles, as a state
     * whose bundles have `jwks`; the first may come without. What it has is checked for form, times are
     * filled in; signatures and expiry are the user's to verify. */
    void (*state)(void *arg, struct wl_state *s);
    /* The connection or a stream broke, or nobody is there; it will be tried again. */
    void (*trouble)(void *arg, enum wl_status status, const struct err *e);
};
struct wl_client;
/* Keeps a FetchX509SVID stream open on $SPIFFE_ENDPOINT_SOCKET's form ("unix:///abs/path") or a bare path;
 * reconnects with backoff from 100 ms (first tries) to 3 s while nobody answers (UNAVAILABLE), to 30 s when the answer
 * is another, with jitter. Everything that comes is parsed as hostile. (JWT keys: wl_client asks FetchJWTBundles only
 * when jwt is true.) */
struct wl_client *wl_client_new(struct event_base *base, const char *endpoint, bool jwt,
                                const struct wl_client_ops *ops,
                                struct err *e); /* calls nobody from within; rule "endpoint" */
void wl_client_free(struct wl_client *c);       /* also from within a callback; none comes afterwards */
/* JWT-SVIDs, asked on the same connection (or the next, which is then tried at once); cb exactly once, unless
 * wl_client_free comes first: within 30 s, and UNAVAILABLE when the connection breaks. spiffe_id "": all. */
typedef void wl_client_jwt_cb(void *arg, const struct wl_jwt *list, size_t n, enum wl_status status,
                              const struct err *e);
int wl_client_jwt(struct wl_client *c, const char *const *audience, size_t n, const char *spiffe_id,
                  wl_client_jwt_cb *cb, void *arg, struct err *e);

#endif
