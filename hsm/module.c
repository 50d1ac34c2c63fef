/* The module itself: loading it, and what its return values mean. */
#include "hsm/internal.h"
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

int hsm_module_load(struct hsm_module *m, const char *path, struct err *e)
{
    memset(m, 0, sizeof(*m));
    if (!path || path[0] != '/')
        return err_set(e, ERR_CONFIG, "hsm-module",
                       "no PKCS#11 module is named by an absolute path; set it in the "
                       "configuration or with ?module-path= in the URI");
    if (access(path, R_OK) != 0)
        return err_set(e, ERR_CONFIG, "hsm-module",
                       "PKCS#11 module %.200s cannot be read (%s); install it or correct its path",
                       path, strerror(errno));
    m->dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!m->dl) {
        const char *why = dlerror();
        return err_set(e, ERR_CONFIG, "hsm-module", "PKCS#11 module %.150s cannot be loaded: %.250s",
                       path, why ? why : "unknown reason");
    }
    CK_C_GetFunctionList get;
    void *sym = dlsym(m->dl, "C_GetFunctionList");
    memcpy(&get, &sym, sizeof(get));
    CK_RV rv = sym ? get(&m->f) : CKR_FUNCTION_NOT_SUPPORTED;
    if (rv != CKR_OK || !m->f) {
        hsm_module_unload(m);
        return err_set(e, ERR_CONFIG, "hsm-module",
                       "%.200s is a library but not a PKCS#11 module (C_GetFunctionList: %s)", path,
                       sym ? hsm_rv_name(rv) : "not there");
    }
    return 0;
}

void hsm_module_unload(struct hsm_module *m)
{
    if (m->dl)
        dlclose(m->dl);
    memset(m, 0, sizeof(*m));
}

/* `lost`: token, session or object are gone or in a state nobody knows. Starting again is then the
 * one way out. CKR_GENERAL_ERROR and CKR_FUNCTION_FAILED are "may be inconsistent" in PKCS#11
 * v3.0 §5.1; SoftHSM2 answers so when its folder disappears. */
static const struct rv_word {
    CK_RV rv;
    const char *name;
    bool lost;
} words[] = {
#define WORD(w, lost) {w, #w, lost}
    WORD(CKR_OK, false),
    WORD(CKR_HOST_MEMORY, false),
    WORD(CKR_SLOT_ID_INVALID, true),
    WORD(CKR_GENERAL_ERROR, true),
    WORD(CKR_FUNCTION_FAILED, true),
    WORD(CKR_ARGUMENTS_BAD, false),
    WORD(CKR_CANT_LOCK, false),
    WORD(CKR_ATTRIBUTE_READ_ONLY, false),
    WORD(CKR_ATTRIBUTE_SENSITIVE, false),
    WORD(CKR_ATTRIBUTE_TYPE_INVALID, false),
    WORD(CKR_ATTRIBUTE_VALUE_INVALID, false),
    WORD(CKR_ACTION_PROHIBITED, false),
    WORD(CKR_DATA_INVALID, false),
    WORD(CKR_DATA_LEN_RANGE, false),
    WORD(CKR_DEVICE_ERROR, true),
    WORD(CKR_DEVICE_MEMORY, true),
    WORD(CKR_DEVICE_REMOVED, true),
    WORD(CKR_FUNCTION_CANCELED, false),
    WORD(CKR_FUNCTION_NOT_SUPPORTED, false),
    WORD(CKR_KEY_HANDLE_INVALID, true),
    WORD(CKR_KEY_SIZE_RANGE, false),
    WORD(CKR_KEY_TYPE_INCONSISTENT, false),
    WORD(CKR_KEY_FUNCTION_NOT_PERMITTED, false),
    WORD(CKR_MECHANISM_INVALID, false),
    WORD(CKR_MECHANISM_PARAM_INVALID, false),
    WORD(CKR_OBJECT_HANDLE_INVALID, true),
    WORD(CKR_OPERATION_ACTIVE, true),
    WORD(CKR_OPERATION_NOT_INITIALIZED, true),
    WORD(CKR_PIN_INCORRECT, false),
    WORD(CKR_PIN_INVALID, false),
    WORD(CKR_PIN_LEN_RANGE, false),
    WORD(CKR_PIN_EXPIRED, false),
    WORD(CKR_PIN_LOCKED, false),
    WORD(CKR_SESSION_CLOSED, true),
    WORD(CKR_SESSION_COUNT, false),
    WORD(CKR_SESSION_HANDLE_INVALID, true),
    WORD(CKR_SESSION_READ_ONLY, false),
    WORD(CKR_TEMPLATE_INCOMPLETE, false),
    WORD(CKR_TEMPLATE_INCONSISTENT, false),
    WORD(CKR_TOKEN_NOT_PRESENT, true),
    WORD(CKR_TOKEN_NOT_RECOGNIZED, true),
    WORD(CKR_TOKEN_WRITE_PROTECTED, false),
    WORD(CKR_USER_NOT_LOGGED_IN, true),
    WORD(CKR_USER_PIN_NOT_INITIALIZED, false),
    WORD(CKR_DOMAIN_PARAMS_INVALID, false),
    WORD(CKR_CURVE_NOT_SUPPORTED, false),
    WORD(CKR_BUFFER_TOO_SMALL, true), /* leaves the session's operation active */
    WORD(CKR_CRYPTOKI_NOT_INITIALIZED, true),
    WORD(CKR_CRYPTOKI_ALREADY_INITIALIZED, false),
    WORD(CKR_PIN_TOO_WEAK, false),
    WORD(CKR_FUNCTION_REJECTED, false),
#undef WORD
};

static const struct rv_word *word_of(CK_RV rv)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i].rv == rv)
            return &words[i];
    return NULL;
}

const char *hsm_rv_name(CK_RV rv)
{
    const struct rv_word *w = word_of(rv);
    if (w)
        return w->name;
    return rv >= CKR_VENDOR_DEFINED ? "a vendor-defined error" : "an unknown return value";
}

bool hsm_rv_lost(CK_RV rv)
{
    const struct rv_word *w = word_of(rv);
    return w && w->lost;
}

int hsm_fail(struct err *e, const char *rule, CK_RV rv, const char *what)
{
    if (hsm_rv_lost(rv))
        return err_set(e, ERR_HSM, "hsm-lost",
                       "%s: the module answered %s (0x%lx): token or session are gone; check that "
                       "the token is there, then start the signer again",
                       what, hsm_rv_name(rv), rv);
    return err_set(e, ERR_HSM, rule, "%s: the module answered %s (0x%lx)", what, hsm_rv_name(rv), rv);
}
