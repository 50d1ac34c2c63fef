/* The witnesses that the configuration names, and the cosignatures that the notary brings of them: each
 * is verified against its witness's key and against what the log has published, before it is published
 * with it. The notary is believed in nothing. */
#ifndef CA_WITNESSES_H
#define CA_WITNESSES_H
#include "base/config.h"
#include "tlog/log.h"

struct witnesses {
    struct tlog_vkey key[CONFIG_WITNESSES_MAX]; /* in the configuration's order */
    size_t count;
};
/* Rule "vkey-format", ERR_CONFIG. Free in any case. */
int witnesses_load(struct witnesses *w, const struct config *c, struct err *e);
void witnesses_free(struct witnesses *w);
/* A CA_COSIGN's body. w outlives the log. Rules "ca-msg", "witness", "cosignature", "cosign-stale". */
int witnesses_accept(const struct witnesses *w, struct tlog *log, struct bytes body, struct err *e);
#endif
