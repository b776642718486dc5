/* The parent's hold on the process that measures one policy. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/bench_step.h"
#include "cli/cli.h"

/* Waits for the child's end and forgets it. Returns what waitpid says of it. */
static int reap(struct bench_child *c)
{
    int status = 0;
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR) {
    }
    close(c->to);
    close(c->from);
    c->pid = 0;
    return status;
}

/* The child has gone before its time, with a message of its own unless a signal killed it. Returns
 * an exit status. */
static int lost(struct bench_child *c, struct err *err)
{
    const int status = reap(c);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        return WEXITSTATUS(status);
    }
    if (WIFSIGNALED(status)) {
        (void)!err_set(err, ERR_IO, "%s: the process that measured it was killed by signal %d%s",
                       c->job.label, WTERMSIG(status),
                       WTERMSIG(status) == SIGKILL ? " (was memory short?)" : "");
    } else {
        (void)!err_set(err, ERR_IO, "%s: the process that measured it ended early", c->job.label);
    }
    return CLI_FAILED;
}

static int receive(struct bench_child *c, void *out, size_t bytes, struct err *err)
{
    size_t done = 0;
    while (done < bytes) {
        const ssize_t n = read(c->from, (char *)out + done, bytes - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return lost(c, err);
        }
        done += (size_t)n;
    }
    return 0;
}

static int command(struct bench_child *c, uint32_t n_steps, struct err *err)
{
    /* So few bytes are written whole or not at all. */
    return write(c->to, &n_steps, sizeof n_steps) == (ssize_t)sizeof n_steps ? 0 : lost(c, err);
}

/* Two pipes: pipes[0] to the child, pipes[1] from it. */
static int make_pipes(int pipes[2][2], struct err *err)
{
    if (pipe(pipes[0]) != 0) {
        return err_sys(err, ERR_IO, errno, "cannot make a pipe");
    }
    if (pipe(pipes[1]) != 0) {
        (void)!err_sys(err, ERR_IO, errno, "cannot make a pipe");
        close(pipes[0][0]);
        close(pipes[0][1]);
    }
    return (int)err->code;
}

int bench_child_start(struct bench_child *c, struct err *err)
{
    int pipes[2][2];
    if (make_pipes(pipes, err)) {
        return cli_status(err);
    }
    c->to = pipes[0][1];
    c->from = pipes[1][0];
    (void)fflush(NULL); /* nothing buffered may be written twice */
    const pid_t parent = getpid();
    c->pid = fork();
    if (c->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* it writes no file that could stay half-done */
        close(c->to);
        close(c->from);
        _exit(getppid() == parent ? bench_step_serve(&c->cfg, &c->job, pipes[0][0], pipes[1][1])
                                  : CLI_FAILED);
    }
    close(pipes[0][0]);
    close(pipes[1][1]);
    if (c->pid < 0) {
        (void)!err_sys(err, ERR_IO, errno, "cannot start a process");
        close(c->to);
        close(c->from);
        c->pid = 0;
        return cli_status(err);
    }
    return receive(c, &c->ready, sizeof c->ready, err);
}

int bench_child_steps(struct bench_child *c, uint32_t n, struct bench_step_times *out,
                      struct err *err)
{
    const int status = command(c, n, err);
    return status ? status : receive(c, out, sizeof *out, err);
}

int bench_child_finish(struct bench_child *c, struct bench_step_memory *out, struct err *err)
{
    int status = command(c, 0, err);
    if (status == 0) {
        status = receive(c, out, sizeof *out, err);
    }
    if (status == 0 && reap(c) != 0) {
        (void)!err_set(err, ERR_IO, "%s: the process that measured it failed at its end",
                       c->job.label);
        status = CLI_FAILED;
    }
    return status;
}

void bench_child_kill(struct bench_child *c)
{
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        (void)reap(c);
    }
}
