#include "run/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

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

int folder_check(const char *dir, struct err *err)
{
    enum state state = look(dir);
    if (state == RUN) {
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

int folder_make(const char *dir, int force, struct err *err)
{
    enum state state = look(dir);
    if (state == FOREIGN || (state == RUN && !force)) {
        return folder_check(dir, err);
    }
    if (state == RUN && file_remove_tree(dir, err)) {
        return (int)err->code;
    }
    if (file_make_dirs(dir, err)) {
        return (int)err->code;
    }
    if (access(dir, W_OK | X_OK) != 0) {
        return err_sys(err, ERR_IO, errno, "cannot write into %s", dir);
    }
    return 0;
}

int folder_path(char *buf, size_t cap, const char *dir, const char *name, struct err *err)
{
    int n = snprintf(buf, cap, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= cap) {
        return err_set(err, ERR_CONFIG, "the path %s/%s is too long", dir, name);
    }
    return 0;
}
