#include "tests/lib/test.h"
#include "fleetd/sessions/liveness.h"
#include "base/sizes.h"
#include "tests/lib/alloc.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/message.h"

/* One host, and its signs of life. */
typedef struct Watch {
        ClusterView view;
        Liveness liveness;
        LivenessSign sign;
        uint64_t away_ms; /* of the last change */
} Watch;

static const LivenessSign healthy = { .heartbeat = true, .kernel = true, .session = true };
static const LivenessSign silent = {};
static const LivenessSign hung = { .kernel = true, .session = true };
static const LivenessSign closed = { .kernel = true };
static const LivenessSign stopped = { .kernel = true, .stopped = true };
static const LivenessSign shut_down = { .shut_down = true };

/* One tick, in which each machine has the sign. */
static int tick_all(Watch *w, Liveness *l, bool late, PresenceChange **ret, size_t *ret_n) {
        int e = 0;

        liveness_tick(l);
        for (const ClusterMachine *m = w->view.cluster.machines; m && e == 0; m = m->hh.next)
                e = liveness_sign(l, &w->view.cluster, m->id, &w->sign, late);
        return e < 0 ? e : liveness_changes(l, &w->view.cluster, ret, ret_n);
}

static void begin(Watch *w, Presence presence) {
        *w = (Watch) { .sign = healthy };
        cluster_view_machine(&w->view, "A", "", presence);
}

static void end(Watch *w) {
        liveness_reset(&w->liveness, 0);
        cluster_view_free(&w->view);
}

/* Run one tick, and apply its change to the cluster view. Return the change, or NULL. */
static const char *tick(Watch *w, bool late) {
        static char said[160];
        PresenceChange *changes;
        size_t n;

        assert_int_equal(tick_all(w, &w->liveness, late, &changes, &n), 0);
        assert_true(n <= 1);
        said[0] = 0;
        if (n == 1) {
                PresenceRecord record = { .presence = changes[0].presence,
                                          .since_ms = w->view.cluster.now_ms };
                _cleanup_text_ Text t = {};
                char key[128];

                w->away_ms = changes[0].away_ms;

                snprintf(said, sizeof(said), "%s: %s", presence_to_string(changes[0].presence),
                         message_of(&changes[0].verdict));
                record.verdict = changes[0].verdict;
                stored_presence_write(&t, &record);
                snprintf(key, sizeof(key), "/_fleet/machine/%s/presence", changes[0].machine);
                cluster_view_put(&w->view, key, t.chars);
        }
        free(changes);
        w->view.cluster.now_ms += LIVENESS_TICK_MS;
        return n == 1 ? said : NULL;
}

/* Run ticks until a change is returned, at most 'max'. Return their number, 0 for none. */
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

static void assert_change(Watch *w, LivenessSign sign, unsigned after, const char *expected) {
        const char *said = NULL;

        assert_int_equal(ticks_until(w, sign, after + 5, &said), after);
        assert_string_equal(said, expected);
}

static void assert_no_change(Watch *w, LivenessSign sign, unsigned ticks) {
        const char *said = NULL;

        if (ticks_until(w, sign, ticks, &said) > 0)
                fail_msg("said: %s", said);
}

static void a_host_that_sends_heartbeats_stays_up(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, healthy, 100);
}

static void a_new_host_is_up_with_its_first_heartbeat_and_has_no_presence_before(void **state) {
        _cleanup_(end) Watch w = {};
        char key[128], id[MACHINE_ID_SIZE];

        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, "A"));
        cluster_view_put(&w.view, key, "{\"raftId\":2,\"peer\":\"10.0.0.1:2380\"}");
        assert_no_change(&w, silent, 20);
        assert_change(&w, healthy, 1, "up: ");
}

static void a_host_with_a_silent_kernel_is_lost_after_six_ticks(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, healthy, 3);
        assert_no_change(&w, hung, 2); /* the last sign of the kernel may be a second old */
        assert_change(&w, silent, 4, "lost: no message from its fleetd or its kernel");
        assert_no_change(&w, silent, 100);
        assert_no_change(&w, closed, 100); /* a sign of the kernel alone does not end the loss */
        assert_change(&w, healthy, 1, "up: ");
}

static void a_heartbeat_begins_a_new_period(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        for (unsigned i = 0; i < 10; i++) {
                assert_no_change(&w, silent, 5);
                assert_no_change(&w, healthy, 1);
        }
}

static void short_silences_do_not_add_up_a_daemon_that_then_hangs_is_away(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        for (unsigned i = 0; i < 3; i++) {
                assert_no_change(&w, silent, 2);
                assert_no_change(&w, healthy, 1);
        }
        assert_change(&w, hung, 6, "away: its fleetd does not answer, its kernel does");
}

/* Its writer may exclude the machine from placement: a sign of life does not overwrite it. */
static void an_unreadable_presence_is_not_overwritten(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        cluster_view_unreadable(&w.view, LAYOUT_PRESENCE, NULL, "A");
        assert_no_change(&w, healthy, 10);
        assert_no_change(&w, silent, 200);
        cluster_view_presence(&w.view, "A", PRESENCE_LOST);
        assert_change(&w, healthy, 1, "up: ");
}

static void a_closed_session_is_away_and_lost_after_its_limit(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, closed, 1, "away: its fleetd lost its session");
        assert_change(&w, closed, 60, "lost: its fleetd lost its session, and has been away for too long");
}

static void a_hung_daemon_is_away_after_six_ticks_and_lost_after_its_limit(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, hung, 6, "away: its fleetd does not answer, its kernel does");
        assert_change(&w, hung, 120, "lost: its fleetd does not answer, and has been away for too long");
}

/* After a power cut, the last answer of the kernel is of the time of the last heartbeat: the host is lost,
 * and was never away with a kernel that answers. */
static void a_kernel_that_stops_with_the_heartbeats_does_not_count_as_answering(void **state) {
        static const LivenessSign cut = { .session = true };
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, healthy, 3);
        assert_no_change(&w, hung, 3); /* the last sign of the kernel may be 1.5 s old */
        assert_change(&w, cut, 4, "lost: no message from its fleetd or its kernel");
}

/* A replica that reaches another one and not the leader runs its units, and gets no others. */
static void a_replica_without_its_leader_is_away_after_ten_seconds_and_never_lost(void **state) {
        const LivenessSign indirect = {
                .heartbeat = true, .indirect = true, .kernel = true, .session = true
        };
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, indirect, 19);
        assert_no_change(&w, healthy, 1);
        assert_change(&w, indirect, 20, "away: it does not reach the leader, but another replica");
        assert_no_change(&w, indirect, 3000);
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, indirect, 20, "away: it does not reach the leader, but another replica");
        assert_change(&w, silent, 6, "lost: no message from its fleetd or its kernel");
        assert_change(&w, indirect, 1, "away: it does not reach the leader, but another replica");
        assert_change(&w, healthy, 1, "up: ");
}

static void an_announced_stop_has_ten_minutes(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, stopped, 1, "away: its fleetd was stopped");
        assert_no_change(&w, stopped, 1199);
        assert_change(&w, stopped, 1, "lost: its fleetd was stopped, and has been away for too long");
}

static void a_lost_host_has_the_time_at_which_its_absence_began(void **state) {
        const LivenessSign indirect = {
                .heartbeat = true, .indirect = true, .kernel = true, .session = true
        };
        uint64_t away_ms;
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        w.view.cluster.now_ms = 7000;
        assert_change(&w, stopped, 1, "away: its fleetd was stopped");
        assert_int_equal(w.away_ms, 0);
        away_ms = w.view.cluster.now_ms - LIVENESS_TICK_MS;
        assert_change(&w, stopped, 1200, "lost: its fleetd was stopped, and has been away for too long");
        assert_int_equal(w.away_ms, away_ms);

        /* Its host was switched off meanwhile. */
        assert_change(&w, healthy, 1, "up: ");
        assert_int_equal(w.away_ms, 0);
        away_ms = w.view.cluster.now_ms;
        assert_change(&w, stopped, 1, "away: its fleetd was stopped");
        assert_change(&w, silent, 5, "lost: no message from its fleetd or its kernel");
        assert_int_equal(w.away_ms, away_ms);

        /* Without an absence before the loss; with contact to another replica until then. */
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, silent, 6, "lost: no message from its fleetd or its kernel");
        assert_int_equal(w.away_ms, 0);
        assert_change(&w, indirect, 1, "away: it does not reach the leader, but another replica");
        assert_change(&w, silent, 6, "lost: no message from its fleetd or its kernel");
        assert_int_equal(w.away_ms, 0);
}

static void a_daemon_that_returns_in_time_is_up_again(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, stopped, 1, "away: its fleetd was stopped");
        assert_no_change(&w, stopped, 500);
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, closed, 1, "away: its fleetd lost its session");
        assert_change(&w, closed, 60,
                      "lost: its fleetd lost its session, and has been away for too long"); /* counted from
                                                                                                 zero */
}

static void a_host_that_is_away_keeps_the_limit_of_its_first_cause(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, hung, 6, "away: its fleetd does not answer, its kernel does");
        assert_no_change(&w, hung, 30);
        assert_change(&w, closed, 90, "lost: its fleetd does not answer, and has been away for too long");
}

static void a_host_that_was_away_under_the_previous_leader_has_a_whole_period(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, closed, 1, "away: its fleetd lost its session");
        assert_change(&w, closed, 60, "lost: its fleetd lost its session, and has been away for too long");
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, closed, 1, "away: its fleetd lost its session");
        w.view.cluster.now_ms += 3600000;
        liveness_reset(&w.liveness, 0);
        assert_change(&w, closed, 7, "lost: its fleetd lost its session, and has been away for too long");
}

static void changes_of_one_tick_are_sorted_by_machine(void **state) {
        static const char *const names[] = { "B", "C", "A" };
        _cleanup_(end) Watch w = { .sign = silent };
        PresenceChange *changes;
        size_t n;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                cluster_view_machine(&w.view, names[i], "", PRESENCE_UP);
        for (unsigned i = 1; i <= 6; i++) {
                assert_int_equal(tick_all(&w, &w.liveness, false, &changes, &n), 0);
                assert_int_equal(n, i == 6 ? ELEMENTS(names) : 0);
                for (size_t k = 0; k < n; k++)
                        assert_int_equal(changes[k].machine[0], 'a' + (int) k);
                free(changes);
        }
}

/* Only a token brings a host with a certificate back: a heartbeat from before its removal does not. */
static void a_removed_host_is_not_up_again_by_a_late_heartbeat(void **state) {
        _cleanup_(end) Watch w;

        w = (Watch) { .sign = healthy };
        cluster_view_put(&w.view, "/_fleet/cluster/removed/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                         "{\"pin\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}");
        assert_null(tick(&w, false));
        /* A host without a certificate returns by itself. */
        cluster_view_put(&w.view, "/_fleet/cluster/removed/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{}");
        assert_non_null(tick(&w, false));
}

static void a_machine_that_leaves_the_cluster_view_is_removed(void **state) {
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, silent, 5);
        cluster_view_remove(&w.view, layout_key(key, LAYOUT_PRESENCE, NULL, cluster_view_id(id, "A")));
        cluster_view_remove(&w.view, layout_key(key, LAYOUT_FACTS, NULL, id));
        assert_null(cluster_machine(&w.view.cluster, id));
        liveness_remove(&w.liveness, id);
        cluster_view_machine(&w.view, "A", "", PRESENCE_UP);
        assert_change(&w, silent, 6, "lost: no message from its fleetd or its kernel");
}

/* Its session is new, and its first heartbeat is due: the wait may end with its report. */
static void a_host_that_has_just_reported_after_a_restore_has_a_whole_period(void **state) {
        char key[128], id[MACHINE_ID_SIZE];
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        w.view.cluster.lineage = 0xab;
        cluster_view_put(&w.view, "/_fleet/cluster/adopting", "1000");
        assert_no_change(&w, silent, 5);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(id, "A"));
        cluster_view_put(&w.view, key, "00000000000000ab");
        assert_no_change(&w, silent, 5);
        assert_no_change(&w, healthy, 5);
}

static void a_presence_key_of_index_1_is_a_presence(void **state) {
        _cleanup_(end) Watch w = { .sign = healthy };
        char id[MACHINE_ID_SIZE];

        cluster_view_presence(&w.view, "A", PRESENCE_UP);
        assert_int_equal(cluster_machine(&w.view.cluster, cluster_view_id(id, "A"))->presence_index, 1);
        assert_no_change(&w, healthy, 3);
}

/* The cluster view does not show its return yet. */
static void a_silent_host_that_has_just_returned_is_not_reported_up_again(void **state) {
        PresenceChange *changes;
        size_t n;
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_AWAY);
        for (unsigned i = 1; i <= 10; i++) {
                w.sign = i == 1 ? healthy : hung;
                assert_int_equal(tick_all(&w, &w.liveness, false, &changes, &n), 0);
                free(changes);
                assert_int_equal(n, i == 1);
        }
}

static void a_host_whose_daemon_was_stopped_and_whose_kernel_falls_silent_is_lost(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, stopped, 1, "away: its fleetd was stopped");
        assert_no_change(&w, stopped, 20);
        assert_change(&w, (LivenessSign) { .stopped = true }, 4,
                      "lost: no message from its fleetd or its kernel");
}

static void a_shutdown_is_known_at_once(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, shut_down, 1, "left: it shut down");
        assert_no_change(&w, shut_down, 100);
        assert_change(&w, healthy, 1, "up: ");
}

static void a_host_that_has_not_reported_since_a_restore_is_lost_for_that_reason(void **state) {
        char key[128], id[MACHINE_ID_SIZE];
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        w.view.cluster.lineage = 0xab;
        cluster_view_put(&w.view, "/_fleet/cluster/adopting", "1000");
        assert_change(&w, silent, 6, "lost: it has not reported since the cluster was recovered or restored");
        assert_change(&w, healthy, 1, "up: ");
        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(id, "A"));
        cluster_view_put(&w.view, key, "00000000000000ab");
        assert_change(&w, silent, 6, "lost: no message from its fleetd or its kernel");
}

static void late_ticks_do_not_count(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        w.sign = silent;
        for (unsigned i = 0; i < 100; i++)
                assert_null(tick(&w, true));
        assert_change(&w, silent, 6, "lost: no message from its fleetd or its kernel");

        /* A heartbeat in a late tick counts. */
        w.sign = healthy;
        assert_string_equal(tick(&w, true), "up: ");
}

static void a_new_leader_counts_a_whole_period_itself(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, silent, 5);
        liveness_reset(&w.liveness, 0);
        assert_change(&w, silent, 6, "lost: no message from its fleetd or its kernel");
}

/* The hosts had contact with the former leader until then, and all of them have half a period left. */
static void a_new_leader_begins_at_the_last_contact_of_the_former_one(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        liveness_reset(&w.liveness, 2 * LIVENESS_TICK_MS);
        assert_change(&w, silent, 4, "lost: no message from its fleetd or its kernel");
        assert_change(&w, healthy, 1, "up: ");
        liveness_reset(&w.liveness, 3600000);
        assert_change(&w, silent, 4, "lost: no message from its fleetd or its kernel"); /* its kernel */
        assert_change(&w, healthy, 1, "up: ");
        liveness_reset(&w.liveness, 3600000);
        assert_change(&w, hung, 3, "away: its fleetd does not answer, its kernel does");
}

static const LivenessSign unattached = { .unattached = true };

static void an_unattached_host_is_lost_after_its_grace(void **state) {
        const LivenessSign moving = { .unattached = true, .moving = true };
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, moving, 40);
        assert_change(&w, unattached, 1, "lost: no message from its fleetd or its kernel");
        assert_no_change(&w, moving, 40);
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, unattached, 6, "lost: no message from its fleetd or its kernel");
}

static void an_unattached_host_that_ended_its_session_is_away(void **state) {
        const LivenessSign ended = { .unattached = true, .kernel = true },
                           stops = { .unattached = true, .kernel = true, .stopped = true };
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, ended, 1, "away: its fleetd lost its session");
        assert_no_change(&w, unattached, 50); /* a new leader does not know why */
        assert_change(&w, unattached, 10,
                      "lost: its fleetd lost its session, and has been away for too long");
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, stops, 1, "away: its fleetd was stopped");
        liveness_reset(&w.liveness, 3600000);
        assert_no_change(&w, unattached, 1190);
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, hung, 6, "away: its fleetd does not answer, its kernel does");
        assert_change(&w, unattached, 4, "lost: no message from its fleetd or its kernel");
}

/* The replica of the session in use has ended. */
static void a_restart_begins_a_whole_period(void **state) {
        const LivenessSign restart = { .unattached = true, .restart = true };
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, silent, 5);
        w.sign = restart;
        assert_null(tick(&w, true));
        assert_change(&w, unattached, 6, "lost: no message from its fleetd or its kernel");
}

/* An idle session has a heartbeat in two seconds: it is silent for five ticks when that is noticed. */
static void silence_of_several_ticks_counts_as_such(void **state) {
        const LivenessSign idle = { .session = true, .ticks = 5 };
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_no_change(&w, idle, 1);
        assert_change(&w, idle, 1, "lost: no message from its fleetd or its kernel");
}

/* A host that joins has a session before its keys are in the view. */
static void a_host_is_up_as_soon_as_it_is_in_the_view(void **state) {
        _cleanup_(end) Watch w = { .sign = healthy };
        PresenceChange *changes;
        char id[MACHINE_ID_SIZE];
        size_t n;

        cluster_view_id(id, "A");
        assert_int_equal(liveness_sign(&w.liveness, &w.view.cluster, id, &healthy, false), 0);
        assert_int_equal(liveness_changes(&w.liveness, &w.view.cluster, &changes, &n), 0);
        assert_int_equal(n, 0);
        free(changes);
        cluster_view_machine(&w.view, "A", "", PRESENCE_LOST);
        assert_int_equal(liveness_changes(&w.liveness, &w.view.cluster, &changes, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(changes[0].presence, PRESENCE_UP);
        free(changes);
}

/* One transaction takes at most so many; the rest follows with the next one. */
static void many_changes_are_several_transactions(void **state) {
        enum { HOSTS = LIVENESS_CHANGES_MAX + 100 };
        _cleanup_(end) Watch w = { .sign = shut_down };
        PresenceChange *changes;
        size_t n;

        for (unsigned i = 0; i < HOSTS; i++) {
                char name[8];

                snprintf(name, sizeof(name), "A%u", i);
                cluster_view_machine(&w.view, name, "", PRESENCE_UP);
        }
        assert_int_equal(tick_all(&w, &w.liveness, false, &changes, &n), 0);
        assert_int_equal(n, LIVENESS_CHANGES_MAX);
        free(changes);
        assert_int_equal(liveness_changes(&w.liveness, &w.view.cluster, &changes, &n), 0);
        assert_int_equal(n, HOSTS - LIVENESS_CHANGES_MAX);
        free(changes);
}

static void a_new_leader_reads_why_and_since_when_a_host_is_away(void **state) {
        _cleanup_(end) Watch w;

        begin(&w, PRESENCE_UP);
        assert_change(&w, stopped, 1, "away: its fleetd was stopped");
        assert_no_change(&w, stopped, 1000);
        liveness_reset(&w.liveness, 0);
        assert_no_change(&w, closed, 150); /* without an announcement to this leader */
        assert_change(&w, closed, 50, "lost: its fleetd was stopped, and has been away for too long");

        /* However long it was away, it has a whole period for a heartbeat. */
        assert_change(&w, healthy, 1, "up: ");
        assert_change(&w, closed, 1, "away: its fleetd lost its session");
        w.view.cluster.now_ms += 3600000;
        liveness_reset(&w.liveness, 0);
        assert_change(&w, closed, 7, "lost: its fleetd lost its session, and has been away for too long");
}

static void a_change_is_not_repeated_until_the_cluster_view_can_have_it(void **state) {
        _cleanup_(end) Watch w;
        PresenceChange *changes;
        size_t n;

        begin(&w, PRESENCE_UP);
        w.sign = silent;
        for (unsigned i = 1; i <= 14; i++) {
                assert_int_equal(tick_all(&w, &w.liveness, false, &changes, &n), 0);
                free(changes);
                assert_int_equal(n, i == 6 || i == 10 || i == 14); /* repeated when the cluster view does not
                                                                      show it for two seconds */
        }
}

static int watch_twice(void *userdata) {
        Watch *w = userdata;
        Liveness l = {};
        PresenceChange *changes = NULL;
        size_t n = 99;
        int r = 0;

        for (unsigned i = 0; i < 2 && r == 0; i++) {
                r = tick_all(w, &l, false, &changes, &n);
                if (r == 0) {
                        assert_non_null(changes);
                        assert_int_equal(n, 0);
                }
                free(changes);
                changes = NULL;
        }
        liveness_reset(&l, 0);
        return r;
}

static void without_memory_no_change_is_returned(void **state) {
        Watch w = { .sign = healthy };

        cluster_view_machine(&w.view, "A", "", PRESENCE_UP);
        cluster_view_machine(&w.view, "B", "", PRESENCE_UP);
        assert_true(alloc_fail_each("liveness", watch_twice, &w, 1) >= 6);
        cluster_view_free(&w.view);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_host_that_sends_heartbeats_stays_up),
                cmocka_unit_test(a_new_host_is_up_with_its_first_heartbeat_and_has_no_presence_before),
                cmocka_unit_test(a_host_with_a_silent_kernel_is_lost_after_six_ticks),
                cmocka_unit_test(a_heartbeat_begins_a_new_period),
                cmocka_unit_test(short_silences_do_not_add_up_a_daemon_that_then_hangs_is_away),
                cmocka_unit_test(an_unreadable_presence_is_not_overwritten),
                cmocka_unit_test(a_closed_session_is_away_and_lost_after_its_limit),
                cmocka_unit_test(a_hung_daemon_is_away_after_six_ticks_and_lost_after_its_limit),
                cmocka_unit_test(a_kernel_that_stops_with_the_heartbeats_does_not_count_as_answering),
                cmocka_unit_test(a_replica_without_its_leader_is_away_after_ten_seconds_and_never_lost),
                cmocka_unit_test(an_announced_stop_has_ten_minutes),
                cmocka_unit_test(a_lost_host_has_the_time_at_which_its_absence_began),
                cmocka_unit_test(a_daemon_that_returns_in_time_is_up_again),
                cmocka_unit_test(a_host_that_is_away_keeps_the_limit_of_its_first_cause),
                cmocka_unit_test(a_host_that_was_away_under_the_previous_leader_has_a_whole_period),
                cmocka_unit_test(changes_of_one_tick_are_sorted_by_machine),
                cmocka_unit_test(a_machine_that_leaves_the_cluster_view_is_removed),
                cmocka_unit_test(a_removed_host_is_not_up_again_by_a_late_heartbeat),
                cmocka_unit_test(a_presence_key_of_index_1_is_a_presence),
                cmocka_unit_test(a_silent_host_that_has_just_returned_is_not_reported_up_again),
                cmocka_unit_test(a_host_whose_daemon_was_stopped_and_whose_kernel_falls_silent_is_lost),
                cmocka_unit_test(a_shutdown_is_known_at_once),
                cmocka_unit_test(a_host_that_has_not_reported_since_a_restore_is_lost_for_that_reason),
                cmocka_unit_test(a_host_that_has_just_reported_after_a_restore_has_a_whole_period),
                cmocka_unit_test(late_ticks_do_not_count),
                cmocka_unit_test(a_new_leader_counts_a_whole_period_itself),
                cmocka_unit_test(a_new_leader_begins_at_the_last_contact_of_the_former_one),
                cmocka_unit_test(an_unattached_host_is_lost_after_its_grace),
                cmocka_unit_test(an_unattached_host_that_ended_its_session_is_away),
                cmocka_unit_test(a_restart_begins_a_whole_period),
                cmocka_unit_test(silence_of_several_ticks_counts_as_such),
                cmocka_unit_test(a_host_is_up_as_soon_as_it_is_in_the_view),
                cmocka_unit_test(many_changes_are_several_transactions),
                cmocka_unit_test(a_new_leader_reads_why_and_since_when_a_host_is_away),
                cmocka_unit_test(a_change_is_not_repeated_until_the_cluster_view_can_have_it),
                cmocka_unit_test(without_memory_no_change_is_returned),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
