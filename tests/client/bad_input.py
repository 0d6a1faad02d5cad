"""Wrong input: a row is the command line ("<FILE" is standard input), the exit status, the first line of the
message in a pipe, and that on a terminal if it differs. Each message names the object, the reason, and the next step unless it follows from the
reason; a text of fleet that scripts read comes first in a pipe.

The folder has plain.txt, big.service (129 KiB), a folder units and one d.service, and keys.json with the key "/a". The cluster has db.service,
web@1.service and web@2.service, and dir.service from the unit directory of beta."""

NO_LEADER = "no leader: 1 of 3 voters reachable; reads still work"
NOT_FOUND = "Error creating units: unable to find Unit({}) in Registry or on filesystem"
A_TIME = "expected a time, for example -1h, 12:00, yesterday or 2026-01-31 12:00"

ROWS = [
    # Files
    ("submit plain.txt", 1, NOT_FOUND.format("plain.txt.service"), "fleetctl: plain.txt is not a unit name: it has no unit type (for example plain.service)"),
    ("submit --replace db", 1, "Error creating units: error Unit db.service does not seem to be a template unit",
     "fleetctl: there is no file db.service; --replace needs the new file of the unit"),
    ("submit big.service", 1, "fleetctl: big.service has 129 KiB; a unit has at most 128 KiB"),
    ("submit units", 1, NOT_FOUND.format("units.service"), "fleetctl: units is a folder; name its files: units/*.service"),
    ("submit units/", 1, 'Error creating units: unit name cannot start in "."', "fleetctl: units/ is a folder; name its files: units/*.service"),
    ("verify d.service", 1, "fleetctl: d.service is a folder; name its files: d.service/*.service"),
    ("start d.service", 1, "fleetctl: d.service is a folder; name its files: d.service/*.service"),
    ("plan units", 1, "fleetctl: units is a folder; name its files: units/*.service"),
    ("diff plain.txt", 1, "fleetctl: plain.txt is not a unit name: it has no unit type (for example plain.service)"),
    ("submit 'a b.service'", 1, "Error creating units: invalid character ' ' in unit name", "fleetctl: a b.service: invalid character ' ' in unit name"),
    ("start none", 1, NOT_FOUND.format("none.service"), "Error creating units: no unit none.service in the cluster or in this directory"),
    ("verify none", 1, "fleetctl: none.service: No such file or directory"),
    ("plan none", 1, "fleetctl: none.service: No such file or directory"),
    ("diff db", 1, "fleetctl: db.service: No such file or directory"),
    ("diff new.service", 4, "Unit new.service not found"),
    ("start web@1.servce", 2, "fleetctl: web@1.servce: .servce is no unit type; did you mean web@1.service, or web@1.servce.service?"),
    ("start --replace web@1.srvice", 2, "fleetctl: web@1.srvice: .srvice is no unit type; did you mean web@1.service, or web@1.srvice.service?"),
    ("verify units/app.sockt", 2, "fleetctl: units/app.sockt: .sockt is no unit type; did you mean units/app.socket, or units/app.sockt.service?"),
    ("why db.sevice", 2, "fleetctl: db.sevice: .sevice is no unit type; did you mean db.service, or db.sevice.service?"),
    ("start example.com", 1, NOT_FOUND.format("example.com.service"), "Error creating units: no unit example.com.service in the cluster or in this directory"),
    # Patterns
    ("destroy 'w*'", 1, "fleetctl: 2 units match: web@1.service web@2.service"),
    ("destroy 'z*'", 0, "Units not found in registry", "fleetctl: z*.service: no unit of the cluster matches"),
    ("start 'z*'", 1, "Error creating units: invalid character '*' in unit name",
     "fleetctl: z*: no file matches, and patterns of units are for other verbs (fleetctl list-unit-files 'z*')"),
    ("restart 'z*'", 1, "Error creating units: invalid character '*' in unit name",
     "fleetctl: z*: no started or loaded unit matches (fleetctl list-unit-files 'z*')"),
    # Units
    ("why none", 4, "Unit none.service does not exist."),
    ("stop none", 0, "Units not found in registry", "fleetctl: none.service: the cluster has no such unit"),
    ("kill none", 4, "Unit none.service does not exist."),
    ("cat none", 1, "Unit none.service not found"),
    ("edit none", 4, "Unit none.service not found"),
    ("edit dir.service", 1, "fleetctl: dir.service comes from the unit directory of beta; edit the file there"),
    ("ssh none", 1, "Unable to proceed: could not find matching unit or machine"),
    ("journal", 1, "One unit file must be provided."),
    ("journal none", 1, "Unit none.service does not exist."),
    ("journal db none", 1, "Unit none.service does not exist."),
    ("journal 'z*'", 1, "Unit z*.service does not exist."),
    ("journal --since=foo db", 2, f"fleetctl: --since=foo: {A_TIME}"),
    ("journal --until=25:00 db", 2, f"fleetctl: --until=25:00: {A_TIME}"),
    ("events --since=foo", 2, f"fleetctl: --since=foo: {A_TIME}"),
    ("events none", 4, "Unit none.service does not exist."),
    ("events --machine=zeta", 4, "fleetctl: --machine=zeta: there is no such machine; fleetctl list-machines"),
    ("journal --machine=gama db", 1, "Unable to proceed: machine does not exist"),
    # Verbs and flags
    ("move db", 2, 'Error: unknown command "move" for "fleetctl"',
     "fleetctl: no verb move in this version; see: fleetctl help move"),
    *((verb, 2, f'Error: unknown command "{verb}" for "fleetctl"', f"fleetctl: no verb {verb} in this version; see: fleetctl help {topic}")
      for verb, topic in (("leader", "limits"), ("transfer", "limits"), ("step-down", "limits"), ("undrain", "maintain"))),
    ("nodes", 2, 'Error: unknown command "nodes" for "fleetctl"',
     "fleetctl: there is no verb nodes; did you mean list-machines? (fleetctl help list-machines)"),
    ("frobnicate", 2, 'Error: unknown command "frobnicate" for "fleetctl"', "fleetctl: there is no verb frobnicate (fleetctl help)"),
    ("list-units --bogus", 2, "Error: unknown flag: --bogus", "fleetctl: unknown flag: --bogus (fleetctl help list-units)"),
    ("--output=json start db", 2, "Error: unknown flag: --output", "fleetctl: unknown flag: --output (fleetctl help start)"),
    ("stop db -o json", 2, "Error: unknown shorthand flag: 'o' in -o", "fleetctl: unknown shorthand flag: 'o' in -o (fleetctl help stop)"),
    ("list-units -o xml", 2, "fleetctl: --output=xml: expected json"),
    ("--tunnel=:22 list-units", 1, "Unable to initialize client: --tunnel=:22: expected HOST or HOST:PORT"),
    ("verify", 2, "fleetctl: expected at least one file"),
    ("why", 2, "fleetctl: expected at least one unit"),
    ("import", 2, "fleetctl: import: expected the folder of an export, or --etcd=http://HOST:2379"),
    ("import out --etcd=http://127.0.0.1:1", 2, "fleetctl: import: expected the folder of an export, or --etcd=http://HOST:2379"),
    ("import out", 1, "fleetctl: Failed to open out: No such file or directory"),
    ("backup", 2, "fleetctl: backup: expected one file, which does not exist yet"),
    ("backup a b", 2, "fleetctl: backup: expected one file, which does not exist yet"),
    ("backup --verify", 2, "fleetctl: backup --verify: expected one file"),
    ("backup --verify none", 1, "fleetctl: Failed to open none: No such file or directory"),
    ("backup --verify .", 1, "fleetctl: . is no file: expected a backup"),
    ("backup none/x", 1, "fleetctl: Failed to create a file beside none/x: No such file or directory"),
    ("restore", 2, "fleetctl: restore: expected one file, of fleetctl backup"),
    ("restore none --yes=alpha", 1, "fleetctl: Failed to open none: No such file or directory"),
    ("export", 2, "fleetctl: export: expected a folder, which is new or empty"),
    ("export a b", 2, "fleetctl: export: expected a folder, which is new or empty"),
    ("export none/out", 1, "fleetctl: Failed to create a folder beside none/out: No such file or directory"),
    # The cluster
    ("cluster level 9", 1, "fleetctl: cluster level 9: the level is 1; the fleetd of this host supports levels up to 2, and no level can be lowered"),
    ("cluster secure now", 2, "fleetctl: cluster secure: expected no arguments"),
    ("cluster level high", 2, "fleetctl: cluster level: expected one number, the new feature level"),
    ("init --voters=2", 2, "fleetctl: init: --voters=2: expected 1, 3, 5 or auto: an even number can lose no more hosts than the odd one below"),
    ("init --voters=4", 2, "fleetctl: init: --voters=4: expected 1, 3, 5 or auto: an even number can lose no more hosts than the odd one below"),
    ("init --spread=rack", 1, "Failed to set the settings of the cluster: spread: no host has metadata rack: set it on each host first"),
    ("machine set alpha zone", 2, "fleetctl: machine set: zone: expected KEY=VALUE, or KEY= to remove the value"),
    ("machine set alpha 'zone=a\nb'", 2, "fleetctl: machine set: the value of metadata key zone has a control character"),
    ("machine set alpha zo/ne=a", 2, "fleetctl: machine set: metadata key 'zo/ne': only letters, digits, '_', '.' and '-' are allowed"),
    ("machine set omega zone=a", 4, "fleetctl: omega: no machine has this name or ID; fleetctl list-machines"),
    ("machine shw alpha", 2, "fleetctl: machine: expected show HOST, set HOST KEY=VALUE..., or rekey"),
    ("cluster levl", 2, "fleetctl: cluster has no verb levl: cluster [level [N] | rekey | secure | stop-waiting]"),
    # Keys
    ("kv import /load keys.json", 1,
     'Error:  keys.json: /a: expected a path relative to /load: no slash first, and no part that is empty, "." or ".."'),
    ("kv import /load <keys.json", 1,
     'Error:  stdin: /a: expected a path relative to /load: no slash first, and no part that is empty, "." or ".."'),
    ("kv get /none", 4, "Error:  100: Key not found (/none) [10]"),
    ("kv get", 2, "fleetctl: kv get: expected one key"),
    ("kv gte /a", 2, 'Error: unknown command "gte" for "fleetctl kv"'),
    ("kv set /a 1 --ttl=soon", 2, 'Error: invalid argument "soon" for --ttl: expected a number of seconds',
     'fleetctl: invalid argument "soon" for --ttl: expected a number of seconds (fleetctl help kv)'),
]

WITHOUT_A_LEADER = [
    ("kv set /a 1", 1, f"Error:  300: Raft Internal Error ({NO_LEADER}) [10]"),
    ("kv import /load <good.json", 1, f"Error:  /load/a: 300: Raft Internal Error ({NO_LEADER})"),
    ("edit db", 1, f"fleetctl: db.service cannot be changed: {NO_LEADER} (fleetctl status)"),
    ("stop db", 1, f"fleetctl: {NO_LEADER}"),
]

NO_CLUSTER = "fleetctl: this host waits for admission to a cluster (journalctl -u fleetd)"
ON_A_HOST_WITHOUT_A_CLUSTER = [(verb, 1, NO_CLUSTER) for verb in ("list-units", "list-machines", "cluster", "cat db", "status", "stop db")]
