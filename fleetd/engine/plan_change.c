/* The changes of a plan: the texts that assignments get, and their reasons. */

#include "fleetd/engine/plan_internal.h"
#include "units/singleton.h"

/* The process of a singleton may have any of the texts that its machine was assigned. */
uint64_t plan_hold_ms(const Cluster *cluster, const Unit *text, const ClusterAssignment *o,
                      AssignmentKind kind) {
        uint64_t hold_ms = o ? o->hold_ms : 0, lease_ms;

        if (kind == ASSIGNMENT_STOP)
                return hold_ms;
        if (!text->placement.singleton)
                return 0;
        lease_ms = singleton_lease_ms(cluster_settings(cluster)->singleton_lease_ms);
        return MAX(hold_ms, singleton_hold_ms(&text->file, lease_ms));
}

static void plan_set_wanted_text(AssignmentChange *c, const ClusterUnit *u) {
        c->text_index = 0;
        c->revision = revisions_wanted(&u->unit->revisions);
        memcpy(c->hash, u->unit->hash, sizeof(c->hash));
        memcpy(c->base, u->unit->base, sizeof(c->base));
        c->own = u->unit->own;
}

void plan_set_text(AssignmentChange *c, const ClusterAssignment *of) {
        c->text_index = of->unit_index;
        c->revision = of->revision;
        memcpy(c->hash, of->hash, sizeof(c->hash));
        memcpy(c->base, of->base, sizeof(c->base));
        c->own = of->own;
        if (streq(c->machine, of->machine->id))
                memcpy(c->instead, of->instead, sizeof(c->instead));
}

/* Return the assignment whose text another one of the unit gets, too: no move and no replacement changes a
 * text. NULL: it gets the wanted text, also if the text was reported, and the cluster does not have it. */
static const ClusterAssignment *plan_text_source(const ClusterUnit *u) {
        const ClusterAssignment *newest = NULL, *stopped = NULL;

        if (u->unit->placement.global)
                return NULL;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                const ClusterAssignment **of = cluster_assignment_is_active(a) ? &newest : &stopped;

                if (a->revision > 0 && a->hash[0] && (of == &newest || a->index > u->target_index) &&
                    (!*of || cluster_assignment_is_newer(a, *of)))
                        *of = a;
        }
        return newest ?: stopped; /* one that stops first is still wanted: no user has stopped it */
}

/* Return whether a step of this rollout gave the unit, which was wanted before, its text: that is in its key
 * while it moves and has no machine. */
static bool plan_was_updated(const ClusterUnit *u, const RolloutRecord *r) {
        return u->unit->from && streq(u->unit->base, r->to.hash) && u->index > r->begun &&
               u->target_index <= r->begun;
}

/* The guard of a process is that of its text. */
static void plan_keep_text(AssignmentChange *c, const ClusterAssignment *o, const ClusterAssignment *source) {
        plan_set_text(c, source);
        if (plan_has_former_text(source))
                c->hold_ms = MAX(o ? o->hold_ms : 0, source->hold_ms);
}

/* Return whether only the machines that have this text can run it: the drop-ins of the instance have changed
 * since. */
static bool plan_has_former_drop_ins(const ClusterUnit *u, const ClusterAssignment *source) {
        return plan_has_former_text(source) && source->own != u->unit->own;
}

static void plan_choose_text(const Pass *pass, AssignmentChange *c, const ClusterUnit *u,
                             const ClusterAssignment *o, const ClusterAssignment *in_place) {
        const ClusterAssignment *source = in_place ?: plan_text_source(u);
        const ClusterUnit *head = rollout_head(pass->cluster, u);
        const RolloutRecord *rollout = head->rollout;
        const Revision *completed = NULL; /* not one of a template that was destroyed: no host can read it */

        if (!plan_names_texts(pass))
                return;
        plan_set_wanted_text(c, u);
        if (rollout && rollout->state != ROLLOUT_DONE && rollout->completed.number > 0 && head->unit)
                completed = revisions_find(&head->unit->revisions, 0, rollout->completed.hash);
        if (source && source->hash[0] && (in_place || !plan_has_former_drop_ins(u, source)))
                plan_keep_text(c, o, source);
        else if (completed && u->unit->own_size == 0 && !plan_was_updated(u, rollout)) {
                c->revision = completed->number; /* an instance that is new during a rollout */
                c->hold_ms = MAX(o ? o->hold_ms : 0, rollout->hold_ms);
                memcpy(c->hash, rollout->completed.hash, sizeof(c->hash));
                memcpy(c->base, c->hash, sizeof(c->base));
                c->own = 0;
        }
}

/* Return whether the unit is a set of its own, which is on one machine: while no process of it has its former
 * text, no step is needed for the wanted one. */
static bool plan_is_alone(const Pass *pass, const ClusterUnit *u) {
        return plan_names_texts(pass) && !u->unit->placement.global && rollout_head(pass->cluster, u) == u;
}

bool plan_lacks_text(Pass *pass, const ClusterUnit *u) {
        const ClusterUnit *head = rollout_head(pass->cluster, u);
        const ClusterAssignment *source = plan_text_source(u);

        if (!plan_names_texts(pass) || (source && source->hash[0]) ||
            !cluster_unit_has_unreadable(head, LAYOUT_ROLLOUT))
                return false;
        plan_wait(pass, u, VERDICT_ROLLOUT_UNREADABLE, "%s", head->name);
        return true;
}

/* Return whether the target state of a loaded unit was requested again after its assignment: what runs of it,
 * by a timer or by hand, stops. A target state that was written with a text has the index of the text. While
 * the unit moves, the times of its assignments have the order of its machines. A request from before the
 * upgrade of the machine stops nothing, as it did then: other facts followed it. */
static bool plan_stops_again(const ClusterAssignment *o) {
        const ClusterUnit *u = o->of;

        return o->kind == ASSIGNMENT_LOAD && u->unit && u->target == TARGET_LOADED &&
               u->target_index > MAX(o->index, u->index) && plan_takes_finished(o->machine) &&
               u->target_index > o->machine->takes_index &&
               (u->unit->placement.global || (LIST_FIRST(&u->assignments) == o && !LIST_NEXT(o, of_unit)));
}

/* The number of the content of an assignment. A process that runs keeps its content: only a step of a rollout
 * restarts it for another one. 'kept': an assignment that is rewritten, and starts nothing; or NULL. */
static uint64_t plan_content(const ClusterMachine *m, const ClusterUnit *u, const ClusterAssignment *kept) {
        const ClusterState *s = cluster_state_on(m, u->name);
        uint64_t number = u->inputs ? u->inputs->number : 0;

        if (kept)
                return kept->inputs;
        return s && active_state_is_up(s->state.active) ? MIN(number, s->state.inputs) : number;
}

AssignmentChange *plan_change(Pass *pass, const ClusterMachine *m, const ClusterUnit *u, AssignmentKind kind,
                              VerdictCode why, const char *args, ...) {
        const ClusterAssignment *o = cluster_assignment(pass->cluster, m->id, u->name);
        EnginePlan *plan = pass->plan;
        bool in_place = o && cluster_assignment_is_active(o) && kind != ASSIGNMENT_STOP;
        /* A start after a stop: the agent may not have seen the load assignment in between, and an agent does
         * not start a unit again for the same assignment. */
        bool starts = in_place && kind == ASSIGNMENT_RUN && o->kind == ASSIGNMENT_LOAD;
        bool again = in_place && plan_stops_again(o);
        const char *reported = kind == ASSIGNMENT_RUN ? reported_text(pass, m, u) : NULL;
        AssignmentChange *c;
        int r;
        va_list ap;

        if (GROW(plan->changes, plan->capacity, plan->n + 1) < 0) {
                pass->error = -ENOMEM;
                return NULL;
        }
        c = &plan->changes[plan->n++];
        *c = (AssignmentChange) {
                .kind = kind,
                .expected_index = o ? o->index : 0,
                .unit_index = u->unit ? u->index : 0,
                .presence_index = kind == ASSIGNMENT_STOP || in_place ? 0 : m->presence_index,
                .since_ms = in_place && !starts && !again ? o->since_ms : pass->cluster->now_ms,
                .hold_ms = plan_hold_ms(pass->cluster, u->unit, o, kind),
                .finished = kind == ASSIGNMENT_RUN && !starts &&
                            (in_place ? o->finished : plan_is_of_finished(u)),
                .inputs = plan_content(
                        m, u, kind == ASSIGNMENT_STOP || (in_place && !starts && !reported) ? o : NULL),
        };
        memcpy(c->machine, m->id, sizeof(c->machine));
        memcpy(c->unit, u->name, sizeof(c->unit));
        if (starts && plan_is_alone(pass, u))
                plan_set_wanted_text(c, u);
        else if (reported)
                reported_set_text(c, rollout_head(pass->cluster, u), reported);
        else if (kind != ASSIGNMENT_STOP)
                plan_choose_text(pass, c, u, o, in_place ? o : NULL);
        else if (o) {
                c->revision = o->revision;
                memcpy(c->hash, o->hash, sizeof(c->hash));
                memcpy(c->base, o->base, sizeof(c->base));
                c->own = o->own;
        }
        va_start(ap, args);
        verdict_set_list(&c->why, why, args, ap);
        va_end(ap);
        c->why.said = why == VERDICT_SAID;

        r = scheduler_view_decide(pass->view, m, u, kind != ASSIGNMENT_STOP);
        if (r < 0)
                pass->error = r;
        return c;
}

void plan_stop_replaced(Pass *pass, const ClusterAssignment *o, const ClusterAssignment *by) {
        bool runs = by->state && active_state_is_up(by->state->state.active);
        char name[CLUSTER_LABEL_SIZE];

        plan_change(pass, o->machine, o->of, ASSIGNMENT_STOP, runs ? VERDICT_RUNS_ON : VERDICT_IS_ON, "%s",
                    cluster_machine_label(by->machine, name));
}

/* The assignment keeps the reason for its machine. */
static void plan_rewrite(Pass *pass, const ClusterAssignment *o, AssignmentKind kind, VerdictCode noted) {
        AssignmentChange *c = plan_change(pass, o->machine, o->of, kind, noted, "%s", "");

        if (!c)
                return;
        if (o->why.code != VERDICT_NONE)
                c->why = o->why;
        c->noted = noted;
}

void plan_keep(Pass *pass, const ClusterAssignment *o) {
        const ClusterUnit *u = o->of;
        AssignmentKind kind = bound_kind(pass, o), wanted = plan_wanted_kind(u);
        const ClusterUnit *holder = cluster_data_holder(u, o->machine);
        char name[CLUSTER_LABEL_SIZE], text[DATA_TEXT_SIZE];

        if (o->kind != kind && kind != wanted)
                plan_change(pass, o->machine, u, kind,
                            holder ? VERDICT_DRAIN_OVER_DATA : VERDICT_DRAIN_OVER_WAITS,
                            "%s" VERDICT_NEXT "%s", cluster_machine_label(o->machine, name),
                            cluster_data_text(pass->cluster, holder ?: u, text));
        else if (o->kind == ASSIGNMENT_LOAD && kind == ASSIGNMENT_RUN && bound_is(o) &&
                 o->index > u->target_index)
                plan_change(pass, o->machine, u, kind, VERDICT_HAS_STAYED, "%s",
                            cluster_machine_label(o->machine, name));
        else if (o->kind != kind || plan_stops_again(o))
                plan_rewrite(pass, o, wanted,
                             wanted == ASSIGNMENT_RUN ? VERDICT_TO_BE_LAUNCHED : VERDICT_TO_BE_LOADED);
        else if (!plan_names_texts(pass) && !plan_is_current(o))
                plan_change(pass, o->machine, u, o->kind, VERDICT_FILE_CHANGED, "%s", "");
        else if ((plan_names_texts(pass) && plan_is_current(o) && !o->hash[0]) ||
                 reported_text(pass, o->machine, u))
                plan_rewrite(pass, o, o->kind, VERDICT_NONE);
}

void plan_wait(Pass *pass, const ClusterUnit *u, VerdictCode why, const char *args, ...) {
        PlanItem *item;
        va_list ap;

        HASH_FIND_PTR(pass->items, &u, item);
        if (!item)
                return;
        item->wait = item->wait ?: NEW0(Verdict, 1);
        if (!item->wait) {
                pass->error = -ENOMEM;
                return;
        }
        va_start(ap, args);
        verdict_set_list(item->wait, why, args, ap);
        va_end(ap);
        item->wait->said = why == VERDICT_SAID;
}

bool plan_has_changes(const Pass *pass, const ClusterUnit *u) {
        const PlanItem *item;

        HASH_FIND_PTR(pass->items, &u, item);
        return item && item->planned;
}

void plan_stop_strays(Pass *pass, const ClusterUnit *u, VerdictCode why) {
        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit))
                if (plan_is_stray(s))
                        plan_change(pass, s->machine, u, ASSIGNMENT_STOP, why, "%s", "");
}
