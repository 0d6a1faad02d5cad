/* A change of the tree ends the open sessions of the host that it concerns, on a host with a real loop, store
 * and sessions with certificates. The time from the end of the proposal to the end of the sessions is
 * printed. */
#include <sys/stat.h>
#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/sessions/membership.h"
#include "fleetd/identity/revocation.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"

enum { LIMIT_MS = 100 };

#define CLUSTER  UINT64_C(0xc1)
#define ID_A     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B     "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C     "cccccccccccccccccccccccccccccccc"
#define EIGHT(s) s s s s s s s s
#define PIN_A    EIGHT("aaaaaaaa")
#define PIN_B    EIGHT("bbbbbbbb")
#define HOST     "/_fleet/cluster/host/" ID_B
#define MEMBER   "/_fleet/cluster/member/" ID_B
#define REMOVED  "/_fleet/cluster/removed/" ID_B

typedef struct Side {
        Peers *peers;
        TlsPrivateKey *key;
        char address[ADDRESS_SIZE];
        PeerHandshake self;
} Side;

/* 'alpha' has the store; 'beta' is another host. */
typedef struct Fixture {
        Host *host;
        Side alpha, beta;
        Membership *membership;
        TlsPrivateKey *ca_key;
        TlsKey *shared;
        Text root, log;
        uint64_t answered_ms;
} Fixture;

static void keep_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        Fixture *f = userdata;

        text_append(&f->log, message);
        text_append_char(&f->log, '\n');
}

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Fixture *f = userdata;

        assert_int_equal(status, KV_OK);
        f->answered_ms = loop_now_ms(f->host->loop);
}

/* Propose one command. */
static void propose(Fixture *f, KvCommand command) {
        KvCommand transaction = { .op = KV_TXN, .internal = true, .writes = &command, .n_writes = 1 };

        command.internal = true;
        f->answered_ms = 0;
        assert_int_equal(registry_propose(f->host->registry, &transaction, on_done, f), 0);
        HOST_UNTIL(f->host, f->answered_ms > 0);
}

static void set(Fixture *f, const char *key, const char *value) {
        propose(f, (KvCommand) { .op = KV_SET, .key = kv_string(key), .value = kv_string(value) });
}

static void delete (Fixture *f, const char *key) {
        propose(f, (KvCommand) { .op = KV_DELETE, .key = kv_string(key) });
}

/* -- Hosts -- */

static void alpha_known(void *userdata, const char *machine_id, PeerKnown *ret) {
        Fixture *f = userdata;

        revocation_known(f->host->store, f->host->registry, NULL, false, machine_id, ret);
}

/* Beta knows alpha by its key. */
static void beta_known(void *userdata, const char *machine_id, PeerKnown *ret) {
        Fixture *f = userdata;

        *ret = (PeerKnown) { .tls = { .state = TLS_KNOWN, .replica = true, .n_pins = 1 } };
        tls_private_key_pin(f->alpha.key, &ret->tls.pins[0]);
}

static void issue(Fixture *f, Side *s, TlsCredentials **ret) {
        _cleanup_text_ Text request = {}, certificate = {};
        TlsIssue issue = { .uri = { .cluster_id = CLUSTER, .role = TLS_ROLE_REPLICA },
                           .now_ms = loop_wall_ms(f->host->loop),
                           .lifetime_ms = TLS_LEAF_LIFETIME_MS,
                           .root = f->root.chars,
                           .root_size = f->root.size };
        Error err = {};

        memcpy(issue.uri.subject, s->self.machine_id, MACHINE_ID_SIZE);
        assert_int_equal(tls_private_key_new(&s->key, &err), 0);
        assert_int_equal(tls_request_create(s->key, &request, &err), 0);
        issue.request = request.chars;
        issue.request_size = request.size;
        assert_int_equal(tls_issue(&issue, f->ca_key, &certificate, &err), 0);
        assert_int_equal(tls_credentials_new(s->key, certificate.chars, f->root.chars, ret, &err), 0);
}

static void side_open(Fixture *f, Side *s, const char *id, const char *name, bool certificate) {
        _cleanup_(tls_credentials_freep) TlsCredentials *credentials = NULL;
        PeersOptions options = { .key = f->shared,
                                 .known = streq(id, ID_A) ? alpha_known : beta_known,
                                 .userdata = f };
        Error err = {};

        s->self =
                (PeerHandshake) { .cluster_id = CLUSTER, .lineage = 1, .start_number = 1, .raft_id = id[0] };
        s->self.nonce = (uintptr_t) s;
        memcpy(s->self.machine_id, id, MACHINE_ID_SIZE);
        snprintf(s->self.name, sizeof(s->self.name), "%s", name);
        snprintf(s->address, sizeof(s->address), "127.0.0.1:%d", scratch_port());
        memcpy(s->self.address, s->address, sizeof(s->address));
        if (certificate)
                issue(f, s, &credentials);
        options.credentials = credentials;
        options.self = s->self;
        assert_int_equal(peers_new(&s->peers, f->host->loop, f->host->network, &options), 0);
        assert_int_equal(peers_listen(s->peers, s->address, &err), 0);
}

static void on_closed(void *userdata) {
        *(Peers **) userdata = NULL;
}

static void side_close(Fixture *f, Side *s) {
        peers_close(s->peers, "", on_closed, &s->peers);
        HOST_UNTIL(f->host, !s->peers);
        s->key = tls_private_key_free(s->key);
}

static bool has_session(const Side *s, const char *id) {
        PeerState state = {};

        return peers_state(s->peers, id, &state) >= 0 && (state.dialed || state.accepted);
}

static bool connected(Fixture *f) {
        PeerState state = {};

        return peers_state(f->alpha.peers, ID_B, &state) >= 0 && state.dialed && state.accepted &&
               has_session(&f->beta, ID_A);
}

static void connect_both(Fixture *f) {
        PeerAddress to_alpha = {}, to_beta = {};

        memcpy(to_alpha.address, f->alpha.address, sizeof(to_alpha.address));
        memcpy(to_beta.address, f->beta.address, sizeof(to_beta.address));
        assert_int_equal(peers_set_known(f->beta.peers, &to_alpha, 1), 0);
        assert_int_equal(peers_set_known(f->alpha.peers, &to_beta, 1), 0);
        HOST_UNTIL(f->host, connected(f));
}

/* The record of a host with the key of 'key'. */
static void set_host(Fixture *f, const TlsPrivateKey *key) {
        char pin[TLS_PIN_SIZE], value[128];
        TlsPin bytes;

        tls_private_key_pin(key, &bytes);
        tls_pin_print(&bytes, pin);
        snprintf(value, sizeof(value), "{\"pins\":[\"%s\"]}", pin);
        set(f, HOST, value);
}

static void begin(Fixture *f, bool certificate) {
        char member[128];

        side_open(f, &f->beta, ID_B, "beta", certificate);
        if (certificate)
                set_host(f, f->beta.key);
        /* The address makes membership dial beta. */
        snprintf(member, sizeof(member), "{\"raftId\":%d,\"peer\":\"%s\",\"name\":\"beta\"}", 'b',
                 f->beta.address);
        set(f, MEMBER, member);
        connect_both(f);
}

/* -- Set-up -- */

static int setup(void **state) {
        static const uint8_t serial[TLS_SERIAL_BYTES] = { 1 };
        Fixture *f = NEW0(Fixture, 1);
        char path[] = "/tmp/test-revocation-XXXXXX", digits[66] = "";
        int fd = mkstemp(path);
        Error err = {};

        memset(digits, 'a', 64);
        digits[64] = '\n';
        assert_true(fd >= 0);
        assert_int_equal(write(fd, digits, 65), 65);
        close(fd);
        assert_int_equal(tls_key_read(path, &f->shared, &err), 0);
        unlink(path);
        f->host = host_new(false);
        assert_int_equal(tls_private_key_new(&f->ca_key, &err), 0);
        assert_int_equal(
                tls_root_create(f->ca_key, CLUSTER, serial, loop_wall_ms(f->host->loop), &f->root, &err), 0);
        side_open(f, &f->alpha, ID_A, "alpha", true);
        f->host->components.peers = f->alpha.peers;
        assert_int_equal(membership_new(&f->membership, &f->host->components), 0);
        log_set_sink(keep_log, f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        log_set_sink(NULL, NULL);
        membership_free(f->membership);
        side_close(f, &f->beta);
        side_close(f, &f->alpha);
        tls_private_key_free(f->ca_key);
        tls_key_free(f->shared);
        text_done(&f->root);
        text_done(&f->log);
        host_free(f->host);
        free(f);
        return 0;
}

/* Wait for the end of the sessions of beta on alpha, and check the time since the change was answered. */
static void assert_ended(Fixture *f, const char *change, const char *reason) {
        uint64_t ms;

        HOST_UNTIL(f->host, !has_session(&f->alpha, ID_B));
        ms = loop_now_ms(f->host->loop) - f->answered_ms;
        printf("# %s: the sessions end after %llu ms\n", change, (unsigned long long) ms);
        assert_true(ms <= LIMIT_MS);
        HOST_UNTIL(f->host, strstr(f->log.chars, reason));
}

/* -- Cases -- */

static void a_removal_ends_the_sessions_of_the_host(void **state) {
        Fixture *f = *state;

        begin(f, true);
        set(f, REMOVED, "{\"by\":\"root@alpha\",\"reason\":\"lost\"}");
        assert_ended(f, "removal", "beta was removed from the cluster by root@alpha");
        HOST_UNTIL(f->host, !has_session(&f->beta, ID_A));
}

static void a_removal_ends_sessions_with_the_key_file(void **state) {
        Fixture *f = *state;

        begin(f, false);
        set(f, REMOVED, "{\"by\":\"\",\"reason\":\"lost\"}");
        assert_ended(f, "removal, key file", "beta was removed from the cluster");
}

static void another_pin_ends_the_sessions_of_the_former_key(void **state) {
        Fixture *f = *state;

        begin(f, true);
        set_host(f, f->alpha.key);
        assert_ended(f, "another pin", "machine " ID_B " has another key than the cluster knows");
        /* With its former key it is rejected; the pin back, it returns. */
        set_host(f, f->beta.key);
        connect_both(f);
        delete (f, HOST);
        assert_ended(f, "no pin", "the cluster has no key of machine " ID_B " any more");
}

/* A member without a pin could use the key file as well. */
static void a_first_certificate_counts_while_the_key_file_does(void **state) {
        Fixture *f = *state;
        const Cluster *c = registry_cluster(f->host->registry);

        begin(f, true);
        delete (f, HOST);
        HOST_UNTIL(f->host, !cluster_machine(c, ID_B)->host);
        for (unsigned required = 0; required < 2; required++) {
                PeerKnown with = {}, without = {};

                revocation_known(f->host->store, f->host->registry, NULL, true, ID_B, &with);
                revocation_known(f->host->store, f->host->registry, NULL, false, ID_B, &without);
                assert_int_equal(with.tls.chain_counts, !required);
                assert_false(without.tls.chain_counts);
                set(f, "/_fleet/cluster/settings", "{\"peerAuth\":\"certificate\",\"voters\":3}");
                HOST_UNTIL(f->host, cluster_settings(c)->peer_auth == PEER_AUTH_CERTIFICATE);
        }
}

static void the_end_of_its_replica_ends_the_sessions(void **state) {
        Fixture *f = *state;

        begin(f, true);
        delete (f, MEMBER);
        assert_ended(f, "no replica", "machine " ID_B " has no replica any more");
}

static void required_certificates_end_sessions_with_the_key_file(void **state) {
        Fixture *f = *state;

        begin(f, false);
        set(f, "/_fleet/cluster/settings", "{\"peerAuth\":\"certificate\",\"voters\":3}");
        assert_ended(f, "certificates required",
                     "the cluster requires certificates, and its key file does not");
        HOST_UNTIL(f->host, strstr(f->log.chars, "rejected by the peer: the cluster requires certificates"));
        assert_false(has_session(&f->alpha, ID_B));
}

static void required_certificates_end_no_session_with_certificates(void **state) {
        Fixture *f = *state;

        begin(f, true);
        set(f, "/_fleet/cluster/settings", "{\"peerAuth\":\"certificate\",\"voters\":3}");
        HOST_UNTIL(f->host, strstr(f->log.chars, "PeerKey= has no effect any more"));
        assert_true(connected(f));
        assert_null(strstr(f->log.chars, "ended:"));
}

/* What concerns other hosts, or nothing that a certificate proves, ends no session. */
static void other_changes_end_no_session(void **state) {
        Fixture *f = *state;
        char member[128];

        begin(f, true);
        set(f, "/_fleet/cluster/removed/cccccccccccccccccccccccccccccccc", "{\"by\":\"\"}");
        set(f, "/_fleet/cluster/settings", "{\"voters\":3}");
        set_host(f, f->beta.key);
        snprintf(member, sizeof(member), "{\"raftId\":%d,\"peer\":\"%s\",\"start\":2}", 'b', f->beta.address);
        set(f, MEMBER, member);
        HOST_UNTIL(f->host, registry_is_current(f->host->registry));
        host_pause(f->host, 2 * LIMIT_MS); /* nothing may happen */
        assert_true(connected(f));
        assert_null(strstr(f->log.chars ?: "", "ended:"));
}

/* -- What a host knows: pure -- */

enum { CONFIRMED_MS = 1000000 };

typedef struct Knowledge {
        ClusterView view;
        ReplicaPins list;
        RevocationView v;
        PeerKnown alpha, beta;
} Knowledge;

/* The host has stored the pin of alpha, and none of beta. Alpha and beta are what it knows of them. */
static void know(Knowledge *k) {
        k->v.cluster = &k->view.cluster;
        k->alpha = k->beta = (PeerKnown) {};
        revocation_of(&k->v, ID_A, &k->alpha);
        revocation_of(&k->v, ID_B, &k->beta);
}

static void knowledge_init(Knowledge *k) {
        *k = (Knowledge) { .list = { .n = 1, .confirmed_ms = CONFIRMED_MS } };
        strcpy(k->list.items[0].machine, ID_A);
        k->list.items[0].pins.n = 1;
        strcpy(k->list.items[0].pins.items[0], PIN_A);
        k->v = (RevocationView) { .replicas = &k->list, .self = ID_C, .behind = true };
}

/* A host that restarts would otherwise attach to a replica that was removed: its certificate is valid. */
static void a_restarted_attached_host_knows_only_its_stored_replicas(void **state) {
        Knowledge k;

        knowledge_init(&k);
        for (unsigned i = 0; i < 2; i++) {
                k.v.stale = i > 0;
                know(&k);
                assert_int_equal(k.alpha.tls.state, TLS_KNOWN);
                assert_true(k.alpha.tls.replica);
                assert_int_equal(k.alpha.tls.n_pins, 1);
                assert_false(k.alpha.tls.chain_counts);
                assert_int_equal(k.beta.tls.state, TLS_UNKNOWN);
                assert_false(k.beta.tls.chain_counts);
                assert_true(k.beta.tls.chain_waits);
        }

        /* All are silent: they may have been replaced, by others or with other keys. */
        k.v.silent = true;
        know(&k);
        assert_true(k.alpha.tls.chain_counts && k.alpha.tls.replica && k.alpha.tls.state == TLS_KNOWN);
        assert_int_equal(k.alpha.tls.issued_after_ms, CONFIRMED_MS);
        assert_true(k.beta.tls.chain_counts && !k.beta.tls.chain_waits);
        assert_int_equal(k.beta.tls.issued_after_ms, CONFIRMED_MS);
        k.list.confirmed_ms = 0;
        know(&k);
        assert_int_equal(k.alpha.tls.issued_after_ms,
                         1); /* 0: another key of a known machine would not count */
}

/* What a chain admits without a list: a first start after a join, a new replica, a cluster with a key file.
 */
static void a_chain_counts_on_hosts_without_a_list(void **state) {
        Knowledge k;

        for (unsigned i = 0; i < 4; i++) {
                knowledge_init(&k);
                if (i == 0)
                        k.v.replicas = NULL;
                else if (i == 1)
                        k.list.n = 0;
                else if (i == 2)
                        k.v.self = ID_A; /* has a replica */
                else
                        k.v.has_key = true;
                know(&k);
                assert_true(k.beta.tls.chain_counts && !k.beta.tls.chain_waits);
                assert_int_equal(k.beta.tls.issued_after_ms, 0);
                assert_int_equal(k.alpha.tls.state, TLS_UNKNOWN);
                assert_int_equal(k.alpha.tls.n_pins, i >= 2); /* the stored pin helps */
        }
}

/* The tombstone of a replica is not in each slice, and no certificate in the tree may be newer than its own.
 */
static void without_a_leader_a_certificate_must_be_newer_than_the_list(void **state) {
        Knowledge k;

        knowledge_init(&k);
        k.v.behind = false;
        k.v.silent = true;
        cluster_view_put(&k.view, "/_fleet/cluster/member/" ID_A, "{\"raftId\":1}");
        cluster_view_put(&k.view, "/_fleet/cluster/host/" ID_A, "{\"pins\":[\"" PIN_B "\"]}");
        know(&k);
        assert_int_equal(k.alpha.tls.n_pins, 1); /* that of the tree */
        assert_int_equal(k.alpha.raft_id, 1);
        assert_true(k.beta.tls.chain_counts);
        assert_int_equal(k.beta.tls.issued_after_ms, CONFIRMED_MS);

        k.v.silent = false;
        know(&k);
        assert_false(k.beta.tls.chain_counts || k.beta.tls.chain_waits);

        /* In another lineage, its replica may have another Raft ID. */
        k.v.behind = true;
        know(&k);
        assert_int_equal(k.alpha.tls.n_pins, 2);
        assert_int_equal(k.alpha.raft_id, 0);
        cluster_view_put(&k.view, "/_fleet/cluster/removed/" ID_A, "{}");
        know(&k);
        assert_int_equal(k.alpha.tls.state, TLS_REMOVED);
        cluster_view_free(&k.view);
}

/* A replica that restarts after all others have other keys. */
static void after_a_silence_a_later_certificate_counts_on_a_replica_that_is_behind(void **state) {
        Knowledge k;

        knowledge_init(&k);
        k.v.replicas = NULL;
        cluster_view_put(&k.view, "/_fleet/cluster/member/" ID_A, "{\"raftId\":1}");
        cluster_view_put(&k.view, "/_fleet/cluster/host/" ID_A,
                         "{\"expires\":3000000000,\"pins\":[\"" PIN_B "\"]}");
        know(&k);
        assert_true(k.alpha.tls.chain_counts && k.alpha.tls.issued_after_ms == 0);
        k.v.silent = true;
        know(&k);
        assert_true(k.alpha.tls.chain_counts && k.alpha.tls.replica);
        assert_int_equal(k.alpha.tls.issued_after_ms, 3000000000 - TLS_LEAF_LIFETIME_MS);
        assert_true(k.beta.tls.chain_counts && k.beta.tls.issued_after_ms == 0);
        cluster_view_free(&k.view);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_restarted_attached_host_knows_only_its_stored_replicas),
                cmocka_unit_test(a_chain_counts_on_hosts_without_a_list),
                cmocka_unit_test(after_a_silence_a_later_certificate_counts_on_a_replica_that_is_behind),
                cmocka_unit_test(without_a_leader_a_certificate_must_be_newer_than_the_list),
                cmocka_unit_test_setup_teardown(a_removal_ends_the_sessions_of_the_host, setup, teardown),
                cmocka_unit_test_setup_teardown(a_removal_ends_sessions_with_the_key_file, setup, teardown),
                cmocka_unit_test_setup_teardown(another_pin_ends_the_sessions_of_the_former_key, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_first_certificate_counts_while_the_key_file_does, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(the_end_of_its_replica_ends_the_sessions, setup, teardown),
                cmocka_unit_test_setup_teardown(required_certificates_end_sessions_with_the_key_file, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(required_certificates_end_no_session_with_certificates, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(other_changes_end_no_session, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
