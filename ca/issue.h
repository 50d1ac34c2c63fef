/* The corridor: the one way by which a certificate comes out of the signer. */
#ifndef CA_ISSUE_H
#define CA_ISSUE_H
#include "base/config.h"
#include "ca/cacert.h"
#include "ca/quorum.h"
#include "hsm/hsm.h"
#include "tlog/log.h"
#include <sys/types.h>

struct issue_options { /* nothing owned; all outlives issue_run */
    const struct config *config;
    struct hsm *hsm;
    struct tlog *log;
    const struct cacert *root, *issuing;
    struct quorum *quorum;
    struct bytes vkey; /* text of the log's verifier key */
    const char *jwt_kid; /* of HSM_KEY_JWT; "": there is none, */
    const char *jwt_off; /* and why */
    int listen_fd, stop_fd; /* stop_fd: readable when it is time to drain */
    uid_t peer_uid;
    bool accept_clock_back; /* the operator says that the present clock is right (signer.h) */
};
/* Until stop_fd is readable: then answers what was received, and returns 0. -1: a final error; the
 * process must end (start-up is recovery). */
int issue_run(const struct issue_options *o, struct err *e);
#endif
