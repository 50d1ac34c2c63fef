/* The server's own key and certificate. The key is made here, lives in memory only, and is new
 * with each certificate; the certificate comes from the signer like any other (server profile),
 * and is renewed at half its life. Sent: leaf, issuing, root, so that an agent that knows only the
 * root's hash can verify.
 *
 * Each key with its chain is a generation. A connection holds the generation that was current when
 * it was accepted until its handshake is over; generations are freed from the oldest on, so one
 * that a handshake may use is never freed (tls_hold).
 */
#ifndef API_TLS_H
#define API_TLS_H
#include "ra/ra.h"
#include <gnutls/abstract.h>

#define TLS_PRIORITIES                                                                              \
    "NONE:+VERS-TLS1.3:+VERS-TLS1.2:+AES-128-GCM:+CHACHA20-POLY1305:+AES-256-GCM:+AEAD:"            \
    "+ECDHE-ECDSA:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+SIGN-ECDSA-SECP256R1-SHA256:"    \
    "+SIGN-ECDSA-SHA256:+CTYPE-SRV-X509:+COMP-NULL:%SERVER_PRECEDENCE"
/* Where clients may show a certificate: and those, by any kind of key that an SVID may have. */
#define TLS_PRIORITIES_CLIENTS                                                                      \
    TLS_PRIORITIES ":+CTYPE-CLI-X509:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SHA384:"              \
                   "+SIGN-EDDSA-ED25519:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256"

struct api_tls; /* one a process: the callback below has no argument of ours */
struct tls_generation;
/* Returns with the first certificate, however long the signer takes; -1 when it refuses for good,
 * or when SIGTERM is pending (rule "stopping"). */
int tls_start(struct api_tls **out, struct ra *ra, struct err *e);
void tls_stop(struct api_tls *t); /* after the last connection */
struct tls_generation *tls_hold(struct api_tls *t);
void tls_release(struct api_tls *t, struct tls_generation *g); /* g may be NULL */
gnutls_certificate_retrieve_function3 tls_certificate;
/* Before the handshake: asks for a certificate, which the client may leave out. Whatever is shown is taken,
 * with proof of its key; whether it counts is asked when something depends on it (ra_auditor). */
void tls_ask_certificate(gnutls_session_t session);
/* What the client showed; views that live as long as the session. */
size_t tls_peer(gnutls_session_t session, struct bytes *chain, size_t max);

#endif
