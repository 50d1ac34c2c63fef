/* Keys in a token (self_keys.h): found or made, and wrapped so that base/key signs with them. */
#include "agent/self_keys.h"
#include "base/log.h"
#include <openssl/sha.h>
#include <stdlib.h>

#define PIN_MAX 256
#define CALL_MS 10000
#define NEED ((1u << HSM_KEY_AGENT_SESSION) | (1u << HSM_KEY_AGENT_SVID))

static int make_missing(struct self *s, bool *existed, struct err *e)
{
    static const enum hsm_key_role roles[] = {HSM_KEY_AGENT_SESSION, HSM_KEY_AGENT_SVID};
    *existed = true;
    for (size_t i = 0; i < 2; i++) {
        if (hsm_has_key(s->hsm, roles[i]))
            continue;
        *existed = false;
        if (hsm_generate(s->hsm, roles[i], e) < 0)
            return -1;
        log_info("made a key in the token", "label", hsm_key_label[roles[i]], NULL);
    }
    return 0;
}

int self_token_open(struct self *s, bool *existed, struct err *e)
{
    struct secret pin;
    const struct agent_config *c = s->config;
    if (c->key.softhsm_conf && setenv("SOFTHSM2_CONF", c->key.softhsm_conf, 1) < 0)
        return err_errno(e, "hsm-conf", "cannot set SOFTHSM2_CONF");
    if (secret_read_file(&pin, c->key.pin_file, PIN_MAX, e) < 0)
        return err_wrap(e, "key.pin_file");
    struct hsm_options o = {.uri = c->key.uri, .module = c->key.module, .pin = &pin, .sessions = 1,
                            .call_timeout_ms = CALL_MS};
    int rc = hsm_open(&s->hsm, &o, e);
    secret_free(&pin);
    if (rc == 0)
        rc = make_missing(s, existed, e);
    return rc == 0 ? hsm_load_keys(s->hsm, NEED, e) : -1;
}

static int sign(struct self *s, enum hsm_key_role role, const uint8_t *digest, size_t len, uint8_t *rs, size_t rs_len,
                struct err *e)
{
    size_t n = rs_len;
    if (hsm_sign(s->hsm, role, digest, len, rs, &n, e) < 0)
        return -1;
    return n == rs_len ? 0 : err_set(e, ERR_HSM, "hsm-sign", "the token's signature has a length it can not have");
}

static int sign_session(void *arg, const uint8_t *digest, size_t len, uint8_t *rs, size_t rs_len, struct err *e)
{
    return sign(arg, HSM_KEY_AGENT_SESSION, digest, len, rs, rs_len, e);
}

static int sign_svid(void *arg, const uint8_t *digest, size_t len, uint8_t *rs, size_t rs_len, struct err *e)
{
    return sign(arg, HSM_KEY_AGENT_SVID, digest, len, rs, rs_len, e);
}

struct key *self_token_key(struct self *s, enum hsm_key_role role, struct err *e)
{
    struct bytes spki = hsm_spki(s->hsm, role);
    return key_from_signer(spki.p, spki.len, role == HSM_KEY_AGENT_SESSION ? sign_session : sign_svid, s, e);
}

void self_token_close(struct self *s)
{
    if (s->hsm)
        hsm_close(s->hsm);
    s->hsm = NULL;
}
