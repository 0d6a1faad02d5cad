/* A shutdown that logind announces: this daemon delays it while units move, and not longer. logind is a fake
 * on a real connection; the engine is the test. */

#include "tests/lib/test.h"
#include "fleetd/daemon_internal.h"
#include "fleetd/features/reboot/reboot.h"
#include "tests/lib/fake_bus.h"
#include "tests/lib/host.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/words_of.h"

static const char boot[] = "00000000000000000000000000000007";

typedef struct Fixture {
        Host *host;
        FakeBus *fake;
        Logind *logind;
        void *inhibitor, *rebooting;
        ComponentHost components; /* of both */
        unsigned done;
        int error;
        char message[200];
} Fixture;

static void *open_component(Fixture *fixture, const Component *component) {
        ComponentHost *host = &fixture->components;
        void *ret = NULL;

        *host = (ComponentHost) { .io = { .loop = fixture->host->loop, .logind = fixture->logind },
                                  .registry = fixture->host->registry };
        memcpy(host->io.boot_id, boot, sizeof(host->io.boot_id));
        assert_int_equal(component->open(host, &(Settings) { .machine_id = fixture->host->id }, &ret, NULL),
                         0);
        return ret;
}

static void open_all(Fixture *fixture) {
        assert_int_equal(logind_new(&fixture->logind, fixture->host->loop,
                                    &(LogindOptions) { .address = fixture->fake->address }),
                         0);
        fixture->inhibitor = open_component(fixture, &inhibitor_component);
}

static void close_all(Fixture *fixture) {
        if (fixture->rebooting)
                fixture->rebooting = reboot_component.close(fixture->rebooting);
        if (fixture->inhibitor)
                fixture->inhibitor = inhibitor_component.close(fixture->inhibitor);
        fixture->logind = logind_free(fixture->logind);
}

static LogindState state_of(Fixture *fixture) {
        return fixture->logind->ops->state(fixture->logind);
}

static int fixture_setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);
        char *path;

        leader = (Leader) {};
        fixture->host = host_new(false);
        host_raise(fixture->host, KV_LEVEL_UPDATES);
        host_machine(fixture->host);
        path = scratch_path(fixture->host->scratch, "bus");
        fixture->fake = fake_bus_new(fixture->host->uv, path);
        free(path);
        fixture->fake->delay_us = 30000000;
        open_all(fixture);
        HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_RUNNING);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        leader = (Leader) {};
        close_all(fixture);
        fake_bus_free(fixture->fake);
        host_free(fixture->host);
        free(fixture);
        return 0;
}

static const ClusterMachine *self(Fixture *fixture) {
        return cluster_machine(registry_cluster(fixture->host->registry), fixture->host->id);
}

static void write_mode(Fixture *fixture, MaintenanceMode mode, const char *purpose) {
        MaintenanceRecord record = self(fixture)->maintenance ? *self(fixture)->maintenance :
                                                                (MaintenanceRecord) { .by = "ann" };

        record.mode = mode;
        snprintf(record.purpose, sizeof(record.purpose), "%s", purpose);
        assert_int_equal(
                host_wait(fixture->host, registry_maintain(fixture->host->registry, 0, self(fixture), &record,
                                                           NULL, host_on_done, fixture->host)),
                KV_OK);
}

static bool is_stopping(Fixture *fixture) {
        return cluster_machine_is_stopping(self(fixture));
}

static void a_shutdown_waits_until_no_unit_can_move(void **state) {
        Fixture *fixture = *state;

        assert_string_equal(fixture->fake->call_log.chars, "Inhibit shutdown delay; ");
        assert_true(fake_bus_is_inhibited(fixture->fake));
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        assert_int_equal(self(fixture)->maintenance->mode, MAINTENANCE_DRAINING);
        host_pause(fixture->host, 50);
        assert_true(fake_bus_is_inhibited(fixture->fake));
        write_mode(fixture, MAINTENANCE_DRAINED, CLUSTER_FOR_SHUTDOWN);
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
        assert_true(is_stopping(fixture));
}

static bool is_registered(Fixture *fixture) {
        return cluster_endpoint(registry_cluster(fixture->host->registry), fixture->host->id, "web.service");
}

static void write_endpoint(Fixture *fixture) {
        StateChange change = { .unit = "web.service",
                               .endpoint_write = ENDPOINT_SET,
                               .endpoint = {
                                       .address = "10.0.0.1", .services = { "web" }, .n_services = 1 } };

        host_raise(fixture->host, KV_LEVEL_SERVICES);
        assert_int_equal(unit_state_init(&change.state, "loaded", "active", "running", NULL, 1, false), 0);
        assert_int_equal(host_wait(fixture->host, registry_publish(fixture->host->registry, &change, 1,
                                                                   host_on_done, fixture->host)),
                         KV_OK);
        unit_state_done(&change.state);
        assert_true(is_registered(fixture));
}

static void endpoints_that_are_left_are_withdrawn_before_the_shutdown_goes_on(void **state) {
        Fixture *fixture = *state;

        write_endpoint(fixture);
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        host_pause(fixture->host, 50);
        assert_true(is_registered(fixture) && !fixture->components.shuts_down);
        write_mode(fixture, MAINTENANCE_DRAINED, CLUSTER_FOR_SHUTDOWN);
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
        assert_true(!is_registered(fixture) && fixture->components.shuts_down);
        fake_bus_prepare_for_shutdown(fixture->fake, false);
        HOST_UNTIL(fixture->host, !fixture->components.shuts_down);
}

static void a_cancelled_shutdown_ends_the_maintenance(void **state) {
        Fixture *fixture = *state;

        write_mode(fixture, MAINTENANCE_CORDONED, "");
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        write_mode(fixture, MAINTENANCE_DRAINED, CLUSTER_FOR_SHUTDOWN);
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
        fake_bus_prepare_for_shutdown(fixture->fake, false);
        HOST_UNTIL(fixture->host, !is_stopping(fixture));
        assert_int_equal(self(fixture)->maintenance->mode, MAINTENANCE_CORDONED);
        assert_string_equal(self(fixture)->maintenance->by, "ann");
        HOST_UNTIL(fixture->host, fake_bus_is_inhibited(fixture->fake));

        /* The next one waits again. */
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        assert_true(fake_bus_is_inhibited(fixture->fake));
}

static void a_host_that_is_back_ends_the_maintenance(void **state) {
        Fixture *fixture = *state;

        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        close_all(fixture);
        fixture->fake->preparing = false;
        open_all(fixture);
        HOST_UNTIL(fixture->host, !self(fixture)->maintenance);
}

/* The daemon was started again during the delay: the record stays. */
static void a_daemon_that_starts_during_a_shutdown_does_not_cancel_it(void **state) {
        Fixture *fixture = *state;

        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        close_all(fixture);
        open_all(fixture);
        HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_STOPPING);
        host_pause(fixture->host, 50);
        assert_true(is_stopping(fixture));
}

static void a_shutdown_waits_for_no_longer_than_logind(void **state) {
        Fixture *fixture = *state;

        close_all(fixture);
        fixture->fake->delay_us = 1100000; /* 100 ms, and the reserve */
        open_all(fixture);
        HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_RUNNING);
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
        assert_int_equal(self(fixture)->maintenance->mode, MAINTENANCE_DRAINING);
}

static bool withdrawal_hangs; /* nothing answers it */

int __real_registry_withdraw(Registry *r, const char *const *units, size_t n, RegistryDone done,
                             void *userdata);
int __wrap_registry_withdraw(Registry *r, const char *const *units, size_t n, RegistryDone done,
                             void *userdata);

int __wrap_registry_withdraw(Registry *r, const char *const *units, size_t n, RegistryDone done,
                             void *userdata) {
        return withdrawal_hangs ? 0 : __real_registry_withdraw(r, units, n, done, userdata);
}

static void a_shutdown_without_a_leader_does_not_wait_for_the_withdrawal(void **state) {
        Fixture *fixture = *state;

        write_endpoint(fixture);
        withdrawal_hangs = leader.gone = true;
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
        withdrawal_hangs = false;
}

static void a_shutdown_is_not_delayed_when_nothing_can_move(void **state) {
        static const struct {
                bool gone;
                unsigned level;
                const char *purpose;
                uint64_t delay_us;
        } rows[] = { { .gone = true, .delay_us = 30000000 },
                     { .level = KV_LEVEL_UPDATES - 1, .delay_us = 30000000 },
                     { .purpose = CLUSTER_FOR_LEAVE, .delay_us = 30000000 },
                     { .delay_us = 1000000 },
                     { .delay_us = 0 } };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                close_all(fixture);
                fixture->fake->preparing = false;
                fixture->fake->delay_us = rows[i].delay_us;
                open_all(fixture);
                HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_RUNNING);
                if (rows[i].purpose)
                        write_mode(fixture, MAINTENANCE_DRAINING, rows[i].purpose);
                leader.gone = rows[i].gone;
                leader.level = rows[i].level;
                fake_bus_prepare_for_shutdown(fixture->fake, true);
                HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
                assert_false(is_stopping(fixture));
                leader = (Leader) {};
                if (rows[i].purpose)
                        assert_int_equal(
                                host_wait(fixture->host,
                                          registry_end_maintenance(fixture->host->registry, self(fixture),
                                                                   "ann", "", host_on_done, fixture->host)),
                                KV_OK);
        }
}

/* Its units move before: it may be the leader that moves them. */
static void a_leader_that_shuts_down_transfers_leadership_before(void **state) {
        Fixture *fixture = *state;

        leader.voters = 3;
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        host_pause(fixture->host, 50);
        assert_int_equal(leader.transfers, 0);
        write_mode(fixture, MAINTENANCE_DRAINED, CLUSTER_FOR_SHUTDOWN);
        HOST_UNTIL(fixture->host, leader.transfers > 1); /* again, as long as this host leads */
        assert_true(fake_bus_is_inhibited(fixture->fake));
        leader.follows = true;
        inhibitor_component.state_changed(fixture->inhibitor);
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
}

static void a_shutdown_does_not_wait_for_another_leader_for_longer_than_logind(void **state) {
        Fixture *fixture = *state;

        close_all(fixture);
        fixture->fake->delay_us = 1500000; /* 500 ms, and the reserve */
        open_all(fixture);
        HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_RUNNING);
        leader.voters = 3;
        write_mode(fixture, MAINTENANCE_DRAINED, CLUSTER_FOR_LEAVE);
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, leader.transfers > 0);
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
}

/* -- logind -- */

/* Without it, nothing announces a shutdown, and a record of a former one ends. */
static void without_logind_the_host_counts_as_running(void **state) {
        Fixture *fixture = *state;

        write_mode(fixture, MAINTENANCE_DRAINING, CLUSTER_FOR_SHUTDOWN);
        close_all(fixture);
        fixture->fake = fake_bus_free(fixture->fake);
        assert_int_equal(logind_new(&fixture->logind, fixture->host->loop,
                                    &(LogindOptions) { .address = "unix:path=/nonexistent/bus" }),
                         0);
        assert_int_equal(state_of(fixture), LOGIND_UNKNOWN);
        fixture->inhibitor = open_component(fixture, &inhibitor_component);
        HOST_UNTIL(fixture->host, !self(fixture)->maintenance);
        assert_int_equal(fixture->logind->ops->reboot(fixture->logind, REBOOT_FULL, NULL, NULL), -ENOTCONN);
}

static void a_rejected_inhibitor_changes_nothing_else(void **state) {
        Fixture *fixture = *state;

        close_all(fixture);
        fixture->fake->fail = "Inhibit";
        fixture->fake->fail_name = SD_BUS_ERROR_ACCESS_DENIED;
        fixture->fake->fail_message = "Permission denied";
        open_all(fixture);
        HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_RUNNING);
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_STOPPING);
        host_pause(fixture->host, 50);
        assert_null(self(fixture)->maintenance);
}

/* Its signal could not arrive any more. */
static void a_lost_connection_releases_the_inhibitor_and_is_made_again(void **state) {
        Fixture *fixture = *state;

        fake_bus_disconnect(fixture->fake);
        HOST_UNTIL(fixture->host, !fake_bus_is_inhibited(fixture->fake));
        HOST_UNTIL(fixture->host, fixture->fake->inhibitors == 2);
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
}

/* The shutdown ends logind and D-Bus before this daemon. */
static void a_logind_that_is_lost_during_a_shutdown_does_not_cancel_it(void **state) {
        Fixture *fixture = *state;

        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, is_stopping(fixture));
        fixture->fake->fail = "Get";
        fixture->fake->fail_name = SD_BUS_ERROR_SERVICE_UNKNOWN;
        fixture->fake->fail_message = "no such service";
        fake_bus_disconnect(fixture->fake);
        HOST_UNTIL(fixture->host, strstr(fixture->fake->call_log.chars, "; Inhibit"));
        host_pause(fixture->host, 50);
        assert_int_equal(state_of(fixture), LOGIND_STOPPING);
        assert_true(is_stopping(fixture));
}

static void on_reboot(void *userdata, int error, const char *message) {
        Fixture *fixture = userdata;

        fixture->done++;
        fixture->error = error;
        snprintf(fixture->message, sizeof(fixture->message), "%s", message);
}

static void each_kind_of_reboot_has_its_call(void **state) {
        static const struct {
                RebootKind kind;
                const char *calls;
        } rows[] = { { REBOOT_FULL, "Reboot; " },
                     { REBOOT_SOFT, "RebootWithFlags 4; " },
                     { REBOOT_KEXEC, "RebootWithFlags 2; " } };
        Fixture *fixture = *state;
        const LogindOps *ops = fixture->logind->ops;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                text_clear(&fixture->fake->call_log);
                assert_int_equal(ops->reboot(fixture->logind, rows[i].kind, on_reboot, fixture), 0);
                assert_int_equal(ops->reboot(fixture->logind, rows[i].kind, on_reboot, fixture), -EBUSY);
                HOST_UNTIL(fixture->host, fixture->done == i + 1);
                assert_int_equal(fixture->error, 0);
                assert_string_equal(fixture->fake->call_log.chars, rows[i].calls);
        }
        fixture->fake->fail = "Reboot";
        fixture->fake->fail_name = SD_BUS_ERROR_ACCESS_DENIED;
        fixture->fake->fail_message = "Access denied";
        assert_int_equal(ops->reboot(fixture->logind, REBOOT_FULL, on_reboot, fixture), 0);
        HOST_UNTIL(fixture->host, fixture->done == 4);
        assert_int_equal(fixture->error, -EACCES);
        assert_string_equal(fixture->message, "Access denied");

        fixture->fake->fail = NULL;
        fixture->fake->hold = "Reboot";
        assert_int_equal(ops->reboot(fixture->logind, REBOOT_FULL, on_reboot, fixture), 0);
        close_all(fixture);
        assert_int_equal(fixture->done, 5);
        assert_int_equal(fixture->error, -ECANCELED);
}

/* -- A planned reboot -- */

static void write_reboot(Fixture *fixture, RebootState to, const char *of_boot, uint64_t soft) {
        RebootRecord record = { .state = to, .kind = REBOOT_FULL, .soft = soft, .until_ms = 1 };
        RebootChange change = { .machine = self(fixture), .record = &record, .reason = "" };

        snprintf(record.boot, sizeof(record.boot), "%s", of_boot);
        assert_int_equal(host_wait(fixture->host, registry_reboot(fixture->host->registry, 0, &change, 1,
                                                                  NULL, host_on_done, fixture->host)),
                         KV_OK);
}

static bool has_called(Fixture *fixture) {
        return fixture->fake->call_log.chars && strstr(fixture->fake->call_log.chars, "Reboot");
}

static void open_rebooting(Fixture *fixture) {
        fixture->rebooting = open_component(fixture, &reboot_component);
}

static void no_host_reboots_twice(void **state) {
        Fixture *fixture = *state;

        open_rebooting(fixture);
        write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
        host_pause(fixture->host, 50);
        assert_false(has_called(fixture)); /* the count of soft reboots is not known */
        reboot_component.systemd_ready(fixture->rebooting, 0, false);
        HOST_UNTIL(fixture->host, has_called(fixture));
        reboot_component.state_changed(fixture->rebooting);
        host_pause(fixture->host, 50);
        assert_int_equal(fixture->fake->call_log.size, strlen("Inhibit shutdown delay; Reboot; "));

        /* After the boot, the record is still that of the former one. */
        text_clear(&fixture->fake->call_log);
        fixture->rebooting = reboot_component.close(fixture->rebooting);
        write_reboot(fixture, REBOOT_REBOOTING, "00000000000000000000000000000006", 0);
        open_rebooting(fixture);
        reboot_component.systemd_ready(fixture->rebooting, 0, false);
        host_pause(fixture->host, 50);
        write_reboot(fixture, REBOOT_REBOOTING, boot, 1); /* and a soft reboot */
        host_pause(fixture->host, 50);
        write_reboot(fixture, REBOOT_DRAINING, boot, 0);
        host_pause(fixture->host, 50);
        assert_false(has_called(fixture));

        /* A host that is going down already does not call again. */
        fake_bus_prepare_for_shutdown(fixture->fake, true);
        HOST_UNTIL(fixture->host, state_of(fixture) == LOGIND_STOPPING);
        write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
        host_pause(fixture->host, 50);
        assert_false(has_called(fixture));
}

/* A host that was cut off reads the steps of the queue that it missed one after the other. */
static void a_host_reboots_by_a_record_that_is_current(void **state) {
        Fixture *fixture = *state;
        KvSync *held;

        open_rebooting(fixture);
        reboot_component.systemd_ready(fixture->rebooting, 0, false);
        leader.hold = true;
        write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
        HOST_UNTIL(fixture->host, leader.held);
        write_reboot(fixture, REBOOT_FAILED, boot, 0);
        host_pause(fixture->host, 50);
        assert_false(has_called(fixture));
        assert_null(leader.held); /* cancelled with its cause */

        write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
        HOST_UNTIL(fixture->host, leader.held);
        held = leader.held;
        leader.held = NULL;
        held->done(held->userdata, KV_UNKNOWN);
        HOST_UNTIL(fixture->host, leader.held); /* again */
        assert_false(has_called(fixture));
        held = leader.held;
        leader.held = NULL;
        leader.hold = false;
        held->done(held->userdata, KV_OK);
        HOST_UNTIL(fixture->host, has_called(fixture));
}

/* The host does not wait for ever for one that takes over. */
static void a_leader_that_reboots_transfers_leadership_before(void **state) {
        Fixture *fixture = *state;

        open_rebooting(fixture);
        reboot_component.systemd_ready(fixture->rebooting, 0, false);
        for (unsigned i = 0; i < 2; i++) {
                leader = (Leader) { .voters = 3 };
                write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
                HOST_UNTIL(fixture->host, leader.transfers > 1);
                assert_false(has_called(fixture));
                leader.follows = i == 0;
                reboot_component.state_changed(fixture->rebooting);
                HOST_UNTIL(fixture->host, has_called(fixture));
                text_clear(&fixture->fake->call_log);
                write_reboot(fixture, REBOOT_FAILED, boot, 0);
                host_pause(fixture->host, 50);
        }
}

static void a_reboot_that_logind_rejects_is_reported(void **state) {
        static const unsigned levels[] = { KV_LEVEL_VERDICTS - 1, KV_LEVEL_VERDICTS };
        Fixture *fixture = *state;

        fixture->fake->fail = "Reboot";
        fixture->fake->fail_name = SD_BUS_ERROR_ACCESS_DENIED;
        fixture->fake->fail_message = "Access denied";
        open_rebooting(fixture);
        for (size_t i = 0; i < ELEMENTS(levels); i++) {
                leader.level = levels[i];
                write_reboot(fixture, REBOOT_REBOOTING, boot, i);
                reboot_component.systemd_ready(fixture->rebooting, i, false);
                HOST_UNTIL(fixture->host, self(fixture)->reboot->state == REBOOT_REJECTED);
                assert_int_equal(self(fixture)->reboot->why.code,
                                 i == 0 ? VERDICT_SAID : VERDICT_REBOOT_REJECTED);
                assert_string_equal(words_of(&self(fixture)->reboot->why),
                                    "logind rejects the reboot: Access denied");
                assert_string_equal(self(fixture)->reboot->boot, boot);
                assert_int_equal(self(fixture)->reboot->until_ms, 1);
        }
}

static void a_rejection_names_the_next_step_and_ends_with_a_word(void **state) {
        static const struct {
                const char *name, *message, *why;
        } rows[] = {
                { "System.Error.ELOOP",
                  "Unit dbus-org.freedesktop.login1.service failed to load properly, please adjust/correct "
                  "and "
                  "reload service manager: Too many levels of symbolic links",
                  "it is masked on this host: systemctl unmask systemd-logind" },
                { "org.freedesktop.systemd1.UnitMasked",
                  "Unit dbus-org.freedesktop.login1.service is masked.",
                  "it is masked on this host: systemctl unmask systemd-logind" },
                { "org.freedesktop.systemd1.NoSuchUnit",
                  "Unit dbus-org.freedesktop.login1.service not found.", "it is not installed on this host" },
                { SD_BUS_ERROR_SERVICE_UNKNOWN, "The name is not activatable",
                  "it is not installed on this host" },
                { SD_BUS_ERROR_ACCESS_DENIED,
                  "Operation inhibited by \"root\" (PID 4711 \"a-long-running-task\", user root), reason is "
                  "\"the firmware is being written\".",
                  "Operation inhibited by \"root\" (PID 4711 \"a-long-running-task\", user root), reason "
                  "is \"the..." },
        };
        Fixture *fixture = *state;
        char expected[RECORDED_WHY_SIZE + 64];

        fixture->fake->fail = "Reboot";
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                fixture->fake->fail_name = rows[i].name;
                fixture->fake->fail_message = rows[i].message;
                write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
                open_rebooting(fixture);
                reboot_component.systemd_ready(fixture->rebooting, 0, false);
                HOST_UNTIL(fixture->host, self(fixture)->reboot->state == REBOOT_REJECTED);
                snprintf(expected, sizeof(expected), "logind rejects the reboot: %s", rows[i].why);
                assert_string_equal(words_of(&self(fixture)->reboot->why), expected);
                fixture->rebooting = reboot_component.close(fixture->rebooting);
        }
}

static void a_host_without_a_quorum_does_not_reboot(void **state) {
        Fixture *fixture = *state;

        leader.gone = true;
        open_rebooting(fixture);
        reboot_component.systemd_ready(fixture->rebooting, 0, false);
        write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
        host_pause(fixture->host, 50);
        assert_false(has_called(fixture));
        leader.gone = false;
        reboot_component.state_changed(fixture->rebooting);
        HOST_UNTIL(fixture->host, has_called(fixture));
}

/* logind starts while fleetd does. */
static void a_reboot_waits_until_logind_has_answered(void **state) {
        Fixture *fixture = *state;

        close_all(fixture);
        fixture->fake->hold = "Get";
        open_all(fixture);
        open_rebooting(fixture);
        reboot_component.systemd_ready(fixture->rebooting, 0, false);
        write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
        host_pause(fixture->host, 50);
        assert_int_equal(state_of(fixture), LOGIND_UNKNOWN);
        assert_false(has_called(fixture));
        fake_bus_prepare_for_shutdown(fixture->fake, false);
        HOST_UNTIL(fixture->host, has_called(fixture));
}

static KvSync *sync_of_view;

static void on_failed_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        assert_int_equal(status, KV_OK);
        /* As read_index_finish_applied() of the same entry: the check has passed, the tree has the entry. */
        sync_of_view->done(sync_of_view->userdata, KV_OK);
        sync_of_view = NULL;
}

static void a_host_reboots_by_a_view_that_has_what_was_read(void **state) {
        Fixture *fixture = *state;
        RebootRecord record = { .state = REBOOT_FAILED, .kind = REBOOT_FULL, .until_ms = 1 };
        RebootChange change;

        open_rebooting(fixture);
        reboot_component.systemd_ready(fixture->rebooting, 0, false);
        leader.hold = true;
        write_reboot(fixture, REBOOT_REBOOTING, boot, 0);
        HOST_UNTIL(fixture->host, leader.held);
        sync_of_view = leader.held;
        leader.held = NULL;
        leader.hold = false;
        change = (RebootChange) { .machine = self(fixture), .record = &record, .reason = "" };
        snprintf(record.boot, sizeof(record.boot), "%s", boot);
        assert_int_equal(
                registry_reboot(fixture->host->registry, 0, &change, 1, NULL, on_failed_written, fixture), 0);
        HOST_UNTIL(fixture->host, !sync_of_view);
        host_pause(fixture->host, 100);
        assert_false(has_called(fixture));
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_shutdown_waits_until_no_unit_can_move),
                TEST(endpoints_that_are_left_are_withdrawn_before_the_shutdown_goes_on),
                TEST(a_cancelled_shutdown_ends_the_maintenance),
                TEST(a_host_that_is_back_ends_the_maintenance),
                TEST(a_daemon_that_starts_during_a_shutdown_does_not_cancel_it),
                TEST(a_shutdown_waits_for_no_longer_than_logind),
                TEST(a_shutdown_without_a_leader_does_not_wait_for_the_withdrawal),
                TEST(a_shutdown_is_not_delayed_when_nothing_can_move),
                TEST(a_leader_that_shuts_down_transfers_leadership_before),
                TEST(a_shutdown_does_not_wait_for_another_leader_for_longer_than_logind),
                TEST(without_logind_the_host_counts_as_running),
                TEST(a_rejected_inhibitor_changes_nothing_else),
                TEST(a_lost_connection_releases_the_inhibitor_and_is_made_again),
                TEST(a_logind_that_is_lost_during_a_shutdown_does_not_cancel_it),
                TEST(each_kind_of_reboot_has_its_call),
                TEST(no_host_reboots_twice),
                TEST(a_host_reboots_by_a_record_that_is_current),
                TEST(a_leader_that_reboots_transfers_leadership_before),
                TEST(a_reboot_that_logind_rejects_is_reported),
                TEST(a_rejection_names_the_next_step_and_ends_with_a_word),
                TEST(a_host_without_a_quorum_does_not_reboot),
                TEST(a_reboot_waits_until_logind_has_answered),
                TEST(a_host_reboots_by_a_view_that_has_what_was_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
