/* Reading IDX files: see idx_priv.h.
 *
 * Format: two zero bytes, a type byte (0x08: unsigned bytes), the number of dimensions, each
 * dimension as a big-endian 32-bit number, then the bytes. Labels have one dimension, images three
 * (number, height, width). Plain images stay in their file and are read by index; gzip cannot be
 * read so, and its images are inflated into memory, no more of them than the limit asks for. */
#include "data/idx_priv.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/dataset_priv.h"
#include "data/idx_stream_priv.h"

enum {
    SIDE = 32, /* of the images delivered, the most that the files may hold */
    MAX_CLASSES = 256,
    MAX_DIMS = 3,
    IMAGES_HEADER = 4 + 3 * 4,
    SCRATCH_BYTES = 1 << 16,
};

static const char *const image_files[2] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"};
static const char *const label_files[2] = {"train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"};

struct idx_split {
    struct dataset_file images; /* open if the images are read from a plain file */
    uint8_t *pixels;            /* [n][height][width] if they came from gzip, else NULL */
    uint8_t *labels;            /* [n] */
};

struct idx {
    size_t height, width; /* in the files */
    struct idx_split split[2];
};

/* What opening one split needs on the way. */
struct idx_opening {
    const struct idx_layout *layout;
    const struct dataset_config *cfg;
    const struct dataset_type *type;
    const char *dir;
    enum data_split split;
    struct idx_stream images, labels;
    size_t n, height, width; /* the header's */
    size_t n_used;           /* after the limit */
    size_t n_values;         /* labels are below this */
    size_t max_label;        /* largest found */
    uint8_t *scratch;        /* [SCRATCH_BYTES] */
};

static size_t promised_classes(const struct idx_layout *layout, const struct dataset_config *cfg)
{
    return layout->classes != 0 ? layout->classes : cfg->classes;
}

static int describe_split(const struct idx_layout *layout, const struct dataset_config *cfg,
                          enum data_split split, size_t *n, struct err *err)
{
    if (layout->n_original[split] != 0) {
        return dataset_limit_planned(cfg, split, layout->n_original[split], n, err);
    }
    *n = split == DATA_TRAIN ? cfg->limit : cfg->test_limit;
    return 0;
}

/* Labels, and images that are not there as a plain file. */
static size_t planned_bytes(const struct idx_layout *layout, const struct dataset_config *cfg,
                            enum data_split split, size_t n)
{
    const char *dir = cfg->path != NULL && cfg->path[0] != '\0' ? cfg->path : layout->folder;
    char path[4096];
    const int len = dir == NULL ? -1
                                : snprintf(path, sizeof path, "%s/%s", dir, image_files[split]);
    const int is_plain = len > 0 && (size_t)len < sizeof path && file_exists(path);
    return n * (is_plain ? 1 : layout->side * layout->side + 1);
}

int idx_describe(const struct idx_layout *layout, const struct dataset_config *cfg,
                 struct dataset_info *info, struct err *err)
{
    const size_t classes = promised_classes(layout, cfg);
    if (classes > MAX_CLASSES) {
        return err_set(err, ERR_CONFIG,
                       "%zu classes, but labels of IDX files are bytes: at most %d", classes,
                       MAX_CLASSES);
    }
    *info = (struct dataset_info){
        .height = SIDE,
        .width = SIDE,
        .channels = 1,
        .classes = classes,
        .mean = {layout->mean},
        .std = {layout->std},
    };
    int rc = describe_split(layout, cfg, DATA_TRAIN, &info->n_train, err);
    if (rc == 0) {
        rc = describe_split(layout, cfg, DATA_TEST, &info->n_test, err);
    }
    if (rc == 0) {
        info->memory_bytes = planned_bytes(layout, cfg, DATA_TRAIN, info->n_train) +
                             planned_bytes(layout, cfg, DATA_TEST, info->n_test);
    }
    return rc;
}

static size_t big_endian(const uint8_t *p)
{
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* Reads the header: its dimensions, and that the file's size can be right. */
static int header_read(struct idx_stream *s, size_t n_dims, size_t dims[MAX_DIMS], struct err *err)
{
    uint8_t head[4 + 4 * MAX_DIMS];
    const size_t bytes = 4 + 4 * n_dims;
    int rc = idx_stream_read(s, head, 4, err);
    if (rc != 0) {
        return rc;
    }
    const size_t expected = 0x0800 + n_dims;
    if (big_endian(head) != expected) {
        return err_set(err, ERR_FORMAT,
                       "%s: magic number 0x%08zx at offset 0, expected 0x%08zx (IDX of unsigned "
                       "bytes with %zu dimension%s)",
                       s->file.path, big_endian(head), expected, n_dims, n_dims == 1 ? "" : "s");
    }
    rc = idx_stream_read(s, head + 4, bytes - 4, err);
    if (rc != 0) {
        return rc;
    }
    size_t content = 1;
    int overflow = 0;
    for (size_t i = 0; i < n_dims; ++i) {
        dims[i] = big_endian(head + 4 + 4 * i);
        content = size_mul(content, dims[i], &overflow);
        if (dims[i] == 0) {
            return err_set(err, ERR_FORMAT, "%s: dimension %zu at offset %zu is 0: no data",
                           s->file.path, i, 4 + 4 * i);
        }
        if (overflow) {
            return err_set(err, ERR_FORMAT, "%s: its header's dimensions are beyond any file",
                           s->file.path);
        }
    }
    /* Deflate makes at most 1,032 bytes of one (zlib's technical details), so a header that
     * promises more is wrong; found here, it cannot ask for absurd amounts of memory. */
    const size_t packed_most = s->file.size > SIZE_MAX / 1032 ? SIZE_MAX : s->file.size * 1032;
    const size_t most = s->is_gzip ? packed_most : s->file.size - bytes;
    if (content > most || (!s->is_gzip && content != most)) {
        return err_set(err, ERR_FORMAT,
                       "%s has %zu bytes, but its header promises %zu%s: the file is %s, or its "
                       "header damaged",
                       s->file.path, s->file.size, bytes + content, s->is_gzip ? " unpacked" : "",
                       content > most ? "cut short" : "overlong");
    }
    return 0;
}

/* Both headers, and whether they fit together and to what the layout promises. */
static int headers_check(struct idx_opening *o, struct err *err)
{
    size_t image_dims[MAX_DIMS], label_dims[MAX_DIMS];
    int rc = header_read(&o->images, 3, image_dims, err);
    if (rc == 0) {
        rc = header_read(&o->labels, 1, label_dims, err);
    }
    if (rc != 0) {
        return rc;
    }
    o->n = image_dims[0];
    o->height = image_dims[1];
    o->width = image_dims[2];
    const char *path = o->images.file.path;
    const size_t side = o->layout->side;
    if (side != 0 && (o->height != side || o->width != side)) {
        return err_set(err, ERR_FORMAT, "%s: images of %zu x %zu pixels, expected %zu x %zu", path,
                       o->height, o->width, side, side);
    }
    if (o->height > SIDE || o->width > SIDE) {
        return err_set(err, ERR_FORMAT, "%s: images of %zu x %zu pixels, at most %d x %d are read",
                       path, o->height, o->width, SIDE, SIDE);
    }
    if (label_dims[0] != o->n) {
        return err_set(err, ERR_FORMAT, "%s holds %zu images, but %s holds %zu labels", path, o->n,
                       o->labels.file.path, label_dims[0]);
    }
    const size_t original = o->layout->n_original[o->split];
    if (original != 0) {
        rc = dataset_complete(o->cfg, o->split, path, o->n, original, err);
    }
    return rc != 0 ? rc : dataset_limit(o->cfg, o->split, o->n, &o->n_used, err);
}

/* Reads the rest of a stream's content, `bytes` of it, without keeping it. */
static int stream_skip(struct idx_opening *o, struct idx_stream *s, size_t bytes, struct err *err)
{
    while (bytes > 0) {
        const size_t n = bytes < SCRATCH_BYTES ? bytes : SCRATCH_BYTES;
        const int rc = idx_stream_read(s, o->scratch, n, err);
        if (rc != 0) {
            return rc;
        }
        bytes -= n;
    }
    return 0;
}

/* Nothing may follow the content (and a gzip trailer must be right). */
static int stream_finish(struct idx_stream *s, struct err *err)
{
    bool at_end = false;
    const size_t promised = s->n_read;
    const int rc = idx_stream_at_end(s, &at_end, err);
    if (rc == 0 && !at_end) {
        return err_set(err, ERR_FORMAT,
                       "%s goes on behind the %zu bytes that its header promises: the file is "
                       "overlong, or its header damaged",
                       s->file.path, promised);
    }
    return rc;
}

static int images_load(struct idx_opening *o, struct idx_split *out, struct err *err)
{
    const size_t image = o->height * o->width;
    const size_t used = o->n_used * image; /* no overflow: header_read has multiplied more */
    size_t rest = o->n * image;
    if (o->images.is_gzip) {
        out->pixels = mem_alloc_untouched(MEM_DATA, used);
        if (out->pixels == NULL) {
            return err_nomem(err, "images of a gzipped data set (data.limit makes it less)", used);
        }
        const int rc = idx_stream_read(&o->images, out->pixels, used, err);
        if (rc != 0) {
            return rc;
        }
        rest -= used;
    }
    const int rc = stream_skip(o, &o->images, rest, err);
    return rc != 0 ? rc : stream_finish(&o->images, err);
}

/* Labels [first, first + n) of the file. */
static int labels_check(struct idx_opening *o, const uint8_t *labels, size_t first, size_t n,
                        struct err *err)
{
    for (size_t i = 0; i < n; ++i) {
        if (labels[i] >= o->n_values) {
            return err_set(err, ERR_FORMAT,
                           "%s: label %u of image %zu (offset %zu%s), allowed are 0 to %zu",
                           o->labels.file.path, labels[i], first + i, 8 + first + i,
                           o->labels.is_gzip ? " unpacked" : "", o->n_values - 1);
        }
        o->max_label = labels[i] > o->max_label ? labels[i] : o->max_label;
    }
    return 0;
}

static int labels_load(struct idx_opening *o, struct idx_split *out, struct err *err)
{
    out->labels = mem_alloc(MEM_DATA, o->n_used);
    if (out->labels == NULL) {
        return err_nomem(err, "labels", o->n_used);
    }
    int rc = idx_stream_read(&o->labels, out->labels, o->n_used, err);
    if (rc == 0) {
        rc = labels_check(o, out->labels, 0, o->n_used, err);
    }
    for (size_t i = o->n_used; rc == 0 && i < o->n;) {
        const size_t n = o->n - i < SCRATCH_BYTES ? o->n - i : SCRATCH_BYTES;
        rc = idx_stream_read(&o->labels, o->scratch, n, err);
        if (rc == 0) {
            rc = labels_check(o, o->scratch, i, n, err);
        }
        i += n;
    }
    return rc != 0 ? rc : stream_finish(&o->labels, err);
}

static int stream_find(const struct idx_opening *o, struct idx_stream *s, const char *name,
                       struct err *err)
{
    const int rc = idx_stream_open(s, o->dir, name, err);
    if (rc != ERR_MISSING) {
        return rc;
    }
    char both[80];
    const size_t len = strlen(name);
    memcpy(both, name, len);
    memcpy(both + len, "[.gz]", sizeof "[.gz]");
    return dataset_missing(o->type, o->dir, both, err);
}

/* One split: files, headers, labels, images. */
static int split_open(struct idx_opening *o, struct idx_split *out, uint32_t *crc, struct err *err)
{
    int rc = stream_find(o, &o->images, image_files[o->split], err);
    if (rc == 0) {
        rc = stream_find(o, &o->labels, label_files[o->split], err);
    }
    if (rc == 0) {
        rc = headers_check(o, err);
    }
    if (rc == 0) {
        rc = labels_load(o, out, err);
    }
    if (rc == 0) {
        rc = images_load(o, out, err);
    }
    if (rc == 0) {
        *crc = (uint32_t)crc32_combine(o->images.crc, o->labels.crc, (z_off_t)o->labels.n_read);
        if (!o->images.is_gzip) {
            out->images = o->images.file;
            o->images.file = (struct dataset_file){0};
        }
    }
    idx_stream_close(&o->images);
    idx_stream_close(&o->labels);
    return rc;
}

/* Both splits; the numbers of what was found go to ds->info. */
static int splits_open(struct idx_opening *o, struct idx *idx, struct dataset *ds, struct err *err)
{
    struct dataset_info *info = &ds->info;
    for (int i = 0; i < 2; ++i) {
        o->split = (enum data_split)i;
        const int rc = split_open(o, &idx->split[i], &ds->crc[i], err);
        if (rc != 0) {
            return rc;
        }
        const size_t image = o->height * o->width;
        ds->memory_bytes += o->n_used * (idx->split[i].pixels != NULL ? image + 1 : 1);
        *(i == DATA_TRAIN ? &info->n_train : &info->n_test) = o->n_used;
        if (i != 0 && (o->height != idx->height || o->width != idx->width)) {
            return err_set(err, ERR_FORMAT,
                           "%s: training images are %zu x %zu pixels, test images %zu x %zu",
                           o->dir, idx->height, idx->width, o->height, o->width);
        }
        idx->height = o->height;
        idx->width = o->width;
    }
    if (info->classes == 0) {
        info->classes = o->max_label + 1;
    }
    return 0;
}

int idx_open(const struct idx_layout *layout, const struct dataset_config *cfg, struct dataset *ds,
             struct err *err)
{
    const size_t classes = promised_classes(layout, cfg);
    struct idx_opening o = {
        .layout = layout,
        .cfg = cfg,
        .type = ds->type,
        .n_values = classes != 0 ? classes : MAX_CLASSES,
    };
    int rc = dataset_folder(ds->type, cfg, &o.dir, err);
    if (rc != 0) {
        return rc;
    }
    struct idx *idx = mem_alloc(MEM_OTHER, sizeof *idx);
    o.scratch = mem_alloc(MEM_OTHER, SCRATCH_BYTES);
    ds->priv = idx;
    if (idx == NULL || o.scratch == NULL) {
        rc = err_nomem(err, "opening a data set", sizeof *idx + SCRATCH_BYTES);
    } else {
        rc = splits_open(&o, idx, ds, err);
    }
    mem_free(o.scratch);
    if (rc != 0) {
        idx_close(ds);
    }
    return rc;
}

int idx_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
             uint32_t *label, struct err *err)
{
    const struct idx *idx = ds->priv;
    const struct idx_split *s = &idx->split[split];
    const size_t image = idx->height * idx->width;
    uint8_t buf[SIDE * SIDE];
    const uint8_t *src = buf;
    if (s->pixels != NULL) {
        src = s->pixels + index * image;
    } else {
        const int rc = file_pread(s->images.fd, s->images.path, buf, image,
                                  IMAGES_HEADER + index * image, err);
        if (rc != 0) {
            return rc;
        }
    }
    /* In the middle; where that is no whole pixel, half a pixel towards the top left. */
    const size_t top = (SIDE - idx->height) / 2, left = (SIDE - idx->width) / 2;
    memset(pixels, 0, SIDE * SIDE);
    for (size_t y = 0; y < idx->height; ++y) {
        memcpy(pixels + (top + y) * SIDE + left, src + y * idx->width, idx->width);
    }
    *label = s->labels[index];
    return 0;
}

void idx_close(struct dataset *ds)
{
    struct idx *idx = ds->priv;
    if (idx != NULL) {
        for (int i = 0; i < 2; ++i) {
            dataset_file_close(&idx->split[i].images);
            mem_free(idx->split[i].pixels);
            mem_free(idx->split[i].labels);
        }
        mem_free(idx);
    }
    ds->priv = NULL;
}
