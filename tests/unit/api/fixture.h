/* A whole frontend for a test: a signer that answers with certificates made by OpenSSL (no log, no
 * token), the real ca/client and ra/, and the server on a free port, in a folder of its own. */
#ifndef TESTS_UNIT_API_FIXTURE_H
#define TESTS_UNIT_API_FIXTURE_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/server.h"
#include "base/clock.h"
#include "base/fileio.h"
#include "base/ipc.h"
#include "tlog/checkpoint.h"
#include "tlog/proof.h"
#include <arpa/inet.h>
#include <ftw.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct world {
    char dir[64];
    unsigned port;
    struct config *config;
    EVP_PKEY *root_key, *issuing_key, *log_key;
    X509 *root, *issuing;
    char *root_pem;
    char vkey[256];
    /* the signer */
    int signer_fd;
    pthread_t signer;
    atomic_bool signer_stop;
    atomic_bool mute;          /* hears requests and does not answer them */
    atomic_bool hold;          /* hears a request and answers it later */
    atomic_uint heard, issued; /* requests of the workload profile */
    atomic_int server_life;    /* seconds, of the server's own certificate */
    atomic_uint crls;          /* made */
    atomic_int crl_life;       /* seconds; 0: none is made */
    atomic_bool crl_hold;      /* hears of a CRL and answers later */
    atomic_uint crls_asked;
    /* the frontend */
    struct ca_client *ca;
    struct ra *ra;
    struct api_server *api;
};

static inline void must(int rc, const struct err *e)
{
    if (rc < 0)
        fail_msg("%s: %s", e->rule, e->msg);
}

/* --- certificates ---------------------------------------------------------------------------------- */

static inline void extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
}

static inline X509 *certificate(EVP_PKEY *subject_key, const char *cn, X509 *issuer, EVP_PKEY *key, bool ca, const char *san,
                                long life)
{
    static atomic_long serial = 1;
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), atomic_fetch_add(&serial, 1));
    X509_gmtime_adj(X509_getm_notBefore(x), -10);
    X509_gmtime_adj(X509_getm_notAfter(x), life);
    X509_set_pubkey(x, subject_key);
    if (cn)
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
    extension(x, issuer ? issuer : x, NID_subject_key_identifier, "hash");
    extension(x, issuer ? issuer : x, NID_basic_constraints, ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extension(x, issuer ? issuer : x, NID_key_usage, ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    if (san)
        extension(x, issuer, NID_subject_alt_name, san);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

static inline void authority_make(struct world *w)
{
    struct err e = {0};
    struct tlog_vkey vkey = {0};
    struct buf b;
    w->root_key = EVP_EC_gen("P-384");
    w->issuing_key = EVP_EC_gen("P-256");
    w->root = certificate(w->root_key, "test root", NULL, w->root_key, true, NULL, 86400);
    w->issuing = certificate(w->issuing_key, "test issuing", w->root, w->root_key, true, NULL, 86400);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, w->root);
    char *text;
    long n = BIO_get_mem_data(bio, &text);
    w->root_pem = strndup(text, (size_t)n);
    BIO_free(bio);
    uint8_t pub[32];
    size_t pub_len = sizeof pub;
    EVP_PKEY *log = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    EVP_PKEY_get_raw_public_key(log, pub, &pub_len);
    w->log_key = log;
    must(tlog_vkey_make(&vkey, "test.example/log1", pub, &e), &e);
    buf_init(&b, sizeof w->vkey - 1);
    tlog_vkey_write(&vkey, &b);
    snprintf(w->vkey, sizeof w->vkey, "%s", buf_cstr(&b));
    buf_free(&b);
    tlog_vkey_free(&vkey);
}

/* --- the signer ------------------------------------------------------------------------------------ */

static inline struct bytes der_of(X509 *x)
{
    uint8_t *p = NULL;
    int n = i2d_X509(x, &p);
    assert_true(n > 0);
    return (struct bytes){p, (size_t)n};
}

static inline void der_free(struct bytes b)
{
    free((void *)(uintptr_t)b.p);
}

static inline void info_answer(struct world *w, struct buf *out)
{
    struct bytes root = der_of(w->root), issuing = der_of(w->issuing);
    struct ca_info info = {.root = root, .issuing = issuing, .vkey = {(const uint8_t *)w->vkey, strlen(w->vkey)},
                           .log_size = 3, .started = clock_wall(), .token = {(const uint8_t *)"test", 4}};
    ca_info_write(out, 0, &info);
    der_free(root);
    der_free(issuing);
}

/* A stapled proof that proves nothing, but carries what the log's entry would. */
static inline void staple(struct world *w, X509 *x, const struct ca_issue *m)
{
    static const char note[] = "test.example/log1\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 test.example/log1 AAAAAAAA\n";
    const struct tlog_ext_info info = {.attestor = m->attestor, .session = m->session};
    struct buf ext, proof;
    buf_init(&ext, 4096);
    buf_init(&proof, TLOG_PROOF_MAX);
    tlog_ext_write(&info, &ext);
    tlog_proof_write(&proof, (struct bytes){ext.p, ext.len}, 1, NULL, 0, note, sizeof note - 1);
    ASN1_OBJECT *oid = OBJ_txt2obj("2.25.1596203714", 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(value, proof.p, (int)proof.len);
    X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value);
    X509_add_ext(x, e, -1);
    X509_sign(x, w->issuing_key, EVP_sha256());
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
    buf_free(&ext);
    buf_free(&proof);
}

static inline void issue_answer(struct world *w, uint64_t id, struct bytes body, struct buf *out)
{
    struct ca_issue m;
    struct err e = {0};
    struct buf san;
    must(ca_issue_parse(&m, body, &e), &e);
    buf_init(&san, 16384);
    buf_fmt(&san, "URI:%.*s", (int)m.spiffe_id.len, (const char *)m.spiffe_id.p);
    for (size_t i = 0; i < m.dns_count; i++) {
        char name[256];
        struct in_addr ip;
        snprintf(name, sizeof name, "%.*s", (int)m.dns[i].len, (const char *)m.dns[i].p);
        buf_fmt(&san, ",%s:%s", inet_pton(AF_INET, name, &ip) == 1 ? "IP" : "DNS", name);
    }
    const unsigned char *p = m.spki.p;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)m.spki.len);
    assert_non_null(key);
    long life = m.profile == CA_PROFILE_SERVER ? atomic_load(&w->server_life) : (long)m.lifetime;
    X509 *x = certificate(key, NULL, w->issuing, w->issuing_key, false, buf_cstr(&san), life);
    staple(w, x, &m);
    struct bytes der = der_of(x);
    struct ca_issued r = {.index = atomic_fetch_add(&w->issued, 1), .not_before = clock_wall() - 10,
                          .not_after = clock_wall() + life, .cert = der};
    ca_issued_write(out, id, &r);
    der_free(der);
    X509_free(x);
    EVP_PKEY_free(key);
    buf_free(&san);
}

/* What was asked for stands for the list. */
static inline bool crl_answer(struct world *w, uint64_t id, struct bytes body, struct buf *out)
{
    struct ca_crl m;
    struct err e = {0};
    must(ca_crl_parse(&m, body, &e), &e);
    atomic_fetch_add(&w->crls_asked, 1);
    while (atomic_load(&w->crl_hold))
        usleep(1000);
    if (atomic_load(&w->mute))
        return false;
    int life = atomic_load(&w->crl_life);
    if (life > 0) {
        const struct ca_crl_signed r = {.number = 100 + atomic_fetch_add(&w->crls, 1), .this_update = clock_wall() - 10,
                                        .next_update = clock_wall() + life, .crl = body};
        ca_crl_signed_write(out, id, &r);
    } else {
        err_set(&e, ERR_DENIED, "no-crl", "not now");
        ca_refused_write(out, id, &e);
    }
    return true;
}

static inline void frame_answer(struct world *w, int fd, struct bytes frame, struct buf *out)
{
    struct ipc_frame f;
    struct err e = {0};
    must(ipc_frame_parse(&f, frame.p, frame.len, &e), &e);
    if (f.type == CA_INFO) {
        info_answer(w, out);
        /* the id of a CA_INFO is the client's choice: put it back into the header */
        for (int i = 0; i < 8; i++)
            out->p[2 + i] = (uint8_t)(f.id >> (56 - 8 * i));
    } else if (f.type == CA_RECORD) {
        ca_recorded_write(out, f.id, 1);
    } else if (f.type == CA_CRL) {
        if (!crl_answer(w, f.id, f.body, out))
            return;
    } else {
        atomic_fetch_add(&w->heard, 1);
        while (atomic_load(&w->hold))
            usleep(1000);
        if (atomic_load(&w->mute))
            return;
        issue_answer(w, f.id, f.body, out);
    }
    assert_false(out->failed);
    ipc_send(fd, out, &e);
}

static inline void *signer_main(void *arg)
{
    struct world *w = arg;
    struct err e = {0};
    struct buf out;
    buf_init(&out, IPC_FRAME_MAX);
    struct ipc_reader *r = ipc_reader_new(&e);
    while (!atomic_load(&w->signer_stop)) {
        struct pollfd p = {.fd = w->signer_fd, .events = POLLIN};
        if (poll(&p, 1, 50) <= 0)
            continue;
        int fd = accept4(w->signer_fd, NULL, NULL, SOCK_CLOEXEC);
        int n = 0;
        while (fd >= 0 && n >= 0 && !atomic_load(&w->signer_stop)) {
            struct bytes frames[IPC_BATCH];
            n = ipc_recv(r, fd, 50, frames, &e);
            for (int i = 0; i < n; i++)
                frame_answer(w, fd, frames[i], &out);
        }
        if (fd >= 0)
            close(fd);
    }
    ipc_reader_free(r);
    buf_free(&out);
    return NULL;
}

/* --- the frontend ----------------------------------------------------------------------------------- */

static inline int tcp_listen(unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 128), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static inline int unix_listen(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    assert_true(strlen(path) < sizeof a.sun_path);
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static inline void world_sub(const struct world *w, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    assert_int_equal(mkdir(path, 0755), 0);
}

static inline struct world *world_new(int server_life)
{
    struct world *w = calloc(1, sizeof *w);
    struct err e = {0};
    char yaml[1024], path[4096];
    snprintf(w->dir, sizeof w->dir, "/tmp/mayfly-api.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    world_sub(w, "run");
    world_sub(w, "store");
    world_sub(w, "log");
    world_sub(w, "log/tile");
    int listen_fd = tcp_listen(&w->port);
    int n = snprintf(yaml, sizeof yaml,
                     "trust_domain: test.example\nlisten: 127.0.0.1:%u\nnames: [localhost, 127.0.0.1]\n"
                     "token: {uri: \"pkcs11:token=x\", module: /nowhere, pin: {file: pin}}\n"
                     "log: {dir: log, origin: test.example/log1, number: 1}\n"
                     "frontend: {threads: 2, max_connections: 256, issue_timeout_ms: 30000}\n",
                     w->port);
    w->config = config_parse(yaml, (size_t)n, w->dir, &e);
    must(w->config ? 0 : -1, &e);
    authority_make(w);
    atomic_store(&w->server_life, server_life);
    config_signer_socket(w->config, path, sizeof path);
    w->signer_fd = ipc_listen(path, 0600, &e);
    must(w->signer_fd, &e);
    assert_int_equal(pthread_create(&w->signer, NULL, signer_main, w), 0);
    w->ca = ca_client_new(path, w->config->issue_timeout_ms, &e);
    must(w->ca ? 0 : -1, &e);
    must(ra_open(&w->ra, w->config, w->ca, &e), &e);
    ra_told_settle(w->ra, 0);
    config_admin_socket(w->config, path, sizeof path);
    struct api_options o = {.config = w->config, .ra = w->ra, .listen_fd = listen_fd, .admin_fd = unix_listen(path),
                            .admin_uid = geteuid()};
    must(api_start(&w->api, &o, &e), &e);
    return w;
}

static inline int one_remove(const char *path, const struct stat *st, int what, struct FTW *ftw)
{
    return remove(path);
}

static inline void world_free(struct world *w)
{
    api_stop(w->api, 1000);
    ra_stop(w->ra);
    ca_client_free(w->ca);
    ra_close(w->ra);
    atomic_store(&w->signer_stop, true);
    pthread_join(w->signer, NULL);
    close(w->signer_fd);
    X509_free(w->root);
    X509_free(w->issuing);
    EVP_PKEY_free(w->root_key);
    EVP_PKEY_free(w->issuing_key);
    EVP_PKEY_free(w->log_key);
    config_free(w->config);
    nftw(w->dir, one_remove, 16, FTW_DEPTH | FTW_PHYS);
    free(w->root_pem);
    free(w);
}
#endif
