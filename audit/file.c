/* The index's file: whose it is, its tables and statements, throwing it away. */
#include "audit/internal.h"
#include "base/fileio.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define APPLICATION_ID 0x4d594155 /* "MYAU" */
#define VERSION 3 /* 2: entry 0 is "null"; 3: JWT-SVIDs */
#define PATH_CAP 4096
#define CACHE_NEAR "512" /* KiB: a daemon that follows its log keeps its size; readers do with SQLite's 2 MB */
#define CACHE_FAR "32768" /* while millions of entries are caught up with */

#define ROWS_8 "(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?)"
#define ROWS_64 ROWS_8 "," ROWS_8 "," ROWS_8 "," ROWS_8 "," ROWS_8 "," ROWS_8 "," ROWS_8 "," ROWS_8

static const char schema[] =
    "CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), vkey TEXT NOT NULL, salt BLOB NOT NULL,"
    " size INTEGER NOT NULL, leaf BLOB NOT NULL, high INTEGER NOT NULL, lag INTEGER NOT NULL) STRICT;"
    "CREATE TABLE marks (word INTEGER, block INTEGER, mask INTEGER NOT NULL, PRIMARY KEY (word, block))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE clock (high INTEGER, first INTEGER, PRIMARY KEY (high, first)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE tallies (what INTEGER, at INTEGER, n INTEGER NOT NULL, PRIMARY KEY (what, at))"
    " STRICT, WITHOUT ROWID;";

const char *const audit_sql[Q_COUNT] = {
    [Q_BEGIN] = "BEGIN",
    [Q_COMMIT] = "COMMIT",
    [Q_STATE] = "SELECT size, leaf, high, lag, salt, vkey FROM log WHERE one = 1",
    [Q_OLDER] = "SELECT block, mask FROM marks WHERE word = ?1 AND block <= ?2 ORDER BY block DESC",
    [Q_NEWER] = "SELECT block, mask FROM marks WHERE word = ?1 AND block >= ?2 ORDER BY block",
    [Q_CLOCK_FIRST] = "SELECT first FROM clock WHERE high >= ?1 ORDER BY high, first LIMIT 1",
    [Q_TALLY_READ] = "SELECT at, n FROM tallies WHERE what = ?1 AND at >= ?2",
    [Q_MARK_ADD_MANY] = "INSERT INTO marks (word, block, mask) VALUES " ROWS_64,
    [Q_MARK_MERGE] = "INSERT INTO marks (word, block, mask) VALUES (?1, ?2, ?3)"
                     " ON CONFLICT (word, block) DO UPDATE SET mask = mask | excluded.mask",
    [Q_CLOCK_ADD] = "INSERT OR IGNORE INTO clock (high, first) VALUES (?1, ?2)",
    [Q_TALLY_ADD] = "INSERT INTO tallies (what, at, n) VALUES (?1, ?2, ?3)"
                    " ON CONFLICT (what, at) DO UPDATE SET n = n + excluded.n",
    [Q_STATE_SET] = "UPDATE log SET size = ?1, leaf = ?2, high = ?3, lag = ?4 WHERE one = 1",
};

int audit_file_error(struct audit_index *x, const char *what, struct err *e)
{
    int code = x->db ? sqlite3_extended_errcode(x->db) : SQLITE_NOMEM;
    const char *why = x->db ? sqlite3_errmsg(x->db) : "out of memory";
    switch (code & 0xff) {
    case SQLITE_FULL:
        return err_set(e, ERR_UNAVAILABLE, "audit-disk",
                       "cannot %s: the disk that holds the audit index %s is full. Make room; or delete the index, it is "
                       "made again from the log",
                       what, x->o.path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* a table is not as it was made */
        x->damaged = true;
        return err_set(e, ERR_UNAVAILABLE, "audit-damaged",
                       "the audit index %s is damaged (%s); it is made again from the log, so try again soon", x->o.path, why);
    case SQLITE_INTERRUPT:
        return err_set(e, ERR_UNAVAILABLE, "audit-slow", "looking into the audit index took too long");
    default:
        return err_set(e, ERR_UNAVAILABLE, "audit-io", "cannot %s in the audit index %s: %s", what, x->o.path, why);
    }
}

int audit_file_run(struct audit_index *x, enum audit_sql q, const char *what, struct err *e)
{
    sqlite3_stmt *s = x->sql[q];
    int rc = sqlite3_step(s);
    int ret = rc == SQLITE_DONE ? 0 : audit_file_error(x, what, e);
    sqlite3_reset(s);
    return ret;
}

void audit_file_rollback(struct audit_index *x)
{
    if (x->db && !sqlite3_get_autocommit(x->db))
        sqlite3_exec(x->db, "ROLLBACK", NULL, NULL, NULL);
}

static int execute(struct audit_index *x, const char *sql, const char *what, struct err *e)
{
    return sqlite3_exec(x->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : audit_file_error(x, what, e);
}

/* --- whose file it is ------------------------------------------------------------------------------ */

enum whose { FILE_NONE, FILE_EMPTY, FILE_OURS, FILE_OTHER_DATABASE, FILE_UNKNOWN };

/* From its first bytes (SQLite's file format §1.3), since SQLite must not be asked to mend what is
 * not ours. */
static enum whose file_whose(const char *path)
{
    uint8_t h[100];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? FILE_NONE : FILE_UNKNOWN;
    ssize_t n = read(fd, h, sizeof h);
    close(fd);
    if (n == 0)
        return FILE_EMPTY;
    if (n < (ssize_t)sizeof h || memcmp(h, "SQLite format 3", 16) != 0)
        return FILE_UNKNOWN;
    uint32_t application = (uint32_t)h[68] << 24 | (uint32_t)h[69] << 16 | (uint32_t)h[70] << 8 | h[71];
    return application == APPLICATION_ID ? FILE_OURS : FILE_OTHER_DATABASE;
}

static void file_remove(const char *path, const char *suffix)
{
    char name[PATH_CAP];
    if (snprintf(name, sizeof name, "%s%s", path, suffix) < (int)sizeof name)
        unlink(name);
}

/* Makes way for a new file. Only what is known to be an index is deleted. */
static int file_clear(const char *path, struct err *e)
{
    char aside[PATH_CAP];
    enum whose whose = file_whose(path);
    if (whose == FILE_OTHER_DATABASE)
        return err_set(e, ERR_CONFIG, "audit-foreign",
                       "%s is a database of another program, and stays as it is; name another file for the audit index", path);
    file_remove(path, "-wal");
    file_remove(path, "-shm");
    if (whose == FILE_UNKNOWN) {
        snprintf(aside, sizeof aside, "%s.damaged", path);
        if (rename(path, aside) < 0)
            return err_errno(e, "audit-io", "cannot move %s, which is no audit index, to %s.damaged", path, path);
    } else if (whose != FILE_NONE && unlink(path) < 0) {
        return err_errno(e, "audit-io", "cannot remove the audit index %s", path);
    }
    return 0;
}

static int file_make(const char *path, struct err *e)
{
    char dir[PATH_CAP];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash && slash != dir) {
        *slash = 0;
        if (file_mkdirs(dir, 0700, e) < 0)
            return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return err_errno(e, "audit-io", "cannot make the audit index %s", path);
    close(fd);
    return 0;
}

/* --- opening ------------------------------------------------------------------------------------------ */

static void file_close(struct audit_index *x)
{
    for (size_t i = 0; i < Q_COUNT; i++) {
        sqlite3_finalize(x->sql[i]);
        x->sql[i] = NULL;
    }
    sqlite3_close(x->db);
    x->db = NULL;
}

/* SQLite keeps a -wal as long as anybody has the file open for writing. When there is none, and nobody
 * is about to begin, a reader takes the file as it is, and leaves no file of his own behind. */
static int file_connect(struct audit_index *x, struct err *e)
{
    char uri[PATH_CAP * 3 + 64], *p = uri;
    struct stat st;
    int flags = x->o.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    p += sprintf(p, "file:");
    for (const char *s = x->o.path; *s && p < uri + PATH_CAP * 3; s++)
        p += sprintf(p, strchr("?#%", *s) ? "%%%02x" : "%c", (unsigned char)*s);
    char wal[PATH_CAP];
    snprintf(wal, sizeof wal, "%s-wal", x->o.path);
    if (x->o.read_only && !x->o.live && stat(wal, &st) < 0)
        sprintf(p, "?immutable=1");
    if (sqlite3_open_v2(uri, &x->db, flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return audit_file_error(x, "open", e);
    if (stat(x->o.path, &st) == 0) {
        x->dev = st.st_dev;
        x->ino = st.st_ino;
    }
    sqlite3_busy_timeout(x->db, 2000);
    sqlite3_extended_result_codes(x->db, 1);
    sqlite3_db_config(x->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(x->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return execute(x, "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY", "open", e);
}

/* synchronous=NORMAL: a power cut may cost the last seconds, which are indexed again. */
static int file_set_up(struct audit_index *x, struct err *e)
{
    x->cache_far = false;
    return execute(x,
                   "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-" CACHE_NEAR
                   "; PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit=16777216",
                   "open", e);
}

int audit_file_cache(struct audit_index *x, bool far, struct err *e)
{
    if (far == x->cache_far)
        return 0;
    x->cache_far = far;
    return execute(x, far ? "PRAGMA cache_size=-" CACHE_FAR : "PRAGMA cache_size=-" CACHE_NEAR, "open", e);
}

static int file_prepare(struct audit_index *x, struct err *e)
{
    size_t n = x->o.read_only ? Q_MARK_ADD_MANY : Q_COUNT;
    for (size_t i = 0; i < n; i++)
        if (sqlite3_prepare_v3(x->db, audit_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &x->sql[i], NULL) != SQLITE_OK)
            return audit_file_error(x, "open", e);
    return 0;
}

static int file_begin(struct audit_index *x, struct err *e)
{
    char pragmas[128];
    struct buf vkey;
    sqlite3_stmt *q = NULL;
    int ret = -1;
    buf_init(&vkey, 1024);
    tlog_vkey_write(x->o.vkey, &vkey);
    snprintf(pragmas, sizeof pragmas, "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION_ID, VERSION);
    if (RAND_bytes(x->salt, sizeof x->salt) != 1 || !buf_cstr(&vkey))
        err_set(e, ERR_INTERNAL, "memory", "no random bytes or no memory for the audit index");
    else if (execute(x, pragmas, "make its tables", e) == 0 && execute(x, schema, "make its tables", e) == 0 &&
             sqlite3_prepare_v2(x->db, "INSERT INTO log VALUES (1, ?1, ?2, 0, x'', 0, 0)", -1, &q, NULL) == SQLITE_OK) {
        sqlite3_bind_text(q, 1, buf_cstr(&vkey), -1, SQLITE_STATIC);
        sqlite3_bind_blob(q, 2, x->salt, sizeof x->salt, SQLITE_STATIC);
        ret = sqlite3_step(q) == SQLITE_DONE ? 0 : audit_file_error(x, "make its tables", e);
    }
    sqlite3_finalize(q);
    buf_free(&vkey);
    return ret;
}

int audit_file_state(struct audit_index *x, struct err *e)
{
    sqlite3_stmt *q = x->sql[Q_STATE];
    struct audit_state *s = &x->state;
    int ret = 0;
    if (sqlite3_step(q) == SQLITE_ROW) {
        *s = (struct audit_state){.size = (uint64_t)sqlite3_column_int64(q, 0),
                                  .high = sqlite3_column_int64(q, 2),
                                  .lag = sqlite3_column_int64(q, 3)};
        if (sqlite3_column_bytes(q, 1) == TLOG_HASH)
            memcpy(s->leaf, sqlite3_column_blob(q, 1), TLOG_HASH);
        if (sqlite3_column_bytes(q, 4) == AUDIT_SALT)
            memcpy(x->salt, sqlite3_column_blob(q, 4), AUDIT_SALT);
    } else {
        ret = audit_file_error(x, "read", e);
    }
    sqlite3_reset(q);
    return ret;
}

/* NULL: the file is fit for use. Else why it is not. */
static const char *file_unfit(struct audit_index *x, struct err *e)
{
    sqlite3_stmt *q = NULL;
    struct buf vkey;
    const char *why = "it is damaged";
    if (sqlite3_prepare_v2(x->db, "PRAGMA user_version", -1, &q, NULL) != SQLITE_OK || sqlite3_step(q) != SQLITE_ROW) {
        sqlite3_finalize(q);
        return why;
    }
    int version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    if (version != VERSION)
        return "another version of Mayfly made it";
    if (file_prepare(x, e) < 0 || audit_file_state(x, e) < 0)
        return why;
    buf_init(&vkey, 1024);
    tlog_vkey_write(x->o.vkey, &vkey);
    q = x->sql[Q_STATE];
    if (sqlite3_step(q) == SQLITE_ROW && buf_cstr(&vkey)) {
        const char *of = (const char *)sqlite3_column_text(q, 5);
        why = of && strcmp(of, buf_cstr(&vkey)) == 0 ? NULL : "it belongs to another log, or to one with another key";
    }
    sqlite3_reset(q);
    buf_free(&vkey);
    return why;
}

int audit_file_renew(struct audit_index *x, struct err *e)
{
    file_close(x);
    x->state = (struct audit_state){0};
    x->damaged = x->compared = false;
    memset(&x->seen, 0, sizeof x->seen);
    audit_marks_clear(&x->marks);
    x->tallies_count = 0;
    if (file_clear(x->o.path, e) < 0 || file_make(x->o.path, e) < 0 || file_connect(x, e) < 0 ||
        execute(x, "BEGIN IMMEDIATE", "make its tables", e) < 0)
        return -1;
    if (file_begin(x, e) < 0) {
        audit_file_rollback(x);
        return -1;
    }
    /* Only then a write-ahead log: the file itself must say whose it is, file_whose reads nothing else. */
    return execute(x, "COMMIT", "make its tables", e) < 0 || file_set_up(x, e) < 0 ? -1 : file_prepare(x, e);
}

static int open_for_writing(struct audit_index *x, struct err *e)
{
    enum whose whose = file_whose(x->o.path);
    const char *why = NULL;
    if (whose == FILE_NONE || whose == FILE_EMPTY)
        return audit_file_renew(x, e);
    if (whose != FILE_OURS)
        why = "it is damaged";
    else if (file_connect(x, e) < 0 || file_set_up(x, e) < 0 || (why = file_unfit(x, e)) != NULL) {
        if (!why && !x->damaged)
            return -1;
        why = why ? why : "it is damaged";
    }
    if (!why)
        return 0;
    log_warn("the audit index is made again", "file", x->o.path, "why", why, NULL);
    return audit_file_renew(x, e);
}

static int open_for_reading(struct audit_index *x, struct err *e)
{
    enum whose whose = file_whose(x->o.path);
    const char *why = "it is no index";
    if (whose == FILE_NONE || whose == FILE_EMPTY)
        return err_set(e, ERR_NOT_FOUND, "audit-none", "there is no audit index %s yet", x->o.path);
    if (whose == FILE_OURS && file_connect(x, e) == 0 && !(why = file_unfit(x, e)))
        return 0;
    return err_set(e, ERR_UNAVAILABLE, "audit-stale", "the audit index %s cannot be used: %s", x->o.path,
                   why ? why : "it is damaged");
}

int audit_index_open(struct audit_index **out, const struct audit_index_options *o, struct err *e)
{
    *out = NULL;
    if (strlen(o->path) + 32 > PATH_CAP)
        return err_set(e, ERR_CONFIG, "audit-io", "the path of the audit index is too long: %.100s…", o->path);
    struct audit_index *x = calloc(1, sizeof *x);
    if (!x)
        return err_set(e, ERR_INTERNAL, "memory", "out of memory for the audit index");
    x->o = *o;
    if ((o->read_only ? open_for_reading : open_for_writing)(x, e) < 0) {
        audit_index_close(x);
        return -1;
    }
    *out = x;
    return 0;
}

void audit_index_close(struct audit_index *x)
{
    if (!x)
        return;
    file_close(x);
    free(x->marks.v);
    free(x);
}

int audit_index_size(struct audit_index *x, uint64_t *size, struct err *e)
{
    if (audit_file_state(x, e) < 0)
        return -1;
    *size = x->state.size;
    return 0;
}

bool audit_index_in_place(const struct audit_index *x)
{
    struct stat st;
    return stat(x->o.path, &st) == 0 && st.st_dev == x->dev && st.st_ino == x->ino && file_whose(x->o.path) == FILE_OURS;
}
