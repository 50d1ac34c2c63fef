/* A policy's text. One that is taken judges a checkpoint, which can only be believed by who names
 * the key that signed it, and witnesses no more than cosigned it. */
#include "tlog/policy.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Signed with keys that were thrown away; the policies of the corpus name them. NOTE_KEY is the
 * log's: a policy may write its id in capitals, but the key in one way only. */
#define NOTE_KEY "AeBQ8HMQA+YjKEgVjv+D3I2GnoriZOZZ0cbdjJZUSVxt"
static const char note[] =
    "fuzz.example.org/log\n"
    "12\n"
    "RUNJ5CLwUpcZHq0T4h09tSDlq+9SBV5JZLgvshP1k6E=\n"
    "\n"
    "\xe2\x80\x94 fuzz.example.org/log 5niNmltI5c7TKfOVfEjl2usYtTVBkZQC/B2GnidzuwDb1BwBBO"
    "FLvr77gVe3gxyf5Q0QlSTQHVbIRREU4Kow4pU2eg4=\n"
    "\xe2\x80\x94 witness.example.org 9lw63AAAAABrSc4YJp8Xnauxk7gAGGZbqcLpoxaa/3Mz5qGvv+q"
    "hd0JxmhTi1aS6QmWVToZI46NO5hB8heVkPsRaeOlK3/+UXmcUBQ==\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct tlog_policy *p = tlog_policy_new();
    struct tlog_accepted a;
    struct err e;
    if (!p)
        abort();
    if (tlog_policy_parse(p, (const char *)data, len, &e) == 0 &&
        tlog_policy_open(p, 1800000000, note, strlen(note), &a, &e) == 0) {
        if (!memmem(data, len, NOTE_KEY, strlen(NOTE_KEY)) || a.witnesses > 1)
            abort();
    }
    tlog_policy_free(p);
    return 0;
}
