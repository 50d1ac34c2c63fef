/* mayfly entry, mayfly token: who may be called what, and the first proof. All through the daemon's
 * admin socket, which validates; nothing is decided here. */
#include "base/clock.h"
#include "cmd/cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 32
#define MONTH (30L * 86400)

static const char group_help[] =
    "usage: mayfly entry create|list|show|update|delete [OPTION...]\n"
    "\n"
    "  create        register an identity\n"
    "  list          all of them\n"
    "  show WHICH    one, by SPIFFE ID or entry id\n"
    "  update WHICH  change what is named; counts the revision up\n"
    "  delete WHICH  no further certificate for it\n"
    "\n"
    "Example:\n"
    "  mayfly entry create --id spiffe://example.org/web --dns web.example.org --ttl 5m\n";

static const char create_help[] =
    "usage: mayfly entry create --id SPIFFE-ID [OPTION...]\n"
    "       mayfly entry update WHICH [OPTION...]\n"
    "\n"
    "      --id SPIFFE-ID      the identity, e.g. spiffe://example.org/web\n"
    "  -s, --selector S        type:value that the evidence must show; repeatable, all must match.\n"
    "                          Without any, only a join token made for this identity, or an SVID\n"
    "                          of its own, proves it\n"
    "      --dns NAME          DNS name the certificate may carry besides; repeatable\n"
    "      --ttl DURATION      lifetime of its certificates, e.g. 5m (default: the authority's)\n"
    "      --auditor           its SVIDs may search the log over HTTP (audit.access: mtls)\n"
    "      --no-auditor        no longer\n"
    "      --hint TEXT         tells a workload that is given several identities what this one is for,\n"
    "                          e.g. internal; at most 64 characters of ASCII, '' for none\n"
    "      --parent SPIFFE-ID  the agent that alone may obtain it, for a workload that shows the selectors\n"
    "                          (default: the authority itself, and the workload speaks for itself)\n"
    "      --revision N        update only this revision; refused if somebody was faster\n"
    "\n" CLI_COMMON_HELP
    "\n"
    "update replaces what is named and keeps the rest; --selector '' and --dns '' empty a list.\n"
    "\n"
    "Examples:\n"
    "  mayfly entry create --id spiffe://example.org/web --dns web.example.org --ttl 5m\n"
    "  mayfly entry create --id spiffe://example.org/host/web1          the agent of a host, and what it runs:\n"
    "  mayfly entry create --id spiffe://example.org/shop --parent spiffe://example.org/host/web1 \\\n"
    "         --selector unix:user:shop --selector systemd:unit:shop.service\n";

static const char which_help[] =
    "usage: mayfly entry list [OPTION...]\n"
    "       mayfly entry show WHICH [OPTION...]\n"
    "       mayfly entry delete WHICH [OPTION...]\n"
    "\n"
    "WHICH is a SPIFFE ID or an entry id.\n"
    "\n" CLI_COMMON_HELP
    "\n"
    "Example:\n"
    "  mayfly entry show spiffe://example.org/web\n";

static const char token_group_help[] =
    "usage: mayfly token create [OPTION...]\n"
    "\n"
    "  create   a join token: proves an agent once, at its first start\n";

static const char token_help[] =
    "usage: mayfly token create --id SPIFFE-ID [OPTION...]\n"
    "\n"
    "Makes a join token: used once, kept only as a hash, gone after its lifetime. It carries the\n"
    "hash of the authority's root, so that an agent needs nothing else to trust the server.\n"
    "\n"
    "      --id SPIFFE-ID    the registered identity it proves\n"
    "  -s, --selector S      selector it gives (type:value); repeatable\n"
    "      --ttl DURATION    how long it can be used, e.g. 10m (default: as configured)\n"
    "\n" CLI_COMMON_HELP
    "\n"
    "Example:\n"
    "  mayfly token create --id spiffe://example.org/web --ttl 10m\n";

struct entry_args {
    struct cli cli;
    const char *id, *parent, *hint, *selectors[LIST_MAX], *dns[LIST_MAX];
    size_t selectors_count, dns_count;
    bool selectors_named, dns_named, auditor_named, auditor;
    unsigned ttl;
    long revision;
};

static int list_add(const char **list, size_t *n, bool *named, const char *what, struct err *e)
{
    *named = true;
    if (!*optarg)
        return 0;
    if (*n == LIST_MAX)
        return err_set(e, ERR_USAGE, "arguments", "at most %d of %s", LIST_MAX, what);
    return cli_text(&list[(*n)++], what, e);
}

/* 0, or an exit code + 1 (so that usage errors leave at once). */
static int entry_args_parse(struct entry_args *a, int argc, char **argv, const char *command, const char *help)
{
    enum { OPT_ID = 256, OPT_DNS, OPT_TTL, OPT_PARENT, OPT_REVISION, OPT_AUDITOR, OPT_NO_AUDITOR, OPT_HINT };
    static const struct option options[] = {
        {"id", required_argument, NULL, OPT_ID},         {"selector", required_argument, NULL, 's'},
        {"dns", required_argument, NULL, OPT_DNS},       {"ttl", required_argument, NULL, OPT_TTL},
        {"parent", required_argument, NULL, OPT_PARENT}, {"revision", required_argument, NULL, OPT_REVISION},
        {"auditor", no_argument, NULL, OPT_AUDITOR},     {"no-auditor", no_argument, NULL, OPT_NO_AUDITOR},
        {"hint", required_argument, NULL, OPT_HINT},
        CLI_COMMON_OPTIONS};
    struct err e = {0};
    for (int o, rc = 0; (o = args_getopt(argc, argv, "d:s:h", options, command)) != -1; rc = 0) {
        switch (o) {
        case OPT_ID: rc = cli_text(&a->id, "--id", &e); break;
        case 's': rc = list_add(a->selectors, &a->selectors_count, &a->selectors_named, "--selector", &e); break;
        case OPT_DNS: rc = list_add(a->dns, &a->dns_count, &a->dns_named, "--dns", &e); break;
        case OPT_TTL: rc = args_duration(optarg, MONTH, "--ttl", &a->ttl, &e); break;
        case OPT_PARENT: rc = cli_text(&a->parent, "--parent", &e); break;
        case OPT_HINT: rc = cli_text(&a->hint, "--hint", &e); break;
        case OPT_AUDITOR:
        case OPT_NO_AUDITOR:
            a->auditor_named = true;
            a->auditor = o == OPT_AUDITOR;
            break;
        case OPT_REVISION: rc = args_number(optarg, 1, 1L << 40, "--revision", &a->revision, &e); break;
        default:
            if (!cli_common(&a->cli, o, help))
                return ARGS_USAGE + 1;
        }
        if (rc < 0)
            return cli_fail(&a->cli, command, &e) + 1;
    }
    return 0;
}

static json_t *string_array(const char *const *list, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, json_string(list[i]));
    return array;
}

static void put_named(json_t *doc, const struct entry_args *a)
{
    if (a->id)
        json_object_set_new(doc, "spiffe_id", json_string(a->id));
    if (a->parent)
        json_object_set_new(doc, "parent", json_string(a->parent));
    if (a->selectors_named)
        json_object_set_new(doc, "selectors", string_array(a->selectors, a->selectors_count));
    if (a->dns_named)
        json_object_set_new(doc, "dns", string_array(a->dns, a->dns_count));
    if (a->ttl)
        json_object_set_new(doc, "ttl", json_integer(a->ttl));
    if (a->auditor_named)
        json_object_set_new(doc, "auditor", json_boolean(a->auditor));
    if (a->hint)
        json_object_set_new(doc, "hint", json_string(a->hint));
    if (a->revision)
        json_object_set_new(doc, "revision", json_integer(a->revision));
}

/* --- printing --------------------------------------------------------------------------------- */

static void join(char *dst, size_t cap, const json_t *array)
{
    size_t i, used = 0;
    json_t *v;
    *dst = 0;
    json_array_foreach(array, i, v)
    {
        int n = snprintf(dst + used, cap - used, "%s%s", i ? " " : "", json_string_value(v));
        if (n < 0 || (size_t)n >= cap - used)
            return;
        used += (size_t)n;
    }
}

static const char *member(const json_t *doc, const char *key)
{
    const char *s = json_string_value(json_object_get(doc, key));
    return s ? s : "";
}

static void ttl_words(char dst[32], const json_t *doc)
{
    long long ttl = json_integer_value(json_object_get(doc, "ttl"));
    if (ttl)
        snprintf(dst, 32, "%llds", ttl);
    else
        snprintf(dst, 32, "default");
}

/* What obtains an entry without selectors: behind an agent (any parent but the authority), nothing does. */
static const char *without_selectors(const json_t *x)
{
    static const char self[] = "/mayfly/server";
    size_t n = strlen(member(x, "parent"));
    bool behind = n >= sizeof self && strcmp(member(x, "parent") + n - (sizeof self - 1), self) != 0;
    return behind ? "none: nothing that the agent could vouch for" : "(a join token made for it, or its own SVID)";
}

static void print_entry(const json_t *x)
{
    char selectors[4096], dns[4096], ttl[32], when[64];
    join(selectors, sizeof selectors, json_object_get(x, "selectors"));
    join(dns, sizeof dns, json_object_get(x, "dns"));
    ttl_words(ttl, x);
    cli_when(when, sizeof when, json_integer_value(json_object_get(x, "updated")));
    const char *hint = *member(x, "hint") ? member(x, "hint") : "-";
    printf("SPIFFE ID  %s\nentry id   %s\nrevision   %lld\nparent     %s\nselectors  %s\nDNS names  %s\nlifetime   %s\n"
           "hint       %s\nmay search %s\nchanged    %s\n",
           member(x, "spiffe_id"), member(x, "id"), (long long)json_integer_value(json_object_get(x, "revision")),
           member(x, "parent"), *selectors ? selectors : without_selectors(x), *dns ? dns : "-", ttl, hint,
           json_is_true(json_object_get(x, "auditor")) ? "yes: an auditor" : "no", when);
}

static void print_json(const json_t *doc)
{
    json_dumpf(doc, stdout, JSON_COMPACT);
    putchar('\n');
}

/* --- verbs --------------------------------------------------------------------------------------- */

/* Path of one entry: the id is put percent-encoded after the slash. */
static void entry_path(char dst[8192], const char *which)
{
    size_t n = (size_t)snprintf(dst, 8192, "/admin/v1/entries/");
    for (const char *s = which; *s && n < 8186; s++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *s))
            dst[n++] = *s;
        else
            n += (size_t)snprintf(dst + n, 8192 - n, "%%%02X", (unsigned char)*s);
    }
    dst[n] = 0;
}

/* One request, one answer; `words` prints it for people. */
static int ask_and_print(const struct cli *c, const char *command, const char *method, const char *path, json_t *body,
                         void (*words)(const json_t *))
{
    struct err e = {0};
    json_t *answer = NULL;
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct config *config = cli_config(c, &e);
    int rc = config ? cli_ask(config, method, path, text, &answer, &e) : -1;
    if (rc == 0 && c->json)
        print_json(answer);
    else if (rc == 0)
        words(answer);
    int code = rc < 0 ? cli_fail(c, command, &e) : ARGS_OK;
    json_decref(answer);
    json_decref(body);
    free(text);
    config_free(config);
    return code;
}

static int need_which(const struct entry_args *a, int argc, char **argv, const char *command)
{
    if (optind + 1 == argc)
        return 0;
    struct err e = {0};
    err_set(&e, ERR_USAGE, "arguments", "one SPIFFE ID or entry id is needed; see '%s --help'", command);
    return cli_fail(&a->cli, command, &e) + 1;
}

static int entry_create(int argc, char **argv)
{
    struct entry_args a = {0};
    int usage = entry_args_parse(&a, argc, argv, "mayfly entry create", create_help);
    if (usage)
        return usage - 1;
    if (args_no_operands(argc, argv, "mayfly entry create") < 0)
        return ARGS_USAGE;
    if (!a.id) {
        struct err e = {0};
        err_set(&e, ERR_USAGE, "arguments", "--id is needed; see 'mayfly entry create --help'");
        return cli_fail(&a.cli, "mayfly entry create", &e);
    }
    json_t *doc = json_object();
    put_named(doc, &a);
    return ask_and_print(&a.cli, "mayfly entry create", "POST", "/admin/v1/entries", doc, print_entry);
}

static int entry_update(int argc, char **argv)
{
    struct entry_args a = {0};
    int usage = entry_args_parse(&a, argc, argv, "mayfly entry update", create_help);
    if (!usage)
        usage = need_which(&a, argc, argv, "mayfly entry update");
    if (usage)
        return usage - 1;
    char path[8192];
    struct err e = {0};
    json_t *doc = NULL;
    entry_path(path, argv[optind]);
    /* What is not named stays: read, change, write back under the revision that was read. */
    struct config *config = cli_config(&a.cli, &e);
    int rc = config ? cli_ask(config, "GET", path, NULL, &doc, &e) : -1;
    config_free(config);
    if (rc < 0)
        return cli_fail(&a.cli, "mayfly entry update", &e);
    entry_path(path, member(doc, "id"));
    put_named(doc, &a);
    json_object_del(doc, "created");
    json_object_del(doc, "updated");
    json_object_del(doc, "id");
    return ask_and_print(&a.cli, "mayfly entry update", "PUT", path, doc, print_entry);
}

static int entry_show(int argc, char **argv)
{
    struct entry_args a = {0};
    int usage = entry_args_parse(&a, argc, argv, "mayfly entry show", which_help);
    if (!usage)
        usage = need_which(&a, argc, argv, "mayfly entry show");
    if (usage)
        return usage - 1;
    char path[8192];
    entry_path(path, argv[optind]);
    return ask_and_print(&a.cli, "mayfly entry show", "GET", path, NULL, print_entry);
}

static void print_deleted(const json_t *x)
{
    printf("deleted %s; certificates that live still end within their lifetime\n",
           x && *member(x, "spiffe_id") ? member(x, "spiffe_id") : "the entry");
}

static int entry_delete(int argc, char **argv)
{
    struct entry_args a = {0};
    int usage = entry_args_parse(&a, argc, argv, "mayfly entry delete", which_help);
    if (!usage)
        usage = need_which(&a, argc, argv, "mayfly entry delete");
    if (usage)
        return usage - 1;
    char path[8192];
    entry_path(path, argv[optind]);
    return ask_and_print(&a.cli, "mayfly entry delete", "DELETE", path, NULL, print_deleted);
}

/* Pages through the daemon's list, adding each page's entries to all. */
static int list_all(const struct cli *c, json_t *all, struct err *e)
{
    struct config *config = cli_config(c, e);
    char path[8192] = "/admin/v1/entries?limit=1000";
    int rc = config ? 0 : -1;
    while (rc == 0) {
        json_t *answer = NULL;
        if ((rc = cli_ask(config, "GET", path, NULL, &answer, e)) < 0)
            break;
        json_array_extend(all, json_object_get(answer, "entries"));
        char next[8192];
        bool more = json_is_string(json_object_get(answer, "next"));
        if (more)
            entry_path(next, member(answer, "next"));
        json_decref(answer);
        if (!more)
            break;
        snprintf(path, sizeof path, "/admin/v1/entries?limit=1000&after=%s", strrchr(next, '/') + 1);
    }
    config_free(config);
    return rc;
}

static int entry_list(int argc, char **argv)
{
    struct entry_args a = {0};
    struct err e = {0};
    int usage = entry_args_parse(&a, argc, argv, "mayfly entry list", which_help);
    if (usage)
        return usage - 1;
    if (args_no_operands(argc, argv, "mayfly entry list") < 0)
        return ARGS_USAGE;
    json_t *all = json_array();
    if (list_all(&a.cli, all, &e) < 0) {
        json_decref(all);
        return cli_fail(&a.cli, "mayfly entry list", &e);
    }
    if (a.cli.json) {
        json_t *doc = json_pack("{s:O}", "entries", all);
        print_json(doc);
        json_decref(doc);
    } else if (json_array_size(all) == 0) {
        puts("no entries yet: make one with 'mayfly entry create'");
    } else {
        struct cli_table t = {.columns = 5};
        cli_table_row(&t, "SPIFFE ID", "REVISION", "LIFETIME", "DNS NAMES", "SELECTORS");
        size_t i;
        json_t *x;
        json_array_foreach(all, i, x)
        {
            char selectors[1024], dns[1024], ttl[32], revision[32];
            join(selectors, sizeof selectors, json_object_get(x, "selectors"));
            join(dns, sizeof dns, json_object_get(x, "dns"));
            ttl_words(ttl, x);
            snprintf(revision, sizeof revision, "%lld", (long long)json_integer_value(json_object_get(x, "revision")));
            cli_table_row(&t, member(x, "spiffe_id"), revision, ttl, *dns ? dns : "-", *selectors ? selectors : "-");
        }
        cli_table_print(&t);
    }
    json_decref(all);
    return ARGS_OK;
}

static void print_token(const json_t *x)
{
    char when[64];
    cli_when(when, sizeof when, json_integer_value(json_object_get(x, "expires")));
    printf("%s\n", member(x, "token"));
    fprintf(stderr, "good once, until %s; shown only now\n", when);
}

static int token_create(int argc, char **argv)
{
    struct entry_args a = {0};
    int usage = entry_args_parse(&a, argc, argv, "mayfly token create", token_help);
    if (usage)
        return usage - 1;
    if (args_no_operands(argc, argv, "mayfly token create") < 0)
        return ARGS_USAGE;
    if (!a.id && !a.selectors_count) {
        struct err e = {0};
        err_set(&e, ERR_USAGE, "arguments", "--id or --selector is needed; see 'mayfly token create --help'");
        return cli_fail(&a.cli, "mayfly token create", &e);
    }
    json_t *doc = json_object();
    put_named(doc, &a);
    if (a.ttl) {
        json_object_del(doc, "ttl");
        json_object_set_new(doc, "lifetime", json_integer(a.ttl));
    }
    return ask_and_print(&a.cli, "mayfly token create", "POST", "/admin/v1/tokens", doc, print_token);
}

int cli_entry(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {{"create", entry_create}, {"list", entry_list}, {"show", entry_show},
                                            {"update", entry_update}, {"delete", entry_delete}};
    return cli_group("mayfly entry", group_help, verbs, 5, argc, argv);
}

int cli_token(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {{"create", token_create}};
    return cli_group("mayfly token", token_group_help, verbs, 1, argc, argv);
}
