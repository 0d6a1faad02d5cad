/* Sessions between hosts on the real loop, over 127.0.0.1: who finds whom, who is refused and with which
 * words, what comes back after a cut, and what a stranger or a slow host can cost. Most run twice: plain, and
 * over TLS. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "io/loop_uv.h"
#include "peers/peers_internal.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"

enum {
        HOSTS_MAX = 3,
        PATIENCE_MS = 20000,
        LOOK_MS = 2,
        TYPE_REQUEST = PEER_TERM_CHECK, /* frame types of the test, by direction and priority */
        TYPE_ANSWER = PEER_TERM_CHECKED,
        TYPE_NORMAL = PEER_PROPOSE,
        TYPE_LOW = PEER_PROPOSE_LATER,
        TYPE_LARGE_ANSWER = PEER_FORWARD_CHUNK,
        TYPE_BOTH_WAYS = PEER_HEARTBEAT,
        CLONE_CHECK_MS = 1000, /* time for a conflicting session to answer a ping */
};

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define ID_C "cccccccccccccccccccccccccccccccc"

typedef struct Lab {
        UvLoop *uv;
        Loop *loop;
        Network *network;
        TlsKey *key, *other_key;
        bool secure;     /* hosts use 'key' */
        unsigned n_open; /* hosts */
        Text log;
} Lab;

typedef struct Member {
        Lab *lab;
        Peers *peers;
        PeerHandshake handshake;
        const char *rejected_id; /* machine id that admit() rejects */
        unsigned n_changes, n_ended, n_asked, n_answered, n_admits;
        uint64_t last_session;
        char last_payload[64];
        bool closed;
        PeersObserver observer;
} Member;

/* -- Waiting -- */

static void stop_loop(void *userdata) {
        loop_uv_stop(userdata);
}

/* Run the loop briefly, so that the caller can check its condition again. Fail after PATIENCE_MS. */
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

static unsigned logged(const Lab *lab, const char *words) {
        unsigned n = 0;

        for (const char *p = lab->log.chars; p && (p = strstr(p, words)); p++)
                n++;
        return n;
}

static TlsKey *make_key(char digit) {
        char path[] = "/tmp/test-peers-XXXXXX", digits[65];
        int fd = mkstemp(path);
        TlsKey *key = NULL;
        Error err = {};

        memset(digits, digit, 64);
        digits[64] = '\n';
        assert_true(fd >= 0);
        assert_int_equal(write(fd, digits, sizeof(digits)), sizeof(digits));
        assert_int_equal(fchmod(fd, 0600), 0);
        close(fd);
        if (tls_key_read(path, &key, &err) < 0)
                fail_msg("%s", err.message);
        unlink(path);
        return key;
}

static int open_lab(void **state, bool secure) {
        Lab *lab = NEW0(Lab, 1);

        lab->secure = secure;
        assert_int_equal(loop_uv_new(&lab->uv), 0);
        lab->loop = loop_uv_base(lab->uv);
        assert_int_equal(net_uv_new(&lab->network, lab->loop), 0);
        lab->key = make_key('a');
        lab->other_key = make_key('b');
        log_set_sink(keep_log, lab);
        *state = lab;
        return 0;
}

static int plain(void **state) {
        return open_lab(state, false);
}

static int secure(void **state) {
        return open_lab(state, true);
}

static int close_lab(void **state) {
        Lab *lab = *state;

        log_set_sink(NULL, NULL);
        if (lab->n_open > 0)
                return -1; /* the test has failed: its hosts are gone with its stack, and the message is still
                              to come */

        lab->network = net_uv_free(lab->network);
        lab->uv = loop_uv_free(lab->uv);
        tls_key_free(lab->key);
        tls_key_free(lab->other_key);
        text_done(&lab->log);
        free(lab);
        return 0;
}

/* Find a free port of 127.0.0.1. */
static void free_address(char ret[64]) {
        snprintf(ret, 64, "127.0.0.1:%d", scratch_port());
}

/* -- Hosts -- */

static int member_admit(void *userdata, const PeerHandshake *handshake, Error *err) {
        Member *m = userdata;

        m->n_admits++;
        if (m->rejected_id && streq(handshake->machine_id, m->rejected_id))
                return error_set(err, -EPERM, "no token was given to %s", handshake->name);
        return 0;
}

static void member_on_change(void *userdata, const char *machine_id) {
        Member *m = userdata;

        m->n_changes++;
}

static void member_on_end(void *userdata, PeerSession *s) {
        Member *m = userdata;

        m->n_ended++;
        assert_ptr_equal(peers_session(m->peers, peer_number(s)), NULL);
        assert_int_equal(peer_reply(s, TYPE_ANSWER, "late", 4), -ENOTCONN);
}

static void member_on_request(void *userdata, PeerSession *s, PeerFrame type, const void *payload,
                              size_t size) {
        Member *m = userdata;

        m->n_asked++;
        m->last_session = peer_number(s);
        snprintf(m->last_payload, sizeof(m->last_payload), "%.*s", (int) MIN(size, (size_t) 63),
                 (const char *) payload);
        assert_false(s->dialed);
        assert_int_equal(peer_reply(s, TYPE_ANSWER, payload, size), 0);
}

static void member_on_answer(void *userdata, PeerSession *s, PeerFrame type, const void *payload,
                             size_t size) {
        Member *m = userdata;

        m->n_answered++;
        assert_true(s->dialed);
}

static const PeerFrameType types[] = {
        { TYPE_REQUEST, member_on_request },
        { TYPE_ANSWER, member_on_answer },
        { TYPE_NORMAL, NULL },
        { TYPE_LOW, NULL },
        { TYPE_LARGE_ANSWER, NULL },
        { TYPE_BOTH_WAYS, NULL },
};

static PeerHandshake handshake_of(const char *machine_id, const char *name, uint64_t nonce) {
        PeerHandshake handshake = { .cluster_id = 0xc1, .lineage = 0x11, .start_number = 1, .nonce = nonce };

        memcpy(handshake.machine_id, machine_id, sizeof(handshake.machine_id));
        snprintf(handshake.boot_id, sizeof(handshake.boot_id), "%032x", 1);
        snprintf(handshake.name, sizeof(handshake.name), "%s", name);
        return handshake;
}

static void member_open(Member *m, Lab *lab, PeerHandshake handshake, const TlsKey *key) {
        PeersOptions options = {
                .key = key, .admit = member_admit, .on_change = member_on_change, .userdata = m
        };
        Error err = {};

        *m = (Member) { .lab = lab, .rejected_id = m->rejected_id };
        if (!*handshake.address)
                free_address(handshake.address);
        m->handshake = options.self = handshake;
        assert_int_equal(peers_new(&m->peers, lab->loop, lab->network, &options), 0);
        lab->n_open++;
        if (peers_listen(m->peers, handshake.address, &err) < 0)
                fail_msg("%s", err.message);
        m->observer = (PeersObserver) { .on_end = member_on_end, .userdata = m };
        peers_observe(m->peers, &m->observer);
        peers_register(m->peers, types, ELEMENTS(types), m);
}

static void start(Member *m, Lab *lab, const char *machine_id, const char *name, uint64_t nonce) {
        member_open(m, lab, handshake_of(machine_id, name, nonce), lab->secure ? lab->key : NULL);
}

static void member_on_closed(void *userdata) {
        Member *m = userdata;

        m->closed = true;
        m->peers = NULL;
        m->lab->n_open--;
}

static void stop(Member *m, const char *reason) {
        peers_close(m->peers, reason, member_on_closed, m);
        UNTIL(m->lab, m->closed);
}

/* Let 'm' dial the others. 'by_address': without their machine ids. */
static void know(Member *m, Member *const *others, size_t n, bool by_address) {
        PeerAddress known[HOSTS_MAX] = {};

        for (size_t i = 0; i < n; i++) {
                memcpy(known[i].address, others[i]->handshake.address, sizeof(known[i].address));
                if (!by_address)
                        memcpy(known[i].machine_id, others[i]->handshake.machine_id,
                               sizeof(known[i].machine_id));
        }
        assert_int_equal(peers_set_known(m->peers, known, n), 0);
}

static void know_one(Member *m, Member *other) {
        know(m, (Member *[]) { other }, 1, false);
}

static PeerState state_of(const Member *m, const Member *other) {
        PeerState state = {};

        (void) peers_state(m->peers, other->handshake.machine_id, &state);
        return state;
}

static bool has_rejected_clone(const Member *m, const Member *of) {
        bool clone, key;

        peers_rejected(m->peers, of->handshake.machine_id, &clone, &key);
        return clone;
}

static bool has_dialed(const Member *m, const Member *other) {
        return state_of(m, other).dialed;
}

static bool both_ways(const Member *a, const Member *b) {
        PeerState x = state_of(a, b), y = state_of(b, a);

        return x.dialed && x.accepted && y.dialed && y.accepted;
}

static bool has_problem(const Member *m, const Member *other, const char *words) {
        return strstr(state_of(m, other).problem, words) != NULL;
}

typedef struct Search {
        const char *words;
        bool found;
} Search;

static void search_problem(void *userdata, const PeerState *state) {
        Search *search = userdata;

        search->found |= strstr(state->problem, search->words) != NULL;
}

/* Include addresses of unknown machines. */
static bool has_any_problem(const Member *m, const char *words) {
        Search search = { .words = words };

        peers_each(m->peers, search_problem, &search);
        return search.found;
}

static void ask(Member *m, const Member *other, const char *words) {
        assert_int_equal(
                peers_send(m->peers, other->handshake.machine_id, TYPE_REQUEST, words, strlen(words)), 0);
}

/* -- A raw connection, which can send any bytes -- */

typedef struct Bare {
        Lab *lab;
        Stream *stream;
        bool done, closed;
        uint8_t bytes[4096]; /* the first bytes received */
        size_t n_bytes;
} Bare;

static void bare_on_read(void *userdata, const void *bytes, size_t size) {
        Bare *b = userdata;
        size_t n = MIN(size, sizeof(b->bytes) - b->n_bytes);

        if (size == 0)
                stream_close(b->stream);
        memcpy(b->bytes + b->n_bytes, bytes, n);
        b->n_bytes += n;
}

static void bare_on_close(void *userdata, int error, const char *reason) {
        Bare *b = userdata;

        b->closed = true;
        b->stream = NULL;
}

static const StreamEvents bare_events = { .on_read = bare_on_read, .on_close = bare_on_close };

static void bare_on_connected(void *userdata, Stream *s, int error) {
        Bare *b = userdata;

        b->done = true;
        b->stream = s;
        if (!s)
                return;
        stream_set_events(s, &bare_events, b);
        stream_pause(s, false);
}

static void bare_dial(Bare *b, Lab *lab, const Member *to) {
        int error;

        *b = (Bare) { .lab = lab };
        assert_non_null(lab->network->ops->connect(lab->network, to->handshake.address, 1000,
                                                   bare_on_connected, b, &error));
}

static void bare_connect(Bare *b, Lab *lab, const Member *to) {
        bare_dial(b, lab, to);
        UNTIL(lab, b->done);
        assert_non_null(b->stream);
}

static void bare_send(Bare *b, PeerFrame type, const void *payload, size_t size) {
        uint8_t head[FRAME_HEADER_SIZE];

        frame_header(head, type, size);
        assert_int_equal(stream_write(b->stream, head, sizeof(head)), 0);
        assert_int_equal(stream_write(b->stream, payload, size), 0);
}

static void bare_send_handshake(Bare *b, PeerHandshake handshake) {
        _cleanup_writer_ Writer w = {};

        handshake_write(&w, &handshake);
        bare_send(b, PEER_HANDSHAKE, w.bytes, w.size);
}

static bool bare_received(const Bare *b, PeerFrame type) {
        Frame frame;
        size_t at = 0;
        ssize_t n;

        while ((n = frame_take(b->bytes + at, b->n_bytes - at, PEER_FRAME_MAX, &frame)) > 0) {
                if (frame.type == type)
                        return true;
                at += n;
        }
        return false;
}

static void bare_close(Bare *b) {
        if (b->stream && !b->closed)
                stream_close(b->stream);
        UNTIL(b->lab, b->closed);
}

/* -- Discovery -- */

static void two_hosts_have_a_session_per_direction_and_answers_return_on_the_dialed_one(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b);
        know_one(&b, &a);
        UNTIL(lab, both_ways(&a, &b));
        assert_string_equal(state_of(&a, &b).handshake.name, "b");
        assert_string_equal(state_of(&a, &b).problem, "");
        assert_true(state_of(&a, &b).kernel_silent_ms < PATIENCE_MS);

        ask(&a, &b, "who leads?");
        ask(&b, &a, "you?");
        UNTIL(lab, a.n_answered == 1 && b.n_answered == 1);
        assert_string_equal(b.last_payload, "who leads?");
        assert_string_equal(a.last_payload, "you?");
        assert_true(a.n_changes > 0 && b.n_changes > 0);
        assert_non_null(peers_session(b.peers, b.last_session));

        stop(&a, "stop");
        UNTIL(lab, !state_of(&b, &a).dialed && !state_of(&b, &a).accepted);
        assert_string_equal(state_of(&b, &a).bye, "stop");
        assert_null(peers_session(b.peers, b.last_session));
        assert_int_equal(b.n_ended, 2);
        assert_int_equal(peers_send(b.peers, ID_A, TYPE_REQUEST, "", 0), -ENOTCONN);
        stop(&b, "");
}

static void three_hosts_that_know_only_addresses_learn_each_machine_id(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {}, c = {};
        Member *all[] = { &a, &b, &c };

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        start(&c, lab, ID_C, "c", 3);
        for (size_t i = 0; i < ELEMENTS(all); i++)
                know(all[i], all, ELEMENTS(all), true);
        UNTIL(lab, both_ways(&a, &b) && both_ways(&b, &c) && both_ways(&a, &c));

        for (size_t i = 0; i < ELEMENTS(all); i++)
                stop(all[i], "");
}

static void collect_ids(void *userdata, const PeerState *state) {
        Text *t = userdata;

        text_printf(t, "%.1s", *state->handshake.machine_id ? state->handshake.machine_id : "?");
}

static bool each_is(const Member *m, const char *ids) {
        _cleanup_text_ Text t = {};

        peers_each(m->peers, collect_ids, &t);
        return t.chars && streq(t.chars, ids);
}

static void an_own_address_is_not_dialed_again_and_the_list_is_sorted(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {}, c = {};
        PeerAddress known[3] = {};
        PeerHandshake hidden;

        start(&c, lab, ID_C, "c", 3);
        start(&b, lab, ID_B, "b", 2);
        start(&a, lab, ID_A, "a", 1);
        hidden = a.handshake;
        hidden.address[0] = 0; /* the host does not announce an address */
        peers_set_self(a.peers, &hidden);
        memcpy(known[0].address, c.handshake.address, 64);
        memcpy(known[1].address, a.handshake.address, 64);
        memcpy(known[2].address, b.handshake.address, 64);
        assert_int_equal(peers_set_known(a.peers, known, 3), 0);
        assert_true(each_is(&a, "???"));
        UNTIL(lab, each_is(&a, "bc"));
        assert_int_equal(logged(lab, "refused"), 0);

        assert_int_equal(peers_set_known(a.peers, known + 2, 1), 0);
        assert_false(has_dialed(&a, &c));
        UNTIL(lab, each_is(&a, "b"));
        UNTIL(lab, !state_of(&c, &a).accepted);
        assert_string_equal(state_of(&c, &a).bye, PEER_BYE_UNUSED); /* not the end of its daemon */
        stop(&a, "");
        stop(&b, "");
        stop(&c, "");
}

static void a_raft_id_that_is_assigned_later_is_sent_on_open_sessions(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        PeerHandshake joined;

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b);
        know_one(&b, &a);
        UNTIL(lab, both_ways(&a, &b));
        assert_int_equal(peers_send_raft(a.peers, 7, TYPE_REQUEST, "x", 1), -ENOTCONN);

        joined = b.handshake;
        joined.raft_id = 7;
        peers_set_self(b.peers, &joined);
        UNTIL(lab, state_of(&a, &b).handshake.raft_id == 7);
        assert_int_equal(peers_send_raft(a.peers, 7, TYPE_REQUEST, "x", 1), 0);
        UNTIL(lab, b.n_asked == 1);
        assert_int_equal(a.n_ended + b.n_ended, 0);
        stop(&a, "");
        stop(&b, "");
}

/* -- Reconnecting -- */

static void a_lost_session_is_reported_and_dialed_again(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        uint64_t number;

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b);
        UNTIL(lab, has_dialed(&a, &b));
        number = peer_number(peers_dialed(a.peers, ID_B));

        stream_close(peers_dialed(a.peers, ID_B)->stream);
        UNTIL(lab, a.n_ended == 1 && has_dialed(&a, &b) && state_of(&b, &a).accepted);
        assert_int_not_equal(peer_number(peers_dialed(a.peers, ID_B)), number);
        ask(&a, &b, "again");
        UNTIL(lab, a.n_answered == 1);
        stop(&a, "");
        stop(&b, "");
}

/* Liveness uses the time of its last contact until then. */
static void a_host_without_sessions_is_freed_after_ten_minutes(void **state) {
        static const struct {
                unsigned ago_s;
                bool stays;
        } times[] = { { 0, true }, { 590, true }, { 600, false } };
        Lab *lab = *state;
        Member a = {}, b = {};

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b);
        UNTIL(lab, has_dialed(&a, &b) && state_of(&b, &a).accepted);
        assert_int_equal(peers_count(a.peers), 1);
        assert_int_equal(peers_count(b.peers), 1);
        stop(&a, "");
        UNTIL(lab, !state_of(&b, &a).accepted);
        assert_int_equal(peers_count(b.peers), 0);
        for (size_t i = 0; i < ELEMENTS(times); i++) {
                host_find(b.peers, ID_A)->used_ms = loop_now_ms(lab->loop) - times[i].ago_s * 1000;
                assert_true(timer_armed(&b.peers->tick));
                timer_stop(&b.peers->tick);
                b.peers->tick.fire(b.peers->tick.userdata);
                assert_int_equal(host_find(b.peers, ID_A) != NULL, times[i].stays);
        }
        assert_false(timer_armed(&b.peers->tick)); /* no host is left */
        stop(&b, "");
}

static void a_restarted_host_is_dialed_again(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        PeerHandshake again;

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b);
        know_one(&b, &a);
        UNTIL(lab, both_ways(&a, &b));
        assert_int_equal(peers_count(a.peers), 1);
        again = b.handshake;
        stop(&b, "stop");
        UNTIL(lab, has_problem(&a, &b, "connection refused"));
        assert_int_equal(peers_count(a.peers), 0);
        assert_string_equal(state_of(&a, &b).bye, "stop");
        assert_true(state_of(&a, &b).kernel_silent_ms < 3000);

        again.nonce = 22;
        again.start_number++;
        member_open(&b, lab, again, lab->secure ? lab->key : NULL);
        know_one(&b, &a);
        UNTIL(lab, both_ways(&a, &b));
        assert_string_equal(state_of(&a, &b).bye, "");
        assert_false(has_rejected_clone(&a, &b));
        assert_int_equal(logged(lab, "connection refused"), 1); /* for any number of attempts */
        stop(&a, "");
        stop(&b, "");
}

static uint64_t silent_for_a_minute(const Stream *s) {
        return 60000;
}

/* LimitSessions=: of hosts that this one does not dial. */
static void above_the_limit_of_sessions_only_hosts_that_are_dialed_are_admitted(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        Bare first, second;

        start(&a, lab, ID_A, "a", 1);
        a.peers->options.limits.sessions = 1;
        bare_connect(&first, lab, &a);
        bare_send_handshake(&first, handshake_of(ID_C, "c", 3));
        UNTIL(lab, bare_received(&first, PEER_HANDSHAKE));
        bare_dial(&second, lab, &a);
        UNTIL(lab, second.done && (second.closed || !second.stream));
        assert_false(first.closed);

        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b); /* on this network, all have one address */
        know_one(&b, &a);
        UNTIL(lab, has_dialed(&a, &b) && has_dialed(&b, &a));
        stop(&b, "");
        stop(&a, "");
        UNTIL(lab, first.closed);
}

static void a_session_to_a_silent_host_is_ended_and_dialed_again(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        StreamOps cut_off;
        Stream *stream;
        uint64_t number;

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b);
        UNTIL(lab, has_dialed(&a, &b));
        number = peer_number(peers_dialed(a.peers, ID_B));
        stream = peers_dialed(a.peers, ID_B)->stream;
        cut_off = *stream->ops;
        cut_off.kernel_silent_ms = silent_for_a_minute;
        stream->ops = &cut_off;

        UNTIL(lab, has_dialed(&a, &b) && peer_number(peers_dialed(a.peers, ID_B)) != number);
        assert_int_equal(logged(lab, "no packet from the host for 10 s"), 1);
        assert_int_equal(a.n_ended, 1);
        UNTIL(lab, state_of(&b, &a).accepted);
        stop(&a, "");
        stop(&b, "");
}

static void a_new_session_of_a_host_ends_the_older_one_and_drops_its_bytes(void **state) {
        Lab *lab = *state;
        Member a = {};
        Bare old, new;

        start(&a, lab, ID_A, "a", 1);
        bare_connect(&old, lab, &a);
        bare_send_handshake(&old, handshake_of(ID_B, "b", 2));
        UNTIL(lab, bare_received(&old, PEER_HANDSHAKE));
        bare_send(&old, TYPE_REQUEST, "old", 3);
        UNTIL(lab, a.n_asked == 1);
        bare_send(&old, TYPE_REQUEST, "half", 3);
        assert_int_equal(stream_write(old.stream, "\3", 1), 0); /* an incomplete frame */

        bare_connect(&new, lab, &a);
        bare_send_handshake(&new, handshake_of(ID_B, "b", 2));
        UNTIL(lab, old.closed && bare_received(&new, PEER_HANDSHAKE));
        assert_int_equal(a.n_ended, 1);
        bare_send(&new, TYPE_REQUEST, "new", 3);
        UNTIL(lab, streq(a.last_payload, "new"));
        bare_close(&new);
        UNTIL(lab, a.n_ended == 2);
        stop(&a, "");
}

/* -- Admission -- */

static bool no_clone_timer; /* starting the timer of the clone check fails */

int __real_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);
int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);

int __wrap_timer_start(Timer *timer, Loop *loop, uint64_t delay_ms) {
        return no_clone_timer && delay_ms == CLONE_CHECK_MS ? -ENOMEM :
                                                              __real_timer_start(timer, loop, delay_ms);
}

static void without_memory_for_the_clone_check_the_new_session_is_ended(void **state) {
        Lab *lab = *state;
        Member a = {};
        Bare first, silent, second;

        start(&a, lab, ID_A, "a", 1);
        bare_connect(&first, lab, &a);
        bare_send_handshake(&first, handshake_of(ID_B, "b", 2));
        UNTIL(lab, bare_received(&first, PEER_HANDSHAKE));
        bare_connect(&silent, lab, &a); /* sends no handshake, and times out before later connections */

        bare_connect(&second, lab, &a);
        no_clone_timer = true;
        bare_send_handshake(&second, handshake_of(ID_B, "b", 3));
        UNTIL(lab, second.closed);
        no_clone_timer = false;
        assert_false(silent.closed);
        assert_false(first.closed);
        assert_int_equal(state_of(&a, &(Member) { .handshake = handshake_of(ID_B, "b", 2) }).handshake.nonce,
                         2);

        bare_close(&silent);
        bare_close(&first);
        stop(&a, "");
}

static void a_clone_is_rejected_while_the_first_host_answers(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {}, clone = {};

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&b, &a);
        UNTIL(lab, has_dialed(&b, &a));

        start(&clone, lab, ID_B, "b-copy", 3);
        know_one(&clone, &a);
        UNTIL(lab, has_problem(&clone, &a, "two running hosts, b ("));
        assert_true(has_rejected_clone(&a, &b));
        assert_true(has_rejected_clone(&clone, &clone)); /* the clone reports it, too */
        assert_string_equal(state_of(&a, &b).handshake.name, "b");
        assert_true(has_dialed(&b, &a));
        assert_int_equal(b.n_ended, 0);
        assert_int_equal(logged(lab, "rejected a session from"), 1);
        stop(&clone, "");
        stop(&b, "");
        stop(&a, "");
}

static void a_restarted_host_is_admitted_if_its_old_session_leaves_a_ping_unanswered(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        Bare hung;
        uint64_t from_ms;

        start(&a, lab, ID_A, "a", 1);
        bare_connect(&hung, lab, &a);
        bare_send_handshake(&hung, handshake_of(ID_B, "b", 2));
        UNTIL(lab, bare_received(&hung, PEER_HANDSHAKE));

        start(&b, lab, ID_B, "b", 3);
        from_ms = loop_now_ms(lab->loop);
        know_one(&b, &a);
        UNTIL(lab, has_dialed(&b, &a));
        assert_true(loop_now_ms(lab->loop) - from_ms >= 900);
        assert_true(bare_received(&hung, PEER_PING));
        assert_int_equal(state_of(&a, &b).handshake.nonce, 3);
        assert_false(has_rejected_clone(&a, &b));
        UNTIL(lab, hung.closed);
        stop(&b, "");
        stop(&a, "");
}

static void rejected_with(Lab *lab, PeerHandshake handshake, const char *rejected_id, Rejection cause,
                          const char *words) {
        Member a = { .rejected_id = rejected_id }, b = {};
        const char *reason = NULL;
        Rejection found;

        start(&a, lab, ID_A, "a", 1);
        member_open(&b, lab, handshake, lab->secure ? lab->key : NULL);
        know(&b, (Member *[]) { &a }, 1, true);
        UNTIL(lab, has_any_problem(&b, words));
        assert_false(state_of(&a, &b).accepted);
        assert_string_equal(peers_rejection(b.peers, &found, &reason), a.handshake.address);
        assert_non_null(strstr(reason, words));
        assert_int_equal(found, cause);
        assert_null(peers_rejection(a.peers, &found, &reason));
        stop(&b, "");
        stop(&a, "");
}

static void each_rejection_sends_its_reason_to_the_peer(void **state) {
        Lab *lab = *state;
        PeerHandshake handshake = handshake_of(ID_B, "b", 2);

        handshake.cluster_id = 0xc2;
        rejected_with(lab, handshake, NULL, REJECTION_CLUSTER,
                      "b belongs to cluster 00000000000000c2, a to cluster 00000000000000c1");
        handshake = handshake_of(ID_B, "b", 2);
        handshake.lineage = 0x12;
        rejected_with(lab, handshake, NULL, REJECTION_LINEAGE,
                      "b is of another lineage of this cluster than a");
        rejected_with(lab, handshake_of(ID_B, "b", 2), ID_B, REJECTION_ADMISSION, "no token was given to b");
        rejected_with(lab, handshake_of(ID_A, "b", 2), NULL, REJECTION_CLONE,
                      "two hosts, a and b, have machine id");
}

/* Several clusters may have one key file. The host that dials has no cluster in its handshake. */
static void an_attached_host_dials_no_other_cluster(void **state) {
        Lab *lab = *state;
        PeerHandshake handshake = handshake_of(ID_B, "b", 2);
        Member a = {}, b = {};

        handshake.cluster_id = handshake.lineage = 0;
        start(&a, lab, ID_A, "a", 1);
        member_open(&b, lab, handshake, lab->secure ? lab->key : NULL);
        peers_set_cluster(b.peers, 0xc2);
        know(&b, (Member *[]) { &a }, 1, true);
        UNTIL(lab,
              has_any_problem(&b, "a belongs to cluster 00000000000000c1, b is attached to cluster "
                                  "00000000000000c2; to attach it to another one: systemctl stop fleetd; "
                                  "fleetd --reset; systemctl start fleetd"));
        assert_false(state_of(&b, &a).dialed);
        peers_set_cluster(b.peers, 0xc1);
        UNTIL(lab, state_of(&b, &a).dialed);
        stop(&b, "");
        stop(&a, "");
}

/* A peer whose handshake follows the connection, so that the host that dials is the first to see it. */
static void a_host_that_dials_reports_a_version_that_it_does_not_support(void **state) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), peer = -1;
        PeerHandshake newer = handshake_of(ID_A, "a", 1);
        uint8_t head[FRAME_HEADER_SIZE];
        _cleanup_writer_ Writer w = {};
        socklen_t size = sizeof(at);
        const char *reason = NULL;
        PeerAddress to = {};
        Lab *lab = *state;
        Rejection cause;
        Member b = {};

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &at, size), 0);
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &at, &size), 0);
        snprintf(to.address, sizeof(to.address), "127.0.0.1:%d", ntohs(at.sin_port));
        member_open(&b, lab, handshake_of(ID_B, "b", 2), NULL);
        assert_int_equal(peers_set_known(b.peers, &to, 1), 0);
        UNTIL(lab, (peer = accept(fd, NULL, NULL)) >= 0);

        handshake_write(&w, &newer);
        memset(w.bytes + 4, 9, 4); /* newest and oldest version */
        frame_header(head, PEER_HANDSHAKE, w.size);
        assert_int_equal(send(peer, head, sizeof(head), 0), sizeof(head));
        assert_int_equal(send(peer, w.bytes, w.size, 0), w.size);
        UNTIL(lab, peers_rejection(b.peers, &cause, &reason));
        assert_int_equal(cause, REJECTION_VERSION);
        assert_non_null(strstr(reason, "no common protocol version: one host supports 2313 to 2313"));
        close(peer);
        close(fd);
        stop(&b, "");
}

static void a_rejected_host_retries_with_backoff_and_is_admitted_once_allowed(void **state) {
        Lab *lab = *state;
        Member a = { .rejected_id = ID_B }, b = {};
        uint64_t from_ms;

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&b, &a);
        UNTIL(lab, a.n_admits == 1);
        from_ms = loop_now_ms(lab->loop);
        UNTIL(lab, a.n_admits == 4);
        assert_true(loop_now_ms(lab->loop) - from_ms >= 50 + 100 + 200 - 3 * LOOK_MS);
        assert_int_equal(logged(lab, "no token was given"), 2); /* once on each host */
        a.rejected_id = NULL;
        UNTIL(lab, has_dialed(&b, &a));
        assert_string_equal(state_of(&b, &a).problem, "");
        stop(&b, "");
        stop(&a, "");
}

/* A replica that has more connections than it may admit closes them before the handshake. */
typedef struct Busy {
        Lab *lab;
        Listener *listener;
        char address[ADDRESS_SIZE];
        unsigned n_accepted;
} Busy;

static void busy_on_accept(void *userdata, Stream *stream) {
        Busy *busy = userdata;

        busy->n_accepted++;
        stream_close(stream);
}

static void busy_open(Busy *busy, Lab *lab) {
        Error err = {};

        *busy = (Busy) { .lab = lab };
        free_address(busy->address);
        if (lab->network->ops->listen(lab->network, busy->address, busy_on_accept, busy, &busy->listener,
                                      &err) < 0)
                fail_msg("%s", err.message);
}

/* Let 'm' dial replicas that are busy. */
static void know_busy(Member *m, const Busy *busy, size_t n) {
        PeerAddress known[HOSTS_MAX] = {};

        for (size_t i = 0; i < n; i++)
                memcpy(known[i].address, busy[i].address, sizeof(known[i].address));
        assert_int_equal(peers_set_known(m->peers, known, n), 0);
}

/* So do all hosts of a large cluster whose replicas have restarted. */
static void an_attached_host_dials_busy_replicas_one_at_a_time(void **state) {
        enum { BUSY = 3, ROUNDS = 6, FORGET = 3 };
        Lab *lab = *state;
        PeerHandshake replica = handshake_of(ID_A, "a", 1), attached = handshake_of(ID_B, "b", 2);
        Member a = {}, b = {};
        Busy busy[BUSY];
        uint64_t from_ms;
        unsigned n = 0;

        replica.raft_id = 1;
        replica.cluster_id = attached.cluster_id = 7;
        member_open(&a, lab, replica, lab->key);
        member_open(&b, lab, attached, lab->key);
        for (unsigned i = 0; i < BUSY; i++)
                busy_open(&busy[i], lab);
        know_busy(&b, busy, BUSY);
        UNTIL(lab, busy[0].n_accepted + busy[1].n_accepted + busy[2].n_accepted >= BUSY);
        from_ms = loop_now_ms(lab->loop);
        while (n < BUSY + ROUNDS) {
                UNTIL(lab, busy[0].n_accepted + busy[1].n_accepted + busy[2].n_accepted > n);
                n = busy[0].n_accepted + busy[1].n_accepted + busy[2].n_accepted;
                if (n == BUSY + FORGET) { /* an address that is new again is not dialed at once */
                        know_busy(&b, busy, 0);
                        know_busy(&b, busy, BUSY);
                }
        }
        /* Three rejections at the begin, then at least a third of 400, 800, 1000, 1000 ms, ... */
        assert_true(loop_now_ms(lab->loop) - from_ms >=
                    (400 + 800 + (ROUNDS - 2) * 1000) / BUSY - (ROUNDS + 1) * LOOK_MS);

        /* One that is not busy ends it. */
        know_one(&b, &a);
        UNTIL(lab, has_dialed(&b, &a));
        for (unsigned i = 0; i < BUSY; i++)
                lab->network->ops->unlisten(lab->network, busy[i].listener);
        stop(&b, "");
        stop(&a, "");
}

/* The table of addresses has fewer rows than a cluster has hosts. */
static void the_addresses_of_all_known_hosts_are_trusted(void **state) {
        uint64_t source = strangers_key("127.0.0.1:1");
        Lab *lab = *state;
        Member a = {}, b = {}, c = {};

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        start(&c, lab, ID_C, "c", 3);
        assert_false(peers_trusts(a.peers, source));
        know_one(&b, &a);
        know_one(&c, &a);
        UNTIL(lab, peers_accepted(a.peers, ID_B) && peers_accepted(a.peers, ID_C));
        for (uint64_t i = 0; i < 100000; i++)
                strangers_trust(&a.peers->strangers, 2 * i + 1, loop_now_ms(lab->loop));
        assert_true(peers_trusts(a.peers, source));

        stop(&b, "");
        stop(&c, "");
        UNTIL(lab, !peers_accepted(a.peers, ID_B) && !peers_accepted(a.peers, ID_C));
        assert_true(peers_trusts(a.peers, source));
        host_distrust(a.peers, ID_B);
        assert_true(peers_trusts(a.peers, source));
        host_distrust(a.peers, ID_C);
        assert_false(peers_trusts(a.peers, source));
        stop(&a, "");
}

/* As one that moves between replicas ten times a second. A host with a replica is not rejected for that. */
static void a_host_that_opens_sessions_too_often_is_rejected(void **state) {
        enum { SESSIONS = 60 };
        Lab *lab = *state;
        Member a = {};

        start(&a, lab, ID_A, "a", 1);
        for (unsigned replica = 0; replica < 2; replica++) {
                PeerHandshake handshake = handshake_of(replica ? ID_B : ID_C, "c", 3);
                unsigned n = 0;
                Bare b;

                handshake.raft_id = replica ? 7 : 0;
                for (bool admitted = true; admitted && n < SESSIONS; n += admitted) {
                        bare_connect(&b, lab, &a);
                        bare_send_handshake(&b, handshake);
                        UNTIL(lab, bare_received(&b, PEER_HANDSHAKE) || bare_received(&b, PEER_REJECTED));
                        admitted = bare_received(&b, PEER_HANDSHAKE);
                        bare_close(&b);
                }
                if (replica)
                        assert_int_equal(n, SESSIONS);
                else
                        assert_in_range(n, 10, SESSIONS - 1);
        }
        assert_int_equal(logged(lab, "this host opens sessions too often: try again in 5 s"), 1);
        stop(&a, "");
}

/* A host of another lineage starts behind an attempt at its address: until the next attempt has ended, the
 * age shows that this one has not been tried since. */
static void the_age_of_attempts_covers_each_address_without_a_session(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {}, c = {};
        PeerHandshake other = handshake_of(ID_C, "c", 3);
        uint64_t from_ms;

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        free_address(other.address);
        other.lineage = 0x12;
        c.handshake = other;
        assert_int_equal(peers_attempt_age_ms(a.peers), 0);
        know(&a, (Member *[]) { &b, &c }, 2, false);
        assert_true(peers_attempt_age_ms(a.peers) >= loop_now_ms(lab->loop)); /* none was made */
        UNTIL(lab, has_dialed(&a, &b) && has_problem(&a, &c, "connection refused"));
        assert_true(peers_attempt_age_ms(a.peers) < PATIENCE_MS);

        member_open(&c, lab, other, lab->secure ? lab->key : NULL);
        from_ms = loop_now_ms(lab->loop);
        assert_null(peers_other_lineage(a.peers));
        UNTIL(lab, loop_now_ms(lab->loop) - from_ms > peers_attempt_age_ms(a.peers));
        assert_string_equal(peers_other_lineage(a.peers), other.address);

        know_one(&a, &b);
        assert_int_equal(peers_attempt_age_ms(a.peers), 0);
        stop(&c, "");
        stop(&b, "");
        UNTIL(lab, peers_attempt_age_ms(a.peers) > 0);
        stop(&a, "");
}

static void a_host_without_cluster_is_admitted(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        PeerHandshake fresh = handshake_of(ID_B, "b", 2);

        fresh.cluster_id = fresh.lineage = 0;
        start(&a, lab, ID_A, "a", 1);
        member_open(&b, lab, fresh, lab->secure ? lab->key : NULL);
        know_one(&b, &a);
        UNTIL(lab, state_of(&a, &b).accepted);
        stop(&b, "");
        stop(&a, "");
}

static void another_key_is_rejected_and_both_hosts_log_it_once(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        uint64_t from_ms;

        start(&a, lab, ID_A, "a", 1);
        member_open(&b, lab, handshake_of(ID_B, "b", 2), lab->other_key);
        know_one(&b, &a);
        UNTIL(lab, has_problem(&b, &a, "key"));
        UNTIL(lab, logged(lab, "rejected a session from 127.0.0.1") > 0);
        from_ms = loop_now_ms(lab->loop);
        UNTIL(lab, loop_now_ms(lab->loop) - from_ms > 1000); /* several retries */
        assert_int_equal(logged(lab, "Failed to open a session to"), 1);
        assert_int_equal(logged(lab, "rejected a session from"), 1);
        assert_int_equal(a.n_changes, 0);
        stop(&b, "");
        stop(&a, "");
}

static void a_host_without_key_is_rejected(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};

        start(&a, lab, ID_A, "a", 1);
        member_open(&b, lab, handshake_of(ID_B, "b", 2), NULL);
        know_one(&b, &a);
        UNTIL(lab, *state_of(&b, &a).problem);
        assert_false(has_dialed(&b, &a));
        assert_int_equal(peers_state(a.peers, ID_B, &(PeerState) {}), -ENOENT);
        stop(&b, "");
        stop(&a, "");
}

/* -- Unknown and slow peers -- */

static void invalid_bytes_end_the_connection_and_are_logged_once(void **state) {
        Lab *lab = *state;
        Member a = {};
        static const char *const garbage[] = {
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "\1\0\0\0\1x",
                "\0\0\0\0\6",
                "SSH-2.0-OpenSSH_9.2\r\n",
        };
        static const size_t sizes[] = { 27, 6, 5, 21 };

        start(&a, lab, ID_A, "a", 1);
        for (size_t i = 0; i < ELEMENTS(garbage); i++) {
                Bare b;

                bare_connect(&b, lab, &a);
                assert_int_equal(stream_write(b.stream, garbage[i], sizes[i]), 0);
                UNTIL(lab, b.closed);
        }
        assert_int_equal(logged(lab, "rejected a session from 127.0.0.1"), 1);
        assert_int_equal(a.n_changes, 0);
        stop(&a, "");
}

static void an_oversized_frame_ends_its_session_alone(void **state) {
        Lab *lab = *state;
        Member a = {}, c = {};
        uint8_t head[FRAME_HEADER_SIZE];
        Bare b;

        start(&a, lab, ID_A, "a", 1);
        start(&c, lab, ID_C, "c", 3);
        know_one(&c, &a);
        bare_connect(&b, lab, &a);
        bare_send_handshake(&b, handshake_of(ID_B, "b", 2));
        UNTIL(lab, bare_received(&b, PEER_HANDSHAKE) && has_dialed(&c, &a));
        frame_header(head, TYPE_REQUEST, PEER_FRAME_MAX + 1);
        assert_int_equal(stream_write(b.stream, head, sizeof(head)), 0);
        UNTIL(lab, b.closed);
        assert_int_equal(logged(lab, "frame from peer exceeds 12 MiB"), 1);
        assert_true(has_dialed(&c, &a));
        assert_int_equal(peers_send(c.peers, ID_A, TYPE_REQUEST, head, PEER_FRAME_MAX + (size_t) 1),
                         -EMSGSIZE);
        stop(&c, "");
        stop(&a, "");
}

static void the_largest_frame_is_delivered_complete(void **state) {
        Lab *lab = *state;
        Member a = {}, b = {};
        _cleanup_free_ char *large = NEW0(char, PEER_FRAME_MAX);

        start(&a, lab, ID_A, "a", 1);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b);
        UNTIL(lab, has_dialed(&a, &b));
        snprintf(large, 64, "large");
        assert_int_equal(peers_send(a.peers, ID_B, TYPE_REQUEST, large, PEER_FRAME_MAX), 0);
        ask(&a, &b, "small");
        UNTIL(lab, a.n_answered == 2);
        assert_string_equal(b.last_payload, "small");
        stop(&a, "");
        stop(&b, "");
}

static void a_frame_in_the_wrong_direction_ends_the_session(void **state) {
        Lab *lab = *state;
        Member a = {};
        Bare b;

        start(&a, lab, ID_A, "a", 1);
        bare_connect(&b, lab, &a);
        bare_send_handshake(&b, handshake_of(ID_B, "b", 2));
        bare_send(&b, TYPE_ANSWER, "x", 1);
        UNTIL(lab, b.closed);
        assert_int_equal(a.n_answered, 0);
        stop(&a, "");
}

static void the_queue_for_a_host_that_does_not_read_is_limited_and_then_its_session_ends(void **state) {
        Lab *lab = *state;
        Member a = {};
        _cleanup_free_ char *large = NEW0(char, 1 << 20);
        PeerSession *s;
        uint64_t from_ms;
        Bare b;
        int r = 0;

        start(&a, lab, ID_A, "a", 1);
        bare_connect(&b, lab, &a);
        bare_send_handshake(&b, handshake_of(ID_B, "b", 2));
        bare_send(&b, TYPE_REQUEST, "x", 1);
        UNTIL(lab, a.n_asked == 1);
        stream_pause(b.stream, true);

        s = peers_session(a.peers, a.last_session);
        for (unsigned i = 0; i < 100 && r == 0; i++)
                r = peer_reply(s, TYPE_LARGE_ANSWER, large, 1 << 20);
        assert_int_equal(r, -ENOBUFS);
        assert_true(peer_queued(s) <= PEER_QUEUE_MAX);
        from_ms = loop_now_ms(lab->loop);
        UNTIL(lab, a.n_ended == 1);
        assert_true(loop_now_ms(lab->loop) - from_ms >= SESSION_STALL_MS - 100);
        bare_close(&b);
        stop(&a, "");
}

static unsigned count_open(const Bare *bare, size_t n) {
        unsigned open = 0;

        for (size_t i = 0; i < n; i++)
                open += bare[i].done && !bare[i].closed;
        return open;
}

static bool all_connected(const Bare *bare, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (!bare[i].done)
                        return false;
        return true;
}

/* The types of the received frames, in order. */
typedef struct Arrivals {
        PeerFrame types[64];
        size_t n;
} Arrivals;

static void note_arrival(void *userdata, PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        Arrivals *a = userdata;

        assert_true(a->n < ELEMENTS(a->types));
        a->types[a->n++] = type;
}

static const PeerFrameType arrival_types[] = {
        { TYPE_NORMAL, note_arrival },
        { TYPE_LOW, note_arrival },
        { TYPE_BOTH_WAYS, note_arrival },
};

static size_t place_of(const Arrivals *a, PeerFrame type) {
        size_t i = 0;

        while (i < a->n && a->types[i] != type)
                i++;
        return i;
}

static void frames_of_higher_priority_overtake_waiting_ones(void **state) {
        enum { N = 30, SIZE = 1024 * 1024 };
        Lab *lab = *state;
        Member a = {}, b = {};
        Arrivals arrivals = {};
        _cleanup_free_ uint8_t *flood = NEW0(uint8_t, SIZE);

        start(&a, lab, ID_A, "alpha", 1);
        start(&b, lab, ID_B, "beta", 2);
        know_one(&a, &b);
        UNTIL(lab, peers_dialed(a.peers, ID_B));
        peers_register(b.peers, arrival_types, ELEMENTS(arrival_types), &arrivals);

        for (unsigned i = 0; i < N; i++)
                assert_int_equal(peers_send(a.peers, ID_B, TYPE_LOW, flood, SIZE), 0);
        assert_int_equal(peers_send(a.peers, ID_B, TYPE_NORMAL, "user", 4), 0);
        assert_int_equal(peers_send(a.peers, ID_B, TYPE_BOTH_WAYS, NULL, 0), 0);
        UNTIL(lab, arrivals.n == N + 2);

        /* The kernel had accepted the first frames before. */
        assert_int_equal(arrivals.types[0], TYPE_LOW);
        assert_in_range(place_of(&arrivals, TYPE_BOTH_WAYS), 1, N * 3 / 4);
        assert_int_equal(place_of(&arrivals, TYPE_NORMAL), place_of(&arrivals, TYPE_BOTH_WAYS) + 1);
        stop(&a, "");
        stop(&b, "");
}

static void waiting_frames_are_sent_before_the_bye(void **state) {
        enum { N = 10, SIZE = 300 * 1024 };
        Lab *lab = *state;
        Member a = {}, b = {};
        Arrivals arrivals = {};
        _cleanup_free_ uint8_t *bytes = NEW0(uint8_t, SIZE);

        start(&a, lab, ID_A, "alpha", 1);
        start(&b, lab, ID_B, "beta", 2);
        know_one(&a, &b);
        UNTIL(lab, peers_dialed(a.peers, ID_B));
        peers_register(b.peers, arrival_types, ELEMENTS(arrival_types), &arrivals);
        for (unsigned i = 0; i < N; i++)
                assert_int_equal(peers_send(a.peers, ID_B, TYPE_LOW, bytes, SIZE), 0);
        stop(&a, "stop");
        UNTIL(lab, arrivals.n == N);
        stop(&b, "");
}

static void connections_without_a_handshake_are_limited_in_number_and_time(void **state) {
        enum { CROWD = 400 };
        Lab *lab = *state;
        Member a = {}, b = {};
        _cleanup_free_ Bare *crowd = NEW0(Bare, CROWD);
        uint64_t from_ms;

        start(&a, lab, ID_A, "a", 1);
        from_ms = loop_now_ms(lab->loop);
        for (unsigned i = 0; i < CROWD; i++)
                bare_dial(crowd + i, lab, &a);
        UNTIL(lab, all_connected(crowd, CROWD) && count_open(crowd, CROWD) == STRANGERS_PENDING_MAX);
        assert_int_equal(peers_waiting(a.peers), STRANGERS_PENDING_MAX);

        /* A host with a handshake displaces the oldest connection. */
        start(&b, lab, ID_B, "b", 2);
        know_one(&b, &a);
        UNTIL(lab, has_dialed(&b, &a));
        UNTIL(lab, count_open(crowd, CROWD) == 0);
        assert_in_range(loop_now_ms(lab->loop) - from_ms, SESSION_FIRST_BYTE_MS - 100,
                        SESSION_HANDSHAKE_MS - 1000);
        assert_true(has_dialed(&b, &a));
        assert_int_equal(peers_waiting(a.peers), 0);
        assert_true(a.peers->finished.thousandths > 0); /* its handshake ended well */
        stop(&b, "");
        stop(&a, "");
}

/* The address with most connections gives up the oldest one for another address, also when all are recent. */
static void an_address_leaves_room_for_another_one(void **state) {
        enum { CROWD = STRANGERS_PENDING_MAX };
        Lab *lab = *state;
        Member a = {};
        _cleanup_free_ Bare *crowd = NEW0(Bare, CROWD);
        Bare other, third;

        start(&a, lab, ID_A, "a", 1);
        for (unsigned i = 0; i < CROWD; i++)
                bare_dial(crowd + i, lab, &a);
        UNTIL(lab, all_connected(crowd, CROWD) && peers_waiting(a.peers) == CROWD);
        for (PeerSession *s = a.peers->pending; s; s = s->hh_pending.next) {
                s->source = 7; /* on this network, all have one address */
                s->begun_ms = loop_now_ms(lab->loop);
        }
        bare_connect(&other, lab, &a);
        UNTIL(lab, count_open(crowd, CROWD) == CROWD - 1);
        assert_int_equal(peers_waiting(a.peers), CROWD);
        assert_false(other.closed);

        /* One of many that wait at the same address displaces none that is recent. */
        for (PeerSession *s = a.peers->pending; s; s = s->hh_pending.next)
                s->source = strangers_key("127.0.0.1:1");
        bare_dial(&third, lab, &a);
        UNTIL(lab, third.done && (third.closed || !third.stream));
        assert_int_equal(peers_waiting(a.peers), CROWD);
        stop(&a, "");
        UNTIL(lab, count_open(crowd, CROWD) == 0 && other.closed);
}

static bool all_have_input(const Peers *peers) {
        for (const PeerSession *s = peers->pending; s; s = s->hh_pending.next)
                if (!session_has_input(s))
                        return false;
        return true;
}

/* While handshakes end well, those that are pending wait for a processor, and not for the other host. */
static void while_handshakes_end_well_a_pending_one_is_displaced_later(void **state) {
        enum { CROWD = STRANGERS_PENDING_MAX };
        Lab *lab = *state;
        Member a = {};
        _cleanup_free_ Bare *crowd = NEW0(Bare, CROWD);
        Bare others[2];

        start(&a, lab, ID_A, "a", 1);
        for (unsigned i = 0; i < CROWD; i++)
                bare_dial(crowd + i, lab, &a);
        UNTIL(lab, all_connected(crowd, CROWD) && peers_waiting(a.peers) == CROWD);
        /* Without a byte, each ends after 1 s, and is displaced as always. */
        for (unsigned i = 0; i < CROWD; i++)
                assert_int_equal(stream_write(crowd[i].stream, "", 1), 0);
        UNTIL(lab, all_have_input(a.peers));
        for (unsigned busy = 2; busy-- > 0;) {
                for (PeerSession *s = a.peers->pending; s; s = s->hh_pending.next)
                        s->begun_ms = loop_now_ms(lab->loop) - 500;
                a.peers->finished = (Pace) {};
                if (busy)
                        pace_take(&a.peers->finished, 60 * PEERS_FINISHED_SEC);
                a.peers->finished.updated_ms = loop_now_ms(lab->loop);
                bare_dial(others + busy, lab, &a);
                UNTIL(lab, others[busy].done && (!busy || others[busy].closed || !others[busy].stream));
                UNTIL(lab, count_open(crowd, CROWD) == CROWD - !busy);
                assert_int_equal(peers_waiting(a.peers), CROWD);
        }
        stop(&a, "");
        UNTIL(lab, count_open(crowd, CROWD) == 0);
}

/* With TLS, each address has a limit, of which a known host is free. */
static void strangers_of_one_address_do_not_keep_a_known_host_out(void **state) {
        enum { CROWD = 30 };
        Lab *lab = *state;
        Member a = {}, b = {};
        Bare crowd[CROWD];

        start(&a, lab, ID_A, "a", 1);
        for (unsigned i = 0; i < CROWD; i++)
                bare_dial(crowd + i, lab, &a);
        UNTIL(lab, all_connected(crowd, CROWD) && count_open(crowd, CROWD) == STRANGERS_PENDING_PER_ADDRESS);
        start(&b, lab, ID_B, "b", 2);
        know_one(&a, &b); /* its address is known from now on */
        know_one(&b, &a);
        UNTIL(lab, has_dialed(&b, &a));
        UNTIL(lab, count_open(crowd, CROWD) == 0);
        assert_int_equal(logged(lab, "rejected a session from"), 1); /* of one address within a minute */
        assert_true(has_dialed(&b, &a));
        stop(&b, "");
        stop(&a, "");
}

static void a_session_in_the_clone_check_does_not_count_as_pending(void **state) {
        Lab *lab = *state;
        Member a = {};
        Bare first, second, crowd[STRANGERS_PENDING_MAX];

        start(&a, lab, ID_A, "a", 1);
        bare_connect(&first, lab, &a);
        bare_send_handshake(&first, handshake_of(ID_B, "b", 2));
        UNTIL(lab, bare_received(&first, PEER_HANDSHAKE));
        bare_connect(&second, lab, &a);
        bare_send_handshake(&second, handshake_of(ID_B, "b", 3));
        UNTIL(lab, bare_received(&first, PEER_PING));

        for (unsigned i = 0; i < STRANGERS_PENDING_MAX; i++)
                bare_dial(crowd + i, lab, &a);
        UNTIL(lab, all_connected(crowd, STRANGERS_PENDING_MAX));
        for (unsigned i = 0; i < STRANGERS_PENDING_MAX; i++) /* without a byte, each ends after 1 s */
                assert_int_equal(stream_write(crowd[i].stream, "", 1), 0);
        UNTIL(lab, bare_received(&second, PEER_HANDSHAKE)); /* the first one did not answer */
        assert_int_equal(count_open(crowd, STRANGERS_PENDING_MAX), STRANGERS_PENDING_MAX);

        for (unsigned i = 0; i < STRANGERS_PENDING_MAX; i++)
                bare_close(crowd + i);
        bare_close(&second);
        UNTIL(lab, first.closed);
        stop(&a, "");
}

static void handshakes_and_rejections_round_trip_and_truncated_ones_fail(void **state) {
        PeerHandshake handshake = handshake_of(ID_B,
                                               "web\x1b[1m\xc2\x9b"
                                               "2J\xe2\x80\xae"
                                               "b\xff\xc3\xa4",
                                               9),
                      back;
        _cleanup_writer_ Writer w = {};
        char message[REJECTION_MAX];
        Rejection cause;
        Error err = {};
        Frame frame;

        handshake_write(&w, &handshake);
        assert_int_equal(handshake_read(w.bytes, w.size, &back, &err), 0);
        assert_string_equal(back.name,
                            "web?[1m?2J?b?\xc3\xa4"); /* no terminal escape, no change of direction */
        assert_int_equal(back.nonce, 9);
        for (size_t size = 0; size < w.size; size++)
                assert_int_equal(handshake_read(w.bytes, size, &back, &err), -EBADMSG);
        write_u64(&w, 1); /* of a newer daemon */
        assert_int_equal(handshake_read(w.bytes, w.size, &back, &err), 0);
        w.bytes[4] = 9;
        w.bytes[6] = 8;
        assert_int_equal(handshake_read(w.bytes, w.size, &back, &err), -EPROTONOSUPPORT);
        assert_non_null(strstr(err.message, "8 to 9"));

        w.size = 0;
        rejection_write(&w, REJECTION_CLONE, "no\n\xe2\x81\xa6");
        assert_int_equal(rejection_read(w.bytes, w.size, &cause, message), 0);
        assert_int_equal(cause, REJECTION_CLONE);
        assert_string_equal(message, "no??");
        w.bytes[0] = 200;
        assert_int_equal(rejection_read(w.bytes, w.size, &cause, message), 0);
        assert_int_equal(cause, REJECTION_OTHER);
        assert_int_equal(rejection_read(w.bytes, 1, &cause, message), -EBADMSG);

        assert_int_equal(frame_take((const uint8_t *) "\2\0\0\0\7ab", 6, 2, &frame), 0);
        assert_int_equal(frame_take((const uint8_t *) "\2\0\0\0\7ab", 7, 2, &frame), 7);
        assert_int_equal(frame_take((const uint8_t *) "\3\0\0\0\7ab", 5, 2, &frame), -EMSGSIZE);
}

#define PLAIN(test) cmocka_unit_test_setup_teardown(test, plain, close_lab)
#define SECURE(test) \
        { .name = #test " (TLS)", .test_func = test, .setup_func = secure, .teardown_func = close_lab }

int main(int argc, char *argv[]) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(handshakes_and_rejections_round_trip_and_truncated_ones_fail),
                PLAIN(two_hosts_have_a_session_per_direction_and_answers_return_on_the_dialed_one),
                SECURE(two_hosts_have_a_session_per_direction_and_answers_return_on_the_dialed_one),
                PLAIN(three_hosts_that_know_only_addresses_learn_each_machine_id),
                SECURE(three_hosts_that_know_only_addresses_learn_each_machine_id),
                PLAIN(an_own_address_is_not_dialed_again_and_the_list_is_sorted),
                SECURE(an_own_address_is_not_dialed_again_and_the_list_is_sorted),
                PLAIN(a_raft_id_that_is_assigned_later_is_sent_on_open_sessions),
                PLAIN(a_lost_session_is_reported_and_dialed_again),
                SECURE(a_lost_session_is_reported_and_dialed_again),
                PLAIN(a_host_without_sessions_is_freed_after_ten_minutes),
                PLAIN(a_restarted_host_is_dialed_again),
                SECURE(a_restarted_host_is_dialed_again),
                PLAIN(a_session_to_a_silent_host_is_ended_and_dialed_again),
                PLAIN(above_the_limit_of_sessions_only_hosts_that_are_dialed_are_admitted),
                SECURE(a_session_to_a_silent_host_is_ended_and_dialed_again),
                PLAIN(a_new_session_of_a_host_ends_the_older_one_and_drops_its_bytes),
                PLAIN(a_clone_is_rejected_while_the_first_host_answers),
                SECURE(a_clone_is_rejected_while_the_first_host_answers),
                PLAIN(a_restarted_host_is_admitted_if_its_old_session_leaves_a_ping_unanswered),
                PLAIN(without_memory_for_the_clone_check_the_new_session_is_ended),
                PLAIN(each_rejection_sends_its_reason_to_the_peer),
                PLAIN(an_attached_host_dials_no_other_cluster),
                SECURE(an_attached_host_dials_no_other_cluster),
                PLAIN(a_host_that_dials_reports_a_version_that_it_does_not_support),
                SECURE(each_rejection_sends_its_reason_to_the_peer),
                PLAIN(a_rejected_host_retries_with_backoff_and_is_admitted_once_allowed),
                SECURE(an_attached_host_dials_busy_replicas_one_at_a_time),
                SECURE(the_addresses_of_all_known_hosts_are_trusted),
                PLAIN(a_host_that_opens_sessions_too_often_is_rejected),
                PLAIN(the_age_of_attempts_covers_each_address_without_a_session),
                SECURE(the_age_of_attempts_covers_each_address_without_a_session),
                PLAIN(a_host_without_cluster_is_admitted),
                SECURE(another_key_is_rejected_and_both_hosts_log_it_once),
                SECURE(a_host_without_key_is_rejected),
                PLAIN(invalid_bytes_end_the_connection_and_are_logged_once),
                SECURE(invalid_bytes_end_the_connection_and_are_logged_once),
                PLAIN(an_oversized_frame_ends_its_session_alone),
                PLAIN(the_largest_frame_is_delivered_complete),
                SECURE(the_largest_frame_is_delivered_complete),
                PLAIN(a_frame_in_the_wrong_direction_ends_the_session),
                PLAIN(the_queue_for_a_host_that_does_not_read_is_limited_and_then_its_session_ends),
                PLAIN(frames_of_higher_priority_overtake_waiting_ones),
                SECURE(frames_of_higher_priority_overtake_waiting_ones),
                PLAIN(waiting_frames_are_sent_before_the_bye),
                SECURE(waiting_frames_are_sent_before_the_bye),
                PLAIN(connections_without_a_handshake_are_limited_in_number_and_time),
                PLAIN(while_handshakes_end_well_a_pending_one_is_displaced_later),
                PLAIN(a_session_in_the_clone_check_does_not_count_as_pending),
                PLAIN(an_address_leaves_room_for_another_one),
                SECURE(strangers_of_one_address_do_not_keep_a_known_host_out),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
