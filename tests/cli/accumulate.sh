#!/bin/sh
# train.accumulate: a batch in micro-batches, from outside.
. "${top_srcdir:-.}/tests/cli/lib.sh"

tiny tiny.yaml tiny

# 64 images in batches of 24: 24, 24, 16. Four micro-batches of 6, of the last one three: 6, 5, 5.
policies='--policy normal --policy division'
# shellcheck disable=SC2086 # words
works "$run" tiny.yaml $policies --set train.batch_size=24 --set train.accumulate=4 \
    --set train.epochs=2 --set log.steps=true --set output.dir=o
same folders "$(printf '%s\n' division-a4-seed0 normal-a4-seed0)" "$(ls o)"
has "$err" 'batch 24 in 4 micro-batches'
works "$run" tiny.yaml --set train.batch_size=24 --set output.dir=o --set train.epochs=2 \
    --set log.steps=true

whole=o/normal-seed0
for policy in normal division; do
    dir=o/$policy-a4-seed0
    csv=$dir/epochs.csv
    has $dir/config.yaml '^  accumulate: 4$'
    # Steps, epochs and learning rates are those of whole batches.
    for name in step epoch lr; do
        same "$dir/steps.csv: $name" "$(column $whole/steps.csv $name)" \
            "$(column $dir/steps.csv $name)"
    done
    same "$dir: steps" 6 "$(record $dir/run.yaml steps)"

    # Plan, ledger and process tell the same story.
    planned=$(column $csv planned_peak_bytes | head -n 1)
    same "$csv: live peak" "$planned" "$(column $csv live_peak_bytes | head -n 1)"
    same "$dir: gradients" "$(record $dir/run.yaml momentum_bytes)" \
        "$(record $dir/run.yaml gradients_bytes)"
    works "$run" tiny.yaml --policy $policy --set train.batch_size=24 --set train.accumulate=4 \
        --plan
    has "$out" 'a full batch of 24 images in 4 micro-batches of 6'
    has "$out" '^  gradients, summed '
    for name in saved_bytes planned_peak_bytes arena_bytes; do
        has "$out" "^  $name +$(column $csv $name | head -n 1) "
    done
    if ! grep -q '^#define DIVISION_SANITIZED' "$builddir/config.h"; then
        expected=$(record $dir/run.yaml expected_process_peak_bytes)
        awk -v e="$expected" -v p="$(column $csv process_peak_bytes | tail -n 1)" 'BEGIN {
            d = p > e ? p - e : e - p
            exit !(p > 0 && d <= 0.03 * p + 30 * 1024 * 1024) }' || fail "$dir: process peak"
    fi
done
same 'gradients of whole batches' 0 "$(record $whole/run.yaml gradients_bytes)"
works "$run" tiny.yaml --plan
has_not "$out" 'gradients, summed|micro-batch'

# A quarter of the batch keeps a quarter (but for batch-norm's statistics), and the ratio is to all
# of it.
awk -v all="$(column $whole/epochs.csv saved_bytes | head -n 1)" \
    -v part="$(column o/normal-a4-seed0/epochs.csv saved_bytes | head -n 1)" \
    -v ratio="$(column o/normal-a4-seed0/epochs.csv saved_ratio | head -n 1)" 'BEGIN {
    d = ratio - all / part
    exit !(ratio > 3.95 && ratio <= 4 && d < 1e-6 && d > -1e-6) }' ||
    fail "saved bytes of a micro-batch, or their ratio to the whole batch's"

# Batch-norm in groups of 6 sees what it sees in micro-batches of 6: the same training but for
# rounding. (In 48 images every batch is full.)
same_48='--set data.limit=48 --set train.batch_size=24 --set log.steps=true --policy normal'
# shellcheck disable=SC2086 # words
works "$run" tiny.yaml $same_48 --set train.bn_group=6 --set output.dir=groups
# shellcheck disable=SC2086 # words
works "$run" tiny.yaml $same_48 --set train.accumulate=4 --set output.dir=groups
column groups/normal-seed0/steps.csv loss >groups.txt
column groups/normal-a4-seed0/steps.csv loss | paste groups.txt - | awk '
    { d = $1 / $2 - 1; if (d > 1e-4 || d < -1e-4) bad = 1 }
    END { exit bad || NR != 2 }' || fail "the losses are not those of groups of the same size"

# Any number of threads; a run that was recorded can be run again.
for threads in 2 4; do
    works "$run" o/division-a4-seed0/config.yaml --set run.threads=$threads \
        --set output.dir=t$threads
    same "$threads threads" "$(deterministic o/division-a4-seed0/epochs.csv)" \
        "$(deterministic t$threads/division-a4-seed0/epochs.csv)"
    same_file o/division-a4-seed0/model.safetensors t$threads/division-a4-seed0/model.safetensors
done

# One micro-batch is the batch.
works "$run" tiny.yaml --set train.batch_size=24 --set train.accumulate=1 --set output.dir=one \
    --set train.epochs=2
same_file $whole/model.safetensors one/normal-seed0/model.safetensors

fails_with 2 'train\.accumulate: 17 parts of a batch of 16 images' "$run" tiny.yaml \
    --set train.accumulate=17 --set output.dir=bad
fails_with 2 'train\.accumulate: .*expected a whole number|train\.accumulate: .*1 to' "$run" \
    tiny.yaml --set train.accumulate=0 --set output.dir=bad
absent bad

# 16 micro-batches of one image: deep maps of 32 x 32 still have a variance, those of 1 x 1 do not.
fails_with 2 'train\.accumulate' "$run" tiny.yaml --set model.name=resnet18 --set data.size=8 \
    --set train.accumulate=16 --set output.dir=bad

# 7 images are micro-batches of 4 and 3: in groups of 3 the fourth image is alone.
one_pixel='--set data.size=1 --set data.augment=none --set data.limit=14 --set train.batch_size=7'
# shellcheck disable=SC2086 # words
fails_with 2 'a batch of 4 images leaves a batch-norm group with one value' "$run" tiny.yaml \
    $one_pixel --set train.accumulate=2 --set train.bn_group=3 --set output.dir=bad
# shellcheck disable=SC2086 # words
works "$run" tiny.yaml $one_pixel --set train.accumulate=2 --set train.bn_group=2 \
    --set data.limit=4 --set train.batch_size=4 --set output.dir=pairs
absent bad

clean
finish
