/* Augmentation of one image, as a pure function of the flags, the draw and the bytes. */
#ifndef DATA_AUGMENT_PRIV_H
#define DATA_AUGMENT_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

enum { AUGMENT_PAD = 4 }; /* pixels on each side before a crop */

/* What is drawn for one sample in one epoch. */
struct augment_draw {
    size_t dy, dx; /* top left corner of the crop in the padded image, 0 .. 2*AUGMENT_PAD */
    bool flip;
};

struct augment_size {
    size_t h, w, c;
};

/* From block `index` of rng_make(seed, RNG_AUGMENT, epoch, 0): word 0 gives dy, word 1 dx, word 2
 * flip. All are drawn always, so that one flag does not change what another does. */
struct augment_draw augment_draw_make(const struct rng *rng, size_t index);

/* src, dst: [h][w][c] bytes, not overlapping. First crops, then flips, each if its flag is set.
 * `flags` has at most one of the crops; AUGMENT_CROP4_REFLECT needs h, w > AUGMENT_PAD. */
void augment_apply(unsigned flags, struct augment_draw draw, struct augment_size size,
                   const uint8_t *src, uint8_t *dst);

#endif
