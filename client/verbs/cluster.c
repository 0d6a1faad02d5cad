/* cluster: the replicas as this host sees them, and decisions of an administrator about the whole cluster: to
 * raise the feature level, to require certificates, and to stop waiting for hosts after a recovery. */
#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/listing.h"
#include "client/core/machines.h"
#include "client/core/notes.h"

enum { CLUSTER_LABEL_WIDTH = 11 /* "this host  " */, UNITS_SHOWN = 10 };

/* Append all names but 'except'. */
static void cluster_append_names(Text *t, const JsonValue *names, const char *except) {
        JSON_EACH(item, names) {
                const char *name = json_value_string(item) ?: "";

                if (streq(name, except))
                        continue;
                text_printable(t, "%s%s", t->size > 0 ? ", " : "", name);
        }
}

/* -- cluster -- */

static int cluster_print_members(const JsonValue *members) {
        _cleanup_table_ Table table = table_begin("MACHINE,ADDRESS,ROLE,REACHABLE");

        JSON_EACH(m, members)
                table_row(&table, member_label(m), member_text(m, "address"), member_role(m),
                          member_bool(m, "reachable") ? "yes" : "no");
        return table_print(&table, true);
}

/* In a cluster that has, or had, a key file. */
static void cluster_print_peer_auth(const JsonValue *root) {
        const JsonValue *without = json_value_member(root, "withoutCertificate");
        const char *auth = member_text(root, "peerAuth");
        _cleanup_text_ Text names = {}, line = {}, command = {};

        if (!*auth)
                return;
        cluster_append_names(&names, without, "");
        if (streq(auth, "certificate"))
                text_append(&line, "hosts      require certificates of each other");
        else if (names.size > 0)
                text_append(&line, "hosts      accept the key file");
        else {
                text_append(&line,
                            "hosts      accept the key file, and all have a certificate; to require it:");
                text_append(&command, "fleetctl cluster secure");
        }
        if (names.size > 0)
                text_printf(&line, "; without a certificate: %s", names.chars);
        output_words_and(&line, command.size > 0 ? " " : "", &command, CLUSTER_LABEL_WIDTH);
}

/* Append the argument that selects the machine of a label: its name, or of "gamma (9dc1c8e5)" the ID. */
static void append_label_argument(Text *t, const char *label) {
        const char *id = strrchr(label, '(');

        if (!id)
                text_append_printable(t, label);
        else
                text_append_printable_bytes(t, id + 1, strcspn(id + 1, ")"), false);
}

/* Print how a host joins again that has lost its identity, and how the cluster forgets one that is gone; the
 * first of 'awaited' but 'self' is the example. */
static void cluster_print_return(const JsonValue *awaited, const char *self) {
        _cleanup_text_ Text line = {}, command = {};
        const char *name = "";

        for (size_t i = 0; i < json_value_count(awaited) && !*name; i++) {
                name = json_value_string(json_value_item(awaited, i)) ?: "";
                name = streq(name, self) ? "" : name;
        }
        if (!*name)
                return;
        text_append(
                &line,
                "           a host without its former /var/lib/fleet needs a token: fleetctl token if its "
                "machine ID is new, else");
        text_append(&command, "fleetctl token --replace=");
        append_label_argument(&command, name);
        output_words_and(&line, " ", &command, CLUSTER_LABEL_WIDTH);
        text_clear(&line);
        text_clear(&command);
        text_append(&line, "           to remove one that is gone for ever:");
        text_append(&command, "fleetctl remove --force ");
        append_label_argument(&command, name);
        output_words_and(&line, " ", &command, CLUSTER_LABEL_WIDTH);
}

static int cluster_print(const JsonValue *root) {
        const JsonValue *leader = json_value_member(root, "leader"),
                        *awaited = json_value_member(root, "waitsFor");
        unsigned long long level = member_number(root, "level"),
                           supported = member_number(root, "levelKnown");
        _cleanup_text_ Text head = {}, problem = {}, names = {}, line = {}, command = {}, stop = {};

        text_append_printable(&problem, member_text(root, "problem"));
        cluster_append_names(&names, awaited, member_text(root, "name"));
        TRY(MIN(problem.error, names.error));
        text_printable(&head, "cluster    %s", member_text(root, "clusterId"));
        text_printf(&head, ", index %llu, term %llu\nleader     ",
                    (unsigned long long) member_number(root, "index"),
                    (unsigned long long) member_number(root, "term"));
        text_append_printable(&head, leader ? member_label(leader) : "none");
        if (!leader && member_number(root, "staleSec") > 0)
                text_append(&head, "; the state on this host may be stale");
        text_append(&head, "\nthis host  ");
        text_printable(&head, "%s, %s", member_text(root, "name"), member_text(root, "role"));
        if (*member_text(root, "replica"))
                text_printable(&head, " to %s", member_text(root, "replica"));
        TRY(head.error);
        (void) output_line(head.chars);
        text_printf(&line, "level      %llu", level);
        if (supported > level) {
                text_printf(&line,
                            "; level %llu follows one day after all hosts support it; to raise it now:",
                            supported);
                text_printf(&command, "fleetctl cluster level %llu", supported);
        }
        output_words_and(&line, command.size > 0 ? " " : "", &command, CLUSTER_LABEL_WIDTH);
        cluster_print_peer_auth(root);
        if (problem.size > 0)
                printf("problem    %s\n", problem.chars);
        if (names.size == 0 && json_value_count(awaited) > 0) {
                text_clear(&line);
                text_append(&line, "waits for  this host: it is about to report its running units");
                output_words(&line, CLUSTER_LABEL_WIDTH);
        } else if (awaited) {
                text_clear(&line);
                text_printf(&line,
                            "waits for  %s: running units not reported yet; start fleetd there, or if all "
                            "are gone for ever:",
                            names.chars ?: "no host");
                text_append(&stop, "fleetctl cluster stop-waiting");
                output_words_and(&line, " ", &stop, CLUSTER_LABEL_WIDTH);
                cluster_print_return(awaited, member_text(root, "name"));
        }
        putchar('\n');
        (void) fflush(stdout);
        return cluster_print_members(json_value_member(root, "voters"));
}

/* -- cluster level, cluster stop-waiting -- */

enum { LEVEL_OF_DATA = 12 }; /* KV_LEVEL_SCHEDULING */

/* Print how many units with data may move to machines without it, as before the level of that. */
static void cluster_note_data(Client *c) {
        _cleanup_json_ JsonValue *data = NULL;
        size_t n = 0;

        DATA_EACH(unit, c, "", "", &data)
                n += verdict_code(member_text(unit, "code")) == VERDICT_MAY_LEAVE_DATA;
        if (n > 0)
                client_note("%zu unit%s with data may move to a machine without it, as before (fleetctl why "
                            "UNIT): write Sticky=yes or Sticky=no, or fleetctl init --sticky=yes",
                            n, plural(n));
}

static int cluster_level(Client *c, const JsonValue *root, char **args, size_t n, Error *err) {
        unsigned long long current = member_number(root, "level"),
                           highest = member_number(root, "levelKnown");
        _cleanup_text_ Text body = {};
        uint64_t next = 0;
        int r;

        if (n == 0) {
                printf("%llu\n", current);
                return EXIT_DONE;
        }
        if (n > 1 || parse_u64(args[0], &next) < 0 || next == 0)
                return client_usage("cluster level: expected one number, the new feature level");
        if (next == current)
                return EXIT_DONE;
        if (next < current || next > highest) {
                client_note("cluster level %llu: the level is %llu; the fleetd of this host supports levels "
                            "up to "
                            "%llu, and no level can be lowered",
                            (unsigned long long) next, current, highest);
                return EXIT_FAILED;
        }
        text_printf(&body, "{\"level\":%llu}", (unsigned long long) next);
        if (!client_confirm(
                    c, "Raise it?",
                    "The feature level changes from %llu to %llu and cannot be lowered: no host can return "
                    "to a fleetd without support for it.",
                    current, (unsigned long long) next))
                return EXIT_FAILED;
        r = client_order(c, "PUT", "/fleet/v1/cluster/level", &body,
                         "Failed to raise the feature level: ", "Feature level %llu\n",
                         (unsigned long long) next);
        if (r == EXIT_DONE && current < LEVEL_OF_DATA && next >= LEVEL_OF_DATA)
                cluster_note_data(c);
        return r;
}

/* Append the units that the cluster has on the awaited hosts: ": a.service, b.service and 3 more". Without
 * them the question still names the hosts. */
static void cluster_append_units(Client *c, Text *t, const JsonValue *awaited) {
        _cleanup_listing_ Listing units = {}, machines = {};
        size_t n = 0;

        if (client_units(c, &units, NULL) < 0)
                return;
        for (size_t i = 0; i < units.n; i++) {
                const ApiUnit *u = &units.units[i];
                _cleanup_text_ Text name = {};

                if (!u->machine_id || !*u->machine_id)
                        continue;
                client_load_machine(c, &machines, u->machine_id, true);
                append_machine_name(&name, &machines, u->machine_id);
                if (!json_list_has(awaited, name.chars ?: "") || n++ >= UNITS_SHOWN)
                        continue;
                text_printable(t, "%s%s", n == 1 ? ": " : ", ", u->name);
        }
        if (n > UNITS_SHOWN)
                text_printf(t, " and %zu more", n - UNITS_SHOWN);
}

static int cluster_stop_waiting(Client *c, const JsonValue *root, char **args, size_t n, Error *err) {
        const JsonValue *awaited = json_value_member(root, "waitsFor");
        _cleanup_text_ Text names = {}, units = {};
        if (n > 0)
                return client_usage("cluster stop-waiting: expected no arguments");
        if (!awaited) {
                fputs("fleetctl: the cluster waits for no host\n", stderr);
                return EXIT_DONE;
        }
        cluster_append_names(&names, awaited, "");
        cluster_append_units(c, &units, awaited);
        TRY(MIN(names.error, units.error));
        if (!client_confirm(
                    c, "Stop waiting?",
                    "%s: running units not reported. The cluster starts their units on other hosts%s. If "
                    "these hosts still run, the units run twice.",
                    names.chars ?: "", units.chars ?: ""))
                return EXIT_FAILED;
        return client_order(
                c, "DELETE", "/fleet/v1/cluster/adopting", NULL, "Failed to stop waiting: ",
                "The cluster no longer waits for %s; the units of lost hosts start on other hosts%s\n",
                names.chars ?: "any host", units.chars ?: "");
}

static int cluster_rekey(Client *c, const JsonValue *root, char **args, size_t n, Error *err) {
        if (n > 0)
                return client_usage("cluster rekey: expected no arguments");
        return client_order(c, "POST", "/fleet/v1/cluster/rekey", NULL, "Failed to change the cluster key: ",
                            "The change of the cluster key has begun; fleetctl ca shows its state\n");
}

/* -- cluster secure -- */

static int cluster_secure(Client *c, const JsonValue *root, char **args, size_t n, Error *err) {
        const JsonValue *without = json_value_member(root, "withoutCertificate");
        _cleanup_text_ Text names = {}, body = {};
        if (n > 0)
                return client_usage("cluster secure: expected no arguments");
        if (streq(member_text(root, "peerAuth"), "certificate")) {
                puts("The cluster requires certificates");
                return EXIT_DONE;
        }
        cluster_append_names(&names, without, "");
        text_append(&body, c->options.force ? "{\"force\":true}" : "{}");
        TRY(names.error);
        if (!client_confirm(
                    c, "Require certificates?",
                    "From now on, hosts authenticate each other with certificates only, and the key file "
                    "has no effect. This cannot be undone. No unit is touched.%s%s%s",
                    names.size > 0 ? " Hosts without a certificate now: " : "", names.chars ?: "",
                    names.size > 0 ? "." : ""))
                return EXIT_FAILED;
        if (names.size > 0)
                client_note("waiting until hosts have certificates and use them: %s", names.chars);
        return client_order(
                c, "POST", "/fleet/v1/cluster/secure", &body, "Failed to require certificates: ",
                "The cluster requires certificates; PeerKey= and the key file can be removed on all hosts\n");
}

static int cluster_run(Client *c, char **args, size_t n, Error *err) {
        static const struct {
                const char *name;
                int (*run)(Client *c, const JsonValue *root, char **args, size_t n, Error *err);
        } cluster_verbs[] = { { "level", cluster_level },
                              { "rekey", cluster_rekey },
                              { "secure", cluster_secure },
                              { "stop-waiting", cluster_stop_waiting } };
        _cleanup_json_ JsonValue *root = NULL;
        size_t which = 0;

        while (n > 0 && which < ELEMENTS(cluster_verbs) && !streq(cluster_verbs[which].name, args[0]))
                which++;
        if (which == ELEMENTS(cluster_verbs))
                return client_fail_verb("cluster", args[0],
                                        "cluster [level [N] | rekey | secure | stop-waiting]");
        TRY_VERB((n > 0 ? client_get_json : client_read)(c, "/fleet/v1/cluster", &root, err), err,
                 "Failed to read the state of the cluster: ");
        if (n > 0)
                return cluster_verbs[which].run(c, root, args + 1, n - 1, err);
        return root ? cluster_print(root) : EXIT_DONE;
}

VERB(cluster, "cluster", "yes json", "[level [N] | rekey | secure | stop-waiting]",
     "Show the replicas and their leader; change the feature level",
     "Without arguments: the replicas, the leader and the feature level as this host sees them.\n"
     "level prints the feature level, or raises it without the delay of one day.\n"
     "rekey gives the members another cluster key, with which the CA's private key is sealed.\n"
     "secure ends the key file of the cluster: hosts then authenticate each other with certificates only.\n"
     "Hosts that are up get certificates first. --force leaves out hosts that are down and have none.\n"
     "stop-waiting: do not wait for hosts that have not reported their units since a recovery.\n",
     cluster_run);
