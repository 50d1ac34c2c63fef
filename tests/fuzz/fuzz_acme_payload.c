/* The payloads of ACME requests. The first byte picks the parser ('e': agentEntries), the rest is the payload. */
#include "api/payload.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct payload_order p; /* reused, as by a connection */
    static struct payload_revoke revoke;
    struct payload_account account = {0};
    struct payload_jwt jwt;
    struct err e = {0};
    int rc;
    if (len == 0)
        return 0;
    const uint8_t *json = data + 1;
    struct payload_agent agent = {0};
    if (data[0] == 'e') {
        rc = payload_agent_parse(&agent, json, len - 1, &e);
        if ((rc == 0) != (e.code == ERR_NONE) || (rc == 0 && (!*agent.agent || strlen(agent.after) > TLOG_NAME_MAX)))
            abort();
        payload_agent_free(&agent);
        return 0;
    }
    switch ((uint8_t)(data[0] - '0') % 7) {
    case 2:
        rc = payload_order_parse(&p, json, len - 1, &e);
        if (rc == 0 && (p.identifiers_count == 0 || p.identifiers_count > RA_IDENTIFIERS_MAX || (p.evidence && !p.csr.len)))
            abort();
        for (size_t i = 0; rc == 0 && i < p.identifiers_count; i++)
            if (strlen(p.identifiers[i].value) >= sizeof p.identifiers[i].value)
                abort();
        break;
    case 3:
        rc = payload_finalize_parse(&p, json, len - 1, &e);
        if (rc == 0 && p.csr.len == 0)
            abort();
        break;
    case 4:
        rc = payload_evidence_parse(&p, json, len - 1, &e);
        if (rc == 0 && json_array_size(p.evidence) != 2)
            abort();
        break;
    case 0:
        rc = payload_account_parse(&account, json, len - 1, &e);
        break;
    case 5:
        rc = payload_revoke_parse(&revoke, json, len - 1, &e);
        if (rc == 0 && (revoke.cert_len == 0 || revoke.cert_len > sizeof revoke.cert || revoke.reason > 10))
            abort();
        break;
    case 6:
        rc = payload_jwt_parse(&p, &jwt, json, len - 1, &e);
        if (rc == 0 && (!jwt.spiffe_id || jwt.audiences_count > PAYLOAD_AUDIENCES_MAX || jwt.ttl > PAYLOAD_TTL_MAX))
            abort();
        break;
    default:
        rc = payload_authz_parse(json, len - 1, &e);
    }
    if ((rc == 0) != (e.code == ERR_NONE))
        abort();
    payload_order_reset(&p);
    return 0;
}
