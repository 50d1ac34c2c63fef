/* The notary: offers each published head of the log to the configured witnesses, all at once, and
 * brings what they cosign to the signer, which verifies it and publishes it, and which waits for it
 * where a quorum is configured. It holds no secret, reads the published log, asks, and answers nobody.
 * The signer tells it of each head; the published log is looked at besides, so that a word that is
 * lost costs no more than LOOK_MS.
 *
 * What it remembers is what each witness has, and that is asked again after a start. What decides is
 * the published checkpoint: whose cosignature is missing there is asked, or handed over again. */
#include "base/clock.h"
#include "base/key.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ca/cacert.h"
#include "ca/msg.h"
#include "ca/witnesses.h"
#include "cmd/mayflyd.h"
#include "cmd/mayflyd_notary.h"
#include "tlog/proof.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS 200        /* how often the published checkpoint is looked at */
#define HAND_AGAIN_MS 2000 /* what the signer took and did not publish by then */

struct notary {
    const struct config *config;
    struct tlog_vkey log_key;
    struct witnesses keys;
    struct asked asked[CONFIG_WITNESSES_MAX];
    size_t count;
    CURLM *multi;
    int stop_fd;

    struct tlog_reader *log; /* at the published head; NULL: none could be read yet */
    struct timespec seen;    /* of the checkpoint's file as it was read */
    ino_t seen_ino;
    bool head_bad;           /* said */

    int signer; /* connection; -1: none */
    struct ipc_reader *reader;
    struct buf frame;
    bool signer_away; /* said */
    int64_t reach_at; /* not tried again before */
};

/* --- the published head -------------------------------------------------------------------------- */

static void head_take(struct notary *n, struct tlog_reader *log)
{
    const struct bytes text = tlog_reader_note(log);
    struct tlog_note note;
    struct err e;
    uint64_t time;
    if (tlog_note_parse(&note, text.p, text.len, &e) < 0) /* the reader has done so */
        return;
    for (size_t i = 0; i < n->count; i++)
        n->asked[i].shown = tlog_cosign_find(&note, n->asked[i].key, &time, &e) > 0;
    tlog_reader_close(n->log);
    n->log = log;
    if (n->head_bad)
        log_info("the published log can be read again", NULL);
    n->head_bad = false;
}

/* Reads the checkpoint when its file is another than the last time. */
static void head_look(struct notary *n)
{
    char path[4200];
    struct stat st;
    struct tlog_reader *log;
    struct err e = {0};
    snprintf(path, sizeof path, "%s/checkpoint", n->config->log.dir);
    if (stat(path, &st) < 0 || (st.st_ino == n->seen_ino && st.st_mtim.tv_sec == n->seen.tv_sec &&
                                st.st_mtim.tv_nsec == n->seen.tv_nsec))
        return;
    n->seen_ino = st.st_ino;
    n->seen = st.st_mtim;
    const struct tlog_place at = {.dir = n->config->log.dir, .archive = n->config->log.archive};
    if (tlog_reader_open_at(&log, &at, &n->log_key, &e) == 0) {
        head_take(n, log);
    } else {
        if (!n->head_bad)
            log_err(LOG_WARN, "the published log can not be read; no head is offered", &e);
        n->head_bad = true;
        n->seen_ino = 0; /* looked at again */
    }
}

/* --- the signer ---------------------------------------------------------------------------------- */

static void signer_drop(struct notary *n)
{
    if (n->signer >= 0)
        close(n->signer);
    ipc_reader_free(n->reader);
    n->signer = -1;
    n->reader = NULL;
}

/* A signer that was not asked yet may be a new one, which has heard of no cosignature. */
static void signer_reach(struct notary *n)
{
    char path[4096];
    struct err e = {0};
    int64_t now = clock_mono_ms();
    if (n->signer >= 0 || now < n->reach_at)
        return;
    n->reach_at = now + LOOK_MS;
    config_notary_socket(n->config, path, sizeof path);
    n->signer = ipc_connect(path, &e);
    if (n->signer >= 0 && !(n->reader = ipc_reader_new(&e)))
        signer_drop(n);
    if (n->signer < 0 && !n->signer_away)
        log_err(LOG_WARN, "cosignatures wait for the signer", &e);
    n->signer_away = n->signer < 0;
    if (n->signer_away)
        return;
    n->seen_ino = 0;
    for (size_t i = 0; i < n->count; i++)
        n->asked[i].handed_at = 0;
}

/* Handed over again later when it does not come to be published. */
static void hand(struct notary *n, struct asked *w)
{
    const struct ca_cosign m = {.size = w->cosigned.size,
                                .root = {w->cosigned.root.b, TLOG_HASH},
                                .key_id = {w->key->id, sizeof w->key->id},
                                .time = w->cosignature.time,
                                .sig = {w->cosignature.sig, sizeof w->cosignature.sig}};
    struct err e = {0};
    bool sent;
    if (n->signer < 0)
        return;
    w->handed_at = clock_mono_ms();
    ca_cosign_write(&n->frame, (uint64_t)(w - n->asked), &m);
    if (ipc_try_send(n->signer, &n->frame, &sent, &e) < 0)
        signer_drop(n);
}

static void signer_said(struct notary *n, struct bytes frame)
{
    struct ipc_frame f;
    struct err why = {0}, e = {0};
    if (ipc_frame_parse(&f, frame.p, frame.len, &e) < 0 || f.id >= n->count) {
        signer_drop(n);
        return;
    }
    if (f.type == CA_HEAD)
        n->seen_ino = 0; /* looked at, even when the file's time is the same */
    if (f.type != CA_REFUSED || ca_refused_parse(&why, f.body, &e) < 0)
        return;
    struct asked *w = &n->asked[f.id];
    w->have = false;
    if (strcmp(why.rule, "cosign-stale") != 0) /* there is a newer head, and it is asked for */
        asked_failed(w, &why);
}

static void signer_listen(struct notary *n)
{
    struct bytes frames[IPC_BATCH];
    struct err e = {0};
    int got = n->signer >= 0 ? ipc_recv(n->reader, n->signer, 0, frames, &e) : 0;
    for (int i = 0; i < got && n->signer >= 0; i++)
        signer_said(n, frames[i]);
    if (got < 0)
        signer_drop(n);
}

/* --- the loop ------------------------------------------------------------------------------------ */

static bool same(const struct tlog_checkpoint *a, const struct tlog_checkpoint *b)
{
    return a->size == b->size && memcmp(&a->root, &b->root, sizeof a->root) == 0;
}

static void step(struct notary *n, struct asked *w)
{
    int64_t now = clock_mono_ms();
    struct err e = {0};
    if (w->busy || w->shown || !n->log)
        return;
    if (w->have && same(&w->cosigned, tlog_reader_head(n->log))) {
        if (w->handed_at == 0 || now - w->handed_at >= HAND_AGAIN_MS)
            hand(n, w);
        return;
    }
    if (now >= w->next_try && asked_ask(w, n->multi, n->log, &e) < 0)
        asked_failed(w, &e);
}

static void collect(struct notary *n)
{
    int left;
    curl_multi_perform(n->multi, &left);
    for (CURLMsg *m; (m = curl_multi_info_read(n->multi, &left));) {
        struct asked *w;
        CURLcode how = m->data.result;
        if (m->msg != CURLMSG_DONE || curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &w) != CURLE_OK)
            continue;
        curl_multi_remove_handle(n->multi, m->easy_handle);
        asked_answered(w, how);
        step(n, w); /* handed over, or asked again from the size it has, at once */
    }
}

static void run(struct notary *n)
{
    for (;;) {
        struct curl_waitfd fds[] = {{.fd = n->stop_fd, .events = CURL_WAIT_POLLIN},
                                    {.fd = n->signer, .events = CURL_WAIT_POLLIN}};
        signer_reach(n);
        head_look(n);
        for (size_t i = 0; i < n->count; i++)
            step(n, &n->asked[i]);
        collect(n);
        fds[1].fd = n->signer;
        curl_multi_poll(n->multi, fds, n->signer >= 0 ? 2 : 1, LOOK_MS, NULL);
        if (fds[0].revents)
            return;
        signer_listen(n);
    }
}

/* --- start --------------------------------------------------------------------------------------- */

static int confine(const struct config *c, struct err *e)
{
    struct sandbox_path paths[SANDBOX_PATHS_MAX] = {
        {c->log.dir, false, false},        {c->ca.dir, false, false},
        {c->run_dir, false, false},        {"/usr", false, true},
        {"/lib", false, true},             {"/lib64", false, true},
        {"/etc/resolv.conf", false, true}, {"/run/systemd/resolve", false, true},
        {"/etc/hosts", false, true},       {"/etc/host.conf", false, true},
        {"/etc/nsswitch.conf", false, true}, {"/etc/gai.conf", false, true},
        {"/etc/services", false, true},    {"/etc/ssl", false, true},
    };
    return sandbox_enter(SANDBOX_NOTARY, paths, sandbox_add(paths, c->log.archive), e);
}

static int take_signals(struct notary *n, struct err *e)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    n->stop_fd = signalfd(-1, &stop, SFD_CLOEXEC);
    return n->stop_fd < 0 ? err_errno(e, "signals", "cannot make a signalfd") : 0;
}

/* The log's key as the issuing certificate binds it. */
static int log_key_load(struct notary *n, struct err *e)
{
    struct cacert issuing;
    if (cacert_load(&issuing, n->config->ca.dir, "issuing.pem", e) < 0)
        return -1;
    return tlog_binding_from_cert(&n->log_key, issuing.der, issuing.len, e);
}

static int witnesses_open(struct notary *n, struct err *e)
{
    if (witnesses_load(&n->keys, n->config, e) < 0)
        return -1;
    if (!(n->multi = curl_multi_init()))
        return err_set(e, ERR_INTERNAL, "curl", "libcurl could not be set up");
    for (; n->count < n->keys.count; n->count++)
        if (asked_init(&n->asked[n->count], &n->config->witnesses.list[n->count], &n->keys.key[n->count],
                       n->config->witnesses.timeout_ms, e) < 0)
            return -1;
    return 0;
}

static void notary_close(struct notary *n)
{
    for (size_t i = 0; i < n->count; i++)
        asked_free(&n->asked[i]);
    curl_multi_cleanup(n->multi);
    signer_drop(n);
    tlog_reader_close(n->log);
    witnesses_free(&n->keys);
    tlog_vkey_free(&n->log_key);
    buf_free(&n->frame);
}

int role_notary(const struct mayflyd_role_args *a)
{
    umask(077);
    struct config *c = role_config(a, "notary");
    if (!c)
        return EXIT_FATAL;
    static struct notary n;
    struct err e = {0};
    n.config = c;
    n.signer = -1;
    buf_init(&n.frame, IPC_FRAME_MAX);
    int code = EXIT_OK;
    if (take_signals(&n, &e) < 0 || key_setup(&e) < 0 || curl_global_init(CURL_GLOBAL_SSL) != CURLE_OK ||
        role_become(a, &e) < 0 || confine(c, &e) < 0 || log_key_load(&n, &e) < 0 || witnesses_open(&n, &e) < 0) {
        log_err(LOG_ERROR, "notary stops", &e);
        code = mayflyd_exit_code(&e);
    } else {
        eventfd_write(FD_READY, 1);
        run(&n);
    }
    for (size_t i = 0; i < n.count; i++)
        if (n.asked[i].busy) /* libcurl would wait for a name that is being resolved */
            _exit(code);
    notary_close(&n);
    config_free(c);
    return code;
}
