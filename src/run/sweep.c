#include "run/sweep.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "run/folder.h"
#include "run/run.h"

static const char self[] = "/proc/self/exe";

/* Texts of the arguments. */
struct job_texts {
    char number[32], fitted[64];
};

/* "--job N [--fitted CHOICE] OPTIONS... CONFIG". */
static char **job_argv(const struct sweep_options *opt, const struct job *job, size_t number,
                       struct job_texts *texts)
{
    static char job_option[] = "--job", fitted_option[] = "--fitted";
    char **out = mem_calloc(MEM_OTHER, opt->n_options + 6, sizeof *out);
    size_t n = 0;
    if (!out) {
        return NULL;
    }
    (void)snprintf(texts->number, sizeof texts->number, "%zu", number);
    out[n++] = opt->argv[0];
    out[n++] = job_option;
    out[n++] = texts->number;
    if (opt->policy[0] || job->batch) {
        if (job->batch) {
            (void)snprintf(texts->fitted, sizeof texts->fitted, "%zu", job->batch);
        } else {
            (void)str_copy(texts->fitted, sizeof texts->fitted, opt->policy);
        }
        out[n++] = fitted_option;
        out[n++] = texts->fitted;
    }
    memcpy(out + n, opt->argv + 1, (opt->n_options - 1) * sizeof *out);
    out[n + opt->n_options - 1] = opt->config;
    return out;
}

/* Is it one that asks a run to end? The job then says so itself, unless it had not yet set up its
 * handlers. */
static int is_request(int sig)
{
    return sig == SIGINT || sig == SIGTERM || sig == SIGHUP;
}

/* Waits for the job, handing signals on. Returns its exit status, 128 + signal if it was killed.
 * Looks every 50 ms: a signal that arrives just before a blocking wait would be missed. */
static int wait_for(pid_t pid, int (*pending_signal)(void))
{
    static const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    int status;
    pid_t done;
    while ((done = waitpid(pid, &status, WNOHANG)) == 0 || (done < 0 && errno == EINTR)) {
        int sig = pending_signal ? pending_signal() : 0;
        if (sig) {
            kill(pid, sig); /* each time: one before the job has set up its handlers is lost */
        }
        nanosleep(&pause, NULL);
    }
    if (done < 0) {
        return 1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int start_job(const struct sweep_options *opt, const struct job *job, size_t number,
                     pid_t *pid, struct err *err)
{
    struct job_texts texts;
    char **argv = job_argv(opt, job, number, &texts);
    if (!argv) {
        return err_nomem(err, "the job's arguments", sizeof *argv);
    }
    fflush(NULL); /* nothing buffered may be written twice */
    const pid_t parent = getpid();
    *pid = fork();
    if (*pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* the job ends with a parent that was killed */
        if (getppid() == parent) {        /* unless that has happened already */
            execv(self, argv);
        }
        _exit(127);
    }
    mem_free(argv);
    if (*pid < 0) {
        return err_sys(err, ERR_IO, errno, "cannot start a process for the job");
    }
    return 0;
}

/* When the job's record was last written; 0 without one. A job that was refused has not touched it:
 * what then stands in the folder is an earlier run's (--force). */
static struct timespec record_time(const struct job *job)
{
    char path[JOB_PATH + 32];
    struct stat st;
    struct err err = {0};
    if (folder_path(path, sizeof path, job->dir, "run.yaml", &err) || stat(path, &st) != 0) {
        return (struct timespec){0};
    }
    return st.st_mtim;
}

int sweep_run(const struct config *cfg, const struct job_list *jobs,
              const struct sweep_options *opt, struct summary_row *rows, size_t *n_rows,
              int *status, struct err *err)
{
    *n_rows = 0;
    *status = 0;
    for (size_t i = 0; i < jobs->n && *status == 0; i++) {
        pid_t pid = 0;
        int sig = opt->pending_signal ? opt->pending_signal() : 0;
        if (sig) { /* it came between two jobs */
            *status = 128 + sig;
            break;
        }
        const struct timespec before = record_time(&jobs->jobs[i]);
        if (start_job(opt, &jobs->jobs[i], i + 1, &pid, err)) {
            return (int)err->code;
        }
        *status = wait_for(pid, opt->pending_signal);
        if (*status == 127) {
            return err_set(err, ERR_IO, "cannot run %s again for the next job", self);
        }
        const struct timespec after = record_time(&jobs->jobs[i]);
        const int began = before.tv_sec != after.tv_sec || before.tv_nsec != after.tv_nsec;
        run_summary(cfg, &jobs->jobs[i], began, &rows[i]);
        snprintf(rows[i].status, sizeof rows[i].status, "%s", run_exit_name(*status));
        *n_rows = i + 1;
        const int sig_of_job = *status - 128;
        if (sig_of_job > 0 && !is_request(sig_of_job)) {
            return err_set(err, ERR_IO, "%s: its process was killed by signal %d%s",
                           jobs->jobs[i].dir, sig_of_job,
                           sig_of_job == SIGKILL ? " (was memory short?)" : "");
        }
    }
    return 0;
}
