/* What may be asked, and who answers. */
#include "api/internal.h"
#include <string.h>

#define M_READ (M_GET | M_HEAD)

const struct route public_routes[] = {
    {M_POST, ROUTE_ACME_KID, ARG_NONE, "/acme/new-order", acme_new_order},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/acme/directory", acme_directory},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/acme/new-nonce", acme_new_nonce},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/acme/issuer", acme_issuer},
    {M_POST, ROUTE_ACME_JWK, ARG_NONE, "/acme/new-account", acme_new_account},
    {M_POST, ROUTE_ACME_KID, ARG_NONE, "/acme/new-jwt-svid", acme_new_jwt},
    {M_POST, ROUTE_ACME_ANY, ARG_NONE, "/acme/revoke-cert", acme_revoke_cert},
    {M_POST, ROUTE_ACME_KID, ARG_ID, "/acme/account/", acme_account},
    {M_POST, ROUTE_ACME_KID, ARG_ID, "/acme/order/", acme_order},
    {M_POST, ROUTE_ACME_KID, ARG_ID, "/acme/orders/", acme_orders},
    {M_POST, ROUTE_ACME_KID, ARG_ID, "/acme/authz/", acme_authz},
    {M_POST, ROUTE_ACME_KID, ARG_ID, "/acme/challenge/", acme_challenge},
    {M_POST, ROUTE_ACME_KID, ARG_ID, "/acme/finalize/", acme_finalize},
    {M_POST, ROUTE_ACME_KID, ARG_ID, "/acme/certificate/", acme_certificate},
    {M_POST, ROUTE_ACME_KID, ARG_NONE, "/acme/agent-entries", acme_agent_entries},
    {M_READ, ROUTE_PLAIN, ARG_REST, "/acme/renewal-info/", acme_renewal_info},
    {M_READ, ROUTE_PLAIN, ARG_REST, "/log/", public_log},
    {M_READ, ROUTE_PLAIN, ARG_REST, "/crl/", public_crl},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/spiffe/bundle", public_bundle},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/audit/v1/entries", audit_entries},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/audit/v1/stats", audit_statistics},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/ui", public_ui_bare},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/ui/", public_ui},
    {M_READ, ROUTE_PLAIN, ARG_REST, "/ui/", public_ui},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/healthz", public_health},
    {M_READ, ROUTE_PLAIN, ARG_NONE, "/readyz", public_ready},
    {0, ROUTE_PLAIN, ARG_NONE, NULL, NULL},
};

const struct route admin_routes[] = {
    {M_READ | M_POST, ROUTE_ADMIN, ARG_NONE, "/admin/v1/entries", admin_entries},
    {M_READ | M_PUT | M_DELETE, ROUTE_ADMIN, ARG_REST, "/admin/v1/entries/", admin_entry},
    {M_POST, ROUTE_ADMIN, ARG_NONE, "/admin/v1/tokens", admin_tokens},
    {M_READ | M_POST, ROUTE_ADMIN, ARG_NONE, "/admin/v1/revocations", admin_revocations},
    {M_READ, ROUTE_ADMIN, ARG_NONE, "/admin/v1/status", admin_status},
    {M_READ, ROUTE_ADMIN, ARG_NONE, "/audit/v1/entries", audit_entries},
    {M_READ, ROUTE_ADMIN, ARG_NONE, "/audit/v1/stats", audit_statistics},
    {0, ROUTE_ADMIN, ARG_NONE, NULL, NULL},
};

static const struct {
    char name[8];
    unsigned method;
} methods[] = {
    {"GET", M_GET}, {"HEAD", M_HEAD}, {"POST", M_POST}, {"PUT", M_PUT}, {"DELETE", M_DELETE},
};
#define METHODS (sizeof methods / sizeof *methods)

unsigned method_of(const char *name)
{
    for (size_t i = 0; i < METHODS; i++)
        if (strcmp(name, methods[i].name) == 0)
            return methods[i].method;
    return 0;
}

void methods_write(char dst[48], unsigned set)
{
    *dst = 0;
    for (size_t i = 0; i < METHODS; i++) {
        if (!(set & methods[i].method))
            continue;
        if (*dst)
            strcat(dst, ", ");
        strcat(dst, methods[i].name);
    }
}

static bool route_matches(const struct route *t, const char *path, const char **arg)
{
    size_t n = strlen(t->path);
    if (strncmp(path, t->path, n) != 0)
        return false;
    *arg = path + n;
    switch (t->arg) {
    case ARG_NONE:
        return !path[n];
    case ARG_ID:
        return acme_id_ok(path + n);
    default:
        return path[n] != 0;
    }
}

const struct route *route_find(const struct route *table, unsigned method, const char *path,
                               const char **arg, unsigned *allowed)
{
    *allowed = 0;
    for (const struct route *t = table; t->path; t++) {
        if (!route_matches(t, path, arg))
            continue;
        if (t->methods & method)
            return t;
        *allowed |= t->methods;
    }
    return NULL;
}
