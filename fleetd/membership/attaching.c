/* Attached hosts: a host without a replica that works uses that of another one, by the session in use, and
 * keeps an idle session to a second one, to which it moves over. */
#include <stdio.h>

#include "fleetd/membership/choosing.h"
#include "fleetd/membership/membership_internal.h"

enum {
        ANSWER_MS = 1500,      /* of the replica in use: answers are due each 500 ms */
        IDLE_ANSWER_MS = 5000, /* of the other one: each 2 s */
        MOVE_PAUSE_MS = 2000,  /* between two moves, except after a closed session */
        BETTER_MIN_MS =
                60000, /* until a host returns to its first replica, with a jitter of ten times as much */
        CANDIDATES_MAX = 64,
        FAILED_MS = 10000, /* a replica has not worked */
};

typedef struct Candidates {
        Membership *membership;
        ReplicaChoice items[CANDIDATES_MAX];
        char machines[CANDIDATES_MAX][MACHINE_ID_SIZE];
        size_t n;
} Candidates;

static unsigned candidate_weight(const KvState *state, uint64_t raft_id) {
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == raft_id)
                        return state->members[i].role == KV_MEMBER_STANDBY ? CHOICE_STANDBY : CHOICE_VOTER;
        return 0;
}

static void candidates_add(Candidates *c, const char *machine, uint64_t raft_id, unsigned weight) {
        for (size_t i = 0; i < c->n; i++)
                if (streq(c->machines[i], machine))
                        return;
        if (c->n == CANDIDATES_MAX)
                return;
        snprintf(c->machines[c->n], MACHINE_ID_SIZE, "%s", machine);
        c->items[c->n] = (ReplicaChoice) { .machine = c->machines[c->n],
                                           .raft_id = raft_id,
                                           .weight = weight };
        c->n++;
}

static void candidates_add_peer(void *userdata, const PeerState *peer) {
        if (peer->dialed && peer->handshake.raft_id != 0)
                candidates_add(userdata, peer->handshake.machine_id, peer->handshake.raft_id, CHOICE_VOTER);
}

/* The replicas of the slice, in the order of this host; before the first slice, those to which a session is
 * open. */
static void candidates_find(Membership *m, const KvState *state, Candidates *ret) {
        const Cluster *c = registry_cluster(m->registry);

        ret->n = 0;
        for (const ClusterMachine *machine = LIST_FIRST(&c->members); machine;
             machine = LIST_NEXT(machine, of_members))
                if (machine->member.peer[0] && candidate_weight(state, machine->member.raft_id) > 0)
                        candidates_add(ret, machine->id, machine->member.raft_id,
                                       candidate_weight(state, machine->member.raft_id));
        if (ret->n == 0)
                peers_each(m->peers, candidates_add_peer, ret);
        choose_replicas(m->machine_id, ret->items, ret->n);
}

/* Return the first candidate with an open session that answers, or NULL. */
static const char *candidates_pick(const Membership *m, const Candidates *c, bool answers) {
        for (size_t i = 0; i < c->n; i++)
                if (peers_dialed(m->peers, c->items[i].machine) &&
                    (!answers || kv_replica_answers(m->store, c->items[i].machine, IDLE_ANSWER_MS)))
                        return c->items[i].machine;
        return NULL;
}

static void attaching_use(Membership *m, const char *machine) {
        Attaching *a = &m->attaching;

        if (machine && !streq(machine, a->in_use)) {
                a->moved_ms = loop_now_ms(m->loop);
                a->better_ms = a->moved_ms + BETTER_MIN_MS +
                               random_below(loop_random(m->loop), 9 * BETTER_MIN_MS);
        }
        if (machine != a->in_use)
                snprintf(a->in_use, sizeof(a->in_use), "%s", machine ?: "");
        kv_attach(m->store, machine);
}

/* Choose the replica to use: it stays while it answers. */
static void attaching_select(Membership *m, const Candidates *c) {
        Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop);
        bool open = a->in_use[0] && peers_dialed(m->peers, a->in_use);
        const char *other = candidates_pick(m, c, true);

        if (!open)
                attaching_use(m, other ?: candidates_pick(m, c, false));
        else if (!kv_replica_answers(m->store, a->in_use, ANSWER_MS) &&
                 now_ms - a->moved_ms >= MOVE_PAUSE_MS && other && !streq(other, a->in_use))
                attaching_use(m, other);
        else if (other && !streq(other, a->in_use) && streq(other, c->items[0].machine) &&
                 now_ms >= a->better_ms)
                attaching_use(m, other);
        else
                attaching_use(m, a->in_use); /* its session may be another one */
}

/* Whether the replica of this host, if it has one, does not work. A cluster of old programs does not serve
 * other hosts: the answer to a request to join says so. */
static bool attaching_is_due(Membership *m, const KvState *state) {
        Attaching *a = &m->attaching;
        uint64_t now_ms = loop_now_ms(m->loop);

        if (state->attached)
                return true;
        if (state->raft_id == 0 && (m->joining.attach || state->cluster_id == 0))
                return m->joining.attach;
        if ((state->level < KV_LEVEL_ATTACHED && state->index > 0) ||
            (!state->stopped && !state->lost && state->n_members > 0)) {
                a->failed_ms = 0;
                return false;
        }
        if (a->failed_ms == 0)
                a->failed_ms = now_ms;
        return now_ms - a->failed_ms >= FAILED_MS;
}

void attaching_update(Membership *m, const KvState *state) {
        uint64_t failed_ms;
        Candidates c = {};

        m->attaching.active = attaching_is_due(m, state);
        if (!m->attaching.active) {
                failed_ms = m->attaching.failed_ms;
                m->attaching = (Attaching) { .failed_ms = failed_ms };
                kv_attach_no_more(m->store);
                return;
        }
        candidates_find(m, state, &c);
        if (c.n > 0 || state->attached)
                attaching_select(m, &c);
}

/* Two heartbeats a second on the session in use, one in two seconds on the other one. */
bool attaching_heartbeat_is_due(const Membership *m, const char *machine_id) {
        return attaching_uses(m, machine_id) || m->attaching.ticks % 4 == 0;
}

bool attaching_uses(const Membership *m, const char *machine_id) {
        return streq(m->attaching.in_use, machine_id);
}
