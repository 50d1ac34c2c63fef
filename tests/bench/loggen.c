/* Makes a published log of many entries, to measure `mayfly log verify` and what reads logs.
 *
 *   bench_loggen --out DIR [--entries N] [--ids K]
 *   bench_loggen --authority DIR [--entries N] [--ids K]
 *
 * With --authority it lets the log of an authority of the trust domain bench.example grow, which is
 * not running, by the log's own append and signed in its token; the last entry is a minute old.
 * Otherwise:
 *
 * The files are what an authority publishes, tiles, bundles and a signed checkpoint, made by the
 * rooms' own code (ca/tbs, tlog/entry, tlog/record, tlog/tile) but not through the journal: there
 * is no head, and no authority can go on with such a log. The key is made for the run and thrown
 * away; its verifier key is printed, as `mayfly log verify --log DIR --vkey KEY` takes it.
 *
 * What stands in it: the null entry, a root and an issuing certificate, the registration of K SPIFFE
 * IDs, then their renewals at random, as an authority with lifetimes of five minutes sees them.
 * About one in 2,000 is preceded by an update of its registration entry, one in 100 of the entries
 * is a refusal, one in 50,000 a revocation. But for the key, the same options make the same log. */
#include "base/clock.h"
#include "base/fileio.h"
#include "base/oid.h"
#include "ca/cacert.h"
#include "ca/signer.h"
#include "ca/tbs.h"
#include "hsm/hsm.h"
#include "tlog/internal.h"
#include "tlog/record.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ENTRIES 5000000
#define IDS 30000
#define TRUST_DOMAIN "bench.example"
#define ORIGIN TRUST_DOMAIN "/log/1"
#define LIFETIME 300
#define HALF_LIFE (LIFETIME / 2) /* every ID renews this often */
#define IDS_PER_AGENT 20
#define VIEW(s) ((struct bytes){(const uint8_t *)(s), strlen(s)})

static struct gen {
    const char *dir;
    uint64_t entries, ids;
    struct grown *grown; /* an authority's log; NULL: one that is published only */
    struct tlog_edge edge;
    struct buf bundle, entry, ext, body;
    struct tbs_template template;
    struct cacert_draft root, issuing;
    struct digest digest;
    uint64_t *revision; /* of each ID; 0: not registered yet */
    uint64_t random;
    int64_t start;
} g;

struct grown {
    struct config *config;
    struct hsm *hsm;
    struct tlog *log;
    struct tlog_vkey vkey;
    struct cacert issuing;
    struct buf entries[TLOG_BATCH_MAX]; /* the batch */
    size_t n;
};

static int die(const char *what, const struct err *e)
{
    fprintf(stderr, "bench_loggen: %s%s%s\n", what, e ? ": " : "", e ? e->msg : "");
    exit(1);
}

/* xorshift64*: the same log for the same options. */
static uint64_t rnd(void)
{
    g.random ^= g.random >> 12;
    g.random ^= g.random << 25;
    g.random ^= g.random >> 27;
    return g.random * UINT64_C(2685821657736338717);
}

static void digest_of(uint8_t out[32], const char *what, uint64_t n)
{
    char text[64];
    int len = snprintf(text, sizeof text, "%s %llu", what, (unsigned long long)n);
    tlog_sha256(out, text, (size_t)len);
}

/* The signer's clock at the next entry. */
static int64_t now(void)
{
    return g.start + (int64_t)(g.edge.size * HALF_LIFE / g.ids);
}

/* --- tiles ---------------------------------------------------------------------------------------- */

static int tile_full(void *arg, unsigned level, uint64_t n, const struct tlog_hash *tile,
                     struct err *e)
{
    return tlog_tile_write(g.dir, (int)level, n, TLOG_TILE, tile, TLOG_TILE * sizeof *tile, e);
}

static void bundle_write(uint64_t n, unsigned width)
{
    struct err e;
    if (g.bundle.failed || tlog_tile_write(g.dir, TLOG_ENTRIES, n, width, g.bundle.p, g.bundle.len, &e) < 0)
        die("cannot write a bundle", g.bundle.failed ? NULL : &e);
    buf_reset(&g.bundle);
}

static void grown_append(struct grown *a)
{
    struct bytes entries[TLOG_BATCH_MAX];
    uint64_t first;
    struct err e;
    for (size_t i = 0; i < a->n; i++)
        entries[i] = (struct bytes){a->entries[i].p, a->entries[i].len};
    if (a->n > 0 && tlog_append(a->log, entries, a->n, &first, &e) < 0)
        die("the log does not grow", &e);
    a->n = 0;
}

static void grown_put(struct grown *a)
{
    struct buf *b = &a->entries[a->n++];
    buf_reset(b);
    buf_put(b, g.entry.p, g.entry.len);
    if (b->failed)
        die("out of memory", NULL);
    g.edge.size++; /* as a count: the log has an edge of its own */
    if (a->n == TLOG_BATCH_MAX)
        grown_append(a);
}

static void put(uint16_t type, struct bytes extensions, struct bytes body)
{
    struct tlog_entry t = {.type = type, .extensions = extensions, .body = body};
    struct tlog_hash leaf;
    struct err e;
    buf_reset(&g.entry);
    tlog_entry_write(&t, &g.entry);
    if (g.entry.failed)
        die("an entry does not fit", NULL);
    if (g.grown) {
        grown_put(g.grown);
        return;
    }
    buf_vec16(&g.bundle, g.entry.p, g.entry.len);
    merkle_leaf(&leaf, g.entry.p, g.entry.len);
    if (tlog_edge_push(&g.edge, &leaf, tile_full, NULL, &e) < 0)
        die("cannot write a tile", &e);
    if (g.edge.size % TLOG_TILE == 0)
        bundle_write(g.edge.size / TLOG_TILE - 1, TLOG_TILE);
}

static void edge_write(void)
{
    struct err e;
    for (unsigned l = 0; l < TLOG_TILE_LEVELS; l++) {
        unsigned width = tlog_edge_width(g.edge.size, l);
        uint64_t n = tlog_edge_index(g.edge.size, l);
        if (width == 0)
            continue;
        if (tlog_tile_write(g.dir, (int)l, n, width, g.edge.tile[l], width * TLOG_HASH, &e) < 0)
            die("cannot write a tile", &e);
        if (l == 0)
            bundle_write(n, width);
    }
}

/* --- entries ---------------------------------------------------------------------------------------- */

static void record(const struct tlog_record_info *r)
{
    struct err e;
    buf_reset(&g.body);
    if (tlog_record_write(r, &g.body, &e) < 0)
        die("a record", &e);
    put(r->type, (struct bytes){NULL, 0}, (struct bytes){g.body.p, g.body.len});
}

/* A P-256 SubjectPublicKeyInfo around a point that is none: logs hold its hash alone. */
static struct bytes spki_make(uint8_t spki[91])
{
    static const char head[] = "\x30\x59\x30\x13\x06\x07" OID_EC_PUBLIC_KEY "\x06\x08" OID_P256
                               "\x03\x42\x00\x04";
    memcpy(spki, head, sizeof head - 1);
    for (size_t i = sizeof head - 1; i < 91; i += 8) {
        uint64_t v = rnd();
        memcpy(spki + i, &v, 91 - i < 8 ? 91 - i : 8);
    }
    return (struct bytes){spki, 91};
}

static void authority(const char *vkey)
{
    static const struct config policy = {.crl = {.short_limit = 3600}};
    uint8_t spki[91], key_id[KEY_ID_LEN] = {1, 2, 3}, array[CACERT_MAX], hash[32];
    struct err e;
    struct cacert root = {.key_id = {key_id, sizeof key_id}, .not_after = INT64_MAX};
    struct cacert_want want = {
        .trust_domain = TRUST_DOMAIN, .root = true, .spki = spki_make(spki), .now = now()};
    if (cacert_draft(&g.root, &want, &e) < 0)
        die("root", &e);
    put(TLOG_ENTRY_TBS_CERT, (struct bytes){NULL, 0}, tbs_log_body(array, sizeof array, &g.root.parts));
    root.subject = g.root.parts.subject;
    want.root = false;
    want.issuer = &root;
    want.vkey = VIEW(vkey);
    if (cacert_draft(&g.issuing, &want, &e) < 0 ||
        tbs_template_init(&g.template, &policy, g.issuing.parts.subject, root.key_id, &e) < 0)
        die("issuing", &e);
    put(TLOG_ENTRY_TBS_CERT, (struct bytes){NULL, 0}, tbs_log_body(array, sizeof array, &g.issuing.parts));
    for (uint8_t what = TLOG_NEW_ROOT; what <= TLOG_NEW_ISSUING; what++) {
        digest_of(hash, "certificate", what);
        record(&(struct tlog_record_info){.type = TLOG_ENTRY_AUTHORITY, .time = now(), .code = what,
                                          .value = VIEW(what == TLOG_NEW_ROOT ? "1000000000001" : "1000000000002"),
                                          .digest = {hash, sizeof hash}});
    }
}

struct who { /* what is known of an ID */
    char uri[128], dns[128], agent[96], entry_id[33];
};

static void who_is(struct who *w, uint64_t id)
{
    static const char *const teams[] = {"payments", "search", "billing", "ingest", "web", "ledger", "ml-serving"};
    const char *team = teams[id % 7];
    unsigned long long n = id;
    uint8_t hash[32];
    snprintf(w->uri, sizeof w->uri, "spiffe://" TRUST_DOMAIN "/ns/%s/sa/%s-worker-%05llu", team, team, n);
    snprintf(w->dns, sizeof w->dns, "%s-worker-%05llu.%s.svc.cluster.local", team, n, team);
    snprintf(w->agent, sizeof w->agent, "spiffe://" TRUST_DOMAIN "/agent/node-%04llu", n / IDS_PER_AGENT);
    digest_of(hash, "entry", id);
    hex_encode(w->entry_id, hash, 16);
}

static void change(uint64_t id, const struct who *w)
{
    uint8_t hash[32];
    digest_of(hash, w->entry_id, ++g.revision[id]);
    record(&(struct tlog_record_info){.type = TLOG_ENTRY_CHANGE, .time = now(),
                                      .code = g.revision[id] == 1 ? TLOG_CREATED : TLOG_UPDATED,
                                      .entry_id = VIEW(w->entry_id), .revision = g.revision[id],
                                      .spiffe_id = VIEW(w->uri), .parent = VIEW(w->agent),
                                      .digest = {hash, sizeof hash}, .actor = VIEW("uid:0")});
}

static void refusal(const struct who *w, uint64_t id)
{
    uint8_t hash[32];
    digest_of(hash, "session", id);
    record(&(struct tlog_record_info){.type = TLOG_ENTRY_REFUSAL, .time = now(), .code = TLOG_AT_REGISTRATION,
                                      .rule = VIEW("selectors"),
                                      .why = VIEW("the evidence does not show unix:uid:1000, which the entry asks for"),
                                      .spiffe_id = VIEW(w->uri), .attestor = VIEW("agent"),
                                      .requester = VIEW(w->agent), .session = {hash, sizeof hash},
                                      .count = 1 + (uint32_t)(rnd() % 5)});
}

static void revocation(const struct who *w)
{
    record(&(struct tlog_record_info){.type = TLOG_ENTRY_REVOCATION, .time = now(), .code = TLOG_BY_ID,
                                      .value = VIEW(w->uri), .reason = 1, .actor = VIEW("uid:0"),
                                      .comment = VIEW("host taken out of service")});
}

static void certificate(uint64_t id, const struct who *w)
{
    static const char *const kinds[] = {"agent", "agent", "agent", "k8s_sat", "join_token", "x509pop"};
    uint8_t spki[91], evidence[32], session[32], extensions[1024], array[2048];
    struct profile_leaf leaf = {.uri = VIEW(w->uri), .spki = spki_make(spki), .lifetime = LIFETIME,
                                .not_before = now() - PROFILE_BACKDATE, .not_after = now() + LIFETIME};
    const char *kind = kinds[id % 6];
    struct tbs_parts parts;
    struct err e;
    leaf.spki_algorithm = (struct bytes){spki + 2, 21};
    leaf.spki_bits = (struct bytes){spki + 26, 65};
    if (id % 4 == 0) {
        leaf.names[0].text = VIEW(w->dns);
        leaf.names_count = 1;
    }
    if (id % 50 == 0)
        leaf.not_after = now() + 3600;
    digest_of(evidence, "evidence", g.edge.size);
    digest_of(session, w->agent, (uint64_t)now() / 3600);
    buf_reset(&g.ext);
    tlog_ext_write(&(struct tlog_ext_info){.attestor = VIEW(kind), .evidence = {evidence, 32},
                                           .entry_id = VIEW(w->entry_id), .entry_revision = g.revision[id],
                                           .requester = VIEW(*kind == 'a' ? w->agent : ""),
                                           .session = {session, 32}},
                   &g.ext);
    if (tbs_leaf(&parts, extensions, sizeof extensions, &g.template, &g.digest, &leaf, &e) < 0)
        die("a certificate", &e);
    put(TLOG_ENTRY_TBS_CERT, (struct bytes){g.ext.p, g.ext.len}, tbs_log_body(array, sizeof array, &parts));
}

static void entry_next(void)
{
    struct who w;
    uint64_t id = rnd() % g.ids, dice = rnd() % 100000;
    who_is(&w, id);
    if (g.revision[id] == 0 || dice % 2000 == 0)
        change(id, &w);
    else if (dice % 100 == 1)
        refusal(&w, id);
    else if (dice < 4 && dice >= 2)
        revocation(&w);
    else
        certificate(id, &w);
}

/* --- the whole ---------------------------------------------------------------------------------------- */

static void checkpoint(EVP_PKEY *key, const struct tlog_vkey *vkey)
{
    struct tlog_checkpoint c = {.size = g.edge.size};
    struct buf body, note;
    struct err e;
    char path[TLOG_PATH_CAP];
    uint8_t sig[64];
    size_t len = sizeof sig;
    snprintf(c.origin, sizeof c.origin, "%s", vkey->name);
    tlog_edge_root(&g.edge, &c.root);
    buf_init(&body, TLOG_NOTE_MAX);
    buf_init(&note, TLOG_NOTE_MAX);
    tlog_checkpoint_body(&c, &body);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(ctx, sig, &len, body.p, body.len) != 1)
        die("cannot sign the checkpoint", NULL);
    EVP_MD_CTX_free(ctx);
    tlog_checkpoint_note(&c, vkey, sig, &note);
    snprintf(path, sizeof path, "%s/checkpoint", g.dir);
    if (file_write_atomic(path, note.p, note.len, 0644, false, &e) < 0)
        die("checkpoint", &e);
    buf_free(&body);
    buf_free(&note);
}

static void generate(void)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    struct tlog_vkey vkey;
    struct buf text;
    struct err e;
    uint8_t pub[32];
    size_t len = sizeof pub;
    buf_init(&text, 1024);
    if (!key || EVP_PKEY_get_raw_public_key(key, pub, &len) != 1 || tlog_vkey_make(&vkey, ORIGIN, pub, &e) < 0)
        die("cannot make a key", NULL);
    tlog_vkey_write(&vkey, &text);
    put(TLOG_ENTRY_NULL, (struct bytes){NULL, 0}, (struct bytes){NULL, 0});
    authority(buf_cstr(&text));
    while (g.edge.size < g.entries)
        entry_next();
    edge_write();
    checkpoint(key, &vkey);
    printf("%s\n", buf_cstr(&text));
    buf_free(&text);
    tlog_vkey_free(&vkey);
    EVP_PKEY_free(key);
}

/* --- an authority's log ----------------------------------------------------------------------------- */

static int sign_head(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64], struct err *e)
{
    struct grown *a = arg;
    size_t n = 64;
    return hsm_sign(a->hsm, HSM_KEY_LOG, msg, len, sig, &n, e);
}

static void grown_open(struct grown *a, const char *dir)
{
    struct secret pin = {0};
    struct err e;
    char path[4096];
    snprintf(path, sizeof path, "%s/mayfly.yaml", dir);
    if (!(a->config = config_load(path, &e)) || signer_read_pin(a->config, &pin, &e) < 0)
        die(dir, &e);
    const struct config *c = a->config;
    if (c->token.softhsm_conf)
        setenv("SOFTHSM2_CONF", c->token.softhsm_conf, 1);
    const struct hsm_options h = {.uri = c->token.uri, .module = c->token.module, .pin = &pin, .sessions = 2,
                                  .call_timeout_ms = c->token.call_timeout_ms};
    if (hsm_open(&a->hsm, &h, &e) < 0 || hsm_load_keys(a->hsm, 1u << HSM_KEY_LOG, &e) < 0 ||
        cacert_load(&a->issuing, c->ca.dir, "issuing.pem", &e) < 0 ||
        tlog_vkey_make(&a->vkey, c->log.origin, hsm_public(a->hsm, HSM_KEY_LOG).p, &e) < 0)
        die("the token", &e);
    secret_free(&pin);
    const struct tlog_options o = {.dir = c->log.dir, .vkey = &a->vkey, .sign = sign_head, .sign_arg = a};
    if (tlog_open(&a->log, &o, &e) < 0)
        die("the log", &e);
    for (size_t i = 0; i < TLOG_BATCH_MAX; i++)
        buf_init(&a->entries[i], TLOG_ENTRY_MAX);
}

static void grow(struct grown *a)
{
    struct tlog_status s;
    struct err e;
    tlog_status(a->log, &s);
    g.edge.size = s.size;
    g.start = clock_wall() - 60 - (int64_t)(g.entries * HALF_LIFE / g.ids);
    if (tbs_template_init(&g.template, a->config, a->issuing.subject, a->issuing.key_id, &e) < 0)
        die("issuing", &e);
    while (g.edge.size < g.entries)
        entry_next();
    grown_append(a);
    tlog_close(a->log);
    hsm_close(a->hsm);
    tlog_vkey_free(&a->vkey);
    for (size_t i = 0; i < TLOG_BATCH_MAX; i++)
        buf_free(&a->entries[i]);
    config_free(a->config);
}

static int usage(int code)
{
    fprintf(code ? stderr : stdout,
            "usage: bench_loggen --out DIR | --authority DIR [--entries N] [--ids K]\n"
            "\n"
            "Makes a log of N entries in DIR, which must not exist, and prints its verifier key; or lets the\n"
            "log of an authority of bench.example, which must not be running, grow to N.\n"
            "\n"
            "  --out DIR        the log's folder\n"
            "  --authority DIR  the authority's\n"
            "  --entries N      at least 16 (default %d; about 600 bytes each on disk)\n"
            "  --ids K          SPIFFE IDs that renew, each every %d seconds (default %d)\n"
            "  --help           this text\n",
            ENTRIES, HALF_LIFE, IDS);
    return code;
}

static uint64_t number(const char *s, uint64_t min)
{
    char *end;
    uint64_t v = strtoull(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || v < min || v > UINT64_C(1) << 36)
        exit(usage(2));
    return v;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"out", required_argument, NULL, 'o'},
                                            {"authority", required_argument, NULL, 'a'},
                                            {"entries", required_argument, NULL, 'n'},
                                            {"ids", required_argument, NULL, 'k'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static struct grown grown;
    const char *authority_dir = NULL;
    struct err e;
    g = (struct gen){.entries = ENTRIES, .ids = IDS, .random = 0x6d6179666c79};
    for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (o == 'o')
            g.dir = optarg;
        else if (o == 'a')
            authority_dir = optarg;
        else if (o == 'n')
            g.entries = number(optarg, 16);
        else if (o == 'k')
            g.ids = number(optarg, 1);
        else
            return usage(o == 'h' ? 0 : 2);
    }
    if (!g.dir == !authority_dir || optind < argc)
        return usage(2);
    g.start = 1767225600; /* 2026-01-01 */
    g.revision = calloc(g.ids, sizeof *g.revision);
    buf_init(&g.bundle, TLOG_BUNDLE_MAX);
    buf_init(&g.entry, TLOG_ENTRY_MAX);
    buf_init(&g.ext, TLOG_ENTRY_MAX);
    buf_init(&g.body, TLOG_ENTRY_MAX);
    if (!g.revision || digest_init(&g.digest, &e) < 0)
        die("out of memory", NULL);
    if (g.dir && (strlen(g.dir) >= TLOG_DIR_MAX || mkdir(g.dir, 0755) < 0))
        die("cannot make the folder; it must not exist yet", NULL);
    int64_t begun = clock_mono_ms();
    if (authority_dir) {
        g.grown = &grown;
        grown_open(&grown, authority_dir);
        grow(&grown);
    } else {
        generate();
    }
    fprintf(stderr, "%llu entries in %.1f s\n", (unsigned long long)g.edge.size,
            (double)(clock_mono_ms() - begun) / 1000);
    digest_free(&g.digest);
    buf_free(&g.bundle);
    buf_free(&g.entry);
    buf_free(&g.ext);
    buf_free(&g.body);
    free(g.revision);
    return 0;
}
