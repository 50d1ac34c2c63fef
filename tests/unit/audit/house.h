/* What the tests of audit/ share: a log with entries that mean something, and what a search of it
 * must find, by looking at every entry. */
#ifndef AUDIT_TEST_HOUSE_H
#define AUDIT_TEST_HOUSE_H
#include "audit/internal.h"
#include "audit/search.h"
#include "unit/tlog/support.h"

#define TEXT(s) ((struct bytes){(const uint8_t *)(s), strlen(s)})
#define START 1767225600 /* 2026-01-01 */

struct house {
    struct test_log t;
    char index[128];
};

UNUSED static void house_begin(struct house *h)
{
    struct err e;
    test_begin(&h->t);
    snprintf(h->index, sizeof h->index, "%s/cache/audit.db", h->t.base);
    assert_ok(tlog_create(&h->t.o, &e), e);
}

UNUSED static void house_append(struct house *h, const struct bytes *v, size_t n)
{
    struct tlog *log = open_ok(&h->t);
    struct err e;
    uint64_t first;
    for (size_t i = 0; i < n; i += TLOG_BATCH_MAX)
        assert_ok(tlog_append(log, v + i, n - i < TLOG_BATCH_MAX ? n - i : TLOG_BATCH_MAX, &first, &e), e);
    tlog_close(log);
}

/* --- entries ------------------------------------------------------------------------------------- */

struct cert_want {
    const char *id, *dns, *agent, *attestor, *entry; /* NULL: none */
    uint64_t revision;
    int64_t from, to;
    uint8_t key;
};

UNUSED static struct bytes san_ext(uint8_t array[1024], const struct cert_want *c)
{
    static uint8_t names[900];
    struct derw n, w;
    derw_init(&n, names, sizeof names);
    if (c->dns)
        derw_tlv(&n, 0x82, c->dns, strlen(c->dns));
    if (c->id)
        derw_tlv(&n, 0x86, c->id, strlen(c->id));
    derw_wrap(&n, DER_SEQUENCE, 0);
    derw_init(&w, array, 1024);
    ext_put(&w, OID_EXT_SAN, OID_LEN(OID_EXT_SAN), true, derw_bytes(&n).p, derw_bytes(&n).len);
    assert_false(n.failed || w.failed);
    return derw_bytes(&w);
}

UNUSED static void cert_entry(struct buf *out, const struct cert_want *c)
{
    static uint8_t san[1024], name[256];
    static const uint8_t alg[] = {0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                                  0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    struct buf body, ext;
    struct derw w;
    buf_init(&body, 4096);
    buf_init(&ext, 4096);
    derw_init(&w, name, sizeof name);
    name_put(&w, "issuer");
    struct tlog_cert_fields f = {.issuer = derw_bytes(&w), .subject = {(const uint8_t *)"\x30\x00", 2},
                                 .not_before = c->from, .not_after = c->to,
                                 .spki_algorithm = {alg, sizeof alg}, .extensions = san_ext(san, c)};
    memset(f.spki_hash, c->key, sizeof f.spki_hash);
    tlog_cert_body_write(&body, &f);
    tlog_ext_write(&(struct tlog_ext_info){.attestor = TEXT(c->attestor ? c->attestor : ""),
                                           .entry_id = TEXT(c->entry ? c->entry : ""),
                                           .entry_revision = c->revision,
                                           .requester = TEXT(c->agent ? c->agent : "")},
                   &ext);
    buf_reset(out);
    tlog_entry_write(&(struct tlog_entry){TLOG_ENTRY_TBS_CERT, view(&ext), view(&body)}, out);
    assert_false(body.failed || ext.failed || out->failed);
    buf_free(&body);
    buf_free(&ext);
}

UNUSED static void record_entry(struct buf *out, const struct tlog_record_info *r)
{
    struct buf body;
    struct err e;
    buf_init(&body, TLOG_RECORD_MAX);
    assert_ok(tlog_record_write(r, &body, &e), e);
    buf_reset(out);
    tlog_entry_write(&(struct tlog_entry){r->type, {NULL, 0}, view(&body)}, out);
    buf_free(&body);
}

/* Entry i of a varied log: few names, so that filters meet. */
static const char *const house_ids[] = {
    "spiffe://example.org/web", "spiffe://example.org/web/1", "spiffe://example.org/web/1/x",
    "spiffe://example.org/webserver", "spiffe://example.org/db", "spiffe://other.test/web",
    "spiffe://example.org/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r", "spiffe://example.org/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/s"};
static const char *const house_agents[] = {NULL, "spiffe://example.org/agent/1", "spiffe://example.org/web"};
static const char *const house_kinds[] = {"join_token", "x509pop", "agent"};
static const char *const house_entries[] = {"e1", "e2", "e3"};

UNUSED static void varied(struct buf *out, unsigned i)
{
    static uint32_t x = 12345;
    static const uint8_t digest[32] = {1};
    x = x * 1664525 + 1013904223;
    unsigned d = x >> 12;
    int64_t now = START + (int64_t)i * 7;
    const char *id = house_ids[d % 8], *agent = house_agents[d / 8 % 3], *entry = house_entries[d / 64 % 3];
    if (d % 11 == 0)
        record_entry(out, &(struct tlog_record_info){.type = TLOG_ENTRY_REFUSAL, .time = now, .code = TLOG_AT_POLICY,
                                                     .rule = TEXT(d % 2 ? "selectors" : "no-entry"), .why = TEXT("no"),
                                                     .spiffe_id = TEXT(id), .attestor = TEXT(house_kinds[d % 3]),
                                                     .requester = TEXT(agent ? agent : ""), .count = 1 + d % 3});
    else if (d % 37 == 0)
        record_entry(out, &(struct tlog_record_info){.type = TLOG_ENTRY_REVOCATION, .time = now,
                                                     .code = TLOG_BY_SERIAL + d % 2, .reason = 1, .actor = TEXT("uid:0"),
                                                     .value = d % 2 ? TEXT(id) : TEXT("1000000000011")});
    else if (d % 23 == 0)
        record_entry(out, &(struct tlog_record_info){.type = TLOG_ENTRY_CHANGE, .time = now, .code = TLOG_UPDATED,
                                                     .entry_id = TEXT(entry), .revision = i, .spiffe_id = TEXT(id),
                                                     .digest = {digest, 32}, .actor = TEXT("uid:0")});
    else if (d % 97 == 0)
        record_entry(out, &(struct tlog_record_info){.type = TLOG_ENTRY_AUTHORITY, .time = now, .code = TLOG_NEW_CRL,
                                                     .value = TEXT("0/7"), .digest = {digest, 32}});
    else if (d % 53 == 0)
        record_entry(out, &(struct tlog_record_info){.type = TLOG_ENTRY_JWT, .time = now, .code = TLOG_JWT_SVID, .expires = now + 300,
                                                     .spiffe_id = TEXT(id), .audiences = TEXT("\001a\002=b"), .kid = TEXT("k"),
                                                     .attestor = TEXT(house_kinds[d % 3]), .entry_id = TEXT(entry),
                                                     .revision = 1 + d % 5, .requester = TEXT(agent ? agent : "")});
    else if (d % 101 == 0)
        entry_make(out, i, 40); /* of a later version */
    else
        cert_entry(out, &(struct cert_want){.id = id, .agent = agent, .attestor = house_kinds[d / 512 % 3], .entry = entry,
                                            .revision = 1 + d % 5, .from = now - (int64_t)(d % 13), .to = now + 300,
                                            .key = (uint8_t)(d / 4096)});
}

UNUSED static void house_varied(struct house *h, unsigned from, unsigned n)
{
    struct buf *b = calloc(n, sizeof *b);
    struct bytes *v = calloc(n, sizeof *v);
    assert_true(b && v);
    for (unsigned i = 0; i < n; i++) {
        buf_init(&b[i], TLOG_ENTRY_MAX);
        varied(&b[i], from + i);
        v[i] = view(&b[i]);
    }
    house_append(h, v, n);
    for (unsigned i = 0; i < n; i++)
        buf_free(&b[i]);
    free(b);
    free(v);
}

UNUSED static void house_end(struct house *h)
{
    test_end(&h->t);
}

/* --- looking -------------------------------------------------------------------------------------- */

UNUSED static struct audit_index *index_ok(struct house *h, bool read_only)
{
    struct audit_index *x;
    struct err e;
    const struct audit_index_options o = {h->index, h->t.dir, &h->t.vkey, .read_only = read_only};
    assert_ok(audit_index_open(&x, &o, &e), e);
    return x;
}

UNUSED static struct tlog_reader *reader_ok(struct house *h)
{
    struct tlog_reader *r;
    struct err e;
    assert_ok(tlog_reader_open(&r, h->t.dir, &h->t.vkey, &e), e);
    return r;
}

#define FOUND_MAX 10000
struct found_list {
    uint64_t index[FOUND_MAX];
    size_t n;
};

UNUSED static int found_note(void *arg, const struct audit_found *f, struct err *e)
{
    struct found_list *l = arg;
    assert_true(l->n < FOUND_MAX);
    l->index[l->n++] = f->entry->index;
    return 0;
}

/* All pages of a query. */
UNUSED static void search_all(struct house *h, struct audit_index *x, const char *query, struct found_list *l)
{
    static struct audit_filter f;
    struct tlog_reader *r = reader_ok(h);
    char next[AUDIT_CURSOR_LEN + 1] = "", text[8192];
    struct err e;
    l->n = 0;
    do {
        snprintf(text, sizeof text, "%s%s%s", query, *next ? (*query ? "&cursor=" : "cursor=") : "", next);
        assert_ok(audit_query_parse(&f, text, strlen(text), &e), e);
        size_t before = l->n;
        assert_ok(audit_search(x, r, &f, 0, found_note, l, next, &e), e);
        assert_true(l->n - before <= f.limit);
        assert_true(!*next || l->n > before);
    } while (*next);
    tlog_reader_close(r);
}

/* The same by looking at every entry. */
UNUSED static void look_all(struct house *h, const char *query, struct found_list *l)
{
    static struct audit_filter f;
    static struct audit_entry t;
    struct tlog_reader *r = reader_ok(h);
    struct err e;
    uint64_t size = tlog_reader_head(r)->size;
    assert_ok(audit_query_parse(&f, query, strlen(query), &e), e);
    l->n = 0;
    for (uint64_t k = 0; k < size; k++) {
        uint64_t i = f.oldest ? k : size - 1 - k;
        const struct bytes *v;
        unsigned width;
        assert_ok(tlog_reader_bundle(r, i / TLOG_TILE, &v, &width, &e), e);
        audit_entry_decode(&t, i, v[i % TLOG_TILE]);
        if (audit_filter_matches(&f, &t))
            l->index[l->n++] = i;
    }
    tlog_reader_close(r);
}

UNUSED static size_t same(struct house *h, struct audit_index *x, const char *query)
{
    static struct found_list a, b;
    search_all(h, x, query, &a);
    look_all(h, query, &b);
    if (a.n != b.n || memcmp(a.index, b.index, a.n * sizeof *a.index) != 0)
        fail_msg("'%s' finds %zu entries, not %zu", query, a.n, b.n);
    return a.n;
}
#endif
