/* mayfly.yaml: refused with a rule and a reason, or whole. */
#include "base/config.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e;
    struct config *c = config_parse((const char *)data, len, "/srv/mayfly", &e);
    if (!c) {
        if ((e.code != ERR_CONFIG && e.code != ERR_INTERNAL) || !e.rule[0] || !e.msg[0])
            abort();
        return 0;
    }
    if (!c->trust_domain || !c->listen_host || c->listen_port == 0 || c->names_count == 0 ||
        !c->external_url || !c->token.module || c->token.module[0] != '/' || c->token.threads == 0 ||
        c->log.dir[0] != '/' || c->ca.default_lifetime > c->ca.max_lifetime || c->ca.max_lifetime > 3600 ||
        c->store_path[0] != '/' || c->run_dir[0] != '/' || !c->frontend_user || c->frontend_threads == 0)
        abort();
    config_free(c);
    return 0;
}
