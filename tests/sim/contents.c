#include "tests/sim/contents.h"

#include <dirent.h>

#include "fleetd/agent/agent.h"
#include "fleetd/features/inputs/inputs_internal.h"
#include "fleetd/features/rollout/rollout.h"

enum {
        HOSTS_MAX = 20,
        UNITS_MAX = 16,
        HISTORY_MAX = 256, /* contents of a unit */
        TURN_MS = 2000,
        WATCH_MS = 2000,     /* UpdateWatchSec= */
        DISTURBED_MS = 6000, /* after a fault, in which its effects may become visible */
        SEEN_MS = 200,       /* from what the agent knows to what systemd executes */
        REPLICA_MS = 20000,  /* from the key that a new replica gets to its first vote */
        APART_MS = 15000,    /* after the end of an assignment, until the files of its unit are removed */
        FAIL_PERCENT = 2,    /* of the writes of files */
        END_PERCENT = 4,     /* of them: the daemon ends meanwhile */
        OLD_PERCENT = 30,    /* of the worlds: a host of the former version holds the level back at first */
        OLD_MS = 15000,
        LEVEL_WAIT_MS = 2000, /* that all hosts support the level */
        VALUE_SIZE = 64,
};

/* A unit, or a template with the instances 1 to 'replicas'. */
typedef struct ContentSet {
        const char *name, *path, *secret, *units, *options;
        OnChange on_change;
        unsigned replicas;
} ContentSet;

static const ContentSet sets[] = {
        { "in-next.service", "/in/next", "in-next", "", "", ON_CHANGE_NONE, 0 },
        { "in-load.service", "/in/load", "in-all", "", "", ON_CHANGE_RELOAD, 0 },
        { "in-one.service", "/in/one", "in-one", "in-one.service", "", ON_CHANGE_RESTART, 0 },
        { "in-all.service", "/in/all", "in-all", "", "Global=yes\n", ON_CHANGE_RESTART, 0 },
        { "in-set@.service", "/in/set", "in-set", "in-set@*", "", ON_CHANGE_RESTART, 3 },
        { "in-data@.service", "/in/all", "in-all", "", "", ON_CHANGE_RESTART, 2 },
};

typedef struct ContentUnit {
        char name[64];
        const ContentSet *set;
        char folder[INPUTS_NAME_SIZE + 1];    /* before the digits of the lists */
        InputFileState contents[HISTORY_MAX]; /* as the leader has numbered them */
        size_t n;
} ContentUnit;

/* A unit on one host. */
typedef struct ContentInstance {
        /* Its assignment, as the daemon of the host knows it: */
        uint64_t index, inputs, since_ms; /* index 0: it never had one */
        char hash[UNIT_HASH_SIZE];
        bool runs;
        uint64_t changed_ms; /* since when it has this text; with OnChange=restart: and this content */
        /* Its process: */
        uint64_t started_ms; /* 0: none runs */
        uint64_t number;     /* of the content at its start */
        bool former;      /* it started with a former content, and is started again with the assigned one */
        bool has_started; /* in this boot, and systemd has not stopped it for another reason */
        unsigned boot;
        uint64_t taken_ms;    /* fleetd has stopped an available instance; 0: it is available again, or not to
                                 run */
        uint64_t assigned_ms; /* when it might have files, or had none, last */
} ContentInstance;

static struct {
        SimCluster *cluster;
        unsigned max_unavailable; /* of the global unit */
        unsigned version;         /* of the texts */
        uint64_t value;           /* the last one: no two are equal */
        /* The last ones, of the first set of each path and secret: */
        uint64_t key_values[ELEMENTS(sets)], secret_values[ELEMENTS(sets)];
        bool ending, keys_written[ELEMENTS(sets)], secret_written[ELEMENTS(sets)];
        ContentUnit units[UNITS_MAX];
        unsigned n;
        const char *lacks; /* the unit that did not have the last content yet, or the set whose rollout had
                              not ended */
        ContentInstance instances[HOSTS_MAX][UNITS_MAX];
        bool was_replica[HOSTS_MAX];
        uint64_t keyless_ms[HOSTS_MAX]; /* when an attached host had no cluster key, last */
} all;

typedef enum ContentRequest {
        REQUEST_KEYS,
        REQUEST_TEXT_AND_KEYS,
        REQUEST_TEXT,
        REQUEST_DELETE_KEYS,
        REQUEST_SECRET,
        REQUEST_DELETE_SECRET,
        REQUEST_STOP,
        REQUEST_RESUME,
        _REQUEST_MAX,
} ContentRequest;

static const char *const request_names[] = {
        [REQUEST_KEYS] = "keys",     [REQUEST_TEXT_AND_KEYS] = "text and keys",
        [REQUEST_TEXT] = "text",     [REQUEST_DELETE_KEYS] = "keys deleted",
        [REQUEST_SECRET] = "secret", [REQUEST_DELETE_SECRET] = "secret removed",
        [REQUEST_STOP] = "stop",     [REQUEST_RESUME] = "resume",
};
static uint64_t totals[_REQUEST_MAX], total_starts, total_restarts, total_numbers, total_puts,
        total_interrupted, total_restored;

/* -- Requests -- */

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        SimCluster *c = userdata;

        if (status != KV_OK)
                world_trace(c->world, "people", "request about contents rejected: %s", message);
}

/* Return the leader's registry; NULL: no leader, or the cluster does not support secrets. */
static const ComponentHost *leading_host(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);

        return leader && machine_state(leader).level >= KV_LEVEL_INPUTS ? daemon_host(leader->daemon) : NULL;
}

/* Return the number of the first set with this path, or with this secret. */
static size_t first_with(const ContentSet *set, bool secret) {
        size_t i = 0;

        while (secret ? !streq(sets[i].secret, set->secret) : !streq(sets[i].path, set->path))
                i++;
        return i;
}

static bool has_secrets(const SimCluster *c) {
        return c->machines[0].by_token;
}

static void submit(SimCluster *c, Registry *r, const ContentSet *set, TargetState target) {
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text t = {};
        Error err = {};

        text_printf(&t, "[Service]\nExecStart=/bin/good %u\nExecReload=/bin/true\nTimeoutStartSec=10s\n",
                    all.version);
        if (starts_with(set->name, "in-data") &&
            !c->may_attach) /* a host that leaves would wait for people */
                text_printf(&t, "StateDirectory=data-%%i\n");
        text_printf(&t,
                    "[X-Fleet]\nOnChange=%s\nEnvironmentKeys=%s\nConfigKeys=%s\nUpdateWatchSec=2s\n"
                    "UpdateDeadlineSec=20s\nMaxUnavailable=%u\n%s",
                    set->on_change == ON_CHANGE_RESTART ? "restart" :
                    set->on_change == ON_CHANGE_RELOAD  ? "reload" :
                                                          "none",
                    set->path, set->path, set->options[0] ? all.max_unavailable : 1, set->options);
        if (set->replicas > 0)
                text_printf(&t, "Replicas=%u\n", set->replicas);
        if (all.version % 2 > 0) /* each text has other lists than the one before */
                text_printf(&t, "EnvironmentKeys=-/in/none\n");
        if (has_secrets(c))
                text_printf(&t, "Secret=%s:%s\n", set->secret, all.version % 2 > 0 ? "odd" : set->secret);
        if (t.error < 0 || unit_parse(set->name, t.chars, t.size, &unit, &err) < 0)
                world_failed(c->world, "a-text-is-valid", "%s", err.message);
        world_trace(c->world, "people", "%s: text %u, %s", set->name, all.version,
                    target_state_to_string(target));
        (void) registry_change_units(
                r, &(UnitChange) { .unit = unit, .name = set->name, .has_target = true, .target = target }, 1,
                on_done, c);
}

static SimMachine *any_machine(SimCluster *c) {
        SimMachine *m = &c->machines[world_draw(c->world, c->n)];

        return machine_serves(m) && !m->leaves ? m : NULL;
}

static void on_keys(void *userdata, const KvResult *result) {
        *(bool *) userdata = result->status == KV_OK;
        if (result->status != KV_OK)
                world_trace(all.cluster->world, "people", "write of keys: %s",
                            kv_status_name(result->status));
}

static void on_secret(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(bool *) userdata = status == KV_OK;
        on_done(all.cluster, status, message, index);
}

/* Write or delete both keys of a path at once: a content never has one of them alone. */
static void set_keys(SimCluster *c, SimMachine *m, const ContentSet *set, bool exist) {
        static const char *const names[] = { "a", "b" };
        KvCommand writes[ELEMENTS(names)], cmd = { .op = KV_TXN, .writes = writes, .n_writes = 2 };
        char keys[ELEMENTS(names)][VALUE_SIZE], value[VALUE_SIZE];
        size_t first = first_with(set, false);
        uint64_t number;

        if (!m)
                return;
        snprintf(value, sizeof(value), "%llu", (unsigned long long) (exist ? ++all.value : 0));
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                snprintf(keys[i], sizeof(keys[i]), "%s/%s", set->path, names[i]);
                writes[i] = (KvCommand) { .op = KV_SET,
                                          .key = kv_string(keys[i]),
                                          .value = kv_string(value) };
        }
        if (!exist)
                cmd = (KvCommand) {
                        .op = KV_DELETE, .key = kv_string(set->path), .recursive = true, .dir = true
                };
        world_trace(c->world, "people", "%s = %s at %s", set->path, value, m->name);
        all.key_values[first] = all.value;
        (void) kv_propose(daemon_host(m->daemon)->store, &cmd, on_keys, &all.keys_written[first], &number);
}

/* As the handler of the request does on a host with a replica. */
static void set_secret(SimCluster *c, SimMachine *m, const ContentSet *set, bool exists) {
        const ComponentHost *host = m && has_secrets(c) && !machine_is_attached(m) ? daemon_host(m->daemon) :
                                                                                     NULL;
        size_t first = first_with(set, true);
        const ClusterSecret *former;
        SecretRecord record = { .by = "root@sim" };
        char value[VALUE_SIZE];
        Error err = {};
        int r;

        if (!host || !registry_ready(host->registry))
                return;
        former = cluster_secret(registry_cluster(host->registry), set->secret);
        snprintf(value, sizeof(value), "%s=%llu", set->secret, (unsigned long long) ++all.value);
        record.set_ms = loop_wall_ms(host->io.loop);
        record.version = former ? former->record.version + 1 : 1;
        if (set->units[0]) {
                record.units = calloc(1, sizeof(*record.units));
                record.n_units = 1;
                snprintf(record.units[0], sizeof(record.units[0]), "%s", set->units);
        }
        r = exists ? secret_seal(host, set->secret, value, strlen(value), &record, &err) : 0;
        world_trace(c->world, "people", "secret %s %s at %s: %s", exists ? value : set->secret,
                    exists ? "" : "removed", m->name, r < 0 ? error_text(&err, r) : "requested");
        all.secret_values[first] = all.value;
        if (r >= 0)
                (void) secret_write(host->registry, set->secret, exists ? &record : NULL, "root@sim",
                                    on_secret, &all.secret_written[first]);
        secret_record_done(&record);
}

static void resume(SimCluster *c, Registry *r, const ClusterUnit *u) {
        static const RolloutVerb verbs[] = { ROLLOUT_RESUME, ROLLOUT_PROMOTE };

        for (size_t i = 0; i < ELEMENTS(verbs); i++) {
                _cleanup_rollout_ RolloutRecord next = {};
                const RolloutRequest request = { .now_ms = registry_cluster(r)->now_ms,
                                                 .index = registry_cluster(r)->index + 1,
                                                 .by = "root@sim" };
                Error err = {};

                if (u && u->rollout && rollout_ask(u, verbs[i], &request, &next, &err) >= 0)
                        (void) registry_roll(
                                r, 0, &(RolloutWrite) { .head = u, .record = &next, .reason = "requested" },
                                on_done, c);
        }
}

static void ask(SimCluster *c, Registry *r, const ContentSet *set, const ClusterUnit *u) {
        ContentRequest what = (ContentRequest) world_draw(c->world, _REQUEST_MAX);

        /* In half of the cases, values only. */
        if (world_chance(c->world, 50))
                what = world_chance(c->world, 50) ? REQUEST_KEYS : REQUEST_SECRET;
        totals[what]++;
        switch (what) {
        case REQUEST_TEXT_AND_KEYS:
                all.version++;
                submit(c, r, set, TARGET_LAUNCHED);
                set_keys(c, any_machine(c), set, true);
                break;
        case REQUEST_TEXT:
                all.version++;
                submit(c, r, set, TARGET_LAUNCHED);
                break;
        case REQUEST_KEYS:
        case REQUEST_DELETE_KEYS:
                set_keys(c, any_machine(c), set, what == REQUEST_KEYS);
                break;
        case REQUEST_SECRET:
        case REQUEST_DELETE_SECRET:
                set_secret(c, any_machine(c), set, what == REQUEST_SECRET);
                break;
        case REQUEST_STOP:
                submit(c, r, set, TARGET_INACTIVE);
                break;
        default:
                resume(c, r, u);
        }
}

static void on_turn(void *userdata) {
        SimCluster *c = userdata;
        const ComponentHost *host = leading_host(c);
        const ContentSet *set = &sets[world_draw(c->world, ELEMENTS(sets))];
        const ClusterUnit *u = host ? cluster_unit(registry_cluster(host->registry), set->name) : NULL;

        if (c->quiet)
                return;
        world_at(c->world, TURN_MS / 4 + world_draw(c->world, TURN_MS), NULL, on_turn, c);
        if (host && (!u || u->target == TARGET_INACTIVE))
                submit(c, host->registry, set, TARGET_LAUNCHED);
        else if (host)
                ask(c, host->registry, set, u);
}

static void on_power_on(void *userdata) {
        SimMachine *m = userdata;

        if (!m->has_left)
                machine_power_on(m);
}

/* The host of the former version gets this one. */
static void on_upgrade(void *userdata) {
        SimMachine *m = userdata;

        world_trace(m->cluster->world, m->name, "has the level of contents now");
        m->level_max = 0;
        machine_absent(m, 2000);
        machine_stop_daemon(m);
        world_at(m->cluster->world, 2000, NULL, machine_begin, m);
}

static void add_unit(const ContentSet *set, unsigned replica) {
        ContentUnit *u = &all.units[all.n++];
        const char *at = strchr(set->name, '@');

        assert(all.n <= UNITS_MAX);
        u->set = set;
        if (at)
                snprintf(u->name, sizeof(u->name), "%.*s@%u.service", (int) (at - set->name), set->name,
                         replica);
        else
                snprintf(u->name, sizeof(u->name), "%s", set->name);
        inputs_name(u->name, u->folder);
        strcat(u->folder, "~");
}

void contents_age(SimCluster *c) {
        if (!world_chance(c->world, OLD_PERCENT))
                return;
        c->machines[0].level_max = KV_LEVEL_INPUTS - 1;
        c->level_wait_ms = LEVEL_WAIT_MS;
}

/* Its daemon, or the host, ends while files are written. */
static void on_end(void *userdata) {
        SimMachine *m = userdata;
        World *w = m->cluster->world;
        uint64_t for_ms = 500 + world_draw(w, 4000);

        if (m->cluster->quiet || !machine_serves(m) || m->leaves)
                return;
        machine_absent(m, for_ms);
        machine_suspect(m, world_now_ms(w), world_now_ms(w) + for_ms + 20000);
        if (world_chance(w, 50)) {
                machine_crash_daemon(m);
                world_at(w, for_ms, NULL, machine_begin, m);
        } else {
                machine_power_cut(m);
                world_at(w, for_ms, NULL, on_power_on, m);
        }
}

static void on_files(void *machine);

static void on_put(void *userdata, uint64_t takes_ms) {
        SimMachine *m = userdata;
        World *w = m->cluster->world;

        if (world_chance(w, END_PERCENT))
                world_at(w, world_draw(w, takes_ms + 1), NULL, on_end, m);
}

void contents_begin(SimCluster *c) {
        memset(&all, 0, sizeof(all));
        assert(c->n <= HOSTS_MAX);
        all.cluster = c;
        all.max_unavailable = c->n > 8 ? 3 : 1 + (unsigned) world_draw(c->world, 2);
        for (const ContentSet *set = sets; set < sets + ELEMENTS(sets); set++)
                for (unsigned i = 1; i <= MAX(set->replicas, 1u); i++)
                        add_unit(set, i);
        for (unsigned i = 0; i < c->n; i++) {
                c->machines[i].input_files.fail_percent = FAIL_PERCENT;
                c->machines[i].input_files.on_put = on_put;
                c->machines[i].input_files.on_change = on_files;
                c->machines[i].input_files.machine = &c->machines[i];
                if (c->machines[i].level_max > 0)
                        world_at(c->world, OLD_MS, NULL, on_upgrade, &c->machines[i]);
        }
        c->contents = true;
        world_at(c->world, 100, NULL, on_turn, c);
}

/* -- Observations -- */

static ContentUnit *unit_of(const SimCluster *c, const char *name) {
        for (unsigned i = 0; c == all.cluster && i < all.n; i++)
                if (streq(all.units[i].name, name))
                        return &all.units[i];
        return NULL;
}

static ContentInstance *instance_of(const SimMachine *m, const ContentUnit *u) {
        return &all.instances[m->index][u - all.units];
}

static bool restarts(const ContentUnit *u) {
        return u->set->on_change == ON_CHANGE_RESTART;
}

static void note_content(SimCluster *c, ContentUnit *u, const KvNode *node) {
        _cleanup_(inputs_record_done) InputsRecord record = {};

        if (stored_inputs_read(node->value.data, node->value.size, &record, NULL) < 0)
                abort();
        for (size_t i = 0; i < u->n; i++)
                if (!streq(u->contents[i].digest, record.digest))
                        continue;
                else if (u->contents[i].number == record.number || record.number == 0)
                        return;
                else
                        world_failed(c->world, "a-number-is-of-another-content",
                                     "content %llu of %s equals content %llu",
                                     (unsigned long long) record.number, u->name,
                                     (unsigned long long) u->contents[i].number);
        if (record.number > 0 && u->n < HISTORY_MAX) {
                total_numbers++;
                world_trace(c->world, "inputs", "%s has content %llu", u->name,
                            (unsigned long long) record.number);
                u->contents[u->n].number = record.number;
                memcpy(u->contents[u->n++].digest, record.digest, UNIT_HASH_SIZE);
        }
}

static void note_assignment(SimCluster *c, const SimMachine *m, const ContentUnit *u, const KvNode *node) {
        ContentInstance *i = instance_of(m, u);
        Assignment a = {};
        bool runs;

        if (node->modified <= i->index)
                return;
        if (stored_assignment_read(node->value.data, node->value.size, &a, NULL) < 0)
                abort();
        runs = a.kind == ASSIGNMENT_RUN;
        if (i->index == 0 || runs != i->runs || a.since_ms != i->since_ms || !streq(a.hash, i->hash) ||
            (restarts(u) && a.inputs != i->inputs))
                i->changed_ms = world_now_ms(c->world);
        world_trace(c->world, m->name, "assignment of %s: %s %.7s, content %llu", u->name,
                    runs ? "run" : "stop", a.hash, (unsigned long long) a.inputs);
        i->index = node->modified;
        i->runs = runs;
        i->taken_ms = runs ? i->taken_ms : 0;
        i->inputs = a.inputs;
        i->since_ms = a.since_ms;
        memcpy(i->hash, a.hash, sizeof(i->hash));
        assignment_record_done(&a);
}

void contents_note(SimCluster *c, const KvNode *node) {
        const SimMachine *m = cluster_running_machine(c);
        LayoutKey key;
        ContentUnit *u;

        if (!c->contents || !m || !node->key.data || node->dir || !layout_parse(node->key, &key))
                return;
        u = unit_of(c, key.unit);
        if (u && key.kind == LAYOUT_INPUTS)
                note_content(c, u, node);
        else if (u && key.kind == LAYOUT_ASSIGNMENT && streq(key.machine, m->machine_id))
                note_assignment(c, m, u, node);
}

/* Return the number of a content: the last one that the leader gave it; or that of the tree from which it was
 * read. */
static uint64_t number_of(const ContentUnit *u, const SimContent *content) {
        uint64_t number = 0;

        for (size_t i = 0; i < u->n; i++)
                if (streq(u->contents[i].digest, content->state.digest))
                        number = MAX(number, u->contents[i].number);
        return number > 0 ? number : content->state.number;
}

/* Whether the host is away, or was since then: fleetd may have had another view of it. */
static bool host_is_disturbed(const SimMachine *m, uint64_t since_ms) {
        return !machine_serves(m) || m->leaves || m->suspect_until_ms + DISTURBED_MS >= since_ms ||
               m->absent_until_ms + DISTURBED_MS >= since_ms;
}

static bool is_fresh(const SimMachine *m) {
        return machine_serves(m) && registry_ready(daemon_host(m->daemon)->registry) &&
               agent_is_fresh(daemon_host(m->daemon)->agent);
}

/* Return the folder that is named by the drop-in in force; NULL: none. */
static const SimInputFolder *folder_of(const SimMachine *m, const ContentUnit *u) {
        const char *drop_in = sim_systemd_inputs(m->systemd, u->name),
                   *name = drop_in ? strstr(drop_in, u->folder) : NULL;
        char folder[INPUTS_FOLDER_SIZE];

        if (!name)
                return NULL;
        snprintf(folder, sizeof(folder), "%.*s", (int) strcspn(name, "/"), name);
        return named_find(m->input_files.folders, folder);
}

/* Return the value of a file; "" if there is none. */
static const char *value_of(const SimContent *content, const char *name) {
        for (size_t i = 0; i < content->n_files; i++)
                if (streq(content->files[i].name, name))
                        return content->files[i].value;
        return "";
}

/* -- Starts -- */

/* Both keys were written at once, so one resolve has one value. */
static void check_one_version(const SimMachine *m, const ContentUnit *u, const SimInputFolder *folder) {
        const SimContent *content = folder->current;
        const char *a = value_of(content, "a"), *b = value_of(content, "b");
        char wanted[2 * VALUE_SIZE];

        snprintf(wanted, sizeof(wanted), "A=\"%s\"\nB=\"%s\"\n", a, b);
        if (folder->environment != content || !a[0] || !streq(a, b) || !streq(content->environment, wanted))
                world_failed(m->cluster->world, "content-in-force-is-one-version",
                             "%s starts on %s with files %s and %s, and the environment of content %llu: %s",
                             u->name, m->name, a, b, (unsigned long long) folder->environment->state.number,
                             folder->environment->environment);
}

/* After a boot, any former content will do while there is a problem. */
static bool may_start_with_former(const SimMachine *m, const ContentUnit *u, const ContentInstance *i) {
        uint64_t now_ms = world_now_ms(m->cluster->world);

        return !is_fresh(m) || now_ms <= i->changed_ms + SEEN_MS || now_ms <= m->started_ms + SEEN_MS ||
               !i->has_started || i->boot != m->boots;
}

bool contents_check_start(SimMachine *m, const char *unit) {
        const ContentUnit *u = unit_of(m->cluster, unit);
        const SimInputFolder *folder = u ? folder_of(m, u) : NULL;
        ContentInstance *i = u ? instance_of(m, u) : NULL;
        World *w = m->cluster->world;
        uint64_t number;

        if (!u)
                return false;
        if (!folder || !sim_input_folder_is_complete(folder))
                world_failed(w, "an-instance-starts-with-its-content", "%s starts on %s without%s", unit,
                             m->name, folder ? " all of its files" : " files");
        check_one_version(m, u, folder);
        number = number_of(u, folder->current);
        if (number < i->inputs && !may_start_with_former(m, u, i))
                world_failed(w, "an-instance-starts-with-its-content",
                             "%s starts on %s with content %llu, and is to have %llu", unit, m->name,
                             (unsigned long long) number, (unsigned long long) i->inputs);
        i->former = folder->current->state.number < i->inputs && may_start_with_former(m, u, i);
        total_starts++;
        i->started_ms = world_now_ms(w);
        i->has_started = true;
        i->boot = m->boots;
        i->number = number;
        return true;
}

/* -- Stops -- */

static bool instance_is_available(const SimMachine *m, const ContentInstance *i) {
        return i->started_ms > 0 && world_now_ms(m->cluster->world) >= i->started_ms + WATCH_MS;
}

static unsigned count_taken(SimCluster *c, const ContentSet *set) {
        unsigned n = 0;

        for (unsigned k = 0; k < c->n; k++)
                for (unsigned j = 0; j < all.n; j++) {
                        SimMachine *m = &c->machines[k];
                        ContentInstance *i = &all.instances[k][j];

                        if (all.units[j].set != set || i->taken_ms == 0)
                                continue;
                        if (instance_is_available(m, i))
                                i->taken_ms = 0;
                        n += i->taken_ms > 0 && !host_is_disturbed(m, i->taken_ms);
                }
        return n;
}

static void check_budget(SimMachine *m, const ContentUnit *u, ContentInstance *i) {
        SimCluster *c = m->cluster;
        unsigned n, max = u->set->options[0] ? all.max_unavailable : 1;

        i->taken_ms = world_now_ms(c->world);
        n = count_taken(c, u->set);
        if (n > max)
                world_failed(c->world, "a-rotation-keeps-the-budget",
                             "%s stops on %s: %u of %s are unavailable, %u may be", u->name, m->name, n,
                             u->set->name, max);
}

bool contents_check_stop(SimMachine *m, const char *unit, bool asked) {
        const ContentUnit *u = unit_of(m->cluster, unit);
        ContentInstance *i = u ? instance_of(m, u) : NULL;
        bool available;

        if (!u)
                return false;
        available = instance_is_available(m, i);
        if (asked && i->runs && i->changed_ms + SEEN_MS < i->started_ms && !i->former)
                world_failed(m->cluster->world,
                             m->started_ms > i->started_ms ? "a-restart-of-fleetd-restarts-nothing" :
                                                             "a-number-restarts-once",
                             "%s is stopped on %s, started with content %llu, and is to have %llu", unit,
                             m->name, (unsigned long long) i->number, (unsigned long long) i->inputs);
        i->started_ms = 0;
        i->has_started &= asked;
        total_restarts += asked && i->runs;
        if (asked && i->runs && available && !host_is_disturbed(m, i->changed_ms))
                check_budget(m, u, i);
        return true;
}

/* -- Files of hosts -- */

/* What a simulated sealer has made of the value of a secret opens with the number of its host. */
static bool opens(const SimMachine *m, const InputFile *credential, char ret[static VALUE_SIZE]) {
        const char *sealed = credential->value, *bytes = memchr(sealed, '\n', credential->size);
        size_t n = bytes ? credential->size - (size_t) (++bytes - sealed) : 0;

        if (n == 0 || n >= VALUE_SIZE || !starts_with(sealed, credential->name))
                return false;
        for (size_t i = 0; i < n; i++)
                ret[i] = (char) ((uint8_t) bytes[i] ^ m->input_sealer.host ^ 0x80);
        ret[n] = 0;
        return true;
}

static void check_credentials(const SimMachine *m, const ContentUnit *u, const SimInputFolder *folder) {
        char value[VALUE_SIZE];

        for (size_t i = 0; i < INPUT_SECRETS_MAX && folder->credentials[i]; i++)
                if (!opens(m, folder->credentials[i], value) || !starts_with(value, u->set->secret) ||
                    value[strlen(u->set->secret)] != '=')
                        world_failed(m->cluster->world, "no-other-secret-on-a-host", "%s has %s for %s",
                                     m->name, folder->credentials[i]->name, u->name);
}

/* Return whether this is a content of the lists in the drop-in. */
static bool is_for(const SimContent *content, const char *drop_in) {
        static const char option[] = "LoadCredentialEncrypted=";
        size_t n = 0;
        char word[VALUE_SIZE];

        for (const char *at = drop_in; (at = strstr(at, option)); at += strlen(option))
                n++;
        for (size_t i = 0; i < content->n_credentials; i++) {
                snprintf(word, sizeof(word), "=%s:", content->credentials[i].name);
                n -= strstr(drop_in, word) != NULL;
        }
        return n == 0;
}

/* systemd may restart what runs at any moment, with the drop-in in force and without fleetd. */
static void check_in_force(const SimMachine *m, const ContentUnit *u) {
        bool runs = m->power && !m->dying && sim_systemd_runs(m->systemd, u->name);
        const char *drop_in = runs ? sim_systemd_inputs(m->systemd, u->name) : NULL;
        const SimInputFolder *folder = drop_in ? folder_of(m, u) : NULL;

        if (drop_in && (!folder || !sim_input_folder_is_complete(folder) ||
                        !is_for(folder->current, drop_in) || !is_for(folder->environment, drop_in)))
                world_failed(m->cluster->world, "a-running-unit-keeps-its-files",
                             "%s runs on %s, and its next start has%s files%s", u->name, m->name,
                             folder ? " not all" : " no", folder ? " of its text" : "");
}

static void on_files(void *machine) {
        for (unsigned i = 0; i < all.n; i++)
                check_in_force(machine, &all.units[i]);
}

static bool may_have_files(const SimMachine *m, const ContentUnit *u) {
        return !is_fresh(m) || m->leaves || m->absent_until_ms > world_now_ms(m->cluster->world) ||
               sim_systemd_has(m->systemd, u->name) ||
               cluster_assignment(registry_cluster(daemon_host(m->daemon)->registry), m->machine_id, u->name);
}

static void check_folders(SimMachine *m, const ContentUnit *u) {
        ContentInstance *i = instance_of(m, u);
        uint64_t now_ms = world_now_ms(m->cluster->world);
        bool any = false;

        for (const Named *n = m->input_files.folders; n; n = n->hh.next)
                if (starts_with(n->name, u->folder)) {
                        any = true;
                        check_credentials(m, u, (const SimInputFolder *) n);
                }
        if (!any || may_have_files(m, u))
                i->assigned_ms = now_ms;
        if (any && i->index == 0)
                world_failed(m->cluster->world, "no-other-secret-on-a-host",
                             "%s has files of %s, which it was never assigned", m->name, u->name);
        if (now_ms - i->assigned_ms > APART_MS)
                world_failed(m->cluster->world, "no-other-secret-on-a-host", "%s has files of %s, which left",
                             m->name, u->name);
        check_in_force(m, u);
}

static bool has_cluster_key(const SimMachine *m) {
        _cleanup_text_ Text path = {};
        const struct dirent *entry;
        bool found = false;
        DIR *dir;

        text_printf(&path, "%s/secrets", m->folder);
        dir = opendir(text_chars(&path));
        while (dir && (entry = readdir(dir)))
                found |= starts_with(entry->d_name, "key.");
        if (dir)
                closedir(dir);
        return found;
}

static void check_attached(SimMachine *m) {
        const Cluster *view = registry_cluster(daemon_host(m->daemon)->registry);

        if (view->secrets)
                world_failed(m->cluster->world, "no-other-secret-on-a-host", "%s is attached, and has %s",
                             m->name, view->secrets->name);
        if (all.was_replica[m->index] || !has_cluster_key(m))
                all.keyless_ms[m->index] = world_now_ms(m->cluster->world);
        else if (world_now_ms(m->cluster->world) > all.keyless_ms[m->index] + REPLICA_MS)
                world_failed(m->cluster->world, "no-other-secret-on-a-host",
                             "%s is attached, and has a cluster key", m->name);
}

void contents_watch(SimCluster *c) {
        for (unsigned i = 0; c->contents && i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                if (machine_is_attached(m))
                        check_attached(m);
                else
                        all.was_replica[i] |= machine_serves(m);
                for (unsigned k = 0; k < all.n; k++)
                        check_folders(m, &all.units[k]);
        }
}

/* -- At rest -- */

static bool is_rolling(const ClusterUnit *head) {
        const RolloutRecord *r = head ? head->rollout : NULL;

        return r && r->state != ROLLOUT_DONE;
}

/* Return whether the instance has the content of the key; else NULL, or why not. */
static const char *instance_lacks(SimMachine *m, const ContentUnit *u, uint64_t wanted) {
        const SimInputFolder *folder = folder_of(m, u);

        if (!folder || !sim_input_folder_is_complete(folder))
                return "has no files";
        if (number_of(u, folder->current) < wanted)
                return "has former files";
        return restarts(u) && instance_of(m, u)->number < wanted ? "has started with a former content" : NULL;
}

static const char *unit_lacks(SimCluster *c, const Cluster *view, const ContentUnit *u, SimMachine **ret) {
        for (unsigned i = 0; i < c->n; i++) {
                const ClusterAssignment *a = cluster_assignment(view, c->machines[i].machine_id, u->name);
                const char *why = NULL;

                *ret = &c->machines[i];
                if (a && a->kind == ASSIGNMENT_RUN && is_fresh(*ret))
                        why = instance_lacks(*ret, u, a->of->inputs->number);
                if (why)
                        return why;
        }
        return NULL;
}

void contents_check(SimCluster *c) {
        const ComponentHost *host = leading_host(c);
        const Cluster *view = host ? registry_cluster(host->registry) : NULL;
        SimMachine *m;

        for (unsigned i = 0; view && i < all.n; i++) {
                const ContentUnit *u = &all.units[i];
                const ClusterUnit *of = cluster_unit(view, u->name);
                const char *why;

                if (!of || !of->inputs || of->inputs->number == 0 || of->target != TARGET_LAUNCHED ||
                    of->inputs->problem.code != VERDICT_NONE || is_rolling(cluster_unit(view, u->set->name)))
                        continue;
                why = unit_lacks(c, view, u, &m);
                if (why)
                        world_failed(c->world, "contents-arrive", "%s %s on %s", u->name, why, m->name);
        }
}

/* Whether each instance has the last text, keys and secret. */
static bool unit_is_last(SimCluster *c, const Cluster *view, const ContentUnit *u) {
        const ClusterUnit *of = cluster_unit(view, u->name);
        const ClusterAssignment *a;
        SimMachine *m;
        char value[VALUE_SIZE], wanted[VALUE_SIZE];

        if (!of || !of->inputs || of->inputs->problem.code != VERDICT_NONE || unit_lacks(c, view, u, &m))
                return false;
        for (unsigned i = 0; i < c->n; i++) {
                m = &c->machines[i];
                a = cluster_assignment(view, m->machine_id, u->name);
                if (!a || a->kind != ASSIGNMENT_RUN || !is_fresh(m))
                        continue;
                snprintf(wanted, sizeof(wanted), "%llu",
                         (unsigned long long) all.key_values[first_with(u->set, false)]);
                if (!streq(value_of(folder_of(m, u)->current, "a"), wanted))
                        return false;
                snprintf(wanted, sizeof(wanted), "%s=%llu", u->set->secret,
                         (unsigned long long) all.secret_values[first_with(u->set, true)]);
                if (has_secrets(c) &&
                    (!folder_of(m, u)->credentials[0] || !opens(m, folder_of(m, u)->credentials[0], value) ||
                     !streq(value, wanted)))
                        return false;
        }
        return true;
}

static void submit_last(SimCluster *c, const ComponentHost *host) {
        all.ending = true;
        all.version++;
        memset(all.keys_written, 0, sizeof(all.keys_written));
        memset(all.secret_written, 0, sizeof(all.secret_written));
        for (const ContentSet *set = sets; set < sets + ELEMENTS(sets); set++)
                submit(c, host->registry, set, TARGET_LAUNCHED);
}

static void write_last(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);

        for (const ContentSet *set = sets; set < sets + ELEMENTS(sets); set++) {
                if (set == sets + first_with(set, false) && !all.keys_written[set - sets])
                        set_keys(c, leader, set, true);
                if (set == sets + first_with(set, true) && !all.secret_written[set - sets])
                        set_secret(c, leader, set, true);
        }
}

void contents_failed(SimCluster *c) {
        world_failed(c->world, "contents-arrive", "%s does not have the last one", all.lacks ?: "no unit");
}

void contents_count(const SimCluster *c) {
        for (unsigned i = 0; i < c->n; i++) {
                total_puts += c->machines[i].input_files.n_puts;
                total_interrupted += c->machines[i].input_files.n_interrupted;
                total_restored += c->machines[i].input_files.n_restored;
        }
}

bool contents_end(SimCluster *c) {
        const ComponentHost *host = leading_host(c);
        const Cluster *view = host ? registry_cluster(host->registry) : NULL;
        bool all_have = true;

        if (!host)
                return false;
        if (!all.ending) {
                submit_last(c, host);
                return false;
        }
        write_last(c);
        for (const ContentSet *set = sets; set < sets + ELEMENTS(sets); set++) {
                const ClusterUnit *u = cluster_unit(view, set->name);

                resume(c, host->registry, u);
                if (!u || is_rolling(u)) {
                        all.lacks = set->name;
                        all_have = false;
                }
        }
        for (unsigned i = 0; i < all.n; i++)
                if (!unit_is_last(c, view, &all.units[i])) {
                        all.lacks = all.units[i].name;
                        all_have = false;
                }
        return all_have;
}

void contents_print(void) {
        printf(" contents: %llu, files written %llu times, interrupted %llu, restored %llu, starts %llu, "
               "restarts %llu; requests:",
               (unsigned long long) total_numbers, (unsigned long long) total_puts,
               (unsigned long long) total_interrupted, (unsigned long long) total_restored,
               (unsigned long long) total_starts, (unsigned long long) total_restarts);
        for (size_t i = 0; i < ELEMENTS(request_names); i++)
                printf(" %s %llu,", request_names[i], (unsigned long long) totals[i]);
        printf("\n");
}
