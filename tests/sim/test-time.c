/* Cluster time and what expires by it, each clause in a scenario of its own (ARCHITECTURE, Time):
 *
 *      test-time [--seed N] [--runs N] [--trace]
 *
 * What came while the leader was stopped is read before anything expires; a stall counts a second at most,
 * and time without a leader not at all; what was written before a leader came lives through its first 3
 * seconds, 30 when there had been none for 10. */

#include "base/log.h"
#include "base/memory.h"
#include "tests/sim/scenarios.h"
#include "tests/lib/store_inside.h"

typedef struct Put {
        Host *host;
        const char *key;
        uint64_t ttl_ms;
        bool refresh, came;
        KvStatus status;
} Put;

static void on_put(void *userdata, const KvResult *result) {
        Put *put = userdata;

        put->came = true;
        put->status = result->status;
}

static void on_ask(void *userdata) {
        Put *put = userdata;
        KvCommand cmd = {
                .op = put->refresh ? KV_UPDATE : KV_SET,
                .key = kv_string(put->key),
                .value = kv_string(put->refresh ? "" : "1"),
                .refresh = put->refresh,
                .has_ttl = true,
                .ttl_ms = put->ttl_ms,
        };

        if (kv_propose(put->host->store, &cmd, on_put, put, NULL) < 0)
                abort();
}

static void put(Stores *all, Host *h, const char *key, uint64_t ttl_ms) {
        Put p = { .host = h, .key = key, .ttl_ms = ttl_ms };

        on_ask(&p);
        for (unsigned i = 0; !p.came && i < PATIENCE_MS / LOOK_MS; i++)
                run_ms(all, LOOK_MS);
        if (!p.came || p.status != KV_OK)
                world_failed(all->world, "a-key-is-written", "%s: %s", key,
                             p.came ? kv_status_name(p.status) : "no answer");
}

static bool is_there(Stores *all, Host *h, const char *key) {
        KvNode node;
        int r;

        r = store_node(h->store, key, &node);
        if (r < 0 && r != -ENOENT)
                world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
        return r == 0;
}

static void must(Stores *all, const char *checker, bool holds) {
        if (!holds)
                world_failed(all->world, checker, "it is not so");
}

static Host *wait_for_leader(Stores *all) {
        Host *leader;

        for (unsigned i = 0; !(leader = stores_leader(all)); i++) {
                if (i > PATIENCE_MS / LOOK_MS)
                        world_failed(all->world, "there-is-a-leader", "none");
                run_ms(all, LOOK_MS);
        }
        return leader;
}

/* -- A host alone, that is stopped -- */

static void messages_of_a_stall_are_read_before_any_key_expires(Stores *all) {
        Host *h = wait_for_leader(all);
        Put refresh = { .host = h, .key = "/t", .refresh = true, .ttl_ms = 60000 };

        put(all, h, "/t", 500);
        put(all, h, "/u", 500);
        run_ms(all, 100);
        world_loop_pause(h->loop, 3000);
        world_at(all->world, 1500, h->loop, on_ask, &refresh);
        run_ms(all, 4000);
        must(all, "a-refresh-in-a-stall-is-in-time",
             refresh.came && refresh.status == KV_OK && is_there(all, h, "/t"));
        must(all, "expired-keys-are-removed", !is_there(all, h, "/u"));
}

static void wait_until_up(Stores *all) {
        for (unsigned i = 0; i < all->n; i++)
                for (unsigned k = 0; !store_is_up(&all->hosts[i]); k++) {
                        must(all, "a-host-comes-back", k < PATIENCE_MS / LOOK_MS);
                        run_ms(all, LOOK_MS);
                }
        (void) wait_for_leader(all);
}

/* All hosts at once; 'reboots': the machine, too, so that the tree is rebuilt. Nothing is written meanwhile:
 * the last entry is old. */
static void restart_all(Stores *all, bool reboots) {
        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];

                store_stop(h);
                if (reboots)
                        snprintf(h->boot_id, sizeof(h->boot_id), "%032x", ++h->boots);
        }
        run_ms(all, 1500); /* at most as long as it takes to hand over */
        wait_until_up(all);
}

static void a_time_to_live_continues_over_an_orderly_restart(Stores *all) {
        for (unsigned reboots = 0; reboots < 2; reboots++) {
                (void) wait_for_leader(all);
                put(all, &all->hosts[0], "/t", 10000);
                run_ms(all, 6000);
                restart_all(all, reboots);
                must(all, "nothing-expires-early", is_there(all, &all->hosts[0], "/t"));
                run_ms(all, 6000);
                must(all, "time-before-the-restart-counts", !is_there(all, &all->hosts[0], "/t"));
        }
}

static void restarts_that_never_end_keep_nothing_for_ever(Stores *all) {
        (void) wait_for_leader(all);
        put(all, &all->hosts[0], "/t", 20000);
        for (unsigned i = 0; i < 5; i++) {
                run_ms(all, 5500);
                restart_all(all, false);
        }
        must(all, "an-idle-store-continues-to-count", !is_there(all, &all->hosts[0], "/t"));
}

static void a_stall_counts_a_second_at_most(Stores *all) {
        Host *h = wait_for_leader(all);

        put(all, h, "/t", 5000);
        world_loop_pause(h->loop, 20000);
        run_ms(all, 20000 + 3800);
        must(all, "a-stall-counts-a-second-at-most", is_there(all, h, "/t"));
        run_ms(all, 1500);
        must(all, "a-stall-counts-something", !is_there(all, h, "/t"));
}

/* A key that was due long ago does not keep others waiting, nor does the loop starve: a steady stream of
 * writes, and what is due goes. */
static void keys_expire_under_load(Stores *all) {
        Host *h = wait_for_leader(all);

        put(all, h, "/t", 300);
        for (unsigned i = 0; i < 100; i++) {
                put(all, h, "/load", 60000);
                run_ms(all, 1);
        }
        run_ms(all, 300);
        must(all, "expired-keys-are-removed-under-load", !is_there(all, h, "/t"));
}

/* -- Three voters, none of which reaches another for a while -- */

static void cut_all(Stores *all, bool cut) {
        for (unsigned i = 0; i < all->n; i++)
                for (unsigned k = 0; k < i; k++)
                        sim_net_cut(all->net, all->hosts[i].card, all->hosts[k].card, cut);
}

static void wait_for_voters(Stores *all) {
        for (unsigned i = 0; i < PATIENCE_MS / LOOK_MS; i++) {
                Host *leader = wait_for_leader(all);
                KvState state;

                kv_state(leader->store, &state);
                if (state.n_voters == 3)
                        return;
                stores_turn(all);
                run_ms(all, LOOK_MS);
        }
        world_failed(all->world, "there-are-three-voters", "not so");
}

/* No checkpoint yet: after a power cut the trees begin empty, and only the log says how late it is. Who then
 * leads is asked before he has applied it. */
static void a_wrong_wall_clock_after_a_power_cut_moves_no_cluster_time(Stores *all) {
        Put early[STORES_MAX];
        uint64_t cluster_ms;
        Host *h;

        wait_for_voters(all);
        h = wait_for_leader(all);
        put(all, h, "/t", 600000);
        cluster_ms = kv_cluster_ms(h->store);
        for (unsigned i = 0; i < all->n; i++) {
                all->hosts[i].wall_offset_ms = 3600000;
                must(all, "power-can-be-cut", store_power_cut(&all->hosts[i], 100));
        }
        run_ms(all, 200);
        for (unsigned i = 0; i < all->n; i++) {
                must(all, "power-comes-back", store_is_up(&all->hosts[i]));
                early[i] = (Put) { .host = &all->hosts[i], .key = "/early", .ttl_ms = 60000 };
                on_ask(&early[i]);
        }
        h = wait_for_leader(all);
        put(all, h, "/again", 60000);
        run_ms(all, 5000); /* until the last of them has been answered */
        must(all, "cluster-time-is-the-logs",
             kv_cluster_ms(h->store) < cluster_ms + 60000 && is_there(all, h, "/t"));
}

/* Due first are those that fall due first: a new key behind an old one that is spared waits with it. */
static void spare_what_is_old(Stores *all, uint64_t cut_ms, uint64_t grace_ms) {
        uint64_t cluster_ms;
        Host *h;

        wait_for_voters(all);
        h = wait_for_leader(all);
        put(all, h, "/old", 2000);
        cluster_ms = kv_cluster_ms(h->store);
        cut_all(all, true);
        run_ms(all, cut_ms);
        must(all, "no-host-leads-alone", !stores_leader(all));
        cut_all(all, false);
        h = wait_for_leader(all);
        must(all, "time-without-a-leader-does-not-count", kv_cluster_ms(h->store) < cluster_ms + 2500);

        put(all, h, "/new", 300);
        run_ms(all, 700);
        must(all, "a-leaders-own-keys-are-not-spared", !is_there(all, h, "/new"));
        run_ms(all, grace_ms - 1200);
        must(all, "keys-older-than-their-leader-are-spared", is_there(all, h, "/old"));
        run_ms(all, 2000);
        must(all, "keys-older-than-their-leader-expire-in-the-end", !is_there(all, h, "/old"));
}

static void keys_older_than_their_leader_live_3_s(Stores *all) {
        spare_what_is_old(all, 5000, 3000);
}

static void they_live_30_s_when_there_was_none_for_10(Stores *all) {
        spare_what_is_old(all, 15000, 30000);
}

/* -- Runs -- */

static const Scenario scenarios[] = {
        { "messages_of_a_stall_are_read_before_any_key_expires",
          messages_of_a_stall_are_read_before_any_key_expires, 1 },
        { "a_time_to_live_continues_over_an_orderly_restart",
          a_time_to_live_continues_over_an_orderly_restart, 1 },
        { "a_time_to_live_continues_over_a_restart_of_all", a_time_to_live_continues_over_an_orderly_restart,
          3 },
        { "restarts_that_never_end_keep_nothing_for_ever", restarts_that_never_end_keep_nothing_for_ever, 1 },
        { "a_stall_counts_a_second_at_most", a_stall_counts_a_second_at_most, 1 },
        { "a_wrong_wall_clock_after_a_power_cut_moves_no_cluster_time",
          a_wrong_wall_clock_after_a_power_cut_moves_no_cluster_time, 3 },
        { "keys_expire_under_load", keys_expire_under_load, 1 },
        { "keys_older_than_their_leader_live_3_s", keys_older_than_their_leader_live_3_s, 3 },
        { "they_live_30_s_when_there_was_none_for_10", they_live_30_s_when_there_was_none_for_10, 3 },
};

int main(int argc, char *argv[]) {
        return scenarios_main("test-time", scenarios, ELEMENTS(scenarios), argc, argv);
}
