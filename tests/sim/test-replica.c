/* Timing of a replica, in virtual time: probes of a failed replica, a host without contact to a leader,
 * notifications of commits.
 *
 *      test-replica [--seed N] [--runs N] [--trace] */

#include "kvstore/raft/log.h"
#include "tests/sim/data_dir_faults.h"
#include "tests/sim/wire.h"
#include "tests/lib/store_inside.h"

enum {
        ELECTION_MS = 400,
        HEARTBEAT_MS = 150, /* of Raft: a leader alone has a tick each ELECTION_MS */
        WRITE_MAX_MS = 5000,
        TICK_COUNTS_MS = 1000,
        COPY_RETRY_MS = 10000, /* of checkpoints.c */
        TRANSFER_MS = 1000,
        PROBE_MS = 500,
        PROBE_MAX_MS = 10000,
        STEADY_MS = 60000,
        LOOK_AGAIN_MS = 100, /* of replica_recovery.c */
};

/* Propose a write at 'by' that the disk of 'h' rejects; return when the replica has stopped and reported it.
 */
static uint64_t stop_by(Stores *all, Host *h, Host *by, int error) {
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, error, false);
        begin_put(by, "/stop");
        WAIT(all, "a-replica-stops", h->stopped);
        return world_now_ms(all->world);
}

static void mend(Host *h) {
        memory_disk_set_error(h->disk, 0, false);
        h->disk_breaks = false;
}

static Host *alone(Stores *all) {
        wire_begin(all);
        UNTIL(all, "there-is-a-leader", stores_leader(all));
        run_ms(all, 1000);
        return &all->hosts[0];
}

static void a_stopped_replica_probes_with_growing_pauses(Stores *all) {
        static const uint64_t pauses[] = { PROBE_MS,      2 * PROBE_MS, 4 * PROBE_MS, 8 * PROBE_MS,
                                           16 * PROBE_MS, PROBE_MAX_MS, PROBE_MAX_MS };
        Host *h = alone(all);
        uint64_t at_ms;
        size_t n = 0;

        at_ms = stop_by(all, h, h, -ENOSPC);
        run_ms(all, 37000);
        for (size_t i = 0; i < wire.n; i++) {
                if (wire.items[i].what != ROOM)
                        continue;
                expect(all, "pause", wire.items[i].at_ms - at_ms, pauses[MIN(n, ELEMENTS(pauses) - 1)] - 2,
                       pauses[MIN(n, ELEMENTS(pauses) - 1)] + 2);
                at_ms = wire.items[i].at_ms;
                n++;
        }
        expect(all, "attempts", n, 7, 7);
        mend(h);
        WAIT(all, "it-comes-back", !h->stopped);

        /* A replica that fails again soon keeps its longer interval; after a minute without failure it starts
         * again. */
        for (unsigned steady = 0; steady < 2; steady++) {
                run_ms(all, steady ? STEADY_MS + 1000 : STEADY_MS - 5000);
                wire.n = 0;
                at_ms = stop_by(all, h, h, -ENOSPC);
                WAIT(all, "it-probes-the-disk", wire_count(ROOM, 0, NEVER) > 0);
                expect(all, "the-first-pause", world_now_ms(all->world) - at_ms,
                       (steady ? PROBE_MS : PROBE_MAX_MS) - 2, (steady ? PROBE_MS : PROBE_MAX_MS) + 2);
                mend(h);
                WAIT(all, "it-comes-back", !h->stopped);
        }
}

/* Of a pause of the host itself, at most TICK_COUNTS_MS count. Observation starts and ends with a tick, and
 * each pause lasts from the previous tick to its end. */
static void watch_a_write_that_hangs(Stores *all, Host *h, unsigned pauses) {
        enum { PAUSE_MS = 3000 };
        uint64_t at_ms, least = WRITE_MAX_MS + pauses * (PAUSE_MS - TICK_COUNTS_MS);

        h->disk_bad = true;
        world_loop_set_work_ms(h->loop, 60000, 60000);
        begin_put(h, "/a");
        WAIT(all, "it-writes", raft_log_oldest_write_ms(h->store->replica->log) > 0);
        at_ms = world_now_ms(all->world);
        world_loop_set_work_ms(h->loop, 0, 1);
        for (unsigned i = 0; i < pauses; i++) {
                run_ms(all, 1000);
                world_loop_pause(h->loop, PAUSE_MS);
                run_ms(all, PAUSE_MS);
        }
        WAIT(all, "it-ends", h->stopped);
        expect(all, "it-ends-after", world_now_ms(all->world) - at_ms, least,
               least + (2 + pauses) * ELECTION_MS + SLACK_MS);
        WAIT(all, "it-comes-back", !h->stopped);
}

static void a_write_that_hangs_ends_a_follower_after_5_s(Stores *all) {
        watch_a_write_that_hangs(all, &all->hosts[(three_voters(all, 3000)->number + 1) % 3], 0);
}

static void a_write_that_hangs_is_not_charged_with_pauses_of_the_daemon(Stores *all) {
        watch_a_write_that_hangs(all, alone(all), 2);
}

/* The replica cannot restart while that write is under way; it checks ten times a second whether it has
 * ended. */
static void it_begins_again_soon_after_the_write_that_hung(Stores *all) {
        for (unsigned i = 0; i < 4; i++) {
                Host *h = alone(all);
                uint64_t end_ms;

                h->disk_bad = true;
                world_loop_set_work_ms(h->loop, 14000 + 25 * i, 14000 + 25 * i);
                begin_put(h, "/a");
                WAIT(all, "it-writes", raft_log_oldest_write_ms(h->store->replica->log) > 0);
                end_ms = world_now_ms(all->world) + 14000 + 25 * i;
                world_loop_set_work_ms(h->loop, 0, 1);
                WAIT(all, "it-ends", h->stopped);
                WAIT(all, "it-begins-again", wire_count(REOPEN, end_ms - SLACK_MS, NEVER) > 0);
                expect(all, "soon", world_now_ms(all->world), end_ms - 2, end_ms + LOOK_AGAIN_MS + 2);
                WAIT(all, "it-comes-back", !h->stopped);
                run_ms(all, STEADY_MS + 1000);
        }
}

/* The limit is an eighth of a small disk and the size of a rebuild; a replica that failed for another reason
 * needs no free space. */
static void a_replica_without_disk_space_recovers_when_there_is_a_reserve(Stores *all) {
        static const struct {
                int error;
                bool of_tree;
        } cases[] = { { -ENOSPC, false }, { -EDQUOT, false }, { -ENOSPC, true }, { -EIO, false } };
        const uint64_t reserve = 10 * 1024 * 1024;

        for (size_t k = 0; k < ELEMENTS(cases); k++) {
                Host *h = alone(all);

                make_checkpoint(all, h);
                run_ms(all, 1000);
                wire.total = 8 * reserve;
                wire.room = reserve - 1 +
                            (cases[k].of_tree ? replica_data_dir(h->store->replica)->checkpoint.size : 0);
                if (cases[k].of_tree)
                        folder_fault(h->tree, cases[k].error);
                (void) stop_by(all, h, h, cases[k].of_tree ? 0 : cases[k].error);
                folder_fault(h->tree, 0);
                mend(h);
                if (cases[k].error != -EIO) {
                        run_ms(all, 12000);
                        if (!h->stopped)
                                world_failed(all->world, "a-reserve-is-wanted", "case %zu", k);
                        wire.room++;
                }
                run_ms(all, 12000);
                if (h->stopped)
                        world_failed(all->world, "with-it-a-replica-recovers", "case %zu: %s", k,
                                     state_of(h).problem);
                wire.total = 0;
                run_ms(all, STEADY_MS + 1000);
        }
}

typedef struct Times {
        World *world;
        uint64_t at_ms[4];
        unsigned n;
} Times;

static void on_message(void *userdata, const char *message) {
        Times *t = userdata;

        if (starts_with(message, "Failed to make a checkpoint") && t->n < ELEMENTS(t->at_ms))
                t->at_ms[t->n++] = world_now_ms(t->world);
}

static void a_checkpoint_that_fails_is_tried_again_after_10_s(Stores *all) {
        Host *h = alone(all);
        Times times = { .world = all->world };
        char path[300], key[32];

        snprintf(path, sizeof(path), "%s/checkpoint.new", h->tree);
        all->on_message = on_message;
        all->message_userdata = &times;
        h->disk_bad = h->disk_breaks = true;
        folder_fault(path, -EIO);
        world_loop_set_work_ms(h->loop, 0, 0);
        for (unsigned i = 0; times.n < 2; i++) {
                if (i > 20000)
                        world_failed(all->world, "a-checkpoint-is-tried", "%u times", times.n);
                snprintf(key, sizeof(key), "/some/%u", i % 50);
                put(all, h, key, 2048);
                run_ms(all, 4);
        }
        all->on_message = NULL;
        expect(all, "pause", times.at_ms[1] - times.at_ms[0], COPY_RETRY_MS, COPY_RETRY_MS + SLACK_MS);
        folder_fault(path, 0);
        h->disk_breaks = false;
}

static void set_apart(Stores *all, Host *h, bool apart) {
        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != h)
                        sim_net_cut(all->net, h->card, all->hosts[i].card, apart);
}

/* The host notices the loss two election timeouts after the last message, when nothing else wakes it.
 * 'knows': the status that clients receive. */
static void hears_no_leader(Stores *all, Host *h, bool (*knows)(const Host *h)) {
        set_apart(all, h, true);
        run_ms(all, 2 * ELECTION_MS - HEARTBEAT_MS - SLACK_MS);
        if (!knows(h) || h->lost_ms != 0)
                world_failed(all->world, "a-short-silence-is-none", "%s knows no leader", h->name);
        run_ms(all, HEARTBEAT_MS + 2 * SLACK_MS);
        if (knows(h) || h->lost_ms == 0)
                world_failed(all->world, "silence-is-noticed", "%s knows a leader, or has not told", h->name);
        set_apart(all, h, false);
        WAIT(all, "a-leader-is-known-again", knows(h) && h->lost_ms == 0);
}

static bool forwards(const Host *h) {
        return store_forwards(h->store);
}

static bool has_leader(const Host *h) {
        return state_of(h).leader_id != 0;
}

static void a_stopped_host_sends_writes_to_the_leader_as_long_as_there_is_contact(Stores *all) {
        Host *leader = three_voters(all, 1000), *h = &all->hosts[(leader->number + 1) % 3];

        (void) stop_by(all, h, leader, -ENOSPC);
        run_ms(all, 5000);
        if (!forwards(h) || h->lost_ms != 0)
                world_failed(all->world, "a-leader-is-known", "%s knows none", h->name);
        for (unsigned i = 0; i < 2; i++)
                hears_no_leader(all, h, forwards);
        mend(h);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static Host *standby(Stores *all) {
        KvState state;

        if (!is_whole(all, 3))
                return NULL;
        state = state_of(stores_leader(all));
        for (size_t k = 0; k < state.n_members; k++)
                for (unsigned i = 0; i < all->n; i++)
                        if (state.members[k].role == KV_MEMBER_STANDBY &&
                            all->hosts[i].raft_id == state.members[k].raft_id)
                                return &all->hosts[i];
        return NULL;
}

/* The second time directly after contact was restored, when its timer has just restarted. */
static void a_standby_has_a_leader_as_long_as_there_is_contact(Stores *all) {
        Host *h = NULL;

        wire_begin(all);
        UNTIL(all, "there-is-a-standby", (h = standby(all)));
        run_ms(all, 5000);
        for (unsigned i = 0; i < 2; i++)
                hears_no_leader(all, h, has_leader);
}

/* The followers' disks hang: none of them has all entries, but the leader has contact to them. */
static void a_leader_that_cannot_transfer_leadership_stops_after_a_second(Stores *all) {
        Host *leader = three_voters(all, 3000);
        uint64_t at_ms;

        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != leader) {
                        all->hosts[i].disk_bad = true;
                        world_loop_set_work_ms(all->hosts[i].loop, 8000, 8000);
                }
        begin_put(leader, "/a");
        run_ms(all, 300);
        leader->disk_bad = leader->disk_breaks = true;
        memory_disk_set_error(leader->disk, -EIO, false);
        begin_put(leader, "/b");
        WAIT(all, "it-fails", state_of(leader).stopped);
        at_ms = world_now_ms(all->world);
        WAIT(all, "it-stops", leader->stopped);
        expect(all, "it-stops-after", world_now_ms(all->world) - at_ms, TRANSFER_MS - SLACK_MS,
               TRANSFER_MS + SLACK_MS);
        mend(leader);
        for (unsigned i = 0; i < all->n; i++)
                world_loop_set_work_ms(all->hosts[i].loop, 0, 5);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static void a_leader_that_has_transferred_leadership_stops_at_once(Stores *all) {
        Host *leader = three_voters(all, 3000);
        uint64_t term = state_of(leader).term;

        leader->disk_bad = leader->disk_breaks = true;
        memory_disk_set_error(leader->disk, -EIO, false);
        begin_put(leader, "/a");
        WAIT(all, "another-leads",
             stores_leader(all) && stores_leader(all) != leader && state_of(stores_leader(all)).term > term);
        run_ms(all, 50);
        if (!leader->stopped)
                world_failed(all->world, "it-has-stopped", "not yet");
        mend(leader);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

/* libraft itself sends a few entries with a heartbeat only: the first ones after a configuration change, and
 * one directly after a heartbeat. All others are sent and committed at once; without a notification only a
 * heartbeat would inform the followers. */
static void a_follower_learns_the_commit_index_at_once(Stores *all) {
        enum { N = 30, RARE = 5, IDLE_MS = 100 * HEARTBEAT_MS };
        Host *leader = three_voters(all, 3000), *h = &all->hosts[(leader->number + 1) % 3];
        KvCounts before, after;
        unsigned n = 0;

        sim_net_set_delay(all->net, 0, 1);
        for (unsigned i = 0; i < all->n; i++)
                world_loop_set_work_ms(all->hosts[i].loop, 0, 1);
        run_ms(all, 1000);
        for (unsigned i = 0; i < N; i++) {
                uint64_t at_ms = world_now_ms(all->world);

                put(all, h, "/a", 1);
                n += world_now_ms(all->world) - at_ms <= SLACK_MS;
                run_ms(all, 37);
        }
        expect(all, "writes-are-answered-at-once", n, N - RARE, N);

        run_ms(all, 1000);
        kv_counts(leader->store, &before);
        run_ms(all, IDLE_MS);
        kv_counts(leader->store, &after);
        n = 2 * IDLE_MS / HEARTBEAT_MS;
        expect(all, "heartbeats-to-two-and-nothing-else",
               after.traffic.appends_sent - before.traffic.appends_sent, n - 2, n + 2);
}

static const Scenario scenarios[] = {
        { "a_stopped_replica_probes_with_growing_pauses", a_stopped_replica_probes_with_growing_pauses, 1 },
        { "a_write_that_hangs_ends_a_follower_after_5_s", a_write_that_hangs_ends_a_follower_after_5_s, 3 },
        { "a_write_that_hangs_is_not_charged_with_pauses_of_the_daemon",
          a_write_that_hangs_is_not_charged_with_pauses_of_the_daemon, 1 },
        { "it_begins_again_soon_after_the_write_that_hung", it_begins_again_soon_after_the_write_that_hung,
          1 },
        { "a_replica_without_disk_space_recovers_when_there_is_a_reserve",
          a_replica_without_disk_space_recovers_when_there_is_a_reserve, 1 },
        { "a_checkpoint_that_fails_is_tried_again_after_10_s",
          a_checkpoint_that_fails_is_tried_again_after_10_s, 1 },
        { "a_stopped_host_sends_writes_to_the_leader_as_long_as_there_is_contact",
          a_stopped_host_sends_writes_to_the_leader_as_long_as_there_is_contact, 3 },
        { "a_standby_has_a_leader_as_long_as_there_is_contact",
          a_standby_has_a_leader_as_long_as_there_is_contact, 4 },
        { "a_leader_that_cannot_transfer_leadership_stops_after_a_second",
          a_leader_that_cannot_transfer_leadership_stops_after_a_second, 3 },
        { "a_leader_that_has_transferred_leadership_stops_at_once",
          a_leader_that_has_transferred_leadership_stops_at_once, 3 },
        { "a_follower_learns_the_commit_index_at_once", a_follower_learns_the_commit_index_at_once, 3 },
};

int main(int argc, char *argv[]) {
        int r = scenarios_main("test-replica", scenarios, ELEMENTS(scenarios), argc, argv);

        wire_done();
        return r;
}
