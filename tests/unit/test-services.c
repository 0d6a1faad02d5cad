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

#define SHOP(options) "[Service]\nExecStart=/bin/shop\n[X-Fleet]\nService=shop\nPort=http:8080\n" options
#define AUTO_SHOP     "[Service]\nExecStart=/bin/shop\n[X-Fleet]\nService=shop\nPort=http:auto\n"
#define CHECKED_SHOP  SHOP("HealthTcp=8080\nHealthIntervalSec=1s\nHealthFailures=1\n")
#define FIRST         "shop@1.service"
#define OTHER         "fedcba9876543210fedcba9876543210"
#define OTHER_RECORD                                                                             \
        "{\"address\":\"10.0.0.9\",\"name\":\"beta\",\"ports\":[{\"name\":\"http\",\"port\":80," \
        "\"protocol\":"                                                                          \
        "\"tcp\"}],\"services\":[\"shop\"],\"zone\":\"zone b\"}"

enum { STARTS = 100 };

static SimServiceFiles files;

/* -- A host -- */

static int setup_at(void **state, unsigned level) {
        int r = faulty_fixture_setup(state);
        Host *host = running->host;

        sim_service_files_init(&files);
        host->components.io.service_files = &files.base;
        host->settings.port_first = PORT_RANGE_FIRST;
        host->settings.port_last = PORT_RANGE_LAST;
        host_raise(host, level);
        close_agent(running);
        open_services(running);
        run_pending(running);
        return r;
}

static int setup(void **state) {
        return setup_at(state, KV_LEVEL_SERVICES);
}

static int setup_below(void **state) {
        return setup_at(state, KV_LEVEL_SERVICES - 1);
}

static int teardown(void **state) {
        int r = faulty_fixture_teardown(state);

        sim_service_files_clear(&files);
        return r;
}

#define AWAIT(expression) UNTIL(running, expression)

static const ClusterEndpoint *endpoint_of(const char *unit) {
        return cluster_endpoint(registry_cluster(running->host->registry), running->host->id, unit);
}

/* Return whether the file of 'shop' has a line of the unit. */
static bool lists(const char *unit) {
        const char *text = sim_service_file(&files, "shop");
        char end[UNIT_NAME_MAX + 3];

        snprintf(end, sizeof(end), " %s\n", unit);
        return text && strstr(text, end);
}

/* Return whether key and file have the unit. */
static bool is_there(const char *unit) {
        return endpoint_of(unit) && lists(unit);
}

static void run_text(const char *unit, const char *text) {
        assign_to(running, unit, text, ASSIGNMENT_RUN);
        AWAIT(is_there(unit));
        run_pending(running);
}

static void run_shop(const char *unit) {
        run_text(unit, AUTO_SHOP);
}

static void reopen(void) {
        close_services(running);
        open_services(running);
}

static void on_written(void *userdata, const KvResult *result) {
        host_on_done(userdata, result->status, "", result->index);
}

static void write_key(LayoutKind kind, const char *unit, const char *machine, const char *value) {
        char key[LAYOUT_KEY_MAX];
        KvCommand cmd = { .op = value ? KV_SET : KV_DELETE,
                          .key = kv_string(layout_key(key, kind, unit, machine)),
                          .value = kv_string(value),
                          .internal = true };
        uint64_t number;

        assert_int_equal(host_wait(running->host, kv_propose(running->host->store, &cmd, on_written,
                                                             running->host, &number)),
                         KV_OK);
}

static void write_endpoint(const char *unit, const char *machine, KvOp op) {
        write_key(LAYOUT_ENDPOINT, unit, machine, op == KV_SET ? OTHER_RECORD : NULL);
}

static void set_presence(Presence presence) {
        const Host *host = running->host;
        const ClusterMachine *m = cluster_machine(registry_cluster(host->registry), host->id);
        PresenceChange change = { .presence = presence, .expected_index = m->presence_index };

        snprintf(change.machine, sizeof(change.machine), "%s", m->id);
        assert_int_equal(host_wait(running->host, registry_presence(host->registry, 0, &change, 1,
                                                                    host_on_done, running->host)),
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
        const Cluster *c = registry_cluster(running->host->registry);
        char line[400], name[ENDPOINT_NAME_SIZE];
        const ClusterEndpoint *e;

        assign_to(running, FIRST, SHOP(""), ASSIGNMENT_RUN);
        AWAIT(is_published(running, FIRST, "active"));
        e = endpoint_of(FIRST);
        assert_non_null(e);
        assert_string_equal(e->record.address, "10.0.0.2");
        assert_string_equal(e->record.services[0], "shop");
        assert_int_equal(e->index, cluster_state(c, running->host->id, FIRST)->index + 1);
        AWAIT(sim_service_file(&files, SERVICES_HOST));
        snprintf(line, sizeof(line), "%s 10.0.0.2 8080 tcp http %s - " FIRST "\n",
                 endpoint_name(name, e->record.name, running->host->id, FIRST), running->host->id);
        assert_string_equal(sim_service_file(&files, "shop"), line);
        assert_non_null(strstr(sim_service_file(&files, SERVICES_HOST), " complete\n"));
}

/* An attached host that starts may have its endpoints in the view before it knows the level: they stay. */
static void below_the_feature_level_there_is_no_new_key_and_no_file(void **state) {
        static const char old[] = "shop@2.service";

        write_endpoint(old, running->host->id, KV_SET);
        assign_to(running, FIRST, SHOP(""), ASSIGNMENT_RUN);
        assign_to(running, old, SHOP(""), ASSIGNMENT_RUN);
        AWAIT(is_published(running, FIRST, "active") && is_published(running, old, "active"));
        run_ms(running, 12000);
        run_pending(running);
        assert_true(!endpoint_of(FIRST) && endpoint_of(old) && !files.exists);

        host_raise(running->host, KV_LEVEL_SERVICES);
        AWAIT(is_there(FIRST) && lists(old) && streq(endpoint_of(old)->record.address, "10.0.0.2"));
}

/* A daemon that starts may have a tree of long ago. */
static void until_the_tree_is_current_its_feature_level_removes_no_line(void **state) {
        run_shop(FIRST);
        leader = (Leader) { .gone = true, .level = KV_LEVEL_SERVICES - 1 };
        reopen();
        run_ms(running, 5000);
        leader = (Leader) {};
        for (unsigned i = 0; i < 5000; i++) {
                assert_true(lists(FIRST));
                run_ms(running, 1);
        }
        run_pending(running);
        assert_true(endpoint_of(FIRST));
}

static void starts_with_services_make_no_more_transactions(void **state) {
        static const char *const texts[] = { "[Service]\nExecStart=/bin/one\n", AUTO_SHOP };
        uint64_t n[2];
        char unit[32];

        for (unsigned services = 0; services < 2; services++) {
                uint64_t before = registry_counts(running->host->registry)->done;

                for (unsigned i = 0; i < STARTS; i++) {
                        snprintf(unit, sizeof(unit), "%s@%u.service", services ? "shop" : "plain", i);
                        assign_to(running, unit, texts[services], ASSIGNMENT_RUN);
                        AWAIT(is_published(running, unit, "active"));
                        assert_int_equal(endpoint_of(unit) != NULL, services);
                }
                run_pending(running);
                n[services] = registry_counts(running->host->registry)->done - before;
        }
        assert_int_equal(n[0], n[1]);
}

static void a_unit_that_ends_leaves_the_file_at_once_and_then_its_key(void **state) {
        run_shop(FIRST);
        leader.gone = true;
        sim_systemd_end(running->systemd, FIRST);
        for (uint64_t end_ms = world_now_ms(running->world) + 30; lists(FIRST); run_ms(running, 1))
                assert_true(world_now_ms(running->world) < end_ms);
        assert_null(sim_service_file(&files, "shop"));
        leader.gone = false;
        AWAIT(!endpoint_of(FIRST));
}

static void a_unit_that_crashes_in_a_loop_is_registered_when_it_is_available(void **state) {
        run_shop(FIRST);
        sim_systemd_restart(running->systemd, FIRST);
        AWAIT(!endpoint_of(FIRST));
        for (unsigned i = 0; i < UPDATE_WATCH_MS - 1500; i += 100) {
                run_ms(running, 100);
                assert_false(lists(FIRST));
        }
        AWAIT(is_there(FIRST));
}

static void a_check_that_fails_withdraws(void **state) {
        run_text(FIRST, CHECKED_SHOP);
        run_ms(running, UPDATE_WATCH_MS + 1000);
        running->probed.passed = false;
        AWAIT(!endpoint_of(FIRST));
        assert_false(lists(FIRST));
        running->probed.passed = true;
        AWAIT(is_there(FIRST));
}

static void a_unit_that_ended_while_the_daemon_was_down_is_withdrawn_when_units_are_listed(void **state) {
        run_shop(FIRST);
        run_shop("shop@2.service");
        close_services(running);
        sim_systemd_end(running->systemd, FIRST);
        run_ms(running, 1000);
        open_services(running);
        assert_true(is_there(FIRST));
        AWAIT(!endpoint_of(FIRST) && !lists(FIRST));
        assert_true(is_there("shop@2.service"));
}

/* After a power cut, for example: the unit was destroyed meanwhile. */
static void a_unit_that_is_removed_before_its_host_knows_the_feature_level_is_withdrawn(void **state) {
        run_shop(FIRST);
        close_services(running);
        sim_systemd_end(running->systemd, FIRST);
        host_order(running->host, FIRST, ASSIGNMENT_STOP);
        leader.level = KV_LEVEL_SERVICES - 1;
        open_services(running);
        AWAIT(!cluster_assignment(registry_cluster(running->host->registry), running->host->id, FIRST));
        assert_null(endpoint_of(FIRST));
}

static void a_host_that_is_not_up_registers_when_it_is(void **state) {
        run_shop(FIRST);
        for (Presence presence = PRESENCE_AWAY; presence <= PRESENCE_LOST; presence++) {
                set_presence(presence);
                run_pending(running);
                assert_int_equal(endpoint_of(FIRST) != NULL, presence == PRESENCE_AWAY);
                assert_true(lists(FIRST));
        }
        set_presence(PRESENCE_UP);
        AWAIT(endpoint_of(FIRST));
}

static void what_has_changed_meanwhile_is_corrected(void **state) {
        run_shop(FIRST);
        write_endpoint(FIRST, running->host->id, KV_DELETE);
        AWAIT(endpoint_of(FIRST));
        write_endpoint(FIRST, running->host->id, KV_SET); /* with another address */
        AWAIT(streq(endpoint_of(FIRST)->record.address, "10.0.0.2"));
        write_endpoint("gone.service", running->host->id, KV_SET);
        AWAIT(!endpoint_of("gone.service"));
}

/* -- Stops -- */

static uint64_t stopped_ms;
static bool was_listed, was_registered;

static int stop_checked(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        stopped_ms = world_now_ms(running->world);
        was_listed = lists(name);
        was_registered = endpoint_of(name) != NULL;
        return real_ops->stop(s, name, done, userdata);
}

static int setup_stops(void **state) {
        int r = setup(state);

        bent.stop = stop_checked;
        stopped_ms = 0;
        return r;
}

/* Also if its registration was under way: 'again'. */
static void an_assigned_stop_follows_the_withdrawal(void **state) {
        for (unsigned again = 0; again < 2; again++) {
                uint64_t begun_ms;

                run_shop(FIRST);
                host_order(running->host, FIRST, ASSIGNMENT_STOP);
                begun_ms = world_now_ms(running->world);
                AWAIT(!endpoint_of(FIRST));
                if (again) {
                        write_endpoint(FIRST, running->host->id, KV_SET);
                        begun_ms = world_now_ms(running->world);
                        AWAIT(!endpoint_of(FIRST));
                        assert_true(world_now_ms(running->world) - begun_ms < 200);
                }
                assert_true(sim_systemd_runs(running->systemd, FIRST));
                AWAIT(is_gone(running, FIRST));
                assert_false(was_listed || was_registered);
                assert_true(stopped_ms - begun_ms >= WITHDRAW_MS);
        }
}

static void a_new_text_withdraws_and_registers(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/new\n[X-Fleet]\nService=shop\nService=store\n";

        run_shop(FIRST);
        assign_to(running, FIRST, text, ASSIGNMENT_RUN);
        AWAIT(!endpoint_of(FIRST));
        AWAIT(is_there(FIRST) && sim_service_file(&files, "store"));
        assert_false(was_listed || was_registered);
        assert_string_equal(endpoint_of(FIRST)->record.services[1], "store");
}

static void a_withdrawal_that_nothing_acknowledges_delays_the_stop_for_a_second(void **state) {
        uint64_t begun_ms;

        run_shop(FIRST);
        host_order(running->host, FIRST, ASSIGNMENT_STOP);
        begun_ms = world_now_ms(running->world);
        for (; stopped_ms == 0; run_ms(running, 1)) /* the store is not run meanwhile */
                assert_true(world_now_ms(running->world) < begun_ms + 10000);
        assert_in_range(stopped_ms - begun_ms, 1000 + WITHDRAW_MS, 1000 + WITHDRAW_MS + 100);
        assert_false(was_listed);
}

/* Other hosts know the key, this host has the line: the later one counts. */
static void a_stop_after_another_withdrawal_waits_for_the_rest_of_the_time(void **state) {
        for (unsigned lost = 0; lost < 2; lost++) {
                uint64_t withdrawn_ms;

                running->probed.passed = true;
                run_text(FIRST, CHECKED_SHOP);
                if (lost)
                        set_presence(PRESENCE_LOST);
                else
                        leader.gone = true;
                running->probed.passed = false;
                while (lists(FIRST))
                        run_ms(running, 1);
                if (!lost)
                        run_ms(running, 5000);
                assert_int_equal(endpoint_of(FIRST) == NULL, lost);
                leader.gone = false;
                AWAIT(!endpoint_of(FIRST));
                withdrawn_ms = world_now_ms(running->world);
                host_order(running->host, FIRST, ASSIGNMENT_STOP);
                AWAIT(is_gone(running, FIRST));
                assert_in_range(stopped_ms - withdrawn_ms, WITHDRAW_MS, WITHDRAW_MS + 200);
        }
}

static void the_delay_of_a_stop_goes_on_without_a_leader(void **state) {
        uint64_t withdrawn_ms;

        run_text(FIRST, SHOP("WithdrawSec=20s\n"));
        host_order(running->host, FIRST, ASSIGNMENT_STOP);
        AWAIT(!endpoint_of(FIRST));
        withdrawn_ms = world_now_ms(running->world);
        run_ms(running, 5000);
        leader.gone = true;
        agent_state_changed(running->agent);
        for (unsigned i = 0; i < 50; i++) {
                run_ms(running, 100);
                assert_false(lists(FIRST));
        }
        leader.gone = false;
        agent_state_changed(running->agent);
        AWAIT(stopped_ms > 0);
        assert_in_range(stopped_ms - withdrawn_ms, 20000 - 100, 20000 + 200);
}

static void a_stop_that_is_not_wanted_any_more_registers_the_unit_again(void **state) {
        run_text(FIRST, SHOP("WithdrawSec=10min\n"));
        host_order(running->host, FIRST, ASSIGNMENT_STOP);
        AWAIT(!endpoint_of(FIRST));
        host_order(running->host, FIRST, ASSIGNMENT_RUN);
        AWAIT(is_there(FIRST));
        assert_int_equal(stopped_ms, 0);
}

/* -- Files -- */

/* Run until nothing is left to write; return how many files were written. */
static unsigned rest(void) {
        run_ms(running, 1000);
        run_pending(running);
        return files.n_writes;
}

static void endpoints_of_others_are_listed_while_the_daemon_is_restarted(void **state) {
        unsigned n_writes;

        run_shop(FIRST);
        write_endpoint("shop@2.service", OTHER, KV_SET);
        AWAIT(lists("shop@2.service"));
        assert_non_null(
                strstr(sim_service_file(&files, "shop"), " 10.0.0.9 80 tcp http " OTHER " zone%20b "));
        n_writes = rest();

        /* Without a leader, what was known stays, but for a unit that ends. */
        leader.gone = true;
        reopen();
        run_ms(running, 5000);
        assert_true(lists(FIRST) && lists("shop@2.service"));
        sim_systemd_end(running->systemd, FIRST);
        files.read_error = -EMFILE;
        run_ms(running, 3000);
        assert_true(lists("shop@2.service"));
        files.read_error = 0;
        run_ms(running, 2000);
        assert_true(!lists(FIRST) && lists("shop@2.service"));
        assert_non_null(strstr(sim_service_file(&files, SERVICES_HOST), " complete\n"));
        assert_true(files.n_writes <= n_writes + 3);

        leader.gone = false;
        write_endpoint("shop@2.service", OTHER, KV_DELETE);
        AWAIT(!sim_service_file(&files, "shop"));
}

/* A restored tree has no endpoints until hosts have registered theirs again. */
static void after_a_restore_files_keep_their_lines_while_hosts_report(void **state) {
        static const char *const kinds[] = { "recovered", "restored" };

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                _cleanup_text_ Text value = {};
                char lineage[LINEAGE_SIZE];

                write_endpoint("shop@2.service", OTHER, KV_SET);
                AWAIT(lists("shop@2.service"));
                text_printf(&value, "{\"ancestor\":\"0123456789abcdef\",\"index\":1,\"kind\":\"%s\"}",
                            kinds[i]);
                write_key(LAYOUT_LINEAGE,
                          hex64_print(registry_cluster(running->host->registry)->lineage, lineage), NULL,
                          value.chars);
                write_key(LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL, "1");
                write_endpoint("shop@2.service", OTHER, KV_DELETE);
                run_ms(running, 3000);
                assert_int_equal(lists("shop@2.service"), streq(kinds[i], "restored"));
                write_key(LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL, NULL);
                AWAIT(!lists("shop@2.service"));
        }
}

static void an_idle_host_writes_nothing_and_what_was_removed_is_written_again(void **state) {
        static const char *const removed[] = { "shop", SERVICES_HOST };
        unsigned n_writes;

        run_shop(FIRST);
        n_writes = rest();
        run_ms(running, 60000);
        assert_int_equal(rest(), n_writes);
        for (size_t i = 0; i < ELEMENTS(removed); i++) {
                assert_int_equal(files.base.ops->remove(&files.base, removed[i]), 0);
                run_ms(running, 12000);
                assert_non_null(sim_service_file(&files, removed[i]));
        }
        sim_service_files_clear(&files);
        count_messages("the folder of the files of services was removed");
        run_ms(running, 12000);
        assert_true(lists(FIRST) && sim_service_file(&files, SERVICES_HOST));
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
}

static void a_disk_that_is_full_is_logged_once(void **state) {
        files.error = -ENOSPC;
        count_messages("Failed to write the files of services");
        assign_to(running, FIRST, SHOP(""), ASSIGNMENT_RUN);
        AWAIT(endpoint_of(FIRST));
        run_ms(running, 5000);
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
        files.error = 0;
        AWAIT(lists(FIRST));
}

static void the_folder_can_be_read_by_all(void **state) {
        static const struct {
                const char *name;
                mode_t mode;
        } made[] = { { "services", S_IFDIR | 0755 }, { "services/shop", S_IFREG | 0644 } };
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
        for (size_t i = 0; i < ELEMENTS(made); i++) {
                free(path);
                path = scratch_path(folder, made[i].name);
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_mode, made[i].mode);
        }
        assert_int_equal(f->ops->remove(f, "shop"), 0);
        assert_int_equal(f->ops->remove(f, "shop"), 0);
        assert_int_equal(f->ops->read(f, "shop", &text), -ENOENT);
        umask(mask);
        service_folder_free(f);
        free(text);
        free(path);
        scratch_free(folder);
}

int main(int argc, char **argv) {
#define in_a_host(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define with_stops(f) cmocka_unit_test_setup_teardown(f, setup_stops, teardown)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_unit_is_registered_unless_there_is_a_reason),
                in_a_host(a_unit_is_registered_with_its_state_and_listed),
                cmocka_unit_test_setup_teardown(below_the_feature_level_there_is_no_new_key_and_no_file,
                                                setup_below, teardown),
                in_a_host(until_the_tree_is_current_its_feature_level_removes_no_line),
                in_a_host(starts_with_services_make_no_more_transactions),
                in_a_host(a_unit_that_ends_leaves_the_file_at_once_and_then_its_key),
                in_a_host(a_unit_that_crashes_in_a_loop_is_registered_when_it_is_available),
                in_a_host(a_check_that_fails_withdraws),
                in_a_host(a_unit_that_ended_while_the_daemon_was_down_is_withdrawn_when_units_are_listed),
                in_a_host(a_unit_that_is_removed_before_its_host_knows_the_feature_level_is_withdrawn),
                in_a_host(a_host_that_is_not_up_registers_when_it_is),
                in_a_host(what_has_changed_meanwhile_is_corrected),
                with_stops(an_assigned_stop_follows_the_withdrawal),
                with_stops(a_new_text_withdraws_and_registers),
                with_stops(a_withdrawal_that_nothing_acknowledges_delays_the_stop_for_a_second),
                with_stops(a_stop_after_another_withdrawal_waits_for_the_rest_of_the_time),
                with_stops(the_delay_of_a_stop_goes_on_without_a_leader),
                with_stops(a_stop_that_is_not_wanted_any_more_registers_the_unit_again),
                in_a_host(endpoints_of_others_are_listed_while_the_daemon_is_restarted),
                in_a_host(after_a_restore_files_keep_their_lines_while_hosts_report),
                in_a_host(an_idle_host_writes_nothing_and_what_was_removed_is_written_again),
                in_a_host(a_disk_that_is_full_is_logged_once),
                cmocka_unit_test(the_folder_can_be_read_by_all),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
