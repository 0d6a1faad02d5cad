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

typedef struct Seats {
        const KvMember *members;
        size_t n;
        uint64_t leader_id, last;
        const Cluster *cluster;
        size_t n_voters, n_standbys, n_voters_reachable;
} Seats;

static void decide(VotersChange *ret, VotersAction action, const KvMember *m, const char *format, ...)
        _printf_(4, 5);

static void decide(VotersChange *ret, VotersAction action, const KvMember *m, const char *format, ...) {
        va_list ap;

        ret->action = action;
        ret->raft_id = m->raft_id;
        snprintf(ret->address, sizeof(ret->address), "%s", m->address);
        va_start(ap, format);
        vsnprintf(ret->reason, sizeof(ret->reason), format, ap);
        va_end(ap);
}

/* Gone, and another one is up at its address: a host made anew, with a machine id of its own. It cannot come
 * back there. */
static bool is_superseded(const Seats *s, const ClusterMachine *gone) {
        if ((gone->presence != PRESENCE_LOST && gone->presence != PRESENCE_LEFT) || !gone->peer[0])
                return false;
        for (const ClusterMachine *m = s->cluster->machines; m; m = m->hh.next)
                if (m != gone && m->raft_id != 0 && m->presence == PRESENCE_UP && streq(m->peer, gone->peer))
                        return true;
        return false;
}

static const ClusterMachine *owner(const Seats *s, uint64_t raft_id) {
        for (const ClusterMachine *m = s->cluster->machines; m; m = m->hh.next)
                if (m->raft_id == raft_id)
                        return is_superseded(s, m) ? NULL : m;
        return NULL;
}

static const KvMember *seat(const Seats *s, uint64_t raft_id) {
        for (size_t i = 0; i < s->n; i++)
                if (s->members[i].raft_id == raft_id)
                        return &s->members[i];
        return NULL;
}

static bool is_ready(const Seats *s, const KvMember *m) {
        return m->seat == KV_MEMBER_STANDBY && m->reachable && m->match + VOTERS_BEHIND_MAX >= s->last &&
               owner(s, m->raft_id);
}

static size_t majority(size_t n) {
        return n / 2 + 1;
}

/* The seat that nobody owns any more. Without a key of the leader's own, or with one that cannot be read, the
 * cluster view is not complete, and no seat is judged by it. 'voters': whether one that votes is looked for.
 */
static const KvMember *abandoned(const Seats *s, bool voters) {
        if (!owner(s, s->leader_id))
                return NULL;
        for (const ClusterMachine *m = s->cluster->machines; m; m = m->hh.next)
                if (cluster_machine_has_unreadable(m, LAYOUT_MEMBER))
                        return NULL;
        for (size_t i = 0; i < s->n; i++) {
                const KvMember *m = &s->members[i];

                if ((m->seat == KV_MEMBER_VOTER) == voters && m->raft_id != s->leader_id &&
                    !owner(s, m->raft_id))
                        return m;
        }
        return NULL;
}

static bool remove_abandoned(const Seats *s, VotersChange *ret) {
        const KvMember *m = abandoned(s, false);
        size_t reachable;

        if (m) {
                decide(ret, VOTERS_REMOVE, m, "no host has its Raft id %llu any more",
                       (unsigned long long) m->raft_id);
                return true;
        }

        m = abandoned(s, true);
        if (!m || s->n_voters <= VOTERS_WANTED)
                return false;
        reachable = s->n_voters_reachable - m->reachable;
        if (reachable < majority(s->n_voters - 1))
                return false;
        decide(ret, VOTERS_REMOVE, m, "no host has its Raft id %llu any more, and enough others vote",
               (unsigned long long) m->raft_id);
        return true;
}

/* No two seats may have one address. */
static const KvMember *seat_at(const Seats *s, const char *address) {
        for (size_t i = 0; i < s->n; i++)
                if (streq(s->members[i].address, address))
                        return &s->members[i];
        return NULL;
}

static bool add_standby(const Seats *s, VotersChange *ret) {
        const ClusterMachine *first = NULL;
        const KvMember *occupant;

        if (s->n_standbys >= VOTERS_STANDBYS_MAX || s->n >= KV_MEMBERS_MAX)
                return false;

        for (const ClusterMachine *m = s->cluster->machines; m; m = m->hh.next) {
                if (m->raft_id == 0 || !m->peer[0] || m->presence != PRESENCE_UP || seat(s, m->raft_id))
                        continue;
                occupant = seat_at(s, m->peer);
                if (occupant && owner(s, occupant->raft_id))
                        continue;
                if (!first || strcmp(m->id, first->id) < 0)
                        first = m;
        }
        if (!first)
                return false;

        /* It has lost its state, and the seat is the one that it had: too few vote to remove that now. */
        occupant = seat_at(s, first->peer);
        if (occupant) {
                decide(ret, VOTERS_VACATE, occupant, "%s is at its address now", cluster_machine_name(first));
                return true;
        }

        KvMember fresh = { .raft_id = first->raft_id };

        memcpy(fresh.address, first->peer, sizeof(fresh.address));
        decide(ret, VOTERS_ADD, &fresh, "%s is to hold a replica", cluster_machine_name(first));
        return true;
}

static bool promote(const Seats *s, VotersChange *ret) {
        bool replacing = s->n_voters >= VOTERS_WANTED && abandoned(s, true);
        const KvMember *first = NULL;
        size_t ready = 0, needed;

        for (size_t i = 0; i < s->n; i++) {
                if (!is_ready(s, &s->members[i]))
                        continue;
                ready++;
                if (!first || s->members[i].raft_id < first->raft_id)
                        first = &s->members[i];
        }

        /* From one voter to three without resting at two, which could lose neither. */
        needed = s->n_voters < VOTERS_WANTED               ? VOTERS_WANTED - s->n_voters :
                 replacing && s->n_voters == VOTERS_WANTED ? 1 :
                                                             0;
        if (needed == 0 || ready < needed)
                return false;
        if (s->n_voters_reachable + 1 < majority(s->n_voters + 1))
                return false;

        if (replacing)
                decide(ret, VOTERS_PROMOTE, first, "it is to replace a voter");
        else
                decide(ret, VOTERS_PROMOTE, first, "it is caught up, and %zu of %d votes are taken",
                       s->n_voters, VOTERS_WANTED);
        return true;
}

/* Two voters and nobody to be the third: better a voter and a standby. */
static bool demote(const Seats *s, VotersChange *ret) {
        if (s->n_voters != 2 || s->n != 2 || s->n_voters_reachable != 2)
                return false;
        decide(ret, VOTERS_DEMOTE, &s->members[s->members[0].raft_id == s->leader_id],
               "of two hosts one votes");
        return true;
}

size_t voters_others(const Cluster *cluster, const char *machine_id, const char *address) {
        size_t n = 0;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                const ClusterMachine *before = cluster->machines;

                if (m->raft_id == 0 || streq(m->id, machine_id) || streq(m->peer, address))
                        continue;
                while (before != m && (before->raft_id == 0 || !streq(before->peer, m->peer)))
                        before = before->hh.next;
                n += before == m;
        }
        return n;
}

void voters_plan(const KvMember *members, size_t n_members, uint64_t leader_id, uint64_t last,
                 const Cluster *cluster, VotersChange *ret) {
        Seats s = {
                .members = members, .n = n_members, .leader_id = leader_id, .last = last, .cluster = cluster
        };

        *ret = (VotersChange) { .action = VOTERS_NOTHING };
        for (size_t i = 0; i < n_members; i++) {
                if (members[i].seat == KV_MEMBER_VOTER) {
                        s.n_voters++;
                        s.n_voters_reachable += members[i].reachable;
                } else
                        s.n_standbys++;
        }

        if (remove_abandoned(&s, ret) || add_standby(&s, ret) || promote(&s, ret))
                return;
        (void) demote(&s, ret);
}
