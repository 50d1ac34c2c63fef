/* Private to hsm/: the pieces between which the work is split.
 *
 *   uri.c       the RFC 7512 URI, and whether a token matches it
 *   module.c    loading the module; naming and sorting its return values
 *   token.c     libp11: enumeration, choice; the one login
 *   watchdog.c  ends the process when a call does not come back
 *   pool.c      the sessions we sign with
 *   hsm.c       open and close, in order
 *   key.c       finding keys and demanding their attributes;  sign.c  the hot path
 *   ceremony.c  generating keys;  softhsm.c  making a SoftHSM2 token;  report.c  `mayfly hsm check`
 */
#ifndef HSM_INTERNAL_H
#define HSM_INTERNAL_H
#include "hsm/hsm.h"
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define HSM_POINT_MAX 97 /* uncompressed P-384 */
#define HSM_SPKI_MAX 128
#define HSM_SIG_MAX 96
/* Loading, login, generation and closing may take longer than a signature on real hardware. */
#define HSM_SLOW_CALL_MS 30000u

/* uri.c. Values are decoded and terminated; `has` is a mask of 1u << HSM_URI_*. */
enum hsm_uri_attr {
    HSM_URI_TOKEN, HSM_URI_MANUFACTURER, HSM_URI_MODEL, HSM_URI_SERIAL, HSM_URI_SLOT_ID,
    HSM_URI_MODULE_PATH, HSM_URI_ATTRS
};
struct hsm_uri {
    unsigned has;
    unsigned long slot_id;
    char token[65], manufacturer[65], model[65], serial[65], slot[21], module_path[1024];
};
struct hsm_token_id { /* a token as the module describes it; strings not owned, may be NULL */
    const char *label, *manufacturer, *model, *serial;
    unsigned long slot_id;
};
/* NULL text matches any token. ERR_CONFIG, rule "hsm-uri". Never repeats a value in a message. */
int hsm_uri_parse(struct hsm_uri *u, const char *text, struct err *e);
bool hsm_uri_match(const struct hsm_uri *u, const struct hsm_token_id *t);

/* module.c */
struct hsm_module {
    void *dl;            /* owned */
    CK_FUNCTION_LIST *f; /* of dl */
};
int hsm_module_load(struct hsm_module *m, const char *path, struct err *e);
void hsm_module_unload(struct hsm_module *m);
const char *hsm_rv_name(CK_RV rv);
bool hsm_rv_lost(CK_RV rv);
/* Fills e with ERR_HSM and returns -1. The rule becomes "hsm-lost" when rv says so. */
int hsm_fail(struct err *e, const char *rule, CK_RV rv, const char *what);

/* token.c: all that libp11 does for us, and the login. Single-threaded. */
struct hsm_token;
struct hsm_token *hsm_token_open(const char *module, const struct hsm_uri *u, struct err *e);
CK_SLOT_ID hsm_token_slot(const struct hsm_token *t);
/* Exactly one C_Login, or none at all when the token says that a failure could lock it. */
int hsm_token_login(struct hsm_token *t, CK_FUNCTION_LIST *f, CK_SESSION_HANDLE s,
                    const struct secret *pin, struct err *e);
void hsm_token_describe(const struct hsm_token *t, char *dst, size_t cap);
void hsm_token_close(struct hsm_token *t); /* closes all sessions, C_Finalize; NULL is fine */

/* watchdog.c. A call is outstanding while its deadline is not 0. One cache line each, so that
 * signing threads do not share one. */
struct hsm_call {
    _Alignas(64) _Atomic(int64_t) deadline; /* monotonic ms */
    _Atomic(const char *) what;             /* literal, for the log line */
};
struct hsm_watchdog {
    struct hsm_call *calls; /* owned; [0] is for slow calls, [1 + i] for session i */
    unsigned n;
    pthread_t thread;
    pthread_mutex_t lock; /* guards stop and the sleep; never held during a PKCS#11 call */
    pthread_cond_t cond;
    atomic_bool asleep;   /* nothing outstanding for a while: the next call must wake it */
    bool stop, started;
};
int hsm_watchdog_start(struct hsm_watchdog *d, unsigned calls, struct err *e);
void hsm_watchdog_stop(struct hsm_watchdog *d);
void hsm_call_begin(struct hsm_watchdog *d, struct hsm_call *c, const char *what, unsigned ms);
void hsm_call_end(struct hsm_call *c);

/* pool.c */
struct hsm_session {
    CK_SESSION_HANDLE handle;
    struct hsm_call *call; /* not owned */
    struct hsm_session *next;
};
struct hsm_pool {
    pthread_mutex_t lock; /* guards free and waiters; never held during a PKCS#11 call */
    pthread_cond_t cond;
    struct hsm_session *all, *free; /* all is owned; free is a stack threaded through it */
    unsigned n, waiters;
    bool ready;
};
int hsm_pool_open(struct hsm *h, unsigned sessions, struct err *e);
void hsm_pool_close(struct hsm *h);
struct hsm_session *hsm_pool_take(struct hsm *h, struct err *e);
void hsm_pool_give(struct hsm *h, struct hsm_session *s);

/* key.c */
struct hsm_kind { /* what a role's key must be */
    const char *curve;
    CK_KEY_TYPE type;
    CK_MECHANISM_TYPE sign, generate;
    const char *params, *params_alt; /* DER EC parameters: OID, and a curve name some modules want */
    size_t params_len, params_alt_len;
    size_t input, sig, point; /* bytes; input 0 = a message of any length */
};
extern const struct hsm_kind hsm_kinds[HSM_KEYS];
struct hsm_demand {
    CK_ATTRIBUTE_TYPE type;
    const char *name;
    bool value;
};
#define HSM_DEMANDS 11
extern const struct hsm_demand hsm_demands[HSM_DEMANDS];
struct hsm_key {
    bool loaded;
    CK_OBJECT_HANDLE private, public;
    uint8_t point[HSM_POINT_MAX];
    size_t point_len;
    uint8_t spki[HSM_SPKI_MAX];
    size_t spki_len;
};
enum hsm_flag { HSM_FLAG_FALSE, HSM_FLAG_TRUE, HSM_FLAG_ABSENT };
/* How many objects of this class and role (and CKA_ID, when id_len) there are, at most 2 counted. */
int hsm_find(struct hsm *h, struct hsm_session *s, CK_OBJECT_CLASS class, enum hsm_key_role role,
             struct bytes id, CK_OBJECT_HANDLE *out, unsigned *n, struct err *e);
int hsm_flag_read(struct hsm *h, struct hsm_session *s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_TYPE type,
                  enum hsm_flag *out, struct err *e);
int hsm_key_type_check(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                       CK_OBJECT_HANDLE o, struct err *e);
/* Finds the public half of k->private, reads its point and builds the SPKI. */
int hsm_key_public_half(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                        struct hsm_key *k, struct err *e);
int hsm_key_self_test(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                      const struct hsm_key *k, struct err *e);

/* sign.c */
int hsm_sign_with(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                  const struct hsm_key *k, struct bytes msg, uint8_t *sig, struct err *e);

struct hsm {
    struct hsm_module module;
    struct hsm_token *token; /* owned */
    struct hsm_watchdog dog;
    struct hsm_pool pool;
    struct hsm_key keys[HSM_KEYS]; /* written by hsm_load_keys before threads sign, then read only */
    atomic_ullong signs[HSM_KEYS];
    CK_SLOT_ID slot;
    unsigned call_timeout_ms;
    char name[160];
};

/* PKCS#11 takes what it only reads without const. */
static inline void *hsm_unconst(const void *p)
{
    void *q;
    memcpy(&q, &p, sizeof(q));
    return q;
}
static inline CK_ATTRIBUTE hsm_attr(CK_ATTRIBUTE_TYPE type, const void *p, size_t n)
{
    CK_ATTRIBUTE a = {.type = type, .pValue = hsm_unconst(p), .ulValueLen = n};
    return a;
}
/* begin and end for the slow call. */
static inline void hsm_slow_begin(struct hsm *h, const char *what)
{
    unsigned ms = h->call_timeout_ms > HSM_SLOW_CALL_MS ? h->call_timeout_ms : HSM_SLOW_CALL_MS;
    hsm_call_begin(&h->dog, &h->dog.calls[0], what, ms);
}
static inline void hsm_slow_end(struct hsm *h)
{
    hsm_call_end(&h->dog.calls[0]);
}

#endif
