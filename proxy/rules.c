/* Who may talk with us: SPIFFE IDs, prefixes of whole path segments, trust domains. IDs are compared byte by
 * byte, as the standard has it; a prefix ends where a segment ends, so that /a allows /a/x and never /ab. */
#include "base/spiffe.h"
#include "proxy/proxy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME "spiffe://"

static int refuse(struct err *e, const char *text, const char *why)
{
    return err_set(e, ERR_CONFIG, "allow",
                   "allow '%.200s': %s. Write an ID (spiffe://example.org/web), everything beneath one "
                   "(spiffe://example.org/web/*), or a trust domain (spiffe://example.org)",
                   text, why);
}

static bool starts(const char *s, const char *word)
{
    return strncmp(s, word, strlen(word)) == 0;
}

/* The ID that a rule's text stands for, and the rule's kind. */
static enum proxy_rule_kind rule_read(char *id, size_t cap, const char *text)
{
    size_t n;
    enum proxy_rule_kind kind = PROXY_RULE_ID;
    if (starts(text, "domain:")) {
        const char *td = text + strlen("domain:");
        snprintf(id, cap, "%s%s", starts(td, SCHEME) ? "" : SCHEME, td);
        return PROXY_RULE_DOMAIN;
    }
    if (starts(text, "id:")) {
        snprintf(id, cap, "%s", text + strlen("id:"));
        return kind;
    }
    if (starts(text, "prefix:")) {
        kind = PROXY_RULE_PREFIX;
        text += strlen("prefix:");
    }
    snprintf(id, cap, "%s", text);
    n = strlen(id);
    if (n > 2 && strcmp(id + n - 2, "/*") == 0) {
        id[n - 2] = 0;
        return PROXY_RULE_PREFIX;
    }
    if (kind == PROXY_RULE_PREFIX && n > strlen(SCHEME) + 1 && id[n - 1] == '/')
        id[n - 1] = 0;
    return kind;
}

int proxy_rules_add(struct proxy_rules *r, const char *text, struct err *e)
{
    char id[SPIFFE_ID_MAX + 32];
    struct spiffe_id parsed;
    struct err why = {0};
    if (r->n == PROXY_RULES_MAX)
        return err_set(e, ERR_CONFIG, "allow", "more than %d rules", PROXY_RULES_MAX);
    if (strlen(text) > SPIFFE_ID_MAX)
        return refuse(e, text, "too long");
    enum proxy_rule_kind kind = rule_read(id, sizeof id, text);
    if (spiffe_parse(&parsed, id, strlen(id), &why) < 0)
        return refuse(e, text, why.msg);
    if (kind == PROXY_RULE_DOMAIN && parsed.path.len)
        return refuse(e, text, "a trust domain has no path");
    if (starts(text, "id:") && parsed.path.len == 0)
        return refuse(e, text, "no workload has a trust domain's own ID");
    if (parsed.path.len == 0) /* no workload has the trust domain's own ID: the domain is meant */
        kind = PROXY_RULE_DOMAIN;
    struct proxy_rule *list = realloc(r->list, (r->n + 1) * sizeof *list);
    char *copy = strdup(id);
    if (list)
        r->list = list;
    if (!list || !copy) {
        free(copy);
        return err_set(e, ERR_INTERNAL, "memory", "out of memory");
    }
    r->list[r->n++] = (struct proxy_rule){kind, copy};
    return 0;
}

static bool rule_allows(const struct proxy_rule *r, const char *id)
{
    size_t n = strlen(r->text);
    if (r->kind == PROXY_RULE_ID)
        return strcmp(r->text, id) == 0;
    return strncmp(r->text, id, n) == 0 && id[n] == '/' && id[n + 1];
}

const struct proxy_rule *proxy_rules_match(const struct proxy_rules *r, const char *id)
{
    for (size_t i = 0; i < r->n; i++)
        if (rule_allows(&r->list[i], id))
            return &r->list[i];
    return NULL;
}

void proxy_rules_free(struct proxy_rules *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->list[i].text);
    free(r->list);
    *r = (struct proxy_rules){0};
}
