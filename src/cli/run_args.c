#include "cli/run_args.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

const char run_program[] = "division-run";

const char run_usage[] =
    "usage: division-run [options] CONFIG...\n"
    "Trains the network of each CONFIG (YAML) under its storage policies and writes a folder per\n"
    "run with the CSV of every epoch; ends with a table of all runs.\n"
    "\n"
    "  --policy NAME[:key=value,...]  storage policy, instead of the config's; repeatable: run in "
    "turn\n"
    "  --set key=value                override a key of the config; repeatable\n"
    "  --plan[=csv|table]             print config, network and memory of each run; csv: as "
    "figures;"
    "\n"
    "                                 table: one line per run; touch no data\n"
    "  --timeline DIR                 write what is alive at each step as table and picture; touch "
    "no data\n"
    "  --budget SIZE                  end with status 4 rather than take more memory (500M, 2G)\n"
    "  --fit WHAT                     with --budget: run the largest batch, or the least lossy "
    "policy,\n"
    "                                 that fits (WHAT: batch or policy)\n"
    "  --fitted CHOICE                with --fit and --job: the policy or batch that was chosen "
    "before\n"
    "  --evaluate                     test the weights of model.init instead of training\n"
    "  --logits FILE.npy              with --evaluate: write the test images' logits\n"
    "  --force                        overwrite the folders of earlier runs\n"
    "  --job N                        run only the N-th run of the list, without the final table\n"
    "  --list WHAT                    list policies, models, datasets or keys\n"
    "  --help, --version\n"
    "\n"
    "Keys: division-config(5); files and columns: division-results(5).\n"
    "Exit status: 0 done, 1 failed, 2 usage or config, 3 data or weights, 4 memory, 5 diverged,\n"
    "130/143 interrupted.\n";

static int add(const char **list, size_t *n, size_t max, const char *option, const char *value,
               struct err *err)
{
    if (*n == max) {
        return err_set(err, ERR_CONFIG, "%s is given more than %zu times", option, max);
    }
    list[(*n)++] = value;
    return 0;
}

int run_args_parse(int argc, char **argv, struct run_args *a, struct err *err)
{
    enum {
        OPT_POLICY = 256,
        OPT_SET,
        OPT_PLAN,
        OPT_TIMELINE,
        OPT_BUDGET,
        OPT_FIT,
        OPT_FITTED,
        OPT_EVALUATE,
        OPT_LOGITS,
        OPT_FORCE,
        OPT_JOB,
        OPT_LIST,
        OPT_HELP,
        OPT_VERSION
    };
    static const struct option options[] = {
        {"policy", required_argument, NULL, OPT_POLICY},
        {"set", required_argument, NULL, OPT_SET},
        {"plan", optional_argument, NULL, OPT_PLAN},
        {"timeline", required_argument, NULL, OPT_TIMELINE},
        {"budget", required_argument, NULL, OPT_BUDGET},
        {"fit", required_argument, NULL, OPT_FIT},
        {"fitted", required_argument, NULL, OPT_FITTED},
        {"evaluate", no_argument, NULL, OPT_EVALUATE},
        {"logits", required_argument, NULL, OPT_LOGITS},
        {"force", no_argument, NULL, OPT_FORCE},
        {"job", required_argument, NULL, OPT_JOB},
        {"list", required_argument, NULL, OPT_LIST},
        {"help", no_argument, NULL, OPT_HELP},
        {"version", no_argument, NULL, OPT_VERSION},
        {NULL, 0, NULL, 0},
    };
    char *end;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case OPT_POLICY:
            if (add(a->policies, &a->n_policies, CONFIG_LIST, "--policy", optarg, err)) {
                return (int)err->code;
            }
            break;
        case OPT_SET:
            if (add(a->sets, &a->n_sets, RUN_MAX_SETS, "--set", optarg, err)) {
                return (int)err->code;
            }
            break;
        case OPT_JOB:
            a->job = strtoul(optarg, &end, 10);
            if (optarg[0] < '0' || optarg[0] > '9' || *end || a->job == 0) {
                return err_set(err, ERR_CONFIG, "--job: \"%s\" is not a number from 1", optarg);
            }
            break;
        case OPT_PLAN:
            a->plan = 1;
            if (!optarg) {
                a->plan_form = RUN_PLAN_TEXT;
            } else if (strcmp(optarg, "csv") == 0) {
                a->plan_form = RUN_PLAN_CSV;
            } else if (strcmp(optarg, "table") == 0) {
                a->plan_form = RUN_PLAN_TABLE;
            } else {
                return err_set(err, ERR_CONFIG,
                               "--plan: unknown form \"%s\"; it is nothing (text), csv or table",
                               optarg);
            }
            break;
        case OPT_TIMELINE: a->timeline = optarg; break;
        case OPT_BUDGET:
            if (str_parse_bytes(optarg, &a->budget_bytes)) {
                return err_set(err, ERR_CONFIG,
                               "--budget: \"%s\" is no size; it is a number of bytes, or like 500M "
                               "or 2G",
                               optarg);
            }
            break;
        case OPT_FIT:
            if (a->fit_batch || a->fit_policy) {
                return err_set(err, ERR_CONFIG,
                               "--fit: given twice; batch and policy exclude each other");
            }
            a->fit_batch = strcmp(optarg, "batch") == 0;
            a->fit_policy = strcmp(optarg, "policy") == 0;
            if (!a->fit_batch && !a->fit_policy) {
                return err_set(err, ERR_CONFIG, "--fit: \"%s\"; it is batch or policy", optarg);
            }
            break;
        case OPT_FITTED: a->fitted = optarg; break;
        case OPT_EVALUATE: a->evaluate = 1; break;
        case OPT_LOGITS: a->logits = optarg; break;
        case OPT_FORCE: a->force = 1; break;
        case OPT_LIST: a->list = optarg; break;
        case OPT_HELP: a->help = 1; break;
        case OPT_VERSION: a->version = 1; break;
        default: /* getopt has said what is wrong */
            return err_set(err, ERR_CONFIG, "see %s --help", run_program);
        }
    }
    a->configs = argv + optind;
    a->n_configs = (size_t)(argc - optind);
    return 0;
}

/* --fitted goes with what --fit and --job say; a batch is a number. */
static int check_fitted(struct run_args *a, struct err *err)
{
    char *end;
    if (!a->fitted) {
        return 0;
    }
    if (!a->job || !(a->fit_batch || a->fit_policy)) {
        return err_set(err, ERR_CONFIG, "--fitted goes with --fit and --job");
    }
    if (a->fit_batch) {
        a->fitted_batch = strtoul(a->fitted, &end, 10);
        if (a->fitted[0] < '0' || a->fitted[0] > '9' || *end || a->fitted_batch == 0) {
            return err_set(err, ERR_CONFIG, "--fitted: \"%s\" is not a number from 1", a->fitted);
        }
    }
    return 0;
}

int run_args_check(struct run_args *a, struct err *err)
{
    if (a->n_configs == 0) {
        return err_set(err, ERR_CONFIG,
                       "no config given; try configs/quickstart.yaml, or see %s --help",
                       run_program);
    }
    if (a->logits && !a->evaluate) {
        return err_set(err, ERR_CONFIG, "--logits goes with --evaluate");
    }
    if ((a->fit_batch || a->fit_policy) && (!a->budget_bytes || a->evaluate)) {
        return err_set(err, ERR_CONFIG, "--fit goes with --budget, and with training or --plan");
    }
    if (check_fitted(a, err)) {
        return (int)err->code;
    }
    if (a->timeline && (a->plan || a->evaluate)) {
        return err_set(err, ERR_CONFIG, "--timeline excludes --plan and --evaluate");
    }
    if (a->plan && a->evaluate) {
        return err_set(err, ERR_CONFIG, "--plan and --evaluate exclude each other");
    }
    return 0;
}
