/* What the machine can do at best: arithmetic and memory traffic. */
#include <string.h>

#include "base/mem.h"
#include "cli/bench.h"
#include "kernels/conv.h"

enum {
    COPY_BYTES = 128 << 20,    /* of all threads: no cache's worth */
    MIN_COPY_BYTES = 16 << 20, /* of each, where there are many */
    SIDE = 8,                  /* a 1x1 convolution of small images is a product of matrices */
    IMAGES = 8,                /* per thread */
};

struct copy_call {
    char *from, *to;
    size_t bytes; /* of each thread */
    int n_threads;
};

static void call_copy(void *ctx)
{
    const struct copy_call *c = ctx;
#pragma omp parallel for num_threads(c->n_threads) schedule(static) if (c->n_threads > 1)
    for (int t = 0; t < c->n_threads; t++) {
        memcpy(c->to + (size_t)t * c->bytes, c->from + (size_t)t * c->bytes, c->bytes);
    }
}

struct product_call {
    struct kernels kernels;
    struct conv_geom geom;
    struct tensor x, y;
    real *w;
    void *workspace;
    int n_threads;
};

static void call_product(void *ctx)
{
    struct product_call *c = ctx;
    conv2d_forward(&c->kernels, &c->geom, &c->x, c->w, NULL, &c->y, c->workspace, c->n_threads);
}

/* Seconds of the fastest call. */
static double best_time(void (*call)(void *ctx), void *ctx, size_t tries)
{
    const size_t n = bench_calls(call, ctx, 1);
    double best = 0;
    for (size_t i = 0; i < tries; i++) {
        const double s = bench_time(BENCH_CLOCK_WALL, call, ctx, n);
        best = i == 0 || s < best ? s : best;
    }
    return best;
}

static int measure_copy(int n_threads, size_t tries, double *bytes_per_s, struct err *err)
{
    const size_t threads = (size_t)n_threads, share = COPY_BYTES / threads;
    const size_t each = share > MIN_COPY_BYTES ? share : MIN_COPY_BYTES, bytes = threads * each;
    struct copy_call c = {.from = mem_calloc(MEM_DATA, bytes, 1),
                          .to = mem_alloc(MEM_DATA, bytes),
                          .bytes = each,
                          .n_threads = n_threads};
    if (c.from && c.to) {
        memset(c.from, 1, bytes); /* pages of zeros may all be the same one */
        *bytes_per_s = 2 * (double)bytes / best_time(call_copy, &c, tries);
    } else {
        (void)!err_nomem(err, "measuring copies", 2 * bytes);
    }
    mem_free(c.from);
    mem_free(c.to);
    return (int)err->code;
}

/* Products [pixels, c] x [c, k]: which is fastest depends on the caches. */
static const struct {
    size_t c, k;
} products[] = {{256, 256}, {256, 64}, {128, 64}, {64, 64}, {256, 16}};

static int measure_product(const struct kernels *kernels, int n_threads, size_t tries, size_t in,
                           size_t out, double *flop_per_s, struct err *err)
{
    const struct shape x = {.n = IMAGES * (size_t)n_threads, .h = SIDE, .w = SIDE, .c = in};
    struct product_call c = {.kernels = *kernels,
                             .geom = {.c = in, .k = out, .r = 1, .s = 1, .stride = 1, .pad = 0},
                             .n_threads = n_threads};
    c.kernels.algorithm = CONV_AUTO;
    const struct shape y = conv2d_out_shape(&c.geom, &x);
    const size_t w = in * out * sizeof(real);
    const size_t workspace = conv2d_workspace_bytes(&c.kernels, &c.geom, &x, CONV_FORWARD,
                                                    n_threads);
    c.x = tensor_view(mem_calloc(MEM_DATA, shape_bytes(&x), 1), x);
    c.y = tensor_view(mem_calloc(MEM_DATA, shape_bytes(&y), 1), y);
    c.w = mem_calloc(MEM_DATA, w, 1);
    c.workspace = mem_alloc(MEM_WORKSPACE, workspace);
    if (c.x.data && c.y.data && c.w && c.workspace) {
        const double rate = 2 * conv2d_macs(&c.geom, &x) / best_time(call_product, &c, tries);
        *flop_per_s = rate > *flop_per_s ? rate : *flop_per_s;
    } else {
        (void)!err_nomem(err, "measuring products of matrices",
                         shape_bytes(&x) + shape_bytes(&y) + w + workspace);
    }
    mem_free(c.x.data);
    mem_free(c.y.data);
    mem_free(c.w);
    mem_free(c.workspace);
    return (int)err->code;
}

int bench_roof_measure(const struct kernels *kernels, int n_threads, size_t tries,
                       struct bench_roof *roof, struct err *err)
{
    *roof = (struct bench_roof){0};
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        if (measure_product(kernels, n_threads, tries, products[i].c, products[i].k,
                            &roof->flop_per_s, err) != 0) {
            return (int)err->code;
        }
    }
    return measure_copy(n_threads, tries, &roof->bytes_per_s, err);
}
