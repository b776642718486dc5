/* Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) as the Debian package installs it: gzipped IDX. */
#include "data/idx_priv.h"

extern const struct dataset_type dataset_fashion_mnist;

#define FOLDER "/usr/share/datasets/fashion-mnist"

/* Mean and deviation over all 60,000 x 28 x 28 training pixels. */
static const struct idx_layout layout = {
    .side = 28,
    .classes = 10,
    .n_original = {60000, 10000},
    .folder = FOLDER,
    .mean = 0.2860f,
    .std = 0.3530f,
};

static int fashion_mnist_describe(const struct dataset_config *cfg, struct dataset_info *info,
                                  struct err *err)
{
    return idx_describe(&layout, cfg, info, err);
}

static int fashion_mnist_open(const struct dataset_config *cfg, struct dataset *ds, struct err *err)
{
    return idx_open(&layout, cfg, ds, err);
}

const struct dataset_type dataset_fashion_mnist = {
    .name = "fashion_mnist",
    .summary = "Fashion-MNIST, IDX files: 60,000 + 10,000 grey images, padded to 32x32, 10 classes",
    .default_path = FOLDER,
    .how_to_get = "install the Debian package dataset-fashion-mnist, or put the four files of "
                  "https://github.com/zalandoresearch/fashion-mnist into a folder",
    .describe = fashion_mnist_describe,
    .open = fashion_mnist_open,
    .read = idx_read,
    .close = idx_close,
};
