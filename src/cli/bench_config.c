/* From the options of division-bench to a config. */
#include <stdio.h>
#include <stdlib.h>

#include "base/sys.h"
#include "base/threads.h"
#include "cli/bench.h"
#include "models/models.h"

static int set(struct config *cfg, const char *option, const char *key, const char *value,
               struct err *err)
{
    char text[2 * CONFIG_TEXT];
    if (!value) {
        return 0;
    }
    const int len = snprintf(text, sizeof text, "%s=%s", key, value);
    if (len < 0 || (size_t)len >= sizeof text) {
        return err_set(err, ERR_CONFIG, "%s: the value is too long", option);
    }
    return config_set(cfg, text, err) ? err_add(err, "%s", option) : 0;
}

/* Images of 64 pixels and more take the ImageNet stem, smaller ones that of CIFAR, where the model
 * has both. */
static int set_form(struct config *cfg, const char *size, struct err *err)
{
    const struct model_type *type = model_find(cfg->model.name);
    if (!type) {
        return 0; /* model_build says what is wrong */
    }
    const int has_cifar = type->forms >> MODEL_CIFAR & 1,
              has_imagenet = type->forms >> MODEL_IMAGENET & 1;
    const int large = size ? cfg->data.size >= 64 : !has_cifar;
    const int imagenet = has_imagenet && (large || !has_cifar);
    return set(cfg, "--size", "data.size",
               size       ? size
               : imagenet ? "224"
                          : "32",
               err) ||
                   set(cfg, "--model", "model.form", imagenet ? "imagenet" : "cifar", err) ||
                   set(cfg, "--model", "model.classes", imagenet ? "1000" : "10", err)
               ? (int)err->code
               : 0;
}

int bench_override(const struct bench_options *o, struct config *cfg, struct err *err)
{
    if (set(cfg, "--batch", "train.batch_size", o->batch, err) ||
        set(cfg, "--algorithm", "kernels.algorithm", o->algorithm, err) ||
        set(cfg, "--threads", "run.threads", o->threads, err) ||
        set(cfg, "--isa", "kernels.isa", o->isa, err)) {
        return (int)err->code;
    }
    for (size_t i = 0; i < o->n_settings; i++) {
        if (config_set(cfg, o->settings[i], err)) {
            return (int)err->code;
        }
    }
    return 0;
}

/* With a rate of 0 a step does all its work and weights stay as drawn: however long it is measured,
 * no policy can diverge. */
int bench_config(const struct bench_options *o, const char *policy, struct config *cfg,
                 struct err *err)
{
    static const char fixed[] = "the made-up images";
    config_defaults(cfg);
    if (set(cfg, "--model", "model.name", o->model ? o->model : "resnet18", err) ||
        set(cfg, "--size", "data.size", o->size, err) ||
        set(cfg, fixed, "data.name", "synthetic", err) ||
        set(cfg, fixed, "data.augment", "[]", err) || set(cfg, fixed, "train.lr", "0", err) ||
        set(cfg, fixed, "train.schedule", "constant", err) || set_form(cfg, o->size, err) ||
        (policy && config_set_policy(cfg, policy, 0, err))) {
        return (int)err->code;
    }
    return bench_override(o, cfg, err);
}

int bench_job(const struct bench_options *o, const char *policy, struct config *cfg,
              struct job *job, struct err *err)
{
    struct job_list jobs;
    if (bench_config(o, policy, cfg, err) || job_list_make(cfg, &jobs, err)) {
        return (int)err->code;
    }
    if (jobs.n != 1) {
        (void)err_set(err, ERR_CONFIG,
                      "--set: expected one seed and one value of each key, found %zu runs", jobs.n);
    }
    *job = jobs.jobs[0];
    job_list_fini(&jobs);
    return (int)err->code;
}

int bench_set_threads(const struct config *cfg)
{
    const int n = cfg->run.threads ? (int)cfg->run.threads : sys_n_cpus();
    threads_set(n);
    return n;
}
