#!/bin/sh
# Whose a run's folder is: of one run at a time, however it is written, and of none that could not
# begin.
# shellcheck disable=SC2317,SC3045 # functions that fails_with calls; ulimit -n
. "${top_srcdir:-.}/tests/cli/lib.sh"

tiny tiny.yaml tiny

# --- a run that goes on -----------------------------------------------------------------------

# In one epoch, which writes no weights meanwhile.
"$run" tiny.yaml --set output.dir=o --set data.limit=1000000 >long.out 2>long.err </dev/null &
pid=$!
tries=0
until test -e o/normal-seed0/epochs.csv || test $tries -eq 600; do
    sleep 0.1
    tries=$((tries + 1))
done
fails_with 2 'o/normal-seed0 is in use by a run' "$run" tiny.yaml --set output.dir=./o --force
# In a sweep before anything starts.
fails_with 2 'o/normal-seed0 is in use by a run' "$run" tiny.yaml --set output.dir=o --force \
    --policy fixed --policy normal
absent o/fixed-seed0
same 'the run that goes on' running "$(record o/normal-seed0/run.yaml status)"
# However it ends, it lets go of the folder.
kill -s KILL $pid
wait $pid 2>/dev/null || true
works "$run" tiny.yaml --set output.dir=o --force
same 'the run after it' 'done' "$(record o/normal-seed0/run.yaml status)"
same 'its files' "$(printf '%s\n' best.safetensors config.yaml epochs.csv model.safetensors run.yaml)" \
    "$(ls -A o/normal-seed0)"

# --- one folder written in two ways -----------------------------------------------------------

tiny a.yaml a
tiny b.yaml b
echo 'output: {dir: shared}' >>a.yaml
mkdir real
ln -s real link
for dir in ./shared shared/ shared//. new/../shared "$PWD/shared"; do
    sed "\$s,\$,\noutput: {dir: $dir}," b.yaml >c.yaml
    fails_with 2 'a\.yaml and c\.yaml would both write to .*shared.*normal-seed0' "$run" --force \
        a.yaml c.yaml
done
absent shared new
sed 's/shared/link/' a.yaml >d.yaml
sed 's/shared/real/' a.yaml >e.yaml
fails_with 2 'd\.yaml and e\.yaml would both write' "$run" --force d.yaml e.yaml
same 'nothing is written' '' "$(ls -A real)"

# --- a run that cannot begin ------------------------------------------------------------------

# With so few files that it can have open, until it can have them all: what failed before its first
# step has left no file, and what failed later says so.
limited() {
    (
        ulimit -n "$1"
        shift
        "$@"
    )
}
files=3
status=1
while test $status -ne 0 && test $files -lt 60; do
    files=$((files + 1))
    status=0
    limited $files "$run" tiny.yaml --set output.dir=few --set log.steps=true >"$out" 2>"$err" \
        </dev/null || status=$?
    if test $status -ne 0 && test -n "$(ls -A few/normal-seed0 2>/dev/null)"; then
        same "status with $files files" failed "$(record few/normal-seed0/run.yaml status)"
        rm -r few/normal-seed0
    fi
    clean
done
test $status -eq 0 || fail_shown "it needs more than $files files"

finish
