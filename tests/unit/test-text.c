/* Text: building, escaping, failing once. */
#include <wchar.h>

#include "tests/lib/test.h"
#include "base/base64.h"
#include "base/text.h"

static void pieces_are_appended_and_the_whole_is_taken(void **state) {
        _cleanup_text_ Text t = {};
        size_t size = 0;
        char *s;

        text_append(&t, "a");
        text_append_char(&t, 'b');
        text_append_bytes(&t, "c\0d", 3);
        text_printf(&t, "%d-%s", 7, "x");
        assert_int_equal(t.size, 8);
        s = text_take(&t, &size);
        assert_int_equal(size, 8);
        assert_memory_equal(s, "abc\0d7-x", 9);
        assert_null(t.chars);
        free(s);

        s = text_take(&t, NULL); /* nothing appended is an empty string */
        assert_string_equal(s, "");
        free(s);
}

static void numbers_are_printed_in_full(void **state) {
        _cleanup_text_ Text t = {};
        char room[TEXT_U64_SIZE];

        text_append_u64(&t, 0);
        text_append_char(&t, ' ');
        text_append_u64(&t, 1207);
        text_append_char(&t, ' ');
        text_append_u64(&t, UINT64_MAX);
        assert_string_equal(t.chars, "0 1207 18446744073709551615");
        assert_string_equal(text_u64(90, room), "90");
}

static void a_long_text_grows_and_clearing_keeps_the_memory(void **state) {
        _cleanup_text_ Text t = {};

        for (int i = 0; i < 10000; i++)
                text_printf(&t, "%d,", i);
        assert_int_equal(t.error, 0);
        assert_int_equal(t.size, strlen(t.chars));
        assert_true(ends_with(t.chars, ",9999,"));

        size_t capacity = t.capacity;
        text_clear(&t);
        assert_string_equal(t.chars, "");
        assert_int_equal(t.capacity, capacity);
}

static void a_failure_is_remembered_and_nothing_more_is_appended(void **state) {
        Text t = {};

        text_append(&t, "a");
        text_append_bytes(&t, "x", SIZE_MAX / 2); /* more than any memory: rejected before the copy */
        assert_int_equal(t.error, -ENOMEM);
        text_append(&t, "b");
        text_printf(&t, "%d", 1);
        assert_int_equal(t.size, 1);
        assert_null(text_take(&t, NULL));
        assert_null(t.chars);

        text_append(&t, "a");
        text_printf(&t, "%ls", (const wchar_t[]) { 0x20ac, 0 }); /* no character of the "C" locale */
        assert_int_equal(t.error, -ENOMEM);
        text_clear(&t);
        text_append(&t, "b");
        assert_string_equal(t.chars, "b");
        text_done(&t);
}

static void json_escapes_what_json_and_html_must_not_see(void **state) {
        static const struct {
                const char *bytes, *json;
        } cases[] = {
                { "plain", "plain" },
                { "\"\\/", "\\\"\\\\/" },
                { "\n\r\t\x01\x1f\x7f", "\\n\\r\\t\\u0001\\u001f\x7f" },
                { "<a href=&>", "\\u003ca href=\\u0026\\u003e" },
                { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
                { "\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", "\\u2028\\u2029\xe2\x80\xaa" },
                { "\xe2\x80\xa7\xe2\x81\xa8\xe1\x80\xa8", "\xe2\x80\xa7\xe2\x81\xa8\xe1\x80\xa8" },
                { " !#%';=?[]~", " !#%';=?[]~" },
                { "\xff", "\\ufffd" },
                { "\xc3", "\\ufffd" },                                  /* cut */
                { "\xc0\xaf", "\\ufffd\\ufffd" },                       /* overlong */
                { "\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd" },            /* surrogate */
                { "\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd" }, /* beyond Unicode */
                { "a\x80z", "a\\ufffdz" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_text_ Text t = {};

                text_append_json(&t, cases[i].bytes, strlen(cases[i].bytes));
                assert_string_equal(t.chars, cases[i].json);
        }
        _cleanup_text_ Text t = {};
        text_append_json(&t, "a\0b", 3);
        assert_string_equal(t.chars, "a\\u0000b");
}

static void base64_carries_all_bytes_in_one_form(void **state) {
        static const char *const bad[] = { "A",    "AA=",  "AAA==", "AAAA=", "A===", "AA==A",
                                           "AB==", "AAB=", "A A=",  "AA\n=", "=",    "AAA\xff" };
        unsigned char bytes[256];
        size_t size;
        char *back;

        for (unsigned i = 0; i < sizeof(bytes); i++)
                bytes[i] = i;
        for (size_t n = 0; n <= sizeof(bytes); n++)
                for (unsigned url = 0; url < 2; url++) {
                        _cleanup_text_ Text t = {};
                        _cleanup_free_ char *same = NULL;

                        text_append(&t, "");
                        text_append_base64(&t, bytes, n, url);
                        assert_int_equal(t.size, url ? (n * 4 + 2) / 3 : (n + 2) / 3 * 4);
                        assert_true(!url || !strpbrk(t.chars, "+/="));
                        assert_int_equal(base64_decode(t.chars, t.size, &same, &size), 0);
                        assert_int_equal(size, n);
                        assert_memory_equal(same, bytes, n);
                }
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                if (base64_decode(bad[i], strlen(bad[i]), &back, &size) != -EINVAL)
                        fail_msg("taken: %s", bad[i]);
}

static void a_plain_text_is_utf8_without_nul(void **state) {
        assert_true(text_is_plain("", 0));
        assert_true(text_is_plain("a\n\xc3\xa4\xf0\x9f\x98\x80", 8));
        assert_false(text_is_plain("a\0b", 3));
        assert_false(text_is_plain("\xff", 1));
        assert_false(text_is_plain("\xc3", 1));
}

/* Unicode 15, table 3-7: the edges of each row. */
static void utf8_is_what_unicode_says(void **state) {
        static const struct {
                const char *bytes;
                size_t length; /* 0: none */
        } rows[] = {
                { "\x7f", 1 },
                { "\x80", 0 },
                { "\xbf", 0 },
                { "\xc1\xbf", 0 },
                { "\xc2\x80", 2 },
                { "\xc2\xbf", 2 },
                { "\xc2\x7f", 0 },
                { "\xc2\xc0", 0 },
                { "\xdf\xbf", 2 },
                { "\xe0\x9f\xbf", 0 },
                { "\xe0\xa0\x80", 3 },
                { "\xe0\xa0\x7f", 0 },
                { "\xe0\xa0\xc0", 0 },
                { "\xe1\x80\x80", 3 },
                { "\xed\x9f\xbf", 3 },
                { "\xed\xa0\x80", 0 },
                { "\xee\x80\x80", 3 },
                { "\xee\xa0\x80", 3 },
                { "\xef\xbf\xbf", 3 },
                { "\xf0\x8f\xbf\xbf", 0 },
                { "\xf0\x90\x80\x80", 4 },
                { "\xf0\x90\x80\x7f", 0 },
                { "\xf1\x80\x80\x80", 4 },
                { "\xf3\xbf\xbf\xbf", 4 },
                { "\xf4\x8f\xbf\xbf", 4 },
                { "\xf4\x90\x80\x80", 0 },
                { "\xf5\x80\x80\x80", 0 },
                { "\xff", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                for (size_t size = 1; size <= strlen(rows[i].bytes); size++) {
                        size_t n = size < rows[i].length ? 0 : rows[i].length;

                        if (utf8_length(rows[i].bytes, size) != n)
                                fail_msg("row %zu, %zu bytes: not %zu", i, size, n);
                }
}

static void visible_characters_end_at_the_bounds_of_each_range(void **state) {
        static const char *const shown[] = {
                " ",
                "~",
                "\xc2\xa0",
                "\xd8\x9b",
                "\xd8\x9d",
                "\xd9\x9c",
                "\xe2\x80\x8d",
                "\xe2\x80\x90",
                "\xe2\x80\xa7",
                "\xe2\x80\xaf",
                "\xe2\x81\xa5",
                "\xe2\x81\xaa",
                "\xe2\x82\x8e",
                "\xe2\x82\xa8",
                "\xe1\x80\x8e",
                "\xe1\x81\xa6",
                "\xc3\x9c",
                "\xc3\x80",
        };
        static const char *const escaped[] = {
                "\x1f",         "\x7f",         "\xc2\x80",     "\xc2\x9f",
                "\xd8\x9c",     "\xe2\x80\x8e", "\xe2\x80\x8f", "\xe2\x80\xa8",
                "\xe2\x80\xae", "\xe2\x81\xa6", "\xe2\x81\xa9",
        };

        for (size_t i = 0; i < ELEMENTS(shown); i++) {
                _cleanup_text_ Text t = {};

                text_append_printable(&t, shown[i]);
                assert_string_equal(t.chars, shown[i]);
        }
        for (size_t i = 0; i < ELEMENTS(escaped); i++) {
                _cleanup_text_ Text t = {};

                text_append_printable(&t, escaped[i]);
                assert_int_equal(t.size, 4 * strlen(escaped[i]));
        }
}

static void a_name_cannot_drive_the_terminal(void **state) {
        _cleanup_text_ Text t = {};

        text_append_printable(&t, "a\x1b[31m\n\x7f\xc3\xa4");
        assert_string_equal(t.chars, "a\\x1b[31m\\x0a\\x7f\xc3\xa4");

        /* C1 (CSI), marks of direction, a line separator, what is no UTF-8; all else of Unicode is shown. */
        text_clear(&t);
        text_append_printable(&t, "\xc2\x9b"
                                  "2J\xe2\x80\xae\xe2\x81\xa6\xd8\x9c\xe2\x80\xa8\x9b\xff");
        assert_string_equal(t.chars,
                            "\\xc2\\x9b2J\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xd8\\x9c\\xe2\\x80\\xa8\\x9b\\xff");
        text_clear(&t);
        text_append_printable(&t, "\xc2\xa0\xe2\x80\xa6\xe2\x97\x8f\xf0\x9f\x98\x80");
        assert_string_equal(t.chars, "\xc2\xa0\xe2\x80\xa6\xe2\x97\x8f\xf0\x9f\x98\x80");
}

static void lines_of_a_text_stay_lines(void **state) {
        _cleanup_text_ Text t = {};

        text_append_printable_bytes(&t, "a\tb\r\nc\rd\x1b]0;x\a\n\0", 16, true);
        assert_string_equal(t.chars, "a\tb\r\nc\\x0dd\\x1b]0;x\\x07\n\\x00");
        text_clear(&t);
        text_append_printable_bytes(&t, "a\r\n", 2, true); /* what follows is not of the text */
        text_append_printable_bytes(&t, "\t\r\n", 3, false);
        assert_string_equal(t.chars, "a\\x0d\\x09\\x0d\\x0a");
}

static void a_message_keeps_to_one_line_in_place(void **state) {
        char s[] = "a\nb\xc2\x9b"
                   "c\xe2\x80\xae"
                   "d\xff\xc3\xa4";

        assert_string_equal(text_keep_to_one_line(s), "a?b?c?d?\xc3\xa4");
}

static void sizes_are_said_in_the_largest_unit_that_is_exact(void **state) {
        static const struct {
                uint64_t size;
                const char *text;
        } rows[] = {
                { 0, "0 bytes" },
                { 1, "1 bytes" },
                { 1023, "1023 bytes" },
                { 1024, "1 KiB" },
                { 1025, "1025 bytes" },
                { 2048, "2 KiB" },
                { 1048575, "1048575 bytes" },
                { 1048576, "1 MiB" },
                { 1572864, "1536 KiB" },
                { 1049600, "1025 KiB" },
                { 3145728, "3 MiB" },
                { 1073741824, "1024 MiB" },
        };
        char text[32];

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_string_equal(size_text(rows[i].size, text), rows[i].text);
}

static void the_distance_of_two_words_counts_changed_bytes(void **state) {
#define SIXTY_FOUR "1234567890123456789012345678901234567890123456789012345678901234"
        static const struct {
                const char *a, *b;
                size_t distance;
        } rows[] = {
                { "", "", 0 },
                { "", "abc", 3 },
                { "abc", "", 3 },
                { "start", "start", 0 },
                { "start", "stop", 3 },
                { "kitten", "sitting", 3 },
                { "ab", "ba", 1 },
                { "wbe", "web", 1 },
                { "abcd", "badc", 2 },
                { "ca", "abc", 3 }, /* no change within two letters that were exchanged */
                { "list", "lists", 1 },
                { "xlist", "list", 1 },
                { "flaw", "lawn", 2 },
                { "a", "b", 1 },
                { SIXTY_FOUR, SIXTY_FOUR, 0 },
                { SIXTY_FOUR, "", 64 },
                { SIXTY_FOUR "5", "", SIZE_MAX },
                { "", SIXTY_FOUR "5", SIZE_MAX },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_true(text_distance(rows[i].a, rows[i].b) == rows[i].distance);
}

static void a_word_is_found_whole_only(void **state) {
        assert_true(text_has_word("after prefix progress", "after"));
        assert_true(text_has_word("after prefix progress", "progress"));
        assert_false(text_has_word("after prefix progress", "pre"));
        assert_false(text_has_word("after prefix progress", "prefix progress"));
        assert_false(text_has_word("after prefix progress", ""));
        assert_false(text_has_word("", "after"));
        assert_false(text_has_word("", ""));
}

static void a_text_that_is_too_long_ends_after_a_word(void **state) {
        static const struct {
                const char *text, *expected;
        } rows[] = {
                { "twenty-three characters", "twenty-three characters" }, /* as long as fits */
                { "one more than it may be.", "one more than it may..." },
                { "words words words words words", "words words words..." },
                { "words words words word-that-ends-nowhere", "words words words..." },
                { "begin word-that-ends-nowhere-at-all", "begin word-that-ends..." },
                { "begin w\xc3\xb6rd-that-end\xc3\xb6-nowhere", "begin w\xc3\xb6rd-that-end..." },
                { "begin w\xc3\xb6rd-that-en\xc3\xb6-nowhere", "begin w\xc3\xb6rd-that-en..." },
                { "begin w\xc3\xb6rd-that-e\xc3\xb6-nowhere", "begin w\xc3\xb6rd-that-e\xc3\xb6..." },
                { "", "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char s[24];

                text_format(s, sizeof(s), "%s", rows[i].text);
                assert_string_equal(s, rows[i].expected);
        }
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pieces_are_appended_and_the_whole_is_taken),
                cmocka_unit_test(numbers_are_printed_in_full),
                cmocka_unit_test(a_long_text_grows_and_clearing_keeps_the_memory),
                cmocka_unit_test(a_failure_is_remembered_and_nothing_more_is_appended),
                cmocka_unit_test(json_escapes_what_json_and_html_must_not_see),
                cmocka_unit_test(base64_carries_all_bytes_in_one_form),
                cmocka_unit_test(a_plain_text_is_utf8_without_nul),
                cmocka_unit_test(utf8_is_what_unicode_says),
                cmocka_unit_test(visible_characters_end_at_the_bounds_of_each_range),
                cmocka_unit_test(a_name_cannot_drive_the_terminal),
                cmocka_unit_test(lines_of_a_text_stay_lines),
                cmocka_unit_test(a_message_keeps_to_one_line_in_place),
                cmocka_unit_test(sizes_are_said_in_the_largest_unit_that_is_exact),
                cmocka_unit_test(the_distance_of_two_words_counts_changed_bytes),
                cmocka_unit_test(a_word_is_found_whole_only),
                cmocka_unit_test(a_text_that_is_too_long_ends_after_a_word),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
