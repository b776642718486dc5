#!/bin/sh
# division-run and bad input: the right exit status, a message that names the place and the remedy,
# and nothing left half-written.
# shellcheck disable=SC2317 # functions that fails_with calls
. "${top_srcdir:-.}/tests/cli/lib.sh"

tiny tiny.yaml tiny
mkdir o

# fails_early STATUS PATTERN ARGS...: refused before anything is written.
fails_early() {
    expected_status=$1
    expected_text=$2
    shift 2
    fails_with "$expected_status" "$expected_text" "$run" "$@"
    test -z "$(ls -A o)" || fail "$* left in the output folder: $(ls -A o)"
    rm -rf o
    mkdir o
}

# set KEY=VALUE STATUS PATTERN: the tiny config with one key changed.
set_fails() {
    fails_early "$2" "$3" tiny.yaml --set output.dir=o --set "$1"
}

# config TEXT STATUS PATTERN: a config of this text.
config_fails() {
    printf '%b' "$1" >bad.yaml
    fails_early "$2" "$3" bad.yaml --set output.dir=o
}

# --- command line -----------------------------------------------------------------------------

fails_early 2 'no config given.*quickstart' --force
fails_with 2 'see division-run --help' "$run" --frobnicate
has "$err" frobnicate
fails_with 2 'see division-run --help' "$run" --policy
fails_with 2 'policies, models, datasets, keys' "$run" --list colours
fails_early 2 'logits goes with --evaluate' tiny.yaml --set output.dir=o --logits l.npy
fails_early 2 'exclude each other' tiny.yaml --plan --evaluate
fails_early 2 'batch and policy exclude' tiny.yaml --plan --budget 1G --fit batch --fit policy
fails_early 2 'model\.init' tiny.yaml --set output.dir=o --evaluate
fails_early 2 'one policy and one seed, found 2 runs' tiny.yaml --set output.dir=o \
    --set model.init=x --policy normal --policy fixed --evaluate
fails_early 2 'not a number from 1' tiny.yaml --job 0
fails_early 2 'not a number from 1' tiny.yaml --job x
fails_early 2 'no run 2; the last one is 1' tiny.yaml --set output.dir=o --job 2
fails_early 2 'no run 2; the last one is 1' tiny.yaml --plan --job 2
fails_early 2 'no run 2; the last one is 1' tiny.yaml --timeline t --job 2

# --- config files -----------------------------------------------------------------------------

fails_early 2 'none\.yaml' none.yaml
fails_early 2 'read o: Is a directory' o
config_fails '' 2 'bad\.yaml.*empty'
config_fails '# nothing\n' 2 'bad\.yaml.*empty'
config_fails 'name: x\nmodel: {name: resnet20\ntrain: {epochs: 1}\n' 2 'bad\.yaml:[0-9]+'
config_fails 'name: x\n\ttrain: 1\n' 2 'bad\.yaml:2'
config_fails 'a list\n' 2 'bad\.yaml:1'
config_fails 'train:\n  epochs: 1\n  batchsize: 16\n' 2 'bad\.yaml:3.*batchsize.*batch_size'
config_fails 'trian: {epochs: 1}\n' 2 'bad\.yaml:1.*trian.*train'
config_fails 'train: {epochs: 1, epochs: 2}\n' 2 'bad\.yaml:1.*epochs.*twice'
config_fails 'train: {epochs: many}\n' 2 'bad\.yaml:1.*train\.epochs.*whole number.*many'
config_fails 'train: {lr: [0.1]}\n' 2 'bad\.yaml:1.*train\.lr'
config_fails 'train: {epochs: 1.5}\n' 2 'bad\.yaml:1.*train\.epochs.*1\.5'
config_fails 'train:\n  epochs: -3\n' 2 'bad\.yaml:2.*train\.epochs.*-3.*from 1 '
config_fails 'data: {shuffle: perhaps}\n' 2 'bad\.yaml:1.*data\.shuffle.*true'
config_fails 'train: {schedule: cosin}\n' 2 'bad\.yaml:1.*train\.schedule.*constant, multistep or cosine.*cosin'
config_fails 'storage: [{policy: normal}, {polic: fixed}]\n' 2 'bad\.yaml:1.*polic.*policy'
config_fails 'name: a/b\n' 2 'name.*a/b'
config_fails 'name: x\n---\nname: y\n' 2 'bad\.yaml.*document'
head -c 2000000 /dev/zero | tr '\0' '#' >bad.yaml
fails_early 2 'bad\.yaml.*1 MiB' bad.yaml

# What is wrong with any of several configs is found before the first of them runs.
tiny later.yaml later
sed 's/resnet20/resnet999/' later.yaml >bad.yaml
echo 'storage: {policy: fixed}' >>bad.yaml
fails_early 2 'bad\.yaml: model\.name: .*resnet999' tiny.yaml bad.yaml --set output.dir=o
sed 's/synthetic/mnist/' later.yaml >bad.yaml
echo 'storage: {policy: fixed}' >>bad.yaml
fails_early 2 'bad\.yaml: data\.name: .*mnist' tiny.yaml bad.yaml --set output.dir=o --plan=table
cp later.yaml bad.yaml
echo 'storage: {policy: fixed, except: [{match: none, policy: normal}]}' >>bad.yaml
fails_early 2 'bad\.yaml: storage\.except "none"' tiny.yaml bad.yaml --set output.dir=o
sed 's/batch_size: 16/batch_size: 16, nesterov: true, momentum: 0/' later.yaml >bad.yaml
echo 'storage: {policy: fixed}' >>bad.yaml
fails_early 2 'bad\.yaml: train\.nesterov' tiny.yaml bad.yaml --set output.dir=o

# --- values -----------------------------------------------------------------------------------

set_fails train.epochs=-1 2 'train\.epochs.*-1.*from 1 '
set_fails train.epochs 2 '--set.*key=value|train\.epochs.*='
set_fails train.epoch=2 2 'train\.epoch.*train\.epochs'
set_fails train.batch_size=65 2 'batch.*65.*64'
set_fails storage.policy=divison 2 'divison.*normal, fixed, division'
set_fails storage.block=4 2 'storage\.block.*normal does not take it'
set_fails storage.label=../x 2 'storage\.label.*\.\./x'
set_fails model.name=resnet21 2 'resnet21.*resnet18.*resnet20'
set_fails model.name=wrn-11-1 2 'wrn-11-1|6n'
set_fails model.form=imagenet 2 'resnet20.*cifar'
set_fails data.name=cifar11 2 'data\.name: .*cifar11.*cifar10.*cifar100'
set_fails data.name=cifar10 2 'data\.size is 16, but the data set cifar10 has 32'
set_fails model.classes=100000 2 'model\.classes is 100000.*1 to 65536'
set_fails 'data.augment=[crop5]' 2 'data\.augment.*crop5.*crop4.*flip'
set_fails 'data.augment=[crop4,crop4_reflect]' 2 'exclude each other'
set_fails 'data.augment=[crop4,none]' 2 'data\.augment: none stands alone.*list of 2'
set_fails data.limit=-1 2 'data\.limit.*-1'
fails_early 2 'nesterov.*momentum' tiny.yaml --set output.dir=o --set train.nesterov=true \
    --set train.momentum=0
set_fails train.milestones=[3,2] 2 'train\.milestones.*rise'
set_fails kernels.isa=mmx 2 'kernels\.isa.*mmx.*avx2'
set_fails 'seed=[1,1]' 2 'seed.*1'
fails_early 2 'fixed.*bits|bits.*1, 2, 4 or 8' tiny.yaml --set output.dir=o --policy fixed:bits=3
fails_early 2 'block' tiny.yaml --set output.dir=o --policy fixed:block=8
fails_early 2 'divison.*normal, fixed, division' tiny.yaml --set output.dir=o --policy divison
fails_early 2 'bitz.*bits' tiny.yaml --set output.dir=o --policy fixed:bitz=2
fails_early 2 'two runs would write to o/fixed-seed0.*label' tiny.yaml --set output.dir=o \
    --policy fixed --policy fixed:bits=2
fails_early 2 'both write to o/normal-seed0.*output\.dir' tiny.yaml tiny.yaml --set output.dir=o
DIVISION_ISA=mmx
export DIVISION_ISA
fails_early 2 'DIVISION_ISA.*mmx' tiny.yaml --set output.dir=o
unset DIVISION_ISA

# --- data sets --------------------------------------------------------------------------------

# record LABEL: one image of CIFAR-10's binary files. images N: N of them, labels 0.
record_of() {
    printf '%b' "\\0$1"
    head -c 3072 /dev/zero
}
images() {
    head -c $(($1 * 3073)) /dev/zero
}

cat >cifar.yaml <<EOF
name: c
model: {name: resnet20}
data: {name: cifar10, path: cifar, allow_partial: true}
train: {epochs: 1, batch_size: 8}
run: {threads: 1}
output: {dir: o}
EOF
fails_early 3 'cifar.*https?://' cifar.yaml
mkdir cifar
fails_early 3 'cifar/data_batch_1\.bin|data_batch_1\.bin.*cifar' cifar.yaml
images 16 >cifar/data_batch_1.bin
fails_early 3 'test_batch\.bin' cifar.yaml
images 8 >cifar/test_batch.bin
fails_early 2 'batch.*17.*16' cifar.yaml --set train.batch_size=17
fails_early 2 'model\.classes: 3,.* 10 classes' cifar.yaml --set model.classes=3
fails_early 3 'data_batch_2\.bin.*https?://' cifar.yaml --set data.allow_partial=false
for i in 2 3 4 5; do
    images 1 >cifar/data_batch_$i.bin
done
fails_early 3 'data_batch_1\.bin.*50000.*data\.allow_partial' cifar.yaml \
    --set data.allow_partial=false
rm cifar/data_batch_[2345].bin
works "$run" cifar.yaml # what the cases below spoil is whole
rm -rf o
mkdir o
images 16 | head -c 49000 >cifar/data_batch_1.bin
fails_early 3 'cifar/data_batch_1\.bin.*49000.*3073' cifar.yaml
{ images 16 && printf x; } >cifar/data_batch_1.bin
fails_early 3 'cifar/data_batch_1\.bin.*49169.*3073' cifar.yaml
{ images 12 && record_of 013 && images 3; } >cifar/data_batch_1.bin
fails_early 3 'cifar/data_batch_1\.bin.*label 11.*record 12.*0 to 9' cifar.yaml
: >cifar/data_batch_1.bin
fails_early 3 'cifar/data_batch_1\.bin.*empty' cifar.yaml
fails_early 3 'none.*fashion|fashion.*none' cifar.yaml --set data.name=fashion_mnist \
    --set data.path=none

# IDX: 16 images of 2 x 2, gzipped; then damaged. It has no number of classes of its own.
mkdir idx
for split in train t10k; do
    { printf '\0\0\010\003\0\0\0\020\0\0\0\002\0\0\0\002' && head -c 64 /dev/zero; } |
        gzip -c >idx/$split-images-idx3-ubyte.gz
    { printf '\0\0\010\001\0\0\0\020' && head -c 16 /dev/zero; } >idx/$split-labels-idx1-ubyte
done
idx_fails() {
    fails_early 3 "$1" cifar.yaml --set data.name=idx --set data.path=idx --set model.classes=10
}
fails_early 2 'model\.classes' cifar.yaml --set data.name=idx --set data.path=idx
works "$run" cifar.yaml --set data.name=idx --set data.path=idx --set model.classes=10
rm -rf o
mkdir o
# How many images its last batch has is known only when it is open.
fails_early 2 'a batch of 1 images leaves a batch-norm group with one value' cifar.yaml \
    --set data.name=idx --set data.path=idx --set model.classes=10 --set train.batch_size=15 \
    --set model.name=resnet18 --set model.form=imagenet
cp idx/train-images-idx3-ubyte.gz whole.gz
head -c 30 whole.gz >idx/train-images-idx3-ubyte.gz
idx_fails 'idx/train-images-idx3-ubyte\.gz'
{ head -c 12 whole.gz && printf '\377\377\377\377' && tail -c +17 whole.gz; } \
    >idx/train-images-idx3-ubyte.gz
idx_fails 'idx/train-images-idx3-ubyte\.gz'
cp whole.gz idx/train-images-idx3-ubyte.gz
printf '\0\0\010\001\0\0\0\021\0' >idx/train-labels-idx1-ubyte
idx_fails 'idx/train-(labels|images)'

# --- weights ----------------------------------------------------------------------------------

# safetensors HEADER BYTES: a file of that header and so many bytes of data, made by FILTER.
safetensors() {
    printf '%b' "$(printf '\\%03o' $((${#1} % 256)) $((${#1} / 256)))"
    printf '\0\0\0\0\0\0%s' "$1"
    head -c "$2" /dev/zero
}

works "$run" tiny.yaml --set output.dir=w
weights=w/normal-seed0/model.safetensors
bytes=$(wc -c <$weights)
init_fails() {
    set_fails model.init=bad.safetensors "$1" "$2"
    fails_early "$1" "$2" tiny.yaml --set output.dir=o --set model.init=bad.safetensors --evaluate \
        --logits l.npy
    absent l.npy
}
rm -f bad.safetensors
init_fails 3 'bad\.safetensors'
head -c $((bytes - 4)) $weights >bad.safetensors
init_fails 3 'model\.init.*bad\.safetensors'
head -c 100 $weights >bad.safetensors
init_fails 3 'model\.init.*bad\.safetensors'
: >bad.safetensors
init_fails 3 'model\.init.*bad\.safetensors'
{ cat $weights && printf x; } >bad.safetensors
init_fails 3 'model\.init.*bad\.safetensors'
cp tiny.yaml bad.safetensors
init_fails 3 'model\.init.*bad\.safetensors'
safetensors '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' 8 >bad.safetensors
init_fails 3 'model\.init.*bad\.safetensors.*no tensor conv1\.weight'
# The last four bytes are a number of the last tensor; as 0xffffffff it is not finite.
{ head -c $((bytes - 1024)) $weights && head -c 1024 /dev/zero | tr '\0' '\377'; } >bad.safetensors
init_fails 3 'model\.init.*bad\.safetensors.*element [0-9]+ is -?nan'
fails_early 3 "model\\.init.*$weights.*(layer1\\.|tensor|expected)" tiny.yaml --set output.dir=o \
    --set model.name=resnet32 --set model.init=$weights
fails_early 3 "model\\.init.*$weights.*fc\\..*10.*12" tiny.yaml --set output.dir=o \
    --set model.classes=12 --set model.init=$weights

# --- output -----------------------------------------------------------------------------------

echo text >file
fails_with 1 'file.*(exists|Not a directory)' "$run" tiny.yaml --set output.dir=file/o
same 'the file in the way' text "$(cat file)"
mkdir -p taken/normal-seed0
echo mine >taken/normal-seed0/notes
fails_with 2 'taken/normal-seed0.*not a run' "$run" tiny.yaml --set output.dir=taken
fails_with 2 'taken/normal-seed0.*not a run' "$run" tiny.yaml --set output.dir=taken --force
has taken/normal-seed0/notes mine
fails_with 2 'w/normal-seed0.*--force' "$run" tiny.yaml --set output.dir=w
if test "$(id -u)" -ne 0; then
    mkdir locked
    chmod a-w locked
    fails_with 1 'locked' "$run" tiny.yaml --set output.dir=locked
fi

# A full disk, made of a limit on file size: the weights (1.1 MB) do not fit.
full() {
    (
        ulimit -f 300
        "$@"
    )
}
limited_to_1() {
    (
        ulimit -f 1
        "$@"
    )
}
fails_with 1 'full/normal-seed0/(model|best)\.safetensors.*(too large|full)' \
    full "$run" tiny.yaml --set output.dir=full
exists full/normal-seed0/config.yaml full/normal-seed0/run.yaml
absent full/normal-seed0/model.safetensors full/normal-seed0/best.safetensors
fails_with 1 'l\.npy' limited_to_1 "$run" tiny.yaml --set model.init=$weights --evaluate \
    --logits l.npy
absent l.npy
same 'status of the full disk' failed "$(record full/normal-seed0/run.yaml status)"
# --force begins with the old run: a refused config leaves it alone.
fails_with 2 train.epochs "$run" tiny.yaml --set output.dir=w --force --set train.epochs=-1
fails_with 3 none "$run" tiny.yaml --set output.dir=w --force --set model.init=none
exists $weights
# A run that was refused shows no figures of the run that its folder still holds.
fails_with 3 none "$run" tiny.yaml --set output.dir=w --force --set model.init=none \
    --policy normal --policy fixed
has_not "$out" 'normal .*[0-9]\.[0-9]'

if test -w /dev/full; then
    to_full() { "$@" >/dev/full; }
    fails_with 1 'cannot write' to_full "$run" --help
    fails_with 1 'cannot write' to_full "$run" --version
    fails_with 1 'cannot write' to_full "$run" --list keys
    fails_with 1 'writing .*No space' to_full "$run" tiny.yaml --plan
    fails_with 1 'cannot write' to_full "$run" tiny.yaml --set model.init=$weights --evaluate
    fails_with 1 'writing a table.*No space' to_full "$run" tiny.yaml --set output.dir=unseen
    same 'rows without a table' 2 "$(wc -l <unseen/normal-seed0/epochs.csv)"
fi

# Closed streams: what is said there must not end up in a file that took their number.
closed() { "$@" >&-; }
fails_with 1 'writing a table' closed "$run" tiny.yaml --set output.dir=closed
fails_with 1 'cannot write' closed "$run" --version
blind() { "$@" 2>&-; }
works blind "$run" tiny.yaml --set output.dir=blind
deaf() { "$@" >&- 2>&- <&-; }
deaf "$run" tiny.yaml --set output.dir=deaf --set log.steps=true || true
for dir in closed blind deaf; do
    same_file $weights $dir/normal-seed0/model.safetensors
    same "$dir: rows" "$(deterministic w/normal-seed0/epochs.csv)" \
        "$(deterministic $dir/normal-seed0/epochs.csv)"
    same "$dir: status" 'done' "$(record $dir/normal-seed0/run.yaml status)"
done

# --- memory -----------------------------------------------------------------------------------

fails_early 4 'needs .*memory.*train\.batch_size' tiny.yaml --set output.dir=o \
    --set data.size=1024 --set data.limit=1048576 --set train.batch_size=1048576

# --- divergence -------------------------------------------------------------------------------

fails_with 5 'diverged|loss' "$run" tiny.yaml --set output.dir=d --set train.lr=1e6 \
    --set train.epochs=4 --set log.steps=true
exists d/normal-seed0/epochs.csv d/normal-seed0/config.yaml d/normal-seed0/steps.csv
same 'status of a diverged run' diverged "$(record d/normal-seed0/run.yaml status)"
has d/normal-seed0/run.yaml '^message: .*step [0-9]'
# By the last update: only the test shows it.
fails_with 5 'test loss' "$run" tiny.yaml --set output.dir=h --set train.lr=1e6
same 'status of a late divergence' diverged "$(record h/normal-seed0/run.yaml status)"
same 'rows of a late divergence' 1 "$(column h/normal-seed0/epochs.csv epoch | wc -l)"
works "$run" tiny.yaml --set output.dir=e --set train.lr=1e6 --set train.epochs=4 \
    --set expect=diverge
same 'status of an expected divergence' diverged "$(record e/normal-seed0/run.yaml status)"
fails_with 1 'expects the run to diverge' "$run" tiny.yaml --set output.dir=f --set expect=diverge
fails_with 5 'diverged|loss' "$run" tiny.yaml --set output.dir=g --set train.lr=1e6 \
    --set train.epochs=4 --policy normal --policy fixed
has "$out" 'normal .*diverged'
absent g/fixed-seed0

# --- signals ----------------------------------------------------------------------------------

# until FILE: waits for it, at most a minute.
until_there() {
    tries=0
    while ! test -e "$1" && test $tries -lt 600; do
        sleep 0.1
        tries=$((tries + 1))
    done
    test -e "$1" || fail "$1 does not appear"
}

# interrupted SIGNAL STATUS ARGS...: a long run that is sent the signal in its second epoch.
interrupted() {
    signal=$1
    expected=$2
    dir=$3
    shift 3
    status=0
    "$run" tiny.yaml --set train.epochs=1000 --set "output.dir=$dir" "$@" >"$out" 2>"$err" \
        </dev/null &
    pid=$!
    until_there "$dir/normal-seed0/model.safetensors"
    kill -s "$signal" $pid
    wait $pid || status=$?
    same "status after SIG$signal" "$expected" "$status"
    same "record after SIG$signal" interrupted "$(record "$dir/normal-seed0/run.yaml" status)"
    exists "$dir/normal-seed0/best.safetensors"
    # Whole rows only, as many as the record says.
    same "rows after SIG$signal" "$(record "$dir/normal-seed0/run.yaml" epochs)" \
        "$(column "$dir/normal-seed0/epochs.csv" process_peak_bytes | grep -c .)"
    absent "$dir/fixed-seed0"
    clean
}
interrupted INT 130 int
interrupted TERM 143 term
interrupted INT 130 int-sweep --policy normal --policy fixed
interrupted TERM 143 term-sweep --policy normal --policy fixed
has "$out" 'normal .*interrupted'

# Under nohup a hang-up is ignored.
(
    trap '' HUP
    exec "$run" tiny.yaml --set train.epochs=8 --set output.dir=nohup >"$out" 2>"$err" </dev/null
) &
pid=$!
until_there nohup/normal-seed0/model.safetensors
kill -s HUP $pid || true
wait $pid || fail_shown "a hang-up ended a run that ignores it"

# A sweep that is killed takes its job along.
"$run" tiny.yaml --set train.epochs=1000 --set output.dir=kill --policy normal --policy fixed \
    >"$out" 2>"$err" </dev/null &
pid=$!
until_there kill/normal-seed0/model.safetensors
kill -s KILL $pid
wait $pid 2>/dev/null || true
tries=0
while test "$(record kill/normal-seed0/run.yaml status)" = running && test $tries -lt 300; do
    sleep 0.1
    tries=$((tries + 1))
done
same 'the job of a killed sweep' interrupted "$(record kill/normal-seed0/run.yaml status)"
absent kill/fixed-seed0

clean
finish
