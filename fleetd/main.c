/* fleetd: settings, the real edges, one daemon. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <systemd/sd-id128.h>

#include "base/file.h"
#include "base/sizes.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/table.h"
#include "fleetd/daemon.h"
#include "fleetd/maintenance.h"
#include "fleetd/service.h"
#include "fleetd/systemd/bus.h"
#include "fleetd/trim.h"
#include "io/loop_uv.h"

enum {
        LOADING_MS = 600000,
        DESCRIPTORS_OWN = 512,
        EXIT_USAGE = 2
}; /* sysexits are nobody's habit here: 0 done, 1 failed, 2 told wrongly */

/* Of libuv, whose default is 4: two large answers, a copy of the tree, the next file of the log, the notes,
 * and the write of the log at the same time. */
#define THREADS "6"

typedef struct Process {
        UvLoop *uv;
        Loop *loop;
        Network *network;
        Disk *disk;
        TlsKey *key;
        Systemd *systemd;
        Service *service;
        Daemon *daemon;
        Settings *settings; /* borrowed, as the next */
        char **argv;
        int argc;
        char boot_id[BOOT_ID_SIZE], hardware_id[HARDWARE_ID_SIZE];
        bool stopping;
        Trim trim;
} Process;

static void process_on_stopped(void *userdata) {
        Process *p = userdata;

        p->daemon = NULL;
        loop_uv_stop(p->uv);
}

static void process_on_asked(void *userdata, bool shutdown) {
        Process *p = userdata;

        daemon_stop(p->daemon, shutdown ? "shutdown" : "stop", process_on_stopped, p);
}

static void process_on_signal(void *userdata, int signal_number) {
        Process *p = userdata;

        if (p->stopping)
                return;
        p->stopping = true;
        service_stopping();
        log_info(NO_FIELDS, "stopping; units are not touched");
        if (p->systemd)
                systemd_bus_read_stopping(p->systemd, process_on_asked, p);
        else
                process_on_asked(p, false);
}

/* Clients must never take the descriptors that log, tree and the other hosts need. */
static void make_room_for_connections(Settings *s) {
        unsigned doors = (s->listen_socket[0] != 0) + (s->listen_client[0] && s->client_access != CLIENT_OFF);
        uint64_t wanted = s->http.connections;
        struct rlimit l;

        if (doors == 0 || getrlimit(RLIMIT_NOFILE, &l) < 0)
                return;
        if (l.rlim_max < DESCRIPTORS_OWN + doors * wanted)
                s->http.connections = MAX((l.rlim_max - MIN(l.rlim_max, (rlim_t) DESCRIPTORS_OWN)) / doors,
                                          (uint64_t) 16);
        if (s->http.connections < wanted)
                log_warning(NO_FIELDS,
                            "LimitConnections= is %llu instead of %llu: only %llu descriptors are allowed; "
                            "LimitNOFILE= of fleetd.service gives more",
                            (unsigned long long) s->http.connections, (unsigned long long) wanted,
                            (unsigned long long) l.rlim_max);
        l.rlim_cur = MIN(l.rlim_max,
                         MAX(l.rlim_cur, (rlim_t) (DESCRIPTORS_OWN + doors * s->http.connections)));
        (void) setrlimit(RLIMIT_NOFILE, &l);
}

/* SIGHUP: the configuration once more. What cannot be read changes nothing. */
static void process_on_reload(void *userdata, int signal_number) {
        _cleanup_settings_ Settings now = {};
        _cleanup_names_ Names taken = {}, restart = {};
        Process *p = userdata;
        Error err = {};
        int r;

        if (p->stopping)
                return;
        service_reloading();
        log_notice(NO_FIELDS, "Reloading configuration from %s", settings_source(p->argc, p->argv));
        r = settings_read(&now, p->argc, p->argv, &err);
        if (r == 0) {
                make_room_for_connections(&now);
                r = settings_take(p->settings, &now, &taken, &restart);
        }
        if (r == 0) {
                log_set_max_priority(p->settings->debug ? LOG_DEBUG : LOG_INFO);
                r = daemon_reload(p->daemon, p->settings);
        }
        for (size_t i = 0; i < taken.n; i++)
                log_info(NO_FIELDS, "%s= is in force as it is now", taken.items[i]);
        for (size_t i = 0; i < restart.n; i++)
                log_warning(NO_FIELDS,
                            "%s= was changed, and stays as it was until fleetd is restarted; that touches no "
                            "unit",
                            restart.items[i]);
        if (r < 0)
                log_error(((LogFields) { .error = r }), "the configuration stays as it was: %s",
                          error_text(&err, r));
        service_ready();
}

/* When process 1 started, in clock ticks since the kernel did: field 22 of its stat, behind a name of any
 * characters. */
static int read_init_start(uint64_t *ret) {
        _cleanup_free_ char *stat = NULL;
        _cleanup_close_ int dir_fd = open("/proc/1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const char *p;
        char digits[24];
        int r;

        if (dir_fd < 0)
                return -errno;
        r = read_file_at(dir_fd, "stat", 4096, &stat, NULL);
        if (r < 0)
                return r;
        p = strrchr(stat, ')');
        for (int field = 2; p && field < 22; field++)
                p = strchr(p + 1, ' ');
        if (!p)
                return -EBADMSG;
        snprintf(digits, sizeof(digits), "%.*s", (int) MIN(strcspn(p + 1, " "), sizeof(digits) - 1), p + 1);
        return parse_u64(digits, ret);
}

/* What tells this boot from all others: the kernel's id, and when process 1 started. The id alone would do on
 * a machine of its own; where the host is a container the kernel stays, and a sandboxed service may see the
 * machine's id instead. */
static int read_boot_id(char ret[static BOOT_ID_SIZE], Error *err) {
        uint64_t started = 0;
        sd_id128_t id;
        int r;

        r = sd_id128_get_boot(&id);
        if (r >= 0)
                r = read_init_start(&started);
        if (r < 0)
                return error_set(err, r, "cannot tell this boot from others: %s", strerror(-r));
        id.qwords[1] ^= started;
        sd_id128_to_string(id, ret);
        return 0;
}

/* The mainboard's, or a virtual machine's, by its firmware: what a copied disk does not bring along. "" where
 * there is none. */
static void read_hardware_id(char ret[static HARDWARE_ID_SIZE]) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        ret[0] = 0;
        if (read_file_at(AT_FDCWD, "/sys/class/dmi/id/product_uuid", 4096, &text, NULL) < 0)
                return;
        for (const char *p = text; *p && *p != '\n' && n < 32; p++)
                if (*p != '-')
                        ret[n++] = (char) tolower((unsigned char) *p);
        ret[n] = 0;
        if (parse_hex_id(ret, 32) < 0)
                ret[0] = 0;
}

/* The folder of the tree, for a handler that is given nothing; -1: none. */
static int tree_fd = -1;

/* A page of the tree cannot be read: its file was cut, or the disk fails. Only the mark of trust is taken
 * away, so that the next start makes the tree again; then what failed is done once more, and ends us as it
 * would have without this. */
static void on_bus_error(int signal_number) {
        (void) unlinkat(tree_fd, KV_TREE_TRUSTED, 0);
}

static int process_distrust_on_bus_error(const Settings *s, Error *err) {
        struct sigaction action = { .sa_handler = on_bus_error, .sa_flags = (int) SA_RESETHAND };
        _cleanup_free_ char *tree = NULL;

        if (asprintf(&tree, "%s/tree", s->state_directory) < 0)
                return -ENOMEM;
        tree_fd = open_dir(tree, 0700);
        if (tree_fd < 0)
                return error_set(err, tree_fd, "cannot use %s: %s", tree, strerror(-tree_fd));
        return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

/* The loop, and the state directory as ours alone. */
static int process_begin(Process *p, const Settings *s, Error *err) {
        _cleanup_free_ char *raft = NULL;
        _cleanup_close_ int state_fd = -1;
        Random seed;
        int r;

        if (asprintf(&raft, "%s/raft", s->state_directory) < 0)
                return -ENOMEM;

        r = random_seed_from_system(&seed);
        if (r < 0)
                return r;
        table_seed = random_u64(&seed);
        r = loop_uv_new(&p->uv);
        if (r < 0)
                return error_set(err, r, "cannot make the loop: %s", strerror(-r));
        p->loop = loop_uv_base(p->uv);

        state_fd = open_dir(s->state_directory, 0700);
        if (state_fd < 0)
                return error_set(err, state_fd, "cannot use the state directory %s: %s", s->state_directory,
                                 strerror(-state_fd));
        r = disk_real_open(raft, &p->disk);
        if (r == -EBUSY)
                return error_set(err, r, "another fleetd is running on %s", s->state_directory);
        if (r < 0)
                return error_set(err, r, "cannot use %s: %s", raft, strerror(-r));
        read_hardware_id(p->hardware_id);
        return read_boot_id(p->boot_id, err);
}

static int process_open(Process *p, const Settings *s, Error *err) {
        _cleanup_free_ char *units = NULL;
        DaemonIo edges = {};
        int r;

        if (asprintf(&units, "%s/units", s->runtime_directory) < 0)
                return -ENOMEM;
        r = process_distrust_on_bus_error(s, err);
        if (r < 0)
                return r;

        r = loop_uv_on_signal(p->uv, SIGTERM, process_on_signal, p);
        if (r == 0)
                r = loop_uv_on_signal(p->uv, SIGINT, process_on_signal, p);
        if (r == 0)
                r = loop_uv_on_signal(p->uv, SIGHUP, process_on_reload, p);
        if (r == 0)
                r = service_new(&p->service, p->loop);
        if (r == 0)
                r = net_uv_new(&p->network, p->loop);
        if (r < 0)
                return r;

        if (s->peer_key[0]) {
                r = tls_key_read(s->peer_key, &p->key, err);
                if (r < 0)
                        return r;
        }
        if (s->agent) {
                r = systemd_bus_new(&p->systemd, p->loop, &(SystemdBusOptions) { .directory = units }, err);
                if (r < 0)
                        return r;
        }

        edges = (DaemonIo) { .loop = p->loop,
                             .network = p->network,
                             .log_disk = p->disk,
                             .systemd = p->systemd,
                             .key = p->key };
        memcpy(edges.boot_id, p->boot_id, sizeof(edges.boot_id));
        memcpy(edges.hardware_id, p->hardware_id, sizeof(edges.hardware_id));
        service_extend(LOADING_MS); /* a large log or tree takes its time */
        return daemon_new(&p->daemon, &edges, s, err);
}

static void process_close(Process *p) {
        trim_stop(&p->trim);
        if (p->daemon) {
                daemon_stop(p->daemon, "", process_on_stopped, p);
                (void) loop_uv_run(p->uv);
        }
        p->systemd = systemd_bus_free(p->systemd);
        p->key = tls_key_free(p->key);
        p->disk = disk_real_close(p->disk);
        p->network = net_uv_free(p->network);
        p->service = service_free(p->service);
        p->uv = p->uv ? loop_uv_free(p->uv) : NULL;
}

/* Return the exit status for a failed settings_read(). The service is not restarted after EXIT_USAGE, so an
 * error of the machine that may pass is none. */
static int settings_exit_status(int r) {
        return r == -ENOMEM || r == -EIO || r == -EMFILE || r == -ENFILE ? EXIT_FAILURE : EXIT_USAGE;
}

int main(int argc, char *argv[]) {
        _cleanup_settings_ Settings settings = {};
        Process p = { .settings = &settings, .argv = argv, .argc = argc };
        Error err = {};
        int r;

        open_standard_descriptors();
        trim_init();
        (void) setenv("UV_THREADPOOL_SIZE", THREADS, false);
        r = settings_read(&settings, argc, argv, &err);
        if (r > 0)
                return EXIT_SUCCESS;
        if (r < 0) {
                fprintf(stderr, "fleetd: %s\n", error_text(&err, r));
                return settings_exit_status(r);
        }

        (void) signal(SIGPIPE, SIG_IGN);
        umask(0077);
        log_set_sink(service_log, NULL);
        log_set_max_priority(settings.debug ? LOG_DEBUG : LOG_INFO);

        r = process_begin(&p, &settings, &err);
        if (maintenance_is_requested(&settings)) {
                if (r >= 0)
                        r = maintenance_run(&settings, p.loop, p.disk, p.boot_id, p.hardware_id, &err);
                if (r < 0)
                        fprintf(stderr, "fleetd: %s\n", error_text(&err, r));
                process_close(&p);
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        }
        make_room_for_connections(&settings);
        if (r >= 0)
                r = process_open(&p, &settings, &err);
        if (r < 0)
                log_error(((LogFields) { .error = r }), "fleetd: %s", error_text(&err, r));
        else {
                log_notice(((LogFields) { .machine = settings.machine_id }), "fleetd %s runs on %s",
                           PACKAGE_VERSION, settings.name);
                service_ready();
                r = trim_start(&p.trim, p.loop);
                if (r >= 0)
                        r = loop_uv_run(p.uv);
        }
        process_close(&p);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
