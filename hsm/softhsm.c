/* Making the default token: a SoftHSM2 configuration, a folder, and a token in it. Runs in
 * `mayfly init`, single-threaded, before the module is used for anything else. */
#include "base/fileio.h"
#include "hsm/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LABEL_LEN 32
#define SLOTS_MAX 64
#define PIN_MIN 4 /* SoftHSM2's own bounds */
#define PIN_MAX 255

static int arguments_check(const char *dir, const char *label, const struct secret *pin, struct err *e)
{
    size_t n = strlen(label);
    if (n == 0 || n > LABEL_LEN)
        return err_set(e, ERR_USAGE, "hsm-label", "a token's label has 1 to %d bytes", LABEL_LEN);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)label[i] < 0x20 || label[i] == 0x7f)
            return err_set(e, ERR_USAGE, "hsm-label", "a token's label holds no control characters");
    if (label[n - 1] == ' ')
        return err_set(e, ERR_USAGE, "hsm-label", "a token's label does not end in a blank");
    if (pin->len < PIN_MIN || pin->len > PIN_MAX || memchr(pin->p, 0, pin->len))
        return err_set(e, ERR_USAGE, "hsm-pin", "the token's PIN must have %d to %d bytes, none NUL",
                       PIN_MIN, PIN_MAX);
    /* SoftHSM2's configuration has lines, comments after '#', and no quoting. */
    if (strpbrk(dir, "#\n\r"))
        return err_set(e, ERR_USAGE, "hsm-folder",
                       "the token's folder cannot have '#' or a line break in its name");
    return 0;
}

static int conf_write(const char *conf, const char *dir, struct err *e)
{
    char real[PATH_MAX];
    if (!realpath(dir, real))
        return err_errno(e, "hsm-folder", "%.200s", dir);
    if (strpbrk(real, "#\n\r"))
        return err_set(e, ERR_USAGE, "hsm-folder",
                       "the path of the token's folder cannot have '#' or a line break in it");
    int fd = open(conf, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(e, "hsm-conf", "cannot create %.200s", conf);
    struct buf b;
    buf_init(&b, 2 * PATH_MAX);
    buf_fmt(&b,
            "# SoftHSM2 configuration of this authority's token; written by mayfly init.\n"
            "directories.tokendir = %s\n"
            "objectstore.backend = file\n"
            "log.level = ERROR\n"
            "slots.removable = false\n",
            real);
    int rc = b.failed || file_write_all(fd, b.p, b.len) != 0 || fsync(fd) != 0 ? -1 : 0;
    if (rc != 0)
        err_errno(e, "hsm-conf", "cannot write %.200s", conf);
    close(fd);
    buf_free(&b);
    return rc;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

/* The slot whose token has this label; or, label NULL, the first without an initialized token. */
static CK_RV slot_find(CK_FUNCTION_LIST *f, const CK_UTF8CHAR *label, CK_SLOT_ID *slot)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG n = SLOTS_MAX;
    CK_RV rv = f->C_GetSlotList(CK_TRUE, slots, &n);
    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info;
        if (f->C_GetTokenInfo(slots[i], &info) != CKR_OK)
            continue;
        bool made = (info.flags & CKF_TOKEN_INITIALIZED) != 0;
        if (label ? made && memcmp(info.label, label, LABEL_LEN) == 0 : !made) {
            *slot = slots[i];
            return CKR_OK;
        }
    }
    return CKR_TOKEN_NOT_PRESENT;
}

static int pin_set(CK_FUNCTION_LIST *f, CK_SLOT_ID slot, const struct secret *so,
                   const struct secret *pin, struct err *e)
{
    CK_SESSION_HANDLE s;
    CK_RV rv = f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s);
    if (rv != CKR_OK)
        return hsm_fail(e, "hsm-init", rv, "opening a session on the new token");
    rv = f->C_Login(s, CKU_SO, so->p, so->len);
    if (rv != CKR_OK)
        hsm_fail(e, "hsm-init", rv, "logging in to the new token");
    else if ((rv = f->C_InitPIN(s, pin->p, pin->len)) != CKR_OK)
        hsm_fail(e, "hsm-init", rv, "setting the new token's PIN");
    f->C_CloseSession(s);
    return rv == CKR_OK ? 0 : -1;
}

static int token_make(CK_FUNCTION_LIST *f, const char *label, const struct secret *so,
                      const struct secret *pin, struct err *e)
{
    CK_UTF8CHAR padded[LABEL_LEN];
    memset(padded, ' ', sizeof(padded));
    memcpy(padded, label, strlen(label));
    CK_SLOT_ID slot = 0;
    CK_RV rv = slot_find(f, NULL, &slot);
    if (rv != CKR_OK)
        return hsm_fail(e, "hsm-init", rv, "looking for a free slot; is this module SoftHSM2?");
    rv = f->C_InitToken(slot, so->p, so->len, padded);
    if (rv != CKR_OK)
        return hsm_fail(e, "hsm-init", rv, "initializing the token");
    /* SoftHSM2 gives an initialized token a slot number of its own when the list is asked for. */
    rv = slot_find(f, padded, &slot);
    if (rv != CKR_OK)
        return hsm_fail(e, "hsm-init", rv, "finding the new token");
    return pin_set(f, slot, so, pin, e);
}

static int token_create(const char *module, const char *label, const struct secret *pin, struct err *e)
{
    uint8_t random[16];
    struct secret so = {0};
    struct hsm_module m;
    if (RAND_priv_bytes(random, sizeof(random)) != 1)
        return err_set(e, ERR_INTERNAL, "random", "no random bytes for the token's SO PIN");
    if (secret_new(&so, HEX_LEN(sizeof(random)) + 1, e)) {
        secret_wipe(random, sizeof(random));
        return -1;
    }
    so.len = hex_encode((char *)so.p, random, sizeof(random));
    secret_wipe(random, sizeof(random));
    int rc = hsm_module_load(&m, module, e);
    if (rc == 0) {
        CK_C_INITIALIZE_ARGS args;
        memset(&args, 0, sizeof(args));
        args.flags = CKF_OS_LOCKING_OK;
        CK_RV rv = m.f->C_Initialize(&args);
        if (rv != CKR_OK) {
            rc = hsm_fail(e, "hsm-init", rv, "initializing the module");
        } else {
            rc = token_make(m.f, label, &so, pin, e);
            m.f->C_Finalize(NULL);
        }
        hsm_module_unload(&m);
    }
    secret_free(&so);
    return rc;
}

/* The folder and the token in it, under a configuration whose name is not final yet. */
static int create_steps(const char *module, const char *conf, const char *draft, const char *tokendir,
                        const char *label, const struct secret *pin, struct err *e)
{
    char real[PATH_MAX]; /* absolute, so that it outlives a change of working directory */
    if (conf_write(draft, tokendir, e))
        return -1;
    if (!realpath(draft, real) || setenv("SOFTHSM2_CONF", real, 1) != 0)
        return err_errno(e, "hsm-conf", "cannot name %.200s", draft);
    if (token_create(module, label, pin, e))
        return -1;
    if (rename(draft, conf) != 0 || !realpath(conf, real) || setenv("SOFTHSM2_CONF", real, 1) != 0)
        return err_errno(e, "hsm-conf", "cannot name %.200s", conf);
    return 0;
}

/* The configuration gets its name last: where it stands, the token is whole. A crash before leaves
 * the folder, which a second try refuses by name. */
int hsm_softhsm_create(const char *module, const char *conf, const char *tokendir, const char *label,
                       const struct secret *pin, struct err *e)
{
    char draft[PATH_MAX];
    if (arguments_check(tokendir, label, pin, e))
        return -1;
    if ((size_t)snprintf(draft, sizeof(draft), "%s.new", conf) >= sizeof(draft))
        return err_set(e, ERR_USAGE, "hsm-conf", "the path of the configuration is too long");
    if (access(conf, F_OK) == 0)
        return err_set(e, ERR_EXISTS, "hsm-exists", "%.200s exists already; it is kept", conf);
    if (mkdir(tokendir, 0700) != 0) {
        if (errno == EEXIST)
            return err_set(e, ERR_EXISTS, "hsm-exists",
                           "%.200s exists already and is kept, though %.150s does not; remove the "
                           "folder if making the token was cut short before",
                           tokendir, conf);
        return err_errno(e, "hsm-folder", "cannot make the token's folder %.200s", tokendir);
    }
    unlink(draft); /* of a try cut short */
    int rc = create_steps(module, conf, draft, tokendir, label, pin, e);
    /* The folder is ours since mkdir above; a half-made token must not stand in a second try's way. */
    if (rc != 0) {
        unlink(draft);
        nftw(tokendir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
    return rc;
}
