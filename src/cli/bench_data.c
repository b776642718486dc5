/* division-bench data: the loader alone, as fast as it can. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "data/loader.h"
#include "run/session.h"

/* A repetition is as many batches as take this long. */
static const double repetition_s = 0.25;

struct row {
    const char *data, *augment, *cpu;
    double batch, height, width, channels, repetitions;
    double images_per_s, images_per_s_p10, images_per_s_p90;
    double image_us; /* of the loader's one thread */
};

/* clang-format off */
#define SHOWN(field, kind, head, unit, decimals) \
    BENCH_SHOWN(struct row, field, kind, head, unit, 1, decimals)
#define HIDDEN(field, kind) BENCH_HIDDEN(struct row, field, kind)
static const struct bench_column columns[] = {
    SHOWN(data, TEXT, "data set", "", 0),
    SHOWN(augment, TEXT, "augment", "", 0),
    SHOWN(batch, COUNT, "batch", "", 0),
    SHOWN(height, COUNT, "height", "px", 0),
    SHOWN(width, COUNT, "width", "px", 0),
    HIDDEN(channels, COUNT),
    HIDDEN(cpu, TEXT),
    HIDDEN(repetitions, COUNT),
    SHOWN(images_per_s, REAL, "images", "per s", 0),
    SHOWN(images_per_s_p10, REAL, "p10", "", 0),
    SHOWN(images_per_s_p90, REAL, "p90", "", 0),
    SHOWN(image_us, REAL, "one image", "us", 2),
};
/* clang-format on */
enum { N_COLUMNS = sizeof columns / sizeof *columns };

/* --- setting up ----------------------------------------------------------------------------- */

static int is_file(const char *operand)
{
    return strchr(operand, '/') || str_glob("*.yaml", operand) || str_glob("*.yml", operand);
}

/* The operand is a config or the name of a data set. */
static int make_config(const struct bench_options *o, struct config *cfg, struct err *err)
{
    if (o->operand && is_file(o->operand)) {
        if (config_read(o->operand, cfg, err)) {
            if (err->code == ERR_MISSING) {
                err->code = ERR_CONFIG; /* a wrong argument */
            }
            return (int)err->code;
        }
    } else {
        config_defaults(cfg);
        if (o->operand) {
            (void)str_copy(cfg->data.name, sizeof cfg->data.name, o->operand);
        }
    }
    return bench_override(o, cfg, err);
}

static const char *augment_text(const struct config *cfg, char *buf, size_t cap)
{
    const struct config_texts *names = &cfg->data.augment;
    (void)str_copy(buf, cap, names->n ? "" : "none");
    for (size_t i = 0, len = 0; i < names->n; i++) {
        const int more = snprintf(buf + len, cap - len, "%s%s", i ? " " : "", names->item[i]);
        len += more > 0 ? (size_t)more : 0;
        if (len >= cap) {
            break;
        }
    }
    return buf;
}

/* --- measuring ------------------------------------------------------------------------------ */

/* Endless: the next epoch follows the last one. */
struct stream {
    struct loader *loader;
    size_t epoch;
};

static int next_batch(struct stream *s, size_t *n_images, struct err *err)
{
    struct batch batch = {0};
    if (loader_next(s->loader, &batch, err)) {
        return (int)err->code;
    }
    if (batch.n == 0) {
        if (loader_start(s->loader, s->epoch++, err) || loader_next(s->loader, &batch, err)) {
            return (int)err->code;
        }
    }
    *n_images += batch.n;
    return 0;
}

static int measure(const struct bench_options *o, struct loader *loader, double *rates,
                   struct err *err)
{
    struct stream s = {.loader = loader};
    size_t n = 0;
    for (size_t i = 0; i < o->warmup; i++) {
        if (next_batch(&s, &n, err)) {
            return (int)err->code;
        }
    }
    for (size_t r = 0; r < o->repetitions; r++) {
        const double start = sys_now_s();
        double seconds;
        n = 0;
        do {
            if (next_batch(&s, &n, err)) {
                return (int)err->code;
            }
            seconds = sys_now_s() - start;
        } while (seconds < repetition_s);
        rates[r] = (double)n / seconds;
    }
    return 0;
}

static int write_row(const struct bench_options *o, const struct session *s, double *rates,
                     struct err *err)
{
    char cpu[128], augment[256];
    const struct bench_spread spread = bench_spread_of(rates, o->repetitions);
    const struct row row = {.data = s->cfg.data.name,
                            .augment = augment_text(&s->cfg, augment, sizeof augment),
                            .cpu = sys_cpu_name(cpu, sizeof cpu),
                            .batch = (double)s->batch_size,
                            .height = (double)s->info.height,
                            .width = (double)s->info.width,
                            .channels = (double)s->info.channels,
                            .repetitions = (double)o->repetitions,
                            .images_per_s = spread.median,
                            .images_per_s_p10 = spread.p10,
                            .images_per_s_p90 = spread.p90,
                            .image_us = 1e6 / spread.median};
    bench_warn_noise(row.data, &spread);
    if (!o->csv) {
        (void)printf("loader: medians of %zu repetitions; %s\n\n", o->repetitions, cpu);
    }
    return bench_table_write(columns, N_COLUMNS, &row, sizeof row, 1, o->csv, err);
}

static int run(const struct bench_options *o, struct session *s, struct err *err)
{
    struct loader *loader = NULL;
    double *rates = mem_calloc(MEM_OTHER, o->repetitions, sizeof *rates);
    if (!rates) {
        return err_nomem(err, "the measurements", o->repetitions * sizeof *rates);
    }
    if (session_open_data(s, err) == 0) {
        const struct loader_config lc = {.dataset = s->dataset,
                                         .split = DATA_TRAIN,
                                         .batch_size = s->batch_size,
                                         .accumulate = (size_t)s->cfg.train.accumulate,
                                         .shuffle = s->cfg.data.shuffle,
                                         .drop_last = s->cfg.train.drop_last,
                                         .augment = s->augment,
                                         .seed = s->job.seed};
        if (loader_new(&lc, &loader, err) == 0 && measure(o, loader, rates, err) == 0) {
            (void)!write_row(o, s, rates, err);
        }
    }
    loader_free(loader);
    mem_free(rates);
    return (int)err->code;
}

int bench_data(const struct bench_options *o, struct err *err)
{
    struct config cfg, own;
    struct job_list jobs;
    struct job job;
    struct session s;
    if (make_config(o, &cfg, err) == 0 && job_list_make(&cfg, &jobs, err) == 0) {
        job_config(&cfg, &jobs.jobs[0], &own, &job); /* all jobs read the same data */
        job_list_fini(&jobs);
        if (session_init(&s, &own, &job, err) == 0) {
            (void)!run(o, &s, err);
            session_fini(&s);
        }
    }
    return cli_status(err);
}
