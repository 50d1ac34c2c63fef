/* The witnesses that the configuration names. What is made of their cosignatures: quorum.h. */
#ifndef CA_WITNESSES_H
#define CA_WITNESSES_H
#include "base/config.h"
#include "tlog/checkpoint.h"

struct witnesses {
    struct tlog_vkey key[CONFIG_WITNESSES_MAX]; /* in the configuration's order */
    size_t count;
};
/* Two names for one key would be one witness that counts twice. Rules "vkey-format", "witness";
 * ERR_CONFIG. Free in any case. */
int witnesses_load(struct witnesses *w, const struct config *c, struct err *e);
void witnesses_free(struct witnesses *w);
#endif
