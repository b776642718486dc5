/* CIFAR-10, binary version (Krizhevsky 2009): five training files and one test file of 10,000
 * records, each a label byte and the pixels. */
#include "data/cifar_priv.h"

extern const struct dataset_type dataset_cifar10;

/* Mean and deviation as in the training script of the paper's official code (train_cifar10.py). */
static const struct cifar_layout layout = {
    .files = {{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
               "data_batch_5.bin"},
              {"test_batch.bin"}},
    .n_files = {5, 1},
    .n_original = {50000, 10000},
    .n_label_bytes = 1,
    .label_names = {"label"},
    .n_label_values = {10},
    .mean = {0.4914f, 0.4822f, 0.4465f},
    .std = {0.2023f, 0.1994f, 0.2010f},
};

static int cifar10_describe(const struct dataset_config *cfg, struct dataset_info *info,
                            struct err *err)
{
    return cifar_describe(&layout, cfg, info, err);
}

static int cifar10_open(const struct dataset_config *cfg, struct dataset *ds, struct err *err)
{
    return cifar_open(&layout, cfg, ds, err);
}

const struct dataset_type dataset_cifar10 = {
    .name = "cifar10",
    .summary = "CIFAR-10, binary version: 50,000 + 10,000 colour images, 32x32, 10 classes",
    .default_path = "data/cifar-10-batches-bin",
    .how_to_get = "unpack https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    .describe = cifar10_describe,
    .open = cifar10_open,
    .read = cifar_read,
    .close = cifar_close,
};
