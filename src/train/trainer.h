/* The training loop: epochs, steps, evaluation. Reports through callbacks; prints nothing and opens
 * no files. After trainer_init nothing is allocated. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "data/loader.h"
#include "kernels/sgd.h"
#include "nn/exec.h"
#include "train/schedule.h"

struct train_step_info {
    size_t epoch; /* from 0 */
    size_t step;  /* of the whole run, from 0 */
    size_t epoch_step, n_epoch_steps;
    size_t n; /* samples of this batch: of all its micro-batches */
    double lr;
    double loss;         /* mean over the batch */
    double epoch_loss;   /* mean over the epoch so far */
    double epoch_top1;   /* percent, the epoch so far */
    double images_per_s; /* the epoch so far */
    double elapsed_s;    /* since the run's first step */
    double left_s;       /* estimate for the whole run */
};

/* What is known when an epoch ends. Percentages 0..100; NaN where nothing was evaluated. */
struct train_epoch_info {
    size_t epoch; /* finished epochs: from 1 */
    double lr;    /* of the last step */
    double train_loss, train_top1;
    double test_loss, test_top1, test_top5, best_top1;
    int is_best; /* this epoch's test_top1 is the highest so far, and the first such; the test loss
                    is finite */
    double epoch_s, data_wait_s, forward_s, backward_s, encode_s, decode_s, update_s, images_per_s;
    size_t saved_bytes;         /* of a full batch, or micro-batch; 0 if there was none */
    size_t spilled_bytes;       /* likewise */
    const size_t *saved_pieces; /* [STORE_N_PIECES], likewise */
    size_t live_peak_bytes;
};

struct train_hooks {
    void *ctx;
    /* Each may be NULL. A non-zero return ends the run with that code; err is then filled. */
    int (*on_step)(void *ctx, const struct train_step_info *info, struct err *err);
    int (*on_epoch)(void *ctx, const struct train_epoch_info *info, struct err *err);
    int (*should_stop)(void *ctx); /* asked after every step and before every batch of a test:
                                      non-zero ends with ERR_INTERRUPTED, and the test's epoch is
                                      then not reported */
};

struct train_config {
    struct exec *exec;           /* borrowed; its hooks are taken over */
    const struct dataset *train; /* borrowed */
    const struct dataset *test;  /* borrowed; usually the same */
    size_t batch_size, eval_batch_size, epochs;
    size_t accumulate; /* micro-batches per batch (data/micro_batch.h); 0: whole batches. More than
                          one needs the graph's gradients allocated */
    size_t max_steps;  /* 0: no limit */
    size_t eval_every; /* epochs; the last one is always evaluated */
    int shuffle, drop_last;
    unsigned augment;
    uint64_t seed;
    struct sgd_params sgd; /* lr is set by the schedule */
    struct schedule schedule;
};

struct trainer {
    struct train_config cfg;
    struct loader *train, *test;
    size_t step;           /* steps done: updates of the weights */
    int is_first, is_last; /* the micro-batch under way is its batch's first, last */
    double lr, best_top1, start_s;
    int best_seen; /* best_top1 is meaningful */
};

int trainer_init(struct trainer *t, const struct train_config *cfg, struct err *err) MUST_USE;
void trainer_fini(struct trainer *t);

/* Trains to the end. ERR_DIVERGED (a loss is not finite: step, epoch, loss), ERR_INTERRUPTED,
 * read errors, a hook's error. */
int trainer_run(struct trainer *t, const struct train_hooks *hooks, struct err *err) MUST_USE;

struct eval_result {
    double loss, top1, top5; /* mean; percent */
    size_t n;
};

/* The whole split of `loader` in evaluation mode. Of hooks (NULL: none) should_stop alone is used.
 * logits [n_samples][classes] or NULL, rows in the order of the split. */
int trainer_evaluate(struct exec *exec, struct loader *loader, const struct train_hooks *hooks,
                     real *logits, struct eval_result *out, struct err *err) MUST_USE;

#endif
