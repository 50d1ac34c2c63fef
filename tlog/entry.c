/* Log entries and their extensions, both directions. */
#include "tlog/entry.h"
#include <string.h>

static int entry_fail(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "entry-format", "not a log entry: %s", why);
}

/* Types strictly ascending: one order, no duplicates. */
static int extensions_check(struct bytes list, struct err *e)
{
    struct cur c = cur_of(list.p, list.len);
    long last = -1;
    while (cur_left(&c) > 0) {
        uint16_t type;
        struct bytes data;
        if (cur_u16(&c, &type) < 0 || cur_vec16(&c, &data) < 0)
            return entry_fail(e, "an extension runs past the list's end");
        if (type <= last)
            return entry_fail(e, "extension types are not ascending");
        last = type;
    }
    return 0;
}

int tlog_entry_parse(struct tlog_entry *t, const void *p, size_t len, struct err *e)
{
    memset(t, 0, sizeof *t);
    if (len > TLOG_ENTRY_MAX)
        return err_set(e, ERR_TOO_LARGE, "entry-format", "a log entry has at most %d bytes",
                       TLOG_ENTRY_MAX);
    struct cur c = cur_of(p, len);
    if (cur_vec16(&c, &t->extensions) < 0 || cur_u16(&c, &t->type) < 0)
        return entry_fail(e, "it is too short");
    cur_take(&c, cur_left(&c), &t->body);
    if (extensions_check(t->extensions, e) < 0)
        return -1;
    if (t->type == TLOG_ENTRY_NULL && t->body.len > 0)
        return entry_fail(e, "a null entry has no body");
    if (t->type == TLOG_ENTRY_TBS_CERT && t->body.len == 0)
        return entry_fail(e, "a certificate entry without body");
    return 0;
}

/* UTF-8 text fields end up on people's screens: not empty, no control characters. */
static bool text_ok(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return s.len > 0;
}

static int extension_decode(struct tlog_ext_info *x, uint16_t type, struct bytes data,
                            struct err *e)
{
    struct cur c = cur_of(data.p, data.len);
    switch (type) {
    case TLOG_EXT_ATTESTOR:
        x->attestor = data;
        return text_ok(data) ? 0 : entry_fail(e, "the attestor extension is no text");
    case TLOG_EXT_EVIDENCE:
        x->evidence = data;
        return data.len == 32 ? 0 : entry_fail(e, "the evidence digest is not 32 bytes");
    case TLOG_EXT_ENTRY:
        cur_u64(&c, &x->entry_revision);
        cur_take(&c, cur_left(&c), &x->entry_id);
        return !c.failed && text_ok(x->entry_id)
                   ? 0
                   : entry_fail(e, "the registration extension is no revision and id");
    case TLOG_EXT_REQUESTER:
        x->requester = data;
        return text_ok(data) ? 0 : entry_fail(e, "the requester extension is no text");
    case TLOG_EXT_SESSION:
        x->session = data;
        return data.len == 32 ? 0 : entry_fail(e, "the session thumbprint is not 32 bytes");
    default:
        return 0; /* of a later version */
    }
}

int tlog_entry_extensions(struct tlog_ext_info *x, struct bytes extensions, struct err *e)
{
    memset(x, 0, sizeof *x);
    if (extensions_check(extensions, e) < 0)
        return -1;
    struct cur c = cur_of(extensions.p, extensions.len);
    while (cur_left(&c) > 0) {
        uint16_t type;
        struct bytes data;
        cur_u16(&c, &type);
        cur_vec16(&c, &data);
        if (extension_decode(x, type, data, e) < 0)
            return -1;
    }
    return 0;
}

void tlog_entry_write(const struct tlog_entry *t, struct buf *out)
{
    buf_vec16(out, t->extensions.p, t->extensions.len);
    buf_u16(out, t->type);
    buf_put(out, t->body.p, t->body.len);
}

static void extension_write(struct buf *out, uint16_t type, struct bytes data)
{
    if (data.len == 0)
        return;
    buf_u16(out, type);
    buf_vec16(out, data.p, data.len);
}

void tlog_ext_write(const struct tlog_ext_info *x, struct buf *out)
{
    extension_write(out, TLOG_EXT_ATTESTOR, x->attestor);
    extension_write(out, TLOG_EXT_EVIDENCE, x->evidence);
    if (x->entry_id.len > UINT16_MAX - 8) {
        out->failed = true;
        return;
    }
    if (x->entry_id.len > 0) {
        buf_u16(out, TLOG_EXT_ENTRY);
        buf_u16(out, (uint16_t)(8 + x->entry_id.len));
        buf_u64(out, x->entry_revision);
        buf_put(out, x->entry_id.p, x->entry_id.len);
    }
    extension_write(out, TLOG_EXT_REQUESTER, x->requester);
    extension_write(out, TLOG_EXT_SESSION, x->session);
}
