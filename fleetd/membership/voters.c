#include "fleetd/membership/voters.h"

#include <stdarg.h>
#include <stdio.h>

static const char *const action_names[_VOTERS_ACTION_MAX] = {
        [VOTERS_NOTHING] = "nothing", [VOTERS_ADD] = "add",       [VOTERS_PROMOTE] = "promote",
        [VOTERS_DEMOTE] = "demote",   [VOTERS_REMOVE] = "remove", [VOTERS_VACATE] = "vacate",
};

const char *voters_action_name(VotersAction action) {
        return action >= 0 && action < _VOTERS_ACTION_MAX ? action_names[action] : NULL;
}

typedef struct Configuration {
        const KvMember *members;
        size_t n;
        uint64_t leader_id, last;
        const Cluster *cluster;
        size_t n_voters, n_standbys, n_voters_reachable;
} Configuration;

_printf_(4, 5) static void voters_decide(VotersChange *ret, VotersAction action, const KvMember *m,
                                         const char *format, ...) {
        va_list ap;

        ret->action = action;
        ret->raft_id = m->raft_id;
        snprintf(ret->address, sizeof(ret->address), "%s", m->address);
        va_start(ap, format);
        vsnprintf(ret->reason, sizeof(ret->reason), format, ap);
        va_end(ap);
}

static const ClusterMachine *voters_owner(const Configuration *c, uint64_t raft_id) {
        for (const ClusterMachine *m = c->cluster->machines; m; m = m->hh.next)
                if (m->member.raft_id == raft_id)
                        return cluster_machine_successor(m) || cluster_machine_is_removed(m) ? NULL : m;
        return NULL;
}

static const KvMember *voters_member(const Configuration *c, uint64_t raft_id) {
        for (size_t i = 0; i < c->n; i++)
                if (c->members[i].raft_id == raft_id)
                        return &c->members[i];
        return NULL;
}

static bool voters_is_ready(const Configuration *c, const KvMember *m) {
        return m->role == KV_MEMBER_STANDBY && m->reachable && m->match + VOTERS_BEHIND_MAX >= c->last &&
               voters_owner(c, m->raft_id);
}

static size_t voters_majority(size_t n) {
        return n / 2 + 1;
}

/* Return a member that no machine owns, a voter or a standby. While the key of the leader's machine is
 * missing, or a member key is unreadable, the cluster view is incomplete, and no member counts as abandoned.
 */
static const KvMember *voters_abandoned(const Configuration *c, bool voters) {
        if (!voters_owner(c, c->leader_id))
                return NULL;
        for (const ClusterMachine *m = c->cluster->machines; m; m = m->hh.next)
                if (cluster_machine_has_unreadable(m, LAYOUT_MEMBER))
                        return NULL;
        for (size_t i = 0; i < c->n; i++) {
                const KvMember *m = &c->members[i];

                if ((m->role == KV_MEMBER_VOTER) == voters && m->raft_id != c->leader_id &&
                    !voters_owner(c, m->raft_id))
                        return m;
        }
        return NULL;
}

static bool voters_remove_abandoned(const Configuration *c, VotersChange *ret) {
        const KvMember *m = voters_abandoned(c, false);
        size_t n_reachable;

        if (m) {
                voters_decide(ret, VOTERS_REMOVE, m, "no host has its Raft id %llu any more",
                              (unsigned long long) m->raft_id);
                return true;
        }

        m = voters_abandoned(c, true);
        if (!m || c->n_voters <= VOTERS_WANTED)
                return false;
        n_reachable = c->n_voters_reachable - m->reachable;
        if (n_reachable < voters_majority(c->n_voters - 1))
                return false;
        voters_decide(ret, VOTERS_REMOVE, m, "no host has its Raft id %llu any more, and enough others vote",
                      (unsigned long long) m->raft_id);
        return true;
}

/* No two members may have one address. */
static const KvMember *voters_member_at(const Configuration *c, const char *address) {
        for (size_t i = 0; i < c->n; i++)
                if (streq(c->members[i].address, address))
                        return &c->members[i];
        return NULL;
}

static bool voters_add_standby(const Configuration *c, VotersChange *ret) {
        const ClusterMachine *first = NULL;
        const KvMember *occupant;

        if (c->n_standbys >= VOTERS_STANDBYS_MAX || c->n >= KV_MEMBERS_MAX)
                return false;

        for (const ClusterMachine *m = c->cluster->machines; m; m = m->hh.next) {
                if (m->member.raft_id == 0 || !m->member.peer[0] || m->presence != PRESENCE_UP ||
                    voters_member(c, m->member.raft_id))
                        continue;
                occupant = voters_member_at(c, m->member.peer);
                if (occupant && voters_owner(c, occupant->raft_id))
                        continue;
                if (!first || strcmp(m->id, first->id) < 0)
                        first = m;
        }
        if (!first)
                return false;

        /* The host has lost its state, and too few members vote to remove its former one now. */
        occupant = voters_member_at(c, first->member.peer);
        if (occupant) {
                voters_decide(ret, VOTERS_VACATE, occupant, "%s is at its address now",
                              cluster_machine_name(first));
                return true;
        }

        KvMember fresh = { .raft_id = first->member.raft_id };

        memcpy(fresh.address, first->member.peer, sizeof(fresh.address));
        voters_decide(ret, VOTERS_ADD, &fresh, "%s is to hold a replica", cluster_machine_name(first));
        return true;
}

static bool voters_promote(const Configuration *c, VotersChange *ret) {
        bool replacing = c->n_voters >= VOTERS_WANTED && voters_abandoned(c, true);
        const KvMember *first = NULL;
        size_t ready = 0, needed = 0;

        for (size_t i = 0; i < c->n; i++) {
                if (!voters_is_ready(c, &c->members[i]))
                        continue;
                ready++;
                if (!first || c->members[i].raft_id < first->raft_id)
                        first = &c->members[i];
        }

        /* Two voters could lose neither: one voter becomes three at once. */
        if (c->n_voters < VOTERS_WANTED)
                needed = VOTERS_WANTED - c->n_voters;
        else if (replacing && c->n_voters == VOTERS_WANTED)
                needed = 1;
        if (needed == 0 || ready < needed)
                return false;
        if (c->n_voters_reachable + 1 < voters_majority(c->n_voters + 1))
                return false;

        if (replacing)
                voters_decide(ret, VOTERS_PROMOTE, first, "it is to replace a voter");
        else
                voters_decide(ret, VOTERS_PROMOTE, first, "it is caught up, and %zu of %d votes are taken",
                              c->n_voters, VOTERS_WANTED);
        return true;
}

/* Two voters without a third host are safer as a voter and a standby. */
static bool voters_demote(const Configuration *c, VotersChange *ret) {
        if (c->n_voters != 2 || c->n != 2 || c->n_voters_reachable != 2)
                return false;
        voters_decide(ret, VOTERS_DEMOTE, &c->members[c->members[0].raft_id == c->leader_id],
                      "of two hosts one votes");
        return true;
}

size_t voters_others(const Cluster *cluster, const char *machine_id, const char *address) {
        size_t n = 0;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                const ClusterMachine *first = cluster->machines; /* at this address */

                if (m->member.raft_id == 0 || cluster_machine_is_removed(m) || streq(m->id, machine_id) ||
                    streq(m->member.peer, address))
                        continue;
                while (first != m &&
                       (first->member.raft_id == 0 || !streq(first->member.peer, m->member.peer)))
                        first = first->hh.next;
                n += first == m;
        }
        return n;
}

void voters_plan(const KvMember *members, size_t n_members, uint64_t leader_id, uint64_t last,
                 const Cluster *cluster, VotersChange *ret) {
        Configuration c = {
                .members = members, .n = n_members, .leader_id = leader_id, .last = last, .cluster = cluster
        };

        *ret = (VotersChange) { .action = VOTERS_NOTHING };
        for (size_t i = 0; i < n_members; i++) {
                if (members[i].role == KV_MEMBER_VOTER) {
                        c.n_voters++;
                        c.n_voters_reachable += members[i].reachable;
                } else
                        c.n_standbys++;
        }

        if (voters_remove_abandoned(&c, ret) || voters_add_standby(&c, ret) || voters_promote(&c, ret))
                return;
        (void) voters_demote(&c, ret);
}
