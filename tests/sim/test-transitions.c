/* Every transition of a replica's state occurs in a simulated cluster. Scenarios drive three hosts into each
 * one; the program prints the table of transitions, and fails if an allowed one did not occur.
 *
 *      test-transitions [--seed N] [--runs N] [--trace] */

#include "kvstore/raft/log.h"
#include "tests/lib/replica_states.h"
#include "tests/sim/wire.h"

enum { ELECTION_MS = 400, WORK_MS = 2000 };

static unsigned seen[_REPLICA_STATE_MAX][_REPLICA_STATE_MAX];
static bool start_fails; /* the next start of a core */

void __real_replica_move(Replica *p, ReplicaState to);
void __wrap_replica_move(Replica *p, ReplicaState to);
void __wrap_replica_move(Replica *p, ReplicaState to) {
        seen[replica_state(p)][to]++;
        __real_replica_move(p, to);
}

int __real_raft_core_start(RaftCore *core, uint64_t now_ms, const RaftCoreStart *start);
int __wrap_raft_core_start(RaftCore *core, uint64_t now_ms, const RaftCoreStart *start);
int __wrap_raft_core_start(RaftCore *core, uint64_t now_ms, const RaftCoreStart *start) {
        if (!start_fails)
                return __real_raft_core_start(core, now_ms, start);
        start_fails = false;
        return -EIO;
}

static ReplicaState state_is(const Host *h) {
        return store_is_up(h) ? replica_state(h->store->replica) : _REPLICA_STATE_MAX;
}

static Host *follower(Stores *all, const Host *leader) {
        return &all->hosts[(leader->number + 1) % all->n];
}

static void break_disk(Host *h) {
        h->disk_bad = h->disk_breaks = true;
        memory_disk_set_error(h->disk, -EIO, false);
}

static void mend_disk(Host *h) {
        memory_disk_set_error(h->disk, 0, false);
        h->disk_breaks = false;
}

/* Run until all hosts are members again, after all faults. */
static void recover(Stores *all) {
        for (unsigned i = 0; i < all->n; i++) {
                mend_disk(&all->hosts[i]);
                if (all->hosts[i].loop)
                        world_loop_set_work_ms(all->hosts[i].loop, 0, 5);
        }
        UNTIL(all, "all-are-whole", is_whole(all, 3));
        run_ms(all, 3000);
}

static void stop(Stores *all, Host *h) {
        store_stop(h);
        UNTIL(all, "it-starts-again", store_is_up(h));
        recover(all);
}

/* The core requests a new start, as after a promotion that was lost. */
static void request_restart(Host *h) {
        replica_enter(h->store->replica);
        replica_leave(h->store->replica, -ERESTART);
}

static void a_leader_transfers_leadership_fails_and_recovers(Stores *all) {
        Host *leader = three_voters(all, 3000);

        break_disk(leader);
        begin_put(leader, "/a");
        WAIT(all, "it-transfers", state_is(leader) == REPLICA_TRANSFERRING);
        WAIT(all, "it-fails", state_is(leader) == REPLICA_FAILED);
        WAIT(all, "it-probes", state_is(leader) == REPLICA_PROBING);
        WAIT(all, "it-fails-again", state_is(leader) == REPLICA_FAILED);
        mend_disk(leader);
        WAIT(all, "it-recovers", state_is(leader) == REPLICA_OPEN);
        recover(all);
        stop(all, leader);
}

/* The disks of the followers hang: the transfer takes a second. */
static void begin_long_transfer(Stores *all, Host *leader) {
        for (unsigned i = 0; i < all->n; i++)
                if (&all->hosts[i] != leader) {
                        all->hosts[i].disk_bad = true;
                        world_loop_set_work_ms(all->hosts[i].loop, 8000, 8000);
                }
        begin_put(leader, "/a");
        run_ms(all, 300);
        break_disk(leader);
        begin_put(leader, "/b");
        WAIT(all, "it-transfers", state_is(leader) == REPLICA_TRANSFERRING);
}

static void a_leader_closes_or_restarts_during_its_transfer(Stores *all) {
        Host *leader = three_voters(all, 3000);

        begin_long_transfer(all, leader);
        stop(all, leader);

        leader = three_voters(all, 3000);
        begin_long_transfer(all, leader);
        request_restart(leader);
        WAIT(all, "it-fails", state_is(leader) == REPLICA_FAILED);
        recover(all);
}

static void a_follower_closes_in_each_state_of_its_failure(Stores *all) {
        Host *h = follower(all, three_voters(all, 3000));

        h->disk_bad = true;
        store_stop(h);
        replica_fail(h->store->replica, -EIO, "while it closes");
        UNTIL(all, "it-starts-again", store_is_up(h));
        recover(all);

        h->disk_bad = true;
        replica_fail(h->store->replica, -EIO, "of the simulation");
        request_restart(h);
        WAIT(all, "it-fails", state_is(h) == REPLICA_FAILED);
        stop(all, h);

        h->disk_bad = true;
        replica_fail(h->store->replica, -EIO, "of the simulation");
        WAIT(all, "it-fails", state_is(h) == REPLICA_FAILED);
        world_loop_set_work_ms(h->loop, WORK_MS, WORK_MS);
        WAIT(all, "it-probes", state_is(h) == REPLICA_PROBING);
        stop(all, h);
}

static void a_restart_ends_fails_or_closes(Stores *all) {
        Host *h = follower(all, three_voters(all, 3000));

        request_restart(h);
        WAIT(all, "it-restarts", state_is(h) == REPLICA_OPEN);
        recover(all);

        h->disk_bad = true;
        request_restart(h);
        replica_fail(h->store->replica, -EIO, "of the simulation");
        WAIT(all, "it-fails", state_is(h) == REPLICA_FAILED);
        recover(all);

        h->disk_bad = true;
        request_restart(h);
        start_fails = true;
        WAIT(all, "it-fails", state_is(h) == REPLICA_FAILED);
        recover(all);

        request_restart(h);
        world_loop_set_work_ms(h->loop, WORK_MS, WORK_MS);
        stop(all, h);
}

/* Acknowledged entries are missing: the replica is quarantined, also after a restart, until it joins again.
 */
static void a_replica_without_its_entries_is_quarantined_and_joins_again(Stores *all) {
        Host *h = follower(all, three_voters(all, 3000));

        UNTIL(all, "it-may-lose-its-log", stores_may_lose(all, h));
        h->disk_bad = h->damaged = h->disk_breaks = true; /* not admitted before this ends */
        all->lost_voter = h->raft_id;
        replica_fail(h->store->replica, -EIO, "of the simulation");
        WAIT(all, "it-fails", state_is(h) == REPLICA_FAILED);
        h->store->replica->recovery.durable_index += 1000;
        WAIT(all, "it-is-quarantined", state_is(h) == REPLICA_QUARANTINED);
        store_stop(h);
        UNTIL(all, "it-is-quarantined-again", state_is(h) == REPLICA_QUARANTINED);
        recover(all);
}

static void a_host_that_waits_to_join_fails_or_closes(Stores *all) {
        Host *h = &all->hosts[1];

        wire_begin(all);
        for (unsigned i = 0; i < 2; i++) {
                WAIT(all, "it-waits", state_is(h) == REPLICA_WAITING);
                store_stop(h);
                h->disk_bad = true;
                if (i == 1)
                        replica_fail(h->store->replica, -EIO, "while it closes");
                WAIT(all, "it-has-closed", !store_is_up(h));
        }
        UNTIL(all, "there-are-three-voters", is_whole(all, 3));
}

static const Scenario scenarios[] = {
        { "a_leader_transfers_leadership_fails_and_recovers",
          a_leader_transfers_leadership_fails_and_recovers, 3 },
        { "a_leader_closes_or_restarts_during_its_transfer", a_leader_closes_or_restarts_during_its_transfer,
          3 },
        { "a_follower_closes_in_each_state_of_its_failure", a_follower_closes_in_each_state_of_its_failure,
          3 },
        { "a_restart_ends_fails_or_closes", a_restart_ends_fails_or_closes, 3 },
        { "a_replica_without_its_entries_is_quarantined_and_joins_again",
          a_replica_without_its_entries_is_quarantined_and_joins_again, 3 },
        { "a_host_that_waits_to_join_fails_or_closes", a_host_that_waits_to_join_fails_or_closes, 3 },
};

static bool every_transition_was_seen(void) {
        bool all = true;

        for (ReplicaState from = 0; from < _REPLICA_STATE_MAX; from++)
                for (ReplicaState to = 0; to < _REPLICA_STATE_MAX; to++) {
                        if (!replica_state_may_become(from, to))
                                continue;
                        printf("%-14s -> %-14s %u\n", replica_state_name(from), replica_state_name(to),
                               seen[from][to]);
                        all &= seen[from][to] > 0;
                }
        return all;
}

int main(int argc, char *argv[]) {
        int r = scenarios_main("test-transitions", scenarios, ELEMENTS(scenarios), argc, argv);

        wire_done();
        if (r != 0)
                return r;
        if (!every_transition_was_seen()) {
                fprintf(stderr, "transitions of a replica's state did not occur\n");
                return 1;
        }
        printf("ok every_transition_occurs\n");
        return 0;
}
