/* The store through its public interface: real loop, real disks in a scratch folder, sessions over loopback.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "io/loop_uv.h"
#include "kvstore/kvstore_internal.h"
#include "kvstore/raft/replica_internal.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"
#include "tests/lib/tree_file.h"
#include "tests/lib/store_inside.h"

enum { HOSTS_MAX = 3, PATIENCE_S = 240, PATIENCE_MS = 60000 };

typedef struct World World;

typedef struct Host {
        World *world;
        unsigned number;
        char address[ADDRESS_SIZE];
        char *raft_path, *tree_path;
        char boot_id[BOOT_ID_SIZE], hardware_id[HARDWARE_ID_SIZE];
        uint64_t quota; /* 0: the world's */
        Disk *disk;
        Peers *peers;
        KvStore *store;
        unsigned resets;
        uint64_t told_leader; /* with the last event of its state */
        int failed;
        char failure[256];
} Host;

struct World {
        UvLoop *uv;
        Loop *loop;
        Network *network;
        char *scratch;
        Host hosts[HOSTS_MAX];
        unsigned n_closing;
        uint64_t deadline_ms;
        unsigned checkpoint_entries;
        uint64_t quota;
};

/* -- Running the loop until something is true -- */

typedef struct Waiting {
        World *world;
        bool (*is_true)(void *userdata);
        void *userdata;
        Timer timer;
        uint64_t deadline_ms;
        bool was_true;
} Waiting;

static void look(void *userdata) {
        Waiting *w = userdata;

        w->was_true = w->is_true(w->userdata);
        if (w->was_true || loop_now_ms(w->world->loop) > w->deadline_ms)
                loop_uv_stop(w->world->uv);
        else
                assert_int_equal(timer_start(&w->timer, w->world->loop, 1), 0);
}

static void run_until(World *world, bool (*is_true)(void *userdata), void *userdata) {
        Waiting w = { .world = world, .is_true = is_true, .userdata = userdata };

        w.timer = (Timer) { .fire = look, .userdata = &w };
        w.deadline_ms = loop_now_ms(world->loop) + PATIENCE_MS;
        assert_int_equal(timer_start(&w.timer, world->loop, 0), 0);
        assert_true(loop_uv_run(world->uv) >= 0);
        assert_true(w.was_true);
}

/* -- What is made to fail, or watched, inside a replica -- */

static bool log_is_unfit, copy_is_corrupt; /* once */
static const RaftCore *without_ticks;
static bool no_ticks;        /* no core wants any */
static unsigned n_to_itself; /* messages of a replica */

int __real_raft_core_log_fits(const RaftCoreStart *start);
int __wrap_raft_core_log_fits(const RaftCoreStart *start);
int __real_data_dir_copy(const DataDir *folder, Tree *tree, Checkpoint *ret, Error *err);
int __wrap_data_dir_copy(const DataDir *folder, Tree *tree, Checkpoint *ret, Error *err);
uint64_t __real_raft_core_timeout_ms(const RaftCore *core);
uint64_t __wrap_raft_core_timeout_ms(const RaftCore *core);
void __real_replica_send_message(Replica *p, uint64_t to, const RaftMessage *message);
void __wrap_replica_send_message(Replica *p, uint64_t to, const RaftMessage *message);

int __wrap_raft_core_log_fits(const RaftCoreStart *start) {
        bool unfit = log_is_unfit;

        log_is_unfit = false;
        return unfit ? 0 : __real_raft_core_log_fits(start);
}

int __wrap_data_dir_copy(const DataDir *folder, Tree *tree, Checkpoint *ret, Error *err) {
        bool corrupt = copy_is_corrupt;

        copy_is_corrupt = false;
        return corrupt ? error_set(err, -EUCLEAN, "its copy is corrupt") :
                         __real_data_dir_copy(folder, tree, ret, err);
}

uint64_t __wrap_raft_core_timeout_ms(const RaftCore *core) {
        return core == without_ticks || no_ticks ? UINT64_MAX : __real_raft_core_timeout_ms(core);
}

void __wrap_replica_send_message(Replica *p, uint64_t to, const RaftMessage *message) {
        n_to_itself += to == p->identity.raft_id;
        __real_replica_send_message(p, to, message);
}

/* -- Hosts -- */

static void on_reset(void *userdata) {
        Host *h = userdata;

        h->resets++;
}

static void on_state(void *userdata) {
        Host *h = userdata;
        KvState state;

        kv_state(h->store, &state);
        h->told_leader = state.leader_id;
}

static void on_failed(void *userdata, int error, const char *reason) {
        Host *h = userdata;

        h->failed = error;
        snprintf(h->failure, sizeof(h->failure), "%s", reason);
}

static void machine_id_of(const Host *h, char ret[33]) {
        snprintf(ret, 33, "%032x", h->number + 0xa0);
}

static void options_of(Host *h, bool join, KvOptions *ret) {
        *ret = (KvOptions) {
                .tree_path = h->tree_path,
                .log_disk = h->disk,
                .peers = h->peers,
                .join = join,
                .quota = h->quota ? h->quota : h->world->quota,
                .checkpoint_entries = h->world->checkpoint_entries,
                .checkpoint_kept = h->world->checkpoint_entries ? 1 : 0,
                .compare_every = 5,
                .events = { .on_state = on_state,
                            .on_reset = on_reset,
                            .on_failed = on_failed,
                            .userdata = h },
        };
        machine_id_of(h, ret->machine_id);
        memcpy(ret->boot_id, h->boot_id, sizeof(ret->boot_id));
        memcpy(ret->hardware_id, h->hardware_id, sizeof(ret->hardware_id));
        snprintf(ret->address, sizeof(ret->address), "%s", h->address);
}

static void open_peers(Host *h) {
        PeersOptions options = { .self = { .nonce = random_u64(loop_random(h->world->loop)) } };
        PeerAddress known[HOSTS_MAX] = {};
        size_t n = 0;

        machine_id_of(h, options.self.machine_id);
        memcpy(options.self.boot_id, h->boot_id, sizeof(options.self.boot_id));
        snprintf(options.self.address, sizeof(options.self.address), "%s", h->address);
        assert_int_equal(peers_new(&h->peers, h->world->loop, h->world->network, &options), 0);
        assert_int_equal(peers_listen(h->peers, h->address, NULL), 0);
        for (unsigned i = 0; i < HOSTS_MAX; i++)
                if (i != h->number)
                        snprintf(known[n++].address, sizeof(known[0].address), "%s",
                                 h->world->hosts[i].address);
        assert_int_equal(peers_set_known(h->peers, known, n), 0);
}

static int try_open(Host *h, bool join, Error *err) {
        KvOptions options;

        if (!h->disk)
                assert_int_equal(disk_real_open(h->raft_path, &h->disk), 0);
        options_of(h, join, &options);
        return kv_open(&h->store, h->world->loop, &options, err);
}

static Host *open_host(World *world, unsigned number, bool join) {
        Host *h = &world->hosts[number];
        Error err = {};
        int r;

        if (world->network)
                open_peers(h);
        r = try_open(h, join, &err);
        if (r < 0)
                fail_msg("cannot open host %u: %s", number, error_text(&err, r));
        return h;
}

static void on_store_closed(void *userdata) {
        Host *h = userdata;

        h->store = NULL;
}

static void on_peers_closed(void *userdata) {
        Host *h = userdata;

        h->peers = NULL;
}

static bool store_is_closed(void *userdata) {
        return !((Host *) userdata)->store;
}

static bool peers_are_closed(void *userdata) {
        return !((Host *) userdata)->peers;
}

static void close_host(Host *h) {
        if (h->store) {
                kv_close(h->store, on_store_closed, h);
                run_until(h->world, store_is_closed, h);
        }
        if (h->peers) {
                peers_close(h->peers, "stop", on_peers_closed, h);
                run_until(h->world, peers_are_closed, h);
        }
        h->disk = disk_real_close(h->disk);
}

static Host *reopen_host(Host *h, bool join) {
        close_host(h);
        return open_host(h->world, h->number, join);
}

static int make_world(void **state, bool with_network) {
        World *world = NEW0(World, 1);

        assert_non_null(world);
        assert_int_equal(loop_uv_new(&world->uv), 0);
        world->loop = loop_uv_base(world->uv);
        world->scratch = scratch_new();
        if (with_network)
                assert_int_equal(net_uv_new(&world->network, world->loop), 0);
        for (unsigned i = 0; i < HOSTS_MAX; i++) {
                Host *h = &world->hosts[i];
                char name[16];

                h->world = world;
                h->number = i;
                snprintf(h->boot_id, sizeof(h->boot_id), "%032x", 1);
                snprintf(name, sizeof(name), "raft%u", i);
                h->raft_path = scratch_path(world->scratch, name);
                snprintf(name, sizeof(name), "tree%u", i);
                h->tree_path = scratch_path(world->scratch, name);
                if (with_network)
                        snprintf(h->address, sizeof(h->address), "127.0.0.1:%d", scratch_port());
        }
        log_is_unfit = copy_is_corrupt = false;
        without_ticks = NULL;
        no_ticks = false;
        alarm(PATIENCE_S);
        *state = world;
        return 0;
}

static int one_host(void **state) {
        return make_world(state, false);
}

static int three_hosts(void **state) {
        return make_world(state, true);
}

static int end_world(void **state) {
        World *world = *state;

        for (unsigned i = 0; i < HOSTS_MAX; i++) {
                close_host(&world->hosts[i]);
                free(world->hosts[i].raft_path);
                free(world->hosts[i].tree_path);
        }
        if (world->network)
                net_uv_free(world->network);
        loop_uv_free(world->uv);
        scratch_free(world->scratch);
        free(world);
        alarm(0);
        return 0;
}

/* -- Asking -- */

typedef struct Answer {
        bool came;
        KvStatus status;
        uint64_t index;
        char cause[128];
} Answer;

static void on_answer(void *userdata, const KvResult *result) {
        Answer *a = userdata;

        assert_false(a->came);
        a->came = true;
        a->status = result->status;
        a->index = result->index;
        snprintf(a->cause, sizeof(a->cause), "%.*s", (int) result->cause.size,
                 (const char *) result->cause.data);
}

static bool answer_came(void *userdata) {
        return ((Answer *) userdata)->came;
}

static Answer ask(Host *h, const KvCommand *cmd) {
        Answer a = {};

        assert_int_equal(kv_propose(h->store, cmd, on_answer, &a, NULL), 0);
        assert_false(a.came);
        run_until(h->world, answer_came, &a);
        return a;
}

static Answer put(Host *h, const char *key, const char *value) {
        return ask(h, &SET(key, value));
}

static void put_ok(Host *h, const char *key, const char *value) {
        Answer a = put(h, key, value);

        if (a.status != KV_OK)
                fail_msg("host %u: %s: %s (%s)", h->number, key, kv_status_name(a.status), a.cause);
}

/* What is at 'key', or "-"; the caller does not free. */
static const char *value_at(Host *h, const char *key) {
        static char value[64];
        TreeTxn *txn;
        KvNode node;

        assert_int_equal(kv_read(h->store, &txn), 0);
        if (tree_get(txn, kv_string(key), &node) < 0)
                snprintf(value, sizeof(value), "-");
        else
                snprintf(value, sizeof(value), "%.*s", (int) node.value.size, (const char *) node.value.data);
        tree_abort(txn);
        return value;
}

typedef struct Synced {
        bool came;
        KvStatus status;
} Synced;

static void on_synced(void *userdata, KvStatus status) {
        Synced *s = userdata;

        s->came = true;
        s->status = status;
}

static bool sync_came(void *userdata) {
        return ((Synced *) userdata)->came;
}

static KvStatus synced(Host *h) {
        Synced s = {};
        KvSync sync = { .done = on_synced, .userdata = &s };

        kv_sync(h->store, &sync);
        assert_false(s.came);
        run_until(h->world, sync_came, &s);
        return s.status;
}

static KvState state_of(const Host *h) {
        KvState state;

        kv_state(h->store, &state);
        return state;
}

/* -- One host -- */

static bool is_led(void *userdata) {
        return state_of(userdata).ready;
}

static void a_fresh_host_is_a_cluster_of_one_that_takes_writes_at_once(void **state) {
        Host *h = open_host(*state, 0, false);
        KvState s;

        put_ok(h, "/a", "1");
        assert_string_equal(value_at(h, "/a"), "1");
        assert_int_equal(synced(h), KV_OK);

        s = state_of(h);
        assert_int_equal(s.role, KV_ROLE_LEADER);
        assert_true(s.ready);
        assert_true(s.cluster_id != 0 && s.lineage != 0 && s.raft_id == 1);
        assert_int_equal(s.n_voters, 1);
        assert_string_equal(s.problem, "");
        assert_true(s.cluster_ms > 0);
        assert_int_equal(s.term, 2); /* the log begins with 1 */
}

static void a_refused_command_is_an_answer_and_changes_nothing(void **state) {
        Host *h = open_host(*state, 0, false);
        Answer a;

        put_ok(h, "/a", "1");
        a = ask(h, &COMMAND(KV_CREATE, "/a", .value = kv_string("2")));
        assert_int_equal(a.status, KV_EXISTS);
        assert_string_equal(value_at(h, "/a"), "1");

        a = ask(h, &SET("/_fleet/x", "2"));
        assert_int_equal(a.status, KV_FORBIDDEN);
}

static void a_command_larger_than_an_entry_is_refused_before_the_log(void **state) {
        Host *h = open_host(*state, 0, false);
        static char value[300 * 1024];
        Answer a;

        memset(value, 'x', sizeof(value) - 1);
        put_ok(h, "/a", "1");
        a = put(h, "/big", value);
        assert_int_equal(a.status, KV_TOO_LARGE);
        value[200 * 1024] = 0;
        put_ok(h, "/big", value);
}

/* Each value may be as large; what the log takes must be what those who apply it take. */
static void a_comparison_of_any_size_is_rejected_or_applied(void **state) {
        Host *h = open_host(*state, 0, false);
        static char value[KV_VALUE_MAX];
        unsigned n_refused = 0, n_applied = 0;

        memset(value, 'x', sizeof(value));
        put_ok(h, "/a", "1");
        for (size_t size = KV_COMMAND_MAX - 512; size < KV_BATCH_MAX + 512; size += 64) {
                KvCommand cmd = COMMAND(KV_SET, "/a", .value = { value, size / 2 }, .has_prev_value = true,
                                        .prev_value = { value, size - size / 2 });
                Answer a = ask(h, &cmd);

                n_refused += a.status == KV_TOO_LARGE;
                n_applied += a.status == KV_COMPARE_FAILED;
                assert_int_equal(h->failed, 0);
        }
        assert_true(n_refused > 0 && n_applied > 0);
        put_ok(h, "/a", "2");
}

static bool seen(void *userdata) {
        return *(unsigned *) userdata >= 2;
}

static void on_watched(void *userdata, KvWatchEvent *event) {
        (*(unsigned *) userdata)++;
        assert_true(kv_bytes_equal(event->event.node.key, kv_string("/w")));
}

static void a_watcher_is_notified_of_each_change_after_it_can_be_read(void **state) {
        Host *h = open_host(*state, 0, false);
        KvWatchOps events = { .on_event = on_watched };
        KvWatchOptions options = { .key = kv_string("/w") };
        unsigned n = 0;
        uint64_t oldest;
        KvWatch *w;

        assert_int_equal(kv_watch(h->store, &options, &events, &n, &w, &oldest), 0);
        put_ok(h, "/w", "1");
        put_ok(h, "/other", "1");
        put_ok(h, "/w", "2");
        run_until(*state, seen, &n);
        assert_int_equal(n, 2);
        kv_watch_close(w);
}

static void many_proposals_of_one_turn_are_answered_in_order(void **state) {
        Host *h = open_host(*state, 0, false);
        enum { N = 3000 };
        static Answer answers[N];
        char key[32];

        memset(answers, 0, sizeof(answers));
        for (unsigned i = 0; i < N; i++) {
                snprintf(key, sizeof(key), "/many/%u", i);
                assert_int_equal(kv_propose(h->store, &SET(key, "v"), on_answer, &answers[i], NULL), 0);
        }
        run_until(*state, answer_came, &answers[N - 1]);
        for (unsigned i = 0; i < N; i++) {
                assert_true(answers[i].came);
                assert_int_equal(answers[i].status, KV_OK);
                assert_true(i == 0 || answers[i].index == answers[i - 1].index + 1);
        }
}

static void a_full_queue_says_busy(void **state) {
        Host *h = open_host(*state, 0, false);
        enum { N = 4200 };
        static Answer answers[N];
        unsigned n_busy = 0;

        memset(answers, 0, sizeof(answers));
        for (unsigned i = 0; i < N; i++)
                assert_int_equal(kv_propose(h->store, &SET("/b", "v"), on_answer, &answers[i], NULL), 0);
        for (unsigned i = 0; i < N; i++) {
                run_until(*state, answer_came, &answers[i]);
                n_busy += answers[i].status == KV_BUSY;
        }
        assert_true(n_busy > 0 && n_busy < N - 4000);
}

static bool is_gone(void *userdata) {
        return streq(value_at(userdata, "/t"), "-");
}

static void expired_keys_are_removed_without_a_request(void **state) {
        Host *h = open_host(*state, 0, false);

        put_ok(h, "/stays", "1");
        assert_int_equal(ask(h, &SET("/t", "1", TTL(50))).status, KV_OK);
        assert_string_equal(value_at(h, "/t"), "1");
        run_until(*state, is_gone, h);
        assert_string_equal(value_at(h, "/stays"), "1");
}

static void a_restart_keeps_all_and_counts_on(void **state) {
        Host *h = open_host(*state, 0, false);
        uint64_t index, cluster_id, term;

        put_ok(h, "/a", "1");
        put_ok(h, "/b", "2");
        index = kv_index(h->store);
        cluster_id = state_of(h).cluster_id;
        term = state_of(h).term;

        h = reopen_host(h, false);
        assert_string_equal(value_at(h, "/a"), "1");
        assert_string_equal(value_at(h, "/b"), "2");
        assert_int_equal(kv_index(h->store), index);
        put_ok(h, "/c", "3");
        assert_int_equal(kv_index(h->store), index + 1);
        assert_true(state_of(h).cluster_id == cluster_id);
        assert_true(state_of(h).term > term);
}

static void put_many(Host *h, unsigned n) {
        char key[32];

        for (unsigned i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "/many/%u", i);
                put_ok(h, key,
                       "a value of some length, so that the log grows by more than a little each time");
        }
}

static void check_many(Host *h, unsigned n) {
        char key[32];

        for (unsigned i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "/many/%u", i);
                assert_string_not_equal(value_at(h, key), "-");
        }
}

static bool has_checkpoint(void *userdata) {
        _cleanup_free_ char *file = scratch_path(((Host *) userdata)->tree_path, "checkpoint/data.mdb");

        return access(file, R_OK) == 0;
}

static void without_its_live_tree_a_host_rebuilds_it_from_the_log(void **state) {
        Host *h = open_host(*state, 0, false);
        uint64_t hash, again, applied;
        int fd;

        put_many(h, 20);
        assert_int_equal(store_hash(h->store, &hash, &applied), 0);
        close_host(h);
        fd = open_dir(h->tree_path, 0700);
        assert_int_equal(remove_tree_at(fd, "live"), 0);
        close(fd);

        h = open_host(*state, 0, false);
        put_ok(h, "/many/0", "a value of some length, so that the log grows by more than a little each time");
        check_many(h, 20);
        h = reopen_host(h, false);
        check_many(h, 20);
        assert_int_equal(store_hash(h->store, &again, &applied), 0);
        assert_true(again != hash); /* one more write */
}

static void after_a_reboot_the_checkpoint_and_the_log_behind_it_make_the_same_tree(void **state) {
        World *world = *state;
        uint64_t hash, again, applied;
        Host *h;

        world->checkpoint_entries = 50;
        h = open_host(world, 0, false);
        put_many(h, 200);
        run_until(world, has_checkpoint, h);
        put_many(h, 70);
        assert_int_equal(store_hash(h->store, &hash, &applied), 0);
        close_host(h);

        snprintf(h->boot_id, sizeof(h->boot_id), "%032x", 2);
        h = open_host(world, 0, false);
        assert_int_equal(synced(h), KV_OK);
        check_many(h, 200);
        assert_int_equal(store_hash(h->store, &again, &applied), 0);
        assert_true(again == hash);
}

/* -- A log that moves much more than it holds -- */

enum { LARGE_SIZE = 64 * 1024, N_LARGE = 20, N_REFRESHES = 60, N_HEAVY = 15 };

static void put_large(Host *h) {
        static char value[LARGE_SIZE];
        char key[32];

        memset(value, 'x', sizeof(value) - 1);
        for (unsigned i = 0; i < N_LARGE; i++) {
                snprintf(key, sizeof(key), "/large/%u", i);
                put_ok(h, key, value);
        }
}

/* A refresh does not carry the value that it moves: of an entry of 1 KB comes more than 1 MB of events. */
static void refresh_large(Host *h, unsigned n) {
        KvCommand writes[N_LARGE], txn = { .op = KV_TXN, .writes = writes, .n_writes = N_LARGE };
        char keys[N_LARGE][32];

        for (unsigned i = 0; i < N_LARGE; i++) {
                snprintf(keys[i], sizeof(keys[i]), "/large/%u", i);
                writes[i] = COMMAND(KV_UPDATE, keys[i], .refresh = true, TTL(1000000));
        }
        for (unsigned i = 0; i < n; i++)
                assert_int_equal(ask(h, &txn).status, KV_OK);
}

/* What one entry moves, and what a slice may before it. */
static void assert_held_little(const Host *h) {
        assert_true(h->store->replica->applying.held_max < 8 * 1024 * 1024 + 6 * N_LARGE * LARGE_SIZE);
}

/* Costs of the entries that one host applies, by turns of the loop. */
static struct {
        Applied *applied; /* of that host */
        const Loop *loop;
        uint64_t turn, cost, most; /* 'cost' of this turn, before its last entry; 'most' of any turn, without
                                      the last entry */
        unsigned n_heavy;          /* entries above COST_HEAVY */
} turns;

int __real_apply_batch(TreeTxn *txn, uint64_t index, uint64_t term, const void *bytes, size_t size,
                       Applied *applied);
int __wrap_apply_batch(TreeTxn *txn, uint64_t index, uint64_t term, const void *bytes, size_t size,
                       Applied *applied);
int __wrap_apply_batch(TreeTxn *txn, uint64_t index, uint64_t term, const void *bytes, size_t size,
                       Applied *applied) {
        int r = __real_apply_batch(txn, index, term, bytes, size, applied);
        uint64_t turn;

        if (!applied || applied != turns.applied)
                return r;
        turn = loop_turns(turns.loop)->n;
        turns.cost = turn == turns.turn ? turns.cost : 0;
        turns.turn = turn;
        turns.most = MAX(turns.most, turns.cost);
        turns.cost += applied->cost.total;
        turns.n_heavy += applied->cost.total > COST_HEAVY;
        return r;
}

/* From now on, of a host that has just been opened. */
static void count_turns(Host *h) {
        memset(&turns, 0, sizeof(turns));
        turns.applied = replica_applied(h->store->replica);
        turns.loop = h->world->loop;
}

/* A turn ends with the entry that exceeds its share. */
static void assert_heavy_in_turns(unsigned n) {
        assert_int_equal(turns.n_heavy, n);
        assert_in_range(turns.most, 0, COST_SLICE);
}

static void raise_level(Host *h) {
        assert_int_equal(ask(h, &COMMAND(KV_RAISE, "/", .internal = true, .limit = KV_LEVEL_MAX)).status,
                         KV_OK);
}

/* -- The history -- */

static int print_row(void *userdata, const KvHistoryRow *row) {
        text_printf(userdata, "%.*s %llu..%llu x%llu, ", (int) row->body.size, (const char *) row->body.data,
                    (unsigned long long) row->first_ms, (unsigned long long) row->last_ms,
                    (unsigned long long) row->count);
        return 1;
}

static int stop_at_row(void *userdata, const KvHistoryRow *row) {
        *(uint64_t *) userdata = row->index;
        return 0;
}

static void assert_history(Host *h, const char *expected) {
        _cleanup_text_ Text rows = {};

        text_append(&rows, "");
        assert_int_equal(kv_local_history(h->store, 0, false, print_row, &rows), 0);
        assert_string_equal(rows.chars, expected);
}

static uint64_t put_noted(Host *h, uint64_t wall_ms, const char *body) {
        Answer a = ask(h,
                       &COMMAND(KV_SET, "/_fleet/a", .internal = true, .note = { wall_ms, kv_string(body) }));

        assert_int_equal(a.status, KV_OK);
        return a.index;
}

static void the_history_begins_with_its_level_and_is_part_of_the_tree(void **state) {
        World *world = *state;
        uint64_t first, second, at = 0;
        Host *h;

        world->checkpoint_entries = 50;
        h = open_host(world, 0, false);
        put_noted(h, 5, "before");
        assert_history(h, "");
        raise_level(h);
        put_noted(h, 10, "started");
        first = put_noted(h, 25, "started");
        second = put_noted(h, 30, "failed");
        assert_history(h, "started 10..25 x2, failed 30..30 x1, ");
        assert_int_equal(kv_local_history(h->store, 0, false, stop_at_row, &at), 0);
        assert_int_equal(at, first);
        assert_int_equal(kv_local_history(h->store, 0, true, stop_at_row, &at), 0);
        assert_int_equal(at, second);
        assert_int_equal(kv_local_history(h->store, second, true, stop_at_row, &at), 0);
        assert_int_equal(at, first);
        assert_int_equal(kv_local_history(h->store, second, false, stop_at_row, (at = 0, &at)), 0);
        assert_int_equal(at, 0);

        put_many(h, 200);
        run_until(world, has_checkpoint, h);
        put_noted(h, 40, "failed");
        close_host(h);
        snprintf(h->boot_id, sizeof(h->boot_id), "%032x", 2); /* rebuilt from the checkpoint and the log */
        h = open_host(world, 0, false);
        assert_int_equal(synced(h), KV_OK);
        assert_history(h, "started 10..25 x2, failed 30..40 x2, ");
        put_noted(h, 50, "started");
        assert_history(h, "failed 30..40 x2, started 10..50 x3, ");
}

static uint64_t oldest_event(Host *h) {
        uint64_t oldest = 0;
        KvWatch *w;

        assert_int_equal(kv_watch(h->store, &(KvWatchOptions) { .key = kv_string("/"), .since = 1 },
                                  &(KvWatchOps) {}, NULL, &w, &oldest),
                         -ESTALE);
        return oldest;
}

static void a_log_that_is_applied_again_at_a_start_takes_no_more_memory_than_service(void **state) {
        Host *h = open_host(*state, 0, false);
        uint64_t index, oldest;

        put_large(h);
        refresh_large(h, N_REFRESHES);
        put_many(h, TREE_WINDOW_EVENTS);
        assert_held_little(h);
        index = kv_index(h->store);
        oldest = oldest_event(h);
        close_host(h);

        snprintf(h->boot_id, sizeof(h->boot_id), "%032x", 2);
        h = open_host(*state, 0, false);
        assert_int_equal(kv_index(h->store), index);
        assert_true(h->store->replica->applying.held_max >
                    8 * 1024 * 1024); /* a slice ends with the entry that exceeds this */
        assert_held_little(h);
        assert_int_equal(oldest_event(h), oldest); /* who watched finds his place */
        check_many(h, TREE_WINDOW_EVENTS);
}

static bool is_whole_again(void *userdata) {
        const Host *h = userdata;

        return h->failed < 0 && state_of(h).ready && replica_live_tree(h->store->replica) &&
               !replica_is_rebuilding(h->store->replica);
}

/* All that a host alone does follows from what has happened: nothing waits for the next tick of Raft. */
static void a_host_alone_waits_for_no_tick(void **state) {
        Host *h;

        no_ticks = true;
        h = open_host(*state, 0, false);
        run_until(*state, is_led, h);
        for (unsigned i = 0; i < 5; i++)
                put_ok(h, "/a", "1");
        assert_int_equal(synced(h), KV_OK);
}

static bool copies_nothing(void *userdata) {
        const Replica *p = ((Host *) userdata)->store->replica;

        return !p->checkpoints.copying && !p->checkpoints.dropping;
}

/* A copy costs the whole tree: entries alone are not enough. */
static void a_checkpoint_is_due_by_entries_of_an_eighth_of_the_tree_or_by_bytes(void **state) {
        Host *h = open_host(*state, 0, false);
        Replica *p = h->store->replica;
        uint64_t entries = p->options.checkpoint_entries, bytes = p->options.checkpoint_bytes, eighth;

        put_ok(h, "/a", "1");
        eighth = tree_file_size(p->trees.live) / 8;
        {
                const struct {
                        uint64_t entries, bytes;
                        bool is_due;
                } cases[] = { { entries, eighth - 1, false },
                              { entries - 1, eighth, false },
                              { entries, eighth, true },
                              { 0, bytes - 1, false },
                              { 0, bytes, true } };

                for (size_t i = 0; i < ELEMENTS(cases); i++) {
                        p->checkpoints.entries_since = cases[i].entries;
                        p->checkpoints.bytes_since = cases[i].bytes;
                        replica_flush_notifications(p);
                        if (p->checkpoints.copying != cases[i].is_due)
                                fail_msg("case %zu", i);
                        run_until(*state, copies_nothing, h);
                        assert_true(!cases[i].is_due || p->checkpoints.entries_since == 0);
                }
        }
}

static unsigned n_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd"); /* <dirent.h> */
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static void a_new_checkpoint_closes_the_one_before(void **state) {
        Host *h = open_host(*state, 0, false);
        unsigned n = 0;

        put_ok(h, "/a", "1");
        for (unsigned i = 0; i < 4; i++) {
                replica_checkpoint(h->store->replica);
                assert_true(h->store->replica->checkpoints.copying);
                run_until(*state, copies_nothing, h);
                assert_true(replica_data_dir(h->store->replica)->checkpoint.fd >= 0);
                if (i == 0)
                        n = n_descriptors();
                assert_int_equal(n_descriptors(), n);
        }
}

enum { MEMORY = 64 * 1024, MEMORY_SLACK = 1024 }; /* what one entry of these tests takes, at most */

static void entries_leave_memory_when_they_are_too_many_and_half_of_them_stays(void **state) {
        Host *h = open_host(*state, 0, false);
        uint64_t bytes, before = 0;
        char value[600];
        unsigned n = 0;

        memset(value, 'x', sizeof(value) - 1);
        value[sizeof(value) - 1] = 0;
        h->store->replica->options.memory_bytes = MEMORY;
        for (unsigned i = 0; i < 280; i++) {
                put_ok(h, "/a", value);
                bytes = raft_core_entries_bytes(replica_core(h->store->replica));
                assert_true(bytes <= MEMORY + MEMORY_SLACK);
                if (bytes < before) {
                        assert_in_range(before, MEMORY - 2 * MEMORY_SLACK, MEMORY + MEMORY_SLACK);
                        assert_in_range(bytes, MEMORY / 2 - 2 * MEMORY_SLACK, MEMORY / 2 + MEMORY_SLACK);
                        n++;
                }
                before = bytes;
        }
        assert_true(n >= 3);
}

/* Such entries cost nothing, and no turn is used up by them. */
static struct {
        Replica *replica;
        uint64_t applied, most;
} slices;

void __real_applied_commit(Applied *a);
void __wrap_applied_commit(Applied *a);
void __wrap_applied_commit(Applied *a) {
        uint64_t applied;
        TreeMeta meta;

        __real_applied_commit(a);
        if (!slices.replica)
                return;
        assert_int_equal(replica_tree_meta(slices.replica, slices.replica->trees.live, &meta, NULL), 0);
        applied = meta.applied;
        slices.most = MAX(slices.most, applied - MIN(applied, slices.applied));
        slices.applied = applied;
}

static bool has_applied_all(void *userdata) {
        const RaftCore *core = replica_core(((Host *) userdata)->store->replica);

        return core && raft_core_applied_index(core) == raft_core_last_index(core);
}

static void entries_that_are_applied_again_come_in_slices_of_256(void **state) {
        Host *h = open_host(*state, 0, false);
        Replica *p = h->store->replica;
        _cleanup_writer_ Writer empty = {};
        uint64_t index, term;
        KvBatch batch;
        int r;

        kv_batch_begin(&batch, &empty, &(KvBatchHead) { .level = KV_LEVEL_FIRST });
        run_until(*state, is_led, h);
        for (unsigned n = 0; n < 600;) {
                r = replica_submit(p, empty.bytes, empty.size, &index, &term);
                n += r == 0;
                if (r == -EAGAIN)
                        run_until(*state, has_applied_all, h);
                else
                        assert_int_equal(r, 0);
        }
        run_until(*state, has_applied_all, h);
        slices.replica = p;
        slices.applied = raft_core_applied_index(p->core);
        slices.most = 0;
        data_dir_distrust(&p->data_dir);
        replica_fail(p, -EIO, "this test");
        run_until(*state, is_whole_again, h);
        assert_int_equal(slices.most, 256);
        slices.replica = NULL;
}

static void a_tree_that_is_rebuilt_in_service_takes_one_heavy_entry_a_turn(void **state) {
        Host *h = open_host(*state, 0, false);
        uint64_t hash, again, applied;

        raise_level(h);
        put_large(h);
        refresh_large(h, N_HEAVY);
        assert_int_equal(store_hash(h->store, &hash, &applied), 0);
        count_turns(h);
        no_ticks = true;
        data_dir_distrust(replica_data_dir(h->store->replica));
        replica_fail(h->store->replica, -EIO, "this test");
        run_until(*state, is_whole_again, h);
        assert_int_equal(synced(h), KV_OK);
        assert_heavy_in_turns(N_HEAVY);
        assert_int_equal(store_hash(h->store, &again, &applied), 0);
        assert_true(again == hash);
        assert_int_equal(h->resets, 0); /* it says what it said before */
}

static bool copies(void *userdata) {
        const Host *h = userdata;

        return h->store->replica->checkpoints.copying;
}

static void a_copy_that_is_under_way_does_not_delay_the_end(void **state) {
        World *world = *state;
        _cleanup_free_ char *value = malloc(KV_VALUE_MAX);
        KvCommand cmd = { .op = KV_SET, .value = { value, 200 * 1024 } };
        char key[32];
        Host *h;

        memset(value, 'x', KV_VALUE_MAX);
        h = open_host(world, 0, false);
        for (unsigned i = 0; i < 100; i++) {
                snprintf(key, sizeof(key), "/large/%u", i);
                cmd.key = kv_string(key);
                assert_int_equal(ask(h, &cmd).status, KV_OK);
        }
        assert_false(has_checkpoint(h));
        replica_checkpoint(h->store->replica);
        run_until(world, copies, h);
        close_host(h);
        assert_false(has_checkpoint(h)); /* 20 MB of it were still to come */

        h = open_host(world, 0, false);
        assert_int_equal(synced(h), KV_OK);
        assert_string_not_equal(value_at(h, "/large/99"), "-");
        replica_checkpoint(h->store->replica);
        run_until(world, has_checkpoint, h);
}

static ino_t live_inode(const Host *h) {
        _cleanup_free_ char *file = scratch_path(h->tree_path, "live/data.mdb");
        struct stat st;

        assert_int_equal(stat(file, &st), 0);
        return st.st_ino;
}

static int hold_live(const Host *h) {
        _cleanup_free_ char *file = scratch_path(h->tree_path, "live/data.mdb");
        int fd = open(file, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

/* Nothing is in flight when the last write was answered: so this is what a kill leaves. */
static void crash_host(Host *h) {
        h->store = kv_crash(h->store);
        h->disk = disk_real_close(h->disk);
}

static void a_killed_daemon_finds_its_tree_and_after_three_kills_it_is_rebuilt(void **state) {
        World *world = *state;
        Host *h = open_host(world, 0, false);
        ino_t first = live_inode(h);
        char key[16];
        int held;

        held = hold_live(h); /* keeps the inode's number from being given again */
        for (unsigned i = 0; i < 4; i++) {
                snprintf(key, sizeof(key), "/a%u", i);
                put_ok(h, key, "1");
                assert_true((live_inode(h) == first) == (i < 3));
                crash_host(h);
                h = open_host(world, 0, false);
        }
        for (unsigned i = 0; i < 4; i++) {
                snprintf(key, sizeof(key), "/a%u", i);
                assert_int_equal(synced(h), KV_OK);
                assert_string_equal(value_at(h, key), "1");
        }
        close(held);
}

/* Edits 'trusted' in the folder of a host that is closed: only 'line', a beginning, goes. */
static void cut_marker_line(const Host *h, const char *line) {
        _cleanup_close_ int fd = open_dir(h->tree_path, 0700);
        _cleanup_free_ char *text = NULL;
        char *begin, *end;

        assert_int_equal(read_file_at(fd, "trusted", 512, &text, NULL), 0);
        begin = strstr(text, line);
        assert_non_null(begin);
        end = strchr(begin, '\n') + 1;
        memmove(begin, end, strlen(end) + 1);
        assert_int_equal(write_file_at(fd, "trusted", text, strlen(text), 0600), 0);
}

static void the_marker_of_an_older_version_is_taken_and_an_older_version_takes_ours(void **state) {
        Host *h = open_host(*state, 0, false);
        _cleanup_close_ int fd = open_dir(h->tree_path, 0700);
        _cleanup_free_ char *text = NULL;
        unsigned opens = 1;
        int device_end = 0;
        unsigned long long device, inode, ms = 0;
        uint64_t now_ms;
        int held = hold_live(h);
        ino_t live = live_inode(h);

        put_ok(h, "/a", "1");
        now_ms = kv_cluster_ms(h->store);
        close_host(h);

        /* As an older version reads it: the lines before "opens" as they always were, the number, and the
         * end. */
        assert_int_equal(read_file_at(fd, "trusted", 512, &text, NULL), 0);
        assert_int_equal(sscanf(text, "1\nboot %*32s\nmachine %*32s\ndevice %llu\ninode %llu\n%n", &device,
                                &inode, &device_end),
                         2);
        assert_int_equal(sscanf(text + device_end, "opens %9u\ntime %llu\n", &opens, &ms), 2);
        assert_int_equal(opens, 0);
        assert_true(ms >= now_ms);

        cut_marker_line(h, "time ");
        h = open_host(*state, 0, false);
        assert_int_equal(live_inode(h), live); /* trusted, and not rebuilt */
        assert_string_equal(value_at(h, "/a"), "1");
        close(held);
}

static uint64_t live_size(const Host *h) {
        _cleanup_free_ char *file = scratch_path(h->tree_path, "live/data.mdb");
        struct stat st;

        assert_int_equal(stat(file, &st), 0);
        return (uint64_t) st.st_size;
}

static void the_file_of_the_keys_shrinks_at_a_start_once_most_of_it_is_free(void **state) {
        Host *h = open_host(*state, 0, false);
        uint64_t hash = 0, again = 0, applied = 0, applied_again = 0;
        int held = hold_live(h);
        ino_t live = live_inode(h);

        put_ok(h, "/stays", "1");
        assert_int_equal(store_hash(h->store, &hash, &applied), 0);
        close_host(h);
        tree_file_swell(h->tree_path, 40, true);
        assert_true(live_size(h) > 4 * 1024 * 1024);
        h = open_host(*state, 0, false);
        assert_int_equal(live_inode(h), live); /* much of it is in use */
        close_host(h);

        tree_file_swell(h->tree_path, 40, false);
        assert_true(live_size(h) > 4 * 1024 * 1024);
        h = open_host(*state, 0, false);
        assert_true(live_size(h) < 256 * 1024);
        assert_string_equal(value_at(h, "/stays"), "1");
        assert_int_equal(store_hash(h->store, &again, &applied_again), 0);
        assert_true(hash == again && applied_again >= applied);

        live = live_inode(h);
        put_ok(h, "/after", "1");
        crash_host(h);
        h = open_host(*state, 0, false);
        assert_int_equal(live_inode(h), live); /* the marker names the new file */
        assert_string_equal(value_at(h, "/after"), "1");
        close(held);
}

/* A disk that was taken away and attached again has the same device, and the same inodes on it. */
static void a_tree_on_a_disk_that_was_attached_again_is_rebuilt(void **state) {
        Host *h = open_host(*state, 0, false);
        _cleanup_close_ int fd = open_dir(h->tree_path, 0700);
        _cleanup_free_ char *text = NULL, *other = NULL;
        int held = hold_live(h);
        ino_t live = live_inode(h);
        struct stat st;
        int end = 0;

        put_ok(h, "/a", "1");
        close_host(h);
        h = open_host(*state, 0, false);
        assert_int_equal(live_inode(h), live);
        close_host(h);

        assert_int_equal(read_file_at(fd, "trusted", 512, &text, NULL), 0);
        assert_int_equal(fstat(fd, &st), 0);
        if (major(st.st_dev) > 0) /* else it is no disk */
                assert_non_null(strstr(text, "\ndisk "));
        if (strstr(text, "\ndisk ")) {
                cut_marker_line(h, "disk ");
                h = open_host(*state, 0, false);
                assert_int_equal(live_inode(h), live); /* an older version wrote it */
                close_host(h);
                cut_marker_line(h, "disk ");
        }
        text = (free(text), NULL);
        assert_int_equal(read_file_at(fd, "trusted", 512, &text, NULL), 0);
        (void) sscanf(text, "1\nboot %*s\nmachine %*s\ndevice %*s\ninode %*s\nopens %*s\n%n", &end);
        assert_true(end > 0);
        assert_true(asprintf(&other, "%.*sdisk 999999999\n%s", end, text, text + end) > 0);
        assert_int_equal(write_file_at(fd, "trusted", other, strlen(other), 0600), 0);
        h = open_host(*state, 0, false);
        assert_int_not_equal(live_inode(h), live);
        assert_int_equal(synced(h), KV_OK);
        assert_string_equal(value_at(h, "/a"), "1");
        close(held);
}

/* A disk that was copied with its machine id, or put into another box. */
static void the_folder_of_other_hardware_is_refused_and_stays_as_it_was(void **state) {
        Host *h = open_host(*state, 0, false);
        Error err = {};

        put_ok(h, "/a", "1");
        snprintf(h->hardware_id, sizeof(h->hardware_id), "%032x", 0xb0a7d1); /* known from now on */
        reopen_host(h, false);
        assert_string_equal(value_at(h, "/a"), "1");

        close_host(h);
        snprintf(h->hardware_id, sizeof(h->hardware_id), "%032x", 0xb0a7d2);
        assert_int_equal(try_open(h, false, &err), -EPERM);
        assert_non_null(strstr(error_text(&err, 0), "other hardware"));

        h->hardware_id[0] = 0; /* firmware that does not say: the machine id has to do */
        reopen_host(h, false);
        assert_string_equal(value_at(h, "/a"), "1");
        snprintf(h->hardware_id, sizeof(h->hardware_id), "%032x", 0xb0a7d1);
        reopen_host(h, false);
        assert_string_equal(value_at(h, "/a"), "1");
}

static void another_machines_folder_is_refused_with_the_remedy(void **state) {
        World *world = *state;
        Host *h = open_host(world, 0, false);
        Error err = {};

        put_ok(h, "/a", "1");
        close_host(h);
        h->number = 1; /* the same folders on another machine */
        assert_int_equal(try_open(h, false, &err), -EPERM);
        assert_non_null(strstr(error_text(&err, 0), "another machine"));
        assert_non_null(strstr(error_text(&err, 0), "join again"));
        h->number = 0;
}

/* In 'identity', beside the log. That of another lineage first: each failed opening is an unclean start, and
 * the third one rebuilds the tree. */
static void an_identity_that_is_not_the_logs_is_refused(void **state) {
        Host *h = open_host(*state, 0, false);
        _cleanup_close_ int fd = open_dir(h->tree_path, 0700);
        _cleanup_free_ char *text = NULL;
        uint64_t cluster_id, lineage;
        char of_lineage[64], of_cluster[64];
        Error err = {};

        put_ok(h, "/a", "1");
        cluster_id = state_of(h).cluster_id;
        lineage = state_of(h).lineage;
        close_host(h);
        assert_int_equal(read_file_at(fd, "identity", 512, &text, NULL), 0);
        snprintf(of_lineage, sizeof(of_lineage), "1\ncluster %016" PRIx64 "\nlineage %016" PRIx64 "\n",
                 cluster_id, lineage + 1);
        snprintf(of_cluster, sizeof(of_cluster), "1\ncluster %016" PRIx64 "\nlineage %016" PRIx64 "\n",
                 cluster_id + 1, lineage);
        {
                const struct {
                        const char *text, *says;
                } cases[] = { { of_lineage, "belongs to another cluster" },
                              { of_cluster, "has cluster" },
                              { "1\ncluster x", "cannot read" } };

                for (size_t i = 0; i < ELEMENTS(cases); i++) {
                        assert_int_equal(
                                write_file_at(fd, "identity", cases[i].text, strlen(cases[i].text), 0600), 0);
                        err = (Error) {};
                        assert_int_equal(try_open(h, false, &err), -EUCLEAN);
                        assert_non_null(strstr(err.message, cases[i].says));
                }
        }
        assert_int_equal(unlinkat(fd, "identity", 0), 0);
        assert_int_equal(try_open(h, false, &err), -EUCLEAN);
        assert_int_equal(symlinkat("other", fd, "identity"), 0);
        assert_int_equal(try_open(h, false, &err), -ELOOP); /* the disk's fault, not the file's */
        assert_int_equal(unlinkat(fd, "identity", 0), 0);
        assert_int_equal(write_file_at(fd, "identity", text, strlen(text), 0600), 0);
        open_host(*state, 0, false);
        assert_int_equal(synced(h), KV_OK);
        assert_string_equal(value_at(h, "/a"), "1");
}

/* Other versions compare with these bytes, and others know the start by its number. */
static void log_and_handshake_name_their_cluster(void **state) {
        static const uint8_t hardware[] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                            0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10 };
        static const uint8_t machine[RAFT_LOG_MACHINE_SIZE] = { [RAFT_LOG_MACHINE_SIZE - 1] = 0xa0 };
        World *world = *state;
        Host *h = &world->hosts[0];

        snprintf(h->hardware_id, sizeof(h->hardware_id), "0123456789abcdeffedcba9876543210");
        for (uint64_t start = 1; start <= 2; start++) {
                const RaftLogMeta *meta;
                const PeerHandshake *handshake;
                KvState s;

                reopen_host(h, false);
                s = state_of(h);
                meta = raft_log_meta(h->store->replica->log);
                assert_memory_equal(meta->hardware, hardware, sizeof(hardware));
                assert_memory_equal(meta->machine, machine, sizeof(machine));
                assert_int_equal(meta->start_number, start);
                handshake = peers_self(h->peers);
                assert_int_equal(handshake->start_number, start);
                assert_true(handshake->cluster_id == s.cluster_id && handshake->lineage == s.lineage &&
                            handshake->raft_id == 1);
        }
}

/* The log does not fit the tree, and the tree cannot be copied before the log is emptied. */
static void a_tree_that_is_found_corrupt_at_the_start_is_rebuilt_in_service(void **state) {
        Host *h = open_host(*state, 0, false);

        put_ok(h, "/a", "1");
        log_is_unfit = copy_is_corrupt = true;
        reopen_host(h, false);
        assert_false(copy_is_corrupt);
        run_until(*state, is_led, h);
        assert_string_equal(value_at(h, "/a"), "1");
}

static void flip_a_byte_of_the_log(const Host *h) {
        _cleanup_free_ char *file = scratch_path(h->raft_path, "log.00000001");
        char byte;
        int fd;

        fd = open(file, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, 600), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, 600), 1);
        close(fd);
}

static void a_corrupt_log_is_refused_with_file_and_offset(void **state) {
        World *world = *state;
        Host *h = open_host(world, 0, false);
        Error err = {};

        put_many(h, 20);
        close_host(h);
        flip_a_byte_of_the_log(h);

        assert_int_equal(try_open(h, false, &err), -EUCLEAN);
        assert_non_null(strstr(error_text(&err, 0), "log.00000001"));
        assert_non_null(strstr(error_text(&err, 0), "offset"));
}

static void a_tree_without_its_log_is_refused(void **state) {
        World *world = *state;
        Host *h = open_host(world, 0, false);
        Error err = {};
        int fd;

        put_ok(h, "/a", "1");
        close_host(h);
        fd = open_dir(world->scratch, 0700);
        assert_int_equal(remove_tree_at(fd, "raft0"), 0);
        close(fd);
        assert_int_equal(try_open(h, false, &err), -EUCLEAN);
        assert_non_null(strstr(error_text(&err, 0), "a tree without its log"));
}

/* A disk that stops taking writes. */
typedef struct FailingDisk {
        Disk base;
        Disk *inner;
        bool full;
} FailingDisk;

typedef struct FailingFile {
        DiskFile base;
        DiskFile *inner;
        FailingDisk *disk;
} FailingFile;

static const DiskOps failing_ops;

static int failing_open(Disk *disk, const char *name, bool create, uint64_t size, DiskFile **ret) {
        FailingDisk *d = container_of(disk, FailingDisk, base);
        FailingFile *f;
        int r;

        if (create && d->full)
                return -ENOSPC;
        f = NEW0(FailingFile, 1);
        assert_non_null(f);
        r = d->inner->ops->open(d->inner, name, create, size, &f->inner);
        if (r < 0) {
                free(f);
                return r;
        }
        f->base.ops = &failing_ops;
        f->disk = d;
        *ret = &f->base;
        return 0;
}

static void failing_close(DiskFile *file) {
        FailingFile *f = container_of(file, FailingFile, base);

        f->inner->ops->close(f->inner);
        free(f);
}

static int failing_size(DiskFile *file, uint64_t *ret) {
        FailingFile *f = container_of(file, FailingFile, base);

        return f->inner->ops->size(f->inner, ret);
}

static int failing_read(DiskFile *file, void *bytes, size_t size, uint64_t offset) {
        FailingFile *f = container_of(file, FailingFile, base);

        return f->inner->ops->read(f->inner, bytes, size, offset);
}

static int failing_write(DiskFile *file, const void *bytes, size_t size, uint64_t offset) {
        FailingFile *f = container_of(file, FailingFile, base);

        return f->disk->full ? -ENOSPC : f->inner->ops->write(f->inner, bytes, size, offset);
}

static int failing_remove(Disk *disk, const char *name) {
        FailingDisk *d = container_of(disk, FailingDisk, base);

        return d->inner->ops->remove(d->inner, name);
}

static int failing_rename(Disk *disk, const char *from, const char *to) {
        FailingDisk *d = container_of(disk, FailingDisk, base);

        return d->inner->ops->rename(d->inner, from, to);
}

static int failing_list(Disk *disk, char ***ret, size_t *ret_n) {
        FailingDisk *d = container_of(disk, FailingDisk, base);

        return d->inner->ops->list(d->inner, ret, ret_n);
}

static int failing_drop_caches(Disk *disk) {
        FailingDisk *d = container_of(disk, FailingDisk, base);

        return d->inner->ops->drop_caches(d->inner);
}

static int failing_space(Disk *disk, uint64_t *ret_free, uint64_t *ret_total) {
        FailingDisk *d = container_of(disk, FailingDisk, base);
        int r = d->inner->ops->space(d->inner, ret_free, ret_total);

        if (d->full)
                *ret_free = 0;
        return r;
}

static const DiskOps failing_ops = {
        .open = failing_open,
        .close = failing_close,
        .size = failing_size,
        .read = failing_read,
        .write = failing_write,
        .remove = failing_remove,
        .rename = failing_rename,
        .drop_caches = failing_drop_caches,
        .space = failing_space,
        .list = failing_list,
};

static bool has_failed(void *userdata) {
        return ((Host *) userdata)->failed < 0;
}

static bool goes_on(void *userdata) {
        KvState state = state_of(userdata);

        return state.ready && !state.stopped;
}

static void a_full_disk_stops_the_replica_reads_continue_and_space_recovers_it(void **state) {
        World *world = *state;
        Host *h = &world->hosts[0];
        FailingDisk disk = { .base.ops = &failing_ops };
        uint64_t hash, again, applied;
        Answer a;

        assert_int_equal(disk_real_open(h->raft_path, &disk.inner), 0);
        h->disk = &disk.base;
        open_host(world, 0, false);
        put_ok(h, "/a", "1");
        disk.full = true;
        a = put(h, "/b", "2");
        assert_true(a.status == KV_UNKNOWN || a.status == KV_NO_LEADER);
        run_until(world, has_failed, h);
        assert_int_equal(h->failed, -ENOSPC);
        assert_true(h->failure[0]);
        assert_string_equal(value_at(h, "/a"), "1");
        a = put(h, "/b", "2");
        assert_int_equal(a.status, KV_NO_LEADER);
        assert_non_null(strstr(a.cause, " full: "));

        disk.full = false;
        run_until(world, goes_on, h);
        assert_string_equal(value_at(h, "/a"), "1");
        put_ok(h, "/b", "2");
        assert_int_equal(store_hash(h->store, &hash, &applied), 0);

        h->disk = NULL;
        close_host(h);
        disk_real_close(disk.inner);
        h->failed = 0;
        open_host(world, 0, false);
        assert_string_equal(value_at(h, "/a"), "1");
        assert_string_equal(value_at(h, "/b"), "2");
        run_until(world, goes_on, h);
        assert_int_equal(store_hash(h->store, &again, &applied), 0);
        assert_int_equal(hash, again);
}

static bool has_come_back(void *userdata) {
        Host *h = userdata;

        return h->failed < 0 && state_of(h).ready && !state_of(h).stopped;
}

static bool log_is_closed(void *userdata) {
        const Replica *p = ((Host *) userdata)->store->replica;

        return p->error < 0 && !p->core && p->closing.pending == 0;
}

static bool says_what_is_missing(void *userdata) {
        return strstr(state_of(userdata).problem, "had been acknowledged");
}

static void write_back(const char *file, const char *bytes, size_t size) {
        _cleanup_close_ int fd = open(file, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pwrite_all(fd, bytes, size, 0), 0);
}

/* While the replica has stopped its log becomes an earlier one, and its tree has failed. */
static void a_log_that_lacks_what_was_acknowledged_is_not_begun_again_from(void **state) {
        Host *h = open_host(*state, 0, false);
        _cleanup_free_ char *file = scratch_path(h->raft_path, "log.00000001"), *earlier = NULL,
                            *later = NULL;
        size_t earlier_size, later_size;

        put_ok(h, "/a", "1");
        assert_int_equal(read_file_at(AT_FDCWD, file, 8 * 1024 * 1024, &earlier, &earlier_size), 0);
        put_many(h, 5);
        data_dir_distrust(replica_data_dir(h->store->replica));
        replica_fail(h->store->replica, -EIO, "this test");
        run_until(*state, log_is_closed, h);
        assert_int_equal(read_file_at(AT_FDCWD, file, 8 * 1024 * 1024, &later, &later_size), 0);
        write_back(file, earlier, earlier_size);
        run_until(*state, says_what_is_missing, h);
        assert_true(state_of(h).stopped);
        check_many(h, 5); /* what it showed it shows */
        write_back(file, later, later_size);
        run_until(*state, has_come_back, h);
        check_many(h, 5);
        put_ok(h, "/after", "1");
}

/* -- Three hosts -- */

typedef struct Pair {
        Host *leader, *host;
        uint64_t raft_id;
} Pair;

static bool is_caught_up(void *userdata) {
        const Pair *p = userdata;
        KvState s = state_of(p->leader);

        for (size_t i = 0; i < s.n_members; i++)
                if (s.members[i].raft_id == p->raft_id)
                        return s.members[i].match > 0 && s.members[i].match == state_of(p->leader).commit;
        return false;
}

static bool is_promoted(void *userdata) {
        const Pair *p = userdata;
        KvState s = state_of(p->leader);
        int r;

        for (size_t i = 0; i < s.n_members; i++)
                if (s.members[i].raft_id == p->raft_id && s.members[i].role == KV_MEMBER_VOTER)
                        return true;
        r = kv_member_promote(p->leader->store, p->raft_id);
        assert_true(r == 0 || r == -EAGAIN || r == -EBUSY);
        return false;
}

static bool is_added(void *userdata) {
        const Pair *p = userdata;
        int r = kv_member_add(p->leader->store, p->raft_id, p->host->address);

        assert_true(r == 0 || r == -EBUSY);
        return r == 0;
}

/* Host 'number' joins the cluster of 'leader' as its own number + 1. */
static Host *let_in(Host *leader, unsigned number) {
        Host *h = open_host(leader->world, number, true);
        Pair pair = { leader, h, number + 1 };
        KvState s = state_of(leader);
        Error err = {};

        assert_int_equal(state_of(h).role, KV_ROLE_NONE);
        assert_int_equal(kv_joined(h->store, s.cluster_id, s.lineage, pair.raft_id, &err), 0);
        run_until(leader->world, is_added, &pair);
        run_until(leader->world, is_caught_up, &pair);
        return h;
}

static void promote(Host *leader, Host *h) {
        run_until(leader->world, is_promoted, &(Pair) { leader, h, h->number + 1 });
}

static bool change_is_over(void *userdata) {
        Host *h = userdata;
        KvState s = state_of(h);

        return s.n_voters == 3 && s.commit == s.raft_index;
}

static void make_three(World *world) {
        Host *a = open_host(world, 0, false), *b, *c;

        run_until(world, is_led, a);
        b = let_in(a, 1);
        c = let_in(a, 2);
        promote(a, b);
        promote(a, c);
        for (unsigned i = 0; i < 3; i++)
                run_until(world, change_is_over, &world->hosts[i]);
}

static void three_hosts_make_one_cluster_and_a_follower_reads_what_it_wrote(void **state) {
        World *world = *state;
        KvCounts leader, follower;

        make_three(world);
        for (unsigned i = 0; i < 3; i++) {
                char key[16];

                snprintf(key, sizeof(key), "/from%u", i);
                put_ok(&world->hosts[i], key, "x");
                assert_string_equal(value_at(&world->hosts[i], key), "x"); /* reads its own write, at once */
        }
        for (unsigned i = 0; i < 3; i++) {
                uint64_t hash, first, applied;

                assert_int_equal(synced(&world->hosts[i]), KV_OK);
                for (unsigned k = 0; k < 3; k++) {
                        char key[16];

                        snprintf(key, sizeof(key), "/from%u", k);
                        assert_string_equal(value_at(&world->hosts[i], key), "x");
                }
                assert_int_equal(store_hash(world->hosts[i].store, &hash, &applied), 0);
                assert_int_equal(store_hash(world->hosts[0].store, &first, &applied), 0);
                assert_true(hash == first);
        }
        if (state_of(&world->hosts[0]).term > 2) /* a slow machine: another one has led */
                return;
        kv_counts(world->hosts[0].store, &leader);
        kv_counts(world->hosts[1].store, &follower);
        assert_true(leader.traffic.appends_sent > 0 && follower.traffic.appends_received > 0);
        assert_true(leader.traffic.appends_received == 0 && follower.traffic.appends_sent == 0);
        assert_int_equal(leader.traffic.n_members, 2);
        for (size_t i = 0; i < leader.traffic.n_members; i++)
                assert_true(leader.traffic.members[i].n_answers > 0);
}

typedef struct Behind {
        Host *host, *leader;
} Behind;

static bool has_all(void *userdata) {
        const Behind *b = userdata;

        return kv_index(b->host->store) == kv_index(b->leader->store);
}

/* Its map is sized by its own quota first: 128 MiB. What the cluster writes is more, and by the cluster's
 * quota no more than may be. */
static void a_host_with_a_smaller_quota_has_space_for_the_tree_of_the_cluster(void **state) {
        static char value[235 * 1024];
        World *world = *state;
        Host *leader, *h;

        memset(value, 'x', sizeof(value) - 1);
        world->quota = 256 * 1024 * 1024;
        world->hosts[1].quota = 1024 * 1024;
        leader = open_host(world, 0, false);
        run_until(world, is_led, leader);
        h = let_in(leader, 1);
        for (unsigned i = 0; i < 560; i++) {
                char key[16];

                snprintf(key, sizeof(key), "/%u", i);
                put_ok(leader, key, value);
        }
        run_until(world, has_all, &(Behind) { h, leader });
        assert_string_not_equal(value_at(h, "/559"), "-");
}

/* Up to half of the tree, or what a checkpoint is due by. */
static void entries_that_a_host_lacks_stay_in_memory(void **state) {
        enum { LACKED = 128 * 1024, SLACK = 16 * 1024 };
        static char value[4000];
        World *world = *state;
        Host *a = open_host(world, 0, false);
        Replica *p = a->store->replica;
        uint64_t bytes, before = 0, most = 0;
        unsigned n = 0;

        run_until(world, is_led, a);
        close_host(let_in(a, 1));
        memset(value, 'x', sizeof(value) - 1);
        p->options.memory_bytes = 16 * 1024;
        p->options.checkpoint_bytes = LACKED;
        for (unsigned i = 0; i < 300; i++) {
                char key[16];

                snprintf(key, sizeof(key), "/%u", i % 100);
                put_ok(a, key, value);
                bytes = raft_core_entries_bytes(p->core);
                if (i > 150 && bytes < before) {
                        assert_in_range(bytes, LACKED / 2 - SLACK, LACKED / 2 + SLACK);
                        n++;
                }
                most = MAX(most, bytes);
                before = bytes;
        }
        assert_true(n > 0);
        assert_in_range(most, LACKED / 2 + SLACK, LACKED + SLACK);
}

static void a_refusal_reaches_the_follower_that_asked(void **state) {
        World *world = *state;
        Answer a;

        make_three(world);
        put_ok(&world->hosts[1], "/a", "1");
        a = ask(&world->hosts[2], &COMMAND(KV_CREATE, "/a", .value = kv_string("2")));
        assert_int_equal(a.status, KV_EXISTS);
}

static void when_the_leader_closes_writes_continue(void **state) {
        World *world = *state;
        Host *b = &world->hosts[1], *c = &world->hosts[2];

        make_three(world);
        put_ok(b, "/a", "1");
        assert_int_equal(kv_member_demote(world->hosts[0].store, 2),
                         -EPERM); /* three voters are not reduced, by any plan */
        assert_int_equal(kv_member_remove(world->hosts[0].store, 3), -EPERM);
        close_host(&world->hosts[0]);
        run_until(world, is_led, b);
        run_until(world, is_led, c);
        put_ok(b, "/b", "2");
        put_ok(c, "/c", "3");
        assert_int_equal(synced(b), KV_OK);
        assert_string_equal(value_at(b, "/c"), "3");

        /* The one that was away comes back and has it all. */
        open_host(world, 0, false);
        run_until(world, is_led, &world->hosts[0]);
        assert_int_equal(synced(&world->hosts[0]), KV_OK);
        assert_string_equal(value_at(&world->hosts[0], "/c"), "3");
}

static bool is_demoted(void *userdata) {
        const Pair *p = userdata;
        KvState s = state_of(p->leader);
        int r;

        if (s.n_voters == 1)
                return s.commit == s.raft_index;
        r = kv_member_demote(p->leader->store, p->raft_id);
        assert_true(r == 0 || r == -EAGAIN || r == -EBUSY);
        return false;
}

static void the_second_of_two_voters_becomes_a_standby_again(void **state) {
        World *world = *state;
        Host *a = open_host(world, 0, false), *b;

        run_until(world, is_led, a);
        b = let_in(a, 1);
        promote(a, b);
        run_until(world, is_demoted, &(Pair) { a, b, 2 });
        close_host(b);
        put_ok(a, "/a", "1");
}

static bool another_leads(void *userdata) {
        Host *h = userdata;
        KvState s = state_of(h);

        return s.ready && s.leader_id != 0 && s.leader_id != 1;
}

static bool follows_as_far_as(void *userdata) {
        const Pair *p = userdata;
        KvState s = state_of(p->host);

        return s.ready && !s.stopped && s.raft_index >= state_of(p->leader).commit;
}

static void a_leader_whose_disk_is_full_transfers_leadership_and_follows_when_there_is_space(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0], *b = &world->hosts[1], *c = &world->hosts[2], *leader;
        FailingDisk disk = { .base.ops = &failing_ops };
        uint64_t hash, again, applied, began_ms;
        Answer answer;

        assert_int_equal(disk_real_open(a->raft_path, &disk.inner), 0);
        a->disk = &disk.base;
        make_three(world);
        put_ok(b, "/a", "1");

        disk.full = true;
        began_ms = loop_now_ms(world->loop);
        answer = put(a, "/b", "2"); /* the write that finds out; it may well happen */
        assert_true(answer.status == KV_OK || answer.status == KV_UNKNOWN || answer.status == KV_NO_LEADER);
        run_until(world, another_leads, b);
        run_until(world, another_leads, c);
        print_message("another led after %u ms\n", (unsigned) (loop_now_ms(world->loop) - began_ms));
        run_until(world, has_failed, a);
        put_ok(b, "/c", "3");
        assert_string_equal(value_at(a, "/a"), "1");
        assert_true(state_of(a).stopped);

        disk.full = false;
        leader = state_of(b).role == KV_ROLE_LEADER ? b : c;
        run_until(world, follows_as_far_as, &(Pair) { leader, a, 1 });
        put_ok(a, "/d", "4");
        assert_string_equal(value_at(a, "/c"), "3");
        run_until(world, follows_as_far_as, &(Pair) { leader, a, 1 });
        assert_int_equal(store_hash(a->store, &hash, &applied), 0);
        assert_int_equal(store_hash(leader->store, &again, &applied), 0);
        assert_int_equal(hash, again);

        a->disk = NULL;
        close_host(a);
        disk_real_close(disk.inner);
}

/* A node that no command has written. */
static void plant(Host *h, const char *path) {
        TreeTxn *txn;

        assert_int_equal(tree_begin_write(replica_live_tree(h->store->replica), &txn), 0);
        assert_int_equal(tree_put(txn, &(KvNode) { .key = kv_string(path), .created = 1, .modified = 1 }), 0);
        assert_int_equal(tree_commit(txn), 0);
}

static void put_some(Host *h, unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                char key[16];

                snprintf(key, sizeof(key), "/some%u", i);
                put_ok(h, key, "x");
        }
}

static bool is_undecided(void *userdata) {
        KvState s = state_of(userdata);

        return s.undecided && strstr(s.problem, "no majority");
}

static bool is_like_the_leader(void *userdata) {
        const Pair *p = userdata;
        uint64_t hash, other, applied, other_applied;

        return !state_of(p->host).differs && store_hash(p->host->store, &hash, &applied) == 0 &&
               store_hash(p->leader->store, &other, &other_applied) == 0 && applied == other_applied &&
               hash == other;
}

static void a_tree_that_differs_from_the_majority_is_made_again_of_the_leaders(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0], *c = &world->hosts[2];

        make_three(world);
        put_some(a, 3);
        plant(c, "/planted");
        put_some(a, 12);
        run_until(world, is_like_the_leader, &(Pair) { a, c, 3 });
        assert_int_equal(a->resets, 0);
        assert_true(c->resets > 0); /* its readers hear that all may be another */
        put_ok(c, "/after", "1");
        assert_string_equal(value_at(c, "/after"), "1");
}

static void a_tree_of_the_leader_comes_with_its_history(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0], *c = &world->hosts[2];

        make_three(world);
        raise_level(a);
        put_noted(a, 10, "started");
        put_noted(a, 20, "started");
        plant(c, "/planted");
        put_some(a, 12);
        run_until(world, is_like_the_leader, &(Pair) { a, c, 3 });
        assert_true(c->resets > 0);
        assert_history(c, "started 10..20 x2, ");
        put_noted(c, 30, "started");
        assert_history(c, "started 10..30 x3, ");
}

/* In the file that is in use, wherever it stands. */
static void change_bytes(const Host *h, const char *from, const char *to) {
        _cleanup_free_ char *file = NULL, *bytes = NULL;
        _cleanup_close_ int fd = -1;
        struct stat st;
        size_t size = strlen(from);
        unsigned n = 0;

        assert_true(asprintf(&file, "%s/live/data.mdb", h->tree_path) > 0);
        fd = open(file, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        bytes = malloc((size_t) st.st_size);
        assert_int_equal(pread_all(fd, bytes, (size_t) st.st_size, 0), 0);
        for (char *at = bytes; (at = memmem(at, (size_t) (bytes + st.st_size - at), from, size)); at++, n++)
                assert_int_equal(pwrite_all(fd, to, size, (uint64_t) (at - bytes)), 0);
        assert_true(n > 0);
}

static void a_tree_that_was_changed_behind_our_back_is_made_again_in_the_running_daemon(void **state) {
        World *world = *state;
        char large[8000] = "";
        unsigned resets;
        Host *h;

        world->checkpoint_entries = 20;
        h = open_host(world, 0, false);
        put_ok(h, "/precious", "a-value-that-is-precious");
        change_bytes(h, "a-value-that-is-", "another-value-is");
        assert_string_equal(value_at(h, "/precious"), "another-value-isprecious");
        memset(large, 'x', sizeof(large) - 1);
        for (unsigned i = 0; i < 30; i++)
                (void) put(h, "/large", large); /* until a copy is made, and looked at */
        run_until(world, has_come_back, h);
        assert_int_equal(h->failed, -EUCLEAN);
        assert_string_equal(value_at(h, "/precious"), "a-value-that-is-precious");
        assert_true(h->resets > 0);
        put_ok(h, "/after", "1");
        resets = h->resets;
        h->failed = 0;
        data_dir_distrust(replica_data_dir(h->store->replica));
        replica_fail(h->store->replica, -EIO, "this test");
        run_until(world, is_whole_again, h);
        assert_int_equal(h->resets, resets);
}

static void where_two_trees_diverge_without_a_majority_both_report_it_and_keep_theirs(void **state) {
        World *world = *state;
        Host *a = open_host(world, 0, false), *b;

        run_until(world, is_led, a);
        b = let_in(a, 1);
        put_some(a, 3);
        plant(b, "/planted");
        put_some(a, 12);
        run_until(world, is_undecided, a);
        run_until(world, is_undecided, b);
        assert_string_equal(value_at(b, "/planted"), "");
        assert_string_equal(value_at(a, "/some3"), "x");
        assert_false(state_of(a).differs || state_of(b).differs);
}

static bool is_leader(void *userdata) {
        KvState state = state_of(userdata);

        return state.leader_id == state.raft_id && state.leader_id != 0;
}

/* Its first entry may be committed by then. */
static void a_new_leader_does_not_report_that_there_is_no_leader(void **state) {
        World *world = *state;
        Host *a = open_host(world, 0, false);

        run_until(world, is_leader, a);
        if (!state_of(a).ready)
                assert_string_equal(state_of(a).problem,
                                    "this host is the new leader, and the first entry of its term is not "
                                    "committed yet: 1 of 1 voters reachable; reads still work");
        run_until(world, is_led, a);
        assert_string_equal(state_of(a).problem, "");
}

static void without_a_majority_writes_report_it_and_reads_continue(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0];
        Answer answer;

        make_three(world);
        put_ok(a, "/a", "1");
        close_host(&world->hosts[1]);
        close_host(&world->hosts[2]);
        answer = put(a, "/b", "2");
        assert_true(answer.status == KV_UNKNOWN || answer.status == KV_NO_LEADER);
        answer = put(a, "/b", "2");
        assert_int_equal(answer.status, KV_NO_LEADER);
        assert_string_equal(answer.cause, "no leader: 1 of 3 voters reachable; reads still work");
        assert_string_equal(value_at(a, "/a"), "1");
        assert_int_not_equal(synced(a), KV_OK);

        open_host(world, 1, false);
        run_until(world, is_led, a);
        put_ok(a, "/c", "3");
}

static bool waits_for_its_leader_alone(void *userdata) {
        Replica *p = ((Host *) userdata)->store->replica;

        return !timer_armed(&p->tick) && timer_armed(&p->contact.silence);
}

static bool is_told_of_no_leader(void *userdata) {
        return ((Host *) userdata)->told_leader == 0;
}

/* And not with the next input: there is none. */
static void a_standby_says_at_once_that_its_leader_is_silent(void **state) {
        World *world = *state;
        Host *a = open_host(world, 0, false), *b;

        run_until(world, is_led, a);
        b = let_in(a, 1);
        assert_int_equal(b->told_leader, 1);
        without_ticks = replica_core(b->store->replica);
        run_until(world, waits_for_its_leader_alone, b);
        close_host(a);
        run_until(world, is_told_of_no_leader, b);
}

static void a_leader_sends_nothing_to_itself(void **state) {
        World *world = *state;

        make_three(world);
        n_to_itself = 0;
        for (unsigned i = 0; i < 3; i++)
                put_ok(&world->hosts[i], "/a", "1");
        assert_int_equal(n_to_itself, 0);
}

/* -- A partition: the cut-off host's sessions end on both sides, and are not dialed -- */

static void know_all_but(Host *h, int cut) {
        PeerAddress known[HOSTS_MAX] = {};
        size_t n = 0;

        for (unsigned i = 0; i < HOSTS_MAX; i++)
                if (i != h->number && (int) i != cut && (int) h->number != cut)
                        snprintf(known[n++].address, sizeof(known[0].address), "%s",
                                 h->world->hosts[i].address);
        assert_int_equal(peers_set_known(h->peers, known, n), 0);
}

static void cut_off(World *world, int cut) {
        for (unsigned i = 0; i < HOSTS_MAX; i++)
                know_all_but(&world->hosts[i], cut);
}

static bool leads_now(void *userdata) {
        World *world = userdata;

        return state_of(&world->hosts[1]).role == KV_ROLE_LEADER ||
               state_of(&world->hosts[2]).role == KV_ROLE_LEADER;
}

static void a_leader_that_is_cut_off_answers_at_once_and_promises_nothing(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0], *b = &world->hosts[1], *c = &world->hosts[2];
        uint64_t hash, again, applied, began;
        Answer lost = {}, kept = {};

        make_three(world);
        cut_off(world, 0);
        began = loop_now_ms(world->loop);
        assert_int_equal(kv_propose(a->store, &COMMAND(KV_SET, "/lost"), on_answer, &lost, NULL), 0);
        assert_int_equal(kv_propose(c->store, &COMMAND(KV_SET, "/kept"), on_answer, &kept, NULL), 0);
        run_until(world, answer_came, &kept);
        assert_int_equal(kept.status, KV_OK); /* it had not left yet: the next leader got it */
        run_until(world, answer_came, &lost);
        assert_true(lost.status == KV_UNKNOWN || lost.status == KV_NO_LEADER);
        assert_true(loop_now_ms(world->loop) - began < 5000);
        assert_int_not_equal(synced(a), KV_OK);

        run_until(world, leads_now, world);
        put_ok(b, "/won", "1");
        assert_string_equal(value_at(a, "/won"), "-");

        cut_off(world, -1);
        run_until(world, is_led, a);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(synced(&world->hosts[i]), KV_OK);
        assert_string_equal(value_at(a, "/won"), "1");
        assert_string_equal(value_at(a, "/lost"),
                            "-"); /* no majority ever had it, and it was not sent again */
        put_ok(a, "/after", "1");
        assert_int_equal(synced(b), KV_OK);
        assert_int_equal(store_hash(a->store, &hash, &applied), 0);
        assert_int_equal(store_hash(b->store, &again, &applied), 0);
        assert_true(hash == again);
}

static bool has_been_reset(void *userdata) {
        return ((Host *) userdata)->resets > 0;
}

static void a_follower_that_fell_far_behind_receives_the_tree(void **state) {
        World *world = *state;
        Host *c = &world->hosts[2];

        world->checkpoint_entries = 200;
        make_three(world);
        close_host(c);
        for (unsigned i = 0; i < 5; i++)
                put_many(&world->hosts[0], 200);
        run_until(world, has_checkpoint, &world->hosts[0]);

        open_host(world, 2, false);
        run_until(world, has_been_reset, c);
        assert_int_equal(synced(c), KV_OK);
        check_many(c, 200);
        put_ok(c, "/after", "1");
        c = reopen_host(c, false);
        run_until(world, is_led, c);
        assert_int_equal(synced(c), KV_OK);
        assert_string_equal(value_at(c, "/after"), "1");
}

static void on_refreshed(void *userdata, KvWatchEvent *event) {
        (*(unsigned *) userdata)++;
}

static bool heard_all(void *userdata) {
        return *(unsigned *) userdata >= N_LARGE * N_REFRESHES;
}

static void missed_entries_are_applied_and_notified_in_slices(void **state) {
        World *world = *state;
        KvWatchOptions options = { .key = kv_string("/large"), .recursive = true, .refreshes = true };
        KvWatchOps events = { .on_event = on_refreshed };
        Host *c = &world->hosts[2];
        unsigned n = 0;
        uint64_t oldest;
        KvWatch *w;

        make_three(world);
        put_large(&world->hosts[0]);
        assert_int_equal(synced(c), KV_OK);
        close_host(c);
        refresh_large(&world->hosts[0], N_REFRESHES);
        open_host(world, 2, false);
        assert_int_equal(kv_watch(c->store, &options, &events, &n, &w, &oldest), 0);
        run_until(world, heard_all, &n);
        assert_int_equal(n, N_LARGE * N_REFRESHES);
        kv_watch_close(w);
        assert_int_equal(synced(c), KV_OK);
        assert_held_little(c);
}

/* Also where each comes with an input of its own: a frame, a write of the log. */
static void a_follower_applies_one_heavy_entry_a_turn(void **state) {
        World *world = *state;
        uint64_t hash, again, applied;
        Host *c = &world->hosts[2];

        make_three(world);
        raise_level(&world->hosts[0]);
        put_large(&world->hosts[0]);
        assert_int_equal(synced(c), KV_OK);
        close_host(c);
        refresh_large(&world->hosts[0], N_HEAVY);
        open_host(world, 2, false);
        count_turns(c);
        assert_int_equal(synced(c), KV_OK);
        assert_heavy_in_turns(N_HEAVY);
        assert_int_equal(store_hash(world->hosts[0].store, &hash, &applied), 0);
        assert_int_equal(store_hash(c->store, &again, &applied), 0);
        assert_true(again == hash);
}

static void when_all_are_cut_at_once_everything_is_there_again(void **state) {
        World *world = *state;
        uint64_t hash, again, applied;

        make_three(world);
        put_many(&world->hosts[1], 30);
        assert_int_equal(synced(&world->hosts[0]), KV_OK);
        assert_int_equal(store_hash(world->hosts[0].store, &hash, &applied), 0);
        for (unsigned i = 0; i < 3; i++) {
                close_host(&world->hosts[i]);
                snprintf(world->hosts[i].boot_id, 33, "%032x", 7);
        }
        for (unsigned i = 0; i < 3; i++)
                open_host(world, i, false);
        for (unsigned i = 0; i < 3; i++) {
                run_until(world, is_led, &world->hosts[i]);
                assert_int_equal(synced(&world->hosts[i]), KV_OK);
                check_many(&world->hosts[i], 30);
                assert_int_equal(store_hash(world->hosts[i].store, &again, &applied), 0);
                assert_true(again == hash);
        }
}

/* -- Quota -- */

static void a_command_without_space_does_not_reach_the_log(void **state) {
        World *world = *state;
        static char big[64 * 1024];
        uint64_t entries;
        Host *h;
        Answer a;

        world->quota = 1024 * 1024;
        h = open_host(world, 0, false);
        memset(big, 'x', sizeof(big));
        for (unsigned i = 0;; i++) {
                char key[32];

                snprintf(key, sizeof(key), "/full/%u", i);
                a = ask(h, &COMMAND(KV_SET, key, .value = { big, sizeof(big) }));
                if (a.status != KV_OK)
                        break;
                assert_true(i < 16);
        }
        assert_int_equal(a.status, KV_TOO_LARGE);
        assert_string_equal(a.cause, "the quota of 1048576 bytes for users' keys is used up");

        entries = state_of(h).raft_index;
        a = ask(h, &COMMAND(KV_SET, "/more", .value = { big, sizeof(big) }));
        assert_int_equal(a.status, KV_TOO_LARGE);
        assert_int_equal(state_of(h).raft_index, entries);

        /* Who is too heavy may become lighter, and change what is there. */
        a = ask(h, &COMMAND(KV_SET, "/full/0", .value = { big, sizeof(big) }));
        assert_int_equal(a.status, KV_OK);
        put_ok(h, "/full/0", "small");
        a = ask(h, &COMMAND(KV_SET, "/more", .value = { big, sizeof(big) / 2 }));
        assert_int_equal(a.status, KV_OK);
}

/* -- Priority classes -- */

typedef struct Flood {
        unsigned n, refused;
        uint64_t lowest;
        bool user_came;
        uint64_t user_index;
} Flood;

static void on_flood(void *userdata, const KvResult *result) {
        Flood *f = userdata;

        f->n++;
        f->refused += result->status != KV_OK;
        if (f->lowest == 0 || result->index < f->lowest)
                f->lowest = result->index;
}

static void on_user(void *userdata, const KvResult *result) {
        Flood *f = userdata;

        assert_int_equal(result->status, KV_OK);
        f->user_came = true;
        f->user_index = result->index;
}

enum { FLOOD = 300 };

static bool flood_is_over(void *userdata) {
        const Flood *f = userdata;

        return f->n == FLOOD && f->user_came;
}

static void user_passes_a_flood(Host *h) {
        static char state[4096];
        Flood f = {};

        memset(state, 'x', sizeof(state));
        for (unsigned i = 0; i < FLOOD; i++) {
                char key[64];

                snprintf(key, sizeof(key), "/_fleet/state/u%u.service/m", i);
                assert_int_equal(kv_propose(h->store,
                                            &COMMAND(KV_SET, key, .value = { state, sizeof(state) },
                                                     .internal = true, .later = true),
                                            on_flood, &f, NULL),
                                 0);
        }
        assert_int_equal(kv_propose(h->store, &SET("/user", "1"), on_user, &f, NULL), 0);
        run_until(h->world, flood_is_over, &f);
        assert_int_equal(f.refused, 0);
        assert_true(f.user_index < f.lowest);
}

static void what_people_write_passes_a_flood_of_states(void **state) {
        World *world = *state;

        user_passes_a_flood(open_host(world, 0, false));
}

static void what_people_write_on_a_follower_passes_a_flood_of_states(void **state) {
        World *world = *state;

        make_three(world);
        user_passes_a_flood(&world->hosts[2]);
}

static bool has_a_good_checkpoint(void *userdata) {
        const Host *h = userdata;

        return replica_data_dir(h->store->replica)->checkpoint.fd >= 0 &&
               !replica_data_dir(h->store->replica)->corrupt;
}

static void damage_checkpoint(const Host *h, bool empty) {
        _cleanup_free_ char *file = scratch_path(h->tree_path, "checkpoint/data.mdb");
        _cleanup_close_ int fd = open(file, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(empty ? ftruncate(fd, 0) : pwrite_all(fd, "damage", 6, 4096), 0);
}

/* No entry comes that could make one due. */
static void without_a_leader_too_a_corrupt_checkpoint_is_replaced_at_once(void **state) {
        World *world = *state;
        Host *c = &world->hosts[2];

        make_three(world);
        run_until(world, is_caught_up, &(Pair) { &world->hosts[0], c, 3 });
        replica_checkpoint(c->store->replica);
        run_until(world, has_a_good_checkpoint, c);
        for (unsigned i = 0; i < HOSTS_MAX; i++)
                close_host(&world->hosts[i]);

        for (int empty = 0; empty < 2; empty++) {
                damage_checkpoint(c, empty);
                open_host(world, 2, false);
                assert_true(replica_data_dir(c->store->replica)->corrupt);
                run_until(world, has_a_good_checkpoint, c);
                assert_int_equal(state_of(c).leader_id, 0);
                close_host(c);
        }
}

/* -- Who lost what he had acknowledged -- */

enum { NEW_ID = 9 };

static bool exists(const char *folder, const char *name) {
        _cleanup_free_ char *path = scratch_path(folder, name);

        return access(path, F_OK) == 0;
}

static bool is_vacated(void *userdata) {
        Pair *p = userdata;
        int r = kv_member_vacate(p->leader->store, p->raft_id);

        assert_true(r == 0 || r == -EBUSY || r == -EREMOTE);
        return r == 0;
}

static bool is_removed(void *userdata) {
        Pair *p = userdata;
        KvState s = state_of(p->leader);

        (void) kv_member_remove(p->leader->store, p->raft_id);
        for (size_t i = 0; i < s.n_members; i++)
                if (s.members[i].raft_id == p->raft_id)
                        return false;
        return s.commit == s.raft_index;
}

static void a_voter_whose_log_is_damaged_gives_up_its_id_and_gets_another_one(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0], *c = &world->hosts[2];
        Pair old = { a, c, 3 }, new = { a, c, NEW_ID };
        Error err = {};
        KvState s;

        make_three(world);
        put_many(a, 20);
        put_ok(a, "/before", "1");
        run_until(world, is_caught_up, &old);
        close_host(c);
        flip_a_byte_of_the_log(c);
        reopen_host(c, false);
        s = state_of(c);
        assert_true(s.lost && s.stopped && s.raft_id == 0);
        assert_non_null(strstr(s.problem, "log.00000001 is corrupt"));
        assert_non_null(strstr(s.problem, "--recover"));
        assert_string_equal(value_at(c, "/before"), "1");
        put_ok(a, "/meanwhile", "2");

        reopen_host(c, false); /* it stays so, and its files stay as they are */
        assert_non_null(strstr(state_of(c).problem, "log.00000001 is corrupt")); /* it remembers why */
        assert_true(state_of(c).lost && !exists(c->raft_path, "old.log.00000001"));
        s = state_of(a);
        assert_int_equal(kv_joined(c->store, s.cluster_id, s.lineage + 1, NEW_ID, &err), -EXDEV);
        assert_true(state_of(c).lost);

        assert_int_equal(kv_joined(c->store, s.cluster_id, s.lineage, NEW_ID, &err), 0);
        assert_string_equal(value_at(c, "/before"), "1"); /* shown until the new tree is as far */
        run_until(world, is_vacated, &old);
        run_until(world, is_added, &new);
        run_until(world, is_caught_up, &new);
        run_until(world, is_promoted, &new);
        run_until(world, is_removed, &old);
        put_ok(c, "/after", "3");
        assert_string_equal(value_at(c, "/meanwhile"), "2");
        assert_true(exists(c->raft_path, "old.log.00000001") && exists(c->tree_path, "old/live/data.mdb") &&
                    !exists(c->tree_path, "lost"));

        reopen_host(c, false);
        s = state_of(c);
        assert_true(!s.lost && s.raft_id == NEW_ID);
        put_ok(c, "/again", "4");
}

/* Its checkpoint is of all that it has, and its log in memory begins with it. */
static bool has_a_checkpoint_of_all(void *userdata) {
        const Host *h = userdata;
        const Replica *replica = h->store->replica;

        return replica->checkpoints.reported &&
               replica->data_dir.checkpoint.meta.applied == state_of(h).raft_index;
}

static bool shows_what_came_meanwhile(void *userdata) {
        return streq(value_at(userdata, "/meanwhile"), "2");
}

/* No entry comes after the leader's tree: that alone ends showing the old one. */
static void a_quarantined_replica_serves_the_leaders_tree_once_it_has_caught_up(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0], *c = &world->hosts[2];
        Pair old = { a, c, 3 }, new = { a, c, NEW_ID };
        Error err = {};
        KvState s;

        world->checkpoint_entries = 200;
        make_three(world);
        put_many(a, 20);
        run_until(world, is_caught_up, &old);
        close_host(c);
        flip_a_byte_of_the_log(c);
        reopen_host(c, false);
        assert_true(state_of(c).lost);
        run_until(world, is_vacated, &old);
        run_until(world, is_added, &new);
        put_ok(a, "/meanwhile", "2");
        replica_checkpoint(a->store->replica);
        run_until(world, has_a_checkpoint_of_all, a);

        s = state_of(a);
        assert_int_equal(kv_joined(c->store, s.cluster_id, s.lineage, NEW_ID, &err), 0);
        check_many(c, 20);
        run_until(world, shows_what_came_meanwhile, c);
        assert_int_equal(state_of(a).raft_index, s.raft_index);
        check_many(c, 20);

        replica_fail(c->store->replica, -EIO, "a test says so"); /* it comes back as any other */
        run_until(world, has_come_back, c);
}

static bool knows_no_leader(void *userdata) {
        return state_of(userdata).leader_id == 0;
}

static void where_two_of_three_lost_their_logs_there_is_no_leader_and_all_is_kept(void **state) {
        World *world = *state;
        Host *a = &world->hosts[0], *b = &world->hosts[1], *c = &world->hosts[2];
        uint64_t term;

        make_three(world);
        put_many(a, 20);
        close_host(b);
        close_host(c);
        flip_a_byte_of_the_log(b);
        flip_a_byte_of_the_log(c);
        run_until(world, knows_no_leader, a);
        reopen_host(b, false);
        reopen_host(c, false);
        assert_true(state_of(b).lost && state_of(c).lost);
        term = state_of(a).term;
        assert_true(put(a, "/rejected", "v").status != KV_OK);
        assert_true(!state_of(a).ready && state_of(a).term == term); /* no host votes */
        assert_true(exists(b->raft_path, "log.00000001") && exists(c->raft_path, "log.00000001"));
        assert_non_null(strstr(state_of(b).problem, "--recover"));
}

static void alone_a_damaged_log_is_refused_and_one_of_two_gives_up_its_id(void **state) {
        World *world = *state;
        Host *a = open_host(world, 0, false), *b;
        Error err = {};

        run_until(world, is_led, a);
        put_many(a, 20);
        close_host(a);
        flip_a_byte_of_the_log(a);
        open_peers(a);
        assert_int_equal(try_open(a, false, &err), -EUCLEAN); /* no host could admit it */
        assert_non_null(strstr(err.message, "log.00000001"));
        close_host(a);
        flip_a_byte_of_the_log(a); /* as it was */

        open_host(world, 0, false);
        run_until(world, is_led, a);
        b = let_in(a, 1);
        put_many(a, 20);
        run_until(world, is_caught_up, &(Pair) { a, b, 2 });
        close_host(b);
        flip_a_byte_of_the_log(b);
        reopen_host(b, false);
        assert_true(state_of(b).lost);
}

static bool is_lost(void *userdata) {
        return state_of(userdata).lost;
}

/* The same as where it is alone, but that others can let it in. */
static void a_follower_whose_log_lacks_what_was_acknowledged_gives_up_its_id(void **state) {
        World *world = *state;
        Host *a = open_host(world, 0, false), *b;
        _cleanup_free_ char *file = NULL, *earlier = NULL;
        size_t size;

        run_until(world, is_led, a);
        b = let_in(a, 1);
        file = scratch_path(b->raft_path, "log.00000001");
        put_ok(a, "/a", "1");
        run_until(world, is_caught_up, &(Pair) { a, b, 2 });
        assert_int_equal(read_file_at(AT_FDCWD, file, 8 * 1024 * 1024, &earlier, &size), 0);
        put_many(a, 5);
        run_until(world, is_caught_up, &(Pair) { a, b, 2 });
        data_dir_distrust(replica_data_dir(b->store->replica));
        replica_fail(b->store->replica, -EIO, "this test");
        run_until(world, log_is_closed, b);
        write_back(file, earlier, size);
        run_until(world, is_lost, b);
        assert_true(says_what_is_missing(b));
        assert_int_equal(state_of(b).raft_id, 0);
        check_many(b, 5); /* what it showed it shows */
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
#define ALONE(f) cmocka_unit_test_setup_teardown(f, one_host, end_world)
#define THREE(f) cmocka_unit_test_setup_teardown(f, three_hosts, end_world)
                ALONE(a_fresh_host_is_a_cluster_of_one_that_takes_writes_at_once),
                ALONE(a_refused_command_is_an_answer_and_changes_nothing),
                ALONE(a_command_larger_than_an_entry_is_refused_before_the_log),
                ALONE(a_comparison_of_any_size_is_rejected_or_applied),
                ALONE(a_watcher_is_notified_of_each_change_after_it_can_be_read),
                ALONE(many_proposals_of_one_turn_are_answered_in_order),
                ALONE(a_full_queue_says_busy),
                ALONE(expired_keys_are_removed_without_a_request),
                ALONE(a_restart_keeps_all_and_counts_on),
                ALONE(without_its_live_tree_a_host_rebuilds_it_from_the_log),
                ALONE(a_copy_that_is_under_way_does_not_delay_the_end),
                ALONE(the_history_begins_with_its_level_and_is_part_of_the_tree),
                ALONE(a_log_that_is_applied_again_at_a_start_takes_no_more_memory_than_service),
                ALONE(a_tree_that_is_rebuilt_in_service_takes_one_heavy_entry_a_turn),
                ALONE(a_host_alone_waits_for_no_tick),
                ALONE(a_checkpoint_is_due_by_entries_of_an_eighth_of_the_tree_or_by_bytes),
                ALONE(a_new_checkpoint_closes_the_one_before),
                ALONE(entries_leave_memory_when_they_are_too_many_and_half_of_them_stays),
                ALONE(entries_that_are_applied_again_come_in_slices_of_256),
                ALONE(after_a_reboot_the_checkpoint_and_the_log_behind_it_make_the_same_tree),
                ALONE(a_killed_daemon_finds_its_tree_and_after_three_kills_it_is_rebuilt),
                ALONE(the_marker_of_an_older_version_is_taken_and_an_older_version_takes_ours),
                ALONE(another_machines_folder_is_refused_with_the_remedy),
                ALONE(an_identity_that_is_not_the_logs_is_refused),
                THREE(log_and_handshake_name_their_cluster),
                ALONE(a_tree_on_a_disk_that_was_attached_again_is_rebuilt),
                ALONE(the_file_of_the_keys_shrinks_at_a_start_once_most_of_it_is_free),
                ALONE(the_folder_of_other_hardware_is_refused_and_stays_as_it_was),
                ALONE(a_tree_that_is_found_corrupt_at_the_start_is_rebuilt_in_service),
                ALONE(a_corrupt_log_is_refused_with_file_and_offset),
                ALONE(a_tree_without_its_log_is_refused),
                ALONE(a_full_disk_stops_the_replica_reads_continue_and_space_recovers_it),
                ALONE(a_log_that_lacks_what_was_acknowledged_is_not_begun_again_from),
                THREE(three_hosts_make_one_cluster_and_a_follower_reads_what_it_wrote),
                THREE(a_refusal_reaches_the_follower_that_asked),
                THREE(a_host_with_a_smaller_quota_has_space_for_the_tree_of_the_cluster),
                THREE(entries_that_a_host_lacks_stay_in_memory),
                ALONE(a_command_without_space_does_not_reach_the_log),
                ALONE(what_people_write_passes_a_flood_of_states),
                THREE(what_people_write_on_a_follower_passes_a_flood_of_states),
                THREE(when_the_leader_closes_writes_continue),
                THREE(the_second_of_two_voters_becomes_a_standby_again),
                THREE(a_tree_that_was_changed_behind_our_back_is_made_again_in_the_running_daemon),
                THREE(a_tree_that_differs_from_the_majority_is_made_again_of_the_leaders),
                THREE(a_tree_of_the_leader_comes_with_its_history),
                THREE(where_two_trees_diverge_without_a_majority_both_report_it_and_keep_theirs),
                THREE(a_leader_whose_disk_is_full_transfers_leadership_and_follows_when_there_is_space),
                THREE(a_new_leader_does_not_report_that_there_is_no_leader),
                THREE(without_a_majority_writes_report_it_and_reads_continue),
                THREE(a_standby_says_at_once_that_its_leader_is_silent),
                THREE(a_leader_sends_nothing_to_itself),
                THREE(a_leader_that_is_cut_off_answers_at_once_and_promises_nothing),
                THREE(a_follower_that_fell_far_behind_receives_the_tree),
                THREE(missed_entries_are_applied_and_notified_in_slices),
                THREE(a_follower_applies_one_heavy_entry_a_turn),
                THREE(when_all_are_cut_at_once_everything_is_there_again),
                THREE(without_a_leader_too_a_corrupt_checkpoint_is_replaced_at_once),
                THREE(a_voter_whose_log_is_damaged_gives_up_its_id_and_gets_another_one),
                THREE(a_quarantined_replica_serves_the_leaders_tree_once_it_has_caught_up),
                THREE(where_two_of_three_lost_their_logs_there_is_no_leader_and_all_is_kept),
                THREE(alone_a_damaged_log_is_refused_and_one_of_two_gives_up_its_id),
                THREE(a_follower_whose_log_lacks_what_was_acknowledged_gives_up_its_id),
        };

        signal(SIGPIPE, SIG_IGN);
        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
