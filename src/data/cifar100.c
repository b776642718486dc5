/* CIFAR-100, binary version (Krizhevsky 2009): one file per split; each record is the coarse
 * label (20 superclasses, not used), the fine label (100 classes, the one trained on) and the
 * pixels. */
#include "data/cifar_priv.h"

extern const struct dataset_type dataset_cifar100;

/* Mean and deviation as in the training script of the paper's official code, given there for
 * 0..255. */
static const struct cifar_layout layout = {
    .files = {{"train.bin"}, {"test.bin"}},
    .n_files = {1, 1},
    .n_original = {50000, 10000},
    .n_label_bytes = 2,
    .label_names = {"coarse label", "fine label"},
    .n_label_values = {20, 100},
    .mean = {125.3f / 255, 123.0f / 255, 113.9f / 255},
    .std = {63.0f / 255, 62.1f / 255, 66.7f / 255},
};

static int cifar100_describe(const struct dataset_config *cfg, struct dataset_info *info,
                             struct err *err)
{
    return cifar_describe(&layout, cfg, info, err);
}

static int cifar100_open(const struct dataset_config *cfg, struct dataset *ds, struct err *err)
{
    return cifar_open(&layout, cfg, ds, err);
}

const struct dataset_type dataset_cifar100 = {
    .name = "cifar100",
    .summary = "CIFAR-100, binary version: 50,000 + 10,000 colour images, 32x32, 100 classes",
    .default_path = "data/cifar-100-binary",
    .how_to_get = "unpack https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    .describe = cifar100_describe,
    .open = cifar100_open,
    .read = cifar_read,
    .close = cifar_close,
};
