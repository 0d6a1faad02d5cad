#include "tests/sim/cluster.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/lib/scratch.h"

enum { PORT = 2380, RESTART_MS = 200 };

SimMachine *cluster_leader(SimCluster *c) {
        SimMachine *found = NULL;
        uint64_t term = 0;

        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                KvState state;

                if (!m->daemon || m->dying || !daemon_store(m->daemon))
                        continue;
                kv_state(daemon_store(m->daemon), &state);
                if (state.role == KV_ROLE_LEADER && state.ready && state.term > term) {
                        found = m;
                        term = state.term;
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
        check_start(userdata, unit);
}

static void machine_on_stop(void *userdata, const char *unit, bool asked) {
        check_stop(userdata, unit, asked);
}

/* -- Daemons -- */

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
                .peer_key = strdup(""),
                .name = strdup(m->name),
                .machine_id = strdup(m->machine_id),
                .agent = true,
                .engine = true,
                .brake_ms = 10000,
                .boot_wait_ms = 10000,
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
        sim_systemd_detach(m->systemd);
        sim_host_reset(m->host, true);
        m->loop = world_loop_free(m->loop);
        m->dying = false;
        if (!m->power)
                sim_systemd_power_cut(m->systemd);
        if (m->power && m->start_wanted)
                machine_start_daemon(m);
}

static void machine_bury(SimMachine *m) {
        m->dying = true;
        world_at(m->cluster->world, 0, NULL, machine_on_bury, m);
}

int machine_try_daemon(SimMachine *m, Error *err) {
        SimCluster *c = m->cluster;
        DaemonIo io;
        int r;

        m->start_wanted = false;
        memory_disk_start_again(m->disk);
        m->loop = world_loop_new(c->world, m->name);
        io = (DaemonIo) { .loop = world_loop(m->loop),
                          .network = sim_host_network(m->host, m->loop),
                          .log_disk = &m->disk->base,
                          .systemd = sim_systemd_attach(m->systemd, m->loop),
                          .level_max = m->level_max,
                          .level_wait_ms = c->level_wait_ms,
                          .short_log = c->short_log };
        memcpy(io.boot_id, m->boot_id, sizeof(io.boot_id));
        c->starting = m;
        m->running_unreadable = m->unreadable;
        r = daemon_new(&m->daemon, &io, &m->settings, err);
        c->starting = NULL;
        world_trace(c->world, m->name, "daemon starts");
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
        if (m->loop || !m->power)
                return;
        r = machine_try_daemon(m, &err);
        if (r < 0)
                world_failed(m->cluster->world, "daemon-starts", "%s: %s", m->name, error_text(&err, r));
}

void machine_crash_daemon(SimMachine *m) {
        if (!m->daemon || m->dying)
                return;
        world_trace(m->cluster->world, m->name, "daemon crashes");
        world_loop_drop_work(m->loop, false);
        daemon_crash(m->daemon, machine_on_gone, m);
        machine_bury(m);
}

void machine_stop_daemon(SimMachine *m) {
        if (!m->daemon || m->dying)
                return;
        world_trace(m->cluster->world, m->name, "daemon stops");
        daemon_stop(m->daemon, "stop", machine_on_gone, m);
        machine_bury(m);
}

void machine_power_cut(SimMachine *m) {
        if (!m->power)
                return;
        world_trace(m->cluster->world, m->name, "power cut");
        m->power = false;
        m->start_wanted = false;
        sim_host_power(m->host, false);
        if (m->daemon && !m->dying) {
                memory_disk_cut_power(m->disk);
                world_loop_drop_work(m->loop, true);
                daemon_crash(m->daemon, machine_on_gone, m);
                machine_bury(m);
        } else if (!m->loop)
                sim_systemd_power_cut(m->systemd);
        for (unsigned i = 0; i < CLUSTER_RUNS_MAX; i++)
                m->runs[i] = (RunningUnit) {};
}

void machine_power_on(SimMachine *m) {
        if (m->power)
                return;
        m->power = true;
        m->boots++;
        world_trace(m->cluster->world, m->name, "power on");
        snprintf(m->boot_id, sizeof(m->boot_id), "%016x%016x", m->boots, m->index + 1);
        sim_host_power(m->host, true);
        machine_start_daemon(m);
}

/* -- The cluster -- */

SimCluster *cluster_new(World *w, unsigned hosts) {
        SimCluster *c = NEW0(SimCluster, 1);

        c->world = w;
        c->n = hosts;
        c->net = sim_net_new(w, 0, 1 + world_draw(w, 5));
        for (unsigned i = 0; i < hosts; i++) {
                SimMachine *m = &c->machines[i];
                SimSystemdHooks hooks = { .on_start = machine_on_start,
                                          .on_stop = machine_on_stop,
                                          .userdata = m,
                                          .refuses = true };

                *m = (SimMachine) { .cluster = c, .index = i, .power = true };
                snprintf(m->name, sizeof(m->name), "h%u", i + 1);
                snprintf(m->address, sizeof(m->address), "10.0.0.%u", i + 1);
                snprintf(m->machine_id, sizeof(m->machine_id), "%032x", i + 1);
                snprintf(m->boot_id, sizeof(m->boot_id), "%016x%016x", 0, i + 1);
                m->folder = scratch_new();
                m->host = sim_host_new(c->net, m->address);
                m->disk = world_disk_new(w);
                m->systemd = sim_systemd_new(w, m->name, &hooks);
                machine_settings(m);
        }
        for (unsigned i = 0; i < CLUSTER_WRITERS; i++)
                c->writers[i] = (SimWriter) { .cluster = c, .index = i };
        return c;
}

const SimMachine *cluster_running_machine(const SimCluster *c) {
        const WorldLoop *running = world_running_loop(c->world);

        for (unsigned i = 0; running && i < c->n; i++)
                if (c->machines[i].loop == running)
                        return &c->machines[i];
        return c->starting;
}

SimCluster *cluster_free(SimCluster *c) {
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                m->start_wanted = false;
                if (m->daemon && !m->dying)
                        machine_crash_daemon(m);
        }
        world_run(c->world, world_now_ms(c->world) + 10000);
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                assert(!m->loop);
                sim_systemd_free(m->systemd);
                memory_disk_free(m->disk);
                settings_done(&m->settings);
                m->folder = scratch_free(m->folder);
        }
        sim_net_free(c->net);
        free(c);
        return NULL;
}
