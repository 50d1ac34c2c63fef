/* From a renewal id to what the log says of the certificate. */
#include "api/renewal.h"
#include "audit/entry.h"
#include "base/clock.h"
#include "base/der.h"
#include "base/oid.h"
#include "tlog/reader.h"
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BUNDLE 256      /* entries of one file (C2SP tlog-tiles) */
#define AHEAD 65536     /* entries that may be on their way to be published */
#define LONG_AGO 86400  /* seconds beyond the longest lifetime: no certificate of then is looked for */

struct renewals {
    const struct config *config;
    struct ra *ra;
    pthread_mutex_t lock; /* guards the rest */
    struct tlog_reader *reader; /* owned; NULL: none yet. Its head is an older one: what is beyond opens another */
    struct tlog_vkey vkey;      /* of the text beside it */
    char vkey_text[512];
    struct stat seen;           /* the published checkpoint, as it was when the reader was opened */
    uint8_t issuing[4096];      /* the issuing certificate, and */
    size_t issuing_len;
    uint8_t key_id[RENEWAL_AKI_MAX]; /* its key's identifier */
    size_t key_id_len;
    uint64_t old_below;         /* entries before this one are from long ago, */
    int64_t old_at;             /* by the clock of then */
    struct ca_snapshot signer;  /* of the call under way */
    struct audit_entry entry;   /* the same */
};

struct renewals *renewals_new(const struct config *c, struct ra *ra, struct err *e)
{
    struct renewals *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for renewals");
        return NULL;
    }
    l->config = c;
    l->ra = ra;
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void renewals_free(struct renewals *l)
{
    if (!l)
        return;
    tlog_reader_close(l->reader);
    tlog_vkey_free(&l->vkey);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* --- the id ------------------------------------------------------------------------------------------- */

/* DER's contents of a positive INTEGER, in as few bytes as it takes; ours have at most 64 bits. */
static int serial_read(uint64_t *serial, const uint8_t *p, size_t n)
{
    *serial = 0;
    if (n == 0 || n > 20 || p[0] & 0x80 || (n > 1 && p[0] == 0 && !(p[1] & 0x80)))
        return -1;
    for (size_t i = 0; i < n && n <= 9 && (n < 9 || p[0] == 0); i++)
        *serial = *serial << 8 | p[i];
    return 0;
}

int renewal_id_parse(struct renewal_id *id, const char *text, size_t len, struct err *e)
{
    uint8_t serial[20];
    const char *dot = len <= RENEWAL_ID_MAX ? memchr(text, '.', len) : NULL;
    long aki = dot ? b64url_decode(id->aki, sizeof id->aki, text, (size_t)(dot - text)) : -1;
    long n = aki > 0 ? b64url_decode(serial, sizeof serial, dot + 1, len - (size_t)(dot + 1 - text)) : -1;
    if (n <= 0 || serial_read(&id->serial, serial, (size_t)n) < 0)
        return err_set(e, ERR_MALFORMED, "renewal-id",
                       "a certificate is named by base64url(keyIdentifier of its issuer) \".\" base64url(serial number) "
                       "(RFC 9773 section 4.1)");
    id->aki_len = (size_t)aki;
    return 0;
}

static int unknown(struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "renewal-unknown", "this authority's log has no such certificate");
}

/* --- the log ------------------------------------------------------------------------------------------ */

/* Another reader when the entry is beyond the head of the one there is, and another head was published. */
static int reader_for(struct renewals *l, uint64_t index, struct err *e)
{
    char path[4096];
    struct stat st;
    struct tlog_reader *fresh;
    const struct tlog_place at = {.dir = l->config->log.dir, .archive = l->config->log.archive};
    if (l->reader && index < tlog_reader_head(l->reader)->size)
        return 0;
    snprintf(path, sizeof path, "%s/checkpoint", l->config->log.dir);
    if (stat(path, &st) < 0)
        return err_set(e, ERR_UNAVAILABLE, "renewal-log", "the log's published head is not there");
    /* It is replaced, never written into. */
    if (l->reader && st.st_ino == l->seen.st_ino && st.st_size == l->seen.st_size &&
        st.st_mtim.tv_sec == l->seen.st_mtim.tv_sec && st.st_mtim.tv_nsec == l->seen.st_mtim.tv_nsec)
        return 0;
    if (strcmp(l->vkey_text, l->signer.vkey) != 0) {
        tlog_vkey_free(&l->vkey);
        *l->vkey_text = 0;
        if (tlog_vkey_parse(&l->vkey, l->signer.vkey, strlen(l->signer.vkey), e) < 0)
            return -1;
        memcpy(l->vkey_text, l->signer.vkey, sizeof l->vkey_text);
    }
    if (tlog_reader_open_at(&fresh, &at, &l->vkey, e) < 0)
        return -1;
    tlog_reader_close(l->reader);
    l->reader = fresh;
    l->seen = st;
    return 0;
}

static int read_entry(struct renewals *l, uint64_t index, struct bytes *entry, struct err *e)
{
    const struct bytes *entries;
    unsigned width;
    if (reader_for(l, index, e) < 0)
        return -1;
    uint64_t size = tlog_reader_head(l->reader)->size, head = l->signer.log_size > size ? l->signer.log_size : size;
    if (index >= size)
        return index >= head + AHEAD ? unknown(e)
                                     : err_set(e, ERR_UNAVAILABLE, "renewal-not-yet",
                                               "the log is not published so far yet; ask again in a second");
    if (tlog_reader_bundle(l->reader, index / BUNDLE, &entries, &width, e) < 0) {
        tlog_reader_close(l->reader); /* the next call begins anew */
        l->reader = NULL;
        return -1;
    }
    if (index % BUNDLE >= width)
        return unknown(e);
    *entry = entries[index % BUNDLE];
    return 0;
}

/* --- the certificate ---------------------------------------------------------------------------------- */

/* AuthorityKeyIdentifier's keyIdentifier (RFC 5280 section 4.2.1.1). */
static struct bytes aki_of(struct bytes extensions)
{
    struct cur list = cur_of(extensions.p, extensions.len), ext;
    struct bytes oid, value, id;
    while (cur_left(&list) && der_enter(&list, DER_SEQUENCE, &ext) == 0 && der_get(&ext, DER_OID, &oid) == 0) {
        struct cur in, fields;
        if (!bytes_eq(oid, OID_EXT_AKI, OID_LEN(OID_EXT_AKI)))
            continue;
        if (der_get(&ext, DER_OCTET_STRING, &value) < 0)
            break;
        in = cur_of(value.p, value.len);
        return der_enter(&in, DER_SEQUENCE, &fields) == 0 && der_get(&fields, DER_CTX, &id) == 0
                   ? id
                   : (struct bytes){NULL, 0};
    }
    return (struct bytes){NULL, 0};
}

/* The present issuing key's identifier, read once for each issuing certificate. */
static int read_key_id(struct renewals *l, struct err *e)
{
    const struct ca_snapshot *s = &l->signer;
    if (s->issuing_len == l->issuing_len && memcmp(s->issuing, l->issuing, l->issuing_len) == 0)
        return 0;
    const unsigned char *p = s->issuing;
    X509 *x = d2i_X509(NULL, &p, (long)s->issuing_len);
    const ASN1_OCTET_STRING *id = x ? X509_get0_subject_key_id(x) : NULL;
    int n = id ? ASN1_STRING_length(id) : 0;
    bool good = n > 0 && n <= RENEWAL_AKI_MAX;
    if (good) {
        memcpy(l->key_id, ASN1_STRING_get0_data(id), (size_t)n);
        l->key_id_len = (size_t)n;
        memcpy(l->issuing, s->issuing, s->issuing_len);
        l->issuing_len = s->issuing_len;
    }
    X509_free(x);
    ERR_clear_error();
    return good ? 0 : err_set(e, ERR_INTERNAL, "renewal-issuer", "the issuing certificate names no key");
}

/* Time goes up in a log, so one entry from long ago spares the reading of all before it: who asks for old ones, of
 * which there are millions, has few files read. */
static bool is_old(struct renewals *l, uint64_t index, int64_t now)
{
    if (now < l->old_at)
        l->old_below = 0; /* that clock was wrong, or this one is */
    return index < l->old_below;
}

static void note_old(struct renewals *l, const struct audit_entry *t, int64_t now)
{
    if (t->time < 0 || t->time + (int64_t)l->config->ca.max_lifetime + LONG_AGO >= now || t->index < l->old_below)
        return;
    l->old_below = t->index + 1;
    l->old_at = now;
}

static bool text_copy(char *to, size_t cap, struct bytes from)
{
    if (from.len >= cap || (from.len && memchr(from.p, 0, from.len)))
        return false;
    if (from.len)
        memcpy(to, from.p, from.len);
    to[from.len] = 0;
    return true;
}

static int cert_take(struct renewals *l, const struct renewal_id *id, struct bytes raw, int64_t now,
                     struct renewal_cert *to, struct err *e)
{
    struct audit_entry *t = &l->entry;
    audit_entry_decode(t, id->serial & ((UINT64_C(1) << 48) - 1), raw);
    note_old(l, t, now);
    if (is_old(l, t->index, now))
        return unknown(e);
    if (t->kind != AUDIT_ISSUED || !bytes_eq(aki_of(t->cert.extensions), id->aki, id->aki_len))
        return unknown(e);
    if (!text_copy(to->spiffe_id, sizeof to->spiffe_id, t->spiffe_id) ||
        !text_copy(to->agent, sizeof to->agent, t->agent) || !text_copy(to->entry, sizeof to->entry, t->entry_id))
        return unknown(e);
    memcpy(to->key, t->cert.spki_hash, sizeof to->key);
    to->c = (struct ra_certificate){.serial = id->serial, .not_before = t->cert.not_before, .not_after = t->cert.not_after,
                                    .spiffe_id = to->spiffe_id, .entry = to->entry, .agent = to->agent, .key = to->key,
                                    .current = id->aki_len == l->key_id_len && memcmp(id->aki, l->key_id, l->key_id_len) == 0};
    return 0;
}

int renewal_find(struct renewals *l, const struct renewal_id *id, struct renewal_cert *to, struct err *e)
{
    const uint64_t index = id->serial & ((UINT64_C(1) << 48) - 1);
    const int64_t now = clock_wall();
    struct bytes raw;
    if (id->serial >> 48 != l->config->log.number)
        return unknown(e);
    pthread_mutex_lock(&l->lock);
    ra_signer(l->ra, &l->signer);
    int rc = is_old(l, index, now) ? unknown(e)
             : l->signer.known     ? 0
                                   : err_set(e, ERR_UNAVAILABLE, "signer-away", "the signer has not shown its log yet; try again");
    if (rc == 0)
        rc = read_key_id(l, e);
    if (rc == 0)
        rc = read_entry(l, index, &raw, e);
    if (rc == 0)
        rc = cert_take(l, id, raw, now, to, e);
    pthread_mutex_unlock(&l->lock);
    return rc;
}
