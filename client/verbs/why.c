/* why: the state and the placement of units, explained. */

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/state_text.h"
#include "client/core/times.h"
#include "client/core/unit.h"
#include "client/verbs/events.h"
#include "client/verbs/overview.h"
#include "client/verbs/rollout_text.h"

enum {
        CONTINUED = 4,            /* columns before the rest of a line on a narrow terminal */
        RESTART_LOOP_MS = 120000, /* a unit restarts in a loop if its last restart is not older, */
        LOOP_COUNT = 5,           /* and this was one of as many */
};

/* Return whether the row counts restarts that continue. Of frequent ones, not all are published. */
static bool history_is_loop(const JsonValue *row) {
        Verdict v;

        row_verdict(row, &v);
        return (v.code == VERDICT_UNIT_RESTARTS || v.code == VERDICT_UNIT_RESTARTS_FAILED) &&
               member_number(row, "count") >= LOOP_COUNT &&
               member_number(row, "last") + RESTART_LOOP_MS >= clock_real_ms();
}

/* Append the loop on the machine named 'place': "restarts in a loop on beta: at least 9 times since 12:04,
 * last 2 s ago". */
static void history_append_loop(Text *t, const JsonValue *row, const char *place) {
        text_printf(t, "restarts in a loop on %s: at least %llu times since ", place,
                    (unsigned long long) member_number(row, "count"));
        append_clock(t, member_number(row, "first"), clock_real_ms(), false);
        text_append(t, ", last");
        append_age(t, member_number(row, "last"));
}

/* Print the loop in which the unit is restarted on the machine: between two failures, its state is that of
 * any other unit. */
static void print_loop(const View *v, const ApiState *s, const JsonValue *m) {
        for (size_t i = 0; i < v->n_history; i++) {
                const JsonValue *row = v->history[i];
                _cleanup_text_ Text t = {}, command = {};

                if (!history_is_loop(row) || !streq(member_text(row, "machine"), member_text(m, "id")))
                        continue;
                text_printf(&t, "%s ", s->name);
                history_append_loop(&t, row, state_place(m));
                text_printf(&command, "fleetctl journal %s", s->name);
                output_words_and(&t, "   ", &command, CONTINUED);
                return;
        }
}

/* Append the unit that prevents the start of this one on its machine, by the reason of its state; nothing if
 * there is none. */
static void append_cause(Text *t, const ApiState *s) {
        static const char before[] = "Unit ", after[] = " not found";
        const char *name = s->reason && starts_with(s->reason, before) ? s->reason + strlen(before) : "",
                   *end = strstr(name, after);

        if (end)
                text_append_bytes(t, name, (size_t) (end - name));
        else
                (void) state_is_stopped_for(s, t);
}

/* Append where the unit is that prevents the start of this one on the machine 'm', and the next step. */
static void append_way_to(Text *t, Client *c, const ApiState *s, const JsonValue *m, const char *cause) {
        const char *host = state_place(m);
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing machines = {};
        int r = client_unit(c, cause, &unit, NULL);

        if (r == -ENOMEM)
                t->error = r;
        else if (r == 0 && state_is_stopped_for(s, NULL))
                text_printf(t, "%s is a unit of %s alone; its state there: systemctl status %s", cause, host,
                            cause);
        else if (r > 0 && unit.desired_state == TARGET_INACTIVE)
                text_printf(t,
                            "%s is a unit of the cluster with target state inactive; to start it: fleetctl "
                            "start %s",
                            cause, cause);
        else if (r > 0 && unit.global)
                text_printf(t, "%s is global: fleetctl why %s", cause, cause);
        else if (r > 0 && same_string(unit.machine_id, member_text(m, "id")))
                text_printf(t, "%s is on %s, too: fleetctl why %s", cause, host, cause);
        else if (r > 0) {
                text_printf(t, "%s is a unit of the cluster", cause);
                if (unit.machine_id && *unit.machine_id) {
                        if (client_all_machines(c, &machines, NULL) == -ENOMEM)
                                t->error = -ENOMEM;
                        text_append(t, ", on ");
                        append_machine_name(t, &machines, unit.machine_id);
                }
                text_printf(t, "; to run %s on its machine: MachineOf=%s in [X-Fleet]", s->name, cause);
        }
}

/* Print a line, unless it is empty, and clear the text. */
static void print_words(Text *t) {
        if (t->size > 0 || t->error < 0)
                output_words(t, CONTINUED);
        text_clear(t);
}

static void print_cause(Client *c, const ApiState *s, const JsonValue *m) {
        _cleanup_text_ Text cause = {}, t = {};

        append_cause(&cause, s);
        if (cause.size > 0 && !streq(cause.chars, s->name))
                append_way_to(&t, c, s, m, cause.chars);
        t.error = MIN(t.error, cause.error);
        print_words(&t);
}

/* Print the state of the unit where it is assigned, and where it is in trouble; with the next step. */
static void print_states(Client *c, const View *v, const JsonValue *root) {
        bool global = member_bool(root, "global");

        JSON_EACH(m, json_value_member(root, "machines")) {
                const ApiState s = state_reported(root, m);
                bool here = streq(member_text(m, "id"), member_text(root, "machineID"));
                _cleanup_text_ Text t = {}, command = {};

                if (!state_is_stopped_for(&s, NULL)) /* the cause follows */
                        append_next_step(&command, &s, global ? member_name(m, "hostname") : NULL);
                if (command.size == 0 && streq(member_text(root, "desiredState"), "loaded") &&
                    same_string(s.active, "inactive"))
                        text_printf(&command, "fleetctl start %s", s.name);
                if (!s.active || (command.size == 0 && (global || !here) && !state_is_stopped_for(&s, NULL)))
                        continue;
                append_state(&t, &s, state_place(m));
                if (streq(member_text(m, "presence"), "away"))
                        text_append(&t, ", as last reported: the machine is away");
                if (state_next_step(&s) == NEXT_CORRECT ||
                    state_next_step(&s) == NEXT_HOST) { /* no single command */
                        text_printf(&t, "; %s", command.chars ?: "");
                        t.error = MIN(t.error, command.error);
                        output_words(&t, CONTINUED);
                } else
                        output_words_and(&t, command.size > 0 ? "   " : "", &command, CONTINUED);
                if (state_kind(&s) == STATE_RUNS || state_kind(&s) == STATE_CHANGING)
                        print_loop(v, &s, m);
                print_cause(c, &s, m);
        }
}

/* Print why unit directories do not apply their file of the unit. */
static void print_file_problems(const JsonValue *root) {
        JSON_EACH(m, json_value_member(root, "machines")) {
                const char *kind = member_text(m, "problemKind"); /* "": of an older daemon */
                _cleanup_text_ Text t = {};

                if (!*member_text(m, "problem"))
                        continue;
                text_printf(&t, "Its file on %s %s: %s (fleetctl directory)", state_place(m),
                            streq(kind, "warning") ? "has a warning" :
                            *kind                  ? "is not applied" :
                                                     "has a problem",
                            member_text(m, "problem"));
                output_words(&t, CONTINUED);
        }
}

/* Return whether the machine is lost, or was shut down: it runs nothing of which the cluster knows. */
static bool is_down(const JsonValue *m) {
        return streq(member_text(m, "presence"), "lost") || streq(member_text(m, "presence"), "left");
}

/* Append the state of its rollout and the requests that it waits for. 'next': "rollout resume NAME", for
 * example; "": none. */
static void append_rollout(Text *t, const char *rollout, const char *next) {
        const char *name = strrchr(next, ' ');

        if (*rollout)
                text_printf(t, "Its rollout: %s", rollout);
        if (*rollout && name)
                text_printf(t, "; to go on: fleetctl %s; to return: fleetctl revert%s", next, name);
}

/* Print where the unit is, or its target state. */
static void print_place(const JsonValue *root) {
        const char *name = member_text(root, "name"), *where = member_text(root, "machineID"),
                   *target = member_text(root, "desiredState"), *reason = member_text(root, "reason"),
                   *file = member_text(root, "file");
        const JsonValue *machines = json_value_member(root, "machines");
        _cleanup_text_ Text t = {};

        if (streq(member_text(root, "reasonKind"), API_REASON_INPUTS))
                reason = ""; /* print_inputs() has it */
        JSON_EACH(m, machines)
                if (*where && streq(member_text(m, "id"), where))
                        text_printf(&t, "%s %s %s%s%s", name, is_down(m) ? "was on" : "is on", state_place(m),
                                    *reason ? ": " : "", reason);
        if (json_value_member(root, "replicas"))
                append_replicas(&t, name, json_value_member(root, "replicas"));
        else if (unit_name_is_template(name))
                append_template(&t, name);
        else if (member_bool(root, "global"))
                text_printf(&t, "%s is global with target state %s: it runs on all machines that it fits.",
                            name, target);
        else if (!*where && streq(target, "inactive"))
                text_printf(&t, "%s has target state inactive; to start it: fleetctl start %s", name, name);
        else if (!*where && !*target)
                text_printf(&t, "%s: %s", name, reason);
        else if (!*where)
                text_printf(&t, "%s has target state %s and no machine%s%s", name, target,
                            *reason ? ": " : ".", reason);
        print_words(&t);
        if (*file)
                text_printf(&t, "Its file is %s on %s.", file, member_name(root, "fileHostname"));
        print_words(&t);
        append_rollout(&t, member_text(root, "rollout"), member_text(root, "rolloutNext"));
        print_words(&t);
        rollout_append_left(&t, root);
        print_words(&t);
        print_file_problems(root);
}

/* Return whether the machine is away, and stops the unit when it is back. A unit that is to run may do so on
 * another machine. */
static bool stops_later(const JsonValue *root, const JsonValue *m) {
        const char *target = member_text(root, "desiredState");
        const ApiState s = state_reported(root, m);

        return streq(member_text(m, "presence"), "away") && s.active &&
               (state_kind(&s) == STATE_RUNS || state_kind(&s) == STATE_CHANGING) &&
               ((*target && !streq(target, "launched")) ||
                assignment_kind_from_string(member_assignment(m)) == ASSIGNMENT_STOP);
}

/* Return what the unit does on a machine. */
static const char *assignment_words(const JsonValue *root, const JsonValue *m) {
        static const char *const words[] = { [ASSIGNMENT_LOAD] = "; assigned to be loaded here",
                                             [ASSIGNMENT_RUN] = "; assigned to run here",
                                             [ASSIGNMENT_STOP] = "; assigned to stop here" };
        AssignmentKind kind = assignment_kind_from_string(member_assignment(m));

        if (member_bool(m, "finished"))
                return "; it has ended here successfully";
        if (stops_later(root, m))
                return "; assigned to stop here";
        if (is_down(m) && (kind == ASSIGNMENT_RUN || kind == ASSIGNMENT_LOAD))
                return member_bool(root, "global") ?
                               "; its assignment remains" :
                               "; its assignment remains until another machine takes over, or this one is "
                               "back";
        if (kind >= 0 && (size_t) kind < ELEMENTS(words) && words[kind])
                return words[kind];
        return member_bool(m, "chosen") ? "; it would be chosen next" : "";
}

/* Print why a machine is chosen or excluded. A fitting machine has its load, the tie-breaker, instead of the
 * reason that print_place() has printed. */
static void print_machine(const JsonValue *root, const JsonValue *m, size_t width) {
        const char *assignment = member_assignment(m), *reason = member_text(m, "reason");
        _cleanup_text_ Text t = {};
        bool fits = member_bool(m, "fits");

        if (fits && streq(reason, member_text(root, "reason")))
                reason = "";
        text_printf(&t, "  %-*s  %s%s%s", (int) width, state_place(m), fits ? "yes" : "no",
                    *reason ? ": " : "", reason);
        if (fits && !*reason && !*assignment) {
                unsigned long long n = member_number(m, "units");

                text_printf(&t, ", it has %llu unit%s", n, plural(n));
        }
        text_append(&t, assignment_words(root, m));
        output_words(&t, width + strlen("    "));
}

/* Return whether the machine has been lost for so long that it gets no line of its own, unless it has the
 * unit. */
static bool is_long_lost(const JsonValue *m) {
        return member_bool(m, "longLost") && !*member_assignment(m) && !member_bool(m, "finished");
}

/* Print "2 machines lost for more than an hour, or replaced: gamma, delta". */
static void print_long_lost(const JsonValue *machines) {
        _cleanup_text_ Text names = {};
        size_t n = 0;

        JSON_EACH(m, machines)
                if (is_long_lost(m))
                        text_printf(&names, "%s%s", n++ > 0 ? ", " : "", state_place(m));
        if (n > 0)
                printf("  %zu machine%s lost for more than an hour, or replaced: %s\n", n, plural(n),
                       names.chars ?: "");
}

/* Return whether a machine reports the unit as active, or in transition. */
static bool is_running_anywhere(const JsonValue *root) {
        JSON_EACH(item, json_value_member(root, "machines")) {
                const ApiState s = state_reported(root, item);

                if (s.active && (state_kind(&s) == STATE_RUNS || state_kind(&s) == STATE_CHANGING))
                        return true;
        }
        return false;
}

/* Print how a unit that no machine may run gets one: the steps of the daemon, and changes of its options if
 * these are the cause. */
static void print_way(Client *c, const JsonValue *root) {
        const JsonValue *steps = json_value_member(root, "steps"),
                        *options = json_value_member(root, "options"),
                        *missing = json_value_member(root, "missing"),
                        *down = json_value_member(root, "down");
        const char *name = member_text(root, "name"), *template = member_text(root, "from"), *sep = "";
        bool metadata = false, option = false, later = false;
        _cleanup_text_ Text t = {}, edit = {};

        if (*member_text(root, "machineID") || member_bool(root, "global") ||
            streq(member_text(root, "desiredState"), "inactive"))
                return;
        JSON_EACH(m, json_value_member(root, "machines")) {
                const char *rule = member_text(m, "rule");

                if (member_bool(m, "fits"))
                        return;
                later = later || streq(rule, "FlapDamping"); /* after losses */
                metadata = metadata || streq(rule, "MachineMetadata");
                option = option || streq(rule, "MachineID") || streq(rule, "MachineOf") ||
                         (streq(rule, "Conflicts") && !*member_text(m, "ruleOf"));
        }
        if (json_value_count(steps) + json_value_count(options) + json_value_count(down) == 0 && !metadata &&
            !option && !later)
                return;
        text_append(&t, "To place it: ");
        if (later) {
                text_append(&t, "wait until a machine gets new units again");
                sep = ", or ";
        }
        for (size_t i = 0; i < json_value_count(down); i++, sep = ", or ") {
                const JsonValue *host = json_value_item(down, i);

                text_printf(&t, "%sbring the host %s up", sep, member_text(host, "name"));
                if (member_bool(host, "cordoned"))
                        text_printf(&t, ", then fleetctl uncordon %s", member_text(host, "name"));
        }
        for (size_t i = 0; i < json_value_count(steps); i++, sep = ", or ")
                text_printf(&t, "%sfleetctl %s", sep, json_value_string(json_value_item(steps, i)) ?: "");
        for (size_t i = 0; i < json_value_count(missing); i++, sep = ", or ")
                text_printf(&t, "%sfleetctl submit %s", sep,
                            json_value_string(json_value_item(missing, i)) ?: "");
        if (*member_text(root, "file"))
                text_printf(&edit, "correct %s on %s", member_text(root, "file"),
                            member_text(root, "fileHostname"));
        else
                text_printf(&edit, "fleetctl edit %s", *template ? template : name);
        for (size_t i = 0; i < json_value_count(options); i++, sep = ", or ")
                text_printf(&t, "%s%s: %s", sep, text_chars(&edit),
                            json_value_string(json_value_item(options, i)) ?: "");
        if (metadata || option)
                text_printf(&t, "%s%s", sep, text_chars(&edit));
        text_append(&t, metadata ? ", or fleetctl machine set HOST KEY=VALUE" : "");
        output_words(&t, CONTINUED);
        JSON_EACH(item, missing)
                (void) client_suggest_unit(c, json_value_string(item) ?: "");
}

/* Print which machines that are away stop the unit when they are back. */
static void print_pending_stops(const JsonValue *root) {
        const JsonValue *machines = json_value_member(root, "machines");
        const char *target = member_text(root, "desiredState");
        bool wanted = !*target || streq(target, "launched");

        JSON_EACH(m, machines) {
                _cleanup_text_ Text t = {};

                if (!stops_later(root, m))
                        continue;
                if (!wanted)
                        text_printf(&t, "Its target state is %s: ", target);
                text_printf(&t, "%s is away, and stops it when it is back, if it still runs there.",
                            state_place(m));
                output_words(&t, CONTINUED);
        }
}

/* Print where the unit stays with its data, or that it may move without. */
static void print_data(const JsonValue *root) {
        const JsonValue *data = json_value_member(root, "data");
        _cleanup_text_ Text t = {};

        if (!data || (!*member_text(root, "machineID") &&
                      verdict_code(member_text(data, "code")) == VERDICT_STAYS_WITH_DATA))
                return; /* on no machine, it waits for that one */
        text_printable(&t, "%s: %s", member_text(root, "name"), member_text(data, "reason"));
        print_words(&t);
}

/* Print why the unit has no content of its inputs, or not the present one, with the next step. */
static void print_inputs(const JsonValue *root) {
        const JsonValue *inputs = json_value_member(root, "inputs");
        _cleanup_text_ Text t = {}, command = {};

        if (!*member_text(inputs, "problem"))
                return;
        text_printable(&t, "%s: %s%s", member_text(root, "name"), member_text(inputs, "problem"),
                       member_number(inputs, "number") > 0 ? "; its former content is in force" : "");
        if (*member_text(inputs, "command"))
                text_printable(&command, "fleetctl %s", member_text(inputs, "command"));
        output_words_and(&t, command.size > 0 ? "   " : "", &command, CONTINUED);
}

static void print_why(Client *c, const JsonValue *root) {
        const JsonValue *machines = json_value_member(root, "machines");
        size_t n = json_value_count(machines), width = 0;
        _cleanup_(view_done) View v = {};

        if (is_running_anywhere(root))
                (void) view_read_history(c, &v, member_text(root, "name"), VIEW_RECENT_MS, VIEW_RECENT_MAX,
                                         NULL);
        for (size_t i = 0; i < n; i++)
                if (!is_long_lost(json_value_item(machines, i)))
                        width = MAX(width, strlen(state_place(json_value_item(machines, i))));
        print_states(c, &v, root);
        print_place(root);
        print_data(root);
        print_inputs(root);
        print_pending_stops(root);
        if (unit_name_is_template(member_text(root, "name")))
                return;
        for (size_t i = 0; i < n; i++)
                if (!is_long_lost(json_value_item(machines, i)))
                        print_machine(root, json_value_item(machines, i), width);
        print_long_lost(machines);
        print_way(c, root);
        if (streq(member_text(root, "reasonKind"), API_REASON_HELD))
                client_note_awaited(c, "until then, no unit is started");
}

static int why_run(Client *c, char **args, size_t n, Error *err) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_reply_ Reply reply = {};
                _cleanup_text_ Text path = {};
                int r;

                if (!name)
                        return -ENOMEM;
                r = TRY(client_find(c, "GET", client_path_of(&path, "/fleet/v1/why/", name, ""), &reply,
                                    err));
                if (r == 0) {
                        status = client_note_absent(c, name);
                        continue;
                }
                TRY_DONE(client_take_answer(c, &reply, &root, err));
                if (root)
                        print_why(c, root);
        }
        return status;
}

VERB(why, "why", "patterns-all json", "UNIT...", "Explain the state and the placement of units",
     "Prints the state of the unit with its last error and the next step, then each machine with the\n"
     "rule that excludes it. Exit status 4 if a unit does not exist.\n",
     why_run);
