#include "store/acgc_priv.h"

#include <assert.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "store/code_planes_priv.h"

#define GUARD 1e-6f /* the published code's, against a division by 0 */

/* Octets of one piece of work; below MIN_PARALLEL values threads cost more than they save. */
#define UNIT_OCTETS 64
#define MIN_PARALLEL 32768

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t round_64(size_t bytes)
{
    return ceil_div(bytes, 64) * 64;
}

static size_t thread_index(void)
{
#ifdef _OPENMP
    return (size_t)omp_get_thread_num();
#else
    return 0;
#endif
}

size_t acgc_header_bytes(size_t c)
{
    return round_64(5 * c + 1);
}

static size_t n_octets(const struct shape *shape)
{
    return ceil_div(shape_pixels(shape), CODE_PLANES_PIXELS);
}

size_t acgc_code_bytes(const struct shape *shape, size_t sum_bits)
{
    return acgc_header_bytes(shape->c) + n_octets(shape) * sum_bits;
}

/* For each thread the extremes, then an octet of codes; for all, what a value is multiplied with,
 * and the largest code. */
static size_t thread_bytes(size_t c)
{
    return round_64(3 * c * sizeof(float)) + round_64(CODE_PLANES_PIXELS * c * sizeof(uint16_t));
}

size_t acgc_workspace_bytes(size_t c, int n_threads)
{
    return (size_t)n_threads * thread_bytes(c) + round_64(2 * c * sizeof(float));
}

/* --- measuring -------------------------------------------------------------------------------- */

struct extremes {
    float *max, *low, *damage; /* [c]; damage: NaN where one value is not finite */
};

static struct extremes extremes_of(void *workspace, size_t c, size_t thread)
{
    float *p = (float *)(void *)((char *)workspace + thread * thread_bytes(c));
    return (struct extremes){p, p + c, p + 2 * c};
}

static void extremes_add(const struct extremes *e, const real *x, size_t c)
{
    for (size_t ch = 0; ch < c; ch++) {
        const float v = (float)x[ch], size = v < 0.0f ? -v : v;
        e->max[ch] = size > e->max[ch] ? size : e->max[ch];
        e->low[ch] = v < e->low[ch] ? v : e->low[ch];
        e->damage[ch] += v * 0.0f;
    }
}

int acgc_measure(const struct tensor *x, float *max, void *workspace, int n_threads)
{
    const size_t c = x->shape.c, pixels = shape_pixels(&x->shape);
    for (int t = 0; t < n_threads; t++) {
        memset(extremes_of(workspace, c, (size_t)t).max, 0, 3 * c * sizeof(float));
    }
#pragma omp parallel for num_threads(n_threads) schedule(static) if (pixels * c > MIN_PARALLEL)
    for (size_t p = 0; p < pixels; p++) {
        const struct extremes e = extremes_of(workspace, c, thread_index());
        extremes_add(&e, x->data + p * x->pixel_stride, c);
    }
    int is_signed = 0;
    memset(max, 0, c * sizeof(*max));
    for (int t = 0; t < n_threads; t++) { /* largest and least: the same in any order */
        const struct extremes e = extremes_of(workspace, c, (size_t)t);
        for (size_t ch = 0; ch < c; ch++) {
            max[ch] = max[ch] > e.max[ch] ? max[ch] : e.max[ch];
            is_signed |= e.low[ch] < 0.0f;
        }
    }
    for (int t = 0; t < n_threads; t++) { /* at last, since a comparison may lose a NaN */
        const struct extremes e = extremes_of(workspace, c, (size_t)t);
        for (size_t ch = 0; ch < c; ch++) {
            max[ch] += e.damage[ch];
        }
    }
    return is_signed;
}

/* --- codes ------------------------------------------------------------------------------------ */

static float power_of_2(int exponent)
{
    return exponent >= 0 ? (float)(1u << exponent) : 1.0f / (float)(1u << -exponent);
}

static size_t sum_bits(const uint8_t *bits, size_t c)
{
    size_t sum = 0;
    for (size_t ch = 0; ch < c; ch++) {
        sum += bits[ch];
    }
    return sum;
}

/* Nearest integer, ties to even, of -2^21 .. 2^21. */
static int32_t nearest(float x)
{
    const float shifted = x + 12582912.0f; /* 1.5 * 2^23: no bits below 1 */
    int32_t bits;
    memcpy(&bits, &shifted, sizeof(bits));
    return bits - 0x4B400000;
}

struct write_job {
    const struct tensor *x;
    const float *scale, *top; /* [c] */
    const uint8_t *bits;
    unsigned char *codes;
    size_t row_bytes;
    int is_signed;
};

/* Codes of the octet; those of signed values are counted from the lowest, so none is negative. */
static void write_octet(const struct write_job *job, size_t octet, uint16_t *codes)
{
    const size_t c = job->x->shape.c, pixels = shape_pixels(&job->x->shape);
    for (size_t i = 0; i < CODE_PLANES_PIXELS; i++) {
        const size_t p = octet * CODE_PLANES_PIXELS + i;
        if (p >= pixels) {
            memset(codes + i * c, 0, c * sizeof(*codes));
            continue;
        }
        const real *x = job->x->data + p * job->x->pixel_stride;
        for (size_t ch = 0; ch < c; ch++) {
            const float top = job->top[ch], low = job->is_signed ? -top - 1.0f : 0.0f;
            float t = (float)x[ch] * job->scale[ch];
            t = t < top ? t : top; /* NaN too */
            t = t > low ? t : low;
            codes[i * c + ch] = (uint16_t)(nearest(t) - (int32_t)low);
        }
    }
    code_planes_pack(codes, c, job->bits, job->codes + octet * job->row_bytes);
}

void acgc_write(const struct tensor *x, const float *max, const uint8_t *bits, int is_signed,
                unsigned char *slot, void *workspace, int n_threads)
{
    const size_t c = x->shape.c, n = n_octets(&x->shape), header = acgc_header_bytes(c);
    float *scale = (float *)(void *)((char *)workspace + (size_t)n_threads * thread_bytes(c));
    float *top = scale + c;
    memset(slot, 0, header);
    for (size_t ch = 0; ch < c; ch++) {
        const int fraction = (int)bits[ch] - (is_signed ? 1 : 0);
        const float step = (max[ch] + GUARD) / power_of_2(fraction);
        scale[ch] = 1.0f / step;
        top[ch] = power_of_2(fraction) - 1.0f;
        memcpy(slot + 4 * ch, &step, sizeof(step));
        slot[4 * c + ch] = bits[ch];
    }
    slot[5 * c] = (unsigned char)is_signed;
    const struct write_job job = {.x = x,
                                  .scale = scale,
                                  .top = top,
                                  .bits = bits,
                                  .codes = slot + header,
                                  .row_bytes = sum_bits(bits, c),
                                  .is_signed = is_signed};
#pragma omp parallel for num_threads(n_threads) \
    schedule(static) if (n * CODE_PLANES_PIXELS * c > MIN_PARALLEL)
    for (size_t unit = 0; unit < ceil_div(n, UNIT_OCTETS); unit++) {
        char *own = (char *)workspace + thread_index() * thread_bytes(c);
        uint16_t *codes = (uint16_t *)(void *)(own + round_64(3 * c * sizeof(float)));
        for (size_t o = unit * UNIT_OCTETS; o < (unit + 1) * UNIT_OCTETS && o < n; o++) {
            write_octet(&job, o, codes);
        }
    }
}

/* Pixels first..end-1 of one row of the block, to out. */
static void read_pixels(const unsigned char *slot, size_t c, size_t row_bytes, size_t first,
                        size_t end, const struct codec_block *block, real *out, size_t stride)
{
    const uint8_t *bits = slot + 4 * c;
    const int is_signed = slot[5 * c];
    for (size_t p = first; p < end;) {
        const size_t octet = p / CODE_PLANES_PIXELS, from = p % CODE_PLANES_PIXELS;
        const size_t n = end - p < CODE_PLANES_PIXELS - from ? end - p : CODE_PLANES_PIXELS - from;
        const unsigned char *at = slot + acgc_header_bytes(c) + octet * row_bytes +
                                  sum_bits(bits, block->c0);
        for (size_t ch = block->c0; ch < block->c1; ch++) {
            uint16_t codes[CODE_PLANES_PIXELS];
            float step;
            memcpy(&step, slot + 4 * ch, sizeof(step));
            code_planes_unpack(at, bits[ch], codes);
            const int32_t low = is_signed ? -(1 << (bits[ch] - 1)) : 0;
            for (size_t i = 0; i < n; i++) {
                out[i * stride + (ch - block->c0)] = (real)((float)(codes[from + i] + low) * step);
            }
            at += bits[ch];
        }
        out += n * stride;
        p += n;
    }
}

void acgc_read(const struct shape *shape, const unsigned char *slot,
               const struct codec_block *block, struct tensor *out, int n_threads)
{
    const size_t rows = block->h1 - block->h0, w = shape->w, c = shape->c;
    const size_t row_bytes = sum_bits(slot + 4 * c, c);
    /* Whole octets at a time where whole samples are wanted. */
    const int is_whole = rows == shape->h;
    const size_t unit = is_whole ? UNIT_OCTETS * CODE_PLANES_PIXELS : w;
    const size_t pixels = (block->n1 - block->n0) * rows * w;
#pragma omp parallel for num_threads(n_threads) schedule(static) if (pixels * c > MIN_PARALLEL)
    for (size_t u = 0; u < ceil_div(pixels, unit); u++) {
        const size_t first = u * unit, n = pixels - first < unit ? pixels - first : unit;
        const size_t at = is_whole ? block->n0 * rows * w + first
                                   : ((block->n0 + u / rows) * shape->h + block->h0 + u % rows) * w;
        read_pixels(slot, c, row_bytes, at, at + n, block, out->data + first * out->pixel_stride,
                    out->pixel_stride);
    }
}
