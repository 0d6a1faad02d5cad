/* Small values out of text, and fleet's globs. */

#include "tests/lib/test.h"
#include "base/memory.h"
#include "base/parse.h"

typedef struct NumberCase {
        const char *text;
        int r;
        uint64_t value;
} NumberCase;

static void check_numbers(int (*parse)(const char *, uint64_t *), const NumberCase *cases, size_t n) {
        for (size_t i = 0; i < n; i++) {
                uint64_t value = 77;
                int r = parse(cases[i].text, &value);

                if (r != cases[i].r || value != (r == 0 ? cases[i].value : 77))
                        fail_msg("'%s': %d, %llu", cases[i].text, r, (unsigned long long) value);
        }
}

static void numbers_are_digits_and_nothing_else(void **state) {
        static const NumberCase cases[] = {
                { "0", 0, 0 },
                { "007", 0, 7 },
                { "18446744073709551615", 0, UINT64_MAX },
                { "18446744073709551616", -ERANGE, 0 },
                { "99999999999999999999999", -ERANGE, 0 },
                { "", -EINVAL, 0 },
                { "-1", -EINVAL, 0 },
                { "+1", -EINVAL, 0 },
                { " 1", -EINVAL, 0 },
                { "1 ", -EINVAL, 0 },
                { "0x1", -EINVAL, 0 },
                { "1.0", -EINVAL, 0 },
                { "1e3", -EINVAL, 0 },
        };

        check_numbers(parse_u64, cases, ELEMENTS(cases));
}

static void spans_have_units_and_a_bare_number_is_seconds(void **state) {
        static const NumberCase cases[] = {
                { "0", 0, 0 },          { "10", 0, 10000 },
                { "500ms", 0, 500 },    { "3s", 0, 3000 },
                { "3sec", 0, 3000 },    { "2min", 0, 120000 },
                { "2m", 0, 120000 },    { "1h", 0, 3600000 },
                { "1d", 0, 86400000 },  { "18446744073709551615s", -ERANGE, 0 },
                { "", -EINVAL, 0 },     { "s", -EINVAL, 0 },
                { "1.5s", -EINVAL, 0 }, { "1 s", -EINVAL, 0 },
                { "-1s", -EINVAL, 0 },  { "1y", -EINVAL, 0 },
                { "1S", -EINVAL, 0 },   { "1min30s", -EINVAL, 0 },
        };

        check_numbers(parse_span_ms, cases, ELEMENTS(cases));
}

static void sizes_count_by_1024(void **state) {
        static const NumberCase cases[] = {
                { "0", 0, 0 },
                { "5", 0, 5 },
                { "5B", 0, 5 },
                { "64K", 0, 65536 },
                { "16M", 0, 16 << 20 },
                { "1G", 0, 1 << 30 },
                { "18014398509481984K", -ERANGE, 0 },
                { "K", -EINVAL, 0 },
                { "1k", -EINVAL, 0 },
                { "1KB", -EINVAL, 0 },
                { "1.5G", -EINVAL, 0 },
        };

        check_numbers(parse_size, cases, ELEMENTS(cases));
}

static void booleans_are_systemds_words(void **state) {
        static const char *const yes[] = { "1", "yes", "Y", "true", "TRUE", "t", "on" };
        static const char *const no[] = { "0", "no", "n", "false", "F", "Off" };
        static const char *const neither[] = { "", "2", "maybe", "yess", " yes", "tr" };
        bool value;

        for (size_t i = 0; i < ELEMENTS(yes); i++) {
                assert_int_equal(parse_bool(yes[i], &value), 0);
                assert_true(value);
        }
        for (size_t i = 0; i < ELEMENTS(no); i++) {
                assert_int_equal(parse_bool(no[i], &value), 0);
                assert_false(value);
        }
        for (size_t i = 0; i < ELEMENTS(neither); i++)
                assert_int_equal(parse_bool(neither[i], &value), -EINVAL);
}

static void ids_are_lower_case_hex_of_exact_length(void **state) {
        assert_int_equal(parse_hex_id("0123456789abcdef", 16), 0);
        assert_int_equal(parse_hex_id("0123456789abcde", 16), -EINVAL);
        assert_int_equal(parse_hex_id("0123456789abcdef0", 16), -EINVAL);
        assert_int_equal(parse_hex_id("0123456789ABCDEF", 16), -EINVAL);
        assert_int_equal(parse_hex_id("", 0), 0);
}

static void an_id_of_64_bits_has_16_digits(void **state) {
        char text[HEX64_SIZE];

        assert_string_equal(hex64_print(0xabcu, text), "0000000000000abc");
        assert_string_equal(hex64_print(UINT64_MAX, text), "ffffffffffffffff");
        assert_string_equal(hex64_print(0, text), "0000000000000000");
}

static void one_hex_digit_has_a_value_in_either_case(void **state) {
        static const char digits[] = "0123456789abcdef", upper[] = "0123456789ABCDEF", none[] = "gG/:@`x ";

        for (int i = 0; i < 16; i++) {
                assert_int_equal(hex_digit(digits[i]), i);
                assert_int_equal(hex_digit(upper[i]), i);
        }
        for (size_t i = 0; i < sizeof(none); i++) /* its terminator, too */
                assert_int_equal(hex_digit(none[i]), -1);
}

static void addresses_have_a_host_and_a_port(void **state) {
        static const struct {
                const char *text, *host;
                uint16_t port;
        } cases[] = {
                { "10.0.0.1:2380", "10.0.0.1", 2380 },
                { "host:1", "host", 1 },
                { "[::1]:65535", "::1", 65535 },
                { "::1:80", NULL, 0 },
                { "10.0.0.1", NULL, 0 },
                { ":80", NULL, 0 },
                { "a:", NULL, 0 },
                { "a:0", NULL, 0 },
                { "a:65536", NULL, 0 },
                { "a:-1", NULL, 0 },
                { "[]:80", NULL, 0 },
                { "a[b:80", NULL, 0 },
                { "a]:80", NULL, 0 },
                { "[[a]:80", NULL, 0 },
                { "[a]]:80", NULL, 0 },
                { "[a]:80", "a", 80 },
                { "123456789012345:1", "123456789012345", 1 },
                { "1234567890123456:1", NULL, 0 },
                { "[123456789012345]:1", "123456789012345", 1 },
                { "[1234567890123456]:1", NULL, 0 },
                { "[::1:80", NULL, 0 },
                { "[::1]", NULL, 0 },
                { "", NULL, 0 },
                { "abcdefghijklmnopqrstuvwxyz:1", NULL, 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char host[16] = "";
                uint16_t port = 0;

                assert_int_equal(parse_address(cases[i].text, host, sizeof(host), &port),
                                 cases[i].host ? 0 : -EINVAL);
                assert_string_equal(host, cases[i].host ?: "");
                assert_int_equal(port, cases[i].port);
        }
}

/* What Go's path.Match answers; its errors are "no" here. */
static void globs_match_as_gos_do(void **state) {
        static const struct {
                const char *pattern, *name;
                bool match;
        } cases[] = {
                { "abc", "abc", true },
                { "abc", "abcd", false },
                { "", "", true },
                { "", "a", false },
                { "*", "", true },
                { "*", "abc", true },
                { "**", "abc", true },
                { "*c", "abc", true },
                { "a*", "a", true },
                { "a*", "ab/c", false },
                { "*", "a/b", false },
                { "a*/b", "abc/b", true },
                { "a*/b", "a/c/b", false },
                { "*x", "xxx", true },
                { "*xy", "xxxxy", true },
                { "a*b*c*d*e*/f", "axbxcxdxe/f", true },
                { "a*b*c*d*e*/f", "axbxcxdxexxx/f", true },
                { "a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false },
                { "a*b*c*d*e*/f", "axbxcxdxexxx/fff", false },
                { "a*b?c*x", "abxbbxdbxebxczzx", true },
                { "a*b?c*x", "abxbbxdbxebxczzy", false },
                { "a?c", "abc", true },
                { "a?", "a", false },
                { "a?b", "a/b", false },
                { "ab[c]", "abc", true },
                { "ab[b-d]", "abc", true },
                { "ab[e-g]", "abc", false },
                { "ab[^c]", "abc", false },
                { "ab[^b-d]", "abc", false },
                { "ab[^e-g]", "abc", true },
                { "a\\*b", "a*b", true },
                { "a\\*b", "ab", false },
                { "a\\bc", "abc", true },
                { "[\\]a]", "]", true },
                { "[\\-]", "-", true },
                { "[x\\-]", "x", true },
                { "[x\\-]", "-", true },
                { "[x\\-]", "z", false },
                { "[\\-x]", "-", true },
                { "[\\-x]", "a", false },
                { "[\\\\-a]", "]", true },
                { "web@*.service", "web@1.service", true },
                { "web@*.service", "web.service", false },
                /* malformed */
                { "[]a]", "]", false },
                { "[-]", "-", false },
                { "[x-]", "x", false },
                { "[x-]", "-", false },
                { "[-x]", "x", false },
                { "[a-b-c]", "a", false },
                { "[a--]", "a", false },
                { "[a-\\\\-b]", "-", false },
                { "\\", "a", false },
                { "[", "a", false },
                { "[^", "a", false },
                { "[^bc", "a", false },
                { "a[", "a", false },
                { "a[", "ab", false },
                { "[]", "a", false },
                { "[a", "a", false },
                { "[a\\", "a", false },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (glob_match(cases[i].pattern, cases[i].name) != cases[i].match)
                        fail_msg("%s against %s", cases[i].pattern, cases[i].name);
}

static void a_glob_of_many_stars_is_still_quick(void **state) {
        char pattern[200] = "", name[2000];

        for (int i = 0; i < 60; i++)
                strcat(pattern, "*a");
        strcat(pattern, "b");
        memset(name, 'a', sizeof(name) - 1);
        name[sizeof(name) - 1] = 0;
        assert_false(glob_match(pattern, name));
}

static void the_steps_of_a_glob_are_counted(void **state) {
        char many_stars[200] = "*", wide_class[200] = "[", name[201];
        const struct {
                const char *pattern, *name;
                size_t least, most;
        } rows[] = {
                { "a.service", "b.service", 1, 1 },
                { "a.service", "a.service", 9, 10 },
                { "web@*.service", "db.service", 1, 1 },
                { many_stars, name, 9000, 40000 }, /* tried again at each place of the name */
                { wide_class, "a", 198, 200 },     /* malformed, and read to its end */
        };

        memset(name, 'a', 200);
        name[200] = 0;
        memset(many_stars + 1, 'a', 100);
        many_stars[101] = 'b';
        memset(wide_class + 1, 'x', 198);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                size_t steps = 1000000;

                (void) glob_match_counted(rows[i].pattern, rows[i].name, &steps);
                assert_in_range(steps - 1000000, rows[i].least, rows[i].most);
        }
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_are_digits_and_nothing_else),
                cmocka_unit_test(spans_have_units_and_a_bare_number_is_seconds),
                cmocka_unit_test(sizes_count_by_1024),
                cmocka_unit_test(booleans_are_systemds_words),
                cmocka_unit_test(ids_are_lower_case_hex_of_exact_length),
                cmocka_unit_test(an_id_of_64_bits_has_16_digits),
                cmocka_unit_test(one_hex_digit_has_a_value_in_either_case),
                cmocka_unit_test(addresses_have_a_host_and_a_port),
                cmocka_unit_test(globs_match_as_gos_do),
                cmocka_unit_test(a_glob_of_many_stars_is_still_quick),
                cmocka_unit_test(the_steps_of_a_glob_are_counted),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
