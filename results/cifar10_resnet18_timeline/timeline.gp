# Live memory of one training iteration; draw again with: gnuplot timeline.gp
set terminal pngcairo noenhanced size 1280, 1060 font 'sans,11'
set output 'timeline.png'
set datafile separator ','
unit = 1024.0**2
name = 'MiB'
set multiplot title 'Live memory of one training iteration: resnet18, batch 128' font 'sans,14'
set xrange [0:2]
set yrange [0:7.56953e+08/unit]
set xtics ('forward' 0.5, 'loss' 1, 'backward' 1.5) nomirror
set ytics nomirror
set border 3
set grid ytics linecolor rgb '#CCCCCC'
set arrow from 1, graph 0 to 1, graph 1 nohead linecolor rgb '#666666' dashtype 3 front
set xlabel 'one training iteration (every layer has the same width)'
set ylabel 'live memory (' . name . ')'
set lmargin at screen 0.07
set rmargin at screen 0.775
set tmargin at screen 0.9151
set bmargin at screen 0.6038

# the sums of all
set title 'all that is alive: highest sums in the legend'
set key at screen 0.795, graph 1 left top Left reverse samplen 3
plot 'timeline.csv' using (column(2)==1 ? column(7) : NaN):((column(16))/unit) with steps linewidth 2.5 dashtype 1 linecolor rgb '#000000' title 'normal: 688 MiB', \
'timeline.csv' using (column(2)==2 ? column(7) : NaN):((column(16))/unit) with steps linewidth 2.5 dashtype 2 linecolor rgb '#D55E00' title 'checkpoint: 444 MiB', \
'timeline.csv' using (column(2)==3 ? column(7) : NaN):((column(16))/unit) with steps linewidth 2.5 dashtype 3 linecolor rgb '#0072B2' title 'swap: 228 MiB', \
'timeline.csv' using (column(2)==4 ? column(7) : NaN):((column(16))/unit) with steps linewidth 2.5 dashtype 4 linecolor rgb '#009E73' title 'blpa: 213 MiB', \
'timeline.csv' using (column(2)==5 ? column(7) : NaN):((column(16))/unit) with steps linewidth 2.5 dashtype 5 linecolor rgb '#CC79A7' title 'division: 212 MiB', \
'timeline.csv' using (column(2)==6 ? column(7) : NaN):((column(16))/unit) with steps linewidth 2.5 dashtype 1 linecolor rgb '#E69F00' title 'division-bn: 207 MiB'
unset xlabel

# what they are made of
set lmargin at screen 0.0700
set rmargin at screen 0.2850
set tmargin at screen 0.5094
set bmargin at screen 0.3113
set ylabel 'live memory (' . name . ')'
set format y '%g'
set title 'normal'
unset key
plot 'timeline.csv' using (column(2)==1 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14)+column(15))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#D55E00' title 'workspace', \
'timeline.csv' using (column(2)==1 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#E69F00' title 'gradients', \
'timeline.csv' using (column(2)==1 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#56B4E9' title 'live values', \
'timeline.csv' using (column(2)==1 ? column(7) : NaN):((column(10)+column(11)+column(12))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#0072B2' title 'saved activations', \
'timeline.csv' using (column(2)==1 ? column(7) : NaN):((column(10)+column(11))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#DDDDDD' title 'images', \
'timeline.csv' using (column(2)==1 ? column(7) : NaN):((column(10))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#999999' title 'weights, momentum'
set lmargin at screen 0.3150
set rmargin at screen 0.5300
set tmargin at screen 0.5094
set bmargin at screen 0.3113
unset ylabel
set format y ''
set title 'checkpoint'
unset key
plot 'timeline.csv' using (column(2)==2 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14)+column(15))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#D55E00' title 'workspace', \
'timeline.csv' using (column(2)==2 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#E69F00' title 'gradients', \
'timeline.csv' using (column(2)==2 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#56B4E9' title 'live values', \
'timeline.csv' using (column(2)==2 ? column(7) : NaN):((column(10)+column(11)+column(12))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#0072B2' title 'saved activations', \
'timeline.csv' using (column(2)==2 ? column(7) : NaN):((column(10)+column(11))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#DDDDDD' title 'images', \
'timeline.csv' using (column(2)==2 ? column(7) : NaN):((column(10))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#999999' title 'weights, momentum'
set lmargin at screen 0.5600
set rmargin at screen 0.7750
set tmargin at screen 0.5094
set bmargin at screen 0.3113
unset ylabel
set format y ''
set title 'swap'
set key at screen 0.795, graph 1 left top Left reverse samplen 1.5
plot 'timeline.csv' using (column(2)==3 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14)+column(15))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#D55E00' title 'workspace', \
'timeline.csv' using (column(2)==3 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#E69F00' title 'gradients', \
'timeline.csv' using (column(2)==3 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#56B4E9' title 'live values', \
'timeline.csv' using (column(2)==3 ? column(7) : NaN):((column(10)+column(11)+column(12))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#0072B2' title 'saved activations', \
'timeline.csv' using (column(2)==3 ? column(7) : NaN):((column(10)+column(11))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#DDDDDD' title 'images', \
'timeline.csv' using (column(2)==3 ? column(7) : NaN):((column(10))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#999999' title 'weights, momentum'
set lmargin at screen 0.0700
set rmargin at screen 0.2850
set tmargin at screen 0.2358
set bmargin at screen 0.0377
set ylabel 'live memory (' . name . ')'
set format y '%g'
set title 'blpa'
unset key
plot 'timeline.csv' using (column(2)==4 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14)+column(15))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#D55E00' title 'workspace', \
'timeline.csv' using (column(2)==4 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#E69F00' title 'gradients', \
'timeline.csv' using (column(2)==4 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#56B4E9' title 'live values', \
'timeline.csv' using (column(2)==4 ? column(7) : NaN):((column(10)+column(11)+column(12))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#0072B2' title 'saved activations', \
'timeline.csv' using (column(2)==4 ? column(7) : NaN):((column(10)+column(11))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#DDDDDD' title 'images', \
'timeline.csv' using (column(2)==4 ? column(7) : NaN):((column(10))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#999999' title 'weights, momentum'
set lmargin at screen 0.3150
set rmargin at screen 0.5300
set tmargin at screen 0.2358
set bmargin at screen 0.0377
unset ylabel
set format y ''
set title 'division'
unset key
plot 'timeline.csv' using (column(2)==5 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14)+column(15))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#D55E00' title 'workspace', \
'timeline.csv' using (column(2)==5 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#E69F00' title 'gradients', \
'timeline.csv' using (column(2)==5 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#56B4E9' title 'live values', \
'timeline.csv' using (column(2)==5 ? column(7) : NaN):((column(10)+column(11)+column(12))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#0072B2' title 'saved activations', \
'timeline.csv' using (column(2)==5 ? column(7) : NaN):((column(10)+column(11))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#DDDDDD' title 'images', \
'timeline.csv' using (column(2)==5 ? column(7) : NaN):((column(10))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#999999' title 'weights, momentum'
set lmargin at screen 0.5600
set rmargin at screen 0.7750
set tmargin at screen 0.2358
set bmargin at screen 0.0377
unset ylabel
set format y ''
set title 'division-bn'
unset key
plot 'timeline.csv' using (column(2)==6 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14)+column(15))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#D55E00' title 'workspace', \
'timeline.csv' using (column(2)==6 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13)+column(14))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#E69F00' title 'gradients', \
'timeline.csv' using (column(2)==6 ? column(7) : NaN):((column(10)+column(11)+column(12)+column(13))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#56B4E9' title 'live values', \
'timeline.csv' using (column(2)==6 ? column(7) : NaN):((column(10)+column(11)+column(12))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#0072B2' title 'saved activations', \
'timeline.csv' using (column(2)==6 ? column(7) : NaN):((column(10)+column(11))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#DDDDDD' title 'images', \
'timeline.csv' using (column(2)==6 ? column(7) : NaN):((column(10))/unit) with fillsteps fillstyle solid 1.0 noborder linecolor rgb '#999999' title 'weights, momentum'
unset multiplot
