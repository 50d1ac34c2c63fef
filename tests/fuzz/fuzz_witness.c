/* An add-checkpoint request as anybody may send one. What is read is written again to the same
 * bytes; nothing is ever cosigned, since nobody has the log's key; no folder is touched. */
#include "base/log.h"
#include "tests/fuzz/key.h"
#include "tlog/witness_state.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int never(void *arg, const uint8_t *msg, size_t len, uint8_t sig[64], struct err *e)
{
    (void)arg;
    (void)msg;
    (void)len;
    (void)sig;
    (void)e;
    abort();
}

static void again(const struct tlog_add *q, const uint8_t *data, size_t len)
{
    struct buf b;
    buf_init(&b, TLOG_ADD_MAX);
    tlog_add_write(q, &b);
    if (b.failed || b.len != len || memcmp(b.p, data, len) != 0)
        abort();
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct tlog_vkey log, self;
    struct err e;
    if (!log.evp && (tlog_vkey_make(&log, "fuzz.example.org/log", nobodys_key, &e) < 0 ||
                     tlog_vkey_make_witness(&self, "fuzz.example.org/w", nobodys_key, &e) < 0))
        abort();
    struct tlog_add q;
    if (tlog_add_parse(&q, data, len, &e) == 0)
        again(&q, data, len);
    struct tlog_witness w = {.o = {.dir = "/nonexistent", .self = &self, .logs = &log,
                                   .log_count = 1, .sign = never},
                             .lock_fd = -1,
                             .log = {{.origin = log.name, .lock = PTHREAD_MUTEX_INITIALIZER}},
                             .log_count = 1};
    struct tlog_witness_answer a = {0};
    buf_init(&a.body, 4096);
    if (tlog_witness_add(&w, data, len, &a, &e) == 0 || a.status < 400 || a.status >= 500 ||
        a.body.len < 2 || a.body.p[a.body.len - 1] != '\n')
        abort();
    buf_free(&a.body);
    return 0;
}
