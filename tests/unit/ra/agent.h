/* An agent for tests: its SVID, and its word on workloads. */
#ifndef TESTS_RA_AGENT_H
#define TESTS_RA_AGENT_H
#include "tests/unit/ra/fixture.h"
#include "ca/profile.h"

struct agent { /* one SVID of it */
    struct key *key;
    struct buf leaf;
    char serial[41], key_hex[65];
};

static inline void agent_new(struct fx *x, struct agent *a, const char *id, uint64_t index, int64_t lifetime)
{
    struct err e = {0};
    uint8_t hash[32];
    char san[2200];
    a->key = key_generate(KEY_P256, &e);
    snprintf(san, sizeof san, "critical,URI:%s", id);
    struct pki_leaf l = pki_svid(san);
    l.serial = UINT64_C(1) << 48 | index;
    l.not_before = clock_wall() - PROFILE_BACKDATE;
    l.not_after = clock_wall() + lifetime;
    pki_leaf_der(&a->leaf, &x->pki, a->key, &l);
    struct bytes spki = key_spki(a->key);
    EVP_Digest(spki.p, spki.len, hash, NULL, EVP_sha256(), NULL);
    hex_encode(a->key_hex, hash, sizeof hash);
    snprintf(a->serial, sizeof a->serial, "%llx", (unsigned long long)l.serial);
}

static inline void agent_free(struct agent *a)
{
    buf_free(&a->leaf);
    key_free(a->key);
}

static inline long agent_sign(void *arg, uint8_t *sig, size_t cap, const void *msg, size_t len, struct err *e)
{
    return key_sign(arg, true, sig, cap, msg, len, e);
}

static inline json_t *agent_says(struct fx *x, const struct agent *a, const struct ra_session *s, const char *freshness,
                                 const char *const *selectors, size_t n)
{
    struct err e = {0};
    struct buf out;
    uint8_t digest[32];
    struct bytes chain[] = {{a->leaf.p, a->leaf.len}, {x->pki.issuing_der.p, x->pki.issuing_der.len}};
    buf_init(&out, 65536);
    attest_key_authorization(digest, freshness, ra_session_thumbprint(s));
    if (attest_agent_collect(&out, chain, 2, agent_sign, a->key, selectors, n, digest, &e) < 0)
        abort();
    json_t *cmw = json_parse(out.p, out.len, 65536, &e);
    buf_free(&out);
    return cmw;
}

static inline void make_behind(struct fx *x, const char *id, const char *parent, const char *const *selectors, size_t n)
{
    char *list[8], id_copy[2049], parent_copy[2049];
    struct wait w;
    snprintf(id_copy, sizeof id_copy, "%s", id);
    snprintf(parent_copy, sizeof parent_copy, "%s", parent);
    for (size_t i = 0; i < n; i++)
        list[i] = strdup(selectors[i]);
    const struct ra_entry e = {.spiffe_id = id_copy, .parent = parent_copy, .selectors = list, .selectors_count = n};
    wait_init(&w);
    ra_entry_create(x->ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    for (size_t i = 0; i < n; i++)
        free(list[i]);
}

#endif
