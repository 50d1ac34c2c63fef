/* A whole authority for a test: folder, SoftHSM2 token, ceremony, and signers in processes of their
 * own. PKCS#11 modules take neither a fork nor a second initialization kindly, so this process
 * never loads one. */
#ifndef UNIT_CA_HOUSE_H
#define UNIT_CA_HOUSE_H
#include "base/fileio.h"
#include "base/ipc.h"
#include "base/log.h"
#include "ca/authority.h"
#include "ca/cacert.h"
#include "ca/signer.h"
#include "hsm/hsm.h"
#include "tlog/log.h"
#include "tlog/proof.h"
#include "unit/ca/request.h"
#include <ftw.h>
#include <signal.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOUSE_PIN "correct horse 1"

struct house {
    char dir[64], fault[96], offset[96], socket[4096];
    struct config *config;
    int listen_fd, control;
    pid_t keeper;
    bool accept_clock_back; /* the keeper's: its last command was 'C' */
};

static inline const char *softhsm(void)
{
    const char *m = getenv("MAYFLY_SOFTHSM");
    return m ? m : "/usr/lib/softhsm/libsofthsm2.so";
}

static inline int house_wait(pid_t pid)
{
    int st = 0;
    while (waitpid(pid, &st, 0) < 0)
        ;
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

/* Runs f in a child; its error comes back in e. */
static inline int house_child(struct house *h, int (*f)(struct house *, struct err *), struct err *e)
{
    int report[2];
    assert_int_equal(pipe(report), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err why = {0};
        int r = f(h, &why);
        if (write(report[1], &why, sizeof why) != sizeof why)
            _exit(2);
        _exit(r < 0);
    }
    close(report[1]);
    memset(e, 0, sizeof *e);
    if (read(report[0], e, sizeof *e) != sizeof *e)
        err_set(e, ERR_INTERNAL, "child", "the child died");
    close(report[0]);
    return house_wait(pid) == 0 ? 0 : -1;
}

static inline void house_pin(struct secret *pin)
{
    struct err e = {0};
    if (secret_new(pin, 64, &e) < 0)
        _exit(3);
    pin->len = strlen(HOUSE_PIN);
    memcpy(pin->p, HOUSE_PIN, pin->len);
}

static inline int house_token(struct house *h, struct err *e)
{
    char tokens[128];
    struct secret pin;
    house_pin(&pin);
    snprintf(tokens, sizeof tokens, "%s/tokens", h->dir);
    return hsm_softhsm_create(softhsm(), h->config->token.softhsm_conf, tokens, "mayfly", &pin, e);
}

static inline int house_ceremony(struct house *h, struct err *e)
{
    struct secret pin;
    house_pin(&pin);
    const struct authority_options o = {.config = h->config, .pin = &pin};
    int r = authority_create(&o, e);
    secret_free(&pin);
    return r;
}

/* `more`: further lines of configuration under ca. */
static inline void house_build(struct house *h, const char *more)
{
    struct err e = {0};
    char yaml[2048], path[128];
    memset(h, 0, sizeof *h);
    strcpy(h->dir, "/tmp/mayfly-ca-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    snprintf(h->fault, sizeof h->fault, "%s/fault", h->dir);
    snprintf(h->offset, sizeof h->offset, "%s/offset", h->dir);
    setenv("MAYFLY_FAULT_FILE", h->fault, 1);
    setenv("MAYFLY_CLOCK_OFFSET_FILE", h->offset, 1);
    snprintf(path, sizeof path, "%s/pin", h->dir);
    assert_ok(file_write_atomic(path, HOUSE_PIN "\n", sizeof HOUSE_PIN, 0600, false, &e), &e);
    int n = snprintf(yaml, sizeof yaml,
                     "trust_domain: example.org\nlisten: 127.0.0.1:8443\nnames: [localhost, 127.0.0.1]\n"
                     "token:\n  uri: pkcs11:token=mayfly\n  module: %s\n  softhsm_conf: softhsm2.conf\n"
                     "  pin: {file: pin}\n  threads: 2\nlog: {dir: log, origin: example.org/log1, number: 1}\n"
                     "ca:\n  dir: ca\n  max_lifetime: 3600\n  permitted_dns: [example.org, svc.test]\n%srun: {dir: run}\n",
                     softhsm(), more);
    assert_true(n > 0 && (size_t)n < sizeof yaml);
    h->config = config_parse(yaml, (size_t)n, h->dir, &e);
    if (!h->config)
        print_message("%s\n", e.msg);
    assert_non_null(h->config);
    snprintf(path, sizeof path, "%s/run", h->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_ok(house_child(h, house_token, &e), &e);
    config_signer_socket(h->config, h->socket, sizeof h->socket);
    h->listen_fd = ipc_listen(h->socket, 0600, &e);
    assert_true(h->listen_fd >= 0);
}

static inline int house_serve(struct house *h, struct err *e)
{
    const struct signer_options o = {.config = h->config, .listen_fd = h->listen_fd,
                                     .peer_uid = geteuid(), .uid = (uid_t)-1, .first_start = true,
                                     .accept_clock_back = h->accept_clock_back};
    return signer_run(&o, e);
}

static inline void house_signer(struct house *h)
{
    struct err e = {0};
    log_setup("signer", LOG_WARN, LOG_TEXT);
    if (house_serve(h, &e) == 0)
        _exit(0);
    log_err(LOG_ERROR, "signer stops", &e);
    _exit(1);
}

/* What the parent of the daemon does: a killed signer is started again. In a process of its own,
 * made before this one has threads, since a process with threads must not fork. Commands come as
 * single bytes, and are answered: 'S' starts a signer, 'C' starts one that accepts a clock that is
 * behind the log, 'T' ends it and answers its exit status. */
struct keeper {
    struct house *h;
    pid_t pid; /* 0: none */
    bool want;
    uint8_t last;
};

static inline void keeper_spawn(struct keeper *k)
{
    k->pid = fork();
    if (k->pid < 0)
        _exit(9);
    if (k->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        house_signer(k->h);
    }
}

static inline void keeper_reap(struct keeper *k, int flags)
{
    int st;
    if (!k->pid || waitpid(k->pid, &st, flags) != k->pid)
        return;
    k->pid = 0;
    k->last = WIFEXITED(st) ? (uint8_t)WEXITSTATUS(st) : (uint8_t)(128 + WTERMSIG(st));
    if (k->want && k->last == 128 + SIGKILL)
        keeper_spawn(k);
}

static inline void keeper_run(struct house *h, int control)
{
    struct keeper k = {.h = h};
    sigset_t child;
    char c;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    struct pollfd p[2] = {{.fd = control, .events = POLLIN},
                          {.fd = signalfd(-1, &child, SFD_CLOEXEC), .events = POLLIN}};
    while (poll(p, 2, -1) > 0) {
        struct signalfd_siginfo info;
        if (p[1].revents && read(p[1].fd, &info, sizeof info) > 0)
            keeper_reap(&k, WNOHANG);
        if (!p[0].revents)
            continue;
        if (read(control, &c, 1) != 1)
            break;
        k.want = c != 'T';
        h->accept_clock_back = c == 'C';
        if (k.want && !k.pid)
            keeper_spawn(&k);
        if (!k.want && k.pid) {
            kill(k.pid, SIGTERM);
            keeper_reap(&k, 0);
        }
        if (write(control, &k.last, 1) != 1)
            break;
    }
    _exit(0); /* and the signer with it */
}

static inline void house_keeper(struct house *h)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fflush(NULL);
    h->keeper = fork();
    assert_true(h->keeper >= 0);
    if (h->keeper == 0) {
        close(pair[0]);
        keeper_run(h, pair[1]);
    }
    close(pair[1]);
    h->control = pair[0];
}

static inline int house_tell(struct house *h, char command)
{
    uint8_t status;
    assert_int_equal(write(h->control, &command, 1), 1);
    assert_int_equal(read(h->control, &status, 1), 1);
    return status;
}

static inline void house_start(struct house *h)
{
    house_tell(h, 'S');
}

/* SIGTERM; the exit status. */
static inline int house_stop(struct house *h)
{
    return house_tell(h, 'T');
}

static inline int house_remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static inline void house_pull_down(struct house *h)
{
    if (h->keeper > 0) {
        house_tell(h, 'T'); /* so that nothing is written any more when the folder goes */
        close(h->control);
        house_wait(h->keeper);
    }
    close(h->listen_fd);
    config_free(h->config);
    nftw(h->dir, house_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void house_file(const char *path, const char *words)
{
    struct err e = {0};
    assert_ok(file_write_atomic(path, words, strlen(words), 0600, false, &e), &e);
}

static inline int need_softhsm(void)
{
    if (access(softhsm(), R_OK) == 0)
        return 0;
    printf("skipped: no SoftHSM2 at %s\n", softhsm());
    return 77;
}
#endif
