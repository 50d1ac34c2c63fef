/* Rules: what a monitor is to hear of, said of one entry alone. Those that need the other entries
 * (times, revisions, forms, lifetimes) are tlog/audit's.
 *
 *   unknown-key       a certificate for a key that is not in the list
 *   outside-pattern   a certificate or JWT-SVID, or a registration entry made or changed, for a SPIFFE ID that
 *                     no pattern allows, or a certificate with none
 *   attestor          a certificate or JWT-SVID given for another kind of evidence
 *   ca-certificate    a certificate of the authority itself whose key is not in the list: always
 *   jwt-key           a key that JWT-SVIDs are signed with from now on, and that is not in the list: always
 *   refusal, revocation, entry-change, authority-change   the record, where it is asked for
 *
 * A pattern is a SPIFFE ID, or one with slash and asterisk behind it: every ID below it, by path segments.
 * Made by one thread; then it does not change.
 */
#ifndef AUDIT_RULES_H
#define AUDIT_RULES_H
#include "audit/entry.h"

#define AUDIT_PATTERNS_MAX 1024
#define AUDIT_ATTESTORS_MAX 32
#define AUDIT_KEYS_MAX 1000000
#define AUDIT_KEYS_BYTES (96u << 20)

struct audit_rules { /* zeroed: no rule but ca-certificate and jwt-key */
    bool refusals, revocations, changes;
    char *patterns[AUDIT_PATTERNS_MAX]; /* owned */
    size_t patterns_count;
    char *attestors[AUDIT_ATTESTORS_MAX]; /* owned */
    size_t attestors_count;
    bool by_key;
    uint8_t (*keys)[32]; /* sorted; owned */
    size_t keys_count;
};
void audit_rules_free(struct audit_rules *r);
/* Rule "pattern". */
int audit_rules_allow(struct audit_rules *r, const char *pattern, struct err *e);
/* "join_token,x509pop". Rule "attestors". */
int audit_rules_attestors(struct audit_rules *r, const char *list, struct err *e);
/* A key a line: SHA-256 of the SubjectPublicKeyInfo in hex; # begins a comment. Once. Rule "known-keys",
 * with the line. */
int audit_rules_keys(struct audit_rules *r, const char *text, size_t len, struct err *e);

/* Each rule that the entry falls under; why->rule is one of the above. */
typedef void audit_alert_cb(void *arg, const struct audit_entry *t, const struct err *why);
void audit_rules_judge(const struct audit_rules *r, const struct audit_entry *t, audit_alert_cb *alert, void *arg);
#endif
