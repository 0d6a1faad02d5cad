/* GET /fleet/v1/history: rows of the history, oldest first, and with "follow" those that are added.
 *
 * The rows are read from the tree in slices, one in a turn of the loop, from the index of the last row that
 * was sent. A slow reader costs a slice: what its connection does not accept is read again when that has
 * drained. */

#include "base/parse.h"
#include "fleetd/api/fleet_v1.h"
#include "units/api_json.h"

enum {
        SLICE_ROWS = 1000,        /* visited in one turn */
        SLICE_BYTES = 64 * 1024,  /* sent in one turn, and one row */
        SLICE_STEPS = 256 * 1024, /* of comparisons with patterns, and those of one row */
        PATTERNS_MAX = 100,
        KEEP_ALIVE_MS = 10000,
};

typedef struct History {
        Request *request;
        uint64_t since_ms, until_ms, last, after;
        bool follow, has_last;
        size_t n_patterns;

        bool searching;     /* for the first of the last rows, from 'position' backward */
        uint64_t position;  /* index of the last row that was read; 0: none */
        uint64_t n_found;   /* wanted rows in the search */
        uint64_t begin;     /* its result: rows above this index are sent */
        uint64_t oldest_ms; /* of the first row of the history; 0: there is none */
        bool past;          /* everything that was there is sent */
        bool full;          /* the connection is */

        /* Of this slice: */
        size_t n_rows, steps;
        uint64_t at;   /* as 'position' */
        bool complete; /* no row is left to read */
        Text lines;

        Deferred slice;
        Timer keep_alive;
        RegistryObserver observer;
} History;

static void history_on_end(Request *request) {
        History *h = request->state;

        registry_unobserve(request->api->host->registry, &h->observer);
        deferred_cancel(&h->slice);
        timer_stop(&h->keep_alive);
        text_done(&h->lines);
        free(h);
}

/* -- Rows -- */

static bool history_has_unit(History *h, const char *unit) {
        const HttpParameters *p = &h->request->parameters;
        bool matches = h->n_patterns == 0;

        for (size_t i = 0; i < p->n && !matches; i++)
                matches = streq(p->items[i].name, "unit") &&
                          (streq(p->items[i].value, unit) ||
                           glob_match_counted(p->items[i].value, unit, &h->steps));
        return matches;
}

/* Return whether the row is wanted. Its times are compared first, because most rows have others. */
static bool history_wants(History *h, const KvHistoryRow *row, HistoryEvent *ret) {
        return row->last_ms >= h->since_ms && row->first_ms <= h->until_ms && row->index > h->after &&
               history_decode(row->body, ret) >= 0 && history_has_unit(h, ret->unit);
}

static void history_write(Text *t, const KvHistoryRow *row, const HistoryEvent *event) {
        json_open(t, NULL, '{');
        json_add_u64(t, "count", row->count);
        json_add_u64(t, "first", row->first_ms);
        json_add_u64(t, "index", row->index);
        json_add_string(t, "kind",
                        event->kind < _HISTORY_KIND_MAX ? history_kind_to_string(event->kind) : "unknown");
        json_add_u64(t, "last", row->last_ms);
        json_add_string(t, "machine", event->machine);
        json_add_string(t, "name", event->unit);
        json_add_string(t, "reason", event->reason);
        if (event->verdict.code >= VERDICT_MOVE_REQUESTED && event->verdict.code <= VERDICT_MOVE_ENDED)
                json_add_string(t, "result", verdict_name(&event->verdict) + strlen("move-"));
        json_add_string(t, "user", event->user);
        /* Last: scripts read the count as the first member. */
        if (!*verdict_name(&event->verdict))
                json_add_string_always(t, "code", ""); /* older daemons have no such member */
        verdict_write_members(t, &event->verdict);
        text_append(t, "}\n");
}

/* Return whether this slice may visit another row. */
static bool history_continues(History *h) {
        h->complete = h->n_rows < SLICE_ROWS && h->lines.size < SLICE_BYTES && h->steps < SLICE_STEPS;
        return h->complete;
}

static int history_on_row(void *userdata, const KvHistoryRow *row) {
        HistoryEvent event;
        History *h = userdata;

        h->n_rows++;
        h->at = row->index;
        if (history_wants(h, row, &event))
                history_write(&h->lines, row, &event);
        return h->lines.error < 0 ? h->lines.error : history_continues(h);
}

/* Search backward for the first of the last rows. */
static int history_on_row_before(void *userdata, const KvHistoryRow *row) {
        HistoryEvent event;
        History *h = userdata;

        h->n_rows++;
        h->at = row->index;
        if (row->index <= h->after)
                return 0;
        if (history_wants(h, row, &event)) {
                h->begin = row->index - 1;
                if (++h->n_found == h->last)
                        return 0;
        }
        return history_continues(h);
}

static int history_on_oldest(void *userdata, const KvHistoryRow *row) {
        *(uint64_t *) userdata = row->first_ms;
        return 0;
}

/* -- Slices -- */

/* Append a line without a row: the index up to which everything is sent, and the time of the oldest row. */
static void history_write_end(History *h) {
        json_open(&h->lines, NULL, '{');
        json_add_u64(&h->lines, "index", h->at);
        json_add_u64(&h->lines, "oldest", h->oldest_ms);
        text_append(&h->lines, "}\n");
}

static void history_send(History *h) {
        Request *request = h->request;
        bool ends = h->complete && !h->past;
        int r;

        if (ends)
                history_write_end(h);
        r = h->lines.error;
        if (r == 0 && h->lines.size > 0)
                r = http_chunk(request->http, h->lines.chars, h->lines.size);
        text_done(&h->lines); /* a stream that waits holds no buffer */
        h->full = r == -ENOBUFS;
        if (h->full)
                return;
        if (r < 0) {
                request_cut(request, "out of memory");
                return;
        }
        h->position = h->at;
        h->past |= ends;
        if (!h->complete)
                loop_defer(request->api->loop, &h->slice);
        else if (!h->follow)
                request_end(request);
}

static void history_slice(Request *request) {
        History *h = request->state;
        int r;

        if (!request_may_list(request, history_slice))
                return;
        text_clear(&h->lines);
        h->n_rows = h->steps = 0;
        h->at = h->position;
        h->complete = true;
        r = kv_local_history(request->api->host->store, h->position, h->searching,
                             h->searching ? history_on_row_before : history_on_row, h);
        loop_count(request->api->loop, h->n_rows + 1, h->steps); /* that of sending counts by itself */
        if (r < 0) {
                request_cut(request, "the history cannot be read");
                return;
        }
        if (!h->searching) {
                history_send(h);
                return;
        }
        h->searching = !h->complete;
        h->position = h->searching ? h->at : h->begin;
        loop_defer(request->api->loop, &h->slice);
}

static void history_on_slice(void *userdata) {
        History *h = userdata;

        if (!h->request->listing && !h->full)
                history_slice(h->request);
}

static void history_on_drain(Request *request) {
        History *h = request->state;

        h->full = false;
        loop_defer(request->api->loop, &h->slice);
}

/* Rows are added with keys of the registry. */
static void history_on_change(void *userdata, const RegistryChange *change) {
        History *h = userdata;

        if (h->past)
                loop_defer(h->request->api->loop, &h->slice);
}

/* A stream without events shows that it is alive. */
static void history_on_keep_alive(void *userdata) {
        History *h = userdata;

        if (h->past && !h->full) {
                text_clear(&h->lines);
                h->at = h->position;
                history_write_end(h);
                (void) http_chunk(h->request->http, h->lines.chars, h->lines.size);
        }
        (void) timer_start(&h->keep_alive, h->request->api->loop, KEEP_ALIVE_MS);
}

/* -- Parameters -- */

static int read_milliseconds(const HttpParameter *p, uint64_t *ret, Error *err) {
        if (parse_u64(p->value, ret) >= 0)
                return 0;
        return error_set(err, -EINVAL,
                         "%s=%.100s: expected milliseconds since 1970, for example %s=1763625600000", p->name,
                         p->value, p->name);
}

static int read_count(const HttpParameter *p, uint64_t *ret, Error *err) {
        if (parse_u64(p->value, ret) >= 0)
                return 0;
        return error_set(err, -EINVAL, "%s=%.100s: expected a number, for example %s=100", p->name, p->value,
                         p->name);
}

int parameter_check_pattern(const HttpParameter *p, size_t *n, Error *err) {
        if (!*p->value || strlen(p->value) > UNIT_NAME_MAX || !http_parameter_is_text(p))
                return error_set(err, -EINVAL,
                                 "unit=%.100s: expected a name or a pattern of at most %d bytes, "
                                 "for example unit=web@*",
                                 p->value, UNIT_NAME_MAX);
        if (++*n > PATTERNS_MAX)
                return error_set(err, -EINVAL, "unit: at most %d names and patterns", PATTERNS_MAX);
        return 0;
}

static int history_read_parameter(History *h, const HttpParameter *p, Error *err) {
        if (streq(p->name, "since"))
                return read_milliseconds(p, &h->since_ms, err);
        if (streq(p->name, "until"))
                return read_milliseconds(p, &h->until_ms, err);
        if (streq(p->name, "after"))
                return read_count(p, &h->after, err);
        if (streq(p->name, "last")) {
                h->has_last = true;
                return read_count(p, &h->last, err);
        }
        if (streq(p->name, "unit"))
                return parameter_check_pattern(p, &h->n_patterns, err);
        if (!streq(p->name, "follow"))
                return error_set(
                        err, -EINVAL,
                        "%.100s: unknown parameter; expected after, follow, last, since, unit, until",
                        p->name);
        if (parse_bool(p->value, &h->follow) < 0)
                return error_set(err, -EINVAL, "follow=%.100s: expected true or false", p->value);
        return 0;
}

static int history_read_parameters(History *h, Error *err) {
        const HttpParameters *p = &h->request->parameters;

        for (size_t i = 0; i < p->n; i++)
                TRY(history_read_parameter(h, &p->items[i], err));
        if (h->follow && h->until_ms < UINT64_MAX)
                return error_set(err, -EINVAL, "until: not with follow=true, which has no end");
        return 0;
}

static int history_begin(History *h) {
        Request *request = h->request;
        KvStore *store = request->api->host->store;

        TRY(kv_local_history(store, 0, false, history_on_oldest, &h->oldest_ms));
        if (h->follow) {
                registry_observe(request->api->host->registry, &h->observer);
                TRY(timer_start(&h->keep_alive, request->api->loop, KEEP_ALIVE_MS));
        }
        h->searching = h->has_last && h->last > 0;
        h->begin = h->after;
        if (!h->searching)
                h->position = h->has_last ? kv_index(store) : h->after;
        request_begin(request, "application/x-ndjson", NULL);
        history_slice(request);
        return 0;
}

unsigned history_handle(Request *request, Error *err) {
        History *h = NEW0(History, 1);
        KvState state;
        int r;

        if (!h)
                return error_set(err, 500, "out of memory");
        *h = (History) { .request = request,
                         .until_ms = UINT64_MAX,
                         .slice = DEFERRED(history_on_slice, h),
                         .keep_alive = TIMER(history_on_keep_alive, h),
                         .observer = { .on_change = history_on_change, .userdata = h } };
        request->state = h;
        request->on_end = history_on_end;
        request->on_drain = history_on_drain;

        r = history_read_parameters(h, err);
        if (r < 0)
                return request_refused(r, err);
        kv_state(request->api->host->store, &state);
        if (state.level < KV_LEVEL_HISTORY)
                return error_set(
                        err, 409,
                        "the history begins at feature level %d, and this cluster has level %u; when all "
                        "hosts run this version: fleetctl cluster level %d",
                        KV_LEVEL_HISTORY, state.level, KV_LEVEL_HISTORY);
        r = history_begin(h);
        return r < 0 ? error_set(err, 503, "the history cannot be read: %s", strerror(-r)) : 0;
}
