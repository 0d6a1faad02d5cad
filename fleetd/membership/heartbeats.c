/* Heartbeats: each host sends two a second to the leader. A heartbeat carries the problem of its sender's
 * replica, which such a replica cannot publish through the log.
 *
 * Without a leader, the heartbeats go to all hosts, and carry the end of the sender's log: then each host
 * knows whether another one has more, which decides where a lost majority is recovered. A byte 0 separates it
 * from the problem, where an older version stops to read. */
#include <stdio.h>

#include "base/bytes.h"
#include "fleetd/membership/membership_internal.h"

/* A connection counts as alive while its TCP keep-alives of 1 s are answered. */
enum { KERNEL_SILENT_MS = 1500 };

enum { POSITION_VERSION = 1 };

/* The end of the log of another host. */
typedef struct Position {
        Named machine;
        uint64_t term, index;
} Position;

/* A host that has sent a heartbeat since this host leads. */
typedef struct Sender {
        Named machine;
        bool heartbeat; /* since the last tick */
        char problem[REPLICA_PROBLEM_SIZE];
} Sender;

void replica_problem(const Membership *m, const KvState *state, char ret[static REPLICA_PROBLEM_SIZE]) {
        bool any = state->stopped || state->differs || state->undecided || state->refuses;

        snprintf(ret, REPLICA_PROBLEM_SIZE, "%s", any ? state->problem : authority_problem(m->authority));
}

/* Keep the end of the sender's log, or forget it if the heartbeat has none. */
static void heartbeats_note_position(Membership *m, const char *id, const void *payload, size_t size) {
        const uint8_t *end = size > 0 ? memchr(payload, 0, size) : NULL;
        Reader r = reader_over(end ? end + 1 : payload,
                               end ? size - (size_t) (end + 1 - (uint8_t *) payload) : 0);
        bool known = read_u8(&r) == POSITION_VERSION;
        uint64_t term = read_u64(&r), index = read_u64(&r);
        Position *p;

        if (r.failed || !known) {
                named_remove(&m->heartbeats.positions, id);
                return;
        }
        p = named_get(&m->heartbeats.positions, id, sizeof(Position));
        if (!p)
                return;
        p->term = term;
        p->index = index;
}

bool membership_position(const Membership *m, const char *machine_id, uint64_t *ret_term,
                         uint64_t *ret_index) {
        const Position *p = named_find(m->heartbeats.positions, machine_id);

        if (!p)
                return false;
        *ret_term = p->term;
        *ret_index = p->index;
        return true;
}

static void heartbeats_on_heartbeat(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                    size_t size) {
        Membership *m = userdata;
        const char *id = peer_handshake(session)->machine_id;
        Sender *s = named_get(&m->heartbeats.senders, id, sizeof(Sender));

        joining_retire(m, session);
        heartbeats_note_position(m, id, payload, size);
        if (!s)
                return;
        s->heartbeat = true;
        snprintf(s->problem, sizeof(s->problem), "%.*s", (int) MIN(size, sizeof(s->problem) - 1),
                 (const char *) payload);
}

const char *heartbeats_problem(Membership *m, const char *machine_id) {
        const Sender *s = named_find(m->heartbeats.senders, machine_id);

        return s ? s->problem : NULL;
}

/* A heartbeat from before the removal of a host does not revive it: it returns by a session. A host that has
 * left returns by a token, which ends its tombstone. */
static bool heartbeats_count(const Membership *m, const char *machine_id) {
        const ClusterMachine *machine = cluster_machine(registry_cluster(m->registry), machine_id);
        PeerState peer;

        return !machine || !machine->removed ||
               (!cluster_machine_has_left(machine) && peers_state(m->peers, machine_id, &peer) >= 0 &&
                peer.accepted);
}

LivenessSign heartbeats_sign(void *userdata, const char *machine_id) {
        Membership *m = userdata;
        LivenessSign sign = {};
        PeerState peer;
        Sender *s;

        if (streq(machine_id, m->machine_id))
                return (LivenessSign) { .heartbeat = true, .kernel = true, .session = true };

        s = named_find(m->heartbeats.senders, machine_id);
        if (s) {
                sign.heartbeat = s->heartbeat && heartbeats_count(m, machine_id);
                s->heartbeat = false;
        }
        if (peers_state(m->peers, machine_id, &peer) < 0)
                return sign;
        sign.session = peer.accepted;
        /* Without a session, the kernel shows that it runs only when it rejects a connection. */
        sign.kernel = peer.kernel_silent_ms < (peer.accepted || peer.dialed ?
                                                       KERNEL_SILENT_MS :
                                                       KERNEL_SILENT_MS + PEERS_BACKOFF_MAX_MS);
        sign.stopped = streq(peer.bye, "stop");
        sign.shut_down = streq(peer.bye, "shutdown");
        return sign;
}

typedef struct Sending {
        Membership *m;
        Writer frame;
} Sending;

static void heartbeats_send_one(void *userdata, const PeerState *peer) {
        const Sending *s = userdata;

        if (peer->dialed)
                (void) peers_send(s->m->peers, peer->handshake.machine_id, PEER_HEARTBEAT, s->frame.bytes,
                                  s->frame.size);
}

/* Send a heartbeat to all hosts, with the end of the log. */
static void heartbeats_send_all(Membership *m, const KvState *state) {
        Sending s = { .m = m };

        write_raw(&s.frame, m->heartbeats.problem, strlen(m->heartbeats.problem));
        if (state->last_index > 0) {
                write_u8(&s.frame, 0);
                write_u8(&s.frame, POSITION_VERSION);
                write_u64(&s.frame, state->last_term);
                write_u64(&s.frame, state->last_index);
        }
        if (s.frame.error == 0)
                peers_each(m->peers, heartbeats_send_one, &s);
        writer_done(&s.frame);
}

void heartbeats_send(Membership *m, const KvState *state) {
        replica_problem(m, state, m->heartbeats.problem);
        if (state->leader_id != 0)
                named_clear(&m->heartbeats.positions);
        /* An admitted host learns which host leads only with its replica, and gets the replica only when the
         * leader receives its heartbeats. */
        if (state->leader_id == 0)
                heartbeats_send_all(m, state);
        else if (state->leader_machine_id[0])
                (void) peers_send(m->peers, state->leader_machine_id, PEER_HEARTBEAT, m->heartbeats.problem,
                                  strlen(m->heartbeats.problem));
}

void heartbeats_clear(Membership *m) {
        named_clear(&m->heartbeats.senders);
}

static const PeerFrameType frame_types[] = {
        { PEER_HEARTBEAT, PEER_BOTH_WAYS, PEER_PRIORITY_HIGH, heartbeats_on_heartbeat },
};

void heartbeats_init(Membership *m) {
        peers_register(m->peers, frame_types, ELEMENTS(frame_types), m);
}

void heartbeats_done(Membership *m) {
        peers_unregister(m->peers, frame_types, ELEMENTS(frame_types));
        heartbeats_clear(m);
        named_clear(&m->heartbeats.positions);
}
