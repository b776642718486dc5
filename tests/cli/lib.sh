# Shared by the tests of the programs, which run them as a user would. Sourced, not run:
#
#     . "${top_srcdir:-.}/tests/cli/lib.sh"
#     works ... ; fails_with 2 'unknown key' ...
#     finish
#
# The test stands in a scratch folder of its own, which is removed when it ends. A failed check is
# told and remembered, and the test goes on; finish gives the verdict.
# shellcheck shell=sh disable=SC2034 # some variables are for the tests alone
set -eu

LC_ALL=C
OMP_WAIT_POLICY=passive # waiting threads leave the processor to other tests
export LC_ALL OMP_WAIT_POLICY

srcdir=$(cd "${top_srcdir:-.}" && pwd)
builddir=$(cd "${top_builddir:-.}" && pwd)
run=$builddir/division-run
if ! test -x "$run"; then
    echo "$run is not built"
    exit 99
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/division-cli.XXXXXX")
out=$scratch/stdout # of the last command of works or fails_with
err=$scratch/stderr
failures=0
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$scratch/work"
cd "$scratch/work"

# fail WORDS...: a check has failed.
fail() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n' "$*"
}

# The same, with what the last command wrote.
fail_shown() {
    fail "$@"
    sed 's/^/    stdout: /' "$out" | tail -n 5
    sed 's/^/    stderr: /' "$err" | tail -n 5
}

# A sanitizer ends a program with status 1, which must not pass for an ordinary failure.
refuse_crash() { # STATUS COMMAND...
    if grep -Eq 'Sanitizer|runtime error:|Assertion' "$err"; then
        fail_shown "a crash: $*"
        return 1
    fi
}

# works COMMAND...: status 0.
works() {
    status=0
    "$@" >"$out" 2>"$err" </dev/null || status=$?
    refuse_crash "$status" "$@" || return 0
    test "$status" -eq 0 || fail_shown "status $status, expected 0: $*"
}

# fails_with STATUS PATTERN COMMAND...: that status, and a message on stderr that begins with the
# program's name and has PATTERN (extended regular expression). Death by a signal is no failure "as
# expected", unless the status asked for is that of an interruption.
fails_with() {
    expected=$1
    pattern=$2
    shift 2
    status=0
    "$@" >"$out" 2>"$err" </dev/null || status=$?
    refuse_crash "$status" "$@" || return 0
    if test "$status" -ne "$expected"; then
        fail_shown "status $status, expected $expected: $*"
    elif ! grep -Eq -- "^division-[a-z]*: .*($pattern)" "$err"; then
        fail_shown "no message with \"$pattern\": $*"
    fi
    clean
}

# Nothing half-written: temporary files are gone, whatever happened.
clean() {
    left=$(find "$scratch" -name '*.tmp')
    test -z "$left" || fail "left behind: $left"
}

exists() {
    for file; do
        test -e "$file" || fail "$file is missing"
    done
}

absent() {
    for file; do
        ! test -e "$file" || fail "$file should not exist"
    done
}

has() { # FILE PATTERN
    grep -Eq -- "$2" "$1" || fail "$1 has no \"$2\""
}

has_not() { # FILE PATTERN
    ! grep -Eq -- "$2" "$1" || fail "$1 has \"$2\": $(grep -E -- "$2" "$1" | head -n 1)"
}

# same WHAT EXPECTED FOUND
same() {
    test "$2" = "$3" || fail "$1: expected \"$2\", found \"$3\""
}

same_file() {
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

# Names of the columns in a .def file, one a line; with a second argument 1, the deterministic ones.
columns() {
    sed -n "s/^X(\([a-z0-9_]*\), [A-Z]*, ${2:-[01]},.*/\1/p" "$srcdir/src/report/$1.def"
}

# column FILE NAME: the column's values, one a line. (No test has commas in a value.)
column() {
    awk -F, -v name="$2" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i; if (!at) exit 1; next }
        { print $at }' "$1"
}

# The deterministic columns of an epochs.csv.
deterministic() {
    awk -F, -v names="$(columns epochs 1 | tr '\n' ' ')" '
        BEGIN { n = split(names, list, " "); for (i = 1; i <= n; i++) wanted[list[i]] = 1 }
        NR == 1 { for (i = 1; i <= NF; i++) keep[i] = $i in wanted }
        { line = ""; for (i = 1; i <= NF; i++) if (keep[i]) line = line "," $i; print line }' "$1"
}

# A value of run.yaml by its key; keys are unique in the whole file.
record() { # FILE KEY
    sed -n "s/^ *$2: //p" "$1"
}

# tiny FILE NAME: a config that trains in a moment: 4 steps on made-up images.
tiny() {
    cat >"$1" <<EOF
name: $2
model: {name: resnet20}
data: {name: synthetic, limit: 64, test_limit: 32, size: 16}
train: {epochs: 1, batch_size: 16}
run: {threads: 1}
EOF
}

finish() {
    if test "$failures" -ne 0; then
        echo "$failures checks failed"
        exit 1
    fi
    exit 0
}
