/* The room's own header: the server, a request, and the table of routes.
 *
 * A request's way: route.c finds the handler; request.c collects the body, calls the handler once
 * on MHD's thread, and sends what it left in the request. A handler either answers at once
 * (request_fail, or status and out), or asks ra/: request_ask, then the ra/ call; its callback, on
 * any thread, does request_claim, fills the answer, request_settle. Meanwhile the connection is
 * suspended, and no thread waits.
 */
#ifndef API_INTERNAL_H
#define API_INTERNAL_H
#include "api/nonce.h"
#include "api/payload.h"
#include "api/problem.h"
#include "api/server.h"
#include "api/tls.h"
#include "base/jose.h"
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#define API_BODY_MAX JWS_MAX         /* larger bodies are refused */
#define API_BODY_SWALLOW (1u << 20)  /* but read, so that the refusal arrives; larger ones are cut off */

struct request;
struct base { /* what a client may call this server, e.g. https://localhost:8443 */
    char *url; /* owned */
    size_t len;
};

struct api_door { /* which socket a connection came through: MHD's closure */
    struct api_server *server;
    bool admin;
};
struct api_server {
    struct api_door public_door, admin_door;
    const struct config *config; /* not owned */
    struct ra *ra;               /* not owned */
    struct audit *audit;         /* not owned; NULL: no search */
    struct base *bases;          /* owned; the first is external_url */
    size_t bases_count;
    struct nonce_table *nonces;
    struct api_tls *tls;
    struct crl_keeper *crl;      /* NULL until api_start made it */
    struct renewals *renewals;   /* the same */
    struct MHD_Daemon *public_daemon, *admin_daemon;
    int listen_fd, admin_fd;
    uid_t admin_uid;
    atomic_uint in_flight;  /* requests between their first byte and the last of the answer */
    atomic_bool stopping;
    pthread_mutex_t lock;   /* guards all below, and the links in suspended */
    bool closing;           /* nothing is suspended any more */
    struct request *suspended;
};

/* --- routes (route.c) ---------------------------------------------------------------------------- */
enum { M_GET = 1, M_HEAD = 2, M_POST = 4, M_PUT = 8, M_DELETE = 16 };
enum route_kind {
    ROUTE_PLAIN,    /* anyone */
    ROUTE_ACME_KID, /* a JWS signed by an account */
    ROUTE_ACME_JWK, /* a JWS signed by the key it carries */
    ROUTE_ACME_ANY, /* either */
    ROUTE_ADMIN     /* a peer that may administer */
};
enum route_arg { ARG_NONE, ARG_ID, ARG_REST }; /* after the path: nothing; an RA_ID; anything at all */
struct route {
    unsigned methods;
    enum route_kind kind;
    enum route_arg arg;
    const char *path; /* with a slash at the end where an argument follows */
    void (*handler)(struct request *r);
};
extern const struct route public_routes[], admin_routes[]; /* ended by a path of NULL */
/* NULL with *allowed != 0: the path is there, the method is not. *arg views path. */
const struct route *route_find(const struct route *table, unsigned method, const char *path,
                               const char **arg, unsigned *allowed);
unsigned method_of(const char *name); /* 0: none of ours */
void methods_write(char dst[48], unsigned methods);

/* --- requests (request.c) ------------------------------------------------------------------------ */
enum ask_state { ASK_NONE, ASK_ASKED, ASK_SUSPENDED, ASK_SETTLED };

struct request {
    struct api_server *server;
    struct MHD_Connection *connection;
    const struct route *route; /* NULL: the answer is already there */
    const char *path, *arg;    /* borrowed from MHD as long as the request lives */
    const struct base *base;   /* that the answer's URLs begin with */
    unsigned method;
    const char *actor;         /* of an admin request; the connection's */
    bool admin, acme_post, dispatched, queued;
    size_t received;
    struct buf body;

    struct jws jws;
    struct ra_session *session; /* a reference */
    struct payload_order order;

    unsigned status;
    const char *content_type, *cache, *encoding, *vary; /* literals; NULL: no such header */
    const char *etag, *modified;      /* NULL: no such header */
    char validators[3][48];           /* the request's own memory for cache, etag and modified */
    bool cors;                        /* any web page may read the answer */
    bool page;                        /* the web page's: headers that keep others out of it */
    struct buf out, location, up;     /* the last two empty: no such header */
    char *next_page;                  /* owned: query of the following page; NULL: no such header */
    char allow[48];
    unsigned retry_after;
    bool nonce_wanted, index_link;
    bool secret; /* out is wiped after use */
    gnutls_session_t tls;                  /* the connection's; NULL: an admin connection */
    gnutls_session_t corked;               /* the same, while it collects the answer */
    int fd;                                /* the answer is this file, of fd_size bytes; -1: it is out */
    uint64_t fd_size;

    /* Who answers: the first to claim. The request lives as long as its connection or an
     * unfinished call of ra/ refers to it. */
    atomic_uint refs;
    atomic_bool claimed;
    _Atomic enum ask_state state;
    bool listed; /* in server->suspended; only MHD's thread of the connection sets and reads it */
    struct request *next, **link;
};

struct api_conn { /* MHD's socket context */
    const struct api_door *door;
    struct tls_generation *generation; /* held until the first request; NULL after */
    struct request *request;           /* owned reference; reused from request to request */
    gnutls_session_t tls;              /* MHD's; NULL: an admin connection */
    bool admin_ok; /* of an admin connection: its peer may administer, */
    char actor[24]; /* and is so called in the log: "uid:0" */
    char *query;    /* owned: of a request for /audit/, as it came; else NULL */
};

void request_ask(struct request *r);
void request_unask(struct request *r); /* the ra/ function refused at once: no callback will come */
bool request_claim(struct request *r); /* false: answered already; leave it alone */
void request_settle(struct request *r);
void request_fail(struct request *r, const struct err *e);
void request_json(struct request *r, unsigned status); /* out is JSON */
enum MHD_Result request_handle(void *door, struct MHD_Connection *c, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_len, void **context);
void request_completed(void *door, struct MHD_Connection *c, void **context,
                       enum MHD_RequestTerminationCode why);
void connection_changed(void *door, struct MHD_Connection *c, void **context,
                        enum MHD_ConnectionNotificationCode what);
/* From now on nothing waits for ra/: what does is answered 503. True: some are not yet resumed. */
bool requests_abandon(struct api_server *s);

/* --- handlers ------------------------------------------------------------------------------------ */
/* The path of a URL of ours, or NULL. */
const char *base_strip(const struct api_server *s, const char *url);
int acme_authenticate(struct request *r, struct err *e);
bool acme_id_ok(const char *id);
void url_write(struct buf *b, const struct request *r, const char *path, const char *id);
void acme_directory(struct request *r);
void acme_new_nonce(struct request *r);
void acme_issuer(struct request *r);
void acme_new_account(struct request *r);
void acme_account(struct request *r);
void acme_new_order(struct request *r);
void acme_order(struct request *r);
void acme_orders(struct request *r);
void acme_finalize(struct request *r);
void acme_certificate(struct request *r);
void acme_authz(struct request *r);
void acme_revoke_cert(struct request *r); /* revoke_cert.c */
void acme_new_jwt(struct request *r); /* jwt.c */
void acme_challenge(struct request *r);
void acme_agent_entries(struct request *r); /* entries.c */
void acme_renewal_info(struct request *r);  /* renewal.c */
int acme_check_replaces(const struct request *r, struct err *e); /* of an order; rule "replaces" */
void public_bundle(struct request *r);
void public_log(struct request *r); /* tiles.c */
bool tiles_accept_gzip(const char *accept);
bool request_has(const struct request *r, const char *etag); /* If-None-Match (RFC 9110 section 13.1.2) */
void public_crl(struct request *r); /* crl.c */
void public_ui(struct request *r); /* ui.c */
void public_ui_bare(struct request *r);
void public_health(struct request *r);
void public_ready(struct request *r);
int admin_authorize(struct request *r, struct api_conn *conn, struct err *e);
void admin_entries(struct request *r);
void admin_entry(struct request *r);
void admin_tokens(struct request *r);
void admin_revocations(struct request *r); /* revoke.c */
struct tlog_ext_info;
/* Of a certificate's entry: whether an agent's word got it, and whose. */
bool revoke_by_agent(const struct tlog_ext_info *x, char *agent, size_t cap);
bool admin_limit(const struct request *r, unsigned long max, unsigned long *limit, struct err *e);
void admin_status(struct request *r);
void audit_entries(struct request *r); /* audit.c */
void audit_statistics(struct request *r);
void *audit_uri_seen(void *unused, const char *uri, struct MHD_Connection *c);

#endif
