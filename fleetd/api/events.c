/* /fleet/v1/events: a line for each change of the registry, so that a client waits instead of asking again and again. */
#include <stdio.h>

#include "fleetd/api/request.h"
#include "units/json.h"

typedef struct EventStream {
        Request *request;
        RegistryListener listener;
} EventStream;

static const char *const kinds[] = {
        [CHANGED_ALL] = "all",     [CHANGED_UNIT] = "unit",       [CHANGED_TARGET] = "target",     [CHANGED_ORDER] = "order",
        [CHANGED_STATE] = "state", [CHANGED_MACHINE] = "machine", [CHANGED_PRESENCE] = "presence", [CHANGED_PROBLEM] = "problem", [CHANGED_CLUSTER] = "cluster",
};

static void events_forget(Request *request) {
        EventStream *s = request->state;

        registry_unlisten(request->api->options.registry, &s->listener);
        free(s);
}

static void events_write(EventStream *s, uint64_t index, const char *kind, const char *unit, const char *machine) {
        Request *request = s->request;
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_add_u64(&t, "index", index);
        json_add_string(&t, "kind", kind);
        json_add_string(&t, "machine", machine);
        json_add_string(&t, "name", unit);
        json_close(&t, '}');
        text_append_char(&t, '\n');
        if (t.error == 0 && http_chunk(request->http, t.chars, t.size) == 0)
                return;
        events_forget(request);
        request->forget = NULL;
        request_cut(request, "the reader of events fell too far behind");
}

static void events_on_change(void *userdata, const RegistryChange *change) {
        events_write(userdata, change->index, kinds[change->kind], change->unit, change->machine);
}

void events_handle(Request *request) {
        EventStream *s;

        if (!method_is(request, "GET")) {
                request_error(request, 405, "only GET supported against this resource");
                return;
        }
        s = NEW0(EventStream, 1);
        if (!s) {
                request_error(request, 500, "out of memory");
                return;
        }
        *s = (EventStream) { .request = request, .listener = { .on_change = events_on_change, .userdata = s } };
        request->state = s;
        request->forget = events_forget;
        registry_listen(request->api->options.registry, &s->listener);
        request_begin(request, 200, "application/x-ndjson");
        events_write(s, registry_cluster(request->api->options.registry)->index, NULL, NULL, NULL);
}
