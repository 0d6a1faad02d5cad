/* Units with requests and MaxPerMachine= on hosts of different sizes, which change, while hosts and daemons
 * end, and people make the moves of plans. A unit arrives only where there is room (check_sizes() in
 * tests/sim/invariants.c), and in the end each unit runs that has room anywhere. Whole daemons, one of them
 * restricted, which claims to be very large.
 *
 *      test-sizes [--seed N] [--runs N] [--trace]
 */

#include "fleetd/features/rebalance/rebalance.h"
#include "tests/lib/words_of.h"
#include "tests/sim/attached.h"

enum {
        MEMBERS = 5,
        HOSTS = MEMBERS + 1,
        RESTRICTED = MEMBERS,
        ROUNDS = 30,
        DOWN_MS = 20000,
        AVAILABLE_MS = 15000
};

static const Resources sizes[] = {
        { 4096, 400 }, { 4096, 400 }, { 4096, 400 }, { 8192, 800 }, { 2048, 200 }, {}, /* a former version */
};
static const char *const names[] = {
        "a.service",   "b.service",   "c.service",   "d.service",   "e.service",   "f.service",
        "w@1.service", "w@2.service", "w@3.service", "w@4.service", "w@5.service", "w@6.service",
};
static const char *const options[] = {
        "",
        "MemoryRequest=3G\n",
        "MemoryRequest=1536M\nCPURequest=50%\n",
        "CPURequest=250%\n",
        "MemoryRequest=6G\n",
        "MemoryRequest=15G\n",
        "CPURequest=700%\n",
        "Global=yes\nMemoryRequest=500M\n",
};
static const char *const instances[] = {
        "MaxPerMachine=1\n",
        "MaxPerMachine=1\nMemoryRequest=1536M\n",
        "MaxPerMachine=2\nCPURequest=150%\n",
};

static unsigned n_changes, n_resized, n_down, n_killed, n_moved, n_waited, n_ran;
static uint64_t n_arrivals, n_views;

#define ANY(array)              ((array)[world_draw(world, ELEMENTS(array))])
#define AWAIT(name, expression) UNTIL(name, (check_sizes(cluster), (expression)))

static void pass_ms(uint64_t ms) {
        uint64_t end_ms = world_now_ms(world) + ms;

        AWAIT("time-passes", world_now_ms(world) >= end_ms);
}

static Registry *registry(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader && registry_ready(daemon_host(leader->daemon)->registry) ?
                       daemon_host(leader->daemon)->registry :
                       NULL;
}

static bool all_are_up(void) {
        const Cluster *c = registry() ? registry_cluster(registry()) : NULL;
        unsigned n = 0;

        for (unsigned i = 0; c && i < HOSTS; i++) {
                const ClusterMachine *m = cluster_machine(c, machine(i)->machine_id);

                n += m && m->presence == PRESENCE_UP && m->facts && serves(machine(i));
        }
        return n == HOSTS;
}

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {}

/* Start the unit with any options, or end it. */
static void change_unit(const char *name) {
        UnitChange change = { .name = name, .has_target = true, .target = TARGET_LAUNCHED };
        bool is_instance = strchr(name, '@');
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};

        if (!registry())
                return;
        text_printf(&text, "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\n%s",
                    is_instance ? ANY(instances) : ANY(options));
        if (unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        n_changes++;
        if (!world_chance(world, 25))
                change.unit = unit;
        else if (!cluster_unit(registry_cluster(registry()), name))
                return;
        else if (world_chance(world, 50))
                change = (UnitChange) { .name = name, .remove = true };
        else
                change.target = TARGET_INACTIVE;
        (void) registry_change_units(registry(), &change, 1, on_done, NULL);
}

static void stop_daemon(SimMachine *m) {
        if (m->daemon)
                stop_host(m);
}

static void resize(SimMachine *m, Resources physical) {
        world_trace(world, m->name, "gets %u MiB", physical.memory_mib);
        stop_daemon(m);
        m->physical = physical;
        machine_start_daemon(m);
}

static size_t read_moves(const Cluster *c, RebalanceMove ret[static REBALANCE_MOVES_MAX]) {
        SchedulerView *view = NULL;
        Rebalance *plan = NULL;
        Names all = {};
        size_t n = 0;
        int r = 2; /* a view is wanted */

        if (rebalance_new(&all, REBALANCE_MOVES_MAX, &plan) < 0)
                abort();
        while (r > 0 && n < REBALANCE_MOVES_MAX) {
                if (r == 2) {
                        scheduler_view_free(view);
                        if (scheduler_view_new(c, c->now_ms, &view) < 0 || rebalance_renew(plan, view) < 0)
                                abort();
                }
                r = rebalance_step(plan, &ret[n], NULL);
                n += r > 0 && ret[n].unit;
        }
        rebalance_free(plan);
        scheduler_view_free(view);
        return n;
}

/* Request the moves of a plan. The leader may be killed before they have ended. */
static void rebalance(void) {
        RebalanceMove moves[REBALANCE_MOVES_MAX];
        const Cluster *c = registry() ? registry_cluster(registry()) : NULL;
        size_t n = c && !rebalance_is_refused(c, false, &(Error) {}) ? read_moves(c, moves) : 0;

        for (size_t i = 0; i < n; i++) {
                MoveRecord move = { .by = "root@sim", .since_ms = world_now_ms(world) };

                memcpy(move.to, moves[i].to->id, sizeof(move.to));
                world_trace(world, "people", "move %s: %s", moves[i].unit->name, words_of(&moves[i].reason));
                n_moved += registry_move(registry(), moves[i].unit, &move, on_done, NULL) >= 0;
        }
}

static void play_round(void) {
        SimMachine *m = machine((unsigned) world_draw(world, HOSTS));
        unsigned event = (unsigned) world_draw(world, 10);

        for (uint64_t n = 1 + world_draw(world, 4); n > 0; n--)
                change_unit(ANY(names));
        if (event == 0 && m != machine(RESTRICTED)) {
                n_resized++;
                resize(m, ANY(sizes));
        } else if (event == 1) {
                n_down++;
                machine_power_cut(m);
                pass_ms(world_draw(world, DOWN_MS));
                machine_power_on(m);
        } else if (event > 7) {
                pass_ms(AVAILABLE_MS);
                rebalance();
                pass_ms(world_draw(world, 1000));
        }
        if ((event == 2 || event == 9) && cluster_leader(cluster)) {
                n_killed++;
                m = cluster_leader(cluster);
                machine_crash_daemon(m);
                m->start_wanted = true;
        }
        pass_ms(world_draw(world, 4000));
}

/* Each unit that is wanted runs, or fits on no machine; what is not wanted has ended. */
static bool is_quiet(void) {
        const Cluster *c = registry() ? registry_cluster(registry()) : NULL;
        bool quiet = c && all_are_up();
        unsigned waiting = 0, running = 0;
        SchedulerView *view;

        if (!quiet)
                return false;
        if (scheduler_view_new(c, c->now_ms, &view) < 0)
                abort();
        for (const ClusterUnit *u = c->units; u && quiet; u = u->hh.next) {
                const ClusterMachine *fits = NULL;
                unsigned active = 0;

                for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                        active += a->kind == ASSIGNMENT_RUN;
                        quiet &= a->kind == ASSIGNMENT_RUN && a->state &&
                                 active_state_is_up(a->state->state.active);
                }
                running += active > 0;
                if (!u->unit || u->target != TARGET_LAUNCHED)
                        quiet &= active == 0;
                else if (u->unit->placement.global)
                        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                                quiet &= cluster_assignment_on(m, u->name) ||
                                         !scheduler_fits(view, u, m, false, NULL);
                else if (active == 0) {
                        waiting++;
                        quiet &= scheduler_pick(view, u, &fits, NULL) < 0;
                }
        }
        scheduler_view_free(view);
        n_waited += quiet ? waiting : 0;
        n_ran += quiet ? running : 0;
        return quiet;
}

static void play(void) {
        const TokenRequest restricted = { .uses = 1, .restricted = true, .write = "/app", .by = "root" };
        MadeToken made;

        found(HOSTS, MEMBERS);
        made = make_token_of(machine(0), &restricted);
        machine(RESTRICTED)->physical = (Resources) { 1000000000, 1000000000 };
        join_with(machine(RESTRICTED), &made);
        UNTIL("all-hosts-are-up", all_are_up());
        for (unsigned i = 0; i < HOSTS; i++) {
                machine_suspect(machine(i), world_now_ms(world), UINT64_MAX);
                if (i == RESTRICTED)
                        continue;
                resize(machine(i), i < 3 ? sizes[i] : ANY(sizes));
                UNTIL("a-host-returns", all_are_up());
        }
        UNTIL("sizes-are-in-effect",
              registry() && registry_cluster(registry())->level >= KV_LEVEL_SCHEDULING);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                change_unit(names[i]);
        for (unsigned i = 0; i < ROUNDS; i++)
                play_round();
        AWAIT("all-hosts-are-up", all_are_up());
        for (unsigned i = 0; i < MEMBERS; i++) {
                if (!resources_are_set(machine(i)->physical))
                        resize(machine(i), sizes[0]); /* where all had room */
                AWAIT("a-host-returns", all_are_up());
        }
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                change_unit(names[i]);
                pass_ms(1000);
        }
        for (unsigned i = 0; i < 4; i++)
                pass_ms(30000); /* until no hold-off is left */
        AWAIT("each-unit-runs-that-has-room", is_quiet());
        n_arrivals += cluster->n_sized;
        n_views += cluster->n_full;
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { play };
        int r = tokens_main(argc, argv, "tests/sim/test-sizes", scenarios, ELEMENTS(scenarios), NULL,
                            "requests and MaxPerMachine= hold");

        printf("%u changes of units, %u of capacities, %u hosts down, %u leaders killed, %u moves of plans; "
               "%llu arrivals in "
               "%llu "
               "views; in the end %u units run, %u have no room\n",
               n_changes, n_resized, n_down, n_killed, n_moved, (unsigned long long) n_arrivals,
               (unsigned long long) n_views, n_ran, n_waited);
        return r != 0 ? r : n_arrivals > 0 ? 0 : 1;
}
