/* Many workloads at once: N processes, each with a user id of its own, hold a Workload API stream open and
 * note when each state came. As root; for tests/bench/agent.
 *   bench_streams SOCKET FIRST-UID COUNT FIRST-SECONDS HOLD-SECONDS
 * Prints one JSON line when all have their first SVID (or FIRST-SECONDS are over), another at the end: how many updates
 * came, to whom another's identity came (never), and who was without. Each receipt goes to descriptor 3, when
 * that is open: "uid monotonic-us not-before".
 */
#include "base/clock.h"
#include "workload/workload.h"
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct seen { /* shared: one writer each, the child */
    _Atomic int64_t first_us;
    _Atomic uint64_t updates, foreign, troubles;
};
struct child {
    struct seen *seen;
    unsigned uid;
    int64_t start;
    char suffix[32]; /* its SPIFFE ID ends so */
};

static void on_state(void *arg, struct wl_state *s)
{
    struct child *c = arg;
    int64_t now = clock_mono_us();
    for (size_t i = 0; i < s->n; i++) {
        const char *id = s->svids[i]->spiffe_id;
        size_t n = strlen(id), k = strlen(c->suffix);
        if (n < k || strcmp(id + n - k, c->suffix) != 0)
            c->seen->foreign++;
    }
    if (s->n == 0)
        return;
    if (c->seen->updates++ == 0)
        c->seen->first_us = now - c->start;
    char line[96];
    int n = snprintf(line, sizeof line, "%u %lld %lld\n", c->uid, (long long)now, (long long)s->svids[0]->not_before);
    if (write(3, line, (size_t)n) < 0)
        return; /* nobody wants to know */
}

static void on_trouble(void *arg, enum wl_status status, const struct err *e)
{
    struct child *c = arg;
    if (c->seen->troubles++ == 0)
        fprintf(stderr, "uid %u: status %d: %s\n", c->uid, status, e->msg);
}

static int child_run(struct seen *seen, unsigned uid, const char *socket)
{
    struct child c = {.seen = seen, .uid = uid};
    struct err e = {0};
    snprintf(c.suffix, sizeof c.suffix, "/u%u", uid);
    if (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0) {
        perror("bench_streams: cannot become another user (run as root)");
        return 1;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct event_base *base = event_base_new();
    struct wl_client_ops ops = {&c, on_state, on_trouble};
    c.start = clock_mono_us();
    struct wl_client *w = base ? wl_client_new(base, socket, false, &ops, &e) : NULL;
    if (!w) {
        fprintf(stderr, "bench_streams: %s\n", e.msg);
        return 1;
    }
    event_base_dispatch(base);
    wl_client_free(w);
    event_base_free(base);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_first(const struct seen *s, unsigned count)
{
    int64_t *v = calloc(count + 1, sizeof *v);
    unsigned n = 0;
    for (unsigned i = 0; v && i < count; i++)
        if (s[i].first_us)
            v[n++] = s[i].first_us;
    if (v)
        qsort(v, n, sizeof *v, by_size);
    printf("{\"streams\":%u,\"with_svid\":%u,\"first_us\":{\"p50\":%lld,\"max\":%lld}}\n", count, n,
           v && n ? (long long)v[n / 2] : 0, v && n ? (long long)v[n - 1] : 0);
    fflush(stdout);
    free(v);
}

static void print_all(const struct seen *s, unsigned count)
{
    uint64_t updates = 0, foreign = 0, troubles = 0, without = 0;
    for (unsigned i = 0; i < count; i++) {
        updates += s[i].updates;
        foreign += s[i].foreign;
        troubles += s[i].troubles;
        without += s[i].updates == 0;
    }
    printf("{\"updates\":%llu,\"foreign\":%llu,\"troubles\":%llu,\"without\":%llu}\n", (unsigned long long)updates,
           (unsigned long long)foreign, (unsigned long long)troubles, (unsigned long long)without);
    fflush(stdout);
}

static bool all_have(const struct seen *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (s[i].updates == 0)
            return false;
    return true;
}

static void nap(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: bench_streams SOCKET FIRST-UID COUNT FIRST-SECONDS HOLD-SECONDS\n");
        return 2;
    }
    unsigned first = (unsigned)atoi(argv[2]), count = (unsigned)atoi(argv[3]);
    struct seen *s = mmap(NULL, count * sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t *pids = calloc(count, sizeof *pids);
    if (s == MAP_FAILED || !pids)
        return 1;
    for (unsigned i = 0; i < count; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(child_run(&s[i], first + i, argv[1]));
    }
    int64_t until = clock_mono_ms() + atoi(argv[4]) * 1000;
    while (!all_have(s, count) && clock_mono_ms() < until)
        nap(20);
    print_first(s, count);
    until = clock_mono_ms() + atoi(argv[5]) * 1000;
    while (clock_mono_ms() < until)
        nap(50);
    print_all(s, count);
    for (unsigned i = 0; i < count; i++)
        kill(pids[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return all_have(s, count) ? 0 : 1;
}
