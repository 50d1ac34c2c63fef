/* Which paths the frontend may read: all below four folders and the archives, as the kernel would find them (the
 * Landlock rules in cmd/mayflyd_role.c). */
#include "base/config.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Drops "." and empty parts; takes ".." as one folder up (right where no link is in the way, and
 * links were followed as far as there is anything). */
static void tidy(char *path)
{
    size_t n = 0;
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.') {
            while (n > 0 && path[--n] != '/')
                ;
        } else if (len > 0 && !(len == 1 && *p == '.')) {
            path[n++] = '/';
            memmove(path + n, p, len);
            n += len;
        }
        p += len;
        p += *p == '/';
    }
    path[n] = 0;
}

/* The path with every link followed in what exists of it. */
static void real(char dst[2 * PATH_MAX], const char *path)
{
    char head[PATH_MAX], found[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof head)
        n = sizeof head - 1;
    memcpy(head, path, n);
    for (head[n] = 0; n > 0 && !realpath(head, found); head[n] = 0)
        while (n > 0 && head[--n] != '/')
            ;
    size_t got = n > 0 ? strlen(found) : 0;
    memcpy(dst, found, got);
    dst[got] = '/';
    strcpy(dst + got + 1, path + n);
    tidy(dst);
}

static bool lies_in(const char *folder, const char *path)
{
    char f[2 * PATH_MAX], p[2 * PATH_MAX];
    real(f, folder);
    real(p, path);
    size_t n = strlen(f);
    return strncmp(p, f, n) == 0 && (p[n] == '/' || p[n] == 0);
}

const char *config_frontend_reads(const struct config *c, const char *path)
{
    char store[PATH_MAX], index[PATH_MAX];
    snprintf(store, sizeof store, "%s", c->store_path);
    *strrchr(store, '/') = 0;
    snprintf(index, sizeof index, "%s", c->audit_index);
    *strrchr(index, '/') = 0;
    static const char *const keys[] = {"store.path", "run.dir", "log.dir", "audit.index"};
    const char *const folders[] = {store, c->run_dir, c->log.dir, index};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (lies_in(folders[i], path))
            return keys[i];
    for (size_t i = 0; i < c->log.archive_count; i++)
        if (lies_in(c->log.archive[i], path))
            return "log.archive";
    return NULL;
}
