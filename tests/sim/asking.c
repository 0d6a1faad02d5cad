#include "tests/sim/asking.h"

void ask_answered(void *userdata, const KvResult *result) {
        Ask *a = userdata;

        a->came = true;
        a->status = result->status;
        a->index = result->index;
        a->took_ms = world_now_ms(a->all->world) - a->begun_ms;
        a->shown = kv_can_serve(a->host->store);
}

void ask_in(Ask *a, Stores *all, Host *h, uint64_t term) {
        KvCommand cmd = { .op = KV_POST, .key = kv_string("/q"), .value = kv_string("1"), .term = term };

        *a = (Ask) { .all = all, .host = h, .begun_ms = world_now_ms(all->world) };
        if (kv_propose(h->store, &cmd, ask_answered, a, NULL) < 0)
                abort();
}

void ask(Ask *a, Stores *all, Host *h) {
        ask_in(a, all, h, 0);
}

static int count_child(void *userdata, const KvNode *node) {
        ++*(unsigned *) userdata;
        return 1;
}

unsigned children(Stores *all, Host *h) {
        KvRange range = { .key = kv_string("/q") };
        unsigned n = 0;

        if (kv_local_walk(h->store, &range, count_child, &n) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
        return n;
}

Host *wait_for_leader(Stores *all) {
        Host *leader;

        WORLD_UNTIL(all->world, PATIENCE_MS, "there-is-a-leader", (leader = stores_leader(all)) != NULL,
                    run_ms(all, LOOK_MS));
        return leader;
}

/* Return the leader of three voters that are all up; NULL: not yet. */
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

Host *wait_until_whole(Stores *all) {
        Host *leader;

        WORLD_UNTIL(all->world, PATIENCE_MS, "there-are-three-voters", (leader = whole(all)) != NULL,
                    (stores_turn(all), run_ms(all, LOOK_MS)));
        return leader;
}

void write_much(Stores *all) {
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
                if (kv_propose(leader->store, &cmd, ask_answered, &a, NULL) < 0)
                        abort();
                while (!a.came)
                        run_ms(all, 1);
        }
}
