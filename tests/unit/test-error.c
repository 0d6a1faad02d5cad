/* Errors: a message of the failed function, prefixes of its callers. */

#include "tests/lib/test.h"
#include "base/error.h"

static void a_message_gets_prefixes_and_the_code_is_returned(void **state) {
        Error err = {};

        assert_int_equal(error_set(&err, -EINVAL, "expected %s", "true"), -EINVAL);
        assert_int_equal(error_prefix(&err, -EINVAL, "line %d", 7), -EINVAL);
        assert_int_equal(error_prefix(&err, -EPERM, "%s", "web.service"), -EPERM);
        assert_string_equal(err.message, "web.service: line 7: expected true");
        assert_int_equal(err.code, -EPERM);
}

static void without_a_message_the_text_of_the_errno_is_used(void **state) {
        Error err = {};

        assert_string_equal(error_text(&err, -ENOENT), "No such file or directory");
        assert_string_equal(error_text(NULL, -ENOENT), "No such file or directory");
        assert_int_equal(error_prefix(&err, -ENOENT, "web.service"), -ENOENT);
        assert_string_equal(err.message, "web.service: No such file or directory");
}

static void the_error_argument_is_optional(void **state) {
        assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
        assert_int_equal(error_prefix(NULL, -EIO, "x"), -EIO);
}

static void what_is_too_long_is_cut_and_terminated(void **state) {
        char long_text[2000];
        Error err = {};

        memset(long_text, 'a', sizeof(long_text) - 1);
        long_text[sizeof(long_text) - 1] = 0;
        error_set(&err, -EINVAL, "%s", long_text);
        assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
        error_prefix(&err, -EINVAL, "prefix");
        assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
        assert_true(starts_with(err.message, "prefix: aaa"));
        error_prefix(&err, -EINVAL, "%s", long_text);
        assert_int_equal(strlen(err.message), ERROR_MESSAGE_MAX - 1);
}

static void what_is_quoted_begins_no_line_and_drives_no_terminal(void **state) {
        Error err = {};

        error_set(&err, -EINVAL, "desiredState: '%s' is none", "a\nb\x1b[2J\x7f");
        assert_string_equal(err.message, "desiredState: 'a?b?[2J?' is none");
        error_prefix(&err, -EINVAL, "%s", "a\tb");
        assert_string_equal(err.message, "a?b: desiredState: 'a?b?[2J?' is none");
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_message_gets_prefixes_and_the_code_is_returned),
                cmocka_unit_test(without_a_message_the_text_of_the_errno_is_used),
                cmocka_unit_test(the_error_argument_is_optional),
                cmocka_unit_test(what_is_too_long_is_cut_and_terminated),
                cmocka_unit_test(what_is_quoted_begins_no_line_and_drives_no_terminal),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
