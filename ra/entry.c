/* Entries as operators change them: checked, stored, then visible. */
#include "ra/store.h"
#include "base/clock.h"
#include <stdlib.h>
#include <string.h>

#define RESERVED "/mayfly"

struct entry_op {
    struct op op;
    struct ra *ra;
    struct entry *x; /* what it becomes, or what goes; a reference. Of a new one nobody else has any before done */
    bool remove;
    ra_entry_cb *cb;
    void *arg;
    struct buf record;     /* what the log is told; owned */
    struct deed deed;      /* its row of the outbox */
};

/* --- what an entry may say ------------------------------------------------------------------------------------ */

int selector_check(const char *s, struct err *e)
{
    size_t len = strlen(s);
    const char *colon = strchr(s, ':');
    bool printable = true;
    for (size_t i = 0; i < len; i++)
        printable = printable && s[i] >= 0x20 && s[i] < 0x7f;
    if (len > RA_SELECTOR_LEN || !printable || !colon || colon == s || !colon[1])
        return err_set(e, ERR_MALFORMED, "selector",
                       "a selector is type:value in printable ASCII, at most %d bytes, as x509pop:spiffe_id:spiffe://…",
                       RA_SELECTOR_LEN);
    return 0;
}

int selectors_check(char *const *v, size_t n, struct err *e)
{
    if (n > RA_SELECTORS_MAX)
        return err_set(e, ERR_MALFORMED, "selector", "%zu selectors; at most %d", n, RA_SELECTORS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (selector_check(v[i], e) < 0)
            return -1;
        for (size_t k = 0; k < i; k++)
            if (strcmp(v[i], v[k]) == 0)
                return err_set(e, ERR_MALFORMED, "selector", "a selector stands twice");
    }
    return 0;
}

int hint_check(const char *hint, struct err *e)
{
    size_t n = 0;
    while (hint && hint[n] >= 0x20 && hint[n] < 0x7f && n < RA_HINT_MAX)
        n++;
    if (hint && hint[n])
        return err_set(e, ERR_MALFORMED, "hint", "a hint is printable ASCII, at most %d bytes", RA_HINT_MAX);
    return 0;
}

static int check_reserved(const struct spiffe_id *id, struct err *e)
{
    size_t n = sizeof RESERVED - 1;
    if (id->path.len >= n && memcmp(id->path.p, RESERVED, n) == 0 && (id->path.len == n || id->path.p[n] == '/'))
        return err_set(e, ERR_REJECTED_ID, "reserved",
                       "paths under " RESERVED "/ are the authority's own; choose another");
    return 0;
}

/* As ca/profile has it: a name of the list, or below one. */
static bool dns_permitted(const struct config *c, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < c->ca.permitted_dns_count; i++) {
        const char *zone = c->ca.permitted_dns[i];
        size_t n = strlen(zone);
        if (len >= n && strcmp(name + len - n, zone) == 0 && (len == n || name[len - n - 1] == '.'))
            return true;
    }
    return false;
}

static int check_dns(const struct config *c, const struct ra_entry *x, struct err *e)
{
    if (x->dns_count > CA_DNS_MAX)
        return err_set(e, ERR_MALFORMED, "dns-name", "%zu DNS names; at most %d", x->dns_count, CA_DNS_MAX);
    for (size_t i = 0; i < x->dns_count; i++) {
        if (dns_name_check(x->dns[i], strlen(x->dns[i]), e) < 0)
            return -1;
        if (!dns_permitted(c, x->dns[i]))
            return err_set(e, ERR_REJECTED_ID, "dns-permitted",
                           "the DNS name %s is outside what this authority may certify; see ca.permitted_dns",
                           x->dns[i]);
        for (size_t k = 0; k < i; k++)
            if (strcmp(x->dns[i], x->dns[k]) == 0)
                return err_set(e, ERR_MALFORMED, "dns-name", "the DNS name %s stands twice", x->dns[i]);
    }
    return 0;
}

static int check_parent(const struct ra *ra, const char *parent, struct err *e)
{
    struct spiffe_id id;
    if (strcmp(parent, ra->authority) == 0)
        return 0;
    if (spiffe_parse_workload(&id, parent, strlen(parent), ra->config->trust_domain, e) < 0)
        return err_wrap(e, "parent");
    return check_reserved(&id, e);
}

static int check_entry(const struct ra *ra, const struct ra_entry *x, struct err *e)
{
    struct spiffe_id id;
    if (!x->spiffe_id)
        return err_set(e, ERR_MALFORMED, "spiffe-id", "the entry's SPIFFE ID is missing");
    if (spiffe_parse_workload(&id, x->spiffe_id, strlen(x->spiffe_id), ra->config->trust_domain, e) < 0 ||
        check_reserved(&id, e) < 0 || check_parent(ra, x->parent, e) < 0)
        return -1;
    if (strcmp(x->parent, x->spiffe_id) == 0)
        return err_set(e, ERR_REJECTED_ID, "parent", "an entry can not be its own parent");
    if (selectors_check(x->selectors, x->selectors_count, e) < 0 || check_dns(ra->config, x, e) < 0 ||
        hint_check(x->hint, e) < 0)
        return -1;
    if (x->ttl > ra->config->ca.max_lifetime)
        return err_set(e, ERR_REJECTED_ID, "lifetime",
                       "a lifetime of %u seconds; this authority gives at most %u (ca.max_lifetime)", x->ttl,
                       ra->config->ca.max_lifetime);
    return 0;
}

/* --- the ops -------------------------------------------------------------------------------------------------- */

static void op_free(struct entry_op *o)
{
    buf_free(&o->record);
    entry_unref(o->x);
    free(o);
}

static uint64_t number_next(struct ra *ra)
{
    pthread_mutex_lock(&ra->lock);
    uint64_t n = ++ra->entries.number;
    pthread_mutex_unlock(&ra->lock);
    return n;
}

/* A new entry gets its number here, and not where it is asked for, which many threads do: nobody may see one of them
 * before another whose number is lower. */
static int entry_write(struct op *op, struct store *s, struct err *e)
{
    struct entry_op *o = (struct entry_op *)(void *)op;
    if (!o->remove && o->x->x.revision == 1)
        o->x->x.number = number_next(o->ra);
    int rc = o->remove                 ? store_entry_delete(s, o->x->x.id, e)
             : o->x->x.revision == 1 ? store_entry_add(s, &o->x->x, e)
                                     : store_entry_update(s, &o->x->x, e);
    return rc == 0 ? store_deed_add(s, &o->deed, e) : -1;
}

static void entry_done(struct op *op, struct ra *ra, const struct err *e)
{
    struct entry_op *o = (struct entry_op *)(void *)op;
    struct err why = {0};
    if (!e) {
        pthread_mutex_lock(&ra->lock);
        if (o->remove) {
            /* An update that was written before this one may have put another object there. */
            struct entry *now = registry_find(&ra->entries, o->x->x.id);
            if (now)
                registry_remove(&ra->entries, now);
        } else if (registry_put(&ra->entries, entry_ref(o->x)) < 0) {
            no_memory(&why);
            e = &why;
        }
        pthread_mutex_unlock(&ra->lock);
        teller_deed(ra->teller, &o->deed);
    }
    if (!e)
        log_info(o->remove ? "entry deleted" : o->x->x.revision == 1 ? "entry created" : "entry updated", "spiffe_id",
                 o->x->x.spiffe_id, "entry", o->x->x.id, "revision", log_num((long long)o->x->x.revision), NULL);
    o->cb(o->arg, e ? NULL : &o->x->x, e);
    op_free(o);
}

static int op_record(struct entry_op *o, const char *actor, struct err *e)
{
    enum tlog_changed what = o->remove ? TLOG_DELETED : o->x->x.revision == 1 ? TLOG_CREATED : TLOG_UPDATED;
    if (deed_entry(&o->record, &o->x->x, what, actor, e) < 0)
        return -1;
    o->deed = (struct deed){.type = TLOG_ENTRY_CHANGE, .body = {o->record.p, o->record.len}};
    return 0;
}

/* Takes x's reference. */
static void entry_push(struct ra *ra, struct entry *x, bool remove, const char *actor, ra_entry_cb *cb, void *arg)
{
    struct err e = {0};
    struct entry_op *o = calloc(1, sizeof *o);
    if (!o) {
        no_memory(&e);
        entry_unref(x);
        cb(arg, NULL, &e);
        return;
    }
    *o = (struct entry_op){.op = {.write = entry_write, .done = entry_done}, .ra = ra, .x = x, .remove = remove,
                           .cb = cb, .arg = arg};
    buf_init(&o->record, TLOG_RECORD_MAX);
    if (op_record(o, actor, &e) == 0 && writer_push(ra, &o->op, &e) == 0)
        return;
    op_free(o);
    cb(arg, NULL, &e);
}

void ra_entry_create(struct ra *ra, const struct ra_entry *want, ra_entry_cb *cb, void *arg)
{
    struct err e = {0};
    struct ra_entry x = *want;
    if (!x.parent || !*x.parent)
        x.parent = ra->authority;
    x.revision = 1;
    x.created = x.updated = clock_wall();
    struct entry *made = NULL;
    x.number = 0; /* see entry_write */
    if (check_entry(ra, &x, &e) == 0 && id_make(x.id, &e) == 0)
        made = entry_new(&x, &e);
    if (made)
        entry_push(ra, made, false, want->actor, cb, arg);
    else
        cb(arg, NULL, &e);
}

static struct entry *entry_take(struct ra *ra, const char *id_or_spiffe_id, struct err *e)
{
    pthread_mutex_lock(&ra->lock);
    struct entry *x = registry_find(&ra->entries, id_or_spiffe_id);
    if (x)
        entry_ref(x);
    pthread_mutex_unlock(&ra->lock);
    if (!x)
        err_set(e, ERR_NOT_FOUND, "entry", "there is no entry %.300s; see `mayfly entry list`", id_or_spiffe_id);
    return x;
}

/* The next revision of old. Names that want does not have stay as they are. */
static struct entry *entry_revise(struct ra *ra, const struct entry *old, const struct ra_entry *want, struct err *e)
{
    struct ra_entry x = *want;
    if (want->revision && want->revision != old->x.revision) {
        err_set(e, ERR_EXISTS, "revision", "the entry's revision is %llu, not %llu; read it again",
                (unsigned long long)old->x.revision, (unsigned long long)want->revision);
        return NULL;
    }
    if (x.spiffe_id && strcmp(x.spiffe_id, old->x.spiffe_id) != 0) {
        err_set(e, ERR_MALFORMED, "entry-rename", "an entry keeps its SPIFFE ID; delete it, and create another");
        return NULL;
    }
    memcpy(x.id, old->x.id, sizeof x.id);
    x.spiffe_id = old->x.spiffe_id;
    if (!x.parent || !*x.parent)
        x.parent = old->x.parent;
    x.revision = old->x.revision + 1;
    x.created = old->x.created;
    x.number = old->x.number;
    x.updated = clock_wall();
    return check_entry(ra, &x, e) == 0 ? entry_new(&x, e) : NULL;
}

void ra_entry_update(struct ra *ra, const struct ra_entry *want, ra_entry_cb *cb, void *arg)
{
    struct err e = {0};
    struct entry *made = NULL, *old = NULL;
    const char *which = *want->id ? want->id : want->spiffe_id;
    if (which)
        old = entry_take(ra, which, &e);
    else
        err_set(&e, ERR_MALFORMED, "entry", "name the entry by its id or SPIFFE ID");
    if (old)
        made = entry_revise(ra, old, want, &e);
    entry_unref(old);
    if (made)
        entry_push(ra, made, false, want->actor, cb, arg);
    else
        cb(arg, NULL, &e);
}

void ra_entry_delete(struct ra *ra, const char *id_or_spiffe_id, const char *actor, ra_entry_cb *cb, void *arg)
{
    struct err e = {0};
    struct entry *x = entry_take(ra, id_or_spiffe_id, &e);
    if (x)
        entry_push(ra, x, true, actor, cb, arg);
    else
        cb(arg, NULL, &e);
}

void ra_entry_get(struct ra *ra, const char *id_or_spiffe_id, ra_entry_cb *cb, void *arg)
{
    struct err e = {0};
    struct entry *x = entry_take(ra, id_or_spiffe_id, &e);
    cb(arg, x ? &x->x : NULL, x ? NULL : &e);
    entry_unref(x);
}
