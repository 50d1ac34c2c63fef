/* The disk's own flush, as the log uses it: append, fdatasync.  bench_fsync DIR → JSON */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 200

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    char path[4096], block[700];
    double took[ROUNDS];
    if (argc != 2)
        return 2;
    snprintf(path, sizeof path, "%s/.fsync-probe", argv[1]);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd < 0)
        return 1;
    unlink(path);
    memset(block, 1, sizeof block);
    for (int i = 0; i < ROUNDS; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block || fdatasync(fd) < 0)
            return 1;
        clock_gettime(CLOCK_MONOTONIC, &b);
        took[i] = (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3;
    }
    qsort(took, ROUNDS, sizeof *took, by_value);
    printf("{\"p50_us\":%.0f,\"p99_us\":%.0f}\n", took[ROUNDS / 2], took[ROUNDS * 99 / 100]);
    return 0;
}
