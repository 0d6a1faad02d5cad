/* Calls of hosts without a replica: on the sessions that they dialed, and through another replica. The other
 * host is played, as a replica or as such a host. */

#include "tests/lib/test.h"
#include "fleetd/api/remote_command_spec.h"
#include "tests/lib/commands.h"
#include "tests/lib/quiet_peer.h"

#define FAR_ID "ffffffffffffffffffffffffffffffff" /* a host without a replica, which uses that of beta */
#define FAR    "/fleet/v1/status/web.service?machine=" FAR_ID
#define OTHER  "/fleet/v1/status/web.service?machine=" QUIET_PEER_OTHER_ID

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(KvStatus *) userdata = status;
}

static void write_key(QuietPeer *h, const char *key, const char *value) {
        KvCommand write = SET(key, value, .internal = true);
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 };
        KvStatus status = KV_UNKNOWN;

        assert_int_equal(registry_propose(h->registry, &txn, on_done, &status), 0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        assert_int_equal(status, KV_OK);
        quiet_peer_pass(h, 20);
}

static void have_machine(QuietPeer *h, const char *id, const char *name) {
        Machine m = { .name = (char *) name, .address = (char *) "10.0.0.1", .version = (char *) "0" };
        KvStatus status = KV_UNKNOWN;

        snprintf(m.id, sizeof(m.id), "%s", id);
        assert_int_equal(registry_publish_facts(h->registry, &m, on_done, &status), 0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        assert_int_equal(status, KV_OK);
}

static int replica_setup(void **state) {
        QuietPeer *h = quiet_peer_new(false);

        have_machine(h, QUIET_PEER_OTHER_ID, "beta");
        have_machine(h, FAR_ID, "far");
        assert_int_equal(kv_member_add(h->store, 2, "10.0.0.2:2380"), 0);
        write_key(h, "/_fleet/cluster/member/" QUIET_PEER_OTHER_ID,
                  "{\"peer\":\"10.0.0.2:2380\",\"raftId\":2}");
        assert_true(quiet_peer_meet(h));
        *state = h;
        return 0;
}

/* The other host has no replica; only the session that it dialed is open. */
static int attached_setup(void **state) {
        QuietPeer *h = quiet_peer_new(false);

        have_machine(h, QUIET_PEER_OTHER_ID, "beta");
        h->attached = true;
        (void) quiet_peer_meet(h);
        if (h->asked.open) {
                h->asked.base.events->on_close(h->asked.base.userdata, -ECONNRESET, "reset");
                h->asked.open = false;
        }
        assert_null(peers_dialed(h->peers, QUIET_PEER_OTHER_ID));
        assert_non_null(peers_accepted(h->peers, QUIET_PEER_OTHER_ID));
        *state = h;
        return 0;
}

static int host_teardown(void **state) {
        quiet_peer_free(*state);
        return 0;
}

static const char *ask(QuietPeer *h, const char *target) {
        char request[512];

        if (h->client.open)
                quiet_peer_leave(h);
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: fleet\r\n\r\n", target);
        return (const char *) quiet_peer_request(h, API_SOCKET, request, strlen(request))->bytes;
}

static bool client_hears(const QuietPeer *h, const char *what) {
        return memmem(h->client.said.bytes, h->client.said.size, what, strlen(what));
}

/* Return the number of the last frame of a type on the session, 0 if there is none, and its credit or status.
 */
static uint64_t heard(QuietPeerWire *wire, PeerFrame type, uint64_t *ret_value) {
        uint64_t number = 0;
        Frame f;

        while (quiet_peer_receive(wire, &f)) {
                Reader r = reader_over(f.payload, f.size);

                if (f.type != type)
                        continue;
                number = read_u64(&r);
                if (ret_value && type == PEER_CALL_END)
                        *ret_value = read_u32(&r);
                else if (ret_value)
                        *ret_value = read_u64(&r);
        }
        return number;
}

static void says(QuietPeerWire *wire, uint64_t number, const char *text) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_blob(&w, text, strlen(text));
        assert_true(quiet_peer_send_on(wire, PEER_CALL_CHUNK, w.bytes, w.size));
}

static void ends(QuietPeerWire *wire, uint64_t number, uint32_t status) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u32(&w, status);
        assert_true(quiet_peer_send_on(wire, PEER_CALL_END, w.bytes, w.size));
}

static void a_replica_is_asked_to_relay_a_call(void **state) {
        QuietPeer *h = *state;
        uint64_t number;

        assert_string_equal(ask(h, FAR), ""); /* no head before the first answer */
        number = heard(&h->asked, PEER_CALL_VIA, NULL);
        assert_int_not_equal(number, 0);
        says(&h->asked, number, "it runs");
        assert_true(client_hears(h, "HTTP/1.1 200"));
        assert_true(client_hears(h, "{\"machine\":\"" FAR_ID "\",\"data\":\"it runs\"}"));
        ends(&h->asked, number, 3);
        assert_true(client_hears(h, "{\"exit\":3}"));
}

static void a_host_without_any_session_cannot_be_reached(void **state) {
        PresenceChange up = { .machine = FAR_ID, .presence = PRESENCE_UP };
        QuietPeer *h = *state;
        KvStatus status = KV_UNKNOWN;
        uint64_t number;

        (void) ask(h, FAR);
        number = heard(&h->asked, PEER_CALL_VIA, NULL);
        ends(&h->asked, number, CALL_NOT_HERE);
        assert_true(client_hears(h, "HTTP/1.1 503"));
        assert_true(client_hears(
                h, "{\"error\":{\"code\":503,\"message\":\"far is lost; the last reported state of "
                   "web.service: fleetctl why web.service\"}}"));

        assert_int_equal(registry_presence(h->registry, 0, &up, 1, on_done, &status), 0);
        for (unsigned i = 0; i < 100 && status == KV_UNKNOWN; i++)
                quiet_peer_pass(h, 10);
        (void) ask(h, FAR);
        number = heard(&h->asked, PEER_CALL_VIA, NULL);
        ends(&h->asked, number, CALL_NOT_HERE);
        assert_true(client_hears(
                h, "{\"error\":{\"code\":503,\"message\":\"far cannot be reached from this host (no "
                   "session to it is open)\"}}"));
}

static void a_replica_that_does_not_answer_is_not_waited_for(void **state) {
        QuietPeer *h = *state;
        uint64_t number;

        (void) ask(h, FAR);
        number = heard(&h->asked, PEER_CALL_VIA, NULL);
        quiet_peer_pass(h, 900);
        assert_false(client_hears(h, "HTTP/1.1"));
        quiet_peer_pass(h, 200);
        assert_true(client_hears(h, "HTTP/1.1 503"));
        assert_int_equal(heard(&h->asked, PEER_CALL_CANCEL, NULL), number);
        says(&h->asked, number, "too late"); /* dropped */
        assert_false(client_hears(h, "too late"));
}

/* The replica relays it; a reload prints nothing, and takes its time. */
static void a_relayed_command_may_be_silent(void **state) {
        QuietPeer *h = *state;
        uint64_t number;

        (void) ask(h, FAR);
        number = heard(&h->asked, PEER_CALL_VIA, NULL);
        says(&h->asked, number, "");
        assert_false(client_hears(h, "HTTP/1.1")); /* the host itself may still refuse it */
        says(&h->asked, number, "");
        assert_true(client_hears(h, "HTTP/1.1 200"));
        assert_false(client_hears(h, "data"));
        quiet_peer_pass(h, 5000);
        assert_int_equal(heard(&h->asked, PEER_CALL_CANCEL, NULL), 0);
        ends(&h->asked, number, 0);
        assert_true(client_hears(h, "{\"exit\":0}"));
}

/* A replica that did not answer may have relayed it. */
static void a_command_that_changes_something_is_sent_once(void **state) {
        static const char request[] = "POST /fleet/v1/reload/web.service?machine=" FAR_ID
                                      " HTTP/1.1\r\nHost: fleet\r\nContent-Length: 0\r\n\r\n";
        QuietPeer *h = *state;

        (void) quiet_peer_request(h, API_SOCKET, request, sizeof(request) - 1);
        assert_int_not_equal(heard(&h->asked, PEER_CALL_VIA, NULL), 0);
        quiet_peer_pass(h, 1100);
        assert_true(client_hears(h, "HTTP/1.1 504"));
        assert_true(client_hears(h, "the change may have taken effect"));
}

static void a_host_is_called_on_the_session_that_it_dialed(void **state) {
        QuietPeer *h = *state;
        uint64_t number;

        (void) ask(h, OTHER);
        number = heard(&h->asking, PEER_CALL, NULL);
        assert_int_not_equal(number, 0);
        says(&h->asking, number, "it runs");
        ends(&h->asking, number, 0);
        assert_true(client_hears(h, "{\"machine\":\"" QUIET_PEER_OTHER_ID "\",\"data\":\"it runs\"}"));
        assert_true(client_hears(h, "{\"exit\":0}"));

        (void) ask(h, OTHER);
        says(&h->asking, heard(&h->asking, PEER_CALL, NULL), ""); /* it has begun */
        quiet_peer_hang_up(h);
        assert_true(client_hears(h, "the connection to that host was lost"));
        assert_true(client_hears(h, "{\"exit\":255}"));

        assert_true(quiet_peer_meet(h));
        assert_string_equal(ask(h, OTHER), "");
        quiet_peer_part(h);
        assert_true(client_hears(h, "HTTP/1.1 503"));
}

static void relay_on(QuietPeerWire *wire, uint64_t number, const char *machine, const char *unit) {
        RemoteCommandSpec spec = { .kind = CALL_STATUS };
        _cleanup_writer_ Writer w = {};

        snprintf(spec.unit, sizeof(spec.unit), "%s", unit);
        assert_int_equal(remote_command_spec_check(&spec, NULL), 0);
        write_u64(&w, number);
        write_string(&w, machine);
        remote_command_spec_write(&spec, &w);
        assert_true(quiet_peer_send_on(wire, PEER_CALL_VIA, w.bytes, w.size));
}

static void relay(QuietPeer *h, uint64_t number, const char *machine, const char *unit) {
        relay_on(&h->asking, number, machine, unit);
}

/* The host that calls and the one that is called are the same here; their numbers differ. */
static void a_call_is_relayed_with_its_credit_and_its_end(void **state) {
        _cleanup_writer_ Writer w = {};
        QuietPeer *h = *state;
        uint64_t number, value = 0;

        relay(h, 700, QUIET_PEER_OTHER_ID, "web.service");
        number = heard(&h->asking, PEER_CALL, NULL);
        assert_int_not_equal(number, 0);
        assert_int_not_equal(number, 700);
        write_u64(&w, 700);
        write_u64(&w, 4096);
        assert_true(quiet_peer_send_on(&h->asking, PEER_CALL_CREDIT, w.bytes, w.size));
        assert_int_equal(heard(&h->asking, PEER_CALL_CREDIT, &value), number);
        assert_int_equal(value, 4096);
        says(&h->asking, number, "it runs");
        assert_int_equal(heard(&h->asking, PEER_CALL_CHUNK, NULL), 700);
        ends(&h->asking, number, 3);
        assert_int_equal(heard(&h->asking, PEER_CALL_END, &value), 700);
        assert_int_equal(value, 3);
        says(&h->asking, number, "once more"); /* it is over */
        assert_int_equal(heard(&h->asking, PEER_CALL_CHUNK, NULL), 0);

        relay(h, 701, QUIET_PEER_OTHER_ID, "web.service");
        number = heard(&h->asking, PEER_CALL, NULL);
        writer_done(&w);
        w = (Writer) {};
        write_u64(&w, 701);
        assert_true(quiet_peer_send_on(&h->asking, PEER_CALL_CANCEL, w.bytes, w.size));
        assert_int_equal(heard(&h->asking, PEER_CALL_CANCEL, NULL), number);
        relay(h, 702, QUIET_PEER_OTHER_ID, "web.service"); /* ends with its session */
}

static void a_call_for_a_host_without_a_session_is_not_relayed(void **state) {
        QuietPeer *h = *state;
        uint64_t value = 0;

        relay(h, 700, FAR_ID, "web.service");
        assert_int_equal(heard(&h->asking, PEER_CALL_END, &value), 700);
        assert_int_equal(value, CALL_NOT_HERE);
        relay(h, 701, "", "web.service");
        assert_int_equal(heard(&h->asking, PEER_CALL_END, &value), 701);
        assert_int_equal(value, CALL_NOT_HERE);
        assert_true(quiet_peer_send_on(&h->asking, PEER_CALL_VIA, "12345678", 8)); /* no call: an error */
        assert_int_not_equal(heard(&h->asking, PEER_CALL_END, &value), 0);
        assert_int_equal(value, 1);
}

static void restrict_other(QuietPeer *h) {
        write_key(h, "/_fleet/cluster/host/" QUIET_PEER_OTHER_ID,
                  "{\"joined\":1,\"pins\":["
                  "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"],"
                  "\"restricted\":true}");
}

/* "web.service" is a unit of the cluster, whose text is of no interest here. */
static void have_unit(QuietPeer *h) {
        write_key(h, "/_fleet/unit/web.service", "[Service]\nExecStart=/bin/true\n");
}

/* The journal of another service may have secrets. */
static void a_restricted_host_calls_for_units_of_the_cluster_only(void **state) {
        static const struct {
                RemoteCommandKind kind;
                const char *unit;
                bool permitted;
        } calls[] = {
                { CALL_STATUS, "web.service", true },  { CALL_JOURNAL, "web.service", true },
                { CALL_STATUS, "ssh.service", false }, { CALL_JOURNAL, "ssh.service", false },
                { CALL_SHOW, "ssh.service", false },   { CALL_RELOAD, "web.service", false },
        };
        QuietPeer *h = *state;

        have_unit(h);
        for (unsigned restricted = 0; restricted < 2; restricted++) {
                if (restricted)
                        restrict_other(h);
                for (unsigned via = 0; via < 2; via++)
                        for (size_t i = 0; i < ELEMENTS(calls); i++) {
                                RemoteCommandSpec spec = { .kind = calls[i].kind };
                                _cleanup_writer_ Writer w = {};
                                uint64_t number = 700 + 100 * restricted + 50 * via + i;
                                bool relayed = false, refused = false, acknowledged = false;
                                Frame f;

                                if (!via && (!restricted || calls[i].permitted)) /* no child runs here */
                                        continue;
                                snprintf(spec.unit, sizeof(spec.unit), "%s", calls[i].unit);
                                write_u64(&w, number);
                                if (via)
                                        write_string(&w, QUIET_PEER_OTHER_ID);
                                remote_command_spec_write(&spec, &w);
                                assert_true(quiet_peer_send_on(&h->asking, via ? PEER_CALL_VIA : PEER_CALL,
                                                               w.bytes, w.size));
                                quiet_peer_pass(h, 20);
                                while (quiet_peer_receive(&h->asking, &f)) {
                                        Reader r = reader_over(f.payload, f.size);
                                        size_t n;
                                        const char *text;

                                        relayed |= f.type == PEER_CALL;
                                        if (f.type != PEER_CALL_CHUNK)
                                                continue;
                                        (void) read_u64(&r);
                                        text = read_blob(&r, PEER_FRAME_MAX, &n);
                                        refused |= text && memmem(text, n, "is restricted", 13);
                                        acknowledged |= n == 0 && r.left == 0;
                                }
                                if (refused == (!restricted || calls[i].permitted) ||
                                    (via && (relayed == refused || acknowledged != relayed)))
                                        fail_msg("restricted %u, via %u, call %zu: relayed %d, refused %d",
                                                 restricted, via, i, relayed, refused);
                        }
        }
}

/* Of 256 calls that a replica relays, one host, which may be a restricted one, gets a part. */
static void one_host_does_not_take_all_relays(void **state) {
        QuietPeer *h = *state;
        unsigned n = 0;
        Frame f;

        have_unit(h);
        restrict_other(h);
        for (unsigned i = 0; i < 256; i++)
                relay(h, 1000 + i, QUIET_PEER_OTHER_ID, "web.service");
        while (quiet_peer_receive(&h->asking, &f))
                n += f.type == PEER_CALL;
        assert_int_equal(n, 4);

        /* Nor by cancelling them. */
        for (unsigned i = 0; i < 256; i++)
                assert_true(quiet_peer_send_on(&h->asking, PEER_CALL_CANCEL, &(uint64_t) { 1000 + i },
                                               sizeof(uint64_t)));
        for (unsigned round = 0; round < 3; round++) {
                quiet_peer_pass(h, round < 2 ? 100 : 1000);
                for (unsigned i = 0; i < 256; i++) {
                        uint64_t number = 1000 * round + 2000 + i;

                        relay(h, number, QUIET_PEER_OTHER_ID, "web.service");
                        assert_true(
                                quiet_peer_send_on(&h->asking, PEER_CALL_CANCEL, &number, sizeof(number)));
                }
                for (n = 0; quiet_peer_receive(&h->asking, &f);)
                        n += f.type == PEER_CALL;
                assert_int_equal(n, round < 2 ? 0 : 4);
        }

        /* Nor by the end of its session, which cancels them. */
        quiet_peer_pass(h, 2000);
        for (unsigned i = 0; i < 2; i++) {
                assert_true(quiet_peer_attach(h));
                for (unsigned k = 0; k < 256; k++)
                        relay_on(&h->third, 9000 + k, QUIET_PEER_OTHER_ID, "web.service");
                for (n = 0; quiet_peer_receive(&h->asking, &f);)
                        n += f.type == PEER_CALL;
                assert_int_equal(n, i == 0 ? 8 : 4);
                h->third.base.events->on_close(h->third.base.userdata, -ECONNRESET, "reset");
                h->third.open = false;
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define ON_REPLICA(f)  cmocka_unit_test_setup_teardown(f, replica_setup, host_teardown)
#define ON_ATTACHED(f) cmocka_unit_test_setup_teardown(f, attached_setup, host_teardown)
                ON_REPLICA(a_replica_is_asked_to_relay_a_call),
                ON_REPLICA(a_host_without_any_session_cannot_be_reached),
                ON_REPLICA(a_replica_that_does_not_answer_is_not_waited_for),
                ON_REPLICA(a_relayed_command_may_be_silent),
                ON_REPLICA(a_command_that_changes_something_is_sent_once),
                ON_ATTACHED(a_host_is_called_on_the_session_that_it_dialed),
                ON_ATTACHED(a_call_is_relayed_with_its_credit_and_its_end),
                ON_ATTACHED(a_call_for_a_host_without_a_session_is_not_relayed),
                ON_ATTACHED(a_restricted_host_calls_for_units_of_the_cluster_only),
                ON_ATTACHED(one_host_does_not_take_all_relays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
