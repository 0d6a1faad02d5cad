#include "client/core/notes.h"

#include "client/core/machines.h"
#include "client/core/times.h"
#include "client/core/unit.h"

typedef struct HistoryReading {
        const char *unit;
        HistoryOnRow on_row;
        void *userdata;
} HistoryReading;

static int history_on_line(void *userdata, const char *line, size_t size) {
        const HistoryReading *reading = userdata;
        _cleanup_json_ JsonValue *row = NULL;

        TRY(json_value_parse(line, size, &row, NULL));
        /* A pattern selects rows of other units, and the last line is no row. */
        return streq(member_text(row, "name"), reading->unit) ? reading->on_row(reading->userdata, row) : 0;
}

void client_history(Client *c, const char *unit, HistoryOnRow on_row, void *userdata) {
        HistoryReading reading = { .unit = unit, .on_row = on_row, .userdata = userdata };
        _cleanup_text_ Text path = {};
        Error err = {};

        (void) connection_follow(c->connection, "GET",
                                 client_path_of(&path, "/fleet/v1/history?unit=", unit, "&follow=false"),
                                 history_on_line, &reading, NULL, &err);
}

/* A unit that was submitted after the backup of a restored cluster runs without the cluster. Return whether
 * that was printed. */
bool client_note_absent_running(Client *c, const char *name) {
        _cleanup_listing_ Listing states = {}, machines = {};
        bool any = false;

        if (client_states(c, name, &states, NULL) < 0)
                return false;
        for (size_t i = 0; i < states.n; i++) {
                const ApiState *s = &states.states[i];
                const ApiMachine *m;
                _cleanup_text_ Text place = {};

                if (!same_string(s->name, name) || !same_string(s->active, "active"))
                        continue;
                client_load_machine(c, &machines, s->machine_id, true);
                append_machine_name(&place, &machines, s->machine_id ?: "");
                any = true;
                m = listing_machine(&machines, s->machine_id);
                if (m && same_string(m->presence, "away")) {
                        client_note("the cluster does not have %s, and %s, which is away, last reported it "
                                    "active: if it was destroyed, %s stops it when it is back",
                                    name, place.chars ?: "", place.chars ?: "");
                        continue;
                }
                client_note("%s runs on %s, and the cluster does not have it; to keep it, without a restart, "
                            "run there: fleetctl start " RUNTIME_UNITS "/%s; to stop it: then fleetctl "
                            "destroy %s",
                            name, place.chars ?: "", name, name);
        }
        return any;
}

void client_note_nowhere(Client *c, const char *name) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {};

        if (client_get_json(c, client_path_of(&path, "/fleet/v1/why/", name, ""), &root, NULL) < 0)
                return;
        JSON_EACH(m, json_value_member(root, "machines"))
                if (member_bool(m, "fits") || *member_assignment(m))
                        return;
        client_note("%s runs nowhere: no machine qualifies; fleetctl why %s", name, name);
}

/* Print the files of unit directories that are refused under this name: the unit may be meant. */
static void client_note_refused_files(Client *c, const char *name) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_listing_ Listing machines = {};

        if (client_get_json(c, "/fleet/v1/directory", &root, NULL) < 0)
                return;
        JSON_EACH(p, json_value_member(root, "problems")) {
                const char *reason = member_text(p, "reason"), *id = member_text(p, "machineID");
                _cleanup_text_ Text machine = {};

                if (!streq(member_text(p, "kind"), "refused") || !streq(member_text(p, "name"), name))
                        continue;
                if (starts_with(reason, name) && starts_with(reason + strlen(name), ": "))
                        reason += strlen(name) + strlen(": ");
                client_load_machine(c, &machines, id, true);
                append_machine_name(&machine, &machines, id);
                client_note("refused on %s: %s; fleetctl directory", machine.chars ?: id, reason);
        }
}

/* Print what the name may mean. Return whether a unit of the cluster is similar. */
static bool client_suggest_others(Client *c, const char *name) {
        Suggestion suggestion = { .typed = name };
        _cleanup_free_ char *template = NULL;
        _cleanup_listing_ Listing units = {};

        client_note_refused_files(c, name);
        if (!isatty(STDERR_FILENO) || client_units(c, &units, NULL) < 0)
                return false;
        for (size_t i = 0; i < units.n; i++)
                if (units.units[i].name)
                        suggest_consider_unit(&suggestion, units.units[i].name);
        template = unit_name_is_instance(name) ? unit_name_template(name) : NULL;
        if (suggestion.nearest && same_string(suggestion.nearest, template))
                client_note("the cluster has its template; to start it: fleetctl start %s", name);
        else if (suggestion.nearest)
                fprintf(stderr, "fleetctl: did you mean %s?\n", suggestion.nearest);
        return suggestion.nearest;
}

bool client_suggest_unit(Client *c, const char *name) {
        bool running = client_note_absent_running(c, name);

        return client_suggest_others(c, name) || running;
}

void client_note_awaited(Client *c, const char *effect) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *awaited;
        _cleanup_text_ Text names = {};

        if (client_get_json(c, "/fleet/v1/cluster", &root, NULL) < 0)
                return;
        awaited = json_value_member(root, "waitsFor");
        JSON_EACH(item, awaited)
                text_printf(&names, "%s%s", item_i > 0 ? ", " : "", json_value_string(item) ?: "");
        if (names.size > 0)
                client_note(
                        "the cluster was recovered or restored, and waits until %s %s units: %s (fleetctl "
                        "cluster)",
                        names.chars,
                        json_value_count(awaited) == 1 ? "has reported its" : "have reported their", effect);
}

static int on_past(void *userdata, const JsonValue *row) {
        bool *any = userdata;

        *any |= row != NULL;
        return 0;
}

void client_note_past(Client *c, const char *name, bool known) {
        bool any = false;

        /* fleet's message is for programs. log is such a command itself. */
        if (!isatty(STDERR_FILENO) || streq(c->verb->name, "log"))
                return;
        if (streq(name, "fleetd.service")) {
                client_note("the log of the daemons: fleetctl log");
                return;
        }
        client_history(c, name, on_past, &any);
        if (any)
                client_note("its past: fleetctl events %s", name);
        else if (!known)
                client_note("no events of it are stored; older ones: fleetctl log UNIT=%s", name);
}

int client_note_absent(Client *c, const char *name) {
        bool running, similar;

        (void) fflush(stdout);
        running = client_note_absent_running(c, name);
        if (!running) {
                fprintf(stderr, "Unit %s does not exist.\n", name);
                client_note_awaited(c, "it may run there");
        }
        similar = client_suggest_others(c, name);
        if (!running && !similar && isatty(STDERR_FILENO))
                client_note("all units: fleetctl list-unit-files");
        client_note_past(c, name, similar || running);
        return EXIT_ABSENT;
}

bool client_next_data(Client *c, const char *query, const char *value, JsonValue **page) {
        const char *token = member_text(*page, "nextPageToken");
        _cleanup_text_ Text path = {};

        if (*page && !*token)
                return false;
        text_printf(&path, "/fleet/v1/data%s", query);
        append_escaped(&path, value, false);
        text_append(&path, !*token ? "" : *query ? "&nextPageToken=" : "?nextPageToken=");
        append_escaped(&path, token, false);
        *page = json_value_free(*page);
        return client_get_json(c, client_path(&path), page, NULL) >= 0;
}

void client_note_data(Client *c, const char *name) {
        _cleanup_json_ JsonValue *root = NULL;

        if (!client_is_interactive())
                return;
        DATA_EACH(unit, c, "?unit=", name, &root)
                if (verdict_code(member_text(unit, "code")) != VERDICT_STAYS_WITH_DATA &&
                    *member_text(unit, "note"))
                        client_note("%s: %s", name, member_text(unit, "note"));
}

void client_note_kept_data(Client *c, const char *unit, const Names *names, bool starts) {
        _cleanup_json_ JsonValue *root = NULL;

        DATA_EACH(item, c, "?unit=", unit, &root) {
                const char *name = member_text(item, "name"), *machine = member_text(item, "machine");

                if (*machine && names_have(names, name))
                        client_note(starts ? "%s starts with its data on %s" :
                                             "%s: its data stays on %s; a unit of this name returns there",
                                    name, machine);
        }
}

void append_apart(Text *t, const JsonValue *answer) {
        const char *first = NULL;
        size_t n = 0;

        JSON_EACH(item, json_value_member(answer, "apart")) {
                const char *name = json_value_string(item) ?: "";

                if (json_list_has(json_value_member(answer, "joiners"), name)) /* it follows next */
                        continue;
                if (n++ < APART_NAMED)
                        text_printf(t, "%s%s", first ? ", " : "", name);
                first = first ?: name;
        }
        if (n > APART_NAMED)
                text_printf(t, " and %zu more", n - APART_NAMED);
        if (n > 0)
                text_printf(t,
                            " %s of %s own, and %s not follow %s; to give one its text: fleetctl start "
                            "--replace %s",
                            n == 1 ? "has a text" : "have texts", n == 1 ? "its" : "their",
                            n == 1 ? "does" : "do", member_text(answer, "name"), first);
}

void client_note_warnings(const JsonValue *warnings) {
        JSON_EACH(item, warnings)
                client_note("warning: %s", json_value_string(item) ?: "");
}

void append_replicas(Text *t, const char *name, const JsonValue *set) {
        const char *by = member_text(set, "scaledBy"), *target = member_text(set, "desiredState");

        text_printf(t, "%s has %llu of %llu replicas%s%s", name,
                    (unsigned long long) member_number(set, "running"),
                    (unsigned long long) member_number(set, "count"),
                    streq(target, "launched") ? "" : ", and target state ",
                    streq(target, "launched") ? "" : target);
        if (*by) {
                text_printf(t, " (file: %llu; scaled by %s", (unsigned long long) member_number(set, "file"),
                            by);
                append_age(t, member_number(set, "scaledSince"));
                text_append(t, ")");
        }
        text_printf(t, "; its instances: fleetctl list-units '%.*s@*'", (int) strcspn(name, "@"), name);
        if (json_value_count(json_value_member(set, "apart")) > 0)
                text_append(t, ". ");
        append_apart(t, set);
}

bool client_note_template(const Client *c, const char *name) {
        if (!unit_name_is_template(name))
                return false;
        client_note("%s is a template, and runs nowhere; instead: fleetctl %s '%.*s@*'", name, c->verb->name,
                    (int) strcspn(name, "@"), name);
        return true;
}

void append_template(Text *t, const char *name) {
        text_printf(t, "%s is a template, and runs nowhere; its instances: fleetctl list-units '%.*s@*'",
                    name, (int) strcspn(name, "@"), name);
}
