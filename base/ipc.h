/* Framed IPC between our own processes: one frame is one datagram of a SOCK_SEQPACKET Unix socket,
 * so writers need no lock and a reader takes all that waits with one recvmmsg.
 * frame = u8 version(1) ‖ u8 type ‖ u64 id ‖ body (big-endian); at most IPC_FRAME_MAX bytes.
 * What the types mean is ca/msg.h. Frames are hostile: the other side may be taken.
 */
#ifndef BASE_IPC_H
#define BASE_IPC_H
#include "base/bytes.h"
#include "base/err.h"
#include <stdbool.h>
#include <sys/types.h>

#define IPC_FRAME_MAX 65536 /* a whole CRL (ca/msg.h) */
#define IPC_HEADER 10
#define IPC_VERSION 1

struct ipc_frame {
    uint8_t type;
    uint64_t id;
    struct bytes body; /* view into the receive buffer */
};
void ipc_frame_begin(struct buf *b, uint8_t type, uint64_t id); /* resets b, writes the header */
int ipc_frame_parse(struct ipc_frame *f, const void *p, size_t len, struct err *e);

/* Receives up to IPC_BATCH frames that wait; blocks (poll) up to timeout_ms for the first (-1: for
 * ever). Returns the count, 0 on timeout or signal, -1 on error (a frame over the limit is one), and
 * -2 when the peer closed. `out` is valid until the next call. A reader serves one descriptor. */
#define IPC_BATCH 64
struct ipc_reader;
struct ipc_reader *ipc_reader_new(struct err *e);
void ipc_reader_free(struct ipc_reader *r);
int ipc_recv(struct ipc_reader *r, int fd, int timeout_ms, struct bytes out[IPC_BATCH], struct err *e);
/* Sends one frame whole; ERR_UNAVAILABLE when the peer is gone. Blocks while its queue is full. */
int ipc_send(int fd, const struct buf *frame, struct err *e);
/* Never blocks: 0 with *sent false when its queue is full. */
int ipc_try_send(int fd, const struct buf *frame, bool *sent, struct err *e);

int ipc_listen(const char *path, mode_t mode, struct err *e);  /* SEQPACKET; unlinks a stale socket */
int ipc_connect(const char *path, struct err *e);
int ipc_peer(int fd, uid_t *uid, gid_t *gid, pid_t *pid, struct err *e); /* SO_PEERCRED */

#endif
