# gnuplot plot.gp: draws plot.png from the CSV files of the three runs in this folder.
set datafile separator comma
set terminal pngcairo size 1200,450 font "sans,11"
set output "plot.png"
policies = "normal fixed division"
colour(i) = word("#444444 #c26a00 #0067a5", i)
file(i) = word(policies, i)."-seed0/epochs.csv"
mib = 1048576.0

set multiplot layout 1,2
set border 3
set tics nomirror
set grid y lc "#dddddd"

set title "CIFAR-10, ResNet-20: test accuracy"
set xlabel "epoch"
set ylabel "top-1 (%)"
set key bottom right
plot for [i=1:3] file(i) using "epoch":"test_top1" with linespoints lw 2 pt 7 ps 0.7 \
    lc rgb colour(i) title word(policies, i)

set title "Memory of one training process, batch 128"
set xlabel ""
set ylabel "MiB"
set yrange [0:*]
set key top right
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9
set boxwidth 0.9
# The last row of each file; one row per policy in a data block.
set table $last
plot for [i=1:3] file(i) using (column("saved_bytes") / mib):(column("live_peak_bytes") / mib):\
    (column("process_peak_bytes") / mib) every ::9::9 with table
unset table
set datafile separator whitespace
set xtics ("normal" 0, "fixed" 1, "division" 2)
plot $last using 1 lc rgb "#0067a5" title "saved for backward", \
     $last using 2 lc rgb "#7fb3d5" title "live peak", \
     $last using 3 lc rgb "#bbbbbb" title "process peak"
unset multiplot
