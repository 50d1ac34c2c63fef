/* Asks the signer for certificates without pause while a test kills it, and afterwards proves what
 * must hold of every certificate that came back.
 *
 *   corridor_load run SOCKET TRUST-DOMAIN SECONDS OUT [full]   certificates into OUT; prints counts
 *                                                            (full: without pauses)
 *   corridor_load verify OUT LOG-DIR ISSUING-PEM COUNT       exit 0 when all of it holds, of as many
 *                                                            certificates as run said were issued
 *   corridor_load info SOCKET                                what the signer says of itself, as of now
 *
 * run also watches: the log's size as the signer tells it never goes back, and a certificate that
 * comes after a restart never stands at an index from before it (an entry of a dead signer is not
 * signed late).
 */
#include "base/clock.h"
#include "base/fileio.h"
#include "base/key.h"
#include "ca/client.h"
#include "tlog/log.h"
#include "tlog/proof.h"
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IN_FLIGHT 32
#define BURST 16        /* asked at once, then a pause: so that there is an end of verifying */
#define PAUSE_US 15000
#define PUBLISHED_EVERY 20 /* of the certificates, one in so many is looked up in the published files */

static struct {
    pthread_mutex_t lock;
    FILE *out;
    uint64_t issued, failed, restarts, restart_size, last_size;
    int64_t signer_started;
    unsigned in_flight;
    pthread_cond_t room;
    bool broken;
} run = {.lock = PTHREAD_MUTEX_INITIALIZER, .room = PTHREAD_COND_INITIALIZER};

struct asked {
    uint64_t restarts; /* at the time of asking */
};

static void answered(void *arg, const struct ca_issued *r, const struct err *e)
{
    struct asked *a = arg;
    pthread_mutex_lock(&run.lock);
    if (r) {
        uint32_t len = (uint32_t)r->cert.len;
        fwrite(&r->index, sizeof r->index, 1, run.out);
        fwrite(&len, sizeof len, 1, run.out);
        fwrite(r->cert.p, 1, len, run.out);
        run.issued++;
        /* Asked after the restart was seen: its index must lie beyond what was there then. */
        if (a->restarts == run.restarts && run.restarts && r->index < run.restart_size) {
            printf("index %llu was issued after a restart at size %llu\n", (unsigned long long)r->index, (unsigned long long)run.restart_size);
            run.broken = true;
        }
    } else {
        run.failed++;
    }
    run.in_flight--;
    pthread_cond_signal(&run.room);
    pthread_mutex_unlock(&run.lock);
    free(a);
}

static void watch(struct ca_client *c)
{
    struct ca_snapshot *s = calloc(1, sizeof *s);
    ca_client_snapshot(c, s);
    pthread_mutex_lock(&run.lock);
    if (s->known && s->log_size < run.last_size) {
        printf("the head went back from %llu to %llu\n", (unsigned long long)run.last_size, (unsigned long long)s->log_size);
        run.broken = true;
    }
    if (s->known)
        run.last_size = s->log_size;
    if (s->ready && s->known && s->started != run.signer_started) {
        run.restarts += run.signer_started != 0;
        run.restart_size = s->log_size;
        run.signer_started = s->started;
    }
    pthread_mutex_unlock(&run.lock);
    free(s);
}

static volatile sig_atomic_t enough;

static void on_term(int sig)
{
    enough = 1;
}

static int do_run(const char *socket, const char *td, long seconds, const char *out, bool full)
{
    struct err e = {0};
    struct ca_client *c = ca_client_new(socket, 20000, &e);
    struct key *k = key_generate(KEY_P256, &e);
    if (!c || !k || !(run.out = fopen(out, "a")))
        return 1;
    char id[300];
    snprintf(id, sizeof id, "spiffe://%s/kill/test", td);
    struct ca_issue m = {.profile = CA_PROFILE_WORKLOAD, .lifetime = 300, .spki = key_spki(k),
                         .spiffe_id = {(const uint8_t *)id, strlen(id)}, .attestor = {(const uint8_t *)"join_token", 10},
                         .entry_id = {(const uint8_t *)"test", 4}, .entry_revision = 1};
    int64_t end = clock_mono_ms() + seconds * 1000;
    signal(SIGTERM, on_term); /* ends the asking; what was asked is still awaited */
    for (unsigned asked = 0; !enough && clock_mono_ms() < end; asked++) {
        if (asked % BURST == 0) {
            watch(c);
            if (!full)
                usleep(PAUSE_US);
        }
        pthread_mutex_lock(&run.lock);
        while (run.in_flight >= IN_FLIGHT)
            pthread_cond_wait(&run.room, &run.lock);
        run.in_flight++;
        struct asked *a = malloc(sizeof *a);
        a->restarts = run.restarts;
        pthread_mutex_unlock(&run.lock);
        if (ca_client_issue(c, &m, answered, a, &e) < 0) {
            pthread_mutex_lock(&run.lock);
            run.in_flight--;
            run.failed++;
            pthread_mutex_unlock(&run.lock);
            free(a);
            usleep(1000);
        }
    }
    pthread_mutex_lock(&run.lock);
    while (run.in_flight)
        pthread_cond_wait(&run.room, &run.lock);
    pthread_mutex_unlock(&run.lock);
    ca_client_free(c);
    key_free(k);
    if (ferror(run.out) | fclose(run.out)) {
        printf("%s could not be written\n", out);
        run.broken = true;
    }
    printf("{\"issued\":%llu,\"failed\":%llu,\"restarts\":%llu}\n", (unsigned long long)run.issued,
           (unsigned long long)run.failed, (unsigned long long)run.restarts);
    return run.broken;
}

/* --- verify ------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The certificate's signature, its stapled proof, and its entry in the published log. */
static int check_one(const uint8_t *cert, size_t len, uint64_t index, const char *dir, X509 *issuing,
                     const struct tlog_vkey *vkey, bool published, struct err *e)
{
    const uint8_t *p = cert;
    X509 *x = d2i_X509(NULL, &p, (long)len);
    int rc = x && X509_verify(x, X509_get0_pubkey(issuing)) == 1 ? 0 : err_set(e, ERR_INTERNAL, "signature", "not signed by the issuing CA");
    X509_free(x);
    struct tlog_proven proven;
    if (rc == 0)
        rc = tlog_cert_verify(cert, len, vkey, &proven, e);
    if (rc == 0 && proven.index != index)
        rc = err_set(e, ERR_INTERNAL, "index", "serial says %llu, the answer said %llu", (unsigned long long)proven.index, (unsigned long long)index);
    struct buf body, entry, note;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct tlog_entry t;
    struct tlog_hash path[TLOG_LEVELS];
    size_t n = 0;
    buf_init(&body, 65536);
    buf_init(&entry, 65536);
    buf_init(&note, TLOG_NOTE_MAX);
    if (rc == 0 && published)
        rc = tlog_cert_body(&body, &f, &stapled, cert, len, e);
    if (rc == 0 && published)
        rc = tlog_read_entry(dir, vkey, index, &entry, path, &n, &note, e);
    if (rc == 0 && published)
        rc = tlog_entry_parse(&t, entry.p, entry.len, e);
    if (rc == 0 && published && !bytes_eq(t.body, body.p, body.len))
        rc = err_set(e, ERR_INTERNAL, "entry", "the published entry is not this certificate's");
    buf_free(&body);
    buf_free(&entry);
    buf_free(&note);
    return rc;
}

/* 1: a whole record; 0: the file ends before it; -1: the file ends, or makes no sense, inside it. */
static int read_record(FILE *f, uint64_t *index, uint8_t cert[CA_CERT_MAX], uint32_t *len)
{
    size_t n = fread(index, 1, sizeof *index, f);
    if (n == 0 && feof(f))
        return 0;
    return n == sizeof *index && fread(len, sizeof *len, 1, f) == 1 && *len > 0 && *len <= CA_CERT_MAX &&
                   fread(cert, 1, *len, f) == *len
               ? 1
               : -1;
}

static int do_verify(const char *out, const char *dir, const char *issuing_pem, size_t want)
{
    struct err e = {0};
    FILE *f = fopen(issuing_pem, "r");
    X509 *issuing = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    uint8_t *der = NULL;
    int der_len = issuing ? i2d_X509(issuing, &der) : 0;
    struct tlog_vkey vkey;
    if (der_len <= 0 || tlog_binding_from_cert(&vkey, der, (size_t)der_len, &e) < 0)
        return 1;
    fclose(f);
    if (!(f = fopen(out, "r")))
        return 1;
    uint64_t index, *seen = NULL;
    size_t count = 0, cap = 0;
    uint32_t len;
    static uint8_t cert[CA_CERT_MAX];
    int more;
    while ((more = read_record(f, &index, cert, &len)) == 1) {
        if (check_one(cert, len, index, dir, issuing, &vkey, count % PUBLISHED_EVERY == 0, &e) < 0) {
            printf("certificate at index %llu: %s\n", (unsigned long long)index, e.msg);
            return 1;
        }
        if (count == cap)
            seen = realloc(seen, (cap = cap ? cap * 2 : 4096) * sizeof *seen);
        seen[count++] = index;
    }
    if (more < 0 || count != want) {
        printf("%s: %zu whole records of %zu%s\n", out, count, want, more < 0 ? ", then a cut or bad one" : "");
        return 1;
    }
    qsort(seen, count, sizeof *seen, by_value);
    for (size_t i = 1; i < count; i++) {
        if (seen[i] == seen[i - 1]) {
            printf("serial of index %llu was used twice\n", (unsigned long long)seen[i]);
            return 1;
        }
    }
    printf("%zu certificates: all signed and proven, samples published, no serial twice\n", count);
    free(seen);
    fclose(f);
    tlog_vkey_free(&vkey);
    OPENSSL_free(der);
    X509_free(issuing);
    return count > 0 ? 0 : 1;
}

/* --- info --------------------------------------------------------------------------------------- */

/* What the signer says of itself now: `mayfly status` tells what it said up to a second ago. */
static int do_info(const char *socket)
{
    struct err e = {0};
    static struct ca_snapshot s;
    struct ca_client *c = ca_client_new(socket, 20000, &e);
    if (!c)
        return 1;
    for (int i = 0; i < 30000 && !s.known; i++) {
        usleep(1000);
        ca_client_snapshot(c, &s);
    }
    ca_client_free(c);
    printf("{\"log_size\":%llu,\"issuing_signatures\":%llu}\n", (unsigned long long)s.log_size, (unsigned long long)s.issuing_signatures);
    return s.known ? 0 : 1;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if ((argc == 6 || argc == 7) && strcmp(argv[1], "run") == 0)
        return do_run(argv[2], argv[3], strtol(argv[4], NULL, 10), argv[5], argc == 7);
    if (argc == 6 && strcmp(argv[1], "verify") == 0)
        return do_verify(argv[2], argv[3], argv[4], strtoul(argv[5], NULL, 10));
    if (argc == 3 && strcmp(argv[1], "info") == 0)
        return do_info(argv[2]);
    fputs("usage: see the head of corridor_load.c\n", stderr);
    return 2;
}
