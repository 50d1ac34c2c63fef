/* Policies (C2SP tlog-policy): the file, and a checkpoint against it. */
#include "tlog/policy.h"
#include "tlog/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOBODY (-1)

/* A witness or a group. A name is a member of at most one group and is defined before it, so the
 * members form trees, and every child stands before its parent. */
struct member {
    char name[TLOG_ORIGIN_MAX + 1];
    bool group;
    size_t need, count;   /* of a group: so many of so many */
    int parent;           /* the group that it is in, or NOBODY */
    struct tlog_vkey key; /* of a witness */
};

struct tlog_policy {
    struct tlog_vkey logs[TLOG_POLICY_LOGS];
    size_t log_count;
    struct member members[TLOG_POLICY_MEMBERS];
    size_t member_count, witness_count;
    int quorum;          /* a member, or NOBODY */
    size_t quorum_count; /* else so many of all witnesses */
    unsigned quorum_line;
    int64_t max_age; /* 0: any */
};

struct tlog_policy *tlog_policy_new(void)
{
    struct tlog_policy *p = calloc(1, sizeof *p);
    if (p)
        p->quorum = NOBODY;
    return p;
}

void tlog_policy_free(struct tlog_policy *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->log_count; i++)
        tlog_vkey_free(&p->logs[i]);
    for (size_t i = 0; i < p->member_count; i++)
        tlog_vkey_free(&p->members[i].key);
    free(p);
}

static int policy_fail(struct err *e, const char *why)
{
    return err_set(e, ERR_CONFIG, "policy", "%s", why);
}

int tlog_policy_add_log(struct tlog_policy *p, struct tlog_vkey *k, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < p->log_count; i++)
        if (memcmp(p->logs[i].pub, k->pub, sizeof k->pub) == 0)
            rc = policy_fail(e, "the log's public key stands there twice");
    if (rc == 0 && p->log_count == TLOG_POLICY_LOGS)
        rc = policy_fail(e, "more than 32 logs");
    if (rc == 0)
        p->logs[p->log_count++] = *k;
    else
        tlog_vkey_free(k);
    memset(k, 0, sizeof *k); /* moved or freed */
    return rc;
}

/* --- the file ------------------------------------------------------------------------------------ */

/* The next word of a line; empty when there is none. */
static struct bytes word_next(struct bytes *line)
{
    const uint8_t *p = line->p, *end = p + line->len;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    const uint8_t *start = p;
    while (p < end && *p != ' ' && *p != '\t')
        p++;
    *line = (struct bytes){p, (size_t)(end - p)};
    return (struct bytes){start, (size_t)(p - start)};
}

static bool digits_only(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.len > 0;
}

static int member_find(const struct tlog_policy *p, struct bytes name)
{
    for (size_t i = 0; i < p->member_count; i++)
        if (bytes_eq_str(name, p->members[i].name))
            return (int)i;
    return NOBODY;
}

/* Enters a name; the caller fills in what it stands for. */
static struct member *member_new(struct tlog_policy *p, struct bytes name, struct err *e)
{
    const char *why = NULL;
    if (name.len == 0)
        why = "a name is missing";
    else if (name.len > TLOG_ORIGIN_MAX)
        why = "the name has more than 255 bytes";
    else if (bytes_eq_str(name, "none") || digits_only(name))
        why = "the name may be neither \"none\" nor digits alone: the quorum could be read two ways";
    else if (member_find(p, name) != NOBODY)
        why = "the name is taken by an earlier line";
    else if (p->member_count == TLOG_POLICY_MEMBERS)
        why = "more than 96 witnesses and groups";
    if (why) {
        policy_fail(e, why);
        return NULL;
    }
    struct member *m = &p->members[p->member_count++];
    memcpy(m->name, name.p, name.len);
    m->parent = NOBODY;
    return m;
}

/* Nothing may follow but, where there may be one, a URL. */
static int line_end(struct bytes *line, bool url, struct err *e)
{
    if (url)
        word_next(line);
    return word_next(line).len == 0 ? 0 : policy_fail(e, "there are words too many on it");
}

static int log_line(struct tlog_policy *p, struct bytes *line, struct err *e)
{
    struct tlog_vkey k;
    struct bytes key = word_next(line);
    if (line_end(line, true, e) < 0 || tlog_vkey_parse(&k, (const char *)key.p, key.len, e) < 0)
        return -1;
    return tlog_policy_add_log(p, &k, e);
}

static int witness_line(struct tlog_policy *p, struct bytes *line, struct err *e)
{
    struct bytes name = word_next(line), key = word_next(line);
    if (line_end(line, true, e) < 0)
        return -1;
    struct member *m = member_new(p, name, e);
    if (!m || tlog_vkey_parse_witness(&m->key, (const char *)key.p, key.len, e) < 0)
        return -1;
    for (struct member *other = p->members; other < m; other++)
        if (!other->group && memcmp(other->key.pub, m->key.pub, sizeof m->key.pub) == 0)
            return policy_fail(e, "the witness's public key stands there twice: it would count as "
                                  "two");
    p->witness_count++;
    return 0;
}

static int count_read(size_t *n, struct bytes word, size_t most, struct err *e)
{
    uint64_t v;
    if (!tlog_decimal(word, &v) || v < 1 || v > most)
        return policy_fail(e, "the number asked for must be from 1 to how many there are (for a "
                              "quorum of nobody write \"none\")");
    *n = (size_t)v;
    return 0;
}

static int group_member(struct tlog_policy *p, int group, struct bytes name, struct err *e)
{
    int i = member_find(p, name);
    if (i == NOBODY || i == group)
        return policy_fail(e, "a member of the group is defined on no earlier line");
    if (p->members[i].parent != NOBODY)
        return policy_fail(e, "a member of the group is in a group already, and would count twice");
    p->members[i].parent = group;
    p->members[group].count++;
    return 0;
}

static int group_line(struct tlog_policy *p, struct bytes *line, struct err *e)
{
    struct bytes name = word_next(line), need = word_next(line), word;
    struct member *m = member_new(p, name, e);
    if (!m)
        return -1;
    m->group = true;
    int self = (int)(m - p->members);
    while ((word = word_next(line)).len > 0)
        if (group_member(p, self, word, e) < 0)
            return -1;
    if (m->count == 0)
        return policy_fail(e, "a group reads: group NAME all|any|NUMBER MEMBER...");
    m->need = bytes_eq_str(need, "any") ? 1 : m->count;
    if (bytes_eq_str(need, "any") || bytes_eq_str(need, "all"))
        return 0;
    return count_read(&m->need, need, m->count, e);
}

static int quorum_line(struct tlog_policy *p, struct bytes *line, unsigned number, struct err *e)
{
    struct bytes word = word_next(line);
    if (p->quorum_line)
        return policy_fail(e, "a second quorum");
    if (line_end(line, false, e) < 0)
        return -1;
    p->quorum_line = number;
    if (bytes_eq_str(word, "none"))
        return 0;
    if (digits_only(word)) /* held against the witnesses when all are read */
        return count_read(&p->quorum_count, word, TLOG_POLICY_MEMBERS, e);
    p->quorum = member_find(p, word);
    return p->quorum == NOBODY
               ? policy_fail(e, "the quorum's name is defined on no earlier line")
               : 0;
}

static int max_age_line(struct tlog_policy *p, struct bytes *line, struct err *e)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    struct bytes word = word_next(line);
    uint64_t n = 0, seconds = 0;
    if (p->max_age)
        return policy_fail(e, "a second max-age");
    for (size_t i = 0; word.len > 1 && i < sizeof units / sizeof units[0]; i++)
        if (word.p[word.len - 1] == (uint8_t)units[i].unit)
            seconds = units[i].seconds;
    if (seconds == 0 || !tlog_decimal((struct bytes){word.p, word.len - 1}, &n) || n < 1 ||
        n > TLOG_POLICY_AGE_MAX / seconds)
        return policy_fail(e, "max-age reads a whole number and s, m, h or d, ten years at most, "
                              "e.g. 24h");
    p->max_age = (int64_t)(n * seconds);
    return line_end(line, false, e);
}

static int line_read(struct tlog_policy *p, struct bytes line, unsigned number, struct err *e)
{
    for (size_t i = 0; i < line.len; i++)
        if ((line.p[i] < 0x20 && line.p[i] != '\t') || line.p[i] == 0x7f)
            return policy_fail(e, "a control character (is it a Windows file?)");
    struct bytes word = word_next(&line);
    if (word.len == 0 || word.p[0] == '#')
        return 0;
    if (bytes_eq_str(word, "log"))
        return log_line(p, &line, e);
    if (bytes_eq_str(word, "witness"))
        return witness_line(p, &line, e);
    if (bytes_eq_str(word, "group"))
        return group_line(p, &line, e);
    if (bytes_eq_str(word, "quorum"))
        return quorum_line(p, &line, number, e);
    if (bytes_eq_str(word, "max-age"))
        return max_age_line(p, &line, e);
    return policy_fail(e, "it begins with none of log, witness, group, quorum, max-age, #");
}

int tlog_policy_parse(struct tlog_policy *p, const char *text, size_t len, struct err *e)
{
    struct cur c = cur_of(text, len);
    unsigned number = 0;
    if (len > TLOG_POLICY_MAX)
        return policy_fail(e, "the policy has more than 64 KiB");
    while (cur_left(&c) > 0) {
        struct bytes line;
        number++;
        int rc = cur_line(&c, &line) < 0
                     ? policy_fail(e, "no newline at its end: the file may be cut short")
                     : line_read(p, line, number, e);
        if (rc < 0) {
            e->code = e->code == ERR_INTERNAL ? ERR_INTERNAL : ERR_CONFIG;
            return err_wrap(e, "the policy, line %u", number);
        }
    }
    if (!p->quorum_line)
        return policy_fail(e, "the policy has no quorum line: say \"quorum none\" to ask for no "
                              "witness");
    if (p->quorum_count > p->witness_count) {
        policy_fail(e, "the quorum asks for more witnesses than the policy has");
        return err_wrap(e, "the policy, line %u", p->quorum_line);
    }
    return 0;
}

/* --- a checkpoint against it --------------------------------------------------------------------- */

static int log_check(const struct tlog_policy *p, const struct tlog_note *n, struct err *e)
{
    const char *origin = n->checkpoint.origin;
    bool named = false, signed_by = false;
    if (p->log_count == 0)
        return policy_fail(e, "the policy names no log, so no proof can be believed");
    for (size_t i = 0; i < p->log_count; i++) {
        if (strcmp(p->logs[i].name, origin) != 0)
            continue;
        int found = tlog_note_verify(n, &p->logs[i], e);
        if (found < 0)
            return -1;
        named = true;
        signed_by |= found > 0;
    }
    if (!named)
        return err_set(e, ERR_UNAUTHORIZED, "checkpoint-origin",
                       "the checkpoint is of a log that is not among the %zu that are trusted here",
                       p->log_count);
    return signed_by ? 0
                     : err_set(e, ERR_UNAUTHORIZED, "checkpoint-signature",
                               "the checkpoint has no signature by a trusted key of %s: it is "
                               "forged, or the log's key was replaced",
                               origin);
}

struct tally {
    bool cosigned[TLOG_POLICY_MEMBERS];
    unsigned counted, old, ahead;
    int64_t oldest;
};

static void tally_add(struct tally *t, const struct tlog_policy *p, size_t i, uint64_t time,
                      int64_t now)
{
    if (time > INT64_MAX || (int64_t)time > now + TLOG_POLICY_AHEAD) {
        t->ahead++;
        return;
    }
    if (p->max_age && (int64_t)time < now - p->max_age) {
        t->old++;
        return;
    }
    if (t->counted == 0 || (int64_t)time < t->oldest)
        t->oldest = (int64_t)time;
    t->counted++;
    t->cosigned[i] = true;
}

static bool quorum_met(const struct tlog_policy *p, const struct tally *t)
{
    size_t hits[TLOG_POLICY_MEMBERS] = {0};
    if (p->quorum == NOBODY)
        return t->counted >= p->quorum_count;
    for (int i = 0; i < p->quorum; i++) {
        const struct member *m = &p->members[i];
        if (m->parent != NOBODY && (m->group ? hits[i] >= m->need : t->cosigned[i]))
            hits[m->parent]++;
    }
    const struct member *q = &p->members[p->quorum];
    return q->group ? hits[p->quorum] >= q->need : t->cosigned[p->quorum];
}

static int quorum_fail(const struct tlog_policy *p, const struct tally *t, struct err *e)
{
    char asked[64];
    if (p->quorum == NOBODY)
        snprintf(asked, sizeof asked, "%zu are asked for", p->quorum_count);
    else
        snprintf(asked, sizeof asked, "the quorum of line %u is not met", p->quorum_line);
    return err_set(e, ERR_UNAUTHORIZED, "quorum",
                   "the checkpoint is cosigned by %u of the %zu witnesses that are trusted here, and "
                   "%s (not counted: %u too old, %u from the future); a fresh proof may have more",
                   t->counted, p->witness_count, asked, t->old, t->ahead);
}

int tlog_policy_open(const struct tlog_policy *p, int64_t now, const void *note, size_t len,
                     struct tlog_accepted *a, struct err *e)
{
    struct tlog_note n;
    struct tally t = {0};
    memset(a, 0, sizeof *a);
    if (tlog_note_parse(&n, note, len, e) < 0 || log_check(p, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < p->member_count; i++) {
        uint64_t time;
        if (p->members[i].group)
            continue;
        int found = tlog_cosign_find(&n, &p->members[i].key, &time, e);
        if (found < 0)
            return -1;
        if (found > 0)
            tally_add(&t, p, i, time, now);
    }
    if (!quorum_met(p, &t))
        return quorum_fail(p, &t, e);
    *a = (struct tlog_accepted){n.checkpoint, t.counted, t.oldest};
    return 0;
}

int tlog_policy_prove(const struct tlog_policy *p, int64_t now, const struct tlog_claim *c,
                      struct tlog_accepted *a, struct err *e)
{
    if (tlog_policy_open(p, now, c->proof.checkpoint.p, c->proof.checkpoint.len, a, e) < 0)
        return -1;
    return merkle_verify_inclusion(c->proof.index, a->checkpoint.size, &c->leaf, c->proof.path,
                                   c->proof.path_len, &a->checkpoint.root, e);
}
