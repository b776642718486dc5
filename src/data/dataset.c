/* The table of data sets, and what is the same for all of them. */
#include "data/dataset.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "data/dataset_priv.h"

#define X(symbol) extern const struct dataset_type dataset_##symbol;
#include "data/data.def"
#undef X

static const struct dataset_type *const types[] = {
#define X(symbol) &dataset_##symbol,
#include "data/data.def"
#undef X
};

enum { N_TYPES = sizeof types / sizeof types[0] };

const struct dataset_type *const *dataset_types(size_t *n)
{
    *n = N_TYPES;
    return types;
}

const struct dataset_type *dataset_find(const char *name)
{
    for (size_t i = 0; i < N_TYPES; ++i) {
        if (name != NULL && strcmp(types[i]->name, name) == 0) {
            return types[i];
        }
    }
    return NULL;
}

/* As dataset_find, but unknown names are ERR_CONFIG. */
static int type_get(const char *name, const struct dataset_type **type, struct err *err)
{
    *type = dataset_find(name);
    if (*type != NULL) {
        return 0;
    }
    const char *names[N_TYPES];
    struct str list = {0};
    for (size_t i = 0; i < N_TYPES; ++i) {
        names[i] = types[i]->name;
        str_addf(&list, "%s%s", i == 0 ? "" : ", ", names[i]);
    }
    const char *asked = name != NULL ? name : "";
    const char *near = str_nearest(asked, names, N_TYPES);
    const int rc = err_set(err, ERR_CONFIG, "unknown data set '%s'%s%s%s; the data sets are: %s",
                           asked, near != NULL ? " (did you mean " : "", near != NULL ? near : "",
                           near != NULL ? "?)" : "", list.s != NULL ? list.s : "(out of memory)");
    str_fini(&list);
    return rc;
}

static int takes(const struct dataset_type *type, const char *key)
{
    for (const char *const *k = type->keys; k != NULL && *k != NULL; ++k) {
        if (strcmp(*k, key) == 0) {
            return 1;
        }
    }
    return 0;
}

/* What the type does not take may still say what its images are like. */
static int describe(const struct dataset_type *type, const struct dataset_config *cfg,
                    struct dataset_info *info, struct err *err)
{
    struct dataset_info found = {0};
    const int rc = type->describe(cfg, &found, err);
    if (rc != 0) {
        return rc;
    }
    const struct {
        const char *key;
        size_t asked, has;
    } settings[] = {{"size", cfg->size, found.height}, {"channels", cfg->channels, found.channels}};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; ++i) {
        if (settings[i].asked != 0 && settings[i].asked != settings[i].has &&
            !takes(type, settings[i].key)) {
            return err_set(err, ERR_CONFIG,
                           "data.%s is %zu, but the data set %s has %zu and does not take it: "
                           "leave it out or set it to 0",
                           settings[i].key, settings[i].asked, type->name, settings[i].has);
        }
    }
    *info = found;
    return 0;
}

int dataset_describe(const struct dataset_config *cfg, struct dataset_info *info, struct err *err)
{
    const struct dataset_type *type;
    const int rc = type_get(cfg->name, &type, err);
    return rc != 0 ? rc : describe(type, cfg, info, err);
}

int dataset_open(const struct dataset_config *cfg, struct dataset **out, struct err *err)
{
    const struct dataset_type *type;
    int rc = type_get(cfg->name, &type, err);
    if (rc != 0) {
        return rc;
    }
    struct dataset *ds = mem_alloc(MEM_OTHER, sizeof *ds);
    if (ds == NULL) {
        return err_nomem(err, "a data set", sizeof *ds);
    }
    ds->type = type;
    rc = describe(type, cfg, &ds->info, err);
    if (rc == 0) {
        rc = type->open(cfg, ds, err);
    }
    if (rc != 0) {
        mem_free(ds);
        return rc;
    }
    *out = ds;
    return 0;
}

int dataset_read(const struct dataset *ds, enum data_split split, size_t index, uint8_t *pixels,
                 uint32_t *label, struct err *err)
{
    if (index >= dataset_size(ds, split)) {
        return err_set(err, ERR_RANGE, "image %zu of the %s split of %s, which has %zu", index,
                       dataset_split_name(split), ds->type->name, dataset_size(ds, split));
    }
    return ds->type->read(ds, split, index, pixels, label, err);
}

size_t dataset_size(const struct dataset *ds, enum data_split split)
{
    return split == DATA_TRAIN ? ds->info.n_train : ds->info.n_test;
}

void dataset_close(struct dataset *ds)
{
    if (ds != NULL) {
        ds->type->close(ds);
        mem_free(ds);
    }
}
