/* Hard rules: fleet's table, in fleet's order, the machine's presence first. */
#include <assert.h>

#include "fleetd/registry/presence.h"
#include "fleetd/scheduler/rules.h"
#include "units/quadlet.h"

static const Placement *wants(const ClusterUnit *unit) {
        return &unit->unit->placement;
}

static bool presence_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                          bool staying, Error *ret_why) {
        static const char *const sentences[_PRESENCE_MAX] = {
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
                error_set(ret_why, -ENOENT, "%s", sentences[m->presence]);
                return false;
        }
        if (!m->facts) {
                error_set(ret_why, -ENOENT, "it has not said yet what it is");
                return false;
        }
        return true;
}

/* What is there already stays: podman may be on its way to another version. */
static bool quadlet_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                         bool staying, Error *ret_why) {
        if (staying || !quadlet_is(unit->name) || m->facts->quadlet)
                return true;
        error_set(ret_why, -ENOENT,
                  ".%s files need podman 5.3 or later, and its systemd has no podman-system-generator",
                  unit_name_type(unit->name));
        return false;
}

static bool machine_id_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                            bool staying, Error *ret_why) {
        if (placement_machine_id_fits(wants(unit), m->id))
                return true;
        error_set(ret_why, -ENOENT, "MachineID=%s, and its id is %s", wants(unit)->machine_id, m->id);
        return false;
}

static bool metadata_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                          bool staying, Error *ret_why) {
        const Pairs *has = &m->metadata;
        _cleanup_text_ Text asked = {};
        const char *key, *value;

        if (placement_metadata_fits(wants(unit), has, &key))
                return true;
        /* A machine that is not heard of keeps its units: what it has is unknown, not absent. */
        if (staying && (!m->facts || cluster_machine_is_unreadable(m)))
                return true;

        placement_metadata_describe(wants(unit), key, &asked);
        value = pairs_get(has, key);
        if (value)
                error_set(ret_why, -ENOENT, "MachineMetadata=%s, and it has %s=%s",
                          asked.chars ? asked.chars : key, key, value);
        else
                error_set(ret_why, -ENOENT, "MachineMetadata=%s, and it has no %s",
                          asked.chars ? asked.chars : key, key);
        return false;
}

static bool machine_of_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                            bool staying, Error *ret_why) {
        const Names *peers = &wants(unit)->machine_of;

        for (size_t i = 0; i < peers->n; i++)
                if (!scheduler_view_has(view, m, peers->items[i])) {
                        error_set(ret_why, -ENOENT, "MachineOf=%s, and %s is not there", peers->items[i],
                                  peers->items[i]);
                        return false;
                }
        return true;
}

/* -- Conflicts -- */

typedef struct Search {
        const ClusterUnit *unit;
        const ClusterAssignment *assignment; /* of 'unit' on that machine, if it is there */
        bool staying;
        const ClusterUnit *found;
        const char *glob;
} Search;

/* Of two that conflict on one machine one has to go: a global unit before an ordinary one, the later before
 * the earlier, and of two of the same moment the one with the greater name. It depends on the picture alone,
 * so whichever of the two is looked at, the answer is the same. */
static bool yields_to(const Search *s, const Placed *other) {
        bool global = wants(s->unit)->global, other_global = wants(other->unit)->global;

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

static bool no_conflict(void *userdata, const Placed *other, const char *glob) {
        Search *s = userdata;

        if (other->unit == s->unit || streq(other->unit->name, s->unit->name)) /* or its own former text */
                return true;
        /* What cannot be read holds its place against newcomers, by its name; nothing goes because of it. */
        if (other->unit->unreadable ? s->staying : !other->unit->unit)
                return true;
        if (s->staying && (other->stopping || !yields_to(s, other)))
                return true;

        s->found = other->unit;
        s->glob = glob;
        return false;
}

static bool conflicts_fit(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                          bool staying, Error *ret_why) {
        const Names *own = &wants(unit)->conflicts;
        Search s = { .unit = unit, .staying = staying };

        if (staying)
                for (const ClusterAssignment *o = unit->assignments; o && !s.assignment; o = o->next)
                        if (o->machine == m)
                                s.assignment = o;

        for (size_t i = 0; i < own->n && !s.found; i++)
                scheduler_view_each_named(view, m, own->items[i], no_conflict, &s);
        if (s.found) {
                error_set(ret_why, -ENOENT, "Conflicts=%s, and %s runs there", s.glob, s.found->name);
                return false;
        }
        scheduler_view_each_naming(view, m, CLUSTER_CONFLICTS, unit->name, no_conflict, &s);
        if (s.found)
                error_set(ret_why, -ENOENT, "%s runs there and has Conflicts=%s", s.found->name, s.glob);
        return !s.found;
}

/* -- Rest -- */

/* Twice in short order it was lost: its units stay and come back, but no others come before it has lasted for
 * a while. */
static bool quiet_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                       bool staying, Error *ret_why) {
        uint64_t quiet_ms = presence_quiet(m, scheduler_view_now_ms(view)), seconds = (quiet_ms + 999) / 1000;
        bool minutes = seconds > 90;

        if (staying || quiet_ms == 0)
                return true;
        error_set(ret_why, -ENOENT, "it was lost %llu times in short order; nothing new for %llu %s",
                  (unsigned long long) m->losses,
                  (unsigned long long) (minutes ? (seconds + 59) / 60 : seconds), minutes ? "min" : "s");
        return false;
}

/* -- Names that are taken -- */

static bool name_is_free(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                         bool staying, Error *ret_why) {
        if (!cluster_name_is_taken(unit, m))
                return true;
        error_set(ret_why, -ENOENT, "it has a unit of that name from elsewhere");
        return false;
}

const Filter scheduler_filters[_RULE_MAX] = {
        { RULE_PRESENCE, "", presence_fits },
        { RULE_QUADLET, "Quadlet", quadlet_fits },
        { RULE_MACHINE_ID, "MachineID", machine_id_fits },
        { RULE_METADATA, "MachineMetadata", metadata_fits },
        { RULE_MACHINE_OF, "MachineOf", machine_of_fits },
        { RULE_CONFLICTS, "Conflicts", conflicts_fit },
        { RULE_FOREIGN, "", name_is_free },
        { RULE_FLAP_DAMPING, "", quiet_fits },
};

SchedulerRule scheduler_refusal(const SchedulerView *view, const ClusterUnit *unit,
                                const ClusterMachine *machine, bool staying, Error *ret_why) {
        assert(unit->unit);
        for (size_t i = 0; i < ELEMENTS(scheduler_filters); i++)
                if (!scheduler_filters[i].fits(view, unit, machine, staying, ret_why))
                        return scheduler_filters[i].rule;
        return RULE_NONE;
}

bool scheduler_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                    bool staying, Error *ret_why) {
        return scheduler_refusal(view, unit, machine, staying, ret_why) == RULE_NONE;
}

bool scheduler_may_return(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        SchedulerRule rule = scheduler_refusal(view, unit, machine, false, NULL);

        return rule == RULE_NONE || rule == RULE_FLAP_DAMPING;
}
