/* The token, through libp11: enumeration and choice, once and single-threaded. After that libp11 is
 * only kept so that the module stays initialized. The login is ours: PKCS11_login of libp11 0.4.12
 * keeps a copy of the PIN in ordinary memory, and waits for ever when a session cannot be opened.
 * Another trait this file steps around: opening a session in another mode closes all sessions (so
 * the mode is set once, before any of ours exists). */
#include "hsm/internal.h"
#include <libp11.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

struct hsm_token {
    PKCS11_CTX *ctx;    /* owned */
    PKCS11_SLOT *slots; /* owned, of ctx */
    unsigned n;
    PKCS11_SLOT *slot; /* one of slots */
    bool loaded;
};

/* What the module answered, from where libp11 left it. (ERR_get_CKR_code, despite its name, gives
 * the number of libp11's error library.) */
static CK_RV libp11_rv(void)
{
    unsigned long code = ERR_peek_last_error();
    bool of_module = code != 0 && ERR_GET_LIB(code) == ERR_get_CKR_code();
    ERR_clear_error();
    return of_module ? (CK_RV)ERR_GET_REASON(code) : CKR_GENERAL_ERROR;
}

static struct hsm_token_id token_id(PKCS11_SLOT *s)
{
    struct hsm_token_id id = {.label = s->token->label, .manufacturer = s->token->manufacturer,
                              .model = s->token->model, .serial = s->token->serialnr,
                              .slot_id = PKCS11_get_slotid_from_slot(s)};
    return id;
}

/* Lists the labels that are there, as far as they fit. */
static void token_labels(const struct hsm_token *t, char *dst, size_t cap)
{
    size_t used = 0;
    dst[0] = '\0';
    for (unsigned i = 0; i < t->n; i++) {
        const PKCS11_TOKEN *k = t->slots[i].token;
        if (!k || !k->initialized)
            continue;
        int n = snprintf(dst + used, cap - used, "%s\"%.32s\" (serial %.16s)", used ? ", " : "",
                         k->label ? k->label : "", k->serialnr ? k->serialnr : "");
        if (n < 0 || (size_t)n >= cap - used) {
            dst[used] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

static int token_choose(struct hsm_token *t, const struct hsm_uri *u, const char *module, struct err *e)
{
    unsigned matches = 0;
    for (unsigned i = 0; i < t->n; i++) {
        PKCS11_SLOT *s = &t->slots[i];
        if (!s->token || !s->token->initialized)
            continue;
        struct hsm_token_id id = token_id(s);
        if (!hsm_uri_match(u, &id))
            continue;
        t->slot = s;
        matches++;
    }
    if (matches == 1)
        return 0;
    char there[240];
    token_labels(t, there, sizeof(there));
    if (matches > 1)
        return err_set(e, ERR_HSM, "hsm-token-many",
                       "%u tokens match the URI; add serial= to it. There are: %s", matches, there);
    if (!there[0])
        return err_set(e, ERR_HSM, "hsm-token",
                       "module %.120s shows no initialized token; is the device connected, or "
                       "SOFTHSM2_CONF right?",
                       module);
    return err_set(e, ERR_HSM, "hsm-token",
                   "no token matches the URI%s%s%s; there are: %s", u->has & 1u << HSM_URI_TOKEN
                   ? " (token=" : "", u->token, u->has & 1u << HSM_URI_TOKEN ? ")" : "", there);
}

struct hsm_token *hsm_token_open(const char *module, const struct hsm_uri *u, struct err *e)
{
    struct hsm_token *t = calloc(1, sizeof(*t));
    if (!t || !(t->ctx = PKCS11_CTX_new())) {
        free(t);
        err_set(e, ERR_INTERNAL, "memory", "out of memory for libp11");
        return NULL;
    }
    if (PKCS11_CTX_load(t->ctx, module) != 0) {
        hsm_fail(e, "hsm-module", libp11_rv(), "initializing the PKCS#11 module");
        goto fail;
    }
    t->loaded = true;
    if (PKCS11_enumerate_slots(t->ctx, &t->slots, &t->n) != 0) {
        hsm_fail(e, "hsm-token", libp11_rv(), "listing the module's tokens");
        goto fail;
    }
    if (token_choose(t, u, module, e))
        goto fail;
    /* Opens nothing yet; fixes libp11's mode to read-only before any session exists. */
    if (PKCS11_open_session(t->slot, 0) != 0) {
        hsm_fail(e, "hsm-sessions", libp11_rv(), "setting the token's session mode");
        goto fail;
    }
    return t;
fail:
    hsm_token_close(t);
    return NULL;
}

void hsm_token_close(struct hsm_token *t)
{
    if (!t)
        return;
    if (t->slots)
        PKCS11_release_all_slots(t->ctx, t->slots, t->n);
    if (t->loaded)
        PKCS11_CTX_unload(t->ctx);
    PKCS11_CTX_free(t->ctx);
    free(t);
}

CK_SLOT_ID hsm_token_slot(const struct hsm_token *t)
{
    return PKCS11_get_slotid_from_slot(t->slot);
}

void hsm_token_describe(const struct hsm_token *t, char *dst, size_t cap)
{
    struct hsm_token_id id = token_id(t->slot);
    snprintf(dst, cap, "%s (%s %s %s)", id.label ? id.label : "", id.manufacturer ? id.manufacturer : "",
             id.model ? id.model : "", id.serial ? id.serial : "");
}

/* Whether one attempt is safe: never take the try that could lock the token. */
static int login_allowed(const PKCS11_TOKEN *k, const struct secret *pin, struct err *e)
{
    if (!pin || !pin->p || pin->len == 0)
        return err_set(e, ERR_HSM, "hsm-pin", "no PIN was given for token \"%.32s\"", k->label);
    if (memchr(pin->p, 0, pin->len))
        return err_set(e, ERR_HSM, "hsm-pin",
                       "the PIN given for token \"%.32s\" holds a NUL byte; it was not tried", k->label);
    if (k->userPinLocked)
        return err_set(e, ERR_HSM, "hsm-pin",
                       "the user PIN of token \"%.32s\" is locked; set it anew with the token's SO "
                       "PIN. The PIN was not tried",
                       k->label);
    if (k->userPinFinalTry)
        return err_set(e, ERR_HSM, "hsm-pin",
                       "token \"%.32s\" has one PIN try left before it locks, so the PIN was not "
                       "tried; log in once by hand (pkcs11-tool --login) to reset the count",
                       k->label);
    if (!k->userPinSet)
        return err_set(e, ERR_HSM, "hsm-pin",
                       "token \"%.32s\" has no user PIN yet; set one with its SO PIN", k->label);
    return 0;
}

static int login_refused(const PKCS11_TOKEN *k, CK_RV rv, struct err *e)
{
    switch (rv) {
    case CKR_PIN_INCORRECT:
    case CKR_PIN_INVALID:
    case CKR_PIN_LEN_RANGE:
        return err_set(e, ERR_HSM, "hsm-pin",
                       "wrong PIN for token \"%.32s\" (%s). It was tried exactly once and will not be "
                       "tried again, so the token is not locked by this; correct the PIN, then start "
                       "again",
                       k->label, hsm_rv_name(rv));
    case CKR_PIN_LOCKED:
    case CKR_PIN_EXPIRED:
    case CKR_USER_PIN_NOT_INITIALIZED:
        return err_set(e, ERR_HSM, "hsm-pin",
                       "token \"%.32s\" takes no login (%s): the user PIN must be set anew with the "
                       "token's SO PIN",
                       k->label, hsm_rv_name(rv));
    case CKR_DEVICE_ERROR:
    case CKR_DEVICE_REMOVED:
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_SESSION_CLOSED:
    case CKR_SESSION_HANDLE_INVALID: return hsm_fail(e, "hsm-lost", rv, "logging in to the token");
    default:
        /* Nobody knows whether a try was spent: so it counts as one, and is not repeated. */
        return err_set(e, ERR_HSM, "hsm-pin",
                       "token \"%.32s\" refused the login (%s, 0x%lx). The PIN was tried exactly once "
                       "and will not be tried again",
                       k->label, hsm_rv_name(rv), rv);
    }
}

int hsm_token_login(struct hsm_token *t, CK_FUNCTION_LIST *f, CK_SESSION_HANDLE s,
                    const struct secret *pin, struct err *e)
{
    const PKCS11_TOKEN *k = t->slot->token;
    if (login_allowed(k, pin, e))
        return -1;
    CK_RV rv = f->C_Login(s, CKU_USER, pin->p, pin->len);
    /* Some modules log in once for all that use them. */
    return rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN ? 0 : login_refused(k, rv, e);
}
