/* Open and close, in order. */
#include "hsm/internal.h"
#include <stdlib.h>

#define TIMEOUT_DEFAULT_MS 5000

static int open_steps(struct hsm *h, const struct hsm_options *o, struct err *e)
{
    /* 1. Which token, through which module. */
    struct hsm_uri u;
    if (hsm_uri_parse(&u, o->uri, e))
        return -1;
    const char *module = u.has & 1u << HSM_URI_MODULE_PATH ? u.module_path : o->module;

    /* 2. From here on calls are made that may hang. */
    if (hsm_watchdog_start(&h->dog, 1 + o->sessions, e))
        return -1;

    /* 3. Load, find the token. */
    hsm_slow_begin(h, "loading the module");
    if (hsm_module_load(&h->module, module, e) == 0)
        h->token = hsm_token_open(module, &u, e);
    hsm_slow_end(h);
    if (!h->token)
        return -1;
    h->slot = hsm_token_slot(h->token);
    hsm_token_describe(h->token, h->name, sizeof(h->name));

    /* 4. Our own sessions. */
    if (hsm_pool_open(h, o->sessions, e))
        return -1;

    /* 5. Log in, on one for all of them: one try. */
    hsm_slow_begin(h, "C_Login");
    int rc = hsm_token_login(h->token, h->module.f, h->pool.all[0].handle, o->pin, e);
    hsm_slow_end(h);
    return rc;
}

int hsm_open(struct hsm **out, const struct hsm_options *o, struct err *e)
{
    *out = NULL;
    if (o->sessions == 0 || o->sessions > HSM_SESSIONS_MAX)
        return err_set(e, ERR_CONFIG, "hsm-sessions",
                       "%u sessions are asked for; 1 to %d are possible, best one a core", o->sessions,
                       HSM_SESSIONS_MAX);
    struct hsm *h = calloc(1, sizeof(*h));
    if (!h)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    h->call_timeout_ms = o->call_timeout_ms ? o->call_timeout_ms : TIMEOUT_DEFAULT_MS;
    if (open_steps(h, o, e)) {
        hsm_close(h);
        return -1;
    }
    *out = h;
    return 0;
}

/* C_Finalize comes before OpenSSL's own clean-up (SoftHSMv2 #780), and the watchdog goes last: a
 * close that hangs ends the process too. */
void hsm_close(struct hsm *h)
{
    if (!h)
        return;
    hsm_pool_close(h);
    if (h->token) {
        hsm_slow_begin(h, "C_Finalize");
        hsm_token_close(h->token);
        hsm_slow_end(h);
    }
    hsm_module_unload(&h->module);
    hsm_watchdog_stop(&h->dog);
    free(h);
}

const char *hsm_token_name(const struct hsm *h)
{
    return h->name;
}

uint64_t hsm_sign_count_of(const struct hsm *h, enum hsm_key_role role)
{
    return atomic_load_explicit(&h->signs[role], memory_order_relaxed);
}

uint64_t hsm_sign_count(const struct hsm *h)
{
    uint64_t n = 0;
    for (int role = 0; role < HSM_KEYS; role++)
        n += hsm_sign_count_of(h, (enum hsm_key_role)role);
    return n;
}
