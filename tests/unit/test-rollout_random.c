/* Properties of rollouts, in random plays: texts and contents that start, fail or hang, hosts that leave and
 * return, processes that end, requests of people, and leaders that change. A failure prints the seed of its
 * play:
 *
 *      test-rollout_random [SEED]
 */
#include "tests/lib/test.h"
#include "base/clock.h"
#include "tests/lib/rollout_play.h"
#include "tests/lib/size.h"

enum {
        PLAYS = 400, /* each of more than 25 views */
        PLAYS_QUICK = 120,
        PLAYS_ALL = 10000,
        SET_MAX = 8,
        START_S = 4, /* until a machine has executed an assignment, and the instance is available */
        DEADLINE_S = 60,
        LEADERS_S = 40, /* in which leaders change */
};

typedef struct Terms {
        char options[256];
        bool global;
        unsigned n, max_unavailable, min_available, canary, failures, pause_s, promote_s;
        bool percent;  /* of max_unavailable */
        bool restarts; /* for another content */
        UpdateFailureAction action;
} Terms;

static uint64_t only_seed, n_views;
static uint64_t seen[_ROLLOUT_STATE_MAX];

static unsigned below(Random *random, unsigned n) {
        return (unsigned) random_below(random, n);
}

static bool chance(Random *random, unsigned percent) {
        return below(random, 100) < percent;
}

static Terms draw_terms(Random *random) {
        static const char *const actions[] = { "pause", "revert", "continue" };
        Terms t = { .global = chance(random, 40), .n = 1 + below(random, SET_MAX), .max_unavailable = 1 };
        size_t used = (size_t) snprintf(t.options, sizeof(t.options), "UpdateDeadlineSec=%d\n", DEADLINE_S);

#define OPTION(...) used += (size_t) snprintf(t.options + used, sizeof(t.options) - used, __VA_ARGS__)
        if (chance(random, 50)) {
                t.percent = chance(random, 40);
                t.max_unavailable = t.percent ? 1 + below(random, 100) : 1 + below(random, 4);
                OPTION("MaxUnavailable=%u%s\n", t.max_unavailable, t.percent ? "%" : "");
        }
        if (chance(random, 20)) {
                t.min_available = below(random, t.n);
                OPTION("MinAvailable=%u\n", t.min_available);
        }
        if (chance(random, 30)) {
                t.canary = 1 + below(random, 3);
                OPTION("Canary=%u\n", t.canary);
                t.promote_s = chance(random, 50) ? 1 + below(random, 20) : 0;
                if (t.promote_s > 0)
                        OPTION("Promote=%us\n", t.promote_s);
        }
        if (chance(random, 20)) {
                t.failures = below(random, 3);
                OPTION("UpdateMaxFailures=%u\n", t.failures);
        }
        if (chance(random, 30)) {
                t.pause_s = 1 + below(random, 5);
                OPTION("UpdatePauseSec=%us\n", t.pause_s);
        }
        if (chance(random, 30))
                OPTION("UpdateBy=zone\n");
        t.action = chance(random, 60) ? UPDATE_PAUSES :
                   chance(random, 80) ? UPDATE_REVERTS :
                                        UPDATE_CONTINUES;
        OPTION("UpdateOnFailure=%s\n", actions[t.action]);
        t.restarts = chance(random, 50);
        if (t.restarts)
                OPTION("Secret=pw\nOnChange=restart\n");
#undef OPTION
        return t;
}

static void begin_random(Play *play, const Terms *t, Random *random) {
        if (t->global)
                begin_global(play, t->n, t->options);
        else
                begin_template(play, t->n, t->options);
        for (unsigned i = 0; i < t->n; i++)
                if (chance(random, 60))
                        cluster_view_machine(&play->p, machine_name(i),
                                             chance(random, 50) ? "zone=a" : "zone=b", PRESENCE_UP);
}

static const ClusterMachine *host_of(Play *play, size_t i) {
        return cluster_machine(&play->p.cluster, machine_id(play->instances[i].machine));
}

static bool is_up(Play *play, size_t i) {
        return host_of(play, i)->presence == PRESENCE_UP;
}

static bool is_available(Play *play, size_t i) {
        return is_up(play, i) && has_it(play, i);
}

static size_t instance_of(Play *play, const RolloutInstance *p) {
        for (size_t i = 0; i < play->n; i++)
                if (streq(play->instances[i].unit, p->assignment->unit) &&
                    streq(machine_id(play->instances[i].machine), p->assignment->machine->id))
                        return i;
        fail();
        return 0;
}

static bool begins(RolloutState state) {
        return state == ROLLOUT_CANARY || state == ROLLOUT_ROLLING || state == ROLLOUT_REVERTING ||
               state == ROLLOUT_DONE;
}

static bool was_abandoned(const RolloutRecord *record, const ClusterAssignment *a) {
        const RolloutOutcome *outcome = rollout_record_outcome(record, a->hash);

        return outcome && outcome->result != ROLLOUT_COMPLETED;
}

/* An instance that was available is only taken within the budget, one with the wanted text only after
 * 'resume', and none while the rollout waits. */
static void check_step(Play *play, const Terms *t, const RolloutStep *next, uint64_t seed) {
        size_t n = 0, available = 0, taken = 0, max;
        const RolloutRecord *record = record_of(play);

        for (size_t i = 0; i < play->n; i++) {
                n += !t->global || is_up(play, i);
                available += is_available(play, i);
        }
        for (size_t k = 0; k < next->n_updates; k++) {
                size_t i = instance_of(play, &next->updates[k]);
                const ClusterAssignment *a = assignment_of(play, i);

                taken += is_available(play, i);
                if (!is_up(play, i) && !was_abandoned(&next->next, a))
                        fail_msg("seed %llu: %s on %s is updated, and its host is not up",
                                 (unsigned long long) seed, a->unit, a->machine->id);
                if (streq(a->hash, head_of(play)->unit->hash) && a->inputs >= rollout_content(a->of) &&
                    (!record || record->retry <= a->index))
                        fail_msg("seed %llu: %s on %s has the wanted text, and is updated",
                                 (unsigned long long) seed, a->unit, a->machine->id);
        }
        max = t->percent ? MAX(n * t->max_unavailable / 100, (size_t) 1) : t->max_unavailable;
        if (taken > 0 && (n - available + taken > max || available - taken < t->min_available))
                fail_msg("seed %llu: %zu of %zu are available, and %zu of them are taken; terms: %s",
                         (unsigned long long) seed, available, n, taken, t->options);
        if (next->n_updates > 0 && !begins(next->has_record ? next->next.state :
                                           record           ? record->state :
                                                              ROLLOUT_DONE))
                fail_msg("seed %llu: a step begins in state %s", (unsigned long long) seed,
                         rollout_state_to_string(next->has_record ? next->next.state : record->state));
}

static bool all_have_executed(Play *play) {
        for (size_t i = 0; i < play->n; i++)
                if (play->instances[i].index != assignment_of(play, i)->index)
                        return false;
        return true;
}

/* Write the step that is due, and check it. The next one finds nothing, except that a revert begins after its
 * text is wanted, and that an instance is available if its machine has not yet executed the assignment of
 * another text. */
static void steps_checked(Play *play, const Terms *t, uint64_t seed) {
        bool executed = all_have_executed(play);
        RolloutChange change = ROLLOUT_REVERT;

        for (unsigned n = 0;; n++) {
                const RolloutConditions conditions = { .leads_ms = play->leads_ms };
                _cleanup_rollout_step_ RolloutStep next = {};

                n_views++;
                assert_int_equal(rollout_step(&play->p.cluster, head_of(play), &conditions, &next), 0);
                if (next.change == ROLLOUT_NOTHING)
                        break;
                if (change != ROLLOUT_REVERT && executed)
                        fail_msg("seed %llu: a second step at once, with %zu updates: %s; terms: %s",
                                 (unsigned long long) seed, next.n_updates, play->reasons, t->options);
                change = next.change;
                check_step(play, t, &next, seed);
                (void) step(play);
        }
        if (record_of(play))
                seen[record_of(play)->state]++;
}

static void second_checked(Play *play, const Terms *t, uint64_t seed) {
        steps_checked(play, t, seed);
        machines_act(play);
        play->p.cluster.now_ms += 1000;
}

/* A process ends, and systemd starts it again. */
static void crash(Play *play, size_t i) {
        if (!is_up(play, i) || play->instances[i].index != assignment_of(play, i)->index)
                return;
        play->instances[i].started_ms = play->p.cluster.now_ms;
        put_state(play, i, play->quality[assignment_of(play, i)->revision] == FAILS ? "failed" : "active",
                  false);
}

static void change_host(Play *play, size_t i, Random *random) {
        static const Presence presences[] = { PRESENCE_AWAY, PRESENCE_LOST };

        if (is_up(play, i)) {
                cluster_view_presence(&play->p, play->instances[i].machine, presences[below(random, 2)]);
                return;
        }
        cluster_view_presence(&play->p, play->instances[i].machine, PRESENCE_UP);
        if (chance(random, 50))
                crash(play, i);
}

static void revert_to(Play *play, unsigned revision) {
        put_unit(play, play->head, revision, NULL, REVISION_REVERTED);
}

/* Of a part of the set, as a rule of all. Its number is the highest of the set, and one more. */
static void change_contents(Play *play, Random *random, unsigned *number) {
        bool all = chance(random, 70);

        if (*number + 1 == REVISIONS)
                return;
        play->contents[++*number] = (Quality) below(random, 3);
        for (size_t i = 0; i < play->n; i++)
                if (all || chance(random, 50))
                        put_content(play, play->instances[i].unit, *number);
}

static void disturb(Play *play, const Terms *t, Random *random, unsigned *revisions, unsigned *number) {
        size_t i = below(random, (unsigned) play->n);

        switch (below(random, t->restarts ? 33 : 30)) {
        case 30:
        case 31:
        case 32:
                change_contents(play, random, number);
                break;
        case 0:
        case 1:
                if (*revisions + 1 < REVISIONS) {
                        play->quality[++*revisions] = (Quality) below(random, 3);
                        want(play, *revisions);
                }
                break;
        case 2:
                revert_to(play, 1 + below(random, *revisions));
                break;
        case 3:
                (void) ask(play, ROLLOUT_PAUSE);
                break;
        case 4:
        case 5:
                (void) ask(play, ROLLOUT_RESUME);
                break;
        case 6:
                (void) ask(play, ROLLOUT_PROMOTE);
                break;
        case 7:
        case 8:
                change_host(play, i, random);
                break;
        case 9:
                crash(play, i);
                break;
        case 10:
                play->leads_ms = play->p.cluster.now_ms;
                break;
        default:
                break;
        }
}

static bool has_ended(Play *play) {
        const RolloutRecord *r = record_of(play);

        return !r || r->state == ROLLOUT_DONE || r->state == ROLLOUT_PAUSED || r->state == ROLLOUT_HELD;
}

/* Return the seconds after which a rollout without further faults has ended. */
static unsigned bound_s(const Terms *t) {
        return (t->n + 2) * (START_S + t->pause_s) + t->promote_s + 2 * (DEADLINE_S + 2);
}

static void run_until_end(Play *play, const Terms *t, uint64_t seed) {
        unsigned s = 0;

        do
                second_checked(play, t, seed);
        while ((!has_ended(play) || s < START_S) && s++ < bound_s(t));
        /* With this action, a rollout waits for the instances that have failed. */
        if (!has_ended(play) && t->action != UPDATE_CONTINUES)
                fail_msg("seed %llu: %s after %u s; terms: %s; %s", (unsigned long long) seed,
                         rollout_state_to_string(record_of(play)->state), s, t->options, play->reasons);
}

static uint64_t plays(void) {
        return only_seed ? only_seed : test_size(PLAYS_QUICK, PLAYS, PLAYS_ALL);
}

static uint64_t first_play(void) {
        return only_seed ? only_seed : 1;
}

static void steps_keep_the_budget_and_rollouts_end(void **state) {
        for (uint64_t seed = first_play(); seed <= plays(); seed++) {
                unsigned revisions = 1, number = 0;
                Random random;
                Terms t;
                _cleanup_(end) Play play;

                random_seed(&random, seed);
                t = draw_terms(&random);
                begin_random(&play, &t, &random);
                for (unsigned s = 0, n = 20 + below(&random, 100); s < n; s++) {
                        disturb(&play, &t, &random, &revisions, &number);
                        steps_checked(&play, &t, seed);
                        if (chance(&random, 70)) /* else they are slow */
                                machines_act(&play);
                        play.p.cluster.now_ms += 1000;
                }
                for (size_t i = 0; i < play.n; i++)
                        if (!is_up(&play, i))
                                change_host(&play, i, &random);
                run_until_end(&play, &t, seed);
        }
        printf("%llu views", (unsigned long long) n_views);
        for (unsigned i = 0; i < _ROLLOUT_STATE_MAX; i++) {
                printf(", %s %llu", rollout_state_to_string((RolloutState) i), (unsigned long long) seen[i]);
                assert_true(only_seed || seen[i] > 0);
        }
        printf("\n");
        assert_true(only_seed || n_views >= 25 * plays());
}

/* One text after revision 1, without faults. */
static Terms play_one(Play *play, uint64_t seed, Quality quality, unsigned unwritten) {
        Random random, leaders;
        Terms t;

        random_seed(&random, seed);
        random_seed(&leaders, seed + 1);
        t = draw_terms(&random);
        begin_random(play, &t, &random);
        play->quality[2] = quality;
        want(play, 2);
        for (unsigned s = 0; s < LEADERS_S + bound_s(&t); s++) {
                if (s < LEADERS_S && chance(&leaders, unwritten)) {
                        /* This leader has decided, and writes nothing; or it has just written. */
                        machines_act(play);
                        play->p.cluster.now_ms += 1000;
                        play->leads_ms = play->p.cluster.now_ms;
                } else
                        second_checked(play, &t, seed);
        }
        return t;
}

static void any_leader_reaches_the_same_end(void **state) {
        for (uint64_t seed = first_play(); seed <= plays(); seed++)
                for (Quality quality = GOOD; quality <= FAILS; quality++) {
                        Play one, other;
                        Terms t = play_one(&one, seed, quality, 0);

                        (void) play_one(&other, seed, quality, 20);
                        if (record_of(&one)->state != record_of(&other)->state ||
                            count_with(&one, 2) != count_with(&other, 2) || starts(&one) != starts(&other))
                                fail_msg("seed %llu: %s with %zu, else %s with %zu; terms: %s; %s",
                                         (unsigned long long) seed,
                                         rollout_state_to_string(record_of(&one)->state), count_with(&one, 2),
                                         rollout_state_to_string(record_of(&other)->state),
                                         count_with(&other, 2), t.options, other.reasons);
                        if (!has_ended(&one) && t.action != UPDATE_CONTINUES)
                                fail_msg("seed %llu: it does not end; terms: %s", (unsigned long long) seed,
                                         t.options);
                        end(&one);
                        end(&other);
                }
}

/* A text that fails takes as many instances as the budget allows, and those of the tolerance. */
static void a_bad_text_takes_the_budget_at_most(void **state) {
        for (uint64_t seed = first_play(); seed <= plays(); seed++) {
                size_t touched = 0, max;
                _cleanup_(end) Play play;
                Terms t = play_one(&play, seed, FAILS, 0);

                for (size_t i = 0; i < play.n; i++)
                        touched += play.instances[i].n_starts > 0;
                max = t.percent ? MAX(t.n * t.max_unavailable / 100, (size_t) 1) : t.max_unavailable;
                if (touched > max)
                        fail_msg("seed %llu: %zu of %u instances got a text that fails; terms: %s",
                                 (unsigned long long) seed, touched, t.n, t.options);
                if (t.action == UPDATE_REVERTS && record_of(&play)->state == ROLLOUT_DONE &&
                    t.failures == 0 && touched > 0)
                        assert_int_equal(count_with(&play, 2), 0);
        }
}

static void a_revert_starts_only_instances_that_differ(void **state) {
        for (uint64_t seed = first_play(); seed <= plays(); seed++) {
                unsigned before[INSTANCES], revisions[INSTANCES], until;
                Random random;
                Terms t;
                _cleanup_(end) Play play;

                random_seed(&random, seed);
                t = draw_terms(&random);
                begin_random(&play, &t, &random);
                play.quality[2] = (Quality) below(&random, 3);
                until = below(&random, bound_s(&t));
                want(&play, 2);
                for (unsigned s = 0; s < until; s++)
                        second_checked(&play, &t, seed);
                machines_act(&play);
                for (size_t i = 0; i < play.n; i++) {
                        before[i] = play.instances[i].n_starts;
                        revisions[i] = (unsigned) assignment_of(&play, i)->revision;
                }
                revert_to(&play, 1);
                for (unsigned s = 0; s < bound_s(&t); s++)
                        second_checked(&play, &t, seed);
                for (size_t i = 0; i < play.n; i++)
                        if (play.instances[i].n_starts - before[i] != (revisions[i] == 1 ? 0 : 1))
                                fail_msg("seed %llu: %s on %s had revision %u, and started %u times; terms: "
                                         "%s; %s",
                                         (unsigned long long) seed, play.instances[i].unit,
                                         play.instances[i].machine, revisions[i],
                                         play.instances[i].n_starts - before[i], t.options, play.reasons);
                assert_int_equal(count_with(&play, 1), play.n);
        }
}

/* One content after the other, without faults: a bad one takes the budget at most, and the next one needs no
 * request. */
static void each_content_restarts_an_instance_once(void **state) {
        for (uint64_t seed = first_play(); seed <= plays(); seed++) {
                unsigned before[INSTANCES];
                size_t touched = 0, max;
                Random random;
                Terms t;
                _cleanup_(end) Play play;

                random_seed(&random, seed);
                t = draw_terms(&random);
                if (!t.restarts || t.action == UPDATE_CONTINUES || t.failures > 0 ||
                    (t.canary > 0 && t.promote_s == 0)) {
                        play = (Play) {};
                        continue;
                }
                begin_random(&play, &t, &random);
                change_content(&play, 1);
                for (unsigned s = 0; s < bound_s(&t); s++)
                        second_checked(&play, &t, seed);
                play.contents[2] = FAILS;
                for (size_t i = 0; i < play.n; i++)
                        before[i] = play.instances[i].n_starts;
                change_content(&play, 2);
                for (unsigned s = 0; s < bound_s(&t); s++)
                        second_checked(&play, &t, seed);
                for (size_t i = 0; i < play.n; i++)
                        touched += play.instances[i].n_starts > before[i];
                max = t.percent ? MAX(t.n * t.max_unavailable / 100, (size_t) 1) : t.max_unavailable;
                if (touched == 0 || touched > max || record_of(&play)->state != ROLLOUT_PAUSED)
                        fail_msg("seed %llu: %zu of %u instances got a content that fails; terms: %s",
                                 (unsigned long long) seed, touched, t.n, t.options);
                change_content(&play, 3);
                for (unsigned s = 0; s < bound_s(&t); s++)
                        second_checked(&play, &t, seed);
                for (size_t i = 0; i < play.n; i++)
                        if (play.instances[i].inputs != 3 || play.instances[i].n_starts > before[i] + 2)
                                fail_msg(
                                        "seed %llu: %s on %s has content %llu after %u starts; terms: %s; %s",
                                        (unsigned long long) seed, play.instances[i].unit,
                                        play.instances[i].machine,
                                        (unsigned long long) play.instances[i].inputs,
                                        play.instances[i].n_starts - before[i], t.options, play.reasons);
                assert_int_equal(record_of(&play)->state, ROLLOUT_DONE);
        }
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(steps_keep_the_budget_and_rollouts_end),
                cmocka_unit_test(any_leader_reaches_the_same_end),
                cmocka_unit_test(a_bad_text_takes_the_budget_at_most),
                cmocka_unit_test(a_revert_starts_only_instances_that_differ),
                cmocka_unit_test(each_content_restarts_an_instance_once),
        };

        if (argc > 1)
                only_seed = strtoull(argv[1], NULL, 10);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
