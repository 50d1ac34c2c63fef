/* Sets in a folder: what output.c builds on. Nothing outside agent/ and its tests includes this.
 *
 *   output.c         from a set in memory to a set in place
 *   output_set.c     ..set-<n>, ..data and the links, as names in an open folder
 *   output_reload.c  the program is told: hook and signal
 */
#ifndef AGENT_OUTPUT_SET_H
#define AGENT_OUTPUT_SET_H
#include "agent/folder.h"
#include "agent/output.h"

/* Every name that an output folder may have. */
extern const char *const output_names[];
#define OUTPUT_NAMES 6

/* The set that ..data leads to; 0: none of ours. */
unsigned set_current(int dir);
/* Makes ..set-<n>, n after the current one, as an empty folder that only we may enter; its descriptor or -1. */
int set_create(int dir, unsigned current, unsigned *n, struct err *e);
/* Removes it with the files in it; best effort. */
void set_remove(int dir, unsigned n);
/* Removes what a killed agent left, and sets that were replaced: all but `keep`. */
void set_sweep(int dir, unsigned keep);
/* Links for the names in `want` (bits, by place in output_names), made beside their places where they are missing or
 * are no link of ours. Nothing is seen of it yet. */
int links_prepare(int dir, unsigned want, struct err *e);
/* ..data now leads to set n; then the prepared links are put in place, and those not wanted are taken away. */
int set_swap(int dir, unsigned n, unsigned want, struct err *e);
/* As output_stands, in the open folder; -1 with errno. */
int set_stands(int dir, const struct output_stamp *was);
/* What links_prepare made. */
void links_drop(int dir);
/* Every link of ours, ..data, all sets and the lock. */
void names_remove(int dir);

/* The number in the first line of a pid file, 2 or more; -1: there is none. Pure. */
pid_t output_pid_parse(const char *text, size_t len);

#endif
