/* What can be asked of the store. */
#include "kvstore/kvstore_internal.h"
#include "kvstore/raft/transfer.h"

#include <errno.h>
#include <stdio.h>

enum {
        REACHABLE_SILENT_MS = 3000
}; /* a session whose other kernel is silent for longer is open in name only */

static const char *const role_names[_KV_ROLE_MAX] = {
        [KV_ROLE_NONE] = "none",
        [KV_ROLE_FOLLOWER] = "follower",
        [KV_ROLE_CANDIDATE] = "candidate",
        [KV_ROLE_LEADER] = "leader",
};
static const char *const seat_names[_KV_MEMBER_ROLE_MAX] = {
        [KV_MEMBER_SPARE] = "spare",
        [KV_MEMBER_STANDBY] = "standby",
        [KV_MEMBER_VOTER] = "voter",
};

const char *kv_role_name(KvRole role) {
        return (unsigned) role < _KV_ROLE_MAX ? role_names[role] : "unknown";
}

const char *kv_member_role_name(KvMemberRole seat) {
        return (unsigned) seat < _KV_MEMBER_ROLE_MAX ? seat_names[seat] : "unknown";
}

typedef struct Looking {
        const Replica *replica;
        KvState *state;
        uint64_t leader;
} Looking;

static void look_at_peer(void *userdata, const PeerState *peer) {
        Looking *l = userdata;

        if (peer->hello.raft_id == 0 || peer->hello.cluster_id != l->state->cluster_id)
                return;
        if (peer->hello.raft_id == l->leader)
                snprintf(l->state->leader_machine_id, sizeof(l->state->leader_machine_id), "%s",
                         peer->hello.machine_id);
        for (size_t i = 0; i < l->state->n_members; i++)
                if (l->state->members[i].raft_id == peer->hello.raft_id)
                        l->state->members[i].reachable |= (peer->dialed || peer->accepted) &&
                                                          peer->kernel_silent_ms < REACHABLE_SILENT_MS;
}

static KvMemberRole seat_of(RaftServerRole role) {
        return role == RAFT_ROLE_VOTER   ? KV_MEMBER_VOTER :
               role == RAFT_ROLE_STANDBY ? KV_MEMBER_STANDBY :
                                           KV_MEMBER_SPARE;
}

static void list_members(const KvStore *s, KvState *ret) {
        const RaftServers *servers = raft_core_servers(s->replica->core);
        bool lead = replica_is_leader(s->replica);

        for (size_t i = 0; i < servers->n && ret->n_members < KV_MEMBERS_MAX; i++) {
                const RaftServer *server = &servers->items[i];
                KvMember *m = &ret->members[ret->n_members++];

                *m = (KvMember) { .raft_id = server->id,
                                  .seat = seat_of(server->role),
                                  .reachable = server->id == ret->raft_id };
                snprintf(m->address, sizeof(m->address), "%s",
                         server->address[0] == '-' ? "" : server->address);
                if (lead)
                        (void) raft_core_match_index(s->replica->core, server->id, &m->match);
        }
        if (s->peers)
                peers_each(s->peers, look_at_peer,
                           &(Looking) { .replica = s->replica, .state = ret, .leader = ret->leader_id });
        for (size_t i = 0; i < ret->n_members; i++)
                if (ret->members[i].seat == KV_MEMBER_VOTER) {
                        ret->n_voters++;
                        ret->n_voters_reachable += ret->members[i].reachable;
                }
}

void kv_state(const KvStore *s, KvState *ret) {
        const Replica *p = s->replica;

        *ret = (KvState) {
                .raft_id = p->identity.raft_id,
                .cluster_id = p->identity.cluster_id,
                .lineage = p->identity.lineage,
                .index = s->index,
                .cluster_ms = kv_cluster_ms(s),
                .stale_ms = kv_stale_ms(s),
                .level = s->level,
                .level_max = s->level_max,
                .unserved = s->floor.unknown && s->promised == 0,
                .floor = kv_can_serve(s) ? 0 : MAX(MAX(s->floor.bound, s->promised), 1u),
        };

        ret->stopped = p->error < 0;
        ret->lost = p->lost;
        ret->founded = p->founded;
        ret->forwards = ret->stopped && replica_known_leader(p) != 0;
        ret->differs = consistency_differs(p->compare);
        ret->undecided = consistency_undecided(p->compare);
        if (p->error < 0)
                snprintf(ret->problem, sizeof(ret->problem), "this host's replica has stopped: %s%s",
                         p->reason,
                         p->lost ? "; it asks to be let in under another id, and where too few are left to "
                                   "vote: fleetd --recover on a host whose log is whole" :
                                   "");
        else if (!p->core)
                snprintf(ret->problem, sizeof(ret->problem), "this host waits to be let into a cluster");
        if (!p->core || p->error < 0)
                return;

        ret->role = raft_core_state(p->core) == RAFT_STATE_LEADER    ? KV_ROLE_LEADER :
                    raft_core_state(p->core) == RAFT_STATE_CANDIDATE ? KV_ROLE_CANDIDATE :
                                                                       KV_ROLE_FOLLOWER;
        ret->term = raft_core_term(p->core);
        ret->leader_id = replica_leader(p);
        ret->raft_index = raft_core_applied_index(p->core);
        ret->commit = raft_core_commit_index(p->core);
        ret->ready = ret->role == KV_ROLE_LEADER ? raft_core_leads(p->core) : ret->leader_id != 0;
        if (ret->leader_id == ret->raft_id && ret->leader_id != 0)
                snprintf(ret->leader_machine_id, sizeof(ret->leader_machine_id), "%s", s->machine_id);
        list_members(s, ret);
        if (!ret->ready)
                snprintf(ret->problem, sizeof(ret->problem),
                         "no leader: %zu of %zu voters reachable; reads still work", ret->n_voters_reachable,
                         ret->n_voters);
        else if (ret->differs)
                snprintf(ret->problem, sizeof(ret->problem),
                         "this host's tree differs from the majority's: it will get the leader's");
        else if (ret->undecided)
                snprintf(ret->problem, sizeof(ret->problem),
                         "the replicas' trees differ, and no majority of them agrees");
        else
                transfers_problem(p->transfers, ret->problem, sizeof(ret->problem));
        ret->refuses = transfers_refuses(p->transfers);
}

void kv_position(const KvStore *s, KvPosition *ret) {
        const Replica *p = s->replica;

        *ret = (KvPosition) { .cluster_id = p->identity.cluster_id, .lineage = p->identity.lineage };
        if (!p->core || p->error < 0)
                return;
        ret->raft_index = raft_core_applied_index(p->core);
        ret->term = raft_core_term(p->core);
}

int kv_read(KvStore *s, TreeTxn **ret) {
        Tree *tree = replica_serving(s->replica);

        if (!tree)
                return -EUCLEAN;
        tree_set_work(tree, &s->loop->turns.now);
        return tree_begin_read(tree, ret);
}

bool kv_can_serve(const KvStore *s) {
        return read_bound_allows(&s->floor, s->index) && s->index >= s->promised;
}

uint64_t kv_stale_ms(const KvStore *s) {
        uint64_t ms = s->leaderless_ms > 0 ? loop_now_ms(s->loop) - s->leaderless_ms : 0;

        return ms >= KV_STALE_MS ? ms : 0;
}

uint64_t kv_index(const KvStore *s) {
        return s->index;
}

uint64_t kv_cluster_ms(const KvStore *s) {
        uint64_t now = loop_now_ms(s->loop);

        if (!s->clock_runs || s->clock_ms == 0)
                return s->clock_ms;
        return s->clock_ms + MIN(now - s->clock_at_ms, (uint64_t) KV_STALL_MS);
}

void kv_counts(const KvStore *s, KvCounts *ret) {
        memcpy(ret->done, s->done, sizeof(ret->done));
        memcpy(ret->refused, s->refused, sizeof(ret->refused));
        ret->cost = s->cost;
        ret->cost_max = s->cost_max;
        ret->deferred = s->deferred;
        ret->traffic = s->replica->traffic;
        ret->entries_bytes = s->replica->core ? raft_core_entries_bytes(s->replica->core) : 0;
        ret->window_bytes = hub_window_bytes(s->hub);
}

int kv_hash(KvStore *s, uint64_t *ret_hash, uint64_t *ret_applied) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;
        int r;

        r = kv_read(s, &txn);
        if (r >= 0)
                r = tree_meta(txn, &meta);
        if (r >= 0)
                r = tree_hash(txn, ret_hash);
        if (r >= 0)
                *ret_applied = meta.applied;
        return r;
}

Hub *kv_hub(KvStore *s) {
        return s->hub;
}
