/* Private to `mayfly log monitor` (cli_log_monitor.c, cli_log_round.c): what it follows and by which rules,
 * and one round.
 */
#ifndef CMD_CLI_LOG_MONITOR_H
#define CMD_CLI_LOG_MONITOR_H
#include "audit/rules.h"
#include "cmd/cli_log.h"
#include "cmd/cli_log_alerts.h"
#include "cmd/cli_log_fetch.h"
#include "tlog/policy.h"
#include <limits.h>
#include <signal.h>

#define MONITOR_COMMAND "mayfly log monitor"

struct monitor {
    struct log_args a;
    const char *url, *cacert, *state, *keys, *policy_file, *webhook_url;
    bool from_start, once;
    long interval, tries;
    unsigned max_lifetime, max_age;
    struct audit_rules rules;
    struct tlog_policy *policy; /* owned */
    struct log_fetch *fetch;    /* owned; NULL: a folder */
    char tiles[PATH_MAX];       /* where fetched tiles are kept */
    struct webhook *webhook;    /* owned */

    struct buf kept, head;      /* signed notes: of the state, of this round */
    struct tlog_checkpoint kept_at, head_at;
    int64_t latest, head_latest; /* tlog/audit.h: of the kept head, of this round's */
    const volatile sig_atomic_t *stop; /* set by a signal; not owned */
    struct alerts alerts;
    struct audit_entry entry;
    bool pending;               /* alerts are still to be delivered, before anything else */
    bool keep;                  /* and then `head`, which verified, is to be kept */
    bool output_gone;           /* nobody reads standard output any more */
    bool stale_said;
    bool cosigned_bad;          /* said */
    char said[32];              /* rule of the trouble that was told of last */
};
/* The new head, its signature, what joins it to the kept one, every new entry under it; then the alerts are
 * shown and delivered; then, and only then, the new head is kept. So a round that was cut short is done
 * again, and nothing is passed over. Its exit status; what it has to say is said. */
int monitor_round(struct monitor *m);
/* Less when a signal comes. */
void monitor_pause(const struct monitor *m, long ms);
#endif
