/* Parameters: allocation, initial values, and the two orders (memory and PyTorch's files). */
#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "nn/graph.h"

int graph_alloc_params(struct graph *g, struct err *err)
{
    for (size_t i = 0; i < g->n_params; i++) {
        struct param *p = &g->params[i];
        p->w = mem_calloc(MEM_PARAM, p->n, sizeof(real));
        if (!p->w) {
            return err_nomem(err, p->name, p->n * sizeof(real));
        }
        if (p->trainable) {
            p->momentum = mem_calloc(MEM_OPTIMIZER, p->n, sizeof(real));
            if (!p->momentum) {
                return err_nomem(err, p->name, p->n * sizeof(real));
            }
        }
    }
    return 0;
}

int graph_alloc_gradients(struct graph *g, struct err *err)
{
    for (size_t i = 0; i < g->n_params; i++) {
        struct param *p = &g->params[i];
        if (p->trainable) {
            p->gradient = mem_calloc(MEM_GRAD, p->n, sizeof(real));
            if (!p->gradient) {
                return err_nomem(err, p->name, p->n * sizeof(real));
            }
        }
    }
    return 0;
}

void graph_init_params(struct graph *g, uint64_t seed)
{
    for (size_t i = 0; i < g->n_params; i++) {
        struct param *p = &g->params[i];
        struct rng rng = rng_make(seed, RNG_INIT, 0, (uint32_t)i);
        for (size_t e = 0; e < p->n; e++) {
            double v = p->init_value;
            if (p->init == PARAM_INIT_NORMAL) {
                v *= rng_normal(&rng, e);
            } else if (p->init == PARAM_INIT_UNIFORM) {
                v *= 2 * rng_uniform(&rng, e) - 1;
            }
            p->w[e] = (real)v;
            if (p->momentum) {
                p->momentum[e] = 0;
            }
        }
    }
}

/* Where element `file` of the file's order [k][c][rs] lies in memory, [rs][c][k]. */
static size_t memory_index(const struct param *p, size_t file)
{
    if (p->layout == PARAM_VECTOR) {
        return file;
    }
    size_t k_n = p->dims[0], c_n = p->dims[1];
    size_t rs_n = p->layout == PARAM_OIHW ? p->dims[2] * p->dims[3] : 1;
    size_t rs = file % rs_n, c = file / rs_n % c_n, k = file / rs_n / c_n;
    return (rs * c_n + c) * k_n + k;
}

void param_get_in_file_order(const struct param *p, const real *memory, size_t first, size_t n,
                             real *file)
{
    for (size_t i = 0; i < n; i++) {
        file[i] = memory[memory_index(p, first + i)];
    }
}

void param_put_in_file_order(const struct param *p, const real *file, size_t first, size_t n,
                             real *memory)
{
    for (size_t i = 0; i < n; i++) {
        memory[memory_index(p, first + i)] = file[i];
    }
}

void param_to_file_order(const struct param *p, const real *memory, real *file)
{
    param_get_in_file_order(p, memory, 0, p->n, file);
}

void param_from_file_order(const struct param *p, const real *file, real *memory)
{
    param_put_in_file_order(p, file, 0, p->n, memory);
}
