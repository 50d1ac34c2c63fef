/* What an authority, or who poses as one, says to the agent. The first byte chooses the parser. */
#include "agent/internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fuzz_problem(struct bytes in)
{
    struct err e = {0};
    struct http_answer a;
    if (in.len == 0)
        return;
    http_answer_init(&a);
    a.status = 300u + in.p[0];
    buf_put(&a.body, in.p + 1, in.len - 1);
    acme_problem(&a, &e);
    if (e.code == ERR_NONE || !*e.rule || !*e.msg)
        abort();
    for (const unsigned char *p = (const unsigned char *)e.msg; *p; p++)
        if (*p < 0x20 || *p == 0x7f || (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0))
            abort(); /* a terminal would obey it */
    http_answer_free(&a);
}

static void fuzz_url(struct bytes in)
{
    struct err e;
    struct url_server s;
    char text[URL_MAX + 8];
    if (in.len >= sizeof text)
        return;
    memcpy(text, in.p, in.len);
    text[in.len] = 0;
    if (url_server(&s, text, &e) == 0 && url_same_origin(&s, s.directory, "directory", &e) < 0)
        abort(); /* its own directory is of its own origin */
}

static void fuzz_trust(struct bytes in)
{
    struct err e;
    struct agent_trust t = {0};
    STACK_OF(X509) * roots;
    if (agent_trust_parse(&t, in.p, in.len, "fuzz", &e) == 0) {
        if (agent_trust_roots(&t, &roots, &e) < 0)
            abort(); /* what was accepted reads back */
        sk_X509_pop_free(roots, X509_free);
    }
    agent_trust_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e;
    struct acme_directory directory;
    struct acme_order order;
    struct acme_authz authz;
    if (len == 0)
        return 0;
    struct bytes in = {data + 1, len - 1};
    switch (data[0]) {
    case 'd':
        acme_directory_parse(&directory, in, &e);
        break;
    case 'o':
        if (acme_order_parse(&order, in, &e) == 0)
            acme_order_free(&order);
        break;
    case 'a':
        if (acme_authz_parse(&authz, in, &e) == 0)
            acme_authz_free(&authz);
        break;
    case 'p':
        fuzz_problem(in);
        break;
    case 'u':
        fuzz_url(in);
        break;
    case 't':
        fuzz_trust(in);
        break;
    default:
        break;
    }
    return 0;
}
