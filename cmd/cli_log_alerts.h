/* Alerts of one round of `mayfly log monitor`: collected, shown, and posted to a webhook. Bounded: what
 * is over ALERTS_MAX, or over the memory for them, is counted and said in an alert of its own
 * ("more-alerts"), so nothing goes silently; a name over ALERTS_SHOWN bytes is cut, and says so.
 *
 * Whoever shows and posts is told what did not arrive, keeps it, and tries again: alerts_print goes on with
 * the first byte that was not written, alerts_post with the first alert that was not delivered. A receiver
 * may get an alert twice, when its answer was lost.
 */
#ifndef CMD_CLI_LOG_ALERTS_H
#define CMD_CLI_LOG_ALERTS_H
#include "audit/entry.h"
#include <signal.h>

#define ALERTS_MAX 10000
#define ALERTS_SHOWN 2048 /* bytes of a name */
#define ALERTS_POSTED 100 /* at most, in one request */

struct alerts {
    char origin[256];   /* of the log */
    struct buf lines;   /* a JSON object a line */
    struct buf people;  /* a line each */
    size_t count, posted;
    size_t posted_bytes; /* of lines */
    size_t printed;      /* bytes, of what is shown */
    uint64_t left_out, left_out_last;
    bool failed; /* out of memory: the round is not to be believed */
};
void alerts_init(struct alerts *a);
void alerts_reset(struct alerts *a);
void alerts_free(struct alerts *a);
/* t: the entry, or NULL when the log itself is what it is about. */
void alerts_add(struct alerts *a, const struct err *why, const struct audit_entry *t);
/* After the last: says what was left out. */
void alerts_end(struct alerts *a);
/* What was not written yet, to standard output. Rules "output"; "output-gone": nobody reads it any more. */
int alerts_print(struct alerts *a, bool json, struct err *e);

struct webhook;
/* url: https:// or http:// and a host, else ERR_USAGE; tries: of a request, with 1, 2, 4 … seconds between them. *stop set by a
 * signal ends the waiting. Rule "webhook". */
int webhook_open(struct webhook **out, const char *url, unsigned tries, const volatile sig_atomic_t *stop, struct err *e);
void webhook_close(struct webhook *w);
/* POSTs {"log": origin, "alerts": […]}; 2xx is delivered. ERR_UNAVAILABLE ("webhook"). */
int alerts_post(struct alerts *a, struct webhook *w, struct err *e);
#endif
