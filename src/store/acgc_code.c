#include "store/acgc_priv.h"

#include <assert.h>
#include <string.h>

#include "base/tasks.h"
#include "base/threads.h"

#define GUARD 1e-6f /* the published code's, against a division by 0 */

/* Octets of one piece of work; below MIN_PARALLEL values threads cost more than they save. */
#define UNIT_OCTETS 64
#define UNIT_PIXELS ((size_t)UNIT_OCTETS * CODEC_PLANES_PIXELS)
#define MIN_PARALLEL 32768

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t round_64(size_t bytes)
{
    return ceil_div(bytes, 64) * 64;
}

size_t acgc_header_bytes(size_t c)
{
    return round_64(5 * c + 1);
}

static size_t n_octets(const struct shape *shape)
{
    return ceil_div(shape_pixels(shape), CODEC_PLANES_PIXELS);
}

size_t acgc_code_bytes(const struct shape *shape, size_t sum_bits)
{
    return acgc_header_bytes(shape->c) + n_octets(shape) * sum_bits;
}

/* For each thread the extremes; for all, what a value is multiplied with, and the largest code. */
static size_t thread_bytes(size_t c)
{
    return round_64(2 * c * sizeof(uint32_t));
}

size_t acgc_workspace_bytes(size_t c, int n_threads)
{
    return (size_t)n_threads * thread_bytes(c) + round_64(2 * c * sizeof(float));
}

/* --- measuring -------------------------------------------------------------------------------- */

#define INFINITY_BITS 0x7F800000u
#define NAN_BITS 0x7FC00000u /* one for all, whatever was met first */

static uint32_t *extremes_of(void *workspace, size_t c, size_t thread)
{
    return (uint32_t *)(void *)((char *)workspace + thread * thread_bytes(c));
}

int acgc_measure(const struct kernels *k, const struct tensor *x, float *max, void *workspace,
                 int n_threads)
{
    const size_t c = x->shape.c, pixels = shape_pixels(&x->shape);
    for (int t = 0; t < n_threads; t++) {
        memset(extremes_of(workspace, c, (size_t)t), 0, 2 * c * sizeof(uint32_t));
    }
    struct tasks tasks;
    tasks_share(&tasks, ceil_div(pixels, UNIT_PIXELS), pixels * c > MIN_PARALLEL ? n_threads : 1);
#pragma omp parallel num_threads(n_threads) if (tasks.n_rows > 1)
    for (size_t unit; tasks_next(&tasks, &unit);) {
        uint32_t *size = extremes_of(workspace, c, thread_index());
        const size_t p = unit * UNIT_PIXELS;
        k->codec.measure_planes(x->data + p * x->pixel_stride, x->pixel_stride,
                                min_size(pixels - p, UNIT_PIXELS), c, size, size + c);
    }
    uint32_t any_negative = 0;
    for (size_t ch = 0; ch < c; ch++) { /* the same in any order */
        uint32_t largest = 0;
        for (int t = 0; t < n_threads; t++) {
            const uint32_t *size = extremes_of(workspace, c, (size_t)t);
            largest = size[ch] > largest ? size[ch] : largest;
            any_negative |= size[c + ch];
        }
        largest = largest >= INFINITY_BITS ? NAN_BITS : largest;
        memcpy(max + ch, &largest, sizeof(largest));
    }
    return any_negative != 0;
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

void acgc_write(const struct kernels *k, const struct tensor *x, const float *max,
                const uint8_t *bits, int is_signed, unsigned char *slot, void *workspace,
                int n_threads)
{
    const size_t c = x->shape.c, header = acgc_header_bytes(c);
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
    const struct codec_planes planes = {.c = c,
                                        .row_bytes = sum_bits(bits, c),
                                        .bits = bits,
                                        .scale = scale,
                                        .top = top,
                                        .is_signed = is_signed};
    const size_t pixels = shape_pixels(&x->shape);
    struct tasks tasks;
    tasks_share(&tasks, ceil_div(pixels, UNIT_PIXELS), pixels * c > MIN_PARALLEL ? n_threads : 1);
#pragma omp parallel num_threads(n_threads) if (tasks.n_rows > 1)
    for (size_t unit; tasks_next(&tasks, &unit);) {
        const size_t p = unit * UNIT_PIXELS;
        k->codec.encode_planes(&planes, x->data + p * x->pixel_stride, x->pixel_stride,
                               min_size(pixels - p, UNIT_PIXELS),
                               slot + header + unit * UNIT_OCTETS * planes.row_bytes);
    }
}

void acgc_read(const struct kernels *k, const struct shape *shape, const unsigned char *slot,
               const struct codec_block *block, struct tensor *out, int n_threads)
{
    const size_t c = shape->c, sample = shape->h * shape->w, n = block->n1 - block->n0;
    const struct codec_planes planes = {.c = c,
                                        .row_bytes = sum_bits(slot + 4 * c, c),
                                        .bits = slot + 4 * c,
                                        .steps = slot,
                                        .is_signed = slot[5 * c]};
    /* Runs of consecutive pixels: the rows of a sample, or whole samples one behind the other. */
    const size_t rows = (block->h1 - block->h0) * shape->w;
    const size_t n_runs = rows == sample ? 1 : n, run = rows == sample ? n * sample : rows;
    const size_t n_parts = ceil_div(run, UNIT_PIXELS);
    struct tasks tasks;
    tasks_share(&tasks, n_runs * n_parts, n * rows * c > MIN_PARALLEL ? n_threads : 1);
#pragma omp parallel num_threads(n_threads) if (tasks.n_rows > 1)
    for (size_t i; tasks_next(&tasks, &i);) {
        const size_t at = i % n_parts * UNIT_PIXELS; /* in the run */
        const size_t p = (block->n0 + i / n_parts) * sample + block->h0 * shape->w + at;
        k->codec.decode_planes(
            &planes, slot + acgc_header_bytes(c), p, p + min_size(run - at, UNIT_PIXELS), block->c0,
            block->c1, out->data + (i / n_parts * run + at) * out->pixel_stride, out->pixel_stride);
    }
}
