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

/* File order is [k][c][rs], memory order [rs][c][k]. */
static void reorder(const struct param *p, const real *src, real *dst, int to_file)
{
    size_t k_n = p->n, c_n = 1, rs_n = 1; /* a vector is [k] in both orders */
    if (p->layout != PARAM_VECTOR) {
        k_n = p->dims[0];
        c_n = p->dims[1];
    }
    if (p->layout == PARAM_OIHW) {
        rs_n = p->dims[2] * p->dims[3];
    }
    for (size_t k = 0; k < k_n; k++) {
        for (size_t c = 0; c < c_n; c++) {
            for (size_t rs = 0; rs < rs_n; rs++) {
                size_t file = (k * c_n + c) * rs_n + rs;
                size_t memory = (rs * c_n + c) * k_n + k;
                if (to_file) {
                    dst[file] = src[memory];
                } else {
                    dst[memory] = src[file];
                }
            }
        }
    }
}

void param_to_file_order(const struct param *p, const real *memory, real *file)
{
    reorder(p, memory, file, 1);
}

void param_from_file_order(const struct param *p, const real *file, real *memory)
{
    reorder(p, file, memory, 0);
}
