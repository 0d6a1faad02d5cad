#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "fleetd/membership/liveness.h"
#include "base/sizes.h"
#include "tests/lib/alloc.h"
#include "tests/lib/cluster_view.h"

/* One host under watch, and what is seen of it. */
typedef struct Watch {
        ClusterView picture;
        Liveness *liveness;
        LivenessSign sign;
} Watch;

static const LivenessSign healthy = { .heartbeat = true, .kernel = true, .session = true };
static const LivenessSign silent = {};
static const LivenessSign hung = { .kernel = true, .session = true };
static const LivenessSign closed = { .kernel = true };
static const LivenessSign stopped = { .kernel = true, .stopped = true };
static const LivenessSign shut_down = { .shut_down = true };

static LivenessSign sign_of(void *userdata, const char *machine_id) {
        return ((Watch *) userdata)->sign;
}

static void begin(Watch *w, Presence presence) {
        *w = (Watch) { .sign = healthy };
        cluster_view_machine(&w->picture, "A", "", presence);
        assert_int_equal(liveness_new(&w->liveness), 0);
}

static void end(Watch *w) {
        liveness_free(w->liveness);
        cluster_view_free(&w->picture);
}

/* One tick; what it says goes into the picture. NULL: nothing. */
static const char *tick(Watch *w, bool late) {
        static char said[160];
        LivenessChange *changes;
        size_t n;

        assert_int_equal(liveness_tick(w->liveness, &w->picture.cluster, late, sign_of, w, &changes, &n), 0);
        assert_true(n <= 1);
        said[0] = 0;
        if (n == 1) {
                PresenceRecord record = { .presence = changes[0].presence,
                                          .since_ms = w->picture.cluster.now_ms };
                _cleanup_text_ Text t = {};
                char key[128];

                snprintf(said, sizeof(said), "%s: %s", presence_to_string(changes[0].presence),
                         changes[0].reason);
                snprintf(record.reason, sizeof(record.reason), "%s", changes[0].reason);
                stored_presence_write(&t, record);
                snprintf(key, sizeof(key), "/_fleet/machine/%s/presence", changes[0].machine);
                cluster_view_put(&w->picture, key, t.chars);
        }
        free(changes);
        w->picture.cluster.now_ms += LIVENESS_TICK_MS;
        return n == 1 ? said : NULL;
}

/* Ticks until something is said, at most 'max'; returns after how many, 0 for never. */
static unsigned ticks_until(Watch *w, LivenessSign sign, unsigned max, const char **ret_said) {
        w->sign = sign;
        for (unsigned i = 1; i <= max; i++) {
                const char *said = tick(w, false);

                if (said) {
                        *ret_said = said;
                        return i;
                }
        }
        return 0;
}

static void assert_says(Watch *w, LivenessSign sign, unsigned after, const char *expected) {
        const char *said = NULL;

        assert_int_equal(ticks_until(w, sign, after + 5, &said), after);
        assert_string_equal(said, expected);
}

static void assert_quiet(Watch *w, LivenessSign sign, unsigned ticks) {
        const char *said = NULL;

        if (ticks_until(w, sign, ticks, &said) > 0)
                fail_msg("said: %s", said);
}

static void a_host_that_beats_stays_up(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_quiet(&w, healthy, 100);
        end(&w);
}

static void a_new_host_is_up_with_its_first_beat_and_unmentioned_before(void **state) {
        Watch w = {};
        char key[128], id[MACHINE_ID_SIZE];

        assert_int_equal(liveness_new(&w.liveness), 0);
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "A"));
        cluster_view_put(&w.picture, key, "{\"raftId\":2,\"peer\":\"10.0.0.1:2380\"}");
        assert_quiet(&w, silent, 20);
        assert_says(&w, healthy, 1, "up: it is heard");
        end(&w);
}

static void silence_with_its_kernel_is_loss_after_six_ticks(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_quiet(&w, healthy, 3);
        assert_quiet(&w, hung, 2); /* the kernel's last sign ages for a second */
        assert_says(&w, silent, 4, "lost: it is silent, and so is its kernel");
        assert_quiet(&w, silent, 100);
        assert_quiet(&w, closed, 100); /* its kernel alone brings nothing back */
        assert_says(&w, healthy, 1, "up: it is heard");
        end(&w);
}

static void a_beat_in_between_begins_a_new_period(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        for (unsigned i = 0; i < 10; i++) {
                assert_quiet(&w, silent, 5);
                assert_quiet(&w, healthy, 1);
        }
        end(&w);
}

static void short_silences_do_not_add_up_a_daemon_that_then_hangs_is_away(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        for (unsigned i = 0; i < 3; i++) {
                assert_quiet(&w, silent, 2);
                assert_quiet(&w, healthy, 1);
        }
        assert_says(&w, hung, 6, "away: its fleetd does not answer, its kernel does");
        end(&w);
}

/* Whoever wrote it may mean that nothing goes there: a sign of life is no reason to write "up" over it. */
static void a_presence_that_cannot_be_read_is_not_written_over(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        cluster_view_unreadable(&w.picture, LAYOUT_PRESENCE, NULL, "A");
        assert_quiet(&w, healthy, 10);
        assert_quiet(&w, silent, 200);
        cluster_view_presence(&w.picture, "A", PRESENCE_LOST);
        assert_says(&w, healthy, 1, "up: it is heard");
        end(&w);
}

static void a_closed_session_is_away_and_lost_after_its_limit(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, closed, 1, "away: its fleetd closed its session");
        assert_says(&w, closed, 60, "lost: it was away for too long");
        end(&w);
}

static void a_hung_daemon_is_away_after_six_ticks_and_lost_after_its_limit(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, hung, 6, "away: its fleetd does not answer, its kernel does");
        assert_says(&w, hung, 120, "lost: it was away for too long");
        end(&w);
}

static void an_announced_stop_has_ten_minutes(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, stopped, 1, "away: its fleetd was stopped");
        assert_quiet(&w, stopped, 1199);
        assert_says(&w, stopped, 1, "lost: it was away for too long");
        end(&w);
}

static void a_daemon_that_comes_back_in_time_is_up_again(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, stopped, 1, "away: its fleetd was stopped");
        assert_quiet(&w, stopped, 500);
        assert_says(&w, healthy, 1, "up: it is heard");
        assert_says(&w, closed, 1, "away: its fleetd closed its session");
        assert_says(&w, closed, 60, "lost: it was away for too long"); /* counted from the beginning */
        end(&w);
}

static void a_host_that_is_away_keeps_the_limit_of_its_first_cause(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, hung, 6, "away: its fleetd does not answer, its kernel does");
        assert_quiet(&w, hung, 30);
        assert_says(&w, closed, 90, "lost: it was away for too long");
        end(&w);
}

static void a_host_that_was_away_for_long_under_the_previous_leader_has_a_whole_period_for_a_heartbeat(
        void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, closed, 1, "away: its fleetd closed its session");
        assert_says(&w, closed, 60, "lost: it was away for too long");
        assert_says(&w, healthy, 1, "up: it is heard");
        assert_says(&w, closed, 1, "away: its fleetd closed its session");
        w.picture.cluster.now_ms += 3600000;
        liveness_reset(w.liveness);
        assert_says(&w, closed, 7, "lost: it was away for too long");
        end(&w);
}

static void changes_of_one_tick_are_sorted_by_machine(void **state) {
        static const char *const names[] = { "B", "C", "A" };
        Watch w = { .sign = silent };
        LivenessChange *changes;
        size_t n;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                cluster_view_machine(&w.picture, names[i], "", PRESENCE_UP);
        assert_int_equal(liveness_new(&w.liveness), 0);
        for (unsigned i = 1; i <= 6; i++) {
                assert_int_equal(
                        liveness_tick(w.liveness, &w.picture.cluster, false, sign_of, &w, &changes, &n), 0);
                assert_int_equal(n, i == 6 ? ELEMENTS(names) : 0);
                for (size_t k = 0; k < n; k++)
                        assert_int_equal(changes[k].machine[0], 'a' + (int) k);
                free(changes);
        }
        end(&w);
}

static void a_machine_that_leaves_the_picture_is_forgotten(void **state) {
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_quiet(&w, silent, 5);
        cluster_view_remove(&w.picture, layout_key(key, LAYOUT_PRESENCE, NULL, cluster_view_id(id, "A")));
        cluster_view_remove(&w.picture, layout_key(key, LAYOUT_FACTS, NULL, id));
        assert_null(cluster_machine(&w.picture.cluster, id));
        assert_quiet(&w, silent, 1);
        cluster_view_machine(&w.picture, "A", "", PRESENCE_UP);
        assert_says(&w, silent, 6, "lost: it is silent, and so is its kernel");
        end(&w);
}

static void a_presence_of_the_first_index_is_one(void **state) {
        Watch w = { .sign = healthy };
        char id[MACHINE_ID_SIZE];

        cluster_view_presence(&w.picture, "A", PRESENCE_UP);
        assert_int_equal(cluster_machine(&w.picture.cluster, cluster_view_id(id, "A"))->presence_index, 1);
        assert_int_equal(liveness_new(&w.liveness), 0);
        assert_quiet(&w, healthy, 3);
        end(&w);
}

/* Its return is on its way into the picture, where it is away still. */
static void a_host_that_has_just_returned_is_not_up_once_more_by_its_silence(void **state) {
        LivenessChange *changes;
        size_t n;
        Watch w;

        begin(&w, PRESENCE_AWAY);
        for (unsigned i = 1; i <= 10; i++) {
                w.sign = i == 1 ? healthy : hung;
                assert_int_equal(
                        liveness_tick(w.liveness, &w.picture.cluster, false, sign_of, &w, &changes, &n), 0);
                free(changes);
                assert_int_equal(n, i == 1);
        }
        end(&w);
        assert_null(liveness_free(NULL));
}

static void a_host_whose_daemon_was_stopped_and_whose_kernel_falls_silent_is_lost(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, stopped, 1, "away: its fleetd was stopped");
        assert_quiet(&w, stopped, 20);
        assert_says(&w, (LivenessSign) { .stopped = true }, 4, "lost: it is silent, and so is its kernel");
        end(&w);
}

static void a_shutdown_is_known_at_once(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, shut_down, 1, "left: it shut down");
        assert_quiet(&w, shut_down, 100);
        assert_says(&w, healthy, 1, "up: it is heard");
        end(&w);
}

static void late_ticks_do_not_count(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        w.sign = silent;
        for (unsigned i = 0; i < 100; i++)
                assert_null(tick(&w, true));
        assert_says(&w, silent, 6, "lost: it is silent, and so is its kernel");

        /* What is heard in a late tick is heard. */
        w.sign = healthy;
        assert_string_equal(tick(&w, true), "up: it is heard");
        end(&w);
}

static void a_new_leader_counts_a_whole_period_itself(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_quiet(&w, silent, 5);
        liveness_reset(w.liveness);
        assert_says(&w, silent, 6, "lost: it is silent, and so is its kernel");
        end(&w);
}

static void a_new_leader_knows_why_a_host_is_away_and_since_when(void **state) {
        Watch w;

        begin(&w, PRESENCE_UP);
        assert_says(&w, stopped, 1, "away: its fleetd was stopped");
        assert_quiet(&w, stopped, 1000);
        liveness_reset(w.liveness);
        assert_quiet(&w, closed, 150); /* it never told us */
        assert_says(&w, closed, 50, "lost: it was away for too long");

        /* However long it was, there is a period to be heard in. */
        assert_says(&w, healthy, 1, "up: it is heard");
        assert_says(&w, closed, 1, "away: its fleetd closed its session");
        w.picture.cluster.now_ms += 3600000;
        liveness_reset(w.liveness);
        assert_says(&w, closed, 7, "lost: it was away for too long");
        end(&w);
}

static void what_was_told_is_not_told_again_while_it_is_on_its_way(void **state) {
        Watch w;
        LivenessChange *changes;
        size_t n;

        begin(&w, PRESENCE_UP);
        w.sign = silent;
        for (unsigned i = 1; i <= 14; i++) {
                assert_int_equal(
                        liveness_tick(w.liveness, &w.picture.cluster, false, sign_of, &w, &changes, &n), 0);
                free(changes);
                assert_int_equal(
                        n, i == 6 || i == 10 ||
                                   i == 14); /* again when it has not come into the picture for two seconds */
        }
        end(&w);
}

static int watch_twice(void *userdata) {
        Watch *w = userdata;
        Liveness *l = NULL;
        LivenessChange *changes = NULL;
        size_t n = 99;
        int r = liveness_new(&l);

        for (unsigned i = 0; i < 2 && r == 0; i++) {
                assert_non_null(l);
                r = liveness_tick(l, &w->picture.cluster, false, sign_of, w, &changes, &n);
                if (r == 0) {
                        assert_non_null(changes);
                        assert_int_equal(n, 0);
                }
                free(changes);
                changes = NULL;
        }
        liveness_free(l);
        return r;
}

static void without_memory_nothing_is_said_of_hosts(void **state) {
        Watch w = { .sign = healthy };

        cluster_view_machine(&w.picture, "A", "", PRESENCE_UP);
        cluster_view_machine(&w.picture, "B", "", PRESENCE_UP);
        assert_true(alloc_fail_each("liveness", watch_twice, &w, 1) >= 6);
        cluster_view_free(&w.picture);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_host_that_beats_stays_up),
                cmocka_unit_test(a_new_host_is_up_with_its_first_beat_and_unmentioned_before),
                cmocka_unit_test(silence_with_its_kernel_is_loss_after_six_ticks),
                cmocka_unit_test(a_beat_in_between_begins_a_new_period),
                cmocka_unit_test(short_silences_do_not_add_up_a_daemon_that_then_hangs_is_away),
                cmocka_unit_test(a_presence_that_cannot_be_read_is_not_written_over),
                cmocka_unit_test(a_closed_session_is_away_and_lost_after_its_limit),
                cmocka_unit_test(a_hung_daemon_is_away_after_six_ticks_and_lost_after_its_limit),
                cmocka_unit_test(an_announced_stop_has_ten_minutes),
                cmocka_unit_test(a_daemon_that_comes_back_in_time_is_up_again),
                cmocka_unit_test(a_host_that_is_away_keeps_the_limit_of_its_first_cause),
                cmocka_unit_test(
                        a_host_that_was_away_for_long_under_the_previous_leader_has_a_whole_period_for_a_heartbeat),
                cmocka_unit_test(changes_of_one_tick_are_sorted_by_machine),
                cmocka_unit_test(a_machine_that_leaves_the_picture_is_forgotten),
                cmocka_unit_test(a_presence_of_the_first_index_is_one),
                cmocka_unit_test(a_host_that_has_just_returned_is_not_up_once_more_by_its_silence),
                cmocka_unit_test(a_host_whose_daemon_was_stopped_and_whose_kernel_falls_silent_is_lost),
                cmocka_unit_test(a_shutdown_is_known_at_once),
                cmocka_unit_test(late_ticks_do_not_count),
                cmocka_unit_test(a_new_leader_counts_a_whole_period_itself),
                cmocka_unit_test(a_new_leader_knows_why_a_host_is_away_and_since_when),
                cmocka_unit_test(what_was_told_is_not_told_again_while_it_is_on_its_way),
                cmocka_unit_test(without_memory_nothing_is_said_of_hosts),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
