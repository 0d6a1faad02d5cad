/* Frames of an admitted host: those of the store and of fleetd's components, with arbitrary payload, to a
 * host that leads alone or to a follower; in virtual time. The first byte selects the host; then, for each
 * frame: u8 type, u16 size, payload. The store's frames get a valid header first, because the target is the
 * rest.
 *
 * For all inputs, the answers of the host can be decoded, a rejection has a message, the leader still leads,
 * and other keys are unchanged. */

#include "base/log.h"
#include "io/child_uv.h"
#include "peers/frames.h"
#include "kvstore/raft/message.h"
#include "fleetd/api/remote_command_spec.h"
#include "tests/lib/quiet_peer.h"
#include "tests/lib/store_inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define GUARD "/_fleet/guard"

enum {
        FRAMES_MAX = 64,
        INPUTS_MAX = 200, /* of one leader */
        ID_LEADER = 1,
        ID_OTHER = 2,
        ID_FOLLOWER = 3,
        CLUSTER = 7,
        WHAT_BUSY = 2,
        WHAT_REFUSED = 3,
        WHAT_DONE = 5,
        WHATS = 7, /* of a PEER_PROPOSED, docs/FORMATS.md */
};

int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err);
int __wrap_child_spawn(Child **ret, Loop *loop, const char *const argv[], const ChildOptions *options,
                       const ChildEvents *events, void *userdata, Error *err) {
        return error_set(err, -EAGAIN, "no tool is run here");
}

static const struct {
        PeerFrame type;
        bool has_head;
} types[] = {
        { PEER_PROPOSE, true },       { PEER_PROPOSE_LATER, true }, { PEER_PROPOSED, true },
        { PEER_TERM_CHECK, true },    { PEER_TERM_CHECKED, true },  { PEER_SNAPSHOT, true },
        { PEER_SNAPSHOT_ACK, false }, { PEER_TREE, true },          { PEER_JOIN, false },
        { PEER_JOINED, false },       { PEER_HEARTBEAT, false },    { PEER_CALL, false },
        { PEER_CALL_CHUNK, false },   { PEER_CALL_END, false },     { PEER_CALL_CANCEL, false },
        { PEER_RAFT, true },          { PEER_CALL_CREDIT, false },  { PEER_RETIRED, false },
        { PEER_SUBSCRIBE, false },    { PEER_UNSUBSCRIBE, false },  { PEER_READ, false },
        { PEER_RELAY, false },        { PEER_PAGE, false },         { PEER_EVENTS, false },
        { PEER_GONE, false },         { PEER_FOUND, false },        { PEER_CURRENT, false },
        { PEER_RELAYED, false },      { PEER_CERTIFY, false },      { PEER_CERTIFIED, false },
};

typedef struct Fuzz {
        QuietPeer *host;
        uint64_t id, origin; /* of the host: of its replica, and of its proposals */
        uint64_t guard;      /* index of the key that no frame changes */
        unsigned n_inputs;
} Fuzz;

/* The leader, for many inputs. */
static Fuzz alone;

static void alone_forget(void) {
        alone.host = alone.host ? quiet_peer_free(alone.host) : NULL;
}

/* -- Answers of the host -- */

static void is_a_message(const char *s, bool must) {
        assert(s && (s[0] || !must));
        for (; *s; s++)
                assert((unsigned char) *s >= 0x20 && *s != 0x7f);
}

static void read_head(Reader *r, const Fuzz *f) {
        (void) read_u64(r);
        assert(read_u64(r) == f->id && read_u64(r) == ID_OTHER);
}

static void look_at_proposed(Reader *r, const Fuzz *f) {
        _cleanup_free_ char *cause = NULL;
        uint8_t what, status;
        uint64_t n;

        read_head(r, f);
        (void) read_u64(r), (void) read_u64(r), (void) read_u64(r);
        what = read_u8(r);
        status = read_u8(r);
        cause = read_string(r, ERROR_MESSAGE_MAX);
        n = read_varint(r);
        assert(!r->failed && what < WHATS && status < _KV_STATUS_MAX);
        is_a_message(cause, what == WHAT_BUSY || what == WHAT_REFUSED);
        for (; n > 0; n--) {
                size_t size;

                (void) read_u64(r);
                if (what != WHAT_DONE)
                        continue;
                (void) read_u64(r), (void) read_u64(r), (void) read_u64(r);
                (void) read_blob(r, PEER_FRAME_MAX, &size);
        }
        assert(reader_end(r) == 0);
}

static void look_at_joined(Reader *r) {
        _cleanup_free_ char *message = NULL;
        uint8_t version = read_u8(r), refused = read_u8(r);
        uint64_t cluster, id;

        message = read_string(r, ERROR_MESSAGE_MAX);
        cluster = read_u64(r);
        (void) read_u64(r);
        id = read_u64(r);
        assert(reader_end(r) == 0 && version == 1 && refused <= 1);
        is_a_message(message, refused);
        assert(refused || (cluster != 0 && id != 0));
}

static void look_at(Fuzz *f, QuietPeerWire *wire) {
        Frame frame;

        while (quiet_peer_receive(wire, &frame)) {
                Reader r = reader_over(frame.payload, frame.size);

                if (frame.type == PEER_PROPOSED)
                        look_at_proposed(&r, f);
                else if (frame.type == PEER_JOINED)
                        look_at_joined(&r);
                else if (frame.type == PEER_TERM_CHECKED) {
                        read_head(&r, f);
                        (void) read_raw(&r, 25);
                        assert(reader_end(&r) == 0);
                } else if (frame.type == PEER_SNAPSHOT_ACK) {
                        (void) read_raw(&r, 17);
                        assert(reader_end(&r) == 0);
                } else if (frame.type == PEER_PROPOSE) {
                        read_head(&r, f);
                        (void) read_u64(&r);
                        f->origin = read_u64(&r);
                        assert(f->origin != 0);
                }
        }
}

/* -- Frames to the host -- */

static void write_head(Writer *w, const Fuzz *f) {
        KvState state;

        kv_state(f->host->store, &state);
        write_u64(w, state.cluster_id ?: CLUSTER);
        write_u64(w, ID_OTHER);
        write_u64(w, f->id);
}

static bool say(Fuzz *f, PeerFrame type, bool has_head, const void *payload, size_t size) {
        _cleanup_writer_ Writer w = {};

        if (has_head)
                write_head(&w, f);
        if (type == PEER_PROPOSED && size >= 16) { /* random bytes would not name the host's own numbers */
                write_raw(&w, payload, 8);
                write_u64(&w, f->origin);
                payload = (const uint8_t *) payload + 16;
                size -= 16;
        }
        write_raw(&w, payload, size);
        assert(w.error == 0);
        return quiet_peer_send(f->host, type, w.bytes, w.size);
}

static void on_nothing(void *userdata, const KvResult *result) {
        unsigned *n = userdata;

        assert((unsigned) result->status < _KV_STATUS_MAX);
        --*n;
}

/* Send all frames; a rejection ends the session, and the rest is dropped. */
static void say_all(Fuzz *f, Reader *script) {
        for (unsigned i = 0; i < FRAMES_MAX && script->left > 0; i++) {
                unsigned which = read_u8(script) % ELEMENTS(types);
                size_t size = read_u16(script);
                const void *payload;

                size = MIN(size, script->left);
                payload = read_raw(script, size);

                if (script->failed ||
                    (types[which].type == PEER_RAFT && f == &alone)) /* raft_core.c tests those of a leader */
                        continue;
                if (!say(f, types[which].type, types[which].has_head, payload, size))
                        break;
                look_at(f, &f->host->asking);
                look_at(f, &f->host->asked);
        }
        quiet_peer_pass(f->host, 700);
        look_at(f, &f->host->asking);
        look_at(f, &f->host->asked);
}

/* -- The leader -- */

static void guard_on_done(void *userdata, const KvResult *result) {
        assert(result->status == KV_OK);
        alone.guard = result->index;
}

static void guard_is_safe(void) {
        Error err = {};
        KvNode node;

        assert(store_node(alone.host->store, GUARD, &node) == 0 && node.modified == alone.guard &&
               node.value.size == 4);
        assert(store_check(alone.host->store, &err) == 0);
}

static bool leads(void) {
        KvState state;

        kv_state(alone.host->store, &state);
        return state.ready && state.leader_id == ID_LEADER;
}

static void alone_open(void) {
        KvCommand guard = {
                .op = KV_SET, .key = { GUARD, strlen(GUARD) }, .value = { "safe", 4 }, .internal = true
        };
        static bool registered;
        uint64_t number;

        if (!registered)
                (void) atexit(alone_forget);
        registered = true;
        alone_forget();
        alone = (Fuzz) { .host = quiet_peer_new(false), .id = ID_LEADER, .origin = 1 };
        assert(kv_propose(alone.host->store, &guard, guard_on_done, NULL, &number) == 0);
        quiet_peer_run(alone.host);
        assert(alone.guard > 0);
}

static void tell_the_leader(Reader *script) {
        if (!alone.host || alone.n_inputs++ >= INPUTS_MAX)
                alone_open();
        if (!(alone.host->asking.open && alone.host->asked.open) && !quiet_peer_meet(alone.host)) {
                alone_open();
                assert(quiet_peer_meet(alone.host));
        }
        say_all(&alone, script);
        assert(leads());
        guard_is_safe();
}

/* -- The follower: the test has admitted it, and leads -- */

static void say_joined(Fuzz *f) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, 1);
        write_u8(&w, 0);
        write_string(&w, "");
        write_u64(&w, CLUSTER);
        write_u64(&w, CLUSTER);
        write_u64(&w, f->id);
        assert(say(f, PEER_JOINED, false, w.bytes, w.size));
}

static void say_that_we_lead(Fuzz *f) {
        _cleanup_writer_ Writer w = {};

        raft_message_encode(&w, &(RaftMessage) { .type = RAFT_MESSAGE_APPEND, .term = 2 });
        assert(w.error == 0 && say(f, PEER_RAFT, true, w.bytes, w.size));
}

static void tell_a_follower(Reader *script) {
        KvCommand cmd = { .op = KV_SET, .key = kv_string("/a"), .value = kv_string("1") };
        Fuzz f = { .host = quiet_peer_new(true), .id = ID_FOLLOWER, .origin = 1 };
        unsigned n_asked = 0;
        uint64_t number;

        assert(quiet_peer_meet(f.host));
        say_joined(&f);
        if (f.host->asking.open && !f.host->asking.closing)
                say_that_we_lead(&f);
        for (unsigned i = 0; i < 3; i++)
                n_asked += kv_propose(f.host->store, &cmd, on_nothing, &n_asked, &number) == 0;
        quiet_peer_pass(f.host, 150);
        look_at(&f, &f.host->asked);
        say_all(&f, script);
        quiet_peer_free(f.host);
        assert(n_asked == 0); /* each request is answered once, also at the end */
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        Reader script = reader_over(bytes, size);

        log_set_max_priority(LOG_EMERG);
        if (read_u8(&script) % 2 == 0)
                tell_the_leader(&script);
        else
                tell_a_follower(&script);
        return 0;
}
