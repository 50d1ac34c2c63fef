/* Identities as files, for programs that speak neither the Workload API nor SDS: a set that changes as one,
 * and the program told of it.
 *
 *   DIR/svid.pem  chain     DIR/svid.key  PKCS#8 PEM     DIR/bundle.pem  roots     DIR/svid.jwt  where wanted
 *   DIR/crl.pem   CRLs of the trust domain, where there are any
 *   DIR/svid-combined.pem   certificate and key in one, for HAProxy and the like, where wanted
 *
 * DIR is a folder whose names are symbolic links through `DIR/..data`, itself a link to the newest of
 * `DIR/..set-<n>`: one rename(2) of ..data swaps the whole set, so nobody reads a new key with an old
 * certificate. A full disk or a read-only folder leaves the old set as it was, and nothing behind. The folder must
 * be the agent's, root's or the files' owner's, and not writable by everybody (unless sticky); symbolic links on the
 * way to it, root's or the agent's.
 *
 * Owner and mode are set before the first byte. The hook runs after the swap, with a bounded time; a signal goes to
 * the process that a pid file names. Not done here: when (agent/serve), what is believed (agent/verify).
 */
#ifndef AGENT_OUTPUT_H
#define AGENT_OUTPUT_H
#include "base/bytes.h"
#include "base/err.h"
#include "base/secmem.h"
#include <stdbool.h>
#include <sys/types.h>

#define OUTPUT_CRLS_MAX (4u << 20) /* bytes of crl.pem; mayfly-proxy reads as many */

struct output_config { /* of one set; strings not owned */
    const char *dir;
    uid_t uid;               /* (uid_t)-1: as the agent runs */
    gid_t gid;
    mode_t mode;             /* of secret files: 0600 default; others get 0644 & (mode | 0444) */
    bool combined;
    const char *reload;      /* command for /bin/sh -c; NULL: none. Sees MAYFLY_SPIFFE_ID, MAYFLY_SVID_DIR */
    const char *pid_file;    /* with signal: who gets it; NULL: none */
    int signal;
    unsigned reload_timeout_ms; /* 0: 10 s */
};
struct output_stamp { /* of a set in place */
    unsigned number, names; /* ..set-<number>; its files, by place in output_names */
    dev_t dev;
    ino_t ino;
};
struct output_set { /* borrowed for the call */
    const char *spiffe_id;
    struct bytes chain_pem, bundle_pem;
    const struct secret *key_der; /* PKCS#8; its PEM is made in locked memory */
    struct bytes jwt, crl_pem; /* empty: no file */
    struct output_stamp *stamp; /* filled; NULL: not wanted */
};
/* Tries whether a set can be written; makes the folder. */
int output_try(const struct output_config *c, struct err *e);
/* Writes and swaps. Rules "out-dir", "out-write", "out-space", "out-owner". Blocks: for a worker thread. */
int output_write(const struct output_config *c, const struct output_set *s, struct err *e);
/* What was written is still what readers find by its names: 1. It is gone, in part or whole, or another is in its place: 0.
 * -1: it can not be told now. What the files say is not looked at. Blocks. */
int output_stands(const struct output_config *c, const struct output_stamp *was, struct err *e);
/* Takes the set, its links and the lock away; files of other names stay, and so does the folder. */
int output_remove(const char *dir, struct err *e);
/* The hook, then the signal, where configured. Fails when the hook does (rule "reload"), never undoes the swap.
 * Blocks up to reload_timeout_ms. */
int output_reload(const struct output_config *c, const char *spiffe_id, struct err *e);

#endif
