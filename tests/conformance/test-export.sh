#!/bin/bash
# fleetctl export and import against real daemons: equal unit by unit and key by key, and at one index while keys change. Takes 25 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${CHECK_BUILD:-build}
. "$here/daemon.sh"

# fleetctl HOST ARGUMENT...
fleetctl() { timeout 300 "$build/client/fleetctl" --endpoint="unix://$scratch/$1.sock" "${@:2}"; }
units_of() { fleetctl "$1" list-unit-files --no-legend --full --fields=unit,hash,dstate; }
id_of() { printf %s "$1" | md5sum | cut -c1-32; }
metadata() { # HOST KEY VALUE
        curl -sf --unix-socket "$scratch/$1.sock" -X PATCH http://fleet/fleet/v1/machines -H 'Content-Type: application/json' \
                -d "[{\"op\":\"add\",\"path\":\"/$(id_of "$1")/metadata/$2\",\"value\":\"$3\"}]"
}
metadata_is() { [ "$(fleetctl "$1" list-machines --no-legend --fields=metadata)" = "$2" ]; }

for host in first second; do
        daemon_start "$build/fleetd/fleetd" $host || { echo "not ok daemon_starts: $(daemon_word $host)"; exit 1; }
done

fill() {
        mkdir "$scratch/units" && cd "$scratch/units" || return 1
        printf '# a comment\n[Service]\nExecStart=/bin/echo "ü \\\\ %%i"\n\n[X-Fleet]\nConflicts=web@*\n' >web@.service
        cp web@.service web@1.service
        cp web@.service web@2.service
        printf '[Unit]\nDescription=one\n[Service]\nExecStart=/bin/true' >once.service
        printf '[Timer]\nOnCalendar=daily\n' >tick.timer
        fleetctl first submit ./* && fleetctl first start --no-block web@1 web@2 && fleetctl first load --no-block once || return 1
        metadata first rack "r \\\"1\\\"" && metadata first disk ssd || return 1
        # Deleted below: an export has what exists.
        fleetctl first kv set /gone/a 1 && fleetctl first kv rm -r /gone && fleetctl first kv set /ready yes
        fleetctl first kv set /a/b/c $'one "two"\nthree' && fleetctl first kv set /_hidden/x h && fleetctl first kv mk --dir /empty/d && fleetctl first kv set /a/_k "" || return 1
        printf '{"writes": [%s, %s]}' '{"action": "set", "key": "/any/bin", "value64": "AP8B"}' '{"action": "set", "key64": "L2FueS//AGs=", "value": "odd"}' | fleetctl first kv txn || return 1
        python3 -c 'import json; print(json.dumps({"d%d/%04d" % (i % 3, i): str(i) for i in range(2500)}))' | fleetctl first kv import /many || return 1
        fleetctl first kv set /lease x --ttl=1000 && fleetctl first kv set /leases/a x --ttl=1000
}

an_export_has_all_files() {
        fleetctl first export "$scratch/out" >"$scratch/why" 2>&1 || return 1
        says "Exported 5 units, 2 metadata of machines and 2506 keys at index" && says "left out, because of a time to live: 2 keys" || return 1
        [ "$(ls "$scratch/out")" = $'export.json\nkeys.json\nmetadata.json\ntargets.json\nunits' ] && diff -r "$scratch/units" "$scratch/out/units" || return 1
        [ "$(stat -c %a "$scratch/out" "$scratch/out/keys.json" "$scratch/out/units/once.service")" = $'700\n600\n600' ] || return 1
        [ "$(find "$scratch" -maxdepth 1 -name 'out*' | wc -l)" = 1 ] && python3 - "$scratch/out" "$(id_of first)" <<'P'
import json, sys
def read(name): return json.load(open(sys.argv[1] + "/" + name))
assert read("targets.json") == {"once.service": "loaded", "tick.timer": "inactive", "web@.service": "inactive", "web@1.service": "launched",
                                "web@2.service": "launched"}
assert read("metadata.json") == {sys.argv[2]: {"disk": "ssd", "rack": 'r "1"'}}
keys = read("keys.json")
assert keys["a/b/c"] == 'one "two"\nthree' and keys["_hidden/x"] == "h" and keys["empty/d/"] == "" and keys["a/_k"] == "" and "leases/" in keys
assert not [k for k in keys if k.startswith(("gone", "_fleet")) or k in ("lease", "leases/a")]
assert set(read("export.json")) == {"cluster", "format", "index", "time"}
P
}

an_export_needs_a_new_or_empty_folder() {
        fleetctl first export "$scratch/out" 2>"$scratch/why"
        [ $? = 1 ] && says "$scratch/out is not empty: an export needs a new or an empty folder" || return 1
        : >"$scratch/file" && fleetctl first export "$scratch/file" 2>"$scratch/why"
        [ $? = 1 ] && says "file: Not a directory" || return 1
        fleetctl first export "$scratch/none/out" 2>"$scratch/why"
        [ $? = 1 ] && says "No such file or directory" || return 1
        mkdir "$scratch/empty" && fleetctl first export "$scratch/empty/" && [ -s "$scratch/empty/export.json" ]
}

# A listener of keys only shows no units: half an export must not look complete.
an_export_needs_the_right_to_see_units() {
        timeout 60 "$build/client/fleetctl" --endpoint="http://$address" export "$scratch/half" 2>"$scratch/why"
        [ $? = 1 ] && says "units are managed on the local socket only" && [ ! -e "$scratch/half" ] && ! compgen -G "$scratch/half*"
}

an_import_creates_all() {
        fleetctl second import --yes "$scratch/out" >"$scratch/why" 2>&1 && says "Imported 5 units, 2 metadata of machines and 2505 keys" || return 1
        [ "$(units_of second)" = "$(units_of first)" ]
}

# The key of the daemon's start (/ready) exists on both.
an_export_of_the_import_is_equal() {
        fleetctl second export "$scratch/again" && diff -r -x export.json "$scratch/out" "$scratch/again"
}

a_repeated_import_changes_nothing() {
        local before
        before=$(fleetctl second kv get -o json /a/b/c)
        fleetctl second import --yes "$scratch/again" >"$scratch/why" 2>&1 && says "nothing to import" || return 1
        [ "$(grep -c ' exists\|	exists' "$scratch/why")" = 5 ] && [ "$(fleetctl second kv get -o json /a/b/c)" = "$before" ]
}

everything_destroyed_comes_back() {
        fleetctl second destroy --no-block web@.service web@1.service web@2.service once.service tick.timer || return 1
        fleetctl second kv rm -r /a && fleetctl second kv rm -r /many && fleetctl second kv rm -r /_hidden && fleetctl second kv rm -r /any && fleetctl second kv rm -r /empty || return 1
        wait_for test -z "$(units_of second)" && fleetctl second import --yes "$scratch/out" || return 1
        [ "$(units_of second)" = "$(units_of first)" ] && rm -rf "$scratch/again" && fleetctl second export "$scratch/again" &&
                diff -r -x export.json "$scratch/out" "$scratch/again"
}

other_contents_are_refused_and_replaced() {
        printf '[Service]\nExecStart=/bin/false\n' >"$scratch/once.service"
        fleetctl second load --no-block --replace "$scratch/once.service" && fleetctl second kv set /a/b/c other && fleetctl second kv rm -r /any || return 1
        fleetctl second import --yes "$scratch/out" >"$scratch/why" 2>&1
        [ $? = 1 ] && says "exists with another text" && says "/a/b/c: exists with another value" || return 1
        says "1 unit and 1 key with another content: --replace replaces them; nothing was changed" || return 1
        [ "$(fleetctl second kv get /a/b/c)" = other ] && ! fleetctl second kv get /any/bin || return 1
        fleetctl second import --yes --replace "$scratch/out" && [ "$(units_of second)" = "$(units_of first)" ] &&
                [ "$(fleetctl second kv get /a/b/c)" = $'one "two"\nthree' ] && fleetctl second kv get /any/bin
}

# import_says MESSAGE COMMAND...: the command changes a copy of the export, whose import is then refused.
import_says() {
        rm -rf "$scratch/bad" && cp -r "$scratch/out" "$scratch/bad" && (cd "$scratch/bad" && eval "$2") || return 1
        fleetctl second import --yes "$scratch/bad" >"$scratch/why" 2>&1
        [ $? = 1 ] && says "$1" && says "nothing was changed"
}
a_bad_folder_is_refused_with_object_and_place() {
        import_says "bad has no export.json: it is no export; see fleetctl export" "rm export.json" || return 1
        import_says "written by a newer fleetctl (format 2); upgrade this one" "sed -i 's/\"format\":1/\"format\":2/' export.json" || return 1
        import_says "Failed to open $scratch/bad/keys.json: No such file or directory" "rm keys.json" || return 1
        import_says "the file is cut: it does not end with }" "head -n -1 keys.json >k && mv k keys.json" || return 1
        import_says "keys.json: line 3: " "sed -i '3s/.*/  \"x\": 1,/' keys.json" || return 1
        import_says "targets.json names a unit without a file" "rm units/once.service" || return 1
        import_says "once.service: 'sleeping': expected inactive, loaded or launched" "sed -i s/loaded/sleeping/ targets.json" || return 1
        import_says "rejected: 1 unit; correct them in $scratch/bad/units" "echo garbage >>units/tick.timer" || return 1
        import_says "symbolic links are not followed" "ln -sf /etc/passwd units/once.service" || return 1
        import_says "metadata.json: expected" "echo '{\"x\": 1}' >metadata.json"
        fleetctl second import "$scratch/nowhere" 2>"$scratch/why"
        [ $? = 1 ] && says "Failed to open $scratch/nowhere: No such file or directory"
}

# Two keys at both ends of three pages have one number, and so have a key and a unit's text: written one after the other, never apart by more than one.
an_export_is_of_one_index_while_keys_change() {
        local i
        python3 - "$scratch/first.sock" "$scratch/stop" <<'P' &
import http.client, json, os, socket, sys
class C(http.client.HTTPConnection):
    def connect(self): self.sock = socket.socket(socket.AF_UNIX); self.sock.connect(sys.argv[1])
c, n = C("fleet"), 0
while not os.path.exists(sys.argv[2]):
    n += 1
    body = {"writes": [{"action": "set", "key": k, "value": str(n)} for k in ("/aaa", "/many/d1/x", "/zzz")]
            + [{"action": "delete", "key": "/turn/%d" % (n - 1), "recursive": True} if n > 1 else {"action": "set", "key": "/turn/0/x", "value": ""},
               {"action": "set", "key": "/turn/%d/k" % n, "value": str(n)}]}
    c.request("POST", "/fleet/v1/kv/txn", json.dumps(body), {"Content-Type": "application/json"}); r = c.getresponse(); r.read(); assert r.status == 200, r.status
print(n, "transactions")
P
        writer=$!
        wait_for fleetctl first kv get /aaa || return 1
        for i in 1 2 3; do
                fleetctl first export "$scratch/load$i" || return 1
                python3 - "$scratch/load$i/keys.json" <<'P' || return 1
import json, sys
k = json.load(open(sys.argv[1]))
turns = [x for x in k if x.startswith("turn/") and not x.startswith("turn/0")]
assert k["aaa"] == k["many/d1/x"] == k["zzz"] and turns == ["turn/%s/k" % k["aaa"]], (k["aaa"], k["many/d1/x"], k["zzz"], turns)
print("at transaction", k["aaa"])
P
        done
        : >"$scratch/stop"
        wait $writer && [ "$(cd "$scratch" && cat load?/keys.json | grep '"aaa"' | sort -u | wc -l)" = 3 ]
}

check fill
check an_export_has_all_files
check an_export_needs_a_new_or_empty_folder
check an_export_needs_the_right_to_see_units
check an_import_creates_all
check an_export_of_the_import_is_equal
check a_repeated_import_changes_nothing
check everything_destroyed_comes_back
check other_contents_are_refused_and_replaced
check a_bad_folder_is_refused_with_object_and_place
check an_export_is_of_one_index_while_keys_change
