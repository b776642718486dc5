#!/bin/sh
# Rules about the sources that no compiler checks:
#   1. a room includes only rooms that it may know (one direction; the table below);
#   2. every .c, .h and .def under src/ is listed in its room's local.mk, and what is listed exists;
#   3. below src/cli/ nothing exits, aborts or prints; nowhere is an unsafe libc call used; heap
#      memory comes through base/mem.h;
#   4. no bare TODO: an open decision is NEEDSWORK: with its reason.
# With arguments (a source tree), that tree is checked instead: the tests of this test use it.
set -eu

src=${1:-${top_srcdir:-.}/src}
cd "$src"
findings=$(mktemp)
trap 'rm -f "$findings"' EXIT

# Which rooms each room may include, besides itself.
allowed() {
    case $1 in
    base) echo ;;
    tensor | config) echo base ;;
    kernels | data) echo base tensor ;;
    store) echo base tensor kernels ;;
    nn) echo base tensor kernels store ;;
    models) echo base tensor kernels store nn ;;
    train) echo base tensor kernels store nn data ;;
    report) echo base config ;;
    run) echo base tensor kernels store nn models data train config report ;;
    cli) echo base tensor kernels store nn models data train config report run ;;
    *) return 1 ;;
    esac
}

# The libraries that are not libc, by the rooms that may use them.
foreign() {
    case $1 in
    jansson.h) echo tensor report run ;;
    yaml.h) echo config report ;;
    zlib.h) echo data run ;;
    cblas.h | openblas_config.h) echo kernels run ;;
    omp.h) echo base ;;
    *) return 1 ;;
    esac
}

has_word() { # WORD WORDS...
    word=$1
    shift
    for candidate; do
        test "$candidate" != "$word" || return 0
    done
    return 1
}

# Source text without comments, strings and character constants; lines keep their numbers.
bare_code() {
    awk '
    {
        out = ""
        for (i = 1; i <= length($0); i++) {
            two = substr($0, i, 2)
            c = substr($0, i, 1)
            if (in_comment) {
                if (two == "*/") { in_comment = 0; i++ }
            } else if (two == "/*") {
                in_comment = 1; i++
            } else if (two == "//") {
                break
            } else if (c == "\"" || c == "\047") {
                for (i++; i <= length($0) && substr($0, i, 1) != c; i++)
                    if (substr($0, i, 1) == "\\") i++
                out = out c c
            } else {
                out = out c
            }
        }
        print out
    }' "$1"
}

check_includes() { # FILE ROOM
    sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*\([<"][^>"]*\).*/\1/p' "$1" |
        while read -r include; do
            name=${include#?}
            case $include in
            '"config.h') continue ;;
            '"'*/*)
                target=${name%%/*}
                # shellcheck disable=SC2046 # words
                test "$target" = "$2" || has_word "$target" $(allowed "$2") ||
                    echo "src/$1: includes $name, but $2 may not know $target"
                ;;
            '"'*) echo "src/$1: includes \"$name\", expected \"ROOM/$name\"" ;;
            '<'*)
                # shellcheck disable=SC2086 # words
                if rooms=$(foreign "$name") && ! has_word "$2" $rooms; then
                    echo "src/$1: includes <$name>, which only these rooms may: $rooms"
                fi
                ;;
            esac
        done
}

check_calls() { # FILE ROOM
    names='rand|srand|atoi|atol|atof|strcpy|strcat|sprintf|vsprintf|gets|alloca|strtok'
    test "$1" = base/mem.c || names="$names|malloc|calloc|realloc|strdup|strndup|aligned_alloc"
    names="$names|posix_memalign|asprintf|vasprintf"
    # run/ starts processes: _exit is how a child ends whose exec failed.
    test "$2" = cli || test "$2" = run || names="$names|_exit"
    test "$2" = cli ||
        names="$names|exit|_Exit|quick_exit|abort|printf|vprintf|puts|putchar|perror"
    bare_code "$1" | grep -nE "(^|[^A-Za-z0-9_])($names)[[:space:]]*\(" |
        sed "s,^,src/$1:," || true
    if test "$2" != cli; then
        bare_code "$1" | grep -nE "(^|[^A-Za-z0-9_])(stdout|stderr)([^A-Za-z0-9_]|\$)" |
            sed "s,^,src/$1:," || true
    fi
    grep -nE '(^|[^A-Za-z])(TODO|FIXME|XXX)([^A-Za-z]|$)' "$1" | sed "s,^,src/$1:," || true
}

for file in $(find . -type f \( -name '*.c' -o -name '*.h' -o -name '*.def' \) | sed 's,^\./,,' |
    LC_ALL=C sort); do
    room=${file%%/*}
    if ! allowed "$room" >/dev/null; then
        echo "src/$file: there is no room '$room'" >>"$findings"
        continue
    fi
    {
        check_includes "$file" "$room"
        check_calls "$file" "$room"
        tr -s '[:space:]' '\n' <"$room/local.mk" | grep -qxF "src/$file" ||
            echo "src/$file: not listed in src/$room/local.mk"
    } >>"$findings"
done

for list in */local.mk; do
    tr -s '[:space:]' '\n' <"$list" | grep -E '^src/' | while read -r listed; do
        test -e "../$listed" || echo "src/$list: lists $listed, which does not exist"
    done
done >>"$findings"

if test -s "$findings"; then
    cat "$findings"
    exit 1
fi
