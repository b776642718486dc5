/* Softmax cross-entropy, one sample at a time, in double. */
#include "kernels/loss.h"

#include <assert.h>
#include <math.h>

/* Samples whose results wait on the stack to be summed in order. */
#define CHUNK 256u

/* Exponentials below which a parallel region does not pay. */
#define PARALLEL_MIN_EXPS 8192u

struct sample_loss {
    double loss;
    size_t rank;
};

/* dz may be z: each element is read for the last time before it is written. */
static struct sample_loss sample_xent(const real *z, size_t n_classes, size_t label,
                                      double smoothing, double scale, real *dz)
{
    const double z_label = (double)z[label];
    double z_max = -HUGE_VAL;
    size_t rank = 0;
    for (size_t i = 0; i < n_classes; i++) {
        const double v = (double)z[i];
        z_max = v > z_max ? v : z_max;
        rank += v > z_label || (v == z_label && i < label);
    }

    double sum = 0;
    for (size_t i = 0; i < n_classes; i++) {
        sum += exp((double)z[i] - z_max);
    }
    const double log_sum = log(sum);
    double loss = (1 - smoothing) * (log_sum - (z_label - z_max));
    if (smoothing > 0) { /* not 0 * infinity where a class is impossible */
        double all = 0;
        for (size_t i = 0; i < n_classes; i++) {
            all += log_sum - ((double)z[i] - z_max);
        }
        loss += smoothing * all / (double)n_classes;
    }

    if (dz) {
        const double others = smoothing / (double)n_classes;
        for (size_t i = 0; i < n_classes; i++) {
            const double target = others + (i == label ? 1 - smoothing : 0);
            dz[i] = (real)(scale * (exp((double)z[i] - z_max) / sum - target));
        }
    }
    return (struct sample_loss){loss, isnan(z_label) ? SIZE_MAX : rank};
}

void softmax_xent(const struct tensor *logits, const uint32_t *labels, double smoothing,
                  double scale, struct tensor *dlogits, struct loss_result *result)
{
    const size_t n = logits->shape.n;
    const size_t n_classes = logits->shape.c;
    assert(logits->shape.h == 1 && logits->shape.w == 1);
    assert(!dlogits || (dlogits->shape.n == n && dlogits->shape.c == n_classes));

    struct loss_result r = {0};
    for (size_t first = 0; first < n; first += CHUNK) {
        struct sample_loss chunk[CHUNK];
        const size_t n_chunk = n - first < CHUNK ? n - first : CHUNK;

#pragma omp parallel for schedule(static) if (n_chunk * n_classes >= PARALLEL_MIN_EXPS)
        for (size_t i = 0; i < n_chunk; i++) {
            const size_t s = first + i;
            assert(labels[s] < n_classes);
            chunk[i] = sample_xent(logits->data + s * logits->pixel_stride, n_classes, labels[s],
                                   smoothing, scale,
                                   dlogits ? dlogits->data + s * dlogits->pixel_stride : NULL);
        }
        for (size_t i = 0; i < n_chunk; i++) {
            r.loss_sum += chunk[i].loss;
            r.n_top1 += chunk[i].rank < 1;
            r.n_top5 += chunk[i].rank < 5;
        }
    }
    *result = r;
}
