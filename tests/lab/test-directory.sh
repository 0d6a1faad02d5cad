#!/bin/bash
# The unit directory /etc/fleet/units.
# Takes 20 s.
. "$(dirname "$0")/scenario.sh"

FOLDER=/etc/fleet/units

# Write stdin to file $2 of host $1's unit directory as editors do: written beside it, then renamed.
drop() { host_exec "$1" sh -c 'cat >"$1/.$2.new" && chmod 644 "$1/.$2.new" && mv "$1/.$2.new" "$1/$2"' - $FOLDER "$2"; }
forever() { printf '[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/sleep %s\n' "$1" "$2"; }
runs_text() {
        local h
        h=$(hosts_running "$1")
        [ -n "$h" ] && host_exec "$h" systemctl show -p ExecStart --value "$1" | grep -qF "$2" && host_exec "$h" pgrep -fx "/bin/sleep $2" >/dev/null
}

a_file_that_appears_runs_within_two_seconds() {
        cluster_up
        forever dropped 100001 | drop beta dropped.service
        wait_for 2 runs_once dropped.service || fail "it runs on: $(hosts_running dropped.service | tr '\n' ' ')"
        local h
        for h in $LAB_HOSTS; do
                wait_for 2 lists "$h" dropped.service "active running" || fail "$h does not list it: $(fleetctl "$h" list-units)"
        done
}

a_file_written_in_place_runs_too() {
        forever inplace 100002 | host_exec gamma sh -c "cat >$FOLDER/inplace.service"
        wait_for 2 runs_once inplace.service || fail "it runs on: $(hosts_running inplace.service | tr '\n' ' ')"
}

the_job_of_a_timer_runs_when_the_timer_elapses_and_not_before() {
        local id
        id=$(host_exec beta cat /etc/machine-id)
        printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo >>/run/job.ran"\n[X-Fleet]\nTargetState=loaded\nMachineID=%s\n' "$id" | drop gamma job.service
        printf '[Timer]\nOnActiveSec=1d\nUnit=job.service\n[X-Fleet]\nMachineOf=job.service\n' | drop gamma job.timer
        wait_for 20 lists alpha job.timer "active waiting" || fail "job.timer: $(fleetctl alpha why job.timer)"
        host_exec beta test ! -e /run/job.ran || fail "the job ran at its deployment"
        host_exec beta sh -c 'systemctl start job.service && test -s /run/job.ran' || fail "the job does not run when it is started"
        host_exec gamma rm $FOLDER/job.timer $FOLDER/job.service
        wait_for 20 host_exec beta sh -c '[ ! -e /run/fleet/units/job.timer ] && [ ! -e /run/fleet/units/job.service ]' || fail "a unit without its file stays"
}

an_accepting_socket_starts_instances_of_its_template() {
        printf '[Service]\nExecStart=/bin/echo once\nStandardInput=socket\n' | drop gamma echo@.service
        printf '[Socket]\nListenStream=127.0.0.1:7790\nAccept=yes\n[X-Fleet]\nMachineID=%s\n' "$(host_exec beta cat /etc/machine-id)" | drop gamma echo.socket
        answers() { [ "$(host_exec beta bash -c 'exec 3<>/dev/tcp/127.0.0.1/7790; cat <&3')" = "$1" ]; }
        wait_for 20 answers once || fail "no answer: $(fleetctl alpha why echo.socket)"
        printf '[Service]\nExecStart=/bin/echo again\nStandardInput=socket\n' | drop gamma echo@.service
        wait_for 20 answers again || fail "the template keeps its former text"
        host_exec gamma rm $FOLDER/echo.socket $FOLDER/echo@.service
        wait_for 20 host_exec beta sh -c '[ ! -e /run/fleet/units/echo.socket ] && [ ! -e /run/fleet/units/echo@.service ] && [ ! -L /run/systemd/system/echo@.service ]' ||
                fail "the template stays"
}

an_edited_file_updates_its_unit_and_no_other() {
        local before
        before=$(identities | grep -v dropped.service)
        forever dropped 100003 | drop beta dropped.service
        wait_for 5 runs_text dropped.service 100003 || fail "the new text does not run"
        runs_once dropped.service || fail "it runs on: $(hosts_running dropped.service | tr '\n' ' ')"
        [ "$before" = "$(identities | grep -v dropped.service)" ] || fail "another unit was touched"
        [ "$(fleetctl alpha cat dropped.service | grep -c 100003)" = 1 ] || fail "cat shows another text"
}

a_broken_file_is_refused_with_its_line_and_disturbs_nothing() {
        local before error
        before=$(identities)
        printf '[Unit]\nDescription=broken\n[Service]\nExecStart=/bin/sleep 1\n[X-Fleet]\nMachineMetadata=gpu\n' | drop beta broken.service
        wait_for 5 host_exec beta test -s $FOLDER/broken.service.error || fail "no broken.service.error appears"
        error=$(host_exec beta cat $FOLDER/broken.service.error)
        grep -q 'broken.service: line 6:' <<<"$error" || fail "the message does not name file and line: $error"
        in_the_journal() { [[ $(host_exec beta journalctl -u fleetd --no-pager) == *'broken.service: line 6'* ]]; }
        wait_for 5 in_the_journal || fail "the journal does not say it"
        runs_nowhere broken.service || fail "a broken unit runs"
        untouched "$before"
}

an_edit_that_breaks_a_file_leaves_the_running_version() {
        local before
        before=$(identities)
        printf '[Service]\nExecStart=/bin/sleep 1\nno equals sign here\n' | drop beta dropped.service
        wait_for 5 host_exec beta test -s $FOLDER/dropped.service.error || fail "no dropped.service.error appears"
        untouched "$before"
        forever dropped 100004 | drop beta dropped.service
        wait_for 5 runs_text dropped.service 100004 || fail "the mended text does not run"
        wait_for 5 host_exec beta test ! -e $FOLDER/dropped.service.error || fail "the .error file stays"
}

a_removed_file_removes_its_unit() {
        host_exec gamma rm $FOLDER/inplace.service
        wait_for 5 runs_nowhere inplace.service || fail "it still runs"
        ! known alpha inplace.service || fail "it is still known"
        runs_once dropped.service || fail "another unit was touched"
}

files_dropped_while_the_daemon_was_away_are_found() {
        host_exec beta systemctl stop fleetd
        forever meanwhile 100005 | drop beta meanwhile.service
        host_exec beta systemctl start fleetd
        wait_for 10 runs_once meanwhile.service || fail "it runs on: $(hosts_running meanwhile.service | tr '\n' ' ')"
}

an_emptied_folder_does_not_remove_all_units() {
        forever third 100006 | drop beta third.service
        wait_for 5 runs_once third.service || fail "the third unit does not run"
        local before
        before=$(identities)
        host_exec beta sh -c "mv $FOLDER /etc/fleet/away && mkdir $FOLDER"
        # The daemon completes its reaction before it reads another file.
        forever witness 100007 | drop gamma witness.service
        wait_for 5 runs_once witness.service || fail "a file on another host is not submitted"
        sleep 3         # long enough for a wrong removal
        [ "$before" = "$(identities | grep -v witness.service)" ] || fail "units were touched: $(identities)"
        host_exec beta sh -c "rmdir $FOLDER && mv /etc/fleet/away $FOLDER"
}

two_hosts_with_one_name_are_reported_and_one_of_them_wins() {
        forever contested 100008 | drop alpha contested.service
        wait_for 5 runs_text contested.service 100008 || fail "the first does not run"
        forever contested 100009 | drop beta contested.service
        wait_for 5 host_exec beta test -s $FOLDER/contested.service.error || fail "the second is not refused"
        wait_for 5 sh_says "beta: contested.service: the cluster has another unit of this name, submitted by the directory of alpha" \
                fleetctl gamma list-unit-files || fail "the list does not say it: $(fleetctl gamma list-unit-files 2>&1)"
        runs_text contested.service 100008 || fail "the first was touched"
        fleetctl gamma directory take-over contested.service >/dev/null || fail "it cannot be taken over"
        wait_for 10 runs_text contested.service 100009 || fail "the second does not run"
        wait_for 5 host_exec beta test ! -e $FOLDER/contested.service.error || fail "its .error file stays"
        wait_for 5 host_exec alpha test -s $FOLDER/contested.service.error || fail "the first host has no error file"
        host_exec alpha rm $FOLDER/contested.service
        runs_text contested.service 100009 || fail "the file of who owns it no more removes it"
}
sh_says() { local part=$1; shift; "$@" 2>&1 | grep -qF "$part"; }

the_unit_of_a_host_that_left_is_adopted() {
        local before
        forever shared 100010 | drop gamma shared.service
        wait_for 5 runs_once shared.service || fail "it does not run"
        forever shared 100010 | drop alpha shared.service
        forever witness2 100011 | drop alpha witness2.service
        wait_for 5 runs_once witness2.service || fail "alpha's folder is not read"
        [ "$(owner shared.service)" = gamma ] || fail "it is owned by $(owner shared.service)"
        host_off gamma || fail "gamma does not shut down"
        wait_for 60 owned_by shared.service alpha || fail "it is owned by $(owner shared.service)"
        wait_for 30 runs_text shared.service 100010 || fail "it does not run"
        before=$(identities alpha beta | grep shared)
        host_up gamma && host_wait gamma || fail "gamma does not come back"
        wait_for 60 knows_machines gamma 3 || fail "gamma does not come back into the cluster"
        owned_by shared.service alpha || fail "it went back to $(owner shared.service)"
        [ "$before" = "$(identities alpha beta | grep shared)" ] || fail "it was touched"
}
owner() {
        fleetctl alpha --output=json list-unit-files | python3 -c '
import json, subprocess, sys
print(*[u.get("owner") for u in json.load(sys.stdin)["units"] if u["name"] == sys.argv[1]])' "$1" |
                while read -r id; do host_fleetctl alpha --output=json list-machines | python3 -c '
import json, sys
print(*[m["hostname"] for m in json.load(sys.stdin)["machines"] if m["id"] == sys.argv[1]])' "$id"; done
}
owned_by() { [ "$(owner "$1")" = "$2" ]; }

scenario a_file_that_appears_runs_within_two_seconds a_file_written_in_place_runs_too \
        the_job_of_a_timer_runs_when_the_timer_elapses_and_not_before \
        an_accepting_socket_starts_instances_of_its_template an_edited_file_updates_its_unit_and_no_other a_broken_file_is_refused_with_its_line_and_disturbs_nothing \
        an_edit_that_breaks_a_file_leaves_the_running_version a_removed_file_removes_its_unit \
        files_dropped_while_the_daemon_was_away_are_found an_emptied_folder_does_not_remove_all_units \
        two_hosts_with_one_name_are_reported_and_one_of_them_wins \
        the_unit_of_a_host_that_left_is_adopted
