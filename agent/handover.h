/* What SIGHUP's re-execution takes along beside the agent's own keys: see handover.c. */
#ifndef AGENT_HANDOVER_H
#define AGENT_HANDOVER_H
#include "agent/daemon.h"

struct handover { /* a memfd that holds private keys: wiped when closed */
    int fd; /* -1: none */
    void *map;
    size_t len, secret; /* of the first bytes, those that are locked and wiped */
};
struct handed { /* as it was parsed: nothing of it is verified */
    char *id, *server; /* owned; NULL: nothing was handed over */
    char version[VERSION_TEXT_MAX + 1];
    int64_t entries_revoked, entries_at_ms, entries_of_ms;
    struct identities identities;
    struct buf bundle; /* the document */
    struct crl_slot *crls; /* owned */
    unsigned crls_count;
};
/* Of an agent whose threads have ended. */
int handover_write(struct handover *m, const struct agent *a, struct err *e);
void handover_close(struct handover *m);
/* Takes over fd, and wipes what it holds. Rule "handover": that is as if there were none. */
int handover_read(struct handed *h, int fd, struct err *e);
int handover_parse(struct handed *h, const void *p, size_t len, struct err *e); /* the bytes alone */
void handed_free(struct handed *h);
/* handover_take.c: moves what still serves into a, once a->self is open and before anything runs. */
void handover_take(struct agent *a, struct handed *h);

#endif
