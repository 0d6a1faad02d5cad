/* The members of the stores: three voters, sometimes more. A model of fleetd/sessions. */

#include "base/memory.h"
#include "tests/sim/stores.h"

static Host *host_of(Stores *all, uint64_t raft_id) {
        for (unsigned i = 0; i < all->n; i++)
                if (all->hosts[i].raft_id == raft_id && !all->hosts[i].wipe)
                        return &all->hosts[i];
        return NULL;
}

static void let_in(Stores *all, Host *leader, const KvState *state) {
        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];
                KvState mine;
                Error err = {};
                bool member = false;
                int r;

                if (!store_is_up(h) || h->wipe || h->leaving || h->disk_breaks)
                        continue;
                kv_state(h->store, &mine);
                if (mine.cluster_id == 0 || mine.lost) {
                        h->term = 0;
                        if (h->raft_id == 0 || mine.lost)
                                h->raft_id = ++all->last_raft_id;
                        r = kv_joined(h->store, state->cluster_id, state->lineage, h->raft_id, &err);
                        if (r < 0 && !(mine.lost && r == -EBUSY))
                                world_failed(all->world, "a-host-joins", "%s: %s", h->name,
                                             error_text(&err, 0));
                        if (r >= 0 && mine.lost) {
                                all->counts[FAULT_GIVEN_UP]++;
                                h->damaged = false;
                        }
                        continue;
                }
                for (size_t k = 0; k < state->n_members; k++) {
                        const KvMember *m = &state->members[k];

                        member |= m->raft_id == h->raft_id;
                        if (m->raft_id != h->raft_id &&
                            streq(m->address,
                                  h->endpoint)) /* its former member: an address belongs to one member */
                                (void) kv_member_vacate(leader->store, m->raft_id);
                }
                if (!member)
                        all->counts[FAULT_ADD] += kv_member_add(leader->store, h->raft_id, h->endpoint) ==
                                                  0; /* repeated until it is a member */
        }
}

typedef struct Removal {
        Host *host;
        uint64_t by;
} Removal;

/* A later entry of the same term is committed, and therefore the removal, too. */
static void on_removed(void *userdata, const KvResult *result) {
        Removal *removal = userdata;
        Host *h = removal->host;
        Stores *all = h->all;

        watchers_said(all->watchers, result);
        if (h->leaving == removal->by && result->status == KV_OK) {
                world_trace(all->world, h->name, "is removed, and comes back with nothing");
                all->counts[FAULT_REMOVE]++;
                h->wipe = true;
                if (!store_crash(h))
                        h->wanted = true;
        }
        if (h->leaving == removal->by)
                h->leaving = 0;
        free(removal);
}

static void remove_member(Stores *all, Host *leader, const KvState *state, Host *h) {
        Removal *removal;

        if (kv_member_remove(leader->store, h->raft_id) != 0)
                return;
        removal = NEW0(Removal, 1);
        if (!removal)
                abort();
        *removal = (Removal) { .host = h, .by = leader->lives };
        h->leaving = leader->lives;
        if (kv_propose(leader->store,
                       &(KvCommand) { .op = KV_SET,
                                      .key = kv_string("/removed"),
                                      .value = kv_string(h->name),
                                      .term = state->term },
                       on_removed, removal, NULL) < 0)
                abort();
}

/* The roles, as all hosts report them: while they change or differ, no host may lose durable data. */
void stores_observe_roles(Stores *all) {
        uint64_t sum = 0;

        for (unsigned i = 0; i < all->n; i++) {
                KvState state;
                uint64_t one = 1;

                if (!store_is_up(&all->hosts[i]))
                        continue;
                kv_state(all->hosts[i].store, &state);
                if (state.cluster_id == 0)
                        continue;
                for (size_t k = 0; k < state.n_members; k++)
                        one = one * 1000003 + state.members[k].raft_id * 4 + state.members[k].role;
                if (sum != 0 && sum != one) {
                        sum = 0;
                        break;
                }
                sum = one;
        }
        if (sum == 0 || sum != all->roles)
                all->roles_since_ms = world_now_ms(all->world);
        all->roles = sum;
}

void stores_members_turn(Stores *all) {
        bool restless = !all->quiet && all->has[FAULT_MEMBERS];
        Host *leader = stores_leader(all);
        unsigned few = all->n < 3 ? 1 : 3, n_dead = 0;
        bool lost_sits = false;
        KvState state;

        stores_observe_roles(all);
        if (!leader)
                return;
        kv_state(leader->store, &state);
        for (unsigned i = 0; i < all->n; i++)
                if (all->hosts[i].leaving != leader->lives)
                        all->hosts[i].leaving = 0; /* the requester leads no more: nothing has changed */
        let_in(all, leader, &state);
        if (restless && all->n >= 5 && world_chance(all->world, 2))
                few = 5;
        for (size_t k = 0; k < state.n_members; k++) {
                n_dead += state.members[k].role == KV_MEMBER_VOTER && !host_of(all, state.members[k].raft_id);
                lost_sits |= state.members[k].raft_id == all->lost_voter;
        }
        for (size_t k = 0; k < state.n_members; k++) {
                const KvMember *m = &state.members[k];
                Host *h = host_of(all, m->raft_id);

                if (!h) { /* a wiped host returns as another member: remove this one when that one votes */
                        if (m->role != KV_MEMBER_VOTER)
                                all->counts[FAULT_REPLACE] += kv_member_remove(leader->store, m->raft_id) ==
                                                              0;
                        else if (state.n_voters >= few + n_dead)
                                (void) kv_member_demote(leader->store, m->raft_id);
                } else if (state.n_voters < few + n_dead && m->role == KV_MEMBER_STANDBY &&
                           world_chance(all->world, 50))
                        all->counts[FAULT_PROMOTE] += kv_member_promote(leader->store, m->raft_id) == 0;
                else if (state.n_voters > 3 + n_dead && m->role == KV_MEMBER_VOTER &&
                         m->raft_id != state.raft_id && world_chance(all->world, 5))
                        all->counts[FAULT_DEMOTE] += kv_member_demote(leader->store, m->raft_id) == 0;
                else if (restless && m->role == KV_MEMBER_STANDBY && state.n_members >= 5 &&
                         world_chance(all->world, 1))
                        remove_member(all, leader, &state, h);
        }
        /* The loss is repaired when the lost member is gone and the others are unchanged. */
        if (all->lost_voter != 0 && !lost_sits && n_dead == 0 && state.n_voters >= few &&
            state.commit == state.raft_index)
                all->lost_voter = 0;
}
