/* A leaf as the corridor makes it, without token and log: issuing key in memory, proof by hand. */
#ifndef UNIT_CA_LEAF_H
#define UNIT_CA_LEAF_H
#include "base/oid.h"
#include "ca/lint.h"
#include "ca/tbs.h"
#include "unit/ca/request.h"
#include <openssl/x509v3.h>

#define LEAF_NOW INT64_C(1790000000)
#define LEAF_INDEX 77
#define LEAF_PROOF                                                                                 \
    "c2sp.org/tlog-proof@v1\nextra AAAA\nindex 77\n"                                               \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nexample.org/log1\n78\n"

struct leaf {
    struct config policy;
    struct ca_issue request;
    struct profile_leaf profile;
    struct tbs_template template;
    struct tbs_parts parts;
    struct digest digest;
    struct lint_policy lint;
    struct lint_expect expect;
    struct bytes tbs, log_body;
    uint8_t extensions[8192], body_array[9216], tbs_array[CA_CERT_MAX];
};

static const uint8_t leaf_issuer[] = "\x30\x10\x31\x0e\x30\x0c\x06\x03\x55\x04\x03\x0c\x05Issue";
static const uint8_t leaf_issuer_id[20] = {9, 8, 7};

static inline void leaf_make(struct leaf *l, const struct ca_issue *m)
{
    struct err e = {0};
    const struct bytes name = {leaf_issuer, sizeof leaf_issuer - 1}, id = {leaf_issuer_id, 20};
    memset(l, 0, sizeof *l);
    l->policy = test_policy();
    l->request = *m;
    assert_ok(digest_init(&l->digest, &e), &e);
    assert_ok(profile_check(&l->profile, &l->policy, m, &e), &e);
    assert_ok(profile_validity(&l->profile, LEAF_NOW, LEAF_NOW + 86400, &e), &e);
    assert_ok(tbs_template_init(&l->template, &l->policy, name, id, &e), &e);
    assert_ok(tbs_leaf(&l->parts, l->extensions, sizeof l->extensions, &l->template, &l->digest,
                       &l->profile, &e), &e);
    l->log_body = tbs_log_body(l->body_array, sizeof l->body_array, &l->parts);
    l->tbs = tbs_build(l->tbs_array, sizeof l->tbs_array, &l->parts, TBS_SERIAL(1, LEAF_INDEX), text(LEAF_PROOF));
    assert_true(l->log_body.len > 0 && l->tbs.len > 0);
    l->lint = (struct lint_policy){.config = &l->policy, .issuer_name = name, .issuer_key_id = id,
                                   .issuer_not_after = LEAF_NOW + 86400};
    l->expect = (struct lint_expect){.request = &l->request, .index = LEAF_INDEX, .now = LEAF_NOW,
                                     .log_body = l->log_body};
}

static inline void leaf_free(struct leaf *l)
{
    digest_free(&l->digest);
}
#endif
