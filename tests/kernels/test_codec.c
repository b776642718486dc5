/* The codec: every ISA of this processor against the reference bit for bit, over shapes and
 * settings; blocks against whole maps; values at the edges; bytes; bias. */
#include "codec_fixture.h"

static const unsigned bit_widths[] = {1, 2, 4, 8};
#define N_WIDTHS 4

/* All settings worth trying; returns their number. */
static size_t make_specs(struct codec_spec *specs)
{
    static const size_t blocks[] = {0, 1, 3, 8, 64};
    size_t n = 0;
    for (int i = 0; i < N_WIDTHS; i++) {
        const struct codec_spec map = {.kind = CODEC_MAP, .bits = bit_widths[i], .stochastic = 1};
        for (size_t b = 0; b < 5; b++) {
            specs[n] = map;
            specs[n++].block = blocks[b];
        }
        specs[n] = map;
        specs[n].block = 8;
        specs[n++].stochastic = 0;
        specs[n] = map;
        specs[n].block = 8;
        specs[n++].keep = CODEC_KEEP_HIGH;
        specs[n] = map;
        specs[n].kind = CODEC_GROUP;
        specs[n++].group = 128;
        specs[n] = map;
        specs[n].kind = CODEC_GROUP;
        specs[n++].group = 256;
    }
    specs[n++] = (struct codec_spec){
        .kind = CODEC_MAP, .bits = 2, .block = 3, .keep = CODEC_KEEP_LOW};
    return n;
}
#define MAX_SPECS 64

static void check_equal(const char *isa, const struct codec_spec *spec,
                        const struct guarded_bytes *want_code, const struct tensor *want,
                        const struct guarded_bytes *code, const struct tensor *out)
{
    const struct shape *s = &want->shape;
    ck_assert_uint_eq(want_code->n, code->n);
    for (size_t i = 0; i < code->n; i++) {
        EXPECT(want_code->p[i] == code->p[i],
               "%s: byte %zu of %zu is %02x, ref has %02x (h %zu w %zu c %zu, kind %d keep %d bits "
               "%u block %zu group %zu)",
               isa, i, code->n, code->p[i], want_code->p[i], s->h, s->w, s->c, spec->kind,
               spec->keep, spec->bits, spec->block, spec->group);
    }
    for (size_t p = 0; p < shape_pixels(s); p++) {
        for (size_t ch = 0; ch < s->c; ch++) {
            const real a = pixel_at(want, p)[ch], b = pixel_at(out, p)[ch];
            EXPECT(same_value(a, b), "%s: pixel %zu channel %zu: %a, ref %a (bits %u)", isa, p, ch,
                   (double)b, (double)a, spec->bits);
        }
    }
}

/* Every setting on every ISA against ref, which is the first. */
static void check_against_ref(const struct kernels *k, size_t n_isas, const struct tensor *x)
{
    const struct rng rng = rng_make(7, RNG_TEST, 3, 5);
    struct codec_spec specs[MAX_SPECS];
    const size_t n_specs = make_specs(specs);
    for (size_t s = 0; s < n_specs; s++) {
        struct guarded_bytes want_values, want_code, values, code;
        struct tensor want = guarded_tensor(x->shape, 2, &want_values);
        round_trip(&k[0], &specs[s], x, &rng, &want, 1, &want_code);
        for (size_t i = 1; i < n_isas; i++) {
            struct tensor out = guarded_tensor(x->shape, 5, &values);
            round_trip(&k[i], &specs[s], x, &rng, &out, 1, &code);
            check_equal(k[i].isa, &specs[s], &want_code, &want, &code, &out);
            check_gaps(&out);
            guarded_bytes_free(&values);
            guarded_bytes_free(&code);
        }
        check_gaps(&want);
        guarded_bytes_free(&want_values);
        guarded_bytes_free(&want_code);
    }
}

static const size_t sides[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 16, 28, 56};
#define N_SIDES ((int)(sizeof(sides) / sizeof(sides[0])))

START_TEST(every_isa_equals_ref)
{
    static const size_t channels[] = {1, 3, 5, 16, 17, 64, 65};
    const size_t side = sides[_i];
    struct kernels k[MAX_ISAS];
    const size_t n_isas = kernels_all(k);
    for (size_t i = 0; i < sizeof(channels) / sizeof(channels[0]); i++) {
        if (side > 9 && channels[i] != 3 && channels[i] != 17) {
            continue; /* the reference is slow, and large maps differ from small ones in little */
        }
        const struct shape shapes[] = {{1, side, side, channels[i]},
                                       {2, sides[(_i + 4) % 9], side, channels[i]}};
        for (size_t s = 0; s < 2; s++) {
            struct guarded_bytes values;
            const struct tensor x = guarded_tensor(shapes[s], s == 0 ? 0 : 3, &values);
            fill_map(&x, side * 100 + s);
            check_against_ref(k, n_isas, &x);
            guarded_bytes_free(&values);
        }
    }
}
END_TEST

/* One kind of trouble per channel, in a tensor of 9 x 10 pixels. */
static void fill_trouble(const struct tensor *x)
{
    fill_map(x, 77);
    const size_t n = shape_pixels(&x->shape);
    for (size_t p = 0; p < n; p++) {
        real *v = pixel_at(x, p);
        const double t = (double)p / (double)n - 0.5;
        v[2] = (real)(t * 1e-40);              /* denormal */
        v[3] = (real)(t * 1.5 * 3.4028234e38); /* up to 3/4 of the largest: range overflows */
        v[4] = (real)(p == 40 ? -0.0f : 0.0f);
        v[5] = (real)(1.0 + t * 1e-7); /* a range of a few units of the last place */
        v[7] = (real)(p % 2 ? 3.4028234e38f : -3.4028234e38f);
        v[8] = (real)(3.3e38f * (p == 3 ? 0.5f : 1.0f)); /* sums overflow, the range does not */
        v[9] = (real)-1.4e-45f;
        v[10] = (real)(p == 1 ? 1e-38f : 0.0f);
        v[11] = (real)(t * 1e-20);
    }
    pixel_at(x, 13)[0] = (real)NAN;
    pixel_at(x, n - 1)[1] = (real)INFINITY;
    pixel_at(x, 0)[12] = (real)-INFINITY;
    pixel_at(x, 0)[14] = (real)INFINITY;
    pixel_at(x, 1)[14] = (real)-INFINITY;
}

START_TEST(trouble_is_equal_on_every_isa)
{
    struct kernels k[MAX_ISAS];
    const size_t n_isas = kernels_all(k);
    struct guarded_bytes values;
    const struct tensor x = guarded_tensor((struct shape){1, 9, 10, 18}, 1, &values);
    fill_trouble(&x);
    check_against_ref(k, n_isas, &x);
    guarded_bytes_free(&values);
}
END_TEST

/* NaN, infinity and overflow make their own map NaN and no other; the rest stays near. */
START_TEST(trouble_stays_in_its_map)
{
    struct guarded_bytes values, out_values;
    const struct shape shape = {1, 9, 10, 18};
    const struct tensor x = guarded_tensor(shape, 0, &values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    fill_trouble(&x);
    const struct kernels k = kernels_of("auto");
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    for (int block = 0; block <= 8; block += 4) {
        const struct codec_spec spec = {
            .kind = CODEC_MAP, .bits = 2, .block = (size_t)block, .stochastic = 1};
        round_trip(&k, &spec, &x, &rng, &out, 1, NULL);
        for (size_t p = 0; p < shape_pixels(&shape); p++) {
            for (size_t ch = 0; ch < shape.c; ch++) {
                const double v = (double)pixel_at(&x, p)[ch], w = (double)pixel_at(&out, p)[ch];
                switch (ch) {
                case 0:
                case 1:
                case 3:
                case 7:
                case 12:
                case 14:
                    ck_assert_msg(isnan(w), "block %d, channel %zu is %g", block, ch, w);
                    break;
                case 4:
                case 9: ck_assert(v == w); break; /* flat */
                case 2:
                case 10: ck_assert_double_le(fabs(w - v), 0x1p-110); break;
                case 5: ck_assert_double_le(fabs(w - v), 1e-2); break;
                case 8: ck_assert(isfinite(w)); break;
                default: ck_assert_double_le(fabs(w - v), 25.0); break;
                }
            }
        }
    }
    guarded_bytes_free(&values);
    guarded_bytes_free(&out_values);
}
END_TEST

/* Any map of equal values comes back bit for bit, whatever the settings. */
START_TEST(flat_maps_are_exact)
{
    static const float flats[] = {0.0f,   1.0f,      0.1f,       -0.3f,       1e-30f,
                                  -7e8f,  3.3e38f,   -3.3e38f,   1.4e-45f,    1.00390625f,
                                  1e-38f, -2.5e-42f, 1234567.0f, -0.99999994f};
    const size_t c = sizeof(flats) / sizeof(flats[0]);
    struct codec_spec specs[MAX_SPECS];
    const size_t n_specs = make_specs(specs);
    const struct kernels k = kernels_of("auto");
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    const struct shape shape = {1, 11, 13, c};
    struct guarded_bytes values, out_values;
    const struct tensor x = guarded_tensor(shape, 0, &values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    for (size_t p = 0; p < shape_pixels(&shape); p++) {
        for (size_t ch = 0; ch < c; ch++) {
            pixel_at(&x, p)[ch] = (real)flats[ch];
        }
    }
    for (size_t s = 0; s < n_specs; s++) {
        if (specs[s].kind != CODEC_MAP || specs[s].keep != CODEC_KEEP_BOTH) {
            continue;
        }
        round_trip(&k, &specs[s], &x, &rng, &out, 1, NULL);
        for (size_t p = 0; p < shape_pixels(&shape); p++) {
            for (size_t ch = 0; ch < c; ch++) {
                EXPECT(pixel_at(&out, p)[ch] == pixel_at(&x, p)[ch],
                       "%a decodes to %a (bits %u block %zu)", (double)flats[ch],
                       (double)pixel_at(&out, p)[ch], specs[s].bits, specs[s].block);
            }
        }
    }
    guarded_bytes_free(&values);
    guarded_bytes_free(&out_values);
}
END_TEST

/* Parts decode to the same values as the whole, on each ISA, raw tensors included. */
START_TEST(blocks_equal_the_whole)
{
    static const struct codec_block parts[] = {
        {0, 3, 0, 9, 0, 35}, {1, 2, 0, 9, 0, 35}, {0, 3, 4, 5, 0, 35},
        {0, 3, 0, 9, 7, 8},  {1, 3, 3, 8, 2, 31}, {2, 2, 0, 9, 0, 35},
    };
    struct kernels all[MAX_ISAS];
    const size_t n_isas = kernels_all(all);
    struct codec_spec specs[MAX_SPECS];
    size_t n_specs = make_specs(specs);
    specs[n_specs++] = (struct codec_spec){.kind = CODEC_OFFICIAL, .bits = 2, .block = 4};
    for (size_t w = 1; w <= 16; w = w == 1 ? 7 : w == 7 ? 16 : 17) {
        const struct shape shape = {3, 9, w, 35};
        struct guarded_bytes values, out_values;
        const struct tensor x = guarded_tensor(shape, 0, &values);
        struct tensor whole = guarded_tensor(shape, 0, &out_values);
        fill_map(&x, 5);
        const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
        for (size_t s = 0; s < n_specs * n_isas; s++) {
            const struct kernels k = all[s % n_isas];
            const struct codec_spec *spec = &specs[s / n_isas];
            struct guarded_bytes code;
            round_trip(&k, spec, &x, &rng, &whole, 1, &code);
            for (size_t b = 0; b < sizeof(parts) / sizeof(parts[0]); b++) {
                const struct codec_block q = parts[b];
                struct guarded_bytes part_values;
                struct tensor part = guarded_tensor(
                    (struct shape){q.n1 - q.n0, q.h1 - q.h0, w, q.c1 - q.c0}, 3, &part_values);
                codec_decode(&k, spec, &shape, code.p, &q, &part, 2);
                for (size_t e = 0; e < shape_elements(&part.shape); e++) {
                    const size_t ch = e % part.shape.c, p = e / part.shape.c;
                    const size_t n = p / (part.shape.h * w), y = p / w % part.shape.h;
                    const size_t at = ((q.n0 + n) * shape.h + q.h0 + y) * w + p % w;
                    EXPECT(same_value(pixel_at(&part, p)[ch], pixel_at(&whole, at)[q.c0 + ch]),
                           "%s: part %zu differs (kind %d bits %u block %zu)", k.isa, b, spec->kind,
                           spec->bits, spec->block);
                }
                check_gaps(&part);
                guarded_bytes_free(&part_values);
            }
            guarded_bytes_free(&code);
        }
        guarded_bytes_free(&values);
        guarded_bytes_free(&out_values);
    }
}
END_TEST

/* The same bytes for any number of threads and any stride, also with work cut across channels. */
START_TEST(threads_change_nothing)
{
    struct codec_spec specs[MAX_SPECS];
    const size_t n_specs = make_specs(specs);
    const struct kernels k = kernels_of("auto");
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    const struct shape shape = {3, 10, 9, 200};
    struct guarded_bytes values, spread_values, out_values;
    const struct tensor x = guarded_tensor(shape, 0, &values);
    const struct tensor spread = guarded_tensor(shape, 9, &spread_values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    fill_map(&x, 5);
    fill_map(&spread, 5);
    for (size_t s = 0; s < n_specs; s++) {
        struct guarded_bytes one, many;
        round_trip(&k, &specs[s], &x, &rng, &out, 1, &one);
        for (int threads = 2; threads <= 4; threads++) {
            round_trip(&k, &specs[s], &spread, &rng, &out, threads, &many);
            ck_assert_mem_eq(one.p, many.p, one.n);
            guarded_bytes_free(&many);
        }
        guarded_bytes_free(&one);
    }
    guarded_bytes_free(&values);
    guarded_bytes_free(&spread_values);
    guarded_bytes_free(&out_values);
}
END_TEST

/* Bits per value of block 8, 2 bits where blocks are whole. */
START_TEST(bytes_are_as_documented)
{
    const struct codec_spec spec = {.kind = CODEC_MAP, .bits = 2, .block = 8, .stochastic = 1};
    for (size_t h = 8; h <= 112; h += 8) {
        const struct shape shape = {3, h, h, 5};
        struct codec_bytes parts;
        const size_t bytes = codec_bytes(&spec, &shape, &parts);
        ck_assert_uint_eq(parts.codes, 3 * 5 * h * h / 4);
        ck_assert_uint_eq(parts.means, 3 * 5 * (h / 8) * (h / 8) * 2);
        ck_assert_uint_eq(parts.ranges, 3 * 5 * 4);
        ck_assert_uint_eq(parts.raw, 0);
        ck_assert_uint_eq(bytes, parts.codes + parts.means + parts.ranges);
    }
    struct codec_bytes parts;
    /* 9 pixels: 2 x 2 blocks, 3 bytes of codes. */
    ck_assert_uint_eq(codec_bytes(&spec, &(struct shape){1, 9, 9, 1}, &parts), 8 + 4 + 21);
    /* One pixel: the code would take 7 bytes, so it is kept raw. */
    ck_assert_uint_eq(codec_bytes(&spec, &(struct shape){2, 1, 1, 3}, &parts), 6 * sizeof(real));
    ck_assert_uint_eq(parts.raw, 6 * sizeof(real));
    ck_assert_uint_eq(codec_bytes(&spec, &(struct shape){0, 8, 8, 3}, NULL), 0);
    const struct codec_spec low = {
        .kind = CODEC_MAP, .bits = 2, .block = 4, .keep = CODEC_KEEP_LOW};
    ck_assert_uint_eq(codec_bytes(&low, &(struct shape){1, 6, 6, 3}, NULL), 4 * 3 * 2);
    const struct codec_spec group = {.kind = CODEC_GROUP, .bits = 4, .group = 256};
    /* 7 * 7 * 10 = 490 values: 2 runs, 4 tiles of 64 bytes. */
    ck_assert_uint_eq(codec_bytes(&group, &(struct shape){1, 7, 7, 10}, NULL), 2 * 4 + 4 * 64);
}
END_TEST

/* Reads a code by the format in codec.h, without any of the codec's functions. */
static float documented_bf16(const unsigned char *p)
{
    const uint32_t bits = ((uint32_t)p[0] | (uint32_t)p[1] << 8) << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

START_TEST(format_is_as_documented)
{
    const size_t h = 11, w = 13, c = 5, block = 4;
    const struct shape shape = {1, h, w, c};
    const size_t n_cols = (w + block - 1) / block, n_blocks = (h + block - 1) / block * n_cols;
    const struct rng rng = rng_make(9, RNG_TEST, 0, 0);
    const struct kernels k = kernels_of("auto");
    for (int i = 0; i < N_WIDTHS; i++) {
        const unsigned bits = bit_widths[i];
        const struct codec_spec spec = {
            .kind = CODEC_MAP, .bits = bits, .block = block, .stochastic = 1};
        struct guarded_bytes values, out_values, code;
        const struct tensor x = guarded_tensor(shape, 0, &values);
        struct tensor out = guarded_tensor(shape, 0, &out_values);
        fill_map(&x, 3);
        round_trip(&k, &spec, &x, &rng, &out, 1, &code);
        const unsigned char *ranges = code.p + n_blocks * c * 2, *codes = ranges + c * 4;
        for (size_t ch = 0; ch < c; ch++) {
            const float m = documented_bf16(ranges + ch * 2);
            const float step = documented_bf16(ranges + (c + ch) * 2);
            double least = INFINITY, largest = -INFINITY;
            for (size_t p = 0; p < h * w; p++) {
                const size_t b = p / w / block * n_cols + p % w / block;
                const float mean = documented_bf16(code.p + (b * c + ch) * 2);
                const unsigned byte = codes[p / (8 / bits) * c + ch];
                const unsigned q = byte >> (p % (8 / bits) * bits) & ((1u << bits) - 1);
                ck_assert(pixel_at(&out, p)[ch] == mean + (m + (float)q * step));
                const double r = (double)pixel_at(&x, p)[ch] - (double)mean;
                least = fmin(least, r);
                largest = fmax(largest, r);
                ck_assert_double_le(fabs((double)m + q * (double)step - r), step * 1.00001);
            }
            ck_assert_double_le((double)m, least);
            ck_assert_double_ge((double)m * (1 + (m < 0 ? -0x1p-7 : 0x1p-7)), least - 1e-30);
            ck_assert_double_ge((double)m + ((1u << bits) - 1) * (double)step, largest - 1e-6);
            /* No wider than rounding needs. */
            ck_assert_double_le(((1u << bits) - 1) * (double)step,
                                (largest - (double)m) * (1 + 0x1p-6));
        }
        guarded_bytes_free(&values);
        guarded_bytes_free(&out_values);
        guarded_bytes_free(&code);
    }
}
END_TEST

/* Over 1,000 seeds the mean of the decoded values is x. Per value: Bernstein's bound, which unlike
 * a bound on z also holds where one rounding in a thousand is expected; over all values together:
 * their mean deviation in steps is below 2^-17 plus its own bound. Both at 1e-6. */
START_TEST(stochastic_rounding_is_unbiased)
{
    enum { N_SEEDS = 1000, H = 9, W = 7, C = 17, N = H * W * C };
    static const size_t blocks[] = {0, 4};
    const struct kernels k = kernels_of("auto");
    const struct shape shape = {1, H, W, C};
    const unsigned bits = bit_widths[_i / 2];
    const struct codec_spec spec = {
        .kind = CODEC_MAP, .bits = bits, .block = blocks[_i % 2], .stochastic = 1};
    struct guarded_bytes values, out_values, code;
    const struct tensor x = guarded_tensor(shape, 0, &values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    fill_map(&x, 11);
    static double sum[N];
    memset(sum, 0, sizeof(sum));
    double step[C] = {0};
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        const struct rng rng = rng_make(seed, RNG_QUANTISE, 0, 0);
        round_trip(&k, &spec, &x, &rng, &out, 1, &code);
        for (size_t e = 0; e < N; e++) {
            sum[e] += (double)out.data[e] - (double)x.data[e];
        }
        struct codec_bytes parts;
        (void)codec_bytes(&spec, &shape, &parts);
        for (size_t ch = 0; ch < C; ch++) {
            step[ch] = (double)documented_bf16(code.p + parts.means + (C + ch) * 2);
        }
        guarded_bytes_free(&code);
    }
    const double log_term = log(2.0 * N / 1e-6);
    double total = 0, n_total = 0;
    for (size_t e = 0; e < N; e++) {
        const size_t ch = e % C;
        if (ch % 7 == 6) { /* flat */
            ck_assert(sum[e] == 0);
            continue;
        }
        const double deviation = sum[e] / N_SEEDS / step[ch], variance = 0.25;
        const double bound = sqrt(2 * variance * log_term / N_SEEDS) + log_term / (3 * N_SEEDS);
        ck_assert_msg(fabs(deviation) <= bound + 0x1p-16, "value %zu is off by %g steps", e,
                      deviation);
        total += deviation;
        n_total++;
    }
    const double pooled = sqrt(2 * 0.25 * log(2 / 1e-6) / (N_SEEDS * n_total));
    ck_assert_msg(fabs(total / n_total) <= pooled + 0x1p-17, "mean deviation %g steps",
                  total / n_total);
    guarded_bytes_free(&values);
    guarded_bytes_free(&out_values);
}
END_TEST

/* Neighbours share a byte of random bits: their errors' covariance stays below 2^-10 step^2, that of
 * pixels which share none is 0. Means of 2^21 products, each of which deviates by 1/4 at most. */
START_TEST(neighbours_round_as_if_alone)
{
    enum { PIXELS = 16, C = 1 << 15, ROUNDS = 64, N = PIXELS * C };
    const struct kernels k = kernels_of("auto");
    const struct codec_spec spec = {.kind = CODEC_MAP, .bits = 1, .stochastic = 1};
    struct guarded_bytes values, out_values, code;
    const struct tensor x = guarded_tensor((struct shape){1, 1, PIXELS + 2, C}, 0, &values);
    struct tensor out = guarded_tensor(x.shape, 0, &out_values);
    for (size_t e = 0; e < N; e++) {
        x.data[e] = (real)(0.1 + 0.8 * (double)(e % C) / C);
    }
    for (size_t e = 0; e < C; e++) { /* the range is 0 to 1 */
        x.data[N + e] = 0;
        x.data[N + C + e] = 1;
    }
    double product[PIXELS][PIXELS] = {{0}};
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        const struct rng rng = rng_make(seed, RNG_QUANTISE, 0, 0);
        round_trip(&k, &spec, &x, &rng, &out, 1, &code);
        guarded_bytes_free(&code);
        for (size_t ch = 0; ch < C; ch++) {
            double error[PIXELS];
            for (size_t p = 0; p < PIXELS; p++) {
                error[p] = (double)out.data[p * C + ch] - (double)x.data[p * C + ch];
            }
            for (size_t p = 0; p < PIXELS; p++) {
                for (size_t q = 0; q < p; q++) {
                    product[p][q] += error[p] * error[q];
                }
            }
        }
    }
    const double n = (double)ROUNDS * C, deviations = 6 * 0.25 / sqrt(n); /* 6 sigma */
    for (size_t p = 0; p < PIXELS; p++) {
        for (size_t q = 0; q < p; q++) {
            const int share = p / 4 == q / 4 && (p - q) % 2 == 1;
            const double mean = product[p][q] / n, bound = deviations + (share ? 0x1p-10 : 0);
            ck_assert_msg(fabs(mean) <= bound, "pixels %zu and %zu: covariance %g, at most %g", q,
                          p, mean, bound);
        }
    }
    guarded_bytes_free(&values);
    guarded_bytes_free(&out_values);
}
END_TEST

/* Blocks of random bits are numbered in 64 bits. A sample whose numbers cross 2^32, in the middle
 * of a strip of channels, and the one behind it. */
START_TEST(random_bits_go_on_beyond_2_32)
{
    enum { H = 8, W = 8, C = 24, N = H * W * C };
    struct kernels k[MAX_ISAS];
    const size_t n_isas = kernels_all(k);
    struct guarded_bytes values;
    const struct tensor x = guarded_tensor((struct shape){1, H, W, C}, 0, &values);
    fill_map(&x, 2);
    for (uint64_t sample = 44739242; sample <= 44739243; sample++) {
        const struct codec_unit map = {
            .h = H,
            .w = W,
            .c = C,
            .block_h = 8,
            .block_w = 8,
            .n_rows = 1,
            .n_cols = 1,
            .means_stride = C,
            .bits = 2,
            .stochastic = 1,
            .has_means = 1,
            .has_codes = 1,
            .ranges_at = 2 * C,
            .codes_at = 6 * C,
            .rng = rng_make(3, RNG_TEST, 1, 2),
            .sample = sample,
        };
        struct codec_unit group = map; /* as many blocks as the map */
        group.group = CODEC_TILE;
        group.ranges_at = 0;
        group.codes_at = N / CODEC_TILE * 4;
        static unsigned char want[2][N], code[2][N];
        for (size_t i = 0; i < n_isas; i++) {
            memset(code, 0, sizeof(code));
            k[i].codec.encode_map(&map, x.data, C, 0, C, code[0], code[0]);
            k[i].codec.encode_group(&group, x.data, C, 0, N / CODEC_TILE, code[1]);
            if (i == 0) {
                memcpy(want, code, sizeof(want));
            }
            ck_assert_msg(memcmp(code, want, sizeof(want)) == 0, "%s", k[i].isa);
        }
    }
    guarded_bytes_free(&values);
}
END_TEST

/* Another seed, step or stream gives other codes; nearest rounding takes no random bits. */
START_TEST(random_bits_depend_on_the_stream)
{
    const struct kernels k = kernels_of("auto");
    const struct shape shape = {2, 8, 8, 16};
    struct guarded_bytes values, out_values, first, other;
    const struct tensor x = guarded_tensor(shape, 0, &values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    fill_map(&x, 1);
    memcpy(pixel_at(&x, 64), x.data, 64 * 16 * sizeof(real)); /* two equal samples */
    const struct rng streams[] = {rng_make(1, RNG_QUANTISE, 0, 0), rng_make(2, RNG_QUANTISE, 0, 0),
                                  rng_make(1, RNG_QUANTISE, 1, 0), rng_make(1, RNG_QUANTISE, 0, 1)};
    for (int stochastic = 0; stochastic <= 1; stochastic++) {
        const struct codec_spec spec = {
            .kind = CODEC_MAP, .bits = 2, .block = 8, .stochastic = stochastic};
        round_trip(&k, &spec, &x, &streams[0], &out, 1, &first);
        const int equal = memcmp(first.p, first.p + first.n / 2, first.n / 2) == 0;
        ck_assert_int_eq(equal, !stochastic);
        for (size_t i = 1; i < 4; i++) {
            round_trip(&k, &spec, &x, &streams[i], &out, 1, &other);
            ck_assert_int_eq(memcmp(first.p, other.p, first.n) == 0, !stochastic);
            guarded_bytes_free(&other);
        }
        guarded_bytes_free(&first);
    }
    guarded_bytes_free(&values);
    guarded_bytes_free(&out_values);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec");
    TCase *t = tcase_create("codec");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, every_isa_equals_ref, 0, N_SIDES);
    tcase_add_test(t, trouble_is_equal_on_every_isa);
    tcase_add_test(t, trouble_stays_in_its_map);
    tcase_add_test(t, flat_maps_are_exact);
    tcase_add_test(t, blocks_equal_the_whole);
    tcase_add_test(t, threads_change_nothing);
    tcase_add_test(t, bytes_are_as_documented);
    tcase_add_test(t, format_is_as_documented);
    tcase_add_loop_test(t, stochastic_rounding_is_unbiased, 0, 2 * N_WIDTHS);
    tcase_add_test(t, neighbours_round_as_if_alone);
    tcase_add_test(t, random_bits_go_on_beyond_2_32);
    tcase_add_test(t, random_bits_depend_on_the_stream);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
