/* Rebuilds of a tree that failed (ARCHITECTURE, Replica failure and recovery):
 *
 *      test-rebuild [--seed N] [--runs N] [--trace]
 *
 * The host continues to serve and to write while a worker rebuilds its tree. A rebuild that fails is
 * repeated; one that a stop, a kill or a power cut interrupts loses nothing. */
#include <sys/stat.h>

#include "base/memory.h"
#include "tests/sim/asking.h"
#include "tests/sim/data_dir_faults.h"
#include "tests/sim/scenarios.h"

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
        WORLD_UNTIL(all->world, PATIENCE_MS, "a-tree-that-fails-stops-its-replica", is_stopped(h),
                    run_ms(all, LOOK_MS));
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
                world_failed(all->world, "acknowledged-writes-are-there", "%s has %u", h->name,
                             children(all, h));
}

static void a_host_serves_while_its_tree_is_rebuilt(Stores *all) {
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
                world_failed(all->world, "the-rebuild-continues", "%u of %u children", children(all, h), n);
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
                world_failed(all->world, "a-second-failure-equals-the-first", "%u of %u children",
                             children(all, h), n);
        folder_fault(h->tree, 0);
        wait_until_back(all, h);
}

/* In order, by a kill, and by the loss of power, in which the worker may have come to any of its steps. */
static void an_interrupted_rebuild_loses_nothing(Stores *all) {
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
        { "a_host_serves_while_its_tree_is_rebuilt", a_host_serves_while_its_tree_is_rebuilt, 3 },
        { "a_rebuild_that_fails_is_tried_again", a_rebuild_that_fails_is_tried_again, 3 },
        { "an_interrupted_rebuild_loses_nothing", an_interrupted_rebuild_loses_nothing, 3 },
};

int main(int argc, char *argv[]) {
        return scenarios_main("test-rebuild", scenarios, ELEMENTS(scenarios), argc, argv);
}
