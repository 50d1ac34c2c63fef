/* The witnesses, for the operator: who is configured, and who cosigned the head that is published now. The
 * published file is read as any auditor would, and each cosignature verified. */
#include "api/witnesses.h"
#include "base/clock.h"
#include "base/fileio.h"
#include "base/json.h"
#include "tlog/cosign.h"
#include <stdio.h>
#include <string.h>

static int head_read(const struct config *c, const char *vkey, struct buf *text, struct tlog_note *note, struct err *e)
{
    char path[4096];
    struct tlog_vkey log = {0};
    struct tlog_checkpoint head;
    int n = snprintf(path, sizeof path, "%s/checkpoint", c->log.dir);
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(e, ERR_CONFIG, "path", "the path of the log's folder is too long");
    int rc = file_read(text, path, TLOG_NOTE_MAX, e);
    if (rc == 0)
        rc = tlog_vkey_parse(&log, vkey, strlen(vkey), e);
    if (rc == 0)
        rc = tlog_checkpoint_open(&head, text->p, text->len, &log, e);
    if (rc == 0)
        rc = tlog_note_parse(note, text->p, text->len, e);
    tlog_vkey_free(&log);
    return rc;
}

/* note NULL: there is no head to look at. */
static void witness_write(struct buf *b, const struct config_witness *w, const struct tlog_note *note, int64_t now)
{
    struct tlog_vkey key = {0};
    struct err e = {0};
    uint64_t time = 0;
    int found = tlog_vkey_parse_witness(&key, w->vkey, strlen(w->vkey), &e);
    if (found == 0 && note)
        found = tlog_cosign_find(note, &key, &time, &e);
    buf_str(b, "{\"name\":");
    jw_str(b, key.name);
    buf_str(b, ",\"url\":");
    jw_str(b, w->url);
    buf_fmt(b, ",\"cosigned\":%s", found > 0 ? "true" : "false");
    if (found > 0)
        buf_fmt(b, ",\"time\":%llu,\"age\":%lld", (unsigned long long)time, (long long)(now - (int64_t)time));
    if (found < 0) {
        buf_str(b, ",\"wrong\":");
        jw_str(b, e.msg);
    }
    buf_u8(b, '}');
    tlog_vkey_free(&key);
}

void admin_witnesses_write(struct buf *b, const struct config *c, const char *vkey)
{
    struct tlog_note note;
    struct buf text;
    struct err e = {0};
    int64_t now = clock_wall();
    buf_init(&text, TLOG_NOTE_MAX);
    bool head = c->witnesses.count > 0 && head_read(c, vkey, &text, &note, &e) == 0;
    buf_fmt(b, "{\"quorum\":%u,\"size\":", c->witnesses.quorum);
    if (head)
        buf_fmt(b, "%llu", (unsigned long long)note.checkpoint.size);
    else
        buf_str(b, "null");
    buf_str(b, ",\"list\":[");
    for (size_t i = 0; i < c->witnesses.count; i++) {
        buf_str(b, i ? "," : "");
        witness_write(b, &c->witnesses.list[i], head ? &note : NULL, now);
    }
    buf_str(b, "]}");
    buf_free(&text);
}
