/* Joining: a host without a cluster requests membership from the hosts of Join=, until one of them admits it.
 * The request is PEER_JOIN: version, peer address ("": this host cannot listen). The answer is PEER_JOINED:
 * version, error, message, cluster, lineage, Raft ID.
 *
 * A rejection with the identity of the cluster means that the host is attached to it, and has no replica:
 * when one is wanted, the leader assigns a Raft ID to the host, by its member key. */

#include "base/log.h"
#include "fleetd/identity/identity.h"
#include "fleetd/sessions/membership_internal.h"
#include "fleetd/sessions/voters.h"

enum {
        JOIN_PROTOCOL = 1,
        JOIN_RETRY_MS = 1000,
        JOIN_ANSWER_MS = 10000, /* for an answer, on a session that remains open */
};

/* -- Requests of other hosts -- */

typedef struct Admission {
        Membership *membership;
        uint64_t session; /* number of the requester's session */
        char machine[MACHINE_ID_SIZE];
        uint64_t raft_id;
        LIST_ENTRY(Admission) admissions;
} Admission;

static void joining_reply(PeerSession *session, const char *error, const KvState *state, uint64_t raft_id) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, JOIN_PROTOCOL);
        write_u8(&w, error != NULL);
        write_string(&w, error ?: "");
        write_u64(&w, state->cluster_id);
        write_u64(&w, state->lineage);
        write_u64(&w, raft_id);
        if (w.error == 0)
                (void) peer_reply(session, PEER_JOINED, w.bytes, w.size);
}

static void joining_on_admitted(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Admission *a = userdata;
        Membership *m = a->membership;
        PeerSession *session = peers_session(m->peers, a->session);
        KvState state;

        if (session && status == KV_OK) {
                kv_state(m->store, &state);
                joining_reply(session, NULL, &state, a->raft_id);
                log_info(((LogFields) { .machine = a->machine, .index = index }), "added %s as member %llu",
                         peer_handshake(session)->name, (unsigned long long) a->raft_id);
        } else if (session) /* two hosts that join at once want one Raft ID: the second one requests again */
                joining_reply(session, message, &(KvState) {}, 0);
        LIST_REMOVE(a, admissions);
        free(a);
}

/* Return 0 if the host gets a Raft ID at once: it has lost its replica, or there are fewer than wanted; never
 * a restricted one.
 * -EXFULL: it has no listener (address ""), or it is attached, and the leader assigns an ID when a replica is
 * wanted. That holds for each host that has proved its identity, so that the leader can choose. */
static int joining_check_room(const Membership *m, const KvState *state, const ClusterMachine *known,
                              const char *id, const char *address, Error *err) {
        const Cluster *c = registry_cluster(m->registry);
        size_t n = voters_others(c, id, address), max = voters_hosts_limit(c, m->settings->voters);
        bool alone = m->settings->voters == 1 &&
                     !cluster_decides_voters(c); /* no other host holds a replica */

        if (!address[0] && state->level < KV_LEVEL_ATTACHED)
                return error_set(
                        err, -EADDRNOTAVAIL,
                        "each host of this cluster has a replica, and this one cannot listen for other "
                        "hosts: correct ListenPeer= in its fleetd.conf, and restart fleetd");
        if (!address[0])
                return error_set(err, -EXFULL, "this host cannot listen: it is attached to the cluster");
        if (known && known->member.raft_id != 0)
                return 0;
        if (known && known->host && known->host->restricted)
                return error_set(err, -EXFULL, "this host is restricted: it is attached to the cluster");
        if (state->level < KV_LEVEL_ATTACHED)
                return n >= max ? voters_refuse_host(n, max, -ENOSPC, err) : 0;
        if (n < max && !alone && !(known && known->host))
                return 0;
        return error_set(
                err, -EXFULL,
                "this host is attached to the cluster, whose leader chooses the hosts that hold a replica");
}

static int joining_admit(Membership *m, PeerSession *session, const char *address, Error *err) {
        const char *id = peer_handshake(session)->machine_id;
        const Cluster *c = registry_cluster(m->registry);
        const ClusterMachine *known = cluster_machine(c, id);
        KvState state;
        Admission *a;
        int r;

        kv_state(m->store, &state);
        if (state.attached) /* its part of the tree lacks the next Raft ID */
                return error_set(err, -EAGAIN, "%s holds no replica; Join= has to name a host that does",
                                 m->settings->name);
        if (!state.ready)
                return error_set(err, -EAGAIN, "%s has no leader now; try again", m->settings->name);
        if (known && cluster_machine_has_left(known))
                return error_set(err, -EPERM,
                                 "this host has left the cluster; to return: fleetctl token on %s, then "
                                 "fleetctl join on this host, without Join= in its fleetd.conf",
                                 m->settings->name);
        TRY(joining_check_room(m, &state, known, id, address, err));

        a = NEW0(Admission, 1);
        if (!a)
                return error_set(err, -ENOMEM, "out of memory");
        a->membership = m;
        a->session = peer_number(session);
        snprintf(a->machine, sizeof(a->machine), "%s", id);
        r = registry_admit(m->registry, id, address, &a->raft_id, joining_on_admitted, a);
        if (r < 0) {
                free(a);
                return error_set(err, r, "%s failed to admit the host: %s", m->settings->name, strerror(-r));
        }
        LIST_INSERT_HEAD(&m->joining.admissions, a, admissions);
        return 0;
}

void joining_on_request(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                        size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        _cleanup_free_ char *address = NULL;
        char host[ADDRESS_SIZE];
        uint8_t version;
        uint16_t port;
        KvState state;
        Error err = {};
        int error;

        version = read_u8(&r);
        address = read_string(&r, sizeof(host) - 1);
        if (reader_end(&r) < 0 || version != JOIN_PROTOCOL ||
            (address[0] && parse_address(address, host, sizeof(host), &port) < 0))
                error = error_set(&err, -EBADMSG,
                                  "%s received an invalid join request; upgrade the older of the two hosts",
                                  m->settings->name);
        else
                error = joining_admit(m, session, address, &err);
        kv_state(m->store, &state);
        if (error < 0)
                joining_reply(session, err.message, error == -EXFULL ? &state : &(KvState) {}, 0);
}

/* -- Requests of this host -- */

static bool joining_is_due(const Membership *m) {
        KvState state;

        kv_state(m->store, &state);
        /* Without an answer of a replica: older leaders add the identity of the cluster to each rejection. */
        if (state.attached)
                return state.raft_id == 0 &&
                       (state.level == 0 || (m->joining.former_id != 0 && !m->unlistened));
        return !m->joining.attach && (state.cluster_id == 0 || state.lost);
}

static void joining_attach(Membership *m, const PeerSession *session) {
        KvState state;

        if (!m->joining.attach)
                log_notice(((LogFields) { .machine = peer_handshake(session)->machine_id }),
                           "attached to the cluster through %s, whose leader chooses the hosts that hold a "
                           "replica",
                           peer_handshake(session)->name);
        m->joining.attach = true;
        kv_state(m->store, &state);
        attaching_update(m, &state);
}

/* Become a replica under that Raft ID. */
static int joining_become(Membership *m, const KvState *cluster, uint64_t raft_id, Error *err) {
        TRY(kv_joined(m->store, cluster->cluster_id, cluster->lineage, raft_id, err));
        m->joining.attach = m->joining.keyless = false;
        m->joining.former_id = raft_id;
        return 0;
}

/* Only hosts with a replica have the cluster key. The leader sends it again with the next Raft ID. */
static void joining_forget_key(Membership *m) {
        Error err = {};
        int r;

        if (m->joining.keyless)
                return;
        r = cluster_key_delete_below(m->settings->state_directory, UINT64_MAX, &err);
        m->joining.keyless = r >= 0;
        if (r < 0)
                log_warning(((LogFields) { .error = r }),
                            "This host holds no replica, and keeps the cluster key: %s", error_text(&err, r));
}

/* Its certificate, or its replica, names the cluster of a host. One with a key file alone could be attached
 * to another cluster with that key at its next start: that of a host of Join= that has left. */
static void joining_record_cluster(Membership *m, const KvState *state) {
        Error err = {};
        int r;

        if (m->joining.cluster_id == state->cluster_id || peers_has_certificate(m->peers))
                return;
        m->joining.cluster_id = state->cluster_id;
        peers_set_cluster(m->peers, state->cluster_id);
        r = identity_write_cluster(m->settings->state_directory, state->cluster_id, &err);
        if (r < 0)
                log_warning(((LogFields) { .error = r }), "Failed to record the cluster of this host: %s",
                            error_text(&err, r));
}

static void joining_read_cluster(Membership *m) {
        Error err = {};
        int r;

        if (peers_has_certificate(m->peers))
                return;
        r = identity_read_cluster(m->settings->state_directory, &m->joining.cluster_id, &err);
        if (r == 0)
                peers_set_cluster(m->peers, m->joining.cluster_id);
        else if (r != -ENOENT)
                log_warning(((LogFields) { .error = r }), "%s", error_text(&err, r));
}

void joining_take_replica(Membership *m, const KvState *state) {
        const ClusterMachine *self = cluster_machine(registry_cluster(m->registry), m->machine_id);
        uint64_t raft_id = self ? self->member.raft_id : 0;
        Joining *j = &m->joining;
        Error err = {};
        int r;

        if (!state->attached) {
                j->looked = j->keyless = false;
                j->former_id = 0;
                return;
        }
        if (state->raft_id != 0 || !state->ready || !registry_is_current(m->registry))
                return;
        joining_record_cluster(m, state);
        if (!j->looked || raft_id == 0)
                j->former_id = raft_id;
        j->looked = true;
        if (raft_id == j->former_id) {
                if (raft_id == 0)
                        joining_forget_key(m);
                joining_state_changed(m);
                return;
        }
        if (m->unlistened) /* it was assigned before its problem was known */
                return;
        r = joining_become(m, state, raft_id, &err);
        if (r < 0 && r != -EBUSY)
                log_error(((LogFields) { .error = r }), "Failed to become a replica: %s",
                          error_text(&err, r));
        else if (r == 0)
                log_notice(NO_FIELDS, "this host is to hold a replica, as member %llu",
                           (unsigned long long) raft_id);
}

void joining_on_answer(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                       size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r), rejected = read_u8(&r);
        _cleanup_free_ char *message = read_string(&r, ERROR_MESSAGE_MAX);
        uint64_t cluster_id = read_u64(&r), lineage = read_u64(&r), raft_id = read_u64(&r);
        const PeerHandshake *peer = peer_handshake(session);
        Error err = {};
        int error;

        m->joining.requested_ms = 0;
        if (reader_end(&r) < 0 || version != JOIN_PROTOCOL ||
            (!rejected && (cluster_id == 0 || raft_id == 0))) {
                log_warning(((LogFields) { .machine = peer->machine_id }),
                            "invalid answer to the join request from %s", peer->name);
                return;
        }
        if (rejected && cluster_id != 0 && lineage != 0) {
                joining_attach(m, session);
                return;
        }
        if (rejected) {
                if (!m->joining.refusal_logged)
                        log_warning(((LogFields) { .machine = peer->machine_id }),
                                    "%s rejected the join request of this host: %s", peer->name, message);
                m->joining.refusal_logged = m->joining.rejected = true;
                return;
        }
        if (!joining_is_due(m))
                return;
        error = joining_become(m, &(KvState) { .cluster_id = cluster_id, .lineage = lineage }, raft_id, &err);
        if (error < 0)
                log_error(((LogFields) { .error = error }), "Failed to join the cluster: %s",
                          error_text(&err, error));
        else
                log_notice(((LogFields) { .machine = peer->machine_id }),
                           "joined the cluster %016llx through %s as member %llu",
                           (unsigned long long) cluster_id, peer->name, (unsigned long long) raft_id);
}

/* The dialed hosts that belong to a cluster: the first one, and the one after the last that was asked. */
typedef struct Askable {
        const char *last; /* machine IDs, of the last one borrowed; "": none */
        char first[MACHINE_ID_SIZE], next[MACHINE_ID_SIZE];
        bool passed;
} Askable;

static void joining_find_askable(void *userdata, const PeerState *peer) {
        const char *id = peer->handshake.machine_id;
        Askable *a = userdata;

        if (!peer->dialed || peer->handshake.cluster_id == 0)
                return;
        if (!a->first[0])
                memcpy(a->first, id, sizeof(a->first));
        if (a->passed && !a->next[0])
                memcpy(a->next, id, sizeof(a->next));
        a->passed |= streq(id, a->last);
}

/* Send one request: to the same host again, or after its rejection to the next one, which may know more. */
static void joining_request(Membership *m) {
        Joining *j = &m->joining;
        _cleanup_writer_ Writer w = {};
        Askable hosts = { .last = j->rejected ? j->requested_from : "" };
        const char *id;

        peers_each(m->peers, joining_find_askable, &hosts);
        id = hosts.next[0] ? hosts.next : hosts.first;
        write_u8(&w, JOIN_PROTOCOL);
        write_string(&w, m->unlistened ? "" : component_peer_address(m->host));
        if (!id[0] || w.error < 0 || peers_send(m->peers, id, PEER_JOIN, w.bytes, w.size) < 0)
                return;
        j->requested = true;
        j->rejected = false;
        j->requested_ms = loop_now_ms(m->loop);
        memcpy(j->requested_from, id, sizeof(j->requested_from));
}

static void joining_on_timer(void *userdata) {
        Membership *m = userdata;
        Joining *j = &m->joining;

        if (!joining_is_due(m))
                return;
        /* A second request while the first is open could assign two Raft IDs: this host would use the first
         * one, the cluster the second one. */
        j->requested = j->requested_ms > 0 && loop_now_ms(m->loop) - j->requested_ms < JOIN_ANSWER_MS &&
                       peers_dialed(m->peers, j->requested_from);
        if (!j->requested)
                joining_request(m);
        (void) timer_start(&j->timer, m->loop, JOIN_RETRY_MS);
}

void joining_state_changed(Membership *m) {
        if (joining_is_due(m) && !timer_armed(&m->joining.timer))
                (void) timer_start(&m->joining.timer, m->loop, 0);
}

/* Another host has recorded a later start of this one, so that the log of this host may lack entries that it
 * has acknowledged: it must not vote again. While a leader among several members accepts this host, the one
 * that rejects it errs. A replica that is not open now is retired when it is rejected again. */
static void joining_retire_outdated(Membership *m) {
        PeerState self;
        KvState state;

        kv_state(m->store, &state);
        if (state.leader_id != 0 && state.n_members > 1)
                return;
        if (peers_state(m->peers, m->machine_id, &self) == 0 && self.outdated &&
            kv_retire(m->store, "it is an old image: the cluster has recorded a later start of this host") ==
                    0)
                log_notice(NO_FIELDS, "the state of this host is an old image: it joins again");
}

void joining_peer_changed(Membership *m, const char *machine_id) {
        if (streq(machine_id, m->machine_id))
                joining_retire_outdated(m);
        if (joining_is_due(m) && !m->joining.requested)
                joining_request(m);
}

/* -- Member keys -- */

/* The member key records each start of a replica's daemon, with the address of its clients. The founder also
 * records its own Raft ID, which no other host has assigned. */
void joining_publish_start(Membership *m, const KvState *state) {
        const ClusterMachine *self = cluster_machine(registry_cluster(m->registry), m->machine_id);
        const PeerHandshake *own = peers_self(m->peers);
        MemberRecord member = { .raft_id = state->raft_id,
                                .start_number = own->start_number,
                                .level = state->level_max,
                                .agentless = !m->settings->agent };
        bool has_key = self && self->member.raft_id != 0, published;

        if (m->writing || !state->ready || state->raft_id == 0 || !registry_ready(m->registry) ||
            !component_peer_address(m->host)[0])
                return;
        /* The cluster has taken the replica of a follower that has lost its key. */
        if (!has_key && state->role != KV_ROLE_LEADER && state->n_members > 1)
                return;
        published = has_key && streq(self->member.peer, component_peer_address(m->host)) &&
                    (self->member.start_number > own->start_number ||
                     (self->member.start_number == own->start_number && self->member.start_nonce[0] &&
                      streq(self->member.client, m->settings->advertise_client)));
        if (published || (has_key && self->member.raft_id != state->raft_id))
                return;
        snprintf(member.start_nonce, sizeof(member.start_nonce), "%016llx", (unsigned long long) own->nonce);
        snprintf(member.peer, sizeof(member.peer), "%s", component_peer_address(m->host));
        snprintf(member.client, sizeof(member.client), "%s", m->settings->advertise_client);
        snprintf(member.name, sizeof(member.name), "%s", m->settings->name);
        m->writing = registry_record_start(m->registry, m->machine_id, &member, presences_on_written, m) == 0;
}

int membership_admit(const Membership *m, const PeerHandshake *peer, Error *err) {
        const ClusterMachine *known = cluster_machine(registry_cluster(m->registry), peer->machine_id);
        char nonce[sizeof(known->member.start_nonce)];
        bool outdated;

        if (peer->raft_id != 0 && known && cluster_machine_has_left(known))
                return error_set(err, -EKEYREVOKED, "%s has left the cluster", handshake_name(peer));
        if (peer->raft_id == 0 || !known || known->member.raft_id != peer->raft_id)
                return 0;
        snprintf(nonce, sizeof(nonce), "%016llx", (unsigned long long) peer->nonce);
        outdated = peer->start_number < known->member.start_number ||
                   (peer->start_number == known->member.start_number && known->member.start_nonce[0] &&
                    !streq(known->member.start_nonce, nonce));
        if (!outdated)
                return 0;
        return error_set(
                err, -ESTALE,
                "machine %s runs an old image of its state (start %llu, the cluster has recorded start "
                "%llu): it does not vote, and joins again by itself",
                peer->machine_id, (unsigned long long) peer->start_number,
                (unsigned long long) known->member.start_number);
}

/* -- Lifetime -- */

int joining_init(Membership *m) {
        m->joining.timer = TIMER(joining_on_timer, m);
        joining_read_cluster(m);
        return joining_is_due(m) ? timer_start(&m->joining.timer, m->loop, JOIN_RETRY_MS) : 0;
}

void joining_done(Membership *m) {
        Admission *a;

        timer_stop(&m->joining.timer);
        while ((a = LIST_FIRST(&m->joining.admissions))) {
                LIST_REMOVE(a, admissions);
                registry_cancel(m->registry, a);
                free(a);
        }
}
