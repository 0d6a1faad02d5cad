#include "client/web/view.h"

#include "client/core/machines.h"
#include "client/core/state_text.h"
#include "client/core/times.h"
#include "client/verbs/events.h"
#include "client/verbs/rollout_text.h"

enum {
        WEB_EVENTS = 100,
        WEB_CLOCK_SLACK_MS =
                2000, /* the answers have times of when they were made, not of when they arrive */
};

/* The classes of marks, the most urgent one first. */
typedef enum WebClass {
        WEB_BAD,
        WEB_WARN,
        WEB_INFO,
        WEB_OK,
        WEB_OFF,
} WebClass;

static const char *const web_class_names[] = {
        [WEB_BAD] = "bad", [WEB_WARN] = "warn", [WEB_INFO] = "info", [WEB_OK] = "ok", [WEB_OFF] = "off",
};

void web_answers_done(WebAnswers *a) {
        view_done(&a->view);
        listing_done(&a->units);
        listing_done(&a->states);
        json_value_free(a->rollouts);
        json_value_free(a->reboots);
        *a = (WebAnswers) {};
}

void web_answers_set_clock(WebAnswers *a, int64_t former_ms) {
        const JsonValue *cluster = a->view.cluster;
        int64_t now_ms = (int64_t) a->now_ms - (int64_t) member_number(cluster, "time") -
                         1000 * (int64_t) member_number(cluster, "staleSec"),
                change = now_ms - former_ms;

        a->clock_ms = former_ms != 0 && change < WEB_CLOCK_SLACK_MS && change > -WEB_CLOCK_SLACK_MS ?
                              former_ms :
                              now_ms;
}

/* -- Members -- */

void web_add(Text *t, const char *name, const char *value) {
        _cleanup_text_ Text printable = {};

        text_append_printable(&printable, value ?: "");
        t->error = MIN(t->error, printable.error);
        json_add_string_always(t, name, text_chars(&printable));
}

void web_add_number(Text *t, const char *name, uint64_t value) {
        json_begin(t, name);
        text_append_u64(t, value);
}

static void web_add_text(Text *t, const char *name, const Text *value) {
        t->error = MIN(t->error, value->error);
        web_add(t, name, text_chars(value));
}

static void web_add_class(Text *t, WebClass class) {
        json_add_string_always(t, "c", web_class_names[class]);
}

static void web_add_machine(Text *t, const char *member, const Listing *machines, const char *id) {
        _cleanup_text_ Text name = {};

        if (id && *id)
                append_machine_name(&name, machines, id);
        web_add_text(t, member, &name);
}

/* -- Problems -- */

/* A problem of a warning's severity is shown as a failure if something does not run, or is gone. */
static WebClass web_problem_class(const JsonValue *p) {
        static const char *const failures[] = { "absent",     "failed", "load",    "loop",      "lost",
                                                "restarting", "start",  "stopped", "unhealthy", "voter" };
        const char *severity = member_text(p, "severity");

        if (streq(severity, "info"))
                return WEB_INFO;
        return streq(severity, "critical") || IS_AMONG(member_text(p, "kind"), failures) ? WEB_BAD : WEB_WARN;
}

/* Return what the name is of. */
static const char *web_problem_object(const WebAnswers *a, const JsonValue *p) {
        const char *name = member_text(p, "name");
        const ApiMachine *m;

        if (listing_unit(&a->units, name))
                return "unit";
        return listing_find_machine(&a->view.machines, name, &m) > 0 ? "machine" : "cluster";
}

static void web_add_problems(Text *t, const WebAnswers *a) {
        json_open(t, "problems", '[');
        for (size_t i = 0; i < a->view.n_problems; i++) {
                const JsonValue *p = a->view.problems[i];

                json_open(t, NULL, '{');
                web_add_class(t, web_problem_class(p));
                web_add(t, "of", web_problem_object(a, p));
                web_add(t, "name", member_text(p, "name"));
                web_add(t, "what", member_text(p, "description"));
                web_add(t, "command", member_text(p, "command"));
                json_close(t, '}');
        }
        json_close(t, ']');
}

static int web_compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The names of problems that make a unit a problem, sorted. 'names' has space for all. */
static size_t web_problem_names(const WebAnswers *a, const char **names) {
        size_t n = 0;

        for (size_t i = 0; i < a->view.n_problems; i++)
                if (web_problem_class(a->view.problems[i]) != WEB_INFO)
                        names[n++] = member_text(a->view.problems[i], "name");
        if (n > 0)
                qsort(names, n, sizeof(*names), web_compare_names);
        return n;
}

/* -- What is under way -- */

static void web_add_work(Text *t, const char *of, const char *name, const char *what, const char *command) {
        json_open(t, NULL, '{');
        web_add(t, "of", of);
        web_add(t, "name", name);
        web_add(t, "what", what);
        web_add(t, "command", command);
}

static void web_end_work(Text *t, uint64_t done, uint64_t total) {
        web_add_number(t, "done", done);
        web_add_number(t, "total", total);
        json_close(t, '}');
}

static void web_add_rollout(Text *t, const JsonValue *r) {
        const char *name = member_text(r, "name"), *why = member_text(r, "why");
        _cleanup_text_ Text what = {}, command = {};

        rollout_append_label(&what, r);
        text_append(&what, ": ");
        rollout_append_summary(&what, r);
        if (*why)
                text_printf(&what, "; %s", why);
        text_printf(&command, "fleetctl rollout %s%s",
                    rollout_is(r, "held")   ? "promote " :
                    rollout_is(r, "paused") ? "resume " :
                                              "",
                    name);
        t->error = MIN(t->error, MIN(what.error, command.error));
        web_add_work(t, "rollout", name, text_chars(&what), text_chars(&command));
        web_end_work(
                t, member_number(r, "available") + member_number(r, "loaded") + member_number(r, "finished"),
                member_number(r, "of"));
}

/* Add a machine that gets no units, or reboots: its state, and the reason. */
static void web_add_host_work(Text *t, const char *of, const JsonValue *m, const char *state,
                              const char *command) {
        const char *name = member_text(m, "name"), *reason = member_text(m, "reason");
        _cleanup_text_ Text what = {}, whole = {};

        text_printf(&what, "%s%s%s", member_text(m, state), *reason ? ": " : "", reason);
        text_printf(&whole, "fleetctl %s%s", command, ends_with(command, " ") ? name : "");
        t->error = MIN(t->error, MIN(what.error, whole.error));
        web_add_work(t, of, name, text_chars(&what), text_chars(&whole));
        web_end_work(t, 0, 0);
}

static void web_add_under_way(Text *t, const WebAnswers *a) {
        json_open(t, "work", '[');
        JSON_EACH(r, json_value_member(a->rollouts, "rollouts"))
                web_add_rollout(t, r);
        for (size_t i = 0; i < a->units.n; i++) {
                const ApiUnit *u = &a->units.units[i];
                _cleanup_text_ Text command = {};

                if (!u->name || !same_string(u->reason_kind, API_REASON_MOVING))
                        continue;
                text_printf(&command, "fleetctl why %s", u->name);
                web_add_work(t, "unit", u->name, u->reason, text_chars(&command));
                web_end_work(t, 0, 0);
        }
        JSON_EACH(m, json_value_member(a->reboots, "reboots"))
                web_add_host_work(t, "reboot", m, "state", "reboot --status");
        JSON_EACH(m, json_value_member(a->view.cluster, "maintenance"))
                web_add_host_work(t, "machine", m, "mode",
                                  streq(member_text(m, "mode"), "draining") ? "drain " : "uncordon ");
        json_close(t, ']');
}

/* -- Machines -- */

static WebClass web_machine_class(const ApiMachine *m) {
        const char *presence = m->presence ?: "up";

        if (streq(presence, "lost"))
                return WEB_BAD;
        if (streq(presence, "left"))
                return WEB_OFF;
        if (streq(presence, "away"))
                return WEB_WARN;
        return m->maintenance || m->reboot ? WEB_INFO : WEB_OK;
}

static void web_add_machines(Text *t, const WebAnswers *a) {
        json_open(t, "machines", '[');
        for (size_t i = 0; i < a->view.machines.n; i++) {
                const ApiMachine *m = &a->view.machines.machines[i];
                _cleanup_text_ Text meta = {};

                for (size_t k = 0; k < m->metadata.n; k++)
                        text_printf(&meta, "%s%s=%s", k > 0 ? "," : "", m->metadata.items[k].key,
                                    m->metadata.items[k].value);
                json_open(t, NULL, '{');
                web_add(t, "id", m->id);
                web_add_machine(t, "name", &a->view.machines, m->id);
                web_add_class(t, web_machine_class(m));
                web_add(t, "role", m->role && *m->role ? m->role : m->kind);
                web_add(t, "presence", presence_word(m->presence ?: "up"));
                web_add_number(t, "since", m->since_ms > 0 ? m->since_ms + (uint64_t) a->clock_ms : 0);
                web_add(t, "badge", m->reboot && !streq(m->reboot, "queued") ? m->reboot : m->maintenance);
                web_add_text(t, "meta", &meta);
                json_close(t, '}');
        }
        json_close(t, ']');
}

/* -- Units -- */

void web_append_state(Text *t, const ApiState *s) {
        const char *active = s->active && *s->active ? s->active : "inactive", *sub = s->sub ?: "";

        if (s->finished)
                text_append(t, "finished");
        else if (state_kind(s) == STATE_TROUBLE && !streq(active, "failed") && !state_is_restarting(s))
                text_append(t, state_cannot_load(s->load) ? "not loaded" :
                               s->job                     ? "not started" :
                                                            "stopped");
        else if (*sub && !streq(sub, active))
                text_printf(t, "%s (%s)", active, sub);
        else
                text_append(t, active);
}

/* Return the class of a unit on a machine (NULL: the list does not have it). */
static WebClass web_state_class(const ApiUnit *u, const ApiState *s, const ApiMachine *m, bool has_problem) {
        if (m && m->presence && !streq(m->presence, "up"))
                return WEB_WARN;
        switch (state_kind(s)) {
        case STATE_TROUBLE:
                return WEB_BAD;
        case STATE_ENDED:
                return WEB_OFF;
        case STATE_CHANGING:
                return has_problem ? WEB_BAD : WEB_INFO;
        case STATE_INACTIVE:
                if (has_problem)
                        return WEB_BAD;
                return u->desired_state == TARGET_LAUNCHED ? WEB_INFO : WEB_OFF;
        case STATE_RUNS:
                break;
        }
        if (state_is_unhealthy(s) || has_problem)
                return WEB_BAD;
        return same_string(s->health, "starting") || same_string(u->reason_kind, API_REASON_MOVING) ?
                       WEB_INFO :
                       WEB_OK;
}

/* Begin the row of a unit. 'on' is the ID of its machine; "" or NULL: none. */
static void web_add_unit(Text *t, const WebAnswers *a, const ApiUnit *u, WebClass class, const char *state,
                         const char *on) {
        json_open(t, NULL, '{');
        web_add(t, "name", u->name);
        web_add_class(t, class);
        web_add(t, "state", state);
        web_add_machine(t, "machine", &a->view.machines, on);
        web_add(t, "on", on);
}

static void web_end_unit(Text *t, uint64_t since_ms, const char *health) {
        web_add_number(t, "since", since_ms);
        web_add(t, "health", health);
        json_close(t, '}');
}

/* Add the row of a unit of which no machine reports a state. */
static void web_add_silent(Text *t, const WebAnswers *a, const ApiUnit *u, bool has_problem) {
        const ApiMachine *m = listing_machine(&a->view.machines, u->machine_id);
        bool placed = u->machine_id && *u->machine_id, finished = unit_has_finished(u);

        if (finished || u->desired_state <= TARGET_INACTIVE)
                web_add_unit(t, a, u, has_problem ? WEB_BAD : WEB_OFF, finished ? "finished" : "inactive",
                             u->machine_id);
        else if (!placed && !u->global)
                web_add_unit(t, a, u, WEB_WARN, "waiting", NULL);
        else if (m && m->presence && !streq(m->presence, "up"))
                web_add_unit(t, a, u, WEB_WARN, "unknown", u->machine_id);
        else
                web_add_unit(t, a, u,
                             has_problem ? WEB_BAD :
                             u->global   ? WEB_OFF :
                                           WEB_INFO,
                             u->global ? "on no machine" : "assigned", u->machine_id);
        web_end_unit(t, 0, NULL);
}

static void web_add_units(Text *t, const WebAnswers *a) {
        _cleanup_free_ const char **problems = NEW0(const char *, a->view.n_problems + 1);
        size_t n_problems = problems ? web_problem_names(a, problems) : 0;

        t->error = problems ? t->error : -ENOMEM;
        json_open(t, "units", '[');
        for (size_t i = 0; i < a->units.n; i++) {
                const ApiUnit *u = &a->units.units[i];
                bool has_problem = u->name && n_problems > 0 &&
                                   bsearch(&u->name, problems, n_problems, sizeof(*problems),
                                           web_compare_names);
                const ApiState *s;
                size_t at = 0;

                if (!u->name || unit_name_is_template(u->name))
                        continue;
                s = listing_next_state(&a->states, u->name, &at);
                if (!s)
                        web_add_silent(t, a, u, has_problem);
                for (; s; s = listing_next_state(&a->states, u->name, &at)) {
                        const ApiMachine *m = listing_machine(&a->view.machines, s->machine_id);
                        _cleanup_text_ Text state = {};

                        web_append_state(&state, s);
                        t->error = MIN(t->error, state.error);
                        web_add_unit(t, a, u, web_state_class(u, s, m, has_problem), text_chars(&state),
                                     s->machine_id);
                        web_end_unit(t, s->since_ms, s->health);
                }
        }
        json_close(t, ']');
}

/* -- Events -- */

void web_add_events(Text *t, JsonValue *const *rows, size_t n, const Listing *machines, const char *machine,
                    size_t max) {
        json_open(t, "events", '[');
        for (size_t i = n; i > 0 && max > 0; i--) {
                const char *on = member_text(rows[i - 1], "machine");
                EventRow row;

                if (!*member_text(rows[i - 1], "kind") || (machine && !streq(on, machine)))
                        continue;
                if (event_row_read(rows[i - 1], "", 0, &row) < 0) {
                        t->error = -ENOMEM;
                        break;
                }
                max--;
                json_open(t, NULL, '{');
                web_add_number(t, "at", row.last_ms);
                web_add(t, "unit", row.unit);
                web_add_machine(t, "machine", machines, row.machine);
                web_add(t, "what", row.text);
                web_add_number(t, "count", row.count);
                json_close(t, '}');
                event_row_done(&row);
        }
        json_close(t, ']');
}

/* -- The view -- */

/* Append the text of the banner: what makes the data itself doubtful. */
static void web_append_notice(Text *t, const WebAnswers *a) {
        const JsonValue *cluster = a->view.cluster;
        uint64_t stale_ms = 1000 * member_number(cluster, "staleSec");

        if (stale_ms == 0)
                return;
        text_append(t, "No leader for ");
        append_span(t, stale_ms);
        text_printf(t, ": %s shows its own copy, of ", member_text(cluster, "name"));
        append_clock(t, a->now_ms - MIN(a->now_ms, stale_ms), a->now_ms, true);
        text_append(t, ". Units are not affected.");
}

/* Return how many more voters may be lost. */
static uint64_t web_can_lose(const WebAnswers *a) {
        size_t n = 0, n_reachable = 0;

        JSON_EACH(m, json_value_member(a->view.cluster, "voters")) {
                n += member_is_voter(m);
                n_reachable += member_is_voter(m) && member_bool(m, "reachable");
        }
        return n_reachable > n / 2 ? n_reachable - n / 2 - 1 : 0;
}

/* Return what "status" prints about a host that the cluster has removed; NULL: it has not. */
static const char *web_removed(const WebAnswers *a) {
        for (size_t i = 0; i < a->view.n_problems; i++)
                if (streq(member_text(a->view.problems[i], "kind"), "removed"))
                        return member_text(a->view.problems[i], "description");
        return NULL;
}

void web_view_append(Text *t, const WebAnswers *a, const char *notice) {
        static const WebAnswers none;
        const char *removed = a ? web_removed(a) : NULL;
        const JsonValue *cluster = a ? a->view.cluster : NULL;
        const char *name = member_text(json_value_member(cluster, "settings"), "name");
        _cleanup_text_ Text doubt = {};

        if (a)
                web_append_notice(&doubt, a);
        t->error = MIN(t->error, doubt.error);
        web_add(t, "notice", notice ?: removed ?: text_chars(&doubt));
        web_add(t, "cluster", *name ? name : "fleet");
        web_add(t, "host", member_text(cluster, "name"));
        web_add(t, "leader", removed ? "" : member_name(json_value_member(cluster, "leader"), "name"));
        web_add_number(t, "staleMs", 1000 * member_number(cluster, "staleSec"));
        if (!a || removed)
                a = &none;
        web_add_number(t, "canLose", web_can_lose(a));
        web_add_problems(t, a);
        web_add_under_way(t, a);
        web_add_machines(t, a);
        web_add_units(t, a);
        web_add_events(t, a->view.history, a->view.n_history, &a->view.machines, NULL, WEB_EVENTS);
        json_close(t, '}');
}

/* -- The figures -- */

static void web_add_cell(Text *t, const char *name, const UsageRow *row, UsageColumn column) {
        _cleanup_text_ Text cell = {};

        usage_append_cell(&cell, row, column);
        t->error = MIN(t->error, cell.error);
        if (row->cells[column].known == USAGE_KNOWN)
                web_add(t, name, text_chars(&cell));
}

/* Add the share of a machine that is in use, for a meter. */
static void web_add_meter(Text *t, const char *name, const UsageCell *cell) {
        int share = usage_share(cell);
        char text[16];

        if (share < 0)
                return;
        snprintf(text, sizeof(text), "%d %%", share / 10);
        json_open(t, name, '{');
        json_begin(t, "part");
        text_printf(t, "%d.%03d", share / 1000, share % 1000);
        web_add(t, "text", text);
        json_close(t, '}');
}

void web_usage_done(WebUsage *u) {
        free(u->id);
        usage_free(u->former);
        usage_free(u->now);
        text_done(&u->note);
}

void web_usage_append(Text *t, const WebUsage *u) {
        UsageRow row = {};

        if (u->now)
                usage_row(u->former, u->now, NULL, &row);
        json_open(t, NULL, '{');
        web_add(t, "id", u->id);
        web_add_text(t, "note", &u->note);
        web_add_meter(t, "cpu", &row.cells[USAGE_COLUMN_CPU]);
        web_add_meter(t, "memory", &row.cells[USAGE_COLUMN_MEMORY]);
        web_add_meter(t, "disk", &row.cells[USAGE_COLUMN_DISK]);
        json_open(t, "units", '[');
        for (size_t i = 0; u->now && i < u->now->n_units; i++) {
                usage_row(u->former, u->now, &u->now->units[i], &row);
                json_open(t, NULL, '{');
                web_add(t, "name", u->now->units[i].name);
                web_add_cell(t, "cpu", &row, USAGE_COLUMN_CPU);
                web_add_cell(t, "memory", &row, USAGE_COLUMN_MEMORY);
                web_add_cell(t, "io", &row, USAGE_COLUMN_IO);
                web_add_cell(t, "tasks", &row, USAGE_COLUMN_TASKS);
                web_add_cell(t, "pressure", &row, USAGE_COLUMN_PRESSURE);
                json_close(t, '}');
        }
        json_close(t, ']');
        json_close(t, '}');
}
