/* The table of verbs, the help made of it, and the start of a verb. */
#include "client/fleetctl.h"

#include <locale.h>

#include "client/client.h"
#include "client/report.h"
#include "client/ssh.h"
#include "client/suggest.h"
#include "client/topics.h"

enum {
        READ_MS = 3000,
        READ_KEYS_MS = 6000, /* fleetd sends a large answer, or an error, within 4 s */
        WRITE_MS = 10000,
};

/* Scripts know the errors of fleet's fleetctl, which begin with "googleapi: Error 409: ". */
static const char fleet_verbs[] = "cat destroy fd-forward journal list-machines list-unit-files list-units "
                                  "load restart ssh start status stop submit unload";

static int verb_help(Client *c, char **args, size_t n, Error *err);
static int verb_version(Client *c, char **args, size_t n, Error *err);

#define WAITING                                                                                           \
        "fleetctl waits for units that are not global; --timeout, --block-attempts and --no-block limit " \
        "it.\n"                                                                                           \
        "On a terminal each unit, also a global one, has a progress line.\n"

/* fleetctl(1) documents the same names. */
static const Verb verbs[] = {
        { "backup", FLAGS_BACKUP | FLAGS_YES | FLAGS_JSON, "FILE",
          "Write a backup of the running cluster, and verify it",
          "The backup has all keys, units, assignments and the history, of one index, with all writes that "
          "were\n"
          "acknowledged before. The file is new, and only its owner may read it. Without a leader, it has "
          "what\n"
          "this host has, which is printed. --verify checks an existing file, without a daemon.\n"
          "--cluster-key=FILE writes the keys that a backup does not have, as root on a voter or standby.\n\n"
          "fleetctl backup /root/fleet-$(date +%F).backup\n",
          verb_backup },
        { "ca", FLAGS_CA | FLAGS_YES | FLAGS_JSON, "[show | rotate]",
          "Show or replace the root of the certificates of the cluster",
          "The ID of a root is the SHA-256 of its public key. --output=json has the certificates.\n"
          "rotate replaces the root: hosts get new certificates, and the former root and its tokens end.\n"
          "While a rotation is under way, both print its state.\n",
          verb_ca },
        { "cat", FLAGS_SOURCE | FLAGS_REV | FLAGS_JSON, "UNIT", "Output the contents of a submitted unit",
          "Prints the unit file in the form that is hashed: without comments. --source prints the submitted\n"
          "text, followed by its drop-ins. --rev prints a former revision; fleetctl history lists them.\n",
          verb_cat },
        { "cert", FLAGS_CERT | FLAGS_JSON, "[create] NAME | ls | set NAME | revoke NAME",
          "Create, list, change and revoke users with certificates",
          "Makes the key of the user here: NAME.key, and gets NAME.pem, its certificate, and ca.pem, for\n"
          "the verification of ListenTLS=. An existing NAME.key is used again: that renews the certificate.\n"
          "set replaces the rights of a user, revoke ends them; both take effect at once.\n\n"
          "fleetctl cert backup --rights=keys-read:/,units-see --ttl=365d --out=users\n",
          verb_cert },
        { "cluster", FLAGS_SECURE | FLAGS_YES | FLAGS_JSON, "[level [N] | rekey | secure | stop-waiting]",
          "Show the replicas and their leader; change the feature level",
          "Without arguments: the replicas, the leader and the feature level as this host sees them.\n"
          "level prints the feature level, or raises it without the delay of one day.\n"
          "rekey gives the members another cluster key, with which the CA's private key is sealed.\n"
          "secure ends the key file of the cluster: hosts then authenticate each other with certificates "
          "only.\n"
          "Hosts that are up get certificates first. --force leaves out hosts that are down and have none.\n"
          "stop-waiting: do not wait for hosts that have not reported their units since a recovery.\n",
          verb_cluster },
        { "cordon", FLAGS_CORDON | FLAGS_JSON, "HOST...", "Give machines no other units",
          "Their units stay. Ends with uncordon, not with a restart of the machine.\n\n"
          "fleetctl cordon beta --reason='new disk'\n",
          verb_cordon },
        { "destroy",
          FLAGS_FLEET | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_PATTERNS_ALL | FLAGS_YES | FLAGS_REPORT,
          "UNIT...", "Destroy one or more units in the cluster",
          "Stops the units, removes them from their machines, and deletes their files.\n"
          "Returns when no machine reports them.\n",
          verb_destroy },
        { "diff", FLAGS_BETWEEN | FLAGS_JSON, "FILE...",
          "Show the differences between local unit files and the cluster",
          "Files are named as for start. --from and --to compare two revisions of a unit.\n"
          "Exit status 0 if nothing differs, 1 if a file differs or does not exist, 4 if a unit or a\n"
          "revision does not exist in the cluster.\n\n"
          "fleetctl diff web.service --from=3\n",
          verb_diff },
        { "directory", FLAGS_REMOTE | FLAGS_JSON, "[confirm [UNIT...] | take-over UNIT... | retry UNIT...]",
          "Show and resolve problems of unit directories",
          "Without arguments: rejected files, conflicting names, units whose files have disappeared, and\n"
          "files that systemd cannot load.\n"
          "confirm removes held units, whose files have disappeared: the named units, or all of a host.\n"
          "take-over replaces a unit of the cluster by the file of a host with the same name.\n"
          "retry submits the text of a file again that failed and was reverted.\n\n"
          "fleetctl directory take-over web.service --machine=beta\n",
          verb_directory },
        { "drain", FLAGS_DRAIN | FLAGS_CORDON | FLAGS_NO_BLOCK | FLAGS_JSON, "HOST...",
          "Move the units of machines to others",
          "Cordons the machines. Each unit runs on another machine before it stops, eight of a machine at a\n"
          "time; global units stay. A unit without another machine stays, with its reason, until "
          "--deadline.\n"
          "The drain continues without this command; repeat it for the progress. uncordon ends it.\n"
          "Exit status 0: drained, 1: cancelled or rejected, 4: no such machine, 5: it continues.\n\n"
          "fleetctl drain beta --deadline=5min\n",
          verb_drain },
        { "edit", FLAGS_YES | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_REPORT | FLAGS_UPDATE, "UNIT...",
          "Edit units of the cluster",
          "Opens the submitted text in $SYSTEMD_EDITOR, $EDITOR or $VISUAL. A valid text replaces the unit,\n"
          "also while it runs. Asks if the unit would stop, because no machine qualifies for the new text.\n",
          verb_edit },
        { "events", FLAGS_EVENTS | FLAGS_JSON, "[UNIT...]",
          "Show the decisions of the cluster and their results",
          "The history of the cluster: assignments with their reasons, states of units, presence of "
          "machines,\n"
          "and changes by users, of all units or of the named ones. With --follow also new events.\n\n"
          "fleetctl events --since=yesterday 'web@*'\n"
          "fleetctl events --follow --since=-10min web@1.service\n",
          verb_events },
        { "export", FLAGS_JSON, "DIR", "Write units, target states, metadata and keys to a folder",
          "All at one index, as text files: units/NAME, targets.json, metadata.json, keys.json. The folder "
          "is\n"
          "new or empty. Keys with a time to live are left out, and all that import cannot restore: "
          "assignments,\n"
          "the history, identities.\n\n"
          "fleetctl export /root/cluster\n",
          verb_export },
        { "fd-forward", 0, "SOCKET", "Copy standard input and output to and from a socket",
          "The fleetctl of fleet runs this verb at the remote end of its tunnels.\n", verb_fd_forward },
        { "help", FLAGS_HELP, "[VERB|TOPIC]", "Help about any command",
          "Explains a verb, or prints the section of fleet(7) about a task. Without arguments: all verbs "
          "and\n"
          "topics.\n\n"
          "fleetctl help maintain\n",
          verb_help },
        { "history", FLAGS_LAST | FLAGS_JSON, "UNIT", "List the stored revisions of a unit",
          "Each text of a unit is a revision. Newest first; * is the wanted one, + the last one that all\n"
          "instances had after a rollout. KeepRevisions= of the unit is their number (default 10).\n"
          "Exit status 4 if the unit does not exist.\n\n"
          "fleetctl revert web.service 3\n",
          verb_history },
        { "import", FLAGS_IMPORT | FLAGS_YES | FLAGS_JSON, "DIR|--etcd=URL",
          "Import the folder of an export, or the units of a fleet cluster",
          "Reads and checks all, shows the changes, and asks for confirmation. Units and keys that exist "
          "with\n"
          "another content are refused without --replace. Then nothing is changed.\n"
          "--etcd reads the units of a fleet cluster from its etcd. Existing units stay unchanged, and so "
          "does\n"
          "the etcd; units of the fleet cluster continue to run.\n\n"
          "fleetctl import /root/cluster\n"
          "fleetctl import --etcd=http://10.0.0.1:2379\n",
          verb_import },
        { "init", FLAGS_INIT, "", "Open the cluster of this host for other hosts, and set its settings",
          "Creates the CA of the cluster and the certificate of this host, and listens for other hosts on "
          "the\n"
          "only global address of this host, or on that of --listen. If a host of the cluster listens, only\n"
          "the settings are changed. May be repeated.\n"
          "The settings are equal on all hosts, and can be changed at any time. Two hosts more\n"
          "than the voters are standbys, with a copy of the tree; all others are attached, without one.\n"
          "auto (the default) is three voters from three hosts on.\n\n"
          "fleetctl init --listen=10.0.0.1\n"
          "fleetctl init --voters=5 --spread=zone\n",
          verb_init },
        { "is-active", FLAGS_QUIET | FLAGS_PATTERNS_ALL, "UNIT...", "Check whether units are active",
          "Prints the state of each unit. Exit status 0 if one is active, 3 if none is, 4 if none exists.\n"
          "A global unit is active if it is active on all of its machines.\n",
          verb_is },
        { "is-failed", FLAGS_QUIET | FLAGS_PATTERNS_ALL, "UNIT...", "Check whether units have failed",
          "Prints the state of each unit. Exit status 0 if one has failed, 1 if none has, 4 if none "
          "exists.\n",
          verb_is },
        { "join", FLAGS_JOIN, "TOKEN|-", "Make this host a member of a cluster",
          "The token is printed by fleetctl token on a host of the cluster; - reads it from standard input.\n"
          "Returns when this host is up in the cluster. Its units run on. Its former state, as a cluster\n"
          "of one, is moved to /var/lib/fleet/old; a host with units or keys of its own needs --discard.\n"
          "The host listens at the address that it uses towards the cluster, or at that of --listen.\n",
          verb_join },
        { "journal", FLAGS_JOURNAL | FLAGS_LINES | FLAGS_REMOTE | FLAGS_PATTERNS_ALL, "UNIT [UNIT...]",
          "Print the journal of units in the cluster to stdout",
          "From all machines on which they ran. Formats short, short-unix and json are sorted by time, "
          "others\n"
          "are printed unit by unit, machine by machine.\n\n"
          "Read the last 10 lines, and follow:\n"
          "fleetctl journal -f foo.service\n",
          verb_journal },
        { "kill", FLAGS_KILL | FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...",
          "Send a signal to the processes of units", "Runs systemctl kill on their machines.\n",
          verb_remote },
        { "kv", FLAGS_KV | FLAGS_JSON, "VERB ...", "Read, write and watch the keys of the cluster",
          "The keys of /v2/keys, which every host serves. Exit status 4: the key does not exist, or a\n"
          "comparison failed.\n\n"
          "fleetctl kv set /config/color green --ttl=60\n"
          "fleetctl kv watch --recursive --forever /config\n",
          verb_kv },
        { "leave", FLAGS_YES | FLAGS_LEAVE | FLAGS_NO_BLOCK, "", "Take this host out of its cluster",
          "Each unit runs on another host before it stops here. The host starts empty then; its state is\n"
          "in /var/lib/fleet/old. The cluster continues without this command; repeat it for the progress.\n",
          verb_leave },
        { "list-dependencies", FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...",
          "Show the dependencies of units on their machines",
          "Runs systemctl list-dependencies, for a global unit on all of its machines.\n", verb_remote },
        { "list-machines", FLAGS_LIST | FLAGS_ALL | FLAGS_JSON, "",
          "Enumerate the current hosts in the cluster",
          "In a pipe, a machine is its ID.\n"
          "Fields: machine, ip, metadata, certificate, hostname, idle-session, kind, maintenance,\n"
          "presence, problem, reboot, restricted, role, session, units, version.\n\n"
          "For easily parsable output, you can remove the column headers:\n"
          "fleetctl list-machines --no-legend\n",
          verb_list },
        { "list-members", FLAGS_JSON, "", "List the hosts with a replica and their roles",
          "Columns: machine, ID, address of the peer listener, role (leader, voter, standby), and whether\n"
          "this host reaches it.\n",
          verb_list_members },
        { "list-unit-files", FLAGS_LIST | FLAGS_JSON | FLAGS_STATE | FLAGS_MACHINE, "[UNIT...]",
          "List the units that exist in the cluster.",
          "Also units without a machine.\n"
          "Fields: unit, hash, dstate, state, target, global, desc, reason, owner, problem.\n",
          verb_list },
        { "list-units", FLAGS_LIST | FLAGS_JSON | FLAGS_STATE | FLAGS_MACHINE | FLAGS_LOCAL, "[UNIT...]",
          "List the current state of units in the cluster",
          "Only units with a machine. In a pipe, a machine is ID/IP, as in fleet.\n"
          "Fields: unit, machine, load, active, sub, hash, health, available, why, hostname.\n\n"
          "The host of a unit, for a script:\n"
          "fleetctl list-units --no-legend --fields=hostname web@1.service\n",
          verb_list },
        { "load", FLAGS_FLEET | FLAGS_REPLACE | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_REPORT, "UNIT...",
          "Schedule one or more units in the cluster, first submitting them if necessary.",
          "The units get a machine and are loaded into its systemd, but not started.\n" WAITING, verb_raise },
        { "log", FLAGS_LOG, "[FIELD=VALUE...]",
          "Print the journals of fleetd of all machines, merged by time",
          "Fields select entries, as in journalctl. UNIT=, MACHINE=, INDEX= and TERM= are fields of fleetd.\n"
          "Exit status 1 if a machine did not answer. Machines that have been gone for an hour are not "
          "asked.\n\n"
          "fleetctl log --since=yesterday -p warning\n"
          "fleetctl log -f UNIT=web@1.service\n",
          verb_log },
        { "machine", FLAGS_YES | FLAGS_JSON, "show MACHINE | set MACHINE KEY=VALUE... | rekey",
          "Show a machine, or set its metadata",
          "Machines are named by hostname or ID. KEY= removes the value that was set. set lists the units\n"
          "that move or stop after the change, and asks.\n"
          "Exit status 4 if there is no such machine.\n\n"
          "fleetctl machine set alpha zone=a\n",
          verb_machine },
        { "move", FLAGS_MOVE | FLAGS_NO_BLOCK | FLAGS_JSON, "UNIT [HOST]", "Move a unit to another machine",
          "To the named machine, or to the best other one that qualifies. The unit is available there "
          "before\n"
          "it stops; with Move=stop-first or Singleton=yes it stops first. If it fails there, it stays.\n"
          "The move continues without this command. The unit may move again later: it is not pinned.\n"
          "Exit status 0: available there, 1: rejected or failed, 4: no such unit or machine, 5: it\n"
          "continues.\n\n"
          "fleetctl move web@1.service gamma\n",
          verb_move },
        { "plan", FLAGS_JSON, "FILE...", "Show where the units of files would run",
          "Changes nothing. Actions: place, stay, move, stop, wait (no machine fits), keep (template).\n",
          verb_plan },
        { "reboot", FLAGS_REBOOT | FLAGS_NO_BLOCK | FLAGS_YES | FLAGS_JSON, "[HOST...]",
          "Reboot machines one after the other, each after its units have moved",
          "Queues the hosts; the leader's host is the last one. Each is drained, reboots, and gets units "
          "again\n"
          "when it is back and its own units run. The queue stops at a host that does not return.\n"
          "The hosts continue without this command; --status prints the queue.\n"
          "Exit status 0: all are back, 1: the queue has stopped, 4: no such machine, 5: it continues.\n\n"
          "fleetctl reboot --all\n",
          verb_reboot },
        { "recover", FLAGS_RECOVER, "", "Make this host a cluster of one after a lost majority",
          "Run as root on the host with the highest entry, when a majority of the voters is lost for good.\n"
          "Prints what is lost and which hosts return, asks for the name of the machine, stops fleetd, "
          "makes\n"
          "the replica of this host the cluster, and starts fleetd. No unit is touched. Refused while a\n"
          "majority answers.\n",
          verb_recover },
        { "reload", FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...", "Reload the configuration of units",
          "Runs systemctl reload on their machines.\n", verb_remote },
        { "remove", FLAGS_YES | FLAGS_REMOVE | FLAGS_CA, "MACHINE", "Remove a lost machine from the cluster",
          "It is named by its hostname or ID. It was replaced, or has been lost or\n"
          "shut down for an hour. A voter requires a majority of the others.\n"
          "If it returns, its units run on, and it needs a new token: fleetctl token on\n"
          "another host, then fleetctl join on it.\n"
          "Exit status 4 if there is no such machine.\n",
          verb_remove },
        { "reset-failed", FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...", "Reset the failed state of units",
          "Runs systemctl reset-failed on their machines.\n", verb_remote },
        { "restart", FLAGS_FLEET | FLAGS_ATTEMPTS | FLAGS_WAIT | FLAGS_PATTERNS | FLAGS_REPORT, "UNIT...",
          "Stop and start one or more units in the cluster, one after the other.",
          "The next unit is stopped when the previous one is active. A global unit is restarted on all\n"
          "machines at once.\n",
          verb_restart },
        { "restore", FLAGS_RECOVER | FLAGS_RESTORE, "FILE", "Make this host a cluster of one from a backup",
          "Run as root on a host without state. Verifies the file, prints what is lost, asks for the name\n"
          "of the machine, stops fleetd, restores the backup, and starts fleetd. No unit is stopped.\n\n"
          "fleetctl restore /root/fleet.backup\n",
          verb_restore },
        { "revert", FLAGS_YES | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_REPORT, "UNIT [REV]",
          "Return to a former revision of a unit",
          "Without REV: the last one that all instances had after a rollout, or the newest other one.\n"
          "Directly after a revert, REV is required. The text takes effect as a new one does, and revert\n"
          "returns when that has ended.\n"
          "Asks for confirmation. Exit status 1: it does not start, 4: no such unit or revision.\n",
          verb_revert },
        { "rollout", FLAGS_ROLLOUT | FLAGS_JSON, "[UNIT...] | pause UNIT | resume UNIT | promote UNIT",
          "Show, pause, resume and promote the updates of units",
          "A new text of a running unit replaces the former one step by step. Without a unit: the rollouts\n"
          "that are under way. pause: no further step begins. resume: it continues, failed instances first.\n"
          "promote: after Canary=, the other instances are updated, too.\n"
          "Exit status 0: done, 1: paused or reverted, 4: no such unit, 5: it continues, or is held.\n\n"
          "fleetctl rollout web@.service --wait\n",
          verb_rollout },
        { "show", FLAGS_SHOW | FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...",
          "Show the properties of units on their machines",
          "fleetctl show -p MainPID,MemoryCurrent web.service\n", verb_remote },
        { "ssh", FLAGS_SSH | FLAGS_REMOTE, "MACHINE|UNIT [CMD...]",
          "Log in to a machine, or to that of a unit, or run a command there",
          "Uses OpenSSH with its keys, agent and configuration. Options of the command follow --.\n\n"
          "fleetctl ssh web.service -- ps -ef\n",
          verb_ssh },
        { "start",
          FLAGS_FLEET | FLAGS_REPLACE | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_WAIT | FLAGS_REPORT |
                  FLAGS_UPDATE,
          "UNIT...", "Start one or more units in the cluster, first submitting and loading if necessary.",
          "Returns when systemd reports the units active, or with status 1 when one has failed and the "
          "others\n"
          "are decided. A job that ends successfully counts as active. --wait returns when the units have\n"
          "ended.\n"
          "A unit that has failed or was stopped since its start is reported with the reason and\n"
          "exit status 1; restart starts it again. A global unit is started again by systemctl start on "
          "that\n"
          "machine: restart restarts it on all machines.\n" WAITING "\n"
          "Start a single unit, and three of one template:\n"
          "fleetctl start foo.service web@{1..3}.service\n",
          verb_raise },
        { "status", FLAGS_STATUS | FLAGS_LINES | FLAGS_JSON | FLAGS_REMOTE | FLAGS_PATTERNS, "[UNIT...]",
          "Output the status of one or more units in the cluster",
          "Without a unit: the whole cluster on one screen; exit status 1 if there are problems. On a "
          "terminal,\n"
          "their descriptions are cut to its width.\n"
          "With units: runs systemctl status on their machines, and exits with its status. A global unit is\n"
          "shown for all of its machines.\n",
          verb_remote },
        { "stop", FLAGS_FLEET | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_WAIT | FLAGS_PATTERNS | FLAGS_REPORT,
          "UNIT...", "Stop one or more units in the cluster.",
          "The units stay loaded on their machines.\n" WAITING, verb_lower },
        { "submit",
          FLAGS_FLEET | FLAGS_REPLACE | FLAGS_NO_BLOCK | FLAGS_TIMEOUT | FLAGS_REPORT | FLAGS_UPDATE,
          "UNIT...", "Upload one or more units to the cluster without starting them",
          "All files are read first; after an error in one of them, no unit is submitted.\n"
          "Existing units stay unchanged without --replace.\n\n"
          "Submit a directory of units:\n"
          "fleetctl submit myservice/*\n",
          verb_submit },
        { "token", FLAGS_TOKEN | FLAGS_JSON, "[create | ls | revoke ID]",
          "Create, list and revoke tokens with which hosts join the cluster",
          "create, or no verb, prints a token: permission for one host, for one hour, unless flags say "
          "otherwise.\n"
          "It is printed once; the cluster stores only the hash of its secret. A host that is alone and has "
          "no\n"
          "peer listener opens it first, as init does.\n"
          "ls prints the tokens, without their secrets. revoke ends a token.\n\n"
          "fleetctl token --uses=20 --ttl=2h --from=10.0.0.0/8 --metadata=zone=a\n"
          "fleetctl token --replace=beta\n",
          verb_token },
        { "uncordon", FLAGS_JSON, "HOST...", "Give machines units again",
          "Ends cordon and drain. Units that have moved do not move back.\n", verb_cordon },
        { "unload", FLAGS_FLEET | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_PATTERNS | FLAGS_REPORT, "UNIT...",
          "Unschedule one or more units in the cluster.",
          "The units are stopped and removed from their machines; the cluster keeps their files.\n" WAITING,
          verb_lower },
        { "verify", 0, "FILE...", "Check unit files",
          "Sends nothing. Checks the syntax, the size, the name and [X-Fleet]; systemd-analyze verify FILE\n"
          "checks the settings of systemd. Exit status 1 if a file would be rejected.\n",
          verb_verify },
        { "version", 0, "", "Print the version and exit", NULL, verb_version },
        { "why", FLAGS_PATTERNS_ALL | FLAGS_JSON, "UNIT...", "Explain the state and the placement of units",
          "Prints the state of the unit with its last error and the next step, then each machine with the\n"
          "rule that excludes it. Exit status 4 if a unit does not exist.\n",
          verb_why },
        {},
};

enum { NAME_WIDTH = 19, STEP_WIDTH = 36 }; /* of the names in lists of verbs */

static void print_root_help(void) {
        static const struct {
                const char *command, *meaning;
        } steps[] = {
                { "fleetctl list-machines", "list the hosts" },
                { "fleetctl start hello.service", "submit, place and start the unit" },
                { "fleetctl list-units", "list the units and their machines" },
                { "fleetctl journal -f hello.service", "follow the log of the unit" },
                { "fleetctl why hello.service", "explain the placement of the unit" },
                { "fleetctl events --follow", "follow the events of the cluster" },
        };
        _cleanup_text_ Text t = {};

        puts("NAME:");
        verb_print_item(0, "", "fleetctl - control a cluster of systemd hosts");
        printf("\nUSAGE:\n\tfleetctl [OPTIONS] VERB [ARGUMENTS]\n\nVERSION:\n\t%s\n\nCOMMANDS:\n",
               PACKAGE_VERSION);
        for (const Verb *v = verbs; v->name; v++)
                verb_print_item(NAME_WIDTH, v->name, v->summary);
        puts("\nFirst steps:");
        for (size_t i = 0; i < ELEMENTS(steps); i++)
                verb_print_item(STEP_WIDTH, steps[i].command, steps[i].meaning);
        puts("\nTOPICS:");
        for (const Topic *topic = topics; topic->name; topic++) {
                text_clear(&t);
                text_printf(&t, "help %s", topic->name);
                verb_print_item(NAME_WIDTH, t.chars ?: "", topic->title);
        }
        puts("\nOPTIONS:");
        options_print(FLAGS_GLOBAL, NULL);
        putchar('\n');
        text_clear(&t);
        text_append(&t, "Each option has an environment variable: FLEETCTL_ENDPOINT, "
                        "FLEETCTL_REQUEST_TIMEOUT, ...");
        output_words(&t, 0);
}

/* Print the help of a verb, or of the verb of kv that the next argument names. */
static int help_with(const Verb *v, char **args, size_t n) {
        const Verb *of_kv = v->run == verb_kv && n > 0 ? verb_find(kv_verbs, args[0]) : NULL;

        if (v->run == verb_kv && n > 0 && !of_kv) {
                client_note("kv has no verb %s (fleetctl help kv)", args[0]);
                return EXIT_USAGE;
        }
        verb_print_help(of_kv ? of_kv : v, of_kv ? "kv " : "");
        return EXIT_DONE;
}

/* Append the next step for a verb that this version does not have. */
static bool append_foreign_verb(Text *t, const char *name) {
        const Topic *topic = topic_of_foreign_verb(name);
        const char *own = verb_of_foreign(name);

        if (own)
                text_printf(t, "did you mean %s? (fleetctl help %s)", own, own);
        else if (topic)
                text_printf(t, "see: fleetctl help %s", topic->name);
        return own || topic;
}

static bool note_foreign_verb(const char *name) {
        _cleanup_text_ Text t = {};

        if (!append_foreign_verb(&t, name))
                return false;
        client_note(verb_of_foreign(name) ? "there is no verb %s; %s" : "no verb %s in this version; %s",
                    name, t.chars ?: "");
        return true;
}

/* Scripts know the line and the exit status of fleet, which printed its whole help before. */
static int fail_topic(const char *name) {
        Suggestion nearest = { .typed = name };
        bool interactive = client_is_interactive();

        verbs_consider(verbs, &nearest);
        topics_consider(&nearest);
        if (!interactive)
                fprintf(stderr, "Unknown help topic [`%s`].\n", name);
        else if (nearest.nearest)
                client_note("no verb or topic %s; did you mean %s? (fleetctl help)", name, nearest.nearest);
        else
                client_note("no verb or topic %s (fleetctl help)", name);
        if (!interactive || !nearest.nearest)
                topics_note_all();
        return interactive ? EXIT_USAGE : EXIT_DONE;
}

static int verb_help(Client *c, char **args, size_t n, Error *err) {
        const Topic *topic;
        const Verb *v;

        if (c->options.verbs || c->options.topics) {
                for (v = verbs; c->options.verbs && v->name; v++)
                        puts(v->name);
                for (v = kv_verbs; c->options.verbs && v->name; v++)
                        printf("kv %s\n", v->name);
                for (topic = topics; c->options.topics && topic->name; topic++)
                        puts(topic->name);
                return EXIT_DONE;
        }
        if (n == 0) {
                print_root_help();
                return EXIT_DONE;
        }
        v = verb_find(verbs, args[0]);
        topic = topic_find(args[0]);
        if (v && !(topic && streq(topic->name, args[0]) && !streq(v->name, args[0]))) {
                if (help_with(v, args + 1, n - 1) != EXIT_DONE)
                        return EXIT_USAGE;
                topic = topic_find(v->name);
                if (!topic || !streq(topic->name, v->name))
                        return EXIT_DONE;
                putchar('\n');
        }
        if (topic) {
                topic_print(topic);
                return EXIT_DONE;
        }
        if (note_foreign_verb(args[0])) {
                topic = topic_of_foreign_verb(args[0]);
                if (topic)
                        topic_print(topic);
                else
                        verb_print_help(verb_find(verbs, verb_of_foreign(args[0])), "");
                return EXIT_DONE;
        }
        return fail_topic(args[0]);
}

static int verb_version(Client *c, char **args, size_t n, Error *err) {
        puts("fleetctl version " PACKAGE_VERSION);
        return EXIT_DONE;
}

/* Print the error for an unknown verb in one line, in a pipe with the words of fleet. */
static int fail_verb(const char *name) {
        _cleanup_text_ Text t = {}, safe = {};
        const char *nearest = verb_nearest(verbs, name);

        text_append_printable(&safe, name);
        if (!client_is_interactive()) {
                if (!append_foreign_verb(&t, name))
                        verbs_append_similar(verbs, &t, name);
                fprintf(stderr, "Error: unknown command \"%s\" for \"fleetctl\"; %s\n", safe.chars ?: "",
                        t.chars ?: "");
        } else if (!note_foreign_verb(name))
                client_note("there is no verb %s%s%s%s (fleetctl help)", safe.chars ?: "",
                            nearest ? "; did you mean " : "", nearest ?: "", nearest ? "?" : "");
        return EXIT_USAGE;
}

/* Print the error for an invalid flag in one line; in a pipe, a verb of fleet with its help, as fleet does.
 */
static int fail_flag(const Verb *v, const char *first, const Error *err) {
        static const char unknown[] = "unknown flag: --";
        uint64_t groups = FLAGS_GLOBAL | (v ? v->groups : 0);
        const char *flag = strrchr(err->message, ' '), *use = NULL, *nearest = NULL;
        const Verb *of_kv = v && v->run == verb_kv && first ? verb_find(kv_verbs, first) : NULL;

        if (v && flag && starts_with(err->message, "unknown "))
                use = flag_of_foreign(v->name, flag + 1);
        if (!use && starts_with(err->message, unknown))
                nearest = options_nearest(groups, err->message + strlen(unknown));
        if (client_is_interactive() || (v && !text_has_word(fleet_verbs, v->name))) {
                fprintf(stderr, "fleetctl: %s%s%s", err->message, use ? "; instead: " : "", use ?: "");
                if (nearest)
                        fprintf(stderr, "; did you mean --%s?", nearest);
                fprintf(stderr, " (fleetctl help%s%s%s%s)\n", v ? " " : "", v ? v->name : "",
                        of_kv ? " " : "", of_kv ? of_kv->name : "");
                return EXIT_USAGE;
        }
        fprintf(stderr, "Error: %s\n\n", err->message);
        if (v)
                verb_print_help(v, "");
        else
                print_root_help();
        (void) output_flush();
        fprintf(stderr, "cannot execute cmdFleet: %s%s%s\n", err->message, use ? "; instead: " : "",
                use ?: "");
        if (nearest)
                client_note("did you mean --%s?", nearest);
        return EXIT_USAGE;
}

/* Prepare the connection; nothing is sent. 'read_ms' is the timeout of GET requests without
 * --request-timeout. */
static int connect_client(Client *c, uint64_t read_ms, Error *err) {
        const Options *o = &c->options;
        _cleanup_free_ char *first = NULL;
        const char *endpoint;
        size_t size = strcspn(o->endpoint, ",");

        if (streq(o->driver, "etcd"))
                return error_set(err, -EINVAL, "--driver=etcd: fleetd replaces etcd; omit --driver");
        if (!streq(o->driver, "API"))
                return error_set(err, -EINVAL, "unrecognized driver \"%s\"", o->driver);
        first = strndup(o->endpoint, size);
        if (!first)
                return -ENOMEM;
        endpoint = first;
        if (o->endpoint[size])
                client_note("--endpoint: only the first of several endpoints is used: %s", first);
        if (*o->tunnel) {
                int r = tunnel_open(o, first, &c->tunnel, &endpoint, err);

                if (r < 0)
                        return r;
        }
        return connection_new(
                &(ConnectionSettings) {
                        .endpoint = endpoint,
                        .debug = o->debug,
                        .plain = !text_has_word(fleet_verbs, c->verb->name),
                        .ca_file = o->ca_file,
                        .cert_file = o->cert_file,
                        .key_file = o->key_file,
                        .read_ms = o->request_timeout_ms ?: read_ms,
                        .write_ms = o->request_timeout_ms ?: WRITE_MS,
                },
                &c->connection, err);
}

/* Connect, and run the verb. 'ret' gets its arguments without patterns. */
static int run_verb(Client *c, char **args, size_t n, Names *ret, Error *err) {
        const Verb *v = c->verb;
        bool files = streq(v->arguments, "FILE...");
        int r;

        r = connect_client(c, v->groups & FLAGS_KV ? READ_KEYS_MS : READ_MS, err);
        if (r < 0) {
                fprintf(stderr, "Unable to initialize client: %s\n", error_text(err, r));
                return EXIT_FAILED;
        }
        if (n == 0 && v->groups & FLAGS_FLEET) {
                fputs("No units given\n", stderr);
                if (client_is_interactive())
                        client_note("usage: fleetctl %s %s (fleetctl help %s)", v->name, v->arguments,
                                    v->name);
                return EXIT_DONE;
        }
        if (n == 0 && (files || streq(v->arguments, "UNIT..."))) {
                client_note("%s: expected at least one %s", v->name, files ? "file" : "unit");
                return EXIT_USAGE;
        }
        if (!(v->groups & (FLAGS_PATTERNS | FLAGS_PATTERNS_ALL)))
                return client_run(c, v, args, n, err);
        r = patterns_expand(c, args, n, v->groups & FLAGS_PATTERNS_ALL, v->groups & FLAGS_YES, ret, err);
        return r != EXIT_DONE ? r : client_run(c, v, ret->items, ret->n, err);
}

static int run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_names_ Names expanded = {};
        const Verb *v = c->verb;
        int r;

        if (c->options.help)
                return help_with(v, args, n);
        r = verb_check_options(c);
        if (r != EXIT_DONE)
                return r;
        r = patterns_check_types(v, args, n);
        if (r != EXIT_DONE)
                return r;
        if (n > 0 && !*v->arguments && v->run != verb_leave) /* as fleet does; leave rejects a name */
                client_note("%s has no arguments; %s is ignored", v->name, args[0]);
        r = report_begin(c);
        if (r < 0)
                return r;
        r = run_verb(c, args, n, &expanded, err);
        return expanded.n > 0 ? report_end(c, expanded.items, expanded.n, r) : report_end(c, args, n, r);
}

static int run_line(int argc, char **argv) {
        char **args = argv + 1, **verb_at;
        size_t n = argc > 0 ? (size_t) argc - 1 : 0;
        Client c = {};
        Error err = {};
        int status;

        if (getenv(SSH_ASKPASS_VARIABLE) && n == 1)
                return ssh_askpass(args[0]);
        if (n > 0 && (streq(args[0], "--version") || streq(args[0], "-v")))
                return verb_version(&c, NULL, 0, NULL);

        options_init(&c.options);
        verb_at = options_find_verb(args, n);
        if (verb_at) {
                c.verb = verb_find(verbs, *verb_at);
                if (!c.verb)
                        return fail_verb(*verb_at);
                memmove(verb_at, verb_at + 1,
                        (size_t) (args + n - verb_at) * sizeof(*args)); /* with the final NULL */
                n--;
        }

        if (options_parse(&c.options, FLAGS_GLOBAL | (c.verb ? c.verb->groups : 0), args, &n, &err) < 0)
                return fail_flag(c.verb, n > 0 ? args[0] : NULL, &err);
        if (!c.verb) {
                print_root_help();
                return EXIT_DONE;
        }
        status = run(&c, args, n, &err);
        if (status < 0) /* output_finish() reports a failed output; 'err' may be about an earlier failure */
                status = output_has_failed() ? EXIT_FAILED :
                                               client_fail(status, err.code == status ? &err : NULL);
        connection_free(c.connection);
        tunnel_close(c.tunnel);
        return status;
}

int fleetctl_main(int argc, char **argv) {
        (void) setlocale(LC_ALL, "");
        (void) signal(SIGCHLD, SIG_DFL); /* inherited SIG_IGN would discard the exit status of a child */
        output_init();
        return output_finish(run_line(argc, argv));
}
