/* The codec: activation maps to few bits and back, after DIVISION (Wang et al., arXiv 2208.04187).
 *
 * CODEC_MAP: one range per (sample, channel) map of h x w pixels.
 *   L    block means: blocks of `block` x `block` pixels from the top left corner; partial blocks
 *        at the right and bottom edge average their own pixels; stored bf16 (round to nearest
 *        even). block = 0: no means (plain fixed-point quantisation), L = 0.
 *   r    = x - L (float), quantised to `bits` bits against the *stored* bf16 minimum m and step s:
 *        m = bf16 rounded towards -infinity of min r; s = bf16, rounded up until
 *        fl(m + (2^bits - 1) * s) >= max r, and at least 2^-110.
 *   t    = (r - m)/s in units of 1/65536, rounded to nearest; code = floor((t + k) / 65536) with 16
 *        random bits k. That is floor((r - m)/s + u) with u = (k + 1/2)/65536, without a rounding
 *        of the sum, so E[decoded] = x up to a bias of 2^-17 step. Nearest: k = 32768 (u = 1/2).
 *   x'   = L + (m + code * s).
 *   A flat map (max r = min r = v) decodes exactly: the upper 16 bits of the float v stand in m,
 *        the next 15 in s, whose sign bit marks the map as flat, and every code is v's lowest bit.
 *   keep = LOW stores L alone (bits are ignored, x' = L); keep = HIGH quantises r against L but
 *        stores and decodes the codes alone (x' = m + code * s).
 * CODEC_GROUP: the same quantiser without means on runs of `group` consecutive values of one sample
 *   in memory order (h, w, c); the last run may be shorter. `group` is a multiple of CODEC_TILE.
 * CODEC_OFFICIAL: the arithmetic of the paper's published code, step by step:
 *   side k = min(block, h), from h alone; L = means of the h/k x w/k whole blocks, stored bf16;
 *   what lies behind them is in none. U = L enlarged: pixel (i, j) takes row floor(i * rows / h),
 *   column floor(j * columns / w), aligned with the blocks only where k divides h and w.
 *   r = x - U; m = min r, scale = (2^bits - 1) / (max r - m + 2e-6), float32.
 *   code = round_half_even(max((r - m) * scale + u - 1/2, 0)), at most 2^bits - 1 (the published
 *   code has no such limit); u = (k + 1)/65536, nearest: u = 1/2.
 *   Stored are m and scale in bf16. x' = U + (code / scale + m).
 *   h = 1 is kept raw, and so is w < k.
 * CODEC_BINS: bins of fixed width over what a batch-norm makes of the map (Chakrabarti and Moseley,
 *   NeurIPS 2019, as published; paper's baseline BLPA). With v = |gamma| (at least 1e-8) and g its
 *   sign, u = g * (x - mean) * invstd + b is the batch-norm's output divided by v, b = beta / v. The
 *   2^bits bins are w = 6 / 2^bits wide and lie so that 0 is an edge:
 *   shift = max(1, 2^bits / 2 - floor(b / w)), code = ceil(u / w) - 1 + shift, at most 2^bits - 1 and
 *   at least 0; u' = (code - shift + 1/2) * w, the bin's centre; x' = mean + g * (u' - b) / invstd.
 *   So the normalised value is right to w/2 from about -3 to 3, ends at the outer bins' centres, and
 *   code >= shift says where the batch-norm's output is positive. Ours, the published code knows
 *   positive scales only: g; and b is limited to -3 .. 3, or the bins would miss the values of a
 *   channel with a small gamma and a large beta. With |b| > 3 values beyond 3 deviations that change
 *   their sign are on the wrong side. No random bits, no ranges: codes alone are kept.
 * CODEC_SIDES: CODEC_MAP with keep = BOTH for the input of a batch-norm of whose output it is known,
 *   when the map is decoded, where it is positive (the ReLU behind it keeps these bits anyway; ours).
 *   They tell on which side of t = mean - beta / (gamma * invstd) a value lies, so that a code need
 *   only say how far from t, in steps that are shorter the nearer t is to the block's mean:
 *   d  = t - L, but not below m, nor above e = m + (2^bits - 1) * s
 *   r > d: the code is that of r - d in steps of (e - d) / (2^bits - 1); x' = L + (d + code * step)
 *   else   that of d - r in steps of (d - m) / (2^bits - 1);             x' = L + (d - code * step)
 *   Bytes, random bits and flat maps as for CODEC_MAP. The code of a value at t is 0 on either side,
 *   so it matters nothing for which rounding takes it. invstd * gamma = 0: beta > 0 says the side.
 * A tensor whose code would take at least as many bytes as its values in float32 (h*w = 1, say) is
 * kept raw: decided from the shape alone.
 *
 * Values must be finite, in bfloat16 too (below 3.39e38). A map (run) with NaN or infinity in it,
 * or whose range overflows, decodes to NaN, never to undefined behaviour: the loss then shows it.
 * (keep = LOW: the block with it does not decode to finite values.)
 *
 * Codes, means, minima and steps are the same bits on every ISA, decoded values too. The format is
 * that of float32: the double build rounds values to float first. Samples are independent units.
 *
 * Bytes of one sample, little-endian, sections without gaps and without alignment:
 *   means   bf16 [block row][block column][channel]
 *   ranges  bf16 minimum [channel], bf16 step [channel] (official: m and scale)
 *   codes   byte [ceil(h*w / per)][channel], per = 8 / bits pixels in h*w order share a byte, the
 *           first in the low bits; codes of missing pixels are 0
 * so that every loop runs one SIMD lane per channel with unit stride. CODEC_GROUP: ranges per run,
 * [minimum per run][step per run]; codes per tile of 128 values, which are laid out as 8 pixels of
 * 16 channels.
 *
 * Random bits: a Philox block has 16 numbers of 16 bits: number i is the lower half of word i / 4
 * after rotating it right by 8 * (i % 4) bits. Pixel p (in h*w order) of channel ch in sample n takes
 * number p % 16 of block (n * ceil(h*w / 16) + p / 16) * c + ch. CODEC_GROUP: value e of the sample,
 * in memory order, takes number (e % 256) / 16 of block (n * ceil(h*w*c / 256) + e / 256) * 16 +
 * e % 16. Each number is uniform. Neighbours share a byte, the upper one of the first and the lower
 * one of the next; it decides about both roundings only where the next one's upper byte leaves it
 * open, once in 256 times: covariance at most 2^-10 step^2, where a rounding's variance goes to 1/4. */
#ifndef KERNELS_CODEC_H
#define KERNELS_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/real.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "tensor/tensor.h"

enum codec_kind { CODEC_MAP, CODEC_GROUP, CODEC_OFFICIAL, CODEC_BINS, CODEC_SIDES };
enum codec_keep { CODEC_KEEP_BOTH, CODEC_KEEP_LOW, CODEC_KEEP_HIGH };

/* The batch-norm that reads a map. */
struct codec_norm {
    const real *mean, *invstd; /* [groups][c] */
    const real *gamma, *beta;  /* [c] */
    size_t group;              /* samples of a group */
    const uint8_t *signs;      /* where its output is positive, as relu_forward writes it, of the
                                  whole tensor; CODEC_SIDES, decoding */
};

struct codec_spec {
    enum codec_kind kind;
    enum codec_keep keep;
    unsigned bits;                 /* 1, 2, 4 or 8 */
    size_t block;                  /* CODEC_MAP, CODEC_SIDES: 0 or 1..64; CODEC_OFFICIAL: 1..64 */
    size_t group;                  /* CODEC_GROUP: values per run, a multiple of CODEC_TILE */
    int stochastic;                /* else nearest */
    const struct codec_norm *norm; /* CODEC_BINS, CODEC_SIDES; the sizes do not depend on it */
};

/* Where the bytes go. Sum = codec_bytes. */
struct codec_bytes {
    size_t means, codes, ranges /* minima and steps */, raw;
};

/* Bytes for all samples of a tensor of this shape. Sample i's part begins at i * (total / n). */
size_t codec_bytes(const struct codec_spec *spec, const struct shape *shape,
                   struct codec_bytes *parts /* may be NULL */);

/* Scratch for n_threads threads. */
size_t codec_workspace_bytes(const struct codec_spec *spec, const struct shape *shape,
                             int n_threads);

/* Encodes x into dst [codec_bytes] with a workspace for as many threads. Returns the bytes written.
 * The random bits of (sample n, pixel p, channel c) depend on rng and that index alone. */
size_t codec_encode(const struct kernels *k, const struct codec_spec *spec, const struct tensor *x,
                    const struct rng *rng, void *dst, void *workspace, int n_threads);

/* The same for samples `first` .. of a larger tensor alone, which x holds: dst is the whole
 * tensor's. By the calling thread, with a workspace for one. */
void codec_encode_samples(const struct kernels *k, const struct codec_spec *spec,
                          const struct tensor *x, size_t first, const struct rng *rng, void *dst,
                          void *workspace);

/* One sample alone (x's only one), whose code begins at dst; its random bits are those of sample
 * `sample` of a larger tensor. For codes whose samples differ in size. Returns the bytes written. */
size_t codec_encode_one(const struct kernels *k, const struct codec_spec *spec,
                        const struct tensor *x, size_t sample, const struct rng *rng, void *dst,
                        void *workspace, int n_threads);

/* A part of a map: samples n0..n1-1, rows h0..h1-1, channels c0..c1-1 (all columns). */
struct codec_block {
    size_t n0, n1, h0, h1, c0, c1;
};

/* Decodes that part into out, whose shape is (n1-n0, h1-h0, w, c1-c0). `shape` is the whole
 * tensor's. Same values whether decoded whole or in parts. */
void codec_decode(const struct kernels *k, const struct codec_spec *spec, const struct shape *shape,
                  const void *src, const struct codec_block *block, struct tensor *out,
                  int n_threads);

#endif
