#include "proxy/internal.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 4096

static int refuse(struct err *e, const char *text, const char *why)
{
    return err_set(e, ERR_CONFIG, "address", "address '%.200s': %s. Write HOST:PORT, [IPV6]:PORT or unix:/absolute/path", text,
                   why);
}

bool address_is_unix(const struct address *a)
{
    return a->path[0];
}

static bool port_good(const char *s)
{
    char *end;
    unsigned long v = strtoul(s, &end, 10);
    return *s >= '0' && *s <= '9' && !*end && v <= 65535 && strlen(s) <= 5;
}

int address_parse(struct address *a, const char *text, struct err *e)
{
    memset(a, 0, sizeof *a);
    if (strncmp(text, "unix:", 5) == 0) {
        const char *path = text + 5;
        if (strncmp(path, "//", 2) == 0)
            path += 2;
        if (path[0] != '/' || strlen(path) >= sizeof a->path)
            return refuse(e, text, "the path is not absolute, or has more than 107 bytes");
        strcpy(a->path, path);
        return 0;
    }
    const char *colon = strrchr(text, ':'), *host = text;
    if (!colon || !port_good(colon + 1))
        return refuse(e, text, "there is no port from 0 to 65535 at its end");
    size_t n = (size_t)(colon - text);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host++;
        n -= 2;
    } else if (memchr(host, ':', n)) {
        return refuse(e, text, "an IPv6 address stands in brackets");
    }
    if (n == 0 || n >= sizeof a->host)
        return refuse(e, text, "the host is missing or too long");
    memcpy(a->host, host, n);
    strcpy(a->port, colon + 1);
    return 0;
}

void address_text(char *dst, size_t cap, const struct sockaddr *sa)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *s = (const void *)sa;
        inet_ntop(AF_INET, &s->sin_addr, host, sizeof host);
        snprintf(dst, cap, "%s:%u", host, ntohs(s->sin_port));
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *s = (const void *)sa;
        inet_ntop(AF_INET6, &s->sin6_addr, host, sizeof host);
        snprintf(dst, cap, "[%s]:%u", host, ntohs(s->sin6_port));
    } else {
        snprintf(dst, cap, "unix");
    }
}

/* Socket addresses of IPv4 that came through an IPv6 socket (::ffff:10.0.0.1) become IPv4: limits, networks and headers
 * know them by that. */
void address_unmap(union pp2_addr *a)
{
    const struct sockaddr_in6 *s = (const void *)a;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    if (a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&s->sin6_addr))
        return;
    v4.sin_port = s->sin6_port;
    memcpy(&v4.sin_addr, &s->sin6_addr.s6_addr[12], 4);
    memset(a, 0, sizeof *a);
    memcpy(a, &v4, sizeof v4);
}

/* --- listening ---------------------------------------------------------------------------------------------- */

/* A socket that nobody answers on is what a killed process left. */
static int stale_remove(const struct sockaddr_un *u, struct err *e)
{
    struct stat st;
    if (lstat(u->sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_EXISTS, "socket-in-use", "%s is there and is no socket", u->sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* its owner's queue may be full */
    int r = fd < 0 ? -1 : connect(fd, (const struct sockaddr *)u, sizeof *u);
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (r == 0 || why != ECONNREFUSED)
        return err_set(e, ERR_EXISTS, "socket-in-use", "somebody answers on %s already: is another proxy running?", u->sun_path);
    unlink(u->sun_path);
    return 0;
}

static int listen_unix(const struct address *a, mode_t mode, struct err *e)
{
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    strcpy(u.sun_path, a->path);
    if (stale_remove(&u, e) < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, "listen", "cannot make a socket");
    mode_t old = umask(0777 & ~mode); /* never open wider than asked for, not for a moment */
    int r = bind(fd, (struct sockaddr *)&u, sizeof u);
    umask(old);
    if (r < 0 || chmod(a->path, mode) < 0 || listen(fd, BACKLOG) < 0) {
        err_errno(e, "listen", "cannot listen on %s; may this user write to its folder?", a->path);
        close(fd);
        return -1;
    }
    return fd;
}

static int listen_try(const struct addrinfo *ai, bool shared)
{
    const int on = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (shared)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int address_listen(const struct address *a, bool shared, mode_t mode, struct err *e)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    if (address_is_unix(a))
        return listen_unix(a, mode, e);
    int why = getaddrinfo(strcmp(a->host, "*") == 0 ? NULL : a->host, a->port, &hints, &list);
    if (why != 0)
        return err_set(e, ERR_CONFIG, "listen", "cannot listen on %s: %s", a->host, gai_strerror(why));
    int fd = -1;
    for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
        fd = listen_try(ai, shared);
    if (fd < 0)
        err_errno(e, "listen", "cannot listen on %s port %s", a->host, a->port);
    freeaddrinfo(list);
    return fd;
}
