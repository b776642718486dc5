/* Gradients in double precision: every layer and small whole networks against the directional
 * derivative (f(w + h d) - f(w - h d)) / 2h along 20 random directions d, relative 1e-6. */
#include <check.h>
#include <math.h>

#include "tests/nn/net.h"

_Static_assert(sizeof(real) == 8, "this test needs the double library");

static uint32_t head(struct graph *g, uint32_t x)
{
    return graph_linear(g, "fc", graph_global_avg_pool(g, "pool", x), 5);
}

static uint32_t build_conv(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 4, 3, 1, 1, 1);
    x = graph_conv2d(g, "b", x, 5, 3, 2, 1, 0);
    x = graph_conv2d(g, "c", x, 6, 1, 1, 0, 1);
    return head(g, graph_conv2d(g, "d", x, 3, 2, 2, 1, 0));
}

static uint32_t build_strided(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 4, 5, 1, 2, 0);
    x = graph_conv2d(g, "b", x, 5, 3, 3, 0, 1);
    return head(g, graph_conv2d(g, "c", x, 4, 1, 2, 0, 0));
}

static uint32_t build_batch_norm(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 4, 3, 1, 1, 0);
    x = graph_batch_norm(g, "bn", x);
    return head(g, graph_conv2d(g, "b", x, 4, 3, 2, 1, 0));
}

static uint32_t build_relu(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 4, 3, 1, 1, 1);
    x = graph_relu(g, "r1", x);
    x = graph_conv2d(g, "b", x, 9, 3, 1, 1, 0);
    return head(g, graph_relu(g, "r2", x));
}

static uint32_t build_max_pool(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 4, 3, 1, 1, 1);
    x = graph_max_pool(g, "pool1", x, 3, 2, 1);
    return head(g, graph_conv2d(g, "b", x, 4, 1, 1, 0, 0));
}

static uint32_t build_avg_pool(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 4, 3, 1, 1, 1);
    x = graph_avg_pool(g, "pool1", x, 3, 2, 1);
    x = graph_conv2d(g, "b", x, 4, 3, 1, 1, 0);
    return head(g, graph_avg_pool(g, "pool2", x, 2, 2, 0));
}

static uint32_t build_dropout(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "a", 0, 4, 3, 1, 1, 1);
    x = graph_dropout(g, "drop", x, 0.3);
    return head(g, graph_conv2d(g, "b", x, 4, 3, 1, 1, 0));
}

/* Additions in every sharing pattern: a value with itself, a chain on one value, two branches that
 * join again, a value that is read before, inside and after the branch. */
static uint32_t build_add(struct graph *g)
{
    uint32_t a = graph_conv2d(g, "a", 0, 4, 3, 1, 1, 1);
    uint32_t twice = graph_add(g, "twice", a, a);
    uint32_t b = graph_conv2d(g, "b", twice, 4, 3, 1, 1, 0);
    uint32_t sum = graph_add(g, "sum", b, a);
    uint32_t c = graph_batch_norm(g, "bn", sum);
    uint32_t d = graph_conv2d(g, "d", sum, 4, 1, 1, 0, 0);
    uint32_t cd = graph_add(g, "cd", c, d);
    uint32_t e = graph_add(g, "e", cd, sum);
    uint32_t f = graph_add(g, "f", e, cd);
    uint32_t h = graph_relu(g, "h", f);
    return head(g, graph_add(g, "last", h, twice));
}

/* A post-activation residual network with a projection, and pooling in front. */
static uint32_t build_residual(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, 4, 3, 1, 1, 0);
    x = graph_relu(g, "stem.relu", graph_batch_norm(g, "stem.bn", x));
    x = graph_max_pool(g, "stem.pool", x, 3, 2, 1);
    uint32_t y = graph_conv2d(g, "1.a", x, 4, 3, 1, 1, 0);
    y = graph_relu(g, "1.r", graph_batch_norm(g, "1.bn", y));
    y = graph_batch_norm(g, "1.bn2", graph_conv2d(g, "1.b", y, 4, 3, 1, 1, 0));
    x = graph_relu(g, "1.out", graph_add(g, "1.add", y, x));
    uint32_t id = graph_batch_norm(g, "2.id.bn", graph_conv2d(g, "2.id", x, 6, 1, 2, 0, 0));
    y = graph_conv2d(g, "2.a", x, 6, 3, 2, 1, 0);
    y = graph_relu(g, "2.r", graph_batch_norm(g, "2.bn", y));
    y = graph_batch_norm(g, "2.bn2", graph_conv2d(g, "2.b", y, 6, 3, 1, 1, 0));
    return head(g, graph_relu(g, "2.out", graph_add(g, "2.add", y, id)));
}

/* Pre-activation with dropout, as in WRN. */
static uint32_t build_preact(struct graph *g)
{
    uint32_t x = graph_conv2d(g, "stem", 0, 4, 3, 1, 1, 0);
    uint32_t p = graph_relu(g, "1.r", graph_batch_norm(g, "1.bn", x));
    uint32_t id = graph_conv2d(g, "1.id", p, 6, 1, 2, 0, 0);
    uint32_t y = graph_conv2d(g, "1.a", p, 6, 3, 2, 1, 0);
    y = graph_dropout(g, "1.drop", graph_relu(g, "1.r2", graph_batch_norm(g, "1.bn2", y)), 0.3);
    x = graph_add(g, "1.add", graph_conv2d(g, "1.b", y, 6, 3, 1, 1, 1), id);
    y = graph_conv2d(g, "2.a", graph_relu(g, "2.r", graph_batch_norm(g, "2.bn", x)), 6, 3, 1, 1, 0);
    x = graph_add(g, "2.add", y, x);
    return head(g, graph_relu(g, "last.r", graph_batch_norm(g, "last", x)));
}

static const struct {
    const char *name;
    net_builder *build;
    size_t n, bn_group;
    double smoothing;
} cases[] = {
    {"conv", build_conv, 3, 0, 0},
    {"conv strided", build_strided, 2, 0, 0},
    {"batch norm", build_batch_norm, 4, 0, 0},
    {"batch norm in groups of 2, the last of 1", build_batch_norm, 5, 2, 0},
    {"relu", build_relu, 3, 0, 0},
    {"max pool", build_max_pool, 3, 0, 0},
    {"avg pool", build_avg_pool, 3, 0, 0},
    {"dropout", build_dropout, 3, 0, 0},
    {"add", build_add, 4, 0, 0},
    {"label smoothing", build_relu, 3, 0, 0.1},
    {"residual", build_residual, 4, 0, 0},
    {"residual in groups of 3", build_residual, 7, 3, 0.1},
    {"preact", build_preact, 4, 0, 0},
};

/* w += h * direction d */
static void move(struct net *net, uint32_t d, double h)
{
    for (size_t i = 0; i < net->graph.n_params; i++) {
        struct param *p = &net->graph.params[i];
        struct rng rng = rng_make(1, RNG_TEST, d, (uint32_t)i);
        for (size_t e = 0; p->trainable && e < p->n; e++) {
            p->w[e] += h * rng_normal(&rng, e);
        }
    }
}

static double along(const struct net *net, uint32_t d)
{
    double sum = 0;
    for (size_t i = 0; i < net->graph.n_params; i++) {
        const struct param *p = &net->graph.params[i];
        struct rng rng = rng_make(1, RNG_TEST, d, (uint32_t)i);
        for (size_t e = 0; p->trainable && e < p->n; e++) {
            sum += net->grad[i][e] * rng_normal(&rng, e);
        }
    }
    return sum;
}

/* Largest relative error over 20 directions; scale: the size of a typical derivative. */
static double worst_error(struct net *net)
{
    static const double h = 1e-6;
    double numeric[20], exact[20], scale = 0, worst = 0;
    net_loss(net, 2);
    for (uint32_t d = 0; d < 20; d++) {
        exact[d] = along(net, d);
        scale += exact[d] * exact[d] / 20;
    }
    for (uint32_t d = 0; d < 20; d++) {
        move(net, d, h);
        double up = net_loss(net, 2);
        move(net, d, -2 * h);
        double down = net_loss(net, 2);
        move(net, d, h);
        numeric[d] = (up - down) / (2 * h);
        double error = fabs(numeric[d] - exact[d]) / sqrt(scale);
        worst = error > worst ? error : worst;
    }
    return worst;
}

START_TEST(gradient_is_the_derivative)
{
    struct net net;
    struct net_options o = {.n = cases[_i].n,
                            .bn_group = cases[_i].bn_group,
                            .smoothing = cases[_i].smoothing,
                            .poison = 1};
    net_init(&net, cases[_i].build, &o);
    double worst = worst_error(&net);
    ck_assert_msg(worst < 1e-6, "%s: relative error %g", cases[_i].name, worst);
    net_fini(&net);
}
END_TEST

/* The check itself must be able to fail. */
START_TEST(a_wrong_gradient_is_noticed)
{
    struct net net;
    struct net_options o = {.n = 4};
    net_init(&net, build_residual, &o);
    net_loss(&net, 2);
    double right = along(&net, 0);
    net.grad[0][0] += 1e-3 * fabs(right);
    ck_assert(fabs(along(&net, 0) - right) > 1e-6 * fabs(right));
    net_fini(&net);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gradient");
    TCase *t = tcase_create("gradient");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, gradient_is_the_derivative, 0, sizeof cases / sizeof *cases);
    tcase_add_test(t, a_wrong_gradient_is_noticed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
