/* The tree: published vectors, and every batch of small trees against the definition. */
#include "tests/unit/tlog/support.h"
#include <jansson.h>

static const char *vectors(void)
{
    const char *v = getenv("MAYFLY_VECTORS");
    return v && *v ? v : "../shared/vectors";
}

/* A hash that is not 32 bytes long can not be said to the verifier: malformed, so an error. */
static bool hash_field(const json_t *v, struct tlog_hash *h)
{
    const char *s = json_string_value(v);
    return s && b64_decode(h->b, TLOG_HASH, s, strlen(s)) == TLOG_HASH;
}

/* Unsigned 64-bit, which JSON integers of the parser are not. */
static uint64_t number_field(const char *line, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *p = strstr(line, quoted);
    assert_non_null(p);
    return strtoull(p + strlen(quoted), NULL, 10);
}

static bool proof_field(const json_t *v, struct tlog_hash *proof, size_t *n)
{
    *n = json_array_size(v);
    assert_true(*n <= TLOG_LEVELS);
    for (size_t i = 0; i < *n; i++)
        if (!hash_field(json_array_get(v, i), &proof[i]))
            return false;
    return true;
}

static int vector_run(const char *line, const json_t *v, bool inclusion)
{
    struct tlog_hash proof[TLOG_LEVELS], a, b;
    struct err e;
    size_t n;
    if (!proof_field(json_object_get(v, "proof"), proof, &n))
        return -1;
    if (inclusion) {
        if (!hash_field(json_object_get(v, "leafHash"), &a) ||
            !hash_field(json_object_get(v, "root"), &b))
            return -1;
        return merkle_verify_inclusion(number_field(line, "leafIdx"),
                                       number_field(line, "treeSize"), &a, proof, n, &b, &e);
    }
    if (!hash_field(json_object_get(v, "root1"), &a) ||
        !hash_field(json_object_get(v, "root2"), &b))
        return -1;
    return merkle_verify_consistency(number_field(line, "size1"), number_field(line, "size2"), &a,
                                     &b, proof, n, &e);
}

static void vectors_run(const char *file, bool inclusion)
{
    char path[512], line[8192];
    int good = 0, bad = 0;
    snprintf(path, sizeof path, "%s/merkle/%s", vectors(), file);
    FILE *f = fopen(path, "re");
    if (!f) {
        printf("no test vectors at %s: skipped\n", path);
        skip();
    }
    while (fgets(line, sizeof line, f)) {
        json_error_t je;
        json_t *v = json_loads(line, JSON_DECODE_INT_AS_REAL, &je);
        assert_non_null(v);
        bool want_err = json_is_true(json_object_get(v, "wantErr"));
        if ((vector_run(line, v, inclusion) != 0) != want_err)
            fail_msg("%s", json_string_value(json_object_get(v, "name")));
        want_err ? bad++ : good++;
        json_decref(v);
    }
    fclose(f);
    assert_true(good > 0 && bad > 10);
}

static void inclusion_vectors(void **state)
{
    vectors_run("inclusion.jsonl", true);
}

static void consistency_vectors(void **state)
{
    vectors_run("consistency.jsonl", false);
}

/* RFC 9162 section 2.1.1, word for word. */
static void mth(const struct tlog_hash *d, size_t n, struct tlog_hash *out)
{
    if (n == 0) {
        merkle_empty(out);
    } else if (n == 1) {
        *out = d[0];
    } else {
        size_t k = 1;
        while (2 * k < n)
            k *= 2;
        struct tlog_hash l, r;
        mth(d, k, &l);
        mth(d + k, n - k, &r);
        merkle_node(out, &l, &r);
    }
}

/* RFC 9162 section 2.1.3.1. */
static size_t path_of(const struct tlog_hash *d, size_t m, size_t n, struct tlog_hash *out)
{
    if (n == 1)
        return 0;
    size_t k = 1, len;
    while (2 * k < n)
        k *= 2;
    if (m < k) {
        len = path_of(d, m, k, out);
        mth(d + k, n - k, &out[len]);
    } else {
        len = path_of(d + k, m - k, n - k, out);
        mth(d, k, &out[len]);
    }
    return len + 1;
}

#define LEAVES 700
static struct tlog_hash leaf[LEAVES];

static void leaves_make(void)
{
    for (uint32_t i = 0; i < LEAVES; i++)
        merkle_leaf(&leaf[i], &i, sizeof i);
}

static void frontier_matches(const struct merkle_frontier *f, size_t size)
{
    struct tlog_hash root, want;
    assert_int_equal(f->size, size);
    merkle_frontier_root(f, &root);
    mth(leaf, size, &want);
    assert_memory_equal(&root, &want, sizeof root);
}

static void batch_case(struct merkle_batch *b, const struct merkle_frontier *at, size_t n)
{
    struct merkle_frontier f = *at;
    struct tlog_hash root, want, proof[TLOG_LEVELS], naive[TLOG_LEVELS];
    struct err e;
    size_t size = (size_t)at->size + n;
    merkle_batch_append(b, &f, leaf + at->size, n);
    frontier_matches(&f, size);
    merkle_batch_root(b, &root);
    merkle_frontier_root(&f, &want);
    assert_memory_equal(&root, &want, sizeof root);
    /* first, last and one between: the naive proof costs a whole tree */
    size_t picks[3] = {0, n / 2, n - 1};
    for (size_t i = 0; i < 3 && n > 0; i++) {
        size_t got = merkle_batch_proof(b, picks[i], proof), m = (size_t)at->size + picks[i];
        assert_int_equal(got, path_of(leaf, m, size, naive));
        assert_memory_equal(proof, naive, got * sizeof proof[0]);
        assert_int_equal(merkle_verify_inclusion(m, size, &leaf[m], proof, got, &root, &e), 0);
    }
}

static void batches(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 64, 100, 255, 256};
    struct merkle_batch *b = merkle_batch_new(TLOG_BATCH_MAX);
    struct merkle_frontier f = {0};
    leaves_make();
    for (size_t start = 0; start <= 300; start++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            batch_case(b, &f, sizes[i]);
        merkle_frontier_push(&f, &leaf[start]);
        frontier_matches(&f, start + 1);
    }
    merkle_batch_free(b);
}

/* Small trees, whole: every start, every batch size, every leaf; and every lie about the index. */
static void batches_every_leaf(void **state)
{
    struct merkle_batch *b = merkle_batch_new(TLOG_BATCH_MAX);
    struct merkle_frontier at = {0};
    struct tlog_hash root, proof[TLOG_LEVELS];
    struct err e;
    leaves_make();
    for (size_t start = 0; start < 20; start++) {
        for (size_t n = 1; n < 20; n++) {
            struct merkle_frontier f = at;
            size_t size = start + n;
            merkle_batch_append(b, &f, leaf + start, n);
            merkle_frontier_root(&f, &root);
            for (size_t k = 0; k < n; k++) {
                size_t len = merkle_batch_proof(b, k, proof);
                for (size_t m = 0; m < size; m++)
                    assert_int_equal(merkle_verify_inclusion(m, size, &leaf[start + k], proof, len,
                                                             &root, &e) == 0,
                                     m == start + k);
            }
        }
        merkle_frontier_push(&at, &leaf[start]);
    }
    merkle_batch_free(b);
}

/* The frontier carried through batches is the one of single leaves, at sizes with many bits. */
static void batch_frontier(void **state)
{
    struct merkle_batch *b = merkle_batch_new(7);
    struct merkle_frontier f = {0}, g = {0};
    leaves_make();
    for (size_t at = 0, n = 1; at + n <= LEAVES; at += n, n = n % 7 + 1) {
        merkle_batch_append(b, &f, leaf + at, n);
        for (size_t i = 0; i < n; i++)
            merkle_frontier_push(&g, &leaf[at + i]);
        for (unsigned l = 0; l < TLOG_LEVELS; l++)
            if (g.size >> l & 1)
                assert_memory_equal(&f.at[l], &g.at[l], sizeof f.at[l]);
    }
    merkle_batch_free(b);
}

/* RFC 9162 section 2.1.4.1. */
static size_t subproof(const struct tlog_hash *d, size_t m, size_t n, bool whole,
                       struct tlog_hash *out)
{
    if (m == n) {
        if (whole)
            return 0;
        mth(d, n, out);
        return 1;
    }
    size_t k = 1, len;
    while (2 * k < n)
        k *= 2;
    if (m <= k) {
        len = subproof(d, m, k, whole, out);
        mth(d + k, n - k, &out[len]);
    } else {
        len = subproof(d + k, m - k, n - k, false, out);
        mth(d, k, &out[len]);
    }
    return len + 1;
}

static void consistency(void **state)
{
    struct tlog_hash proof[TLOG_LEVELS], a, b;
    struct err e;
    leaves_make();
    for (size_t n = 1; n <= 70; n++)
        for (size_t m = 1; m <= n; m++) {
            size_t len = subproof(leaf, m, n, true, proof);
            mth(leaf, m, &a);
            mth(leaf, n, &b);
            assert_ok(merkle_verify_consistency(m, n, &a, &b, proof, len, &e), e);
            for (size_t i = 0; i < len; i++) {
                proof[i].b[7] ^= 1;
                assert_int_equal(merkle_verify_consistency(m, n, &a, &b, proof, len, &e), -1);
                assert_rule(e, "consistency");
                proof[i].b[7] ^= 1;
            }
            assert_int_equal(merkle_verify_consistency(m, n, &a, &b, proof, len + 1, &e), -1);
            if (len > 0)
                assert_int_equal(merkle_verify_consistency(m, n, &a, &b, proof, len - 1, &e), -1);
            if (m < n)
                assert_int_equal(merkle_verify_consistency(n, m, &b, &a, proof, len, &e), -1);
        }
    merkle_empty(&a);
    assert_int_equal(merkle_verify_consistency(0, 70, &a, &b, NULL, 0, &e), 0);
    assert_int_equal(merkle_verify_consistency(0, 70, &b, &b, NULL, 0, &e), -1);
    assert_int_equal(merkle_verify_consistency(0, 0, &a, &a, NULL, 0, &e), 0);
    assert_int_equal(merkle_verify_consistency(0, 0, &a, &b, NULL, 0, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inclusion_vectors), cmocka_unit_test(consistency_vectors),
        cmocka_unit_test(batches),           cmocka_unit_test(batches_every_leaf),
        cmocka_unit_test(batch_frontier),    cmocka_unit_test(consistency),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
