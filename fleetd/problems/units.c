/* Problems of units: of their states, of files that have none, and of those that wait for a machine. */

#include "fleetd/engine/explain.h"
#include "fleetd/engine/rollout_budget.h"
#include "fleetd/problems/problems_internal.h"

enum {
        PLACING_MS = 10000, /* a unit that was assigned or changed since then may not be reported yet */
        MACHINES_MEASURED = 10000, /* the supported maximum: nothing breaks at these numbers */
        UNITS_MEASURED = 100000,
};

/* -- Limits of the cluster -- */

/* A host of an older version is normally upgraded. One that is lost may never be. */
static bool find_level(ProblemSearch *s, const ProblemRow *row) {
        unsigned level = s->state.level, known = s->state.level_max;
        const ClusterMachine *m = NULL;

        if (cluster_level(s->cluster, known, &m) > level || !problem_has_presence(m, PRESENCE_LOST) ||
            known <= level || problem_awaits(s, m))
                return false;
        s->subject = cluster_machine_label(m, s->place);
        return problems_add(s, row, "lost: it keeps the feature level at %u (%u is supported)", level, known);
}

static bool find_size(ProblemSearch *s, const ProblemRow *row) {
        size_t n_units = cluster_n_units(s->cluster), n = 0;

        for (size_t i = 0; i < s->n_machines; i++)
                n += !cluster_machine_is_removed(s->machines[i]) &&
                     !(s->machines[i]->presence == PRESENCE_LOST && problem_is_gone(s, s->machines[i]));
        if (n > MACHINES_MEASURED)
                (void) problems_add(s, row,
                                    "%zu machines are more than the supported %d: form several clusters", n,
                                    MACHINES_MEASURED);
        if (n_units > UNITS_MEASURED)
                (void) problems_add(s, row, "%zu units are more than the supported %d: form several clusters",
                                    n_units, UNITS_MEASURED);
        return false;
}

/* -- States -- */

static bool state_is(const ClusterState *on, const char *active) {
        return same_string(on->state.active, active);
}

/* Return whether systemd is about to restart the unit after a failure: only that has a reason. */
static bool state_is_restarting(const ClusterState *on) {
        return on->state.sub && starts_with(on->state.sub, "auto-restart") && on->state.reason &&
               *on->state.reason;
}

static bool state_is_up(const ClusterState *on) {
        return !on->state.done && active_state_is_up(on->state.active);
}

static bool unit_is_launched(const ClusterUnit *u) {
        return cluster_unit_exists(u) && !cluster_unit_has_unreadable(u, LAYOUT_TARGET) &&
               u->target == TARGET_LAUNCHED;
}

static bool unit_is_global(const ClusterUnit *u) {
        return u->unit && u->unit->placement.global;
}

/* Return whether the unit is on another machine now: a failure on this one is no present problem. */
static bool unit_has_left(const Cluster *c, const ClusterUnit *u, const ClusterMachine *m) {
        const ClusterMachine *where = NULL;

        if (!cluster_unit_exists(u) || unit_is_global(u))
                return false;
        (void) cluster_current_state(c, u, &where);
        return where && where != m;
}

static bool find_absent(ProblemSearch *s, const ProblemRow *row) {
        bool away = s->on->machine->presence == PRESENCE_AWAY;

        return state_is_up(s->on) && !cluster_unit_exists(s->unit) &&
               problems_add(s, row, "runs on %s%s, and is no unit of the cluster%s", s->place,
                            away ? ", which is away" : "",
                            away ? "; if it was destroyed, it stops when the machine is back" : "");
}

/* The journal has the line of a bad unit file. */
static bool find_load(ProblemSearch *s, const ProblemRow *row) {
        const char *load = s->on->state.load ?: "", *reason = s->on->state.reason ?: "";

        if (streq(load, "masked"))
                s->next = "status ";
        else if (!streq(load, "bad-setting") && !streq(load, "error"))
                return false;
        return problems_add(s, row, "systemd cannot load it on %s (%s)%s%s", s->place, load,
                            *reason ? ": " : "", reason);
}

/* Add "failed on NEWTON 2 min ago". */
static bool add_failure(ProblemSearch *s, const ProblemRow *row, const char *then) {
        const char *reason = s->on->state.reason ?: "";
        uint64_t since_ms = s->on->state.since_ms;

        text_printf(&s->what, "failed on %s", s->place);
        if (since_ms > 0)
                append_ago(&s->what, s->wall_ms - MIN(since_ms, s->wall_ms));
        return problems_add(s, row, "%s%s%s", then, *reason ? ": " : "", reason);
}

/* The problem of a paused rollout has the failure. */
static bool find_failed(ProblemSearch *s, const ProblemRow *row) {
        const ClusterUnit *head = s->unit->unit ? rollout_head(s->cluster, s->unit) : s->unit;

        if (!state_is(s->on, "failed"))
                return false;
        return unit_has_left(s->cluster, s->unit, s->on->machine) ||
               (head->rollout && rollout_is_paused_by(head->rollout, s->unit->name, s->on->machine->id)) ||
               add_failure(s, row, "");
}

/* All that is published of a fast loop: then its row has it. */
static bool find_restarting(ProblemSearch *s, const ProblemRow *row) {
        if (!state_is_restarting(s->on) || unit_has_left(s->cluster, s->unit, s->on->machine))
                return false;
        for (size_t i = 0; i < s->n_loops; i++)
                if (streq(s->loops[i].event.unit, s->unit->name) &&
                    streq(s->loops[i].event.machine, s->on->machine->id))
                        return false;
        return add_failure(s, row, ", and is restarted");
}

/* systemd did not execute the last start, or its host cannot prepare it or the next one. An unmet condition
 * is no failure. */
static bool find_start(ProblemSearch *s, const ProblemRow *row) {
        const UnitState *state = &s->on->state;

        if (state_code_is_of_inputs(state->code))
                return unit_is_launched(s->unit) &&
                       problems_add(s, row, "%s on %s: %s",
                                    state_is_up(s->on) ? "runs with its former content" : "is not started",
                                    s->place, state->reason ?: "");
        return state->job[0] && !streq(state->job, "condition") && !state->done &&
               state_is(s->on, "inactive") && (!cluster_unit_exists(s->unit) || unit_is_launched(s->unit)) &&
               problems_add(s, row, "systemd %s it on %s: %s",
                            streq(state->job, STATE_JOB_REFUSED) ? "refused to start" : "did not start",
                            s->place, state->reason && *state->reason ? state->reason : state->job);
}

/* A global unit runs on other machines, too: 'restart' would restart it there. */
static bool find_stopped(ProblemSearch *s, const ProblemRow *row) {
        VerdictCode code = s->on->state.code;
        const char *reason = s->on->state.reason ?: "";

        if (!unit_is_launched(s->unit) || code < VERDICT_STOPPED_BY_HAND || code > VERDICT_ENDED_ITSELF)
                return false;
        if (code == VERDICT_STOPPED_BY_HAND)
                text_printf(&s->what, "%s on %s", reason, s->place);
        else
                text_printf(&s->what, "is inactive on %s: %s", s->place, reason);
        if (code == VERDICT_STOPPED_FOR)
                s->next = "why ";
        else if (unit_is_global(s->unit)) {
                s->next = "";
                return problems_add(s, row, "; on that host: systemctl start %s", s->subject);
        }
        return problems_add(s, row, "%s", "");
}

static bool find_unhealthy(ProblemSearch *s, const ProblemRow *row) {
        const char *why = s->on->machine->presence == PRESENCE_UP ? s->on->state.why : NULL;

        return state_is_up(s->on) && same_string(cluster_state_health(s->on), "failing") &&
               problems_add(s, row, "is active on %s, and unhealthy: %s", s->place,
                            why ?: "a check is failing");
}

static bool find_loops(ProblemSearch *s, const ProblemRow *row) {
        for (size_t i = s->n_loops; i > 0; i--) {
                const ProblemLoop *loop = &s->loops[i - 1];
                const ClusterMachine *m = cluster_machine(s->cluster, loop->event.machine);
                const ClusterUnit *u = cluster_any_unit(s->cluster, loop->event.unit);
                const ClusterState *on = cluster_state_on(m, loop->event.unit);

                if (!m || !u || !unit_is_launched(u) || unit_has_left(s->cluster, u, m) ||
                    (on && state_is(on, "failed") && !presence_is_down(m->presence)))
                        continue;
                text_printf(&s->what, "restarts in a loop on %s: at least %llu times since ",
                            cluster_machine_label(m, s->place), (unsigned long long) loop->count);
                problems_append_clock(s, loop->first_ms, false);
                text_append(&s->what, ", last");
                append_ago(&s->what, s->wall_ms - MIN(loop->last_ms, s->wall_ms));
                s->subject = loop->event.unit;
                (void) problems_add(s, row, "%s", "");
        }
        return false;
}

/* -- Unit directories -- */

static bool find_file(ProblemSearch *s, const ProblemRow *row) {
        const Problem *p = &s->file->problem;
        const ClusterUnit *u = cluster_any_unit(s->cluster, s->subject);
        const char *text = p->text ?: "";
        size_t size = strlen(s->subject);
        bool other = p->kind == PROBLEM_REVERTED || p->kind == PROBLEM_PAUSED;

        if ((int) p->kind != row->what && !(other && row->what == PROBLEM_PAUSED))
                return false;
        if ((p->kind == PROBLEM_PAUSED && u && u->rollout && u->rollout->state == ROLLOUT_PAUSED) ||
            (p->confirmed && s->machine->presence == PRESENCE_UP)) /* it acts on it next */
                return true;
        if (starts_with(text, s->subject) && starts_with(text + size, ": ")) /* the list has the name */
                text += size + strlen(": ");
        text_append(&s->what, "file ");
        if (p->kind != PROBLEM_WARNED)
                text_printf(&s->what, "%s ", problem_kind_to_string(p->kind));
        return problems_add(s, row, "on %s: %.*s", s->place, (int) strcspn(text, "\n"), text);
}

/* -- Units that wait -- */

/* Return whether the unit is to be on the machine of a unit with target state inactive: it waits for it. */
static bool unit_follows_unloaded(const Cluster *c, const ClusterUnit *u) {
        const Names *names = u->unit ? &u->unit->placement.machine_of : &(const Names) {};

        for (size_t i = 0; i < names->n; i++) {
                const ClusterUnit *other = cluster_any_unit(c, names->items[i]);

                if (cluster_unit_exists(other) && !cluster_unit_has_unreadable(other, LAYOUT_TARGET) &&
                    other->target == TARGET_INACTIVE)
                        return true;
        }
        return false;
}

/* Return whether a unit on a machine needs no report: it has finished there, or was placed a moment ago. */
static bool unit_needs_no_report(const ProblemSearch *s, const ClusterUnit *u, const ClusterMachine *where) {
        const ClusterAssignment *a = cluster_assignment_on(where, u->name);

        return a && ((a->state && a->state->state.done && (!u->unit || unit_finishes(u->unit))) ||
                     (where->presence == PRESENCE_UP && s->cluster->now_ms < a->known_ms + PLACING_MS));
}

/* Units that a problem of the whole cluster holds back are not listed one by one. */
static bool find_waiting(ProblemSearch *s, const ProblemRow *row) {
        const ClusterUnit *u = s->unit;
        const ClusterMachine *where = NULL;
        Error why = {};

        if (!cluster_unit_exists(u) || u->target <= TARGET_INACTIVE || unit_is_global(u) ||
            unit_name_is_template(u->name) || cluster_unit_has_unreadable(u, LAYOUT_TARGET) ||
            s->cluster->adopting || cluster_current_state(s->cluster, u, &where) >= u->target)
                return false;
        if (where ? (s->brake.until_ms > 0 && where->presence == PRESENCE_LOST) ||
                            unit_needs_no_report(s, u, where) :
                    unit_follows_unloaded(s->cluster, u))
                return false;
        if (!s->counts && problems_view(s)) /* it may take long */
                (void) engine_explain_unit(s->view, u, s->brake_ms, s->wall_ms, &why);
        return problems_add(s, row, "%s%s", where ? "" : "not placed: ",
                            why.message[0] ? why.message :
                            where          ? "its machine does not report it" :
                                             "no machine yet");
}

/* clang-format off */
const ProblemRow problem_unit_rows[] = {
        { "level", SEVERITY_INFO, RIGHT_UNITS_SEE, ABOUT_CLUSTER, find_level, "cluster" },
        { "size", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_CLUSTER, find_size },
        { "absent", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_STATE, find_absent, "why " },
        { "load", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_STATE, find_load, "journal " },
        { "failed", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_STATE, find_failed, "journal " },
        { "restarting", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_STATE, find_restarting, "journal " },
        { "start", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_STATE, find_start, "why " },
        { "stopped", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_STATE, find_stopped, "restart " },
        { "unhealthy", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_STATE, find_unhealthy, "journal " },
        { "loop", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_CLUSTER, find_loops, "journal " },
        { "refused", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_FILE, find_file, "directory",
          PROBLEM_REFUSED },
        { "taken", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_FILE, find_file, "directory", PROBLEM_TAKEN },
        { "held", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_FILE, find_file, "directory", PROBLEM_HELD },
        { "warning", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_FILE, find_file, "directory",
          PROBLEM_WARNED },
        { "directory", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_FILE, find_file, "directory",
          PROBLEM_PAUSED },
        { "waiting", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_UNIT, find_waiting, "why " },
        {},
};
/* clang-format on */
