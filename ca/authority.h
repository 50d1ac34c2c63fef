/* Making an authority: the key ceremony behind `mayfly init`. Never overwrites.
 * Steps: keys generated in the token where missing; log created (null entry, first checkpoint);
 * root certificate logged, then signed; issuing certificate logged, then signed, with the log
 * binding; written as ca/root.pem and ca/issuing.pem; bundle written as ca/bundle.json.
 */
#ifndef CA_AUTHORITY_H
#define CA_AUTHORITY_H
#include "base/config.h"
#include "base/secmem.h"

struct authority_options {
    const struct config *config;
    struct secret *pin;
    /* Asked before keys are generated in a token that was not made just now; NULL: go on. Returns
     * whether to go on. `missing` names the keys, e.g. "mayfly-root, mayfly-log". */
    bool (*confirm)(void *arg, const char *token, const char *missing);
    void (*step)(void *arg, const char *what); /* progress for people */
    void *arg;
};
int authority_create(const struct authority_options *o, struct err *e);
/* SPIFFE bundle (JWKS with spiffe_sequence and spiffe_refresh_hint, and our member "mayfly_log"
 * with the vkey) for these certificates. Also used by api/. Declared in ca/bundle.h. */

#endif
