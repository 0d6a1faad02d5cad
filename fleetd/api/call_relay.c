#include "fleetd/api/call_relay.h"

#include <stdio.h>

#include "fleetd/api/fleet_v1.h"
#include "fleetd/membership/choosing.h"

/* A call of the host at the session 'from', to the one at 'to'; each has a number of its own there. */
typedef struct CallRelay {
        uint64_t from, from_number, to, to_number;
        uint64_t left_ms; /* when it was cancelled; 0: it was not */
        char machine[MACHINE_ID_SIZE];
        CallerTrust trust;
        TAILQ_ENTRY(CallRelay) all;
} CallRelay;

PeerSession *call_session(const Api *api, const char *machine) {
        PeerSession *session = peers_dialed(api->options.peers, machine);

        if (session)
                return session;
        session = peers_accepted(api->options.peers, machine);
        return session && peer_handshake(session)->raft_id == 0 ? session : NULL;
}

PeerSession *call_replica(const Api *api, const char *machine, unsigned *rank) {
        const Cluster *c = registry_cluster(api->options.registry);
        ReplicaChoice choices[KV_MEMBERS_MAX];
        PeerSession *session = NULL;
        KvState state;
        size_t n = 0;

        kv_state(api->options.store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                for (const ClusterMachine *m = LIST_FIRST(&c->members); m; m = LIST_NEXT(m, of_members))
                        if (m->member.raft_id == state.members[i].raft_id && n < ELEMENTS(choices))
                                choices[n++] = (ReplicaChoice) {
                                        .machine = m->id,
                                        .raft_id = m->member.raft_id,
                                        .weight = state.members[i].role == KV_MEMBER_STANDBY ?
                                                          CHOICE_STANDBY :
                                                          CHOICE_VOTER,
                                };
        choose_replicas(machine, choices, n);
        while (*rank < n && !session)
                session = peers_dialed(api->options.peers, choices[(*rank)++].machine);
        return session;
}

static void relay_free(Api *api, CallRelay *relay) {
        TAILQ_REMOVE(&api->relays, relay, all);
        free(relay);
}

/* Send the frame with another number, its first field. */
static void relay_send(const Api *api, uint64_t session, uint64_t number, PeerFrame type, const void *payload,
                       size_t size) {
        PeerSession *to = peers_session(api->options.peers, session);
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_raw(&w, (const uint8_t *) payload + sizeof(number), size - sizeof(number));
        if (to && w.error == 0)
                (void) peer_reply(to, type, w.bytes, w.size);
}

/* -- Answers -- */

int call_reply_chunk(PeerSession *session, uint64_t number, const void *bytes, size_t size) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_blob(&w, bytes, size);
        return w.error ?: peer_reply(session, PEER_CALL_CHUNK, w.bytes, w.size);
}

void call_reply_end(PeerSession *session, uint64_t number, uint32_t status) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u32(&w, status);
        if (w.error == 0)
                (void) peer_reply(session, PEER_CALL_END, w.bytes, w.size);
}

void call_refuse(PeerSession *session, uint64_t number, unsigned status, const char *message) {
        char line[sizeof(((Error *) NULL)->message) + 1];
        _cleanup_writer_ Writer w = {};

        snprintf(line, sizeof(line), "%s\n", message);
        write_u64(&w, number);
        write_blob(&w, "", 0);
        write_u32(&w, status);
        write_string(&w, message);
        if (w.error == 0 && peer_reply(session, PEER_CALL_CHUNK, w.bytes, w.size) == 0 &&
            call_reply_chunk(session, number, line, strlen(line)) == 0)
                call_reply_end(session, number, 1);
}

bool call_is_permitted(const Api *api, const PeerSession *session, const char *machine,
                       RemoteCommandSpec *spec) {
        const Cluster *c = registry_cluster(api->options.registry);
        Principal sender = { .kind = PRINCIPAL_LOCAL };
        PolicyFacts facts = {};

        snprintf(sender.machine, sizeof(sender.machine), "%s", peer_handshake(session)->machine_id);
        if (policy_facts_read(c, &sender, &facts) < 0)
                return false;
        facts.is_operator = true;
        if (policy_allows(&sender, RIGHT_UNITS_CHANGE, (Resource) {}, &facts))
                return true;
        spec->cluster_only = true;
        return !remote_command_changes(spec->kind) &&
               policy_allows(&sender, RIGHT_UNITS_SEE, (Resource) {}, &facts) &&
               (spec->kind == CALL_LOG || unit_is_of_cluster(c, cluster_machine(c, machine), spec->unit));
}

CallerTrust call_trust(const Request *request, const RemoteCommandSpec *spec) {
        if (spec->cluster_only)
                return CALLER_READS;
        return request && !request->origin && (!request->sender || request->sender->facts.is_operator) ?
                       CALLER_OPERATOR :
                       CALLER_CHANGES;
}

/* -- Relaying -- */

void call_relay_count(const Api *api, const char *machine, unsigned taken[static _CALLER_TRUST_MAX]) {
        const CallRelay *relay;

        TAILQ_FOREACH(relay, &api->relays, all)
                taken[relay->trust] += streq(relay->machine, machine);
}

/* Return whether one session may have one more call relayed to a machine: a part of the places that this host
 * has there. Forget calls that were cancelled long enough ago. */
static bool relay_has_place(Api *api, uint64_t from, const char *machine, CallerTrust trust) {
        uint64_t now_ms = loop_now_ms(api->loop);
        unsigned n = 0, own = 0, own_taken = 0, taken[_CALLER_TRUST_MAX] = {};
        CallRelay *relay, *next;

        for (relay = TAILQ_FIRST(&api->relays); relay; relay = next) {
                next = TAILQ_NEXT(relay, all);
                if (relay->left_ms > 0 && now_ms - relay->left_ms >= CALL_RELAY_LEFT_MS) {
                        relay_free(api, relay);
                        continue;
                }
                n++;
                own += relay->from == from;
                own_taken += relay->from == from && relay->trust == trust && streq(relay->machine, machine);
        }
        call_relay_count(api, machine, taken);
        return n < CALL_RELAYS_MAX && own < CALL_RELAYS_HOST_MAX &&
               caller_may_take(taken, trust, own_taken, CALLER_JOURNALS_MAX / 2);
}

/* Begin to relay. -ENOTCONN: this replica has no session to the machine. */
static int relay_start(Api *api, PeerSession *session, uint64_t number, const char *machine,
                       const RemoteCommandSpec *spec) {
        PeerSession *to = call_session(api, machine);
        CallerTrust trust = call_trust(NULL, spec);
        _cleanup_writer_ Writer w = {};
        CallRelay *relay = NULL;
        int r;

        if (!to || peer_handshake(to)->raft_id != 0)
                return -ENOTCONN;
        if (relay_has_place(api, peer_number(session), machine, trust))
                relay = NEW0(CallRelay, 1);
        if (!relay)
                return -EBUSY;
        *relay = (CallRelay) { .from = peer_number(session),
                               .from_number = number,
                               .to = peer_number(to),
                               .to_number = calls_number(api),
                               .trust = trust };
        snprintf(relay->machine, sizeof(relay->machine), "%s", machine);
        write_u64(&w, relay->to_number);
        remote_command_spec_write(spec, &w);
        r = w.error ?: peer_reply(to, PEER_CALL, w.bytes, w.size);
        if (r < 0) {
                free(relay);
                return r;
        }
        TAILQ_INSERT_TAIL(&api->relays, relay, all);
        (void) call_reply_chunk(session, number, "", 0); /* the command may be silent for long */
        return 0;
}

void call_relay_on_via(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                       size_t size) {
        Api *api = userdata;
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        _cleanup_free_ char *machine = read_string(&in, MACHINE_ID_SIZE - 1);
        RemoteCommandSpec spec;
        int r;

        if (!machine || remote_command_spec_read(&in, &spec) < 0) {
                call_refuse(session, number, 400,
                            "the other host rejected the request: its version may differ");
                return;
        }
        if (!call_is_permitted(api, session, machine, &spec)) {
                call_refuse(session, number, 403, CALL_FORBIDDEN);
                return;
        }
        r = relay_start(api, session, number, machine, &spec);
        if (r == -EBUSY)
                call_refuse(session, number, 503, "too many calls are relayed: try again later");
        else if (r < 0)
                call_reply_end(session, number, CALL_NOT_HERE);
}

void call_relay_answer(Api *api, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        CallRelay *relay;

        TAILQ_FOREACH(relay, &api->relays, all) {
                if (in.failed || relay->to != peer_number(session) || relay->to_number != number)
                        continue;
                if (relay->left_ms == 0)
                        relay_send(api, relay->from, relay->from_number, type, payload, size);
                if (type == PEER_CALL_END)
                        relay_free(api, relay);
                return;
        }
}

void call_relay_request(Api *api, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Reader in = reader_over(payload, size);
        uint64_t number = read_u64(&in);
        CallRelay *relay;

        TAILQ_FOREACH(relay, &api->relays, all) {
                if (in.failed || relay->left_ms > 0 || relay->from != peer_number(session) ||
                    relay->from_number != number)
                        continue;
                relay_send(api, relay->to, relay->to_number, type, payload, size);
                if (type == PEER_CALL_CANCEL)
                        relay->left_ms = loop_now_ms(api->loop);
                return;
        }
}

void call_relay_on_session_end(Api *api, uint64_t session) {
        static const char lost[] = "fleetd: the connection to that host was lost\n";

        for (CallRelay *relay = TAILQ_FIRST(&api->relays), *next; relay; relay = next) {
                PeerSession *from = peers_session(api->options.peers, relay->from);

                next = TAILQ_NEXT(relay, all);
                if (relay->from != session && relay->to != session)
                        continue;
                if (relay->to != session) { /* it counts as one that the host has cancelled */
                        if (relay->left_ms == 0)
                                relay_send(api, relay->to, relay->to_number, PEER_CALL_CANCEL,
                                           &(uint64_t) { 0 }, sizeof(uint64_t));
                        relay->left_ms = relay->left_ms ?: loop_now_ms(api->loop);
                        continue;
                }
                if (relay->left_ms == 0 && from &&
                    call_reply_chunk(from, relay->from_number, lost, sizeof(lost) - 1) == 0)
                        call_reply_end(from, relay->from_number, 255);
                relay_free(api, relay);
        }
}

void call_relay_free(Api *api) {
        while (!TAILQ_EMPTY(&api->relays))
                relay_free(api, TAILQ_FIRST(&api->relays));
}
