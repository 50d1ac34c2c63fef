/* What client.c and client_answer.c share; nobody else includes it. */
#ifndef CA_CLIENT_PARTS_H
#define CA_CLIENT_PARTS_H
#include "ca/client.h"
#include <pthread.h>

#define INFO_ID 0 /* requests count from 1, so no slot ever has it */

struct slot {
    uint64_t id; /* 0: free */
    ca_issue_cb *issue; /* one of the four: what was asked for */
    ca_record_cb *record;
    ca_crl_cb *crl;
    ca_jwt_cb *jwt;
    void *arg;
    int64_t deadline;
    struct buf frame; /* kept until answered, to be sent again; its memory outlives the request */
    uint16_t next, prev;
};

struct ca_client {
    char *path;
    unsigned deadline_ms;
    pthread_t thread;
    struct ipc_reader *reader; /* of the thread; one a connection, since it remembers its end */
    struct buf info_frame;     /* of the thread */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;  /* the thread, while it waits to connect again */
    bool stop;
    int fd;                      /* -1: not connected */
    size_t in_flight, queue_max; /* bytes as the kernel counts them, and what it takes */
    uint64_t last_id;
    uint16_t head, tail, unsent, free_slot;
    struct slot *slots;
    int64_t answered_at; /* monotonic ms of the last CA_INFO_REPLY on this connection; 0: none.
                          * Written by the thread alone, which may read it without the lock */
    struct ca_snapshot snapshot;
};

/* Takes the call that a frame answers out of the table; false: it expired meanwhile, or was answered
 * twice. */
bool client_call_take(struct ca_client *c, const struct ipc_frame *f, struct slot *call);
void client_call_fail(const struct slot *call, const struct err *why);

/* client_answer.c, on the client's thread: one frame of the signer's. -1: it makes no sense, and the
 * connection is to be given up. */
int client_answer(struct ca_client *c, struct bytes frame, struct err *e);

#endif
