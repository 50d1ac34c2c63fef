/* The web page at /ui/: static files that are built in. What makes it safe to show to an auditor is
 * in the headers: nothing from elsewhere is loaded or asked, nothing inline is run, no page frames
 * it. The page reads /log, /acme/issuer and /audit like any other client. */
#include "api/internal.h"
#include "api/ui.h"
#include <string.h>

static const char *type_of(const char *name)
{
    static const struct {
        char end[8];
        const char *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".svg", "image/svg+xml"},
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (strcmp(dot, types[i].end) == 0)
            return types[i].type;
    return "application/octet-stream";
}

/* Ours are strong tags, which no other can contain, so looking for the text is enough. */
bool request_has(const struct request *r, const char *etag)
{
    const char *have = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "If-None-Match");
    return have && (strcmp(have, "*") == 0 || strstr(have, etag));
}

void public_ui(struct request *r)
{
    struct err e = {0};
    const char *name = *r->arg ? r->arg : "index.html";
    const struct ui_file *f = ui_files;
    while (f->name && strcmp(f->name, name) != 0)
        f++;
    if (!f->name) {
        err_set(&e, ERR_NOT_FOUND, "path", "the page has no file %.100s; it begins at /ui/", name);
        request_fail(r, &e);
        return;
    }
    r->page = true;
    r->etag = f->etag;
    r->cache = "no-cache";
    if (request_has(r, f->etag)) {
        r->status = 304;
        return;
    }
    r->status = 200;
    r->content_type = type_of(name);
    buf_put(&r->out, f->p, f->len);
}

/* The page's links are relative to /ui/. */
void public_ui_bare(struct request *r)
{
    r->status = 308;
    buf_str(&r->location, "/ui/");
}
