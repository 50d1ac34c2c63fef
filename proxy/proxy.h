/* mTLS by default: in front of a server (terminate, authorize, forward) and beside a client (connect, verify,
 * originate). Identity and bundles come from the Workload API (workload/) or from a folder; the proxy makes no
 * key and asks no authority.
 *
 * A `proxy_conf` is filled by the command line (cmd/mayfly-proxy.c) or from a file (proxy/config.c), judged by
 * proxy_conf_check, and run by proxy_run until SIGTERM or SIGINT.
 *
 * Not done here: HTTP, load balancing, what the bytes mean, renewing.
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H
#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include <sys/types.h>

#define PROXY_LISTENERS_MAX 64
#define PROXY_RULES_MAX 256     /* of one listener */
#define PROXY_TRUSTED_MAX 32    /* networks that accept_proxy believes */
#define PROXY_THREADS_MAX 64
#define PROXY_CONFIG_MAX 65536  /* bytes of a configuration file */

/* --- whom to talk with (rules.c) ---------------------------------------------------------------------------- */

enum proxy_rule_kind { PROXY_RULE_ID, PROXY_RULE_PREFIX, PROXY_RULE_DOMAIN };
struct proxy_rule {
    enum proxy_rule_kind kind;
    char *text; /* owned; an ID; a prefix without its last slash; a trust domain's ID */
};
struct proxy_rules {
    struct proxy_rule *list; /* owned */
    size_t n;
};
/* "spiffe://td/a" or "id:spiffe://td/a" is one ID; "spiffe://td/a/" + "*", or "prefix:spiffe://td/a", is every ID beneath (whole path
 * segments, not a itself); "spiffe://td", "domain:td" or "spiffe://td/" + "*" is a whole trust domain.
 * Rule "allow". */
int proxy_rules_add(struct proxy_rules *r, const char *text, struct err *e);
/* The first rule that allows the ID, or NULL. Nothing is allowed by no rules. */
const struct proxy_rule *proxy_rules_match(const struct proxy_rules *r, const char *id);
void proxy_rules_free(struct proxy_rules *r);

/* --- configuration ------------------------------------------------------------------------------------------- */

enum proxy_mode { PROXY_SERVER, PROXY_CLIENT };
struct proxy_network { /* 10.0.0.0/8 */
    uint8_t addr[16];
    unsigned len, bits; /* len: 4 or 16 */
};
struct proxy_listener_conf { /* strings owned */
    enum proxy_mode mode;
    char *name;          /* in logs and metrics; default: what it listens on */
    char *listen, *to;   /* HOST:PORT or unix:/path */
    char *id;            /* which of our SVIDs; NULL: the first */
    char *sni;           /* client mode; NULL: the host of `to` when it is a name */
    struct proxy_rules allow;
    bool require_log_proof;
    bool crl_optional;   /* a certificate that names a CRL which we have not is let through */
    bool close_revoked;  /* established connections of peers that turn revoked are closed */
    bool send_proxy, accept_proxy;
    struct proxy_network trusted[PROXY_TRUSTED_MAX]; /* accept_proxy: from these alone; none: from anybody */
    size_t trusted_count;
    uint8_t alpn[256];   /* wire form; empty: no ALPN */
    size_t alpn_len;
    mode_t mode_bits;    /* of a Unix socket that we make */
    unsigned handshake_timeout, connect_timeout; /* milliseconds */
    unsigned max_connections, max_handshakes, max_per_address; /* max_per_address 0: no limit */
    unsigned max_connection_age; /* seconds; 0: none */
    unsigned half_closed_timeout; /* seconds without a byte, once one side has ended; 0: none */
};
void proxy_listener_defaults(struct proxy_listener_conf *l);
/* "h2,http/1.1" into wire form. Rule "alpn". */
int proxy_alpn_parse(struct proxy_listener_conf *l, const char *text, struct err *e);
int proxy_network_parse(struct proxy_network *n, const char *text, struct err *e);

struct proxy_conf {
    struct proxy_listener_conf *listeners; /* owned */
    size_t n;
    unsigned threads;       /* 0: 1 on up to 2 processors, else half of them */
    unsigned drain_timeout; /* seconds */
    unsigned metrics_peers; /* peers with metrics of their own; the rest are "other" */
    char *socket;           /* Workload API; NULL: $SPIFFE_ENDPOINT_SOCKET, or the agent's default */
    char *identity;         /* a folder instead: svid.pem, svid.key, bundle.pem, crl.pem */
    char *http;             /* HOST:PORT or unix:/path; NULL: none */
    enum log_level level;
    enum log_format format;
};
#define PROXY_SOCKET_DEFAULT "unix:///run/mayfly/agent.sock"
void proxy_conf_defaults(struct proxy_conf *c);
int proxy_conf_add(struct proxy_conf *c, const struct proxy_listener_conf *l, struct err *e); /* takes what l owns */
int proxy_conf_load(struct proxy_conf *c, const char *path, struct err *e);  /* YAML; ERR_CONFIG with the line */
int proxy_conf_parse(struct proxy_conf *c, const char *yaml, size_t len, struct err *e);
int proxy_conf_check(const struct proxy_conf *c, struct err *e);             /* what can be said without trying */
void proxy_conf_free(struct proxy_conf *c);
void proxy_listener_free(struct proxy_listener_conf *l); /* of one that was not added */

/* --- running --------------------------------------------------------------------------------------------------- */

/* First thing in main: what malloc keeps, and OpenSSL without its configuration file. */
void proxy_memory_setup(void);
/* Binds, confines itself, serves until SIGTERM or SIGINT and drained. */
int proxy_run(const struct proxy_conf *c, struct err *e);
#endif
