/* The outcome of a write whose leader is lost, or whose host cannot follow (ARCHITECTURE, Own writes):
 *
 *      test-outcome [--seed N] [--runs N] [--trace]
 *
 * The leader dies at each moment between the request and the answer: the follower that sent the request
 * acknowledges it in time, and it takes effect once. A follower whose disk hangs returns the leader's answer,
 * and serves no read until it has applied the entry. */
#include <sys/stat.h>

#include "tests/lib/store_inside.h"
#include "base/log.h"
#include "base/memory.h"
#include "kvstore/propose.h"
#include "tests/lib/scratch.h"
#include "tests/sim/data_dir_faults.h"
#include "tests/sim/asking.h"
#include "tests/sim/scenarios.h"

enum { WRITES = 5, MOMENTS = 40 };

/* -- Scenarios -- */

static void a_write_has_a_known_outcome_whenever_its_leader_dies(Stores *all) {
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
                                world_failed(all->world, "every-outcome-is-known",
                                             "%u ms after the asking the leader died; then %s: %s", moment,
                                             h->name,
                                             asks[i].came ? kv_status_name(asks[i].status) : "nothing");
                n += WRITES;
                (void) wait_until_whole(all);
                for (unsigned i = 0; i < 3; i++)
                        if (children(all, &all->hosts[i]) != n)
                                world_failed(all->world, "a-request-takes-effect-once",
                                             "%u ms after the asking the leader died: %s has %u of %u",
                                             moment, all->hosts[i].name, children(all, &all->hosts[i]), n);
        }
}

static void a_lagging_host_returns_the_leaders_answer_and_serves_nothing_older(Stores *all) {
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
                world_failed(all->world, "a-leaders-answer-is-returned", "%s",
                             a.came ? kv_status_name(a.status) : "nothing came");
        if (kv_index(h->store) >= a.index)
                world_failed(all->world, "the-host-cannot-follow", "it has index %" PRIu64, a.index);
        if (a.shown || kv_can_serve(h->store))
                world_failed(all->world, "no-older-value-is-served", "index %" PRIu64 " was promised",
                             a.index);

        world_loop_set_work_ms(h->loop, 0, 5);
        (void) wait_until_whole(all);
        if (!kv_can_serve(h->store) || children(all, h) != 1)
                world_failed(all->world, "a-host-that-caught-up-serves-it", "%u children", children(all, h));
}

/* -- Runs -- */

/* The replica recovers by itself when its disk works again. */
static void a_leader_whose_disk_fails_is_replaced_within_three_elections(Stores *all) {
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
                run_ms(all, k * 7); /* the fault interrupts another write each time */
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
                        world_failed(all->world, "each-requester-is-answered", "%s",
                                     a.came ? kv_status_name(a.status) : "nothing");
                n++;
                memory_disk_set_error(leader->disk, 0, false);
                leader->disk_breaks = false;
                (void) wait_until_whole(all);
                for (unsigned i = 0; i < 3; i++)
                        if (children(all, &all->hosts[i]) < n)
                                world_failed(all->world, "acknowledged-writes-are-there", "%s has %u of %u",
                                             all->hosts[i].name, children(all, &all->hosts[i]), n);
        }
}

/* The host's replica has failed; the others have a majority. */
static void a_host_whose_replica_has_stopped_sends_writes_to_the_leader(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
        Ask asks[WRITES], first, early;
        KvState state;

        run_ms(all, 1000);
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, -ENOSPC, false);
        ask(&first, all, leader); /* its disk write fails */
        do {
                run_ms(all, LOOK_MS);
                kv_state(h->store, &state);
        } while (!state.stopped);
        ask(&early, all, h); /* before the next message of the leader */
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
                world_failed(all->world, "no-older-value-is-served", "%s shows index %" PRIu64, h->name,
                             kv_index(h->store));

        memory_disk_set_error(h->disk, 0, false);
        h->disk_breaks = false;
        (void) wait_until_whole(all);
        if (!kv_can_serve(h->store) || children(all, h) != WRITES + 2)
                world_failed(all->world, "a-returned-host-serves-it", "%u children", children(all, h));
}

/* The leader accepts the proposal, which waits for entries without a majority. It reaches the log after its
 * deadline; only the log contains that outcome. */
static void a_late_entry_is_unknown_to_a_host_whose_replica_has_stopped(Stores *all) {
        Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3],
             *other = &all->hosts[(leader->number + 2) % 3];
        Ask asks[PROPOSE_WINDOW], first, before, a;
        KvState state;

        run_ms(all, 1000);
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, -ENOSPC, false);
        ask(&first, all, leader); /* its disk write fails */
        do {
                run_ms(all, LOOK_MS);
                kv_state(h->store, &state);
        } while (!state.stopped);
        run_ms(all, 300); /* two heartbeats */
        ask(&before, all, h);
        run_ms(all, ANSWER_MS);

        other->disk_bad = true;
        world_loop_set_work_ms(other->loop, PROPOSE_LIFE_MS + 2000, PROPOSE_LIFE_MS + 2000);
        world_loop_set_drift(other->loop, -700000); /* on its clock, the write takes less than 5 s */
        for (unsigned i = 0; i < PROPOSE_WINDOW; i++) {
                ask(&asks[i], all, leader);
                run_ms(all, LOOK_MS);
        }
        ask(&a, all, h);
        run_ms(all, 1000);
        world_loop_set_work_ms(other->loop, 0, 5);
        run_ms(all, PROPOSE_LIFE_MS + 4000);
        world_loop_set_drift(other->loop, 0);
        if (!before.came || before.status != KV_OK || !asks[0].came || asks[0].status != KV_OK ||
            asks[0].took_ms < PROPOSE_LIFE_MS)
                world_failed(all->world, "the-log-does-not-grow", "%s after %" PRIu64 " ms",
                             asks[0].came ? kv_status_name(asks[0].status) : "nothing came", asks[0].took_ms);
        if (!a.came || a.status != KV_UNKNOWN)
                world_failed(all->world, "each-requester-is-answered", "%s",
                             a.came ? kv_status_name(a.status) : "nothing came");

        memory_disk_set_error(h->disk, 0, false);
        h->disk_breaks = false;
        (void) wait_until_whole(all);
        if (children(all, h) != 2 + PROPOSE_WINDOW)
                world_failed(all->world, "late-proposals-have-no-effect", "%u children", children(all, h));
}

/* Stop the replica of 'h' by a full disk; let 'h' acknowledge a write of the leader. Return its index. */
static uint64_t acknowledge_ahead(Stores *all, Host *leader, Host *h) {
        KvState state;
        Ask first, a;

        run_ms(all, 1000);
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, -ENOSPC, false);
        ask(&first, all, leader); /* its disk write fails */
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

/* After a kill and after an orderly stop: the live tree is intact, but older than what the host acknowledged.
 */
static void a_stopped_host_serves_after_a_restart_what_it_acknowledged(Stores *all) {
        for (unsigned round = 0; round < 2; round++) {
                Host *leader = wait_until_whole(all), *h = &all->hosts[(leader->number + 1) % 3];
                uint64_t index = acknowledge_ahead(all, leader, h);

                for (unsigned i = 0; i < all->n; i++)
                        if (&all->hosts[i] != h)
                                sim_net_cut(all->net, h->card, all->hosts[i].card, true);
                h->disk_breaks = false; /* a start ends the fault of the disk */
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
                run_ms(all, ANSWER_MS); /* a majority confirms the read */
                if (!kv_can_serve(h->store))
                        world_failed(all->world, "a-host-that-caught-up-serves-it", "at index %" PRIu64,
                                     kv_index(h->store));

                /* From then on the tree alone decides. */
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
        _cleanup_free_ char *path = scratch_path(h->agent_path, "floor");

        if (unlink(path) < 0)
                abort();
}

/* A voter whose disk was replaced: its tree is empty at first, and must not be served. */
static void a_new_member_serves_nothing_before_it_has_all_acknowledged_writes(Stores *all) {
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
                        world_failed(all->world, "a-host-that-caught-up-serves", "not within %d s",
                                     PATIENCE_MS / 1000);
                if (ms > 3 * ANSWER_MS) /* before, the members reject it */
                        stores_turn(all);
                run_ms(all, 1);
        }
        if (kv_index(h->store) < a.index)
                world_failed(all->world, "nothing-is-denied",
                             "%s serves index %" PRIu64 ", and %" PRIu64 " was acknowledged", h->name,
                             kv_index(h->store), a.index);
}

/* A failed transaction publishes nothing, nor its index: an observer takes an index for the end of a complete
 * sequence. */
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
                world_failed(all->world, "a-returned-host-has-it", "%u children", children(all, h));
}

typedef struct Kept {
        unsigned n_refused, n_no_room;
} Kept;

static void count_messages(void *userdata, const char *text) {
        Kept *kept = userdata;

        kept->n_refused += strstr(text, "sent: it has") && strstr(text, "are free on the disk of");
        kept->n_no_room += strstr(text, "has no disk space for the tree") != NULL;
}

/* No silent repetitions, and the status names a voter without a tree. */
static void a_snapshot_that_does_not_fit_is_rejected_with_one_message_on_both_sides(Stores *all) {
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
        write_much(all); /* a larger tree: other numbers, the same reason */
        run_ms(all, 20000);
        kv_state(h->store, &here);
        kv_state(leader->store, &there);
        all->on_message = NULL;
        folder_room_left(UINT64_MAX);
        if (kept.n_refused != 1 || kept.n_no_room != 1)
                world_failed(all->world, "it-is-reported-once",
                             "who refused said it %u times, who sent %u times", kept.n_refused,
                             kept.n_no_room);
        if (!here.refuses || !strstr(here.problem, "are free on the disk of"))
                world_failed(all->world, "who-refuses-says-so", "problem: %s", here.problem);
        if (there.refuses || !strstr(there.problem, "has no disk space for the tree"))
                world_failed(all->world, "who-sends-says-so", "problem: %s", there.problem);

        (void) wait_until_whole(all);
        kv_state(h->store, &here);
        kv_state(leader->store, &there);
        if (here.refuses || here.problem[0] || there.problem[0])
                world_failed(all->world, "an-ended-adoption-stays-ended", "problems: %s, %s", here.problem,
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

/* The receiver stores the snapshot twice, and there may be space for the first copy only. It must not be sent
 * repeatedly. */
static void a_rejected_snapshot_is_sent_again_when_there_is_space(Stores *all) {
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
                world_failed(all->world, "a-rejecting-host-reports-it", "problem: %s", here.problem);

        folder_fault(second, 0);
        folder_room_left(3 * size);
        (void) wait_until_whole(all);
        folder_room_left(UINT64_MAX);
        kv_state(h->store, &here);
        if (here.refuses || here.problem[0])
                world_failed(all->world, "an-ended-adoption-stays-ended", "problem: %s", here.problem);
}

/* Another user of the disk takes the space, and frees it. */
static void a_snapshot_is_received_after_the_disk_was_full_briefly(Stores *all) {
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

static unsigned n_entries_read; /* from the log in memory */

const RaftEntry *__real_raft_core_entry(const RaftCore *core, uint64_t index);
const RaftEntry *__wrap_raft_core_entry(const RaftCore *core, uint64_t index);
const RaftEntry *__wrap_raft_core_entry(const RaftCore *core, uint64_t index) {
        n_entries_read++;
        return __real_raft_core_entry(core, index);
}

/* The leader keeps entries in memory for a follower, beyond its usual limit. */
static void writes_do_not_scan_the_entries_that_a_follower_lacks(Stores *all) {
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

static KvMemberRole role_at(const Host *h, uint64_t raft_id) {
        KvState state;

        kv_state(h->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].raft_id == raft_id)
                        return state.members[i].role;
        return KV_MEMBER_SPARE;
}

static void wait_for_role(Stores *all, const Host *at, uint64_t raft_id, KvMemberRole role,
                          int (*change)(KvStore *store, uint64_t raft_id)) {
        uint64_t begun_ms = world_now_ms(all->world);

        while (role_at(at, raft_id) != role) {
                if (world_now_ms(all->world) > begun_ms + PATIENCE_MS)
                        world_failed(all->world, "roles-change", "%s: not within %d s", at->name,
                                     PATIENCE_MS / 1000);
                if (stores_leader(all))
                        (void) change(stores_leader(all)->store, raft_id);
                run_ms(all, 1);
        }
}

/* Voters and standbys detect a silent leader by different time limits: the demotion happens between them. */
static void a_demoted_member_without_contact_has_no_leader(Stores *all) {
        Host *h = NULL;
        KvState state;

        (void) wait_until_whole(all);
        while (!h) {
                stores_turn(all); /* admits the fourth host */
                run_ms(all, LOOK_MS);
                for (unsigned i = 0; i < all->n; i++)
                        if (stores_leader(all) && all->hosts[i].raft_id != 0 &&
                            role_at(stores_leader(all), all->hosts[i].raft_id) == KV_MEMBER_STANDBY)
                                h = &all->hosts[i];
        }
        wait_for_role(all, h, h->raft_id, KV_MEMBER_VOTER, kv_member_promote);
        run_ms(all, 3000);
        wait_for_role(all, h, h->raft_id, KV_MEMBER_STANDBY, kv_member_demote);
        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != h)
                        sim_net_cut(all->net, h->card, all->hosts[i].card, true);
        run_ms(all, ANSWER_MS);
        kv_state(h->store, &state);
        if (state.leader_id != 0)
                world_failed(all->world, "silence-is-noticed", "%s still knows a leader", h->name);
}

static void on_any(void *userdata, const KvResult *result) {}

/* Under continuous writes, too: then the followers rarely have all entries of the leader. */
static void a_busy_leader_whose_disk_fails_transfers_leadership(Stores *all) {
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

/* The promoted host does not answer: the leader aborts the promotion and restarts from its log, whose last
 * write hangs. */
static void a_promotion_that_fails_on_a_hanging_disk_answers_all_requests(Stores *all) {
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
                                if (state.members[k].role == KV_MEMBER_STANDBY &&
                                    all->hosts[h].raft_id == state.members[k].raft_id)
                                        standby = &all->hosts[h];
        }
        if (!standby)
                world_failed(all->world, "there-is-a-standby", "not within %d s", PATIENCE_MS / 1000);

        leader->disk_bad = true;
        world_loop_set_work_ms(leader->loop, 9000, 9000);
        ask(&first, all, leader); /* the others have the entry; the leader still writes it */
        run_ms(all, 200);
        world_loop_pause(standby->loop, 8000);
        if (kv_member_promote(leader->store, standby->raft_id) != 0)
                world_failed(all->world, "a-standby-can-be-promoted", "it is refused");
        run_ms(all, 1700);
        ask(&a, all, leader);
        run_ms(all, 500 + ANSWER_MS + 500);
        if (!a.came)
                world_failed(all->world, "each-requester-is-answered", "nothing after %u ms",
                             500 + ANSWER_MS + 500);
        store_power_cut(leader, 1000); /* the hanging write never ends */
        run_ms(all, 12000);
        world_loop_set_work_ms(leader->loop, 0, 0);
        leader->disk_bad = false;
        (void) wait_until_whole(all);
}

/* A proposal of an earlier term is in no log any more, and is not repeated. */
static void a_leader_that_returns_answers_earlier_requests(Stores *all) {
        Host *first = wait_until_whole(all), *next;
        KvState state;
        Ask a;

        run_ms(all, 1000); /* the promotion of the third host is committed */
        kv_state(first->store, &state);
        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != first)
                        sim_net_cut(all->net, first->card, all->hosts[i].card, true);
        ask_in(&a, all, first, state.term);
        WORLD_UNTIL(all->world, PATIENCE_MS, "another-leads", (next = stores_leader(all)) && next != first,
                    run_ms(all, 1));
        for (unsigned i = 0; i < all->n; i++)
                sim_net_cut(all->net, first->card, all->hosts[i].card, false);
        WORLD_UNTIL(all->world, PATIENCE_MS, "the-first-leads-again", stores_leader(all) == first,
                    (store_transfer(next->store, first->raft_id), run_ms(all, 1)));
        run_ms(all, 2 * ANSWER_MS);
        if (!a.came || a.status == KV_OK)
                world_failed(all->world, "each-requester-is-answered", "%s",
                             a.came ? kv_status_name(a.status) : "nothing");
}

static const Scenario scenarios[] = {
        { "a_leader_that_returns_answers_earlier_requests", a_leader_that_returns_answers_earlier_requests,
          3 },
        { "a_write_has_a_known_outcome_whenever_its_leader_dies",
          a_write_has_a_known_outcome_whenever_its_leader_dies, 3 },
        { "a_leader_whose_disk_fails_is_replaced_within_three_elections",
          a_leader_whose_disk_fails_is_replaced_within_three_elections, 3 },
        { "a_busy_leader_whose_disk_fails_transfers_leadership",
          a_busy_leader_whose_disk_fails_transfers_leadership, 3 },
        { "a_host_whose_replica_has_stopped_sends_writes_to_the_leader",
          a_host_whose_replica_has_stopped_sends_writes_to_the_leader, 3 },
        { "a_late_entry_is_unknown_to_a_host_whose_replica_has_stopped",
          a_late_entry_is_unknown_to_a_host_whose_replica_has_stopped, 3 },
        { "a_stopped_host_serves_after_a_restart_what_it_acknowledged",
          a_stopped_host_serves_after_a_restart_what_it_acknowledged, 3 },
        { "a_new_member_serves_nothing_before_it_has_all_acknowledged_writes",
          a_new_member_serves_nothing_before_it_has_all_acknowledged_writes, 3 },
        { "a_snapshot_that_does_not_fit_is_rejected_with_one_message_on_both_sides",
          a_snapshot_that_does_not_fit_is_rejected_with_one_message_on_both_sides, 3 },
        { "a_rejected_snapshot_is_sent_again_when_there_is_space",
          a_rejected_snapshot_is_sent_again_when_there_is_space, 3 },
        { "a_snapshot_is_received_after_the_disk_was_full_briefly",
          a_snapshot_is_received_after_the_disk_was_full_briefly, 3 },
        { "writes_do_not_scan_the_entries_that_a_follower_lacks",
          writes_do_not_scan_the_entries_that_a_follower_lacks, 3 },
        { "a_failed_apply_publishes_no_index", a_failed_apply_publishes_no_index, 3 },
        { "a_demoted_member_without_contact_has_no_leader", a_demoted_member_without_contact_has_no_leader,
          4 },
        { "a_promotion_that_fails_on_a_hanging_disk_answers_all_requests",
          a_promotion_that_fails_on_a_hanging_disk_answers_all_requests, 4 },
        { "a_lagging_host_returns_the_leaders_answer_and_serves_nothing_older",
          a_lagging_host_returns_the_leaders_answer_and_serves_nothing_older, 3 },
};

int main(int argc, char *argv[]) {
        return scenarios_main("test-outcome", scenarios, ELEMENTS(scenarios), argc, argv);
}
