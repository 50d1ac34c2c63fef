/* A log on another host, as any tlog-tiles client reads it: GET of checkpoint, tiles and entry bundles
 * over HTTPS, one connection that is kept, bounded in size and time, no redirects. Nothing that comes
 * is trusted: who reads verifies it, as a file from disk.
 */
#ifndef CMD_CLI_LOG_FETCH_H
#define CMD_CLI_LOG_FETCH_H
#include "base/bytes.h"
#include "base/err.h"
#include <signal.h>

struct log_fetch;
/* Whether it is https:// or http:// with a host behind it, and nothing that no URL has. */
bool log_fetch_url_good(const char *url);
/* url: what /checkpoint is below, https:// or http://. cacert: PEM file of roots instead of the system's,
 * or NULL. *stop set by a signal ends a request. */
int log_fetch_open(struct log_fetch **out, const char *url, const char *cacert, const volatile sig_atomic_t *stop,
                   struct err *e);
void log_fetch_close(struct log_fetch *f);
/* The file `path` below the url, at most max bytes, into b (emptied first). ERR_NOT_FOUND ("log-fetch"):
 * there is none; ERR_UNAVAILABLE ("log-fetch"): not reachable, or it answered otherwise; ERR_TOO_LARGE.
 * As tlog_place's fetch, f being its arg. */
int log_fetch_get(void *f, const char *path, size_t max, struct buf *b, struct err *e);
#endif
