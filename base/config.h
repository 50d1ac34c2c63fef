/* Configuration of an authority: `mayfly.yaml` in its directory, read through libcyaml with one
 * schema; unknown keys, wrong types and out-of-range values are refused with the line number
 * (ERR_CONFIG). Relative paths are taken from the folder of the file and made absolute here.
 * It holds no secret: the PIN is named (file, systemd credential, descriptor), never written.
 *
 *   trust_domain: example.org
 *   listen: 127.0.0.1:8443             # or [::]:8443
 *   names: [localhost, 127.0.0.1]      # what clients call this server: DNS names, IP addresses
 *   external_url: https://localhost:8443   # default: https://<first name>:<port of listen>
 *   token:
 *     uri: pkcs11:token=mayfly         # RFC 7512; module-path= may stand in it
 *     module: /usr/lib/softhsm/libsofthsm2.so
 *     softhsm_conf: token/softhsm2.conf    # only for SoftHSM2; sets SOFTHSM2_CONF for the signer
 *     pin: {file: secret/pin}          # or {credential: mayfly-pin} or {fd: 3}
 *     call_timeout_ms: 10000           # a call that hangs longer ends the signer
 *     threads: 0                       # signing threads; 0: one for two cores
 *   log:
 *     dir: log
 *     origin: example.org/log1
 *     number: 1
 *     archive: []                      # folders that `mayfly log archive` moved old tiles to
 *   ca:
 *     dir: ca                          # root.pem, issuing.pem: public
 *     default_lifetime: 300            # seconds
 *     max_lifetime: 3600
 *     permitted_dns: [example.org]     # a name or anything below it; default: the trust domain
 *     rate: 0                          # certificates per second at most; 0: no cap
 *   crl:                               # of certificates that live longer than short_limit
 *     short_limit: 600                 # seconds; up to this a certificate says noRevAvail instead (RFC 9608)
 *     shards: 16                       # a power of two, 1 to 1024
 *     lifetime: 3600                   # seconds from a CRL's making to its nextUpdate
 *   store: {path: store/mayfly.db}
 *   audit:
 *     access: local                    # who may search: local (admin socket), mtls (and auditors), public
 *     index: store/audit.db            # default: beside the store; a cache, made again when deleted
 *   session: {lifetime: 3600, token_lifetime: 3600}
 *   run: {signer_user: "", frontend_user: "", notary_user: "", dir: run}   # users only when started as root
 *   frontend: {threads: 0, max_connections: 4096, issue_timeout_ms: 10000}
 *   witnesses:                         # who is asked to cosign the log's head (C2SP tlog-witness)
 *     quorum: 0                        # so many must cosign before a certificate is made; 0: beside issuance
 *     timeout_ms: 2000
 *     list: [{url: https://witness.example.net, vkey: witness.example.net+7e6f4aaa+BNdam…}]
 *   logging: {level: info, format: auto}
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H
#include "base/err.h"
#include "base/log.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_FILE "mayfly.yaml"
#define CONFIG_NAMES_MAX 16         /* as many as one certificate takes (ca/msg.h) */
#define CONFIG_WITNESSES_MAX 16     /* cosignatures that one checkpoint takes (tlog/log.h) */
#define CONFIG_ARCHIVES_MAX 8
#define CONFIG_TOKEN_THREADS_MAX 63 /* a session each, and one for the log's head (hsm/hsm.h) */

enum config_audit { /* who may search; each also whom those before it admit */
    CONFIG_AUDIT_LOCAL,  /* on the admin socket */
    CONFIG_AUDIT_MTLS,   /* who shows an SVID whose entry is an auditor's */
    CONFIG_AUDIT_PUBLIC  /* everybody */
};
struct config_witness {
    char *url;  /* without trailing slash; /add-checkpoint is below it */
    char *vkey; /* its form is checked where it is used (ca/witnesses.h) */
};
struct config { /* strings owned by the object; every optional one filled with its default */
    char *dir;  /* absolute folder of the file */
    char *trust_domain;
    char *listen_host;
    uint16_t listen_port;
    char **names;
    size_t names_count;
    char *external_url; /* no trailing slash */
    struct {
        char *uri, *module, *softhsm_conf;     /* softhsm_conf NULL when not SoftHSM2 */
        char *pin_file, *pin_credential;       /* at most one set */
        int pin_fd;                            /* -1 when unset */
        unsigned call_timeout_ms, threads;     /* threads resolved: never 0 */
    } token;
    struct {
        char *dir, *origin;
        uint16_t number;
        char **archive; /* NULL at the end; never NULL itself */
        size_t archive_count;
    } log;
    struct {
        char *dir;
        unsigned default_lifetime, max_lifetime, rate;
        char **permitted_dns;
        size_t permitted_dns_count;
    } ca;
    struct {
        unsigned short_limit, shards, lifetime;
    } crl;
    char *store_path;
    char *audit_index;
    enum config_audit audit_access;
    unsigned session_lifetime, token_lifetime;
    char *signer_user, *frontend_user, *notary_user, *run_dir; /* users "" when unset; name or "uid:gid" */
    unsigned frontend_threads, max_connections, issue_timeout_ms;
    struct {
        struct config_witness *list;
        size_t count;
        unsigned quorum, timeout_ms;
    } witnesses;
    enum log_level log_level;
    enum log_format log_format;
};
/* path: the file, or the folder that holds mayfly.yaml. */
struct config *config_load(const char *path, struct err *e);
struct config *config_parse(const char *yaml, size_t len, const char *dir, struct err *e);
void config_free(struct config *c);
/* Paths below run_dir that the processes share; dst of at least 4096 bytes. */
void config_signer_socket(const struct config *c, char *dst, size_t cap); /* run/signer.sock */
void config_notary_socket(const struct config *c, char *dst, size_t cap); /* run/notary.sock */
void config_admin_socket(const struct config *c, char *dst, size_t cap);  /* run/admin.sock */
/* Which key's folder opens this absolute path to the frontend ("store.path", "run.dir", "log.dir",
 * "audit.index", "log.archive"; links are followed), or NULL: where no secret may lie. */
const char *config_frontend_reads(const struct config *c, const char *path);

#endif
