/* Sets for tests of output folders: what is in a file tells which set it is of. */
#ifndef UNIT_AGENT_OUTPUT_SET_H
#define UNIT_AGENT_OUTPUT_SET_H
#include "agent/output_set.h"
#include "unit/base/scratch.h"

struct a_set {
    char chain[64], bundle[64], jwt[64];
    struct secret key;
    struct output_set set;
};

static inline void a_set_make(struct a_set *x, int n)
{
    struct err e;
    snprintf(x->chain, sizeof x->chain, "chain %d\n", n);
    snprintf(x->bundle, sizeof x->bundle, "bundle %d\n", n);
    snprintf(x->jwt, sizeof x->jwt, "jwt %d\n", n);
    assert_int_equal(secret_new(&x->key, 121, &e), 0);
    memset(x->key.p, n, 121);
    x->key.len = 121;
    x->set = (struct output_set){.spiffe_id = "spiffe://example.org/web",
                                 .chain_pem = {(uint8_t *)x->chain, strlen(x->chain)},
                                 .bundle_pem = {(uint8_t *)x->bundle, strlen(x->bundle)},
                                 .key_der = &x->key};
}

static inline void a_set_jwt(struct a_set *x)
{
    x->set.jwt = (struct bytes){(uint8_t *)x->jwt, strlen(x->jwt)};
}

static inline struct output_config a_config(const char *dir)
{
    return (struct output_config){.dir = dir, .uid = (uid_t)-1, .gid = (gid_t)-1, .mode = 0600};
}

#endif
