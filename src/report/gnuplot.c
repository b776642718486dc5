#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* posix_spawn_file_actions_addchdir_np */
#endif
#include "report/gnuplot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* gnuplot does not look whether it could write: a limit on the size of files must end it, although
 * this process ignores that signal. */
static int set_signals(posix_spawnattr_t *attr)
{
    sigset_t too_large;
    (void)sigemptyset(&too_large);
    (void)sigaddset(&too_large, SIGXFSZ);
    const int rc = posix_spawnattr_setsigdefault(attr, &too_large);
    return rc != 0 ? rc : posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGDEF);
}

static int set_files(posix_spawn_file_actions_t *actions, const char *dir)
{
    int rc = posix_spawn_file_actions_addchdir_np(actions, dir);
    if (rc == 0) {
        rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    if (rc == 0) {
        rc = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    }
    return rc;
}

/* In `dir`, reading nothing and printing messages alone. An errno, or 0. */
static int start(const char *dir, char *const argv[], pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) {
        return rc;
    }
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        rc = set_signals(&attr);
        if (rc == 0) {
            rc = set_files(&actions, dir);
        }
        if (rc == 0) {
            rc = posix_spawnp(pid, argv[0], &actions, &attr, argv, environ);
        }
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

int gnuplot_run(const char *dir, const char *script, int *is_there, struct err *err)
{
    char program[] = "gnuplot", option[] = "-d", file[256];
    char *const argv[] = {program, option, file, NULL};
    pid_t pid;
    int status;
    *is_there = 1;
    const size_t len = strlen(script);
    if (len >= sizeof file) {
        return err_set(err, ERR_IO, "%s: the name is too long", script);
    }
    memcpy(file, script, len + 1);
    const int rc = start(dir, argv, &pid);
    if (rc == ENOENT) {
        *is_there = 0;
        return 0;
    }
    if (rc != 0) {
        return err_sys(err, ERR_IO, rc, "cannot start gnuplot");
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return err_sys(err, ERR_IO, errno, "waiting for gnuplot");
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return err_set(err, ERR_IO, "gnuplot cannot draw %s/%s (its messages are above)", dir,
                       script);
    }
    return 0;
}
