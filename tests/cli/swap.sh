#!/bin/sh
# Policies that keep maps exactly, on disk or by computing them again: their losses and weights are
# normal's bit for bit, and memory falls. What the disk can do to swap.
. "${top_srcdir:-.}/tests/cli/lib.sh"

# A folder on a disk, also where /tmp lies in memory.
spill=$scratch/spill
if test "$(stat -f -c %T "$scratch" 2>/dev/null)" = tmpfs; then
    spill=$(mktemp -d /var/tmp/division-cli.XXXXXX)
    trap 'rm -rf "$scratch" "$spill"' EXIT
else
    mkdir "$spill"
fi

# --- bit for bit ------------------------------------------------------------------------------

# What an epoch has come to: losses and accuracies, not what was saved.
outcome() { # FOLDER
    for name in train_loss train_top1 test_loss test_top1 test_top5; do
        column "$1/epochs.csv" $name
    done
    column "$1/steps.csv" loss
}

logits() { # FOLDER CONFIG
    works "$run" "$2" --set model.init="$1/model.safetensors" --evaluate --logits "$1.npy"
}

exact='--policy normal --policy swap --policy checkpoint --policy checkpoint:segments=block'
labels='swap checkpoint checkpoint-block'

# same_as_normal DIR CONFIG ARGS...
same_as_normal() {
    dir=$1 config=$2
    shift 2
    # shellcheck disable=SC2086 # words
    works "$run" "$config" "$@" --set output.dir="$dir" --set log.steps=true $exact
    logits "$dir/normal-seed0" "$config"
    for label in $labels; do
        same "$dir: outcome of $label" "$(outcome "$dir/normal-seed0")" \
            "$(outcome "$dir/$label-seed0")"
        logits "$dir/$label-seed0" "$config"
        same_file "$dir/normal-seed0.npy" "$dir/$label-seed0.npy"
        csv=$dir/$label-seed0/epochs.csv
        test "$(column "$csv" saved_bytes | head -n 1)" -lt \
            "$(column "$dir/normal-seed0/epochs.csv" saved_bytes | head -n 1)" ||
            fail "$dir: $label saves no less than normal"
        same "$dir: live peak of $label" "$(column "$csv" planned_peak_bytes)" \
            "$(column "$csv" live_peak_bytes)"
    done
}

# Two threads, two epochs, a smaller last batch; then groups in batch-norm.
tiny tiny.yaml tiny
same_as_normal a tiny.yaml --set train.epochs=2 --set train.batch_size=24 --set run.threads=2
tiny pre.yaml pre
sed -i 's/resnet20/wrn-10-1/' pre.yaml
same_as_normal b pre.yaml --set train.bn_group=8 --set data.size=15

# --- memory -----------------------------------------------------------------------------------

# Enough maps for the process to show it.
cat >large.yaml <<EOF
name: large
model: {name: resnet20}
data: {name: synthetic, limit: 128, test_limit: 16}
train: {epochs: 1, batch_size: 128}
storage: [{policy: normal}, {policy: swap, spill_dir: '$spill'}]
EOF
works "$run" large.yaml --plan
spilled=$(awk '$1 == "spilled" { print $(NF - 2) }' "$out")
same 'files for a plan' '' "$(ls "$spill")"
works "$run" large.yaml --set output.dir=large
csv=large/swap-seed0/epochs.csv
same 'spilled bytes, planned and written' "$spilled" "$(column $csv spilled_bytes)"
same 'spilled bytes in run.yaml' "$spilled" "$(record large/swap-seed0/run.yaml spilled_bytes)"
same 'spilled bytes of normal' 0 "$(column large/normal-seed0/epochs.csv spilled_bytes)"
test "$(column $csv live_peak_bytes)" -lt "$(column large/normal-seed0/epochs.csv live_peak_bytes)" ||
    fail "swap's live peak is not below normal's"
if ! grep -q '^#define DIVISION_SANITIZED' "$builddir/config.h"; then
    normal=$(column large/normal-seed0/epochs.csv process_peak_bytes)
    swap=$(column $csv process_peak_bytes)
    # 16 MiB for what the two processes' own needs may differ by.
    awk -v n="$normal" -v s="$swap" -v spilled="$spilled" 'BEGIN {
        exit !(spilled > 2 ^ 27 && s < n - spilled / 2 - 2 ^ 24) }' ||
        fail "process peak: normal $normal, swap $swap, with $spilled bytes on disk"
fi
same 'files left in the spill folder' '' "$(ls -A "$spill")"

# --- the disk ---------------------------------------------------------------------------------

# Known before anything starts, also where swap's turn would come last.
fails_with 2 'storage\.spill_dir: nowhere: No such file' "$run" tiny.yaml --set output.dir=c \
    --policy normal --policy swap:spill_dir=nowhere
fails_with 2 'storage\.spill_dir: tiny\.yaml is not a folder' "$run" tiny.yaml --set output.dir=c \
    --policy swap:spill_dir=tiny.yaml
fails_with 2 'storage\.spill_dir: the policy normal does not take it' "$run" tiny.yaml \
    --set output.dir=c --policy "normal:spill_dir=$spill"
absent c

# Without room the run does not begin. (A limit of 1024 blocks is 512 KiB or 1 MiB.)
limited() {
    (
        ulimit -f 1024
        "$@"
    )
}
fails_with 1 "policy swap: cannot take .* for the spill file in $spill" limited "$run" tiny.yaml \
    --set output.dir=c --policy "swap:spill_dir=$spill"
absent c

# Whatever ends the run, it leaves no file.
interrupted() { # SIGNAL
    rm -rf d
    "$run" large.yaml --set output.dir=d --set train.epochs=1000 --set train.eval_every=1000 \
        --policy "swap:spill_dir=$spill" >"$out" 2>"$err" &
    pid=$!
    tries=0
    until grep -q '^ *epoch 1/' "$err" || test $tries -eq 600; do
        sleep 0.1
        tries=$((tries + 1))
    done
    test $tries -lt 600 || fail "the run for $1 made no step"
    status=0
    kill -s "$1" $pid
    wait $pid || status=$?
    same "status after $1" "$2" "$status"
    same "files left after $1" '' "$(ls -A "$spill")"
}
interrupted TERM 143
has d/swap-seed0/run.yaml '^status: interrupted'
interrupted KILL 137

# An array by itself is not for swap.
if test -x "$builddir/division-codec"; then
    fails_with 2 'policy swap writes an array to a file' "$builddir/division-codec" \
        a/normal-seed0.npy back.npy --policy swap
fi

finish
