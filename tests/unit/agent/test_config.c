#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "agent/config.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define BASE "server: https://ca.example.org:8443\nid: spiffe://example.org/host/web1\n"

static struct agent_config *parse(const char *yaml)
{
    struct err e;
    struct agent_config *c = agent_config_parse(yaml, strlen(yaml), "/etc/mayfly", &e);
    if (!c)
        fail_msg("refused: %s\n%s", e.msg, yaml);
    return c;
}

static void refused(const char *yaml, const char *rule, unsigned line, const char *word)
{
    struct err e = {0};
    char want[32];
    struct agent_config *c = agent_config_parse(yaml, strlen(yaml), "/etc/mayfly", &e);
    if (c)
        fail_msg("accepted:\n%s", yaml);
    assert_int_equal(e.code, ERR_CONFIG);
    snprintf(want, sizeof want, "line %u: ", line);
    if (strcmp(e.rule, rule) != 0 || (line && !strstr(e.msg, want)) || !strstr(e.msg, word))
        fail_msg("%s: %s; expected %s, line %u, '%s' for\n%s", e.rule, e.msg, rule, line, word, yaml);
}

static void test_defaults(void **state)
{
    struct agent_config *c = parse(BASE);
    assert_string_equal(c->server, "https://ca.example.org:8443");
    assert_string_equal(c->id, "spiffe://example.org/host/web1");
    assert_string_equal(c->trust_domain, "example.org");
    assert_null(c->trust_bundle);
    assert_null(c->join_token_file);
    assert_string_equal(c->state_dir, "/var/lib/mayfly-agent");
    assert_string_equal(c->socket_path, "/run/mayfly/agent.sock");
    assert_int_equal(c->socket_mode, 0666);
    assert_false(c->key.pkcs11);
    assert_string_equal(c->http_host, "127.0.0.1");
    assert_int_equal(c->http_port, 9876);
    assert_null(c->http_path);
    assert_int_equal(c->files_count, 0);
    assert_int_equal(c->log_level, LOG_INFO);
    agent_config_free(c);
}

static void test_everything(void **state)
{
    struct agent_config *c = parse(
        BASE "trust_bundle: bundle.pem\njoin_token_file: /run/token\nstate_dir: state\n"
             "key: {store: pkcs11, uri: \"pkcs11:token=agent\", module: /m.so, pin_file: pin, softhsm_conf: hsm.conf}\n"
             "socket: {path: /run/a.sock, mode: \"0660\"}\nhttp: unix:/run/h.sock\n"
             "files:\n"
             "  - {id: spiffe://example.org/web, dir: /run/web, owner: root, group: \"0\", mode: \"0640\", combined: true,\n"
             "     jwt_audience: [a, b], reload: \"nginx -s reload\", pid_file: /run/x.pid, signal: SIGHUP, reload_timeout: 3}\n"
             "  - {id: spiffe://example.org/db, dir: /run/db}\n"
             "logging: {level: warn, format: json}\n");
    assert_string_equal(c->trust_bundle, "/etc/mayfly/bundle.pem");
    assert_string_equal(c->state_dir, "/etc/mayfly/state");
    assert_true(c->key.pkcs11);
    assert_string_equal(c->key.pin_file, "/etc/mayfly/pin");
    assert_string_equal(c->http_path, "/run/h.sock");
    assert_null(c->http_host);
    assert_int_equal(c->files_count, 2);
    const struct agent_files *f = &c->files[0];
    assert_int_equal(f->uid, 0);
    assert_int_equal(f->gid, 0);
    assert_int_equal(f->mode, 0640);
    assert_true(f->combined);
    assert_int_equal(f->audience_count, 2);
    assert_string_equal(f->audience[1], "b");
    assert_int_equal(f->signal, SIGHUP);
    assert_int_equal(f->reload_timeout, 3);
    assert_int_equal(c->files[1].uid, (uid_t)-1);
    assert_int_equal(c->files[1].mode, 0600);
    assert_int_equal(c->files[1].reload_timeout, 10);
    assert_int_equal(c->log_format, LOG_JSON);
    agent_config_free(c);
    c = parse(BASE "http: \"\"\n");
    assert_true(!c->http_host && !c->http_path);
    agent_config_free(c);
    c = parse(BASE "http: \"[::1]:0\"\n");
    assert_string_equal(c->http_host, "::1");
    agent_config_free(c);
}

static void test_refusals(void **state)
{
    refused("id: spiffe://example.org/a\n", "config-schema", 0, "server");
    refused("", "config-syntax", 1, "server:");
    refused(BASE "serve: x\n", "config-schema", 3, "mayfly-agent.yaml(5)");
    refused("server: https://x\n", "config-schema", 1, "id is missing");
    refused(BASE "socket: /run/x.sock\n", "config-schema", 3, "{key: value}, in mapping field 'socket'");
    refused(BASE "files: {id: x}\n", "config-schema", 3, "[one, two], in mapping field 'files'");
    refused(BASE "http: [a]\n", "config-schema", 3, "one value");
    refused(BASE "key: {store: tpm}\n", "config-key", 3, "tpm");
    refused(BASE "key: {uri: x}\n", "config-key", 3, "pkcs11");
    refused(BASE "key: {store: pkcs11, pin_file: x}\n", "config-key", 0, "URI");
    refused(BASE "key: {store: pkcs11, uri: \"pkcs11:token=x\"}\n", "config-key", 0, "PIN");
    refused(BASE "socket: {mode: \"0999\"}\n", "config-mode", 3, "octal");
    refused(BASE "http: 0.0.0.0:9876\n", "config-listen", 3, "machine");
    refused(BASE "http: localhost\n", "config-listen", 3, "localhost");
    refused(BASE "http: 127.0.0.1:99999\n", "config-listen", 3, "99999");
    refused(BASE "http: 127.0.0.1:+80\n", "config-listen", 3, "neither");
    refused(BASE "http: \"[::1x:80\"\n", "config-listen", 3, "neither");
    refused(BASE "http: \"[:80\"\n", "config-listen", 3, "neither");
    refused("server: http://x\nid: spiffe://e.org/a\n", "config-url", 1, "https://");
    refused("server: https://x\nid: spiffe://e.org\n", "config-id", 2, "trust domain");
    refused("server: https://x\nid: nonsense\n", "config-id", 2, "");
    refused(BASE "files: [{id: spiffe://example.org/a, dir: rel}]\n", "config-path", 3, "absolute");
    refused(BASE "files: [{id: spiffe://example.org/a}]\n", "config-schema", 3, "dir");
    refused(BASE "files: [{id: spiffe://example.com/a, dir: /x}]\n", "config-id", 3, "trust domain, example.org");
    refused(BASE "files: [{id: spiffe://example.org/a, dir: /x, mode: \"0644\"}]\n", "config-mode", 3, "0640");
    refused(BASE "files: [{id: spiffe://example.org/a, dir: /x, owner: no-such-user-here}]\n", "config-owner", 3,
            "no-such-user-here");
    refused(BASE "files: [{id: spiffe://example.org/a, dir: /x, signal: HUP}]\n", "config-signal", 3, "pid_file");
    refused(BASE "files: [{id: spiffe://example.org/a, dir: /x, signal: KILL, pid_file: /p}]\n", "config-signal", 3, "KILL");
    refused(BASE "files: [{id: spiffe://example.org/a, dir: /x}, {id: spiffe://example.org/b, dir: /x}]\n", "config-path",
            3, "twice");
    refused(BASE "files: [{id: spiffe://example.org/a, dir: /x, reload_timeout: 0}]\n", "config-range", 3, "300");
    refused(BASE "logging: {level: loud}\n", "config-logging", 3, "loud");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
