#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/clock.h"
#include "fleetd/membership/reports.h"

enum { HOSTS = 50, REPLICAS = 3 };

static const ReportedSign contact = { .in_use = true,
                                      .sign = { .heartbeat = true, .kernel = true, .session = true } };

static const char *host_id(char ret[static MACHINE_ID_SIZE], unsigned host) {
        snprintf(ret, MACHINE_ID_SIZE, "%032x", host + 1);
        return ret;
}

static bool same_sign(const LivenessSign *a, const LivenessSign *b) {
        return a->heartbeat == b->heartbeat && a->kernel == b->kernel && a->session == b->session &&
               a->stopped == b->stopped && a->shut_down == b->shut_down;
}

/* The leader has the signs of each replica; hosts come, go and are silent at
 * random. */
static void reports_give_the_signs_of_all_replicas(void **state) {
        static const char *const names[REPLICAS] = { "a", "b", "c" };
        Reporter reporters[REPLICAS] = {};
        Reports reports = {};
        Random random;

        random_seed(&random, 1);
        for (unsigned tick = 0; tick < 2000; tick++) {
                ReportedSign signs[HOSTS] = {};
                uint64_t now = 1000 + tick * 500;

                for (unsigned r = 0; r < REPLICAS; r++) {
                        _cleanup_writer_ Writer w = {};
                        uint64_t session = 1 + r + random_below(&random, 50) / 49 * 10;

                        report_begin(&reporters[r], session, true, &w);
                        for (unsigned h = 0; h < HOSTS; h++) {
                                char id[MACHINE_ID_SIZE];
                                ReportedSign sign = contact;

                                if (h % REPLICAS != r || random_below(&random, 10) == 0)
                                        continue;
                                if (random_below(&random, 4) == 0)
                                        sign.sign = (LivenessSign) { .heartbeat = random_below(&random, 2),
                                                                     .kernel = random_below(&random, 2),
                                                                     .session = true,
                                                                     .stopped = random_below(&random, 2) };
                                signs[h] = sign;
                                assert_int_equal(report_add(&reporters[r], host_id(id, h), &sign), 0);
                        }
                        report_end(&reporters[r], &w);
                        assert_int_equal(reports_take(&reports, names[r], session, now, w.bytes, w.size), 0);
                }
                for (unsigned h = 0; h < HOSTS; h++) {
                        char id[MACHINE_ID_SIZE];
                        bool attached;
                        LivenessSign sign = reports_sign(&reports, host_id(id, h), NULL, now, &attached);

                        assert_int_equal(attached, signs[h].in_use);
                        assert_true(same_sign(&sign, &signs[h].sign));
                }
        }
        for (unsigned r = 0; r < REPLICAS; r++)
                reporter_done(&reporters[r]);
        reports_done(&reports);
}

static void report_of(Reporter *r, uint64_t session, bool kept, const ReportedSign *sign, Writer *w) {
        char id[MACHINE_ID_SIZE];

        report_begin(r, session, kept, w);
        if (sign)
                assert_int_equal(report_add(r, host_id(id, 0), sign), 0);
        report_end(r, w);
}

static void the_replica_in_use_decides_as_long_as_it_reports(void **state) {
        const ReportedSign idle = { .sign = contact.sign },
                           silent = { .in_use = true, .sign = { .session = true } };
        _cleanup_writer_ Writer in_use = {}, other = {};
        Reporter a = {}, b = {};
        Reports reports = {};
        char id[MACHINE_ID_SIZE];
        bool attached;

        host_id(id, 0);
        report_of(&a, 1, true, &silent, &in_use);
        report_of(&b, 2, true, &idle, &other);
        assert_int_equal(reports_take(&reports, "a", 1, 1000, in_use.bytes, in_use.size), 0);
        assert_int_equal(reports_take(&reports, "b", 2, 1000, other.bytes, other.size), 0);
        assert_false(reports_sign(&reports, id, NULL, 1000, &attached).heartbeat);
        assert_true(
                reports_sign(&reports, id, &contact, 1000, &attached).heartbeat); /* the leader is in use */
        assert_int_equal(reports_take(&reports, "b", 2, 1400, (uint8_t[]) { 1, 2, 0 }, 3), 0);
        assert_true(reports_sign(&reports, id, NULL, 1000 + REPORT_VALID_MS, &attached).heartbeat);
        assert_true(attached);
        (void) reports_sign(&reports, id, NULL, 10000, &attached);
        assert_false(attached);
        reporter_done(&a);
        reporter_done(&b);
        reports_done(&reports);
}

static void a_tick_that_was_not_kept_counts_against_no_host(void **state) {
        const ReportedSign silent = { .in_use = true, .sign = { .session = true } };
        _cleanup_writer_ Writer w = {};
        Reports reports = {};
        Reporter a = {};
        char id[MACHINE_ID_SIZE];
        bool attached;

        report_of(&a, 1, false, &silent, &w);
        assert_int_equal(reports_take(&reports, "a", 1, 1000, w.bytes, w.size), 0);
        assert_true(reports_sign(&reports, host_id(id, 0), NULL, 1000, &attached).heartbeat);
        reporter_done(&a);
        reports_done(&reports);
}

/* Without the beginning of a sequence, or with bytes of a fault, nothing is known. */
static void a_report_without_the_one_before_is_rejected(void **state) {
        _cleanup_writer_ Writer first = {}, second = {};
        Reports reports = {};
        Reporter a = {};

        report_of(&a, 1, true, &contact, &first);
        report_of(&a, 1, true, &contact, &second);
        assert_int_equal(reports_take(&reports, "a", 1, 1000, second.bytes, second.size), -EBADMSG);
        for (size_t size = 0; size < first.size; size++)
                if (size != 3) /* complete, without a host */
                        assert_int_equal(reports_take(&reports, "a", 1, 1000, first.bytes, size), -EBADMSG);
        assert_int_equal(reports_take(&reports, "a", 1, 1000, first.bytes, first.size), 0);
        assert_int_equal(reports_take(&reports, "a", 1, 1000, second.bytes, second.size), 0);
        assert_int_equal(reports_take(&reports, "a", 2, 1000, second.bytes, second.size), -EBADMSG);
        reporter_done(&a);
        reports_done(&reports);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reports_give_the_signs_of_all_replicas),
                cmocka_unit_test(the_replica_in_use_decides_as_long_as_it_reports),
                cmocka_unit_test(a_tick_that_was_not_kept_counts_against_no_host),
                cmocka_unit_test(a_report_without_the_one_before_is_rejected),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
