#include "tests/lib/quiet_peer.h"

#include "base/log.h"
#include "fleetd/api/remote_command_spec.h"
#include "tests/lib/scratch.h"

enum { WRITE_WAIT_MS = 1000 }; /* an expensive write waits at most so long for its budget */

enum { TURNS_MAX = 100000, LISTENER_PEERS = API_LOOPBACK + 1 };

/* -- The loop -- */

static QuietPeer *quiet_peer_of(const Loop *loop) {
        return container_of((Loop *) loop, QuietPeer, loop);
}

static uint64_t quiet_peer_now_ms(const Loop *loop) {
        return quiet_peer_of(loop)->now_ms;
}

static uint64_t quiet_peer_wall_ms(const Loop *loop) {
        return 1500000000000 + quiet_peer_of(loop)->now_ms + quiet_peer_of(loop)->wall_jump_ms;
}

static void quiet_peer_wake_at(Loop *loop, uint64_t due_ms) {}

static int quiet_peer_work(Loop *loop, Work *work) {
        QuietPeer *h = quiet_peer_of(loop);

        assert(h->n_works < QUIET_PEER_WORKS_MAX);
        h->works[h->n_works++] = work;
        return 0;
}

static const LoopOps loop_ops = { .now_ms = quiet_peer_now_ms,
                                  .wall_ms = quiet_peer_wall_ms,
                                  .wake_at = quiet_peer_wake_at,
                                  .work = quiet_peer_work };

void quiet_peer_run(QuietPeer *h) {
        for (unsigned turns = 0; loop_run_due(&h->loop, 100) || h->n_works > 0; turns++) {
                assert(turns < TURNS_MAX); /* the loop converges */
                (void) turns_end_work(&h->loop.turns);
                if (h->n_works > 0) {
                        Work *work = h->works[0];

                        h->n_works--;
                        memmove(h->works, h->works + 1, h->n_works * sizeof(h->works[0]));
                        work->work(work->userdata);
                        work->done(work->userdata);
                }
        }
}

void quiet_peer_pass(QuietPeer *h, uint64_t ms) {
        uint64_t until_ms = h->now_ms + ms;

        quiet_peer_run(h);
        for (uint64_t due_ms; (due_ms = loop_next_due_ms(&h->loop)) <= until_ms;) {
                h->now_ms = MAX(due_ms, h->now_ms);
                quiet_peer_run(h);
        }
        h->now_ms = until_ms;
}

/* -- The network -- */

static void *quiet_peer_connect(Network *net, const char *address, uint64_t timeout_ms,
                                void (*done)(void *userdata, Stream *s, int error), void *userdata,
                                int *ret_error) {
        QuietPeer *h = container_of(net, QuietPeer, network);

        if (h->dial.done || (!streq(address, "10.0.0.2:2380") && !streq(address, "10.0.0.3:2380"))) {
                *ret_error = -ENETUNREACH;
                return NULL;
        }
        h->dial.done = done;
        h->dial.userdata = userdata;
        return &h->dial;
}

static void quiet_peer_cancel(Network *net, void *handle) {
        container_of(net, QuietPeer, network)->dial.done = NULL;
}

static int quiet_peer_listen(Network *net, const char *address, void (*accepted)(void *userdata, Stream *s),
                             void *userdata, Listener **ret, Error *err) {
        QuietPeer *h = container_of(net, QuietPeer, network);
        unsigned listener = address[0] == '/'           ? API_SOCKET :
                            ends_with(address, ":2379") ? API_LOOPBACK :
                                                          LISTENER_PEERS;

        h->listeners[listener].accepted = accepted;
        h->listeners[listener].userdata = userdata;
        *ret = NULL;
        return 0;
}

static void quiet_peer_unlisten(Network *net, Listener *listener) {}

static const NetworkOps network_ops = { .connect = quiet_peer_connect,
                                        .cancel = quiet_peer_cancel,
                                        .listen = quiet_peer_listen,
                                        .unlisten = quiet_peer_unlisten };

static int wire_write(Stream *s, const void *bytes, size_t size, Shared *shared) {
        QuietPeerWire *w = container_of(s, QuietPeerWire, base);

        if (w->closing)
                return -EPIPE;
        write_raw(&w->said, shared ? shared->bytes : bytes, shared ? shared->size : size);
        if (w->stuck)
                s->held += shared ? shared->size : size;
        return w->said.error;
}

static void wire_pause(Stream *s, bool paused) {}

static void wire_close(Stream *s) {
        QuietPeerWire *w = container_of(s, QuietPeerWire, base);

        w->closing = true;
        s->held = 0;
        loop_defer(&w->host->loop, &w->end);
}

static uint64_t wire_silent_ms(const Stream *s) {
        return container_of((Stream *) s, QuietPeerWire, base)->host->kernels_unknown ? UINT64_MAX : 0;
}

static int wire_peer_uid(const Stream *s, uid_t *ret) {
        *ret = container_of((Stream *) s, QuietPeerWire, base)->host->uid;
        return 0;
}

static int wire_peer_groups(const Stream *s, gid_t **ret, size_t *ret_n) {
        *ret = NEW0(gid_t, 1);
        assert(*ret);
        (*ret)[0] = container_of((Stream *) s, QuietPeerWire, base)->host->uid;
        *ret_n = 1;
        return 0;
}

static const StreamOps wire_ops = {
        .write = wire_write,
        .pause = wire_pause,
        .close = wire_close,
        .finish = wire_close,
        .kernel_silent_ms = wire_silent_ms,
        .peer_uid = wire_peer_uid,
        .peer_groups = wire_peer_groups,
};

static void wire_on_end(void *userdata) {
        QuietPeerWire *w = userdata;

        w->open = false;
        if (w->base.events)
                w->base.events->on_close(w->base.userdata, 0, "closed");
}

static Stream *wire_open(QuietPeer *h, QuietPeerWire *w) {
        writer_done(&w->said);
        *w = (QuietPeerWire) { .base = { .ops = &wire_ops, .peer_address = "10.0.0.2:4000" },
                               .host = h,
                               .open = true };
        w->end = (Deferred) { .run = wire_on_end, .userdata = w };
        return &w->base;
}

static void wire_bring(QuietPeerWire *w, const void *bytes, size_t size) {
        if (w->open && !w->closing)
                w->base.events->on_read(w->base.userdata, bytes, size);
}

/* Close this end. */
static void wire_leave(QuietPeerWire *w) {
        for (unsigned i = 0; w->open && i < 100; i++) {
                wire_bring(w, "", 0);
                quiet_peer_pass(w->host, 100);
        }
        assert(!w->open);
}

/* -- The host -- */

static void must(int r, const Error *err) {
        if (r >= 0)
                return;
        fprintf(stderr, "%s\n", error_text(err, r));
        abort();
}

static bool is_foreign(const ComponentHost *host, const char *unit) {
        const QuietPeer *h = container_of(host, QuietPeer, components);

        return h->foreign && streq(h->foreign, unit);
}

static void systemd_answers(void *userdata) {
        QuietPeer *h = userdata;
        SystemdListed done = h->systemd.done;

        h->systemd.done = NULL;
        done(h->systemd.userdata, 0, &h->systemd.unit, 1);
}

/* One question at a time. */
static int systemd_list(Systemd *s, const char *const *names, size_t n, bool files, SystemdListed done,
                        void *userdata) {
        QuietPeer *h = container_of(s, QuietPeer, systemd.base);

        assert(!h->systemd.done && n == 1);
        h->systemd.unit.owner = h->own && streq(h->own, names[0]) ? SYSTEMD_CONFLICTING : SYSTEMD_ABSENT;
        h->systemd.done = done;
        h->systemd.userdata = userdata;
        loop_defer(&h->loop, &h->systemd.answer);
        return 0;
}

static const SystemdOps systemd_ops = { .list = systemd_list };

static int check_proposal(void *userdata, const char *relay, const char *machine_id, KvBytes principal,
                          const KvCommand *cmd, Error *err) {
        const QuietPeer *h = userdata;

        if (!h->registry || !registry_ready(h->registry))
                return -ENOMEM;
        return registry_check_proposal(h->registry, relay, machine_id, principal, cmd, err);
}

static void quiet_peer_open(QuietPeer *h, bool joins) {
        PeersOptions peers = { .self = { .machine_id = QUIET_PEER_ID,
                                         .boot_id = "cccccccccccccccccccccccccccccccc",
                                         .nonce = 1,
                                         .address = "10.0.0.1:2380" } };
        KvOptions store = { .machine_id = QUIET_PEER_ID,
                            .boot_id = "cccccccccccccccccccccccccccccccc",
                            .address = "10.0.0.1:2380",
                            .join = joins,
                            .check_proposal = check_proposal,
                            .events.userdata = h };
        static char own[] = "10.0.0.1:2380", other[] = "10.0.0.2:2380", *others[] = { other };
        Error err = {};

        store.log_disk = &h->disk.base;
        store.tree_path = h->tree_path;
        must(peers_new(&h->peers, &h->loop, &h->network, &peers), &err);
        store.peers = h->peers;
        must(kv_open(&h->store, &h->loop, &store, &err), &err);
        must(registry_new(&h->registry, &h->loop, h->store, QUIET_PEER_ID), &err);
        memcpy(h->id, QUIET_PEER_ID, sizeof(h->id));
        h->settings = settings_of_test(h->id);
        h->settings.listen_peer = own;
        h->settings.join = (Names) { .items = others, .n = 1 };
        h->settings.state_directory = h->scratch;
        h->components = (ComponentHost) {
                .io = { .loop = &h->loop, .network = &h->network, .systemd = &h->systemd.base },
                .settings = &h->settings,
                .peers = h->peers,
                .store = h->store,
                .registry = h->registry,
                .is_foreign = is_foreign
        };
        must(membership_new(&h->membership, &h->components), &err);
        h->systemd.base.ops = &systemd_ops;
        h->systemd.answer = DEFERRED(systemd_answers, h);
        must(api_new(&h->api, &h->components), &err);
        must(api_listen(h->api, API_SOCKET, "/socket", &err), &err);
        must(api_listen(h->api, API_LOOPBACK, "127.0.0.1:2379", &err), &err);
        must(peers_listen(h->peers, "10.0.0.1:2380", &err), &err);
}

void quiet_peer_grant(QuietPeer *h, const char *text) {
        Names rights = { .items = (char *[]) { (char *) text }, .n = text ? 1 : 0 };

        h->settings.local_rights = rights;
        assert(api_reload(&h->components, h->api, &h->settings) == 0);
        h->settings.local_rights = (Names) {};
}

QuietPeer *quiet_peer_new(bool joins) {
        QuietPeer *h = NEW0(QuietPeer, 1);

        assert(h);
        h->now_ms = 1;
        h->network = (Network) { .ops = &network_ops, .loop = &h->loop };
        loop_init(&h->loop, &loop_ops, 1);
        memory_disk_init(&h->disk, 1);
        h->scratch = scratch_new();
        h->tree_path = scratch_path(h->scratch, "tree");
        quiet_peer_open(h, joins);
        for (unsigned i = 0; !joins && i < 1000 && !registry_ready(h->registry); i++)
                quiet_peer_pass(h, 20);
        assert(joins || registry_ready(h->registry));
        quiet_peer_pass(h, 1);
        return h;
}

static void on_closed(void *userdata) {
        ((QuietPeer *) userdata)->closed = true;
}

static void wait_closed(QuietPeer *h) {
        for (unsigned i = 0; i < 1000 && !h->closed; i++)
                quiet_peer_pass(h, 100);
        assert(h->closed);
        h->closed = false;
}

QuietPeer *quiet_peer_free(QuietPeer *h) {
        h->api = api_free(h->api);
        h->membership = membership_free(h->membership);
        h->registry = registry_free(h->registry);
        kv_close(h->store, on_closed, h);
        wait_closed(h);
        peers_close(h->peers, "stop", on_closed, h);
        wait_closed(h);
        quiet_peer_pass(h, 5000);
        assert(!h->client.open && !h->asking.open && !h->asked.open && !h->third.open);
        writer_done(&h->client.said);
        writer_done(&h->asking.said);
        writer_done(&h->asked.said);
        writer_done(&h->third.said);
        for (unsigned i = 0; i < QUIET_PEER_MORE; i++) {
                assert(!h->more[i].open);
                writer_done(&h->more[i].said);
        }
        loop_done(&h->loop);
        memory_disk_done(&h->disk);
        free(h->tree_path);
        scratch_free(h->scratch);
        free(h);
        return NULL;
}

/* -- A client -- */

const Writer *quiet_peer_request(QuietPeer *h, ApiListener listener, const void *request, size_t size) {
        h->listeners[listener].accepted(h->listeners[listener].userdata, wire_open(h, &h->client));
        wire_bring(&h->client, request, size);
        quiet_peer_run(h);
        if (h->client.said.size == 0) /* an expensive write waits for its budget after another one */
                quiet_peer_pass(h, WRITE_WAIT_MS);
        write_u8(&h->client.said, 0);
        assert(h->client.said.error == 0);
        h->client.said.size--;
        return &h->client.said;
}

void quiet_peer_leave(QuietPeer *h) {
        wire_leave(&h->client);
}

/* -- Another host -- */

void quiet_peer_put_on(QuietPeerWire *w, PeerFrame type, const void *payload, size_t size) {
        _cleanup_writer_ Writer frame = {};
        uint8_t head[FRAME_HEADER_SIZE];

        frame_header(head, type, size);
        write_raw(&frame, head, sizeof(head));
        write_raw(&frame, payload, size);
        assert(frame.error == 0);
        wire_bring(w, frame.bytes, frame.size);
}

static void send_on(QuietPeerWire *w, PeerFrame type, const void *payload, size_t size) {
        quiet_peer_put_on(w, type, payload, size);
        quiet_peer_run(w->host);
}

static void send_handshake_of(QuietPeerWire *w, PeerHandshake *other) {
        _cleanup_writer_ Writer handshake = {};
        KvState state;

        kv_state(w->host->store, &state);
        other->cluster_id = state.cluster_id ?: 7;
        other->lineage = state.lineage ?: 7;
        handshake_write(&handshake, other);
        assert(handshake.error == 0);
        send_on(w, PEER_HANDSHAKE, handshake.bytes, handshake.size);
}

static void send_handshake(QuietPeerWire *w) {
        PeerHandshake other = { .machine_id = QUIET_PEER_OTHER_ID,
                                .boot_id = "dddddddddddddddddddddddddddddddd",
                                .nonce = 2,
                                .start_number = 1,
                                .address = "10.0.0.2:2380",
                                .name = "beta",
                                .raft_id = w->host->attached ? 0 : 2 };

        send_handshake_of(w, &other);
}

void quiet_peer_hang_up(QuietPeer *h) {
        wire_leave(&h->asking);
}

void quiet_peer_part(QuietPeer *h) {
        quiet_peer_hang_up(h);
        wire_leave(&h->asked);
}

bool quiet_peer_refuse(QuietPeer *h) {
        void (*done)(void *userdata, Stream *s, int error) = h->dial.done;

        h->dial.done = NULL;
        if (done)
                done(h->dial.userdata, NULL, -ECONNREFUSED);
        return done;
}

bool quiet_peer_connects(QuietPeer *h, QuietPeerWire *wire) {
        void (*done)(void *userdata, Stream *s, int error) = h->dial.done;

        h->dial.done = NULL;
        if (done) {
                done(h->dial.userdata, wire_open(h, wire), 0);
                quiet_peer_run(h);
        }
        return done;
}

static void dial_host(QuietPeer *h, QuietPeerWire *w) {
        h->listeners[LISTENER_PEERS].accepted(h->listeners[LISTENER_PEERS].userdata, wire_open(h, w));
}

static bool attach(QuietPeer *h, QuietPeerWire *w, PeerHandshake *handshake) {
        dial_host(h, w);
        send_handshake_of(w, handshake);
        return w->open && !w->closing;
}

bool quiet_peer_attach(QuietPeer *h) {
        PeerHandshake third = { .machine_id = QUIET_PEER_THIRD_ID,
                                .boot_id = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
                                .nonce = 3,
                                .start_number = 1,
                                .address = "10.0.0.3:2380",
                                .name = "gamma" };

        return attach(h, &h->third, &third);
}

bool quiet_peer_attach_more(QuietPeer *h, unsigned i) {
        PeerHandshake more = { .boot_id = "ffffffffffffffffffffffffffffffff",
                               .nonce = 4 + i,
                               .start_number = 1,
                               .name = "more" };

        memset(more.machine_id, '0' + (int) i, sizeof(more.machine_id) - 1);
        snprintf(more.address, sizeof(more.address), "10.0.1.%u:2380", i);
        return attach(h, &h->more[i], &more);
}

bool quiet_peer_meet(QuietPeer *h) {
        quiet_peer_part(h);
        dial_host(h, &h->asking);
        send_handshake(&h->asking);
        for (unsigned i = 0; i < 100 && !h->dial.done; i++)
                quiet_peer_pass(h, 100);
        if (quiet_peer_connects(h, &h->asked))
                send_handshake(&h->asked);
        return h->asking.open && h->asked.open && peers_dialed(h->peers, QUIET_PEER_OTHER_ID);
}

bool quiet_peer_send(QuietPeer *h, PeerFrame type, const void *payload, size_t size) {
        bool answer = type == PEER_PROPOSED || type == PEER_TERM_CHECKED || type == PEER_SNAPSHOT_ACK ||
                      type == PEER_JOINED || type == PEER_CALL_CHUNK || type == PEER_CALL_END ||
                      type == PEER_RETIRED;

        return quiet_peer_send_on(answer ? &h->asked : &h->asking, type, payload, size);
}

bool quiet_peer_send_on(QuietPeerWire *w, PeerFrame type, const void *payload, size_t size) {
        send_on(w, type, payload, size);
        return w->open && !w->closing;
}

bool quiet_peer_receive(QuietPeerWire *w, Frame *ret) {
        ssize_t n = frame_take(w->said.bytes + w->n_read, w->said.size - w->n_read, PEER_FRAME_MAX, ret);

        assert(n >= 0); /* it sends complete frames */
        w->n_read += n;
        if (n == 0)
                w->n_read = w->said.size = 0;
        return n > 0;
}
