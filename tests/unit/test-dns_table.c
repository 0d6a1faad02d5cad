/* The table: lines of files, and the folder as it changes. */
#include "tests/lib/test.h"
#include "dns/table.h"
#include "base/log.h"
#include "tests/dns/queries.h"
#include "tests/lib/scratch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

typedef struct Fixture {
        Table table;
        sd_event *event;
        char *scratch, *folder;
        TableWatch *watch;
        Text log;
} Fixture;

/* The timer of the next look for an absent folder: a test calls it. */
static sd_event_time_handler_t look;
static void *look_userdata;
static uint64_t look_ms;
static unsigned n_looks;
static sd_event_source *any_source; /* what the code under test keeps and releases */

int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                                      uint64_t accuracy, sd_event_time_handler_t handler, void *userdata);
int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                                      uint64_t accuracy, sd_event_time_handler_t handler, void *userdata) {
        look_ms = usec / 1000;
        n_looks++;
        look = handler;
        *ret = sd_event_source_ref(any_source);
        look_userdata = userdata;
        return 0;
}

static void pass(uint64_t ms) {
        assert_non_null(look);
        assert_int_equal(look_ms, ms);
        look(NULL, 0, look_userdata);
}

static void take_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        text_printf(userdata, "%s\n", message);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        f->scratch = scratch_new();
        f->folder = scratch_path(f->scratch, "services");
        assert_int_equal(sd_event_new(&f->event), 0);
        assert_int_equal(sd_event_add_defer(f->event, &any_source, NULL, NULL), 0);
        (void) sd_event_source_set_enabled(any_source, SD_EVENT_OFF);
        n_looks = 0;
        log_set_sink(take_log, &f->log);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        table_watch_free(f->watch);
        sd_event_source_unref(any_source);
        sd_event_unref(f->event);
        table_done(&f->table);
        free(f->folder);
        scratch_free(f->scratch);
        log_set_sink(NULL, NULL);
        text_done(&f->log);
        free(f);
        return 0;
}

static void watch(Fixture *f) {
        assert_int_equal(table_watch_new(&f->table, f->event, f->folder, &f->watch), 0);
}

/* Dispatch what is pending. */
static void run(Fixture *f) {
        while (sd_event_run(f->event, 0) > 0)
                ;
}

/* As fleetd does: by rename. */
static void replace(Fixture *f, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(f->folder, name),
                            *temporary = scratch_path(f->folder, ".new");

        scratch_write(temporary, text);
        assert_int_equal(rename(temporary, path), 0);
}

static void remove_file(Fixture *f, const char *name) {
        _cleanup_free_ char *path = scratch_path(f->folder, name);

        assert_int_equal(unlink(path), 0);
}

#define HOST "7 " THIS_HOST " alpha a complete\n"
#define ONE  "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a shop@1.service\n"
#define TWO  "b-00000002 10.0.0.2 80 tcp http " OTHER_HOST " b shop@2.service\n"

static void make_folder(Fixture *f) {
        assert_int_equal(mkdir(f->folder, 0755), 0);
        replace(f, ".host", HOST);
        replace(f, "shop", ONE);
}

/* The number of lines of a service; -1: it does not exist. */
static int lines(Fixture *f, const char *name) {
        const TableService *s = table_find(&f->table, name, strlen(name));

        return s ? (int) s->n_lines : -1;
}

static const char *new_log(Fixture *f) {
        static char text[2000];

        snprintf(text, sizeof(text), "%s", text_chars(&f->log));
        text_clear(&f->log);
        return text;
}

static void files_are_followed_as_they_change(void **state) {
        Fixture *f = *state;

        make_folder(f);
        watch(f);
        assert_int_equal(lines(f, "shop"), 1);
        assert_true(f->table.is_known && f->table.host.complete && f->table.host.index == 7);
        replace(f, "shop", ONE TWO);
        replace(f, "db", TWO);
        run(f);
        assert_int_equal(lines(f, "shop"), 2);
        assert_int_equal(lines(f, "db"), 1);
        assert_int_equal(n_looks, 0); /* a rename costs one file, not the folder */
        replace(f, ".host", "8 " THIS_HOST " alpha - partial\n");
        remove_file(f, "db");
        run(f);
        pass(TABLE_REMOVED_MS);
        assert_int_equal(lines(f, "db"), -1);
        assert_false(f->table.host.complete);
        assert_int_equal(f->table.host.index, 8);
        replace(f, "shop", "");
        run(f);
        assert_int_equal(lines(f, "shop"), -1);
        assert_string_equal(new_log(f), "");
}

static void the_table_stays_while_the_folder_is_absent(void **state) {
        _cleanup_free_ char *away = NULL;
        Fixture *f = *state;

        watch(f);
        assert_false(f->table.is_known);
        assert_true(starts_with(new_log(f), "Failed to read "));
        pass(TABLE_LOOK_MS);
        assert_string_equal(new_log(f), ""); /* once */
        make_folder(f);
        pass(TABLE_LOOK_MS);
        run(f);
        assert_int_equal(lines(f, "shop"), 1);
        away = scratch_path(f->scratch, "away");
        assert_int_equal(rename(f->folder, away), 0);
        run(f);
        assert_int_equal(lines(f, "shop"), 1);
        assert_true(starts_with(new_log(f), "Failed to read "));
        /* A new folder counts when it has the file of the host, which is looked for each second. */
        assert_int_equal(mkdir(f->folder, 0755), 0);
        pass(TABLE_LOOK_MS);
        assert_int_equal(lines(f, "shop"), 1);
        replace(f, "db", TWO);
        replace(f, ".host", HOST);
        run(f);
        assert_int_equal(lines(f, "shop"), -1);
        assert_int_equal(lines(f, "db"), 1);
}

static void many_removals_are_one_look(void **state) {
        Fixture *f = *state;
        char name[16];

        make_folder(f);
        for (int i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "s%d", i);
                replace(f, name, TWO);
        }
        watch(f);
        for (int i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "s%d", i);
                remove_file(f, name);
                run(f);
        }
        assert_int_equal(n_looks, 1);
        pass(TABLE_REMOVED_MS);
        assert_int_equal(HASH_COUNT(f->table.services), 1);
        remove_file(f, "shop");
        run(f);
        assert_int_equal(n_looks, 2);
}

/* As "rm -r" does: the files, one after the other, then the folder. */
static void the_removal_of_the_folder_removes_no_service(void **state) {
        Fixture *f = *state;

        make_folder(f);
        watch(f);
        remove_file(f, "shop");
        run(f);
        remove_file(f, ".host");
        run(f);
        pass(TABLE_REMOVED_MS);
        assert_int_equal(lines(f, "shop"), 1);
        assert_int_equal(rmdir(f->folder), 0);
        run(f);
        pass(TABLE_LOOK_MS);
        assert_int_equal(lines(f, "shop"), 1);
}

/* More changes than the queue of inotify holds. */
static void after_an_overflow_all_files_are_read(void **state) {
        _cleanup_free_ char *x = NULL, *y = NULL;
        Fixture *f = *state;
        char text[32] = "";
        int fd, max;

        fd = open("/proc/sys/fs/inotify/max_queued_events", O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
        close(fd);
        max = (int) strtol(text, NULL, 10);
        if (max > 100000)
                skip();
        make_folder(f);
        watch(f);
        x = scratch_path(f->folder, "x");
        y = scratch_path(f->folder, "y");
        replace(f, "x", TWO);
        for (int i = 0; i < max / 4 + 10; i++) {
                assert_int_equal(rename(x, y), 0);
                assert_int_equal(rename(y, x), 0);
        }
        remove_file(f, "x");
        replace(f, "shop", ONE TWO);
        run(f);
        assert_int_equal(lines(f, "shop"), 2);
        assert_int_equal(lines(f, "x"), -1);
        assert_int_equal(lines(f, "y"), -1);
}

static void a_line_that_cannot_be_read_is_skipped_and_logged_once(void **state) {
        static const char *const wrong[] = {
                "\n",
                "x\n",
                "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a\n", /* cut */
                "a-00000001 10.0.0.300 80 tcp http " THIS_HOST " a u.service\n",
                "a-00000001 10.0.0.1 65536 tcp http " THIS_HOST " a u.service\n",
                "a-00000001 10.0.0.1 80 sctp http " THIS_HOST " a u.service\n",
                "a-00000001 10.0.0.1 80 tcp Http " THIS_HOST " a u.service\n",
                "A-00000001 10.0.0.1 80 tcp http " THIS_HOST " a u.service\n",
                "a-00000001 10.0.0.1 80 tcp http 0123 a u.service\n",
                "a-00000001  10.0.0.1 80 tcp http " THIS_HOST " a u.service\n",
                "a-00000001 10.0.0.1 80 tcp http " THIS_HOST
                " \xc3\xa4 u.service\n", /* UTF-8 that is not coded */
                "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a \xff.service\n",
                "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a u.service more\n",
                "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a u.service ",
                "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a u.service", /* no end */
        };
        _cleanup_text_ Text longer = {};
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                _cleanup_text_ Text text = {};

                text_printf(&text, "%s%s%s%s", ONE, wrong[i], ends_with(wrong[i], "\n") ? TWO : "", "");
                table_file(&f->table, "shop", text.chars);
                assert_int_equal(lines(f, "shop"), ends_with(wrong[i], "\n") ? 2 : 1);
                assert_string_equal(new_log(f),
                                    i == 0 ? "services/shop: line 2 is invalid, and skipped\n" : "");
        }
        text_append(&longer, "b-00000002 10.0.0.2 80 tcp http " OTHER_HOST " b ");
        for (int i = 0; i < ENDPOINT_LINE_MAX; i++)
                text_append_char(&longer, 'x');
        text_append(&longer, ".service\n" TWO);
        table_file(&f->table, "shop", longer.chars);
        assert_int_equal(lines(f, "shop"), 1);
        table_file(&f->table, "shop", ONE);
        assert_string_equal(new_log(f), "");
        table_file(&f->table, "shop", "x\n");
        assert_string_equal(new_log(f), "services/shop: line 1 is invalid, and skipped\n");
        assert_int_equal(lines(f, "shop"), -1);
}

static void other_files_are_no_services(void **state) {
        static const char *const names[] = { ".hidden", "Shop", "a.b", "-a", "a_b", ".new" };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                table_file(&f->table, names[i], ONE);
        assert_int_equal(HASH_COUNT(f->table.services), 0);
        assert_int_equal(lines(f, "a.b"), -1);
}

static void an_invalid_file_of_the_host_keeps_the_former_one(void **state) {
        Fixture *f = *state;

        table_file(&f->table, ".host", HOST);
        table_file(&f->table, ".host", "x " THIS_HOST " alpha a complete\n");
        assert_int_equal(f->table.host.index, 7);
        table_file(&f->table, ".host", NULL);
        assert_true(f->table.is_known);
        assert_string_equal(new_log(f), "services/.host is invalid; keeping the former one\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(files_are_followed_as_they_change),
                TEST(the_table_stays_while_the_folder_is_absent),
                TEST(many_removals_are_one_look),
                TEST(the_removal_of_the_folder_removes_no_service),
                TEST(after_an_overflow_all_files_are_read),
                TEST(a_line_that_cannot_be_read_is_skipped_and_logged_once),
                TEST(other_files_are_no_services),
                TEST(an_invalid_file_of_the_host_keeps_the_former_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
