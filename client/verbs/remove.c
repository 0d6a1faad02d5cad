/* remove: delete a lost machine from the cluster. */
#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/verbs/overview.h"
#include "client/verbs/secret.h"

enum { MARGIN_MS = 10000 }; /* an answer takes less */

/* Return the standby that votes in place of a voter that is lost or removed; NULL: there is none. */
static const JsonValue *cluster_standby(const JsonValue *cluster) {
        JSON_EACH(member, json_value_member(cluster, "voters"))
                if (!member_is_voter(member) && member_bool(member, "reachable"))
                        return member;
        return NULL;
}

/* Append which standby gets the vote of the machine, if it has one. */
static void append_vote(Text *t, const JsonValue *cluster, const ApiMachine *m, const char *name) {
        const JsonValue *members = json_value_member(cluster, "voters"), *standby = cluster_standby(cluster);

        for (size_t i = 0; i < json_value_count(members) && standby; i++) {
                const JsonValue *member = json_value_item(members, i);

                if (!streq(member_text(member, "id"), m->id) || !member_is_voter(member))
                        continue;
                text_printable(t, " %s votes in place of %s.", member_label(standby), name);
        }
}

/* Ask only before a change: the daemon rejects other removals, and states why. */
static bool remove_is_confirmed(Client *c, const ApiMachine *m, const char *name) {
        const char *state = presence_word(m->presence ?: "up");
        _cleanup_json_ JsonValue *cluster = NULL;
        bool there = machine_is_there(m);
        _cleanup_text_ Text vote = {};

        if (c->options.yes || (!c->options.force && !c->options.compromised && there))
                return true;
        (void) client_get_json(c, "/fleet/v1/cluster", &cluster, NULL);
        append_vote(&vote, cluster, m, name);
        if (c->options.compromised)
                return client_confirm(
                        c, "Remove it?",
                        "Machine %s does not return without a new token. The cluster gets another cluster "
                        "key "
                        "and another root of its CA; all tokens end. No other unit is touched.%s",
                        name, vote.chars ?: "");
        if (c->options.force)
                return client_confirm(
                        c, "Remove it?",
                        there ? "Machine %s is %s. The cluster rejects it, and starts its units on "
                                "other machines. They also continue to run on %s: shut it down "
                                "first, or they run twice.%s" :
                                "Machine %s is %s. The cluster rejects it until it joins with a "
                                "new token. If %s still runs, its units run twice.%s",
                        name, state, name, vote.chars ?: "");
        return (!machine_is_replaced(m) && machine_age(cluster, m) < MACHINE_GONE_MS - MARGIN_MS) ||
               client_confirm(
                       c, "Remove it?",
                       "Machine %s is %s. Lists and status will omit it; to return, it needs a token.%s",
                       name, state, vote.chars ?: "");
}

/* Print what the cluster does now, and what it cannot do. */
static void remove_print_compromised(Client *c, const char *name) {
        _cleanup_json_ JsonValue *ca = NULL;
        Error err = {};
        int r = client_get_json(c, "/fleet/v1/cluster/ca", &ca, &err);

        if (r < 0)
                client_note("Failed to read the state of the CA: %s; fleetctl ca shows it",
                            error_text(&err, r));
        else if (*member_text(ca, "rotation")) {
                puts("All tokens have ended; the cluster key and the root of the CA change: fleetctl ca "
                     "shows "
                     "the state");
                printf("The key of %s is rejected without an end, also with a token. To join the host again, "
                       "remove the folder /var/lib/fleet/identity on it first\n",
                       name);
        }
        printf("Set again what %s could read: the key file of PeerKey= if hosts have one, and passwords and "
               "private keys in units and in the keys of the cluster\n",
               name);
        secrets_print_all(c);
}

/* Print the units that wait for the machine, which has their data. */
static void remove_print_data(Client *c, const char *id) {
        _cleanup_json_ JsonValue *data = NULL;

        DATA_EACH(unit, c, "?machine=", id, &data) {
                _cleanup_text_ Text t = {};

                if (!member_bool(unit, "sticky"))
                        continue;
                text_printable(&t,
                               "%s waits for it, where its data is; to start it without: fleetctl move %s "
                               "HOST --force",
                               member_text(unit, "name"), member_text(unit, "name"));
                (void) output_line(t.chars ?: "");
        }
}

static int remove_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_text_ Text path = {}, name = {};
        _cleanup_listing_ Listing machines = {};
        _cleanup_reply_ Reply reply = {};
        const ApiMachine *m = NULL;
        int r;

        if (n != 1)
                return client_usage("remove: expected one machine, by its name or ID");
        TRY_VERB(client_all_machines(c, &machines, err), err, "Failed to read the machines: ");
        r = client_find_machine(&machines, args[0], &m, err);
        if (r < 0)
                return client_fail_machine(r, err);
        text_append_printable(&name, m->hostname && *m->hostname ? m->hostname : m->id);
        if (m->hostname && *m->hostname &&
            !streq(m->hostname, args[0])) /* other machines may have the name */
                text_printf(&name, " (%.8s)", m->id);
        text_append(&path, "/fleet/v1/machines/");
        append_escaped(&path, m->id, false);
        text_append(&path, c->options.compromised ? "?compromised=true" :
                           c->options.force       ? "?force=true" :
                                                    "");
        TRY(name.error);
        if (!remove_is_confirmed(c, m, name.chars))
                return EXIT_FAILED;
        TRY_VERB(client_request(c, "DELETE", client_path(&path), NULL, &reply, err), err,
                 "Failed to remove %s: ", name.chars);
        printf("Machine %s removed\n", name.chars);
        remove_print_data(c, m->id);
        if (c->options.compromised)
                remove_print_compromised(c, name.chars);
        return EXIT_DONE;
}

VERB(remove, "remove", "yes", "MACHINE", "Remove a lost machine from the cluster",
     "It is named by its hostname or ID. It was replaced, or has been lost or\n"
     "shut down for an hour. A voter requires a majority of the others.\n"
     "If it returns, its units run on, and it needs a new token: fleetctl token on\n"
     "another host, then fleetctl join on it.\n"
     "Exit status 4 if there is no such machine.\n",
     remove_run);
