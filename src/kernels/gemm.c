/* GEMM: the triple loop of ref, and OpenBLAS behind the same door. */
#include "config.h"

#include "kernels/gemm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#if defined(HAVE_OPENBLAS) && !defined(DIVISION_REAL_DOUBLE)
#define USE_OPENBLAS 1
#include <cblas.h>
#endif

static void clear(const struct gemm_args *g)
{
    for (size_t i = 0; i < g->m && !g->accumulate; i++) {
        memset(g->c + i * g->ldc, 0, g->n * sizeof(real));
    }
}

/* One row of C at a time: element (i, k) of A meets row k of B. */
static void ref_gemm(const struct gemm_args *g, size_t a_row, size_t a_col)
{
    clear(g);
    for (size_t i = 0; i < g->m; i++) {
        real *const c = g->c + i * g->ldc;
        for (size_t k = 0; k < g->k; k++) {
            const real a = g->a[i * a_row + k * a_col];
            const real *const b = g->b + k * g->ldb;
            for (size_t j = 0; j < g->n; j++) {
                c[j] += a * b[j];
            }
        }
    }
}

static void ref_gemm_nn(const struct gemm_args *g)
{
    ref_gemm(g, g->lda, 1);
}

static void ref_gemm_tn(const struct gemm_args *g)
{
    ref_gemm(g, 1, g->lda);
}

void conv_kernels_fill_ref(struct conv_kernels *k)
{
    *k = (struct conv_kernels){.gemm_nn = ref_gemm_nn, .gemm_tn = ref_gemm_tn};
}

#ifdef USE_OPENBLAS

static void blas_gemm(const struct gemm_args *g, CBLAS_TRANSPOSE a_transposed)
{
    cblas_sgemm(CblasRowMajor, a_transposed, CblasNoTrans, (blasint)g->m, (blasint)g->n,
                (blasint)g->k, 1.0f, g->a, (blasint)g->lda, g->b, (blasint)g->ldb,
                g->accumulate ? 1.0f : 0.0f, g->c, (blasint)g->ldc);
}

static void blas_gemm_nn(const struct gemm_args *g)
{
    blas_gemm(g, CblasNoTrans);
}

static void blas_gemm_tn(const struct gemm_args *g)
{
    blas_gemm(g, CblasTrans);
}

/* Numbers in [-1, 1) that need no generator. */
static void fill_pattern(real *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (real)(seed >> 16) / 32768 - 1;
    }
}

/* Largest |difference| between f and the triple loop, in units of k * 2^-24; both m x n x k. */
static double check_shape(void (*f)(const struct gemm_args *), int transposed, size_t m, size_t n,
                          size_t k, real *scratch)
{
    real *const a = scratch, *const b = a + m * k, *const c = b + k * n, *const want = c + m * n;
    struct gemm_args g = {.m = m,
                          .n = n,
                          .k = k,
                          .a = a,
                          .lda = transposed ? m : k,
                          .b = b,
                          .ldb = n,
                          .c = c,
                          .ldc = n,
                          .accumulate = 1};
    double worst = 0;

    fill_pattern(a, m * k + k * n + m * n, (unsigned)(m + n + k));
    memcpy(want, c, m * n * sizeof(real));
    f(&g);
    g.c = want;
    (transposed ? ref_gemm_tn : ref_gemm_nn)(&g);
    for (size_t i = 0; i < m * n; i++) {
        const double error = fabs((double)c[i] - (double)want[i]);
        worst = error <= worst ? worst : error; /* a NaN is the worst, and stays it */
    }
    return worst / ((double)k * 0x1p-24);
}

int gemm_use_library(struct conv_kernels *k, struct err *err)
{
    static const size_t shapes[][3] = {{5, 3, 7}, {48, 64, 72}, {33, 17, 130}, {100, 10, 64}};
    enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]), SCRATCH = 1 << 14 };
    int rc = 0;

    openblas_set_num_threads(1);
    real *const scratch = mem_calloc(MEM_OTHER, SCRATCH, sizeof(real));
    if (!scratch) {
        return err_nomem(err, "checking OpenBLAS", SCRATCH * sizeof(real));
    }
    for (size_t i = 0; i < 2 * N_SHAPES && !rc; i++) {
        const size_t *const s = shapes[i / 2];
        const int transposed = i % 2 != 0;
        const double error = check_shape(transposed ? blas_gemm_tn : blas_gemm_nn, transposed, s[0],
                                         s[1], s[2], scratch);
        if (!(error < 16)) { /* rounding alone stays below 2 */
            rc = err_set(err, ERR_UNSUPPORTED,
                         "OpenBLAS computes wrongly on this machine (kernel %s, %s): a %zux%zux%zu "
                         "product is off by %.3g units of rounding, expected < 16; set "
                         "OPENBLAS_CORETYPE to an older kernel (Haswell, Sandybridge), or "
                         "configure --without-openblas",
                         openblas_get_corename(), openblas_get_config(), s[0], s[1], s[2], error);
        }
    }
    mem_free(scratch);
    if (!rc) {
        k->gemm_nn = blas_gemm_nn;
        k->gemm_tn = blas_gemm_tn;
    }
    return rc;
}

const char *gemm_library_name(char *buf, size_t cap)
{
    /* The configuration begins "OpenBLAS 0.3.21 ..."; the kernel is chosen at run time. */
    const char *const config = openblas_get_config();
    const char *const version_end = strchr(config, ' ') ? strchr(strchr(config, ' ') + 1, ' ')
                                                        : NULL;
    snprintf(buf, cap, "%.*s (%s)", version_end ? (int)(version_end - config) : 32, config,
             openblas_get_corename());
    return buf;
}

#else

int gemm_use_library(struct conv_kernels *k, struct err *err)
{
    (void)k;
    (void)err;
    return 0;
}

const char *gemm_library_name(char *buf, size_t cap)
{
    snprintf(buf, cap, "own");
    return buf;
}

#endif
