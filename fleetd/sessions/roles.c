/* Changes of the roles of members, for the history: the leader compares Raft's configuration with that of its
 * tick before. A change that a former leader has seen committed, but not noted, has no row. */

#include "fleetd/sessions/membership_internal.h"

static const KvMember *roles_find(const KvMember *members, size_t n, uint64_t raft_id) {
        for (size_t i = 0; i < n; i++)
                if (members[i].raft_id == raft_id)
                        return &members[i];
        return NULL;
}

static const char *roles_name(const KvMember *member) {
        return member ? kv_member_role_name(member->role) : "no member";
}

static void roles_note(Membership *m, uint64_t raft_id, const char *machine, const KvMember *before,
                       const KvMember *now) {
        char reason[128];

        snprintf(reason, sizeof(reason), "%s (before: %s), replica %llu", roles_name(now), roles_name(before),
                 (unsigned long long) raft_id);
        registry_note(m->registry,
                      &(HistoryNote) { .kind = HISTORY_ROLE,
                                       .machine = machine[0] ? machine : NULL,
                                       .reason = reason },
                      1);
}

/* Write the machine of a member. A machine that is removed loses its member key before Raft's configuration
 * loses the member: the one of the tick before counts then. */
static void roles_find_machine(const Membership *m, uint64_t raft_id, char ret[static MACHINE_ID_SIZE]) {
        const ClusterMachine *machine = cluster_machine_of_member(registry_cluster(m->registry), raft_id);
        const Roles *known = &m->roles;
        const char *id = machine ? machine->id : "";

        for (size_t i = 0; i < known->n && !machine; i++)
                if (known->members[i].raft_id == raft_id)
                        id = known->machines[i];
        snprintf(ret, MACHINE_ID_SIZE, "%s", id);
}

void roles_observe(Membership *m, const KvState *state) {
        Roles *known = &m->roles, next = { .term = state->term, .n = state->n_members };

        for (size_t i = 0; i < state->n_members; i++) {
                next.members[i] = state->members[i];
                roles_find_machine(m, state->members[i].raft_id, next.machines[i]);
        }
        for (size_t i = 0; i < state->n_members && known->term == state->term; i++) {
                const KvMember *now = &state->members[i];
                const KvMember *before = roles_find(known->members, known->n, now->raft_id);

                if (!before || before->role != now->role)
                        roles_note(m, now->raft_id, next.machines[i], before, now);
        }
        for (size_t i = 0; i < known->n && known->term == state->term; i++)
                if (!roles_find(state->members, state->n_members, known->members[i].raft_id))
                        roles_note(m, known->members[i].raft_id, known->machines[i], &known->members[i],
                                   NULL);
        *known = next;
}
