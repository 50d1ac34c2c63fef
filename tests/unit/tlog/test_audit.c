/* tlog_audit: a sound log is told of rightly; damage, forks and every kind of wrong entry are found
 * under their rule, whatever the number of threads; a kept head spares what it covers, and no more. */
#include "tests/unit/tlog/support.h"
#include "tlog/audit.h"
#include "tlog/record.h"

#define T0 1767225600 /* 2026-01-01 */
#define S(s) ((struct bytes){(const uint8_t *)(s), strlen(s)})
static const struct bytes none = {NULL, 0};

/* --- logs ----------------------------------------------------------------------------------------- */

struct cert {
    const char *entry_id; /* NULL: none */
    uint64_t revision;
    int64_t not_before, lifetime;
    bool ca;
    const char *basic; /* basicConstraints' value instead, with its length */
    size_t basic_len;
};

static struct { /* what the next append takes: a disk flush for each entry would take long */
    struct buf entry[TLOG_BATCH_MAX];
    size_t n;
} batch;

static void flush(struct tlog *log)
{
    struct bytes v[TLOG_BATCH_MAX];
    struct err e;
    uint64_t first;
    for (size_t i = 0; i < batch.n; i++)
        v[i] = view(&batch.entry[i]);
    if (batch.n > 0)
        assert_ok(tlog_append(log, v, batch.n, &first, &e), e);
    for (size_t i = 0; i < batch.n; i++)
        buf_free(&batch.entry[i]);
    batch.n = 0;
}

static void close_log(struct tlog *log)
{
    flush(log);
    tlog_close(log);
}

static void put(struct tlog *log, struct bytes entry)
{
    if (batch.n == TLOG_BATCH_MAX)
        flush(log);
    struct buf *b = &batch.entry[batch.n++];
    buf_init(b, TLOG_ENTRY_MAX);
    buf_put(b, entry.p, entry.len);
    assert_false(b->failed);
}

static void typed(struct tlog *log, uint16_t type, struct bytes extensions, struct bytes body)
{
    struct tlog_entry t = {.type = type, .extensions = extensions, .body = body};
    struct buf entry;
    buf_init(&entry, TLOG_ENTRY_MAX);
    tlog_entry_write(&t, &entry);
    assert_false(entry.failed);
    put(log, view(&entry));
    buf_free(&entry);
}

static void certificate(struct tlog *log, const struct cert *c)
{
    uint8_t name[256], array[512];
    struct derw n, x;
    struct buf ext, body;
    derw_init(&n, name, sizeof name);
    name_put(&n, "issuer");
    derw_init(&x, array, sizeof array);
    ext_put(&x, OID_EXT_NO_REV_AVAIL, OID_LEN(OID_EXT_NO_REV_AVAIL), false, "\x05\x00", 2);
    if (c->basic)
        ext_put(&x, OID_EXT_BASIC, OID_LEN(OID_EXT_BASIC), true, c->basic, c->basic_len);
    else
        ext_put(&x, OID_EXT_BASIC, OID_LEN(OID_EXT_BASIC), true, c->ca ? "\x30\x03\x01\x01\xff" : "\x30\x00",
                c->ca ? 5 : 2);
    buf_init(&ext, 4096);
    buf_init(&body, 4096);
    if (c->entry_id)
        tlog_ext_write(&(struct tlog_ext_info){.attestor = S("join_token"), .entry_id = S(c->entry_id),
                                               .entry_revision = c->revision},
                       &ext);
    const struct tlog_cert_fields f = {.issuer = derw_bytes(&n),
                                       .subject = {(const uint8_t *)"\x30\x00", 2},
                                       .not_before = c->not_before,
                                       .not_after = c->not_before + c->lifetime,
                                       .spki_algorithm = {(const uint8_t *)"\x30\x00", 2},
                                       .extensions = derw_bytes(&x)};
    tlog_cert_body_write(&body, &f);
    assert_false(body.failed);
    typed(log, TLOG_ENTRY_TBS_CERT, view(&ext), view(&body));
    buf_free(&ext);
    buf_free(&body);
}

static void record(struct tlog *log, const struct tlog_record_info *r)
{
    struct buf body;
    struct err e;
    buf_init(&body, TLOG_RECORD_MAX);
    assert_ok(tlog_record_write(r, &body, &e), e);
    typed(log, r->type, none, view(&body));
    buf_free(&body);
}

/* n certificates of seven registration entries, a second apart. */
static void certificates(struct tlog *log, uint64_t n, int64_t from)
{
    static const char *const ids[] = {"a", "b", "c", "d", "e", "f", "g"};
    for (uint64_t i = 0; i < n; i++)
        certificate(log, &(struct cert){ids[i % 7], 1 + (uint64_t)(from - T0) / 100 + i / 100, from + (int64_t)i, 300, false, NULL, 0});
}

static struct tlog *begin(struct test_log *t)
{
    struct err e;
    test_begin(t);
    assert_ok(tlog_create(&t->o, &e), e);
    return open_ok(t);
}

static void begin_with(struct test_log *t, uint64_t n)
{
    struct tlog *log = begin(t);
    certificates(log, n, T0);
    close_log(log);
}

static void keep(struct test_log *t, struct buf *note)
{
    char path[256];
    struct err e;
    snprintf(path, sizeof path, "%s/checkpoint", t->dir);
    buf_init(note, TLOG_NOTE_MAX);
    assert_ok(file_read(note, path, TLOG_NOTE_MAX, &e), e);
}

/* --- auditing --------------------------------------------------------------------------------------- */

#define SEEN_MAX 64
struct seen {
    size_t n;
    uint64_t index[SEEN_MAX];
    char rule[SEEN_MAX][32];
    uint64_t done, total, calls;
};

static void finding(void *arg, uint64_t index, const struct err *why)
{
    struct seen *s = arg;
    char text[32];
    assert_true(s->n < SEEN_MAX);
    assert_true(s->n == 0 || index >= s->index[s->n - 1]);
    snprintf(text, sizeof text, "entry %llu: ", (unsigned long long)index);
    assert_memory_equal(why->msg, text, strlen(text));
    s->index[s->n] = index;
    snprintf(s->rule[s->n++], sizeof s->rule[0], "%s", why->rule);
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    struct seen *s = arg;
    assert_true(done > s->done && done <= total);
    s->done = done;
    s->total = total;
    s->calls++;
}

static int audit_from(struct test_log *t, unsigned threads, struct bytes from, struct seen *s,
                      struct tlog_audit_report *r, struct err *e)
{
    const struct tlog_audit_options o = {.dir = t->dir, .vkey = &t->vkey, .from = from,
                                         .max_lifetime = 300, .threads = threads,
                                         .finding = finding, .progress = progress, .arg = s};
    memset(s, 0, sizeof *s);
    return tlog_audit(&o, r, e);
}

static void audit_fails(struct test_log *t, struct bytes from, const char *rule)
{
    struct tlog_audit_report r;
    struct seen s;
    struct err e;
    for (unsigned threads = 0; threads <= 3; threads++) {
        assert_int_equal(audit_from(t, threads, from, &s, &r, &e), -1);
        if (rule)
            assert_rule(e, rule);
    }
}

/* The findings as "index rule index rule …". */
static void audit_finds(struct test_log *t, const char *want)
{
    struct tlog_audit_report r;
    struct seen s;
    struct err e;
    for (unsigned threads = 0; threads <= 3; threads += 3) {
        char text[1024] = "";
        size_t used = 0;
        assert_ok(audit_from(t, threads, none, &s, &r, &e), e);
        for (size_t i = 0; i < s.n; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%llu %s", i ? ", " : "",
                                     (unsigned long long)s.index[i], s.rule[i]);
        assert_string_equal(text, want);
        assert_int_equal(r.findings, s.n);
        assert_int_equal(s.done, r.checkpoint.size);
    }
}

static void jwt(struct tlog *log, struct bytes registration, uint64_t revision, int64_t time, int64_t lifetime)
{
    record(log, &(struct tlog_record_info){.type = TLOG_ENTRY_JWT, .time = time, .code = TLOG_JWT_SVID, .expires = time + lifetime,
                                           .spiffe_id = S("spiffe://x/y"), .audiences = S("\1a"), .kid = S("k"),
                                           .entry_id = registration, .revision = revision});
}

/* --- what a report says ------------------------------------------------------------------------------ */

static void sound(void **state)
{
    static const uint8_t hash[32] = {1};
    struct test_log t;
    struct tlog_audit_report r;
    struct seen s;
    struct err e;
    struct tlog *log = begin(&t);
    certificate(log, &(struct cert){.not_before = T0 - 900, .lifetime = 315532800, .ca = true});
    certificates(log, 550, T0);
    record(log, &(struct tlog_record_info){.type = TLOG_ENTRY_REVOCATION, .time = T0 + 555, .code = TLOG_BY_ID,
                                           .value = S("spiffe://x/y"), .actor = S("uid:0")});
    record(log, &(struct tlog_record_info){.type = TLOG_ENTRY_REFUSAL, .time = T0 + 556, .code = TLOG_AT_POLICY,
                                           .rule = S("r"), .why = S("w"), .count = 3});
    record(log, &(struct tlog_record_info){.type = TLOG_ENTRY_CHANGE, .time = T0 + 557, .code = TLOG_CREATED,
                                           .entry_id = S("h"), .spiffe_id = S("spiffe://x/y"),
                                           .digest = {hash, 32}, .actor = S("uid:0")});
    record(log, &(struct tlog_record_info){.type = TLOG_ENTRY_AUTHORITY, .time = T0 + 558, .code = TLOG_NEW_CRL,
                                           .value = S("1/2"), .digest = {hash, 32}});
    jwt(log, S("j"), 1, T0 + 558, 300);
    typed(log, 0xff80, none, S("of a later version"));
    certificate(log, &(struct cert){.not_before = T0 + 549, .lifetime = 10}); /* no registration entry */
    close_log(log);
    for (unsigned threads = 0; threads <= 4; threads++) {
        assert_ok(audit_from(&t, threads, none, &s, &r, &e), e);
        assert_int_equal(s.n, 0);
        assert_int_equal(r.findings, 0);
        assert_int_equal(r.checkpoint.size, 559);
        assert_int_equal(r.checked, 559);
        assert_int_equal(r.from.size, 0);
        assert_int_equal(r.count[TLOG_AUDIT_NULL], 1);
        assert_int_equal(r.count[TLOG_AUDIT_CERT], 551);
        assert_int_equal(r.count[TLOG_AUDIT_CA], 1);
        assert_int_equal(r.ca[0], 1);
        for (unsigned k = TLOG_AUDIT_REVOCATION; k <= TLOG_AUDIT_UNKNOWN; k++)
            assert_int_equal(r.count[k], 1);
        assert_int_equal(r.count[TLOG_AUDIT_BAD], 0);
        assert_int_equal(r.registrations, 8);
        assert_int_equal(r.first_time, T0);
        assert_int_equal(r.last_time, T0 + 558);
        assert_int_equal(s.calls, 3);
        assert_int_equal(s.done, 559);
        assert_int_equal(s.total, 559);
    }
    test_end(&t);
}

/* More registration entries than the table begins with, and revisions that rise in all of them. */
static void many_registrations(void **state)
{
    struct test_log t;
    struct tlog_audit_report r;
    struct seen s;
    struct err e;
    struct tlog *log = begin(&t);
    for (unsigned i = 0; i < 3000; i++) {
        char id[16];
        snprintf(id, sizeof id, "id-%u", i % 1500);
        certificate(log, &(struct cert){id, 1 + i / 1500, T0 + i, 60, false, NULL, 0});
    }
    certificate(log, &(struct cert){"id-1499", 1, T0 + 3000, 60, false, NULL, 0}); /* just overtaken */
    certificate(log, &(struct cert){"id-7", 1, T0 + 3000, 60, false, NULL, 0});
    close_log(log);
    assert_ok(audit_from(&t, 2, none, &s, &r, &e), e);
    assert_int_equal(r.registrations, 1500);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.index[0], 3002);
    assert_string_equal(s.rule[0], "entry-revision");
    test_end(&t);
}

/* --- what fails the whole ---------------------------------------------------------------------------- */

static void damage(void **state)
{
    static const char *const files[] = {
        "tile/0/000",       "tile/0/001",       "tile/0/002.p/89",      "tile/1/000.p/2",
        "tile/entries/000", "tile/entries/001", "tile/entries/002.p/89"};
    static const off_t at[] = {0, 40, -1};
    struct test_log t;
    begin_with(&t, 600);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        for (size_t k = 0; k < sizeof at / sizeof at[0]; k++) {
            flip(t.dir, files[i], at[k]);
            audit_fails(&t, none, "log-bitflip");
            flip(t.dir, files[i], at[k]);
        }
        shell("mv %s/%s %s/away", t.dir, files[i], t.base);
        audit_fails(&t, none, "log-missing");
        shell("head -c -32 %s/away > %s/%s", t.base, t.dir, files[i]);
        audit_fails(&t, none, "log-bitflip");
        shell("mv %s/away %s/%s", t.base, t.dir, files[i]);
    }
    for (off_t k = 0; k < 100; k += 7) {
        flip(t.dir, "checkpoint", k);
        audit_fails(&t, none, NULL);
        flip(t.dir, "checkpoint", k);
    }
    flip(t.dir, "checkpoint", -5);
    audit_fails(&t, none, "checkpoint-signature");
    flip(t.dir, "checkpoint", -5);
    audit_finds(&t, "");
    shell("rm %s/checkpoint", t.dir);
    audit_fails(&t, none, "log-missing");
    test_end(&t);
}

/* Two kinds of damage: the one that stands first is told of, however the threads run. */
static void first_damage_first(void **state)
{
    struct test_log t;
    struct tlog_audit_report r;
    struct seen s;
    struct err e;
    begin_with(&t, 1500);
    flip(t.dir, "tile/entries/003", 40);
    flip(t.dir, "tile/entries/001", 40);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(audit_from(&t, 1 + i % 6, none, &s, &r, &e), -1);
        assert_non_null(strstr(e.msg, "tile/0/001"));
    }
    test_end(&t);
}

/* Another log under the same key and name; `other` has its files in other->dir. */
static void twin(struct test_log *other, const struct test_log *t, uint64_t n)
{
    struct err e;
    *other = *t;
    snprintf(other->dir, sizeof other->dir, "%s/twin", t->base);
    other->o.dir = other->dir;
    other->o.sign_arg = other;
    assert_ok(tlog_create(&other->o, &e), e);
    struct tlog *log = open_ok(other);
    certificates(log, n, T0 + 1);
    close_log(log);
}

static void wrong_root(void **state)
{
    struct test_log t, other;
    begin_with(&t, 600);
    twin(&other, &t, 600);
    shell("cp %s/checkpoint %s/", other.dir, t.dir);
    audit_fails(&t, none, "log-root");
    test_end(&t);
}

/* --- what is found in entries -------------------------------------------------------------------------- */

static void lifetimes(void **state)
{
    struct test_log t;
    struct tlog *log = begin(&t);
    certificate(log, &(struct cert){"a", 1, T0, 310, false, NULL, 0}); /* with the backdate */
    certificate(log, &(struct cert){"a", 1, T0, 311, false, NULL, 0}); /* 2 */
    certificate(log, &(struct cert){"a", 1, T0, 0, false, NULL, 0});
    certificate(log, &(struct cert){"a", 1, T0, -1, false, NULL, 0}); /* 4 */
    certificate(log, &(struct cert){"a", 1, T0, 86400 * 365, false, NULL, 0}); /* 5 */
    certificates(log, 300, T0);
    certificate(log, &(struct cert){"a", 4, T0 + 300, 3600, false, NULL, 0}); /* 306 */
    certificate(log, &(struct cert){NULL, 0, T0 + 300, 86400 * 365, true, NULL, 0});
    jwt(log, S("a"), 4, T0 + 300, 300);
    jwt(log, S("a"), 4, T0 + 300, 3600); /* 309 */
    close_log(log);
    audit_finds(&t, "2 entry-lifetime, 4 entry-lifetime, 5 entry-lifetime, 306 entry-lifetime, 309 entry-lifetime");
    test_end(&t);
}

static void lifetimes_not_judged(void **state)
{
    struct test_log t;
    struct tlog_audit_report r;
    struct err e;
    struct tlog *log = begin(&t);
    certificate(log, &(struct cert){"a", 1, T0, 86400, false, NULL, 0});
    close_log(log);
    assert_ok(tlog_audit(&(struct tlog_audit_options){.dir = t.dir, .vkey = &t.vkey}, &r, &e), e);
    assert_int_equal(r.findings, 0);
    test_end(&t);
}

static void revisions(void **state)
{
    struct test_log t;
    struct tlog *log = begin(&t);
    certificate(log, &(struct cert){"a", 3, T0, 60, false, NULL, 0});
    certificate(log, &(struct cert){"b", 1, T0 + 60, 60, false, NULL, 0}); /* another entry */
    certificate(log, &(struct cert){"a", 4, T0 + 60, 60, false, NULL, 0});
    certificate(log, &(struct cert){"a", 3, T0 + 60 + TLOG_AUDIT_SLACK, 60, false, NULL, 0}); /* overtaken */
    certificate(log, &(struct cert){"a", 3, T0 + 61 + TLOG_AUDIT_SLACK, 60, false, NULL, 0}); /* 5 */
    certificate(log, &(struct cert){"a", 4, T0 + 80, 60, false, NULL, 0});
    certificate(log, &(struct cert){"a", 0, T0 + 80, 60, false, NULL, 0}); /* 7 */
    for (unsigned i = 0; i < 300; i++)
        certificate(log, &(struct cert){"c", i, T0 + 100 + i, 60, false, NULL, 0});
    certificate(log, &(struct cert){"b", 0, T0 + 400, 60, false, NULL, 0}); /* 308 */
    certificate(log, &(struct cert){"c", UINT64_MAX, T0 + 400, 60, false, NULL, 0});
    certificate(log, &(struct cert){"c", 299, T0 + 500, 60, false, NULL, 0}); /* 310 */
    jwt(log, S("b"), 2, T0 + 500, 60);
    jwt(log, S("b"), 1, T0 + 600, 60); /* 312 */
    close_log(log);
    audit_finds(&t, "5 entry-revision, 7 entry-revision, 308 entry-revision, 310 entry-revision, 312 entry-revision");
    test_end(&t);
}

static void refusal_at(struct tlog *log, int64_t time)
{
    record(log, &(struct tlog_record_info){.type = TLOG_ENTRY_REFUSAL, .time = time, .code = TLOG_AT_SIGNER,
                                           .rule = S("rate"), .why = S("too many"), .count = 1});
}

static void times(void **state)
{
    struct test_log t;
    struct tlog *log = begin(&t);
    refusal_at(log, T0 + 1000);
    certificate(log, &(struct cert){"a", 1, T0 + 1000 - TLOG_AUDIT_BACKDATE, 60, false, NULL, 0});
    certificate(log, &(struct cert){"a", 1, T0 + 999 - TLOG_AUDIT_BACKDATE, 60, false, NULL, 0}); /* 3 */
    certificate(log, &(struct cert){"a", 1, T0 + 999 - TLOG_AUDIT_BACKDATE, 60, false, NULL, 0});
    refusal_at(log, T0 + 2000);
    certificate(log, &(struct cert){NULL, 0, T0, 86400, true, NULL, 0}); /* the authority's may be older */
    refusal_at(log, T0 + 1000);  /* 7 */
    refusal_at(log, T0 + 1001);
    refusal_at(log, INT64_MAX);
    certificate(log, &(struct cert){"a", 1, -62135596800, 60, false, NULL, 0}); /* 10: the year 1 */
    close_log(log);
    audit_finds(&t, "3 entry-time, 7 entry-time, 10 entry-time");
    test_end(&t);
}

static void forms(void **state)
{
    static const uint8_t hash[32];
    struct test_log t;
    struct tlog_audit_report r;
    struct seen s;
    struct err e;
    struct tlog *log = begin(&t);
    certificates(log, 5, T0);
    put(log, (struct bytes){(const uint8_t *)"\0\0\0\1rubbish", 11}); /* 6 */
    put(log, (struct bytes){(const uint8_t *)"\0\5\xff\1\0\1\n\0\0", 9});
    put(log, (struct bytes){(const uint8_t *)"\0\0\0\0", 4}); /* 8: a second null entry */
    typed(log, TLOG_ENTRY_AUTHORITY, none, S("rubbish"));
    typed(log, TLOG_ENTRY_REFUSAL, (struct bytes){hash, 0}, none);
    struct buf body;
    buf_init(&body, 256);
    assert_ok(tlog_record_write(&(struct tlog_record_info){.type = TLOG_ENTRY_AUTHORITY, .time = T0,
                                                           .code = TLOG_NEW_ROOT, .digest = {hash, 32}},
                                &body, &e), e);
    typed(log, TLOG_ENTRY_AUTHORITY, (struct bytes){(const uint8_t *)"\xff\x01\0\1x", 5}, view(&body)); /* 11 */
    typed(log, TLOG_ENTRY_AUTHORITY, none, view(&body));
    buf_free(&body);
    certificate(log, &(struct cert){NULL, 0, T0 + 4, 60, false, "\x30\x03\x01\x01\x01", 5}); /* 13 */
    certificate(log, &(struct cert){NULL, 0, T0 + 4, 60, false, "\x30\x00\x05\x00", 4});
    certificates(log, 5, T0 + 5);
    close_log(log);
    audit_finds(&t, "6 entry-format, 7 entry-format, 8 entry-format, 9 record-format, 10 record-format, "
                    "11 record-format, 13 cert-format, 14 cert-format");
    assert_ok(audit_from(&t, 1, none, &s, &r, &e), e);
    assert_int_equal(r.count[TLOG_AUDIT_BAD], 8);
    assert_int_equal(r.count[TLOG_AUDIT_CERT], 10);
    assert_int_equal(r.count[TLOG_AUDIT_AUTHORITY], 1);
    test_end(&t);
}

/* --- from a kept head ------------------------------------------------------------------------------------ */

/* Every kind of size, kept and present: on a bundle's edge, beside it, the same. */
static void from_kept(void **state)
{
    static const uint64_t sizes[] = {1, 2, 255, 256, 257, 511, 512, 700, 768, 800};
    enum { N = sizeof sizes / sizeof sizes[0] };
    struct test_log t;
    struct buf kept[N];
    struct err e;
    test_begin(&t);
    assert_ok(tlog_create(&t.o, &e), e);
    for (size_t i = 0; i < N; i++) {
        struct tlog *log = open_ok(&t);
        struct tlog_status now;
        tlog_status(log, &now);
        certificates(log, sizes[i] - now.size, T0 + (int64_t)(1000 * i));
        close_log(log);
        keep(&t, &kept[i]);
        for (size_t k = 0; k <= i; k++) {
            struct tlog_audit_report r;
            struct seen s;
            assert_ok(audit_from(&t, (unsigned)(k % 3), view(&kept[k]), &s, &r, &e), e);
            assert_int_equal(r.from.size, sizes[k]);
            assert_int_equal(r.checkpoint.size, sizes[i]);
            assert_int_equal(r.checked, sizes[i] - sizes[k]);
            uint64_t counted = 0;
            for (unsigned kind = 0; kind < TLOG_AUDIT_KINDS; kind++)
                counted += r.count[kind];
            assert_int_equal(counted, r.checked);
        }
    }
    for (size_t i = 0; i < N; i++)
        buf_free(&kept[i]);
    test_end(&t);
}

/* n: of entry n says that the clock was set back to time, from `ahead`. */
static void clock_record(struct tlog *log, int64_t time, const char *ahead)
{
    static const uint8_t hash[32] = {1};
    record(log, &(struct tlog_record_info){.type = TLOG_ENTRY_AUTHORITY, .time = time, .code = TLOG_CLOCK_BACK,
                                           .value = S(ahead), .digest = {hash, 32}});
}

static void at_time(struct tlog *log, int64_t time)
{
    certificate(log, &(struct cert){.not_before = time, .lifetime = 300});
}

/* The operator's word excuses its own step, no larger one, and no later one. */
static void accepted_clock(void **state)
{
    struct test_log t;
    struct tlog_audit_report r;
    struct seen s;
    struct err e;
    char ahead[24], less[24];
    snprintf(ahead, sizeof ahead, "%lld", (long long)T0 + 7210);
    snprintf(less, sizeof less, "%lld", (long long)T0 + 3600);
    struct tlog *log = begin(&t);
    at_time(log, T0);
    at_time(log, T0 + 7200);           /* 2 */
    clock_record(log, T0 + 10, ahead); /* 3: accepted */
    at_time(log, T0 + 20);
    at_time(log, T0 + 7200);
    clock_record(log, T0 + 30, less);  /* 6: not from so far */
    at_time(log, T0 + 7200);
    at_time(log, T0 + 40);             /* 8: nobody said so */
    at_time(log, T0 + 7200);
    clock_record(log, T0 + 50, "long ago"); /* 10 */
    clock_record(log, T0 + 60, ahead); /* 11: no step */
    close_log(log);
    audit_finds(&t, "6 entry-time, 8 entry-time, 10 entry-time");
    assert_ok(audit_from(&t, 0, none, &s, &r, &e), e);
    assert_int_equal(r.clocks, 1);
    assert_int_equal(r.clock[0], 3);
    test_end(&t);
}

static void from_fork(void **state)
{
    static const uint64_t sizes[] = {2, 200, 256, 300, 512, 600};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct test_log t, other;
        struct buf kept;
        begin_with(&t, 599);
        twin(&other, &t, sizes[i] - 1);
        keep(&other, &kept);
        audit_fails(&t, view(&kept), "log-fork");
        buf_free(&kept);
        test_end(&t);
    }
}

static void from_refused(void **state)
{
    struct test_log t, shorter, stranger;
    struct buf kept;
    begin_with(&t, 300);
    keep(&t, &kept);
    audit_fails(&t, S("rubbish"), "checkpoint-format");
    kept.p[kept.len - 5] ^= 1;
    audit_fails(&t, view(&kept), "checkpoint-signature");
    buf_free(&kept);
    begin_with(&stranger, 10);
    keep(&stranger, &kept);
    audit_fails(&t, view(&kept), "checkpoint-signature");
    buf_free(&kept);
    test_end(&stranger);
    keep(&t, &kept);
    twin(&shorter, &t, 100);
    audit_fails(&shorter, view(&kept), "log-rollback");
    buf_free(&kept);
    test_end(&t);
}

/* Damage at the edge of the known part is damage, not a fork; what the head covers is not read, and
 * what was found there once is not told again. */
static void from_spares(void **state)
{
    struct test_log t;
    struct tlog_audit_report r;
    struct seen s;
    struct buf kept;
    struct err e;
    struct tlog *log = begin(&t);
    certificate(log, &(struct cert){"a", 1, T0, 86400, false, NULL, 0});
    certificates(log, 700, T0);
    close_log(log);
    keep(&t, &kept);
    log = open_ok(&t);
    certificates(log, 100, T0 + 700);
    certificate(log, &(struct cert){"a", 9, T0 + 800, 86400, false, NULL, 0});
    close_log(log);
    assert_ok(audit_from(&t, 2, view(&kept), &s, &r, &e), e);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.index[0], 802);
    flip(t.dir, "tile/entries/000", 40);
    assert_ok(audit_from(&t, 2, view(&kept), &s, &r, &e), e);
    flip(t.dir, "tile/0/001", 40);
    audit_fails(&t, view(&kept), "log-bitflip");
    flip(t.dir, "tile/0/001", 40);
    flip(t.dir, "tile/1/000.p/3", 40);
    audit_fails(&t, view(&kept), "log-bitflip");
    flip(t.dir, "tile/1/000.p/3", 40);
    flip(t.dir, "tile/entries/002", 40);
    audit_fails(&t, view(&kept), "log-bitflip");
    buf_free(&kept);
    test_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound),
        cmocka_unit_test(many_registrations),
        cmocka_unit_test(damage),
        cmocka_unit_test(first_damage_first),
        cmocka_unit_test(wrong_root),
        cmocka_unit_test(lifetimes),
        cmocka_unit_test(lifetimes_not_judged),
        cmocka_unit_test(revisions),
        cmocka_unit_test(times),
        cmocka_unit_test(forms),
        cmocka_unit_test(from_kept),
        cmocka_unit_test(accepted_clock), cmocka_unit_test(from_fork),
        cmocka_unit_test(from_refused),
        cmocka_unit_test(from_spares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
