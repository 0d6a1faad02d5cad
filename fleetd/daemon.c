#include "fleetd/daemon.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/parse.h"
#include "fleetd/agent/agent.h"
#include "fleetd/agent/facts.h"
#include "fleetd/api/server.h"
#include "fleetd/directory/directory.h"
#include "fleetd/engine/engine.h"
#include "fleetd/membership/membership.h"
#include "fleetd/api/metrics.h"
#include "fleetd/service.h"

enum { SHORT_LOG_FILE = 4096 };

struct Daemon {
        DaemonIo edges;
        Peers *peers;
        KvStore *store;
        KvStore *leaving; /* one that could not be opened, until it is gone */
        Registry *registry;
        Engine *engine;
        Membership *membership;
        Facts *facts;
        Agent *agent;
        Directory *directory;
        Api *api;
        char reason[16];
        void (*stopped)(void *userdata);
        void *userdata;
        KvRole role;
        uint64_t leader_id;
        char trouble[320]; /* of the replica, as we said it last */
};

Registry *daemon_registry(Daemon *d) {
        return d->registry;
}

KvStore *daemon_store(Daemon *d) {
        return d->store;
}

/* -- What the store and the sessions say goes to everybody concerned -- */

static void daemon_on_state(void *userdata) {
        Daemon *d = userdata;
        KvState state;

        if (!d->store)
                return;
        kv_state(d->store, &state);
        if (state.stopped && !streq(state.problem, d->trouble))
                service_status("%s", state.problem);
        if (state.stopped || d->trouble[0])
                snprintf(d->trouble, sizeof(d->trouble), "%s", state.stopped ? state.problem : "");
        if (!state.stopped && (state.role != d->role || state.leader_id != d->leader_id)) {
                log_info(((LogFields) { .term = state.term, .index = state.index }),
                         "%s, term %llu, leader %s", kv_role_name(state.role),
                         (unsigned long long) state.term,
                         state.leader_machine_id[0] ? state.leader_machine_id :
                         state.leader_id            ? "known" :
                                                      "unknown");
                service_status("%s, term %llu, %zu of %zu voters reachable", kv_role_name(state.role),
                               (unsigned long long) state.term, state.n_voters_reachable, state.n_voters);
        }
        d->role = state.role;
        d->leader_id = state.leader_id;
        if (d->engine)
                engine_state_changed(d->engine);
        if (d->membership)
                membership_state_changed(d->membership);
        if (d->facts)
                facts_state_changed(d->facts);
        if (d->agent)
                agent_state_changed(d->agent);
        if (d->api)
                api_state_changed(d->api);
}

static void daemon_on_reset(void *userdata) {
        Daemon *d = userdata;

        if (d->registry)
                registry_reset(d->registry);
}

static void daemon_on_failed(void *userdata, int error, const char *reason) {
        log_error(((LogFields) { .error = error }),
                  "this host's replica of the store has stopped: %s; units are not touched, and it tries to "
                  "come back",
                  reason);
}

static void daemon_on_store_closed(void *userdata);

static void daemon_on_store_gone(void *userdata) {
        Daemon *d = userdata;

        d->leaving = NULL;
        if (d->stopped)
                daemon_on_store_closed(d);
}

static int daemon_admit(void *userdata, const PeerHandshake *hello, Error *err) {
        Daemon *d = userdata;

        return d->membership ? membership_admit(d->membership, hello, err) : 0;
}

static void daemon_on_peer(void *userdata, const char *machine_id) {
        Daemon *d = userdata;

        if (d->membership)
                membership_peer_changed(d->membership, machine_id);
}

/* -- Opening -- */

static int daemon_open_store(Daemon *d, const Settings *s, Error *err) {
        PeersOptions peers = {
                .key = d->edges.key, .admit = daemon_admit, .on_change = daemon_on_peer, .userdata = d
        };
        _cleanup_free_ char *tree = NULL, *agent = NULL;
        KvStore *opened = NULL;
        KvOptions store = {
                .log_disk = d->edges.log_disk,
                .join = s->join.n > 0,
                .quota = s->quota,
                .quota_nodes = s->quota_keys,
                .level_max = d->edges.level_max,
                .events = { .on_state = daemon_on_state,
                            .on_reset = daemon_on_reset,
                            .on_failed = daemon_on_failed,
                            .on_gone = daemon_on_store_gone,
                            .userdata = d },
        };
        int r;

        snprintf(peers.self.machine_id, sizeof(peers.self.machine_id), "%s", s->machine_id);
        snprintf(peers.self.boot_id, sizeof(peers.self.boot_id), "%s", d->edges.boot_id);
        snprintf(peers.self.address, sizeof(peers.self.address), "%s", s->listen_peer);
        snprintf(peers.self.name, sizeof(peers.self.name), "%s", s->name);
        peers.self.nonce = random_u64(loop_random(d->edges.loop)) | 1;
        r = peers_new(&d->peers, d->edges.loop, d->edges.network, &peers);
        if (r < 0)
                return r;

        if (asprintf(&tree, "%s/tree", s->state_directory) < 0 ||
            asprintf(&agent, "%s/agent", s->state_directory) < 0)
                return -ENOMEM;
        store.tree_path = tree;
        store.read_bound_path = agent;
        store.peers = d->peers;
        snprintf(store.machine_id, sizeof(store.machine_id), "%s", s->machine_id);
        snprintf(store.boot_id, sizeof(store.boot_id), "%s", d->edges.boot_id);
        snprintf(store.hardware_id, sizeof(store.hardware_id), "%s", d->edges.hardware_id);
        snprintf(store.address, sizeof(store.address), "%s", s->listen_peer);
        if (d->edges.short_log) {
                store.checkpoint_bytes = SHORT_LOG_FILE;
                store.checkpoint_kept = 1;
                store.log_file_size = SHORT_LOG_FILE;
        }
        r = kv_open(&opened, d->edges.loop, &store, err);
        *(r < 0 ? &d->leaving : &d->store) = opened;
        return r;
}

static int daemon_open_membership(Daemon *d, const Settings *s) {
        MembershipOptions options = {
                .machine_id = s->machine_id,
                .peer_address = s->listen_peer,
                .name = s->name,
                .client = s->advertise_client,
                .join = &s->join,
                .cluster_file = s->cluster_file,
                .voters = s->voters,
                .level_wait_ms = d->edges.level_wait_ms,
        };

        return membership_new(&d->membership, d->edges.loop, d->peers, d->store, d->registry, &options);
}

/* Says what this machine is, for the first time or anew. */
static int daemon_tell_facts(Daemon *d, const Settings *s) {
        char host[64] = "";
        uint16_t port;
        Machine facts = { .name = s->name,
                          .address = host,
                          .metadata = s->metadata,
                          .version = (char *) PACKAGE_VERSION,
                          .quadlet = d->edges.systemd->ops->has_quadlet &&
                                     d->edges.systemd->ops->has_quadlet(d->edges.systemd),
                          .level = d->edges.level_max > 0 ? d->edges.level_max : KV_LEVEL_MAX,
                          .boot_id = d->edges.boot_id,
                          .peer = s->listen_peer[0] ? s->listen_peer : NULL,
                          .client = s->advertise_client[0] ? s->advertise_client : NULL };

        if (s->listen_peer[0])
                (void) parse_address(s->listen_peer, host, sizeof(host), &port);
        else
                (void) facts_primary_address(host, sizeof(host));
        snprintf(facts.id, sizeof(facts.id), "%s", s->machine_id);
        return d->facts ? facts_set(d->facts, &facts) :
                          facts_new(&d->facts, d->edges.loop, d->registry, &facts);
}

static int daemon_open_agent(Daemon *d, const Settings *s, Error *err) {
        _cleanup_free_ char *directory = NULL;
        AgentOptions agent = { .machine_id = s->machine_id,
                               .boot_id = d->edges.boot_id,
                               .boot_wait_ms = s->boot_wait_ms };
        DirectoryOptions folder = { .path = s->unit_directory, .machine_id = s->machine_id };
        int r = 0;

        if (asprintf(&directory, "%s/agent", s->state_directory) < 0)
                return -ENOMEM;
        agent.directory = folder.record_dir = directory;
        if (d->edges.systemd) {
                r = daemon_tell_facts(d, s);
                if (r == 0)
                        r = agent_new(&d->agent, d->edges.loop, d->registry, d->edges.systemd, &agent, err);
        }
        if (r == 0 && s->unit_directory[0])
                r = directory_new(&d->directory, d->edges.loop, d->registry, &folder, err);
        return r;
}

static void daemon_metrics(void *userdata, Text *t) {
        Daemon *d = userdata;

        metrics_write(t, d->edges.loop, d->store, d->registry, d->engine);
}

static uint64_t daemon_brake_ms(void *userdata) {
        const Daemon *d = userdata;

        return d->engine ? engine_brake(d->engine) : 0;
}

static bool daemon_is_foreign(void *userdata, const char *unit) {
        const Daemon *d = userdata;

        return d->agent && agent_sees_foreign(d->agent, unit);
}

static int daemon_open_doors(Daemon *d, const Settings *s, Error *err) {
        ApiOptions options = {
                .network = d->edges.network,
                .peers = d->peers,
                .store = d->store,
                .registry = d->registry,
                .machine_id = s->machine_id,
                .name = s->name,
                .access = s->client_access,
                .metrics = daemon_metrics,
                .brake_ms = daemon_brake_ms,
                .is_foreign = daemon_is_foreign,
                .userdata = d,
                .limits = &s->limits,
                .http = &s->http,
        };
        int r = 0;

        if (s->listen_peer[0])
                r = peers_listen(d->peers, s->listen_peer, err);
        if (r == 0 && (s->listen_socket[0] || s->listen_client[0]))
                r = api_new(&d->api, d->edges.loop, &options);
        if (r == 0 && s->listen_socket[0])
                r = api_listen(d->api, API_SOCKET, s->listen_socket, err);
        if (r == 0 && s->listen_client[0] && s->client_access != CLIENT_OFF)
                r = api_listen(d->api, API_LOOPBACK, s->listen_client, err);
        return r;
}

int daemon_new(Daemon **ret, const DaemonIo *edges, const Settings *settings, Error *err) {
        EngineOptions engine = { .brake_ms = settings->brake_ms };
        Daemon *d = NEW0(Daemon, 1);
        int r;

        *ret = d;
        if (!d)
                return -ENOMEM;
        d->edges = *edges;

        r = daemon_open_store(d, settings, err);
        if (r == 0)
                r = registry_new(&d->registry, edges->loop, d->store, settings->machine_id);
        if (r == 0)
                r = daemon_open_membership(d, settings);
        if (r == 0 && settings->engine)
                r = engine_new(&d->engine, edges->loop, d->registry, &engine);
        if (r == 0)
                r = daemon_open_agent(d, settings, err);
        if (r == 0)
                r = daemon_open_doors(d, settings, err);
        if (r == 0)
                daemon_on_state(d);
        return r;
}

int daemon_reload(Daemon *d, const Settings *settings) {
        if (d->engine)
                engine_set_brake(d->engine, settings->brake_ms);
        if (d->api)
                api_set_limits(d->api, &settings->limits, &settings->http);
        if (d->membership)
                membership_set_client(d->membership, settings->advertise_client);
        return d->facts ? daemon_tell_facts(d, settings) : 0;
}

/* -- Closing -- */

static void daemon_on_peers_closed(void *userdata) {
        Daemon *d = userdata;
        void (*stopped)(void *userdata) = d->stopped;
        void *stopped_userdata = d->userdata;

        free(d);
        stopped(stopped_userdata);
}

static void daemon_on_store_closed(void *userdata) {
        Daemon *d = userdata;

        d->store = NULL;
        if (d->peers)
                peers_close(d->peers, d->reason, daemon_on_peers_closed, d);
        else
                daemon_on_peers_closed(d);
}

/* From the top down, all that stands on the store. */
static void daemon_close_rooms(Daemon *d) {
        d->api = api_free(d->api);
        d->directory = directory_free(d->directory);
        d->agent = agent_free(d->agent);
        d->facts = facts_free(d->facts);
        d->engine = engine_free(d->engine);
        d->membership = membership_free(d->membership);
        d->registry = registry_free(d->registry);
}

void daemon_crash(Daemon *d, void (*stopped)(void *userdata), void *userdata) {
        d->stopped = stopped;
        d->userdata = userdata;
        d->agent = agent_crash(d->agent);
        daemon_close_rooms(d);
        d->store = kv_crash(d->store);
        daemon_on_store_closed(d);
}

void daemon_stop(Daemon *d, const char *reason, void (*stopped)(void *userdata), void *userdata) {
        snprintf(d->reason, sizeof(d->reason), "%s", reason);
        d->stopped = stopped;
        d->userdata = userdata;
        daemon_close_rooms(d);
        if (d->store)
                kv_close(d->store, daemon_on_store_closed, d);
        else if (!d->leaving)
                daemon_on_store_closed(d);
}
