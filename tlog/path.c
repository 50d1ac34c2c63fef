/* Paths of C2SP tlog-tiles, both directions:
 * tile/<L>/<N>[.p/<W>] and tile/entries/<N>[.p/<W>], N in groups of three digits, all but the last
 * with an x before them. */
#include "base/bytes.h"
#include "tlog/internal.h"
#include <stdio.h>
#include <string.h>

int tlog_tile_path(char dst[TLOG_PATH_CAP], const char *dir, int level, uint64_t n, unsigned width,
                   struct err *e)
{
    char index[40], *p = index + sizeof index;
    *--p = 0;
    for (bool last = true; last || n > 0; last = false, n /= 1000) {
        unsigned group = (unsigned)(n % 1000);
        if (!last)
            *--p = '/';
        for (int i = 0; i < 3; i++, group /= 10)
            *--p = (char)('0' + group % 10);
        if (!last)
            *--p = 'x';
    }
    char name[16] = "entries", partial[16] = "";
    if (level != TLOG_ENTRIES)
        snprintf(name, sizeof name, "%d", level);
    if (width < TLOG_TILE)
        snprintf(partial, sizeof partial, ".p/%u", width);
    int len = snprintf(dst, TLOG_PATH_CAP, "%s/tile/%s/%s%s", dir, name, p, partial);
    if (len < 0 || len >= TLOG_PATH_CAP)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long: %.100s…",
                       dir);
    return 0;
}

/* 1 to max_digits digits, no leading zero; stops at the first other character. */
static bool number_read(const char **s, size_t max_digits, unsigned max, unsigned *v)
{
    const char *p = *s;
    size_t n = 0;
    *v = 0;
    while (n < max_digits && p[n] >= '0' && p[n] <= '9')
        *v = *v * 10 + (unsigned)(p[n++] - '0');
    if (n == 0 || (n > 1 && p[0] == '0') || *v > max)
        return false;
    *s = p + n;
    return true;
}

static bool group_read(const char **s, uint64_t *n)
{
    for (int i = 0; i < 3; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return false;
        *n = *n * 10 + (uint64_t)(**s - '0');
    }
    return true;
}

/* (xDDD/)*DDD; the first group is not x000, so that a number has one name. */
static bool index_read(const char **s)
{
    uint64_t n = 0;
    unsigned groups = 0;
    while (**s == 'x') {
        (*s)++;
        if (++groups > 6 || !group_read(s, &n) || n == 0 || *(*s)++ != '/')
            return false;
    }
    return group_read(s, &n);
}

static bool tile_read(const char *s, bool *full)
{
    unsigned level, width;
    *full = true;
    if (strncmp(s, "entries/", 8) == 0)
        s += 8;
    else if (!number_read(&s, 2, 63, &level) || *s++ != '/')
        return false;
    if (!index_read(&s))
        return false;
    if (*s == 0)
        return true;
    *full = false;
    if (strncmp(s, ".p/", 3) != 0)
        return false;
    s += 3;
    return number_read(&s, 3, 255, &width) && width > 0 && *s == 0;
}

int tlog_path_resolve(char *dst, size_t cap, const char *dir, const char *path, bool *immutable,
                      struct err *e)
{
    *immutable = false;
    if (strcmp(path, "checkpoint") != 0 &&
        (strncmp(path, "tile/", 5) != 0 || !tile_read(path + 5, immutable)))
        return err_set(e, ERR_NOT_FOUND, "log-path",
                       "no path of a log (C2SP tlog-tiles): checkpoint, tile/<L>/<N>[.p/<W>] or "
                       "tile/entries/<N>[.p/<W>]");
    int len = snprintf(dst, cap, "%s/%s", dir, path);
    if (len < 0 || (size_t)len >= cap)
        return err_set(e, ERR_CONFIG, "log-path", "the log folder's path is too long: %.100s…",
                       dir);
    return 0;
}
