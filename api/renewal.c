/* RFC 9773 over HTTP: the window, and an order that says what it replaces. */
#include "api/renewal.h"
#include "api/internal.h"
#include "base/clock.h"
#include <string.h>

/* Section 4.1: open to everybody, who learns nothing that the log does not tell. */
void acme_renewal_info(struct request *r)
{
    struct renewal_id id;
    struct renewal_cert cert;
    struct ra_renewal window;
    struct err e = {0};
    char start[21], end[21];
    if (renewal_id_parse(&id, r->arg, strlen(r->arg), &e) < 0 || renewal_find(r->server->renewals, &id, &cert, &e) < 0) {
        request_fail(r, &e);
        return;
    }
    ra_renewal(r->server->ra, &cert.c, clock_wall(), &window);
    clock_rfc3339(start, window.start);
    clock_rfc3339(end, window.end);
    buf_fmt(&r->out, "{\"suggestedWindow\":{\"start\":\"%s\",\"end\":\"%s\"}}", start, end);
    r->retry_after = window.again;
    r->cache = "no-store"; /* a revocation changes it at once */
    request_json(r, 200);
}

/* Section 5 would have the account be the same, too. Here an account is a session, which ends with the program that
 * made it: what it left behind is replaced by the next session of the same identity, and no order gets anything by
 * this member. So what is held against it is the identity alone; and what the log can not tell now (too young, or a
 * certificate of another authority) holds up no renewal. */
int acme_check_replaces(const struct request *r, struct err *e)
{
    const struct payload_order *p = &r->order;
    struct renewal_cert cert;
    struct err ignored;
    const char *uri = "";
    if (!p->replacing || renewal_find(r->server->renewals, &p->replaces, &cert, &ignored) < 0)
        return 0;
    for (size_t i = 0; i < p->identifiers_count; i++)
        if (strcmp(p->identifiers[i].type, "uri") == 0)
            uri = p->identifiers[i].value;
    return strcmp(uri, cert.spiffe_id) == 0
               ? 0
               : err_set(e, ERR_UNAUTHORIZED, "replaces",
                         "\"replaces\" names a certificate of another identity than the order's (RFC 9773 section 5)");
}
