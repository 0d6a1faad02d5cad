#include "fleetd/metrics_hosts.h"

/* The kind of a host in the cluster. */
typedef enum HostKind { HOST_VOTER, HOST_STANDBY, HOST_ATTACHED, _HOST_KIND_MAX } HostKind;

static const char *const host_kinds[_HOST_KIND_MAX] = { "voter", "standby", "attached" };

static HostKind host_kind(const KvState *state, uint64_t raft_id) {
        for (size_t i = 0; i < state->n_members && raft_id != 0; i++)
                if (state->members[i].raft_id == raft_id && state->members[i].role != KV_MEMBER_SPARE)
                        return state->members[i].role == KV_MEMBER_VOTER ? HOST_VOTER : HOST_STANDBY;
        return HOST_ATTACHED;
}

void metrics_read_hosts(const MetricsView *v, MetricsWriter *w) {
        const Cluster *c = registry_cluster(v->host->registry);
        uint64_t n[_HOST_KIND_MAX] = {};
        const ClusterMachine *m;

        for (Presence p = 0; p < _PRESENCE_MAX; p++)
                n[HOST_ATTACHED] += c->counts[MACHINES_BY_PRESENCE + p];
        LIST_FOREACH(m, &c->members, of_members)
                if (!cluster_machine_is_removed(m)) {
                        n[HOST_ATTACHED]--;
                        n[host_kind(&v->state, m->member.raft_id)]++;
                }
        for (HostKind k = 0; k < _HOST_KIND_MAX; k++)
                metrics_add(w, n[k], host_kinds[k], NULL);
}

void metrics_read_single(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, registry_cluster(v->host->registry)->counts[MACHINES_SINGLE], NULL, NULL);
}

void metrics_read_maintenance(const MetricsView *v, MetricsWriter *w) {
        const Cluster *c = registry_cluster(v->host->registry);
        bool any = c->counts[MACHINES_MAINTAINED] > 0;
        uint64_t n[_MAINTENANCE_MODE_MAX] = {};

        for (const ClusterMachine *m = any ? c->machines : NULL; m; m = m->hh.next)
                if (m->maintenance)
                        n[m->maintenance->mode]++;
        for (MaintenanceMode k = 0; k < _MAINTENANCE_MODE_MAX; k++)
                metrics_add(w, n[k], maintenance_mode_to_string(k), NULL);
}

void metrics_read_rollouts(const MetricsView *v, MetricsWriter *w) {
        uint64_t n[_ROLLOUT_STATE_MAX] = {};
        const ClusterUnit *u;

        LIST_FOREACH(u, &registry_cluster(v->host->registry)->lists[CLUSTER_ROLLING], lists[CLUSTER_ROLLING])
                n[u->rollout->state]++;
        for (RolloutState k = 0; k < ROLLOUT_DONE; k++)
                metrics_add(w, n[k], rollout_state_to_string(k), NULL);
}

void metrics_read_tokens(const MetricsView *v, MetricsWriter *w) {
        uint64_t n = 0, now_ms = loop_wall_ms(v->host->io.loop);

        for (const ClusterToken *t = registry_cluster(v->host->registry)->tokens; t; t = t->hh.next)
                n += !t->record.revoked && t->record.uses > 0 && t->record.expires_ms > now_ms;
        metrics_add(w, n, NULL, NULL);
}

void metrics_read_certificate(const MetricsView *v, MetricsWriter *w) {
        const ClusterMachine *self = cluster_machine(registry_cluster(v->host->registry),
                                                     registry_machine_id(v->host->registry));

        if (self && self->host && self->host->expires_ms > 0)
                metrics_add_ns(w, self->host->expires_ms * NS_PER_MS, NULL, NULL);
}

/* -- Sessions -- */

void metrics_read_session_up(const MetricsView *v, MetricsWriter *w) {
        for (size_t i = 0; i < v->state.n_members; i++) {
                const KvMember *member = &v->state.members[i];
                const ClusterMachine *m = cluster_machine_of_member(registry_cluster(v->host->registry),
                                                                    member->raft_id);

                if (m && member->raft_id != v->state.raft_id)
                        metrics_add(w, member->reachable, m->id, NULL);
        }
}

typedef struct SessionCounts {
        const KvState *state; /* borrowed */
        uint64_t n[_HOST_KIND_MAX];
} SessionCounts;

static void count_session(void *userdata, const PeerState *peer) {
        SessionCounts *counts = userdata;

        if (peer->dialed || peer->accepted)
                counts->n[host_kind(counts->state, peer->handshake.raft_id)]++;
}

void metrics_read_sessions(const MetricsView *v, MetricsWriter *w) {
        SessionCounts counts = { .state = &v->state };

        peers_each(v->host->peers, count_session, &counts);
        /* Hosts without a replica are not visited one by one. */
        counts.n[HOST_ATTACHED] = peers_count(v->host->peers) - counts.n[HOST_VOTER] - counts.n[HOST_STANDBY];
        for (HostKind k = 0; k < _HOST_KIND_MAX; k++)
                metrics_add(w, counts.n[k], host_kinds[k], NULL);
}

void metrics_read_subscriptions(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, kv_subscriptions(v->host->store), NULL, NULL);
}

void metrics_read_admission(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, peers_waiting(v->host->peers), NULL, NULL);
}
