/* Which attached hosts are alive: whole daemons, of which some hold replicas and report the others.
 *
 *      test-reporting [--seed N] [--runs N] [--trace]
 */

#include "tests/lib/store_inside.h"
#include "tests/lib/message.h"
#include "tests/sim/tokens.h"

enum {
        REPLICAS = 5,
        TICK_MS = 500,
        WRITE_MS = 150,
        LOST_MS = 3500 + WRITE_MS,
        /* The replica is silent, the hosts that used it may move, the write. */
        LOST_WITH_REPLICA_MS = 1750 + 3000 + WRITE_MS,
        ROUND_TRIP_MS = 100,
        CLOSED_MS = 100,                  /* until a host uses its idle session */
        SILENT_MS = 1500 + ROUND_TRIP_MS, /* the same: its answers, one a second, are missed for 1.5 s */
        NO_LEADER_MS = 1500 +
                       ROUND_TRIP_MS, /* a second without contact, a tick, and an answer of the other one */
        BOTH_CLOSED_MS = 5000,
        MOVE_PAUSE_MS = 2000, /* between two moves */
        BETTER_MAX_MS = 620 * 1000,
        AFTER_MOVE_MS = 3000, /* more than the pause between two moves */
};

/* Found a cluster of five members, and attach a host. */
static SimMachine *attached(void) {
        SimMachine *m;
        MadeToken token;

        found(REPLICAS + 1, REPLICAS);
        m = machine(REPLICAS);
        token = make_token(machine(0), NULL);
        join_with(m, &token);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP);
        return m;
}

static void over(void) {
        cluster = cluster_free(cluster);
}

/* Return the host whose replica 'm' uses, or NULL. */
static SimMachine *replica_of(const SimMachine *m) {
        for (unsigned i = 0; i < REPLICAS; i++)
                if (serves(machine(i)) &&
                    store_sent_index(daemon_host(machine(i)->daemon)->store, m->machine_id) > 0 &&
                    kv_replica_answers(daemon_host(m->daemon)->store, machine(i)->machine_id, 3 * TICK_MS))
                        return machine(i);
        return NULL;
}

static void count_dialed(void *userdata, const PeerState *peer) {
        *(unsigned *) userdata += peer->dialed;
}

static unsigned n_dialed(const SimMachine *m) {
        unsigned n = 0;

        if (serves(m))
                peers_each(daemon_host(m->daemon)->peers, count_dialed, &n);
        return n;
}

static bool is_dialed(const SimMachine *m, const SimMachine *replica) {
        return serves(m) && peers_dialed(daemon_host(m->daemon)->peers, replica->machine_id);
}

/* Let the host use a replica that does not lead, with two sessions, and then wait. Return the replica. */
static SimMachine *use_follower(SimMachine *m, uint64_t wait_ms) {
        SimMachine *leader, *replica;

        for (unsigned i = 0; i < 10; i++) {
                UNTIL("there-is-a-leader", (leader = leader_with(machine(0))));
                UNTIL("a-host-uses-a-replica", (replica = cluster_replica_of(m)) && replica_of(m));
                if (replica == leader) {
                        sim_net_cut(cluster->net, m->host, leader->host, true);
                        UNTIL("a-host-uses-another-replica",
                              (replica = cluster_replica_of(m)) && replica != leader);
                        sim_net_cut(cluster->net, m->host, leader->host, false);
                }
                UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
                run_ms(wait_ms);
                leader = leader_with(machine(0));
                if (leader && replica != leader && replica == cluster_replica_of(m) && n_dialed(m) == 2)
                        return replica;
        }
        world_failed(world, "a-host-uses-a-replica-that-does-not-lead", "it does not");
}

static Presence presence_of(const SimMachine *m) {
        const SimMachine *leader = NULL;
        const ClusterMachine *seen_machine;

        for (unsigned i = 0; i < REPLICAS && !leader; i++)
                leader = machine(i)->power ? leader_with(machine(i)) : NULL;
        seen_machine = leader ? seen(leader, m) : NULL;
        return seen_machine ? seen_machine->presence : PRESENCE_UP;
}

/* Nothing that happens in this time makes the host anything else than up. */
static void stays_up(SimMachine *m, uint64_t ms) {
        uint64_t until_ms = world_now_ms(world) + ms;

        while (world_now_ms(world) < until_ms) {
                run_ms(20);
                if (presence_of(m) != PRESENCE_UP)
                        world_failed(world, "a-host-stays-up", "it is %s",
                                     presence_to_string(presence_of(m)));
        }
}

/* Return the time until the host is lost. */
static uint64_t until_lost(const SimMachine *m) {
        uint64_t from_ms = world_now_ms(world);

        UNTIL_EACH(60000, 10, "a-silent-host-is-lost", presence_of(m) == PRESENCE_LOST);
        return world_now_ms(world) - from_ms;
}

static void suspect(SimMachine *m) {
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + 10 * (uint64_t) TOKENS_PATIENCE_MS);
}

static void two_sessions(void) {
        SimMachine *m = attached();

        UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
        stays_up(m, 20000);
        if (n_dialed(m) != 2)
                world_failed(world, "a-host-keeps-two-sessions", "%u", n_dialed(m));
        over();
}

static void report_lost(void) {
        SimMachine *m = attached();
        uint64_t ms;

        UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
        run_ms(world_draw(world, 2 * TICK_MS));
        suspect(m);
        machine_power_cut(m);
        ms = until_lost(m);
        if (ms > LOST_MS)
                world_failed(world, "a-host-is-lost-in-3.7-s", "%llu ms", (unsigned long long) ms);
        machine_power_on(m);
        machine_start_daemon(m);
        UNTIL("a-host-returns", presence_of(m) == PRESENCE_UP);
        over();
}

static uint64_t lost_with_replica_ms; /* the longest time */

static void report_lost_with_its_replica(void) {
        SimMachine *m = attached(), *replica;
        uint64_t ms;

        replica = use_follower(m, world_draw(world, 2 * TICK_MS));
        suspect(m);
        suspect(replica);
        machine_power_cut(m);
        machine_power_cut(replica);
        ms = until_lost(m);
        lost_with_replica_ms = MAX(lost_with_replica_ms, ms);
        if (ms > LOST_WITH_REPLICA_MS)
                world_failed(world, "a-host-and-its-replica-are-lost-in-5-s", "%llu ms",
                             (unsigned long long) ms);
        over();
}

/* The session in use is silent: the host moves, and is not lost meanwhile. */
static void replica_cut(void) {
        SimMachine *m = attached(), *replica;

        UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
        for (unsigned i = 0; i < 3; i++) {
                UNTIL("a-host-uses-a-replica", replica_of(m));
                replica = replica_of(m);
                sim_net_cut(cluster->net, m->host, replica->host, true);
                stays_up(m, 8000);
                if (!replica_of(m) || replica_of(m) == replica || !state_of(m).ready)
                        world_failed(world, "a-host-moves-over", "it does not");
                sim_net_cut(cluster->net, m->host, replica->host, false);
                stays_up(m, 8000);
        }
        over();
}

/* -- How long a host is without a replica -- */

typedef enum Loss { LOSS_CRASH, LOSS_STOP, LOSS_CUT, LOSS_LEADER, _LOSS_MAX } Loss;

static const struct {
        const char *name;
        uint64_t ms;
} losses[] = {
        [LOSS_CRASH] = { "its session is closed", CLOSED_MS },
        [LOSS_STOP] = { "its daemon stops", CLOSED_MS },
        [LOSS_CUT] = { "it is silent", SILENT_MS },
        [LOSS_LEADER] = { "it has no contact with a leader", NO_LEADER_MS },
};
static uint64_t longest_ms[_LOSS_MAX];

static bool uses(const SimMachine *m, const SimMachine *replica) {
        return streq(kv_replica_in_use(daemon_host(m->daemon)->store), replica->machine_id);
}

static void lose(SimMachine *m, SimMachine *replica, Loss loss, bool begin) {
        switch (loss) {
        case LOSS_CUT:
                sim_net_cut(cluster->net, m->host, replica->host, begin);
                break;
        case LOSS_LEADER:
                for (unsigned i = 0; i < REPLICAS; i++)
                        if (machine(i) != replica)
                                sim_net_cut(cluster->net, machine(i)->host, replica->host, begin);
                break;
        default:
                if (!begin)
                        machine_start_daemon(replica);
                else if (loss == LOSS_CRASH)
                        machine_crash_daemon(replica);
                else
                        machine_stop_daemon(replica);
        }
}

/* The replica in use does not lead: the others have a leader meanwhile. */
static void move_over_in_time(void) {
        SimMachine *m = attached(), *replica;
        uint64_t from_ms, ms;

        for (Loss loss = 0; loss < _LOSS_MAX; loss++) {
                replica = use_follower(m, AFTER_MOVE_MS + world_draw(world, 2 * TICK_MS));
                suspect(replica);
                from_ms = world_now_ms(world);
                lose(m, replica, loss, true);
                UNTIL_EACH(10000, 5, "a-host-moves-over", !uses(m, replica));
                ms = world_now_ms(world) - from_ms;
                longest_ms[loss] = MAX(longest_ms[loss], ms);
                if (ms > losses[loss].ms)
                        world_failed(world, "a-host-moves-over-in-time", "%s: %llu ms", losses[loss].name,
                                     (unsigned long long) ms);
                UNTIL_EACH(5000, 5, "a-host-has-its-slice", state_of(m).ready && replica_of(m));
                UNTIL("a-daemon-ends", loss == LOSS_CUT || loss == LOSS_LEADER || !replica->loop);
                lose(m, replica, loss, false);
                UNTIL("a-replica-returns", is_ready(replica));
        }
        over();
}

/* A host uses another replica when its two sessions are closed at once. */
static void both_sessions_close(void) {
        SimMachine *m = attached();
        bool crashed[REPLICAS] = {};

        UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
        UNTIL("a-host-uses-a-replica", replica_of(m));
        run_ms(AFTER_MOVE_MS + world_draw(world, 2 * TICK_MS));
        for (unsigned i = 0; i < REPLICAS; i++)
                if (is_dialed(m, machine(i))) {
                        crashed[i] = true;
                        suspect(machine(i));
                        machine_crash_daemon(machine(i));
                }
        for (unsigned i = 0; i < REPLICAS; i++)
                if (crashed[i])
                        UNTIL_EACH(BOTH_CLOSED_MS, 5, "a-host-uses-a-third-replica",
                                   *kv_replica_in_use(daemon_host(m->daemon)->store) && !uses(m, machine(i)));
        over();
}

/* All replicas lack what the host has read: it asks one after the other, each for two seconds. */
static void replicas_are_behind(void) {
        SimMachine *m = attached(), *replica;
        uint64_t from_ms, ms;

        UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
        UNTIL("a-host-uses-a-replica", (replica = replica_of(m)));
        run_ms(AFTER_MOVE_MS + world_draw(world, 2 * TICK_MS));
        kv_saw(daemon_host(m->daemon)->store, kv_index(daemon_host(m->daemon)->store) + 100000);
        sim_net_cut(cluster->net, m->host, replica->host, true);
        UNTIL_EACH(SILENT_MS, 5, "a-host-moves-over", !uses(m, replica));
        sim_net_cut(cluster->net, m->host, replica->host, false);
        for (unsigned i = 0; i < 5; i++) {
                char before[MACHINE_ID_SIZE];

                snprintf(before, sizeof(before), "%s", kv_replica_in_use(daemon_host(m->daemon)->store));
                from_ms = world_now_ms(world);
                UNTIL_EACH(10000, 5, "a-host-leaves-a-replica-that-is-behind",
                           !streq(kv_replica_in_use(daemon_host(m->daemon)->store), before));
                ms = world_now_ms(world) - from_ms;
                if (ms + 10 < MOVE_PAUSE_MS || (i > 0 && ms > MOVE_PAUSE_MS + ROUND_TRIP_MS))
                        world_failed(world, "a-host-moves-each-2-s", "after %llu ms",
                                     (unsigned long long) ms);
        }
        over();
}

static bool is_voter(const SimMachine *leader, const SimMachine *m) {
        KvState state = state_of(leader);

        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].raft_id == seen(leader, m)->member.raft_id)
                        return state.members[i].role == KV_MEMBER_VOTER;
        return false;
}

/* Both replicas to which a host has sessions lose power together, and a majority is left: the host finds
 * another one before it is lost. */
static void both_replicas_lose_power(void) {
        SimMachine *m = attached(), *leader, *voter = NULL;
        unsigned n = 0;

        UNTIL("there-is-a-leader", (leader = leader_with(machine(0))));
        for (unsigned i = 0; i < REPLICAS && !voter; i++)
                if (machine(i) != leader && is_voter(leader, machine(i)))
                        voter = machine(i);
        sim_net_cut(cluster->net, m->host, leader->host, true);
        sim_net_cut(cluster->net, m->host, voter->host, true);
        UNTIL("a-host-dials-two-of-the-others",
              n_dialed(m) == 2 && !is_dialed(m, leader) && !is_dialed(m, voter) && replica_of(m));
        UNTIL("a-host-is-up", presence_of(m) == PRESENCE_UP);
        run_ms(world_draw(world, 4 * TICK_MS));
        sim_net_cut(cluster->net, m->host, leader->host, false);
        sim_net_cut(cluster->net, m->host, voter->host, false);
        for (unsigned i = 0; i < REPLICAS; i++)
                if (is_dialed(m, machine(i))) {
                        suspect(machine(i));
                        machine_power_cut(machine(i));
                        n++;
                }
        if (n != 2 || leader_with(machine(0)) != leader)
                world_failed(world, "two-replicas-lose-power-and-a-majority-is-left", "%u", n);
        stays_up(m, 15000);
        over();
}

/* The host reaches one replica only, another one each time: it is used, and reports the host. */
static void bridge_partition(void) {
        SimMachine *m = attached();

        suspect(m);
        for (unsigned k = 0; k < REPLICAS; k++) {
                for (unsigned i = 0; i < REPLICAS; i++)
                        sim_net_cut(cluster->net, m->host, machine(i)->host, i != k);
                UNTIL_EACH(15000, 20, "a-host-uses-the-replica-that-it-reaches",
                           replica_of(m) == machine(k) && state_of(m).ready && presence_of(m) == PRESENCE_UP);
                run_ms(2 * TICK_MS); /* the report, and the write: it may have been lost just before */
                UNTIL("a-host-is-up", presence_of(m) == PRESENCE_UP);
                stays_up(m, 10000);
        }
        over();
}

/* The replica in use crashes and begins again, and so do leaders. */
static void new_leader_storm(void) {
        SimMachine *m = attached(), *victim;

        for (unsigned i = 0; i < 6; i++) {
                UNTIL("there-is-a-leader", leader_with(machine(0)));
                UNTIL("a-host-uses-a-replica", replica_of(m));
                victim = i % 2 ? leader_with(machine(0)) : replica_of(m);
                suspect(victim);
                machine_crash_daemon(victim);
                stays_up(m, 3000 + world_draw(world, 3000));
                machine_start_daemon(victim);
                UNTIL("a-replica-returns", is_ready(victim));
        }
        over();
}

/* Return a replica that does not lead, and its leader. */
static SimMachine *follower(SimMachine **ret_leader) {
        UNTIL("there-is-a-leader", (*ret_leader = leader_with(machine(0))));
        return *ret_leader == machine(1) ? machine(2) : machine(1);
}

/* A replica reaches all others except the leader. A short fault changes nothing, and a long one moves
 * nothing: other replicas report its heartbeats. It follows no log, so no unit is placed on it. Then it loses
 * power. */
static void a_replica_is_cut_from_the_leader(void) {
        SimMachine *m, *leader;
        uint64_t until_ms, ms;

        found(3, 3);
        m = follower(&leader);
        UNTIL("a-replica-is-up", seen(leader, m) && presence_of(m) == PRESENCE_UP);
        for (unsigned i = 0; i < 4; i++) {
                run_ms(world_draw(world, 2 * TICK_MS));
                sim_net_cut(cluster->net, m->host, leader->host, true);
                stays_up(m, LOST_MS - TICK_MS);
                sim_net_cut(cluster->net, m->host, leader->host, false);
                stays_up(m, 5000);
        }
        sim_net_cut(cluster->net, m->host, leader->host, true);
        UNTIL_EACH(15000, 20, "a-replica-without-its-leader-is-away", presence_of(m) == PRESENCE_AWAY);
        for (until_ms = world_now_ms(world) + 90000; world_now_ms(world) < until_ms;) {
                run_ms(20);
                if (presence_of(m) != PRESENCE_AWAY)
                        world_failed(world, "a-replica-without-its-leader-stays-away", "it is %s",
                                     presence_to_string(presence_of(m)));
        }
        sim_net_cut(cluster->net, m->host, leader->host, false);
        UNTIL_EACH(7000, 20, "a-replica-returns", presence_of(m) == PRESENCE_UP);
        stays_up(m, 10000);
        sim_net_cut(cluster->net, m->host, leader->host, true);
        UNTIL_EACH(15000, 20, "a-replica-without-its-leader-is-away", presence_of(m) == PRESENCE_AWAY);
        run_ms(world_draw(world, 2 * TICK_MS));
        suspect(m);
        machine_power_cut(m);
        ms = until_lost(m);
        if (ms > LOST_MS)
                world_failed(world, "a-replica-is-lost-in-3.7-s", "%llu ms", (unsigned long long) ms);
        over();
}

static void end_in(SimMachine *m, unsigned how) {
        if (how == 0)
                world_loop_pause(m->loop, 20000);
        else if (how == 1)
                machine_crash_daemon(m);
        else
                machine_stop_daemon(m);
}

/* The leader alone cannot reach a replica, whose daemon hangs or ends meanwhile. Its units run, as its kernel
 * shows to the other replica, until it loses power. */
static void a_replica_ends_while_it_is_cut_from_the_leader(void) {
        static const char *const reasons[] = { "its kernel does", "lost its session", "was stopped" };
        SimMachine *m, *leader;
        uint64_t until_ms, ms;

        for (unsigned i = 0; i < ELEMENTS(reasons); i++) {
                found(3, 3);
                m = follower(&leader);
                UNTIL("a-replica-is-up", seen(leader, m) && presence_of(m) == PRESENCE_UP);
                suspect(m);
                run_ms(world_draw(world, 2 * TICK_MS));
                sim_net_cut(cluster->net, m->host, leader->host, true);
                end_in(m, i);
                for (until_ms = world_now_ms(world) + 12000; world_now_ms(world) < until_ms;) {
                        run_ms(20);
                        if (presence_of(m) == PRESENCE_LOST)
                                world_failed(world, "a-replica-with-a-kernel-is-not-lost", "%s",
                                             message_of(&seen(leader, m)->verdict));
                }
                if (presence_of(m) != PRESENCE_AWAY ||
                    !strstr(message_of(&seen(leader, m)->verdict), reasons[i]))
                        world_failed(world, "a-replica-is-away-for-its-reason", "%s",
                                     message_of(&seen(leader, m)->verdict));
                machine_power_cut(m);
                ms = i == 0 ? until_lost(m) : 0;
                if (ms > LOST_MS)
                        world_failed(world, "a-replica-is-lost-in-3.7-s", "%llu ms", (unsigned long long) ms);
                over();
        }
}

static void on_requested(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status == KV_OK)
                *(unsigned *) userdata += 1;
        else
                world_failed(world, "a-request-succeeds", "%s", message);
}

/* -- The replicas of two zones -- */

static const char *zone_of(const SimMachine *replica) {
        return replica == machine(0) || replica == machine(1) ? "south" : "north";
}

/* The attached host has a zone, too: with another value, it would get a replica. */
static void spread_over_zones(void) {
        ClusterSettings settings = { .voters = 3, .spread = "zone" };
        unsigned n = 0;

        for (unsigned i = 0; i <= REPLICAS; i++) {
                const MetadataChange zone = { .machine = machine(i)->machine_id,
                                              .key = "zone",
                                              .value = zone_of(machine(i)) };
                Registry *r = daemon_host(leader_with(machine(0))->daemon)->registry;

                if (registry_set_metadata(r, &zone, 1, on_requested, &n) < 0 ||
                    (i == 0 && registry_set_settings(r, &settings, "root", on_requested, &n) < 0))
                        abort();
        }
        UNTIL("zones-are-set", n == REPLICAS + 2);
}

/* Whether the host has metadata of all replicas. */
static bool has_zones(const SimMachine *m) {
        for (unsigned i = 0; i < REPLICAS; i++)
                if (!seen(m, machine(i)) || !pairs_get(&seen(m, machine(i))->metadata, "zone"))
                        return false;
        return true;
}

static bool dials_two_zones(const SimMachine *m) {
        unsigned n_south = 0;

        for (unsigned i = 0; i < REPLICAS; i++)
                n_south += is_dialed(m, machine(i)) && streq(zone_of(machine(i)), "south");
        return n_dialed(m) == 2 && n_south == 1;
}

/* The two sessions of a host go to two zones, so that the host is not without a replica when it does not
 * reach one zone any more. */
static void two_zones(void) {
        SimMachine *m = attached();
        const char *cut;

        UNTIL("there-is-a-leader", leader_with(machine(0)));
        spread_over_zones();
        UNTIL("a-host-has-the-metadata-of-replicas", serves(m) && has_zones(m));
        suspect(m);
        stop_host(m);
        machine_start_daemon(m);
        /* It begins with any two, and changes to the best two after ten minutes at most. */
        UNTIL_EACH(BETTER_MAX_MS, 100, "a-host-dials-two-zones", serves(m) && dials_two_zones(m));
        run_ms(AFTER_MOVE_MS);
        UNTIL_EACH(5000, 20, "a-host-uses-a-replica", dials_two_zones(m) && replica_of(m));
        cut = zone_of(replica_of(m));
        for (unsigned i = 0; i < REPLICAS; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, streq(zone_of(machine(i)), cut));
        UNTIL_EACH(4000, 10, "a-host-uses-the-other-zone",
                   replica_of(m) && !streq(zone_of(replica_of(m)), cut) && state_of(m).ready);
        stays_up(m, 10000);
        over();
}

static void on_launched(void *userdata, KvStatus status, const char *message, uint64_t index) {}

/* Start a.service on an attached host. */
static void launch_on(SimMachine *m) {
        UnitChange change = { .name = "a.service", .has_target = true, .target = TARGET_LAUNCHED };
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};

        text_printf(&text, "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=%s\n", m->machine_id);
        if (unit_parse("a.service", text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_host(leader_with(machine(0))->daemon)->registry, &change, 1,
                                  on_launched, NULL) < 0)
                abort();
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
}

/* A daemon that ends tells why, or its kernel does. */
static void ends(void) {
        SimMachine *m = attached();
        static const char *const reasons[] = { "stopped", "lost its session" };

        for (unsigned i = 0; i < ELEMENTS(reasons); i++) {
                UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
                suspect(m);
                if (i == 0)
                        machine_stop_daemon(m);
                else
                        machine_crash_daemon(m);
                UNTIL_EACH(4000, 10, "a-host-is-away", presence_of(m) == PRESENCE_AWAY);
                if (!strstr(message_of(&seen(leader_with(machine(0)), m)->verdict), reasons[i]))
                        world_failed(world, "a-host-is-away-for-its-reason", "%s",
                                     message_of(&seen(leader_with(machine(0)), m)->verdict));
                UNTIL("a-daemon-ends", !m->loop);
                run_ms(10000);
                if (presence_of(m) != PRESENCE_AWAY)
                        world_failed(world, "a-host-stays-away", "it is %s",
                                     presence_to_string(presence_of(m)));
                machine_start_daemon(m);
                UNTIL("a-host-returns", presence_of(m) == PRESENCE_UP);
        }
        over();
}

static bool reason_has(const SimMachine *m, const char *text) {
        const SimMachine *leader = leader_with(machine(0));
        const ClusterMachine *machine = leader ? seen(leader, m) : NULL;

        return machine && strstr(message_of(&machine->verdict), text);
}

/* The replica in use is a follower: the leader has no session of the host. */
static void conditions(void) {
        SimMachine *m = attached(), *leader, *replica;

        UNTIL("there-is-a-leader", (leader = leader_with(machine(0))));
        sim_net_cut(cluster->net, m->host, leader->host, true);
        UNTIL("a-host-uses-another-replica", replica_of(m) && replica_of(m) != leader);
        world_loop_set_wall_offset(m->loop, -95000);
        UNTIL("a-wrong-clock-is-reported", reason_has(m, "clock is 95 s behind the leader's"));
        world_loop_set_wall_offset(m->loop, 0);
        UNTIL("a-right-clock-is-reported", reason_has(m, "its clock agrees with the leader's"));
        UNTIL("a-host-uses-a-replica", (replica = replica_of(m)));
        world_loop_set_wall_offset(replica->loop, 95000);
        UNTIL("the-clock-of-its-replica-is-reported", reason_has(replica, "s ahead of the leader's"));
        run_ms(20000);
        if (reason_has(m, "clock is"))
                world_failed(world, "a-clock-is-compared-with-the-leader's", "%s",
                             message_of(&seen(leader, m)->verdict));
        over();
}

/* The host uses the replica of the leader, which ends together with the condition. The next leader has no
 * session of the host. */
static void condition_of_a_former_leader(void) {
        SimMachine *m = attached(), *leader, *next, *other;

        UNTIL("there-is-a-leader", (leader = leader_with(machine(0))));
        for (unsigned i = 0; i < REPLICAS; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, machine(i) != leader);
        UNTIL("a-host-uses-the-replica-of-the-leader", replica_of(m) == leader);
        world_loop_set_wall_offset(m->loop, -95000);
        UNTIL("a-wrong-clock-is-reported", reason_has(m, "clock is 95 s behind the leader's"));
        suspect(leader);
        world_loop_set_wall_offset(m->loop, 0);
        machine_crash_daemon(leader);
        other = machine(leader == machine(0));
        UNTIL("there-is-a-new-leader", (next = leader_with(other)) && next != leader);
        for (unsigned i = 0; i < REPLICAS; i++)
                sim_net_cut(cluster->net, m->host, machine(i)->host, machine(i) == next);
        machine_start_daemon(leader);
        UNTIL("a-new-leader-ends-a-condition", reason_has(m, "its clock agrees with the leader's"));
        over();
}

/* A copy of the host meets replicas that have a session of the host. */
static void clone_of_an_attached_host(void) {
        SimMachine *m, *copy;
        MadeToken token;

        found(REPLICAS + 2, REPLICAS);
        m = machine(REPLICAS);
        copy = machine(REPLICAS + 1);
        token = make_token(machine(0), NULL);
        join_with(m, &token);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        launch_on(m);
        UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
        stop_host(m);
        stop_host(copy);
        machine_clone(copy, m);
        machine_start_daemon(m);
        UNTIL("a-host-dials-two-replicas", n_dialed(m) == 2);
        machine_start_daemon(copy);
        UNTIL("a-copy-is-reported", reason_has(m, "a copy of this host was rejected"));
        if (!sim_systemd_runs(m->systemd, "a.service"))
                world_failed(world, "a-copy-stops-no-unit", "a.service has ended");
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { two_sessions,
                                                   move_over_in_time,
                                                   both_sessions_close,
                                                   replicas_are_behind,
                                                   two_zones,
                                                   report_lost,
                                                   report_lost_with_its_replica,
                                                   replica_cut,
                                                   both_replicas_lose_power,
                                                   bridge_partition,
                                                   new_leader_storm,
                                                   ends,
                                                   conditions,
                                                   condition_of_a_former_leader,
                                                   clone_of_an_attached_host,
                                                   a_replica_is_cut_from_the_leader,
                                                   a_replica_ends_while_it_is_cut_from_the_leader };

        int r = tokens_main(argc, argv, "tests/sim/test-reporting", scenarios, ELEMENTS(scenarios), NULL,
                            "attached hosts are lost when they are silent, and only then");

        printf("an attached host and its replica without power: lost after at most %llu ms\n",
               (unsigned long long) lost_with_replica_ms);
        for (Loss loss = 0; loss < _LOSS_MAX; loss++)
                printf("%s: a host uses another replica after at most %llu ms\n", losses[loss].name,
                       (unsigned long long) longest_ms[loss]);
        return r;
}
