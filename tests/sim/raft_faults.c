/* What goes wrong, what the cluster's owner does meanwhile (changes of membership, transfers, checkpoints),
 * and its clients. */

#include "tests/sim/raft_world.h"

static Server *random_server(World *w) {
        return &w->servers[world_random(w, SLOTS)];
}

Server *world_leader(World *w) {
        Server *leader = NULL;

        for (unsigned i = 0; i < SLOTS; i++) {
                Server *s = &w->servers[i];

                if (s->up && raft_core_state(s->core) == RAFT_STATE_LEADER &&
                    (!leader || raft_core_term(s->core) > raft_core_term(leader->core)))
                        leader = s;
        }
        return leader;
}

/* -- Clients -- */

void world_client(World *w) {
        Server *s = world_random(w, 8) == 0 ? random_server(w) : world_leader(w);
        unsigned burst = world_random(w, 30) == 0 ? 1 + (unsigned) world_random(w, 100) : 1;
        uint64_t index, term;
        int r = 0;

        world_push(w, (Event) { .at_ms = w->now_ms + 1 + world_random(w, 40), .kind = EVENT_CLIENT });
        while (s && s->up && burst-- > 0 && r == 0) {
                uint64_t payload[4] = { ++w->payload };

                r = raft_core_submit(s->core, w->now_ms, payload, 8 + world_random(w, 24), &index, &term);
                if (r != -EREMOTE && r != -EAGAIN)
                        server_result(s, r, "submit");
        }
        if (s && s->up && !w->failure[0])
                check_after_event(s);
}

/* -- Membership -- */

static unsigned n_voters(const RaftServers *servers) {
        unsigned n = 0;

        for (size_t i = 0; i < servers->n; i++)
                n += servers->items[i].role == RAFT_ROLE_VOTER;
        return n;
}

static const RaftServer *member(const RaftServers *servers, uint64_t id) {
        for (size_t i = 0; i < servers->n; i++)
                if (servers->items[i].id == id)
                        return &servers->items[i];
        return NULL;
}

static void fault_change(World *w) {
        Server *leader = world_leader(w), *s = random_server(w);
        const RaftServers *servers;
        const RaftServer *known;
        RaftChange change = { .id = s->id, .address = s->address, .force = true };
        unsigned voters;
        uint64_t index;
        Error err = {};
        int r;

        if (w->mode == MODE_FIXED || !leader)
                return;

        servers = raft_core_servers(leader->core);
        known = member(servers, s->id);
        voters = n_voters(servers);
        if (!known) {
                /* Only a server that waits is added: up, and never a member under this ID. */
                if (s->used && s->removed_ms > 0)
                        return;
                if (!s->used)
                        server_boot(s);
                change.kind = RAFT_CHANGE_ADD;
        } else if (known->role == RAFT_ROLE_STANDBY)
                change.kind = world_random(w, 6) == 0 ? RAFT_CHANGE_REMOVE : RAFT_CHANGE_PROMOTE;
        else if (world_random(w, 8) == 0)
                change.kind = RAFT_CHANGE_MOVE;
        else {
                /* Growing clusters shrink seldom, and rarely below three. */
                if (w->mode == MODE_GROW && world_random(w, 4) > 0)
                        return;
                if (voters <= 3 && world_random(w, 3) > 0)
                        return;
                change.kind = world_random(w, 2) == 0 ? RAFT_CHANGE_DEMOTE : RAFT_CHANGE_REMOVE;
        }

        r = raft_core_change(leader->core, w->now_ms, &change, &index, &err);
        world_trace(w, leader, "change %d of %" PRIu64 ": %s", change.kind, s->id,
                    r == 0 ? "taken" : err.message);
        if (r == 0)
                w->count.changes++;
        if (r == 0 || r == -ERESTART || r == -ESHUTDOWN)
                server_result(leader, r, "change");
        if (leader->up && !w->failure[0])
                check_after_event(leader);
}

/* A server that was removed is wiped by its owner, later, and may return under a new ID. */
static void wipe_removed(World *w) {
        Server *leader = world_leader(w);

        if (!leader || !raft_core_leads(leader->core) || raft_core_change_pending(leader->core))
                return;

        for (unsigned i = 0; i < SLOTS; i++) {
                Server *s = &w->servers[i];

                if (!s->used || s == leader || member(raft_core_servers(leader->core), s->id))
                        s->removed_ms = 0;
                else if (s->removed_ms == 0)
                        s->removed_ms = w->now_ms;
                else if (w->now_ms - s->removed_ms > 3000)
                        server_wipe(s);
        }
}

/* -- Faults -- */

static void fault_crash(World *w) {
        server_crash(random_server(w), world_random(w, 3) == 0, 10 + world_random(w, 3000));
}

static void fault_crash_leader(World *w) {
        Server *leader = world_leader(w);

        if (leader)
                server_crash(leader, world_random(w, 3) == 0, 10 + world_random(w, 2000));
}

static void fault_crash_all(World *w) {
        if (world_random(w, 4) > 0)
                return;
        for (unsigned i = 0; i < SLOTS; i++)
                server_crash(&w->servers[i], world_random(w, 2) == 0, 10 + world_random(w, 500));
}

static void fault_slow_disk(World *w) {
        static const uint64_t speeds[] = { 3, 3, 30, 100, 600 };

        random_server(w)->disk_ms = speeds[world_random(w, ELEMENTS(speeds))];
}

static void fault_stall(World *w) {
        random_server(w)->stalled_until_ms = w->now_ms + world_random(w, 1500);
}

static void fault_loss(World *w) {
        static const unsigned percents[] = { 0, 0, 2, 10, 40 };

        w->loss_percent = percents[world_random(w, ELEMENTS(percents))];
}

static void fault_delay(World *w) {
        static const uint64_t delays[] = { 5, 5, 20, 80, 300 };

        w->delay_max_ms = delays[world_random(w, ELEMENTS(delays))];
}

static void fault_cut_one_way(World *w) {
        w->cut[world_random(w, SLOTS)][world_random(w, SLOTS)] = true;
}

static void fault_isolate(World *w) {
        unsigned slot = (unsigned) world_random(w, SLOTS);

        for (unsigned i = 0; i < SLOTS; i++)
                w->cut[slot][i] = w->cut[i][slot] = true;
}

static void fault_partition(World *w) {
        uint64_t side = world_random(w, 1 << SLOTS);

        for (unsigned i = 0; i < SLOTS; i++)
                for (unsigned j = 0; j < SLOTS; j++)
                        w->cut[i][j] = ((side >> i) ^ (side >> j)) & 1;
}

static void fault_heal_network(World *w) {
        memset(w->cut, 0, sizeof(w->cut));
        w->loss_percent = 0;
        w->delay_max_ms = 5;
}

static void fault_checkpoint(World *w) {
        Server *s = random_server(w);

        s->trailing = (unsigned) world_random(w, 30);
        server_checkpoint(s);
}

static void fault_checkpoint_leader(World *w) {
        Server *leader = world_leader(w);

        if (!leader)
                return;
        leader->trailing = (unsigned) world_random(w, 5);
        server_checkpoint(leader);
}

static void fault_transfer(World *w) {
        Server *leader = world_leader(w);
        int r;

        if (!leader)
                return;
        r = raft_core_transfer(leader->core, w->now_ms, world_random(w, 2) == 0 ? 0 : random_server(w)->id);
        world_trace(w, leader, "transfers: %d", r);
        if (r == -ERESTART || r == -ESHUTDOWN)
                server_result(leader, r, "transfer");
        if (leader->up && !w->failure[0])
                check_after_event(leader);
}

/* 'weight' in 23 is drawn; weight 0 happens of itself: to messages, by loss and reordering. */
static const struct {
        const char *name;
        void (*make)(World *w);
        unsigned weight;
} faults[] = {
        { "crash", fault_crash, 2 },
        { "leader-crash", fault_crash_leader, 1 },
        { "crash-of-all", fault_crash_all, 1 },
        { "slow-disk", fault_slow_disk, 2 },
        { "stall", fault_stall, 1 },
        { "loss", fault_loss, 1 },
        { "delay", fault_delay, 1 },
        { "one-way-cut", fault_cut_one_way, 1 },
        { "isolated", fault_isolate, 1 },
        { "partition", fault_partition, 1 },
        { "healed-network", fault_heal_network, 3 },
        { "checkpoint", fault_checkpoint, 2 },
        { "leader-checkpoint", fault_checkpoint_leader, 1 },
        { "transfer", fault_transfer, 1 },
        { "change-of-members", fault_change, 4 },
        { "wiped-and-another-one", NULL, 0 },
        { "message-lost", NULL, 0 },
        { "message-duplicated", NULL, 0 },
        { "messages-reordered", NULL, 0 },
        { "torn-write", NULL, 0 },
        { "machine-lost-its-live-state", NULL, 0 },
        { "state-installed", NULL, 0 },
};

static_assert(ELEMENTS(faults) <= RAFT_FAULTS_MAX);

const char *raft_fault_name(unsigned i) {
        return i < ELEMENTS(faults) ? faults[i].name : NULL;
}

void world_count(World *w, const char *fault) {
        for (size_t i = 0; i < ELEMENTS(faults); i++)
                if (streq(faults[i].name, fault))
                        w->fault_counts[i]++;
}

static void some_fault(World *w) {
        unsigned drawn = (unsigned) world_random(w, 24); /* one more than the weights: now and then nothing */

        for (size_t i = 0; i < ELEMENTS(faults); i++) {
                if (drawn < faults[i].weight) {
                        w->fault_counts[i]++;
                        faults[i].make(w);
                        return;
                }
                drawn -= faults[i].weight;
        }
}

void world_fault(World *w) {
        uint64_t gap_ms = 100;

        if (w->healing)
                return;

        w->faults++;
        some_fault(w);
        wipe_removed(w);

        /* Now and then peace, in which a newcomer can catch up. */
        if (world_random(w, 50) == 0) {
                fault_heal_network(w);
                gap_ms = 6000;
        }
        world_push(w, (Event) { .at_ms = w->now_ms + 1 + world_random(w, gap_ms), .kind = EVENT_FAULT });
}

/* -- Healing -- */

/* The owner's remedy for a follower that the engine only sends heartbeats to: another leader. */
static void unstick(World *w) {
        Server *leader = world_leader(w);

        if (!leader)
                return;

        for (unsigned i = 0; i < SLOTS; i++) {
                uint64_t match;

                if (raft_core_match_index(leader->core, w->servers[i].id, &match) < 0 ||
                    &w->servers[i] == leader)
                        continue;
                if (match != leader->seen_match[i] || match == raft_core_last_index(leader->core) ||
                    leader->seen_match_ms[i] == 0) {
                        leader->seen_match[i] = match;
                        leader->seen_match_ms[i] = w->now_ms;
                } else if (w->now_ms - leader->seen_match_ms[i] > 10000) {
                        (void) raft_core_transfer(leader->core, w->now_ms, 0);
                        memset(leader->seen_match_ms, 0, sizeof(leader->seen_match_ms));
                }
        }
}

/* Return the leader's view, if it works again and all members have applied its entries up to 'since'. */
static bool healed(World *w, uint64_t since) {
        Server *leader = world_leader(w);
        const RaftServers *servers;

        if (!leader || !raft_core_leads(leader->core) || raft_core_applied_index(leader->core) <= since ||
            raft_core_change_pending(leader->core))
                return false;

        servers = raft_core_servers(leader->core);
        for (size_t i = 0; i < servers->n; i++) {
                const Server *s = &w->servers[slot_of(servers->items[i].id)];

                if (s->id != servers->items[i].id || !s->up || raft_core_applied_index(s->core) <= since)
                        return false;
        }
        return true;
}

bool world_heal(World *w) {
        uint64_t since = w->n_committed, until = w->now_ms + 60000, looked_ms = 0;

        w->healing = true;
        fault_heal_network(w);
        for (unsigned i = 0; i < SLOTS; i++) {
                Server *s = &w->servers[i];

                s->disk_ms = 3;
                s->stalled_until_ms = 0;
                if (s->used && !s->up)
                        server_boot(s);
        }
        if (w->failure[0])
                return false;

        while (!healed(w, since)) {
                if (w->now_ms > until) {
                        Server *leader = world_leader(w);

                        check_failed(
                                w, leader ? "no progress within 60 s of healing, although there is a leader" :
                                            "no leader within 60 s of healing");
                        return false;
                }
                if (!world_step(w))
                        return false;
                if (w->now_ms - looked_ms > 1000) {
                        looked_ms = w->now_ms;
                        unstick(w);
                }
        }
        return true;
}
