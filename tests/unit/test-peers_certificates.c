/* Sessions with certificates on the real loop, over 127.0.0.1: whose session it is, what it may carry, what
 * ends it, and the session of a joining host. */
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "io/loop_uv.h"
#include "peers/peers_internal.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"

enum {
        PATIENCE_MS = 20000,
        LOOK_MS = 2,
        TYPE_REQUEST = PEER_PROPOSE, /* of each member */
        TYPE_ANSWER = PEER_JOINED,
        TYPE_RAFT = PEER_RAFT,      /* of replicas */
        TYPE_JOIN = PEER_ENTER,     /* of joining hosts */
        TYPE_JOINED = PEER_ENTERED, /* its answer */
};

#define CLUSTER UINT64_C(0xc1)
#define ID_A    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C    "cccccccccccccccccccccccccccccccc"
#define ID_D    "dddddddddddddddddddddddddddddddd"

#define OK(call)                                                        \
        do {                                                            \
                int _r = (call);                                        \
                if (_r < 0)                                             \
                        fail_msg("%s: %d, %s", #call, _r, err.message); \
        } while (0)

/* A machine as all hosts of a test know it. */
typedef struct Entry {
        const char *id;
        PeerKnown known;
} Entry;

typedef struct Lab {
        UvLoop *uv;
        Loop *loop;
        Network *network;
        TlsKey *key;
        TlsPrivateKey *ca_key;
        TlsPin root_pin;
        Text root, log;
        Entry entries[3];
} Lab;

typedef struct Member {
        Lab *lab;
        Peers *peers;
        TlsPrivateKey *key;
        PeerHandshake self;
        PeersOptions options;
        unsigned n_requests, n_answers, n_raft, n_joins, n_joined;
        TlsPeerKind kind; /* of the last request */
        char last_machine[MACHINE_ID_SIZE];
        bool closed;
} Member;

/* -- Waiting -- */

static void stop_loop(void *userdata) {
        loop_uv_stop(userdata);
}

static void run_a_moment(Lab *lab, uint64_t until_ms, const char *words) {
        Timer look = { .fire = stop_loop, .userdata = lab->uv };

        if (loop_now_ms(lab->loop) >= until_ms)
                fail_msg("did not happen: %s\n%s", words, lab->log.chars ? lab->log.chars : "");
        assert_int_equal(timer_start(&look, lab->loop, LOOK_MS), 0);
        assert_true(loop_uv_run(lab->uv) >= 0);
}

#define UNTIL(lab, condition)                                                            \
        for (uint64_t until_ms_ = loop_now_ms((lab)->loop) + PATIENCE_MS; !(condition);) \
        run_a_moment(lab, until_ms_, #condition)

static void keep_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        Lab *lab = userdata;

        text_append(&lab->log, message);
        text_append_char(&lab->log, '\n');
}

/* Return how many messages contain the words. */
static unsigned logged(const Lab *lab, const char *words) {
        unsigned n = 0;

        for (const char *p = lab->log.chars; p && (p = strstr(p, words)); p++)
                n++;
        return n;
}

/* -- Lab -- */

static TlsKey *make_key(void) {
        char path[] = "/tmp/test-peers-XXXXXX", digits[65];
        int fd = mkstemp(path);
        TlsKey *key = NULL;
        Error err = {};

        memset(digits, 'a', 64);
        digits[64] = '\n';
        assert_true(fd >= 0);
        assert_int_equal(write(fd, digits, sizeof(digits)), sizeof(digits));
        close(fd);
        OK(tls_key_read(path, &key, &err));
        unlink(path);
        return key;
}

static int open_lab(void **state) {
        static const uint8_t serial[TLS_SERIAL_BYTES] = { 1 };
        Lab *lab = NEW0(Lab, 1);
        Error err = {};

        assert_int_equal(loop_uv_new(&lab->uv), 0);
        lab->loop = loop_uv_base(lab->uv);
        assert_int_equal(net_uv_new(&lab->network, lab->loop), 0);
        lab->key = make_key();
        OK(tls_private_key_new(&lab->ca_key, &err));
        tls_private_key_pin(lab->ca_key, &lab->root_pin);
        OK(tls_root_create(lab->ca_key, CLUSTER, serial, loop_wall_ms(lab->loop), &lab->root, &err));
        log_set_sink(keep_log, lab);
        *state = lab;
        return 0;
}

static int close_lab(void **state) {
        Lab *lab = *state;

        log_set_sink(NULL, NULL);
        lab->network = net_uv_free(lab->network);
        lab->uv = loop_uv_free(lab->uv);
        tls_key_free(lab->key);
        tls_private_key_free(lab->ca_key);
        text_done(&lab->root);
        text_done(&lab->log);
        free(lab);
        return 0;
}

static void free_address(char ret[64]) {
        snprintf(ret, 64, "127.0.0.1:%d", scratch_port());
}

/* -- Hosts -- */

static void member_known(void *userdata, const char *machine_id, PeerKnown *ret) {
        Lab *lab = ((Member *) userdata)->lab;

        for (size_t i = 0; i < ELEMENTS(lab->entries); i++)
                if (lab->entries[i].id && streq(lab->entries[i].id, machine_id))
                        *ret = lab->entries[i].known;
}

static void on_request(void *userdata, PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        Member *m = userdata;

        m->n_requests++;
        m->kind = peer_authentication(s)->kind;
        snprintf(m->last_machine, sizeof(m->last_machine), "%s", peer_handshake(s)->machine_id);
        assert_int_equal(peer_reply(s, TYPE_ANSWER, payload, size), 0);
}

static void on_answer(void *userdata, PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        ((Member *) userdata)->n_answers++;
}

static void on_raft(void *userdata, PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        ((Member *) userdata)->n_raft++;
}

static void on_join(void *userdata, PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        Member *m = userdata;

        m->n_joins++;
        m->kind = peer_authentication(s)->kind;
        assert_int_equal(peer_reply(s, TYPE_JOINED, payload, size), 0);
}

static void on_joined(void *userdata, PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        ((Member *) userdata)->n_joined++;
}

static const PeerFrameType types[] = {
        { TYPE_REQUEST, on_request },
        { TYPE_ANSWER, on_answer },
        { TYPE_RAFT, on_raft },
        { TYPE_JOINED, on_joined },
};

static const PeerFrameType join_types[] = {
        { TYPE_JOIN, on_join },
};

/* Write the entry of a machine: a replica with the key of 'm', and Raft ID 0: not known. */
static Entry *enter(Member *m, unsigned i) {
        Entry *e = m->lab->entries + i;

        e->id = m->self.machine_id;
        e->known = (PeerKnown) { .tls = { .state = TLS_KNOWN, .replica = true, .n_pins = 1 } };
        tls_private_key_pin(m->key, &e->known.tls.pins[0]);
        return e;
}

static TlsCredentials *issue(Member *m, TlsRole role, const char *id) {
        _cleanup_text_ Text request = {}, certificate = {};
        TlsIssue issue = { .uri = { .cluster_id = CLUSTER, .role = role },
                           .now_ms = loop_wall_ms(m->lab->loop),
                           .lifetime_ms = TLS_LEAF_LIFETIME_MS,
                           .root = m->lab->root.chars,
                           .root_size = m->lab->root.size };
        TlsCredentials *credentials;
        Error err = {};

        OK(tls_request_create(m->key, &request, &err));
        issue.request = request.chars;
        issue.request_size = request.size;
        snprintf(issue.uri.subject, sizeof(issue.uri.subject), "%s", id);
        OK(tls_issue(&issue, m->lab->ca_key, &certificate, &err));
        OK(tls_credentials_new(m->key, certificate.chars, m->lab->root.chars, &credentials, &err));
        return credentials;
}

static void prepare(Member *m, Lab *lab, const char *id, const char *name) {
        Error err = {};

        *m = (Member) { .lab = lab };
        OK(tls_private_key_new(&m->key, &err));
        m->self =
                (PeerHandshake) { .cluster_id = CLUSTER, .lineage = 1, .start_number = 1, .raft_id = id[0] };
        m->self.nonce = (uintptr_t) m;
        memcpy(m->self.machine_id, id, MACHINE_ID_SIZE);
        snprintf(m->self.name, sizeof(m->self.name), "%s", name);
        free_address(m->self.address);
        m->options = (PeersOptions) { .known = member_known, .userdata = m };
}

/* Open with the certificate that was issued for 'role' and 'id'; _TLS_ROLE_INVALID: without one. */
static void open_as(Member *m, TlsRole role, const char *id) {
        _cleanup_(tls_credentials_freep) TlsCredentials *credentials = NULL;
        Error err = {};

        if (role != _TLS_ROLE_INVALID)
                m->options.credentials = credentials = issue(m, role, id);
        m->options.self = m->self;
        assert_int_equal(peers_new(&m->peers, m->lab->loop, m->lab->network, &m->options), 0);
        OK(peers_listen(m->peers, m->self.address, &err));
        peers_register(m->peers, types, ELEMENTS(types), m);
}

static void start(Member *m, Lab *lab, const char *id, const char *name, unsigned entry) {
        prepare(m, lab, id, name);
        enter(m, entry);
        open_as(m, TLS_ROLE_REPLICA, id);
}

/* A host with a token: no certificate, no cluster. */
static void start_joining(Member *m, Lab *lab, const char *id, const char *name) {
        _cleanup_(tls_credentials_freep) TlsCredentials *none = NULL;
        Error err = {};

        prepare(m, lab, id, name);
        OK(tls_credentials_new(NULL, NULL, NULL, &none, &err));
        m->self.cluster_id = m->self.lineage = m->self.raft_id = 0;
        m->options.credentials = none;
        m->options.token_root = &lab->root_pin;
        m->options.token_cluster_id = CLUSTER;
        open_as(m, _TLS_ROLE_INVALID, NULL);
        peers_register(m->peers, join_types, ELEMENTS(join_types), m);
}

static void on_closed(void *userdata) {
        Member *m = userdata;

        m->closed = true;
        m->peers = NULL;
}

static void stop(Member *m) {
        peers_close(m->peers, "stop", on_closed, m);
        UNTIL(m->lab, m->closed);
        m->key = tls_private_key_free(m->key);
}

static void dial(Member *m, const Member *other) {
        PeerAddress known = {};

        memcpy(known.address, other->self.address, sizeof(known.address));
        assert_int_equal(peers_set_known(m->peers, &known, 1), 0);
}

static PeerState state_of(const Member *m, const Member *other) {
        PeerState state = {};

        (void) peers_state(m->peers, other->self.machine_id, &state);
        return state;
}

static bool dialed(const Member *m, const Member *other) {
        return state_of(m, other).dialed;
}

static bool accepted(const Member *m, const Member *other) {
        return state_of(m, other).accepted;
}

typedef struct Search {
        const char *words;
        bool found;
} Search;

static void search_problem(void *userdata, const PeerState *state) {
        Search *search = userdata;

        search->found |= strstr(state->problem, search->words) != NULL;
}

static bool has_problem(const Member *m, const char *words) {
        Search search = { .words = words };

        peers_each(m->peers, search_problem, &search);
        return search.found;
}

static void send_to(Member *m, const Member *other, PeerFrame type) {
        assert_int_equal(peers_send(m->peers, other->self.machine_id, type, "x", 1), 0);
}

/* -- Tests -- */

static void a_session_belongs_to_the_machine_of_the_certificate(void **state) {
        Lab *lab = *state;
        Member a, b;

        start(&a, lab, ID_A, "alpha", 0);
        start(&b, lab, ID_B, "beta", 1);
        dial(&b, &a);
        dial(&a, &b);
        UNTIL(lab, dialed(&b, &a) && accepted(&a, &b) && dialed(&a, &b));
        send_to(&b, &a, TYPE_REQUEST);
        UNTIL(lab, a.n_requests == 1 && b.n_answers == 1);
        assert_int_equal(a.kind, TLS_PEER_CERTIFICATE);
        assert_string_equal(a.last_machine, ID_B);
        stop(&b);
        stop(&a);
}

static void a_handshake_of_another_machine_than_the_certificate_is_rejected(void **state) {
        Lab *lab = *state;
        Member a, b, c;

        start(&a, lab, ID_A, "alpha", 0);
        prepare(&c, lab, ID_C, "gamma");
        enter(&c, 2);
        for (unsigned i = 0; i < 2;
             i++) { /* has the certificate and the key of b, and names another machine */
                prepare(&b, lab, i == 0 ? ID_C : ID_D, "beta");
                enter(&b, 1)->id = ID_B;
                open_as(&b, TLS_ROLE_REPLICA, ID_B);
                dial(&b, &a);
                UNTIL(lab, has_problem(&b, i == 0 ? "machine " ID_B ", the handshake of machine " ID_C :
                                                    "machine " ID_B ", the handshake of machine " ID_D));
                stop(&b);
        }
        assert_false(accepted(&a, &c));
        assert_int_equal(logged(lab, "rejected a session from"), 1); /* of one machine, for one cause */
        tls_private_key_free(c.key);
        stop(&a);
}

/* An address is a hint: the certificate names the machine that answers there, and frames for the machine that
 * was expected are not sent to it. */
static void another_machine_at_an_address_gets_no_frame_of_the_expected_one(void **state) {
        PeerAddress known = { .machine_id = ID_C };
        Lab *lab = *state;
        PeerState state_c;
        Member a, b, c;

        start(&a, lab, ID_A, "alpha", 0);
        start(&b, lab, ID_B, "beta", 1);
        prepare(&c, lab, ID_C, "gamma");
        enter(&c, 2);
        memcpy(known.address, b.self.address, sizeof(known.address));
        assert_int_equal(peers_set_known(a.peers, &known, 1), 0);
        UNTIL(lab, dialed(&a, &b));
        assert_int_equal(peers_send(a.peers, ID_C, TYPE_REQUEST, "x", 1), -ENOTCONN);
        assert_int_equal(peers_send_raft(a.peers, c.self.raft_id, TYPE_RAFT, "x", 1), -ENOTCONN);
        assert_true(peers_state(a.peers, ID_C, &state_c) < 0 || !state_c.dialed);
        send_to(&a, &b, TYPE_REQUEST);
        UNTIL(lab, b.n_requests == 1);
        tls_private_key_free(c.key);
        stop(&b);
        stop(&a);
}

/* A host without a replica knows the keys of replicas only. It rejects all other hosts, also one with a
 * certificate of the CA of its cluster, and at a time at which chains of replicas count. */
static void a_host_that_knows_replicas_only_rejects_all_others(void **state) {
        Lab *lab = *state;

        for (unsigned chain_counts = 0; chain_counts < 2; chain_counts++) {
                Member a, b;

                start(&a, lab, ID_A, "alpha", 0);
                prepare(&b, lab, ID_B, "beta");
                lab->entries[1] = (Entry) { .id = ID_B, .known.tls.chain_counts = chain_counts };
                open_as(&b, TLS_ROLE_HOST, ID_B);
                dial(&b, &a);
                UNTIL(lab, has_problem(&b, "machine " ID_B " is unknown to this cluster"));
                assert_false(accepted(&a, &b));
                stop(&b);
                stop(&a);
        }
}

static void another_key_and_a_removed_machine_are_rejected_with_the_reason(void **state) {
        Lab *lab = *state;
        Member a, b;

        start(&a, lab, ID_A, "alpha", 0);
        start(&b, lab, ID_B, "beta", 1);
        lab->entries[1].known.tls.pins[0].bytes[0] ^= 1;
        dial(&b, &a);
        UNTIL(lab, has_problem(&b, "machine " ID_B " has another key than the cluster knows"));
        assert_true(logged(lab, "rejected a session from beta") ||
                    logged(lab, "machine " ID_B " has another key"));
        lab->entries[1].known.tls.state = TLS_REMOVED;
        UNTIL(lab, has_problem(&b, "machine " ID_B " was removed from the cluster"));
        assert_false(accepted(&a, &b));
        lab->entries[1].known = (PeerKnown) {};
        UNTIL(lab, has_problem(&b, "machine " ID_B " is unknown to this cluster"));
        enter(&b, 1);
        UNTIL(lab, dialed(&b, &a));
        stop(&b);
        stop(&a);
}

/* The host of another lineage must not leave by the tombstone: what this one holds decides nothing there. */
static void a_removal_counts_in_its_own_lineage_only(void **state) {
        Lab *lab = *state;
        Rejection cause;
        const char *reason;
        Member a, b;

        start(&a, lab, ID_A, "alpha", 0);
        prepare(&b, lab, ID_B, "beta");
        enter(&b, 1)->known.tls.state = TLS_REMOVED;
        b.self.lineage = a.self.lineage + 1;
        open_as(&b, TLS_ROLE_REPLICA, ID_B);
        dial(&b, &a);
        UNTIL(lab, has_problem(&b, "machine " ID_B " was removed from the cluster"));
        assert_false(peers_is_removed(b.peers));
        assert_non_null(peers_rejection(b.peers, &cause, &reason));
        assert_int_equal(cause, REJECTION_LINEAGE);

        b.self.lineage = a.self.lineage;
        peers_set_self(b.peers, &b.self);
        UNTIL(lab, peers_is_removed(b.peers));
        stop(&b);
        stop(&a);
}

static void a_removal_ends_open_sessions_within_a_turn(void **state) {
        uint64_t source = strangers_key("127.0.0.1:1");
        Lab *lab = *state;
        Member a, b;

        start(&a, lab, ID_A, "alpha", 0);
        start(&b, lab, ID_B, "beta", 1);
        dial(&b, &a);
        dial(&a, &b);
        UNTIL(lab, dialed(&b, &a) && accepted(&a, &b) && dialed(&a, &b));
        peers_end(a.peers, ID_C, "another machine");
        assert_true(accepted(&a, &b));
        assert_true(strangers_is_trusted(&a.peers->strangers, source, loop_now_ms(lab->loop)));
        lab->entries[1].known.tls.state = TLS_REMOVED;
        peers_end(a.peers, ID_B, "beta was removed from the cluster by root@alpha");
        assert_false(accepted(&a, &b));
        assert_false(dialed(&a, &b));
        assert_false(strangers_is_trusted(&a.peers->strangers, source, loop_now_ms(lab->loop)));
        UNTIL(lab, logged(lab, "beta was removed from the cluster by root@alpha"));
        UNTIL(lab, has_problem(&b, "was removed from the cluster"));
        stop(&b);
        stop(&a);
}

/* Return a machine's open session to 'm'. */
static bool carries_raft(Lab *lab, Member *from, Member *to) {
        unsigned before = to->n_raft;

        UNTIL(lab, dialed(from, to) && accepted(to, from));
        send_to(from, to, TYPE_RAFT);
        UNTIL(lab, to->n_raft > before || !accepted(to, from));
        return to->n_raft > before;
}

static void frames_of_replicas_need_a_replica_and_its_raft_id(void **state) {
        Lab *lab = *state;
        Member a, b;
        PeerKnown *b_known;

        start(&a, lab, ID_A, "alpha", 0);
        prepare(&b, lab, ID_B, "beta");
        b_known = &enter(&b, 1)->known;
        b_known->tls.replica = false;
        open_as(&b, TLS_ROLE_HOST, ID_B);
        dial(&b, &a);

        UNTIL(lab, dialed(&b, &a));
        send_to(&b, &a, TYPE_REQUEST);
        UNTIL(lab, a.n_requests == 1);
        assert_null(peers_replica(a.peers, b.self.raft_id));
        assert_false(carries_raft(lab, &b, &a));
        assert_true(logged(lab, "frame of type 6, which the role of the host does not allow"));

        UNTIL(lab, dialed(&b, &a) && accepted(&a, &b));
        b_known->tls.replica = true; /* it becomes one, on an open session */
        assert_true(carries_raft(lab, &b, &a));
        assert_string_equal(peers_replica(a.peers, b.self.raft_id)->machine_id, ID_B);

        b_known->raft_id = 77; /* that of the handshake is another machine's */
        peers_end(a.peers, ID_B, "its Raft ID changed");
        UNTIL(lab, !dialed(&b, &a));
        UNTIL(lab, dialed(&b, &a) && accepted(&a, &b));
        assert_null(peers_replica(a.peers, b.self.raft_id));
        assert_false(carries_raft(lab, &b, &a));
        b_known->raft_id = b.self.raft_id;
        UNTIL(lab, dialed(&b, &a) && accepted(&a, &b));
        assert_true(carries_raft(lab, &b, &a));
        assert_string_equal(peers_replica(a.peers, b.self.raft_id)->machine_id, ID_B);
        stop(&b);
        stop(&a);
}

static void a_replica_with_an_old_tree_accepts_a_chain(void **state) {
        Lab *lab = *state;
        Member a, b;

        start(&a, lab, ID_A, "alpha", 0);
        prepare(&b, lab, ID_B, "beta");
        lab->entries[1] = (Entry) { .id = ID_B, .known.tls.chain_counts = true };
        open_as(&b, TLS_ROLE_REPLICA, ID_B);
        dial(&b, &a);
        assert_true(carries_raft(lab, &b, &a));
        stop(&b);
        stop(&a);
}

static void a_joining_host_sends_one_request(void **state) {
        const PeerHandshake *shown;
        Lab *lab = *state;
        Member a, c;
        uint64_t number;

        prepare(&a, lab, ID_A, "alpha");
        memset(a.self.boot_id, 'd', sizeof(a.self.boot_id) - 1);
        enter(&a, 0);
        open_as(&a, TLS_ROLE_REPLICA, ID_A);
        start_joining(&c, lab, ID_C, "gamma");
        dial(&c, &a);
        UNTIL(lab,
              has_problem(&c, "rejected the certificate of this host")); /* no component handles requests */

        peers_register(a.peers, join_types, ELEMENTS(join_types), &a);
        UNTIL(lab, dialed(&c, &a));
        assert_false(accepted(&a, &c)); /* the machine ID is not authenticated */
        shown = peer_handshake(peers_dialed(c.peers, ID_A));
        assert_true(shown->cluster_id == CLUSTER && shown->lineage == 0 && shown->raft_id == 0 &&
                    shown->start_number == 0 && !shown->boot_id[0]);
        send_to(&c, &a, TYPE_JOIN);
        UNTIL(lab, a.n_joins == 1 && c.n_joined == 1);
        assert_int_equal(a.kind, TLS_PEER_ANONYMOUS);

        number = peer_number(peers_dialed(c.peers, ID_A));
        send_to(&c, &a, TYPE_JOIN);
        UNTIL(lab, !peers_session(c.peers, number));
        assert_int_equal(a.n_joins, 1);
        for (PeerFrame type = TYPE_REQUEST; type <= TYPE_RAFT; type++) {
                if (type == TYPE_ANSWER)
                        continue;
                UNTIL(lab, dialed(&c, &a));
                number = peer_number(peers_dialed(c.peers, ID_A));
                send_to(&c, &a, type);
                UNTIL(lab, !peers_session(c.peers, number));
        }
        assert_int_equal(a.n_requests, 0);
        assert_int_equal(a.n_raft, 0);
        assert_int_equal(logged(lab, "rejected a session from"), 1); /* of an address in a minute */
        assert_int_equal(logged(lab, "session from the joining host"), 0);
        stop(&c);
        stop(&a);
}

static void a_host_without_the_root_of_the_token_is_named_with_the_reason(void **state) {
        Lab *lab = *state;
        Member a, b;

        start(&a, lab, ID_A, "alpha", 0);
        lab->root_pin.bytes[0] ^= 1;
        start_joining(&b, lab, ID_B, "beta");
        dial(&b, &a);
        UNTIL(lab, has_problem(&b, "the host does not prove the root of the token"));
        assert_false(dialed(&b, &a));
        assert_int_equal(a.n_joins, 0);
        stop(&b);
        stop(&a);
}

static void requests_to_join_above_the_limit_and_after_wrong_tokens_are_rejected(void **state) {
        uint64_t source = strangers_key("127.0.0.1:1");
        Lab *lab = *state;
        Member a, c;
        bool wrong;

        start(&a, lab, ID_A, "alpha", 0);
        peers_register(a.peers, join_types, ELEMENTS(join_types), &a);
        start_joining(&c, lab, ID_C, "gamma");
        dial(&c, &a);
        UNTIL(lab, dialed(&c, &a));
        while (strangers_join(&a.peers->strangers, source, loop_now_ms(lab->loop) + 60000, &wrong) == 0)
                ; /* what is taken later drains later: the test may take any time */
        send_to(&c, &a, TYPE_JOIN);
        UNTIL(lab, has_problem(&c, "too many hosts join at once: try again in 1 s"));

        for (unsigned i = 0; i < STRANGERS_WRONG_MAX; i++)
                strangers_wrong_token(&a.peers->strangers, source, loop_now_ms(lab->loop));
        UNTIL(lab, dialed(&c, &a));
        send_to(&c, &a, TYPE_JOIN);
        UNTIL(lab, has_problem(&c, "5 wrong tokens came from the address of this host within a minute: try"));
        assert_int_equal(a.n_joins, 0);
        stop(&c);
        stop(&a);
}

static void a_joining_host_without_a_request_is_cut_after_5_s(void **state) {
        Lab *lab = *state;
        uint64_t begun_ms;
        Member a, c;

        start(&a, lab, ID_A, "alpha", 0);
        peers_register(a.peers, join_types, ELEMENTS(join_types), &a);
        start_joining(&c, lab, ID_C, "gamma");
        dial(&c, &a);
        UNTIL(lab, dialed(&c, &a));
        begun_ms = loop_now_ms(lab->loop);
        UNTIL(lab, !dialed(&c, &a));
        assert_in_range(loop_now_ms(lab->loop) - begun_ms, PEER_JOIN_REQUEST_MS - 200,
                        PEER_JOIN_REQUEST_MS + 15000);
        stop(&c);
        stop(&a);
}

static void a_stranger_that_names_a_member_does_not_displace_its_session(void **state) {
        Lab *lab = *state;
        Member a, b, c;
        uint64_t number;

        start(&a, lab, ID_A, "alpha", 0);
        peers_register(a.peers, join_types, ELEMENTS(join_types), &a);
        start(&b, lab, ID_B, "beta", 1);
        dial(&b, &a);
        dial(&a, &b);
        UNTIL(lab, dialed(&b, &a) && accepted(&a, &b) && dialed(&a, &b));
        number = peer_number(peers_dialed(a.peers, ID_B));
        start_joining(&c, lab, ID_B, "gamma");
        dial(&c, &a);
        UNTIL(lab, dialed(&c, &a));
        send_to(&c, &a, TYPE_JOIN);
        UNTIL(lab, c.n_joined == 1);
        peers_end(a.peers, ID_C, "");
        assert_true(accepted(&a, &b));
        assert_true(peer_number(peers_dialed(a.peers, ID_B)) == number);
        assert_string_equal(state_of(&a, &b).handshake.name, "beta");
        stop(&c);
        stop(&b);
        stop(&a);
}

static void a_member_without_a_certificate_needs_a_token(void **state) {
        Lab *lab = *state;
        Member a, c;

        start(&a, lab, ID_A, "alpha", 0);
        peers_register(a.peers, join_types, ELEMENTS(join_types), &a);
        start_joining(&c, lab, ID_C, "gamma");
        c.self.cluster_id = CLUSTER;
        peers_set_self(c.peers, &c.self);
        dial(&c, &a);
        UNTIL(lab, has_problem(&c, "gamma is a member of a cluster and has no certificate"));
        stop(&c);
        stop(&a);
}

static void key_file_and_certificates_work_on_one_listener(void **state) {
        Lab *lab = *state;
        Member a, b, c;

        prepare(&a, lab, ID_A, "alpha");
        enter(&a, 0);
        a.options.key = lab->key;
        open_as(&a, TLS_ROLE_REPLICA, ID_A);
        prepare(&b, lab, ID_B, "beta"); /* the key file only, as a former version */
        b.options.key = lab->key;
        open_as(&b, _TLS_ROLE_INVALID, NULL);
        prepare(&c, lab, ID_C, "gamma");
        enter(&c, 2);
        c.options.key = lab->key;
        open_as(&c, TLS_ROLE_REPLICA, ID_C);

        dial(&b, &a);
        UNTIL(lab, dialed(&b, &a));
        send_to(&b, &a, TYPE_REQUEST);
        UNTIL(lab, a.n_requests == 1);
        assert_int_equal(a.kind, TLS_PEER_KEY);
        assert_true(carries_raft(lab, &b, &a)); /* exactly as before */

        dial(&c, &a);
        UNTIL(lab, dialed(&c, &a));
        send_to(&c, &a, TYPE_REQUEST);
        UNTIL(lab, a.n_requests == 2);
        assert_int_equal(a.kind, TLS_PEER_CERTIFICATE);

        dial(&a, &b); /* tries the certificate, then the key file */
        UNTIL(lab, dialed(&a, &b));
        send_to(&a, &b, TYPE_REQUEST);
        UNTIL(lab, b.n_requests == 1);
        assert_int_equal(b.kind, TLS_PEER_KEY);
        stop(&c);
        stop(&b);
        stop(&a);
}

static void the_key_file_counts_no_more(void **state) {
        _cleanup_(tls_credentials_freep) TlsCredentials *credentials = NULL;
        Lab *lab = *state;
        Member a, b;

        prepare(&a, lab, ID_A, "alpha");
        enter(&a, 0);
        a.options.key = lab->key;
        open_as(&a, _TLS_ROLE_INVALID, NULL);
        prepare(&b, lab, ID_B, "beta");
        enter(&b, 1);
        b.options.key = lab->key;
        open_as(&b, _TLS_ROLE_INVALID, NULL);
        dial(&b, &a);
        UNTIL(lab, dialed(&b, &a));

        assert_true(state_of(&a, &b).by_key);
        credentials = issue(&a, TLS_ROLE_REPLICA, ID_A);
        peers_set_credentials(a.peers, credentials, false);
        assert_false(accepted(&a, &b)); /* its sessions end at once */
        assert_false(state_of(&a, &b).by_key);
        UNTIL(lab, logged(lab, "the cluster requires certificates, and its key file does not count any more: "
                               "on a host of "
                               "it, run fleetctl token --replace=beta, then fleetctl join on beta"));
        UNTIL(lab, has_problem(&b, "the peer has another key, or none"));
        assert_true(has_problem(&b, "run fleetctl token --replace=beta, then fleetctl join on this one"));
        assert_false(dialed(&b, &a));
        assert_true(peers_need_certificate(b.peers));

        tls_credentials_free(credentials);
        credentials = issue(&b, TLS_ROLE_REPLICA, ID_B);
        peers_set_credentials(b.peers, credentials, true);
        UNTIL(lab, dialed(&b, &a));
        send_to(&b, &a, TYPE_REQUEST);
        UNTIL(lab, a.n_requests == 1);
        assert_int_equal(a.kind, TLS_PEER_CERTIFICATE);
        assert_false(peers_need_certificate(b.peers));
        stop(&b);
        stop(&a);
}

static void the_end_of_the_key_file_is_for_good(void **state) {
        _cleanup_(tls_credentials_freep) TlsCredentials *credentials = NULL;
        Lab *lab = *state;
        Member a, b;

        prepare(&a, lab, ID_A, "alpha");
        enter(&a, 0);
        a.options.key = lab->key;
        open_as(&a, TLS_ROLE_REPLICA, ID_A);
        prepare(&b, lab, ID_B, "beta");
        enter(&b, 1);
        b.options.key = lab->key;
        open_as(&b, _TLS_ROLE_INVALID, NULL);
        dial(&b, &a);
        UNTIL(lab, dialed(&b, &a));
        assert_true(peers_has_key(a.peers) && peers_has_certificate(a.peers));
        assert_false(peers_has_certificate(b.peers));

        peers_end_key(a.peers);
        assert_false(accepted(&a, &b));
        UNTIL(lab, has_problem(&b, "rejected by the peer: the cluster requires certificates"));
        assert_true(peers_need_certificate(b.peers));
        credentials = issue(&a, TLS_ROLE_REPLICA, ID_A);
        peers_set_credentials(a.peers, credentials, true); /* a renewal does not bring it back */
        text_clear(&lab->log);
        UNTIL(lab, logged(lab, "ended: ") || has_problem(&b, "run fleetctl token --replace=beta"));
        assert_false(accepted(&a, &b));
        dial(&a, &b); /* not with the key file either */
        UNTIL(lab, logged(lab, "Failed to open a session to"));
        assert_false(dialed(&a, &b));
        stop(&b);
        stop(&a);
}

/* -- Redialing with certificates -- */

typedef struct Ends {
        Member *member;
        unsigned n, n_without_successor;
        PeersObserver observer;
} Ends;

/* The successor of a session that is replaced is authenticated already when it ends. */
static void on_key_session_end(void *userdata, PeerSession *s) {
        Ends *ends = userdata;
        bool successor = false;

        for (const KnownAddress *k = ends->member->peers->known; k; k = k->hh.next)
                successor |= k->session && k->session != s && k->session->has_handshake &&
                             k->session->peer.kind == TLS_PEER_CERTIFICATE;
        ends->n++;
        ends->n_without_successor += s->dialed && !successor;
}

static void observe_ends(Ends *ends) {
        ends->observer = (PeersObserver) { .on_end = on_key_session_end, .userdata = ends };
        peers_observe(ends->member->peers, &ends->observer);
}

static TlsPeerKind dialed_kind(const Member *m, const Member *other) {
        const PeerSession *s = peers_dialed(m->peers, other->self.machine_id);

        return s ? peer_authentication(s)->kind : TLS_PEER_ANONYMOUS;
}

/* Open a host with the key file; its certificate comes later. */
static void open_with_key(Member *m, Lab *lab, const char *id, const char *name) {
        prepare(m, lab, id, name);
        m->options.key = lab->key;
        open_as(m, _TLS_ROLE_INVALID, NULL);
}

static void certify(Member *m, bool key_counts) {
        _cleanup_(tls_credentials_freep)
                TlsCredentials *credentials = issue(m, TLS_ROLE_REPLICA, m->self.machine_id);

        peers_set_credentials(m->peers, credentials, key_counts);
}

static void dial_both(Member *m, const Member *b, const Member *c) {
        PeerAddress known[2] = {};

        memcpy(known[0].address, b->self.address, sizeof(known->address));
        memcpy(known[1].address, c->self.address, sizeof(known->address));
        assert_int_equal(peers_set_known(m->peers, known, 2), 0);
}

static void sessions_are_replaced_one_per_second(void **state) {
        Lab *lab = *state;
        uint64_t begun_ms, first_ms, second_ms;
        Member a, b, c;
        Ends ends = { .member = &a };

        open_with_key(&a, lab, ID_A, "alpha");
        open_with_key(&b, lab, ID_B, "beta");
        open_with_key(&c, lab, ID_C, "gamma");
        dial_both(&a, &b, &c);
        UNTIL(lab, dialed(&a, &b) && dialed(&a, &c));
        observe_ends(&ends);
        certify(&b, true);
        certify(&c, true);

        begun_ms = loop_now_ms(lab->loop);
        certify(&a, true);
        enter(&a, 0);
        enter(&b, 1);
        enter(&c, 2);
        UNTIL(lab,
              dialed_kind(&a, &b) == TLS_PEER_CERTIFICATE || dialed_kind(&a, &c) == TLS_PEER_CERTIFICATE);
        first_ms = loop_now_ms(lab->loop);
        assert_true(dialed(&a, &b) && dialed(&a, &c));
        UNTIL(lab,
              dialed_kind(&a, &b) == TLS_PEER_CERTIFICATE && dialed_kind(&a, &c) == TLS_PEER_CERTIFICATE);
        second_ms = loop_now_ms(lab->loop);
        print_message("# replaced after %llu and %llu ms\n", (unsigned long long) (first_ms - begun_ms),
                      (unsigned long long) (second_ms - begun_ms));
        assert_true(second_ms - first_ms >= 500); /* a slow host may delay the first one only */
        assert_true(second_ms - begun_ms >= 1900);
        assert_int_equal(ends.n, 2);
        assert_int_equal(ends.n_without_successor, 0);
        assert_false(state_of(&a, &b).by_key);
        peers_unobserve(&ends.observer);
        stop(&c);
        stop(&b);
        stop(&a);
}

static void a_session_that_cannot_be_replaced_stays(void **state) {
        Lab *lab = *state;
        Member a, b;
        Ends ends = { .member = &a };

        open_with_key(&a, lab, ID_A, "alpha");
        open_with_key(&b, lab, ID_B, "beta");
        dial(&a, &b);
        UNTIL(lab, dialed(&a, &b));
        observe_ends(&ends);
        enter(&a, 0);
        enter(&b, 1); /* its key is in the tree, and its certificate not stored yet */
        certify(&a, true);
        UNTIL(lab, logged(lab, "Failed to open a session to"));
        send_to(&a, &b, TYPE_RAFT);
        UNTIL(lab, b.n_raft == 1);
        assert_int_equal(dialed_kind(&a, &b), TLS_PEER_KEY);
        assert_string_equal(state_of(&a, &b).problem, "");
        assert_int_equal(ends.n, 0);
        peers_unobserve(&ends.observer);
        stop(&b);
        stop(&a);
}

/* A connection that does not complete until the test ends it. */
static struct {
        StreamConnected *done;
        void *userdata;
} stalled;

static void *connect_and_stall(Network *network, const char *address, uint64_t timeout_ms,
                               StreamConnected *done, void *userdata, int *ret_error) {
        assert_null(stalled.done);
        stalled.done = done;
        stalled.userdata = userdata;
        return &stalled;
}

static void a_session_may_end_while_its_successor_connects(void **state) {
        Lab *lab = *state;
        const NetworkOps *real = lab->network->ops;
        NetworkOps stalling = *real;
        uint64_t ended_ms;
        Member a, b;

        stalling.connect = connect_and_stall;
        open_with_key(&a, lab, ID_A, "alpha");
        open_with_key(&b, lab, ID_B, "beta");
        dial(&a, &b);
        UNTIL(lab, dialed(&a, &b));
        lab->network->ops = &stalling;
        certify(&b, true);
        certify(&a, true);
        enter(&a, 0);
        enter(&b, 1);
        UNTIL(lab, stalled.done);
        session_cut(peers_dialed(a.peers, ID_B), -ECONNRESET, "cut by the test");
        ended_ms = loop_now_ms(lab->loop);
        UNTIL(lab, !dialed(&a, &b) && loop_now_ms(lab->loop) >= ended_ms + 3 * PEERS_BACKOFF_MIN_MS);
        lab->network->ops = real;
        stalled.done(stalled.userdata, NULL, -ETIMEDOUT);
        UNTIL(lab, dialed_kind(&a, &b) == TLS_PEER_CERTIFICATE);
        stop(&b);
        stop(&a);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, open_lab, close_lab)
                T(a_session_belongs_to_the_machine_of_the_certificate),
                T(a_handshake_of_another_machine_than_the_certificate_is_rejected),
                T(another_machine_at_an_address_gets_no_frame_of_the_expected_one),
                T(a_host_that_knows_replicas_only_rejects_all_others),
                T(another_key_and_a_removed_machine_are_rejected_with_the_reason),
                T(a_removal_counts_in_its_own_lineage_only),
                T(a_removal_ends_open_sessions_within_a_turn),
                T(frames_of_replicas_need_a_replica_and_its_raft_id),
                T(a_replica_with_an_old_tree_accepts_a_chain),
                T(a_joining_host_sends_one_request),
                T(a_host_without_the_root_of_the_token_is_named_with_the_reason),
                T(requests_to_join_above_the_limit_and_after_wrong_tokens_are_rejected),
                T(a_joining_host_without_a_request_is_cut_after_5_s),
                T(a_stranger_that_names_a_member_does_not_displace_its_session),
                T(a_member_without_a_certificate_needs_a_token),
                T(key_file_and_certificates_work_on_one_listener),
                T(the_key_file_counts_no_more),
                T(the_end_of_the_key_file_is_for_good),
                T(sessions_are_replaced_one_per_second),
                T(a_session_that_cannot_be_replaced_stays),
                T(a_session_may_end_while_its_successor_connects),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
