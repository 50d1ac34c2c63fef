/* What the log says meanwhile: it goes to standard error. */
#ifndef TESTS_PROXY_HEAR_H
#define TESTS_PROXY_HEAR_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int hear_before = -1;
static FILE *heard;

static inline void hear(void)
{
    heard = tmpfile();
    hear_before = dup(STDERR_FILENO);
    assert_non_null(heard);
    assert_true(hear_before >= 0 && dup2(fileno(heard), STDERR_FILENO) >= 0);
}

static inline void heard_end(char *said, size_t cap)
{
    assert_true(dup2(hear_before, STDERR_FILENO) >= 0);
    close(hear_before);
    rewind(heard);
    said[fread(said, 1, cap - 1, heard)] = 0;
    fclose(heard);
}

static inline unsigned lines(const char *said)
{
    unsigned n = 0;
    for (; (said = strchr(said, '\n')); said++)
        n++;
    return n;
}

#endif
