/* What a monitor reads from outside: by the first byte a list of known keys, a pattern, a list of kinds of
 * evidence, or an entry bundle as another host serves it, whose entries are then judged. */
#include "audit/rules.h"
#include "base/json.h"
#include "tlog/internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_alert(void *arg, const struct audit_entry *t, const struct err *why)
{
    if (!why->rule[0] || !why->msg[0])
        abort();
}

static void keys(const char *text, size_t len)
{
    struct audit_rules r = {.by_key = false};
    struct err e;
    if (audit_rules_keys(&r, text, len, &e) == 0)
        for (size_t i = 1; i < r.keys_count; i++)
            if (memcmp(r.keys[i - 1], r.keys[i], 32) > 0)
                abort();
    audit_rules_free(&r);
}

static void words(const char *text, bool pattern)
{
    struct audit_rules r = {.by_key = false};
    struct err e;
    if ((pattern ? audit_rules_allow(&r, text, &e) : audit_rules_attestors(&r, text, &e)) < 0 && !e.msg[0])
        abort();
    audit_rules_free(&r);
}

static void bundle(const uint8_t *data, size_t size)
{
    static struct audit_entry t;
    static struct bytes entries[TLOG_TILE];
    struct audit_rules r = {.refusals = true, .revocations = true, .changes = true};
    struct err e;
    const char *why;
    unsigned width = size > 0 ? data[0] + 1u : 1;
    if (size == 0 || tlog_bundle_parse((struct bytes){data + 1, size - 1}, entries, width, &why) < 0)
        return;
    audit_rules_keys(&r, "", 0, &e);
    audit_rules_allow(&r, "spiffe://example.org/*", &e);
    audit_rules_attestors(&r, "join_token", &e);
    for (unsigned i = 0; i < width; i++) {
        if (entries[i].p < data || entries[i].p + entries[i].len > data + size)
            abort();
        audit_entry_decode(&t, i, entries[i]);
        audit_rules_judge(&r, &t, on_alert, NULL);
    }
    audit_rules_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = malloc(size);
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0] % 4) {
    case 0: keys(text, size - 1); break;
    case 1: words(text, true); break;
    case 2: words(text, false); break;
    default: bundle(data + 1, size - 1); break;
    }
    free(text);
    return 0;
}
