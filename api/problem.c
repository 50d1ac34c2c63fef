#include "api/problem.h"
#include <string.h>

static const struct problem by_code[] = {
    [ERR_NONE] = {500, "serverInternal", true, 0},
    [ERR_MALFORMED] = {400, "malformed", false, 0},
    [ERR_TOO_LARGE] = {413, "malformed", false, 0},
    [ERR_BAD_NONCE] = {400, "badNonce", false, 0},
    [ERR_BAD_SIG_ALG] = {400, "badSignatureAlgorithm", false, 0},
    [ERR_BAD_KEY] = {400, "badPublicKey", false, 0},
    [ERR_BAD_CSR] = {400, "badCSR", false, 0},
    [ERR_BAD_EVIDENCE] = {400, "badAttestationStatement", false, 0},
    [ERR_UNAUTHORIZED] = {403, "unauthorized", false, 0},
    [ERR_NO_ACCOUNT] = {400, "accountDoesNotExist", false, 0},
    [ERR_REJECTED_ID] = {403, "rejectedIdentifier", false, 0},
    [ERR_UNSUPPORTED_ID] = {400, "unsupportedIdentifier", false, 0},
    [ERR_NOT_READY] = {403, "orderNotReady", false, 0},
    [ERR_NOT_FOUND] = {404, "malformed", false, 0},
    [ERR_EXISTS] = {409, "malformed", false, 0},
    [ERR_RATE] = {429, "rateLimited", false, 1},
    [ERR_UNAVAILABLE] = {503, "serverInternal", false, 1},
    [ERR_DENIED] = {403, "unauthorized", false, 0},
    [ERR_CORRUPT] = {500, "serverInternal", true, 0},
    [ERR_HSM] = {503, "serverInternal", true, 1},
    [ERR_IO] = {500, "serverInternal", true, 0},
    [ERR_CONFIG] = {500, "serverInternal", true, 0},
    [ERR_USAGE] = {400, "malformed", false, 0},
    [ERR_INTERNAL] = {500, "serverInternal", true, 0},
};
_Static_assert(sizeof by_code / sizeof *by_code == ERR_CODES, "every code has its problem");

/* Where the rule says more than the code. */
static const struct {
    char rule[32];
    struct problem problem;
} by_rule[] = {
    {"content-type", {415, "malformed", false, 0}},
    {"method", {405, "malformed", false, 0}},
    {"jws-url", {401, "unauthorized", false, 0}},             /* RFC 8555 §6.4 */
    {"signature", {401, "unauthorized", false, 0}},
    {"account-deactivated", {401, "unauthorized", false, 0}}, /* §7.3.6 */
    {"session-revoked", {401, "unauthorized", false, 0}},
    {"svid-revoked", {401, "unauthorized", false, 0}},
    {"audit-certificate", {401, "unauthorized", false, 0}},
    {"already-revoked", {400, "alreadyRevoked", false, 0}},         /* §7.6 */
    {"revocation-reason", {400, "badRevocationReason", false, 0}},
    {"contact-unsupported", {400, "unsupportedContact", false, 0}},
    {"contact-invalid", {400, "invalidContact", false, 0}},
};

/* What a client may not read: the operator's paths and devices. */
static bool is_hidden(const struct err *e, const struct problem *p)
{
    return p->internal || strcmp(e->rule, "store-disk") == 0 || strcmp(e->rule, "store-io") == 0;
}

struct problem problem_of(const struct err *e)
{
    struct problem p = by_code[e->code < ERR_CODES ? e->code : ERR_INTERNAL];
    if (p.status >= 500)
        return p;
    for (size_t i = 0; i < sizeof by_rule / sizeof *by_rule; i++)
        if (strcmp(e->rule, by_rule[i].rule) == 0)
            return by_rule[i].problem;
    return p;
}

void problem_write(struct buf *out, const struct err *e, bool acme)
{
    struct problem p = problem_of(e);
    if (acme)
        buf_fmt(out, "{\"type\":\"urn:ietf:params:acme:error:%s\"", p.type);
    else
        buf_fmt(out, "{\"type\":\"about:blank\",\"title\":\"%s\"", err_code_name(e->code));
    buf_fmt(out, ",\"status\":%u,\"detail\":", p.status);
    jw_str(out, acme && is_hidden(e, &p)
                    ? "something failed inside the authority; its operator finds the reason in its log"
                    : e->msg);
    if (*e->rule) {
        buf_str(out, ",\"rule\":");
        jw_str(out, e->rule);
    }
    if (acme && e->code == ERR_BAD_SIG_ALG) /* RFC 8555 §6.2 */
        buf_str(out, ",\"algorithms\":[\"ES256\",\"ES384\",\"EdDSA\",\"RS256\"]");
    buf_u8(out, '}');
}
