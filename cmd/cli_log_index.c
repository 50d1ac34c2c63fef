#include "cmd/cli_log_index.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MS 3000 /* for a running daemon to index what it has just published */

static int covers(struct audit_index *x, const struct tlog_reader *r)
{
    struct err ignored;
    uint64_t size;
    return audit_index_size(x, &size, &ignored) == 0 && size >= tlog_reader_head(r)->size;
}

/* The daemon's, read-only. NULL is no trouble: ours will do. */
static struct audit_index *authority_index(const struct log_args *a, const struct tlog_reader *r)
{
    struct audit_index *x;
    struct err ignored;
    if (!a->config || strcmp(a->dir, a->config->log.dir) != 0)
        return NULL;
    const struct audit_index_options o = {a->config->audit_index, a->dir, &a->vkey, .read_only = true,
                                          .archive = a->at.archive};
    for (int ms = 0; ms < WAIT_MS; ms += 100) {
        if (audit_index_open(&x, &o, &ignored) < 0)
            return NULL;
        if (covers(x, r))
            return x;
        audit_index_close(x); /* opened without a writer, it would never see more */
        usleep(100000);
    }
    return NULL;
}

/* A file of the user's for each log: named by the log's key. */
static int cache_path(char dst[4096], const struct tlog_vkey *k, struct err *e)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char key[17];
    hex_encode(key, k->pub, 8);
    int n = -1;
    if (cache && *cache == '/')
        n = snprintf(dst, 4096, "%s/mayfly/audit-%s.db", cache, key);
    else if (home && *home == '/')
        n = snprintf(dst, 4096, "%s/.cache/mayfly/audit-%s.db", home, key);
    if (n < 0 || n >= 4096)
        return err_set(e, ERR_USAGE, "audit-cache", "there is no HOME to keep an index in; name a file with --index");
    return 0;
}

int log_index_open(struct audit_index **out, const struct log_args *a, const char *file, const struct tlog_reader *r,
                   struct err *e)
{
    static char what[] = "indexing";
    char path[4096];
    const struct audit_run run = {.progress = cli_progress, .arg = what};
    log_setup("mayfly", LOG_WARN, LOG_TEXT);
    if (!file && (*out = authority_index(a, r)) != NULL)
        return 0;
    if (!file && cache_path(path, &a->vkey, e) < 0)
        return -1;
    const struct audit_index_options o = {file ? file : path, a->dir, &a->vkey, .read_only = false,
                                          .archive = a->at.archive};
    if (audit_index_open(out, &o, e) < 0)
        return -1;
    if (audit_index_catch_up(*out, &run, e) == 0)
        return 0;
    if (e->code != ERR_UNAVAILABLE && e->code != ERR_IO && e->code != ERR_INTERNAL)
        log_unverified(e);
    audit_index_close(*out);
    return -1;
}
