/* libmayfly-tlog: is this certificate proven to stand in a transparency log? Answered offline, from
 * the certificate alone, under a policy of your own. For TLS servers and clients, auditors, plugins.
 *
 *   struct mayfly_tlog_policy *policy = mayfly_tlog_policy_new();
 *   struct mayfly_tlog_error error = MAYFLY_TLOG_ERROR_INIT;
 *   if (mayfly_tlog_policy_parse(policy, text, len, &error) != MAYFLY_TLOG_OK)
 *       ... error.message says which line, and why
 *
 *   struct mayfly_tlog_result result = MAYFLY_TLOG_RESULT_INIT;
 *   if (mayfly_tlog_verify(policy, der, der_len, &result) != MAYFLY_TLOG_OK)
 *       ... refuse; result.message says why
 *
 * What MAYFLY_TLOG_OK says: the certificate's log entry, rebuilt from the certificate, stands at
 * result.index in a tree whose head was signed by a log of the policy and cosigned by as many of
 * its witnesses as it asks for.
 *
 * What it does NOT say. It does not verify the certificate's own signature or chain, whether its
 * names are the ones you expect, whether it is valid at this time, and whether it was revoked. Do
 * that too, with your TLS library; neither check stands in for the other. With `quorum none` it
 * does not say either that others see the same log as you.
 *
 * Threads: make a policy in one thread; from then on any number of threads may verify with it.
 * Memory: every struct here is the caller's, begins with its own size, and has room to grow, so a
 * program runs on with a later library of the same soname. Nothing is kept of what is passed in.
 * Uses libcrypto and nothing else; leaves its error queue as it was. Prints nothing, opens nothing.
 * mayfly_tlog(3), mayfly-policy(5).
 */
#ifndef MAYFLY_TLOG_H
#define MAYFLY_TLOG_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MAYFLY_TLOG_API __attribute__((visibility("default")))
#else
#define MAYFLY_TLOG_API
#endif

enum { /* what the functions return; a negative number always means: do not rely on it */
    MAYFLY_TLOG_OK = 0,
    MAYFLY_TLOG_UNPROVEN = -1,  /* the certificate is not proven logged under this policy */
    MAYFLY_TLOG_MALFORMED = -2, /* what was given is no certificate, or no policy */
    MAYFLY_TLOG_MISUSE = -3,    /* a NULL argument, or a struct without its size */
    MAYFLY_TLOG_INTERNAL = -4   /* out of memory */
};

struct mayfly_tlog_error {
    size_t size;       /* of this struct, set by the caller */
    char rule[32];     /* a short stable word for programs, e.g. "policy" */
    char message[480]; /* what is wrong and what to do, for people; UTF-8 */
    uint64_t reserved[8];
};
#define MAYFLY_TLOG_ERROR_INIT {sizeof(struct mayfly_tlog_error), {0}, {0}, {0}}

struct mayfly_tlog_policy; /* opaque */
/* A policy that names no log, and so accepts nothing yet. NULL: out of memory. */
MAYFLY_TLOG_API struct mayfly_tlog_policy *mayfly_tlog_policy_new(void);
/* Reads a policy (mayfly-policy(5)) in place of what the policy said before; when that fails it
 * stays as it was. error may be NULL. */
MAYFLY_TLOG_API int mayfly_tlog_policy_parse(struct mayfly_tlog_policy *policy, const char *text,
                                             size_t len, struct mayfly_tlog_error *error);
/* One log more: the one that an issuing certificate of a Mayfly authority (DER or PEM) names as
 * its own. As good as your trust in that certificate: verify its chain first. error may be NULL. */
MAYFLY_TLOG_API int mayfly_tlog_policy_add_issuer(struct mayfly_tlog_policy *policy,
                                                  const void *certificate, size_t len,
                                                  struct mayfly_tlog_error *error);
MAYFLY_TLOG_API void mayfly_tlog_policy_free(struct mayfly_tlog_policy *policy); /* NULL is fine */

struct mayfly_tlog_result {
    size_t size; /* of this struct, set by the caller */
    /* What was proven; all empty or zero unless MAYFLY_TLOG_OK. */
    uint64_t index;         /* of the certificate's entry in the log */
    uint64_t tree_size;     /* of the signed head that the proof leads to */
    uint64_t cosigned_time; /* of the oldest cosignature that counted, Unix seconds; 0: none */
    uint32_t witnesses;     /* how many witnesses of the policy counted */
    uint32_t log_number;    /* as in the certificate's serial number */
    uint64_t entry_revision;
    char origin[256];     /* the log's name */
    char attestor[256];   /* kind of evidence by which the identity was proven, e.g. "join_token" */
    char entry_id[256];   /* registration entry that allowed it, in entry_revision */
    char requester[2304]; /* SPIFFE ID of the agent that asked for it */
    /* Why not; empty on MAYFLY_TLOG_OK. */
    char rule[32];
    char message[480];
    uint64_t reserved[16];
};
#define MAYFLY_TLOG_RESULT_INIT                                                                    \
    {sizeof(struct mayfly_tlog_result), 0, 0, 0, 0, 0, 0, {0}, {0}, {0}, {0}, {0}, {0}, {0}}

/* Is the certificate proven logged by the proof stapled into it? DER, or PEM (its first certificate
 * is taken), at most 256 KiB. The clock is read for the age of cosignatures. result is needed. */
MAYFLY_TLOG_API int mayfly_tlog_verify(const struct mayfly_tlog_policy *policy,
                                       const void *certificate, size_t len,
                                       struct mayfly_tlog_result *result);
/* The same by a proof that came beside the certificate (text of C2SP tlog-proof), in place of the
 * stapled one: a later one may carry the cosignatures that did not exist at issuance. */
MAYFLY_TLOG_API int mayfly_tlog_verify_proof(const struct mayfly_tlog_policy *policy,
                                             const void *certificate, size_t len,
                                             const void *proof, size_t proof_len,
                                             struct mayfly_tlog_result *result);

#ifdef __cplusplus
}
#endif
#endif
