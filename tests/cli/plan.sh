#!/bin/sh
# --plan: what it says is what the run then needs, to the byte where bytes are planned and within
# 3 % + 30 MiB for the process; it is quick and small for any batch.
. "${top_srcdir:-.}/tests/cli/lib.sh"

is_sanitized() {
    grep -q '^#define DIVISION_SANITIZED' "$builddir/config.h"
}

# cell FILE SCOPE/LAYER NAME: a cell of the plan, of its first run.
cell() {
    awk -F, -v want="$2" -v name="$3" '
        NR == 1 { for (i = 1; i <= NF; i++) { if ($i == name) at = i; if ($i == "scope") s = i
                      if ($i == "layer") l = i }
                  if (!at) exit 1; next }
        $s == want || ($s == "layer" && $l == want) { print $at; exit }' "$1"
}

# sum FILE NAME...: over the image and all layers.
sum() {
    file=$1
    shift
    awk -F, -v names="$*" '
        BEGIN { n = split(names, list, " "); for (i = 1; i <= n; i++) wanted[list[i]] = 1 }
        NR == 1 { for (i = 1; i <= NF; i++) { if ($i in wanted) use[i] = 1; if ($i == "scope") s = i }
                  next }
        $s != "total" { for (i in use) sum += $i }
        END { printf "%.0f\n", sum }' "$file"
}

pieces='means_bytes codes_bytes ranges_bytes maps_bytes image_bytes signs_bytes indices_bytes
    stats_bytes'

# --- the figures are the run's ----------------------------------------------------------------

# ResNet-18 on tiny images: weights are most of its memory, so that a copy of them would show.
cat >weights.yaml <<EOF
name: weights
model: {name: resnet18}
data: {name: synthetic, limit: 8, test_limit: 8, size: 8}
train: {epochs: 1, batch_size: 8}
run: {threads: 2}
storage: [{policy: normal}, {policy: division}]
EOF
tiny small.yaml small
cat >>small.yaml <<EOF
storage: [{policy: normal}, {policy: fixed}, {policy: division, recompute: bn}, {policy: checkpoint}]
EOF
for config in weights small; do
    works "$run" $config.yaml --set output.dir=$config
    job=0
    for policy in $(sed -n 's/^\([a-z-]*\) .* done .*/\1/p' "$out"); do
        job=$((job + 1))
        csv=$config/$policy-seed0/epochs.csv
        yaml=$config/$policy-seed0/run.yaml
        works "$run" --plan=csv --job $job $config.yaml
        cp "$out" plan.csv
        same "$config, job $job" "$policy" "$(cell plan.csv total policy)"
        for name in saved_bytes planned_peak_bytes arena_bytes; do
            same "$config, $policy: $name" "$(column "$csv" $name)" "$(cell plan.csv total $name)"
        done
        same "$config, $policy: live peak" "$(column "$csv" live_peak_bytes)" \
            "$(cell plan.csv total planned_peak_bytes)"
        for name in $pieces; do
            same "$config, $policy: $name" "$(record "$yaml" $name)" "$(cell plan.csv total $name)"
        done
        if ! is_sanitized; then
            awk -v e="$(cell plan.csv total expected_process_peak_bytes)" \
                -v p="$(column "$csv" process_peak_bytes)" 'BEGIN {
                d = p > e ? p - e : e - p
                exit !(p > 0 && e > 0 && d <= 0.03 * p + 30 * 1024 * 1024) }' ||
                fail "$config, $policy: the process peaked elsewhere than planned"
        fi
    done
    test "$job" -gt 1 || fail "$config: no runs found"
done

# Reading weights takes no second copy either.
works "$run" weights.yaml --set model.init=weights/normal-seed0/model.safetensors \
    --policy division --set output.dir=again
if ! is_sanitized; then
    first=$(column weights/division-seed0/epochs.csv process_peak_bytes)
    again=$(column again/division-seed0/epochs.csv process_peak_bytes)
    test "$again" -lt $((first + 16 * 1024 * 1024)) ||
        fail "with model.init the process peaks at $again bytes, without at $first"
fi

# --- the table --------------------------------------------------------------------------------

works "$run" --plan=csv small.yaml
cp "$out" all.csv
same columns "$(columns plan | paste -s -d, -)" "$(head -n 1 all.csv)"
same 'rows that are totals' 4 "$(grep -c ',total,' all.csv)"
same 'headers' 1 "$(grep -c '^csv_version' all.csv)"
works "$run" --plan=csv small.yaml --policy division:recompute=bn
cp "$out" plan.csv
for name in $pieces saved_bytes parameters macs weights_bytes momentum_bytes; do
    same "the layers' $name" "$(cell plan.csv total $name)" "$(sum plan.csv $name)"
done
# shellcheck disable=SC2086 # words
same 'sum of the pieces' "$(cell plan.csv total saved_bytes)" "$(sum plan.csv $pieces)"
same 'parts of the live peak' "$(cell plan.csv total live_peak_bytes)" "$((
    $(cell plan.csv total gradients_bytes) + $(cell plan.csv total saved_live_bytes) +
    $(cell plan.csv total values_bytes) + $(cell plan.csv total workspace_bytes)))"
same 'the highest layer' "$(cell plan.csv total live_peak_bytes)" "$(
    awk -F, '
        NR == 1 { for (i = 1; i <= NF; i++) { if ($i == "live_peak_bytes") at = i
                      if ($i == "scope") s = i } next }
        $s == "layer" && $at > max { max = $at } END { printf "%.0f\n", max }' plan.csv)"
layer=$(cell plan.csv total peak_at | sed 's/ .*//')
same 'where the peak is' "$(cell plan.csv total peak_at)" "$(cell plan.csv "$layer" peak_at)"
same 'how the stem is kept' encoded "$(cell plan.csv conv1 kept_as)"
same 'how its ReLU is kept' recomputed "$(cell plan.csv relu kept_as)"
same 'the image' exact "$(cell plan.csv image kept_as)"

# The text has the same figures.
works "$run" --plan small.yaml --policy division:recompute=bn
for name in saved_bytes planned_peak_bytes arena_bytes; do
    has "$out" "^ *$name +$(cell plan.csv total $name) "
done
has "$out" "step $(cell plan.csv total peak_step) of [0-9]+ \\($(cell plan.csv total peak_at)\\)"
for pattern in 'layer +weights +means +codes +ranges .*signs.*stats +live peak +gradients' \
    '^  expected process peak ' '^  process base ' '^  workspace '; do
    has "$out" "$pattern"
done

# An evaluation batch that needs more than training is in the plan too.
works "$run" --plan=csv small.yaml --policy division --set train.batch_size=2 \
    --set train.eval_batch_size=32
has "$out" ',evaluation: [a-z0-9.]+ [a-z ]+,'
works "$run" small.yaml --policy division --set train.batch_size=2 --set train.max_steps=1 \
    --set train.eval_batch_size=32 --set output.dir=evaluation
"$run" --plan=csv small.yaml --policy division --set train.batch_size=2 \
    --set train.eval_batch_size=32 >plan.csv
same 'live peak in evaluation' \
    "$(column evaluation/division-seed0/epochs.csv live_peak_bytes)" \
    "$(cell plan.csv total planned_peak_bytes)"

# --- any batch, at once -----------------------------------------------------------------------

# 2^20 images of WRN-50-2 are more than any machine holds; what planning takes is kept to 64 MiB of
# address space beyond a small plan's, and to a few seconds on a loaded machine.
cat >large.yaml <<EOF
name: large
model: {name: wide_resnet50_2, form: imagenet, classes: 1000}
data: {name: synthetic, size: 224, limit: 1281167, test_limit: 50000}
train: {epochs: 1, batch_size: 1048576}
run: {threads: 2}
EOF
for policy in normal division checkpoint; do
    works timeout 10 "$run" --plan=csv large.yaml --policy $policy
    cp "$out" plan.csv
    awk -v e="$(cell plan.csv total expected_process_peak_bytes)" \
        -v b="$(cell plan.csv total process_base_bytes)" 'BEGIN {
        exit !(e > 2 ^ 42 && b < 64 * 2 ^ 20) }' || is_sanitized ||
        fail "$policy: a plan of 2^20 images is not what it should be"
done

fails_with 2 '--plan: unknown form "xml"' "$run" --plan=xml small.yaml

clean
finish
