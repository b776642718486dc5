/* The codec of the installed library: one activation tensor to about 2.3 bits per value and back.
 *
 *   cc -fopenmp codec.c $(pkg-config --cflags --libs division) -lm -o codec && ./codec
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "kernels/codec.h"
#include "kernels/kernels.h"

int main(void)
{
    struct err err = {0};
    struct kernels kernels;
    if (kernels_fill(&kernels, "auto", &err) != 0) { /* the best loops for this processor */
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }

    /* 8 images of 32 x 32 pixels with 64 channels, channels innermost. */
    const struct shape shape = {.n = 8, .h = 32, .w = 32, .c = 64};
    const struct codec_spec spec = {
        .kind = CODEC_MAP, /* one minimum and step per image and channel */
        .bits = 2,         /* per value */
        .block = 8,        /* means of 8 x 8 pixels are kept as well */
        .stochastic = 1,   /* E[decoded] = x */
    };
    const size_t n = shape_elements(&shape);
    const size_t bytes = codec_bytes(&spec, &shape, NULL);
    const int n_threads = 2;
    const size_t workspace_bytes = codec_workspace_bytes(&spec, &shape, n_threads);
    float *x = malloc(n * sizeof(*x)), *decoded = malloc(n * sizeof(*decoded));
    void *code = malloc(bytes), *workspace = malloc(workspace_bytes + 1);
    if (x == NULL || decoded == NULL || code == NULL || workspace == NULL) {
        fprintf(stderr, "out of memory\n");
        return 1;
    }
    const struct rng values = rng_make(0, RNG_TEST, 0, 0);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)rng_normal(&values, i);
    }

    const struct tensor in = tensor_view(x, shape);
    struct tensor out = tensor_view(decoded, shape);
    const struct rng random_bits = rng_make(0, RNG_QUANTISE, 0,
                                            0); /* seed, purpose, step, stream */
    codec_encode(&kernels, &spec, &in, &random_bits, code, workspace, n_threads);
    const struct codec_block whole = {.n1 = shape.n, .h1 = shape.h, .c1 = shape.c};
    codec_decode(&kernels, &spec, &shape, code, &whole, &out, n_threads);

    double sum = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double error = (double)decoded[i] - (double)x[i];
        sum += error;
        largest = fmax(largest, fabs(error));
    }
    printf("%zu values, %.3f bits per value, mean error %.5f, largest %.3f\n", n,
           8.0 * (double)bytes / (double)n, sum / (double)n, largest);
    free(x);
    free(decoded);
    free(code);
    free(workspace);
    return largest < 4 ? 0 : 1;
}
