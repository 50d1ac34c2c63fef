/* When a certificate should be renewed (RFC 9773), in lifetimes of minutes: a while before its end, in a window that
 * spreads those made at the same time; and now, when it was revoked or its issuer's key is not the one in use any
 * more, over so many seconds that the authority is not asked by all at once. What is said holds no longer than until
 * the client asks again, so a revocation reaches everybody within that. */
#include "ra/internal.h"

#define EARLY_PERCENT 45
#define LATE_PERCENT 60
#define SPREAD_MIN 5 /* seconds: a tenth of the lifetime, within these */
#define SPREAD_MAX 60
#define AGAIN_MIN 5
#define AGAIN_MAX 300

static int64_t clamp(int64_t v, int64_t least, int64_t most)
{
    return v < least ? least : v > most ? most : v;
}

void ra_renewal(struct ra *ra, const struct ra_certificate *c, int64_t now, struct ra_renewal *r)
{
    int64_t issued = c->not_before + RA_SVID_BACKDATE < c->not_after ? c->not_before + RA_SVID_BACKDATE : c->not_before;
    int64_t life = c->not_after > issued ? c->not_after - issued : 1;
    r->pulled = !c->current || certificate_revoked(ra, c);
    r->again = (unsigned)clamp(life / 10, AGAIN_MIN, AGAIN_MAX);
    if (r->pulled) {
        r->start = now;
        r->end = now + clamp(life / 10, SPREAD_MIN, SPREAD_MAX);
    } else {
        r->start = issued + life * EARLY_PERCENT / 100;
        r->end = issued + life * LATE_PERCENT / 100;
        r->end += r->end == r->start; /* section 4.2: after it */
    }
}
