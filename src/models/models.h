/* Networks as graph builders. A model (or a family of them) is one file (src/models/NAME.c) with a
 * `const struct model_type` and one row in models.def. */
#ifndef MODELS_MODELS_H
#define MODELS_MODELS_H

#include <stddef.h>

#include "base/err.h"
#include "nn/graph.h"

enum model_form {
    MODEL_CIFAR,    /* 3x3 stride-1 stem without pooling */
    MODEL_IMAGENET, /* torchvision's 7x7 stride-2 stem and 3x3 stride-2 max-pool */
};

struct model_config {
    const char *name; /* "resnet18", "wrn-28-10" */
    enum model_form form;
    size_t channels, height, width, classes; /* of the images */
    double dropout;                          /* where the model has one */
};

struct model_type {
    const char *pattern; /* as listed: "resnet18", "wrn-D-K" */
    const char *summary;
    unsigned forms; /* bit 1 << enum model_form for each form that exists */
    int has_dropout;
    /* Does this row build `name`? Exact names need no function (NULL: compare with pattern). */
    int (*matches)(const char *name);
    /* Adds all layers to g (whose value 0 is the image) and returns the logits. May set g->err. */
    uint32_t (*build)(struct graph *g, const struct model_config *cfg);
};

const struct model_type *const *model_types(size_t *n);
/* NULL if no row builds it. */
const struct model_type *model_find(const char *name);

/* "cifar", "imagenet". ERR_CONFIG else. */
int model_form_parse(const char *name, enum model_form *form, struct err *err) MUST_USE;

/* A finished graph without parameters' memory. ERR_CONFIG: unknown name (lists the valid ones), a
 * form that the model does not have, dropout where there is none; ERR_SHAPE: images too small. */
int model_build(const struct model_config *cfg, struct graph *g, struct err *err) MUST_USE;

#endif
