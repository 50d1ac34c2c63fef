/* The hot path: take a session, C_SignInit, C_Sign, give it back. No lock is held over the call. */
#include "base/fault.h"
#include "hsm/internal.h"

/* SoftHSM2 2.6.1 loses about 64 bytes of heap at each use of an Ed25519 key (SoftHSMv2 #858, mended
 * upstream in 2026). We can do nothing about it but keep it from hiding leaks of our own: leak
 * checkers are told not to count what the module allocates within the call. */
#if defined(__SANITIZE_ADDRESS__)
#define LEAKS_OF_THE_MODULE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LEAKS_OF_THE_MODULE 1
#endif
#endif
#ifdef LEAKS_OF_THE_MODULE
#include <sanitizer/lsan_interface.h>
#define MODULE_CALL_BEGIN() __lsan_disable()
#define MODULE_CALL_END() __lsan_enable()
#else
#define MODULE_CALL_BEGIN() (void)0
#define MODULE_CALL_END() (void)0
#endif

static CK_RV sign_call(struct hsm *h, struct hsm_session *s, const struct hsm_kind *kind,
                       CK_OBJECT_HANDLE key, struct bytes msg, uint8_t *sig, CK_ULONG *n)
{
    CK_MECHANISM mechanism = {.mechanism = kind->sign, .pParameter = NULL, .ulParameterLen = 0};
    if (FAULT("hsm-lost"))
        return CKR_DEVICE_REMOVED;
    CK_RV rv = h->module.f->C_SignInit(s->handle, &mechanism, key);
    if (rv != CKR_OK)
        return rv;
    if (FAULT("hsm-call"))
        return CKR_DEVICE_ERROR;
    return h->module.f->C_Sign(s->handle, hsm_unconst(msg.p), msg.len, sig, n);
}

int hsm_sign_with(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                  const struct hsm_key *k, struct bytes msg, uint8_t *sig, struct err *e)
{
    const struct hsm_kind *kind = &hsm_kinds[role];
    CK_ULONG n = kind->sig;
    hsm_call_begin(&h->dog, s->call, "C_Sign", h->call_timeout_ms);
    MODULE_CALL_BEGIN();
    CK_RV rv = sign_call(h, s, kind, k->private, msg, sig, &n);
    MODULE_CALL_END();
    hsm_call_end(s->call);
    if (rv != CKR_OK) {
        hsm_fail(e, "hsm-sign", rv, "signing");
        return err_wrap(e, "key %s", hsm_key_label[role]);
    }
    /* PKCS#11 v3.0 §2.3.1: r and s are padded to the length of the group's order. */
    if (n != kind->sig)
        return err_set(e, ERR_HSM, "hsm-sign",
                       "key %s: the module returned a signature of %lu bytes where %zu are due",
                       hsm_key_label[role], n, kind->sig);
    atomic_fetch_add_explicit(&h->signs[role], 1, memory_order_relaxed);
    return 0;
}

int hsm_sign(struct hsm *h, enum hsm_key_role role, const uint8_t *msg, size_t len, uint8_t *sig,
             size_t *sig_len, struct err *e)
{
    if ((unsigned)role >= HSM_KEYS || !h->keys[role].loaded)
        return err_set(e, ERR_INTERNAL, "hsm-key-missing", "a key was used that was not loaded");
    const struct hsm_kind *kind = &hsm_kinds[role];
    if (kind->input != 0 && len != kind->input)
        return err_set(e, ERR_INTERNAL, "hsm-digest", "key %s signs digests of %zu bytes, not %zu",
                       hsm_key_label[role], kind->input, len);
    if (*sig_len < kind->sig)
        return err_set(e, ERR_INTERNAL, "hsm-digest", "no room for a signature of %zu bytes", kind->sig);
    struct hsm_session *s = hsm_pool_take(h, e);
    if (!s)
        return -1;
    int rc = hsm_sign_with(h, s, role, &h->keys[role], (struct bytes){msg, len}, sig, e);
    hsm_pool_give(h, s);
    if (rc == 0)
        *sig_len = kind->sig;
    return rc;
}
