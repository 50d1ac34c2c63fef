/* Every limit of this room. Whoever can reach the socket may send anything; what one of them can make
 * us hold or do is bounded here.
 */
#ifndef WORKLOAD_LIMITS_H
#define WORKLOAD_LIMITS_H

/* The server: defaults of struct wl_limits. */
#define LIMIT_CONNECTIONS 4096
#define LIMIT_CONNECTIONS_PER_UID 1024
#define LIMIT_STREAMS 64                /* of a connection, at once */
#define LIMIT_MESSAGE 65536             /* bytes of a request; a JWT that is to be validated is the largest */
#define LIMIT_IDLE_S 600                /* a connection without a call */

/* The server: fixed. */
#define LIMIT_PREFACE_S 10              /* from connect to the client's SETTINGS */
#define LIMIT_REQUEST_S 30              /* from a request's headers to its end */
#define LIMIT_REQUESTS_PER_UID (1 << 20) /* bytes of unfinished requests, over all connections of a user */
#define LIMIT_KEPT_PER_UID (4 << 20)    /* bytes kept for a user's calls: names, requests that wait, answers that
                                         * the client does not fetch */
#define LIMIT_HEADERS 8192              /* bytes of a request's header list, as RFC 9113 counts them */
#define LIMIT_CONTINUATIONS 4
#define LIMIT_SETTINGS 16               /* entries of one SETTINGS frame */
#define LIMIT_OUTBOUND_ACKS 64          /* PING and SETTINGS answers that the client does not fetch */
#define LIMIT_RESETS_BURST 1000         /* streams reset (CVE-2023-44487); honest clients do it too */
#define LIMIT_RESETS_RATE 100           /* a second */
#define LIMIT_CHATTER_BURST 2000        /* frames that carry nothing: PING, SETTINGS, PRIORITY, … */
#define LIMIT_CHATTER_RATE 100          /* a second */
#define LIMIT_SESSION_MEMORY (192 << 10) /* bytes of nghttp2's for one connection, which needs some 25 kB */
#define LIMIT_SESSIONS_PER_UID (48 << 20) /* and for all connections of a user */
#define LIMIT_ACCEPTS 16                /* connections taken before others get their turn */

/* What requests may hold. */
#define LIMIT_AUDIENCES 32
#define LIMIT_AUDIENCE 1024             /* bytes of one */
#define LIMIT_NAMES 128                 /* of resources, SDS */
#define LIMIT_JWT 16384                 /* bytes of a token that is to be validated */
#define LIMIT_CLAIMS 65536              /* bytes of a token's claims, JSON */
#define LIMIT_STATUS_MESSAGE 512        /* bytes of a grpc-message before it is escaped */

/* What is sent. A message is made in locked memory, one at a time. */
#define LIMIT_RESPONSE ((1 << 20) - 64) /* bytes of a message, and of all that is needed to make it */
#define LIMIT_SCRATCH_KEPT 65536        /* bytes of locked memory kept from message to message */

/* The client: what it takes from a server that it does not trust either. */
#define LIMIT_CLIENT_MESSAGE (1 << 20)  /* bytes; also locked memory's own limit */
#define LIMIT_SVIDS 256                 /* of a message */
#define LIMIT_BUNDLES 256
#define LIMIT_CRLS 1024
#define LIMIT_CHAIN 16                  /* certificates */
#define LIMIT_ROOTS 64
#define LIMIT_KEY 8192                  /* bytes of PKCS#8: RSA of 4096 bits has 2.4 kB */
#define LIMIT_HINT 1024
#define LIMIT_JWTS 64                   /* unary calls waiting at once */
#define CLIENT_CALL_S 30                /* how long a unary call may take */
#define CLIENT_BACKOFF_MIN_MS 100
#define CLIENT_BACKOFF_MAX_MS 3000      /* while nobody answers, or who does is not ready: a socket of this host */
#define CLIENT_REFUSED_MAX_MS 30000     /* when the answer was another one: for a caller without an identity the agent
                                         * asks its authority for newer entries each time, and logs it */

#endif
