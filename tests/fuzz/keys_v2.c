/* One request to the key API, with any path, query and form: through the real listeners to a real store, in
 * virtual time.
 *
 * The first byte selects method and listener; the rest of the path after /v2/keys follows up to a newline,
 * then the form. Every request is answered once and executes at most one command; it changes the tree only if
 * it succeeds. A client over TCP never changes fleet's own keys. */

#include "base/text.h"
#include "tests/lib/quiet_peer.h"
#include "tests/lib/store_inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define GUARD "/_fleet/guard"

/* One host for all inputs, until the program ends. */
typedef struct Fuzz {
        QuietPeer *host;
        uint64_t guard;
        KvWatch *watch;
        uint64_t n_expired; /* expiries, without a request */
} Fuzz;

static Fuzz fuzz;

static void guard_on_done(void *userdata, const KvResult *result) {
        assert(result->status == KV_OK);
        ((Fuzz *) userdata)->guard = result->index;
}

static void on_event(void *userdata, KvWatchEvent *event) {
        ((Fuzz *) userdata)->n_expired += event->event.action == KV_ACTION_EXPIRE;
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        assert(!"nothing replaces the tree of a host that is alone");
}

static const KvWatchOps watch_events = { .on_event = on_event, .on_cleared = on_cleared };

static void guard_put(void) {
        KvCommand guard = {
                .op = KV_SET, .key = { GUARD, strlen(GUARD) }, .value = { "safe", 4 }, .internal = true
        };
        uint64_t number;

        assert(kv_propose(fuzz.host->store, &guard, guard_on_done, &fuzz, &number) == 0);
        quiet_peer_run(fuzz.host);
        assert(fuzz.guard > 0);
}

static void host_forget(void) {
        fuzz.watch = kv_watch_close(fuzz.watch);
        quiet_peer_free(fuzz.host);
}

static void host_open(void) {
        int r;

        fuzz.host = quiet_peer_new(false);
        (void) atexit(host_forget);
        guard_put();
        r = kv_watch(fuzz.host->store,
                     &(KvWatchOptions) { .key = { "/", 1 }, .recursive = true, .internal = true },
                     &watch_events, &fuzz, &fuzz.watch, NULL);
        assert(r == 0);
}

static void guard_is_safe(void) {
        KvNode node;

        assert(store_node(fuzz.host->store, GUARD, &node) == 0);
        assert(node.modified == fuzz.guard && node.value.size == 4);
}

/* -- One request -- */

static void target_append(Text *t, const uint8_t *bytes, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (bytes[i] <= ' ' || bytes[i] >= 0x7f)
                        text_printf(t, "%%%02x", bytes[i]);
                else
                        text_append_char(t, bytes[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static const char *const methods[] = {
                "GET", "PUT", "POST", "DELETE", "HEAD", "PUT", "PUT", "OPTIONS"
        };
        const Writer *answer;
        const uint8_t *end;
        _cleanup_text_ Text request = {};
        uint64_t before, expired, acted;
        unsigned status = 0;
        const char *method;
        size_t target_size, form_size;
        ApiListener listener;
        bool writes;

        if (size < 2 || size > 8000) /* the request line has its own limit, and is tested by http.c */
                return 0;
        if (!fuzz.host)
                host_open();

        method = methods[bytes[0] & 7];
        listener = bytes[0] & 8 ? API_SOCKET : API_LOOPBACK;
        writes = streq(method, "PUT") || streq(method, "POST") || streq(method, "DELETE");
        end = memchr(bytes + 1, '\n', size - 1);
        target_size = end ? (size_t) (end - bytes - 1) : size - 1;
        form_size = end ? size - target_size - 2 : 0;

        text_printf(&request, "%s /v2/keys", method);
        target_append(&request, bytes + 1, target_size);
        text_printf(&request,
                    " HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                    "application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n",
                    form_size);
        if (form_size > 0)
                text_append_bytes(&request, end + 1, form_size);
        assert(request.error == 0);

        before = kv_index(fuzz.host->store);
        expired = fuzz.n_expired;
        answer = quiet_peer_request(fuzz.host, listener, request.chars, request.size);
        acted = kv_index(fuzz.host->store) - before - (fuzz.n_expired - expired);

        assert(answer->size > 0 && sscanf((const char *) answer->bytes, "HTTP/1.1 %u", &status) == 1);
        assert(acted <= (writes ? 1 : 0));
        if (writes)
                assert((acted == 1) == (status == 200 || status == 201));
        if (listener == API_LOOPBACK)
                guard_is_safe();
        quiet_peer_leave(fuzz.host);
        assert(answer->error == 0);
        if (listener == API_SOCKET)
                guard_put(); /* the request had the right to change it; restore it */
        return 0;
}
