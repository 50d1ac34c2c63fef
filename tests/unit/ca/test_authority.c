/* The ceremony, whole, refused and cut short; what it made, seen by OpenSSL and by the log. */
#include "base/json.h"
#include "unit/ca/house.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static struct house house;

static int setup(void **state)
{
    house_build(&house, "");
    return 0;
}

static int teardown(void **state)
{
    house_pull_down(&house);
    return 0;
}

static const char *in_house(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", house.dir, name);
    return p;
}

static void ceremony(void)
{
    struct err e = {0};
    assert_ok(house_child(&house, house_ceremony, &e), &e);
}

static void refused(int (*f)(struct house *, struct err *), const char *rule)
{
    struct err e = {0};
    assert_int_equal(house_child(&house, f, &e), -1);
    assert_string_equal(e.rule, rule);
}

static X509 *load(const char *name)
{
    FILE *f = fopen(in_house(name), "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    assert_non_null(x);
    assert_null(PEM_read_X509(f, NULL, NULL, NULL));
    fclose(f);
    return x;
}

static uint64_t serial_of(const X509 *x)
{
    uint64_t v = 0;
    assert_int_equal(ASN1_INTEGER_get_uint64(&v, X509_get0_serialNumber(x)), 1);
    return v;
}

static void chain(X509 *root, X509 *issuing)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, root);
    X509_STORE_set_flags(store, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, issuing, NULL), 1);
    if (X509_verify_cert(ctx) != 1) {
        print_message("%s\n", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
        fail();
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
}

/* The published log holds, at the index that its serial names, exactly what the certificate says. */
static void stands_in_log(X509 *x, const struct tlog_vkey *k)
{
    struct err e = {0};
    uint8_t *der = NULL;
    int len = i2d_X509(x, &der);
    struct buf body, entry, note;
    struct tlog_cert_fields f;
    struct bytes stapled;
    struct tlog_hash proof[TLOG_LEVELS];
    size_t proof_len;
    struct tlog_entry t;
    buf_init(&body, 65536);
    buf_init(&entry, 65536);
    buf_init(&note, 65536);
    assert_ok(tlog_cert_body(&body, &f, &stapled, der, (size_t)len, &e), &e);
    assert_int_equal(stapled.len, 0);
    assert_ok(tlog_read_entry(house.config->log.dir, k, serial_of(x) & TBS_INDEX_MAX, &entry, proof,
                              &proof_len, &note, &e), &e);
    assert_ok(tlog_entry_parse(&t, entry.p, entry.len, &e), &e);
    assert_true(bytes_eq(t.body, body.p, body.len));
    assert_int_equal(t.extensions.len, 0);
    buf_free(&body);
    buf_free(&entry);
    buf_free(&note);
    OPENSSL_free(der);
}

static void binding(X509 *issuing, struct tlog_vkey *k)
{
    struct err e = {0};
    uint8_t *der = NULL;
    int len = i2d_X509(issuing, &der);
    assert_ok(tlog_binding_from_cert(k, der, (size_t)len, &e), &e);
    assert_string_equal(k->name, "example.org/log1");
    OPENSSL_free(der);
}

static void bundle(X509 *root, const struct tlog_vkey *k)
{
    struct err e = {0};
    struct buf b, vkey;
    buf_init(&b, 65536);
    buf_init(&vkey, 1024);
    assert_ok(file_read(&b, in_house("ca/bundle.json"), 65536, &e), &e);
    json_t *j = json_parse(b.p, b.len, 65536, &e), *keys = json_object_get(j, "keys");
    assert_non_null(j);
    assert_int_equal(json_array_size(keys), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(keys, 1), "use")), "jwt-svid");
    json_t *jwk = json_array_get(keys, 0), *x5c = json_object_get(jwk, "x5c");
    assert_string_equal(json_string_value(json_object_get(jwk, "use")), "x509-svid");
    assert_string_equal(json_string_value(json_object_get(jwk, "crv")), "P-384");
    assert_null(json_object_get(jwk, "kid"));
    assert_int_equal(json_array_size(x5c), 1);
    const char *text64 = json_string_value(json_array_get(x5c, 0));
    uint8_t der[4096], *want = NULL;
    long n = b64_decode(der, sizeof der, text64, strlen(text64));
    int len = i2d_X509(root, &want);
    assert_int_equal(n, len);
    assert_memory_equal(der, want, len);
    assert_true(json_integer_value(json_object_get(j, "spiffe_sequence")) > 1700000000);
    assert_int_equal(json_integer_value(json_object_get(j, "spiffe_refresh_hint")), 300);
    tlog_vkey_write(k, &vkey);
    assert_string_equal(json_string_value(json_object_get(j, "mayfly_log")), buf_cstr(&vkey));
    json_decref(j);
    OPENSSL_free(want);
    buf_free(&b);
    buf_free(&vkey);
}

static void san_is(X509 *x, const char *want)
{
    GENERAL_NAMES *san = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    assert_non_null(san);
    assert_int_equal(sk_GENERAL_NAME_num(san), 1);
    const GENERAL_NAME *n = sk_GENERAL_NAME_value(san, 0);
    assert_int_equal(n->type, GEN_URI);
    assert_int_equal(ASN1_STRING_length(n->d.ia5), strlen(want));
    assert_memory_equal(ASN1_STRING_get0_data(n->d.ia5), want, strlen(want));
    GENERAL_NAMES_free(san);
}

/* What a ceremony left must be right, at these log indexes. */
static void whole(uint64_t root_index)
{
    struct tlog_vkey k;
    X509 *root = load("ca/root.pem"), *issuing = load("ca/issuing.pem");
    assert_int_equal(X509_check_ca(root), 1);
    assert_int_equal(X509_check_ca(issuing), 1);
    assert_int_equal(X509_get_key_usage(root), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_get_key_usage(issuing), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
    assert_int_equal(X509_get_pathlen(root), -1);
    assert_int_equal(X509_get_pathlen(issuing), 0);
    assert_true(serial_of(root) == (UINT64_C(1) << 48 | root_index));
    assert_true(serial_of(issuing) == (UINT64_C(1) << 48 | (root_index + 1)));
    san_is(root, "spiffe://example.org");
    san_is(issuing, "spiffe://example.org");
    char *name = X509_NAME_oneline(X509_get_subject_name(root), NULL, 0);
    assert_string_equal(name, "/O=example.org/CN=Mayfly Root CA example.org");
    OPENSSL_free(name);
    chain(root, issuing);
    binding(issuing, &k);
    stands_in_log(root, &k);
    stands_in_log(issuing, &k);
    bundle(root, &k);
    tlog_vkey_free(&k);
    X509_free(root);
    X509_free(issuing);
}

static void made(void **state)
{
    ceremony();
    whole(1);
}

static void never_twice(void **state)
{
    struct err e = {0};
    struct buf before, after;
    ceremony();
    buf_init(&before, 65536);
    buf_init(&after, 65536);
    assert_ok(file_read(&before, in_house("ca/root.pem"), 65536, &e), &e);
    refused(house_ceremony, "authority-exists");
    assert_ok(file_read(&after, in_house("ca/root.pem"), 65536, &e), &e);
    assert_true(bytes_eq((struct bytes){before.p, before.len}, after.p, after.len));
    assert_int_equal(unlink(in_house("ca/root.pem")), 0);
    refused(house_ceremony, "authority-exists"); /* issuing.pem is there still */
    buf_free(&before);
    buf_free(&after);
}

static void cut_short(void **state)
{
    struct err e = {0};
    house_file(house.fault, "tlog-head kill 1\n"); /* the second append: the issuing certificate */
    assert_int_equal(house_child(&house, house_ceremony, &e), -1);
    assert_int_equal(access(in_house("ca/root.pem"), F_OK), -1);
    ceremony(); /* keys and log are used as they are */
    whole(3);
}

static void wrong_pin(void **state)
{
    struct err e = {0};
    ceremony();
    house_file(in_house("pin"), "wrong one\n");
    refused(house_serve, "hsm-pin");
    house_file(in_house("pin"), "\n");
    refused(house_serve, "secret-size");
    assert_int_equal(chmod(in_house("pin"), 0644), 0);
    refused(house_serve, "secret-mode");
    assert_int_equal(unlink(in_house("pin")), 0);
    assert_int_equal(house_child(&house, house_serve, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

static void other_certificates(void **state)
{
    struct err e = {0};
    struct buf root, b;
    ceremony();
    buf_init(&root, 65536);
    buf_init(&b, 65536);
    assert_ok(file_read(&root, in_house("ca/root.pem"), 65536, &e), &e);
    house_file(in_house("ca/issuing.pem"), buf_cstr(&root));
    refused(house_serve, "ca-key"); /* the root in the issuing certificate's place */
    house_file(in_house("ca/issuing.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    refused(house_serve, "ca-cert");
    house_file(in_house("ca/issuing.pem"), "");
    refused(house_serve, "ca-cert");
    assert_int_equal(unlink(in_house("ca/issuing.pem")), 0);
    assert_int_equal(house_child(&house, house_serve, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    buf_free(&root);
    buf_free(&b);
}

/* One more behind the first is refused, not passed over. */
static void two_certificates(void **state)
{
    struct err e = {0};
    struct buf one, two;
    ceremony();
    buf_init(&one, 65536);
    buf_init(&two, 65536);
    assert_ok(file_read(&one, in_house("ca/issuing.pem"), 65536, &e), &e);
    buf_put(&two, one.p, one.len);
    buf_put(&two, one.p, one.len);
    house_file(in_house("ca/issuing.pem"), buf_cstr(&two));
    refused(house_serve, "ca-cert");
    buf_free(&one);
    buf_free(&two);
}

static int serve_other_number(struct house *h, struct err *e)
{
    h->config->log.number++;
    return house_serve(h, e);
}

static void other_log_number(void **state)
{
    ceremony();
    refused(serve_other_number, "log-number");
}

/* A pipe gives its PIN once; the signer's next start would find none. */
static int serve_pin_of_pipe(struct house *h, struct err *e)
{
    int p[2];
    if (pipe(p) < 0 || write(p[1], HOUSE_PIN, sizeof HOUSE_PIN - 1) < 0)
        return 0;
    close(p[1]);
    free(h->config->token.pin_file);
    h->config->token.pin_file = NULL;
    h->config->token.pin_fd = p[0];
    return house_serve(h, e);
}

static void pin_of_pipe(void **state)
{
    struct err e = {0};
    assert_int_equal(house_child(&house, serve_pin_of_pipe, &e), -1);
    assert_int_equal(e.code, ERR_CONFIG);
    assert_string_equal(e.rule, "pin-fd");
}

static void before_the_ceremony(void **state)
{
    refused(house_serve, "hsm-key-missing");
}

static int declining(struct house *h, struct err *e);
static bool no(void *arg, const char *token, const char *missing)
{
    return strstr(missing, "mayfly-root") && strstr(missing, "mayfly-log") && !*(int *)arg;
}

static int declining(struct house *h, struct err *e)
{
    struct secret pin;
    int answer = 1;
    house_pin(&pin);
    const struct authority_options o = {.config = h->config, .pin = &pin, .confirm = no, .arg = &answer};
    return authority_create(&o, e);
}

static void declined(void **state)
{
    refused(declining, "authority-declined");
    refused(house_serve, "hsm-key-missing");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(made),  T(never_twice),        T(cut_short), T(wrong_pin), T(other_certificates),
        T(before_the_ceremony), T(declined), T(two_certificates), T(other_log_number), T(pin_of_pipe),
    };
    if (need_softhsm())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
