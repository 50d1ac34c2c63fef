/* A registration authority for tests: configuration and store in a folder of its own, a signer that
 * is a thread behind the real socket and messages (and signs with keys in memory), and callbacks
 * turned into calls that wait. */
#ifndef TESTS_RA_FIXTURE_H
#define TESTS_RA_FIXTURE_H
#include "ra/internal.h"
#include "tests/unit/attest/pki.h"
#include "tests/unit/ra/csr_make.h"
#include "base/clock.h"
#include "base/fileio.h"
#include "base/jose.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WEB "spiffe://example.org/web"
#define DB "spiffe://example.org/db"

struct fake_signer {
    pthread_t thread;
    int listener;
    atomic_bool stop;
    atomic_uint asked;
    const struct pki *pki;
    pthread_mutex_t lock; /* below */
    struct err refuse;    /* code not ERR_NONE: the answer to every request */
    bool mute;            /* no answer at all */
    bool no_records;      /* records are refused, as by a cap */
    unsigned recorded;    /* records taken; the newest of them below */
    struct { uint16_t type; size_t len; uint8_t body[CA_RECORD_MAX]; } records[16];
    struct ca_issue last; /* numbers of it; views are gone */
    char last_id[2049], last_attestor[33], last_entry[65], last_dns[300], last_requester[2049];
    uint8_t last_evidence[32], last_session[32];
    struct key *jwt_key;    /* NULL: as a token without a key for JWT-SVIDs */
    struct ca_jwt last_jwt; /* numbers of it, and below what else it said; views are gone */
    uint8_t last_audiences[CA_AUDIENCES_BYTES];
};
struct fx {
    char dir[64], offset_file[96];
    struct config *config;
    struct pki pki;
    struct fake_signer signer;
    struct ca_client *ca;
    struct ra *ra;
};

/* --- the signer ----------------------------------------------------------------------------------------------- */

static inline void text_of(char *dst, size_t cap, struct bytes b)
{
    snprintf(dst, cap, "%.*s", (int)b.len, b.len ? (const char *)b.p : "");
}

static inline void fake_note(struct fake_signer *f, const struct ca_issue *m)
{
    f->last = *m;
    text_of(f->last_id, sizeof f->last_id, m->spiffe_id);
    text_of(f->last_attestor, sizeof f->last_attestor, m->attestor);
    text_of(f->last_entry, sizeof f->last_entry, m->entry_id);
    text_of(f->last_requester, sizeof f->last_requester, m->requester);
    text_of(f->last_dns, sizeof f->last_dns, m->dns_count ? m->dns[0] : (struct bytes){NULL, 0});
    if (m->evidence.len == 32)
        memcpy(f->last_evidence, m->evidence.p, 32);
    if (m->session.len == 32)
        memcpy(f->last_session, m->session.p, 32);
}

static inline void fake_issue(struct fake_signer *f, struct buf *out, uint64_t id, const struct ca_issue *m)
{
    struct err e = {0};
    char san[2200];
    snprintf(san, sizeof san, "critical,URI:%.*s", (int)m->spiffe_id.len, (const char *)m->spiffe_id.p);
    struct pki_leaf l = pki_svid(san);
    l.not_after = time(NULL) + m->lifetime;
    l.not_before = time(NULL) - 10;
    struct key *k = key_from_spki(m->spki.p, m->spki.len, &e);
    struct buf der;
    if (!k)
        abort();
    pki_leaf_der(&der, f->pki, k, &l);
    struct ca_issued r = {.index = 100 + atomic_load(&f->asked), .not_before = l.not_before, .not_after = l.not_after,
                          .cert = {der.p, der.len}};
    ca_issued_write(out, id, &r);
    buf_free(&der);
    key_free(k);
}

static inline void fake_jwt(struct fake_signer *f, const struct ipc_frame *x, struct buf *out)
{
    struct err e = {0};
    struct ca_jwt *m = &f->last_jwt;
    if (ca_jwt_parse(m, x->body, &e) < 0)
        abort();
    atomic_fetch_add(&f->asked, 1);
    text_of(f->last_id, sizeof f->last_id, m->spiffe_id);
    text_of(f->last_attestor, sizeof f->last_attestor, m->attestor);
    text_of(f->last_entry, sizeof f->last_entry, m->entry_id);
    text_of(f->last_requester, sizeof f->last_requester, m->requester);
    memcpy(f->last_audiences, m->audiences.p, m->audiences.len);
    memcpy(f->last_evidence, m->evidence.p, 32);
    memcpy(f->last_session, m->session.p, 32);
    const struct ca_jwt_signed r = {.index = 100 + atomic_load(&f->asked), .issued = 1000, .expires = 1000 + m->lifetime,
                                    .jwt = {(const uint8_t *)"a.b.c", 5}};
    if (f->refuse.code != ERR_NONE)
        ca_refused_write(out, x->id, &f->refuse);
    else
        ca_jwt_signed_write(out, x->id, &r);
}

static inline void fake_record(struct fake_signer *f, const struct ipc_frame *x, struct buf *out)
{
    struct ca_record m;
    struct tlog_record_info info;
    struct err e = {0}, why = {0};
    if (ca_record_parse(&m, x->body, &e) < 0 || tlog_record_parse(&info, m.type, m.body, &e) < 0)
        abort();
    if (f->no_records) {
        err_set(&why, ERR_RATE, "rate", "not now");
        ca_refused_write(out, x->id, &why);
        return;
    }
    size_t i = f->recorded++ % 16;
    f->records[i].type = m.type;
    f->records[i].len = m.body.len;
    memcpy(f->records[i].body, m.body.p, m.body.len);
    ca_recorded_write(out, x->id, 1000 + f->recorded);
}

static inline void fake_answer(struct fake_signer *f, int fd, struct bytes frame, struct buf *out)
{
    struct ipc_frame x;
    struct err e = {0};
    if (ipc_frame_parse(&x, frame.p, frame.len, &e) < 0)
        abort();
    static const char vkey[] = "example.org/log1+9c2e9b10+ATKq5Uh1mqhjVrzLKp6DdB6c4RSvG3duZC1idYtpAC4j", token[] = "test";
    struct ca_info info = {.root = {f->pki->root_der.p, f->pki->root_der.len},
                           .issuing = {f->pki->issuing_der.p, f->pki->issuing_der.len},
                           .vkey = {(const uint8_t *)vkey, sizeof vkey - 1}, .log_size = 3, .started = 1,
                           .token = {(const uint8_t *)token, sizeof token - 1},
                           .jwt_key = f->jwt_key ? key_spki(f->jwt_key) : (struct bytes){NULL, 0}};
    struct ca_issue m;
    pthread_mutex_lock(&f->lock);
    bool mute = f->mute && (x.type == CA_ISSUE || x.type == CA_JWT);
    if (x.type == CA_INFO) {
        ca_info_write(out, x.id, &info);
    } else if (x.type == CA_RECORD) {
        fake_record(f, &x, out);
    } else if (x.type == CA_JWT) {
        fake_jwt(f, &x, out);
    } else {
        if (x.type != CA_ISSUE || ca_issue_parse(&m, x.body, &e) < 0)
            abort();
        atomic_fetch_add(&f->asked, 1);
        fake_note(f, &m);
        if (f->refuse.code != ERR_NONE)
            ca_refused_write(out, x.id, &f->refuse);
        else
            fake_issue(f, out, x.id, &m);
    }
    pthread_mutex_unlock(&f->lock);
    if (!mute)
        ipc_send(fd, out, &e);
}

static inline void *fake_run(void *arg)
{
    struct fake_signer *f = arg;
    struct err e = {0};
    struct buf out;
    struct bytes frames[IPC_BATCH];
    struct ipc_reader *r = ipc_reader_new(&e);
    buf_init(&out, IPC_FRAME_MAX);
    while (!atomic_load(&f->stop)) {
        struct pollfd p = {.fd = f->listener, .events = POLLIN};
        int fd = poll(&p, 1, 20) > 0 ? accept(f->listener, NULL, NULL) : -1;
        int n = 0;
        while (fd >= 0 && n >= 0 && !atomic_load(&f->stop)) {
            n = ipc_recv(r, fd, 20, frames, &e);
            for (int i = 0; i < n; i++)
                fake_answer(f, fd, frames[i], &out);
        }
        if (fd >= 0)
            close(fd);
    }
    buf_free(&out);
    ipc_reader_free(r);
    return NULL;
}

/* --- the whole ------------------------------------------------------------------------------------------------- */

static inline void fx_open_ca(struct fx *x)
{
    struct err e = {0};
    char path[128];
    snprintf(path, sizeof path, "%s/signer.sock", x->dir);
    x->ca = ca_client_new(path, 2000, &e);
    if (!x->ca)
        abort();
    for (struct ca_snapshot s = {.known = false}; !s.known; ca_client_snapshot(x->ca, &s))
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static inline void fx_open_ra(struct fx *x)
{
    struct err e = {0};
    if (ra_open(&x->ra, x->config, x->ca, &e) < 0) {
        fprintf(stderr, "%s: %s\n", e.rule, e.msg);
        abort();
    }
    ra_told_settle(x->ra, 0); /* it is the newest */
}

static inline void fx_new(struct fx *x, const char *more_yaml)
{
    struct err e = {0};
    char yaml[1024], path[128];
    memset(x, 0, sizeof *x);
    pki_now = time(NULL);
    log_setup("test", LOG_ERROR, LOG_TEXT);
    snprintf(x->dir, sizeof x->dir, "/tmp/mayfly-ra-XXXXXX");
    if (!mkdtemp(x->dir))
        abort();
    snprintf(x->offset_file, sizeof x->offset_file, "%s/clock", x->dir);
    setenv("MAYFLY_CLOCK_OFFSET_FILE", x->offset_file, 1);
    int n = snprintf(yaml, sizeof yaml, "trust_domain: example.org\nnames: [localhost, 127.0.0.1]\n%s", more_yaml);
    x->config = config_parse(yaml, (size_t)n, x->dir, &e);
    if (!x->config) {
        fprintf(stderr, "%s\n", e.msg);
        abort();
    }
    pki_new(&x->pki, "root");
    x->signer.jwt_key = strstr(more_yaml, "#no-jwt") ? NULL : key_generate(KEY_P256, &e);
    x->signer.pki = &x->pki;
    pthread_mutex_init(&x->signer.lock, NULL);
    snprintf(path, sizeof path, "%s/signer.sock", x->dir);
    x->signer.listener = ipc_listen(path, 0600, &e);
    if (x->signer.listener < 0 || pthread_create(&x->signer.thread, NULL, fake_run, &x->signer) != 0)
        abort();
    fx_open_ca(x);
    fx_open_ra(x);
}

static inline void fx_reopen(struct fx *x)
{
    ra_stop(x->ra);
    ca_client_free(x->ca);
    ra_close(x->ra);
    fx_open_ca(x);
    fx_open_ra(x);
}

static inline void fx_free(struct fx *x)
{
    char command[128];
    ra_stop(x->ra);
    ca_client_free(x->ca);
    ra_close(x->ra);
    atomic_store(&x->signer.stop, true);
    pthread_join(x->signer.thread, NULL);
    close(x->signer.listener);
    pki_free(&x->pki);
    key_free(x->signer.jwt_key);
    config_free(x->config);
    snprintf(command, sizeof command, "rm -rf %s", x->dir);
    if (system(command) != 0)
        abort();
}

/* Wall seconds that everything here adds from now on; false in builds without fault points. */
static inline bool fx_clock(struct fx *x, int64_t offset)
{
    struct err e = {0};
    char text[32];
    int n = snprintf(text, sizeof text, "%lld\n", (long long)offset);
    int64_t before = clock_wall();
    if (file_write_atomic(x->offset_file, text, (size_t)n, 0600, false, &e) < 0)
        abort();
    return offset == 0 || clock_wall() > before + offset / 2;
}

/* --- callbacks that are waited for ---------------------------------------------------------------------------------- */

struct wait {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned calls;
    struct err e; /* code ERR_NONE: good */
    /* copies of what came */
    struct ra_order_view o;
    char order_authz[RA_ID_LEN + 1], *chain;
    size_t identifiers;
    char uri[2049];
    struct ra_authz_view a;
    char entry_id[RA_ID_LEN + 1], hint[RA_HINT_MAX + 1];
    uint64_t revision, number;
    int64_t created_at;
    unsigned ttl;
    struct ra_token_view t;
    struct ra_session *s;
    bool created;
};

static inline void wait_init(struct wait *w)
{
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, NULL);
}

static inline void wait_wake(struct wait *w, const struct err *e)
{
    if (e)
        w->e = *e;
    w->calls++;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

static inline void wait_for(struct wait *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->calls == 0)
        pthread_cond_wait(&w->cond, &w->lock);
    if (w->calls != 1)
        abort();
    pthread_mutex_unlock(&w->lock);
}

static inline void wait_free(struct wait *w)
{
    free(w->chain);
    ra_session_release(w->s);
    wait_init(w);
}

static inline void on_order(void *arg, const struct ra_order_view *o, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    if (!o == !e)
        abort();
    if (o) {
        w->o = *o;
        w->identifiers = o->identifiers_count;
        snprintf(w->uri, sizeof w->uri, "%s", o->identifiers[0].value);
        memcpy(w->order_authz, o->authz[0], sizeof w->order_authz);
        w->chain = o->chain_pem ? strndup(o->chain_pem, o->chain_len) : NULL;
    }
    wait_wake(w, e);
}

static inline void on_authz(void *arg, const struct ra_authz_view *a, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    if (!a == !e)
        abort();
    if (a)
        w->a = *a;
    wait_wake(w, e);
}

static inline void on_entry(void *arg, const struct ra_entry *x, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    if (!x == !e)
        abort();
    if (x) {
        memcpy(w->entry_id, x->id, sizeof w->entry_id);
        w->revision = x->revision;
        w->number = x->number;
        snprintf(w->hint, sizeof w->hint, "%s", x->hint);
        w->created_at = x->created;
        w->ttl = x->ttl;
        snprintf(w->uri, sizeof w->uri, "%s", x->spiffe_id);
    }
    wait_wake(w, e);
}

static inline void on_token(void *arg, const struct ra_token_view *t, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    if (!t == !e)
        abort();
    if (t)
        w->t = *t;
    wait_wake(w, e);
}

static inline void on_session(void *arg, struct ra_session *s, bool created, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    if (!s == !e)
        abort();
    if (s)
        w->s = session_ref(s);
    w->created = created;
    wait_wake(w, e);
}

/* --- things done often -------------------------------------------------------------------------------------------------- */

/* rule NULL: must succeed. Returns the waiter's rule for messages. */
static inline void expect(struct wait *w, const char *rule, const char *where, int line)
{
    wait_for(w);
    if (strcmp(w->e.rule, rule ? rule : "") != 0) {
        fprintf(stderr, "%s:%d: rule \"%s\" (%s), expected \"%s\"\n", where, line, w->e.rule, w->e.msg, rule ? rule : "");
        abort();
    }
}
#define EXPECT(w, rule) expect(w, rule, __FILE__, __LINE__)

static inline void on_taken_back(void *arg, const struct ra_revocation *r, const struct err *e)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->lock);
    if (!r == !e)
        abort();
    wait_wake(w, e);
}

/* Revokes. */
static inline void take_back(struct fx *x, enum tlog_revoked_by by, const char *value)
{
    struct wait w;
    wait_init(&w);
    ra_revoke(x->ra, &(struct ra_revoke){.by = by, .value = value, .reason = 1, .actor = "uid:7"}, on_taken_back, &w);
    EXPECT(&w, NULL);
}

static inline void delete_entry(struct fx *x, const char *id)
{
    struct wait w;
    wait_init(&w);
    ra_entry_delete(x->ra, id, NULL, on_entry, &w);
    EXPECT(&w, NULL);
}

static inline struct ra_entry entry_of(char *spiffe_id)
{
    return (struct ra_entry){.spiffe_id = spiffe_id};
}

static inline void make_entry(struct fx *x, const char *id, const char *selector, const char *dns)
{
    struct wait w;
    char id_copy[2049], sel[1100], name[300], *sels[] = {sel}, *names[] = {name};
    wait_init(&w);
    snprintf(id_copy, sizeof id_copy, "%s", id);
    snprintf(sel, sizeof sel, "%s", selector ? selector : "");
    snprintf(name, sizeof name, "%s", dns ? dns : "");
    struct ra_entry e = entry_of(id_copy);
    e.selectors = sels;
    e.selectors_count = selector != NULL;
    e.dns = names;
    e.dns_count = dns != NULL;
    ra_entry_create(x->ra, &e, on_entry, &w);
    EXPECT(&w, NULL);
}

static inline void make_token(struct fx *x, const char *id, const char *selector, unsigned lifetime, uint8_t secret[32])
{
    struct wait w;
    uint8_t anchor[32];
    struct err e = {0};
    wait_init(&w);
    struct ra_token_request r = {.spiffe_id = id, .selectors = &selector, .selectors_count = selector != NULL,
                                 .lifetime = lifetime};
    ra_token_create(x->ra, &r, on_token, &w);
    EXPECT(&w, NULL);
    if (join_token_parse(w.t.text, strlen(w.t.text), secret, anchor, &e) < 0)
        abort();
}

static inline struct ra_session *make_session_with(struct fx *x, struct key *k)
{
    struct wait w;
    struct err e = {0};
    char thumbprint[44];
    wait_init(&w);
    if (jwk_thumbprint(thumbprint, k, &e) < 0 || ra_session_new(x->ra, k, thumbprint, on_session, &w, &e) < 0)
        abort();
    EXPECT(&w, NULL);
    return w.s;
}

static inline struct ra_session *make_session(struct fx *x)
{
    struct err e = {0};
    return make_session_with(x, key_generate(KEY_P256, &e));
}

static inline json_t *token_evidence(const struct ra_session *s, const uint8_t secret[32], const char *freshness)
{
    uint8_t digest[32];
    struct buf out;
    struct err e = {0};
    buf_init(&out, 8192);
    attest_key_authorization(digest, freshness, ra_session_thumbprint(s));
    if (attest_join_token_collect(&out, secret, digest, &e) < 0)
        abort();
    json_t *cmw = json_parse(out.p, out.len, 8192, &e);
    buf_free(&out);
    return cmw;
}

struct ask { /* an order as a test writes it */
    const char *uri, *dns;
    const struct bytes *csr;
    const json_t *evidence;
    const char *freshness;
};
static inline void order_new(struct fx *x, struct ra_session *s, const struct ask *a, struct wait *w)
{
    static _Thread_local struct ra_identifier ids[2];
    struct ra_order_request r = {.identifiers = ids, .identifiers_count = 1 + (a->dns != NULL), .evidence = a->evidence,
                                 .freshness = a->freshness ? a->freshness : "nonce"};
    snprintf(ids[0].type, sizeof ids[0].type, "uri");
    snprintf(ids[0].value, sizeof ids[0].value, "%s", a->uri);
    snprintf(ids[1].type, sizeof ids[1].type, "dns");
    snprintf(ids[1].value, sizeof ids[1].value, "%s", a->dns ? a->dns : "");
    if (a->csr)
        r.csr = *a->csr;
    wait_init(w);
    ra_order_new(x->ra, s, &r, on_order, w);
    memset(ids, 0xee, sizeof ids); /* the request ends with the call */
}

/* The store thread held still: what is pushed meanwhile becomes one transaction. */
struct held {
    struct op op;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    enum held_step { HELD_ASKED, HELD_STILL, HELD_GO, HELD_GONE } at;
};

static inline void held_at(struct held *h, enum held_step at) /* comes to it */
{
    pthread_mutex_lock(&h->lock);
    h->at = at;
    pthread_cond_broadcast(&h->cond);
    pthread_mutex_unlock(&h->lock);
}

static inline void held_wait(struct held *h, enum held_step at)
{
    pthread_mutex_lock(&h->lock);
    while (h->at != at)
        pthread_cond_wait(&h->cond, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

static inline int held_write(struct op *op, struct store *s, struct err *e)
{
    held_at((struct held *)(void *)op, HELD_STILL);
    held_wait((struct held *)(void *)op, HELD_GO);
    return 0;
}

static inline void held_done(struct op *op, struct ra *ra, const struct err *e)
{
    held_at((struct held *)(void *)op, HELD_GONE);
}

static inline void store_hold(struct fx *x, struct held *h)
{
    struct err e = {0};
    *h = (struct held){.op = {.write = held_write, .done = held_done}, .at = HELD_ASKED};
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->cond, NULL);
    if (writer_push(x->ra, &h->op, &e) < 0)
        abort();
    held_wait(h, HELD_STILL);
}

static inline void store_let_go(struct held *h)
{
    held_at(h, HELD_GO);
    held_wait(h, HELD_GONE);
}

/* A CSR with a key of its own, in static memory. */
static inline struct bytes csr_for(const char *san)
{
    static _Thread_local uint8_t der[8192];
    char full[2200];
    EVP_PKEY *k = EVP_EC_gen("P-256");
    snprintf(full, sizeof full, "URI:%s", san);
    size_t n = csr_build(der, sizeof der, k, &(struct csr_spec){.san = full});
    EVP_PKEY_free(k);
    return (struct bytes){der, n};
}

/* Waits for an order by a key of its own: valid at once, or refused by this rule. */
static inline void order_expect(struct fx *x, struct ra_session *s, const char *id, const json_t *evidence, const char *rule)
{
    struct wait w;
    struct bytes csr = csr_for(id);
    order_new(x, s, &(struct ask){.uri = id, .csr = &csr, .evidence = evidence}, &w);
    EXPECT(&w, rule);
    if (!rule)
        assert_int_equal(w.o.status, RA_VALID);
    wait_free(&w);
}

#endif
