#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/config.h"
#include "base/config_yaml.h"
#include "base/fileio.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TD "trust_domain: example.org\n"

static struct config *parse(const char *yaml)
{
    struct err e;
    struct config *c = config_parse(yaml, strlen(yaml), "/srv/mayfly/", &e);
    if (!c)
        fail_msg("refused: %s\n%s", e.msg, yaml);
    return c;
}

/* Refused by this rule, and the message names this line (0: any). */
static void refused(const char *yaml, const char *rule, unsigned line)
{
    struct err e;
    char want[32];
    err_clear(&e);
    struct config *c = config_parse(yaml, strlen(yaml), "/srv/mayfly", &e);
    if (c)
        fail_msg("accepted:\n%s", yaml);
    assert_int_equal(e.code, ERR_CONFIG);
    snprintf(want, sizeof want, "line %u: ", line);
    if (strcmp(e.rule, rule) != 0 || (line && !strstr(e.msg, want)))
        fail_msg("%s: %s; expected %s at line %u for\n%s", e.rule, e.msg, rule, line, yaml);
}

static void test_defaults(void **state)
{
    struct config *c = parse(TD);
    long cores = sysconf(_SC_NPROCESSORS_ONLN), threads = cores / 2;
    assert_string_equal(c->dir, "/srv/mayfly");
    assert_string_equal(c->trust_domain, "example.org");
    assert_string_equal(c->listen_host, "127.0.0.1");
    assert_int_equal(c->listen_port, 8443);
    assert_int_equal(c->names_count, 2);
    assert_string_equal(c->names[0], "localhost");
    assert_string_equal(c->names[1], "127.0.0.1");
    assert_string_equal(c->external_url, "https://localhost:8443");
    assert_string_equal(c->token.uri, "pkcs11:token=mayfly");
    assert_string_equal(c->token.module, "/usr/lib/softhsm/libsofthsm2.so");
    assert_null(c->token.softhsm_conf);
    assert_null(c->token.pin_file);
    assert_null(c->token.pin_credential);
    assert_int_equal(c->token.pin_fd, -1);
    assert_int_equal(c->token.call_timeout_ms, 10000);
    assert_int_equal(c->token.threads, threads < 1 ? 1 : threads > 63 ? 63 : threads);
    assert_string_equal(c->log.dir, "/srv/mayfly/log");
    assert_string_equal(c->log.origin, "example.org/log1");
    assert_int_equal(c->log.number, 1);
    assert_string_equal(c->ca.dir, "/srv/mayfly/ca");
    assert_int_equal(c->ca.default_lifetime, 300);
    assert_int_equal(c->ca.max_lifetime, 3600);
    assert_int_equal(c->ca.rate, 0);
    assert_true(c->crl.short_limit == 600 && c->crl.shards == 16 && c->crl.lifetime == 3600);
    assert_int_equal(c->ca.permitted_dns_count, 1);
    assert_string_equal(c->ca.permitted_dns[0], "example.org");
    assert_string_equal(c->store_path, "/srv/mayfly/store/mayfly.db");
    assert_string_equal(c->audit_index, "/srv/mayfly/store/audit.db");
    assert_int_equal(c->audit_access, CONFIG_AUDIT_LOCAL);
    assert_int_equal(c->session_lifetime, 3600);
    assert_int_equal(c->token_lifetime, 3600);
    assert_string_equal(c->signer_user, "");
    assert_string_equal(c->frontend_user, "");
    assert_string_equal(c->run_dir, "/srv/mayfly/run");
    assert_int_equal(c->frontend_threads, cores);
    assert_int_equal(c->max_connections, 4096);
    assert_int_equal(c->issue_timeout_ms, 10000);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_int_equal(c->log_format, LOG_AUTO);
    char path[4096];
    config_signer_socket(c, path, sizeof path);
    assert_string_equal(path, "/srv/mayfly/run/signer.sock");
    config_admin_socket(c, path, sizeof path);
    assert_string_equal(path, "/srv/mayfly/run/admin.sock");
    config_free(c);
    config_free(NULL);
}

static void test_everything(void **state)
{
    struct config *c = parse(
        "# a comment\n"
        "trust_domain: td_1.example.org\n"
        "listen: \"[::1]:9443\"\n"
        "names: [\"2001:db8::1\", ca.example.org]\n"
        "token:\n"
        "  uri: \"pkcs11:token=t;object=x?module-name=a&module-path=/opt/hsm%20lib/softhsm.so\"\n"
        "  softhsm_conf: /etc/softhsm2.conf\n"
        "  pin: {file: secret/pin}\n"
        "  call_timeout_ms: 500\n"
        "  threads: 7\n"
        "log: {dir: /var/log1, origin: log.example.org/x, number: 65535}\n"
        "ca: {dir: pub, default_lifetime: 60, max_lifetime: 120, permitted_dns: [a.org, b.org], rate: 50}\n"
        "crl: {short_limit: 0, shards: 1024, lifetime: 5400}\n"
        "store: {path: db/s.db}\n"
        "audit: {access: public, index: /var/cache/audit.db}\n"
        "session: {lifetime: 600, token_lifetime: 60}\n"
        "run: {signer_user: \"101:102\", frontend_user: mayfly-web, notary_user: \"103:104\", dir: /run/mayfly}\n"
        "frontend: {threads: 3, max_connections: 10, issue_timeout_ms: 250}\n"
        "logging: {level: debug, format: json}\n");
    assert_string_equal(c->trust_domain, "td_1.example.org");
    assert_string_equal(c->listen_host, "::1");
    assert_int_equal(c->listen_port, 9443);
    assert_string_equal(c->external_url, "https://[2001:db8::1]:9443");
    assert_string_equal(c->token.module, "/opt/hsm lib/softhsm.so");
    assert_string_equal(c->token.softhsm_conf, "/etc/softhsm2.conf");
    assert_string_equal(c->token.pin_file, "/srv/mayfly/secret/pin");
    assert_int_equal(c->token.call_timeout_ms, 500);
    assert_int_equal(c->token.threads, 7);
    assert_string_equal(c->log.dir, "/var/log1");
    assert_string_equal(c->log.origin, "log.example.org/x");
    assert_int_equal(c->log.number, 65535);
    assert_int_equal(c->ca.permitted_dns_count, 2);
    assert_string_equal(c->ca.permitted_dns[1], "b.org");
    assert_int_equal(c->ca.rate, 50);
    assert_true(c->crl.short_limit == 0 && c->crl.shards == 1024 && c->crl.lifetime == 5400);
    assert_string_equal(c->signer_user, "101:102");
    assert_string_equal(c->frontend_user, "mayfly-web");
    assert_string_equal(c->notary_user, "103:104");
    assert_string_equal(c->run_dir, "/run/mayfly");
    assert_int_equal(c->audit_access, CONFIG_AUDIT_PUBLIC);
    assert_string_equal(c->audit_index, "/var/cache/audit.db");
    assert_int_equal(c->frontend_threads, 3);
    assert_int_equal(c->log_level, LOG_DEBUG);
    assert_int_equal(c->log_format, LOG_JSON);
    config_free(c);

    c = parse("trust_domain: a_b\nexternal_url: https://ca.example.org/mayfly//\nca: {max_lifetime: 60}\n"
              "token: {pin: {credential: pin}}\n");
    assert_string_equal(c->external_url, "https://ca.example.org/mayfly");
    assert_int_equal(c->ca.default_lifetime, 60);
    assert_int_equal(c->ca.permitted_dns_count, 0); /* no DNS name */
    assert_string_equal(c->token.pin_credential, "pin");
    config_free(c);
    c = parse(TD "audit: {access: mtls}\n");
    assert_int_equal(c->audit_access, CONFIG_AUDIT_MTLS);
    config_free(c);
    c = parse(TD "store: {path: db/s.db}\n");
    assert_string_equal(c->audit_index, "/srv/mayfly/db/audit.db");
    config_free(c);
    c = parse(TD "ca: {permitted_dns: []}\ntoken: {pin: {fd: 3}}\n");
    assert_int_equal(c->ca.permitted_dns_count, 0);
    assert_int_equal(c->token.pin_fd, 3);
    config_free(c);
}

static void test_syntax(void **state)
{
    refused("", "config-syntax", 1);
    refused("[]", "config-syntax", 1);
    refused("just text", "config-syntax", 1);
    refused(TD "names: [a\nlog: {}\n", "config-syntax", 0);
    refused(TD "\tx: 1\n", "config-syntax", 2);
    refused(TD "---\nfoo: 1\n", "config-syntax", 2);
    refused(TD "external_url: \"a\\0b\"\n", "config-syntax", 2);
    char deep[CONFIG_MAX + 1]; /* as much as is read, which is to cost no time */
    memset(deep, '[', sizeof deep);
    memcpy(deep, TD "a: ", sizeof TD "a: " - 1);
    deep[CONFIG_MAX] = 0;
    refused(deep, "config-syntax", 2);
    refused(TD "foo: 1\n", "config-schema", 2);
    refused(TD "\n\ntoken:\n  uri: \"pkcs11:\"\n  threadz: 1\n", "config-schema", 6);
    refused(TD "token: {pin: {value: 1234}}\n", "config-schema", 2);
    refused(TD TD, "config-schema", 2);
    refused("listen: 127.0.0.1:1\n", "config-schema", 1);
    refused("trust_domain: [a]\n", "config-schema", 1);
    refused(TD "ca: {rate: many}\n", "config-schema", 2);
    refused(TD "ca: {rate: -1}\n", "config-schema", 2);
    refused(TD "ca: {rate: 4294967296}\n", "config-schema", 2);
    refused(TD "log: 7\n", "config-schema", 2);
    refused(TD "names: localhost\n", "config-schema", 2);
    refused("trust_domain: &t example.org\nlisten: *t\n", "config-schema", 2);
    struct err e;
    char *big = malloc(70000);
    memset(big, '#', 70000);
    assert_null(config_parse(big, 70000, "/", &e));
    assert_string_equal(e.rule, "config-size");
    free(big);
}

static void test_rules(void **state)
{
    static const struct {
        const char *line, *rule;
    } bad[] = {
        {"listen: localhost:8443", "config-listen"},
        {"listen: 127.0.0.1", "config-listen"},
        {"listen: :8443", "config-listen"},
        {"listen: 127.0.0.1:0", "config-listen"},
        {"listen: 127.0.0.1:65536", "config-listen"},
        {"listen: 127.0.0.1:80x", "config-listen"},
        {"listen: 127.0.0.1:+80", "config-listen"},
        {"listen: \"::1:8443\"", "config-listen"},
        {"listen: \"[127.0.0.1]:8443\"", "config-listen"},
        {"listen: \"[]:8443\"", "config-listen"},
        {"names: []", "config-names"},
        {"names: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]", "config-names"},
        {"names: [UPPER.example.org]", "config-names"},
        {"names: [\"*.example.org\"]", "config-names"},
        {"names: [\"\"]", "config-names"},
        {"external_url: http://example.org", "config-url"},
        {"external_url: https://", "config-url"},
        {"external_url: https:///x", "config-url"},
        {"external_url: https://u@example.org", "config-url"},
        {"external_url: \"https://example.org/?a\"", "config-url"},
        {"external_url: \"https://example .org\"", "config-url"},
        {"token: {uri: \"softhsm\"}", "config-token"},
        {"token: {uri: \"pkcs11:token=a?pin-value=1234\"}", "config-pin"},
        {"token: {uri: \"pkcs11:token=a?pin-source=/x\"}", "config-pin"},
        {"token: {uri: \"pkcs11:token=a?module-path=/a.so\", module: /b.so}", "config-token"},
        {"token: {uri: \"pkcs11:token=a?module-path=/a%2\"}", "config-token"},
        {"token: {module: \"\"}", "config-path"},
        {"token: {module: /opt/other.so, softhsm_conf: x}", "config-token"},
        {"token: {pin: {file: a, fd: 3}}", "config-pin"},
        {"token: {pin: {fd: 2}}", "config-pin"},
        {"token: {pin: {fd: 100}}", "config-pin"},
        {"token: {pin: {fd: 103}}", "config-pin"}, {"token: {pin: {fd: 104}}", "config-pin"},
        {"token: {pin: {credential: ../x}}", "config-pin"},
        {"token: {pin: {file: \"\"}}", "config-path"},
        {"token: {threads: 64}", "config-range"}, /* hsm/ has 64 sessions, one for the head */
        {"frontend: {threads: 257}", "config-range"},
        {"token: {call_timeout_ms: 0}", "config-range"},
        {"log: {number: 0}", "config-range"},
        {"log: {number: 65536}", "config-range"},
        {"log: {origin: \"a b\"}", "config-log"},
        {"log: {origin: \"a+b\"}", "config-log"},
        {"log: {origin: \"\"}", "config-log"},
        {"log: {archive: [log]}", "config-log"},
        {"log: {dir: /x/log, archive: [/y, /x/log/old]}", "config-log"},
        {"log: {archive: [\"\"]}", "config-path"},
        {"log: {archive: old}", "config-schema"},
        {"log: {archive: [a, b, c, d, e, f, g, h, i]}", "config-log"},
        {"ca: {max_lifetime: 3601}", "config-range"},
        {"ca: {default_lifetime: 0}", "config-range"},
        {"crl: {shards: 0}", "config-range"},
        {"crl: {shards: 12}", "config-range"},
        {"crl: {shards: 2048}", "config-range"},
        {"crl: {lifetime: 9}", "config-range"},
        {"crl: {lifetime: 5401}", "config-range"},
        {"crl: {short_limit: 3601}", "config-range"},
        {"crl: {shard: 1}", "config-schema"},
        {"audit: {access: everybody}", "config-word"},
        {"audit: {index: \"\"}", "config-path"},
        {"audit: {index: store/mayfly.db}", "config-path"},
        {"ca: {default_lifetime: 400, max_lifetime: 300}", "config-range"},
        {"ca: {permitted_dns: [\"*.a.org\"]}", "config-dns"},
        {"ca: {permitted_dns: [\"a..org\"]}", "config-dns"},
        {"session: {lifetime: 1}", "config-range"},
        {"run: {signer_user: \"a b\"}", "config-user"},
        {"run: {signer_user: \"12:\"}", "config-user"},
        {"run: {signer_user: \"-x\"}", "config-user"},
        {"run: {signer_user: x, frontend_user: x}", "config-user"},
        {"run: {signer_user: x, frontend_user: y, notary_user: x}", "config-user"},
        {"run: {signer_user: x, frontend_user: y, notary_user: y}", "config-user"},
        {"run: {signer_user: \"0:1\"}", "config-user"},
        {"run: {frontend_user: \"1:0\"}", "config-user"},
        {"run: {signer_user: \"4294967295:1\"}", "config-user"},
        {"run: {signer_user: \"1:99999999999999999999\"}", "config-user"},
        {"frontend: {max_connections: 0}", "config-range"},
        {"logging: {level: loud}", "config-word"},
        {"logging: {format: xml}", "config-word"},
    };
    char yaml[400];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(yaml, sizeof yaml, "%s\n%s\n", TD, bad[i].line);
        refused(yaml, bad[i].rule, 3);
    }
    refused("trust_domain: Example.org\n", "config-trust-domain", 1);
    refused("trust_domain: \"\"\n", "config-trust-domain", 1);
    refused("trust_domain: spiffe://example.org\n", "config-trust-domain", 1);
    char deep[300];
    memset(deep, 0, sizeof deep);
    snprintf(deep, sizeof deep, TD "run: {dir: /%0120d}\n", 0);
    refused(deep, "config-path", 2);
}

static void test_load(void **state)
{
    char dir[] = "/tmp/mayfly-config-XXXXXX", file[64], elsewhere[64];
    struct err e;
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/mayfly.yaml", dir);
    snprintf(elsewhere, sizeof elsewhere, "%s/other.yaml", dir);
    assert_null(config_load(dir, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_null(config_load("/nonexistent/x/mayfly.yaml", &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(file_write_atomic(file, TD, strlen(TD), 0644, false, &e), 0);
    for (int i = 0; i < 2; i++) {
        struct config *c = config_load(i ? file : dir, &e);
        assert_non_null(c);
        assert_string_equal(c->dir, dir);
        config_free(c);
    }
    assert_int_equal(file_write_atomic(elsewhere, TD "x: 1\n", strlen(TD "x: 1\n"), 0644, false, &e), 0);
    assert_null(config_load(elsewhere, &e));
    assert_non_null(strstr(e.msg, "other.yaml: line 2: "));
    unlink(file);
    assert_int_equal(file_write_atomic(file, "", 0, 0644, false, &e), 0);
    assert_null(config_load(dir, &e));
    assert_string_equal(e.rule, "config-syntax");
    unlink(file);
    unlink(elsewhere);
    rmdir(dir);
}

/* No secret lies where the frontend may read. */
static void test_reach(void **state)
{
    static const struct {
        const char *lines;
        unsigned line; /* of the key that opens the folder */
    } bad[] = {
        {"store: {path: mayfly.db}\ntoken: {pin: {file: secret/pin}}", 2},
        {"store: {path: secret/mayfly.db}\ntoken: {pin: {file: secret/pin}}", 2},
        {"run: {dir: secret}\ntoken: {pin: {file: secret/pin}}", 2},
        {"run: {dir: .}\ntoken: {pin: {file: secret/pin}}", 2},
        {"run: {dir: /srv//mayfly/x/..}\ntoken: {pin: {file: secret/pin}}", 2},
        {"run: {dir: run/../../mayfly/./token}\ntoken: {softhsm_conf: token/softhsm2.conf}", 2},
        {"log: {dir: /}\ntoken: {pin: {file: secret/pin}}", 2},
        {"log: {dir: /etc}\ntoken: {softhsm_conf: /etc/softhsm2.conf}", 2},
        {"log: {archive: [/mnt/a, secret]}\ntoken: {pin: {file: secret/pin}}", 2},
        {"token: {pin: {file: log/pin}}", 0},
        {"token: {pin: {file: store/secret/pin}}", 0},
    };
    char yaml[400];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(yaml, sizeof yaml, "%s%s\n", TD, bad[i].lines);
        refused(yaml, "config-reach", bad[i].line);
    }
    config_free(parse(TD "token: {pin: {file: logs/pin}, softhsm_conf: storey/x}\n"));
    config_free(parse(TD "token: {pin: {file: secret/pin}}\nrun: {dir: secret/../run}\n"));
    refused(TD "audit: {index: secret/audit.db}\ntoken: {pin: {file: secret/pin}}\n", "config-reach", 2);
}

static void test_reach_follows_links(void **state)
{
    char dir[] = "/tmp/mayfly-config-XXXXXX", path[64], yaml[200];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/link", dir);
    assert_int_equal(symlink(dir, path), 0);
    snprintf(yaml, sizeof yaml, TD "run: {dir: %s/run}\ntoken: {pin: {file: %s/run/pin}}\n", path, dir);
    refused(yaml, "config-reach", 2);
    unlink(path);
    rmdir(dir);
}

/* The verifier keys themselves are read where they are used (ca/witnesses.h). */
static void test_witnesses(void **state)
{
#define ONE "{url: \"http://127.0.0.1:1/w/\", vkey: w+7e6f4aaa+BN}"
#define LIST(x) TD "witnesses:\n  list: [" x "]\n"
    struct config *c = parse(TD);
    assert_int_equal(c->witnesses.count, 0);
    assert_int_equal(c->witnesses.quorum, 0);
    assert_int_equal(c->witnesses.timeout_ms, 2000);
    config_free(c);
    c = parse(TD "witnesses: {quorum: 0, timeout_ms: 100, list: [" ONE ", {url: https://x, vkey: b}]}\n");
    assert_int_equal(c->witnesses.count, 2);
    assert_int_equal(c->witnesses.timeout_ms, 100);
    assert_string_equal(c->witnesses.list[0].url, "http://127.0.0.1:1/w");
    assert_string_equal(c->witnesses.list[0].vkey, "w+7e6f4aaa+BN");
    assert_string_equal(c->witnesses.list[1].url, "https://x");
    config_free(c);
    config_free(parse(TD "witnesses: {list: []}\n"));
    c = parse(TD "frontend: {issue_timeout_ms: 2001}\nwitnesses: {quorum: 2, timeout_ms: 2000, list: [" ONE
                 ", {url: https://x, vkey: b}]}\n");
    assert_int_equal(c->witnesses.quorum, 2);
    config_free(c);
    refused(TD "witnesses: {quorum: 1}\n", "config-witness", 2);
    refused(TD "witnesses: {quorum: 2, list: [" ONE "]}\n", "config-witness", 2);
    refused(TD "witnesses: {quorum: 1, timeout_ms: 2001, list: [" ONE "]}\n", "config-range", 2);
    refused(TD "frontend: {issue_timeout_ms: 2000}\nwitnesses:\n  quorum: 1\n  timeout_ms: 2000\n  list: [" ONE "]\n",
            "config-range", 5);
    refused(TD "witnesses: {timeout_ms: 99}\n", "config-range", 2);
    refused(TD "witnesses: {timeout_ms: 60001}\n", "config-range", 2);
    refused(LIST("{url: ftp://x, vkey: a}"), "config-url", 3);
    refused(LIST("{url: https:///x, vkey: a}"), "config-url", 3);
    refused(LIST("{url: https://, vkey: a}"), "config-url", 3);
    refused(LIST("{url: \"https://u@x\", vkey: a}"), "config-url", 3);
    refused(LIST("{url: \"https://x?q\", vkey: a}"), "config-url", 3);
    refused(LIST("{url: https://x, vkey: \"\"}"), "config-witness", 3);
    refused(LIST("{url: https://x, vkey: a b}"), "config-witness", 3);
    refused(LIST(ONE ", " ONE), "config-witness", 3);
    refused(LIST("{url: https://x}"), "config-schema", 0);
    refused(LIST("{vkey: a}"), "config-schema", 0);
    refused(LIST("{url: https://x, vkey: a, name: n}"), "config-schema", 3);
    refused(TD "witnesses: {list: [a]}\n", "config-schema", 2);
    char many[4096] = TD "witnesses:\n  list:\n";
    for (int i = 0; i < 17; i++) {
        size_t n = strlen(many);
        snprintf(many + n, sizeof many - n, "    - {url: https://x, vkey: w%d}\n", i);
        if (i == CONFIG_WITNESSES_MAX - 1)
            config_free(parse(many));
    }
    refused(many, "config-witness", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_everything),
        cmocka_unit_test(test_syntax),   cmocka_unit_test(test_rules),
        cmocka_unit_test(test_load),     cmocka_unit_test(test_reach),
        cmocka_unit_test(test_witnesses),
        cmocka_unit_test(test_reach_follows_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
