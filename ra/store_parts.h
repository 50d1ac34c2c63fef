/* Inside the store: the handle and its prepared statements. */
#ifndef RA_STORE_PARTS_H
#define RA_STORE_PARTS_H
#include "ra/store.h"
#include <sqlite3.h>

enum sql {
    SQL_ENTRY_ADD, SQL_ENTRY_UPDATE, SQL_ENTRY_DELETE, SQL_TOKEN_ADD, SQL_TOKEN_SPEND, SQL_TOKEN_DELETE,
    SQL_SESSION_ADD, SQL_SESSION_DEACTIVATE, SQL_SESSION_AUTHZ_DELETE, SQL_SESSION_DELETE, SQL_AUTHZ_PUT,
    SQL_AUTHZ_DELETE, SQL_DEED_ADD, SQL_DEED_DELETE, SQL_TOLD, SQL_COUNT
};
struct store {
    sqlite3 *db;
    char *path;                   /* owned */
    sqlite3_stmt *sql[SQL_COUNT]; /* owned */
    bool failed;                  /* the store itself, since store_begin */
};
struct store_row {
    sqlite3_stmt *q;
};
int store_prepare(struct store *s, struct err *e);
int store_error(struct store *s, const char *what, struct err *e); /* -1; notes the failure */

#endif
