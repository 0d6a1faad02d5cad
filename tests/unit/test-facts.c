/* Publication of the machine's facts: until the registry has them, again after a change, and not more often.
 * The time is virtual. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include "tests/lib/test.h"
#include "fleetd/agent/facts.h"
#include "base/sizes.h"
#include "tests/lib/host.h"
#include "tests/lib/leader.h"
#include "tests/sim/world.h"

enum { RETRY_MS = 1000 };

typedef struct Fixture {
        Host *host;
        World *world;
        WorldLoop *loop;
        Facts *facts;
        Machine machine;
} Fixture;

static struct {
        int error; /* of each one */
        bool held; /* without a reply */
        unsigned n;
        RegistryDone done;
        void *userdata;
} publishing;

int __real_registry_publish_facts(Registry *r, const Machine *facts, RegistryDone done, void *userdata);
int __wrap_registry_publish_facts(Registry *r, const Machine *facts, RegistryDone done, void *userdata);

int __wrap_registry_publish_facts(Registry *r, const Machine *facts, RegistryDone done, void *userdata) {
        publishing.n++;
        publishing.done = done;
        publishing.userdata = userdata;
        return publishing.error < 0 || publishing.held ?
                       publishing.error :
                       __real_registry_publish_facts(r, facts, done, userdata);
}

/* The observer of the facts, and what they deferred since. */
static RegistryObserver *listener;
static const void *listening;
static unsigned n_deferred;

void __real_registry_observe(Registry *r, RegistryObserver *l);
void __wrap_registry_observe(Registry *r, RegistryObserver *l);
void __real_loop_defer(Loop *loop, Deferred *deferred);
void __wrap_loop_defer(Loop *loop, Deferred *deferred);

void __wrap_registry_observe(Registry *r, RegistryObserver *l) {
        listener = l;
        listening = l->userdata;
        __real_registry_observe(r, l);
}

void __wrap_loop_defer(Loop *loop, Deferred *deferred) {
        n_deferred += deferred->userdata == listening;
        __real_loop_defer(loop, deferred);
}

/* The interfaces of this machine, if 'faked'. */
static struct ifaddrs *interfaces;
static bool faked;

int __real_getifaddrs(struct ifaddrs **ret);
int __wrap_getifaddrs(struct ifaddrs **ret);
void __real_freeifaddrs(struct ifaddrs *all);
void __wrap_freeifaddrs(struct ifaddrs *all);

int __wrap_getifaddrs(struct ifaddrs **ret) {
        if (!faked)
                return __real_getifaddrs(ret);
        errno = EMFILE;
        *ret = interfaces;
        return interfaces ? 0 : -1;
}

void __wrap_freeifaddrs(struct ifaddrs *all) {
        if (!faked)
                __real_freeifaddrs(all);
}

static int fixture_setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);

        leader = (Leader) {};
        memset(&publishing, 0, sizeof(publishing));
        fixture->host = host_new(false);
        fixture->world = world_new(1, false);
        fixture->loop = world_loop_new(fixture->world, "facts");
        fixture->machine = (Machine) { .name = (char *) "beta",
                                       .address = (char *) "10.0.0.2",
                                       .version = (char *) "1",
                                       .boot_id = (char *) "b" };
        memcpy(fixture->machine.id, fixture->host->id, sizeof(fixture->machine.id));
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        leader.gone = false;
        facts_free(fixture->facts);
        world_loop_free(fixture->loop);
        world_free(fixture->world);
        host_free(fixture->host);
        free(fixture);
        return 0;
}

static void open_facts(Fixture *fixture) {
        assert_int_equal(facts_new(&fixture->facts, world_loop(fixture->loop), fixture->host->registry,
                                   &fixture->machine),
                         0);
}

static void run_ms(Fixture *fixture, uint64_t ms) {
        world_run(fixture->world, world_now_ms(fixture->world) + ms);
}

/* The store has replied, and the reply was processed. */
static void run_pending(Fixture *fixture) {
        for (unsigned i = 0; i < 5; i++) {
                run_ms(fixture, 1);
                host_pause(fixture->host, 10);
        }
}

static const Machine *known(Fixture *fixture) {
        const ClusterMachine *m = cluster_machine(registry_cluster(fixture->host->registry),
                                                  fixture->host->id);

        return m ? m->facts : NULL;
}

static void until_known_as(Fixture *fixture, const char *name) {
        fixture->host->deadline_ms = 0;
        while (!known(fixture) || !known(fixture)->name || !streq(known(fixture)->name, name)) {
                run_ms(fixture, 1);
                host_turn(fixture->host);
        }
        run_pending(fixture);
}

static void facts_are_published_until_the_registry_has_them_and_not_again(void **state) {
        Fixture *fixture = *state;
        KvState store;

        leader.gone = true;
        open_facts(fixture);
        run_ms(fixture, 5000);
        assert_int_equal(publishing.n, 0); /* the publication would be rejected */

        leader.gone = false;
        publishing.error = -ENOMEM;
        facts_state_changed(fixture->facts);
        run_ms(fixture, RETRY_MS - 10);
        assert_int_equal(publishing.n, 1);
        publishing.error = 0;
        publishing.held = true;
        run_ms(fixture, 20);
        assert_int_equal(publishing.n, 2);
        facts_state_changed(fixture->facts);
        run_ms(fixture, 5000);
        assert_int_equal(publishing.n, 2); /* one at a time */

        publishing.held = false;
        publishing.done(publishing.userdata, KV_UNKNOWN, "", 0);
        run_ms(fixture, RETRY_MS - 10);
        assert_int_equal(publishing.n, 2);
        until_known_as(fixture, "beta");
        assert_int_equal(publishing.n, 3);
        kv_state(fixture->host->store, &store);
        assert_int_equal(known(fixture)->raft_id, store.raft_id);
        facts_state_changed(fixture->facts);
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        run_ms(fixture, 5000);
        assert_int_equal(publishing.n, 3);
}

static void a_change_is_published_at_once_or_after_the_transaction_under_way(void **state) {
        Fixture *fixture = *state;

        open_facts(fixture);
        until_known_as(fixture, "beta");
        fixture->machine.name = (char *) "gamma";
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        until_known_as(fixture, "gamma");
        assert_int_equal(publishing.n, 2);
        fixture->machine.name = (char *) "alpha"; /* published by another machine */
        assert_int_equal(
                host_wait(fixture->host, registry_publish_facts(fixture->host->registry, &fixture->machine,
                                                                host_on_done, fixture->host)),
                KV_OK);
        assert_string_equal(known(fixture)->name, "alpha");
        until_known_as(fixture, "gamma");
        assert_int_equal(publishing.n, 4);

        fixture->machine.name = (char *) "delta";
        publishing.held = true;
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        run_ms(fixture, 10);
        assert_int_equal(publishing.n, 5);
        fixture->machine.name = (char *) "epsilon";
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        publishing.held = false;
        run_ms(fixture, 10);
        assert_int_equal(publishing.n, 5);
        publishing.done(publishing.userdata, KV_OK, "", 0);
        until_known_as(fixture, "epsilon");
        assert_int_equal(publishing.n, 6);
}

static bool reports_checks(Fixture *fixture, const char *problem) {
        return known(fixture) && same_string(known(fixture)->checks, problem);
}

static void checks_above_the_limits_are_published_from_their_feature_level_on(void **state) {
        Fixture *fixture = *state;

        leader.level = KV_LEVEL_UPDATES - 1;
        open_facts(fixture);
        until_known_as(fixture, "beta");
        assert_int_equal(facts_set_checks(fixture->facts, "they are many"), 0);
        run_ms(fixture, 5000);
        run_pending(fixture);
        assert_true(reports_checks(fixture, NULL));
        leader.level = KV_LEVEL_UPDATES;
        facts_state_changed(fixture->facts);
        run_ms(fixture, 10);
        HOST_UNTIL(fixture->host, reports_checks(fixture, "they are many"));
        run_pending(fixture);
        fixture->machine.name = (char *) "gamma"; /* the settings are read again */
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        until_known_as(fixture, "gamma");
        assert_true(reports_checks(fixture, "they are many"));
        assert_int_equal(facts_set_checks(fixture->facts, ""), 0);
        run_ms(fixture, 10);
        HOST_UNTIL(fixture->host, reports_checks(fixture, NULL));
}

static void a_publication_of_another_machine_causes_no_work(void **state) {
        Fixture *fixture = *state;
        Machine other = { .id = "cccccccccccccccccccccccccccccccc",
                          .name = (char *) "other",
                          .address = (char *) "10.0.0.3",
                          .version = (char *) "1",
                          .boot_id = (char *) "c" };

        open_facts(fixture);
        until_known_as(fixture, "beta");
        assert_int_equal(host_wait(fixture->host, registry_publish_facts(fixture->host->registry, &other,
                                                                         host_on_done, fixture->host)),
                         KV_OK);
        run_pending(fixture);
        assert_int_equal(publishing.n, 2); /* with that one */
        assert_string_equal(known(fixture)->name, "beta");
}

static void only_changes_of_this_machine_cause_a_pass(void **state) {
        static const struct {
                int kind;
                const char *machine; /* "": this one */
                bool expected;
        } rows[] = {
                { CHANGED_ALL, NULL, true },       { CHANGED_MACHINE, NULL, true },
                { CHANGED_MACHINE, "", true },     { CHANGED_MACHINE, "cccc", false },
                { CHANGED_UNIT, NULL, false },     { CHANGED_TARGET, NULL, false },
                { CHANGED_ASSIGNMENT, "", false }, { CHANGED_STATE, "", false },
                { CHANGED_PRESENCE, "", false },   { CHANGED_PROBLEM, NULL, false },
                { CHANGED_CLUSTER, NULL, false },
        };
        Fixture *fixture = *state;

        open_facts(fixture);
        until_known_as(fixture, "beta");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *machine = rows[i].machine && !rows[i].machine[0] ? fixture->host->id :
                                                                               rows[i].machine;

                n_deferred = 0;
                listener->on_change(listener->userdata,
                                    &(RegistryChange) { .kind = rows[i].kind, .machine = machine });
                assert_int_equal(n_deferred, rows[i].expected);
        }
}

static void the_primary_address_is_the_first_that_can_be_reached(void **state) {
        static struct sockaddr_in link_local = { .sin_family = AF_INET }, usable[3];
        static struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
        static const struct {
                const char *name;
                unsigned flags;
                void *address;
        } rows[] = {
                { "eth0", IFF_UP, NULL },
                { "eth1", IFF_UP, &six },
                { "eth2", 0, &usable[0] },
                { "fleet0", IFF_UP, &link_local },
                { "podman0", IFF_UP, &usable[0] },
                { "cni-podman1", IFF_UP, &usable[0] },
                { "docker0", IFF_UP, &usable[0] },
                { "docker_gwbridge", IFF_UP, &usable[0] },
                { "br-0123456789ab", IFF_UP, &usable[0] },
                { "virbr0", IFF_UP, &usable[0] },
                { "br-lan", IFF_UP, &usable[1] },
                { "eth3", IFF_UP, &usable[2] },
        };
        struct sockaddr_in loopback = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct ifaddrs all[1 + ELEMENTS(rows)] = { { .ifa_flags = IFF_UP | IFF_LOOPBACK,
                                                     .ifa_name = (char *) "lo",
                                                     .ifa_addr = (struct sockaddr *) &loopback } };
        char address[16] = "";

        for (unsigned i = 0; i < ELEMENTS(usable); i++) {
                usable[i].sin_family = AF_INET;
                usable[i].sin_addr.s_addr = htonl(0xc0a80a0a + i); /* 192.168.10.10 */
        }
        link_local.sin_addr.s_addr = htonl(0xa9fe174f); /* 169.254.23.79 */
        for (unsigned i = 0; i < ELEMENTS(rows); i++) {
                all[i].ifa_next = &all[i + 1];
                all[i + 1] = (struct ifaddrs) { .ifa_name = (char *) rows[i].name,
                                                .ifa_flags = rows[i].flags,
                                                .ifa_addr = rows[i].address };
        }
        faked = true;
        interfaces = all;
        assert_int_equal(facts_primary_address(address, sizeof(address)), 0);
        assert_string_equal(address, "192.168.10.11");
        all[ELEMENTS(rows) - 2].ifa_next = NULL; /* without br-lan and eth3 */
        assert_int_equal(facts_primary_address(address, sizeof(address)), -ENODEV);
        interfaces = NULL;
        assert_int_equal(facts_primary_address(address, sizeof(address)), -EMFILE);
        faked = false;
}

static void the_address_of_services_is_that_of_the_setting_or_of_the_facts(void **state) {
        Fixture *fixture = *state;

        assert_string_equal(facts_service_address(NULL, ""), "");
        assert_string_equal(facts_service_address(NULL, "10.0.0.9"), "10.0.0.9");
        open_facts(fixture);
        assert_string_equal(facts_service_address(fixture->facts, ""), "10.0.0.2");
        assert_string_equal(facts_service_address(fixture->facts, "10.0.0.9"), "10.0.0.9");
        fixture->machine.address = (char *) "127.0.0.1";
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        assert_string_equal(facts_service_address(fixture->facts, ""), "");
}

/* A reply, a pass and a pause are under way. */
static void facts_that_are_freed_get_no_callback(void **state) {
        Fixture *fixture = *state;

        open_facts(fixture);
        run_ms(fixture, 1);
        assert_int_equal(publishing.n, 1);
        fixture->facts = facts_free(fixture->facts);
        run_pending(fixture);
        host_machine(fixture->host);

        open_facts(fixture);
        fixture->facts = facts_free(fixture->facts);
        run_ms(fixture, 10);
        assert_int_equal(publishing.n, 2); /* with that of host_machine() */

        publishing.error = -ENOMEM;
        open_facts(fixture);
        run_ms(fixture, 10);
        assert_int_equal(publishing.n, 3);
        fixture->facts = facts_free(fixture->facts);
        run_ms(fixture, 5000);
        assert_int_equal(publishing.n, 3);
        assert_null(facts_free(NULL));
}

static bool asks;

static bool needs_reboot(void) {
        return asks;
}

static void the_capacity_is_published_from_its_feature_level_on(void **state) {
        Fixture *fixture = *state;
        unsigned n;

        leader.level = KV_LEVEL_SCHEDULING - 1;
        fixture->machine.capacity = (Resources) { 1024, 200 };
        open_facts(fixture);
        until_known_as(fixture, "beta");
        assert_int_equal(known(fixture)->capacity.memory_mib, 0);
        leader.level = KV_LEVEL_SCHEDULING;
        facts_state_changed(fixture->facts);
        run_ms(fixture, 10);
        HOST_UNTIL(fixture->host, known(fixture)->capacity.memory_mib == 1024);
        assert_int_equal(known(fixture)->capacity.cpu_percent, 200);

        /* A reload writes what has changed. */
        n = publishing.n;
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        run_ms(fixture, 10000);
        assert_int_equal(publishing.n, n);
        fixture->machine.capacity.memory_mib = 512;
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        run_ms(fixture, 10);
        HOST_UNTIL(fixture->host, known(fixture)->capacity.memory_mib == 512);
        assert_int_equal(publishing.n, n + 1);
}

static void a_host_reports_within_two_minutes_that_it_needs_a_reboot(void **state) {
        Fixture *fixture = *state;

        leader.level = KV_LEVEL_UPDATES - 1;
        asks = false;
        open_facts(fixture);
        facts_watch_reboot(fixture->facts, needs_reboot);
        until_known_as(fixture, "beta");
        asks = true;
        run_ms(fixture, 120000);
        run_pending(fixture);
        assert_false(known(fixture)->needs_reboot); /* older hosts do not know it */
        leader.level = KV_LEVEL_UPDATES;
        facts_state_changed(fixture->facts);
        run_pending(fixture);
        assert_true(known(fixture)->needs_reboot);
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        run_pending(fixture);
        assert_true(known(fixture)->needs_reboot);
        asks = false;
        run_ms(fixture, 120000);
        run_pending(fixture);
        assert_false(known(fixture)->needs_reboot);
        facts_systemd_ready(fixture->facts, 2, false);
        run_pending(fixture);
        assert_int_equal(known(fixture)->soft_reboots, 2);
}

static void a_daemon_that_starts_keeps_the_number_of_soft_reboots_of_its_boot(void **state) {
        Fixture *fixture = *state;

        leader.level = KV_LEVEL_UPDATES;
        fixture->machine.soft_reboots = 2;
        open_facts(fixture);
        until_known_as(fixture, "beta");
        fixture->facts = facts_free(fixture->facts);
        fixture->machine.soft_reboots = 0; /* systemd has not answered yet */
        fixture->machine.name = (char *) "gamma";
        open_facts(fixture);
        until_known_as(fixture, "gamma");
        assert_int_equal(known(fixture)->soft_reboots, 2);
        fixture->facts = facts_free(fixture->facts);
        fixture->machine.boot_id = (char *) "c";
        fixture->machine.name = (char *) "delta";
        open_facts(fixture);
        until_known_as(fixture, "delta");
        assert_int_equal(known(fixture)->soft_reboots, 0);
}

static void plan_reboot(Fixture *fixture, uint64_t seq) {
        RebootRecord record = { .state = REBOOT_REBOOTING, .kind = REBOOT_FULL, .seq = seq, .until_ms = 1 };
        RebootChange change = { .machine = cluster_machine(registry_cluster(fixture->host->registry),
                                                           fixture->host->id),
                                .record = &record,
                                .reason = "" };

        assert_int_equal(
                registry_reboot(fixture->host->registry, 0, &change, 1, NULL, host_on_done, fixture->host),
                0);
        run_pending(fixture);
}

/* Until systemd has answered, a host of another boot has not completed it. */
static void a_host_that_reboots_as_planned_reports_whether_its_boot_is_complete(void **state) {
        Fixture *fixture = *state;

        leader.level = KV_LEVEL_UPDATES;
        fixture->machine.booting = true;
        open_facts(fixture);
        until_known_as(fixture, "beta");
        facts_systemd_ready(fixture->facts, 0, true);
        run_pending(fixture);
        assert_false(known(fixture)->booting); /* no reboot is planned */
        facts_systemd_ready(fixture->facts, 0, false);
        plan_reboot(fixture, 1);
        fixture->facts = facts_free(fixture->facts);

        fixture->machine.name = (char *) "gamma"; /* the daemon alone starts again */
        open_facts(fixture);
        until_known_as(fixture, "gamma");
        assert_false(known(fixture)->booting);
        fixture->facts = facts_free(fixture->facts);

        fixture->machine.boot_id = (char *) "c";
        fixture->machine.name = (char *) "delta";
        open_facts(fixture);
        until_known_as(fixture, "delta");
        assert_true(known(fixture)->booting);
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0);
        facts_systemd_ready(fixture->facts, 0, true);
        run_pending(fixture);
        assert_true(known(fixture)->booting);
        facts_systemd_ready(fixture->facts, 0, false);
        run_pending(fixture);
        assert_false(known(fixture)->booting);
        assert_int_equal(facts_set(fixture->facts, &fixture->machine), 0); /* a reload of the settings */
        run_pending(fixture);
        assert_false(known(fixture)->booting);
}

int main(int argc, char *argv[]) {
#define in_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_fixture(facts_are_published_until_the_registry_has_them_and_not_again),
                in_fixture(a_change_is_published_at_once_or_after_the_transaction_under_way),
                in_fixture(checks_above_the_limits_are_published_from_their_feature_level_on),
                in_fixture(the_capacity_is_published_from_its_feature_level_on),
                in_fixture(a_host_reports_within_two_minutes_that_it_needs_a_reboot),
                in_fixture(a_host_that_reboots_as_planned_reports_whether_its_boot_is_complete),
                in_fixture(a_daemon_that_starts_keeps_the_number_of_soft_reboots_of_its_boot),
                in_fixture(a_publication_of_another_machine_causes_no_work),
                in_fixture(only_changes_of_this_machine_cause_a_pass),
                in_fixture(facts_that_are_freed_get_no_callback),
                in_fixture(the_address_of_services_is_that_of_the_setting_or_of_the_facts),
                cmocka_unit_test(the_primary_address_is_the_first_that_can_be_reached),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
