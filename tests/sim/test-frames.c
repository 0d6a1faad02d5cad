/* Frames of each type from each role, whole and cut at each byte, to a replica and to an attached host: from
 * a host that joins, a host of the cluster without a replica, one that names another machine's Raft ID, and a
 * replica. The others are whole daemons; the test plays one host with real sessions, and sends what the
 * daemons have sent to each other. A frame that a role does not allow ends the session; no frame disturbs the
 * cluster, or the attached host.
 *
 *      test-frames [--seed N] [--runs N] [--trace]
 */

#include "peers/frames.h"
#include "tests/sim/guest.h"

enum {
        ANSWER_MS = 40,    /* there and back, with the delays of the simulated links */
        CUTS_MAX = 200,    /* of one frame: of a longer one, each n-th byte */
        PAYLOAD_SIZE = 64, /* of a type that no daemon has sent */
        MOVES = 300,       /* of a host between two replicas, ten in a second */
        MOVES_WRITES_MAX = 30,
};

/* -- The other host -- */

typedef enum Role { JOINING, HOST, WRONG_ID, REPLICA, _ROLE_MAX } Role;

static const char *const role_names[] = {
        [JOINING] = "joining host",
        [HOST] = "host without a replica",
        [WRONG_ID] = "host with another's Raft ID",
        [REPLICA] = "replica",
};

/* Which roles may send a type on the session that they dialed. A type without a row is unknown, and dropped.
 */
static const struct {
        const char *name;
        PeerFrame type;
        unsigned roles;
} rows[] = {
#define MEMBERS (1u << HOST | 1u << WRONG_ID | 1u << REPLICA)
        { "Raft", 6, 1u << REPLICA },
        { "propose", 7, MEMBERS },
        { "proposed", 8, 0 }, /* an answer: on the session that the other end dialed */
        { "term check", 9, 1u << REPLICA },
        { "term checked", 10, 0 },
        { "snapshot", 11, 1u << REPLICA },
        { "snapshot acknowledged", 12, 0 },
        { "join", 13, MEMBERS },
        { "joined", 14, 0 },
        { "propose later", 15, MEMBERS },
        { "heartbeat", 16, MEMBERS },
        { "call", 17, MEMBERS },
        { "call chunk", 18, MEMBERS }, /* a host without a replica is called on the session that it dialed */
        { "call end", 19, MEMBERS },
        { "call cancel", 20, MEMBERS },
        { "tree", 21, 1u << REPLICA },
        { "call credit", 22, MEMBERS },
        { "enter", 23, 1u << JOINING },
        { "cluster key", 25, 1u << REPLICA },
        { "cluster key stored", 26, 0 },
        { "CA wanted", 27, MEMBERS },
        { "renew", 28, MEMBERS },
        { "renewed", 29, 0 },
        { "retired", 30, 0 },
        { "subscribe", 31, MEMBERS },
        { "unsubscribe", 32, MEMBERS },
        { "page", 33, 0 },
        { "events", 34, 0 },
        { "gone", 35, 0 },
        { "read", 36, MEMBERS },
        { "found", 37, 0 },
        { "current", 38, 0 },
        { "relay", 39, MEMBERS },
        { "relayed", 40, 0 },
        { "report", 41, 1u << REPLICA },
        { "certify", 42, MEMBERS },
        { "certified", 43, 0 },
        { "inputs", 44, MEMBERS },
        { "part of inputs", 45, 0 },
        { "forward", 48, MEMBERS },
        { "forwarded head", 49, 0 },
        { "forwarded chunk", 50, 0 },
        { "forwarded end", 51, 0 },
        { "forward cancel", 52, MEMBERS },
        { "forward credit", 53, MEMBERS },
        { "call via", 54, MEMBERS },
        { "conditions", 60, 1u << REPLICA },
        { "kernels", 61, 1u << REPLICA },
        { "sessions", 62, 1u << REPLICA },
        { "health of a set", 63, MEMBERS },
};

static bool may_send(Role role, PeerFrame type) {
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (rows[i].type == type)
                        return rows[i].roles & 1u << role;
        return true; /* unknown: dropped */
}

/* A join that the guest repeats gives it another Raft ID, if it has reached a replica. */
static void guest_follow_id(SimGuest *g, const SimMachine *m) {
        PeerHandshake self = *peers_self(g->peers);

        run_ms(1000);
        self.raft_id = seen(machine(0), m)->member.raft_id;
        peers_set_self(g->peers, &self);
        run_ms(ANSWER_MS);
}

/* Send a frame. Return whether its session is open afterwards. */
static bool guest_sends(SimGuest *g, PeerFrame type, const void *payload, size_t size) {
        uint64_t number = peer_number(sim_guest_session(g));

        if (peers_send(g->peers, g->to->machine_id, type, payload, size) < 0)
                world_failed(world, "a-frame-is-sent", "type %u, %zu bytes", type, size);
        run_ms(ANSWER_MS);
        return peers_session(g->peers, number) != NULL;
}

/* -- The roles -- */

static unsigned n_frames;

static SimMachine *attached_host(void) {
        return machine(GUEST_ATTACHED);
}

static void check_cluster(const SimGuest *g, Role role, unsigned type, size_t size) {
        SimMachine *host = attached_host();

        n_frames++;
        if (!is_ready(machine(0)) || n_voters(machine(0)) == 0 ||
            !sim_systemd_runs(host->systemd, "a.service"))
                world_failed(world, "no-frame-disturbs-the-cluster", "type %u, %zu bytes, from a %s to %s",
                             type, size, role_names[role], g->to == host ? "an attached host" : "a replica");
        UNTIL("an-attached-host-has-a-replica-in-use", state_of(host).ready);
}

static void send_all(SimGuest *g, SimMachine *m, Role role) {
        for (unsigned type = PEER_RAFT; type < PEER_FRAME_TYPES; type++) {
                uint8_t bytes[PAYLOAD_SIZE];
                const uint8_t *payload = recorded[type].payload;
                size_t size = payload ? recorded[type].size : sizeof(bytes), step;
                bool expected = may_send(role, (PeerFrame) type), open;

                if (role == REPLICA)
                        guest_follow_id(g, m);
                for (size_t i = 0; i < sizeof(bytes); i++)
                        bytes[i] = (uint8_t) world_draw(world, 256);
                payload = payload ?: bytes;
                open = guest_sends(g, (PeerFrame) type, payload, size);
                if (open != expected)
                        world_failed(world, "a-role-sends-its-frames", "a %s sent type %u: the session %s",
                                     role_names[role], type, open ? "stays" : "ended");
                check_cluster(g, role, type, size);
                if (!expected)
                        continue;
                if (role == JOINING) /* one request for each session, and five joins in a second */
                        UNTIL("a-session-of-one-request-ends",
                              !peers_dialed(g->peers, g->to->machine_id) ||
                                      !guest_sends(g, (PeerFrame) type, payload, 0));
                step = role == JOINING ? size / 20 : size / CUTS_MAX;
                for (size_t cut = 0; cut < size; cut += step + 1) {
                        (void) guest_sends(g, (PeerFrame) type, payload, cut);
                        check_cluster(g, role, type, cut);
                        if (role == JOINING)
                                (void) guest_sends(g, (PeerFrame) type, payload, 0);
                }
        }
}

/* Frames of the session itself. A host without a replica cannot declare the replica that it dials outdated,
 * and a host without a certificate gets no answers to pings and no room for large frames. */
static void send_session_frames(SimGuest *g, Role role) {
        static const uint8_t large[PEER_JOIN_FRAME_MAX + 1];
        const struct {
                PeerFrame type;
                const void *payload;
                size_t size;
        } pings[] = { { PEER_PING, large, 1 }, { 23, large, sizeof(large) } };

        for (Rejection cause = 0; cause < _REJECTION_MAX; cause++) {
                _cleanup_writer_ Writer w = {};

                rejection_write(&w, cause, "no");
                (void) __real_peer_reply(sim_guest_session(g), PEER_REJECTED, w.bytes, w.size);
                run_ms(ANSWER_MS);
                check_cluster(g, role, PEER_REJECTED, w.size);
        }
        for (size_t i = 0; i < ELEMENTS(pings) && role == JOINING; i++) {
                uint64_t number = peer_number(sim_guest_session(g));

                (void) __real_peer_reply(sim_guest_session(g), pings[i].type, pings[i].payload,
                                         pings[i].size);
                run_ms(ANSWER_MS);
                if (peers_session(g->peers, number))
                        world_failed(world, "a-joining-host-has-small-limits", "type %u, %zu bytes",
                                     pings[i].type, pings[i].size);
                check_cluster(g, role, pings[i].type, pings[i].size);
        }
}

static void frames_of_others(SimMachine *m, const TlsCredentials *none, const TlsCredentials *own,
                             const TlsPin *root) {
        SimGuest g;

        sim_guest_open(&g, m, machine(0), none, root, 0);
        send_session_frames(&g, JOINING);
        send_all(&g, m, JOINING);
        sim_guest_close(&g, m);

        sim_guest_open(&g, m, machine(0), own, NULL, 0);
        send_session_frames(&g, HOST);
        send_all(&g, m, HOST);
        sim_guest_close(&g, m);

        sim_guest_open(&g, m, machine(0), own, NULL, state_of(machine(1)).raft_id);
        send_session_frames(&g, WRONG_ID);
        send_all(&g, m, WRONG_ID);
        sim_guest_close(&g, m);
}

/* A host that says ten times a second that it uses the other one of two replicas: the leader writes little
 * about it, and other hosts are not concerned. */
static void moves_ten_times_a_second(SimMachine *m, const TlsCredentials *own) {
        static const uint8_t idle[] = { 0, 3, 0 }, in_use[] = { 0, 3, 1 };
        PeerAddress known[2] = {};
        uint64_t before;
        SimGuest g;

        sim_guest_open(&g, m, machine(0), own, NULL, 0);
        for (unsigned k = 0; k < 2; k++)
                snprintf(known[k].address, sizeof(known[k].address), "%s", machine(k)->settings.listen_peer);
        if (peers_set_known(g.peers, known, 2) < 0)
                abort();
        UNTIL("a-host-has-two-sessions",
              peers_dialed(g.peers, machine(0)->machine_id) && peers_dialed(g.peers, machine(1)->machine_id));
        before = kv_index(daemon_host(machine(0)->daemon)->store);
        for (unsigned i = 0; i < MOVES; i++) {
                for (unsigned k = 0; k < 2; k++)
                        (void) peers_send(g.peers, machine(k)->machine_id, PEER_HEARTBEAT,
                                          i % 2 == k ? in_use : idle, sizeof(idle));
                run_ms(100);
                check_cluster(&g, HOST, PEER_HEARTBEAT, sizeof(idle));
        }
        before = kv_index(daemon_host(machine(0)->daemon)->store) - before;
        if (before > MOVES_WRITES_MAX)
                world_failed(world, "moves-cost-few-writes", "%llu", (unsigned long long) before);
        sim_guest_close(&g, m);
}

/* An attached host listens to replicas only. */
static void attached_host_rejects(SimMachine *m, const TlsCredentials *own, uint64_t raft_id) {
        SimGuest g;

        sim_guest_open(&g, m, attached_host(), own, NULL, raft_id);
        run_ms(5000);
        if (peers_dialed(g.peers, g.to->machine_id))
                world_failed(world, "an-attached-host-listens-to-replicas", "another host has a session");
        check_cluster(&g, HOST, PEER_HANDSHAKE, 0);
        sim_guest_close(&g, m);
}

static void frames_of_a_replica(SimMachine *m, SimMachine *to, const TlsCredentials *own) {
        SimGuest g;

        sim_guest_open(&g, m, to, own, NULL, seen(machine(0), m)->member.raft_id);
        send_all(&g, m, REPLICA);
        sim_guest_close(&g, m);
}

static void frames_of_each_role(void) {
        SimGuestHost host;
        SimMachine *m;

        sim_guest_host_new(&host);
        m = host.m;
        frames_of_others(m, host.none, host.own, &host.root);
        attached_host_rejects(m, host.own, 0);
        attached_host_rejects(m, host.own, state_of(machine(1)).raft_id);
        moves_ten_times_a_second(m, host.own); /* the leader gives it a replica */

        sim_guest_host_admit(&host);
        frames_of_a_replica(m, machine(0), host.own);
        frames_of_a_replica(m, attached_host(), host.own);

        run_ms(2000);
        if (n_voters(machine(0)) != 3)
                world_failed(world, "no-frame-disturbs-the-cluster", "%zu voters", n_voters(machine(0)));
        sim_guest_host_done(&host);
}

static void (*const scenarios[])(void) = { frames_of_each_role };

int main(int argc, char *argv[]) {
        int r = tokens_main(argc, argv, "tests/sim/test-frames", scenarios, ELEMENTS(scenarios), NULL,
                            "a role sends its frames, and no others");

        printf("%u frames\n", n_frames);
        return r;
}
