/* A SoftHSM2 token for a test, in a folder of its own, and scenarios in processes of their own:
 * PKCS#11 modules take neither a second initialization nor a fork kindly, so each scenario loads
 * the module in a child that has never loaded it. */
#ifndef TESTS_UNIT_HSM_TOKEN_H
#define TESTS_UNIT_HSM_TOKEN_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "hsm/internal.h"
#include <dlfcn.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIN "correct horse 1"
#define LABEL "mayfly test"
#define URI "pkcs11:token=mayfly%20test"
#define ALL_KEYS ((1u << HSM_KEYS) - 1)

struct box {
    char dir[64], conf[96], tokens[96], fault[96];
};

/* In a scenario: cmocka's own asserts belong to the parent. */
#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x);                        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)
#define CHECK_OK(x, e)                                                                             \
    do {                                                                                           \
        if ((x) != 0) {                                                                            \
            fprintf(stderr, "%s:%d: %s: [%s] %s\n", __FILE__, __LINE__, #x, (e)->rule, (e)->msg);  \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)
#define CHECK_RULE(e, want)                                                                        \
    do {                                                                                           \
        if (strcmp((e)->rule, want) != 0) {                                                        \
            fprintf(stderr, "%s:%d: rule is [%s], not %s: %s\n", __FILE__, __LINE__, (e)->rule,    \
                    want, (e)->msg);                                                               \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static inline const char *softhsm(void)
{
    const char *m = getenv("MAYFLY_SOFTHSM");
    return m ? m : "/usr/lib/softhsm/libsofthsm2.so";
}

typedef void scenario(struct box *b);

/* Runs one scenario in a child; returns its exit status, or 128 + signal. */
static inline int run_status(struct box *b, scenario *s)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (access(b->conf, F_OK) == 0)
            setenv("SOFTHSM2_CONF", b->conf, 1);
        else
            unsetenv("SOFTHSM2_CONF");
        setenv("MAYFLY_FAULT_FILE", b->fault, 1);
        s(b);
        _exit(0);
    }
    int st = 0;
    assert_int_equal(waitpid(pid, &st, 0), pid);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static inline void run(struct box *b, scenario *s)
{
    assert_int_equal(run_status(b, s), 0);
}

static inline void secret_of(struct secret *s, const char *text)
{
    struct err e = {0};
    CHECK_OK(secret_new(s, strlen(text) + 1, &e), &e);
    memcpy(s->p, text, strlen(text));
    s->len = strlen(text);
}

static inline int open_with(struct hsm **h, const char *uri, const char *pin, unsigned sessions,
                            unsigned timeout_ms, struct err *e)
{
    struct secret s = {0};
    secret_of(&s, pin);
    struct hsm_options o = {.uri = uri, .module = softhsm(), .pin = &s, .sessions = sessions,
                            .call_timeout_ms = timeout_ms};
    int rc = hsm_open(h, &o, e);
    secret_free(&s);
    return rc;
}

static inline struct hsm *open_ok(unsigned sessions, unsigned timeout_ms)
{
    struct err e = {0};
    struct hsm *h = NULL;
    CHECK_OK(open_with(&h, URI, PIN, sessions, timeout_ms, &e), &e);
    return h;
}

static inline void make_token(struct box *b)
{
    struct err e = {0};
    struct secret s = {0};
    secret_of(&s, PIN);
    CHECK_OK(hsm_softhsm_create(softhsm(), b->conf, b->tokens, LABEL, &s, &e), &e);
    secret_free(&s);
}

static inline void make_keys(struct box *b)
{
    struct err e = {0};
    struct hsm *h = open_ok(1, 5000);
    for (unsigned r = 0; r < HSM_KEYS; r++)
        CHECK_OK(hsm_generate(h, (enum hsm_key_role)r, &e), &e);
    hsm_close(h);
}

static inline int remove_path(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static inline int box_setup(void **state)
{
    struct box *b = calloc(1, sizeof(*b));
    assert_non_null(b);
    strcpy(b->dir, "/tmp/mayfly-hsm-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->conf, sizeof(b->conf), "%s/softhsm2.conf", b->dir);
    snprintf(b->tokens, sizeof(b->tokens), "%s/tokens", b->dir);
    snprintf(b->fault, sizeof(b->fault), "%s/fault", b->dir);
    *state = b;
    return 0;
}

static inline int token_setup(void **state)
{
    box_setup(state);
    run(*state, make_token);
    return 0;
}

static inline int keys_setup(void **state)
{
    token_setup(state);
    run(*state, make_keys);
    return 0;
}

static inline int box_teardown(void **state)
{
    struct box *b = *state;
    nftw(b->dir, remove_path, 8, FTW_DEPTH | FTW_PHYS);
    free(b);
    return 0;
}

static inline int need_softhsm(void)
{
    if (access(softhsm(), R_OK) == 0)
        return 0;
    printf("skipped: no SoftHSM2 at %s\n", softhsm());
    return 77;
}

/* The module's function list, writable in SoftHSM2: a scenario may put its own function there,
 * and every user of the module in this process calls it. */
static inline CK_FUNCTION_LIST *hooks(void)
{
    void *dl = dlopen(softhsm(), RTLD_NOW | RTLD_LOCAL);
    CHECK(dl);
    CK_C_GetFunctionList get;
    void *sym = dlsym(dl, "C_GetFunctionList");
    memcpy(&get, &sym, sizeof(get));
    CK_FUNCTION_LIST *f = NULL;
    CHECK(get(&f) == CKR_OK && f);
    return f;
}

#endif
