/* Notifications to the service manager, and messages to the journal. */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "base/text.h"
#include "fleetd/service.h"
#include "io/loop_uv.h"
#include "tests/lib/scratch.h"

static Text sent; /* to the journal: a line for each field */

int __wrap_sd_journal_sendv_with_location(const char *file, const char *line, const char *function,
                                          const struct iovec *iov, int n);
int __wrap_sd_journal_sendv_with_location(const char *file, const char *line, const char *function,
                                          const struct iovec *iov, int n) {
        for (int i = 0; i < n; i++) {
                text_append_bytes(&sent, iov[i].iov_base, iov[i].iov_len);
                text_append_char(&sent, '\n');
        }
        return 0;
}

typedef struct Manager {
        char *scratch, *path;
        int fd;
        char message[600];
} Manager;

static int manager_setup(void **state) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        Manager *m = NEW0(Manager, 1);

        m->scratch = scratch_new();
        m->path = scratch_path(m->scratch, "notify");
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", m->path);
        m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(m->fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(setenv("NOTIFY_SOCKET", m->path, true), 0);
        *state = m;
        return 0;
}

static int manager_teardown(void **state) {
        Manager *m = *state;

        (void) unsetenv("NOTIFY_SOCKET");
        (void) unsetenv("WATCHDOG_USEC");
        (void) unsetenv("WATCHDOG_PID");
        close(m->fd);
        free(m->path);
        scratch_free(m->scratch);
        free(m);
        return 0;
}

/* Return the next notification; "": none. */
static const char *next_notification(Manager *m) {
        ssize_t n = recv(m->fd, m->message, sizeof(m->message) - 1, MSG_DONTWAIT);

        m->message[n > 0 ? n : 0] = 0;
        return m->message;
}

static void the_service_manager_is_notified_of_each_state(void **state) {
        char long_text[600];
        Manager *m = *state;

        service_notify("READY=1");
        assert_string_equal(next_notification(m), "READY=1");
        service_notify("STATUS=%s of %d", "one", 3);
        assert_string_equal(next_notification(m), "STATUS=one of 3");
        memset(long_text, 'x', sizeof(long_text) - 1);
        long_text[sizeof(long_text) - 1] = 0;
        service_notify("STATUS=%s", long_text);
        assert_int_equal(strlen(next_notification(m)), 511);
        assert_string_equal(next_notification(m), "");
}

static void stop_loop(void *userdata) {
        loop_uv_stop(userdata);
}

static void the_watchdog_is_notified_three_times_per_interval(void **state) {
        static const struct {
                const char *usec;
                uint64_t due_ms;
        } rows[] = { { "90000000", 30000 }, { "1000", 1 } };
        Manager *m = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char pid[20];
                UvLoop *uv;
                Loop *loop;
                Service *service;

                assert_int_equal(loop_uv_new(&uv), 0);
                loop = loop_uv_base(uv);
                snprintf(pid, sizeof(pid), "%d", (int) getpid());
                assert_int_equal(setenv("WATCHDOG_USEC", rows[i].usec, true), 0);
                assert_int_equal(setenv("WATCHDOG_PID", pid, true), 0);
                assert_int_equal(service_new(&service, loop), 0);
                assert_string_equal(next_notification(m), "WATCHDOG=1");
                assert_string_equal(next_notification(m), "");
                if (rows[i].due_ms == 1) { /* periodically */
                        Timer end = TIMER(stop_loop, uv);

                        for (unsigned n = 0, turns = 0; n < 3; turns++) {
                                assert_true(turns < 10000);
                                assert_int_equal(timer_start(&end, loop, 1), 0);
                                assert_true(loop_uv_run(uv) >= 0);
                                n += streq(next_notification(m), "WATCHDOG=1");
                        }
                        timer_stop(&end);
                } else {
                        uint64_t due_ms = loop_next_due_ms(loop) - loop_now_ms(loop);

                        assert_in_range(due_ms, rows[i].due_ms - 1000, rows[i].due_ms + 1);
                }
                assert_null(service_free(service));
                assert_null(loop_uv_free(uv));
        }
        assert_null(service_free(NULL));
}

static void without_a_watchdog_no_notification_is_sent(void **state) {
        Manager *m = *state;
        Service *service;
        UvLoop *uv;

        assert_int_equal(loop_uv_new(&uv), 0);
        assert_int_equal(service_new(&service, loop_uv_base(uv)), 0);
        assert_string_equal(next_notification(m), "");
        service_free(service);
        loop_uv_free(uv);
}

/* -- The journal -- */

static void a_message_goes_to_the_journal_with_its_fields(void **state) {
        LogFields all = {
                .unit = "a.service", .machine = "m1", .index = 7, .term = 3, .error = -5, .message_id = "0123"
        };
        static char long_text[3000];
        struct stat st;
        char stream[100];

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long) st.st_dev,
                 (unsigned long long) st.st_ino);
        assert_int_equal(setenv("JOURNAL_STREAM", stream, true), 0);
        text_clear(&sent);
        service_log(NULL, LOG_NOTICE, &all, "it is said");
        assert_string_equal(
                sent.chars,
                "MESSAGE=it is "
                "said\nPRIORITY=5\nSYSLOG_IDENTIFIER=fleetd\nFLEET_UNIT=a.service\nFLEET_MACHINE=m1\nFLEET_"
                "INDEX=7\nFLEET_TERM=3\nERRNO=5\n"
                "MESSAGE_ID=0123\n");
        text_clear(&sent);
        service_log(NULL, LOG_ERR, &(LogFields) { .error = 1 }, "it failed");
        assert_string_equal(sent.chars, "MESSAGE=it failed\nPRIORITY=3\nSYSLOG_IDENTIFIER=fleetd\n");
        text_clear(&sent);
        memset(long_text, 'x', sizeof(long_text) - 1);
        service_log(NULL, LOG_ERR, &(LogFields) {}, long_text);
        assert_int_equal(sent.size, 2199 + strlen("\nPRIORITY=3\nSYSLOG_IDENTIFIER=fleetd\n"));
        text_clear(&sent);
        (void) unsetenv("JOURNAL_STREAM");
}

static void without_a_journal_a_message_is_a_line_of_standard_error(void **state) {
        _cleanup_free_ char *scratch = scratch_new(), *path = scratch_path(scratch, "stderr");
        int saved = dup(STDERR_FILENO);
        char streams[4][100] = { "", "1", "x" }, text[100] = "";
        struct stat st;
        FILE *f;

        assert_non_null(freopen(path, "w", stderr));
        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        snprintf(streams[1], sizeof(streams[1]), "%llu:%llu", (unsigned long long) st.st_dev + 1,
                 (unsigned long long) st.st_ino);
        snprintf(streams[2], sizeof(streams[2]), "%llu:%llu", (unsigned long long) st.st_dev,
                 (unsigned long long) st.st_ino + 1);
        snprintf(streams[3], sizeof(streams[3]), "%llu", (unsigned long long) st.st_dev);
        for (size_t i = 0; i < ELEMENTS(streams); i++) {
                if (streams[i][0])
                        (void) setenv("JOURNAL_STREAM", streams[i], true);
                service_log(NULL, LOG_INFO, &(LogFields) { .unit = "a.service" }, "said");
        }
        (void) unsetenv("JOURNAL_STREAM");
        fflush(stderr);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        close(saved);
        f = fopen(path, "r");
        assert_non_null(f);
        assert_int_equal(fread(text, 1, sizeof(text) - 1, f), strlen("said\n") * ELEMENTS(streams));
        fclose(f);
        assert_string_equal(text, "said\nsaid\nsaid\nsaid\n");
        assert_int_equal(sent.size, 0);
        scratch_free(TAKE_PTR(scratch));
        text_done(&sent);
}

int main(void) {
#define with_a_manager(f) cmocka_unit_test_setup_teardown(f, manager_setup, manager_teardown)
        const struct CMUnitTest tests[] = {
                with_a_manager(the_service_manager_is_notified_of_each_state),
                with_a_manager(the_watchdog_is_notified_three_times_per_interval),
                with_a_manager(without_a_watchdog_no_notification_is_sent),
                cmocka_unit_test(a_message_goes_to_the_journal_with_its_fields),
                cmocka_unit_test(without_a_journal_a_message_is_a_line_of_standard_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
