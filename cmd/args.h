/* Command lines for people: long options with a suggestion for mistyped ones, exit codes shared by
 * `mayfly` and `mayfly-agent`, and the nearest word of a list. */
#ifndef CMD_ARGS_H
#define CMD_ARGS_H
#include "base/err.h"
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

enum args_exit {
    ARGS_OK = 0,
    ARGS_FAILED = 1,
    ARGS_USAGE = 2,
    ARGS_UNREACHABLE = 3, /* the daemon, server or token is not there now */
    ARGS_REFUSED = 4,     /* the authority said no */
    ARGS_UNVERIFIED = 5,  /* a proof, chain or log did not verify */
    ARGS_ALERTS = 6,      /* mayfly log monitor: there were alerts */
    ARGS_FORK = 7         /* mayfly log monitor: two histories under one key, or one that went back */
};
#define ARGS_EXIT_HELP                                                                              \
    "Exit status: 0 done, 1 failed, 2 usage, 3 not reachable, 4 refused, 5 did not verify.\n"

int args_exit_code(const struct err *e);
/* Says e on standard error, in words or as a JSON object; returns the exit code (args_fail.c). */
int args_fail(const char *command, bool json, const struct err *e);
/* As getopt_long; on a mistake prints what is wrong, the nearest option and where help is, and
 * returns '?'. `command` is what the user typed, e.g. "mayfly entry create". */
int args_getopt(int argc, char **argv, const char *shorts, const struct option *longs,
                const char *command);
/* For commands that take options alone: on anything else says so, and returns -1. */
int args_no_operands(int argc, char **argv, const char *command);
/* The candidate nearest to word, or NULL when none is near. */
const char *args_nearest(const char *word, const char *const *candidates, size_t n);
/* Whole number in [min, max]; ERR_USAGE otherwise. */
int args_number(const char *s, long min, long max, const char *what, long *out, struct err *e);
/* "90", "90s", "5m", "2h", "7d" as seconds in [1, max]. */
int args_duration(const char *s, long max, const char *what, unsigned *out, struct err *e);

#endif
