#include "agent/config.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e = {0};
    struct agent_config *c = agent_config_parse((const char *)data, len, "/etc/mayfly", &e);
    if (!c && e.code == ERR_NONE)
        abort();
    if (c && (!c->server || !c->id || !c->socket_path || !c->state_dir || (c->key.pkcs11 && !c->key.uri)))
        abort();
    agent_config_free(c);
    return 0;
}
