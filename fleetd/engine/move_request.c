#include "fleetd/engine/move_request.h"

#include "fleetd/engine/drain.h"
#include "fleetd/engine/rollout_set.h"

#define MOVE_GLOBAL                                                                                       \
        "it is global (Global=yes), and runs on each machine that qualifies; to take it from a machine, " \
        "with "                                                                                           \
        "MachineMetadata= or Conflicts= in [X-Fleet]: "

bool move_request_is_refused(const Cluster *c, const ClusterUnit *u, Error *ret) {
        if (cluster_unit_is_unreadable(u))
                error_set(ret, 0, "%s", CLUSTER_UNREADABLE);
        else if (unit_name_is_template(u->name))
                error_set(ret, 0, "a template runs nowhere; its instances do: fleetctl list-units '%.*s@*'",
                          (int) strcspn(u->name, "@"), u->name);
        else if (u->unit->placement.global && u->unit->owner)
                error_set(ret, 0, MOVE_GLOBAL "correct %s on %s", u->unit->path,
                          cluster_name_of(c, u->unit->owner));
        else if (u->unit->placement.global)
                error_set(ret, 0, MOVE_GLOBAL "fleetctl edit %s", u->unit->from ?: u->name);
        else if (u->target == TARGET_INACTIVE)
                error_set(ret, 0, "its target state is inactive; to start it: fleetctl start %s", u->name);
        else
                return false;
        return true;
}

/* Return whether the unit may not leave the machine of an assignment; then set the reason. */
static bool move_must_stay(const Cluster *c, const ClusterAssignment *a, bool force, Error *ret) {
        const char *name = cluster_machine_name(a->machine),
                   *spared = scheduler_move_spares(a->of, a->machine);

        if (spared)
                error_set(ret, 0, "%s", spared);
        else if (drain_moves(a, c->now_ms))
                error_set(ret, 0, "%s is being drained, and the drain moves it", name);
        else if (rollout_replaced(a))
                error_set(ret, 0, "its update starts it on %s: fleetctl rollout %s", name,
                          rollout_head(c, a->of)->name);
        else if (a->of->unit->placement.move == PLACEMENT_STAYS && !force)
                error_set(ret, 0, "Move=no; to move it: repeat the command with --force");
        else
                return false;
        return true;
}

/* Return whether the data of the unit is on another machine than the requested one; then set the reason. */
static bool move_leaves_data(const Cluster *c, const ClusterUnit *u, const ClusterMachine *to, Error *ret) {
        const char *id = u->sticky ? cluster_data_machine(u) : NULL;
        char text[DATA_TEXT_SIZE];

        if (!id || (to && streq(to->id, id)))
                return false;
        error_set(ret, 0,
                  "its data is on %s (%s), and is not copied; to move it without: repeat the command with "
                  "--force",
                  cluster_name_of(c, id), cluster_data_text(c, u, text));
        return true;
}

/* Add how the machine is freed to the reason that a unit there conflicts. */
static void move_add_way(const ClusterUnit *conflict, Error *why) {
        size_t n = strlen(why->message);

        if (conflict && conflict->target == TARGET_INACTIVE)
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; %s is being unloaded: repeat the command when it has ended", conflict->name);
        else if (conflict && conflict->unit && !conflict->unit->placement.global)
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; to free it: fleetctl unload %s, and after the move: fleetctl start %s",
                         conflict->name, conflict->name);
}

/* Add the command that moves the unit of MachineOf=, which this one follows, to the reason. */
static void move_add_companion(const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                               const ClusterMachine *m, Error *why) {
        const Names *units = &u->unit->placement.machine_of;
        size_t n = strlen(why->message);

        if (scheduler_refusal(view, u, m, false, NULL) != RULE_MACHINE_OF)
                return;
        for (size_t i = 0; i < units->n; i++)
                if (!scheduler_view_has(view, m, units->items[i])) {
                        if (cluster_unit(c, units->items[i]))
                                snprintf(why->message + n, sizeof(why->message) - n,
                                         "; to move both: fleetctl move %s %s", units->items[i],
                                         cluster_machine_name(m));
                        return;
                }
}

/* Add the next step to the reason that the machine does not qualify. */
static void move_add_step(const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                          const ClusterMachine *m, Error *why) {
        size_t n = strlen(why->message);

        move_add_way(scheduler_conflict_on(view, u, m), why);
        move_add_companion(c, view, u, m, why);
        if (why->message[n])
                return;
        if (scheduler_would_fit_uncordoned(view, u, m))
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; to let it get units again: fleetctl uncordon %s", cluster_machine_name(m));
        else
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; the rules of all machines: fleetctl why %s", u->name);
}

/* Set the reason that no machine but that of the unit qualifies, and the next step. */
static void move_explain_none(const SchedulerView *view, const ClusterUnit *u, const ClusterMachine *where,
                              Error *ret_why) {
        bool freed = false;
        Error why = {};

        for (size_t i = 0; i < scheduler_view_n_machines(view) && !freed; i++) {
                const ClusterMachine *m = scheduler_view_by_name(view, i);

                freed = m != where && scheduler_would_fit_freed(view, u, m);
        }
        scheduler_explain(view, u, where, &why);
        if (freed)
                error_set(ret_why, 0, "%s; to free one: fleetctl help move", why.message);
        else
                error_set(ret_why, 0, "%s; the rules of all machines: fleetctl why %s", why.message, u->name);
}

/* Find the machine. Return false with the reason if none qualifies, or this one does not. */
static bool move_find_machine(const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                              const ClusterMachine *m, bool force, const ClusterMachine **ret,
                              Error *ret_why) {
        ClusterUnit any = *u; /* as without a move to another machine; it borrows */
        const ClusterMachine *where = NULL;
        Error why = {};

        any.move = NULL;
        any.sticky &= !force;
        if (!m) {
                (void) cluster_current_state(c, u, &where);
                if (scheduler_pick(view, &any, &m, NULL) < 0) {
                        move_explain_none(view, &any, where, ret_why);
                        return false;
                }
        } else if (!scheduler_fits(view, &any, m, false, &why)) {
                error_set(ret_why, 0, "%s does not qualify: %s", cluster_machine_name(m), why.message);
                move_add_step(c, view, &any, m, ret_why);
                return false;
        }
        if (scheduler_replaced_by(view, &any, m)) {
                error_set(ret_why, 0, "%s does not qualify: %s there has Replaces=", cluster_machine_name(m),
                          scheduler_replaced_by(view, &any, m)->name);
                return false;
        }
        *ret = m;
        return true;
}

bool move_request_decide(const Cluster *c, const ClusterUnit *u, const ClusterMachine *to, bool force,
                         const ClusterMachine **ret, Error *ret_why) {
        SchedulerView *view = NULL;
        size_t n = 0;
        bool found;

        if (!force && move_leaves_data(c, u, to, ret_why))
                return false;
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                if (!cluster_assignment_is_active(a))
                        continue;
                n++;
                if (move_must_stay(c, a, force, ret_why))
                        return false;
        }
        if (n == 0 && !u->sticky) {
                error_set(ret_why, 0, "it is on no machine: fleetctl why %s", u->name);
                return false;
        }
        if (scheduler_view_new(c, c->now_ms, &view) < 0) {
                error_set(ret_why, 0, "out of memory");
                return false;
        }
        found = move_find_machine(c, view, u, to, force, ret, ret_why);
        scheduler_view_free(view);
        return found;
}

/* Return whether an active assignment on the machine is to leave it after one of these units. */
static bool move_follows(const ClusterAssignment *a, const Names *leaving) {
        const Unit *unit = a->of ? a->of->unit : NULL;

        if (!unit || !cluster_assignment_is_active(a) || names_have(leaving, a->unit))
                return false;
        for (size_t i = 0; i < unit->placement.machine_of.n; i++)
                if (names_have(leaving, unit->placement.machine_of.items[i]))
                        return true;
        return false;
}

int move_request_with_followers(const ClusterUnit *u, const ClusterMachine *from, size_t max, Names *ret) {
        size_t before = 0;
        int r;

        r = names_add(ret, u->name, strlen(u->name));
        while (r >= 0 && ret->n > before) {
                before = ret->n;
                for (const ClusterAssignment *a = from->assignments; r >= 0 && a; a = a->hh.next)
                        if (ret->n < max && move_follows(a, ret))
                                r = names_add(ret, a->unit, strlen(a->unit));
        }
        if (ret->n > 2)
                qsort(ret->items + 1, ret->n - 1, sizeof(*ret->items), text_compare);
        return r;
}
