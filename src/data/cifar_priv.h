/* The binary form of CIFAR-10 and CIFAR-100: files of equal records, each one or two label bytes
 * and 3,072 bytes of pixels (32 x 32, a plane of red, one of green, one of blue, rows from the
 * top). */
#ifndef DATA_CIFAR_PRIV_H
#define DATA_CIFAR_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "data/dataset.h"

enum { CIFAR_MAX_FILES = 5, CIFAR_MAX_LABELS = 2 };

/* What differs between the two; splits are indexed by enum data_split. */
struct cifar_layout {
    const char *files[2][CIFAR_MAX_FILES];
    size_t n_files[2];
    size_t n_original[2];                      /* images of the original data set */
    size_t n_label_bytes;                      /* at the record's start; the last is the label */
    const char *label_names[CIFAR_MAX_LABELS]; /* for messages */
    size_t n_label_values[CIFAR_MAX_LABELS];   /* labels are 0 .. n-1 */
    float mean[3], std[3];                     /* of pixels scaled to 0..1 */
};

int cifar_describe(const struct cifar_layout *layout, const struct dataset_config *cfg,
                   struct dataset_info *info, struct err *err) MUST_USE;
/* `layout` must outlive the data set. */
int cifar_open(const struct cifar_layout *layout, const struct dataset_config *cfg,
               struct dataset *ds, struct err *err) MUST_USE;
int cifar_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
               uint32_t *label, struct err *err) MUST_USE;
void cifar_close(struct dataset *ds);

#endif
