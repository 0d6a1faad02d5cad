/* The agent between a real registry and a systemd on a real bus: orders in, calls and states out, and what
 * trouble costs. */
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

/* The others do not answer, and never will; what was assigned to this host in its last boot is on its disk.
 */
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

/* The invocation that runs is noted on disk. */
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

/* The unit is ordered to run, does so, and says so. */
static void run_unit(Fixture *room, const char *unit, const char *text) {
        host_unit(room->host, unit, text, TARGET_LAUNCHED);
        host_order(room->host, unit, ASSIGNMENT_RUN);
        UNTIL(room, says(room, unit, "active"));
}

/* The sentences that were logged since. */
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

/* As while a stop of it, or of what it requires, is under way. */
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

static void an_ordered_unit_is_written_linked_started_and_told(void **state) {
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

/* Another daemon, which the cluster does not answer, must find that in the note. */
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

static void an_order_to_stop_is_obeyed_and_taken_away(void **state) {
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

/* The folder has no room for the new text. */
static void a_unit_runs_on_until_its_changed_text_can_be_written(void **state) {
        Fixture *room = *state;
        _cleanup_free_ char *temporary = NULL;
        char name[FILE_TEMPORARY_SIZE];

        run_unit(room, "web.service", ONE);
        file_temporary_name("web.service", name);
        temporary = scratch_path(room->folder, name);
        assert_int_equal(mkdir(temporary, 0700), 0); /* which no file replaces */
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

static void an_edit_of_our_own_section_stops_nothing(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        host_unit(room->host, "web.service", TUNED, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, has_file(room, "web.service", "Conflicts"));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 1);
        assert_int_equal(room->fake->stops, 0);
}

static void a_unit_whose_link_was_taken_away_gets_it_back_and_runs_on(void **state) {
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

static void a_removed_folder_is_made_anew_with_all_its_files_and_what_runs_runs_on(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        run_unit(room, "other.service", TWO);
        assert_int_equal(remove_tree_at(AT_FDCWD, room->folder), 0);
        fake_bus_reloading(room->fake, true);
        fake_bus_reloading(room->fake, false);
        UNTIL(room, has_file(room, "web.service", "/bin/one") && has_file(room, "other.service", "/bin/two"));
        assert_int_equal(room->fake->starts, 2);

        /* Nobody has noticed it yet when a unit is to be written; and another folder may be in its place. */
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

static void a_unit_of_the_host_is_left_alone_and_told_as_foreign(void **state) {
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

/* The administrator put a file of that name where it counts more than ours ('load': it may be a mask), and
 * had systemd read it. */
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

/* It is not restarted in between. */
static void a_running_unit_whose_name_was_taken_and_given_back_is_told_as_running(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        u = fake_bus_unit(room->fake, "web.service", "loaded", "active",
                          "running"); /* whose invocation is not known */
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

/* Were it told as foreign, the engine would have it run elsewhere, too. */
static void a_unit_that_runs_on_under_a_taken_name_is_told_as_running_until_it_has_stopped(void **state) {
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
                snprintf(u->sub, sizeof(u->sub), "exited"); /* so that it is seen when this is told */
                UNTIL(room, is_told_as(room, "web.service", loads[i], "active") &&
                                    streq(sub_of(room, "web.service"), "exited"));
                assert_false(agent_has_conflict(room->agent, "web.service"));

                /* So does the next daemon, after a crash. */
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

/* The administrator started it, too. */
static void a_unit_that_the_administrator_took_over_is_left_alone_when_it_is_to_go(void **state) {
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

/* Also while no leader can be told of it. */
static void a_unit_that_an_administrator_takes_over_is_seen_as_foreign(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        assert_false(agent_has_conflict(room->agent, "web.service"));
        assert_false(agent_has_conflict(room->agent, "none.service"));
        (void) taken_over(room, "loaded", true);
        UNTIL(room, agent_has_conflict(room->agent, "web.service"));
}

static void a_unit_whose_install_section_names_one_of_the_host_is_told_as_foreign(void **state) {
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

        /* The name is free, and it runs. */
        *db = room->fake->units[--room->fake->n_units];
        UNTIL(room, says(room, "web.service", "active"));
        s = cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service");
        assert_string_equal(s->state.load, "loaded");
}

/* The unit runs, and a name of its [Install] has become the host's, when [X-Fleet] is edited. */
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

/* A change that does not concern systemd moves nothing, whatever became of the names in [Install] meanwhile.
 */
static void a_running_unit_stays_when_one_of_its_names_has_become_the_hosts(void **state) {
        Fixture *room = *state;

        run_with_a_taken_alias(room);
        assert_true(is_told_as(room, "web.service", "loaded", "active"));
        assert_int_equal(room->fake->starts, 1);
        assert_int_equal(room->fake->stops, 0);
}

/* systemd answers no call that asks for a template. */
static void a_template_in_the_folder_or_an_install_section_keeps_no_unit_from_anything(void **state) {
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

/* systemd has the link, and refuses to enable it: the name was taken in between. */
static void a_unit_that_could_not_be_enabled_is_told_as_foreign_and_not_started(void **state) {
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

/* systemd refuses a call about many for the sake of one. */
static void a_link_that_systemd_refuses_keeps_no_other_unit_from_its_install_section(void **state) {
        static const char *const units[] = { "a.service", "bad.service", "c.service" };
        Fixture *room = *state;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(room->host, units[i], ONE "[Install]\nWantedBy=x.target\n", TARGET_LAUNCHED);
        room->fake->fail = "LinkUnitFiles";
        room->fake->fail_name = "org.freedesktop.DBus.Error.AccessDenied";
        room->fake->fail_message = "no";
        room->fake->fail_part = "bad";
        room->fake->hold = "ListUnitsByNames"; /* until all are ordered, so that they are one batch */
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

/* Fails the first allocation after the answer to a link. */
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

/* systemd refuses the batch, so that each has a call of its own; there is no memory for the first one. */
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
        room->fake->hold = "ListUnitsByNames"; /* until all are ordered, so that they are one batch */
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

static void units_that_are_ordered_together_are_linked_by_one_call(void **state) {
        static const char *const units[] = { "a.service", "b.service", "c.service" };
        Fixture *room = *state;
        unsigned n = 0;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                host_unit(room->host, units[i], ONE, TARGET_LAUNCHED);
        room->fake->hold = "ListUnitsByNames"; /* until all are ordered, so that they are one batch */
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

static void of_a_unit_that_flaps_the_first_state_and_the_last_of_a_second_are_told(void **state) {
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
        assert_in_range(told, 2, 3); /* at once, and one for each second that passed */
        UNTIL(room, streq(cluster_state(registry_cluster(room->host->registry), room->host->id, "web.service")
                                  ->state.sub,
                          u->sub));
}

static void a_start_is_told_once_when_it_is_over(void **state) {
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

/* Such a unit stays inactive, and nothing that systemd shows of it says why. */
static void a_start_that_never_began_is_told_with_its_reason_until_one_begins(void **state) {
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

/* systemd stops 'unit', as somebody wished, or as its bonds do. */
static void stop_by_systemd(Fixture *room, const char *unit) {
        fake_bus_job_new(room->fake, unit);
        fake_bus_change(room->fake, unit, (FakeChange) { .active = "deactivating", .job = 1, .left = true });
        fake_bus_change(room->fake, unit,
                        (FakeChange) { .active = "inactive", .job = 1, .left = true, .ended = true });
        fake_bus_job_removed(room->fake, 1, unit, "done");
        UNTIL(room, says(room, unit, "inactive"));
}

static void a_sidekick_that_systemd_stopped_is_started_again_when_its_unit_is_back(void **state) {
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

        /* A daemon that begins meanwhile has not seen it. */
        agent_close(room);
        agent_open(room);
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, says(room, "side.service", "active"));
        assert_int_equal(room->fake->starts, 2);
        assert_int_equal(room->fake->stops, 0);
}

static void a_unit_stopped_by_hand_stays_here_though_the_host_took_one_of_its_names(void **state) {
        Fixture *room = *state;

        run_with_a_taken_alias(room);
        stop_by_systemd(room, "web.service");
        host_pause(room->host, 1500);
        assert_true(is_told_as(room, "web.service", "loaded", "inactive"));
        assert_int_equal(room->fake->starts, 1);
}

static void a_unit_stopped_for_another_stays_here_though_the_host_took_one_of_its_names(void **state) {
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

/* Its start may be refused while the other one is being stopped again: then it waits for that one. */
/* Nothing tells the agent of that. */
/* side.service runs bound to app.service, and is stopped since that one restarts. */
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

static void a_sidekick_is_not_started_when_its_unit_has_ended_again_before(void **state) {
        const AgentCounts *counts;
        Fixture *room = *state;
        uint64_t listings;

        stop_sidekick(room);
        counts = agent_counts(room->agent);
        listings = counts->listings;
        UNTIL(room, counts->listings > listings); /* the next one of itself is a second away */
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

static void a_sidekick_whose_start_was_refused_starts_with_its_unit_without_the_cluster(void **state) {
        Fixture *room = *state;

        stop_sidekick(room);
        leader.gone = true;
        agent_state_changed(room->agent);
        refuse_starts(room);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, has_logged("Failed to start side.service"));
        fake_bus_change(room->fake, "app.service",
                        (FakeChange) { .active = "inactive", .left = true, .ended = true });
        host_pause(room->host, 2500); /* until that is seen */
        allow_starts(room);
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
        fake_bus_change(room->fake, "app.service", (FakeChange) { .active = "active" });
        UNTIL(room, room->fake->starts == 2);
        leader.gone = false;
}

/* A unit that runs here, with what systemd says of its relations. */
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

/* An administrator restarts the unit that it conflicts with: in between nothing may come in its way. */
static void a_unit_that_a_conflict_stopped_waits_until_that_has_ended_and_does_not_begin(void **state) {
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

static void what_else_a_stopped_unit_needs_does_not_keep_it_down(void **state) {
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

/* For whose sake it was stopped is known until it runs. */
static void other_dependencies_of_a_unit_do_not_keep_it_down_after_a_refused_start(void **state) {
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

/* The job of a target may take long: what is stopped by hand meanwhile is not stopped with it. */
static void a_stop_by_hand_while_a_target_is_on_its_way_stays_so(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_job_new(room->fake, "custom.target");
        host_pause(room->host, 400);
        stop_by_systemd(room, "web.service");
        host_pause(room->host, 1500);
        assert_int_equal(room->fake->starts, 1);
}

/* Its start moves other units each time. */
static void a_sidekick_that_systemd_does_not_begin_is_not_started_each_second(void **state) {
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

static void an_order_to_run_that_comes_during_a_stop_is_obeyed_after_it(void **state) {
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

static void a_unit_that_was_stopped_by_hand_stays_so_and_is_not_finished(void **state) {
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

/* A daemon that begins then has not seen the stop: it finds an inactive unit, and one in conflict with it
 * that runs. */
static void a_unit_that_was_stopped_by_hand_before_a_conflict_stays_so_when_that_is_over(void **state) {
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

        /* Once it runs again, that was once. */
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

static void a_unit_that_ends_by_itself_is_finished_for_good(void **state) {
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

/* The administrator runs a unit of his own under that name, which ends, too. */
static void a_finished_unit_stays_finished_whatever_the_host_runs_under_its_name(void **state) {
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

static void that_a_unit_finishes_without_the_cluster_outlives_the_daemon(void **state) {
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

static void a_finished_unit_that_runs_again_with_another_text_is_not_finished(void **state) {
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

static void a_finished_unit_that_was_started_by_hand_is_replaced_by_its_next_text(void **state) {
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

        /* A daemon that begins later has not seen it. */
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, 1500);
        assert_string_equal(job_of(room, "web.service"), "condition");
        assert_int_equal(room->fake->starts, 1);
        assert_false(is_done(room, "web.service"));
}

static void a_unit_whose_condition_does_not_hold_is_told_so_and_is_not_finished(void **state) {
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

static void how_a_unit_ended_before_is_not_how_a_start_that_never_began_ended(void **state) {
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
                             "done"); /* of a stop by hand, of what does not run */
        host_pause(room->host, QUIET_MS);
        assert_false(is_done(room, "web.service"));
}

/* It is inactive, and systemd has forgotten how it ended. */
static FakeUnit *forgotten(Fixture *room, const char *name) {
        FakeUnit *u = fake_bus_unit(room->fake, name, "loaded", "inactive", "dead");

        snprintf(u->fragment, sizeof(u->fragment), "%s/%s", room->folder, name);
        snprintf(u->result, sizeof(u->result), "success");
        u->oneshot = true;
        return u;
}

static void a_failed_unit_that_is_reset_is_not_finished(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_change(room->fake, "web.service",
                        (FakeChange) { .active = "failed", .left = true, .ended = true });
        UNTIL(room, says(room, "web.service", "failed"));
        forgotten(room, "web.service");
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, says(room, "web.service", "inactive"));
        assert_false(is_done(room, "web.service"));

        /* Nor for a daemon that has not seen it. */
        agent_close(room);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_false(is_done(room, "web.service"));
}

static void a_oneshot_that_ended_without_the_daemon_is_finished_if_it_was_seen_to_run(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        agent_close(room);
        forgotten(room, "web.service");
        agent_open(room);
        UNTIL(room, says(room, "web.service", "inactive") && is_done(room, "web.service"));

        /* One that had finished, and runs, has not. */
        forgotten(room, "web.service");
        fake_bus_change(room->fake, "web.service", (FakeChange) { .active = "active" });
        UNTIL(room, says(room, "web.service", "active"));
        assert_false(is_done(room, "web.service"));
        assert_int_equal(room->fake->starts, 1);
}

/* While the daemon was away the unit's file was removed, systemd read its files again, and the unit was
 * ordered to stop. */
static FakeUnit *stop_without_file(Fixture *room) {
        _cleanup_free_ char *file = scratch_path(room->folder, "web.service");

        run_unit(room, "web.service", ONE);
        agent_close(room);
        assert_int_equal(unlink(file), 0);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        return fake_bus_unit(room->fake, "web.service", "error", "active", "running");
}

static void an_order_to_stop_a_unit_without_its_file_stays_until_the_unit_has_stopped(void **state) {
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

/* The call is lost with the daemon that made it. */
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

/* systemd is re-executed: it answers nothing, and reads all files. */
static void a_former_text_is_stopped_again_also_where_the_link_of_the_new_one_is_not_answered(void **state) {
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

/* Somebody else has had systemd read the new text, perhaps after it was started. */
static void a_former_text_is_stopped_again_also_where_systemd_was_reloaded_by_somebody_else(void **state) {
        Fixture *room = *state;

        edit_up_to(room, "LinkUnitFiles");
        fake_bus_release(room->fake);
        is_stopped_again_once(room);
}

/* The answer to its start was lost, and before it was seen to run it got another text. */
static void a_former_text_whose_start_was_not_answered_is_stopped_again(void **state) {
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

static void what_was_loaded_only_meanwhile_is_no_former_text(void **state) {
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

/* An administrator has had systemd read it meanwhile: nobody knows when it was started. */
static void the_next_daemon_stops_what_was_started_during_a_replacement(void **state) {
        restart_during_an_edit(*state, false);
}

static void what_was_started_after_systemd_had_read_its_new_text_runs_on_under_the_next_daemon(void **state) {
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

/* The unit gets another text, for which systemd refuses to stop it. */
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

/* Its stop was refused, and then it failed, and was started again as it had been. */
static void what_runs_again_is_not_stopped_by_the_next_daemon_when_its_edit_is_taken_back(void **state) {
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

static void what_runs_is_not_taken_for_a_former_text_when_its_edit_is_taken_back(void **state) {
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

/* The daemon was away meanwhile: what runs is the former text. */
static void a_unit_whose_file_is_gone_when_its_text_changes_is_stopped_and_started(void **state) {
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

/* Its link is gone, and systemd names that of what runs. */
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
                room->fake->obeys = false; /* what it has loaded it keeps */
                fake_bus_release(room->fake);
                room->fake->obeys = true;
                UNTIL(room, !has_order(room, "web.service"));
                assert_int_equal(room->fake->stops, stops + 2);
                assert_string_equal(room->fake->units[0].active, "inactive");
                assert_false(has_file(room, "web.service", ""));
                room->fake->n_units = 0; /* systemd forgets what has neither link nor file */
        }
}

/* As after systemctl soft-reboot, or after rescue.target: the boot is the same one. */
static void when_the_host_came_up_again_in_the_same_boot_its_units_are_started_again(void **state) {
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
                              "dead"); /* forgotten, and read anew */
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
        agent_open(room); /* the daemon alone */
        UNTIL(room, room->fake->connections > connections);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 4);
}

static void a_new_daemon_touches_nothing_that_runs(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        agent_close(room);
        text_clear(&room->fake->said);
        agent_open(room);
        UNTIL(room, room->fake->connections == 2);
        host_pause(room->host, QUIET_MS);
        assert_string_equal(room->fake->said.chars, "Subscribe; ");
}

static void a_daemon_that_lost_its_records_adopts_what_runs(void **state) {
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

/* The notes as they are after the cluster was recovered: of the lineage before. */
static void change_lineage(Fixture *room) {
        _cleanup_free_ char *path = scratch_path(room->records, "assignment"), *text = NULL;
        char *at;

        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 16, &text, NULL), 0);
        at = strstr(text, "\"lineage\":\"");
        assert_non_null(at);
        memcpy(at + 11, "00000000000000ab", 16);
        scratch_write(path, text);
}

static void in_a_new_lineage_what_runs_is_told_and_no_order_is_obeyed_until_it_was(void **state) {
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

        UNTIL(room, !has_order(room, "web.service")); /* the lineage was taken: this order is of it */
        assert_int_equal(room->fake->stops, 1);
}

static bool is_told_as_foreign(Fixture *room, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(room->host->registry), room->host->id, unit);

        return s && streq(s->state.load, "foreign");
}

/* systemd answers with the states of units, then stalls: 'property' of 'unit' was asked for in vain, and is
 * asked for again before any call. */
static void stall_at_property(Fixture *room, const char *unit, const char *property) {
        unsigned before = room->fake->n_failed_properties;
        size_t said = room->fake->said.size;

        room->fake->fail_property = property;
        room->fake->fail_property_of = unit;
        fake_bus_changed(room->fake, unit);
        UNTIL(room, room->fake->n_failed_properties >= before + 2 || room->fake->said.size > said);
}

static void a_unit_of_the_host_whose_file_systemd_does_not_name_in_time_is_left_alone(void **state) {
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

static void a_unit_that_the_administrator_took_over_is_not_stopped_for_a_late_answer(void **state) {
        Fixture *room = *state;
        FakeUnit *u;

        run_unit(room, "web.service", ONE);
        u = taken_over(room, "loaded", true);
        UNTIL(room, is_told_as_foreign(room, "web.service"));
        room->fake->obeys = false;
        room->fake->fail_property = "FragmentPath"; /* before the order has come */
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
static void a_unit_waits_while_systemd_does_not_tell_the_state_of_one_in_conflict_with_it(void **state) {
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

static void in_a_new_lineage_a_unit_of_the_host_is_told_as_foreign_before_any_order_is_obeyed(void **state) {
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
        while (has_order(room, "web.service")) { /* until the lineage was taken */
                assert_true(is_told_as_foreign(room, "ssh.service"));
                host_pause(room->host, 20);
        }
        assert_true(is_told_as_foreign(room, "ssh.service"));
}

/* In what this host has noted, 'field' gets another value of the same length or less. */
static void records_that_are_read_in_part_for_want_of_memory_stay_on_disk(void **state) {
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

/* Another daemon had noted it, and died before the stop. */
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

/* The unit has stopped for another text, the leader is lost, and StartUnit is refused or never reaches
 * systemd. */
static void the_start_of_a_replacement_is_tried_again_without_the_cluster(void **state) {
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

/* The order has come, and the leader is lost, while the unit is being stopped for another text. */
static void a_replacement_is_not_finished_once_an_order_to_stop_has_come(void **state) {
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

static void a_registry_that_is_older_than_what_this_host_has_acted_on_orders_nothing(void **state) {
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

        /* And it was that alone. */
        agent_close(room);
        change_record(room, "\"floor\":", "1");
        agent_open(room);
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(room->fake->stops, 1);
}

static void with_a_disk_that_takes_no_records_orders_are_obeyed_all_the_same(void **state) {
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

        turns = loop_turns(room->host->loop)->n; /* what cannot be written is not tried without end */
        host_pause(room->host, QUIET_MS);
        assert_true(loop_turns(room->host->loop)->n - turns < QUIET_MS);
}

static void a_removed_folder_of_records_is_made_again_with_all_of_them_and_that_is_logged_once(void **state) {
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

/* What the notes on disk say at the very moment in which systemd is called. */
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

        /* An order to run that were still there would start again, after a crash, what was to end; and so it
         * is for a version that does not know that it is being stopped. */
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
        assert_non_null(strstr(witness.at_stop, "\"stopping\":true"));
        assert_non_null(strstr(witness.at_stop, "\"order\":\"load\""));
        assert_null(strstr(witness.at_stop, "\"order\":\"run\""));
        room->systemd->ops = witness.ops;
        free(TAKE_PTR(witness.at_start));
        free(TAKE_PTR(witness.at_stop));
}

static void a_lost_start_of_a_unit_that_waits_for_another_one_is_made_when_that_is_back(void **state) {
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

static void a_start_that_never_reached_systemd_is_made_again(void **state) {
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

static void a_start_whose_answer_was_lost_is_not_made_twice(void **state) {
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

        /* And that it ends by itself, and is forgotten by systemd, starts it no second time. */
        u = fake_bus_unit(room->fake, "web.service", "loaded", "inactive", "dead");
        snprintf(u->fragment, sizeof(u->fragment), "%s/web.service", room->folder);
        fake_bus_changed(room->fake, "web.service");
        UNTIL(room, says(room, "web.service", "inactive"));
        host_pause(room->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(room->fake->starts, 1);
}

static void while_systemd_reloads_nothing_is_gone(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service", ONE);
        fake_bus_reloading(room->fake, true);
        fake_bus_unit(room->fake, "web.service", "not-found", "inactive",
                      "dead"); /* as it looks from within a reload */
        fake_bus_changed(room->fake, "web.service");
        host_pause(room->host, QUIET_MS);
        assert_true(says(room, "web.service", "active"));
        assert_int_equal(room->fake->starts, 1);
}

static void a_unit_that_systemd_refuses_is_tried_again_later_and_others_go_on(void **state) {
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

static void a_start_that_systemd_refuses_is_made_later(void **state) {
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

/* The leak checker sees whether it is. */
static void an_agent_that_ends_during_a_call_is_freed_with_the_answer(void **state) {
        Fixture *room = *state;

        room->fake->hold = "StartUnit";
        host_unit(room->host, "web.service", ONE, TARGET_LAUNCHED);
        host_order(room->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(room, room->fake->n_held == 1);
        room->agent = agent_free(room->agent);
        fake_bus_release(room->fake);
}

static void an_order_is_obeyed_as_soon_as_this_host_has_caught_up(void **state) {
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
        assert_in_range(loop_now_ms(room->host->loop) - synced_ms, 0,
                        5000); /* not with the next round over all units */
}

/* Before its event: that the order is there is told with the whole registry. */
static void read_registry_again(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Host *h = userdata;

        registry_reset(h->registry);
        host_on_done(h, status, sentence, index);
}

static void an_order_that_comes_with_the_whole_registry_is_obeyed_at_once(void **state) {
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
        assert_in_range(loop_now_ms(h->loop) - ordered_ms, 0,
                        5000); /* not with the next round over all units */
}

static void what_was_asked_of_a_leader_that_is_gone_is_given_up(void **state) {
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

static void what_was_put_off_is_tried_at_once_when_it_is_ordered_anew(void **state) {
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

static void a_host_that_boots_alone_waits_and_then_starts_what_was_assigned(void **state) {
        Fixture *room = *state;

        UNTIL(room, room->fake->connections == 1);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(room->fake->starts, 0);
        assert_false(has_file(room, "web.service", ""));

        UNTIL(room, room->fake->starts == 1);
        assert_true(has_file(room, "web.service", "/bin/one"));
        UNTIL(room, has_file(room, "loaded.service", "/bin/one"));
        host_pause(room->host, QUIET_MS + AGENT_RETRY_MS);
        assert_int_equal(room->fake->starts,
                         1); /* neither what was loaded only nor what had ended for good */
        assert_int_equal(room->fake->stops, 0);
        assert_false(has_file(room, "ended.service", ""));
}

int main(int argc, char *argv[]) {
#define in_a_room(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_a_room(an_ordered_unit_is_written_linked_started_and_told),
                in_a_room(a_loaded_unit_is_not_started),
                in_a_room(
                        a_unit_that_is_stopped_to_be_loaded_only_is_recorded_so_before_and_not_started_again),
                in_a_room(an_order_to_stop_is_obeyed_and_taken_away),
                in_a_room(a_changed_text_is_stopped_and_started_once),
                in_a_room(a_unit_runs_on_until_its_changed_text_can_be_written),
                in_a_room(an_edit_of_our_own_section_stops_nothing),
                in_a_room(a_unit_whose_link_was_taken_away_gets_it_back_and_runs_on),
                in_a_room(a_removed_folder_is_made_anew_with_all_its_files_and_what_runs_runs_on),
                in_a_room(a_unit_of_the_host_is_left_alone_and_told_as_foreign),
                in_a_room(a_unit_that_the_administrator_took_over_is_left_alone_when_it_is_to_go),
                in_a_room(a_unit_that_an_administrator_takes_over_is_seen_as_foreign),
                in_a_room(a_running_unit_whose_name_was_taken_and_given_back_is_told_as_running),
                in_a_room(a_unit_that_runs_on_under_a_taken_name_is_told_as_running_until_it_has_stopped),
                in_a_room(a_unit_whose_install_section_names_one_of_the_host_is_told_as_foreign),
                in_a_room(a_running_unit_stays_when_one_of_its_names_has_become_the_hosts),
                in_a_room(a_template_in_the_folder_or_an_install_section_keeps_no_unit_from_anything),
                in_a_room(a_unit_that_could_not_be_enabled_is_told_as_foreign_and_not_started),
                in_a_room(a_unit_without_memory_for_its_call_is_put_in_force_later),
                in_a_room(units_that_are_ordered_together_are_linked_by_one_call),
                in_a_room(a_link_that_systemd_refuses_keeps_no_other_unit_from_its_install_section),
                in_a_room(of_a_unit_that_flaps_the_first_state_and_the_last_of_a_second_are_told),
                in_a_room(a_start_is_told_once_when_it_is_over),
                in_a_room(a_start_that_never_began_is_told_with_its_reason_until_one_begins),
                in_a_room(a_sidekick_that_systemd_stopped_is_started_again_when_its_unit_is_back),
                in_a_room(a_sidekick_is_not_started_when_its_unit_has_ended_again_before),
                in_a_room(a_sidekick_whose_start_was_refused_starts_with_its_unit_without_the_cluster),
                in_a_room(a_unit_stopped_by_hand_stays_here_though_the_host_took_one_of_its_names),
                in_a_room(a_unit_stopped_for_another_stays_here_though_the_host_took_one_of_its_names),
                in_a_room(a_unit_that_a_conflict_stopped_waits_until_that_has_ended_and_does_not_begin),
                in_a_room(what_else_a_stopped_unit_needs_does_not_keep_it_down),
                in_a_room(other_dependencies_of_a_unit_do_not_keep_it_down_after_a_refused_start),
                in_a_room(an_order_to_run_that_comes_during_a_stop_is_obeyed_after_it),
                in_a_room(a_stop_by_hand_while_a_target_is_on_its_way_stays_so),

                in_a_room(a_sidekick_that_systemd_does_not_begin_is_not_started_each_second),
                in_a_room(a_unit_that_was_stopped_by_hand_stays_so_and_is_not_finished),
                in_a_room(a_unit_that_was_stopped_by_hand_before_a_conflict_stays_so_when_that_is_over),
                in_a_room(a_unit_that_ends_by_itself_is_finished_for_good),
                in_a_room(a_finished_unit_stays_finished_whatever_the_host_runs_under_its_name),
                in_a_room(that_a_unit_finishes_without_the_cluster_outlives_the_daemon),
                in_a_room(a_finished_unit_that_runs_again_with_another_text_is_not_finished),
                in_a_room(a_finished_unit_that_was_started_by_hand_is_replaced_by_its_next_text),
                in_a_room(a_unit_whose_condition_does_not_hold_is_told_so_and_is_not_finished),
                in_a_room(
                        a_service_whose_command_says_that_it_is_not_to_begin_is_told_so_and_is_not_finished),
                in_a_room(how_a_unit_ended_before_is_not_how_a_start_that_never_began_ended),
                in_a_room(a_failed_unit_that_is_reset_is_not_finished),
                in_a_room(a_oneshot_that_ended_without_the_daemon_is_finished_if_it_was_seen_to_run),
                in_a_room(an_order_to_stop_a_unit_without_its_file_stays_until_the_unit_has_stopped),
                in_a_room(the_next_daemon_stops_a_unit_without_its_file),
                in_a_room(a_loaded_unit_that_its_socket_started_is_ours_without_its_file),
                in_a_room(a_former_text_that_is_started_before_systemd_reads_the_new_one_is_stopped_again),
                in_a_room(a_former_text_started_right_before_a_reload_is_stopped_again),
                in_a_room(
                        the_next_daemon_stops_a_former_text_that_was_started_before_systemd_read_the_new_one),
                in_a_room(the_next_daemon_stops_what_was_started_during_a_replacement),
                in_a_room(a_former_text_is_stopped_again_also_where_the_link_of_the_new_one_is_not_answered),
                in_a_room(a_former_text_is_stopped_again_also_where_systemd_was_reloaded_by_somebody_else),
                in_a_room(a_former_text_whose_start_was_not_answered_is_stopped_again),
                in_a_room(what_was_loaded_only_meanwhile_is_no_former_text),
                in_a_room(what_was_started_after_systemd_had_read_its_new_text_runs_on_under_the_next_daemon),
                in_a_room(what_runs_again_is_not_stopped_by_the_next_daemon_when_its_edit_is_taken_back),
                in_a_room(what_runs_is_not_taken_for_a_former_text_when_its_edit_is_taken_back),
                in_a_room(a_unit_whose_file_is_gone_when_its_text_changes_is_stopped_and_started),
                in_a_room(a_unit_that_is_started_while_it_is_unlinked_is_stopped_too),
                in_a_room(when_the_host_came_up_again_in_the_same_boot_its_units_are_started_again),
                in_a_room(a_new_daemon_touches_nothing_that_runs),
                in_a_room(a_daemon_that_lost_its_records_adopts_what_runs),
                in_a_room(in_a_new_lineage_what_runs_is_told_and_no_order_is_obeyed_until_it_was),
                in_a_room(in_a_new_lineage_a_unit_of_the_host_is_told_as_foreign_before_any_order_is_obeyed),
                in_a_room(a_unit_of_the_host_whose_file_systemd_does_not_name_in_time_is_left_alone),
                in_a_room(a_unit_that_the_administrator_took_over_is_not_stopped_for_a_late_answer),
                in_a_room(a_unit_waits_while_systemd_does_not_tell_the_state_of_one_in_conflict_with_it),
                in_a_room(a_replacement_that_another_daemon_had_begun_waits_for_the_cluster),
                in_a_room(a_daemon_that_stops_a_unit_for_its_new_text_starts_it_without_the_cluster),
                in_a_room(the_start_of_a_replacement_is_tried_again_without_the_cluster),
                in_a_room(a_replacement_is_not_finished_once_an_order_to_stop_has_come),
                in_a_room(a_registry_that_is_older_than_what_this_host_has_acted_on_orders_nothing),
                in_a_room(with_a_disk_that_takes_no_records_orders_are_obeyed_all_the_same),
                in_a_room(a_removed_folder_of_records_is_made_again_with_all_of_them_and_that_is_logged_once),
                in_a_room(records_are_on_disk_before_the_calls_that_they_are_about),
                in_a_room(a_lost_start_of_a_unit_that_waits_for_another_one_is_made_when_that_is_back),
                in_a_room(a_start_that_never_reached_systemd_is_made_again),
                in_a_room(records_that_are_read_in_part_for_want_of_memory_stay_on_disk),
                in_a_room(a_start_whose_answer_was_lost_is_not_made_twice),
                in_a_room(while_systemd_reloads_nothing_is_gone),
                in_a_room(a_unit_that_systemd_refuses_is_tried_again_later_and_others_go_on),
                in_a_room(a_start_that_systemd_refuses_is_made_later),
                in_a_room(an_agent_that_ends_during_a_call_is_freed_with_the_answer),
                in_a_room(an_order_is_obeyed_as_soon_as_this_host_has_caught_up),
                in_a_room(an_order_that_comes_with_the_whole_registry_is_obeyed_at_once),
                in_a_room(what_was_asked_of_a_leader_that_is_gone_is_given_up),
                in_a_room(what_was_put_off_is_tried_at_once_when_it_is_ordered_anew),
                cmocka_unit_test_setup_teardown(
                        a_host_that_boots_alone_waits_and_then_starts_what_was_assigned, lonely_room_setup,
                        fixture_teardown),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
