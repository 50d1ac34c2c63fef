/* What the parent keeps open as long as it lives, so that connections wait while a child is away. */
#include "base/fileio.h"
#include "base/ipc.h"
#include "cmd/mayflyd.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int bind_public(const struct config *c, struct err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV}, *ai;
    char port[8];
    snprintf(port, sizeof port, "%u", c->listen_port);
    int rc = getaddrinfo(c->listen_host, port, &hints, &ai);
    if (rc != 0)
        return err_set(e, ERR_CONFIG, "listen", "listen: %s: %s", c->listen_host, gai_strerror(rc));
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 1024) < 0) {
        /* Who holds the port may leave it: the one refusal here that a service manager tries again. */
        bool taken = errno == EADDRINUSE;
        err_errno(e, "listen", "cannot listen on %s:%s%s", c->listen_host, port,
                  taken ? " (is another daemon running there?)" : "");
        e->code = taken ? ERR_UNAVAILABLE : ERR_CONFIG;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(ai);
    return fd;
}

static int bind_admin(const char *path, struct err *e)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return err_set(e, ERR_CONFIG, "run-dir", "%s: path too long for a Unix socket; set run.dir", path);
    strcpy(sa.sun_path, path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    int rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&sa, sizeof sa);
    umask(old);
    if (rc < 0 || listen(fd, 64) < 0) {
        err_errno(e, "admin-socket", "cannot listen on %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

/* One daemon a directory: the lock lives as long as the parent. */
static int lock_run_dir(const struct config *c, struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/mayflyd.lock", c->run_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(e, "run-dir", "cannot open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        close(fd);
        return err_set(e, ERR_EXISTS, "running", "another mayflyd runs this authority (%s is locked)", path);
    }
    return fd;
}

int sockets_move_up(int *fd, struct err *e)
{
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, FD_PARENT_MIN);
    if (high < 0)
        return err_errno(e, "descriptor", "cannot move a descriptor above %d", FD_PARENT_MIN);
    close(*fd);
    *fd = high;
    return 0;
}

/* Connecting needs write permission; the signer looks at the peer's uid besides. */
static int bind_signer(const char *path, uid_t caller, struct err *e)
{
    int fd = ipc_listen(path, 0600, e);
    if (fd < 0 || geteuid() != 0 || caller == (uid_t)-1 || chown(path, caller, (gid_t)-1) == 0)
        return fd;
    err_errno(e, "run-dir", "cannot hand %s to user %lu", path, (unsigned long)caller);
    close(fd);
    return -1;
}

int sockets_open(struct mayflyd_sockets *s, const struct config *c, uid_t frontend, uid_t notary, struct err *e)
{
    char path[4096];
    if (file_mkdirs(c->run_dir, 0755, e) < 0 || (s->lock = lock_run_dir(c, e)) < 0)
        return -1;
    if ((s->public_listen = bind_public(c, e)) < 0)
        return -1;
    config_signer_socket(c, path, sizeof path);
    if ((s->signer_listen = bind_signer(path, frontend, e)) < 0)
        return -1;
    config_notary_socket(c, path, sizeof path);
    if ((s->notary_listen = bind_signer(path, notary, e)) < 0)
        return -1;
    config_admin_socket(c, path, sizeof path);
    if ((s->admin_listen = bind_admin(path, e)) < 0)
        return -1;
    if (sockets_move_up(&s->public_listen, e) < 0 || sockets_move_up(&s->signer_listen, e) < 0 ||
        sockets_move_up(&s->notary_listen, e) < 0)
        return -1;
    return sockets_move_up(&s->admin_listen, e);
}

void sockets_unlink(const struct config *c)
{
    char path[4096];
    config_signer_socket(c, path, sizeof path);
    unlink(path);
    config_notary_socket(c, path, sizeof path);
    unlink(path);
    config_admin_socket(c, path, sizeof path);
    unlink(path);
}
