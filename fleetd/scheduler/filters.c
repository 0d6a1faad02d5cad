/* The rules of fleet in the order of fleet, after the presence of the machine. */
#include "fleetd/scheduler/filters.h"

#include "fleetd/registry/presence.h"
#include "units/quadlet.h"

static const Placement *filter_placement(const ClusterUnit *unit) {
        return &unit->unit->placement;
}

static bool filter_presence(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                            bool staying, Error *ret_why) {
        static const char *const reasons[_PRESENCE_MAX] = {
                [PRESENCE_AWAY] = "its fleetd does not answer",
                [PRESENCE_LOST] = "it is lost",
                [PRESENCE_LEFT] = "it has left",
        };

        if (staying)
                return true;
        if (cluster_machine_is_unreadable(m)) {
                error_set(ret_why, -ENOENT, "%s", CLUSTER_UNREADABLE);
                return false;
        }
        if (m->presence != PRESENCE_UP) {
                error_set(ret_why, -ENOENT, "%s", reasons[m->presence]);
                return false;
        }
        if (!m->facts) {
                error_set(ret_why, -ENOENT, "it has not said yet what it is");
                return false;
        }
        return true;
}

/* A unit that is there stays: an upgrade of podman may remove the generator for a moment. */
static bool filter_quadlet(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                           bool staying, Error *ret_why) {
        if (staying || !quadlet_is(unit->name) || m->facts->quadlet)
                return true;
        error_set(ret_why, -ENOENT,
                  ".%s files need podman 5.3 or later, and its systemd has no podman-system-generator",
                  unit_name_type(unit->name));
        return false;
}

static bool filter_machine_id(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                              bool staying, Error *ret_why) {
        if (placement_machine_id_fits(filter_placement(unit), m->id))
                return true;
        error_set(ret_why, -ENOENT, "MachineID=%s, and its id is %s", filter_placement(unit)->machine_id,
                  m->id);
        return false;
}

static bool filter_metadata(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                            bool staying, Error *ret_why) {
        const Pairs *has = &m->metadata;
        _cleanup_text_ Text required = {};
        const char *key, *value;

        if (placement_metadata_fits(filter_placement(unit), has, &key))
                return true;
        /* The metadata of a machine without readable facts is unknown, not absent: it keeps its units. */
        if (staying && (!m->facts || cluster_machine_is_unreadable(m)))
                return true;

        placement_metadata_describe(filter_placement(unit), key, &required);
        value = pairs_get(has, key);
        if (value)
                error_set(ret_why, -ENOENT, "MachineMetadata=%s, and it has %s=%s",
                          required.chars ? required.chars : key, key, value);
        else
                error_set(ret_why, -ENOENT, "MachineMetadata=%s, and it has no %s",
                          required.chars ? required.chars : key, key);
        return false;
}

static bool filter_machine_of(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                              bool staying, Error *ret_why) {
        const Names *units = &filter_placement(unit)->machine_of;

        for (size_t i = 0; i < units->n; i++)
                if (!scheduler_view_has(view, m, units->items[i])) {
                        error_set(ret_why, -ENOENT, "MachineOf=%s, and %s is not there", units->items[i],
                                  units->items[i]);
                        return false;
                }
        return true;
}

/* -- Conflicts= -- */

typedef struct ConflictSearch {
        const ClusterUnit *unit;
        const ClusterAssignment *assignment; /* of 'unit' on that machine, or NULL */
        bool staying;
        const ClusterUnit *found;
        const char *glob;
} ConflictSearch;

/* Return whether the unit, rather than 'other', leaves a machine on which the two conflict: a global unit
 * before an ordinary one, the later before the earlier, then the one with the greater name. The result
 * depends on the cluster view alone, so that exactly one of the two leaves. */
static bool conflict_yields(const ConflictSearch *s, const Placed *other) {
        bool global = filter_placement(s->unit)->global, other_global = filter_placement(other->unit)->global;

        if (global != other_global)
                return global;
        if (!s->assignment || !other->assignment)
                return !s->assignment;
        if (s->assignment->since_ms != other->assignment->since_ms)
                return s->assignment->since_ms > other->assignment->since_ms;
        if (s->assignment->created != other->assignment->created)
                return s->assignment->created > other->assignment->created;
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

        s->found = other->unit;
        s->glob = glob;
        return false;
}

static bool filter_conflicts(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                             bool staying, Error *ret_why) {
        const Names *own = &filter_placement(unit)->conflicts;
        ConflictSearch s = { .unit = unit, .staying = staying };

        if (staying)
                for (const ClusterAssignment *o = LIST_FIRST(&unit->assignments); o && !s.assignment;
                     o = LIST_NEXT(o, of_unit))
                        if (o->machine == m)
                                s.assignment = o;

        for (size_t i = 0; i < own->n && !s.found; i++)
                scheduler_view_each_named(view, m, own->items[i], conflict_on_unit, &s);
        if (s.found) {
                error_set(ret_why, -ENOENT, "Conflicts=%s, and %s runs there", s.glob, s.found->name);
                return false;
        }
        scheduler_view_each_naming(view, m, CLUSTER_CONFLICTS, unit->name, conflict_on_unit, &s);
        if (s.found)
                error_set(ret_why, -ENOENT, "%s runs there and has Conflicts=%s", s.found->name, s.glob);
        return !s.found;
}

/* -- Other rules -- */

/* A machine that was lost repeatedly keeps its units, and gets no others for a while. */
static bool filter_flap_damping(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                                bool staying, Error *ret_why) {
        uint64_t quiet_ms = presence_hold_off_ms(m, scheduler_view_now_ms(view)),
                 seconds = (quiet_ms + 999) / 1000;
        bool minutes = seconds > 90;

        if (staying || quiet_ms == 0)
                return true;
        error_set(ret_why, -ENOENT, "it was lost %llu times in short order; nothing new for %llu %s",
                  (unsigned long long) m->losses,
                  (unsigned long long) (minutes ? (seconds + 59) / 60 : seconds), minutes ? "min" : "s");
        return false;
}

static bool filter_foreign(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                           bool staying, Error *ret_why) {
        if (!cluster_has_conflicting_unit(unit, m))
                return true;
        error_set(ret_why, -ENOENT, "it has a unit of that name from elsewhere");
        return false;
}

const Filter scheduler_filters[_RULE_MAX] = {
        { RULE_PRESENCE, "", filter_presence },
        { RULE_QUADLET, "Quadlet", filter_quadlet },
        { RULE_MACHINE_ID, "MachineID", filter_machine_id },
        { RULE_METADATA, "MachineMetadata", filter_metadata },
        { RULE_MACHINE_OF, "MachineOf", filter_machine_of },
        { RULE_CONFLICTS, "Conflicts", filter_conflicts },
        { RULE_FOREIGN, "", filter_foreign },
        { RULE_FLAP_DAMPING, "", filter_flap_damping },
};
