/* systemd's descriptor store and LISTEN_FDS without its library; and the same way of handing descriptors on for a
 * re-execution of ours. */
#include "agent/daemon.h"
#include "base/notify.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */
#define FDS_MAX 16
#define HANDED_ON 4

/* --- to systemd ------------------------------------------------------------------------------------------------------ */

/* The store keeps what it has beside the new one: the old keys go first. */
void notify_keep(int fd)
{
    notify_say("FDSTOREREMOVE=1\nFDNAME=" FD_NAME_KEEP);
    notify_fd("FDSTORE=1\nFDNAME=" FD_NAME_KEEP, fd);
}

/* --- from whoever started us -------------------------------------------------------------------------------------------- */

static bool is_listening_unix(int fd)
{
    int on = 0;
    socklen_t n = sizeof on;
    struct sockaddr_storage at;
    socklen_t at_len = sizeof at;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n) == 0 && on &&
           getsockname(fd, (struct sockaddr *)&at, &at_len) == 0 && at.ss_family == AF_UNIX;
}

static void take(struct inherited *in, int fd, const char *name, size_t len)
{
    bool is_keep = len == strlen(FD_NAME_KEEP) && memcmp(name, FD_NAME_KEEP, len) == 0;
    bool is_http = len == strlen(FD_NAME_HTTP) && memcmp(name, FD_NAME_HTTP, len) == 0;
    bool is_handover = len == strlen(FD_NAME_HANDOVER) && memcmp(name, FD_NAME_HANDOVER, len) == 0;
    int *slot = is_keep ? &in->keep : is_http ? &in->http : is_handover ? &in->handover
                : is_listening_unix(fd) ? &in->api : NULL;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (!slot) {
        close(fd);
        return;
    }
    if (*slot >= 0)
        close(*slot); /* the last one counts: it is the newest in the store */
    *slot = fd;
}

void notify_inherit(struct inherited *in)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    *in = (struct inherited){-1, -1, -1, -1};
    long n = count ? strtol(count, NULL, 10) : 0;
    if (pid && strtol(pid, NULL, 10) == (long)getpid() && n > 0 && n <= FDS_MAX) {
        const char *name = names ? names : "";
        for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
            size_t len = strcspn(name, ":");
            take(in, fd, name, len);
            name += len + (name[len] == ':');
        }
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

/* --- anew ----------------------------------------------------------------------------------------------------------------- */

void notify_execute(const char *exe, char *const argv[], const struct inherited *out, struct err *e)
{
    const int fds[] = {out->keep, out->api, out->http, out->handover};
    static const char *const names[] = {FD_NAME_KEEP, FD_NAME_API, FD_NAME_HTTP, FD_NAME_HANDOVER};
    int high[HANDED_ON], n = 0;
    char text[32], list[128] = "";
    for (int i = 0; i < HANDED_ON; i++) {
        if (fds[i] < 0)
            continue;
        high[n] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64); /* out of the way of what is put at 3 and on */
        if (high[n] < 0) {
            err_errno(e, "reload", "cannot hand on a descriptor");
            return;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", n ? ":" : "", names[i]);
        n++;
    }
    for (int i = 0; i < n; i++)
        dup2(high[i], FIRST_FD + i); /* without close-on-exec. What was there is nobody's any more */
    snprintf(text, sizeof text, "%ld", (long)getpid());
    setenv("LISTEN_PID", text, 1);
    snprintf(text, sizeof text, "%d", n);
    setenv("LISTEN_FDS", text, 1);
    setenv("LISTEN_FDNAMES", list, 1);
    execv(exe, argv);
    err_errno(e, "reload", "cannot execute %s", exe);
}
