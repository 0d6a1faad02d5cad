#!/bin/bash
# Real unit files: every type of unit, drop-ins in the order of systemd, and some hundred files of this machine, which have the same meaning for
# systemd as before. Takes 60 s.
. "$(dirname "$0")/scenario.sh"

FOLDER=/etc/fleet/units

a_cluster_is_up() {
        LAB_NSPAWN_OPTIONS=$([ ! -c /dev/autofs ] || echo --bind=/dev/autofs) cluster_up
}

# The expected state of a unit of each type; a socket, timer or path may start any unit, for example a vendor's.
TYPES='service active running
socket active listening
timer active waiting
path active waiting
mount active mounted
target active active'
body() {
        case $1 in
        service) printf '[Service]\nExecStart=/bin/sleep 100020\n' ;;
        socket) printf '[Socket]\nListenStream=/run/kind.sock\nService=systemd-tmpfiles-clean.service\n' ;;
        timer) printf '[Timer]\nOnActiveSec=10h\nUnit=systemd-tmpfiles-clean.service\n' ;;
        path) printf '[Path]\nPathExists=/run/never\nUnit=systemd-tmpfiles-clean.service\n' ;;
        mount) printf '[Mount]\nWhat=tmpfs\nWhere=/run/kind\nType=tmpfs\n' ;;
        target) printf '[Unit]\nDescription=kinds\n' ;;
        esac
}
drop() { host_exec "$1" sh -c 'cat >"$1/.$2.new" && chmod 644 "$1/.$2.new" && mv "$1/.$2.new" "$1/$2"' - $FOLDER "$2"; }
every_type_of_unit_is_placed_started_and_listed() {
        local type active sub name
        while read -r type active sub; do
                name=$([ "$type" = mount ] && echo run-kind.mount || echo kind.$type)
                body "$type" | drop alpha "$name"
                wait_for 10 lists beta "$name" "$active $sub" || fail "$name: $(fleetctl beta list-units | grep "$name")"
        done <<<"$TYPES"
}

slices_scopes_and_devices_are_rejected_with_a_message() {
        local type out
        for type in slice scope device; do
                printf '[Unit]\nDescription=x\n' | drop alpha kind.$type
                wait_for 5 host_exec alpha grep -q 'units of that type belong to the host they are on' $FOLDER/kind.$type.error ||
                        fail "kind.$type is not refused"
                printf '[Unit]\nDescription=x\n' | unit_file kind.$type
                ! out=$(fleetctl beta start kind.$type 2>&1) && grep -q 'units of that type belong to the host they are on' <<<"$out" ||
                        fail "fleetctl start kind.$type: $out"
                ! known gamma kind.$type || fail "kind.$type is known"
                host_exec alpha rm $FOLDER/kind.$type
        done
}

# Its first use mounts the file system, which systemd does: both are units of the cluster, and both are listed.
an_automount_waits_and_mounts_at_the_first_use() {
        local h
        [ -c /dev/autofs ] || return 0  # a kernel without autofs: systemd itself then knows no such units
        printf '[Mount]\nWhat=tmpfs\nWhere=/run/lazy\nType=tmpfs\n[X-Fleet]\nMachineOf=run-lazy.automount\n' | unit_file run-lazy.mount
        printf '[Automount]\nWhere=/run/lazy\n' | unit_file run-lazy.automount
        fleetctl beta load --no-block run-lazy.mount >/dev/null || fail "the mount cannot be loaded"
        fleetctl beta start run-lazy.automount >"$LAB/out" 2>&1 || fail "the automount does not start: $(cat "$LAB/out")"
        wait_for 5 lists gamma run-lazy.automount "active waiting" || fail "it is not listed: $(fleetctl gamma list-units | grep lazy)"
        wait_for 5 lists gamma run-lazy.mount "inactive dead" || fail "the mount is not loaded: $(fleetctl gamma list-units | grep lazy)"
        for h in $LAB_HOSTS; do
                ! host_exec "$h" grep -q ' /run/lazy autofs ' /proc/mounts || host_exec "$h" ls /run/lazy/ >/dev/null
        done
        wait_for 5 lists gamma run-lazy.mount "active mounted" || fail "not mounted: $(fleetctl gamma list-units | grep lazy)"
        wait_for 5 lists gamma run-lazy.automount "active running" || fail "not in use: $(fleetctl gamma list-units | grep lazy)"
        fleetctl alpha destroy run-lazy.automount run-lazy.mount >/dev/null || fail "they cannot be destroyed"
        for h in $LAB_HOSTS; do
                wait_for 5 sh -c "! grep -q ' /run/lazy ' /proc/$(host_init "$h")/mounts" || fail "$h has it mounted still"
        done
}

# In a container systemd refuses to start swap units. The check covers the rest: the unit is placed, its file is loaded, the start is
# requested, the answer of systemd is reported, and the unit is removed completely.
a_swap_gets_as_far_as_systemd_permits() {
        local unit='var-lib-lab\x2dswap.swap' out
        printf '[Swap]\nWhat=/var/lib/lab-swap\nPriority=7\n' | unit_file "$unit"
        ! out=$(fleetctl beta start "$unit" 2>&1) || fail "it was started: $out"
        grep -q 'systemd did not start it (unsupported)' <<<"$out" || fail "start does not say why: $out"
        wait_for 5 lists gamma "$unit" "inactive dead" || fail "it is not listed: $(fleetctl gamma list-units | grep swap)"
        fleetctl beta show -p What,Priority,LoadState "$unit" >"$LAB/out" 2>&1
        for out in What=/var/lib/lab-swap Priority=7 LoadState=loaded; do
                grep -qxF "$out" "$LAB/out" || fail "systemd does not have $out: $(cat "$LAB/out")"
        done
        fleetctl beta journal "$unit" 2>&1 | grep -q 'unsupported' || fail "its journal does not say it: $(fleetctl beta journal "$unit" 2>&1)"
        fleetctl alpha destroy "$unit" >/dev/null || fail "it cannot be destroyed"
        wait_for 5 gone_everywhere "$unit" || fail "it is left on a host"
}
a_start_that_fails_for_its_requirement_is_reported() {
        local out
        printf '[Unit]\nRequires=needed.service\nAfter=needed.service\n[Service]\nExecStart=/bin/sleep 100021\n[X-Fleet]\nMachineOf=needed.service\n' | unit_file needing.service
        printf '[Service]\nType=oneshot\nExecStart=/bin/false\n' | unit_file needed.service
        fleetctl alpha load needed.service >"$LAB/out" 2>&1 || fail "it cannot be loaded: $(cat "$LAB/out")"
        ! out=$(fleetctl beta start needing.service 2>&1) || fail "it was started: $out"
        grep -q 'systemd did not start it (dependency)' <<<"$out" || fail "start does not say why: $out"
        fleetctl alpha destroy needing.service needed.service >/dev/null || fail "they cannot be destroyed"
}
gone_everywhere() {
        local h
        for h in $LAB_HOSTS; do
                [ ! -e "/proc/$(host_init "$h")/root/run/fleet/units/$1" ] || return 1
        done
}

# The same folders for fleetctl and for systemd: DropInPaths lists the result of systemd.
drop_ins_have_systemds_order() {
        local unit ours theirs folder n=0
        for folder in service a-.service a-b-.service a-@.service 'a-@1.service' a-b@.service 'a-b@1.service' a-b-c.service timer a-.timer; do
                mkdir -p "$LAB/units/$folder.d"
                for n in 10 20 30 40; do
                        printf '[Unit]\nDocumentation=man:%s\n' "$folder" >"$LAB/units/$folder.d/$n.conf"
                done
                printf '[Unit]\nDocumentation=man:%s\n' "$folder" >"$LAB/units/$folder.d/25-${folder//[^a-z]/x}.conf"
        done
        : >"$LAB/units/a-@.service.d/20.conf"
        : >"$LAB/units/a-b-.service.d/30.conf"
        rm "$LAB/units/a-b-c.service.d/10.conf" "$LAB/units/a-b@1.service.d/40.conf" "$LAB/units/a-b@.service.d/40.conf" "$LAB/units/a-b@.service.d/30.conf"
        for unit in a-b-c.service 'a-b@1.service' 'a-b@2.service' a-b.service x.service; do
                printf '[Service]\nExecStart=/bin/true\n' | unit_file "$unit"
        done
        printf '[Timer]\nOnActiveSec=1h\n' | unit_file a-b-.timer
        tar -C "$LAB/units" -c --exclude='kind*' . | host_exec alpha sh -c 'mkdir /run/systemd/compare && tar -x -C /run/systemd/compare'
        host_exec alpha sh -c 'cd /run/systemd/compare && cp -r . /run/systemd/system/ && systemctl daemon-reload'
        for unit in a-b-c.service 'a-b@1.service' 'a-b@2.service' a-b.service x.service a-b-.timer; do
                fleetctl beta submit "$unit" >"$LAB/out" 2>&1 || fail "$unit: $(cat "$LAB/out")"
                ours=$(fleetctl beta cat --source "$unit" | sed -n 's/^# \(.*\.d\/.*\.conf\)$/\1/p')
                # An empty file masks, and systemd lists it.
                theirs=$(host_exec alpha systemctl show -p DropInPaths --value "$unit" | tr ' ' '\n' | sed 's:\\x2d:-:g' |
                        while read -r path; do ! host_exec alpha test -s "$path" || echo "${path#/run/systemd/system/}"; done)
                [ -n "$ours" ] && [ "$ours" = "$theirs" ] || fail "$unit: $(diff <(echo "$theirs") <(echo "$ours") | tr '\n' ' ')"
                fleetctl gamma destroy "$unit" >/dev/null || fail "$unit cannot be destroyed"
        done
        host_exec alpha sh -c 'cd /run/systemd/system && rm -r *.service.d *.timer.d service.d timer.d a-* x.service; systemctl daemon-reload' 2>/dev/null
        rm -r "$LAB"/units/*.d
}

real_unit_files_come_back_byte_for_byte_with_the_hash_of_their_printed_form() {
        local f name hash
        python3 "$here/unit_files.py" "$LAB/units/real" || fail "no unit files"
        (cd "$LAB/units/real" && find . -maxdepth 1 -type f -printf '%f\n' | sort | xargs -n 60) >"$LAB/names"
        while read -r line; do
                (cd "$LAB/units/real" && host_fleetctl alpha submit $line) >"$LAB/out" 2>&1 || fail "submit: $(cat "$LAB/out")"
        done <"$LAB/names"
        fleetctl gamma list-unit-files --full --no-legend --fields=unit,hash | tr -s '\t ' ' ' >"$LAB/listed"
        for f in "$LAB"/units/real/u*; do
                name=${f##*/}
                fleetctl beta cat --source "$name" | cmp -s - "$f" || fail "$name is not what was submitted"
                hash=$(fleetctl gamma cat "$name" | sha1sum | cut -c1-40)
                grep -qxF "$name $hash" "$LAB/listed" || fail "$name: sha1 of cat is $hash, listed is: $(grep "^$name " "$LAB/listed")"
        done
        echo "# $(wc -w <"$LAB/names") unit files" >>"$LAB/figures"
}

a_wrong_file_is_rejected_with_its_line_and_nothing_is_submitted() {
        local name message out
        while read -r name message; do
                ! out=$(cd "$LAB/units/real/refused" && host_fleetctl alpha submit "$name" 2>&1) || fail "$name is taken"
                grep -qF "$name: $message" <<<"$out" || fail "$name: $out"
                ! known beta "$name" || fail "$name is known"
                host_exec alpha sh -c "cat >$FOLDER/$name" <"$LAB/units/real/refused/$name"
                wait_for 5 host_exec alpha grep -qF "$message" "$FOLDER/$name.error" || fail "$name in the folder: $(host_exec alpha cat "$FOLDER/$name.error" 2>&1)"
                host_exec alpha rm "$FOLDER/$name"
        done <"$LAB/units/real/refused/expected"
}

# In addition to each unit of fleetd: its original file (vendor-...), and its canonical form (printed-...). All three are equal for systemd. Units with
# [Install] are excluded, because only some of them are enabled.
a_unit_its_file_and_its_printed_form_are_equal_for_systemd() {
        local f name h n
        (cd "$LAB/units/real" && grep -L '^\[Install\]' u*.service u*.socket u*.timer u*.path u*.target | grep -v '@') >"$LAB/sample"
        xargs -n 60 <"$LAB/sample" | while read -r line; do
                (cd "$LAB/units/real" && host_fleetctl alpha load --no-block $line) >"$LAB/out" 2>&1 || fail "load: $(cat "$LAB/out")"
        done || exit 1
        n=$(wc -l <"$LAB/sample")
        wait_for 30 loaded_are "$n" || fail "of $n units these are in force: $(in_force | wc -l)"
        mkdir -p "$LAB/printed"
        while read -r name; do
                fleetctl beta cat "$name" >"$LAB/printed/p${name#u}"
                cp "$LAB/units/real/$name" "$LAB/printed/v${name#u}"
        done <"$LAB/sample"
        for h in $LAB_HOSTS; do
                tar -C "$LAB/printed" -c . | host_exec "$h" tar -x -C /run/systemd/system
                host_exec "$h" systemctl daemon-reload
                host_exec "$h" python3 - >"$LAB/compared.$h" 2>&1 <<'END' || fail "$h: $(cat "$LAB/compared.$h")"
import os, re, subprocess
NOT = re.compile(r"^(FragmentPath|UnitFileState|UnitFilePreset|InvocationID|.*Timestamp.*|.*Monotonic|NextElapse.*|.*USec=infinity)=")
SETS = re.compile(r"^(After|Before|Wants|Requires|Requisite|BindsTo|PartOf|Conflicts|WantedBy|Triggers|TriggeredBy|RequiresMountsFor|References|ReferencedBy|OnFailure)=")
def view(name):
    out = subprocess.run(["systemctl", "show", "--all", name], stdout=subprocess.PIPE, check=True).stdout.decode()
    stem = re.escape(name[1:].rsplit(".", 1)[0])
    lines = (re.sub(r"\b[uvp]" + stem + r"\b", "NAME", l) for l in out.splitlines() if not NOT.match(l))
    return sorted("=".join((l.split("=")[0], " ".join(sorted(l.split("=")[1].split())))) if SETS.match(l) else l for l in lines)
bad = n = 0
for name in sorted(os.listdir("/run/fleet/units")):
    if not os.path.exists("/run/systemd/system/v" + name[1:]):
        continue
    ours = view(name)
    for other in "vp":
        theirs = view(other + name[1:])
        if ours != theirs:
            bad += 1
            print(name, other, *(l[:150] for l in sorted(set(ours) ^ set(theirs))[:4]))
    n += 1
print(n, "compared")
raise SystemExit(bad > 0 or n == 0)
END
        done
        echo "# $(cat "$LAB"/compared.* | awk '/compared/ { n += $1 } END { print n }') units compared with systemd's view" >>"$LAB/figures"
}
in_force() { fleetctl gamma list-units --no-legend --fields=unit | grep -E '^u(-|[0-9])'; }
loaded_are() { [ "$(in_force | wc -l)" = "$1" ]; }

scenario a_cluster_is_up every_type_of_unit_is_placed_started_and_listed slices_scopes_and_devices_are_rejected_with_a_message \
        an_automount_waits_and_mounts_at_the_first_use a_swap_gets_as_far_as_systemd_permits a_start_that_fails_for_its_requirement_is_reported drop_ins_have_systemds_order \
        real_unit_files_come_back_byte_for_byte_with_the_hash_of_their_printed_form \
        a_wrong_file_is_rejected_with_its_line_and_nothing_is_submitted a_unit_its_file_and_its_printed_form_are_equal_for_systemd
