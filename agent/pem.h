/* PEM (RFC 7468) of one DER, written into memory of the caller's: locked memory where it is a key. */
#ifndef AGENT_PEM_H
#define AGENT_PEM_H
#include "base/bytes.h"
#include "base/err.h"

#define PEM_LINE 64 /* characters; 48 bytes */
/* Room that pem_write needs, with a NUL. */
#define PEM_ROOM(der_len) ((der_len) / 48 * 65 + 65 + 128)
/* Returns the characters written. label: "CERTIFICATE", "PRIVATE KEY", at most 32 letters. */
size_t pem_write(char *dst, const char *label, const void *der, size_t len);
/* Each of the DER elements that stand one after the other in der, as a certificate; appended. Rule "pem-der". */
int pem_certificates(struct buf *out, const void *der, size_t len, struct err *e);

/* Each as a CRL, appended, as far as there is room: how many are left out. Out of memory: out->failed. */
size_t pem_crls(struct buf *out, const struct buf *crls, size_t n);

#endif
