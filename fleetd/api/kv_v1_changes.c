/* GET /fleet/v1/kv/changes: every change below a prefix, a line each, from any index of the event window.
 *
 * A slow reader costs 256 KiB at most: the watch is closed when the connection is full, and opened again from
 * the window, behind the last change sent, when the connection has drained. A reader that is behind the
 * window gets a last line that names the index to continue from. */

#include "fleetd/api/forward.h"
#include "fleetd/api/parked.h"
#include "fleetd/api/kv_v1_changes.h"

typedef struct Changes {
        Request *request; /* its 'watch' is NULL while the connection is full */
        KvBytes prefix;   /* borrowed from the parameters of the request */
        uint64_t progress_s;
        uint64_t sent; /* everything up to this index is sent */
        KvLine line;
        bool catching_up; /* a line with the index follows once the window is delivered */
        bool registry;    /* changes below /_fleet, for a sender that may see units */
        Timer progress;
} Changes;

static void changes_on_end(Request *request) {
        Changes *c = request->state;

        timer_stop(&c->progress);
        free(c);
}

static void refusal_forgotten(KvRefusal *ret, uint64_t after, uint64_t oldest, uint64_t index) {
        *ret = (KvRefusal) { .status = 410, .index = index, .oldest = oldest };
        error_set(&ret->err, -ESTALE,
                  "changes between index %llu and %llu are no longer in the event window: list again, "
                  "and continue after the index of that answer",
                  (unsigned long long) after, (unsigned long long) oldest);
}

/* End the stream with the reason as the last line. If the connection is full, drain calls this again. */
static void changes_end(Changes *c, const KvRefusal *refusal) {
        Request *request = c->request;
        _cleanup_text_ Text t = {};

        kv_refusal_write(&t, refusal);
        if (t.error == 0 && http_chunk(request->http, t.chars, t.size) == -ENOBUFS)
                return;
        request_end(request);
}

static int changes_line(KvWatchEvent *event, Shared **ret) {
        const KvEvent *e = &event->event;
        _cleanup_text_ Text t = {};

        if (!event->line) {
                json_open(&t, NULL, '{');
                json_add_string(&t, "action", kv_action_name(e->action));
                json_add_u64(&t, "index", e->index);
                kv_node_write(&t, "node", &e->node, !action_removes(e->action), e->now_ms);
                if (e->has_prev)
                        kv_node_write(&t, "prevNode", &e->prev, true, e->now_ms);
                json_add_bool(&t, "refresh", e->refresh);
                text_append(&t, "}\n");
                if (t.error == 0)
                        event->line = shared_new(t.chars, t.size);
        }
        if (!event->line)
                return -ENOMEM;
        *ret = shared_ref(event->line);
        return 1;
}

/* Send a line with the index alone: everything up to it is sent. It also shows that the stream is alive. */
static void changes_send_index(Changes *c, uint64_t index) {
        char line[48];
        int n = snprintf(line, sizeof(line), "{\"index\":%llu}\n", (unsigned long long) index);

        if (http_chunk(c->request->http, line, n) == 0)
                c->sent = MAX(c->sent, index);
}

static void changes_send_caught_up(Changes *c) {
        uint64_t index = kv_seen(c->request->api->host->store);

        if (!c->catching_up || !c->request->watch || !kv_watch_progress(c->request->watch, &index))
                return;
        c->catching_up = false;
        changes_send_index(c, MAX(index, c->sent));
}

static bool changes_sees(void *userdata, const KvEvent *event) {
        const Changes *c = userdata;

        return request_sees_event(c->request, c->prefix, event);
}

/* Write a line; 0: the change has none. */
static int changes_write(const Changes *c, KvWatchEvent *event, Shared **ret) {
        KvWatchEvent cut = { .event = event->event };
        int r;

        if (c->registry || !request_hides_prev(c->request, &event->event))
                return c->line(event, ret);
        cut.event.has_prev = false;
        r = c->line(&cut, ret);
        shared_unref(cut.line);
        return r;
}

static void changes_on_event(void *userdata, KvWatchEvent *event) {
        Changes *c = userdata;
        Request *request = c->request;
        Shared *line = NULL;
        int r;

        r = changes_write(c, event, &line);
        if (r > 0)
                r = http_chunk_shared(request->http, line);
        shared_unref(line);
        if (r == 0) {
                c->sent = event->event.index;
                changes_send_caught_up(c);
        } else if (r == -ENOBUFS) {
                c->sent = event->event.index - 1;
                request->watch = kv_watch_close(request->watch);
        } else
                request_cut(request, "out of memory");
}

static void changes_on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Changes *c = userdata;
        KvRefusal refusal;

        c->request->watch = NULL;
        refusal_forgotten(&refusal, c->sent, oldest, current);
        changes_end(c, &refusal);
}

static void changes_on_revoked(Request *request) {
        KvRefusal refusal = { .status = 403 };
        _cleanup_text_ Text t = {};

        error_set(&refusal.err, -EACCES, "the right to these changes has ended");
        kv_refusal_write(&t, &refusal);
        if (t.error == 0 && http_chunk(request->http, t.chars, t.size) == 0)
                request_end(request);
        else
                request_cut(request, refusal.err.message);
}

static const KvWatchOps changes_events = { .on_event = changes_on_event, .on_cleared = changes_on_cleared },
                        changes_filtered = { .sees = changes_sees,
                                             .on_event = changes_on_event,
                                             .on_cleared = changes_on_cleared };

static int changes_watch(Changes *c, uint64_t *ret_oldest) {
        Request *request = c->request;
        KvWatchOptions options = { .key = c->prefix,
                                   .recursive = true,
                                   .refreshes = true,
                                   .since = c->sent + 1,
                                   .internal = c->registry || (kv_path_is_ours(c->prefix) &&
                                                               sender_may_read(request->sender, c->prefix)) };
        bool all = c->registry || sender_sees_all(request->sender);

        return kv_watch(request->api->host->store, &options, all ? &changes_events : &changes_filtered, c,
                        &request->watch, ret_oldest);
}

/* Set why a watch cannot be opened. */
static void refusal_of_watch(KvRefusal *ret, const Request *request, int error, uint64_t after,
                             uint64_t oldest) {
        if (error == -ESTALE) {
                refusal_forgotten(ret, after, oldest, kv_seen(request->api->host->store));
                return;
        }
        *ret = (KvRefusal) { .status = 503 };
        error_set(&ret->err, error, "%s",
                  error == -ENOBUFS ? "too many watches on this host: try another one, or later" :
                                      "out of memory");
}

static void changes_on_drain(Request *request) {
        Changes *c = request->state;
        uint64_t oldest = 0;
        KvRefusal refusal;
        int r;

        if (request->watch)
                return;
        r = changes_watch(c, &oldest);
        if (r == 0) {
                changes_send_caught_up(c);
                return;
        }
        refusal_of_watch(&refusal, request, r, c->sent, oldest);
        changes_end(c, &refusal);
}

static void changes_on_progress(void *userdata) {
        Changes *c = userdata;
        Request *request = c->request;
        uint64_t index = kv_seen(request->api->host->store);

        if (timer_start(&c->progress, request->api->loop, c->progress_s * 1000) < 0)
                return;
        if (request->watch && kv_watch_progress(request->watch, &index))
                changes_send_index(c, MAX(index, c->sent));
}

/* Open the watch and start the timer. */
static int changes_start(Changes *c, uint64_t *ret_oldest) {
        int r;

        r = changes_watch(c, ret_oldest);
        if (r == -ESTALE && c->registry && c->sent == 0) {
                c->sent = *ret_oldest - 1;
                r = changes_watch(c, ret_oldest);
        }
        if (r < 0 || c->progress_s == 0)
                return r;
        return timer_start(&c->progress, c->request->api->loop, c->progress_s * 1000);
}

void kv_changes_begin(Request *request, const KvParameters *p, KvLine line, bool registry) {
        uint64_t oldest = 0;
        Changes *c = NEW0(Changes, 1);
        KvRefusal refusal;
        int r;

        if (!c) {
                kv_refuse_text(request, 503, "out of memory");
                return;
        }
        *c = (Changes) { .request = request,
                         .prefix = p->prefix,
                         .progress_s = p->progress,
                         .sent = p->has_after ? p->after : kv_seen(request->api->host->store),
                         .line = line,
                         .catching_up = registry,
                         .registry = registry,
                         .progress = TIMER(changes_on_progress, c) };
        request->state = c;
        request->on_end = changes_on_end;
        request->on_drain = changes_on_drain;
        request->on_revoked = changes_on_revoked;
        request->watching = true;
        request->api->n_watching++;
        parked_begin(request->api);
        r = changes_start(c, &oldest);
        if (r < 0) {
                refusal_of_watch(&refusal, request, r, c->sent, oldest);
                kv_refuse(request, &refusal);
                return;
        }
        request_begin(request, "application/x-ndjson", NULL);
        changes_send_index(c, c->sent);
        changes_send_caught_up(c);
}

unsigned kv_changes_handle(Request *request, Error *err) {
        KvParameters p;

        if (kv_parameters_read(request, &p))
                kv_changes_begin(request, &p, changes_line, false);
        return 0;
}
