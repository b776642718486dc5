/* Files and limits of data sets: see dataset_priv.h. */
#include "data/dataset_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

int dataset_file_open(struct dataset_file *f, const char *dir, const char *name, struct err *err)
{
    struct str path = {0};
    str_addf(&path, "%s/%s", dir, name);
    if (path.failed) {
        str_fini(&path);
        return err_nomem(err, "a file name", strlen(dir) + strlen(name) + 2);
    }
    /* Asked before opening, since opening a pipe would wait for its writer. */
    struct stat st;
    if (stat(path.s, &st) == 0 && !S_ISREG(st.st_mode)) {
        const int rc = err_set(err, ERR_FORMAT, "%s is not a regular file", path.s);
        str_fini(&path);
        return rc;
    }
    int fd = -1;
    size_t size = 0;
    const int rc = file_open_read(path.s, &fd, &size, err);
    if (rc != 0) {
        str_fini(&path);
        return rc;
    }
    *f = (struct dataset_file){.fd = fd, .size = size, .path = path.s};
    return 0;
}

void dataset_file_close(struct dataset_file *f)
{
    if (f->path != NULL) {
        close(f->fd);
        mem_free(f->path);
    }
    *f = (struct dataset_file){0};
}

int dataset_missing(const struct dataset_type *type, const char *dir, const char *name,
                    struct err *err)
{
    return err_set(err, ERR_MISSING,
                   "data set %s: there is no %s in '%s'. To get it: %s. If it is elsewhere, set "
                   "data.path to its folder",
                   type->name, name, dir, type->how_to_get);
}

int dataset_folder(const struct dataset_type *type, const struct dataset_config *cfg,
                   const char **dir, struct err *err)
{
    const char *path = cfg->path != NULL && cfg->path[0] != '\0' ? cfg->path : type->default_path;
    if (path[0] == '\0') {
        return err_set(err, ERR_CONFIG,
                       "data set %s has no usual place: set data.path to its "
                       "folder (%s)",
                       type->name, type->how_to_get);
    }
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return err_set(err, ERR_MISSING,
                           "data set %s: there is no folder '%s'. To get it: %s. If it is "
                           "elsewhere, set data.path to its folder",
                           type->name, path, type->how_to_get);
        }
        return err_sys(err, ERR_IO, errno, "data set %s: cannot look into '%s'", type->name, path);
    }
    if (!S_ISDIR(st.st_mode)) {
        return err_set(err, ERR_MISSING,
                       "data set %s: '%s' is a file, expected the folder that holds the unpacked "
                       "data. To get it: %s",
                       type->name, path, type->how_to_get);
    }
    *dir = path;
    return 0;
}

const char *dataset_split_name(enum data_split split)
{
    return split == DATA_TRAIN ? "training" : "test";
}

int dataset_limit(const struct dataset_config *cfg, enum data_split split, size_t n, size_t *used,
                  struct err *err)
{
    const size_t limit = split == DATA_TRAIN ? cfg->limit : cfg->test_limit;
    if (limit > n) {
        return err_set(
            err, ERR_RANGE,
            "data.%s is %zu, but the %s split of %s has %zu images: lower it, or 0 for all",
            split == DATA_TRAIN ? "limit" : "test_limit", limit, dataset_split_name(split),
            cfg->name, n);
    }
    *used = limit != 0 ? limit : n;
    return 0;
}

int dataset_limit_planned(const struct dataset_config *cfg, enum data_split split, size_t n,
                          size_t *used, struct err *err)
{
    const size_t limit = split == DATA_TRAIN ? cfg->limit : cfg->test_limit;
    if (limit != 0 && cfg->allow_partial) {
        *used = limit;
        return 0;
    }
    return dataset_limit(cfg, split, n, used, err);
}

int dataset_complete(const struct dataset_config *cfg, enum data_split split, const char *where,
                     size_t found, size_t original, struct err *err)
{
    if (found == original || cfg->allow_partial) {
        return 0;
    }
    return err_set(
        err, ERR_FORMAT,
        "%s: the %s split has %zu images, the original %s has %zu: get the data anew, or "
        "accept it with data.allow_partial: true",
        where, dataset_split_name(split), found, cfg->name, original);
}
