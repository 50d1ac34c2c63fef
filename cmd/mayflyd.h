/* mayflyd's own parts: the parent (parent.c) and the two roles it starts (role.c). */
#ifndef CMD_MAYFLYD_H
#define CMD_MAYFLYD_H
#include "base/config.h"
#include <stdbool.h>
#include <sys/types.h>

/* How a child ends tells the parent whether another start can help. */
enum mayflyd_exit {
    EXIT_OK = 0,
    EXIT_CRASH = 1,   /* try again, with backoff */
    EXIT_BAD_USE = 2,
    EXIT_FATAL = 70,  /* another start would find the same: configuration, damaged log, keys */
    EXIT_BAD_PIN = 71 /* the token refused the PIN; never tried again by itself */
};

/* Descriptors that a child finds open, by number; out of the way of token.pin.fd. */
enum {
    FD_SIGNER_LISTEN = 100, /* signer */
    FD_PUBLIC_LISTEN = 101, /* frontend */
    FD_ADMIN_LISTEN = 102,  /* frontend */
    FD_PARENT_MIN = 128     /* where the parent keeps its own copies */
};

struct mayflyd_user { /* (uid_t)-1: stay who you are */
    uid_t uid;
    gid_t gid;
};
struct mayflyd_role_args {
    const char *config_path;
    struct mayflyd_user self, peer; /* peer: who may connect (signer), who started us (frontend) */
    bool first_start;
};

int parent_run(const char *config_path, struct config *config);  /* exit code; takes config */
int role_signer(const struct mayflyd_role_args *a);              /* exit code */
int role_frontend(const struct mayflyd_role_args *a);            /* exit code */
int mayflyd_exit_code(const struct err *e);

#endif
