#include "ca/witnesses.h"
#include "ca/msg.h"
#include <string.h>

_Static_assert(CONFIG_WITNESSES_MAX <= TLOG_COSIGNERS, "every configured witness has its place");
_Static_assert(CA_ROOT_LEN == TLOG_HASH, "a root is a hash");

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
    }
    return 0;
}

void witnesses_free(struct witnesses *w)
{
    for (size_t i = 0; i < w->count; i++)
        tlog_vkey_free(&w->key[i]);
    w->count = 0;
}

int witnesses_accept(const struct witnesses *w, struct tlog *log, struct bytes body, struct err *e)
{
    struct ca_cosign m;
    struct tlog_checkpoint c = {.origin = ""};
    struct tlog_cosignature s;
    if (ca_cosign_parse(&m, body, e) < 0)
        return -1;
    c.size = m.size;
    memcpy(&c.root, m.root.p, sizeof c.root);
    s.time = m.time;
    memcpy(s.sig, m.sig.p, sizeof s.sig);
    for (size_t i = 0; i < w->count; i++)
        if (bytes_eq(m.key_id, w->key[i].id, sizeof w->key[i].id))
            return tlog_cosign(log, &c, &w->key[i], &s, e);
    return err_set(e, ERR_UNAUTHORIZED, "witness", "no configured witness has a key of that id");
}
