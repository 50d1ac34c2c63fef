/* The agent's own two keys in a PKCS#11 token: session and SVID. Made there at the first start. */
#ifndef AGENT_SELF_KEYS_H
#define AGENT_SELF_KEYS_H
#include "agent/daemon.h"
#include "hsm/hsm.h"

/* existed: both keys were there before. */
int self_token_open(struct self *s, bool *existed, struct err *e);
struct key *self_token_key(struct self *s, enum hsm_key_role role, struct err *e); /* signs in the token */
void self_token_close(struct self *s);

#endif
