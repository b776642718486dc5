/* What the data set types share: opening their files and the messages about files and limits. */
#ifndef DATA_DATASET_PRIV_H
#define DATA_DATASET_PRIV_H

#include <stddef.h>

#include "base/err.h"
#include "data/dataset.h"

/* A regular file, open for reading. All zero: none. */
struct dataset_file {
    int fd;
    size_t size;
    char *path; /* for messages; NULL: not open */
};

/* Opens dir/name. ERR_MISSING if there is no such file, ERR_IO, ERR_FORMAT if it is no regular
 * file. */
int dataset_file_open(struct dataset_file *f, const char *dir, const char *name, struct err *err)
    MUST_USE;
void dataset_file_close(struct dataset_file *f);

/* The folder that holds the data: the config's, else the type's default. ERR_CONFIG if neither
 * names one, ERR_MISSING (with how_to_get) if there is none or it is no folder. */
int dataset_folder(const struct dataset_type *type, const struct dataset_config *cfg,
                   const char **dir, struct err *err) MUST_USE;

/* Fills err with ERR_MISSING: where `name` was looked for and how to get the data. */
int dataset_missing(const struct dataset_type *type, const char *dir, const char *name,
                    struct err *err);

const char *dataset_split_name(enum data_split split);

/* How many of n images the config wants. ERR_RANGE with both numbers if its limit is larger. */
int dataset_limit(const struct dataset_config *cfg, enum data_split split, size_t n, size_t *used,
                  struct err *err) MUST_USE;

/* The same before opening, with n the original set's size. With allow_partial the files may hold
 * more, so only opening can refuse. */
int dataset_limit_planned(const struct dataset_config *cfg, enum data_split split, size_t n,
                          size_t *used, struct err *err) MUST_USE;

/* ERR_FORMAT unless the split has the original set's number of images, or allow_partial. */
int dataset_complete(const struct dataset_config *cfg, enum data_split split, const char *where,
                     size_t found, size_t original, struct err *err) MUST_USE;

#endif
