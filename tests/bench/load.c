/* Load on a running authority, and what it costs there.
 *
 *   bench_load --server HOST:PORT --roots FILE --tokens FILE --id SPIFFE-ID
 *              --connections N --requests M [--cold] [--refused K] --pids FRONTEND,SIGNER
 *
 * Warm: each connection has its TLS session, account and authorization; a request is the
 * one-round-trip order, with a fresh JWS signature and nonce each. The CSR is made once a
 * connection (a real agent makes a key and a CSR each time, on its own machine).
 * Cold: each request is a new TLS connection, directory, nonce, account, and the order with in-band
 * evidence from a join token of its own.
 * Refused: beside each K certificates an order asks for one that does not stand for its CSR, and must be
 * refused; these are no certificates, but their work counts.
 * Prints one JSON object. CPU and memory of the two processes come from /proc.
 */
#include "attest/attest.h"
#include "base/clock.h"
#include "base/fileio.h"
#include "base/jose.h"
#include "tests/bench/http.h"
#include <fcntl.h>
#include <getopt.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

struct session {
    struct bench_conn conn;
    struct key *key;
    char kid[512], thumbprint[44];
    char *payload; /* of the warm order */
    size_t payload_len;
    bool other; /* the request under way is to be refused */
    int64_t begun;
};
static struct {
    char host[256], port[16], authority[300];
    const char *id, *roots;
    size_t refused_every, asked, refused;
    char base[320], new_nonce[512], new_account[512], new_order[512];
    SSL_CTX *tls;
    char **tokens;
    size_t tokens_count, tokens_used;
    int pids[2];
} g;

static void die(const char *what, const struct bench_conn *c, const struct err *e)
{
    fprintf(stderr, "bench: %s%s%s\n", what, e ? ": " : "", e ? e->msg : "");
    if (c && c->in.len)
        fprintf(stderr, "%.*s\n", (int)c->in.len, (const char *)c->in.p);
    exit(1);
}

/* --- process accounting --------------------------------------------------------------------------- */

static double cpu_seconds(int pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    unsigned long u = 0, s = 0;
    if (!f || !fgets(text, sizeof text, f) ||
        sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &u, &s) != 2)
        die("cannot read /proc; are the pids right?", NULL, NULL);
    fclose(f);
    return (double)(u + s) / (double)sysconf(_SC_CLK_TCK);
}

static long memory_kb(int pid, const char *field)
{
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, field, strlen(field)) == 0)
            kb = strtol(line + strlen(field) + 1, NULL, 10);
    if (f)
        fclose(f);
    return kb;
}

/* --- protocol --------------------------------------------------------------------------------------- */

static const char *path_of(const char *url)
{
    size_t n = strlen(g.base);
    if (strncmp(url, g.base, n) != 0)
        die("the directory names another origin", NULL, NULL);
    return url + n;
}

static void read_directory(struct bench_conn *c)
{
    struct err e = {0};
    bench_exchange(c, "GET", "/acme/directory", g.authority, NULL);
    json_t *d = json_parse(c->in.p + c->body_at, c->body_len, 65536, &e);
    const char *n = d ? json_want_str(d, "newNonce", &e) : NULL;
    const char *a = n ? json_want_str(d, "newAccount", &e) : NULL;
    const char *o = a ? json_want_str(d, "newOrder", &e) : NULL;
    if (!o)
        die("directory", c, &e);
    snprintf(g.new_nonce, sizeof g.new_nonce, "%s", n);
    snprintf(g.new_account, sizeof g.new_account, "%s", a);
    snprintf(g.new_order, sizeof g.new_order, "%s", o);
    json_decref(d);
}

static void post(struct session *s, const char *url, const char *payload, size_t len)
{
    struct err e = {0};
    struct buf jws;
    buf_init(&jws, 65536);
    if (jws_sign(&jws, s->key, *s->kid ? s->kid : NULL, s->conn.nonce, url, payload, len, &e) < 0)
        die("jws", NULL, &e);
    bench_request(&s->conn, "POST", path_of(url), g.authority, &jws);
    buf_free(&jws);
}

static void post_whole(struct session *s, const char *url, const char *payload, size_t len, int want)
{
    unsigned w;
    post(s, url, payload, len);
    int rc;
    while ((rc = bench_step(&s->conn, &w)) == 0) /* blocking socket: only TLS' own retries */
        ;
    if (rc < 0 || s->conn.status != want)
        die(url, &s->conn, NULL);
}

static void make_csr(struct buf *der)
{
    struct err e = {0};
    struct key *k = key_generate(KEY_P256, &e);
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    char san[2200];
    snprintf(san, sizeof san, "URI:%s", g.id);
    sk_X509_EXTENSION_push(exts, X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san));
    X509_REQ_set_pubkey(req, key_evp(k));
    X509_REQ_add_extensions(req, exts);
    X509_REQ_sign(req, key_evp(k), EVP_sha256());
    uint8_t *p = NULL;
    int n = i2d_X509_REQ(req, &p);
    buf_put(der, p, n > 0 ? (size_t)n : 0);
    OPENSSL_free(p);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    X509_REQ_free(req);
    key_free(k);
}

static void order_payload(struct buf *out, const struct buf *csr, const struct buf *evidence)
{
    buf_str(out, "{\"identifiers\":[{\"type\":\"uri\",\"value\":");
    jw_str(out, g.id);
    buf_str(out, "}],\"csr\":\"");
    buf_b64url(out, csr->p, csr->len);
    buf_str(out, "\"");
    if (evidence) {
        buf_str(out, ",\"evidence\":");
        buf_put(out, evidence->p, evidence->len);
    }
    buf_str(out, "}");
}

/* New account and first order, attested in band with the next join token. */
static void open_session(struct session *s)
{
    struct err e = {0};
    uint8_t secret[32], anchor[32], digest[32];
    struct buf evidence, csr, payload;
    if (g.tokens_used == g.tokens_count)
        die("not enough tokens", NULL, NULL);
    const char *token = g.tokens[g.tokens_used++];
    bench_exchange(&s->conn, "HEAD", path_of(g.new_nonce), g.authority, NULL);
    static const char account[] = "{\"termsOfServiceAgreed\":true}";
    s->kid[0] = 0;
    post_whole(s, g.new_account, account, sizeof account - 1, 201);
    snprintf(s->kid, sizeof s->kid, "%s", s->conn.location);
    if (join_token_parse(token, strlen(token), secret, anchor, &e) < 0 || jwk_thumbprint(s->thumbprint, s->key, &e) < 0)
        die("token", NULL, &e);
    buf_init(&evidence, 8192);
    buf_init(&csr, 8192);
    buf_init(&payload, 65536);
    attest_key_authorization(digest, s->conn.nonce, s->thumbprint);
    if (attest_join_token_collect(&evidence, secret, digest, &e) < 0)
        die("evidence", NULL, &e);
    make_csr(&csr);
    order_payload(&payload, &csr, &evidence);
    post_whole(s, g.new_order, (char *)payload.p, payload.len, 201);
    if (!strstr(buf_cstr(&s->conn.in), "BEGIN CERTIFICATE"))
        die("the first order brought no certificate", &s->conn, NULL);
    buf_reset(&payload);
    order_payload(&payload, &csr, NULL);
    free(s->payload);
    s->payload_len = payload.len;
    s->payload = strdup(buf_cstr(&payload));
    buf_free(&payload);
    buf_free(&csr);
    buf_free(&evidence);
}

/* --- load ------------------------------------------------------------------------------------------- */

static int64_t *latency;
static size_t done, total;

/* The same order, for an ID one letter longer than its CSR's. */
static void other_begin(struct session *s)
{
    struct buf b;
    const char *at = strstr(s->payload, g.id) + strlen(g.id);
    buf_init(&b, 65536);
    buf_put(&b, s->payload, (size_t)(at - s->payload));
    buf_str(&b, "x");
    buf_str(&b, at);
    post(s, g.new_order, (const char *)b.p, b.len);
    buf_free(&b);
}

static void warm_begin(struct session *s)
{
    s->begun = clock_mono_us();
    s->other = g.refused_every && ++g.asked % (g.refused_every + 1) == 0;
    if (s->other)
        other_begin(s);
    else
        post(s, g.new_order, s->payload, s->payload_len);
}

/* Moves one connection on; re-arms it. Returns false when it has nothing left to ask. */
static bool warm_move(struct session *s, int ep, size_t *begun)
{
    unsigned want = EPOLLIN;
    int rc;
    while ((rc = bench_step(&s->conn, &want)) == 1) {
        if (s->other) {
            if (s->conn.status < 400)
                die("an order that had to be refused was not", &s->conn, NULL);
            g.refused++;
            warm_begin(s);
            continue;
        }
        if (s->conn.status != 201 || !memmem(s->conn.in.p, s->conn.in.len, "BEGIN CERTIFICATE", 17))
            die("a warm order failed", &s->conn, NULL);
        latency[done++] = clock_mono_us() - s->begun;
        if (*begun == total)
            return false;
        (*begun)++;
        warm_begin(s);
    }
    if (rc < 0)
        die("connection broken", &s->conn, NULL);
    struct epoll_event ev = {.events = want, .data.ptr = s};
    epoll_ctl(ep, EPOLL_CTL_MOD, s->conn.fd, &ev);
    return true;
}

static void run_warm(struct session *sessions, size_t n)
{
    int ep = epoll_create1(EPOLL_CLOEXEC);
    size_t begun = 0;
    for (size_t i = 0; i < n; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &sessions[i]};
        fcntl(sessions[i].conn.fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(ep, EPOLL_CTL_ADD, sessions[i].conn.fd, &ev);
    }
    for (size_t i = 0; i < n && begun < total; i++) {
        begun++;
        warm_begin(&sessions[i]);
        warm_move(&sessions[i], ep, &begun);
    }
    while (done < total) {
        struct epoll_event ev[64];
        int k = epoll_wait(ep, ev, 64, 30000);
        if (k <= 0)
            die("nothing answered for 30 seconds", NULL, NULL);
        for (int i = 0; i < k; i++)
            warm_move(ev[i].data.ptr, ep, &begun);
    }
    close(ep);
}

static void run_cold(struct session *s)
{
    struct err e = {0};
    while (done < total) {
        int64_t t = clock_mono_us();
        key_free(s->key);
        s->key = key_generate(KEY_P256, &e);
        bench_connect(&s->conn, g.tls, g.host, g.port);
        read_directory(&s->conn);
        open_session(s);
        bench_close(&s->conn);
        latency[done++] = clock_mono_us() - t;
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void report(const char *mode, size_t connections, double seconds, const double cpu[2], double own)
{
    qsort(latency, done, sizeof *latency, by_value);
    printf("{\"mode\":\"%s\",\"connections\":%zu,\"certificates\":%zu,\"refused\":%zu,\"seconds\":%.3f,\"per_second\":%.1f,"
           "\"p50_us\":%lld,\"p95_us\":%lld,\"p99_us\":%lld,\"frontend_cpu_us\":%.1f,\"signer_cpu_us\":%.1f,"
           "\"generator_cpu_us\":%.1f,\"frontend_rss_kb\":%ld,\"signer_rss_kb\":%ld,\"frontend_peak_kb\":%ld,\"signer_peak_kb\":%ld}\n",
           mode, connections, done, g.refused, seconds, (double)done / seconds, (long long)latency[done / 2],
           (long long)latency[done * 95 / 100], (long long)latency[done * 99 / 100], cpu[0] / (double)done * 1e6,
           cpu[1] / (double)done * 1e6, own / (double)done * 1e6, memory_kb(g.pids[0], "VmRSS"), memory_kb(g.pids[1], "VmRSS"),
           memory_kb(g.pids[0], "VmHWM"), memory_kb(g.pids[1], "VmHWM"));
}

static double own_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void read_tokens(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[512];
    if (!f)
        die("cannot read the tokens", NULL, NULL);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        g.tokens = realloc(g.tokens, (g.tokens_count + 1) * sizeof *g.tokens);
        g.tokens[g.tokens_count++] = strdup(line);
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"server", 1, NULL, 's'}, {"roots", 1, NULL, 'r'}, {"tokens", 1, NULL, 't'}, {"id", 1, NULL, 'i'},
        {"connections", 1, NULL, 'c'}, {"requests", 1, NULL, 'n'}, {"cold", 0, NULL, 'C'}, {"refused", 1, NULL, 'R'}, {"pids", 1, NULL, 'p'},
        {NULL, 0, NULL, 0}};
    size_t connections = 1;
    bool cold = false;
    total = 1000;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 's':
            snprintf(g.authority, sizeof g.authority, "%s", optarg);
            snprintf(g.host, sizeof g.host, "%.*s", (int)strcspn(optarg, ":"), optarg);
            snprintf(g.port, sizeof g.port, "%s", strchr(optarg, ':') ? strchr(optarg, ':') + 1 : "443");
            break;
        case 'r': g.roots = optarg; break;
        case 't': read_tokens(optarg); break;
        case 'i': g.id = optarg; break;
        case 'c': connections = strtoul(optarg, NULL, 10); break;
        case 'n': total = strtoul(optarg, NULL, 10); break;
        case 'C': cold = true; break;
        case 'R': g.refused_every = strtoul(optarg, NULL, 10); break;
        case 'p': sscanf(optarg, "%d,%d", &g.pids[0], &g.pids[1]); break;
        default: return 2;
        }
    }
    if (!*g.host || !g.roots || !g.id || !g.pids[1] || connections < 1 || total < 1)
        die("usage: see the head of load.c", NULL, NULL);
    snprintf(g.base, sizeof g.base, "https://%s", g.authority);
    g.tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(g.tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(g.tls, SSL_MODE_AUTO_RETRY);
    if (SSL_CTX_load_verify_locations(g.tls, g.roots, NULL) != 1)
        die("cannot read the roots", NULL, NULL);
    latency = calloc(total, sizeof *latency);
    struct session *sessions = calloc(connections, sizeof *sessions);
    struct err e = {0};
    for (size_t i = 0; i < connections && !cold; i++) {
        sessions[i].key = key_generate(KEY_P256, &e);
        bench_connect(&sessions[i].conn, g.tls, g.host, g.port);
        if (i == 0)
            read_directory(&sessions[i].conn);
        open_session(&sessions[i]);
    }
    double cpu[2] = {cpu_seconds(g.pids[0]), cpu_seconds(g.pids[1])}, own = own_cpu();
    int64_t start = clock_mono_us();
    if (cold)
        run_cold(&sessions[0]);
    else
        run_warm(sessions, connections);
    double seconds = (double)(clock_mono_us() - start) / 1e6;
    for (int i = 0; i < 2; i++)
        cpu[i] = cpu_seconds(g.pids[i]) - cpu[i];
    report(cold ? "cold" : "warm", connections, seconds, cpu, own_cpu() - own);
    return 0;
}
