#include "tests/lib/test.h"
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
                  "journalctl --no-pager --quiet --merge --lines=10 --output=short --unit a.service" },
                { { .kind = CALL_JOURNAL,
                    .unit = "a.service",
                    .lines = 5,
                    .follow = true,
                    .output = "cat",
                    .since = "-1h",
                    .until = "now" },
                  "journalctl --no-pager --quiet --merge --lines=5 --output=cat --since=-1h --until=now "
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
                  "journalctl --no-pager --quiet --merge --lines=10 --output=short --unit a@1.service" },
                { { .kind = CALL_JOURNAL, .unit = "a.service", .lines = CALL_LINES_MAX },
                  "journalctl --no-pager --quiet --merge --lines=100000 --output=short --unit a.service" },
                { { .kind = CALL_JOURNAL, .unit = "a.service", .lines = CALL_LINES_MAX, .since = "@1" },
                  "journalctl --no-pager --quiet --merge --lines=all --output=short --since=@1 --unit "
                  "a.service" },
                { { .kind = CALL_RESET_FAILED, .unit = "a.service" },
                  "systemctl --no-pager reset-failed -- a.service" },
                { { .kind = CALL_KILL, .unit = "a.service", .matches = "A=b", .grep = "x", .priority = "y" },
                  "systemctl --no-pager kill --signal=SIGTERM --kill-whom=all -- a.service" },
                { { .kind = CALL_LOG, .lines = CALL_LINES_ALL, .unit = "other.service" },
                  "journalctl --no-pager --quiet --merge --all --output=json --lines=all --unit "
                  "fleetd.service" },
                { { .kind = CALL_LOG,
                    .lines = 3,
                    .follow = true,
                    .output = "cat",
                    .since = "@1.500",
                    .until = "@2",
                    .priority = "err..4",
                    .grep = "--no contact; $(x)",
                    .fields = "MESSAGE,PRIORITY",
                    .matches = "FLEET_UNIT=--a b\n_PID=1" },
                  "journalctl --no-pager --quiet --merge --all --output=json --lines=3 --since=@1.500 "
                  "--until=@2 --priority=err..4 --grep=--no contact; $(x) --output-fields=MESSAGE,PRIORITY "
                  "--follow --unit fleetd.service FLEET_UNIT=--a b _PID=1" },
                { { .kind = CALL_USAGE }, "/proc/self/exe --usage --interval=2s" },
                { { .kind = CALL_USAGE, .interval = "1h", .unit = "a.service", .grep = "x", .lines = 5 },
                  "/proc/self/exe --usage --interval=1h" },
                { { .kind = CALL_STATUS, .unit = "a.service", .lines = 1, .interval = "1ms" },
                  "systemctl --no-pager status --full --lines=1 -- a.service" },
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
                { { .unit = "a.service", .lines = CALL_LINES_ALL }, "lines:" },
                { { .kind = CALL_LOG, .lines = CALL_LINES_MAX + 1 }, "lines:" },
                { { .kind = CALL_LOG, .priority = "loud" }, "priority: expected emerg, alert" },
                { { .kind = CALL_LOG, .priority = "..3" }, "priority:" },
                { { .kind = CALL_LOG, .priority = "err..warning..3" }, "priority:" },
                { { .kind = CALL_LOG, .grep = "a\nb" }, "grep:" },
                { { .kind = CALL_LOG, .grep = "\xff" }, "grep:" },
                { { .kind = CALL_LOG, .fields = "MESSAGE --all" }, "fields:" },
                { { .kind = CALL_LOG, .matches = "--directory=/" }, "matches: expected FIELD=VALUE" },
                { { .kind = CALL_LOG, .matches = "/usr/bin/x" }, "matches:" },
                { { .kind = CALL_LOG, .matches = "+" }, "matches:" },
                { { .kind = CALL_LOG, .matches = "A=b\n+\nC=d" }, "matches:" },
                { { .kind = CALL_LOG, .matches = "a=b" }, "matches:" },
                { { .kind = CALL_LOG, .matches = "1A=b" }, "matches:" },
                { { .kind = CALL_LOG, .matches = "=b" }, "matches:" },
                { { .kind = CALL_LOG, .matches = "A=b\x1b" }, "matches:" },
                { { .kind = CALL_LOG,
                    .matches = "A23456789012345678901234567890123456789012345678901234567890123456=" },
                  "matches:" },
                { { .kind = CALL_LOG,
                    .matches = "A=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=\nA=" },
                  "matches: more than 16" },
                { { .kind = CALL_USAGE, .interval = "1ms" }, "interval: expected 1s to 1h" },
                { { .kind = CALL_USAGE, .interval = "2h" }, "interval: expected 1s to 1h" },
                { { .kind = CALL_USAGE, .interval = "2s --x" }, "interval: expected 1s to 1h" },
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

static void assert_is_read_as_written(RemoteCommandSpec spec) {
        _cleanup_writer_ Writer w = {};
        RemoteCommandSpec back;
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

static void what_was_written_is_read_and_nothing_shorter(void **state) {
        assert_is_read_as_written((RemoteCommandSpec) { .kind = CALL_KILL,
                                                        .unit = "web@1.service",
                                                        .lines = 7,
                                                        .follow = true,
                                                        .since = "yesterday",
                                                        .properties = "Id",
                                                        .whom = "main" });
        assert_is_read_as_written((RemoteCommandSpec) { .kind = CALL_LOG,
                                                        .lines = CALL_LINES_ALL,
                                                        .priority = "3",
                                                        .grep = "x",
                                                        .fields = "MESSAGE",
                                                        .matches = "A=b\nC=" });
        assert_is_read_as_written((RemoteCommandSpec) { .kind = CALL_USAGE, .interval = "2500ms" });
}

/* A host of an older version reads seven texts, eleven of the log, and nothing after the flag. */
static void what_an_older_host_knows_is_written_as_before(void **state) {
        RemoteCommandSpec log = { .kind = CALL_LOG, .interval = "2s" };
        _cleanup_writer_ Writer wire = {};
        Reader in;

        assert_int_equal(remote_command_spec_check(&log, NULL), 0);
        remote_command_spec_write(&log, &wire);
        in = reader_over(wire.bytes, wire.size);
        assert_int_equal(read_u8(&in), 2);
        assert_int_equal(read_u8(&in), CALL_LOG);
        for (size_t i = 0; i < 11; i++)
                free(read_string(&in, 1100));
        assert_int_equal(read_u32(&in), 0);
        assert_int_equal(read_u8(&in), 0);
        assert_int_equal(reader_end(&in), 0);

        for (unsigned cluster_only = 0; cluster_only < 2; cluster_only++) {
                RemoteCommandSpec spec = {
                        .kind = CALL_STATUS, .unit = "a.service", .lines = 1, .cluster_only = cluster_only
                };
                RemoteCommandSpec read;
                _cleanup_writer_ Writer w = {};
                Reader r;

                assert_int_equal(remote_command_spec_check(&spec, NULL), 0);
                remote_command_spec_write(&spec, &w);
                r = reader_over(w.bytes, w.size);
                assert_int_equal(read_u8(&r), 2);
                assert_int_equal(read_u8(&r), 1);
                for (size_t i = 0; i < 7; i++)
                        free(read_string(&r, 600));
                assert_int_equal(read_u32(&r), 1);
                assert_int_equal(read_u8(&r), 0);
                assert_int_equal(reader_end(&r), 0);
                r = reader_over(w.bytes, w.size);
                assert_int_equal(remote_command_spec_read(&r, &read), 0);
                assert_int_equal(read.cluster_only, cluster_only);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_kind_is_a_command_of_systemd),
                cmocka_unit_test(what_would_be_an_option_or_another_command_is_refused),
                cmocka_unit_test(some_kinds_change_the_unit),
                cmocka_unit_test(what_was_written_is_read_and_nothing_shorter),
                cmocka_unit_test(what_an_older_host_knows_is_written_as_before),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
