/* compat official against a plain statement of the published algorithm, written here on one (H, W)
 * map at a time, without the codec's functions. */
#include "codec_fixture.h"

/* float rounded to bfloat16: of the two neighbours the nearer one, the even one of a tie. */
static float to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    const uint32_t below = bits & 0xFFFF0000u, above = below + 0x10000u, rest = bits & 0xFFFFu;
    const int up = rest > 0x8000u || (rest == 0x8000u && (below >> 16 & 1u));
    bits = up ? above : below;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* One map [h][w]: decoded values; codes, and for each whether it is a tie within float rounding. */
static void official_map(const float *x, size_t h, size_t w, size_t block, unsigned bits,
                         float *decoded, unsigned *codes, int *ties)
{
    if (h == 1) {
        memcpy(decoded, x, h * w * sizeof(*x));
        return;
    }
    const size_t k = h >= block ? block : h, ph = h / k, pw = w / k;
    float *pooled = mem_alloc(MEM_OTHER, ph * pw * sizeof(*pooled));
    float *enlarged = mem_alloc(MEM_OTHER, h * w * sizeof(*enlarged));
    ck_assert(pooled != NULL && enlarged != NULL);
    for (size_t i = 0; i < ph * pw; i++) {
        float sum = 0;
        for (size_t j = 0; j < k * k; j++) {
            sum += x[(i / pw * k + j / k) * w + i % pw * k + j % k];
        }
        pooled[i] = to_bf16(sum / (float)(k * k));
    }
    float least = INFINITY, largest = -INFINITY;
    for (size_t p = 0; p < h * w; p++) {
        enlarged[p] = pooled[p / w * ph / h * pw + p % w * pw / w];
        least = fminf(least, x[p] - enlarged[p]);
        largest = fmaxf(largest, x[p] - enlarged[p]);
    }
    const float levels = (float)((1u << bits) - 1), s = levels / (largest - least + 2e-6f);
    for (size_t p = 0; p < h * w; p++) {
        /* nearest: u = 1/2, so u - 0.5 = 0 */
        const float t = (x[p] - enlarged[p] - least) * s;
        codes[p] = (unsigned)fminf(rintf(fmaxf(t, 0)), levels);
        ties[p] = fabsf(t - floorf(t) - 0.5f) < 1e-4f;
        decoded[p] = enlarged[p] + ((float)codes[p] / to_bf16(s) + to_bf16(least));
    }
    mem_free(pooled);
    mem_free(enlarged);
}

static const size_t heights[] = {1, 2, 4, 7, 8, 14, 16, 28, 32, 56};
#define N_HEIGHTS ((int)(sizeof(heights) / sizeof(heights[0])))

static void check_official(const struct kernels *k, size_t h, size_t w, size_t block, unsigned bits)
{
    const size_t c = 19, n = 2;
    const struct shape shape = {n, h, w, c};
    const struct codec_spec spec = {.kind = CODEC_OFFICIAL, .bits = bits, .block = block};
    const struct rng rng = rng_make(0, RNG_TEST, 0, 0);
    struct guarded_bytes values, out_values, code;
    const struct tensor x = guarded_tensor(shape, 1, &values);
    struct tensor out = guarded_tensor(shape, 2, &out_values);
    fill_map(&x, h + bits);
    round_trip(k, &spec, &x, &rng, &out, 2, &code);
    struct codec_bytes parts;
    (void)codec_bytes(&spec, &shape, &parts);
    const size_t codes_at = (parts.means + parts.ranges) / n;

    float *map = mem_alloc(MEM_OTHER, h * w * sizeof(*map));
    float *decoded = mem_alloc(MEM_OTHER, h * w * sizeof(*decoded));
    unsigned *codes = mem_alloc(MEM_OTHER, h * w * sizeof(*codes));
    int *ties = mem_alloc(MEM_OTHER, h * w * sizeof(*ties));
    ck_assert(map != NULL && decoded != NULL && codes != NULL && ties != NULL);
    size_t n_ties = 0;
    for (size_t i = 0; i < n * c; i++) {
        const size_t sample = i / c, ch = i % c;
        for (size_t p = 0; p < h * w; p++) {
            map[p] = (float)pixel_at(&x, sample * h * w + p)[ch];
        }
        official_map(map, h, w, block, bits, decoded, codes, ties);
        for (size_t p = 0; p < h * w; p++) {
            const double got = (double)pixel_at(&out, sample * h * w + p)[ch];
            if (h == 1) {
                EXPECT(got == (double)map[p], "a single row is not kept as it is");
                continue;
            }
            if (ties[p]) {
                n_ties++;
                continue;
            }
            const unsigned per_byte = 8 / bits;
            const unsigned byte = code.p[sample * (code.n / n) + codes_at + p / per_byte * c + ch];
            const unsigned q = byte >> (p % per_byte * bits) & ((1u << bits) - 1);
            EXPECT(q == codes[p], "h %zu: code of map %zu, pixel %zu is %u, expected %u", h, i, p,
                   q, codes[p]);
            EXPECT(fabs(got - (double)decoded[p]) <= 1e-6 * (1 + fabs((double)decoded[p])),
                   "h %zu: map %zu, pixel %zu decodes to %.9g, expected %.9g", h, i, p, got,
                   (double)decoded[p]);
        }
    }
    ck_assert_uint_lt(n_ties, n * c * h * w / 4); /* the comparison compared something */
    mem_free(map);
    mem_free(decoded);
    mem_free(codes);
    mem_free(ties);
    guarded_bytes_free(&values);
    guarded_bytes_free(&out_values);
    guarded_bytes_free(&code);
}

START_TEST(official_equals_the_plain_statement)
{
    struct kernels k[MAX_ISAS];
    const size_t n_isas = kernels_all(k);
    const size_t h = heights[_i];
    for (size_t i = 0; i < n_isas; i++) {
        check_official(&k[i], h, h, 8, 2);
        check_official(&k[i], h, h + 3, 8, 2);
        check_official(&k[i], h, h, 4, 4);
        check_official(&k[i], h, h, 8, 8);
        check_official(&k[i], h, h, 8, 1);
    }
}
END_TEST

/* NaN in one map: it decodes to NaN, its neighbours do not. A map narrower than the block is
 * raw. */
START_TEST(official_contains_trouble)
{
    const struct shape shape = {1, 8, 8, 4};
    const struct codec_spec spec = {.kind = CODEC_OFFICIAL, .bits = 2, .block = 8, .stochastic = 1};
    const struct rng rng = rng_make(0, RNG_TEST, 0, 0);
    const struct kernels k = kernels_of("auto");
    struct guarded_bytes values, out_values;
    const struct tensor x = guarded_tensor(shape, 0, &values);
    struct tensor out = guarded_tensor(shape, 0, &out_values);
    fill_map(&x, 3);
    pixel_at(&x, 5)[0] = (real)NAN;
    pixel_at(&x, 6)[1] = (real)INFINITY;
    pixel_at(&x, 6)[2] = (real)3e38f;
    pixel_at(&x, 7)[2] = (real)-3e38f;
    round_trip(&k, &spec, &x, &rng, &out, 1, NULL);
    for (size_t p = 0; p < 64; p++) {
        for (size_t ch = 0; ch < 3; ch++) {
            EXPECT(isnan(pixel_at(&out, p)[ch]), "channel %zu is not NaN", ch);
        }
        EXPECT(isfinite(pixel_at(&out, p)[3]), "the sound channel is not finite");
    }
    guarded_bytes_free(&values);
    guarded_bytes_free(&out_values);
    struct codec_bytes parts;
    (void)codec_bytes(&spec, &(struct shape){1, 16, 5, 3}, &parts);
    ck_assert_uint_eq(parts.raw, 16 * 5 * 3 * sizeof(real));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("codec_official");
    TCase *t = tcase_create("official");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, official_equals_the_plain_statement, 0, N_HEIGHTS);
    tcase_add_test(t, official_contains_trouble);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
