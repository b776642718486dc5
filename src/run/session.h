/* A session: one job of a config with everything it needs built, from the config to the executor.
 * Without data it can be planned and described; opened, it can train or evaluate. */
#ifndef RUN_SESSION_H
#define RUN_SESSION_H

#include <stddef.h>

#include "base/err.h"
#include "config/config.h"
#include "data/dataset.h"
#include "kernels/kernels.h"
#include "nn/exec.h"
#include "nn/graph.h"
#include "run/job.h"
#include "store/store.h"
#include "train/trainer.h"

/* Bytes that a run will need, item by item. */
struct session_memory {
    size_t params, momentum; /* weights and running statistics; momentum */
    size_t gradients;        /* sums over micro-batches; 0 without train.accumulate */
    size_t data;             /* batches of the loaders, data sets held in memory */
    size_t peak;             /* highest sum of live buffers in the arena */
    size_t arena;            /* the arena's extent */
    size_t base;             /* resident before any of this: program, libraries, stacks, plans */
};

/* planned_peak_bytes: parameters, momentum, summed gradients, data, and the arena's live peak. */
size_t session_memory_planned(const struct session_memory *m);
/* What the process's high-water mark should come to. */
size_t session_memory_expected(const struct session_memory *m);

struct session {
    struct config cfg;
    struct job job;
    int n_threads;
    size_t batch_size, eval_batch_size;
    size_t accumulate, micro_batch_size; /* parts of a batch, images of the largest; 1: all of it */
    unsigned augment;
    struct dataset_config data_config;
    struct dataset_info info;
    struct dataset *dataset; /* NULL until session_open_data */
    struct kernels kernels;
    struct graph graph;
    struct store store;
    size_t normal_saved_bytes;    /* what `normal` saves for this network and whole batch */
    struct session_memory memory; /* filled by session_exec */
};

/* Builds all that needs no data, with the batch that fits if the job wants that: checks the config's meaning, kernels, network, policy. Sets the
 * number of OpenMP threads. ERR_CONFIG, ERR_SHAPE, ERR_UNSUPPORTED, ERR_NOMEM. */
int session_init(struct session *s, const struct config *cfg, const struct job *job,
                 struct err *err) MUST_USE;
void session_fini(struct session *s);

/* Finds what session_init, and with training != 0 session_exec and session_train_config, would
 * refuse in the config of a job from job_list_make, in a moment and without taking anything. The
 * data, the weights of model.init and the memory are not looked at. */
int session_check(const struct config *cfg, const struct job *job, int training, struct err *err)
    MUST_USE;

/* The plans' context: kernels, threads, batch-norm's groups. */
struct layer_context session_context(const struct session *s);

/* Another batch size than the config's, with what depends on it. */
void session_set_batch(struct session *s, size_t batch);

/* Do that batch, and the last one of an epoch, do for batch-norm? ERR_CONFIG. */
int session_check_batch(const struct session *s, struct err *err) MUST_USE;

/* Images of an evaluation batch: no more than there are, as far as that is known. */
size_t session_eval_batch(const struct session *s);

/* Opens and checks the data set, which may have the wrong number of classes: ERR_CONFIG. A batch
 * that was made to fit is made so again if only now it is known how many images there are. */
int session_open_data(struct session *s, struct err *err) MUST_USE;

/* Parameters (drawn from the seed, or read from model.init), plans and arena. training = 0:
 * evaluation only. ERR_NOMEM if the run cannot fit into its budget or this machine's memory,
 * ERR_CONFIG if the last batch of the opened data set does not do for batch-norm. */
int session_exec(struct session *s, int training, struct exec *exec, struct err *err) MUST_USE;

/* The trainer's settings from the config. */
int session_train_config(const struct session *s, struct exec *exec, struct train_config *out,
                         struct err *err) MUST_USE;

#endif
