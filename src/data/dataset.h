/* Data sets: labelled images with bytes as pixels, read by index.
 *
 * A data set is one file (src/data/NAME.c) with a `const struct dataset_type` and one row in
 * data.def. Opening checks everything once (sizes, label ranges, gzip checksums); reading by index
 * is then a pread into the caller's buffer. Nothing is mapped into memory. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum data_split { DATA_TRAIN, DATA_TEST };

/* What the config asks for. Strings are borrowed for the call. */
struct dataset_config {
    const char *name;  /* row of data.def */
    const char *path;  /* folder; NULL or "": the type's default_path */
    size_t limit;      /* first images of the training split to use; 0: all */
    size_t test_limit; /* the same for the test split */
    int allow_partial; /* fewer images than the original data set has are no error */
    uint64_t seed;     /* synthetic only */
    size_t size;       /* height = width in pixels; 0: the data set's own */
    size_t channels;   /* 0: the data set's own */
    size_t classes;    /* synthetic (0: 10) and idx (0: the largest label + 1) only */
};

/* Known without touching the data, so that --plan needs none. 0: only opening will tell (classes
 * and numbers of images of `idx`, when the config does not give them). */
struct dataset_info {
    size_t height, width, channels, classes; /* of the images as they are delivered */
    size_t n_train, n_test; /* after limits; before opening, without limits: the original set's */
    float mean[4], std[4];  /* per channel, of pixels scaled to 0..1 */
    size_t memory_bytes;    /* what opening will hold in memory, as far as it is known before */
};

struct dataset;

struct dataset_type {
    const char *name;
    const char *summary;      /* one line for --list datasets */
    const char *default_path; /* "" if none is needed */
    const char *how_to_get;   /* address or Debian package, for the error message */
    /* Which of "size" and "channels" it can change, ended by NULL; NULL: none. */
    const char *const *keys;
    int (*describe)(const struct dataset_config *cfg, struct dataset_info *info, struct err *err);
    int (*open)(const struct dataset_config *cfg, struct dataset *ds, struct err *err);
    int (*read)(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
                uint32_t *label, struct err *err);
    void (*close)(struct dataset *ds);
};

struct dataset {
    const struct dataset_type *type;
    struct dataset_info info;
    size_t memory_bytes; /* held under MEM_DATA while open (images from gzip, IDX labels) */
    /* CRC-32 of the files' whole contents, train and test, in file order. The same for a file and
     * its gzipped copy, and with any limit; 0 where there are no files. */
    uint32_t crc[2];
    void *priv;
};

/* All rows of data.def, in its order. */
const struct dataset_type *const *dataset_types(size_t *n);
/* NULL if there is none of that name. */
const struct dataset_type *dataset_find(const char *name);

/* Fills info from the config alone. ERR_CONFIG for an unknown name (lists the valid ones), a bad
 * size, or other images than the data set has; ERR_RANGE for a limit above the original set's size
 * (unless allow_partial). */
int dataset_describe(const struct dataset_config *cfg, struct dataset_info *info, struct err *err)
    MUST_USE;

/* Opens and checks. ERR_MISSING (says where it looked and how to get it), ERR_FORMAT (file, offset,
 * expected, found), ERR_IO, ERR_RANGE (limit larger than the set), ERR_NOMEM. */
int dataset_open(const struct dataset_config *cfg, struct dataset **out, struct err *err) MUST_USE;

/* One image: pixels [height][width][channels] bytes, label in 0 .. classes-1. Thread-safe,
 * allocates nothing. ERR_IO, ERR_FORMAT if the file has changed since, ERR_RANGE for an index
 * beyond the split. */
int dataset_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
                 uint32_t *label, struct err *err) MUST_USE;

size_t dataset_size(const struct dataset *ds, enum data_split split);
void dataset_close(struct dataset *ds);

#endif
