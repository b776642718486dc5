/* NumPy's .npy files: one array of float32 (also float64 and integers on reading), C order.
 * Format: numpy.lib.format, version 1.0 (2.0 and 3.0 are read). */
#ifndef TENSOR_NPY_H
#define TENSOR_NPY_H

#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

#define NPY_MAX_DIMS 8

struct npy {
    size_t n_dims;
    size_t dims[NPY_MAX_DIMS];
    float *data; /* C order; mem_free; element count = product of dims (1 for zero dims) */
};

/* Reads f4, and f8 and integers (narrowed), in either byte order; Fortran order is refused by name.
 * ERR_MISSING, ERR_IO, ERR_FORMAT (with offset, expected and found), ERR_NOMEM. */
int npy_read(const char *path, struct npy *out, struct err *err) MUST_USE;

/* Writes '<f4', appears whole or not at all. */
int npy_write(const char *path, const float *data, size_t n_dims, const size_t *dims,
              struct err *err) MUST_USE;

void npy_fini(struct npy *a);

#endif
