/* /proc/PID/stat and status: the kernel's words around a name that the process chose. */
#include "agent/peer.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct proc_stat st;
    struct proc_status s;
    proc_stat_parse(&st, (const char *)data, len);
    if (proc_status_parse(&s, (const char *)data, len) == 0 && s.groups_count > PEER_GROUPS_MAX)
        abort();
    return 0;
}
