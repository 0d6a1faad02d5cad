/* Joining by a token, from the joining side: over 127.0.0.1, against a leader that the test plays. */
#include <fcntl.h>
#include <libgen.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/identity/cluster_file.h"
#include "fleetd/identity/enter_message.h"
#include "fleetd/identity/entering.h"
#include "fleetd/identity/identity.h"
#include "fleetd/sessions/membership.h"
#include "io/loop_uv.h"
#include "io/tls_roles.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/scratch.h"

#define LEADER_ID "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HOST_ID   "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define CLUSTER   UINT64_C(0x1234)
#define NOW_MS    UINT64_C(1700000000000)

enum { LOOK_MS = 2 };

typedef struct Leader {
        Peers *peers;
        char address[ADDRESS_SIZE];
        TlsPrivateKey *ca_key;
        Text root;
        uint64_t cluster_id; /* of its certificates */
        const char *subject, *refusal;
        unsigned n_requests;
        TlsPin last_pin;
        char last_token[TOKEN_ID_SIZE];
        bool last_exposed;
} Leader;

typedef struct Fixture {
        UvLoop *uv;
        Loop *loop;
        Network *network;
        char *scratch;
        Leader leader;
        Entering *entering;
        Token token;
        bool done, closed;
        int error;
        char message[ERROR_MESSAGE_MAX];
        EnteringResult result;
} Fixture;

static void stop_loop(void *userdata) {
        loop_uv_stop(userdata);
}

static void run_a_moment(Fixture *f) {
        Timer look = { .fire = stop_loop, .userdata = f->uv };

        assert_int_equal(timer_start(&look, f->loop, LOOK_MS), 0);
        assert_true(loop_uv_run(f->uv) >= 0);
}

/* -- The leader -- */

static void issue(Leader *l, const EnterRequest *request, Text *ret) {
        TlsIssue issue = { .uri = { .cluster_id = l->cluster_id, .role = TLS_ROLE_HOST },
                           .serial = { 1 },
                           .now_ms = NOW_MS,
                           .lifetime_ms = TLS_LEAF_LIFETIME_MS,
                           .request = request->csr,
                           .request_size = strlen(request->csr),
                           .root = l->root.chars,
                           .root_size = l->root.size };
        Error err = {};

        snprintf(issue.uri.subject, sizeof(issue.uri.subject), "%s", l->subject);
        if (tls_issue(&issue, l->ca_key, ret, &err) < 0)
                fail_msg("%s", err.message);
}

static void leader_on_request(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                              size_t size) {
        _cleanup_enter_request_ EnterRequest request = {};
        _cleanup_text_ Text certificate = {};
        Leader *l = userdata;
        EnterAnswer answer = { .refusal = (char *) l->refusal, .cluster_id = l->cluster_id, .lineage = 9 };
        _cleanup_writer_ Writer w = {};
        Error err = {};

        assert_int_equal(enter_request_read(payload, size, &request, &err), 0);
        assert_int_equal(tls_request_read(request.csr, strlen(request.csr), &l->last_pin, &err), 0);
        memcpy(l->last_token, request.token, sizeof(l->last_token));
        l->last_exposed = request.exposed;
        l->n_requests++;
        if (!l->refusal) {
                issue(l, &request, &certificate);
                answer.certificate = certificate.chars;
                answer.roots = l->root.chars;
                answer.n_endpoints = 2;
                snprintf(answer.endpoints[0], ADDRESS_SIZE, "%s", l->address);
                snprintf(answer.endpoints[1], ADDRESS_SIZE, "10.0.0.9:2380");
        }
        enter_answer_write(&answer, &w);
        assert_int_equal(peer_reply(session, PEER_ENTERED, w.bytes, w.size), 0);
}

static const PeerFrameType leader_types[] = { { PEER_ENTER, leader_on_request } };

static void leader_open(Fixture *f) {
        PeersOptions options = { .self = { .cluster_id = CLUSTER,
                                           .lineage = 9,
                                           .nonce = 1,
                                           .raft_id = 1,
                                           .machine_id = LEADER_ID,
                                           .name = "alpha" } };
        Leader *l = &f->leader;
        Error err = {};

        l->cluster_id = CLUSTER;
        l->subject = HOST_ID;
        snprintf(l->address, sizeof(l->address), "127.0.0.1:%d", scratch_port());
        snprintf(options.self.address, sizeof(options.self.address), "%s", l->address);
        assert_int_equal(tls_private_key_new(&l->ca_key, &err), 0);
        assert_int_equal(tls_root_create(l->ca_key, CLUSTER, (uint8_t[TLS_SERIAL_BYTES]) { 7 }, NOW_MS,
                                         &l->root, &err),
                         0);
        assert_int_equal(peers_new(&l->peers, f->loop, f->network, &options), 0);
        peers_register(l->peers, leader_types, ELEMENTS(leader_types), l);
        assert_int_equal(peers_listen(l->peers, l->address, &err), 0);
}

/* -- The host -- */

static int open_fixture(void **state) {
        Fixture *f = NEW0(Fixture, 1);
        TlsPin pin;

        log_set_max_priority(LOG_EMERG);
        assert_int_equal(loop_uv_new(&f->uv), 0);
        f->loop = loop_uv_base(f->uv);
        assert_int_equal(net_uv_new(&f->network, f->loop), 0);
        f->scratch = scratch_new();
        leader_open(f);
        f->token = (Token) { .cluster_id = CLUSTER, .id = "0123456789ab", .secret = { 5 }, .n_endpoints = 1 };
        tls_private_key_pin(f->leader.ca_key, &pin);
        memcpy(f->token.root, pin.bytes, sizeof(f->token.root));
        snprintf(f->token.endpoints[0], ADDRESS_SIZE, "%s", f->leader.address);
        *state = f;
        return 0;
}

static void on_closed(void *userdata) {
        *(bool *) userdata = true;
}

static int close_fixture(void **state) {
        Fixture *f = *state;

        f->closed = false;
        peers_close(f->leader.peers, "", on_closed, &f->closed);
        while (!f->closed)
                run_a_moment(f);
        tls_private_key_free(f->leader.ca_key);
        text_done(&f->leader.root);
        net_uv_free(f->network);
        loop_uv_free(f->uv);
        scratch_free(f->scratch);
        free(f);
        return 0;
}

static void on_done(void *userdata, int error, const char *message, const EnteringResult *result) {
        Fixture *f = userdata;

        assert_false(f->done);
        f->done = true;
        f->error = error;
        snprintf(f->message, sizeof(f->message), "%s", message);
        if (result)
                f->result = *result;
}

static int address_towards(const char *endpoint, char ret[static ADDRESS_SIZE]) {
        snprintf(ret, ADDRESS_SIZE, "10.0.0.2");
        return 0;
}

static void enter(Fixture *f, const char *listen) {
        PeerHandshake self = { .machine_id = HOST_ID, .nonce = 2, .name = "beta" };
        EnteringOptions options = { .loop = f->loop,
                                    .network = f->network,
                                    .state_directory = f->scratch,
                                    .cluster_file = "",
                                    .self = &self,
                                    .token = &f->token,
                                    .listen = listen,
                                    .level = 5,
                                    .address_towards = address_towards,
                                    .plain = true };
        Error err = {};

        f->done = f->closed = false;
        if (entering_new(&f->entering, &options, on_done, f, &err) < 0)
                fail_msg("%s", err.message);
        while (!f->done)
                run_a_moment(f);
        entering_close(f->entering, on_closed, &f->closed);
        while (!f->closed)
                run_a_moment(f);
}

static void assert_message(const Fixture *f, const char *part) {
        if (!strstr(f->message, part))
                fail_msg("'%s' is not in: %s", part, f->message);
}

static void a_token_gives_an_identity_and_the_next_start_enters(void **state) {
        _cleanup_identity_ HostIdentity identity = {};
        _cleanup_free_ char *file = NULL, *text = NULL, *expected = NULL;
        Fixture *f = *state;
        Error err = {};

        enter(f, ":2380");
        assert_int_equal(f->error, 0);
        assert_int_equal(f->result.cluster_id, CLUSTER);
        assert_string_equal(f->result.through, "alpha");
        assert_string_equal(f->result.listen, "10.0.0.2:2380");
        assert_string_equal(f->leader.last_token, "0123456789ab");
        assert_int_equal(identity_read(f->scratch, &identity, &err), -ENOENT);

        file = scratch_path(f->scratch, "50-cluster.conf");
        assert_int_equal(identity_begin(f->scratch, file, &err), 1);
        assert_int_equal(identity_read(f->scratch, &identity, &err), 0);
        assert_int_equal(read_file_at(AT_FDCWD, file, 65536, &text, NULL), 0);
        assert_true(asprintf(&expected, "ListenPeer=10.0.0.2:2380\nJoin=%s 10.0.0.9:2380\n",
                             f->leader.address) > 0);
        assert_true(ends_with(text, expected));
}

static void a_rejection_is_reported_and_the_key_is_used_again(void **state) {
        Fixture *f = *state;
        TlsPin first;

        f->leader.refusal = "the token was used; on a host of the cluster: fleetctl token";
        enter(f, "10.0.0.2:2380");
        assert_int_equal(f->error, -EACCES);
        assert_message(f, "alpha rejected the join: the token was used");
        first = f->leader.last_pin;

        f->leader.refusal = NULL;
        enter(f, "10.0.0.2:2380");
        assert_int_equal(f->error, 0);
        assert_true(tls_pin_equal(&first, &f->leader.last_pin));
}

static void an_endpoint_without_a_fleetd_is_named_with_the_reason(void **state) {
        Fixture *f = *state;

        snprintf(f->token.endpoints[0], ADDRESS_SIZE, "127.0.0.1:%d", scratch_port());
        enter(f, "10.0.0.2:2380");
        assert_int_equal(f->error, -EHOSTUNREACH);
        assert_message(f, f->token.endpoints[0]);
        assert_message(f, "refused");
        assert_message(f, "fleetctl token");
}

static void another_endpoint_is_used_if_the_first_does_not_answer(void **state) {
        Fixture *f = *state;

        snprintf(f->token.endpoints[1], ADDRESS_SIZE, "%s", f->leader.address);
        snprintf(f->token.endpoints[0], ADDRESS_SIZE, "127.0.0.1:%d", scratch_port());
        f->token.n_endpoints = 2;
        enter(f, "10.0.0.2:2380");
        assert_int_equal(f->error, 0);
}

static void a_host_of_another_cluster_gets_no_secret(void **state) {
        Fixture *f = *state;

        f->token.cluster_id++;
        enter(f, "10.0.0.2:2380");
        assert_int_equal(f->error, -EHOSTUNREACH);
        assert_message(f, "another cluster");
        assert_int_equal(f->leader.n_requests, 0);
}

static void a_certificate_of_another_host_or_cluster_is_not_stored(void **state) {
        Fixture *f = *state;
        Error err = {};

        f->leader.subject = LEADER_ID;
        enter(f, "10.0.0.2:2380");
        assert_int_equal(f->error, -EBADMSG);
        assert_message(f, "another host or cluster");
        assert_int_equal(identity_begin(f->scratch, "", &err), 0);
}

static void roots_without_that_of_the_token_are_not_stored(void **state) {
        Fixture *f = *state;
        Error err = {};

        f->token.root[0] ^= 1;
        enter(f, "10.0.0.2:2380");
        assert_int_equal(f->error, -EBADMSG);
        assert_message(f, "the roots lack that of the token");
        assert_int_equal(identity_begin(f->scratch, "", &err), 0);
}

/* The next start could not enter: the key of a join would be stored, and a use of its token be spent. */
static void a_cluster_file_that_cannot_be_written_ends_a_join_before_it_begins(void **state) {
        _cleanup_free_ char *file = scratch_path(((Fixture *) *state)->scratch, "file"), *path = NULL,
                            *expected = NULL;
        Fixture *f = *state;
        EnteringOptions options = { .state_directory = f->scratch,
                                    .self = &(PeerHandshake) {},
                                    .token = &f->token,
                                    .listen = "",
                                    .loop = f->loop };
        Error err = {};

        scratch_write(file, "");
        assert_true(asprintf(&path, "%s/50-cluster.conf", file) > 0);
        assert_true(asprintf(&expected, "Failed to write %s: Not a directory; ", path) > 0);
        options.cluster_file = path;
        assert_int_equal(entering_new(&f->entering, &options, on_done, f, &err), -ENOTDIR);
        assert_true(starts_with(err.message, expected));
        assert_int_equal(f->leader.n_requests, 0);
        free(path);
        path = scratch_path(f->scratch, "etc/fleet/50-cluster.conf");
        assert_int_equal(cluster_file_check(path, &err), 0);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(rmdir(dirname(path)), 0); /* nothing is left in it */
}

/* -- Pure parts -- */

static void the_listener_is_an_address_with_or_without_a_port(void **state) {
        static const struct {
                const char *text, *expected;
        } rows[] = {
                { "", ":2380" },
                { "10.0.0.1", "10.0.0.1:2380" },
                { "10.0.0.1:99", "10.0.0.1:99" },
                { "fd00::1", "[fd00::1]:2380" },
                { "[fd00::1]:99", "[fd00::1]:99" },
                { "alpha", NULL },
                { "alpha:2380", NULL },
                { "/run/socket", NULL },
                { "0.0.0.0", NULL },
                { "0.0.0.0:2380", NULL },
                { "::", NULL },
                { "[::]:1", NULL },
                { "10.0.0.1:0", NULL },
                { "10.0.0.1:65536", NULL },
                { "0123456789012345678901234567890123456789012345678901234567890123456789", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char listen[ADDRESS_SIZE];
                Error err = {};
                int r = entering_read_listen(rows[i].text, listen, &err);

                assert_int_equal(r, rows[i].expected ? 0 : -EINVAL);
                if (rows[i].expected)
                        assert_string_equal(listen, rows[i].expected);
                else
                        assert_non_null(strstr(err.message, "--listen="));
        }
}

static const char *content_of(const ClusterView *view, bool removed, uint64_t n_keys, bool discard,
                              Error *ret) {
        char id[MACHINE_ID_SIZE];
        int r;

        *ret = (Error) {};
        r = entering_check_content(&view->cluster, cluster_view_id(id, "A"), removed, n_keys, discard, ret);
        assert_true(r == 0 || r == -EEXIST);
        return r == 0 ? NULL : ret->message;
}

static const char *content(const ClusterView *view, uint64_t n_keys, bool discard, Error *ret) {
        return content_of(view, false, n_keys, discard, ret);
}

static void content_of_its_own_keeps_a_host_from_joining(void **state) {
        _cleanup_cluster_view_ ClusterView view = {};
        Error err;

        cluster_view_machine(&view, "A", "", PRESENCE_UP);
        assert_null(content(&view, 0, false, &err));
        assert_string_equal(
                content(&view, 1, false, &err),
                "this host has 0 units and 1 key of its own: fleetctl export DIR, then fleetctl join "
                "--discard");
        assert_null(content(&view, 1, true, &err));
        cluster_view_unit(&view, "a.service", "", TARGET_LAUNCHED);
        assert_non_null(strstr(content(&view, 40, false, &err), "1 unit and 40 keys of its own"));
        assert_null(content(&view, 40, true, &err));
}

static void units_of_its_own_directory_are_no_content(void **state) {
        _cleanup_cluster_view_ ClusterView view = {};
        char value[256], id[MACHINE_ID_SIZE];
        Error err;

        snprintf(value, sizeof(value),
                 "{\"owner\":\"%s\",\"path\":\"/etc/fleet/units/a.service\",\"text\":\"[Service]\\n\"}",
                 cluster_view_id(id, "A"));
        cluster_view_put(&view, "/_fleet/unit/a.service", value);
        assert_null(content(&view, 0, false, &err));
        snprintf(value, sizeof(value),
                 "{\"owner\":\"%s\",\"path\":\"/etc/fleet/units/b.service\",\"text\":\"[Service]\\n\"}",
                 cluster_view_id(id, "B"));
        cluster_view_put(&view, "/_fleet/unit/b.service", value);
        assert_non_null(strstr(content(&view, 0, false, &err), "1 unit and 0 keys"));
}

static void a_host_of_a_cluster_with_others_says_where_it_is(void **state) {
        char key[128], id[MACHINE_ID_SIZE];
        _cleanup_cluster_view_ ClusterView view = {};
        Error err;

        cluster_view_machine(&view, "A", "", PRESENCE_UP);
        cluster_view_machine(&view, "B", "", PRESENCE_LOST);
        assert_non_null(strstr(content(&view, 0, false, &err), "joined already, to the cluster with B;"));
        assert_non_null(strstr(content(&view, 0, true, &err), "fleetd --reset")); /* no host takes its vote */
        snprintf(key, sizeof(key), "/_fleet/machine/%s/maintenance", cluster_view_id(id, "A"));
        cluster_view_put(&view, key, "{\"for\":\"leave\",\"mode\":\"draining\"}");
        assert_non_null(strstr(content(&view, 0, false, &err), "this host is leaving the cluster with B:"));
        assert_non_null(strstr(content(&view, 0, true, &err), "fleetctl leave --cancel"));
        cluster_view_remove(&view, key);
        for (char c = 'C'; c <= 'F'; c++)
                cluster_view_machine(&view, (char[]) { c, 0 }, "", PRESENCE_UP);
        assert_non_null(strstr(content(&view, 0, true, &err),
                               "with B, C, D, ...; to leave it first: fleetctl leave"));
        /* Those have removed this host. */
        assert_null(content_of(&view, true, 0, false, &err));
        assert_null(content_of(&view, true, 1, true, &err));
        assert_non_null(strstr(content_of(&view, true, 1, false, &err), "0 units and 1 key of its own"));
}

int main(void) {
#define JOIN(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
        const struct CMUnitTest tests[] = {
                JOIN(a_token_gives_an_identity_and_the_next_start_enters),
                JOIN(a_rejection_is_reported_and_the_key_is_used_again),
                JOIN(an_endpoint_without_a_fleetd_is_named_with_the_reason),
                JOIN(another_endpoint_is_used_if_the_first_does_not_answer),
                JOIN(a_host_of_another_cluster_gets_no_secret),
                JOIN(a_certificate_of_another_host_or_cluster_is_not_stored),
                JOIN(roots_without_that_of_the_token_are_not_stored),
                JOIN(a_cluster_file_that_cannot_be_written_ends_a_join_before_it_begins),
                cmocka_unit_test(content_of_its_own_keeps_a_host_from_joining),
                cmocka_unit_test(units_of_its_own_directory_are_no_content),
                cmocka_unit_test(a_host_of_a_cluster_with_others_says_where_it_is),
                cmocka_unit_test(the_listener_is_an_address_with_or_without_a_port),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
