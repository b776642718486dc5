/* division-codec: one array of one's own through a storage policy and back. division-codec(1) is
 * its manual. Encoding and decoding are those of training. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/cli.h"
#include "kernels/kernels.h"
#include "store/store.h"
#include "store/vault.h"
#include "tensor/npy.h"

static const char program[] = "division-codec";

static const char usage[] =
    "usage: division-codec [options] IN.npy OUT.npy\n"
    "Sends an array of numbers (N, C, H, W) through a storage policy and back, and prints what\n"
    "that costs and saves. (C, H, W) and (H, W) are one sample.\n"
    "\n"
    "  --policy NAME      normal, fixed, division, blpa, acgc, actnn or checkpoint (default\n"
    "                     division); not swap\n"
    "  --block B          division: pixels per side of an averaged block, 1 to 64 (default 8)\n"
    "  --bits B           bits per code; fixed, division: 1, 2, 4 or 8 (default 2); blpa: 4 or 8\n"
    "                     (default 4); acgc: 2 to 16 (default 8); actnn: 1 to 8, the average\n"
    "                     (default 2)\n"
    "  --group G          fixed: values per range, map or a multiple of 128 (default map)\n"
    "  --keep PART        division: both, low (block means) or high (codes) (default both)\n"
    "  --rounding HOW     fixed, division, actnn: stochastic or nearest (default stochastic)\n"
    "  --compat WHAT      division, actnn, normal, checkpoint: official, the arithmetic of the\n"
    "                     published code; or none\n"
    "  --seed N           of the random bits (default 0)\n"
    "  --threads N        0: one for every processor this process may use (default 0)\n"
    "  --isa NAME         auto, ref, base, avx2 or avx512 (default auto)\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 usage, 3 the array is missing, damaged or foreign, 4 "
    "memory.\n";

/* --- arguments -------------------------------------------------------------------------------- */

struct arguments {
    const char *in, *out, *policy, *isa;
    struct store_params params;
    uint64_t seed;
    int n_threads;
    const char *given[8]; /* storage keys on the command line */
    size_t n_given;
    int help, version;
};

enum option_id { /* beyond any character */
                 OPTION_POLICY = 256,
                 OPTION_BLOCK,
                 OPTION_BITS,
                 OPTION_GROUP,
                 OPTION_KEEP,
                 OPTION_ROUNDING,
                 OPTION_COMPAT,
                 OPTION_SEED,
                 OPTION_THREADS,
                 OPTION_ISA,
                 OPTION_HELP,
                 OPTION_VERSION
};

static const struct option options[] = {
    {"policy", required_argument, NULL, OPTION_POLICY},
    {"block", required_argument, NULL, OPTION_BLOCK},
    {"bits", required_argument, NULL, OPTION_BITS},
    {"group", required_argument, NULL, OPTION_GROUP},
    {"keep", required_argument, NULL, OPTION_KEEP},
    {"rounding", required_argument, NULL, OPTION_ROUNDING},
    {"compat", required_argument, NULL, OPTION_COMPAT},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"isa", required_argument, NULL, OPTION_ISA},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static int parse_number(const char *name, const char *text, uint64_t min, uint64_t max,
                        uint64_t *out, struct err *err)
{
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v < min || v > max) {
        return err_set(err, ERR_CONFIG, "--%s '%s': expected a number from %llu to %llu", name,
                       text, (unsigned long long)min, (unsigned long long)max);
    }
    *out = v;
    return 0;
}

/* Index of `text` among "a|b|c". */
static int parse_choice(const char *name, const char *text, const char *choices, int *out,
                        struct err *err)
{
    const size_t n = strlen(text);
    int i = 0;
    for (const char *c = choices; *c != '\0'; i++) {
        const size_t len = strcspn(c, "|");
        if (len == n && memcmp(c, text, n) == 0) {
            *out = i;
            return 0;
        }
        c += len + (c[len] == '|');
    }
    return err_set(err, ERR_CONFIG, "--%s '%s': expected one of %s", name, text, choices);
}

static int is_option_given(const struct arguments *a, const char *name)
{
    for (size_t i = 0; i < a->n_given; i++) {
        if (strcmp(a->given[i], name) == 0) {
            return 1;
        }
    }
    return 0;
}

/* A storage key: which policies take it is checked when the policy is known. */
static int parse_key(struct arguments *a, const char *name, enum option_id key, const char *text,
                     struct err *err)
{
    uint64_t n = 0;
    int i = 0, code = 0;
    if (!is_option_given(a, name)) {
        a->given[a->n_given++] = name;
    }
    switch (key) {
    case OPTION_BLOCK:
        code = parse_number(name, text, 1, 64, &n, err);
        a->params.block = n;
        break;
    case OPTION_BITS:
        code = parse_number(name, text, 1, 16, &n, err);
        a->params.bits = (unsigned)n;
        break;
    case OPTION_GROUP:
        code = strcmp(text, "map") == 0 ? 0 : parse_number(name, text, 1, 65536, &n, err);
        a->params.group = n;
        break;
    case OPTION_KEEP:
        code = parse_choice(name, text, "both|low|high", &i, err);
        a->params.keep = (enum codec_keep)i;
        break;
    case OPTION_ROUNDING:
        code = parse_choice(name, text, "nearest|stochastic", &i, err);
        a->params.stochastic = i;
        break;
    default:
        code = parse_choice(name, text, "none|official", &i, err);
        a->params.official = i;
        break;
    }
    return code;
}

static int parse_option(struct arguments *a, const struct option *o, const char *text,
                        struct err *err)
{
    uint64_t n = 0;
    switch (o->val) {
    case OPTION_POLICY: a->policy = text; return 0;
    case OPTION_ISA: a->isa = text; return 0;
    case OPTION_HELP: a->help = 1; return 0;
    case OPTION_VERSION: a->version = 1; return 0;
    case OPTION_SEED: return parse_number(o->name, text, 0, UINT64_MAX, &a->seed, err);
    case OPTION_THREADS:
        if (parse_number(o->name, text, 0, 1024, &n, err) != 0) {
            return ERR_CONFIG;
        }
        a->n_threads = (int)n;
        return 0;
    default: return parse_key(a, o->name, (enum option_id)o->val, text, err);
    }
}

static int parse_arguments(int argc, char **argv, struct arguments *a, struct err *err)
{
    *a = (struct arguments){.policy = "division", .params = store_params_default()};
    opterr = 0;
    for (int index = 0, c; (c = getopt_long(argc, argv, "", options, &index)) != -1;) {
        if (c == '?') {
            return err_set(err, ERR_CONFIG,
                           "%s: unknown, ambiguous or incomplete option; see %s "
                           "--help",
                           argv[optind - 1], program);
        }
        const int code = parse_option(a, &options[index], optarg, err);
        if (code != 0 || a->help || a->version) {
            return code;
        }
    }
    if (argc - optind != 2) {
        return err_set(err, ERR_CONFIG,
                       "expected two files, IN.npy and OUT.npy, found %d; see %s "
                       "--help",
                       argc - optind, program);
    }
    const struct store_policy *policy = store_policy_find(a->policy);
    if (policy != NULL && !is_option_given(a, "bits")) {
        a->params.bits = store_params_of(policy).bits;
    }
    a->in = argv[optind];
    a->out = argv[optind + 1];
    if (a->n_threads == 0) {
        a->n_threads = sys_n_cpus();
    }
    return 0;
}

/* Were only such keys given as the policy takes? */
static int check_keys(const struct arguments *a, const struct store_policy *policy, struct err *err)
{
    for (size_t i = 0; i < a->n_given; i++) {
        struct str takes = {0};
        int known = 0;
        for (const char *const *key = policy->keys; *key != NULL; key++) {
            known |= strcmp(*key, a->given[i]) == 0;
            str_addf(&takes, " --%s", *key);
        }
        if (!known) {
            (void)err_set(err, ERR_CONFIG, "--%s: policy %s does not take it; it takes%s",
                          a->given[i], policy->name, takes.s == NULL ? " none" : takes.s);
        }
        str_fini(&takes);
        if (!known) {
            return ERR_CONFIG;
        }
    }
    return 0;
}

/* --- array and tensor ------------------------------------------------------------------------- */

static int array_shape(const struct npy *array, const char *path, struct shape *shape,
                       struct err *err)
{
    if (array->n_dims < 2 || array->n_dims > 4) {
        return err_set(err, ERR_SHAPE,
                       "%s: the array has %zu dimensions; expected (N, C, H, W), (C, H, W) or "
                       "(H, W)",
                       path, array->n_dims);
    }
    size_t dims[4] = {1, 1, 1, 1};
    memcpy(dims + (4 - array->n_dims), array->dims, array->n_dims * sizeof(dims[0]));
    *shape = (struct shape){.n = dims[0], .c = dims[1], .h = dims[2], .w = dims[3]};
    if (shape_elements(shape) == 0) {
        return err_set(err, ERR_SHAPE, "%s: the array (%zu, %zu, %zu, %zu) holds no values", path,
                       dims[0], dims[1], dims[2], dims[3]);
    }
    return 0;
}

/* (N, C, H, W) <-> NHWC. */
static void to_nhwc(const float *array, const struct shape *s, real *x)
{
    const size_t pixels = s->h * s->w;
    for (size_t i = 0; i < s->n * pixels; i++) {
        const float *sample = array + i / pixels * s->c * pixels + i % pixels;
        for (size_t c = 0; c < s->c; c++) {
            x[i * s->c + c] = (real)sample[c * pixels];
        }
    }
}

static void to_nchw(const real *x, const struct shape *s, float *array)
{
    const size_t pixels = s->h * s->w;
    for (size_t i = 0; i < s->n * pixels; i++) {
        float *sample = array + i / pixels * s->c * pixels + i % pixels;
        for (size_t c = 0; c < s->c; c++) {
            sample[c * pixels] = (float)x[i * s->c + c];
        }
    }
}

/* --- the round trip --------------------------------------------------------------------------- */

/* Both tensors are dense. What was kept is left in *vault. */
static int round_trip(struct store *store, uint64_t seed, const struct tensor *x,
                      struct tensor *decoded, struct vault *vault, struct err *err)
{
    const struct store_map map = {
        .name = "array",
        .producer = "file",
        .shape = x->shape,
        .uses = STORE_USE_CONV | STORE_USE_BN,
    };
    struct store_choice choice;
    vault_reset(vault);
    store->policy->plan(store, &map, &choice);
    if (choice.action == STORE_REFERENCE) {
        vault_keep(vault, STORE_PIECE_MAPS, shape_bytes(&x->shape));
        memcpy(decoded->data, x->data, shape_bytes(&x->shape));
        return 0;
    }
    if (choice.action != STORE_ENCODE) {
        return err_set(err, ERR_UNSUPPORTED, "policy %s keeps nothing of an array by itself",
                       store->policy->name);
    }
    if (choice.spilled_bytes > 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "policy %s writes an array to a file and reads it back as it was: there is "
                       "nothing to measure",
                       store->policy->name);
    }
    int code = 0;
    void *slot = mem_alloc(MEM_SAVED, choice.bytes);
    void *workspace = mem_alloc(MEM_WORKSPACE, choice.workspace_bytes);
    if (slot == NULL || workspace == NULL) {
        code = err_nomem(err, "the encoded array", choice.bytes + choice.workspace_bytes);
        goto out;
    }
    const struct rng rng = rng_make(seed, RNG_QUANTISE, 0, map.id);
    const struct codec_block whole = {.n1 = x->shape.n, .h1 = x->shape.h, .c1 = x->shape.c};
    (void)vault_encode(vault, store, &map, &choice, x, &rng, slot, choice.bytes, workspace);
    vault_decode(vault, store, &map, slot, &whole, decoded, workspace);
out:
    mem_free(slot);
    mem_free(workspace);
    return code;
}

/* --- the table -------------------------------------------------------------------------------- */

struct errors {
    double largest, mean, bias; /* of decoded - x; NaN without a value */
    double relative_l2, cosine; /* NaN where x (or decoded) is 0 */
    size_t n_bad;               /* values left out: not finite before or after */
};

static struct errors compare(const struct tensor *x, const struct tensor *decoded)
{
    struct errors e = {0};
    double xx = 0, yy = 0, xy = 0, ee = 0;
    const size_t n = shape_elements(&x->shape);
    for (size_t i = 0; i < n; i++) {
        const double a = (double)x->data[i], b = (double)decoded->data[i], d = b - a;
        if (!isfinite(a) || !isfinite(b)) {
            e.n_bad++;
            continue;
        }
        e.largest = fmax(e.largest, fabs(d));
        e.mean += fabs(d);
        e.bias += d;
        ee += d * d;
        xx += a * a;
        yy += b * b;
        xy += a * b;
    }
    const double count = (double)(n - e.n_bad);
    e.largest = count > 0 ? e.largest : (double)NAN;
    e.mean /= count;
    e.bias /= count;
    e.relative_l2 = sqrt(ee / xx);
    e.cosine = xy / sqrt(xx * yy);
    return e;
}

static void print_number(const char *name, double v)
{
    if (isfinite(v)) {
        printf("%-16s%.6g\n", name, v);
    } else {
        printf("%-16s%s\n", name, "-");
    }
}

static void print_bytes(const char *name, size_t bytes)
{
    char text[32];
    printf("%-16s%-12zu%s\n", name, bytes, str_bytes(text, (double)bytes));
}

static void print_table(const struct store *store, const struct shape *shape,
                        const struct vault *vault, const struct errors *e)
{
    char label[64];
    const double n = (double)shape_elements(shape);
    store->policy->label(&store->params, label, sizeof(label));
    printf("%-16s%s\n", "policy", label);
    printf("%-16s(%zu, %zu, %zu, %zu)\n", "array", shape->n, shape->c, shape->h, shape->w);
    printf("%-16s%.4f\n", "bits per value", 8.0 * (double)vault->bytes / n);
    print_bytes("bytes", vault->bytes);
    for (int i = 0; i < STORE_N_PIECES; i++) {
        if (vault->pieces[i] > 0) {
            char name[32];
            (void)snprintf(name, sizeof(name), "  %s", store_piece_name((enum store_piece)i));
            print_bytes(name, vault->pieces[i]);
        }
    }
    printf("%-16s%.3f\n", "ratio", 4.0 * n / (double)vault->bytes);
    print_number("max error", e->largest);
    print_number("mean error", e->mean);
    print_number("mean bias", e->bias);
    print_number("relative L2", e->relative_l2);
    print_number("cosine", e->cosine);
    if (e->n_bad > 0) {
        printf("%-16s%zu values, left out above\n", "not finite", e->n_bad);
    }
}

/* --- main ------------------------------------------------------------------------------------- */

static int run(const struct arguments *a, struct err *err)
{
    struct npy array = {0};
    struct store store = {0};
    struct kernels kernels;
    struct shape shape = {0};
    real *x = NULL, *y = NULL;
    int code = kernels_fill(&kernels, a->isa, err);
    if (code != 0) {
        return code;
    }
    code = store_open(&store, a->policy, &a->params, &kernels, a->n_threads, err);
    if (code != 0 || (code = check_keys(a, store.policy, err)) != 0) {
        goto out;
    }
    if ((code = npy_read(a->in, &array, err)) != 0 ||
        (code = array_shape(&array, a->in, &shape, err)) != 0) {
        goto out;
    }
    x = mem_calloc(MEM_DATA, shape_elements(&shape), sizeof(*x));
    y = mem_calloc(MEM_DATA, shape_elements(&shape), sizeof(*y));
    if (x == NULL || y == NULL) {
        code = err_nomem(err, "the array in NHWC order, twice", 2 * shape_bytes(&shape));
        goto out;
    }
    to_nhwc(array.data, &shape, x);
    const struct tensor tensor = tensor_view(x, shape);
    struct tensor decoded = tensor_view(y, shape);
    struct vault vault;
    if ((code = round_trip(&store, a->seed, &tensor, &decoded, &vault, err)) != 0) {
        goto out;
    }
    to_nchw(y, &shape, array.data);
    if ((code = npy_write(a->out, array.data, array.n_dims, array.dims, err)) != 0) {
        goto out;
    }
    const struct errors errors = compare(&tensor, &decoded);
    print_table(&store, &shape, &vault, &errors);
    code = cli_flush(err);
out:
    mem_free(x);
    mem_free(y);
    npy_fini(&array);
    store_close(&store);
    return code;
}

int main(int argc, char **argv)
{
    struct arguments a;
    struct err err = {0};
    cli_outlive_file_limit();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a write error, not a death */
    if (parse_arguments(argc, argv, &a, &err) != 0) {
        cli_error(program, &err);
        return cli_status(&err);
    }
    int code;
    if (a.help) {
        (void)fputs(usage, stdout);
        code = cli_flush(&err);
    } else if (a.version) {
        (void)printf("%s (division) %s\n", program, PACKAGE_VERSION);
        code = cli_flush(&err);
    } else {
        code = run(&a, &err);
    }
    if (code != 0) {
        cli_error(program, &err);
    }
    return cli_status(&err);
}
