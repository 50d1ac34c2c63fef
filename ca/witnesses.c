#include "ca/witnesses.h"
#include <string.h>

int witnesses_load(struct witnesses *w, const struct config *c, struct err *e)
{
    memset(w, 0, sizeof *w);
    for (size_t i = 0; i < c->witnesses.count; i++) {
        const char *text = c->witnesses.list[i].vkey;
        if (tlog_vkey_parse_witness(&w->key[i], text, strlen(text), e) < 0) {
            e->code = ERR_CONFIG;
            return err_wrap(e, "witnesses.list, entry %zu, vkey", i + 1);
        }
        w->count++;
        for (size_t k = 0; k < i; k++)
            if (memcmp(w->key[k].pub, w->key[i].pub, sizeof w->key[i].pub) == 0)
                return err_set(e, ERR_CONFIG, "witness", "witnesses.list, entries %zu and %zu have one public key", k + 1,
                               i + 1);
    }
    return 0;
}

void witnesses_free(struct witnesses *w)
{
    for (size_t i = 0; i < w->count; i++)
        tlog_vkey_free(&w->key[i]);
    w->count = 0;
}
