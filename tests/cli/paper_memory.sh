#!/bin/sh
# configs/paper/memory.yaml says what the paper's memory tables say, under both of its definitions.
. "${top_srcdir:-.}/tests/cli/lib.sh"

# Label, batch, then for ResNet-50 activation and total memory, and the same for WRN-50-2, in GB of
# 2^30 bytes; 0: out of memory there. "blpa" and "acgc": the paper's rows of these names, which look
# like DIVISION's code at 4 and 8 bits. checkpoint-stage is the first version's figure, -block the
# last one's.
cat >paper.txt <<'END'
normal 64 5.14 5.46 6.70 7.52
normal 128 10.25 10.62 13.38 14.23
normal 256 20.48 20.92 26.75 27.68
division 64 0.49 0.82 0.64 1.45
division 128 0.99 1.35 1.27 2.12
division 256 1.97 2.41 2.52 3.44
division 512 3.94 4.52 5.02 6.08
blpa 64 0.82 1.15 1.06 1.87
blpa 128 1.64 2.01 2.11 2.96
blpa 256 3.28 3.72 4.22 5.15
blpa 512 6.56 7.14 8.44 9.51
acgc 64 1.47 1.80 1.91 2.72
acgc 128 2.94 3.31 3.81 4.66
acgc 256 5.88 6.31 7.61 8.53
acgc 512 11.75 12.33 15.20 16.27
actnn 64 0.49 0.81 0.62 1.44
actnn 128 0.97 1.34 1.25 2.09
actnn 256 1.94 2.39 2.49 3.41
actnn 512 3.89 4.47 4.97 6.03
checkpoint-stage 64 0.90 1.23 0.90 1.71
checkpoint-stage 128 1.80 2.16 1.80 2.65
checkpoint-stage 256 3.59 4.03 3.59 4.51
checkpoint-stage 512 7.18 7.76 7.18 8.25
checkpoint-block 64 2.24 2.57 2.24 3.05
checkpoint-block 128 4.48 4.84 4.48 5.33
checkpoint-block 256 8.95 9.39 8.95 9.88
checkpoint-block 512 17.90 18.49 0 0
END

works "$run" --plan=csv "$srcdir/configs/paper/memory.yaml"
cp "$out" plan.csv
awk -F, '
    function near(what, cell, bytes,    gb, allowed) {
        gb = bytes / 2 ^ 30
        allowed = share * cell > 0.03 ? share * cell : 0.03
        if (cell > 0 && (gb - cell > allowed || cell - gb > allowed)) {
            printf "%s: %.3f GB planned, %.2f in the paper\n", what, gb, cell
            wrong = 1
        }
        n += cell > 0
    }
    { gsub(/"[^"]*"/, "quoted"); $0 = $0 }
    FNR == 1 && NR > 1 { for (i = 1; i <= NF; i++) column[$i] = i }
    NR == FNR { split($0, part, " "); paper[part[1] " " part[2]] = $0; next }
    $column["scope"] == "total" && match($column["policy"], /^paper-/) {
        label = substr($column["policy"], 7)
        wide = label ~ /wide_resnet50_2/
        sub(/-(wide_)?resnet50(_2)?-batch_size[0-9]+$/, "", label)
        batch = $column["batch_size"]
        split(paper[label " " batch], part, " ")
        share = label ~ /^actnn/ ? 0.06 : label ~ /^checkpoint/ ? 0.05 : label ~ /normal|division/ ? 0.015 : 0.02
        near(label " " batch " activation", part[3 + 2 * wide], $column["paper_activation_bytes"])
        near(label " " batch " total", part[4 + 2 * wide], $column["paper_total_bytes"])
    }
    END { if (n != 106) { printf "%d cells compared, not 106\n", n; wrong = 1 }
          exit wrong }' paper.txt plan.csv || fail "the paper's memory table"

# The table for reading has one line per run, and the same bytes.
works "$run" --plan=table "$srcdir/configs/paper/memory.yaml"
same 'lines of the table' "$(grep -c ',total,' plan.csv)" "$(($(wc -l <"$out") - 2))"
has "$out" '^paper-division-resnet50-batch_size64 +0 +64 +0\.488 '

# One cell can be had alone.
works "$run" --plan=table "$srcdir/configs/paper/memory.yaml" --set train.batch_size=64 \
    --set model.name=resnet50 --policy normal
same 'lines of one cell' 3 "$(wc -l <"$out" | tr -d ' ')"

clean
finish
