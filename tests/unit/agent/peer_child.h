/* For tests of peers: a real process that connects to a real socket, and does as told, one letter at a time. Each test
 * runs with the kernel's pidfd and as on a kernel that has none. */
#ifndef UNIT_AGENT_PEER_CHILD_H
#define UNIT_AGENT_PEER_CHILD_H
#include "agent/peer.h"
#include "unit/base/scratch.h"
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

struct child {
    pid_t pid;
    int tell, heard; /* pipes to it and from it */
    int fd;          /* our end of its connection */
};

static inline int listener(struct sockaddr_un *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof a->sun_path, "%s/s", scratch);
    unlink(a->sun_path);
    assert_int_equal(bind(fd, (void *)a, sizeof *a), 0);
    assert_int_equal(chmod(a->sun_path, 0777), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static inline void child_act(char c)
{
    if (c == 'q')
        _exit(0);
    if (c == 'x')
        execl("/bin/sleep", "sleep", "1000", (char *)NULL);
    if (c == 'u' && setresuid(12345, 12345, 12345) < 0)
        _exit(1);
    if (c == 'g' && setresgid(12345, 12345, 12345) < 0)
        _exit(1);
    if (c == 'y')
        execl(scratch_path("gone"), "sleep", "1000", (char *)NULL);
    if (c == 'n')
        execl(scratch_path("new\nline"), "sleep", "1000", (char *)NULL);
}

static inline void child_run(const struct sockaddr_un *a, int in, int out)
{
    char c;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* not closed by exec */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (connect(fd, (const void *)a, sizeof *a) < 0)
        _exit(1);
    for (ssize_t n; (n = read(in, &c, 1)) == 1;) {
        child_act(c);
        if (write(out, &c, 1) != 1)
            _exit(1);
    }
    _exit(0);
}

static inline struct child child_start(void)
{
    struct sockaddr_un a;
    struct child k;
    int listening = listener(&a), in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    k.pid = fork();
    if (k.pid == 0) {
        close(in[1]);
        child_run(&a, in[0], out[1]);
    }
    close(in[0]);
    close(out[1]);
    k.tell = in[1];
    k.heard = out[0];
    k.fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    assert_true(k.fd >= 0);
    close(listening);
    return k;
}

static inline void child_do(struct child *k, char c)
{
    char back;
    assert_int_equal(write(k->tell, &c, 1), 1);
    assert_int_equal(read(k->heard, &back, 1), strchr("xynq", c) ? 0 : 1); /* exec and exit close the pipe */
}

static inline void child_end(struct child *k)
{
    kill(k->pid, SIGKILL);
    while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    close(k->tell);
    close(k->heard);
    close(k->fd);
}

static const bool both_ways[] = {true, false};
#define WAYS(w) for (const bool *w = both_ways; w < both_ways + 2; w++)

#endif
