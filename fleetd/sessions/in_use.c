/* What attaching.c has decided: the replica in use, and the sessions to dial and to send heartbeats to. */
#include "fleetd/sessions/membership_internal.h"

enum {
        LEADERLESS_MS = 1000, /* as in kv_replica_answers(): a replica is left for another one ... */
        ASKS_MS = 10000,      /* without a leader: the other replica is asked more often */
};

bool attaching_dials(const Membership *m, const char *machine_id) {
        if (!m->attaching.limited)
                return true;
        for (size_t i = 0; i < ELEMENTS(m->attaching.dialed); i++)
                if (m->attaching.dialed[i].wanted && streq(m->attaching.dialed[i].machine, machine_id))
                        return true;
        return false;
}

bool attaching_is_unanswered(const Membership *m, const char *machine_id) {
        return peers_dialed(m->peers, machine_id) && kv_replica_silent_ms(m->store, machine_id) == UINT64_MAX;
}

/* Whether the replica in use has had no leader for too long, by its last answer. */
bool attaching_is_leaderless(const Membership *m) {
        const char *used = m->attaching.in_use;

        return used[0] &&
               kv_replica_leader_ms(m->store, used) - kv_replica_silent_ms(m->store, used) >= LEADERLESS_MS;
}

/* Whether to ask the other replica for a leader. If no replica finds one for long, the ordinary heartbeats
 * are enough: they must not become more while many hosts wait. */
bool attaching_asks(const Membership *m) {
        return attaching_is_leaderless(m) && kv_replica_leader_ms(m->store, m->attaching.in_use) < ASKS_MS;
}

/* Two heartbeats a second on the session in use, or one if its replica requests that; two on a new one; one
 * in two seconds on the other one, or as many while the first one has no leader. After a move, one on both at
 * once. */
bool attaching_heartbeat_is_due(const Membership *m, const char *machine_id) {
        unsigned ticks = !attaching_uses(m, machine_id) ? 4 : m->heartbeats.rare ? 2 : 1;

        return m->attaching.ticks % ticks == 0 || m->attaching.moves ||
               attaching_is_unanswered(m, machine_id) || attaching_asks(m);
}

bool attaching_uses(const Membership *m, const char *machine_id) {
        return streq(m->attaching.in_use, machine_id);
}
