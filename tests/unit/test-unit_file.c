#include "tests/lib/test.h"
#include <dirent.h>

#include "base/clock.h"
#include "base/file.h"
#include "units/hash.h"
#include "units/name.h"
#include "units/unit_file.h"

static UnitFile parsed(const char *text) {
        UnitFile file = {};
        Error err = {};

        assert_int_equal(unit_file_parse(text, strlen(text), UNIT_FILE_LITERAL, &file, &err), 0);
        return file;
}

static char *printed(const UnitFile *file) {
        Text t = {};

        unit_file_print(file, &t, NULL);
        return text_take(&t, NULL);
}

static void canonical_text_and_hash_are_fleets(void **state) {
        static const struct {
                const char *text, *canonical, *hash;
        } vectors[] = {
                { "[Service]\nExecStart=/bin/sleep 100\n", "[Service]\nExecStart=/bin/sleep 100\n",
                  "1c6fb6f3684bafb0c173d8b8b957ceff031180c1" },
                { "# c\n\n[Service]\r\nExecStart = /bin/sleep 100  \r\n",
                  "[Service]\nExecStart=/bin/sleep 100\n", "1c6fb6f3684bafb0c173d8b8b957ceff031180c1" },
                { "", "", "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
                { "[Unit]\n[Service]\nExecStart=/bin/true\n", "[Service]\nExecStart=/bin/true\n",
                  "86943ac9f3754cb90f8dd38bf6da7b0cad074592" },
                { "[Service]\nA=1\n[Unit]\nB=2\n[Service]\nC=3\n", "[Service]\nA=1\nC=3\n\n[Unit]\nB=2\n",
                  "a8477218b924fcbf7a632879187702ca3096810c" },
                { "A=1\n[Service]\nB=\n", "[Service]\nB=\n", "89f8753b7186f8140a4458416a730aac2c39c3a6" },
                { "[Service]\nExecStart=a \\\n  b\nX=1\n", "[Service]\nExecStart=a \\\n  b\nX=1\n",
                  "059b05c21b9ae96592ea62f0ec4aa4009a405844" },
                { "[Service]\nExecStart=a \\\n\nX=1\n", "[Service]\nExecStart=a \\\n\nX=1\n",
                  "608f2937199848027f60b42e8a3fc2c80066b9bb" },
                { "[Service]\n# c \\\nA=1\nB=2\n", "[Service]\nB=2\n",
                  "1c7c5a51d4663f54a33dc9dc5aa910cbe7e113e2" },
                { "x # [Foo]\n[Service]\nA=1\n", "[Service]\nA=1\n",
                  "96f6033bbf4a44ade2ccd7188b933499bdcd8f62" },
                { "[Service]\nA=b # c\n", "[Service]\nA=b # c\n",
                  "720a0518ff49dff9f3c510a3376e42a103fa11f4" },
                /* Hashes of fleet 1.0.0. */
                { "[Unit]\nDescription=Hello\n\n[Service]\nExecStart=/bin/sh -c \"while true; do echo tick; "
                  "sleep 5; done\"\n",
                  "[Unit]\nDescription=Hello\n\n[Service]\nExecStart=/bin/sh -c \"while true; do echo tick; "
                  "sleep 5; done\"\n",
                  "26f7938af8fffcc888a2107a64d0ce5d7e408aed" },
        };

        for (size_t i = 0; i < ELEMENTS(vectors); i++) {
                _cleanup_unit_file_ UnitFile file = parsed(vectors[i].text);
                _cleanup_free_ char *text = printed(&file);
                char hash[UNIT_HASH_SIZE];

                assert_string_equal(text, vectors[i].canonical);
                assert_int_equal(unit_file_hash(&file, hash), 0);
                assert_string_equal(hash, vectors[i].hash);
        }
}

static void values_are_taken_literally(void **state) {
        static const struct {
                const char *text, *value;
        } rows[] = {
                { "[S]\nA=b c  \n", "b c" },
                { "[S]\n  A = b\n", "b" },
                { "[S]\nA=\n", "" },
                { "[S]\nA=\"b\" 'c'\n", "\"b\" 'c'" },
                { "[S]\nA=%i ; x\n", "%i ; x" },
                { "[S]\nA=b=c\n", "b=c" },
                { "[S]\nA=b\\ \n", "b\\" },
                { "[S]\nA=b \\\n# c\n", "b \\\n# c" },
                { "[S]\nA=b\\\n  c\\\n\td\n", "b\\\n  c\\\n\td" },
                { "[S]\nA=b\\\n", "b\\\n" },
                { "[S]\nA=b\\", "b\\" },
                { "[S]\nA=b\\\n \t \nC=1\n", "b\\\n" },
                { "[S]\nA=\xc2\xa0"
                  "b\xe3\x80\x80\n",
                  "b" },
                { "[S]\nA=b", "b" },
                { "junk [ S]\nA=1\n", "1" },
                { "[S]\n; note\n\n\r\nA=1\n", "1" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_file_ UnitFile file = parsed(rows[i].text);

                assert_true(file.n_options >= 1);
                assert_string_equal(file.options[0].name, "A");
                assert_string_equal(file.options[0].value, rows[i].value);
        }
}

static void options_have_their_line(void **state) {
        _cleanup_unit_file_ UnitFile file = parsed(
                "# a\n[S]\nA=1\n\n# c \\\n more\nB=2 \\\n 3\n[T]\r\n\nC=\n");

        assert_int_equal(file.n_options, 3);
        assert_int_equal(file.options[0].line, 3);
        assert_int_equal(file.options[1].line, 7);
        assert_int_equal(file.options[2].line, 11);
        assert_string_equal(file.options[2].section, "T");
}

static void assert_refused(const char *text, size_t size, int code, const char *message) {
        UnitFile file = {};
        Error err = {};

        assert_int_equal(unit_file_parse(text, size, UNIT_FILE_LITERAL, &file, &err), code);
        assert_string_equal(err.message, message);
        assert_null(file.options);
}

static void errors_name_the_line(void **state) {
        static const struct {
                const char *text, *message;
        } rows[] = {
                { "[Service\nExecStart=/bin/true\n", "line 1: unable to find end of section (missing ])" },
                { "[S]\nA=1\n[T\nU] x\n", "line 4: found garbage after section name [T?U]: x" },
                { "[S]\nA=1\n[T] x\n", "line 3: found garbage after section name [T]: x" },
                { "[S]\nA=1\nhello\nB=1\n",
                  "line 3: unexpected newline encountered while parsing option name (missing =)" },
                { "[S]\n\nhello",
                  "line 3: unexpected end of file encountered while parsing option name (missing =)" },
                { "[S]\nA=\xff\n", "line 2: not UTF-8 text: byte 0xff" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_refused(rows[i].text, strlen(rows[i].text), -EBADMSG, rows[i].message);
        assert_refused("[S]\nA=\0\n", 9, -EBADMSG, "line 2: a zero byte");
}

static void a_line_of_2048_bytes_is_too_long_and_one_less_is_not(void **state) {
        char text[4 + 2048 + 2] = "[S]\n";

        memset(text + 4, 'a', 2048);
        text[5] = '=';
        text[4 + 2048] = '\n';
        assert_refused(text, 4 + 2048 + 1, -EBADMSG, "line 2: line too long (max 2048 bytes)");
        assert_refused(text, 4 + 2048, -EBADMSG, "line 2: line too long (max 2048 bytes)");

        text[4 + 2047] = '\n';
        text[4 + 2048] = 0;
        _cleanup_unit_file_ UnitFile file = parsed(text);
        assert_int_equal(strlen(file.options[0].value), 2045);
}

static void continued_values_may_be_longer_than_a_line(void **state) {
        _cleanup_text_ Text t = {};

        text_append(&t, "[S]\nA=");
        for (int i = 0; i < 300; i++)
                text_append(&t, "0123456789 \\\n");
        text_append(&t, "end\n");
        _cleanup_unit_file_ UnitFile file = parsed(t.chars);
        assert_int_equal(file.n_options, 1);
        assert_int_equal(strlen(file.options[0].value), 300 * 13 + 3);
}

static void a_file_above_the_limit_is_refused(void **state) {
        _cleanup_free_ char *text = malloc(UNIT_SIZE_MAX + 1);
        UnitFile file = {};

        memset(text, '\n', UNIT_SIZE_MAX + 1);
        assert_int_equal(unit_file_parse(text, UNIT_SIZE_MAX + 1, UNIT_FILE_LITERAL, &file, NULL), -EFBIG);
        assert_int_equal(unit_file_parse(text, UNIT_SIZE_MAX, UNIT_FILE_LITERAL, &file, NULL), 0);
        assert_int_equal(file.n_options, 0);
}

/* Otherwise, 128 KiB of text could take 2 GiB of memory. */
static void options_share_the_name_of_their_section(void **state) {
        static const UnitFileGrammar grammars[] = { UNIT_FILE_LITERAL, UNIT_FILE_SYSTEMD };
        static const char text[] = "[A]\na=1\nb=2\n[B]\n[A]\nc=3\n";

        for (size_t g = 0; g < ELEMENTS(grammars); g++) {
                _cleanup_unit_file_ UnitFile file = {}, again = {};

                assert_int_equal(unit_file_parse(text, strlen(text), grammars[g], &file, NULL), 0);
                assert_int_equal(file.n_options, 3);
                assert_int_equal(file.n_sections, 3);
                assert_ptr_equal(file.options[0].section, file.options[1].section);
                assert_string_equal(file.options[2].section, "A");
                for (size_t i = 0; i < file.n_options; i++)
                        assert_int_equal(unit_file_add(&again, file.options[i].section, file.options[i].name,
                                                       file.options[i].value, 0),
                                         0);
                assert_int_equal(again.n_sections, 1);
                assert_string_equal(again.options[2].value, "3");
        }
}

static unsigned line_of(const UnitFile *file, const char *section, const char *name) {
        unsigned line = 0;

        for (size_t i = 0; i < file->n_options; i++)
                if (streq(file->options[i].section, section) && streq(file->options[i].name, name))
                        line = file->options[i].line;
        return line;
}

static void the_last_of_equal_names_counts(void **state) {
        _cleanup_unit_file_ UnitFile file = parsed("[A]\nX=1\n[B]\nX=2\n[A]\nX=3\n[Install]\n");

        assert_string_equal(unit_file_get(&file, "A", "X"), "3");
        assert_string_equal(unit_file_get(&file, "B", "X"), "2");
        assert_null(unit_file_get(&file, "A", "x"));
        assert_int_equal(line_of(&file, "A", "X"), 6);
        assert_false(unit_file_has_section(&file, "Install"));
        assert_true(unit_file_has_section(&file, "B"));
}

static void configuration_joins_continued_lines_and_skips_comments_between(void **state) {
        static const char text[] =
                "# fleetd.conf\n[Fleetd]\n  Name = alpha \nMetadata=zone=a,\\\n# not this\n   ssd=true\n"
                "Path=C:\\\\\n\n;x\nEmpty=\n";
        _cleanup_unit_file_ UnitFile file = {};

        assert_int_equal(unit_file_parse(text, strlen(text), UNIT_FILE_SYSTEMD, &file, NULL), 0);
        assert_int_equal(file.n_options, 4);
        assert_string_equal(unit_file_get(&file, "Fleetd", "Name"), "alpha");
        assert_string_equal(unit_file_get(&file, "Fleetd", "Metadata"), "zone=a, ssd=true");
        assert_int_equal(line_of(&file, "Fleetd", "Metadata"), 4);
        assert_string_equal(unit_file_get(&file, "Fleetd", "Path"), "C:\\\\");
        assert_string_equal(unit_file_get(&file, "Fleetd", "Empty"), "");
        assert_int_equal(line_of(&file, "Fleetd", "Empty"), 10);
}

static void configuration_may_end_in_the_middle_of_a_line(void **state) {
        static const struct {
                const char *text, *value; /* NULL: there is no option */
        } rows[] = {
                { "[S]\nA=1 \\", "1" },
                { "[S]\nA=1 \\\n", "1" },
                { "[S]\nA=1\\\n#x\n\\\n2", "1  2" },
                { "[S]\nA=1\\\n\nB=2", "1" },
                { "[S]\r\nA=1\r\n", "1" },
                { "[S]\n\\", NULL },
                { "[S]\n \\\n ", NULL },
                { "[S]", NULL },
                { "", NULL },
                { "[S]\nA=1\n;A=2\n#A=3\n ;A=4", "1" },
                { "[S]\n\tA=1", "1" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_file_ UnitFile file = {};
                _cleanup_free_ char *text = malloc(strlen(rows[i].text) + 1); /* with nothing behind it */

                memcpy(text, rows[i].text, strlen(rows[i].text));
                text = realloc(text, strlen(rows[i].text) ?: 1);
                assert_int_equal(unit_file_parse(text, strlen(rows[i].text), UNIT_FILE_SYSTEMD, &file, NULL),
                                 0);
                assert_string_equal(unit_file_get(&file, "S", "A") ?: "none", rows[i].value ?: "none");
        }
}

static void configuration_without_section_or_equals_is_an_error(void **state) {
        static const struct {
                const char *text, *message;
        } rows[] = {
                { "\nName=alpha\n", "line 2: an option before the first [section]" },
                { "[Fleetd]\nName\n", "line 2: expected Name=value, not 'Name'" },
                { "[Fleetd]\n=x\n", "line 2: expected Name=value, not '=x'" },
                { "[Fleetd\n", "line 1: unable to find end of section (missing ])" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                UnitFile file = {};
                Error err = {};

                assert_int_equal(
                        unit_file_parse(rows[i].text, strlen(rows[i].text), UNIT_FILE_SYSTEMD, &file, &err),
                        -EBADMSG);
                assert_string_equal(err.message, rows[i].message);
        }
}

/* A random text of parts that the grammar distinguishes. */
static void make_text(Random *random, Text *t) {
        static const char *const pieces[] = {
                "[",
                "]",
                "[Unit]\n",
                "[Service]\n",
                "[X-Fleet]\n",
                "A",
                "Name",
                "=",
                "=",
                " ",
                "\t",
                "\n",
                "\n",
                "\r\n",
                "\\\n",
                "\\",
                "\\ ",
                "#",
                ";",
                "\"",
                "value",
                "A=1\n",
                "B=two words\n",
                "\xc2\xa0",
                "\xc2\x85",
                "\xc3\xa4",
                "\n\n",
        };
        size_t n = random_below(random, 40);

        text_append(t, "[S]\n");
        for (size_t i = 0; i < n; i++) {
                text_append(t, pieces[random_below(random, ELEMENTS(pieces))]);
                if (t->chars[t->size - 1] == '\n' && random_below(random, 4) > 0)
                        text_append(t, "N=");
        }
}

/* A value that ends in a backslash and does not continue ("b\ " before a space, or at the end of the file)
 * continues when it is printed, as in fleet: the hashes depend on that. */
static bool has_quirk(const UnitFile *file) {
        for (size_t i = 0; i < file->n_options; i++)
                if (ends_with(file->options[i].value, "\\"))
                        return true;
        return false;
}

static void printing_and_parsing_again_changes_nothing(void **state) {
        Random random;
        unsigned compared = 0;

        random_seed(&random, 20161201);
        for (unsigned round = 0; round < 50000; round++) {
                _cleanup_unit_file_ UnitFile file = {}, again = {};
                _cleanup_free_ char *first = NULL, *second = NULL;
                _cleanup_text_ Text t = {};

                make_text(&random, &t);
                if (unit_file_parse(t.chars, t.size, UNIT_FILE_LITERAL, &file, NULL) < 0 || has_quirk(&file))
                        continue;
                first = printed(&file);
                assert_int_equal(unit_file_parse(first, strlen(first), UNIT_FILE_LITERAL, &again, NULL), 0);
                second = printed(&again);
                assert_string_equal(first, second);
                assert_int_equal(file.n_options, again.n_options);
                compared += file.n_options > 0;
        }
        assert_true(compared > 5000);
}

/* Installed unit files of any package: none is rejected or changed. */
static const char *const folders[] = { "/usr/lib/systemd/system", "/usr/lib/systemd/user",
                                       "/lib/systemd/system", "/etc/systemd/system" };

static unsigned compare_file(int dir_fd, const char *name) {
        _cleanup_free_ char *text = NULL, *first = NULL, *second = NULL;
        _cleanup_unit_file_ UnitFile file = {}, again = {};
        char hash[UNIT_HASH_SIZE], hash_again[UNIT_HASH_SIZE];
        Error err = {};
        size_t size;

        if (unit_name_check(name, NULL) < 0 || read_file_at(dir_fd, name, UNIT_SIZE_MAX, &text, &size) < 0)
                return 0;
        if (unit_file_parse(text, size, UNIT_FILE_LITERAL, &file, &err) < 0)
                fail_msg("%s: %s", name, err.message);
        first = printed(&file);
        again = parsed(first);
        second = printed(&again);
        assert_string_equal(first, second);
        assert_int_equal(file.n_options, again.n_options);
        assert_int_equal(unit_file_hash(&file, hash), 0);
        assert_int_equal(unit_file_hash(&again, hash_again), 0);
        assert_string_equal(hash, hash_again);
        return file.n_options > 0;
}

static void unit_files_of_this_machine_are_the_same_when_printed(void **state) {
        unsigned compared = 0;

        for (size_t i = 0; i < ELEMENTS(folders); i++) {
                DIR *dir = opendir(folders[i]);
                struct dirent *e;

                while (dir && (e = readdir(dir)))
                        compared += compare_file(dirfd(dir), e->d_name);
                if (dir)
                        closedir(dir);
        }
        print_message("%u unit files\n", compared);
        if (compared == 0)
                skip();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(canonical_text_and_hash_are_fleets),
                cmocka_unit_test(values_are_taken_literally),
                cmocka_unit_test(options_have_their_line),
                cmocka_unit_test(errors_name_the_line),
                cmocka_unit_test(a_line_of_2048_bytes_is_too_long_and_one_less_is_not),
                cmocka_unit_test(continued_values_may_be_longer_than_a_line),
                cmocka_unit_test(a_file_above_the_limit_is_refused),
                cmocka_unit_test(options_share_the_name_of_their_section),
                cmocka_unit_test(the_last_of_equal_names_counts),
                cmocka_unit_test(configuration_joins_continued_lines_and_skips_comments_between),
                cmocka_unit_test(configuration_may_end_in_the_middle_of_a_line),
                cmocka_unit_test(configuration_without_section_or_equals_is_an_error),
                cmocka_unit_test(printing_and_parsing_again_changes_nothing),
                cmocka_unit_test(unit_files_of_this_machine_are_the_same_when_printed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
