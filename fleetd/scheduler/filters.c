/* The rules of fleet in the order of fleet, after the presence of the machine. */
#include "fleetd/scheduler/filters.h"

#include "fleetd/registry/presence.h"
#include "units/quadlet.h"

enum { CHAIN_MAX = 16 }; /* units that follow each other */

/* Set the reason; 'ret' may be NULL. Return -ENOENT. */
_printf_(3, 4) static int refusal_set(Refusal *ret, VerdictCode code, const char *args, ...) {
        va_list ap;

        va_start(ap, args);
        if (ret)
                verdict_set_list(&ret->why, code, args, ap);
        va_end(ap);
        return -ENOENT;
}

/* The cause is that of the presence key: a stopped daemon is no broken link. */
static int filter_away(const ClusterMachine *m, Refusal *ret) {
        _cleanup_text_ Text why = {};

        if (m->verdict.code == VERDICT_NONE || m->verdict.of == VERDICT_OF_REPLICA)
                return refusal_set(ret, VERDICT_SILENT, "%s", "");
        verdict_append(&why, &m->verdict);
        return refusal_set(ret, VERDICT_IS_AWAY, "%s", text_chars(&why));
}

static int filter_presence(const Candidate *c, Refusal *ret) {
        const ClusterMachine *m = c->machine;

        if (c->staying)
                return 0;
        if (cluster_machine_is_unreadable(m))
                return refusal_set(ret, VERDICT_UNREADABLE, "%s", "");
        switch (m->presence) {
        case PRESENCE_AWAY:
                return filter_away(m, ret);
        case PRESENCE_LOST:
                return refusal_set(ret, VERDICT_IS_LOST, "%s", "");
        case PRESENCE_LEFT:
                return refusal_set(ret, VERDICT_WAS_SHUT_DOWN, "%s", "");
        default:
                break;
        }
        if (m->member.agentless) /* facts may be left of a start with an agent */
                return refusal_set(ret, VERDICT_NO_AGENT, "%s", "");
        return m->facts ? 0 : refusal_set(ret, VERDICT_NO_FACTS, "%s", "");
}

/* A unit that is there stays: an upgrade of podman may remove the generator for a moment. */
static int filter_quadlet(const Candidate *c, Refusal *ret) {
        if (c->staying || c->machine->facts->quadlet || !quadlet_is(c->unit->name))
                return 0;
        return refusal_set(ret, VERDICT_NO_PODMAN, "%s", unit_name_type(c->unit->name));
}

static int filter_machine_id(const Candidate *c, Refusal *ret) {
        if (placement_machine_id_fits(c->placement, c->machine->id))
                return 0;
        return refusal_set(ret, VERDICT_OTHER_ID, "%s" VERDICT_NEXT "%s", c->placement->machine_id,
                           c->machine->id);
}

/* Of the machine with the data, the other rules decide, unless newer data may be elsewhere. A unit that is
 * there stays: its data follows; after a restore, if it has processes there. */
static int filter_sticky(const Candidate *c, Refusal *ret) {
        const Cluster *cluster = scheduler_view_cluster(c->view);
        const char *id = c->staying ? NULL : cluster_bound_machine(c->unit);
        const ClusterState *there = c->staying ? cluster_state_on(c->machine, c->unit->name) : NULL;
        const ClusterMachine *newer;
        char text[DATA_TEXT_SIZE];

        if (!c->unit->sticky)
                return 0;
        if (id && !streq(id, c->machine->id))
                return refusal_set(ret, VERDICT_DATA_ELSEWHERE, "%s" VERDICT_NEXT "%.64s",
                                   cluster_data_text(cluster, c->unit, text), cluster_name_of(cluster, id));
        newer = there && there->state.active && !active_state_is_down(there->state.active) ?
                        NULL :
                        cluster_data_newer(cluster, c->unit);
        return newer ? refusal_set(ret, VERDICT_DATA_NEWER, "%s", cluster_machine_name(newer)) : 0;
}

static int filter_metadata(const Candidate *c, Refusal *ret) {
        const Pairs *has = scheduler_view_metadata(c->view, c->machine);
        _cleanup_text_ Text required = {};
        const char *key, *value;
        bool restricted;

        if (placement_metadata_fits(c->placement, has, &key))
                return 0;
        /* The metadata of a machine without readable facts is unknown, not absent: it keeps its units. */
        if (c->staying && (!c->machine->facts || cluster_machine_is_unreadable(c->machine)))
                return 0;

        placement_metadata_describe(c->placement, key, &required);
        value = pairs_get(has, key);
        if (value)
                return refusal_set(ret, VERDICT_METADATA_OTHER, "%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s", key,
                                   value, required.chars ?: key);
        restricted = c->machine->facts && pairs_get(&c->machine->facts->metadata, key) &&
                     cluster_machine_is_restricted(c->machine);
        return refusal_set(ret, restricted ? VERDICT_METADATA_RESTRICTED : VERDICT_METADATA_ABSENT,
                           "%s" VERDICT_NEXT "%s", key, required.chars ?: key);
}

/* Return whether a unit follows another one (MachineOf=), also by way of some others. */
static bool filter_follows(const Cluster *cluster, const Unit *follower, const char *name) {
        const Unit *chain[CHAIN_MAX] = { follower };
        size_t n = 1;

        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < chain[i]->placement.machine_of.n; k++) {
                        const char *next = chain[i]->placement.machine_of.items[k];
                        const ClusterUnit *u = cluster_unit(cluster, next);

                        if (streq(next, name))
                                return true;
                        if (u && u->unit && n < CHAIN_MAX)
                                chain[n++] = u->unit;
                }
        return false;
}

/* Return the unit that a trigger follows: the one that it starts, if the cluster has that on a machine. A
 * unit of the host may have the name. One that follows its trigger is placed after it. */
static const char *filter_triggered(const Candidate *c) {
        const char *name = unit_triggered(c->unit->unit);
        const ClusterUnit *u = name ? cluster_unit(scheduler_view_cluster(c->view), name) : NULL;

        if (!u || !u->unit || u->target == TARGET_INACTIVE || c->placement->global ||
            filter_follows(scheduler_view_cluster(c->view), u->unit, c->unit->name))
                return NULL;
        return name;
}

/* While a machine is drained, filter_maintenance() alone decides when a unit leaves it, also one that follows
 * a unit that has moved. */
static int filter_machine_of(const Candidate *c, Refusal *ret) {
        const Names *units = &c->placement->machine_of;
        const char *triggered;

        if (c->staying && cluster_machine_is_draining(c->machine))
                return 0;
        for (size_t i = 0; i < units->n; i++) {
                if (scheduler_view_has(c->view, c->machine, units->items[i]))
                        continue;
                return refusal_set(ret,
                                   scheduler_view_knows(c->view, units->items[i]) ? VERDICT_UNIT_ELSEWHERE :
                                                                                    VERDICT_NO_SUCH_UNIT,
                                   "%s", units->items[i]);
        }
        triggered = filter_triggered(c);
        if (!triggered || scheduler_view_has(c->view, c->machine, triggered))
                return 0;
        return refusal_set(ret, VERDICT_TRIGGERED_ELSEWHERE, "%s", triggered);
}

/* -- Conflicts= -- */

typedef struct ConflictSearch {
        const ClusterUnit *unit;
        const ClusterAssignment *assignment; /* of 'unit' on that machine, or NULL */
        bool staying;
        unsigned n_spared; /* units that do not exclude it */
        const ClusterUnit *found;
        const char *glob;
} ConflictSearch;

/* All units on a machine that exclude one. */
typedef struct ConflictList {
        ConflictSearch search;
        const ClusterUnit **items; /* borrowed */
        size_t n, max;             /* 'n' is greater if there are more */
} ConflictList;

/* Return whether both follow one template, and get its text one after the other. */
static bool conflict_is_in_set(const ClusterUnit *a, const ClusterUnit *b) {
        return a->unit && b->unit && a->unit->from && b->unit->from && streq(a->unit->from, b->unit->from);
}

/* Return whether the unit, rather than 'other', leaves a machine on which the two conflict: the one with the
 * newer text, because units are placed without conflicts, so that its text has caused this one. Of two
 * instances of one template, which have one text, the later one leaves, then the one with the greater name.
 * The result depends on the cluster view alone, so that exactly one of the two leaves. */
static bool conflict_yields(const ConflictSearch *s, const Placed *other) {
        const ClusterAssignment *own = s->assignment, *others = other->assignment;

        if (!own || !others)
                return !own;
        if (s->unit->index != other->unit->index && !conflict_is_in_set(own->of, other->unit))
                return s->unit->index > other->unit->index;
        if (own->since_ms != others->since_ms)
                return own->since_ms > others->since_ms;
        if (own->created != others->created)
                return own->created > others->created;
        return strcmp(s->unit->name, other->unit->name) > 0;
}

static bool conflict_on_unit(void *userdata, const Placed *other, const char *glob) {
        ConflictSearch *s = userdata;

        /* The unit itself, or an earlier revision of it. */
        if (other->unit == s->unit || streq(other->unit->name, s->unit->name))
                return true;
        /* The name of an unreadable unit excludes new units, and stops none. */
        if (cluster_unit_is_unreadable(other->unit) ? s->staying : !other->unit->unit)
                return true;
        if (s->staying && (other->stopping || !conflict_yields(s, other)))
                return true;
        if (s->n_spared > 0 && s->n_spared-- > 0)
                return true;

        s->found = other->unit;
        s->glob = glob;
        return false;
}

static ConflictSearch conflict_search(const Candidate *c) {
        const ClusterAssignment *there = c->staying ? cluster_assignment_on(c->machine, c->unit->name) : NULL;
        ConflictSearch s = { .unit = c->unit, .staying = c->staying };

        /* A draft of a plan borrows the assignments of the unit that it would replace. */
        if (there && LIST_FIRST(&there->of->assignments) == LIST_FIRST(&c->unit->assignments))
                s.assignment = there;
        return s;
}

static int conflict_refuse(const ConflictSearch *s, VerdictCode code, Refusal *ret) {
        if (ret)
                ret->conflict = s->found;
        return s->found ? refusal_set(ret, code, "%s" VERDICT_NEXT "%s", s->found->name, s->glob) : 0;
}

static int filter_conflicts(const Candidate *c, Refusal *ret) {
        const Names *own = &c->placement->conflicts;
        ConflictSearch s = conflict_search(c);
        VerdictCode code = VERDICT_CONFLICTS;

        for (size_t i = 0; i < own->n && !s.found && !scheduler_view_is_spent(c->view); i++)
                scheduler_view_each_named(c->view, c->machine, own->items[i], conflict_on_unit, &s);
        if (!s.found) {
                code = VERDICT_CONFLICTED;
                scheduler_view_each_naming(c->view, c->machine, CLUSTER_CONFLICTS, c->unit->name,
                                           conflict_on_unit, &s);
        }
        return conflict_refuse(&s, code, ret);
}

/* Add a unit that excludes the other one. More than one option may name it. */
static bool conflict_add(void *userdata, const Placed *other, const char *glob) {
        ConflictList *l = userdata;

        if (conflict_on_unit(&l->search, other, glob))
                return true;
        for (size_t i = 0; i < l->n; i++)
                if (l->items[i] == other->unit)
                        return true;
        if (l->n < l->max)
                l->items[l->n] = other->unit;
        return ++l->n <= l->max;
}

/* Visit the units on the machine that have a port of this one. Of a unit that is there, PublishPort= does not
 * count. */
static void ports_each(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                       bool staying, SchedulerViewEach each, void *userdata) {
        static const ClusterRule rules[] = { CLUSTER_PORTS, CLUSTER_PUBLISHED };
        const Cluster *cluster = scheduler_view_cluster(view);
        size_t n = staying ? 1 : ELEMENTS(rules);

        if (cluster->level > 0 && cluster->level < OPTION_LEVEL_SERVICES)
                return;
        for (size_t i = 0; i < n; i++) {
                const Names *own = cluster_rule(&unit->unit->placement, rules[i]);

                for (size_t k = 0; k < own->n * n && !scheduler_view_is_spent(view); k++)
                        scheduler_view_each_naming(view, machine, rules[k % n], own->items[k / n], each,
                                                   userdata);
        }
}

static int filter_port(const Candidate *c, Refusal *ret) {
        ConflictSearch s = conflict_search(c);

        ports_each(c->view, c->unit, c->machine, c->staying, conflict_on_unit, &s);
        return conflict_refuse(&s, VERDICT_PORT_TAKEN, ret);
}

size_t scheduler_conflicts_on(const SchedulerView *view, const ClusterUnit *unit,
                              const ClusterMachine *machine, const ClusterUnit **ret, size_t max) {
        const Names *own = &unit->unit->placement.conflicts;
        ConflictList l = { .search = { .unit = unit }, .items = ret, .max = max };

        for (size_t i = 0; i < own->n && l.n <= max; i++)
                scheduler_view_each_named(view, machine, own->items[i], conflict_add, &l);
        if (l.n <= max)
                scheduler_view_each_naming(view, machine, CLUSTER_CONFLICTS, unit->name, conflict_add, &l);
        if (l.n <= max)
                ports_each(view, unit, machine, false, conflict_add, &l);
        return l.n;
}

/* Search for one more instance of its template there than 'n_spared'. Instances that are being stopped count,
 * as with Conflicts=. */
static ConflictSearch sibling_search(const SchedulerView *view, const ClusterUnit *unit,
                                     const ClusterMachine *machine, unsigned n_spared) {
        ConflictSearch s = { .unit = unit, .n_spared = n_spared };
        const char *name = unit->name;
        char text[UNIT_NAME_MAX + 2];

        snprintf(text, sizeof(text), "%.*s*%s", (int) (strchr(name, '@') + 1 - name), name,
                 strrchr(name, '.'));
        scheduler_view_each_named(view, machine, text, conflict_on_unit, &s);
        return s;
}

static int filter_max_per_machine(const Candidate *c, Refusal *ret) {
        unsigned max = c->placement->max_per_machine;
        ConflictSearch s;
        char text[16];

        if (c->staying || max == 0 || !unit_name_is_instance(c->unit->name) ||
            cluster_is_former(scheduler_view_cluster(c->view)))
                return 0;
        s = sibling_search(c->view, c->unit, c->machine, max - 1);
        snprintf(text, sizeof(text), "%u", max);
        s.glob = text;
        return conflict_refuse(&s, VERDICT_MAX_REACHED, ret);
}

/* -- Other rules -- */

bool scheduler_is_oneshot(const ClusterUnit *unit) {
        const UnitFile *file = &unit->unit->file;
        const char *type = NULL;

        for (size_t i = 0; i < file->n_options; i++)
                if (streq(file->options[i].section, "Service") && streq(file->options[i].name, "Type"))
                        type = file->options[i].value;
        return type && streq(type, "oneshot");
}

#define JOB_RUNS "it is a job that has not ended"

static bool is_running_job(const ClusterUnit *unit, const ClusterMachine *machine) {
        const ClusterState *s = cluster_state_on(machine, unit->name);

        return s && s->state.active && streq(s->state.active, "activating") && scheduler_is_oneshot(unit);
}

bool scheduler_is_bound(const ClusterUnit *unit, const ClusterMachine *machine) {
        const MaintenanceRecord *maintenance = machine->maintenance;

        if (cluster_data_holder(unit, machine))
                return true;
        return unit->unit && unit->unit->placement.move == PLACEMENT_STAYS && !unit->unit->placement.global &&
               !(maintenance && maintenance->force && maintenance->mode != MAINTENANCE_CORDONED);
}

const char *scheduler_drain_spares(const ClusterUnit *unit, const ClusterMachine *machine, uint64_t now_ms) {
        if (!cluster_machine_is_draining(machine) || !unit->unit)
                return NULL;
        if (scheduler_is_bound(unit, machine))
                return "Move=no";
        return !cluster_machine_is_overdue(machine, now_ms) && is_running_job(unit, machine) ? JOB_RUNS :
                                                                                               NULL;
}

const char *scheduler_move_spares(const ClusterUnit *unit, const ClusterMachine *machine) {
        return unit->unit && is_running_job(unit, machine) ? JOB_RUNS : NULL;
}

/* A cordoned machine keeps its units. From one that is to be drained, ordinary units move; when it leaves the
 * cluster, its global units stop last. What is left on a host that goes down for a planned reboot starts
 * there again. */
static int filter_maintenance(const Candidate *c, Refusal *ret) {
        const MaintenanceRecord *maintenance = c->machine->maintenance;

        if (!maintenance)
                return 0;
        if (c->staying &&
            (maintenance->mode == MAINTENANCE_CORDONED ||
             (c->placement->global && !cluster_machine_is_drained(c->machine)) ||
             scheduler_is_bound(c->unit, c->machine) ||
             (cluster_machine_is_rebooting(c->machine) && !cluster_machine_was_drained(c->machine)) ||
             scheduler_drain_spares(c->unit, c->machine, scheduler_view_now_ms(c->view))))
                return 0;
        if (cluster_machine_is_leaving(c->machine))
                return refusal_set(ret, VERDICT_IS_LEAVING, "%s", "");
        if (cluster_machine_is_stopping(c->machine))
                return refusal_set(ret, VERDICT_IS_STOPPING, "%s", "");
        return refusal_set(ret, VERDICT_MAINTAINED, "%s%s%s", maintenance_mode_to_string(maintenance->mode),
                           maintenance->purpose[0] ? " for " : "", maintenance->purpose);
}

/* With a requested move, a unit fits on one machine only, and leaves the others as in a drain. */
static int filter_move(const Candidate *c, Refusal *ret) {
        const MoveRecord *move = c->unit->move;

        if (!move || streq(move->to, c->machine->id) ||
            (c->staying && scheduler_move_spares(c->unit, c->machine)))
                return 0;
        return refusal_set(ret, VERDICT_OTHER_MACHINE, "%s", "");
}

static int room_refuse(const Candidate *c, bool memory, Refusal *ret) {
        Resources of = scheduler_view_capacity(c->view, c->machine), asks = c->placement->request;
        Sums sums = scheduler_view_requested(c->view, c->machine, c->unit->name);
        uint64_t request = memory ? asks.memory_mib : asks.cpu_percent,
                 requested = memory ? sums.memory_mib : sums.cpu_percent,
                 capacity = memory ? of.memory_mib : of.cpu_percent;
        _cleanup_text_ Text t = {};

        text_append(&t, memory ? "memory" : "cpu");
        text_append(&t, VERDICT_NEXT);
        resources_append(&t, request, memory);
        text_append(&t, VERDICT_NEXT);
        resources_append(&t, capacity - MIN(requested, capacity), memory);
        text_append(&t, " of ");
        resources_append(&t, capacity, memory);
        text_printf(&t, VERDICT_NEXT "%zu unit%s request%s ", sums.n, plural(sums.n), sums.n == 1 ? "s" : "");
        resources_append(&t, requested, memory);
        return refusal_set(ret, VERDICT_NO_ROOM, "%s", text_chars(&t));
}

static uint32_t room_lack(uint32_t request, uint64_t requested, uint32_t capacity) {
        uint64_t sum = request + requested;

        return request > 0 && sum > capacity ? (uint32_t) MIN(sum - capacity, (uint64_t) UINT32_MAX) : 0;
}

Resources scheduler_lack(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        Resources request = unit->unit->placement.request, capacity = scheduler_view_capacity(view, machine);
        Sums sums = scheduler_view_requested(view, machine, unit->name);

        return resources_are_set(capacity) ?
                       (Resources) { room_lack(request.memory_mib, sums.memory_mib, capacity.memory_mib),
                                     room_lack(request.cpu_percent, sums.cpu_percent,
                                               capacity.cpu_percent) } :
                       capacity;
}

/* Only a request makes a unit wait for room, and only on a machine whose capacity is known. */
static int filter_resources(const Candidate *c, Refusal *ret) {
        Resources lack = {};

        if (!c->staying && resources_are_set(c->placement->request))
                lack = scheduler_lack(c->view, c->unit, c->machine);
        if (!resources_are_set(lack))
                return 0;
        return ret ? room_refuse(c, lack.memory_mib > 0, ret) : -ENOENT;
}

/* A machine that was lost repeatedly keeps its units, and gets no others for a while. */
static int filter_flap_damping(const Candidate *c, Refusal *ret) {
        uint64_t hold_off_ms = presence_hold_off_ms(c->machine, scheduler_view_now_ms(c->view)),
                 seconds = (hold_off_ms + 999) / 1000;
        bool minutes = seconds > 90;

        if (c->staying || hold_off_ms == 0)
                return 0;
        return refusal_set(ret, VERDICT_DAMPED, "%llu time%s" VERDICT_NEXT "%llu %s",
                           (unsigned long long) c->machine->losses, plural(c->machine->losses),
                           (unsigned long long) (minutes ? (seconds + 59) / 60 : seconds),
                           minutes ? "min" : "s");
}

static int filter_foreign(const Candidate *c, Refusal *ret) {
        return cluster_has_conflicting_unit(c->unit, c->machine) ?
                       refusal_set(ret, VERDICT_FOREIGN_UNIT, "%s", "") :
                       0;
}

const Filter scheduler_filters[_RULE_MAX] = {
        [RULE_PRESENCE] = { "Presence", filter_presence },
        [RULE_QUADLET] = { "Quadlet", filter_quadlet },
        [RULE_MACHINE_ID] = { "MachineID", filter_machine_id },
        [RULE_STICKY] = { "Sticky", filter_sticky },
        [RULE_METADATA] = { "MachineMetadata", filter_metadata },
        [RULE_MACHINE_OF] = { "MachineOf", filter_machine_of },
        [RULE_CONFLICTS] = { "Conflicts", filter_conflicts },
        [RULE_PORT] = { "Port", filter_port },
        [RULE_MAX_PER_MACHINE] = { "MaxPerMachine", filter_max_per_machine },
        [RULE_FOREIGN] = { "Foreign", filter_foreign },
        [RULE_MAINTENANCE] = { "Maintenance", filter_maintenance },
        [RULE_MOVE] = { "RequestedMove", filter_move },
        [RULE_RESOURCES] = { "Resources", filter_resources },
        [RULE_FLAP_DAMPING] = { "FlapDamping", filter_flap_damping },
};

SchedulerRule scheduler_check(unsigned ignored, const SchedulerView *view, const ClusterUnit *unit,
                              const ClusterMachine *machine, bool staying, Refusal *ret) {
        assert(unit->unit);

        const Candidate c = { .view = view,
                              .unit = unit,
                              .placement = &unit->unit->placement,
                              .machine = machine,
                              .staying = staying };

        for (SchedulerRule rule = 0; rule < _RULE_MAX; rule++)
                if (!(ignored & 1u << rule) && scheduler_filters[rule].check(&c, ret) < 0)
                        return rule;
        return RULE_NONE;
}

unsigned scheduler_max_needed(const SchedulerView *view, const ClusterUnit *unit,
                              const ClusterMachine *machine) {
        if (scheduler_check(0, view, unit, machine, false, NULL) == RULE_NONE ||
            scheduler_check(1u << RULE_MAX_PER_MACHINE, view, unit, machine, false, NULL) != RULE_NONE)
                return MAX_PER_MACHINE_MAX + 1;
        return MAX_PER_MACHINE_MAX + 1 - sibling_search(view, unit, machine, MAX_PER_MACHINE_MAX).n_spared;
}
