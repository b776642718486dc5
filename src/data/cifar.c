/* Reading the CIFAR binary files: see cifar_priv.h. */
#include "data/cifar_priv.h"

#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/dataset_priv.h"

enum {
    SIDE = 32,
    PLANE = SIDE * SIDE,
    N_CHANNELS = 3,
    PIXELS = N_CHANNELS * PLANE,
    MAX_RECORD = CIFAR_MAX_LABELS + PIXELS,
    CHECK_RECORDS = 64, /* read at a time while checking */
};

/* One split: its files in order, and how many records each has. */
struct cifar_split {
    struct dataset_file files[CIFAR_MAX_FILES];
    size_t n_records[CIFAR_MAX_FILES]; /* 0: file is not there (allow_partial) */
    size_t n_files;
};

struct cifar {
    const struct cifar_layout *layout;
    size_t record_bytes;
    struct cifar_split split[2];
};

int cifar_describe(const struct cifar_layout *layout, const struct dataset_config *cfg,
                   struct dataset_info *info, struct err *err)
{
    *info = (struct dataset_info){
        .height = SIDE,
        .width = SIDE,
        .channels = N_CHANNELS,
        .classes = layout->n_label_values[layout->n_label_bytes - 1],
    };
    memcpy(info->mean, layout->mean, sizeof layout->mean);
    memcpy(info->std, layout->std, sizeof layout->std);
    const int rc = dataset_limit_planned(cfg, DATA_TRAIN, layout->n_original[DATA_TRAIN],
                                         &info->n_train, err);
    return rc != 0 ? rc
                   : dataset_limit_planned(cfg, DATA_TEST, layout->n_original[DATA_TEST],
                                           &info->n_test, err);
}

/* ERR_FORMAT if a label byte of the record is out of range. `number` counts records of the file. */
static int record_check(const struct cifar *c, const uint8_t *record, const char *path,
                        size_t number, struct err *err)
{
    for (size_t i = 0; i < c->layout->n_label_bytes; ++i) {
        if (record[i] >= c->layout->n_label_values[i]) {
            return err_set(
                err, ERR_FORMAT,
                "%s: %s %u at offset %zu (record %zu), allowed are 0 to %zu: the file is "
                "damaged or another data set",
                path, c->layout->label_names[i], record[i], number * c->record_bytes + i, number,
                c->layout->n_label_values[i] - 1);
        }
    }
    return 0;
}

/* One pass over the whole file: every label's range, and the checksum of all bytes. */
static int file_check(const struct cifar *c, const struct dataset_file *f, uint8_t *buf,
                      uint32_t *crc, struct err *err)
{
    const size_t n = f->size / c->record_bytes;
    uLong sum = *crc;
    for (size_t first = 0; first < n; first += CHECK_RECORDS) {
        const size_t count = n - first < CHECK_RECORDS ? n - first : CHECK_RECORDS;
        const size_t bytes = count * c->record_bytes;
        int rc = file_pread(f->fd, f->path, buf, bytes, first * c->record_bytes, err);
        for (size_t i = 0; rc == 0 && i < count; ++i) {
            rc = record_check(c, buf + i * c->record_bytes, f->path, first + i, err);
        }
        if (rc != 0) {
            return rc;
        }
        sum = crc32(sum, buf, (uInt)bytes);
    }
    *crc = (uint32_t)sum;
    return 0;
}

/* Opens one file and checks its size. */
static int file_open(const struct cifar *c, const char *dir, const char *name,
                     struct dataset_file *f, struct err *err)
{
    int rc = dataset_file_open(f, dir, name, err);
    if (rc != 0) {
        return rc;
    }
    if (f->size == 0) {
        rc = err_set(err, ERR_FORMAT, "%s is empty, expected records of %zu bytes", f->path,
                     c->record_bytes);
    } else if (f->size % c->record_bytes != 0) {
        const size_t whole = f->size / c->record_bytes * c->record_bytes;
        rc = err_set(
            err, ERR_FORMAT,
            "%s has %zu bytes, expected a multiple of the record size %zu (%zu or %zu): the "
            "file is cut short, overlong or another format",
            f->path, f->size, c->record_bytes, whole, whole + c->record_bytes);
    }
    if (rc != 0) {
        dataset_file_close(f);
    }
    return rc;
}

/* Opens the files of a split. With allow_partial all but one may be missing. */
static int split_open(struct cifar *c, const struct dataset_config *cfg,
                      const struct dataset_type *type, const char *dir, enum data_split split,
                      struct err *err)
{
    const struct cifar_layout *layout = c->layout;
    struct cifar_split *s = &c->split[split];
    s->n_files = layout->n_files[split];
    const size_t expected = layout->n_original[split] / s->n_files;
    size_t total = 0;
    const char *odd = NULL; /* first file with an unusual number of records */
    for (size_t i = 0; i < s->n_files; ++i) {
        const char *name = layout->files[split][i];
        const int rc = file_open(c, dir, name, &s->files[i], err);
        if (rc == ERR_MISSING && cfg->allow_partial) {
            continue;
        }
        if (rc != 0) {
            return rc == ERR_MISSING ? dataset_missing(type, dir, name, err) : rc;
        }
        s->n_records[i] = s->files[i].size / c->record_bytes;
        total += s->n_records[i];
        if (odd == NULL && s->n_records[i] != expected) {
            odd = s->files[i].path;
        }
    }
    if (total == 0) {
        return dataset_missing(type, dir, layout->files[split][0], err);
    }
    return dataset_complete(cfg, split, odd != NULL ? odd : dir, total, layout->n_original[split],
                            err);
}

static int split_check(const struct cifar *c, enum data_split split, uint8_t *buf, uint32_t *crc,
                       struct err *err)
{
    const struct cifar_split *s = &c->split[split];
    *crc = 0;
    for (size_t i = 0; i < s->n_files; ++i) {
        if (s->n_records[i] != 0) {
            const int rc = file_check(c, &s->files[i], buf, crc, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

static size_t split_total(const struct cifar_split *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_files; ++i) {
        n += s->n_records[i];
    }
    return n;
}

int cifar_open(const struct cifar_layout *layout, const struct dataset_config *cfg,
               struct dataset *ds, struct err *err)
{
    const char *dir;
    int rc = dataset_folder(ds->type, cfg, &dir, err);
    if (rc != 0) {
        return rc;
    }
    struct cifar *c = mem_alloc(MEM_OTHER, sizeof *c);
    if (c == NULL) {
        return err_nomem(err, "a data set", sizeof *c);
    }
    ds->priv = c;
    c->layout = layout;
    c->record_bytes = layout->n_label_bytes + PIXELS;
    const size_t buf_bytes = CHECK_RECORDS * c->record_bytes;
    uint8_t *buf = mem_alloc(MEM_OTHER, buf_bytes);
    if (buf == NULL) {
        rc = err_nomem(err, "checking a data set", buf_bytes);
    }
    /* Everything that takes no reading first, so that a wrong folder or limit is told at once. */
    for (int i = 0; rc == 0 && i < 2; ++i) {
        rc = split_open(c, cfg, ds->type, dir, (enum data_split)i, err);
    }
    if (rc == 0) {
        rc = dataset_limit(cfg, DATA_TRAIN, split_total(&c->split[DATA_TRAIN]), &ds->info.n_train,
                           err);
    }
    if (rc == 0) {
        rc = dataset_limit(cfg, DATA_TEST, split_total(&c->split[DATA_TEST]), &ds->info.n_test,
                           err);
    }
    for (int i = 0; rc == 0 && i < 2; ++i) {
        rc = split_check(c, (enum data_split)i, buf, &ds->crc[i], err);
    }
    mem_free(buf);
    if (rc != 0) {
        cifar_close(ds);
    }
    return rc;
}

int cifar_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
               uint32_t *label, struct err *err)
{
    const struct cifar *c = ds->priv;
    const struct cifar_split *s = &c->split[split];
    size_t file = 0;
    while (index >= s->n_records[file]) {
        index -= s->n_records[file++];
    }
    const struct dataset_file *f = &s->files[file];
    uint8_t record[MAX_RECORD];
    int rc = file_pread(f->fd, f->path, record, c->record_bytes, index * c->record_bytes, err);
    if (rc == 0) {
        /* Checked at opening, but the file may have been changed since, and a label indexes
         * arrays. */
        rc = record_check(c, record, f->path, index, err);
    }
    if (rc != 0) {
        return rc;
    }
    *label = record[c->layout->n_label_bytes - 1];
    const uint8_t *planes = record + c->layout->n_label_bytes;
    for (size_t p = 0; p < PLANE; ++p) {
        for (size_t ch = 0; ch < N_CHANNELS; ++ch) {
            pixels[p * N_CHANNELS + ch] = planes[ch * PLANE + p];
        }
    }
    return 0;
}

void cifar_close(struct dataset *ds)
{
    struct cifar *c = ds->priv;
    if (c != NULL) {
        for (int split = 0; split < 2; ++split) {
            for (size_t i = 0; i < CIFAR_MAX_FILES; ++i) {
                dataset_file_close(&c->split[split].files[i]);
            }
        }
        mem_free(c);
    }
    ds->priv = NULL;
}
