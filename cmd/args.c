#include "cmd/args.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int args_exit_code(const struct err *e)
{
    switch (e->code) {
    case ERR_NONE: return ARGS_OK;
    case ERR_USAGE: return ARGS_USAGE;
    case ERR_UNAVAILABLE:
    case ERR_RATE: return ARGS_UNREACHABLE;
    case ERR_CORRUPT: return ARGS_UNVERIFIED;
    case ERR_UNAUTHORIZED:
    case ERR_BAD_EVIDENCE:
    case ERR_REJECTED_ID:
    case ERR_UNSUPPORTED_ID:
    case ERR_BAD_CSR:
    case ERR_BAD_KEY:
    case ERR_DENIED:
    case ERR_NOT_READY: return ARGS_REFUSED;
    default: return ARGS_FAILED;
    }
}

/* Levenshtein distance, bounded: words of 31 letters at most. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned row[32];
    if (n > 31 || m > 31)
        return 99;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *args_nearest(const char *word, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    unsigned least = (unsigned)strlen(word) / 3 + 2;
    for (size_t i = 0; i < n; i++) {
        unsigned d = distance(word, candidates[i]);
        if (d < least) {
            least = d;
            best = candidates[i];
        }
    }
    return best;
}

static void explain_unknown(const char *arg, const struct option *longs, const char *command)
{
    const char *names[64];
    size_t n = 0;
    for (; longs[n].name && n < 64; n++)
        names[n] = longs[n].name;
    char word[32] = "";
    if (strncmp(arg, "--", 2) == 0)
        snprintf(word, sizeof word, "%.*s", (int)strcspn(arg + 2, "="), arg + 2);
    const char *near = *word ? args_nearest(word, names, n) : NULL;
    if (near)
        fprintf(stderr, "%s: no option '%s'; did you mean --%s?\n", command, arg, near);
    else
        fprintf(stderr, "%s: no option '%s'.\n", command, arg);
}

int args_getopt(int argc, char **argv, const char *shorts, const struct option *longs,
                const char *command)
{
    char with_colon[64];
    snprintf(with_colon, sizeof with_colon, ":%s", shorts);
    opterr = 0;
    int at = optind > 0 ? optind : 1;
    int o = getopt_long(argc, argv, with_colon, longs, NULL);
    if (o != ':' && o != '?')
        return o;
    const char *arg = at < argc ? argv[at] : "";
    if (optind > 1 && optind <= argc && argv[optind - 1][0] == '-')
        arg = argv[optind - 1];
    if (o == ':')
        fprintf(stderr, "%s: option '%s' needs a value.\n", command, arg);
    else
        explain_unknown(arg, longs, command);
    fprintf(stderr, "Try '%s --help'.\n", command);
    return '?';
}

int args_no_operands(int argc, char **argv, const char *command)
{
    if (optind >= argc)
        return 0;
    fprintf(stderr, "%s: unexpected '%s'.\nTry '%s --help'.\n", command, argv[optind], command);
    return -1;
}

int args_number(const char *s, long min, long max, const char *what, long *out, struct err *e)
{
    char *end;
    errno = 0;
    long v = strtol(s, &end, 10);
    if (errno || end == s || *end || v < min || v > max)
        return err_set(e, ERR_USAGE, "number", "%s: '%s' is not a whole number from %ld to %ld", what, s, min, max);
    *out = v;
    return 0;
}

int args_duration(const char *s, long max, const char *what, unsigned *out, struct err *e)
{
    char *end;
    errno = 0;
    long v = strtol(s, &end, 10);
    long unit = *end == 0 || strcmp(end, "s") == 0 ? 1
                : strcmp(end, "m") == 0              ? 60
                : strcmp(end, "h") == 0              ? 3600
                : strcmp(end, "d") == 0              ? 86400
                                                     : 0;
    if (errno || end == s || !unit || v < 1 || v > max / unit)
        return err_set(e, ERR_USAGE, "duration",
                       "%s: '%s' is not a duration up to %ld seconds; write e.g. 90s, 5m, 2h or 7d", what, s, max);
    *out = (unsigned)(v * unit);
    return 0;
}
