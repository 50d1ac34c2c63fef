/* What the kernel says of a process on the other end of a Unix socket: evidence for the agent's word.
 *
 * Selectors: unix:uid:N unix:user:NAME unix:gid:N unix:group:NAME unix:supplementary_gid:N
 * unix:supplementary_group:NAME unix:path:/exe unix:sha256:HEX systemd:unit:NAME cgroup:path:/…
 * container:id:HEX. A value that the kernel does not tell (another user's /proc, a program that was deleted)
 * makes no selector; it fails nothing but what asks for it.
 *
 * No window for a reused PID: where the kernel has SO_PEERPIDFD (Linux 6.5) the process is held by it, else
 * /proc/PID's directory and start time are; peer_alive answers whether it is still the same program.
 * Not done here: matching entries, answering calls.
 *
 * peer_open is quick and runs on the loop's thread at connect; peer_attest may read a whole executable and is
 * for a worker thread. Digests are kept by (device, inode, size, mtime, ctime).
 */
#ifndef AGENT_ATTESTOR_H
#define AGENT_ATTESTOR_H
#include "base/bytes.h"
#include "base/err.h"
#include <stdbool.h>
#include <sys/types.h>

#define PEER_SELECTORS_MAX 96

struct peer; /* one process, held */
struct peer_selectors {
    char *list[PEER_SELECTORS_MAX]; /* owned */
    size_t n;
};
/* Rules "peer-gone", "peer-foreign" (not in our PID namespace: pid 0), "peer-changed" (another user's already),
 * "peer-proc" (/proc does not tell). */
struct peer *peer_open(int fd, struct err *e);
void peer_free(struct peer *p);
pid_t peer_pid(const struct peer *p);
uid_t peer_uid(const struct peer *p);
/* Whole selectors, or -1: the process is not the one any more ("peer-gone"), was replaced by exec meanwhile
 * ("peer-changed"). */
int peer_attest(struct peer *p, struct peer_selectors *out, struct err *e);
/* Still running, same program, same owner, as it was attested. Quick. */
bool peer_alive(struct peer *p);
void peer_selectors_free(struct peer_selectors *s);
/* Every one of want is among s. want of none: false. */
bool peer_selectors_match(const struct peer_selectors *s, char *const *want, size_t n);

#endif
