/* The commands of mayfly-agent: each takes its own argv, argv[0] being its name, and gives the exit status. */
#ifndef CMD_AGENT_CMD_H
#define CMD_AGENT_CMD_H
#include "base/secmem.h"

int agent_fetch_main(int argc, char **argv);
int agent_serve_main(int argc, char **argv);
int agent_run_main(int argc, char **argv);

/* --token and --token-file: dst, which holds none yet, NUL-terminated. "-": standard input. text is wiped. */
int agent_token_take(struct secret *dst, char *text, struct err *e);
int agent_token_read(struct secret *dst, const char *path, struct err *e);

#endif
