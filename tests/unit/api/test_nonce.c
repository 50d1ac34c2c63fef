#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/nonce.h"
#include "base/bytes.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    struct err e = {0};
    *state = nonce_table_new(&e);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    nonce_table_free(*state);
    return 0;
}

static void refused(struct nonce_table *t, const char *nonce)
{
    struct err e = {0};
    assert_int_equal(nonce_use(t, nonce, &e), -1);
    assert_int_equal(e.code, ERR_BAD_NONCE);
    assert_string_equal(e.rule, "nonce");
}

static void test_once(void **state)
{
    struct err e = {0};
    char a[NONCE_LEN + 1], b[NONCE_LEN + 1];
    nonce_make(*state, a);
    nonce_make(*state, b);
    assert_int_equal(strlen(a), NONCE_LEN);
    assert_string_not_equal(a, b);
    assert_int_equal(nonce_use(*state, b, &e), 0);
    assert_int_equal(nonce_use(*state, a, &e), 0);
    refused(*state, a);
    refused(*state, b);
}

static void test_garbage(void **state)
{
    char made[NONCE_LEN + 1], text[NONCE_LEN + 1];
    uint8_t raw[12];
    struct err e = {0};
    refused(*state, NULL);
    refused(*state, "");
    refused(*state, "AAAA");
    refused(*state, "AAAAAAAAAAAAAAAA");                /* slot 0, number 0: an empty slot must not match */
    refused(*state, "________________");                /* slot beyond the table */
    refused(*state, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"); /* too long */
    refused(*state, "!!!!!!!!!!!!!!!!");
    nonce_make(*state, made);
    for (size_t bit = 0; bit < 96; bit++) {
        assert_int_equal(b64url_decode(raw, sizeof raw, made, NONCE_LEN), 12);
        raw[bit / 8] ^= (uint8_t)(1u << bit % 8);
        b64url_encode(text, raw, sizeof raw);
        refused(*state, text);
    }
    assert_int_equal(nonce_use(*state, made, &e), 0); /* none of the guesses spent it */
}

static void test_stale(void **state)
{
    struct err e = {0};
    char first[NONCE_LEN + 1], second[NONCE_LEN + 1], more[NONCE_LEN + 1];
    nonce_make(*state, first);
    nonce_make(*state, second);
    for (uint32_t i = 0; i < NONCE_SLOTS - 1; i++)
        nonce_make(*state, more);
    refused(*state, first);
    assert_int_equal(nonce_use(*state, second, &e), 0);
    assert_int_equal(nonce_use(*state, more, &e), 0);
}

#define THREADS 8
#define ROUNDS 2000
struct race {
    struct nonce_table *t;
    char (*nonces)[NONCE_LEN + 1];
    atomic_int *wins;
};

static void *race_run(void *arg)
{
    struct race *r = arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct err e = {0};
        if (nonce_use(r->t, r->nonces[i], &e) == 0)
            atomic_fetch_add(&r->wins[i], 1);
    }
    return NULL;
}

static void test_race(void **state)
{
    struct race r = {*state, calloc(ROUNDS, sizeof *r.nonces), calloc(ROUNDS, sizeof *r.wins)};
    pthread_t threads[THREADS];
    for (int i = 0; i < ROUNDS; i++)
        nonce_make(r.t, r.nonces[i]);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race_run, &r), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(atomic_load(&r.wins[i]), 1);
    free(r.nonces);
    free(r.wins);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
        cmocka_unit_test_setup_teardown(test_race, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
