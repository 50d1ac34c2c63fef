/* Sets of files as they stand: what was written and is gone, by whoever cleans up such folders, is written again; and
 * whether all are as they should be. */
#include "agent/outputs_parts.h"
#include "base/clock.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>

#define CALM_MS 600000     /* a set that stood for so long was lost for the first time */
#define LOSSES_MAX 5       /* with somebody who takes it away again and again: then every 80 s */
#define PRIORITY_WATCH 1   /* writing comes first */

/* --- watching ------------------------------------------------------------------------------------------------------------- */

struct watching {
    struct task task;
    struct output *output;
    struct output_stamp stamp; /* as it was when this was put, after so many writes */
    unsigned writes;
    int stands;
    struct err err;
};

static void work(struct task *t)
{
    struct watching *w = (struct watching *)t;
    w->stands = output_stands(&w->output->files, &w->stamp, &w->err);
}

/* Once it is written again at once, as soon as somebody is at work there ever more seldom: each time runs a hook. */
static void lose(struct output *o)
{
    int64_t now = clock_mono_ms();
    if (o->losses > 0 && now - o->lost_mono_ms >= CALM_MS)
        o->losses = 0;
    o->again_mono_ms = o->losses ? now + ((int64_t)RETRY_MS << (o->losses - 1)) : now;
    o->losses += o->losses < LOSSES_MAX;
    o->lost_mono_ms = now;
    o->lost = true;
    o->reloaded = false;
    log_warn("a set of files is gone, or another is in its place; it is written again", "id", o->config->id, "dir",
             o->config->dir, "in_ms", log_num(o->again_mono_ms - now), NULL);
    output_look(o);
}

static void on_watched(struct task *t)
{
    struct watching *w = (struct watching *)t;
    struct output *o = w->output;
    o->watching = false;
    if (t->worked && w->writes == o->writes) { /* else it was another that was looked for */
        if (w->stands == 0)
            lose(o);
        else if (w->stands < 0)
            log_debug("a set of files could not be looked at", "dir", o->config->dir, "why", w->err.msg, NULL);
    }
    free(w);
}

void output_watch(struct output *o)
{
    if (!o->written || o->writing || o->watching || o->lost || o->write_error.code != ERR_NONE || o->agent->stopping)
        return;
    struct watching *w = calloc(1, sizeof *w);
    if (!w)
        return; /* the tick comes by again */
    w->task.priority = PRIORITY_WATCH;
    w->task.work = work;
    w->task.done = on_watched;
    w->output = o;
    w->stamp = o->stamp;
    w->writes = o->writes;
    o->watching = true;
    queue_put(o->agent->writer, &w->task);
}

bool output_again(const struct output *o)
{
    return o->lost && clock_mono_ms() >= o->again_mono_ms;
}

/* --- readiness ------------------------------------------------------------------------------------------------------------ */

size_t outputs_written(const struct agent *a)
{
    size_t n = 0;
    for (size_t k = 0; k < a->outputs_count; k++)
        n += a->outputs[k].written && !a->outputs[k].lost;
    return n;
}

/* An SVID's rule: renewed at half of its life, late at two thirds. */
static bool jwt_late(const struct output *o)
{
    return o->written && o->jwt_expires > 0 && renew_overdue(o->jwt_from * 1000, o->jwt_expires * 1000, clock_wall_ms());
}

bool outputs_overdue(const struct agent *a, const struct identity *i)
{
    bool late = false;
    for (size_t k = 0; k < a->outputs_count && !late; k++)
        late = a->outputs[k].identity == i && jwt_late(&a->outputs[k]);
    return late;
}

static void say_jwt_late(const struct output *o, char *dst, size_t cap)
{
    char when[21];
    struct jwt_found jwt = jwt_find(o->identity, o->config->audience, o->config->audience_count, clock_wall());
    bool over = o->jwt_expires <= clock_wall(), why = jwt.failed_mono_ms > 0;
    clock_rfc3339(when, over ? o->jwt_expires : o->jwt_from + (o->jwt_expires - o->jwt_from) / 2);
    snprintf(dst, cap, "%s %s%s%.300s", over ? "its JWT-SVID expired at" : "its JWT-SVID is past renewal, due since", when,
             why ? ": " : "", why ? jwt.why->msg : "");
}

/* False: what is wrong with it is in why. */
static bool output_ready(const struct output *o, char *why, size_t cap)
{
    const struct err *bad = o->write_error.code != ERR_NONE ? &o->write_error : &o->reload_error;
    if (!o->identity)
        snprintf(why, cap, "no entry that fits");
    else if (bad->code != ERR_NONE)
        snprintf(why, cap, "%.400s", bad->msg);
    else if (!o->written)
        snprintf(why, cap, "not written yet");
    else if (o->lost)
        snprintf(why, cap, "gone, or another is in its place; it is written again");
    else if (!o->reloaded)
        snprintf(why, cap, "its program is not told yet");
    else if (jwt_late(o))
        say_jwt_late(o, why, cap);
    else
        return true;
    return false;
}

bool outputs_ready(const struct agent *a, char *why, size_t cap)
{
    char what[420];
    for (size_t k = 0; k < a->outputs_count; k++) {
        const struct output *o = &a->outputs[k];
        if (output_ready(o, what, sizeof what))
            continue;
        snprintf(why, cap, "files of %.200s in %.200s: %s", o->config->id, o->config->dir, what);
        return false;
    }
    return true;
}
