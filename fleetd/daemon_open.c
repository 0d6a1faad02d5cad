#include "fleetd/daemon_internal.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/parse.h"
#include "fleetd/agent/records.h"
#include "fleetd/engine/plan.h"
#include "fleetd/host/host.h"
#include "fleetd/membership/identity.h"
#include "fleetd/membership/liveness.h"
#include "fleetd/membership/revocation.h"
#include "fleetd/metrics_table.h"
#include "fleetd/registry/proposal_rights.h"
#include "fleetd/service.h"

enum { SHORT_LOG_SIZE = 4096 };

Registry *daemon_registry(Daemon *d) {
        return d->registry;
}

KvStore *daemon_store(Daemon *d) {
        return d->store;
}

/* -- Callbacks of store and sessions -- */

/* systemctl status fleetd prints the same as fleetctl cluster, or why the replica has stopped while the host
 * uses another one. */
static void daemon_notify_status(Daemon *d, const KvState *state) {
        char status[sizeof(d->status)], stopped[sizeof(d->status)];

        kv_replica_problem(d->store, stopped, sizeof(stopped));
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

        if (!d->store)
                return;
        kv_state(d->store, &state);
        leader = state.leader_id ? "known" : "unknown";
        if (state.leader_machine_id[0])
                leader = d->registry ?
                                 cluster_name_of(registry_cluster(d->registry), state.leader_machine_id) :
                                 state.leader_machine_id;
        daemon_notify_status(d, &state);
        if (!state.stopped && (state.role != d->role || state.leader_id != d->leader_id))
                log_info(((LogFields) { .term = state.term, .index = state.index }),
                         "%s, term %llu, leader %s", kv_state_role(&state), (unsigned long long) state.term,
                         leader);
        d->leader_changes += state.leader_id != d->leader_id && state.leader_id != 0;
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
        if (d->inhibitor)
                inhibitor_state_changed(d->inhibitor);
        if (d->rebooting)
                rebooting_state_changed(d->rebooting);
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
                  "the replica of this host has failed: %s; retrying, and touching no unit", reason);
}

static void daemon_on_peers_closed(void *userdata) {
        Daemon *d = userdata;
        void (*stopped)(void *userdata) = d->stopped;
        void *stopped_userdata = d->userdata;

        free(d->state_directory);
        free(d->cluster_file);
        free(d);
        stopped(stopped_userdata);
}

void daemon_on_store_closed(void *userdata) {
        Daemon *d = userdata;

        d->store = NULL;
        if (d->entering) /* daemon_on_entering_closed() continues */
                return;
        if (d->peers)
                peers_close(d->peers, d->reason, daemon_on_peers_closed, d);
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

        return d->membership ? membership_admit(d->membership, handshake, err) : 0;
}

static void daemon_known(void *userdata, const char *machine_id, PeerKnown *ret) {
        const Daemon *d = userdata;

        ret->tls.chain_counts = !d->store || !d->registry;
        if (!ret->tls.chain_counts)
                revocation_known(d->store, d->registry, membership_revocation(d->membership),
                                 d->peers && peers_has_key(d->peers), machine_id, ret);
}

/* MembershipOptions.on_identity: the next sessions have the certificate. A first one opens the listener. */
static void daemon_on_identity(void *userdata) {
        _cleanup_(tls_credentials_freep) TlsCredentials *credentials = NULL;
        Daemon *d = userdata;
        Error err = {};
        int r = identity_read_credentials(d->state_directory, &credentials, &err);

        if (r < 0)
                log_error(((LogFields) { .error = r }), "Failed to use the new certificate of this host: %s",
                          error_text(&err, r));
        else
                peers_set_credentials(d->peers, credentials, d->io.key);
        if (r >= 0 && d->io.unidentified && !d->restarts)
                daemon_restart_later(d);
}

static void daemon_on_set(void *userdata, const char *unit, const SetHealth *others) {
        Daemon *d = userdata;

        if (d->agent)
                agent_take_set(d->agent, unit, others);
}

static void daemon_on_peer(void *userdata, const char *machine_id) {
        Daemon *d = userdata;

        if (d->membership)
                membership_peer_changed(d->membership, machine_id);
        if (streq(machine_id, peers_self(d->peers)->machine_id))
                daemon_on_state(d); /* its problem is another one */
}

/* -- Opening -- */

/* While the cluster view is being read, nothing is known about the host: its proposal comes again. */
static int daemon_check_proposal(void *userdata, const char *relay, const char *machine_id, KvBytes principal,
                                 const KvCommand *cmd, Error *err) {
        const Daemon *d = userdata;
        int r;

        if (!d->registry || !registry_ready(d->registry))
                return -ENOMEM;
        r = proposal_check(registry_cluster(d->registry), relay, machine_id, principal, cmd, err);
        return r < 0 ? r : (int) proposal_reports(machine_id, cmd);
}

static int daemon_open_store(Daemon *d, const Settings *s, Error *err) {
        PeersOptions peers = { .key = d->io.key,
                               .credentials = d->io.credentials,
                               .known = daemon_known,
                               .admit = daemon_admit,
                               .limits = { s->admission, s->sessions },
                               .on_change = daemon_on_peer,
                               .userdata = d };
        _cleanup_free_ char *tree = NULL, *agent = NULL;
        KvStore *opened = NULL;
        KvOptions store = {
                .log_disk = d->io.log_disk,
                .join = s->join.n > 0,
                .waits = d->io.unidentified ? d->waits : NULL,
                .quota = s->quota,
                .quota_nodes = s->quota_keys,
                .level_max = d->io.level_max,
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
        snprintf(peers.self.boot_id, sizeof(peers.self.boot_id), "%s", d->io.boot_id);
        snprintf(peers.self.address, sizeof(peers.self.address), "%s", s->listen_peer);
        snprintf(peers.self.name, sizeof(peers.self.name), "%s", s->name);
        peers.self.nonce = random_u64(loop_random(d->io.loop)) | 1;
        r = peers_new(&d->peers, d->io.loop, d->io.network, &peers);
        if (r < 0)
                return r;
        if (asprintf(&tree, "%s/tree", s->state_directory) < 0 ||
            asprintf(&agent, "%s/agent", s->state_directory) < 0)
                return -ENOMEM;
        store.tree_path = tree;
        store.read_bound_path = agent;
        store.peers = d->peers;
        snprintf(store.machine_id, sizeof(store.machine_id), "%s", s->machine_id);
        snprintf(store.boot_id, sizeof(store.boot_id), "%s", d->io.boot_id);
        snprintf(store.hardware_id, sizeof(store.hardware_id), "%s", d->io.hardware_id);
        snprintf(store.address, sizeof(store.address), "%s", s->listen_peer);
        if (d->io.short_log) {
                store.checkpoint_bytes = SHORT_LOG_SIZE;
                store.checkpoint_kept = 1;
                store.log_file_size = SHORT_LOG_SIZE;
        }
        r = kv_open(&opened, d->io.loop, &store, err);
        *(r < 0 ? &d->leaving : &d->store) = opened;
        return r;
}

static bool daemon_is_braked(void *userdata) {
        const Daemon *d = userdata;

        return d->engine && engine_is_braked(registry_cluster(d->registry), engine_brake(d->engine));
}

static int daemon_list_unit_files(void *userdata, Text *names) {
        return directory_list_units(((const Daemon *) userdata)->directory, names);
}

static int daemon_open_membership(Daemon *d, const Settings *s) {
        static const Names no_hosts = {};
        MembershipOptions options = {
                .machine_id = s->machine_id,
                .peer_address = d->io.unidentified ? "" : s->listen_peer,
                .name = s->name,
                .client = s->advertise_client,
                .agentless = !s->agent,
                .join = d->io.unidentified ? &no_hosts : &s->join,
                .cluster_file = s->cluster_file,
                .state_directory = s->state_directory,
                .on_identity = daemon_on_identity,
                .restart = d->io.restart ? &d->restart : NULL,
                .voters = s->voters,
                .singleton_lease_ms = s->singleton_lease_ms,
                .sealing = { d->io.sealer, s->seal_with },
                .is_braked = daemon_is_braked,
                .on_set = daemon_on_set,
                .list_unit_files = daemon_list_unit_files,
                .userdata = d,
                .level_wait_ms = d->io.level_wait_ms,
        };
        return membership_new(&d->membership, d->io.loop, d->peers, d->store, d->registry, &options);
}

static uint64_t daemon_soft_reboots(const Daemon *d) {
        Systemd *s = d->io.systemd;

        return s->ops->soft_reboots ? s->ops->soft_reboots(s) : 0;
}

static void daemon_on_systemd_ready(void *userdata) {
        Daemon *d = userdata;
        uint64_t n = daemon_soft_reboots(d);

        facts_set_soft_reboots(d->facts, n);
        facts_set_booting(d->facts,
                          d->io.systemd->ops->is_booting && d->io.systemd->ops->is_booting(d->io.systemd));
        if (d->rebooting)
                rebooting_set_soft_reboots(d->rebooting, n);
}

/* Publish the facts of this machine, at the start and after a reload. */
static int daemon_publish_facts(Daemon *d, const Settings *s) {
        char host[ADDRESS_SIZE] = "";
        uint16_t port;
        Machine facts = { .name = s->name,
                          .address = host,
                          .metadata = s->metadata,
                          .version = (char *) PACKAGE_VERSION,
                          .quadlet = d->io.systemd->ops->has_quadlet &&
                                     d->io.systemd->ops->has_quadlet(d->io.systemd),
                          .users = s->listen_tls[0],
                          .level = d->io.level_max > 0 ? d->io.level_max : KV_LEVEL_MAX,
                          .boot_id = d->io.boot_id,
                          .soft_reboot = d->io.logind && host_has_soft_reboot(),
                          .soft_reboots = daemon_soft_reboots(d),
                          .booting = d->io.systemd->ops->is_booting != NULL, /* until it is known */
                          .takes_finished = true,
                          .peer = s->listen_peer[0] ? s->listen_peer : NULL,
                          .client = s->advertise_client[0] ? s->advertise_client : NULL };

        if (!s->listen_peer[0] || parse_address(s->listen_peer, host, sizeof(host), &port) < 0)
                (void) facts_primary_address(host, sizeof(host));
        snprintf(facts.id, sizeof(facts.id), "%s", s->machine_id);
        return d->facts ? facts_set(d->facts, &facts) : facts_new(&d->facts, d->io.loop, d->registry, &facts);
}

static int daemon_on_checks(void *userdata, const char *problem) {
        Daemon *d = userdata;

        return d->facts ? facts_set_checks(d->facts, problem) : 0;
}

static int daemon_ask_set(void *userdata, const char *unit) {
        Daemon *d = userdata;

        return d->membership ? membership_ask_set(d->membership, unit) : -ENOTCONN;
}

/* Without an agent, nothing would stop the units of this host: they would run twice after a drain of it. */
static int daemon_check_units(const char *directory, Error *err) {
        AssignmentRecords records = {};
        int r = records_open(&records, directory, err);

        if (r >= 0 && records.table)
                r = error_set(err, -EBUSY,
                              "Agent=no: this host has units of the cluster, such as %s. First, with "
                              "Agent=yes: fleetctl drain this host, then stop fleetd, and set Agent=no",
                              records.table->name);
        records_close(&records);
        return MIN(r, 0);
}

static int daemon_open_agent(Daemon *d, const Settings *s, Error *err) {
        _cleanup_free_ char *directory = NULL;
        AgentOptions agent = { .machine_id = s->machine_id,
                               .boot_id = d->io.boot_id,
                               .prober = d->io.prober,
                               .on_checks = daemon_on_checks,
                               .ask_set = daemon_ask_set,
                               .on_ready = daemon_on_systemd_ready,
                               .userdata = d,
                               .boot_wait_ms = s->boot_wait_ms };
        DirectoryOptions folder = { .path = s->unit_directory,
                                    .machine_id = s->machine_id,
                                    .unwatched = d->io.unwatched };
        int r;

        if (asprintf(&directory, "%s/agent", s->state_directory) < 0)
                return -ENOMEM;
        agent.directory = folder.record_dir = directory;
        if (!s->agent && !d->io.systemd) {
                r = daemon_check_units(directory, err);
                if (r < 0)
                        return r;
        }
        if (d->io.systemd) {
                r = daemon_publish_facts(d, s);
                if (r < 0)
                        return r;
                r = agent_new(&d->agent, d->io.loop, d->registry, d->io.systemd, &agent, err);
                if (r >= 0 && d->io.logind)
                        r = inhibitor_new(&d->inhibitor, d->io.loop, d->registry, d->io.logind,
                                          s->machine_id);
                if (r >= 0 && d->io.logind)
                        facts_watch_reboot(d->facts, host_needs_reboot);
                if (r >= 0 && d->io.logind)
                        r = rebooting_new(&d->rebooting, d->io.loop, d->registry, d->io.logind, s->machine_id,
                                          d->io.boot_id);
                if (r < 0)
                        return r;
        }
        return s->unit_directory[0] ? directory_new(&d->directory, d->io.loop, d->registry, &folder, err) : 0;
}

static int daemon_metrics(void *userdata, MetricsForm form, MetricsScrape **ret) {
        const Daemon *d = userdata;
        MetricsSources sources = { .loop = d->io.loop,
                                   .store = d->store,
                                   .peers = d->peers,
                                   .registry = d->registry,
                                   .engine = d->engine,
                                   .agent = d->agent,
                                   .api = d->api,
                                   .units_max = d->metrics_units,
                                   .leader_changes = d->leader_changes,
                                   .started_ms = d->started_ms };

        return metrics_begin(&sources, form, ret);
}

static uint64_t daemon_brake_ms(void *userdata) {
        const Daemon *d = userdata;

        return d->engine ? engine_brake(d->engine) : 0;
}

static bool daemon_is_foreign(void *userdata, const char *unit) {
        const Daemon *d = userdata;

        return d->agent && agent_has_conflict(d->agent, unit);
}

static void daemon_each_unit(void *userdata, void (*each)(void *userdata, const SystemdUnit *unit),
                             void *each_userdata) {
        const Daemon *d = userdata;

        if (d->agent)
                agent_each_unit(d->agent, each, each_userdata);
}

static void daemon_log_access(const Settings *s) {
        if (settings_client_access(s) == CLIENT_CLOSED && s->listen_client[0])
                log_notice(NO_FIELDS,
                           "ListenClient=%s is closed, because LocalRights= grants rights to keys: with "
                           "ClientAccess=, it is open to all local users",
                           s->listen_client);
}

static int daemon_open_listeners(Daemon *d, const Settings *s, Error *err) {
        ClientAccess access = settings_client_access(s);
        ApiOptions options = { .network = d->io.network,
                               .peers = d->peers,
                               .store = d->store,
                               .registry = d->registry,
                               .machine_id = s->machine_id,
                               .name = s->name,
                               .access = access,
                               .local_rights = &s->local_rights,
                               .server_names = &s->server_names,
                               .metrics = daemon_metrics,
                               .brake_ms = daemon_brake_ms,
                               .is_foreign = daemon_is_foreign,
                               .systemd = d->io.systemd,
                               .each_unit = daemon_each_unit,
                               .list_unit_files = daemon_list_unit_files,
                               .membership = d->membership,
                               .authority = membership_authority(d->membership),
                               .join = daemon_join,
                               .join_cancel = daemon_join_cancel,
                               .userdata = d,
                               .limits = &s->limits,
                               .http = &s->http };
        const char *addresses[] = { [API_SOCKET] = s->listen_socket,
                                    [API_LOOPBACK] = access > CLIENT_READ_ONLY ? "" : s->listen_client,
                                    [API_TLS] = s->listen_tls };
        int r;

        daemon_log_access(s);
        r = s->listen_peer[0] && !d->io.unidentified ? daemon_listen(d, s->listen_peer, err) : 0;
        if (r >= 0 && (s->listen_socket[0] || s->listen_client[0] || s->listen_tls[0]))
                r = api_new(&d->api, d->io.loop, &options);
        for (ApiListener kind = 0; r >= 0 && kind < ELEMENTS(addresses); kind++)
                if (addresses[kind][0])
                        r = api_listen(d->api, kind, addresses[kind], err);
        return r;
}

static int daemon_open(Daemon *d, const Settings *s, Error *err) {
        int r;

        r = daemon_open_store(d, s, err);
        if (r < 0)
                return r;
        r = registry_new(&d->registry, d->io.loop, d->store, s->machine_id);
        if (r < 0)
                return r;
        r = daemon_open_membership(d, s);
        if (r < 0)
                return r;
        r = s->engine ? engine_new(&d->engine, d->io.loop, d->registry, s->brake_ms) : 0;
        if (r < 0)
                return r;
        r = daemon_open_agent(d, s, err);
        return r < 0 ? r : daemon_open_listeners(d, s, err);
}

int daemon_new(Daemon **ret, const DaemonIo *io, const Settings *settings, Error *err) {
        Daemon *d = NEW0(Daemon, 1);
        int r;

        *ret = d;
        if (!d)
                return -ENOMEM;
        d->io = *io;
        d->started_ms = loop_wall_ms(io->loop);
        d->level_max = io->level_max > 0 ? io->level_max : KV_LEVEL_MAX;
        daemon_join_init(d);
        daemon_listen_init(d);
        d->metrics_units = settings->metrics_units;
        d->state_directory = strdup(settings->state_directory);
        d->cluster_file = strdup(settings->cluster_file);
        if (!d->state_directory || !d->cluster_file)
                return -ENOMEM;
        r = daemon_open(d, settings, err);
        if (r == 0)
                daemon_on_state(d);
        return r;
}

int daemon_reload(Daemon *d, const Settings *settings) {
        d->metrics_units = settings->metrics_units;
        if (d->engine)
                engine_set_brake(d->engine, settings->brake_ms);
        if (d->api) {
                api_set_limits(d->api, &settings->limits, &settings->http);
                api_set_local_rights(d->api, &settings->local_rights, settings_client_access(settings));
                daemon_log_access(settings);
        }
        if (d->membership)
                membership_set_client(d->membership, settings->advertise_client);
        return d->facts ? daemon_publish_facts(d, settings) : 0;
}

/* -- Closing -- */

/* Close all users of the store, top-down. */
static void daemon_close_components(Daemon *d) {
        d->api = api_free(d->api);
        daemon_join_done(d);
        daemon_listen_done(d);
        d->directory = directory_free(d->directory);
        d->rebooting = rebooting_free(d->rebooting);
        d->inhibitor = inhibitor_free(d->inhibitor);
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
        daemon_close_components(d);
        d->store = kv_crash(d->store);
        daemon_on_store_closed(d);
}

/* The units of a stopped daemon run twice after that time: log it while there is time to prevent it. */
static void daemon_log_stop(const Daemon *d) {
        const Cluster *c = d->registry ? registry_cluster(d->registry) : NULL;

        if (d->agent && c && HASH_COUNT(c->machines) > 1)
                log_notice(NO_FIELDS,
                           "units continue to run here; after %d min without fleetd, other hosts start them, "
                           "too: start fleetd before, or power off this host",
                           LIVENESS_STOPPED_TICKS / (60000 / LIVENESS_TICK_MS));
}

bool daemon_awaits_stop(const Daemon *d, bool *ret_stopping) {
        const ClusterMachine *m = d->registry ? cluster_machine(registry_cluster(d->registry),
                                                                registry_machine_id(d->registry)) :
                                                NULL;
        bool awaits;

        *ret_stopping = false;
        awaits = d->agent && agent_awaits_stop(d->agent, ret_stopping);
        *ret_stopping = *ret_stopping && m && cluster_machine_is_stopping(m);
        return awaits;
}

void daemon_stop(Daemon *d, const char *reason, void (*stopped)(void *userdata), void *userdata) {
        snprintf(d->reason, sizeof(d->reason), "%s", reason);
        d->stopped = stopped;
        d->userdata = userdata;
        if (streq(reason, "stop"))
                daemon_log_stop(d);
        daemon_close_components(d);
        if (d->store)
                kv_close(d->store, daemon_on_store_closed, d);
        else if (!d->leaving)
                daemon_on_store_closed(d);
}
