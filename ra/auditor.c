/* Who may search the log by an SVID that was shown in a TLS handshake (audit.access: mtls). */
#include "base/clock.h"
#include "ra/internal.h"
#include "tlog/proof.h"
#include <stdlib.h>
#include <string.h>

/* What an SVID is refused for, in one form: 401, and what helps. */
static int refuse(struct err *e)
{
    char why[sizeof e->msg];
    if (e->code != ERR_BAD_EVIDENCE && e->code != ERR_CORRUPT && e->code != ERR_MALFORMED && e->code != ERR_UNAUTHORIZED)
        return -1;
    snprintf(why, sizeof why, "%s", e->msg);
    return err_set(e, ERR_UNAUTHORIZED, "audit-certificate",
                   "the TLS client certificate does not count here: %s. Show an SVID of this authority that lives, as "
                   "mayfly-agent fetch writes it, with the issuing certificate behind it",
                   why);
}

/* The stapled proof: what the log never saw is no SVID of ours, whoever signed it. */
static int check_logged(const struct ca_snapshot *s, struct bytes leaf, struct err *e)
{
    struct tlog_vkey log = {0};
    int rc = tlog_vkey_parse(&log, s->vkey, strlen(s->vkey), e);
    if (rc == 0)
        rc = tlog_cert_verify(leaf.p, leaf.len, &log, NULL, e);
    tlog_vkey_free(&log);
    return rc;
}

static int check_svid(struct ra *ra, const struct bytes *chain, size_t n, struct attest_result *r, struct err *e)
{
    struct svid svid;
    char entry[RA_ID_LEN + 1];
    struct ca_snapshot *s = malloc(sizeof *s);
    if (!s)
        return no_memory(e);
    ca_client_snapshot(ra->ca, s);
    const struct attest_anchor anchor = {{s->root, s->known ? s->root_len : 0},
                                         {s->issuing, s->known ? s->issuing_len : 0}};
    int rc = attest_svid(r, chain, n, &anchor, ra->config->trust_domain, clock_wall(), e);
    if (rc == 0)
        rc = check_logged(s, chain[0], e);
    free(s);
    return rc < 0 ? -1 : svid_read(ra, r, &svid, entry, e);
}

int ra_auditor(struct ra *ra, const struct bytes *chain, size_t n, struct err *e)
{
    struct attest_result r;
    if (n == 0)
        return err_set(e, ERR_UNAUTHORIZED, "audit-certificate",
                       "searches here are for auditors, who show their SVID as TLS client certificate, and none was "
                       "shown: curl --cert svid.pem --key svid.key, with the files of mayfly-agent fetch");
    if (check_svid(ra, chain, n, &r, e) < 0)
        return refuse(e);
    pthread_mutex_lock(&ra->lock);
    const struct entry *x = registry_by_spiffe_id(&ra->entries, r.spiffe_id);
    bool may = x && x->x.auditor;
    pthread_mutex_unlock(&ra->lock);
    return may ? 0
               : err_set(e, ERR_UNAUTHORIZED, "audit-permission",
                         "%.300s is no auditor; an operator permits it with: mayfly entry update %.300s --auditor",
                         r.spiffe_id, r.spiffe_id);
}
