/* HTTP: turns requests into calls on ra/, and errors into problem documents; decides nothing.
 *
 * Public (TLS, MHD epoll pool): /acme/… (directory, new-nonce, new-account, new-order, order/ID,
 * authz/ID, challenge/ID, finalize/ID, certificate/ID, account/ID, orders/ID, revoke-cert), /spiffe/bundle, /log/…, /crl/…,
 * /audit/v1/entries and /audit/v1/stats (refused unless audit.access admits the client), /ui/, /healthz, /readyz.
 * Admin (Unix socket, peer credentials: root and admin_uid): /admin/v1/entries[/ID],
 * /admin/v1/tokens, /admin/v1/revocations, /admin/v1/status, as JSON, and /audit/v1/….
 * What waits for ra/ is a suspended connection, not a thread.
 */
#ifndef API_SERVER_H
#define API_SERVER_H
#include "base/config.h"
#include "ra/ra.h"

struct audit;
struct store_age;
struct api_server;
struct api_options {
    const struct config *config;
    struct ra *ra;
    struct audit *audit; /* not owned; NULL: no search */
    struct store_age *age; /* not owned; the public address waits for its answer; may be NULL */
    int listen_fd;  /* bound TCP socket, from the parent; owned by the server from here on */
    int admin_fd;   /* bound Unix stream socket; owned */
    uid_t admin_uid;
};
/* Returns once the server has its own certificate and serves; waits for the signer as long as it
 * takes, answering /healthz and reads is not possible before that (there is no certificate). The
 * admin socket serves from the start. */
int api_start(struct api_server **out, const struct api_options *o, struct err *e);
/* Drains: no new connections, waits up to drain_ms for those that are being answered. */
void api_stop(struct api_server *s, unsigned drain_ms);

#endif
