/* Machines by name: from a name to the machine, and from a machine to its name. And `remove`, which deletes a
 * lost machine from the cluster. */
#include "client/client.h"

enum { GONE_MS = 3600000 };

/* -- From the machine to its name -- */

const ApiMachine *listing_machine(const Listing *machines, const char *id) {
        for (size_t i = 0; id && i < machines->n + machines->n_removed; i++)
                if (machines->machines[i].id && streq(machines->machines[i].id, id))
                        return &machines->machines[i];
        return NULL;
}

static bool machine_is_there(const ApiMachine *m) {
        return !m->presence || streq(m->presence, "up") || streq(m->presence, "away");
}

uint64_t machine_age(const JsonValue *cluster, const ApiMachine *m) {
        uint64_t now_ms = member_number(cluster, "time"),
                 stale_ms = 1000 * member_number(cluster, "staleSec");

        if (m->since_ms == 0 || now_ms == 0)
                return UINT64_MAX;
        return stale_ms + (now_ms > m->since_ms ? now_ms - m->since_ms : 0);
}

bool machine_is_gone(const JsonValue *cluster, const ApiMachine *m) {
        uint64_t age_ms = machine_age(cluster, m);

        return !machine_is_there(m) && age_ms >= GONE_MS && age_ms != UINT64_MAX;
}

void append_machine_legend(Text *t, const Listing *machines, const char *id, bool full) {
        const ApiMachine *machine = listing_machine(machines, id);

        if (full)
                text_append(t, id);
        else
                text_printf(t, "%.8s...", id ?: "");
        if (machine && machine_is_there(machine) && machine->primary_ip && *machine->primary_ip)
                text_printf(t, "/%s", machine->primary_ip);
}

void append_machine_name(Text *t, const Listing *machines, const char *id) {
        const ApiMachine *machine = listing_machine(machines, id);

        if (machine && machine->hostname && *machine->hostname)
                text_append(t, machine->hostname);
        else
                text_printf(t, "%.8s", id ?: "");
}

/* -- From the name to the machine -- */

bool machine_has_name(const Listing *machines, const char *id, const char *name) {
        const ApiMachine *m = listing_machine(machines, id);

        return (id && *id && starts_with(id, name)) || (m && m->hostname && streq(m->hostname, name));
}

size_t listing_find_machine(const Listing *machines, const char *name, const ApiMachine **ret) {
        size_t n_named = 0, n_begin = 0;
        const ApiMachine *named = NULL;

        for (size_t i = 0; i < machines->n && *name; i++) {
                const ApiMachine *m = &machines->machines[i];

                if (!machine_has_name(machines, m->id, name))
                        continue;
                if (same_string(m->hostname, name) || streq(m->id, name)) {
                        named = m;
                        n_named++;
                } else if (n_begin++ == 0)
                        *ret = m;
        }
        if (n_named > 0)
                *ret = named;
        return n_named ?: n_begin;
}

int client_find_machine(const Listing *machines, const char *name, const ApiMachine **ret, Error *err) {
        size_t n = listing_find_machine(machines, name, ret);
        _cleanup_text_ Text all = {};

        if (n == 1)
                return 0;
        if (n == 0)
                return error_set(err, -ENOENT, "%s: no machine has this name or ID; fleetctl list-machines",
                                 name);
        for (size_t i = 0; i < machines->n; i++) {
                const ApiMachine *m = &machines->machines[i];

                if (machine_has_name(machines, m->id, name))
                        text_printf(&all, "%s%s (%s)", all.size > 0 ? ", " : "", m->id, m->presence ?: "up");
        }
        return all.error < 0 ? all.error :
                               error_set(err, -EINVAL, "%s: several machines match; choose one by its ID: %s",
                                         name, all.chars);
}

/* -- remove -- */

/* Ask only before a change: the daemon rejects other removals, and states why. */
static bool remove_is_confirmed(const Client *c, const ApiMachine *m, const char *name) {
        return machine_is_there(m) || same_string(m->role, "voter") ||
               client_confirm(c, "Remove it?", "Machine %s is %s. It is no longer listed, until it returns.",
                              name, streq(m->presence, "left") ? "shut down" : "lost");
}

int verb_remove(Client *c, char **args, size_t n, Error *err) {
        _cleanup_text_ Text path = {}, name = {};
        _cleanup_listing_ Listing machines = {};
        _cleanup_reply_ Reply reply = {};
        const ApiMachine *m = NULL;
        int r;

        if (n != 1)
                return client_usage("remove: expected one machine, by its name or ID");
        r = client_all_machines(c, &machines, err);
        if (r < 0)
                return client_fail_after(r, err, "Failed to read the machines: ");
        r = client_find_machine(&machines, args[0], &m, err);
        if (r < 0) {
                client_note("%s", error_text(err, r));
                return r == -ENOENT ? EXIT_ABSENT : EXIT_FAILED;
        }
        text_append_printable(&name, m->hostname && *m->hostname ? m->hostname : m->id);
        text_append(&path, "/fleet/v1/machines/");
        append_escaped(&path, m->id, false);
        if (name.error < 0)
                return name.error;
        if (!remove_is_confirmed(c, m, name.chars))
                return EXIT_FAILED;
        r = client_request(c, "DELETE", client_path(&path), NULL, &reply, err);
        if (r < 0)
                return client_fail_after(r, err, "Failed to remove %s: ", name.chars);
        printf("Machine %s removed\n", name.chars);
        return EXIT_DONE;
}
