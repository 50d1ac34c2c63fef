/* Errors: one object, kept where the caller already looks.
 *
 * Every function that can fail takes a `struct err *` last and returns 0 or -1 (or NULL). On
 * failure it fills the object: a code (what kind), a rule (a short stable word that names the rule
 * broken, e.g. "spiffe-id", "jws-url"), and a message that says what happened, why, and where
 * possible what to do next. `e` is never NULL. Messages never contain secrets.
 * Not done here: mapping to HTTP or ACME (that is api/problem), nor logging.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_code {
    ERR_NONE = 0,
    ERR_MALFORMED,     /* input breaks a format rule */
    ERR_TOO_LARGE,     /* input over a size limit */
    ERR_BAD_NONCE,     /* stale, unknown or replayed anti-replay nonce */
    ERR_BAD_SIG_ALG,   /* signature algorithm not accepted */
    ERR_BAD_KEY,       /* public key refused: type, curve, size */
    ERR_BAD_CSR,       /* certificate request refused */
    ERR_BAD_EVIDENCE,  /* attestation evidence refused */
    ERR_UNAUTHORIZED,  /* caller may not do this; signature wrong */
    ERR_NO_ACCOUNT,    /* account does not exist */
    ERR_REJECTED_ID,   /* identifier refused by policy, no entry */
    ERR_UNSUPPORTED_ID,/* identifier type unknown */
    ERR_NOT_READY,     /* order not ready for this step */
    ERR_NOT_FOUND,
    ERR_EXISTS,        /* would overwrite, or conflicts */
    ERR_RATE,          /* over a rate cap; try again later */
    ERR_UNAVAILABLE,   /* a part that is needed is down; try again later */
    ERR_DENIED,        /* the signer's profile refuses: never signed */
    ERR_CORRUPT,       /* our own stored data is damaged or inconsistent */
    ERR_HSM,           /* token, module, login or key trouble */
    ERR_IO,            /* system call failed; disk full */
    ERR_CONFIG,        /* configuration refused */
    ERR_USAGE,         /* command line refused */
    ERR_INTERNAL,      /* a bug, or out of memory */
    ERR_CODES
};

struct err {
    enum err_code code;
    char rule[32];
    char msg[480];
};

/* Fills e and returns -1. `rule` is a literal. */
int err_set(struct err *e, enum err_code code, const char *rule, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* As err_set with ": strerror(errno)" appended; code ERR_IO. Preserves errno. */
int err_errno(struct err *e, const char *rule, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Prepends "context: " to the message, keeping code and rule; returns -1. */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The code's stable name ("malformed", "unavailable", …), for logs, IPC and JSON. */
const char *err_code_name(enum err_code code);
void err_clear(struct err *e);

#endif
