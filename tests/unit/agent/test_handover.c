/* What SIGHUP hands over: back as it was, wiped behind it, judged before it is served, and nothing else taken for it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "agent/handover.h"
#include "unit/agent/engine_fixture.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SECRETS_AT (sizeof "mayfly agent handover v1\n" + 4)

static int fill(void **state)
{
    setup(state);
    struct fixture *f = *state;
    struct self *s = &f->a.self;
    f->config.server = (char *)(uintptr_t) "https://ca.example.org";
    struct identity *web = add(f, "web"), *other = add(f, "other");
    web->number = 41;
    engine_want(&f->a, web);
    engine_run(&f->a);
    TURN_UNTIL(f, web->svid);
    f->a.entries_revoked = 7;
    f->a.entries_at_ms = f->a.entries_of_ms = clock_mono_ms() - 1000;
    s->crls = calloc(2, sizeof *s->crls);
    s->crls_count = 2;
    for (int i = 0; i < 2; i++)
        buf_init(&s->crls[i].der, CRL_BYTES_MAX);
    strcpy(s->crls[1].etag, "\"one\"");
    buf_str(&s->crls[1].der, "a list");
    buf_init(&s->bundle, ANSWER_BIG_MAX);
    buf_str(&s->bundle, "{\"keys\":[]}");
    assert_null(other->svid);
    return 0;
}

static int empty(void **state)
{
    struct fixture *f = *state;
    self_crls_free(&f->a.self);
    buf_free(&f->a.self.bundle);
    return teardown(state);
}

static void written(struct fixture *f, struct handover *m)
{
    struct err e;
    if (handover_write(m, &f->a, &e) < 0)
        fail_msg("%s", e.msg);
}

static void read_back(struct fixture *f, struct handed *h)
{
    struct err e;
    struct handover m;
    written(f, &m);
    if (handover_read(h, fcntl(m.fd, F_DUPFD_CLOEXEC, 3), &e) < 0)
        fail_msg("%s", e.msg);
    handover_close(&m);
}

static void test_round_trip(void **state)
{
    struct fixture *f = *state;
    struct handed h;
    struct handover m;
    struct err e;
    uint8_t key[64];
    const struct identity *web = identity_of(&f->a.identities, "spiffe://example.org/web");
    written(f, &m);
    assert_int_equal(fcntl(m.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_true(ftruncate(m.fd, 1) < 0); /* sealed */
    int kept = fcntl(m.fd, F_DUPFD_CLOEXEC, 3);
    assert_int_equal(pread(kept, key, sizeof key, SECRETS_AT + 2), sizeof key);
    assert_memory_equal(key, web->svid->key.p, sizeof key);
    assert_int_equal(handover_read(&h, fcntl(m.fd, F_DUPFD_CLOEXEC, 3), &e), 0);

    assert_string_equal(h.id, f->config.id);
    assert_string_equal(h.server, f->config.server);
    assert_string_equal(h.version, "v1");
    assert_int_equal(h.entries_revoked, 7);
    assert_int_equal(h.entries_at_ms, f->a.entries_at_ms);
    assert_int_equal(h.identities.n, 2);
    const struct identity *i = identity_of(&h.identities, web->spiffe_id);
    assert_non_null(i);
    assert_string_equal(i->entry_id, "entry-web");
    assert_int_equal(i->number, 41);
    assert_int_equal(i->selectors_count, 1);
    assert_string_equal(i->selectors[0], "unix:uid:1");
    assert_int_equal(i->renew_wall_ms, web->renew_wall_ms);
    assert_int_equal(i->renew_mono_ms, web->renew_mono_ms);
    assert_int_equal(i->svid->chain_len, web->svid->chain_len);
    assert_memory_equal(i->svid->chain, web->svid->chain, web->svid->chain_len);
    assert_int_equal(i->svid->key.len, web->svid->key.len);
    assert_memory_equal(i->svid->key.p, web->svid->key.p, web->svid->key.len);
    assert_null(identity_of(&h.identities, "spiffe://example.org/other")->svid);
    assert_int_equal(h.crls_count, 2);
    assert_string_equal(h.crls[1].etag, "\"one\"");
    assert_int_equal(h.crls[1].der.len, 6);
    assert_int_equal(h.bundle.len, f->a.self.bundle.len);
    handed_free(&h);

    /* Wiped behind it, also for who kept a descriptor. */
    static const uint8_t none[sizeof key];
    assert_int_equal(pread(kept, key, sizeof key, SECRETS_AT + 2), sizeof key);
    assert_memory_equal(key, none, sizeof key);
    assert_int_equal(handover_read(&h, kept, &e), -1); /* and so it is not read twice */
    assert_string_equal(e.rule, "handover");
    assert_null(h.id);
    handover_close(&m);
}

/* Each prefix is refused, and a byte more; a byte that was turned is refused or read, but nothing beyond the end is. */
static void test_damage(void **state)
{
    struct fixture *f = *state;
    struct handed h;
    struct handover m;
    struct err e;
    written(f, &m);
    for (size_t cut = 0; cut <= m.len + 1; cut++) {
        uint8_t *copy = malloc(cut + 1); /* exact, so that a sanitizer sees what reads on */
        memcpy(copy, m.map, cut < m.len ? cut : m.len);
        if (cut > m.len)
            copy[m.len] = 0;
        uint8_t *exact = cut ? realloc(copy, cut) : copy;
        int rc = handover_parse(&h, exact, cut, &e);
        assert_int_equal(rc, cut == m.len ? 0 : -1);
        if (rc < 0)
            assert_string_equal(e.rule, "handover");
        handed_free(&h);
        free(exact);
    }
    uint8_t *turned = malloc(m.len);
    for (size_t i = 0; i < m.len; i++) {
        memcpy(turned, m.map, m.len);
        turned[i] ^= 0x81;
        if (handover_parse(&h, turned, m.len, &e) < 0)
            assert_null(h.id);
        handed_free(&h);
    }
    free(turned);
    /* In a file, or where somebody could still change its size, it is nobody's. */
    int loose = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(write(loose, m.map, m.len), (ssize_t)m.len);
    assert_int_equal(handover_read(&h, loose, &e), -1);
    assert_string_equal(e.rule, "handover");
    handover_close(&m);
}

/* Another agent that takes it over. */
struct successor {
    struct agent a;
    struct agent_config config;
};

static void take(struct fixture *f, struct successor *s, const char *server, X509 *root)
{
    struct handed h;
    memset(s, 0, sizeof *s);
    s->config = f->config;
    s->config.server = (char *)(uintptr_t)server;
    s->a.config = s->a.self.config = &s->config;
    pki_trust(&s->a.self.trust, root);
    read_back(f, &h);
    handover_take(&s->a, &h);
    handed_free(&h);
}

static void gone(struct successor *s)
{
    identities_free(&s->a.identities);
    agent_trust_free(&s->a.self.trust);
    buf_free(&s->a.self.bundle);
    self_crls_free(&s->a.self);
}

static void test_taken(void **state)
{
    struct fixture *f = *state;
    struct successor s;
    const struct identity *web = identity_of(&f->a.identities, "spiffe://example.org/web");
    take(f, &s, f->config.server, f->pki.root);
    assert_true(s.a.entries_known);
    assert_string_equal(s.a.version, "v1");
    assert_int_equal(s.a.entries_at_ms, f->a.entries_at_ms);
    assert_int_equal(s.a.identities.n, 2);
    const struct identity *i = identity_of(&s.a.identities, web->spiffe_id);
    assert_ptr_equal(identity_svid(i, clock_wall()), i->svid);
    assert_non_null(i->svid);
    assert_string_equal(i->cert_id, web->cert_id);
    assert_int_equal(i->svid->not_after, web->svid->not_after);
    assert_int_equal(i->until_ms, web->until_ms);
    assert_int_equal(i->renew_wall_ms, web->renew_wall_ms);
    assert_int_equal(i->renew_mono_ms, web->renew_mono_ms);
    assert_int_equal(i->ari_mono_ms, web->ari_mono_ms);
    assert_false(i->stale);
    assert_int_equal(s.a.self.bundle.len, 0); /* that one names no roots that are trusted */
    assert_null(s.a.self.crls);
    gone(&s);
}

/* Something was revoked, and not all were asked about yet: whoever takes over asks now. A time that can not be is none. */
static void test_advice(void **state)
{
    struct fixture *f = *state;
    struct successor s;
    struct identity *web = identity_of(&f->a.identities, "spiffe://example.org/web");
    assert_true(*web->cert_id);
    web->ari_mono_ms = clock_mono_ms() - 5;
    take(f, &s, f->config.server, f->pki.root);
    assert_int_equal(identity_of(&s.a.identities, web->spiffe_id)->ari_mono_ms, web->ari_mono_ms);
    gone(&s);
    web->ari_mono_ms = INT64_MAX;
    take(f, &s, f->config.server, f->pki.root);
    assert_true(identity_of(&s.a.identities, web->spiffe_id)->ari_mono_ms < clock_mono_ms() + (web->until_ms - web->from_ms));
    gone(&s);
}

static void test_not_taken(void **state)
{
    struct fixture *f = *state;
    struct successor s;
    struct pki other;
    const char *web = "spiffe://example.org/web";
    take(f, &s, "https://other.example.org", f->pki.root);
    assert_false(s.a.entries_known);
    assert_int_equal(s.a.identities.n, 0);
    gone(&s);

    pki_new(&other); /* what its roots do not certify is not served, though the entry stands */
    take(f, &s, f->config.server, other.root);
    assert_true(s.a.entries_known);
    assert_null(identity_of(&s.a.identities, web)->svid);
    gone(&s);
    pki_free(&other);

    struct identity *i = identity_of(&f->a.identities, web), *elsewhere = identity_of(&f->a.identities, "spiffe://example.org/other");
    elsewhere->svid = wl_svid_ref(i->svid); /* another's certificate */
    take(f, &s, f->config.server, f->pki.root);
    assert_non_null(identity_of(&s.a.identities, web)->svid);
    assert_null(identity_of(&s.a.identities, elsewhere->spiffe_id)->svid);
    gone(&s);

    i->svid->key.p[i->svid->key.len - 80] ^= 1; /* nor what its key is not that of */
    take(f, &s, f->config.server, f->pki.root);
    assert_null(identity_of(&s.a.identities, web)->svid);
    gone(&s);
    i->svid->key.p[i->svid->key.len - 80] ^= 1;

    set_clock(i->svid->not_after - PKI_NOW + 1);
    take(f, &s, f->config.server, f->pki.root);
    assert_null(identity_of(&s.a.identities, web)->svid);
    gone(&s);
    set_clock(0);
}

/* Nobody wants it now, and it would have been renewed: it goes while another can be had, and is kept while none can. */
static void test_unwanted(void **state)
{
    struct fixture *f = *state;
    struct identity *web = identity_of(&f->a.identities, "spiffe://example.org/web");
    engine_unwant(&f->a, web);
    web->renew_wall_ms = clock_wall_ms() - 1;
    f->a.answered = false; /* as after a re-execution */
    engine_run(&f->a);
    assert_non_null(web->svid);
    f->a.answered = true;
    f->a.gate_failures = 1;
    engine_run(&f->a);
    assert_non_null(web->svid);
    f->a.gate_failures = 0;
    engine_run(&f->a);
    assert_null(web->svid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, fill, empty),
        cmocka_unit_test_setup_teardown(test_damage, fill, empty),
        cmocka_unit_test_setup_teardown(test_taken, fill, empty),
        cmocka_unit_test_setup_teardown(test_advice, fill, empty),
        cmocka_unit_test_setup_teardown(test_not_taken, fill, empty),
        cmocka_unit_test_setup_teardown(test_unwanted, fill, empty),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
