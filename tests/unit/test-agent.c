/* The agent between a real registry and a simulated systemd on a real bus: assignments in, calls and states
 * out, and failures. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/agent_internal.h"
#include "fleetd/systemd/bus.h"
#include "tests/lib/store_inside.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_bus.h"
#include "tests/lib/host.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"
#include "tests/lib/words_of.h"

enum { QUIET_MS = 300, AGENT_RETRY_MS = 500, ADOPT_MS = 600, BOOT_WAIT_MS = 60000, SHORT_BOOT_WAIT_MS = 800 };

static const char boot_id[] = "b0000000000000000000000000000001";

typedef struct Fixture {
        Host *host;
        char *folder, *bus_path, *records, *links;
        FakeBus *fake;
        Systemd *systemd;
        Agent *agent;
        uint64_t boot_wait_ms;
} Fixture;

/* A component with a duty: what it was called for. */
static Text duties;

static int toy_prepare(void *self, const char *unit) {
        text_printf(self, "prepare %s; ", unit);
        return 0;
}

static bool delays_stops;

static int toy_stopping(void *self, const char *unit, bool at_once) {
        text_printf(self, "stopping %s; ", unit);
        return delays_stops && !at_once ? -EAGAIN : 0;
}

static VerdictCode withheld; /* why there is no content; VERDICT_NONE: there is one */

static int toy_provide(void *self, const Unit *text, uint64_t number, Verdict *why) {
        verdict_set(why, withheld, "pw" VERDICT_NEXT "%s", "no reason");
        return withheld != VERDICT_NONE ? -EAGAIN : 0;
}

static Systemd *toy_systemd;

/* Without its drop-in, the file of a unit with inputs is not in force. */
static int toy_stage(void *self, const Unit *text, RecordPorts *ports, bool runs, Error *err) {
        return input_policy_is_set(&text->placement.inputs) ?
                       toy_systemd->ops->put_drop_in(toy_systemd, text->name, DROP_IN_INPUTS, "[Service]\n") :
                       0;
}

static uint64_t toy_provided(void *self, const Unit *text, Verdict *problem) {
        return 7;
}

/* What was published last, and with what. */
static DutyUnit shown;
static bool shown_with_state;

static void toy_publish(void *self, const DutyUnit *unit, StateChange *change) {
        shown = *unit;
        shown_with_state = change != NULL;
}

static void toy_gone(void *self, const char *unit) {
        text_printf(self, "gone %s; ", unit);
}

static void agent_open(Fixture *fixture) {
        static const Duty duty = { .provide = toy_provide,
                                   .provided = toy_provided,
                                   .stage = toy_stage,
                                   .prepare = toy_prepare,
                                   .stopping = toy_stopping,
                                   .publish = toy_publish,
                                   .gone = toy_gone };
        static const Component toy = { "toy", .duty = &duty }, other = { "other" };
        static const Component *const components[] = { &other, &toy, NULL };
        static void *const selves[] = { NULL, &duties };
        ComponentHost *host = &fixture->host->components;
        Error err = {};

        assert_int_equal(systemd_bus_new(&fixture->systemd, fixture->host->loop,
                                         &(SystemdBusOptions) { .directory = fixture->folder,
                                                                .address = fixture->fake->address,
                                                                .links = fixture->links },
                                         &err),
                         0);
        toy_systemd = fixture->systemd;
        host->components = components;
        host->selves = selves;
        host->io.systemd = fixture->systemd;
        host->io.adopt_ms = ADOPT_MS;
        snprintf(host->io.boot_id, sizeof(host->io.boot_id), "%s", boot_id);
        fixture->host->settings.boot_wait_ms = fixture->boot_wait_ms;
        if (agent_new(&fixture->agent, host, &err) < 0)
                fail_msg("%s", err.message);
}

static void agent_close(Fixture *fixture) {
        fixture->agent = agent_free(fixture->agent);
        fixture->systemd = systemd_bus_free(fixture->systemd);
}

static Fixture *fixture_new(bool alone) {
        Fixture *fixture = NEW0(Fixture, 1);

        leader = (Leader) {};

        fixture->boot_wait_ms = BOOT_WAIT_MS;
        fixture->host = host_new(alone);
        fixture->folder = scratch_path(fixture->host->scratch, "units");
        fixture->bus_path = scratch_path(fixture->host->scratch, "private");
        fixture->records = scratch_path(fixture->host->scratch, "agent");
        fixture->fake = fake_bus_new(fixture->host->uv, fixture->bus_path);
        fixture->links = scratch_path(fixture->host->scratch, "links");
        fixture->fake->links = fixture->links;
        fixture->fake->executes = true;
        return fixture;
}

static int fixture_setup(void **state) {
        Fixture *fixture = fixture_new(false);

        host_machine(fixture->host);
        agent_open(fixture);
        *state = fixture;
        return 0;
}

/* The other hosts never reply. The last assignment of this host is on its disk. */
static int lonely_fixture_setup(void **state) {
        static const char before[] = "{\"floor\":9,\"lineage\":\"00000000000000ab\",\"units\":["
                                     "{\"index\":8,\"name\":\"ended.service\",\"done\":true,\"order\":"
                                     "\"run\",\"startedBoot\":\"b0000000000000000000000000000000\","
                                     "\"text\":\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":3},"
                                     "{\"index\":8,\"name\":\"loaded.service\",\"order\":\"load\",\"text\":"
                                     "\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":4},"
                                     "{\"index\":9,\"name\":\"web.service\",\"order\":\"run\","
                                     "\"startedBoot\":\"b0000000000000000000000000000000\","
                                     "\"text\":\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":5}]}";
        Fixture *fixture = fixture_new(true);
        _cleanup_free_ char *path = scratch_path(fixture->records, "assignment");
        int fd = open_dir(fixture->records, 0700);

        assert_true(fd >= 0);
        close(fd);
        scratch_write(path, before);
        fixture->boot_wait_ms = SHORT_BOOT_WAIT_MS;
        agent_open(fixture);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        agent_close(fixture);
        text_done(&duties);
        assert_int_equal(fixture->fake->unlinked_in_vain, 0);
        fake_bus_free(fixture->fake);
        free(fixture->links);
        host_free(fixture->host);
        free(fixture->folder);
        free(fixture->bus_path);
        free(fixture->records);
        free(fixture);
        return 0;
}

#define UNTIL(fixture, expression) HOST_UNTIL((fixture)->host, expression)
#define ONE                        "[Service]\nExecStart=/bin/one\n"
#define TWO                        "[Service]\nExecStart=/bin/two\n"
#define TUNED                      ONE "[X-Fleet]\nConflicts=x*\n"

static bool is_published(Fixture *fixture, const char *unit, const char *active) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return s && streq(s->state.active, active);
}

static const char *reason_of(Fixture *fixture, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return (s ? s->state.reason : NULL) ?: "";
}

static const char *sub_of(Fixture *fixture, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return s ? s->state.sub : "";
}

static bool records_contain(Fixture *fixture, const char *field) {
        _cleanup_free_ char *path = scratch_path(fixture->records, "assignment"), *text = NULL;

        return read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL) == 0 && strstr(text, field);
}

/* Return whether the record on disk has the invocation that runs. */
static bool records_have(Fixture *fixture, const FakeUnit *u) {
        char field[64];
        int n = snprintf(field, sizeof(field), "\"invocation\":\"");

        for (size_t i = 0; i < u->invocation_size; i++)
                n += snprintf(field + n, sizeof(field) - n, "%02x", u->invocation[i]);
        return records_contain(fixture, field);
}

static bool has_assignment(Fixture *fixture, const char *unit) {
        return cluster_assignment(registry_cluster(fixture->host->registry), fixture->host->id, unit);
}

static bool has_file(Fixture *fixture, const char *unit, const char *part) {
        _cleanup_free_ char *path = scratch_path(fixture->folder, unit), *text = NULL;

        return read_file_at(AT_FDCWD, path, 4096, &text, NULL) == 0 && strstr(text, part);
}

/* Assign the unit to run, and wait until it is published as active. */
static void run_unit(Fixture *fixture, const char *unit, const char *text) {
        host_unit(fixture->host, unit, text, TARGET_LAUNCHED);
        host_order(fixture->host, unit, ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, unit, "active"));
}

/* Messages logged since log_begin(). */
static Text logged;

static void keep_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        text_printf(&logged, "%s\n", message);
}

static bool has_logged(const char *part) {
        return logged.size > 0 && strstr(logged.chars, part);
}

static void log_begin(void) {
        text_clear(&logged);
        log_set_sink(keep_log, NULL);
}

static void log_end(void) {
        log_set_sink(NULL, NULL);
        text_done(&logged);
}

/* As during a stop of the unit, or of a unit that it requires. */
static void refuse_starts(Fixture *fixture) {
        log_begin();
        fixture->fake->fail = "StartUnit";
        fixture->fake->fail_name = "org.freedesktop.systemd1.TransactionIsDestructive";
        fixture->fake->fail_message = "a stop is under way";
}

static void allow_starts(Fixture *fixture) {
        fixture->fake->fail = NULL;
        log_end();
}

static void an_assigned_unit_is_written_linked_started_and_published(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *call_log = NULL;

        run_unit(fixture, "web.service", ONE);
        assert_true(has_file(fixture, "web.service", "/bin/one"));
        assert_true(asprintf(&call_log,
                             "Subscribe; LinkUnitFiles %s/web.service; StartUnit web.service replace; ",
                             fixture->folder) > 0);
        assert_string_equal(fixture->fake->call_log.chars, call_log); /* a new unit needs no Reload */
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 1);
}

static void the_duties_of_components_go_with_a_unit(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        assert_string_equal(duties.chars, "prepare web.service; ");
        text_clear(&duties);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, duties.size > 0 && strstr(duties.chars, "gone"));
        assert_string_equal(duties.chars, "stopping web.service; gone web.service; ");
}

static void a_duty_delays_an_assigned_stop_which_may_end_meanwhile(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        UNTIL(fixture,
              shown.runs && shown.passing && shown.record && shown.invocation[0] && shown_with_state);
        delays_stops = true;
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, strstr(duties.chars, "stopping web.service"));
        host_pause(fixture->host, QUIET_MS);
        assert_true(shown.passing && !shown.runs);

        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, shown.runs);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !shown.runs);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->stops, 0);
        delays_stops = false;
        agent_wake_unit(fixture->agent, "web.service");
        UNTIL(fixture, strstr(duties.chars, "gone"));
        assert_int_equal(fixture->fake->stops, 1);
}

static void a_unit_starts_when_its_content_is_there(void **state) {
        Fixture *fixture = *state;

        withheld = VERDICT_AWAITS_SECRET;
        log_begin();
        host_unit(fixture->host, "web.service", ONE "[X-Fleet]\nSecret=pw\n", TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, has_logged("write waits: waiting for secret pw: not set"));
        text_clear(&logged);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        assert_string_equal(reason_of(fixture, "web.service"), ""); /* the cause is shown elsewhere */
        withheld = VERDICT_SECRET_UNSEALED;
        agent_wake_unit(fixture->agent, "web.service");
        UNTIL(fixture, streq(reason_of(fixture, "web.service"), "cannot seal pw: no reason"));
        text_clear(&logged);
        host_pause(fixture->host, QUIET_MS);
        assert_false(has_logged("waits")); /* once */
        log_end();
        assert_false(has_file(fixture, "web.service", ""));
        assert_int_equal(fixture->fake->starts, 0);

        withheld = VERDICT_NONE;
        agent_wake_unit(fixture->agent, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_string_equal(reason_of(fixture, "web.service"), "");
        assert_int_equal(fixture->fake->starts, 1);
        assert_true(records_contain(fixture, "\"inputs\":7"));

        withheld = VERDICT_AWAITS_SECRET; /* an assigned stop needs none */
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        withheld = VERDICT_NONE;
}

static void a_loaded_unit_is_not_started(void **state) {
        Fixture *fixture = *state;

        host_unit(fixture->host, "web.service", ONE, TARGET_LOADED);
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") &&
                               has_file(fixture, "web.service", "/bin/one"));
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 0);
}

/* Clients take a published state for the end of "load". */
static void a_unit_is_not_published_before_systemd_has_its_file(void **state) {
        Fixture *fixture = *state;

        fixture->fake->hold = "LinkUnitFiles";
        host_unit(fixture->host, "web.service", ONE, TARGET_LOADED);
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(fixture, fixture->fake->n_held == 1);
        host_pause(fixture->host, 2 * QUIET_MS);
        assert_false(is_published(fixture, "web.service", "inactive"));
        fixture->fake->hold = NULL;
        fake_bus_release(fixture->fake);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
}

static void a_unit_that_waits_for_the_write_of_another_is_not_published_before_its_own(void **state) {
        Fixture *fixture = *state;

        fixture->fake->hold = "LinkUnitFiles";
        host_unit(fixture->host, "web.service", ONE, TARGET_LOADED);
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(fixture, fixture->fake->n_held == 1);
        host_unit(fixture->host, "db.service", ONE, TARGET_LOADED);
        host_order(fixture->host, "db.service", ASSIGNMENT_LOAD);
        host_pause(fixture->host, 2 * QUIET_MS);
        assert_false(is_published(fixture, "web.service", "inactive"));
        assert_false(is_published(fixture, "db.service", "inactive"));
        fixture->fake->hold = NULL;
        fake_bus_release(fixture->fake);
}

static void a_slow_stop_of_a_unit_without_its_file_is_published(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fixture->fake->hold = "StopUnit";
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fake_bus_unit(fixture->fake, "web.service", "not-found", "deactivating", "stop-sigterm")->job = true;
        fake_bus_changed(fixture->fake, "web.service");
        host_pause(fixture->host, 2500);
        assert_true(is_published(fixture, "web.service", "deactivating"));
        fixture->fake->hold = NULL;
        fake_bus_release(fixture->fake);
}

/* Another daemon, without contact to the cluster, must find that in the record. */
static void a_unit_that_is_stopped_to_be_loaded_only_is_recorded_so_before_and_not_started_again(
        void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fixture->fake->hold = "StopUnit";
        host_unit(fixture->host, "web.service", ONE, TARGET_LOADED);
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(fixture, fixture->fake->n_held == 1);
        assert_true(records_contain(fixture, "\"order\":\"load\""));
        leader.gone = true;
        agent_close(fixture);
        snprintf(fixture->fake->units[0].active, sizeof(fixture->fake->units[0].active), "inactive");
        fixture->fake->hold = NULL;
        fixture->boot_wait_ms = SHORT_BOOT_WAIT_MS;
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, 2 * SHORT_BOOT_WAIT_MS);
        assert_int_equal(fixture->fake->starts, 1);
        leader.gone = false;
}

static void a_stop_assignment_is_executed_and_removed(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 1);
        assert_false(has_file(fixture, "web.service", ""));
        UNTIL(fixture, !is_published(fixture, "web.service", "inactive") &&
                               !is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->n_units, 0);
}

static void a_changed_text_is_stopped_and_started_once(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->starts == 2 && is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->stops, 1);
        assert_true(has_file(fixture, "web.service", "/bin/two"));
}

/* The folder has no space for the new text. */
static void a_unit_keeps_running_until_its_changed_text_can_be_written(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *temporary = NULL;
        char name[FILE_TEMPORARY_SIZE];

        run_unit(fixture, "web.service", ONE);
        file_temporary_name("web.service", name);
        temporary = scratch_path(fixture->folder, name);
        assert_int_equal(mkdir(temporary, 0700), 0); /* no file replaces a folder */
        log_begin();
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, has_logged("Failed to write the file of web.service"));
        log_end();
        assert_int_equal(fixture->fake->stops, 0);
        assert_string_equal(fixture->fake->units[0].active, "active");

        assert_int_equal(rmdir(temporary), 0);
        UNTIL(fixture, fixture->fake->starts == 2 && is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->stops, 1);
        assert_true(has_file(fixture, "web.service", "/bin/two"));
        assert_int_equal(access(temporary, F_OK), -1);
}

static void an_edit_of_the_x_fleet_section_stops_no_unit(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        host_unit(fixture->host, "web.service", TUNED, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, has_file(fixture, "web.service", "Conflicts"));
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 1);
        assert_int_equal(fixture->fake->stops, 0);
}

static void a_removed_link_of_a_running_unit_is_restored(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        text_clear(&fixture->fake->call_log);
        u = fake_bus_unit(fixture->fake, "web.service", "error", "active", "running");
        u->fragment[0] = 0;
        fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, fixture->fake->call_log.size > 0 && strstr(fixture->fake->call_log.chars, "Reload;"));
        assert_non_null(strstr(fixture->fake->call_log.chars, "LinkUnitFiles"));
        assert_int_equal(fixture->fake->starts, 1);
        assert_int_equal(fixture->fake->stops, 0);
}

static void a_removed_folder_is_restored_with_all_files_and_no_unit_stops(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        run_unit(fixture, "other.service", TWO);
        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
        fake_bus_reloading(fixture->fake, true);
        fake_bus_reloading(fixture->fake, false);
        UNTIL(fixture,
              has_file(fixture, "web.service", "/bin/one") && has_file(fixture, "other.service", "/bin/two"));
        assert_int_equal(fixture->fake->starts, 2);

        /* The folder is removed, or replaced, before a unit is written. */
        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
        assert_int_equal(mkdir(fixture->folder, 0755), 0);
        host_unit(fixture->host, "new.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "new.service", ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "new.service", "active"));
        UNTIL(fixture, has_file(fixture, "new.service", "/bin/one"));
        assert_true(has_file(fixture, "web.service", "/bin/one") &&
                    has_file(fixture, "other.service", "/bin/two"));
        assert_int_equal(fixture->fake->starts, 3);
        assert_int_equal(fixture->fake->stops, 0);
}

static void a_conflicting_unit_is_not_touched_and_published_as_foreign(void **state) {
        const ClusterState *s;
        Fixture *fixture = *state;
        FakeUnit *u = fake_bus_unit(fixture->fake, "ssh.service", "loaded", "active", "running");

        snprintf(u->fragment, sizeof(u->fragment), "/usr/lib/systemd/system/ssh.service");
        host_unit(fixture->host, "ssh.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "ssh.service", ASSIGNMENT_RUN);
        UNTIL(fixture, (s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                          "ssh.service")) &&
                               streq(s->state.load, "foreign"));
        host_order(fixture->host, "ssh.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "ssh.service"));
        assert_int_equal(fixture->fake->starts + fixture->fake->stops, 0);
        assert_string_equal(u->active, "active");
}

/* The administrator adds a file of that name with higher precedence ('load': it may be a mask), and reloads
 * systemd. */
static FakeUnit *taken_over(Fixture *fixture, const char *load, bool restarted) {
        FakeUnit *u = &fixture->fake->units[0];

        snprintf(u->load, sizeof(u->load), "%s", load);
        snprintf(u->fragment, sizeof(u->fragment), "/etc/systemd/system/web.service");
        u->invocation[0] += restarted;
        fake_bus_changed(fixture->fake, "web.service");
        return u;
}

static bool is_told_as(Fixture *fixture, const char *unit, const char *load, const char *active) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return s && streq(s->state.load, load) && streq(s->state.active, active);
}

/* The unit is not restarted in between. */
static void a_running_unit_stays_active_when_a_conflicting_file_comes_and_goes(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        u = fake_bus_unit(fixture->fake, "web.service", "loaded", "active",
                          "running"); /* with an unknown invocation */
        snprintf(u->fragment, sizeof(u->fragment), "/etc/systemd/system/web.service");
        fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, is_told_as(fixture, "web.service", "foreign", "inactive"));

        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->folder);
        fake_bus_reloading(fixture->fake, true);
        fake_bus_reloading(fixture->fake, false);
        UNTIL(fixture, is_told_as(fixture, "web.service", "loaded", "active"));
        assert_int_equal(fixture->fake->starts, 1);
        assert_int_equal(fixture->fake->stops, 0);
}

/* Published as foreign, it would be started elsewhere, too. */
static void a_running_unit_with_a_conflicting_file_is_published_as_active_until_it_stops(void **state) {
        static const char *const loads[] = { "masked", "loaded" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(loads); i++) {
                unsigned connections = fixture->fake->connections;
                FakeUnit *u;

                run_unit(fixture, "web.service", i == 0 ? ONE : TWO);
                u = &fixture->fake->units[0];
                u->invocation[0]++; /* Restart= */
                snprintf(u->sub, sizeof(u->sub), "restarted");
                fake_bus_changed(fixture->fake, "web.service");
                UNTIL(fixture, streq(sub_of(fixture, "web.service"), "restarted"));
                u = taken_over(fixture, loads[i], false);
                snprintf(u->sub, sizeof(u->sub), "exited"); /* a state to be published */
                UNTIL(fixture, is_told_as(fixture, "web.service", loads[i], "active") &&
                                       streq(sub_of(fixture, "web.service"), "exited"));
                assert_false(agent_has_conflict(fixture->agent, "web.service"));

                /* The next daemon publishes the same, after a crash. */
                UNTIL(fixture, records_have(fixture, u));
                fixture->agent = agent_crash(fixture->agent);
                agent_close(fixture);
                snprintf(u->sub, sizeof(u->sub), "running");
                agent_open(fixture);
                UNTIL(fixture, fixture->fake->connections > connections &&
                                       streq(sub_of(fixture, "web.service"), "running"));
                assert_true(is_told_as(fixture, "web.service", loads[i], "active"));

                snprintf(u->active, sizeof(u->active), "inactive");
                snprintf(u->sub, sizeof(u->sub), "dead");
                fake_bus_changed(fixture->fake, "web.service");
                UNTIL(fixture, is_told_as(fixture, "web.service", "foreign", "inactive"));
                assert_int_equal(fixture->fake->starts, i + 1);
                assert_int_equal(fixture->fake->stops, 0);
                snprintf(u->load, sizeof(u->load), "loaded");
                snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->folder);
                fake_bus_changed(fixture->fake, "web.service");
        }
}

/* The administrator started that unit, too. */
static void a_unit_that_the_administrator_replaced_is_not_touched_by_a_stop_assignment(void **state) {
        const ClusterState *s;
        Fixture *fixture = *state;
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        u = taken_over(fixture, "loaded", true);
        UNTIL(fixture, (s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                          "web.service")) &&
                               streq(s->state.load, "foreign"));
        fixture->fake->executes = false;
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 0);
        assert_string_equal(u->active, "active");
        assert_false(has_file(fixture, "web.service", ""));
}

/* Also without a leader. */
static void a_unit_is_published_as_foreign_while_the_administrator_replaces_it(void **state) {
        Fixture *fixture = *state;
        char ours[sizeof(fixture->fake->units[0].fragment)];
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        memcpy(ours, fixture->fake->units[0].fragment, sizeof(ours));
        assert_false(agent_has_conflict(fixture->agent, "web.service"));
        assert_false(agent_has_conflict(fixture->agent, "none.service"));
        u = taken_over(fixture, "loaded", true);
        UNTIL(fixture, agent_has_conflict(fixture->agent, "web.service"));
        UNTIL(fixture, is_told_as(fixture, "web.service", "foreign", "inactive"));
        memcpy(u->fragment, ours, sizeof(ours));
        fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, is_told_as(fixture, "web.service", "loaded", "active"));
        assert_false(agent_has_conflict(fixture->agent, "web.service"));
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_unit_whose_install_section_names_a_unit_of_the_host_is_published_as_foreign(void **state) {
        const ClusterState *s;
        Fixture *fixture = *state;
        FakeUnit *db = fake_bus_unit(fixture->fake, "hostdb.service", "loaded", "active", "running");

        snprintf(db->fragment, sizeof(db->fragment), "/usr/lib/systemd/system/hostdb.service");
        host_unit(fixture->host, "web.service", ONE "[Install]\nAlias=hostdb.service\n", TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, (s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                          "web.service")) &&
                               streq(s->state.load, "foreign"));
        assert_int_equal(fixture->fake->starts, 0);

        /* The name is free, and our unit runs. */
        *db = fixture->fake->units[--fixture->fake->n_units];
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, "web.service");
        assert_string_equal(s->state.load, "loaded");
}

/* Run a unit, let the host take a name of its [Install], then edit [X-Fleet]. */
static void run_with_a_taken_alias(Fixture *fixture) {
        FakeUnit *db;

        run_unit(fixture, "web.service", ONE "[Install]\nAlias=hostdb.service\n");
        db = fake_bus_unit(fixture->fake, "hostdb.service", "loaded", "active", "running");
        snprintf(db->fragment, sizeof(db->fragment), "/usr/lib/systemd/system/hostdb.service");
        text_clear(&fixture->fake->call_log);
        log_begin();
        host_unit(fixture->host, "web.service",
                  ONE "[Install]\nAlias=hostdb.service\n[X-Fleet]\nConflicts=x*\n", TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture,
              has_file(fixture, "web.service", "Conflicts=x*") && has_logged("names hostdb.service"));
        log_end();
        host_pause(fixture->host, QUIET_MS);
}

/* A change that systemd does not read affects no unit, for all changes of names in [Install]. */
static void a_running_unit_stays_when_the_host_takes_one_of_its_names(void **state) {
        Fixture *fixture = *state;

        run_with_a_taken_alias(fixture);
        assert_true(is_told_as(fixture, "web.service", "loaded", "active"));
        assert_int_equal(fixture->fake->starts, 1);
        assert_int_equal(fixture->fake->stops, 0);
}

/* systemd replies to no call that names a template. */
static void a_template_in_the_folder_or_an_install_section_affects_no_unit(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *file = scratch_path(fixture->folder, "stray@.service");

        agent_close(fixture);
        scratch_write(file, ONE);
        agent_open(fixture);
        host_unit(fixture->host, "web.service",
                  ONE "[Install]\nWantedBy=multi-user.target\nAlso=helper@.service\n", TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_non_null(strstr(fixture->fake->call_log.chars, "EnableUnitFiles"));
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 1);
        assert_true(has_file(fixture, "stray@.service", "/bin/one"));
        assert_null(cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                  "stray@.service"));
}

/* systemd has the link, and rejects the enabling: the host took the name in between. */
static void a_unit_that_cannot_be_enabled_is_published_as_foreign_and_not_started(void **state) {
        const ClusterState *s;
        Fixture *fixture = *state;

        fixture->fake->fail = "EnableUnitFiles";
        fixture->fake->fail_name = "System.Error.EEXIST";
        fixture->fake->fail_message = "File exists";
        host_unit(fixture->host, "web.service", ONE "[Install]\nAlias=other.service\n", TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, (s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                          "web.service")) &&
                               streq(s->state.load, "foreign"));
        assert_int_equal(fixture->fake->starts, 0);

        fixture->fake->fail = NULL;
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, "web.service");
        assert_string_equal(s->state.load, "loaded");
}

/* systemd rejects a call about many units because of one. */
static void a_rejected_link_affects_no_other_install_section(void **state) {
        static const char *const units[] = { "a.service", "bad.service", "c.service" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(fixture->host, units[i], ONE "[Install]\nWantedBy=x.target\n", TARGET_LAUNCHED);
        fixture->fake->fail = "LinkUnitFiles";
        fixture->fake->fail_name = "org.freedesktop.DBus.Error.AccessDenied";
        fixture->fake->fail_message = "no";
        fixture->fake->fail_part = "bad";
        fixture->fake->hold = "ListUnitsByNames"; /* until all are assigned, to be one batch */
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_order(fixture->host, units[i], ASSIGNMENT_RUN);
        host_pause(fixture->host, QUIET_MS);
        fake_bus_release(fixture->fake);
        UNTIL(fixture,
              is_published(fixture, "a.service", "active") && is_published(fixture, "c.service", "active"));
        assert_int_equal(fixture->fake->starts, 2);
        for (size_t i = 0; i < ELEMENTS(units); i += 2) {
                _cleanup_free_ char *call = NULL;

                assert_true(asprintf(&call, "EnableUnitFiles %s/%s;", fixture->folder, units[i]) > 0);
                assert_non_null(strstr(fixture->fake->call_log.chars, call));
        }
}

/* Fails the first allocation after the reply to a link. */
static struct {
        const SystemdOps *ops;
        SystemdDone done;
        void *userdata;
        bool armed;
} shortage;

static void shortage_on_linked(void *userdata, int error, const char *message) {
        shortage.armed = error < 0;
        shortage.done(shortage.userdata, error, message);
        shortage.armed = false;
}

static int shortage_link(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        if (n == 1)
                return shortage.ops->link(s, names, n, done, userdata);
        shortage.done = done;
        shortage.userdata = userdata;
        return shortage.ops->link(s, names, n, shortage_on_linked, NULL);
}

static bool shortage_is_ready(Systemd *s) {
        if (shortage.armed)
                alloc_fail_at(1);
        shortage.armed = false;
        return shortage.ops->is_ready(s);
}

/* systemd rejects the batch, so each unit has a call of its own; the first call has no memory. */
static void a_unit_without_memory_for_its_call_is_put_in_force_later(void **state) {
        static const char *const units[] = { "a.service", "b.service",
                                             "c.service" }; /* the first one may have a call of its own */
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->systemd->ops;

        shortage.ops = fixture->systemd->ops;
        ops.link = shortage_link;
        ops.is_ready = shortage_is_ready;
        fixture->systemd->ops = &ops;
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(fixture->host, units[i], ONE, TARGET_LAUNCHED);
        fixture->fake->fail = "LinkUnitFiles";
        fixture->fake->fail_name = SD_BUS_ERROR_ACCESS_DENIED;
        fixture->fake->fail_message = "no";
        fixture->fake->hold = "ListUnitsByNames"; /* until all are assigned, to be one batch */
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_order(fixture->host, units[i], ASSIGNMENT_RUN);
        for (size_t i = 0; i < ELEMENTS(units); i++)
                UNTIL(fixture, has_assignment(fixture, units[i]));
        fake_bus_release(fixture->fake);
        UNTIL(fixture, alloc_has_failed());
        fixture->fake->fail = NULL;
        for (size_t i = 0; i < ELEMENTS(units); i++)
                UNTIL(fixture, is_published(fixture, units[i], "active"));
        assert_int_equal(fixture->fake->starts, 3);
        alloc_fail_at(0);
        fixture->systemd->ops = shortage.ops;
}

static void units_that_are_assigned_together_are_linked_by_one_call(void **state) {
        static const char *const units[] = { "a.service", "b.service", "c.service" };
        Fixture *fixture = *state;
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(fixture->host, units[i], ONE, TARGET_LAUNCHED);
        fixture->fake->hold = "ListUnitsByNames"; /* until all are assigned, to be one batch */
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_order(fixture->host, units[i], ASSIGNMENT_RUN);
        host_pause(fixture->host, QUIET_MS);
        fake_bus_release(fixture->fake);
        for (size_t i = 0; i < ELEMENTS(units); i++)
                UNTIL(fixture, is_published(fixture, units[i], "active"));
        for (const char *at = fixture->fake->call_log.chars; (at = strstr(at, "LinkUnitFiles")); at++)
                n++;
        assert_in_range(n, 1, 2); /* the first unit may have had a call of its own */
}

static uint64_t index_of(Fixture *fixture, const char *unit) {
        char key[128];
        KvNode node;

        snprintf(key, sizeof(key), "/_fleet/state/%s/%s", unit, fixture->host->id);
        (void) store_node(fixture->host->store, key, &node);
        return node.modified;
}

static void of_a_flapping_unit_the_first_state_and_the_last_of_a_second_are_published(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;
        uint64_t told_ms, index;
        unsigned flaps = 0, n_published = 0;

        run_unit(fixture, "web.service", ONE);
        host_pause(fixture->host, 1100);
        u = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "s0");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->folder);
        index = index_of(fixture, "web.service");
        told_ms = loop_now_ms(fixture->host->loop);
        while (loop_now_ms(fixture->host->loop) - told_ms < 2300) {
                snprintf(u->sub, sizeof(u->sub), "s%u", ++flaps);
                fake_bus_changed(fixture->fake, "web.service");
                host_pause(fixture->host, 20);
                if (index_of(fixture, "web.service") != index)
                        n_published++;
                index = index_of(fixture, "web.service");
        }
        assert_true(flaps > 20);
        assert_in_range(n_published, 2, 3); /* at once, then one for each second */
        UNTIL(fixture,
              streq(cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, "web.service")
                            ->state.sub,
                    u->sub));
}

static void a_start_is_published_once_when_it_has_ended(void **state) {
        Fixture *fixture = *state;
        uint64_t index;

        run_unit(fixture, "web.service", ONE);
        index = index_of(fixture, "web.service");
        host_pause(fixture->host, QUIET_MS + 300);
        assert_int_equal(index_of(fixture, "web.service"), index);
        assert_true(is_published(fixture, "web.service", "active"));
}

static const char *job_of(Fixture *fixture, const char *unit) {
        return cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, unit)->state.job;
}

/* The unit stays inactive, and no property shows the reason. */
static void a_start_that_never_began_is_published_with_its_reason_until_one_begins(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        fixture->fake->executes = false;
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->starts == 1);
        fake_bus_job_removed(fixture->fake, 1, "web.service", "dependency");
        UNTIL(fixture, streq(job_of(fixture, "web.service"), "dependency"));
        assert_true(is_published(fixture, "web.service", "inactive"));
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 1);

        u = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running"); /* by hand */
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->folder);
        fake_bus_job_removed(fixture->fake, 2, "web.service", "done");
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_string_equal(job_of(fixture, "web.service"), "");
}

static bool is_done(Fixture *fixture, const char *unit) {
        return cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, unit)->state.done;
}

/* systemd stops 'unit', by hand or because of another unit. */
static void stop_by_systemd(Fixture *fixture, const char *unit) {
        fake_bus_job_new(fixture->fake, unit);
        fake_bus_change(fixture->fake, unit,
                        (FakeChange) { .active = "deactivating", .job = 1, .left = true });
        fake_bus_change(fixture->fake, unit,
                        (FakeChange) { .active = "inactive", .job = 1, .left = true, .ended = true });
        fake_bus_job_removed(fixture->fake, 1, unit, "done");
        UNTIL(fixture, is_published(fixture, unit, "inactive"));
}

static void a_bound_unit_that_systemd_stopped_is_started_again_when_its_unit_runs(void **state) {
        Fixture *fixture = *state;
        FakeUnit *side;

        run_unit(fixture, "side.service", ONE);
        fake_bus_unit(fixture->fake, "app.service", "loaded", "active", "running");
        side = fake_bus_unit(fixture->fake, "side.service", "loaded", "active", "running");
        snprintf(side->fragment, sizeof(side->fragment), "%s/side.service", fixture->folder);
        snprintf(side->binds_to, sizeof(side->binds_to), "app.service");
        fake_bus_changed(fixture->fake, "side.service");
        host_pause(fixture->host, 50);

        fake_bus_change(fixture->fake, "app.service",
                        (FakeChange) { .active = "activating", .left = true, .ended = true });
        stop_by_systemd(fixture, "side.service");
        assert_false(is_done(fixture, "side.service"));
        host_pause(fixture->host, 1500);
        assert_int_equal(fixture->fake->starts, 1);

        /* A daemon that starts in between has not observed it. */
        agent_close(fixture);
        agent_open(fixture);
        host_pause(fixture->host, 1500);
        assert_int_equal(fixture->fake->starts, 1);
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, is_published(fixture, "side.service", "active"));
        assert_int_equal(fixture->fake->starts, 2);
        assert_int_equal(fixture->fake->stops, 0);
}

static void a_unit_stopped_by_hand_stays_here_when_the_host_takes_one_of_its_names(void **state) {
        Fixture *fixture = *state;

        run_with_a_taken_alias(fixture);
        stop_by_systemd(fixture, "web.service");
        host_pause(fixture->host, 1500);
        assert_true(is_told_as(fixture, "web.service", "loaded", "inactive"));
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_unit_stopped_because_of_another_stays_here_when_the_host_takes_one_of_its_names(void **state) {
        Fixture *fixture = *state;

        run_with_a_taken_alias(fixture);
        fake_bus_unit(fixture->fake, "app.service", "loaded", "active", "running");
        snprintf(fixture->fake->units[0].binds_to, sizeof(fixture->fake->units[0].binds_to), "app.service");
        fake_bus_changed(fixture->fake, "web.service");
        host_pause(fixture->host, 1100);
        fake_bus_change(fixture->fake, "app.service",
                        (FakeChange) { .active = "activating", .left = true, .ended = true });
        stop_by_systemd(fixture, "web.service");
        host_pause(fixture->host, 1500);
        assert_true(is_told_as(fixture, "web.service", "loaded", "inactive"));
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, is_told_as(fixture, "web.service", "loaded", "active"));
        assert_int_equal(fixture->fake->starts, 2);
}

/* The start may be rejected while the other unit is being stopped again: then it waits for that unit. */
/* systemd sends no signal for that. */
/* side.service is bound to app.service, and is stopped because app.service restarts. */
static void stop_sidekick(Fixture *fixture) {
        run_unit(fixture, "side.service", ONE);
        fake_bus_unit(fixture->fake, "app.service", "loaded", "active", "running");
        snprintf(fixture->fake->units[0].binds_to, sizeof(fixture->fake->units[0].binds_to), "app.service");
        fake_bus_changed(fixture->fake, "side.service");
        host_pause(fixture->host, 50);
        fake_bus_change(fixture->fake, "app.service",
                        (FakeChange) { .active = "activating", .left = true, .ended = true });
        stop_by_systemd(fixture, "side.service");
}

static void a_bound_unit_is_not_started_when_its_unit_has_ended_again_before(void **state) {
        const AgentCounts *counts;
        Fixture *fixture = *state;
        uint64_t listings;

        stop_sidekick(fixture);
        counts = agent_counts(fixture->agent);
        listings = counts->listings;
        UNTIL(fixture, counts->listings > listings); /* its own next one is a second away */
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        fake_bus_changed(fixture->fake, "side.service");
        host_pause(fixture->host, 50);
        fake_bus_change(fixture->fake, "app.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        listings = counts->listings;
        UNTIL(fixture, counts->listings > listings + 1 || fixture->fake->starts == 2);
        assert_int_equal(fixture->fake->starts, 1);
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, fixture->fake->starts == 2);
}

static void a_bound_unit_whose_start_was_rejected_starts_with_its_unit_without_the_cluster(void **state) {
        Fixture *fixture = *state;

        stop_sidekick(fixture);
        leader.gone = true;
        agent_state_changed(fixture->agent);
        refuse_starts(fixture);
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, has_logged("Failed to start side.service"));
        fake_bus_change(fixture->fake, "app.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        host_pause(fixture->host, 2500); /* until that is observed */
        allow_starts(fixture);
        host_pause(fixture->host, 1500);
        assert_int_equal(fixture->fake->starts, 1);
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, fixture->fake->starts == 2);
        leader.gone = false;
}

/* Return a unit that runs here, with its relations. */
static FakeUnit *related_unit(Fixture *fixture, const char *requires, const char *conflicts) {
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        u = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->folder);
        snprintf(u->requires, sizeof(u->requires), "%s", requires);
        snprintf(u->conflicts, sizeof(u->conflicts), "%s", conflicts);
        fake_bus_changed(fixture->fake, "web.service");
        host_pause(fixture->host, 50);
        return u;
}

/* An administrator restarts the conflicting unit: in between our unit must not start. */
static void a_unit_that_a_conflict_stopped_waits_until_the_conflicting_unit_has_ended(void **state) {
        Fixture *fixture = *state;
        FakeUnit *other;

        fake_bus_unit(fixture->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(fixture, "", "other.service");
        fake_bus_job_new(fixture->fake, "other.service");
        fake_bus_change(fixture->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(fixture, "web.service");
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "deactivating", .job = 2, .left = true });
        host_pause(fixture->host, 1500);
        assert_int_equal(fixture->fake->starts, 1);
        other = fake_bus_unit(fixture->fake, "other.service", "loaded", "inactive", "dead");
        other->job = true;
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "inactive", .job = 2, .ended = true });
        host_pause(fixture->host, 1500);
        assert_int_equal(fixture->fake->starts, 1);
        other->job = false;
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 2);
}

static void other_requirements_of_a_stopped_unit_do_not_prevent_its_start(void **state) {
        Fixture *fixture = *state;

        fake_bus_unit(fixture->fake, "setup.service", "loaded", "inactive", "dead");
        fake_bus_unit(fixture->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(fixture, "setup.service", "other.service");
        fake_bus_job_new(fixture->fake, "other.service");
        fake_bus_change(fixture->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(fixture, "web.service");
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 2);
}

/* The cause of the stop is kept until the unit runs. */
static void other_dependencies_of_a_unit_do_not_prevent_its_start_after_a_rejected_one(void **state) {
        Fixture *fixture = *state;

        fake_bus_unit(fixture->fake, "setup.service", "loaded", "inactive", "dead");
        fake_bus_unit(fixture->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(fixture, "setup.service", "other.service");
        fake_bus_job_new(fixture->fake, "other.service");
        fake_bus_change(fixture->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(fixture, "web.service");
        refuse_starts(fixture);
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, has_logged("Failed to start web.service"));
        fake_bus_change(fixture->fake, "other.service", (FakeChange) { .active = "active" });
        host_pause(fixture->host, 1500);
        allow_starts(fixture);
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
}

/* The job of a target may take long: a unit stopped by hand during it was not stopped because of it. */
static void a_stop_by_hand_during_a_target_job_is_not_undone(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_job_new(fixture->fake, "custom.target");
        host_pause(fixture->host, 400);
        stop_by_systemd(fixture, "web.service");
        host_pause(fixture->host, 1500);
        assert_int_equal(fixture->fake->starts, 1);
}

/* Each start affects other units. */
static void a_bound_unit_that_systemd_does_not_begin_is_not_started_each_second(void **state) {
        static const char *const results[] = { "assert", "dependency" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(results); i++) {
                const char *name = i == 0 ? "a.service" : "b.service";
                unsigned before = fixture->fake->starts;
                FakeUnit *u;

                fixture->fake->executes = true;
                run_unit(fixture, name, ONE);
                fake_bus_unit(fixture->fake, "app.service", "loaded", "active", "running");
                u = fake_bus_unit(fixture->fake, name, "loaded", "active", "running");
                snprintf(u->fragment, sizeof(u->fragment), "%s/%s", fixture->folder, name);
                snprintf(u->binds_to, sizeof(u->binds_to), "app.service");
                fake_bus_changed(fixture->fake, name);
                host_pause(fixture->host, 50);
                fixture->fake->executes = false;
                fake_bus_change(fixture->fake, "app.service",
                                (FakeChange) { .active = "activating", .left = true, .ended = true });
                stop_by_systemd(fixture, name);
                fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
                UNTIL(fixture, fixture->fake->starts == before + 2);
                fake_bus_job_removed(fixture->fake, 2, name, results[i]);
                UNTIL(fixture, streq(job_of(fixture, name), results[i]));
                host_pause(fixture->host, 2500);
                assert_int_equal(fixture->fake->starts, before + 2);
        }
}

static void an_assignment_to_run_that_comes_during_a_stop_is_executed_after_it(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_job_new(fixture->fake, "web.service"); /* by hand */
        fixture->fake->units[0].job = true;
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "deactivating", .job = 1, .left = true });
        UNTIL(fixture, is_published(fixture, "web.service", "deactivating"));
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        host_pause(fixture->host, 1500);
        assert_int_equal(fixture->fake->starts, 1);
        fixture->fake->units[0].job = false;
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        fake_bus_job_removed(fixture->fake, 1, "web.service", "done");
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 2);
}

static void a_unit_that_was_stopped_by_hand_stays_stopped_and_has_not_completed(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        stop_by_systemd(fixture, "web.service");
        assert_false(is_done(fixture, "web.service"));
        host_pause(fixture->host, 1500);
        agent_close(fixture);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 1);
        assert_false(is_done(fixture, "web.service"));
}

static void a_unit_that_was_stopped_without_a_daemon_has_a_reason(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        agent_close(fixture);
        fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
        agent_open(fixture);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        assert_string_equal(reason_of(fixture, "web.service"),
                            "stopped, or ended by itself, unobserved by fleetd");
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 1);
        assert_false(is_done(fixture, "web.service"));
}

/* Its start began other units, too: the slice of an instance, a unit that it requires. */
static void a_unit_stopped_by_hand_at_once_after_its_start_stays_stopped(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        fake_bus_unit(fixture->fake, "setup.service", "loaded", "inactive", "dead");
        u = fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->folder);
        snprintf(u->requires, sizeof(u->requires), "setup.service");
        fake_bus_job_new(fixture->fake, "setup.service");
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        stop_by_systemd(fixture, "web.service");
        fake_bus_change(fixture->fake, "setup.service", (FakeChange) { .active = "active" });
        host_pause(fixture->host, 2500);
        assert_int_equal(fixture->fake->starts, 1);
}

/* A daemon that starts then has not observed the stop: it finds an inactive unit, and a conflicting one that
 * runs. */
static void a_unit_that_was_stopped_by_hand_before_a_conflict_stays_stopped_after_it(void **state) {
        Fixture *fixture = *state;

        fake_bus_unit(fixture->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(fixture, "", "other.service");
        stop_by_systemd(fixture, "web.service");
        fake_bus_change(fixture->fake, "other.service", (FakeChange) { .active = "active" });
        host_pause(fixture->host, 50);
        agent_close(fixture);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, 1500);
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        host_pause(fixture->host, 2500);
        assert_int_equal(fixture->fake->starts, 1);
        assert_false(is_done(fixture, "web.service"));

        /* Once the unit runs again, that no longer counts. */
        fake_bus_change(fixture->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        fake_bus_job_new(fixture->fake, "other.service");
        fake_bus_change(fixture->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(fixture, "web.service");
        agent_close(fixture);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 3);
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, fixture->fake->starts == 2);
}

static void a_unit_that_ends_by_itself_has_completed(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture, "web.service"));
        agent_close(fixture);
        fixture->fake->basic_us = 5;
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, QUIET_MS);
        assert_true(is_done(fixture, "web.service"));
        assert_int_equal(fixture->fake->starts, 1);
}

/* The administrator runs another unit under that name, which ends, too. */
static void a_completed_unit_stays_completed_when_the_host_runs_another_under_its_name(void **state) {
        static const char *const states[] = { "active", "inactive" };
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture, "web.service"));
        for (size_t i = 0; i < ELEMENTS(states); i++) {
                FakeUnit *u = fake_bus_unit(fixture->fake, "web.service", "loaded", states[i], states[i]);

                snprintf(u->fragment, sizeof(u->fragment), "/etc/systemd/system/web.service");
                fake_bus_changed(fixture->fake, "web.service");
                UNTIL(fixture, is_told_as(fixture, "web.service", "foreign", "inactive"));
                host_pause(fixture->host, 1100);
                assert_true(is_done(fixture, "web.service"));
        }
}

static void a_completion_without_the_cluster_outlives_the_daemon(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        leader.gone = true;
        agent_state_changed(fixture->agent);
        host_pause(fixture->host, QUIET_MS);
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, records_contain(fixture, "\"done\":true"));
        agent_close(fixture);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        leader.gone = false;
        agent_state_changed(fixture->agent);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture, "web.service"));
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_completed_unit_that_runs_again_with_another_text_has_not_completed(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture, "web.service"));
        run_unit(fixture, "web.service", TWO);
        assert_false(is_done(fixture, "web.service"));
        stop_by_systemd(fixture, "web.service");
        assert_false(is_done(fixture, "web.service"));
}

static void a_completed_unit_that_was_started_by_hand_is_replaced_by_its_next_text(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture, "web.service"));
        fake_bus_change(fixture->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        run_unit(fixture, "web.service", TWO);
        UNTIL(fixture, fixture->fake->starts == 2);
        assert_int_equal(fixture->fake->stops, 1);
        UNTIL(fixture, is_published(fixture, "web.service", "active") && !is_done(fixture, "web.service"));
}

static void is_not_begun(Fixture *fixture, const FakeChange *changes, size_t n) {

        fixture->fake->executes = false;
        fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(fixture->fake->units[0].fragment, sizeof(fixture->fake->units[0].fragment), "%s/web.service",
                 fixture->folder);
        fixture->fake->units[0].oneshot = true;
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->starts == 1);
        for (size_t i = 0; i < n; i++)
                fake_bus_change(fixture->fake, "web.service", changes[i]);
        fake_bus_job_removed(fixture->fake, 1, "web.service", "done");
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") &&
                               streq(job_of(fixture, "web.service"), "condition"));
        assert_false(is_done(fixture, "web.service"));

        /* A later daemon has not observed it. */
        agent_close(fixture);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, 1500);
        assert_string_equal(job_of(fixture, "web.service"), "condition");
        assert_int_equal(fixture->fake->starts, 1);
        assert_false(is_done(fixture, "web.service"));
}

static void a_unit_whose_condition_does_not_hold_is_published_so_and_has_not_completed(void **state) {
        const FakeChange skipped = { .active = "inactive", .job = 1, .skipped = true };

        is_not_begun(*state, &skipped, 1);
}

/* ExecCondition= */
static void a_service_whose_command_says_that_it_is_not_to_begin_is_told_so_and_is_not_finished(
        void **state) {
        const FakeChange changes[] = {
                { .active = "activating", .job = 1, .result = "success" },
                { .active = "inactive", .job = 1, .ended = true, .result = "exec-condition" },
        };

        is_not_begun(*state, changes, ELEMENTS(changes));
}

static void an_earlier_end_is_not_the_end_of_a_start_that_never_began(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture, "web.service"));
        fixture->fake->executes = false;
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN); /* it was stopped and started */
        UNTIL(fixture, fixture->fake->starts == 2);
        fake_bus_job_removed(fixture->fake, 2, "web.service", "timeout");
        UNTIL(fixture, streq(job_of(fixture, "web.service"), "timeout"));
        fake_bus_job_removed(fixture->fake, 3, "web.service",
                             "done"); /* of a stop by hand, of a unit that does not run */
        host_pause(fixture->host, QUIET_MS);
        assert_false(is_done(fixture, "web.service"));
}

/* Return an inactive unit that systemd unloaded, so that its end is unknown. */
static FakeUnit *forgotten(Fixture *fixture, const char *name) {
        FakeUnit *u = fake_bus_unit(fixture->fake, name, "loaded", "inactive", "dead");

        snprintf(u->fragment, sizeof(u->fragment), "%s/%s", fixture->folder, name);
        snprintf(u->result, sizeof(u->result), "success");
        u->oneshot = true;
        return u;
}

static void a_failed_unit_that_is_reset_has_not_completed(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_change(fixture->fake, "web.service",
                        (FakeChange) { .active = "failed", .left = true, .ended = true });
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        forgotten(fixture, "web.service");
        fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        assert_string_equal(reason_of(fixture, "web.service"), "it failed, and its failed state was reset");
        assert_false(is_done(fixture, "web.service"));

        /* Nor for a daemon that has not observed it. */
        agent_close(fixture);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, QUIET_MS);
        assert_false(is_done(fixture, "web.service"));
}

static void a_oneshot_that_ended_without_the_daemon_has_completed_if_it_was_observed_running(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        agent_close(fixture);
        forgotten(fixture, "web.service");
        agent_open(fixture);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture, "web.service"));

        /* A completed unit that runs has not completed. */
        forgotten(fixture, "web.service");
        fake_bus_change(fixture->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_false(is_done(fixture, "web.service"));
        assert_int_equal(fixture->fake->starts, 1);
}

/* While the daemon was stopped, the file of the unit was removed, systemd was reloaded, and the unit was
 * assigned to stop. */
static FakeUnit *stop_without_file(Fixture *fixture) {
        _cleanup_free_ char *file = scratch_path(fixture->folder, "web.service");

        run_unit(fixture, "web.service", ONE);
        agent_close(fixture);
        assert_int_equal(unlink(file), 0);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        return fake_bus_unit(fixture->fake, "web.service", "error", "active", "running");
}

static void an_assignment_to_stop_a_unit_without_its_file_stays_until_the_unit_has_stopped(void **state) {
        Fixture *fixture = *state;

        (void) stop_without_file(fixture);
        fixture->fake->fail = "StopUnit";
        fixture->fake->fail_name = SD_BUS_ERROR_NO_REPLY;
        fixture->fake->fail_message = "no answer in time";
        log_begin();
        agent_open(fixture);
        UNTIL(fixture, has_logged("Failed to stop web.service"));
        log_end();
        fixture->fake->fail = NULL;
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 1);
}

/* The call is lost with its daemon. */
static void the_next_daemon_stops_a_unit_without_its_file(void **state) {
        Fixture *fixture = *state;

        (void) stop_without_file(fixture);
        fixture->fake->hold = "StopUnit";
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fixture->agent = agent_crash(fixture->agent);
        fake_bus_disconnect(fixture->fake);
        fixture->fake->hold = NULL;
        agent_close(fixture);
        agent_open(fixture);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 1);
}

static void a_loaded_unit_that_its_socket_started_is_ours_without_its_file(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        host_unit(fixture->host, "web.service", ONE, TARGET_LOADED);
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        u = &fixture->fake->units[0];
        fake_bus_change(fixture->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        fake_bus_reloading(fixture->fake, true);
        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
        snprintf(u->load, sizeof(u->load), "error");
        u->fragment[0] = 0;
        fake_bus_reloading(fixture->fake, false);
        UNTIL(fixture, has_file(fixture, "web.service", "/bin/one"));
        assert_false(is_told_as(fixture, "web.service", "foreign", "inactive"));

        agent_close(fixture);
        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        agent_open(fixture);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 1);
}

static void a_former_text_that_is_started_before_systemd_reads_the_new_one_is_stopped_again(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        u = &fixture->fake->units[0];
        fixture->fake->hold = "LinkUnitFiles";
        fixture->fake->fail = "LinkUnitFiles"; /* the first time */
        fixture->fake->fail_name = SD_BUS_ERROR_FAILED;
        fixture->fake->fail_message = "no";
        log_begin();
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        assert_int_equal(fixture->fake->stops, 1);
        assert_true(has_file(fixture, "web.service", "/bin/two"));
        snprintf(u->active, sizeof(u->active), "active"); /* by its socket */
        u->invocation[0]++;
        u->need_reload = true;
        fake_bus_release(fixture->fake);
        UNTIL(fixture, has_logged("Failed to write"));
        log_end();
        fixture->fake->fail = NULL;
        UNTIL(fixture, fixture->fake->starts == 2);
        assert_int_equal(fixture->fake->stops, 2);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->stops, 2);
}

static void edit_up_to(Fixture *fixture, const char *held) {
        run_unit(fixture, "web.service", ONE);
        fixture->fake->hold = held;
        fixture->fake->units[0].need_reload = streq(held, "Reload");
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        assert_int_equal(fixture->fake->stops, 1);
        assert_true(has_file(fixture, "web.service", "/bin/two"));
        snprintf(fixture->fake->units[0].active, sizeof(fixture->fake->units[0].active),
                 "active"); /* by its socket */
        fixture->fake->units[0].invocation[0]++;
}

static void is_stopped_again_once(Fixture *fixture) {
        UNTIL(fixture, fixture->fake->starts == 2);
        assert_int_equal(fixture->fake->stops, 2);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->stops, 2);
        assert_int_equal(fixture->fake->starts, 2);
}

/* systemd is re-executed: it replies to no call, and reads all files. */
static void a_former_text_is_stopped_again_when_the_link_of_the_new_one_gets_no_reply(void **state) {
        Fixture *fixture = *state;

        edit_up_to(fixture, "LinkUnitFiles");
        fixture->fake->hold = NULL;
        fake_bus_disconnect(fixture->fake);
        is_stopped_again_once(fixture);
}

static void a_former_text_started_right_before_a_reload_is_stopped_again(void **state) {
        Fixture *fixture = *state;

        edit_up_to(fixture, "Reload");
        fake_bus_release(fixture->fake);
        is_stopped_again_once(fixture);
}

/* Another program reloaded systemd, perhaps after the start. */
static void a_former_text_is_stopped_again_when_another_program_reloaded_systemd(void **state) {
        Fixture *fixture = *state;

        edit_up_to(fixture, "LinkUnitFiles");
        fake_bus_release(fixture->fake);
        is_stopped_again_once(fixture);
}

/* The reply to its start was lost, and it got another text before it was observed running. */
static void a_former_text_whose_start_got_no_reply_is_stopped_again(void **state) {
        Fixture *fixture = *state;

        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        fixture->fake->hold = "StartUnit";
        fixture->fake->deaf = true;
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture,
              cluster_assignment(registry_cluster(fixture->host->registry), fixture->host->id, "web.service")
                              ->unit_index ==
                      cluster_unit(registry_cluster(fixture->host->registry), "web.service")->index);
        fixture->fake->hold = "LinkUnitFiles";
        fixture->fake->deaf = false;
        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, fixture->fake->n_held == 1);
        assert_int_equal(fixture->fake->stops, 1);
        snprintf(fixture->fake->units[0].active, sizeof(fixture->fake->units[0].active),
                 "active"); /* by its socket */
        fixture->fake->units[0].invocation[0]++;
        fake_bus_release(fixture->fake);
        is_stopped_again_once(fixture);
}

static void a_unit_that_was_loaded_only_meanwhile_has_no_former_text(void **state) {
        Fixture *fixture = *state;

        edit_up_to(fixture, "LinkUnitFiles");
        snprintf(fixture->fake->units[0].active, sizeof(fixture->fake->units[0].active), "inactive");
        host_order(fixture->host, "web.service", ASSIGNMENT_LOAD);
        fake_bus_release(fixture->fake);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        host_pause(fixture->host, QUIET_MS);
        snprintf(fixture->fake->units[0].active, sizeof(fixture->fake->units[0].active),
                 "active"); /* by hand */
        fixture->fake->units[0].invocation[0]++;
        fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        agent_close(fixture);
        agent_open(fixture);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->stops, 1);
}

static void restart_during_an_edit(Fixture *fixture, bool need_reload) {
        edit_up_to(fixture, "LinkUnitFiles");
        fixture->fake->units[0].need_reload = need_reload;
        fixture->agent = agent_crash(fixture->agent);
        agent_close(fixture);
        fake_bus_disconnect(fixture->fake);
        fixture->fake->hold = NULL;
        agent_open(fixture);
        is_stopped_again_once(fixture);
}

static void the_next_daemon_stops_a_former_text_that_was_started_before_systemd_read_the_new_one(
        void **state) {
        restart_during_an_edit(*state, true);
}

/* An administrator reloaded systemd meanwhile: the time of the start is unknown. */
static void the_next_daemon_stops_a_unit_that_was_started_during_a_replacement(void **state) {
        restart_during_an_edit(*state, false);
}

static void a_unit_started_after_systemd_read_its_new_text_keeps_running_under_the_next_daemon(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        refuse_starts(fixture);
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, has_logged("Failed to start web.service"));
        agent_close(fixture);
        allow_starts(fixture);
        snprintf(fixture->fake->units[0].active, sizeof(fixture->fake->units[0].active),
                 "active"); /* by its socket */
        fixture->fake->units[0].invocation[0]++;
        agent_open(fixture);
        UNTIL(fixture, records_contain(fixture, "/bin/two") && !records_contain(fixture, "\"replacing\""));
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->stops, 1);
        assert_int_equal(fixture->fake->starts, 1);
}

/* Assign another text; systemd rejects the stop for it. */
static void edit_without_a_stop(Fixture *fixture) {
        fixture->fake->fail = "StopUnit";
        fixture->fake->fail_name = SD_BUS_ERROR_FAILED;
        fixture->fake->fail_message = "no";
        log_begin();
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, has_logged("Failed to stop"));
        log_end();
}

/* The stop was rejected; then the unit failed, and was started again with its former text. */
static void a_unit_that_runs_again_is_not_stopped_by_the_next_daemon_when_its_edit_is_reverted(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        edit_without_a_stop(fixture);
        agent_close(fixture);
        fixture->fake->fail = NULL;
        fixture->fake->units[0].invocation[0]++; /* Restart= */
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        agent_open(fixture);
        UNTIL(fixture, records_contain(fixture, "/bin/one") && !records_contain(fixture, "\"replacing\""));
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->stops, 0);
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_running_unit_is_not_outdated_when_its_edit_is_reverted(void **state) {
        static const char tuned[] = ONE "[X-Fleet]\nMachineMetadata=a=b\n";
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fixture->fake->hold = "LinkUnitFiles";
        host_unit(fixture->host, "web.service", tuned, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fixture->fake->units[0].need_reload = true;
        fake_bus_release(fixture->fake);
        UNTIL(fixture, !fixture->fake->units[0].need_reload);

        edit_without_a_stop(fixture);
        fixture->fake->fail = NULL;
        host_unit(fixture->host, "web.service", tuned, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        host_pause(fixture->host, 2 * AGENT_RETRY_MS + QUIET_MS);
        assert_int_equal(fixture->fake->stops, 0);
        assert_int_equal(fixture->fake->starts, 1);
}

/* The daemon was stopped meanwhile: the former text runs. */
static void a_unit_without_its_file_is_stopped_and_started_when_its_text_changes(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *file = scratch_path(fixture->folder, "web.service");

        for (unsigned reread = 0; reread < 2; reread++) {
                const char *text = reread ? ONE : TWO;
                unsigned starts, stops;

                run_unit(fixture, "web.service", reread ? TWO : ONE);
                starts = fixture->fake->starts;
                stops = fixture->fake->stops;
                agent_close(fixture);
                assert_int_equal(unlink(file), 0);
                if (reread)
                        (void) fake_bus_unit(fixture->fake, "web.service", "error", "active", "running");
                host_unit(fixture->host, "web.service", text, TARGET_LAUNCHED);
                host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
                fixture->fake->fail = "StopUnit";
                fixture->fake->fail_name = SD_BUS_ERROR_NO_REPLY;
                fixture->fake->fail_message = "no answer in time";
                log_begin();
                agent_open(fixture);
                UNTIL(fixture,
                      has_logged("Failed to stop web.service") || has_file(fixture, "web.service", ""));
                log_end();
                assert_false(has_file(fixture, "web.service", ""));
                fixture->fake->fail = NULL;
                UNTIL(fixture, has_file(fixture, "web.service", reread ? "/bin/one" : "/bin/two"));
                assert_int_equal(fixture->fake->stops, stops + 1);
                UNTIL(fixture,
                      fixture->fake->starts == starts + 1 && is_published(fixture, "web.service", "active"));
        }
}

/* Its link is gone, and systemd reports that link as the fragment of the running unit. */
static void a_unit_that_is_started_while_it_is_unlinked_is_stopped_too(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        for (unsigned recorded = 0; recorded < 2; recorded++) {
                unsigned stops = fixture->fake->stops;
                _cleanup_free_ char *path = scratch_path(fixture->records, "assignment");

                run_unit(fixture, "web.service", ONE);
                if (!recorded) {
                        agent_close(fixture);
                        scratch_write(path, "rubbish");
                        agent_open(fixture);
                }
                fixture->fake->hold = "DisableUnitFiles";
                host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
                UNTIL(fixture, fixture->fake->n_held == 1);
                assert_int_equal(fixture->fake->stops, stops + 1);
                u = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "running");
                snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->links);
                u->invocation_size = 16;
                u->invocation[0] = 77;
                fake_bus_changed(fixture->fake, "web.service");
                fixture->fake->executes = false; /* loaded units stay loaded */
                fake_bus_release(fixture->fake);
                fixture->fake->executes = true;
                UNTIL(fixture, !has_assignment(fixture, "web.service"));
                assert_int_equal(fixture->fake->stops, stops + 2);
                assert_string_equal(fixture->fake->units[0].active, "inactive");
                assert_false(has_file(fixture, "web.service", ""));
                fixture->fake->n_units = 0; /* systemd unloads units without link and file */
        }
}

/* As after systemctl soft-reboot, or after rescue.target: the boot is the same. */
static void a_soft_reboot_starts_its_units(void **state) {
        Fixture *fixture = *state;
        unsigned connections;

        for (unsigned i = 0; i < 2; i++) {
                agent_close(fixture);
                fixture->fake->basic_us = 100;
                fixture->fake->soft_reboots = i;
                agent_open(fixture);
                if (i == 0)
                        run_unit(fixture, "web.service", ONE);
                else
                        UNTIL(fixture, fixture->fake->starts == 2);
                fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive",
                              "dead"); /* unloaded, and loaded again */
                snprintf(fixture->fake->units[0].fragment, sizeof(fixture->fake->units[0].fragment),
                         "%s/web.service", fixture->folder);
        }
        agent_close(fixture);
        fixture->fake->basic_us = 200;
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->starts == 3);
        fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(fixture->fake->units[0].fragment, sizeof(fixture->fake->units[0].fragment), "%s/web.service",
                 fixture->folder);
        agent_close(fixture);
        fixture->fake->left_us = 300;
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->starts == 4);
        agent_close(fixture);
        fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(fixture->fake->units[0].fragment, sizeof(fixture->fake->units[0].fragment), "%s/web.service",
                 fixture->folder);
        connections = fixture->fake->connections;
        agent_open(fixture); /* only the daemon restarts */
        UNTIL(fixture, fixture->fake->connections > connections);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 4);
}

static void a_new_daemon_touches_no_running_unit(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        agent_close(fixture);
        text_clear(&fixture->fake->call_log);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, QUIET_MS);
        assert_string_equal(fixture->fake->call_log.chars, "Subscribe; ");
}

static void a_daemon_that_lost_its_records_adopts_running_units(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *fixture = *state;

        path = scratch_path(fixture->records, "assignment");
        run_unit(fixture, "web.service", ONE);
        agent_close(fixture);
        scratch_write(path, "rubbish");
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 1);
        assert_int_equal(fixture->fake->stops, 0);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 1);
}

/* Change the records to those of a cluster before it was recovered: another lineage. */
static void change_lineage(Fixture *fixture) {
        _cleanup_free_ char *path = scratch_path(fixture->records, "assignment"), *text = NULL;
        char *at;

        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL), 0);
        at = strstr(text, "\"lineage\":\"");
        assert_non_null(at);
        memcpy(at + 11, "00000000000000ab", 16);
        scratch_write(path, text);
}

static void in_a_new_lineage_units_are_published_before_any_assignment_is_executed(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        agent_close(fixture);
        change_lineage(fixture);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        u = fake_bus_unit(fixture->fake, "web.service", "loaded", "active", "reloading");
        agent_open(fixture);

        UNTIL(fixture,
              cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, "web.service") &&
                      streq(cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                          "web.service")
                                    ->state.sub,
                            "reloading"));
        assert_int_equal(fixture->fake->stops, 0);
        assert_true(has_assignment(fixture, "web.service"));
        assert_string_equal(u->active, "active");

        UNTIL(fixture,
              !has_assignment(fixture,
                              "web.service")); /* the lineage was taken over: this assignment belongs to it */
        assert_int_equal(fixture->fake->stops, 1);
}

static bool is_told_as_foreign(Fixture *fixture, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return s && streq(s->state.load, "foreign");
}

/* systemd returns the states of units, then stalls: 'property' of 'unit' is read without a reply, and is read
 * again before any call. */
static void stall_at_property(Fixture *fixture, const char *unit, const char *property) {
        unsigned before = fixture->fake->n_failed_properties;
        size_t call_log = fixture->fake->call_log.size;

        fixture->fake->fail_property = property;
        fixture->fake->fail_property_of = unit;
        fake_bus_changed(fixture->fake, unit);
        UNTIL(fixture,
              fixture->fake->n_failed_properties >= before + 2 || fixture->fake->call_log.size > call_log);
}

static void a_conflicting_unit_whose_fragment_is_read_late_is_not_touched(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u = fake_bus_unit(fixture->fake, "ssh.service", "loaded", "inactive", "dead");

        snprintf(u->fragment, sizeof(u->fragment), "/usr/lib/systemd/system/ssh.service");
        host_unit(fixture->host, "ssh.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "ssh.service", ASSIGNMENT_RUN);
        stall_at_property(fixture, "ssh.service", "FragmentPath");
        assert_string_equal(fixture->fake->call_log.chars, "Subscribe; ");
        fixture->fake->fail_property = NULL;
        UNTIL(fixture, is_told_as_foreign(fixture, "ssh.service"));
        assert_string_equal(fixture->fake->call_log.chars, "Subscribe; ");
}

static void a_unit_that_the_administrator_replaced_is_not_stopped_because_of_a_late_reply(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        run_unit(fixture, "web.service", ONE);
        u = taken_over(fixture, "loaded", true);
        UNTIL(fixture, is_told_as_foreign(fixture, "web.service"));
        fixture->fake->executes = false;
        fixture->fake->fail_property = "FragmentPath"; /* before the assignment arrives */
        fixture->fake->fail_property_of = "web.service";
        fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, fixture->fake->n_failed_properties == 1);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        stall_at_property(fixture, "web.service", "FragmentPath");
        assert_int_equal(fixture->fake->stops, 0);
        assert_true(has_assignment(fixture, "web.service"));
        fixture->fake->fail_property = NULL;
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 0);
        assert_string_equal(u->active, "active");
}

/* Its start would stop that unit. */
static void a_unit_waits_while_the_state_of_a_conflicting_unit_is_unknown(void **state) {
        Fixture *fixture = *state;

        fake_bus_unit(fixture->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(fixture, "", "other.service");
        fake_bus_job_new(fixture->fake, "other.service");
        fake_bus_change(fixture->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(fixture, "web.service");
        stall_at_property(fixture, "other.service", "ActiveState");
        assert_int_equal(fixture->fake->starts, 1);
        fixture->fake->fail_property = NULL;
        fake_bus_change(fixture->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(fixture, fixture->fake->starts == 2);
}

static void in_a_new_lineage_a_conflicting_unit_is_published_before_any_assignment_is_executed(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u = fake_bus_unit(fixture->fake, "ssh.service", "loaded", "active", "running");

        snprintf(u->fragment, sizeof(u->fragment), "/usr/lib/systemd/system/ssh.service");
        run_unit(fixture, "web.service", ONE);
        host_unit(fixture->host, "ssh.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "ssh.service", ASSIGNMENT_RUN);
        UNTIL(fixture, is_told_as_foreign(fixture, "ssh.service"));
        agent_close(fixture);
        change_lineage(fixture);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        agent_open(fixture);
        while (has_assignment(fixture, "web.service")) { /* until the lineage was taken over */
                assert_true(is_told_as_foreign(fixture, "ssh.service"));
                host_pause(fixture->host, 20);
        }
        assert_true(is_told_as_foreign(fixture, "ssh.service"));
}

/* Replace the value of 'field' in the records by one of the same length or less. */
static void records_that_cannot_be_read_without_memory_stay_on_disk(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->records, "assignment"), *before = NULL;
        SystemdBusOptions bus = { .directory = fixture->folder,
                                  .address = fixture->fake->address,
                                  .links = fixture->links };
        bool failed = true;
        int r;

        run_unit(fixture, "a.service", ONE);
        run_unit(fixture, "b.service", ONE);
        agent_close(fixture);
        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 20, &before, NULL), 0);
        assert_int_equal(systemd_bus_new(&fixture->systemd, fixture->host->loop, &bus, NULL), 0);
        fixture->host->components.io.systemd = fixture->systemd;
        for (unsigned n = 1; failed; n++) {
                _cleanup_free_ char *after = NULL;
                Error err = {};

                alloc_fail_at(n);
                r = agent_new(&fixture->agent, &fixture->host->components, &err);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                assert_true(r == 0 || r == -ENOMEM);
                if (r == 0)
                        fixture->agent = agent_free(fixture->agent);
                assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 20, &after, NULL), 0);
                assert_string_equal(after, before);
        }
}

static void change_record(Fixture *fixture, const char *field, const char *value) {
        _cleanup_free_ char *path = scratch_path(fixture->records, "assignment"), *text = NULL,
                            *changed = NULL;
        char *at;

        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL), 0);
        at = strstr(text, field);
        assert_non_null(at);
        at += strlen(field);
        assert_true(asprintf(&changed, "%.*s%s%s", (int) (at - text), text, value, at + strcspn(at, ",\"}")) >
                    0);
        scratch_write(path, changed);
}

static void a_replacement_that_another_daemon_had_begun_waits_for_the_cluster(void **state) {
        static const char *const boots[] = { "b0000000000000000000000000000000", boot_id };
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->records, "assignment");

        leader.gone = true;
        for (size_t i = 0; i < ELEMENTS(boots); i++) {
                _cleanup_free_ char *text = NULL;
                unsigned connections = fixture->fake->connections;

                agent_close(fixture);
                assert_true(
                        asprintf(&text,
                                 "{\"boot\":\"%s\",\"era\":\"0.1.0\",\"floor\":9,\"lineage\":"
                                 "\"00000000000000ab\",\"units\":["
                                 "{\"index\":9,\"name\":\"web.service\",\"order\":\"run\",\"replacing\":true,"
                                 "\"text\":\"[Service]\\nExecStart=/bin/two\\n\",\"unit\":5}]}",
                                 boots[i]) > 0);
                scratch_write(path, text);
                agent_open(fixture);
                UNTIL(fixture, fixture->fake->connections > connections);
                host_pause(fixture->host, QUIET_MS);
                assert_int_equal(fixture->fake->starts, 0);
        }
        agent_close(fixture);
        fixture->boot_wait_ms = SHORT_BOOT_WAIT_MS;
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->starts == 1);
        assert_true(has_file(fixture, "web.service", "/bin/two"));
        leader.gone = false;
}

/* Another daemon recorded it, and died before the stop. */
static void a_daemon_that_stops_a_unit_for_its_new_text_starts_it_without_the_cluster(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fixture->fake->hold = "StopUnit";
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fixture->agent = agent_crash(fixture->agent);
        agent_close(fixture);
        fake_bus_disconnect(fixture->fake);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->n_held == 1 && fixture->fake->connections == 2);
        leader.gone = true;
        agent_state_changed(fixture->agent);
        fake_bus_release(fixture->fake);
        UNTIL(fixture, fixture->fake->starts == 2);
        leader.gone = false;
        agent_state_changed(fixture->agent);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
}

/* The unit has stopped to replace its text, the leader is lost, and StartUnit is rejected or never reaches
 * systemd. */
static void the_start_of_a_replacement_is_repeated_without_the_cluster(void **state) {
        Fixture *fixture = *state;

        for (unsigned lost = 0; lost < 2; lost++) {
                unsigned starts = fixture->fake->starts;

                run_unit(fixture, "web.service", lost ? TWO : ONE);
                UNTIL(fixture, fixture->fake->starts > starts);
                starts = fixture->fake->starts;
                fixture->fake->hold = "StopUnit";
                host_unit(fixture->host, "web.service", lost ? ONE : TWO, TARGET_LAUNCHED);
                host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
                UNTIL(fixture, fixture->fake->n_held == 1);
                leader.gone = true;
                agent_state_changed(fixture->agent);
                if (lost) {
                        fake_bus_release(fixture->fake);
                        fixture->fake->hold = "StartUnit";
                        UNTIL(fixture, fixture->fake->n_held == 1);
                        fixture->fake->hold = NULL;
                        fake_bus_disconnect(fixture->fake);
                } else {
                        refuse_starts(fixture);
                        fake_bus_release(fixture->fake);
                        UNTIL(fixture, has_logged("Failed to start web.service"));
                        allow_starts(fixture);
                }
                UNTIL(fixture, fixture->fake->starts == starts + 1);
                leader.gone = false;
                agent_state_changed(fixture->agent);
                UNTIL(fixture, is_published(fixture, "web.service", "active"));
                host_pause(fixture->host, QUIET_MS + AGENT_RETRY_MS);
                assert_int_equal(fixture->fake->starts, starts + 1);
                fake_bus_changed(fixture->fake, "web.service");
                host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
                UNTIL(fixture, !has_assignment(fixture, "web.service"));
        }
}

/* The assignment arrives, and the leader is lost, while the unit is being stopped to replace its text. */
static void a_replacement_is_not_finished_after_a_stop_assignment(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fixture->fake->hold = "StopUnit";
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        leader.gone = true;
        agent_state_changed(fixture->agent);
        fake_bus_release(fixture->fake);
        host_pause(fixture->host, 2 * AGENT_RETRY_MS);
        assert_int_equal(fixture->fake->starts, 1);
        leader.gone = false;
        agent_state_changed(fixture->agent);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
}

static void a_registry_older_than_the_records_of_this_host_has_no_effect(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        agent_close(fixture);
        change_record(fixture, "\"floor\":", "1000000");
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        agent_open(fixture);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->stops, 0);
        assert_true(has_assignment(fixture, "web.service"));

        /* Only that was the reason. */
        agent_close(fixture);
        change_record(fixture, "\"floor\":", "1");
        agent_open(fixture);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->stops, 1);
}

static void assignments_are_executed_although_records_cannot_be_written(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *fixture = *state;
        uint64_t turns;

        path = scratch_path(fixture->records, "assignment");
        run_unit(fixture, "web.service", ONE);
        UNTIL(fixture, remove_tree_at(AT_FDCWD, fixture->records) == 0); /* a write may be under way */
        scratch_write(fixture->records, "no folder");
        run_unit(fixture, "other.service", TWO);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(fixture->fake->starts, 2);
        assert_int_equal(fixture->fake->stops, 1);
        assert_int_equal(access(path, F_OK), -1);

        turns = loop_turns(fixture->host->loop)->n; /* a failing write is not repeated at once */
        host_pause(fixture->host, QUIET_MS);
        assert_true(loop_turns(fixture->host->loop)->n - turns < QUIET_MS);
}

static void a_removed_folder_of_records_is_restored_with_all_of_them_and_logged_once(void **state) {
        static const char message[] = " was removed or replaced";
        Fixture *fixture = *state;
        const char *first;

        run_unit(fixture, "web.service", ONE);
        log_begin();
        UNTIL(fixture, remove_tree_at(AT_FDCWD, fixture->records) == 0); /* a write may be under way */
        run_unit(fixture, "other.service", TWO);
        UNTIL(fixture, records_contain(fixture, "web.service") && records_contain(fixture, "other.service"));
        run_unit(fixture, "third.service", TWO);
        UNTIL(fixture, records_contain(fixture, "third.service"));
        log_set_sink(NULL, NULL);
        assert_false(has_logged("Failed to save"));
        assert_true(has_logged(message));
        first = strstr(logged.chars, message);
        assert_null(strstr(first + 1, message));
        log_end();

        /* Also without any change. */
        UNTIL(fixture, remove_tree_at(AT_FDCWD, fixture->records) == 0);
        agent_state_changed(fixture->agent);
        UNTIL(fixture, records_contain(fixture, "web.service") && records_contain(fixture, "third.service"));
        assert_int_equal(fixture->fake->starts, 3);
        assert_int_equal(fixture->fake->stops, 0);
}

/* Content of the records on disk at the moment of a call to systemd. */
static struct {
        const SystemdOps *ops;
        const char *path;
        char *at_start, *at_stop;
} witness;

static int witness_start(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        assert_int_equal(read_file_at(AT_FDCWD, witness.path, 1 << 16, &witness.at_start, NULL), 0);
        return witness.ops->start(s, name, done, userdata);
}

static int witness_stop(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        assert_int_equal(read_file_at(AT_FDCWD, witness.path, 1 << 16, &witness.at_stop, NULL), 0);
        return witness.ops->stop(s, name, done, userdata);
}

static void records_are_on_disk_before_the_calls_that_they_are_about(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->systemd->ops;

        path = scratch_path(fixture->records, "assignment");
        witness.ops = fixture->systemd->ops;
        witness.path = path;
        ops.start = witness_start;
        ops.stop = witness_stop;
        fixture->systemd->ops = &ops;
        run_unit(fixture, "web.service", ONE);
        assert_non_null(strstr(witness.at_start, "\"starting\":true"));
        assert_non_null(strstr(witness.at_start, boot_id));
        assert_null(strstr(witness.at_start, "\"replacing\""));
        assert_null(strstr(witness.at_start, "\"job\""));

        /* A remaining record to run would start the unit again after a crash. Versions that do not read
         * "stopping" must not start it either. */
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_non_null(strstr(witness.at_stop, "\"stopping\":true"));
        assert_non_null(strstr(witness.at_stop, "\"order\":\"load\""));
        assert_null(strstr(witness.at_stop, "\"order\":\"run\""));
        fixture->systemd->ops = witness.ops;
        free(TAKE_PTR(witness.at_start));
        free(TAKE_PTR(witness.at_stop));
}

static void a_lost_start_of_a_waiting_unit_is_made_when_the_other_unit_runs(void **state) {
        Fixture *fixture = *state;

        stop_sidekick(fixture);
        fixture->fake->hold = "StartUnit";
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, fixture->fake->n_held == 1);
        fake_bus_change(fixture->fake, "app.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        fixture->fake->hold = NULL;
        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, fixture->fake->connections == 2);
        host_pause(fixture->host, 2500);
        assert_int_equal(fixture->fake->starts, 1);
        fake_bus_change(fixture->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(fixture, fixture->fake->starts == 2);
}

static void a_start_that_never_reached_systemd_is_repeated(void **state) {
        Fixture *fixture = *state;

        fixture->fake->hold = "StartUnit";
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fixture->fake->hold = NULL;
        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_start_whose_reply_was_lost_is_not_made_twice(void **state) {
        Fixture *fixture = *state;
        FakeUnit *u;

        fixture->fake->hold = "StartUnit";
        fixture->fake->deaf = true;
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fixture->fake->hold = NULL;
        fake_bus_disconnect(fixture->fake);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 1);

        /* It ends by itself and is unloaded: that starts it no second time. */
        u = fake_bus_unit(fixture->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", fixture->folder);
        fake_bus_changed(fixture->fake, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        host_pause(fixture->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(fixture->fake->starts, 1);
}

static void while_systemd_reloads_no_unit_counts_as_gone(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE);
        fake_bus_reloading(fixture->fake, true);
        fake_bus_unit(fixture->fake, "web.service", "not-found", "inactive", "dead"); /* as during a reload */
        fake_bus_changed(fixture->fake, "web.service");
        host_pause(fixture->host, QUIET_MS);
        assert_true(is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_rejected_unit_is_retried_later_and_affects_no_other_unit(void **state) {
        Fixture *fixture = *state;

        fixture->fake->fail = "LinkUnitFiles";
        fixture->fake->fail_name = "org.freedesktop.DBus.Error.AccessDenied";
        fixture->fake->fail_message = "no";
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 0);
        fixture->fake->fail = NULL;
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_rejected_start_is_retried_later(void **state) {
        Fixture *fixture = *state;

        fixture->fake->fail = "StartUnit";
        fixture->fake->fail_name = "org.freedesktop.systemd1.TransactionIsDestructive";
        fixture->fake->fail_message = "a stop is under way";
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 0);
        fixture->fake->fail = NULL;
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_int_equal(fixture->fake->starts, 1);
        host_pause(fixture->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(fixture->fake->starts, 1);
}

/* The leak checker verifies that. */
static void an_agent_that_ends_during_a_call_is_freed_with_the_reply(void **state) {
        Fixture *fixture = *state;

        fixture->fake->hold = "StartUnit";
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, fixture->fake->n_held == 1);
        fixture->agent = agent_free(fixture->agent);
        fake_bus_release(fixture->fake);
}

static void an_assignment_is_executed_as_soon_as_this_host_has_caught_up(void **state) {
        uint64_t synced_ms;
        Fixture *fixture = *state;

        agent_close(fixture);
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        leader = (Leader) { .hold = true };
        agent_open(fixture);
        UNTIL(fixture, leader.held);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 0);
        synced_ms = loop_now_ms(fixture->host->loop);
        leader.held->done(leader.held->userdata, KV_OK);
        leader = (Leader) {};
        UNTIL(fixture, fixture->fake->starts == 1);
        assert_in_range(loop_now_ms(fixture->host->loop) - synced_ms, 0, 5000); /* before the next resync */
}

/* The host has contact as soon as a check has passed, also if its view follows later. */
static void a_view_that_follows_the_tree_is_no_partition(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service", ONE "[X-Fleet]\nOnPartition=stop\n");
        leader.gone = true;
        UNTIL(fixture, timer_armed(&fixture->agent->partition.tick));
        leader = (Leader) { .view_lags = true };
        UNTIL(fixture, !timer_armed(&fixture->agent->partition.tick));
        assert_false(fixture->agent->fresh);
        leader = (Leader) {};
        UNTIL(fixture, fixture->agent->fresh);
}

/* The assignment of the view may have been withdrawn by an event that is still to be applied. */
static void no_assignment_counts_before_the_view_has_all_events(void **state) {
        Fixture *fixture = *state;

        agent_close(fixture);
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        leader = (Leader) { .view_lags = true };
        agent_open(fixture);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 0);
        leader = (Leader) {};
        UNTIL(fixture, fixture->fake->starts == 1);
}

/* Before its event, the whole registry announces the assignment. */
static void read_registry_again(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Host *h = userdata;

        registry_reset(h->registry);
        host_on_done(h, status, message, index);
}

static void an_assignment_that_comes_with_the_whole_registry_is_executed_at_once(void **state) {
        Fixture *fixture = *state;
        Host *h = fixture->host;
        AssignmentChange change = { .kind = ASSIGNMENT_RUN,
                                    .unit = "web.service",
                                    .why = SAID("a test says so") };
        uint64_t ordered_ms = loop_now_ms(h->loop);
        KvState store;

        host_unit(h, "web.service", ONE, TARGET_LAUNCHED);
        memcpy(change.machine, h->id, sizeof(change.machine));
        change.unit_index = cluster_unit(registry_cluster(h->registry), "web.service")->index;
        kv_state(h->store, &store);
        assert_int_equal(host_wait(h, registry_assign(h->registry, store.term, &change, 1, NULL,
                                                      read_registry_again, h)),
                         KV_OK);
        UNTIL(fixture, fixture->fake->starts == 1);
        assert_in_range(loop_now_ms(h->loop) - ordered_ms, 0, 5000); /* before the next resync */
}

static void a_read_index_check_ends_with_its_leader(void **state) {
        Fixture *fixture = *state;

        agent_close(fixture);
        leader = (Leader) { .hold = true };
        agent_open(fixture);
        UNTIL(fixture, leader.held);
        leader.gone = true;
        agent_state_changed(fixture->agent);
        UNTIL(fixture, leader.cancelled == 1);
        agent_state_changed(fixture->agent);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(leader.cancelled, 1);
        leader = (Leader) {};
        agent_state_changed(fixture->agent);
        run_unit(fixture, "web.service", ONE);
}

static void a_new_assignment_ends_the_delay_of_a_failed_step(void **state) {
        uint64_t ordered_ms;
        Fixture *fixture = *state;

        fixture->fake->fail = "StartUnit";
        fixture->fake->fail_name = "org.freedesktop.systemd1.LoadFailed";
        fixture->fake->fail_message = "no such user";
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        host_pause(fixture->host, 7 * AGENT_RETRY_MS + 200); /* after 1, 2 and 4 pauses; the next one has 8 */
        assert_int_equal(fixture->fake->starts, 0);

        fixture->fake->fail = NULL;
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        ordered_ms = loop_now_ms(fixture->host->loop);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_true(loop_now_ms(fixture->host->loop) - ordered_ms < 5 * AGENT_RETRY_MS);
        assert_int_equal(fixture->fake->starts, 1);
}

static void a_host_that_boots_alone_waits_and_then_starts_its_last_assignments(void **state) {
        Fixture *fixture = *state;

        UNTIL(fixture, fixture->fake->connections == 1);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(fixture->fake->starts, 0);
        assert_false(has_file(fixture, "web.service", ""));

        UNTIL(fixture, fixture->fake->starts == 1);
        assert_true(has_file(fixture, "web.service", "/bin/one"));
        UNTIL(fixture, has_file(fixture, "loaded.service", "/bin/one"));
        host_pause(fixture->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(fixture->fake->starts, 1); /* neither the loaded unit nor the completed one */
        assert_int_equal(fixture->fake->stops, 0);
        assert_true(has_file(fixture, "ended.service", "/bin/one")); /* others may name it */
}

int main(int argc, char *argv[]) {
#define in_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_fixture(an_assigned_unit_is_written_linked_started_and_published),
                in_fixture(the_duties_of_components_go_with_a_unit),
                in_fixture(a_duty_delays_an_assigned_stop_which_may_end_meanwhile),
                in_fixture(a_unit_starts_when_its_content_is_there),
                in_fixture(a_loaded_unit_is_not_started),
                in_fixture(a_unit_is_not_published_before_systemd_has_its_file),
                in_fixture(a_unit_that_waits_for_the_write_of_another_is_not_published_before_its_own),
                in_fixture(a_slow_stop_of_a_unit_without_its_file_is_published),
                in_fixture(
                        a_unit_that_is_stopped_to_be_loaded_only_is_recorded_so_before_and_not_started_again),
                in_fixture(a_stop_assignment_is_executed_and_removed),
                in_fixture(a_changed_text_is_stopped_and_started_once),
                in_fixture(a_unit_keeps_running_until_its_changed_text_can_be_written),
                in_fixture(an_edit_of_the_x_fleet_section_stops_no_unit),
                in_fixture(a_removed_link_of_a_running_unit_is_restored),
                in_fixture(a_removed_folder_is_restored_with_all_files_and_no_unit_stops),
                in_fixture(a_conflicting_unit_is_not_touched_and_published_as_foreign),
                in_fixture(a_unit_that_the_administrator_replaced_is_not_touched_by_a_stop_assignment),
                in_fixture(a_unit_is_published_as_foreign_while_the_administrator_replaces_it),
                in_fixture(a_running_unit_stays_active_when_a_conflicting_file_comes_and_goes),
                in_fixture(a_running_unit_with_a_conflicting_file_is_published_as_active_until_it_stops),
                in_fixture(a_unit_whose_install_section_names_a_unit_of_the_host_is_published_as_foreign),
                in_fixture(a_running_unit_stays_when_the_host_takes_one_of_its_names),
                in_fixture(a_template_in_the_folder_or_an_install_section_affects_no_unit),
                in_fixture(a_unit_that_cannot_be_enabled_is_published_as_foreign_and_not_started),
                in_fixture(a_unit_without_memory_for_its_call_is_put_in_force_later),
                in_fixture(units_that_are_assigned_together_are_linked_by_one_call),
                in_fixture(a_rejected_link_affects_no_other_install_section),
                in_fixture(of_a_flapping_unit_the_first_state_and_the_last_of_a_second_are_published),
                in_fixture(a_start_is_published_once_when_it_has_ended),
                in_fixture(a_start_that_never_began_is_published_with_its_reason_until_one_begins),
                in_fixture(a_bound_unit_that_systemd_stopped_is_started_again_when_its_unit_runs),
                in_fixture(a_bound_unit_is_not_started_when_its_unit_has_ended_again_before),
                in_fixture(a_bound_unit_whose_start_was_rejected_starts_with_its_unit_without_the_cluster),
                in_fixture(a_unit_stopped_by_hand_stays_here_when_the_host_takes_one_of_its_names),
                in_fixture(a_unit_stopped_because_of_another_stays_here_when_the_host_takes_one_of_its_names),
                in_fixture(a_unit_that_a_conflict_stopped_waits_until_the_conflicting_unit_has_ended),
                in_fixture(other_requirements_of_a_stopped_unit_do_not_prevent_its_start),
                in_fixture(other_dependencies_of_a_unit_do_not_prevent_its_start_after_a_rejected_one),
                in_fixture(an_assignment_to_run_that_comes_during_a_stop_is_executed_after_it),
                in_fixture(a_stop_by_hand_during_a_target_job_is_not_undone),

                in_fixture(a_bound_unit_that_systemd_does_not_begin_is_not_started_each_second),
                in_fixture(a_unit_that_was_stopped_by_hand_stays_stopped_and_has_not_completed),
                in_fixture(a_unit_that_was_stopped_without_a_daemon_has_a_reason),
                in_fixture(a_unit_stopped_by_hand_at_once_after_its_start_stays_stopped),
                in_fixture(a_unit_that_was_stopped_by_hand_before_a_conflict_stays_stopped_after_it),
                in_fixture(a_unit_that_ends_by_itself_has_completed),
                in_fixture(a_completed_unit_stays_completed_when_the_host_runs_another_under_its_name),
                in_fixture(a_completion_without_the_cluster_outlives_the_daemon),
                in_fixture(a_completed_unit_that_runs_again_with_another_text_has_not_completed),
                in_fixture(a_completed_unit_that_was_started_by_hand_is_replaced_by_its_next_text),
                in_fixture(a_unit_whose_condition_does_not_hold_is_published_so_and_has_not_completed),
                in_fixture(
                        a_service_whose_command_says_that_it_is_not_to_begin_is_told_so_and_is_not_finished),
                in_fixture(an_earlier_end_is_not_the_end_of_a_start_that_never_began),
                in_fixture(a_failed_unit_that_is_reset_has_not_completed),
                in_fixture(a_oneshot_that_ended_without_the_daemon_has_completed_if_it_was_observed_running),
                in_fixture(an_assignment_to_stop_a_unit_without_its_file_stays_until_the_unit_has_stopped),
                in_fixture(the_next_daemon_stops_a_unit_without_its_file),
                in_fixture(a_loaded_unit_that_its_socket_started_is_ours_without_its_file),
                in_fixture(a_former_text_that_is_started_before_systemd_reads_the_new_one_is_stopped_again),
                in_fixture(a_former_text_started_right_before_a_reload_is_stopped_again),
                in_fixture(
                        the_next_daemon_stops_a_former_text_that_was_started_before_systemd_read_the_new_one),
                in_fixture(the_next_daemon_stops_a_unit_that_was_started_during_a_replacement),
                in_fixture(a_former_text_is_stopped_again_when_the_link_of_the_new_one_gets_no_reply),
                in_fixture(a_former_text_is_stopped_again_when_another_program_reloaded_systemd),
                in_fixture(a_former_text_whose_start_got_no_reply_is_stopped_again),
                in_fixture(a_unit_that_was_loaded_only_meanwhile_has_no_former_text),
                in_fixture(
                        a_unit_started_after_systemd_read_its_new_text_keeps_running_under_the_next_daemon),
                in_fixture(
                        a_unit_that_runs_again_is_not_stopped_by_the_next_daemon_when_its_edit_is_reverted),
                in_fixture(a_running_unit_is_not_outdated_when_its_edit_is_reverted),
                in_fixture(a_unit_without_its_file_is_stopped_and_started_when_its_text_changes),
                in_fixture(a_unit_that_is_started_while_it_is_unlinked_is_stopped_too),
                in_fixture(a_soft_reboot_starts_its_units),
                in_fixture(a_new_daemon_touches_no_running_unit),
                in_fixture(a_daemon_that_lost_its_records_adopts_running_units),
                in_fixture(in_a_new_lineage_units_are_published_before_any_assignment_is_executed),
                in_fixture(
                        in_a_new_lineage_a_conflicting_unit_is_published_before_any_assignment_is_executed),
                in_fixture(a_conflicting_unit_whose_fragment_is_read_late_is_not_touched),
                in_fixture(a_unit_that_the_administrator_replaced_is_not_stopped_because_of_a_late_reply),
                in_fixture(a_unit_waits_while_the_state_of_a_conflicting_unit_is_unknown),
                in_fixture(a_replacement_that_another_daemon_had_begun_waits_for_the_cluster),
                in_fixture(a_daemon_that_stops_a_unit_for_its_new_text_starts_it_without_the_cluster),
                in_fixture(the_start_of_a_replacement_is_repeated_without_the_cluster),
                in_fixture(a_replacement_is_not_finished_after_a_stop_assignment),
                in_fixture(a_registry_older_than_the_records_of_this_host_has_no_effect),
                in_fixture(assignments_are_executed_although_records_cannot_be_written),
                in_fixture(a_removed_folder_of_records_is_restored_with_all_of_them_and_logged_once),
                in_fixture(records_are_on_disk_before_the_calls_that_they_are_about),
                in_fixture(a_lost_start_of_a_waiting_unit_is_made_when_the_other_unit_runs),
                in_fixture(a_start_that_never_reached_systemd_is_repeated),
                in_fixture(records_that_cannot_be_read_without_memory_stay_on_disk),
                in_fixture(a_start_whose_reply_was_lost_is_not_made_twice),
                in_fixture(while_systemd_reloads_no_unit_counts_as_gone),
                in_fixture(a_rejected_unit_is_retried_later_and_affects_no_other_unit),
                in_fixture(a_rejected_start_is_retried_later),
                in_fixture(an_agent_that_ends_during_a_call_is_freed_with_the_reply),
                in_fixture(an_assignment_is_executed_as_soon_as_this_host_has_caught_up),
                in_fixture(no_assignment_counts_before_the_view_has_all_events),
                in_fixture(a_view_that_follows_the_tree_is_no_partition),
                in_fixture(an_assignment_that_comes_with_the_whole_registry_is_executed_at_once),
                in_fixture(a_read_index_check_ends_with_its_leader),
                in_fixture(a_new_assignment_ends_the_delay_of_a_failed_step),
                cmocka_unit_test_setup_teardown(
                        a_host_that_boots_alone_waits_and_then_starts_its_last_assignments,
                        lonely_fixture_setup, fixture_teardown),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
