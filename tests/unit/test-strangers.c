#include "tests/lib/test.h"
#include "peers/strangers.h"

enum { ADMISSION = STRANGERS_ADMISSION };

static unsigned accepted(Strangers *s, const char *address, uint64_t now_ms, unsigned n) {
        unsigned count = 0;

        for (unsigned i = 0; i < n; i++)
                count += strangers_accept(s, strangers_key(address), false, ADMISSION, now_ms);
        return count;
}

/* Return how many of 'n' addresses open a connection each. */
static unsigned accepted_of_many(Strangers *s, unsigned first, unsigned n, bool known, uint64_t now_ms) {
        unsigned count = 0;

        for (unsigned i = first; i < first + n; i++) {
                char address[32];

                snprintf(address, sizeof(address), "11.%u.%u.%u:1", i >> 16, i >> 8 & 255, i & 255);
                count += strangers_accept(s, strangers_key(address), known, ADMISSION, now_ms);
        }
        return count;
}

static void an_address_opens_forty_at_once_and_twenty_in_a_second(void **state) {
        Strangers s = {};

        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000, 100), 40);
        assert_int_equal(accepted(&s, "10.0.0.1:1001", 5049, 100), 0);
        assert_int_equal(accepted(&s, "10.0.0.1:1001", 5050, 100), 1);
        assert_int_equal(accepted(&s, "10.0.0.1:1002", 6050, 100), 20);
        assert_int_equal(accepted(&s, "10.0.0.1:1002", 999999, 100), 40);
        s = (Strangers) {};
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000, 20), 20);
        assert_int_equal(accepted(&s, "10.0.0.2:1000", 5000, 20), 20);
}

static void ipv6_addresses_count_by_their_first_64_bits(void **state) {
        Strangers s = {};

        assert_int_equal(accepted(&s, "[2001:db8::1]:1000", 5000, 100), 40);
        assert_int_equal(accepted(&s, "[2001:db8::ffff:2]:1000", 5000, 100), 0);
        assert_int_equal(accepted(&s, "[2001:db8:0:1::1]:1000", 6000, 100), 40);
}

static void an_address_of_an_authenticated_host_has_no_limit_of_its_own_for_an_hour(void **state) {
        uint64_t key = strangers_key("10.0.0.1:1");
        Strangers s = {};

        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000, 99), 40);
        strangers_trust(&s, key, 6000);
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 6000, 99), ADMISSION / 10); /* half of a burst */
        assert_true(strangers_is_trusted(&s, key, 6000 + STRANGERS_TRUSTED_MS - 1));
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 6000 + STRANGERS_TRUSTED_MS - 1, 99), ADMISSION / 10);
        assert_false(strangers_is_trusted(&s, key, 6000 + STRANGERS_TRUSTED_MS));
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 9000 + STRANGERS_TRUSTED_MS, 99), 40);
        assert_false(strangers_is_trusted(&s, strangers_key("10.0.0.2:1"), 6000));
}

/* Any user of a known host may connect from its address. */
static void a_trusted_address_has_what_the_others_leave(void **state) {
        unsigned flood = 0, others = 0;
        Strangers s = {};

        strangers_trust(&s, strangers_key("10.0.0.1:1"), 5000);
        for (uint64_t now_ms = 5000; now_ms < 7000; now_ms++) {
                flood += accepted(&s, "10.0.0.1:1000", now_ms, 10);
                if (now_ms % 50 == 0) /* five hosts begin 20 times a second */
                        others += accepted_of_many(&s, 0, 5, true, now_ms);
        }
        assert_int_equal(others, 200);
        assert_in_range(flood, 2 * ADMISSION - 200, 2 * ADMISSION + ADMISSION / 10);
}

/* As many hosts may be behind it. */
static void a_trusted_address_comes_before_strangers_above_their_half(void **state) {
        unsigned trusted = 0, strangers = 0;
        Strangers s = {};

        strangers_trust(&s, strangers_key("10.0.0.1:1"), 5000);
        for (uint64_t now_ms = 5000; now_ms < 9000; now_ms++) {
                strangers += accepted_of_many(&s, now_ms, 10, false, now_ms);
                trusted += accepted(&s, "10.0.0.1:1000", now_ms, 1);
        }
        assert_in_range(trusted, 4 * ADMISSION / 2 - ADMISSION / 5, 4 * ADMISSION / 2 + ADMISSION / 5);
        assert_in_range(strangers, 4 * ADMISSION / 2 - ADMISSION / 5, 4 * ADMISSION / 2 + ADMISSION / 5);
}

/* At a listener of users: one address that was trusted does not take the part of all others. */
static void a_trusted_address_has_a_fifth_of_the_admission_where_that_is_the_bound(void **state) {
        Strangers s = { .bounds_parts = true };

        strangers_trust(&s, strangers_key("10.0.0.1:1"), 5000);
        for (uint64_t now_ms = 5000; now_ms < 6000; now_ms++)
                (void) accepted(&s, "10.0.0.1:1000", now_ms, 10); /* it takes all that it gets */
        assert_int_equal(accepted(&s, "10.0.0.2:1000", 6000, 20), 20);
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 6000, 10), 1);
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 9000, 100), 40);
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 9100, 100), ADMISSION / 5 / 10);
        s = (Strangers) { .bounds_parts = true };
        assert_int_equal(accepted_of_many(&s, 0, 1000, false, 9100), ADMISSION / 2 / 5);
}

static void the_trust_of_an_address_ends(void **state) {
        uint64_t key = strangers_key("10.0.0.1:1");
        Strangers s = {};

        strangers_trust(&s, key, 5000);
        strangers_distrust(&s, strangers_key("10.0.0.2:1"));
        assert_true(strangers_is_trusted(&s, key, 5000));
        strangers_distrust(&s, key);
        assert_false(strangers_is_trusted(&s, key, 5000));
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000, 99), 40);
}

static void strangers_leave_half_of_the_admission_to_known_hosts(void **state) {
        Strangers s = {};
        unsigned strangers = 0, known = 0;

        for (unsigned i = 0; i < 100; i++) { /* one second of 100,000 strangers */
                strangers += accepted_of_many(&s, i * 1000, 1000, false, 50000 + i * 10);
                known += accepted_of_many(&s, i, 2, true, 50000 + i * 10);
        }
        assert_in_range(strangers, ADMISSION - 200, ADMISSION - 200 + ADMISSION / 10);
        assert_int_equal(known, 200);

        /* Known hosts that need more have at least half. */
        strangers = known = 0;
        for (unsigned i = 0; i < 100; i++) {
                strangers += accepted_of_many(&s, i * 1000, 1000, false, 70000 + i * 10);
                known += accepted_of_many(&s, i, 10, true, 70000 + i * 10);
        }
        assert_in_range(strangers, ADMISSION / 2 - 5, ADMISSION / 2 + ADMISSION / 10);
        assert_in_range(known, ADMISSION / 2 - 5, ADMISSION / 2 + ADMISSION / 10);

        /* Known hosts have an end, too. */
        known = 0;
        for (unsigned i = 0; i < 100; i++)
                known += accepted_of_many(&s, 0, 100, true, 90000 + i * 10);
        assert_in_range(known, ADMISSION, ADMISSION + ADMISSION / 5);
}

/* The hosts of a cluster whose replicas have all restarted. */
static void strangers_have_all_that_known_hosts_do_not_need(void **state) {
        Strangers s = {};
        unsigned n = 0;

        for (unsigned i = 0; i < 1000; i++) /* ten seconds */
                n += accepted_of_many(&s, i * 100, 100, false, 50000 + i * 10);
        assert_in_range(n, 10 * ADMISSION - ADMISSION / 10, 10 * ADMISSION + ADMISSION / 10);

        /* One host returns: it has its turn at once. */
        assert_int_equal(accepted_of_many(&s, 0, 1, true, 59990), 1);
}

static void many_addresses_do_not_displace_a_trusted_one(void **state) {
        uint64_t key = strangers_key("10.0.0.1:1");
        Strangers s = {};

        strangers_trust(&s, key, 10000);
        (void) accepted_of_many(&s, 0, 100000, false, 2000000);
        assert_true(strangers_is_trusted(&s, key, 2000000));

        /* Of trusted ones, that which was unused longest. */
        for (unsigned i = 0; i < 100000; i++) {
                strangers_trust(&s, 3 + 2 * i, 3000000 + i);
                if (i % 20 == 0)
                        strangers_trust(&s, key, 3000000 + i);
        }
        assert_true(strangers_is_trusted(&s, key, 3100000));
}

/* Users of one host, who have many addresses elsewhere, do not keep the other hosts out: each time the row of
 * the host went, all of its part would begin again. */
static void many_addresses_do_not_renew_the_part_of_a_known_one(void **state) {
        uint64_t key = strangers_key("10.0.0.1:1");
        unsigned others = 0, own = 0;
        Strangers s = {};

        for (unsigned i = 0; i < 5000; i++) { /* five seconds; its last session began long ago */
                own += strangers_accept(&s, key, true, ADMISSION, 50000 + i);
                for (unsigned n = 1; n <= STRANGERS_SET; n++) /* of the same set */
                        (void) strangers_accept(&s, key + 2 * n * (STRANGERS_ROWS / STRANGERS_SET), false,
                                                ADMISSION, 50000 + i);
                if (i % 5 < 2)
                        others += accepted_of_many(&s, i, 1, true, 50000 + i);
        }
        assert_in_range(own, ADMISSION - 5, ADMISSION + ADMISSION / 5); /* its fifth */
        assert_in_range(others, 5 * 145, 5 * 400);                      /* the rest of the hosts' half */
}

static uint64_t join(Strangers *s, const char *address, uint64_t now_ms) {
        bool wrong;
        uint64_t wait_ms = strangers_join(s, strangers_key(address), now_ms, &wrong);

        assert_false(wrong);
        return wait_ms;
}

static void requests_to_join_are_limited_by_address_and_in_all(void **state) {
        Strangers s = {};
        unsigned n = 0;

        assert_int_equal(join(&s, "10.0.0.1:1", 5000), 0);
        assert_int_equal(join(&s, "10.0.0.1:2", 5000), 0);
        assert_int_equal(join(&s, "10.0.0.1:3", 5000), 1000);
        assert_int_equal(join(&s, "10.0.0.1:3", 5999), 1);
        assert_int_equal(join(&s, "10.0.0.1:3", 6000), 0);

        for (unsigned i = 0; i < 10000; i++) { /* ten seconds, each from another address */
                char address[32];

                snprintf(address, sizeof(address), "12.0.%u.%u:1", i >> 8, i & 255);
                n += join(&s, address, 20000 + i) == 0;
        }
        assert_in_range(n, 10 * STRANGERS_JOINS_PER_SECOND, 11 * STRANGERS_JOINS_PER_SECOND);

        /* Many hosts may be behind a trusted address. */
        strangers_trust(&s, strangers_key("10.0.0.9:1"), 50000);
        for (unsigned i = 0; i < STRANGERS_JOINS_PER_SECOND; i++)
                assert_int_equal(join(&s, "10.0.0.9:1", 50000), 0);
        assert_int_equal(join(&s, "10.0.0.9:1", 50000), 200);
}

static void five_wrong_tokens_within_a_minute_pause_the_address(void **state) {
        uint64_t key = strangers_key("10.0.0.1:1");
        Strangers s = {};
        bool wrong;

        for (unsigned i = 0; i < STRANGERS_WRONG_MAX - 1; i++)
                strangers_wrong_token(&s, key, 5000 + i);
        assert_int_equal(join(&s, "10.0.0.1:1", 60000), 0);
        strangers_wrong_token(&s, key, 5000 + STRANGERS_WRONG_MS); /* the first of another minute */
        assert_int_equal(join(&s, "10.0.0.1:1", 70000), 0);

        for (unsigned i = 0; i < STRANGERS_WRONG_MAX - 1; i++)
                strangers_wrong_token(&s, key, 71000);
        assert_int_equal(strangers_join(&s, key, 71000, &wrong), STRANGERS_PAUSE_MS);
        assert_true(wrong);
        assert_int_equal(strangers_join(&s, key, 70999 + STRANGERS_PAUSE_MS, &wrong), 1);
        assert_int_equal(join(&s, "10.0.0.2:1", 71000), 0); /* another address */
        assert_int_equal(join(&s, "10.0.0.1:1", 71000 + STRANGERS_PAUSE_MS), 0);
}

static void messages_are_limited_by_address_and_in_all_and_then_counted(void **state) {
        uint64_t key = strangers_key("10.0.0.1:1");
        Strangers s = {};
        unsigned omitted = 99, n = 0;

        assert_true(strangers_log(&s, key, 5000, &omitted));
        assert_int_equal(omitted, 0);
        assert_false(strangers_log(&s, key, 5000 + STRANGERS_LOG_MS - 1, &omitted));
        assert_true(strangers_log(&s, key, 5000 + STRANGERS_LOG_MS, &omitted));
        assert_int_equal(omitted, 1);

        for (unsigned i = 0; i < 10000; i++)
                n += strangers_log(&s, 3 + 2 * i, 100000 + i, &omitted);
        assert_in_range(n, 10 * STRANGERS_LOGS_PER_SECOND, 11 * STRANGERS_LOGS_PER_SECOND);
        assert_true(strangers_log(&s, key, 200000, &omitted));
        assert_in_range(omitted, 1, 200);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_address_opens_forty_at_once_and_twenty_in_a_second),
                cmocka_unit_test(ipv6_addresses_count_by_their_first_64_bits),
                cmocka_unit_test(an_address_of_an_authenticated_host_has_no_limit_of_its_own_for_an_hour),
                cmocka_unit_test(a_trusted_address_has_what_the_others_leave),
                cmocka_unit_test(a_trusted_address_comes_before_strangers_above_their_half),
                cmocka_unit_test(a_trusted_address_has_a_fifth_of_the_admission_where_that_is_the_bound),
                cmocka_unit_test(the_trust_of_an_address_ends),
                cmocka_unit_test(strangers_leave_half_of_the_admission_to_known_hosts),
                cmocka_unit_test(strangers_have_all_that_known_hosts_do_not_need),
                cmocka_unit_test(many_addresses_do_not_displace_a_trusted_one),
                cmocka_unit_test(many_addresses_do_not_renew_the_part_of_a_known_one),
                cmocka_unit_test(requests_to_join_are_limited_by_address_and_in_all),
                cmocka_unit_test(five_wrong_tokens_within_a_minute_pause_the_address),
                cmocka_unit_test(messages_are_limited_by_address_and_in_all_and_then_counted),
        };

        return cmocka_run_group_tests_name("strangers", tests, NULL, NULL);
}
