/* The bus to systemd, with a systemd that a test can delay, overtake and disconnect. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/systemd/bus.h"
#include "fleetd/systemd/runtime_dir.h"
#include "tests/lib/fake_bus.h"
#include "tests/lib/scratch.h"
#include "units/name.h"

enum { PATIENCE_MS = 20000 };

typedef struct Fixture {
        UvLoop *uv;
        Loop *loop;
        char *scratch, *folder, *bus_path, *quadlets, *links, *masked, *vendor;
        const char *generators[3];
        FakeBus *fake;
        Systemd *systemd;
        Timer tick;
        /* events */
        unsigned ready, unready, changed, jobs, done, listed, stopping_asked;
        char last_changed[64], last_job[80], message[400];
        int error, list_error;
        SystemdUnit units[8];
        size_t n_units;
        bool stopping;
} Fixture;

static void on_tick(void *userdata) {
        loop_uv_stop(((Fixture *) userdata)->uv);
}

#define UNTIL(fixture, expression)                                                              \
        do {                                                                                    \
                uint64_t end_ms_ = loop_now_ms((fixture)->loop) + PATIENCE_MS;                  \
                while (!(expression)) {                                                         \
                        assert_true(loop_now_ms((fixture)->loop) < end_ms_);                    \
                        assert_int_equal(timer_start(&(fixture)->tick, (fixture)->loop, 1), 0); \
                        assert_true(loop_uv_run((fixture)->uv) >= 0);                           \
                }                                                                               \
        } while (false)

/* Wait until all messages under way have arrived: the reply to a call made now follows them. */
static void await_signals(Fixture *fixture);

static void on_ready(void *userdata, bool ready) {
        Fixture *fixture = userdata;

        (*(ready ? &fixture->ready : &fixture->unready))++;
}

static void on_changed(void *userdata, const char *unit) {
        Fixture *fixture = userdata;

        fixture->changed++;
        snprintf(fixture->last_changed, sizeof(fixture->last_changed), "%s", unit ?: "all");
}

static void on_job_removed(void *userdata, const char *unit, const char *result) {
        Fixture *fixture = userdata;

        fixture->jobs++;
        snprintf(fixture->last_job, sizeof(fixture->last_job), "%s %s", unit, result);
}

static void on_done(void *userdata, int error, const char *message) {
        Fixture *fixture = userdata;

        fixture->done++;
        fixture->error = error;
        snprintf(fixture->message, sizeof(fixture->message), "%s", message);
}

static void on_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        Fixture *fixture = userdata;

        fixture->listed++;
        fixture->error = fixture->list_error = error;
        fixture->n_units = MIN(n, ELEMENTS(fixture->units));
        for (size_t i = 0; i < fixture->n_units; i++)
                fixture->units[i] = units[i];
}

static void on_stopping(void *userdata, bool stopping) {
        Fixture *fixture = userdata;

        fixture->stopping_asked++;
        fixture->stopping = stopping;
}

static int fixture_setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);
        Error err = {};

        assert_int_equal(loop_uv_new(&fixture->uv), 0);
        fixture->loop = loop_uv_base(fixture->uv);
        fixture->tick = (Timer) { .fire = on_tick, .userdata = fixture };
        fixture->scratch = scratch_new();
        fixture->folder = scratch_path(fixture->scratch, "units");
        fixture->bus_path = scratch_path(fixture->scratch, "private");
        fixture->quadlets = scratch_path(fixture->scratch, "containers/systemd");
        fixture->links = scratch_path(fixture->scratch, "links");
        fixture->generators[0] = fixture->masked = scratch_path(fixture->scratch, "first");
        fixture->generators[1] = fixture->vendor = scratch_path(fixture->scratch, "second");
        fixture->fake = fake_bus_new(fixture->uv, fixture->bus_path);
        fixture->fake->links = fixture->links;
        SystemdBusOptions options = { .directory = fixture->folder,
                                      .address = fixture->fake->address,
                                      .quadlets = fixture->quadlets,
                                      .links = fixture->links,
                                      .generators = fixture->generators };

        assert_int_equal(systemd_bus_new(&fixture->systemd, fixture->loop, &options, &err), 0);
        fixture->systemd->ops->set_events(fixture->systemd, &(SystemdEvents) {
                                                                    .on_ready = on_ready,
                                                                    .on_changed = on_changed,
                                                                    .on_job_removed = on_job_removed,
                                                                    .userdata = fixture,
                                                            });
        UNTIL(fixture, fixture->ready == 1);
        text_clear(&fixture->fake->call_log);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        systemd_bus_free(fixture->systemd);
        fake_bus_free(fixture->fake);
        timer_stop(&fixture->tick);
        loop_uv_free(fixture->uv);
        free(fixture->folder);
        free(fixture->bus_path);
        free(fixture->quadlets);
        free(fixture->links);
        free(fixture->masked);
        free(fixture->vendor);
        scratch_free(fixture->scratch);
        free(fixture);
        return 0;
}

static const SystemdOps *ops(Fixture *fixture) {
        return fixture->systemd->ops;
}

static void list(Fixture *fixture, const char *name, bool files) {
        unsigned before = fixture->listed;

        ops(fixture)->list(fixture->systemd, &name, name ? 1 : 0, files, on_listed, fixture);
        assert_int_equal(fixture->listed, before);
        UNTIL(fixture, fixture->listed > before);
}

static void await_signals(Fixture *fixture) {
        list(fixture, "await_signals.service", false);
}

/* -- Listings -- */

static void a_connection_subscribes_before_it_is_ready(void **state) {
        Fixture *fixture = *state;

        assert_true(ops(fixture)->is_ready(fixture->systemd));
        assert_false(ops(fixture)->is_stopping(fixture->systemd));
        assert_int_equal(fixture->fake->connections, 1);
        /* Subscribe, three of the era, three of the boot, and SystemState */
        assert_int_equal(fixture->fake->calls, 8);
}

static void a_listing_returns_state_properties_and_file(void **state) {
        Fixture *fixture = *state;
        const SystemdUnit *u = fixture->units;
        FakeUnit *web = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running");

        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "web.service",
                                                  "[Service]\nExecStart=/bin/true\n", 30),
                         0);
        snprintf(web->fragment, sizeof(web->fragment), "%s/web.service", fixture->folder);
        web->need_reload = web->job = true;
        web->invocation_size = 16;
        web->invocation[0] = 0xab;
        list(fixture, "web.service", false);
        assert_int_equal(fixture->error, 0);
        assert_int_equal(fixture->n_units, 1);
        assert_string_equal(u->load, "loaded");
        assert_string_equal(u->active, "active");
        assert_string_equal(u->sub, "running");
        assert_string_equal(u->result, "");
        assert_string_equal(u->invocation_id, "ab000000000000000000000000000000");
        assert_true(u->owner == SYSTEMD_OURS && u->need_reload && u->job && u->has_file);
        assert_int_equal(strlen(u->hash), 40);
}

static void a_unit_of_the_host_is_conflicting(void **state) {
        Fixture *fixture = *state;
        FakeUnit *ssh = fake_bus_unit(fixture->fake, "ssh.service", "loaded", "failed", "failed");

        snprintf(ssh->fragment, sizeof(ssh->fragment), "/usr/lib/systemd/system/ssh.service");
        snprintf(ssh->result, sizeof(ssh->result), "exit-code");
        list(fixture, "ssh.service", false);
        assert_int_equal(fixture->units[0].owner, SYSTEMD_CONFLICTING);
        assert_false(fixture->units[0].has_file);
        assert_string_equal(fixture->units[0].fragment, "/usr/lib/systemd/system/ssh.service");
        assert_string_equal(fixture->units[0].result, "exit-code");
}

/* The words are those of systemctl(1): "status=203/EXEC", "signal=KILL". */
static void a_unit_that_does_not_run_has_the_reason_that_systemd_reports(void **state) {
        static const struct {
                const char *load, *active, *sub, *result;
                int code, status;
                unsigned n_restarts;
                const char *load_error, *reason;
        } rows[] = {
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 1, 0, "", "exit status 1" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 203, 0, "",
                  "exit status 203/EXEC (the program of ExecStart= does not exist or cannot be executed)" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 217, 2, "",
                  "exit status 217/USER (the user of User= does not exist), after 2 restarts" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 199, 0, "", "exit status 199" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 200, 0, "",
                  "exit status 200/CHDIR (the directory of WorkingDirectory= cannot be entered)" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 223, 0, "", "exit status 223" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 224, 0, "", "exit status 224/PAM" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 244, 0, "", "exit status 244/BPF" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 245, 0, "", "exit status 245" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 1, 5, "",
                  "exit status 1, after 5 restarts" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 1, 1, "",
                  "exit status 1, after 1 restart" },
                { "loaded", "failed", "failed", "exit-code", 0, 0, 0, "", "a control process failed" },
                { "loaded", "failed", "failed", "exit-code", CLD_EXITED, 0, 0, "",
                  "a control process failed" },
                { "loaded", "failed", "failed", "signal", CLD_KILLED, 9, 0, "", "killed by signal 9/KILL" },
                { "loaded", "failed", "failed", "signal", CLD_KILLED, 99, 0, "", "killed by signal 99" },
                { "loaded", "failed", "failed", "signal", 0, 0, 0, "",
                  "a control process was killed by a signal" },
                { "loaded", "failed", "failed", "core-dump", CLD_DUMPED, 6, 0, "",
                  "core dumped, signal 6/ABRT" },
                { "loaded", "failed", "failed", "core-dump", 0, 0, 0, "", "core dumped" },
                { "loaded", "failed", "failed", "timeout", CLD_KILLED, 15, 0, "", "timeout" },
                { "loaded", "failed", "failed", "watchdog", CLD_DUMPED, 6, 0, "", "watchdog" },
                { "loaded", "failed", "failed", "start-limit-hit", 0, 0, 0, "",
                  "start request repeated too quickly (start limit)" },
                { "loaded", "failed", "failed", "success", 0, 0, 3, "", "" },
                { "loaded", "activating", "auto-restart", "exit-code", CLD_EXITED, 7, 9, "",
                  "exit status 7" },
                { "loaded", "activating", "auto-restart-que", "signal", CLD_KILLED, 11, 9, "", "" },
                { "loaded", "activating", "start", "exit-code", CLD_EXITED, 7, 9, "", "" },
                { "loaded", "active", "running", "exit-code", CLD_EXITED, 7, 9, "x", "" },
                { "loaded", "inactive", "dead", "success", 0, 0, 0, "x", "" },
                { "bad-setting", "inactive", "dead", "success", 0, 0, 0, "Unit x.service is bad.",
                  "Unit x.service is bad" },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                FakeUnit *u = fake_bus_unit(fixture->fake, "x.service", rows[i].load, rows[i].active,
                                            rows[i].sub);
                _cleanup_text_ Text t = {};

                snprintf(u->result, sizeof(u->result), "%s", rows[i].result);
                snprintf(u->load_error, sizeof(u->load_error), "%s", rows[i].load_error);
                u->exec_code = rows[i].code;
                u->exec_status = rows[i].status;
                u->n_restarts = rows[i].n_restarts;
                list(fixture, "x.service", false);
                systemd_append_reason(&t, &fixture->units[0]);
                assert_string_equal(t.chars ?: "", rows[i].reason);
                if (!streq(rows[i].active, "inactive"))
                        assert_int_equal(fixture->units[0].n_restarts, rows[i].n_restarts);
        }
}

/* Each read of a property is a message of two programs. */
static void only_a_unit_that_failed_costs_the_reads_of_its_reason(void **state) {
        static const struct {
                const char *active, *sub;
                /* The list, fragment, need of a reload, invocation and restarts are read of all these units.
                 */
                unsigned n_calls;
        } rows[] = { { "active", "running", 5 },
                     { "activating", "start", 5 },
                     { "failed", "failed", 8 },
                     { "activating", "auto-restart", 8 } };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                unsigned before;

                fake_bus_unit(fixture->fake, "x.service", "loaded", rows[i].active, rows[i].sub);
                await_signals(fixture);
                before = fixture->fake->calls;
                list(fixture, "x.service", false);
                assert_int_equal(fixture->fake->calls - before, rows[i].n_calls);
        }
}

/* systemd continues to report the link from which it read a unit. */
static void a_unit_whose_runtime_link_is_gone_is_absent(void **state) {
        Fixture *fixture = *state;
        FakeUnit *web = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running");
        char path[300], ours[300];

        snprintf(web->fragment, sizeof(web->fragment), "%s/web.service", fixture->links);
        list(fixture, "web.service", false);
        assert_int_equal(fixture->units[0].owner, SYSTEMD_ABSENT);
        snprintf(web->load, sizeof(web->load), "masked");
        list(fixture, "web.service", false);
        assert_int_equal(fixture->units[0].owner, SYSTEMD_CONFLICTING);
        snprintf(web->load, sizeof(web->load), "loaded");
        assert_int_equal(mkdir(fixture->links, 0755), 0);
        snprintf(path, sizeof(path), "%s/web.service", fixture->links);
        scratch_write(path, "[Service]\n"); /* a file of the host */
        list(fixture, "web.service", false);
        assert_int_equal(fixture->units[0].owner, SYSTEMD_CONFLICTING);
        assert_int_equal(unlink(path), 0);
        snprintf(ours, sizeof(ours), "%s/web.service", fixture->folder);
        assert_int_equal(symlink(ours, path), 0);
        list(fixture, "web.service", false);
        assert_int_equal(fixture->units[0].owner, SYSTEMD_OURS);
}

/* For an alias, systemd returns the Id of the unit, which may be in the same call. */
static void a_name_that_is_an_alias_or_a_mask_of_the_host_is_conflicting(void **state) {
        static const char *const names[] = { "shop.service", "realshop.service", "masked.service",
                                             "free.service" };
        Fixture *fixture = *state;
        FakeUnit *shop = fake_bus_unit(fixture->fake, "realshop.service", "loaded", "active", "running");
        FakeUnit *masked = fake_bus_unit(fixture->fake, "masked.service", "masked", "inactive", "dead");

        snprintf(shop->alias, sizeof(shop->alias), "shop.service");
        snprintf(shop->fragment, sizeof(shop->fragment), "/etc/systemd/system/realshop.service");
        snprintf(masked->fragment, sizeof(masked->fragment), "/run/systemd/system/masked.service");
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "shop.service", "[Service]\n", 10), 0);
        fixture->listed = 0;
        assert_int_equal(
                ops(fixture)->list(fixture->systemd, names, ELEMENTS(names), false, on_listed, fixture), 0);
        UNTIL(fixture, fixture->listed == 1);
        assert_int_equal(fixture->n_units, 4);
        for (size_t i = 0; i < 4; i++)
                assert_string_equal(fixture->units[i].name, names[i]);
        assert_int_equal(fixture->units[0].owner, SYSTEMD_CONFLICTING);
        assert_string_equal(fixture->units[0].active, "active");
        assert_true(fixture->units[0].has_file);
        assert_int_equal(fixture->units[1].owner, SYSTEMD_CONFLICTING);
        assert_int_equal(fixture->units[2].owner, SYSTEMD_CONFLICTING);
        assert_int_equal(fixture->units[3].owner, SYSTEMD_ABSENT);
}

static void a_name_of_the_host_in_an_install_section_is_rejected_before_any_link(void **state) {
        static const char *const names[] = { "a.service" };
        static const char text[] = "[Install]\nAlias=hostdb.service\n";
        Fixture *fixture = *state;
        FakeUnit *db = fake_bus_unit(fixture->fake, "hostdb.service", "loaded", "active", "running");

        snprintf(db->fragment, sizeof(db->fragment), "/usr/lib/systemd/system/hostdb.service");
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", text, strlen(text)), 0);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, -EEXIST);
        assert_string_equal(fixture->message,
                            "[Install] names hostdb.service, which this host has from another source");
        assert_string_equal(fixture->fake->call_log.chars, "");

        /* An alias of another unit of ours does not conflict. */
        snprintf(db->fragment, sizeof(db->fragment), "%s/hostdb.service", fixture->folder);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 2);
        assert_int_equal(fixture->error, 0);
        assert_non_null(strstr(fixture->fake->call_log.chars, "EnableUnitFiles"));
}

/* It may be stored since a version without that limit, and runs nevertheless: none of its names becomes a
 * name of the host. */
static void a_unit_with_too_many_names_in_its_install_section_is_linked_and_not_enabled(void **state) {
        static const char *const names[] = { "a.service" };
        Fixture *fixture = *state;
        FakeUnit *db = fake_bus_unit(fixture->fake, "hostdb.service", "loaded", "active", "running");
        _cleanup_text_ Text text = {};

        snprintf(db->fragment, sizeof(db->fragment), "/usr/lib/systemd/system/hostdb.service");
        text_append(&text, "[Install]\n");
        for (int i = 0; i < 256; i++)
                text_append(&text, "Also=b.service\n");
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", text.chars, text.size), 0);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, 0);
        assert_non_null(strstr(fixture->fake->call_log.chars, "EnableUnitFiles"));

        text_clear(&text);
        text_append(&text, "[Install]\nAlias=hostdb.service\n");
        for (int i = 0; i < 256; i++)
                text_append(&text, "Also=b.service\n");
        text_clear(&fixture->fake->call_log);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", text.chars, text.size), 0);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 2);
        assert_int_equal(fixture->error, 0);
        assert_non_null(strstr(fixture->fake->call_log.chars, "LinkUnitFiles"));
        assert_null(strstr(fixture->fake->call_log.chars, "EnableUnitFiles"));
}

static void a_staged_text_is_put_in_force_without_being_written_again(void **state) {
        static const char one[] = "[Service]\nExecStart=/bin/one\n",
                          two[] = "[Service]\nExecStart=/bin/two\n";
        Fixture *fixture = *state;
        _cleanup_free_ char *file = scratch_path(fixture->folder, "web.service"), *staged = NULL,
                            *text = NULL;
        char temporary[FILE_TEMPORARY_SIZE];
        struct stat before, after;

        file_temporary_name("web.service", temporary);
        staged = scratch_path(fixture->folder, temporary);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "web.service", one, strlen(one)), 0);
        assert_int_equal(ops(fixture)->stage_file(fixture->systemd, "web.service", two, strlen(two)), 0);
        assert_int_equal(read_file_at(AT_FDCWD, file, 4096, &text, NULL), 0);
        assert_string_equal(text, one);
        assert_int_equal(stat(staged, &before), 0);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "web.service", two, strlen(two)), 0);
        assert_int_equal(stat(file, &after), 0);
        assert_int_equal(after.st_ino, before.st_ino);

        /* Another text is written, and the staged file is removed with the unit. */
        assert_int_equal(ops(fixture)->stage_file(fixture->systemd, "web.service", two, strlen(two)), 0);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "web.service", one, strlen(one)), 0);
        assert_int_equal(access(staged, F_OK), -1);
        text = (free(text), NULL);
        assert_int_equal(read_file_at(AT_FDCWD, file, 4096, &text, NULL), 0);
        assert_string_equal(text, one);
        assert_int_equal(ops(fixture)->stage_file(fixture->systemd, "web.service", two, strlen(two)), 0);
        assert_int_equal(ops(fixture)->remove_file(fixture->systemd, "web.service"), 0);
        assert_int_equal(access(staged, F_OK), -1);
}

/* The other files are missing from it, too: they are refreshed before systemd reads the folder. */
static void a_replaced_folder_is_reported_before_a_file_is_written_to_it(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/one\n";
        Fixture *fixture = *state;

        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", text, strlen(text)),
                         0); /* none was in it */
        assert_int_equal(fixture->changed, 0);
        for (unsigned i = 1; i <= 2; i++) {
                assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
                assert_int_equal(
                        i == 1 ? ops(fixture)->write_file(fixture->systemd, "b.service", text, strlen(text)) :
                                 ops(fixture)->stage_file(fixture->systemd, "b.service", text, strlen(text)),
                        -ESTALE);
                assert_int_equal(fixture->changed, i);
                assert_string_equal(fixture->last_changed, "all");
        }
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "b.service", text, strlen(text)), 0);
        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
        scratch_write(fixture->folder, "");
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "b.service", text, strlen(text)),
                         -ENOTDIR);
        assert_int_equal(ops(fixture)->stage_file(fixture->systemd, "b.service", text, strlen(text)),
                         -ENOTDIR);
        assert_int_equal(fixture->changed, 2);
}

/* systemd reports the link that "enable" made for an alias as the FragmentPath of that alias: it leads to our
 * file, or to another link to it. The file itself may be gone, with our folder. */
static void a_name_that_leads_to_our_unit_file_does_not_conflict(void **state) {
        static const char *const names[] = { "a.service" };
        static const char text[] = "[Install]\nAlias=other.service\n";
        Fixture *fixture = *state;
        FakeUnit *other = fake_bus_unit(fixture->fake, "other.service", "loaded", "active", "running");
        _cleanup_free_ char *ours = NULL, *alias = NULL, *second = NULL;

        assert_true(asprintf(&ours, "%s/a.service", fixture->folder) > 0);
        alias = scratch_path(fixture->scratch, "other.service");
        second = scratch_path(fixture->scratch, "second.service");
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", text, strlen(text)), 0);
        assert_int_equal(symlink(ours, alias), 0);
        assert_int_equal(symlink("other.service", second), 0);

        snprintf(other->fragment, sizeof(other->fragment), "%s", alias);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, 0);
        snprintf(other->fragment, sizeof(other->fragment), "%s", second);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 2);
        assert_int_equal(fixture->error, 0);

        /* A link to another place, or in a circle, does not. */
        assert_int_equal(unlink(alias), 0);
        assert_int_equal(symlink("/usr/lib/systemd/system/other.service", alias), 0);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 3);
        assert_int_equal(fixture->error, -EEXIST);
        assert_int_equal(unlink(alias), 0);
        assert_int_equal(symlink("second.service", alias), 0);
        assert_int_equal(ops(fixture)->link(fixture->systemd, names, 1, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 4);
        assert_int_equal(fixture->error, -EEXIST);
}

/* Only those of systemd's runtime links are removed that lead to our files. */
static void a_mask_of_the_host_is_not_removed(void **state) {
        static const char *const names[] = { "ours.service", "masked.service", "none.service" };
        char path[600], target[600];
        Fixture *fixture = *state;

        assert_int_equal(mkdir(fixture->links, 0755), 0);
        snprintf(path, sizeof(path), "%s/ours.service", fixture->links);
        snprintf(target, sizeof(target), "%s/ours.service", fixture->folder);
        assert_int_equal(symlink(target, path), 0);
        snprintf(path, sizeof(path), "%s/masked.service", fixture->links);
        assert_int_equal(symlink("/dev/null", path), 0);
        assert_int_equal(ops(fixture)->unlink(fixture->systemd, names, 3, on_done, fixture), 0);
        UNTIL(fixture, fixture->done == 1);
        assert_string_equal(fixture->fake->call_log.chars,
                            "DisableUnitFiles ours.service; "); /* "none" has no link, as after a boot:
                                                                   systemd would reject the whole call */
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(ops(fixture)->unlink(fixture->systemd, names + 2, 1, on_done, fixture), 0);
                UNTIL(fixture, fixture->done == i + 2);
                assert_string_equal(fixture->fake->call_log.chars, "DisableUnitFiles ours.service; ");
                /* Nor has a unit whose removal was interrupted. */
                assert_int_equal(
                        ops(fixture)->write_file(fixture->systemd, "none.service", "[Service]\n", 10), 0);
        }
}

static void units_that_are_not_loaded_are_not_found_and_files_are_listed_on_request(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "b.service", "[Service]\n", 10), 0);
        list(fixture, "a.service", true);
        assert_int_equal(fixture->n_units, 2);
        assert_string_equal(fixture->units[0].name, "a.service");
        assert_string_equal(fixture->units[0].load, "not-found");
        assert_string_equal(fixture->units[0].active, "inactive");
        assert_false(fixture->units[0].has_file);
        assert_string_equal(fixture->units[1].name, "b.service");
        assert_true(fixture->units[1].has_file);
        assert_int_equal(ops(fixture)->remove_file(fixture->systemd, "b.service"), 0);
        list(fixture, NULL, true);
        assert_int_equal(fixture->n_units, 0);
}

/* Return the CPU time of the whole process, the fake systemd included, for one listing of so many names. */
static uint64_t list_many(Fixture *fixture, size_t n) {
        char(*texts)[32] = calloc(n, sizeof(*texts));
        const char **names = calloc(n, sizeof(*names));
        unsigned before = fixture->listed;
        struct timespec begin, end;

        assert_true(texts && names);
        for (size_t i = 0; i < n; i++) {
                snprintf(texts[i], sizeof(texts[i]), "unit-%zu.service", i);
                names[i] = texts[i];
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        ops(fixture)->list(fixture->systemd, names, n, false, on_listed, fixture);
        UNTIL(fixture, fixture->listed > before);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        assert_int_equal(fixture->error, 0);
        free(names);
        free(texts);
        return (end.tv_sec - begin.tv_sec) * UINT64_C(1000000000) + end.tv_nsec - begin.tv_nsec;
}

static void the_cost_of_a_listing_is_linear_in_its_units(void **state) {
        Fixture *fixture = *state;
        uint64_t few = UINT64_MAX, many = UINT64_MAX;

        /* The least of several: other work on the machine takes away caches. */
        (void) list_many(fixture, 400); /* memory, and pages of code */
        for (unsigned i = 0; i < 5 && (i == 0 || many > 30 * few); i++) {
                uint64_t ns = list_many(fixture, 400);

                few = MIN(few, ns);
                ns = list_many(fixture, 400 * 10);
                many = MIN(many, ns);
        }
        assert_in_range(many, 0, 30 * few); /* quadratic cost: 100 */
}

static void a_service_and_a_quadlet_file_of_one_name_are_both_listed(void **state) {
        static const char *const names[] = { "web.container", "web.service", "web.kube", "web.service",
                                             "other.service" };
        Fixture *fixture = *state;

        fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running");
        ops(fixture)->list(fixture->systemd, names, ELEMENTS(names), false, on_listed, fixture);
        UNTIL(fixture, fixture->listed == 1);
        assert_int_equal(fixture->n_units, 4);
        for (size_t i = 0; i < 3; i++) {
                assert_string_equal(fixture->units[i].name, names[i]);
                assert_string_equal(fixture->units[i].active, "active");
        }
        assert_string_equal(fixture->units[3].name, "other.service");
        assert_string_equal(fixture->units[3].load, "not-found");
}

static void a_file_is_read_again_only_after_a_change(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->folder, "a.service");
        const RuntimeDirEntry *e = NULL;
        char hash[UNIT_HASH_SIZE];
        RuntimeDir d;

        assert_int_equal(runtime_dir_open(&d, fixture->folder, fixture->quadlets, fixture->links, NULL), 0);
        assert_int_equal(runtime_dir_write(&d, "a.service", "[Service]\n", 10), 0);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(runtime_dir_get(&d, "a.service", &e), 0);
                assert_non_null(e);
        }
        assert_int_equal(d.reads, 1);
        memcpy(hash, e->hash, sizeof(hash));

        scratch_write(path, "[Service]\nExecStart=/bin/x\n"); /* by another program */
        assert_int_equal(runtime_dir_get(&d, "a.service", &e), 0);
        assert_non_null(e);
        assert_string_not_equal(e->hash, hash);
        assert_int_equal(d.reads, 2);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(runtime_dir_get(&d, "a.service", &e), 0);
        assert_null(e);
        runtime_dir_close(&d);
}

static void a_units_name_may_be_as_long_as_systemd_allows(void **state) {
        Fixture *fixture = *state;
        char name[UNIT_NAME_MAX + 1] = "";

        memset(name, 'n', UNIT_NAME_MAX);
        memcpy(name + UNIT_NAME_MAX - strlen(".service"), ".service", strlen(".service"));
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, name, "[Service]\n", 10), 0);
        list(fixture, name, false);
        assert_string_equal(fixture->units[0].name, name);
        assert_true(fixture->units[0].has_file);
}

static void signals_report_the_units_that_changed(void **state) {
        Fixture *fixture = *state;

        fake_bus_changed(fixture->fake, "web@1.service");
        await_signals(fixture);
        assert_int_equal(fixture->changed, 1);
        assert_string_equal(fixture->last_changed, "web@1.service");
        fake_bus_job_removed(fixture->fake, 5, "web@1.service", "failed");
        await_signals(fixture);
        assert_string_equal(fixture->last_job, "web@1.service failed");
        fake_bus_job_new(fixture->fake, "web@2.service");
        await_signals(fixture);
        assert_string_equal(fixture->last_changed, "web@2.service");
}

static void signals_without_end_are_read_in_batches(void **state) {
        enum { TURNS = 300, AT_ONCE = 40, IN_ROW = 20, BATCH_MS = 20 };
        Fixture *fixture = *state;
        uint64_t begin_ms = loop_now_ms(fixture->loop);

        for (unsigned i = 0; i < TURNS; i++) {
                for (unsigned k = 0; k < AT_ONCE; k++)
                        fake_bus_changed(fixture->fake, "web.service");
                assert_int_equal(timer_start(&fixture->tick, fixture->loop, 1), 0);
                assert_true(loop_uv_run(fixture->uv) >= 0);
        }
        UNTIL(fixture, fixture->changed == TURNS * AT_ONCE); /* none is lost */
        assert_in_range(systemd_bus_batches(fixture->systemd), 1,
                        IN_ROW + (loop_now_ms(fixture->loop) - begin_ms) / BATCH_MS);
}

static void an_awaited_reply_does_not_wait_for_a_batch(void **state) {
        Fixture *fixture = *state;

        for (unsigned i = 0; i < 300; i++)
                fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, fixture->changed == 300);
        for (unsigned i = 0; i < 10; i++) {
                fake_bus_changed(fixture->fake, "web.service");
                await_signals(fixture); /* the signal was sent before the answer */
                assert_int_equal(fixture->changed, 301 + i);
        }
}

static void a_job_of_shutdown_target_is_a_hint_and_the_state_of_the_system_decides(void **state) {
        Fixture *fixture = *state;

        fake_bus_job_new(fixture->fake, "shutdown.target"); /* to stop it, for example */
        await_signals(fixture);
        await_signals(fixture);
        assert_false(ops(fixture)->is_stopping(fixture->systemd));
        fixture->fake->state = "stopping";
        fake_bus_job_new(fixture->fake, "shutdown.target");
        UNTIL(fixture, ops(fixture)->is_stopping(fixture->systemd));
}

static void a_shutdown_that_is_cancelled_is_taken_back(void **state) {
        Fixture *fixture = *state;

        fixture->fake->state = "stopping";
        fake_bus_job_new(fixture->fake, "shutdown.target");
        UNTIL(fixture, ops(fixture)->is_stopping(fixture->systemd));
        fixture->fake->state = "running";
        fake_bus_job_removed(fixture->fake, 1, "shutdown.target", "canceled");
        UNTIL(fixture, !ops(fixture)->is_stopping(fixture->systemd));
        assert_string_equal(fixture->last_changed, "all"); /* delayed starts are made */
}

static void a_state_that_changes_while_it_is_read_is_read_again(void **state) {
        Fixture *fixture = *state;

        fixture->fake->hold = "Get";
        fake_bus_job_new(fixture->fake, "shutdown.target");
        UNTIL(fixture, fixture->fake->n_held == 1);
        fake_bus_job_new(fixture->fake, "shutdown.target");
        fake_bus_job_new(fixture->fake, "shutdown.target");
        await_signals(fixture);
        await_signals(fixture);
        assert_int_equal(fixture->fake->n_held, 1);
        fake_bus_release(fixture->fake);
        fixture->fake->state = "stopping";
        UNTIL(fixture, ops(fixture)->is_stopping(fixture->systemd));
}

/* -- Calls -- */

static void a_start_ends_when_its_job_is_queued(void **state) {
        Fixture *fixture = *state;

        ops(fixture)->start(fixture->systemd, "web.service", on_done, fixture);
        assert_int_equal(fixture->done, 0);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, 0);
        assert_string_equal(fixture->fake->call_log.chars, "StartUnit web.service replace; ");
}

static void a_rejected_call_returns_the_message_of_systemd(void **state) {
        Fixture *fixture = *state;

        fixture->fake->fail = "StartUnit";
        fixture->fake->fail_name = "org.freedesktop.systemd1.UnitMasked";
        fixture->fake->fail_message = "Unit web.service is masked.";
        ops(fixture)->start(fixture->systemd, "web.service", on_done, fixture);
        UNTIL(fixture, fixture->done == 1);
        assert_true(fixture->error < 0);
        assert_string_equal(fixture->message, "Unit web.service is masked");
        assert_true(ops(fixture)->is_ready(fixture->systemd));
}

static int begin_call(Fixture *fixture, const char *verb, size_t n) {
        static const char *const names[] = { "a.service", "b.service" };

        switch (verb[0]) {
        case 'l':
                return ops(fixture)->link(fixture->systemd, names, n, on_done, fixture);
        case 'u':
                return ops(fixture)->unlink(fixture->systemd, names, n, on_done, fixture);
        case 's':
                return (streq(verb, "stop") ? ops(fixture)->stop : ops(fixture)->start)(
                        fixture->systemd, names[0], on_done, fixture);
        case 'R':
                return ops(fixture)->reload_unit(fixture->systemd, names[0], on_done, fixture);
        default:
                return streq(verb, "reload") ?
                               ops(fixture)->reload(fixture->systemd, on_done, fixture) :
                               ops(fixture)->reset_failed(fixture->systemd, names[0], on_done, fixture);
        }
}

static void each_rejected_call_names_its_method_and_may_succeed_later(void **state) {
        static const struct {
                const char *verb;
                size_t n;
                const char *member, *fail_name;
                int error;
        } rows[] = {
                { "start", 1, "StartUnit", "org.freedesktop.systemd1.UnitExists", -EEXIST },
                { "stop", 1, "StopUnit", "com.example.NotKnown", -EIO },
                { "Reload", 1, "ReloadUnit", "System.Error.ENOSPC", -ENOSPC },
                { "reset", 1, "ResetFailedUnit", "System.Error.ENOSPC", -ENOSPC },
                { "reload", 1, "Reload", "System.Error.ENOSPC", -ENOSPC },
                { "link", 1, "LinkUnitFiles", "org.freedesktop.systemd1.UnitExists", -EEXIST },
                { "link", 2, "LinkUnitFiles", "System.Error.ENOSPC", -ENOSPC },
                { "unlink", 2, "DisableUnitFiles", "System.Error.ENOSPC", -ENOSPC },
                { "link", 2, "LinkUnitFiles", "System.Error.ENOSPC", -ENOSPC },
                { "unlink", 1, "DisableUnitFiles", "System.Error.ENOSPC", -ENOSPC },
        };
        Fixture *fixture = *state;
        char expected[100];

        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", "[Service]\n", 10), 0);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "b.service", "[Service]\n", 10), 0);
        fixture->fake->fail_message = "no";
        fixture->fake->signals_first = true; /* a stop ends */
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                fixture->fake->fail = rows[i].member;
                fixture->fake->fail_name = rows[i].fail_name;
                assert_int_equal(begin_call(fixture, rows[i].verb, rows[i].n), 0);
                UNTIL(fixture, fixture->done == 2 * i + 1);
                snprintf(expected, sizeof(expected), "systemd rejected %s: no", rows[i].member);
                if (streq(rows[i].verb, "start")) /* the reason of a unit */
                        snprintf(expected, sizeof(expected), "no");
                assert_string_equal(fixture->message, expected);
                assert_int_equal(fixture->error, rows[i].error);

                fixture->fake->fail = NULL;
                assert_int_equal(begin_call(fixture, rows[i].verb, rows[i].n), 0);
                UNTIL(fixture, fixture->done == 2 * i + 2);
                assert_string_equal(fixture->message, "");
                assert_int_equal(fixture->error, 0);
                assert_non_null(strstr(fixture->fake->call_log.chars, rows[i].member));
                text_clear(&fixture->fake->call_log);
        }
}

static void a_stop_ends_when_its_job_has_ended(void **state) {
        Fixture *fixture = *state;

        ops(fixture)->stop(fixture->systemd, "web.service", on_done, fixture);
        await_signals(fixture);
        fake_bus_job_removed(fixture->fake, 99, "web.service", "done"); /* another job */
        await_signals(fixture);
        assert_int_equal(fixture->done, 0);
        fake_bus_job_removed(fixture->fake, 1, "web.service", "done");
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, 0);
}

static void a_stop_whose_signal_overtakes_the_reply_ends_as_well(void **state) {
        Fixture *fixture = *state;

        fixture->fake->signals_first = true;
        ops(fixture)->stop(fixture->systemd, "web.service", on_done, fixture);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, 0);
        assert_int_equal(fixture->jobs, 1);
}

static void a_reload_that_fails_is_an_error(void **state) {
        static const char *const results[] = { "done", "failed", "canceled", "timeout" };
        Fixture *fixture = *state;

        for (unsigned i = 0; i < ELEMENTS(results); i++) {
                fixture->error = 0;
                ops(fixture)->reload_unit(fixture->systemd, "web.service", on_done, fixture);
                await_signals(fixture);
                assert_int_equal(fixture->done, i);
                fake_bus_job_removed(fixture->fake, i + 1, "web.service", results[i]);
                UNTIL(fixture, fixture->done == i + 1);
                assert_int_equal(fixture->error, i == 0 ? 0 : -EIO);
                assert_string_equal(fixture->message, i == 0 ? "" : "its reload has failed");
        }
        fixture->fake->signals_first = true;
        ops(fixture)->reload_unit(fixture->systemd, "web.service", on_done, fixture);
        UNTIL(fixture, fixture->done == ELEMENTS(results) + 1);
        assert_int_equal(fixture->error, 0);
}

static unsigned n_begun; /* commands */

static void on_begun(void *userdata) {
        n_begun++;
}

static void run_check(Fixture *fixture, const char *user) {
        static const char *const argv[] = { "/bin/check", "a b" };
        Names names = { (char **) argv, ELEMENTS(argv) };

        assert_int_equal(ops(fixture)->run_check(fixture->systemd,
                                                 &(SystemdRun) { .argv = &names,
                                                                 .user = user,
                                                                 .timeout_ms = 2000,
                                                                 .on_begun = on_begun },
                                                 on_done, fixture),
                         0);
}

#define SLICE "StartTransientUnit fleet-checks replace MemoryMax=134217728 TasksMax=64 CPUWeight="
#define COMMAND(user)                                                                                        \
        "StartTransientUnit fleet-check- fail Slice=fleet-checks.slice Type=oneshot "                        \
        "TimeoutStartUSec=2000000 "                                                                          \
        "TimeoutStopUSec=1000000 KillMode=control-group CollectMode=inactive-or-failed StandardOutput=null " \
        "StandardError=null" user " /bin/check|/bin/check|a b; "

static void a_command_runs_in_a_slice_with_limits_and_ends_with_its_job(void **state) {
        Fixture *fixture = *state;

        n_begun = 0;
        run_check(fixture, "web");
        UNTIL(fixture, strstr(text_chars(&fixture->fake->call_log), "a b; "));
        assert_string_equal(fixture->fake->call_log.chars, SLICE "0; " COMMAND(" User=web"));
        assert_int_equal(fixture->done, 0);
        fake_bus_job_removed(fixture->fake, 1, "fleet-checks.slice", "done");
        await_signals(fixture);
        assert_int_equal(fixture->done, 0);
        assert_int_equal(n_begun, 1);
        fake_bus_job_removed(fixture->fake, 2, "fleet-check-1.service", "done");
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, 0);

        text_clear(&fixture->fake->call_log); /* the slice exists */
        run_check(fixture, "");
        await_signals(fixture);
        assert_string_equal(fixture->fake->call_log.chars, COMMAND(""));
        fake_bus_job_removed(fixture->fake, 3, "fleet-check-2.service", "failed");
        UNTIL(fixture, fixture->done == 2);
        assert_int_equal(fixture->error, -EREMOTEIO);
        fixture->fake->signals_first = true;
        run_check(fixture, "");
        UNTIL(fixture, fixture->done == 3);
        assert_int_equal(fixture->error, -EREMOTEIO);
}

/* Only a command that ran has a result. */
static void how_a_command_ends(void **state) {
        static const struct {
                const char *job, *result; /* NULL: no signal about the service */
                int code, status, error;
                const char *message;
        } rows[] = {
                { "done", "success", CLD_EXITED, 0, 0, "" },
                { "failed", "exit-code", CLD_EXITED, 1, -EREMOTEIO, "" },
                { "failed", "exit-code", CLD_EXITED, 199, -EREMOTEIO, "" },
                { "failed", "exit-code", CLD_EXITED, 203, -ENOEXEC,
                  "systemd could not execute it: exit status 203" },
                { "failed", "exit-code", CLD_EXITED, 217, -ENOEXEC,
                  "systemd could not execute it: exit status 217" },
                { "failed", "exit-code", CLD_EXITED, 255, -EREMOTEIO, "" },
                { "failed", "signal", CLD_KILLED, SIGKILL, -EREMOTEIO, "" },
                { "failed", "core-dump", CLD_DUMPED, SIGSEGV, -EREMOTEIO, "" },
                { "failed", "timeout", CLD_KILLED, SIGKILL, -EREMOTEIO, "" },
                { "failed", "resources", 0, 0, -ECANCELED, "its job ended with: resources" },
                { "failed", "oom-kill", CLD_KILLED, SIGKILL, -ECANCELED, "its job ended with: oom-kill" },
                { "canceled", NULL, 0, 0, -ECANCELED, "its job ended with: canceled" },
                { "dependency", NULL, 0, 0, -ECANCELED, "its job ended with: dependency" },
        };
        Fixture *fixture = *state;

        for (unsigned i = 0; i < ELEMENTS(rows); i++) {
                run_check(fixture, "");
                await_signals(fixture);
                if (rows[i].result)
                        fake_bus_exit(fixture->fake, fixture->fake->command, rows[i].result, rows[i].code,
                                      rows[i].status);
                fake_bus_exit(fixture->fake, "fleet-check-other.service", "resources", CLD_EXITED, 203);
                fake_bus_job_removed(fixture->fake, fixture->fake->n_jobs, fixture->fake->command,
                                     rows[i].job);
                UNTIL(fixture, fixture->done == i + 1);
                assert_int_equal(fixture->error, rows[i].error);
                assert_string_equal(fixture->message, rows[i].message);
        }
}

static void an_older_systemd_gives_commands_the_least_weight(void **state) {
        Fixture *fixture = *state;

        fixture->fake->no_idle = true;
        run_check(fixture, "");
        UNTIL(fixture, strstr(fixture->fake->call_log.chars ?: "", SLICE "1; " COMMAND("")));
}

static void a_command_runs_if_its_slice_exists_or_is_refused(void **state) {
        static const char *const errors[] = { "org.freedesktop.systemd1.UnitExists",
                                              "org.freedesktop.DBus.Error.AccessDenied" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(errors); i++) {
                n_begun = 0;
                fixture->fake->fail = "StartTransientUnit";
                fixture->fake->fail_name = errors[i];
                fixture->fake->fail_message = "no";
                run_check(fixture, "");
                UNTIL(fixture, fixture->done == i + 1); /* the command is refused, too */
                assert_true(fixture->error < 0 && fixture->error != -EREMOTEIO);
                assert_non_null(strstr(fixture->message, "no"));
                assert_int_equal(n_begun, 0);
        }
}

static void a_command_ends_with_the_connection(void **state) {
        Fixture *fixture = *state;

        n_begun = 0;
        run_check(fixture, "");
        UNTIL(fixture, n_begun == 1); /* a call without its reply ends with -ETIMEDOUT of sd-bus */
        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, -ECONNRESET);
        run_check(fixture, ""); /* not connected */
        UNTIL(fixture, fixture->done == 2);
        assert_true(fixture->error == -ENOTCONN || fixture->error == -ECONNRESET);
}

static void linking_enables_units_with_an_install_section(void **state) {
        static const char *const names[] = { "a.service", "b.service" };
        Fixture *fixture = *state;
        char expected[1000];

        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", "[Service]\n", 10), 0);
        assert_int_equal(
                ops(fixture)->write_file(fixture->systemd, "b.service", "[Install]\nWantedBy=x.target\n", 28),
                0);
        ops(fixture)->link(fixture->systemd, names, 2, on_done, fixture);
        UNTIL(fixture, fixture->done == 1);
        ops(fixture)->reload(fixture->systemd, on_done, fixture);
        UNTIL(fixture, fixture->done == 2);
        ops(fixture)->unlink(fixture->systemd, names, 2, on_done, fixture);
        UNTIL(fixture, fixture->done == 3);
        ops(fixture)->reset_failed(fixture->systemd, "a.service", on_done, fixture);
        UNTIL(fixture, fixture->done == 4);
        snprintf(expected, sizeof(expected),
                 "LinkUnitFiles %s/a.service %s/b.service; EnableUnitFiles %s/b.service; Reload; "
                 "DisableUnitFiles a.service b.service; ResetFailedUnit a.service; ",
                 fixture->folder, fixture->folder, fixture->folder);
        assert_string_equal(fixture->fake->call_log.chars, expected);
}

/* -- Quadlet files -- */

#define CONTAINER "[Container]\nImage=x\n[Install]\nWantedBy=x.target\n"

/* Return whether the link leads to its file in our folder. */
static bool is_offered(const Fixture *fixture, const char *name) {
        char path[600], ours[600], target[600] = "";

        snprintf(path, sizeof(path), "%s/%s", fixture->quadlets, name);
        snprintf(ours, sizeof(ours), "%s/%s", fixture->folder, name);
        return readlink(path, target, sizeof(target) - 1) > 0 && streq(target, ours);
}

static void touch(const char *folder, const char *name, char ret[static 300]) {
        snprintf(ret, 300, "%s/%s", folder, name);
        scratch_write(ret, "x");
}

static void a_quadlet_file_is_linked_for_the_generator_and_calls_name_its_service(void **state) {
        static const char *const names[] = { "web.container", "data.volume" };
        Fixture *fixture = *state;

        assert_int_equal(
                ops(fixture)->write_file(fixture->systemd, "web.container", CONTAINER, strlen(CONTAINER)), 0);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "data.volume", "[Volume]\n", 9), 0);
        assert_true(is_offered(fixture, "web.container"));

        ops(fixture)->link(fixture->systemd, names, 2, on_done, fixture);
        UNTIL(fixture, fixture->done == 1); /* no call: the reload does it */
        ops(fixture)->start(fixture->systemd, "data.volume", on_done, fixture);
        UNTIL(fixture, fixture->done == 2);
        ops(fixture)->reset_failed(fixture->systemd, "web.container", on_done, fixture);
        UNTIL(fixture, fixture->done == 3);
        ops(fixture)->unlink(fixture->systemd, names, 2, on_done, fixture);
        UNTIL(fixture, fixture->done == 4);
        assert_int_equal(fixture->error, 0);
        assert_string_equal(fixture->fake->call_log.chars,
                            "StartUnit data-volume.service replace; ResetFailedUnit web.service; Reload; ");
        assert_false(is_offered(fixture, "web.container"));
}

static void units_and_quadlet_files_of_one_call_are_handled_separately(void **state) {
        static const char *const names[] = { "web.container", "a.service" };
        Fixture *fixture = *state;
        char expected[1000];

        assert_int_equal(
                ops(fixture)->write_file(fixture->systemd, "web.container", CONTAINER, strlen(CONTAINER)), 0);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "a.service", "[Service]\n", 10), 0);
        ops(fixture)->link(fixture->systemd, names, 2, on_done, fixture);
        UNTIL(fixture, fixture->done == 1);
        ops(fixture)->unlink(fixture->systemd, names, 2, on_done, fixture);
        UNTIL(fixture, fixture->done == 2);
        snprintf(expected, sizeof(expected),
                 "LinkUnitFiles %s/a.service; DisableUnitFiles a.service; Reload; ", fixture->folder);
        assert_string_equal(fixture->fake->call_log.chars, expected);
}

static void the_service_of_a_quadlet_file_is_ours_if_it_was_generated_from_our_file(void **state) {
        FakeUnit *web;
        Fixture *fixture = *state;
        SystemdUnit *u = fixture->units;

        assert_int_equal(
                ops(fixture)->write_file(fixture->systemd, "web.container", CONTAINER, strlen(CONTAINER)), 0);
        web = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running");
        touch(fixture->scratch, "generated", web->fragment);
        snprintf(web->source, sizeof(web->source), "%s/web.container", fixture->quadlets);
        list(fixture, "web.container", false);
        assert_string_equal(u->name, "web.container");
        assert_string_equal(u->active, "active");
        assert_true(u->owner == SYSTEMD_OURS && u->has_file && !u->need_reload);
        list(fixture, "web.service", false);
        assert_string_equal(u->active, "active");
        assert_true(u->owner == SYSTEMD_CONFLICTING && !u->has_file);

        /* Generated after the file, and not after its drop-in. */
        assert_int_equal(ops(fixture)->put_drop_in(fixture->systemd, "web.container", DROP_IN_PORTS, ""), 1);
        list(fixture, "web.container", false);
        assert_true(u->owner == SYSTEMD_OURS && u->need_reload);
        assert_int_equal(ops(fixture)->put_drop_in(fixture->systemd, "web.container", DROP_IN_PORTS, NULL),
                         1);
        list(fixture, "web.container", false);
        assert_false(u->need_reload);

        /* systemd has loaded it again as it was generated: the file is newer. */
        assert_int_equal(
                ops(fixture)->write_file(fixture->systemd, "web.container", CONTAINER, strlen(CONTAINER)), 0);
        list(fixture, "web.container", false);
        assert_true(u->owner == SYSTEMD_OURS && u->need_reload);

        snprintf(web->source, sizeof(web->source), "/etc/containers/systemd/web.container");
        list(fixture, "web.container", false);
        assert_int_equal(u->owner, SYSTEMD_CONFLICTING);
        web->source[0] = 0; /* a service of the host */
        list(fixture, "web.container", false);
        assert_int_equal(u->owner, SYSTEMD_CONFLICTING);
        assert_string_equal(u->fragment, web->fragment);
}

static void a_source_that_is_not_ours_is_neither_replaced_nor_removed(void **state) {
        static const char *const name = "web.container";
        Fixture *fixture = *state;
        char path[300];

        assert_int_equal(
                ops(fixture)->write_file(fixture->systemd, "other.container", CONTAINER, strlen(CONTAINER)),
                0); /* makes the folder */
        touch(fixture->quadlets, name, path);
        assert_int_equal(ops(fixture)->write_file(fixture->systemd, name, CONTAINER, strlen(CONTAINER)),
                         -EEXIST);
        ops(fixture)->unlink(fixture->systemd, &name, 1, on_done, fixture);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(ops(fixture)->remove_file(fixture->systemd, name), 0);
        assert_int_equal(access(path, F_OK), 0);
}

static void changes_of_a_service_are_reported_for_its_quadlet_file_too(void **state) {
        Fixture *fixture = *state;

        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "data.volume", "[Volume]\n", 9), 0);
        fake_bus_job_removed(fixture->fake, 9, "data-volume.service", "done");
        UNTIL(fixture, fixture->jobs == 2);
        assert_string_equal(fixture->last_job, "data.volume done");
        fake_bus_job_removed(fixture->fake, 9, "other-volume.service", "done");
        UNTIL(fixture, fixture->jobs == 3);
        assert_string_equal(fixture->last_job, "other-volume.service done");
}

static void the_first_generator_of_the_name_counts_unless_it_is_masked(void **state) {
        Fixture *fixture = *state;
        char path[300];

        assert_false(ops(fixture)->has_quadlet(fixture->systemd));
        assert_int_equal(mkdir(fixture->vendor, 0755), 0);
        touch(fixture->vendor, "podman-system-generator", path);
        assert_false(ops(fixture)->has_quadlet(fixture->systemd)); /* cannot be executed */
        assert_int_equal(chmod(path, 0755), 0);
        assert_true(ops(fixture)->has_quadlet(fixture->systemd));
        assert_int_equal(mkdir(fixture->masked, 0755), 0);
        snprintf(path, sizeof(path), "%s/podman-system-generator", fixture->masked);
        assert_int_equal(symlink("/dev/null", path), 0);
        assert_false(ops(fixture)->has_quadlet(fixture->systemd));
}

static void a_boot_is_complete_when_its_target_is_reached_or_no_unit_needs_that(void **state) {
        Fixture *fixture = *state;

        fake_bus_unit(fixture->fake, "boot-complete.target", "loaded", "inactive", "dead");
        fake_bus_changed(fixture->fake, "boot-complete.target");
        await_signals(fixture);
        assert_false(ops(fixture)->is_booting(fixture->systemd));
        fixture->fake->boot_user = "systemd-bless-boot.service";
        fake_bus_changed(fixture->fake, "boot-complete.target");
        UNTIL(fixture, fixture->ready == 2);
        assert_true(ops(fixture)->is_booting(fixture->systemd));
        fake_bus_change(fixture->fake, "boot-complete.target", (FakeChange) { .active = "active" });
        UNTIL(fixture, fixture->ready == 3);
        assert_false(ops(fixture)->is_booting(fixture->systemd));

        /* Known before systemd counts as ready. */
        fake_bus_unit(fixture->fake, "boot-complete.target", "loaded", "inactive", "dead");
        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, fixture->ready == 4);
        assert_true(ops(fixture)->is_booting(fixture->systemd));
}

/* -- Failures -- */

static void while_systemd_reloads_the_bus_is_not_ready_and_calls_still_arrive(void **state) {
        Fixture *fixture = *state;

        fixture->fake->hold = "Reload";
        ops(fixture)->reload(fixture->systemd, on_done, fixture);
        fake_bus_reloading(fixture->fake, true);
        UNTIL(fixture, fixture->unready == 1);
        assert_false(ops(fixture)->is_ready(fixture->systemd));
        ops(fixture)->start(fixture->systemd, "web.service", on_done, fixture);
        UNTIL(fixture, fixture->done == 1);
        fake_bus_reloading(fixture->fake, false);
        fake_bus_release(fixture->fake);
        UNTIL(fixture, fixture->ready == 2 && fixture->done == 2);
        assert_int_equal(fixture->error, 0);
}

static void a_service_is_oneshot_only_where_it_does_not_remain_after_its_exit(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u = fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");

        for (unsigned i = 0; i < 4; i++) {
                u->oneshot = i & 1;
                u->remains = i & 2;
                list(fixture, "web.service", false);
                assert_int_equal(fixture->error, 0);
                assert_int_equal(fixture->units[0].oneshot, i == 1);
        }
}

/* A unit that it is bound to must run, and a conflicting one must have stopped, without a job. */
static void a_unit_is_held_by_the_states_of_its_dependencies(void **state) {
        static const struct {
                const char *kind, *active; /* BindsTo=, Conflicts=, Requires=; the state of the other unit;
                                              NULL: it does not exist */
                bool job, held;
                const char *other; /* NULL: another service */
        } rows[] = {
                { "c", "inactive", false, false },
                { "c", "failed", false, false },
                { "c", "inactive", true, true },
                { "c", "active", false, true },
                { "c", "activating", false, true },
                { "c", "deactivating", false, true },
                { "c", NULL, false, true },
                { "c", "active", false, false, "shutdown.target" },
                { "b", "active", false, false },
                { "b", "reloading", false, false },
                { "b", "refreshing", false, false },
                { "b", "active", true, false },
                { "b", "inactive", false, true },
                { "b", "activating", false, true },
                { "b", "failed", false, true },
                { "b", NULL, false, true },
                { "b", "inactive", false, false, "shutdown.target" },
                { "r", "active", false, false },
                { "r", "reloading", false, false },
                { "r", "refreshing", false, false },
                { "r", "inactive", false, true },
        };
        Fixture *fixture = *state;

        assert_int_equal(ops(fixture)->write_file(fixture->systemd, "web.service", "[Service]\n", 10), 0);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *name = rows[i].other ?: "other.service";
                FakeUnit *u, *other;

                fixture->fake->n_units = 0;
                u = fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
                snprintf(rows[i].kind[0] == 'c' ? u->conflicts :
                         rows[i].kind[0] == 'b' ? u->binds_to :
                                                  u->requires,
                         sizeof(u->conflicts), "%s", name);
                if (rows[i].active) {
                        other = fake_bus_unit(fixture->fake, name, "loaded", rows[i].active, "dead");
                        other->job = rows[i].job;
                }
                list(fixture, "web.service", false);
                assert_int_equal(fixture->error, 0);
                assert_string_equal(fixture->units[0].held_by, rows[i].held ? name : "");
                if (fixture->units[0].held != rows[i].held)
                        fail_msg("%s %s is %s: %s", rows[i].kind, name, rows[i].active ?: "not there",
                                 rows[i].held ? "not held" : "held");
        }
        /* 64 of them are read. */
        for (unsigned n_idle = 63; n_idle < 65; n_idle++) {
                FakeUnit *u;

                fixture->fake->n_units = 0;
                u = fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
                u->n_idle = n_idle;
                snprintf(u->conflicts, sizeof(u->conflicts), "other.service");
                fake_bus_unit(fixture->fake, "idle.service", "loaded", "inactive", "dead");
                fake_bus_unit(fixture->fake, "other.service", "loaded", "active", "running");
                list(fixture, "web.service", false);
                assert_int_equal(fixture->error, 0);
                assert_int_equal(fixture->units[0].held, n_idle < 64);
        }
}

/* For each call, systemd reads the files of a unit that does not run. */
static void an_inactive_unit_is_read_by_three_calls(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *file = scratch_path(fixture->folder, "web.service");
        unsigned before;

        scratch_write(file, "[Service]\n");
        fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead")->oneshot = true;
        before = fixture->fake->calls;
        list(fixture, "web.service", false);
        assert_int_equal(fixture->fake->calls - before, 3);
        assert_true(fixture->units[0].oneshot);
}

/* It does not describe the unit, and must not be read as "none"; a property that the unit type lacks is
 * "none". */
static void a_missing_or_invalid_property_fails_the_listing(void **state) {
        static const struct {
                const char *property, *of;
        } rows[] = {
                { "FragmentPath", "web.service" },     { "SourcePath", "web.service" },
                { "NeedDaemonReload", "web.service" }, { "InvocationID", "web.service" },
                { "Result", "web.service" },           { "Type", "web.service" },
                { "RemainAfterExit", "web.service" },  { "Conflicts", "web.service" },
                { "ActiveState", "other.service" },    { "Job", "other.service" },
        };
        static const char *const names[] = { "web.service", "web.container" };
        Fixture *fixture = *state;
        FakeUnit *u = fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
        _cleanup_free_ char *file = scratch_path(fixture->folder, "web.service");

        scratch_write(file, "[Service]\n");
        fake_bus_unit(fixture->fake, "other.service", "loaded", "inactive", "dead");
        snprintf(u->conflicts, sizeof(u->conflicts), "other.service");
        for (size_t i = 0; i < 2 * ELEMENTS(rows) + 1; i++) {
                bool fails = i < 2 * ELEMENTS(rows);

                fixture->fake->fails_typed = i % 2;
                fixture->fake->fail_property = fails ? rows[i / 2].property : NULL;
                fixture->fake->fail_property_of = fails ? rows[i / 2].of : NULL;
                ops(fixture)->list(fixture->systemd, names, ELEMENTS(names), false, on_listed, fixture);
                UNTIL(fixture, fixture->listed == i + 1);
                if (fixture->error != (!fails ? 0 : i % 2 ? -ENXIO : -ETIMEDOUT))
                        fail_msg("%s: %d", fails ? rows[i / 2].property : "all", fixture->error);
        }
        assert_int_equal(fixture->n_units, ELEMENTS(names));
        assert_false(fixture->units[0].held);
}

static void a_lost_connection_ends_all_calls_under_way_and_is_reopened(void **state) {
        static const char *const name = "web.service";
        Fixture *fixture = *state;

        fixture->fake->hold = "StartUnit";
        ops(fixture)->start(fixture->systemd, name, on_done, fixture);
        ops(fixture)->stop(fixture->systemd, "other.service", on_done, fixture); /* its job never ends */
        UNTIL(fixture, fixture->fake->n_held == 1 && fixture->fake->n_jobs == 1);
        await_signals(fixture);
        assert_int_equal(fixture->done, 0);
        fixture->fake->hold = "ListUnitsByNames";
        ops(fixture)->list(fixture->systemd, &name, 1, false, on_listed, fixture);
        UNTIL(fixture, fixture->fake->n_held == 2);
        fixture->fake->hold = NULL;

        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, fixture->done == 2 && fixture->listed == 2);
        assert_true(fixture->error == -ECONNRESET || fixture->error == -ETIMEDOUT);
        assert_int_equal(fixture->list_error, -ETIMEDOUT); /* of sd-bus */
        assert_int_equal(fixture->unready, 1);
        UNTIL(fixture, fixture->ready == 2);
        assert_int_equal(fixture->fake->connections, 2);
        ops(fixture)->start(fixture->systemd, name, on_done, fixture);
        UNTIL(fixture, fixture->done == 3);
        assert_int_equal(fixture->error, 0);
}

static void a_connection_without_the_system_state_is_closed_and_reopened(void **state) {
        static const char *const names[] = { "web.service" };
        Fixture *fixture = *state;

        fixture->fake->fail = "Get";
        fixture->fake->fail_name = "org.freedesktop.DBus.Error.NoReply";
        fixture->fake->fail_message = "Method call timed out";
        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, fixture->fake->connections == 3);
        assert_false(ops(fixture)->is_ready(fixture->systemd));
        fixture->fake->fail = NULL;
        UNTIL(fixture, fixture->ready == 2);
        list(fixture, "web.service", false);
        assert_int_equal(fixture->error, 0);

        /* A listing under way ends at once, without a partial result. */
        fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running");
        fixture->fake->hold = "ListUnitsByNames";
        ops(fixture)->list(fixture->systemd, names, 1, false, on_listed, fixture);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fixture->fake->fail = "Get";
        fake_bus_job_new(fixture->fake, "shutdown.target");
        UNTIL(fixture, fixture->listed == 2);
        assert_int_equal(fixture->list_error, -ECONNRESET);
        assert_int_equal(fixture->n_units, 0);
        fixture->fake->hold = fixture->fake->fail = NULL;
        UNTIL(fixture, fixture->ready == 3);
}

static void without_a_connection_calls_fail(void **state) {
        Fixture *fixture = *state;

        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, fixture->unready == 1);
        ops(fixture)->start(fixture->systemd, "web.service", on_done, fixture);
        assert_int_equal(fixture->done, 0);
        UNTIL(fixture, fixture->done == 1);
        assert_int_equal(fixture->error, -ENOTCONN); /* never sent */
        list(fixture, "web.service", false);
        assert_int_equal(fixture->error, -ENOTCONN);
        assert_int_equal(fixture->n_units, 0);
}

static void freeing_the_bus_ends_all_calls_under_way(void **state) {
        static const char *const name = "web.service";
        Fixture *fixture = *state;

        fixture->fake->hold = "StartUnit";
        ops(fixture)->start(fixture->systemd, name, on_done, fixture);
        ops(fixture)->list(fixture->systemd, &name, 1, false, on_listed, fixture);
        fixture->systemd = systemd_bus_free(fixture->systemd);
        assert_int_equal(fixture->done, 1);
        assert_int_equal(fixture->listed, 1);
        assert_true(fixture->error < 0);
}

static void an_invalid_reply_fails_the_listing(void **state) {
        Fixture *fixture = *state;

        fixture->fake->fail = "ListUnitsByNames";
        fixture->fake->fail_name = "org.freedesktop.DBus.Error.UnknownMethod";
        fixture->fake->fail_message = "what?";
        list(fixture, "web.service", false);
        assert_true(fixture->error < 0);
        assert_int_equal(fixture->n_units, 0);
}

static void the_shutdown_state_is_read_with_a_time_limit(void **state) {
        Fixture *fixture = *state;

        systemd_bus_read_stopping(fixture->systemd, on_stopping, fixture);
        UNTIL(fixture, fixture->stopping_asked == 1);
        assert_false(fixture->stopping);
        fixture->fake->hold = "Get";
        systemd_bus_read_stopping(fixture->systemd, on_stopping, fixture);
        UNTIL(fixture, fixture->stopping_asked == 2);
        assert_false(fixture->stopping);
        fake_bus_release(fixture->fake);
        await_signals(fixture);
        assert_int_equal(fixture->stopping_asked, 2);
        fixture->fake->state = "stopping";
        systemd_bus_read_stopping(fixture->systemd, on_stopping, fixture);
        UNTIL(fixture, fixture->stopping_asked == 3);
        assert_true(fixture->stopping);
        assert_true(ops(fixture)->is_stopping(fixture->systemd));
}

int main(void) {
#define in_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_fixture(a_connection_subscribes_before_it_is_ready),
                in_fixture(a_listing_returns_state_properties_and_file),
                in_fixture(a_unit_of_the_host_is_conflicting),
                in_fixture(a_unit_that_does_not_run_has_the_reason_that_systemd_reports),
                in_fixture(only_a_unit_that_failed_costs_the_reads_of_its_reason),
                in_fixture(a_unit_whose_runtime_link_is_gone_is_absent),
                in_fixture(a_name_that_is_an_alias_or_a_mask_of_the_host_is_conflicting),
                in_fixture(a_name_of_the_host_in_an_install_section_is_rejected_before_any_link),
                in_fixture(a_unit_with_too_many_names_in_its_install_section_is_linked_and_not_enabled),
                in_fixture(a_staged_text_is_put_in_force_without_being_written_again),
                in_fixture(a_replaced_folder_is_reported_before_a_file_is_written_to_it),
                in_fixture(a_name_that_leads_to_our_unit_file_does_not_conflict),
                in_fixture(a_mask_of_the_host_is_not_removed),
                in_fixture(units_that_are_not_loaded_are_not_found_and_files_are_listed_on_request),
                in_fixture(the_cost_of_a_listing_is_linear_in_its_units),
                in_fixture(a_service_and_a_quadlet_file_of_one_name_are_both_listed),
                in_fixture(a_file_is_read_again_only_after_a_change),
                in_fixture(a_units_name_may_be_as_long_as_systemd_allows),
                in_fixture(signals_report_the_units_that_changed),
                in_fixture(signals_without_end_are_read_in_batches),
                in_fixture(an_awaited_reply_does_not_wait_for_a_batch),
                in_fixture(a_job_of_shutdown_target_is_a_hint_and_the_state_of_the_system_decides),
                in_fixture(a_shutdown_that_is_cancelled_is_taken_back),
                in_fixture(a_state_that_changes_while_it_is_read_is_read_again),
                in_fixture(a_start_ends_when_its_job_is_queued),
                in_fixture(a_rejected_call_returns_the_message_of_systemd),
                in_fixture(each_rejected_call_names_its_method_and_may_succeed_later),
                in_fixture(a_stop_ends_when_its_job_has_ended),
                in_fixture(a_reload_that_fails_is_an_error),
                in_fixture(a_stop_whose_signal_overtakes_the_reply_ends_as_well),
                in_fixture(a_command_runs_in_a_slice_with_limits_and_ends_with_its_job),
                in_fixture(how_a_command_ends),
                in_fixture(an_older_systemd_gives_commands_the_least_weight),
                in_fixture(a_command_runs_if_its_slice_exists_or_is_refused),
                in_fixture(a_command_ends_with_the_connection),
                in_fixture(linking_enables_units_with_an_install_section),
                in_fixture(a_quadlet_file_is_linked_for_the_generator_and_calls_name_its_service),
                in_fixture(units_and_quadlet_files_of_one_call_are_handled_separately),
                in_fixture(the_service_of_a_quadlet_file_is_ours_if_it_was_generated_from_our_file),
                in_fixture(a_source_that_is_not_ours_is_neither_replaced_nor_removed),
                in_fixture(changes_of_a_service_are_reported_for_its_quadlet_file_too),
                in_fixture(the_first_generator_of_the_name_counts_unless_it_is_masked),
                in_fixture(a_boot_is_complete_when_its_target_is_reached_or_no_unit_needs_that),
                in_fixture(while_systemd_reloads_the_bus_is_not_ready_and_calls_still_arrive),
                in_fixture(a_lost_connection_ends_all_calls_under_way_and_is_reopened),
                in_fixture(a_service_is_oneshot_only_where_it_does_not_remain_after_its_exit),
                in_fixture(a_unit_is_held_by_the_states_of_its_dependencies),
                in_fixture(an_inactive_unit_is_read_by_three_calls),
                in_fixture(a_missing_or_invalid_property_fails_the_listing),
                in_fixture(a_connection_without_the_system_state_is_closed_and_reopened),
                in_fixture(without_a_connection_calls_fail),
                in_fixture(freeing_the_bus_ends_all_calls_under_way),
                in_fixture(an_invalid_reply_fails_the_listing),
                in_fixture(the_shutdown_state_is_read_with_a_time_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
