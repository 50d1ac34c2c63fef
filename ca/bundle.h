/* The SPIFFE bundle document (SPIFFE Trust Domain and Bundle §4): written by init and served by
 * api/. Lives in the ca_client library, so that ra/ may pass it on. */
#ifndef CA_BUNDLE_H
#define CA_BUNDLE_H
#include "base/bytes.h"
#include "base/err.h"

/* root: DER. sequence: the root's not_before. refresh hint 300 s. vkey: the log's verifier key. */
int bundle_write(struct buf *out, struct bytes root, struct bytes vkey, uint64_t sequence, struct err *e);
#endif
