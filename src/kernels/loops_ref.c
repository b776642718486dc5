/* The reference loops: scalar, written from the formulas, sums in double. Compiled in double they
 * are the oracle of the gradient checks. */
#include "kernels/loops_isa.h"

#include <math.h>
#include <string.h>

#include "kernels/loops_priv.h"

static void put(real *dst, real value, int accumulate)
{
    *dst = accumulate ? *dst + value : value;
}

static void ref_copy(size_t n_rows, size_t len, const real *x, size_t xs, real *y, size_t ys)
{
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(y + r * ys, x + r * xs, len * sizeof(real));
    }
}

static void ref_add(size_t n_rows, size_t len, const real *a, size_t as, const real *b, size_t bs,
                    real *y, size_t ys)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < len; i++) {
            y[r * ys + i] = a[r * as + i] + b[r * bs + i];
        }
    }
}

/* Not fmax, which turns NaN into 0 and would hide a diverged run. */
static real relu_of(real x)
{
    return x <= 0 ? 0 : x;
}

static void ref_relu(size_t n_rows, size_t len, const real *x, size_t xs, real *y, size_t ys)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < len; i++) {
            y[r * ys + i] = relu_of(x[r * xs + i]);
        }
    }
}

static void ref_relu_signs(size_t n_rows, size_t len, const real *x, size_t xs, real *y, size_t ys,
                           uint8_t *signs)
{
    const size_t row_bytes = (len + 7) / 8;
    for (size_t r = 0; r < n_rows; r++) {
        uint8_t *bits = signs + r * row_bytes;
        memset(bits, 0, row_bytes);
        for (size_t i = 0; i < len; i++) {
            if (x[r * xs + i] > 0) {
                bits[i / 8] = (uint8_t)(bits[i / 8] | 1u << i % 8);
            }
            y[r * ys + i] = relu_of(x[r * xs + i]);
        }
    }
}

static void ref_relu_back_signs(size_t n_rows, size_t len, const real *dy, size_t dys,
                                const uint8_t *signs, real *dx, size_t dxs, int accumulate)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *bits = signs + r * ((len + 7) / 8);
        for (size_t i = 0; i < len; i++) {
            const int positive = bits[i / 8] >> i % 8 & 1;
            put(&dx[r * dxs + i], positive ? dy[r * dys + i] : 0, accumulate);
        }
    }
}

static void ref_relu_back_output(size_t n_rows, size_t len, const real *dy, size_t dys,
                                 const real *y, size_t ys, real *dx, size_t dxs, int accumulate)
{
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < len; i++) {
            put(&dx[r * dxs + i], y[r * ys + i] > 0 ? dy[r * dys + i] : 0, accumulate);
        }
    }
}

static void ref_dropout(const struct dropout_run *d)
{
    uint64_t e = d->first;
    for (size_t r = 0; r < d->n_rows; r++) {
        for (size_t i = 0; i < d->len; i++, e++) {
            const real keep = rng_u32(&d->rng, e) < d->threshold ? 0 : d->scale;
            put(&d->y[r * d->y_stride + i], d->x[r * d->x_stride + i] * keep, d->accumulate);
        }
    }
}

static void ref_sgd(const struct sgd_run *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const real g = s->dw[i] + s->weight_decay * s->w[i];
        real step = g;
        if (s->m) {
            s->m[i] = s->momentum * s->m[i] + g;
            step = s->nesterov ? g + s->momentum * s->m[i] : s->m[i];
        }
        s->w[i] -= s->lr * step;
    }
}

static void ref_bn_moments(size_t n_pixels, size_t c, const real *x, size_t xs, size_t n_before,
                           double *mean, double *m2)
{
    const double n = (double)n_pixels;
    const double n_a = (double)n_before;
    for (size_t i = 0; i < c; i++) {
        double sum = 0;
        for (size_t p = 0; p < n_pixels; p++) {
            sum += (double)x[p * xs + i];
        }
        const double own_mean = sum / n;
        double own_m2 = 0;
        for (size_t p = 0; p < n_pixels; p++) {
            const double d = (double)x[p * xs + i] - own_mean;
            own_m2 += d * d;
        }
        /* Chan, Golub and LeVeque 1979: merging two sets of moments. */
        const double delta = own_mean - mean[i];
        mean[i] += delta * n / (n_a + n);
        m2[i] += own_m2 + delta * delta * n_a * n / (n_a + n);
    }
}

static real bn_output(const struct bn_run *r, size_t p, size_t i)
{
    const real dev = r->x[p * r->x_stride + i] - r->mean[i];
    return r->gamma[i] * r->invstd[i] * dev + r->beta[i];
}

static int bn_bit(const struct bn_run *r, size_t p, size_t i)
{
    return r->signs[p * r->sign_stride + i / 8] >> i % 8 & 1;
}

static void ref_bn_apply(const struct bn_run *r)
{
    for (size_t p = 0; p < r->n_pixels; p++) {
        if (r->relu == BN_RELU_WRITE) {
            memset(r->signs + p * r->sign_stride, 0, (r->c + 7) / 8);
        }
        for (size_t i = 0; i < r->c; i++) {
            real y = bn_output(r, p, i);
            switch (r->relu) {
            case BN_NO_RELU: break;
            case BN_RELU_WRITE:
                r->signs[p * r->sign_stride + i / 8] |= (uint8_t)((y > 0) << i % 8);
                y = relu_of(y);
                break;
            case BN_RELU: y = relu_of(y); break;
            case BN_RELU_READ: y = bn_bit(r, p, i) ? y : 0; break;
            }
            r->out[p * r->out_stride + i] = y;
        }
    }
}

/* dy, which counts where the ReLU lets it through. */
static real bn_dy(const struct bn_run *r, size_t p, size_t i)
{
    const real dy = r->dy[p * r->dy_stride + i];
    switch (r->relu) {
    case BN_NO_RELU: break;
    case BN_RELU:
    case BN_RELU_WRITE: return bn_output(r, p, i) > 0 ? dy : 0;
    case BN_RELU_READ: return bn_bit(r, p, i) ? dy : 0;
    }
    return dy;
}

static void ref_bn_reduce(const struct bn_run *r, double *sum_dy, double *sum_dy_dev)
{
    for (size_t p = 0; p < r->n_pixels; p++) {
        for (size_t i = 0; i < r->c; i++) {
            const double dy = (double)bn_dy(r, p, i);
            const double x = (double)r->x[p * r->x_stride + i];
            sum_dy[i] += dy;
            sum_dy_dev[i] += dy * (x - (double)r->mean[i]);
        }
    }
}

static void ref_bn_backward(const struct bn_run *r)
{
    for (size_t p = 0; p < r->n_pixels; p++) {
        for (size_t i = 0; i < r->c; i++) {
            const real xhat = (r->x[p * r->x_stride + i] - r->mean[i]) * r->invstd[i];
            const real mean_dy = r->means[i];
            const real mean_dy_xhat = r->means[r->c + i];
            const real dy = bn_dy(r, p, i);
            const real dx = r->gamma[i] * r->invstd[i] * (dy - mean_dy - xhat * mean_dy_xhat);
            put(&r->out[p * r->out_stride + i], dx, r->accumulate);
        }
    }
}

/* Is this tap of a window inside the input? Its place then stands in *at. */
static int tap_inside(size_t out, size_t tap, size_t stride, size_t pad, size_t size, size_t *at)
{
    *at = out * stride + tap - pad; /* wraps around to a huge number when left of the input */
    return *at < size;
}

static void ref_max_pool(const struct pool_run *p, size_t row, const real *x, size_t xs, real *y,
                         size_t ys, uint8_t *index)
{
    for (size_t col = 0; col < p->ow; col++) {
        for (size_t i = 0; i < p->c; i++) {
            real best = -(real)INFINITY;
            size_t best_tap = 0;
            int found = 0;
            for (size_t tap = 0; tap < p->r * p->r; tap++) {
                size_t at_h, at_w;
                if (!tap_inside(row, tap / p->r, p->stride, p->pad, p->h, &at_h) ||
                    !tap_inside(col, tap % p->r, p->stride, p->pad, p->w, &at_w)) {
                    continue;
                }
                const real v = x[(at_h * p->w + at_w) * xs + i];
                if (!found || v > best || v != v) {
                    best = v;
                    best_tap = tap;
                    found = 1;
                }
            }
            y[col * ys + i] = best;
            if (index) {
                index[col * p->c + i] = (uint8_t)best_tap;
            }
        }
    }
}

static void ref_avg_pool(const struct pool_run *p, size_t row, const real *x, size_t xs, real *y,
                         size_t ys)
{
    for (size_t col = 0; col < p->ow; col++) {
        for (size_t i = 0; i < p->c; i++) {
            double sum = 0;
            for (size_t tap = 0; tap < p->r * p->r; tap++) {
                size_t at_h, at_w;
                if (tap_inside(row, tap / p->r, p->stride, p->pad, p->h, &at_h) &&
                    tap_inside(col, tap % p->r, p->stride, p->pad, p->w, &at_w)) {
                    sum += (double)x[(at_h * p->w + at_w) * xs + i];
                }
            }
            y[col * ys + i] = (real)(sum / (double)(p->r * p->r));
        }
    }
}

/* Gradient of input pixel (row, col), channel i: the windows that cover it, in order; for maximum
 * pooling those whose winner it is. */
static real pool_gather(const struct pool_run *p, size_t row, size_t col, size_t i, const real *dy,
                        size_t dys, const uint8_t *index)
{
    size_t h0, h1, w0, w1;
    pool_cover(row, p->r, p->stride, p->pad, p->oh, &h0, &h1);
    pool_cover(col, p->r, p->stride, p->pad, p->ow, &w0, &w1);
    double sum = 0;
    for (size_t o_h = h0; o_h < h1; o_h++) {
        for (size_t o_w = w0; o_w < w1; o_w++) {
            const size_t tap_h = row + p->pad - o_h * p->stride;
            const size_t tap_w = col + p->pad - o_w * p->stride;
            const size_t out = o_h * p->ow + o_w;
            if (!index || index[out * p->c + i] == tap_h * p->r + tap_w) {
                sum += (double)dy[out * dys + i];
            }
        }
    }
    return (real)(index ? sum : sum / (double)(p->r * p->r));
}

static void ref_max_pool_back(const struct pool_run *p, size_t row, const real *dy, size_t dys,
                              const uint8_t *index, real *dx, size_t dxs, int accumulate)
{
    for (size_t col = 0; col < p->w; col++) {
        for (size_t i = 0; i < p->c; i++) {
            put(&dx[col * dxs + i], pool_gather(p, row, col, i, dy, dys, index), accumulate);
        }
    }
}

static void ref_avg_pool_back(const struct pool_run *p, size_t row, const real *dy, size_t dys,
                              real *dx, size_t dxs, int accumulate)
{
    for (size_t col = 0; col < p->w; col++) {
        for (size_t i = 0; i < p->c; i++) {
            put(&dx[col * dxs + i], pool_gather(p, row, col, i, dy, dys, NULL), accumulate);
        }
    }
}

static void ref_mean(size_t n_pixels, size_t c, const real *x, size_t xs, real *y)
{
    for (size_t i = 0; i < c; i++) {
        double sum = 0;
        for (size_t p = 0; p < n_pixels; p++) {
            sum += (double)x[p * xs + i];
        }
        y[i] = (real)(sum / (double)n_pixels);
    }
}

static void ref_spread(size_t n_pixels, size_t c, const real *dy, real scale, real *dx, size_t dxs,
                       int accumulate)
{
    for (size_t p = 0; p < n_pixels; p++) {
        for (size_t i = 0; i < c; i++) {
            put(&dx[p * dxs + i], scale * dy[i], accumulate);
        }
    }
}

void loop_kernels_fill_ref(struct loop_kernels *k)
{
    *k = (struct loop_kernels){
        .copy = ref_copy,
        .add = ref_add,
        .relu = ref_relu,
        .relu_signs = ref_relu_signs,
        .relu_back_signs = ref_relu_back_signs,
        .relu_back_output = ref_relu_back_output,
        .dropout = ref_dropout,
        .sgd = ref_sgd,
        .bn_moments = ref_bn_moments,
        .bn_apply = ref_bn_apply,
        .bn_reduce = ref_bn_reduce,
        .bn_backward = ref_bn_backward,
        .max_pool = ref_max_pool,
        .avg_pool = ref_avg_pool,
        .max_pool_back = ref_max_pool_back,
        .avg_pool_back = ref_avg_pool_back,
        .mean = ref_mean,
        .spread = ref_spread,
    };
}
