/* DER, both directions, strict. Reader: over `cur`; refuses indefinite and non-minimal lengths,
 * high tag numbers, lengths over 65535. Writer: values are written back to front into a fixed
 * array, so that a length is known when its header is written and nothing is moved.
 * Not done here: interpretation of any structure (ca/, ra/csr, tlog/cert do that).
 */
#ifndef BASE_DER_H
#define BASE_DER_H
#include "base/bytes.h"

enum {
    DER_BOOLEAN = 0x01, DER_INTEGER = 0x02, DER_BIT_STRING = 0x03, DER_OCTET_STRING = 0x04,
    DER_NULL = 0x05, DER_OID = 0x06, DER_UTF8 = 0x0c, DER_PRINTABLE = 0x13, DER_IA5 = 0x16,
    DER_UTCTIME = 0x17, DER_GENTIME = 0x18, DER_SEQUENCE = 0x30, DER_SET = 0x31,
    DER_CTX = 0x80, DER_CTX_CONS = 0xa0
};

/* Next element: its tag, its contents, and optionally the whole element (header included). */
int der_any(struct cur *c, uint8_t *tag, struct bytes *contents, struct bytes *whole);
/* Next element must have this tag. On mismatch the cursor fails. */
int der_get(struct cur *c, uint8_t tag, struct bytes *contents);
/* Enters a constructed element: `in` becomes a cursor over its contents. */
int der_enter(struct cur *c, uint8_t tag, struct cur *in);
/* True and consumed if the next element has this tag; false and untouched otherwise. */
bool der_optional(struct cur *c, uint8_t tag, struct bytes *contents);
bool der_peek(const struct cur *c, uint8_t tag);
/* Non-negative INTEGER: contents without the sign byte; refuses negative and non-minimal. */
int der_uint(struct cur *c, struct bytes *magnitude);
int der_u64(struct cur *c, uint64_t *v);
int der_bool(struct cur *c, bool *v);                       /* 00 or FF */
int der_bits(struct cur *c, struct bytes *bits);            /* BIT STRING with 0 unused bits */
int der_time(struct cur *c, int64_t *unix_seconds);         /* UTCTime or GeneralizedTime, Z */

/* Writer, backwards: the last thing written comes first. Use: */
struct derw {
    uint8_t *start; /* of the array */
    uint8_t *p;     /* first byte written so far */
    uint8_t *end;
    bool failed;    /* did not fit */
};
void derw_init(struct derw *w, uint8_t *array, size_t cap);
size_t derw_mark(const struct derw *w);                      /* bytes written so far */
void derw_raw(struct derw *w, const void *p, size_t n);
void derw_wrap(struct derw *w, uint8_t tag, size_t mark);    /* header for all since mark */
void derw_tlv(struct derw *w, uint8_t tag, const void *p, size_t n);
void derw_uint(struct derw *w, const void *magnitude, size_t n); /* INTEGER, leading zeros trimmed */
void derw_u64(struct derw *w, uint64_t v);
void derw_bool(struct derw *w, bool v);
void derw_time(struct derw *w, int64_t unix_seconds);        /* RFC 5280 §4.1.2.5: UTCTime to 2049 */
void derw_oid(struct derw *w, const void *contents, size_t n);
struct bytes derw_bytes(const struct derw *w);               /* the result */

/* ECDSA: fixed-width r‖s (2*n bytes) to DER SEQUENCE{r,s}; returns length or -1. cap >= 2n+9. */
long der_ecdsa_from_rs(uint8_t *dst, size_t cap, const uint8_t *rs, size_t n);
/* and back: strict DER only, values must fit n bytes each. 0 or -1. */
int der_ecdsa_to_rs(uint8_t *rs, size_t n, const uint8_t *der, size_t len);

#endif
