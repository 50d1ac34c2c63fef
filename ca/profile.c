#include "ca/profile.h"
#include "base/key_spki.h"
#include "base/spiffe.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define RESERVED_PATH "/mayfly"
#define SERVER_PATH "/mayfly/server"

_Static_assert(CONFIG_NAMES_MAX <= CA_DNS_MAX, "one certificate takes all `names`");

/* --- the key ------------------------------------------------------------------------------------- */

/* As strict as where the CSR's signature was verified (base/key_spki), but for one thing: whether the
 * point lies on its curve. A frontend that lies about that gets a certificate for a key that nobody
 * can use. */
static int check_spki(struct profile_leaf *leaf, struct bytes der, struct err *e)
{
    struct spki s;
    if (spki_read(&s, der.p, der.len, e) < 0)
        return -1;
    leaf->spki = der;
    leaf->spki_algorithm = s.algorithm;
    leaf->spki_bits = s.bits;
    return 0;
}

/* --- the names ----------------------------------------------------------------------------------- */

static bool is_within(struct bytes name, const char *zone)
{
    size_t n = strlen(zone);
    if (name.len == n)
        return memcmp(name.p, zone, n) == 0;
    return name.len > n && name.p[name.len - n - 1] == '.' &&
           memcmp(name.p + name.len - n, zone, n) == 0;
}

static int check_workload_dns(struct bytes name, const struct config *policy, struct err *e)
{
    if (dns_name_check((const char *)name.p, name.len, e) < 0)
        return -1;
    for (size_t i = 0; i < policy->ca.permitted_dns_count; i++)
        if (is_within(name, policy->ca.permitted_dns[i]))
            return 0;
    return err_set(e, ERR_DENIED, "dns-permitted",
                   "DNS name \"%.*s\" is outside ca.permitted_dns; add its domain there and reload",
                   (int)name.len, (const char *)name.p);
}

static int check_workload_id(struct bytes spiffe_id, const struct config *policy, struct err *e)
{
    struct spiffe_id id;
    size_t n = strlen(RESERVED_PATH);
    if (spiffe_parse_workload(&id, (const char *)spiffe_id.p, spiffe_id.len, policy->trust_domain, e) < 0)
        return -1;
    if (id.path.len >= n && memcmp(id.path.p, RESERVED_PATH, n) == 0 &&
        (id.path.len == n || id.path.p[n] == '/'))
        return err_set(e, ERR_DENIED, "reserved",
                       "paths under " RESERVED_PATH "/ are the authority's own; choose another");
    return 0;
}

static int check_workload(struct profile_leaf *leaf, const struct config *policy,
                          const struct ca_issue *m, struct err *e)
{
    if (check_workload_id(m->spiffe_id, policy, e) < 0)
        return -1;
    for (size_t i = 0; i < m->dns_count; i++) {
        if (check_workload_dns(m->dns[i], policy, e) < 0)
            return -1;
        leaf->names[leaf->names_count++] = (struct profile_name){.text = m->dns[i]};
    }
    return 0;
}

static bool is_configured(struct bytes name, const struct config *policy)
{
    for (size_t i = 0; i < policy->names_count; i++)
        if (bytes_eq_str(name, policy->names[i]))
            return true;
    return false;
}

/* Text to address; 0 when it is none. Zones ("%eth0") are refused by inet_pton. */
static uint8_t read_address(struct bytes text, uint8_t out[16])
{
    char s[INET6_ADDRSTRLEN];
    if (text.len >= sizeof s || memchr(text.p, 0, text.len))
        return 0;
    memcpy(s, text.p, text.len);
    s[text.len] = 0;
    if (inet_pton(AF_INET, s, out) == 1)
        return 4;
    return inet_pton(AF_INET6, s, out) == 1 ? 16 : 0;
}

static int check_server(struct profile_leaf *leaf, const struct config *policy,
                        const struct ca_issue *m, struct err *e)
{
    char id[sizeof "spiffe://" SERVER_PATH + SPIFFE_TD_MAX];
    snprintf(id, sizeof id, "spiffe://%.*s" SERVER_PATH, SPIFFE_TD_MAX, policy->trust_domain);
    if (!bytes_eq_str(m->spiffe_id, id))
        return err_set(e, ERR_DENIED, "spiffe-id", "the server profile is for %s only", id);
    struct profile_name addresses[CA_DNS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < m->dns_count; i++) {
        struct profile_name name = {.text = m->dns[i]};
        if (!is_configured(name.text, policy))
            return err_set(e, ERR_DENIED, "dns-permitted",
                           "a name that the configuration's `names` does not have");
        name.address_len = read_address(name.text, name.address);
        if (name.address_len)
            addresses[n++] = name;
        else if (dns_name_check((const char *)name.text.p, name.text.len, e) < 0)
            return -1;
        else
            leaf->names[leaf->names_count++] = name;
    }
    for (size_t i = 0; i < n; i++)
        leaf->names[leaf->names_count++] = addresses[i];
    return 0;
}

/* --- what goes into the log beside the certificate ------------------------------------------------ */

static bool is_word(struct bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        uint8_t ch = b.p[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
              ch == '-' || ch == '_' || ch == '.'))
            return false;
    }
    return true;
}

static int check_log_fields(const struct config *policy, struct bytes attestor, struct bytes entry_id,
                            struct bytes requester, struct err *e)
{
    struct spiffe_id id;
    if (!is_word(attestor) || !is_word(entry_id))
        return err_set(e, ERR_DENIED, "log-fields",
                       "attestor and entry id may have letters, digits, '-', '_' and '.' only");
    if (requester.len &&
        spiffe_parse_workload(&id, (const char *)requester.p, requester.len, policy->trust_domain, e) < 0)
        return err_wrap(e, "requester");
    return 0;
}

static int check_lifetime(const struct config *policy, uint32_t lifetime, struct err *e)
{
    if (lifetime < 1 || lifetime > policy->ca.max_lifetime)
        return err_set(e, ERR_DENIED, "lifetime",
                       "lifetime of %u seconds; this authority gives 1 to %u (ca.max_lifetime)", lifetime,
                       policy->ca.max_lifetime);
    return 0;
}

int profile_check_jwt(const struct config *policy, const struct ca_jwt *m, struct err *e)
{
    if (check_workload_id(m->spiffe_id, policy, e) < 0 ||
        check_log_fields(policy, m->attestor, m->entry_id, m->requester, e) < 0)
        return -1;
    return check_lifetime(policy, m->lifetime, e);
}

int profile_check(struct profile_leaf *leaf, const struct config *policy, const struct ca_issue *m,
                  struct err *e)
{
    leaf->uri = m->spiffe_id;
    leaf->names_count = 0;
    leaf->lifetime = m->lifetime;
    leaf->not_before = leaf->not_after = 0;
    int r;
    switch (m->profile) {
    case CA_PROFILE_WORKLOAD: r = check_workload(leaf, policy, m, e); break;
    case CA_PROFILE_SERVER: r = check_server(leaf, policy, m, e); break;
    default: r = err_set(e, ERR_DENIED, "profile", "there is no profile %u", m->profile);
    }
    if (r < 0 || check_spki(leaf, m->spki, e) < 0 ||
        check_log_fields(policy, m->attestor, m->entry_id, m->requester, e) < 0)
        return -1;
    return check_lifetime(policy, m->lifetime, e);
}

int profile_validity(struct profile_leaf *leaf, int64_t now, int64_t issuer_not_after, struct err *e)
{
    leaf->not_before = now - PROFILE_BACKDATE;
    leaf->not_after = now + leaf->lifetime;
    if (leaf->not_after > issuer_not_after)
        return err_set(e, ERR_DENIED, "issuer-lifetime",
                       "the certificate would outlive the issuing certificate; make a new issuing "
                       "certificate, or ask for a shorter lifetime");
    return 0;
}
