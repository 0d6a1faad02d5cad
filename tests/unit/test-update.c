#include "tests/lib/test.h"
#include "units/options.h"
#include "units/unit.h"

/* Parse a unit whose section [Service] has 'service', and [X-Fleet] 'options'. */
static int parse(const char *name, const char *service, const char *options, Unit **ret, Error *err) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "[Service]\nExecStart=/bin/true\n%s[X-Fleet]\n%s\n", service, options);
        return unit_parse(name, t.chars, t.size, ret, err);
}

static Unit *unit_of(const char *service, const char *options) {
        Unit *unit = NULL;
        Error err = {};

        if (parse("a@1.service", service, options, &unit, &err) < 0)
                fail_msg("%s: %s", options, err.message);
        return unit;
}

static void invalid_values_and_combinations_are_rejected(void **state) {
        static const struct {
                const char *service, *options, *message; /* NULL: is accepted */
        } rows[] = {
                { "", "MaxUnavailable=some",
                  "MaxUnavailable=some: expected a number or a percentage, for example 2 or 25%" },
                { "", "MaxUnavailable=-1", "MaxUnavailable=-1: expected a number" },
                { "", "MaxSurge=101%", "MaxSurge=101%: expected at most 100%" },
                { "", "Canary=1000001", "Canary=1000001: expected a number" },
                { "", "MinAvailable=%", "MinAvailable=%: expected a number" },
                { "", "UpdateMaxFailures=99999999999999999999", "expected a number" },
                { "", "MaxUnavailable=0", "MaxUnavailable=0 requires MaxSurge= of at least 1" },
                { "", "MaxUnavailable=0%\nMaxSurge=0", "MaxUnavailable=0 requires MaxSurge= of at least 1" },
                { "", "Global=yes\nMaxSurge=1",
                  "MaxSurge= with Global=yes: each machine already runs an instance" },
                { "", "Singleton=yes\nMaxSurge=1%", "MaxSurge= with Singleton=yes" },
                { "", "MachineID=12345678\nMaxSurge=1", "MaxSurge= with MachineID=" },
                { "", "Move=no\nMaxSurge=1", "MaxSurge= with Move=no" },
                { "", "UpdateWatchSec=soon", "UpdateWatchSec=soon: expected a time span, for example 30s" },
                { "", "UpdatePauseSec=18446744073709551s", "UpdatePauseSec=18446744073709551s: expected" },
                { "", "UpdateDeadlineSec=10s",
                  "UpdateDeadlineSec=10s is shorter than TimeoutStartSec=, HealthStartSec=, "
                  "UpdateWatchSec= and WithdrawSec= together (100s)" },
                { "", "Service=a\nWithdrawSec=5min\nUpdateDeadlineSec=5min", "together (400s)" },
                { "TimeoutStartSec=5\n", "UpdateDeadlineSec=0\nUpdateWatchSec=0",
                  "UpdateDeadlineSec=1ms is shorter" },
                { "TimeoutStartSec=20\n", "UpdateDeadlineSec=89s\nHealthStartSec=1min",
                  "UpdateDeadlineSec=89s is shorter" },
                { "Type=oneshot\nTimeoutSec=1h\n", "UpdateDeadlineSec=10min", "together (3610s)" },
                { "", "UpdateOnFailure=rollback",
                  "UpdateOnFailure=rollback: expected pause, revert or continue" },
                { "", "UpdateBy=a b", "UpdateBy=a b: expected one metadata key" },
                { "", "UpdateBy=zone=a", "UpdateBy=zone=a: expected one metadata key" },
                { "", "Promote=auto", "Promote=auto: expected manual or a time span" },
                { "", "HealthHttp=web:80/",
                  "HealthHttp=web:80/: expected [ADDR:]PORT/PATH, ADDR of its own host, for example "
                  "8080/ready or http/ready" },
                { "", "HealthHttp=80", "HealthHttp=80: expected [ADDR:]PORT/PATH" },
                { "", "HealthHttp=0/", "expected [ADDR:]PORT/PATH" },
                { "", "HealthHttp=65536/", "expected [ADDR:]PORT/PATH" },
                { "", "HealthHttp=4294967376/", "expected [ADDR:]PORT/PATH" },
                { "", "HealthHttp=::1:80/", "expected [ADDR:]PORT/PATH" },
                { "", "HealthHttp=[127.0.0.1]:80/", "expected [ADDR:]PORT/PATH" },
                { "", "HealthHttp=80/a b", "expected [ADDR:]PORT/PATH" },
                { "", "HealthHttp=http://127.0.0.1/", "expected [ADDR:]PORT/PATH" },
                { "", "HealthTcp=web:80",
                  "HealthTcp=web:80: expected [ADDR:]PORT, ADDR of its own host, for example 8080 "
                  "or http" },
                { "", "HealthTcp=80/", "expected [ADDR:]PORT" },
                { "", "HealthExec=curl localhost", "HealthExec=curl localhost: expected an absolute path" },
                { "", "HealthExec=/bin/check \"a", "HealthExec=/bin/check \"a: expected a closing quote" },
                { "", "HealthIntervalSec=100ms", "HealthIntervalSec=100ms: expected at least 1s" },
                { "", "HealthIntervalSec=2h", "HealthIntervalSec=2h: expected at most 1h" },
                { "", "HealthExec=/bin/a\nHealthIntervalSec=2s",
                  "HealthIntervalSec=2s: expected at least 5s with HealthExec=" },
                { "", "HealthTimeoutSec=30s", "HealthTimeoutSec=30s exceeds HealthIntervalSec=10s" },
                { "", "HealthTimeoutSec=10001ms", "HealthTimeoutSec=10001ms exceeds HealthIntervalSec=10s" },
                { "", "HealthTimeoutSec=0", "HealthTimeoutSec=0: expected a time span above 0" },
                { "", "HealthFailures=0", "HealthFailures=0: expected 1 to 100" },
                { "", "HealthSuccesses=101", "HealthSuccesses=101: expected 1 to 100" },
                { "", "HealthAction=move", "HealthAction=move: expected none or restart" },
                { "", "MaxUnavailable=0\nMaxSurge=1" },
                { "", "MaxUnavailable=0\nMaxSurge=25%" },
                { "", "Global=yes\nMaxSurge=0\nMaxUnavailable=10%" },
                { "", "UpdateDeadlineSec=100s" },
                { "TimeoutStartSec=infinity\n", "UpdateDeadlineSec=10s" },
                { "TimeoutStartSec=1min 30s\n", "UpdateDeadlineSec=10s" },
                { "Type=oneshot\n", "UpdateDeadlineSec=10s" },
                { "", "HealthExec=/bin/a\nHealthIntervalSec=5s\nHealthTimeoutSec=5s" },
                { "", "HealthHttp=80/\nHealthIntervalSec=1s" },
                { "", "UpdateBy=zone\nCanary=\nMaxUnavailable=\nHealthHttp=\nPromote=" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                Error err = {};

                if (parse("a@1.service", rows[i].service, rows[i].options, &unit, &err) !=
                            (rows[i].message ? -EINVAL : 0) ||
                    !strstr(err.message, rows[i].message ?: ""))
                        fail_msg("%s: %s", rows[i].options, err.message);
        }
}

static void shares_are_rounded_down_or_up(void **state) {
        static const struct {
                const char *options;
                unsigned total, unavailable, available, surge, canaries, failures;
        } rows[] = {
                { "", 10, 1, 0, 0, 0, 0 },
                { "MaxUnavailable=25%\nMinAvailable=25%\nMaxSurge=25%\nCanary=25%\nUpdateMaxFailures=25%", 10,
                  2, 3, 3, 3, 2 },
                { "MaxUnavailable=1%\nMinAvailable=1%\nMaxSurge=1%\nCanary=1%\nUpdateMaxFailures=1%", 3, 1, 1,
                  1, 1, 0 },
                { "MaxUnavailable=100%\nMinAvailable=100%\nCanary=100%", 7, 7, 7, 0, 7, 0 },
                { "MaxUnavailable=4\nMinAvailable=5\nMaxSurge=6\nCanary=7\nUpdateMaxFailures=8", 3, 4, 5, 6,
                  7, 8 },
                { "MaxUnavailable=0\nMaxSurge=1", 3, 0, 0, 1, 0, 0 },
                { "MaxUnavailable=50%\nMinAvailable=50%", 0, 1, 0, 0, 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = unit_of("", rows[i].options);
                const UpdatePolicy *u = &unit->placement.update;

                assert_int_equal(update_max_unavailable(u, rows[i].total), rows[i].unavailable);
                assert_int_equal(update_min_available(u, rows[i].total), rows[i].available);
                assert_int_equal(update_max_surge(u, rows[i].total), rows[i].surge);
                assert_int_equal(update_canaries(u, rows[i].total), rows[i].canaries);
                assert_int_equal(update_max_failures(u, rows[i].total), rows[i].failures);
        }
}

static uint64_t deadline_of(const Unit *unit) {
        return update_deadline_ms(&unit->placement.update, &unit->placement.health, &unit->placement.service,
                                  &unit->file);
}

static void spans_and_numbers_have_defaults(void **state) {
        _cleanup_unit_ Unit *none = unit_of("", "HealthTcp=80"), *slow = unit_of("TimeoutStartSec=1h\n", ""),
                            *service = unit_of("", "Service=a\nWithdrawSec=10min"),
                            *all = unit_of("",
                                           "UpdateWatchSec=0\nUpdateDeadlineSec=2h\nHealthIntervalSec=1s\n"
                                           "HealthFailures=5\nHealthSuccesses=2\nHealthAction=restart\n"
                                           "UpdateOnFailure=revert\nPromote=1min\nUpdateBy=zone\n"
                                           "UpdatePauseSec=3\nHealthStartSec=4");

        assert_int_equal(update_watch_ms(&none->placement.update), 10000);
        assert_int_equal(deadline_of(none), 600000);
        assert_int_equal(deadline_of(slow), 2 * 3610000);
        assert_int_equal(deadline_of(service), 2 * 700000);
        assert_int_equal(health_interval_ms(&none->placement.health), 10000);
        assert_int_equal(health_timeout_ms(&none->placement.health), 2000);
        assert_int_equal(health_failures(&none->placement.health), 3);
        assert_int_equal(health_successes(&none->placement.health), 1);

        assert_int_equal(update_watch_ms(&all->placement.update), 1);
        assert_int_equal(deadline_of(all), 7200000);
        assert_int_equal(health_interval_ms(&all->placement.health), 1000);
        assert_int_equal(health_timeout_ms(&all->placement.health), 1000); /* not longer than the interval */
        assert_int_equal(health_failures(&all->placement.health), 5);
        assert_int_equal(health_successes(&all->placement.health), 2);
        assert_int_equal(all->placement.health.action, HEALTH_ACTION_RESTART);
        assert_int_equal(all->placement.health.start_ms, 4000);
        assert_int_equal(all->placement.update.on_failure, UPDATE_REVERTS);
        assert_int_equal(all->placement.update.promote_ms, 60000);
        assert_int_equal(all->placement.update.pause_ms, 3000);
        assert_string_equal(all->placement.update.by, "zone");
}

static void checks_are_lists_with_specifiers(void **state) {
        _cleanup_unit_ Unit *unit = unit_of("", "HealthExec=/bin/a %n \"b c\"\nHealthTcp=[::1]:70%i\n"
                                                "HealthHttp=\"80%i/x\" \"127.0.0.2:81/%p?y=%%\"\n"
                                                "HealthTcp=90");
        const HealthPolicy *h = &unit->placement.health;
        static const char *const expected[] = { "http 127.0.0.1:801/x", "http 127.0.0.2:81/a?y=%%",
                                                "tcp [::1]:701", "tcp 127.0.0.1:90",
                                                "exec /bin/a a@1.service \"b c\"" };

        assert_int_equal(h->n_checks, ELEMENTS(expected));
        for (size_t i = 0; i < h->n_checks; i++) {
                _cleanup_text_ Text t = {};

                text_printf(&t, "%s ", unit_check_kind_to_string(h->checks[i].kind));
                unit_check_describe(&h->checks[i], &t);
                assert_string_equal(t.chars, expected[i]);
        }
}

static void a_specifier_that_makes_a_value_invalid_is_rejected(void **state) {
        _cleanup_unit_ Unit *unit = NULL, *template = NULL;
        Error err = {};

        assert_int_equal(parse("a@x.service", "", "HealthTcp=80%i", &unit, &err), -EINVAL);
        assert_string_equal(err.message, "line 4: HealthTcp=80x: the unit has no tcp port \"80x\" (Port=)");
        assert_int_equal(parse("a@.service", "", "HealthTcp=%i", &template, NULL), 0);
}

static void the_number_of_checks_is_bounded(void **state) {
        _cleanup_unit_ Unit *unit = NULL, *none = NULL;
        _cleanup_text_ Text t = {};
        Error err = {};

        for (int i = 0; i < HEALTH_CHECKS_MAX / 2; i++)
                text_printf(&t, "HealthTcp=%d\nHealthExec=/bin/%d\n", i + 1, i);
        assert_int_equal(parse("a.service", "", t.chars, &unit, NULL), 0);
        assert_int_equal(unit->placement.health.n_checks, HEALTH_CHECKS_MAX);
        text_append(&t, "HealthHttp=1/\n");
        assert_int_equal(parse("a.service", "", t.chars, &none, &err), -EINVAL);
        assert_non_null(strstr(err.message, "HealthExec=: a unit has at most 16 checks"));
}

static void a_command_is_split_at_white_space_outside_of_quotes(void **state) {
        static const struct {
                const char *command, *expected; /* NULL: rejected */
        } rows[] = {
                { "/a", "/a|" },
                { " /a\t b  c ", "/a|b|c|" },
                { "/a \"b c\" 'd e'f", "/a|b c|d ef|" },
                { "/a \"\" ''", "/a|||" },
                { "/a \\\"b 'c\\d' \"e\\\"f\" \\ g", "/a|\"b|c\\d|e\"f| g|" },
                { "/a \\", "/a|\\|" },
                { "/a \\\n\tb\\\n", "/a|b|" },
                { "/a 'b", NULL },
                { "/a \"b", NULL },
                { "", NULL },
                { " ", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_names_ Names arguments = {};
                _cleanup_text_ Text t = {};

                assert_int_equal(names_split(rows[i].command, &arguments), rows[i].expected ? 0 : -EINVAL);
                for (size_t k = 0; k < arguments.n; k++)
                        text_printf(&t, "%s|", arguments.items[k]);
                assert_string_equal(t.chars ?: "", rows[i].expected ?: "");
        }
}

/* An older version took the options for unknown ones. */
static void a_stored_unit_with_invalid_values_stays_readable(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMaxUnavailable=maybe\n"
                                   "HealthHttp=x\nUpdateOnFailure=x\nHealthFailures=0\nCanary=2\n";
        _cleanup_unit_ Unit *stored = NULL, *submitted = NULL;
        _cleanup_warnings_ Warnings faults = {}, warnings = {};

        assert_int_equal(unit_read("a.service", text, strlen(text), &stored, NULL), 0);
        assert_int_equal(update_max_unavailable(&stored->placement.update, 9), 1);
        assert_int_equal(stored->placement.health.n_checks, 0);
        assert_int_equal(update_canaries(&stored->placement.update, 9), 2);
        assert_int_equal(unit_parse("a.service", text, strlen(text), &submitted, NULL), -EINVAL);
        assert_int_equal(unit_verify("a.service", text, strlen(text), &faults, &warnings), 0);
        assert_int_equal(faults.n, 4);
}

static void a_bound_that_no_set_of_this_size_satisfies_is_a_warning(void **state) {
        static const struct {
                const char *options;
                unsigned n;
                bool stops_first;
                const char *warnings;
        } rows[] = {
                { "MinAvailable=3", 3, false,
                  "MinAvailable=3: web@.service has 3 instances; none can be stopped first;" },
                { "MinAvailable=3", 4, false, "" },
                { "MinAvailable=3", 0, false, "" },
                { "MinAvailable=100%", 1, false,
                  "MinAvailable=100%: web@.service has 1 instance; none can be stopped first;" },
                { "MinAvailable=3\nMaxSurge=1", 3, false, "" },
                { "MinAvailable=3\nMaxSurge=1", 3, true,
                  "MinAvailable=3: web@.service has 3 instances; none can be stopped first;" },
                { "Canary=100%", 3, false,
                  "Canary=3 of 3 instances of web@.service: the rollout is held when all have the new "
                  "text;" },
                { "Canary=2", 3, false, "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_warnings_ Warnings warnings = {};
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_text_ Text text = {}, all = {};

                text_printf(&text, "[X-Fleet]\n%s\n", rows[i].options);
                assert_int_equal(unit_read("web@.service", text.chars, text.size, &unit, NULL), 0);
                assert_int_equal(update_warn(&unit->placement.update, "web@.service", rows[i].n,
                                             rows[i].stops_first, &warnings),
                                 0);
                text_append(&all, "");
                for (size_t k = 0; k < warnings.n; k++)
                        text_printf(&all, "%s;", warnings.items[k].message);
                assert_string_equal(all.chars, rows[i].warnings);
        }
}

static void an_update_takes_at_least_its_watch_times_and_pauses(void **state) {
        UpdatePolicy policy = {};

        assert_int_equal(update_least_ms(&policy, 0), 0);
        assert_int_equal(update_least_ms(&policy, 6), 60000);
        policy.pause_ms = 2000;
        assert_int_equal(update_least_ms(&policy, 6), 70000);
        policy.max_unavailable = (Share) { .unit = SHARE_NUMBER, .value = 4 };
        assert_int_equal(update_parallel(&policy, 6), 4);
        assert_int_equal(update_least_ms(&policy, 6), 22000);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_bound_that_no_set_of_this_size_satisfies_is_a_warning),
                cmocka_unit_test(an_update_takes_at_least_its_watch_times_and_pauses),
                cmocka_unit_test(invalid_values_and_combinations_are_rejected),
                cmocka_unit_test(shares_are_rounded_down_or_up),
                cmocka_unit_test(spans_and_numbers_have_defaults),
                cmocka_unit_test(checks_are_lists_with_specifiers),
                cmocka_unit_test(a_specifier_that_makes_a_value_invalid_is_rejected),
                cmocka_unit_test(the_number_of_checks_is_bounded),
                cmocka_unit_test(a_command_is_split_at_white_space_outside_of_quotes),
                cmocka_unit_test(a_stored_unit_with_invalid_values_stays_readable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
