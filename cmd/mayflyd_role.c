/* The two roles. Each opens what it needs, drops to its own user, confines itself, and only then
 * reads its first byte of input. */
#include "api/server.h"
#include "api/store_age.h"
#include "audit/service.h"
#include "base/fileio.h"
#include "base/key.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ca/signer.h"
#include "cmd/mayflyd.h"
#include "tlog/place.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAIN_MS 5000

/* err_errno ends its message with the system's word, and EACCES has no code of its own. */
static bool ends_with(const char *msg, const char *word)
{
    size_t n = strlen(msg), w = strlen(word);
    return n >= w && strcmp(msg + n - w, word) == 0;
}

int mayflyd_exit_code(const struct err *e)
{
    static const char *const lasting[] = {/* will not get better by starting again */
                                          "hsm-attribute", "hsm-key", "secret-size", "secret-mode"};
    if (strcmp(e->rule, "hsm-pin") == 0)
        return EXIT_BAD_PIN;
    for (size_t i = 0; i < sizeof lasting / sizeof *lasting; i++)
        if (strncmp(e->rule, lasting[i], strlen(lasting[i])) == 0)
            return EXIT_FATAL;
    if (e->code == ERR_IO && ends_with(e->msg, strerror(EACCES)))
        return EXIT_FATAL;
    switch (e->code) {
    case ERR_CONFIG:
    case ERR_CORRUPT:
    case ERR_EXISTS:
    case ERR_NOT_FOUND: return EXIT_FATAL;
    default: return EXIT_CRASH;
    }
}

/* When the parent dies its children must not go on unseen. It asked for that before exec; a change
 * of user clears it, and the parent may have died between. */
static int die_with_parent(pid_t parent, struct err *e)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    return getppid() == parent ? 0 : err_set(e, ERR_UNAVAILABLE, "parent-gone", "the parent died");
}

/* A thread that wakes does not push out the one that runs: under load a request waits microseconds
 * longer, batches grow and switches are fewer, a fifth less CPU a certificate in all. An idle core
 * takes a lone request as before. Not being granted it is no trouble. */
static void run_in_batches(void)
{
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
}

/* Large memory goes back to the kernel when it is freed. glibc otherwise learns from the first large block
 * that such ones are to be kept, and the process grows with what it once needed for a moment. */
static void give_memory_back(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

struct config *role_config(const struct mayflyd_role_args *a, const char *role)
{
    struct err e = {0};
    struct config *c = config_load(a->config_path, &e);
    if (!c) {
        log_setup(role, LOG_INFO, LOG_AUTO);
        log_err(LOG_ERROR, "configuration refused", &e);
        return NULL;
    }
    log_setup(role, c->log_level, c->log_format);
    return c;
}

int role_signer(const struct mayflyd_role_args *a)
{
    umask(022);
    run_in_batches();
    give_memory_back();
    struct config *c = role_config(a, "signer");
    if (!c)
        return EXIT_FATAL;
    struct signer_options o = {.config = c,
                               .listen_fd = FD_SIGNER_LISTEN,
                               .notary_fd = FD_NOTARY_LISTEN,
                               .ready_fd = FD_READY,
                               .peer_uid = a->peer.uid,
                               .notary_uid = a->notary.uid,
                               .uid = a->self.uid,
                               .gid = a->self.gid,
                               .first_start = a->first_start,
                               .accept_clock_back = a->accept_clock_back};
    struct err e = {0};
    int code = EXIT_OK;
    if (signer_run(&o, &e) < 0) {
        log_err(LOG_ERROR, "signer stops", &e);
        code = mayflyd_exit_code(&e);
    }
    config_free(c);
    /* PKCS#11 modules and OpenSSL disagree on who cleans up first; leave without exit handlers. */
    _exit(code);
}

int role_become(const struct mayflyd_role_args *a, struct err *e)
{
    pid_t parent = getppid();
    if (a->self.uid != (uid_t)-1 && sandbox_drop(a->self.uid, a->self.gid, e) < 0)
        return -1;
    return die_with_parent(parent, e);
}

static int frontend_confine(const struct mayflyd_role_args *a, const struct config *c, struct err *e)
{
    if (role_become(a, e) < 0)
        return -1;
    char store_dir[4096], index_dir[4096], signer_socket[4096];
    snprintf(store_dir, sizeof store_dir, "%s", c->store_path);
    char *slash = strrchr(store_dir, '/');
    if (slash)
        *slash = 0;
    snprintf(index_dir, sizeof index_dir, "%s", c->audit_index);
    *strrchr(index_dir, '/') = 0;
    if (file_mkdirs(index_dir, 0700, e) < 0)
        return -1;
    config_signer_socket(c, signer_socket, sizeof signer_socket);
    struct sandbox_path paths[SANDBOX_PATHS_MAX] = {
        {store_dir, true, false},       {c->log.dir, false, false},
        {index_dir, true, false},
        {c->run_dir, false, false},     {"/usr", false, true},
        {"/lib", false, true},          {"/lib64", false, true},
        {"/etc/ld.so.cache", false, true}, {"/etc/localtime", false, true},
        {"/etc/gnutls", false, true},   {"/dev/urandom", false, true},
        {"/dev/null", true, true},
    };
    return sandbox_enter(SANDBOX_FRONTEND, paths, sandbox_add(paths, c->log.archive), e);
}

/* api_start waits for the server's own certificate, as long as the signer is away; a stop asked for
 * meanwhile has nothing to drain. So a thread waits for the signal from the start. */
static struct {
    atomic_bool serving;
    sem_t asked;
} stop;

static void *stop_wait(void *signals)
{
    int sig;
    sigwait(signals, &sig);
    if (!atomic_load(&stop.serving))
        _exit(EXIT_OK);
    sem_post(&stop.asked);
    return NULL;
}

/* Every thread made later inherits the blocked signals. */
static int stop_prepare(struct err *e)
{
    static sigset_t signals;
    pthread_t thread;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    sem_init(&stop.asked, 0, 0);
    if (pthread_create(&thread, NULL, stop_wait, &signals) != 0)
        return err_set(e, ERR_INTERNAL, "thread", "cannot start a thread");
    pthread_detach(thread);
    return 0;
}

static void archives_look(const struct config *c)
{
    for (size_t i = 0; i < c->log.archive_count; i++)
        if (!tlog_archive_here(c->log.archive[i]))
            log_warn("an archive of the log cannot be read; what was moved to it is not served until it can be at a start",
                     "log.archive", c->log.archive[i], NULL);
}

/* The signer tells it, once it is there. */
static bool log_key(void *ra, char *dst, size_t cap)
{
    struct ca_snapshot s;
    ra_signer(ra, &s);
    return s.known && snprintf(dst, cap, "%s", s.vkey) < (int)cap;
}

/* Crash-only: what is being answered is given up, since it may be what was forbidden. */
static void store_is_older(void *arg, const struct err *why)
{
    (void)arg;
    log_err(LOG_ERROR, "frontend stops", why);
    _exit(mayflyd_exit_code(why));
}

static int frontend_serve(const struct mayflyd_role_args *a, struct config *c, struct err *e)
{
    char signer_socket[4096];
    struct ca_client *ca = NULL;
    struct ra *ra = NULL;
    struct audit *audit = NULL;
    struct store_age *age = NULL;
    struct api_server *api = NULL;
    struct api_options o = {.config = c, .listen_fd = FD_PUBLIC_LISTEN, .admin_fd = FD_ADMIN_LISTEN,
                            .admin_uid = a->peer.uid};
    config_signer_socket(c, signer_socket, sizeof signer_socket);
    archives_look(c);
    if (stop_prepare(e) < 0 || !(ca = ca_client_new(signer_socket, c->issue_timeout_ms, e)) ||
        ra_open(&ra, c, ca, e) < 0)
        return -1;
    const struct audit_options ao = {
        .index = c->audit_index, .log_dir = c->log.dir, .archive = c->log.archive, .vkey = log_key, .arg = ra, .log_number = c->log.number};
    if (audit_start(&audit, &ao, e) < 0)
        return -1;
    const struct store_age_options so = {
        .ra = ra, .audit = audit, .accept = a->accept_older_store, .older = store_is_older};
    if (store_age_start(&age, &so, e) < 0)
        return -1;
    o.ra = ra;
    o.audit = audit;
    o.age = age;
    if (api_start(&api, &o, e) < 0)
        return -1;
    atomic_store(&stop.serving, true);
    eventfd_write(FD_READY, 1);
    while (sem_wait(&stop.asked) < 0)
        ;
    log_info("draining", NULL);
    api_stop(api, DRAIN_MS);
    store_age_stop(age);
    audit_stop(audit);  /* nobody asks it any more */
    ra_stop(ra);        /* no new question to the signer */
    ca_client_free(ca); /* its pending callbacks end in ra */
    ra_close(ra);
    return 0;
}

int role_frontend(const struct mayflyd_role_args *a)
{
    umask(077);
    signal(SIGHUP, SIG_IGN); /* the parent's to hear */
    run_in_batches();
    give_memory_back();
    struct config *c = role_config(a, "frontend");
    if (!c)
        return EXIT_FATAL;
    struct err e = {0};
    if (key_setup(&e) < 0 || frontend_confine(a, c, &e) < 0 || frontend_serve(a, c, &e) < 0) {
        log_err(LOG_ERROR, "frontend stops", &e);
        return mayflyd_exit_code(&e);
    }
    config_free(c);
    return EXIT_OK;
}
