/* status, show, list-dependencies, reload, kill, reset-failed run systemctl on the machine of the unit.
 * is-active and is-failed read the published states. */
#include "client/verbs/unit_status.h"

#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/state_text.h"
#include "client/core/unit.h"
#include "client/verbs/overview.h"

void unit_status_path(Text *t, const char *kind, const char *name, const char *machine) {
        text_printf(t, "/fleet/v1/%s/", kind);
        append_escaped(t, name, false);
        text_append(t, "?");
        unit_status_add(t, "machine", machine);
}

void unit_status_add(Text *t, const char *parameter, const char *value) {
        if (!value || !*value)
                return;
        text_printf(t, "%s%s=", t->size > 0 && t->chars[t->size - 1] == '?' ? "" : "&", parameter);
        append_escaped(t, value, false);
}

/* -- Lines {"machine":"ID","data":"text"}, the last one {"exit":0} -- */

/* Read a line of an answer, whose data is borrowed from *ret. The members stay if it has none. The caller
 * frees *ret, also after an error. */
static int unit_status_line_read(const char *line, size_t size, JsonValue **ret, const char **ret_data,
                                 int *ret_status) {
        uint64_t status = UINT64_MAX;

        TRY(json_value_parse(line, size, ret, NULL));
        TRY(json_read_u64(*ret, "exit", &status, NULL));
        if (status != UINT64_MAX)
                *ret_status = (int) MIN(status, (uint64_t) 255);
        return json_read_string(*ret, "data", ret_data, NULL);
}

int unit_status_lines(const char *json, size_t size, Text *partial, int *ret_status, StreamLine line,
                      void *userdata) {
        _cleanup_json_ JsonValue *answer = NULL;
        const char *data = "";

        TRY(unit_status_line_read(json, size, &answer, &data, ret_status));
        for (const char *at = data, *end; *at; at = end) {
                end = at + strcspn(at, "\n");
                end += *end == '\n';
                text_append_bytes(partial, at, (size_t) (end - at));
                TRY(partial->size > LINE_SIZE_MAX ? -EFBIG : partial->error);
                if (end[-1] == '\n') {
                        TRY(line(userdata, partial->chars, partial->size));
                        text_clear(partial);
                }
        }
        return 0;
}

typedef struct Answer {
        int status; /* -1: not received yet */
        bool any;   /* some output was printed */
} Answer;

static int print_line(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *source = NULL;
        _cleanup_free_ char *data = NULL;
        Answer *answer = userdata;
        const char *text = NULL;
        size_t n = 0;
        int r;

        r = unit_status_line_read(line, size, &source, &text, &answer->status);
        if (r >= 0) /* an exported journal has any bytes */
                r = json_read_bytes(source, "data", &data, &n, NULL);
        if (r < 0)
                return r;
        answer->any = answer->any || n > 0;
        r = output_text(data, n);
        return output_flush() ?: r;
}

int unit_status_print(Client *c, const char *method, const Text *path, const char *name, bool *ret_any,
                      Error *err) {
        Answer answer = { .status = -1 };
        int r;

        *err = (Error) {}; /* of an earlier unit */
        r = connection_follow(c->connection, method, client_path(path), print_line, &answer, NULL, err);
        if (r < 0)
                return output_has_failed() ? EXIT_FAILED :
                                             client_fail_after(r, err, "Error retrieving unit %s: ", name);
        if (answer.status < 0) {
                client_note("%s: the machine was lost before the end of its answer", name);
                return EXIT_FAILED;
        }
        if (answer.status == UNIT_STATUS_LIMIT)
                client_note("%s: %s", name, UNIT_STATUS_LIMIT_TEXT);
        else if (answer.status > 0 && !answer.any)
                client_note("%s: the command on its machine printed nothing, and ended with exit status %d",
                            name, answer.status);
        if (ret_any)
                *ret_any = *ret_any || answer.any;
        return answer.status;
}

int unit_status_machine(Client *c, char **ret, Error *err) {
        _cleanup_listing_ Listing machines = {};
        const ApiMachine *found = NULL;
        size_t n;

        if (!c->options.machine)
                return EXIT_DONE;
        TRY_VERB(client_all_machines(c, &machines, err), err,
                 "Error retrieving list of active machines from fleet API: ");
        n = listing_find_machine(&machines, c->options.machine, &found);
        if (n != 1) {
                fprintf(stderr, "Unable to proceed: %s\n",
                        n > 1 ? "found more than one machine" : "machine does not exist");
                client_note_machine(&machines, n, "--machine=", c->options.machine);
                return EXIT_FAILED;
        }
        if (!machine_is_there(found)) {
                client_note("--machine=%s: this machine %s; its states: fleetctl events --machine=%s",
                            c->options.machine, streq(found->presence, "left") ? "was shut down" : "is lost",
                            c->options.machine);
                return EXIT_FAILED;
        }
        *ret = strdup(found->id);
        return *ret ? EXIT_DONE : -ENOMEM;
}

/* -- Several units, and all machines of a global unit -- */

typedef struct Remote {
        const char *verb, *kind, *method;
        bool separate; /* print an empty line between two answers */
        bool fleet;    /* the exit statuses of fleet */
} Remote;

static const Remote remotes[] = {
        { "kill", "kill", "POST" },
        { "list-dependencies", "dependencies", "GET", .separate = true },
        { "reload", "reload", "POST" },
        { "reset-failed", "reset-failed", "POST" },
        { "show", "show", "GET", .separate = true },
        { "status", "status", "GET", .separate = true, .fleet = true },
};

static int remote_on(Client *c, const Remote *remote, const char *name, const char *machine, Error *err) {
        const Options *o = &c->options;
        _cleanup_text_ Text path = {};

        unit_status_path(&path, remote->kind, name, machine);
        if (o->lines != LINES_ALL)
                text_printf(&path, "&lines=%llu", (unsigned long long) o->lines);
        unit_status_add(&path, "properties", o->property);
        unit_status_add(&path, "signal", o->signal);
        unit_status_add(&path, "whom", o->kill_whom);
        return unit_status_print(c, remote->method, &path, name, NULL, err);
}

/* Print the machine of a block of properties, in the form of these. */
static void show_machine(Client *c, Listing *machines, const char *id) {
        _cleanup_text_ Text t = {};

        client_load_machine(c, machines, id, true);
        text_append(&t, "FleetMachine=");
        append_machine_name(&t, machines, id ?: "");
        (void) output_line(t.chars ?: "");
}

static int remote_everywhere(Client *c, const Remote *remote, const char *name, Error *err) {
        _cleanup_listing_ Listing states = {}, machines = {};
        bool shows = streq(remote->kind, "show");
        int r, status = EXIT_DONE;
        size_t n_printed = 0;

        r = TRY_VERB(client_states(c, name, &states, err), err, "Error retrieving unit: ");
        for (size_t i = 0; i < states.n; i++) {
                if (!states.states[i].name || !streq(states.states[i].name, name))
                        continue;
                if (n_printed++ > 0 && remote->separate)
                        putchar('\n');
                if (shows)
                        show_machine(c, &machines, states.states[i].machine_id);
                (void) fflush(stdout);
                r = remote_on(c, remote, name, states.states[i].machine_id, err);
                status = status == EXIT_DONE ? r : status;
        }
        if (n_printed == 0 && remote->fleet)
                client_note_nowhere(c, name);
        return status;
}

/* Return whether the unit is on a machine, or print the reason why not. */
static bool is_loaded(const Client *c, const ApiUnit *unit, const char *name) {
        if (unit->global || unit->current_state > TARGET_INACTIVE)
                return true;
        fprintf(stderr, "Unit %s does not appear to be loaded.\n", name);
        if (!client_note_template(c, name) && unit->reason && *unit->reason &&
            unit->desired_state > TARGET_INACTIVE)
                client_note("%s: %s; fleetctl why %s", name, unit->reason, name);
        return false;
}

/* After systemctl: print why a unit does not run, which systemd does not report of a start that it refused or
 * that waits, or why it is unhealthy. */
static void print_trouble(Client *c, const char *name, const ApiUnit *unit) {
        _cleanup_listing_ Listing states = {}, machines = {};

        (void) fflush(stdout);
        if (client_states(c, name, &states, NULL) < 0)
                return;
        for (size_t i = 0; i < states.n; i++) {
                const ApiState *s = &states.states[i];
                NextStep step = state_next_step(s);
                _cleanup_text_ Text t = {}, place = {};

                if (state_kind(s) == STATE_INACTIVE && unit->reason && reason_is_of_wait(unit->reason_kind))
                        client_note("%s: %s; fleetctl why %s", name, unit->reason, name);
                if (state_kind(s) != STATE_TROUBLE && !state_is_unhealthy(s) && !state_is_unprovided(s))
                        continue;
                client_load_machine(c, &machines, s->machine_id, true);
                append_machine_name(&place, &machines, s->machine_id ?: "");
                append_state(&t, s, place.chars ?: "");
                if (step != NEXT_STATUS) {
                        text_append(&t, step == NEXT_RESTART ? "; to start it again: " : "; ");
                        append_next_step(&t, s, unit->global ? place.chars : NULL);
                }
                client_note("%s", t.chars ?: "");
        }
}

static int remote_run(Client *c, char **args, size_t n, Error *err) {
        const Remote *remote = remotes;
        _cleanup_free_ char *machine = NULL;
        int status, worst = EXIT_DONE;
        size_t n_printed = 0;

        while (!streq(remote->verb, c->verb->name))
                remote++;
        if (n == 0) /* status: all others require a unit */
                return overview(c, err);
        if (streq(remote->verb, "status") && streq(c->options.output, "json"))
                return client_usage(
                        "status of units is the text of systemctl: --output=json prints the whole cluster, "
                        "without UNIT (fleetctl show UNIT for properties)");
        status = unit_status_machine(c, &machine, err);
        if (status != EXIT_DONE)
                return status;
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);
                _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
                int r;

                r = TRY_VERB(name ? client_unit(c, name, &unit, err) : -ENOMEM, err,
                             "Error retrieving unit: ");
                if (r == 0) {
                        client_note_absent(c, name);
                        /* The other units are as important. */
                        worst = remote->fleet ? (worst == EXIT_DONE ? EXIT_FAILED : worst) : EXIT_ABSENT;
                        continue;
                }
                if (!machine && !is_loaded(c, &unit, name)) {
                        if (worst == EXIT_DONE)
                                worst = remote->fleet ? EXIT_FAILED : EXIT_INACTIVE;
                        continue;
                }

                if (n_printed++ > 0 && remote->separate)
                        putchar('\n');
                (void) fflush(stdout);
                status = unit.global && !machine ? remote_everywhere(c, remote, name, err) :
                                                   remote_on(c, remote, name, machine, err);
                if (remote->fleet && (status == EXIT_DONE || status >= EXIT_INACTIVE))
                        print_trouble(c, name, &unit);
                worst = worst == EXIT_DONE ? status : worst;
        }
        return worst;
}

/* -- is-active, is-failed: output and exit statuses of systemctl -- */

/* Return one state for all machines of a unit: "failed" if it failed on any of them, "active" if it is active
 * on all of them. */
static const char *state_of_all(const Listing *states, const char *name) {
        const char *word = NULL;

        for (size_t i = 0; i < states->n; i++) {
                const ApiState *s = &states->states[i];

                if (!s->name || !streq(s->name, name) || !s->active)
                        continue;
                if (!word || streq(s->active, "failed") ||
                    (streq(word, "active") && !streq(s->active, "active")))
                        word = s->active;
        }
        return word ?: "inactive";
}

/* Print that a state is the last one of a machine that does not report now. */
static void note_last_report(Client *c, Listing *machines, const Listing *states, const char *name) {
        for (size_t i = 0; i < states->n; i++) {
                const ApiState *s = &states->states[i];
                _cleanup_text_ Text t = {};
                const ApiMachine *m;

                if (!same_string(s->name, name) || !s->machine_id)
                        continue;
                client_load_machine(c, machines, s->machine_id, true);
                m = listing_machine(machines, s->machine_id);
                if (!m)
                        continue;
                append_machine_name(&t, machines, m->id);
                if (append_absence(&t, c, m))
                        client_note("%s: %s; the state is its last report", name, t.chars ?: "");
        }
}

/* Return 0 if one of the units is in the state, 4 if none of them exists; else 3 for is-active, and 1 for
 * is-failed. */
static int unit_is_run(Client *c, char **args, size_t n, Error *err) {
        const char *state = c->verb->name + strlen("is-");
        _cleanup_listing_ Listing states = {}, machines = {};
        bool any = false, exists = false;
        int r;

        r = TRY_VERB(client_states(c, NULL, &states, err), err, "Error retrieving unit: ");
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);
                _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
                const char *word = "unknown";

                r = TRY_VERB(name ? client_unit(c, name, &unit, err) : -ENOMEM, err,
                             "Error retrieving unit: ");
                if (r > 0)
                        word = state_of_all(&states, name);
                exists = exists || r > 0;
                any = any || (streq(state, "active") ? active_state_is_up(word) : streq(word, state));
                if (c->options.quiet)
                        continue;
                puts(word);
                /* The list of machines is long for a script that asks often. */
                if (client_is_interactive() && !client_note_template(c, name))
                        note_last_report(c, &machines, &states, name);
        }
        if (any)
                return EXIT_DONE;
        if (!exists)
                return EXIT_ABSENT;
        return streq(state, "active") ? EXIT_INACTIVE : EXIT_FAILED;
}

VERB(is_active, "is-active", "patterns-all", "UNIT...", "Check whether units are active",
     "Prints the state of each unit. Exit status 0 if one is active, 3 if none is, 4 if none exists.\n"
     "A global unit is active if it is active on all of its machines.\n",
     unit_is_run);

VERB(is_failed, "is-failed", "patterns-all", "UNIT...", "Check whether units have failed",
     "Prints the state of each unit. Exit status 0 if one has failed, 1 if none has, 4 if none exists.\n",
     unit_is_run);

VERB(kill, "kill", "remote patterns", "UNIT...", "Send a signal to the processes of units",
     "Runs systemctl kill on their machines.\n", remote_run);

VERB(list_dependencies, "list-dependencies", "remote patterns", "UNIT...",
     "Show the dependencies of units on their machines",
     "Runs systemctl list-dependencies, for a global unit on all of its machines.\n", remote_run);

VERB(reload, "reload", "remote patterns", "UNIT...", "Reload the configuration of units",
     "Runs systemctl reload on their machines.\n", remote_run);

VERB(reset_failed, "reset-failed", "remote patterns", "UNIT...", "Reset the failed state of units",
     "Runs systemctl reset-failed on their machines.\n", remote_run);

VERB(show, "show", "remote patterns", "UNIT...", "Show the properties of units on their machines",
     "fleetctl show -p MainPID,MemoryCurrent web.service\n", remote_run);

VERB(status, "status", "json remote patterns", "[UNIT...]",
     "Output the status of one or more units in the cluster",
     "Without a unit: the whole cluster on one screen; exit status 1 if there are problems. On a terminal,\n"
     "their descriptions are cut to its width.\n"
     "With units: runs systemctl status on their machines, and exits with its status. A global unit is\n"
     "shown for all of its machines.\n",
     remote_run);
