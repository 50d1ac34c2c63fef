/* A door of the signer: a listener and the few connections behind it. There are two, the corridor's
 * (issue.c) and the notary's (quorum.c). Each belongs to one thread,
 * except that any thread may answer through a caller and let go of it.
 *
 * A caller is counted: the corridor holds it while connected, each job holds it until answered, so
 * a descriptor's number is never used again under an answer that is still to come. */
#ifndef CA_DOOR_H
#define CA_DOOR_H
#include "base/ipc.h"
#include <stdbool.h>

#define DOOR_CALLERS_MAX 8
#define DOOR_ANSWER_MS 3000 /* a caller that takes no answer for this long is hung up on */

struct door;
struct caller;
/* listen_fd stays the owner's. wake_fd and stop_fd are watched for input, nothing more. */
struct door *door_new(int listen_fd, int wake_fd, int stop_fd, uid_t peer_uid, struct err *e);
void door_free(struct door *d); /* hangs up; callers that jobs hold live on until let go */

struct door_event {
    bool wake, stop;
};
/* Blocks until something comes; lets callers in (root and peer_uid only). */
int door_wait(struct door *d, struct door_event *ev, struct err *e);

/* One call per frame. -1: the caller talks nonsense and is hung up on. */
typedef int door_frame_cb(void *arg, struct caller *c, const struct ipc_frame *f, struct err *e);
/* Reads what waits from those that door_wait found speaking, while there is room for another
 * IPC_BATCH frames; room is lowered by each frame read. What is left is found by the next wait. */
void door_receive(struct door *d, size_t *room, door_frame_cb *cb, void *arg);
/* The same to everybody who is connected. */
void door_tell(struct door *d, const struct buf *frame);
/* Ends sends that wait for a caller that does not read. */
void door_hang_up(struct door *d);

void caller_hold(struct caller *c);
void caller_let_go(struct caller *c);
/* Blocks at most DOOR_ANSWER_MS. A caller that is gone is no error of ours: it is hung up on, and asks again when it is back. */
void caller_answer(struct caller *c, const struct buf *frame);
#endif
