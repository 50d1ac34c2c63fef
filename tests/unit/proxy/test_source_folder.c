#include "base/fileio.h"
#include "proxy/internal.h"
#include "tests/proxykit/kit.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const names[] = {"svid.pem", "svid.key", "bundle.pem"};
struct heard {
    struct event_base *base;
    unsigned states, troubles;
    char id[64], msg[512];
};

static void on_state(void *arg, struct wl_state *s)
{
    struct heard *h = arg;
    h->states++;
    snprintf(h->id, sizeof h->id, "%s", s->svids[0]->spiffe_id);
    event_base_loopbreak(h->base);
}
static void on_trouble(void *arg, const struct err *e)
{
    struct heard *h = arg;
    h->troubles++;
    snprintf(h->msg, sizeof h->msg, "%s", e->msg);
    event_base_loopbreak(h->base);
}

/* Until the source has something to say; a source that has not is a test that fails. */
static void hear(struct heard *h)
{
    const struct timeval patience = {60, 0};
    unsigned before = h->states + h->troubles;
    event_base_loopexit(h->base, &patience);
    event_base_dispatch(h->base);
    assert_int_equal(h->states + h->troubles, before + 1);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[128];
    struct err e;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, false, &e), 0);
}

/* Nothing there yet, something damaged, an identity, its successor: each is told of once. */
static void steps(void **state)
{
    char dir[] = "/tmp/mayfly-proxy-test.XXXXXX", path[128];
    struct heard h = {.base = event_base_new()};
    const struct source_ops ops = {.arg = &h, .state = on_state, .trouble = on_trouble};
    struct kit k;
    struct kit_id a, b;
    struct err e;
    assert_non_null(mkdtemp(dir));
    kit_new(&k, "example.org");
    kit_make(&a, &k, &(struct kit_leaf){.id = "spiffe://example.org/a"});
    kit_make(&b, &k, &(struct kit_leaf){.id = "spiffe://example.org/b"});
    struct source *s = source_folder(h.base, dir, &ops, &e);
    assert_non_null(s);
    hear(&h);
    assert_int_equal(h.troubles, 1);
    assert_non_null(strstr(h.msg, "svid.pem"));
    put(dir, "svid.pem", "no certificate");
    hear(&h);
    assert_int_equal(h.troubles, 2);
    assert_non_null(strstr(h.msg, "holds no certificate"));
    put(dir, "svid.key", "no key"); /* of the certificate there is no news */
    event_base_loop(h.base, EVLOOP_ONCE);
    event_base_loop(h.base, EVLOOP_ONCE);
    assert_int_equal(h.troubles, 2);
    kit_write(&k, &a, dir);
    hear(&h);
    assert_int_equal(h.states, 1);
    assert_string_equal(h.id, "spiffe://example.org/a");
    s->look(s); /* asked, it tells again of what has not changed */
    hear(&h);
    assert_int_equal(h.states, 2);
    put(dir, "svid.key", "no key");
    hear(&h);
    assert_int_equal(h.troubles, 3);
    assert_non_null(strstr(h.msg, "svid.key"));
    kit_write(&k, &b, dir);
    hear(&h);
    assert_int_equal(h.states, 3);
    assert_string_equal(h.id, "spiffe://example.org/b");
    s->stop(s);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
    kit_id_free(&a);
    kit_id_free(&b);
    kit_free(&k);
    event_base_free(h.base);
}

int main(void)
{
    proxy_memory_setup();
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
