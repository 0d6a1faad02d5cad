/* Changes of the roles of members, for the history: the leader compares Raft's configuration with that of its
 * tick before. A change that a former leader has seen committed, but not noted, has no row. */
#include <stdio.h>

#include "fleetd/membership/membership_internal.h"

static const KvMember *roles_find(const KvMember *members, size_t n, uint64_t raft_id) {
        for (size_t i = 0; i < n; i++)
                if (members[i].raft_id == raft_id)
                        return &members[i];
        return NULL;
}

static const char *roles_name(const KvMember *member) {
        return member ? kv_member_role_name(member->role) : "no member";
}

static void roles_note(Membership *m, uint64_t raft_id, const KvMember *before, const KvMember *now) {
        const ClusterMachine *machine = cluster_machine_of_member(registry_cluster(m->registry), raft_id);
        char reason[128];

        snprintf(reason, sizeof(reason), "%s (before: %s), replica %llu", roles_name(now), roles_name(before),
                 (unsigned long long) raft_id);
        registry_note(m->registry,
                      &(HistoryNote) { .kind = HISTORY_ROLE,
                                       .machine = machine ? machine->id : NULL,
                                       .reason = reason },
                      1);
}

void roles_observe(Membership *m, const KvState *state) {
        Roles *known = &m->roles;

        for (size_t i = 0; i < state->n_members && known->term == state->term; i++) {
                const KvMember *now = &state->members[i];
                const KvMember *before = roles_find(known->members, known->n, now->raft_id);

                if (!before || before->role != now->role)
                        roles_note(m, now->raft_id, before, now);
        }
        for (size_t i = 0; i < known->n && known->term == state->term; i++)
                if (!roles_find(state->members, state->n_members, known->members[i].raft_id))
                        roles_note(m, known->members[i].raft_id, &known->members[i], NULL);
        known->term = state->term;
        known->n = state->n_members;
        memcpy(known->members, state->members, state->n_members * sizeof(*known->members));
}
