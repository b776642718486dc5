/* division-bench codec: what encoding and decoding cost, against copying. Processor time counts, so
 * that figures are those of one core, however many there are, and whatever else they do. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "kernels/kernels.h"
#include "store/store.h"

/* One policy's line. */
struct row {
    const char *policy, *isa, *cpu;
    double n, h, w, c, threads, repetitions, core_ghz, memcpy_gb_per_s;
    double bits_per_value;
    double encode_cycles, encode_cycles_p10, encode_cycles_p90;
    double decode_cycles, decode_cycles_p10, decode_cycles_p90;
    double both_cycles;
    double encode_gb_per_s, encode_vs_memcpy, decode_gb_per_s, decode_vs_memcpy;
};

/* clang-format off */
#define SHOWN(field, head, unit, decimals) \
    BENCH_SHOWN(struct row, field, REAL, head, unit, 1, decimals)
#define HIDDEN(field, kind) BENCH_HIDDEN(struct row, field, kind)
static const struct bench_column columns[] = {
    BENCH_SHOWN(struct row, policy, TEXT, "policy", "", 0, 0),
    HIDDEN(n, COUNT),
    HIDDEN(h, COUNT),
    HIDDEN(w, COUNT),
    HIDDEN(c, COUNT),
    HIDDEN(threads, COUNT),
    HIDDEN(isa, TEXT),
    HIDDEN(cpu, TEXT),
    HIDDEN(repetitions, COUNT),
    HIDDEN(core_ghz, REAL),
    HIDDEN(memcpy_gb_per_s, REAL),
    SHOWN(bits_per_value, "bits", "per value", 3),
    SHOWN(encode_cycles, "encode", "cycles", 3),
    SHOWN(encode_cycles_p10, "p10", "", 3),
    SHOWN(encode_cycles_p90, "p90", "", 3),
    SHOWN(decode_cycles, "decode", "cycles", 3),
    SHOWN(decode_cycles_p10, "p10", "", 3),
    SHOWN(decode_cycles_p90, "p90", "", 3),
    SHOWN(both_cycles, "both", "cycles", 3),
    SHOWN(encode_gb_per_s, "encode", "GB/s", 2),
    SHOWN(encode_vs_memcpy, "of memcpy", "", 3),
    SHOWN(decode_gb_per_s, "decode", "GB/s", 2),
    SHOWN(decode_vs_memcpy, "of memcpy", "", 3),
};
/* clang-format on */
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* A call that is measured. */
struct timed {
    size_t n_calls;  /* of a repetition */
    double *seconds; /* [repetitions] of one call */
    double *cycles;  /* [repetitions] of the core, likewise */
};

/* One policy at work on the map. */
struct coder {
    struct config cfg;
    struct job job;
    struct store store;
    struct store_map map;
    struct store_choice choice;
    const struct tensor *x;
    struct tensor *decoded;
    void *slot, *workspace;
    struct timed encode, decode;
};

/* All policies, and what they work on. */
struct bench {
    const struct bench_options *o;
    struct kernels kernels;
    int n_threads;
    struct tensor x, decoded;
    struct timed copy;
    double *core_hz; /* [repetitions] */
    struct coder *coders;
    size_t n_coders;
};

/* --- what is measured ----------------------------------------------------------------------- */

static void call_encode(void *ctx)
{
    struct coder *c = ctx;
    const struct rng rng = rng_make(0, RNG_QUANTISE, 0, c->map.id);
    store_begin(&c->store, 0);
    (void)c->store.policy->encode(&c->store, &c->map, c->x, &rng, c->slot, c->choice.bytes,
                                  c->workspace);
}

static void call_decode(void *ctx)
{
    struct coder *c = ctx;
    const struct shape *s = &c->map.shape;
    const struct codec_block whole = {.n1 = s->n, .h1 = s->h, .c1 = s->c};
    c->store.policy->decode(&c->store, &c->map, c->slot, &whole, c->decoded, c->workspace);
}

static void call_copy(void *ctx)
{
    struct bench *b = ctx;
    const size_t n = b->x.shape.n, values = shape_elements(&b->x.shape) / n;
#pragma omp parallel for num_threads(b->n_threads) schedule(static) if (b->n_threads > 1)
    for (size_t i = 0; i < n; i++) {
        memcpy(b->decoded.data + i * values, b->x.data + i * values, values * sizeof(real));
    }
}

/* --- setting up ----------------------------------------------------------------------------- */

static int init_timed(struct timed *t, size_t repetitions, struct err *err)
{
    t->seconds = mem_calloc(MEM_OTHER, 2 * repetitions, sizeof *t->seconds);
    t->cycles = t->seconds ? t->seconds + repetitions : NULL;
    return t->seconds ? 0 : err_nomem(err, "the measurements", 2 * repetitions * sizeof(double));
}

/* Why this policy cannot be measured alone; NULL if it can. */
static const char *why_not(const struct coder *c)
{
    if (c->choice.action != STORE_ENCODE) {
        return "keeps no code of a map alone";
    }
    if (c->choice.normalised) {
        return "codes a map together with a batch-norm";
    }
    return c->store.policy->settle || c->store.policy->prefetch ? "moves maps to and from a file"
                                                                : NULL;
}

static int open_coder(struct bench *b, const char *spec, struct coder *c, struct err *err)
{
    const struct store_policy *policy;
    struct store_params params;
    if (bench_job(b->o, spec, &c->cfg, &c->job, err) ||
        job_store_params(&c->cfg.storage[0], &policy, &params, err) ||
        store_open(&c->store, policy->name, &params, &b->kernels, b->n_threads, err)) {
        return (int)err->code;
    }
    c->x = &b->x;
    c->decoded = &b->decoded;
    c->map = (struct store_map){.name = "map",
                                .producer = "relu",
                                .shape = b->x.shape,
                                .uses = STORE_USE_CONV | STORE_USE_BN};
    policy->plan(&c->store, &c->map, &c->choice);
    return 0;
}

static int alloc_coder(struct bench *b, struct coder *c, struct err *err)
{
    c->slot = mem_alloc(MEM_SAVED, c->choice.bytes);
    c->workspace = mem_alloc(MEM_WORKSPACE, c->choice.workspace_bytes);
    if (!c->slot || !c->workspace) {
        return err_nomem(err, "a policy's buffers", c->choice.bytes + c->choice.workspace_bytes);
    }
    return init_timed(&c->encode, b->o->repetitions, err) ||
                   init_timed(&c->decode, b->o->repetitions, err)
               ? (int)err->code
               : 0;
}

static void close_coder(struct coder *c)
{
    if (c->store.policy) {
        store_close(&c->store);
    }
    mem_free(c->slot);
    mem_free(c->workspace);
    mem_free(c->encode.seconds);
    mem_free(c->decode.seconds);
    *c = (struct coder){0};
}

/* One more policy. One that cannot be measured is an error where it was asked for. */
static int add_coder(struct bench *b, const char *spec, int asked_for, struct err *err)
{
    struct coder *c = &b->coders[b->n_coders];
    if (open_coder(b, spec, c, err)) {
        close_coder(c);
        return (int)err->code;
    }
    const char *reason = why_not(c);
    if (!reason) {
        b->n_coders++;
        return alloc_coder(b, c, err);
    }
    if (asked_for) {
        (void)err_set(err, ERR_CONFIG, "--policy %s: %s %s; %s step measures it", spec,
                      c->store.policy->name, reason, bench_program);
    }
    close_coder(c);
    return (int)err->code;
}

/* The policies that were asked for, or all of the table that can be measured. */
static int open_coders(struct bench *b, struct err *err)
{
    size_t n_all;
    const struct store_policy *const *all = store_policies(&n_all);
    const int asked_for = b->o->n_policies > 0;
    const size_t n = asked_for ? b->o->n_policies : n_all;
    b->coders = mem_calloc(MEM_OTHER, n, sizeof *b->coders);
    if (!b->coders) {
        return err_nomem(err, "the policies", n * sizeof *b->coders);
    }
    for (size_t i = 0; i < n; i++) {
        if (add_coder(b, asked_for ? b->o->policies[i] : all[i]->name, asked_for, err)) {
            return (int)err->code;
        }
    }
    return 0;
}

/* The kernels, the threads, a map of normally distributed values. */
static int init_map(struct bench *b, struct err *err)
{
    struct config cfg;
    if (bench_config(b->o, NULL, &cfg, err) || kernels_fill(&b->kernels, cfg.kernels.isa, err)) {
        return (int)err->code;
    }
    if (!b->o->threads && cfg.run.threads == 0) {
        cfg.run.threads = 1;
    }
    b->n_threads = bench_set_threads(&cfg);
    struct shape shape = b->o->shape;
    if (shape.n == 0) {
        shape = (struct shape){.n = (size_t)b->n_threads, .h = 32, .w = 32, .c = 32};
    }
    const size_t n = shape_elements(&shape);
    real *x = mem_calloc(MEM_DATA, n, sizeof *x), *y = mem_calloc(MEM_DATA, n, sizeof *y);
    b->x = tensor_view(x, shape);
    b->decoded = tensor_view(y, shape);
    b->core_hz = mem_calloc(MEM_OTHER, b->o->repetitions, sizeof *b->core_hz);
    if (!x || !y || !b->core_hz) {
        return err_nomem(err, "the map", 2 * shape_bytes(&shape));
    }
    const struct rng rng = rng_make(0, RNG_TEST, 0, 0);
    for (size_t i = 0; i < n; i++) {
        x[i] = (real)rng_normal(&rng, i);
    }
    return init_timed(&b->copy, b->o->repetitions, err);
}

/* --- measuring ------------------------------------------------------------------------------ */

static void measure_call(struct timed *t, void (*call)(void *ctx), void *ctx, size_t r, double hz)
{
    t->seconds[r] = bench_time(BENCH_CLOCK_CPU, call, ctx, t->n_calls);
    t->cycles[r] = t->seconds[r] * hz;
}

/* All take turns, and each round asks the core anew how fast it runs. */
static void measure(struct bench *b)
{
    const size_t warmup = b->o->warmup;
    b->copy.n_calls = bench_calls(call_copy, b, warmup);
    for (size_t i = 0; i < b->n_coders; i++) {
        struct coder *c = &b->coders[i];
        c->encode.n_calls = bench_calls(call_encode, c, warmup);
        c->decode.n_calls = bench_calls(call_decode, c, warmup);
    }
    for (size_t r = 0; r < b->o->repetitions; r++) {
        const double hz = bench_core_hz();
        b->core_hz[r] = hz;
        measure_call(&b->copy, call_copy, b, r, hz);
        for (size_t i = 0; i < b->n_coders; i++) {
            struct coder *c = &b->coders[i];
            measure_call(&c->encode, call_encode, c, r, hz);
            measure_call(&c->decode, call_decode, c, r, hz);
        }
    }
}

/* --- the table ------------------------------------------------------------------------------ */

/* Of one core. */
static double gb_per_s(const struct bench *b, const struct timed *t)
{
    return 1e-9 * (double)shape_bytes(&b->x.shape) /
           bench_spread_of(t->seconds, b->o->repetitions).median;
}

/* Cycles per value, of whatever core. */
static struct bench_spread cycles(const struct bench *b, const struct timed *t, const char *what)
{
    const double share = 1 / (double)shape_elements(&b->x.shape);
    struct bench_spread s = bench_spread_of(t->cycles, b->o->repetitions);
    bench_warn_noise(what, &s);
    return (struct bench_spread){s.median * share, s.p10 * share, s.p90 * share};
}

static void fill_row(const struct bench *b, const struct coder *c, struct row *row)
{
    char what[128];
    const struct shape *s = &b->x.shape;
    row->policy = c->job.label;
    row->n = (double)s->n;
    row->h = (double)s->h;
    row->w = (double)s->w;
    row->c = (double)s->c;
    row->threads = b->n_threads;
    row->repetitions = (double)b->o->repetitions;
    row->bits_per_value = 8.0 * (double)c->choice.bytes / (double)shape_elements(s);
    (void)snprintf(what, sizeof what, "%s, encoding", c->job.label);
    struct bench_spread spread = cycles(b, &c->encode, what);
    row->encode_cycles = spread.median;
    row->encode_cycles_p10 = spread.p10;
    row->encode_cycles_p90 = spread.p90;
    (void)snprintf(what, sizeof what, "%s, decoding", c->job.label);
    spread = cycles(b, &c->decode, what);
    row->decode_cycles = spread.median;
    row->decode_cycles_p10 = spread.p10;
    row->decode_cycles_p90 = spread.p90;
    row->both_cycles = row->encode_cycles + row->decode_cycles;
    row->encode_gb_per_s = gb_per_s(b, &c->encode);
    row->decode_gb_per_s = gb_per_s(b, &c->decode);
    row->encode_vs_memcpy = row->encode_gb_per_s / row->memcpy_gb_per_s;
    row->decode_vs_memcpy = row->decode_gb_per_s / row->memcpy_gb_per_s;
}

static int write_rows(struct bench *b, struct err *err)
{
    char cpu[128], what[256], bytes[32];
    struct row *rows = mem_calloc(MEM_OTHER, b->n_coders + 1, sizeof *rows);
    if (!rows) {
        return err_nomem(err, "the table", (b->n_coders + 1) * sizeof *rows);
    }
    (void)sys_cpu_name(cpu, sizeof cpu);
    const double ghz = 1e-9 * bench_spread_of(b->core_hz, b->o->repetitions).median;
    const double copy = gb_per_s(b, &b->copy);
    for (size_t i = 0; i < b->n_coders; i++) {
        rows[i].isa = b->kernels.isa;
        rows[i].cpu = cpu;
        rows[i].core_ghz = ghz;
        rows[i].memcpy_gb_per_s = copy;
        fill_row(b, &b->coders[i], &rows[i]);
    }
    if (!b->o->csv) {
        const struct shape *s = &b->x.shape;
        (void)snprintf(
            what, sizeof what,
            "a map of %zux%zux%zux%zu, %s: medians of %zu repetitions; memcpy %.2f GB/s, "
            "core clock %.2f GHz (by dependent additions)",
            s->n, s->h, s->w, s->c, str_bytes(bytes, (double)shape_bytes(s)), b->o->repetitions,
            copy, ghz);
        bench_describe(what, b->n_threads, b->kernels.isa);
    }
    (void)!bench_table_write(columns, N_COLUMNS, rows, sizeof *rows, b->n_coders, b->o->csv, err);
    mem_free(rows);
    return (int)err->code;
}

int bench_codec(const struct bench_options *o, struct err *err)
{
    struct bench b = {.o = o};
    if (init_map(&b, err) == 0 && open_coders(&b, err) == 0) {
        measure(&b);
        (void)!write_rows(&b, err);
    }
    for (size_t i = 0; i < b.n_coders; i++) {
        close_coder(&b.coders[i]);
    }
    mem_free(b.coders);
    mem_free(b.copy.seconds);
    mem_free(b.core_hz);
    mem_free(b.x.data);
    mem_free(b.decoded.data);
    return cli_status(err);
}
