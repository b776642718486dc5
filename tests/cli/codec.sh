#!/bin/sh
# division-codec from outside: its table, its files, its exit statuses.
set -eu

codec=${top_builddir:-.}/division-codec
work=$(mktemp -d "${TMPDIR:-/tmp}/codec.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "codec.sh: $*" >&2
    exit 1
}

# npy NAME DIMS COUNT [KIND]: a float32 array of made-up values whose float bytes are easy to write.
# KIND nan puts a NaN in the middle; zero makes all 0.
npy() {
    dict="{'descr': '<f4', 'fortran_order': False, 'shape': ($2), }"
    # Magic, version and length are 10 bytes; the header ends in a newline at a multiple of 64.
    {
        printf '\223NUMPY\001\000\166\000'
        printf '%-117s\n' "$dict"
        awk -v n="$3" -v kind="${4:-}" 'BEGIN {
            split("\\0\\0\\0\\0 \\0\\0\\200\\077 \\0\\0\\0\\100 \\0\\0\\300\\277 " \
                  "\\0\\0\\0\\077 \\0\\0\\140\\276 \\0\\0\\240\\100 \\0\\0\\200\\276", v, " ")
            state = 12345
            for (i = 0; i < n; i++) {
                state = (state * 1103 + 12345) % 65536
                value = v[int(state / 256) % 8 + 1]
                if (kind == "zero") { value = v[1] }
                if (kind == "nan" && i == int(n / 2)) { value = "\\0\\0\\300\\177" }
                printf "%s", value
            }
        }' | while IFS= read -r escaped || test -n "$escaped"; do
            printf "$escaped"
        done
    } >"$1"
}

# run STATUS ARGS...: stdout and stderr go to the files out and err.
run() {
    want=$1
    shift
    status=0
    "$codec" "$@" >out 2>err || status=$?
    test "$status" -eq "$want" || fail "$* ended with $status instead of $want: $(cat err)"
    if test "$want" -ne 0; then
        test "$(wc -l <err)" -eq 1 || fail "$* said more or less than one line: $(cat err)"
        grep -q '^division-codec: ' err || fail "$*: message without the program's name: $(cat err)"
    else
        test ! -s err || fail "$* wrote to stderr: $(cat err)"
    fi
}

# value NAME: the number behind that name in the table.
value() {
    sed -n "s/^ *$1  *\([^ ]*\).*/\1/p" out
}

says() {
    grep -q -- "$1" err || fail "expected '$1' in: $(cat err)"
}

npy a.npy '2, 3, 16, 16' 1536
npy map.npy '16, 16' 256
npy zero.npy '1, 2, 8, 8' 128 zero
npy nan.npy '1, 2, 8, 8' 128 nan
npy five.npy '1, 1, 1, 2, 3' 6
npy one.npy '7,' 7

# The table: 16 x 16 maps in 8 x 8 blocks: 2.375 bits per value (4 means, minimum, step, codes).
run 0 --policy division --block 8 --bits 2 a.npy out.npy
test "$(value 'bits per value')" = 2.3750 || fail "$(cat out)"
test "$(value bytes)" = 456 || fail "$(cat out)"
test "$(value means)" = 48 && test "$(value ranges)" = 24 && test "$(value codes)" = 384 ||
    fail "pieces: $(cat out)"
test "$(value policy)" = division || fail "$(cat out)"
test "$(wc -c <out.npy)" -eq "$(wc -c <a.npy)" || fail "the array's size changed"

# normal changes nothing; zeros are exact under any policy; one map may come without N and C.
run 0 --policy normal a.npy same.npy
tail -c 6144 a.npy >a.data
tail -c 6144 same.npy >same.data
cmp a.data same.data
test "$(value 'max error')" = 0 || fail "$(cat out)"
for policy in fixed division; do
    run 0 --policy "$policy" zero.npy out.npy
    test "$(value 'max error')" = 0 || fail "zeros under $policy: $(cat out)"
    test "$(value cosine)" = - || fail "cosine of zeros: $(cat out)"
done
run 0 map.npy out.npy
grep -q '(1, 1, 16, 16)' out || fail "$(cat out)"
head -c 118 out.npy | grep -q '(16, 16)' || fail "the output lost its shape"

# The array comes back in its own layout: 8 bits are nearly exact.
run 0 --policy fixed --bits 8 --rounding nearest a.npy out.npy
test "$(value policy)" = fixed-b8-nearest || fail "$(cat out)"
awk -v c="$(value cosine)" 'BEGIN { exit !(c > 0.9999) }' || fail "$(cat out)"

# Seeds, threads, ISAs.
run 0 --seed 1 a.npy one_thread.npy
run 0 --seed 1 --threads 1 --isa ref a.npy out.npy
cmp one_thread.npy out.npy || fail "isa ref or one thread changed the values"
run 0 --seed 1 --threads 3 a.npy out.npy
cmp one_thread.npy out.npy || fail "threads changed the values"
run 0 --seed 2 a.npy out.npy
cmp -s one_thread.npy out.npy && fail "the seed changes nothing"

# The other settings.
run 0 --block 4 --bits 4 --compat official a.npy out.npy
test "$(value policy)" = division-B4-Q4-official || fail "$(cat out)"
run 0 --keep low a.npy out.npy
test "$(value bytes)" = 48 || fail "$(cat out)"
run 0 --policy fixed --group 256 a.npy out.npy
test "$(value policy)" = fixed-g256 || fail "$(cat out)"
run 0 nan.npy out.npy
grep -q '^not finite  *64 values' out || fail "$(cat out)"
npy bad.npy '1, 1, 1, 1' 1 nan
run 0 bad.npy out.npy
for line in 'max error' 'mean error' 'mean bias' 'relative L2' cosine; do
    test "$(value "$line")" = - || fail "$line of no finite value: $(cat out)"
done
run 0 --help
grep -q '^usage: division-codec' out || fail "$(cat out)"
run 0 --version
grep -q '^division-codec .*[0-9]' out || fail "$(cat out)"
cp a.npy in_place.npy
run 0 in_place.npy in_place.npy

# Usage.
rm -f out.npy
run 2
run 2 a.npy
run 2 a.npy out.npy more.npy
run 2 --frobnicate a.npy out.npy
run 2 a.npy out.npy --bits
run 2 --policy divison a.npy out.npy
says "did you mean 'division'"
run 2 --policy fixed --block 4 a.npy out.npy
says 'policy fixed does not take it'
run 2 --policy normal --bits 4 a.npy out.npy
run 2 --bits 3 a.npy out.npy
says '1, 2, 4 or 8'
run 2 --bits x a.npy out.npy
run 2 --bits -2 a.npy out.npy
run 2 --block 0 a.npy out.npy
run 2 --block 65 a.npy out.npy
run 2 --policy fixed --group 100 a.npy out.npy
says 'multiple of 128'
run 2 --keep middle a.npy out.npy
says 'both|low|high'
run 2 --keep low --compat official a.npy out.npy
run 2 --rounding up a.npy out.npy
run 2 --seed 18446744073709551616 a.npy out.npy
run 2 --isa mmx a.npy out.npy

# Data.
run 3 missing.npy out.npy
says missing.npy
head -c 1000 a.npy >short.npy
run 3 short.npy out.npy
says short.npy
echo 'not an array' >text.npy
run 3 text.npy out.npy
run 3 five.npy out.npy
says '5 dimensions'
run 3 one.npy out.npy
: >empty.npy
run 3 empty.npy out.npy

test ! -e out.npy || fail "a failed run left its output"

# Input and output.
run 1 a.npy missing/folder/out.npy
says missing/folder
mkdir folder
run 1 a.npy folder
if test -w /dev/full; then
    status=0
    "$codec" a.npy out.npy >/dev/full 2>err || status=$?
    test "$status" -eq 1 || fail "a full standard output gave $status"
fi

# A limit on the size of files is a failed write.
npy large.npy '1, 8, 32, 32' 8192
status=0
(ulimit -f 2 && exec "$codec" large.npy cut.npy) >out 2>err || status=$?
test "$status" -eq 1 || fail "a limit on the size of files gave $status"
says 'cut\.npy'
test ! -e cut.npy || fail "a write that was cut off left its file"

test -z "$(find . -name '.*.tmp' -o -name '*.tmp')" || fail "temporary files are left: $(ls -A)"
