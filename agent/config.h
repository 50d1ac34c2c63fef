/* Configuration of the daemon, `mayfly-agent serve -c FILE`: YAML, one schema, unknown keys and wrong types refused
 * with the line number (ERR_CONFIG). Relative paths are taken from the folder of the file. It holds no secret:
 * join token and PIN are named, never written.
 *
 *   server: https://ca.example.org:8443
 *   id: spiffe://example.org/host/web1          # the agent's own identity
 *   trust_bundle: /etc/mayfly/bundle.pem        # optional with a join token, which pins the root
 *   join_token_file: /etc/mayfly/join-token     # for the first start
 *   state_dir: /var/lib/mayfly-agent            # public things only: the SVID's chain, the bundle
 *   key: {store: memory}                        # or {store: pkcs11, uri: …, module: …, pin_file: …, softhsm_conf: …}
 *   socket: {path: /run/mayfly/agent.sock, mode: "0666"}
 *   http: 127.0.0.1:9876                        # /live /ready /metrics; or unix:/path; "" is off
 *   files:
 *     - {id: spiffe://example.org/web, dir: /run/web, owner: www-data, group: www-data, mode: "0640", combined: false,
 *        jwt_audience: [], reload: "nginx -s reload", pid_file: "", signal: "", reload_timeout: 10}
 *   logging: {level: info, format: auto}
 */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H
#include "base/err.h"
#include "base/log.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define AGENT_SOCKET "/run/mayfly/agent.sock"
#define AGENT_STATE_DIR "/var/lib/mayfly-agent"
#define AGENT_FILES_MAX 64
#define AGENT_AUDIENCES_MAX 16

struct agent_files { /* one set of files; strings owned, absent ones NULL */
    char *id, *dir;
    char *owner, *group; /* names as they stand; NULL: as the agent runs */
    uid_t uid;           /* resolved; (uid_t)-1 when owner is NULL */
    gid_t gid;
    mode_t mode;
    bool combined;
    char **audience;
    size_t audience_count;
    char *reload, *pid_file;
    int signal; /* 0: none */
    unsigned reload_timeout; /* seconds */
};
struct agent_config { /* strings owned */
    char *server, *id, *trust_domain;
    char *trust_bundle, *join_token_file; /* NULL when not given */
    char *state_dir;
    struct {
        bool pkcs11;
        char *uri, *module, *pin_file, *softhsm_conf; /* NULL when not given */
    } key;
    char *socket_path;
    mode_t socket_mode;
    char *http_host, *http_path; /* one of both, or neither: off. host is an address */
    unsigned short http_port;
    struct agent_files *files;
    size_t files_count;
    enum log_level log_level;
    enum log_format log_format;
};
struct agent_config *agent_config_load(const char *path, struct err *e);
struct agent_config *agent_config_parse(const char *yaml, size_t len, const char *dir, struct err *e);
void agent_config_free(struct agent_config *c);

#endif
