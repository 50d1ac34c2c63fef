/* Real processes on the other end of a real socket: they exec, exit, change their user, and run what is deleted. */
#include "unit/agent/peer_child.h"
#include <grp.h>
#include <openssl/evp.h>
#include <pwd.h>

static bool __attribute__((format(printf, 2, 3))) has(const struct peer_selectors *s, const char *fmt, ...)
{
    char text[4200];
    char *want = text;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return peer_selectors_match(s, &want, 1);
}

static bool has_kind(const struct peer_selectors *s, const char *start)
{
    for (size_t i = 0; i < s->n; i++)
        if (strncmp(s->list[i], start, strlen(start)) == 0)
            return true;
    return false;
}

/* --- what is told --------------------------------------------------------------------------------------- */

static void file_sha256(char hex[65], const char *path)
{
    uint8_t digest[32], chunk[65536];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int fd = open(path, O_RDONLY);
    EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    for (ssize_t n; (n = read(fd, chunk, sizeof chunk)) > 0;)
        EVP_DigestUpdate(ctx, chunk, (size_t)n);
    EVP_DigestFinal_ex(ctx, digest, NULL);
    EVP_MD_CTX_free(ctx);
    close(fd);
    hex_encode(hex, digest, 32);
}

static void tells(void **state)
{
    char self[512], hex[65];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    file_sha256(hex, self);
    const struct passwd *pw = getpwuid(geteuid());
    WAYS(w)
    {
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        struct peer *p = peer_open_how(k.fd, *w, &e);
        assert_non_null(p);
        assert_int_equal(peer_pid(p), k.pid);
        assert_int_equal(peer_uid(p), geteuid());
        assert_int_equal(peer_attest(p, &s, &e), 0);
        assert_true(has(&s, "unix:uid:%u", geteuid()));
        assert_true(has(&s, "unix:gid:%u", getegid()));
        assert_true(!pw || has(&s, "unix:user:%s", pw->pw_name));
        assert_true(has(&s, "unix:path:%s", self));
        assert_true(has(&s, "unix:sha256:%s", hex));
        assert_true(has_kind(&s, "cgroup:path:/"));
        assert_true(peer_alive(p));
        peer_selectors_free(&s);
        assert_int_equal(s.n, 0);
        peer_free(p);
        child_end(&k);
    }
}

static void ourselves(void **state)
{
    int pair[2];
    struct err e;
    struct peer_selectors s;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct peer *p = peer_open(pair[0], &e);
    assert_non_null(p);
    assert_int_equal(peer_pid(p), getpid());
    gid_t groups[PEER_GROUPS_MAX];
    int n = getgroups(PEER_GROUPS_MAX, groups);
    assert_int_equal(peer_attest(p, &s, &e), 0);
    for (int i = 0; i < n && s.n + 2 < PEER_SELECTORS_MAX; i++)
        assert_true(has(&s, "unix:supplementary_gid:%u", groups[i]));
    peer_selectors_free(&s);
    peer_free(p);
    close(pair[0]);
    close(pair[1]);
    p = peer_open(0, &e);
    assert_null(p);
    assert_string_equal(e.rule, "peer-foreign");
}

/* This kernel has it, or it has not: the probe must come to the same. */
static void probes_pidfd(void **state)
{
    struct child k = child_start();
    struct err e;
    int raw = -1;
    socklen_t len = sizeof raw;
    bool kernel = getsockopt(k.fd, SOL_SOCKET, 77 /* SO_PEERPIDFD */, &raw, &len) == 0;
    struct peer *with = peer_open(k.fd, &e), *without = peer_open_how(k.fd, false, &e);
    assert_non_null(with);
    assert_non_null(without);
    assert_int_equal(peer_has_pidfd(with), kernel);
    assert_false(peer_has_pidfd(without));
    close(raw);
    peer_free(with);
    peer_free(without);
    child_end(&k);
}

/* --- what happens between connect and answer ------------------------------------------------------------ */

static void exits_before_open(void **state)
{
    WAYS(w)
    {
        struct child k = child_start();
        struct err e;
        child_do(&k, 'q');
        siginfo_t si; /* has exited for certain, and is a zombie still */
        assert_int_equal(waitid(P_PID, (id_t)k.pid, &si, WEXITED | WNOWAIT), 0);
        assert_null(peer_open_how(k.fd, *w, &e));
        assert_string_equal(e.rule, "peer-gone");
        assert_int_equal(waitpid(k.pid, NULL, 0), k.pid);
        assert_null(peer_open_how(k.fd, *w, &e)); /* and waited for */
        assert_string_equal(e.rule, "peer-gone");
        child_end(&k);
    }
}

static void exits_after_open(void **state)
{
    WAYS(w)
    {
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        struct peer *p = peer_open_how(k.fd, *w, &e);
        assert_non_null(p);
        child_do(&k, 'q');
        siginfo_t si;
        assert_int_equal(waitid(P_PID, (id_t)k.pid, &si, WEXITED | WNOWAIT), 0);
        assert_false(peer_alive(p));
        assert_int_equal(waitpid(k.pid, NULL, 0), k.pid);
        assert_false(peer_alive(p));
        assert_int_equal(peer_attest(p, &s, &e), -1);
        assert_string_equal(e.rule, "peer-gone");
        assert_int_equal(s.n, 0);
        peer_free(p);
        child_end(&k);
    }
}

static void becomes_another_program(void **state)
{
    WAYS(w)
    {
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        struct peer *p = peer_open_how(k.fd, *w, &e);
        assert_non_null(p);
        assert_int_equal(peer_attest(p, &s, &e), 0);
        peer_selectors_free(&s);
        child_do(&k, 'x');
        assert_false(peer_alive(p));
        assert_int_equal(peer_attest(p, &s, &e), -1);
        assert_string_equal(e.rule, "peer-changed");
        peer_free(p);
        child_end(&k);
    }
}

static void changes_owner(void **state)
{
    if (geteuid() != 0)
        skip();
    for (const char *how = "ug"; *how; how++)
        WAYS(w)
        {
            struct child k = child_start();
            struct peer_selectors s;
            struct err e;
            struct peer *p = peer_open_how(k.fd, *w, &e);
            assert_non_null(p);
            child_do(&k, *how);
            assert_false(peer_alive(p));
            assert_int_equal(peer_attest(p, &s, &e), -1);
            assert_string_equal(e.rule, "peer-changed");
            struct peer *late = peer_open_how(k.fd, *w, &e); /* as it is now it is not who connected either */
            assert_null(late);
            assert_string_equal(e.rule, "peer-changed");
            peer_free(p);
            child_end(&k);
        }
}

/* Another user's process whose /proc we may not look into: no path, no digest, but an owner. */
static void another_users(void **state)
{
    if (geteuid() != 0)
        skip();
    pid_t pid = fork();
    if (pid == 0) {
        /* the child of this child stays root and is the peer; its parent looks at it as somebody */
        struct child k = child_start();
        struct peer_selectors s;
        struct err e;
        if (setgroups(0, NULL) < 0 || setresgid(12345, 12345, 12345) < 0 || setresuid(12345, 12345, 12345) < 0)
            _exit(2);
        struct peer *p = peer_open(k.fd, &e);
        if (!p || peer_attest(p, &s, &e) < 0)
            _exit(3);
        bool good = has(&s, "unix:uid:0") && !has_kind(&s, "unix:path:") && !has_kind(&s, "unix:sha256:");
        _exit(good ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- paths ---------------------------------------------------------------------------------------------- */

/* /proc/PID/exe says "/path (deleted)", and a file of that very name may be there: no path is told. */
static void deleted_program(void **state)
{
    const char *path = scratch_path("gone");
    char hex[65];
    struct peer_selectors s;
    struct err e;
    scratch_copy("/bin/sleep", path);
    file_sha256(hex, path);
    struct child k = child_start();
    child_do(&k, 'y');
    struct peer *p = peer_open(k.fd, &e);
    assert_non_null(p);
    assert_int_equal(peer_attest(p, &s, &e), 0);
    assert_true(has(&s, "unix:path:%s", path));
    peer_selectors_free(&s);
    unlink(path);
    scratch_copy("/bin/true", scratch_path("gone (deleted)"));
    assert_int_equal(peer_attest(p, &s, &e), 0);
    assert_false(has_kind(&s, "unix:path:"));
    assert_true(has(&s, "unix:sha256:%s", hex)); /* the bytes that run are there still */
    peer_selectors_free(&s);
    peer_free(p);
    child_end(&k);
}

/* A name that could not stand in an entry is not mended into one that could. */
static void path_with_control_characters(void **state)
{
    struct peer_selectors s;
    struct err e;
    scratch_copy("/bin/sleep", scratch_path("new\nline"));
    struct child k = child_start();
    child_do(&k, 'n');
    struct peer *p = peer_open(k.fd, &e);
    assert_non_null(p);
    assert_int_equal(peer_attest(p, &s, &e), 0);
    assert_false(has_kind(&s, "unix:path:"));
    assert_true(has_kind(&s, "unix:sha256:"));
    peer_selectors_free(&s);
    peer_free(p);
    child_end(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells), cmocka_unit_test(ourselves), cmocka_unit_test(probes_pidfd),
        cmocka_unit_test(exits_before_open), cmocka_unit_test(exits_after_open),
        cmocka_unit_test(becomes_another_program), cmocka_unit_test(changes_owner),
        cmocka_unit_test(another_users), cmocka_unit_test(deleted_program),
        cmocka_unit_test(path_with_control_characters),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
