/* Which algorithm computes a convolution, and the door to it. Adding an algorithm: a row in
 * enum conv_algorithm, a file conv_NAME.c with a struct conv_impl, a row in `impls`. */
#include "kernels/conv.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "kernels/conv_priv.h"

/* In order of preference: under CONV_AUTO the first that supports the case and says that it pays
 * wins. */
static const struct conv_impl *const impls[] = {
    &conv_impl_winograd,
    &conv_impl_igemm,
    &conv_impl_im2col,
    &conv_impl_direct,
};
enum { N_IMPLS = sizeof(impls) / sizeof(impls[0]) };

static size_t out_size(size_t in, size_t pad, size_t filter, size_t stride)
{
    return in + 2 * pad >= filter ? (in + 2 * pad - filter) / stride + 1 : 0;
}

struct shape conv2d_out_shape(const struct conv_geom *g, const struct shape *x)
{
    assert(g->stride > 0 && g->r > 0 && g->s > 0);
    return (struct shape){.n = x->n,
                          .h = out_size(x->h, g->pad, g->r, g->stride),
                          .w = out_size(x->w, g->pad, g->s, g->stride),
                          .c = g->k};
}

double conv2d_macs(const struct conv_geom *g, const struct shape *x)
{
    const struct shape y = conv2d_out_shape(g, x);
    return (double)shape_pixels(&y) * (double)(g->r * g->s * g->c) * (double)g->k;
}

static const struct conv_impl *choose(const struct kernels *k, const struct conv_geom *g,
                                      const struct shape *x, enum conv_op op)
{
    /* A forced algorithm that cannot do the case (igemm on ref) gives way to the usual choice. */
    for (size_t i = 0; i < N_IMPLS; i++) {
        if (impls[i]->algorithm == k->algorithm && impls[i]->supports(&k->conv, g, x, op)) {
            return impls[i];
        }
    }
    for (size_t i = 0; k->conv.lanes > 0 && i < N_IMPLS; i++) {
        if (impls[i]->supports(&k->conv, g, x, op) &&
            (!impls[i]->pays || impls[i]->pays(&k->conv, g, x, op))) {
            return impls[i];
        }
    }
    return &conv_impl_direct;
}

enum conv_algorithm conv2d_algorithm(const struct kernels *k, const struct conv_geom *g,
                                     const struct shape *x, enum conv_op op)
{
    return choose(k, g, x, op)->algorithm;
}

double conv2d_algorithm_macs(const struct kernels *k, const struct conv_geom *g,
                             const struct shape *x, enum conv_op op)
{
    const struct conv_impl *impl = choose(k, g, x, op);
    return impl->macs ? impl->macs(g, x, op) : conv2d_macs(g, x);
}

size_t conv2d_workspace_bytes(const struct kernels *k, const struct conv_geom *g,
                              const struct shape *x, enum conv_op op, int n_threads)
{
    return choose(k, g, x, op)->workspace_bytes(&k->conv, g, x, op, n_threads);
}

/* Do x and y fit each other and g? */
static int is_case(const struct conv_geom *g, const struct tensor *x, const struct tensor *y)
{
    const struct shape out = conv2d_out_shape(g, &x->shape);
    return x->shape.c == g->c && x->pixel_stride >= g->c && y->pixel_stride >= g->k &&
           out.n == y->shape.n && out.h == y->shape.h && out.w == y->shape.w && g->k == y->shape.c;
}

static int is_aligned(const void *workspace)
{
    return (uintptr_t)workspace % 64 == 0;
}

/* Who needs no workspace may have none; addresses are made of it all the same. */
static void *or_nowhere(void *workspace)
{
    static real nowhere[64 / sizeof(real)] __attribute__((aligned(64)));
    return workspace != NULL ? workspace : nowhere;
}

void conv2d_forward(const struct kernels *k, const struct conv_geom *g, const struct tensor *x,
                    const real *w, const real *b, struct tensor *y, void *workspace, int n_threads)
{
    assert(is_case(g, x, y) && is_aligned(workspace) && n_threads > 0);
    if (shape_elements(&y->shape) == 0) {
        return;
    }
    choose(k, g, &x->shape, CONV_FORWARD)
        ->forward(&k->conv, g, &(struct conv_forward_args){.x = x, .w = w, .b = b, .y = y},
                  or_nowhere(workspace), n_threads);
}

void conv2d_backward_data(const struct kernels *k, const struct conv_geom *g,
                          const struct tensor *dy, const real *w, struct tensor *dx, int accumulate,
                          void *workspace, int n_threads)
{
    assert(is_case(g, dx, dy) && is_aligned(workspace) && n_threads > 0);
    if (shape_elements(&dx->shape) == 0) {
        return;
    }
    choose(k, g, &dx->shape, CONV_BACKWARD_DATA)
        ->backward_data(
            &k->conv, g,
            &(struct conv_backward_data_args){.dy = dy, .w = w, .dx = dx, .accumulate = accumulate},
            or_nowhere(workspace), n_threads);
}

void conv2d_backward_weight(const struct kernels *k, const struct conv_geom *g,
                            const struct tensor *x, const struct tensor *dy, size_t group, real *dw,
                            real *db, void *workspace, int n_threads)
{
    assert(is_case(g, x, dy) && is_aligned(workspace) && n_threads > 0);
    if (shape_elements(&dy->shape) == 0) {
        memset(dw, 0, g->r * g->s * g->c * g->k * sizeof(real));
        if (db) {
            memset(db, 0, g->k * sizeof(real));
        }
        return;
    }
    const struct conv_backward_weight_args args = {
        .x = x, .dy = dy, .group = group, .dw = dw, .db = db};
    choose(k, g, &x->shape, CONV_BACKWARD_WEIGHT)
        ->backward_weight(&k->conv, g, &args, or_nowhere(workspace), n_threads);
}

size_t conv2d_gradient_parts(const struct kernels *k, const struct conv_geom *g,
                             const struct shape *x, size_t group)
{
    const struct shape y = conv2d_out_shape(g, x);
    const struct conv_impl *impl = choose(k, g, x, CONV_BACKWARD_WEIGHT);
    return impl->gradient_parts && shape_elements(&y) > 0 ? impl->gradient_parts(g, x, group) : 0;
}

void conv2d_gradient_run(const struct kernels *k, const struct conv_geom *g,
                         const struct shape *batch, const struct tensor *x, const struct tensor *dy,
                         int want_db, size_t part, int is_first, void *workspace)
{
    assert(is_case(g, x, dy) && is_aligned(workspace));
    choose(k, g, batch, CONV_BACKWARD_WEIGHT)
        ->gradient_run(&k->conv, g, x, dy, want_db, part, is_first, workspace);
}

void conv2d_gradient_end(const struct kernels *k, const struct conv_geom *g,
                         const struct shape *batch, size_t group, real *dw, real *db,
                         void *workspace, int n_threads)
{
    const struct conv_impl *impl = choose(k, g, batch, CONV_BACKWARD_WEIGHT);
    impl->gradient_end(g, impl->gradient_parts(g, batch, group), dw, db, workspace, n_threads);
}
