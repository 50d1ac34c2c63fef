#include "workload/workload.h"
#include "base/fileio.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int address(struct sockaddr_un *a, const char *path, struct err *e)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (path[0] != '/')
        return err_set(e, ERR_CONFIG, "socket-path", "the socket's path \"%s\" is not absolute", path);
    if (strlen(path) >= sizeof a->sun_path)
        return err_set(e, ERR_CONFIG, "socket-path", "the socket's path is longer than %zu bytes: %s",
                       sizeof a->sun_path - 1, path);
    memcpy(a->sun_path, path, strlen(path) + 1);
    return 0;
}

static int make_folder(const char *path, struct err *e)
{
    char dir[sizeof(struct sockaddr_un)];
    const char *slash = strrchr(path, '/');
    size_t n = (size_t)(slash - path);
    if (n == 0)
        return 0;
    memcpy(dir, path, n);
    dir[n] = 0;
    struct stat st;
    if (stat(dir, &st) == 0)
        return 0; /* its mode is whose it is */
    if (file_mkdirs(dir, 0755, e) < 0)
        return -1;
    return chmod(dir, 0755) < 0 ? err_errno(e, "socket", "cannot open the folder %s to others",
                                            dir) : 0; /* umask or not */
}

/* A socket that nobody answers on is one that a killed process left. What is no socket is not ours to remove.
 * */
static int remove_stale(const struct sockaddr_un *a, struct err *e)
{
    struct stat st;
    if (lstat(a->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : err_errno(e, "socket", "cannot examine %s", a->sun_path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_EXISTS, "socket-path",
                       "%s exists and is no socket; remove it, or choose another path",
                       a->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "socket", "cannot make a socket");
    int r = connect(fd, (const struct sockaddr *)a, sizeof *a);
    int why = errno;
    close(fd);
    if (r == 0 || why != ECONNREFUSED)
        return err_set(e, ERR_EXISTS, "socket-in-use",
                       "another process answers on %s; stop it, or choose another path", a->sun_path);
    if (unlink(a->sun_path) < 0 && errno != ENOENT)
        return err_errno(e, "socket", "cannot remove the stale socket %s", a->sun_path);
    return 0;
}

int wl_socket_listen(const char *path, mode_t mode, struct err *e)
{
    struct sockaddr_un a;
    if (address(&a, path, e) < 0 || make_folder(path, e) < 0 || remove_stale(&a, e) < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "socket", "cannot make a socket");
    /* On the descriptor before bind: the file is made with this mode (less the umask), never with a wider
     * one. */
    if (fchmod(fd, mode & 0777) < 0 || bind(fd, (const struct sockaddr *)&a, sizeof a) < 0) {
        int taken = errno == EADDRINUSE;
        err_errno(e, taken ? "socket-in-use" : "socket", "cannot bind %s", path);
        if (taken)
            e->code = ERR_EXISTS;
    } else if (chmod(path, mode & 0777) < 0 || listen(fd, SOMAXCONN) < 0) {
        err_errno(e, "socket", "cannot listen on %s", path);
        unlink(path);
    } else {
        return fd;
    }
    close(fd);
    return -1;
}
