/* Weights are written and read a piece at a time: a second copy of them would be the highest memory
 * use of many a run. */
#include "run/weights.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/safetensors.h"

static const char tracked[] = "num_batches_tracked";
static const char running_var[] = "running_var";

/* "bn1.running_var" -> "bn1.num_batches_tracked"; NULL for other names. */
static const char *tracked_name(const char *param, char buf[256])
{
    size_t len = strlen(param), suffix = sizeof running_var - 1;
    if (len <= suffix || strcmp(param + len - suffix, running_var) != 0) {
        return NULL;
    }
    snprintf(buf, 256, "%.*s%s", (int)(len - suffix), param, tracked);
    return buf;
}

static int is_tracked(const char *name)
{
    size_t len = strlen(name), suffix = sizeof tracked - 1;
    return len > suffix && strcmp(name + len - suffix, tracked) == 0;
}

static void fill_piece(const void *param, size_t first, size_t n, void *out)
{
    const struct param *p = param;
    param_get_in_file_order(p, p->w, first, n, out);
}

int weights_save(const struct graph *g, const char *path, size_t steps, const char *const *meta,
                 size_t n_meta, struct err *err)
{
    size_t n = 0;
    struct safetensors_entry *entries = mem_calloc(MEM_OTHER, 2 * g->n_params, sizeof *entries);
    char(*names)[256] = mem_calloc(MEM_OTHER, g->n_params, sizeof *names);
    int64_t count = (int64_t)steps;
    int rc = 0;
    if (!entries || !names) {
        rc = err_nomem(err, "writing the weights", g->n_params * sizeof *names);
        goto out;
    }
    for (size_t i = 0; i < g->n_params; i++) {
        const struct param *p = &g->params[i];
        struct safetensors_entry *e = &entries[n++];
        *e = (struct safetensors_entry){
            .name = p->name,
            .type = sizeof(real) == 4 ? SAFETENSORS_F32 : SAFETENSORS_F64,
            .n_dims = p->n_dims,
            .data = p,
            .fill = fill_piece,
        };
        memcpy(e->dims, p->dims, sizeof p->dims);
        if (tracked_name(p->name, names[i])) {
            entries[n++] = (struct safetensors_entry){
                .name = names[i], .type = SAFETENSORS_I64, .data = &count};
        }
    }
    rc = safetensors_write(path, entries, n, meta, n_meta, err);
out:
    mem_free(entries);
    mem_free(names);
    return rc;
}

static int shapes_agree(const struct param *p, const struct safetensors_entry *e)
{
    if (p->n_dims != e->n_dims) {
        return 0;
    }
    for (size_t i = 0; i < p->n_dims; i++) {
        if (p->dims[i] != e->dims[i]) {
            return 0;
        }
    }
    return 1;
}

static void shape_text(char *buf, size_t cap, const size_t *dims, size_t n)
{
    size_t len = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < n && len < cap; i++) {
        int w = snprintf(buf + len, cap - len, "%s%zu", i ? " x " : "", dims[i]);
        len += w > 0 ? (size_t)w : 0;
    }
}

int weights_check(const struct graph *g, struct err *err)
{
    for (size_t i = 0; i < g->n_params; i++) {
        const struct param *p = &g->params[i];
        for (size_t j = 0; j < p->n; j++) {
            if (!isfinite(p->w[j])) {
                return err_set(err, ERR_DIVERGED,
                               "a value of %s is %g: training diverged; try a smaller train.lr or "
                               "train.warmup_epochs",
                               p->name, (double)p->w[j]);
            }
        }
    }
    return 0;
}

/* One piece of a parameter: checked, and put where it belongs. */
static int load_piece(struct param *p, const struct safetensors_entry *e, size_t first, size_t n,
                      const void *piece, struct err *err)
{
    real values[SAFETENSORS_PIECE];
    for (size_t i = 0; i < n; i++) {
        double v = e->type == SAFETENSORS_F64 ? ((const double *)piece)[i]
                                              : (double)((const float *)piece)[i];
        if (!isfinite(v)) {
            return err_set(err, ERR_FORMAT, "%s: element %zu is %g", p->name, first + i, v);
        }
        values[i] = (real)v;
    }
    param_put_in_file_order(p, values, first, n, p->w);
    return 0;
}

static int load_param(struct param *p, const struct safetensors_file *f, struct err *err)
{
    const struct safetensors_entry *e = safetensors_find(f, p->name);
    if (!shapes_agree(p, e)) {
        char found[128], expected[128];
        shape_text(found, sizeof found, e->dims, e->n_dims);
        shape_text(expected, sizeof expected, p->dims, p->n_dims);
        return err_set(err, ERR_FORMAT,
                       "%s is %s, the network's is %s (another model, or model.classes?)", p->name,
                       e->n_dims ? found : "a single number", expected);
    }
    if (e->type == SAFETENSORS_I64) {
        return err_set(err, ERR_FORMAT, "%s holds integers, expected floating-point numbers",
                       p->name);
    }
    double piece[SAFETENSORS_PIECE]; /* of doubles or of floats */
    for (size_t first = 0; first < p->n; first += SAFETENSORS_PIECE) {
        size_t n = p->n - first < SAFETENSORS_PIECE ? p->n - first : SAFETENSORS_PIECE;
        if (safetensors_load(f, e, first, n, piece, err) ||
            load_piece(p, e, first, n, piece, err)) {
            return (int)err->code;
        }
    }
    return 0;
}

static int load_all(struct graph *g, const struct safetensors_file *f, struct err *err)
{
    for (size_t i = 0; i < g->n_params; i++) {
        const struct param *p = &g->params[i];
        if (!safetensors_find(f, p->name)) {
            return err_set(err, ERR_FORMAT, "it has no tensor %s, which the network needs",
                           p->name);
        }
    }
    for (size_t i = 0; i < f->n_entries; i++) {
        const char *name = f->entries[i].name;
        if (!is_tracked(name) && !graph_find_param(g, name)) {
            return err_set(err, ERR_FORMAT, "it has a tensor %s, which the network does not know",
                           name);
        }
    }
    for (size_t i = 0; i < g->n_params; i++) {
        if (load_param(&g->params[i], f, err)) {
            return (int)err->code;
        }
    }
    return 0;
}

int weights_load(struct graph *g, const char *path, struct err *err)
{
    struct safetensors_file f;
    if (safetensors_open(path, &f, err)) {
        return (int)err->code;
    }
    if (load_all(g, &f, err)) {
        err_add(err, "%s", path);
    }
    safetensors_fini(&f);
    return (int)err->code;
}
