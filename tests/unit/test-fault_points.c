/* The daemon's components are killed at each fault point of each durable step, on a real file system, and
 * start again: no acknowledged write is missing, and all files open. A fault point that no load reaches fails
 * the test.
 *
 * The program runs itself: "--load LOAD FOLDER" works in FOLDER and records acknowledged writes in
 * FOLDER/acknowledged, a line each; "--look LOAD FOLDER BOOT" opens the files of the load and checks that all
 * of them are there. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/agent.h"
#include "fleetd/agent/records.h"
#include "fleetd/directory/directory.h"
#include "fleetd/features/inputs/input_files.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/systemd/bus.h"
#include "kvstore/kvstore_internal.h"
#include "tests/lib/fake_bus.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tree_file.h"
#include "tests/lib/three_hosts.h"
#include "tests/lib/store_inside.h"

extern char **environ;

enum { PATIENCE_S = 120 };

#define MUST(expression)                                                                         \
        do {                                                                                     \
                if (!(expression)) {                                                             \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #expression); \
                        abort();                                                                 \
                }                                                                                \
        } while (false)

/* -- What was acknowledged -- */

static char *acknowledged_path(const char *folder) {
        return scratch_path(folder, "acknowledged");
}

static void acknowledge(const char *folder, const char *format, ...) _printf_(2, 3);
static void acknowledge(const char *folder, const char *format, ...) {
        _cleanup_free_ char *path = acknowledged_path(folder);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        char line[600];
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        MUST(fd >= 0 && write(fd, line, n) == n && write(fd, "\n", 1) == 1);
}

/* Calls back with each line in turn. */
static void each_acknowledged(const char *folder, void (*look)(void *userdata, char *line), void *userdata) {
        _cleanup_free_ char *path = acknowledged_path(folder), *text = NULL;
        char *rest, *line;

        if (read_file_at(AT_FDCWD, path, 1024 * 1024, &text, NULL) == -ENOENT)
                return;
        MUST(text);
        rest = text;
        while ((line = strsep(&rest, "\n")))
                if (*line)
                        look(userdata, line);
}

/* -- Stores: each key is written once -- */

static void put(ThreeHostsHost *h, const char *key) {
        char value[400];

        /* Long enough that files of the log are rolled. */
        memset(value, 'x', sizeof(value) - 1);
        value[sizeof(value) - 1] = 0;
        memcpy(value, key, strlen(key));
        if (three_hosts_put(h, key, value) == KV_OK)
                acknowledge(h->trio->path, "%s", key);
}

static void put_many(ThreeHostsHost *h, const char *prefix, unsigned n) {
        char key[64];

        for (unsigned i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "/%s/%u", prefix, i);
                put(h, key);
        }
}

static void must_open(ThreeHosts *t, unsigned number) {
        Error err = {};

        if (three_hosts_open(t, number, false, &err) == 0)
                return;
        fprintf(stderr, "host %u does not open: %s\n", number, err.message);
        abort();
}

static void look_at_key(void *host, char *key) {
        char value[512];

        if (!starts_with(three_hosts_get(host, key, value), key)) {
                fprintf(stderr, "%s was acknowledged, and is missing at host %u\n", key,
                        ((ThreeHostsHost *) host)->number);
                abort();
        }
}

/* One host: bootstraps, writes, makes checkpoints, compacts, closes; then the machine boots again, and it
 * rebuilds. */
static void load_alone(const char *folder) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "first", 120);
        three_hosts_cut_log(&t.hosts[0], put_many);
        three_hosts_close(&t, 0);
        t.boot++;
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "second", 20);
}

static void look_alone(const char *folder, unsigned boot) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        t.boot = boot;
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        each_acknowledged(folder, look_at_key, &t.hosts[0]);
        MUST(store_check(t.hosts[0].store, NULL) == 0);
        MUST(three_hosts_put(&t.hosts[0], "/after", "1") == KV_OK);
}

/* One host whose tree fails while it is in service: it is rebuilt, off the loop. */
static bool is_back(void *host) {
        KvState state;

        kv_state(((ThreeHostsHost *) host)->store, &state);
        return state.ready && !state.stopped;
}

static bool has_stopped(void *host) {
        KvState state;

        kv_state(((ThreeHostsHost *) host)->store, &state);
        return state.stopped;
}

static void load_rebuilt(const char *folder) {
        Replica *replica;
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "before", 60);
        replica = t.hosts[0].store->replica;
        data_dir_distrust(replica_data_dir(replica));
        replica_fail(replica, -EIO, "the tree has failed");
        MUST(three_hosts_until(&t, has_stopped, &t.hosts[0]));
        MUST(three_hosts_until(&t, is_back, &t.hosts[0]));
        put_many(&t.hosts[0], "rebuilt", 10);
}

/* One host whose file of the keys is mostly free when it starts. */
static void load_shrunk(const char *folder) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, false);
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "before", 20);
        three_hosts_close(&t, 0);
        tree_file_swell(t.hosts[0].tree_path, 24, false);
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "shrunk", 5);
}

/* Two hosts, of which the second falls behind and is given the tree. */
static bool was_reset(void *host) {
        return ((ThreeHostsHost *) host)->resets > 0;
}

static void load_pair(const char *folder) {
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, true);
        t.checkpoint_entries = 10;
        t.log_file_size = 4096;
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        put_many(&t.hosts[0], "early", 5);
        three_hosts_let_in(&t, 0, 1, false);
        put_many(&t.hosts[1], "follower", 5);
        three_hosts_close(&t, 1);
        three_hosts_cut_log(&t.hosts[0], put_many);
        must_open(&t, 1);
        MUST(three_hosts_until(&t, was_reset, &t.hosts[1]));
        MUST(three_hosts_sync(&t.hosts[1]) == KV_OK);
        put_many(&t.hosts[1], "late", 5);
}

static void look_pair(const char *folder, unsigned boot) {
        struct stat st;
        _cleanup_(three_hosts_free) ThreeHosts t;

        three_hosts_new(&t, folder, true);
        t.boot = boot;
        must_open(&t, 0);
        MUST(three_hosts_until(&t, three_hosts_is_led, &t.hosts[0]));
        each_acknowledged(folder, look_at_key, &t.hosts[0]);
        /* The second host's own folder opens with any contents; it follows if it was admitted before the
         * crash. */
        if (stat(t.hosts[1].raft_path, &st) == 0) {
                Error err = {};

                if (three_hosts_open(&t, 1, true, &err) < 0) {
                        fprintf(stderr, "the second host does not open: %s\n", err.message);
                        abort();
                }
        }
        MUST(three_hosts_put(&t.hosts[0], "/after", "1") == KV_OK);
}

/* -- The log alone: what only a follower's log does -- */

typedef struct LogLoad {
        const char *folder;
        ThreeHosts trio; /* for its loop */
        Disk *disk;
        RaftLog *log;
        uint64_t appended;
        bool closed;
} LogLoad;

static void on_appended(void *userdata, uint64_t generation, uint64_t last_index) {
        ((LogLoad *) userdata)->appended = generation;
}

static void on_log_failed(void *userdata, int error, const char *message) {
        MUST(!"the log failed");
}

static void log_open(LogLoad *l, const char *folder) {
        _cleanup_free_ char *path = scratch_path(folder, "log");
        RaftLogMeta meta = { .cluster = 1, .id = 1, .term = 1 };
        RaftLogEvents events = { .appended = on_appended, .failed = on_log_failed };
        Error err = {};
        int r;

        *l = (LogLoad) { .folder = folder };
        three_hosts_new(&l->trio, folder, false);
        MUST(disk_real_open(path, &l->disk) == 0);
        r = raft_log_open(l->disk, l->trio.loop, &(RaftLogOptions) { .file_size = 4096 }, &events, l, &l->log,
                          &err);
        if (r == -ENOENT) {
                MUST(raft_log_create(l->disk, &meta, 1, NULL, 0, &(RaftLogOptions) { .file_size = 4096 },
                                     &err) == 0);
                r = raft_log_open(l->disk, l->trio.loop, &(RaftLogOptions) { .file_size = 4096 }, &events, l,
                                  &l->log, &err);
        }
        if (r < 0) {
                fprintf(stderr, "the log does not open: %s\n", err.message);
                abort();
        }
}

static bool is_durable(void *userdata) {
        return raft_log_oldest_write_ms(((LogLoad *) userdata)->log) == 0;
}

static void log_flush(LogLoad *l) {
        MUST(three_hosts_until(&l->trio, is_durable, l));
}

static void log_closed(void *userdata) {
        ((LogLoad *) userdata)->closed = true;
}

static bool is_closed(void *userdata) {
        return ((LogLoad *) userdata)->closed;
}

static void log_done(LogLoad *l) {
        raft_log_close(l->log, log_closed, l);
        MUST(three_hosts_until(&l->trio, is_closed, l));
        disk_real_close(l->disk);
        three_hosts_free(&l->trio);
}

static void log_append(LogLoad *l, uint64_t index, unsigned n, uint64_t term) {
        char data[200] = {};

        /* What is cut off now may go at any time. */
        acknowledge(l->folder, "until %" PRIu64, MIN(index - 1, raft_log_last_index(l->log)));
        for (unsigned i = 0; i < n; i++)
                MUST(raft_log_append(l->log, 1, index + i,
                                     &(RaftEntry) { .term = term,
                                                    .type = RAFT_ENTRY_COMMAND,
                                                    .data = data,
                                                    .size = sizeof(data) },
                                     1) == 0);
        log_flush(l);
        acknowledge(l->folder, "until %" PRIu64, index + n - 1);
}

static void log_vote(LogLoad *l, uint64_t term) {
        MUST(raft_log_write_meta(l->log, term, 1) == 0);
        acknowledge(l->folder, "term %" PRIu64, term);
}

static void load_log(const char *folder) {
        LogLoad l;

        log_open(&l, folder);
        log_append(&l, 1, 40, 1);
        log_vote(&l, 2);
        log_append(&l, 30, 20, 2); /* another leader's */
        acknowledge(folder, "begins %d", 21);
        MUST(raft_log_cut(l.log, 20) == 0);
        log_flush(&l);
        log_vote(&l, 3);
        acknowledge(folder, "until 0");
        MUST(raft_log_reset(l.log, 100) == 0);
        log_flush(&l);
        log_append(&l, 101, 30, 3);
        log_done(&l);
}

typedef struct Promised {
        uint64_t until, term, begins;
} Promised;

static void look_at_promise(void *userdata, char *line) {
        Promised *p = userdata;

        MUST(sscanf(line, "until %" SCNu64, &p->until) == 1 || sscanf(line, "term %" SCNu64, &p->term) == 1 ||
             sscanf(line, "begins %" SCNu64, &p->begins) == 1);
}

static void look_log(const char *folder, unsigned boot) {
        Promised promised = { .begins = 1 };
        RaftEntry *entries;
        uint64_t first;
        LogLoad l;
        size_t n;

        log_open(&l, folder);
        each_acknowledged(folder, look_at_promise, &promised);
        MUST(raft_log_last_index(l.log) >= promised.until);
        MUST(raft_log_meta(l.log)->term >= promised.term);
        MUST(raft_log_take_entries(l.log, &entries, &n, &first) == 0);
        MUST(first <= promised.begins || first == 101);
        raft_log_entries_free(entries, n);
        acknowledge(folder, "until 0");
        log_append(&l, raft_log_last_index(l.log) + 1, 3, 4);
        log_done(&l);
}

/* -- A host: folder of units, agent, notes, files of the cluster -- */

static const char agent_boot[] = "b0000000000000000000000000000001";

#define ONE "[Service]\nExecStart=/bin/one\n"
#define TWO "[Service]\nExecStart=/bin/two\n"

typedef struct Fixture {
        Host *host;
        char *folder, *units, *bus_path, *notes, *cluster_file;
        FakeBus *fake;
        Systemd *systemd;
        Agent *agent;
        Directory *directory;
        Membership *membership;
} Fixture;

static void fixture_open(Fixture *fixture, const char *path) {
        ComponentHost *host;
        PeerHandshake self;
        Error err = {};
        int r;

        *fixture = (Fixture) { .host = host_new_at(path, false) };
        fixture->folder = scratch_path(path, "folder");
        fixture->units = scratch_path(path, "units");
        fixture->bus_path = scratch_path(path, "private");
        fixture->notes = scratch_path(path, "agent");
        fixture->cluster_file = scratch_path(path, "50-cluster.conf");
        (void) unlink(fixture->bus_path);
        MUST(mkdir(fixture->folder, 0755) == 0 || errno == EEXIST);
        fixture->fake = fake_bus_new(fixture->host->uv, fixture->bus_path);
        fixture->fake->executes = true;
        host_machine(fixture->host);
        r = systemd_bus_new(
                &fixture->systemd, fixture->host->loop,
                &(SystemdBusOptions) { .directory = fixture->units, .address = fixture->fake->address },
                &err);
        host = &fixture->host->components;
        host->io.systemd = fixture->systemd;
        snprintf(host->io.boot_id, sizeof(host->io.boot_id), "%s", agent_boot);
        fixture->host->settings.cluster_file = fixture->cluster_file;
        fixture->host->settings.unit_directory = fixture->folder;
        fixture->host->settings.boot_wait_ms = 60000;
        r = r ?: agent_new(&fixture->agent, host, &err);
        r = r ?: directory_new(&fixture->directory, host, &err);
        if (r < 0) {
                fprintf(stderr, "a room does not open: %s\n", error_text(&err, r));
                abort();
        }
        /* A host with a listener stores the addresses of others. */
        self = *peers_self(fixture->host->peers);
        snprintf(self.address, sizeof(self.address), "127.0.0.1:1");
        peers_set_self(fixture->host->peers, &self);
        MUST(membership_new(&fixture->membership, host) == 0);
}

static void fixture_done(Fixture *fixture) {
        membership_free(fixture->membership);
        directory_free(fixture->directory);
        agent_free(fixture->agent);
        systemd_bus_free(fixture->systemd);
        fake_bus_free(fixture->fake);
        host_free(fixture->host);
        free(fixture->folder);
        free(fixture->units);
        free(fixture->bus_path);
        free(fixture->notes);
        free(fixture->cluster_file);
}

#define UNTIL(fixture, expression) HOST_UNTIL((fixture)->host, expression)

static bool holds(const char *folder, const char *name, const char *part) {
        _cleanup_free_ char *path = scratch_path(folder, name), *text = NULL;

        return read_file_at(AT_FDCWD, path, 4096, &text, NULL) == 0 && strstr(text, part);
}

static bool runs(Fixture *fixture, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return s && streq(s->state.active, "active");
}

static void write_unit(Fixture *fixture, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(fixture->folder, name);

        scratch_write(path, text);
}

static const Unit *unit(Fixture *fixture, const char *name) {
        const ClusterUnit *u = cluster_unit(registry_cluster(fixture->host->registry), name);

        return u ? u->unit : NULL;
}

static void load_host(const char *folder) {
        uint64_t raft_id;
        Fixture fixture;

        fixture_open(&fixture, folder);
        host_unit(fixture.host, "web.service", ONE, TARGET_LAUNCHED);
        acknowledge(folder, "unit web.service");
        host_order(fixture.host, "web.service", ASSIGNMENT_RUN);
        UNTIL(&fixture, runs(&fixture, "web.service"));
        acknowledge(folder, "noted web.service");

        write_unit(&fixture, "dropped.service", ONE);
        UNTIL(&fixture, unit(&fixture, "dropped.service"));
        acknowledge(folder, "unit dropped.service");
        write_unit(&fixture, "bad.service", "[Service\n");
        UNTIL(&fixture, holds(fixture.folder, "bad.service.error", "\n"));
        acknowledge(folder, "error bad.service.error");

        MUST(host_wait(fixture.host,
                       registry_admit(fixture.host->registry, "cccccccccccccccccccccccccccccccc",
                                      "127.0.0.1:9", &raft_id, host_on_done, fixture.host)) == KV_OK);
        UNTIL(&fixture, holds(folder, "50-cluster.conf", "Join=127.0.0.1:9\n"));

        host_unit(fixture.host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture.host, "web.service", ASSIGNMENT_RUN);
        UNTIL(&fixture, holds(fixture.units, "web.service", "two"));
        host_order(fixture.host, "web.service", ASSIGNMENT_STOP);
        UNTIL(&fixture,
              !cluster_assignment(registry_cluster(fixture.host->registry), fixture.host->id, "web.service"));
        fixture_done(&fixture);
}

static void look_at_host(void *userdata, char *line) {
        Fixture *fixture = userdata;

        if (starts_with(line, "unit "))
                MUST(unit(fixture, line + 5));
        if (starts_with(line, "error "))
                MUST(holds(fixture->folder, line + 6, "\n"));
}

static bool is_whole(const char *folder, const char *name) {
        _cleanup_free_ char *path = scratch_path(folder, name), *text = NULL;
        size_t size;
        int r = read_file_at(AT_FDCWD, path, 4096, &text, &size);

        return r == -ENOENT || (r == 0 && size > 0 && text[size - 1] == '\n');
}

static void look_host(const char *folder, unsigned boot) {
        Fixture fixture;

        fixture_open(&fixture, folder);
        each_acknowledged(folder, look_at_host, &fixture);
        MUST(is_whole(fixture.units, "web.service") && is_whole(folder, "50-cluster.conf") &&
             is_whole(fixture.folder, "bad.service.error"));
        MUST(is_whole(fixture.notes, "assignment") && is_whole(fixture.folder, "dropped.service"));
        MUST(!holds(fixture.notes, "assignment.bad", ""));
        write_unit(&fixture, "after.service", ONE);
        UNTIL(&fixture, unit(&fixture, "after.service"));
        fixture_done(&fixture);
}

/* -- The files of a content -- */

static void inputs_on_done(void *userdata, int error, const char *message) {
        MUST(error == 0);
        loop_uv_stop(userdata);
}

static InputFiles *inputs_open(const char *folder, UvLoop *loop) {
        _cleanup_free_ char *credentials = scratch_path(folder, "credentials"),
                            *config = scratch_path(folder, "config"),
                            *copies = scratch_path(folder, "copies");
        InputFiles *files = NULL;

        MUST(input_folder_new(&files, loop_uv_base(loop), credentials, config, copies) == 0);
        return files;
}

/* A content of the text 'value' everywhere. */
static void inputs_put(InputFiles *files, UvLoop *loop, uint64_t number, const char *value) {
        InputFile credential = { "credential", value, strlen(value) },
                  file = { "file", value, strlen(value) };

        MUST(files->ops->put(files,
                             &(InputFileSet) { .folder = "inputs",
                                               .digest = value,
                                               .number = number,
                                               .credentials = &credential,
                                               .n_credentials = 1,
                                               .files = &file,
                                               .n_files = 1,
                                               .environment = value },
                             inputs_on_done, loop) == 0);
        (void) loop_uv_run(loop);
}

static void load_inputs(const char *folder) {
        InputFiles *files;
        UvLoop *loop;

        MUST(loop_uv_new(&loop) == 0);
        files = inputs_open(folder, loop);
        inputs_put(files, loop, 1, "one\n");
        acknowledge(folder, "1");
        inputs_put(files, loop, 2, "two\n");
        acknowledge(folder, "2");
        MUST(input_folder_free(files) == NULL);
        (void) loop_uv_free(loop);
}

static void look_at_number(void *userdata, char *line) {
        *(uint64_t *) userdata = strtoull(line, NULL, 10);
}

/* What a put has acknowledged is there, or all of the next one; after a boot, in memory again. */
static void look_inputs(const char *folder, unsigned boot) {
        static const char *const values[] = { "", "one\n", "two\n", "three\n" };
        _cleanup_free_ char *config = scratch_path(folder, "config");
        InputFileState state = {};
        uint64_t acknowledged = 0;
        InputFiles *files;
        UvLoop *loop;
        int r;

        MUST(loop_uv_new(&loop) == 0);
        files = inputs_open(folder, loop);
        each_acknowledged(folder, look_at_number, &acknowledged);
        if (boot == 1 && acknowledged > 0) /* before fleetd runs again, systemd starts the unit */
                MUST(holds(config, "inputs/current/file", "\n") && holds(config, "inputs/environment", "\n"));
        if (boot != 1)
                MUST(remove_tree_at(AT_FDCWD, config) == 0);
        r = files->ops->restore(files, "inputs", &state);
        MUST(r == 0 || (r == -ENOENT && acknowledged == 0));
        MUST((boot != 1 && state.number == 3) /* of the look before */ ||
             (state.number >= acknowledged && state.number <= acknowledged + 1));
        for (unsigned i = 0; i < 2; i++) {
                const char *value = values[state.number];

                if (state.number > 0)
                        MUST(holds(config, "inputs/current/file", value) &&
                             holds(config, "inputs/environment", value) && streq(state.digest, value));
                inputs_put(files, loop, 3, values[3]);
                MUST(files->ops->restore(files, "inputs", &state) == 0 && state.number == 3);
        }
        MUST(input_folder_free(files) == NULL);
        (void) loop_uv_free(loop);
}

/* -- The table -- */

typedef struct Load {
        const char *name;
        void (*run)(const char *folder);
        void (*look)(const char *folder, unsigned boot);
        const char *points[48]; /* that it comes by */
} Load;

#define FILE_POINTS(file) "file-made " file, "file-written " file, "file-synced " file, "file-renamed " file

static const Load loads[] = {
        { "alone",
          load_alone,
          look_alone,
          { FILE_POINTS("identity"),
            FILE_POINTS("trusted"),
            "identity-written",
            "disk-file-made",
            "disk-file-reserved",
            "disk-file-removed",
            "log-file-before-make",
            "log-file-made",
            "log-spare-made",
            "log-file-renamed",
            "log-before-write",
            "log-written",
            "log-before-cut",
            "log-file-before-remove",
            "log-file-removed",
            "first-meta-before-make",
            "first-meta-made",
            "first-meta-written",
            "start-number-before-write",
            "start-number-written",
            "meta-before-write",
            "meta-written",
            "tree-opened",
            "tree-before-mark",
            "apply-before-commit",
            "apply-committed",
            "copy-folder-made",
            "copy-written",
            "copy-synced",
            "checkpoint-examined",
            "checkpoint-renamed",
            "checkpoint-synced",
            "rebuild-distrusted",
            "rebuild-removed",
            "rebuild-copied" } },
        { "rebuilt",
          load_rebuilt,
          look_alone,
          { "rebuild-distrusted", "rebuild-removed", "rebuild-copied", "tree-opened#2", "file-made trusted#3",
            "file-synced trusted#3", "file-renamed trusted#3", "start-number-before-write#2",
            "start-number-written#2" } },
        { "shrunk",
          load_shrunk,
          look_alone,
          { "copy-written", "copy-synced", "shrink-distrusted", "shrink-replaced", "tree-opened#3",
            "file-synced trusted#4", "file-renamed trusted#4" } },
        { "pair",
          load_pair,
          look_pair,
          { "incoming-emptied", "incoming-received", "incoming-synced", "incoming-copied", "install-renamed",
            "install-synced", "install-distrusted", "install-replaced", "installed",
            "install-before-log-reset" } },
        { "log",
          load_log,
          look_log,
          { "log-before-truncate", "log-reset-written", "log-file-before-remove", "log-before-write",
            "log-written", "meta-written" } },
        { "host",
          load_host,
          look_host,
          { FILE_POINTS("assignment"), FILE_POINTS("floor"), FILE_POINTS("directory"),
            FILE_POINTS("web.service"), FILE_POINTS("50-cluster.conf"), FILE_POINTS("bad.service.error"),
            "unit-file-before-remove", "unit-file-removed" } },
        { "inputs",
          load_inputs,
          look_inputs,
          { FILE_POINTS("credential"), FILE_POINTS("inputs"), FILE_POINTS("v1/file"), FILE_POINTS("v2/file"),
            FILE_POINTS("environment"), "file-renamed current", "file-synced credential#2",
            "file-renamed credential#2", "file-synced inputs#2", "file-renamed inputs#2",
            "file-synced environment#2", "file-renamed environment#2", "file-renamed current#2" } },
};

/* -- Running it -- */

typedef struct Run {
        const Load *load;
        const char *mode, *folder, *said;
        const char *point, *seen;
        unsigned boot;
} Run;

/* The wait status of this program in another mode; what it says goes into the file 'said'. */
static int run_self(const Run *run) {
        char boot[16], point[320], seen[320];
        char *arguments[] = { (char *) "test-fault_points",
                              (char *) run->mode,
                              (char *) run->load->name,
                              (char *) run->folder,
                              boot,
                              NULL };
        char *environment[128];
        posix_spawn_file_actions_t actions;
        size_t n = 0;
        int status;
        pid_t pid;

        snprintf(boot, sizeof(boot), "%u", run->boot);
        for (char **e = environ; *e && n < ELEMENTS(environment) - 3; e++)
                environment[n++] = *e;
        if (run->point) {
                snprintf(point, sizeof(point), "FAULT_POINT=%s", run->point);
                environment[n++] = point;
        }
        if (run->seen) {
                snprintf(seen, sizeof(seen), "FAULT_POINTS_SEEN=%s", run->seen);
                environment[n++] = seen;
        }
        environment[n] = NULL;

        assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
        assert_int_equal(
                posix_spawn_file_actions_addopen(&actions, 2, run->said, O_WRONLY | O_CREAT | O_TRUNC, 0600),
                0);
        assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, arguments, environment), 0);
        posix_spawn_file_actions_destroy(&actions);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

static void show(const char *said) {
        _cleanup_free_ char *text = NULL;

        if (read_file_at(AT_FDCWD, said, 64 * 1024, &text, NULL) == 0)
                fprintf(stderr, "%s", text);
}

static void look_at(const Load *load, const char *folder, const char *said, const char *point,
                    unsigned boot) {
        if (run_self(&(Run) {
                    .load = load, .mode = "--look", .folder = folder, .said = said, .boot = boot }) == 0)
                return;
        show(said);
        fail_msg("after dying at %s of load '%s' (boot %u)", point, load->name, boot);
}

static void die_at(const Load *load, const char *point, bool must_hit) {
        char *scratch = scratch_new();
        _cleanup_free_ char *said = scratch_path(scratch, "said"), *folder = scratch_path(scratch, "folder");
        int status;

        assert_int_equal(mkdir(folder, 0700), 0);
        status = run_self(
                &(Run) { .load = load, .mode = "--load", .folder = folder, .said = said, .point = point });
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
                look_at(load, folder, said, point, 1); /* as after a crash of the daemon */
                look_at(load, folder, said, point, 9); /* as after one of the machine */
        } else if (status != 0 || must_hit) {
                show(said);
                fail_msg("load '%s' did not come by %s (status %x)", load->name, point, status);
        }
        scratch_free(scratch);
}

static void die_at_all(const char *name) {
        bool all = getenv("CHECK_ALL");
        const Load *load = loads;
        char later[320];

        while (!streq(load->name, name))
                load++;
        for (size_t i = 0; load->points[i]; i++) {
                die_at(load, load->points[i], true);
                for (unsigned n = 2; all && n < 40; n = n * 2 + 1) {
                        snprintf(later, sizeof(later), "%s#%u", load->points[i], n);
                        die_at(load, later, false);
                }
        }
}

static void a_store_that_is_alone_dies_at_each_durable_step_and_has_all_it_promised(void **state) {
        die_at_all("alone");
}

static void a_store_that_rebuilds_its_tree_in_service_dies_at_each_step_and_has_all_it_promised(
        void **state) {
        die_at_all("rebuilt");
}

static void a_store_whose_file_shrinks_dies_at_each_step_and_has_all_it_promised(void **state) {
        die_at_all("shrunk");
}

static void a_follower_dies_at_each_step_of_an_install_and_opens(void **state) {
        die_at_all("pair");
}

static void a_log_dies_at_each_step_and_keeps_entries_terms_and_votes(void **state) {
        die_at_all("log");
}

static void a_host_dies_at_each_step_of_its_files_and_none_is_torn(void **state) {
        die_at_all("host");
}

static void a_put_of_inputs_dies_at_each_step_and_leaves_one_whole_content(void **state) {
        die_at_all("inputs");
}

/* What the loads pass is what the table says: a new point is added to it. */
static void each_point_that_is_passed_is_in_the_table(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *said = scratch_path(scratch, "said"), *seen = scratch_path(scratch, "seen"),
                            *text = NULL;
        char *rest, *line;

        for (size_t i = 0; i < ELEMENTS(loads); i++) {
                _cleanup_free_ char *folder = scratch_path(scratch, loads[i].name);

                assert_int_equal(mkdir(folder, 0700), 0);
                if (run_self(&(Run) { .load = &loads[i],
                                      .mode = "--load",
                                      .folder = folder,
                                      .said = said,
                                      .seen = seen }) != 0) {
                        show(said);
                        fail_msg("load '%s' fails by itself", loads[i].name);
                }
        }
        assert_int_equal(read_file_at(AT_FDCWD, seen, 1024 * 1024, &text, NULL), 0);
        rest = text;
        while ((line = strsep(&rest, "\n"))) {
                bool known = !*line;

                for (size_t i = 0; i < ELEMENTS(loads); i++)
                        for (size_t k = 0; loads[i].points[k]; k++)
                                known |= streq(loads[i].points[k], line);
                if (!known && !strstr(line, "dropped.service"))
                        fail_msg("no load dies at %s", line);
        }
        scratch_free(scratch);
}

/* -- The other modes -- */

static int run_mode(char **argv) {
        for (size_t i = 0; i < ELEMENTS(loads); i++) {
                if (!streq(loads[i].name, argv[2]))
                        continue;
                if (streq(argv[1], "--load"))
                        loads[i].run(argv[3]);
                else
                        loads[i].look(argv[3], (unsigned) strtoul(argv[4], NULL, 10));
                return 0;
        }
        return 2;
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_point_that_is_passed_is_in_the_table),
                cmocka_unit_test(a_store_that_is_alone_dies_at_each_durable_step_and_has_all_it_promised),
                cmocka_unit_test(
                        a_store_that_rebuilds_its_tree_in_service_dies_at_each_step_and_has_all_it_promised),
                cmocka_unit_test(a_store_whose_file_shrinks_dies_at_each_step_and_has_all_it_promised),
                cmocka_unit_test(a_follower_dies_at_each_step_of_an_install_and_opens),
                cmocka_unit_test(a_log_dies_at_each_step_and_keeps_entries_terms_and_votes),
                cmocka_unit_test(a_host_dies_at_each_step_of_its_files_and_none_is_torn),
                cmocka_unit_test(a_put_of_inputs_dies_at_each_step_and_leaves_one_whole_content),
        };

        signal(SIGCHLD,
               SIG_DFL); /* if the parent process ignored it, the exit status of a child would be lost */
        signal(SIGPIPE, SIG_IGN);
        log_set_max_priority(LOG_ERR);
        if (argc == 5) {
                alarm(PATIENCE_S);
                return run_mode(argv);
        }
#ifndef FAULT_POINTS
        return 77; /* no points are compiled in */
#endif
        return cmocka_run_group_tests(tests, NULL, NULL);
}
