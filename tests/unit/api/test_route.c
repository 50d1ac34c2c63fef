#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/internal.h"
#include <string.h>

#define ID "ABCDEFGHIJKLMNOPQRST-_"

static const struct route *find(const struct route *table, const char *method, const char *path, const char **arg,
                                unsigned *allowed)
{
    return route_find(table, method_of(method), path, arg, allowed);
}

static void test_found(void **state)
{
    static const struct {
        const struct route *table;
        const char *method, *path, *arg;
        void (*handler)(struct request *);
    } cases[] = {
        {public_routes, "POST", "/acme/new-order", "", acme_new_order},
        {public_routes, "POST", "/acme/new-jwt-svid", "", acme_new_jwt},
        {public_routes, "GET", "/acme/directory", "", acme_directory},
        {public_routes, "HEAD", "/acme/new-nonce", "", acme_new_nonce},
        {public_routes, "GET", "/acme/new-nonce", "", acme_new_nonce},
        {public_routes, "POST", "/acme/order/" ID, ID, acme_order},
        {public_routes, "POST", "/acme/finalize/" ID, ID, acme_finalize},
        {public_routes, "POST", "/acme/certificate/" ID, ID, acme_certificate},
        {public_routes, "POST", "/acme/authz/" ID, ID, acme_authz},
        {public_routes, "POST", "/acme/challenge/" ID, ID, acme_challenge},
        {public_routes, "POST", "/acme/account/" ID, ID, acme_account},
        {public_routes, "POST", "/acme/orders/" ID, ID, acme_orders},
        {public_routes, "GET", "/log/tile/0/x001/234", "tile/0/x001/234", public_log},
        {public_routes, "HEAD", "/healthz", "", public_health},
        {public_routes, "GET", "/ui", "", public_ui_bare},
        {public_routes, "GET", "/ui/", "", public_ui},
        {public_routes, "GET", "/ui/app.js", "app.js", public_ui},
        {admin_routes, "PUT", "/admin/v1/entries/" ID, ID, admin_entry},
        {admin_routes, "GET", "/admin/v1/entries/spiffe://a/b", "spiffe://a/b", admin_entry},
        {admin_routes, "POST", "/admin/v1/entries", "", admin_entries},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *arg = NULL;
        unsigned allowed;
        const struct route *r = find(cases[i].table, cases[i].method, cases[i].path, &arg, &allowed);
        assert_non_null(r);
        assert_true(r->handler == cases[i].handler);
        assert_string_equal(arg, cases[i].arg);
    }
}

static void test_absent(void **state)
{
    static const char *const paths[] = {
        "", "/", "/acme", "/acme/", "/acme/new-order/", "/acme/new-orders", "/acme/order/", "/acme/order/short",
        "/acme/order/" ID "x", "/acme/order/" ID "/", "/acme/order/ABCDEFGHIJKLMNOPQRST.=", "/log/", "/log",
        "/admin/v1/entries", "/healthz/", "/Healthz"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *arg;
        unsigned allowed = 77;
        assert_null(find(public_routes, "GET", paths[i], &arg, &allowed));
        assert_null(find(public_routes, "POST", paths[i], &arg, &allowed));
        assert_int_equal(allowed, 0);
    }
    const char *arg;
    unsigned allowed;
    assert_null(find(admin_routes, "GET", "/acme/directory", &arg, &allowed));
    assert_null(find(admin_routes, "GET", "/admin/v1/entries/", &arg, &allowed));
}

static void test_wrong_method(void **state)
{
    const char *arg;
    unsigned allowed;
    char text[48];
    assert_null(find(public_routes, "GET", "/acme/order/" ID, &arg, &allowed));
    assert_int_equal(allowed, M_POST);
    assert_null(find(public_routes, "POST", "/acme/directory", &arg, &allowed));
    methods_write(text, allowed);
    assert_string_equal(text, "GET, HEAD");
    assert_null(find(admin_routes, "PATCH", "/admin/v1/entries/" ID, &arg, &allowed));
    methods_write(text, allowed);
    assert_string_equal(text, "GET, HEAD, PUT, DELETE");
    methods_write(text, 31);
    assert_string_equal(text, "GET, HEAD, POST, PUT, DELETE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_wrong_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
