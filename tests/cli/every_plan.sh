#!/bin/sh
# Every policy on several networks at odd batch sizes, two training steps and an evaluation each:
# what the run counted is what --plan says. The learning rate is 0: that batches of 7 tiny images do
# not train under every policy is another matter. Slow.
. "${top_srcdir:-.}/tests/cli/lib.sh"

cat >every.yaml <<'END'
name: every
data: {name: synthetic, size: 16, limit: 40, test_limit: 9}
train: {epochs: 1, max_steps: 2, lr: 0}
run: {threads: 2}
output: {dir: runs}
sweep:
  model.name: [resnet20, resnet50, resnet164, wrn-10-2]
  train.batch_size: [7, 33]
storage:
END
# Each policy of the table as it is, with rebuilding, and with saves unshared.
works "$run" --list policies
policies=$(awk '{ print $1 }' "$out")
test -n "$policies" || fail 'no policies'
for policy in $policies; do
    echo "  - {policy: $policy}"
    echo "  - {policy: $policy, recompute: bn}"
    echo "  - {policy: $policy, recompute: bn, relu_mask: derived, shared_saves: off}"
done >>every.yaml
echo '  - {policy: checkpoint, segments: block}' >>every.yaml

works "$run" --plan=csv every.yaml
grep ',total,' "$out" | sed 's/"[^"]*"/quoted/g' >totals.csv
head -n 1 "$out" >header.csv
works "$run" every.yaml
same 'runs' "$(wc -l <totals.csv | tr -d ' ')" "$(grep -c ' done ' "$out")"

# plan NAME LABEL: a cell of the plan's totals.
plan() {
    awk -F, -v name="$1" -v label="$2" '
        NR == FNR { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $at["policy"] == label { print $at[name]; exit }' header.csv totals.csv
}

for dir in runs/*; do
    label=${dir#runs/}
    label=${label%-seed0}
    csv=$dir/epochs.csv
    for name in saved_bytes planned_peak_bytes arena_bytes; do
        planned=$(plan $name "$label")
        counted=$(column "$csv" $name)
        case $name-$label in
        saved_bytes-acgc* | saved_bytes-actnn*) # their pool is planned in full
            awk -v a="$counted" -v b="$planned" 'BEGIN { exit !(a > 0 && a <= b) }' ||
                fail "$label: $name: $counted counted, $planned planned" ;;
        *) same "$label: $name" "$planned" "$counted" ;;
        esac
    done
    planned=$(column "$csv" planned_peak_bytes)
    live=$(column "$csv" live_peak_bytes)
    case $label in
    acgc* | actnn*)
        awk -v a="$live" -v b="$planned" 'BEGIN { exit !(a > 0 && a <= b) }' ||
            fail "$label: live peak: $live counted, $planned planned" ;;
    *) same "$label: live peak" "$planned" "$live" ;;
    esac
    awk -v expected="$(plan expected_process_peak_bytes "$label")" \
        -v peak="$(column "$csv" process_peak_bytes)" 'BEGIN {
            d = peak > expected ? peak - expected : expected - peak
            exit !(d <= 0.03 * expected + 30 * 2 ^ 20) }' ||
        fail "$label: process peak $(column "$csv" process_peak_bytes), planned $(plan \
            expected_process_peak_bytes "$label")"
done

clean
finish
