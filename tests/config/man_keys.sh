#!/bin/sh
# The manual says what the tables say: every key of config.def stands in division-config(5) and every
# column of epochs.def, steps.def and plan.def in division-results(5), with the row's type, range, default and
# help text; and no entry is there whose row is gone.
set -eu

cd "${top_srcdir:-.}"
status=0

# check DEF PAGE SECTION: SECTION of the page ("" for the whole page) against the rows of DEF.
check()
{
    awk -v def="$1" -v page="$2" -v section="$3" '
    # Splits a joined row "X(a, b, "c, d", ...)" into arg[1..]; quotes are taken off.
    function split_row(row,    i, c, quoted, n) {
        n = 1
        arg[1] = ""
        row = substr(row, index(row, "(") + 1)
        for (i = 1; i < length(row); i++) {
            c = substr(row, i, 1)
            if (c == "\"") quoted = !quoted
            else if (c == "," && !quoted) arg[++n] = ""
            else if (c == " " && !quoted) continue
            else arg[n] = arg[n] c
        }
        return n
    }
    function number(s) { sub(/\.0$/, "", s); return s }
    function choices(s) {
        sub(/^\|/, "\"\"|", s)
        if (match(s, /\|[^|]*$/)) s = substr(s, 1, RSTART - 1) " or " substr(s, RSTART + 1)
        gsub(/\|/, ", ", s)
        return s
    }
    function key_facts(    type, range) {
        type = arg[2]
        range = number(arg[4]) " to " number(arg[5])
        if (type == "BOOL") type = "true or false"
        else if (type == "INT") type = "whole number, " range
        else if (type == "REAL") type = "number, " range
        else if (type == "INTS") type = "list of whole numbers, " range
        else if (type == "STRINGS") type = "list of texts"
        else type = arg[6] == "NULL" ? "text" : choices(arg[6])
        return "(" type "; default " (arg[3] == "" ? "\"\"" : arg[3]) ")"
    }
    function column_facts(    kind) {
        kind["TEXT"] = "text"; kind["COUNT"] = "whole number"; kind["REAL"] = "number"
        kind["PCT"] = "percent"; kind["TIME"] = "seconds"
        return "(" kind[arg[2]] ", " (arg[3] == "1" ? "deterministic" : "measured") ")"
    }
    function plain(s) {
        gsub(/\\/, "", s)
        gsub(/[ \t\n]+/, " ", s)
        return tolower(s)
    }
    function complain(what) { print page ": " what; failed = 1 }
    BEGIN {
        while ((getline line < def) > 0) {
            if (row == "" && line !~ /^[XS]\(/) continue
            row = row line
            if (line !~ /\)$/) continue
            n = split_row(row)
            name = (row ~ /^S/ ? "storage." : "") arg[1]
            facts[name] = n > 4 ? key_facts() : column_facts()
            help[name] = arg[n]
            order[++n_rows] = name
            row = ""
        }
        inside = section == ""
        while ((getline line < page) > 0) {
            if (line ~ /^\.Sh /) {
                if (section != "") inside = line == ".Sh " section
                entry = ""
            } else if (line ~ /^\.It Cm / && inside) {
                entry = substr(line, 8)
                if (!(entry in facts)) complain(entry " is in no row of " def)
            } else if (line ~ /^\.(It|El|Bl|Ss)/) {
                entry = ""
            } else if (entry != "") {
                text[entry] = text[entry] " " line
            }
        }
        if (n_rows == 0) complain("no rows in " def)
        for (i = 1; i <= n_rows; i++) {
            name = order[i]
            if (!(name in text)) complain(name " is missing; expected .It Cm " name)
            else if (!index(plain(text[name]), plain(facts[name])))
                complain(name ": expected " facts[name])
            else if (!index(plain(text[name]), plain(help[name])))
                complain(name ": expected the help text of " def ": " help[name])
        }
        exit failed
    }' </dev/null || status=1
}

check src/config/config.def man/division-config.5 ""
check src/report/epochs.def man/division-results.5 EPOCHS.CSV
check src/report/steps.def man/division-results.5 STEPS.CSV
check src/report/plan.def man/division-results.5 "PLAN COLUMNS"
check src/report/timeline.def man/division-results.5 TIMELINE.CSV

# The keys of run.yaml, as the source writes them.
for key in $(sed -n 's/.*record_[a-z]*(&\{0,1\}r, "\([a-z0-9_]*\)".*/\1/p' src/run/record_run.c); do
    if ! grep -q "^\.It Cm .*\<$key\>" man/division-results.5; then
        echo "man/division-results.5: $key of run.yaml is missing"
        status=1
    fi
done

if command -v mandoc >/dev/null 2>&1; then
    mandoc -T lint -W warning man/division-config.5 man/division-results.5 || status=1
fi
exit $status
