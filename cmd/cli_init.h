/* Parts of `mayfly init` in files of their own: whom the files belong to (cli_init_owner.c), and the
 * configuration it writes (cli_init_config.c). */
#ifndef CMD_CLI_INIT_H
#define CMD_CLI_INIT_H
#include "cmd/cli.h"
#include "cmd/users.h"

#define INIT_SOFTHSM_MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define INIT_NAMES_MAX 16

struct init {
    struct cli cli;
    const char *dir, *trust_domain, *listen, *names[INIT_NAMES_MAX];
    size_t names_count;
    const char *token_uri, *module, *pin_file, *pin_credential, *pin_fd;
    const char *signer_user, *frontend_user, *notary_user;
    bool yes;
    char abs[3072]; /* dir, absolute */
};

/* As root, before anything is made: the users are there and may walk to where dir is or will be.
 * Otherwise nothing to do. */
int init_check_users(const struct init *in, struct err *e);
/* As root: token and log become the signer's, the store the frontend's. A folder's own owner changes
 * after all in it, and a folder that has changed hands is not entered again. Returns how many
 * folders changed hands, or -1. */
int init_hand_over(const struct init *in, const struct config *c, struct err *e);

/* Writes mayfly.yaml. One that is there stays, if it says what would be written; else refused
 * (ERR_EXISTS) with the key that differs. */
int init_write_config(const struct init *in, struct err *e);

#endif
