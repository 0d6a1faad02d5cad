/* The ports of units on a host: they are selected, recorded, delivered and replaced, with a systemd in
 * virtual time. */
#include "tests/lib/test.h"
#include "fleetd/agent/records.h"
#include "fleetd/features/services/port_prober.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"

#define WEB     "[Service]\nExecStart=/bin/web\n[X-Fleet]\nPort=http:auto\n"
#define WEB_NEW "[Service]\nExecStart=/bin/new\n[X-Fleet]\nPort=http:auto\n"

enum { FIRST = 10000, LAST = 10003 };

static bool held[UINT16_MAX + 1]; /* by other programs of the host */

/* A port that a unit has while it runs is not free, either. */
static bool is_free(const PortProber *p, uint16_t number, PortProtocol protocol) {
        return !held[number] && !sim_systemd_port_owner(running->systemd, number, NULL);
}

static int no_local_ports(uint16_t *ret_first, uint16_t *ret_last) {
        return -ENOENT;
}

static const PortProber prober = { is_free, no_local_ports };

static unsigned n_late;   /* starts of units whose port is not on disk, or not the one of systemd */
static unsigned n_shared; /* starts while another unit has port 8081 */

static uint16_t read_number(const char *drop_in) {
        const char *at = drop_in ? strstr(drop_in, "# http=") : NULL;

        return at ? (uint16_t) atoi(at + strlen("# http=")) : 0;
}

static uint16_t number_of(const char *unit) {
        return read_number(sim_systemd_ports(running->systemd, unit));
}

static bool is_in_record(uint16_t number) {
        char field[32];

        snprintf(field, sizeof(field), "\"ports\":{\"http\":%u}", number);
        return records_contain(running, field);
}

static int start_checked(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        _cleanup_free_ char *drop_in = NULL;
        uint16_t number;

        (void) real_ops->get_drop_in(s, name, DROP_IN_PORTS, &drop_in);
        number = read_number(drop_in);
        n_late += number > 0 && !is_in_record(number);
        n_shared += sim_systemd_port_owner(running->systemd, 8081, name) != NULL;
        return real_ops->start(s, name, done, userdata);
}

#define AWAIT(expression) UNTIL(running, expression)

static void reopen(void) {
        close_services(running);
        open_services(running);
        run_pending(running);
}

static int setup(void **state) {
        int r = faulty_fixture_setup(state);
        memset(held, 0, sizeof(held));
        n_late = n_shared = 0;
        bent.start = start_checked;
        running->host->components.io.ports = &prober;
        running->host->settings.port_first = FIRST;
        running->host->settings.port_last = LAST;
        reopen();
        return r;
}

static void hold_all(void) {
        for (unsigned i = FIRST; i <= LAST; i++)
                held[i] = true;
}

static void run_web(const char *name, const char *text) {
        unsigned n = n_starts;

        assign_to(running, name, text, ASSIGNMENT_RUN);
        AWAIT(n_starts > n && is_published(running, name, "active"));
        run_pending(running);
}

/* Return whether its start was refused, for this reason. */
static bool is_refused(const char *unit, const char *reason) {
        const UnitState *s = state_of(running, unit);

        return s && streq(s->job, STATE_JOB_REFUSED) && streq(s->reason, reason);
}

static void a_selected_port_is_on_disk_before_the_start(void **state) {
        char part[64];

        run_web("web.service", WEB);
        run_web("shop.service", WEB);
        assert_int_equal(n_late, 0);
        assert_in_range(number_of("web.service"), FIRST, LAST);
        assert_in_range(number_of("shop.service"), FIRST, LAST);
        assert_int_not_equal(number_of("web.service"), number_of("shop.service"));
        snprintf(part, sizeof(part), "\nEnvironment=FLEET_ADDRESS=10.0.0.2 FLEET_PORT_HTTP=%u\n",
                 number_of("web.service"));
        assert_non_null(strstr(sim_systemd_ports(running->systemd, "web.service"), part));
}

static void a_number_survives_restarts_of_unit_and_daemon(void **state) {
        uint16_t number;

        run_web("web.service", WEB);
        number = number_of("web.service");
        reopen();
        assert_int_equal(n_starts, 1);
        run_web("web.service", WEB_NEW);
        assert_int_equal(number_of("web.service"), number);
        assert_int_equal(n_late, 0);
}

/* Another program has taken the port while the unit was down. While it runs, the port is its own. */
static void a_number_that_another_program_holds_is_replaced_at_the_start(void **state) {
        char expected[96];
        uint16_t former;

        run_web("web.service", WEB);
        former = number_of("web.service");
        held[former] = true;
        reopen();
        assert_int_equal(number_of("web.service"), former);

        snprintf(expected, sizeof(expected), ", because %u/tcp is in use", former);
        count_messages(expected);
        run_web("web.service", WEB_NEW);
        assert_int_not_equal(number_of("web.service"), former);
        assert_true(is_in_record(number_of("web.service")));
        assert_int_equal(n_logged, 1); /* and so says the history */
        count_messages(NULL);
        assert_int_equal(n_late, 0);
}

/* systemd stopped it with another unit: its file is in force, and the drop-in is written again before. */
static void a_number_is_replaced_where_the_file_is_in_force(void **state) {
        uint16_t former;

        run_web("web.service", WEB);
        former = number_of("web.service");
        hold_all();
        sim_systemd_hold(running->systemd);
        sim_systemd_release(running->systemd);
        AWAIT(is_refused("web.service", "no free port in PortRange=10000-10003"));
        assert_int_equal(n_starts, 1);
        memset(held, 0, sizeof(held));
        held[former] = true;
        AWAIT(n_starts == 2);
        assert_int_not_equal(number_of("web.service"), former);
        assert_int_not_equal(number_of("web.service"), 0);
        assert_int_equal(n_late, 0);
}

static void a_check_is_probed_at_the_port_that_it_names(void **state) {
        static const char *const texts[] = { WEB "HealthTcp=http\n", WEB_NEW "HealthHttp=http/\n" };
        uint16_t former = 0;

        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                run_web("web.service", texts[i]);
                assert_int_not_equal(number_of("web.service"), former);
                running->n_probes = 0;
                AWAIT(running->n_probes > 0);
                assert_int_equal(running->probed_port, number_of("web.service"));

                close_services(running);
                former = number_of("web.service");
                held[former] = true;
                running->n_probes = running->probed_port = 0;
                open_services(running);
                AWAIT(running->n_probes > 0);
                assert_int_equal(running->probed_port, former);
        }
}

/* Its drop-in is written, and systemd cannot read it before the files of others are linked. */
static void a_unit_does_not_start_before_systemd_has_its_new_number(void **state) {
        uint16_t former;

        run_web("web.service", WEB);
        former = number_of("web.service");
        held[former] = true;
        bent.link = link_in_vain;
        vain = (Vain) { .unit = "other.service", .held = true };
        assign(running, "other.service");
        AWAIT(vain.n == 1);
        sim_systemd_hold(running->systemd);
        sim_systemd_release(running->systemd);
        run_ms(running, 10000);
        assert_int_equal(n_starts, 1);
        vain.done(vain.userdata, 0, "");
        vain = (Vain) {};
        AWAIT(n_starts == 3);
        assert_int_not_equal(number_of("web.service"), former);
}

static void without_a_free_port_the_start_is_refused_until_there_is_one(void **state) {
        hold_all();
        assign_to(running, "web.service", WEB, ASSIGNMENT_RUN);
        AWAIT(is_refused("web.service", "no free port in PortRange=10000-10003"));
        assert_int_equal(n_starts, 0);
        held[10002] = false;
        AWAIT(is_published(running, "web.service", "active"));
        assert_int_equal(number_of("web.service"), 10002);
        assert_string_equal(state_of(running, "web.service")->job, "");
}

static void a_fixed_number_that_was_selected_for_another_unit_is_refused(void **state) {
        char text[128], expected[64];

        run_web("web.service", WEB);
        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/one\n[X-Fleet]\nPort=x:%u\n",
                 number_of("web.service"));
        snprintf(expected, sizeof(expected), "%u/tcp is the port of web.service (auto)",
                 number_of("web.service"));
        assign_to(running, "fixed.service", text, ASSIGNMENT_RUN);
        AWAIT(is_refused("fixed.service", expected));
        assert_int_equal(n_starts, 1);
}

static unsigned n_looks; /* at the ports of a unit */

bool __real_names_have(const Names *names, const char *name);
bool __wrap_names_have(const Names *names, const char *name);

bool __wrap_names_have(const Names *names, const char *name) {
        n_looks++;
        return __real_names_have(names, name);
}

static void a_start_looks_at_the_ports_of_no_other_unit(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/one\n[X-Fleet]\nPort=a:auto\nPort=b:%u\n";
        enum { UNITS = 40 };
        unsigned first = 0;
        char unit[32], copy[128];

        running->host->settings.port_last = FIRST + UNITS;
        for (unsigned i = 0; i < UNITS; i++) {
                snprintf(unit, sizeof(unit), "unit-%u.service", i);
                snprintf(copy, sizeof(copy), text, 8000 + i);
                n_looks = 0;
                run_web(unit, copy);
                first = i == 0 ? n_looks : first;
        }
        assert_in_range(n_looks, 0, 2 * first);
}

static struct {
        SystemdDone done;
        void *userdata;
} held_stop;

static int stop_held(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        held_stop.done = done;
        held_stop.userdata = userdata;
        return 0;
}

#define FIXED "[Service]\nExecStart=/bin/one\n[X-Fleet]\nPort=http:8081\n"

static void a_unit_starts_when_the_one_that_had_its_port_has_stopped(void **state) {
        static const char *const units[] = { "web.service", "a.service", "x.service", "b.service" };
        char expected[64];

        bent.stop = stop_held;
        run_web(units[0], FIXED);
        for (unsigned i = 1; i < ELEMENTS(units); i++) {
                host_order(running->host, units[i - 1], ASSIGNMENT_STOP);
                assign_to(running, units[i], FIXED, ASSIGNMENT_RUN);
                held_stop.done = NULL;
                AWAIT(held_stop.done);
                run_ms(running, 2000);
                assert_int_equal(n_starts, i);
                assert_string_equal(state_of(running, units[i])->job, "");
                snprintf(expected, sizeof(expected), "waiting for %s to stop, which has its port",
                         units[i - 1]);
                assert_string_equal(state_of(running, units[i])->reason, expected);
                assert_int_equal(
                        real_ops->stop(running->bus, units[i - 1], held_stop.done, held_stop.userdata), 0);
                AWAIT(is_published(running, units[i], "active"));
                assert_int_equal(n_starts, i + 1);
        }
        assert_int_equal(n_shared, 0);
}

/* As after the restore of a backup: the first one runs on. */
static void a_unit_starts_beside_one_that_has_its_port_and_no_assignment(void **state) {
        run_web("first.service", FIXED);
        delete_key(running, LAYOUT_ASSIGNMENT, "first.service");
        delete_key(running, LAYOUT_TARGET, "first.service");
        delete_key(running, LAYOUT_UNIT, "first.service");
        run_web("second.service", FIXED);
        assert_true(sim_systemd_runs(running->systemd, "first.service"));
}

static void ignore_reply(void *userdata, int error, const char *message) {}

static void a_loaded_unit_that_got_a_port_while_it_ran_has_a_number_in_its_next_run(void **state) {
        assign_to(running, "web.service", "[Service]\nExecStart=/bin/web\n", ASSIGNMENT_LOAD);
        AWAIT(is_published(running, "web.service", "inactive"));
        assert_int_equal(real_ops->start(running->bus, "web.service", ignore_reply, NULL), 0);
        AWAIT(is_published(running, "web.service", "active"));
        assign_to(running, "web.service", WEB, ASSIGNMENT_LOAD);
        run_ms(running, 2000);
        run_pending(running);
        sim_systemd_stop(running->systemd, "web.service");
        AWAIT(records_contain(running, "\"ports\":{\"http\":"));
        run_ms(running, 2000);
        run_pending(running);
        assert_int_equal(real_ops->start(running->bus, "web.service", ignore_reply, NULL), 0);
        AWAIT(is_published(running, "web.service", "active"));
        assert_in_range(number_of("web.service"), FIRST, LAST);
}

static void the_number_of_a_running_unit_is_found_when_the_records_are_lost(void **state) {
        _cleanup_free_ char *path = scratch_path(running->host->agent_path, "assignment");
        uint16_t number;

        run_web("web.service", WEB);
        number = number_of("web.service");
        close_services(running);
        assert_int_equal(unlink(path), 0);
        open_services(running);
        AWAIT(is_in_record(number));
        assert_int_equal(n_starts, 1);
        assert_int_equal(number_of("web.service"), number);
}

static void a_unit_whose_adoption_writes_its_drop_in_completes(void **state) {
        _cleanup_free_ char *path = scratch_path(running->host->agent_path, "assignment");

        run_web("web.service", WEB);
        close_services(running);
        assert_int_equal(unlink(path), 0);
        open_services(running);
        snprintf(running->host->settings.service_address, ENDPOINT_ADDRESS_SIZE, "10.0.0.3");
        AWAIT(is_in_record(number_of("web.service")));
        run_pending(running);
        pretence = (Pretence) { .unit = "web.service", .active = "inactive", .end = SYSTEMD_END_ITSELF };
        sim_systemd_change(running->systemd, "web.service");
        AWAIT(state_of(running, "web.service")->done);
}

static void a_drop_in_that_was_removed_is_written_again(void **state) {
        char *drop_in = NULL, *again = NULL;

        run_web("web.service", WEB);
        assert_int_equal(real_ops->get_drop_in(running->bus, "web.service", DROP_IN_PORTS, &drop_in), 0);
        assert_int_equal(real_ops->put_drop_in(running->bus, "web.service", DROP_IN_PORTS, NULL), 1);
        sim_systemd_change(running->systemd, "web.service");
        AWAIT(real_ops->get_drop_in(running->bus, "web.service", DROP_IN_PORTS, &again) == 0);
        assert_string_equal(again, drop_in);
        assert_int_equal(n_starts, 1);
        free(again);
        free(drop_in);
}

int main(int argc, char *argv[]) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, faulty_fixture_teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_selected_port_is_on_disk_before_the_start),
                TEST(a_number_survives_restarts_of_unit_and_daemon),
                TEST(a_number_that_another_program_holds_is_replaced_at_the_start),
                TEST(a_number_is_replaced_where_the_file_is_in_force),
                TEST(a_check_is_probed_at_the_port_that_it_names),
                TEST(a_unit_does_not_start_before_systemd_has_its_new_number),
                TEST(without_a_free_port_the_start_is_refused_until_there_is_one),
                TEST(a_fixed_number_that_was_selected_for_another_unit_is_refused),
                TEST(a_start_looks_at_the_ports_of_no_other_unit),
                TEST(a_unit_starts_when_the_one_that_had_its_port_has_stopped),
                TEST(a_unit_starts_beside_one_that_has_its_port_and_no_assignment),
                TEST(a_loaded_unit_that_got_a_port_while_it_ran_has_a_number_in_its_next_run),
                TEST(the_number_of_a_running_unit_is_found_when_the_records_are_lost),
                TEST(a_unit_whose_adoption_writes_its_drop_in_completes),
                TEST(a_drop_in_that_was_removed_is_written_again),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
