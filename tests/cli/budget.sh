#!/bin/sh
# --budget and --fit: a run that would need more memory does not start and says what would fit; one
# that runs stays below the budget, as seen from outside, or ends with status 4.
. "${top_srcdir:-.}/tests/cli/lib.sh"

if grep -q '^#define DIVISION_SANITIZED' "$builddir/config.h"; then
    echo "a sanitizer's own memory is not in the account"
    exit 77
fi

cat >net.yaml <<EOF
name: net
model: {name: resnet20}
data: {name: synthetic, limit: 256, test_limit: 32, size: 32}
train: {epochs: 1, batch_size: 128, max_steps: 2}
run: {threads: 2}
storage: [{policy: normal}, {policy: division}]
EOF
mib=$((1024 * 1024))

# watched BUDGET COMMAND...: runs it and looks at its VmHWM until it ends; sets status and peak.
watched() {
    budget=$1
    shift
    "$@" >"$out" 2>"$err" </dev/null &
    pid=$!
    peak=0
    while kb=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' /proc/$pid/status 2>/dev/null) && test -n "$kb"; do
        peak=$((kb * 1024))
        sleep 0.02
    done
    status=0
    wait $pid || status=$?
    case $status in
    0) test "$peak" -le "$budget" || fail_shown "$peak bytes taken, over $budget: $*" ;;
    4) ;;
    *) fail_shown "status $status: $*" ;;
    esac
    test "$peak" -gt 0 || fail "the process was not seen: $*"
}

expected() { # of run.yaml
    record "$1/run.yaml" expected_process_peak_bytes
}

# --- refused ----------------------------------------------------------------------------------

fails_with 4 'normal: this run needs .* over the budget of 100\.00 MiB; its largest parts: saved activations .*the largest batch that fits is [0-9]+ \(now 128' \
    "$run" net.yaml --budget 100M
absent runs
batch=$(sed -n 's/.*largest batch that fits is \([0-9]*\) .*/\1/p' "$err")
fails_with 4 'over the budget' "$run" net.yaml --budget 100M --plan
same 'the plans are printed all the same' 2 "$(grep -c '^  expected process peak ' "$out")"
fails_with 4 'net\.yaml: .*over the budget' "$run" net.yaml --budget 100M --plan=table
same 'and their table' 'normal division' "$(awk 'NR > 2 { print $1 }' "$out" | paste -s -d' ' -)"
fails_with 4 'over the budget' "$run" net.yaml --budget 100M --timeline timeline
exists timeline/timeline.csv

# In a sweep, before anything starts: normal would fit, but a later run does not.
cp net.yaml grows.yaml
echo 'sweep: {train.batch_size: [8, 128]}' >>grows.yaml
fails_with 4 'the largest batch that fits' "$run" grows.yaml --budget 100M --policy normal
absent runs

fails_with 4 'no batch fits' "$run" net.yaml --budget 5M
for size in 0 x 2X -1 1e 12Gi nan 0x10; do
    fails_with 2 "--budget: \"$size\" is no size" "$run" net.yaml --budget "$size"
done
fails_with 2 '--fit goes with --budget' "$run" net.yaml --fit batch
fails_with 2 '--fit: "epochs"' "$run" net.yaml --budget 1G --fit epochs

# --- the largest batch ------------------------------------------------------------------------

watched $((100 * mib)) "$run" net.yaml --budget 100M --fit batch --job 1 --set output.dir=batch
same 'status of --fit batch' 0 "$status"
dir=batch/normal-seed0
same 'the batch that was advised' "$batch" "$(sed -n 's/^  batch_size: //p' $dir/config.yaml)"
has "$err" "batch $batch is the largest that fits into 100\\.00 MiB"
same 'budget in the record' $((100 * mib)) "$(record $dir/run.yaml budget_bytes)"
# One image more, and the reserve of up to 6 MiB and 1 % would not be left. An image needs 1 to 2 MiB.
test "$(expected $dir)" -le $((100 * mib)) || fail 'the plan is over the budget'
test "$(expected $dir)" -ge $((90 * mib)) || fail "only $(expected $dir) bytes of 100 MiB are used"

# division fits more images into the same memory, no more than there are into much memory.
works "$run" net.yaml --plan=csv --budget 100M --fit batch --policy division
more=$(column "$out" batch_size | head -n 1)
test "$more" -gt $((2 * batch)) || fail "division fits $more images, normal $batch"
works "$run" net.yaml --plan=csv --budget 900G --fit batch --policy division
same 'all images' 256 "$(column "$out" batch_size | head -n 1)"
fails_with 4 'not even a batch of 1 fits into 5\.00 MiB' "$run" net.yaml --budget 5M --fit batch
fails_with 2 'train\.accumulate: 8 parts .* only 4 training images' "$run" net.yaml --budget 900M \
    --fit batch --set data.limit=4 --set train.accumulate=8

# Nor what the machine does not have, nor what the key does not allow.
works "$run" net.yaml --plan=csv --budget 900T --fit batch --policy normal \
    --set data.limit=1000000000
test "$(column "$out" batch_size | head -n 1)" -lt 1000000 || fail 'all memory of the machine'
works "$run" net.yaml --plan=csv --budget 900T --fit batch --policy normal \
    --set data.limit=1000000000 --set data.size=1 --set data.augment=none
test "$(column "$out" batch_size | head -n 1)" -le 1048576 || fail 'a batch that cannot be asked for'

# Images that are counted only when their files are open.
mkdir idx
for split in train t10k; do
    { printf '\0\0\010\003\0\0\0\021\0\0\0\002\0\0\0\002' && head -c 68 /dev/zero; } \
        >idx/$split-images-idx3-ubyte
    { printf '\0\0\010\001\0\0\0\021' && head -c 17 /dev/zero; } >idx/$split-labels-idx1-ubyte
done
works "$run" net.yaml --budget 900M --fit batch --job 1 --set data.name=idx --set data.path=idx \
    --set data.limit=0 --set data.test_limit=0 --set model.classes=10 --set output.dir=idx_out
has idx_out/normal-seed0/config.yaml '^  batch_size: 17$'

# Evaluation has another batch, and --fit does not go with it.
weights=batch/normal-seed0/model.safetensors
evaluated() {
    fails_with 4 'the largest train\.eval_batch_size that fits is [0-9]+ \(now 256\)$' "$run" net.yaml \
        --policy normal --evaluate --set model.init=$weights --set data.test_limit=512 --budget "$1" \
        --set train.eval_batch_size=256
}
evaluated 20M
batch=$(sed -n 's/.*eval_batch_size that fits is \([0-9]*\) .*/\1/p' "$err")
works "$run" net.yaml --policy normal --evaluate --set model.init=$weights --set data.test_limit=512 \
    --budget 20M --set train.eval_batch_size="$batch"

# --- the least lossy policy -------------------------------------------------------------------

# With all the memory it is normal, with less an exact one, then ever fewer bits.
chosen() { # BUDGET
    works "$run" net.yaml --plan=csv --budget "$1" --fit policy
    same "$1: runs" 1 "$(grep -c ',total,' "$out")"
    policy=$(column "$out" policy | head -n 1)
    has "$err" "policy [a-z0-9:=]+ is the least lossy that fits"
}
chosen 900M
same 'with 900 MiB' normal "$policy"
chosen 200M
same 'with 200 MiB' checkpoint "$policy"
has "$err" 'too large: normal [0-9.]+ MiB'
works "$run" net.yaml --plan=csv --policy checkpoint
tight=$(column "$out" expected_process_peak_bytes | head -n 1)
chosen $((tight - 4 * mib))
test "$policy" != checkpoint || fail 'checkpoint is chosen where it does not fit'
fails_with 4 'no policy fits into 5\.00 MiB: normal ' "$run" net.yaml --budget 5M --fit policy

# Policies that a sweep cannot have are none to choose from.
cp net.yaml bits.yaml
echo 'sweep: {storage.bits: [4, 2]}' >>bits.yaml
works "$run" bits.yaml --plan=csv --budget 900M --fit policy
has "$err" 'policy [a-z]+ is the least lossy'
same 'swept bits' '2 4' "$(column "$out" policy | uniq | sed 's/.*-b//; s/.*-Q//' | sort | paste -s -d' ' -)"

watched $((tight - 4 * mib)) "$run" net.yaml --budget $((tight - 4 * mib)) --fit policy \
    --set output.dir=policy
same 'status of --fit policy' 0 "$status"
exists "policy/$policy-seed0/epochs.csv"
same 'one line that says why' 1 "$(grep -c 'is the least lossy' "$err")"

# --- one choice for all runs of a sweep --------------------------------------------------------

# told CHOICE ARGS...: a sweep whose first process is told CHOICE, as its arguments show.
told() {
    choice=$1
    shift
    "$run" net.yaml --set 'seed=[3,4]' --set train.epochs=1000 --set train.max_steps=1000000 \
        --set data.size=4 --set "output.dir=$scratch/told" "$@" >"$out" 2>"$err" </dev/null &
    pid=$!
    seen=
    tries=0
    while test -z "$seen" && test $tries -lt 300 && kill -0 $pid 2>/dev/null; do
        sleep 0.1
        tries=$((tries + 1))
        for file in /proc/[0-9]*/cmdline; do
            line=$({ tr '\0' ' ' <"$file"; } 2>/dev/null) || continue
            case $line in
            *" --job 1 --fitted $choice "*"output.dir=$scratch/told"*) seen=$line ;;
            esac
        done
    done
    test -n "$seen" || fail_shown "no process of the sweep is told: $choice"
    kill -s TERM $pid 2>/dev/null || true
    wait $pid || true
    rm -rf "$scratch/told"
}
told normal --budget 900M --fit policy
told 256 --budget 900M --fit batch --policy division

# What a process is told is what it does.
works "$run" net.yaml --plan=csv --budget 900M --fit policy --job 1 --fitted fixed:bits=4
same 'the policy that was chosen' fixed-b4 "$(column "$out" policy | head -n 1)"
works "$run" net.yaml --plan=csv --budget 900M --fit batch --job 1 --fitted 5
same 'the batch that was chosen' 5 "$(column "$out" batch_size | head -n 1)"
fails_with 2 '--fitted goes with --fit and --job' "$run" net.yaml --budget 900M --fitted 5
fails_with 2 '--fitted: "x" is not a number' "$run" net.yaml --budget 900M --fit batch --job 1 \
    --fitted x
cp net.yaml batches.yaml
echo 'sweep: {train.batch_size: [8, 16]}' >>batches.yaml
fails_with 2 'batches\.yaml: --fit batch: the config sweeps over train\.batch_size' "$run" \
    batches.yaml --budget 900M --fit batch

# --- while it runs ----------------------------------------------------------------------------

# As little reserve as the start asks for: below the budget to the end.
for policy in normal division; do
    works "$run" net.yaml --policy $policy --set output.dir=first
    need=$(expected first/$policy-seed0)
    fails_with 4 'with its reserve, over the budget' "$run" net.yaml --policy $policy \
        --budget $((need + mib)) --set output.dir=spare
    absent spare/$policy-seed0
    watched $((need + 5 * mib / 2)) "$run" net.yaml --policy $policy \
        --budget $((need + 5 * mib / 2)) --set output.dir=spare
    same "$policy, with 2.5 MiB to spare" 0 "$status"
done

# In a control group with that limit, where this user may make one.
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/division-test-$$
if test -f /sys/fs/cgroup/cgroup.controllers && mkdir "$group" 2>/dev/null; then
    if test -f "$group/memory.max" && echo $((100 * mib)) 2>/dev/null >"$group/memory.max"; then
        # shellcheck disable=SC2016 # expanded by the inner shell
        works sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$group" "$run" net.yaml \
            --budget 100M --fit batch --job 1 --set output.dir=group
    fi
    rmdir "$group"
fi

clean
finish
