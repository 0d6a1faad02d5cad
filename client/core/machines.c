#include "client/core/machines.h"

#include "base/clock.h"
#include "client/core/times.h"

enum { SLIPS_MAX = 2 };
/* -- From the machine to its name -- */

const char *presence_word(const char *presence) {
        return streq(presence, "left") ? "shut down" : presence;
}

bool machine_is_there(const ApiMachine *m) {
        return !m->presence || streq(m->presence, "up") || streq(m->presence, "away");
}

uint64_t machine_age(const JsonValue *cluster, const ApiMachine *m) {
        uint64_t now_ms = member_number(cluster, "time"),
                 stale_ms = 1000 * member_number(cluster, "staleSec");

        if (m->since_ms == 0 || now_ms == 0)
                return UINT64_MAX;
        return stale_ms + (now_ms > m->since_ms ? now_ms - m->since_ms : 0);
}

bool machine_is_replaced(const ApiMachine *m) {
        return m->replaced_by && *m->replaced_by;
}

void append_since(Text *t, const JsonValue *cluster, const ApiMachine *m) {
        uint64_t age_ms = machine_age(cluster, m), now_ms = clock_real_ms();

        if (age_ms == UINT64_MAX)
                return;
        text_append(t, " since ");
        append_clock(t, now_ms - age_ms, now_ms, false);
}

bool append_absence(Text *t, Client *c, const ApiMachine *m) {
        static const char *const words[][2] = { { "lost", "is lost" },
                                                { "left", "is shut down" },
                                                { "away", "is away" } };
        _cleanup_json_ JsonValue *cluster = NULL;

        for (size_t i = 0; i < ELEMENTS(words); i++) {
                if (!same_string(m->presence, words[i][0]))
                        continue;
                (void) client_get_json(c, "/fleet/v1/cluster", &cluster, NULL);
                text_append_char(t, ' ');
                text_append(t, words[i][1]);
                append_since(t, cluster, m);
                return true;
        }
        return false;
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

/* Return whether another machine has the same name: a host that was installed again keeps it. Of the two, the
 * replaced one is the exception. */
static bool listing_has_namesake(const Listing *machines, const ApiMachine *machine) {
        const ApiMachine *m;
        size_t at = 0;

        while ((m = listing_next_namesake(machines, machine->hostname, &at)))
                if (m != machine && (machine_is_replaced(machine) || !machine_is_replaced(m)))
                        return true;
        return false;
}

void append_machine_name(Text *t, const Listing *machines, const char *id) {
        const ApiMachine *machine = listing_machine(machines, id);

        if (!machine || !machine->hostname || !*machine->hostname) {
                text_printf(t, "%.8s", id ?: "");
                return;
        }
        text_append(t, machine->hostname);
        if (listing_has_namesake(machines, machine))
                text_printf(t, " (%.8s)", id);
}

/* -- From the name to the machine -- */

bool machine_has_name(const Listing *machines, const char *id, const char *name) {
        const ApiMachine *m = listing_machine(machines, id);

        return (id && *id && starts_with(id, name)) || (m && m->hostname && streq(m->hostname, name));
}

static size_t listing_find(const Listing *machines, const char *name, bool replaced, const ApiMachine **ret) {
        size_t n_named = 0, n_begin = 0, n_replaced = 0;
        const ApiMachine *named = NULL, *gone = NULL, *begins = NULL;

        for (size_t i = 0; i < machines->n && *name; i++) {
                const ApiMachine *m = &machines->machines[i];

                if (!machine_has_name(machines, m->id, name))
                        continue;
                if (same_string(m->hostname, name) && machine_is_replaced(m) && !replaced) {
                        gone = m;
                        n_replaced++;
                } else if (same_string(m->hostname, name) || streq(m->id, name)) {
                        named = m;
                        n_named++;
                } else {
                        begins = m;
                        n_begin++;
                }
        }
        if (named || gone || begins)
                *ret = named ?: gone ?: begins;
        return n_named ?: n_replaced ?: n_begin;
}

size_t listing_find_machine(const Listing *machines, const char *name, const ApiMachine **ret) {
        return listing_find(machines, name, false, ret);
}

/* Find the only machine with this hostname that is up: a host that was installed again keeps its name. */
static bool listing_find_up(const Listing *machines, const char *name, const ApiMachine **ret) {
        const ApiMachine *up = NULL;
        size_t n = 0;

        for (size_t i = 0; i < machines->n; i++) {
                const ApiMachine *m = &machines->machines[i];

                if (*name && (!m->presence || streq(m->presence, "up")) && same_string(m->hostname, name)) {
                        up = m;
                        n++;
                }
        }
        if (n == 1)
                *ret = up;
        return n == 1;
}

/* Append the message that no machine has this name, with the next step. */
static void machine_append_absent(Text *t, const Listing *machines, const char *flag, const char *name) {
        Suggestion suggestion = { .typed = name };

        for (size_t i = 0; isatty(STDERR_FILENO) && i < machines->n; i++)
                if (machines->machines[i].hostname)
                        suggest_consider(&suggestion, machines->machines[i].hostname);
        text_printf(t, "%s%s: no machine has this name or ID; ", flag, name);
        if (suggestion.nearest && suggestion.distance <= SLIPS_MAX) /* names of machines are short */
                text_printf(t, "did you mean %s? ", suggestion.nearest);
        text_append(t, "fleetctl list-machines --all");
}

void client_note_machine(const Listing *machines, size_t n, const char *flag, const char *name) {
        _cleanup_text_ Text t = {};

        if (n > 0)
                text_printf(&t,
                            "%s%s: several machines have this name; use the beginning of an ID (fleetctl "
                            "list-machines --full)",
                            flag, name);
        else
                machine_append_absent(&t, machines, flag, name);
        client_note("%s", t.error < 0 ? strerror(-t.error) : t.chars);
}

bool client_note_unknown_states(Client *c, const Listing *machines) {
        const char *name = c->options.machine ?: "";
        _cleanup_text_ Text t = {};
        const ApiMachine *m;

        if (listing_find_machine(machines, name, &m) != 1 || machine_is_there(m) || m->n_units == 0)
                return false;
        append_machine_name(&t, machines, m->id);
        (void) append_absence(&t, c, m);
        text_printf(&t,
                    ": states of its units are not known; assigned to it are global units, and: fleetctl "
                    "list-unit-files --machine=%s",
                    name);
        client_note("%s", t.error < 0 ? strerror(-t.error) : t.chars);
        return true;
}

int client_fail_machine(int r, const Error *err) {
        if (r != -ENOENT)
                return client_fail(r, err);
        client_note("%s", error_text(err, r));
        return EXIT_ABSENT;
}

int client_find_host(const Listing *machines, const char *name, const ApiMachine **ret, Error *err) {
        return listing_find_up(machines, name, ret) ? 0 : client_find_machine(machines, name, ret, err);
}

int client_find_machine(const Listing *machines, const char *name, const ApiMachine **ret, Error *err) {
        size_t n = listing_find(machines, name, true, ret);
        _cleanup_text_ Text all = {};

        if (n == 1)
                return 0;
        if (n == 0) {
                machine_append_absent(&all, machines, "", name);
                return all.error < 0 ? all.error : error_set(err, -ENOENT, "%s", all.chars);
        }
        for (size_t i = 0; i < machines->n; i++) {
                const ApiMachine *m = &machines->machines[i];

                if (machine_has_name(machines, m->id, name))
                        text_printf(&all, "%s%s (%s)", all.size > 0 ? ", " : "", m->id, m->presence ?: "up");
        }
        return all.error < 0 ? all.error :
                               error_set(err, -EINVAL, "%s: several machines match; choose one by its ID: %s",
                                         name, all.chars);
}

const char *client_restriction(bool restricted, const char *write) {
        if (!restricted)
                return "";
        return write && *write ? write : "no writes";
}

void append_metadata_change(Text *patch, const char *machine, const char *key, const char *value) {
        _cleanup_text_ Text path = {};

        text_printf(&path, "/%s/metadata/%s", machine, key);
        json_open(patch, NULL, '{');
        json_add_string(patch, "op", *value ? "add" : "remove");
        json_add_string(patch, "path", path.chars);
        json_add_string(patch, "value", value);
        json_close(patch, '}');
        patch->error = patch->error ?: path.error;
}
