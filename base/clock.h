/* Clocks. Wall time is for certificates only; intervals and deadlines use monotonic time.
 * clock_guard refuses wall time that steps back: it remembers the greatest second it gave out.
 * Tests may shift the wall clock with MAYFLY_CLOCK_OFFSET_FILE (a file holding signed seconds,
 * re-read each call) in builds with MAYFLY_FAULTS.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H
#include "base/err.h"
#include <stdint.h>

int64_t clock_wall(void);      /* seconds since 1970 */
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);

struct clock_guard {
    int64_t last; /* greatest wall second seen; survives restarts when the owner stores it */
};
#define CLOCK_BACKSTEP_TOLERANCE 5 /* seconds */
/* Wall seconds, never below guard->last. Up to the tolerance back, answers guard->last; more than
 * that refuses: ERR_UNAVAILABLE, rule "clock-back", naming both times. Not thread safe. */
int clock_guard_now(struct clock_guard *g, int64_t *now, struct err *e);
/* RFC 3339, e.g. 2026-01-31T12:00:00Z; dst of 21 bytes. */
void clock_rfc3339(char dst[21], int64_t t);

#endif
