/* SPIFFE IDs and DNS names: what parses consists of what the standard allows, put together again
 * gives the same bytes, and no message repeats a foreign byte. */
#include "base/spiffe.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void demand(bool ok)
{
    if (!ok)
        abort();
}

static void check_message(const struct err *e)
{
    demand(e->code != ERR_NONE && e->rule[0]);
    for (const char *p = e->msg; *p; p++)
        demand(*p >= ' ' && *p < 0x7f);
}

static void check_id(const char *s, size_t len)
{
    struct err e = {0};
    struct spiffe_id id;
    if (spiffe_parse(&id, s, len, &e) < 0) {
        check_message(&e);
        return;
    }
    demand(len <= SPIFFE_ID_MAX && id.trust_domain.len >= 1 &&
           id.trust_domain.len <= SPIFFE_TD_MAX);
    demand(9 + id.trust_domain.len + id.path.len == len);
    demand(memcmp(s, "spiffe://", 9) == 0 && id.trust_domain.p == (const uint8_t *)s + 9);
    for (size_t i = 0; i < len; i++)
        demand(s[i] > ' ' && s[i] < 0x7f && !strchr("%?#@\\", s[i]) && (i == 6 || s[i] != ':'));
    if (id.path.len) {
        demand(id.path.p[0] == '/' && id.path.len > 1 && id.path.p[id.path.len - 1] != '/');
        demand(!memmem(id.path.p, id.path.len, "//", 2) &&
               !memmem(id.path.p, id.path.len, "/../", 4) &&
               !memmem(id.path.p, id.path.len, "/./", 3));
    }
    int r = spiffe_parse_workload(&id, s, len, "example.org", &e);
    if (r < 0)
        check_message(&e);
    else
        demand(len > 21 && memcmp(s, "spiffe://example.org/", 21) == 0);
}

static void check_dns(const char *s, size_t len)
{
    struct err e = {0};
    if (dns_name_check(s, len, &e) < 0) {
        check_message(&e);
        return;
    }
    demand(len >= 1 && len <= 253 && s[0] != '.' && s[len - 1] != '.' && s[len - 1] != '-');
    for (size_t i = 0; i < len; i++)
        demand((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-' ||
               s[i] == '.' || (s[i] == '*' && i == 0 && len > 2 && s[1] == '.'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    check_id((const char *)data, len);
    check_dns((const char *)data, len);
    return 0;
}
