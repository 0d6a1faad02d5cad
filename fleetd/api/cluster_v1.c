/* GET /fleet/v1/cluster: leader, members and this host's replica, in one answer. */
#include "fleetd/api/fleet_v1.h"

#include "fleetd/engine/plan.h"
#include "fleetd/identity/authority.h"
#include "fleetd/sessions/leaving.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/identity/securing.h"
#include "fleetd/sessions/voters.h"
#include "fleetd/problems/daemon.h"

/* Write the end of the log of another host, while that host knows no leader. */
static void position_write(Text *t, const Request *request, const char *machine_id) {
        const struct Membership *membership = request->api->host->membership;
        uint64_t term, index;

        if (!membership || !membership_position(membership, machine_id, &term, &index))
                return;
        json_add_u64(t, "lastIndex", index);
        json_add_u64(t, "lastTerm", term);
}

/* A host that is alone and has no peer listener has no member key: its own id and name are used. */
static void member_write(Text *t, const Request *request, const KvState *state, const char *name,
                         const KvMember *member, uint64_t raft_id) {
        const ClusterMachine *m = cluster_machine_of_member(request_cluster(request), raft_id);
        bool self = raft_id == state->raft_id;
        /* The configuration of Raft may have an outdated address; the member key has the one that is dialed.
         */
        const char *address = m && m->member.peer[0] ? m->member.peer :
                              member                 ? member->address :
                                                       NULL,
                   *id = self ? request->api->settings->machine_id : NULL,
                   *hostname = self ? request->api->settings->name : NULL;

        json_open(t, name, '{');
        json_add_string(t, "address", address);
        json_add_string(t, "id", m ? m->id : id);
        if (member && m && state->leader_id == 0)
                position_write(t, request, m->id);
        /* While a removal ends, the member key is deleted, and Raft has the member: its address is its name.
         */
        json_add_string(t, "name", m ? cluster_machine_hostname(m) ?: hostname : self ? hostname : address);
        if (member) {
                json_add_bool(t, "reachable", member->reachable);
                json_add_string(t, "role", kv_member_role_name(member->role));
                json_add_string(t, "seat", kv_member_role_name(member->role)); /* for former clients */
        }
        json_close(t, '}');
}

/* Write the hosts of a new lineage that have not reported their units yet. */
static void waits_for_write(Text *t, const Cluster *c) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        char name[CLUSTER_LABEL_SIZE];
        size_t n = 0;

        machines = cluster_machines_sorted(c, &n);
        if (!machines)
                t->error = -ENOMEM;
        json_open(t, "waitsFor", '[');
        for (size_t i = 0; i < n; i++)
                if (cluster_awaits_report(c, machines[i]))
                        json_add_string_always(t, NULL, cluster_machine_label(machines[i], name));
        json_close(t, ']');
}

/* Write the hosts that are leaving the cluster, how many units each has to move, and which fit no other one.
 */
static void leaving_write(Text *t, const Cluster *c) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        char name[CLUSTER_LABEL_SIZE];
        SchedulerView *view = NULL;
        size_t n = 0, n_units;
        size_t list = json_open_list(t, "leaving");

        machines = cluster_machines_sorted(c, &n);
        if (!machines)
                t->error = -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                if (!cluster_machine_is_leaving(machines[i]))
                        continue;
                json_open(t, NULL, '{');
                json_add_string(t, "name", cluster_machine_label(machines[i], name));
                (void) leaving_unit(machines[i], &n_units);
                json_add_u64(t, "units", n_units);
                if (n_units > 0 && !view && scheduler_view_new(c, c->now_ms, &view) < 0)
                        t->error = -ENOMEM;
                if (n_units > 0 && view)
                        leave_write_waiting(t, view, machines[i]);
                json_close(t, '}');
        }
        json_close_list(t, list);
        scheduler_view_free(view);
}

/* Write the mass-failure brake while it is on. Its end is wall-clock time. */
static void brake_write(Text *t, const Request *request, const Cluster *c) {
        EngineBrake brake = {};

        if (engine_brake_state(c, request_brake_ms(request), &brake) < 0)
                t->error = -ENOMEM;
        if (brake.until_ms == 0)
                return;
        json_open(t, "brake", '{');
        json_add_u64(t, "lost", brake.n_lost);
        json_add_u64(t, "of", brake.n_total);
        json_add_u64(t, "until", loop_wall_ms(request->api->loop) + brake.until_ms - c->now_ms);
        json_close(t, '}');
}

/* Write the settings that the cluster has, and the value of the spread key that no other one can replace. */
static void settings_write(Text *t, const Cluster *c, const KvState *state) {
        const ClusterSettings *settings = cluster_settings(c);
        const char *critical = voters_critical_value(state->members, state->n_members, c, settings->spread);

        if (c->settings_index == 0)
                return;
        json_open(t, "settings", '{');
        if (critical)
                json_add_string_always(t, "critical", critical);
        json_add_string(t, "name", settings->name);
        json_add_bool(t, "restricted", settings->restricted);
        json_add_string(t, "spread", settings->spread);
        if (settings->sticky || settings->not_sticky) {
                json_begin(t, "sticky");
                text_append(t, settings->sticky ? "true" : "false");
        }
        json_add_u64(t, "voters", settings->voters);
        json_close(t, '}');
}

/* Write how hosts authenticate each other, in a cluster that had a key file. */
static void peer_auth_write(Text *t, const Request *request, const Cluster *c) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        PeerAuth auth = cluster_settings(c)->peer_auth;
        char name[CLUSTER_LABEL_SIZE];
        size_t n = 0;

        if (auth == PEER_AUTH_ANY && !peers_has_key(request->api->host->peers))
                return;
        machines = cluster_machines_sorted(c, &n);
        if (!machines)
                t->error = -ENOMEM;
        json_add_string(t, "peerAuth", peer_auth_to_string(auth));
        json_open(t, "withoutCertificate", '[');
        for (size_t i = 0; i < n; i++)
                if (securing_needs_certificate(machines[i]))
                        json_add_string_always(t, NULL, cluster_machine_label(machines[i], name));
        json_close(t, ']');
}

/* Write the role of the host that was asked, and of an attached host the replica that it uses. */
static void replica_write(Text *t, const Request *request, const KvState *state) {
        const char *replica = state->attached ? kv_replica_in_use(request->api->host->store) :
                                                request->api->settings->machine_id;
        bool attached = state->attached || request->origin;

        if (attached && replica[0])
                json_add_string(t, "replica", cluster_name_of(request_cluster(request), replica));
        json_add_string(t, "role", attached ? "attached" : kv_state_role(state));
}

static void components_write(Text *t, const Request *request) {
        const Component *const *c = request->api->host->components;

        for (; c && *c; c++)
                if ((*c)->write_cluster)
                        (*c)->write_cluster(t, request);
}

unsigned cluster_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const Authority *authority = request->api->host->authority;
        const Peers *peers = request->api->host->peers;
        uint64_t attempt_ms = peers ? peers_attempt_age_ms(peers) : 0;
        const ClusterMachine *behind = NULL;
        _cleanup_text_ Text t = {}, problem = {}, rejection = {};
        char id[HEX64_SIZE];
        KvState state;

        kv_state(request->api->host->store, &state);
        json_open(&t, NULL, '{');
        if (attempt_ms > 0)
                json_add_u64(&t, "attemptMs", attempt_ms);
        brake_write(&t, request, c);
        if (!request->origin)
                request_append_access(request, &t);
        json_add_string(&t, "clusterId", hex64_print(state.cluster_id, id));
        json_add_u64(&t, "floor", state.read_bound);
        json_add_u64(&t, "index", state.index);
        if (state.leader_id != 0)
                member_write(&t, request, &state, "leader", NULL, state.leader_id);
        json_add_u64(&t, "lastIndex", state.last_index);
        json_add_u64(&t, "lastTerm", state.last_term);
        leaving_write(&t, c);
        json_add_u64(&t, "level", state.level);
        if (cluster_level(c, state.level_max, &behind) <= state.level && behind)
                json_add_string(&t, "levelHeldBy", behind->id);
        json_add_u64(&t, "levelKnown", state.level_max);
        json_add_string(&t, "machine", request_machine(request));
        maintenance_write(&t, c);
        moves_write(&t, request);
        json_add_string(&t, "name", request_host(request));
        if (authority && authority_is_opening(authority))
                json_add_bool(&t, "opening", true);
        if (peers)
                json_add_string(&t, "otherLineage", peers_other_lineage(peers));
        peer_auth_write(&t, request, c);
        json_add_string(&t, "problem", securing_problem(c, peers, &problem) ?: state.problem);
        json_add_u64(&t, "raftIndex", state.raft_index);
        components_write(&t, request);
        problems_append_rejection(peers, &rejection);
        json_add_string(&t, "rejection", rejection.chars);
        if (state.removed)
                json_add_bool(&t, "removed", true);
        replica_write(&t, request, &state);
        settings_write(&t, c, &state);
        if (state.stale_ms > 0)
                json_add_u64(&t, "staleSec", state.stale_ms / 1000);
        json_add_u64(&t, "term", state.term);
        json_add_u64(&t, "time", c->now_ms);
        json_add_u64(&t, "units", cluster_n_units(c));
        json_open(&t, "voters", '[');
        for (size_t i = 0; i < state.n_members; i++)
                member_write(&t, request, &state, NULL, &state.members[i], state.members[i].raft_id);
        json_close(&t, ']');
        if (c->adopting)
                waits_for_write(&t, c);
        json_close(&t, '}');
        t.error = t.error ?: rejection.error;
        return request_answer_json(request, 200, &t);
}
