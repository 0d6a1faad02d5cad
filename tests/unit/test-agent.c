/* The agent between a real registry and a simulated systemd on a real bus: assignments in, calls and states
 * out, and failures. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/agent.h"
#include "fleetd/systemd/bus.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_bus.h"
#include "tests/lib/host.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"

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

static void agent_open(Fixture *room) {
        AgentOptions options = { .machine_id = room->host->id,
                                 .boot_id = boot_id,
                                 .directory = room->records,
                                 .boot_wait_ms = room->boot_wait_ms,
                                 .adopt_ms = ADOPT_MS };
        Error err = {};

        assert_int_equal(systemd_bus_new(&room->systemd, room->host->loop,
                                         &(SystemdBusOptions) { .directory = room->folder,
                                                                .address = room->fake->address,
                                                                .links = room->links },
                                         &err),
                         0);
        if (agent_new(&room->agent, room->host->loop, room->host->registry, room->systemd, &options, &err) <
            0)
                fail_msg("%s", err.message);
}

static void agent_close(Fixture *room) {
        room->agent = agent_free(room->agent);
        room->systemd = systemd_bus_free(room->systemd);
}

static Fixture *fixture_new(bool alone) {
        Fixture *room = NEW0(Fixture, 1);

        leader = (Leader) {};

        room->boot_wait_ms = BOOT_WAIT_MS;
        room->host = host_new(alone);
        room->folder = scratch_path(room->host->scratch, "units");
        room->bus_path = scratch_path(room->host->scratch, "private");
        room->records = scratch_path(room->host->scratch, "agent");
        room->fake = fake_bus_new(room->host->uv, room->bus_path);
        room->links = scratch_path(room->host->scratch, "links");
        room->fake->links = room->links;
        room->fake->obeys = true;
        return room;
}

static int fixture_setup(void **state) {
        Fixture *room = fixture_new(false);

        host_machine(room->host);
        agent_open(room);
        *state = room;
        return 0;
}

/* The other hosts never reply. The last assignment of this host is on its disk. */
static int lonely_room_setup(void **state) {
        static const char before[] = "{\"floor\":9,\"lineage\":\"00000000000000ab\",\"units\":["
                                     "{\"index\":8,\"name\":\"ended.service\",\"done\":true,\"order\":"
                                     "\"run\",\"startedBoot\":\"b0000000000000000000000000000000\","
                                     "\"text\":\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":3},"
                                     "{\"index\":8,\"name\":\"loaded.service\",\"order\":\"load\",\"text\":"
                                     "\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":4},"
                                     "{\"index\":9,\"name\":\"web.service\",\"order\":\"run\","
                                     "\"startedBoot\":\"b0000000000000000000000000000000\","
                                     "\"text\":\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":5}]}";
        Fixture *room = fixture_new(true);
        _cleanup_free_ char *path = scratch_path(room->records, "assignment");
        int fd = open_dir(room->records, 0700);

        assert_true(fd >= 0);
        close(fd);
        scratch_write(path, before);
        room->boot_wait_ms = SHORT_BOOT_WAIT_MS;
        agent_open(room);
        *state = room;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *room = *state;

        agent_close(room);
        assert_int_equal(room->fake->unlinked_in_vain, 0);
        fake_bus_free(room->fake);
        free(room->links);
        host_free(room->host);
        free(room->folder);
        free(room->bus_path);
        free(room->records);
        free(room);
        return 0;
}

#define UNTIL(room, expression) HOST_UNTIL((room)->host, expression)
#define ONE                     "[Service]\nExecStart=/bin/one\n"
#define TWO                     "[Service]\nExecStart=/bin/two\n"
#define TUNED                   ONE "[X-Fleet]\nConflicts=x*\n"

static bool says(Fixture *room, const char *unit, const char *active) {
        const ClusterState *s = cluster_state(registry_cluster(room->host->registry), room->host->id, unit);

        return s && streq(s->state.active, active);
}

static const char *sub_of(Fixture *room, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(room->host->registry), room->host->id, unit);

        return s ? s->state.sub : "";
}

static bool records_say(Fixture *room, const char *field) {
        _cleanup_free_ char *path = scratch_path(room->records, "assignment"), *text = NULL;

        return read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL) == 0 && strstr(text, field);
}

/* Return whether the record on disk has the invocation that runs. */
static bool records_have(Fixture *room, const FakeUnit *u) {
        char field[64];
        int n = snprintf(field, sizeof(field), "\"invocation\":\"");

        for (size_t i = 0; i < u->invocation_size; i++)
                n += snprintf(field + n, sizeof(field) - n, "%02x", u->invocation[i]);
        return records_say(room, field);
}

static bool has_order(Fixture *room, const char *unit) {
        return cluster_assignment(registry_cluster(room->host->registry), room->host->id, unit);
}

static bool has_file(Fixture *room, const char *unit, const char *part) {
        _cleanup_free_ char *path = scratch_path(room->folder, unit), *text = NULL;

        return read_file_at(AT_FDCWD, path, 4096, &text, NULL) == 0 && strstr(text, part);
}

/* Assign the unit to run, and wait until it is published as active. */
static void run_unit(Fixture *room, const char *unit, const char *text) {
        host_unit(room->host, unit, text, TARGET_LAUNCHED);
        host_order(room->host, unit, ASSIGNMENT_RUN);
        UNTIL(room, says(room, unit, "active"));
}

/* Messages logged since log_begin(). */
static Text logged;

static void keep_log(void *userdata, int priority, const LogFields *fields, const char *sentence) {
        text_printf(&logged, "%s\n", sentence);
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
static void refuse_starts(Fixture *room) {
        log_begin();
        room->fake->fail = "StartUnit";
        room->fake->fail_name = "org.freedesktop.systemd1.TransactionIsDestructive";
        room->fake->fail_message = "a stop is under way";
}

static void allow_starts(Fixture *room) {
        room->fake->fail = NULL;
        log_end();
}

static void an_assigned_unit_is_written_linked_started_and_published(void **state) {
        Fixture *room = *state;
        _cleanup_free_ char *said = NULL;

        run_unit(room, "web.service", ONE);
        assert_true(has_file(room, "web.service", "/bin/one"));
        assert_true(asprintf(&said,
                             "Subscribe; LinkUnitFiles %s/web.service; StartUnit web.service replace; ",
                             room->folder) > 0);
        assert_string_equal(room->fake->said.chars, said); /* a new unit needs no Reload */
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 1);
}

static void a_loaded_unit_is_not_started(void **state) {
        Fixture *room = *state;

        host_unit(room->host, "web.service", ONE, TARGET_LOADED);
        host_order(room->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(room, says(room, "web.service", "inactive") && has_file(room, "web.service", "/bin/one"));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 0);
}

/* Another daemon, without contact to the cluster, must find that in the record. */
static void a_unit_that_is_stopped_to_be_loaded_only_is_recorded_so_before_and_not_started_again(
        void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        room->fake->hold = "StopUnit";
        host_unit(room->host, "web.service", ONE, TARGET_LOADED);
        host_order(room->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(room, room->fake->n_held == 1);
        assert_true(records_say(room, "\"order\":\"load\""));
        leader.gone = true;
        agent_close(room);
        snprintf(room->fake->units[0].active, sizeof(room->fake->units[0].active), "inactive");
        room->fake->hold = NULL;
        room->boot_wait_ms = SHORT_BOOT_WAIT_MS;
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, 2 * SHORT_BOOT_WAIT_MS);
        assert_int_equal(room->fake->starts, 1);
        leader.gone = false;
}

static void a_stop_assignment_is_executed_and_removed(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
        assert_false(has_file(room, "web.service", ""));
        UNTIL(room, !says(room, "web.service", "inactive") && !says(room, "web.service", "active"));
        assert_int_equal(room->fake->n_units, 0);
}

static void a_changed_text_is_stopped_and_started_once(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->starts == 2 && says(room, "web.service", "active"));
        assert_int_equal(room->fake->stops, 1);
        assert_true(has_file(room, "web.service", "/bin/two"));
}

/* The folder has no space for the new text. */
static void a_unit_keeps_running_until_its_changed_text_can_be_written(void **state) {
        Fixture *room = *state;
        _cleanup_free_ char *temporary = NULL;
        char name[FILE_TEMPORARY_SIZE];

        run_unit(room, "web.service", ONE);
        file_temporary_name("web.service", name);
        temporary = scratch_path(room->folder, name);
        assert_int_equal(mkdir(temporary, 0700), 0); /* no file replaces a folder */
        log_begin();
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, has_logged("Failed to write the file of web.service"));
        log_end();
        assert_int_equal(room->fake->stops, 0);
        assert_string_equal(room->fake->units[0].active, "active");

        assert_int_equal(rmdir(temporary), 0);
        UNTIL(room, room->fake->starts == 2 && says(room, "web.service", "active"));
        assert_int_equal(room->fake->stops, 1);
        assert_true(has_file(room, "web.service", "/bin/two"));
        assert_int_equal(access(temporary, F_OK), -1);
}

static void an_edit_of_the_x_fleet_section_stops_no_unit(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        host_unit(room->host, "web.service", TUNED, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, has_file(room, "web.service", "Conflicts"));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 1);
        assert_int_equal(room->fake->stops, 0);
}

static void a_removed_link_of_a_running_unit_is_restored(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        text_clear(&room->fake->said);
        u = fake_bus_unit(room->fake, "web.service", "error", "active", "running");
        u->fragment[0] = 0;
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, room->fake->said.size > 0 && strstr(room->fake->said.chars, "Reload;"));
        assert_non_null(strstr(room->fake->said.chars, "LinkUnitFiles"));
        assert_int_equal(room->fake->starts, 1);
        assert_int_equal(room->fake->stops, 0);
}

static void a_removed_folder_is_restored_with_all_files_and_no_unit_stops(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        run_unit(room, "other.service", TWO);
        assert_int_equal(remove_tree_at(AT_FDCWD, room->folder), 0);
        fake_bus_reloading(room->fake, true);
        fake_bus_reloading(room->fake, false);
        UNTIL(room, has_file(room, "web.service", "/bin/one") && has_file(room, "other.service", "/bin/two"));
        assert_int_equal(room->fake->starts, 2);

        /* The folder is removed, or replaced, before a unit is written. */
        assert_int_equal(remove_tree_at(AT_FDCWD, room->folder), 0);
        assert_int_equal(mkdir(room->folder, 0755), 0);
        host_unit(room->host, "new.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "new.service", ASSIGNMENT_RUN);
        UNTIL(room, says(room, "new.service", "active"));
        UNTIL(room, has_file(room, "new.service", "/bin/one"));
        assert_true(has_file(room, "web.service", "/bin/one") && has_file(room, "other.service", "/bin/two"));
        assert_int_equal(room->fake->starts, 3);
        assert_int_equal(room->fake->stops, 0);
}

static void a_conflicting_unit_is_not_touched_and_published_as_foreign(void **state) {
        const ClusterState *s;
        Fixture *room = *state;
        FakeUnit *u = fake_bus_unit(room->fake, "ssh.service", "loaded", "active", "running");

        snprintf(u->fragment, sizeof(u->fragment), "/usr/lib/systemd/system/ssh.service");
        host_unit(room->host, "ssh.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "ssh.service", ASSIGNMENT_RUN);
        UNTIL(room,
              (s = cluster_state(registry_cluster(room->host->registry), room->host->id, "ssh.service")) &&
                      streq(s->state.load, "foreign"));
        host_order(room->host, "ssh.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "ssh.service"));
        assert_int_equal(room->fake->starts + room->fake->stops, 0);
        assert_string_equal(u->active, "active");
}

/* The administrator adds a file of that name with higher precedence ('load': it may be a mask), and reloads
 * systemd. */
static FakeUnit *taken_over(Fixture *room, const char *load, bool restarted) {
        FakeUnit *u = &room->fake->units[0];

        snprintf(u->load, sizeof(u->load), "%s", load);
        snprintf(u->fragment, sizeof(u->fragment), "/etc/systemd/system/web.service");
        u->invocation[0] += restarted;
        fake_bus_changed(room->fake, "web.service");
        return u;
}

static bool is_told_as(Fixture *room, const char *unit, const char *load, const char *active) {
        const ClusterState *s = cluster_state(registry_cluster(room->host->registry), room->host->id, unit);

        return s && streq(s->state.load, load) && streq(s->state.active, active);
}

/* The unit is not restarted in between. */
static void a_running_unit_stays_active_when_a_conflicting_file_comes_and_goes(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        u = fake_bus_unit(room->fake, "web.service", "loaded", "active",
                          "running"); /* with an unknown invocation */
        snprintf(u->fragment, sizeof(u->fragment), "/etc/systemd/system/web.service");
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, is_told_as(room, "web.service", "foreign", "inactive"));

        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->folder);
        fake_bus_reloading(room->fake, true);
        fake_bus_reloading(room->fake, false);
        UNTIL(room, is_told_as(room, "web.service", "loaded", "active"));
        assert_int_equal(room->fake->starts, 1);
        assert_int_equal(room->fake->stops, 0);
}

/* Published as foreign, it would be started elsewhere, too. */
static void a_running_unit_with_a_conflicting_file_is_published_as_active_until_it_stops(void **state) {
        static const char *const loads[] = { "masked", "loaded" };
        Fixture *room = *state;

        for (size_t i = 0; i < ELEMENTS(loads); i++) {
                unsigned connections = room->fake->connections;
                FakeUnit *u;

                run_unit(room, "web.service", i == 0 ? ONE : TWO);
                u = &room->fake->units[0];
                u->invocation[0]++; /* Restart= */
                snprintf(u->sub, sizeof(u->sub), "restarted");
                fake_bus_changed(room->fake, "web.service");
                UNTIL(room, streq(sub_of(room, "web.service"), "restarted"));
                u = taken_over(room, loads[i], false);
                snprintf(u->sub, sizeof(u->sub), "exited"); /* a state to be published */
                UNTIL(room, is_told_as(room, "web.service", loads[i], "active") &&
                                    streq(sub_of(room, "web.service"), "exited"));
                assert_false(agent_has_conflict(room->agent, "web.service"));

                /* The next daemon publishes the same, after a crash. */
                UNTIL(room, records_have(room, u));
                room->agent = agent_crash(room->agent);
                agent_close(room);
                snprintf(u->sub, sizeof(u->sub), "running");
                agent_open(room);
                UNTIL(room,
                      room->fake->connections > connections && streq(sub_of(room, "web.service"), "running"));
                assert_true(is_told_as(room, "web.service", loads[i], "active"));

                snprintf(u->active, sizeof(u->active), "inactive");
                snprintf(u->sub, sizeof(u->sub), "dead");
                fake_bus_changed(room->fake, "web.service");
                UNTIL(room, is_told_as(room, "web.service", "foreign", "inactive"));
                assert_int_equal(room->fake->starts, i + 1);
                assert_int_equal(room->fake->stops, 0);
                snprintf(u->load, sizeof(u->load), "loaded");
                snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->folder);
                fake_bus_changed(room->fake, "web.service");
        }
}

/* The administrator started that unit, too. */
static void a_unit_that_the_administrator_replaced_is_not_touched_by_a_stop_assignment(void **state) {
        const ClusterState *s;
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        u = taken_over(room, "loaded", true);
        UNTIL(room,
              (s = cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service")) &&
                      streq(s->state.load, "foreign"));
        room->fake->obeys = false;
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 0);
        assert_string_equal(u->active, "active");
        assert_false(has_file(room, "web.service", ""));
}

/* Also without a leader. */
static void a_unit_that_the_administrator_replaces_is_published_as_foreign(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        assert_false(agent_has_conflict(room->agent, "web.service"));
        assert_false(agent_has_conflict(room->agent, "none.service"));
        (void) taken_over(room, "loaded", true);
        UNTIL(room, agent_has_conflict(room->agent, "web.service"));
}

static void a_unit_whose_install_section_names_a_unit_of_the_host_is_published_as_foreign(void **state) {
        const ClusterState *s;
        Fixture *room = *state;
        FakeUnit *db = fake_bus_unit(room->fake, "hostdb.service", "loaded", "active", "running");

        snprintf(db->fragment, sizeof(db->fragment), "/usr/lib/systemd/system/hostdb.service");
        host_unit(room->host, "web.service", ONE "[Install]\nAlias=hostdb.service\n", TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room,
              (s = cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service")) &&
                      streq(s->state.load, "foreign"));
        assert_int_equal(room->fake->starts, 0);

        /* The name is free, and our unit runs. */
        *db = room->fake->units[--room->fake->n_units];
        UNTIL(room, says(room, "web.service", "active"));
        s = cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service");
        assert_string_equal(s->state.load, "loaded");
}

/* Run a unit, let the host take a name of its [Install], then edit [X-Fleet]. */
static void run_with_a_taken_alias(Fixture *room) {
        FakeUnit *db;

        run_unit(room, "web.service", ONE "[Install]\nAlias=hostdb.service\n");
        db = fake_bus_unit(room->fake, "hostdb.service", "loaded", "active", "running");
        snprintf(db->fragment, sizeof(db->fragment), "/usr/lib/systemd/system/hostdb.service");
        text_clear(&room->fake->said);
        log_begin();
        host_unit(room->host, "web.service", ONE "[Install]\nAlias=hostdb.service\n[X-Fleet]\nConflicts=x*\n",
                  TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, has_file(room, "web.service", "Conflicts=x*") && has_logged("names hostdb.service"));
        log_end();
        host_pause(room->host, QUIET_MS);
}

/* A change that systemd does not read affects no unit, whatever happened to the names in [Install]. */
static void a_running_unit_stays_when_the_host_takes_one_of_its_names(void **state) {
        Fixture *room = *state;

        run_with_a_taken_alias(room);
        assert_true(is_told_as(room, "web.service", "loaded", "active"));
        assert_int_equal(room->fake->starts, 1);
        assert_int_equal(room->fake->stops, 0);
}

/* systemd replies to no call that names a template. */
static void a_template_in_the_folder_or_an_install_section_affects_no_unit(void **state) {
        Fixture *room = *state;
        _cleanup_free_ char *file = scratch_path(room->folder, "stray@.service");

        agent_close(room);
        scratch_write(file, ONE);
        agent_open(room);
        host_unit(room->host, "web.service",
                  ONE "[Install]\nWantedBy=multi-user.target\nAlso=helper@.service\n", TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, says(room, "web.service", "active"));
        assert_non_null(strstr(room->fake->said.chars, "EnableUnitFiles"));
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
        assert_true(has_file(room, "stray@.service", "/bin/one"));
        assert_null(cluster_state(registry_cluster(room->host->registry), room->host->id, "stray@.service"));
}

/* systemd has the link, and rejects the enabling: the host took the name in between. */
static void a_unit_that_cannot_be_enabled_is_published_as_foreign_and_not_started(void **state) {
        const ClusterState *s;
        Fixture *room = *state;

        room->fake->fail = "EnableUnitFiles";
        room->fake->fail_name = "System.Error.EEXIST";
        room->fake->fail_message = "File exists";
        host_unit(room->host, "web.service", ONE "[Install]\nAlias=other.service\n", TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room,
              (s = cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service")) &&
                      streq(s->state.load, "foreign"));
        assert_int_equal(room->fake->starts, 0);

        room->fake->fail = NULL;
        UNTIL(room, says(room, "web.service", "active"));
        s = cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service");
        assert_string_equal(s->state.load, "loaded");
}

/* systemd rejects a call about many units because of one. */
static void a_rejected_link_affects_no_other_install_section(void **state) {
        static const char *const units[] = { "a.service", "bad.service", "c.service" };
        Fixture *room = *state;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(room->host, units[i], ONE "[Install]\nWantedBy=x.target\n", TARGET_LAUNCHED);
        room->fake->fail = "LinkUnitFiles";
        room->fake->fail_name = "org.freedesktop.DBus.Error.AccessDenied";
        room->fake->fail_message = "no";
        room->fake->fail_part = "bad";
        room->fake->hold = "ListUnitsByNames"; /* until all are assigned, to be one batch */
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_order(room->host, units[i], ASSIGNMENT_RUN);
        host_pause(room->host, QUIET_MS);
        fake_bus_release(room->fake);
        UNTIL(room, says(room, "a.service", "active") && says(room, "c.service", "active"));
        assert_int_equal(room->fake->starts, 2);
        for (size_t i = 0; i < ELEMENTS(units); i += 2) {
                _cleanup_free_ char *call = NULL;

                assert_true(asprintf(&call, "EnableUnitFiles %s/%s;", room->folder, units[i]) > 0);
                assert_non_null(strstr(room->fake->said.chars, call));
        }
}

/* Fails the first allocation after the reply to a link. */
static struct {
        const SystemdOps *ops;
        SystemdDone done;
        void *userdata;
        bool armed;
} shortage;

static void shortage_on_linked(void *userdata, int error, const char *sentence) {
        shortage.armed = error < 0;
        shortage.done(shortage.userdata, error, sentence);
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
        Fixture *room = *state;
        SystemdOps ops = *room->systemd->ops;

        shortage.ops = room->systemd->ops;
        ops.link = shortage_link;
        ops.is_ready = shortage_is_ready;
        room->systemd->ops = &ops;
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(room->host, units[i], ONE, TARGET_LAUNCHED);
        room->fake->fail = "LinkUnitFiles";
        room->fake->fail_name = SD_BUS_ERROR_ACCESS_DENIED;
        room->fake->fail_message = "no";
        room->fake->hold = "ListUnitsByNames"; /* until all are assigned, to be one batch */
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_order(room->host, units[i], ASSIGNMENT_RUN);
        for (size_t i = 0; i < ELEMENTS(units); i++)
                UNTIL(room, has_order(room, units[i]));
        fake_bus_release(room->fake);
        UNTIL(room, alloc_has_failed());
        room->fake->fail = NULL;
        for (size_t i = 0; i < ELEMENTS(units); i++)
                UNTIL(room, says(room, units[i], "active"));
        assert_int_equal(room->fake->starts, 3);
        alloc_fail_at(0);
        room->systemd->ops = shortage.ops;
}

static void units_that_are_assigned_together_are_linked_by_one_call(void **state) {
        static const char *const units[] = { "a.service", "b.service", "c.service" };
        Fixture *room = *state;
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(room->host, units[i], ONE, TARGET_LAUNCHED);
        room->fake->hold = "ListUnitsByNames"; /* until all are assigned, to be one batch */
        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_order(room->host, units[i], ASSIGNMENT_RUN);
        host_pause(room->host, QUIET_MS);
        fake_bus_release(room->fake);
        for (size_t i = 0; i < ELEMENTS(units); i++)
                UNTIL(room, says(room, units[i], "active"));
        for (const char *at = room->fake->said.chars; (at = strstr(at, "LinkUnitFiles")); at++)
                n++;
        assert_in_range(n, 1, 2); /* the first unit may have had a call of its own */
}

static uint64_t index_of(Fixture *room, const char *unit) {
        char key[128];
        TreeTxn *txn;
        KvNode node = {};

        snprintf(key, sizeof(key), "/_fleet/state/%s/%s", unit, room->host->id);
        assert_int_equal(kv_read(room->host->store, &txn), 0);
        (void) tree_get(txn, kv_string(key), &node);
        tree_abort(txn);
        return node.modified;
}

static void of_a_flapping_unit_the_first_state_and_the_last_of_a_second_are_published(void **state) {
        Fixture *room = *state;
        FakeUnit *u;
        uint64_t told_ms, index;
        unsigned flaps = 0, told = 0;

        run_unit(room, "web.service", ONE);
        host_pause(room->host, 1100);
        u = fake_bus_unit(room->fake, "web.service", "loaded", "active", "s0");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->folder);
        index = index_of(room, "web.service");
        told_ms = loop_now_ms(room->host->loop);
        while (loop_now_ms(room->host->loop) - told_ms < 2300) {
                snprintf(u->sub, sizeof(u->sub), "s%u", ++flaps);
                fake_bus_changed(room->fake, "web.service");
                host_pause(room->host, 20);
                if (index_of(room, "web.service") != index)
                        told++;
                index = index_of(room, "web.service");
        }
        assert_true(flaps > 20);
        assert_in_range(told, 2, 3); /* at once, then one for each second */
        UNTIL(room, streq(cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service")
                                  ->state.sub,
                          u->sub));
}

static void a_start_is_published_once_when_it_has_ended(void **state) {
        Fixture *room = *state;
        uint64_t index;

        run_unit(room, "web.service", ONE);
        index = index_of(room, "web.service");
        host_pause(room->host, QUIET_MS + 300);
        assert_int_equal(index_of(room, "web.service"), index);
        assert_true(says(room, "web.service", "active"));
}

static const char *job_of(Fixture *room, const char *unit) {
        return cluster_state(registry_cluster(room->host->registry), room->host->id, unit)->state.job;
}

/* The unit stays inactive, and no property shows the reason. */
static void a_start_that_never_began_is_published_with_its_reason_until_one_begins(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(room, says(room, "web.service", "inactive"));
        room->fake->obeys = false;
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->starts == 1);
        fake_bus_job_removed(room->fake, 1, "web.service", "dependency");
        UNTIL(room, streq(job_of(room, "web.service"), "dependency"));
        assert_true(says(room, "web.service", "inactive"));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 1);

        u = fake_bus_unit(room->fake, "web.service", "loaded", "active", "running"); /* by hand */
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->folder);
        fake_bus_job_removed(room->fake, 2, "web.service", "done");
        UNTIL(room, says(room, "web.service", "active"));
        assert_string_equal(job_of(room, "web.service"), "");
}

static bool is_done(Fixture *room, const char *unit) {
        return cluster_state(registry_cluster(room->host->registry), room->host->id, unit)->state.done;
}

/* systemd stops 'unit', by hand or because of another unit. */
static void stop_by_systemd(Fixture *room, const char *unit) {
        fake_bus_job_new(room->fake, unit);
        fake_bus_change(room->fake, unit, (FakeChange) { .active = "deactivating", .job = 1, .left = true });
        fake_bus_change(room->fake, unit,
                        (FakeChange) { .active = "inactive", .job = 1, .left = true, .ended = true });
        fake_bus_job_removed(room->fake, 1, unit, "done");
        UNTIL(room, says(room, unit, "inactive"));
}

static void a_bound_unit_that_systemd_stopped_is_started_again_when_its_unit_runs(void **state) {
        Fixture *room = *state;
        FakeUnit *side;

        run_unit(room, "side.service", ONE);
        fake_bus_unit(room->fake, "app.service", "loaded", "active", "running");
        side = fake_bus_unit(room->fake, "side.service", "loaded", "active", "running");
        snprintf(side->fragment, sizeof(side->fragment), "%s/side.service", room->folder);
        snprintf(side->binds_to, sizeof(side->binds_to), "app.service");
        fake_bus_changed(room->fake, "side.service");
        host_pause(room->host, 50);

        fake_bus_change(room->fake, "app.service",
                        (FakeChange) { .active = "activating", .left = true, .ended = true });
        stop_by_systemd(room, "side.service");
        assert_false(is_done(room, "side.service"));
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);

        /* A daemon that starts in between has not observed it. */
        agent_close(room);
        agent_open(room);
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, says(room, "side.service", "active"));
        assert_int_equal(room->fake->starts, 2);
        assert_int_equal(room->fake->stops, 0);
}

static void a_unit_stopped_by_hand_stays_here_when_the_host_takes_one_of_its_names(void **state) {
        Fixture *room = *state;

        run_with_a_taken_alias(room);
        stop_by_systemd(room, "web.service");
        host_pause(room->host, 1500);
        assert_true(is_told_as(room, "web.service", "loaded", "inactive"));
        assert_int_equal(room->fake->starts, 1);
}

static void a_unit_stopped_because_of_another_stays_here_when_the_host_takes_one_of_its_names(void **state) {
        Fixture *room = *state;

        run_with_a_taken_alias(room);
        fake_bus_unit(room->fake, "app.service", "loaded", "active", "running");
        snprintf(room->fake->units[0].binds_to, sizeof(room->fake->units[0].binds_to), "app.service");
        fake_bus_changed(room->fake, "web.service");
        host_pause(room->host, 1100);
        fake_bus_change(room->fake, "app.service",
                        (FakeChange) { .active = "activating", .left = true, .ended = true });
        stop_by_systemd(room, "web.service");
        host_pause(room->host, 1500);
        assert_true(is_told_as(room, "web.service", "loaded", "inactive"));
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, is_told_as(room, "web.service", "loaded", "active"));
        assert_int_equal(room->fake->starts, 2);
}

/* The start may be rejected while the other unit is being stopped again: then it waits for that unit. */
/* systemd sends no signal for that. */
/* side.service is bound to app.service, and is stopped because app.service restarts. */
static void stop_sidekick(Fixture *room) {
        run_unit(room, "side.service", ONE);
        fake_bus_unit(room->fake, "app.service", "loaded", "active", "running");
        snprintf(room->fake->units[0].binds_to, sizeof(room->fake->units[0].binds_to), "app.service");
        fake_bus_changed(room->fake, "side.service");
        host_pause(room->host, 50);
        fake_bus_change(room->fake, "app.service",
                        (FakeChange) { .active = "activating", .left = true, .ended = true });
        stop_by_systemd(room, "side.service");
}

static void a_bound_unit_is_not_started_when_its_unit_has_ended_again_before(void **state) {
        const AgentCounts *counts;
        Fixture *room = *state;
        uint64_t listings;

        stop_sidekick(room);
        counts = agent_counts(room->agent);
        listings = counts->listings;
        UNTIL(room, counts->listings > listings); /* its own next one is a second away */
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        fake_bus_changed(room->fake, "side.service");
        host_pause(room->host, 50);
        fake_bus_change(room->fake, "app.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        listings = counts->listings;
        UNTIL(room, counts->listings > listings + 1 || room->fake->starts == 2);
        assert_int_equal(room->fake->starts, 1);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, room->fake->starts == 2);
}

static void a_bound_unit_whose_start_was_rejected_starts_with_its_unit_without_the_cluster(void **state) {
        Fixture *room = *state;

        stop_sidekick(room);
        leader.gone = true;
        agent_state_changed(room->agent);
        refuse_starts(room);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, has_logged("Failed to start side.service"));
        fake_bus_change(room->fake, "app.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        host_pause(room->host, 2500); /* until that is observed */
        allow_starts(room);
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, room->fake->starts == 2);
        leader.gone = false;
}

/* Return a unit that runs here, with its relations. */
static FakeUnit *related_unit(Fixture *room, const char *requires, const char *conflicts) {
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        u = fake_bus_unit(room->fake, "web.service", "loaded", "active", "running");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->folder);
        snprintf(u->requires, sizeof(u->requires), "%s", requires);
        snprintf(u->conflicts, sizeof(u->conflicts), "%s", conflicts);
        fake_bus_changed(room->fake, "web.service");
        host_pause(room->host, 50);
        return u;
}

/* An administrator restarts the conflicting unit: in between our unit must not start. */
static void a_unit_that_a_conflict_stopped_waits_until_the_conflicting_unit_has_ended(void **state) {
        Fixture *room = *state;
        FakeUnit *other;

        fake_bus_unit(room->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(room, "", "other.service");
        fake_bus_job_new(room->fake, "other.service");
        fake_bus_change(room->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(room, "web.service");
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "deactivating", .job = 2, .left = true });
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
        other = fake_bus_unit(room->fake, "other.service", "loaded", "inactive", "dead");
        other->job = true;
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "inactive", .job = 2, .ended = true });
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
        other->job = false;
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 2);
}

static void other_requirements_of_a_stopped_unit_do_not_prevent_its_start(void **state) {
        Fixture *room = *state;

        fake_bus_unit(room->fake, "setup.service", "loaded", "inactive", "dead");
        fake_bus_unit(room->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(room, "setup.service", "other.service");
        fake_bus_job_new(room->fake, "other.service");
        fake_bus_change(room->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(room, "web.service");
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 2);
}

/* The cause of the stop is kept until the unit runs. */
static void other_dependencies_of_a_unit_do_not_prevent_its_start_after_a_rejected_one(void **state) {
        Fixture *room = *state;

        fake_bus_unit(room->fake, "setup.service", "loaded", "inactive", "dead");
        fake_bus_unit(room->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(room, "setup.service", "other.service");
        fake_bus_job_new(room->fake, "other.service");
        fake_bus_change(room->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(room, "web.service");
        refuse_starts(room);
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, has_logged("Failed to start web.service"));
        fake_bus_change(room->fake, "other.service", (FakeChange) { .active = "active" });
        host_pause(room->host, 1500);
        allow_starts(room);
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "active"));
}

/* The job of a target may take long: a unit stopped by hand during it was not stopped because of it. */
static void a_stop_by_hand_during_a_target_job_is_not_undone(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_job_new(room->fake, "custom.target");
        host_pause(room->host, 400);
        stop_by_systemd(room, "web.service");
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
}

/* Each start affects other units. */
static void a_bound_unit_that_systemd_does_not_begin_is_not_started_each_second(void **state) {
        static const char *const results[] = { "assert", "dependency" };
        Fixture *room = *state;

        for (size_t i = 0; i < ELEMENTS(results); i++) {
                const char *name = i == 0 ? "a.service" : "b.service";
                unsigned before = room->fake->starts;
                FakeUnit *u;

                room->fake->obeys = true;
                run_unit(room, name, ONE);
                fake_bus_unit(room->fake, "app.service", "loaded", "active", "running");
                u = fake_bus_unit(room->fake, name, "loaded", "active", "running");
                snprintf(u->fragment, sizeof(u->fragment), "%s/%s", room->folder, name);
                snprintf(u->binds_to, sizeof(u->binds_to), "app.service");
                fake_bus_changed(room->fake, name);
                host_pause(room->host, 50);
                room->fake->obeys = false;
                fake_bus_change(room->fake, "app.service",
                                (FakeChange) { .active = "activating", .left = true, .ended = true });
                stop_by_systemd(room, name);
                fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
                UNTIL(room, room->fake->starts == before + 2);
                fake_bus_job_removed(room->fake, 2, name, results[i]);
                UNTIL(room, streq(job_of(room, name), results[i]));
                host_pause(room->host, 2500);
                assert_int_equal(room->fake->starts, before + 2);
        }
}

static void an_assignment_to_run_that_comes_during_a_stop_is_executed_after_it(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_job_new(room->fake, "web.service"); /* by hand */
        room->fake->units[0].job = true;
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "deactivating", .job = 1, .left = true });
        UNTIL(room, says(room, "web.service", "deactivating"));
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
        room->fake->units[0].job = false;
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        fake_bus_job_removed(room->fake, 1, "web.service", "done");
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 2);
}

static void a_unit_that_was_stopped_by_hand_stays_stopped_and_has_not_completed(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        stop_by_systemd(room, "web.service");
        assert_false(is_done(room, "web.service"));
        host_pause(room->host, 1500);
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 1);
        assert_false(is_done(room, "web.service"));
}

/* A daemon that starts then has not observed the stop: it finds an inactive unit, and a conflicting one that
 * runs. */
static void a_unit_that_was_stopped_by_hand_before_a_conflict_stays_stopped_after_it(void **state) {
        Fixture *room = *state;

        fake_bus_unit(room->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(room, "", "other.service");
        stop_by_systemd(room, "web.service");
        fake_bus_change(room->fake, "other.service", (FakeChange) { .active = "active" });
        host_pause(room->host, 50);
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, 1500);
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        host_pause(room->host, 2500);
        assert_int_equal(room->fake->starts, 1);
        assert_false(is_done(room, "web.service"));

        /* Once the unit runs again, that no longer counts. */
        fake_bus_change(room->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(room, says(room, "web.service", "active"));
        fake_bus_job_new(room->fake, "other.service");
        fake_bus_change(room->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(room, "web.service");
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 3);
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, room->fake->starts == 2);
}

static void a_unit_that_ends_by_itself_has_completed(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));
        agent_close(room);
        room->fake->basic_us = 5;
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_true(is_done(room, "web.service"));
        assert_int_equal(room->fake->starts, 1);
}

/* The administrator runs another unit under that name, which ends, too. */
static void a_completed_unit_stays_completed_whatever_the_host_runs_under_its_name(void **state) {
        static const char *const states[] = { "active", "inactive" };
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));
        for (size_t i = 0; i < ELEMENTS(states); i++) {
                FakeUnit *u = fake_bus_unit(room->fake, "web.service", "loaded", states[i], states[i]);

                snprintf(u->fragment, sizeof(u->fragment), "/etc/systemd/system/web.service");
                fake_bus_changed(room->fake, "web.service");
                UNTIL(room, is_told_as(room, "web.service", "foreign", "inactive"));
                host_pause(room->host, 1100);
                assert_true(is_done(room, "web.service"));
        }
}

static void a_completion_without_the_cluster_outlives_the_daemon(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        leader.gone = true;
        agent_state_changed(room->agent);
        host_pause(room->host, QUIET_MS);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, records_say(room, "\"done\":true"));
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        leader.gone = false;
        agent_state_changed(room->agent);
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));
        assert_int_equal(room->fake->starts, 1);
}

static void a_completed_unit_that_runs_again_with_another_text_has_not_completed(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));
        run_unit(room, "web.service", TWO);
        assert_false(is_done(room, "web.service"));
        stop_by_systemd(room, "web.service");
        assert_false(is_done(room, "web.service"));
}

static void a_completed_unit_that_was_started_by_hand_is_replaced_by_its_next_text(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));
        fake_bus_change(room->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(room, says(room, "web.service", "active"));
        run_unit(room, "web.service", TWO);
        UNTIL(room, room->fake->starts == 2);
        assert_int_equal(room->fake->stops, 1);
        UNTIL(room, says(room, "web.service", "active") && !is_done(room, "web.service"));
}

static void is_not_begun(Fixture *room, const FakeChange *changes, size_t n) {

        room->fake->obeys = false;
        fake_bus_unit(room->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(room->fake->units[0].fragment, sizeof(room->fake->units[0].fragment), "%s/web.service",
                 room->folder);
        room->fake->units[0].oneshot = true;
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->starts == 1);
        for (size_t i = 0; i < n; i++)
                fake_bus_change(room->fake, "web.service", changes[i]);
        fake_bus_job_removed(room->fake, 1, "web.service", "done");
        UNTIL(room, says(room, "web.service", "inactive") && streq(job_of(room, "web.service"), "condition"));
        assert_false(is_done(room, "web.service"));

        /* A later daemon has not observed it. */
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, 1500);
        assert_string_equal(job_of(room, "web.service"), "condition");
        assert_int_equal(room->fake->starts, 1);
        assert_false(is_done(room, "web.service"));
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
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));
        room->fake->obeys = false;
        host_order(room->host, "web.service", ASSIGNMENT_RUN); /* it was stopped and started */
        UNTIL(room, room->fake->starts == 2);
        fake_bus_job_removed(room->fake, 2, "web.service", "timeout");
        UNTIL(room, streq(job_of(room, "web.service"), "timeout"));
        fake_bus_job_removed(room->fake, 3, "web.service",
                             "done"); /* of a stop by hand, of a unit that does not run */
        host_pause(room->host, QUIET_MS);
        assert_false(is_done(room, "web.service"));
}

/* Return an inactive unit that systemd unloaded, so that its end is unknown. */
static FakeUnit *forgotten(Fixture *room, const char *name) {
        FakeUnit *u = fake_bus_unit(room->fake, name, "loaded", "inactive", "dead");

        snprintf(u->fragment, sizeof(u->fragment), "%s/%s", room->folder, name);
        snprintf(u->result, sizeof(u->result), "success");
        u->oneshot = true;
        return u;
}

static void a_failed_unit_that_is_reset_has_not_completed(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "failed", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "failed"));
        forgotten(room, "web.service");
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, says(room, "web.service", "inactive"));
        assert_false(is_done(room, "web.service"));

        /* Nor for a daemon that has not observed it. */
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_false(is_done(room, "web.service"));
}

static void a_oneshot_that_ended_without_the_daemon_has_completed_if_it_was_observed_running(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        agent_close(room);
        forgotten(room, "web.service");
        agent_open(room);
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));

        /* A completed unit that runs has not completed. */
        forgotten(room, "web.service");
        fake_bus_change(room->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(room, says(room, "web.service", "active"));
        assert_false(is_done(room, "web.service"));
        assert_int_equal(room->fake->starts, 1);
}

/* While the daemon was stopped, the file of the unit was removed, systemd was reloaded, and the unit was
 * assigned to stop. */
static FakeUnit *stop_without_file(Fixture *room) {
        _cleanup_free_ char *file = scratch_path(room->folder, "web.service");

        run_unit(room, "web.service", ONE);
        agent_close(room);
        assert_int_equal(unlink(file), 0);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        return fake_bus_unit(room->fake, "web.service", "error", "active", "running");
}

static void an_assignment_to_stop_a_unit_without_its_file_stays_until_the_unit_has_stopped(void **state) {
        Fixture *room = *state;

        (void) stop_without_file(room);
        room->fake->fail = "StopUnit";
        room->fake->fail_name = SD_BUS_ERROR_NO_REPLY;
        room->fake->fail_message = "no answer in time";
        log_begin();
        agent_open(room);
        UNTIL(room, has_logged("Failed to stop web.service"));
        log_end();
        room->fake->fail = NULL;
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
}

/* The call is lost with its daemon. */
static void the_next_daemon_stops_a_unit_without_its_file(void **state) {
        Fixture *room = *state;

        (void) stop_without_file(room);
        room->fake->hold = "StopUnit";
        agent_open(room);
        UNTIL(room, room->fake->n_held == 1);
        room->agent = agent_crash(room->agent);
        fake_bus_disconnect(room->fake);
        room->fake->hold = NULL;
        agent_close(room);
        agent_open(room);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
}

static void a_loaded_unit_that_its_socket_started_is_ours_without_its_file(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        host_unit(room->host, "web.service", ONE, TARGET_LOADED);
        host_order(room->host, "web.service", ASSIGNMENT_LOAD);
        UNTIL(room, says(room, "web.service", "inactive"));
        u = &room->fake->units[0];
        fake_bus_change(room->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(room, says(room, "web.service", "active"));
        fake_bus_reloading(room->fake, true);
        assert_int_equal(remove_tree_at(AT_FDCWD, room->folder), 0);
        snprintf(u->load, sizeof(u->load), "error");
        u->fragment[0] = 0;
        fake_bus_reloading(room->fake, false);
        UNTIL(room, has_file(room, "web.service", "/bin/one"));
        assert_false(is_told_as(room, "web.service", "foreign", "inactive"));

        agent_close(room);
        assert_int_equal(remove_tree_at(AT_FDCWD, room->folder), 0);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        agent_open(room);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
}

static void a_former_text_that_is_started_before_systemd_reads_the_new_one_is_stopped_again(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        u = &room->fake->units[0];
        room->fake->hold = "LinkUnitFiles";
        room->fake->fail = "LinkUnitFiles"; /* the first time */
        room->fake->fail_name = SD_BUS_ERROR_FAILED;
        room->fake->fail_message = "no";
        log_begin();
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        assert_int_equal(room->fake->stops, 1);
        assert_true(has_file(room, "web.service", "/bin/two"));
        snprintf(u->active, sizeof(u->active), "active"); /* by its socket */
        u->invocation[0]++;
        u->need_reload = true;
        fake_bus_release(room->fake);
        UNTIL(room, has_logged("Failed to write"));
        log_end();
        room->fake->fail = NULL;
        UNTIL(room, room->fake->starts == 2);
        assert_int_equal(room->fake->stops, 2);
        UNTIL(room, says(room, "web.service", "active"));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->stops, 2);
}

static void edit_up_to(Fixture *room, const char *held) {
        run_unit(room, "web.service", ONE);
        room->fake->hold = held;
        room->fake->units[0].need_reload = streq(held, "Reload");
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        assert_int_equal(room->fake->stops, 1);
        assert_true(has_file(room, "web.service", "/bin/two"));
        snprintf(room->fake->units[0].active, sizeof(room->fake->units[0].active),
                 "active"); /* by its socket */
        room->fake->units[0].invocation[0]++;
}

static void is_stopped_again_once(Fixture *room) {
        UNTIL(room, room->fake->starts == 2);
        assert_int_equal(room->fake->stops, 2);
        UNTIL(room, says(room, "web.service", "active"));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->stops, 2);
        assert_int_equal(room->fake->starts, 2);
}

/* systemd is re-executed: it replies to no call, and reads all files. */
static void a_former_text_is_stopped_again_when_the_link_of_the_new_one_gets_no_reply(void **state) {
        Fixture *room = *state;

        edit_up_to(room, "LinkUnitFiles");
        room->fake->hold = NULL;
        fake_bus_disconnect(room->fake);
        is_stopped_again_once(room);
}

static void a_former_text_started_right_before_a_reload_is_stopped_again(void **state) {
        Fixture *room = *state;

        edit_up_to(room, "Reload");
        fake_bus_release(room->fake);
        is_stopped_again_once(room);
}

/* Another program reloaded systemd, perhaps after the start. */
static void a_former_text_is_stopped_again_when_another_program_reloaded_systemd(void **state) {
        Fixture *room = *state;

        edit_up_to(room, "LinkUnitFiles");
        fake_bus_release(room->fake);
        is_stopped_again_once(room);
}

/* The reply to its start was lost, and it got another text before it was observed running. */
static void a_former_text_whose_start_got_no_reply_is_stopped_again(void **state) {
        Fixture *room = *state;

        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        room->fake->hold = "StartUnit";
        room->fake->deaf = true;
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, cluster_assignment(registry_cluster(room->host->registry), room->host->id, "web.service")
                                    ->unit_index ==
                            cluster_unit(registry_cluster(room->host->registry), "web.service")->index);
        room->fake->hold = "LinkUnitFiles";
        room->fake->deaf = false;
        fake_bus_disconnect(room->fake);
        UNTIL(room, room->fake->n_held == 1);
        assert_int_equal(room->fake->stops, 1);
        snprintf(room->fake->units[0].active, sizeof(room->fake->units[0].active),
                 "active"); /* by its socket */
        room->fake->units[0].invocation[0]++;
        fake_bus_release(room->fake);
        is_stopped_again_once(room);
}

static void a_unit_that_was_loaded_only_meanwhile_has_no_former_text(void **state) {
        Fixture *room = *state;

        edit_up_to(room, "LinkUnitFiles");
        snprintf(room->fake->units[0].active, sizeof(room->fake->units[0].active), "inactive");
        host_order(room->host, "web.service", ASSIGNMENT_LOAD);
        fake_bus_release(room->fake);
        UNTIL(room, says(room, "web.service", "inactive"));
        host_pause(room->host, QUIET_MS);
        snprintf(room->fake->units[0].active, sizeof(room->fake->units[0].active), "active"); /* by hand */
        room->fake->units[0].invocation[0]++;
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, says(room, "web.service", "active"));
        agent_close(room);
        agent_open(room);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->stops, 1);
}

static void restart_during_an_edit(Fixture *room, bool need_reload) {
        edit_up_to(room, "LinkUnitFiles");
        room->fake->units[0].need_reload = need_reload;
        room->agent = agent_crash(room->agent);
        agent_close(room);
        fake_bus_disconnect(room->fake);
        room->fake->hold = NULL;
        agent_open(room);
        is_stopped_again_once(room);
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
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        refuse_starts(room);
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, has_logged("Failed to start web.service"));
        agent_close(room);
        allow_starts(room);
        snprintf(room->fake->units[0].active, sizeof(room->fake->units[0].active),
                 "active"); /* by its socket */
        room->fake->units[0].invocation[0]++;
        agent_open(room);
        UNTIL(room, records_say(room, "/bin/two") && !records_say(room, "\"replacing\""));
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->stops, 1);
        assert_int_equal(room->fake->starts, 1);
}

/* Assign another text; systemd rejects the stop for it. */
static void edit_without_a_stop(Fixture *room) {
        room->fake->fail = "StopUnit";
        room->fake->fail_name = SD_BUS_ERROR_FAILED;
        room->fake->fail_message = "no";
        log_begin();
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, has_logged("Failed to stop"));
        log_end();
}

/* The stop was rejected; then the unit failed, and was started again with its former text. */
static void a_unit_that_runs_again_is_not_stopped_by_the_next_daemon_when_its_edit_is_reverted(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        edit_without_a_stop(room);
        agent_close(room);
        room->fake->fail = NULL;
        room->fake->units[0].invocation[0]++; /* Restart= */
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        agent_open(room);
        UNTIL(room, records_say(room, "/bin/one") && !records_say(room, "\"replacing\""));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->stops, 0);
        assert_int_equal(room->fake->starts, 1);
}

static void a_running_unit_is_not_outdated_when_its_edit_is_reverted(void **state) {
        static const char tuned[] = ONE "[X-Fleet]\nMachineMetadata=a=b\n";
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        room->fake->hold = "LinkUnitFiles";
        host_unit(room->host, "web.service", tuned, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        room->fake->units[0].need_reload = true;
        fake_bus_release(room->fake);
        UNTIL(room, !room->fake->units[0].need_reload);

        edit_without_a_stop(room);
        room->fake->fail = NULL;
        host_unit(room->host, "web.service", tuned, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        host_pause(room->host, 2 * AGENT_RETRY_MS + QUIET_MS);
        assert_int_equal(room->fake->stops, 0);
        assert_int_equal(room->fake->starts, 1);
}

/* The daemon was stopped meanwhile: the former text runs. */
static void a_unit_without_its_file_is_stopped_and_started_when_its_text_changes(void **state) {
        Fixture *room = *state;
        _cleanup_free_ char *file = scratch_path(room->folder, "web.service");

        for (unsigned reread = 0; reread < 2; reread++) {
                const char *text = reread ? ONE : TWO;
                unsigned starts, stops;

                run_unit(room, "web.service", reread ? TWO : ONE);
                starts = room->fake->starts;
                stops = room->fake->stops;
                agent_close(room);
                assert_int_equal(unlink(file), 0);
                if (reread)
                        (void) fake_bus_unit(room->fake, "web.service", "error", "active", "running");
                host_unit(room->host, "web.service", text, TARGET_LAUNCHED);
                host_order(room->host, "web.service", ASSIGNMENT_RUN);
                room->fake->fail = "StopUnit";
                room->fake->fail_name = SD_BUS_ERROR_NO_REPLY;
                room->fake->fail_message = "no answer in time";
                log_begin();
                agent_open(room);
                UNTIL(room, has_logged("Failed to stop web.service") || has_file(room, "web.service", ""));
                log_end();
                assert_false(has_file(room, "web.service", ""));
                room->fake->fail = NULL;
                UNTIL(room, has_file(room, "web.service", reread ? "/bin/one" : "/bin/two"));
                assert_int_equal(room->fake->stops, stops + 1);
                UNTIL(room, room->fake->starts == starts + 1 && says(room, "web.service", "active"));
        }
}

/* Its link is gone, and systemd reports that link as the fragment of the running unit. */
static void a_unit_that_is_started_while_it_is_unlinked_is_stopped_too(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        for (unsigned recorded = 0; recorded < 2; recorded++) {
                unsigned stops = room->fake->stops;
                _cleanup_free_ char *path = scratch_path(room->records, "assignment");

                run_unit(room, "web.service", ONE);
                if (!recorded) {
                        agent_close(room);
                        scratch_write(path, "rubbish");
                        agent_open(room);
                }
                room->fake->hold = "DisableUnitFiles";
                host_order(room->host, "web.service", ASSIGNMENT_STOP);
                UNTIL(room, room->fake->n_held == 1);
                assert_int_equal(room->fake->stops, stops + 1);
                u = fake_bus_unit(room->fake, "web.service", "loaded", "active", "running");
                snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->links);
                u->invocation_size = 16;
                u->invocation[0] = 77;
                fake_bus_changed(room->fake, "web.service");
                room->fake->obeys = false; /* loaded units stay loaded */
                fake_bus_release(room->fake);
                room->fake->obeys = true;
                UNTIL(room, !has_order(room, "web.service"));
                assert_int_equal(room->fake->stops, stops + 2);
                assert_string_equal(room->fake->units[0].active, "inactive");
                assert_false(has_file(room, "web.service", ""));
                room->fake->n_units = 0; /* systemd unloads units without link and file */
        }
}

/* As after systemctl soft-reboot, or after rescue.target: the boot is the same. */
static void after_a_soft_reboot_the_units_are_started_again(void **state) {
        Fixture *room = *state;
        unsigned connections;

        for (unsigned i = 0; i < 2; i++) {
                agent_close(room);
                room->fake->basic_us = 100;
                room->fake->soft_reboots = i;
                agent_open(room);
                if (i == 0)
                        run_unit(room, "web.service", ONE);
                else
                        UNTIL(room, room->fake->starts == 2);
                fake_bus_unit(room->fake, "web.service", "loaded", "inactive",
                              "dead"); /* unloaded, and loaded again */
                snprintf(room->fake->units[0].fragment, sizeof(room->fake->units[0].fragment),
                         "%s/web.service", room->folder);
        }
        agent_close(room);
        room->fake->basic_us = 200;
        agent_open(room);
        UNTIL(room, room->fake->starts == 3);
        fake_bus_unit(room->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(room->fake->units[0].fragment, sizeof(room->fake->units[0].fragment), "%s/web.service",
                 room->folder);
        agent_close(room);
        room->fake->left_us = 300;
        agent_open(room);
        UNTIL(room, room->fake->starts == 4);
        agent_close(room);
        fake_bus_unit(room->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(room->fake->units[0].fragment, sizeof(room->fake->units[0].fragment), "%s/web.service",
                 room->folder);
        connections = room->fake->connections;
        agent_open(room); /* only the daemon restarts */
        UNTIL(room, room->fake->connections > connections);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 4);
}

static void a_new_daemon_touches_no_running_unit(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        agent_close(room);
        text_clear(&room->fake->said);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_string_equal(room->fake->said.chars, "Subscribe; ");
}

static void a_daemon_that_lost_its_records_adopts_running_units(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *room = *state;

        path = scratch_path(room->records, "assignment");
        run_unit(room, "web.service", ONE);
        agent_close(room);
        scratch_write(path, "rubbish");
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 1);
        assert_int_equal(room->fake->stops, 0);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
}

/* Change the records to those of a cluster before it was recovered: another lineage. */
static void change_lineage(Fixture *room) {
        _cleanup_free_ char *path = scratch_path(room->records, "assignment"), *text = NULL;
        char *at;

        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL), 0);
        at = strstr(text, "\"lineage\":\"");
        assert_non_null(at);
        memcpy(at + 11, "00000000000000ab", 16);
        scratch_write(path, text);
}

static void in_a_new_lineage_units_are_published_before_any_assignment_is_executed(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        agent_close(room);
        change_lineage(room);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        u = fake_bus_unit(room->fake, "web.service", "loaded", "active", "reloading");
        agent_open(room);

        UNTIL(room, cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service") &&
                            streq(cluster_state(registry_cluster(room->host->registry), room->host->id,
                                                "web.service")
                                          ->state.sub,
                                  "reloading"));
        assert_int_equal(room->fake->stops, 0);
        assert_true(has_order(room, "web.service"));
        assert_string_equal(u->active, "active");

        UNTIL(room,
              !has_order(room,
                         "web.service")); /* the lineage was taken over: this assignment belongs to it */
        assert_int_equal(room->fake->stops, 1);
}

static bool is_told_as_foreign(Fixture *room, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(room->host->registry), room->host->id, unit);

        return s && streq(s->state.load, "foreign");
}

/* systemd returns the states of units, then stalls: 'property' of 'unit' is read without a reply, and is read
 * again before any call. */
static void stall_at_property(Fixture *room, const char *unit, const char *property) {
        unsigned before = room->fake->n_failed_properties;
        size_t said = room->fake->said.size;

        room->fake->fail_property = property;
        room->fake->fail_property_of = unit;
        fake_bus_changed(room->fake, unit);
        UNTIL(room, room->fake->n_failed_properties >= before + 2 || room->fake->said.size > said);
}

static void a_conflicting_unit_whose_fragment_is_read_late_is_not_touched(void **state) {
        Fixture *room = *state;
        FakeUnit *u = fake_bus_unit(room->fake, "ssh.service", "loaded", "inactive", "dead");

        snprintf(u->fragment, sizeof(u->fragment), "/usr/lib/systemd/system/ssh.service");
        host_unit(room->host, "ssh.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "ssh.service", ASSIGNMENT_RUN);
        stall_at_property(room, "ssh.service", "FragmentPath");
        assert_string_equal(room->fake->said.chars, "Subscribe; ");
        room->fake->fail_property = NULL;
        UNTIL(room, is_told_as_foreign(room, "ssh.service"));
        assert_string_equal(room->fake->said.chars, "Subscribe; ");
}

static void a_unit_that_the_administrator_replaced_is_not_stopped_because_of_a_late_reply(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        u = taken_over(room, "loaded", true);
        UNTIL(room, is_told_as_foreign(room, "web.service"));
        room->fake->obeys = false;
        room->fake->fail_property = "FragmentPath"; /* before the assignment arrives */
        room->fake->fail_property_of = "web.service";
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, room->fake->n_failed_properties == 1);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        stall_at_property(room, "web.service", "FragmentPath");
        assert_int_equal(room->fake->stops, 0);
        assert_true(has_order(room, "web.service"));
        room->fake->fail_property = NULL;
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 0);
        assert_string_equal(u->active, "active");
}

/* Its start would stop that unit. */
static void a_unit_waits_while_the_state_of_a_conflicting_unit_is_unknown(void **state) {
        Fixture *room = *state;

        fake_bus_unit(room->fake, "other.service", "loaded", "inactive", "dead");
        related_unit(room, "", "other.service");
        fake_bus_job_new(room->fake, "other.service");
        fake_bus_change(room->fake, "other.service", (FakeChange) { .active = "active" });
        stop_by_systemd(room, "web.service");
        stall_at_property(room, "other.service", "ActiveState");
        assert_int_equal(room->fake->starts, 1);
        room->fake->fail_property = NULL;
        fake_bus_change(room->fake, "other.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        UNTIL(room, room->fake->starts == 2);
}

static void in_a_new_lineage_a_conflicting_unit_is_published_before_any_assignment_is_executed(void **state) {
        Fixture *room = *state;
        FakeUnit *u = fake_bus_unit(room->fake, "ssh.service", "loaded", "active", "running");

        snprintf(u->fragment, sizeof(u->fragment), "/usr/lib/systemd/system/ssh.service");
        run_unit(room, "web.service", ONE);
        host_unit(room->host, "ssh.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "ssh.service", ASSIGNMENT_RUN);
        UNTIL(room, is_told_as_foreign(room, "ssh.service"));
        agent_close(room);
        change_lineage(room);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        agent_open(room);
        while (has_order(room, "web.service")) { /* until the lineage was taken over */
                assert_true(is_told_as_foreign(room, "ssh.service"));
                host_pause(room->host, 20);
        }
        assert_true(is_told_as_foreign(room, "ssh.service"));
}

/* Replace the value of 'field' in the records by one of the same length or less. */
static void records_that_cannot_be_read_without_memory_stay_on_disk(void **state) {
        Fixture *room = *state;
        _cleanup_free_ char *path = scratch_path(room->records, "assignment"), *before = NULL;
        AgentOptions options = { .machine_id = room->host->id,
                                 .boot_id = boot_id,
                                 .directory = room->records,
                                 .boot_wait_ms = BOOT_WAIT_MS,
                                 .adopt_ms = ADOPT_MS };
        SystemdBusOptions bus = { .directory = room->folder,
                                  .address = room->fake->address,
                                  .links = room->links };
        bool failed = true;
        int r;

        run_unit(room, "a.service", ONE);
        run_unit(room, "b.service", ONE);
        agent_close(room);
        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 20, &before, NULL), 0);
        assert_int_equal(systemd_bus_new(&room->systemd, room->host->loop, &bus, NULL), 0);
        for (unsigned n = 1; failed; n++) {
                _cleanup_free_ char *after = NULL;
                Error err = {};

                alloc_fail_at(n);
                r = agent_new(&room->agent, room->host->loop, room->host->registry, room->systemd, &options,
                              &err);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                assert_true(r == 0 || r == -ENOMEM);
                if (r == 0)
                        room->agent = agent_free(room->agent);
                assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 20, &after, NULL), 0);
                assert_string_equal(after, before);
        }
}

static void change_record(Fixture *room, const char *field, const char *value) {
        _cleanup_free_ char *path = scratch_path(room->records, "assignment"), *text = NULL, *changed = NULL;
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
        Fixture *room = *state;
        _cleanup_free_ char *path = scratch_path(room->records, "assignment");

        leader.gone = true;
        for (size_t i = 0; i < ELEMENTS(boots); i++) {
                _cleanup_free_ char *text = NULL;
                unsigned connections = room->fake->connections;

                agent_close(room);
                assert_true(
                        asprintf(&text,
                                 "{\"boot\":\"%s\",\"era\":\"0.1.0\",\"floor\":9,\"lineage\":"
                                 "\"00000000000000ab\",\"units\":["
                                 "{\"index\":9,\"name\":\"web.service\",\"order\":\"run\",\"replacing\":true,"
                                 "\"text\":\"[Service]\\nExecStart=/bin/two\\n\",\"unit\":5}]}",
                                 boots[i]) > 0);
                scratch_write(path, text);
                agent_open(room);
                UNTIL(room, room->fake->connections > connections);
                host_pause(room->host, QUIET_MS);
                assert_int_equal(room->fake->starts, 0);
        }
        agent_close(room);
        room->boot_wait_ms = SHORT_BOOT_WAIT_MS;
        agent_open(room);
        UNTIL(room, room->fake->starts == 1);
        assert_true(has_file(room, "web.service", "/bin/two"));
        leader.gone = false;
}

/* Another daemon recorded it, and died before the stop. */
static void a_daemon_that_stops_a_unit_for_its_new_text_starts_it_without_the_cluster(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        room->fake->hold = "StopUnit";
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        room->agent = agent_crash(room->agent);
        agent_close(room);
        fake_bus_disconnect(room->fake);
        agent_open(room);
        UNTIL(room, room->fake->n_held == 1 && room->fake->connections == 2);
        leader.gone = true;
        agent_state_changed(room->agent);
        fake_bus_release(room->fake);
        UNTIL(room, room->fake->starts == 2);
        leader.gone = false;
        agent_state_changed(room->agent);
        UNTIL(room, says(room, "web.service", "active"));
}

/* The unit has stopped to replace its text, the leader is lost, and StartUnit is rejected or never reaches
 * systemd. */
static void the_start_of_a_replacement_is_repeated_without_the_cluster(void **state) {
        Fixture *room = *state;

        for (unsigned lost = 0; lost < 2; lost++) {
                unsigned starts = room->fake->starts;

                run_unit(room, "web.service", lost ? TWO : ONE);
                UNTIL(room, room->fake->starts > starts);
                starts = room->fake->starts;
                room->fake->hold = "StopUnit";
                host_unit(room->host, "web.service", lost ? ONE : TWO, TARGET_LAUNCHED);
                host_order(room->host, "web.service", ASSIGNMENT_RUN);
                UNTIL(room, room->fake->n_held == 1);
                leader.gone = true;
                agent_state_changed(room->agent);
                if (lost) {
                        fake_bus_release(room->fake);
                        room->fake->hold = "StartUnit";
                        UNTIL(room, room->fake->n_held == 1);
                        room->fake->hold = NULL;
                        fake_bus_disconnect(room->fake);
                } else {
                        refuse_starts(room);
                        fake_bus_release(room->fake);
                        UNTIL(room, has_logged("Failed to start web.service"));
                        allow_starts(room);
                }
                UNTIL(room, room->fake->starts == starts + 1);
                leader.gone = false;
                agent_state_changed(room->agent);
                UNTIL(room, says(room, "web.service", "active"));
                host_pause(room->host, QUIET_MS + AGENT_RETRY_MS);
                assert_int_equal(room->fake->starts, starts + 1);
                fake_bus_changed(room->fake, "web.service");
                host_order(room->host, "web.service", ASSIGNMENT_STOP);
                UNTIL(room, !has_order(room, "web.service"));
        }
}

/* The assignment arrives, and the leader is lost, while the unit is being stopped to replace its text. */
static void a_replacement_is_not_finished_after_a_stop_assignment(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        room->fake->hold = "StopUnit";
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        leader.gone = true;
        agent_state_changed(room->agent);
        fake_bus_release(room->fake);
        host_pause(room->host, 2 * AGENT_RETRY_MS);
        assert_int_equal(room->fake->starts, 1);
        leader.gone = false;
        agent_state_changed(room->agent);
        UNTIL(room, !has_order(room, "web.service"));
}

static void a_registry_older_than_the_records_of_this_host_has_no_effect(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        agent_close(room);
        change_record(room, "\"floor\":", "1000000");
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->stops, 0);
        assert_true(has_order(room, "web.service"));

        /* Only that was the reason. */
        agent_close(room);
        change_record(room, "\"floor\":", "1");
        agent_open(room);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
}

static void assignments_are_executed_although_records_cannot_be_written(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *room = *state;
        uint64_t turns;

        path = scratch_path(room->records, "assignment");
        run_unit(room, "web.service", ONE);
        UNTIL(room, remove_tree_at(AT_FDCWD, room->records) == 0); /* a write may be under way */
        scratch_write(room->records, "no folder");
        run_unit(room, "other.service", TWO);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->starts, 2);
        assert_int_equal(room->fake->stops, 1);
        assert_int_equal(access(path, F_OK), -1);

        turns = loop_turns(room->host->loop)->n; /* a failing write is not repeated at once */
        host_pause(room->host, QUIET_MS);
        assert_true(loop_turns(room->host->loop)->n - turns < QUIET_MS);
}

static void a_removed_folder_of_records_is_restored_with_all_of_them_and_logged_once(void **state) {
        static const char message[] = " was removed or replaced";
        Fixture *room = *state;
        const char *first;

        run_unit(room, "web.service", ONE);
        log_begin();
        UNTIL(room, remove_tree_at(AT_FDCWD, room->records) == 0); /* a write may be under way */
        run_unit(room, "other.service", TWO);
        UNTIL(room, records_say(room, "web.service") && records_say(room, "other.service"));
        run_unit(room, "third.service", TWO);
        UNTIL(room, records_say(room, "third.service"));
        log_set_sink(NULL, NULL);
        assert_false(has_logged("Failed to save"));
        assert_true(has_logged(message));
        first = strstr(logged.chars, message);
        assert_null(strstr(first + 1, message));
        log_end();

        /* Also without any change. */
        UNTIL(room, remove_tree_at(AT_FDCWD, room->records) == 0);
        agent_state_changed(room->agent);
        UNTIL(room, records_say(room, "web.service") && records_say(room, "third.service"));
        assert_int_equal(room->fake->starts, 3);
        assert_int_equal(room->fake->stops, 0);
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
        Fixture *room = *state;
        SystemdOps ops = *room->systemd->ops;

        path = scratch_path(room->records, "assignment");
        witness.ops = room->systemd->ops;
        witness.path = path;
        ops.start = witness_start;
        ops.stop = witness_stop;
        room->systemd->ops = &ops;
        run_unit(room, "web.service", ONE);
        assert_non_null(strstr(witness.at_start, "\"starting\":true"));
        assert_non_null(strstr(witness.at_start, boot_id));
        assert_null(strstr(witness.at_start, "\"replacing\""));
        assert_null(strstr(witness.at_start, "\"job\""));

        /* A remaining record to run would start the unit again after a crash. Versions that do not read
         * "stopping" must not start it either. */
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
        assert_non_null(strstr(witness.at_stop, "\"stopping\":true"));
        assert_non_null(strstr(witness.at_stop, "\"order\":\"load\""));
        assert_null(strstr(witness.at_stop, "\"order\":\"run\""));
        room->systemd->ops = witness.ops;
        free(TAKE_PTR(witness.at_start));
        free(TAKE_PTR(witness.at_stop));
}

static void a_lost_start_of_a_waiting_unit_is_made_when_the_other_unit_runs(void **state) {
        Fixture *room = *state;

        stop_sidekick(room);
        room->fake->hold = "StartUnit";
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, room->fake->n_held == 1);
        fake_bus_change(room->fake, "app.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        room->fake->hold = NULL;
        fake_bus_disconnect(room->fake);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, 2500);
        assert_int_equal(room->fake->starts, 1);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, room->fake->starts == 2);
}

static void a_start_that_never_reached_systemd_is_repeated(void **state) {
        Fixture *room = *state;

        room->fake->hold = "StartUnit";
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        room->fake->hold = NULL;
        fake_bus_disconnect(room->fake);
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 1);
}

static void a_start_whose_reply_was_lost_is_not_made_twice(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        room->fake->hold = "StartUnit";
        room->fake->deaf = true;
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        room->fake->hold = NULL;
        fake_bus_disconnect(room->fake);
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 1);

        /* It ends by itself and is unloaded: that starts it no second time. */
        u = fake_bus_unit(room->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->folder);
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, says(room, "web.service", "inactive"));
        host_pause(room->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(room->fake->starts, 1);
}

static void while_systemd_reloads_no_unit_counts_as_gone(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_reloading(room->fake, true);
        fake_bus_unit(room->fake, "web.service", "not-found", "inactive", "dead"); /* as during a reload */
        fake_bus_changed(room->fake, "web.service");
        host_pause(room->host, QUIET_MS);
        assert_true(says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 1);
}

static void a_rejected_unit_is_retried_later_and_affects_no_other_unit(void **state) {
        Fixture *room = *state;

        room->fake->fail = "LinkUnitFiles";
        room->fake->fail_name = "org.freedesktop.DBus.Error.AccessDenied";
        room->fake->fail_message = "no";
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 0);
        room->fake->fail = NULL;
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 1);
}

static void a_rejected_start_is_retried_later(void **state) {
        Fixture *room = *state;

        room->fake->fail = "StartUnit";
        room->fake->fail_name = "org.freedesktop.systemd1.TransactionIsDestructive";
        room->fake->fail_message = "a stop is under way";
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 0);
        room->fake->fail = NULL;
        UNTIL(room, says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 1);
        host_pause(room->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(room->fake->starts, 1);
}

/* The leak checker verifies that. */
static void an_agent_that_ends_during_a_call_is_freed_with_the_reply(void **state) {
        Fixture *room = *state;

        room->fake->hold = "StartUnit";
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        room->agent = agent_free(room->agent);
        fake_bus_release(room->fake);
}

static void an_assignment_is_executed_as_soon_as_this_host_has_caught_up(void **state) {
        uint64_t synced_ms;
        Fixture *room = *state;

        agent_close(room);
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        leader = (Leader) { .hold = true };
        agent_open(room);
        UNTIL(room, leader.held);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 0);
        synced_ms = loop_now_ms(room->host->loop);
        leader.held->done(leader.held->userdata, KV_OK);
        leader = (Leader) {};
        UNTIL(room, room->fake->starts == 1);
        assert_in_range(loop_now_ms(room->host->loop) - synced_ms, 0, 5000); /* before the next resync */
}

/* Before its event, the whole registry announces the assignment. */
static void read_registry_again(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Host *h = userdata;

        registry_reset(h->registry);
        host_on_done(h, status, sentence, index);
}

static void an_assignment_that_comes_with_the_whole_registry_is_executed_at_once(void **state) {
        Fixture *room = *state;
        Host *h = room->host;
        AssignmentChange change = { .kind = ASSIGNMENT_RUN,
                                    .unit = "web.service",
                                    .reason = "a test says so" };
        uint64_t ordered_ms = loop_now_ms(h->loop);
        KvState store;

        host_unit(h, "web.service", ONE, TARGET_LAUNCHED);
        memcpy(change.machine, h->id, sizeof(change.machine));
        change.unit_index = cluster_unit(registry_cluster(h->registry), "web.service")->index;
        kv_state(h->store, &store);
        assert_int_equal(
                host_wait(h, registry_assign(h->registry, store.term, &change, 1, read_registry_again, h)),
                KV_OK);
        UNTIL(room, room->fake->starts == 1);
        assert_in_range(loop_now_ms(h->loop) - ordered_ms, 0, 5000); /* before the next resync */
}

static void a_read_index_check_ends_with_its_leader(void **state) {
        Fixture *room = *state;

        agent_close(room);
        leader = (Leader) { .hold = true };
        agent_open(room);
        UNTIL(room, leader.held);
        leader.gone = true;
        agent_state_changed(room->agent);
        UNTIL(room, leader.cancelled == 1);
        agent_state_changed(room->agent);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(leader.cancelled, 1);
        leader = (Leader) {};
        agent_state_changed(room->agent);
        run_unit(room, "web.service", ONE);
}

static void a_new_assignment_ends_the_delay_of_a_failed_step(void **state) {
        uint64_t ordered_ms;
        Fixture *room = *state;

        room->fake->fail = "StartUnit";
        room->fake->fail_name = "org.freedesktop.systemd1.LoadFailed";
        room->fake->fail_message = "no such user";
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        host_pause(room->host, 7 * AGENT_RETRY_MS + 200); /* after 1, 2 and 4 pauses; the next one has 8 */
        assert_int_equal(room->fake->starts, 0);

        room->fake->fail = NULL;
        host_unit(room->host, "web.service", TWO, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        ordered_ms = loop_now_ms(room->host->loop);
        UNTIL(room, says(room, "web.service", "active"));
        assert_true(loop_now_ms(room->host->loop) - ordered_ms < 5 * AGENT_RETRY_MS);
        assert_int_equal(room->fake->starts, 1);
}

static void a_host_that_boots_alone_waits_and_then_starts_its_last_assignments(void **state) {
        Fixture *room = *state;

        UNTIL(room, room->fake->connections == 1);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 0);
        assert_false(has_file(room, "web.service", ""));

        UNTIL(room, room->fake->starts == 1);
        assert_true(has_file(room, "web.service", "/bin/one"));
        UNTIL(room, has_file(room, "loaded.service", "/bin/one"));
        host_pause(room->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(room->fake->starts, 1); /* neither the loaded unit nor the completed one */
        assert_int_equal(room->fake->stops, 0);
        assert_false(has_file(room, "ended.service", ""));
}

int main(int argc, char *argv[]) {
#define in_a_room(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_a_room(an_assigned_unit_is_written_linked_started_and_published),
                in_a_room(a_loaded_unit_is_not_started),
                in_a_room(
                        a_unit_that_is_stopped_to_be_loaded_only_is_recorded_so_before_and_not_started_again),
                in_a_room(a_stop_assignment_is_executed_and_removed),
                in_a_room(a_changed_text_is_stopped_and_started_once),
                in_a_room(a_unit_keeps_running_until_its_changed_text_can_be_written),
                in_a_room(an_edit_of_the_x_fleet_section_stops_no_unit),
                in_a_room(a_removed_link_of_a_running_unit_is_restored),
                in_a_room(a_removed_folder_is_restored_with_all_files_and_no_unit_stops),
                in_a_room(a_conflicting_unit_is_not_touched_and_published_as_foreign),
                in_a_room(a_unit_that_the_administrator_replaced_is_not_touched_by_a_stop_assignment),
                in_a_room(a_unit_that_the_administrator_replaces_is_published_as_foreign),
                in_a_room(a_running_unit_stays_active_when_a_conflicting_file_comes_and_goes),
                in_a_room(a_running_unit_with_a_conflicting_file_is_published_as_active_until_it_stops),
                in_a_room(a_unit_whose_install_section_names_a_unit_of_the_host_is_published_as_foreign),
                in_a_room(a_running_unit_stays_when_the_host_takes_one_of_its_names),
                in_a_room(a_template_in_the_folder_or_an_install_section_affects_no_unit),
                in_a_room(a_unit_that_cannot_be_enabled_is_published_as_foreign_and_not_started),
                in_a_room(a_unit_without_memory_for_its_call_is_put_in_force_later),
                in_a_room(units_that_are_assigned_together_are_linked_by_one_call),
                in_a_room(a_rejected_link_affects_no_other_install_section),
                in_a_room(of_a_flapping_unit_the_first_state_and_the_last_of_a_second_are_published),
                in_a_room(a_start_is_published_once_when_it_has_ended),
                in_a_room(a_start_that_never_began_is_published_with_its_reason_until_one_begins),
                in_a_room(a_bound_unit_that_systemd_stopped_is_started_again_when_its_unit_runs),
                in_a_room(a_bound_unit_is_not_started_when_its_unit_has_ended_again_before),
                in_a_room(a_bound_unit_whose_start_was_rejected_starts_with_its_unit_without_the_cluster),
                in_a_room(a_unit_stopped_by_hand_stays_here_when_the_host_takes_one_of_its_names),
                in_a_room(a_unit_stopped_because_of_another_stays_here_when_the_host_takes_one_of_its_names),
                in_a_room(a_unit_that_a_conflict_stopped_waits_until_the_conflicting_unit_has_ended),
                in_a_room(other_requirements_of_a_stopped_unit_do_not_prevent_its_start),
                in_a_room(other_dependencies_of_a_unit_do_not_prevent_its_start_after_a_rejected_one),
                in_a_room(an_assignment_to_run_that_comes_during_a_stop_is_executed_after_it),
                in_a_room(a_stop_by_hand_during_a_target_job_is_not_undone),

                in_a_room(a_bound_unit_that_systemd_does_not_begin_is_not_started_each_second),
                in_a_room(a_unit_that_was_stopped_by_hand_stays_stopped_and_has_not_completed),
                in_a_room(a_unit_that_was_stopped_by_hand_before_a_conflict_stays_stopped_after_it),
                in_a_room(a_unit_that_ends_by_itself_has_completed),
                in_a_room(a_completed_unit_stays_completed_whatever_the_host_runs_under_its_name),
                in_a_room(a_completion_without_the_cluster_outlives_the_daemon),
                in_a_room(a_completed_unit_that_runs_again_with_another_text_has_not_completed),
                in_a_room(a_completed_unit_that_was_started_by_hand_is_replaced_by_its_next_text),
                in_a_room(a_unit_whose_condition_does_not_hold_is_published_so_and_has_not_completed),
                in_a_room(
                        a_service_whose_command_says_that_it_is_not_to_begin_is_told_so_and_is_not_finished),
                in_a_room(an_earlier_end_is_not_the_end_of_a_start_that_never_began),
                in_a_room(a_failed_unit_that_is_reset_has_not_completed),
                in_a_room(a_oneshot_that_ended_without_the_daemon_has_completed_if_it_was_observed_running),
                in_a_room(an_assignment_to_stop_a_unit_without_its_file_stays_until_the_unit_has_stopped),
                in_a_room(the_next_daemon_stops_a_unit_without_its_file),
                in_a_room(a_loaded_unit_that_its_socket_started_is_ours_without_its_file),
                in_a_room(a_former_text_that_is_started_before_systemd_reads_the_new_one_is_stopped_again),
                in_a_room(a_former_text_started_right_before_a_reload_is_stopped_again),
                in_a_room(
                        the_next_daemon_stops_a_former_text_that_was_started_before_systemd_read_the_new_one),
                in_a_room(the_next_daemon_stops_a_unit_that_was_started_during_a_replacement),
                in_a_room(a_former_text_is_stopped_again_when_the_link_of_the_new_one_gets_no_reply),
                in_a_room(a_former_text_is_stopped_again_when_another_program_reloaded_systemd),
                in_a_room(a_former_text_whose_start_got_no_reply_is_stopped_again),
                in_a_room(a_unit_that_was_loaded_only_meanwhile_has_no_former_text),
                in_a_room(a_unit_started_after_systemd_read_its_new_text_keeps_running_under_the_next_daemon),
                in_a_room(a_unit_that_runs_again_is_not_stopped_by_the_next_daemon_when_its_edit_is_reverted),
                in_a_room(a_running_unit_is_not_outdated_when_its_edit_is_reverted),
                in_a_room(a_unit_without_its_file_is_stopped_and_started_when_its_text_changes),
                in_a_room(a_unit_that_is_started_while_it_is_unlinked_is_stopped_too),
                in_a_room(after_a_soft_reboot_the_units_are_started_again),
                in_a_room(a_new_daemon_touches_no_running_unit),
                in_a_room(a_daemon_that_lost_its_records_adopts_running_units),
                in_a_room(in_a_new_lineage_units_are_published_before_any_assignment_is_executed),
                in_a_room(in_a_new_lineage_a_conflicting_unit_is_published_before_any_assignment_is_executed),
                in_a_room(a_conflicting_unit_whose_fragment_is_read_late_is_not_touched),
                in_a_room(a_unit_that_the_administrator_replaced_is_not_stopped_because_of_a_late_reply),
                in_a_room(a_unit_waits_while_the_state_of_a_conflicting_unit_is_unknown),
                in_a_room(a_replacement_that_another_daemon_had_begun_waits_for_the_cluster),
                in_a_room(a_daemon_that_stops_a_unit_for_its_new_text_starts_it_without_the_cluster),
                in_a_room(the_start_of_a_replacement_is_repeated_without_the_cluster),
                in_a_room(a_replacement_is_not_finished_after_a_stop_assignment),
                in_a_room(a_registry_older_than_the_records_of_this_host_has_no_effect),
                in_a_room(assignments_are_executed_although_records_cannot_be_written),
                in_a_room(a_removed_folder_of_records_is_restored_with_all_of_them_and_logged_once),
                in_a_room(records_are_on_disk_before_the_calls_that_they_are_about),
                in_a_room(a_lost_start_of_a_waiting_unit_is_made_when_the_other_unit_runs),
                in_a_room(a_start_that_never_reached_systemd_is_repeated),
                in_a_room(records_that_cannot_be_read_without_memory_stay_on_disk),
                in_a_room(a_start_whose_reply_was_lost_is_not_made_twice),
                in_a_room(while_systemd_reloads_no_unit_counts_as_gone),
                in_a_room(a_rejected_unit_is_retried_later_and_affects_no_other_unit),
                in_a_room(a_rejected_start_is_retried_later),
                in_a_room(an_agent_that_ends_during_a_call_is_freed_with_the_reply),
                in_a_room(an_assignment_is_executed_as_soon_as_this_host_has_caught_up),
                in_a_room(an_assignment_that_comes_with_the_whole_registry_is_executed_at_once),
                in_a_room(a_read_index_check_ends_with_its_leader),
                in_a_room(a_new_assignment_ends_the_delay_of_a_failed_step),
                cmocka_unit_test_setup_teardown(
                        a_host_that_boots_alone_waits_and_then_starts_its_last_assignments, lonely_room_setup,
                        fixture_teardown),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
