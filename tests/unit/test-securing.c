/* The end of the key file: when it is due, what it waits for, and the request, on a host with a real loop,
 * store and sessions that leads its cluster. */
#include "tests/lib/test.h"
#include "fleetd/identity/identity.h"
#include "fleetd/identity/renewal.h"
#include "fleetd/identity/securing.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/host.h"

#define SELF "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PIN  "\"1111111111111111111111111111111111111111111111111111111111111111\""

/* The wall clock is this much ahead. */
static uint64_t ahead_ms;

uint64_t __real_loop_wall_ms(const Loop *loop);
uint64_t __wrap_loop_wall_ms(const Loop *loop);
bool __wrap_peers_has_key(const Peers *peers);
bool __wrap_peers_has_certificate(const Peers *peers);
int __real_peers_state(const Peers *peers, const char *machine_id, PeerState *ret);
int __wrap_peers_state(const Peers *peers, const char *machine_id, PeerState *ret);

uint64_t __wrap_loop_wall_ms(const Loop *loop) {
        return __real_loop_wall_ms(loop) + ahead_ms;
}

/* The sessions of the fixture have no TLS. */
bool __wrap_peers_has_key(const Peers *peers) {
        return true;
}

bool __wrap_peers_has_certificate(const Peers *peers) {
        return true;
}

/* The machine with an open session by the key file; "": none. */
static char by_key[MACHINE_ID_SIZE];

int __wrap_peers_state(const Peers *peers, const char *machine_id, PeerState *ret) {
        if (!streq(machine_id, by_key))
                return __real_peers_state(peers, machine_id, ret);
        *ret = (PeerState) { .dialed = true, .by_key = true };
        return 0;
}

/* -- Fixture -- */

typedef struct Fixture {
        Host *host;
        Authority *authority;
        Renewal *renewal;
        Securing securing;
        uint64_t led_ms;
        Timer tick;
        unsigned n_done;
        int error;
        char message[ERROR_MESSAGE_MAX + 1];
} Fixture;

static void on_tick(void *userdata) {
        Fixture *f = userdata;

        authority_tick(f->authority);
        renewal_tick(f->renewal);
        securing_tick(&f->securing, f->led_ms);
        assert_int_equal(timer_start(&f->tick, f->host->loop, 20), 0);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        ahead_ms = 0;
        by_key[0] = 0;
        f->host = host_new(false);
        f->host->settings.listen_peer = (char *) "127.0.0.1:2380";
        assert_int_equal(authority_new(&f->authority, &f->host->components), 0);
        assert_int_equal(renewal_new(&f->renewal, &f->host->components, f->authority), 0);
        securing_init(&f->securing, &f->host->components, f->authority);
        host_raise(f->host, KV_LEVEL_IDENTITY);
        f->led_ms = 1;
        f->tick = TIMER(on_tick, f);
        on_tick(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        timer_stop(&f->tick);
        securing_done(&f->securing);
        renewal_free(f->renewal);
        authority_free(f->authority);
        host_free(f->host);
        free(f);
        return 0;
}

static const Cluster *view(const Fixture *f) {
        return registry_cluster(f->host->registry);
}

static void on_done(void *userdata, int error, const char *message, const AuthorityResult *unused) {
        Fixture *f = userdata;

        f->n_done++;
        f->error = error;
        snprintf(f->message, sizeof(f->message), "%s", message ?: "");
}

static void secure(Fixture *f, bool force) {
        unsigned before = f->n_done;
        Error err = {};

        assert_int_equal(authority_secure(f->authority, force, "root", on_done, f, &err), 0);
        HOST_UNTIL(f->host, f->n_done > before);
}

/* A voter with settings of the cluster: what membership writes. */
static void begin(Fixture *f) {
        const MemberRecord member = { .raft_id = 1, .peer = "127.0.0.1:2380" };

        assert_int_equal(host_wait(f->host, registry_record_start(f->host->registry, SELF, &member,
                                                                  host_on_done, f->host)),
                         KV_OK);
        host_machine(f->host);
        assert_int_equal(host_wait(f->host, registry_set_settings(
                                                    f->host->registry,
                                                    &(ClusterSettings) { .name = "fleet-a", .voters = 3 },
                                                    NULL, host_on_done, f->host)),
                         KV_OK);
        HOST_UNTIL(f->host, registry_is_current(f->host->registry) && view(f)->settings_index > 0);
}

/* Change the name when another request has required certificates, before the view shows that. */
static void on_required(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Fixture *f = userdata;
        ClusterSettings next = *cluster_settings(view(f));

        assert_int_equal(status, KV_OK);
        assert_int_equal(next.peer_auth, PEER_AUTH_ANY); /* else the test proves nothing */
        snprintf(next.name, sizeof(next.name), "fleet-b");
        assert_int_equal(registry_set_settings(f->host->registry, &next, "root", host_on_done, f->host), 0);
}

/* -- Pure -- */

static void put_member(ClusterView *v, const char *machine, Presence presence) {
        char id[MACHINE_ID_SIZE], key[128], value[128];

        cluster_view_machine(v, machine, "", presence);
        snprintf(key, sizeof(key), "/_fleet/cluster/member/%s", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{\"peer\":\"10.0.0.1:1\",\"raftId\":%d}", machine[0]);
        cluster_view_put(v, key, value);
}

static void put_host(ClusterView *v, const char *machine, uint64_t joined_ms) {
        char id[MACHINE_ID_SIZE], key[128], value[160];

        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{\"joined\":%llu,\"pins\":[" PIN "]}",
                 (unsigned long long) joined_ms);
        cluster_view_put(v, key, value);
}

static void it_is_due_a_week_after_the_last_certificate(void **state) {
        const uint64_t t = UINT64_C(1000000000000);
        _cleanup_cluster_view_ ClusterView v = {};

        assert_false(securing_is_due(&v.cluster, UINT64_MAX)); /* no host at all */
        put_member(&v, "A", PRESENCE_UP);
        assert_false(securing_is_due(&v.cluster, UINT64_MAX));
        put_host(&v, "A", t);
        assert_false(securing_is_due(&v.cluster, t + SECURING_WAIT_MS - 1));
        assert_true(securing_is_due(&v.cluster, t + SECURING_WAIT_MS));
        put_member(&v, "B", PRESENCE_LOST); /* a host that is away counts, too */
        assert_false(securing_is_due(&v.cluster, UINT64_MAX));
        put_host(&v, "B", t + 5);
        assert_false(securing_is_due(&v.cluster, t + SECURING_WAIT_MS + 4));
        assert_true(securing_is_due(&v.cluster, t + SECURING_WAIT_MS + 5));
}

static void hosts_without_a_certificate_are_named(void **state) {
        Fixture *f = *state;
        _cleanup_cluster_view_ ClusterView v = {};
        Error err = {};

        assert_int_equal(securing_check(&v.cluster, f->host->peers, true, SECURING_WAIT_MS, &err), -EAGAIN);
        cluster_view_put(&v, "/_fleet/cluster/settings", "{\"voters\":3}");
        cluster_view_put(&v, "/_fleet/cluster/ca/roots",
                         "{\"roots\":[{\"id\":" PIN ",\"pem\":\"A\",\"state\":\"current\"}]}");
        assert_non_null(v.cluster.ca_roots);
        put_member(&v, "A", PRESENCE_UP);
        put_host(&v, "A", 1);
        assert_int_equal(securing_check(&v.cluster, f->host->peers, false, SECURING_WAIT_MS, &err), 0);

        put_member(&v, "B", PRESENCE_LOST);
        assert_int_equal(securing_check(&v.cluster, f->host->peers, false, SECURING_WAIT_MS, &err), -EBUSY);
        assert_non_null(strstr(err.message, "no certificate: B: start fleetd there"));
        assert_non_null(strstr(err.message, "--force"));
        assert_int_equal(securing_check(&v.cluster, f->host->peers, true, SECURING_WAIT_MS, &err), 0);

        put_member(&v, "C", PRESENCE_UP); /* gets one by itself: '--force' does not leave it out */
        assert_int_equal(securing_check(&v.cluster, f->host->peers, true, SECURING_WAIT_MS, &err), -EAGAIN);
        assert_non_null(strstr(err.message, "C has no certificate yet"));
        put_host(&v, "C", 1);
        assert_int_equal(securing_check(&v.cluster, f->host->peers, true, SECURING_WAIT_MS, &err), 0);

        /* A host may crash between the record of its key and its certificate. */
        put_host(&v, "C", SECURING_WAIT_MS);
        assert_int_equal(securing_check(&v.cluster, f->host->peers, true,
                                        SECURING_WAIT_MS + SECURING_SURE_MS - 1, &err),
                         -EAGAIN);
        assert_non_null(strstr(err.message, "C has no certificate yet"));
        assert_int_equal(
                securing_check(&v.cluster, f->host->peers, true, SECURING_WAIT_MS + SECURING_SURE_MS, &err),
                0);
        put_host(&v, "C", 1);

        cluster_view_id(by_key, "C"); /* its session is not replaced yet */
        assert_int_equal(securing_check(&v.cluster, f->host->peers, true, SECURING_WAIT_MS, &err), -EAGAIN);
        assert_non_null(strstr(err.message, "a session with C still uses the key file"));
}

/* -- One host -- */

static void the_request_creates_all_that_it_needs(void **state) {
        Fixture *f = *state;

        begin(f);
        assert_null(view(f)->ca_roots);
        secure(f, false);
        assert_int_equal(f->error, 0);
        HOST_UNTIL(f->host, cluster_settings(view(f))->peer_auth == PEER_AUTH_CERTIFICATE);
        assert_non_null(view(f)->ca_roots);
        assert_int_equal(cluster_machine(view(f), SELF)->host->pins.n, 1);
        assert_string_equal(cluster_settings(view(f))->name, "fleet-a"); /* as before */
        HOST_UNTIL(f->host, identity_is_required(f->host->scratch));
        secure(f, false);
        assert_int_equal(f->error, 0);
}

static void a_concurrent_change_of_settings_does_not_undo_it(void **state) {
        ClusterSettings required = { .name = "fleet-a", .voters = 3, .peer_auth = PEER_AUTH_CERTIFICATE };
        Fixture *f = *state;

        begin(f);
        assert_int_equal(host_wait(f->host, registry_set_settings(f->host->registry, &required, "root",
                                                                  on_required, f)),
                         KV_COMPARE_FAILED);
        HOST_UNTIL(f->host, cluster_settings(view(f))->peer_auth == PEER_AUTH_CERTIFICATE);
        assert_string_equal(cluster_settings(view(f))->name, "fleet-a");
}

static void on_written(void *userdata, const KvResult *result) {
        *(bool *) userdata = true;
}

static void settings_that_cannot_be_read_are_not_replaced(void **state) {
        const KvCommand set = { .op = KV_SET,
                                .key = kv_string("/_fleet/cluster/settings"),
                                .value = kv_string("{\"voters\":\"many\"}"),
                                .internal = true };
        Fixture *f = *state;
        bool written = false;
        Error err = {};

        begin(f);
        assert_int_equal(kv_propose(f->host->store, &set, on_written, &written, NULL), 0);
        HOST_UNTIL(f->host, written && cluster_has_unreadable(view(f), LAYOUT_SETTINGS));
        assert_int_equal(registry_set_settings(f->host->registry, &(ClusterSettings) { .voters = 3 }, "root",
                                               host_on_done, f->host),
                         -EBADMSG);
        assert_int_equal(authority_secure(f->authority, false, "root", on_done, f, &err), 0);
        HOST_UNTIL(f->host, f->n_done > 0);
        assert_int_equal(f->error, -EBADMSG);
        assert_non_null(strstr(f->message, "settings of the cluster: its key cannot be read by this fleetd"));
}

static void the_request_waits_for_sessions_by_the_key_file(void **state) {
        Fixture *f = *state;
        Error err = {};

        begin(f);
        memcpy(by_key, SELF, sizeof(by_key));
        assert_int_equal(authority_secure(f->authority, false, "root", on_done, f, &err), 0);
        HOST_UNTIL(f->host, view(f)->ca_roots && cluster_machine(view(f), SELF)->host);
        host_pause(f->host, 200); /* ten ticks */
        assert_int_equal(f->n_done, 0);
        assert_int_equal(cluster_settings(view(f))->peer_auth, PEER_AUTH_ANY);
        by_key[0] = 0;
        HOST_UNTIL(f->host, f->n_done == 1);
        assert_int_equal(f->error, 0);
}

static void the_leader_does_it_by_itself_a_week_later(void **state) {
        Fixture *f = *state;

        begin(f);
        f->led_ms = SECURING_LED_MS - 1;
        host_pause(f->host, 200);
        assert_null(view(f)->ca_roots);
        f->led_ms = SECURING_LED_MS;
        HOST_UNTIL(f->host, view(f)->ca_roots && cluster_machine(view(f), SELF)->host);
        ahead_ms = SECURING_WAIT_MS - 60000;
        host_pause(f->host, 200);
        assert_int_equal(cluster_settings(view(f))->peer_auth, PEER_AUTH_ANY);
        assert_false(identity_is_required(f->host->scratch));
        ahead_ms = SECURING_WAIT_MS + 60000;
        HOST_UNTIL(f->host, cluster_settings(view(f))->peer_auth == PEER_AUTH_CERTIFICATE);
        HOST_UNTIL(f->host, identity_is_required(f->host->scratch));
}

static void a_record_needs_an_identity(void **state) {
        Fixture *f = *state;
        Error err = {};

        assert_false(identity_is_required(f->host->scratch));
        assert_int_equal(identity_require(f->host->scratch, &err), -ENOENT);
        assert_false(identity_is_required(f->host->scratch));
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                cmocka_unit_test(it_is_due_a_week_after_the_last_certificate),
                T(hosts_without_a_certificate_are_named),
                T(the_request_creates_all_that_it_needs),
                T(the_request_waits_for_sessions_by_the_key_file),
                T(a_concurrent_change_of_settings_does_not_undo_it),
                T(settings_that_cannot_be_read_are_not_replaced),
                T(the_leader_does_it_by_itself_a_week_later),
                T(a_record_needs_an_identity),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
