/* Hosts without a replica under load, and replicas that stop under it: no write, event or key is lost.
 *
 *      test-overload [--seed N] [--runs N] [--trace]
 */

#include "kvstore/propose.h"
#include "tests/sim/attached.h"

/* -- Faults of the way to the replica -- */

static char large[240 * 1024];

static int on_has(void *userdata, const KvNode *node) {
        *(bool *) userdata = true;
        return 1;
}

static bool has_key(SimMachine *at, const char *key) {
        bool found = false;

        (void) kv_local_get(daemon_host(at->daemon)->store, kv_string(key), on_has, &found);
        return found;
}

static void propose_key(SimMachine *m, const char *key, KvBytes value, KeyWrite *write) {
        uint64_t number;

        *write = (KeyWrite) {};
        if (kv_propose(daemon_host(m->daemon)->store,
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
        if (kv_watch(daemon_host(m->daemon)->store, &options, &ops, &watch, &watch.watch, &oldest) < 0)
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

/* Return the replica of the idle session of 'm', or NULL. */
static SimMachine *idle_replica(SimMachine *m) {
        for (unsigned i = 0; i < 5; i++)
                if (machine(i) != replica_of(m) &&
                    kv_replica_answers(daemon_host(m->daemon)->store, machine(i)->machine_id, 5000))
                        return machine(i);
        return NULL;
}

/* A copy of a write took effect by the former replica in use; the next one has no leader. */
static void write_is_not_refused_after_a_move(void) {
        SimMachine *m = attached(), *used, *leader, *next;
        KeyWrite write = {};
        bool took = false;
        char key[16] = "";

        /* Neither session is one to the leader. */
        UNTIL("there-is-a-leader", (leader = leader_with(machine(0))));
        sim_net_cut(cluster->net, m->host, leader->host, true);
        run_ms(5000); /* a session to it ends */
        UNTIL("a-host-has-an-idle-session",
              (used = replica_of(m)) && used != leader && (next = idle_replica(m)) && next != leader);
        sim_net_cut(cluster->net, m->host, leader->host, false);
        for (unsigned i = 0; i < 5; i++) {
                machine_suspect(machine(i), world_now_ms(world),
                                world_now_ms(world) + 2 * TOKENS_PATIENCE_MS);
                if (machine(i) != next)
                        sim_net_cut(cluster->net, next->host, machine(i)->host, true);
        }
        run_ms(1500);
        for (unsigned i = 0; i < 20 && (!took || write.done); i++) {
                snprintf(key, sizeof(key), "/a/%u", i);
                propose_key(m, key, kv_string("1"), &write);
                while (!(took = has_key(leader, key)) && !write.done)
                        run_ms(1);
        }
        if (!took || write.done || replica_of(m) != used)
                world_failed(world, "a-write-takes-effect-before-its-answer", "none of 20");
        machine_crash_daemon(used);
        UNTIL("a-write-is-answered", write.done);
        if (write.status != KV_OK && write.status != KV_UNKNOWN)
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

static const char *const big_keys[] = { "/big/0", "/big/1", "/big/2", "/big/3" };

/* Events wait behind large values, and the answer to a heartbeat passes them. */
static void watch_behind_large_values(void) {
        SimMachine *m = attached();
        KeyRead reads[ELEMENTS(big_keys)];
        KeyWatch watch;
        uint64_t until;

        write_large(machine(0), "/big", ELEMENTS(big_keys), 200 * 1024);
        watch_keys(m, "/a", 0, &watch);
        (void) write_key(machine(0), "/a/b", "1");
        UNTIL("a-watch-sees-all", watch.n == 1);
        sim_net_set_rate(cluster->net, 800);
        for (size_t i = 0; i < ELEMENTS(big_keys); i++)
                begin_read(m, big_keys[i], &reads[i]);
        run_ms(50);
        (void) write_key(machine(0), "/a/b", "2");
        until = world_now_ms(world) + 10000;
        while (world_now_ms(world) < until && watch.n < 2)
                run_ms(20);
        sim_net_set_rate(cluster->net, 0);
        (void) write_key(machine(0), "/a/b", "3");
        UNTIL("a-watch-sees-all", watch.n == 3);
        for (size_t i = 0; i < ELEMENTS(big_keys); i++)
                UNTIL("a-read-ends", reads[i].done);
        kv_watch_close(watch.watch);
        over();
}

/* -- Pages of a first slice -- */

static void change_internal(SimMachine *at, KvOp op, const char *key, const char *value) {
        KeyWrite write = {};
        uint64_t number;

        if (kv_propose(daemon_host(at->daemon)->store,
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
        if (registry_change_units(daemon_host(at->daemon)->registry, &change, 1, on_asked, &done) < 0)
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
        kv_sync(daemon_host(m->daemon)->store, &s.sync);
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
        kv_saw(daemon_host(m->daemon)->store, kv_index(daemon_host(machine(0)->daemon)->store) + 3);
        for (unsigned i = 0; i < N; i++) {
                begin_read(m, "/a", &reads[i]);
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

/* -- Results that do not fit behind large values -- */

static void write_behind_large_values(void) {
        SimMachine *m = attached();
        static KeyRead reads[260];
        KeyWrite writes[40];
        uint64_t from;

        write_large(machine(0), "/big", ELEMENTS(big_keys), 200 * 1024);
        sim_net_set_rate(cluster->net, 20000);
        for (size_t i = 0; i < ELEMENTS(reads); i++) {
                begin_read(m, big_keys[i % ELEMENTS(big_keys)], &reads[i]);
                if (i % 13 == 12)
                        run_ms(5);
        }
        for (unsigned i = 0; i < 40; i++) {
                run_ms(20);
                propose_key(m, "/a/b", kv_string("1"), &writes[i]);
        }
        from = world_now_ms(world);
        while (world_now_ms(world) < from + 20000)
                run_ms(100);
        for (size_t i = 0; i < ELEMENTS(reads); i++)
                if (!reads[i].done || (reads[i].result == 0 && reads[i].value[0] != 'x'))
                        world_failed(world, "a-read-ends", "%zu: %d", i, reads[i].result);
        sim_net_set_rate(cluster->net, 0);
        for (unsigned i = 0; i < 40; i++)
                UNTIL("a-write-is-answered", writes[i].done);
        over();
}

/* Requests of one packet arrive in one event: the replica reads for some of them, and for the others later.
 */
static void reads_at_once(void) {
        SimMachine *m = attached();
        static KeyRead reads[60];

        write_large(machine(0), "/big", ELEMENTS(big_keys), 200 * 1024);
        UNTIL("a-sync-is-answered", sync_now(m) == KV_OK); /* its replica has them */
        for (size_t i = 0; i < ELEMENTS(reads); i++)
                begin_read(m, big_keys[i % ELEMENTS(big_keys)], &reads[i]);
        for (size_t i = 0; i < ELEMENTS(reads); i++) {
                UNTIL("a-read-is-answered", reads[i].done);
                if (reads[i].result < 0 || reads[i].value[0] != 'x')
                        world_failed(world, "a-read-succeeds", "%zu: %d", i, reads[i].result);
        }
        over();
}

/* -- Limits of a host -- */

/* A host may write 200 times a second. More writes wait; those that would wait for too long are rejected
 * without an effect, none is lost, and other hosts do not wait. */
static void writes_above_the_limit(void) {
        enum { N = 2000, FOREIGN = 20 };
        SimMachine *m = attached();
        static KeyWrite writes[N];
        unsigned n_done = 0;
        uint64_t from;
        char key[32];

        run_ms(5000);
        from = world_now_ms(world);
        for (unsigned i = 0; i < N; i++) {
                snprintf(key, sizeof(key), "/a/%u", i);
                propose_key(m, key, kv_string("1"), &writes[i]);
        }
        for (unsigned i = 0; i < FOREIGN; i++) {
                KeyWrite write;
                uint64_t began_ms = world_now_ms(world);

                propose_key(machine(0), "/b", kv_string("1"), &write);
                UNTIL("a-write-of-another-host-is-answered", write.done);
                if (write.status != KV_OK || world_now_ms(world) - began_ms > 200)
                        world_failed(world, "a-write-of-another-host-does-not-wait", "%s after %llu ms",
                                     kv_status_name(write.status),
                                     (unsigned long long) (world_now_ms(world) - began_ms));
        }
        for (unsigned i = 0; i < N; i++)
                UNTIL("a-write-is-answered", writes[i].done);
        from = world_now_ms(world) - from;
        for (unsigned i = 0; i < N; i++) {
                snprintf(key, sizeof(key), "/a/%u", i);
                n_done += writes[i].status == KV_OK;
                if ((writes[i].status != KV_OK && writes[i].status != KV_BUSY) ||
                    has_key(machine(0), key) != (writes[i].status == KV_OK))
                        world_failed(world, "a-write-is-done-or-not", "%s", kv_status_name(writes[i].status));
        }
        printf("# %u writes at once: %u done within %llu ms\n", N, n_done, (unsigned long long) from);
        if (n_done < PROPOSE_USERS_BURST + PROPOSE_USERS_PER_SECOND ||
            n_done > PROPOSE_USERS_BURST + 2 * PROPOSE_USERS_PER_SECOND)
                world_failed(world, "a-host-writes-at-its-limit", "%u in %llu ms", n_done,
                             (unsigned long long) from);
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(
                void) = { replica_stops_under_load,  write_is_not_refused_after_a_move,
                          watch_behind_large_values, watch_after_an_overflow,
                          key_ends_between_pages,    sync_without_an_answer,
                          write_behind_large_values, reads_at_once,
                          writes_above_the_limit };

        return tokens_main(argc, argv, "tests/sim/test-overload", scenarios, ELEMENTS(scenarios), NULL,
                           "hosts without a replica lose nothing under load");
}
