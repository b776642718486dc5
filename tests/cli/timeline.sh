#!/bin/sh
# --timeline: a table of what is alive at every step, the same bytes as the plan's, and a picture.
# shellcheck disable=SC2317 # functions that fails_with calls
. "${top_srcdir:-.}/tests/cli/lib.sh"

tiny net.yaml net
cat >>net.yaml <<EOF
seed: [1, 2]
storage: [{policy: normal}, {policy: division, label: it's mine}, {policy: checkpoint}]
EOF

has_gnuplot() {
    command -v gnuplot >/dev/null 2>&1
}

is_png() {
    test "$(head -c 4 "$1" | tail -c 3)" = PNG || fail "$1 is no PNG picture"
}

# of_series NUMBER 'awk program': the series' rows, with field[name].
of_series() {
    awk -F, -v series="$1" '
        NR == 1 { for (i = 1; i <= NF; i++) name[i] = $i; next }
        { for (i = 1; i <= NF; i++) field[name[i]] = $i }
        field["series"] == series { '"$2"' }' d/timeline.csv
}

works "$run" net.yaml --timeline d --set data.name=cifar10 --set data.path=nowhere \
    --set data.size=0 --set data.limit=0 --set data.test_limit=0
said=$(cat "$out")
cp "$err" first.err
exists d/timeline.csv d/timeline.gp
absent runs # nothing is trained
same columns "$(columns timeline | paste -s -d, -)" "$(head -n 1 d/timeline.csv)"
same series '1 2 3' "$(column d/timeline.csv series | uniq | paste -s -d' ' -)"
same policies "normal it's mine checkpoint" "$(column d/timeline.csv policy | uniq | paste -s -d' ' -)"

works "$run" net.yaml --plan=csv --set data.name=cifar10 --set data.path=nowhere \
    --set data.size=0 --set data.limit=0 --set data.test_limit=0 --set seed=1
awk -F, 'NR == 1 || /,total,/' "$out" >totals.csv
for series in 1 2 3; do
    planned() {
        column totals.csv "$1" | sed -n ${series}p
    }
    # Each step in its order, parts that make the sum, and the plan's peak among the sums.
    same "series $series: steps that are out of order" '' "$(of_series $series '
        if (field["step"] != ++n || field["position"] < last || field["position"] >= 2)
            print field["step"]
        last = field["position"]')"
    same "series $series: sums that are none" '' "$(of_series $series '
        sum = field["weights_bytes"] + field["images_bytes"] + field["saved_bytes"] + \
              field["values_bytes"] + field["gradients_bytes"] + field["workspace_bytes"]
        if (sum != field["live_bytes"]) print field["step"]')"
    same "series $series: the peak" "$(planned planned_peak_bytes)" "$(of_series $series '
        print field["live_bytes"]' | sort -n | tail -n 1)"
    same "series $series: where the peak is" \
        "$(planned peak_step) $(planned planned_peak_bytes)" "$(of_series $series '
        print field["step"], field["live_bytes"]' | sort -k2,2nr -k1,1n | head -n 1)"
    # The images are kept in their batch.
    same "series $series: saved at the loss" \
        $(($(planned saved_bytes) - $(planned image_bytes))) "$(of_series $series '
        if (field["action"] == "loss") print field["saved_bytes"]')"
    same "series $series: forward ends with the loss" 1 "$(of_series $series '
        if (field["action"] == "loss") print (field["position"] < 1 && field["position"] > 0.9)')"
done

# --- the picture ------------------------------------------------------------------------------

if has_gnuplot; then
    is_png d/timeline.png
    test "$said" = 'd/timeline.csv: 3 runs; d/timeline.png' || fail "it says \"$said\""
    test ! -s first.err || fail "gnuplot complains: $(head -n 1 first.err)"
    # Drawn again by hand, where it lies.
    cp d/timeline.png first.png
    rm d/timeline.png
    (cd d && gnuplot timeline.gp) || fail 'the script alone does not draw'
    same_file d/timeline.png first.png
fi
for text in 'live memory' "'it''s mine" "'checkpoint" "title 'saved activations'" "'workspace'" \
    "'gradients'" "'live values'" "'weights, momentum'" 'resnet20, batch 16'; do
    grep -qF -- "$text" d/timeline.gp || fail "the script has no $text"
done

# Without gnuplot: data and script, no old picture beside them, and success.
mkdir empty broken
works env PATH="$PWD/empty" "$run" net.yaml --timeline d
absent d/timeline.png
exists d/timeline.csv d/timeline.gp
has "$out" 'd/timeline\.gp$'
has "$err" 'no gnuplot, no picture'

# One that fails is not passed over.
printf '#!/bin/sh\nexit 3\n' >broken/gnuplot
chmod +x broken/gnuplot
fails_with 1 'gnuplot cannot draw d/timeline\.gp' env PATH="$PWD/broken" "$run" net.yaml \
    --timeline d

# A limit on the size of files ends neither the program nor, unnoticed, gnuplot.
limited() {
    (
        ulimit -f 4
        "$@"
    )
}
fails_with 1 'limited.*timeline\.csv.*too large' limited "$run" net.yaml --timeline limited
# Nor does one that fails touch what is there.
mkdir old
for name in csv gp png; do
    echo "$name of before" >old/timeline.$name
done
fails_with 1 'old.*timeline\.csv.*too large' limited "$run" net.yaml --timeline old
fails_with 2 'train\.lr' "$run" net.yaml --timeline old --set train.lr=-1
fails_with 2 'crop4' "$run" net.yaml --timeline old --set data.augment=crop5
for name in csv gp png; do
    same "the old $name" "$name of before" "$(cat old/timeline.$name)"
done
printf '#!/bin/sh\nkill -s XFSZ $$\n' >broken/gnuplot
fails_with 1 'gnuplot cannot draw d/timeline\.gp' env PATH="$PWD/broken:/usr/bin:/bin" "$run" \
    net.yaml --timeline d

# One run, without a policy to compare it with; several networks.
works "$run" net.yaml --timeline one --job 3
same 'one run' "it's mine" "$(column one/timeline.csv policy | uniq)"
sed 's/^name: net/name: other/; s/resnet20/resnet32/' net.yaml >other.yaml
works "$run" net.yaml other.yaml --timeline two --policy normal
has two/timeline.gp "'other normal"
has two/timeline.gp "multiplot title 'Live memory of one training iteration' "

touch file
fails_with 1 'file' "$run" net.yaml --timeline file/d
fails_with 2 '--timeline excludes' "$run" net.yaml --timeline d --plan
fails_with 2 'no run 9; the last one is 6' "$run" net.yaml --timeline d --job 9

clean
finish
