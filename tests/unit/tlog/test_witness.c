/* What a witness answers, and that it never forgets what it has answered. */
#include "tests/unit/tlog/proven.h"
#include "base/log.h"
#include "tlog/witness.h"
#include <pthread.h>
#include <signal.h>

#define ORIGIN "log.example.org/witnessed"
#define LEAVES 300

static struct test_log k, other, self; /* the log's key, another's, the witness's */
static char base[64], dir[96];
static struct tlog_hash leaf[LEAVES], forked[LEAVES];
static struct tlog_witness *w;
static struct tlog_witness_answer a;

/* RFC 6962 section 2.1, as it stands there. */
static void subtree(const struct tlog_hash *l, size_t n, struct tlog_hash *root)
{
    struct tlog_hash left, right;
    size_t half = 1;
    if (n == 0) {
        merkle_empty(root);
        return;
    }
    if (n == 1) {
        *root = *l;
        return;
    }
    while (half * 2 < n)
        half *= 2;
    subtree(l, half, &left);
    subtree(l + half, n - half, &right);
    merkle_node(root, &left, &right);
}

static size_t subproof(const struct tlog_hash *l, size_t m, size_t n, bool whole, struct tlog_hash *out)
{
    size_t half = 1, count;
    if (m == n) {
        if (!whole)
            subtree(l, n, out);
        return !whole;
    }
    while (half * 2 < n)
        half *= 2;
    if (m <= half) {
        count = subproof(l, m, half, whole, out);
        subtree(l + half, n - half, &out[count]);
    } else {
        count = subproof(l + half, m - half, n - half, false, out);
        subtree(l, half, &out[count]);
    }
    return count + 1;
}

static void note_by(struct buf *out, struct test_log *by, const char *origin, const struct tlog_hash *l, size_t size)
{
    struct tlog_checkpoint c = {.size = size};
    struct buf text;
    snprintf(c.origin, sizeof c.origin, "%s", origin);
    subtree(l, size, &c.root);
    buf_init(&text, TLOG_NOTE_MAX);
    tlog_checkpoint_body(&c, &text);
    buf_put(out, text.p, text.len);
    buf_str(out, "\n");
    sig_line(out, by, 0, view(&text));
    buf_free(&text);
}

static void request(struct buf *out, size_t old, const struct tlog_hash *l, size_t size)
{
    struct tlog_add q = {.old = old};
    struct buf note;
    buf_init(&note, TLOG_NOTE_MAX);
    note_by(&note, &k, ORIGIN, l, size);
    if (old > 0 && old < size)
        q.count = subproof(l, old, size, true, q.proof);
    q.note = view(&note);
    buf_reset(out);
    tlog_add_write(&q, out);
    assert_false(out->failed);
    buf_free(&note);
}

static unsigned ask(size_t old, const struct tlog_hash *l, size_t size)
{
    struct buf b;
    struct err e = {0};
    buf_init(&b, TLOG_ADD_MAX);
    request(&b, old, l, size);
    int rc = tlog_witness_add(w, b.p, b.len, &a, &e);
    assert_int_equal(rc, a.status == 200 ? 0 : -1);
    assert_int_equal(a.size, a.status == 409);
    assert_true(a.body.len > 0 && a.body.p[a.body.len - 1] == '\n');
    buf_free(&b);
    return a.status;
}

static unsigned ask_raw(const char *text, size_t len)
{
    struct err e = {0};
    assert_int_equal(tlog_witness_add(w, text, len, &a, &e), -1);
    assert_true(e.msg[0] && a.body.len > 1);
    return a.status;
}

static void body_is(const char *text)
{
    assert_string_equal(buf_cstr(&a.body), text);
}

static struct tlog_witness_options options(void)
{
    static struct tlog_vkey logs[1];
    logs[0] = k.vkey;
    return (struct tlog_witness_options){.dir = dir, .self = &self.vkey, .logs = logs, .log_count = 1,
                                         .sign = test_sign, .sign_arg = &self};
}

static void reopen(void)
{
    const struct tlog_witness_options o = options();
    struct err e;
    tlog_witness_close(w);
    assert_ok(tlog_witness_open(&w, &o, &e), e);
}

static unsigned open_refused_by(const char *rule)
{
    const struct tlog_witness_options o = options();
    struct err e;
    tlog_witness_close(w);
    w = NULL;
    assert_int_equal(tlog_witness_open(&w, &o, &e), -1);
    assert_null(w);
    if (strcmp(e.rule, rule) != 0)
        fail_msg("wanted %s, got [%s] %s", rule, e.rule, e.msg);
    return e.code;
}

static int begin(void **state)
{
    struct err e;
    snprintf(base, sizeof base, "/tmp/witness-test-XXXXXX");
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/state", base);
    assert_ok(tlog_witness_create(dir, &self.vkey, &e), e);
    reopen();
    return 0;
}

static int end(void **state)
{
    tlog_witness_close(w);
    w = NULL;
    shell("rm -rf '%s'", base);
    return 0;
}

static unsigned evidence(void)
{
    char cmd[200], out[16] = "";
    snprintf(cmd, sizeof cmd, "ls %s | grep -c ^fork-", dir);
    FILE *f = popen(cmd, "r");
    assert_non_null(fgets(out, sizeof out, f));
    pclose(f);
    return (unsigned)atoi(out);
}

/* --- the request --------------------------------------------------------------------------------- */

#define HASH_LINE "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

static void request_forms(void **state)
{
    static const char *const bad[] = {
        "", "old 0", "old 0\n", "old 0\n\n", "old \n\nx\n", "old 00\n\nx\n", "old -1\n\nx\n", "old +1\n\nx\n",
        "old 1 \n\nx\n", "OLD 1\n\nx\n", "old 18446744073709551616\n\nx\n", "old 1\r\n\r\nx\n", "\n\nx\n",
        "old 1\nAAAA\n\nx\n", "old 1\n" HASH_LINE, "old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\nx\n",
        "old 1\n " HASH_LINE "\nx\n",
    };
    struct tlog_add q;
    struct err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (tlog_add_parse(&q, bad[i], strlen(bad[i]), &e) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_rule(e, "add-checkpoint");
        assert_int_equal(ask_raw(bad[i], strlen(bad[i])), 400);
    }
    static const char good[] = "old 18446744073709551615\n" HASH_LINE "\nx";
    assert_ok(tlog_add_parse(&q, good, sizeof good - 1, &e), e);
    assert_true(q.old == UINT64_MAX && q.count == 1 && q.note.len == 1);
}

/* 63 hashes are taken, 64 not; and what is larger than any request is. */
static void bounds(void **state)
{
    struct tlog_add q = {.old = 1, .count = TLOG_ADD_HASHES, .note = {(const uint8_t *)"x\n", 2}}, r;
    struct buf b;
    struct err e;
    buf_init(&b, 2 * TLOG_ADD_MAX);
    tlog_add_write(&q, &b);
    assert_ok(tlog_add_parse(&r, b.p, b.len, &e), e);
    assert_int_equal(r.count, 63);
    buf_reset(&b);
    buf_str(&b, "old 1\n");
    for (int i = 0; i < 64; i++)
        buf_str(&b, HASH_LINE);
    buf_str(&b, "\nx\n");
    assert_int_equal(ask_raw((const char *)b.p, b.len), 400);
    buf_reset(&b);
    buf_str(&b, "old 1\n\n");
    while (b.len <= TLOG_ADD_MAX)
        buf_str(&b, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n");
    assert_int_equal(ask_raw((const char *)b.p, b.len), 413);
    b.len = TLOG_NOTE_MAX + 8; /* the note alone is too large */
    assert_int_equal(ask_raw((const char *)b.p, b.len), 413);
    buf_free(&b);
}

/* --- the answers --------------------------------------------------------------------------------- */

static void growing(void **state)
{
    static const size_t sizes[] = {0, 1, 2, 3, 7, 8, 9, 64, 200, 256, 257, 300};
    size_t old = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct tlog_cosignature s;
        struct tlog_checkpoint c = {.size = sizes[i], .origin = ORIGIN};
        struct buf text;
        struct err e;
        if (ask(old, leaf, sizes[i]) != 200)
            fail_msg("%zu to %zu: %u %s", old, sizes[i], a.status, buf_cstr(&a.body));
        subtree(leaf, c.size, &c.root);
        buf_init(&text, 1024);
        tlog_checkpoint_body(&c, &text);
        assert_ok(tlog_cosign_parse(&s, &self.vkey, (struct bytes){a.body.p, a.body.len - 1}, &e), e);
        assert_ok(tlog_cosign_verify(&s, &self.vkey, view(&text), &e), e);
        assert_true(s.time > 1700000000);
        buf_free(&text);
        old = sizes[i];
        if (i % 2)
            reopen();
        assert_int_equal(ask(old, leaf, old), 200); /* asked again: cosigned again */
    }
}

static void old_size(void **state)
{
    assert_int_equal(ask(5, leaf, 9), 409); /* nothing was seen yet */
    body_is("0\n");
    assert_int_equal(ask(0, leaf, 9), 200);
    assert_int_equal(ask(0, leaf, 20), 409);
    body_is("9\n");
    assert_int_equal(ask(8, leaf, 20), 409);
    assert_int_equal(ask(10, leaf, 20), 409);
    assert_int_equal(ask(21, leaf, 20), 400);
    assert_int_equal(ask(9, leaf, 20), 200);
}

static void rollback(void **state)
{
    assert_int_equal(ask(0, leaf, 100), 200);
    assert_int_equal(ask(0, leaf, 50), 409);
    body_is("100\n");
    assert_int_equal(ask(50, leaf, 50), 409);
    assert_int_equal(ask(100, leaf, 50), 400);
    reopen();
    assert_int_equal(ask(0, leaf, 50), 409);
    body_is("100\n");
    assert_int_equal(evidence(), 0); /* an old head may be shown in good faith */
    assert_int_equal(ask(100, leaf, 101), 200);
}

/* A later head of another history, with the best proof that there is. */
static void fork_later(void **state)
{
    assert_int_equal(ask(0, leaf, 100), 200);
    assert_int_equal(ask(100, forked, 150), 422);
    assert_int_equal(ask(100, leaf, 150), 200);
}

/* The same size, another root: refused whatever old size is named, and kept. */
static void fork_same_size(void **state)
{
    char cmd[300];
    assert_int_equal(ask(0, leaf, 100), 200);
    assert_int_equal(ask(100, forked, 100), 409);
    body_is("100\n");
    assert_int_equal(evidence(), 1);
    assert_int_equal(ask(0, forked, 100), 409); /* shown again, nothing new */
    reopen();
    assert_int_equal(ask(100, forked, 100), 409);
    assert_int_equal(evidence(), 1);
    snprintf(cmd, sizeof cmd, "grep -c '^\xe2\x80\x94 " ORIGIN "' %s/fork-*.txt | grep -qx 2", dir);
    assert_int_equal(system(cmd), 0); /* both heads with their signatures */
    assert_int_equal(ask(100, leaf, 101), 200);
}

static void bad_proof(void **state)
{
    struct buf b;
    struct tlog_add q;
    struct err e = {0};
    buf_init(&b, TLOG_ADD_MAX);
    assert_int_equal(ask(0, leaf, 100), 200);
    request(&b, 100, leaf, 150);
    struct buf again;
    buf_init(&again, TLOG_ADD_MAX);
    for (int form = 0; form < 4; form++) {
        assert_ok(tlog_add_parse(&q, b.p, b.len, &e), e);
        if (form == 0)
            q.proof[1].b[7] ^= 1;
        else if (form == 1)
            q.count--;
        else if (form == 2)
            q.proof[q.count++] = leaf[0];
        else
            q.count = 0;
        buf_reset(&again);
        tlog_add_write(&q, &again);
        assert_int_equal(tlog_witness_add(w, again.p, again.len, &a, &e), -1);
        assert_int_equal(a.status, 422);
    }
    assert_int_equal(ask(100, leaf, 150), 200);
    /* a proof where none belongs */
    assert_ok(tlog_add_parse(&q, b.p, b.len, &e), e);
    q.old = 150;
    buf_reset(&again);
    tlog_add_write(&q, &again);
    assert_int_equal(tlog_witness_add(w, again.p, again.len, &a, &e), -1);
    assert_int_equal(a.status, 422);
    buf_free(&again);
    buf_free(&b);
}

static void strangers(void **state)
{
    struct buf b;
    struct err e;
    buf_init(&b, TLOG_ADD_MAX);
    buf_str(&b, "old 0\n\n");
    note_by(&b, &other, "another.example.org/log", leaf, 5);
    assert_int_equal(tlog_witness_add(w, b.p, b.len, &a, &e), -1);
    assert_int_equal(a.status, 404);
    buf_reset(&b);
    buf_str(&b, "old 0\n\n");
    note_by(&b, &other, ORIGIN, leaf, 5); /* the log's name, signed by another's key */
    assert_int_equal(tlog_witness_add(w, b.p, b.len, &a, &e), -1);
    assert_int_equal(a.status, 403);
    request(&b, 0, leaf, 5); /* the log's key, and one bit of the text is another */
    *(char *)memmem(b.p, b.len, "\n5\n", 3) = '\n';
    ((char *)memmem(b.p, b.len, "\n5\n", 3))[1] = '6';
    assert_int_equal(tlog_witness_add(w, b.p, b.len, &a, &e), -1);
    assert_int_equal(a.status, 403);
    assert_int_equal(ask(0, leaf, 5), 200);
    buf_free(&b);
}

/* Other lines in the note are nobody's that it knows: not kept, and no hindrance. */
static void other_lines(void **state)
{
    char cmd[200];
    struct buf b;
    struct err e;
    buf_init(&b, TLOG_ADD_MAX);
    request(&b, 0, leaf, 5);
    for (int i = 0; i < 99; i++)
        buf_str(&b, "\xe2\x80\x94 someone AAAAAAAAAAAA\n");
    assert_ok(tlog_witness_add(w, b.p, b.len, &a, &e), e);
    snprintf(cmd, sizeof cmd, "! grep -q someone %s/*.head", dir);
    assert_int_equal(system(cmd), 0);
    buf_str(&b, "\xe2\x80\x94 someone AAAAAAAAAAAA\n");
    assert_int_equal(tlog_witness_add(w, b.p, b.len, &a, &e), -1);
    assert_int_equal(a.status, 400); /* 101 */
    reopen();
    assert_int_equal(ask(5, leaf, 6), 200);
    buf_free(&b);
}

/* --- the answers, as they are read --------------------------------------------------------------- */

static void answers_read(void **state)
{
    static const char *const bad_sizes[] = {"", "7", "\n", "07\n", "7\n\n", "7\nx", "x\n", "-1\n"};
    struct tlog_checkpoint c = {.size = 5, .origin = ORIGIN};
    struct tlog_cosignature s;
    struct buf text, body;
    struct err e;
    uint64_t size;
    for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++)
        assert_int_equal(tlog_add_size(&size, (struct bytes){(const uint8_t *)bad_sizes[i], strlen(bad_sizes[i])}, &e), -1);
    assert_ok(tlog_add_size(&size, (struct bytes){(const uint8_t *)"123\n", 4}, &e), e);
    assert_int_equal(size, 123);
    buf_init(&text, 1000);
    buf_init(&body, 10000);
    subtree(leaf, c.size, &c.root);
    tlog_checkpoint_body(&c, &text);
    assert_int_equal(tlog_add_cosignature(&s, &self.vkey, view(&text), view(&body), &e), -1);
    buf_str(&body, "noise\n\xe2\x80\x94 stranger.example AAAAAAAAAAAA\n");
    assert_int_equal(tlog_add_cosignature(&s, &self.vkey, view(&text), view(&body), &e), -1);
    assert_rule(e, "cosignature");
    assert_int_equal(ask(0, leaf, 5), 200);
    buf_put(&body, a.body.p, a.body.len);
    assert_ok(tlog_add_cosignature(&s, &self.vkey, view(&text), view(&body), &e), e);
    text.p[text.len - 3] ^= 1; /* of another root */
    assert_int_equal(tlog_add_cosignature(&s, &self.vkey, view(&text), view(&body), &e), -1);
    assert_rule(e, "cosignature");
    buf_free(&text);
    buf_free(&body);
}

/* --- what it keeps ------------------------------------------------------------------------------- */

static void damage(void **state)
{
    assert_int_equal(ask(0, leaf, 100), 200);
    shell("cp %s/*.head %s/kept", dir, base);
    shell("sed -i 's/^100$/99/' %s/*.head", dir);
    assert_int_equal(open_refused_by("witness-state"), ERR_CORRUPT);
    shell(": > $(ls %s/*.head)", dir);
    assert_int_equal(open_refused_by("witness-state"), ERR_CORRUPT);
    shell("cp %s/kept $(ls %s/*.head)", base, dir);
    reopen();
    assert_int_equal(ask(0, leaf, 101), 409);
    body_is("100\n");
}

static void whose_folder(void **state)
{
    struct tlog_witness *second;
    struct tlog_witness_options o = options();
    struct err e;
    assert_int_equal(tlog_witness_create(dir, &self.vkey, &e), -1);
    assert_int_equal(e.code, ERR_EXISTS);
    assert_int_equal(tlog_witness_open(&second, &o, &e), -1);
    assert_rule(e, "witness-locked");
    o.self = &other.vkey;
    assert_int_equal(tlog_witness_open(&second, &o, &e), -1);
    assert_rule(e, "witness-state");
    shell("rm %s/vkey", dir);
    assert_int_equal(open_refused_by("witness-state"), ERR_NOT_FOUND);
}

static void not_written(void **state)
{
    if (geteuid() == 0) { /* root writes anywhere: put a folder where the file belongs */
        assert_int_equal(ask(0, leaf, 10), 200);
        shell("f=$(ls %s/*.head); mv $f %s/kept; mkdir -p $f/x", dir, base);
        assert_int_equal(ask(10, leaf, 20), 500);
        shell("f=$(ls -d %s/*.head); rm -r $f; mv %s/kept $f", dir, base);
    } else {
        assert_int_equal(ask(0, leaf, 10), 200);
        shell("chmod 555 %s", dir);
        assert_int_equal(ask(10, leaf, 20), 500);
        shell("chmod 755 %s", dir);
    }
    assert_int_equal(ask(0, leaf, 20), 409); /* nothing was cosigned, so nothing is forgotten */
    body_is("10\n");
    assert_int_equal(ask(10, leaf, 20), 200);
}

static void *racer(void *arg)
{
    const struct buf *b = arg;
    struct tlog_witness_answer mine = {0};
    uintptr_t won = 0;
    struct err e;
    buf_init(&mine.body, 4096);
    for (int i = 0; i < 20; i++)
        won += tlog_witness_add(w, b->p, b->len, &mine, &e) == 0;
    buf_free(&mine.body);
    return (void *)won;
}

/* Two histories race to extend one head: one of them wins, and the other is never cosigned. */
static void race(void **state)
{
    static struct tlog_hash half[LEAVES];
    for (size_t i = 0; i < LEAVES; i++)
        half[i] = i < 10 ? leaf[i] : forked[i];
    struct buf asks[2];
    for (int i = 0; i < 2; i++) {
        buf_init(&asks[i], TLOG_ADD_MAX);
        request(&asks[i], 10, i ? half : leaf, 40);
    }
    for (int round = 0; round < 10; round++) {
        pthread_t t[4];
        void *won[4];
        end(NULL);
        begin(NULL);
        assert_int_equal(ask(0, leaf, 10), 200);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&t[i], NULL, racer, &asks[i % 2]), 0);
        for (size_t i = 0; i < 4; i++)
            pthread_join(t[i], &won[i]);
        assert_int_equal((uintptr_t)won[0] + (uintptr_t)won[1] + (uintptr_t)won[2] + (uintptr_t)won[3], 1);
        bool first = won[0] || won[2];
        assert_int_equal(ask(40, first ? leaf : half, 41), 200);
        assert_int_equal(evidence(), 1);
    }
    buf_free(&asks[0]);
    buf_free(&asks[1]);
}

/* Killed at any moment: the head is never behind what was answered. */
static void killed(void **state)
{
    for (unsigned round = 0; round < 12; round++) {
        int p[2], status;
        size_t size = 0, v;
        end(NULL);
        begin(NULL);
        tlog_witness_close(w);
        w = NULL;
        assert_int_equal(pipe(p), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            reopen();
            for (v = 1; v <= LEAVES; v++) {
                if (ask(v - 1, leaf, v) != 200 || write(p[1], &v, sizeof v) != sizeof v)
                    _exit(1);
            }
            _exit(0);
        }
        close(p[1]);
        while (size < round * 3 && read(p[0], &v, sizeof v) == sizeof v)
            size = v;
        usleep(round * 130); /* somewhere within the next ones */
        kill(pid, SIGKILL);
        while (read(p[0], &v, sizeof v) == sizeof v)
            size = v;
        close(p[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        reopen();
        shell("! ls -A %s | grep -q tmp-", dir);
        assert_int_equal(ask(LEAVES, leaf, LEAVES), size == LEAVES ? 200 : 409);
        size_t kept = size == LEAVES ? LEAVES : strtoul(buf_cstr(&a.body), NULL, 10);
        if (kept != size && kept != size + 1)
            fail_msg("answered %zu, kept %zu", size, kept);
    }
}

int main(void)
{
    for (size_t i = 0; i < LEAVES; i++) {
        merkle_leaf(&leaf[i], &i, sizeof i);
        merkle_leaf(&forked[i], &i, sizeof i - 1);
    }
    log_setup("test", LOG_ERROR, LOG_TEXT);
    test_key(&k, ORIGIN);
    test_key(&other, ORIGIN);
    test_witness(&self, "witness.example.net/w");
    buf_init(&a.body, 4096);
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        T(request_forms), T(bounds), T(growing), T(old_size), T(rollback), T(fork_later), T(fork_same_size),
        T(bad_proof), T(answers_read), T(strangers), T(other_lines), T(damage), T(whose_folder), T(not_written), T(race),
        T(killed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&a.body);
    test_key_free(&k);
    test_key_free(&other);
    test_key_free(&self);
    return failed;
}
