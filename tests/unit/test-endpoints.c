/* Endpoints of services: their registration by a host, their end with the host, and what the leader accepts.
 */

#include "tests/lib/test.h"
#include "fleetd/registry/endpoints.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/registry.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/host.h"
#include "tests/lib/store_inside.h"

#define SELF   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define WEB    "[X-Fleet]\nPort=http:8080\nPort=admin:auto\n[Service]\nExecStart=/bin/true\n"
#define VALUE  "{\"address\":\"10.0.0.2\",\"name\":\"m\",\"services\":[\"web\"]}"
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* A host, and the last change of an endpoint. */
typedef struct Fixture {
        Host *host;
        RegistryObserver observer;
        unsigned n_set, n_removed;
        uint64_t first_removed, last_removed; /* indexes */
        char former[SERVICE_NAME_MAX + 1];
} Fixture;

static void on_change(void *userdata, const RegistryChange *change) {
        Fixture *f = userdata;

        if (change->kind != CHANGED_ENDPOINT)
                return;
        snprintf(f->former, sizeof(f->former), "%s",
                 change->former_services ? change->former_services[0] : "");
        if (!change->removed) {
                f->n_set++;
                return;
        }
        f->last_removed = change->index;
        if (f->n_removed++ == 0)
                f->first_removed = change->index;
}

static int begin(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        f->host = host_new(false);
        host_raise(f->host, KV_LEVEL_SERVICES);
        host_machine(f->host);
        f->observer = (RegistryObserver) { .on_change = on_change, .userdata = f };
        registry_observe(f->host->registry, &f->observer);
        *state = f;
        return 0;
}

static int end(void **state) {
        Fixture *f = *state;

        registry_unobserve(f->host->registry, &f->observer);
        host_free(f->host);
        free(f);
        return 0;
}

static const Cluster *view(const Fixture *f) {
        return registry_cluster(f->host->registry);
}

static size_t n_endpoints(const Fixture *f, const char *machine) {
        return cluster_server(view(f), machine)->n_endpoints;
}

/* -- Writes without a check, as of other hosts -- */

static void ignore_result(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

static void propose_key(Fixture *f, LayoutKind kind, const char *unit, const char *machine,
                        const char *value) {
        char key[LAYOUT_KEY_MAX];
        KvCommand put = { .op = value ? KV_SET : KV_DELETE,
                          .key = kv_string(layout_key(key, kind, unit, machine)),
                          .value = kv_string(value),
                          .internal = true };

        assert_int_equal(kv_propose(f->host->store, &put, ignore_result, NULL, NULL), 0);
}

static void put_endpoint(Fixture *f, const char *unit, const char *machine) {
        propose_key(f, LAYOUT_ENDPOINT, unit, machine, VALUE);
        HOST_UNTIL(f->host, cluster_endpoint(view(f), machine, unit));
}

static PresenceChange presence_of(const Fixture *f, const char *machine, Presence is) {
        const ClusterMachine *m = cluster_machine(view(f), machine);
        PresenceChange c = { .presence = is, .expected_index = m ? m->presence_index : 0 };

        snprintf(c.machine, sizeof(c.machine), "%s", machine);
        return c;
}

static KvStatus write_presences(Fixture *f, const PresenceChange *changes, size_t n) {
        return host_wait(f->host, registry_presence(f->host->registry, 0, changes, n, host_on_done, f->host));
}

static KvStatus present(Fixture *f, const char *machine, Presence is) {
        const PresenceChange c = presence_of(f, machine, is);

        return write_presences(f, &c, 1);
}

/* Submit web.service, and assign it to another host, which is up. */
static void assign_web(Fixture *f, uint64_t revision) {
        AssignmentChange a = {
                .unit = "web.service", .machine = OTHER, .kind = ASSIGNMENT_RUN, .revision = revision
        };
        const ClusterUnit *u;

        host_unit(f->host, "web.service", WEB, TARGET_LAUNCHED);
        assert_int_equal(present(f, OTHER, PRESENCE_UP), KV_OK);
        propose_key(f, LAYOUT_FACTS, NULL, OTHER, "{\"address\":\"10.0.0.2\",\"name\":\"beta\"}");
        u = cluster_unit(view(f), "web.service");
        a.unit_index = u->index;
        a.presence_index = cluster_machine(view(f), OTHER)->presence_index;
        if (revision > 0)
                memcpy(a.hash, u->unit->hash, sizeof(a.hash));
        assert_int_equal(
                host_wait(f->host, registry_assign(f->host->registry, 0, &a, 1, NULL, host_on_done, f->host)),
                KV_OK);
}

/* Put as many endpoints of the machine as it may have. */
static void fill(Fixture *f, const char *machine, int width) {
        char unit[UNIT_NAME_MAX + 1];

        for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
                snprintf(unit, sizeof(unit), "%0*u.service", width, i);
                propose_key(f, LAYOUT_ENDPOINT, unit, machine, VALUE);
                if (i % 100 == 99)
                        HOST_UNTIL(f->host, n_endpoints(f, machine) == i + 1);
        }
}

/* -- The end of a host -- */

static void the_entry_that_writes_a_host_as_lost_or_left_deletes_its_endpoints(void **state) {
        static const struct {
                Presence presence;
                bool deletes;
        } rows[] = { { PRESENCE_UP, false },
                     { PRESENCE_AWAY, false },
                     { PRESENCE_LOST, true },
                     { PRESENCE_LEFT, true } };
        Fixture *f = *state;

        put_endpoint(f, "own.service", SELF);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char unit[32];

                assert_int_equal(present(f, OTHER, PRESENCE_UP), KV_OK);
                for (unsigned k = 0; k < 50; k++) {
                        snprintf(unit, sizeof(unit), "a@%u.service", k);
                        put_endpoint(f, unit, OTHER);
                }
                f->n_removed = 0;
                assert_int_equal(present(f, OTHER, rows[i].presence), KV_OK);
                assert_int_equal(n_endpoints(f, OTHER), rows[i].deletes ? 0 : 50);
                assert_int_equal(f->n_removed, rows[i].deletes ? 50 : 0);
                if (rows[i].deletes) {
                        /* The writes of one transaction have consecutive indexes. */
                        assert_int_equal(f->first_removed,
                                         cluster_machine(view(f), OTHER)->presence_index + 1);
                        assert_int_equal(f->last_removed, f->first_removed + 49);
                        assert_string_equal(f->former, "web");
                }
                assert_int_equal(n_endpoints(f, SELF), 1);
        }
}

/* A later version wrote it. */
static void an_endpoint_that_cannot_be_read_is_deleted_with_its_lost_host(void **state) {
        Fixture *f = *state;

        assign_web(f, 0);
        propose_key(f, LAYOUT_ENDPOINT, "web.service", OTHER, "{");
        HOST_UNTIL(f->host, cluster_has_unreadable(view(f), LAYOUT_ENDPOINT));
        assert_int_equal(present(f, OTHER, PRESENCE_LOST), KV_OK);
        assert_false(cluster_has_unreadable(view(f), LAYOUT_ENDPOINT));
        assert_false(store_has(f->host->store, "/_fleet/endpoint/web.service/" OTHER));
}

/* Three hosts with the largest number of endpoints and the longest names, of which two never fit together. */
static void hosts_whose_endpoints_fit_into_no_common_entry_are_lost_one_after_the_other(void **state) {
        static const char *const machines[] = { OTHER, "cccccccccccccccccccccccccccccccc",
                                                "dddddddddddddddddddddddddddddddd" };
        PresenceChange changes[3];
        Fixture *f = *state;

        for (size_t m = 0; m < 3; m++) {
                assert_int_equal(present(f, machines[m], PRESENCE_UP), KV_OK);
                fill(f, machines[m], UNIT_NAME_MAX - 8);
                changes[m] = presence_of(f, machines[m], PRESENCE_LOST);
        }
        assert_int_equal(write_presences(f, changes, 3), KV_OK);
        for (size_t m = 0; m < 3; m++) {
                assert_int_equal(n_endpoints(f, machines[m]), 0);
                assert_int_equal(cluster_machine(view(f), machines[m])->presence, PRESENCE_LOST);
        }
        assert_int_equal(f->n_removed, 3 * ENDPOINTS_MAX);
        assert_int_not_equal(cluster_machine(view(f), machines[0])->presence_index,
                             cluster_machine(view(f), machines[2])->presence_index);
}

/* Its registration is in the log before the loss, and the cluster view does not have it yet; or it comes
 * afterwards, and is left until the removal of the machine. */
static void an_endpoint_on_its_way_does_not_outlive_its_host(void **state) {
        Fixture *f = *state;
        PresenceChange lost;

        put_endpoint(f, "own.service", SELF);
        assign_web(f, 0);
        lost = presence_of(f, OTHER, PRESENCE_LOST);
        propose_key(f, LAYOUT_ENDPOINT, "web.service", OTHER, VALUE);
        assert_int_equal(write_presences(f, &lost, 1), KV_COMPARE_FAILED);
        assert_int_equal(n_endpoints(f, OTHER), 1);
        assert_int_equal(present(f, OTHER, PRESENCE_LOST), KV_OK);
        assert_int_equal(n_endpoints(f, OTHER), 0);

        put_endpoint(f, "a.service", OTHER);
        assert_int_equal(
                host_wait(f->host, registry_remove_machine(f->host->registry, cluster_machine(view(f), OTHER),
                                                           "root", NULL, host_on_done, f->host)),
                KV_OK);
        assert_int_equal(n_endpoints(f, OTHER), 0);
        assert_int_equal(n_endpoints(f, SELF), 1);
}

/* -- Registration by the host itself -- */

static KvStatus publish(Fixture *f, const StateChange *changes, size_t n) {
        return host_wait(f->host, registry_publish(f->host->registry, changes, n, host_on_done, f->host));
}

static void make_change(StateChange *s, const char *unit, EndpointWrite write) {
        *s = (StateChange) { .endpoint_write = write,
                             .endpoint = { .address = "10.0.0.1",
                                           .name = (char *) "alpha",
                                           .services = { "web" },
                                           .n_services = 1 } };
        snprintf(s->unit, sizeof(s->unit), "%s", unit);
        assert_int_equal(unit_state_init(&s->state, "loaded", "active", "running", "h", 1, false), 0);
}

static void an_endpoint_is_written_and_deleted_with_the_state_of_its_unit(void **state) {
        Fixture *f = *state;
        StateChange s;

        make_change(&s, "a.service", ENDPOINT_SET);
        assert_int_equal(publish(f, &s, 1), KV_OK);
        assert_int_equal(cluster_endpoint(view(f), SELF, "a.service")->index,
                         cluster_state(view(f), SELF, "a.service")->index + 1);
        assert_string_equal(cluster_endpoint(view(f), SELF, "a.service")->record.address, "10.0.0.1");
        s.endpoint_write = ENDPOINT_STAYS;
        assert_int_equal(publish(f, &s, 1), KV_OK);
        assert_int_equal(n_endpoints(f, SELF), 1);
        s.endpoint_write = ENDPOINT_WITHDRAWN;
        assert_int_equal(publish(f, &s, 1), KV_OK);
        assert_int_equal(f->last_removed, cluster_state(view(f), SELF, "a.service")->index + 1);
        assert_int_equal(publish(f, &s, 1), KV_OK); /* it is absent */
        assert_int_equal(n_endpoints(f, SELF), 0);
        unit_state_done(&s.state);
}

static void a_host_that_is_not_up_registers_nothing(void **state) {
        Fixture *f = *state;
        PresenceChange away;
        StateChange s;

        /* Its presence changes before the registration takes effect. */
        make_change(&s, "a.service", ENDPOINT_SET);
        away = presence_of(f, SELF, PRESENCE_AWAY);
        assert_int_equal(registry_presence(f->host->registry, 0, &away, 1, NULL, NULL), 0);
        assert_int_equal(publish(f, &s, 1), KV_COMPARE_FAILED);
        assert_int_equal(n_endpoints(f, SELF), 0);
        assert_null(cluster_state(view(f), SELF, "a.service"));

        /* It is known that the host is away: the state is published. */
        assert_true(registry_endpoint_wait_ms(f->host->registry) == UINT64_MAX);
        assert_int_equal(publish(f, &s, 1), KV_OK);
        assert_int_equal(n_endpoints(f, SELF), 0);
        assert_non_null(cluster_state(view(f), SELF, "a.service"));
        assert_int_equal(present(f, SELF, PRESENCE_UP), KV_OK);
        assert_int_equal(publish(f, &s, 1), KV_OK);
        assert_int_equal(n_endpoints(f, SELF), 1);
        unit_state_done(&s.state);
}

static void a_withdrawal_deletes_those_endpoints_of_the_host_that_exist(void **state) {
        static const char *const units[] = { "a.service", "absent.service", "b.service" };
        Fixture *f = *state;
        Registry *r = f->host->registry;

        put_endpoint(f, "a.service", SELF);
        put_endpoint(f, "b.service", SELF);
        put_endpoint(f, "c.service", SELF);
        put_endpoint(f, "a.service", OTHER);
        assert_int_equal(host_wait(f->host, registry_withdraw(r, units, 3, host_on_done, f->host)), KV_OK);
        assert_int_equal(n_endpoints(f, SELF), 1);
        assert_int_equal(n_endpoints(f, OTHER), 1);
        assert_int_equal(f->first_removed + 1, f->last_removed);
        assert_int_equal(host_wait(f->host, registry_withdraw(r, units, 3, host_on_done, f->host)), KV_OK);
}

/* A host keeps to the pace that the leader enforces, and its states do not wait. */
static void a_host_registers_100_endpoints_at_once_and_then_20_a_second(void **state) {
        static StateChange changes[ENDPOINTS_BURST + 20];
        Fixture *f = *state;
        char unit[32];

        for (unsigned i = 0; i < ELEMENTS(changes); i++) {
                snprintf(unit, sizeof(unit), "a@%u.service", i);
                make_change(&changes[i], unit, ENDPOINT_SET);
        }
        assert_int_equal(registry_endpoint_wait_ms(f->host->registry), 0);
        assert_int_equal(publish(f, changes, ELEMENTS(changes)), KV_OK);
        assert_in_range(n_endpoints(f, SELF), ENDPOINTS_BURST, ENDPOINTS_BURST + 5);
        assert_int_equal(HASH_COUNT(cluster_machine(view(f), SELF)->states), ELEMENTS(changes));
        HOST_UNTIL(f->host, registry_endpoint_wait_ms(f->host->registry) == 0);
        for (unsigned i = 0; i < ELEMENTS(changes); i++)
                unit_state_done(&changes[i].state);
}

/* -- What the leader accepts of a host without a replica -- */

#define PORT(name, number, protocol) \
        "{\"name\":\"" name "\",\"port\":" number ",\"protocol\":\"" protocol "\"}"
#define HTTP(number, protocol) PORT("http", number, protocol)
#define PORTS                  HTTP("8080", "tcp") "," PORT("admin", "20017", "tcp")

/* Machines A to D have the addresses 10.0.0.1 to 4; C is lost, and D restricted. */
static void make_machines(ClusterView *p) {
        static const char *const machines[] = { "A", "B", "C", "D" };
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];

        for (unsigned i = 0; i < ELEMENTS(machines); i++) {
                _cleanup_text_ Text facts = {};

                cluster_view_machine(p, machines[i], "", i == 2 ? PRESENCE_LOST : PRESENCE_UP);
                layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, machines[i]));
                text_printf(&facts,
                            "{\"address\":\"10.0.0.%u\",\"metadata\":{\"zone\":\"b\"},\"name\":\"%s\"}",
                            i + 1, machines[i]);
                cluster_view_put(p, key, facts.chars);
        }
        layout_key(key, LAYOUT_HOST, NULL, cluster_view_id(id, "D"));
        cluster_view_put(p, key, "{\"pins\":[\"" DIGEST "\"],\"restricted\":true}");
}

static int check_address(ClusterView *p, const char *machine, const char *address) {
        const ClusterMachine *m;
        _cleanup_(endpoint_record_done) EndpointRecord x = {};
        _cleanup_text_ Text value = {};
        char id[MACHINE_ID_SIZE];
        Error err = {};

        m = cluster_machine(&p->cluster, cluster_view_id(id, machine));
        text_printf(&value, "{\"address\":\"%s\",\"name\":\"%s\",\"ports\":[" PORTS "],", address,
                    endpoint_host_name(m));
        text_printf(&value, "\"services\":[\"web\"],\"zone\":\"%s\"}", pairs_get(&m->metadata, "zone") ?: "");
        assert_int_equal(stored_endpoint_read(value.chars, value.size, &x, &err), 0);
        return endpoint_check(&p->cluster, m, "web.service", cluster_unit(&p->cluster, "web.service")->unit,
                              &x, &err);
}

/* A has fd00::1, and its endpoints 10.7.7.7; the restricted E stated 10.5.5.5 before the restricted D did. */
static void the_address_of_another_machine_is_accepted_in_no_form(void **state) {
        static const struct {
                const char *machine, *facts, *address;
                int result;
        } rows[] = {
                { "B", "fd00::2", "fd00::2", 0 },
                { "B", "fd00::2", "fd00:0::2", 0 },
                { "B", "fd00::2", "FD00::1", -EACCES },
                { "B", "fd00::2", "fd00:0::1", -EACCES },
                { "D", "fd00::3", "fd00::3", 0 },
                { "D", "FD00:0::3", "fd00::3", 0 },
                { "D", "::ffff:10.0.0.3", "10.0.0.3", -EACCES }, /* of the lost C */
                { "D", "::ffff:10.0.0.9", "10.0.0.9", 0 },
                { "D", "fd00:0:0::1", "fd00:0:0::1", -EACCES },
                { "D", "10.7.7.7", "10.7.7.7", -EACCES },
                { "D", "10.5.5.5", "10.5.5.5", -EACCES },
                { "E", NULL, "10.5.5.5", 0 },
        };
        _cleanup_cluster_view_ ClusterView p = {};
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];

        make_machines(&p);
        cluster_view_machine(&p, "E", "", PRESENCE_UP);
        layout_key(key, LAYOUT_HOST, NULL, cluster_view_id(id, "E"));
        cluster_view_put(&p, key, "{\"pins\":[\"" DIGEST "\"],\"restricted\":true}");
        layout_key(key, LAYOUT_FACTS, NULL, id);
        cluster_view_put(&p, key, "{\"address\":\"10.5.5.5\",\"name\":\"E\"}");
        layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, "A"));
        cluster_view_put(&p, key, "{\"address\":\"FD00:0::1\",\"name\":\"A\"}");
        layout_key(key, LAYOUT_ENDPOINT, "web.service", id);
        cluster_view_put(&p, key, "{\"address\":\"10.7.7.7\",\"name\":\"A\",\"services\":[\"web\"]}");
        layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, "D"));
        cluster_view_remove(&p, key);
        cluster_view_unit(&p, "web.service", "Port=http:8080\nPort=admin:auto", TARGET_LAUNCHED);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text facts = {};

                cluster_view_assign(&p, rows[i].machine, "web.service", ASSIGNMENT_RUN);
                layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, rows[i].machine));
                text_printf(&facts, "{\"address\":\"%s\",\"name\":\"%s\"}", rows[i].facts ?: "",
                            rows[i].machine);
                if (rows[i].facts)
                        cluster_view_put(&p, key, facts.chars);
                if (check_address(&p, rows[i].machine, rows[i].address) != rows[i].result)
                        fail_msg("row %zu", i);
        }
}

static void accepted_endpoints_are_those_of_the_text_and_the_machine(void **state) {
        static const struct {
                const char *why; /* NULL: it is accepted */
                const char *services, *ports, *unit, *machine, *address, *name, *zone;
        } rows[] = {
                { NULL },
                { "web: the unit is not assigned", .unit = "other" },
                { "not assigned to run there", "loaded", .unit = "loaded" },
                { "the service db: its text names other", "db" },
                { "for the service db: ", "web\",\"db" },
                { NULL, "one\",\"two", "", "two" },
                { "the service one: its text names other", "one", "", "two" },
                { "for the service none: ", "none", "", "none" },
                { "other ports", .ports = HTTP("8080", "tcp") },
                { "other ports", .ports = HTTP("8081", "tcp") "," PORT("admin", "20017", "tcp") },
                { "other ports", .ports = HTTP("8080", "udp") "," PORT("admin", "20017", "tcp") },
                { "other ports", .ports = HTTP("8080", "tcp") "," PORT("root", "20017", "tcp") },
                { "other ports", .ports = HTTP("8080", "tcp") "," PORT("admin", "1023", "tcp") },
                { "not the name of the machine", .name = "A" },
                { "not the zone of the machine", .zone = "a" },
                { "not the zone of the machine", .zone = "" },
                { "not an address of that machine alone", .address = "10.0.0.1" },
                { NULL, .address = "10.0.0.3" }, /* of a lost machine */
                { NULL, .address = "10.0.0.4" }, /* as a restricted one states */
                { NULL, .address = "10.9.9.9" }, /* ServiceAddress= */
                { NULL, .machine = "D", .address = "10.0.0.4", .name = "dddddddd", .zone = "" },
                { "not the name of the machine", .machine = "D", .address = "10.0.0.4", .zone = "" },
                { "not the zone of the machine", .machine = "D", .address = "10.0.0.4", .name = "dddddddd" },
                { "not an address of that machine alone", .machine = "D", .address = "10.9.9.9",
                  .name = "dddddddd", .zone = "" },
                { "not assigned", "one\",\"two", "", "two", "D", .address = "10.0.0.4", .zone = "" },
        };
        _cleanup_cluster_view_ ClusterView p = {};
        char id[MACHINE_ID_SIZE], unit[32];

        make_machines(&p);
        cluster_view_unit(&p, "web.service", "Port=http:8080\nPort=admin:auto", TARGET_LAUNCHED);
        cluster_view_unit(&p, "other.service", "Service=web", TARGET_LAUNCHED);
        cluster_view_unit(&p, "loaded.service", "Port=http:8080\nPort=admin:auto", TARGET_LOADED);
        cluster_view_unit(&p, "two.service", "Service=one\nService=two", TARGET_LAUNCHED);
        cluster_view_unit(&p, "none.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "B", "web.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "B", "two.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "B", "none.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "B", "loaded.service", ASSIGNMENT_LOAD);
        cluster_view_assign(&p, "D", "web.service", ASSIGNMENT_RUN);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *name = rows[i].machine ?: "B";
                const ClusterMachine *m = cluster_machine(&p.cluster, cluster_view_id(id, name));
                _cleanup_(endpoint_record_done) EndpointRecord x = {};
                _cleanup_text_ Text value = {}, begin = {};
                Error err = {};
                int r;

                snprintf(unit, sizeof(unit), "%s.service", rows[i].unit ?: "web");
                text_printf(&value, "{\"address\":\"%s\",\"name\":\"%s\",\"ports\":[%s],",
                            rows[i].address ?: "10.0.0.2", rows[i].name ?: name, rows[i].ports ?: PORTS);
                text_printf(&value, "\"services\":[\"%s\"],\"zone\":\"%s\"}", rows[i].services ?: "web",
                            rows[i].zone ?: "b");
                text_printf(&begin, "%s may not register %s for the service ", name, unit);
                assert_int_equal(stored_endpoint_read(value.chars, value.size, &x, &err), 0);
                r = endpoint_check(&p.cluster, m, unit, cluster_unit(&p.cluster, unit)->unit, &x, &err);
                if (r != (rows[i].why ? -EACCES : 0) ||
                    (r < 0 && (!strstr(err.message, rows[i].why) || !starts_with(err.message, begin.chars))))
                        fail_msg("row %zu: %d %s", i, r, err.message);
        }
}

/* 'index' of the presence that is checked; 0: none is. */
static int check_at(Fixture *f, uint64_t index, const char *machine, const char *const *units, size_t n,
                    const char *value, Error *err) {
        char keys[ENDPOINTS_BURST + 1][LAYOUT_KEY_MAX], presence[LAYOUT_KEY_MAX];
        KvCheck is_up = { .kind = KV_CHECK_MODIFIED,
                          .key = kv_string(layout_key(presence, LAYOUT_PRESENCE, NULL, machine)),
                          .index = index };
        KvCommand writes[ENDPOINTS_BURST + 1] = {}, txn = {
                .op = KV_TXN, .writes = writes, .n_writes = n, .checks = &is_up, .n_checks = index > 0
        };

        for (size_t i = 0; i < n; i++)
                writes[i] = (KvCommand) { .op = value ? KV_SET : KV_DELETE,
                                          .key = kv_string(
                                                  layout_key(keys[i], LAYOUT_ENDPOINT, units[i], machine)),
                                          .value = kv_string(value),
                                          .internal = true };
        *err = (Error) {};
        txn.internal = true;
        return registry_check_proposal(f->host->registry, NULL, machine, (KvBytes) {}, &txn, err);
}

static int check(Fixture *f, const char *machine, const char *const *units, size_t n, const char *value,
                 Error *err) {
        const ClusterMachine *m = cluster_machine(view(f), machine);

        return check_at(f, m ? m->presence_index : 0, machine, units, n, value, err);
}

#define OWN(ports) "{\"address\":\"10.0.0.2\",\"name\":\"beta\",\"ports\":[" ports "],\"services\":[\"web\"]}"

/* The machine runs a former text of the unit: its new one has another service. */
static void an_endpoint_of_a_former_text_is_accepted_while_that_is_assigned(void **state) {
        static const char *const units[] = { "web.service" };
        Fixture *f = *state;
        Error err;

        assign_web(f, 1);
        assert_int_equal(check(f, OTHER, units, 1, OWN(PORTS), &err), 0);
        host_unit(f->host, "web.service", "[X-Fleet]\nService=db\n[Service]\nExecStart=/bin/true\n",
                  TARGET_LAUNCHED);
        assert_int_equal(check(f, OTHER, units, 1, OWN(PORTS), &err), 0);
        assert_int_equal(check(f, OTHER, units, 1, OWN(""), &err), -EACCES);
        assert_string_equal(
                err.message,
                "beta may not register web.service for the service web: its text names other ports");
        assert_int_equal(check(f, "cccccccccccccccccccccccccccccccc", units, 1, OWN(PORTS), &err), -EACCES);
}

static void the_number_size_and_pace_of_endpoints_are_limited_and_withdrawals_are_free(void **state) {
        static const char *units[ENDPOINTS_BURST + 1];
        _cleanup_text_ Text large = {};
        Fixture *f = *state;
        Error err;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                units[i] = "web.service";
        assign_web(f, 0);
        text_printf(&large, "%-*s", (int) strlen(OWN(PORTS)) + ENDPOINT_SPARE_MAX, OWN(PORTS));
        assert_int_equal(check(f, OTHER, units, 1, large.chars, &err), 0);
        text_append(&large, " ");
        assert_int_equal(check(f, OTHER, units, 1, large.chars, &err), -EDQUOT);
        assert_int_equal(check(f, OTHER, units, ENDPOINTS_BURST + 1, OWN(PORTS), &err), -EBUSY);
        assert_int_equal(check(f, OTHER, units, ENDPOINTS_BURST, OWN(PORTS), &err),
                         -EBUSY); /* two were taken */
        HOST_UNTIL(f->host, endpoints_wait_ms(view(f), OTHER, ENDPOINTS_BURST) == 0);
        assert_int_equal(check(f, OTHER, units, ENDPOINTS_BURST, OWN(PORTS), &err), 0);
        assert_int_equal(check(f, OTHER, units, 10, OWN(PORTS), &err), -EBUSY);
        assert_string_equal(err.message, "beta registers more than 20 endpoints a second");
        assert_int_equal(check(f, OTHER, units, ENDPOINTS_BURST + 1, NULL, &err), 0);

        fill(f, OTHER, 4);
        HOST_UNTIL(f->host, endpoints_wait_ms(view(f), OTHER, 1) == 0);
        assert_int_equal(check(f, OTHER, units, 1, OWN(PORTS), &err), -EDQUOT);
        assert_string_equal(err.message, "beta registers more than 700 endpoints");
}

/* A rejected registration costs its pace, before any text is read: else a host could have texts read as often
 * as it likes. */
static void a_rejected_endpoint_has_taken_its_pace(void **state) {
        static const char *units[ENDPOINTS_BURST];
        Fixture *f = *state;
        Error err;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                units[i] = "web.service";
        assign_web(f, 0);
        assert_int_equal(check(f, OTHER, units, ENDPOINTS_BURST, OWN(""), &err), -EACCES);
        assert_int_equal(check(f, OTHER, units, 10, OWN(PORTS), &err), -EBUSY);
}

/* The leader may have proposed the loss of the host, and its cluster view does not have that yet. */
static void an_endpoint_is_accepted_with_the_check_that_its_host_is_up(void **state) {
        static const char *const units[] = { "web.service" };
        Fixture *f = *state;
        uint64_t index;
        Error err;

        assign_web(f, 0);
        index = cluster_machine(view(f), OTHER)->presence_index;
        assert_int_equal(check_at(f, 0, OTHER, units, 1, OWN(PORTS), &err), -EBUSY);
        assert_string_equal(err.message, "beta is not up");
        assert_int_equal(check_at(f, index - 1, OTHER, units, 1, OWN(PORTS), &err), -EBUSY);
        assert_int_equal(check_at(f, index, OTHER, units, 1, OWN(PORTS), &err), 0);
        assert_int_equal(check_at(f, 0, OTHER, units, 1, NULL, &err), 0);
        assert_int_equal(present(f, OTHER, PRESENCE_AWAY), KV_OK);
        assert_int_equal(check(f, OTHER, units, 1, OWN(PORTS), &err), -EBUSY);
}

static int look(Fixture *f, EndpointLook *l, uint64_t now_ms) {
        KvState state;
        int r;

        kv_state(f->host->store, &state);
        r = registry_end_endpoints(f->host->registry, state.term, l, now_ms, host_on_done, f->host);
        if (r > 0)
                assert_int_equal(host_wait(f->host, 0), KV_OK);
        return r;
}

static void write_key(Fixture *f, LayoutKind kind, const char *unit, const char *value) {
        propose_key(f, kind, unit, OTHER, value);
        put_endpoint(f, "last.service", SELF);
        propose_key(f, LAYOUT_ENDPOINT, "last.service", SELF, NULL);
        HOST_UNTIL(f->host, !cluster_endpoint(view(f), SELF, "last.service"));
}

/* The host might not withdraw it. One that fits again stays, as one of a host with a replica. */
static void an_endpoint_that_has_not_fitted_for_a_minute_is_deleted(void **state) {
        static const struct {
                LayoutKind kind;
                const char *unit, *value, *former;
        } rows[] = {
                { LAYOUT_ASSIGNMENT, "web.service", NULL, "{\"order\":\"run\"}" },
                { LAYOUT_ASSIGNMENT, "web.service", "{\"order\":\"stop\"}", "{\"order\":\"run\"}" },
                { LAYOUT_METADATA, "zone", "b", "" },
                { LAYOUT_FACTS, NULL, "{\"address\":\"10.0.0.2\",\"name\":\"gamma\"}",
                  "{\"address\":\"10.0.0.2\",\"name\":\"beta\"}" },
                { LAYOUT_UNIT, "web.service", "{\"text\":\"[X-Fleet]\\nService=db\\n\"}",
                  "{\"text\":\"[X-Fleet]\\nPort=http:8080\\nPort=admin:auto\\n\"}" },
        };
        Fixture *f = *state;
        EndpointLook l = {};
        uint64_t now_ms = 1000000;

        assign_web(f, 0);
        propose_key(f, LAYOUT_MEMBER, NULL, SELF, "{\"raftId\":1}");
        put_endpoint(f, "web.service", SELF);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                write_key(f, LAYOUT_ENDPOINT, "web.service", OWN(PORTS));
                for (unsigned again = 0; again < 2; again++) {
                        assert_int_equal(look(f, &l, now_ms += 20000), 0);
                        write_key(f, rows[i].kind, rows[i].unit, rows[i].value);
                        assert_int_equal(look(f, &l, now_ms += 20000), 0);
                        assert_int_equal(look(f, &l, now_ms += 50000), 0);
                        if (again == 0)
                                write_key(f, rows[i].kind, rows[i].unit, rows[i].former);
                }
                assert_int_equal(n_endpoints(f, OTHER), 1);
                assert_int_equal(look(f, &l, now_ms += 20000), 1);
                assert_int_equal(n_endpoints(f, OTHER), 0);
                write_key(f, rows[i].kind, rows[i].unit, rows[i].former);
        }
        assert_int_equal(n_endpoints(f, SELF), 1);

        /* At rest, nothing is looked at. */
        assert_int_equal(look(f, &l, now_ms += 20000), 0);
        assert_int_equal(look(f, &l, now_ms += 20000), 0);
        assert_true(l.due_ms < now_ms);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
                TEST(the_entry_that_writes_a_host_as_lost_or_left_deletes_its_endpoints),
                TEST(an_endpoint_that_cannot_be_read_is_deleted_with_its_lost_host),
                TEST(hosts_whose_endpoints_fit_into_no_common_entry_are_lost_one_after_the_other),
                TEST(an_endpoint_on_its_way_does_not_outlive_its_host),
                TEST(an_endpoint_is_written_and_deleted_with_the_state_of_its_unit),
                TEST(a_host_that_is_not_up_registers_nothing),
                TEST(a_withdrawal_deletes_those_endpoints_of_the_host_that_exist),
                TEST(a_host_registers_100_endpoints_at_once_and_then_20_a_second),
                cmocka_unit_test(the_address_of_another_machine_is_accepted_in_no_form),
                cmocka_unit_test(accepted_endpoints_are_those_of_the_text_and_the_machine),
                TEST(an_endpoint_of_a_former_text_is_accepted_while_that_is_assigned),
                TEST(the_number_size_and_pace_of_endpoints_are_limited_and_withdrawals_are_free),
                TEST(a_rejected_endpoint_has_taken_its_pace),
                TEST(an_endpoint_that_has_not_fitted_for_a_minute_is_deleted),
                TEST(an_endpoint_is_accepted_with_the_check_that_its_host_is_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
