/* What libmayfly-tlog costs a relying party beside its signature verifications, which are measured
 * alone by the same key objects.  bench_verify_cert [SLICES] → a line of JSON per policy
 * The certificate stands in a log of 2^20 entries: its path has twenty hashes. */
#include "tests/unit/tlog/proven.h"
#include <mayfly/tlog.h>
#include <time.h>

#define WITNESSES 16
#define BEFORE ((1 << 20) - PROVEN_BATCH)
#define SLICE 10       /* calls timed together */
#define SLICES_MAX 2000 /* the middle one counts */

static struct proven_cert p;
static struct test_log w[WITNESSES];
static struct buf texts[WITNESSES + 1]; /* what each key signed */
static uint8_t sigs[WITNESSES + 1][64];

/* Of this thread: what else the machine does is not our cost. */
static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void key_line(struct buf *out, const char *word, unsigned n, const struct tlog_vkey *k)
{
    buf_str(out, word);
    if (k->type == TLOG_KEY_WITNESS)
        buf_fmt(out, " w%u", n);
    buf_str(out, " ");
    tlog_vkey_write(k, out);
    buf_str(out, "\n");
}

/* The certificate with `witnesses` cosignatures, and the policy that asks for all of them. */
static struct mayfly_tlog_policy *scene(unsigned witnesses)
{
    struct mayfly_tlog_policy *policy = mayfly_tlog_policy_new();
    struct buf text, lines;
    uint64_t now = (uint64_t)time(NULL);
    buf_init(&text, 65536);
    buf_init(&lines, 65536);
    key_line(&text, "log", 0, &p.k.vkey);
    for (unsigned i = 0; i < witnesses; i++) {
        key_line(&text, "witness", i, &w[i].vkey);
        sig_line(&lines, &w[i], now, view(&p.text));
        buf_reset(&texts[i + 1]);
        tlog_cosign_text(now, view(&p.text), &texts[i + 1]);
        test_sign(&w[i], texts[i + 1].p, texts[i + 1].len, sigs[i + 1], NULL);
    }
    if (witnesses)
        buf_fmt(&text, "quorum %u\nmax-age 1h\n", witnesses);
    else
        buf_str(&text, "quorum none\n");
    proven_staple(&p, view(&lines));
    assert_int_equal(mayfly_tlog_policy_parse(policy, (const char *)text.p, text.len, NULL), 0);
    buf_free(&text);
    buf_free(&lines);
    return policy;
}

static double verify_us(const struct mayfly_tlog_policy *policy)
{
    struct mayfly_tlog_result r = MAYFLY_TLOG_RESULT_INIT;
    double start = cpu_us();
    for (int i = 0; i < SLICE; i++)
        assert_int_equal(mayfly_tlog_verify(policy, p.cert.p, p.cert.len, &r), 0);
    return (cpu_us() - start) / SLICE;
}

static double signatures_us(unsigned witnesses)
{
    double start = cpu_us();
    for (int i = 0; i < SLICE; i++)
        for (unsigned k = 0; k <= witnesses; k++)
            assert_true(tlog_vkey_verify(k ? &w[k - 1].vkey : &p.k.vkey, sigs[k], texts[k].p,
                                         texts[k].len));
    return (cpu_us() - start) / SLICE;
}

static double middle(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static void measure(unsigned witnesses, size_t slices)
{
    static double whole[SLICES_MAX], sigs_only[SLICES_MAX], rest[SLICES_MAX];
    struct mayfly_tlog_policy *policy = scene(witnesses);
    for (size_t i = 0; i < slices; i++) { /* side by side, so that both see the same machine */
        whole[i] = verify_us(policy);
        sigs_only[i] = signatures_us(witnesses);
        rest[i] = whole[i] - sigs_only[i];
    }
    printf("{\"witnesses\":%u,\"certificate_bytes\":%zu,\"verify_us\":%.1f,\"signatures_us\":%.1f,"
           "\"beyond_us\":%.1f}\n",
           witnesses, p.cert.len, middle(whole, slices), middle(sigs_only, slices),
           middle(rest, slices));
    mayfly_tlog_policy_free(policy);
}

int main(int argc, char **argv)
{
    size_t slices = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
    char name[64];
    if (slices < 1 || slices > SLICES_MAX)
        return 2;
    proven_make_in(&p, BEFORE, (uint64_t)1 << 48 | (BEFORE + PROVEN_INDEX));
    assert_int_equal(p.path_len, 20);
    for (unsigned i = 0; i < WITNESSES; i++) {
        snprintf(name, sizeof name, "witness.example.net/%u", i);
        test_witness(&w[i], name);
    }
    for (unsigned i = 0; i <= WITNESSES; i++)
        buf_init(&texts[i], TLOG_NOTE_MAX);
    buf_put(&texts[0], p.text.p, p.text.len);
    test_sign(&p.k, p.text.p, p.text.len, sigs[0], NULL);
    measure(0, slices);
    measure(2, slices);
    measure(WITNESSES, slices);
    for (unsigned i = 0; i <= WITNESSES; i++)
        buf_free(&texts[i]);
    for (unsigned i = 0; i < WITNESSES; i++)
        test_key_free(&w[i]);
    proven_free(&p);
    return 0;
}
