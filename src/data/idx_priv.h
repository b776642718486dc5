/* Data sets of four IDX files (LeCun's MNIST format), plain or gzipped: images of up to 32 x 32
 * bytes, set in the middle of 32 x 32 black pixels, one channel. */
#ifndef DATA_IDX_PRIV_H
#define DATA_IDX_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "data/dataset.h"

/* What a particular data set promises; 0: whatever the files say. */
struct idx_layout {
    size_t side;          /* height = width in the files */
    size_t classes;       /* 0: the config's, else the largest label + 1 */
    size_t n_original[2]; /* images, by enum data_split */
    const char *folder;   /* where it is unless data.path says otherwise; NULL: nowhere */
    float mean, std;      /* of the images before padding, pixels scaled to 0..1 */
};

int idx_describe(const struct idx_layout *layout, const struct dataset_config *cfg,
                 struct dataset_info *info, struct err *err) MUST_USE;
int idx_open(const struct idx_layout *layout, const struct dataset_config *cfg, struct dataset *ds,
             struct err *err) MUST_USE;
int idx_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
             uint32_t *label, struct err *err) MUST_USE;
void idx_close(struct dataset *ds);

#endif
