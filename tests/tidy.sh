#!/bin/bash
# The mechanical rules of the code: dependencies between folders, the place of each foreign header, limits of size, words of the glossary.
self=$(realpath "$0")
cd "$(dirname "$self")/.." || exit 1

# Each rule prints its line from a subshell of a pipe, so the result depends on the printed lines.
if [ -z "${TIDY_INSIDE:-}" ]; then
        results=$(TIDY_INSIDE=yes "$self" 3>&1)
        echo "$results"
        grep -q '^ok ' <<<"$results" && ! grep -q '^not ok ' <<<"$results"
        exit
fi

files=$(git -c safe.directory="*" ls-files --cached --others --exclude-standard 2>/dev/null)
sources() { grep -E "^${1%/}/.*\.[ch]$" <<<"$files"; }

# rule NAME < lines that violate it
rule() {
        local found
        found=$(cat)
        if [ -z "$found" ]; then
                echo "ok $1"
        else
                echo "not ok $1: $(head -1 <<<"$found")$([ "$(wc -l <<<"$found")" = 1 ] || echo " (and $(($(wc -l <<<"$found") - 1)) more)")"
                echo "$found"
        fi
}

# some WHAT < lines: prints them. A rule without input, because a file was moved or a table has another format, has failed.
some() {
        local lines
        lines=$(cat)
        if [ -n "$lines" ]; then
                echo "$lines"
        else
                echo "not ok each_rule_has_input: $1" >&3
        fi
}

sources_of() {
        local folder
        for folder; do sources "$folder" | some "sources in $folder"; done
}
product=$(sources_of base io units peers kvstore fleetd client dns)
program() { echo "$product"; }

# The folders that each folder may include, in addition to itself and base/.
arrows='base:
io: io
units: units
peers: peers io
kvstore: kvstore peers io
fleetd: fleetd kvstore peers units io
client: client units io
dns: dns units'
while IFS=: read -r folder may; do
        sources_of "$folder/" | xargs -r grep -nE '^#include "' | some "what $folder includes" |
                grep -vE "#include \"(base$(printf '|%s' $may))/|#include \"config.h\"" |
                rule "includes_of_${folder}_follow_the_arrows"
done <<<"$arrows"

sources_of client/ | xargs -r grep -nE '#include "io/' | some 'what the client includes of io' | grep -vE '^client/web/|^client/verbs/cert\.c:[0-9]+:#include "io/tls_roles\.h"$' |
        rule the_client_uses_certificates_of_io_only

sources_of client/core/ | xargs -r grep -nE '#include "client/verbs' | rule the_core_of_the_client_includes_no_verb

# Inside fleetd, engine and agent share the registry only; the scheduler is pure.
sources_of fleetd/engine/ | xargs -r grep -nE '#include "fleetd/agent/' | rule engine_does_not_include_agent
sources_of fleetd/agent/ | xargs -r grep -nE '#include "fleetd/engine/' | rule agent_does_not_include_engine
sources_of fleetd/scheduler/ | xargs -r grep -nE '#include "(io|kvstore|fleetd/(engine|agent|systemd|api|directory|sessions|identity))/' | rule scheduler_is_pure

# The folders that these rules name.
for folder in engine agent systemd api directory sessions identity registry; do
        sources_of "fleetd/$folder/" >/dev/null
done
sources_of kvstore/raft/ peers/ >/dev/null

# Others use the store by its public interface and plain values. Tests of other components, too, except those that test the store as well.
inside='kvstore/(tree/|raft/|apply/|(hub|propose|serving|budget|estimate|read_bound)\.h|[a-z_]*_internal\.h)'
sources_of fleetd/ client/ units/ peers/ io/ base/ | xargs -r grep -nE "#include \"$inside" | rule only_the_store_includes_its_internals
sources_of kvstore/ | grep -E '^kvstore/((kvstore|watch|offline)\.h|command/.*\.h)$' | some 'public headers of the store' | xargs -r grep -nE "#include \"$inside" |
        rule the_public_headers_of_the_store_include_no_internals
sources_of tests/ | xargs -r grep -lE '#include "fleetd/' | grep -vE '^tests/(bench/prices|fuzz/(frames|host_files)|unit/test-(calls|fault_points|memory|properties))\.c$' | xargs -r grep -nE "#include \"$inside" |
        rule tests_of_other_components_use_the_public_store

# A header of internals serves one folder: no other one accesses the fields of a Replica, for example.
program | xargs -r grep -nE '#include "[a-z0-9_/]+_internal\.h"' | grep -vE '^([a-z_/]+)/[a-z0-9_]+\.[ch]:[0-9]+:#include "\1/[a-z0-9_]+_internal\.h"' |
        rule only_its_folder_includes_a_header_of_internals

# Each foreign library is included in one place.
home() {
        local header=$1 home=$2 found part
        found=$(program | xargs -r grep -nE "^[[:space:]]*#include [<\"]$header[>\"]")
        for part in ${home//|/ }; do
                grep -E "^$part" <<<"$found" | some "$part, a home of $3, includes it" >/dev/null
        done
        grep -vE "^($home)" <<<"$found" | rule "$(tr -c 'a-z0-9\n' _ <<<"$3")_stays_at_home"
}
home 'uv\.h' 'io/' uv.h
home 'gnutls/.*' 'io/tls_key_internal\.h|io/tls_roles_internal\.h|io/seal\.c|units/hash\.c' gnutls
home 'llhttp\.h' 'io/http_connection\.h' llhttp.h
home 'lmdb\.h' 'kvstore/tree/' lmdb.h
home 'raft(/.*)?\.h' 'kvstore/raft/' raft.h
home 'systemd/sd-bus\.h' 'fleetd/systemd/' sd-bus.h
home 'systemd/sd-journal\.h' 'fleetd/service\.c' sd-journal.h
home 'systemd/sd-daemon\.h' 'fleetd/service\.c|dns/main\.c' sd-daemon.h
home 'systemd/sd-event\.h' 'dns/main\.c|dns/server\.c|dns/table\.c' sd-event.h
home 'ldns/.*' 'dns/message\.c' ldns
home 'curl/curl\.h' 'client/core/connection\.c' curl.h
home '(libsmartcols/)?libsmartcols\.h' 'client/core/output\.c' libsmartcols.h
home 'jansson\.h' 'units/json\.c' jansson.h

# Limits of size, and circles of includes, for the product; words for all texts.
for rule in functions parameters files circles folders features; do
        case $rule in
        functions) name=no_function_has_more_than_80_lines ;;
        parameters) name=no_function_has_more_than_7_parameters ;;
        files) name=no_file_has_more_than_700_lines ;;
        circles) name=files_of_a_folder_include_each_other_in_one_direction ;;
        folders) name=folders_include_each_other_in_one_direction ;;
        features) name=a_feature_is_used_in_at_most_5_files ;;
        esac
        program | xargs -r tests/structure.py $rule | rule $name
done
program | xargs -r tests/structure.py counters | while read -r n name; do
        most=$(sed -n "s/ $name$//p" tests/counters)
        [ "$n" -le "${most:-0}" ] || echo "$n $name: at most ${most:-0} are allowed (tests/counters)"
done | rule figures_that_may_only_fall
# Decisions read codes (units/verdict.h), not messages: only messages of former hosts, and those of libcurl, systemd and jansson, are compared with words.
program | grep -vxE 'units/verdict_former\.c|client/(core/connection|verbs/why)\.c|fleetd/(api/kv_v1_txn|systemd/logind)\.c' |
        xargs -r grep -nE '\b(starts_with|ends_with|strstr|streq)\(([^;(]*[ >.])?(member_text\([a-z]+, ")?(reason|message|problem|why|predicate)("\))?(\.text)?( \?: "")?, ("|[A-Z])' | rule no_decision_reads_a_message

{
        program
        sources_of tests
} | xargs -r tests/structure.py repeats | rule no_file_repeats_an_include_of_its_header
some 'files' <<<"$files" |
        xargs -r tests/structure.py words | rule no_word_that_does_not_belong

all() {
        program
        sources_of tests
}
all | xargs -r grep -nE '(^|[;{)[:space:]])goto [a-z_]+;' | rule no_goto
program | xargs -r grep -nE '\b(strcpy|strcat|sprintf|atoi|atol)[[:space:]]*\(' | rule no_unbounded_or_unchecked_calls
{
        all
        grep -E '^(quickstart|check)$|^(\.ci|dist|man|docs|tests)/|\.(md|mk|ac|am|sh)$' <<<"$files"
} | sort -u | grep -vE '^tests/tidy\.sh$|/corpus/' | xargs -r grep -nIwE "TO[D]O|FIX[M]E|XX[X]" | rule nothing_is_left_for_later

# The layout is that of .clang-format. Versions of clang-format differ: that of Debian 12 decides.
all | LC_ALL=C.UTF-8 xargs -r grep -nE '^.{111}' | rule no_line_is_longer_than_110_columns
if command -v clang-format-14 >/dev/null; then
        all | xargs -r clang-format-14 --dry-run 2>&1 | grep -E '^[^ ]+:[0-9]+:[0-9]+: ' | rule code_is_formatted
elif (. /etc/os-release && [ "$VERSION_CODENAME" = bookworm ]); then
        echo 'clang-format 14 is missing: apt-get install clang-format-14' | rule code_is_formatted
else
        echo '# code_is_formatted is checked on Debian 12, with clang-format 14'
fi

program | grep '\.h$' | some 'headers' | xargs -r grep -LE '^#pragma once' | rule headers_are_included_once
program | xargs -r grep -nE '\b(time|rand|random|srand|gettimeofday|clock_gettime|getrandom)\(' |
        some 'readers of clocks and random numbers' | grep -vE '^(base/clock\.[ch]|base/table\.[ch]|io/|dns/server\.c)' | grep -vE '^client/|^[^:]*:[0-9]+: \*|_(time|random)\(' | rule only_io_reads_clocks_and_random_numbers

# The way of a PUT in docs/ARCHITECTURE.md: the functions exist there, in at most 25 steps.
sed -n '/^## The way of a PUT/,/^## Store/p' docs/ARCHITECTURE.md | grep -oE '`[a-z_0-9]+\(\)` in `[a-z0-9_/.]+`' | tr -d '`()' | some 'steps of a PUT' | while read -r name in file; do
        grep -qE "^[a-z].*\b$name\(" "$file" || echo "docs/ARCHITECTURE.md: $file has no $name()"
done | rule the_way_of_a_put_exists
sed -n '/^## The way of a PUT/,/^## Store/p' docs/ARCHITECTURE.md | grep -E '^(2[6-9]|[3-9][0-9])\. ' | rule the_way_of_a_put_has_at_most_25_functions

# The recipes of HACKING name files and functions that exist; capitals stand for names.
recipes=$(sed -n '/^## Recipes/,$p' HACKING.md)
{
        grep -oE '`[a-zA-Z_0-9/.-]+\.(c|h|sh|py|mk|scd|md)`' <<<"$recipes" | tr -d '`' | grep -v NAME | sort -u | some 'files in recipes' | while read -r file; do
                grep -qE "(^|/)${file//./\\.}$" <<<"$files" || echo "HACKING.md: there is no $file"
        done
        grep -oE '`[a-z_0-9]+\(\)`' <<<"$recipes" | tr -d '`()' | sort -u | some 'functions in recipes' | while read -r name; do
                all | xargs -r grep -qE "\b$name\(" || echo "HACKING.md: there is no $name()"
        done
} | rule the_recipes_name_what_exists

# The linker replaces a function (--wrap) in calls from other units of compilation only; most folders are one unit (Makefile.am).
replaced=$(git -c safe.directory="*" grep -ohE -e '--wrap=[a-z_0-9]+' -- '*.mk' | cut -d= -f2 | sort -u | some 'functions that tests replace')
units=$(cat {fleetd,fleetd/*,fleetd/features/*,client,units}/local.mk | sed ':a; /\\$/ { N; s/\\\n//; ba }' | awk '/^[A-Z]+_(FAST_)?SOURCES \+?=/ {
        for (i = 3; i <= NF; i++) if ($i ~ /\.c$/) { folder = $i; sub("/[^/]*$", "", folder); print ($1 ~ /FAST/ ? $1 : folder), $i } }' | some 'files of units')
for unit in $(cut -d' ' -f1 <<<"$units" | sort -u); do
        members=$(sed -n "s,^$unit ,,p" <<<"$units")
        xargs grep -ohE '^[a-z][^;=]*\b[a-z0-9_]+\(' <<<"$members" | grep -oE '[a-z0-9_]+\($' | tr -d '(' | grep -xF "$replaced" | while read -r name; do
                xargs grep -nE "^ +([^* ].*)?\b$name\b" /dev/null <<<"$members" | sed "s/^\([^ ]*\) .*/\1 a test replaces $name(), but not in this call/"
        done
done | rule what_tests_replace_is_called_from_other_units

# A test crashes at every named fault point.
program | xargs -r grep -ohE 'fault_point(_of)?\("[a-z-]+"' | cut -d'"' -f2 | sort -u |
        some 'fault points' | while read -r point; do grep -qE "[\" ]$point([\" #]|$)" tests/unit/test-fault_points.c tests/conformance/*.sh || echo "$point"; done | rule every_fault_point_has_a_test

# configure.ac has the version; the news and the changelogs of the packages follow it.
version=$(sed -n 's/^AC_INIT(\[fleetd\], \[\([^]]*\)\].*/\1/p' configure.ac | some 'the version')
{
        [ "$(sed -n 's/^## //p' NEWS.md | head -1)" = "$version" ] || echo "NEWS.md does not begin with version $version"
        sed -n '1s/^fleetd (\(.*\)-[^-]*).*/\1/p' dist/debian/changelog | grep -qxF "$version" || echo "dist/debian/changelog does not begin with version $version"
        grep -qxE "Version: +$version" dist/rpm/fleetd.spec && grep -A1 -x '%changelog' dist/rpm/fleetd.spec | grep -qE -- " - $version-[0-9]+\$" ||
                echo "dist/rpm/fleetd.spec has another version than $version"
} | rule the_version_has_one_source

# The manual names every [X-Fleet] option.
grep -oE '^ +\{ "[A-Za-z-]+"' units/options.c | grep -oE '[A-Za-z-]+' | some 'options of unit files' | while read -r option; do
        grep -qw -- "$option=" man/fleet.unit.5.scd || echo "man/fleet.unit.5 does not name $option="
done | rule every_option_is_in_the_manual

# A test walks all of them, except older names.
grep -oE '^ +\{ "[A-Za-z-]+", take_[a-z_]+(, \.updates = true)? \}' units/options.c | grep -v take_trigger | grep -oE '"[A-Za-z-]+"' | tr -d '"' | some 'current names of options' | while read -r option; do
        grep -qE "^ +\{ MEMBER(_OF)?\([a-z_., ]+\), \"$option=" tests/unit/test-placement.c || echo "tests/unit/test-placement.c has no row for $option="
done | rule every_option_is_compared_freed_and_sent

# The lab changes each live option of a running unit.
grep -oE '^ +\{ "[A-Z][A-Za-z]+", "[A-Za-z]+", EFFECT_LIVE' units/effect.c | sed -E 's/^ *\{ "([A-Za-z]+)", "([A-Za-z]+)".*/\2|\1/' | some 'live options' | while read -r row; do
        grep -qE "^(LIVE=')?${row/|/[|]}[|]" tests/lab/test-effects.sh || echo "tests/lab/test-effects.sh has no row for $row"
done | rule every_live_option_is_changed_in_the_lab

# The manual names every setting of the daemon, every verb and every flag of the client.
grep -oE '^ +\{ "[A-Z][A-Za-z]+", "[a-z-]+", "' fleetd/host/settings.c | grep -oE '[A-Z][A-Za-z]+' | some 'settings' | while read -r option; do
        grep -q "^\*$option=\*" man/fleetd.conf.5.scd || echo "man/fleetd.conf.5 does not name $option="
done | rule every_setting_is_in_the_manual
sources_of client/verbs/ | xargs -r grep -ohE '^VERB\([a-z_]+, "[a-z-]+"' | grep -v '^VERB(kv_' | grep -oE '"[a-z-]+"' | tr -d '"' | sort -u | some 'verbs' | while read -r verb; do
        grep -qE "\*(fleetctl )?$verb\b" man/fleetctl.1.scd || echo "man/fleetctl.1 does not name the verb $verb"
done | rule every_verb_is_in_the_manual
grep -oE '^ +\{ "[a-z-]+", [^,]*, "[^"]*", FLAG_[^"]*(".*|$)' client/core/options.c | grep -v 'NULL }' | grep -oE '^ +\{ "[a-z-]+"' | tr -d ' {"' | sort -u | some 'flags' | while read -r flag; do
        grep -q -- "--$flag\b" man/fleetctl.1.scd || echo "man/fleetctl.1 does not name --$flag"
done | rule every_flag_is_in_the_manual

# fleet-api(7) names every route, parameter and error code of the code's tables.
api=man/fleet-api.7.scd
{
        grep -ohE '[^_](http_parameter|request_parameter)\([^"]*"[A-Za-z]+"' fleetd/api/*.c fleetd/features/*/*.c | some 'parameters that are read'
        grep -oE '^ +\{ "[A-Za-z]+", TAKES_' fleetd/api/kv_v1.c | some 'parameters of /fleet/v1/kv'
        grep -oE '\{ "[A-Za-z]+", read_' fleetd/api/keys_v2_query.c | some 'parameters of /v2/keys'
        sed -nE 's/^static const char [a-z]*_members\[\] = "(.*)";/"\1"/; T; s/ /" "/gp' fleetd/api/kv_v1_txn.c | some 'members of transactions'
} | grep -oE '"[A-Za-z]+"' | tr -d '"' | sort -u | while read -r name; do
        grep -qE "[*\"]$name[*\"]|[*]$name=|_$name" $api || echo "$api does not name the parameter $name"
done | rule every_parameter_of_the_api_is_in_the_manual
routes=$(grep -hE '^ +\{ ROUTE_[A-Z]+, ' fleetd/api/routes.c fleetd/*.c fleetd/features/*/*.c | some 'routes')
grep -oE '"/[^"]+"' <<<"$routes" | tr -d '"' | sed -E 's,/\*+$,,; s,^/fleet/v1,,; s,^.*/\*/,/,' | sort -u | while read -r path; do
        grep -qE "(/fleet/v1(/kv)?|[_*]|GET )$path" $api || echo "$api does not name the route $path"
done | rule every_route_of_the_api_is_in_the_manual

# A test measures what each route costs, and each type of peers/frames.h.
{
        cat fleetd/api/routes.c fleetd/*.c fleetd/features/*/*.c | tr '\n' ' ' | grep -oE '\{ ROUTE_[A-Z]+, +(NULL|"[A-Z ]+"), +"[^"]+"' | sed -E 's/ROUTE_[A-Z]+, +//; s/, +/, /' | some 'routes' | while read -r route; do
                grep -qF "$route" tests/sim/test-shares.c || echo "tests/sim/test-shares.c has no row for the route $route"
        done
} | rule every_route_has_its_cost

# A route names the right that its sender needs; only the server distinguishes listeners.
grep -vE ' RIGHT_[A-Z_]+, ' <<<"$routes" | rule every_route_names_a_right
grep -E ' RIGHT_NONE, ' <<<"$routes" | rule no_route_is_closed
sources_of fleetd/api/ fleetd/features/ | grep -vE '^fleetd/api/(server\.c|api\.h)$' | xargs -r grep -nE '\bAPI_(SOCKET|LOOPBACK|TLS)\b' | rule only_the_server_distinguishes_listeners
grep -oE '^ +\{ [0-9]{3}, [0-9]{3}, ' fleetd/api/keys_v2_text.c | tr -d '{,' | some 'error codes' | while read -r code status; do
        grep -A1 -F "*$code*" $api | grep -q "^:< $status\$" || echo "$api does not name error $code with status $status"
done | rule every_error_code_is_in_the_manual

# ./check runs executable scripts only.
git -c safe.directory="*" ls-files --stage -- 'tests/*/test-*' | grep -vE '\.[ch]$' | some 'scripts' | sed -n 's/^100644 .*\t\(.*\)/\1 is not executable/p' | rule every_script_is_run

# Every file that decodes external input has a line in tests/fuzz/decoders, with the fuzz targets that reach it.
decoders=$(grep -vE '^(#|$)' tests/fuzz/decoders | some 'decoders')
reads='reader_over|json_value_parse|read_file_at|read_folder_at|sscanf|strsep|unit_file_parse|base64_decode|llhttp_execute|gnutls_record_recv|sd_bus_message_read[a-z_]*'
reads="$reads|curl_easy_setopt|fgets|fread|getline|mdb_get|mdb_cursor_get|strtoull?"
{
        program | grep '\.c$' | xargs -r grep -lE "\b($reads)\(" | some 'files that decode' | while read -r file; do
                grep -q "^$file " <<<"$decoders" || echo "tests/fuzz/decoders does not name $file"
        done
        while read -r file rest; do
                [ -f "$file" ] || echo "tests/fuzz/decoders names $file, which does not exist"
                rest=$(sed -E 's/ {2,}.*//' <<<"$rest")
                for name in $rest; do
                        [ "$name" = - ] || { [ -f "tests/fuzz/$name.c" ] && [ -d "tests/fuzz/corpus/$name" ]; } ||
                                echo "tests/fuzz/decoders names the target $name, which does not exist, or has no corpus"
                done
        done <<<"$decoders"
        sources tests/fuzz | grep -v standalone | some 'fuzzers' | while read -r file; do
                name=$(basename "$file" .c)
                sed -E 's/^[^ ]+ +//; s/ {2,}.*//' <<<"$decoders" | grep -qw -- "$name" || echo "tests/fuzz/decoders has no use for $name"
        done
} | rule every_decoder_has_a_fuzzer
exit 0
