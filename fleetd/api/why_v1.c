/* /fleet/v1/why/NAME: the result of each scheduling rule for a unit on each machine. /fleet/v1/plan: where
 * units would be placed that are not submitted yet. /fleet/v1/plan/machines: which units a change of metadata
 * would move or stop. All use the table of rules of the engine, and change nothing. */
#include <errno.h>
#include <stdio.h>

#include "fleetd/api/fleet_v1.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"
#include "fleetd/scheduler/filters.h"
#include "units/name.h"

/* -- Why -- */

static void machine_write(Text *t, const SchedulerView *view, const ClusterUnit *u, const ClusterMachine *m,
                          const ClusterMachine *would) {
        const ClusterProblem *problem = TABLE_FIND(m->problems, u->name);
        const ClusterAssignment *order;
        const ClusterState *state, *seen; /* 'seen': of a machine that reports */
        const char *reason;
        SchedulerRule rule = RULE_NONE;
        Error why = {};
        bool up;

        HASH_FIND_STR(m->assignments, u->name, order);
        HASH_FIND_STR(m->states, u->name, state);
        seen = machine_is_there(m) ? state : NULL;
        up = state && m->presence == PRESENCE_UP;
        reason = order ? order->reason : NULL;
        if (u->unit)
                rule = scheduler_refusal(view, u, m,
                                         order && cluster_assignment_is_active(order) && machine_is_there(m),
                                         &why);
        json_open(t, NULL, '{');
        json_add_bool(t, "available", up && state->state.available);
        json_add_bool(t, "chosen", m == would);
        json_add_bool(t, "finished", state && state->state.done);
        json_add_bool(t, "fits", u->unit && rule == RULE_NONE);
        json_add_bool(t, "foreign", cluster_has_conflicting_unit(u, m));
        json_add_string(t, "health", seen ? state_health(seen) : NULL);
        json_add_string(t, "hostname", cluster_machine_hostname(m));
        json_add_string(t, "id", m->id);
        json_add_string(t, "job", seen ? seen->state.job : NULL);
        json_add_bool(t, "longLost", presence_is_omitted(m, scheduler_view_now_ms(view)));
        json_add_string(t, "order", order ? assignment_kind_to_string(order->kind) : NULL);
        json_add_string(t, "presence", presence_to_string(m->presence));
        /* A paused rollout is that of the unit, not a fault of the file: rollout_write_reason(). */
        json_add_string(t, "problem",
                        problem && problem->problem.kind != PROBLEM_PAUSED ? problem->problem.text : NULL);
        json_add_string(t, "reason", rule != RULE_NONE ? why.message : reason);
        json_add_string(t, "rule", rule != RULE_NONE ? scheduler_filters[rule].name : NULL);
        json_add_u64(t, "since", seen ? seen->state.since_ms : 0);
        json_add_string(t, "stateReason", seen ? seen->state.reason : NULL);
        json_add_string(t, "systemdActiveState", seen ? seen->state.active : NULL);
        json_add_string(t, "systemdLoadState", seen ? seen->state.load : NULL);
        json_add_string(t, "systemdSubState", seen ? seen->state.sub : NULL);
        json_add_u64(t, "units", m->load);
        json_add_string(t, "why", up ? state->state.why : NULL);
        json_close(t, '}');
}

enum { STEPS_MAX = 3 }; /* machines, of the steps */

static void step_write(Text *t, bool *any, const char *verb, const char *name) {
        _cleanup_text_ Text step = {};

        if (!*any)
                json_open(t, "steps", '[');
        *any = true;
        text_printf(&step, "%s %s", verb, name);
        json_add_string(t, NULL, step.chars);
        t->error = t->error ?: step.error;
}

/* Write what lets a machine run a unit that fits on none, without a change of its options: arguments of
 * fleetctl, the most direct ones first. */
static void steps_write(Text *t, const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                        ClusterMachine *const *machines, size_t n) {
        const Names *units = &u->unit->placement.machine_of;
        bool any = false, beside = false;
        _cleanup_text_ Text names = {};

        for (size_t i = 0, n_found = 0; i < n; i++) {
                beside |= scheduler_refusal(view, u, machines[i], false, NULL) == RULE_MACHINE_OF;
                if (n_found == STEPS_MAX || !scheduler_would_fit_uncordoned(view, u, machines[i]))
                        continue;
                step_write(t, &any, "uncordon", cluster_machine_name(machines[i]));
                n_found++;
        }
        for (size_t i = 0; beside && i < units->n; i++) {
                const ClusterUnit *other = cluster_unit(c, units->items[i]);

                if (!other || other->target == TARGET_INACTIVE)
                        text_printf(&names, "%s%s", names.size > 0 ? " " : "", units->items[i]);
        }
        if (names.size > 0) /* all of them are required */
                step_write(t, &any, "start", names.chars);
        if (any)
                json_close(t, ']');
        t->error = t->error ?: names.error;
}

void why_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterUnit *u = cluster_any_unit(c, request->rest);
        const ClusterMachine *where = NULL, *would = NULL;
        _cleanup_free_ ClusterMachine **machines = NULL;
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};
        bool waits;
        size_t n = 0;
        Error why = {};

        if (!cluster_unit_exists(u)) {
                request_error(request, 404, "unit does not exist");
                return;
        }
        machines = cluster_machines_sorted(c, &n);
        if (!machines || scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        unit_reason(request, view, u, &why);
        (void) cluster_current_state(c, u, &where);
        waits = !where && !cluster_unit_is_unreadable(u) && u->target != TARGET_INACTIVE &&
                !u->unit->placement.global && scheduler_pick(view, u, &would, NULL) == -ENOENT;

        json_open(&t, NULL, '{');
        json_add_string(&t, "desiredState",
                        cluster_unit_has_unreadable(u, LAYOUT_TARGET) ? NULL :
                                                                        target_state_to_string(u->target));
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
        json_add_string(&t, "name", u->name);
        json_add_string(&t, "reason", why.message);
        rollout_write_reason(&t, request, u);
        if (waits)
                steps_write(&t, c, view, u, machines, n);
        json_close(&t, '}');
        scheduler_view_free(view);
        request_answer_json(request, 200, &t);
}

/* -- Plan -- */

enum { PLAN_UNITS_MAX = 1000 };

/* Where a unit is that is to leave its machine. */
typedef struct DraftPosition {
        const ClusterMachine *machine; /* NULL: none */
        SchedulerRule rule;            /* that rejects the machine */
        Error unfit;
        size_t n_global; /* of a global unit: instances */
        bool stopped;    /* it stops there first, because no machine is free */
        bool moved;
} DraftPosition;

/* The units as they would be, and a scheduler view that includes them. */
typedef struct Draft {
        ClusterUnit *units;
        DraftPosition *positions; /* of the units */
        size_t n;
        SchedulerView *view;
        const Cluster *cluster;
        ClusterMachine **machines; /* by id */
        size_t n_machines;
} Draft;

static void draft_done(Draft *d) {
        scheduler_view_free(d->view);
        for (size_t i = 0; i < d->n; i++)
                unit_free(d->units[i].unit);
        free(d->units);
        free(d->positions);
        free(d->machines);
}

static int draft_add(Draft *d, const ApiUnit *said, size_t *steps, Error *err) {
        ClusterUnit *u = &d->units[d->n++];
        const char *name = said->name ?: "", *refused;
        const ClusterUnit *known;
        int r;

        r = unit_name_check(name, err);
        if (r < 0)
                return r;
        if (unit_name_is_refused(name, &refused))
                return error_set(err, -EINVAL, "%s", refused);
        r = api_unit_contents(name, said, &u->unit, err);
        if (r < 0)
                return r;
        r = unit_check(u->unit, steps, err);
        if (r < 0)
                return r;
        snprintf(u->name, sizeof(u->name), "%s", name);
        u->target = TARGET_LAUNCHED;
        known = cluster_unit(d->cluster, name);
        if (known)
                u->assignments = known->assignments; /* borrowed: a unit that is placed stays in preference */
        return 0;
}

static int draft_make(Draft *d, const Cluster *c, const ApiPage *page, Error *err) {
        size_t steps = 0;
        int r;

        d->cluster = c;
        d->units = NEW0(ClusterUnit, page->n + 1);
        d->positions = NEW0(DraftPosition, page->n + 1);
        d->machines = cluster_machines_sorted(c, &d->n_machines);
        if (!d->units || !d->positions || !d->machines || scheduler_view_new(c, c->now_ms, &d->view) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < page->n; i++) {
                r = draft_add(d, &page->units[i], &steps, err);
                if (r < 0)
                        return error_prefix(err, r, "%s", page->units[i].name ?: "");
        }
        return 0;
}

/* Write an entry. 'effect' NULL: no process of the unit gets another text where it is. */
static void entry_write_effect(Text *t, const ClusterUnit *u, const char *action, const char *effect,
                               const ClusterMachine *m, const char *reason) {
        json_open(t, NULL, '{');
        json_add_string(t, "action", action);
        json_add_string(t, "effect", effect);
        json_add_string(t, "hostname", m ? cluster_machine_hostname(m) : NULL);
        json_add_string(t, "machineID", m ? m->id : NULL);
        json_add_string(t, "name", u->name);
        json_add_string(t, "reason", reason);
        json_close(t, '}');
}

static void entry_write(Text *t, const ClusterUnit *u, const char *action, const ClusterMachine *m,
                        const char *reason) {
        entry_write_effect(t, u, action, NULL, m, reason);
}

/* Return the text of a unit that follows a template which was destroyed, other than the drafted one, and
 * without drop-ins of its own if there is one; NULL: none. */
static const Unit *draft_follower(const Draft *d, const ClusterUnit *u) {
        const Unit *other = NULL;
        UnitPosition at = {};
        size_t n = unit_name_is_template(u->name) ? unit_order_instances(&d->cluster->by_name, u->name, &at) :
                                                    0;

        for (; n > 0; n--) {
                const ClusterUnit *x = unit_order_next(&d->cluster->by_name, &at);

                if (!x || !x->unit || !x->unit->from || !streq(x->unit->from, u->name) ||
                    streq(x->unit->base, u->unit->hash))
                        continue;
                if (x->unit->own_size == 0)
                        return x->unit;
                other = other ?: x->unit;
        }
        return other;
}

/* Return the effect of the drafted text on the process of a unit that stays, or of a template on its
 * instances; NULL: it is the wanted text, or there is none. */
static const char *draft_effect(const Draft *d, const ClusterUnit *u) {
        const ClusterUnit *known = cluster_unit(d->cluster, u->name);
        const Unit *former = known ? known->unit : draft_follower(d, u);

        if (!former || unit_equal(former, u->unit))
                return NULL;
        return unit_effect_to_string(unit_effect(former, u->unit));
}

/* Return whether the engine stops a unit on the machine that this rule rejects. It does not stop the unit of
 * a machine that does not answer, nor one whose name a conflicting unit has. */
static bool draft_stops(const ClusterMachine *m, SchedulerRule rule) {
        return m->presence == PRESENCE_UP && rule != RULE_FOREIGN;
}

static int draft_global(Draft *d, const ClusterUnit *u, Text *t) {
        size_t placed = 0;
        Error why = {};
        int r;

        for (size_t i = 0; i < d->n_machines; i++) {
                const ClusterMachine *m = d->machines[i];
                bool stays = scheduler_view_has(d->view, m, u->name);
                SchedulerRule rule = scheduler_refusal(d->view, u, m, stays, &why);

                if (rule != RULE_NONE && stays && draft_stops(m, rule)) {
                        entry_write(t, u, "stop", m, why.message);
                        placed++;
                }
                if (rule != RULE_NONE)
                        continue;
                entry_write_effect(t, u, stays ? "stay" : "place", stays ? draft_effect(d, u) : NULL, m,
                                   "global");
                r = scheduler_view_decide(d->view, m, u, true);
                if (r < 0)
                        return r;
                placed++;
        }
        d->positions[u - d->units].n_global = placed;
        if (placed == 0) {
                scheduler_explain(d->view, u, NULL, &why);
                entry_write(t, u, "wait", NULL, why.message);
        }
        return 0;
}

/* No machine qualifies: a unit that is placed stops on 'where'. NULL: it waits. */
static void draft_without_machine(const Draft *d, const ClusterUnit *u, const ClusterMachine *where,
                                  const char *unfit, Text *t) {
        Error others = {}, why = {};

        scheduler_explain(d->view, u, where, &others);
        if (where)
                error_set(&why, 0, "%s no longer qualifies (%s); %s", cluster_machine_name(where), unfit,
                          others.message);
        entry_write(t, u, where ? "stop" : "wait", where, where ? why.message : others.message);
}

/* Plan a unit that is on no machine, or that its machine rejects. Return 1 if it waits for a machine in its
 * hold-off (flap damping): as in the engine, it stays meanwhile unless it is in conflict. */
static int draft_place(Draft *d, const ClusterUnit *u, DraftPosition *p, Text *t) {
        const ClusterMachine *where = p->machine, *to = NULL;
        Error why = {}, both = {};
        int r;

        r = scheduler_pick(d->view, u, &to, &why);
        if (r < 0 && r != -ENOENT && r != -EAGAIN)
                return r;
        if (r == -EAGAIN && p->rule != RULE_CONFLICTS) {
                entry_write(t, u, "wait", NULL, why.message);
                return 1;
        }
        if (r < 0) {
                draft_without_machine(d, u, where && draft_stops(where, p->rule) ? where : NULL,
                                      p->unfit.message, t);
                return 0;
        }
        p->moved = where != NULL;
        if (p->stopped)
                error_set(&both, 0,
                          "%s no longer qualifies (%s), and no other machine is free: it stops, and starts "
                          "when "
                          "another unit has left; %s",
                          cluster_machine_name(where), p->unfit.message, why.message);
        entry_write(t, u, where ? "move" : "place", to, p->stopped ? both.message : why.message);
        return to ? scheduler_view_decide(d->view, to, u, true) : 0;
}

static void draft_position(const Draft *d, const ClusterUnit *u, DraftPosition *ret) {
        const ClusterUnit *known = cluster_unit(d->cluster, u->name);

        *ret = (DraftPosition) { .rule = RULE_NONE };
        if (known)
                (void) cluster_current_state(d->cluster, known, &ret->machine);
        if (ret->machine)
                ret->rule = scheduler_refusal(d->view, u, ret->machine, true, &ret->unfit);
}

/* Find the units that stop because no machine is free for them; not more once the plan is too large. */
static void draft_find_stopped(Draft *d) {
        for (size_t i = 0; i < d->n && scheduler_view_work(d->view) <= PLAN_WORK_MAX; i++) {
                const ClusterUnit *u = &d->units[i];
                const ClusterMachine *to;
                DraftPosition p;

                if (unit_name_is_template(u->name) || u->unit->placement.global)
                        continue;
                draft_position(d, u, &p);
                if (!p.machine || p.rule == RULE_NONE || !draft_stops(p.machine, p.rule) ||
                    scheduler_pick(d->view, u, &to, NULL) != -ENOENT)
                        continue;
                p.stopped = true;
                d->positions[i] = p;
        }
}

static int draft_unit(Draft *d, size_t i, Text *t) {
        const ClusterUnit *u = &d->units[i];
        DraftPosition *p = &d->positions[i];
        Error why = {};

        if (unit_name_is_template(u->name)) {
                entry_write_effect(t, u, "keep", draft_effect(d, u), NULL,
                                   "a template runs nowhere; its instances do");
                return 0;
        }
        if (u->unit->placement.global)
                return draft_global(d, u, t);
        if (!p->stopped)
                draft_position(d, u, p);
        if (p->machine && p->rule == RULE_NONE && p->machine->presence != PRESENCE_LOST &&
            p->machine->presence != PRESENCE_LEFT) {
                error_set(&why, 0, "%s has it, and still qualifies", cluster_machine_name(p->machine));
                entry_write_effect(t, u, "stay", draft_effect(d, u), p->machine, why.message);
                return 0;
        }
        return draft_place(d, u, p, t);
}

static bool plan_is_too_large(Request *request, const Draft *draft) {
        if (scheduler_view_work(draft->view) <= PLAN_WORK_MAX)
                return false;
        request_error(request, 400,
                      "the plan compares too much (more than %d steps): plan fewer units at once",
                      PLAN_WORK_MAX);
        return true;
}

/* Plan the units that stop first, or the others. Units that stop or move leave their machines to those that
 * had to stop: two units exchange their machines. */
static int draft_units(Request *request, Draft *d, bool stopped, Text *t) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < d->n; i++)
                if (stopped && (d->positions[i].moved || d->positions[i].stopped))
                        r = scheduler_view_remove(d->view, d->positions[i].machine, &d->units[i]);
        for (size_t i = 0; r >= 0 && i < d->n; i++) {
                if (d->positions[i].stopped != stopped)
                        continue;
                if (plan_is_too_large(request, d))
                        return -E2BIG;
                r = draft_unit(d, i, t);
        }
        return r;
}

/* Return how many instances the set of a drafted unit has: those that follow a template, and those of the
 * draft. */
static size_t draft_instances(const Draft *d, size_t i) {
        const ClusterUnit *u = &d->units[i], *follower;
        UnitPosition at = {};
        size_t n, found = 0;

        if (!unit_name_is_template(u->name))
                return u->unit->placement.global ? d->positions[i].n_global : 1;
        n = unit_order_instances(&d->cluster->by_name, u->name, &at);
        scheduler_view_count_work(d->view, n + d->n);
        for (; n > 0; n--) {
                follower = unit_order_next(&d->cluster->by_name, &at);
                found += follower && follower->unit && follower->target == TARGET_LAUNCHED &&
                         follower->unit->from && streq(follower->unit->from, u->name);
        }
        for (size_t k = 0; k < d->n; k++) {
                _cleanup_free_ char *template = unit_name_template(d->units[k].name);

                found += template && !unit_name_is_template(d->units[k].name) && streq(template, u->name) &&
                         !cluster_unit(d->cluster, d->units[k].name) && unit_equal(d->units[k].unit, u->unit);
        }
        return found;
}

/* Write the steps of the rollout of a drafted text, and which of its bounds the set cannot satisfy: the
 * member that rollout_write_warnings() has written. */
static void draft_write_rollout(const ClusterUnit *u, const char *effect, size_t n, const Text *warnings,
                                Text *t) {
        const UpdatePolicy *policy = &u->unit->placement.update;

        json_open(t, NULL, '{');
        if (effect) {
                json_add_u64(t, "atATime", update_parallel(policy, (unsigned) n));
                json_add_string(t, "effect", effect);
                json_add_u64(t, "instances", n);
                json_add_u64(t, "leastMs", update_least_ms(policy, (unsigned) n));
        }
        json_add_string(t, "name", u->name);
        if (warnings->size > 0)
                text_printf(t, ",%s", warnings->chars);
        json_close(t, '}');
}

/* Below KV_LEVEL_UPDATES there are no rollouts. 0, or -E2BIG if the request is answered: it is too large. */
static int draft_write_rollouts(Request *request, const Draft *d, Text *t) {
        bool open = false;
        KvState state;

        kv_state(request->api->options.store, &state);
        if (state.level < KV_LEVEL_UPDATES)
                return 0;
        for (size_t i = 0; i < d->n; i++) {
                const ClusterUnit *u = &d->units[i];
                const char *effect = draft_effect(d, u);
                _cleanup_text_ Text warnings = {};
                size_t n = draft_instances(d, i);

                if (plan_is_too_large(request, d))
                        return -E2BIG;
                rollout_write_warnings(&warnings, u, n);
                t->error = t->error ?: warnings.error;
                if (n == 0 || (!effect && warnings.size == 0))
                        continue;
                if (!open)
                        json_open(t, "rollouts", '[');
                open = true;
                draft_write_rollout(u, effect, n, &warnings, t);
        }
        if (open)
                json_close(t, ']');
        return 0;
}

void plan_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_api_page_ ApiPage page = {};
        _cleanup_(draft_done) Draft draft = {};
        _cleanup_text_ Text t = {};
        Error err = {};
        int r;

        r = api_units_read(request->http->body, request->http->body_size, PLAN_UNITS_MAX, &page, &err);
        if (r == -E2BIG) {
                request_error(request, 400, "more than %d units in one plan", PLAN_UNITS_MAX);
                return;
        }
        if (r < 0) {
                request_error(request, request_status_of(r), "unable to decode body: %s",
                              error_text(&err, r));
                return;
        }
        r = draft_make(&draft, c, &page, &err);
        if (r < 0) {
                request_refuse(request, r, &err);
                return;
        }
        json_open(&t, NULL, '{');
        json_open(&t, "units", '[');
        draft_find_stopped(&draft);
        r = draft_units(request, &draft, false, &t);
        if (r >= 0)
                r = draft_units(request, &draft, true, &t);
        if (r == -E2BIG)
                return;
        json_close(&t, ']');
        if (draft_write_rollouts(request, &draft, &t) < 0)
                return;
        json_close(&t, '}');
        if (r < 0)
                t.error = r;
        request_answer_json(request, 200, &t);
}

/* -- Plan of metadata -- */

/* The metadata of the machines as it would be; by machine, in the order of the request. */
typedef struct DraftMetadata {
        struct {
                const ClusterMachine *machine;
                Pairs pairs;
        } * items;
        size_t n;
} DraftMetadata;

static void draft_metadata_done(DraftMetadata *all) {
        for (size_t i = 0; i < all->n; i++)
                pairs_done(&all->items[i].pairs);
        free(all->items);
}

static int draft_metadata_make(const Cluster *c, const MetadataPatch *patch, DraftMetadata *ret) {
        ret->items = calloc(patch->n + 1, sizeof(*ret->items));
        if (!ret->items)
                return -ENOMEM;
        for (size_t i = 0; i < patch->n; i++) {
                const MetadataChange *change = &patch->changes[i];
                const ClusterMachine *m = cluster_machine(c, change->machine);
                size_t k = 0;

                if (!m)
                        continue;
                while (k < ret->n && ret->items[k].machine != m)
                        k++;
                if (k == ret->n) {
                        ret->items[ret->n++].machine = m;
                        if (pairs_copy(&m->metadata, &ret->items[k].pairs) < 0)
                                return -ENOMEM;
                }
                if (pairs_set(&ret->items[k].pairs, change->key, *change->value ? change->value : NULL) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Return whether the engine may move or stop the unit. A unit that has finished stays assigned. */
static bool draft_may_leave(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return cluster_assignment_is_active(o) && o->of->unit && !cluster_unit_is_unreadable(o->of) &&
               o->of->target != TARGET_INACTIVE && !(s && s->state.done);
}

static int draft_compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Plan a unit that is on the machine. Return 1 if it leaves, 2 if it is to leave and waits. */
static int draft_leave(Draft *d, const ClusterMachine *m, const ClusterUnit *u, Text *t) {
        DraftPosition p = { .machine = m };
        int r = 0;

        p.rule = scheduler_refusal(d->view, u, m, true, &p.unfit);
        if (p.rule == RULE_NONE || !draft_stops(m, p.rule))
                return 0;
        if (u->unit->placement.global)
                entry_write(t, u, "stop", m, p.unfit.message);
        else
                r = draft_place(d, u, &p, t);
        if (r > 0)
                return 2;
        if (r == 0)
                r = scheduler_view_decide(d->view, m, u, false);
        return r < 0 ? r : 1;
}

/* Plan the units on a machine by their names, until no more leave: units follow others (MachineOf=). */
static int draft_machine(Request *request, Draft *d, const ClusterMachine *m, Text *t) {
        size_t n = HASH_COUNT(m->assignments), n_names = 0;
        _cleanup_free_ const char **names = NEW0(const char *, n + 1);
        bool again = true;

        if (!names)
                return -ENOMEM;
        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next)
                if (draft_may_leave(o))
                        names[n_names++] = o->unit;
        qsort(names, n_names, sizeof(*names), draft_compare_names);
        while (again) {
                again = false;
                for (size_t i = 0; i < n_names; i++) {
                        const ClusterUnit *u = names[i] ? cluster_unit(d->cluster, names[i]) : NULL;
                        int r;

                        if (!u || !scheduler_view_has(d->view, m, names[i]))
                                continue;
                        if (plan_is_too_large(request, d))
                                return -E2BIG;
                        r = draft_leave(d, m, u, t);
                        if (r < 0)
                                return r;
                        if (r == 2)
                                names[i] = NULL;
                        again = again || r == 1;
                }
        }
        return 0;
}

void plan_machines_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_(draft_metadata_done) DraftMetadata metadata = {};
        _cleanup_(metadata_patch_done) MetadataPatch patch = {};
        _cleanup_(draft_done) Draft draft = {};
        _cleanup_text_ Text t = {};
        ApiPage no_units = {};
        int r;

        if (!metadata_patch_read(request, &patch))
                return;
        r = draft_make(&draft, c, &no_units, NULL);
        if (r >= 0)
                r = draft_metadata_make(c, &patch, &metadata);
        for (size_t i = 0; r >= 0 && i < metadata.n; i++)
                scheduler_view_set_metadata(draft.view, metadata.items[i].machine, &metadata.items[i].pairs);
        json_open(&t, NULL, '{');
        json_open(&t, "units", '[');
        for (size_t i = 0; r >= 0 && i < metadata.n; i++)
                r = draft_machine(request, &draft, metadata.items[i].machine, &t);
        if (r == -E2BIG)
                return;
        json_close(&t, ']');
        json_close(&t, '}');
        if (r < 0)
                t.error = r;
        request_answer_json(request, 200, &t);
}
