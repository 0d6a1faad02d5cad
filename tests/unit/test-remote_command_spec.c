#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "fleetd/api/remote_command_spec.h"

static const char *line_of(const RemoteCommandSpec *spec, char ret[static 2048]) {
        RemoteCommandLine command;

        remote_command_spec_command(spec, &command);
        ret[0] = 0;
        for (size_t i = 0; command.argv[i]; i++)
                snprintf(ret + strlen(ret), 2048 - strlen(ret), "%s%s", i > 0 ? " " : "", command.argv[i]);
        return ret;
}

static void each_kind_is_a_command_of_systemd(void **state) {
        static const struct {
                RemoteCommandSpec spec;
                const char *line;
        } rows[] = {
                { { .kind = CALL_JOURNAL, .unit = "a.service", .lines = 10 },
                  "journalctl --no-pager --quiet --lines=10 --output=short --merge --unit a.service" },
                { { .kind = CALL_JOURNAL,
                    .unit = "a.service",
                    .lines = 5,
                    .follow = true,
                    .output = "cat",
                    .since = "-1h",
                    .until = "now" },
                  "journalctl --no-pager --quiet --lines=5 --output=cat --since=-1h --until=now --merge "
                  "--follow --unit a.service" },
                { { .kind = CALL_STATUS, .unit = "a.service", .lines = 10 },
                  "systemctl --no-pager status --full --lines=10 -- a.service" },
                { { .kind = CALL_SHOW, .unit = "a.service" }, "systemctl --no-pager show -- a.service" },
                { { .kind = CALL_SHOW, .unit = "a.service", .properties = "MainPID,Id" },
                  "systemctl --no-pager show --property=MainPID,Id -- a.service" },
                { { .kind = CALL_DEPENDENCIES, .unit = "a.service" },
                  "systemctl --no-pager list-dependencies -- a.service" },
                { { .kind = CALL_RELOAD, .unit = "a.service" }, "systemctl --no-pager reload -- a.service" },
                { { .kind = CALL_KILL, .unit = "a.service" },
                  "systemctl --no-pager kill --signal=SIGTERM --kill-whom=all -- a.service" },
                { { .kind = CALL_KILL, .unit = "a.service", .signal = "SIGHUP", .whom = "main" },
                  "systemctl --no-pager kill --signal=SIGHUP --kill-whom=main -- a.service" },
                { { .kind = CALL_STATUS, .unit = "a.volume", .lines = 10 },
                  "systemctl --no-pager status --full --lines=10 -- a-volume.service" },
                { { .kind = CALL_JOURNAL, .unit = "a@1.container", .lines = 10 },
                  "journalctl --no-pager --quiet --lines=10 --output=short --merge --unit a@1.service" },
                { { .kind = CALL_RESET_FAILED, .unit = "a.service" },
                  "systemctl --no-pager reset-failed -- a.service" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                RemoteCommandSpec spec = rows[i].spec;
                char line[2048];

                assert_int_equal(remote_command_spec_check(&spec, NULL), 0);
                assert_string_equal(line_of(&spec, line), rows[i].line);
        }
}

static void what_would_be_an_option_or_another_command_is_refused(void **state) {
        static const struct {
                RemoteCommandSpec spec;
                const char *says;
        } rows[] = {
                { { .unit = "a b.service" }, "invalid character" },
                { { .unit = "" }, "cannot be empty" },
                { { .unit = "a.service", .lines = CALL_LINES_MAX + 1 }, "lines:" },
                { { .unit = "a.service", .output = "xml" }, "output:" },
                { { .unit = "a.service", .since = "1\n2" }, "since:" },
                { { .unit = "a.service", .until = "$(id)" }, "until:" },
                { { .unit = "a.service", .properties = "Id --all" }, "properties:" },
                { { .unit = "a.service", .signal = "KILL;" }, "signal:" },
                { { .unit = "a.service", .whom = "init" }, "whom:" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                RemoteCommandSpec spec = rows[i].spec;
                Error err = {};

                assert_int_equal(remote_command_spec_check(&spec, &err), -EINVAL);
                if (!strstr(err.message, rows[i].says))
                        fail_msg("\"%s\" is not said in: %s", rows[i].says, err.message);
        }
}

static void some_kinds_change_the_unit(void **state) {
        const RemoteCommandKind changing[] = { CALL_RELOAD, CALL_KILL, CALL_RESET_FAILED };

        for (RemoteCommandKind kind = 0; kind < _CALL_MAX; kind++) {
                bool changes = false;

                for (size_t i = 0; i < ELEMENTS(changing); i++)
                        changes |= kind == changing[i];
                assert_int_equal(remote_command_changes(kind), changes);
        }
}

static void what_was_written_is_read_and_nothing_shorter(void **state) {
        RemoteCommandSpec spec = { .kind = CALL_KILL,
                                   .unit = "web@1.service",
                                   .lines = 7,
                                   .follow = true,
                                   .since = "yesterday",
                                   .properties = "Id",
                                   .whom = "main" },
                          back;
        _cleanup_writer_ Writer w = {};
        Reader r;

        assert_int_equal(remote_command_spec_check(&spec, NULL), 0);
        remote_command_spec_write(&spec, &w);
        assert_int_equal(w.error, 0);
        r = reader_over(w.bytes, w.size);
        assert_int_equal(remote_command_spec_read(&r, &back), 0);
        assert_memory_equal(&spec, &back, sizeof(spec));
        for (size_t size = 0; size < w.size; size++) {
                r = reader_over(w.bytes, size);
                assert_int_equal(remote_command_spec_read(&r, &back), -EBADMSG);
        }
        for (size_t i = 0; i < 2; i++) { /* another version, a kind that is not known */
                ((uint8_t *) w.bytes)[i] ^= 0x80;
                r = reader_over(w.bytes, w.size);
                assert_int_equal(remote_command_spec_read(&r, &back), -EBADMSG);
                ((uint8_t *) w.bytes)[i] ^= 0x80;
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_kind_is_a_command_of_systemd),
                cmocka_unit_test(what_would_be_an_option_or_another_command_is_refused),
                cmocka_unit_test(some_kinds_change_the_unit),
                cmocka_unit_test(what_was_written_is_read_and_nothing_shorter),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
