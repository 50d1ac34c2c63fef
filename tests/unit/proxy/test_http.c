/* /live, /ready and /metrics over a Unix socket, on a loop that the test turns. */
#include "base/clock.h"
#include "proxy/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    struct event_base *base;
    struct proxy p;
    struct http *h;
    char dir[64], path[96];
};

static int setup(void **s)
{
    struct world *w = calloc(1, sizeof *w);
    struct err e = {0};
    char where[128];
    strcpy(w->dir, "/tmp/mayfly-proxy-http.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof w->path, "%s/http", w->dir);
    snprintf(where, sizeof where, "unix:%s", w->path);
    w->base = event_base_new();
    assert_int_equal(metrics_init(&w->p.m, 1000, &e), 0);
    w->h = http_new(&w->p, w->base, where, &e);
    assert_non_null(w->h);
    *s = w;
    return 0;
}

static int teardown(void **s)
{
    struct world *w = *s;
    http_free(w->h);
    metrics_free(&w->p.m);
    event_base_free(w->base);
    unlink(w->path);
    rmdir(w->dir);
    free(w);
    return 0;
}

static int asker(const struct world *w)
{
    struct sockaddr_un u = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(u.sun_path, sizeof u.sun_path, "%s", w->path);
    assert_int_equal(connect(fd, (void *)&u, sizeof u), 0);
    return fd;
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static char answer[8 << 20];
static const char *answered(const struct world *w, int fd)
{
    size_t n = 0;
    for (;;) {
        ssize_t k = recv(fd, answer + n, sizeof answer - 1 - n, MSG_DONTWAIT);
        if (k > 0)
            n += (size_t)k;
        else if (k == 0 || errno != EAGAIN)
            break;
        else
            event_base_loop(w->base, EVLOOP_ONCE);
    }
    answer[n] = 0;
    close(fd);
    return answer;
}

static const char *asked(const struct world *w, const char *request)
{
    int fd = asker(w);
    send_text(fd, request);
    return answered(w, fd);
}

static void pages(void **s)
{
    const struct world *w = *s;
    assert_non_null(strstr(asked(w, "GET /live HTTP/1.1\r\n\r\n"), " 200 OK\r\n"));
    assert_non_null(strstr(asked(w, "GET /ready HTTP/1.1\r\n\r\n"), " 503 "));
    assert_non_null(strstr(answer, "no identity from the agent yet"));
    assert_non_null(strstr(asked(w, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), "\nmayfly_proxy_ready 0\n"));
    assert_non_null(strstr(asked(w, "GET /livelong HTTP/1.1\r\n\r\n"), " 404 "));
    assert_non_null(strstr(asked(w, "POST /live HTTP/1.1\r\n\r\n"), " 404 "));
    int fd = asker(w);
    static char block[4097];
    memset(block, 'x', sizeof block - 1);
    send_text(fd, block);
    assert_string_equal(answered(w, fd), ""); /* no request in all of that */
}

/* What does not fit is refused, not cut off: half of it would look like all of it. */
static void too_many(void **s)
{
    struct world *w = *s;
    char id[2001];
    for (int i = 0; i < 700; i++) {
        memset(id, 'a', sizeof id - 1);
        id[snprintf(id, sizeof id, "spiffe://td/%d/", i)] = 'a';
        id[sizeof id - 1] = 0;
        metrics_peer(&w->p.m, id);
    }
    assert_non_null(strstr(asked(w, "GET /metrics HTTP/1.1\r\n\r\n"), " 500 "));
    assert_non_null(strstr(answer, "metrics_peers"));
}

/* No descriptors: it waits, and does not turn the loop as fast as it can. */
static void no_descriptors(void **s)
{
    const struct world *w = *s;
    struct rlimit before, none;
    int fd = asker(w), turns = 0;
    send_text(fd, "GET /live HTTP/1.1\r\n\r\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    int lowest = fcntl(fd, F_DUPFD, 0);
    close(lowest);
    none.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int64_t began = clock_mono_ms(); clock_mono_ms() - began < 300; turns++)
        event_base_loop(w->base, EVLOOP_ONCE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(turns < 50);
    assert_non_null(strstr(answered(w, fd), " 200 OK\r\n")); /* and answers when it can */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(pages), T(too_many), T(no_descriptors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
