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

enum { SEEN_MAX = 64, WINDOW_WRITES = 1100 /* the window keeps 1000 events */ };

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

/* -- A replica that stands still -- */

static unsigned n_answering(SimMachine *m) {
        unsigned n = 0;

        for (unsigned i = 0; i < 5; i++)
                n += kv_replica_silent_ms(daemon_store(m->daemon), machine(i)->machine_id) != UINT64_MAX;
        return n;
}

static int count_node(void *userdata, const KvNode *node) {
        ++*(unsigned *) userdata;
        return 1;
}

static unsigned n_children(SimMachine *m, const char *dir) {
        const KvRange range = { .key = kv_string(dir), .recursive = true, .without_key = true };
        unsigned n = 0;

        (void) kv_local_walk(daemon_store(m->daemon), &range, count_node, &n);
        return n;
}

/* The idle session has the write after a second, under the same number: before the host moves over. */
static void a_write_while_the_replica_stands_still(void) {
        enum { WRITES = 2, PAUSE_MS = 3000, ANSWERED_MS = 1400 };
        SimMachine *m = attached();

        for (unsigned i = 0; i < WRITES; i++) {
                KeyWrite write = {};
                SimMachine *replica;
                uint64_t number, begun_ms;

                UNTIL("a-host-has-two-sessions", n_answering(m) == 2 && replica_of(m) &&
                                                         replica_of(m) != leader_with(machine(0)) &&
                                                         leader_with(machine(0)));
                replica = replica_of(m);
                begun_ms = world_now_ms(world);
                machine_suspect(replica, begun_ms, begun_ms + TOKENS_PATIENCE_MS);
                world_loop_pause(replica->loop, PAUSE_MS);
                if (kv_propose(
                            daemon_store(m->daemon),
                            &(KvCommand) { .op = KV_POST, .key = kv_string("/q"), .value = kv_string("1") },
                            on_written, &write, &number) < 0)
                        abort();
                UNTIL("a-write-is-answered", write.done);
                if (write.status != KV_OK || world_now_ms(world) - begun_ms > ANSWERED_MS)
                        world_failed(world, "a-second-replica-has-the-write", "%s after %llu ms",
                                     kv_status_name(write.status),
                                     (unsigned long long) (world_now_ms(world) - begun_ms));
                run_ms(2 * PAUSE_MS);
        }
        for (unsigned i = 0; i < 5; i++)
                UNTIL("each-write-is-there-once", n_children(machine(i), "/q") == WRITES);
        over();
}

/* -- A slice without keys -- */

static int each_of_none(void *userdata, const char *machine, int (*each)(void *userdata, KvBytes key),
                        void *each_userdata) {
        return 0;
}

static bool has_none(void *userdata, const char *machine, KvBytes key) {
        return false;
}

static uint64_t index_of_store(void *userdata) {
        return kv_index(userdata);
}

/* Only an assignment stops a unit: the absence of all keys does not. */
static void a_slice_without_keys_stops_no_unit(void) {
        SimMachine *m = attached();

        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        for (unsigned i = 0; i < 5; i++) {
                KvStore *store = daemon_store(machine(i)->daemon);

                kv_set_slices(store, &(KvSlices) { .each = each_of_none,
                                                   .has = has_none,
                                                   .index = index_of_store,
                                                   .userdata = store });
        }
        UNTIL("a-slice-is-empty", n_children(m, "/_fleet") == 0 && state_of(m).ready);
        run_ms(10000);
        if (!sim_systemd_runs(m->systemd, "a.service"))
                world_failed(world, "a-slice-without-keys-stops-no-unit", "a.service has ended");
        over();
}

static void on_key_late(void *userdata, uint64_t oldest, uint64_t current) {
        KeyWatch *w = userdata;

        w->watch = NULL;
        w->seen[0] = current;
}

/* The host has no session while more events happen than the window keeps: its watch ends, as on a
 * replica, and its slice continues by state. */
static void resume_after_window(void) {
        static const KvWatchOps ops = { .on_event = on_key_event, .on_cleared = on_key_late };
        const KvWatchOptions options = { .key = kv_string("/a"), .recursive = true };
        SimMachine *m = attached();
        KeyWatch watch = {};
        uint64_t oldest, last = 0;

        if (kv_watch(daemon_store(m->daemon), &options, &ops, &watch, &watch.watch, &oldest) < 0)
                abort();
        (void) write_key(m, "/a/b", "1");
        UNTIL("a-watch-sees-all", watch.n == 1);
        for (unsigned i = 0; i < 5; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, true);
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        for (unsigned i = 0; i < WINDOW_WRITES; i++)
                last = write_key(machine(0), "/a/c", "2");
        request_unit(machine(0), "a.service", m);
        for (unsigned i = 0; i < 5; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, false);
        UNTIL("a-watch-behind-the-window-ends", !watch.watch);
        if (watch.n != 1 || watch.seen[0] < last)
                world_failed(world, "a-watch-behind-the-window-ends", "after %zu events, at index %llu",
                             watch.n, (unsigned long long) watch.seen[0]);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        over();
}

/* -- Recovery -- */

enum { RECOVERED = 2 /* attached hosts */, FOLLOW_MS = 30000 };

static const char *const recovered_units[RECOVERED] = { "a.service", "b.service" };

typedef struct Followers {
        SimMachine *hosts[RECOVERED];
        uint64_t invocations[RECOVERED];
} Followers;

static void check_followers(const Followers *f) {
        for (unsigned i = 0; i < RECOVERED; i++)
                if (!sim_systemd_runs(f->hosts[i]->systemd, recovered_units[i]) ||
                    sim_systemd_invocation(f->hosts[i]->systemd, recovered_units[i]) != f->invocations[i])
                        world_failed(world, "running-units-are-not-touched", "%s", recovered_units[i]);
}

static bool followers_follow(const Followers *f) {
        check_followers(f);
        for (unsigned i = 0; i < RECOVERED; i++)
                if (!state_of(f->hosts[i]).ready || !slice_is_equal(f->hosts[i]))
                        return false;
        return true;
}

/* The majority is lost for good, and one replica is recovered: the attached hosts follow its new lineage. */
static void recover_with_attached(void) {
        Followers f = {};
        bool done = false;

        found(5 + RECOVERED, 5);
        for (unsigned i = 0; i < RECOVERED; i++) {
                SimMachine *m = f.hosts[i] = machine(5 + i);
                MadeToken token = make_token(machine(0), NULL);

                join_with(m, &token);
                UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
                UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP);
                request_unit(machine(0), recovered_units[i], m);
                UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, recovered_units[i]));
                f.invocations[i] = sim_systemd_invocation(m->systemd, recovered_units[i]);
        }
        run_ms(3000);
        for (unsigned i = 1; i < 5; i++)
                machine_power_cut(machine(i));
        stop_host(machine(0));
        machine_recover(machine(0));
        machine_start_daemon(machine(0));
        UNTIL("the-recovered-one-leads", leader_with(machine(0)) == machine(0));
        for (unsigned i = 0; i < 600; i++) {
                run_ms(50);
                check_followers(&f);
        }
        if (registry_adopt_now(daemon_registry(machine(0)->daemon), NULL, on_asked, &done) < 0)
                abort();
        UNTIL("a-request-is-answered", done);
        UNTIL_EACH(FOLLOW_MS, 50, "attached-hosts-follow-a-recovered-cluster", followers_follow(&f));
        run_ms(30000);
        check_followers(&f);
        request_unit(machine(0), "c.service", f.hosts[0]);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(f.hosts[0]->systemd, "c.service"));
        request_unit(machine(0), "a.service", NULL);
        UNTIL("a-destroyed-unit-stops", !sim_systemd_runs(f.hosts[0]->systemd, "a.service"));
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { attach,
                                                   keys_on_an_attached_host,
                                                   restricted_host,
                                                   move_over_each_event,
                                                   a_write_while_the_replica_stands_still,
                                                   a_slice_without_keys_stops_no_unit,
                                                   resume_after_window,
                                                   recover_with_attached };

        return tokens_main(argc, argv, "tests/sim/test-attach", scenarios, ELEMENTS(scenarios), NULL,
                           "hosts without a replica act on their slice");
}
