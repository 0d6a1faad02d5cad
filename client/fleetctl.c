/* The verbs as one table, from which the help is made too. */
#include "client/fleetctl.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>

#include "client/client.h"
#include "client/kv.h"
#include "client/output.h"
#include "client/patterns.h"
#include "client/ssh.h"
#include "client/suggest.h"
#include "client/verbs.h"

enum {
        READ_MS = 3000,
        READ_KEYS_MS = 6000, /* fleetd makes a large answer within 4 s, or says that it cannot */
        WRITE_MS = 10000,
};

typedef struct Verb {
        const char *name;
        unsigned groups;
        const char *arguments;
        const char *summary;
        const char *description; /* lines; may be NULL */
        int (*run)(Client *c, char **args, size_t n);
} Verb;

static int verb_help(Client *c, char **args, size_t n);
static int verb_version(Client *c, char **args, size_t n);

#define WAITING                                                                                        \
        "Units that are not global are waited for; --block-attempts and --no-block decide how long.\n" \
        "On a terminal each unit, global ones too, has a line that says what it waits for.\n"

/* A line here is a verb; fleetctl(1) documents the same names. */
static const Verb verbs[] = {
        { "cat", FLAGS_SOURCE, "UNIT", "Output the contents of a submitted unit",
          "Prints the unit file that the cluster has, in the form from which its hash is made:\n"
          "comments are left out. --source prints the text as it was given, its drop-ins behind it.\n",
          verb_cat },
        { "cluster", FLAGS_YES, "[level [N] | stop-waiting]",
          "Show the replicas and their leader; decide about the whole",
          "Without arguments: this host's view of the replicas, the leader, the feature level.\n"
          "level prints the feature level, or raises it now, and not a day after all hosts know it.\n"
          "stop-waiting: after a recovery hosts that have not said what runs there are not waited for.\n",
          verb_cluster },
        { "destroy", FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_PATTERNS_ALL | FLAGS_YES, "UNIT...",
          "Destroy one or more units in the cluster",
          "Stops the units, takes them from their machines, and forgets their files.\n"
          "Returns when no machine has anything of them.\n",
          verb_destroy },
        { "diff", 0, "FILE...", "Show how unit files here differ from the cluster's",
          "Exit status 0 when none differs, 1 when one does, 2 when a file is missing here, 4 when a unit\n"
          "is not in the cluster.\n",
          verb_diff },
        { "directory", FLAGS_REMOTE, "[confirm [UNIT...] | take-over UNIT...]",
          "Show and answer what unit directories ask",
          "Without arguments: files that hosts refuse, names that another has, units whose files are gone.\n"
          "confirm removes units that are kept though their files are gone: those named, or all of a host.\n"
          "take-over gives a name to the file of a host that another unit of the cluster has.\n\n"
          "fleetctl directory take-over web.service --machine=beta\n",
          verb_directory },
        { "edit", 0, "UNIT...", "Change units of the cluster in an editor",
          "$SYSTEMD_EDITOR, $EDITOR or $VISUAL gets the file as it was given. When the editor ends it is\n"
          "checked, and takes the place of what runs.\n",
          verb_edit },
        { "events", FLAGS_EVENTS, "[UNIT...]", "Show what was decided in the cluster and what came of it",
          "Orders of the engine with their reasons, states of units, machines that come and go, changes "
          "that\n"
          "people made: the last 1000 changes, and with --follow all further ones. Of all units, or of those "
          "named.\n\n"
          "fleetctl events --follow --since=-10min web@1.service\n",
          verb_events },
        { "fd-forward", 0, "SOCKET", "Copy standard input and output to and from a socket",
          "For tunnels of fleet's own fleetctl, which runs it on the far side.\n", verb_fd_forward },
        { "help", FLAGS_HELP, "[VERB]", "Help about any command", NULL, verb_help },
        { "import", FLAGS_IMPORT | FLAGS_YES, "--etcd=URL", "Move the units of a fleet here, out of its etcd",
          "Reads and checks all of it, shows what would be done, and asks. Units that are here already "
          "stay "
          "as\n"
          "they are. Nothing is written to that etcd, and what the old fleet runs it goes on running.\n\n"
          "fleetctl import --etcd=http://10.0.0.1:2379\n",
          verb_import },
        { "is-active", FLAGS_QUIET | FLAGS_PATTERNS_ALL, "UNIT...", "Ask whether units are active",
          "Prints the state of each. Exit status 0 when one is active, 3 when none is, 4 when none exists.\n"
          "A global unit is active when it is so on each of its machines.\n",
          verb_is_active },
        { "is-failed", FLAGS_QUIET | FLAGS_PATTERNS_ALL, "UNIT...", "Ask whether units have failed",
          "Prints the state of each. Exit status 0 when one has failed, 1 when none has, 4 when none "
          "exists.\n",
          verb_is_failed },
        { "journal", FLAGS_JOURNAL | FLAGS_LINES | FLAGS_REMOTE, "UNIT",
          "Print the journal of a unit in the cluster to stdout",
          "From all machines where it ran. Formats short, short-unix and json are put in order of time,\n"
          "others come machine by machine.\n\n"
          "Read the last 10 lines, and go on:\n"
          "fleetctl journal -f foo.service\n",
          verb_journal },
        { "kill", FLAGS_KILL | FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...",
          "Send a signal to the processes of units", "On their machines, as systemctl kill does it.\n",
          verb_kill },
        { "kv", FLAGS_KV, "VERB ...", "Read, write and watch the cluster's keys",
          "The keys of /v2/keys, which every host serves. Exit status 4: the key is not there, or a\n"
          "comparison failed.\n\n"
          "fleetctl kv set /config/color green --ttl=60\n"
          "fleetctl kv watch --recursive --forever /config\n",
          verb_kv },
        { "list-dependencies", FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...",
          "Show what units depend on, on their machines",
          "As systemctl list-dependencies does it. A global unit is shown on every machine.\n",
          verb_list_dependencies },
        { "list-machines", FLAGS_LIST, "", "Enumerate the current hosts in the cluster",
          "Fields: machine, ip, metadata, hostname, presence, role, units, version.\n\n"
          "For easily parsable output, you can remove the column headers:\n"
          "fleetctl list-machines --no-legend\n",
          verb_list_machines },
        { "list-unit-files", FLAGS_LIST | FLAGS_STATE | FLAGS_MACHINE, "",
          "List the units that exist in the cluster.",
          "Whether or not they are on a machine.\n"
          "Fields: unit, hash, dstate, state, target, global, desc, reason, owner, problem.\n",
          verb_list_unit_files },
        { "list-units", FLAGS_LIST | FLAGS_STATE | FLAGS_MACHINE, "",
          "List the current state of units in the cluster",
          "Only those that are on a machine.\n"
          "Fields: unit, machine, load, active, sub, hash.\n\n"
          "Choose the columns to display:\n"
          "fleetctl list-units --fields=unit,machine\n",
          verb_list_units },
        { "load", FLAGS_REPLACE | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS, "UNIT...",
          "Schedule one or more units in the cluster, first submitting them if necessary.",
          "The units get a machine and are loaded into its systemd, and are not started.\n" WAITING,
          verb_load },
        { "plan", 0, "FILE...", "Say where the units of files would run",
          "Nothing is changed. Actions: place, stay, move, wait (no machine fits), keep (a template).\n",
          verb_plan },
        { "reload", FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...", "Have units read their configuration anew",
          "On their machines, by ExecReload=.\n", verb_reload },
        { "reset-failed", FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...",
          "Have systemd forget that units have failed",
          "On their machines, as systemctl reset-failed does it.\n", verb_reset_failed },
        { "restart", FLAGS_ATTEMPTS | FLAGS_WAIT | FLAGS_PATTERNS, "UNIT...",
          "Stop and start one or more units in the cluster, one after the other.",
          "Each is stopped, waited for, started, and waited for, before the next one is.\n", verb_restart },
        { "show", FLAGS_SHOW | FLAGS_REMOTE | FLAGS_PATTERNS, "UNIT...",
          "Show the properties of units, as systemd on their machines has them",
          "fleetctl show -p MainPID,MemoryCurrent web.service\n", verb_show },
        { "ssh", FLAGS_SSH | FLAGS_REMOTE, "MACHINE|UNIT [CMD...]",
          "Log in to a machine, or that of a unit, or run a command there",
          "By OpenSSH: its keys, agent and configuration count. Options of the command stand behind --.\n\n"
          "fleetctl ssh web.service -- ps -ef\n",
          verb_ssh },
        { "start", FLAGS_REPLACE | FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_WAIT, "UNIT...",
          "Start one or more units in the cluster, first submitting and loading if necessary.",
          "Returns when systemd calls them active, or with status 1 as soon as one has failed and the\n"
          "others are decided. A job that has ended well is a success. --wait returns when they have "
          "ended.\n" WAITING "\n"
          "Start a single unit, and three of one template:\n"
          "fleetctl start foo.service web@{1..3}.service\n",
          verb_start },
        { "status", FLAGS_LINES | FLAGS_REMOTE | FLAGS_PATTERNS, "[UNIT...]",
          "Output the status of one or more units in the cluster",
          "Without a unit: the whole cluster on one screen; exit status 1 when something is wrong.\n"
          "As systemctl status on the unit's machine prints it, and with its exit status.\n"
          "A global unit is shown on every machine.\n",
          verb_status },
        { "stop", FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_WAIT | FLAGS_PATTERNS, "UNIT...",
          "Stop one or more units in the cluster.",
          "The units stay on their machines, and can be started again.\n" WAITING, verb_stop },
        { "submit", FLAGS_REPLACE, "UNIT...", "Upload one or more units to the cluster without starting them",
          "All files are read before the first is submitted; with a mistake in one of them, none is.\n"
          "A unit that is there already is not submitted again, but for --replace.\n\n"
          "Submit a directory of units:\n"
          "fleetctl submit myservice/*\n",
          verb_submit },
        { "unload", FLAGS_NO_BLOCK | FLAGS_ATTEMPTS | FLAGS_PATTERNS, "UNIT...",
          "Unschedule one or more units in the cluster.",
          "The units are stopped and taken from their machines; the cluster keeps their files.\n" WAITING,
          verb_unload },
        { "verify", 0, "FILE...", "Say all that is wrong with unit files",
          "Nothing is sent. Exit status 1 when a file would be refused.\n", verb_verify },
        { "version", 0, "", "Print the version and exit", NULL, verb_version },
        { "why", FLAGS_PATTERNS_ALL, "UNIT...", "Say why units are where they are, or nowhere",
          "Each machine is named, with the rule that excluded it. Exit status 4: there is no such unit.\n",
          verb_why },
};

/* The verb of that name, or the only one that begins so. */
static const Verb *find_verb(const char *name) {
        const Verb *found = NULL;

        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (streq(verbs[i].name, name))
                        return &verbs[i];
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (*name && starts_with(verbs[i].name, name)) {
                        if (found)
                                return NULL;
                        found = &verbs[i];
                }
        return found;
}

static void print_indented(const char *lines) {
        for (const char *end; *lines; lines = *end ? end + 1 : end) {
                end = lines + strcspn(lines, "\n");
                printf("\t%.*s\n", (int) (end - lines), lines);
        }
}

static void print_root_help(void) {
        printf("NAME:\n\tfleetctl - control a cluster of systemd hosts\n\n"
               "USAGE:\n\tfleetctl [OPTIONS] VERB [ARGUMENTS]\n\n"
               "VERSION:\n\t%s\n\nCOMMANDS:\n",
               PACKAGE_VERSION);
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (*verbs[i].summary)
                        printf("\t%-18s%s\n", verbs[i].name, verbs[i].summary);
        printf("\nThe first minutes:\n"
               "\tfleetctl list-machines              who is there\n"
               "\tfleetctl start hello.service        submits the file, picks a machine, starts it there\n"
               "\tfleetctl list-units                 what runs where\n"
               "\tfleetctl journal -f hello.service   its log, wherever it is\n"
               "\tfleetctl why hello.service          why it is where it is, or nowhere\n"
               "\tfleetctl events --follow            what happens, as it happens\n"
               "\nOPTIONS:\n");
        options_print(FLAGS_GLOBAL, stdout);
        printf("\nEach option can be preset in the environment: FLEETCTL_ENDPOINT, FLEETCTL_REQUEST_TIMEOUT, "
               "...\n");
}

static void print_verb_help(const Verb *v) {
        printf("NAME:\n\t%s - %s\n\nUSAGE:\n\tfleetctl %s%s%s%s\n\n", v->name, v->summary, v->name,
               v->groups ? " [OPTIONS]" : "", *v->arguments ? " " : "", v->arguments);
        if (v->run == verb_kv) {
                const KvVerb *kv;
                size_t n;

                kv = kv_verbs(&n);
                puts("COMMANDS:");
                for (size_t i = 0; i < n; i++)
                        printf("\tkv %s %s\t%s%s\n", kv[i].name, kv[i].arguments,
                               strlen(kv[i].name) + strlen(kv[i].arguments) < 12 ? "\t" : "", kv[i].summary);
                putchar('\n');
        }
        if (v->description) {
                puts("DESCRIPTION:");
                print_indented(v->description);
                putchar('\n');
        }
        if (v->groups) {
                puts("OPTIONS:");
                options_print(v->groups, stdout);
                putchar('\n');
        }
        puts("GLOBAL OPTIONS:");
        options_print(FLAGS_GLOBAL, stdout);
}

static int verb_help(Client *c, char **args, size_t n) {
        const Verb *v;

        if (c->options.verbs) {
                size_t n_kv;
                const KvVerb *kv = kv_verbs(&n_kv);

                for (size_t i = 0; i < ELEMENTS(verbs); i++)
                        if (*verbs[i].summary)
                                puts(verbs[i].name);
                for (size_t i = 0; i < n_kv; i++)
                        printf("kv %s\n", kv[i].name);
                return EXIT_DONE;
        }
        if (n == 0) {
                print_root_help();
                return EXIT_DONE;
        }
        v = find_verb(args[0]);
        if (v) {
                print_verb_help(v);
                return EXIT_DONE;
        }
        fprintf(stderr, "Unknown help topic [`%s`].\n", args[0]);
        print_root_help();
        return EXIT_DONE;
}

/* fleet's --sign. */
static int fail_sign(void) {
        fputs("WARNING: The signed/verified units feature is DEPRECATED and cannot be used.\n", stderr);
        return EXIT_USAGE;
}

static int verb_version(Client *c, char **args, size_t n) {
        puts("fleetctl version " PACKAGE_VERSION);
        return EXIT_DONE;
}

static int fail_verb(const char *name) {
        bool any = false;

        if (client_talks_to_people()) {
                size_t best = SIZE_MAX, distance;
                const char *meant = NULL;
                _cleanup_text_ Text safe = {};

                for (size_t i = 0; i < ELEMENTS(verbs); i++)
                        if (is_spelt_alike(name, verbs[i].name, &distance) && distance < best) {
                                best = distance;
                                meant = verbs[i].name;
                        }
                text_append_printable(&safe, name);
                fprintf(stderr, "fleetctl: there is no verb %s%s%s%s (fleetctl help)\n", safe.chars ?: "",
                        meant ? "; did you mean " : "", meant ?: "", meant ? "?" : "");
                return EXIT_USAGE;
        }
        fprintf(stderr, "Error: unknown command \"%s\" for \"fleetctl\"\n", name);
        for (size_t i = 0; i < ELEMENTS(verbs); i++) {
                if (!*verbs[i].summary ||
                    (text_distance(verbs[i].name, name) > 2 && !starts_with(verbs[i].name, name)))
                        continue;
                if (!any)
                        fputs("\nDid you mean this?\n", stderr);
                any = true;
                fprintf(stderr, "\t%s\n", verbs[i].name);
        }
        if (any)
                fputc('\n', stderr);
        fprintf(stderr,
                "Run 'fleetctl --help' for usage.\n"
                "cannot execute cmdFleet: unknown command \"%s\" for \"fleetctl\"\n",
                name);
        return EXIT_USAGE;
}

static int fail_flag(const Verb *v, const Error *err) {
        const char *flag = starts_with(err->message, "unknown flag: --") ?
                                   err->message + strlen("unknown flag: --") :
                                   NULL;

        if (client_talks_to_people()) {
                const char *meant = flag ? options_nearest(FLAGS_GLOBAL | (v ? v->groups : 0), flag) : NULL;

                fprintf(stderr, "fleetctl: %s%s%s%s (fleetctl help%s%s)\n", err->message,
                        meant ? "; did you mean --" : "", meant ?: "", meant ? "?" : "", v ? " " : "",
                        v ? v->name : "");
                return EXIT_USAGE;
        }
        fprintf(stderr, "Error: %s\n\n", err->message);
        if (v)
                print_verb_help(v);
        else
                print_root_help();
        (void) fflush(stdout);
        fprintf(stderr, "cannot execute cmdFleet: %s\n", err->message);
        return EXIT_USAGE;
}

/* The connection that the options describe; a question may take 'read_ms' where they do not say. Nothing is
 * sent. */
static int connect_client(Client *c, uint64_t read_ms, Error *err) {
        const Options *o = &c->options;
        _cleanup_free_ char *first = NULL;
        const char *endpoint;
        size_t size = strcspn(o->endpoint, ",");

        if (streq(o->driver, "etcd"))
                return error_set(err, -EINVAL,
                                 "there is no etcd to drive: fleetd is the registry; leave --driver out");
        if (!streq(o->driver, "API"))
                return error_set(err, -EINVAL, "unrecognized driver \"%s\"", o->driver);
        first = strndup(o->endpoint, size);
        if (!first)
                return -ENOMEM;
        endpoint = first;
        if (o->endpoint[size])
                fprintf(stderr, "fleetctl: of several endpoints the first is used: %s\n", first);
        if (*o->tunnel) {
                int r = tunnel_open(o, first, &c->tunnel, &endpoint, err);

                if (r < 0)
                        return r;
        }
        return connection_new(
                &(ConnectionSettings) {
                        .endpoint = endpoint,
                        .debug = o->debug,
                        .ca_file = o->ca_file,
                        .cert_file = o->cert_file,
                        .key_file = o->key_file,
                        .read_ms = o->request_timeout_ms ? o->request_timeout_ms : read_ms,
                        .write_ms = o->request_timeout_ms ? o->request_timeout_ms : WRITE_MS,
                },
                &c->connection, err);
}

static int run(const Verb *v, Client *c, char **args, size_t n) {
        _cleanup_names_ Names expanded = {};
        Error err = {};
        int r;

        if (c->options.help) {
                print_verb_help(v);
                return EXIT_DONE;
        }
        if (c->options.sign)
                return fail_sign();
        if (c->options.wait && c->options.no_block) {
                fputs("fleetctl: --wait may not be combined with --no-block\n", stderr);
                return EXIT_USAGE;
        }
        if (*c->options.output && !streq(c->options.output, "json")) {
                fprintf(stderr, "fleetctl: --output=%s: the only format is json\n", c->options.output);
                return EXIT_USAGE;
        }
        r = connect_client(c, v->groups & FLAGS_KV ? READ_KEYS_MS : READ_MS, &err);
        if (r < 0) {
                fprintf(stderr, "Unable to initialize client: %s\n", error_text(&err, r));
                return EXIT_FAILED;
        }
        if (!(v->groups & (FLAGS_PATTERNS | FLAGS_PATTERNS_ALL)))
                return v->run(c, args, n);
        r = patterns_expand(c, args, n, v->groups & FLAGS_PATTERNS_ALL, v->groups & FLAGS_YES, &expanded);
        return r != EXIT_DONE ? r : v->run(c, expanded.items, expanded.n);
}

static int run_line(int argc, char **argv) {
        char **args = argv + 1, **verb_at;
        size_t n = argc > 0 ? (size_t) argc - 1 : 0;
        const Verb *v = NULL;
        Client c = {};
        Error err = {};
        int status;

        if (getenv(SSH_ASK_VARIABLE) && n == 1)
                return ssh_ask(args[0]);
        if (n > 0 && (streq(args[0], "--version") || streq(args[0], "-v")))
                return verb_version(&c, NULL, 0);

        options_init(&c.options);
        verb_at = options_find_verb(args, n);
        if (verb_at) {
                v = find_verb(*verb_at);
                if (!v)
                        return fail_verb(*verb_at);
                memmove(verb_at, verb_at + 1,
                        (size_t) (args + n - verb_at) * sizeof(*args)); /* with the NULL behind */
                n--;
        }

        if (options_parse(&c.options, FLAGS_GLOBAL | (v ? v->groups : 0), args, &n, &err) < 0)
                return fail_flag(v, &err);
        if (!v) {
                print_root_help();
                return EXIT_DONE;
        }
        status = run(v, &c, args, n);
        connection_free(c.connection);
        tunnel_close(c.tunnel);
        return status;
}

int fleetctl_main(int argc, char **argv) {
        (void) setlocale(LC_ALL, "");
        (void) signal(
                SIGCHLD,
                SIG_DFL); /* if the parent process ignored it, the exit status of a child would be lost */
        output_init();
        return output_finish(run_line(argc, argv));
}
