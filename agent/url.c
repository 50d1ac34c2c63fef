/* Which addresses this agent may speak to: https, and one origin. A directory is data from the
 * network; without this check it could send signed requests, and evidence in them, elsewhere. */
#include "agent/internal.h"
#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#define HOST_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_[]:"

static int url_fail(struct err *e, const char *url, const char *why)
{
    return err_set(e, ERR_MALFORMED, "url", "'%.200s' is no usable address: %s", url, why);
}

static bool url_is_plain(const char *url)
{
    for (const unsigned char *p = (const unsigned char *)url; *p; p++)
        if (*p <= ' ' || *p >= 0x7f)
            return false;
    return true;
}

static CURLU *url_open(const char *url, struct err *e)
{
    size_t n = strlen(url);
    CURLU *u = NULL;
    if (n == 0 || n > URL_MAX || !url_is_plain(url)) {
        url_fail(e, "…", "it must be 1 to 1024 printable ASCII characters");
        return NULL;
    }
    if (strncasecmp(url, "https://", 8) != 0) {
        url_fail(e, url, "it must begin with https://");
        return NULL;
    }
    u = curl_url();
    if (!u)
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
    else if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK) {
        url_fail(e, url, "write it as https://host[:port]");
        curl_url_cleanup(u);
        u = NULL;
    }
    return u;
}

static bool url_has(CURLU *u, CURLUPart part)
{
    char *s = NULL;
    bool has = curl_url_get(u, part, &s, 0) == CURLUE_OK && s && *s;
    curl_free(s);
    return has;
}

static int url_copy(char *dst, size_t cap, CURLU *u, CURLUPart part, unsigned flags)
{
    char *s = NULL;
    int rc = -1;
    if (curl_url_get(u, part, &s, flags) == CURLUE_OK && s && strlen(s) < cap) {
        strcpy(dst, s);
        rc = 0;
    }
    curl_free(s);
    return rc;
}

static int origin_of(char dst[ORIGIN_MAX], CURLU *u, const char *url, struct err *e)
{
    char host[256], port[8];
    if (url_has(u, CURLUPART_USER) || url_has(u, CURLUPART_PASSWORD))
        return url_fail(e, "…", "it must not carry a user name or password");
    if (url_has(u, CURLUPART_ZONEID) || url_copy(host, sizeof host, u, CURLUPART_HOST, 0) < 0 ||
        url_copy(port, sizeof port, u, CURLUPART_PORT, CURLU_DEFAULT_PORT) < 0)
        return url_fail(e, url, "its host or port can not be used");
    /* libcurl undoes percent-encoding in a host, and may read another host when it is asked again: of "%31" it makes
     * "1", and of that "0.0.0.1". */
    const char *authority = url + strlen("https:");
    authority += strspn(authority, "/");
    if (host[strspn(host, HOST_LETTERS)] || memchr(authority, '%', strcspn(authority, "/?#")))
        return url_fail(e, url, "its host is no name and no address");
    for (char *p = host; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    snprintf(dst, ORIGIN_MAX, "https://%s:%s", host, port);
    return 0;
}

int url_origin(char dst[ORIGIN_MAX], const char *url, struct err *e)
{
    CURLU *u = url_open(url, e);
    if (!u)
        return -1;
    int rc = origin_of(dst, u, url, e);
    curl_url_cleanup(u);
    return rc;
}

/* The host as a certificate names it: between "https://" and the last colon, without brackets. */
static void host_of(char dst[256], const char *origin)
{
    const char *host = origin + strlen("https://"), *end = strrchr(host, ':');
    if (*host == '[') {
        host++;
        end--;
    }
    snprintf(dst, 256, "%.*s", (int)(end - host), host);
}

int url_server(struct url_server *s, const char *server, struct err *e)
{
    CURLU *u = url_open(server, e);
    if (!u)
        return -1;
    int rc = origin_of(s->origin, u, server, e);
    if (rc == 0 && (url_has(u, CURLUPART_QUERY) || url_has(u, CURLUPART_FRAGMENT)))
        rc = url_fail(e, server, "a server's address has no query and no fragment");
    char path[URL_MAX + 1];
    if (rc == 0 && url_copy(path, sizeof path, u, CURLUPART_PATH, 0) < 0)
        rc = url_fail(e, server, "its path is too long");
    curl_url_cleanup(u);
    if (rc < 0)
        return -1;
    host_of(s->host, s->origin);
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        path[--n] = 0;
    bool whole = n >= 10 && strcmp(path + n - 10, "/directory") == 0;
    int len = snprintf(s->directory, sizeof s->directory, "%s%s%s", s->origin, path,
                       whole ? "" : "/acme/directory");
    if (len < 0 || (size_t)len >= sizeof s->directory)
        return url_fail(e, "…", "it is too long");
    return 0;
}

int url_same_origin(const struct url_server *s, const char *url, const char *what, struct err *e)
{
    char origin[ORIGIN_MAX];
    if (url_origin(origin, url, e) < 0) {
        if (e->code == ERR_MALFORMED)
            e->code = ERR_CORRUPT; /* the server's words, not the operator's */
        return err_wrap(e, "the server's %s", what);
    }
    if (strcmp(origin, s->origin) != 0)
        return err_set(e, ERR_CORRUPT, "url-origin",
                       "the server's %s leads to %s, but this agent was told %s and goes nowhere "
                       "else: if that is the authority's name for itself, use --server %s",
                       what, origin, s->origin, origin);
    return 0;
}
