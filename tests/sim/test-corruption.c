/* Wrong trees and corrupt checkpoints must not reach other replicas (ARCHITECTURE, Sameness and Transfer):
 *
 *      test-corruption [--seed N] [--runs N] [--trace]
 *
 * A leader's tree is wrong, or its checkpoint is corrupt, while another replica lags so far that it needs a
 * snapshot. */
#include <fcntl.h>

#include "base/log.h"
#include "kvstore/kvstore_internal.h"
#include "kvstore/raft/replica_internal.h"
#include "tests/lib/commands.h"
#include "tests/sim/scenarios.h"

enum { ENTRIES = 2200, VERDICT_MS = 20000 };

#define UNTIL(all, name, expression) \
        WORLD_UNTIL((all)->world, PATIENCE_MS, name, expression, (stores_turn(all), run_ms(all, LOOK_MS)))

static bool is_whole(Stores *all, unsigned n_voters) {
        Host *leader = stores_leader(all);
        KvState state, other;

        if (!leader)
                return false;
        kv_state(leader->store, &state);
        for (unsigned i = 0; i < all->n; i++) {
                if (!store_is_up(&all->hosts[i]))
                        return false;
                kv_state(all->hosts[i].store, &other);
                if (other.leader_id != state.raft_id || other.raft_index != state.raft_index)
                        return false;
        }
        return state.n_voters == n_voters && state.n_voters_reachable == n_voters;
}

typedef struct Ask {
        bool came;
        KvStatus status;
} Ask;

static void on_answer(void *userdata, const KvResult *result) {
        *(Ask *) userdata = (Ask) { .came = true, .status = result->status };
}

static void do_one(Stores *all, const KvCommand *cmd) {
        Ask a = {};

        UNTIL(all, "there-is-a-leader", stores_leader(all));
        if (kv_propose(stores_leader(all)->store, cmd, on_answer, &a, NULL) < 0)
                abort();
        UNTIL(all, "a-write-is-answered", a.came);
        if (a.status != KV_OK)
                world_failed(all->world, "a-write-succeeds", "%s", kv_status_name(a.status));
}

static void write_some(Stores *all, unsigned n) {
        static char value[2048];

        memset(value, 'x', sizeof(value));
        for (unsigned i = 0; i < n; i++) {
                Ask a = {};
                char key[32];

                UNTIL(all, "there-is-a-leader", stores_leader(all));
                snprintf(key, sizeof(key), "/some/%u", i % 50);
                if (kv_propose(stores_leader(all)->store,
                               &COMMAND(KV_SET, key, .value = { value, sizeof(value) }), on_answer, &a,
                               NULL) < 0)
                        abort();
                while (!a.came)
                        run_ms(all, 1);
        }
}

/* Let one host lag behind the logs of the others. */
static Host *leave_one_behind(Stores *all) {
        Host *away;

        UNTIL(all, "there-are-three-voters", is_whole(all, 3));
        run_ms(all, 1000);
        away = &all->hosts[(stores_leader(all)->number + 1) % 3];
        store_power_cut(away, 3600 * 1000);
        write_some(all, ENTRIES);
        return away;
}

static uint64_t checkpoint_of(const Host *h) {
        const Checkpoint *c = &replica_data_dir(h->store->replica)->checkpoint;

        return c->fd < 0 ? 0 : c->meta.applied;
}

static void make_checkpoint(Stores *all, Host *h) {
        replica_checkpoint(h->store->replica);
        UNTIL(all, "a-checkpoint-is-made",
              checkpoint_of(h) == raft_core_applied_index(replica_core(h->store->replica)));
}

static KvState state_of(const Host *h) {
        KvState state;

        kv_state(h->store, &state);
        return state;
}

static uint64_t applied(const Host *h) {
        return state_of(h).raft_index;
}

/* -- Scenarios -- */

/* A wrong tree must not become the majority by being sent as a snapshot. */
static void a_wrong_tree_and_its_copy_are_no_majority(Stores *all) {
        Host *away = leave_one_behind(all), *leader = stores_leader(all), *right = NULL;

        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != leader && &all->hosts[i] != away)
                        right = &all->hosts[i];
        all->doubt_until_ms = UINT64_MAX; /* two trees differ, and there is no third one */
        store_flip(leader);
        make_checkpoint(all, leader);
        store_power_on(away);
        /* Or the trees were compared before, and none is sent. */
        UNTIL(all, "a-returned-host-receives-the-tree",
              state_of(leader).undecided || (store_is_up(away) && store_is_flipped(away) &&
                                             applied(away) >= checkpoint_of(leader)));
        for (uint64_t end_ms = world_now_ms(all->world) + VERDICT_MS; world_now_ms(all->world) < end_ms;
             run_ms(all, LOOK_MS))
                if (store_is_flipped(right))
                        world_failed(all->world, "a-copy-is-no-majority",
                                     "%s had the right tree, and has the wrong one now", right->name);
}

/* While two trees differ, none of them is sent: the right one is unknown. */
static void a_host_without_majority_sends_no_tree(Stores *all) {
        Host *away = leave_one_behind(all), *leader = stores_leader(all);

        all->doubt_until_ms = UINT64_MAX;
        store_flip(leader);
        make_checkpoint(all, leader);
        write_some(all, 60); /* beyond the next consistency check */
        store_power_on(away);
        for (uint64_t end_ms = world_now_ms(all->world) + VERDICT_MS; world_now_ms(all->world) < end_ms;
             run_ms(all, LOOK_MS))
                if (store_is_flipped(away))
                        world_failed(all->world, "doubt-is-not-sent", "%s got a tree that is in doubt",
                                     away->name);
}

/* Two trees differ because a disk corrupted one, and there is no third: that host detects it without a
 * verdict. */
static void a_host_without_majority_finds_that_its_own_tree_is_corrupt(Stores *all) {
        Host *away, *h;

        UNTIL(all, "there-are-three-voters", is_whole(all, 3));
        do_one(all, &SET("/d/rots", "1234567 "));
        run_ms(all, 1000);
        away = leave_one_behind(all);
        do
                h = stores_any(all);
        while (h == away);
        UNTIL(all, "a-tree-is-corrupted", store_rot_tree(h));
        do_one(all, &COMMAND(KV_DELETE, "/d/rots")); /* from here on the hashes differ */
        UNTIL(all, "a-corrupt-tree-is-found", h->corrupt_tree == 0);
        store_power_on(away);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
        for (unsigned i = 0; i < all->n; i++)
                stores_check_hash(all, &all->hosts[i]);
}

static void a_corrupt_checkpoint_is_rejected_and_replaced(Stores *all) {
        Host *away = leave_one_behind(all), *leader = stores_leader(all);
        uint64_t refused = all->counts[FAULT_CHECKPOINT_REFUSED];

        make_checkpoint(all, leader);
        store_flip_checkpoint(leader, 1 + (unsigned) world_draw(all->world, 8));
        store_power_on(away);
        UNTIL(all, "a-returned-host-receives-a-tree", is_whole(all, 3));
        stores_check_hash(all, leader);
        stores_check_hash(all, away);
        if (all->counts[FAULT_CHECKPOINT_REFUSED] == refused)
                world_failed(all->world, "corruption-is-reported", "no host reported the corrupt checkpoint");
}

static void a_checkpoint_that_arrives_whole_is_kept(Stores *all) {
        Host *away = leave_one_behind(all), *leader = stores_leader(all);
        uint64_t refused = all->counts[FAULT_CHECKPOINT_REFUSED];
        bool kept = true;

        make_checkpoint(all, leader);
        store_power_on(away);
        UNTIL(all, "a-returned-host-receives-the-tree",
              (kept &= checkpoint_of(leader) > 0, is_whole(all, 3)));
        if (!kept || all->counts[FAULT_CHECKPOINT_REFUSED] > refused)
                world_failed(all->world, "a-checkpoint-is-kept", "its transfer made %s drop it",
                             leader->name);
}

/* Write a frame of the consistency check with this header. */
static void send_frame(Host *by, const Host *to, const uint64_t head[3], uint8_t kind, uint64_t term,
                       uint64_t index, uint64_t value) {
        _cleanup_writer_ Writer w = {};

        for (size_t i = 0; i < 3; i++)
                write_u64(&w, head[i]);
        write_u8(&w, kind);
        write_u64(&w, term);
        write_u64(&w, index);
        write_u64(&w, value);
        if (replica_send(by->store->replica, to->raft_id, PEER_TREE, &w) < 0)
                world_failed(by->all->world, "there-is-a-session", "none from %s to %s", by->name, to->name);
}

enum { KIND_VERDICT = 1, KIND_ASK = 2, VERDICT_DIFFERS = 1 };

/* Deliver a frame as the leader of 'term' sends it. */
static void send_verdict(Host *leader, const Host *to, uint64_t term, uint64_t index) {
        const uint64_t head[] = { replica_identity(leader->store->replica)->cluster_id, leader->raft_id,
                                  to->raft_id };

        send_frame(leader, to, head, KIND_VERDICT, term, index, VERDICT_DIFFERS);
}

/* The tree is replaced soon after the verdict, perhaps at once: then the host knows no leader for a moment.
 */
static bool takes_verdict(Stores *all, const Host *h) {
        for (unsigned ms = 0; ms < 500; ms++, run_ms(all, 1))
                if (consistency_differs(replica_consistency(h->store->replica)) || !state_of(h).leader_id)
                        return true;
        return false;
}

static void a_verdict_of_another_term_is_ignored(Stores *all) {
        enum { EVERY = 50 }; /* entries between two consistency checks: stores.c */
        Host *leader, *h;
        uint64_t term, index;

        UNTIL(all, "there-are-three-voters", is_whole(all, 3));
        write_some(all, 2 * EVERY);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
        run_ms(all, 1000);
        leader = stores_leader(all);
        h = &all->hosts[(leader->number + 1) % 3];
        term = replica_term(leader->store->replica);
        index = applied(h) / EVERY * EVERY;
        send_verdict(leader, h, term - 1, index);
        send_verdict(leader, h, term + 1, index);
        if (takes_verdict(all, h))
                world_failed(all->world, "a-verdict-counts-in-its-term",
                             "%s took one of another term than %" PRIu64, h->name, term);

        /* The same verdict in this term is accepted. */
        h->replica_is_odd = true;
        send_verdict(leader, h, term, index);
        if (!takes_verdict(all, h))
                world_failed(all->world, "a-verdict-is-accepted", "not by %s", h->name);
        UNTIL(all, "all-are-whole",
              !consistency_differs(replica_consistency(h->store->replica)) && is_whole(all, 3));
}

/* Frames of another cluster, for another replica, or with another sender. */
static void frames_of_others_are_dropped(Stores *all) {
        enum { EVERY = 50 };
        Host *leader, *h, *other;
        uint64_t cluster, term, index, sent;

        UNTIL(all, "there-are-three-voters", is_whole(all, 3));
        write_some(all, 2 * EVERY);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
        run_ms(all, 1000);
        leader = stores_leader(all);
        h = &all->hosts[(leader->number + 1) % 3];
        other = &all->hosts[(leader->number + 2) % 3];
        cluster = replica_identity(leader->store->replica)->cluster_id;
        term = replica_term(leader->store->replica);
        index = applied(h) / EVERY * EVERY;
        {
                const uint64_t heads[][3] = { { cluster + 1, leader->raft_id, h->raft_id },
                                              { cluster, leader->raft_id, other->raft_id },
                                              { cluster, other->raft_id, h->raft_id } };

                for (size_t i = 0; i < ELEMENTS(heads); i++) {
                        send_frame(leader, h, heads[i], KIND_VERDICT, term, index, VERDICT_DIFFERS);
                        if (takes_verdict(all, h))
                                world_failed(all->world, "a-verdict-is-for-the-replica-it-names",
                                             "%s took number %zu", h->name, i);
                }
        }

        make_checkpoint(all, leader);
        sent = all->counts[FAULT_TRANSFER];
        {
                const uint64_t heads[][3] = { { cluster, other->raft_id, leader->raft_id },
                                              { cluster, h->raft_id, leader->raft_id } };

                for (size_t i = 0; i < ELEMENTS(heads); i++) {
                        send_frame(h, leader, heads[i], KIND_ASK, term, 1, 0);
                        run_ms(all, 1000);
                        if (all->counts[FAULT_TRANSFER] != sent + i)
                                world_failed(all->world, "only-its-sender-requests",
                                             "number %zu: %" PRIu64 " trees were sent", i,
                                             all->counts[FAULT_TRANSFER] - sent);
                }
        }
}

static const Scenario scenarios[] = {
        { "a_wrong_tree_and_its_copy_are_no_majority", a_wrong_tree_and_its_copy_are_no_majority, 3 },
        { "a_host_without_majority_sends_no_tree", a_host_without_majority_sends_no_tree, 3 },
        { "a_host_without_majority_finds_that_its_own_tree_is_corrupt",
          a_host_without_majority_finds_that_its_own_tree_is_corrupt, 3 },
        { "a_corrupt_checkpoint_is_rejected_and_replaced", a_corrupt_checkpoint_is_rejected_and_replaced, 3 },
        { "a_checkpoint_that_arrives_whole_is_kept", a_checkpoint_that_arrives_whole_is_kept, 3 },
        { "a_verdict_of_another_term_is_ignored", a_verdict_of_another_term_is_ignored, 3 },
        { "frames_of_others_are_dropped", frames_of_others_are_dropped, 3 },
};

int main(int argc, char *argv[]) {
        return scenarios_main("test-corruption", scenarios, ELEMENTS(scenarios), argc, argv);
}
