/* One request to the key API, with any path, query and form: through the real doors into a real store, in virtual time.
 *
 * The first byte chooses method and door; up to a newline comes what stands behind /v2/keys, then the form. Whatever it
 * says, it is answered once, at most one command is acted on, success and change go together, and who comes over TCP
 * never touches what is fleet's own. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/text.h"
#include "fleetd/api/api.h"
#include "tests/lib/memory_disk.h"
#include "tests/lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { WORKS_MAX = 64, TURNS_MAX = 100000 };

#define GUARD "/_fleet/guard"

/* One host for all inputs. */
typedef struct Fuzz {
        Loop loop;
        uint64_t now_ms;
        Work *works[WORKS_MAX];
        size_t n_works;
        Network network;
        void (*accepted[2])(void *userdata, Stream *s); /* by door */
        void *doors[2];
        MemoryDisk disk;
        char *tree_path;
        Peers *peers;
        KvStore *store;
        Registry *registry;
        Api *api;
        uint64_t guard;
        Watch *watch;
        uint64_t n_expired; /* what time did, nobody's request */
        /* the one client */
        Stream stream;
        bool closing, closed;
        Deferred close;
        Text answer;
} Fuzz;

/* The host lives as long as the program; its folder goes with it. */
static char *scratch;

static void scratch_forget(void) {
        scratch = scratch_free(scratch);
}

/* -- The loop -- */

static Fuzz *fuzz_of(const Loop *loop) {
        return container_of((Loop *) loop, Fuzz, loop);
}

static uint64_t fuzz_now_ms(const Loop *loop) {
        return fuzz_of(loop)->now_ms;
}

static uint64_t fuzz_wall_ms(const Loop *loop) {
        return 1500000000000 + fuzz_of(loop)->now_ms;
}

static void fuzz_wake_at(Loop *loop, uint64_t due_ms) {
}

static int fuzz_work(Loop *loop, Work *work) {
        Fuzz *f = fuzz_of(loop);

        assert(f->n_works < WORKS_MAX);
        f->works[f->n_works++] = work;
        return 0;
}

static const LoopOps loop_ops = { .now_ms = fuzz_now_ms, .wall_ms = fuzz_wall_ms, .wake_at = fuzz_wake_at, .work = fuzz_work };

/* All that can happen without time going on. */
static void run_due(Fuzz *f) {
        for (unsigned turns = 0; loop_run_due(&f->loop, 100) || f->n_works > 0; turns++) {
                assert(turns < TURNS_MAX);
                if (f->n_works > 0) {
                        Work *work = f->works[0];

                        f->n_works--;
                        memmove(f->works, f->works + 1, f->n_works * sizeof(f->works[0]));
                        work->work(work->userdata);
                        work->done(work->userdata);
                }
        }
}

/* -- Network and stream -- */

static void *fuzz_connect(Network *net, const char *address, uint64_t timeout_ms, void (*done)(void *userdata, Stream *s, int error),
                          void *userdata, int *ret_error) {
        *ret_error = -ENETUNREACH;
        return NULL;
}

static void fuzz_cancel(Network *net, void *handle) {
}

static int fuzz_listen(Network *net, const char *address, void (*accepted)(void *userdata, Stream *s), void *userdata, Listener **ret, Error *err) {
        Fuzz *f = container_of(net, Fuzz, network);
        ApiDoor door = address[0] == '/' ? API_SOCKET : API_LOOPBACK;

        f->accepted[door] = accepted;
        f->doors[door] = userdata;
        *ret = NULL;
        return 0;
}

static void fuzz_unlisten(Network *net, Listener *listener) {
}

static const NetworkOps network_ops = { .connect = fuzz_connect, .cancel = fuzz_cancel, .listen = fuzz_listen, .unlisten = fuzz_unlisten };

static int fuzz_write(Stream *s, const void *bytes, size_t size, Shared *shared) {
        Fuzz *f = container_of(s, Fuzz, stream);

        if (f->closing)
                return -EPIPE;
        text_append_bytes(&f->answer, shared ? (const void *) shared->bytes : bytes, shared ? shared->size : size);
        return 0;
}

static void fuzz_pause(Stream *s, bool paused) {
}

static void fuzz_close(Stream *s) {
        Fuzz *f = container_of(s, Fuzz, stream);

        f->closing = true;
        loop_defer(&f->loop, &f->close);
}

static void fuzz_closed(void *userdata) {
        Fuzz *f = userdata;

        f->closed = true;
        f->stream.events->on_close(f->stream.userdata, 0, "closed");
}

static const StreamOps stream_ops = { .write = fuzz_write, .pause = fuzz_pause, .close = fuzz_close, .finish = fuzz_close };

/* -- The host -- */

static void guard_on_done(void *userdata, const KvResult *result) {
        assert(result->status == KV_OK);
        ((Fuzz *) userdata)->guard = result->index;
}

static void on_event(void *userdata, HubEvent *event) {
        ((Fuzz *) userdata)->n_expired += event->event.action == KV_ACTION_EXPIRE;
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        assert(!"nothing replaces the tree of a host that is alone");
}

static const WatchEvents watch_events = { .on_event = on_event, .on_cleared = on_cleared };

static void host_open(Fuzz *f) {
        PeersOptions peers = { .self = { .machine_id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", .nonce = 1 } };
        KvOptions store = { .machine_id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", .boot_id = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" };
        KvCommand guard = { .op = KV_SET, .key = { GUARD, strlen(GUARD) }, .value = { "safe", 4 }, .internal = true };
        ApiOptions api;
        uint64_t number;
        Error err = {};
        int r;

        *f = (Fuzz) { .now_ms = 1, .network = { .ops = &network_ops, .loop = &f->loop } };
        loop_init(&f->loop, &loop_ops, 1);
        f->close = (Deferred) { .run = fuzz_closed, .userdata = f };
        memory_disk_init(&f->disk, 1);
        scratch = scratch_new();
        (void) atexit(scratch_forget);
        f->tree_path = scratch_path(scratch, "tree");
        store.log_disk = &f->disk.base;
        store.tree_path = f->tree_path;
        r = peers_new(&f->peers, &f->loop, &f->network, &peers);
        store.peers = f->peers;
        if (r == 0)
                r = kv_open(&f->store, &f->loop, &store, &err);
        if (r == 0)
                r = registry_new(&f->registry, &f->loop, f->store, store.machine_id);
        api = (ApiOptions) { .network = &f->network, .peers = f->peers, .store = f->store, .registry = f->registry,
                             .machine_id = store.machine_id, .name = "alpha", .access = CLIENT_READ_WRITE };
        if (r == 0)
                r = api_new(&f->api, &f->loop, &api);
        if (r == 0)
                r = api_listen(f->api, API_SOCKET, "/socket", &err);
        if (r == 0)
                r = api_listen(f->api, API_LOOPBACK, "127.0.0.1:2379", &err);
        for (unsigned i = 0; r == 0 && i < 1000 && !registry_ready(f->registry); i++) {
                run_due(f);
                f->now_ms += 20;
        }
        if (r < 0 || kv_propose(f->store, &guard, guard_on_done, f, &number) < 0) {
                fprintf(stderr, "%s\n", error_text(&err, r));
                abort();
        }
        run_due(f);
        assert(f->guard > 0);
        r = hub_watch(kv_hub(f->store), &(WatchOptions) { .key = { "/", 1 }, .recursive = true, .internal = true }, &watch_events, f, &f->watch, NULL);
        assert(r == 0);
}

static void guard_is_safe(Fuzz *f) {
        TreeTxn *txn = NULL;
        KvNode node;

        assert(kv_read(f->store, &txn) == 0);
        assert(tree_get(txn, (KvBytes) { GUARD, strlen(GUARD) }, &node) == 0);
        assert(node.modified == f->guard && node.value.size == 4);
        tree_abort(txn);
}

/* -- One request -- */

static void target_append(Text *t, const uint8_t *bytes, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (bytes[i] <= ' ' || bytes[i] >= 0x7f)
                        text_printf(t, "%%%02x", bytes[i]);
                else
                        text_append_char(t, bytes[i]);
}

static void ask(Fuzz *f, ApiDoor door, const Text *request) {
        f->closing = f->closed = false;
        f->stream = (Stream) { .ops = &stream_ops };
        text_clear(&f->answer);
        f->accepted[door](f->doors[door], &f->stream);
        f->stream.events->on_read(f->stream.userdata, request->chars, request->size);
        run_due(f);
}

/* The client leaves; a watch that still waits goes with it. */
static void leave(Fuzz *f) {
        if (!f->closing)
                f->stream.events->on_read(f->stream.userdata, "", 0);
        for (unsigned i = 0; i < 10 && !f->closed; i++) {
                run_due(f);
                f->now_ms += 100;
        }
        run_due(f);
        assert(f->closed);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static const char *const methods[] = { "GET", "PUT", "POST", "DELETE", "HEAD", "PUT", "PUT", "OPTIONS" };
        static Fuzz *host;
        const uint8_t *end;
        _cleanup_text_ Text request = {};
        uint64_t before, expired, acted;
        unsigned status = 0;
        const char *method;
        size_t target_size, form_size;
        ApiDoor door;
        bool writes;

        if (size < 2 || size > 8000) /* the request line has its own limit, and its own fuzzer */
                return 0;
        if (!host) {
                host = malloc(sizeof(*host));
                if (!host)
                        abort();
                host_open(host);
        }

        method = methods[bytes[0] & 7];
        door = bytes[0] & 8 ? API_SOCKET : API_LOOPBACK;
        writes = streq(method, "PUT") || streq(method, "POST") || streq(method, "DELETE");
        end = memchr(bytes + 1, '\n', size - 1);
        target_size = end ? (size_t) (end - bytes - 1) : size - 1;
        form_size = end ? size - target_size - 2 : 0;

        text_printf(&request, "%s /v2/keys", method);
        target_append(&request, bytes + 1, target_size);
        text_printf(&request, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n", form_size);
        if (form_size > 0)
                text_append_bytes(&request, end + 1, form_size);
        assert(request.error == 0);

        before = kv_index(host->store);
        expired = host->n_expired;
        ask(host, door, &request);
        acted = kv_index(host->store) - before - (host->n_expired - expired);

        assert(host->answer.size > 0 && sscanf(host->answer.chars, "HTTP/1.1 %u", &status) == 1);
        assert(acted <= (writes ? 1 : 0));
        if (writes)
                assert((acted == 1) == (status == 200 || status == 201));
        if (door == API_LOOPBACK)
                guard_is_safe(host);
        leave(host);
        assert(host->answer.error == 0);
        if (door == API_SOCKET) { /* whoever may, may; then it is as before */
                KvCommand guard = { .op = KV_SET, .key = { GUARD, strlen(GUARD) }, .value = { "safe", 4 }, .internal = true };
                uint64_t number;

                assert(kv_propose(host->store, &guard, guard_on_done, host, &number) == 0);
                run_due(host);
        }
        return 0;
}
