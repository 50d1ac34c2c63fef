/* mayflyd's own parts: the parent (mayflyd_parent.c), what it keeps open (mayflyd_sockets.c), and the
 * roles it starts (mayflyd_role.c, mayflyd_notary.c). */
#ifndef CMD_MAYFLYD_H
#define CMD_MAYFLYD_H
#include "base/config.h"
#include "cmd/users.h"
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

/* Descriptors that a child finds open, by number; token.pin.fd is none of them (config_rules). */
enum {
    FD_SIGNER_LISTEN = 100, /* signer */
    FD_PUBLIC_LISTEN = 101, /* frontend */
    FD_ADMIN_LISTEN = 102,  /* frontend */
    FD_READY = 103,         /* all: an eventfd, written once when it serves */
    FD_NOTARY_LISTEN = 104, /* signer: the notary's */
    FD_PARENT_MIN = 128     /* where the parent keeps its own copies */
};

struct mayflyd_sockets {
    int signer_listen, notary_listen, public_listen, admin_listen, lock;
};
/* Each for its user alone; (uid_t)-1: who started the daemon. */
int sockets_open(struct mayflyd_sockets *s, const struct config *c, uid_t frontend, uid_t notary, struct err *e);
void sockets_unlink(const struct config *c);
int sockets_move_up(int *fd, struct err *e); /* to FD_PARENT_MIN or above, close-on-exec */

struct mayflyd_role_args {
    const char *config_path;
    struct user_ids self; /* (uid_t)-1: stay who you are */
    struct user_ids peer; /* who may connect (signer), who started us (frontend) */
    struct user_ids notary; /* who may bring cosignatures (signer) */
    bool first_start, accept_clock_back, accept_older_store;
};

/* Exit code; takes config. Of a: accept_clock_back, for the first signer that serves (ca/signer.h), and
 * accept_older_store, for the first frontend that serves (api/store_age.h). */
int parent_run(const struct mayflyd_role_args *a, struct config *config);
/* Whether it would find the users to run the roles as: only as root it asks for them. */
int parent_check_users(const struct config *c, struct err *e);
int role_signer(const struct mayflyd_role_args *a);              /* exit code */
int role_frontend(const struct mayflyd_role_args *a);            /* exit code */
int role_notary(const struct mayflyd_role_args *a);              /* exit code */
/* The configuration, and log lines as it says; NULL when that has been told. */
struct config *role_config(const struct mayflyd_role_args *a, const char *role);
/* Its own user; and to end when the parent does. */
int role_become(const struct mayflyd_role_args *a, struct err *e);
int mayflyd_exit_code(const struct err *e);

#endif
