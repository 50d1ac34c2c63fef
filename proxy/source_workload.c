/* Identity from the agent: one FetchX509SVID stream, kept open by workload/client. */
#include "proxy/internal.h"
#include <stdlib.h>

struct source_workload {
    struct source base;
    struct source_ops ops;
    struct wl_client *client;
};

static void on_state(void *arg, struct wl_state *s)
{
    const struct source_workload *w = arg;
    w->ops.state(w->ops.arg, s);
}

static void on_trouble(void *arg, enum wl_status status, const struct err *e)
{
    const struct source_workload *w = arg;
    w->ops.trouble(w->ops.arg, e);
}

static void stop(struct source *s)
{
    struct source_workload *w = (struct source_workload *)s;
    wl_client_free(w->client);
    free(w);
}

struct source *source_workload(struct event_base *base, const char *endpoint, const struct source_ops *ops, struct err *e)
{
    struct source_workload *w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory");
        return NULL;
    }
    w->base.stop = stop;
    w->ops = *ops;
    const struct wl_client_ops c = {.arg = w, .state = on_state, .trouble = on_trouble};
    w->client = wl_client_new(base, endpoint, false, &c, e);
    if (w->client)
        return &w->base;
    free(w);
    return NULL;
}
