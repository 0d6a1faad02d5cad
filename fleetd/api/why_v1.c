/* /fleet/v1/why/NAME: the result of each scheduling rule for a unit on each machine, by the table of rules of
 * the engine. Changes nothing. */

#include "base/parse.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/ways.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"
#include "fleetd/scheduler/filters.h"
#include "units/name.h"

/* A paused rollout is that of the unit, not a fault of the file (Component.write_why). On a confirmed
 * problem, its machine acts next. */
static bool problem_is_reported(const ClusterProblem *p, const ClusterMachine *m) {
        return p && p->problem.kind != PROBLEM_PAUSED && p->problem.kind != PROBLEM_UNOWNED &&
               (!p->problem.confirmed || m->presence != PRESENCE_UP);
}

/* Return the unit whose Conflicts= excludes 'u' from the machine; NULL: none, or that of 'u' does, too. */
static const ClusterUnit *conflict_of_other(const SchedulerView *view, const ClusterUnit *u,
                                            const ClusterMachine *m) {
        const ClusterUnit *other = scheduler_conflict_on(view, u, m);
        const Names *own = &u->unit->placement.conflicts;

        for (size_t i = 0; other && i < own->n; i++)
                if (glob_match(own->items[i], other->name))
                        return NULL;
        return other;
}

static void machine_write(Text *t, const SchedulerView *view, const ClusterUnit *u, const ClusterMachine *m,
                          const ClusterMachine *would) {
        const ClusterProblem *problem = TABLE_FIND(m->problems, u->name);
        const ClusterAssignment *order = cluster_assignment_on(m, u->name);
        const char *assignment = order ? assignment_kind_to_string(order->kind) : NULL;
        const ClusterState *state, *seen; /* 'seen': of a machine that reports */
        char buffer[CLUSTER_LABEL_SIZE];
        const char *label = cluster_machine_label(m, buffer);
        const ClusterUnit *other = NULL;
        SchedulerRule rule = RULE_NONE;
        Error why = {};
        bool up;

        HASH_FIND_STR(m->states, u->name, state);
        seen = !presence_is_down(m->presence) ? state : NULL;
        up = state && m->presence == PRESENCE_UP;
        if (u->unit)
                rule = scheduler_refusal(
                        view, u, m,
                        order && cluster_assignment_is_active(order) && !presence_is_down(m->presence), &why);
        if (rule == RULE_CONFLICTS)
                other = conflict_of_other(view, u, m);
        json_open(t, NULL, '{');
        json_add_string(t, "assignment", assignment);
        json_add_bool(t, "available", up && state->state.available);
        json_add_bool(t, "chosen", m == would);
        json_add_bool(t, "finished", state && state->state.done);
        json_add_bool(t, "fits", u->unit && rule == RULE_NONE);
        json_add_bool(t, "foreign", cluster_has_conflicting_unit(u, m));
        json_add_string(t, "health", seen ? cluster_state_health(seen) : NULL);
        json_add_string(t, "hostname", cluster_machine_hostname(m));
        json_add_string(t, "id", m->id);
        json_add_string(t, "job", seen ? seen->state.job : NULL);
        json_add_string(t, "label", streq(label, cluster_machine_name(m)) ? NULL : label);
        json_add_bool(t, "longLost", presence_is_omitted(m, scheduler_view_now_ms(view)));
        json_add_string(t, "order", assignment); /* for former clients */
        json_add_string(t, "presence", presence_to_string(m->presence));
        if (problem_is_reported(problem, m)) {
                json_add_string(t, "problem", problem->problem.text);
                json_add_string(t, "problemKind", problem_kind_to_string(problem->problem.kind));
        }
        if (rule == RULE_FOREIGN && state && state->state.reason) /* names the file of the other unit */
                json_add_string(t, "reason", state->state.reason);
        else if (rule != RULE_NONE)
                json_add_string(t, "reason", why.message);
        else if (order)
                verdict_add_message(t, "reason", &order->why);
        json_add_string(t, "rule", rule != RULE_NONE ? scheduler_filters[rule].name : NULL);
        json_add_string(t, "ruleOf", other ? other->name : NULL);
        json_add_u64(t, "since", seen ? seen->state.since_ms : 0);
        json_add_string(t, "stateReason", seen ? seen->state.reason : NULL);
        json_add_string(t, "stateReasonCode", seen ? verdict_rows[seen->state.code].name : NULL);
        json_add_string(t, "systemdActiveState", seen ? seen->state.active : NULL);
        json_add_string(t, "systemdLoadState", seen ? seen->state.load : NULL);
        json_add_string(t, "systemdSubState", seen ? seen->state.sub : NULL);
        json_add_u64(t, "units", m->load);
        json_add_string(t, "why", up ? state->state.why : NULL);
        json_close(t, '}');
}

/* Write as "missing" the units of MachineOf= that the cluster does not have. */
static void missing_write(Text *t, const Cluster *c, const ClusterUnit *u) {
        const Names *units = &u->unit->placement.machine_of;
        size_t list = json_open_list(t, "missing");

        for (size_t i = 0; i < units->n; i++) {
                if (cluster_unit_exists(cluster_unit(c, units->items[i])))
                        continue;
                json_add_string(t, NULL, units->items[i]);
        }
        json_close_list(t, list);
}

static void why_write_components(Text *t, const Request *request, const ClusterUnit *u) {
        const Component *const *c = request->api->host->components;

        for (; c && *c; c++)
                if ((*c)->write_why)
                        (*c)->write_why(t, request, u);
}

unsigned why_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = cluster_any_unit(c, request->rest);
        const ClusterMachine *where = NULL, *would = NULL;
        _cleanup_free_ ClusterMachine **machines = NULL;
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};
        bool waits;
        size_t n = 0;
        const char *kind;
        Error why = {};

        if (!cluster_unit_exists(u))
                return error_set(err, 404, "unit does not exist");
        machines = cluster_machines_sorted(c, &n);
        if (!machines || scheduler_view_new(c, c->now_ms, &view) < 0)
                return error_set(err, 500, "out of memory");
        kind = request_explain(request, view, u, &why);
        (void) cluster_current_state(c, u, &where);
        waits = !where && !cluster_unit_is_unreadable(u) && cluster_unit_is_wanted(u) &&
                !u->unit->placement.global && scheduler_pick(view, u, &would, NULL) == -ENOENT;

        json_open(&t, NULL, '{');
        json_add_string(&t, "desiredState",
                        cluster_unit_has_unreadable(u, LAYOUT_TARGET) ? NULL :
                                                                        target_state_to_string(u->target));
        if (waits)
                ways_write_down(&t, view, u, machines, n);
        json_add_string(&t, "file", u->unit && u->unit->owner ? u->unit->path : NULL);
        json_add_string(&t, "fileHostname",
                        u->unit && u->unit->owner ? cluster_name_of(c, u->unit->owner) : NULL);
        json_add_string(&t, "from", u->unit ? u->unit->from : NULL);
        json_add_bool(&t, "global", u->unit && u->unit->placement.global);
        json_add_string(&t, "machineID", where ? where->id : NULL);
        json_open(&t, "machines", '[');
        for (size_t i = 0; i < n; i++)
                if (machines[i] == where || !cluster_machine_is_removed(machines[i]))
                        machine_write(&t, view, u, machines[i], where ?: would);
        json_close(&t, ']');
        if (waits)
                missing_write(&t, c, u);
        json_add_string(&t, "name", u->name);
        if (waits)
                ways_write_options(&t, view, u, machines, n);
        json_add_string(&t, "reason", why.message);
        json_add_string(&t, "reasonKind", kind);
        why_write_components(&t, request, u);
        if (waits)
                ways_write_steps(&t, c, view, u, machines, n);
        json_close(&t, '}');
        scheduler_view_free(view);
        return request_answer_json(request, 200, &t);
}
