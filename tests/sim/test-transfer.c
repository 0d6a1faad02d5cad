/* Snapshot transfers to a lagging follower, whose chunks are lost, late or rejected: what the leader sends
 * again, and when.
 *
 *      test-transfer [--seed N] [--runs N] [--trace] */
#include <dirent.h>

#include "kvstore/raft/transfer.h"
#include "tests/sim/data_dir_faults.h"
#include "tests/sim/wire.h"

enum { N_LARGE = 16, WRITES_MIN = 40, WRITES_MAX = 1000, NEVER_MS = 3600 * 1000 };

/* The times of transfer.c. */
enum { STEP_MS = 200, MESSAGE_MS = 1000, MESSAGE_MAX_MS = 30000, NO_ROOM_MS = 10000, REFUSED_MS = 1000 };

/* Let one host lag behind the leader's log. */
static Host *fall_behind(Stores *all) {
        Host *leader = three_voters(all, 1000), *away = &all->hosts[(leader->number + 1) % 3];
        uint64_t lacked = state_of(leader).raft_index + 1;

        store_power_cut(away, NEVER_MS);
        for (unsigned i = 0;
             i < WRITES_MIN || raft_core_first_index(replica_core(leader->store->replica)) <= lacked; i++) {
                char key[32];

                if (i == WRITES_MAX)
                        world_failed(all->world, "entries-leave-memory", "not with %u writes", i);
                snprintf(key, sizeof(key), "/large/%u", i % N_LARGE);
                put(all, leader, key, PUT_MAX);
        }
        return away;
}

/* The leader has a checkpoint of all entries. */
static Host *leave_one_behind(Stores *all) {
        Host *away = fall_behind(all);

        make_checkpoint(all, stores_leader(all));
        run_ms(all, 1000);
        wire.n = 0;
        return away;
}

static unsigned chunks_of(Stores *all) {
        return (unsigned) ((replica_data_dir(stores_leader(all)->store->replica)->checkpoint.size +
                            TRANSFER_CHUNK - 1) /
                           TRANSFER_CHUNK);
}

static void chunks_that_cannot_be_sent_are_retried(Stores *all) {
        Host *away = leave_one_behind(all);
        uint64_t at_ms;
        unsigned n;

        wire.refuse_chunks = true;
        store_power_on(away);
        at_ms = wire_wait(all, CHUNK);
        run_ms(all, 25000);
        n = 25000 / STEP_MS; /* and some for other changes */
        expect(all, "an-attempt-each-step", wire_count(CHUNK, at_ms, at_ms + 25000), n - n / 20, n + n / 20);
        expect(all, "again-after-10-s-of-silence", wire_numbers(), 3, 3);
        wire.refuse_chunks = false;
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static void as_many_chunks_are_in_flight_as_the_window_holds(Stores *all) {
        Host *away = leave_one_behind(all);
        uint64_t at_ms;

        expect(all, "the-tree-is-larger-than-the-window", chunks_of(all), TRANSFER_WINDOW + 3, 1000);
        wire.vanish_from = 0;
        store_power_on(away);
        at_ms = wire_wait(all, CHUNK);
        run_ms(all, 25000);
        expect(all, "at-once", wire_count(CHUNK, at_ms, at_ms + 1), TRANSFER_WINDOW, TRANSFER_WINDOW);
        expect(all, "again-after-10-s-of-silence", wire_numbers(), 3, 3);
        expect(all, "chunks", wire_count(CHUNK, 0, NEVER), 3 * TRANSFER_WINDOW, 3 * TRANSFER_WINDOW);
        wire.vanish_from = NEVER;
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static unsigned n_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        while (dir && readdir(dir))
                n++;
        if (dir)
                closedir(dir);
        return n;
}

/* All hosts have a first checkpoint. */
static unsigned n_descriptors_of(Stores *all) {
        for (unsigned i = 0; i < all->n; i++)
                if (checkpoint_of(&all->hosts[i]) == 0)
                        make_checkpoint(all, &all->hosts[i]);
        run_ms(all, 1000);
        return n_descriptors();
}

/* The transfer completes; 'repeated': some chunks are sent twice. Then nothing is sent, and no session stays
 * open. */
static void send_all(Stores *all, Host *away, bool repeated) {
        unsigned n = chunks_of(all), descriptors;
        uint64_t at_ms, closing_ms;

        store_power_on(away);
        at_ms = wire_wait(all, CHUNK);
        closing_ms = wire_wait(all, CLOSING);
        expect(all, "no-chunk-waits-for-a-timer", closing_ms - at_ms, 0,
               (uint64_t) n / TRANSFER_WINDOW * STEP_MS / 2);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
        expect(all, "transfers", wire_numbers(), 1, 1);
        expect(all, "chunks", wire_count(CHUNK, 0, NEVER), n + repeated, repeated ? n + TRANSFER_WINDOW : n);
        expect(all, "closing-messages", wire_count(CLOSING, 0, NEVER), 1, 1);
        descriptors = n_descriptors_of(all);
        wire.n = 0;
        run_ms(all, 40000);
        expect(all, "it-is-over", wire_count(CHUNK, 0, NEVER) + wire_count(CLOSING, 0, NEVER), 0, 0);
        expect(all, "descriptors", n_descriptors(), descriptors, descriptors);
}

static void each_chunk_is_sent_once(Stores *all) {
        unsigned descriptors;
        Host *away;

        three_voters(all, 1000);
        descriptors = n_descriptors_of(all);
        away = leave_one_behind(all);
        send_all(all, away, false);
        expect(all, "descriptors", n_descriptors_of(all), descriptors, descriptors);
}

static void a_chunk_that_is_lost_is_sent_again(Stores *all) {
        Host *away = leave_one_behind(all);

        wire.lose = TRANSFER_CHUNK;
        send_all(all, away, true);
}

static void a_chunk_that_is_damaged_is_sent_again(Stores *all) {
        Host *away = leave_one_behind(all);

        wire.damage = TRANSFER_CHUNK;
        send_all(all, away, true);
}

static void a_transfer_that_progresses_is_not_restarted(Stores *all) {
        Host *away = leave_one_behind(all);

        wire.acks_late_ms =
                6000; /* less than the silence that ends a transfer, which takes longer as a whole */
        store_power_on(away);
        WAIT(all, "the-closing-message-comes", wire_count(CLOSING, 0, NEVER) > 0);
        expect(all, "transfers", wire_numbers(), 1, 1);
        wire.acks_late_ms = 0;
        UNTIL(all, "all-are-whole", is_whole(all, 3));
        run_ms(all, 7000); /* until no answer is in flight */
}

static void the_closing_message_is_repeated_and_after_30_s_the_tree(Stores *all) {
        uint64_t whole_ms = 0, closing_ms, before_ms = 0;
        Host *away = leave_one_behind(all);
        unsigned n_acks;

        wire.lose_closing = true;
        store_power_on(away);
        closing_ms = wire_wait(all, CLOSING);
        for (size_t i = 0; i < wire.n; i++)
                if (wire.items[i].what == ACK && wire.items[i].ack == ACK_WHOLE)
                        whole_ms = wire.items[i].at_ms;
        expect(all, "the-message-follows-at-once", closing_ms - whole_ms, 0, SLACK_MS);

        /* A repeated chunk is answered: the receiver has all of the snapshot. */
        n_acks = wire_acks(ACK_WHOLE);
        run_ms(all, 100);
        if (!wire_repeat_chunk(stores_leader(all), away))
                world_failed(all->world, "there-is-a-session", "none");
        run_ms(all, 100);
        expect(all, "whole-again", wire_acks(ACK_WHOLE), n_acks + 1, n_acks + 1);

        run_ms(all, 29000);
        expect(all, "one-transfer", wire_numbers(), 1, 1);
        for (size_t i = 0; i < wire.n; i++) {
                if (wire.items[i].what != CLOSING)
                        continue;
                if (before_ms > 0)
                        expect(all, "a-message-each-second", wire.items[i].at_ms - before_ms, MESSAGE_MS,
                               MESSAGE_MS + STEP_MS + 1);
                before_ms = wire.items[i].at_ms;
        }
        expect(all, "messages", wire_count(CLOSING, 0, NEVER), 29000 / (MESSAGE_MS + STEP_MS),
               29000 / MESSAGE_MS + 1);
        run_ms(all, 2000);
        expect(all, "two-transfers", wire_numbers(), 2, 2);
        wire.lose_closing = false;
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

/* Return the time from item 'i' to the first chunk after it, in ms. */
static uint64_t next_transfer_ms(size_t i) {
        for (size_t k = i + 1; k < wire.n; k++)
                if (wire.items[k].what == CHUNK && wire.items[k].number != wire.items[i].number)
                        return wire.items[k].at_ms - wire.items[i].at_ms;
        return 0;
}

/* Count rejected transfers: several chunks of one may be rejected. */
static unsigned count_refused(void) {
        uint64_t last = 0;
        unsigned n = 0;

        for (size_t i = 0; i < wire.n; i++)
                if (wire.items[i].what == ACK && wire.items[i].ack >= ACK_REFUSED &&
                    wire.items[i].number != last) {
                        last = wire.items[i].number;
                        n++;
                }
        return n;
}

/* 'error': of writing the second copy; 'room': free bytes of the disk. */
static void refuse(Stores *all, int error, uint64_t room, uint64_t again_ms) {
        Host *away = leave_one_behind(all);
        uint64_t last = 0, ms;
        unsigned descriptors;
        char second[300];

        snprintf(second, sizeof(second), "%s/incoming/next", away->tree);
        folder_room_left(room);
        folder_fault(second, error);
        store_power_on(away);
        WAIT(all, "it-is-refused", count_refused() >= 1);
        run_ms(all, 100);
        descriptors = n_descriptors();
        WAIT(all, "it-is-refused-again", count_refused() >= 3);
        run_ms(all, 100);
        expect(all, "descriptors", n_descriptors(), descriptors, descriptors);
        for (size_t i = 0; i < wire.n; i++) {
                if (wire.items[i].what != ACK || wire.items[i].ack < ACK_REFUSED ||
                    wire.items[i].number == last || (ms = next_transfer_ms(i)) == 0)
                        continue;
                last = wire.items[i].number;
                expect(all, "again-after", ms, again_ms, again_ms + STEP_MS + SLACK_MS);
        }
        folder_fault(second, 0);
        folder_room_left(UINT64_MAX);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static void a_tree_without_space_for_its_second_copy_is_sent_again_after_10_s(Stores *all) {
        refuse(all, -ENOSPC, (uint64_t) 1 << 30, NO_ROOM_MS);
}

static void a_tree_beyond_the_quota_is_sent_again_after_10_s(Stores *all) {
        refuse(all, -EDQUOT, UINT64_MAX, NO_ROOM_MS);
}

static void a_tree_that_does_not_fit_is_sent_again_after_10_s(Stores *all) {
        refuse(all, 0, 100 * 1024, NO_ROOM_MS);
}

static void a_tree_that_cannot_be_stored_is_sent_again_after_a_second(Stores *all) {
        refuse(all, -EIO, UINT64_MAX, REFUSED_MS);
}

/* 'unfit': the second copy did not fit before. */
static void offer(Stores *all, bool unfit, bool fits) {
        Host *away = leave_one_behind(all);
        uint64_t size = replica_data_dir(stores_leader(all)->store->replica)->checkpoint.size,
                 twice = 2 * (size + size / 16);
        char second[300];

        snprintf(second, sizeof(second), "%s/incoming/next", away->tree);
        folder_room_left(unfit ? twice - (fits ? 0 : 2) : size - (fits ? 0 : 1));
        if (unfit)
                folder_fault(second, -ENOSPC);
        store_power_on(away);
        if (unfit) {
                WAIT(all, "it-does-not-fit", wire_acks(ACK_REFUSED) > 0);
                folder_fault(second, 0);
        }
        run_ms(all, TRANSFER_SILENCE_MS +
                            5000); /* the leader may have started a transfer before the host was up */
        if (state_of(away).refuses == fits)
                world_failed(all->world, "space-is-computed-to-the-byte", "%s", away->name);
        folder_room_left(UINT64_MAX);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static void a_tree_is_received_with_space_for_its_size(Stores *all) {
        offer(all, false, true);
}

static void a_tree_is_rejected_with_a_byte_less(Stores *all) {
        offer(all, false, false);
}

static void a_tree_that_did_not_fit_is_received_with_space_for_two_and_a_sixteenth(Stores *all) {
        offer(all, true, true);
}

static void a_tree_that_did_not_fit_is_rejected_with_two_bytes_less(Stores *all) {
        offer(all, true, false);
}

static void a_follower_that_restarted_amid_a_transfer_receives_all_again_soon(Stores *all) {
        Host *away = leave_one_behind(all);
        uint64_t at_ms;

        wire.vanish_from = 2 * TRANSFER_CHUNK;
        store_power_on(away);
        (void) wire_wait(all, CHUNK);
        run_ms(all, 500);
        (void) store_crash(away);
        run_ms(all, 3000);
        wire.vanish_from = NEVER;
        at_ms = world_now_ms(all->world);
        if (!wire_repeat_chunk(stores_leader(all), away))
                world_failed(all->world, "there-is-a-session", "none");
        run_ms(all, 2000);
        expect(all, "refused", wire_acks(ACK_REFUSED), 1, 1);
        expect(all, "transfers", wire_numbers(), 2, 2);
        expect(all, "none-within-a-second", wire_count(CHUNK, at_ms, at_ms + 1000), 0, 0);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static void a_stop_waits_for_a_tree_that_is_being_stored(Stores *all) {
        Host *away = leave_one_behind(all);
        uint64_t lives;

        store_power_on(away);
        world_loop_set_work_ms(away->loop, 3000, 3000);
        WAIT(all, "it-is-being-stored", transfers_busy(replica_transfers(away->store->replica)));
        lives = away->lives;
        store_stop(away);
        run_ms(all, 500);
        if (!away->store || away->lives != lives)
                world_failed(all->world, "a-stop-waits-for-its-worker", "%s has ended", away->name);
        WAIT(all, "it-ends", away->lives != lives);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

/* The tree cannot be replaced while a checkpoint copies it: the message is kept, not repeated. */
static void a_snapshot_that_arrives_during_a_checkpoint_is_installed_after_it(Stores *all) {
        uint64_t at_ms, index;
        Host *away = leave_one_behind(all);

        index = checkpoint_of(stores_leader(all));
        wire.copies = away;
        store_power_on(away);
        at_ms = wire_wait(all, CLOSING);
        run_ms(all, COPY_MS - 100);
        expect(all, "not-yet", state_of(away).raft_index, 0, index - 1);
        WAIT(all, "it-is-installed", state_of(away).raft_index >= index);
        expect(all, "soon", world_now_ms(all->world) - at_ms, COPY_MS - SLACK_MS, MESSAGE_MS - SLACK_MS);
        expect(all, "closing-messages", wire_count(CLOSING, 0, NEVER), 1, 1);
        world_loop_set_work_ms(away->loop, 0, 5);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static void a_checkpoint_is_made_for_a_tree_that_is_asked_for(Stores *all) {
        Host *away = fall_behind(all), *leader = stores_leader(all);

        if (checkpoint_of(leader) == state_of(leader).raft_index) /* one was made for the last write */
                put(all, leader, "/small", 1);
        expect(all, "there-is-no-checkpoint-of-all", checkpoint_of(leader), 0,
               state_of(leader).raft_index - 1);
        store_power_on(away);
        UNTIL(all, "all-are-whole", is_whole(all, 3));
}

static const Scenario scenarios[] = {
        { "chunks_that_cannot_be_sent_are_retried", chunks_that_cannot_be_sent_are_retried, 3 },
        { "as_many_chunks_are_in_flight_as_the_window_holds",
          as_many_chunks_are_in_flight_as_the_window_holds, 3 },
        { "each_chunk_is_sent_once", each_chunk_is_sent_once, 3 },
        { "a_chunk_that_is_lost_is_sent_again", a_chunk_that_is_lost_is_sent_again, 3 },
        { "a_chunk_that_is_damaged_is_sent_again", a_chunk_that_is_damaged_is_sent_again, 3 },
        { "a_transfer_that_progresses_is_not_restarted", a_transfer_that_progresses_is_not_restarted, 3 },
        { "the_closing_message_is_repeated_and_after_30_s_the_tree",
          the_closing_message_is_repeated_and_after_30_s_the_tree, 3 },
        { "a_tree_without_space_for_its_second_copy_is_sent_again_after_10_s",
          a_tree_without_space_for_its_second_copy_is_sent_again_after_10_s, 3 },
        { "a_tree_beyond_the_quota_is_sent_again_after_10_s",
          a_tree_beyond_the_quota_is_sent_again_after_10_s, 3 },
        { "a_tree_that_does_not_fit_is_sent_again_after_10_s",
          a_tree_that_does_not_fit_is_sent_again_after_10_s, 3 },
        { "a_tree_that_cannot_be_stored_is_sent_again_after_a_second",
          a_tree_that_cannot_be_stored_is_sent_again_after_a_second, 3 },
        { "a_tree_is_received_with_space_for_its_size", a_tree_is_received_with_space_for_its_size, 3 },
        { "a_tree_is_rejected_with_a_byte_less", a_tree_is_rejected_with_a_byte_less, 3 },
        { "a_tree_that_did_not_fit_is_received_with_space_for_two_and_a_sixteenth",
          a_tree_that_did_not_fit_is_received_with_space_for_two_and_a_sixteenth, 3 },
        { "a_tree_that_did_not_fit_is_rejected_with_two_bytes_less",
          a_tree_that_did_not_fit_is_rejected_with_two_bytes_less, 3 },
        { "a_follower_that_restarted_amid_a_transfer_receives_all_again_soon",
          a_follower_that_restarted_amid_a_transfer_receives_all_again_soon, 3 },
        { "a_stop_waits_for_a_tree_that_is_being_stored", a_stop_waits_for_a_tree_that_is_being_stored, 3 },
        { "a_snapshot_that_arrives_during_a_checkpoint_is_installed_after_it",
          a_snapshot_that_arrives_during_a_checkpoint_is_installed_after_it, 3 },
        { "a_checkpoint_is_made_for_a_tree_that_is_asked_for",
          a_checkpoint_is_made_for_a_tree_that_is_asked_for, 3 },
};

int main(int argc, char *argv[]) {
        int r = scenarios_main("test-transfer", scenarios, ELEMENTS(scenarios), argc, argv);

        wire_done();
        return r;
}
