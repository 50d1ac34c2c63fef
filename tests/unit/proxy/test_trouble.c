/* What the log says of a source that has no identity for us. */
#include "proxy/internal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct rig {
    struct source_ops ops;
    struct source source;
};

static void source_end(struct source *s)
{
    (void)s;
}

static struct source *source_make(void *arg, struct event_base *base, const struct source_ops *ops, struct err *e)
{
    struct rig *r = arg;
    r->ops = *ops;
    r->source.stop = source_end;
    return &r->source;
}

/* The log is standard error. */
static void say(const struct rig *r, const struct err *e, char *said, size_t cap)
{
    FILE *f = tmpfile();
    int before = dup(STDERR_FILENO);
    assert_non_null(f);
    assert_true(before >= 0 && dup2(fileno(f), STDERR_FILENO) >= 0);
    r->ops.trouble(r->ops.arg, e);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(f);
    said[fread(said, 1, cap - 1, f)] = 0;
    fclose(f);
}

/* To register an entry helps who was refused by the agent, and not whose folder holds a certificate that is no SVID. */
static void what_to_do(void **state)
{
    char dir[] = "/tmp/mayfly-proxy-test.XXXXXX", in[64], said[4096];
    struct proxy_conf conf;
    struct proxy_listener_conf l;
    struct rig r;
    struct err e = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(in, sizeof in, "%s/in", dir);
    proxy_conf_defaults(&conf);
    proxy_listener_defaults(&l);
    conf.threads = 1;
    l.mode = PROXY_SERVER;
    l.listen = malloc(80);
    l.to = strdup("127.0.0.1:1");
    snprintf(l.listen, 80, "unix:%s", in);
    assert_int_equal(proxy_rules_add(&l.allow, "spiffe://example.org/web", &e), 0);
    assert_int_equal(proxy_conf_add(&conf, &l, &e), 0);
    struct proxy *p = proxy_new(&conf, source_make, &r, &e);
    if (!p)
        fail_msg("%s", e.msg);
    err_set(&e, ERR_UNAUTHORIZED, "workload-status", "the Workload API answers with status 7: no identity issued");
    say(&r, &e, said, sizeof said);
    assert_non_null(strstr(said, "no identity issued; register an entry"));
    err_set(&e, ERR_UNAUTHORIZED, "svid-id", "the certificate has no SPIFFE ID");
    say(&r, &e, said, sizeof said);
    assert_non_null(strstr(said, "no SPIFFE ID"));
    assert_null(strstr(said, "register"));
    proxy_free(p);
    proxy_conf_free(&conf);
    unlink(in);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    proxy_memory_setup();
    log_setup("test", LOG_WARN, LOG_TEXT);
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_to_do)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
