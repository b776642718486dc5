#!/bin/sh
# division-bench from outside: its tables, its CSV, its exit statuses. Nothing here is about speed.
. "${top_srcdir:-.}/tests/cli/lib.sh"

bench=$builddir/division-bench

# field FILE COLUMN ROW
field() {
    column "$1" "$2" | sed -n "$3p"
}

# true_that EXPRESSION WORDS...: awk's opinion.
true_that() {
    expression=$1
    shift
    awk "BEGIN { exit !($expression) }" || fail "$*: not $expression"
}

# Every row has as many fields as the header, and those of the columns named hold numbers.
numbers_in() { # FILE COLUMNS...
    file=$1
    shift
    awk -F, 'NR == 1 { n = NF } NF != n { exit 1 }' "$file" || fail "$file: rows of unequal length"
    for name; do
        column "$file" "$name" | grep -Evq '^[0-9][0-9.e+-]*$' && fail "$file: $name is no number"
    done
    return 0
}

# --- step ----------------------------------------------------------------------------------------

step_once() {
    works "$bench" step --model resnet20 --batch 4 --size 8 --repetitions 1 --warmup 1 \
        --threads 1 --csv "$@"
}

# Every policy of the table can be measured; the parts of a step are the whole of it.
policies=$("$run" --list policies | awk '{ print "--policy", $1 }')
# shellcheck disable=SC2086 # words
step_once $policies --policy division:block=4,bits=4
cp "$out" step.csv
numbers_in step.csv images_per_s images_per_s_p10 images_per_s_p90 vs_first step_ms forward_ms \
    backward_ms encode_ms decode_ms update_ms saved_bytes saved_ratio planned_peak_bytes \
    live_peak_bytes arena_bytes process_peak_bytes repetitions steps
n=$(column step.csv policy | wc -l)
same "rows" "$("$run" --list policies | wc -l)" $((n - 1))
same "first policy" normal "$(field step.csv policy 1)"
same "settings in the label" division-B4-Q4 "$(field step.csv policy "$n")"
same "what was measured" "resnet20,8,4,1" "$(awk -F, 'NR == 2 { print $1 "," $2 "," $3 "," $5 }' step.csv)"
row=0
while test $row -lt "$n"; do
    row=$((row + 1))
    for name in images_per_s step_ms forward_ms backward_ms encode_ms decode_ms update_ms other_ms \
        planned_peak_bytes live_peak_bytes process_peak_bytes; do
        eval "$name=\$(field step.csv $name $row)"
    done
    # shellcheck disable=SC2154 # set by eval
    true_that "($forward_ms + $backward_ms + $encode_ms + $decode_ms + $update_ms + $other_ms) / \
        $step_ms - 1 < 1e-6 && $other_ms >= 0" "row $row: parts of the step"
    true_that "$images_per_s * $step_ms / 4000 < 1.000001 && \
        $images_per_s * $step_ms / 4000 > 0.999999" "row $row: images per second"
    if test "$(field step.csv policy $row)" = actnn; then # its bits are fewer than it may take
        true_that "$live_peak_bytes <= $planned_peak_bytes && \
            $live_peak_bytes > 0.98 * $planned_peak_bytes" "row $row: live peak"
    else
        same "row $row: live peak" "$planned_peak_bytes" "$live_peak_bytes"
    fi
    true_that "$process_peak_bytes > $live_peak_bytes" "row $row: process peak"
done
same "normal encodes" 0 "$(field step.csv encode_ms 1)"
same "normal's ratio" "1 1" "$(field step.csv saved_ratio 1) $(field step.csv vs_first 1)"
true_that "$(field step.csv encode_ms "$n") > 0 && $(field step.csv decode_ms "$n") > 0 && \
    $(field step.csv saved_ratio "$n") > 2" "division's row"

# The text says the same to people; the same policy may stand there twice; other keys can be set.
works "$bench" step --model resnet20 --batch 4 --size 8 --repetitions 2 --warmup 0 --threads 1 \
    --policy normal --policy normal --algorithm im2col --isa base --set storage.label=mine
has "$out" '^resnet20, 8 px, batch 4: medians of 2 repetitions; 1 thread, base, '
has "$out" '^policy +images +p10 +p90 +vs first +step +forward +backward +encode +decode '
same "rows of the same policy" 2 "$(grep -c '^mine ' "$out")"

# --- kernels -------------------------------------------------------------------------------------

works "$bench" kernels --model resnet20 --batch 1 --size 8 --repetitions 1 --warmup 0 --threads 1 \
    --algorithm im2col --csv
cp "$out" kernels.csv
numbers_in kernels.csv layers gflop_per_s share ms limit_ms of_limit peak_gflop_per_s copy_gb_per_s
# Every convolution of the network is in it, once for each operation; the image needs no gradient.
cat >plan.yaml <<'END'
model: {name: resnet20}
data: {name: synthetic, size: 8, limit: 4}
train: {batch_size: 4}
END
works "$run" plan.yaml --plan
n=$(grep -c ' conv2d ' "$out")
macs=$(awk '$2 == "conv2d" { for (i = 3; $i != "x"; i++); sum += $(i + 5) } END { print sum }' "$out")
layers() { # SHAPES OPERATION
    awk -F, -v shapes="$1" -v op="$2" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $at["op"] == op && ($at["shape"] == "all") == (shapes == "all") { sum += $at["layers"] }
        END { print sum }' kernels.csv
}
for shapes in each all; do
    same "layers forward" "$n" "$(layers $shapes forward)"
    same "layers with a weight gradient" "$n" "$(layers $shapes 'weight gradient')"
    same "layers with a data gradient" $((n - 1)) "$(layers $shapes 'data gradient')"
done
same "shapes come once for each operation" "" "$(awk -F, '{ print $3, $5 }' kernels.csv | sort | uniq -d)"
# Arithmetic, times and shares add up.
awk -F, -v macs="$macs" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    $at["shape"] == "all" { all += $at["share"]; if ($at["op"] == "forward") {
        flop = $at["ms"] * $at["gflop_per_s"] * 1e6 }; next }
    { each += $at["share"] }
    END { exit !(all > 0.99999 && all < 1.00001 && each > 0.99999 && each < 1.00001 &&
        flop / (2 * macs) > 0.9999 && flop / (2 * macs) < 1.0001) }' kernels.csv ||
    fail "kernels.csv: shares or arithmetic do not add up to $macs: $(cat kernels.csv)"
# The limits are those of arithmetic or traffic, and add up.
awk -F, 'function abs(x) { return x < 0 ? -x : x }
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    $at["shape"] == "all" { bad += abs(sum[$at["op"]] / $at["limit_ms"] - 1) > 1e-4; n++; next }
    { sum[$at["op"]] += $at["layers"] * $at["limit_ms"]
      bad += abs($at["limit_ms"] / $at["ms"] / $at["of_limit"] - 1) > 1e-4
      flop_ms = $at["ms"] * $at["gflop_per_s"] / $at["peak_gflop_per_s"]
      bad += $at["limit_ms"] < 0.9999 * flop_ms }
    END { exit !(n == 3 && bad == 0) }' kernels.csv ||
    fail "kernels.csv: the limits do not hold together: $(cat kernels.csv)"
same "forced algorithm" "im2col" "$(column kernels.csv algorithm | grep . | sort -u | xargs)"
works "$bench" kernels --model resnet20 --batch 2 --size 8 --repetitions 1 --warmup 0
has "$out" '^convolutions of resnet20, 8 px, batch 2: '
has "$out" '^8x8x3 -> 16 3x3 s1 p1 +1  forward '
fails_with 2 '--policy: kernels does not take it' "$bench" kernels --policy fixed
fails_with 2 'unknown model "resnet" ' "$bench" kernels --model resnet
fails_with 2 'resnet20 exists only in the form "cifar"' "$bench" kernels --model resnet20 \
    --set model.form=imagenet

# --- codec ---------------------------------------------------------------------------------------

works "$bench" codec --repetitions 2 --warmup 0 --shape 1x8x8x16 --csv --policy fixed \
    --policy division:bits=4
cp "$out" codec.csv
numbers_in codec.csv n h w c threads repetitions core_ghz memcpy_gb_per_s bits_per_value \
    encode_cycles encode_cycles_p10 encode_cycles_p90 decode_cycles decode_cycles_p10 \
    decode_cycles_p90 both_cycles encode_gb_per_s encode_vs_memcpy decode_gb_per_s decode_vs_memcpy
same "policies" "fixed division-B8-Q4" "$(column codec.csv policy | xargs)"
# 8 x 8 pixels: 2 bits and 2 bf16 of range, 4 bits and 3 bf16.
same "bits per value" "2.5 4.75" "$(column codec.csv bits_per_value | xargs)"
same "shape" "1,8,8,16,1" "$(awk -F, 'NR == 2 { print $2 "," $3 "," $4 "," $5 "," $6 }' codec.csv)"
# Cycles, seconds and clock are of one piece: 4 bytes per value at core_ghz. (Medians of two.)
for row in 1 2; do
    true_that "$(field codec.csv core_ghz $row) > 0.1 && $(field codec.csv core_ghz $row) < 10" \
        "clock"
    true_that "$(field codec.csv encode_cycles $row) + $(field codec.csv decode_cycles $row) - \
        $(field codec.csv both_cycles $row) < 1e-4" "row $row: both"
done
# Without --policy: all that encode; keeping by reference and recomputing are none of them.
works "$bench" codec --repetitions 1 --warmup 0 --shape 2x8x8x16 --threads 2
has "$out" '^a map of 2x8x8x16, 8.00 KiB: medians of 1 repetitions; memcpy [0-9.]+ GB/s, core clock '
has "$out" '^fixed +2\.500 '
has "$out" '^division '
has_not "$out" '^(normal|checkpoint)'
for policy in normal checkpoint; do
    fails_with 2 "policy $policy: .* keeps no code .*division-bench step measures it" \
        "$bench" codec --policy $policy
done
fails_with 2 'does not take it' "$bench" codec --policy division:group=256
fails_with 2 '--model: codec does not take it' "$bench" codec --model resnet18
fails_with 2 '--shape: step does not take it' "$bench" step --shape 1x1x1x1
for shape in 1x2x3 1x2x3x 0x1x1x1 1x1x1x1x1 axbxcxd 1x1x1x99999999999999999999; do
    fails_with 2 "--shape '$shape': expected images, height" "$bench" codec --shape $shape
done

# --- data ----------------------------------------------------------------------------------------

works "$bench" data plan.yaml --repetitions 1 --warmup 3 --csv --set data.augment=none
cp "$out" data.csv
numbers_in data.csv images_per_s images_per_s_p10 images_per_s_p90 image_us
same "what was read" "synthetic none 4 8 8" "$(awk -F, 'NR == 2 { print $1, $2, $3, $4, $5 }' data.csv)"
true_that "$(field data.csv images_per_s 1) * $(field data.csv image_us 1) / 1e6 - 1 < 1e-6" "time"
works "$bench" data synthetic --repetitions 1 --batch 8
has "$out" '^synthetic  crop4 flip +8 '
fails_with 3 'cifar10' "$bench" data
fails_with 2 "unknown data set 'cifar'.* cifar10" "$bench" data cifar
fails_with 2 'missing.yaml' "$bench" data missing.yaml
fails_with 2 'data takes one argument' "$bench" data one two
fails_with 2 '--threads: data does not take it' "$bench" data --threads 2
fails_with 2 'batch.*2049.*2048' "$bench" data synthetic --batch 2049

# --- usage ---------------------------------------------------------------------------------------

fails_with 2 'no command given; try division-bench step' "$bench"
fails_with 2 "unknown command 'stepp' \(did you mean step\?\); expected one of: " "$bench" stepp
fails_with 2 'unknown, ambiguous or incomplete option' "$bench" step --frobnicate
fails_with 2 'unknown, ambiguous or incomplete option' "$bench" step --batch
fails_with 2 'step takes no arguments' "$bench" step resnet18
fails_with 2 'unknown model "resnet19" \(did you mean resnet18\?\); valid ones: resnet18, ' \
    "$bench" step --model resnet19
fails_with 2 'unknown policy "divison"; valid ones: normal, ' "$bench" step --policy divison
fails_with 2 'fixed.* does not take it' "$bench" step --policy fixed:block=4
fails_with 2 '--batch: .*train.batch_size' "$bench" step --batch 0
fails_with 2 'unknown key' "$bench" step --set model.nmae=resnet18
fails_with 2 "--repetitions '0': expected a number from 1" "$bench" step --repetitions 0
fails_with 2 "--warmup 'x': expected a number from 0" "$bench" step --warmup x
fails_with 2 '--algorithm: ' "$bench" step --algorithm fft
fails_with 2 '--isa: ' "$bench" step --isa mmx
# What is wrong with every policy is said once.
fails_with 2 'unknown model' "$bench" step --model none --policy normal --policy fixed
same "lines of the message" 1 "$(wc -l <"$err")"
# A loss that is no number ends the measurement.
fails_with 5 'diverged' "$bench" step --model resnet20 --batch 4 --size 8 --threads 1 \
    --set train.lr=1000000
if test -w /dev/full; then
    status=0
    "$bench" --help >/dev/full 2>"$err" || status=$?
    same "status with a full standard output" 1 "$status"
fi
works "$bench" --version
has "$out" '^division-bench .*[0-9]'

finish
