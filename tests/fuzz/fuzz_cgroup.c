/* Control groups of a process: names in it are chosen by whoever was given a group. */
#include "agent/peer.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct peer_cgroup c;
    memset(&c, 0xff, sizeof c);
    peer_cgroup_parse(&c, (const char *)data, len);
    if (!memchr(c.path, 0, sizeof c.path) || !memchr(c.unit, 0, sizeof c.unit) ||
        !memchr(c.container, 0, sizeof c.container))
        abort();
    if (*c.path && *c.path != '/')
        abort();
    if (*c.unit && (!strstr(c.path, c.unit) || strchr(c.unit, '/')))
        abort();
    if (*c.container && (strlen(c.container) != 64 || !strstr(c.path, c.container) ||
                         strspn(c.container, "0123456789abcdef") != 64))
        abort();
    return 0;
}
