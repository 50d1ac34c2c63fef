/* Output folders: a set changes as one, and whoever prepares the way gets nothing of it. */
#include "agent/walk.h"
#include "base/log.h"
#include "unit/agent/output_dir.h"
#include <errno.h>
#include <openssl/pem.h>

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

/* --- PEM ------------------------------------------------------------------------------------------------ */

static void pem_is_as_openssl_writes_it(void **state)
{
    static const size_t lengths[] = {1, 47, 48, 49, 95, 96, 121, 1200};
    uint8_t der[1200];
    for (size_t i = 0; i < sizeof der; i++)
        der[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char mine[PEM_ROOM(1200)], *theirs;
        size_t n = pem_write(mine, "PRIVATE KEY", der, lengths[i]);
        assert_true(n < PEM_ROOM(lengths[i]));
        BIO *b = BIO_new(BIO_s_mem());
        assert_true(PEM_write_bio(b, "PRIVATE KEY", "", der, (long)lengths[i]) > 0);
        long len = BIO_get_mem_data(b, &theirs);
        assert_int_equal(len, n);
        assert_memory_equal(mine, theirs, n);
        BIO_free(b);
    }
}

static void pem_of_chains(void **state)
{
    static const uint8_t two[] = {0x30, 1, 5, 0x30, 2, 6, 7};
    struct buf b;
    struct err e;
    buf_init(&b, 4096);
    assert_int_equal(pem_certificates(&b, two, sizeof two, &e), 0);
    assert_string_equal(buf_cstr(&b), "-----BEGIN CERTIFICATE-----\nMAEF\n-----END CERTIFICATE-----\n"
                                      "-----BEGIN CERTIFICATE-----\nMAIGBw==\n-----END CERTIFICATE-----\n");
    assert_int_equal(pem_certificates(&b, two, sizeof two - 1, &e), -1);
    assert_int_equal(pem_certificates(&b, "\x04\x01\x05", 3, &e), -1);
    assert_string_equal(e.rule, "pem-der");
    buf_free(&b);
}

static void pem_of_crls(void **state)
{
    static uint8_t bytes[200];
    struct buf b, crls[3] = {{.p = bytes, .len = 3}, {.p = bytes, .len = 200}, {.p = bytes, .len = 3}};
    buf_init(&b, 500);
    assert_int_equal(pem_crls(&b, crls, 3), 1); /* what does not fit is left out whole */
    assert_string_equal(buf_cstr(&b), "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
                                      "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    buf_free(&b);
    buf_init(&b, 4096);
    assert_int_equal(pem_crls(&b, crls, 3), 0);
    assert_true(b.len > 300 && !b.failed);
    buf_free(&b);
}

/* --- sets ----------------------------------------------------------------------------------------------- */

static void writes_and_swaps(void **state)
{
    struct output_config c = a_config(dir);
    umask(077); /* what the umask takes away is given all the same */
    for (int n = 1; n <= 5; n++) {
        must_write(&c, n);
        is_set(n);
    }
    umask(022);
    assert_int_equal(mode_of(dir), 0755);
    assert_int_equal(mode_of(in("..data")), 0755);
    assert_int_equal(mode_of(in("svid.key")), 0600);
    assert_int_equal(mode_of(in("svid.pem")), 0644);
    assert_int_equal(mode_of(in("bundle.pem")), 0644);
    assert_int_equal(count(dir, "..set-"), 2); /* this one, and the last for who is reading it */
    assert_int_equal(count(dir, ""), 3 + 1 + 2 + 1); /* links, ..data, sets, lock */
    assert_int_equal(access(in("svid-combined.pem"), F_OK), -1);
    assert_int_equal(access(in("svid.jwt"), F_OK), -1);
}

static void wanted_and_no_longer(void **state)
{
    struct output_config c = a_config(dir);
    struct a_set x;
    struct err e;
    char got[1024], key[1024];
    c.combined = true;
    c.mode = 0640;
    a_set_make(&x, 1);
    a_set_jwt(&x);
    x.set.crl_pem = (struct bytes){(const uint8_t *)"crls", 4};
    assert_int_equal(output_write(&c, &x.set, &e), 0);
    is_set(1);
    slurp(in("crl.pem"), got, sizeof got);
    assert_string_equal(got, "crls");
    assert_int_equal(mode_of(in("crl.pem")), 0644);
    slurp(in("svid.jwt"), got, sizeof got);
    assert_string_equal(got, "jwt 1\n");
    assert_int_equal(mode_of(in("svid.jwt")), 0640);
    assert_int_equal(mode_of(in("svid.key")), 0640);
    assert_int_equal(mode_of(in("svid.pem")), 0644);
    size_t n = slurp(in("svid-combined.pem"), got, sizeof got);
    slurp(in("svid.key"), key, sizeof key);
    assert_int_equal(n, strlen("chain 1\n") + strlen(key));
    assert_memory_equal(got, "chain 1\n", 8);
    assert_string_equal(got + 8, key);
    c.combined = false;
    x.set.jwt = x.set.crl_pem = (struct bytes){NULL, 0};
    assert_int_equal(output_write(&c, &x.set, &e), 0);
    struct stat st;
    assert_int_equal(lstat(in("svid-combined.pem"), &st), -1);
    assert_int_equal(lstat(in("svid.jwt"), &st), -1);
    assert_int_equal(lstat(in("crl.pem"), &st), -1);
    secret_free(&x.key);
}

/* Whatever is taken away or put in its place is seen; what others have there is not looked at. */
static void stands(void **state)
{
    static const char *const names[] = {"svid.pem", "..data/svid.key", "..data/bundle.pem"};
    struct output_config c = a_config(dir);
    struct output_stamp first, now;
    struct err e;
    assert_int_equal(write_stamped(&c, 1, &first), 0);
    scratch_write(in("mine"), "x", 0600);
    assert_int_equal(output_stands(&c, &first, &e), 1);
    assert_int_equal(write_stamped(&c, 2, &now), 0);
    assert_int_equal(output_stands(&c, &first, &e), 0);
    assert_int_equal(output_stands(&c, &now, &e), 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(unlink(in(names[i])), 0);
        assert_int_equal(output_stands(&c, &now, &e), 0);
        assert_int_equal(write_stamped(&c, 3, &now), 0);
        assert_int_equal(output_stands(&c, &now, &e), 1);
        is_set(3);
    }
    assert_int_equal(unlink(in("svid.key")), 0);
    assert_int_equal(symlink("/etc/passwd", in("svid.key")), 0);
    assert_int_equal(output_stands(&c, &now, &e), 0);
    assert_int_equal(write_stamped(&c, 4, &now), 0);
    /* Another folder of the same name. */
    assert_int_equal(rename(dir, scratch_path("moved")), 0);
    assert_int_equal(output_stands(&c, &now, &e), 0);
    unsigned was = now.number;
    do
        assert_int_equal(write_stamped(&c, 5, &first), 0);
    while (first.number != was);
    assert_int_equal(output_stands(&c, &now, &e), 0);
    assert_int_equal(output_stands(&c, &first, &e), 1);
    assert_int_equal(unlink(in("..data")), 0);
    assert_int_equal(output_stands(&c, &first, &e), 0);
    c.dir = "/dev/null/x";
    assert_int_equal(output_stands(&c, &first, &e), 0);
}

static void owner_is_given(void **state)
{
    struct output_config c = a_config(dir);
    struct stat st;
    if (geteuid() != 0) {
        c.uid = 0;
        refused(&c, "out-owner");
        assert_int_equal(count(dir, "..set-"), 0);
        return;
    }
    c.uid = 12345;
    c.gid = 23456;
    must_write(&c, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stat(in(output_names[i]), &st), 0);
        assert_int_equal(st.st_uid, 12345);
        assert_int_equal(st.st_gid, 23456);
    }
    assert_int_equal(stat(in("..data"), &st), 0);
    assert_int_equal(st.st_uid, 0); /* whoever reads the files does not choose what is in the folder */
}

static void replaces_files_of_fetch(void **state)
{
    struct output_config c = a_config(dir);
    struct stat st;
    mkdir(dir, 0755);
    scratch_write(in("svid.pem"), "old", 0644);
    scratch_write(in("svid.key"), "old", 0600);
    scratch_write(in("mine"), "stays", 0600);
    assert_int_equal(symlink("/etc/passwd", in("bundle.pem")), 0);
    must_write(&c, 1);
    is_set(1);
    assert_int_equal(lstat(in("svid.key"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat("/etc/passwd", &st), 0);
    assert_true(st.st_size > 20);
    char got[16];
    slurp(in("mine"), got, sizeof got);
    assert_string_equal(got, "stays");
}

static void a_folder_in_the_way(void **state)
{
    struct output_config c = a_config(dir);
    must_write(&c, 1);
    c.combined = true;
    assert_int_equal(mkdir(in("svid-combined.pem"), 0755), 0);
    refused(&c, "out-dir");
    is_set(1);
    assert_int_equal(count(dir, "..set-"), 1);
    assert_int_equal(count(dir, ".svid"), 0);
}

static void removes(void **state)
{
    struct output_config c = a_config(dir);
    struct err e;
    must_write(&c, 1);
    must_write(&c, 2);
    scratch_write(in("mine"), "stays", 0600);
    assert_int_equal(output_remove(dir, &e), 0);
    assert_int_equal(count(dir, ""), 1);
    assert_int_equal(access(in("mine"), F_OK), 0);
    assert_int_equal(output_remove(scratch_path("never was"), &e), 0);
}

static void tries(void **state)
{
    struct output_config c = a_config(dir);
    struct err e;
    assert_int_equal(output_try(&c, &e), 0);
    assert_int_equal(count(dir, ""), 1); /* the lock */
    c.dir = "/dev/null/x";
    assert_int_equal(output_try(&c, &e), -1);
    if (geteuid() != 0) {
        c.dir = dir;
        c.uid = 0;
        assert_int_equal(output_try(&c, &e), -1);
        assert_string_equal(e.rule, "out-owner");
    }
}

/* --- attacks -------------------------------------------------------------------------------------------- */

static void folders_of_others(void **state)
{
    struct output_config c = a_config(dir);
    mkdir(dir, 0755);
    chmod(dir, 0777);
    refused(&c, "out-dir");
    chmod(dir, 01777); /* sticky: nobody takes ours away */
    must_write(&c, 1);
    if (geteuid() != 0)
        return;
    chmod(dir, 0755);
    assert_int_equal(chown(dir, 12345, 12345), 0);
    refused(&c, "out-dir");
    c.uid = 12345; /* the files are his */
    must_write(&c, 2);
    is_set(2);
}

static void links_are_not_followed(void **state)
{
    struct output_config c = a_config(dir);
    const char *elsewhere = scratch_path("elsewhere");
    mkdir(elsewhere, 0755);
    mkdir(dir, 0755);
    assert_int_equal(symlink(elsewhere, in("..data")), 0);
    assert_int_equal(symlink(elsewhere, in("..set-1")), 0);
    assert_int_equal(symlink("/etc/passwd", in("..data.new")), 0);
    assert_int_equal(symlink("/etc/passwd", in(".svid.key.link")), 0);
    must_write(&c, 1);
    is_set(1);
    assert_int_equal(count(elsewhere, ""), 0);
    assert_int_equal(symlink(elsewhere, scratch_path("link")), 0);
    c.dir = scratch_path("link");
    refused(&c, "out-dir");
    c.dir = dir;
    unlink(in(".mayfly.lock"));
    assert_int_equal(symlink("/etc/passwd", in(".mayfly.lock")), 0);
    refused(&c, "out-lock");
    is_set(1);
}

/* Who owns a folder on the way may put a link there: it leads nowhere, and nothing is made or opened behind it. */
static void links_of_others_on_the_way(void **state)
{
    struct output_config c = a_config(dir);
    struct stat st;
    char below[300];
    if (geteuid() != 0)
        skip();
    mkdir(scratch_path("real"), 0700);
    assert_int_equal(symlink(scratch_path("real"), scratch_path("way")), 0);
    snprintf(below, sizeof below, "%s/way/made/out", scratch);
    c.dir = below;
    must_write(&c, 1); /* root's own link */
    assert_int_equal(mode_of(scratch_path("real/made/out")), 0755);
    assert_int_equal(lchown(scratch_path("way"), 12345, 12345), 0);
    refused(&c, "out-dir");
    snprintf(below, sizeof below, "%s/way/other", scratch);
    refused(&c, "out-dir");
    assert_int_equal(lstat(scratch_path("real/other"), &st), -1);
    assert_int_equal(mode_of(scratch_path("real")), 0700);
}

static void walks(void **state)
{
    char text[300];
    mkdir(dir, 0700);
    scratch_write(in("file"), "x", 0600);
    assert_int_equal(symlink("out/./file", scratch_path("relative")), 0);
    snprintf(text, sizeof text, "//%s//out/../relative", scratch);
    int fd = walk_open(text, O_RDONLY, false);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(walk_open(text, O_RDONLY | O_NOFOLLOW, false), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(symlink("round", scratch_path("round")), 0);
    assert_int_equal(walk_open(scratch_path("round"), O_RDONLY, false), -1);
    assert_int_equal(errno, ELOOP);
    assert_int_equal(walk_open(in("file/x"), O_RDONLY, false), -1);
    assert_int_equal(errno, ENOTDIR);
    assert_int_equal(walk_open(in("none/x"), O_RDONLY, false), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(walk_open("", O_RDONLY, false), -1);
    for (int i = 0; i < 2; i++) { /* with and without a slash at the end */
        snprintf(text, sizeof text, "%s%s", i ? "/" : scratch, i ? "" : "/out/");
        fd = walk_open(text, O_RDONLY | O_DIRECTORY, false);
        assert_true(fd >= 0);
        close(fd);
    }
}

/* A name that is nearly ours is nobody's we may touch. */
static void sweeps_its_own_only(void **state)
{
    static const char *const others[] = {"..set-", "..set-x", "..set-01", "..set-1x", "..set-9999999999", "..set--1"};
    struct output_config c = a_config(dir);
    mkdir(dir, 0755);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(mkdir(in(others[i]), 0755), 0);
    for (int n = 7; n < 10; n++) {
        char name[32];
        snprintf(name, sizeof name, "..set-%d", n);
        assert_int_equal(mkdir(in(name), 0755), 0);
        snprintf(name, sizeof name, "..set-%d/svid.key", n);
        scratch_write(in(name), "left", 0600);
    }
    must_write(&c, 1);
    is_set(1);
    assert_int_equal(count(dir, "..set-"), 1 + (int)(sizeof others / sizeof *others));
}

int main(void)
{
    log_setup("test", LOG_ERROR, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pem_is_as_openssl_writes_it),
        cmocka_unit_test(pem_of_chains),
        cmocka_unit_test(pem_of_crls),
        IN_DIR(writes_and_swaps),
        IN_DIR(wanted_and_no_longer),
        IN_DIR(stands),
        IN_DIR(owner_is_given),
        IN_DIR(replaces_files_of_fetch),
        IN_DIR(a_folder_in_the_way),
        IN_DIR(removes),
        IN_DIR(tries),
        IN_DIR(folders_of_others),
        IN_DIR(links_are_not_followed),
        IN_DIR(links_of_others_on_the_way),
        IN_DIR(walks),
        IN_DIR(sweeps_its_own_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
