/* A global unit on a thousand machines. */
#include "tests/lib/test.h"

#define PLAY_INSTANCES 1000
#include "tests/lib/rollout_play.h"

enum { OWN_MS = 2000 /* of an instance, see machines_act() */, TICK_MS = 10 };

static int by_name(const void *a, const void *b) {
        return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The order of machine IDs, in which the cluster view has them, is another one. */
static void machines_are_updated_in_the_order_of_their_names(void **state) {
        static Play play;
        const char *names[INSTANCES];

        begin(&play, "agent.service", "Global=yes\nMaxUnavailable=7%");
        for (unsigned i = 0; i < INSTANCES; i++) {
                char machine[8];

                snprintf(machine, sizeof(machine), "A%u", i * 7 % INSTANCES);
                add(&play, "agent.service", machine);
                names[i] = play.instances[i].machine;
        }
        qsort(names, INSTANCES, sizeof(*names), by_name);
        want(&play, 2);
        for (size_t n = 0, before; n < INSTANCES;) {
                while (step(&play) != ROLLOUT_NOTHING)
                        ;
                before = n;
                n = count_with(&play, 2);
                assert_true(n > before);
                for (size_t i = 0; i < n; i++) {
                        const ClusterAssignment *a = cluster_assignment(&play.p.cluster, machine_id(names[i]),
                                                                        "agent.service");

                        if (a->revision != 2)
                                fail_msg("%s has the former text, and %zu others are updated", names[i], n);
                }
                machines_act(&play);
                play.p.cluster.now_ms += OWN_MS;
                machines_act(&play);
        }
        end(&play);
}

/* The engine adds at most a twentieth to the time that the instances themselves take. */
static void a_tenth_of_a_thousand_machines_at_a_time_takes_the_time_of_ten(void **state) {
        static Play play;
        uint64_t began_ms, took_ms;

        begin(&play, "agent.service", "Global=yes\nMaxUnavailable=10%");
        for (unsigned i = 0; i < INSTANCES; i++) {
                char machine[8];

                snprintf(machine, sizeof(machine), "A%u", i);
                add(&play, "agent.service", machine);
        }
        want(&play, 2);
        began_ms = play.p.cluster.now_ms;
        do {
                while (step(&play) != ROLLOUT_NOTHING)
                        ;
                machines_act(&play);
                play.max_unavailable = MAX(play.max_unavailable, count_unavailable(&play));
                play.p.cluster.now_ms += TICK_MS;
        } while (record_of(&play)->state != ROLLOUT_DONE);
        took_ms = play.p.cluster.now_ms - began_ms;
        printf("%d machines, 10 %% at a time: %llu ms, of which %d ms of the instances; %zu transactions\n",
               INSTANCES, (unsigned long long) took_ms, 10 * OWN_MS, play.n_steps);
        assert_int_equal(count_with(&play, 2), INSTANCES);
        assert_int_equal(play.max_unavailable, INSTANCES / 10);
        assert_in_range(took_ms, 10 * OWN_MS, 10 * OWN_MS * 105 / 100);
        assert_in_range(play.n_steps, 10, 2 * 10 + 2); /* two for a batch */
        end(&play);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(machines_are_updated_in_the_order_of_their_names),
                cmocka_unit_test(a_tenth_of_a_thousand_machines_at_a_time_takes_the_time_of_ten),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
