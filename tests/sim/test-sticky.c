/* A unit that stays where its data is, through what would take any other one elsewhere, with the leader
 * killed at any moment. Whole daemons. It starts on the host of its data alone, one process at a time
 * (check_data() in tests/sim/invariants.c), and runs there again after each event; only a request with
 * --force moves it.
 *
 *      test-sticky [--seed N] [--runs N] [--trace]; with CHECK_ALL=yes, also with 50 hosts and
 *      2,000 units: 35 s of processor time for a seed with all
 */

#include "fleetd/engine/engine.h"
#include "fleetd/registry/data.h"
#include "tests/sim/play.h"

enum {
        PATIENCE_MS = 300000,
        STEP_MS = 20,
        ROUNDS = 14,
        DOWN_MS = 40000, /* at most */
        OFF_MS = 300,    /* from the end of the processes to that of the power */
        LEADER_MS = 3000,
        LEADER_PERCENT = 60,
        STARTED = 100,
        QUIET_MS = 10000, /* until nothing is written any more */
};

static const char unit_name[] = "data.service";

typedef enum Event {
        EVENT_POWER_CUT,
        EVENT_SHUTDOWN,
        EVENT_REBOOT, /* by the queue */
        EVENT_CRASH,  /* of the daemon */
        EVENT_PARTITION,
        EVENT_DRAIN,
        EVENT_DEADLINE, /* of a drain */
        EVENT_UNLOAD,
        EVENT_EDIT,
        EVENT_DESTROY,
        EVENT_MOVE,
        EVENT_MOVE_LOST, /* while its host is lost */
        _EVENT_MAX,
} Event;

static const char *const names[_EVENT_MAX] = {
        "power cut", "shutdown", "reboot", "crash",   "partition", "drain",
        "deadline",  "unload",   "edit",   "destroy", "move",      "move while lost",
};
static unsigned counts[_EVENT_MAX], n_killed, n_texts, n_more;

static Registry *registry(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader && registry_ready(daemon_host(leader->daemon)->registry) ?
                       daemon_host(leader->daemon)->registry :
                       NULL;
}

/* Wait, and check in the meantime. */
#define AWAIT(name, expression) UNTIL(name, (check_data(cluster), (expression)))

static const ClusterUnit *known(void) {
        Registry *r = registry();

        return r ? cluster_unit(registry_cluster(r), unit_name) : NULL;
}

static const ClusterMachine *view_of(const SimMachine *m) {
        Registry *r = registry();

        return r ? cluster_machine(registry_cluster(r), m->machine_id) : NULL;
}

static void pause_ms(uint64_t ms) {
        uint64_t end_ms = world_now_ms(world) + ms;

        AWAIT("time-passes", world_now_ms(world) >= end_ms);
}

static bool has_presence(const SimMachine *m, Presence presence) {
        const ClusterMachine *view = view_of(m);

        return view && view->presence == presence;
}

static bool all_are_up(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < cluster->n; i++)
                n += has_presence(&cluster->machines[i], PRESENCE_UP);
        return n == cluster->n;
}

static bool runs_on(const SimMachine *m) {
        return m && sim_systemd_runs(m->systemd, unit_name);
}

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {}

/* -- The hosts -- */

static void on_power_on(void *userdata) {
        if (world)
                machine_power_on(userdata);
}

static void on_power_off(void *userdata) {
        if (!world)
                return;
        machine_power_cut(userdata);
        world_at(world, 1000 + world_draw(world, DOWN_MS), NULL, on_power_on, userdata);
}

static void on_down(void *userdata, RebootKind kind) {
        if (!world)
                return;
        machine_stop_daemon(userdata);
        world_at(world, OFF_MS, NULL, on_power_off, userdata);
}

static bool rejects(void *userdata) {
        return false;
}

static void isolate(SimMachine *m, bool is_cut) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (&cluster->machines[i] != m)
                        sim_net_cut(cluster->net, m->host, cluster->machines[i].host, is_cut);
}

static void on_kill(void *userdata) {
        SimMachine *leader = world ? cluster_leader(cluster) : NULL;

        if (!leader)
                return;
        n_killed++;
        machine_crash_daemon(leader);
        leader->start_wanted = true;
}

/* -- Requests, which are repeated until they have taken effect -- */

static bool submit(void) {
        UnitChange change = { .has_target = true, .target = TARGET_LAUNCHED };
        _cleanup_text_ Text text = {};
        Registry *r = registry();
        Unit *unit = NULL;
        bool done;

        if (!r)
                return false;
        text_printf(&text,
                    "[Service]\nStateDirectory=db\nExecStart=/bin/sleep %u\n[X-Fleet]\nUpdateWatchSec=1s\n",
                    n_texts);
        if (unit_parse(unit_name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        done = known() && known()->target == TARGET_LAUNCHED && streq(known()->unit->hash, unit->hash);
        change.unit = unit;
        if (!done)
                (void) registry_change_units(r, &change, 1, on_done, NULL);
        unit_free(unit);
        run_ms(done ? 0 : 500);
        return done;
}

/* 'destroyed': else its target is inactive. */
static bool end_unit(bool destroyed) {
        UnitChange change = { .name = unit_name, .has_target = !destroyed, .remove = destroyed };
        Registry *r = registry();

        if (r && (destroyed ? !known() : known() && known()->target == TARGET_INACTIVE))
                return true;
        if (r)
                (void) registry_change_units(r, &change, 1, on_done, NULL);
        run_ms(500);
        return false;
}

static bool maintain(const SimMachine *m, bool drain, uint64_t within_ms) {
        const ClusterMachine *view = view_of(m);
        MaintenanceRecord next = { .by = "root@sim", .mode = MAINTENANCE_DRAINING };
        Registry *r = registry();

        if (view && drain == !!view->maintenance)
                return true;
        if (view && drain) {
                next.deadline_ms = within_ms > 0 ? registry_cluster(r)->now_ms + within_ms : 0;
                (void) registry_maintain(r, 0, view, &next, "drain", on_done, NULL);
        } else if (view)
                (void) registry_end_maintenance(r, view, "root@sim", "uncordoned", on_done, NULL);
        run_ms(500);
        return false;
}

static bool queue_reboot(const SimMachine *m) {
        const ClusterMachine *view = view_of(m);
        Registry *r = registry();
        RebootRecord record = { .kind = REBOOT_FULL, .state = REBOOT_QUEUED, .slots = 1, .seq = 1000 };
        RebootChange change = { .machine = view, .record = &record, .reason = "queued" };
        KvState state;

        if (!view || view->reboot)
                return view && view->reboot;
        kv_state(registry_store(r), &state);
        hex64_print(state.lineage, record.lineage);
        record.since_ms = registry_cluster(r)->now_ms;
        (void) registry_reboot(r, 0, &change, 1, "root@sim", on_done, NULL);
        run_ms(500);
        return false;
}

static bool request_move(const SimMachine *to) {
        MoveRecord move = { .by = "root@sim", .since_ms = 1, .force = true };
        const ClusterUnit *u = known();

        if (u && (u->move || (u->data && streq(u->data->machine, to->machine_id))))
                return true;
        memcpy(move.to, to->machine_id, sizeof(move.to));
        if (u)
                (void) registry_move(registry(), u, &move, on_done, NULL);
        run_ms(500);
        return false;
}

static SimMachine *another(const SimMachine *than) {
        SimMachine *m;

        do
                m = &cluster->machines[world_draw(world, cluster->n)];
        while (m == than);
        return m;
}

/* -- Events -- */

static void move(SimMachine *from, bool lost) {
        SimMachine *to = another(from);

        if (lost) {
                machine_power_cut(from);
                AWAIT("its-host-is-lost", has_presence(from, PRESENCE_LOST));
                pause_ms(world_draw(world, 10000));
        }
        cluster->data_on = NULL;
        UNTIL("a-move-is-requested", request_move(to));
        UNTIL("it-has-moved", known() && !known()->move);
        if (lost)
                machine_power_on(from);
        AWAIT("a-forced-move-takes-it-there", cluster->data_on == to && runs_on(to) && !runs_on(from));
}

static void play_event(Event event, SimMachine *host) {
        world_trace(world, "people", "%s of %s", names[event], host->name);
        switch (event) {
        case EVENT_POWER_CUT:
                machine_power_cut(host);
                pause_ms(world_draw(world, DOWN_MS));
                machine_power_on(host);
                break;
        case EVENT_SHUTDOWN:
                UNTIL("a-shutdown-begins", sim_logind_shut_down(host->logind, REBOOT_FULL));
                AWAIT("it-goes-down", !host->power);
                AWAIT("it-is-back", host->power);
                break;
        case EVENT_REBOOT:
                UNTIL("a-reboot-is-queued", queue_reboot(host));
                AWAIT("the-queue-does-not-wait-for-data",
                      !host->power || (view_of(host) && !view_of(host)->reboot));
                AWAIT("it-is-back", host->power && view_of(host) && !view_of(host)->reboot);
                break;
        case EVENT_CRASH:
                machine_crash_daemon(host);
                pause_ms(world_draw(world, DOWN_MS));
                machine_start_daemon(host);
                break;
        case EVENT_PARTITION:
                isolate(host, true);
                pause_ms(world_draw(world, DOWN_MS));
                isolate(host, false);
                break;
        case EVENT_DRAIN:
        case EVENT_DEADLINE:
                UNTIL("a-drain-is-requested", maintain(host, true, event == EVENT_DEADLINE ? 5000 : 0));
                AWAIT("a-drain-ends-beside-it",
                      view_of(host) && view_of(host)->maintenance->mode == MAINTENANCE_DRAINED);
                if (event == EVENT_DEADLINE)
                        AWAIT("a-deadline-stops-it", !runs_on(host));
                else if (host == cluster->data_on && !runs_on(host))
                        world_failed(world, "a-drain-stops-no-unit-with-data", "it does not run");
                pause_ms(world_draw(world, 5000));
                UNTIL("a-drain-is-ended", maintain(host, false, 0));
                break;
        case EVENT_UNLOAD:
        case EVENT_DESTROY:
                UNTIL("it-is-ended", end_unit(event == EVENT_DESTROY));
                AWAIT("it-stops", !runs_on(host));
                break;
        case EVENT_EDIT:
                n_texts++;
                break;
        default:
                move(host, event == EVENT_MOVE_LOST);
                break;
        }
}

static void play_round(Event event) {
        SimMachine *host = (SimMachine *) cluster->data_on;

        counts[event]++;
        if (world_chance(world, LEADER_PERCENT))
                world_at(world, world_draw(world, LEADER_MS), NULL, on_kill, NULL);
        play_event(event, host);
        AWAIT("it-is-wanted", submit());
        AWAIT("all-hosts-are-up", all_are_up());
        AWAIT("it-runs-where-its-data-is", runs_on(cluster->data_on) && known());
        pause_ms(2000);
}

static void begin(unsigned hosts) {
        cluster = cluster_new(world, hosts);
        cluster->may_attach = hosts > 5;
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                m->logind = sim_logind_new(
                        world, &(SimLogindHooks) { .on_down = on_down, .rejects = rejects, .userdata = m });
                world_at(world, i * 100, NULL, machine_begin, m);
                machine_suspect(m, world_now_ms(world), UINT64_MAX);
        }
        UNTIL("a-cluster-forms", all_are_up());
        run_ms(2000);
        UNTIL("a-new-cluster-keeps-data", cluster_settings(registry_cluster(registry()))->sticky);
}

static void play(void) {
        begin(4);
        UNTIL("a-unit-is-submitted", submit());
        AWAIT("it-runs", cluster->data_on && runs_on(cluster->data_on));
        for (unsigned i = 0; i < ROUNDS; i++)
                play_round(i < _EVENT_MAX ? i : world_draw(world, _EVENT_MAX));
}

/* -- Entries of the log -- */

typedef struct Taken {
        uint64_t entries, passes;
} Taken;

static Taken taken_until_now(void) {
        SimMachine *leader = cluster_leader(cluster);
        EngineCounts of_engine;

        engine_counts(daemon_host(leader->daemon)->engine, &of_engine);
        return (Taken) { machine_state(leader).raft_index, of_engine.passes };
}

static unsigned n_up(const char *prefix, bool recorded) {
        Registry *r = registry();
        unsigned n = 0;
        char name[32];

        for (unsigned i = 0; r && i < STARTED; i++) {
                const ClusterUnit *u;

                snprintf(name, sizeof(name), "%s-%u.service", prefix, i);
                u = cluster_unit(registry_cluster(r), name);
                n += u && cluster_unit_up(u) && (!recorded || u->data);
        }
        return n;
}

/* Return how many transactions have recorded their machines. */
static unsigned n_records(const char *prefix) {
        const Cluster *c = registry_cluster(registry());
        uint64_t seen[STARTED];
        unsigned n = 0, k;
        char name[32];

        for (unsigned i = 0; i < STARTED; i++) {
                snprintf(name, sizeof(name), "%s-%u.service", prefix, i);
                seen[n] = cluster_unit(c, name)->data->since_ms;
                for (k = 0; seen[k] != seen[n]; k++)
                        ;
                n += k == n;
        }
        return n;
}

/* Start units with names of that prefix; 'setting': a line of theirs. Return what that took until the cluster
 * is idle. */
static Taken start_many(const char *prefix, const char *setting) {
        UnitChange changes[STARTED] = {};
        Unit *units[STARTED] = {};
        Taken before, after;
        char name[32], text[128];

        for (unsigned i = 0; i < STARTED; i++) {
                snprintf(name, sizeof(name), "%s-%u.service", prefix, i);
                snprintf(text, sizeof(text), "[Service]\n%s\nExecStart=/bin/sleep %u\n", setting, i);
                if (unit_parse(name, text, strlen(text), &units[i], NULL) < 0)
                        abort();
                changes[i] = (UnitChange) { .unit = units[i], .has_target = true, .target = TARGET_LAUNCHED };
        }
        run_ms(QUIET_MS);
        before = taken_until_now();
        if (registry_change_units(registry(), changes, STARTED, on_done, NULL) < 0)
                abort();
        for (unsigned i = 0; i < STARTED; i++)
                unit_free(units[i]);
        UNTIL("they-run", n_up(prefix, *setting) == STARTED);
        run_ms(QUIET_MS);
        after = taken_until_now();
        return (Taken) { after.entries - before.entries, after.passes - before.passes };
}

/* One entry of a pass records the machines of all that have come up since the last one. */
static void a_hundred_units_with_data_start(void) {
        Taken without, with;
        unsigned n;

        begin(4);
        without = start_many("plain", "");
        with = start_many("data", "StateDirectory=db-%p");
        n = n_records("data");
        n_more = MAX(n_more, n);
        if (n > with.passes || with.passes >= STARTED || with.entries > without.entries + STARTED / 2)
                world_failed(world, "data-takes-an-entry-of-a-pass",
                             "%llu entries in %llu passes without data; %llu in %llu with it, and %u for it",
                             (unsigned long long) without.entries, (unsigned long long) without.passes,
                             (unsigned long long) with.entries, (unsigned long long) with.passes, n);
}

/* -- Many hosts and units -- */

enum {
        MANY_HOSTS = 50,
        MANY_UNITS = 2000,
        MANY_EVENTS = 12,
        FULL_EVERY = 100, /* steps */
};

static unsigned n_steps, n_full, n_checked;

/* Check the starts since the last step, which is the place of each unit that has changed
 * (check_data_start()), and each hundredth time all units. Return whether all of them run. */
static bool step_many(void) {
        const Cluster *c;
        unsigned n = 0;

        if (++n_steps % FULL_EVERY != 0 || !registry())
                return false;
        check_data(cluster);
        c = registry_cluster(registry());
        for (const ClusterUnit *u = c->units; u; u = u->hh.next) {
                const ClusterAssignment *up = cluster_unit_up(u);

                n += u->sticky && u->data && up && streq(up->machine->id, u->data->machine);
        }
        n_full++;
        n_checked = MAX(n_checked, n);
        return n == MANY_UNITS && all_are_up();
}

static void fifty_hosts_with_two_thousand_units(void) {
        begin(MANY_HOSTS);
        for (unsigned i = 0; i < MANY_UNITS / STARTED; i++) {
                char prefix[16];

                snprintf(prefix, sizeof(prefix), "data-%u", i);
                (void) start_many(prefix, "StateDirectory=%n");
        }
        for (unsigned i = 0; i < MANY_EVENTS; i++) {
                static const Event events[] = { EVENT_POWER_CUT, EVENT_SHUTDOWN,  EVENT_REBOOT,
                                                EVENT_CRASH,     EVENT_PARTITION, EVENT_DRAIN };
                SimMachine *host = another(NULL);
                Event event = events[i % ELEMENTS(events)];

                counts[event]++;
                if (world_chance(world, LEADER_PERCENT))
                        world_at(world, world_draw(world, LEADER_MS), NULL, on_kill, NULL);
                play_event(event, host);
                UNTIL("all-run-where-their-data-is", step_many());
        }
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { play, a_hundred_units_with_data_start,
                                                   fifty_hosts_with_two_thousand_units };
        unsigned long long runs = worlds_run("tests/sim/test-sticky", (Seeds) { .seed = 1, .runs = 3 },
                                             trace_message, scenarios,
                                             ELEMENTS(scenarios) - !getenv("CHECK_ALL"), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu runs: ", runs);
        for (Event i = 0; i < _EVENT_MAX; i++)
                printf("%u %s, ", counts[i], names[i]);
        printf("%u leaders killed: the unit ran where its data was; at most %u entries for the data of %u "
               "that "
               "started\n",
               n_killed, n_more, STARTED);
        if (n_full > 0)
                printf("%u steps with %u hosts, %u of them with a check of all %u units\n", n_steps,
                       MANY_HOSTS, n_full, n_checked);
        return n_killed > 0 ? 0 : 1;
}
