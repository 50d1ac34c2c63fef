#include "base/clock.h"
#include "base/fileio.h"
#include "cmd/cli.h"
#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX (16u << 20)

bool cli_common(struct cli *c, int o, const char *help)
{
    switch (o) {
    case 'd': c->dir = optarg; return true;
    case CLI_OPT_JSON: c->json = true; return true;
    case 'h':
        fputs(help, stdout);
        fputs("\n" ARGS_EXIT_HELP, stdout);
        exit(ARGS_OK);
    default: return false;
    }
}

struct config *cli_config(const struct cli *c, struct err *e)
{
    const char *dir = c->dir ? c->dir : getenv("MAYFLY_DIR");
    if (!dir || !*dir)
        dir = access(CONFIG_FILE, F_OK) == 0 ? "." : "/etc/mayfly";
    struct config *config = config_load(dir, e);
    if (!config && e->code == ERR_NOT_FOUND)
        err_set(e, ERR_NOT_FOUND, "no-authority",
                "no authority at %s (%s is not there): name its folder with --dir, or make one with 'mayfly init'",
                dir, CONFIG_FILE);
    return config;
}

int cli_fail(const struct cli *c, const char *command, const struct err *e)
{
    return args_fail(command, c->json, e);
}

int cli_text(const char **out, const char *option, struct err *e)
{
    json_t *text = json_string(optarg);
    *out = optarg;
    json_decref(text);
    return text ? 0 : err_set(e, ERR_USAGE, "arguments", "%s is not text in UTF-8", option);
}

/* --- asking the daemon ------------------------------------------------------------------------ */

static size_t take_answer(char *p, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;
    buf_put(b, p, size * n);
    return b->failed ? 0 : size * n;
}

static void problem_to_err(const json_t *doc, long status, struct err *e)
{
    const char *detail = doc ? json_maybe_str(doc, "detail") : NULL;
    const char *rule = doc ? json_maybe_str(doc, "rule") : NULL;
    enum err_code code = status == 404   ? ERR_NOT_FOUND
                         : status == 409 ? ERR_EXISTS
                         : status == 403 || status == 401 ? ERR_UNAUTHORIZED
                         : status == 503 || status == 429 ? ERR_UNAVAILABLE
                         : status < 500  ? ERR_DENIED
                                         : ERR_INTERNAL;
    err_set(e, code, "", "%s", detail ? detail : "the daemon refused without a word");
    if (rule)
        snprintf(e->rule, sizeof e->rule, "%s", rule);
}

int cli_ask(const struct config *config, const char *method, const char *path, const char *body,
            json_t **answer, struct err *e)
{
    char socket[4096], url[4096];
    struct buf b;
    int rc = -1;
    *answer = NULL;
    buf_init(&b, ANSWER_MAX);
    config_admin_socket(config, socket, sizeof socket);
    snprintf(url, sizeof url, "http://mayfly%s", path);
    CURL *curl = curl_easy_init();
    if (!curl)
        return err_set(e, ERR_INTERNAL, "curl", "out of memory");
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &b);
    if (body)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    CURLcode cc = curl_easy_perform(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (cc == CURLE_COULDNT_CONNECT)
        err_set(e, ERR_UNAVAILABLE, "daemon-away",
                "the daemon does not answer at %s: start it with 'mayflyd --config %s' (and run this as its user or root)",
                socket, config->dir);
    else if (cc != CURLE_OK)
        err_set(e, ERR_UNAVAILABLE, "daemon-away", "asking the daemon at %s: %s", socket, curl_easy_strerror(cc));
    else {
        struct err ignored = {0};
        json_t *doc = b.len ? json_parse(b.p, b.len, ANSWER_MAX, status < 300 ? e : &ignored) : NULL;
        if (status >= 300) {
            problem_to_err(doc, status, e);
            json_decref(doc);
        } else if (doc || b.len == 0) {
            *answer = doc;
            rc = 0;
        }
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    buf_free(&b);
    return rc;
}

/* --- words for people ------------------------------------------------------------------------- */

void cli_table_row(struct cli_table *t, ...)
{
    char **cells = realloc(t->cells, (t->rows + 1) * t->columns * sizeof *cells);
    if (!cells)
        abort();
    t->cells = cells;
    va_list ap;
    va_start(ap, t);
    for (size_t i = 0; i < t->columns; i++) {
        const char *s = va_arg(ap, const char *);
        cells[t->rows * t->columns + i] = strdup(s ? s : "");
    }
    va_end(ap);
    t->rows++;
}

void cli_table_print(struct cli_table *t)
{
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t c = 0; c < t->columns; c++) {
            size_t width = 0;
            for (size_t i = 0; i < t->rows; i++) {
                size_t w = strlen(t->cells[i * t->columns + c]);
                width = w > width ? w : width;
            }
            bool last = c + 1 == t->columns;
            printf("%-*s%s", last ? 0 : (int)width, t->cells[r * t->columns + c], last ? "\n" : "  ");
        }
    }
    for (size_t i = 0; i < t->rows * t->columns; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (struct cli_table){.columns = t->columns};
}

bool cli_confirm(const char *question)
{
    FILE *tty = fopen("/dev/tty", "r+");
    if (!tty)
        return false;
    char answer[16] = "";
    fprintf(tty, "%s [y/N] ", question);
    fflush(tty);
    bool yes = fgets(answer, sizeof answer, tty) && (answer[0] == 'y' || answer[0] == 'Y');
    fclose(tty);
    return yes;
}

void cli_progress(void *what, uint64_t done, uint64_t total)
{
    static int64_t last;
    if (!isatty(STDERR_FILENO) || total == 0)
        return;
    int64_t now = clock_mono_ms();
    if (now - last < 100 && done < total)
        return;
    last = now;
    int filled = (int)(done * 30 / total);
    fprintf(stderr, "\r%s [%.*s%*s] %3d%% %llu/%llu", (const char *)what, filled,
            "##############################", 30 - filled, "", (int)(done * 100 / total),
            (unsigned long long)done, (unsigned long long)total);
    if (done >= total)
        fputs("\r\033[K", stderr);
}

void cli_when(char *dst, size_t cap, int64_t t)
{
    char at[21];
    clock_rfc3339(at, t);
    long long d = (long long)(t - clock_wall());
    const char *form = d >= 0 ? "%s (in %lldm %llds)" : "%s (%lldm %llds ago)";
    if (d < 0)
        d = -d;
    if (d >= 172800)
        snprintf(dst, cap, "%s (%lld days)", at, d / 86400);
    else if (form[4] == 'i')
        snprintf(dst, cap, "%s (in %lldm %llds)", at, d / 60, d % 60);
    else
        snprintf(dst, cap, "%s (%lldm %llds ago)", at, d / 60, d % 60);
}
