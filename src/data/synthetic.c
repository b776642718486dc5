/* Made-up images that can be learnt, so that tests and measurements need no download.
 *
 * Each class has a pattern: a few sine waves of low frequency per channel. An image is its class's
 * pattern, shifted by up to 1/8 of its side, plus waves of the image's own, plus noise per pixel.
 * The own waves lie among the pattern's frequencies, so that larger images are not easier;
 * comparing an image with the mean images of the classes is right well above chance and well below
 * always.
 *
 * An image depends on (seed, split, index) and the sizes alone, and is computed when it is read, in
 * integers, hence the same bytes on every machine. Labels go round: image i has label i mod
 * classes. */
#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/dataset.h"

extern const struct dataset_type dataset_synthetic;

enum {
    MAX_SIDE = 1024,
    MAX_CHANNELS = 4, /* struct dataset_info has room for as many means */
    MAX_CLASSES = 65536,
    N_TRAIN = 2048,
    N_TEST = 512,
    CLASS_WAVES = 4, /* per channel */
    OWN_WAVES = 3,
    N_WAVES = CLASS_WAVES + OWN_WAVES,
    CLASS_AMPLITUDE = 20, /* grey levels; chosen nearest-mean finds 4 of 5 (10 classes) */
    OWN_AMPLITUDE = 30,
    NOISE_NUMERATOR =
        29,           /* of 256: the sum of two uniform bytes (deviation 104) becomes 12 levels */
    SINE_STEPS = 256, /* of one turn */
    SINE_ONE = 16384,
    STREAM_IMAGES = 0,
    STREAM_CLASSES = 1,
};

struct synthetic {
    uint64_t seed;
    int32_t sine[SINE_STEPS]; /* one turn, scaled to SINE_ONE */
};

/* A plane wave; phases are in turns * 2^32 and wrap around. */
struct wave {
    uint32_t phase, dx, dy; /* at the top left corner; per pixel to the right; per pixel down */
    int32_t amplitude;
};

static int check_range(const char *key, size_t value, size_t most, struct err *err)
{
    return value <= most ? 0
                         : err_set(err, ERR_CONFIG, "%s is %zu, synthetic images allow 1 to %zu",
                                   key, value, most);
}

static int synthetic_describe(const struct dataset_config *cfg, struct dataset_info *info,
                              struct err *err)
{
    *info = (struct dataset_info){
        .height = cfg->size != 0 ? cfg->size : 32,
        .width = cfg->size != 0 ? cfg->size : 32,
        .channels = cfg->channels != 0 ? cfg->channels : 3,
        .classes = cfg->classes != 0 ? cfg->classes : 10,
        .n_train = cfg->limit != 0 ? cfg->limit : N_TRAIN,
        .n_test = cfg->test_limit != 0 ? cfg->test_limit : N_TEST,
        .mean = {0.5f, 0.5f, 0.5f, 0.5f},
        .std = {0.2f, 0.2f, 0.2f, 0.2f},
    };
    int rc = check_range("data.size", info->height, MAX_SIDE, err);
    if (rc == 0) {
        rc = check_range("data.channels", info->channels, MAX_CHANNELS, err);
    }
    return rc != 0 ? rc : check_range("model.classes", info->classes, MAX_CLASSES, err);
}

static int synthetic_open(const struct dataset_config *cfg, struct dataset *ds, struct err *err)
{
    struct synthetic *s = mem_alloc(MEM_OTHER, sizeof *s);
    if (s == NULL) {
        return err_nomem(err, "a data set", sizeof *s);
    }
    s->seed = cfg->seed;
    const double turn = 6.283185307179586;
    for (int i = 0; i < SINE_STEPS; ++i) {
        s->sine[i] = (int32_t)lround(SINE_ONE * sin(turn * i / SINE_STEPS));
    }
    ds->priv = s;
    return 0;
}

/* Wave number `block` of the stream; shifted by whole pixels. At most two periods per side. */
static struct wave wave_make(const struct rng *rng, uint64_t block, size_t side, int32_t amplitude)
{
    enum { N_FREQUENCIES = 5 };
    /* Half of the plane of frequencies: (-x, -y) is the same wave as (x, y). */
    static const int frequencies[N_FREQUENCIES][2] = {{0, 1}, {1, 0}, {1, 1}, {-1, 1}, {2, 1}};
    uint32_t word[4];
    rng_block(rng, block, word);
    const int *f = frequencies[(uint64_t)word[1] * N_FREQUENCIES >> 32];
    const uint32_t pixel = (uint32_t)((UINT64_C(1) << 32) /
                                      side); /* a side of one pixel wraps to 0 */
    return (struct wave){
        .phase = word[0],
        .dx = (uint32_t)f[0] * pixel,
        .dy = (uint32_t)f[1] * pixel,
        .amplitude = amplitude,
    };
}

/* All waves of one channel of an image. */
static void waves_make(const struct synthetic *s, const struct dataset_info *info,
                       const struct rng *image, uint64_t block, size_t class_channel,
                       const uint32_t shift[2], struct wave waves[N_WAVES])
{
    const struct rng classes = rng_make(s->seed, RNG_SYNTHETIC, 0, STREAM_CLASSES);
    for (size_t i = 0; i < CLASS_WAVES; ++i) {
        waves[i] = wave_make(&classes, class_channel * CLASS_WAVES + i, info->height,
                             CLASS_AMPLITUDE);
        waves[i].phase += waves[i].dy * shift[0] + waves[i].dx * shift[1];
    }
    for (size_t i = 0; i < OWN_WAVES; ++i) {
        waves[CLASS_WAVES + i] = wave_make(image, block + i, info->height, OWN_AMPLITUDE);
    }
}

/* Adds noise to the waves' sum, scaled by SINE_ONE, and makes it a byte. */
static uint8_t pixel_make(int32_t sum, uint32_t word, size_t half)
{
    const uint32_t bits = word >> (16 * half);
    const int32_t triangular = (int32_t)((bits & 255) + (bits >> 8 & 255)) - 255;
    const int32_t level = 128 + sum / SINE_ONE + triangular * NOISE_NUMERATOR / 256;
    return (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
}

static int synthetic_read(const struct dataset *ds, enum data_split split, size_t index,
                          uint8_t *pixels, uint32_t *label, struct err *err)
{
    (void)err;
    enum { VALUES_PER_BLOCK = 8 }; /* two per word */
    const struct synthetic *s = ds->priv;
    const struct dataset_info *info = &ds->info;
    const size_t side = info->height, channels = info->channels;
    const size_t class = index % info->classes;

    /* An image's blocks: one for the shift, its own waves, the noise. */
    const size_t noise_blocks = (side * side * channels + VALUES_PER_BLOCK - 1) / VALUES_PER_BLOCK;
    const size_t own_blocks = 1 + channels * OWN_WAVES;
    const struct rng image = rng_make(s->seed, RNG_SYNTHETIC, (uint64_t)split, STREAM_IMAGES);
    const uint64_t base = (uint64_t)index * (own_blocks + noise_blocks);
    uint32_t word[4];
    rng_block(&image, base, word);
    const size_t reach = side / 8;
    const uint32_t shift[2] = {
        (uint32_t)((uint64_t)word[0] * (2 * reach + 1) >> 32) - (uint32_t)reach,
        (uint32_t)((uint64_t)word[1] * (2 * reach + 1) >> 32) - (uint32_t)reach,
    };
    struct wave waves[MAX_CHANNELS][N_WAVES];
    for (size_t c = 0; c < channels; ++c) {
        waves_make(s, info, &image, base + 1 + c * OWN_WAVES, class * channels + c, shift,
                   waves[c]);
    }

    size_t value = 0;
    for (size_t y = 0; y < side; ++y) {
        for (size_t x = 0; x < side; ++x) {
            for (size_t c = 0; c < channels; ++c, ++value) {
                if (value % VALUES_PER_BLOCK == 0) {
                    rng_block(&image, base + own_blocks + value / VALUES_PER_BLOCK, word);
                }
                int32_t sum = 0;
                for (size_t i = 0; i < N_WAVES; ++i) {
                    const struct wave *w = &waves[c][i];
                    const uint32_t phase = w->phase + w->dy * (uint32_t)y + w->dx * (uint32_t)x;
                    sum += w->amplitude * s->sine[phase >> 24];
                }
                pixels[value] = pixel_make(sum, word[value % VALUES_PER_BLOCK / 2], value % 2);
            }
        }
    }
    *label = (uint32_t) class;
    return 0;
}

static void synthetic_close(struct dataset *ds)
{
    mem_free(ds->priv);
    ds->priv = NULL;
}

static const char *const keys[] = {"size", "channels", NULL};

const struct dataset_type dataset_synthetic = {
    .name = "synthetic",
    .summary = "made-up images of any size, channels and classes; needs no files",
    .default_path = "",
    .how_to_get = "nothing to get: it is computed",
    .keys = keys,
    .describe = synthetic_describe,
    .open = synthetic_open,
    .read = synthetic_read,
    .close = synthetic_close,
};
