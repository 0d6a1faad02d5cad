/* The endpoints of a host: registered with the states of its units, withdrawn before they stop, and listed in
 * files, with a systemd in virtual time. */
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/features/services/endpoints.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"
#include "tests/sim/service_files.h"

extern const Component services_component;

#define SHOP(options) "[Service]\nExecStart=/bin/shop\n[X-Fleet]\nService=shop\nPort=http:8080\n" options
#define AUTO_SHOP     "[Service]\nExecStart=/bin/shop\n[X-Fleet]\nService=shop\nPort=http:auto\n"
#define CHECKED_SHOP  SHOP("HealthTcp=8080\nHealthIntervalSec=1s\nHealthFailures=1\n")
#define OTHER         "fedcba9876543210fedcba9876543210"
#define OTHER_RECORD                                                                             \
        "{\"address\":\"10.0.0.9\",\"name\":\"beta\",\"ports\":[{\"name\":\"http\",\"port\":80," \
        "\"protocol\":"                                                                          \
        "\"tcp\"}],\"services\":[\"shop\"],\"zone\":\"zone b\"}"

enum { STARTS = 100 };

static SimServiceFiles files;
static void *self;

/* -- A host -- */

static void open_services(Fixture *fixture) {
        static const Component *const components[] = { &services_component, NULL };
        ComponentHost *host = &fixture->host->components;

        host->components = components;
        host->selves = &self;
        host->io.service_files = &files.base;
        snprintf(fixture->host->settings.service_address, ENDPOINT_ADDRESS_SIZE, "10.0.0.2");
        fixture->host->settings.port_first = PORT_RANGE_FIRST;
        fixture->host->settings.port_last = PORT_RANGE_LAST;
        open_agent(fixture);
        fixture->components.agent = fixture->agent;
        assert_int_equal(services_component.open(&fixture->components, &fixture->host->settings, &self, NULL),
                         0);
}

static void close_services(Fixture *fixture) {
        self = services_component.close(self);
        close_agent(fixture);
}

static int setup_at(void **state, unsigned level) {
        int r = faulty_fixture_setup(state);
        Fixture *fixture = *state;

        sim_service_files_init(&files);
        close_agent(fixture);
        if (level > 0)
                host_raise(fixture->host, level);
        open_services(fixture);
        run_pending(fixture);
        return r;
}

static int setup(void **state) {
        return setup_at(state, KV_LEVEL_SERVICES);
}

static int setup_below(void **state) {
        return setup_at(state, KV_LEVEL_SERVICES - 1);
}

static int teardown(void **state) {
        self = services_component.close(self);
        faulty_fixture_teardown(state);
        sim_service_files_clear(&files);
        return 0;
}

static const ClusterEndpoint *endpoint_of(Fixture *fixture, const char *unit) {
        return cluster_endpoint(registry_cluster(fixture->host->registry), fixture->host->id, unit);
}

/* Return whether the file of 'shop' has a line of the unit. */
static bool lists(const char *unit) {
        const char *text = sim_service_file(&files, "shop");
        char end[UNIT_NAME_MAX + 3];

        snprintf(end, sizeof(end), " %s\n", unit);
        return text && strstr(text, end);
}

static void run_shop(Fixture *fixture, const char *unit) {
        assign_to(fixture, unit, AUTO_SHOP, ASSIGNMENT_RUN);
        UNTIL(fixture, endpoint_of(fixture, unit) && lists(unit));
        run_pending(fixture);
}

static void on_written(void *userdata, const KvResult *result) {
        host_on_done(userdata, result->status, "", result->index);
}

static void write_endpoint(Fixture *fixture, const char *unit, const char *machine, KvOp op) {
        char key[LAYOUT_KEY_MAX];
        KvCommand cmd = { .op = op,
                          .key = kv_string(layout_key(key, LAYOUT_ENDPOINT, unit, machine)),
                          .value = kv_string(op == KV_SET ? OTHER_RECORD : ""),
                          .internal = true };
        uint64_t number;

        assert_int_equal(host_wait(fixture->host, kv_propose(fixture->host->store, &cmd, on_written,
                                                             fixture->host, &number)),
                         KV_OK);
}

static void set_presence(Fixture *fixture, Presence presence) {
        const ClusterMachine *m = cluster_machine(registry_cluster(fixture->host->registry),
                                                  fixture->host->id);
        PresenceChange change = { .presence = presence, .expected_index = m->presence_index };

        snprintf(change.machine, sizeof(change.machine), "%s", m->id);
        assert_int_equal(host_wait(fixture->host, registry_presence(fixture->host->registry, 0, &change, 1,
                                                                    host_on_done, fixture->host)),
                         KV_OK);
}

/* -- Pure -- */

#define EXPECT(member, value, code)                               \
        do {                                                      \
                EndpointFacts facts = good;                       \
                                                                  \
                facts.member = value;                             \
                assert_int_equal(endpoint_why_not(&facts), code); \
        } while (false)

static void a_unit_is_registered_unless_there_is_a_reason(void **state) {
        _cleanup_unit_ Unit *unit = NULL, *plain = NULL;
        EndpointFacts good = { .level = true, .runs = true, .passing = true, .address = "10.0.0.2" };

        assert_int_equal(unit_read("a.service", SHOP(""), strlen(SHOP("")), &unit, NULL), 0);
        assert_int_equal(unit_read("a.service", "[Service]\n", 10, &plain, NULL), 0);
        good.text = unit;
        EXPECT(level, true, VERDICT_NONE);
        EXPECT(level, false, VERDICT_ENDPOINT_LEVEL);
        EXPECT(text, NULL, VERDICT_ENDPOINT_NO_SERVICE);
        EXPECT(text, plain, VERDICT_ENDPOINT_NO_SERVICE);
        EXPECT(runs, false, VERDICT_ENDPOINT_NOT_ASSIGNED);
        EXPECT(passing, false, VERDICT_ENDPOINT_NOT_PASSING);
        EXPECT(crashed, true, VERDICT_ENDPOINT_CRASHED);
        EXPECT(address, "", VERDICT_ENDPOINT_NO_ADDRESS);
        EXPECT(n_others, ENDPOINTS_MAX - 1, VERDICT_NONE);
        EXPECT(n_others, ENDPOINTS_MAX, VERDICT_ENDPOINTS_FULL);
}

/* -- Registration -- */

static void a_unit_is_registered_with_its_state_and_listed(void **state) {
        Fixture *fixture = *state;
        const ClusterEndpoint *e;
        char line[400], name[ENDPOINT_NAME_SIZE];

        assign_to(fixture, "shop@1.service", SHOP(""), ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "shop@1.service", "active"));
        e = endpoint_of(fixture, "shop@1.service");
        assert_non_null(e);
        assert_string_equal(e->record.address, "10.0.0.2");
        assert_string_equal(e->record.services[0], "shop");

        assert_int_equal(e->index, cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                                 "shop@1.service")
                                                   ->index +
                                           1);
        UNTIL(fixture, lists("shop@1.service"));
        snprintf(line, sizeof(line), "%s 10.0.0.2 8080 tcp http %s - shop@1.service\n",
                 endpoint_name(name, e->record.name, fixture->host->id, "shop@1.service"), fixture->host->id);
        assert_string_equal(sim_service_file(&files, "shop"), line);
        UNTIL(fixture, sim_service_file(&files, SERVICES_HOST));
        assert_non_null(strstr(sim_service_file(&files, SERVICES_HOST), " complete\n"));
}

static void below_the_feature_level_there_is_no_key_and_no_file(void **state) {
        Fixture *fixture = *state;

        assign_to(fixture, "shop@1.service", SHOP(""), ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "shop@1.service", "active"));
        run_ms(fixture, 12000);
        run_pending(fixture);
        assert_null(endpoint_of(fixture, "shop@1.service"));
        assert_false(files.exists);

        host_raise(fixture->host, KV_LEVEL_SERVICES);
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service") && lists("shop@1.service"));
}

/* An attached host that starts may have its endpoints in the view before it knows the level. */
static void until_the_feature_level_is_known_a_registration_stays(void **state) {
        Fixture *fixture = *state;

        write_endpoint(fixture, "shop@1.service", fixture->host->id, KV_SET);
        assign_to(fixture, "shop@1.service", SHOP(""), ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "shop@1.service", "active"));
        run_ms(fixture, 12000);
        run_pending(fixture);
        assert_non_null(endpoint_of(fixture, "shop@1.service"));

        host_raise(fixture->host, KV_LEVEL_SERVICES);
        UNTIL(fixture, lists("shop@1.service") &&
                               streq(endpoint_of(fixture, "shop@1.service")->record.address, "10.0.0.2"));
}

/* A daemon that starts may have a tree of long ago. */
static void until_the_tree_is_current_its_feature_level_removes_no_line(void **state) {
        Fixture *fixture = *state;

        run_shop(fixture, "shop@1.service");
        leader.gone = true;
        leader.level = KV_LEVEL_SERVICES - 1;
        close_services(fixture);
        open_services(fixture);
        run_ms(fixture, 5000);
        leader.gone = false;
        leader.level = 0;
        for (unsigned i = 0; i < 5000; i++) {
                assert_true(lists("shop@1.service"));
                run_ms(fixture, 1);
        }
        run_pending(fixture);
        assert_true(endpoint_of(fixture, "shop@1.service"));
}

static void starts_with_services_make_no_more_transactions(void **state) {
        Fixture *fixture = *state;
        uint64_t n[2];
        char unit[32];

        for (unsigned services = 0; services < 2; services++) {
                uint64_t before = registry_counts(fixture->host->registry)->done;

                for (unsigned i = 0; i < STARTS; i++) {
                        snprintf(unit, sizeof(unit), "%s@%u.service", services ? "shop" : "plain", i);
                        assign_to(fixture, unit, services ? AUTO_SHOP : "[Service]\nExecStart=/bin/one\n",
                                  ASSIGNMENT_RUN);
                        UNTIL(fixture, is_published(fixture, unit, "active"));
                        assert_int_equal(endpoint_of(fixture, unit) != NULL, services);
                }
                run_pending(fixture);
                n[services] = registry_counts(fixture->host->registry)->done - before;
        }
        assert_int_equal(n[0], n[1]);
}

static void a_unit_that_ends_leaves_the_file_at_once_and_then_its_key(void **state) {
        Fixture *fixture = *state;

        run_shop(fixture, "shop@1.service");
        leader.gone = true;
        sim_systemd_end(fixture->systemd, "shop@1.service");
        for (uint64_t end_ms = world_now_ms(fixture->world) + 30; lists("shop@1.service"); run_ms(fixture, 1))
                assert_true(world_now_ms(fixture->world) < end_ms);
        assert_null(sim_service_file(&files, "shop"));
        leader.gone = false;
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
}

static void a_unit_that_crashes_in_a_loop_is_registered_when_it_is_available(void **state) {
        Fixture *fixture = *state;

        run_shop(fixture, "shop@1.service");
        sim_systemd_restart(fixture->systemd, "shop@1.service");
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
        for (unsigned i = 0; i < UPDATE_WATCH_MS - 1500; i += 100) {
                run_ms(fixture, 100);
                assert_false(lists("shop@1.service"));
        }
        UNTIL(fixture, lists("shop@1.service") && endpoint_of(fixture, "shop@1.service"));
}

static void a_check_that_fails_withdraws(void **state) {
        Fixture *fixture = *state;

        assign_to(fixture, "shop@1.service", CHECKED_SHOP, ASSIGNMENT_RUN);
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service") && lists("shop@1.service"));
        run_ms(fixture, UPDATE_WATCH_MS + 1000);
        fixture->probed.passed = false;
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
        assert_false(lists("shop@1.service"));
        fixture->probed.passed = true;
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service") && lists("shop@1.service"));
}

static void a_unit_that_ended_while_the_daemon_was_down_is_withdrawn_when_units_are_listed(void **state) {
        Fixture *fixture = *state;

        run_shop(fixture, "shop@1.service");
        run_shop(fixture, "shop@2.service");
        close_services(fixture);
        sim_systemd_end(fixture->systemd, "shop@1.service");
        run_ms(fixture, 1000);
        open_services(fixture);
        assert_true(lists("shop@1.service") && endpoint_of(fixture, "shop@1.service"));
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service") && !lists("shop@1.service"));
        assert_true(lists("shop@2.service") && endpoint_of(fixture, "shop@2.service"));
}

static void a_host_that_is_not_up_registers_when_it_is(void **state) {
        Fixture *fixture = *state;

        run_shop(fixture, "shop@1.service");
        for (Presence presence = PRESENCE_AWAY; presence <= PRESENCE_LOST; presence++) {
                set_presence(fixture, presence);
                run_pending(fixture);
                assert_int_equal(endpoint_of(fixture, "shop@1.service") != NULL, presence == PRESENCE_AWAY);
                assert_true(lists("shop@1.service"));
        }
        set_presence(fixture, PRESENCE_UP);
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service"));
}

static void what_has_changed_meanwhile_is_corrected(void **state) {
        Fixture *fixture = *state;

        run_shop(fixture, "shop@1.service");
        write_endpoint(fixture, "shop@1.service", fixture->host->id, KV_DELETE);
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service"));
        write_endpoint(fixture, "shop@1.service", fixture->host->id, KV_SET); /* with another address */
        UNTIL(fixture, streq(endpoint_of(fixture, "shop@1.service")->record.address, "10.0.0.2"));
        write_endpoint(fixture, "gone.service", fixture->host->id, KV_SET);
        UNTIL(fixture, !endpoint_of(fixture, "gone.service"));
}

/* -- Stops -- */

static uint64_t stopped_ms;
static bool was_listed, was_registered;

static int stop_checked(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        stopped_ms = world_now_ms(running->world);
        was_listed = lists(name);
        was_registered = endpoint_of(running, name) != NULL;
        return real_ops->stop(s, name, done, userdata);
}

static void an_assigned_stop_follows_the_withdrawal(void **state) {
        Fixture *fixture = *state;
        uint64_t begun_ms;

        bent.stop = stop_checked;
        run_shop(fixture, "shop@1.service");
        host_order(fixture->host, "shop@1.service", ASSIGNMENT_STOP);
        begun_ms = world_now_ms(fixture->world);
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
        assert_true(sim_systemd_runs(fixture->systemd, "shop@1.service"));
        UNTIL(fixture, is_gone(fixture, "shop@1.service"));
        assert_false(was_listed || was_registered);
        assert_true(stopped_ms - begun_ms >= WITHDRAW_MS);
}

static void a_registration_that_is_under_way_is_withdrawn_too(void **state) {
        Fixture *fixture = *state;
        uint64_t begun_ms;

        bent.stop = stop_checked;
        run_shop(fixture, "shop@1.service");
        host_order(fixture->host, "shop@1.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
        write_endpoint(fixture, "shop@1.service", fixture->host->id, KV_SET);
        begun_ms = world_now_ms(fixture->world);
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
        assert_true(world_now_ms(fixture->world) - begun_ms < 200);
        UNTIL(fixture, is_gone(fixture, "shop@1.service"));
        assert_false(was_listed || was_registered);
}

static void a_new_text_withdraws_and_registers(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/new\n[X-Fleet]\nService=shop\nService=store\n";
        Fixture *fixture = *state;

        bent.stop = stop_checked;
        run_shop(fixture, "shop@1.service");
        assign_to(fixture, "shop@1.service", text, ASSIGNMENT_RUN);
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service"));
        assert_false(was_listed || was_registered);
        assert_string_equal(endpoint_of(fixture, "shop@1.service")->record.services[1], "store");
        UNTIL(fixture, lists("shop@1.service") && sim_service_file(&files, "store"));
}

static void a_withdrawal_that_nothing_acknowledges_delays_the_stop_for_a_second(void **state) {
        Fixture *fixture = *state;
        uint64_t begun_ms;

        bent.stop = stop_checked;
        run_shop(fixture, "shop@1.service");
        host_order(fixture->host, "shop@1.service", ASSIGNMENT_STOP);
        begun_ms = world_now_ms(fixture->world);
        for (stopped_ms = 0; stopped_ms == 0; run_ms(fixture, 1)) /* the store is not run meanwhile */
                assert_true(world_now_ms(fixture->world) < begun_ms + 10000);
        assert_in_range(stopped_ms - begun_ms, 1000 + WITHDRAW_MS, 1000 + WITHDRAW_MS + 100);
        assert_false(was_listed);
}

/* Other hosts know the key, this host has the line: the later one counts. */
static void a_stop_after_another_withdrawal_waits_for_the_rest_of_the_time(void **state) {
        Fixture *fixture = *state;
        uint64_t withdrawn_ms;

        bent.stop = stop_checked;
        for (unsigned lost = 0; lost < 2; lost++) {
                fixture->probed.passed = true;
                assign_to(fixture, "shop@1.service", CHECKED_SHOP, ASSIGNMENT_RUN);
                UNTIL(fixture, endpoint_of(fixture, "shop@1.service") && lists("shop@1.service"));
                if (lost)
                        set_presence(fixture, PRESENCE_LOST);
                else
                        leader.gone = true;
                fixture->probed.passed = false;
                while (lists("shop@1.service"))
                        run_ms(fixture, 1);
                if (!lost)
                        run_ms(fixture, 5000);
                assert_int_equal(endpoint_of(fixture, "shop@1.service") == NULL, lost);
                leader.gone = false;
                UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
                withdrawn_ms = world_now_ms(fixture->world);
                host_order(fixture->host, "shop@1.service", ASSIGNMENT_STOP);
                UNTIL(fixture, is_gone(fixture, "shop@1.service"));
                assert_in_range(stopped_ms - withdrawn_ms, WITHDRAW_MS, WITHDRAW_MS + 200);
        }
}

static void a_stop_that_is_not_wanted_any_more_registers_the_unit_again(void **state) {
        Fixture *fixture = *state;

        bent.stop = stop_checked;
        stopped_ms = 0;
        assign_to(fixture, "shop@1.service", SHOP("WithdrawSec=10min\n"), ASSIGNMENT_RUN);
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service"));
        host_order(fixture->host, "shop@1.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !endpoint_of(fixture, "shop@1.service"));
        host_order(fixture->host, "shop@1.service", ASSIGNMENT_RUN);
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service") && lists("shop@1.service"));
        assert_int_equal(stopped_ms, 0);
}

/* -- Files -- */

static void endpoints_of_others_are_listed_while_the_daemon_is_restarted(void **state) {
        Fixture *fixture = *state;
        unsigned n_writes;

        run_shop(fixture, "shop@1.service");
        write_endpoint(fixture, "shop@2.service", OTHER, KV_SET);
        UNTIL(fixture, lists("shop@2.service"));
        assert_non_null(
                strstr(sim_service_file(&files, "shop"), " 10.0.0.9 80 tcp http " OTHER " zone%20b "));
        run_ms(fixture, 1000);
        run_pending(fixture);
        n_writes = files.n_writes;

        /* Without a leader, what was known stays, but for a unit that ends. */
        leader.gone = true;
        close_services(fixture);
        open_services(fixture);
        run_ms(fixture, 5000);
        assert_true(lists("shop@1.service") && lists("shop@2.service"));
        sim_systemd_end(fixture->systemd, "shop@1.service");
        run_ms(fixture, 100);
        assert_true(!lists("shop@1.service") && lists("shop@2.service"));
        assert_non_null(strstr(sim_service_file(&files, SERVICES_HOST), " complete\n"));
        assert_true(files.n_writes <= n_writes + 3);

        leader.gone = false;
        write_endpoint(fixture, "shop@2.service", OTHER, KV_DELETE);
        UNTIL(fixture, !sim_service_file(&files, "shop"));
}

static void an_idle_host_writes_nothing_and_a_folder_that_was_removed_is_made_again(void **state) {
        Fixture *fixture = *state;
        unsigned n_writes;

        run_shop(fixture, "shop@1.service");
        run_ms(fixture, 1000);
        run_pending(fixture);
        n_writes = files.n_writes;
        run_ms(fixture, 60000);
        run_pending(fixture);
        assert_int_equal(files.n_writes, n_writes);
        sim_service_files_clear(&files);
        count_messages("the folder of the files of services was removed");
        run_ms(fixture, 12000);
        assert_true(lists("shop@1.service") && sim_service_file(&files, SERVICES_HOST));
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
}

static void a_disk_that_is_full_is_logged_once(void **state) {
        Fixture *fixture = *state;

        files.error = -ENOSPC;
        count_messages("Failed to write the files of services");
        assign_to(fixture, "shop@1.service", SHOP(""), ASSIGNMENT_RUN);
        UNTIL(fixture, endpoint_of(fixture, "shop@1.service"));
        run_ms(fixture, 5000);
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
        files.error = 0;
        UNTIL(fixture, lists("shop@1.service"));
}

static void the_folder_can_be_read_by_all(void **state) {
        char *folder = scratch_new(), *path = scratch_path(folder, "services"), *text = NULL, **names;
        ServiceFiles *f;
        struct stat st;
        mode_t mask = umask(0077);
        size_t n;

        assert_int_equal(service_folder_new(&f, path), 0);
        assert_int_equal(f->ops->list(f, &names, &n), -ENOENT);
        assert_int_equal(f->ops->open(f), 1);
        assert_int_equal(f->ops->open(f), 0);
        assert_int_equal(f->ops->write(f, "shop", "one\n", 4), 0);
        assert_int_equal(f->ops->write(f, "shop", "two\n", 4), 0);
        assert_int_equal(f->ops->read(f, "shop", &text), 0);
        assert_string_equal(text, "two\n");
        assert_int_equal(f->ops->list(f, &names, &n), 0);
        assert_int_equal(n, 1);
        strings_free(names, n);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755);
        free(path);
        path = scratch_path(folder, "services/shop");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        assert_int_equal(f->ops->remove(f, "shop"), 0);
        assert_int_equal(f->ops->remove(f, "shop"), 0);
        assert_int_equal(f->ops->read(f, "shop", &text), -ENOENT);
        umask(mask);
        service_folder_free(f);
        free(text);
        free(path);
        scratch_free(folder);
}

#define in_a_host(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_unit_is_registered_unless_there_is_a_reason),
                in_a_host(a_unit_is_registered_with_its_state_and_listed),
                cmocka_unit_test_setup_teardown(below_the_feature_level_there_is_no_key_and_no_file,
                                                setup_below, teardown),
                cmocka_unit_test_setup_teardown(until_the_feature_level_is_known_a_registration_stays,
                                                setup_below, teardown),
                in_a_host(until_the_tree_is_current_its_feature_level_removes_no_line),
                in_a_host(starts_with_services_make_no_more_transactions),
                in_a_host(a_unit_that_ends_leaves_the_file_at_once_and_then_its_key),
                in_a_host(a_unit_that_crashes_in_a_loop_is_registered_when_it_is_available),
                in_a_host(a_check_that_fails_withdraws),
                in_a_host(a_unit_that_ended_while_the_daemon_was_down_is_withdrawn_when_units_are_listed),
                in_a_host(a_host_that_is_not_up_registers_when_it_is),
                in_a_host(what_has_changed_meanwhile_is_corrected),
                in_a_host(an_assigned_stop_follows_the_withdrawal),
                in_a_host(a_registration_that_is_under_way_is_withdrawn_too),
                in_a_host(a_new_text_withdraws_and_registers),
                in_a_host(a_withdrawal_that_nothing_acknowledges_delays_the_stop_for_a_second),
                in_a_host(a_stop_after_another_withdrawal_waits_for_the_rest_of_the_time),
                in_a_host(a_stop_that_is_not_wanted_any_more_registers_the_unit_again),
                in_a_host(endpoints_of_others_are_listed_while_the_daemon_is_restarted),
                in_a_host(an_idle_host_writes_nothing_and_a_folder_that_was_removed_is_made_again),
                in_a_host(a_disk_that_is_full_is_logged_once),
                cmocka_unit_test(the_folder_can_be_read_by_all),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
