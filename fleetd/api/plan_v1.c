/* The units of a plan as they would be. It uses the table of rules of the engine, and changes nothing. */

#include "fleetd/api/plan_v1.h"
#include "fleetd/engine/rollout_budget.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"

enum {
        INSTANCES_BYTES_MAX = 1024 * 1024,      /* texts of instances that follow a template */
        INSTANCES_WORK_MAX = PLAN_WORK_MAX / 2, /* beyond the work for the units of the request */
        GLOBAL_MAX = 100,                       /* machines of a global unit at a time */
        GLOBAL_WORK = 50,                       /* to write one of them */
        MACHINE_WORK = 4,                       /* of a machine in a new scheduler view */
};

void draft_done(Draft *d) {
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

/* Let the unit have the place that the cluster knows of its name. All is borrowed: a unit that is placed
 * stays in preference, and one with data returns to that. */
static void draft_borrow(const Draft *d, ClusterUnit *u) {
        const ClusterUnit *known = cluster_any_unit(d->cluster, u->name);

        LIST_INIT(&u->assignments);
        if (known && known->unit)
                u->assignments = known->assignments;
        u->data = known ? known->data : NULL;
        u->data_index = known ? known->data_index : 0;
        u->sticky = cluster_unit_is_sticky(d->cluster, u);
}

static int draft_read(Draft *d, const ApiUnit *said, Error *err) {
        ClusterUnit *u = &d->units[d->n++];
        const char *name = said->name ?: "", *refused;
        const ClusterUnit *known;
        int r;

        TRY(unit_name_check(name, err));
        if (unit_name_is_refused(name, &refused))
                return error_set(err, -EINVAL, "%s", refused);
        if (TABLE_FIND(d->by_name, name))
                return error_set(err, -EINVAL, "named twice");
        r = api_unit_contents(name, said, &u->unit, err);
        if (r >= 0)
                r = units_count_options(u->unit, &d->n_options, err);
        if (r < 0)
                return r;
        TRY(unit_check(u->unit, &d->steps, err));
        snprintf(u->name, sizeof(u->name), "%s", name);
        u->target = TARGET_LAUNCHED;
        known = cluster_unit(d->cluster, name);
        draft_borrow(d, u);
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

/* The instances of global units that were decided are not kept: there may be one on each machine. */
int draft_renew(Draft *d, const Cluster *c) {
        size_t work = d->view ? scheduler_view_work(d->view) : 0;
        int r = 0;

        d->cluster = c;
        d->view = scheduler_view_free(d->view);
        free(d->machines);
        d->machines = cluster_machines_sorted(c, &d->n_machines);
        if (!d->machines || scheduler_view_new(c, c->now_ms, &d->view) < 0)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < d->n; i++) {
                ClusterUnit *u = &d->units[i];
                DraftPosition *p = &d->positions[i];
                const ClusterMachine *to = p->to[0] ? cluster_machine(c, p->to) : NULL;

                draft_borrow(d, u);
                p->machine = p->id[0] ? cluster_machine(c, p->id) : NULL;
                if (p->gone && p->machine)
                        r = scheduler_view_remove(d->view, p->machine, u);
                if (r >= 0 && to)
                        r = scheduler_view_decide(d->view, to, u, true);
        }
        scheduler_view_set_work(d->view, work);
        d->work += MACHINE_WORK * d->n_machines + d->n;
        return MIN(r, 0);
}

/* Return how many instances of the templates of the request the plan may have. */
static size_t draft_count_instances(const Cluster *c, const ApiPage *page) {
        UnitPosition at = {};
        size_t n = 0;

        for (size_t i = 0; i < page->n && n < PLAN_UNITS_MAX; i++)
                if (page->units[i].name && unit_name_is_template(page->units[i].name))
                        n += unit_order_instances(&c->by_name, page->units[i].name, &at);
        return MIN(n, (size_t) PLAN_UNITS_MAX);
}

int draft_begin(Draft *d, const Cluster *c, const ApiPage *page) {
        d->capacity = page->n + draft_count_instances(c, page);
        d->units = NEW0(ClusterUnit, d->capacity + 1);
        d->positions = NEW0(DraftPosition, d->capacity + 1);
        return d->units && d->positions ? draft_renew(d, c) : -ENOMEM;
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
        draft_borrow(d, u);
        u->index = UINT64_MAX;
        return draft_name(d, u);
}

static bool draft_is_full(const Draft *d) {
        size_t n = d->n - d->n_given;

        return d->n >= d->capacity || n * (d->n_machines + 1) >= INSTANCES_WORK_MAX ||
               d->text_size >= INSTANCES_BYTES_MAX || d->instance_options >= OPTIONS_READ_MAX;
}

/* Add the next instance of a unit. 1, 0 after the last one, or -ENOMEM. */
static int draft_add_instance_of(Draft *d, const ClusterUnit *template) {
        const ClusterUnit *known = cluster_unit(d->cluster, template->name), *x;
        size_t size = strcspn(template->name, "@") + 1;
        const UnitOrder *all = &d->cluster->by_name;
        UnitPosition at = {};

        if (!unit_name_is_template(template->name) || !known || !known->unit ||
            unit_equal(known->unit, template->unit) || unit_order_instances(all, template->name, &at) == 0)
                return 0;
        if (strncmp(d->after, template->name, size) == 0 &&
            unit_order_prefix(all, d->after, strlen(d->after) + 1, &at) > 0)
                (void) unit_order_next(all, &at);
        x = unit_order_next(all, &at);
        if (!x || strncmp(x->name, template->name, size) != 0)
                return 0;
        d->partial |= draft_is_full(d);
        if (d->partial)
                return 0;
        snprintf(d->after, sizeof(d->after), "%s", x->name);
        if (x->unit && x->unit->from && streq(x->unit->from, template->name) &&
            x->target == TARGET_LAUNCHED && !cluster_unit_is_unreadable(x) &&
            !TABLE_FIND(d->by_name, x->name))
                return draft_add_instance(d, template, x) < 0 ? -ENOMEM : 1;
        return 1;
}

int draft_add(Draft *d, const ApiPage *page, Error *err) {
        const ApiUnit *said = &page->units[d->n_given];
        int r;

        if (d->n_given < page->n) {
                r = draft_read(d, said, err);
                d->n_given++;
                return r < 0 ? error_prefix(err, r, "%s", said->name ?: "") : 1;
        }
        if (d->n_followed == d->n_given)
                return draft_count_new(d);
        r = draft_add_instance_of(d, &d->units[d->n_followed]);
        d->n_followed += r == 0;
        return r < 0 ? r : 1;
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
        size_t *placed = &d->positions[u - d->units].n_global, n = 0;
        Error why = {};

        for (size_t i = 0; i < d->n_machines; i++) {
                const ClusterMachine *m = d->machines[i];

                if (strcmp(m->id, d->after) <= 0)
                        continue;
                if (n++ == GLOBAL_MAX)
                        return 1;
                memcpy(d->after, m->id, sizeof(m->id));
                d->work += GLOBAL_WORK;

                bool stays = scheduler_view_has(d->view, m, u->name);
                SchedulerRule rule = scheduler_refusal(d->view, u, m, stays, &why);

                if (scheduler_view_is_spent(d->view))
                        return -E2BIG;
                if (rule != RULE_NONE && stays && draft_stops(m, rule)) {
                        entry_write(t, u, "stop", m, why.message);
                        ++*placed;
                }
                if (rule != RULE_NONE)
                        continue;
                entry_write_effect(t, u, stays ? "stay" : "place", stays ? draft_effect(d, u) : NULL, m,
                                   "global");
                TRY(scheduler_view_decide(d->view, m, u, true));
                ++*placed;
        }
        if (*placed == 0) {
                scheduler_explain(d->view, u, NULL, &why);
                entry_write(t, u, "wait", NULL, why.message);
        }
        return 0;
}

/* No machine qualifies: a unit that is placed stops on 'where'. NULL: it waits. */
static void draft_without_machine(const Draft *d, const ClusterUnit *u, const ClusterMachine *where,
                                  const char *unfit, Text *t) {
        Error others = {}, why = {};

        if (where && scheduler_is_bound(u, where) && u->unit->placement.move == PLACEMENT_STAYS)
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
        if (r == -EAGAIN && !scheduler_is_conflict(p->rule)) {
                entry_write(t, u, "wait", NULL, why.message);
                return 1;
        }
        if (r < 0) {
                draft_without_machine(d, u, where && draft_stops(where, p->rule) ? where : NULL,
                                      p->unfit.message, t);
                return 0;
        }
        p->moved = where != NULL;
        if (to)
                memcpy(p->to, to->id, sizeof(p->to));
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
                memcpy(ret->id, ret->machine->id, sizeof(ret->id));
        if (ret->machine)
                ret->rule = scheduler_refusal(d->view, u, ret->machine, true, &ret->unfit);
}

bool draft_is_exhausted(const Draft *d, size_t i) {
        return i < d->n_given ? scheduler_view_work(d->view) > PLAN_WORK_MAX :
                                scheduler_view_work(d->view) - d->given_work > INSTANCES_WORK_MAX;
}

void draft_find_stopped(Draft *d, size_t i) {
        const ClusterUnit *u = &d->units[i];
        const ClusterMachine *to;
        DraftPosition p;

        if (draft_is_exhausted(d, i) || unit_name_is_template(u->name) || u->unit->placement.global)
                return;
        draft_position(d, u, &p);
        if (!p.machine || p.rule == RULE_NONE || !draft_stops(p.machine, p.rule) ||
            scheduler_pick(d->view, u, &to, NULL) != -ENOENT)
                return;
        p.stopped = true;
        d->positions[i] = p;
}

static void draft_template(const Draft *d, const ClusterUnit *u, Text *t) {
        Error why = {};

        error_set(&why, 0, "a template runs nowhere; its instances do%s",
                  d->partial ? ", of which only some are planned here" : "");
        entry_write_effect(t, u, "keep", draft_effect(d, u), NULL, why.message);
}

int draft_unit(Draft *d, size_t i, Text *t) {
        const ClusterUnit *u = &d->units[i];
        DraftPosition *p = &d->positions[i];
        Error why = {};
        int r;

        if (unit_name_is_template(u->name)) {
                draft_template(d, u, t);
                return 0;
        }
        if (u->unit->placement.global)
                return draft_global(d, u, t);
        if (!p->stopped)
                draft_position(d, u, p);
        if (p->machine && p->rule == RULE_NONE && !presence_is_down(p->machine->presence)) {
                memcpy(p->to, p->id, sizeof(p->to));
                TRY(scheduler_view_decide(d->view, p->machine, u, true)); /* what it requests now counts */
                if (i >= d->n_given)
                        return 0;
                error_set(&why, 0, "%s has it, and still qualifies", cluster_machine_name(p->machine));
                entry_write_effect(t, u, "stay", draft_effect(d, u), p->machine, why.message);
                return 0;
        }
        r = draft_place(d, u, p, t);
        return MIN(r, 0);
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

void plan_write_warnings(Text *t, const ClusterUnit *head, size_t n) {
        const Placement *p = &head->unit->placement;
        const UpdatePolicy policy = rollout_policy(head);
        _cleanup_warnings_ Warnings warnings = {};
        size_t list;

        if (update_warn(&policy, head->name, (unsigned) n, p->move == PLACEMENT_STOP_FIRST || p->singleton,
                        &warnings) < 0)
                t->error = -ENOMEM;
        list = json_open_list(t, "warnings");
        for (size_t i = 0; i < warnings.n; i++)
                json_add_string(t, NULL, warnings.items[i].message);
        json_close_list(t, list);
}

/* Write the steps of the rollout of a drafted text, and which of its bounds the set cannot satisfy: the
 * member that plan_write_warnings() has written. */
static void draft_write_rollout(const ClusterUnit *u, const char *effect, size_t n, const Verdict *data,
                                const Text *warnings, Text *t) {
        const UpdatePolicy *policy = &u->unit->placement.update;

        json_open(t, NULL, '{');
        verdict_add_message(t, "data", data);
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

int draft_write_rollout_of(const Draft *d, size_t i, bool *open, Text *t) {
        const ClusterUnit *u = &d->units[i];
        const char *effect = draft_effect(d, u);
        _cleanup_text_ Text warnings = {};
        size_t n = draft_instances(d, i);
        const ClusterUnit *known = cluster_unit(d->cluster, u->name);
        const char *id = known && known->sticky && !u->sticky ? cluster_data_machine(known) : NULL;
        char text[DATA_TEXT_SIZE];
        Verdict data = {};

        if (!cluster_data_note(d->cluster, u, &data) && id)
                verdict_set(&data, VERDICT_SAID, "stays on %.64s no longer: its data is there (%s)",
                            cluster_name_of(d->cluster, id), cluster_data_text(d->cluster, known, text));
        plan_write_warnings(&warnings, u, n);
        if (n == 0 || (!effect && warnings.size == 0 && data.code == VERDICT_NONE))
                return warnings.error;
        if (!*open)
                json_open(t, "rollouts", '[');
        *open = true;
        draft_write_rollout(u, effect, n, &data, &warnings, t);
        return warnings.error;
}

int draft_leave(Draft *d, const ClusterMachine *m, const ClusterUnit *u, char to[static MACHINE_ID_SIZE],
                Text *t) {
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
        memcpy(to, p.to, sizeof(p.to));
        if (r == 0)
                r = scheduler_view_decide(d->view, m, u, false);
        return r < 0 ? r : 1;
}
