#include "run/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"

enum state { ABSENT, EMPTY, RUN, FOREIGN };

static enum state look(const char *dir)
{
    struct stat st;
    if (lstat(dir, &st) != 0) {
        return ABSENT;
    }
    DIR *d = opendir(dir);
    if (!d) {
        return FOREIGN;
    }
    enum state state = EMPTY;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, "config.yaml") == 0) {
            state = RUN;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            state = FOREIGN;
        }
    }
    closedir(d);
    return state;
}

/* Without regard to the run that may still be going on in it. */
static int check_state(const char *dir, int force, struct err *err)
{
    const enum state state = look(dir);
    if (state == RUN && !force) {
        return err_set(err, ERR_EXISTS,
                       "%s already holds a run: choose another folder (--set output.dir=DIR) or "
                       "overwrite it with --force",
                       dir);
    }
    if (state == FOREIGN) {
        return err_set(err, ERR_EXISTS,
                       "%s exists and is not a run's folder: choose another one (--set "
                       "output.dir=DIR)",
                       dir);
    }
    return 0;
}

/* The lock is the kernel's and goes with the process. File systems that have none (some NFS) get
 * none. */
static int lock(const char *dir, int *hold, struct err *err)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_sys(err, ERR_IO, errno, "cannot open the folder %s", dir);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(fd);
        return err_set(err, ERR_EXISTS,
                       "%s is in use by a run that has not ended: wait for its end, or choose "
                       "another folder (--set output.dir=DIR)",
                       dir);
    }
    *hold = fd;
    return 0;
}

int folder_check(const char *dir, int force, struct err *err)
{
    int hold;
    if (check_state(dir, force, err)) {
        return (int)err->code;
    }
    if (look(dir) == RUN) {
        if (lock(dir, &hold, err)) {
            return (int)err->code;
        }
        close(hold);
    }
    return 0;
}

/* What stood there when it was looked at may have changed until the lock is there. */
static int take_locked(const char *dir, int force, struct err *err)
{
    if (check_state(dir, force, err) || (force && file_empty_folder(dir, err))) {
        return (int)err->code;
    }
    return access(dir, W_OK | X_OK) == 0 ? 0
                                         : err_sys(err, ERR_IO, errno, "cannot write into %s", dir);
}

int folder_take(const char *dir, int force, int *hold, struct err *err)
{
    int fd;
    if (check_state(dir, force, err) || file_make_dirs(dir, err) || lock(dir, &fd, err)) {
        return (int)err->code;
    }
    if (take_locked(dir, force, err)) {
        close(fd);
        return (int)err->code;
    }
    *hold = fd;
    return 0;
}

void folder_remove(const char *dir)
{
    struct err err = {0};
    (void)!file_empty_folder(dir, &err); /* if it cannot be done the folder stays */
    (void)rmdir(dir);
}

/* The path without ".", ".." and links, as far as it exists; the rest as it will be made. */
static void resolve(const char *path, char real[PATH_MAX])
{
    char longer[PATH_MAX], found[PATH_MAX];
    if (path[0] == '/' || realpath(".", real) == NULL) {
        (void)str_copy(real, PATH_MAX, "/");
    }
    for (size_t n; *path; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        if (n == 2 && memcmp(path, "..", 2) == 0) {
            char *slash = strrchr(real, '/');
            slash[slash == real] = '\0';
        } else if (n > 0 && !(n == 1 && path[0] == '.')) {
            (void)snprintf(longer, sizeof longer, "%s/%.*s", real[1] ? real : "", (int)n, path);
            (void)str_copy(real, PATH_MAX, realpath(longer, found) ? found : longer);
        }
    }
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int folder_is_same(const char *a, const char *b)
{
    char real_a[PATH_MAX], real_b[PATH_MAX];
    if (strcmp(last_part(a), last_part(b)) != 0) { /* asked first: there may be many folders */
        return 0;
    }
    resolve(a, real_a);
    resolve(b, real_b);
    return strcmp(real_a, real_b) == 0;
}

int folder_path(char *buf, size_t cap, const char *dir, const char *name, struct err *err)
{
    int n = snprintf(buf, cap, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= cap) {
        return err_set(err, ERR_CONFIG, "the path %s/%s is too long", dir, name);
    }
    return 0;
}
