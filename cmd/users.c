#include "cmd/users.h"
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Digits alone, and not the id that system calls take for "leave it". */
static int parse_id(const char *s, char end, unsigned long *id, const char **rest)
{
    char *stop;
    if (*s < '0' || *s > '9')
        return -1;
    errno = 0;
    *id = strtoul(s, &stop, 10);
    if (errno || *stop != end || *id >= (uid_t)-1)
        return -1;
    *rest = *stop ? stop + 1 : stop;
    return 0;
}

int user_resolve(const char *name, struct user_ids *u, struct err *e)
{
    unsigned long uid, gid;
    const char *rest;
    if (*name >= '0' && *name <= '9') {
        if (parse_id(name, ':', &uid, &rest) < 0 || parse_id(rest, 0, &gid, &rest) < 0)
            return err_set(e, ERR_CONFIG, "run-user",
                           "\"%s\" is not uid:gid, two numbers below 4294967295", name);
    } else {
        struct passwd *pw = getpwnam(name);
        if (!pw)
            return err_set(e, ERR_CONFIG, "run-user", "user \"%s\" does not exist", name);
        uid = pw->pw_uid;
        gid = pw->pw_gid;
    }
    if (uid == 0 || gid == 0)
        return err_set(e, ERR_CONFIG, "run-user", "user \"%s\" is root%s: name one without privileges", name,
                       uid ? "'s group" : "");
    u->uid = (uid_t)uid;
    u->gid = (gid_t)gid;
    return 0;
}

int user_resolve_all(const char *const *names, struct user_ids *u, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        u[i] = (struct user_ids){(uid_t)-1, (gid_t)-1};
        if (*names[i] && user_resolve(names[i], &u[i], e) < 0)
            return -1;
        for (size_t k = 0; *names[i] && k < i; k++)
            if (u[k].uid == u[i].uid)
                return err_set(e, ERR_CONFIG, "run-user",
                               "\"%s\" and \"%s\" are one user, %lu: a shared one could read the token's files; "
                               "name two",
                               names[k], names[i], (unsigned long)u[i].uid);
    }
    return 0;
}

/* In a child: the first folder of dir that u may not search, counted from 1; 0: none. */
static int first_closed(const struct user_ids *u, const char *dir)
{
    char path[PATH_MAX];
    if (setgroups(1, &u->gid) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
        setresuid(u->uid, u->uid, u->uid) < 0)
        return 0; /* cannot try (a container without the right to): the daemon will say */
    int count = 0;
    for (size_t i = 1; dir[i - 1]; i++) {
        if (dir[i] && dir[i] != '/')
            continue;
        memcpy(path, dir, i);
        path[i] = 0;
        count++;
        if (access(path, X_OK) < 0 && errno == EACCES)
            return count < 255 ? count : 255;
    }
    return 0;
}

int user_reaches(const struct user_ids *u, const char *dir, struct err *e)
{
    int status;
    if (strlen(dir) >= PATH_MAX)
        return err_set(e, ERR_CONFIG, "init-dir", "the path is too long");
    pid_t pid = fork();
    if (pid == 0)
        _exit(first_closed(u, dir));
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return err_errno(e, "fork", "cannot try the folders of %.200s", dir);
    int closed = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    if (closed == 0)
        return 0;
    size_t end = 1;
    for (; dir[end] && (dir[end] != '/' || --closed); end++)
        ;
    return err_set(e, ERR_CONFIG, "init-reach",
                   "user %lu, whom a process of mayflyd runs as, may not enter %.*s; choose a --dir outside "
                   "it, or open it with chmod a+x",
                   (unsigned long)u->uid, (int)end, dir);
}
