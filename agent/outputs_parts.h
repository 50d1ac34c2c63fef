/* What the files of sets share: outputs.c writes and tells, outputs_watch.c looks at what was written. All of it is the
 * loop's. Nothing else but tests includes this. */
#ifndef AGENT_OUTPUTS_PARTS_H
#define AGENT_OUTPUTS_PARTS_H
#include "agent/daemon.h"
#include "agent/output.h"

#define RETRY_MS 5000

struct output {
    struct agent *agent;
    const struct agent_files *config;
    struct output_config files;
    char *selectors[8]; /* owned */
    size_t selectors_count;
    struct identity *identity;   /* wanted by this output; NULL: no entry that fits */
    struct wl_svid *written;     /* owned: the SVID that stands there; NULL: none since start */
    struct wl_bundles *bundles;  /* owned: as it stands there */
    int64_t jwt_from, jwt_expires; /* of the token there, wall s; 0: none */
    struct output_stamp stamp;   /* of what stands there */
    bool writing, said;
    unsigned writes;             /* begun so far */
    int64_t retry_mono_ms;
    bool due, telling;           /* what stands there is to be told to its program; that is under way */
    bool reloaded;               /* its program was told of a set since the start */
    unsigned reload_failures;    /* since the hook last went well */
    int64_t reload_mono_ms;      /* what is due waits until then */
    int64_t missed_mono_ms;      /* since when it has no identity; 0: it has one, or nothing is known yet */
    bool watching;               /* whether it stands is being looked at */
    bool lost;                   /* it stands no more */
    unsigned losses;             /* that came soon after one another */
    int64_t lost_mono_ms, again_mono_ms; /* the last one; when what was lost is written again */
    struct err write_error, reload_error; /* of the last try; ERR_NONE: well */
};

/* outputs.c: writes what is to be written, tells who is to be told. */
void output_look(struct output *o);
/* outputs_watch.c. Once a second: is what was written still there? Looked at by the writer's thread, as a file system may
 * hang; output_look is called when it is not. */
void output_watch(struct output *o);
bool output_again(const struct output *o); /* it is lost, and may be written again */

#endif
