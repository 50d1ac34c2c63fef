/* What an entry can be found by. */
#include "audit/internal.h"
#include <string.h>

#define SCHEME "spiffe://"
#define SCHEME_LEN (sizeof SCHEME - 1)
#define TEXT_MAX 4096 /* longer ones are told apart by their beginning */

int64_t audit_word(const uint8_t salt[AUDIT_SALT], enum audit_what what, struct bytes text)
{
    uint8_t b[AUDIT_SALT + 1 + TEXT_MAX];
    struct tlog_hash h;
    size_t n = text.len < TEXT_MAX ? text.len : TEXT_MAX;
    memcpy(b, salt, AUDIT_SALT);
    b[AUDIT_SALT] = (uint8_t)what;
    memcpy(b + AUDIT_SALT + 1, n ? text.p : b, n);
    merkle_leaf(&h, b, AUDIT_SALT + 1 + n); /* SHA-256; that it is a leaf's hash matters to nobody */
    int64_t word = 0;
    for (int i = 0; i < 6; i++)
        word = word << 8 | h.b[i];
    return word - (INT64_C(1) << 47); /* SQLite stores six bytes, with a sign */
}

/* End of the next path segment after `at` (which is a slash or the end), or the end. */
static size_t segment_end(struct bytes id, size_t at)
{
    const uint8_t *slash = at + 1 < id.len ? memchr(id.p + at + 1, '/', id.len - at - 1) : NULL;
    return slash ? (size_t)(slash - id.p) : id.len;
}

static bool is_spiffe(struct bytes id)
{
    return id.len > SCHEME_LEN && memcmp(id.p, SCHEME, SCHEME_LEN) == 0;
}

struct bytes audit_id_cut(struct bytes id)
{
    size_t at = is_spiffe(id) ? segment_end(id, SCHEME_LEN) : id.len;
    for (int depth = 1; depth < AUDIT_DEPTH_MAX && at < id.len; depth++)
        at = segment_end(id, at);
    return (struct bytes){id.p, at};
}

/* The trust domain, and each path that ends before a further segment. */
static size_t words_above(int64_t *words, const uint8_t *salt, struct bytes id)
{
    size_t n = 0;
    if (!is_spiffe(id))
        return 0;
    for (size_t at = segment_end(id, SCHEME_LEN); at < id.len && n < AUDIT_DEPTH_MAX; at = segment_end(id, at))
        words[n++] = audit_word(salt, AUDIT_W_BELOW, (struct bytes){id.p, at});
    return n;
}

size_t audit_words(int64_t words[AUDIT_WORDS_MAX], const uint8_t salt[AUDIT_SALT], const struct audit_entry *t)
{
    const struct {
        enum audit_what what;
        struct bytes text;
    } has[] = {
        {AUDIT_W_ID, t->spiffe_id},   {AUDIT_W_KEY, t->key},       {AUDIT_W_AGENT, t->agent},
        {AUDIT_W_ATTESTOR, t->attestor}, {AUDIT_W_ENTRY, t->entry_id}, {AUDIT_W_RULE, t->rule},
        {AUDIT_W_SERIAL, t->serial_hex},
    };
    const uint8_t kind = (uint8_t)t->kind;
    size_t n = 0;
    if (t->kind == AUDIT_OTHER)
        return 0;
    words[n++] = audit_word(salt, AUDIT_W_KIND, (struct bytes){&kind, 1});
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        if (has[i].text.len > 0)
            words[n++] = audit_word(salt, has[i].what, has[i].text);
    return n + words_above(words + n, salt, t->spiffe_id);
}
