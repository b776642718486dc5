#include "cli/list.h"

#include <math.h>
#include <string.h>

#include "config/config.h"
#include "data/dataset.h"
#include "models/models.h"
#include "store/store.h"

/* " [block, bits]", or nothing. */
static void list_settings(FILE *fp, const char *const *keys)
{
    for (const char *const *k = keys; k && *k; k++) {
        fprintf(fp, "%s%s%s", k == keys ? " [" : ", ", *k, k[1] ? "" : "]");
    }
}

static void list_policies(FILE *fp)
{
    size_t n;
    const struct store_policy *const *p = store_policies(&n);
    for (size_t i = 0; i < n; i++) {
        fprintf(fp, "%-16s %s", p[i]->name, p[i]->summary);
        list_settings(fp, p[i]->keys);
        fprintf(fp, "\n");
    }
}

static void list_models(FILE *fp)
{
    size_t n;
    const struct model_type *const *m = model_types(&n);
    for (size_t i = 0; i < n; i++) {
        int cifar = m[i]->forms >> MODEL_CIFAR & 1, imagenet = m[i]->forms >> MODEL_IMAGENET & 1;
        fprintf(fp, "%-16s %s [form: %s%s%s]\n", m[i]->pattern, m[i]->summary, cifar ? "cifar" : "",
                cifar && imagenet ? ", " : "", imagenet ? "imagenet" : "");
    }
}

static void list_datasets(FILE *fp)
{
    size_t n;
    const struct dataset_type *const *d = dataset_types(&n);
    for (size_t i = 0; i < n; i++) {
        fprintf(fp, "%-16s %s%s%s", d[i]->name, d[i]->summary,
                d[i]->default_path[0] ? ", default path " : "", d[i]->default_path);
        list_settings(fp, d[i]->keys);
        fprintf(fp, "\n");
    }
}

static void list_keys(FILE *fp)
{
    static const char *const types[] = {
        [CONFIG_BOOL] = "bool",   [CONFIG_INT] = "integer",   [CONFIG_REAL] = "number",
        [CONFIG_STRING] = "text", [CONFIG_STRINGS] = "texts", [CONFIG_INTS] = "integers",
    };
    size_t n;
    const struct config_key *k = config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        fprintf(fp, "%-24s %-9s default %s", k[i].path, types[k[i].type],
                k[i].fallback[0] ? k[i].fallback : "(empty)");
        if (k[i].max > k[i].min) {
            fprintf(fp, ", %.16g to %.16g", k[i].min, k[i].max);
        }
        if (k[i].choices) {
            fprintf(fp, ", one of %s", k[i].choices);
        }
        fprintf(fp, "\n%-24s %s\n", "", k[i].help);
    }
}

int list_write(const char *what, FILE *fp, struct err *err)
{
    static const struct {
        const char *name;
        void (*list)(FILE *fp);
    } lists[] = {{"policies", list_policies},
                 {"models", list_models},
                 {"datasets", list_datasets},
                 {"keys", list_keys}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (strcmp(what, lists[i].name) == 0) {
            lists[i].list(fp);
            return 0;
        }
    }
    return err_set(err, ERR_CONFIG, "--list: \"%s\" is none of: policies, models, datasets, keys",
                   what);
}
