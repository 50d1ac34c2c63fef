/* What a witness keeps: one head a log, atomically replaced and durable, and evidence of forks. */
#include "tlog/witness_state.h"
#include "base/fileio.h"
#include "base/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define DASH "\xe2\x80\x94 "

static int path_of(char dst[TLOG_PATH_CAP], const char *dir, const char *name, struct err *e)
{
    int n = snprintf(dst, TLOG_PATH_CAP, "%s/%s", dir, name);
    return n > 0 && n < TLOG_PATH_CAP
               ? 0
               : err_set(e, ERR_CONFIG, "witness-state", "the state folder's path is too long");
}

static int head_path(char dst[TLOG_PATH_CAP], const struct tlog_witness *w,
                     const struct witnessed *log, struct err *e)
{
    char name[64];
    snprintf(name, sizeof name, "%s.head", log->hash);
    return path_of(dst, w->o.dir, name, e);
}

struct witnessed *witness_log(struct tlog_witness *w, const char *origin)
{
    for (size_t i = 0; i < w->log_count; i++)
        if (strcmp(w->log[i].origin, origin) == 0)
            return &w->log[i];
    return NULL;
}

/* --- storing ------------------------------------------------------------------------------------- */

/* The signed text, and of the signatures those by the log's own keys: what strangers may append is
 * not ours to keep. */
static void note_trim(const struct tlog_witness *w, const struct tlog_note *n, struct buf *out)
{
    buf_put(out, n->text.p, n->text.len);
    buf_str(out, "\n");
    for (size_t i = 0; i < n->sig_count; i++) {
        const struct tlog_note_sig *s = &n->sigs[i];
        bool known = false;
        for (size_t k = 0; k < w->o.log_count; k++)
            known |= memcmp(w->o.logs[k].id, s->id, sizeof s->id) == 0 &&
                     bytes_eq_str(s->name, w->o.logs[k].name);
        if (!known)
            continue;
        buf_str(out, DASH);
        buf_put(out, s->name.p, s->name.len);
        buf_str(out, " ");
        buf_put(out, s->blob64.p, s->blob64.len);
        buf_str(out, "\n");
    }
}

int witness_head_store(struct tlog_witness *w, struct witnessed *log, const struct tlog_note *n,
                       struct err *e)
{
    char path[TLOG_PATH_CAP];
    struct buf note;
    buf_init(&note, TLOG_NOTE_MAX);
    note_trim(w, n, &note);
    int rc = note.failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory for a head")
                         : head_path(path, w, log, e);
    if (rc == 0 && file_write_atomic(path, note.p, note.len, 0644, true, e) < 0)
        rc = tlog_io_err(e, "cannot write", path);
    if (rc < 0) {
        buf_free(&note);
        return -1;
    }
    buf_free(&log->note);
    log->note = note;
    log->head = n->checkpoint;
    return 0;
}

static void fork_say(const struct witnessed *log, const struct tlog_note *n, const char *kept)
{
    char size[24];
    snprintf(size, sizeof size, "%llu", (unsigned long long)n->checkpoint.size);
    log_error("FORK: this log has signed two different roots for one size: it shows different "
              "histories to different people; nothing it signs should be believed until its "
              "operator has explained it",
              "log", log->origin, "size", size, "evidence", kept, NULL);
}

/* Named by what was shown, so that showing it again, which anybody may who has it, writes nothing.
 * Another piece takes another signature of the log's. */
void witness_fork_keep(struct tlog_witness *w, struct witnessed *log, const struct tlog_note *n,
                       struct bytes note)
{
    char name[96], path[TLOG_PATH_CAP], hex[HEX_LEN(8) + 1];
    uint8_t hash[TLOG_HASH];
    struct buf b;
    struct err e = {0};
    tlog_sha256(hash, n->text.p, n->text.len);
    hex_encode(hex, hash, 8);
    snprintf(name, sizeof name, "fork-%s-%s.txt", log->hash, hex);
    if (path_of(path, w->o.dir, name, &e) == 0 && access(path, F_OK) == 0)
        return;
    if (log->forks >= TLOG_WITNESS_FORKS)
        return;
    buf_init(&b, 2 * TLOG_NOTE_MAX + 256);
    buf_str(&b, "Two checkpoints of one log, both signed by it, that contradict each other.\n\n");
    buf_put(&b, log->note.p, log->note.len);
    buf_str(&b, "\n");
    buf_put(&b, note.p, note.len);
    if (b.failed)
        err_set(&e, ERR_INTERNAL, "memory", "out of memory for evidence of a fork");
    else if (e.code == ERR_NONE)
        file_write_atomic(path, b.p, b.len, 0644, true, &e);
    log->forks++;
    fork_say(log, n, e.code == ERR_NONE ? path : "could not be kept");
    if (e.code != ERR_NONE)
        log_err(LOG_ERROR, "evidence of a fork is lost", &e);
    buf_free(&b);
}

/* --- start --------------------------------------------------------------------------------------- */

int tlog_witness_create(const char *dir, const struct tlog_vkey *self, struct err *e)
{
    char path[TLOG_PATH_CAP];
    struct buf b;
    if (file_mkdirs(dir, 0755, e) < 0 || path_of(path, dir, "vkey", e) < 0)
        return -1;
    if (access(path, F_OK) == 0)
        return err_set(e, ERR_EXISTS, "witness-state",
                       "%s is a witness's folder already; what it keeps must not be lost", dir);
    buf_init(&b, 1024);
    tlog_vkey_write(self, &b);
    buf_str(&b, "\n");
    int rc = b.failed ? err_set(e, ERR_INTERNAL, "memory", "out of memory")
                      : file_write_atomic(path, b.p, b.len, 0644, true, e);
    buf_free(&b);
    return rc;
}

int tlog_witness_vkey(struct tlog_vkey *self, const char *dir, struct err *e)
{
    char path[TLOG_PATH_CAP];
    struct buf b;
    memset(self, 0, sizeof *self);
    if (path_of(path, dir, "vkey", e) < 0)
        return -1;
    buf_init(&b, 1024);
    int rc = file_read(&b, path, 1024, e);
    if (rc < 0 && e->code == ERR_NOT_FOUND)
        err_set(e, ERR_NOT_FOUND, "witness-state",
                "%s is no witness's folder: make one with --init. Was there one? A witness that "
                "forgets its heads would cosign a fork",
                dir);
    if (rc == 0) {
        size_t len = b.len > 0 && b.p[b.len - 1] == '\n' ? b.len - 1 : b.len;
        rc = tlog_vkey_parse_witness(self, (const char *)b.p, len, e);
        if (rc < 0) {
            e->code = ERR_CORRUPT;
            err_wrap(e, "%s", path);
        }
    }
    buf_free(&b);
    return rc;
}

static int folder_lock(struct tlog_witness *w, struct err *e)
{
    w->lock_fd = open(w->o.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->lock_fd < 0)
        return err_errno(e, "witness-state", "cannot open %s", w->o.dir);
    if (flock(w->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return err_set(e, ERR_EXISTS, "witness-locked", "another witness works in %s", w->o.dir);
    return err_errno(e, "witness-state", "cannot lock %s", w->o.dir);
}

static int head_check(const struct tlog_witness *w, struct witnessed *log, struct err *e)
{
    struct tlog_note n;
    if (tlog_note_parse(&n, log->note.p, log->note.len, e) < 0)
        return -1;
    if (strcmp(n.checkpoint.origin, log->origin) != 0)
        return err_set(e, ERR_CORRUPT, "witness-state", "it is of another log");
    log->head = n.checkpoint;
    for (size_t i = 0; i < w->o.log_count; i++)
        if (strcmp(w->o.logs[i].name, log->origin) == 0 &&
            tlog_note_verify(&n, &w->o.logs[i], e) == 1)
            return 0;
    return err_set(e, ERR_CORRUPT, "witness-state",
                   "it is signed by no key that was given for this log (was the log's key replaced? "
                   "then give the old one too)");
}

/* A log that has no head yet has the empty tree's. */
static int head_load(struct tlog_witness *w, struct witnessed *log, struct err *e)
{
    char path[TLOG_PATH_CAP];
    merkle_empty(&log->head.root);
    if (head_path(path, w, log, e) < 0)
        return -1;
    int rc = file_read(&log->note, path, TLOG_NOTE_MAX, e);
    if (rc < 0 && e->code == ERR_NOT_FOUND) {
        err_clear(e);
        log_info("no head of this log yet", "log", log->origin, NULL);
        return 0;
    }
    if (rc == 0 && (rc = head_check(w, log, e)) < 0) {
        e->code = ERR_CORRUPT;
        snprintf(e->rule, sizeof e->rule, "witness-state");
        err_wrap(e, "the head that was kept of %.100s can not be believed; restore %s from a copy. "
                    "Reason",
                 log->origin, path);
    }
    return rc;
}

/* Evidence from earlier, counted; what a killed process left half-written, removed. */
static void folder_look(struct tlog_witness *w)
{
    DIR *d = opendir(w->o.dir);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.' && strstr(f->d_name, ".tmp-"))
            unlinkat(dirfd(d), f->d_name, 0);
        for (size_t i = 0; i < w->log_count; i++)
            w->log[i].forks += strncmp(f->d_name, "fork-", 5) == 0 &&
                               strncmp(f->d_name + 5, w->log[i].hash, HEX_LEN(8)) == 0;
    }
    if (d)
        closedir(d);
    for (size_t i = 0; i < w->log_count; i++)
        if (w->log[i].forks)
            log_warn("evidence is kept that this log has forked", "log", w->log[i].origin, "pieces",
                     log_num(w->log[i].forks), "folder", w->o.dir, NULL);
}

static int logs_fill(struct tlog_witness *w, struct err *e)
{
    const struct tlog_witness_options *o = &w->o;
    if (o->log_count == 0 || o->log_count > TLOG_WITNESS_LOGS)
        return err_set(e, ERR_CONFIG, "witness-state", "a witness has 1 to %d logs",
                       TLOG_WITNESS_LOGS);
    for (size_t i = 0; i < o->log_count; i++) {
        uint8_t hash[TLOG_HASH];
        if (witness_log(w, o->logs[i].name))
            continue;
        struct witnessed *log = &w->log[w->log_count++];
        log->origin = o->logs[i].name;
        tlog_sha256(hash, log->origin, strlen(log->origin));
        hex_encode(log->hash, hash, 8);
        pthread_mutex_init(&log->lock, NULL);
        buf_init(&log->note, TLOG_NOTE_MAX);
        if (head_load(w, log, e) < 0)
            return -1;
    }
    return 0;
}

/* The folder is this witness's: heads of another would be taken for what this one cosigned. */
static int owner_check(const struct tlog_witness *w, struct err *e)
{
    struct tlog_vkey made;
    if (tlog_witness_vkey(&made, w->o.dir, e) < 0)
        return -1;
    bool same = strcmp(made.name, w->o.self->name) == 0 &&
                memcmp(made.pub, w->o.self->pub, sizeof made.pub) == 0;
    tlog_vkey_free(&made);
    return same ? 0
                : err_set(e, ERR_CONFIG, "witness-state",
                          "%s belongs to another witness (its file vkey names another key)",
                          w->o.dir);
}

int tlog_witness_open(struct tlog_witness **out, const struct tlog_witness_options *o,
                      struct err *e)
{
    *out = NULL;
    struct tlog_witness *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for a witness");
    w->o = *o;
    w->lock_fd = -1;
    if (owner_check(w, e) < 0 || folder_lock(w, e) < 0 || logs_fill(w, e) < 0) {
        tlog_witness_close(w);
        return -1;
    }
    folder_look(w);
    *out = w;
    return 0;
}

void tlog_witness_close(struct tlog_witness *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->log_count; i++) {
        pthread_mutex_destroy(&w->log[i].lock);
        buf_free(&w->log[i].note);
    }
    if (w->lock_fd >= 0)
        close(w->lock_fd);
    free(w);
}
