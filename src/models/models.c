#include "models/models.h"

#include <string.h>

#include "base/str.h"

#define X(symbol) extern const struct model_type model_##symbol;
#include "models/models.def"
#undef X

static const struct model_type *const types[] = {
#define X(symbol) &model_##symbol,
#include "models/models.def"
#undef X
};
enum { N_TYPES = sizeof types / sizeof *types };

const struct model_type *const *model_types(size_t *n)
{
    *n = N_TYPES;
    return types;
}

const struct model_type *model_find(const char *name)
{
    for (size_t i = 0; i < N_TYPES; i++) {
        if (types[i]->matches ? types[i]->matches(name) : strcmp(name, types[i]->pattern) == 0) {
            return types[i];
        }
    }
    return NULL;
}

int model_form_parse(const char *name, enum model_form *form, struct err *err)
{
    if (strcmp(name, "cifar") == 0) {
        *form = MODEL_CIFAR;
    } else if (strcmp(name, "imagenet") == 0) {
        *form = MODEL_IMAGENET;
    } else {
        return err_set(err, ERR_CONFIG, "model.form: \"%s\" is none of: cifar, imagenet", name);
    }
    return 0;
}

static int unknown_model(const char *name, struct err *err)
{
    const char *patterns[N_TYPES];
    struct str list = {0};
    for (size_t i = 0; i < N_TYPES; i++) {
        patterns[i] = types[i]->pattern;
        str_addf(&list, "%s%s", i ? ", " : "", patterns[i]);
    }
    const char *near = str_nearest(name, patterns, N_TYPES);
    err_set(err, ERR_CONFIG, "model.name: unknown model \"%s\"%s%s%s; valid ones: %s", name,
            near ? " (did you mean " : "", near ? near : "", near ? "?)" : "",
            list.s ? list.s : "");
    str_fini(&list);
    return (int)err->code;
}

int model_build(const struct model_config *cfg, struct graph *g, struct err *err)
{
    const struct model_type *type = model_find(cfg->name);
    if (!type) {
        return unknown_model(cfg->name, err);
    }
    if (!(type->forms & 1U << cfg->form)) {
        return err_set(err, ERR_CONFIG, "model.form: %s exists only in the form \"%s\"", cfg->name,
                       cfg->form == MODEL_CIFAR ? "imagenet" : "cifar");
    }
    if (cfg->dropout > 0 && !type->has_dropout) {
        return err_set(err, ERR_CONFIG, "model.dropout: %s has no dropout; set it to 0", cfg->name);
    }
    if (graph_init(g, cfg->channels, cfg->height, cfg->width, err)) {
        return (int)err->code;
    }
    uint32_t logits = type->build(g, cfg);
    if (graph_finish(g, logits, err)) {
        graph_fini(g);
        return err_add(err, "%s on %zu x %zu images", cfg->name, cfg->height, cfg->width);
    }
    return 0;
}
