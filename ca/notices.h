/* What the signer itself tells the log of the authority (tlog/FORMAT.md, type 0xff04): the policy that it
 * certifies under, before the first certificate under it; the key of its JWT-SVIDs, before the first of
 * them; and that its operator accepted the present clock, where that had run ahead. The frontend is not
 * trusted with any of it: it configures nothing here.
 *
 * What was told last is looked up in the log, where the files `policy` and `jwt-key` in the log's folder say:
 * caches that need no trust: the entry is read and compared, and the file is gone before another policy or key
 * is told. Without it the log is told once more. Of the corridor's thread. */
#ifndef CA_NOTICES_H
#define CA_NOTICES_H
#include "base/config.h"
#include "tlog/log.h"

struct notices {
    const struct config *config; /* not owned, as is the log */
    struct tlog *log;
    struct buf policy; /* the text, while it is to be told; else empty */
    int64_t ahead;     /* to when the clock had run, while that is to be told; else 0 */
    const char *jwt_kid; /* not owned; while it is to be told; else "" */
    struct bytes jwt_key;
    int64_t jwt_since; /* when the log was told of the JWT key; 0: not yet, or there is none */
};
struct notices_facts {
    const struct config *config;
    struct tlog *log;
    struct bytes vkey;    /* text of the log's verifier key */
    int64_t ahead;        /* 0: no clock was accepted */
    const char *jwt_kid;  /* "" or NULL: there is no key of JWT-SVIDs */
    struct bytes jwt_key; /* its SubjectPublicKeyInfo */
};
int notices_init(struct notices *n, const struct notices_facts *f, struct err *e);
void notices_free(struct notices *n);
/* Appends what is due, with `now` as its time; nothing is due: 0 at once. Fails as tlog_append does. */
int notices_tell(struct notices *n, int64_t now, struct err *e);
/* The text: key=value words, a space between each. */
void notices_policy(const struct config *c, struct buf *out);
#endif
