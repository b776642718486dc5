/* Any data set in MNIST's files, of one's own making or MNIST itself. */
#include "data/idx_priv.h"

extern const struct dataset_type dataset_idx;

/* Statistics of unknown images: scaled to -1..1. */
static const struct idx_layout layout = {.mean = 0.5f, .std = 0.5f};

static int idx_any_describe(const struct dataset_config *cfg, struct dataset_info *info,
                            struct err *err)
{
    return idx_describe(&layout, cfg, info, err);
}

static int idx_any_open(const struct dataset_config *cfg, struct dataset *ds, struct err *err)
{
    return idx_open(&layout, cfg, ds, err);
}

const struct dataset_type dataset_idx = {
    .name = "idx",
    .summary = "images in MNIST's IDX files, plain or gzipped, up to 32x32, padded to 32x32",
    .default_path = "",
    .how_to_get = "the folder must hold train-images-idx3-ubyte, train-labels-idx1-ubyte, "
                  "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or with .gz",
    .describe = idx_any_describe,
    .open = idx_any_open,
    .read = idx_read,
    .close = idx_close,
};
