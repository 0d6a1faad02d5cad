/* A cluster is recovered, or restored from an old backup, while its units run on hosts that have not reported
 * yet (ARCHITECTURE, "Lineage"). No unit is touched: assignments wait until each host has reported its units,
 * or was silent for five minutes, or an operator ends the wait. Then each running unit has an assignment to
 * its machine. A host that comes later executes assignments as soon as the engine of the new lineage has
 * decided about all that it would start or stop, or after 30 s: a unit may run on another host that has not
 * reported. The instances of a template have a later text than the old state: they get its text as in each
 * rollout.
 *
 *      test-lineage [--seed N] [--runs N] [--trace]
 */
#include <sys/stat.h>

#include "base/log.h"
#include "base/sizes.h"
#include "fleetd/engine/plan.h"
#include "tests/lib/scratch.h"
#include "tests/sim/cluster.h"
#include "tests/sim/seeds.h"

enum {
        PATIENCE_MS = 60000,
        UNITS = 6,
        APART_MS = 45000,
        QUIET_MS = 30000,
        LATE_MS = 15000,
        ROLLED = 6, /* instances of the template */
        WATCH_MS = 2000,
        SAMPLE_MS = 50,
};

static World *tracing;
static bool held; /* the units of a lost machine do not move in the time of this program */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (tracing)
                world_trace(tracing, "log", "%s", message);
}

#define UNTIL_WITHIN(c, ms, name, expression) \
        WORLD_UNTIL((c)->world, ms, name, expression, world_run((c)->world, world_now_ms((c)->world) + 50))
#define UNTIL(c, name, expression) UNTIL_WITHIN(c, PATIENCE_MS, name, expression)

static unsigned voters(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        unsigned n = 0;
        KvState state;

        if (!leader)
                return 0;
        kv_state(daemon_host(leader->daemon)->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                n += state.members[i].role == KV_MEMBER_VOTER && state.members[i].reachable;
        return n;
}

/* -- Units -- */

static const char *unit_name(unsigned i) {
        static const char *const names[UNITS] = { "a.service", "b.service", "c.service",
                                                  "d.service", "e.service", "f.service" };

        return names[i];
}

static void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(bool *) userdata = status == KV_OK;
}

static void ask(SimCluster *c, const char *name, TargetState target) {
        SimMachine *leader = cluster_leader(c);
        UnitChange change = { .name = name, .has_target = true, .target = target };
        char text[128];
        bool done = false;
        Unit *unit;

        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/sleep 1000\n%s",
                 held ? "[X-Fleet]\nReplaceAfterSec=1h\n" : "");
        if (unit_parse(name, text, strlen(text), &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_host(leader->daemon)->registry, &change, 1, on_asked, &done) < 0)
                abort();
        UNTIL(c, "users-are-answered", done);
        unit_free(unit);
}

static unsigned places(const SimCluster *c, const char *unit, SimMachine **ret) {
        unsigned n = 0;

        for (unsigned i = 0; i < c->n; i++)
                if (sim_systemd_runs(c->machines[i].systemd, unit)) {
                        *ret = (SimMachine *) &c->machines[i];
                        n++;
                }
        return n;
}

static bool all_run_once(const SimCluster *c) {
        SimMachine *unused;

        for (unsigned i = 0; i < UNITS; i++)
                if (places(c, unit_name(i), &unused) != 1)
                        return false;
        return true;
}

/* Move one unit each way between the two hosts other than 'first': a unit is assigned to the machine with the
 * fewest units, among equals to the smallest ID. */
static void swap_two(SimCluster *c, const SimMachine *first) {
        SimMachine *a = &c->machines[first->index == 0 ? 1 : 0], *b = &c->machines[first->index == 2 ? 1 : 2],
                   *where = NULL;
        const char *on_a = NULL, *on_b = NULL;

        for (unsigned i = 0; i < UNITS; i++) {
                (void) places(c, unit_name(i), &where);
                if (where == a)
                        on_a = unit_name(i);
                if (where == b)
                        on_b = unit_name(i);
        }
        ask(c, on_a, TARGET_INACTIVE);
        ask(c, on_b, TARGET_INACTIVE);
        UNTIL(c, "a-stopped-unit-stops", places(c, on_a, &where) + places(c, on_b, &where) == 0);
        world_run(c->world, world_now_ms(c->world) + 2000);
        ask(c, on_b, TARGET_LAUNCHED);
        UNTIL(c, "units-run", places(c, on_b, &where) == 1);
        if (where != a)
                world_failed(c->world, "two-units-are-swapped", "%s is on %s", on_b, where->name);
        ask(c, on_a, TARGET_LAUNCHED);
        UNTIL(c, "units-run", all_run_once(c));
}

/* -- A template -- */

/* The instances before the recovery, and which of them have stopped since. */
static struct {
        char names[ROLLED][16], restored[UNIT_HASH_SIZE]; /* the hash of the text of the old state, */
        bool is_bad;                                      /* which fails */
        bool surges;                                      /* an instance starts elsewhere first */
        SimMachine *where[ROLLED];
        uint64_t invocations[ROLLED], touched_ms;
        bool touched[ROLLED];
        unsigned n_touched;
} rolled;

static void submit_rolled(SimCluster *c, const char *name, const char *command, bool launched) {
        UnitChange change = { .name = name, .has_target = launched, .target = TARGET_LAUNCHED };
        char text[192];
        bool done = false;
        Unit *unit;

        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/%s\n[X-Fleet]\nUpdateWatchSec=2s\n%s%s",
                 command, rolled.surges ? "MaxSurge=1\nMaxUnavailable=0\n" : "",
                 held ? "ReplaceAfterSec=1h\n" : "");
        if (unit_parse(name, text, strlen(text), &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_host(cluster_leader(c)->daemon)->registry, &change, 1, on_asked,
                                  &done) < 0)
                abort();
        UNTIL(c, "users-are-answered", done);
        if (!launched && !rolled.restored[0])
                snprintf(rolled.restored, sizeof(rolled.restored), "%s", unit->hash);
        unit_free(unit);
}

static bool all_rolled_run(const SimCluster *c) {
        SimMachine *m;

        for (unsigned i = 0; i < ROLLED; i++)
                if (places(c, rolled.names[i], &m) != 1)
                        return false;
        return true;
}

/* With the text of the old state. */
static void launch_rolled(SimCluster *c, bool is_bad) {
        const char *command = is_bad ? "exits 1" : "good 1";

        memset(&rolled, 0, sizeof(rolled));
        rolled.is_bad = is_bad;
        rolled.surges = world_draw(c->world, 3) == 0;
        submit_rolled(c, "roll@.service", command, false);
        for (unsigned i = 0; i < ROLLED; i++) {
                snprintf(rolled.names[i], sizeof(rolled.names[i]), "roll@%u.service", i);
                c->units[c->n_units] = (SimUserUnit) { .touched_ms = UINT64_MAX, .stopping_ms = UINT64_MAX };
                snprintf(c->units[c->n_units++].name, sizeof(c->units->name), "%s", rolled.names[i]);
                submit_rolled(c, rolled.names[i], command, true);
        }
        UNTIL(c, "units-run", rolled.is_bad || all_rolled_run(c));
}

/* 'updates': with a text that the old state does not have. */
static void note_rolled(SimCluster *c, bool updates) {
        if (updates)
                submit_rolled(c, "roll@.service", "good 2", false);
        world_run(c->world, world_now_ms(c->world) + ROLLED * 3 * WATCH_MS);
        for (unsigned i = 0; i < ROLLED; i++) {
                if (places(c, rolled.names[i], &rolled.where[i]) != 1 ||
                    streq(sim_systemd_hash(rolled.where[i]->systemd, rolled.names[i]), rolled.restored) ==
                            updates)
                        world_failed(c->world, "a-template-is-updated", "%s is not", rolled.names[i]);
                rolled.invocations[i] = sim_systemd_invocation(rolled.where[i]->systemd, rolled.names[i]);
        }
}

/* One is stopped when the one before is available, and none after one that has failed. One that runs on
 * another machine has started there first. */
static void check_rolled(const SimCluster *c, const SimMachine *gone) {
        uint64_t now_ms = world_now_ms(c->world);

        for (unsigned i = 0; i < ROLLED; i++) {
                const SimSystemd *s = rolled.where[i]->systemd;
                SimMachine *m;

                if (rolled.where[i] == gone || rolled.touched[i] ||
                    (sim_systemd_invocation(s, rolled.names[i]) == rolled.invocations[i] &&
                     (sim_systemd_runs(s, rolled.names[i]) || places(c, rolled.names[i], &m) > 0)))
                        continue;
                rolled.touched[i] = true;
                if (rolled.n_touched++ > 0 && (rolled.is_bad || now_ms < rolled.touched_ms + WATCH_MS))
                        world_failed(c->world, "a-restored-text-is-rolled-out",
                                     "%s was stopped %u ms after another instance%s", rolled.names[i],
                                     (unsigned) (now_ms - rolled.touched_ms),
                                     rolled.is_bad ? ", and the text is bad" : "");
                rolled.touched_ms = now_ms;
        }
}

/* Return whether the instance has the text of the old state or, if that fails, was stopped for it. */
static bool is_rolled(const SimCluster *c, unsigned i) {
        SimMachine *m;

        if (rolled.is_bad)
                return rolled.touched[i];
        return places(c, rolled.names[i], &m) == 1 &&
               streq(sim_systemd_hash(m->systemd, rolled.names[i]), rolled.restored);
}

static void end_rolled(SimCluster *c, const SimMachine *gone) {
        unsigned n = 0, min = rolled.is_bad ? !gone && !rolled.surges : ROLLED;

        for (uint64_t end_ms = world_now_ms(c->world) + PATIENCE_MS; world_now_ms(c->world) < end_ms;) {
                world_run(c->world, world_now_ms(c->world) + SAMPLE_MS);
                check_rolled(c, gone);
        }
        for (unsigned i = 0; i < ROLLED; i++)
                n += is_rolled(c, i);
        if (n < min)
                world_failed(c->world, "a-restored-text-is-rolled-out", "to %u of %u instances", n, min);
}

typedef struct Before {
        SimMachine *where[UNITS];
        uint64_t invocations[UNITS];
} Before;

static void note(const SimCluster *c, Before *ret) {
        for (unsigned i = 0; i < UNITS; i++) {
                (void) places(c, unit_name(i), &ret->where[i]);
                ret->invocations[i] = sim_systemd_invocation(ret->where[i]->systemd, unit_name(i));
        }
}

/* 'gone' may lack, and its units may be elsewhere. */
static void check_untouched(const SimCluster *c, const Before *before, const SimMachine *gone) {
        SimMachine *where = NULL;

        for (unsigned i = 0; i < UNITS; i++) {
                const SimMachine *m = before->where[i];

                if (m == gone)
                        continue;
                if (sim_systemd_invocation(m->systemd, unit_name(i)) != before->invocations[i] ||
                    !sim_systemd_runs(m->systemd, unit_name(i)))
                        world_failed(c->world, "running-units-are-not-touched",
                                     "%s on %s was stopped or started again", unit_name(i), m->name);
                if (places(c, unit_name(i), &where) != 1)
                        world_failed(c->world, "nothing-runs-twice", "%s, which runs on %s, runs on %u hosts",
                                     unit_name(i), m->name, places(c, unit_name(i), &where));
        }
}

static void run_and_check(SimCluster *c, uint64_t for_ms, const Before *before, const SimMachine *gone) {
        for (uint64_t end_ms = world_now_ms(c->world) + for_ms; world_now_ms(c->world) < end_ms;) {
                world_run(c->world, world_now_ms(c->world) + SAMPLE_MS);
                check_untouched(c, before, gone);
                check_rolled(c, gone);
        }
}

/* -- The operator -- */

static void stop(SimCluster *c, SimMachine *m) {
        machine_stop_daemon(m);
        UNTIL(c, "a-daemon-ends", !m->loop);
}

/* State removed, as by fleetd --reset; units run on, and their files lie in /run. The records of assignments
 * stay, or are lost. */
static void wipe(SimCluster *c, SimMachine *m, const SimMachine *join, bool keeps_records) {
        static const char *const records[] = { "agent", "agent/assignment" };
        char *former = m->folder, address[ADDRESS_SIZE];

        m->folder = scratch_new();
        if (keeps_records) {
                _cleanup_free_ char *from = scratch_path(former, records[1]);
                _cleanup_free_ char *folder = scratch_path(m->folder, records[0]);
                _cleanup_free_ char *to = scratch_path(m->folder, records[1]);

                if (mkdir(folder, 0700) < 0 || rename(from, to) < 0)
                        abort();
        }
        scratch_free(former);
        free(m->settings.state_directory);
        m->settings.state_directory = strdup(m->folder);
        names_done(&m->settings.join);
        snprintf(address, sizeof(address), "%s:2380", join->address);
        if (names_add(&m->settings.join, address, strlen(address)) < 0)
                abort();
        memory_disk_free(m->disk);
        m->disk = world_disk_new(c->world);
}

static void maintain(SimMachine *m, SimMaintenance what) {
        _cleanup_free_ char *file = scratch_path(m->folder, "backup");
        Error err = {};
        int r = machine_maintain(m, what, file, &err);

        if (r < 0)
                world_failed(m->cluster->world, "a-backup-can-be-restored", "%s", error_text(&err, r));
}

static bool is_adopting(const SimMachine *m) {
        return m->daemon && registry_cluster(daemon_host(m->daemon)->registry)->adopting;
}

/* -- One run -- */

typedef enum Ending {
        ALL_REPORT,
        ONE_STAYS_AWAY,
        PEOPLE_SAY_SO,
        ONE_IS_LATE,
        TWO_ARE_LATE,
        _ENDING_MAX
} Ending;

static void launch_all(SimCluster *c) {
        for (unsigned i = 0; i < UNITS; i++) {
                /* This program judges the stops of units itself, not check_stop(). */
                snprintf(c->units[i].name, sizeof(c->units[i].name), "%s", unit_name(i));
                c->units[i].touched_ms = UINT64_MAX;
                c->units[i].stopping_ms = UINT64_MAX;
                c->n_units++;
                ask(c, unit_name(i), TARGET_LAUNCHED);
        }
}

static void end_with_reports(SimCluster *c, SimMachine *first, Before *before) {
        WORLD_UNTIL(c->world, PATIENCE_MS, "the-adoption-ends-when-all-have-reported", !is_adopting(first),
                    run_and_check(c, SAMPLE_MS, before, NULL));
}

/* It comes when the adoption has ended. */
static void come_late(SimCluster *c, SimMachine *first, SimMachine *late, const Before *before,
                      const SimMachine *gone) {
        wipe(c, late, first, true);
        machine_start_daemon(late);
        run_and_check(c, world_draw(c->world, 5000), before, gone);
}

static SimMachine *third(SimCluster *c, const SimMachine *first, const SimMachine *second) {
        return &c->machines[3 - first->index - second->index];
}

/* 'late' does not report: an operator ends the adoption, or its time limit does. */
static void end_without(SimCluster *c, SimMachine *first, SimMachine *late, Ending ending, Before *before) {
        bool done = false;

        run_and_check(c, QUIET_MS, before, NULL);
        if (!is_adopting(first))
                world_failed(c->world, "a-host-without-report-is-waited-for", "%s was not", late->name);
        if (ending != ONE_IS_LATE && ending != TWO_ARE_LATE)
                machine_power_cut(late); /* for good: its units may run elsewhere */
        if (ending != ONE_STAYS_AWAY) {
                if (registry_adopt_now(daemon_host(first->daemon)->registry, NULL, on_asked, &done) < 0)
                        abort();
                UNTIL(c, "users-are-answered", done);
                UNTIL_WITHIN(c, 1000, "the-waiting-ends-when-people-say-so", !is_adopting(first));
        } else
                UNTIL_WITHIN(c, ADOPTION_MS, "the-waiting-ends-after-five-minutes", !is_adopting(first));
        if (ending == ONE_IS_LATE || ending == TWO_ARE_LATE) {
                /* Its units run on, and elsewhere perhaps, until it has reported: the other one executes
                 * the assignments of the old tree. */
                const SimMachine *gone = ending == ONE_IS_LATE ? late : NULL;

                run_and_check(c, world_draw(c->world, QUIET_MS), before, gone);
                come_late(c, first, late, before, gone);
                if (ending == TWO_ARE_LATE)
                        come_late(c, first, third(c, first, late), before, NULL);
                UNTIL_WITHIN(c, LATE_MS, "units-of-a-late-host-run-once", late->loop && all_run_once(c));
        } else
                UNTIL_WITHIN(c, 2 * PATIENCE_MS, "units-of-who-never-came-run-elsewhere", all_run_once(c));
}

static void on_put(void *userdata, const KvResult *result) {
        *(bool *) userdata = result->status == KV_OK;
}

static void put(SimCluster *c, LayoutKind kind, const char *machine_id, const char *value) {
        char key[LAYOUT_KEY_MAX];
        bool done = false;
        const KvCommand cmd = { .op = KV_SET,
                                .internal = true,
                                .key = kv_string(layout_key(key, kind, NULL, machine_id)),
                                .value = kv_string(value) };

        if (kv_propose(daemon_host(cluster_leader(c)->daemon)->store, &cmd, on_put, &done, NULL) < 0)
                abort();
        UNTIL(c, "a-key-is-written", done);
}

/* A planned reboot of the former lineage: a host whose boot it names must not reboot by it. */
static void plan_reboot(SimCluster *c, const SimMachine *m) {
        put(c, LAYOUT_REBOOT, m->machine_id, "{\"kind\":\"reboot\",\"seq\":1,\"state\":\"failed\"}");
        put(c, LAYOUT_MAINTENANCE, m->machine_id, "{\"for\":\"reboot\",\"mode\":\"cordoned\",\"since\":1}");
}

static void check_no_reboot(const SimCluster *c, const SimMachine *from) {
        for (unsigned i = 0; i < c->n; i++) {
                const ClusterMachine *m = cluster_machine(
                        registry_cluster(daemon_host(from->daemon)->registry), c->machines[i].machine_id);

                if (m && (m->reboot || m->maintenance))
                        world_failed(c->world, "a-planned-reboot-ends-with-its-lineage", "that of %s",
                                     c->machines[i].name);
        }
}

static void run_once(uint64_t seed, const Seeds *o) {
        World *w = world_new(seed, o->trace);
        Ending ending = (Ending) (seed % _ENDING_MAX);
        bool restores = seed / _ENDING_MAX % 2 == 0; /* a backup; else the state of the host itself */
        SimMachine *first, *late;
        Before before;
        SimCluster *c;

        tracing = w;
        held = ending == TWO_ARE_LATE || (ending == ONE_IS_LATE && world_draw(w, 2) == 0);
        world_set_replay(w, "tests/sim/test-lineage");
        c = cluster_new(w, 3);
        for (unsigned i = 0; i < c->n; i++) {
                if (restores) /* it is the old text alone that may fail */
                        sim_systemd_refuse_none(c->machines[i].systemd);
                world_at(w, i * 100, NULL, machine_begin, &c->machines[i]);
        }
        UNTIL(c, "a-cluster-forms", voters(c) == 3);
        launch_all(c);
        UNTIL(c, "units-run", all_run_once(c));
        launch_rolled(c, restores && world_draw(w, 2) == 0);
        world_run(w, world_now_ms(w) + 3000);

        /* One host stops and has an old state. Meanwhile two units change places. */
        first = &c->machines[world_draw(w, 3)];
        late = &c->machines[(first->index + 1 + world_draw(w, 2)) % 3];
        plan_reboot(c, first);
        world_run(w, world_now_ms(w) + 1000);
        stop(c, first);
        UNTIL(c, "the-others-continue", cluster_leader(c));
        if (restores) {
                maintain(first, MAINTAIN_BACKUP);
                machine_start_daemon(first);
                UNTIL(c, "a-cluster-forms", voters(c) == 3);
        }
        swap_two(c, first);
        note_rolled(c, restores);
        world_run(w, world_now_ms(w) + 3000);
        note(c, &before);

        for (unsigned i = 0; i < c->n; i++)
                if (&c->machines[i] != first || restores)
                        stop(c, &c->machines[i]);
        if (restores) {
                maintain(first, MAINTAIN_RESET);
                maintain(first, MAINTAIN_RESTORE);
        } else
                machine_recover(first);
        machine_start_daemon(first);
        UNTIL(c, "the-recovered-one-leads", cluster_leader(c) == first);

        /* Alone, it has the facts about the others from its tree. */
        run_and_check(c, APART_MS, &before, NULL);
        check_no_reboot(c, first);
        if (!is_adopting(first))
                world_failed(w, "a-host-without-report-is-waited-for", "it was not");
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];

                if (m == first || (m == late && ending != ALL_REPORT) || ending == TWO_ARE_LATE)
                        continue;
                wipe(c, m, first, world_draw(w, 2) == 0);
                machine_start_daemon(m);
                run_and_check(c, world_draw(w, 5000), &before, NULL);
        }
        if (ending == ALL_REPORT)
                end_with_reports(c, first, &before);
        else
                end_without(c, first, late, ending, &before);

        run_and_check(c, QUIET_MS, &before, ending == ALL_REPORT || ending == TWO_ARE_LATE ? NULL : late);
        end_rolled(c, ending == ALL_REPORT || ending == TWO_ARE_LATE ? NULL : late);
        for (unsigned i = 0; i < c->n; i++)
                if (c->machines[i].daemon && is_adopting(&c->machines[i]))
                        world_failed(w, "the-adoption-has-ended-everywhere", "but not on %s",
                                     c->machines[i].name);

        /* Assignments are executed again. */
        ask(c, unit_name(UNITS - 1), TARGET_INACTIVE);
        UNTIL(c, "a-stopped-unit-stops", places(c, unit_name(UNITS - 1), &late) == 0);

        cluster_free(c);
        tracing = NULL;
        world_free(w);
}

int main(int argc, char *argv[]) {
        Seeds o = { .seed = 1, .runs = 6 };

        if (!seeds_parse(&o, argc, argv))
                return 2;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_INFO);

        for (uint64_t i = 0; i < o.runs; i++)
                run_once(o.seed + i, &o);
        printf("%llu recovered clusters touched nothing that ran\n", (unsigned long long) o.runs);
        return 0;
}
