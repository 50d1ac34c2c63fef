/* ACME Renewal Information (RFC 9773): GET <renewalInfo>/<id>.
 *
 * An id is base64url(keyIdentifier of the authorityKeyIdentifier) ‖ "." ‖ base64url(serial number). Which certificate
 * that is follows from the serial alone, (log number << 48) | index; what it says is read from the published log. So
 * nothing is remembered of certificates here, and one that is not in the log does not exist.
 *
 * Entries are not proven to stand under the head, as they are for auditors: the answer is advice of this authority, and
 * reads its own files. An id may be made up; it costs at most a bundle's reading, and one of long ago not even that.
 * Kept is one reader with the bundle read last.
 *
 * Threads: any; renewal_find takes a lock, under which it reads files.
 */
#ifndef API_RENEWAL_H
#define API_RENEWAL_H
#include "base/config.h"
#include "ra/ra.h"

#define RENEWAL_AKI_MAX 64
#define RENEWAL_ID_MAX 160

struct renewal_id {
    uint8_t aki[RENEWAL_AKI_MAX];
    size_t aki_len;
    uint64_t serial; /* 0: no serial of this authority's form */
};
/* Form alone. Rule "renewal-id". */
int renewal_id_parse(struct renewal_id *id, const char *text, size_t len, struct err *e);

struct renewal_cert { /* memory for what c views */
    struct ra_certificate c;
    char spiffe_id[TLOG_NAME_MAX + 1], agent[TLOG_NAME_MAX + 1], entry[64];
    uint8_t key[32];
};
struct renewals;
struct renewals *renewals_new(const struct config *c, struct ra *ra, struct err *e); /* neither owned */
void renewals_free(struct renewals *l);
/* ERR_NOT_FOUND ("renewal-unknown"): no certificate of this log, or one from before the longest lifetime
 * and a day; ERR_UNAVAILABLE ("renewal-not-yet"): if it is one, it is published within a second; else the log's own
 * trouble. */
int renewal_find(struct renewals *l, const struct renewal_id *id, struct renewal_cert *to, struct err *e);
#endif
