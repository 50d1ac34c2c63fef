/* Replaying a log and judging its entries. What can be said of an entry alone is said while its
 * bundle is read, on any thread (entries_read); what needs those before it, in order
 * (entries_take). */
#include "tlog/audit.h"
#include "tlog/internal.h"
#include <stdlib.h>
#include <string.h>

/* The newest revision seen of each registration entry: open addressing, at most half full. Keys are
 * hashes of ids, so that a slot has one size, its first bytes are as good as random, and no key is
 * all zeros: that is a free slot. */
struct slot {
    uint64_t key[2];
    uint64_t revision;
    int64_t since; /* not_before of its first certificate */
};
struct table {
    struct slot *slots; /* owned */
    size_t cap, used;   /* cap is a power of two */
};

struct audit {
    const struct tlog_audit_options *o;
    struct tlog_audit_report *r;
    struct table revisions;
    int64_t latest; /* time so far */
    bool timed;
};

struct note { /* of one entry, for entries_take */
    uint8_t kind;
    bool registered;
    uint64_t key[2]; /* of the registration entry */
    uint64_t revision;
    int64_t time, not_after; /* time: not_before of a certificate, iat of a JWT */
    int64_t ahead;           /* of a record that the clock was set back: from when; else 0 */
};

/* --- revisions ------------------------------------------------------------------------------------ */

static bool slot_free(const struct slot *s)
{
    return (s->key[0] | s->key[1]) == 0;
}

static struct slot *slot_of(const struct table *t, const uint64_t key[2])
{
    for (size_t i = key[0] & (t->cap - 1);; i = (i + 1) & (t->cap - 1)) {
        struct slot *s = &t->slots[i];
        if (slot_free(s) || (s->key[0] == key[0] && s->key[1] == key[1]))
            return s;
    }
}

static int table_grow(struct table *t, struct err *e)
{
    struct table more = {.cap = t->cap ? 2 * t->cap : 1024, .used = t->used};
    more.slots = calloc(more.cap, sizeof *more.slots);
    if (!more.slots)
        return err_set(e, ERR_INTERNAL, "log-memory",
                       "out of memory for %zu registration entries", more.cap / 2);
    for (size_t i = 0; i < t->cap; i++)
        if (!slot_free(&t->slots[i]))
            *slot_of(&more, t->slots[i].key) = t->slots[i];
    free(t->slots);
    *t = more;
    return 0;
}

/* The key's slot, free when the key is new. NULL: out of memory. */
static struct slot *table_find(struct table *t, const uint64_t key[2], struct err *e)
{
    if (2 * (t->used + 1) > t->cap && table_grow(t, e) < 0)
        return NULL;
    return slot_of(t, key);
}

/* Decimal digits, as the signer writes a time; 0: none. */
static int64_t time_read(struct bytes text)
{
    int64_t t = 0;
    if (text.len == 0 || text.len > 18)
        return 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return 0;
        t = 10 * t + (text.p[i] - '0');
    }
    return t;
}

/* --- an entry alone ------------------------------------------------------------------------------- */

static uint8_t kind_of(const struct tlog_entry_parts *p)
{
    switch (p->t.type) {
    case TLOG_ENTRY_NULL:
        return TLOG_AUDIT_NULL;
    case TLOG_ENTRY_TBS_CERT:
        return p->cert.ca ? TLOG_AUDIT_CA : TLOG_AUDIT_CERT;
    case TLOG_ENTRY_REVOCATION:
        return TLOG_AUDIT_REVOCATION;
    case TLOG_ENTRY_REFUSAL:
        return TLOG_AUDIT_REFUSAL;
    case TLOG_ENTRY_CHANGE:
        return TLOG_AUDIT_CHANGE;
    case TLOG_ENTRY_AUTHORITY:
        return TLOG_AUDIT_AUTHORITY;
    case TLOG_ENTRY_JWT:
        return TLOG_AUDIT_JWT;
    default:
        return TLOG_AUDIT_UNKNOWN;
    }
}

static void note_registration(struct note *n, struct bytes id, uint64_t revision)
{
    uint8_t hash[TLOG_HASH];
    n->registered = id.len > 0;
    if (!n->registered)
        return;
    tlog_sha256(hash, id.p, id.len);
    memcpy(n->key, hash, sizeof n->key);
    n->revision = revision;
}

static void note_take(struct note *n, const struct tlog_entry_parts *p)
{
    n->kind = kind_of(p);
    n->registered = false;
    n->ahead = 0;
    if (n->kind == TLOG_AUDIT_CERT) {
        n->time = p->cert.not_before;
        n->not_after = p->cert.not_after;
        note_registration(n, p->x.entry_id, p->x.entry_revision);
    } else if (tlog_record_is(p->t.type)) {
        n->time = p->record.time;
        if (n->kind == TLOG_AUDIT_AUTHORITY && p->record.code == TLOG_CLOCK_BACK)
            n->ahead = time_read(p->record.value);
        if (n->kind == TLOG_AUDIT_JWT) {
            n->not_after = p->record.expires;
            note_registration(n, p->record.entry_id, p->record.revision);
        }
    }
}

static int entries_read(void *arg, void *notes, uint64_t first, const struct bytes *entries,
                        unsigned n, struct err *e)
{
    struct note *note = notes;
    struct tlog_entry_parts p;
    for (unsigned i = 0; i < n; i++) {
        if (tlog_entry_open(&p, first + i, entries[i], e) == 0)
            note_take(&note[i], &p);
        else
            note[i] = (struct note){.kind = TLOG_AUDIT_BAD};
    }
    return 0;
}

/* --- an entry among the others -------------------------------------------------------------------- */

static void found(struct audit *a, uint64_t index, struct err *why)
{
    a->r->findings++;
    why->code = ERR_CORRUPT;
    err_wrap(why, "entry %llu", (unsigned long long)index);
    if (a->o->finding)
        a->o->finding(a->o->arg, index, why);
}

static void form_judge(struct audit *a, uint64_t index, struct bytes entry)
{
    struct tlog_entry_parts p;
    struct err why;
    if (tlog_entry_open(&p, index, entry, &why) == 0)
        err_set(&why, ERR_INTERNAL, "entry-format", "it changed while it was read");
    found(a, index, &why);
}

/* Apart from the judging, which every entry goes through: what is said takes room on the stack. */
static void lifetime_found(struct audit *a, uint64_t index, const struct note *n)
{
    struct err why;
    if (n->not_after < n->time)
        err_set(&why, ERR_CORRUPT, "entry-lifetime", "the certificate ends before it begins");
    else
        err_set(&why, ERR_CORRUPT, "entry-lifetime",
                "the %s is valid for %lld s, but at most %u s and a backdate of %d s are "
                "allowed: ask the authority who let it be made%s",
                n->kind == TLOG_AUDIT_JWT ? "JWT-SVID" : "certificate", (long long)(n->not_after - n->time),
                a->o->max_lifetime, TLOG_AUDIT_BACKDATE,
                n->kind == TLOG_AUDIT_JWT ? "; only an end of its key's use ends it earlier" : ", and have it revoked");
    found(a, index, &why);
}

static void lifetime_judge(struct audit *a, uint64_t index, const struct note *n)
{
    int64_t lifetime = n->not_after - n->time, max = a->o->max_lifetime;
    if (lifetime < 0 || (max > 0 && lifetime > max + TLOG_AUDIT_BACKDATE))
        lifetime_found(a, index, n);
}

static void revision_found(struct audit *a, uint64_t index, const struct note *n,
                           const struct slot *s)
{
    struct err why;
    err_set(&why, ERR_CORRUPT, "entry-revision",
            "the %s was given under revision %llu of its registration entry, %lld s after "
            "revision %llu was in use: ask the authority why the older rule was used; was its "
            "store restored from a backup?",
            n->kind == TLOG_AUDIT_JWT ? "JWT-SVID" : "certificate", (unsigned long long)n->revision,
            (long long)(n->time - s->since),
            (unsigned long long)s->revision);
    found(a, index, &why);
}

static int revision_judge(struct audit *a, uint64_t index, const struct note *n, struct err *e)
{
    struct slot *s = table_find(&a->revisions, n->key, e);
    if (!s)
        return -1;
    if (slot_free(s)) {
        memcpy(s->key, n->key, sizeof s->key);
        a->revisions.used++;
    } else if (n->revision <= s->revision) {
        if (n->revision < s->revision && n->time > s->since + TLOG_AUDIT_SLACK)
            revision_found(a, index, n, s);
        return 0;
    }
    s->revision = n->revision;
    s->since = n->time;
    return 0;
}

static void time_found(struct audit *a, uint64_t index, int64_t time)
{
    struct err why;
    err_set(&why, ERR_CORRUPT, "entry-time",
            "its time lies %llu s before that of an earlier entry: the signer's clock was set back, "
            "or had run ahead, or this was backdated; ask the authority which",
            (unsigned long long)((uint64_t)a->latest - (uint64_t)time));
    found(a, index, &why);
}

/* A record that explains the step explains no larger one. */
static bool time_accepted(struct audit *a, uint64_t index, int64_t ahead)
{
    struct tlog_audit_report *r = a->r;
    if (ahead == 0 || ahead + TLOG_AUDIT_SLACK < a->latest)
        return false;
    if (r->clocks < TLOG_AUDIT_LISTED)
        r->clock[r->clocks] = index;
    r->clocks++;
    return true;
}

/* After a finding the time goes on from there: one step back is one finding. */
static void time_judge(struct audit *a, uint64_t index, int64_t time, int64_t ahead)
{
    struct tlog_audit_report *r = a->r;
    bool back = a->latest > 0 && time < a->latest - TLOG_AUDIT_SLACK;
    if (back && !time_accepted(a, index, ahead))
        time_found(a, index, time);
    if (a->latest == 0 || back || time > a->latest)
        a->latest = time;
    if (!a->timed || time < r->first_time)
        r->first_time = time;
    if (!a->timed || time > r->last_time)
        r->last_time = time;
    a->timed = true;
}

static int entry_judge(struct audit *a, uint64_t index, const struct note *n, struct bytes entry,
                       struct err *e)
{
    uint64_t nth = a->r->count[n->kind]++;
    switch (n->kind) {
    case TLOG_AUDIT_BAD:
        form_judge(a, index, entry);
        return 0;
    case TLOG_AUDIT_CA:
        if (nth < TLOG_AUDIT_LISTED)
            a->r->ca[nth] = index;
        return 0;
    case TLOG_AUDIT_NULL:
    case TLOG_AUDIT_UNKNOWN:
        return 0;
    case TLOG_AUDIT_CERT:
    case TLOG_AUDIT_JWT:
        lifetime_judge(a, index, n);
        if (n->registered && revision_judge(a, index, n, e) < 0)
            return -1;
        break;
    }
    time_judge(a, index, n->time, n->ahead);
    return 0;
}

/* Of the bundle in which the kept head ends: judged before, but its time is what the next one is
 * compared with. */
static void known_take(struct audit *a, const struct note *n)
{
    bool timed = n->kind == TLOG_AUDIT_CERT || n->kind == TLOG_AUDIT_REVOCATION || n->kind == TLOG_AUDIT_REFUSAL ||
                 n->kind == TLOG_AUDIT_CHANGE || n->kind == TLOG_AUDIT_AUTHORITY || n->kind == TLOG_AUDIT_JWT;
    if (!timed || a->o->latest > 0)
        return;
    if (a->latest == 0 || n->time > a->latest || n->time < a->latest - TLOG_AUDIT_SLACK)
        a->latest = n->time;
}

static int entries_take(void *arg, const void *notes, uint64_t first, const struct bytes *entries,
                        unsigned n, struct err *e)
{
    struct audit *a = arg;
    const struct note *note = notes;
    for (unsigned i = 0; i < n; i++) {
        if (first + i < a->r->from.size) {
            known_take(a, &note[i]);
            continue;
        }
        if (entry_judge(a, first + i, &note[i], entries[i], e) < 0 ||
            (a->o->entry && a->o->entry(a->o->arg, first + i, entries[i], e) < 0))
            return -1;
    }
    return 0;
}

/* --- the whole ------------------------------------------------------------------------------------ */

static void progress(void *arg, uint64_t done, uint64_t total)
{
    const struct audit *a = arg;
    if (a->o->progress)
        a->o->progress(a->o->arg, done, total);
}

static int heads_read(const char *dir, const struct tlog_audit_options *o, struct tlog_audit_report *r,
                      struct err *e)
{
    struct buf note;
    buf_init(&note, TLOG_NOTE_MAX);
    int ret = o->head.len > 0 ? tlog_checkpoint_open(&r->checkpoint, o->head.p, o->head.len, o->vkey, e)
                              : tlog_published_read(dir, o->vkey, &note, &r->checkpoint, e);
    buf_free(&note);
    if (ret < 0 || o->from.len == 0)
        return ret;
    if (tlog_checkpoint_open(&r->from, o->from.p, o->from.len, o->vkey, e) < 0)
        return err_wrap(e, "the head that was kept");
    if (r->from.size > r->checkpoint.size)
        return err_set(e, ERR_CORRUPT, "log-rollback",
                       "the head that was kept has %llu entries, the published one only %llu: the "
                       "log went back, or this is an old copy of it. Fetch the newest; if that is "
                       "it, keep both as evidence",
                       (unsigned long long)r->from.size, (unsigned long long)r->checkpoint.size);
    return 0;
}

int tlog_audit(const struct tlog_audit_options *o, struct tlog_audit_report *r, struct err *e)
{
    const struct tlog_place folder = {.dir = o->dir}, *at = o->at ? o->at : &folder;
    struct audit a = {.o = o, .r = r, .latest = o->latest};
    memset(r, 0, sizeof *r);
    if (heads_read(at->dir, o, r, e) < 0)
        return -1;
    const struct tlog_walk_options walk = {.at = at,
                                           .size = r->checkpoint.size,
                                           .edge_too = true,
                                           .progress = progress,
                                           .arg = &a,
                                           .from = o->from.len > 0 ? &r->from : NULL,
                                           .threads = o->threads,
                                           .read = entries_read,
                                           .notes = TLOG_TILE * sizeof(struct note),
                                           .take = entries_take};
    int ret = tlog_walk_signed(&walk, &r->checkpoint, e);
    r->checked = r->checkpoint.size - r->from.size;
    r->registrations = a.revisions.used;
    r->latest = a.latest;
    free(a.revisions.slots);
    return ret;
}

const char *tlog_audit_kind_name(enum tlog_audit_kind k)
{
    static const char *const names[TLOG_AUDIT_KINDS] = {
        [TLOG_AUDIT_NULL] = "null",
        [TLOG_AUDIT_CERT] = "certificate",
        [TLOG_AUDIT_CA] = "ca_certificate",
        [TLOG_AUDIT_REVOCATION] = "revocation",
        [TLOG_AUDIT_REFUSAL] = "refusal",
        [TLOG_AUDIT_CHANGE] = "entry_change",
        [TLOG_AUDIT_AUTHORITY] = "authority_change",
        [TLOG_AUDIT_JWT] = "jwt",
        [TLOG_AUDIT_UNKNOWN] = "unknown",
        [TLOG_AUDIT_BAD] = "malformed",
    };
    return names[k];
}
