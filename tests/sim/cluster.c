#include "tests/sim/cluster.h"

#include <fcntl.h>

#include "base/file.h"
#include "fleetd/maintenance.h"
#include "fleetd/identity/cluster_file.h"
#include "fleetd/identity/identity.h"
#include "tests/lib/scratch.h"
#include "tests/sim/services.h"

enum { PORT = 2380, RESTART_MS = 200, SEALING_MS = 50 };

bool machine_serves(const SimMachine *m) {
        return m->daemon && !m->dying && daemon_host(m->daemon)->store;
}

KvState machine_state(const SimMachine *m) {
        KvState state = {};

        if (machine_serves(m))
                kv_state(daemon_host(m->daemon)->store, &state);
        return state;
}

void machine_begin(void *machine) {
        machine_start_daemon(machine);
}

bool machine_is_attached(const SimMachine *m) {
        return machine_serves(m) && kv_is_attached(daemon_host(m->daemon)->store);
}

SimMachine *cluster_leader(SimCluster *c) {
        SimMachine *found = NULL;
        uint64_t term = 0;

        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                uint64_t leads = machine_serves(m) && !m->has_left ? kv_leads(daemon_host(m->daemon)->store) :
                                                                     0;

                if (leads > term) {
                        found = m;
                        term = leads;
                }
        }
        return found;
}

void machine_ended_units(SimMachine *m) {
        for (unsigned i = 0; i < CLUSTER_RUNS_MAX; i++)
                if (m->runs[i].stopped_ms == world_now_ms(m->cluster->world))
                        m->runs[i].stopped_ms = 0;
}

void machine_suspect(SimMachine *m, uint64_t from_ms, uint64_t until_ms) {
        /* One span for all faults of the host: the gaps between them do not matter. */
        if (m->suspect_until_ms == 0)
                m->suspect_from_ms = from_ms;
        m->suspect_until_ms = MAX(m->suspect_until_ms, until_ms);
}

void machine_absent(SimMachine *m, uint64_t for_ms) {
        uint64_t now_ms = world_now_ms(m->cluster->world);

        if (m->absent_until_ms < now_ms)
                m->absent_from_ms = now_ms;
        m->absent_until_ms = MAX(m->absent_until_ms, now_ms + for_ms);
}

static void machine_on_start(void *userdata, const char *unit) {
        SimMachine *m = userdata;

        check_start(m, unit);
        if (m->cluster->on_start)
                m->cluster->on_start(m, unit);
}

static void machine_on_stop(void *userdata, const char *unit, bool asked) {
        check_stop(userdata, unit, asked);
        if (asked)
                services_check_stop(userdata, unit);
}

/* -- Daemons -- */

/* What the settings of a daemon without options are: those of the cluster file, or none. */
static void machine_read_cluster_file(SimMachine *m) {
        _cleanup_unit_file_ UnitFile file = {};
        _cleanup_free_ char *text = NULL;
        Settings *s = &m->settings;
        size_t size;

        names_done(&s->join);
        s->join = (Names) {};
        free(s->listen_peer);
        s->listen_peer = strdup("");
        if (read_file_at(AT_FDCWD, s->cluster_file, 65536, &text, &size) < 0)
                return;
        assert(unit_file_parse(text, size, UNIT_FILE_SYSTEMD, &file, NULL) >= 0);
        free(s->listen_peer);
        s->listen_peer = strdup(unit_file_get(&file, "Fleetd", "ListenPeer") ?: "");
        for (const char *at = unit_file_get(&file, "Fleetd", "Join"); at && *at;) {
                size_t n = strcspn(at, " ");

                assert(names_add(&s->join, at, n) >= 0);
                at += n + (at[n] == ' ');
        }
}

static void machine_settings(SimMachine *m) {
        Settings *s = &m->settings;
        char text[64];

        *s = (Settings) {
                .state_directory = strdup(m->folder),
                .runtime_directory = strdup("/run/fleet"),
                .unit_directory = strdup(""),
                .cluster_file = strdup(""),
                .listen_client = strdup(""),
                .advertise_client = strdup(""),
                .listen_socket = strdup(""),
                .listen_tls = strdup(""),
                .peer_key = strdup(""),
                .name = strdup(m->name),
                .machine_id = strdup(m->machine_id),
                .agent = true,
                .engine = true,
                .brake_ms = 10000,
                .boot_wait_ms = 10000,
                .port_first = PORT_RANGE_FIRST,
                .port_last = PORT_RANGE_FIRST + SIM_PORTS - 1,
                .quota = 16 << 20,
                .limits = api_limits_default,
                .http = http_limits_default,
        };
        snprintf(text, sizeof(text), "%s:%d", m->address, PORT);
        s->listen_peer = strdup(text);
        snprintf(text, sizeof(text), "10.0.0.1:%d", PORT);
        if (m->index > 0)
                (void) names_add(&s->join, text, strlen(text));
        (void) pairs_set(&s->metadata, "host", m->name);
        if (!m->by_token && !m->cluster->key)
                return;
        free(s->listen_client);
        s->listen_client = strdup("off"); /* the API exists, and does not listen */
        s->client_access = CLIENT_OFF;
        if (!m->by_token)
                return;
        free(s->cluster_file);
        if (asprintf(&s->cluster_file, "%s.conf", m->folder) < 0)
                abort();
        machine_read_cluster_file(m);
}

/* -- Certificates -- */

static void machine_new_disk(SimMachine *m) {
        memory_disk_free(m->disk);
        m->disk = world_disk_new(m->cluster->world);
}

/* As fleetd's main(). The log is not in the folder: what a join or a leave replaces is freed here. Without
 * tokens, there is no cluster file: a host that has left its cluster loses Join= here. */
static int machine_begin_identity(SimMachine *m, Error *err) {
        bool replaced;
        int r;

        r = identity_begin(m->folder, m->settings.cluster_file, err);
        if (r < 0)
                return r;
        replaced = r > 0;
        if (replaced)
                machine_new_disk(m);
        if (m->by_token)
                machine_read_cluster_file(m);
        r = identity_read_credentials(m->folder, &m->credentials, err);
        if (replaced && r == -ENOENT && !m->by_token)
                names_done(&m->settings.join);
        return r == -ENOENT ? 0 : r;
}

static void machine_on_restart(void *userdata) {
        SimMachine *m = userdata;

        m->start_wanted = true;
        machine_stop_daemon(m);
}

static void machine_run(const char *first, const char *folder, const char *last) {
        _cleanup_text_ Text line = {};

        text_printf(&line, "%s '%s'%s", first, folder, last);
        if (line.error < 0 || system(line.chars) != 0)
                abort();
}

void machine_wipe(SimMachine *m, SimWipe wipe) {
        assert(!m->loop);
        machine_run("rm -rf", m->folder, wipe == WIPE_STORE ? "/tree" : "/*");
        if (wipe != WIPE_STORE)
                sim_input_files_clear(&m->input_files);
        if (wipe == WIPE_ALL)
                (void) unlink(m->settings.cluster_file);
        machine_new_disk(m);
}

void machine_clone(SimMachine *m, const SimMachine *of) {
        _cleanup_text_ Text file = {}, join = {}, copy = {};

        assert(!m->loop && !of->loop);
        machine_wipe(m, WIPE_ALL);
        text_printf(&copy, "/. %s", m->folder);
        machine_run("cp -a", of->folder, copy.chars ?: "");
        memory_disk_free(m->disk);
        m->disk = memory_disk_copy(of->disk);
        memcpy(m->machine_id, of->machine_id, sizeof(m->machine_id));
        free(m->settings.machine_id);
        m->settings.machine_id = strdup(m->machine_id);
        for (size_t i = 0; i < of->settings.join.n; i++)
                text_printf(&join, "%s%s", i > 0 ? " " : "", of->settings.join.items[i]);
        text_printf(&file, "[Fleetd]\nListenPeer=%s:%d\nJoin=%s\n", m->address, PORT, join.chars ?: "");
        if (cluster_file_write(m->settings.cluster_file, file.chars) < 0)
                abort();
}

static void machine_on_gone(void *userdata) {
        SimMachine *m = userdata;

        m->daemon = NULL;
}

/* An event of the world frees the loop: the loop cannot free itself. */
static void machine_on_bury(void *userdata) {
        SimMachine *m = userdata;

        if (m->daemon || world_loop_is_working(m->loop)) { /* a process ends with its last worker */
                world_at(m->cluster->world, 5, NULL, machine_on_bury, m);
                return;
        }
        m->prober = sim_prober_free(m->prober);
        sim_systemd_detach(m->systemd);
        if (m->logind)
                sim_logind_detach(m->logind);
        sim_host_reset(m->host, true);
        sim_input_files_end(&m->input_files);
        m->loop = world_loop_free(m->loop);
        m->credentials = tls_credentials_free(m->credentials);
        m->dying = false;
        if (!m->power) {
                sim_systemd_power_cut(m->systemd);
                sim_input_files_boot(&m->input_files);
        }
        if (m->power && m->start_wanted)
                machine_start_daemon(m);
}

static void machine_bury(SimMachine *m) {
        m->dying = true;
        world_at(m->cluster->world, 0, NULL, machine_on_bury, m);
}

static SimProbe machine_on_probe(void *userdata, const ProbeRequest *request) {
        SimMachine *m = userdata;

        return m->cluster->probe ? m->cluster->probe(m, request) :
                                   (SimProbe) { .passed = true, .takes_ms = 1 };
}

/* Units have their ports while they run, and other programs have some for a moment. */
static bool machine_port_is_free(const PortProber *p, uint16_t number, PortProtocol protocol) {
        const SimMachine *m = container_of(p, SimMachine, ports);

        return !sim_systemd_port_owner(m->systemd, number, NULL) && !world_chance(m->cluster->world, 10);
}

static int machine_local_ports(uint16_t *ret_first, uint16_t *ret_last) {
        return -ENOENT;
}

/* Of the daemon that is being opened. */
static Resources machine_physical;

static int machine_measure(Resources *ret_physical) {
        *ret_physical = machine_physical;
        return 0;
}

int machine_try_daemon(SimMachine *m, Error *err) {
        SimCluster *c = m->cluster;
        DaemonIo io;
        int r;

        m->start_wanted = false;
        m->hashed_at = 0;
        r = machine_begin_identity(m, err);
        if (r < 0)
                return r;
        memory_disk_start_again(m->disk);
        m->loop = world_loop_new(c->world, m->name);
        world_loop_set_wall_offset(m->loop, m->wall_offset_ms);
        m->sealer.loop = m->input_sealer.loop = m->input_files.loop = world_loop(m->loop);
        m->prober = sim_prober_new(c->world, m->loop, machine_on_probe, m);
        m->ports = (PortProber) { machine_port_is_free, machine_local_ports };
        io = (DaemonIo) { .loop = world_loop(m->loop),
                          .network = sim_host_network(m->host, m->loop),
                          .log_disk = &m->disk->base,
                          .systemd = sim_systemd_attach(m->systemd, m->loop),
                          .logind = m->logind ? sim_logind_attach(m->logind, m->loop) : NULL,
                          .prober = sim_prober(m->prober),
                          .ports = &m->ports,
                          .service_files = &m->services.base,
                          .measure = resources_are_set(m->physical) ? machine_measure : NULL,
                          .level_max = m->level_max,
                          .level_wait_ms = c->level_wait_ms,
                          .short_log = c->short_log,
                          .unwatched = true,
                          .codeless = m->codeless,
                          .key = identity_is_required(m->folder) ? NULL : c->key,
                          .credentials = m->credentials,
                          .sealer = &m->sealer.base,
                          .input_files = &m->input_files.base,
                          .input_sealer = &m->input_sealer.base,
                          .unidentified = m->by_token && m->settings.listen_peer[0] && !m->credentials,
                          .restart = machine_on_restart,
                          .userdata = m };
        memcpy(io.boot_id, m->boot_id, sizeof(io.boot_id));
        c->starting = m;
        m->started_ms = world_now_ms(c->world);
        machine_physical = m->physical;
        m->running_unreadable = m->unreadable;
        r = daemon_new(&m->daemon, &io, &m->settings, err);
        c->starting = NULL;
        world_trace(c->world, m->name, "daemon starts");
        if (m->logind) /* its daemon learns that systemd is ready as from a bus: later */
                sim_systemd_drop_bus(m->systemd, 0);
        if (r < 0 && m->daemon)
                daemon_stop(m->daemon, "", machine_on_gone, m);
        if (r < 0)
                machine_bury(m);
        return r;
}

void machine_start_daemon(SimMachine *m) {
        Error err = {};
        int r;

        m->start_wanted = true;
        if (m->loop || !m->power || m->cluster->ends)
                return;
        r = machine_try_daemon(m, &err);
        if (r < 0)
                world_failed(m->cluster->world, "daemon-starts", "%s: %s", m->name, error_text(&err, r));
}

void machine_crash_daemon(SimMachine *m) {
        if (!m->daemon || m->dying)
                return;
        world_trace(m->cluster->world, m->name, "daemon crashes");
        services_watch_end(m);
        world_loop_drop_work(m->loop, false);
        sim_host_dropped(m->host);
        sim_input_files_crash(&m->input_files);
        daemon_crash(m->daemon, machine_on_gone, m);
        machine_bury(m);
}

void machine_stop_daemon(SimMachine *m) {
        if (!m->daemon || m->dying)
                return;
        world_trace(m->cluster->world, m->name, "daemon stops");
        services_watch_end(m);
        daemon_stop(m->daemon, "stop", machine_on_gone, m);
        machine_bury(m);
}

int machine_maintain(SimMachine *m, SimMaintenance what, const char *file, Error *err) {
        WorldLoop *loop = world_loop_new(m->cluster->world, "maintenance");
        DaemonIo io = { .loop = world_loop(loop), .log_disk = &m->disk->base };
        Settings s = m->settings; /* borrows its members */
        int r;

        assert(!m->loop);
        s.recover = s.force = what == MAINTAIN_RECOVER;
        s.reset = what == MAINTAIN_RESET;
        s.backup = what == MAINTAIN_BACKUP ? (char *) file : NULL;
        s.restore = what == MAINTAIN_RESTORE ? (char *) file : NULL;
        memcpy(io.boot_id, m->boot_id, sizeof(io.boot_id));
        r = maintenance_run(&s, &io, err);
        if (r >= 0 && what == MAINTAIN_RESET) /* the log is not in the folder */
                machine_new_disk(m);
        world_loop_free(loop);
        return r;
}

void machine_recover(SimMachine *m) {
        Error err = {};
        int r;

        names_done(&m->settings.join);
        r = machine_maintain(m, MAINTAIN_RECOVER, NULL, &err);
        if (r < 0)
                world_failed(m->cluster->world, "a-replica-can-be-recovered", "%s", error_text(&err, r));
}

void machine_power_cut(SimMachine *m) {
        if (!m->power)
                return;
        world_trace(m->cluster->world, m->name, "power cut");
        m->power = false;
        m->start_wanted = false;
        sim_service_files_clear(&m->services);
        m->n_listed = 0;
        memset(m->listed, 0, sizeof(m->listed));
        sim_host_power(m->host, false);
        if (m->daemon && !m->dying) {
                memory_disk_cut_power(m->disk);
                world_loop_drop_work(m->loop, true);
                sim_host_dropped(m->host);
                sim_input_files_crash(&m->input_files);
                daemon_crash(m->daemon, machine_on_gone, m);
                machine_bury(m);
        } else if (!m->loop) {
                sim_systemd_power_cut(m->systemd);
                sim_input_files_boot(&m->input_files);
        }
        for (unsigned i = 0; i < CLUSTER_RUNS_MAX; i++)
                m->runs[i] = (RunningUnit) {};
}

void machine_power_on(SimMachine *m) {
        if (m->power)
                return;
        m->power = true;
        m->boots++;
        world_trace(m->cluster->world, m->name, "power on");
        if (m->logind)
                sim_logind_power_on(m->logind);
        snprintf(m->boot_id, sizeof(m->boot_id), "%016x%016x", m->boots, m->index + 1);
        sim_host_power(m->host, true);
        machine_start_daemon(m);
}

/* -- The cluster -- */

static SimCluster *cluster_make(World *w, unsigned hosts, bool by_token, const TlsKey *key) {
        SimCluster *c = NEW0(SimCluster, 1);

        c->world = w;
        c->n = hosts;
        c->key = key;
        c->net = sim_net_new(w, 0, 1 + world_draw(w, 5));
        for (unsigned i = 0; i < hosts; i++) {
                SimMachine *m = &c->machines[i];
                SimSystemdHooks hooks = { .on_start = machine_on_start,
                                          .on_stop = machine_on_stop,
                                          .userdata = m,
                                          .refuses = true };

                *m = (SimMachine) { .cluster = c, .index = i, .power = true, .by_token = by_token };
                m->codeless = world_seed(w) % 3 > 0 && (world_seed(w) + i) % 2 > 0;
                fake_sealer_init(&m->sealer, NULL, (uint8_t) (i + 1));
                fake_sealer_init(&m->input_sealer, NULL, (uint8_t) (i + 1));
                m->sealer.delay_ms = m->input_sealer.delay_ms = SEALING_MS;
                sim_input_files_init(&m->input_files, w);
                snprintf(m->name, sizeof(m->name), "h%u", i + 1);
                snprintf(m->address, sizeof(m->address), "10.0.%u.%u", (i + 1) / 256, (i + 1) % 256);
                snprintf(m->machine_id, sizeof(m->machine_id), "%032x", i + 1);
                snprintf(m->boot_id, sizeof(m->boot_id), "%016x%016x", 0, i + 1);
                m->folder = scratch_new();
                m->host = sim_host_new(c->net, m->address);
                m->disk = world_disk_new(w);
                m->systemd = sim_systemd_new(w, m->name, &hooks);
                machine_settings(m);
                sim_service_files_init(&m->services);
        }
        for (unsigned i = 0; i < CLUSTER_WRITERS; i++)
                c->writers[i] = (SimWriter) { .cluster = c, .index = i };
        return c;
}

SimCluster *cluster_new(World *w, unsigned hosts) {
        return cluster_make(w, hosts, false, NULL);
}

SimCluster *cluster_new_by_token(World *w, unsigned hosts) {
        return cluster_make(w, hosts, true, NULL);
}

SimCluster *cluster_new_by_key(World *w, unsigned hosts, const TlsKey *key) {
        return cluster_make(w, hosts, false, key);
}

const SimMachine *cluster_running_machine(const SimCluster *c) {
        const WorldLoop *running = world_running_loop(c->world);

        for (unsigned i = 0; running && i < c->n; i++)
                if (c->machines[i].loop == running)
                        return &c->machines[i];
        return c->starting;
}

SimCluster *cluster_free(SimCluster *c) {
        c->ends = true;
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                if (m->daemon && !m->dying)
                        machine_crash_daemon(m);
        }
        world_run(c->world, world_now_ms(c->world) + 10000);
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                assert(!m->loop);
                sim_systemd_free(m->systemd);
                m->logind = sim_logind_free(m->logind);
                memory_disk_free(m->disk);
                if (m->by_token)
                        (void) unlink(m->settings.cluster_file);
                settings_done(&m->settings);
                sim_service_files_clear(&m->services);
                sim_input_files_clear(&m->input_files);
                m->folder = scratch_free(m->folder);
        }
        sim_net_free(c->net);
        free(c);
        return NULL;
}
