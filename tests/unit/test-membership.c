/* The writes of a leader about hosts, with a real store, registry and sessions. The whole cluster:
 * tests/sim/test-lost.c. */

#include "tests/lib/test.h"
#include "fleetd/sessions/membership.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/lib/message.h"
#include "tests/unit/membership.h"

enum { JOIN_VERSION = 1 }; /* of the request to join */

typedef struct Fixture {
        Host *host;
        Membership *membership;
} Fixture;

void (*state_seen)(KvState *state);

void __real_kv_state(KvStore *store, KvState *ret);
void __wrap_kv_state(KvStore *store, KvState *ret);

void __wrap_kv_state(KvStore *store, KvState *ret) {
        __real_kv_state(store, ret);
        if (state_seen)
                state_seen(ret);
}

static void trees_differ(KvState *state) {
        state->undecided = true;
        snprintf(state->problem, sizeof(state->problem), "the replicas' trees differ");
}

Admission admission;
const void *forgotten;

int __wrap_registry_admit(Registry *r, const char *machine_id, const char *address, uint64_t *ret_id,
                          RegistryDone done, void *userdata);
void __real_registry_cancel(Registry *r, const void *userdata);
void __wrap_registry_cancel(Registry *r, const void *userdata);

int __wrap_registry_admit(Registry *r, const char *machine_id, const char *address, uint64_t *ret_id,
                          RegistryDone done, void *userdata) {
        if (admission.error == 0) {
                admission.waits = userdata;
                admission.done = done;
                admission.ret_id = ret_id;
        }
        return admission.error;
}

void __wrap_registry_cancel(Registry *r, const void *userdata) {
        if (userdata == admission.waits)
                admission.waits = NULL;
        forgotten = userdata;
        __real_registry_cancel(r, userdata);
}

/* The observer of membership, and the calls that it deferred. */
static RegistryObserver *listener;
static const void *listening;
unsigned n_deferred;

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

static int n_unit_files;

int __wrap_directory_list_units(const Directory *d, Text *names);
int __wrap_directory_list_units(const Directory *d, Text *names) {
        text_append(names, n_unit_files > 0 ? "late.service" : "");
        return n_unit_files;
}

static int fixture_setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);

        state_seen = NULL;
        admission = (Admission) {};
        fixture->host = host_new(false);
        host_machine(fixture->host);
        n_unit_files = 0;
        assert_int_equal(membership_new(&fixture->membership, &fixture->host->components), 0);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        membership_free(fixture->membership);
        host_free(fixture->host);
        free(fixture);
        return 0;
}

static bool says(Fixture *fixture, const char *reason) {
        const ClusterMachine *m = cluster_machine(registry_cluster(fixture->host->registry),
                                                  fixture->host->id);

        return m && m->presence == PRESENCE_UP && streq(message_of(&m->verdict), reason);
}

static void a_leader_publishes_the_problem_of_its_own_replica_in_its_presence_until_it_is_solved(
        void **state) {
        Fixture *fixture = *state;

        state_seen = trees_differ;
        HOST_UNTIL(fixture->host,
                   says(fixture, "its replica: the replicas' trees differ, and no majority of them agrees"));
        state_seen = NULL;
        HOST_UNTIL(fixture->host, says(fixture, "its replica works again"));
        /* A host without a peer listener publishes no replica. */
        assert_int_equal(
                cluster_machine(registry_cluster(fixture->host->registry), fixture->host->id)->member.raft_id,
                0);
}

static void addresses_of_hosts_are_read_again_after_changes_that_affect_them_and_only_then(void **state) {
        static const bool may_change_them[CHANGED_CLUSTER + 1] = {
                [CHANGED_ALL] = true, [CHANGED_MACHINE] = true, [CHANGED_CLUSTER] = true
        };
        Fixture *fixture = *state;

        for (unsigned kind = 0; kind < ELEMENTS(may_change_them); kind++) {
                n_deferred = 0;
                listener->on_change(listener->userdata, &(RegistryChange) { .kind = kind });
                assert_int_equal(n_deferred, may_change_them[kind]);
        }

        n_deferred = 0;
        membership_state_changed(fixture->membership);
        assert_int_equal(n_deferred, 1);
        membership_peer_changed(fixture->membership, fixture->host->id);
        assert_int_equal(n_deferred, 2);
}

static void on_closed(void *userdata) {
        *(Peers **) userdata = NULL;
}

static bool is_dialed(Peers *peers, const char *machine_id) {
        PeerState state;

        return peers_state(peers, machine_id, &state) >= 0 && state.dialed;
}

static void a_membership_that_is_freed_during_an_admission_waits_for_no_answer(void **state) {
        PeersOptions options = { .self = { .machine_id = "cccccccccccccccccccccccccccccccc",
                                           .boot_id = "dddddddddddddddddddddddddddddddd",
                                           .nonce = 2 } };
        Fixture *fixture = *state;
        Loop *loop = fixture->host->loop;
        _cleanup_writer_ Writer w = {};
        PeerAddress leader = {};
        Peers *joining;
        Error err = {};

        snprintf(leader.address, sizeof(leader.address), "127.0.0.1:%d", scratch_port());
        memcpy(leader.machine_id, fixture->host->id, sizeof(leader.machine_id));
        if (peers_listen(fixture->host->peers, leader.address, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(peers_new(&joining, loop, fixture->host->network, &options), 0);
        assert_int_equal(peers_set_known(joining, &leader, 1), 0);
        HOST_UNTIL(fixture->host, is_dialed(joining, fixture->host->id));

        write_u8(&w, JOIN_VERSION);
        write_string(&w, "127.0.0.1:1");
        assert_int_equal(peers_send(joining, fixture->host->id, PEER_JOIN, w.bytes, w.size), 0);
        HOST_UNTIL(fixture->host, admission.waits);
        fixture->membership = membership_free(fixture->membership);
        assert_null(admission.waits);

        peers_close(joining, "", on_closed, &joining);
        HOST_UNTIL(fixture->host, !joining);
}

static void ignore_result(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

static const ClusterMachine *self(Fixture *fixture) {
        return cluster_machine(registry_cluster(fixture->host->registry), fixture->host->id);
}

/* Nothing stops the leave of this fixture's host: it ends with the next tick, unless it is cancelled. */
static void a_leave_is_cancelled_when_a_unit_file_appears_or_the_directory_cannot_be_read(void **state) {
        static const int counts[] = { 1, -EIO, 0 };
        Fixture *fixture = *state;
        _cleanup_free_ char *key = NULL;
        KvCommand command = { .op = KV_SET,
                              .internal = true,
                              .value = kv_string("{\"for\":\"leave\",\"mode\":\"draining\"}") };

        HOST_UNTIL(fixture->host, self(fixture) && self(fixture)->presence == PRESENCE_UP);
        assert_true(asprintf(&key, "/_fleet/machine/%s/maintenance", fixture->host->id) > 0);
        command.key = kv_string(key);
        for (size_t i = 0; i < ELEMENTS(counts); i++) {
                n_unit_files = counts[i];
                assert_int_equal(kv_propose(fixture->host->store, &command, ignore_result, NULL, NULL), 0);
                HOST_UNTIL(fixture->host, cluster_machine_is_leaving(self(fixture)));
                HOST_UNTIL(fixture->host, !cluster_machine_is_leaving(self(fixture)));
                assert_int_equal(cluster_machine_has_left(self(fixture)), counts[i] == 0);
        }
}

#define with_fixture(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                with_fixture(
                        a_leader_publishes_the_problem_of_its_own_replica_in_its_presence_until_it_is_solved),
                with_fixture(addresses_of_hosts_are_read_again_after_changes_that_affect_them_and_only_then),
                with_fixture(a_leave_is_cancelled_when_a_unit_file_appears_or_the_directory_cannot_be_read),
                with_fixture(a_membership_that_is_freed_during_an_admission_waits_for_no_answer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL) + membership_leads_tests() +
               membership_joins_tests();
}
