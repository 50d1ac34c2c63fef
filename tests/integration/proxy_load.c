/* Load through proxies that must not notice rotations: proxy_load PORT STEADY FRESH STOP-FILE.
 * STEADY connections that stay and go on echoing; FRESH threads that open one after the other, echo, half-close, and see
 * the end. Runs until the file is there; ends with 1 when anything was dropped, refused, lost or changed. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define BLOCK 20000
#define PATIENCE_S 60

static int port;
static atomic_bool stop;
static atomic_ulong rounds, opened, failures;

static int fail(const char *what)
{
    if (atomic_fetch_add(&failures, 1) < 10)
        perror(what);
    return -1;
}

static int open_one(void)
{
    const struct timeval t = {PATIENCE_S, 0};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        close(fd);
        return fail("connect");
    }
    atomic_fetch_add(&opened, 1);
    return fd;
}

static int echo(int fd, unsigned *seed)
{
    unsigned char out[BLOCK], in[BLOCK];
    size_t n = 1 + (size_t)rand_r(seed) % BLOCK;
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)rand_r(seed);
    if (send(fd, out, n, MSG_NOSIGNAL) != (ssize_t)n)
        return fail("send");
    if (recv(fd, in, n, MSG_WAITALL) != (ssize_t)n)
        return fail("recv");
    if (memcmp(in, out, n) != 0)
        return fail("changed");
    atomic_fetch_add(&rounds, 1);
    return 0;
}

static void *steady(void *arg)
{
    unsigned seed = (unsigned)(size_t)arg;
    int fd = open_one();
    while (fd >= 0 && !stop && echo(fd, &seed) == 0)
        usleep(2000);
    close(fd);
    return NULL;
}

static void *fresh(void *arg)
{
    unsigned seed = 1000 + (unsigned)(size_t)arg;
    char byte;
    while (!stop) {
        int fd = open_one();
        if (fd < 0)
            return NULL;
        if (echo(fd, &seed) == 0) {
            shutdown(fd, SHUT_WR);
            if (recv(fd, &byte, 1, 0) != 0)
                fail("end");
        }
        close(fd);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t t[256];
    int n = 0;
    if (argc != 5)
        return 2;
    port = atoi(argv[1]);
    for (long i = 0; i < atol(argv[2]) && n < 200; i++)
        pthread_create(&t[n++], NULL, steady, (void *)i);
    for (long i = 0; i < atol(argv[3]) && n < 256; i++)
        pthread_create(&t[n++], NULL, fresh, (void *)i);
    while (access(argv[4], F_OK) != 0 && !failures)
        usleep(50000);
    stop = true;
    while (n > 0)
        pthread_join(t[--n], NULL);
    printf("connections=%lu rounds=%lu failures=%lu\n", (unsigned long)opened, (unsigned long)rounds, (unsigned long)failures);
    return failures ? 1 : 0;
}
