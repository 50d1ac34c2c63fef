#include "base/spiffe.h"
#include <stdio.h>
#include <string.h>

#define SCHEME "spiffe://"

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_mark(char c)
{
    return c == '.' || c == '-' || c == '_';
}

static int refuse(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "spiffe-id", "not a SPIFFE ID: %s", why);
}

/* What a foreign character was probably meant as: it says more than its code. The input itself is
 * never repeated in the message. */
static int refuse_char(struct err *e, char c, bool in_trust_domain)
{
    char why[96];
    switch (c) {
    case '?':
        return refuse(e, "it has a query, which SPIFFE-ID section 2 does not allow");
    case '#':
        return refuse(e, "it has a fragment, which SPIFFE-ID section 2 does not allow");
    case '%':
        return refuse(e, "it has percent-encoding, which SPIFFE-ID section 2 does not allow");
    case '@':
        if (in_trust_domain)
            return refuse(e, "it has user information, which SPIFFE-ID section 2.1 does not allow");
        break;
    case ':':
        if (in_trust_domain)
            return refuse(e, "it has a port, which SPIFFE-ID section 2.1 does not allow");
        break;
    default:
        break;
    }
    if (in_trust_domain && is_upper(c))
        return refuse(e, "the trust domain has an upper-case letter; write it in lower case");
    snprintf(why, sizeof why, "byte 0x%02x in the %s, outside [%s0-9._-]", (unsigned char)c,
             in_trust_domain ? "trust domain" : "path", in_trust_domain ? "a-z" : "A-Za-z");
    return refuse(e, why);
}

int spiffe_check_trust_domain(const char *td, size_t len, struct err *e)
{
    if (len == 0)
        return refuse(e, "the trust domain is empty");
    if (len > SPIFFE_TD_MAX)
        return refuse(e, "the trust domain is longer than 255 bytes");
    for (size_t i = 0; i < len; i++)
        if (!is_lower(td[i]) && !is_digit(td[i]) && !is_mark(td[i]))
            return refuse_char(e, td[i], true);
    return 0;
}

/* SPIFFE-ID section 2.2: p starts with its slash. */
static int check_path(const char *p, size_t len, struct err *e)
{
    const char *end = p + len;
    while (p < end) {
        const char *segment = ++p;
        while (p < end && *p != '/') {
            if (!is_lower(*p) && !is_upper(*p) && !is_digit(*p) && !is_mark(*p))
                return refuse_char(e, *p, false);
            p++;
        }
        size_t n = (size_t)(p - segment);
        if (n == 0)
            return refuse(e, p == end ? "the path ends with a slash"
                                      : "the path has an empty segment");
        if ((n == 1 && segment[0] == '.') || (n == 2 && segment[0] == '.' && segment[1] == '.'))
            return refuse(e, "the path has a segment \".\" or \"..\"");
    }
    return 0;
}

int spiffe_parse(struct spiffe_id *id, const char *s, size_t len, struct err *e)
{
    const size_t scheme = sizeof SCHEME - 1;
    *id = (struct spiffe_id){{(const uint8_t *)"", 0}, {(const uint8_t *)"", 0}};
    if (len == 0)
        return refuse(e, "it is empty");
    if (len > SPIFFE_ID_MAX)
        return refuse(e, "it is longer than 2048 bytes");
    if (len < scheme || memcmp(s, SCHEME, scheme) != 0)
        return refuse(e, "it does not begin with spiffe://");
    const char *td = s + scheme, *end = s + len;
    const char *slash = memchr(td, '/', (size_t)(end - td));
    size_t td_len = (size_t)((slash ? slash : end) - td);
    if (spiffe_check_trust_domain(td, td_len, e) < 0)
        return -1;
    if (slash && check_path(slash, (size_t)(end - slash), e) < 0)
        return -1;
    id->trust_domain = (struct bytes){(const uint8_t *)td, td_len};
    if (slash)
        id->path = (struct bytes){(const uint8_t *)slash, (size_t)(end - slash)};
    return 0;
}

int spiffe_parse_workload(struct spiffe_id *id, const char *s, size_t len, const char *trust_domain,
                          struct err *e)
{
    if (spiffe_parse(id, s, len, e) < 0)
        return -1;
    if (!bytes_eq_str(id->trust_domain, trust_domain))
        return err_set(e, ERR_REJECTED_ID, "trust-domain",
                       "the trust domain %.*s is not ours; this authority names %s only",
                       (int)id->trust_domain.len, (const char *)id->trust_domain.p, trust_domain);
    if (id->path.len == 0)
        return err_set(e, ERR_REJECTED_ID, "spiffe-path",
                       "spiffe://%s names the trust domain itself; a workload needs a path",
                       trust_domain);
    return 0;
}

static int refuse_dns(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "dns-name", "not a DNS name for a certificate: %s", why);
}

/* RFC 5280 section 4.2.1.6 (preferred name syntax), RFC 9525 section 6.3 (wildcard). */
int dns_name_check(const char *s, size_t len, struct err *e)
{
    if (len == 0)
        return refuse_dns(e, "it is empty");
    if (len > 253)
        return refuse_dns(e, "it is longer than 253 bytes");
    if (len > 2 && s[0] == '*' && s[1] == '.') {
        s += 2;
        len -= 2;
    }
    size_t label = 0;
    bool numeric = true;
    for (size_t i = 0; i <= len; i++) {
        if (i == len || s[i] == '.') {
            if (label == 0)
                return refuse_dns(e, "it has an empty label, or a dot at an end");
            if (s[i - 1] == '-')
                return refuse_dns(e, "a label ends with a hyphen");
            if (i == len)
                break;
            label = 0;
            numeric = true;
            continue;
        }
        if (!is_lower(s[i]) && !is_digit(s[i]) && s[i] != '-')
            return refuse_dns(e, is_upper(s[i]) ? "it has an upper-case letter"
                                                : "it has a character outside [a-z0-9-]");
        if (label == 0 && s[i] == '-')
            return refuse_dns(e, "a label begins with a hyphen");
        if (++label > 63)
            return refuse_dns(e, "a label is longer than 63 bytes");
        numeric = numeric && is_digit(s[i]);
    }
    if (numeric)
        return refuse_dns(e, "its last label is a number, as in an IP address");
    return 0;
}
