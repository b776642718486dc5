#!/bin/sh
# storage.except: maps of some layers kept by another policy, from outside.
. "${top_srcdir:-.}/tests/cli/lib.sh"

# config FILE POLICY EXCEPTIONS: the tiny config under a policy with exceptions.
config() {
    tiny "$1" tiny
    printf 'storage:\n  - {policy: %s, except: [%s]}\n' "$2" "$3" >>"$1"
}

config mixed.yaml division '{match: "layer1.*", policy: fixed, bits: 4}, {match: conv1, policy: normal}'
dir=o/division-except2-seed0

# The plan names every map and the policy that keeps it.
works "$run" mixed.yaml --plan
has "$out" 'kept as +by policy$'
for pattern in '^image .* exact$' '^conv1 .* exact +normal$' '^relu .* encoded +division$' \
    '^layer1\.0\.conv1 .* encoded +fixed-b4$' '^layer1\.2\.relu .* encoded +fixed-b4$' \
    '^layer2\.0\.conv1 .* encoded +division$'; do
    has "$out" "$pattern"
done
same 'maps of layer1' "$(grep -c '^layer1\..*coded' "$out")" "$(grep -c ' fixed-b4$' "$out")"
cp "$out" plan.txt

# The run does what the plan says, to the byte.
works "$run" mixed.yaml --set output.dir=o
same folders division-except2-seed0 "$(ls o)"
csv=$dir/epochs.csv
same 'label' division-except2 "$(column $csv policy)"
same 'live peak' "$(column $csv planned_peak_bytes)" "$(column $csv live_peak_bytes)"
for name in saved_bytes planned_peak_bytes arena_bytes; do
    has plan.txt "^  $name +$(column $csv $name) "
done
same 'saved bytes, layer by layer' "$(column $csv saved_bytes)" "$(awk '
    /^layer +type/ { inside = 1; next }
    inside && NF == 0 { exit }
    inside { for (i = NF; i > 1; i--) if ($i == "exact" || $i == "encoded") { sum += $(i - 1); next }
             if ($2 == "batch_norm" || $2 == "relu") sum += $NF }
    END { print sum }' plan.txt)"

# The recorded config is a config, for any number of threads.
works "$run" $dir/config.yaml --set output.dir=again --set run.threads=3
same 'the recorded config, run again' "$(deterministic $csv)" \
    "$(deterministic again/division-except2-seed0/epochs.csv)"
same_file $dir/model.safetensors again/division-except2-seed0/model.safetensors

# An exception that takes everything is the other policy, bit for bit and byte for byte.
works "$run" mixed.yaml --policy normal --policy division --set output.dir=plain
for pair in normal/division division/normal; do
    config all.yaml "${pair%/*}" "{match: \"*\", policy: ${pair#*/}}"
    works "$run" all.yaml --set output.dir=all --set storage.label="${pair#*/}"
    same_file "all/${pair#*/}-seed0/model.safetensors" "plain/${pair#*/}-seed0/model.safetensors"
    same "all by ${pair#*/}" "$(deterministic "plain/${pair#*/}-seed0/epochs.csv")" \
        "$(deterministic "all/${pair#*/}-seed0/epochs.csv")"
done
! cmp -s $dir/model.safetensors plain/division-seed0/model.safetensors ||
    fail "the exceptions change nothing"

# --policy replaces the exceptions too, --set leaves them alone.
works "$run" mixed.yaml --policy division:block=4 --plan
has_not "$out" 'except:|fixed-b4'
works "$run" mixed.yaml --set storage.block=4 --plan
has "$out" '^layer1\.0\.conv1 .* fixed-b4$'
has "$out" '^layer2\.0\.conv1 .* division-B4-Q2$'

# rebuilt KEYS PATTERN: how layer1's ReLU is kept under division with recompute: bn.
rebuilt() {
    config r.yaml 'division, recompute: bn' "{match: \"layer1.*\", policy: fixed, bits: 4$1}"
    works "$run" r.yaml --plan
    has "$out" "^layer1\.0\.relu1 .* $2\$"
    has "$out" '^layer1\.0\.conv1 .* encoded +fixed-b4$'
    works "$run" r.yaml --set output.dir=r --force
    csv=r/division-bn-except1-seed0/epochs.csv
    same 'live peak with recompute: bn' "$(column $csv planned_peak_bytes)" \
        "$(column $csv live_peak_bytes)"
}
rebuilt '' 'recomputed'
rebuilt ', recompute: none' 'encoded +fixed-b4'

# Exceptions from policies that make maps again, or keep them by reference.
for policy in checkpoint 'checkpoint, segments: block' normal; do
    config c.yaml "$policy" '{match: "layer2.*", policy: division}'
    works "$run" c.yaml --set output.dir=c --set storage.label=c --force
    csv=c/c-seed0/epochs.csv
    same "live peak of $policy" "$(column $csv planned_peak_bytes)" "$(column $csv live_peak_bytes)"
done

# --- refused ----------------------------------------------------------------------------------

# refused MATCH PATTERN: before anything is written, and by --plan too.
refused() {
    config bad.yaml division "{match: \"$1\", policy: fixed, bits: 4}"
    fails_with 2 "$2" "$run" bad.yaml --set output.dir=bad
    absent bad
    fails_with 2 "$2" "$run" bad.yaml --plan
}
refused conv11 'storage\.except "conv11": no saved map has such a name; nearest: conv1, .*--plan'
refused 'layer9.*' 'storage\.except "layer9\.\*": no saved map .* nearest: layer1\.0\.conv1, '
refused layer3.0.conv3 'nearest: layer3\.0\.conv[12], layer3\.0\.conv[12], '
refused bn1 'fits only layers whose output is not saved; nearest: conv1'
refused image 'fits only maps that are exact, or rebuilt, whatever the policy'
refused '' 'bad\.yaml:7: storage\.except: expected match'
config bad.yaml division '{match: "layer1.*", policy: normal}, {match: "*.conv1", policy: fixed},
    {match: layer1.0.conv1, policy: fixed, bits: 4}'
fails_with 2 '"layer1\.0\.conv1": earlier exceptions take every map that it fits' "$run" bad.yaml \
    --set output.dir=bad
config bad.yaml division '{match: conv1, policy: fxed}'
fails_with 2 'bad\.yaml: storage\.except "conv1": .*unknown policy "fxed"; valid ones: .*fixed' \
    "$run" bad.yaml --set output.dir=bad
absent bad

clean
finish
