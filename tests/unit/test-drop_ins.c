/* Drop-ins: one text of a unit's file and its drop-ins. */

#include "tests/lib/test.h"
#include "units/drop_ins.h"
#include "units/unit.h"

#define MAIN "[Service]\nExecStart=/bin/a\n"

static void begin(DropIns *d, const char *name) {
        assert_int_equal(drop_ins_init(d, name), 0);
}

static void add(DropIns *d, const char *folder, const char *name, const char *text) {
        for (size_t i = 0; i < d->n; i++)
                if (streq(d->folders[i].name, folder)) {
                        size_t n = d->folders[i].n++;

                        d->folders[i].files = realloc(d->folders[i].files, (n + 1) * sizeof(FolderFile));
                        assert_non_null(d->folders[i].files);
                        d->folders[i].files[n] = (FolderFile) { .name = strdup(name),
                                                                .text = text ? strdup(text) : NULL,
                                                                .size = text ? strlen(text) : 0,
                                                                .error = text ? 0 : -ELOOP };
                        return;
                }
        fail_msg("%s does not concern it", folder);
}

static void assert_text(DropIns *d, const char *main, const char *expected) {
        _cleanup_text_ Text t = {};
        Error err = {};

        text_append(&t, main);
        if (drop_ins_append(d, &t, &err) < 0)
                fail_msg("%s", err.message);
        assert_string_equal(t.chars, expected);
        drop_ins_done(d);
}

static void assert_refused(DropIns *d, const char *message) {
        _cleanup_text_ Text t = {};
        Error err = {};

        assert_true(drop_ins_append(d, &t, &err) < 0);
        assert_string_equal(err.message, message);
        drop_ins_done(d);
}

/* "*" marks folders of the instance only. */
static void assert_folders(const char *name, const char *expected) {
        _cleanup_text_ Text t = {};
        DropIns d;

        begin(&d, name);
        for (size_t i = 0; i < d.n; i++)
                text_printf(&t, "%s%s%s", i > 0 ? " " : "", d.folders[i].of_instance ? "*" : "",
                            d.folders[i].name);
        assert_string_equal(t.chars, expected);
        drop_ins_done(&d);
}

static void the_folders_are_systemds_with_the_most_specific_first(void **state) {
        assert_folders("web.service", "web.service.d service.d");
        assert_folders("web@.service", "web@.service.d service.d");
        assert_folders("web@a@b.c.service", "*web@a@b.c.service.d web@.service.d service.d");
        assert_folders("a-b-c.mount", "a-b-c.mount.d a-b-.mount.d a-.mount.d mount.d");
        assert_folders("a--b.timer", "a--b.timer.d a--.timer.d a-.timer.d timer.d");
        assert_folders("-a-.timer", "-a-.timer.d timer.d");
        assert_folders("a-b@.service", "a-b@.service.d a-.service.d service.d");
        assert_folders(
                "a-b@i-j.service",
                "*a-b@i-j.service.d a-b@.service.d a-.service.d *a-@i-j.service.d *a-@.service.d service.d");
}

static void only_the_folder_of_a_possible_unit_is_a_folder_of_drop_ins(void **state) {
        assert_true(drop_ins_folder_check("web.service.d"));
        assert_true(drop_ins_folder_check("web-.service.d"));
        assert_true(drop_ins_folder_check("web-@.service.d"));
        assert_true(drop_ins_folder_check("service.d"));
        assert_false(drop_ins_folder_check("web.service"));
        assert_false(drop_ins_folder_check("conf.d"));
        assert_false(drop_ins_folder_check("service.wants"));
        assert_false(drop_ins_folder_check(".service.d"));
        assert_false(drop_ins_folder_check(".d"));
}

static void drop_ins_follow_the_file_each_after_its_name(void **state) {
        DropIns d;

        begin(&d, "web.service");
        assert_text(&d, MAIN, MAIN);
        begin(&d, "web.service");
        add(&d, "web.service.d", "10-a.conf", "# why\n[Service]\nNice=1");
        add(&d, "web.service.d", "20-b.conf", "\n; none\n [X-Fleet]\nGlobal=true\n");
        assert_text(&d, MAIN,
                    MAIN "\n\n# web.service.d/10-a.conf\n# why\n[Service]\nNice=1"
                         "\n\n# web.service.d/20-b.conf\n\n; none\n [X-Fleet]\nGlobal=true\n");
}

static void an_instances_drop_in_takes_the_place_of_its_templates_and_an_empty_one_takes_it_away(
        void **state) {
        DropIns d;

        begin(&d, "web@1.service");
        add(&d, "web@.service.d", "10.conf", "[Service]\nNice=1\n");
        add(&d, "web@.service.d", "20.conf", "[Service]\nNice=2\n");
        add(&d, "web@.service.d", "30.conf", "[Service]\nNice=3\n");
        add(&d, "web@1.service.d", "15.conf", "[Service]\nNice=15\n");
        add(&d, "web@1.service.d", "20.conf", "");
        add(&d, "web@1.service.d", "30.conf", "[Service]\nNice=33\n");
        assert_text(&d, "",
                    "\n\n# web@.service.d/10.conf\n[Service]\nNice=1\n\n\n# "
                    "web@1.service.d/15.conf\n[Service]\nNice=15\n"
                    "\n\n# web@1.service.d/30.conf\n[Service]\nNice=33\n");
}

static void files_of_all_folders_are_sorted_and_the_most_specific_of_one_name_counts(void **state) {
        DropIns d;

        begin(&d, "a-b@1.service");
        add(&d, "service.d", "00.conf", "[Service]\nNice=1\n");
        add(&d, "service.d", "10.conf", "[Service]\nNice=2\n");
        add(&d, "service.d", "50.conf", "[Service]\nNice=3\n");
        add(&d, "a-@.service.d", "10.conf", "[Service]\nNice=4\n");
        add(&d, "a-@.service.d", "50.conf", "");
        add(&d, "a-@1.service.d", "10.conf", "[Service]\nNice=5\n");
        add(&d, "a-b@.service.d", "05.conf", "[Service]\nNice=6\n");
        assert_text(&d, "",
                    "\n\n# service.d/00.conf\n[Service]\nNice=1\n\n\n# "
                    "a-b@.service.d/05.conf\n[Service]\nNice=6\n"
                    "\n\n# a-@1.service.d/10.conf\n[Service]\nNice=5\n");
}

static void an_invalid_drop_in_is_rejected_with_its_name_and_line(void **state) {
        DropIns d;

        begin(&d, "web.service");
        add(&d, "web.service.d", "a.conf", "# here\n\nNice=1\n[Service]\n");
        assert_refused(&d, "web.service.d/a.conf: line 3: an option before the first [section]");
        begin(&d, "web.service");
        add(&d, "web.service.d", "a.conf", "[Service]\nNice\n");
        assert_refused(&d, "web.service.d/a.conf: line 2: unexpected newline encountered while parsing "
                           "option name (missing =)");
        begin(&d, "web.service");
        add(&d, "web.service.d", "a.conf", NULL);
        assert_refused(&d, "web.service.d/a.conf: a symbolic link; only plain files are read, and an empty "
                           "one takes a drop-in away");
}

/* The hash is that of the whole text without comments. */
static void a_drop_in_changes_the_unit_as_a_part_of_its_file(void **state) {
        _cleanup_unit_ Unit *with = NULL, *plain = NULL, *whole = NULL;
        const char *written = "[Unit]\nAfter=b.service\n[Service]\nExecStart=/bin/"
                              "a\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\n[X-Fleet]\nGlobal=true\n";
        const char *main = "[Unit]\nAfter=b.service\n[Service]\nExecStart=/bin/a\nEnvironment=A=1 \\";
        _cleanup_text_ Text t = {};
        DropIns d;

        begin(&d, "web.service");
        add(&d, "web.service.d", "a.conf",
            "[Service]\nEnvironment=\nEnvironment=B=2\n[X-Fleet]\nGlobal=true\n");
        text_append_bytes(&t, main, strlen(main) - 2); /* the next one: with the backslash */
        assert_int_equal(drop_ins_append(&d, &t, NULL), 0);
        assert_int_equal(unit_parse("web.service", t.chars, t.size, &with, NULL), 0);
        assert_int_equal(unit_parse("web.service", written, strlen(written), &whole, NULL), 0);
        assert_int_equal(unit_parse("web.service", main, strlen(main), &plain, NULL), 0);
        assert_true(unit_equal(with, whole));
        assert_false(unit_equal(with, plain));
        assert_true(with->placement.global);

        /* A continued line at the end of the file does not extend into the drop-in. */
        text_clear(&t);
        text_append(&t, main);
        assert_int_equal(drop_ins_append(&d, &t, NULL), 0);
        with = unit_free(with);
        assert_int_equal(unit_parse("web.service", t.chars, t.size, &with, NULL), 0);
        assert_string_equal(unit_file_get(&with->file, "Service", "Environment"), "B=2");
        assert_true(with->placement.global);
        drop_ins_done(&d);
}

static void a_folder_is_found_by_the_begin_of_a_path_with_few_comparisons(void **state) {
        static const char *const names[] = { "web.service", "a-b@i-j.service", "a--b.timer", NULL },
                                 *const none[] = {
                                         "",     "/",  "service.d",         "service/a", "service.dd/a",
                                         "web/", "# ", "\n\n# service.d/a", "zzz/a"
                                 };
        char longest[UNIT_NAME_MAX + 1] = {}, path[UNIT_NAME_MAX + 9];
        DropIns d;

        while (strlen(longest) + sizeof("a-@1.service") < sizeof(longest))
                strcat(longest, "a-");
        strcat(longest, "@1.service");
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                size_t most = 1;

                begin(&d, names[i] ?: longest);
                assert_int_equal(drop_ins_sort(&d), 0);
                for (size_t n = d.n; n > 1; n /= 2)
                        most++;
                for (size_t k = 0; k < d.n; k++) {
                        d.compared = 0;
                        snprintf(path, sizeof(path), "%s/a", d.folders[k].name);
                        assert_ptr_equal(drop_ins_find(&d, path), &d.folders[k]);
                        assert_in_range(d.compared, 1, most);
                }
                for (size_t k = 0; k < ELEMENTS(none); k++) {
                        d.compared = 0;
                        assert_null(drop_ins_find(&d, none[k]));
                        assert_in_range(d.compared, 0, most);
                }
                drop_ins_done(&d);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_folders_are_systemds_with_the_most_specific_first),
                cmocka_unit_test(a_folder_is_found_by_the_begin_of_a_path_with_few_comparisons),
                cmocka_unit_test(only_the_folder_of_a_possible_unit_is_a_folder_of_drop_ins),
                cmocka_unit_test(files_of_all_folders_are_sorted_and_the_most_specific_of_one_name_counts),
                cmocka_unit_test(drop_ins_follow_the_file_each_after_its_name),
                cmocka_unit_test(
                        an_instances_drop_in_takes_the_place_of_its_templates_and_an_empty_one_takes_it_away),
                cmocka_unit_test(an_invalid_drop_in_is_rejected_with_its_name_and_line),
                cmocka_unit_test(a_drop_in_changes_the_unit_as_a_part_of_its_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
