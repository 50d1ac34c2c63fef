/* When to renew: at about half of the lifetime, or in the window the authority advises; how long to wait after a
 * failure. No clock is read here but by clock_wall_ms, so that tests have one of their own. */
#include "agent/daemon.h"
#include "base/clock.h"
#include <openssl/rand.h>
#include <time.h>

#define BACKOFF_FIRST_MS 500
#define BACKOFF_MOST_MS 30000
#define ARI_LEAST_MS 10000
#define ARI_MOST_MS (6 * 3600 * 1000LL)

int64_t clock_wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    int64_t ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    return ms + (clock_wall() - t.tv_sec) * 1000; /* what tests shift, clock_wall knows */
}

uint32_t dice_throw(void)
{
    uint32_t dice = 0;
    RAND_bytes((unsigned char *)&dice, sizeof dice);
    return dice;
}

/* A point of [0, n), uniform. */
static int64_t part(int64_t n, uint32_t dice)
{
    return n <= 0 ? 0 : (int64_t)(((__int128)n * dice) >> 32);
}

int64_t renew_at(int64_t from_ms, int64_t until_ms, uint32_t dice)
{
    int64_t life = until_ms - from_ms;
    return from_ms + life * 45 / 100 + part(life / 10, dice);
}

int64_t renew_in_window(const struct ari *w, uint32_t dice)
{
    return w->start * 1000 + part((w->end - w->start) * 1000, dice);
}

int64_t renew_backoff_ms(unsigned failures, int64_t left_ms, uint32_t dice)
{
    int64_t ms = BACKOFF_FIRST_MS << (failures < 1 ? 0 : failures > 7 ? 6 : failures - 1);
    if (ms > BACKOFF_MOST_MS)
        ms = BACKOFF_MOST_MS;
    if (left_ms > 0 && ms > left_ms / 4) /* some tries must still fit */
        ms = left_ms / 4 < BACKOFF_FIRST_MS ? BACKOFF_FIRST_MS : left_ms / 4;
    return ms / 2 + part(ms / 2 + 1, dice);
}

int64_t ari_poll_ms(int64_t from_ms, int64_t until_ms, unsigned retry_after, uint32_t dice)
{
    int64_t ms = (until_ms - from_ms) / 8;
    if (retry_after > 0 && (int64_t)retry_after * 1000 < ms)
        ms = (int64_t)retry_after * 1000;
    if (ms < ARI_LEAST_MS)
        ms = ARI_LEAST_MS;
    if (ms > ARI_MOST_MS)
        ms = ARI_MOST_MS;
    return ms + part(ms / 10, dice);
}

bool renew_overdue(int64_t from_ms, int64_t until_ms, int64_t now_ms)
{
    return now_ms >= from_ms + (until_ms - from_ms) * 2 / 3;
}
