/* Evaluation of given weights, without training. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "data/loader.h"
#include "run/run.h"
#include "tensor/npy.h"

static int evaluate(struct session *s, const char *logits_path, struct eval_result *out,
                    struct err *err)
{
    struct exec exec = {0};
    struct loader *loader = NULL;
    real *logits = NULL;
    if (session_open_data(s, err) || session_exec(s, 0, &exec, err)) {
        return (int)err->code;
    }
    size_t n = dataset_size(s->dataset, DATA_TEST);
    size_t classes = s->graph.values[s->graph.output].shape.c;
    struct loader_config lc = {
        .dataset = s->dataset, .split = DATA_TEST, .batch_size = exec.cfg.eval_batch_size};
    if (logits_path) {
        logits = mem_calloc(MEM_OTHER, n * classes, sizeof *logits);
        if (!logits) {
            err_nomem(err, "the logits", n * classes * sizeof *logits);
            goto out;
        }
    }
    if (loader_new(&lc, &loader, err) || trainer_evaluate(&exec, loader, NULL, logits, out, err)) {
        goto out;
    }
    if (!isfinite(out->loss)) {
        (void)!err_set(err, ERR_DIVERGED,
                       "%s: the loss on %zu test images is %s: these weights come from a training "
                       "that diverged, or from another network",
                       s->cfg.model.init, n, isnan(out->loss) ? "not a number" : "infinite");
        goto out;
    }
    if (logits) {
        size_t dims[2] = {n, classes};
        (void)!npy_write(logits_path, (const float *)(const void *)logits, 2, dims, err);
    }
out:
    loader_free(loader);
    mem_free(logits);
    exec_fini(&exec);
    return (int)err->code;
}

int run_evaluate(const struct config *cfg, const struct job *job, const char *logits_path,
                 struct eval_result *out, struct err *err)
{
    if (!cfg->model.init[0]) {
        return err_set(err, ERR_CONFIG,
                       "--evaluate needs weights: set model.init to a safetensors file "
                       "(--set model.init=FILE)");
    }
    struct session session;
    if (session_init(&session, cfg, job, err)) {
        return (int)err->code;
    }
    (void)!evaluate(&session, logits_path, out, err);
    session_fini(&session);
    return (int)err->code;
}
