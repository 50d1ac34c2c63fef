#include "base/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef MAYFLY_FAULTS
static int64_t test_offset(void)
{
    const char *path = getenv("MAYFLY_CLOCK_OFFSET_FILE");
    long long offset = 0;
    FILE *f = path ? fopen(path, "re") : NULL;
    if (!f)
        return 0;
    if (fscanf(f, "%lld", &offset) != 1)
        offset = 0;
    fclose(f);
    return offset;
}
#else
static int64_t test_offset(void)
{
    return 0;
}
#endif

static struct timespec clock_read(clockid_t id)
{
    struct timespec t;
    /* Only an invalid clock id can fail, and ours are constant. */
    if (clock_gettime(id, &t) < 0)
        abort();
    return t;
}

int64_t clock_wall(void)
{
    return (int64_t)clock_read(CLOCK_REALTIME).tv_sec + test_offset();
}

int64_t clock_mono_us(void)
{
    struct timespec t = clock_read(CLOCK_MONOTONIC);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

void clock_rfc3339(char dst[21], int64_t t)
{
    struct tm tm;
    time_t when = (time_t)t;
    /* RFC 3339 has four digits for the year: what does not fit is shown as its nearest end. */
    if (t < -62135596800)
        when = -62135596800;
    if (t > 253402300799)
        when = 253402300799;
    if (!gmtime_r(&when, &tm))
        abort();
    unsigned y = (unsigned)(tm.tm_year + 1900) % 10000;
    snprintf(dst, 21, "%04u-%02u-%02uT%02u:%02u:%02uZ", y, (unsigned)(tm.tm_mon + 1) % 100,
             (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
             (unsigned)tm.tm_sec % 100);
}

int clock_guard_now(struct clock_guard *g, int64_t *now, struct err *e)
{
    int64_t t = clock_wall();
    if (t < g->last - CLOCK_BACKSTEP_TOLERANCE) {
        char is[21], was[21];
        clock_rfc3339(is, t);
        clock_rfc3339(was, g->last);
        return err_set(e, ERR_UNAVAILABLE, "clock-back",
                       "the clock stepped back: it says %s, but was %s before; nothing is signed "
                       "until it has caught up. Check time synchronization; if it is right now and "
                       "was ahead before, start mayflyd once with --accept-clock-back",
                       is, was);
    }
    if (t > g->last)
        g->last = t;
    *now = g->last;
    return 0;
}
