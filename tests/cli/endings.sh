#!/bin/sh
# How runs end, and what is then known of them: divergence that only the test shows, interruption
# while testing, jobs of a sweep that are killed.
# shellcheck disable=SC2317 # functions that fails_with calls
. "${top_srcdir:-.}/tests/cli/lib.sh"

tiny tiny.yaml tiny

# --- divergence -------------------------------------------------------------------------------

# An update that is found out by the test alone: its weights replace no good ones.
cat >wild.yaml <<EOF
name: wild
model: {name: resnet20}
data: {name: synthetic, limit: 16, test_limit: 8, size: 8}
train: {epochs: 60, batch_size: 16, lr: 40, schedule: constant, momentum: 0.99}
run: {threads: 1}
EOF
fails_with 5 'test loss is not finite after step' "$run" wild.yaml --set output.dir=wild
same 'status of the wild run' diverged "$(record wild/normal-seed0/run.yaml status)"
epochs=$(record wild/normal-seed0/run.yaml epochs)
same 'rows of the wild run' "$epochs" "$(column wild/normal-seed0/epochs.csv epoch | grep -c .)"
works "$run" wild.yaml --set output.dir=good --set train.epochs=$((epochs - 1))
for weights in model best; do
    same_file wild/normal-seed0/$weights.safetensors good/normal-seed0/$weights.safetensors
done
# Where there are no good ones there are none.
fails_with 5 'test loss' "$run" tiny.yaml --set output.dir=none --set train.lr=1e6
absent none/normal-seed0/model.safetensors none/normal-seed0/best.safetensors
same 'best top-1 of none' '' "$(column none/normal-seed0/epochs.csv best_top1)"
# Finite weights whose loss is not: their last numbers are 3.4e38.
{
    head -c "$(($(wc -c <good/normal-seed0/model.safetensors) - 1024))" \
        good/normal-seed0/model.safetensors
    head -c 1024 /dev/zero | tr '\0' '\177'
} >huge.safetensors
fails_with 5 'huge\.safetensors: the loss on 8 test images is (not a number|infinite)' "$run" \
    wild.yaml --set model.init=huge.safetensors --evaluate --logits huge.npy
absent huge.npy

# expect: diverge is part of what is recorded.
fails_with 1 'expects the run to diverge' "$run" tiny.yaml --set output.dir=tame --set expect=diverge
same 'status of a run that was to diverge' failed "$(record tame/normal-seed0/run.yaml status)"
has tame/normal-seed0/run.yaml '^message: .*expects the run to diverge'
has "$out" 'normal .*failed'

# --- while testing ----------------------------------------------------------------------------

# until_line FILE PATTERN: waits for it, at most a minute.
until_line() {
    tries=0
    until grep -Eqs -- "$2" "$1" || test $tries -eq 600; do
        sleep 0.1
        tries=$((tries + 1))
    done
    test $tries -lt 600 || fail "$1 gets no \"$2\""
}

# After the last of 4 steps some 50,000 images are tested: seconds.
"$run" tiny.yaml --set output.dir=test --set log.steps=true --set data.test_limit=50000 >"$out" \
    2>"$err" </dev/null &
pid=$!
until_line test/normal-seed0/steps.csv '^1,tiny,normal,0,4,'
kill -s TERM $pid
status=0
wait $pid || status=$?
same 'status after an interrupted test' 143 "$status"
same 'its record' interrupted "$(record test/normal-seed0/run.yaml status)"
has test/normal-seed0/run.yaml '^message: .*step 4 .*test images'
same 'its rows' 0 "$(column test/normal-seed0/epochs.csv epoch | grep -c .)"
absent test/normal-seed0/model.safetensors
clean

# --- the jobs of a sweep ----------------------------------------------------------------------

# sweep DIR: one that takes long begins; its number is in $pid.
sweep() {
    env --default-signal=HUP "$run" tiny.yaml --set output.dir="$1" --set train.epochs=1000 \
        --policy normal --policy fixed >"$out" 2>"$err" </dev/null &
    pid=$!
    until_line "$1/normal-seed0/epochs.csv" '^1,tiny,normal,0,1,'
}

# child_of PID: its child.
child_of() {
    for stat in /proc/[0-9]*/stat; do
        # Behind the name, in brackets: state and parent.
        if read -r line 2>/dev/null <"$stat"; then
            rest=${line##*) }
            rest=${rest#* }
            test "${rest%% *}" -ne "$1" || basename "${stat%/stat}"
        fi
    done
}

# ended STATUS WORD: that, and the table says so.
ended() {
    status=0
    wait $pid || status=$?
    same 'status of the sweep' "$1" "$status"
    has "$out" "^normal .* $2 "
    has_not "$out" '^fixed'
}

if env --default-signal=HUP true 2>/dev/null; then # under nohup it would be ignored
    sweep hup
    kill -s HUP $pid
    ended 129 interrupted
    same 'record of the job' interrupted "$(record hup/normal-seed0/run.yaml status)"

    sweep kill
    job=$(child_of $pid)
    kill -s KILL "$job"
    ended 1 failed
    has "$err" '^division-run: kill/normal-seed0: its process was killed by signal 9 \(was mem'
fi

finish
