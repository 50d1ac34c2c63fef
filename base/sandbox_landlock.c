/* Landlock: which files a role may touch. The kernel's interface grows by ABI versions; the newest
 * right that each knows is asked for, none that it does not know. */
#include "base/sandbox_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Written out here because Debian 12's kernel headers know ABI 2 only. */
#define FS_EXECUTE (1ULL << 0)
#define FS_WRITE_FILE (1ULL << 1)
#define FS_READ_FILE (1ULL << 2)
#define FS_READ_DIR (1ULL << 3)
#define FS_REMOVE_DIR (1ULL << 4)
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_DIR (1ULL << 7)
#define FS_MAKE_REG (1ULL << 8)
#define FS_MAKE_SOCK (1ULL << 9)
#define FS_V1 ((1ULL << 13) - 1) /* the thirteen rights of ABI 1 */
#define FS_REFER (1ULL << 13)    /* ABI 2 */
#define FS_TRUNCATE (1ULL << 14) /* ABI 3 */
#define NET_BIND_TCP (1ULL << 0) /* ABI 4 */
#define NET_CONNECT_TCP (1ULL << 1)
#define FS_IOCTL_DEV (1ULL << 15)  /* ABI 5 */
#define SCOPE_ABSTRACT (1ULL << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ULL << 1)
#define CREATE_VERSION 1U
#define RULE_PATH_BENEATH 1

struct ruleset_attr {
    uint64_t fs, net, scoped;
};
struct path_attr {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

#define ON_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define READING (FS_READ_FILE | FS_READ_DIR)
/* No device nodes, FIFOs or symbolic links are ever made, and nothing is executed. */
#define WRITING                                                                                    \
    (READING | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG |        \
     FS_MAKE_SOCK | FS_REFER | FS_TRUNCATE)

/* What libc and the libraries read whatever the role: their own code loaded late, time zones, the
 * number of processors, and a process's own entry in /proc. */
static const struct sandbox_path always[] = {
    {"/usr/lib", false, true},
    {"/usr/lib64", false, true},
    {"/usr/share/zoneinfo", false, true},
    {"/etc/ld.so.cache", false, true},
    {"/etc/localtime", false, true},
    {"/etc/ssl/openssl.cnf", false, true},
    {"/dev/null", true, true},
    {"/dev/urandom", false, true},
    {"/proc/self", false, true},
    {"/sys/devices/system/cpu", false, true},
};

static int allow_path(int ruleset, uint64_t handled, const struct sandbox_path *path, struct err *e)
{
    struct stat st;
    int fd = open(path->path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        if (path->optional && (errno == ENOENT || errno == EACCES || errno == ENOTDIR))
            return 0;
        return err_errno(e, "sandbox-path", "cannot open %s to allow it in the sandbox",
                         path->path);
    }
    struct path_attr a = {.allowed = (path->write ? WRITING : READING) & handled, .fd = fd};
    int r = fstat(fd, &st);
    if (r == 0 && !S_ISDIR(st.st_mode))
        a.allowed &= ON_FILES;
    if (r == 0)
        r = (int)syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &a, 0);
    if (r < 0)
        err_errno(e, "sandbox-landlock", "cannot allow %s in the sandbox", path->path);
    close(fd);
    return r;
}

#ifdef MAYFLY_FAULTS
/* Test builds: the folders of the files through which tests ask for faults, shift the clock and
 * collect coverage stay open. */
static int allow_test_folders(int ruleset, uint64_t handled, struct err *e)
{
    static const char *const names[] = {"MAYFLY_FAULT_FILE", "MAYFLY_CLOCK_OFFSET_FILE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        const char *slash = value ? strrchr(value, '/') : NULL;
        char dir[PATH_MAX];
        if (!slash || slash == value || (size_t)(slash - value) >= sizeof dir)
            continue;
        memcpy(dir, value, (size_t)(slash - value));
        dir[slash - value] = 0;
        if (allow_path(ruleset, handled, &(struct sandbox_path){dir, true, true}, e) < 0)
            return -1;
    }
    const char *coverage = getenv("GCOV_PREFIX");
    if (!coverage)
        return 0;
    return allow_path(ruleset, handled, &(struct sandbox_path){coverage, true, true}, e);
}
#else
static int allow_test_folders(int ruleset, uint64_t handled, struct err *e)
{
    (void)ruleset;
    (void)handled;
    (void)e;
    return 0;
}
#endif

/* What this kernel can be told to forbid. The attribute structure grew with the ABI: its size says
 * which fields are meant. */
static size_t attr_for(struct ruleset_attr *a, long abi, enum sandbox_role role)
{
    *a = (struct ruleset_attr){.fs = FS_V1};
    if (abi >= 2)
        a->fs |= FS_REFER;
    if (abi >= 3)
        a->fs |= FS_TRUNCATE;
    if (abi >= 4 && role == SANDBOX_SIGNER)
        a->net = NET_BIND_TCP | NET_CONNECT_TCP;
    if (abi >= 4 && role == SANDBOX_NOTARY)
        a->net = NET_BIND_TCP;
    if (abi >= 5)
        a->fs |= FS_IOCTL_DEV;
    if (abi >= 6)
        a->scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
    return abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
}

int sandbox_landlock(enum sandbox_role role, const struct sandbox_path *paths, size_t n,
                     struct err *e)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
    if (abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
        return 0;
    if (abi < 0)
        return err_errno(e, "sandbox-landlock", "cannot ask the kernel for its Landlock version");
    struct ruleset_attr attr;
    size_t size = attr_for(&attr, abi, role);
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (ruleset < 0)
        return err_errno(e, "sandbox-landlock", "cannot make a Landlock ruleset");
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof always / sizeof *always; i++)
        r = allow_path(ruleset, attr.fs, &always[i], e);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = allow_path(ruleset, attr.fs, &paths[i], e);
    if (r == 0)
        r = allow_test_folders(ruleset, attr.fs, e);
    if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        r = err_errno(e, "sandbox-landlock", "cannot apply the Landlock ruleset");
    close(ruleset);
    return r < 0 ? -1 : (int)abi;
}
