/* Surge instances, which start on another machine before the former ones stop; and drains beside rollouts. */
#include "tests/lib/test.h"
#include "fleetd/registry/newer_options.h"
#include "fleetd/registry/revision_view.h"
#include "fleetd/registry/unit_order.h"
#include "tests/lib/reboots.h"
#include "tests/lib/rollout_play.h"
#include "tests/lib/words_of.h"

/* Write the next step, with the assignments on other machines. */
static RolloutChange surge_step(Play *play) {
        const RolloutConditions conditions = {};
        _cleanup_rollout_step_ RolloutStep step = {};
        const ClusterUnit *head = head_of(play);
        unsigned to = (unsigned) revisions_wanted(&head->unit->revisions);

        assert_int_equal(rollout_step(&play->p.cluster, head, &conditions, &step), 0);
        for (size_t i = 0; i < step.n_updates; i++) {
                const RolloutInstance *p = &step.updates[i];
                const ClusterMachine *m = p->to ?: p->assignment->machine;
                char unit[32];

                snprintf(unit, sizeof(unit), "%s", p->unit->name);
                put_assignment_instead(play, m->id, unit, to, play->p.cluster.now_ms,
                                       p->to ? p->assignment->machine->id : "");
                put_unit(play, unit, to, play->head, REVISION_SUBMITTED);
        }
        put_followers(play, &step, to);
        if (step.change == ROLLOUT_REVERT)
                put_unit(play, play->head, (unsigned) step.next.to.number, NULL, REVISION_REVERTED);
        if (step.has_record)
                write_record(play, &step.next);
        return step.change;
}

static void surge_plan(Play *play) {
        const EnginePlanLimits limits = { .names_texts = true };
        _cleanup_(engine_plan_done) EnginePlan plan = {};

        assert_int_equal(engine_plan(&play->p.cluster, NULL, 0, 30000, &limits, &plan), 0);
        cluster_view_apply(&play->p, &plan);
}

/* Execute an assignment: the unit is available a second later, unless its text fails. */
static void surge_execute(Play *play, const ClusterAssignment *a) {
        const ClusterState *s = cluster_state_on(a->machine, a->unit);
        bool runs = s && s->state.hash && streq(s->state.hash, a->hash) && s->state.inputs >= a->inputs,
             fails = play->quality[a->revision] == FAILS || play->contents[a->inputs] == FAILS,
             slow = play->quality[a->revision] == SLOW;
        char key[LAYOUT_KEY_MAX], state[LAYOUT_KEY_MAX], value[256];

        layout_key(key, LAYOUT_ASSIGNMENT, a->unit, a->machine->id);
        layout_key(state, LAYOUT_STATE, a->unit, a->machine->id);
        if (a->kind == ASSIGNMENT_STOP) {
                cluster_view_remove(&play->p, state);
                cluster_view_remove(&play->p, key);
                return;
        }
        if (runs && (s->state.available || s->state.health == UNIT_HEALTH_FAILING))
                return;
        snprintf(value, sizeof(value),
                 "{\"active\":\"%s\",\"available\":%s,\"hash\":\"%s\",\"health\":\"%s\",\"inputs\":%llu,"
                 "\"load\":\"loaded\",\"sub\":\"x\"}",
                 fails ? "failed" : "active", runs && !fails && !slow ? "true" : "false", a->hash,
                 fails ? "failing" : "passing", (unsigned long long) a->inputs);
        cluster_view_put(&play->p, state, value);
}

static void surge_machines(Play *play) {
        UnitPosition at = {};
        ClusterUnit *u;

        while ((u = unit_order_next(&play->p.cluster.by_name, &at)))
                for (ClusterAssignment *a = LIST_FIRST(&u->assignments), *next; a; a = next) {
                        next = LIST_NEXT(a, of_unit);
                        surge_execute(play, a);
                }
}

/* Units that are available on a machine. */
static size_t count_available(Play *play) {
        UnitPosition at = {};
        ClusterUnit *u;
        size_t n = 0;

        while ((u = unit_order_next(&play->p.cluster.by_name, &at))) {
                const ClusterState *s;
                bool available = false;

                LIST_FOREACH(s, &u->states, of_unit)
                        available |= s->state.available;
                n += available;
        }
        return n;
}

static size_t count_assignments(Play *play, unsigned revision) {
        UnitPosition at = {};
        ClusterUnit *u;
        size_t n = 0;

        while ((u = unit_order_next(&play->p.cluster.by_name, &at))) {
                const ClusterAssignment *a;

                LIST_FOREACH(a, &u->assignments, of_unit)
                        n += a->revision == revision;
        }
        return n;
}

/* Never fewer than 'least' units are available. */
static void surge_seconds(Play *play, unsigned n, size_t least) {
        while (n-- > 0) {
                surge_plan(play);
                surge_machines(play);
                while (surge_step(play) != ROLLOUT_NOTHING)
                        surge_plan(
                                play); /* as the engine, which plans what has changed before the next step */
                surge_machines(play);
                assert_true(count_available(play) >= least);
                play->p.cluster.now_ms += 1000;
        }
}

/* Three instances, and a fourth machine. */
static void begin_surge(Play *play, const char *options) {
        begin_template(play, 3, options);
        cluster_view_machine(&play->p, "F", "", PRESENCE_UP);
        want(play, 2);
}

static void a_surge_instance_starts_before_the_former_one_stops(void **state) {
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0");
        surge_seconds(&play, 40, 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 3);
        assert_int_equal(count_assignments(&play, 1), 0);
}

/* One that fails ends where it was started, and its former instance runs on. The next one continues. */
static void a_content_starts_on_another_machine_first(void **state) {
        const ClusterAssignment *surge;
        UnitPosition at = {};
        ClusterUnit *u;
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Secret=pw\nOnChange=restart\nMaxSurge=1\nMaxUnavailable=0");
        cluster_view_machine(&play.p, "F", "", PRESENCE_UP);
        change_content(&play, 1);
        surge_seconds(&play, 40, 3);
        play.contents[2] = FAILS;
        change_content(&play, 2);
        assert_int_equal(surge_step(&play), ROLLOUT_WRITE);
        surge = LIST_FIRST(&cluster_unit(&play.p.cluster, "web@1.service")->assignments);
        while (surge && !rollout_replaced(surge))
                surge = LIST_NEXT(surge, of_unit);
        assert_non_null(surge);
        assert_true(rollout_surges(&play.p.cluster, surge));
        put_content(&play, "web@1.service", 3); /* it is not wanted any more */
        assert_false(rollout_surges(&play.p.cluster, surge));
        put_content(&play, "web@1.service", 2);
        surge_seconds(&play, 40, 3);
        assert_rollout(&play, ROLLOUT_PAUSED, 1);
        change_content(&play, 3);
        surge_seconds(&play, 60, 3);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_assignments(&play, 1), 3);
        while ((u = unit_order_next(&play.p.cluster.by_name, &at)))
                if (!LIST_EMPTY(&u->assignments))
                        assert_int_equal(LIST_FIRST(&u->assignments)->state->state.inputs, 3);
}

/* Units that are to run on two machines. */
static size_t count_doubled(Play *play) {
        UnitPosition at = {};
        ClusterUnit *u;
        size_t n = 0;

        while ((u = unit_order_next(&play->p.cluster.by_name, &at))) {
                const ClusterAssignment *a;
                size_t n_active = 0;

                LIST_FOREACH(a, &u->assignments, of_unit)
                        n_active += cluster_assignment_is_active(a);
                n += n_active > 1;
        }
        return n;
}

/* Its daemon may be restarted only: for half a minute, no further instance is started. */
static void a_surge_instance_on_a_machine_that_is_away_is_given_up_later(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0");
        cluster_view_machine(&play.p, "E", "", PRESENCE_UP);
        play.quality[2] = SLOW;
        surge_seconds(&play, 2, 3);
        cluster_view_presence(&play.p, "E", PRESENCE_AWAY);
        for (unsigned s = 0; s < 29; s++) {
                surge_seconds(&play, 1, 3);
                assert_int_equal(count_doubled(&play), 1);
        }
        assert_non_null(cluster_assignment(&play.p.cluster, cluster_view_id(id, "E"), "web@1.service"));
        surge_seconds(&play, 3, 3);
        assert_non_null(cluster_assignment(&play.p.cluster, cluster_view_id(id, "F"), "web@1.service"));
}

/* Its daemon was restarted, for example: the watch time is not over, and its process serves. */
static void a_healthy_instance_that_is_not_available_is_updated_by_surge(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0");
        put_state(&play, 0, "active", false);
        surge_plan(&play);
        (void) surge_step(&play);
        assert_int_equal(assignment_of(&play, 0)->revision, 1);
        assert_non_null(cluster_assignment(&play.p.cluster, cluster_view_id(id, "F"), "web@1.service"));
        while (surge_step(&play) != ROLLOUT_NOTHING)
                ;
        assert_int_equal(count_doubled(&play), 1);
        surge_seconds(&play, 40, 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
}

/* Only the text with the drop-ins of the instance qualifies for the fifth machine alone. */
static void a_surge_instance_is_placed_by_its_own_drop_ins(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_(end) Play play;

        begin_template(&play, 3, "MaxSurge=1\nMaxUnavailable=0");
        add_own(&play, "[X-Fleet]\nMachineMetadata=disk=ssd\n", true);
        cluster_view_machine(&play.p, "E", "", PRESENCE_UP);
        cluster_view_machine(&play.p, "F", "disk=ssd", PRESENCE_UP);
        cluster_view_machine(&play.p, "A", "disk=ssd", PRESENCE_UP);
        want(&play, 2);
        surge_seconds(&play, 40, 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 3);
        assert_non_null(cluster_assignment(&play.p.cluster, cluster_view_id(id, "F"), "web@1.service"));
}

/* A surge instance counts until its former instance is to stop: the engine plans that after the next step. */
static void no_step_exceeds_the_surge_of_the_set(void **state) {
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0");
        for (unsigned s = 0; s < 40; s++) {
                surge_seconds(&play, 1, 3);
                assert_true(count_doubled(&play) <= 1);
        }
        assert_rollout(&play, ROLLOUT_DONE, 2);
}

/* The former instances run on: no assignment of theirs was written. */
static void no_surge_instance_remains(void **state) {
        static const char *const actions[] = { "pause", "revert" };

        for (size_t i = 0; i < ELEMENTS(actions); i++) {
                char options[128];
                uint64_t index;
                _cleanup_(end) Play play;

                snprintf(options, sizeof(options), "MaxSurge=1\nMaxUnavailable=0\nUpdateOnFailure=%s",
                         actions[i]);
                begin_surge(&play, options);
                play.quality[2] = FAILS;
                index = play.p.index;
                surge_seconds(&play, 20, 3);
                for (size_t k = 0; k < play.n; k++)
                        assert_true(assignment_of(&play, k) && assignment_of(&play, k)->index <= index);
                assert_rollout(&play, i == 0 ? ROLLOUT_PAUSED : ROLLOUT_DONE, i == 0 ? 2 : 1);
                assert_int_equal(count_assignments(&play, 2), 0);
                assert_int_equal(count_assignments(&play, 1), 3);
        }
}

static void a_surge_instance_of_a_superseded_text_ends(void **state) {
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0");
        surge_plan(&play);
        (void) surge_step(&play);
        assert_int_equal(count_assignments(&play, 2), 1);
        want(&play, 3);
        surge_seconds(&play, 60, 3);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(count_assignments(&play, 3), 3);
        assert_int_equal(count_assignments(&play, 2), 0);
}

/* No machine fits: the former instance stops first, within MaxUnavailable=. */
static void surge_without_a_machine_falls_back_to_the_budget(void **state) {
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=1");
        cluster_view_presence(&play.p, "F", PRESENCE_LOST);
        cluster_view_presence(&play.p, "F", PRESENCE_LEFT);
        for (unsigned i = 0; i < 3; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "web@%u.service", i + 1);
                for (unsigned k = 0; k < 3; k++)
                        if (k != i)
                                cluster_view_conflicting(&play.p, machine_name(k), unit);
        }
        surge_seconds(&play, 40, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 3);
}

/* Three instances on one machine that is drained: they stop first, within the budget of their set. */
static void a_drain_that_stops_first_and_an_update_share_a_budget(void **state) {
        _cleanup_(end) Play play;

        begin(&play, "web@.service", "Move=stop-first");
        for (unsigned i = 1; i <= 3; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "web@%u.service", i);
                put_unit(&play, unit, 1, play.head, REVISION_SUBMITTED);
                cluster_view_target(&play.p, unit, TARGET_LAUNCHED);
                add(&play, unit, "A");
        }
        cluster_view_machine(&play.p, "B", "", PRESENCE_UP);
        maintain(&play.p, "A", "draining", "");
        surge_seconds(&play, 2, 2);
        want(&play, 2); /* an update at the same time */
        surge_seconds(&play, 60, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(drain_left(cluster_machine(&play.p.cluster, machine_id("A"))), 0);
}

/* The update alone decides about its surge instance, also if the former machine is being drained: a drain
 * that withdrew one with a text that fails would get it again at once, without end. */
static void a_drain_leaves_a_surge_instance_to_its_update(void **state) {
        static const bool fails[] = { true, false };

        for (size_t i = 0; i < ELEMENTS(fails); i++) {
                const ClusterAssignment *a;
                UnitPosition at = {};
                ClusterUnit *u;
                _cleanup_(end) Play play;

                begin_surge(&play, "MaxSurge=1\nUpdateOnFailure=revert");
                play.quality[2] = fails[i] ? FAILS : GOOD;
                while (surge_step(&play) != ROLLOUT_NOTHING)
                        ;
                surge_machines(&play);
                assert_int_equal(count_assignments(&play, 2), 1);
                while ((u = unit_order_next(&play.p.cluster.by_name, &at)))
                        LIST_FOREACH(a, &u->assignments, of_unit)
                                if (a->instead[0])
                                        maintain(&play.p, (char[]) { (char) (a->instead[0] - 'a' + 'A'), 0 },
                                                 "draining", "");
                surge_plan(&play);
                assert_int_equal(count_assignments(&play, 2), 1);
                surge_seconds(&play, 20, 3);
                assert_int_equal(record_of(&play)->state, ROLLOUT_DONE);
                assert_int_equal(count_assignments(&play, 2), fails[i] ? 0 : 3);
                assert_int_equal(count_assignments(&play, fails[i] ? 1 : 2), 3);
        }
}

/* A rollout that a user has paused does not act: its surge instance does not hold up a drain. */
static void a_drain_does_not_wait_for_a_paused_update(void **state) {
        const ClusterAssignment *a;
        UnitPosition at = {};
        ClusterUnit *u;
        char from[2] = "";
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1");
        play.quality[2] = SLOW;
        while (surge_step(&play) != ROLLOUT_NOTHING)
                ;
        surge_machines(&play);
        assert_int_equal(ask(&play, ROLLOUT_PAUSE), 0);
        while ((u = unit_order_next(&play.p.cluster.by_name, &at)))
                LIST_FOREACH(a, &u->assignments, of_unit)
                        if (a->instead[0])
                                from[0] = (char) (a->instead[0] - 'a' + 'A');
        assert_true(from[0]);
        maintain(&play.p, from, "draining", "");
        surge_seconds(&play, 60, 3);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(drain_left(cluster_machine(&play.p.cluster, machine_id(from))), 0);
}

/* A revert picks the machine on which the former instance is being stopped: that one was available there,
 * with the same text, and its state may not be published yet. */
static void a_surge_instance_waits_until_the_former_one_has_ended_there(void **state) {
        char key[LAYOUT_KEY_MAX], value[256], hash[UNIT_HASH_SIZE];
        _cleanup_(end) Play play;

        begin_template(&play, 1, "MaxSurge=1\nMaxUnavailable=0");
        snprintf(hash, sizeof(hash), "%s", assignment_of(&play, 0)->hash);
        cluster_view_machine(&play.p, "F", "", PRESENCE_UP);
        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"stop\",\"rev\":1,\"since\":1}", hash);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_ASSIGNMENT, "web@1.service", machine_id("F")),
                         value);
        want(&play, 2);
        while (surge_step(&play) != ROLLOUT_NOTHING)
                ;
        assert_int_equal(count_assignments(&play, 2), 0);
        cluster_view_remove(&play.p, key);
        while (surge_step(&play) != ROLLOUT_NOTHING)
                ;
        assert_int_equal(count_assignments(&play, 2), 1);
        surge_seconds(&play, 10, 1);
        assert_int_equal(record_of(&play)->state, ROLLOUT_DONE);
}

/* -- Any interleaving of updates, drains, moves and reboots -- */

enum { MIXED_MACHINES = 5, MIXED_UNITS = 5 };

/* A play of its own numbers. */
typedef struct Mixed {
        Play play;
        uint64_t random;
        unsigned revision;
        size_t n_updates, n_drains, n_moves, n_reboots;
} Mixed;

static unsigned mixed_random(Mixed *x, unsigned n) {
        x->random = x->random * 6364136223846793005u + 1442695040888963407u;
        return (unsigned) (x->random >> 33) % n;
}

/* Machines execute their assignments, some of them a second later, or more. */
static void mixed_machines(Mixed *x) {
        UnitPosition at = {};
        ClusterUnit *u;

        while ((u = unit_order_next(&x->play.p.cluster.by_name, &at)))
                for (ClusterAssignment *a = LIST_FIRST(&u->assignments), *next; a; a = next) {
                        next = LIST_NEXT(a, of_unit);
                        if (mixed_random(x, 3) > 0)
                                surge_execute(&x->play, a);
                }
}

static void mixed_drains(Mixed *x) {
        ClusterView *p = &x->play.p;

        for (unsigned i = 0; i < MIXED_MACHINES; i++) {
                const ClusterMachine *m = cluster_machine(&p->cluster, machine_id(machine_name(i)));
                DrainStep step;
                _cleanup_text_ Text t = {};

                if (!m->maintenance)
                        continue;
                step = drain_step(&p->cluster, m);
                if (step.next.mode == m->maintenance->mode)
                        continue;
                stored_maintenance_write(&t, &step.next);
                cluster_view_put(p, machine_key(machine_name(i), "maintenance"), t.chars);
        }
}

/* The queue goes on, and hosts that are to reboot do so at once. */
static void mixed_reboots(Mixed *x) {
        static const KvState state = {};
        ClusterView *p = &x->play.p;

        while (*execute(p, &state))
                ;
        for (ClusterMachine *m = p->cluster.machines; m; m = m->hh.next)
                if (m->reboot && m->reboot->state == REBOOT_REBOOTING && mixed_random(x, 3) == 0) {
                        char name[8];

                        snprintf(name, sizeof(name), "%s", cluster_machine_name(m));
                        x->n_reboots++;
                        boots(p, name, (unsigned) x->n_reboots);
                        break;
                }
}

static void mixed_request_move(Mixed *x, const char *machine) {
        MoveRecord move = { .by = "root@A", .since_ms = 1 };
        char key[LAYOUT_KEY_MAX], unit[32];
        _cleanup_text_ Text t = {};

        snprintf(unit, sizeof(unit), "web@%u.service", 1 + mixed_random(x, MIXED_UNITS));
        memcpy(move.to, machine_id(machine), sizeof(move.to));
        stored_move_write(&t, &move);
        cluster_view_put(&x->play.p, layout_key(key, LAYOUT_MOVE, unit, NULL), t.chars);
        x->n_moves++;
}

/* Something that a user requests. */
static void mixed_act(Mixed *x) {
        char machine[8];
        const ClusterMachine *m;

        snprintf(machine, sizeof(machine), "%s", machine_name(mixed_random(x, MIXED_MACHINES)));
        m = cluster_machine(&x->play.p.cluster, machine_id(machine));
        switch (mixed_random(x, 40)) {
        case 0:
                x->revision = x->revision % (REVISIONS - 1) + 1;
                want(&x->play, x->revision);
                x->n_updates++;
                break;
        case 1:
                if (m->reboot || m->maintenance)
                        break;
                maintain(&x->play.p, machine, "draining", "");
                x->n_drains++;
                break;
        case 2:
        case 3:
                if (!m->reboot && m->maintenance)
                        maintain(&x->play.p, machine, NULL, "");
                break;
        case 4:
                mixed_request_move(x, machine);
                break;
        case 5:
                if (!m->reboot)
                        cluster_view_put(
                                &x->play.p, machine_key(machine, "reboot"),
                                "{\"kind\":\"reboot\",\"since\":1,\"slots\":2,\"state\":\"queued\"}");
                break;
        default:
                break;
        }
}

static void mixed_begin(Mixed *x, const char *options) {
        begin(&x->play, "web@.service", options);
        x->revision = 1;
        for (unsigned i = 0; i < MIXED_UNITS; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "web@%u.service", i + 1);
                put_unit(&x->play, unit, 1, x->play.head, REVISION_SUBMITTED);
                cluster_view_target(&x->play.p, unit, TARGET_LAUNCHED);
                add(&x->play, unit, machine_name(mixed_random(x, MIXED_MACHINES)));
        }
        for (unsigned i = 0; i < MIXED_MACHINES; i++)
                if (!cluster_machine(&x->play.p.cluster, machine_id(machine_name(i))))
                        cluster_view_machine(&x->play.p, machine_name(i), "", PRESENCE_UP);
}

/* No fault makes an instance unavailable here: what is, is so because of an operation. */
static void operations_share_one_budget(void **state) {
        static const struct {
                const char *options;
                size_t least;
        } rows[] = {
                { "", 4 },
                { "Move=stop-first", 4 },
                { "Move=stop-first\nMaxUnavailable=2", 3 },
                { "Move=stop-first\nMaxUnavailable=3\nMinAvailable=4", 4 },
                { "MaxSurge=1\nMaxUnavailable=0", 5 },
                { "MaxSurge=2\nMove=stop-first", 4 },
        };
        size_t n_updates = 0, n_drains = 0, n_moves = 0, n_reboots = 0;

        for (unsigned seed = 0; seed < 10 * ELEMENTS(rows); seed++) {
                size_t least = rows[seed % ELEMENTS(rows)].least;
                Mixed x = { .random = seed };

                mixed_begin(&x, rows[seed % ELEMENTS(rows)].options);
                for (unsigned i = 0; i < 300; i++) {
                        mixed_act(&x);
                        surge_plan(&x.play);
                        mixed_machines(&x);
                        while (surge_step(&x.play) != ROLLOUT_NOTHING)
                                ;
                        mixed_machines(&x);
                        mixed_drains(&x);
                        mixed_reboots(&x);
                        if (count_available(&x.play) < least)
                                fail_msg("seed %u, second %u: %zu available, expected %zu", seed, i,
                                         count_available(&x.play), least);
                        x.play.p.cluster.now_ms += 1000;
                }
                n_updates += x.n_updates;
                n_drains += x.n_drains;
                n_moves += x.n_moves;
                n_reboots += x.n_reboots;
                end(&x.play);
        }
        assert_true(n_updates > 50 && n_drains > 50 && n_moves > 50 && n_reboots > 50);
}

/* The rollout has ended without an instance, whose machine returns. */
static void an_instance_that_returns_is_updated_on_another_machine(void **state) {
        _cleanup_(end) Play play;
        uint64_t index;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0");
        cluster_view_presence(&play.p, "A", PRESENCE_AWAY);
        surge_seconds(&play, 40, 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 2);
        cluster_view_presence(&play.p, "A", PRESENCE_UP);
        surge_seconds(&play, 20, 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 3);
        assert_int_equal(count_assignments(&play, 1), 0);
        index = play.p.cluster.index;
        surge_seconds(&play, 20, 3);
        assert_int_equal(play.p.cluster.index, index);
}

/* With UpdateOnFailure=continue, a rollout ends without the instances that have failed elsewhere. */
static void a_failed_surge_instance_is_not_started_again_and_again(void **state) {
        _cleanup_(end) Play play;
        uint64_t index;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0\nUpdateOnFailure=continue");
        play.quality[2] = FAILS;
        surge_seconds(&play, 60, 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        index = play.p.cluster.index;
        surge_seconds(&play, 20, 3);
        assert_int_equal(play.p.cluster.index, index);
}

/* A step must not stop the leader's loop. The last instance by name has another machine, and is not reached.
 */
static void the_search_of_a_step_for_other_machines_is_limited(void **state) {
        static const unsigned sizes[] = { 10, 400 };

        for (size_t k = 0; k < ELEMENTS(sizes); k++) {
                const RolloutConditions conditions = {};
                _cleanup_rollout_step_ RolloutStep step = {};
                char key[LAYOUT_KEY_MAX], value[256], unit[32], machine[8];
                _cleanup_(end) Play play;

                begin(&play, "web@.service", "MaxSurge=100%\nMachineMetadata=slot=%i");
                cluster_view_machine(&play.p, "F", k == 0 ? "slot=9" : "slot=99", PRESENCE_UP);
                for (unsigned i = 0; i < sizes[k]; i++) {
                        _cleanup_unit_ Unit *text = NULL;

                        snprintf(unit, sizeof(unit), "web@%u.service", i);
                        snprintf(machine, sizeof(machine), "A%03x", i % 100);
                        text = unit_of(&play, unit, 1, NULL);
                        cluster_view_machine(&play.p, machine, "", PRESENCE_UP);
                        put_unit(&play, unit, 1, play.head, REVISION_SUBMITTED);
                        cluster_view_target(&play.p, unit, TARGET_LAUNCHED);
                        put_assignment(&play, machine, unit, 1, 1);
                        snprintf(value, sizeof(value),
                                 "{\"active\":\"active\",\"available\":true,\"hash\":\"%s\",\"load\":"
                                 "\"loaded\","
                                 "\"sub\":\"running\"}",
                                 text->hash);
                        cluster_view_put(&play.p, layout_key(key, LAYOUT_STATE, unit, machine_id(machine)),
                                         value);
                }
                want(&play, 2);
                assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &conditions, &step), 0);
                assert_int_equal(step.n_updates, k == 0 ? 2 : 1);
        }
}

/* The new text excludes machine E, which is the first one that the former text qualifies for. */
static void a_surge_instance_starts_where_its_text_fits(void **state) {
        const RolloutConditions conditions = {};
        _cleanup_rollout_step_ RolloutStep step = {};
        _cleanup_(end) Play play;

        begin_template(&play, 3, "MaxSurge=1\nMaxUnavailable=0");
        cluster_view_machine(&play.p, "E", "", PRESENCE_UP);
        cluster_view_machine(&play.p, "F", "slot=1", PRESENCE_UP);
        play.options = "MaxSurge=1\nMaxUnavailable=0\nMachineMetadata=slot=%i";
        want(&play, 2);
        assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &conditions, &step), 0);
        assert_int_equal(step.n_updates, 1);
        assert_non_null(step.updates[0].to);
        assert_string_equal(step.updates[0].unit->name, "web@1.service");
        assert_string_equal(step.updates[0].to->id, machine_id("F"));
}

/* The instances run on machines without the metadata that the new text requires. One after the other moves,
 * and none is stopped before it is available on a machine with it. */
static void a_placement_edit_moves_in_steps(void **state) {
        static const char *const names[] = { "D", "E", "F" };
        _cleanup_(end) Play play;
        size_t most = 0;

        begin_template(&play, 3, "MaxSurge=1\nMaxUnavailable=0");
        for (size_t i = 0; i < ELEMENTS(names); i++)
                cluster_view_machine(&play.p, names[i], "disk=ssd", PRESENCE_UP);
        play.options = "MaxSurge=1\nMaxUnavailable=0\nMachineMetadata=disk=ssd";
        want(&play, 2);
        for (unsigned i = 0; i < 60; i++) {
                size_t n = count_assignments(&play, 2);

                surge_seconds(&play, 1, 3);
                assert_in_range(count_assignments(&play, 2), n, n + 1);
                most = MAX(most, count_assignments(&play, 1) + count_assignments(&play, 2));
        }
        assert_true(most <= 5); /* one surge instance, and one whose former one is about to stop */
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 3);
        assert_int_equal(count_assignments(&play, 1), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                assert_non_null(cluster_machine(&play.p.cluster, machine_id(names[i]))->assignments);
}

/* The new text excludes the machines A to C, which have the instances. */
static void begin_excluding(Play *play, const char *options, const char *excluding) {
        begin_template(play, 3, options);
        for (const char *name = "DEF"; *name; name++)
                cluster_view_machine(&play->p, (char[]) { *name, 0 }, "disk=ssd", PRESENCE_UP);
        play->options = excluding;
}

/* Never fewer than 'least' are available, and at most 'doubled' at a time have two machines. */
static void excluded_seconds(Play *play, unsigned n, size_t least, size_t doubled) {
        for (unsigned i = 0; i < n; i++) {
                surge_seconds(play, 1, least);
                assert_true(count_doubled(play) <= doubled);
                for (const char *name = "ABC"; *name; name++) {
                        const ClusterMachine *m = cluster_machine(&play->p.cluster,
                                                                  machine_id((char[]) { *name, 0 }));
                        const ClusterAssignment *a = m->assignments;

                        assert_true(!a || a->kind == ASSIGNMENT_STOP || a->revision == 1);
                }
        }
}

/* Without MaxSurge=, too: it starts on another machine first. In the second play, the first one does not run.
 */
static void a_text_does_not_start_on_a_machine_that_it_excludes(void **state) {
        for (unsigned failed = 0; failed < 2; failed++) {
                _cleanup_(end) Play play;

                begin_excluding(&play, "MaxUnavailable=1", "MaxUnavailable=1\nMachineMetadata=disk=ssd");
                if (failed)
                        put_state(&play, 0, "failed", false);
                want(&play, 2);
                excluded_seconds(&play, 60, 3 - failed, 1);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(count_assignments(&play, 2), 3);
                assert_int_equal(count_assignments(&play, 1), 0);
        }
}

/* The new text conflicts with a unit on each of the machines, or has its port. That stays, also where its
 * text is newer than that of the instance so far. */
static void instances_in_conflict_with_the_new_text_start_elsewhere_first(void **state) {
        static const char *const others[][2] = { { "A", "a.service" },
                                                 { "B", "b.service" },
                                                 { "C", "c.service" } };
        static const struct {
                const char *text, *others[ELEMENTS(others)];
        } rows[] = { { "MaxUnavailable=1\nConflicts=?.service", { "", "", "" } },
                     { "MaxUnavailable=1\nPort=http:80", { "Port=a:80", "Port=b:80", "Port=c:80" } },
                     { "MaxUnavailable=1\nPort=http:8%i", { "Port=a:81", "Port=b:82", "Port=c:83" } } };

        for (size_t k = 0; k < ELEMENTS(rows); k++) {
                _cleanup_(end) Play play;

                begin_excluding(&play, "MaxUnavailable=1", rows[k].text);
                for (size_t i = 0; i < ELEMENTS(others); i++) {
                        cluster_view_unit(&play.p, others[i][1], rows[k].others[i], TARGET_LAUNCHED);
                        cluster_view_assign(&play.p, others[i][0], others[i][1], ASSIGNMENT_RUN);
                }
                want(&play, 2);
                excluded_seconds(&play, 60, 3 + ELEMENTS(others), 1);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(count_assignments(&play, 2), 3);
                for (size_t i = 0; i < ELEMENTS(others); i++)
                        assert_true(cluster_assignment_is_active(
                                cluster_assignment(&play.p.cluster, machine_id(others[i][0]), others[i][1])));
        }
}

static void a_text_that_fails_elsewhere_does_not_start_where_it_is_excluded(void **state) {
        static const char options[] = "MaxUnavailable=3\nUpdateOnFailure=continue\nMachineMetadata=disk=ssd";
        uint64_t index;
        _cleanup_(end) Play play;

        begin_excluding(&play, "MaxUnavailable=3\nUpdateOnFailure=continue", options);
        play.quality[2] = FAILS;
        want(&play, 2);
        excluded_seconds(&play, 60, 3, 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 1), 3);
        index = play.p.cluster.index;
        excluded_seconds(&play, 20, 3, 0);
        assert_int_equal(play.p.cluster.index, index);
}

static void a_machine_that_returns_after_the_rollout_does_not_start_what_excludes_it(void **state) {
        _cleanup_(end) Play play;

        begin_excluding(&play, "MaxUnavailable=2", "MaxUnavailable=2\nMachineMetadata=disk=ssd");
        cluster_view_presence(&play.p, "A", PRESENCE_AWAY);
        want(&play, 2);
        excluded_seconds(&play, 60, 2, 2);
        assert_int_equal(count_assignments(&play, 1), 1);
        cluster_view_presence(&play.p, "A", PRESENCE_UP);
        excluded_seconds(&play, 60, 2, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 3);
}

/* A drain is no rule of the text: an instance that has no other machine is updated where it is. */
static void an_instance_on_a_drained_machine_is_updated_there(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Conflicts=web@*");
        maintain(&play.p, "B", "draining", "");
        want(&play, 2);
        surge_seconds(&play, 60, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_assignments(&play, 2), 3);
}

static int add_marked(void *userdata, const char *unit) {
        *(size_t *) userdata += starts_with(unit, "web@");
        return 0;
}

/* The end of a rollout plans the instances that have two machines. */
static void instances_that_start_elsewhere_are_planned_when_the_rollout_changes(void **state) {
        EngineMarks marks = {};
        size_t n = 0;
        _cleanup_(end) Play play;

        begin_excluding(&play, "MaxUnavailable=1", "MaxUnavailable=1\nMachineMetadata=disk=ssd");
        want(&play, 2);
        while (surge_step(&play) != ROLLOUT_NOTHING)
                ;
        assert_int_equal(count_doubled(&play), 1);
        engine_marks_add(&marks, &play.p.cluster,
                         &(RegistryChange) { .kind = CHANGED_ROLLOUT, .unit = play.head });
        assert_int_equal(engine_marks_expand(&marks, &play.p.cluster, add_marked, &n), 0);
        assert_true(n >= 1);
}

/* Each machine has an instance, and takes no second one: no step begins, and the reason names it. */
static void surge_without_a_machine_is_reported(void **state) {
        static const char *const reasons[] = { "web@2 is on B, web@3 on C", "web@1 is on A, web@3 on C",
                                               "web@1 is on A, web@2 on B" };
        _cleanup_rollout_set_ RolloutSet set = {};
        _cleanup_(end) Play play;

        begin_template(&play, 3, "MaxSurge=1\nMaxUnavailable=0\nConflicts=web@*");
        want(&play, 2);
        surge_seconds(&play, 30, 3);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        assert_int_equal(count_assignments(&play, 2), 0);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        for (size_t i = 0; i < set.n; i++) {
                Error why = {};

                char reason[256];

                rollout_explain(&play.p.cluster, &set, &set.instances[i], false, &why);
                snprintf(reason, sizeof(reason),
                         "waiting: no other machine qualifies (%s) for its start (MaxSurge=1), and 0 of 3 "
                         "are unavailable (MaxUnavailable=0, MinAvailable=0)",
                         reasons[set.instances[i].unit->name[4] - '1']);
                assert_string_equal(why.message, reason);
        }
        surge_seconds(&play, 600, 3); /* it does not wait for ever: UpdateDeadlineSec= */
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
}

/* MaxPerMachine= and requests leave no machine for a second instance. Within MaxUnavailable=, the update goes
 * on in place; otherwise it waits, and the reason has the rule. */
static void surge_without_room_goes_on_in_place_within_the_budget(void **state) {
        static const struct {
                const char *options, *rule;
        } rows[] = {
                { "MaxPerMachine=1", ", with MaxPerMachine=1" },
                { "MemoryRequest=600M", " have 424M of 1.0G of memory free, less than 600M" },
        };

        for (size_t i = 0; i < 2 * ELEMENTS(rows); i++) {
                bool waits = i % 2;
                _cleanup_rollout_set_ RolloutSet set = {};
                _cleanup_(end) Play play;
                char options[128], expected[256];
                Error why = {};

                snprintf(options, sizeof(options), "MaxSurge=1\nMaxUnavailable=%d\n%s", !waits,
                         rows[i / 2].options);
                begin_template(&play, 3, options);
                for (unsigned k = 0; k < 3; k++) {
                        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], value[128];

                        layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, machine_name(k)));
                        snprintf(value, sizeof(value),
                                 "{\"capacity\":{\"cpu\":400,\"memory\":1024},\"name\":\"%s\"}",
                                 machine_name(k));
                        cluster_view_put(&play.p, key, value);
                }
                want(&play, 2);
                surge_seconds(&play, 40, waits ? 3 : 2);
                assert_rollout(&play, waits ? ROLLOUT_ROLLING : ROLLOUT_DONE, 2);
                assert_int_equal(count_assignments(&play, 2), waits ? 0 : 3);
                if (!waits)
                        continue;
                assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
                for (size_t k = 0; k < set.n; k++) {
                        rollout_explain(&play.p.cluster, &set, &set.instances[k], false, &why);
                        snprintf(expected, sizeof(expected), "%s) for its start (MaxSurge=1), and 0 of 3 ",
                                 rows[i / 2].rule);
                        if (!strstr(why.message, expected))
                                fail_msg("%s", why.message);
                }
        }
}

/* A later version of fleetd has written the record: nothing is known of the rollout. */
static void an_unreadable_rollout_is_not_absent(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        const EnginePlanLimits limits = { .names_texts = true };
        const ClusterRevision text = { .number = 1 };
        size_t n_waits = 0;
        _cleanup_(end) Play play;

        begin_surge(&play, "MaxSurge=1\nMaxUnavailable=0");
        surge_plan(&play);
        (void) surge_step(&play);
        assert_int_equal(count_assignments(&play, 2), 1);
        cluster_view_unreadable(&play.p, LAYOUT_ROLLOUT, play.head, NULL);
        put_unit(&play, "web@9.service", 2, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &limits, &plan), 0);
        assert_int_equal(plan.n, 0); /* no surge instance ends, and no new instance gets a text */
        for (size_t i = 0; i < plan.n_waits; i++)
                n_waits += !!strstr(words_of(plan.waits[i].why), "cannot be read");
        assert_int_equal(n_waits, 1);
        assert_false(cluster_revision_is_surplus(head_of(&play), &text));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_surge_instance_starts_before_the_former_one_stops),
                cmocka_unit_test(a_content_starts_on_another_machine_first),
                cmocka_unit_test(a_surge_instance_on_a_machine_that_is_away_is_given_up_later),
                cmocka_unit_test(a_healthy_instance_that_is_not_available_is_updated_by_surge),
                cmocka_unit_test(a_surge_instance_is_placed_by_its_own_drop_ins),
                cmocka_unit_test(no_step_exceeds_the_surge_of_the_set),
                cmocka_unit_test(no_surge_instance_remains),
                cmocka_unit_test(a_surge_instance_of_a_superseded_text_ends),
                cmocka_unit_test(surge_without_a_machine_falls_back_to_the_budget),
                cmocka_unit_test(an_instance_that_returns_is_updated_on_another_machine),
                cmocka_unit_test(a_failed_surge_instance_is_not_started_again_and_again),
                cmocka_unit_test(an_unreadable_rollout_is_not_absent),
                cmocka_unit_test(a_surge_instance_starts_where_its_text_fits),
                cmocka_unit_test(a_placement_edit_moves_in_steps),
                cmocka_unit_test(a_text_does_not_start_on_a_machine_that_it_excludes),
                cmocka_unit_test(instances_in_conflict_with_the_new_text_start_elsewhere_first),
                cmocka_unit_test(a_text_that_fails_elsewhere_does_not_start_where_it_is_excluded),
                cmocka_unit_test(a_machine_that_returns_after_the_rollout_does_not_start_what_excludes_it),
                cmocka_unit_test(an_instance_on_a_drained_machine_is_updated_there),
                cmocka_unit_test(instances_that_start_elsewhere_are_planned_when_the_rollout_changes),
                cmocka_unit_test(surge_without_a_machine_is_reported),
                cmocka_unit_test(surge_without_room_goes_on_in_place_within_the_budget),
                cmocka_unit_test(a_drain_that_stops_first_and_an_update_share_a_budget),
                cmocka_unit_test(a_drain_leaves_a_surge_instance_to_its_update),
                cmocka_unit_test(a_drain_does_not_wait_for_a_paused_update),
                cmocka_unit_test(a_surge_instance_waits_until_the_former_one_has_ended_there),
                cmocka_unit_test(operations_share_one_budget),
                cmocka_unit_test(the_search_of_a_step_for_other_machines_is_limited),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
