#!/bin/sh
# division-run as its users run it: what a run leaves behind, and every option.
. "${top_srcdir:-.}/tests/cli/lib.sh"

tiny tiny.yaml tiny
cp tiny.yaml three.yaml
echo 'storage: [{policy: normal}, {policy: fixed, bits: 4}, {policy: division, block: 4}]' >>three.yaml

header() { # FILE
    head -n 1 "$1"
}

# --- a sweep of three policies ----------------------------------------------------------------

works "$run" three.yaml --set output.dir=o
has "$out" '^ *policy +seed +status .*saved.*ratio.*live.*process'
for policy in normal fixed-b4 division-B4-Q2; do
    has "$out" "^$policy +0 +done +1 "
done
same 'lines of the table' 5 "$(grep -c . "$out")"

# Plain lines on a stderr that is no terminal.
has "$err" '^tiny: resnet20 on synthetic, policy normal, seed 0: 64 training images, batch 16'
same 'lines for the epochs' 3 "$(grep -c '^epoch 1/1 .*loss.*top-1.*images/s' "$err")"
same 'control characters on stderr' 0 "$(tr -cd '\r\033' <"$err" | wc -c)"

same folders "$(printf '%s\n' division-B4-Q2-seed0 fixed-b4-seed0 normal-seed0)" "$(ls o)"
for dir in o/*; do
    same "$dir" "$(printf '%s\n' best.safetensors config.yaml epochs.csv model.safetensors run.yaml)" \
        "$(ls "$dir")"
    csv=$dir/epochs.csv
    same "$csv: columns" "$(columns epochs | paste -s -d, -)" "$(header "$csv")"
    same "$csv: rows" 1 "$(column "$csv" epoch | wc -l)"
    same "$csv: empty fields" 0 "$(grep -c ',,\|,$' "$csv")"
    planned=$(column "$csv" planned_peak_bytes)
    same "$csv: live peak" "$planned" "$(column "$csv" live_peak_bytes)"
    same "$dir/run.yaml: planned peak" "$planned" "$(record "$dir/run.yaml" planned_peak_bytes)"
    same "$dir/run.yaml: saved" "$(column "$csv" saved_bytes)" \
        "$(record "$dir/run.yaml" total_bytes)"
    same "$dir/run.yaml: status" 'done' "$(record "$dir/run.yaml" status)"
    same "$dir/run.yaml: steps" 4 "$(record "$dir/run.yaml" steps)"
    same_file "$dir/model.safetensors" "$dir/best.safetensors" # the only epoch is the best

    # A sanitizer's own memory is not in the account.
    if ! grep -q '^#define DIVISION_SANITIZED' "$builddir/config.h"; then
        expected=$(record "$dir/run.yaml" expected_process_peak_bytes)
        peak=$(column "$csv" process_peak_bytes)
        awk -v e="$expected" -v p="$peak" 'BEGIN {
            d = p > e ? p - e : e - p
            exit !(p > 0 && e > 0 && d <= 0.03 * p + 30 * 1024 * 1024) }' ||
            fail "$dir: the process peaked at $peak bytes, expected $expected"
    fi
done

saved() {
    column "o/$1-seed0/epochs.csv" saved_bytes
}
test "$(saved fixed-b4)" -lt "$(saved normal)" || fail "fixed saves no memory"
test "$(saved division-B4-Q2)" -lt "$(saved fixed-b4)" || fail "division with 2 bits beats no 4 bits"
same 'ratio of normal' 1 "$(column o/normal-seed0/epochs.csv saved_ratio)"

# The plan says beforehand what the run then needs; it reads no data: here there is none.
works "$run" three.yaml --plan
for policy in normal fixed-b4 division-B4-Q2; do
    csv=o/$policy-seed0/epochs.csv
    for name in saved_bytes planned_peak_bytes arena_bytes; do
        value=$(column "$csv" $name)
        awk -v folder="# run folder: runs/tiny/$policy-seed0" -v name="$name" -v value="$value" '
            /^# run folder/ { inside = $0 == folder }
            inside && $1 == name && $2 == value { found = 1 }
            END { exit !found }' "$out" || fail "--plan, $policy: $name is not $value"
    done
done
absent runs
works "$run" tiny.yaml --plan --set data.name=cifar10 --set data.path=nowhere --set data.size=0 \
    --set model.name=resnet18 --set data.limit=0 --set train.batch_size=128 --policy division
for pattern in '^  - policy: division$' '^layer1\.0\.conv1 +conv2d 3x3 s1 p1 +32 x 32 x 64 +36864 ' \
    '^fc +linear' ' 11173962 parameters' 'multiply-adds' 'saved_ratio +1[0-9]\.'; do
    has "$out" "$pattern"
done

# On a terminal the line is rewritten. (script gives a command one.)
if command -v script >/dev/null 2>&1; then
    works script -qec "$run tiny.yaml --set output.dir=terminal --set data.limit=2048" /dev/null
    cr=$(printf '\r') esc=$(printf '\033')
    has "$out" "$cr$esc\\[K *epoch 1/1  step .*loss.*top-1.*images/s.* left"
    has "$out" 'normal +0 +done'
fi

# The configs that come with the program fit it.
for config in "$srcdir"/configs/*.yaml; do
    works "$run" --plan "$config"
done

# --- one run, again ---------------------------------------------------------------------------

# The recorded config is a config: run again it gives the same.
works "$run" o/division-B4-Q2-seed0/config.yaml --set output.dir=again
same 'the recorded config, run again' "$(deterministic o/division-B4-Q2-seed0/epochs.csv)" \
    "$(deterministic again/division-B4-Q2-seed0/epochs.csv)"
same_file o/division-B4-Q2-seed0/model.safetensors again/division-B4-Q2-seed0/model.safetensors

# A folder that holds a run is refused, in a sweep before anything starts.
cp o/normal-seed0/run.yaml before.yaml
fails_with 2 'again/division-B4-Q2-seed0.*--force' "$run" o/division-B4-Q2-seed0/config.yaml \
    --set output.dir=again
rm -r o/fixed-b4-seed0
fails_with 2 'o/normal-seed0.*--force' "$run" three.yaml --set output.dir=o
absent o/fixed-b4-seed0
same_file before.yaml o/normal-seed0/run.yaml
echo old >o/normal-seed0/old
works "$run" tiny.yaml --set output.dir=o --force --set log.steps=true
absent o/normal-seed0/old

# steps.csv, on request: the mean of its losses is the epoch's, for batches of one size.
steps=o/normal-seed0/steps.csv
same 'steps.csv: columns' "$(columns steps | paste -s -d, -)" "$(header $steps)"
same 'steps.csv: steps' "$(printf '%s\n' 1 2 3 4)" "$(column $steps step)"
column $steps loss | awk -v epoch="$(column o/normal-seed0/epochs.csv train_loss)" '
    { sum += $1 } END { d = sum / NR / epoch - 1; exit !(d < 1e-6 && d > -1e-6) }' ||
    fail "the mean of the steps' losses is not train_loss"

# --- which runs -------------------------------------------------------------------------------

works "$run" three.yaml --set output.dir=job --job 2
same 'folders of --job 2' fixed-b4-seed0 "$(ls job)"
same 'table of --job 2' '' "$(cat "$out")"

short='--set train.max_steps=1 --set data.limit=16 --set data.test_limit=8'
tiny other.yaml other
# shellcheck disable=SC2086 # words
works "$run" three.yaml other.yaml $short
same 'folders of two configs' \
    "$(printf '%s\n' other/normal-seed0 tiny/division-B4-Q2-seed0 tiny/fixed-b4-seed0 tiny/normal-seed0)" \
    "$(cd runs && ls -d -- */*)"
same 'rows for two configs' 4 "$(grep -c ' done ' "$out")"
# shellcheck disable=SC2086 # words
works "$run" three.yaml other.yaml $short --force --job 4
same 'run of --job 4' 1 "$(grep -c '^other: .*policy normal' "$err")"

# Policies outside, seeds inside.
# shellcheck disable=SC2086 # words
works "$run" three.yaml $short --set 'seed=[3, 4]' --set output.dir=grid
same 'order of a grid' "normal3 normal4 fixed-b43 fixed-b44 division-B4-Q23 division-B4-Q24" \
    "$(sed -n 's/^\([a-z][^ ]*\) *\([34]\) *done .*/\1\2/p' "$out" | paste -s -d' ' -)"
same 'folders of a grid' 6 "$(find grid -name epochs.csv | wc -l)"

# --policy replaces the config's list; --set goes into the record.
# shellcheck disable=SC2086 # words
works "$run" three.yaml $short --policy division:block=2,bits=4 --policy fixed:label=mine \
    --set output.dir=replaced --set train.lr=0.03 --set 'data.augment=[flip]'
same 'folders of --policy' "$(printf '%s\n' division-B2-Q4-seed0 mine-seed0)" "$(ls replaced)"
for pattern in '^  lr: 0\.03$' '^  augment: \[flip\]$' '^  max_steps: 1$' '^    block: 2$' \
    '^    bits: 4$' 'policy: division$'; do
    has replaced/division-B2-Q4-seed0/config.yaml "$pattern"
done
same 'label in the CSV' mine "$(column replaced/mine-seed0/epochs.csv policy)"

# Several epochs: one row each; best.safetensors is the best one's; columns that were not measured
# are empty.
works "$run" tiny.yaml --set output.dir=epochs --set train.epochs=3 --set train.eval_every=2 \
    --set log.phases=false
csv=epochs/normal-seed0/epochs.csv
same 'epochs' '1 2 3' "$(column $csv epoch | paste -s -d' ' -)"
same 'epochs that are evaluated' ' 2 3' \
    "$(awk -F, '$10 != "" && NR > 1 { printf " %s", $5 }' $csv)"
same 'phases that are not measured' '' "$(column $csv forward_s | tr -d '\n')"

# --- weights ----------------------------------------------------------------------------------

weights=o/normal-seed0/model.safetensors
csv=o/normal-seed0/epochs.csv
works "$run" tiny.yaml --set model.init=$weights --evaluate --logits logits.npy
same 'the figures of --evaluate' \
    "$(printf 'loss %.6f, top-1 %.2f %%, top-5 %.2f %%' "$(column $csv test_loss)" \
        "$(column $csv test_top1)" "$(column $csv test_top5)")" \
    "$(sed -n "s,^$weights on 32 test images of synthetic: ,,p" "$out")"
has "$out" "^$weights on 32 test images"
test "$(head -c 6 logits.npy | tail -c 5)" = NUMPY || fail "the logits are no .npy file"
head -c 128 logits.npy | tr -d '\0' | grep -a -q "'<f4'.*'shape': (32, 10)" ||
    fail "the logits are not float32 (32, 10)"
same 'bytes of the logits' $((128 + 4 * 32 * 10)) "$(wc -c <logits.npy)"

# model.init goes on where a run has ended: without momentum and randomness two epochs in a row are
# one epoch and another.
plain='--set train.momentum=0 --set train.schedule=constant --set data.shuffle=false
    --set data.augment=none --set train.lr=0.02'
# shellcheck disable=SC2086 # words
works "$run" tiny.yaml $plain --set output.dir=both --set train.epochs=2
# shellcheck disable=SC2086 # words
works "$run" tiny.yaml $plain --set output.dir=first
# shellcheck disable=SC2086 # words
works "$run" tiny.yaml $plain --set output.dir=second \
    --set model.init=first/normal-seed0/model.safetensors
for name in train_loss train_top1 test_loss test_top1 test_top5; do
    same "$name of the second epoch" "$(column both/normal-seed0/epochs.csv $name | tail -n 1)" \
        "$(column second/normal-seed0/epochs.csv $name)"
done
has second/normal-seed0/config.yaml '^  init: .*first/normal-seed0/model\.safetensors'

# --- lists and texts --------------------------------------------------------------------------

# Of each table, every row. names FILE PATTERN: the names that PATTERN (of sed) finds in FILE.
lists() { # WHAT NAME...
    what=$1
    shift
    works "$run" --list "$what"
    for name; do
        grep -q "^$name " "$out" || fail "--list $what has no $name"
    done
}
lists policies normal fixed division
lists models resnet18 resnet34 resnet50 resnet20 resnet32 resnet44 resnet56 resnet110 resnet164 \
    wrn-D-K wide_resnet50_2
lists datasets cifar10 cifar100 fashion_mnist idx synthetic
has "$out" '^synthetic .* \[size, channels\]$'
# shellcheck disable=SC2046 # words
lists keys $(sed -n 's/^X(\([a-z._]*\),.*/\1/p; s/^S(\([a-z]*\),.*/storage.\1/p' \
    "$srcdir/src/config/config.def")
has "$out" '^train\.max_steps .*, 0 to 9007199254740992$'

works "$run" --version
has "$out" "^division-run .*$(sed -n 's/^#define PACKAGE_VERSION "\(.*\)"/\1/p' "$builddir/config.h")"
works "$run" --help
has "$out" '^usage: division-run '
test ! -s "$err" || fail "--help writes to stderr"

clean
finish
