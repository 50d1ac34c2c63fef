/* Making a token, finding it, logging in to it. */
#include "unit/hsm/token.h"

static void scene_create_keeps_what_exists(struct box *b)
{
    struct err e = {0};
    struct secret pin = {0};
    secret_of(&pin, PIN);
    char other[128];
    CHECK(hsm_softhsm_create(softhsm(), b->conf, b->tokens, LABEL, &pin, &e) != 0);
    CHECK_RULE(&e, "hsm-exists");
    CHECK(e.code == ERR_EXISTS);
    snprintf(other, sizeof(other), "%s/other.conf", b->dir);
    CHECK(hsm_softhsm_create(softhsm(), other, b->tokens, LABEL, &pin, &e) != 0);
    CHECK_RULE(&e, "hsm-exists");
    CHECK(access(other, F_OK) != 0);
    hsm_close(open_ok(1, 1000)); /* still whole */
}

static void create_keeps_what_exists(void **state)
{
    run(*state, scene_create_keeps_what_exists);
}

static void scene_create_cleans_up(struct box *b)
{
    struct err e = {0};
    struct secret pin = {0}, shorty = {0};
    secret_of(&pin, PIN);
    secret_of(&shorty, "123");
    CHECK(hsm_softhsm_create("/nonexistent.so", b->conf, b->tokens, LABEL, &pin, &e) != 0);
    CHECK_RULE(&e, "hsm-module");
    CHECK(access(b->conf, F_OK) != 0 && access(b->tokens, F_OK) != 0);
    CHECK(hsm_softhsm_create(softhsm(), b->conf, b->tokens, LABEL, &shorty, &e) != 0);
    CHECK_RULE(&e, "hsm-pin");
    CHECK(hsm_softhsm_create(softhsm(), b->conf, b->tokens, "", &pin, &e) != 0);
    CHECK_RULE(&e, "hsm-label");
    CHECK(hsm_softhsm_create(softhsm(), b->conf, b->tokens, "a label of more than thirty-two bytes",
                             &pin, &e) != 0);
    CHECK_RULE(&e, "hsm-label");
    CHECK(hsm_softhsm_create(softhsm(), b->conf, "/tmp/a\nlog.level = DEBUG", LABEL, &pin, &e) != 0);
    CHECK_RULE(&e, "hsm-folder");
    CHECK(access(b->conf, F_OK) != 0 && access(b->tokens, F_OK) != 0);
    /* and then it can be made, and used by the same process */
    make_token(b);
    struct stat st;
    CHECK(stat(b->conf, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(stat(b->tokens, &st) == 0 && (st.st_mode & 0777) == 0700);
    struct hsm *h = open_ok(2, 1000);
    CHECK(strncmp(hsm_token_name(h), LABEL " (SoftHSM", strlen(LABEL " (SoftHSM")) == 0);
    CHECK(hsm_sign_count(h) == 0);
    hsm_close(h);
}

static void create_cleans_up(void **state)
{
    run(*state, scene_create_cleans_up);
}

static CK_C_Login real_login;
static unsigned logins;
static const unsigned char *login_pin;

static CK_RV count_login(CK_SESSION_HANDLE s, CK_USER_TYPE t, unsigned char *pin, CK_ULONG n)
{
    logins++;
    login_pin = pin;
    return real_login(s, t, pin, n);
}

static void hook_login(CK_FUNCTION_LIST *f)
{
    real_login = f->C_Login;
    f->C_Login = count_login;
}

static void scene_wrong_pin(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = NULL;
    hook_login(hooks());
    CHECK(open_with(&h, URI, "not the PIN 7", 4, 1000, &e) != 0);
    CHECK(h == NULL);
    CHECK(e.code == ERR_HSM);
    CHECK_RULE(&e, "hsm-pin");
    CHECK(strstr(e.msg, "wrong PIN") && strstr(e.msg, LABEL) && strstr(e.msg, "exactly once"));
    CHECK(!strstr(e.msg, "not the PIN 7"));
    CHECK(logins == 1);
}

static CK_RV login_answer;

static CK_RV odd_login(CK_SESSION_HANDLE s, CK_USER_TYPE t, unsigned char *pin, CK_ULONG n)
{
    (void)s, (void)t, (void)pin, (void)n;
    logins++;
    return login_answer;
}

/* The parent starts the signer again unless the rule is hsm-pin: only what cannot have spent a try
 * may have another rule. */
static void scene_login_answers(struct box *b)
{
    (void)b;
    static const struct {
        CK_RV rv;
        const char *rule;
    } cases[] = {{CKR_PIN_LOCKED, "hsm-pin"},      {CKR_PIN_EXPIRED, "hsm-pin"},
                 {CKR_GENERAL_ERROR, "hsm-pin"},   {CKR_FUNCTION_FAILED, "hsm-pin"},
                 {CKR_DEVICE_REMOVED, "hsm-lost"}, {CKR_TOKEN_NOT_PRESENT, "hsm-lost"}};
    hooks()->C_Login = odd_login;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err e = {0};
        struct hsm *h = NULL;
        login_answer = cases[i].rv;
        CHECK(open_with(&h, URI, PIN, 1, 1000, &e) != 0);
        CHECK_RULE(&e, cases[i].rule);
        CHECK(logins == i + 1);
    }
}

static void scene_right_pin(struct box *b)
{
    (void)b;
    hook_login(hooks());
    hsm_close(open_ok(4, 1000));
    CHECK(logins == 1);
}

/* The module reads the PIN from its locked memory: nobody copied it to another. */
static void scene_pin_is_not_copied(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = NULL;
    struct secret s = {0};
    hook_login(hooks());
    secret_of(&s, PIN);
    struct hsm_options o = {.uri = URI, .module = softhsm(), .pin = &s, .sessions = 1, .call_timeout_ms = 1000};
    CHECK_OK(hsm_open(&h, &o, &e), &e);
    CHECK(logins == 1 && login_pin == s.p);
    secret_free(&s);
    hsm_close(h);
}

static void wrong_pin_is_tried_once(void **state)
{
    run(*state, scene_wrong_pin);
    run(*state, scene_login_answers);
    run(*state, scene_right_pin);
    run(*state, scene_pin_is_not_copied);
}

static CK_C_GetTokenInfo real_info;
static CK_FLAGS more_flags;

static CK_RV flagged_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = real_info(slot, info);
    info->flags |= more_flags;
    return rv;
}

static void scene_last_try(struct box *b)
{
    (void)b;
    CK_FUNCTION_LIST *f = hooks();
    hook_login(f);
    real_info = f->C_GetTokenInfo;
    f->C_GetTokenInfo = flagged_info;
    struct err e = {0};
    struct hsm *h = NULL;
    more_flags = CKF_USER_PIN_FINAL_TRY;
    CHECK(open_with(&h, URI, PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-pin");
    CHECK(strstr(e.msg, "one PIN try left"));
    more_flags = CKF_USER_PIN_LOCKED;
    CHECK(open_with(&h, URI, PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-pin");
    CHECK(strstr(e.msg, "locked"));
    CHECK(logins == 0);
}

static void last_try_is_never_taken(void **state)
{
    run(*state, scene_last_try);
}

static CK_RV no_session(CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify,
                        CK_SESSION_HANDLE *s)
{
    (void)slot, (void)flags, (void)app, (void)notify, (void)s;
    return CKR_SESSION_COUNT;
}

static void scene_no_session(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = NULL;
    CK_FUNCTION_LIST *f = hooks();
    hook_login(f);
    f->C_OpenSession = no_session;
    CHECK(open_with(&h, URI, PIN, 2, 1000, &e) != 0); /* before the PIN is used */
    CHECK_RULE(&e, "hsm-sessions");
    CHECK(logins == 0);
}

static CK_C_OpenSession real_open;
static unsigned opened;

static CK_RV four_sessions(CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify,
                           CK_SESSION_HANDLE *s)
{
    return ++opened > 4 ? CKR_SESSION_COUNT : real_open(slot, flags, app, notify, s);
}

static void scene_few_sessions(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = NULL;
    CK_FUNCTION_LIST *f = hooks();
    real_open = f->C_OpenSession;
    f->C_OpenSession = four_sessions;
    CHECK(open_with(&h, URI, PIN, 8, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-sessions");
    CHECK(strstr(e.msg, "no more than 4 sessions and 8"));
    CHECK(open_with(&h, URI, PIN, 0, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-sessions");
}

static void sessions_that_are_not_there(void **state)
{
    run(*state, scene_no_session);
    run(*state, scene_few_sessions);
}

static void scene_not_found(struct box *b)
{
    (void)b;
    struct err e = {0};
    struct hsm *h = NULL;
    CHECK(open_with(&h, "pkcs11:token=elsewhere", PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-token");
    CHECK(e.code == ERR_HSM);
    CHECK(strstr(e.msg, "\"" LABEL "\"") && strstr(e.msg, "elsewhere"));
    CHECK(open_with(&h, "pkcs11:token=mayfly%20test;serial=0", PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-token");
    CHECK(open_with(&h, URI "?pin-value=1234", PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-uri");
    CHECK(open_with(&h, URI "?module-path=/nonexistent/m.so", PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-module");
    CHECK(strstr(e.msg, "/nonexistent/m.so"));
    CHECK(open_with(&h, URI "?module-path=relative.so", PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-module");
    CHECK(open_with(&h, URI "?module-path=/etc/passwd", PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-module");
    CHECK(e.code == ERR_CONFIG);
    struct hsm_options o = {.uri = URI, .module = softhsm(), .pin = NULL, .sessions = 1};
    CHECK(hsm_open(&h, &o, &e) != 0);
    CHECK_RULE(&e, "hsm-pin");
    CHECK(open_with(&h, "pkcs11:", PIN, 1, 1000, &e) == 0); /* the only one */
    hsm_close(h);
}

static void what_is_not_found(void **state)
{
    run(*state, scene_not_found);
}

static void scene_second_token(struct box *b)
{
    /* By hand, in the same folder: a second token of the same label. */
    CK_FUNCTION_LIST *f = hooks();
    CK_SLOT_ID slots[8];
    CK_ULONG n = 8;
    CK_UTF8CHAR label[32];
    unsigned char so[] = "12345678";
    memset(label, ' ', sizeof(label));
    memcpy(label, LABEL, strlen(LABEL));
    CHECK(f->C_Initialize(NULL) == CKR_OK && f->C_GetSlotList(CK_TRUE, slots, &n) == CKR_OK);
    CHECK(n == 2 && f->C_InitToken(slots[1], so, 8, label) == CKR_OK);
    CHECK(f->C_Finalize(NULL) == CKR_OK);
    struct err e = {0};
    struct hsm *h = NULL;
    hook_login(f);
    CHECK(open_with(&h, URI, PIN, 1, 1000, &e) != 0);
    CHECK_RULE(&e, "hsm-token-many");
    CHECK(strstr(e.msg, "serial="));
    CHECK(logins == 0);
    (void)b;
}

static void two_tokens_are_not_guessed(void **state)
{
    run(*state, scene_second_token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(create_keeps_what_exists, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(create_cleans_up, box_setup, box_teardown),
        cmocka_unit_test_setup_teardown(wrong_pin_is_tried_once, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(last_try_is_never_taken, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(sessions_that_are_not_there, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(what_is_not_found, token_setup, box_teardown),
        cmocka_unit_test_setup_teardown(two_tokens_are_not_guessed, token_setup, box_teardown),
    };
    int skip = need_softhsm();
    return skip ? skip : cmocka_run_group_tests(tests, NULL, NULL);
}
