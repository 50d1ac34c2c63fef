#include "agent/run_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const int taken[] = {SIGTERM, SIGINT,  SIGHUP,  SIGQUIT, SIGUSR1,
                            SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT, SIGCHLD};

void run_signals(sigset_t *s)
{
    sigemptyset(s);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigaddset(s, taken[i]);
}

bool run_forwards(const struct signalfd_siginfo *s, pid_t program)
{
    if (s->ssi_signo == SIGCHLD || s->ssi_code == SI_KERNEL)
        return false;
    return program <= 0 || s->ssi_pid != (uint32_t)program;
}

int run_exit_status(int w)
{
    return WIFEXITED(w) ? WEXITSTATUS(w) : WIFSIGNALED(w) ? 128 + WTERMSIG(w) : 1;
}

/* Only at a terminal, where a shell continues the whole job; elsewhere nobody would continue us. */
void run_stop_too(int stop_signal)
{
    if (stop_signal != SIGTSTP && stop_signal != SIGTTIN && stop_signal != SIGTTOU)
        return;
    int tty = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (tty < 0)
        return;
    close(tty);
    kill(getpid(), SIGSTOP);
}

static void set(const char *name, const char *dir, const char *file)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    setenv(name, path, 1);
}

void run_environment(const char *dir, bool jwt, const char *endpoint)
{
    char whole[600];
    setenv("MAYFLY_SVID_DIR", dir, 1);
    set("MAYFLY_SVID", dir, "svid.pem");
    set("MAYFLY_KEY", dir, "svid.key");
    set("MAYFLY_BUNDLE", dir, "bundle.pem");
    if (jwt)
        set("MAYFLY_JWT", dir, "svid.jwt");
    else
        unsetenv("MAYFLY_JWT"); /* of a run around this one */
    snprintf(whole, sizeof whole, "%s%s", endpoint[0] == '/' ? "unix://" : "", endpoint);
    setenv("SPIFFE_ENDPOINT_SOCKET", whole, 1);
}

/* Sockets handed over by systemd are the program's: it looks whether they are for its own number. */
static void listen_pid(pid_t ours)
{
    char number[24];
    const char *for_whom = getenv("LISTEN_PID");
    if (!for_whom || atol(for_whom) != (long)ours)
        return;
    snprintf(number, sizeof number, "%d", (int)getpid());
    setenv("LISTEN_PID", number, 1);
}

/* Signals as a program expects them; it does not outlive us, since nobody would renew its identity. */
static void become(char *const *argv, pid_t parent, int tell)
{
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    listen_pid(parent);
    execvp(argv[0], argv);
    int why = errno;
    if (write(tell, &why, sizeof why) != sizeof why)
        _exit(126);
    _exit(127);
}

static int exec_failed(const char *command, int why, int *status, struct err *e)
{
    *status = why == ENOENT || why == ENOTDIR ? 127 : 126;
    if (*status == 127)
        return err_set(e, ERR_NOT_FOUND, "run-exec", "no command '%s': is it installed, and in $PATH?", command);
    return err_set(e, ERR_IO, "run-exec", "cannot run '%s': %s", command, strerror(why));
}

pid_t run_spawn(char *const *argv, int *status, struct err *e)
{
    int tell[2], why = 0;
    pid_t parent = getpid();
    if (pipe2(tell, O_CLOEXEC) < 0)
        return err_errno(e, "run-exec", "no pipe");
    pid_t pid = fork();
    if (pid == 0)
        become(argv, parent, tell[1]);
    close(tell[1]);
    ssize_t n = pid < 0 ? -1 : 0;
    if (pid > 0) /* closed by exec: nothing comes */
        do
            n = read(tell[0], &why, sizeof why);
        while (n < 0 && errno == EINTR);
    close(tell[0]);
    if (pid < 0)
        return err_errno(e, "run-exec", "cannot start '%s'", argv[0]);
    if (n != sizeof why)
        return pid;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return exec_failed(argv[0], why, status, e);
}
