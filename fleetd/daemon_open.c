#include "fleetd/daemon_internal.h"

#include "base/log.h"
#include "fleetd/metrics_table.h"
#include "fleetd/sessions/liveness.h"
#include "fleetd/service.h"

enum { SHORT_LOG_SIZE = 4096 };

const ComponentHost *daemon_host(const Daemon *d) {
        return &d->host;
}

/* -- Callbacks of store and sessions -- */

/* systemctl status fleetd prints the same as fleetctl cluster, or why the replica has stopped while the host
 * uses another one. */
static void daemon_notify_status(Daemon *d, const KvState *state) {
        char status[sizeof(d->status)], stopped[sizeof(d->status)];

        kv_replica_problem(d->host.store, stopped, sizeof(stopped));
        if (state->problem[0] || stopped[0])
                snprintf(status, sizeof(status), "%.255s", state->problem[0] ? state->problem : stopped);
        else if (state->role == KV_ROLE_LEADER)
                snprintf(status, sizeof(status), "%s, term %llu, %zu of %zu voters reachable",
                         kv_state_role(state), (unsigned long long) state->term, state->n_voters_reachable,
                         state->n_voters);
        else
                snprintf(status, sizeof(status), "%s, term %llu", kv_state_role(state),
                         (unsigned long long) state->term);
        if (streq(status, d->status))
                return;
        memcpy(d->status, status, sizeof(status));
        service_notify("STATUS=%s", status);
}

static void daemon_on_state(void *userdata) {
        Daemon *d = userdata;
        const char *leader;
        KvState state;

        if (!d->host.store)
                return;
        kv_state(d->host.store, &state);
        leader = state.leader_id ? "known" : "unknown";
        if (state.leader_machine_id[0])
                leader = d->host.registry ? cluster_name_of(registry_cluster(d->host.registry),
                                                            state.leader_machine_id) :
                                            state.leader_machine_id;
        daemon_notify_status(d, &state);
        if (!state.stopped && (state.role != d->role || state.leader_id != d->leader_id))
                log_info(((LogFields) { .term = state.term, .index = state.index }),
                         "%s, term %llu, leader %s", kv_state_role(&state), (unsigned long long) state.term,
                         leader);
        d->host.leader_changes += state.leader_id != d->leader_id && state.leader_id != 0;
        d->role = state.role;
        d->leader_id = state.leader_id;
        for (size_t i = 0; daemon_components[i]; i++)
                if (d->selves[i] && daemon_components[i]->state_changed)
                        daemon_components[i]->state_changed(d->selves[i]);
}

static void daemon_on_reset(void *userdata) {
        Daemon *d = userdata;

        if (d->host.registry)
                registry_reset(d->host.registry);
}

static void daemon_on_failed(void *userdata, int error, const char *reason) {
        log_error(((LogFields) { .error = error }),
                  "the replica of this host has failed: %s; retrying, and touching no unit", reason);
}

static void daemon_on_peers_closed(void *userdata) {
        Daemon *d = userdata;
        void (*stopped)(void *userdata) = d->stopped;
        void *stopped_userdata = d->userdata;

        free(d);
        stopped(stopped_userdata);
}

void daemon_on_store_closed(void *userdata) {
        Daemon *d = userdata;

        d->host.store = NULL;
        if (d->entering) /* daemon_on_entering_closed() continues */
                return;
        if (d->host.peers)
                peers_close(d->host.peers, d->bye, daemon_on_peers_closed, d);
        else
                daemon_on_peers_closed(d);
}

static void daemon_on_store_gone(void *userdata) {
        Daemon *d = userdata;

        d->leaving = NULL;
        if (d->stopped)
                daemon_on_store_closed(d);
}

static int daemon_admit(void *userdata, const PeerHandshake *handshake, Error *err) {
        Daemon *d = userdata;

        return d->host.membership ? membership_admit(d->host.membership, handshake, err) : 0;
}

static void daemon_known(void *userdata, const char *machine_id, PeerKnown *ret) {
        const Daemon *d = userdata;

        ret->tls.chain_counts = !d->host.store || !d->host.registry;
        if (!ret->tls.chain_counts)
                revocation_known(d->host.store, d->host.registry, membership_revocation(d->host.membership),
                                 d->host.peers && peers_has_key(d->host.peers), machine_id, ret);
}

static void daemon_on_peer(void *userdata, const char *machine_id) {
        Daemon *d = userdata;

        if (d->host.membership)
                membership_peer_changed(d->host.membership, machine_id);
        if (streq(machine_id, peers_self(d->host.peers)->machine_id))
                daemon_on_state(d); /* its problem is another one */
}

/* -- Opening -- */

/* While the cluster view is being read, nothing is known about the host: its proposal comes again. */
static int daemon_check_proposal(void *userdata, const char *relay, const char *machine_id, KvBytes principal,
                                 const KvCommand *cmd, Error *err) {
        const Daemon *d = userdata;

        if (!d->host.registry || !registry_ready(d->host.registry))
                return -ENOMEM;
        return registry_check_proposal(d->host.registry, relay, machine_id, principal, cmd, err);
}

static int daemon_open_store(Daemon *d, const Settings *s, Error *err) {
        PeersOptions peers = { .key = d->host.io.key,
                               .credentials = d->host.io.credentials,
                               .known = daemon_known,
                               .admit = daemon_admit,
                               .limits = { s->admission, s->sessions },
                               .on_change = daemon_on_peer,
                               .userdata = d };
        _cleanup_free_ char *tree = NULL, *agent = NULL;
        KvStore *opened = NULL;
        KvOptions store = {
                .log_disk = d->host.io.log_disk,
                .join = s->join.n > 0,
                .waits = d->host.io.unidentified ? d->waits : NULL,
                .quota = s->quota,
                .quota_nodes = s->quota_keys,
                .level_max = d->host.io.level_max,
                .events = { .on_state = daemon_on_state,
                            .on_reset = daemon_on_reset,
                            .on_failed = daemon_on_failed,
                            .on_gone = daemon_on_store_gone,
                            .userdata = d },
                .check_proposal = daemon_check_proposal,
        };
        int r;

        snprintf(d->waits, sizeof(d->waits),
                 "wiped host of a cluster: run fleetctl token --replace=%s on another host, and "
                 "fleetctl join on this one; if all hosts are lost: fleetctl help backup",
                 s->name);
        snprintf(peers.self.machine_id, sizeof(peers.self.machine_id), "%s", s->machine_id);
        snprintf(peers.self.boot_id, sizeof(peers.self.boot_id), "%s", d->host.io.boot_id);
        snprintf(peers.self.address, sizeof(peers.self.address), "%s", s->listen_peer);
        snprintf(peers.self.name, sizeof(peers.self.name), "%s", s->name);
        peers.self.nonce = random_u64(loop_random(d->host.io.loop)) | 1;
        TRY(peers_new(&d->host.peers, d->host.io.loop, d->host.io.network, &peers));
        if (asprintf(&tree, "%s/tree", s->state_directory) < 0)
                return -ENOMEM;
        TRY(settings_agent_path(s, &agent));
        store.tree_path = tree;
        store.read_bound_path = agent;
        store.peers = d->host.peers;
        snprintf(store.machine_id, sizeof(store.machine_id), "%s", s->machine_id);
        snprintf(store.boot_id, sizeof(store.boot_id), "%s", d->host.io.boot_id);
        snprintf(store.hardware_id, sizeof(store.hardware_id), "%s", d->host.io.hardware_id);
        snprintf(store.address, sizeof(store.address), "%s", s->listen_peer);
        if (d->host.io.short_log) {
                store.checkpoint_bytes = SHORT_LOG_SIZE;
                store.checkpoint_kept = 1;
                store.log_file_size = SHORT_LOG_SIZE;
        }
        r = kv_open(&opened, d->host.io.loop, &store, err);
        *(r < 0 ? &d->leaving : &d->host.store) = opened;
        return r;
}

static int daemon_open(Daemon *d, const Settings *s, Error *err) {
        int r;

        TRY(daemon_open_store(d, s, err));
        r = TRY(registry_new(&d->host.registry, d->host.io.loop, d->host.store, s->machine_id));
        if (d->host.io.codeless)
                registry_be_codeless(d->host.registry);
        for (size_t i = 0; r >= 0 && daemon_components[i]; i++) {
                const Component *c = daemon_components[i];

                if (!c->name || !c->open != !c->close)
                        return error_set(err, -EINVAL, "component %s: open or close is missing",
                                         c->name ?: "without a name");
                r = c->open ? c->open(&d->host, s, &d->selves[i], err) : 0;
        }
        return r;
}

int daemon_new(Daemon **ret, const DaemonIo *io, const Settings *settings, Error *err) {
        Daemon *d = NEW0(Daemon, 1);
        int r;

        *ret = d;
        if (!d)
                return -ENOMEM;
        d->host = (ComponentHost) { .io = *io,
                                    .components = daemon_components,
                                    .selves = d->selves,
                                    .settings = settings,
                                    .on_identity = daemon_on_identity,
                                    .on_set = agent_take_set,
                                    .restart = daemon_restart_later,
                                    .on_checks = daemon_on_checks,
                                    .ask_set = daemon_ask_set,
                                    .is_foreign = daemon_is_foreign,
                                    .metrics = metrics_begin,
                                    .started_ms = loop_wall_ms(io->loop) };
        d->host.io.level_max = io->level_max ?: KV_LEVEL_MAX;
        r = daemon_open(d, settings, err);
        if (r == 0)
                daemon_on_state(d);
        return r;
}

int daemon_reload(Daemon *d, const Settings *settings) {
        int r = 0, e;

        for (size_t i = 0; daemon_components[i]; i++)
                if (d->selves[i] && daemon_components[i]->reload) {
                        e = daemon_components[i]->reload(&d->host, d->selves[i], settings);
                        r = e < 0 ? e : r;
                }
        return r;
}

/* -- Closing -- */

/* Close all users of the store, top-down. */
static void daemon_close_components(Daemon *d, bool crash) {
        for (size_t i = COMPONENTS_COUNT; i > 0; i--) {
                const Component *c = daemon_components[i - 1];

                if (d->selves[i - 1])
                        d->selves[i - 1] = crash && c->crash ? c->crash(d->selves[i - 1]) :
                                                               c->close(d->selves[i - 1]);
        }
        registry_free(d->host.registry);
        d->host = (ComponentHost) { .io = d->host.io, .peers = d->host.peers, .store = d->host.store };
}

void daemon_crash(Daemon *d, void (*stopped)(void *userdata), void *userdata) {
        d->stopped = stopped;
        d->userdata = userdata;
        daemon_close_components(d, true);
        d->host.store = kv_crash(d->host.store);
        daemon_on_store_closed(d);
}

/* The units of a stopped daemon run twice after that time: log it while there is time to prevent it. */
static void daemon_log_stop(const Daemon *d) {
        const Cluster *c = d->host.registry ? registry_cluster(d->host.registry) : NULL;

        if (d->host.agent && c && HASH_COUNT(c->machines) > 1)
                log_notice(NO_FIELDS,
                           "units continue to run here; after %d min without fleetd, other hosts start them, "
                           "too: start fleetd before, or power off this host",
                           LIVENESS_STOPPED_TICKS / (60000 / LIVENESS_TICK_MS));
}

bool daemon_awaits_stop(const Daemon *d, bool *ret_stopping) {
        const ClusterMachine *m = d->host.registry ? cluster_machine(registry_cluster(d->host.registry),
                                                                     registry_machine_id(d->host.registry)) :
                                                     NULL;
        bool awaits;

        *ret_stopping = false;
        awaits = d->host.agent && agent_awaits_stop(d->host.agent, ret_stopping);
        *ret_stopping = *ret_stopping && m && cluster_machine_is_stopping(m);
        return awaits;
}

void daemon_stop(Daemon *d, const char *bye, void (*stopped)(void *userdata), void *userdata) {
        snprintf(d->bye, sizeof(d->bye), "%s", bye);
        d->stopped = stopped;
        d->userdata = userdata;
        if (streq(bye, "stop"))
                daemon_log_stop(d);
        daemon_close_components(d, false);
        if (d->host.store)
                kv_close(d->host.store, daemon_on_store_closed, d);
        else if (!d->leaving)
                daemon_on_store_closed(d);
}
