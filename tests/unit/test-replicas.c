/* Replicas= of templates: which instances a step creates, destroys and retargets; and the properties of all
 * steps, in random plays of requests, edits and leaders. A failure prints the seed of its play:
 *
 *      test-replicas [SEED]
 */
#include "tests/lib/test.h"

#include "base/clock.h"
#include "base/parse.h"
#include "fleetd/features/replicas/replicas.h"
#include "tests/lib/cluster_view.h"

#define SET "web@.service"

enum { SLOTS_MAX = 260, PLAYS = 300, PLAYS_ALL = 10000, STEPS_MAX = 30 };

static uint64_t only_seed, playing;

/* -- Small clusters -- */

static void begin(ClusterView *p, const char *options, TargetState target) {
        *p = (ClusterView) { .cluster.now_ms = 1000000, .cluster.level = KV_LEVEL_SCHEDULING };
        cluster_view_unit(p, SET, options, target);
}

static const ClusterUnit *head(const ClusterView *p) {
        return cluster_any_unit(&p->cluster, SET);
}

static const char *slot(unsigned number) {
        static char name[UNIT_NAME_MAX + 1];

        assert_true(replicas_slot(SET, number, name));
        return name;
}

static const ClusterUnit *slot_unit(const ClusterView *p, unsigned number) {
        const ClusterUnit *u = cluster_any_unit(&p->cluster, slot(number));

        return cluster_unit_exists(u) ? u : NULL;
}

/* As a person who starts it from the template, or the engine. */
static void create(ClusterView *p, const char *name, TargetState target) {
        const Unit *template = head(p)->unit;
        Unit unit = *template; /* it borrows */
        _cleanup_text_ Text t = {};
        char key[LAYOUT_KEY_MAX];

        unit.name = (char *) name;
        unit.from = template->name;
        stored_unit_write(&t, &unit);
        cluster_view_put(p, layout_key(key, LAYOUT_UNIT, name, NULL), t.chars);
        cluster_view_target(p, name, target);
}

static void put_record(ClusterView *p, const ReplicasRecord *record) {
        _cleanup_text_ Text t = {};
        char key[LAYOUT_KEY_MAX];

        stored_replicas_write(&t, record);
        cluster_view_put(p, layout_key(key, LAYOUT_REPLICAS, SET, NULL), t.chars);
}

static void scale(ClusterView *p, unsigned n) {
        ReplicasRecord record = { .is_scaled = true,
                                  .count = n,
                                  .since_ms = 1,
                                  .file = (uint64_t) head(p)->unit->placement.replicas,
                                  .slots = head(p)->replicas ? head(p)->replicas->slots : 0 };

        put_record(p, &record);
}

/* Print a step: "-3 +4 =1 slots 5". */
static char *print(const ReplicasStep *step) {
        static const char *const signs[] = {
                [REPLICAS_DESTROY] = "-",
                [REPLICAS_CREATE] = "+",
                [REPLICAS_RETARGET] = "=",
        };
        Text t = {};

        for (size_t i = 0; i < step->n; i++)
                text_printf(&t, "%s%u ", signs[step->slots[i].action], step->slots[i].number);
        if (step->remove)
                text_append(&t, "removed");
        else if (step->writes)
                text_printf(&t, "slots %llu%s", (unsigned long long) step->next.slots,
                            step->next.is_scaled ? " scaled" : "");
        return text_take(&t, NULL);
}

/* The store has the writes of the step, all of them or none. */
static void apply(ClusterView *p, const ReplicasStep *step) {
        TargetState target = head(p)->target;
        char key[LAYOUT_KEY_MAX];

        for (size_t i = 0; i < step->n; i++) {
                const char *name = slot(step->slots[i].number);

                if (step->slots[i].action == REPLICAS_DESTROY)
                        cluster_view_destroy(p, name);
                else if (step->slots[i].action == REPLICAS_CREATE)
                        create(p, name, target);
                else
                        cluster_view_target(p, name, target);
        }
        if (step->remove)
                cluster_view_remove(p, layout_key(key, LAYOUT_REPLICAS, SET, NULL));
        else
                put_record(p, &step->next);
}

static void steps(ClusterView *p, const char *expected) {
        _cleanup_free_ char *got = NULL;
        ReplicasStep step;

        replicas_step(head(p), &p->cluster, &step);
        got = print(&step);
        assert_string_equal(got, expected);
        if (step.writes)
                apply(p, &step);
}

/* -- Cases -- */

static void the_set_has_the_number_of_the_file(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, "Replicas=3", TARGET_LAUNCHED);
        steps(&p, "+1 +2 +3 slots 3");
        steps(&p, "");
        assert_int_equal(slot_unit(&p, 3)->target, TARGET_LAUNCHED);
        assert_string_equal(slot_unit(&p, 3)->unit->from, SET);
        cluster_view_destroy(&p, slot(2)); /* by a person: answered by a new one */
        steps(&p, "+2 slots 3");
        cluster_view_unit(&p, SET, "Replicas=1", TARGET_LAUNCHED);
        steps(&p, "-3 -2 slots 1");
        cluster_view_unit(&p, SET, "Replicas=0", TARGET_LAUNCHED);
        steps(&p, "-1 slots 0");
        steps(&p, "");
}

static void a_template_without_the_option_leaves_its_instances(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, "", TARGET_INACTIVE);
        create(&p, slot(1), TARGET_LAUNCHED);
        steps(&p, "");
        cluster_view_unit(&p, SET, "Replicas=2", TARGET_LAUNCHED);
        steps(&p, "+2 slots 2"); /* the first is launched already */
        cluster_view_text(&p, SET, "", "/bin/true");
        steps(&p, "removed");
        cluster_view_destroy(&p, SET);
        assert_null(head(&p)); /* nothing is left to do */
        assert_non_null(slot_unit(&p, 1));
        assert_non_null(slot_unit(&p, 2));
}

static void a_destroyed_template_takes_its_slots_along(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, "Replicas=2", TARGET_LAUNCHED);
        steps(&p, "+1 +2 slots 2");
        scale(&p, 3);
        steps(&p, "+3 slots 3 scaled");
        create(&p, "web@blue.service", TARGET_LAUNCHED);
        create(&p, slot(9), TARGET_LAUNCHED);
        cluster_view_destroy(&p, SET);
        steps(&p, "-3 -2 -1 removed");
        assert_null(head(&p));
        assert_non_null(slot_unit(&p, 9));
        assert_non_null(cluster_unit(&p.cluster, "web@blue.service"));
}

static void a_slot_follows_a_newer_target_of_the_template(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, "Replicas=2", TARGET_LAUNCHED);
        steps(&p, "+1 +2 slots 2");
        cluster_view_target(&p, slot(2), TARGET_LOADED);
        steps(&p, ""); /* a person stopped it */
        cluster_view_target(&p, SET, TARGET_LAUNCHED);
        steps(&p, "=2 slots 2");
        cluster_view_target(&p, SET, TARGET_INACTIVE);
        steps(&p, "=1 =2 slots 2");
        scale(&p, 3);
        steps(&p, "+3 slots 3 scaled");
        assert_int_equal(slot_unit(&p, 3)->target, TARGET_INACTIVE);
}

static void a_scaled_number_yields_to_a_new_one_of_the_file(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, "Replicas=2", TARGET_LAUNCHED);
        steps(&p, "+1 +2 slots 2");
        scale(&p, 4);
        steps(&p, "+3 +4 slots 4 scaled");
        cluster_view_text(&p, SET, "Replicas=2", "/bin/false");
        assert_int_equal(cluster_replicas(head(&p)), 4);
        steps(&p, "");
        cluster_view_text(&p, SET, "Replicas=3", "/bin/false");
        steps(&p, "-4 slots 3");
        cluster_view_text(&p, SET, "Replicas=2", "/bin/false");
        steps(&p, "-3 slots 2");
        scale(&p, 0);
        steps(&p, "-2 -1 slots 0 scaled");
}

static void a_unit_that_is_no_slot_is_left_alone(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, "Replicas=3", TARGET_LAUNCHED);
        cluster_view_text(&p, slot(2), "", "/bin/own");
        cluster_view_target(&p, slot(2), TARGET_LOADED);
        create(&p, slot(5), TARGET_LOADED); /* above the set */
        steps(&p, "+1 +3 slots 3");
        scale(&p, 0);
        steps(&p, "-3 -1 slots 0 scaled");
        assert_non_null(slot_unit(&p, 2));
        assert_int_equal(slot_unit(&p, 2)->target, TARGET_LOADED);
        assert_non_null(slot_unit(&p, 5));
        scale(&p, 6); /* it counts, and is one of the managed ones now */
        steps(&p, "+1 +3 +4 +6 slots 6 scaled");
        scale(&p, 4);
        steps(&p, "-6 -5 slots 4 scaled");
}

static void nothing_changes_while_a_key_cannot_be_read(void **state) {
        static const LayoutKind kinds_of_head[] = { LAYOUT_UNIT, LAYOUT_TARGET, LAYOUT_REPLICAS };

        for (size_t i = 0; i < ELEMENTS(kinds_of_head); i++) {
                _cleanup_cluster_view_ ClusterView p;

                begin(&p, "Replicas=2", TARGET_LAUNCHED);
                steps(&p, "+1 +2 slots 2");
                cluster_view_text(&p, SET, "Replicas=1", "/bin/true");
                cluster_view_unreadable(&p, kinds_of_head[i], SET, NULL);
                steps(&p, "");
        }
        for (size_t i = 0; i < 2; i++) {
                _cleanup_cluster_view_ ClusterView p;

                begin(&p, "Replicas=3", TARGET_LAUNCHED);
                steps(&p, "+1 +2 +3 slots 3");
                cluster_view_unreadable(&p, kinds_of_head[i], slot(2), NULL);
                steps(&p, "");
                scale(&p, 1);
                steps(&p, "-3 slots 2 scaled");
                steps(&p, "");
        }
}

/* A record of a later version, or a fault. */
static void a_number_out_of_range_is_no_record(void **state) {
        static const struct {
                const char *json, *err;
        } rows[] = {
                { "{}", NULL },
                { "{\"count\":0,\"later\":[1]}", NULL },
                { "{\"count\":1000,\"slots\":1000}", NULL },
                { "{\"count\":1001}", "more than 1000 instances" },
                { "{\"slots\":1001}", "more than 1000 instances" },
                { "{\"count\":-1}", "count: expected a number of instances" },
                { "{\"count\":\"3\"}", "count: expected a number of instances" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                ReplicasRecord record;
                Error err = {};
                int r = stored_replicas_read(rows[i].json, strlen(rows[i].json), &record, &err);

                assert_int_equal(r, rows[i].err ? -EBADMSG : 0);
                if (rows[i].err)
                        assert_string_equal(err.message, rows[i].err);
                else
                        assert_int_equal(record.is_scaled, i > 0);
        }
}

/* Its target state is that of its slots. */
static void a_template_with_a_target_is_no_unit_that_waits(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        _cleanup_free_ char *plan = NULL;

        begin(&p, "Replicas=0\nMove=stop-first", TARGET_LAUNCHED);
        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        assert_true(LIST_EMPTY(&p.cluster.lists[CLUSTER_WAITING]));
        assert_true(LIST_EMPTY(&p.cluster.lists[CLUSTER_STOPS_FIRST]));
        assert_int_equal(p.cluster.conditions[UNIT_WAITING], 0);
        plan = cluster_view_plan(&p, true);
        assert_string_equal(plan, "");
}

/* The rollout of a set outlives its template, with the hash of a text that is not stored any more. */
static void an_instance_gets_no_text_of_a_template_that_was_destroyed(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        const ClusterAssignment *a;
        EnginePlan plan = {};

        begin(&p, "Replicas=1", TARGET_LAUNCHED);
        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_put(
                &p, "/_fleet/rollout/" SET,
                "{\"completed\":2,\"completedHash\":\"h\",\"state\":\"rolling\",\"to\":1,\"toHash\":\"x\"}");
        steps(&p, "+1 slots 1");
        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 0, &cluster_view_limits, &plan), 0);
        cluster_view_apply(&p, &plan);
        a = LIST_FIRST(&slot_unit(&p, 1)->assignments);
        assert_non_null(a);
        assert_string_equal(a->hash, head(&p)->unit->hash);
        engine_plan_done(&plan);
}

static void a_name_that_is_too_long_for_a_unit_is_no_slot(void **state) {
        char template[UNIT_NAME_MAX + 1], name[UNIT_NAME_MAX + 1];

        memset(template, 'a', UNIT_NAME_MAX);
        strcpy(template + UNIT_NAME_MAX - 9, "@.service");
        assert_false(replicas_slot(template, 1, name));
        strcpy(template + UNIT_NAME_MAX - 10, "@.service");
        assert_true(replicas_slot(template, 9, name));
        assert_false(replicas_slot(template, 10, name));
}

/* -- Properties -- */

/* What people have requested, without the steps. */
typedef struct Model {
        bool exists;            /* the template */
        int file, scaled;       /* -1: no such number */
        unsigned managed;       /* highest slot that was demanded while the set was at rest */
        bool own[SLOTS_MAX];    /* has a text of its own */
        bool person[SLOTS_MAX]; /* was started above the set by a person */
} Model;

static unsigned model_wanted(const Model *m) {
        if (!m->exists || m->file < 0)
                return 0;
        return (unsigned) (m->scaled >= 0 ? m->scaled : m->file);
}

static void model_submit(ClusterView *p, Model *m, Random *random) {
        char options[32] = "";
        int file = random_below(random, 8) == 0 ? -1 : (int) random_below(random, 12);

        if (file >= 0)
                snprintf(options, sizeof(options), "Replicas=%d", file);
        cluster_view_text(p, SET, options, random_below(random, 2) ? "/bin/true" : "/bin/false");
        if (!m->exists)
                cluster_view_target(p, SET, TARGET_INACTIVE);
        if (file != m->file || !m->exists)
                m->scaled = -1;
        m->file = file;
        m->exists = true;
}

/* All steps that are due, each by another leader, or planned in vain before another request. */
static void rest(ClusterView *p) {
        for (unsigned n = 0; head(p); n++) {
                ReplicasStep step, again;

                assert_true(n < STEPS_MAX);
                replicas_step(head(p), &p->cluster, &step);
                if (!step.writes)
                        return;
                replicas_step(head(p), &p->cluster, &again); /* of a leader that was killed */
                assert_memory_equal(&again, &step, sizeof(step));
                assert_in_range(step.n, 0, REPLICAS_CHANGES_MAX);
                for (size_t i = 1; i < step.n && step.slots[i].action == REPLICAS_DESTROY; i++)
                        assert_true(step.slots[i].number < step.slots[i - 1].number);
                apply(p, &step);
        }
}

static void check(const ClusterView *p, const Model *m, const bool blue) {
        unsigned wanted = model_wanted(m);
        bool frees = m->exists && m->file < 0; /* people have the instances */

        for (unsigned i = 1; i < SLOTS_MAX && !frees; i++) {
                const ClusterUnit *u = slot_unit(p, i);
                bool expected = i <= wanted || m->own[i] || m->person[i];

                if (!!u != expected)
                        fail_msg("seed %llu: slot %u of %u %s", (unsigned long long) playing, i, wanted,
                                 u ? "exists" : "is missing");
                if (u && i <= wanted && !m->own[i] && u->target_index < head(p)->target_index &&
                    u->target != head(p)->target)
                        fail_msg("seed %llu: slot %u has not the target state of the set",
                                 (unsigned long long) playing, i);
        }
        assert_int_equal(cluster_unit(&p->cluster, "web@blue.service") != NULL, blue);
}

/* The slots that exist are at rest; a person acts. */
static void act(ClusterView *p, Model *m, Random *random) {
        unsigned wanted = model_wanted(m), i = 1 + (unsigned) random_below(random, 20);

        switch (random_below(random, 8)) {
        case 0:
                model_submit(p, m, random);
                break;
        case 1:
                if (!m->exists || random_below(random, 3) > 0)
                        break;
                cluster_view_destroy(p, SET);
                m->exists = false;
                m->scaled = m->file = -1;
                break;
        case 2:
        case 3:
                if (!m->exists || m->file < 0)
                        break;
                m->scaled = (int) random_below(random, random_below(random, 4) ? 12 : SLOTS_MAX - 1);
                scale(p, (unsigned) m->scaled);
                break;
        case 4:
                if (m->exists)
                        cluster_view_target(p, SET, (TargetState) random_below(random, TARGET_LAUNCHED + 1));
                break;
        case 5: /* above the set */
                if (m->exists && !slot_unit(p, i) && i > wanted) {
                        create(p, slot(i), TARGET_LAUNCHED);
                        m->person[i] = true;
                }
                break;
        case 6:
                if (!slot_unit(p, i) && i > wanted) {
                        cluster_view_unit(p, slot(i), "", TARGET_LAUNCHED);
                        m->own[i] = true;
                }
                break;
        default:
                if (slot_unit(p, i)) { /* a new one follows, if it is one of the set */
                        cluster_view_destroy(p, slot(i));
                        m->own[i] = m->person[i] = false;
                }
        }
        /* What a person started is one of the set once the number includes it. Without Replicas=, all slots
         * are of people. */
        for (unsigned k = 1; k < SLOTS_MAX; k++) {
                if (m->exists && m->file < 0)
                        m->person[k] = slot_unit(p, k) && !m->own[k];
                else if (k <= model_wanted(m))
                        m->person[k] = false;
        }
}

static void play(uint64_t seed) {
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000,
                                                 .cluster.level = KV_LEVEL_SCHEDULING };
        Model m = { .file = -1, .scaled = -1 };
        Random random;

        random_seed(&random, seed);
        model_submit(&p, &m, &random);
        rest(&p);
        create(&p, "web@blue.service", TARGET_LAUNCHED);
        for (unsigned n = 0; n < 20; n++) {
                act(&p, &m, &random);
                rest(&p);
                check(&p, &m, true);
        }
        if (!m.exists || m.file < 0)
                return;
        /* Up and down are inverse. */
        for (unsigned up = 0, was = model_wanted(&m); up < 2; up++) {
                m.scaled = (int) (up == 0 ? was + random_below(&random, SLOTS_MAX - 1 - was) : was);
                if (up == 0)
                        for (unsigned k = 1; k <= (unsigned) m.scaled; k++)
                                m.person[k] = false;
                scale(&p, (unsigned) m.scaled);
                rest(&p);
                check(&p, &m, true);
        }
}

static void any_history_ends_with_exactly_the_slots_of_the_number(void **state) {
        const char *all = getenv("CHECK_ALL");
        uint64_t n = all && *all ? PLAYS_ALL : PLAYS;

        for (uint64_t seed = only_seed ?: 1; seed <= (only_seed ?: n); seed++) {
                playing = seed;
                play(seed);
        }
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_set_has_the_number_of_the_file),
                cmocka_unit_test(a_template_without_the_option_leaves_its_instances),
                cmocka_unit_test(a_destroyed_template_takes_its_slots_along),
                cmocka_unit_test(a_slot_follows_a_newer_target_of_the_template),
                cmocka_unit_test(a_scaled_number_yields_to_a_new_one_of_the_file),
                cmocka_unit_test(a_unit_that_is_no_slot_is_left_alone),
                cmocka_unit_test(nothing_changes_while_a_key_cannot_be_read),
                cmocka_unit_test(a_number_out_of_range_is_no_record),
                cmocka_unit_test(a_template_with_a_target_is_no_unit_that_waits),
                cmocka_unit_test(an_instance_gets_no_text_of_a_template_that_was_destroyed),
                cmocka_unit_test(a_name_that_is_too_long_for_a_unit_is_no_slot),
                cmocka_unit_test(any_history_ends_with_exactly_the_slots_of_the_number),
        };

        if (argc > 1)
                (void) parse_u64(argv[1], &only_seed);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
