/* The HTTP around a witness (cli_log_witness_http.c): POST /add-checkpoint and nothing else. Plain
 * on a loopback address, else HTTPS. What it is told is bounded: connections, bytes, idle time. */
#ifndef CMD_CLI_LOG_WITNESS_H
#define CMD_CLI_LOG_WITNESS_H
#include "cmd/cli_log.h"
#include "tlog/witness.h"

struct witness_http_options { /* nothing owned */
    struct tlog_witness *witness; /* outlives it */
    const char *listen;           /* address:port */
    const char *tls_cert, *tls_key; /* PEM files; both or none */
};
struct witness_http;
/* Listens and reads the files; no thread yet, and nobody is answered. */
int witness_http_open(struct witness_http **out, const struct witness_http_options *o, struct err *e);
int witness_http_start(struct witness_http *h, struct err *e);
void witness_http_close(struct witness_http *h); /* ends what is being answered */
#endif
