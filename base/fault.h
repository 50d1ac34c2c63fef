/* Fault points: in builds with MAYFLY_FAULTS, FAULT("name") looks whether the file named by
 * $MAYFLY_FAULT_FILE asks for a fault here. The file holds one line "name action [skip]":
 * action kill (SIGKILL self), hang (sleep for ever), fail (FAULT returns 1), exit (_exit(97));
 * skip = how many passes to let through first (counted per process). The file is removed when the
 * fault fires, so it fires once. In other builds the macro is 0 and leaves nothing behind.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H
#ifdef MAYFLY_FAULTS
int fault_at(const char *name);
#define FAULT(name) fault_at(name)
#else
#define FAULT(name) 0
#endif
#endif
