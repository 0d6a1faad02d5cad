/* Status of the store. */
#include "kvstore/kvstore_internal.h"
#include "kvstore/apply/apply.h"
#include "kvstore/apply/events.h"
#include "kvstore/raft/transfer.h"

enum {
        REACHABLE_SILENT_MS = 3000
}; /* a session whose other kernel is silent for longer is open in name only */

static const char *const role_names[_KV_ROLE_MAX] = {
        [KV_ROLE_NONE] = "none",
        [KV_ROLE_FOLLOWER] = "follower",
        [KV_ROLE_CANDIDATE] = "candidate",
        [KV_ROLE_LEADER] = "leader",
};
static const char *const member_role_names[_KV_MEMBER_ROLE_MAX] = {
        [KV_MEMBER_SPARE] = "spare",
        [KV_MEMBER_STANDBY] = "standby",
        [KV_MEMBER_VOTER] = "voter",
};

const char *kv_role_name(KvRole role) {
        return (unsigned) role < _KV_ROLE_MAX ? role_names[role] : "unknown";
}

const char *kv_state_role(const KvState *state) {
        return state->attached ? "attached" : kv_role_name(state->role);
}

const char *kv_member_role_name(KvMemberRole role) {
        return (unsigned) role < _KV_MEMBER_ROLE_MAX ? member_role_names[role] : "unknown";
}

static void status_on_peer(void *userdata, const PeerState *peer) {
        KvState *state = userdata;

        if (peer->handshake.raft_id == 0 || peer->handshake.cluster_id != state->cluster_id)
                return;
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == peer->handshake.raft_id)
                        state->members[i].reachable |= (peer->dialed || peer->accepted) &&
                                                       peer->kernel_silent_ms < REACHABLE_SILENT_MS;
}

static KvMemberRole status_member_role(RaftServerRole role) {
        if (role == RAFT_ROLE_VOTER)
                return KV_MEMBER_VOTER;
        return role == RAFT_ROLE_STANDBY ? KV_MEMBER_STANDBY : KV_MEMBER_SPARE;
}

static const RaftServers *status_servers(const KvStore *s) {
        static const RaftServers none = {};
        const RaftCore *core = replica_core(s->replica);

        return core && replica_error(s->replica, NULL) >= 0 ? raft_core_servers(core) : &none;
}

static void status_members(const KvStore *s, KvState *ret) {
        const RaftServers *servers = status_servers(s);
        bool lead = replica_is_leader(s->replica);

        for (size_t i = 0; i < servers->n && ret->n_members < KV_MEMBERS_MAX; i++) {
                const RaftServer *server = &servers->items[i];
                KvMember *m = &ret->members[ret->n_members++];

                *m = (KvMember) { .raft_id = server->id,
                                  .role = status_member_role(server->role),
                                  .reachable = server->id == ret->raft_id };
                snprintf(m->address, sizeof(m->address), "%s",
                         server->address[0] == '-' ? "" : server->address);
                if (lead)
                        (void) raft_core_match_index(replica_core(s->replica), server->id, &m->match);
        }
}

/* System calls. */
static void status_reachable(const KvStore *s, KvState *ret) {
        if (s->peers && ret->n_members > 0)
                peers_each(s->peers, status_on_peer, ret);
        for (size_t i = 0; i < ret->n_members; i++)
                if (ret->members[i].role == KV_MEMBER_VOTER) {
                        ret->n_voters++;
                        ret->n_voters_reachable += ret->members[i].reachable;
                }
}

static const KvRole status_roles[] = {
        [RAFT_STATE_FOLLOWER] = KV_ROLE_FOLLOWER,
        [RAFT_STATE_CANDIDATE] = KV_ROLE_CANDIDATE,
        [RAFT_STATE_LEADER] = KV_ROLE_LEADER,
};

static const char status_removed[] =
        "this host was removed from the cluster: run fleetctl token on another host, and fleetctl join on "
        "this one. Units that run stay; no other one starts";

static const char *status_waits(const KvStore *s) {
        return s->waits ?: "this host waits for admission to a cluster";
}

/* Why this host accepts no writes, or what is wrong with a tree or a transfer; else *ret stays as it is. */
static void status_problem(const KvStore *s, const KvState *state, char *ret, size_t size) {
        const Replica *p = s->replica;
        const char *reason;

        if (replica_error(p, &reason) < 0)
                snprintf(ret, size, "this host's replica has stopped: %s%s", reason,
                         state->lost ? "; requesting to join under a new ID. Without a quorum, run fleetd "
                                       "--recover on a host with an intact log" :
                                       "");
        else if (state->removed)
                snprintf(ret, size, "%s", status_removed);
        else if (!replica_core(p))
                snprintf(ret, size, "%s", status_waits(s));
        else if (!state->ready && state->leader_id != 0)
                snprintf(ret, size,
                         "this host is the new leader, and the first entry of its term is not committed yet: "
                         "%zu of %zu voters reachable; reads still work",
                         state->n_voters_reachable, state->n_voters);
        else if (!state->ready)
                snprintf(ret, size, "no leader: %zu of %zu voters reachable; reads still work",
                         state->n_voters_reachable, state->n_voters);
        else if (state->differs)
                snprintf(ret, size, "this host's tree differs from the majority's: it will get the leader's");
        else if (state->undecided)
                snprintf(ret, size, "the replicas' trees differ, and no majority of them agrees");
        else
                transfers_problem(replica_transfers(p), ret, size);
}

static void status_leader(const KvStore *s, KvState *ret) {
        const PeerHandshake *leader = s->peers && ret->leader_id != 0 ?
                                              peers_replica(s->peers, ret->leader_id) :
                                              NULL;

        if (ret->leader_id == 0)
                return;
        if (ret->leader_id == ret->raft_id)
                snprintf(ret->leader_machine_id, sizeof(ret->leader_machine_id), "%s",
                         replica_options(s->replica)->machine_id);
        if (leader && leader->cluster_id == ret->cluster_id)
                snprintf(ret->leader_machine_id, sizeof(ret->leader_machine_id), "%s", leader->machine_id);
}

static void status_raft(const KvStore *s, KvState *ret) {
        const RaftCore *core = replica_core(s->replica);

        ret->role = status_roles[raft_core_state(core)];
        ret->term = raft_core_term(core);
        ret->leader_id = replica_leader(s->replica);
        ret->raft_index = raft_core_applied_index(core);
        ret->commit = raft_core_commit_index(core);
        ret->last_index = raft_core_last_index(core);
        ret->last_term = raft_core_last_term(core);
        ret->ready = ret->role == KV_ROLE_LEADER ? kv_leads(s) > 0 : ret->leader_id != 0;
        status_leader(s, ret);
        ret->refuses = transfers_refuses(replica_transfers(s->replica));
}

/* What the replica in use has answered. */
static void status_attached(const KvStore *s, KvState *ret) {
        const RemoteCurrent *current = remote_current(s->remote);

        *ret = (KvState) { .attached = true,
                           .ready = remote_is_fresh(s->remote),
                           .raft_id = replica_identity(s->replica)->raft_id,
                           .term = current->term,
                           .leader_id = current->leader_id,
                           .cluster_id = current->cluster_id,
                           .lineage = current->lineage,
                           .index = s->index,
                           .raft_index = current->raft_index,
                           .commit = current->commit,
                           .cluster_ms = kv_cluster_ms(s),
                           .stale_ms = kv_stale_ms(s),
                           .level = current->level,
                           .rare = current->rare,
                           .level_max = s->level_max };
        if (ret->cluster_id == 0) {
                ret->cluster_id = replica_identity(s->replica)->cluster_id;
                ret->lineage = replica_identity(s->replica)->lineage;
        }
        memcpy(ret->leader_machine_id, current->leader, sizeof(ret->leader_machine_id));
        for (size_t i = 0; i < current->n_members; i++)
                ret->members[ret->n_members++] = (KvMember) { .raft_id = current->members[i].raft_id,
                                                              .role = current->members[i].standby ?
                                                                              KV_MEMBER_STANDBY :
                                                                              KV_MEMBER_VOTER };
        if (ret->ready)
                return;
        ret->removed = s->peers && peers_is_removed(s->peers);
        if (ret->removed)
                snprintf(ret->problem, sizeof(ret->problem), "%s", status_removed);
        else if (remote_has_slice(s->remote))
                remote_problem(s->remote, ret->problem, sizeof(ret->problem));
        else {
                ret->waits = !s->waits;
                snprintf(ret->problem, sizeof(ret->problem), "%s", status_waits(s));
        }
}

/* All but the members and the problem. */
static void status_own(const KvStore *s, KvState *ret) {
        const Replica *p = s->replica;
        const Identity *identity = replica_identity(p);

        *ret = (KvState) {
                .raft_id = identity->raft_id,
                .cluster_id = identity->cluster_id,
                .lineage = identity->lineage,
                .index = s->index,
                .cluster_ms = kv_cluster_ms(s),
                .stale_ms = kv_stale_ms(s),
                .level = s->level,
                .level_max = s->level_max,
                .unserved = s->read_bound.unknown && s->promised == 0,
                .read_bound = kv_can_serve(s) ? 0 : MAX(MAX(s->read_bound.bound, s->promised), 1u),
                .stopped = replica_error(p, NULL) < 0,
                .lost = replica_state(p) == REPLICA_QUARANTINED,
                .founded = replica_has_founded(p),
                .differs = consistency_differs(replica_consistency(p)),
                .undecided = consistency_undecided(replica_consistency(p)),
        };
        if (replica_core(p) && !ret->stopped)
                status_raft(s, ret);
}

void kv_state(const KvStore *s, KvState *ret) {
        if (s->attached) {
                status_attached(s, ret);
                return;
        }
        status_own(s, ret);
        status_members(s, ret);
        status_reachable(s, ret);
        ret->removed = !ret->ready && s->peers && peers_is_removed(s->peers);
        ret->waits = !ret->stopped && !ret->removed && !replica_core(s->replica) && !s->waits;
        status_problem(s, ret, ret->problem, sizeof(ret->problem));
}

void kv_replica_problem(const KvStore *s, char *ret, size_t size) {
        const char *reason;

        ret[0] = 0;
        /* A quarantined one waits for a Raft ID. */
        if (s->attached && replica_error(s->replica, &reason) < 0 &&
            replica_state(s->replica) != REPLICA_QUARANTINED)
                snprintf(ret, size, "this host's replica has stopped: %s", reason);
}

void kv_problem(const KvStore *s, char *ret, size_t size) {
        KvState state;

        kv_state(s, &state);
        snprintf(ret, size, "%s",
                 state.problem[0] ? state.problem : "the leader cannot be reached; reads still work");
}

uint64_t kv_stale_ms(const KvStore *s) {
        uint64_t ms = s->leaderless_ms > 0 ? loop_now_ms(s->loop) - s->leaderless_ms : 0;

        return ms >= KV_STALE_MS ? ms : 0;
}

bool kv_has_leader(const KvStore *s) {
        return s->leaderless_ms == 0;
}

uint64_t kv_leads(const KvStore *s) {
        const RaftCore *core = s->attached || replica_error(s->replica, NULL) < 0 ? NULL :
                                                                                    replica_core(s->replica);

        return core && replica_is_leader(s->replica) && raft_core_leads(core) ? raft_core_term(core) : 0;
}

bool kv_replica_answers(const KvStore *s, const char *machine_id, uint64_t within_ms) {
        return s->remote && remote_answers(s->remote, machine_id, within_ms);
}

const char *kv_replica_in_use(const KvStore *s) {
        return s->attached ? remote_in_use(s->remote) : "";
}

uint64_t kv_replica_silent_ms(const KvStore *s, const char *machine_id) {
        return s->remote ? remote_silent_ms(s->remote, machine_id) : UINT64_MAX;
}

uint64_t kv_replica_leader_ms(const KvStore *s, const char *machine_id) {
        return s->remote ? remote_leader_ms(s->remote, machine_id) : UINT64_MAX;
}

uint64_t kv_seen(const KvStore *s) {
        return s->attached ? remote_seen(s->remote) : s->index;
}

void kv_saw(KvStore *s, uint64_t index) {
        if (s->attached)
                remote_saw(s->remote, index);
}

/* Return the time since the last contact with a leader, or of a leader with a majority. A follower notices a
 * missing leader a second later, and a leader that it has lost the majority. */
static uint64_t status_contact_age_ms(const KvStore *s) {
        uint64_t now = loop_now_ms(s->loop);

        if (replica_is_leader(s->replica))
                return now - raft_core_quorum_ms(replica_core(s->replica), now);
        return now - MIN(replica_leader_ms(s->replica), now);
}

void kv_answer_heartbeat(KvStore *s, PeerSession *session, bool rare) {
        _cleanup_writer_ Writer w = {};
        RemoteCurrent current = { .stops = s->closing, .rare = rare };
        const RaftServers *servers = status_servers(s);
        KvState state;

        if (s->attached)
                return;
        serve_bound(s->serve);
        serve_indexes(s->serve, session, &current.index, &current.events);
        if (peer_queued(session) > 0) /* this answer overtakes pages and events */
                current.index = current.events = 0;
        status_own(s, &state);
        current.cluster_id = state.cluster_id;
        current.lineage = state.lineage;
        current.raft_index = state.raft_index;
        current.commit = state.commit;
        current.term = state.term;
        current.leader_id = state.leader_id;
        memcpy(current.leader, state.leader_machine_id, sizeof(current.leader));
        current.stale_ms = status_contact_age_ms(s);
        if (!state.ready)
                current.stale_ms = MAX(loop_now_ms(s->loop) - s->leaderless_ms, 1u);
        else if (current.stale_ms < REMOTE_CONTACT_MS)
                current.stale_ms = 0;
        current.cluster_ms = state.cluster_ms;
        current.level = state.level;
        for (size_t i = 0; i < servers->n && i < KV_MEMBERS_MAX; i++)
                if (status_member_role(servers->items[i].role) != KV_MEMBER_SPARE)
                        current.members[current.n_members++] = (struct RemoteMember) {
                                servers->items[i].id, servers->items[i].role == RAFT_ROLE_STANDBY
                        };
        remote_current_write(&current, &w);
        if (w.error == 0)
                (void) peer_reply(session, PEER_CURRENT, w.bytes, w.size);
}

static KvUsage status_usage(uint64_t n_keys, uint64_t bytes) {
        return (KvUsage) { .n_keys = n_keys, .bytes = bytes + APPLY_NODE_WEIGHT * n_keys };
}

size_t kv_window_bytes(const KvStore *s) {
        return hub_window_bytes(s->hub);
}

void kv_counts(const KvStore *s, KvCounts *ret) {
        const AppliedCounts *counts = &replica_applied(s->replica)->counts;
        const RaftCore *core = replica_core(s->replica);

        *ret = (KvCounts) {
                .cost = counts->cost,
                .cost_max = counts->cost_max,
                .deferred = counts->deferred,
                .traffic = *replica_stats(s->replica),
                .entries_bytes = core ? raft_core_entries_bytes(core) : 0,
                .users = status_usage(s->meta.n_nodes, s->meta.n_bytes),
                .own = status_usage(s->meta.n_own_nodes, s->meta.n_own_bytes),
                .quota_bytes = s->meta.quota > 0 ? s->meta.quota : APPLY_QUOTA,
        };
        ret->commits = s->commits;
        if (replica_log_writes(s->replica))
                ret->log_writes = *replica_log_writes(s->replica);
        memcpy(ret->done, counts->done, sizeof(ret->done));
        memcpy(ret->refused, counts->refused, sizeof(ret->refused));
}
