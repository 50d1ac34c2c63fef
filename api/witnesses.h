/* The configured witnesses and what they say of the published head, as a JSON object:
 * {"quorum":1,"size":42,"list":[{"name":…,"url":…,"cosigned":true,"time":…,"age":3}, …]}. size null: no
 * head could be read, or there is no witness. "wrong": its cosignature is there and does not verify. */
#ifndef API_WITNESSES_H
#define API_WITNESSES_H
#include "base/bytes.h"
#include "base/config.h"

/* vkey: text of the log's verifier key. */
void admin_witnesses_write(struct buf *b, const struct config *c, const char *vkey);
#endif
