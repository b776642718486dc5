/* The key table, the YAML reader, --set and --policy, and the writer of the resolved config. */
#include "config/config.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "config/config_priv.h"
#include "config/quote.h"
#include "scratch.h"

static int parse(const char *text, struct config *cfg, struct err *err)
{
    return config_parse("c.yaml", text, strlen(text), cfg, err);
}

static void must_parse(const char *text, struct config *cfg)
{
    struct err err = {0};
    ck_assert_msg(parse(text, cfg, &err) == 0, "%s: %s", text, err.msg);
}

static void must_set(struct config *cfg, const char *assignment)
{
    struct err err = {0};
    ck_assert_msg(config_set(cfg, assignment, &err) == 0, "%s", err.msg);
}

/* The resolved config as text; the caller frees it with mem_free. */
static char *written(const struct config *cfg)
{
    struct err err = {0};
    FILE *fp = tmpfile();
    ck_assert_ptr_nonnull(fp);
    ck_assert_msg(config_write(cfg, fp, &err) == 0, "%s", err.msg);
    const long size = ftell(fp);
    char *text = mem_alloc(MEM_OTHER, (size_t)size + 1);
    rewind(fp);
    ck_assert_uint_eq(fread(text, 1, (size_t)size, fp), (size_t)size);
    fclose(fp);
    return text;
}

static void must_round_trip(const struct config *cfg)
{
    struct config back;
    char *text = written(cfg);
    must_parse(text, &back);
    ck_assert_msg(memcmp(cfg, &back, sizeof back) == 0, "not the same:\n%s", text);
    mem_free(text);
}

/* ---- the table ---- */

START_TEST(table_defaults)
{
    struct config cfg;
    config_defaults(&cfg);
    ck_assert_str_eq(cfg.name, "run");
    ck_assert_uint_eq(cfg.seed.n, 1);
    ck_assert_int_eq(cfg.seed.item[0], 0);
    ck_assert_str_eq(cfg.model.name, "resnet20");
    ck_assert_str_eq(cfg.model.form, "cifar");
    ck_assert_str_eq(cfg.data.name, "cifar10");
    ck_assert_uint_eq(cfg.data.augment.n, 2);
    ck_assert_str_eq(cfg.data.augment.item[0], "crop4");
    ck_assert_str_eq(cfg.data.augment.item[1], "flip");
    ck_assert_int_eq(cfg.data.shuffle, 1);
    ck_assert_int_eq(cfg.train.epochs, 10);
    ck_assert_int_eq(cfg.train.batch_size, 128);
    ck_assert_double_eq(cfg.train.lr, 0.1);
    ck_assert_double_eq(cfg.train.weight_decay, 5e-4);
    ck_assert_str_eq(cfg.train.schedule, "cosine");
    ck_assert_uint_eq(cfg.train.milestones.n, 0);
    ck_assert_uint_eq(cfg.n_storage, 1);
    ck_assert_str_eq(cfg.storage[0].policy, "normal");
    ck_assert_int_eq(cfg.storage[0].block, 8);
    ck_assert_int_eq(cfg.storage[0].bits, 2);
    ck_assert_str_eq(cfg.storage[0].group, "map");
    ck_assert_int_eq(cfg.log.phases, 1);
    ck_assert_str_eq(cfg.kernels.isa, "auto");
}
END_TEST

/* Rows are well formed, found by their path, and their defaults stay within type and range. */
START_TEST(table_rows)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    ck_assert_uint_gt(n, 40);
    for (size_t i = 0; i < n; i++) {
        const struct config_key *key = &keys[i];
        ck_assert_ptr_eq(config_key_find(key->path), key);
        ck_assert_msg(key->help[0] != '\0' && !strchr(key->help, '\n'), "%s", key->path);
        ck_assert_uint_gt(key->size, 0);
        ck_assert_int_eq(key->in_storage, strncmp(key->path, "storage.", 8) == 0);
        const int is_number = key->type == CONFIG_INT || key->type == CONFIG_REAL ||
                              key->type == CONFIG_INTS;
        ck_assert_msg(is_number ? key->min < key->max : key->min == 0 && key->max == 0, "%s",
                      key->path);
        for (size_t j = 0; j < i; j++) {
            ck_assert_str_ne(key->path, keys[j].path);
        }

        struct config cfg;
        struct err err = {0};
        char text[256];
        config_defaults(&cfg);
        snprintf(text, sizeof text, "%s=%s", key->path, key->fallback);
        ck_assert_msg(config_set(&cfg, text, &err) == 0, "%s", err.msg);
        if (key->type == CONFIG_INT ||
            key->type == CONFIG_REAL) { /* both ends belong to the range */
            snprintf(text, sizeof text, "%s=%.17g", key->path, key->min);
            ck_assert_msg(config_set(&cfg, text, &err) == 0, "%s", err.msg);
            snprintf(text, sizeof text, "%s=%.17g", key->path, key->max);
            ck_assert_msg(config_set(&cfg, text, &err) == 0, "%s", err.msg);
            snprintf(text, sizeof text, "%s=%.17g", key->path, key->max * 1.5 + 2);
            ck_assert_int_eq(config_set(&cfg, text, &err), ERR_CONFIG);
            snprintf(text, sizeof text, "%s=-1", key->path);
            ck_assert_int_eq(config_set(&cfg, text, &err), ERR_CONFIG);
        }
    }
    ck_assert_ptr_null(config_key_find("train"));
    ck_assert_ptr_null(config_key_find(""));
}
END_TEST

/* Rows of one section stand together: the writer opens each section once. */
START_TEST(table_sections)
{
    size_t n;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 1; i < n; i++) {
        const size_t len = strcspn(keys[i].path, ".");
        if (keys[i].path[len] == '\0' || strncmp(keys[i - 1].path, keys[i].path, len + 1) == 0) {
            continue;
        }
        for (size_t j = 0; j < i; j++) {
            ck_assert_msg(strncmp(keys[j].path, keys[i].path, len + 1) != 0, "%s", keys[i].path);
        }
    }
}
END_TEST

/* ---- reading ---- */

static const char sample[] = "# the issue's example\n"
                             "name: cifar10_resnet18\n"
                             "seed: [0, 1, 2]\n"
                             "expect: \"\"\n"
                             "model:   {name: resnet18, form: cifar, classes: 10}\n"
                             "data:    {name: cifar10, path: data/cifar-10-batches-bin, "
                             "augment: [crop4, flip], shuffle: true}\n"
                             "train:\n"
                             "  epochs: 1e2\n"
                             "  batch_size: 256\n"
                             "  lr: 0.1\n"
                             "  weight_decay: 5.0e-4\n"
                             "  schedule: multistep\n"
                             "  milestones:\n"
                             "    - 50\n"
                             "    - 75\n"
                             "  nesterov: yes\n"
                             "storage:\n"
                             "  - {policy: normal}\n"
                             "  - {policy: fixed, bits: 4, group: 256}\n"
                             "  - policy: division\n"
                             "    block: 4\n"
                             "    label: 'it''s'\n"
                             "    except: [{match: \"layer1.*\", policy: fixed, bits: 4},\n"
                             "             {match: conv1, policy: normal}]\n"
                             "sweep:   {train.batch_size: [64, 1e2], model.name: [a, \"1\"]}\n"
                             "log:     {steps: false, phases: Off}\n"
                             "run:     {threads: 0}\n"
                             "output:  {dir: \"runs/a b\"}\n";

START_TEST(read_sample)
{
    struct config cfg;
    must_parse(sample, &cfg);
    ck_assert_str_eq(cfg.name, "cifar10_resnet18");
    ck_assert_uint_eq(cfg.seed.n, 3);
    ck_assert_int_eq(cfg.seed.item[2], 2);
    ck_assert_str_eq(cfg.model.name, "resnet18");
    ck_assert_int_eq(cfg.model.classes, 10);
    ck_assert_str_eq(cfg.data.path, "data/cifar-10-batches-bin");
    ck_assert_int_eq(cfg.train.epochs, 100);
    ck_assert_double_eq(cfg.train.weight_decay, 5e-4);
    ck_assert_uint_eq(cfg.train.milestones.n, 2);
    ck_assert_int_eq(cfg.train.milestones.item[1], 75);
    ck_assert_int_eq(cfg.train.nesterov, 1);
    ck_assert_int_eq(cfg.log.phases, 0);
    ck_assert_str_eq(cfg.output.dir, "runs/a b");
    ck_assert_double_eq(cfg.train.momentum, 0.9); /* not given */
    ck_assert_uint_eq(cfg.n_storage, 3);
    ck_assert_str_eq(cfg.storage[1].policy, "fixed");
    ck_assert_int_eq(cfg.storage[1].bits, 4);
    ck_assert_str_eq(cfg.storage[1].group, "256");
    ck_assert_int_eq(cfg.storage[2].block, 4);
    ck_assert_int_eq(cfg.storage[2].bits, 2);
    ck_assert_str_eq(cfg.storage[2].label, "it's");
    ck_assert_uint_eq(cfg.n_sweep, 2);
    ck_assert_uint_eq(cfg.sweep[0].n, 2);
    ck_assert_str_eq(cfg.sweep[0].item[1], "1e2");
    ck_assert_str_eq(cfg.sweep[1].item[1], "1");
    must_round_trip(&cfg);
}
END_TEST

START_TEST(read_forms)
{
    struct config cfg;
    must_parse("{}", &cfg);
    must_parse("%YAML 1.1\n---\nname: a\n...\n", &cfg);
    must_parse("\xEF\xBB\xBFname: \"\\u00e4\"\r\n", &cfg);
    ck_assert_str_eq(cfg.name, "\xC3\xA4");
    must_parse("seed: 7", &cfg);
    ck_assert_int_eq(cfg.seed.item[0], 7);
    ck_assert_uint_eq(cfg.seed.n, 1);
    must_parse("seed: 9007199254740992", &cfg);
    must_parse("data: {augment: none}", &cfg);
    ck_assert_uint_eq(cfg.data.augment.n, 0);
    must_parse("data: {augment: []}", &cfg);
    ck_assert_uint_eq(cfg.data.augment.n, 0);
    must_parse("data: {augment: flip}", &cfg);
    ck_assert_uint_eq(cfg.data.augment.n, 1);
    ck_assert_str_eq(cfg.data.augment.item[0], "flip");
    must_parse("storage: {policy: division, bits: 4}", &cfg);
    ck_assert_uint_eq(cfg.n_storage, 1);
    ck_assert_int_eq(cfg.storage[0].bits, 4);
    must_parse("train: {milestones: []}", &cfg);
    must_parse("train: {lr: .5}", &cfg);
    ck_assert_double_eq(cfg.train.lr, 0.5);
    must_parse("train: {lr: 1}", &cfg);
    ck_assert_double_eq(cfg.train.lr, 1.0);
    must_parse("expect: diverge", &cfg);
    ck_assert_str_eq(cfg.expect, "diverge");
    must_parse("name: 2024", &cfg);
    ck_assert_str_eq(cfg.name, "2024");
}
END_TEST

/* Each input with the part of the message that counts. */
static const struct {
    const char *text, *message;
} faults[] = {
    /* unknown keys */
    {"train:\n  epochs: 3\n  lrr: 1\n", "c.yaml:3: train.lrr: unknown key; did you mean train.lr?"},
    {"trian: {lr: 1}", "c.yaml:1: trian: unknown key; did you mean train?"},
    {"lr: 1", "c.yaml:1: lr: unknown key; did you mean train.lr?"},
    {"train: {bits: 4}", "train.bits: unknown key; did you mean storage.bits?"},
    {"train.lr: 0.1", "train.lr: unknown key; keys are nested, write train: {lr: ...}"},
    {"storage.bits: 4", "unknown key; keys are nested, write storage: {bits: ...}"},
    {"log: {verbosity: 4}", "log.verbosity: unknown key; expected one of steps, phases"},
    {"storage:\n - policy: fixed\n - policy: fixed\n   bitz: 4\n",
     "c.yaml:4: storage.bitz: unknown key; did you mean storage.bits?"},
    {"completely_else: 1",
     "unknown key; expected one of name, seed, expect, model, data, train, storage, log, run, "
     "kernels, output"},
    {"\"\": 1", "unknown key"},
    {"train: {\"\": 1}", "train.: unknown key"},
    {"[a]: 1", "c.yaml:1: expected the name of a key, found a list"},
    {"train: {{a: 1}: 1}", "c.yaml:1: expected the name of a key, found a map"},
    {"\"a\\e[31m\": 1", "a?[31m: unknown key"},
    /* sweeps */
    {"sweep: {train.lrr: [1]}", "c.yaml:1: sweep.train.lrr: unknown key; did you mean"},
    {"sweep: {batch_size: [1]}", "sweep.batch_size: unknown key; did you mean train.batch_size?"},
    {"sweep: {train: [1]}", "sweep.train: unknown key"},
    {"sweep: {seed: [1]}", "sweep.seed: this key is a list itself"},
    {"sweep: {storage.policy: [fixed]}", "sweep.storage.policy: this key cannot be swept over"},
    {"sweep: {name: [a]}", "sweep.name: this key cannot be swept over"},
    {"sweep: {output.dir: [a]}", "sweep.output.dir: this key cannot be swept over"},
    {"sweep: [a]", "c.yaml:1: sweep: expected keys with lists of values"},
    {"sweep:\n  train.lr: 1\n", "c.yaml:2: train.lr: expected a list of values, found"},
    {"sweep:\n  train.lr: []\n", "train.lr: expected at least one value, found an empty list"},
    {"sweep:\n  train.lr:\n    - 1\n    - fast\n", "c.yaml:4: train.lr: expected a number"},
    {"sweep: {train.lr: [1, [2]]}", "train.lr: expected at most 32 single values, found a list"},
    {"sweep: {train.lr: [1], train.lr: [2]}", "train.lr: given twice; the first is in line 1"},
    {"sweep: {train.lr: [1]}\nsweep: {train.gamma: [1]}", "c.yaml:2: sweep: given twice"},
    {"sweep: {train.lr: [1], train.gamma: [1], train.momentum: [1], train.epochs: [1], "
     "model.name: [a]}",
     "sweep: expected at most 4 keys, found more"},
    /* exceptions */
    {"storage:\n  policy: division\n  except:\n    - match: a\n      polic: fixed\n",
     "c.yaml:5: storage.except.polic: unknown key; did you mean storage.policy?"},
    {"storage: {except: [{mtach: a, policy: fixed}]}",
     "storage.except.mtach: unknown key; did you mean match?"},
    {"storage: {except: [{match: a, policy: fixed, label: x}]}",
     "storage.except.label: an exception has none of its own"},
    {"storage: {except: [{match: a, policy: fixed, except: []}]}",
     "storage.except.except: an exception has none of its own"},
    {"storage:\n  except:\n    - policy: fixed\n",
     "c.yaml:3: storage.except: expected match: NAME, the maps that it is about, found none"},
    {"storage: {except: [{match: \"\", policy: fixed}]}", "storage.except: expected match: NAME"},
    {"storage: {except: [{match: , policy: fixed}]}",
     "storage.except.match: expected a text, found nothing"},
    {"storage: {except: [{match: [a], policy: fixed}]}",
     "storage.except.match: expected a text, found a list"},
    {"storage: {except: [{match: \"a\\nb\", policy: fixed}]}",
     "storage.except.match: expected printable text on one line"},
    {"storage: {except: [{match: "
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, policy: fixed}]}",
     "storage.except.match: expected a text of at most 63 bytes, found one of 64"},
    {"storage:\n  except:\n    - match: a\n      bits: 4\n",
     "c.yaml:3: storage.except: expected policy: NAME for match: a, found none"},
    {"storage: {except: [{match: a, policy: fixed, bits: four}]}",
     "storage.except.bits: expected a whole number, found the text \"four\""},
    {"storage: {except: [{match: a, policy: fixed, bits: 17}]}",
     "storage.except.bits: 17 is out of range"},
    {"storage:\n  except:\n    - match: a\n      policy: fixed\n      match: b\n",
     "c.yaml:5: storage.except.match: given twice; the first is in line 3"},
    {"storage: {except: [{match: a, policy: fixed, policy: b}]}",
     "storage.except.policy: given twice"},
    {"storage:\n  except:\n    - {match: a, policy: fixed}\n    - {policy: normal, match: a}\n",
     "c.yaml:4: storage.except.match: a: given twice; only the first would count"},
    {"storage:\n  except: {match: a, policy: fixed}\n  policy: normal\n  except: []\n",
     "c.yaml:4: storage.except: given twice; the first is in line 2"},
    {"storage: {except: []}", "storage.except: expected at least one entry, found an empty list"},
    {"storage: {except: fixed}",
     "storage.except: expected maps such as {match: conv1, policy: normal}, found the text"},
    {"storage: {except: }", "storage.except: expected maps such as"},
    {"storage: {except: [conv1]}", "storage.except: expected maps such as"},
    {"storage: {except: [[{match: a, policy: fixed}]]}",
     "expected maps such as {match: conv1, policy: normal}, found a list"},
    {"storage: {except: [{[a]: 1}]}", "expected the name of a key, found a list"},
    {"storage: {except: [{match: &x a, policy: fixed}]}", "anchors (&x) are not supported"},
    {"except: [{match: a, policy: fixed}]", "c.yaml:1: except: unknown key"},
    {"train: {except: []}", "train.except: unknown key"},
    {"storage: {exept: []}", "storage.exept: unknown key"},
    {"sweep: {storage.except: [a]}", "sweep.storage.except: unknown key"},
    /* types */
    {"train: {lr: fast}", "c.yaml:1: train.lr: expected a number, found the text \"fast\""},
    {"train: {lr: \"0.1\"}", "train.lr: expected a number, found the text \"0.1\""},
    {"train: {lr: [0.1]}", "train.lr: expected a number, found a list"},
    {"train:\n  lr:\n    a: 1", "c.yaml:3: train.lr: expected a number, found a map"},
    {"train: {lr: }", "train.lr: expected a number, found nothing"},
    {"train: {lr: ~}", "train.lr: expected a number, found nothing"},
    {"train: {lr: .nan}", "train.lr: expected a number, found the text \".nan\""},
    {"train: {lr: nan}", "train.lr: expected a number, found the text \"nan\""},
    {"train: {lr: .inf}", "train.lr: expected a number, found the text \".inf\""},
    {"train: {lr: inf}", "expected a number, found the text \"inf\""},
    {"train: {lr: 0x1}", "expected a number, found the text \"0x1\""},
    {"train: {lr: 1e}", "expected a number, found the text \"1e\""},
    {"train: {epochs: 1.5}", "train.epochs: expected a whole number, found 1.5"},
    {"train: {epochs: 1e-3}", "train.epochs: expected a whole number, found 1e-3"},
    {"train: {epochs: 010}", "train.epochs: expected a whole number, found 010"},
    {"train: {epochs: ten}", "train.epochs: expected a whole number, found the text \"ten\""},
    {"train: {nesterov: 1}", "train.nesterov: expected true or false, found 1"},
    {"train: {nesterov: \"true\"}", "expected true or false, found the text \"true\""},
    {"name: [a]", "name: expected a text, found a list"},
    {"name:", "name: expected a text, found nothing"},
    {"name: null", "name: expected a text, found nothing"},
    {"seed: a", "seed: expected a whole number or a list of them, found the text \"a\""},
    {"seed:\n - 1\n - b", "c.yaml:3: seed: expected a whole number or a list of them, found the"},
    {"seed: [[1]]", "seed: expected a whole number as entry of the list, found a list"},
    {"seed: []", "seed: expected at least one entry, found an empty list"},
    {"seed: {a: 1}", "seed: expected a whole number or a list of them, found a map"},
    {"seed: [1, 2, 1]", "seed: expected different entries, found 1 twice"},
    {"data: {augment: [flip, flip]}", "data.augment: expected different entries, found flip twice"},
    {"data: {augment: {a: 1}}", "data.augment: expected a text or a list of texts, found a map"},
    {"seed: [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,"
     "31,32]",
     "seed: expected at most 32 entries, found more"},
    /* ranges */
    {"train: {lr: -1}", "train.lr: -1 is out of range; expected a number from 0 to 1000000"},
    {"train: {lr: 1e999}", "train.lr: 1e999 is out of range"},
    {"train: {epochs: -3}",
     "train.epochs: -3 is out of range; expected a whole number from 1 to 1000000"},
    {"train: {epochs: 99999999999999999999999}", "99999999999999999999999 is out of range"},
    {"train: {epochs: 1e30}", "train.epochs: 1e30 is out of range"},
    {"train: {epochs: -99999999999999999999999}", "is out of range"},
    {"seed: 9007199254740993",
     "9007199254740993 is out of range; expected a whole number from 0 to 9007199254740992"},
    {"train: {milestones: [0]}", "train.milestones: 0 is out of range"},
    {"run: {threads: 1025}", "run.threads: 1025 is out of range; expected a whole number from 0"},
    {"model: {dropout: 1.0}",
     "model.dropout: 1.0 is out of range; expected a number from 0 to 0.99"},
    /* choices */
    {"train: {schedule: cosin}",
     "train.schedule: expected constant, multistep or cosine, found the text \"cosin\"; did you "
     "mean cosine?"},
    {"expect: failure", "expect: expected \"\" or diverge, found the text \"failure\""},
    /* texts */
    {"name: a/b",
     "name: expected a name for a folder (no '/', no '.' in front), found the text \"a/b\""},
    {"name: ..", "name: expected a name for a folder (no '/', no '.' in front)"},
    {"name: \"\"",
     "name: expected a name for a folder (no '/', no '.' in front), found the text \"\""},
    {"storage: {label: x/y}",
     "storage.label: expected a name for a folder (no '/', no '.' in front)"},
    {"name: \"a\\nb\"", "name: expected printable text on one line, found the control character "
                        "U+000A at byte 2"},
    {"name: \"a\\0b\"", "found the control character U+0000 at byte 2"},
    {"name: \"\\u2028\"", "found the control character U+2028"},
    {"storage: {group: 0123456789abcdef}",
     "storage.group: expected a text of at most 15 bytes, found one of 16"},
    {"data: {augment: "
     "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]}",
     "data.augment: expected a text of at most 63 bytes, found one of 65"},
    /* twice */
    {"train:\n  lr: 1\n  epochs: 2\n  lr: 2\n",
     "c.yaml:4: train.lr: given twice; the first is in line 2"},
    {"train: {lr: 1}\nname: x\ntrain: {epochs: 1}\n",
     "c.yaml:3: train: given twice; the first is in line 1"},
    {"name: a\nname: a\n", "c.yaml:2: name: given twice; the first is in line 1"},
    {"storage:\n - policy: a\n   policy: b\n", "c.yaml:3: storage.policy: given twice"},
    /* sections */
    {"train: 3", "train: expected a map of keys (epochs, batch_size, "},
    {"run: 3", "run: expected a map of keys (threads), found 3"},
    {"log: [steps]", "log: expected a map of keys (steps, phases), found a list"},
    {"log:\nname: a\n", "c.yaml:1: log: expected a map of keys (steps, phases), found nothing"},
    {"storage: division", "storage: expected a map or a list of maps of keys (policy, label, "},
    {"storage: [division]", "found the text \"division\""},
    {"storage: []", "storage: expected at least one entry, found an empty list"},
    {"storage: [[{policy: normal}]]", "found a list"},
    {"storage: "
     "[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},"
     "{},{},{},{},{}]",
     "storage: expected at most 32 entries, found more"},
    /* YAML beyond plain values */
    {"name: &x a\nexpect: *x\n", "c.yaml:1: anchors (&x) are not supported"},
    {"train: &t {lr: 1}", "c.yaml:1: anchors (&t) are not supported"},
    {"seed: &s [1]", "anchors (&s) are not supported"},
    {"name: *x", "c.yaml:1: aliases (*x) are not supported; write the value out again"},
    {"train: {<<: *x}", "train.<<: unknown key"},
    {"train: {lr: !!float 1}", "c.yaml:1: tags (tag:yaml.org,2002:float) are not supported"},
    {"seed: !local [1]", "tags (!local) are not supported"},
    {"!x {name: a}", "tags (!x) are not supported"},
    {"name: ! a", "tags (!) are not supported"},
    /* documents */
    {"", "c.yaml: the file is empty; expected keys"},
    {"# nothing but this\n", "c.yaml: the file is empty"},
    {"---\n", "c.yaml: the file is empty"},
    {"just a text",
     "c.yaml:1: expected a map of keys (key: value), found the text \"just a text\""},
    {"- a\n- b\n", "c.yaml:1: expected a map of keys (key: value), found a list"},
    {"name: a\n---\nname: b\n", "c.yaml:2: a second document begins here"},
    /* syntax */
    {"train: {lr: 1\n", "YAML syntax"},
    {"train: {lr: 1, epochs 2}",
     "c.yaml:1: train.epochs 2: unknown key; did you mean train.epochs?"},
    {"\"name\\0x\": a", "name?: unknown key; did you mean name?"},
    {"name: a\n\tseed: 1\n", "c.yaml:2: YAML syntax"},
    {"name: \"a\n", "YAML syntax: found unexpected end of stream"},
    {"name: a\nseed: \x01\n", "c.yaml:2: YAML syntax: control characters are not allowed"},
    {"name: a\n\nseed: \xff\n", "c.yaml:3: YAML syntax: invalid leading UTF-8 octet"},
    {"name: a\n  seed: 1\n", "c.yaml:2: YAML syntax"},
    {"name: b: c", "YAML syntax: mapping values are not allowed in this context"},
    {"]", "YAML syntax"},
};

START_TEST(read_fault)
{
    struct config cfg, before;
    struct err err = {0};
    memset(&cfg, 0xAA, sizeof cfg);
    before = cfg;
    ck_assert_int_eq(parse(faults[_i].text, &cfg, &err), ERR_CONFIG);
    ck_assert_int_eq(err.code, ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, faults[_i].message) != NULL, "%s\n  gives    %s\n  expected %s",
                  faults[_i].text, err.msg, faults[_i].message);
    ck_assert_msg(strncmp(err.msg, "c.yaml:", 7) == 0, "no file: %s", err.msg);
    ck_assert_msg(memcmp(&cfg, &before, sizeof cfg) == 0, "output changed on failure");
    ck_assert_int_eq(parse(faults[_i].text, &cfg, NULL), ERR_CONFIG);
}
END_TEST

START_TEST(read_files)
{
    struct config cfg;
    struct err err = {0};
    struct scratch s;
    static const char unknown[] = "train:\n  epochz: 1\n", good[] = "train:\n  epochs: 3\n";
    ck_assert_int_eq(config_read("no/such/file.yaml", &cfg, &err), ERR_MISSING);
    ck_assert_str_eq(err.msg, "no/such/file.yaml: there is no such config file");
    ck_assert_int_eq(config_read("/", &cfg, &err), ERR_IO);

    scratch_make(&s);
    const char *path = scratch_write(&s, "c.yaml", unknown, sizeof unknown - 1);
    ck_assert_int_eq(config_read(path, &cfg, &err), ERR_CONFIG);
    ck_assert_msg(
        strstr(err.msg, "c.yaml:2: train.epochz: unknown key; did you mean train.epochs?"), "%s",
        err.msg);
    ck_assert_ptr_eq(strstr(err.msg, s.dir), err.msg);
    path = scratch_write(&s, "c.yaml", good, sizeof good - 1);
    ck_assert_msg(config_read(path, &cfg, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(cfg.train.epochs, 3);

    const size_t size = 1024 * 1024 + 1;
    char *blanks = mem_alloc(MEM_OTHER, size);
    memset(blanks, ' ', size);
    path = scratch_write(&s, "c.yaml", blanks, size);
    ck_assert_int_eq(config_read(path, &cfg, &err), ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, "larger than 1 MiB") != NULL, "%s", err.msg);
    mem_free(blanks);
    scratch_remove(&s);
}
END_TEST

/* A megabyte of anything is refused (or, of comments, read) in no time. */
START_TEST(read_huge)
{
    static const char *const units[] = {"[",     "{",   "- ",      "? ",     "a: ", "\"",
                                        "'",     "!",   "&a ",     "{a: ",   "[[]", "\n\n",
                                        "# \n",  "a",   "a\n",     "*",      "%",   ", ",
                                        "---\n", "|\n", "name: [", "a: b\n", ": ",  "storage: [{"};
    const size_t size = 1024 * 1024;
    char *text = mem_alloc(MEM_OTHER, size + 1);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        struct config cfg;
        struct err err = {0};
        const size_t len = strlen(units[u]);
        for (size_t i = 0; i < size; i++) {
            text[i] = units[u][i % len];
        }
        ck_assert_int_eq(config_parse("c.yaml", text, size, &cfg, &err), ERR_CONFIG);
        ck_assert_uint_lt(strlen(err.msg), 900);
    }
    ck_assert_int_eq(config_parse("c.yaml", text, size + 1, &(struct config){0}, NULL), ERR_CONFIG);
    mem_free(text);
}
END_TEST

/* Whatever is cut off or changed, the reader either refuses with a message or gives a
 * configuration that round-trips. */
static void try_any(const char *text, size_t size)
{
    struct config cfg;
    struct err err = {0};
    char *exact = mem_alloc(MEM_OTHER, size); /* so that reading behind the end is noticed */
    memcpy(exact, text, size);
    if (config_parse("c.yaml", exact, size, &cfg, &err) == 0) {
        must_round_trip(&cfg);
    } else {
        ck_assert_int_eq(err.code, ERR_CONFIG);
        ck_assert_ptr_nonnull(strstr(err.msg, "c.yaml:"));
    }
    mem_free(exact);
}

START_TEST(read_truncated)
{
    for (size_t size = 0; size < sizeof sample; size++) {
        try_any(sample, size);
    }
}
END_TEST

START_TEST(read_mutated)
{
    const struct rng rng = rng_make(1, RNG_TEST, 0, 0);
    char text[sizeof sample];
    static const char likely[] = "\n :-[]{},\"'&*!?|>#%@`\t~0123456789.eE\\\xC3";
    for (uint32_t i = 0; i < 4000; i++) {
        memcpy(text, sample, sizeof text);
        const uint32_t at = rng_below(&rng, 3 * i, sizeof text - 1);
        const uint32_t any = rng_below(&rng, 3 * i + 1, 256);
        const uint32_t one = rng_below(&rng, 3 * i + 2, sizeof likely - 1);
        text[at] = i % 2 ? (char)any : likely[one];
        try_any(text, sizeof text - 1);
    }
}
END_TEST

/* ---- the command line ---- */

START_TEST(set_values)
{
    struct config cfg;
    must_parse(sample, &cfg);
    must_set(&cfg, "train.lr=0.05");
    ck_assert_double_eq(cfg.train.lr, 0.05);
    must_set(&cfg, "train.milestones=[10, 20 ,30]");
    ck_assert_uint_eq(cfg.train.milestones.n, 3);
    ck_assert_int_eq(cfg.train.milestones.item[1], 20);
    must_set(&cfg, "train.milestones=[]");
    ck_assert_uint_eq(cfg.train.milestones.n, 0);
    must_set(&cfg, "train.milestones=5");
    ck_assert_uint_eq(cfg.train.milestones.n, 1);
    must_set(&cfg, "data.augment=none");
    ck_assert_uint_eq(cfg.data.augment.n, 0);
    must_set(&cfg, "data.augment=[crop4_reflect,flip]");
    ck_assert_str_eq(cfg.data.augment.item[0], "crop4_reflect");
    must_set(&cfg, "log.steps=on");
    ck_assert_int_eq(cfg.log.steps, 1);
    must_set(&cfg, "output.dir=");
    ck_assert_str_eq(cfg.output.dir, "");
    must_set(&cfg, "output.dir=a=b: c, [d]");
    ck_assert_str_eq(cfg.output.dir, "a=b: c, [d]");
    must_set(&cfg, "storage.bits=8");
    must_set(&cfg, "storage.policy=fixed");
    for (size_t i = 0; i < 3; i++) {
        ck_assert_str_eq(cfg.storage[i].policy, "fixed");
        ck_assert_int_eq(cfg.storage[i].bits, 8);
        ck_assert_uint_eq(cfg.storage[i].set & 8, 8);
    }
    must_round_trip(&cfg);
}
END_TEST

static const struct {
    const char *text, *message;
} set_faults[] = {
    {"train.lr=fast", "--set train.lr=fast: train.lr: expected a number, found the text \"fast\""},
    {"train.lr", "--set train.lr: expected KEY=VALUE"},
    {"=1", "--set =1: expected KEY=VALUE"},
    {"train.lrr=1", "--set train.lrr=1: train.lrr: unknown key; did you mean train.lr?"},
    {"lr=1", "lr: unknown key; did you mean train.lr?"},
    {"trian.lr=1", "trian.lr: unknown key"},
    {"train=1", "train: this is a section; expected one of its keys: epochs, "},
    {"storage=fixed", "storage: this is a section; set one of its keys (policy, label, block, "},
    {"storage.bit=4", "storage.bit: unknown key; did you mean storage.bits?"},
    {"storage.bits=17", "storage.bits: 17 is out of range; expected a whole number from 0 to 16"},
    {"seed=[]", "seed: expected at least one entry"},
    {"seed=[1", "seed: expected a list [a, b], found no ']'"},
    {"seed=[", "seed: expected a list [a, b], found no ']'"},
    {"seed=[1,]", "seed: expected an entry behind the last ','"},
    {"seed=[1,,2]", "seed: expected a whole number or a list of them, found nothing"},
    {"seed=", "seed: expected a whole number or a list of them, found nothing"},
    {"train.lr=", "train.lr: expected a number, found nothing"},
    {"train.epochs=1.5", "train.epochs: expected a whole number, found 1.5"},
    {"name=a\nb", "name: expected printable text on one line"},
    {"name=\xff", "name: expected UTF-8 text, found byte 0xFF at byte 1"},
    {"kernels.isa=sse", "kernels.isa: expected auto, ref, base, avx2 or avx512, found"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1",
     "expected a key before '='"},
};

START_TEST(set_fault)
{
    struct config cfg, before;
    struct err err = {0};
    must_parse(sample, &cfg);
    before = cfg;
    ck_assert_int_eq(config_set(&cfg, set_faults[_i].text, &err), ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, set_faults[_i].message) != NULL, "%s\n  gives    %s",
                  set_faults[_i].text, err.msg);
    ck_assert_msg(strncmp(err.msg, "--set ", 6) == 0, "%s", err.msg);
    ck_assert_int_eq(memcmp(&cfg, &before, sizeof cfg), 0);
    ck_assert_int_ne(config_set(&cfg, set_faults[_i].text, NULL), 0);
}
END_TEST

START_TEST(set_policy)
{
    struct config cfg;
    struct err err = {0};
    char text[128];
    must_parse(sample, &cfg);
    ck_assert_int_eq(config_set_policy(&cfg, "fixed:bits=4,group=map", 0, &err), 0);
    ck_assert_uint_eq(cfg.n_storage, 1);
    ck_assert_str_eq(cfg.storage[0].policy, "fixed");
    ck_assert_int_eq(cfg.storage[0].bits, 4);
    config_storage_text(&cfg.storage[0], text, sizeof text);
    ck_assert_str_eq(text, "policy: fixed, bits: 4, group: map");
    config_storage_text(&cfg.storage[0], text, 10);
    ck_assert_str_eq(text, "policy: f");
    must_round_trip(&cfg);

    ck_assert_int_eq(config_set_policy(&cfg, "normal", 1, &err), 0);
    ck_assert_int_eq(config_set_policy(&cfg, "division:label=[a,b]", 1, &err), 0);
    ck_assert_uint_eq(cfg.n_storage, 3);
    ck_assert_str_eq(cfg.storage[2].label, "[a,b]");
    config_storage_text(&cfg.storage[1], text, sizeof text);
    ck_assert_str_eq(text, "policy: normal");
    must_round_trip(&cfg);
    for (int i = 3; i < CONFIG_LIST; i++) {
        ck_assert_int_eq(config_set_policy(&cfg, "normal", 1, &err), 0);
    }
    ck_assert_int_eq(config_set_policy(&cfg, "normal", 1, &err), ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.msg, "at most 32 policies"));
}
END_TEST

static const struct {
    const char *text, *message;
} policy_faults[] = {
    {"", "--policy : expected NAME or NAME:key=value"},
    {":bits=4", "--policy :bits=4: expected NAME"},
    {"fixed:", "--policy fixed:: expected key=value after ':'"},
    {"fixed:bits=4,", "expected key=value after ':' and ',', found \"\""},
    {"fixed:bits", "expected key=value after ':' and ',', found \"bits\""},
    {"fixed:bitz=4", "--policy fixed:bitz=4: bitz: unknown key; did you mean storage.bits?"},
    {"fixed:bits=four", "bits: expected a whole number, found the text \"four\""},
    {"fixed:bits=4,bits=4", "bits: given twice"},
    {"fixed:policy=normal", "policy: given twice"},
    {"fixed:block=65", "block: 65 is out of range; expected a whole number from 1 to 64"},
    {"fixed:group=[a,b", ""}, /* an open bracket is just text */
};

START_TEST(policy_fault)
{
    struct config cfg, before;
    struct err err = {0};
    config_defaults(&cfg);
    before = cfg;
    const int rc = config_set_policy(&cfg, policy_faults[_i].text, 0, &err);
    if (policy_faults[_i].message[0] == '\0') {
        ck_assert_int_eq(rc, 0);
        return;
    }
    ck_assert_int_eq(rc, ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, policy_faults[_i].message) != NULL, "%s\n  gives    %s",
                  policy_faults[_i].text, err.msg);
    ck_assert_int_eq(memcmp(&cfg, &before, sizeof cfg), 0);
}
END_TEST

/* ---- exceptions ---- */

START_TEST(exceptions)
{
    struct config cfg;
    struct err err = {0};
    must_parse("storage:\n"
               "  - policy: division\n"
               "    except: [{match: \"layer1.*\", policy: fixed, bits: 4},\n"
               "             {match: conv1, policy: normal}]\n"
               "    block: 4\n"
               "  - policy: fixed\n"
               "  - except: {policy: normal, match: conv1}\n"
               "    policy: fixed\n"
               "    label: it\n",
               &cfg);
    ck_assert_uint_eq(cfg.n_storage, 3);
    ck_assert_int_eq(cfg.storage[0].block, 4);
    ck_assert_uint_eq(cfg.n_except, 3);
    ck_assert_uint_eq(cfg.except[0].storage, 0);
    ck_assert_str_eq(cfg.except[0].match, "layer1.*");
    ck_assert_str_eq(cfg.except[0].keep.policy, "fixed");
    ck_assert_int_eq(cfg.except[0].keep.bits, 4);
    ck_assert_uint_eq(cfg.except[1].storage, 0);
    ck_assert_str_eq(cfg.except[1].keep.policy, "normal");
    ck_assert_int_eq(cfg.except[1].keep.bits, 2);
    ck_assert_uint_eq(cfg.except[2].storage, 2);
    ck_assert_str_eq(cfg.except[2].match, "conv1");
    must_round_trip(&cfg);

    /* --set goes to the entries, --policy to the whole section. */
    must_set(&cfg, "storage.bits=8");
    ck_assert_int_eq(cfg.storage[2].bits, 8);
    ck_assert_int_eq(cfg.except[0].keep.bits, 4);
    ck_assert_int_eq(cfg.except[2].keep.bits, 2);
    must_round_trip(&cfg);
    ck_assert_int_eq(config_set(&cfg, "storage.except=[]", &err), ERR_CONFIG);
    ck_assert_msg(strstr(err.msg, "write them in a config file") != NULL, "%s", err.msg);
    ck_assert_int_eq(config_set_policy(&cfg, "division", 1, &err), 0);
    ck_assert_uint_eq(cfg.n_except, 3);
    must_round_trip(&cfg);
    ck_assert_int_eq(config_set_policy(&cfg, "division", 0, &err), 0);
    ck_assert_uint_eq(cfg.n_except, 0);
    must_round_trip(&cfg);

    /* Names that YAML would take for something else. */
    static const char *const odd[] = {"*", "?", "-", "1", "null", "a: b", "\"", "'", "#", "{a}"};
    config_defaults(&cfg);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        config_storage_defaults(&cfg.except[i].keep);
        memcpy(cfg.except[i].match, odd[i], strlen(odd[i]));
        cfg.n_except = i + 1;
    }
    must_round_trip(&cfg);
}
END_TEST

/* As many as fit, over all entries together; one more is refused. */
START_TEST(exceptions_end)
{
    char text[8192];
    struct config cfg;
    struct err err = {0};
    for (int more = 0; more <= 1; more++) {
        size_t at = (size_t)snprintf(text, sizeof text, "storage:\n");
        for (int i = 0; i < CONFIG_RULES + more; i++) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%s  - {match: m%d, policy: a}\n",
                                   i % 40 == 0 ? "- policy: a\n  except:\n" : "", i);
        }
        ck_assert_uint_lt(at, sizeof text - 1);
        if (!more) {
            must_parse(text, &cfg);
            ck_assert_uint_eq(cfg.n_except, CONFIG_RULES);
            must_round_trip(&cfg);
        } else {
            ck_assert_int_eq(parse(text, &cfg, &err), ERR_CONFIG);
            ck_assert_msg(strstr(err.msg, "c.yaml:70: storage.except: expected at most 64 "
                                          "exceptions in all, found more") != NULL,
                          "%s", err.msg);
        }
    }
}
END_TEST

/* ---- writing ---- */

START_TEST(write_default)
{
    struct config cfg;
    config_defaults(&cfg);
    must_round_trip(&cfg);
    char *text = written(&cfg);
    ck_assert_ptr_nonnull(strstr(text, "\nname: run\nseed: 0\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n  weight_decay: 0.0005\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nstorage:\n  - policy: normal\n"));
    size_t n;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 0; i < n; i++) { /* every key is there, storage keys perhaps in the comment */
        const char *dot = strrchr(keys[i].path, '.');
        ck_assert_msg(strstr(text, dot ? dot + 1 : keys[i].path) != NULL, "%s", keys[i].path);
    }
    mem_free(text);
}
END_TEST

START_TEST(write_odd_values)
{
    static const double reals[] = {0.1, 1.0 / 3, 1e-5, 5e-324, 1e6, 0.1 + 0.2, 123456.789, 0};
    static const char *const texts[] = {
        "a b", "yes", "null", "~",     "1e3",    "0x10",
        "-",   "- a", "a: b", "a #b",  "#a",     "[a",
        "a]",  "{}",  "'",    "\"",    "\\",     "\\n",
        "*a",  "&a",  "!a",   "%a",    "@a",     "`a",
        "|",   ">",   "a,b",  " lead", "trail ", "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x8E\x82",
        "...", "---", "?",    "<<",    "=",      "1:20",
    };
    struct config cfg;
    config_defaults(&cfg);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        cfg.train.lr = reals[i];
        must_round_trip(&cfg);
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        memset(cfg.output.dir, 0, sizeof cfg.output.dir);
        memset(cfg.data.augment.item[0], 0, sizeof cfg.data.augment.item[0]);
        memcpy(cfg.output.dir, texts[i], strlen(texts[i]));
        memcpy(cfg.data.augment.item[0], texts[i], strlen(texts[i]));
        must_round_trip(&cfg);
    }
    for (int64_t i = 0; i < CONFIG_LIST; i++) {
        cfg.seed.item[i] = i * 281474976710656;
        cfg.seed.n = (size_t)i + 1;
    }
    must_round_trip(&cfg);
}
END_TEST

START_TEST(write_full_disk)
{
    struct config cfg;
    struct err err = {0};
    FILE *fp = fopen("/dev/full", "w");
    if (!fp) {
        return; /* only Linux has it */
    }
    config_defaults(&cfg);
    ck_assert_int_eq(config_write(&cfg, fp, &err), ERR_IO);
    ck_assert_msg(strstr(err.msg, "No space left") != NULL, "%s", err.msg);
    fclose(fp);
}
END_TEST

START_TEST(quote_reals)
{
    static const struct {
        double v;
        const char *text;
    } rows[] = {
        {0.1, "0.1"},         {0.0005, "0.0005"},
        {1e-5, "1.0e-05"},    {1.5e-5, "1.5e-05"},
        {100, "100"},         {1e22, "1.0e+22"},
        {NAN, "null"},        {INFINITY, ".inf"},
        {-INFINITY, "-.inf"}, {1.0 / 3, "0.3333333333333333"},
    };
    char buf[32];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_str_eq(quote_real(buf, rows[i].v), rows[i].text);
    }
}
END_TEST

/* Decoder of UTF-8 against the encoder's definition; no surrogates, no overlong forms. */
START_TEST(quote_utf8_all)
{
    unsigned code = 0;
    for (unsigned c = 1; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 97) {
        char s[4];
        size_t n;
        if (c < 0x80) {
            s[0] = (char)c, n = 1;
        } else if (c < 0x800) {
            s[0] = (char)(0xC0 | c >> 6), s[1] = (char)(0x80 | (c & 63)), n = 2;
        } else if (c < 0x10000) {
            s[0] = (char)(0xE0 | c >> 12), s[1] = (char)(0x80 | (c >> 6 & 63));
            s[2] = (char)(0x80 | (c & 63)), n = 3;
        } else {
            s[0] = (char)(0xF0 | c >> 18), s[1] = (char)(0x80 | (c >> 12 & 63));
            s[2] = (char)(0x80 | (c >> 6 & 63)), s[3] = (char)(0x80 | (c & 63)), n = 4;
        }
        const int is_surrogate = c >= 0xD800 && c < 0xE000;
        ck_assert_uint_eq(quote_utf8(s, n, &code), is_surrogate ? 0 : n);
        if (!is_surrogate) {
            ck_assert_uint_eq(code, c);
        }
        ck_assert_uint_eq(quote_utf8(s, n - 1, &code), 0);
    }
    ck_assert_uint_eq(quote_utf8("\xC0\x80", 2, &code), 0);
    ck_assert_uint_eq(quote_utf8("\xE0\x80\x80", 3, &code), 0);
    ck_assert_uint_eq(quote_utf8("\xF4\x90\x80\x80", 4, &code), 0);
    ck_assert_uint_eq(quote_utf8("\x80", 1, &code), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, table_defaults);
    tcase_add_test(t, table_rows);
    tcase_add_test(t, table_sections);
    tcase_add_test(t, read_sample);
    tcase_add_test(t, read_forms);
    tcase_add_loop_test(t, read_fault, 0, (int)(sizeof faults / sizeof *faults));
    tcase_add_test(t, read_files);
    tcase_add_test(t, read_huge);
    tcase_add_test(t, read_truncated);
    tcase_add_test(t, read_mutated);
    tcase_add_test(t, set_values);
    tcase_add_loop_test(t, set_fault, 0, (int)(sizeof set_faults / sizeof *set_faults));
    tcase_add_test(t, set_policy);
    tcase_add_loop_test(t, policy_fault, 0, (int)(sizeof policy_faults / sizeof *policy_faults));
    tcase_add_test(t, exceptions);
    tcase_add_test(t, exceptions_end);
    tcase_add_test(t, write_default);
    tcase_add_test(t, write_odd_values);
    tcase_add_test(t, write_full_disk);
    tcase_add_test(t, quote_reals);
    tcase_add_test(t, quote_utf8_all);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
