/* The file: opening, checking, transactions. What stands in it: store_sql.c. */
#include "ra/store_parts.h"
#include "base/fileio.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define APPLICATION_ID 0x4d59464c /* "MYFL" */
#define SHRINK_PAGES 256    /* given back a round, at most */
#define SHRINK_FROM 16      /* fewer free pages are kept for what comes next */

static const char schema[] =
    "CREATE TABLE entries (id TEXT PRIMARY KEY, spiffe_id TEXT NOT NULL UNIQUE, parent TEXT NOT NULL,"
    " selectors TEXT NOT NULL, dns TEXT NOT NULL, ttl INTEGER NOT NULL, revision INTEGER NOT NULL,"
    " created INTEGER NOT NULL, updated INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE tokens (hash BLOB PRIMARY KEY, spiffe_id TEXT, entry TEXT NOT NULL, selectors TEXT NOT NULL,"
    " created INTEGER NOT NULL, expires INTEGER NOT NULL, spent INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE sessions (id TEXT PRIMARY KEY, thumbprint TEXT NOT NULL UNIQUE, spki BLOB NOT NULL,"
    " created INTEGER NOT NULL, deactivated INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE authorizations (id TEXT PRIMARY KEY,"
    " session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE, spiffe_id TEXT NOT NULL,"
    " entry TEXT NOT NULL,"
    " kind INTEGER NOT NULL, proves INTEGER NOT NULL, selectors TEXT NOT NULL, salt BLOB NOT NULL,"
    " evidence BLOB NOT NULL, validated INTEGER NOT NULL, expires INTEGER NOT NULL,"
    " UNIQUE (session, spiffe_id)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, type INTEGER NOT NULL, body BLOB NOT NULL) STRICT;";
/* What each version has beside the one before; a new file goes through all of them. */
static const struct {
    int version;
    const char *sql;
} steps[] = {
    /* a revocation's id is the one that its row of the outbox had */
    {3, "CREATE TABLE revocations (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, by INTEGER NOT NULL,"
        " value TEXT NOT NULL, reason INTEGER NOT NULL, actor TEXT NOT NULL, comment TEXT NOT NULL, session BLOB,"
        " key BLOB, log_index INTEGER) STRICT"},
    {4, "ALTER TABLE entries ADD COLUMN auditor INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE authorizations ADD COLUMN requester TEXT NOT NULL DEFAULT ''"},
    /* the newest change that the log has been told of; -1: nobody kept that */
    {5, "CREATE TABLE told (log_index INTEGER NOT NULL) STRICT; INSERT INTO told VALUES (-1)"},
    /* of the SVID that an agent vouched with; its ID is the requester */
    {6, "ALTER TABLE authorizations ADD COLUMN agent_entry TEXT NOT NULL DEFAULT '';"
        "ALTER TABLE authorizations ADD COLUMN agent_serial TEXT NOT NULL DEFAULT '';"
        "ALTER TABLE authorizations ADD COLUMN agent_key BLOB"},
    /* the order of creation, which seconds do not tell; of those that are there, as far as they do */
    {7, "ALTER TABLE entries ADD COLUMN number INTEGER NOT NULL DEFAULT 0;"
        "UPDATE entries SET number = n.place FROM (SELECT id AS of,"
        " row_number() OVER (ORDER BY created, spiffe_id) AS place FROM entries) AS n WHERE entries.id = n.of"},
    {8, "ALTER TABLE entries ADD COLUMN hint TEXT NOT NULL DEFAULT ''"},
};
#define STEPS (sizeof steps / sizeof *steps)
#define OLDEST 2 /* of schema above */

/* --- errors ------------------------------------------------------------------------------------------ */

int store_error(struct store *s, const char *what, struct err *e)
{
    int code = s->db ? sqlite3_extended_errcode(s->db) : SQLITE_NOMEM;
    const char *why = s->db ? sqlite3_errmsg(s->db) : "out of memory";
    s->failed = true;
    switch (code & 0xff) {
    case SQLITE_FULL:
        return err_set(e, ERR_UNAVAILABLE, "store-disk",
                       "cannot %s: the disk that holds %s is full; nothing was changed. Make room, and try again",
                       what, s->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(e, ERR_CORRUPT, "store-corrupt",
                       "the registration store %s is damaged (%s). Stop the daemon, keep the file, and restore a "
                       "backup; or move it away with its -wal and -shm, start once with --accept-older-store, and register the "
                       "entries again",
                       s->path, why);
    default:
        return err_set(e, ERR_UNAVAILABLE, "store-io", "cannot %s in %s: %s; nothing was changed", what, s->path, why);
    }
}

/* --- statements by text --------------------------------------------------------------------------------- */

static int run(struct store *s, const char *sql, const char *what, struct err *e)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : store_error(s, what, e);
}

/* First column of the first row as text, into dst. */
static int ask(struct store *s, const char *sql, char *dst, size_t cap, struct err *e)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        snprintf(dst, cap, "%s", (const char *)sqlite3_column_text(q, 0));
    int r = rc == SQLITE_ROW ? 0 : store_error(s, "read", e);
    sqlite3_finalize(q);
    return r;
}

int store_each(struct store *s, const char *sql, int (*each)(void *arg, const struct store_row *row, struct err *e),
               void *arg, struct err *e)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(q);
        struct store_row row = {q};
        if (rc == SQLITE_ROW && each(arg, &row, e) < 0) {
            sqlite3_finalize(q);
            return -1;
        }
    }
    int r = rc == SQLITE_DONE ? 0 : store_error(s, "read", e);
    sqlite3_finalize(q);
    return r;
}

int64_t row_int(const struct store_row *r, int column)
{
    return sqlite3_column_int64(r->q, column);
}

const char *row_text(const struct store_row *r, int column)
{
    const char *s = (const char *)sqlite3_column_text(r->q, column);
    return s ? s : "";
}

struct bytes row_blob(const struct store_row *r, int column)
{
    const uint8_t *p = sqlite3_column_blob(r->q, column);
    return (struct bytes){p, p ? (size_t)sqlite3_column_bytes(r->q, column) : 0};
}

/* --- opening ------------------------------------------------------------------------------------------- */

static int make_file(const char *path, struct err *e)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash && slash != dir) {
        *slash = 0;
        if (file_mkdirs(dir, 0700, e) < 0)
            return -1;
    }
    /* SQLite gives its -wal and -shm the mode of the file, so this one decides for all. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, "store-open", "cannot open the registration store %s", path);
    close(fd);
    return 0;
}

/* *found: 0 of a file without tables. */
static int check_version(struct store *s, int *found, struct err *e)
{
    char tables[24], application[24], version[24];
    if (ask(s, "SELECT count(*) FROM sqlite_schema", tables, sizeof tables, e) < 0 ||
        ask(s, "PRAGMA application_id", application, sizeof application, e) < 0 ||
        ask(s, "PRAGMA user_version", version, sizeof version, e) < 0)
        return -1;
    *found = 0;
    if (strcmp(tables, "0") == 0 && strcmp(application, "0") == 0)
        return 0;
    if (atol(application) != APPLICATION_ID)
        return err_set(e, ERR_CONFIG, "store-foreign",
                       "%s is a database of another program; name another file in store.path", s->path);
    *found = (int)atol(version);
    if (*found < OLDEST)
        return err_set(e, ERR_CONFIG, "store-version",
                       "the registration store %s has version %s, from before the first release; this program knows %d. "
                       "Move it away with its -wal and -shm, and register the entries again",
                       s->path, version, STORE_VERSION);
    if (*found > STORE_VERSION)
        return err_set(e, ERR_CONFIG, "store-version",
                       "the registration store %s has version %s, this program knows %d: use the newer mayflyd that "
                       "wrote it, or restore the backup made before it",
                       s->path, version, STORE_VERSION);
    return 0;
}

/* What is set per connection. auto_vacuum counts only in a file without tables. */
static int set_up(struct store *s, struct err *e)
{
    char mode[16];
    sqlite3_busy_timeout(s->db, 5000);
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (run(s, "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA auto_vacuum=INCREMENTAL", "open", e) < 0 ||
        ask(s, "PRAGMA journal_mode=WAL", mode, sizeof mode, e) < 0)
        return -1;
    if (strcmp(mode, "wal") != 0)
        return err_set(e, ERR_CONFIG, "store-open",
                       "%s does not take a write-ahead log (its file system has no shared memory?); put store.path on "
                       "a local disk",
                       s->path);
    return run(s, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA wal_autocheckpoint=1000;"
                  " PRAGMA journal_size_limit=4194304", "open", e);
}

/* From the version found (0: none) to ours, in one transaction. */
static int bring_up(struct store *s, int found, struct err *e)
{
    char version[96];
    snprintf(version, sizeof version, "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION_ID, STORE_VERSION);
    if (run(s, "BEGIN IMMEDIATE", "begin", e) < 0)
        return -1;
    int rc = found ? 0 : run(s, schema, "create the tables", e);
    for (size_t i = 0; i < STEPS && rc == 0; i++)
        if (steps[i].version > found)
            rc = run(s, steps[i].sql, "create the tables", e);
    if (rc == 0 && !found) /* of a new store that is known: nothing */
        rc = run(s, "UPDATE told SET log_index = 0", "create the tables", e);
    if (rc == 0 && run(s, version, "create the tables", e) == 0 && run(s, "COMMIT", "create the tables", e) == 0)
        return 0;
    store_rollback(s);
    return -1;
}

static int check_integrity(struct store *s, struct err *e)
{
    char found[256];
    if (ask(s, "PRAGMA integrity_check(1)", found, sizeof found, e) < 0)
        return -1;
    if (strcmp(found, "ok") == 0)
        return 0;
    return err_set(e, ERR_CORRUPT, "store-corrupt",
                   "the registration store %s is damaged (%s). Keep the file, and restore a backup; or move it away "
                   "with its -wal and -shm, start once with --accept-older-store, and register the entries again",
                   s->path, found);
}

static int open_checked(struct store *s, struct err *e)
{
    int found;
    if (sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return store_error(s, "open", e);
    /* The version is read before anything is set: a foreign file is left as it is. */
    if (check_version(s, &found, e) < 0 || set_up(s, e) < 0 || (found < STORE_VERSION && bring_up(s, found, e) < 0) ||
        check_integrity(s, e) < 0)
        return -1;
    return store_prepare(s, e);
}

int store_open(struct store **out, const char *path, struct err *e)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return no_memory(e);
    }
    if (make_file(path, e) < 0 || open_checked(s, e) < 0) {
        store_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(s->sql[i]);
    sqlite3_close(s->db);
    free(s->path);
    free(s);
}

/* --- transactions ------------------------------------------------------------------------------------------ */

int store_begin(struct store *s, struct err *e)
{
    s->failed = false;
    return run(s, "BEGIN IMMEDIATE", "begin a change", e);
}

int store_commit(struct store *s, struct err *e)
{
    return run(s, "COMMIT", "write a change", e);
}

void store_rollback(struct store *s)
{
    /* After some failures SQLite has rolled back by itself. */
    if (!sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

bool store_failed(const struct store *s)
{
    return s->failed;
}

int store_mark(struct store *s, struct err *e)
{
    return run(s, "SAVEPOINT op", "begin a change", e);
}

int store_release(struct store *s, bool keep, struct err *e)
{
    return run(s, keep ? "RELEASE op" : "ROLLBACK TO op; RELEASE op", "write a change", e);
}

/* --- size ------------------------------------------------------------------------------------------------------ */

void store_shrink(struct store *s)
{
    char pages[24], sql[64];
    struct err ignored = {0};
    if (ask(s, "PRAGMA freelist_count", pages, sizeof pages, &ignored) < 0 || atol(pages) < SHRINK_FROM)
        return;
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", SHRINK_PAGES);
    sqlite3_exec(s->db, sql, NULL, NULL, NULL); /* what fails here is tried again in the next round */
}

uint64_t store_bytes(struct store *s)
{
    char pages[24], size[24];
    struct err ignored = {0};
    if (ask(s, "PRAGMA page_count", pages, sizeof pages, &ignored) < 0 ||
        ask(s, "PRAGMA page_size", size, sizeof size, &ignored) < 0)
        return 0;
    return (uint64_t)atol(pages) * (uint64_t)atol(size);
}

void store_limit_pages(struct store *s, unsigned pages)
{
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA max_page_count=%u", pages ? pages : 1073741823u);
    sqlite3_exec(s->db, sql, NULL, NULL, NULL);
}
