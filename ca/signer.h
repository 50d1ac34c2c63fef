/* The signer process: the one corridor a certificate comes out of. See ca/issue.c. */
#ifndef CA_SIGNER_H
#define CA_SIGNER_H
#include "base/config.h"
#include "base/secmem.h"
#include <sys/types.h>

/* Runs until SIGTERM (drains: answers what was accepted, publishes the log, returns 0) or a fatal
 * error (-1 with e: the process exits and the parent starts it again). listen_fd: SEQPACKET
 * listener made by the parent. peer_uid: only this uid (and root) may connect. first_start: full
 * check of the log. accept_clock_back: a log whose newest entry lies in the future was written by a
 * clock that ran ahead; issuance goes on from the present one. The PIN is read, used once and wiped; then the process confines itself. */
struct signer_options {
    const struct config *config;
    int listen_fd;
    int notary_fd; /* listener of the notary's; 0: none */
    int ready_fd; /* an eventfd that is written to when it serves; 0: nobody asks */
    uid_t peer_uid, notary_uid; /* who may connect to each */
    uid_t uid; /* to drop to; (uid_t)-1: stay */
    gid_t gid;
    bool first_start, accept_clock_back;
};
int signer_run(const struct signer_options *o, struct err *e);
/* Reads the PIN as configured: file, systemd credential ($CREDENTIALS_DIRECTORY), descriptor. */
int signer_read_pin(const struct config *c, struct secret *pin, struct err *e);

#endif
