#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/ra/fixture.h"

static struct fx x;

static void refused(struct ra_entry e, const char *rule)
{
    struct wait w;
    struct ra_stats before, after;
    wait_init(&w);
    ra_stats(x.ra, &before);
    ra_entry_create(x.ra, &e, on_entry, &w);
    EXPECT(&w, rule);
    ra_stats(x.ra, &after);
    assert_int_equal(before.entries, after.entries);
}

static void bad_id(const char *id, const char *rule)
{
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", id);
    refused(entry_of(copy), rule);
}

static void test_ids(void **state)
{
    char longest[2100];
    bad_id("spiffe://other.org/web", "trust-domain");
    bad_id("spiffe://example.org", "spiffe-path");
    bad_id("spiffe://example.org/", "spiffe-id");
    bad_id("spiffe://example.org/a//b", "spiffe-id");
    bad_id("spiffe://example.org/a/../b", "spiffe-id");
    bad_id("https://example.org/web", "spiffe-id");
    bad_id("", "spiffe-id");
    bad_id("spiffe://example.org/mayfly", "reserved");
    bad_id("spiffe://example.org/mayfly/server", "reserved");
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "spiffe://example.org/", 21);
    longest[2049] = 0;
    bad_id(longest, "spiffe-id");
    refused((struct ra_entry){0}, "spiffe-id");
}

static void test_fields(void **state)
{
    char id[] = DB, parent[] = "spiffe://example.org/mayfly/other", foreign[] = "spiffe://other.org/a", self[] = DB;
    char good[] = "k8s:ns:a", none[] = "none", empty[] = "k8s:", colon[] = ":a", control[] = "k8s:\n", high[] = "k8s:\xc3\xa4";
    char *bad[] = {none, empty, colon, control, high}, *twice[] = {good, good}, *many[RA_SELECTORS_MAX + 1];
    struct ra_entry e = entry_of(id);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e.selectors = &bad[i];
        e.selectors_count = 1;
        refused(e, "selector");
    }
    e.selectors = twice;
    e.selectors_count = 2;
    refused(e, "selector");
    for (size_t i = 0; i < RA_SELECTORS_MAX + 1; i++)
        many[i] = good;
    e.selectors = many;
    e.selectors_count = RA_SELECTORS_MAX + 1;
    refused(e, "selector");
    char *too_long = calloc(1, RA_SELECTOR_LEN + 2);
    memset(too_long, 'a', RA_SELECTOR_LEN + 1);
    too_long[1] = ':';
    e.selectors = &too_long;
    e.selectors_count = 1;
    refused(e, "selector");
    free(too_long);

    e = entry_of(id);
    e.parent = parent;
    refused(e, "reserved");
    e.parent = foreign;
    refused(e, "trust-domain");
    e.parent = self;
    refused(e, "parent");

    char outside[] = "www.google.com", ip[] = "127.0.0.1", upper[] = "A.example.org", near[] = "xexample.org", ok[] = "a.example.org";
    char *dns[] = {outside, near, ip, upper}, *same[] = {ok, ok};
    const char *rules[] = {"dns-permitted", "dns-permitted", "dns-name", "dns-name"};
    e = entry_of(id);
    for (size_t i = 0; i < 4; i++) {
        e.dns = &dns[i];
        e.dns_count = 1;
        refused(e, rules[i]);
    }
    e.dns = same;
    e.dns_count = 2;
    refused(e, "dns-name");
    e = entry_of(id);
    e.ttl = 3601;
    refused(e, "lifetime");
}

static void get(const char *which, struct wait *w)
{
    wait_init(w);
    ra_entry_get(x.ra, which, on_entry, w);
    wait_for(w);
}

/* Names them; enough is after /web. */
static bool name_each(void *arg, const struct ra_entry *e)
{
    char *all = arg;
    strcat(strcat(all, strrchr(e->spiffe_id, '/')), " ");
    return strcmp(e->spiffe_id, WEB) != 0;
}

static void page(const char *after, size_t limit, const char *want, bool want_more)
{
    char all[256] = "";
    bool more;
    struct err e = {0};
    assert_int_equal(ra_entry_each(x.ra, after, limit, name_each, all, &more, &e), 0);
    assert_string_equal(all, want);
    assert_int_equal(more, want_more);
}

static void test_life(void **state)
{
    struct wait w;
    char id[] = WEB, dns[] = "*.web.example.org", *names[] = {dns}, sel[] = "k8s:ns:a", *sels[] = {sel};
    make_entry(&x, "spiffe://example.org/zeta", NULL, NULL);
    make_entry(&x, "spiffe://example.org/alpha", NULL, NULL);
    make_entry(&x, WEB, NULL, NULL);
    bad_id(WEB, "entry-exists");

    get(WEB, &w);
    assert_int_equal(w.revision, 1);
    char by_id[RA_ID_LEN + 1];
    memcpy(by_id, w.entry_id, sizeof by_id);
    get(by_id, &w);
    assert_string_equal(w.uri, WEB);
    get("spiffe://example.org/nobody", &w);
    assert_string_equal(w.e.rule, "entry");
    assert_int_equal(w.e.code, ERR_NOT_FOUND);

    /* update by id and revision; by SPIFFE ID; of a revision that is not current */
    struct ra_entry e = {.ttl = 60, .revision = 1, .selectors = sels, .selectors_count = 1, .dns = names, .dns_count = 1};
    memcpy(e.id, by_id, sizeof e.id);
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.revision, 2);
    assert_int_equal(w.ttl, 60);
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, "revision");
    e = entry_of(id);
    e.ttl = 90;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.revision, 3);
    char other[] = DB;
    e.spiffe_id = other;
    memcpy(e.id, by_id, sizeof e.id);
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, "entry-rename");
    e = entry_of(id);
    e.ttl = 4000;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, "lifetime");

    /* in order, by pages, and after a restart */
    fx_reopen(&x);
    page(NULL, 1, "/alpha ", true);
    page(NULL, 10, "/alpha /web ", true); /* each said that it is enough */
    page("spiffe://example.org/alpha", 1, "/web ", true);
    page(WEB, 10, "/zeta ", false);
    page(WEB, 1, "/zeta ", false);
    page("spiffe://example.org/zz", 1, "", false);
    get(by_id, &w);
    assert_int_equal(w.revision, 3);
    assert_int_equal(w.ttl, 90);

    wait_init(&w);
    ra_entry_delete(x.ra, WEB, "uid:7", on_entry, &w);
    EXPECT(&w, NULL);
    wait_init(&w);
    ra_entry_delete(x.ra, WEB, "uid:7", on_entry, &w);
    EXPECT(&w, "entry");
    fx_reopen(&x);
    get(by_id, &w);
    assert_string_equal(w.e.rule, "entry");
}

/* Numbers tell the order of creation, within a second too: not by a name, and not moved by a change or a restart. */
static void test_numbers(void **state)
{
    static const char *const names[] = {"spiffe://example.org/n/m", "spiffe://example.org/n/z", "spiffe://example.org/n/a"};
    uint64_t number[3];
    struct wait w;
    char copy[64];
    for (size_t i = 0; i < 3; i++) {
        make_entry(&x, names[i], NULL, NULL);
        get(names[i], &w);
        number[i] = w.number;
        assert_true(w.number > (i ? number[i - 1] : 0));
    }
    snprintf(copy, sizeof copy, "%s", names[0]);
    struct ra_entry e = entry_of(copy);
    e.ttl = 77;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    assert_int_equal(w.number, number[0]);
    fx_reopen(&x);
    for (size_t i = 0; i < 3; i++) {
        get(names[i], &w);
        assert_int_equal(w.number, number[i]);
    }
    /* made again, it is a new one */
    delete_entry(&x, names[0]);
    make_entry(&x, names[0], NULL, NULL);
    get(names[0], &w);
    assert_true(w.number > number[2]);
}

/* Of creations by many threads at once: numbers ascend as the entries become visible, which the answers tell. */
#define CREATORS 4
#define CREATIONS 200
static struct {
    uint64_t last; /* of the store's thread, until all are there */
    bool descends;
} seen;

static void on_created(void *arg, const struct ra_entry *made, const struct err *e)
{
    seen.descends = seen.descends || e || made->number <= seen.last;
    seen.last = e ? seen.last : made->number;
    on_entry(arg, made, e);
}

static void *creator(void *arg)
{
    struct wait *w = arg;
    for (size_t i = 0; i < CREATIONS; i++) {
        char id[64];
        snprintf(id, sizeof id, "spiffe://example.org/many/%p", (void *)&w[i]);
        struct ra_entry e = entry_of(id);
        wait_init(&w[i]);
        ra_entry_create(x.ra, &e, on_created, &w[i]);
    }
    return NULL;
}

static void test_numbers_at_once(void **state)
{
    static struct wait w[CREATORS][CREATIONS];
    pthread_t t[CREATORS];
    for (size_t i = 0; i < CREATORS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, creator, w[i]), 0);
    for (size_t i = 0; i < CREATORS; i++)
        pthread_join(t[i], NULL);
    for (size_t i = 0; i < CREATORS * CREATIONS; i++)
        EXPECT(&w[i / CREATIONS][i % CREATIONS], NULL);
    assert_false(seen.descends);
    fx_reopen(&x);
    for (size_t i = 0; i < CREATORS * CREATIONS; i++) {
        const struct wait *made = &w[i / CREATIONS][i % CREATIONS];
        struct wait again;
        get(made->uri, &again);
        assert_int_equal(again.number, made->number);
    }
}

/* As long as it may be, kept over a restart, and gone with an update that has none. */
static void test_hint(void **state)
{
    struct wait w;
    char id[] = "spiffe://example.org/hint", hint[RA_HINT_MAX + 2], line[] = "a\nb", high[] = "\xc3\xa4";
    memset(hint, '~', sizeof hint);
    hint[RA_HINT_MAX + 1] = 0;
    struct ra_entry e = entry_of(id);
    char *bad[] = {hint, line, high};
    for (size_t i = 0; i < 3; i++) {
        e.hint = bad[i];
        refused(e, "hint");
    }
    hint[RA_HINT_MAX] = 0;
    hint[0] = ' ';
    e.hint = hint;
    wait_init(&w);
    ra_entry_create(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    fx_reopen(&x);
    get(id, &w);
    assert_string_equal(w.hint, hint);
    char other[] = "internal";
    e.hint = other;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    fx_reopen(&x);
    get(id, &w);
    assert_string_equal(w.hint, "internal");
    e.hint = NULL;
    wait_init(&w);
    ra_entry_update(x.ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
    assert_string_equal(w.hint, "");
}

/* Of many who update one revision at once, one does. */
static void test_update_race(void **state)
{
    struct wait w[20];
    char id[] = "spiffe://example.org/alpha";
    unsigned won = 0;
    for (size_t i = 0; i < 20; i++) {
        struct ra_entry e = entry_of(id);
        e.revision = 1;
        e.ttl = 100 + (unsigned)i;
        wait_init(&w[i]);
        ra_entry_update(x.ra, &e, on_entry, &w[i]);
    }
    for (size_t i = 0; i < 20; i++) {
        wait_for(&w[i]);
        won += w[i].e.code == ERR_NONE;
        if (w[i].e.code != ERR_NONE)
            assert_string_equal(w[i].e.rule, "revision");
    }
    assert_int_equal(won, 1);
}

static int setup(void **state)
{
    fx_new(&x, "");
    return 0;
}

static int teardown(void **state)
{
    fx_free(&x);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_update_race),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_numbers_at_once),
        cmocka_unit_test(test_hint),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
