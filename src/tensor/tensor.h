/* Tensors: NHWC, channels innermost, with a stride between pixels so that a tensor can be a slice
 * of channels of a wider one. A struct tensor is a view: it owns nothing. */
#ifndef TENSOR_TENSOR_H
#define TENSOR_TENSOR_H

#include <stddef.h>

#include "base/real.h"

/* n samples of h x w pixels with c channels. */
struct shape {
    size_t n, h, w, c;
};

struct tensor {
    real *data; /* element (n,h,w,c) at data[((n*H + h)*W + w) * pixel_stride + c] */
    struct shape shape;
    size_t pixel_stride; /* >= shape.c */
};

static inline size_t shape_pixels(const struct shape *s)
{
    return s->n * s->h * s->w;
}

static inline size_t shape_elements(const struct shape *s)
{
    return s->n * s->h * s->w * s->c;
}

/* Bytes of a dense tensor of this shape. The graph's builder has refused shapes that overflow. */
static inline size_t shape_bytes(const struct shape *s)
{
    return shape_elements(s) * sizeof(real);
}

/* A dense view: pixel_stride = shape.c. */
static inline struct tensor tensor_view(real *data, struct shape shape)
{
    return (struct tensor){.data = data, .shape = shape, .pixel_stride = shape.c};
}

/* Samples first .. first + n - 1 of t. */
static inline struct tensor tensor_samples(const struct tensor *t, size_t first, size_t n)
{
    struct tensor s = *t;
    s.data += first * s.shape.h * s.shape.w * s.pixel_stride;
    s.shape.n = n;
    return s;
}

#endif
