/* What lets a machine run a unit that fits on none. Pure. */
#include "fleetd/api/ways.h"

#include "fleetd/registry/presence.h"
#include "fleetd/scheduler/scheduler.h"

enum {
        STEPS_MAX = 3,     /* machines, of the steps */
        CONFLICTS_MAX = 4, /* units in conflict on one of them */
};

static void step_write(Text *t, const char *verb, const char *name) {
        _cleanup_text_ Text step = {};

        text_printf(&step, "%s %s", verb, name);
        json_add_string(t, NULL, step.chars);
        t->error = t->error ?: step.error;
}

/* Return whether the unit gets room by the unloading of the other one, which a command unloads, which does
 * not end already, and beside which the unit need not run. A global one would leave all machines. */
static bool step_unloads(const ClusterUnit *u, const ClusterUnit *other) {
        return !cluster_unit_is_unreadable(other) && other->target != TARGET_INACTIVE &&
               !(other->unit && other->unit->placement.global) &&
               !names_have(&u->unit->placement.machine_of, other->name);
}

/* Append the names of the units whose unloading lets the machine run the unit; nothing if there are none, too
 * many, or one that is not unloaded for it. */
static void step_append_conflicts(Text *t, const SchedulerView *view, const ClusterUnit *u,
                                  const ClusterMachine *m) {
        const ClusterUnit *units[CONFLICTS_MAX];
        size_t n;

        if (!scheduler_would_fit_freed(view, u, m))
                return;
        n = scheduler_conflicts_on(view, u, m, units, CONFLICTS_MAX);
        for (size_t i = 0; i < n; i++)
                if (n > CONFLICTS_MAX || !step_unloads(u, units[i]))
                        return;
        for (size_t i = 0; i < n; i++)
                text_printf(t, "%s%s", i > 0 ? " " : "", units[i]->name);
}

/* Write which units exclude the unit, each combination once. */
static void steps_write_conflicts(Text *t, const SchedulerView *view, const ClusterUnit *u,
                                  ClusterMachine *const *machines, size_t n) {
        _cleanup_names_ Names all = {};

        for (size_t i = 0; i < n && all.n < STEPS_MAX; i++) {
                _cleanup_text_ Text names = {};

                step_append_conflicts(&names, view, u, machines[i]);
                t->error = t->error ?: names.error;
                if (names.size == 0 || names_have(&all, names.chars))
                        continue;
                if (names_add(&all, names.chars, names.size) < 0)
                        t->error = -ENOMEM;
                step_write(t, "unload", names.chars);
        }
}

/* Return how much of the machine that is. */
static uint64_t room_part(const SchedulerView *view, const ClusterMachine *m, Resources r) {
        Resources capacity = scheduler_view_capacity(view, m);

        return MAX((uint64_t) r.memory_mib * FULLNESS_ONE / capacity.memory_mib,
                   (uint64_t) r.cpu_percent * FULLNESS_ONE / capacity.cpu_percent);
}

/* Return the machine that lacks the smallest part of itself for what the unit requests, and nothing else, or
 * NULL. */
static const ClusterMachine *room_find(const SchedulerView *view, const ClusterUnit *u,
                                       ClusterMachine *const *machines, size_t n, Resources *ret_lack) {
        const ClusterMachine *best = NULL;
        uint64_t least = UINT64_MAX;

        for (size_t i = 0; i < n; i++) {
                Resources lack = scheduler_lack(view, u, machines[i]);

                if (!resources_are_set(lack) || room_part(view, machines[i], lack) >= least ||
                    !scheduler_would_fit_freed(view, u, machines[i]))
                        continue;
                least = room_part(view, machines[i], lack);
                best = machines[i];
                *ret_lack = lack;
        }
        return best;
}

/* Write the smallest unit there whose room is enough. */
static void steps_write_room(Text *t, const SchedulerView *view, const ClusterUnit *u,
                             ClusterMachine *const *machines, size_t n) {
        Resources lack = {};
        const ClusterMachine *m = room_find(view, u, machines, n, &lack);
        const ClusterAssignment *found = NULL;
        uint64_t least = UINT64_MAX;

        for (const ClusterAssignment *a = m ? m->assignments : NULL; a; a = a->hh.next) {
                uint64_t part = room_part(view, m, a->request);

                if (a->request.memory_mib < lack.memory_mib || a->request.cpu_percent < lack.cpu_percent ||
                    part > least || (part == least && strcmp(a->unit, found->unit) > 0) ||
                    !step_unloads(u, a->of))
                        continue;
                least = part;
                found = a;
        }
        if (found)
                step_write(t, "unload", found->unit);
}

void ways_write_options(Text *t, const SchedulerView *view, const ClusterUnit *u,
                        ClusterMachine *const *machines, size_t n) {
        Resources lack = {}, request = u->unit->placement.request;
        size_t list = json_open_list(t, "options");
        unsigned max = MAX_PER_MACHINE_MAX + 1;
        _cleanup_text_ Text option = {};

        if (room_find(view, u, machines, n, &lack) && lack.memory_mib < MAX(request.memory_mib, 1u) &&
            lack.cpu_percent < MAX(request.cpu_percent, 1u)) {
                if (lack.memory_mib > 0) {
                        text_append(&option, "MemoryRequest=");
                        resources_append(&option, request.memory_mib - lack.memory_mib, true);
                }
                if (lack.cpu_percent > 0) {
                        text_append(&option, option.size > 0 ? " and CPURequest=" : "CPURequest=");
                        resources_append(&option, request.cpu_percent - lack.cpu_percent, false);
                }
                text_append(&option, " or less");
                json_add_string(t, NULL, option.chars);
        }
        for (size_t i = 0; i < n; i++)
                max = MIN(max, scheduler_max_needed(view, u, machines[i]));
        text_clear(&option);
        text_printf(&option, "MaxPerMachine=%u", max);
        json_add_string(t, NULL, max <= MAX_PER_MACHINE_MAX ? option.chars : NULL);
        json_close_list(t, list);
        t->error = t->error ?: option.error;
}

/* Write the request that places a unit without its data, which no other machine has. */
static void steps_write_forced(Text *t, const SchedulerView *view, const ClusterUnit *u) {
        ClusterUnit any = *u; /* it borrows */
        const ClusterMachine *to;
        char arguments[UNIT_NAME_MAX + CLUSTER_LABEL_SIZE + 16];

        any.sticky = false;
        if (!u->sticky || scheduler_pick(view, &any, &to, NULL) < 0)
                return;
        snprintf(arguments, sizeof(arguments), "%s %s --force", u->name, cluster_machine_name(to));
        step_write(t, "move", arguments);
}

/* Write the units of MachineOf= that are to be started, if they get a machine on which the unit fits. All of
 * them are required. */
static void steps_write_start(Text *t, const Cluster *c, const ClusterUnit *u) {
        const Names *units = &u->unit->placement.machine_of;
        bool helps = units->n > 0;
        const ClusterMachine *m;
        _cleanup_text_ Text names = {};
        SchedulerView *view;

        if (!helps || scheduler_view_new(c, c->now_ms, &view) < 0)
                return;
        for (size_t i = 0; i < units->n && helps; i++) {
                const ClusterUnit *other = cluster_unit(c, units->items[i]);

                helps = other && other->unit;
                if (!helps || other->target != TARGET_INACTIVE)
                        continue;
                text_printf(&names, "%s%s", names.size > 0 ? " " : "", other->name);
                helps = scheduler_pick(view, other, &m, NULL) >= 0 &&
                        scheduler_view_decide(view, m, other, true) >= 0;
        }
        if (names.size > 0 && helps && scheduler_pick(view, u, &m, NULL) >= 0)
                step_write(t, "start", names.chars);
        scheduler_view_free(view);
        t->error = t->error ?: names.error;
}

void ways_write_steps(Text *t, const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                      ClusterMachine *const *machines, size_t n) {
        size_t list = json_open_list(t, "steps");

        for (size_t i = 0, n_found = 0; i < n; i++) {
                if (n_found == STEPS_MAX || !scheduler_would_fit_uncordoned(view, u, machines[i]))
                        continue;
                step_write(t, "uncordon", cluster_machine_name(machines[i]));
                n_found++;
        }
        steps_write_start(t, c, u);
        steps_write_conflicts(t, view, u, machines, n);
        steps_write_room(t, view, u, machines, n);
        steps_write_forced(t, view, u);
        json_close_list(t, list);
}

/* One that was lost an hour ago may never be back. */
void ways_write_down(Text *t, const SchedulerView *view, const ClusterUnit *u,
                     ClusterMachine *const *machines, size_t n) {
        size_t n_found = 0, list = json_open_list(t, "down");
        bool cordoned;

        for (size_t i = 0; i < n && n_found < STEPS_MAX; i++) {
                if (presence_is_omitted(machines[i], scheduler_view_now_ms(view)) ||
                    !scheduler_would_fit_started(view, u, machines[i], &cordoned))
                        continue;
                n_found++;
                json_open(t, NULL, '{');
                json_add_bool(t, "cordoned", cordoned);
                json_add_string(t, "name", cluster_machine_name(machines[i]));
                json_close(t, '}');
        }
        json_close_list(t, list);
}
