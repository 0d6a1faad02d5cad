/* leave: take this host out of its cluster. The daemons take all steps by themselves; this command begins,
 * cancels, and reports. */

#include "base/clock.h"
#include "client/core/client.h"
#include "client/core/operation.h"
#include "client/core/state_text.h"

enum { LEAVE_SILENT_S = 60, LEAVE_FOUND_MS = 5000 };

typedef struct Leave {
        Client *client;
        const char *name, *cluster; /* borrowed: of this host, and the ID of the cluster that it leaves */
        uint64_t since_ms;          /* of the last answer with a cluster */
        Operation operation;
} Leave;

/* The state of this host, as GET /fleet/v1/cluster/leave has it. */
static int leave_read(Client *c, JsonValue **ret, Error *err) {
        return client_get_json(c, "/fleet/v1/cluster/leave", ret, err);
}

/* Append the units that fit no other host, or have Move=no; the others are moving, or wait for their turn. */
static void leave_append_waiting(Text *t, const JsonValue *waiting) {
        size_t n = json_value_count(waiting);
        _cleanup_text_ Text names = {};

        for (size_t i = 0; i < n; i++) {
                text_printable(&names, " %s", json_value_string(json_value_item(waiting, i)) ?: "");
        }
        text_printf(t, "%zu of them cannot move (fleetctl why):%s; to release them: fleetctl unload%s", n,
                    names.chars ?: "", names.chars ?: "");
        t->error = t->error ?: names.error;
}

/* Append what the leave waits for. */
static void leave_append_step(Text *t, const JsonValue *root) {
        const char *step = member_text(root, "step"), *unit = member_text(root, "unit"),
                   *reason = member_text(root, "reason"), *other = member_text(root, "other");
        const JsonValue *waiting = json_value_member(root, "waiting");
        bool waits = reason_is_of_wait(member_text(root, "reasonKind"));
        unsigned long long n = member_number(root, "units");

        if (streq(step, "units")) {
                text_printf(t, "%llu unit%s to move: ", n, n == 1 ? "" : "s");
                if (json_value_count(waiting) > 1) {
                        leave_append_waiting(t, waiting);
                        return;
                }
                text_append_printable(t, unit);
                /* Another reason is that for which the unit came here. */
                text_append(t, waits ? ": " : " is moving");
                if (waits)
                        text_append_printable(t, reason);
                if (json_value_count(waiting) == 1 &&
                    streq(unit, json_value_string(json_value_item(waiting, 0)) ?: "")) {
                        text_printable(t, "; to release it: fleetctl unload %s", unit);
                }
        } else if (streq(step, "drain") || streq(step, "global"))
                text_append(t, "no unit is left to move; global units stop");
        else if (streq(step, "vote") || streq(step, "transfer")) {
                text_append(t, "no unit is left; another host takes its vote");
        } else if (streq(step, "owner")) {
                text_append_printable(t, reason);
        } else if (streq(step, "wait")) {
                text_printable(t, "no unit is left; waiting for %s, which leaves first", other);
        } else
                text_append(t, "no unit is left, and it does not vote; it is being removed");
}

static int leave_cancelled(const JsonValue *root, const char *name) {
        const char *reason = member_text(root, "reason");
        _cleanup_text_ Text t = {};

        text_printable(&t, "%s%s", *reason ? ": " : "", reason);
        client_note("the leave of %s was cancelled%s; its units do not move back", name, t.chars ?: "");
        return EXIT_FAILED;
}

/* Print a step when it changes. */
static int leave_print(Leave *l, const JsonValue *root) {
        _cleanup_text_ Text t = {};
        int r;

        leave_append_step(&t, root);
        r = operation_has_news(&l->operation, l->name, &t);
        if (r > 0)
                puts(t.chars);
        (void) fflush(stdout);
        return MIN(r, 0);
}

/* The host has left when it has started again, without its former cluster. It does not answer meanwhile, and
 * founds a cluster of its own then, or waits for the hosts of Join= in its fleetd.conf. */
static int leave_look(void *userdata, Error *err) {
        uint64_t now_ms = clock_monotonic_ms();
        _cleanup_json_ JsonValue *root = NULL;
        Leave *l = userdata;
        const char *cluster;

        if (leave_read(l->client, &root, err) < 0)
                return -ENODATA;
        cluster = member_short_id(root, "clusterId");
        if (!*cluster && now_ms - l->since_ms < LEAVE_FOUND_MS)
                return -EAGAIN;
        if (!streq(cluster, l->cluster)) {
                printf("Left: %s starts empty; its former state is in /var/lib/fleet/old\n", l->name);
                return EXIT_DONE;
        }
        l->since_ms = now_ms;
        if (streq(member_text(root, "step"), "none"))
                return leave_cancelled(root, l->name);
        TRY(leave_print(l, root));
        return -EAGAIN;
}

static void leave_left(void *userdata, OperationEnd end) {
        const Leave *l = userdata;

        if (end == OPERATION_SILENT)
                client_note("fleetd of %s has not answered for %d s: journalctl -u fleetd; it continues the "
                            "leave when it runs",
                            l->name, LEAVE_SILENT_S);
        else
                client_note("%sthe leave of %s continues: fleetctl leave shows it, fleetctl leave --cancel "
                            "ends it",
                            operation_end(end), l->name);
}

static int leave_wait(Client *c, const char *cluster, const char *name, Error *err) {
        static const OperationType type = { leave_look, leave_left, .silent_ms = LEAVE_SILENT_S * 1000 };
        Leave l = { .client = c, .name = name, .cluster = cluster, .operation = operation_begin(c) };
        int r;

        l.since_ms = l.operation.began_ms;
        r = operation_wait(&l.operation, &type, &l, err);
        operation_done(&l.operation);
        return r;
}

static int leave_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text name = {}, cluster = {};

        if (n > 0)
                return client_usage(
                        "leave: expected no arguments: it takes the host on which it runs out of the "
                        "cluster; another host that is lost: fleetctl remove");
        TRY_VERB(leave_read(c, &root, err), err, "Failed to read the state of this host: ");
        text_append_printable(&name, member_text(root, "name"));
        text_append(&cluster, member_short_id(root, "clusterId"));
        TRY(MIN(name.error, cluster.error));
        if (c->options.cancel)
                return client_order(
                        c, "DELETE", "/fleet/v1/cluster/leave", NULL, "Failed to cancel the leave: ",
                        "%s stays in the cluster; units that have moved do not move back\n", name.chars);
        if (streq(member_text(root, "step"), "none")) {
                if (!client_confirm(
                            c, "Leave?",
                            "%s leaves its cluster: its units move to other hosts, then its keys and its "
                            "identity are moved to /var/lib/fleet/old.",
                            name.chars))
                        return EXIT_FAILED;
                TRY_DONE(client_order(
                        c, "POST", "/fleet/v1/cluster/leave", NULL, "Failed to leave: ",
                        "%s leaves its cluster. It continues without this command; to cancel: fleetctl leave "
                        "--cancel\n",
                        name.chars));
                (void) fflush(stdout);
        }
        return c->options.no_block ? EXIT_DONE : leave_wait(c, cluster.chars ?: "", name.chars, err);
}

VERB(leave, "leave", "yes no-block", "", "Take this host out of its cluster",
     "Each unit runs on another host before it stops here. The host starts empty then; its state is\n"
     "in /var/lib/fleet/old. The cluster continues without this command; repeat it for the progress.\n",
     leave_run);
