/* Drop-ins: one text of a unit's file and the parts beside it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "units/drop_ins.h"
#include "units/unit.h"

#define MAIN "[Service]\nExecStart=/bin/a\n"

static void add(DropIns *d, size_t folder, const char *name, const char *text) {
        size_t n = d->folders[folder].n++;

        d->folders[folder].files = realloc(d->folders[folder].files, (n + 1) * sizeof(FolderFile));
        assert_non_null(d->folders[folder].files);
        d->folders[folder].files[n] = (FolderFile) { .name = strdup(name), .text = text ? strdup(text) : NULL, .size = text ? strlen(text) : 0,
                                                     .error = text ? 0 : -ELOOP };
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

static void assert_refused(DropIns *d, const char *sentence) {
        _cleanup_text_ Text t = {};
        Error err = {};

        assert_true(drop_ins_append(d, &t, &err) < 0);
        assert_string_equal(err.message, sentence);
        drop_ins_done(d);
}

static void a_unit_has_one_folder_and_an_instance_its_templates_too(void **state) {
        DropIns d;

        drop_ins_init(&d, "web.service");
        assert_int_equal(d.n, 1);
        assert_string_equal(d.folders[0].name, "web.service.d");
        drop_ins_init(&d, "web@.service");
        assert_int_equal(d.n, 1);
        assert_string_equal(d.folders[0].name, "web@.service.d");
        drop_ins_init(&d, "web@a@b.c.service");
        assert_int_equal(d.n, 2);
        assert_string_equal(d.folders[0].name, "web@.service.d");
        assert_string_equal(d.folders[1].name, "web@a@b.c.service.d");
}

static void drop_ins_follow_the_file_each_behind_its_name(void **state) {
        DropIns d;

        drop_ins_init(&d, "web.service");
        assert_text(&d, MAIN, MAIN);
        drop_ins_init(&d, "web.service");
        add(&d, 0, "10-a.conf", "# why\n[Service]\nNice=1");
        add(&d, 0, "20-b.conf", "\n; none\n [X-Fleet]\nGlobal=true\n");
        assert_text(&d, MAIN, MAIN "\n\n# web.service.d/10-a.conf\n# why\n[Service]\nNice=1"
                                   "\n\n# web.service.d/20-b.conf\n\n; none\n [X-Fleet]\nGlobal=true\n");
}

static void an_instances_drop_in_takes_the_place_of_its_templates_and_an_empty_one_takes_it_away(void **state) {
        DropIns d;

        drop_ins_init(&d, "web@1.service");
        add(&d, 0, "10.conf", "[Service]\nNice=1\n");
        add(&d, 0, "20.conf", "[Service]\nNice=2\n");
        add(&d, 0, "30.conf", "[Service]\nNice=3\n");
        add(&d, 1, "15.conf", "[Service]\nNice=15\n");
        add(&d, 1, "20.conf", "");
        add(&d, 1, "30.conf", "[Service]\nNice=33\n");
        assert_text(&d, "", "\n\n# web@.service.d/10.conf\n[Service]\nNice=1\n\n\n# web@1.service.d/15.conf\n[Service]\nNice=15\n"
                            "\n\n# web@1.service.d/30.conf\n[Service]\nNice=33\n");
}

static void what_is_no_unit_file_by_itself_is_refused_with_its_name_and_line(void **state) {
        DropIns d;

        drop_ins_init(&d, "web.service");
        add(&d, 0, "a.conf", "# here\n\nNice=1\n[Service]\n");
        assert_refused(&d, "web.service.d/a.conf: line 3: an option before the first [section]");
        drop_ins_init(&d, "web.service");
        add(&d, 0, "a.conf", "[Service]\nNice\n");
        assert_refused(&d, "web.service.d/a.conf: line 2: unexpected newline encountered while parsing option name");
        drop_ins_init(&d, "web.service");
        add(&d, 0, "a.conf", NULL);
        assert_refused(&d, "web.service.d/a.conf: a symbolic link; only plain files are read, and an empty one takes a drop-in away");
}

/* Its hash is that of all together, comments apart. */
static void a_drop_in_changes_the_unit_as_if_it_stood_in_the_file(void **state) {
        _cleanup_unit_ Unit *with = NULL, *plain = NULL, *whole = NULL;
        const char *written = "[Unit]\nAfter=b.service\n[Service]\nExecStart=/bin/a\nEnvironment=A=1\nEnvironment=\nEnvironment=B=2\n[X-Fleet]\nGlobal=true\n";
        const char *main = "[Unit]\nAfter=b.service\n[Service]\nExecStart=/bin/a\nEnvironment=A=1 \\";
        _cleanup_text_ Text t = {};
        DropIns d;

        drop_ins_init(&d, "web.service");
        add(&d, 0, "a.conf", "[Service]\nEnvironment=\nEnvironment=B=2\n[X-Fleet]\nGlobal=true\n");
        text_append_bytes(&t, main, strlen(main) - 2); /* the next one: with the backslash */
        assert_int_equal(drop_ins_append(&d, &t, NULL), 0);
        assert_int_equal(unit_parse("web.service", t.chars, t.size, &with, NULL), 0);
        assert_int_equal(unit_parse("web.service", written, strlen(written), &whole, NULL), 0);
        assert_int_equal(unit_parse("web.service", main, strlen(main), &plain, NULL), 0);
        assert_true(unit_equal(with, whole));
        assert_false(unit_equal(with, plain));
        assert_true(with->placement.global);

        /* A line that goes on at the end of the file swallows no section. */
        text_clear(&t);
        text_append(&t, main);
        assert_int_equal(drop_ins_append(&d, &t, NULL), 0);
        with = unit_free(with);
        assert_int_equal(unit_parse("web.service", t.chars, t.size, &with, NULL), 0);
        assert_string_equal(unit_file_get(&with->file, "Service", "Environment"), "B=2");
        assert_true(with->placement.global);
        drop_ins_done(&d);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_unit_has_one_folder_and_an_instance_its_templates_too),
                cmocka_unit_test(drop_ins_follow_the_file_each_behind_its_name),
                cmocka_unit_test(an_instances_drop_in_takes_the_place_of_its_templates_and_an_empty_one_takes_it_away),
                cmocka_unit_test(what_is_no_unit_file_by_itself_is_refused_with_its_name_and_line),
                cmocka_unit_test(a_drop_in_changes_the_unit_as_if_it_stood_in_the_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
