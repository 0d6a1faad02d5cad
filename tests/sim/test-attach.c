/* Hosts without a replica: whole daemons whose agents act on a slice of the cluster.
 *
 *      test-attach [--seed N] [--runs N] [--trace]
 */
#include <stdio.h>

#include "tests/sim/tokens.h"

static void over(void) {
        cluster = cluster_free(cluster);
}

/* Whether the host has exactly the keys of its slice, as the leader's tree has them. */
static bool slice_is_equal(SimMachine *m) {
        SimMachine *leader = leader_with(machine(0));

        return leader && serves(m) && cluster_slice_equals(m, leader);
}

static void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status == KV_OK)
                *(bool *) userdata = true;
        else
                world_failed(world, "a-request-succeeds", "%s", message);
}

/* Submit and start a unit that only one machine may have; NULL: destroy it. */
static void request_unit(SimMachine *at, const char *name, const SimMachine *on) {
        UnitChange change = { .name = name, .has_target = on, .target = TARGET_LAUNCHED, .remove = !on };
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};
        SimUserUnit *u = &cluster->units[0];
        bool done = false;

        snprintf(u->name, sizeof(u->name), "%s", name);
        cluster->n_units = 1;
        u->touched_ms = world_now_ms(world);
        if (!on)
                u->stopping_ms = u->touched_ms;
        text_printf(&text, "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=%s\n",
                    on ? on->machine_id : "");
        if (on && unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_registry(at->daemon), &change, 1, on_asked, &done) < 0)
                abort();
        UNTIL("a-request-is-answered", done);
}

static SimMachine *attached_by(unsigned members, const TokenRequest *request) {
        SimMachine *m;
        MadeToken token;

        found(6, members);
        m = machine(5);
        token = make_token_of(machine(0), request);
        join_with(m, &token);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP);
        return m;
}

/* Found a cluster of five members, and attach a host. */
static SimMachine *attached(void) {
        return attached_by(5, &(TokenRequest) { .uses = 1, .by = "root" });
}

/* The host runs a unit, and stops it, as any other one. */
static void run_unit(SimMachine *m) {
        UNTIL("an-attached-host-has-facts", seen(machine(0), m)->facts);
        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("its-state-is-published",
              cluster_state_on(seen(machine(0), m), "a.service") &&
                      streq(cluster_state_on(seen(machine(0), m), "a.service")->state.active, "active"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        request_unit(machine(1), "a.service", NULL);
        UNTIL("a-destroyed-unit-stops", !sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("its-assignment-is-deleted", !cluster_assignment_on(seen(machine(0), m), "a.service"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
}

static void attach(void) {
        run_unit(attached());
        over();
}

/* -- Keys of users -- */

typedef struct KeyWrite {
        bool done;
        KvStatus status;
        uint64_t index;
} KeyWrite;

static void on_written(void *userdata, const KvResult *result) {
        *(KeyWrite *) userdata = (KeyWrite) { true, result->status, result->index };
}

static KeyWrite try_write(SimMachine *m, const char *key, const char *value) {
        KeyWrite write = {};
        uint64_t number;

        if (kv_propose(daemon_store(m->daemon),
                       &(KvCommand) { .op = KV_SET, .key = kv_string(key), .value = kv_string(value) },
                       on_written, &write, &number) < 0)
                abort();
        UNTIL("a-write-is-answered", write.done);
        return write;
}

/* Write a key, and return the index of the write. */
static uint64_t write_key(SimMachine *m, const char *key, const char *value) {
        KeyWrite write = try_write(m, key, value);

        if (write.status != KV_OK)
                world_failed(world, "a-write-succeeds", "%s", kv_status_name(write.status));
        return write.index;
}

typedef struct KeyRead {
        KvGet get;
        bool done;
        int result;
        char value[64];
} KeyRead;

static void on_read(void *userdata, int result, const KvFound *found) {
        KeyRead *read = userdata;

        read->done = true;
        read->result = result < 0 ? result : found->error;
        if (result >= 0 && found->node)
                snprintf(read->value, sizeof(read->value), "%.*s", (int) found->node->value.size,
                         (const char *) found->node->value.data);
}

static void expect_key(SimMachine *m, const char *key, const char *value) {
        KeyRead read = { .get = { .key = kv_string(key), .done = on_read } };

        read.get.userdata = &read;
        kv_get(daemon_store(m->daemon), &read.get);
        UNTIL("a-read-is-answered", read.done);
        if (read.result < 0 || !streq(read.value, value))
                world_failed(world, "a-host-reads-its-own-writes", "%s: %d, %s", key, read.result,
                             read.value);
}

typedef struct KeyList {
        bool begun, ended, done, freed;
        int result;
        char keys[256];
} KeyList;

static int on_list_begin(void *userdata, const KvFound *found) {
        ((KeyList *) userdata)->begun = true;
        return 1;
}

static int on_list_node(void *userdata, const KvNode *node) {
        KeyList *list = userdata;
        size_t n = strlen(list->keys);

        snprintf(list->keys + n, sizeof(list->keys) - n, "%.*s ", (int) node->key.size,
                 (const char *) node->key.data);
        return 1;
}

static int on_list_end(void *userdata) {
        ((KeyList *) userdata)->ended = true;
        return 0;
}

static void on_list_grow(void *userdata) {}

static void on_list_done(void *userdata, int result) {
        KeyList *list = userdata;

        list->done = true;
        list->result = result;
}

static void on_list_free(void *userdata) {
        ((KeyList *) userdata)->freed = true;
}

static void expect_list(SimMachine *m, const char *dir, const char *keys) {
        static const KvListOps ops = { .begin = on_list_begin,
                                       .visit = on_list_node,
                                       .end = on_list_end,
                                       .grow = on_list_grow,
                                       .done = on_list_done,
                                       .free = on_list_free };
        const KvRange range = { .key = kv_string(dir), .recursive = true };
        KeyList list = {};
        KvList *handle;

        kv_list(daemon_store(m->daemon), &range, &ops, &list, &handle);
        UNTIL("a-list-is-answered", list.done);
        if (list.result < 0 || !list.begun || !list.ended || !list.freed || !streq(list.keys, keys))
                world_failed(world, "a-list-is-complete", "%d: %s", list.result, list.keys);
}

enum { SEEN_MAX = 64 };

typedef struct KeyWatch {
        KvWatch *watch;
        uint64_t seen[SEEN_MAX];
        size_t n;
} KeyWatch;

static void on_key_event(void *userdata, KvWatchEvent *event) {
        KeyWatch *w = userdata;

        if (w->n > 0 && event->event.index <= w->seen[w->n - 1])
                world_failed(world, "a-watch-repeats-nothing", "index %llu",
                             (unsigned long long) event->event.index);
        w->seen[w->n++ % SEEN_MAX] = event->event.index;
}

static void on_key_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        world_failed(world, "a-watch-keeps-its-position", "oldest %llu, current %llu",
                     (unsigned long long) oldest, (unsigned long long) current);
}

static void watch_keys(SimMachine *m, const char *key, uint64_t since, KeyWatch *ret) {
        static const KvWatchOps ops = { .on_event = on_key_event, .on_cleared = on_key_cleared };
        const KvWatchOptions options = { .key = kv_string(key), .recursive = true, .since = since };
        uint64_t oldest;

        *ret = (KeyWatch) {};
        if (kv_watch(daemon_store(m->daemon), &options, &ops, ret, &ret->watch, &oldest) < 0)
                world_failed(world, "a-watch-opens", "%s", key);
}

/* Return the machine of the replica that has sent the slice of the host, or NULL. */
static SimMachine *replica_of(SimMachine *m) {
        SimMachine *replica = cluster_replica_of(m);

        return replica && kv_slice_index(daemon_store(replica->daemon), m->machine_id) > 0 ? replica : NULL;
}

static void keys_on_an_attached_host(void) {
        SimMachine *m = attached();
        KeyWatch watch, later, future;
        uint64_t first;

        watch_keys(m, "/a", 1000000, &future); /* an index that does not exist */
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        watch_keys(m, "/a", 0, &watch);
        first = write_key(m, "/a/b", "1");
        expect_key(m, "/a/b", "1");
        (void) write_key(machine(0), "/a/c", "2");
        UNTIL("a-watch-sees-all", watch.n == 2);
        expect_list(m, "/a", "/a/b /a/c ");
        expect_key(m, "/", "");
        watch_keys(m, "/a", first, &later);
        UNTIL("a-watch-sees-the-past", later.n == 2);
        if (future.n > 0)
                world_failed(world, "a-watch-of-the-future-waits", "%zu events", future.n);
        kv_watch_close(watch.watch);
        kv_watch_close(later.watch);
        kv_watch_close(future.watch);
        over();
}

/* A restricted host works, holds no replica although the cluster wants more, reads users' keys, and writes
 * none. */
static void restricted_host(void) {
        SimMachine *m = attached_by(3, &(TokenRequest) { .uses = 1, .restricted = true, .by = "root" });

        run_unit(m);
        (void) write_key(machine(0), "/a", "1");
        expect_key(m, "/a", "1");
        if (try_write(m, "/a", "2").status != KV_FORBIDDEN)
                world_failed(world, "a-restricted-host-writes-nothing", "/a");
        expect_key(machine(0), "/a", "1");
        run_ms(20000);
        if (!state_of(m).attached || seen(machine(0), m)->member.raft_id != 0)
                world_failed(world, "a-restricted-host-has-no-replica", "%s", m->name);
        over();
}

/* The replica in use crashes, again and again, while the host writes, reads and watches. */
static void move_over_each_event(void) {
        SimMachine *m = attached(), *former;
        uint64_t last = 0;
        KeyWatch watch;
        char value[16];

        watch_keys(m, "/a", 0, &watch);
        for (unsigned i = 0; i < 6; i++) {
                UNTIL("a-host-uses-a-replica", replica_of(m));
                former = replica_of(m);
                machine_suspect(former, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
                machine_crash_daemon(former);
                UNTIL("a-host-moves-over", replica_of(m) && replica_of(m) != former && state_of(m).ready);
                snprintf(value, sizeof(value), "%u", i);
                last = write_key(m, "/a/b", value);
                expect_key(m, "/a/b", value);
                UNTIL("a-watch-sees-all", watch.n == i + 1 && watch.seen[i] == last);
                machine_start_daemon(former);
                UNTIL("a-replica-returns", is_ready(former));
                UNTIL("a-slice-is-complete", slice_is_equal(m));
        }
        kv_watch_close(watch.watch);
        over();
}

/* -- Faults of the way to the replica -- */

static char large[240 * 1024];

static int on_has(void *userdata, const KvNode *node) {
        *(bool *) userdata = true;
        return 1;
}

static bool has_key(SimMachine *at, const char *key) {
        bool found = false;

        (void) kv_local_get(daemon_store(at->daemon), kv_string(key), on_has, &found);
        return found;
}

static void propose_key(SimMachine *m, const char *key, KvBytes value, KeyWrite *write) {
        uint64_t number;

        *write = (KeyWrite) {};
        if (kv_propose(daemon_store(m->daemon),
                       &(KvCommand) { .op = KV_SET, .key = kv_string(key), .value = value }, on_written,
                       write, &number) < 0)
                abort();
}

/* A stop under load, without any fault. */
static void replica_stops_under_load(void) {
        SimMachine *m = attached(), *used;
        static KeyWrite writes[400];

        UNTIL("a-host-uses-a-replica", replica_of(m));
        used = replica_of(m);
        for (unsigned i = 0; i < ELEMENTS(writes); i++) {
                propose_key(m, "/a/b", kv_string("1"), &writes[i]);
                run_ms(1);
                if (i == 200) {
                        machine_suspect(used, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
                        machine_stop_daemon(used);
                }
        }
        for (unsigned i = 0; i < ELEMENTS(writes); i++)
                UNTIL("a-write-is-answered", writes[i].done);
        over();
}

static unsigned n_cleared;

static void on_overflow_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        n_cleared++;
}

/* The replica drops events for a host that does not read: the watch resumes, or is told. */
static void watch_after_an_overflow(void) {
        static const KvWatchOps ops = { .on_event = on_key_event, .on_cleared = on_overflow_cleared };
        const KvWatchOptions options = { .key = kv_string("/a"), .recursive = true };
        SimMachine *m = attached();
        unsigned n = 16;
        KeyWatch watch = {};
        uint64_t oldest;

        n_cleared = 0;
        if (kv_watch(daemon_store(m->daemon), &options, &ops, &watch, &watch.watch, &oldest) < 0)
                abort();
        (void) write_key(machine(0), "/a/b", "1");
        UNTIL("a-watch-sees-all", watch.n == 1);
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + 2 * TOKENS_PATIENCE_MS);
        world_loop_pause(m->loop, 2500);
        memset(large, 'x', sizeof(large));
        for (unsigned i = 0; i < n; i++) {
                KeyWrite write;

                propose_key(machine(0), "/a/b", (KvBytes) { large, 200 * 1024 }, &write);
                UNTIL("a-write-is-answered", write.done);
                run_ms(20);
        }
        run_ms(15000);
        (void) write_key(machine(0), "/a/b", "last");
        run_ms(10000);
        if (watch.n < n + 2 && n_cleared == 0)
                world_failed(world, "a-watch-misses-nothing", "%zu of %u", watch.n, n + 2);
        if (n_cleared == 0)
                kv_watch_close(watch.watch);
        over();
}

/* A copy of a write took effect by the former replica in use; the next one has no leader. */
static void write_is_not_refused_after_a_move(void) {
        SimMachine *m = attached(), *used, *leader, *next = NULL;
        KeyWrite write;
        bool took = false;

        UNTIL("a-host-uses-a-replica", replica_of(m));
        used = replica_of(m);
        leader = leader_with(machine(0));
        run_ms(40000); /* the idle session */
        used = replica_of(m);
        for (unsigned i = 0; i < 5; i++)
                if (machine(i) != used &&
                    kv_replica_answers(daemon_store(m->daemon), machine(i)->machine_id, 5000))
                        next = machine(i);
        if (!next || used == leader || next == leader) {
                over();
                return;
        }
        for (unsigned i = 0; i < 5; i++) {
                machine_suspect(machine(i), world_now_ms(world),
                                world_now_ms(world) + 2 * TOKENS_PATIENCE_MS);
                if (machine(i) != next)
                        sim_net_cut(cluster->net, next->host, machine(i)->host, true);
        }
        run_ms(1500);
        propose_key(m, "/a/b", kv_string("1"), &write);
        while (!(took = has_key(leader, "/a/b")) && !write.done)
                run_ms(1);
        if (write.done) {
                over();
                return;
        }
        machine_crash_daemon(used);
        UNTIL("a-write-is-answered", write.done);
        if (write.status != KV_OK && write.status != KV_UNKNOWN && took)
                world_failed(world, "a-write-that-took-effect-is-not-refused", "%s",
                             kv_status_name(write.status));
        over();
}

static void write_large(SimMachine *m, const char *dir, unsigned n, size_t size) {
        for (unsigned i = 0; i < n; i++) {
                char key[64];
                KeyWrite write;

                snprintf(key, sizeof(key), "%s/%u", dir, i);
                memset(large, 'x', sizeof(large));
                propose_key(m, key, (KvBytes) { large, size }, &write);
                UNTIL("a-write-is-answered", write.done);
                if (write.status != KV_OK)
                        world_failed(world, "a-write-succeeds", "%s", kv_status_name(write.status));
        }
}

static int on_big_node(void *userdata, const KvNode *node) {
        ((KeyList *) userdata)->keys[0]++;
        return 1;
}

static const KvListOps big_ops = { .begin = on_list_begin,
                                   .visit = on_big_node,
                                   .end = on_list_end,
                                   .grow = on_list_grow,
                                   .done = on_list_done,
                                   .free = on_list_free };

/* Events wait behind a list, and the answer to a heartbeat passes them. */
static void watch_behind_a_list(void) {
        SimMachine *m = attached();
        const KvRange range = { .key = kv_string("/big"), .recursive = true };
        KeyWatch watch;
        KeyList list = {};
        KvList *handle;
        uint64_t until;

        write_large(machine(0), "/big", 4, 200 * 1024);
        watch_keys(m, "/a", 0, &watch);
        (void) write_key(machine(0), "/a/b", "1");
        UNTIL("a-watch-sees-all", watch.n == 1);
        sim_net_set_rate(cluster->net, 800);
        kv_list(daemon_store(m->daemon), &range, &big_ops, &list, &handle);
        run_ms(50);
        (void) write_key(machine(0), "/a/b", "2");
        until = world_now_ms(world) + 10000;
        while (world_now_ms(world) < until && watch.n < 2)
                run_ms(20);
        sim_net_set_rate(cluster->net, 0);
        (void) write_key(machine(0), "/a/b", "3");
        UNTIL("a-watch-sees-all", watch.n == 3);
        kv_watch_close(watch.watch);
        over();
}

/* -- Pages of a first slice -- */

static void change_internal(SimMachine *at, KvOp op, const char *key, const char *value) {
        KeyWrite write = {};
        uint64_t number;

        if (kv_propose(daemon_store(at->daemon),
                       &(KvCommand) {
                               .op = op, .key = kv_string(key), .value = kv_string(value), .internal = true },
                       on_written, &write, &number) < 0)
                abort();
        UNTIL_EACH(60000, 1, "a-write-is-answered", write.done);
}

static void request_large_unit(SimMachine *at, const char *name, const SimMachine *on) {
        UnitChange change = { .name = name, .has_target = true, .target = TARGET_LAUNCHED };
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};
        SimUserUnit *u = &cluster->units[0];
        bool done = false;

        snprintf(u->name, sizeof(u->name), "%s", name);
        cluster->n_units = 1;
        u->touched_ms = world_now_ms(world);
        for (unsigned i = 0; i < 1400; i++)
                text_printf(&text, "# %070u\n", i);
        text_printf(&text, "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=%s\n", on->machine_id);
        if (unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_registry(at->daemon), &change, 1, on_asked, &done) < 0)
                abort();
        UNTIL("a-request-is-answered", done);
}

enum { N_KEYS = 60 };

static void key_ends_between_pages(void) {
        SimMachine *m = attached();
        char name[64], key[128];

        for (unsigned i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "u%u.service", i);
                request_large_unit(machine(0), name, m);
                UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, name));
        }
        for (unsigned i = 0; i < N_KEYS; i++) {
                snprintf(key, sizeof(key), "/_fleet/machine/%s/metadata/k%u", m->machine_id, i);
                change_internal(leader_with(machine(0)), KV_SET, key, "1");
        }
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + 4 * TOKENS_PATIENCE_MS);
        for (unsigned i = 0; i < 5; i++)
                if (machine(i) != replica_of(m))
                        sim_net_cut(cluster->net, machine(i)->host, m->host, true);
        machine_crash_daemon(m);
        run_ms(1000);
        sim_net_set_rate(cluster->net, 8000);
        machine_start_daemon(m);
        for (unsigned i = 0; i < N_KEYS && !(serves(m) && state_of(m).ready); i++) {
                run_ms(8);
                snprintf(key, sizeof(key), "/_fleet/machine/%s/metadata/k%u", m->machine_id, i);
                change_internal(leader_with(machine(0)), KV_DELETE, key, "");
        }
        sim_net_set_rate(cluster->net, 0);
        UNTIL("a-host-is-attached", serves(m) && state_of(m).attached && state_of(m).ready);
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        over();
}

/* -- A request without an answer -- */

typedef struct Synced {
        KvSync sync;
        bool done;
        KvStatus status;
} Synced;

static void on_test_synced(void *userdata, KvStatus status) {
        Synced *s = userdata;

        s->done = true;
        s->status = status;
}

static KvStatus sync_now(SimMachine *m) {
        Synced s = {};

        s.sync = (KvSync) { .done = on_test_synced, .userdata = &s };
        kv_sync(daemon_store(m->daemon), &s.sync);
        UNTIL("a-read-is-answered", s.done);
        return s.status;
}

static void sync_without_an_answer(void) {
        enum { N = 4200 };
        static KeyRead reads[N];
        SimMachine *m = attached();

        if (sync_now(m) != KV_OK)
                world_failed(world, "a-sync-works", "before");
        /* as an answer of another replica that is ahead by a moment */
        kv_saw(daemon_store(m->daemon), kv_index(daemon_store(machine(0)->daemon)) + 3);
        for (unsigned i = 0; i < N; i++) {
                reads[i] = (KeyRead) { .get = { .key = kv_string("/a"), .done = on_read } };
                reads[i].get.userdata = &reads[i];
                kv_get(daemon_store(m->daemon), &reads[i].get);
        }
        run_ms(20);
        (void) sync_now(m);
        for (unsigned i = 0; i < 5; i++)
                (void) write_key(machine(0), "/a/b", "1");
        run_ms(5000);
        for (unsigned i = 0; i < N; i++)
                if (!reads[i].done)
                        world_failed(world, "reads-end", "%u", i);
        for (unsigned i = 0; i < 10; i++) {
                (void) sync_now(m);
                run_ms(5000);
        }
        if (sync_now(m) != KV_OK)
                world_failed(world, "a-sync-is-answered-after-a-lost-one", "no");
        over();
}

/* -- Results that do not fit behind a list -- */

static void write_behind_a_large_list(void) {
        SimMachine *m = attached();
        const KvRange range = { .key = kv_string("/big"), .recursive = true };
        unsigned n = 13;
        KeyList lists[20] = {};
        KeyWrite writes[40];
        KvList *handle;
        uint64_t from;

        write_large(machine(0), "/big", n, 200 * 1024);
        sim_net_set_rate(cluster->net, 20000);
        for (unsigned i = 0; i < ELEMENTS(lists); i++) {
                kv_list(daemon_store(m->daemon), &range, &big_ops, &lists[i], &handle);
                run_ms(5);
        }
        for (unsigned i = 0; i < 40; i++) {
                run_ms(20);
                propose_key(m, "/a/b", kv_string("1"), &writes[i]);
        }
        from = world_now_ms(world);
        while (world_now_ms(world) < from + 20000)
                run_ms(100);
        for (unsigned i = 0; i < ELEMENTS(lists); i++)
                if (!lists[i].done || (lists[i].result == 0 && (unsigned) lists[i].keys[0] != n))
                        world_failed(world, "a-list-is-complete-or-fails", "%d of %u", lists[i].keys[0], n);
        sim_net_set_rate(cluster->net, 0);
        for (unsigned i = 0; i < 40; i++)
                UNTIL("a-write-is-answered", writes[i].done);
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { attach,
                                                   keys_on_an_attached_host,
                                                   restricted_host,
                                                   move_over_each_event,
                                                   replica_stops_under_load,
                                                   write_is_not_refused_after_a_move,
                                                   watch_behind_a_list,
                                                   watch_after_an_overflow,
                                                   key_ends_between_pages,
                                                   sync_without_an_answer,
                                                   write_behind_a_large_list };

        return tokens_main(argc, argv, "tests/sim/test-attach", scenarios, ELEMENTS(scenarios), NULL,
                           "hosts without a replica act on their slice");
}
