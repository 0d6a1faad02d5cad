/* Arbitrary bytes, in any order, on sessions between hosts: a script of the input of up to four streams and
 * of their ends, against Peers on a network in memory and virtual time. For all inputs, Peers send whole
 * frames, buffer no more of a stream than it delivered, call handlers only for frames of their type, and
 * closing ends all sessions.
 *
 * The script: u8 step, u8 n, then the arguments of the step. Steps act on stream n % 4. */

#include "base/log.h"
#include "fleetd/api/remote_command_spec.h"
#include "fleetd/sessions/membership.h"
#include "peers/frames.h"
#include "peers/session.h"

enum { STREAMS = 4, STEPS_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct World World;

typedef struct Wire {
        Stream base;
        World *world;
        bool open; /* between creation and on_close */
        bool closing, paused, stuck;
        int error;
        uint64_t brought;
        Writer said; /* sent by Peers, not checked yet */
        Deferred end, drain;
} Wire;

struct World {
        Loop loop;
        Network network;
        PeersObserver observer;
        uint64_t now_ms;
        Wire wires[STREAMS];
        void (*accepted)(void *userdata, Stream *s);
        void *accepted_userdata;
        struct {
                void (*done)(void *userdata, Stream *s, int error); /* NULL: no connection is being opened */
                void *userdata;
        } dials[STREAMS];
        Peers *peers;
        uint64_t ended; /* the highest number of a session that ended */
        bool closing, close_at_end, closed;
};

/* -- Loop -- */

static uint64_t world_now_ms(const Loop *loop) {
        return container_of((Loop *) loop, World, loop)->now_ms;
}

static void world_wake_at(Loop *loop, uint64_t due_ms) {}

static const LoopOps loop_ops = { .now_ms = world_now_ms, .wall_ms = world_now_ms, .wake_at = world_wake_at };

static void run_due(World *w) {
        for (unsigned i = 0; i < 1000 && loop_next_due_ms(&w->loop) <= w->now_ms; i++)
                (void) loop_run_due(&w->loop, 64);
        assert(loop_next_due_ms(&w->loop) > w->now_ms); /* the loop converges */
}

static void pass(World *w, uint64_t ms) {
        uint64_t until_ms = w->now_ms + ms;

        for (uint64_t due_ms; (due_ms = loop_next_due_ms(&w->loop)) <= until_ms;) {
                w->now_ms = MAX(due_ms, w->now_ms);
                run_due(w);
        }
        w->now_ms = until_ms;
}

/* -- Streams -- */

static void wire_look(Wire *wire) {
        size_t at = 0;
        Frame frame;
        ssize_t n;

        while ((n = frame_take(wire->said.bytes + at, wire->said.size - at, PEER_FRAME_MAX, &frame)) > 0) {
                assert(frame.type > 0 && frame.type < PEER_FRAME_TYPES);
                at += n;
        }
        assert(n == 0 && at == wire->said.size);
        wire->said.size = 0;
}

static int wire_write(Stream *s, const void *bytes, size_t size, Shared *shared) {
        Wire *wire = container_of(s, Wire, base);

        assert(wire->open);
        if (wire->closing)
                return -EPIPE;
        if (wire->stuck)
                s->held += size;
        write_raw(&wire->said, bytes, size);
        wire_look(wire);
        return 0;
}

static void wire_pause(Stream *s, bool paused) {
        container_of(s, Wire, base)->paused = paused;
}

static void wire_close(Stream *s) {
        Wire *wire = container_of(s, Wire, base);

        assert(wire->open);
        wire->closing = true;
        loop_defer(&wire->world->loop, &wire->end);
}

static void wire_finish(Stream *s) {
        Wire *wire = container_of(s, Wire, base);

        if (!wire->stuck)
                wire_close(s);
}

static uint64_t wire_silent_ms(const Stream *s) {
        const Wire *wire = container_of((Stream *) s, Wire, base);

        return wire->stuck && (wire - wire->world->wires) % 2 == 1 ?
                       60000 :
                       0; /* the others are alive, but do not read */
}

static int wire_peer_uid(const Stream *s, uid_t *ret) {
        return -ENOTSUP;
}

static const StreamOps wire_ops = {
        .write = wire_write,
        .pause = wire_pause,
        .close = wire_close,
        .finish = wire_finish,
        .kernel_silent_ms = wire_silent_ms,
        .peer_uid = wire_peer_uid,
};

static void wire_on_end(void *userdata) {
        Wire *wire = userdata;
        Stream s = wire->base;

        deferred_cancel(&wire->drain);
        wire->open = false;
        writer_done(&wire->said);
        if (s.events)
                s.events->on_close(s.userdata, wire->error, wire->error < 0 ? "broken" : "closed");
}

static void wire_on_drain(void *userdata) {
        Wire *wire = userdata;

        if (!wire->closing && wire->base.events)
                wire->base.events->on_drain(wire->base.userdata);
}

static Stream *wire_open(World *w, Wire *wire) {
        *wire = (Wire) { .world = w,
                         .base = { .ops = &wire_ops, .peer_address = "10.0.0.9:4000" },
                         .open = true,
                         .paused = true };
        wire->end = (Deferred) { .run = wire_on_end, .userdata = wire };
        wire->drain = (Deferred) { .run = wire_on_drain, .userdata = wire };
        return &wire->base;
}

static void wire_bring(Wire *wire, const void *bytes, size_t size) {
        PeerSession *s = wire->base.userdata;

        if (!wire->open || wire->closing || wire->paused || !wire->base.events)
                return;
        wire->brought += size;
        wire->base.events->on_read(wire->base.userdata, bytes, size);
        assert(s->state == SESSION_ENDED || s->capacity <= 2 * wire->brought + 16);
        assert(s->state != SESSION_HANDSHAKE || s->n_bytes < FRAME_HEADER_SIZE + HANDSHAKE_MAX);
}

/* -- Network -- */

static void *net_connect(Network *net, const char *address, uint64_t timeout_ms,
                         void (*done)(void *userdata, Stream *s, int error), void *userdata, int *ret_error) {
        World *w = container_of(net, World, network);

        for (size_t i = 0; i < STREAMS; i++)
                if (!w->dials[i].done) {
                        w->dials[i].done = done;
                        w->dials[i].userdata = userdata;
                        return &w->dials[i];
                }
        *ret_error = -EAGAIN;
        return NULL;
}

static void net_cancel(Network *net, void *handle) {
        World *w = container_of(net, World, network);

        for (size_t i = 0; i < STREAMS; i++)
                if (&w->dials[i] == handle)
                        w->dials[i].done = NULL;
}

static int net_listen(Network *net, const char *address, void (*accepted)(void *userdata, Stream *s),
                      void *userdata, Listener **ret, Error *err) {
        World *w = container_of(net, World, network);

        w->accepted = accepted;
        w->accepted_userdata = userdata;
        *ret = NULL;
        return 0;
}

static void net_unlisten(Network *net, Listener *listener) {
        container_of(net, World, network)->accepted = NULL;
}

static const NetworkOps network_ops = {
        .connect = net_connect,
        .cancel = net_cancel,
        .listen = net_listen,
        .unlisten = net_unlisten,
};

/* -- The callbacks of Peers -- */

static PeerHandshake handshake_of(uint8_t which) {
        PeerHandshake handshake = { .cluster_id = which & 0x40 ? 2 : 1,
                                    .lineage = which & 0x20 ? 2 : 1,
                                    .nonce = which & 3,
                                    .start_number = 1,
                                    .raft_id = which & 4 ? 7 : 0 };

        memset(handshake.machine_id, "abc"[(which >> 3) % 3], 32);
        memset(handshake.boot_id, '1', 32);
        return handshake;
}

static int admit(void *userdata, const PeerHandshake *handshake, Error *err) {
        return handshake->start_number == 13 ? -EPERM : 0;
}

static void on_closed(void *userdata) {
        World *w = userdata;

        w->closed = true;
}

static void close_peers(World *w) {
        if (w->closing)
                return;
        w->closing = true;
        peers_close(w->peers, "stop", on_closed, w);
}

static void on_change(void *userdata, const char *machine_id) {
        World *w = userdata;
        PeerState state;

        assert(peers_state(w->peers, machine_id, &state) == 0);
        assert(state.dialed == (peers_dialed(w->peers, machine_id) != NULL));
}

static void on_end(void *userdata, PeerSession *s) {
        World *w = userdata;

        assert(!peers_session(w->peers, peer_number(s)));
        w->ended = MAX(w->ended, peer_number(s));
        if (w->close_at_end)
                close_peers(w);
}

static void on_frame(void *userdata, PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        World *w = userdata;

        assert(peers_session(w->peers, peer_number(s)) == s);
        assert(peer_frame_rule(type).direction & (s->dialed ? PEER_ANSWER : PEER_REQUEST));
        assert(size <= PEER_FRAME_MAX);
        if (type == PEER_PROPOSE)
                (void) peer_reply(s, PEER_PROPOSED, payload, size);
        if (type == PEER_TERM_CHECK)
                for (unsigned i = 0; i < 4 && (i == 0 || peer_queued(s) > 0);
                     i++) { /* more than a blocked stream accepts */
                        static const uint8_t zeroes[1 << 20];

                        (void) peer_reply(s, PEER_CALL_CHUNK, zeroes, sizeof(zeroes));
                }
        if (type == PEER_JOIN)
                (void) peers_set_known(w->peers, NULL, 0); /* callbacks may end sessions */
        if (type == PEER_CALL)
                w->close_at_end = true;
        if (type == PEER_CALL_CANCEL)
                close_peers(w);
        assert(peer_queued(s) <= PEER_QUEUE_MAX + 4096);
}

static const PeerFrameType types[] = {
        { PEER_RAFT, on_frame },          { PEER_PROPOSE, on_frame },      { PEER_PROPOSED, on_frame },
        { PEER_TERM_CHECK, on_frame },    { PEER_TERM_CHECKED, on_frame }, { PEER_SNAPSHOT, on_frame },
        { PEER_SNAPSHOT_ACK, on_frame },  { PEER_JOIN, on_frame },         { PEER_JOINED, on_frame },
        { PEER_PROPOSE_LATER, on_frame }, { PEER_HEARTBEAT, on_frame },    { PEER_CALL, on_frame },
        { PEER_CALL_CHUNK, on_frame },    { PEER_CALL_END, on_frame },     { PEER_CALL_CANCEL, on_frame },
        { PEER_TREE, on_frame },          { PEER_CALL_CREDIT, on_frame },
};

static void look_at(void *userdata, const PeerState *state) {
        World *w = userdata;

        assert(*state->handshake.machine_id || *state->handshake.address);
        assert(!*state->handshake.machine_id ||
               (peers_dialed(w->peers, state->handshake.machine_id) != NULL) == state->dialed);
        assert(!state->dialed || peers_dialed(w->peers, state->handshake.machine_id)->handshake.nonce ==
                                         state->handshake.nonce);
}

static void no_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        for (const char *p = message; *p; p++)
                assert((unsigned char) *p >= 0x20 && *p != 0x7f); /* no control characters reach a terminal */
}

/* -- The script -- */

enum {
        BRING,
        SEND_HANDSHAKE,
        SAY_FRAME,
        ACCEPT,
        CONNECT,
        REFUSE_DIAL,
        END,
        BREAK,
        STICK,
        UNSTICK,
        KNOW,
        CHANGE,
        PASS,
        _STEPS
};

static void say(Wire *wire, PeerFrame type, const void *payload, size_t size) {
        _cleanup_writer_ Writer w = {};
        uint8_t head[FRAME_HEADER_SIZE];

        frame_header(head, type, size);
        write_raw(&w, head, sizeof(head));
        write_raw(&w, payload, size);
        wire_bring(wire, w.bytes, w.size);
}

static void end_dial(World *w, unsigned n, bool connects) {
        void (*done)(void *, Stream *, int) = TAKE_PTR(w->dials[n].done);

        if (connects)
                done(w->dials[n].userdata, wire_open(w, &w->wires[n]), 0);
        else
                done(w->dials[n].userdata, NULL, -ECONNREFUSED);
}

static void step(World *w, Reader *script) {
        unsigned what = read_u8(script) % _STEPS, n = read_u8(script) % STREAMS;
        Wire *wire = &w->wires[n];
        const void *payload;
        PeerHandshake handshake;
        size_t size;
        uint8_t arg;

        switch (what) {
        case BRING:
                payload = read_blob(script, SIZE_MAX, &size);
                if (payload && size > 0)
                        wire_bring(wire, payload, size);
                break;
        case SEND_HANDSHAKE: {
                _cleanup_writer_ Writer bytes = {};

                handshake = handshake_of(read_u8(script));
                handshake_write(&bytes, &handshake);
                say(wire, PEER_HANDSHAKE, bytes.bytes, bytes.size);
                break;
        }
        case SAY_FRAME:
                arg = read_u8(script);
                payload = read_blob(script, SIZE_MAX, &size);
                if (payload)
                        say(wire, arg, payload, size);
                break;
        case ACCEPT:
                if (!wire->open)
                        w->accepted(w->accepted_userdata, wire_open(w, wire));
                break;
        case CONNECT:
        case REFUSE_DIAL:
                if (w->dials[n].done && (what == REFUSE_DIAL || !wire->open))
                        end_dial(w, n, what == CONNECT);
                break;
        case END:
                wire_bring(wire, "", 0);
                break;
        case BREAK:
                if (wire->open && !wire->closing) {
                        wire->error = -ECONNRESET;
                        wire_close(&wire->base);
                }
                break;
        case STICK:
                wire->stuck = true;
                wire->base.held = PEER_QUEUE_MAX - (2 << 20); /* as if much had been sent before */
                break;
        case UNSTICK:
                wire->stuck = false;
                wire->base.held = 0;
                if (wire->open)
                        loop_defer(&w->loop, &wire->drain);
                break;
        case KNOW: {
                PeerAddress known[2] = { { .address = "10.0.0.2:2380" }, { .address = "10.0.0.3:2380" } };

                arg = read_u8(script);
                if (arg & 8)
                        memset(known[0].machine_id, 'b', 32);
                assert(peers_set_known(w->peers, known + (arg & 1), arg % 3 == 2 ? 0 : 1 + (~arg & 1)) == 0);
                break;
        }
        case CHANGE:
                handshake = *peers_self(w->peers);
                handshake.raft_id = read_u8(script);
                peers_set_self(w->peers, &handshake);
                break;
        case PASS:
                pass(w, 1u << (read_u8(script) % 21));
                break;
        }
        run_due(w);
        if (!w->closing)
                peers_each(w->peers, look_at, w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        World w = { .now_ms = 1000 };
        Reader script = reader_over(bytes, size);
        PeersOptions options = {
                .self = handshake_of(0), .admit = admit, .on_change = on_change, .userdata = &w
        };

        log_set_sink(no_log, NULL);
        loop_init(&w.loop, &loop_ops, 1);
        w.network = (Network) { .ops = &network_ops, .loop = &w.loop };
        if (peers_new(&w.peers, &w.loop, &w.network, &options) < 0 ||
            peers_listen(w.peers, "10.0.0.1:2380", NULL) < 0)
                abort();
        w.observer = (PeersObserver) { .on_end = on_end, .userdata = &w };
        peers_observe(w.peers, &w.observer);
        peers_register(w.peers, types, ELEMENTS(types), &w);

        for (unsigned i = 0; i < STEPS_MAX && script.left > 0 && !script.failed && !w.closing; i++)
                step(&w, &script);

        if (!w.closing)
                peers_unobserve(&w.observer);
        close_peers(&w);
        pass(&w, SESSION_LINGER_MS + 1);
        assert(w.closed);
        for (size_t i = 0; i < STREAMS; i++)
                assert(!w.wires[i].open && !w.dials[i].done);
        loop_done(&w.loop);
        return 0;
}
