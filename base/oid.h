/* Object identifiers as DER contents octets, each with its length, shared by the rooms that build
 * (ca/), read back (tlog/cert, agent/) and check (ra/csr) certificates. */
#ifndef BASE_OID_H
#define BASE_OID_H
#include <stdint.h>
#define OID_EC_PUBLIC_KEY "\x2a\x86\x48\xce\x3d\x02\x01"          /* 1.2.840.10045.2.1 */
#define OID_P256 "\x2a\x86\x48\xce\x3d\x03\x01\x07"
#define OID_P384 "\x2b\x81\x04\x00\x22"
#define OID_RSA "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
#define OID_ED25519 "\x2b\x65\x70"
#define OID_ECDSA_SHA256 "\x2a\x86\x48\xce\x3d\x04\x03\x02"
#define OID_ECDSA_SHA384 "\x2a\x86\x48\xce\x3d\x04\x03\x03"
#define OID_RSA_SHA256 "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
#define OID_RSA_SHA384 "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"
#define OID_EXT_SKI "\x55\x1d\x0e"
#define OID_EXT_KEY_USAGE "\x55\x1d\x0f"
#define OID_EXT_SAN "\x55\x1d\x11"
#define OID_EXT_BASIC "\x55\x1d\x13"
#define OID_EXT_AKI "\x55\x1d\x23"
#define OID_EXT_EKU "\x55\x1d\x25"
#define OID_EXT_CRL_NUMBER "\x55\x1d\x14"
#define OID_EXT_REASON "\x55\x1d\x15"
#define OID_EXT_IDP "\x55\x1d\x1c" /* issuingDistributionPoint */
#define OID_EXT_CDP "\x55\x1d\x1f" /* cRLDistributionPoints */
#define OID_EXT_NO_REV_AVAIL "\x55\x1d\x38"
#define OID_EKU_SERVER "\x2b\x06\x01\x05\x05\x07\x03\x01"
#define OID_EKU_CLIENT "\x2b\x06\x01\x05\x05\x07\x03\x02"
#define OID_CN "\x55\x04\x03"
#define OID_O "\x55\x04\x0a"
#define OID_CSR_EXT_REQUEST "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"
/* Ours, under 2.25, which needs no registration: 2.25.1596203714 the stapled proof, .1596203715 the
 * log binding in the issuing certificate. The arcs are 31 random bits and not a whole UUID, because
 * GnuTLS refuses certificates with arcs over 64 bits, and Go with arcs over 31. */
#define OID_STAPLED_PROOF "\x69\x85\xf9\x90\xc5\x42"
#define OID_LOG_BINDING "\x69\x85\xf9\x90\xc5\x43"
#define OID_LEN(s) (sizeof(s) - 1)
#endif
