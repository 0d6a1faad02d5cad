#include <time.h>
#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/text.h"
#include "fleetd/sessions/reports.h"

enum { HOSTS = 50, REPLICAS = 4, TICK_MS = 500, TERM = 7 };

/* A world of replicas and a leader. The leader counts for each host as liveness does. */
typedef struct Sessions {
        bool open[REPLICAS], in_use[REPLICAS], silent[REPLICAS];
        bool alone;       /* it has a replica, without contact with the leader */
        bool rare;        /* its heartbeats come each second tick */
        LivenessSign end; /* of a session that is not open */
} Sessions;

typedef struct World {
        Reporter reporters[REPLICAS];
        Reports reports;
        Sessions hosts[HOSTS];
        uint64_t now_ms, session;
        unsigned replica;         /* that writes now */
        LivenessSign last[HOSTS]; /* sign that counted last */
        unsigned silent[HOSTS];   /* ticks that count, since the last contact */
        unsigned told[HOSTS];     /* signs in this tick */
        bool forget;              /* hosts without a session are not expected any more */
} World;

static const char *const names[REPLICAS] = { "a", "b", "c", "d" };

static const char *host_id(char ret[static MACHINE_ID_SIZE], unsigned host) {
        snprintf(ret, MACHINE_ID_SIZE, "%032x", host + 1);
        return ret;
}

static unsigned host_of(const char *id) {
        return (unsigned) strtoul(id, NULL, 16) - 1;
}

static LivenessSign look(void *userdata, const char *id) {
        const World *w = userdata;
        const Sessions *h = &w->hosts[host_of(id) % HOSTS];

        if (!h->open[w->replica])
                return h->end;
        return (LivenessSign) { .session = true, .kernel = !h->silent[w->replica] };
}

static bool on_sign(void *userdata, const char *id, const LivenessSign *sign, bool late) {
        World *w = userdata;
        unsigned i = host_of(id);

        if (i >= HOSTS)
                return true;
        if (sign->restart || sign->heartbeat)
                w->silent[i] = 0;
        if (!sign->heartbeat && !late)
                w->silent[i] = MAX(w->silent[i] + 1, sign->ticks);
        w->last[i] = *sign;
        w->told[i]++;
        return !w->forget;
}

static void begin(World *w) {
        *w = (World) { .now_ms = 1000, .session = 5 };
        reports_begin(&w->reports, on_sign, w);
}

static void end(World *w) {
        for (unsigned r = 0; r < REPLICAS; r++)
                reporter_done(&w->reporters[r]);
        reports_done(&w->reports);
}

static uint32_t slot_of(World *w, unsigned replica, const char *id) {
        uint32_t slot = UINT32_MAX;

        assert_int_equal(reporter_slot(&w->reporters[replica], id, 1, &slot), 0);
        return slot;
}

static void heartbeat(World *w, unsigned host, unsigned replica) {
        char id[MACHINE_ID_SIZE];

        reporter_heartbeat(&w->reporters[replica], slot_of(w, replica, host_id(id, host)),
                           (w->hosts[host].in_use[replica] ? SIGN_IN_USE : 0) |
                                   (w->hosts[host].alone ? SIGN_ALONE : 0) |
                                   (w->hosts[host].rare ? SIGN_RARE : 0));
}

static void write_report(World *w, unsigned replica, bool kept, Writer *ret) {
        const ReportHead head = { .session = w->session, .term = TERM, .kept = kept };

        w->replica = replica;
        reporter_write(&w->reporters[replica], &head, look, w, ret);
        assert_int_equal(ret->error, 0);
}

static int take(World *w, unsigned replica, const Writer *frame) {
        return reports_take(&w->reports, names[replica], w->session, TERM, w->now_ms, frame->bytes,
                            frame->size);
}

/* Send heartbeats on each open session that is not silent, and report. */
static void report(World *w, unsigned replica, bool kept) {
        _cleanup_writer_ Writer frame = {};

        for (unsigned h = 0; h < HOSTS; h++)
                if (w->hosts[h].open[replica] && !w->hosts[h].silent[replica])
                        heartbeat(w, h, replica);
        write_report(w, replica, kept, &frame);
        assert_int_equal(take(w, replica, &frame), 0);
}

/* A tick of the replicas in the set, and of the leader. */
static void tick(World *w, unsigned replicas, bool kept) {
        memset(w->told, 0, sizeof(w->told));
        for (unsigned r = 0; r < REPLICAS; r++)
                if (replicas & 1u << r)
                        report(w, r, kept);
        reports_tick(&w->reports, w->now_ms, false);
        w->now_ms += TICK_MS;
}

static void open_session(World *w, unsigned host, unsigned replica, bool in_use) {
        w->hosts[host].open[replica] = true;
        w->hosts[host].in_use[replica] = in_use;
        w->hosts[host].silent[replica] = false;
}

static void close_session(World *w, unsigned host, unsigned replica, LivenessSign end) {
        char id[MACHINE_ID_SIZE];

        w->hosts[host].open[replica] = false;
        w->hosts[host].end = end;
        reporter_changed(&w->reporters[replica], host_id(id, host));
}

enum { ALL = 7, A = 1, B = 2, C = 4, D = 8 };

/* Hosts come, go and are silent at random. By the changes alone, the leader has the count of the replica. */
static void the_leader_counts_as_the_replica_in_use(void **state) {
        unsigned silent[HOSTS] = {};
        Random random;
        _cleanup_(end) World w;

        begin(&w);
        random_seed(&random, 1);
        for (unsigned t = 0; t < 3000; t++) {
                for (unsigned h = 0; h < HOSTS; h++) {
                        Sessions *s = &w.hosts[h];
                        unsigned r = h % 3;
                        bool opens = !s->open[r] && random_below(&random, 5) == 0;

                        if (s->open[r] && random_below(&random, 20) == 0)
                                close_session(&w, h, r, (LivenessSign) {});
                        else if (opens)
                                open_session(&w, h, r, true);
                        s->silent[r] = !opens && random_below(&random, 3) > 0;
                        silent[h] = s->silent[r] ? silent[h] + 1 : 0;
                        if (!s->open[r])
                                silent[h] = 0;
                }
                w.session += random_below(&random, 100) == 0;
                tick(&w, ALL, true);
                for (unsigned h = 0; h < HOSTS; h++) {
                        char id[MACHINE_ID_SIZE];
                        LivenessSign sign;
                        bool open = w.hosts[h].open[h % 3];

                        assert_int_equal(reports_sign(&w.reports, host_id(id, h), &sign), open);
                        assert_true(!open || w.silent[h] == silent[h]);
                        assert_true(!open || sign.heartbeat == (silent[h] == 0));
                }
        }
}

static void a_host_in_contact_is_in_no_report(void **state) {
        _cleanup_writer_ Writer first = {}, second = {};
        _cleanup_(end) World w;

        begin(&w);
        for (unsigned h = 0; h < HOSTS; h++) {
                open_session(&w, h, 0, h % 2);
                heartbeat(&w, h, 0);
        }
        write_report(&w, 0, true, &first);
        for (unsigned h = 0; h < HOSTS; h++)
                heartbeat(&w, h, 0);
        write_report(&w, 0, true, &second);
        assert_true(first.size > HOSTS * 17);
        assert_true(second.size < 17);
}

static void the_replica_in_use_decides_as_long_as_it_reports(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, false);
        tick(&w, ALL, true);
        assert_true(w.last[0].heartbeat);
        w.hosts[0].silent[0] = true;
        for (unsigned i = 1; i <= 4; i++) {
                tick(&w, ALL, true);
                assert_int_equal(w.silent[0], i); /* the idle session has contact */
                assert_int_equal(w.told[0], 1);
        }
        for (unsigned i = 0; i < 3; i++)
                tick(&w, B | C, true);
        assert_int_equal(w.silent[0], 0); /* it has not reported for 1.5 s: a whole period */
        assert_true(w.last[0].heartbeat);
}

static void the_idle_session_counts_when_it_is_silent_for_2_5_s(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, false);
        tick(&w, ALL, true);
        w.hosts[0].silent[0] = w.hosts[0].silent[1] = true;
        for (unsigned i = 0; i < 4; i++)
                tick(&w, B | C, true);
        assert_int_equal(w.silent[0], 0);
        assert_true(w.reports.grace_ticks > 0);
        tick(&w, B | C, true);
        assert_int_equal(w.silent[0], REPORT_IDLE_TICKS);
        assert_true(w.last[0].moving);
        tick(&w, B | C, true);
        assert_int_equal(w.silent[0], REPORT_IDLE_TICKS + 1);
}

/* The former replica of a host that has moved does not know that, and no tick counts twice. */
static void a_former_session_in_use_does_not_count_against_contact(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        tick(&w, ALL, true);
        w.hosts[0].silent[0] = true;
        tick(&w, ALL, true);
        assert_int_equal(w.silent[0], 1);
        open_session(&w, 0, 1, true);
        for (unsigned i = 0; i < 10; i++) {
                tick(&w, ALL, true);
                assert_int_equal(w.silent[0], 0);
        }
        w.hosts[0].silent[1] = true;
        for (unsigned i = 1; i < 10; i++) {
                tick(&w, ALL, true);
                assert_int_equal(w.silent[0], i);
        }
}

/* Two heartbeats arrive between two reports, of which the first one says that the host has moved here. */
static void a_move_is_reported_also_after_another_heartbeat(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, false);
        tick(&w, ALL, true);
        w.hosts[0].silent[0] = true;
        w.hosts[0].in_use[1] = true;
        heartbeat(&w, 0, 1);
        for (unsigned i = 0; i < 10; i++) {
                tick(&w, ALL, true);
                assert_int_equal(w.silent[0], 0);
        }
}

static void a_tick_that_was_not_kept_counts_nothing(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        tick(&w, ALL, true);
        w.hosts[0].silent[0] = true;
        tick(&w, ALL, true);
        for (unsigned i = 0; i < 20; i++)
                tick(&w, ALL, false);
        assert_int_equal(w.silent[0], 1); /* and it was no contact */
        assert_false(w.last[0].heartbeat);
        tick(&w, ALL, true);
        assert_int_equal(w.silent[0], 2);
}

static void a_late_tick_of_the_leader_ends_no_replica(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        tick(&w, A, true);
        w.now_ms += 5000;
        reports_tick(&w.reports, w.now_ms, true);
        assert_true(w.last[0].session);
        assert_int_equal(w.reports.n_unattached, 0);
        reports_tick(&w.reports, w.now_ms + REPORT_VALID_MS, false);
        assert_int_equal(w.reports.n_unattached, 1);
}

/* A host is not attached any more: the sign at the end of its session tells why, also to a new leader. */
static void the_end_of_the_last_session_has_a_cause(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, false);
        tick(&w, ALL, true);
        close_session(&w, 0, 0, (LivenessSign) { .kernel = true, .stopped = true });
        tick(&w, ALL, true);
        assert_true(w.last[0].session && w.last[0].heartbeat); /* the idle one is open */
        close_session(&w, 0, 1, (LivenessSign) { .kernel = true, .stopped = true });
        tick(&w, ALL, true);
        assert_true(w.last[0].unattached && w.last[0].stopped && w.last[0].kernel);

        reports_begin(&w.reports, on_sign, &w);
        w.session++;
        assert_int_equal(reports_expect(&w.reports, "00000000000000000000000000000001"), 0);
        tick(&w, ALL, true);
        assert_true(w.last[0].unattached && w.last[0].stopped);
        for (unsigned i = 0; i < REPORT_ENDED_TICKS; i++)
                tick(&w, ALL, true);
        assert_null(w.reporters[0].hosts);
        open_session(&w, 0, 2, true);
        tick(&w, ALL, true);
        assert_true(w.last[0].heartbeat);
        close_session(&w, 0, 2, (LivenessSign) {});
        tick(&w, ALL, true);
        assert_true(w.last[0].unattached && !w.last[0].stopped && !w.last[0].kernel);
}

/* A host has ended a session, to use another one: to a new leader, that is no later news than the end of the
 * other one; the replicas report in any order. */
static void an_end_without_a_sign_of_the_kernel_replaces_no_other(void **state) {
        for (unsigned first = 0; first < 2; first++) {
                _cleanup_(end) World w;

                begin(&w);
                open_session(&w, 0, 0, false);
                open_session(&w, 0, 1, true);
                tick(&w, ALL, true);
                close_session(&w, 0, 0, (LivenessSign) {});
                tick(&w, A, true);
                close_session(&w, 0, 1, (LivenessSign) { .kernel = true });
                tick(&w, B, true);

                reports_begin(&w.reports, on_sign, &w);
                w.session++;
                assert_int_equal(reports_expect(&w.reports, "00000000000000000000000000000001"), 0);
                tick(&w, first == 0 ? A : B, true);
                tick(&w, first == 0 ? B : A, true);
                assert_true(w.last[0].unattached && w.last[0].kernel);
        }
}

/* The replica that the host uses now has reported nothing about it yet. The former one reports only that the
 * session to it has ended. */
static void a_daemon_that_stops_just_after_a_move_is_stopped(void **state) {
        for (unsigned first = 0; first < 2; first++) {
                _cleanup_(end) World w;

                begin(&w);
                open_session(&w, 0, 0, true);
                tick(&w, ALL, true);
                open_session(&w, 0, 1, true);
                heartbeat(&w, 0, 1);
                for (unsigned i = 0; i < 2; i++) {
                        bool stops = (i == 0) == (first == 0);

                        close_session(&w, 0, stops, (LivenessSign) { .kernel = stops, .stopped = stops });
                        tick(&w, stops ? B : A, true);
                }
                assert_true(w.last[0].unattached && w.last[0].stopped);
        }
}

/* The end of a session, of which the kernel gave a sign, is that of the daemon if all others end with it. */
static void the_sessions_of_a_daemon_that_ends_end_together(void **state) {
        for (unsigned ticks = 0; ticks < 10; ticks++) {
                _cleanup_(end) World w;

                begin(&w);
                open_session(&w, 0, 0, true);
                tick(&w, ALL, true);
                open_session(&w, 0, 1, true);
                heartbeat(&w, 0, 1);
                close_session(&w, 0, 1, (LivenessSign) { .kernel = true });
                for (unsigned i = 0; i <= ticks; i++)
                        tick(&w, ALL, true);
                close_session(&w, 0, 0, (LivenessSign) {});
                tick(&w, ALL, true);
                assert_true(w.last[0].unattached);
                assert_int_equal(w.last[0].kernel, ticks < REPORT_ENDS_TICKS);
        }
}

static void a_host_without_a_session_that_is_not_expected_is_forgotten(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        tick(&w, ALL, true);
        close_session(&w, 0, 0, (LivenessSign) {});
        tick(&w, ALL, true);
        assert_int_equal(w.reports.n_unattached, 1);
        w.forget = true;
        tick(&w, ALL, true);
        assert_int_equal(w.reports.n_unattached, 0);
        assert_null(w.reports.hosts);
}

/* A removed host is not in contact again by the session that it had. */
static void a_forgotten_host_is_reported_with_its_next_session(void **state) {
        char id[MACHINE_ID_SIZE];
        LivenessSign sign;
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        tick(&w, ALL, true);
        reports_forget(&w.reports, host_id(id, 0));
        for (unsigned i = 0; i < 5; i++)
                tick(&w, ALL, true);
        assert_false(reports_sign(&w.reports, id, &sign));
        close_session(&w, 0, 0, (LivenessSign) {});
        tick(&w, ALL, true);
        open_session(&w, 0, 0, true);
        tick(&w, ALL, true);
        assert_true(reports_sign(&w.reports, id, &sign) && sign.heartbeat);
}

/* All hosts are unattached when a term begins, and those of a replica when it ends. They have the time in
 * which the replicas that report can admit them all. */
static void the_grace_is_the_time_to_admit_all_unattached_hosts(void **state) {
        static const struct {
                unsigned hosts, replicas, ticks;
        } cases[] = { { 0, 1, 6 },    { 1, 1, 6 },       { 10000, 1, 46 }, { 10000, 3, 19 },
                      { 1000, 2, 8 }, { 28500, 1, 120 }, { 60000, 1, 120 } };
        World w;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                begin(&w);
                for (unsigned h = 0; h < cases[i].hosts; h++) {
                        char id[MACHINE_ID_SIZE];

                        assert_int_equal(reports_expect(&w.reports, host_id(id, h)), 0);
                }
                tick(&w, (1u << cases[i].replicas) - 1, true);
                assert_int_equal(w.reports.grace_ticks, cases[i].ticks);
                end(&w);
        }
}

static void the_grace_ends_when_the_hosts_are_attached(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        for (unsigned h = 0; h < 5000; h++) {
                char id[MACHINE_ID_SIZE];

                assert_int_equal(reports_expect(&w.reports, host_id(id, h)), 0);
        }
        tick(&w, A, true);
        assert_int_equal(w.reports.grace_ticks, 26);
        tick(&w, ALL, true); /* more replicas admit more hosts */
        assert_int_equal(w.reports.grace_ticks, 12);
        for (unsigned h = HOSTS; h < 5000; h++) {
                char id[MACHINE_ID_SIZE];

                reports_forget(&w.reports, host_id(id, h));
        }
        tick(&w, ALL, true);
        assert_int_equal(w.reports.grace_ticks, 6);
        reports_tick(&w.reports, w.now_ms, true); /* a late tick counts nothing here, either */
        assert_int_equal(w.reports.grace_ticks, 6);
        for (unsigned i = 0; i < 6; i++)
                tick(&w, ALL, true);
        assert_int_equal(w.reports.grace_ticks, 0);
        assert_false(w.last[0].moving);
        for (unsigned i = 0; i < 3; i++)
                tick(&w, A | B, true);
        assert_int_equal(w.reports.grace_ticks, 6); /* the end of a replica */
}

/* Attach the hosts from 'first' on at a, which reports them. */
static void attach(World *w, unsigned first, unsigned n) {
        for (unsigned h = first; h < first + n; h++)
                open_session(w, h, 0, true);
        tick(w, A, true);
}

/* Busy replicas admit one host in a second: the others are not lost meanwhile, but a second after the last
 * one that returns. A host that goes and returns counts once. */
static void the_grace_does_not_end_while_hosts_return(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        for (unsigned h = 0; h < HOSTS; h++) {
                char id[MACHINE_ID_SIZE];

                assert_int_equal(reports_expect(&w.reports, host_id(id, h)), 0);
        }
        for (unsigned h = 0; h < 20; h++) {
                attach(&w, h, 1);
                tick(&w, A, true);
                assert_true(w.reports.grace_ticks > 0);
        }
        assert_true(w.last[49].moving);
        close_session(&w, 0, 0, (LivenessSign) {});
        tick(&w, A, true);
        attach(&w, 0, 1);
        assert_int_equal(w.reports.grace_ticks, 0);
        assert_false(w.last[49].moving);
}

/* New hosts, or hosts that were lost or shut down before. */
static void hosts_that_were_not_expected_do_not_prolong_the_grace(void **state) {
        char id[MACHINE_ID_SIZE];
        unsigned n = 0;
        _cleanup_(end) World w;

        begin(&w);
        assert_int_equal(reports_expect(&w.reports, host_id(id, 49)), 0);
        do {
                attach(&w, n, 1);
                n++;
        } while (w.reports.grace_ticks > 0 && n < 40);
        assert_int_equal(n, REPORT_GRACE_MS / TICK_MS + 1);
}

static void the_grace_of_hosts_that_return_is_bounded(void **state) {
        _cleanup_(end) World w;
        unsigned n = 0;

        begin(&w);
        for (unsigned h = 0; h < 1000; h++) {
                char id[MACHINE_ID_SIZE];

                assert_int_equal(reports_expect(&w.reports, host_id(id, h)), 0);
        }
        do {
                w.reports.returned_tick = w.reports.n_ticks;
                tick(&w, A, true);
                n++;
        } while (w.reports.grace_ticks > 0 && n < 1000);
        assert_int_equal(n, REPORT_GRACE_MAX_MS / TICK_MS + 1);
}

/* The host loses power with the replica that it used. */
static void a_silent_idle_session_counts_when_the_grace_ends_and_not_with_the_next_report(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, false);
        for (unsigned i = 0; i < 10; i++)
                tick(&w, ALL, true);
        assert_int_equal(w.reports.grace_ticks, 0);
        w.hosts[0].silent[0] = w.hosts[0].silent[1] = true;
        for (unsigned i = 0; i < 3; i++)
                tick(&w, B | C, true);
        assert_int_equal(w.reports.grace_ticks, 6);
        for (unsigned i = 0; i < 5; i++)
                tick(&w, B | C, true);
        report(&w, 1, true);
        assert_true(w.last[0].moving);
        assert_true(w.silent[0] >= LIVENESS_LOST_TICKS);
        reports_tick(&w.reports, w.now_ms, false);
        assert_int_equal(w.reports.grace_ticks, 0);
        assert_false(w.last[0].moving);
}

/* It is not normal: the leader counts for how long. */
static unsigned single_ticks(const World *w, unsigned host) {
        char id[MACHINE_ID_SIZE];

        return reports_single_ticks(&w->reports, host_id(id, host));
}

static void a_host_has_one_session_while_another_replica_reports(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 1, 0, true);
        open_session(&w, 1, 1, false);
        for (unsigned i = 0; i < 10; i++)
                tick(&w, ALL, true);
        assert_int_equal(single_ticks(&w, 0), 10);
        assert_int_equal(single_ticks(&w, 1), 0);
        assert_int_equal(single_ticks(&w, 2), 0); /* it has none */

        close_session(&w, 1, 1, (LivenessSign) {});
        open_session(&w, 0, 2, false);
        for (unsigned i = 0; i < 4; i++)
                tick(&w, ALL, true);
        assert_int_equal(single_ticks(&w, 0), 0);
        assert_int_equal(single_ticks(&w, 1), 4);

        /* The only session is closed, and another one opened at once: it is still one. */
        close_session(&w, 1, 0, (LivenessSign) { .kernel = true });
        tick(&w, ALL, true);
        assert_int_equal(single_ticks(&w, 1), 5);
        open_session(&w, 1, 2, true);
        tick(&w, ALL, true);
        assert_int_equal(single_ticks(&w, 1), 6);

        /* A replica that is silent has no sessions; one that remains has no second one for any host. */
        for (unsigned i = 0; i < 8; i++)
                tick(&w, A | B, true);
        assert_true(single_ticks(&w, 0) > 0);
        for (unsigned i = 0; i < 8; i++)
                tick(&w, A, true);
        assert_int_equal(single_ticks(&w, 0), 0);
        assert_int_equal(single_ticks(&w, 1), 0);
        tick(&w, A | B, true);
        assert_int_equal(single_ticks(&w, 0), 1);
        assert_int_equal(single_ticks(&w, 1), 1);
        tick(&w, ALL, true);
        assert_int_equal(single_ticks(&w, 0), 0);
        assert_int_equal(single_ticks(&w, 1), 2);
}

static void write_session(void *userdata, const char *machine_id, const char *in_use, const char *idle) {
        text_printf(userdata, "%u:%s,%s ", host_of(machine_id), in_use, idle);
}

static void expect_sessions(const World *w, const char *expected) {
        _cleanup_text_ Text t = {};

        reports_each_session(&w->reports, write_session, &t);
        assert_string_equal(t.chars ?: "", expected);
}

static void each_host_has_the_replica_that_it_uses_and_the_idle_one(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        expect_sessions(&w, "");
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, false);
        tick(&w, ALL, true);
        open_session(&w, 1, 2, true);
        tick(&w, ALL, true);
        expect_sessions(&w, "0:a,b 1:c, ");
        close_session(&w, 0, 0, (LivenessSign) {}); /* before it uses the other one */
        tick(&w, ALL, true);
        expect_sessions(&w, "0:,b 1:c, ");
        open_session(&w, 0, 1, true);
        open_session(&w, 0, 2, false);
        tick(&w, ALL, true);
        expect_sessions(&w, "0:b,c 1:c, ");
        for (unsigned i = 0; i < 4; i++) /* one that does not report any more has none */
                tick(&w, A | B, true);
        expect_sessions(&w, "0:b, ");
}

static void a_replica_without_its_leader_is_in_each_report(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        for (unsigned i = 0; i < 5; i++) {
                _cleanup_writer_ Writer frame = {};

                w.told[0] = 0;
                reporter_heartbeat(&w.reporters[0], slot_of(&w, 0, host_id(id, 0)), SIGN_IN_USE | SIGN_ALONE);
                write_report(&w, 0, true, &frame);
                assert_int_equal(take(&w, 0, &frame), 0);
                assert_true(w.told[0] > 0);
                assert_true(w.last[0].heartbeat && w.last[0].indirect);
        }
        w.hosts[0].silent[0] = true;
        tick(&w, A, true);
        assert_false(w.last[0].heartbeat);
        reporter_remove(&w.reporters[0], host_id(id, 0)); /* its heartbeats come to the leader again */
        tick(&w, A, true);
        assert_true(w.last[0].unattached);
}

static void a_report_out_of_order_is_rejected(void **state) {
        _cleanup_writer_ Writer first = {}, second = {}, third = {};
        LivenessSign sign;
        char id[MACHINE_ID_SIZE];
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        heartbeat(&w, 0, 0);
        write_report(&w, 0, true, &first);
        write_report(&w, 0, true, &second);
        write_report(&w, 0, true, &third);
        assert_int_equal(take(&w, 0, &second), -EBADMSG);
        assert_int_equal(take(&w, 0, &first), 0);
        assert_int_equal(take(&w, 0, &first), -EBADMSG); /* a tick of the past */
        assert_int_equal(take(&w, 0, &third), -EBADMSG); /* one is missing */
        assert_int_equal(take(&w, 0, &second), 0);
        assert_int_equal(w.silent[0], 1);
        assert_int_equal(
                reports_take(&w.reports, "a", w.session + 1, TERM, w.now_ms, third.bytes, third.size),
                -EBADMSG); /* on another session */
        assert_int_equal(
                reports_take(&w.reports, "a", w.session, TERM + 1, w.now_ms, third.bytes, third.size),
                -ESTALE);
        assert_int_equal(take(&w, 0, &third), 0);
        assert_int_equal(w.silent[0], 2);
        assert_true(reports_sign(&w.reports, host_id(id, 0), &sign));
}

static void a_report_that_is_cut_is_rejected(void **state) {
        _cleanup_writer_ Writer frame = {};
        _cleanup_(end) World w;

        begin(&w);
        for (unsigned h = 0; h < 3; h++) {
                open_session(&w, h, 0, true);
                heartbeat(&w, h, 0);
        }
        tick(&w, A, true);
        close_session(&w, 0, 0, (LivenessSign) {});
        w.session++;
        for (unsigned h = 1; h < 3; h++)
                heartbeat(&w, h, 0);
        write_report(&w, 0, true, &frame);
        for (size_t size = 0; size < frame.size; size++) {
                Writer cut = { .bytes = frame.bytes, .size = size };

                if (size != frame.size - 17 && size != frame.size - 2 * 17)
                        assert_int_equal(take(&w, 0, &cut), -EBADMSG);
        }
        assert_true(w.last[1].heartbeat);
        frame.bytes[0]++;
        assert_int_equal(take(&w, 0, &frame), -EBADMSG);
}

/* A replica that pauses, or whose report cannot be sent, begins again. */
static void a_complete_report_has_all_hosts_and_the_others_are_gone(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 1, 0, true);
        tick(&w, A, true);
        reporter_done(&w.reporters[0]);
        w.hosts[1].open[0] = false;
        w.session++;
        tick(&w, A, true);
        assert_true(w.last[0].heartbeat);
        assert_true(w.last[1].unattached);
        assert_int_equal(w.reports.n_unattached, 1);
        reporter_again(&w.reporters[0]);
        w.hosts[0].silent[0] = true;
        tick(&w, A, true);
        assert_int_equal(w.silent[0], 1);
}

static void a_replica_that_failed_reports_again_on_the_same_session(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        for (unsigned i = 0; i < 3; i++)
                tick(&w, A, true);
        reporter_done(&w.reporters[0]);
        tick(&w, A, true);
        assert_true(w.last[0].heartbeat);
}

static void a_report_of_many_hosts_is_bounded(void **state) {
        _cleanup_writer_ Writer frame = {};
        _cleanup_(end) World w;

        begin(&w);
        write_u8(&frame, REPORT_PROTOCOL);
        write_u8(&frame, 3);
        write_u64(&frame, TERM);
        write_varint(&frame, 1);
        write_varint(&frame, 0);
        for (unsigned h = 0; h < REPORT_HOSTS_MAX + 1; h++) {
                write_u64(&frame, h);
                write_u64(&frame, 0);
                write_u8(&frame, 3);
        }
        assert_int_equal(take(&w, 0, &frame), -EBADMSG);
}

static uint64_t cpu_ms(void) {
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

/* 10,000 hosts at once, each silent: the work is that of their number, far below that of its square. */
static void all_hosts_of_a_replica_are_silent_at_once(void **state) {
        /* A tick is 500 ms. A report takes 1 to 5 ms, with sanitizers 3 to 10 ms. */
        enum { MANY = 10000, HOST_BYTES_MAX = 20, TAKE_MS_MAX = 100 };
        _cleanup_(end) World w;

        begin(&w);
        for (unsigned t = 0; t < 4; t++) {
                uint64_t from_ms;
                _cleanup_writer_ Writer frame = {};

                for (unsigned h = 0; h < MANY && t == 0; h++) {
                        char id[MACHINE_ID_SIZE];

                        snprintf(id, sizeof(id), "%032x", h + 1);
                        reporter_heartbeat(&w.reporters[0], slot_of(&w, 0, id), SIGN_IN_USE);
                }
                for (unsigned h = 0; h < HOSTS; h++)
                        open_session(&w, h, 0, true);
                write_report(&w, 0, true, &frame);
                assert_in_range(frame.size, t == 0 ? 0 : MANY * 17, MANY * HOST_BYTES_MAX);
                from_ms = cpu_ms();
                assert_int_equal(take(&w, 0, &frame), 0);
                assert_in_range(cpu_ms() - from_ms, 0, TAKE_MS_MAX);
        }
        assert_int_equal(w.silent[0], 3);
}

/* One heartbeat is enough for two ticks, and silence is as long as that of another host. */
static void a_rare_heartbeat_ends_as_soon_as_a_frequent_one(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 1, 0, true);
        w.hosts[1].rare = true;
        tick(&w, ALL, true);
        w.hosts[0].silent[0] = w.hosts[1].silent[0] = true;
        tick(&w, ALL, true);
        assert_int_equal(w.silent[0], 1);
        assert_int_equal(w.silent[1], 0);
        for (unsigned silent = 2; silent < LIVENESS_LOST_TICKS + 2; silent++) {
                tick(&w, ALL, true);
                assert_int_equal(w.silent[0], silent);
                assert_int_equal(w.silent[1], silent);
        }
        w.hosts[0].silent[0] = w.hosts[1].silent[0] = false;
        tick(&w, ALL, true);
        assert_int_equal(w.silent[0], 0);
        assert_int_equal(w.silent[1], 0);
}

/* The replica stands still for the tick of the next heartbeat. */
static void a_tick_that_does_not_count_uses_up_no_rare_heartbeat(void **state) {
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        w.hosts[0].rare = true;
        tick(&w, ALL, true);
        w.hosts[0].silent[0] = true;
        tick(&w, ALL, false);
        tick(&w, ALL, true);
        assert_int_equal(w.silent[0], 0);
        tick(&w, ALL, true);
        assert_int_equal(w.silent[0], REPORT_RARE_TICKS);
}

/* Hosts that use another replica, and those whose session has ended, do not count. */
static void a_replica_that_many_hosts_use_requests_rare_heartbeats(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_(end) World w;

        begin(&w);
        for (unsigned h = 0; h < HOSTS; h++)
                open_session(&w, h, 0, true);
        for (unsigned h = 0; h < REPORT_RARE_HOSTS + 2; h++) {
                assert_int_equal(reporter_requests_rare(&w.reporters[0]), h > REPORT_RARE_HOSTS);
                snprintf(id, sizeof(id), "%032x", h + 1);
                reporter_heartbeat(&w.reporters[0], slot_of(&w, 0, id),
                                   h % 2 ? SIGN_IN_USE | SIGN_RARE : SIGN_IN_USE);
        }
        reporter_heartbeat(&w.reporters[0], slot_of(&w, 0, id), 0);
        assert_true(reporter_requests_rare(&w.reporters[0]));
        snprintf(id, sizeof(id), "%032x", 1);
        reporter_remove(&w.reporters[0], id);
        for (unsigned t = 0; t < REPORT_ENDED_TICKS + 2; t++) {
                _cleanup_writer_ Writer frame = {};

                write_report(&w, 0, true, &frame);
        }
        assert_false(reporter_requests_rare(&w.reporters[0]));
        reporter_done(&w.reporters[0]);
        assert_int_equal(w.reporters[0].n_in_use, 0);
}

typedef struct Found {
        unsigned n;
        char machine[MACHINE_ID_SIZE], replica[MACHINE_ID_SIZE];
        uint64_t session;
} Found;

static void on_clone(void *userdata, const char *machine_id, const char *replica, uint64_t session) {
        Found *f = userdata;

        *f = (Found) { .n = f->n + 1, .session = session };
        snprintf(f->machine, sizeof(f->machine), "%s", machine_id);
        snprintf(f->replica, sizeof(f->replica), "%s", replica);
}

/* Return after how many ticks, or 0 after 'max'. */
static unsigned ticks_until_clone(World *w, unsigned max, Found *ret) {
        *ret = (Found) {};
        for (unsigned t = 1; t <= max; t++) {
                tick(w, ALL, true);
                reports_each_clone(&w->reports, on_clone, ret);
                if (ret->n > 0)
                        return t;
        }
        return 0;
}

static void the_later_one_of_two_hosts_with_one_id_is_found(void **state) {
        char id[MACHINE_ID_SIZE];
        Found found;
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 1, true);
        open_session(&w, 0, 0, false);
        assert_int_equal(ticks_until_clone(&w, 50, &found), 0);
        open_session(&w, 0, 2, true); /* the copy */
        assert_int_equal(ticks_until_clone(&w, 50, &found), REPORT_CLONE_TICKS);
        assert_int_equal(found.n, 1);
        assert_string_equal(found.machine, host_id(id, 0));
        assert_string_equal(found.replica, "c");
        assert_int_equal(found.session, w.session);
        assert_true(w.last[0].heartbeat);
        close_session(&w, 0, 2, (LivenessSign) {});
        assert_int_equal(ticks_until_clone(&w, 50, &found), 0);
        open_session(&w, 0, 0, true); /* it tries another replica */
        assert_int_equal(ticks_until_clone(&w, 50, &found), REPORT_CLONE_AGAIN_TICKS);
        assert_string_equal(found.replica, "a");
}

/* A host uses b, and perhaps has an idle session to a; its clone, which used c, was found and has left. */
static void begin_with_clone(World *w, bool idle) {
        Found found;

        begin(w);
        open_session(w, 0, 1, true);
        if (idle)
                open_session(w, 0, 0, false);
        tick(w, ALL, true);
        open_session(w, 0, 2, true);
        assert_int_not_equal(ticks_until_clone(w, 50, &found), 0);
        close_session(w, 0, 2, (LivenessSign) {});
        tick(w, ALL, true);
}

/* Of two hosts in contact, one is silent for less than the time in which a host is lost. */
static void a_short_silence_does_not_let_the_clone_decide(void **state) {
        for (unsigned known = 0; known < 2; known++)
                for (unsigned silent = 1; silent < REPORT_CLONE_SILENT_TICKS; silent++) {
                        Found found;
                        _cleanup_(end) World w;

                        if (known)
                                begin_with_clone(&w, false);
                        else {
                                begin(&w);
                                open_session(&w, 0, 1, true);
                                tick(&w, ALL, true);
                        }
                        open_session(&w, 0, 2, true); /* the clone */
                        for (unsigned i = 0; !known && i < REPORT_CLONE_AGAIN_TICKS; i++)
                                tick(&w, ALL, true);
                        w.hosts[0].silent[1] = true;
                        assert_int_equal(ticks_until_clone(&w, silent, &found), 0);
                        assert_int_equal(w.silent[0], silent);
                        w.hosts[0].silent[1] = false;
                        assert_int_not_equal(ticks_until_clone(&w, 50, &found), 0);
                        assert_string_equal(found.replica, "c");
                }
}

/* It moves to a replica to which it has had an idle session, in the second in which its clone has returned.
 * Its former replica reports that up to two ticks before the new one does; its session may end meanwhile. */
static void a_host_that_moves_beside_its_clone_still_decides(void **state) {
        for (unsigned before = 0; before < 2; before++) /* ticks of the clone */
                for (unsigned later = 0; later <= REPORT_CLONE_AGAIN_TICKS; later++)
                        for (unsigned closed = 0; closed <= later + 1; closed++) { /* in this tick */
                                Found found;
                                _cleanup_(end) World w;

                                begin_with_clone(&w, true);
                                assert_int_equal(ticks_until_clone(&w, 100, &found), 0);
                                open_session(&w, 0, 2, true);
                                if (before)
                                        tick(&w, ALL, true);
                                open_session(&w, 0, 1, false);
                                for (unsigned i = 0; i < later; i++) {
                                        if (i == closed)
                                                close_session(&w, 0, 1, (LivenessSign) {});
                                        assert_int_equal(ticks_until_clone(&w, 1, &found), 0);
                                }
                                open_session(&w, 0, 0, true);
                                if (closed == later)
                                        close_session(&w, 0, 1, (LivenessSign) {});
                                assert_int_not_equal(ticks_until_clone(&w, 50, &found), 0);
                                assert_int_equal(found.n, 1);
                                assert_string_equal(found.replica, "c");
                                assert_true(w.last[0].heartbeat);
                        }
}

/* After the host has left, its clone has the signs of life when two more reports of all replicas have
 * arrived, also if the leader has recorded the end of the host meanwhile, and expects it no more. */
static void a_clone_counts_when_the_other_host_has_left(void **state) {
        for (unsigned shut_down = 0; shut_down < 2; shut_down++) {
                Found found;
                _cleanup_(end) World w;

                begin_with_clone(&w, false);
                open_session(&w, 0, 2, true);
                close_session(&w, 0, 1, (LivenessSign) { .kernel = true, .shut_down = shut_down });
                w.forget = shut_down;
                for (unsigned i = 0; i < REPORT_CLONE_AGAIN_TICKS; i++) {
                        tick(&w, ALL, true);
                        assert_false(w.last[0].heartbeat);
                }
                tick(&w, ALL, true);
                assert_true(w.last[0].heartbeat);
                assert_false(w.last[0].unattached);
                assert_int_equal(ticks_until_clone(&w, 50, &found), 0);
        }
}

/* The clone dials another replica at once, which reports it in the tick in which it was found. */
static void a_clone_that_returns_at_once_does_not_decide(void **state) {
        Found found;
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 1, true);
        open_session(&w, 0, 0, false);
        tick(&w, ALL | D, true);
        open_session(&w, 0, 2, true);
        assert_int_not_equal(ticks_until_clone(&w, 50, &found), 0);
        close_session(&w, 0, 2, (LivenessSign) {});
        open_session(&w, 0, 3, true);
        tick(&w, D, true);
        open_session(&w, 0, 1, false); /* the host moves from b to a */
        tick(&w, ALL | D, true);
        open_session(&w, 0, 0, true);
        found = (Found) {};
        for (unsigned t = 0; t < 50 && found.n == 0; t++) {
                tick(&w, ALL | D, true);
                reports_each_clone(&w.reports, on_clone, &found);
        }
        assert_int_equal(found.n, 1);
        assert_string_equal(found.replica, "d");
}

/* A host whose clone was rejected may have moved: it is not lost. */
static void the_other_one_of_two_hosts_with_one_id_counts_before_it_is_lost(void **state) {
        Found found;
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 1, true);
        tick(&w, ALL, true);
        open_session(&w, 0, 2, true);
        assert_int_not_equal(ticks_until_clone(&w, 50, &found), 0);
        w.hosts[0].silent[1] = true;
        for (unsigned i = 1; i < 20; i++) {
                tick(&w, ALL, true);
                assert_int_equal(w.silent[0], i < REPORT_CLONE_SILENT_TICKS ? i : 0);
        }
        assert_true(w.last[0].heartbeat);
}

/* It sends its heartbeats to all other hosts. */
static void a_replica_without_contact_with_the_leader_is_no_clone(void **state) {
        Found found;
        _cleanup_(end) World w;

        begin(&w);
        w.hosts[0].alone = true;
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, true);
        assert_int_equal(ticks_until_clone(&w, 50, &found), 0);
}

/* Its former replica has no heartbeat after a move, or some that were late. */
static void a_host_that_moves_is_no_clone(void **state) {
        Found found;
        _cleanup_(end) World w;

        begin(&w);
        open_session(&w, 0, 0, true);
        open_session(&w, 0, 1, true);
        for (unsigned i = 0; i < 20; i++) {
                unsigned used = i % 2;

                w.hosts[0].silent[used] = false;
                w.hosts[0].silent[1 - used] = false;
                assert_int_equal(ticks_until_clone(&w, REPORT_CLONE_TICKS - 1, &found), 0);
                w.hosts[0].silent[1 - used] = true;
                assert_int_equal(ticks_until_clone(&w, 4, &found), 0);
        }
}

/* -- Slots -- */

static void a_heartbeat_is_answered_once_in_a_while_on_each_session(void **state) {
        Reporter r = {};
        char id[MACHINE_ID_SIZE];
        uint32_t slot = UINT32_MAX;

        assert_int_equal(reporter_slot(&r, host_id(id, 0), 7, &slot), 0);
        assert_true(reporter_answers(&r, slot, 10000, 750));
        assert_int_equal(reporter_slot(&r, host_id(id, 0), 7, &slot), 0);
        assert_false(reporter_answers(&r, slot, 10500, 750));
        assert_true(reporter_answers(&r, slot, 10500, 0));
        assert_true(reporter_answers(&r, slot, 11250, 750));
        slot = UINT32_MAX;
        assert_int_equal(reporter_slot(&r, host_id(id, 0), 8, &slot), 0);
        assert_true(reporter_answers(&r, slot, 11300, 750));
        assert_int_equal(r.n, 1);
        reporter_done(&r);
}

/* The last host gets the slot of one that is forgotten, and what a session remembers is checked. */
static void a_host_is_found_after_another_one_is_forgotten(void **state) {
        uint32_t slot[3] = { UINT32_MAX, UINT32_MAX, UINT32_MAX }, before;
        char id[3][MACHINE_ID_SIZE];
        Reporter *r;
        _cleanup_(end) World w;

        begin(&w);
        r = &w.reporters[0];
        for (unsigned h = 0; h < 3; h++) {
                w.hosts[h].open[0] = true;
                assert_int_equal(reporter_slot(r, host_id(id[h], h), 7 + h, &slot[h]), 0);
        }
        assert_true(reporter_answers(r, slot[2], 10000, 750));
        before = slot[2];
        w.hosts[0].open[0] = false;
        reporter_remove(r, id[0]);
        for (unsigned i = 0; i <= REPORT_ENDED_TICKS; i++) {
                _cleanup_writer_ Writer frame = {};

                write_report(&w, 0, true, &frame);
        }
        assert_int_equal(r->n, 2);
        assert_int_equal(reporter_slot(r, id[2], 9, &slot[2]), 0);
        assert_int_not_equal(slot[2], before);
        assert_string_equal(r->slots[slot[2]]->machine, id[2]);
        assert_false(reporter_answers(r, slot[2], 10500, 750)); /* the last answer is known there */
        assert_int_equal(reporter_slot(r, id[0], 7, &slot[0]), 0);
        assert_string_equal(r->slots[slot[0]]->machine, id[0]);
        assert_true(reporter_answers(r, slot[0], 10500, 750));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_leader_counts_as_the_replica_in_use),
                cmocka_unit_test(a_host_in_contact_is_in_no_report),
                cmocka_unit_test(the_replica_in_use_decides_as_long_as_it_reports),
                cmocka_unit_test(the_idle_session_counts_when_it_is_silent_for_2_5_s),
                cmocka_unit_test(a_former_session_in_use_does_not_count_against_contact),
                cmocka_unit_test(a_move_is_reported_also_after_another_heartbeat),
                cmocka_unit_test(a_tick_that_was_not_kept_counts_nothing),
                cmocka_unit_test(a_late_tick_of_the_leader_ends_no_replica),
                cmocka_unit_test(the_end_of_the_last_session_has_a_cause),
                cmocka_unit_test(an_end_without_a_sign_of_the_kernel_replaces_no_other),
                cmocka_unit_test(the_sessions_of_a_daemon_that_ends_end_together),
                cmocka_unit_test(a_daemon_that_stops_just_after_a_move_is_stopped),
                cmocka_unit_test(a_host_without_a_session_that_is_not_expected_is_forgotten),
                cmocka_unit_test(a_forgotten_host_is_reported_with_its_next_session),
                cmocka_unit_test(the_grace_is_the_time_to_admit_all_unattached_hosts),
                cmocka_unit_test(the_grace_ends_when_the_hosts_are_attached),
                cmocka_unit_test(the_grace_does_not_end_while_hosts_return),
                cmocka_unit_test(hosts_that_were_not_expected_do_not_prolong_the_grace),
                cmocka_unit_test(the_grace_of_hosts_that_return_is_bounded),
                cmocka_unit_test(
                        a_silent_idle_session_counts_when_the_grace_ends_and_not_with_the_next_report),
                cmocka_unit_test(a_host_has_one_session_while_another_replica_reports),
                cmocka_unit_test(each_host_has_the_replica_that_it_uses_and_the_idle_one),
                cmocka_unit_test(a_replica_without_its_leader_is_in_each_report),
                cmocka_unit_test(a_report_out_of_order_is_rejected),
                cmocka_unit_test(a_report_that_is_cut_is_rejected),
                cmocka_unit_test(a_complete_report_has_all_hosts_and_the_others_are_gone),
                cmocka_unit_test(a_replica_that_failed_reports_again_on_the_same_session),
                cmocka_unit_test(a_report_of_many_hosts_is_bounded),
                cmocka_unit_test(all_hosts_of_a_replica_are_silent_at_once),
                cmocka_unit_test(a_rare_heartbeat_ends_as_soon_as_a_frequent_one),
                cmocka_unit_test(a_tick_that_does_not_count_uses_up_no_rare_heartbeat),
                cmocka_unit_test(a_replica_that_many_hosts_use_requests_rare_heartbeats),
                cmocka_unit_test(the_later_one_of_two_hosts_with_one_id_is_found),
                cmocka_unit_test(a_short_silence_does_not_let_the_clone_decide),
                cmocka_unit_test(a_host_that_moves_beside_its_clone_still_decides),
                cmocka_unit_test(a_clone_counts_when_the_other_host_has_left),
                cmocka_unit_test(a_clone_that_returns_at_once_does_not_decide),
                cmocka_unit_test(the_other_one_of_two_hosts_with_one_id_counts_before_it_is_lost),
                cmocka_unit_test(a_replica_without_contact_with_the_leader_is_no_clone),
                cmocka_unit_test(a_host_that_moves_is_no_clone),
                cmocka_unit_test(a_heartbeat_is_answered_once_in_a_while_on_each_session),
                cmocka_unit_test(a_host_is_found_after_another_one_is_forgotten),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
