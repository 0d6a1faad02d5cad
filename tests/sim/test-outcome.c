/* What becomes of a write whose leader is lost, or whose host cannot follow (ARCHITECTURE, Own writes):
 *
 *      test-outcome [--seed N] [--runs N] [--trace]
 *
 * The leader dies at each moment between the asking and the answer: the follower that asked says "done", in
 * time, and it was done once. A follower whose disk hangs gives the leader's answer, and shows nothing until
 * it has come so far. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "kvstore/propose.h"
#include "tests/lib/scratch.h"
#include "tests/sim/data_dir_faults.h"
#include "tests/sim/scenarios.h"

enum {
        PATIENCE_MS = 60000,
        LOOK_MS = 10,
        ANSWER_MS = 1500,
        ELECTION_MS = 400,
        WRITES = 5,
        MOMENTS = 40,
        ENTRIES = 2200
};

typedef struct Ask {
        Stores *all;
        Host *host;
        uint64_t begun_ms, took_ms, index;
        bool came, shown; /* shown: its host may show its tree when the answer comes */
        KvStatus status;
} Ask;

static void on_answer(void *userdata, const KvResult *result) {
        Ask *a = userdata;

        a->came = true;
        a->status = result->status;
        a->index = result->index;
        a->took_ms = world_now_ms(a->all->world) - a->begun_ms;
        a->shown = kv_can_serve(a->host->store);
}

/* 'term': it is valid in that one alone, and asked of nobody else; 0: in any. */
static void ask_in(Ask *a, Stores *all, Host *h, uint64_t term) {
        KvCommand cmd = { .op = KV_POST, .key = kv_string("/q"), .value = kv_string("1"), .term = term };

        *a = (Ask) { .all = all, .host = h, .begun_ms = world_now_ms(all->world) };
        if (kv_propose(h->store, &cmd, on_answer, a, NULL) < 0)
                abort();
}

static void ask(Ask *a, Stores *all, Host *h) {
        ask_in(a, all, h, 0);
}

static void run_ms(Stores *all, uint64_t ms) {
        world_run(all->world, world_now_ms(all->world) + ms);
}

static int count_child(void *userdata, const KvNode *node) {
        ++*(unsigned *) userdata;
        return 1;
}

static unsigned children(Stores *all, Host *h) {
        unsigned n = 0;
        TreeTxn *txn;

        if (kv_read(h->store, &txn) < 0 || tree_walk(txn, kv_string("/q"), false, count_child, &n) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
        tree_abort(txn);
        return n;
}

static Host *wait_for_leader(Stores *all) {
        Host *leader;

        for (unsigned i = 0; !(leader = stores_leader(all)); i++) {
                if (i > PATIENCE_MS / LOOK_MS)
                        world_failed(all->world, "there-is-a-leader", "not within %d s", PATIENCE_MS / 1000);
                run_ms(all, LOOK_MS);
        }
        return leader;
}

/* Three voters, all of them up, and one leads; NULL: not yet. */
static Host *whole(Stores *all) {
        Host *leader = stores_leader(all);
        KvState state, other;

        if (!leader)
                return NULL;
        kv_state(leader->store, &state);
        for (unsigned i = 0; i < all->n; i++) {
                if (!store_is_up(&all->hosts[i]))
                        return NULL;
                kv_state(all->hosts[i].store, &other);
                if (other.leader_id != state.raft_id || other.raft_index != state.raft_index)
                        return NULL;
        }
        return state.n_voters == 3 && state.n_voters_reachable == 3 ? leader : NULL;
}

static Host *wait_until_whole(Stores *all) {
        Host *leader;

        for (unsigned i = 0; !(leader = whole(all)); i++) {
                if (i > PATIENCE_MS / LOOK_MS)
                        world_failed(all->world, "there-are-three-voters", "not within %d s",
                                     PATIENCE_MS / 1000);
                stores_turn(all);
                run_ms(all, LOOK_MS);
        }
        return leader;
}

/* -- Scenarios -- */

static void a_leader_that_dies_at_any_moment_leaves_no_doubt(Stores *all) {
        unsigned n = 0;

        for (unsigned moment = 0; moment < MOMENTS; moment++) {
                Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1 + moment % 2) % 3];
                Ask asks[WRITES];

                for (unsigned i = 0; i < WRITES; i++)
                        ask(&asks[i], all, h);
                run_ms(all, moment);
                (void) store_crash(leader);
                run_ms(all, ANSWER_MS);
                for (unsigned i = 0; i < WRITES; i++)
                        if (!asks[i].came || asks[i].status != KV_OK)
                                world_failed(all->world, "nobody-is-left-in-doubt",
                                             "%u ms after the asking the leader died; then %s: %s", moment,
                                             h->name,
                                             asks[i].came ? kv_status_name(asks[i].status) : "nothing");
                n += WRITES;
                (void) wait_until_whole(all);
                for (unsigned i = 0; i < 3; i++)
                        if (children(all, &all->hosts[i]) != n)
                                world_failed(all->world, "what-was-asked-is-done-once",
                                             "%u ms after the asking the leader died: %s has %u of %u",
                                             moment, all->hosts[i].name, children(all, &all->hosts[i]), n);
        }
}

/* So much that who was away is sent the tree, which takes a while. */
static void write_much(Stores *all) {
        static char large[128 * 1024];

        memset(large, 'x', sizeof(large));
        for (unsigned i = 0; i < ENTRIES; i++) {
                Host *leader = wait_for_leader(all);
                KvCommand cmd = { .op = KV_SET,
                                  .value = i % 100 == 0 ? (KvBytes) { large, sizeof(large) } :
                                                          kv_string("1") };
                Ask a = { .all = all, .host = leader };
                char key[32];

                snprintf(key, sizeof(key), "/much/%u", i % 100 == 0 ? i : 1);
                cmd.key = kv_string(key);
                if (kv_propose(leader->store, &cmd, on_answer, &a, NULL) < 0)
                        abort();
                while (!a.came)
                        run_ms(all, 1);
        }
}

static void a_host_that_cannot_follow_gives_the_leaders_answer_and_shows_nothing_older(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        KvState state;
        Ask a;

        store_power_cut(h, 3600 * 1000);
        write_much(all);
        store_power_on(h);
        world_loop_set_work_ms(h->loop, 700, 700);
        do {
                run_ms(all, 1);
                kv_state(h->store, &state);
        } while (!state.ready);
        ask(&a, all, h);
        run_ms(all, ANSWER_MS);
        if (!a.came || a.status != KV_OK)
                world_failed(all->world, "a-leaders-answer-is-an-answer", "%s",
                             a.came ? kv_status_name(a.status) : "nothing came");
        if (kv_index(h->store) >= a.index)
                world_failed(all->world, "the-host-cannot-follow", "it has index %" PRIu64, a.index);
        if (a.shown || kv_can_serve(h->store))
                world_failed(all->world, "nothing-older-is-shown", "index %" PRIu64 " was promised", a.index);

        world_loop_set_work_ms(h->loop, 0, 5);
        (void) wait_until_whole(all);
        if (!kv_can_serve(h->store) || children(all, h) != 1)
                world_failed(all->world, "who-has-caught-up-shows-it", "%u children", children(all, h));
}

/* -- Runs -- */

/* What its owner breaks is told from what an owner would have to mend: the replica comes back by itself. */
static void a_leader_whose_disk_refuses_is_replaced_within_three_elections(Stores *all) {
        static const int errors[] = { -ENOSPC, -EIO };
        unsigned n = 0;

        for (unsigned k = 0; k < 6; k++) {
                Host *leader = wait_until_whole(all), *next = NULL,
                     *other = &all->hosts[(leader->number + 1) % 3];
                uint64_t begun_ms;
                Ask acknowledged, a;

                ask(&acknowledged, all, other);
                run_ms(all, 500);
                n += acknowledged.came && acknowledged.status == KV_OK;
                run_ms(all, k * 7); /* another write each time */
                leader->disk_bad = leader->disk_breaks = true;
                memory_disk_set_error(leader->disk, errors[k % 2], false);
                begun_ms = world_now_ms(all->world);
                ask(&a, all, other);
                while (!(next = stores_leader(all)) || next == leader) {
                        if (world_now_ms(all->world) > begun_ms + 3 * ELECTION_MS)
                                world_failed(all->world, "another-leads-within-three-elections", "after %d",
                                             errors[k % 2]);
                        run_ms(all, 1);
                }
                run_ms(all, 2 * ANSWER_MS);
                if (!a.came || a.status != KV_OK)
                        world_failed(all->world, "who-asked-is-answered", "%s",
                                     a.came ? kv_status_name(a.status) : "nothing");
                n++;
                memory_disk_set_error(leader->disk, 0, false);
                leader->disk_breaks = false;
                (void) wait_until_whole(all);
                for (unsigned i = 0; i < 3; i++)
                        if (children(all, &all->hosts[i]) < n)
                                world_failed(all->world, "what-was-acknowledged-is-there", "%s has %u of %u",
                                             all->hosts[i].name, children(all, &all->hosts[i]), n);
        }
}

/* Without a replica of its own, while the others have a majority. */
static void a_host_whose_replica_has_stopped_sends_writes_to_the_leader(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        Ask asks[WRITES], first, early;
        KvState state;

        run_ms(all, 1000);
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, -ENOSPC, false);
        ask(&first, all, leader); /* which the disk refuses */
        do {
                run_ms(all, LOOK_MS);
                kv_state(h->store, &state);
        } while (!state.stopped);
        ask(&early, all, h); /* before it has heard the leader again */
        run_ms(all, ANSWER_MS / 3);
        if (!early.came || early.status != KV_OK)
                world_failed(all->world, "a-stopped-host-writes-early", "%s",
                             early.came ? kv_status_name(early.status) : "nothing came");
        for (unsigned i = 0; i < WRITES; i++)
                ask(&asks[i], all, h);
        run_ms(all, ANSWER_MS);
        for (unsigned i = 0; i < WRITES; i++)
                if (!asks[i].came || asks[i].status != KV_OK)
                        world_failed(all->world, "a-stopped-host-writes", "%s",
                                     asks[i].came ? kv_status_name(asks[i].status) : "nothing came");
                else if (asks[i].took_ms > ANSWER_MS / 3)
                        world_failed(all->world, "a-stopped-host-writes-soon", "after %" PRIu64 " ms",
                                     asks[i].took_ms);
        if (kv_can_serve(h->store))
                world_failed(all->world, "nothing-older-is-shown", "%s shows index %" PRIu64, h->name,
                             kv_index(h->store));

        memory_disk_set_error(h->disk, 0, false);
        h->disk_breaks = false;
        (void) wait_until_whole(all);
        if (!kv_can_serve(h->store) || children(all, h) != WRITES + 2)
                world_failed(all->world, "who-is-back-shows-it", "%u children", children(all, h));
}

/* It is taken, and waits behind entries that no majority writes; it comes to the log too late, and only the
 * log would say so. */
static void what_came_to_the_log_too_late_is_unknown_to_a_host_whose_replica_has_stopped(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3],
             *other = &all->hosts[(leader->number + 2) % 3];
        Ask asks[PROPOSE_WINDOW], first, before, a;
        KvState state;

        run_ms(all, 1000);
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, -ENOSPC, false);
        ask(&first, all, leader); /* which the disk refuses */
        do {
                run_ms(all, LOOK_MS);
                kv_state(h->store, &state);
        } while (!state.stopped);
        run_ms(all, 300); /* two heartbeats */
        ask(&before, all, h);
        run_ms(all, ANSWER_MS);

        other->disk_bad = true;
        world_loop_set_work_ms(other->loop, PROPOSE_LIFE_MS + 2000, PROPOSE_LIFE_MS + 2000);
        for (unsigned i = 0; i < PROPOSE_WINDOW; i++) {
                ask(&asks[i], all, leader);
                run_ms(all, LOOK_MS);
        }
        ask(&a, all, h);
        run_ms(all, 1000);
        world_loop_set_work_ms(other->loop, 0, 5);
        run_ms(all, PROPOSE_LIFE_MS + 4000);
        if (!before.came || before.status != KV_OK || !asks[0].came || asks[0].status != KV_OK ||
            asks[0].took_ms < PROPOSE_LIFE_MS)
                world_failed(all->world, "the-log-stands-still", "%s after %" PRIu64 " ms",
                             asks[0].came ? kv_status_name(asks[0].status) : "nothing came", asks[0].took_ms);
        if (!a.came || a.status != KV_UNKNOWN)
                world_failed(all->world, "who-asked-is-answered", "%s",
                             a.came ? kv_status_name(a.status) : "nothing came");

        memory_disk_set_error(h->disk, 0, false);
        h->disk_breaks = false;
        (void) wait_until_whole(all);
        if (children(all, h) != 2 + PROPOSE_WINDOW)
                world_failed(all->world, "what-came-too-late-had-no-effect", "%u children", children(all, h));
}

/* Stops 'h' by a full disk and has it acknowledge a write of the leader's; returns its index. */
static uint64_t acknowledge_ahead(Stores *all, Host *leader, Host *h) {
        KvState state;
        Ask first, a;

        run_ms(all, 1000);
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, -ENOSPC, false);
        ask(&first, all, leader); /* which the disk refuses */
        do {
                run_ms(all, LOOK_MS);
                kv_state(h->store, &state);
        } while (!state.stopped);
        run_ms(all, 300); /* two heartbeats */
        ask(&a, all, h);
        run_ms(all, ANSWER_MS);
        if (!a.came || a.status != KV_OK || a.index <= kv_index(h->store))
                world_failed(all->world, "a-stopped-host-writes", "%s",
                             a.came ? kv_status_name(a.status) : "nothing came");
        return a.index;
}

/* By a kill and by a stop in order: the live tree is the one that was served before, intact, and still not
 * far enough. */
static void what_a_stopped_host_acknowledged_binds_it_after_a_restart(Stores *all) {
        for (unsigned round = 0; round < 2; round++) {
                Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
                uint64_t index = acknowledge_ahead(all, leader, h);

                for (unsigned i = 0; i < all->n; i++)
                        if (&all->hosts[i] != h)
                                sim_net_cut(all->net, h->card, all->hosts[i].card, true);
                h->disk_breaks = false; /* starting mends the disk */
                if (round == 0)
                        (void) store_crash(h);
                else
                        store_stop(h);
                for (unsigned i = 0; i < PATIENCE_MS / LOOK_MS && !store_is_up(h); i++)
                        run_ms(all, LOOK_MS);
                for (unsigned i = 0; i < 100; i++, run_ms(all, LOOK_MS))
                        if (!store_is_up(h) || (kv_index(h->store) < index && kv_can_serve(h->store)))
                                world_failed(all->world, "nothing-older-is-served",
                                             "%s acknowledged index %" PRIu64
                                             " and serves its tree of %" PRIu64,
                                             h->name, index, store_is_up(h) ? kv_index(h->store) : 0);
                if (kv_index(h->store) >= index)
                        world_failed(all->world, "the-host-cannot-follow", "it has index %" PRIu64,
                                     kv_index(h->store));

                for (unsigned i = 0; i < all->n; i++)
                        sim_net_cut(all->net, h->card, all->hosts[i].card, false);
                (void) wait_until_whole(all);
                run_ms(all, ANSWER_MS); /* a majority is asked */
                if (!kv_can_serve(h->store))
                        world_failed(all->world, "who-has-caught-up-shows-it", "at index %" PRIu64,
                                     kv_index(h->store));

                /* And then the tree counts by itself again. */
                for (unsigned i = 0; i < all->n; i++)
                        if (&all->hosts[i] != h)
                                sim_net_cut(all->net, h->card, all->hosts[i].card, true);
                (void) store_crash(h);
                for (unsigned i = 0; i < PATIENCE_MS / LOOK_MS && !store_is_up(h); i++)
                        run_ms(all, LOOK_MS);
                if (!kv_can_serve(h->store))
                        world_failed(all->world, "the-tree-that-was-served-is-served", "%s at index %" PRIu64,
                                     h->name, kv_index(h->store));
                for (unsigned i = 0; i < all->n; i++)
                        sim_net_cut(all->net, h->card, all->hosts[i].card, false);
        }
}

static void remove_record(const Host *h) {
        _cleanup_free_ char *path = scratch_path(h->floor, "floor");

        if (unlink(path) < 0)
                abort();
}

/* A voter whose disk was replaced: its tree is empty at first, and denies nothing that the cluster holds. */
static void a_host_that_is_admitted_serves_nothing_before_it_has_what_was_acknowledged(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        uint64_t begun_ms = world_now_ms(all->world);
        Ask a;

        ask(&a, all, leader);
        run_ms(all, ANSWER_MS);
        if (!a.came || a.status != KV_OK)
                world_failed(all->world, "a-leader-writes", "%s",
                             a.came ? kv_status_name(a.status) : "nothing came");
        all->lost_voter = h->raft_id;
        h->wipe = true;
        (void) store_crash(h);
        remove_record(h);
        for (unsigned ms = 0; !store_is_up(h) || !kv_can_serve(h->store); ms++) {
                if (world_now_ms(all->world) > begun_ms + PATIENCE_MS)
                        world_failed(all->world, "who-has-caught-up-serves", "not within %d s",
                                     PATIENCE_MS / 1000);
                if (ms > 3 * ANSWER_MS) /* until then nobody admits it */
                        stores_turn(all);
                run_ms(all, 1);
        }
        if (kv_index(h->store) < a.index)
                world_failed(all->world, "nothing-is-denied",
                             "%s serves index %" PRIu64 ", and %" PRIu64 " was acknowledged", h->name,
                             kv_index(h->store), a.index);
}

/* A transaction that fails publishes nothing: not the index, either, by which an observer believes to have
 * seen all before it. */
static void a_failed_apply_publishes_no_index(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        KvState state;
        Ask a;

        run_ms(all, 1000);
        h->disk_bad = h->disk_breaks = true;
        folder_fault(h->tree, -ENOSPC);
        ask(&a, all, leader);
        do {
                TreeTxn *txn;
                TreeMeta meta;

                run_ms(all, LOOK_MS);
                kv_state(h->store, &state);
                if (kv_read(h->store, &txn) < 0 || tree_meta(txn, &meta) < 0)
                        world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
                tree_abort(txn);
                if (kv_index(h->store) != meta.index)
                        world_failed(all->world, "the-index-is-the-trees",
                                     "%s: index %" PRIu64 ", the tree has %" PRIu64, h->name,
                                     kv_index(h->store), meta.index);
        } while (!state.stopped);
        folder_fault(h->tree, 0);
        h->disk_breaks = false;
        (void) wait_until_whole(all);
        if (children(all, h) != 1)
                world_failed(all->world, "who-is-back-has-it", "%u children", children(all, h));
}

typedef struct Kept {
        unsigned n_refused, n_no_room;
} Kept;

static void count_messages(void *userdata, const char *text) {
        Kept *kept = userdata;

        kept->n_refused += strstr(text, "sent cannot be used: it has") &&
                           strstr(text, "are free on the disk of");
        kept->n_no_room += strstr(text, "has no room on its disk for the tree") != NULL;
}

/* Not again and again without a word, and a voter that holds nothing is no secret. */
static void a_tree_that_finds_no_room_is_refused_with_the_reason_on_both_sides_once(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        KvState here = {}, there = {};
        Kept kept = {};

        store_power_cut(h, 3600 * 1000);
        write_much(all);
        leader = wait_for_leader(all);
        folder_room_left(100 * 1024);
        all->on_message = count_messages;
        all->message_userdata = &kept;
        store_power_on(h);
        run_ms(all, 20000);
        write_much(all); /* a larger tree: the figures change, the reason stays */
        run_ms(all, 20000);
        kv_state(h->store, &here);
        kv_state(leader->store, &there);
        all->on_message = NULL;
        folder_room_left(UINT64_MAX);
        if (kept.n_refused != 1 || kept.n_no_room != 1)
                world_failed(all->world, "it-is-said-once", "who refused said it %u times, who sent %u times",
                             kept.n_refused, kept.n_no_room);
        if (!here.refuses || !strstr(here.problem, "are free on the disk of"))
                world_failed(all->world, "who-refuses-says-so", "problem: %s", here.problem);
        if (there.refuses || !strstr(there.problem, "has no room on its disk for the tree"))
                world_failed(all->world, "who-sends-says-so", "problem: %s", there.problem);

        (void) wait_until_whole(all);
        kv_state(h->store, &here);
        kv_state(leader->store, &there);
        if (here.refuses || here.problem[0] || there.problem[0])
                world_failed(all->world, "what-is-over-is-over", "problems: %s, %s", here.problem,
                             there.problem);
}

static uint64_t tree_size(const Host *h) {
        char path[300];
        struct stat st;

        snprintf(path, sizeof(path), "%s/live/data.mdb", h->tree);
        return stat(path, &st) < 0 ? 0 : (uint64_t) st.st_size;
}

static void lag(Stores *all, Host *h) {
        store_power_cut(h, 3600 * 1000);
        write_much(all);
        (void) wait_for_leader(all);
}

/* It is stored twice: there may be room for the first copy only. All of it is not sent again and again then.
 */
static void a_tree_that_did_not_fit_is_sent_again_once_there_is_more_room(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        char second[300];
        KvState here = {};
        unsigned before;
        uint64_t size;

        snprintf(second, sizeof(second), "%s/incoming/next", h->tree);
        lag(all, h);
        size = tree_size(wait_for_leader(all));
        folder_room_left(size + size / 4);
        folder_fault(second, -ENOSPC);
        before = folder_faults();
        store_power_on(h);
        run_ms(all, 60000);
        kv_state(h->store, &here);
        if (folder_faults() != before + 1)
                world_failed(all->world, "it-is-sent-once", "%u times", folder_faults() - before);
        if (!here.refuses || !strstr(here.problem, "too few for the second copy"))
                world_failed(all->world, "who-refuses-says-so", "problem: %s", here.problem);

        folder_fault(second, 0);
        folder_room_left(3 * size);
        (void) wait_until_whole(all);
        folder_room_left(UINT64_MAX);
        kv_state(h->store, &here);
        if (here.refuses || here.problem[0])
                world_failed(all->world, "what-is-over-is-over", "problem: %s", here.problem);
}

/* Something else took it, and gave it back. */
static void a_tree_is_taken_again_when_the_disk_was_full_for_a_moment(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        char second[300];
        unsigned before = folder_faults();

        snprintf(second, sizeof(second), "%s/incoming/next", h->tree);
        lag(all, h);
        folder_room_left((uint64_t) 1 << 30);
        folder_fault(second, -ENOSPC);
        store_power_on(h);
        while (folder_faults() == before)
                run_ms(all, LOOK_MS);
        folder_fault(second, 0);
        (void) wait_until_whole(all);
        folder_room_left(UINT64_MAX);
}

static unsigned n_entries_read; /* of what memory holds of the log */

const RaftEntry *__real_raft_core_entry(const RaftCore *core, uint64_t index);
const RaftEntry *__wrap_raft_core_entry(const RaftCore *core, uint64_t index);
const RaftEntry *__wrap_raft_core_entry(const RaftCore *core, uint64_t index) {
        n_entries_read++;
        return __real_raft_core_entry(core, index);
}

/* Entries stay in memory for it, more than memory may have otherwise. */
static void entries_that_a_host_lacks_are_not_scanned_at_each_write(Stores *all) {
        Host *leader = wait_until_whole(all);
        unsigned before;

        store_power_cut(&all->hosts[(leader->number + 1) % 3], 3600 * 1000);
        write_much(all);
        before = n_entries_read;
        write_much(all);
        if (n_entries_read - before > 500 * ENTRIES)
                world_failed(all->world, "few-entries-are-read", "%u of %d", n_entries_read - before,
                             ENTRIES);
}

static KvMemberRole seat_at(const Host *h, uint64_t raft_id) {
        KvState state;

        kv_state(h->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].raft_id == raft_id)
                        return state.members[i].seat;
        return KV_MEMBER_SPARE;
}

static void wait_for_seat(Stores *all, const Host *at, uint64_t raft_id, KvMemberRole seat,
                          int (*change)(KvStore *store, uint64_t raft_id)) {
        uint64_t begun_ms = world_now_ms(all->world);

        while (seat_at(at, raft_id) != seat) {
                if (world_now_ms(all->world) > begun_ms + PATIENCE_MS)
                        world_failed(all->world, "seats-change", "%s: not within %d s", at->name,
                                     PATIENCE_MS / 1000);
                if (stores_leader(all))
                        (void) change(stores_leader(all)->store, raft_id);
                run_ms(all, 1);
        }
}

/* Who votes knows by his own clock that the leader is silent, who does not by another one: here between the
 * two. */
static void who_is_told_that_he_votes_no_more_and_then_nothing_knows_no_leader(Stores *all) {
        Host *h = NULL;
        KvState state;

        (void) wait_until_whole(all);
        while (!h) {
                stores_turn(all); /* the fourth joins */
                run_ms(all, LOOK_MS);
                for (unsigned i = 0; i < all->n; i++)
                        if (stores_leader(all) && all->hosts[i].raft_id != 0 &&
                            seat_at(stores_leader(all), all->hosts[i].raft_id) == KV_MEMBER_STANDBY)
                                h = &all->hosts[i];
        }
        wait_for_seat(all, h, h->raft_id, KV_MEMBER_VOTER, kv_member_promote);
        run_ms(all, 3000);
        wait_for_seat(all, h, h->raft_id, KV_MEMBER_STANDBY, kv_member_demote);
        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != h)
                        sim_net_cut(all->net, h->card, all->hosts[i].card, true);
        run_ms(all, ANSWER_MS);
        kv_state(h->store, &state);
        if (state.leader_id != 0)
                world_failed(all->world, "silence-is-noticed", "%s still knows a leader", h->name);
}

static void on_any(void *userdata, const KvResult *result) {}

/* While writes come as fast as they can, too: then hardly ever somebody has all that the leader has. */
static void a_leader_at_work_whose_disk_refuses_hands_over(Stores *all) {
        KvCommand cmd = { .op = KV_SET, .key = kv_string("/load"), .value = kv_string("1") };

        for (unsigned k = 0; k < 6; k++) {
                Host *leader = wait_until_whole(all), *next = NULL,
                     *other = &all->hosts[(leader->number + 1) % 3];
                uint64_t begun_ms = 0;

                for (unsigned ms = 0; !(next = stores_leader(all)) || next == leader; ms++) {
                        if (ms == 200 + k * 7) {
                                leader->disk_bad = leader->disk_breaks = true;
                                memory_disk_set_error(leader->disk, -EIO, false);
                                begun_ms = world_now_ms(all->world);
                        }
                        if (begun_ms > 0 && world_now_ms(all->world) > begun_ms + ELECTION_MS / 2)
                                world_failed(all->world, "another-leads-within-half-an-election",
                                             "the disk refused %d ms ago", ELECTION_MS / 2);
                        for (unsigned i = 0; i < 5; i++)
                                if (kv_propose(other->store, &cmd, on_any, all, NULL) < 0)
                                        abort();
                        run_ms(all, 1);
                }
                world_trace(all->world, next->name, "leads %" PRIu64 " ms after the disk of %s refused",
                            world_now_ms(all->world) - begun_ms, leader->name);
                memory_disk_set_error(leader->disk, 0, false);
                leader->disk_breaks = false;
        }
}

/* The promoted host is silent: the leader gives up and begins again from its log, whose last write hangs
 * meanwhile. */
static void a_promotion_that_fails_on_a_hanging_disk_leaves_nobody_waiting(Stores *all) {
        Host *leader = wait_until_whole(all), *standby = NULL;
        KvState state;
        Ask first, a;

        for (unsigned i = 0; i < PATIENCE_MS / LOOK_MS && !standby; i++) {
                stores_turn(all);
                run_ms(all, LOOK_MS);
                kv_state(leader->store, &state);
                for (size_t k = 0; k < state.n_members && world_now_ms(all->world) > WORLD_START_MS + 10000;
                     k++)
                        for (unsigned h = 0; h < all->n; h++)
                                if (state.members[k].seat == KV_MEMBER_STANDBY &&
                                    all->hosts[h].raft_id == state.members[k].raft_id)
                                        standby = &all->hosts[h];
        }
        if (!standby)
                world_failed(all->world, "there-is-a-standby", "not within %d s", PATIENCE_MS / 1000);

        leader->disk_bad = true;
        world_loop_set_work_ms(leader->loop, 9000, 9000);
        ask(&first, all, leader); /* the others have it, the leader writes */
        run_ms(all, 200);
        world_loop_pause(standby->loop, 8000);
        if (kv_member_promote(leader->store, standby->raft_id) != 0)
                world_failed(all->world, "a-standby-can-be-promoted", "it is refused");
        run_ms(all, 1700);
        ask(&a, all, leader);
        run_ms(all, 500 + ANSWER_MS + 500);
        if (!a.came)
                world_failed(all->world, "who-asked-is-answered", "nothing after %u ms",
                             500 + ANSWER_MS + 500);
        store_power_cut(leader, 1000); /* the write that hung ends in nobody's life */
        run_ms(all, 12000);
        world_loop_set_work_ms(leader->loop, 0, 0);
        leader->disk_bad = false;
        (void) wait_until_whole(all);
}

/* What was asked in a term that is over is in nobody's log any more, and nobody is asked for it again. */
static void a_leader_that_is_lost_and_leads_again_answers_what_was_asked_before(Stores *all) {
        Host *first = wait_until_whole(all), *next;
        uint64_t begun_ms;
        KvState state;
        Ask a;

        run_ms(all, 1000); /* that the third one votes is committed */
        kv_state(first->store, &state);
        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != first)
                        sim_net_cut(all->net, first->card, all->hosts[i].card, true);
        ask_in(&a, all, first, state.term);
        begun_ms = world_now_ms(all->world);
        while (!(next = stores_leader(all)) || next == first) {
                if (world_now_ms(all->world) > begun_ms + PATIENCE_MS)
                        world_failed(all->world, "another-leads", "not within %d s", PATIENCE_MS / 1000);
                run_ms(all, 1);
        }
        for (unsigned i = 0; i < all->n; i++)
                sim_net_cut(all->net, first->card, all->hosts[i].card, false);
        while (stores_leader(all) != first) {
                if (world_now_ms(all->world) > begun_ms + PATIENCE_MS)
                        world_failed(all->world, "the-first-leads-again", "not within %d s",
                                     PATIENCE_MS / 1000);
                (void) kv_transfer(next->store, first->raft_id);
                run_ms(all, 1);
        }
        run_ms(all, 2 * ANSWER_MS);
        if (!a.came || a.status == KV_OK)
                world_failed(all->world, "who-asked-is-answered", "%s",
                             a.came ? kv_status_name(a.status) : "nothing");
}

/* -- A rebuild -- */

enum { REBUILD_MS = 3000 }; /* that the worker takes for each of its works */

static bool is_stopped(const Host *h) {
        KvState state;

        kv_state(h->store, &state);
        return state.stopped;
}

static uint64_t live_inode(const Host *h) {
        _cleanup_free_ char *path = NULL;
        struct stat st;

        if (asprintf(&path, "%s/live/data.mdb", h->tree) < 0 || stat(path, &st) < 0)
                return 0;
        return st.st_ino;
}

/* The tree of 'h' refuses a write; when this returns, its replica is at work to come back: before that it has
 * waited for 500 ms. */
static void fail_tree(Stores *all, Host *leader, Host *h) {
        Ask a;

        run_ms(all, 2 * REBUILD_MS);
        h->disk_bad = h->disk_breaks = true;
        folder_fault(h->tree, -EIO);
        ask(&a, all, leader);
        for (unsigned i = 0; !is_stopped(h); i++) {
                if (i > PATIENCE_MS / LOOK_MS)
                        world_failed(all->world, "a-tree-that-fails-stops-its-replica", "not within %d s",
                                     PATIENCE_MS / 1000);
                run_ms(all, LOOK_MS);
        }
        folder_fault(h->tree, 0);
        world_loop_set_work_ms(h->loop, REBUILD_MS, REBUILD_MS);
        run_ms(all, 1500);
        if (!is_stopped(h))
                world_failed(all->world, "a-rebuild-is-off-the-loop",
                             "%s has come back before its worker has ended", h->name);
}

static void wait_until_back(Stores *all, Host *h) {
        world_loop_set_work_ms(h->loop, 0, 5);
        h->disk_breaks = false;
        (void) wait_until_whole(all);
        if (children(all, h) != children(all, stores_leader(all)))
                world_failed(all->world, "what-was-acknowledged-is-there", "%s has %u", h->name,
                             children(all, h));
}

static void a_host_goes_on_while_its_tree_is_rebuilt(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        unsigned n;
        Ask a;

        fail_tree(all, leader, h);
        n = children(all, h); /* of the tree before */
        ask(&a, all, h);
        run_ms(all, ANSWER_MS / 3);
        if (!a.came || a.status != KV_OK)
                world_failed(all->world, "a-host-that-rebuilds-writes", "%s",
                             a.came ? kv_status_name(a.status) : "nothing came");
        if (!is_stopped(h) || children(all, h) != n)
                world_failed(all->world, "the-rebuild-goes-on", "%u of %u children", children(all, h), n);
        wait_until_back(all, h);
}

static void a_rebuild_that_fails_is_tried_again(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        unsigned n, before;

        write_much(all); /* a checkpoint */
        leader = wait_until_whole(all);
        h = &all->hosts[(leader->number + 1) % 3];
        fail_tree(all, leader, h);
        n = children(all, h);
        before = folder_faults();
        folder_fault(h->tree, -ENOSPC); /* met by the copy */
        run_ms(all, 2 * REBUILD_MS);
        if (folder_faults() == before || !is_stopped(h) || children(all, h) != n)
                world_failed(all->world, "a-second-failure-is-as-the-first", "%u of %u children",
                             children(all, h), n);
        folder_fault(h->tree, 0);
        wait_until_back(all, h);
}

/* In order, by a kill, and by the loss of power, in which the worker may have come to any of its steps. */
static void a_host_that_ends_in_a_rebuild_has_all_it_had(Stores *all) {
        for (unsigned round = 0; round < 6; round++) {
                Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
                uint64_t inode, lives = h->lives;

                fail_tree(all, leader, h);
                inode = live_inode(h);
                if (round == 0) {
                        store_stop(h);
                        while (h->store && h->lives == lives)
                                run_ms(all, 1);
                        if (live_inode(h) != inode)
                                world_failed(all->world, "a-stop-cancels-a-rebuild",
                                             "%s has rebuilt its tree all the same", h->name);
                } else if (round == 1)
                        (void) store_crash(h);
                else
                        (void) store_power_cut(h, 1000);
                for (unsigned i = 0; i < PATIENCE_MS / LOOK_MS && (!store_is_up(h) || h->lives == lives); i++)
                        run_ms(all, LOOK_MS);
                wait_until_back(all, h);
        }
}

static const Scenario scenarios[] = {
        { "a_leader_that_is_lost_and_leads_again_answers_what_was_asked_before",
          a_leader_that_is_lost_and_leads_again_answers_what_was_asked_before, 3 },
        { "a_leader_that_dies_at_any_moment_leaves_no_doubt",
          a_leader_that_dies_at_any_moment_leaves_no_doubt, 3 },
        { "a_leader_whose_disk_refuses_is_replaced_within_three_elections",
          a_leader_whose_disk_refuses_is_replaced_within_three_elections, 3 },
        { "a_leader_at_work_whose_disk_refuses_hands_over", a_leader_at_work_whose_disk_refuses_hands_over,
          3 },
        { "a_host_whose_replica_has_stopped_sends_writes_to_the_leader",
          a_host_whose_replica_has_stopped_sends_writes_to_the_leader, 3 },
        { "what_came_to_the_log_too_late_is_unknown_to_a_host_whose_replica_has_stopped",
          what_came_to_the_log_too_late_is_unknown_to_a_host_whose_replica_has_stopped, 3 },
        { "what_a_stopped_host_acknowledged_binds_it_after_a_restart",
          what_a_stopped_host_acknowledged_binds_it_after_a_restart, 3 },
        { "a_host_that_is_admitted_serves_nothing_before_it_has_what_was_acknowledged",
          a_host_that_is_admitted_serves_nothing_before_it_has_what_was_acknowledged, 3 },
        { "a_tree_that_finds_no_room_is_refused_with_the_reason_on_both_sides_once",
          a_tree_that_finds_no_room_is_refused_with_the_reason_on_both_sides_once, 3 },
        { "a_tree_that_did_not_fit_is_sent_again_once_there_is_more_room",
          a_tree_that_did_not_fit_is_sent_again_once_there_is_more_room, 3 },
        { "a_tree_is_taken_again_when_the_disk_was_full_for_a_moment",
          a_tree_is_taken_again_when_the_disk_was_full_for_a_moment, 3 },
        { "entries_that_a_host_lacks_are_not_scanned_at_each_write",
          entries_that_a_host_lacks_are_not_scanned_at_each_write, 3 },
        { "a_host_goes_on_while_its_tree_is_rebuilt", a_host_goes_on_while_its_tree_is_rebuilt, 3 },
        { "a_rebuild_that_fails_is_tried_again", a_rebuild_that_fails_is_tried_again, 3 },
        { "a_host_that_ends_in_a_rebuild_has_all_it_had", a_host_that_ends_in_a_rebuild_has_all_it_had, 3 },
        { "a_failed_apply_publishes_no_index", a_failed_apply_publishes_no_index, 3 },
        { "who_is_told_that_he_votes_no_more_and_then_nothing_knows_no_leader",
          who_is_told_that_he_votes_no_more_and_then_nothing_knows_no_leader, 4 },
        { "a_promotion_that_fails_on_a_hanging_disk_leaves_nobody_waiting",
          a_promotion_that_fails_on_a_hanging_disk_leaves_nobody_waiting, 4 },
        { "a_host_that_cannot_follow_gives_the_leaders_answer_and_shows_nothing_older",
          a_host_that_cannot_follow_gives_the_leaders_answer_and_shows_nothing_older, 3 },
};

int main(int argc, char *argv[]) {
        return scenarios_main("test-outcome", scenarios, ELEMENTS(scenarios), argc, argv);
}
