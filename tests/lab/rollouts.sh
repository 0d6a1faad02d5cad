# Rollouts beside a client: sourced after scenario.sh by scenarios of sets whose instances are those of instance.py and answer client.py.
# The set is web@11.service and the following ones; web@N.service answers on port 80N of its host.

WATCH_S=2 # UpdateWatchSec= of a good text

# Put the program of the instances on the disks of all hosts.
install_instances() {
        local h
        for h in $LAB_HOSTS; do
                host_make "$h" || fail "no disk for $h"
                install -D -m 755 "$here/instance.py" "$LAB/$h/up/usr/local/bin/instance"
        done
}
cluster_with_instances() {
        install_instances
        cluster_up
}

# web REVISION KIND [LINES [SERVICE-LINES]]: write the template; KIND is that of instance.py or a command. Lines of [X-Fleet] and [Service].
web() {
        local command=$2
        case $2 in good | exits | unready | sick) command="/usr/local/bin/instance 80%i $1 $2" ;; esac
        printf '[Service]\nType=notify\nExecStart=%s\nExecReload=/bin/kill -HUP $MAINPID\n%b[X-Fleet]\nHealthHttp=80%%i/ready\nHealthIntervalSec=1s\nHealthTimeoutSec=1s\nUpdateWatchSec=%ss\n%b' \
                "$command" "${4:-}" $WATCH_S "${3:-}" | unit_file web@.service
}
names() { seq -f 'web@%g.service' 11 $((10 + ${1:-6})); }
# Run fleetctl on the first host, or on $AT: its output is in $LAB/out.
ctl() { fleetctl "${AT:-${LAB_HOSTS%% *}}" "$@" >"$LAB/out" 2>&1 || fail "fleetctl $*: $(cat "$LAB/out")"; }
rollout() { fleetctl "${AT:-${LAB_HOSTS%% *}}" rollout web@.service 2>&1; }
submit() { ctl submit --replace --no-block web@.service; }

# True when the set has revision $2, and its rollout is in state $1.
rollout_is() { rollout | head -n 1 | grep -q "revision $2 .*  $1\b"; }
wait_rollout() { wait_for "$3" rollout_is "$1" "$2" || fail "not $1: $(rollout)"; }
available() { [ "$(fleetctl "${AT:-${LAB_HOSTS%% *}}" list-units --no-legend --fields=unit,available 2>/dev/null | grep -c "^web@.*true")" = "$1" ]; }
wait_available() { wait_for "${2:-30}" available "$1" || fail "not $1 are available: $(fleetctl "${AT:-${LAB_HOSTS%% *}}" list-units --fields=unit,machine,active,sub,health,available,why 2>&1)"; }
# "UNIT INVOCATION" of each instance that has a process, sorted; of units whose names match a pattern. systemctl prints MainPID and NRestarts first.
invocations() { identities | awk -v name="${1:-^web@}" '$2 ~ name && $5 == "active" { print $2, $6 }' | sort; }
# Of the invocations $1 of units with names of pattern $2, those that have ended.
ended_since() { comm -23 <(echo "$1") <(invocations "${2:-}"); }
# The events of all instances on hosts that are on, in their order: MILLISECONDS EVENT PORT REVISION HOST.
instance_events() { local h; for h in $LAB_HOSTS; do ! host_is_on "$h" || host_exec "$h" cat /run/instances 2>/dev/null | sed "s/\$/ $h/"; done | sort -n; }
# The time of the first line of instance_events after $1 ms that matches $2.
event_after() { instance_events | awk -v after="$1" -v pattern="$2" '$1 > after && $0 ~ pattern { print $1; exit }'; }

# Let the client send requests to $1 instances, whose first port is $2.
client_start() {
        local h addresses first=${2:-8011}
        rm -f "$LAB/client-stop"
        addresses=$(for h in $LAB_HOSTS; do host_address "$h"; done | paste -sd,)
        in_lab python3 - "$LAB/client-stop" "$addresses" "$(seq -s, $first $((first + ${1:-6} - 1)))" <"$here/client.py" >"$LAB/client" 2>&1 &
        CLIENT=$!
}
# client_stop WHAT LEAST: no request has failed, and no round had fewer than LEAST instances.
client_stop() {
        local line
        touch "$LAB/client-stop"
        wait "$CLIENT"
        line=$(tail -n 1 "$LAB/client")
        echo "# $1: $line" >>"$LAB/figures"
        case $line in "requests="*" failed=0 "*) ;; *) fail "$1: $(tail -n 8 "$LAB/client")" ;; esac
        [ "$(sed 's/.* least=\([0-9]*\) .*/\1/' <<<"$line")" -ge "$2" ] || fail "$1: $(tail -n 8 "$LAB/client")"
}

