#include "fleetd/sessions/leaving.h"

#include "fleetd/registry/unit_order.h"

enum { LEAVING_NAMES_MAX = 4 }; /* units that a message names */

const char *const leaving_step_names[_LEAVING_STEP_MAX] = {
        [LEAVING_NOT] = "none",          [LEAVING_OWNER] = "owner",   [LEAVING_UNITS] = "units",
        [LEAVING_DRAIN] = "drain",       [LEAVING_GLOBAL] = "global", [LEAVING_VOTE] = "vote",
        [LEAVING_TRANSFER] = "transfer", [LEAVING_WAIT] = "wait",     [LEAVING_END] = "end",
};

/* Return how many units the unit directory of the machine has submitted; append the names of the first. */
static size_t leaving_count_owned(const Cluster *cluster, const ClusterMachine *machine, Text *names) {
        UnitPosition position = {};
        const ClusterUnit *u;
        size_t n = 0;

        while ((u = unit_order_next(&cluster->by_name, &position))) {
                const Unit *unit = u->unit;

                if (!unit || !unit->owner || !streq(unit->owner, machine->id))
                        continue;
                if (n++ < LEAVING_NAMES_MAX && names)
                        text_printf(names, "%s%s", n > 1 ? ", " : "", unit->name);
        }
        return n;
}

/* Also a file that equals the unit of another host would start that unit here once more. */
bool leaving_owns_units(const Cluster *cluster, const ClusterMachine *machine, const Directory *directory,
                        Error *ret) {
        _cleanup_text_ Text owned = {}, files = {};
        size_t n_owned = leaving_count_owned(cluster, machine, &owned);
        int n = n_owned > 0 ? 0 : directory_list_units(directory, &files);

        if (n_owned > 0)
                error_set(
                        ret, -EEXIST,
                        "the unit directory of this host owns %zu unit%s (%s%s): move the file%s to another "
                        "host, or remove %s",
                        n_owned, n_owned == 1 ? "" : "s", owned.chars ?: "",
                        n_owned > LEAVING_NAMES_MAX ? ", ..." : "", n_owned == 1 ? "" : "s",
                        n_owned == 1 ? "it" : "them");
        else if (n < 0)
                error_set(ret, n, "the unit directory of this host cannot be read: %s; mend that first",
                          strerror(-n));
        else if (n > 0)
                error_set(
                        ret, -EEXIST,
                        "the unit directory of this host contains %d unit file%s (%s%s), which it would run "
                        "again after the leave: move %s out of the directory first",
                        n, n == 1 ? "" : "s", files.chars ?: "", n > LEAVING_NAMES_MAX ? ", ..." : "",
                        n == 1 ? "it" : "them");
        return n_owned > 0 || n != 0;
}

/* Return the first assignment on the machine by name of its unit; 'global': of global units, too. */
static const ClusterAssignment *leaving_first(const ClusterMachine *machine, bool global, size_t *ret_n) {
        const ClusterAssignment *first = NULL;

        *ret_n = 0;
        for (const ClusterAssignment *a = machine->assignments; a; a = a->hh.next) {
                if (!global && a->of->unit && a->of->unit->placement.global)
                        continue;
                ++*ret_n;
                if (!first || strcmp(a->unit, first->unit) < 0)
                        first = a;
        }
        return first;
}

const char *leaving_unit(const ClusterMachine *machine, size_t *ret_n) {
        const ClusterAssignment *first = leaving_first(machine, false, ret_n);

        return first ? first->unit : NULL;
}

/* A finished unit keeps its assignment, and runs nowhere. */
static bool leaving_has_units(const ClusterMachine *machine, bool global) {
        size_t n;

        return leaving_first(machine, global, &n);
}

/* Whether 'a' was told to leave before 'b'. The clocks of hosts differ; the order is the same everywhere. */
static bool leaving_is_before(const ClusterMachine *a, const ClusterMachine *b) {
        if (a->maintenance->since_ms != b->maintenance->since_ms)
                return a->maintenance->since_ms < b->maintenance->since_ms;
        return strcmp(a->id, b->id) < 0;
}

/* Return a machine that has no units any more, and leaves before this one. */
static const ClusterMachine *leaving_before(const Cluster *cluster, const ClusterMachine *machine) {
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next)
                if (m != machine && cluster_machine_is_drained(m) && m->presence == PRESENCE_UP &&
                    !leaving_has_units(m, true) && leaving_is_before(m, machine) &&
                    leaving_count_owned(cluster, m, NULL) == 0)
                        return m;
        return NULL;
}

static const KvMember *leaving_member(const KvState *state, uint64_t raft_id) {
        for (size_t i = 0; i < state->n_members && raft_id != 0; i++)
                if (state->members[i].raft_id == raft_id)
                        return &state->members[i];
        return NULL;
}

/* Return the voter that leads next: up, caught up, and not leaving; the smallest ID. */
static const ClusterMachine *leaving_successor(const Cluster *cluster, const KvState *state,
                                               const ClusterMachine *machine) {
        const ClusterMachine *best = NULL;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                const KvMember *member = leaving_member(state, m->member.raft_id);

                if (m != machine && member && member->role == KV_MEMBER_VOTER && member->reachable &&
                    m->presence == PRESENCE_UP && !cluster_machine_is_leaving(m) &&
                    (!best || strcmp(m->id, best->id) < 0))
                        best = m;
        }
        return best;
}

LeavingStep leaving_step(const Cluster *cluster, const KvState *state, const ClusterMachine *machine,
                         const ClusterMachine **ret_other) {
        const KvMember *member = leaving_member(state, machine->member.raft_id);

        *ret_other = NULL;
        if (cluster_machine_has_left(machine)) /* it ends as soon as it sees that */
                return LEAVING_END;
        if (!cluster_machine_is_leaving(machine))
                return LEAVING_NOT;
        if (leaving_count_owned(cluster, machine, NULL) > 0)
                return LEAVING_OWNER;
        if (leaving_has_units(machine, false))
                return LEAVING_UNITS;
        if (!cluster_machine_is_drained(machine))
                return LEAVING_DRAIN;
        if (leaving_has_units(machine, true))
                return LEAVING_GLOBAL;
        *ret_other = leaving_before(cluster, machine);
        if (*ret_other)
                return LEAVING_WAIT;
        if (member && member->raft_id == state->leader_id) {
                *ret_other = leaving_successor(cluster, state, machine);
                return *ret_other ? LEAVING_TRANSFER : LEAVING_VOTE;
        }
        return member && member->role == KV_MEMBER_VOTER ? LEAVING_VOTE : LEAVING_END;
}
