/* Chance: sequences that the authors of the generators publish, and fair draws. */

#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/memory.h"

static void a_seed_is_spread_as_splitmix64_does(void **state) {
        static const uint64_t expected[] = { 6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                             4593380528125082431u };
        Random r;

        random_seed(&r, 1234567);
        for (size_t i = 0; i < ELEMENTS(expected); i++)
                assert_true(r.s[i] == expected[i]);
}

static void numbers_follow_as_in_xoshiro256starstar(void **state) {
        static const uint64_t expected[] = { 11520, 0, 1509978240, 1215971899390074240u };
        Random r = { .s = { 1, 2, 3, 4 } };

        for (size_t i = 0; i < ELEMENTS(expected); i++)
                assert_true(random_u64(&r) == expected[i]);
}

/* N times the first number, 11520, in 2^64ths. */
static void a_number_below_a_bound_has_its_share(void **state) {
        Random low = { .s = { 1, 2, 3, 4 } }, again = low, one = low;

        assert_true(random_below(&low, UINT64_MAX / 11520) == 0);
        assert_true(random_below(&again, UINT64_MAX / 11520 + 2) == 1);
        assert_true(random_below(&one, 1) == 0);
        for (unsigned i = 0; i < 1000; i++)
                assert_true(random_below(&low, 3) < 3);
}

static void two_seeds_of_the_system_differ(void **state) {
        Random a, b;

        assert_int_equal(random_seed_from_system(&a), 0);
        assert_int_equal(random_seed_from_system(&b), 0);
        assert_memory_not_equal(&a, &b, sizeof(a));
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_seed_is_spread_as_splitmix64_does),
                cmocka_unit_test(numbers_follow_as_in_xoshiro256starstar),
                cmocka_unit_test(a_number_below_a_bound_has_its_share),
                cmocka_unit_test(two_seeds_of_the_system_differ),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
