/* A policy and requests that it lets pass, for tests to spoil. */
#ifndef UNIT_CA_REQUEST_H
#define UNIT_CA_REQUEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/key.h"
#include "ca/msg.h"

static inline struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static char test_td[] = "example.org", test_zone[] = "example.org", test_zone2[] = "svc.test";
static char test_name1[] = "localhost", test_name2[] = "127.0.0.1", test_name3[] = "::1";
static char test_url[] = "https://ca.example.org:8443";
static char *test_permitted[] = {test_zone, test_zone2};
static char *test_names[] = {test_name1, test_name2, test_name3};

static inline struct config test_policy(void)
{
    struct config c = {.trust_domain = test_td, .names = test_names, .names_count = 3};
    c.ca.max_lifetime = 3600;
    c.crl.short_limit = 600;
    c.crl.shards = 16;
    c.crl.lifetime = 3600;
    c.external_url = test_url;
    c.ca.permitted_dns = test_permitted;
    c.ca.permitted_dns_count = 2;
    c.log.number = 1;
    return c;
}

static inline struct key *test_key(enum key_type type)
{
    struct err e = {0};
    struct key *k = key_generate(type, &e);
    assert_non_null(k);
    return k;
}

static const uint8_t test_digest[32] = {1, 2, 3, 0xff};

static inline struct ca_issue test_request(const struct key *k)
{
    return (struct ca_issue){.profile = CA_PROFILE_WORKLOAD,
                             .lifetime = 300,
                             .spiffe_id = text("spiffe://example.org/web/1"),
                             .dns = {text("web.example.org"), text("svc.test")},
                             .dns_count = 2,
                             .spki = key_spki(k),
                             .attestor = text("join_token"),
                             .evidence = {test_digest, 32},
                             .entry_id = text("Zm9vYmFyYmF6cXV4MTIzNA"),
                             .entry_revision = 7,
                             .requester = text("spiffe://example.org/agent/1"),
                             .session = {test_digest, 32}};
}

static inline struct ca_jwt test_jwt(void)
{
    return (struct ca_jwt){.lifetime = 300,
                           .spiffe_id = text("spiffe://example.org/web/1"),
                           .audiences = text("\007payroll\013say \"hi\" \\!"),
                           .attestor = text("x509pop"),
                           .evidence = {test_digest, 32},
                           .entry_id = text("Zm9vYmFyYmF6cXV4MTIzNA"),
                           .entry_revision = 7,
                           .requester = text("spiffe://example.org/agent/1"),
                           .session = {test_digest, 32}};
}

#define assert_ok(call, e)                                                                         \
    do {                                                                                           \
        if ((call) != 0) {                                                                         \
            print_message("%s: [%s] %s\n", #call, (e)->rule, (e)->msg);                            \
            fail();                                                                                \
        }                                                                                          \
    } while (0)
#endif
