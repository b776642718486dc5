#!/bin/sh
# The same run is the same bit for bit, whatever the number of threads: the columns that
# epochs.def marks as deterministic, and the weights.
. "${top_srcdir:-.}/tests/cli/lib.sh"

policies='--policy normal --policy fixed --policy division'

# same_runs CONFIG ARGS...: under three policies with 1 to 4 threads, then with another seed.
# Batches of 24 leave a smaller last one.
same_runs() {
    rm -rf t1 t2 t3 t4
    for threads in 1 2 3 4; do
        # shellcheck disable=SC2086 # words
        works "$run" "$@" --set train.batch_size=24 --set train.epochs=2 \
            --set run.threads=$threads --set output.dir=t$threads $policies
    done
    for policy in normal fixed division; do
        dir=$policy-seed0
        same "$policy: rows" 2 "$(column t1/$dir/epochs.csv epoch | wc -l)"
        for threads in 2 3 4; do
            same "$policy with $threads threads" "$(deterministic t1/$dir/epochs.csv)" \
                "$(deterministic t$threads/$dir/epochs.csv)"
            same_file t1/$dir/model.safetensors t$threads/$dir/model.safetensors
        done
    done
}

tiny tiny.yaml tiny
same_runs tiny.yaml
works "$run" tiny.yaml --set train.batch_size=24 --set train.epochs=2 --set seed=1 \
    --set output.dir=t1
! cmp -s t1/normal-seed0/model.safetensors t1/normal-seed1/model.safetensors ||
    fail "another seed gives the same weights"
test "$(column t1/normal-seed0/epochs.csv train_loss)" != \
    "$(column t1/normal-seed1/epochs.csv train_loss)" || fail "another seed gives the same loss"
! cmp -s t1/normal-seed0/model.safetensors t1/division-seed0/model.safetensors ||
    fail "division gives the same weights as normal"

# Every convolution algorithm.
for algorithm in direct im2col igemm winograd; do
    for threads in 1 4; do
        works "$run" tiny.yaml --policy normal --set kernels.algorithm=$algorithm \
            --set train.batch_size=24 --set run.threads=$threads --set output.dir=$algorithm$threads
    done
    same "$algorithm with 4 threads" "$(deterministic ${algorithm}1/normal-seed0/epochs.csv)" \
        "$(deterministic ${algorithm}4/normal-seed0/epochs.csv)"
    same_file ${algorithm}1/normal-seed0/model.safetensors \
        ${algorithm}4/normal-seed0/model.safetensors
done

# Dropout, groups in batch-norm, and maps of an odd size.
same_runs tiny.yaml --set model.name=wrn-10-1 --set model.dropout=0.3 --set train.bn_group=8 \
    --set data.size=15

finish
