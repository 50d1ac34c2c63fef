/* Which audit index a `mayfly log` command searches: the authority's own when it is there and as far
 * as the log, else one of the user's, made while he waits. No server is asked. */
#ifndef CMD_CLI_LOG_INDEX_H
#define CMD_CLI_LOG_INDEX_H
#include "audit/index.h"
#include "cmd/cli_log.h"

/* One that knows all entries of the reader's checkpoint. file: as the user named it, or NULL. */
int log_index_open(struct audit_index **out, const struct log_args *a, const char *file, const struct tlog_reader *r,
                   struct err *e);
#endif
