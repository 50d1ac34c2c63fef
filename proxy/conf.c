/* Defaults, and what can be said of a configuration without trying it. */
#include "base/spiffe.h"
#include "proxy/internal.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void proxy_listener_defaults(struct proxy_listener_conf *l)
{
    *l = (struct proxy_listener_conf){.mode_bits = 0660, .handshake_timeout = 10000, .connect_timeout = 10000,
                                      .max_connections = 10000, .max_handshakes = 256, .half_closed_timeout = 600};
}

void proxy_conf_defaults(struct proxy_conf *c)
{
    *c = (struct proxy_conf){.drain_timeout = 30, .metrics_peers = 256, .level = LOG_INFO, .format = LOG_AUTO};
}

void proxy_listener_free(struct proxy_listener_conf *l)
{
    free(l->name);
    free(l->listen);
    free(l->to);
    free(l->id);
    free(l->sni);
    proxy_rules_free(&l->allow);
    memset(l, 0, sizeof *l);
}

int proxy_conf_add(struct proxy_conf *c, const struct proxy_listener_conf *l, struct err *e)
{
    struct proxy_listener_conf copy = *l, *list;
    if (c->n == PROXY_LISTENERS_MAX) {
        proxy_listener_free(&copy);
        return err_set(e, ERR_CONFIG, "listeners", "more than %d listeners", PROXY_LISTENERS_MAX);
    }
    if (!copy.name)
        copy.name = copy.listen ? strdup(copy.listen) : NULL;
    list = realloc(c->listeners, (c->n + 1) * sizeof *list);
    if (!list) {
        proxy_listener_free(&copy);
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    }
    c->listeners = list;
    c->listeners[c->n++] = copy;
    return 0;
}

void proxy_conf_free(struct proxy_conf *c)
{
    for (size_t i = 0; i < c->n; i++)
        proxy_listener_free(&c->listeners[i]);
    free(c->listeners);
    free(c->socket);
    free(c->identity);
    free(c->http);
    *c = (struct proxy_conf){0};
}

int proxy_alpn_parse(struct proxy_listener_conf *l, const char *text, struct err *e)
{
    l->alpn_len = 0;
    while (*text) {
        size_t n = strcspn(text, ",");
        if (n == 0 || n > 255 || l->alpn_len + n + 1 > sizeof l->alpn)
            return err_set(e, ERR_CONFIG, "alpn", "alpn: write protocols with commas between, e.g. h2,http/1.1; 255 bytes at most");
        l->alpn[l->alpn_len] = (uint8_t)n;
        memcpy(l->alpn + l->alpn_len + 1, text, n);
        l->alpn_len += n + 1;
        text += n + (text[n] == ',');
    }
    return 0;
}

int proxy_network_parse(struct proxy_network *n, const char *text, struct err *e)
{
    char addr[64];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    *n = (struct proxy_network){0};
    if (len < sizeof addr) {
        memcpy(addr, text, len);
        addr[len] = 0;
        n->len = inet_pton(AF_INET, addr, n->addr) == 1 ? 4 : inet_pton(AF_INET6, addr, n->addr) == 1 ? 16 : 0;
    }
    char *end = NULL;
    unsigned long bits = slash ? strtoul(slash + 1, &end, 10) : n->len * 8;
    if (!n->len || bits > n->len * 8 || (slash && (end == slash + 1 || *end)))
        return err_set(e, ERR_CONFIG, "network", "'%.100s' is no network: write 10.0.0.0/8 or an address", text);
    n->bits = (unsigned)bits;
    return 0;
}

/* --- checks ------------------------------------------------------------------------------------------------------- */

static int refuse(const struct proxy_listener_conf *l, struct err *e, const char *why)
{
    return err_set(e, ERR_CONFIG, "listener", "listener %.100s: %s", l->name ? l->name : "(without listen)", why);
}

static int listener_check(const struct proxy_listener_conf *l, struct err *e)
{
    struct address a;
    struct spiffe_id id;
    if (!l->listen || !l->to)
        return refuse(l, e, "it needs where to listen and where to go: listen and to (--listen, --to)");
    if (address_parse(&a, l->listen, e) < 0 || address_parse(&a, l->to, e) < 0)
        return err_wrap(e, "listener %s", l->name);
    if (!address_is_unix(&a) && strcmp(a.port, "0") == 0)
        return refuse(l, e, "there is no port 0 to go to");
    if (l->allow.n == 0)
        return refuse(l, e, "nobody is allowed. Say who: allow (--allow), e.g. spiffe://example.org/web");
    if (l->id && spiffe_parse(&id, l->id, strlen(l->id), e) < 0)
        return err_wrap(e, "listener %s: id", l->name);
    if (l->sni && strlen(l->sni) >= sizeof ((struct listener *)0)->sni) /* cut, it would be another name */
        return refuse(l, e, "sni has more than 255 bytes");
    if (l->mode == PROXY_CLIENT && l->send_proxy)
        return refuse(l, e, "send_proxy tells an upstream who the TLS client is; it belongs to server mode");
    if (l->max_connections == 0 || l->max_handshakes == 0 || l->handshake_timeout == 0 || l->connect_timeout == 0)
        return refuse(l, e, "limits and timeouts must not be 0");
    return 0;
}

int proxy_conf_check(const struct proxy_conf *c, struct err *e)
{
    if (c->n == 0)
        return err_set(e, ERR_CONFIG, "listeners", "no listeners: there is nothing to do");
    if (c->threads > PROXY_THREADS_MAX)
        return err_set(e, ERR_CONFIG, "threads", "threads: 0 to %d", PROXY_THREADS_MAX);
    for (size_t i = 0; i < c->n; i++) {
        if (listener_check(&c->listeners[i], e) < 0)
            return -1;
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->listeners[k].listen, c->listeners[i].listen) == 0)
                return refuse(&c->listeners[i], e, "two listeners at the same place");
    }
    return 0;
}
