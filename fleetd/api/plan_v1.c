/* /fleet/v1/plan: where units would be placed that are not submitted yet. /fleet/v1/plan/machines: which
 * units a change of metadata would move or stop. Both use the table of rules of the engine, and change
 * nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/rollout.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"
#include "fleetd/scheduler/filters.h"
#include "units/name.h"

enum {
        PLAN_UNITS_MAX = 1000,
        INSTANCES_BYTES_MAX = 1024 * 1024,      /* texts of instances that follow a template */
        INSTANCES_WORK_MAX = PLAN_WORK_MAX / 2, /* beyond the work for the units of the request */
};

/* Where a unit is that is to leave its machine. */
typedef struct DraftPosition {
        const ClusterMachine *machine; /* NULL: none */
        SchedulerRule rule;            /* that rejects the machine */
        Error unfit;
        size_t n_global; /* of a global unit: instances */
        size_t n_new;    /* of a template: instances of the request with its text that do not exist yet */
        bool stopped;    /* it stops there first, because no machine is free */
        bool moved;
} DraftPosition;

/* The units as they would be, and a scheduler view that includes them. A new text has the greatest index. */
typedef struct Draft {
        ClusterUnit *units;       /* those of the request, then instances that follow a template of it */
        ClusterUnit *by_name;     /* table of these */
        DraftPosition *positions; /* of the units */
        size_t n, n_given;        /* 'n_given' are of the request */
        size_t n_options;         /* of the units of the request */
        size_t text_size;         /* of the instances */
        size_t instance_options;  /* of their texts */
        bool partial;             /* some instances are not planned: a limit */
        size_t given_work, spent; /* work of the scheduler for the units of the request; for the instances */
        SchedulerView *view;
        const Cluster *cluster;
        ClusterMachine **machines; /* by id */
        size_t n_machines;
} Draft;

static void draft_done(Draft *d) {
        scheduler_view_free(d->view);
        HASH_CLEAR(hh, d->by_name);
        for (size_t i = 0; i < d->n; i++)
                unit_free(d->units[i].unit);
        free(d->units);
        free(d->positions);
        free(d->machines);
}

/* Add the unit to the table, which does not have the name. 0 or -ENOMEM. */
static int draft_name(Draft *d, ClusterUnit *u) {
        HASH_ADD_STR(d->by_name, name, u);
        return TABLE_ADDED(u) ? 0 : -ENOMEM;
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
        if (TABLE_FIND(d->by_name, name))
                return error_set(err, -EINVAL, "named twice");
        r = api_unit_contents(name, said, &u->unit, err);
        if (r >= 0)
                r = units_count_options(u->unit, &d->n_options, err);
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
        u->index = known && unit_equal(known->unit, u->unit) ? known->index : UINT64_MAX;
        return draft_name(d, u);
}

/* Count the units of the request that are to follow a template of it. The instances that the cluster has
 * follow it already, or do not. 0 or -ENOMEM. */
static int draft_count_new(Draft *d) {
        for (size_t i = 0; i < d->n_given; i++) {
                const ClusterUnit *u = &d->units[i], *template;
                _cleanup_free_ char *name = NULL;

                if (!unit_name_is_instance(u->name) || cluster_unit(d->cluster, u->name))
                        continue;
                name = unit_name_template(u->name);
                if (!name)
                        return -ENOMEM;
                template = TABLE_FIND(d->by_name, name);
                if (template && unit_equal(u->unit, template->unit))
                        d->positions[template - d->units].n_new++;
        }
        return 0;
}

static int draft_make(Draft *d, const Cluster *c, const ApiPage *page, Error *err) {
        size_t steps = 0;
        int r;

        d->cluster = c;
        d->units = NEW0(ClusterUnit, page->n + PLAN_UNITS_MAX);
        d->positions = NEW0(DraftPosition, page->n + PLAN_UNITS_MAX);
        d->machines = cluster_machines_sorted(c, &d->n_machines);
        if (!d->units || !d->positions || !d->machines || scheduler_view_new(c, c->now_ms, &d->view) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < page->n; i++) {
                r = draft_add(d, &page->units[i], &steps, err);
                if (r < 0)
                        return error_prefix(err, r, "%s", page->units[i].name ?: "");
        }
        d->n_given = d->n;
        return draft_count_new(d);
}

/* Add an instance with the drafted text of its template, and its own drop-ins, if that text is valid. 0 or
 * -ENOMEM. */
static int draft_add_instance(Draft *d, const ClusterUnit *template, const ClusterUnit *instance) {
        ClusterUnit *u = &d->units[d->n];
        const Unit *text = template->unit;
        const UnitFile *file;
        int r = rollout_compose(template, instance, &u->unit);

        if (r == 0)
                r = unit_read(instance->name, text->text, text->text_size, &u->unit, NULL);
        file = &(u->unit ?: instance->unit)->file;
        d->instance_options += file->n_options + file->n_sections;
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        d->n++;
        d->text_size += u->unit->text_size;
        snprintf(u->name, sizeof(u->name), "%s", instance->name);
        u->target = instance->target;
        u->assignments = instance->assignments; /* borrowed */
        u->index = UINT64_MAX;
        return draft_name(d, u);
}

static bool draft_is_full(const Draft *d) {
        size_t n = d->n - d->n_given;

        return n >= PLAN_UNITS_MAX || n * (d->n_machines + 1) >= INSTANCES_WORK_MAX ||
               d->text_size >= INSTANCES_BYTES_MAX || d->instance_options >= OPTIONS_READ_MAX;
}

/* Add the instances that get the drafted text of a template: the text may exclude their machines. 0 or
 * -ENOMEM. */
static int draft_add_instances(Draft *d, const ClusterUnit *template) {
        const ClusterUnit *known = cluster_unit(d->cluster, template->name), *x;
        UnitPosition at = {};
        size_t n;
        int r = 0;

        if (!unit_name_is_template(template->name) || !known || !known->unit ||
            unit_equal(known->unit, template->unit))
                return 0;
        n = unit_order_instances(&d->cluster->by_name, template->name, &at);
        for (; n > 0 && r == 0 && !draft_is_full(d); n--) {
                x = unit_order_next(&d->cluster->by_name, &at);
                if (x && x->unit && x->unit->from && streq(x->unit->from, template->name) &&
                    x->target == TARGET_LAUNCHED && !cluster_unit_is_unreadable(x) &&
                    !TABLE_FIND(d->by_name, x->name))
                        r = draft_add_instance(d, template, x);
        }
        d->partial |= n > 0;
        return r;
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

                scheduler_view_count_work(d->view, 1);
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

        if (where && scheduler_is_bound(u, where))
                error_set(&others, 0, "it waits there (Move=no)");
        else
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

        r = where && scheduler_is_bound(u, where) && p->rule != RULE_MACHINE_OF ?
                    -ENOENT :
                    scheduler_pick(d->view, u, &to, &why);
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

/* Whether no further unit is planned. The limit of the instances is their own: the units of the request are
 * planned without them, too. */
static bool draft_is_exhausted(const Draft *d, size_t i) {
        return i < d->n_given ? scheduler_view_work(d->view) > PLAN_WORK_MAX :
                                scheduler_view_work(d->view) - d->given_work > INSTANCES_WORK_MAX;
}

/* Find the units from 'i' to 'end' that stop because no machine is free for them; not more once the plan is
 * too large. */
static void draft_find_stopped(Draft *d, size_t i, size_t end) {
        for (; i < end && !draft_is_exhausted(d, i); i++) {
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

static void draft_template(const Draft *d, const ClusterUnit *u, Text *t) {
        Error why = {};

        error_set(&why, 0, "a template runs nowhere; its instances do%s",
                  d->partial ? ", of which only some are planned here" : "");
        entry_write_effect(t, u, "keep", draft_effect(d, u), NULL, why.message);
}

/* An instance of a drafted template has an entry only if it does not stay. */
static int draft_unit(Draft *d, size_t i, Text *t) {
        const ClusterUnit *u = &d->units[i];
        DraftPosition *p = &d->positions[i];
        Error why = {};

        if (unit_name_is_template(u->name)) {
                draft_template(d, u, t);
                return 0;
        }
        if (u->unit->placement.global)
                return draft_global(d, u, t);
        if (!p->stopped)
                draft_position(d, u, p);
        if (p->machine && p->rule == RULE_NONE && !presence_is_down(p->machine->presence)) {
                if (i >= d->n_given)
                        return 0;
                error_set(&why, 0, "%s has it, and still qualifies", cluster_machine_name(p->machine));
                entry_write_effect(t, u, "stay", draft_effect(d, u), p->machine, why.message);
                return 0;
        }
        return draft_place(d, u, p, t);
}

static bool plan_is_too_large(Request *request, const Draft *draft) {
        if (scheduler_view_work(draft->view) - draft->spent <= PLAN_WORK_MAX)
                return false;
        request_error(request, 400,
                      "the plan compares too much (more than %d steps): plan fewer units at once",
                      PLAN_WORK_MAX);
        return true;
}

/* Plan the units from 'from' to 'end' that stop first, or the others. Units that stop or move leave their
 * machines to those that had to stop: two units exchange their machines. */
static int draft_units(Request *request, Draft *d, bool stopped, size_t from, size_t end, Text *t) {
        int r = 0;

        for (size_t i = from; r >= 0 && i < end; i++)
                if (stopped && (d->positions[i].moved || d->positions[i].stopped))
                        r = scheduler_view_remove(d->view, d->positions[i].machine, &d->units[i]);
        for (size_t i = from; r >= 0 && i < end; i++) {
                if (d->positions[i].stopped != stopped)
                        continue;
                if (i < d->n_given && plan_is_too_large(request, d))
                        return -E2BIG;
                if (!draft_is_exhausted(d, i))
                        r = draft_unit(d, i, t);
        }
        return r;
}

/* Plan the units of the request. 0 or an error; -E2BIG: the request is answered. */
static int draft_given(Request *request, Draft *d, Text *t) {
        int r;

        draft_find_stopped(d, 0, d->n_given);
        r = draft_units(request, d, false, 0, d->n_given, t);
        return r < 0 ? r : draft_units(request, d, true, 0, d->n_given, t);
}

/* Plan the instances of the templates of the request, which do not stop the units of the request. */
static int draft_followers(Request *request, Draft *d, Text *t) {
        int r;

        d->given_work = scheduler_view_work(d->view);
        draft_find_stopped(d, d->n_given, d->n);
        r = draft_units(request, d, false, d->n_given, d->n, t);
        if (r >= 0)
                r = draft_units(request, d, true, d->n_given, d->n, t);
        d->spent = scheduler_view_work(d->view) - d->given_work;
        return r;
}

/* Return how many instances the set of a drafted unit has: those that follow a template, and those of the
 * draft. */
static size_t draft_instances(const Draft *d, size_t i) {
        const ClusterUnit *u = &d->units[i], *follower;
        UnitPosition at = {};
        size_t n, found = d->positions[i].n_new;

        if (!unit_name_is_template(u->name))
                return u->unit->placement.global ? d->positions[i].n_global : 1;
        n = unit_order_instances(&d->cluster->by_name, u->name, &at);
        scheduler_view_count_work(d->view, n);
        for (; n > 0; n--) {
                follower = unit_order_next(&d->cluster->by_name, &at);
                found += follower && follower->unit && follower->target == TARGET_LAUNCHED &&
                         follower->unit->from && streq(follower->unit->from, u->name);
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
        for (size_t i = 0; i < d->n_given; i++) {
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
        for (size_t i = 0; r >= 0 && i < draft.n_given; i++)
                r = draft_add_instances(&draft, &draft.units[i]);
        json_open(&t, NULL, '{');
        json_open(&t, "units", '[');
        if (r >= 0)
                r = draft_given(request, &draft, &t);
        if (r >= 0)
                r = draft_followers(request, &draft, &t);
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

/* -- The plan of metadata -- */

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
        qsort(names, n_names, sizeof(*names), text_compare);
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
