/* The two roles. Each opens what it needs, drops to its own user, confines itself, and only then
 * reads its first byte of input. */
#include "api/server.h"
#include "base/key.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ca/signer.h"
#include "cmd/mayflyd.h"
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAIN_MS 5000

int mayflyd_exit_code(const struct err *e)
{
    if (strcmp(e->rule, "hsm-pin") == 0)
        return EXIT_BAD_PIN;
    switch (e->code) {
    case ERR_CONFIG:
    case ERR_CORRUPT:
    case ERR_EXISTS:
    case ERR_NOT_FOUND: return EXIT_FATAL;
    default:
        /* A key that may not sign will not get better by starting again. */
        return strncmp(e->rule, "hsm-attribute", 13) == 0 || strncmp(e->rule, "hsm-key", 7) == 0
                   ? EXIT_FATAL
                   : EXIT_CRASH;
    }
}

/* When the parent dies its children must not go on unseen. Set again after a change of user,
 * which clears it. */
static void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
}

/* A thread that wakes does not push out the one that runs: under load a request waits microseconds
 * longer, batches grow and switches are fewer, a fifth less CPU a certificate in all. An idle core
 * takes a lone request as before. Not being granted it is no trouble. */
static void run_in_batches(void)
{
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
}

static struct config *role_config(const struct mayflyd_role_args *a, const char *role)
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
    die_with_parent();
    run_in_batches();
    struct config *c = role_config(a, "signer");
    if (!c)
        return EXIT_FATAL;
    struct signer_options o = {.config = c,
                               .listen_fd = FD_SIGNER_LISTEN,
                               .peer_uid = a->peer.uid,
                               .uid = a->self.uid,
                               .gid = a->self.gid,
                               .first_start = a->first_start};
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

static int frontend_confine(const struct mayflyd_role_args *a, const struct config *c, struct err *e)
{
    if (a->self.uid != (uid_t)-1 && sandbox_drop(a->self.uid, a->self.gid, e) < 0)
        return -1;
    die_with_parent();
    char store_dir[4096], signer_socket[4096];
    snprintf(store_dir, sizeof store_dir, "%s", c->store_path);
    char *slash = strrchr(store_dir, '/');
    if (slash)
        *slash = 0;
    config_signer_socket(c, signer_socket, sizeof signer_socket);
    const struct sandbox_path paths[] = {
        {store_dir, true, false},       {c->log.dir, false, false},
        {c->run_dir, false, false},     {"/usr", false, true},
        {"/lib", false, true},          {"/lib64", false, true},
        {"/etc/ld.so.cache", false, true}, {"/etc/localtime", false, true},
        {"/etc/gnutls", false, true},   {"/dev/urandom", false, true},
        {"/dev/null", true, true},
    };
    return sandbox_enter(SANDBOX_FRONTEND, paths, sizeof paths / sizeof *paths, e);
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

static int frontend_serve(const struct mayflyd_role_args *a, struct config *c, struct err *e)
{
    char signer_socket[4096];
    struct ca_client *ca = NULL;
    struct ra *ra = NULL;
    struct api_server *api = NULL;
    struct api_options o = {.config = c, .listen_fd = FD_PUBLIC_LISTEN, .admin_fd = FD_ADMIN_LISTEN,
                            .admin_uid = a->peer.uid};
    config_signer_socket(c, signer_socket, sizeof signer_socket);
    if (stop_prepare(e) < 0 || !(ca = ca_client_new(signer_socket, c->issue_timeout_ms, e)) ||
        ra_open(&ra, c, ca, e) < 0)
        return -1;
    o.ra = ra;
    if (api_start(&api, &o, e) < 0)
        return -1;
    atomic_store(&stop.serving, true);
    while (sem_wait(&stop.asked) < 0)
        ;
    log_info("draining", NULL);
    api_stop(api, DRAIN_MS);
    ra_stop(ra);        /* no new question to the signer */
    ca_client_free(ca); /* its pending callbacks end in ra */
    ra_close(ra);
    return 0;
}

int role_frontend(const struct mayflyd_role_args *a)
{
    umask(077);
    die_with_parent();
    run_in_batches();
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
