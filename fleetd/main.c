/* fleetd: settings, I/O of this process, one daemon. */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/backup_file.h"
#include "base/file.h"
#include "base/log.h"
#include "base/table.h"
#include "fleetd/features/health/probe.h"
#include "fleetd/features/inputs/input_files.h"
#include "fleetd/features/services/port_prober.h"
#include "fleetd/features/services/files.h"
#include "fleetd/features/usage/usage.h"
#include "fleetd/creds.h"
#include "fleetd/daemon.h"
#include "fleetd/guard_process.h"
#include "fleetd/host/host.h"
#include "fleetd/maintenance.h"
#include "fleetd/identity/identity.h"
#include "fleetd/service.h"
#include "fleetd/systemd/bus.h"
#include "fleetd/trim.h"
#include "io/loop_uv.h"
#include "peers/peers.h"

enum {
        LOADING_US = 600000000,
        STOPPING_US = 10000000, /* TimeoutStopSec= is longer */
        STOPPING_LOOK_MS = 250,
        STOPPING_BEGINS_MS = 3000, /* the stop of a unit that does not stop after fleetd */
        EXIT_USAGE = 2,            /* bad settings or options; EXIT_FAILURE for all other failures */
};

/* Threads of libuv, 4 by default. Work that may run at once: two large answers, a checkpoint's copy, the next
 * log file, a save of the assignment records, a write of the log, the files of a unit. */
#define THREADS "7"

typedef struct Process {
        UvLoop *uv;
        DaemonIo io; /* owned */
        TlsKey *key;
        TlsCredentials *credentials;
        Service *service;
        Daemon *daemon;
        Settings *settings; /* borrowed, as the next */
        char **argv;
        int argc;
        bool stopping, restarts;
        Timer shutdown; /* looks whether it may be announced */
        uint64_t stopping_ms;
        Trim trim;
} Process;

static void process_on_stopped(void *userdata) {
        Process *p = userdata;

        p->daemon = NULL;
        loop_uv_stop(p->uv);
}

/* systemd stops the other units of the host at the same time, and waits for them as long as for fleetd. Some
 * may stop after fleetd, or not at all: they move when the kernel is silent. So do all if systemd cannot be
 * asked any more, and ends fleetd without an announcement. */
static void process_on_shutdown(void *userdata) {
        Process *p = userdata;
        bool stopping;

        if (!daemon_awaits_stop(p->daemon, &stopping))
                daemon_stop(p->daemon, "shutdown", process_on_stopped, p);
        else if (!stopping && loop_now_ms(p->io.loop) - p->stopping_ms >= STOPPING_BEGINS_MS)
                daemon_stop(p->daemon, "stop", process_on_stopped, p);
        else {
                if (p->io.systemd->ops->is_ready(p->io.systemd))
                        service_notify("EXTEND_TIMEOUT_USEC=%d", STOPPING_US);
                (void) timer_start(&p->shutdown, p->io.loop, STOPPING_LOOK_MS);
        }
}

static void process_on_stopping_read(void *userdata, bool shutdown) {
        Process *p = userdata;

        if (!shutdown)
                daemon_stop(p->daemon, "stop", process_on_stopped, p);
        else {
                p->shutdown = TIMER(process_on_shutdown, p);
                p->stopping_ms = loop_now_ms(p->io.loop);
                process_on_shutdown(p);
        }
}

static void process_on_signal(void *userdata, int signal_number) {
        Process *p = userdata;

        if (p->stopping)
                return;
        p->stopping = true;
        service_notify("STOPPING=1");
        log_info(NO_FIELDS, "stopping; units are not touched, and after 10 min without fleetd they start on "
                            "other hosts, too (fleetctl drain)");
        if (p->io.systemd)
                systemd_bus_read_stopping(p->io.systemd, process_on_stopping_read, p);
        else
                process_on_stopping_read(p, false);
}

/* The daemon has joined a cluster, or opens its own: the process starts again, as after a crash. */
static void process_restart(void *userdata) {
        Process *p = userdata;

        if (p->stopping)
                return;
        p->stopping = p->restarts = true;
        log_notice(NO_FIELDS, "restarting with the new identity of this host; units are not touched");
        daemon_stop(p->daemon, "", process_on_stopped, p);
}

static void process_reserve_descriptors(Settings *s) {
        host_reserve_descriptors((s->listen_socket[0] != 0) + (s->listen_client[0] &&
                                                               settings_client_access(s) <= CLIENT_READ_ONLY),
                                 s->sessions ?: (uint64_t) PEERS_SESSIONS, &s->http.connections);
}

static int process_reload(Process *p, Names *ret_applied, Names *ret_restart, Error *err) {
        _cleanup_settings_ Settings now = {};
        int r;

        r = settings_read(&now, p->argc, p->argv, err);
        if (r != 0)
                return r;
        process_reserve_descriptors(&now);
        TRY(settings_take(p->settings, &now, ret_applied, ret_restart));
        log_set_max_priority(p->settings->debug ? LOG_DEBUG : LOG_INFO);
        host_check_port_range(p->settings->port_first, p->settings->port_last);
        return daemon_reload(p->daemon, p->settings);
}

/* SIGHUP: read the configuration again. If that fails, nothing changes. */
static void process_on_reload(void *userdata, int signal_number) {
        _cleanup_names_ Names applied = {}, restart = {};
        Process *p = userdata;
        Error err = {};
        int r;

        if (p->stopping)
                return;
        service_notify("RELOADING=1");
        log_notice(NO_FIELDS, "Reloading configuration from %s", settings_source(p->argc, p->argv));
        r = process_reload(p, &applied, &restart, &err);
        for (size_t i = 0; i < applied.n; i++)
                log_info(NO_FIELDS, "applied the new value of %s=", applied.items[i]);
        for (size_t i = 0; i < restart.n; i++)
                log_warning(NO_FIELDS, "%s= was changed; restart fleetd to apply it, which touches no unit",
                            restart.items[i]);
        if (r < 0)
                log_error(((LogFields) { .error = r }),
                          "Failed to reload the configuration, keeping the previous one: %s",
                          error_text(&err, r));
        service_notify("READY=1");
}

static int process_open_log_disk(const Settings *s, Disk **ret, Error *err) {
        _cleanup_free_ char *raft = NULL;
        int r;

        if (asprintf(&raft, "%s/raft", s->state_directory) < 0)
                return -ENOMEM;
        r = disk_real_open(raft, ret);
        if (r == -EBUSY)
                return error_set(err, r, "another fleetd is running on %s; to stop it: systemctl stop fleetd",
                                 s->state_directory);
        return r < 0 ? error_set(err, r, "Failed to open %s: %s", raft, strerror(-r)) : 0;
}

/* Complete a join: move the store of the former cluster away while no fleetd uses it, and read the settings
 * again, which the join has changed. */
static int process_enter(Process *p, Settings *s, Error *err) {
        _cleanup_free_ char *raft = NULL;
        Disk *disk = NULL;
        int r;

        if (asprintf(&raft, "%s/raft", s->state_directory) < 0)
                return -ENOMEM;
        TRY(access(raft, F_OK) == 0 ? process_open_log_disk(s, &disk, err) : 0);
        r = identity_begin(s->state_directory, s->cluster_file, err);
        disk_real_close(disk);
        if (r <= 0)
                return r;
        log_notice(
                NO_FIELDS,
                "the former state of this host is in %s/old: it has joined another cluster, or left its own",
                s->state_directory);
        settings_done(s);
        *s = (Settings) {};
        return settings_read(s, p->argc, p->argv, err);
}

/* Create the loop, and open the state directory for this process alone. */
static int process_begin(Process *p, Settings *s, Error *err) {
        _cleanup_close_ int state_fd = -1;
        Random seed;
        int r;

        TRY(random_seed_from_system(&seed));
        table_seed = random_u64(&seed);
        r = loop_uv_new(&p->uv);
        if (r < 0)
                return error_set(err, r, "Failed to create the loop: %s", strerror(-r));
        p->io.loop = loop_uv_base(p->uv);

        state_fd = open_dir(s->state_directory, 0700);
        if (state_fd < 0)
                return error_set(err, state_fd, "Failed to open the state directory %s: %s",
                                 s->state_directory, strerror(-state_fd));
        TRY(process_enter(p, s, err));
        TRY(process_open_log_disk(s, &p->io.log_disk, err));
        host_read_hardware_id(p->io.hardware_id);
        p->io.measure = capacity_measure;
        /* What an interrupted recovery or restore has left: it changed nothing, or was complete. */
        r = remove_tree_at(state_fd, "tree.new");
        if (r < 0)
                return error_set(err, r, "Failed to remove %s/tree.new: %s", s->state_directory,
                                 strerror(-r));
        return host_read_boot_id(p->io.boot_id, err);
}

/* Read what authenticates this host to others: its identity, and the key file. */
static int process_open_identity(Process *p, const Settings *s, Error *err) {
        int r = 0;

        if (s->peer_key[0] && identity_is_required(s->state_directory))
                log_warning(
                        NO_FIELDS,
                        "PeerKey=%s is ignored: the cluster requires certificates; remove the setting, and "
                        "the file",
                        s->peer_key);
        else
                r = s->peer_key[0] ? tls_key_read(s->peer_key, &p->key, err) : 0;
        if (r < 0)
                return r;
        r = identity_read_credentials(s->state_directory, &p->credentials, err);
        if (r >= 0)
                r = identity_check_machine(s->state_directory, s->machine_id, err);
        if (r < 0 && r != -ENOENT)
                return r;
        p->io.credentials = p->credentials;
        p->io.unidentified = s->listen_peer[0] && !p->key && !p->credentials;
        if (p->io.unidentified && settings_has_replica(s))
                log_notice(NO_FIELDS,
                           "this host has a replica, but no identity: it listens for other hosts when it has "
                           "received a certificate");
        else if (p->io.unidentified)
                log_warning(NO_FIELDS,
                            "this host, of machine ID %.8s, has addresses of a cluster, but no identity: on "
                            "another host of it, run fleetctl token --replace=%s (fleetctl token, if it had "
                            "another machine ID before), then fleetctl join on this one; if all hosts have "
                            "lost their state, run fleetctl restore on one of them (fleetctl help backup)",
                            s->machine_id, s->name);
        return 0;
}

/* The files of the contents of units, and what seals them. Drop-ins name fixed paths: a daemon with other
 * folders has none. */
static int process_open_inputs(Process *p, const Settings *s) {
        _cleanup_free_ char *credentials = NULL, *config = NULL, *copies = NULL;

        if (asprintf(&credentials, "%s/credentials", s->state_directory) < 0 ||
            asprintf(&config, "%s/config", s->runtime_directory) < 0 ||
            asprintf(&copies, "%s/agent/config", s->state_directory) < 0)
                return -ENOMEM;
        if (!streq(credentials, INPUTS_CREDENTIALS) || !streq(config, INPUTS_CONFIG))
                return 0;
        TRY(creds_new(&p->io.input_sealer, p->uv));
        return input_folder_new(&p->io.input_files, p->io.loop, credentials, config, copies);
}

/* Open what the daemon borrows: signals, network, key, systemd. */
static int process_open_io(Process *p, const Settings *s, Error *err) {
        static const struct {
                int signal_number;
                void (*handler)(void *userdata, int signal_number);
        } signals[] = {
                { SIGTERM, process_on_signal },
                { SIGINT, process_on_signal },
                { SIGHUP, process_on_reload },
        };
        _cleanup_free_ char *units = NULL, *services = NULL;
        int r;

        if (asprintf(&units, "%s/units", s->runtime_directory) < 0 ||
            asprintf(&services, "%s/services", s->runtime_directory) < 0)
                return -ENOMEM;
        TRY(service_folder_new(&p->io.service_files, services));
        r = TRY(host_distrust_tree_on_sigbus(s->state_directory, err));
        for (size_t i = 0; i < ELEMENTS(signals); i++)
                r = TRY(loop_uv_on_signal(p->uv, signals[i].signal_number, signals[i].handler, p));
        TRY(service_new(&p->service, p->io.loop));
        TRY(net_uv_new(&p->io.network, p->io.loop));
        TRY(creds_new(&p->io.sealer, p->uv));
        r = process_open_identity(p, s, err);
        if (r < 0 || !s->agent)
                return r;
        TRY(process_open_inputs(p, s));
        TRY(systemd_bus_new(&p->io.systemd, p->io.loop, &(SystemdBusOptions) { .directory = units }, err));
        p->io.ports = &port_prober;
        r = probe_io_new(&p->io.prober, p->io.loop, p->io.network, p->io.systemd);
        return r < 0 ? r : logind_new(&p->io.logind, p->io.loop, &(LogindOptions) {});
}

static int process_run(Process *p, Settings *s, Error *err) {
        int r;

        TRY(process_begin(p, s, err));
        if (maintenance_is_requested(s))
                return maintenance_run(s, &p->io, err);
        process_reserve_descriptors(s);
        host_check_port_range(s->port_first, s->port_last);
        TRY(process_open_io(p, s, err));
        p->io.key = p->key;
        p->io.restart = process_restart;
        p->io.userdata = p;
        service_notify("EXTEND_TIMEOUT_USEC=%d", LOADING_US); /* a large log or tree takes minutes to load */
        TRY(daemon_new(&p->daemon, &p->io, s, err));
        log_notice(((LogFields) { .machine = s->machine_id }), "fleetd %s runs on %s", PACKAGE_VERSION,
                   s->name);
        service_notify("READY=1");
        r = trim_start(&p->trim, p->io.loop);
        return r < 0 ? r : loop_uv_run(p->uv);
}

static void process_close(Process *p) {
        trim_stop(&p->trim);
        if (p->daemon) {
                daemon_stop(p->daemon, "", process_on_stopped, p);
                (void) loop_uv_run(p->uv);
        }
        p->io.logind = logind_free(p->io.logind);
        p->io.prober = probe_io_free(p->io.prober);
        p->io.service_files = service_folder_free(p->io.service_files);
        p->io.systemd = systemd_bus_free(p->io.systemd);
        p->io.sealer = creds_free(p->io.sealer);
        p->io.input_sealer = creds_free(p->io.input_sealer);
        p->io.input_files = input_folder_free(p->io.input_files);
        p->key = tls_key_free(p->key);
        p->credentials = tls_credentials_free(p->credentials);
        p->io.log_disk = disk_real_close(p->io.log_disk);
        p->io.network = net_uv_free(p->io.network);
        p->service = service_free(p->service);
        p->uv = p->uv ? loop_uv_free(p->uv) : NULL;
}

int main(int argc, char *argv[]) {
        _cleanup_settings_ Settings settings = {};
        Process p = { .settings = &settings, .argv = argv, .argc = argc };
        Error err = {};
        int r;

        open_standard_descriptors();
        /* No core file: memory has keys. LimitCORE= does not concern one that goes to a pipe, core(5). */
        (void) prctl(PR_SET_DUMPABLE, 0);
        trim_init();
        (void) setenv("UV_THREADPOOL_SIZE", THREADS, false);
        if (argc == 2 && starts_with(argv[1], "--guard="))
                return guard_run(argv[1] + strlen("--guard="));
        if (argc == 3 && streq(argv[1], "--usage") && starts_with(argv[2], "--interval="))
                return usage_run(argv[2] + strlen("--interval="));
        if ((argc == 2 || (argc == 3 && starts_with(argv[2], "--cluster-key="))) &&
            starts_with(argv[1], "--verify=")) {
                r = maintenance_verify(argv[1] + strlen("--verify="),
                                       argc == 3 ? argv[2] + strlen("--cluster-key=") : NULL, &err);
                if (r < 0)
                        fprintf(stderr, "fleetd: %s\n", error_text(&err, r));
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        }
        r = settings_read(&settings, argc, argv, &err);
        if (r > 0)
                return EXIT_SUCCESS;
        if (r < 0) {
                fprintf(stderr, "fleetd: %s\n", error_text(&err, r));
                /* systemd does not restart the service after EXIT_USAGE, so temporary errors of the host have
                 * another status. */
                return r == -ENOMEM || r == -EIO || r == -EMFILE || r == -ENFILE ? EXIT_FAILURE : EXIT_USAGE;
        }

        (void) signal(SIGPIPE, SIG_IGN);
        umask(0077);
        log_set_sink(service_log, NULL);
        log_set_max_priority(settings.debug ? LOG_DEBUG : LOG_INFO);

        r = settings.backup_key ? maintenance_write_keys(&settings, &err) : process_run(&p, &settings, &err);
        if (r < 0 && (settings.backup_key || maintenance_is_requested(&settings)))
                fprintf(stderr, "fleetd: %s\n", error_text(&err, r));
        else if (r < 0)
                log_error(((LogFields) { .error = r }), "fleetd: %s", error_text(&err, r));
        process_close(&p);
        if (r >= 0 && p.restarts) {
                (void) execv("/proc/self/exe", argv);
                log_error(((LogFields) { .error = -errno }), "fleetd: Failed to start again: %s",
                          strerror(errno));
                return EXIT_FAILURE;
        }
        if (r == -EINPROGRESS && maintenance_is_requested(&settings))
                return EXIT_IN_FORCE;
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
