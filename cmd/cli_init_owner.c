#include "cmd/cli_init.h"
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The nearest folder on the way to dir that exists: the rest will be made open to all. */
static void nearest(const char *dir, char out[PATH_MAX])
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", dir);
    while (!realpath(path, out)) {
        char *slash = strrchr(path, '/');
        if (!slash && strcmp(path, ".") == 0) {
            strcpy(out, "/");
            return;
        }
        if (!slash)
            strcpy(path, ".");
        else
            slash[slash == path] = 0;
    }
}

int init_check_users(const struct init *in, struct err *e)
{
    struct user_ids users[3];
    char dir[PATH_MAX];
    if (geteuid() != 0)
        return 0;
    if (user_resolve_all((const char *const[]){in->signer_user, in->frontend_user, in->notary_user}, users, 3, e) < 0)
        return -1;
    nearest(in->dir, dir);
    for (size_t i = 0; i < 3; i++)
        if (user_reaches(&users[i], dir, e) < 0)
            return -1;
    return 0;
}

static struct user_ids owner; /* nftw takes no argument */

static int own_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
    return lchown(path, owner.uid, owner.gid);
}

static int own(const struct init *in, const char *folder, const struct user_ids *u, struct err *e)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", in->abs, folder);
    /* Once it is somebody else's, root does not walk through what they may have put there. */
    if (lstat(path, &st) < 0 || st.st_uid != 0)
        return 0;
    owner = *u;
    if (nftw(path, own_one, 16, FTW_PHYS | FTW_DEPTH) != 0)
        return err_errno(e, "init-owner", "cannot hand %s to user %lu", path, (unsigned long)u->uid);
    return 1;
}

int init_hand_over(const struct init *in, const struct config *c, struct err *e)
{
    struct user_ids users[2];
    if (geteuid() != 0)
        return 0;
    if (user_resolve_all((const char *const[]){c->signer_user, c->frontend_user}, users, 2, e) < 0)
        return -1;
    /* secret/ stays root's: the signer reads the PIN before it becomes its own user. The notary owns nothing. */
    int token = own(in, "token", &users[0], e);
    int log = token < 0 ? -1 : own(in, "log", &users[0], e);
    int store = log < 0 ? -1 : own(in, "store", &users[1], e);
    return store < 0 ? -1 : token + log + store;
}
