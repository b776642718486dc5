/* What acgc remembers of the gradients, and what error they allow. */
#include <math.h>

#include "base/mem.h"
#include "store/acgc_priv.h"

void acgc_map_free(struct acgc_map *m)
{
    if (m != NULL) {
        mem_free(m->max);
        mem_free(m->bn);
        mem_free(m->bits);
        mem_free(m);
    }
}

struct acgc_map *acgc_map_new(uint32_t id, const struct shape *shape, unsigned uses)
{
    struct acgc_map *m = mem_alloc(MEM_OTHER, sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    m->saved.id = id;
    m->saved.c = (uint32_t)shape->c;
    m->n_pixels = shape->h * shape->w;
    m->max = mem_calloc(MEM_OTHER, shape->c, sizeof(*m->max));
    m->bits = mem_alloc(MEM_OTHER, shape->c);
    if (uses & STORE_USE_BN) {
        m->bn = mem_calloc(MEM_OTHER, ACGC_N_SAMPLES * ACGC_N_ROWS * shape->c, sizeof(*m->bn));
    }
    if (m->max == NULL || m->bits == NULL || ((uses & STORE_USE_BN) && m->bn == NULL)) {
        acgc_map_free(m);
        return NULL;
    }
    return m;
}

/* --- the error that is allowed ---------------------------------------------------------------- */

static double mean(const double *ring, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += ring[i];
    }
    return sum / n;
}

static double bn_mean(const struct acgc_map *m, int row, size_t ch)
{
    double sum = 0;
    for (uint32_t i = 0; i < m->saved.bn.n; i++) {
        sum += (double)m->bn[(i * ACGC_N_ROWS + (size_t)row) * m->saved.c + ch];
    }
    return sum / m->saved.bn.n;
}

/* Allowed squared error of a value of channel ch; INFINITY where nothing has been observed. */
double acgc_map_error2(const struct acgc_map *m, double budget, size_t n, size_t ch, double max)
{
    const struct acgc_saved *s = &m->saved;
    const double values = (double)(n * m->n_pixels); /* of a channel */
    double dx2 = (double)INFINITY;
    if (s->conv.n > 0) {
        const double dw = fmax(mean(s->conv_dw, s->conv.n), 1e-16);
        const double dy = fmax(mean(s->conv_dy, s->conv.n), 1e-16);
        dx2 = budget * dw / (2 * values * (double)s->c * dy);
    }
    if (s->bn.n > 0) {
        const double invstd2 = bn_mean(m, ACGC_INVSTD2, ch), half = max / 2;
        const double extra = invstd2 * bn_mean(m, ACGC_N_DY2, ch) * bn_mean(m, ACGC_MAX_DY2, ch) *
                             half * half;
        const double divisor = (double)s->c * bn_mean(m, ACGC_GAMMA2, ch) * invstd2 * invstd2 *
                               (bn_mean(m, ACGC_DGAMMA2, ch) + extra);
        const double bn_dx2 = budget * mean(s->bn_dx, s->bn.n) * values / divisor;
        dx2 = fmin(dx2, fmax(bn_dx2, 0x1p-16)); /* 0/0: no gradient, the floor */
    }
    return dx2;
}

static void ring_step(struct acgc_ring *r)
{
    if (r->touched) {
        r->n += r->n < ACGC_N_SAMPLES;
        r->at = (r->at + 1) % ACGC_N_SAMPLES;
        r->touched = 0;
    }
}

/* --- gradients -------------------------------------------------------------------------------- */

static double sum_squares(const real *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

/* Pixel by pixel, in their order. */
static double tensor_squares(const struct tensor *t)
{
    double sum = 0;
    for (size_t p = 0; p < shape_pixels(&t->shape); p++) {
        sum += sum_squares(t->data + p * t->pixel_stride, t->shape.c);
    }
    return sum;
}

/* Several convolutions may read the map: sums over them. */
static void observe_conv(struct acgc_saved *m, const struct store_gradient *g)
{
    struct acgc_ring *r = &m->conv;
    if (!r->touched) {
        m->conv_dw[r->at] = m->conv_dy[r->at] = 0;
        r->touched = 1;
    }
    const double area = (double)(g->r * g->s) / (double)(g->stride * g->stride);
    m->conv_dw[r->at] += sum_squares(g->dw, g->n_dw);
    m->conv_dy[r->at] += area * tensor_squares(g->dy);
}

static void observe_bn_sums(struct acgc_map *m, const struct store_gradient *g)
{
    const size_t c = m->saved.c;
    float *row = m->bn + m->saved.bn.at * ACGC_N_ROWS * c;
    for (size_t ch = 0; ch < c; ch++) {
        double invstd2 = 0;
        for (size_t i = 0; i < g->n_groups; i++) {
            const double invstd = (double)g->invstd[i * c + ch];
            invstd2 += invstd * invstd / (double)g->n_groups;
        }
        row[ACGC_INVSTD2 * c + ch] = (float)invstd2;
        row[ACGC_GAMMA2 * c + ch] = (float)(g->gamma[ch] * g->gamma[ch]);
        row[ACGC_DGAMMA2 * c + ch] = (float)(g->dgamma[ch] * g->dgamma[ch]);
        row[ACGC_N_DY2 * c + ch] = row[ACGC_MAX_DY2 * c + ch] = 0;
    }
    float *count = row + ACGC_N_DY2 * c, *max = row + ACGC_MAX_DY2 * c;
    for (size_t p = 0; p < shape_pixels(&g->dy->shape); p++) {
        const real *dy = g->dy->data + p * g->dy->pixel_stride;
        for (size_t ch = 0; ch < c; ch++) {
            const float dy2 = (float)(dy[ch] * dy[ch]);
            count[ch] += dy[ch] > 0 || dy[ch] < 0 ? 1.0f : 0.0f; /* exact up to 2^24 */
            max[ch] = dy2 > max[ch] ? dy2 : max[ch];
        }
    }
    for (size_t ch = 0; ch < c; ch++) {
        count[ch] *= count[ch];
    }
}

void acgc_map_observe(struct acgc_map *m, const struct store_gradient *g)
{
    if (g->use == STORE_USE_CONV) {
        observe_conv(&m->saved, g);
    } else if (m->bn != NULL && g->dx == NULL) {
        observe_bn_sums(m, g);
    } else if (m->bn != NULL) {
        m->saved.bn_dx[m->saved.bn.at] = tensor_squares(g->dx);
        m->saved.bn.touched = 1;
    }
}

void acgc_map_next(struct acgc_map *m)
{
    ring_step(&m->saved.conv);
    ring_step(&m->saved.bn);
}
