/* What one step of a rollout takes with 10,000 instances: the longest processor time of rollout_step() while
 * the first batches are updated, of a global unit and of a template. A step should take at most 5 ms of the
 * leader's loop. */
#include <time.h>
#include "tests/lib/test.h"

#define PLAY_INSTANCES 10000
#include "tests/lib/rollout_play.h"

enum { SECONDS = 10 };

static Play play;

static double cpu_ms(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int by_time(const void *a, const void *b) {
        const double *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

/* The step that the engine would make now, without its transaction. */
static double take_step(void) {
        const RolloutConditions conditions = { .leads_ms = play.leads_ms };
        _cleanup_rollout_step_ RolloutStep next = {};
        double before_ms = cpu_ms();

        if (rollout_step(&play.p.cluster, head_of(&play), &conditions, &next) < 0)
                abort();
        return cpu_ms() - before_ms;
}

static void begin_instances(void) {
        char unit[32], machine[8];

        begin(&play, "web@.service", "MaxUnavailable=1%");
        for (unsigned i = 0; i < INSTANCES; i++) {
                snprintf(unit, sizeof(unit), "web@%u.service", i + 1);
                snprintf(machine, sizeof(machine), "A%u", i % 1000);
                put_unit(&play, unit, 1, play.head, REVISION_SUBMITTED);
                cluster_view_target(&play.p, unit, TARGET_LAUNCHED);
                add(&play, unit, machine);
        }
}

/* 'options': of the new text. */
static void measure(const char *what, const char *options) {
        static double took_ms[1000];
        size_t n = 0;

        play.options = options;
        want(&play, 2);
        for (unsigned i = 0; i < SECONDS; i++) {
                do
                        took_ms[n++] = take_step();
                while (step(&play) != ROLLOUT_NOTHING);
                machines_act(&play);
                play.p.cluster.now_ms += 1000;
        }
        qsort(took_ms, n, sizeof(took_ms[0]), by_time);
        printf("%-32s %6zu with the new text, %3zu steps: median %.2f ms, longest %.2f ms\n", what,
               count_with(&play, 2), n, took_ms[n / 2], took_ms[n - 1]);
        end(&play);
}

int main(void) {
        char machine[8];

        begin(&play, "agent.service", "Global=yes\nMaxUnavailable=1%");
        for (unsigned i = 0; i < INSTANCES; i++) {
                snprintf(machine, sizeof(machine), "A%u", i);
                add(&play, "agent.service", machine);
        }
        measure("a global unit, 10,000 machines", play.options);

        begin_instances();
        measure("10,000 instances, 1,000 machines", play.options);

        begin_instances();
        measure("no machine qualifies", "MaxUnavailable=1%\nMachineMetadata=disk=ssd");
        return 0;
}
