/* safetensors files (8-byte little-endian header length, JSON header, raw little-endian data):
 * named tensors, as PyTorch's state_dict is exchanged. Header parsed and written with jansson. */
#ifndef TENSOR_SAFETENSORS_H
#define TENSOR_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SAFETENSORS_MAX_DIMS 8
#define SAFETENSORS_MAX_HEADER_BYTES ((size_t)100000000) /* as the format's own library */

enum safetensors_type { SAFETENSORS_F32, SAFETENSORS_F64, SAFETENSORS_I64 };

/* One tensor to write, or one found in a file. */
struct safetensors_entry {
    const char *name;
    enum safetensors_type type;
    size_t n_dims;
    size_t dims[SAFETENSORS_MAX_DIMS];
    const void *data; /* C order; on reading it points into the file's buffer, 64-byte aligned */
    /* Writing only, may be NULL: makes elements first .. first + n of the tensor from `data`, so that
     * no second copy of it is needed. n is at most SAFETENSORS_PIECE. */
    void (*fill)(const void *data, size_t first, size_t n, void *out);
};

enum { SAFETENSORS_PIECE = 4096 }; /* elements */

/* Elements of the entry. */
size_t safetensors_count(const struct safetensors_entry *e);

/* Writes entries in the given order (but those of 8-byte types first: PyTorch's reader wants each
 * tensor aligned to its elements) with a "__metadata__" map of n_meta key/value pairs (meta[2*i],
 * meta[2*i+1]). Names are UTF-8, none twice: else ERR_FORMAT. Appears whole or not at all. */
int safetensors_write(const char *path, const struct safetensors_entry *entries, size_t n,
                      const char *const *meta, size_t n_meta, struct err *err) MUST_USE;

struct safetensors_file {
    struct safetensors_entry *entries; /* in order of data offset */
    size_t n_entries;
    void *priv;
};

/* Reads and checks a whole file: header length and JSON, known types (also F16 and BF16, widened to
 * F32), offsets inside the file, without holes or overlaps, sizes that agree with shapes, no name
 * twice. ERR_MISSING, ERR_IO, ERR_FORMAT with tensor and offset. */
int safetensors_read(const char *path, struct safetensors_file *out, struct err *err) MUST_USE;

/* The same without the data: entries[].data is NULL, the file stays open until safetensors_fini, and
 * safetensors_load reads elements first .. first + n of one of its entries into `out`. */
int safetensors_open(const char *path, struct safetensors_file *out, struct err *err) MUST_USE;
int safetensors_load(const struct safetensors_file *f, const struct safetensors_entry *e,
                     size_t first, size_t n, void *out, struct err *err) MUST_USE;

/* NULL if there is none of that name. */
const struct safetensors_entry *safetensors_find(const struct safetensors_file *f,
                                                 const char *name);

void safetensors_fini(struct safetensors_file *f);

#endif
