/* The last look before signing: whatever bytes come as a TBSCertificate, the only ones let pass are
 * those that the builder makes for this request, up to the stapled proof's path and checkpoint. */
#include "base/oid.h"
#include "ca/lint.h"
#include "ca/tbs.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define NOW INT64_C(1790000000)
#define INDEX 77
#define PROOF_HEAD "c2sp.org/tlog-proof@v1\nindex 77\n"
#define PROOF PROOF_HEAD "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nexample.org/log1\n78\n"
#define VIEW(s) {(const uint8_t *)(s), sizeof(s) - 1}

static char td[] = "example.org", *zones[] = {td}, *names[] = {td};
static struct config policy = {.trust_domain = td, .names = names, .names_count = 1};
static struct ca_issue request;
static struct lint_policy lint;
static struct lint_expect expect;
static struct digest digest;
static struct tbs_parts parts;
static uint8_t spki[91], extensions[4096], body[4096], tbs_array[4096];
static struct bytes good;

static void need(bool ok)
{
    if (!ok)
        abort();
}

static void build_good(void)
{
    static const struct bytes issuer = VIEW("\x30\x10\x31\x0e\x30\x0c\x06\x03\x55\x04\x03\x0c\x05Issue");
    static const uint8_t key_id[20] = {1, 2, 3};
    static struct tbs_template template;
    static struct profile_leaf leaf;
    struct err e = {0};
    static const char head[] =
        "\x30\x59\x30\x13\x06\x07" OID_EC_PUBLIC_KEY "\x06\x08" OID_P256 "\x03\x42\x00\x04";
    memcpy(spki, head, sizeof head - 1);
    memset(spki + sizeof head - 1, 0x5a, sizeof spki - (sizeof head - 1)); /* the form is looked at, no more */
    policy.ca.max_lifetime = 3600;
    policy.crl.short_limit = 600;
    policy.ca.permitted_dns = zones;
    policy.ca.permitted_dns_count = 1;
    policy.log.number = 1;
    request = (struct ca_issue){.profile = CA_PROFILE_WORKLOAD, .lifetime = 300,
                                .spiffe_id = VIEW("spiffe://example.org/web"),
                                .dns = {VIEW("web.example.org")}, .dns_count = 1,
                                .spki = {spki, sizeof spki}};
    need(digest_init(&digest, &e) == 0);
    need(profile_check(&leaf, &policy, &request, &e) == 0);
    need(profile_validity(&leaf, NOW, NOW + 86400, &e) == 0);
    need(tbs_template_init(&template, &policy, issuer, (struct bytes){key_id, 20}, &e) == 0);
    need(tbs_leaf(&parts, extensions, sizeof extensions, &template, &digest, &leaf, &e) == 0);
    lint = (struct lint_policy){.config = &policy, .issuer_name = issuer, .issuer_key_id = {key_id, 20},
                                .issuer_not_after = NOW + 86400};
    expect = (struct lint_expect){.request = &request, .index = INDEX, .now = NOW,
                                  .log_body = tbs_log_body(body, sizeof body, &parts)};
    good = tbs_build(tbs_array, sizeof tbs_array, &parts, TBS_SERIAL(1, INDEX), (struct bytes)VIEW(PROOF));
    need(lint_leaf(&lint, &digest, &expect, good, &e) == 0);
}

/* What passed is what the builder makes around the proof that stands in it. */
static void must_be_good(const uint8_t *data, size_t len)
{
    uint8_t *again = malloc(len + 64);
    static const char first[] = "c2sp.org/tlog-proof@v1\n";
    const uint8_t *proof = memmem(data, len, first, sizeof first - 1);
    need(again && proof);
    struct bytes made = tbs_build(again, len + 64, &parts, TBS_SERIAL(1, INDEX),
                                  (struct bytes){proof, (size_t)(data + len - proof)});
    need(bytes_eq(made, data, len));
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e = {0};
    if (!good.len)
        build_good();
    if (lint_leaf(&lint, &digest, &expect, (struct bytes){data, len}, &e) == 0)
        must_be_good(data, len);
    else
        need(e.code == ERR_INTERNAL && strncmp(e.rule, "lint-", 5) == 0);
    return 0;
}
