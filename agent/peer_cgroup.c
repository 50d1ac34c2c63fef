/* Which unit and which container a process is in, by its control group.
 *
 * A path is written from the outside in: "/system.slice/nginx.service/worker". Whoever was given a group may
 * name what is below it as he likes, and any user has one ("user@1000.service"), any container another. So the
 * OUTERMOST name counts, for unit and container alike, and no container that is named below a user's own group:
 * else "mkdir …/user@1000.service/docker-<somebody's id>.scope" would be a container. systemd reads its paths the
 * same way: slices first, then the unit.
 */
#include "agent/peer.h"
#include <string.h>

struct part { /* of a path */
    const char *p;
    size_t len;
};

static bool part_is(struct part a, const char *s)
{
    return a.len == strlen(s) && memcmp(a.p, s, a.len) == 0;
}

static bool part_starts(struct part a, const char *s)
{
    size_t n = strlen(s);
    return a.len > n && memcmp(a.p, s, n) == 0;
}

static bool part_ends(struct part a, const char *s)
{
    size_t n = strlen(s);
    return a.len > n && memcmp(a.p + a.len - n, s, n) == 0;
}

static bool part_next(struct part *a, const char **p)
{
    while (**p == '/')
        ++*p;
    a->p = *p;
    a->len = strcspn(*p, "/");
    *p += a->len;
    return a->len > 0;
}

static bool hex64(const char *p, size_t len)
{
    if (len != 64)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
            return false;
    return true;
}

/* "docker-<id>.scope", "crio-<id>", "…:cri-containerd:<id>"; `bare` where an id may stand alone. */
static bool container_of(struct part a, bool bare, char dst[65])
{
    static const char *const engines[] = {"docker-", "cri-containerd-", "crio-", "libpod-"};
    static const char colon[] = ":cri-containerd:";
    const char *id = NULL;
    if (part_ends(a, ".scope"))
        a.len -= strlen(".scope");
    if (bare && a.len == 64)
        id = a.p;
    for (size_t i = 0; i < sizeof engines / sizeof *engines && !id; i++)
        if (part_starts(a, engines[i]))
            id = a.p + strlen(engines[i]);
    if (!id && a.len > 64 + strlen(colon) &&
        memcmp(a.p + a.len - 64 - strlen(colon), colon, strlen(colon)) == 0)
        id = a.p + a.len - 64;
    if (!id || !hex64(id, (size_t)(a.p + a.len - id)))
        return false;
    memcpy(dst, id, 64);
    dst[64] = 0;
    return true;
}

/* systemd writes "_" before a name that the kernel might take for a file of its own. */
static void unit_keep(struct peer_cgroup *c, struct part a)
{
    if (part_starts(a, "_"))
        a = (struct part){a.p + 1, a.len - 1};
    if (a.len >= sizeof c->unit)
        return;
    memcpy(c->unit, a.p, a.len);
    c->unit[a.len] = 0;
}

static void path_read(struct peer_cgroup *c)
{
    const char *p = c->path;
    bool slices = true, bare = false, users = false;
    for (struct part a; part_next(&a, &p);) {
        if (part_is(a, "..")) /* of a group namespace: outside ours */
            continue;
        if (slices && !part_ends(a, ".slice")) {
            slices = false;
            if (part_ends(a, ".service") || part_ends(a, ".scope"))
                unit_keep(c, a);
        }
        users = users || (part_starts(a, "user@") && part_ends(a, ".service"));
        if (!users && !*c->container && container_of(a, bare, c->container))
            return;
        bare = bare || part_is(a, "docker") || part_starts(a, "kubepods") || part_is(a, "kubepods");
    }
}

struct line { /* "number:controllers:path" */
    struct part controllers, path;
};

static bool line_split(struct line *l, const char *p, size_t len)
{
    const char *end = p + len, *one = memchr(p, ':', len);
    const char *two = one ? memchr(one + 1, ':', (size_t)(end - one - 1)) : NULL;
    if (!two || two + 1 == end || two[1] != '/' || memchr(p, 0, len))
        return false;
    l->controllers = (struct part){one + 1, (size_t)(two - one - 1)};
    l->path = (struct part){two + 1, (size_t)(end - two - 1)};
    return l->path.len < PEER_CGROUP_PATH;
}

/* v2's line has no controllers. Beside v1 hierarchies it may say no more than "/", and then systemd's own
 * named one is next, then any that says more. */
static int line_weight(const struct line *l)
{
    if (l->path.len == 1)
        return 1;
    return l->controllers.len == 0 ? 4 : part_is(l->controllers, "name=systemd") ? 3 : 2;
}

void peer_cgroup_parse(struct peer_cgroup *c, const char *text, size_t len)
{
    const char *end = text + len;
    int best = 0;
    *c->path = *c->unit = *c->container = 0;
    for (const char *p = text; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct line l;
        if (!nl) /* cut off */
            break;
        if (line_split(&l, p, (size_t)(nl - p)) && line_weight(&l) > best) {
            best = line_weight(&l);
            memcpy(c->path, l.path.p, l.path.len);
            c->path[l.path.len] = 0;
        }
        p = nl + 1;
    }
    path_read(c);
}
