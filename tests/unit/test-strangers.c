#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "peers/strangers.h"

static unsigned accepted(Strangers *s, const char *address, uint64_t now_ms, unsigned n) {
        unsigned count = 0;

        for (unsigned i = 0; i < n; i++)
                count += strangers_accept(s, address, now_ms);
        return count;
}

static void an_address_opens_forty_at_once_and_twenty_in_a_second(void **state) {
        Strangers s = {};

        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000, 100), 40);
        assert_int_equal(accepted(&s, "10.0.0.1:1001", 5049, 100), 0);
        assert_int_equal(accepted(&s, "10.0.0.1:1001", 5050, 100), 1);
        assert_int_equal(accepted(&s, "10.0.0.1:1002", 6050, 100), 20);
        assert_int_equal(accepted(&s, "10.0.0.1:1002", 999999, 100), 40);
        assert_int_equal(accepted(&s, "10.0.0.2:1000", 5000, 100), 40);
}

static void ipv6_addresses_count_by_their_first_64_bits(void **state) {
        Strangers s = {};

        assert_int_equal(accepted(&s, "[2001:db8::1]:1000", 5000, 100), 40);
        assert_int_equal(accepted(&s, "[2001:db8::ffff:2]:1000", 5000, 100), 0);
        assert_int_equal(accepted(&s, "[2001:db8:0:1::1]:1000", 5000, 100), 40);
}

static void an_address_of_an_authenticated_host_has_no_limit_for_an_hour(void **state) {
        Strangers s = {};

        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000, 100), 40);
        strangers_trust(&s, "10.0.0.1:7412", 5000);
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000, 100), 100);
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000 + STRANGERS_TRUSTED_MS - 1, 100), 100);
        assert_int_equal(accepted(&s, "10.0.0.1:1000", 5000 + STRANGERS_TRUSTED_MS, 100), 40);
}

static void many_addresses_do_not_displace_a_trusted_one_that_was_used_since(void **state) {
        Strangers s = {};

        for (unsigned i = 0; i < 100000; i++) {
                char address[32];

                snprintf(address, sizeof(address), "11.%u.%u.%u:1", i >> 16, i >> 8 & 255, i & 255);
                assert_true(strangers_accept(&s, address, 10000 + i / 100));
                if (i % 20 == 0)
                        strangers_trust(&s, "10.0.0.1:1", 10000 + i / 100 + 1);
        }
        assert_int_equal(accepted(&s, "10.0.0.1:1", 11000, 100), 100);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_address_opens_forty_at_once_and_twenty_in_a_second),
                cmocka_unit_test(ipv6_addresses_count_by_their_first_64_bits),
                cmocka_unit_test(an_address_of_an_authenticated_host_has_no_limit_for_an_hour),
                cmocka_unit_test(many_addresses_do_not_displace_a_trusted_one_that_was_used_since),
        };

        return cmocka_run_group_tests_name("strangers", tests, NULL, NULL);
}
