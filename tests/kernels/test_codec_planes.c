/* The codec's bit planes: the reference against the definition, every ISA against the reference bit
 * for bit, parts against the whole. */
#include "codec_fixture.h"

#define MAX_CHANNELS 70

struct planes_fixture {
    struct codec_planes planes;
    uint8_t bits[MAX_CHANNELS];
    float scale[MAX_CHANNELS], top[MAX_CHANNELS], steps[MAX_CHANNELS];
};

/* Which widths the channels have. */
enum { EVERY_WIDTH, NARROW, WIDE, ONE_WIDTH, N_MIXES };

static unsigned width_of(int mix, size_t ch)
{
    switch (mix) {
    case NARROW: return 1 + (unsigned)(ch * 5 % 8);
    case WIDE: return 9 + (unsigned)(ch * 5 % 8);
    case ONE_WIDTH: return 8;
    default: return 1 + (unsigned)(ch * 7 % 16);
    }
}

/* Steps such that the larger ones of the numbers from fill_map are beyond the largest code. */
static void make_planes(struct planes_fixture *f, size_t c, int mix, int is_signed)
{
    *f = (struct planes_fixture){.planes = {.c = c,
                                            .bits = f->bits,
                                            .scale = f->scale,
                                            .top = f->top,
                                            .steps = (const unsigned char *)f->steps,
                                            .is_signed = is_signed}};
    for (size_t ch = 0; ch < c; ch++) {
        const unsigned bits = width_of(mix, ch);
        f->bits[ch] = (uint8_t)bits;
        f->planes.row_bytes += bits;
        f->top[ch] = ldexpf(1.0f, (int)bits - is_signed) - 1.0f;
        f->steps[ch] = (1.5f + (float)(ch % 5)) / (f->top[ch] + 1.0f);
        f->scale[ch] = 1.0f / f->steps[ch];
    }
}

static size_t planes_bytes(const struct planes_fixture *f, const struct tensor *x)
{
    return (shape_pixels(&x->shape) + 7) / 8 * f->planes.row_bytes;
}

static const struct shape shapes[] = {
    {1, 1, 1, 1},  {1, 1, 1, 5},  {3, 3, 5, 17}, {2, 4, 4, 16}, {3, 7, 7, 31},
    {1, 9, 9, 64}, {2, 5, 5, 70}, {5, 5, 5, 3},  {1, 2, 3, 8},
};
enum { N_SHAPES = sizeof(shapes) / sizeof(shapes[0]), N_CASES = N_SHAPES * N_MIXES * 2 };

struct test_case {
    struct shape shape;
    int mix, is_signed;
};

static struct test_case case_of(int i)
{
    return (struct test_case){shapes[i / (2 * N_MIXES)], i / 2 % N_MIXES, i % 2};
}

/* Numbers, NaN, infinity. */
static struct tensor values_of(struct shape shape, size_t gap, struct guarded_bytes *values)
{
    const struct tensor x = guarded_tensor(shape, gap, values);
    fill_map(&x, 4);
    if (shape_pixels(&shape) > 20) {
        pixel_at(&x, 3)[0] = (real)NAN;
        pixel_at(&x, 13)[shape.c / 2] = (real)-INFINITY;
    }
    return x;
}

START_TEST(ref_is_the_definition)
{
    const struct kernels k = kernels_of("ref");
    const struct test_case t = case_of(_i);
    struct planes_fixture f;
    struct guarded_bytes x_values, out_values, code;
    make_planes(&f, t.shape.c, t.mix, t.is_signed);
    const struct tensor x = values_of(t.shape, 2, &x_values);
    struct tensor out = guarded_tensor(t.shape, 1, &out_values);
    const size_t pixels = shape_pixels(&t.shape);
    code = guarded_bytes_new(planes_bytes(&f, &x));
    k.codec.encode_planes(&f.planes, x.data, x.pixel_stride, pixels, code.p);
    k.codec.decode_planes(&f.planes, code.p, 0, pixels, 0, t.shape.c, out.data, out.pixel_stride);
    size_t at = 0;
    for (size_t ch = 0; ch < t.shape.c; at += f.bits[ch], ch++) {
        const long low = t.is_signed ? -(1L << (f.bits[ch] - 1)) : 0;
        const long top = low + (1L << f.bits[ch]) - 1;
        for (size_t p = 0; p < (pixels + 7) / 8 * 8; p++) {
            long q = low; /* code 0 where there is no pixel */
            if (p < pixels) {
                const float scaled = (float)pixel_at(&x, p)[ch] * f.scale[ch];
                q = scaled < (float)top ? (scaled > (float)low ? lrintf(scaled) : low) : top;
                const float decoded = (float)q * f.steps[ch];
                EXPECT(same_value(pixel_at(&out, p)[ch], (real)decoded), "%g is not %g",
                       (double)pixel_at(&out, p)[ch], (double)decoded);
            }
            for (unsigned bit = 0; bit < f.bits[ch]; bit++) {
                const unsigned byte = code.p[p / 8 * f.planes.row_bytes + at + bit];
                EXPECT((byte >> p % 8 & 1u) == ((unsigned long)(q - low) >> bit & 1u),
                       "channel %zu pixel %zu bit %u", ch, p, bit);
            }
        }
    }
    check_gaps(&out);
    guarded_bytes_free(&x_values);
    guarded_bytes_free(&out_values);
    guarded_bytes_free(&code);
}
END_TEST

/* Decodes a part of the map, from a copy that ends where the part's octets do. */
static void check_part(const struct kernels *k, const struct planes_fixture *f,
                       const struct guarded_bytes *code, const struct tensor *whole, size_t p0,
                       size_t p1, size_t c0, size_t c1)
{
    struct guarded_bytes values;
    struct tensor part = guarded_tensor((struct shape){1, 1, p1 - p0, c1 - c0}, 3, &values);
    const size_t bytes = (p1 + 7) / 8 * f->planes.row_bytes;
    unsigned char *exact = mem_alloc(MEM_OTHER, bytes + 1); /* for the address sanitizer */
    memcpy(exact + 1, code->p, bytes);
    k->codec.decode_planes(&f->planes, exact + 1, p0, p1, c0, c1, part.data, part.pixel_stride);
    for (size_t p = p0; p < p1; p++) {
        EXPECT(memcmp(pixel_at(&part, p - p0), pixel_at(whole, p) + c0, (c1 - c0) * sizeof(real)) ==
                   0,
               "%s: pixel %zu of %zu-%zu, channels %zu-%zu", k->isa, p, p0, p1, c0, c1);
    }
    check_gaps(&part);
    mem_free(exact);
    guarded_bytes_free(&values);
}

START_TEST(every_isa_equals_ref)
{
    struct kernels k[MAX_ISAS];
    const size_t n_isas = kernels_all(k);
    const struct test_case t = case_of(_i);
    struct planes_fixture f;
    struct guarded_bytes x_values, want_values, values, want_code, code;
    make_planes(&f, t.shape.c, t.mix, t.is_signed);
    const size_t pixels = shape_pixels(&t.shape), c = t.shape.c;
    const struct tensor x = values_of(t.shape, (size_t)(_i % 3), &x_values);
    struct tensor want = guarded_tensor(t.shape, 2, &want_values);
    want_code = guarded_bytes_new(planes_bytes(&f, &x));
    k[0].codec.encode_planes(&f.planes, x.data, x.pixel_stride, pixels, want_code.p);
    k[0].codec.decode_planes(&f.planes, want_code.p, 0, pixels, 0, c, want.data, want.pixel_stride);
    for (size_t i = 1; i < n_isas; i++) {
        struct tensor out = guarded_tensor(t.shape, 1, &values);
        code = guarded_bytes_new(want_code.n);
        k[i].codec.encode_planes(&f.planes, x.data, x.pixel_stride, pixels, code.p);
        ck_assert_msg(memcmp(code.p, want_code.p, code.n) == 0, "%s: codes differ", k[i].isa);
        k[i].codec.decode_planes(&f.planes, code.p, 0, pixels, 0, c, out.data, out.pixel_stride);
        for (size_t p = 0; p < pixels; p++) {
            EXPECT(memcmp(pixel_at(&want, p), pixel_at(&out, p), c * sizeof(real)) == 0,
                   "%s: pixel %zu", k[i].isa, p);
        }
        check_gaps(&out);
        guarded_bytes_free(&values);
        guarded_bytes_free(&code);
    }
    for (size_t i = 0; i < n_isas; i++) {
        check_part(&k[i], &f, &want_code, &want, 0, pixels, 0, c);
        check_part(&k[i], &f, &want_code, &want, pixels / 3, pixels - pixels / 5, c / 3, c);
        check_part(&k[i], &f, &want_code, &want, pixels / 2, pixels / 2 + 1, 0, (c + 1) / 2);
        check_part(&k[i], &f, &want_code, &want, pixels, pixels, c, c);
    }
    guarded_bytes_free(&x_values);
    guarded_bytes_free(&want_values);
    guarded_bytes_free(&want_code);
}
END_TEST

/* Against the numbers themselves; in two parts, the second added to the first. */
START_TEST(extremes_are_those_of_the_values)
{
    struct kernels k[MAX_ISAS];
    const size_t n_isas = kernels_all(k);
    const struct shape shape = shapes[_i];
    const size_t c = shape.c, pixels = shape_pixels(&shape), first = pixels / 3;
    struct guarded_bytes values;
    const struct tensor x = values_of(shape, 2, &values);
    for (size_t p = 0; p < pixels && c > 3; p++) {
        pixel_at(&x, p)[1] = (real)-0.0;
        pixel_at(&x, p)[2] = (real)-1e-42;
    }
    for (size_t i = 0; i < n_isas; i++) {
        struct guarded_bytes size = guarded_bytes_new(c * sizeof(uint32_t));
        struct guarded_bytes sign = guarded_bytes_new(c * sizeof(uint32_t));
        uint32_t *sizes = (uint32_t *)(void *)size.p, *signs = (uint32_t *)(void *)sign.p;
        memset(sizes, 0, size.n);
        memset(signs, 0, sign.n);
        k[i].codec.measure_planes(x.data, x.pixel_stride, first, c, sizes, signs);
        k[i].codec.measure_planes(pixel_at(&x, first), x.pixel_stride, pixels - first, c, sizes,
                                  signs);
        for (size_t ch = 0; ch < c; ch++) {
            float largest = 0, found;
            int is_nan = 0, is_negative = 0;
            for (size_t p = 0; p < pixels; p++) {
                const float v = (float)pixel_at(&x, p)[ch];
                largest = fabsf(v) > largest ? fabsf(v) : largest;
                is_nan |= isnan(v) != 0;
                is_negative |= v < 0;
            }
            memcpy(&found, &sizes[ch], sizeof(found));
            EXPECT(is_nan ? isnan(found) : memcmp(&found, &largest, sizeof(found)) == 0,
                   "%s: channel %zu: %g, not %g", k[i].isa, ch, (double)found, (double)largest);
            EXPECT((signs[ch] != 0) == is_negative, "%s: channel %zu", k[i].isa, ch);
        }
        guarded_bytes_free(&size);
        guarded_bytes_free(&sign);
    }
    guarded_bytes_free(&values);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec_planes");
    TCase *t = tcase_create("codec_planes");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, ref_is_the_definition, 0, N_CASES);
    tcase_add_loop_test(t, every_isa_equals_ref, 0, N_CASES);
    tcase_add_loop_test(t, extremes_are_those_of_the_values, 0, N_SHAPES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
