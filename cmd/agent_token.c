/* The join token of a command line, in locked memory from the first. */
#include "agent/agent.h"
#include "cmd/agent_cmd.h"
#include <string.h>
#include <unistd.h>

/* White space after it is dropped. */
static int keep(struct secret *dst, const uint8_t *p, size_t n, struct err *e)
{
    while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r' || p[n - 1] == ' '))
        n--;
    if (dst->p)
        return err_set(e, ERR_USAGE, "token", "one join token, please");
    if (n == 0 || n > JOIN_TOKEN_TEXT)
        return err_set(e, ERR_USAGE, "token", "the join token is %s", n ? "too long to be one" : "empty");
    if (secret_new(dst, n + 1, e) < 0)
        return -1;
    memcpy(dst->p, p, n);
    dst->p[n] = 0;
    dst->len = n;
    return 0;
}

int agent_token_read(struct secret *dst, const char *path, struct err *e)
{
    struct secret s = {0};
    int rc = strcmp(path, "-") == 0 ? secret_read_fd(&s, STDIN_FILENO, 1024, e) : secret_read_file(&s, path, 1024, e);
    if (rc == 0)
        rc = keep(dst, s.p, s.len, e);
    secret_free(&s);
    return rc < 0 ? err_wrap(e, "join token") : 0;
}

int agent_token_take(struct secret *dst, char *text, struct err *e)
{
    if (strcmp(text, "-") == 0)
        return agent_token_read(dst, "-", e);
    int rc = keep(dst, (const uint8_t *)text, strlen(text), e);
    secret_wipe(text, strlen(text)); /* argv's memory is what ps shows */
    return rc;
}
