/* Random crop and mirror: see augment_priv.h and the flags in loader.h. */
#include "data/augment_priv.h"

#include <string.h>

#include "data/loader.h"

/* Row i has the bit 1 << (i - 1). */
static const char *const names[] = {"none", "crop4", "flip", "crop4_reflect"};

enum { N_NAMES = sizeof names / sizeof names[0] };

const char *const *augment_names(size_t *n)
{
    *n = N_NAMES;
    return names;
}

unsigned augment_find(const char *name, int *ok)
{
    for (unsigned i = 0; i < N_NAMES; ++i) {
        if (strcmp(names[i], name) == 0) {
            *ok = 1;
            return i == 0 ? (unsigned)AUGMENT_NONE : 1U << (i - 1);
        }
    }
    *ok = 0;
    return 0;
}

struct augment_draw augment_draw_make(const struct rng *rng, size_t index)
{
    const uint64_t n_offsets = 2 * AUGMENT_PAD + 1;
    uint32_t word[4];
    rng_block(rng, index, word);
    return (struct augment_draw){
        .dy = (size_t)(word[0] * n_offsets >> 32),
        .dx = (size_t)(word[1] * n_offsets >> 32),
        .flip = word[2] >> 31 != 0,
    };
}

/* Coordinate i - AUGMENT_PAD of the unpadded image, mirrored at the edge pixels' middles where
 * it lies outside (numpy's mode 'reflect'). n > AUGMENT_PAD, i < n + 2*AUGMENT_PAD. */
static size_t reflect(size_t i, size_t n)
{
    if (i < AUGMENT_PAD) {
        return AUGMENT_PAD - i;
    }
    i -= AUGMENT_PAD;
    return i < n ? i : 2 * (n - 1) - i;
}

static void crop_zero(struct augment_draw draw, struct augment_size s, const uint8_t *src,
                      uint8_t *dst)
{
    const size_t row = s.w * s.c;
    /* Columns [first, last) of the result lie in the image; the others in the padding. */
    const size_t first = draw.dx < AUGMENT_PAD ? AUGMENT_PAD - draw.dx : 0;
    const size_t image_end = s.w + AUGMENT_PAD; /* in the padded image */
    const size_t to_end = image_end > draw.dx ? image_end - draw.dx : 0;
    const size_t last = to_end < s.w ? to_end : s.w;
    memset(dst, 0, s.h * row);
    for (size_t y = 0; y < s.h; ++y) {
        const size_t src_y = y + draw.dy;
        if (src_y < AUGMENT_PAD || src_y >= s.h + AUGMENT_PAD || first >= last) {
            continue;
        }
        const size_t src_x = first + draw.dx - AUGMENT_PAD;
        memcpy(dst + y * row + first * s.c, src + (src_y - AUGMENT_PAD) * row + src_x * s.c,
               (last - first) * s.c);
    }
}

static void crop_reflect(struct augment_draw draw, struct augment_size s, const uint8_t *src,
                         uint8_t *dst)
{
    for (size_t y = 0; y < s.h; ++y) {
        const uint8_t *from = src + reflect(y + draw.dy, s.h) * s.w * s.c;
        for (size_t x = 0; x < s.w; ++x, dst += s.c) {
            memcpy(dst, from + reflect(x + draw.dx, s.w) * s.c, s.c);
        }
    }
}

static void flip_rows(struct augment_size s, uint8_t *img)
{
    for (size_t y = 0; y < s.h; ++y) {
        uint8_t *row = img + y * s.w * s.c;
        for (size_t x = 0; x < s.w / 2; ++x) {
            uint8_t *a = row + x * s.c, *b = row + (s.w - 1 - x) * s.c;
            for (size_t c = 0; c < s.c; ++c) {
                const uint8_t byte = a[c];
                a[c] = b[c];
                b[c] = byte;
            }
        }
    }
}

void augment_apply(unsigned flags, struct augment_draw draw, struct augment_size size,
                   const uint8_t *src, uint8_t *dst)
{
    if (flags & AUGMENT_CROP4) {
        crop_zero(draw, size, src, dst);
    } else if (flags & AUGMENT_CROP4_REFLECT) {
        crop_reflect(draw, size, src, dst);
    } else {
        memcpy(dst, src, size.h * size.w * size.c);
    }
    if ((flags & AUGMENT_FLIP) && draw.flip) {
        flip_rows(size, dst);
    }
}
