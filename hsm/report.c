/* `mayfly hsm check`: every demand, met or not, where hsm_load_keys stops at the first refusal. */
#include "hsm/internal.h"

static const char *const flag_word[] = {
    [HSM_FLAG_FALSE] = "false", [HSM_FLAG_TRUE] = "true", [HSM_FLAG_ABSENT] = "absent"};

struct report {
    hsm_report_cb *cb;
    void *arg;
    const char *key;
};

/* A refusal of the key is a row; only a token that no longer answers ends the report. */
static int report_row(const struct report *r, const char *what, int rc, const struct err *e)
{
    if (rc != 0 && strcmp(e->rule, "hsm-lost") == 0)
        return -1;
    r->cb(r->arg, r->key, what, rc == 0 ? "true" : "false", rc == 0);
    return 0;
}

static int report_flags(struct hsm *h, struct hsm_session *s, const struct report *r,
                        CK_OBJECT_HANDLE o, struct err *e)
{
    for (size_t i = 0; i < HSM_DEMANDS; i++) {
        const struct hsm_demand *d = &hsm_demands[i];
        enum hsm_flag v;
        if (hsm_flag_read(h, s, o, d->type, &v, e))
            return -1;
        r->cb(r->arg, r->key, d->name, flag_word[v], v == (d->value ? HSM_FLAG_TRUE : HSM_FLAG_FALSE));
    }
    return 0;
}

static int report_key(struct hsm *h, struct hsm_session *s, enum hsm_key_role role,
                      const struct report *r, struct err *e)
{
    struct hsm_key k = {0};
    unsigned n = 0;
    if (hsm_find(h, s, CKO_PRIVATE_KEY, role, (struct bytes){NULL, 0}, &k.private, &n, e))
        return -1;
    r->cb(r->arg, r->key, "in the token", n > 0 ? "true" : "absent", n > 0 || role == HSM_KEY_JWT);
    if (n == 0)
        return 0;
    r->cb(r->arg, r->key, "only one", n == 1 ? "true" : "false", n == 1);
    if (n > 1)
        return 0; /* which of them is ours cannot be told */
    if (report_flags(h, s, r, k.private, e))
        return -1;
    int rc = hsm_key_type_check(h, s, role, k.private, e);
    if (report_row(r, hsm_kinds[role].curve, rc, e))
        return -1;
    if (rc != 0)
        return 0;
    rc = hsm_key_public_half(h, s, role, &k, e);
    if (report_row(r, "public half", rc, e))
        return -1;
    if (rc != 0)
        return 0;
    return report_row(r, "signs and verifies", hsm_key_self_test(h, s, role, &k, e), e);
}

int hsm_report(struct hsm *h, hsm_report_cb *cb, void *arg, struct err *e)
{
    struct hsm_session *s = hsm_pool_take(h, e);
    if (!s)
        return -1;
    int rc = 0;
    for (unsigned role = 0; role < HSM_AUTHORITY_KEYS && rc == 0; role++) {
        struct report r = {.cb = cb, .arg = arg, .key = hsm_key_label[role]};
        rc = report_key(h, s, (enum hsm_key_role)role, &r, e);
    }
    hsm_pool_give(h, s);
    if (rc == 0)
        err_clear(e); /* refusals were told as rows */
    return rc;
}
