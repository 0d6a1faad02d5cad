#include "tests/sim/stores.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/table.h"
#include "kvstore/kvstore_internal.h"
#include "tests/lib/scratch.h"
#include "tests/sim/data_dir_faults.h"
#include "tests/lib/store_inside.h"

enum { TRANSFER_TRIED_MS = 3000, COPY_TRIED_MS = 15000 };

bool store_is_up(const Host *h) {
        return h->store && !h->dying;
}

Host *stores_any(Stores *all) {
        return &all->hosts[world_draw(all->world, all->n)];
}

Host *stores_leader(Stores *all) {
        for (unsigned i = 0; i < all->n; i++)
                if (store_is_up(&all->hosts[i]) && kv_leads(all->hosts[i].store) > 0)
                        return &all->hosts[i];
        return NULL;
}

/* -- The reports of each store -- */

static void check_terms(Stores *all, Host *h, const KvState *state) {
        if (state->term == 0) /* it waits, or starts empty */
                return;
        if (state->term < h->term)
                world_failed(all->world, "terms-never-go-back", "%s: from %" PRIu64 " to %" PRIu64, h->name,
                             h->term, state->term);
        h->term = state->term;
        if (state->role != KV_ROLE_LEADER)
                return;
        while (all->n_leaders <= state->term) {
                if (GROW(all->leaders, all->leaders_capacity, all->n_leaders + 1) < 0)
                        abort();
                all->leaders[all->n_leaders++] = 0;
        }
        if (all->leaders[state->term] == 0)
                all->n_elections++;
        else if (all->leaders[state->term] != h->lives)
                world_failed(all->world, "one-leader-a-term", "%s in term %" PRIu64, h->name, state->term);
        all->leaders[state->term] = h->lives;
}

static void see_state(Host *h, const KvState *state) {
        World *w = h->all->world;

        if ((h->lost_ms == 0) != (state->leader_id != 0))
                world_trace(w, h->name, "%s: %s, term %" PRIu64 ", entry %" PRIu64,
                            state->leader_id != 0 ? "knows a leader" : "knows no leader",
                            kv_role_name(state->role), state->term, state->raft_index);
        h->lost_ms = state->leader_id != 0 || store_forwards(h->store) ? 0 : h->lost_ms ?: world_now_ms(w);
        check_terms(h->all, h, state);
}

static void on_state(void *userdata) {
        Host *h = userdata;
        KvState state;

        if (!store_is_up(h))
                return;
        kv_state(h->store, &state);
        see_state(h, &state);
        if (!h->stopped || state.stopped)
                return;
        world_trace(h->all->world, h->name, "has come back");
        h->stopped = false;
        h->disk_bad = h->disk_breaks;
        h->all->counts[FAULT_RETURN]++;
}

/* -- A daemon's life -- */

static void on_upgraded(void *userdata) {
        (void) store_crash(userdata);
}

/* An old program stops at an entry of a newer feature level, and never earlier; a newer program replaces it.
 */
static bool is_too_old(Host *h, int error, const char *message) {
        if (error != -ENOTSUP || !h->old)
                return false;
        if (!strstr(message, "feature level"))
                world_failed(h->all->world, "refusals-have-a-reason", "%s: %s", h->name, message);
        world_trace(h->all->world, h->name, "is upgraded: %s", message);
        h->old = false;
        h->all->counts[FAULT_OLD_PROGRAM]++;
        return true;
}

/* Only a failing disk may stop a replica, or a feature level that is newer than its program. */
static void on_failed(void *userdata, int error, const char *reason) {
        Host *h = userdata;

        if (is_too_old(h, error, reason)) {
                h->stopped = true;
                world_at(h->all->world, world_draw(h->all->world, 2000), NULL, on_upgraded, h);
                return;
        }
        if (!h->disk_bad && h->corrupt_tree == 0 && world_now_ms(h->all->world) > h->all->slow_until_ms)
                world_failed(h->all->world, "a-replica-runs", "%s: %s", h->name, reason);
        world_trace(h->all->world, h->name, "fails: %s", reason);
        h->stopped = true;
}

static void open_peers(Host *h) {
        PeersOptions options = { .self = { .nonce = random_u64(loop_random(world_loop(h->loop))) | 1 } };
        PeerAddress known[STORES_MAX] = {};
        size_t n = 0;

        memcpy(options.self.machine_id, h->machine_id, sizeof(h->machine_id));
        memcpy(options.self.boot_id, h->boot_id, sizeof(h->boot_id));
        memcpy(options.self.address, h->endpoint, sizeof(h->endpoint));
        if (peers_new(&h->peers, world_loop(h->loop), sim_host_network(h->card, h->loop), &options) < 0 ||
            peers_listen(h->peers, h->endpoint, NULL) < 0)
                abort();
        for (unsigned i = 0; i < h->all->n; i++)
                if (&h->all->hosts[i] != h)
                        memcpy(known[n++].address, h->all->hosts[i].endpoint, sizeof(h->endpoint));
        if (peers_set_known(h->peers, known, n) < 0)
                abort();
}

static void begin_tree(Host *h) {
        char name[32];

        if (h->tree)
                folder_fault(h->tree, 0);
        free(h->tree);
        snprintf(name, sizeof(name), "tree-%u", ++h->trees);
        h->tree = scratch_path(h->folder, name);
        if (h->disk)
                memory_disk_free(h->disk);
        h->disk = world_disk_new(h->all->world);
        if (h->all->unsynced)
                h->disk->unsynced = true;
}

static void on_bury(void *userdata);
static void on_peers_closed(void *userdata);

static void on_start(void *userdata) {
        Host *h = userdata;

        if (!h->loop && h->power && !h->all->ending)
                store_start(h);
}

/* Judge a store that did not open: allowed if its disk fails to read, or its log is corrupt and the message
 * says so. A host that lost its log returns empty, as another member. */
static void refuse_to_open(Host *h, int error, const char *message) {
        Stores *all = h->all;

        if (!is_too_old(h, error, message) && !h->disk_breaks && !h->damaged)
                world_failed(all->world, "a-store-opens", "%s: %s", h->name, message);
        if (message[0] == 0)
                world_failed(all->world, "refusals-have-a-reason", "%s: %d", h->name, error);
        world_trace(all->world, h->name, "does not open: %s", message);
        if (h->damaged && error == -EUCLEAN)
                h->wipe = true;
        h->store = NULL;
        h->dying = true;
        peers_close(h->peers, "", on_peers_closed, h);
        world_at(all->world, 0, NULL, on_bury, h);
        world_at(all->world, 500 + world_draw(all->world, 2000), NULL, on_start, h);
}

void store_start(Host *h) {
        Stores *all = h->all;
        KvOptions options = {
                .checkpoint_entries = 100 + (unsigned) world_draw(all->world, 400),
                .checkpoint_kept = 1 + (unsigned) world_draw(all->world, 1500),
                .memory_bytes = 1024 + world_draw(all->world, 32 * 1024),
                .log_file_size = 64 * 1024,
                .compare_every = 50,
                .quota = 64 * 1024 * 1024,
                .quota_nodes = 1000000 + h->number,
                .level_max = h->old ? KV_LEVEL_FIRST : 0,
                .events = { .on_state = on_state, .on_failed = on_failed, .userdata = h },
        };
        Error err = {};
        int r;

        h->wanted = h->loop || !h->power;
        if (h->wanted)
                return;
        if (h->wipe) {
                begin_tree(h);
                h->raft_id = 0;
                h->corrupt_checkpoint = h->corrupt_tree = 0;
                h->wipe = h->disk_breaks = h->damaged = false;
        }

        world_trace(all->world, h->name, "starts");
        h->lives = ++all->lives;
        h->lost_ms = h->paused_ms = 0;
        memory_disk_start_again(h->disk);
        memory_disk_set_error(h->disk, 0, false);
        folder_fault(h->tree, 0);
        h->disk_bad = h->stopped = false;
        h->loop = world_loop_new(all->world, h->name);
        world_loop_set_work_ms(h->loop, 0, all->disk_ms);
        world_loop_set_drift(h->loop, h->drift_ppm);
        world_loop_set_wall_offset(h->loop, h->wall_offset_ms);
        open_peers(h);
        options.join = h != &all->hosts[0] || h->trees > 1;
        options.tree_path = h->tree;
        options.read_bound_path = h->agent_path;
        options.log_disk = &h->disk->base;
        options.peers = h->peers;
        memcpy(options.machine_id, h->machine_id, sizeof(h->machine_id));
        memcpy(options.boot_id, h->boot_id, sizeof(h->boot_id));
        memcpy(options.address, h->endpoint, sizeof(h->endpoint));
        r = kv_open(&h->store, world_loop(h->loop), &options, &err);
        if (r < 0)
                refuse_to_open(h, r, error_text(&err, r));
}

static void on_bury(void *userdata) {
        Host *h = userdata;

        if (h->peers || h->store) {
                world_at(h->all->world, 5, NULL, on_bury, h);
                return;
        }
        sim_host_reset(h->card, true);
        h->loop = world_loop_free(h->loop);
        h->dying = false;
        if (h->wanted)
                store_start(h);
}

static void on_peers_closed(void *userdata) {
        Host *h = userdata;

        h->peers = NULL;
}

static void on_store_closed(void *userdata) {
        Host *h = userdata;

        h->store = NULL;
        peers_close(h->peers, "stop", on_peers_closed, h);
}

static void die(Host *h, bool tear) {
        h->dying = true;
        if (tear)
                memory_disk_cut_power(h->disk);
        world_loop_drop_work(h->loop, tear);
        sim_host_dropped(h->card);
        watchers_leave(h->all->watchers, h->number);
        h->store = kv_crash(h->store);
        h->all->gone(h->all->userdata, h);
        peers_close(h->peers, "", on_peers_closed, h);
        world_at(h->all->world, 0, NULL, on_bury, h);
}

bool store_crash(Host *h) {
        if (!h->store || h->dying)
                return false;
        world_trace(h->all->world, h->name, "crashes");
        die(h, false);
        h->wanted = true;
        return true;
}

void store_stop(Host *h) {
        if (!h->store || h->dying)
                return;
        world_trace(h->all->world, h->name, "stops");
        h->dying = true;
        watchers_leave(h->all->watchers, h->number);
        kv_close(h->store, on_store_closed, h);
        world_at(h->all->world, 0, NULL, on_bury, h);
        h->wanted = true;
}

void store_power_on(Host *h) {
        if (h->power || h->all->ending)
                return;
        world_trace(h->all->world, h->name, "power on");
        h->power = true;
        h->boots++;
        snprintf(h->boot_id, sizeof(h->boot_id), "%032x", h->boots);
        sim_host_power(h->card, true);
        store_start(h);
}

static void on_power_on(void *userdata) {
        store_power_on(userdata);
}

/* Lose a part of the unsynced writes to the live tree: no later start may trust it. */
static void lose_pages(Host *h) {
        Stores *all = h->all;
        _cleanup_free_ char *path = NULL;
        uint8_t page[4096];
        struct stat st;
        int fd;

        folder_fault(h->tree, 0);
        if (all->off[FAULT_LOST_PAGES] || asprintf(&path, "%s/live/data.mdb", h->tree) < 0)
                return;
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < (off_t) sizeof(page)) {
                if (fd >= 0)
                        close(fd);
                return;
        }
        for (uint64_t n = 1 + world_draw(all->world, 8); n-- > 0;) {
                memset(page, world_chance(all->world, 50) ? 0 : (int) world_draw(all->world, 256),
                       sizeof(page));
                if (pwrite(fd, page, sizeof(page),
                           (off_t) (world_draw(all->world, (uint64_t) st.st_size / sizeof(page)) *
                                    sizeof(page))) < 0)
                        abort();
        }
        close(fd);
        all->counts[FAULT_LOST_PAGES]++;
}

bool store_power_cut(Host *h, uint64_t for_ms) {
        if (!h->power || h->dying)
                return false;
        world_trace(h->all->world, h->name, "power cut");
        h->power = h->wanted = false;
        sim_host_power(h->card, false);
        if (h->store)
                die(h, true);
        lose_pages(h);
        world_at(h->all->world, for_ms, NULL, on_power_on, h);
        return true;
}

/* -- Replicas are equal -- */

#define FLIPPED "/flipped" /* no client reads it, and no command writes it */

bool store_is_flipped(const Host *h) {
        TreeTxn *txn;
        KvNode node;
        bool r;

        if (!store_is_up(h) || kv_read(h->store, &txn) < 0)
                return false;
        r = tree_get(txn, kv_string(FLIPPED), &node) >= 0;
        tree_abort(txn);
        return r;
}

bool store_flip(Host *h) {
        TreeTxn *txn;

        if (!store_is_up(h) || tree_begin_write(replica_live_tree(h->store->replica), &txn) < 0)
                return false;
        if (tree_put(txn, &(KvNode) { .key = kv_string(FLIPPED), .created = 1, .modified = 1 }) < 0 ||
            tree_commit(txn) < 0)
                abort();
        world_trace(h->all->world, h->name, "has another tree now");
        h->replica_is_odd = true;
        h->all->counts[FAULT_DIFFERS]++;
        return true;
}

bool stores_flip(Stores *all) {
        Host *h = stores_any(all), *leader = stores_leader(all);
        KvState state;

        if (!leader)
                return false;
        kv_state(leader->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                if (!state.members[i].reachable || state.members[i].match + 20 < state.commit)
                        return false; /* a lagging host may receive the wrong tree */
        if (state.n_members < all->n || state.n_voters < 3 || h->replica_is_odd ||
            store_may_show_rot(h, true))
                return false;
        return store_flip(h);
}

/* Only the replica that was changed may be reported as diverged. */
static void check_verdict(Stores *all, Host *h, const KvState *state) {
        bool doubts = state->undecided && !h->doubts; /* until a leader reports the end */

        h->doubts = state->undecided;
        if ((state->differs && !h->replica_is_odd && h->corrupt_tree == 0) ||
            (doubts && world_now_ms(all->world) > all->doubt_until_ms))
                world_failed(all->world, "only-the-diverged-host-is-found", "%s: %s", h->name,
                             state->problem);
}

/* -- The history -- */

enum { BODIES = 40 };

/* Below the level of the history, the store proposes the write without its row. */
static void on_not_noted(void *userdata, const KvResult *result) {
        Host *h = userdata;

        if (result->status == KV_INVALID)
                world_failed(h->all->world, "rows-begin-with-their-level", "%s: %.*s", h->name,
                             (int) result->cause.size, (const char *) result->cause.data);
}

static void on_noted(void *userdata, const KvResult *result) {
        Host *h = userdata;

        on_not_noted(h, result);
        if (result->status != KV_OK)
                return;
        h->all->n_acknowledged++;
        h->all->acknowledged_index = MAX(h->all->acknowledged_index, result->index);
}

void store_note(Host *h) {
        Stores *all = h->all;
        char body[64], key[64];
        KvCommand write = { .op = KV_SET, .value = kv_string("noted") };

        if (!store_is_up(h))
                return;
        all->n_noted++;
        snprintf(key, sizeof(key), "/_fleet/noted/%" PRIu64, all->n_noted % 3);
        snprintf(body, sizeof(body), "unit %" PRIu64 " of %s", all->n_noted * all->n_noted % BODIES, h->name);
        write.key = kv_string(key);
        write.note = (KvNote) { loop_wall_ms(h->store->loop), kv_string(body) };
        if (kv_propose(h->store,
                       &(KvCommand) { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 },
                       kv_level(h->store) >= KV_LEVEL_HISTORY ? on_noted : on_not_noted, h, NULL) < 0)
                abort();
}

typedef struct Rows {
        Host *host;
        uint64_t hash, last, count;
} Rows;

static int rows_add(void *userdata, const KvHistoryRow *row) {
        Rows *rows = userdata;
        uint64_t fields[] = { rows->hash, row->index, row->first_ms, row->last_ms, row->count };

        if (row->index <= rows->last || row->count == 0 || row->last_ms < row->first_ms)
                world_failed(rows->host->all->world, "rows-are-in-order",
                             "%s: index %" PRIu64 " after %" PRIu64, rows->host->name, row->index,
                             rows->last);
        rows->hash = XXH3_64bits_withSeed(row->body.data, row->body.size,
                                          XXH3_64bits(fields, sizeof(fields)));
        rows->last = row->index;
        rows->count += row->count;
        return 1;
}

static Rows store_rows(Host *h) {
        Rows rows = { .host = h };

        if (kv_local_history(h->store, 0, false, rows_add, &rows) < 0)
                world_failed(h->all->world, "a-history-can-be-read", "%s", h->name);
        return rows;
}

void store_check_history(Host *h) {
        Stores *all = h->all;
        Rows rows = store_rows(h);

        if (kv_index(h->store) >= all->acknowledged_index &&
            (rows.count < all->n_acknowledged || rows.count > all->n_noted))
                world_failed(all->world, "each-row-counts-once",
                             "%s: %" PRIu64 " of %" PRIu64 " acknowledged, %" PRIu64 " proposed", h->name,
                             rows.count, all->n_acknowledged, all->n_noted);
}

/* -- The trees -- */

/* A tree at the index of its last comparison is not read again: a difference that came later is still there
 * at the next one. */
void stores_check_hash(Stores *all, Host *h) {
        uint64_t hash, applied, rows;
        TreeMeta meta;

        if (!store_is_up(h) || store_is_flipped(h) || h->corrupt_tree != 0)
                return;
        if (store_meta(h->store, &meta) == 0 && meta.applied == h->hashed_at && h->lives == h->hashed_life)
                return;
        if (store_hash(h->store, &hash, &applied) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
        while (all->n_hashes <= applied) {
                if (GROW(all->hashes, all->hashes_capacity, all->n_hashes + 1) < 0 ||
                    GROW(all->histories, all->histories_capacity, all->n_hashes + 1) < 0)
                        abort();
                all->histories[all->n_hashes] = 0;
                all->hashes[all->n_hashes++] = 0;
        }
        h->hashed_at = applied;
        h->hashed_life = h->lives;
        rows = store_rows(h).hash;
        if (all->hashes[applied] != 0 && all->histories[applied] != rows)
                world_failed(all->world, "histories-are-equal", "%s at entry %" PRIu64, h->name, applied);
        all->histories[applied] = rows;
        if (all->hashes[applied] != 0 && all->hashes[applied] != hash)
                world_failed(all->world, "replicas-are-equal", "%s at entry %" PRIu64, h->name, applied);
        all->n_compared += all->hashes[applied] != 0;
        all->hashes[applied] = hash;
}

/* -- All of it -- */

/* Corrupt a checkpoint that is being sent: the receiver has to detect it. */
static void corrupt_the_transfer(Stores *all) {
        Host *leader = stores_leader(all);

        if (all->quiet || !all->has[FAULT_CHECKPOINT_ROT] || !leader || !world_chance(all->world, 20) ||
            !store_rot_checkpoint(leader))
                return;
        all->counts[FAULT_CHECKPOINT_ROT]++;
}

void stores_log(Stores *all, const char *message) {
        world_trace(all->world, "log", "%s", message);
        if (all->on_message)
                all->on_message(all->message_userdata, message);
        if (starts_with(message, "sending the tree")) {
                all->counts[FAULT_TRANSFER]++;
                corrupt_the_transfer(all);
                for (unsigned i = 0; i < all->n; i++)
                        if (all->hosts[i].disk_breaks) /* the quorum may need a host that cannot receive it */
                                all->slow_until_ms = MAX(all->slow_until_ms,
                                                         world_now_ms(all->world) + TRANSFER_TRIED_MS);
        }
        if (starts_with(message,
                        "Failed to make a checkpoint")) /* without a copy there is no snapshot to send */
                all->slow_until_ms = MAX(all->slow_until_ms, world_now_ms(all->world) + COPY_TRIED_MS);
        all->counts[FAULT_CHECKPOINT_REFUSED] += strstr(message, "is corrupt, reported by replica ") != NULL;
}

static void on_raised(void *userdata, const KvResult *result) {}

/* Raise the level, even beyond that of the other hosts: a host with a lower level has to stop. */
static void raise_level(Stores *all, Host *h) {
        KvState state;

        if (!store_is_up(h) || h->old)
                return;
        kv_state(h->store, &state);
        if (state.level < KV_LEVEL_MAX && state.leader_id != 0)
                (void) kv_propose(h->store,
                                  &(KvCommand) { .op = KV_RAISE, .internal = true, .limit = KV_LEVEL_MAX },
                                  on_raised, h, NULL);
}

void stores_turn(Stores *all) {
        for (unsigned i = 0; i < all->n; i++)
                store_see_rot(&all->hosts[i]);
        watchers_doubt(all->watchers, store_may_show_rot(&all->hosts[0], true));
        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];
                KvState state;

                if (!store_is_up(h))
                        continue;
                kv_state(h->store, &state);
                check_verdict(all, h, &state);
                see_state(h, &state);
        }
        if (world_draw(all->world, 300) == 0)
                raise_level(all, stores_any(all));
        if (world_chance(all->world, all->calm ? 20 : 5))
                stores_check_hash(all, stores_any(all));
        if (world_chance(all->world, all->calm ? 50 : 10))
                stores_members_turn(all);
        if (!all->quiet)
                stores_faults_turn(all);
        watchers_doubt(all->watchers,
                       store_may_show_rot(&all->hosts[0], true)); /* a tree may rot in this turn */
}

void stores_begin(Stores *all) {
        static const unsigned sizes[] = { 3, 5, 3, 5, 3, 2, 1, 7, 3, 5 };

        all->net_ms = 1 + (unsigned) world_draw(all->world, 5);
        all->net = sim_net_new(all->world, 0, all->net_ms);
        all->disk_ms = 1 + (unsigned) world_draw(all->world, 20);
        all->per_10000 = 30 + (unsigned) world_draw(all->world, 200);
        for (unsigned i = 0; i < _FAULT_DRAWN; i++)
                all->has[i] = world_chance(all->world, 60) && !all->off[i];
        all->n = MIN(all->n, (unsigned) STORES_MAX) ?: sizes[world_draw(all->world, ELEMENTS(sizes))];
        all->upgrading = all->n;

        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];

                *h = (Host) { .all = all, .number = i, .power = true, .folder = scratch_new() };
                snprintf(h->name, sizeof(h->name), "h%u", i + 1);
                snprintf(h->address, sizeof(h->address), "10.0.0.%u", i + 1);
                snprintf(h->endpoint, sizeof(h->endpoint), "10.0.0.%u:2380", i + 1);
                snprintf(h->machine_id, sizeof(h->machine_id), "%032x", i + 1);
                snprintf(h->boot_id, sizeof(h->boot_id), "%032x", 0);
                h->agent_path = scratch_path(h->folder, "agent");
                h->old = world_chance(all->world, 20) &&
                         !all->quiet; /* always drawn: a scenario's seeds keep their meaning */
                begin_tree(h);
                h->card = sim_host_new(all->net, h->address);
        }
        all->hosts[0].raft_id = all->last_raft_id = 1;
        for (unsigned i = 0; i < all->n; i++)
                store_start(&all->hosts[i]);
}

void stores_heal(Stores *all) {
        world_trace(all->world, "world", "all heals");
        all->quiet = true;
        stores_faults_end(all);
        for (unsigned i = 0; i < all->n; i++) {
                store_power_on(&all->hosts[i]);
                store_start(&all->hosts[i]);
        }
}

void stores_end(Stores *all) {
        all->quiet = all->ending = true;
        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];

                while (h->loop) {
                        h->wanted = h->power = false;
                        if (h->store && !h->dying)
                                die(h, false);
                        world_run(all->world, world_now_ms(all->world) + 100);
                }
                memory_disk_free(h->disk);
                folder_fault(h->tree, 0);
                free(h->tree);
                free(h->agent_path);
                scratch_free(h->folder);
        }
        sim_net_free(all->net);
        free(all->hashes);
        free(all->histories);
        free(all->leaders);
}
