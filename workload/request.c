#include "workload/request.h"
#include "workload/sds.h"
#include "workload/wire.h"
#include "base/secmem.h"
#include "base/spiffe.h"
#include <stdlib.h>
#include <string.h>

static enum wl_status refuse(const char **why, enum wl_status status, const char *text)
{
    *why = text;
    return status;
}

#define NO_MESSAGE(why) refuse(why, WL_INTERNAL, "the request is no message of this method")

enum wl_status request_empty(struct bytes msg, const char **why)
{
    return wire_good(msg.p, msg.len) ? WL_OK : NO_MESSAGE(why);
}

static char *put(char **at, struct bytes b)
{
    char *start = *at;
    if (b.len)
        memcpy(start, b.p, b.len);
    start[b.len] = 0;
    *at += b.len + 1;
    return start;
}

void request_jwt_free(struct request_jwt *r)
{
    if (r->text)
        secret_wipe(r->text, strlen(r->svid));
    free(r->text);
    *r = (struct request_jwt){0};
}

static enum wl_status check_audience(const struct wire_field *f, size_t already, const char **why)
{
    if (f->bytes.len == 0)
        return refuse(why, WL_INVALID_ARGUMENT, "an audience is empty");
    if (f->bytes.len > LIMIT_AUDIENCE)
        return refuse(why, WL_INVALID_ARGUMENT, "an audience is too long");
    if (already == LIMIT_AUDIENCES)
        return refuse(why, WL_INVALID_ARGUMENT, "too many audiences");
    return WL_OK;
}

/* `svid` comes first in the text, so that request_jwt_free knows what to wipe. */
static enum wl_status keep(struct request_jwt *r, struct bytes svid, struct bytes id, const struct bytes *aud,
                           const char **why)
{
    size_t total = svid.len + id.len + 2;
    for (size_t i = 0; i < r->n; i++)
        total += aud[i].len + 1;
    char *at = r->text = malloc(total);
    if (!at)
        return refuse(why, WL_RESOURCE_EXHAUSTED, "out of memory");
    r->svid = put(&at, svid);
    r->spiffe_id = put(&at, id);
    for (size_t i = 0; i < r->n; i++)
        r->audience[i] = put(&at, aud[i]);
    return WL_OK;
}

enum wl_status request_jwt(struct request_jwt *r, struct bytes msg, const char **why)
{
    struct bytes aud[LIMIT_AUDIENCES], id = {0};
    struct cur c = cur_of(msg.p, msg.len);
    struct wire_field f;
    enum wl_status bad = WL_OK;
    *r = (struct request_jwt){0};
    while (wire_next(&c, &f)) {
        if (f.number > 2)
            continue;
        if (!wire_is_text(&f))
            return NO_MESSAGE(why);
        if (f.number == 2)
            id = f.bytes;
        else if (bad == WL_OK && (bad = check_audience(&f, r->n, why)) == WL_OK)
            aud[r->n++] = f.bytes;
    }
    if (!cur_done(&c))
        return NO_MESSAGE(why);
    if (bad != WL_OK)
        return bad;
    if (r->n == 0)
        return refuse(why, WL_INVALID_ARGUMENT, "audience must be specified");
    struct spiffe_id parsed;
    struct err e;
    if (id.len && spiffe_parse(&parsed, (const char *)id.p, id.len, &e) < 0)
        return refuse(why, WL_INVALID_ARGUMENT, "spiffe_id is no SPIFFE ID");
    return keep(r, (struct bytes){0}, id, aud, why);
}

enum wl_status request_validate(struct request_jwt *r, struct bytes msg, const char **why)
{
    struct bytes aud = {0}, svid = {0};
    struct cur c = cur_of(msg.p, msg.len);
    struct wire_field f;
    *r = (struct request_jwt){0};
    while (wire_next(&c, &f)) {
        if (f.number > 2)
            continue;
        if (!wire_is_text(&f))
            return NO_MESSAGE(why);
        *(f.number == 1 ? &aud : &svid) = f.bytes;
    }
    if (!cur_done(&c))
        return NO_MESSAGE(why);
    if (aud.len == 0)
        return refuse(why, WL_INVALID_ARGUMENT, "audience must be specified");
    if (aud.len > LIMIT_AUDIENCE)
        return refuse(why, WL_INVALID_ARGUMENT, "the audience is too long");
    if (svid.len == 0)
        return refuse(why, WL_INVALID_ARGUMENT, "svid must be specified");
    if (svid.len > LIMIT_JWT)
        return refuse(why, WL_INVALID_ARGUMENT, "svid is too long");
    r->n = 1;
    return keep(r, svid, (struct bytes){0}, &aud, why);
}

bool names_equal(const struct names *a, const struct names *b)
{
    return a->n == b->n && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

const char *names_next(const struct names *n, const char *at)
{
    at = at ? at + strlen(at) + 1 : n->text;
    return at < n->text + n->len ? at : NULL;
}

static enum wl_status read_error(struct request_sds *r, struct bytes b, const char **why)
{
    struct cur c = cur_of(b.p, b.len);
    struct wire_field f;
    r->refused = true;
    while (wire_next(&c, &f))
        if (f.number == 2 && f.type == WIRE_BYTES)
            r->error = f.bytes;
    return cur_done(&c) ? WL_OK : NO_MESSAGE(why);
}

static enum wl_status read_sds(struct request_sds *r, struct bytes msg, const char **why)
{
    struct cur c = cur_of(msg.p, msg.len);
    struct wire_field f;
    struct names *names = r->names;
    while (wire_next(&c, &f)) {
        if (f.number != 3 && f.number != 4 && f.number != 5 && f.number != 6)
            continue;
        if (f.number == 6 ? f.type != WIRE_BYTES : !wire_is_text(&f))
            return NO_MESSAGE(why);
        if (f.number == 6 && read_error(r, f.bytes, why) != WL_OK)
            return WL_INTERNAL;
        if (f.number == 5)
            r->nonce = f.bytes;
        if (f.number == 4 && f.bytes.len && !bytes_eq_str(f.bytes, SDS_TYPE_SECRET))
            return refuse(why, WL_INVALID_ARGUMENT,
                          "type_url is none of a secret (only version 3 is spoken here)");
        if (f.number != 3)
            continue;
        if (f.bytes.len == 0 || f.bytes.len > SPIFFE_ID_MAX)
            return refuse(why, WL_INVALID_ARGUMENT, "a resource name is empty or too long");
        if (names->n == LIMIT_NAMES)
            return refuse(why, WL_INVALID_ARGUMENT, "too many resource names");
        char *at = names->text + names->len;
        put(&at, f.bytes);
        names->len += f.bytes.len + 1;
        names->n++;
    }
    return cur_done(&c) ? WL_OK : NO_MESSAGE(why);
}

enum wl_status request_sds(struct request_sds *r, struct bytes msg, const char **why)
{
    *r = (struct request_sds){0};
    /* A name of n bytes takes n + 2 of the message at least, so this holds them all. */
    r->names = calloc(1, sizeof *r->names + msg.len + 1);
    if (!r->names)
        return refuse(why, WL_RESOURCE_EXHAUSTED, "out of memory");
    enum wl_status status = read_sds(r, msg, why);
    if (status != WL_OK) {
        free(r->names);
        r->names = NULL;
        return status;
    }
    struct names *fit = realloc(r->names, sizeof *fit + r->names->len + 1);
    if (fit)
        r->names = fit;
    return WL_OK;
}
