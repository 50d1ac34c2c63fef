/* What one program of ours leaves for the next: keys, entries, SVIDs, bundle, CRLs (h); the agent's own keys (k). The
 * first byte chooses. */
#include "agent/handover.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void handed(const uint8_t *p, size_t n)
{
    struct err e;
    struct handed h;
    if (handover_parse(&h, p, n, &e) < 0) {
        if (h.id || h.identities.n || h.crls || h.bundle.p || e.code == ERR_NONE)
            abort();
        return;
    }
    if (!*h.id || !*h.server || h.identities.n > ENTRIES_MAX || strlen(h.version) > VERSION_TEXT_MAX)
        abort();
    for (size_t i = 0; i < h.identities.n; i++) {
        const struct identity *x = h.identities.list[i];
        if (strncmp(x->spiffe_id, "spiffe://", 9) != 0 || identity_of(&h.identities, x->spiffe_id) != x)
            abort();
        if (x->svid && (x->svid->chain_len == 0 || x->svid->key.len == 0 || !x->svid->hint || x->from_ms < 0))
            abort();
    }
    handed_free(&h);
}

/* With the memory that holds it, as keep.c maps it. */
static void kept(const uint8_t *p, size_t n)
{
    struct err e;
    struct keep m;
    struct kept k;
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || (n > 0 && write(fd, p, n) != (ssize_t)n) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) {
        if (fd >= 0)
            close(fd);
        return;
    }
    if (keep_read(&m, &k, fd, &e) < 0) {
        if (k.id || k.session.p || k.svid.p || m.fd >= 0 || e.code == ERR_NONE)
            abort();
        return;
    }
    if (!k.id || k.session.len == 0 || k.svid.len == 0 || k.chain_pem.len == 0)
        abort();
    kept_free(&k);
    keep_close(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len > 0 && data[0] == 'h')
        handed(data + 1, len - 1);
    else if (len > 0 && data[0] == 'k')
        kept(data + 1, len - 1);
    return 0;
}
