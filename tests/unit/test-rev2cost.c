#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#include "tests/lib/drains.h"
#include "tests/lib/rollout_play.h"

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e3 + t.tv_nsec / 1e6; }

static void set_of(Play *play, unsigned n, unsigned machines, unsigned on_first, const char *options) {
        char key[LAYOUT_KEY_MAX], value[256], unit[32], machine[8];

        begin(play, "web@.service", options);
        for (unsigned i = 0; i < machines; i++) { snprintf(machine, sizeof(machine), "A%03x", i); cluster_view_machine(&play->p, machine, "", PRESENCE_UP); }
        for (unsigned i = 0; i < n; i++) {
                _cleanup_unit_ Unit *text = NULL;
                snprintf(unit, sizeof(unit), "web@%u.service", i);
                snprintf(machine, sizeof(machine), "A%03x", i < on_first ? 0 : 1 + i % (machines - 1));
                text = unit_of(play, unit, 1, NULL);
                put_unit(play, unit, 1, play->head, REVISION_SUBMITTED);
                cluster_view_target(&play->p, unit, TARGET_LAUNCHED);
                put_assignment(play, machine, unit, 1, text->hash, 1);
                snprintf(value, sizeof(value), "{\"active\":\"active\",\"available\":true,\"hash\":\"%s\",\"load\":\"loaded\",\"sub\":\"running\"}", text->hash);
                cluster_view_put(&play->p, layout_key(key, LAYOUT_STATE, unit, machine_id(machine)), value);
        }
}

static void cost(void **state) {
        static const EnginePlanLimits limits = { .names_texts = true, .work_max = 20000 };
        const unsigned sizes[] = { 1000, 4000, 10000 };

        for (size_t k = 0; k < ELEMENTS(sizes); k++) {
                Play play;
                double t;
                const char *names[250];
                static char buf[250][32];

                set_of(&play, sizes[k], 50, 200, "Move=stop-first");
                maintain(&play.p, "A000", "draining", "");
                { char id[MACHINE_ID_SIZE], kk[128], vv[64]; snprintf(kk, sizeof(kk), "/_fleet/machine/%s/maintenance", cluster_view_id(id, "A000")); snprintf(vv, sizeof(vv), "{\"mode\":\"draining\",\"since\":1}"); cluster_view_put(&play.p, kk, vv); }
                for (unsigned i = 0; i < 200; i++) { snprintf(buf[i], 32, "web@%u.service", i); names[i] = buf[i]; }
                {
                        _cleanup_(engine_plan_done) EnginePlan plan = {};
                        t = now();
                        assert_int_equal(engine_plan(&play.p.cluster, names, 200, 30000, &limits, &plan), 0);
                        printf("C1: set of %u, 200 of them stop first on a drained machine: plan %.1f ms, %zu changes, work %zu\n", sizes[k], now() - t, plan.n, plan.work);
                }
                cluster_view_put(&play.p, "/_fleet/machine/x", "");
                maintain(&play.p, "A000", NULL, "");
                want(&play, 2);
                {
                        const RolloutLimits l = {};
                        _cleanup_rollout_step_ RolloutStep s = {};
                        t = now();
                        assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &l, &s), 0);
                        printf("C2: rollout_step of %u: %.2f ms\n", sizes[k], now() - t);
                }
                end(&play);
        }
}

int main(void) { const struct CMUnitTest tests[] = { cmocka_unit_test(cost) }; return cmocka_run_group_tests(tests, NULL, NULL); }
