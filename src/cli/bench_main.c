/* division-bench: how fast things are on this machine. division-bench(1) is its manual. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cli/bench.h"
#include "cli/cli.h"

const char bench_program[] = "division-bench";

static const char usage[] =
    "usage: division-bench step|kernels|codec [options]\n"
    "       division-bench data [options] [CONFIG.yaml|NAME]\n"
    "Measures speed on this machine: warm-up, repetitions, median and spread.\n"
    "\n"
    "  step     whole training steps on made-up images under each policy: images per second, "
    "where\n"
    "           the time goes, memory\n"
    "  kernels  each convolution of a network: forward and both gradients, the algorithm chosen\n"
    "  codec    encoding and decoding of a map that fits into a core's cache: cycles per value,\n"
    "           bytes per second against memcpy\n"
    "  data     the loader alone on a config's data set, or on one by name (default cifar10)\n"
    "\n"
    "step, kernels:\n"
    "  --model NAME                   network (default resnet18)\n"
    "  --size N                       height and width of the images (default 32, or 224 for\n"
    "                                 networks that have no form for small images)\n"
    "  --algorithm NAME               convolutions: auto, direct, im2col, igemm, winograd\n"
    "step, kernels, data:\n"
    "  --batch N                      images per step (default 128)\n"
    "step, codec:\n"
    "  --policy NAME[:key=value,...]  storage policy; repeatable: they take turns (default: step\n"
    "                                 normal, codec all that encode)\n"
    "codec:\n"
    "  --shape NxHxWxC                of the map (default one 32x32x32 image per thread)\n"
    "step, kernels, codec:\n"
    "  --threads N                    default 0: one for every processor this process may use;\n"
    "                                 codec: 1\n"
    "  --isa NAME                     auto, ref, base, avx2 or avx512\n"
    "all:\n"
    "  --set key=value                any other key of division-config(5); repeatable\n"
    "  --repetitions N                measurements, of which the median counts (default 10)\n"
    "  --warmup N                     steps, calls or batches before them (default 2)\n"
    "  --csv                          CSV instead of a table\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 usage, 3 data, 4 memory, 5 diverged.\n";

/* --- arguments ------------------------------------------------------------------------------ */

enum option_id { /* beyond any character */
                 OPTION_MODEL = 256,
                 OPTION_BATCH,
                 OPTION_SIZE,
                 OPTION_POLICY,
                 OPTION_ALGORITHM,
                 OPTION_SHAPE,
                 OPTION_SET,
                 OPTION_THREADS,
                 OPTION_ISA,
                 OPTION_REPETITIONS,
                 OPTION_WARMUP,
                 OPTION_CSV,
                 OPTION_HELP,
                 OPTION_VERSION
};

static const struct option options[] = {
    {"model", required_argument, NULL, OPTION_MODEL},
    {"batch", required_argument, NULL, OPTION_BATCH},
    {"size", required_argument, NULL, OPTION_SIZE},
    {"policy", required_argument, NULL, OPTION_POLICY},
    {"algorithm", required_argument, NULL, OPTION_ALGORITHM},
    {"shape", required_argument, NULL, OPTION_SHAPE},
    {"set", required_argument, NULL, OPTION_SET},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"isa", required_argument, NULL, OPTION_ISA},
    {"repetitions", required_argument, NULL, OPTION_REPETITIONS},
    {"warmup", required_argument, NULL, OPTION_WARMUP},
    {"csv", no_argument, NULL, OPTION_CSV},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

#define BIT(id) (1U << ((id)-OPTION_MODEL))

/* The commands and the options that each takes, besides those of all. */
static const struct command {
    const char *name;
    unsigned takes;
    int has_operand;
    int (*run)(const struct bench_options *o, struct err *err);
} commands[] = {
    {"step",
     BIT(OPTION_MODEL) | BIT(OPTION_BATCH) | BIT(OPTION_SIZE) | BIT(OPTION_ALGORITHM) |
         BIT(OPTION_POLICY) | BIT(OPTION_THREADS) | BIT(OPTION_ISA),
     0, bench_step},
    {"kernels",
     BIT(OPTION_MODEL) | BIT(OPTION_BATCH) | BIT(OPTION_SIZE) | BIT(OPTION_ALGORITHM) |
         BIT(OPTION_THREADS) | BIT(OPTION_ISA),
     0, bench_kernels},
    {"codec", BIT(OPTION_POLICY) | BIT(OPTION_SHAPE) | BIT(OPTION_THREADS) | BIT(OPTION_ISA), 0,
     bench_codec},
    {"data", BIT(OPTION_BATCH), 1, bench_data},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const unsigned for_all = BIT(OPTION_SET) | BIT(OPTION_REPETITIONS) | BIT(OPTION_WARMUP) |
                                BIT(OPTION_CSV);

struct arguments {
    const struct command *command;
    struct bench_options o;
    unsigned given; /* BIT of each option */
    int help, version;
};

static int parse_count(const char *name, const char *text, size_t min, size_t *out, struct err *err)
{
    enum { MOST = 100000 };
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v < min || v > MOST) {
        return err_set(err, ERR_CONFIG, "--%s '%s': expected a number from %zu to %d", name, text,
                       min, MOST);
    }
    *out = (size_t)v;
    return 0;
}

/* "NxHxWxC". */
static int parse_shape(const char *name, const char *text, struct shape *out, struct err *err)
{
    enum { LARGEST = 65536 };
    size_t dims[4], n = 0;
    const char *at = text;
    for (; n < 4 && *at >= '0' && *at <= '9'; n++) {
        char *end;
        dims[n] = strtoul(at, &end, 10);
        if (dims[n] == 0 || dims[n] > LARGEST) {
            break;
        }
        at = *end == 'x' && n < 3 ? end + 1 : end;
    }
    if (n != 4 || *at != '\0') {
        return err_set(err, ERR_CONFIG,
                       "--%s '%s': expected images, height, width and channels from 1 to %d, as in "
                       "1x32x32x64",
                       name, text, LARGEST);
    }
    *out = (struct shape){.n = dims[0], .h = dims[1], .w = dims[2], .c = dims[3]};
    return 0;
}

static int add(const char **list, size_t *n, size_t max, const char *name, const char *value,
               struct err *err)
{
    if (*n == max) {
        return err_set(err, ERR_CONFIG, "--%s is given more than %zu times", name, max);
    }
    list[(*n)++] = value;
    return 0;
}

static int parse_option(struct arguments *a, const struct option *option, const char *text,
                        struct err *err)
{
    struct bench_options *o = &a->o;
    a->given |= BIT(option->val);
    switch (option->val) {
    case OPTION_MODEL: o->model = text; return 0;
    case OPTION_BATCH: o->batch = text; return 0;
    case OPTION_SIZE: o->size = text; return 0;
    case OPTION_POLICY:
        return add(o->policies, &o->n_policies, CONFIG_LIST, option->name, text, err);
    case OPTION_ALGORITHM: o->algorithm = text; return 0;
    case OPTION_SHAPE: return parse_shape(option->name, text, &o->shape, err);
    case OPTION_SET:
        return add(o->settings, &o->n_settings, BENCH_MAX_SETTINGS, option->name, text, err);
    case OPTION_THREADS: o->threads = text; return 0;
    case OPTION_ISA: o->isa = text; return 0;
    case OPTION_REPETITIONS: return parse_count(option->name, text, 1, &o->repetitions, err);
    case OPTION_WARMUP: return parse_count(option->name, text, 0, &o->warmup, err);
    case OPTION_CSV: o->csv = 1; return 0;
    case OPTION_HELP: a->help = 1; return 0;
    default: a->version = 1; return 0;
    }
}

static int find_command(const char *name, const struct command **out, struct err *err)
{
    struct str list = {0};
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            *out = &commands[i];
            str_fini(&list);
            return 0;
        }
        names[i] = commands[i].name;
        str_addf(&list, "%s%s", i ? ", " : "", commands[i].name);
    }
    const char *near = str_nearest(name, names, N_COMMANDS);
    (void)err_set(err, ERR_CONFIG, "unknown command '%s'%s%s%s; expected one of: %s", name,
                  near ? " (did you mean " : "", near ? near : "", near ? "?)" : "",
                  list.s ? list.s : "");
    str_fini(&list);
    return (int)err->code;
}

/* Were only such options given as the command takes? */
static int check_options(const struct arguments *a, struct err *err)
{
    const unsigned wrong = a->given & ~(a->command->takes | for_all);
    for (const struct option *o = options; wrong && o->name; o++) {
        if (wrong & BIT(o->val)) {
            return err_set(err, ERR_CONFIG, "--%s: %s does not take it; see %s --help", o->name,
                           a->command->name, bench_program);
        }
    }
    return 0;
}

static int parse_arguments(int argc, char **argv, struct arguments *a, struct err *err)
{
    *a = (struct arguments){.o = {.repetitions = 10, .warmup = 2}};
    opterr = 0;
    for (int index = 0, c; (c = getopt_long(argc, argv, "", options, &index)) != -1;) {
        if (c == '?') {
            return err_set(err, ERR_CONFIG,
                           "%s: unknown, ambiguous or incomplete option; see %s --help",
                           argv[optind - 1], bench_program);
        }
        const int code = parse_option(a, &options[index], optarg, err);
        if (code != 0 || a->help || a->version) {
            return code;
        }
    }
    if (optind == argc) {
        return err_set(err, ERR_CONFIG, "no command given; try %s step, or see %s --help",
                       bench_program, bench_program);
    }
    if (find_command(argv[optind], &a->command, err) || check_options(a, err)) {
        return (int)err->code;
    }
    const int n_operands = argc - optind - 1;
    if (n_operands > a->command->has_operand) {
        return err_set(err, ERR_CONFIG, "'%s': %s takes %s; see %s --help", argv[argc - 1],
                       a->command->name, a->command->has_operand ? "one argument" : "no arguments",
                       bench_program);
    }
    a->o.operand = n_operands ? argv[optind + 1] : NULL;
    return 0;
}

int main(int argc, char **argv)
{
    cli_settle_threads(argv);
    cli_outlive_file_limit();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error, not a death */
    struct arguments a;
    struct err err = {0};
    int status = 0;
    if (parse_arguments(argc, argv, &a, &err) == 0) {
        if (a.help) {
            (void)fputs(usage, stdout);
        } else if (a.version) {
            (void)printf("%s (division) %s\n", bench_program, PACKAGE_VERSION);
        } else {
            status = a.command->run(&a.o, &err);
        }
    }
    if (!err.code) {
        (void)!cli_flush(&err);
    }
    if (err.code) {
        cli_error(bench_program, &err);
    }
    return status ? status : cli_status(&err);
}
