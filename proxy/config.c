/* The configuration file, YAML:
 *
 *   socket: unix:///run/mayfly/agent.sock
 *   http: 127.0.0.1:9901
 *   listeners:
 *     - {mode: server, listen: 0.0.0.0:8443, to: 127.0.0.1:8080, allow: [spiffe://example.org/web]}
 *
 * One pass over libyaml's document; every key is named in a table, everything else is refused with its line. */
#include "base/fileio.h"
#include "proxy/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct key;
struct reader {
    yaml_document_t doc;
    const struct key *key; /* whose value is being set: its name, its limits */
    struct proxy_conf *c;
    struct err *e;
};
typedef int set_cb(struct reader *r, void *into, const yaml_node_t *value);
struct key {
    const char *name;
    set_cb *set;
    size_t offset;
    unsigned min, max;
};

static int refuse(struct reader *r, const yaml_node_t *at, const char *what, const char *why)
{
    return err_set(r->e, ERR_CONFIG, "config-schema", "line %zu: %.100s: %.250s", at->start_mark.line + 1, what, why);
}

static const char *scalar(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}


static int set_text(struct reader *r, void *into, const yaml_node_t *n)
{
    char **dst = into;
    const char *s = scalar(n);
    if (!s || n->data.scalar.length > 4095)
        return refuse(r, n, r->key->name, "a text of at most 4095 bytes, please");
    free(*dst);
    *dst = strdup(s);
    return *dst ? 0 : err_set(r->e, ERR_INTERNAL, "memory", "out of memory");
}

static int set_bool(struct reader *r, void *into, const yaml_node_t *n)
{
    const char *s = scalar(n);
    if (!s || (strcmp(s, "true") != 0 && strcmp(s, "false") != 0))
        return refuse(r, n, r->key->name, "true or false, please");
    *(bool *)into = s[0] == 't';
    return 0;
}

static int set_number(struct reader *r, void *into, const yaml_node_t *n)
{
    char why[80], *end = NULL;
    const char *s = scalar(n);
    unsigned long v = s && *s >= '0' && *s <= '9' ? strtoul(s, &end, 10) : 0;
    snprintf(why, sizeof why, "a number from %u to %u, please", r->key->min, r->key->max);
    if (!end || *end || strlen(s) > 9 || v < r->key->min || v > r->key->max)
        return refuse(r, n, r->key->name, why);
    *(unsigned *)into = (unsigned)v;
    return 0;
}

static int set_octal(struct reader *r, void *into, const yaml_node_t *n)
{
    char *end = NULL;
    const char *s = scalar(n);
    unsigned long v = s && *s >= '0' && *s <= '7' ? strtoul(s, &end, 8) : 0;
    if (!end || *end || strlen(s) > 4 || v > 0777)
        return refuse(r, n, r->key->name, "a mode such as \"0660\", please");
    *(mode_t *)into = (mode_t)v;
    return 0;
}

static int set_mode(struct reader *r, void *into, const yaml_node_t *n)
{
    const char *s = scalar(n);
    if (!s || (strcmp(s, "server") != 0 && strcmp(s, "client") != 0))
        return refuse(r, n, r->key->name, "server (TLS comes in) or client (TLS goes out), please");
    *(enum proxy_mode *)into = s[0] == 's' ? PROXY_SERVER : PROXY_CLIENT;
    return 0;
}

/* false, v2: the protocol's version is said, so that another one can be. */
static int set_send_proxy(struct reader *r, void *into, const yaml_node_t *n)
{
    const char *s = scalar(n);
    if (!s || (strcmp(s, "v2") != 0 && strcmp(s, "false") != 0))
        return refuse(r, n, r->key->name, "v2 or false, please");
    *(bool *)into = s[0] == 'v';
    return 0;
}

static int set_level(struct reader *r, void *into, const yaml_node_t *n)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    const char *s = scalar(n);
    for (int i = 0; s && i < 4; i++)
        if (strcmp(s, names[i]) == 0) {
            *(enum log_level *)into = (enum log_level)i;
            return 0;
        }
    return refuse(r, n, r->key->name, "debug, info, warn or error, please");
}

static int set_format(struct reader *r, void *into, const yaml_node_t *n)
{
    static const char *const names[] = {"auto", "text", "json"};
    const char *s = scalar(n);
    for (int i = 0; s && i < 3; i++)
        if (strcmp(s, names[i]) == 0) {
            *(enum log_format *)into = (enum log_format)i;
            return 0;
        }
    return refuse(r, n, r->key->name, "auto, text or json, please");
}

/* Calls one for each text of a list, or for one that stands alone. */
typedef int item_cb(struct proxy_listener_conf *l, const char *text, struct err *e);
static int each(struct reader *r, struct proxy_listener_conf *l, const yaml_node_t *n, item_cb *one)
{
    const char *s = scalar(n);
    const char *name = r->key->name;
    if (s)
        return one(l, s, r->e) < 0 ? err_wrap(r->e, "line %zu", n->start_mark.line + 1) : 0;
    if (n->type != YAML_SEQUENCE_NODE)
        return refuse(r, n, name, "a list of texts, please");
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->doc, *i);
        s = scalar(item);
        if (!s)
            return refuse(r, item, name, "a list of texts, please");
        if (one(l, s, r->e) < 0)
            return err_wrap(r->e, "line %zu", item->start_mark.line + 1);
    }
    return 0;
}

static int one_rule(struct proxy_listener_conf *l, const char *text, struct err *e)
{
    return proxy_rules_add(&l->allow, text, e);
}

static int one_network(struct proxy_listener_conf *l, const char *text, struct err *e)
{
    if (l->trusted_count == PROXY_TRUSTED_MAX)
        return err_set(e, ERR_CONFIG, "network", "more than %d networks", PROXY_TRUSTED_MAX);
    return proxy_network_parse(&l->trusted[l->trusted_count++], text, e);
}

static int one_protocol(struct proxy_listener_conf *l, const char *text, struct err *e)
{
    size_t n = strlen(text);
    if (n == 0 || l->alpn_len + n + 1 > sizeof l->alpn)
        return err_set(e, ERR_CONFIG, "alpn", "protocols of 1 to 255 bytes, 255 in all");
    l->alpn[l->alpn_len] = (uint8_t)n;
    memcpy(l->alpn + l->alpn_len + 1, text, n);
    l->alpn_len += n + 1;
    return 0;
}

static int set_allow(struct reader *r, void *into, const yaml_node_t *n)
{
    return each(r, into, n, one_rule);
}
static int set_trusted(struct reader *r, void *into, const yaml_node_t *n)
{
    return each(r, into, n, one_network);
}
static int set_alpn(struct reader *r, void *into, const yaml_node_t *n)
{
    return each(r, into, n, one_protocol);
}

#define L(member) offsetof(struct proxy_listener_conf, member)
static const struct key listener_keys[] = {
    {"mode", set_mode, L(mode), 0, 0},
    {"name", set_text, L(name), 0, 0},
    {"listen", set_text, L(listen), 0, 0},
    {"to", set_text, L(to), 0, 0},
    {"id", set_text, L(id), 0, 0},
    {"sni", set_text, L(sni), 0, 0},
    {"allow", set_allow, 0, 0, 0},
    {"require_log_proof", set_bool, L(require_log_proof), 0, 0},
    {"crl_optional", set_bool, L(crl_optional), 0, 0},
    {"close_revoked", set_bool, L(close_revoked), 0, 0},
    {"send_proxy", set_send_proxy, L(send_proxy), 0, 0},
    {"accept_proxy", set_bool, L(accept_proxy), 0, 0},
    {"trusted_proxies", set_trusted, 0, 0, 0},
    {"alpn", set_alpn, 0, 0, 0},
    {"socket_mode", set_octal, L(mode_bits), 0, 0},
    {"handshake_timeout_ms", set_number, L(handshake_timeout), 1, 600000},
    {"connect_timeout_ms", set_number, L(connect_timeout), 1, 600000},
    {"max_connections", set_number, L(max_connections), 1, 10000000},
    {"max_handshakes", set_number, L(max_handshakes), 1, 1000000},
    {"max_per_address", set_number, L(max_per_address), 0, 1000000},
    {"max_connection_age", set_number, L(max_connection_age), 0, 31536000},
    {"half_closed_timeout", set_number, L(half_closed_timeout), 0, 31536000},
    {0}};
#undef L

static int read_map(struct reader *r, void *into, const yaml_node_t *map, const struct key *keys, const char *what);

static int set_listeners(struct reader *r, void *into, const yaml_node_t *n)
{
    if (n->type != YAML_SEQUENCE_NODE)
        return refuse(r, n, "listeners", "a list, please");
    for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        struct proxy_listener_conf l;
        proxy_listener_defaults(&l);
        int rc = read_map(r, &l, yaml_document_get_node(&r->doc, *i), listener_keys, "a listener");
        struct err none;
        if (proxy_conf_add(r->c, &l, rc < 0 ? &none : r->e) < 0 || rc < 0) /* it owns l's texts from here on */
            return -1;
    }
    return 0;
}

#define C(member) offsetof(struct proxy_conf, member)
static const struct key logging_keys[] = {
    {"level", set_level, C(level), 0, 0}, {"format", set_format, C(format), 0, 0}, {0}};
static int set_logging(struct reader *r, void *into, const yaml_node_t *n)
{
    return read_map(r, r->c, n, logging_keys, "logging");
}
static const struct key root_keys[] = {
    {"socket", set_text, C(socket), 0, 0},
    {"identity", set_text, C(identity), 0, 0},
    {"http", set_text, C(http), 0, 0},
    {"threads", set_number, C(threads), 0, PROXY_THREADS_MAX},
    {"drain_timeout", set_number, C(drain_timeout), 0, 86400},
    {"metrics_peers", set_number, C(metrics_peers), 0, 100000},
    {"logging", set_logging, 0, 0, 0},
    {"listeners", set_listeners, 0, 0, 0},
    {0}};
#undef C

static int read_pair(struct reader *r, void *into, const yaml_node_t *key, const yaml_node_t *value, const struct key *keys,
                     uint64_t *seen)
{
    const char *name = scalar(key);
    for (size_t i = 0; name && keys[i].name; i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (*seen >> i & 1)
            return refuse(r, key, name, "it stands here twice");
        *seen |= UINT64_C(1) << i;
        r->key = &keys[i];
        return keys[i].set(r, (char *)into + keys[i].offset, value);
    }
    return refuse(r, key, name ? name : "?", "unknown key");
}

static int read_map(struct reader *r, void *into, const yaml_node_t *map, const struct key *keys, const char *what)
{
    uint64_t seen = 0;
    if (map->type != YAML_MAPPING_NODE)
        return refuse(r, map, what, "keys and values, please");
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++)
        if (read_pair(r, into, yaml_document_get_node(&r->doc, p->key), yaml_document_get_node(&r->doc, p->value), keys, &seen) < 0)
            return -1;
    return 0;
}

/* Texts are read as C strings later; a NUL would hide what follows it. */
static int check_nodes(struct reader *r)
{
    for (yaml_node_t *n = r->doc.nodes.start; n < r->doc.nodes.top; n++)
        if (n->type == YAML_SCALAR_NODE && memchr(n->data.scalar.value, 0, n->data.scalar.length))
            return refuse(r, n, "value", "NUL within it");
    yaml_node_t *root = yaml_document_get_root_node(&r->doc);
    if (!root || root->type != YAML_MAPPING_NODE)
        return err_set(r->e, ERR_CONFIG, "config-syntax", "line 1: the file must have keys, among them listeners:");
    return 0;
}

static int syntax(const yaml_parser_t *p, struct err *e)
{
    return err_set(e, ERR_CONFIG, "config-syntax", "line %zu: not YAML: %s", p->problem_mark.line + 1,
                   p->problem ? p->problem : "unreadable");
}

/* libyaml stops behind the first document; listeners in a second one would be missing without a word. */
static int check_end(yaml_parser_t *p, struct err *e)
{
    yaml_document_t next;
    if (!yaml_parser_load(p, &next))
        return syntax(p, e);
    const yaml_node_t *more = yaml_document_get_root_node(&next);
    int rc = more ? err_set(e, ERR_CONFIG, "config-syntax", "line %zu: a second document; put all into one",
                            more->start_mark.line + 1) : 0;
    yaml_document_delete(&next);
    return rc;
}

int proxy_conf_parse(struct proxy_conf *c, const char *yaml, size_t len, struct err *e)
{
    yaml_parser_t p;
    struct reader r = {.c = c, .e = e};
    if (len > PROXY_CONFIG_MAX)
        return err_set(e, ERR_CONFIG, "config-size", "more than %d bytes", PROXY_CONFIG_MAX);
    if (!yaml_parser_initialize(&p))
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    yaml_parser_set_input_string(&p, (const unsigned char *)yaml, len);
    int rc = yaml_parser_load(&p, &r.doc) ? 0 : syntax(&p, e);
    if (rc == 0) {
        rc = check_nodes(&r);
        if (rc == 0)
            rc = read_map(&r, c, yaml_document_get_root_node(&r.doc), root_keys, "the file");
        yaml_document_delete(&r.doc);
        if (rc == 0)
            rc = check_end(&p, e);
    }
    yaml_parser_delete(&p);
    return rc;
}

int proxy_conf_load(struct proxy_conf *c, const char *path, struct err *e)
{
    struct buf text;
    buf_init(&text, PROXY_CONFIG_MAX + 1);
    int rc = file_read(&text, path, PROXY_CONFIG_MAX, e);
    if (rc == 0)
        rc = proxy_conf_parse(c, text.p ? (const char *)text.p : "", text.len, e);
    if (rc == 0)
        rc = proxy_conf_check(c, e);
    buf_free(&text);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}
