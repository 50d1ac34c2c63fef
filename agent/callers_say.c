/* A caller for whom there is nothing, as the log tells it: whoever writes an entry has to know by what a process is
 * known here. Anybody may call as often as he likes, so it is not said each time; the metrics count. */
#include "agent/callers.h"
#include "base/clock.h"
#include "base/log.h"
#include <string.h>

#define SAY_EVERY_MS 1000
#define SELECTORS_TEXT 800 /* the first ones: those that there is one of */

static void list_selectors(char text[SELECTORS_TEXT], const struct peer_selectors *s)
{
    size_t n = 0;
    *text = 0;
    for (size_t i = 0; i < s->n; i++) {
        size_t len = strlen(s->list[i]);
        if (n + 1 + len + sizeof " ..." > SELECTORS_TEXT) {
            memcpy(text + n, " ...", sizeof " ...");
            return;
        }
        if (n > 0)
            text[n++] = ' ';
        memcpy(text + n, s->list[i], len + 1);
        n += len;
    }
}

void caller_say_none(struct caller *c)
{
    struct agent *a = c->agent;
    char text[SELECTORS_TEXT];
    int64_t now = clock_mono_ms();
    bool quiet = c->said || (a->none_said_ms > 0 && now < a->none_said_ms + SAY_EVERY_MS);
    list_selectors(text, &c->selectors);
    log_event(quiet ? LOG_DEBUG : LOG_INFO, "no identity for a caller: no entry's selectors are all among its own", "pid",
              log_num(peer_pid(c->peer)), "selectors", text, NULL);
    if (quiet)
        return;
    c->said = true;
    a->none_said_ms = now;
}
