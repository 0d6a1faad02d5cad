/* /fleet/v1/events: a line for each change of the registry, so that clients do not poll. With details, a line
 * has the values before and after, with their reasons, from the beginning of the event window on. */

#include "base/parse.h"
#include "fleetd/api/kv_v1_changes.h"
#include "fleetd/registry/kinds.h"
#include "units/revision.h"

static const char *const change_names[] = {
        [CHANGED_ALL] = "all",           [CHANGED_UNIT] = "unit",         [CHANGED_TARGET] = "target",
        [CHANGED_ASSIGNMENT] = "order",  [CHANGED_STATE] = "state",       [CHANGED_MACHINE] = "machine",
        [CHANGED_PRESENCE] = "presence", [CHANGED_PROBLEM] = "problem",   [CHANGED_CLUSTER] = "cluster",
        [CHANGED_REVISION] = "revision", [CHANGED_ROLLOUT] = "rollout",   [CHANGED_MOVE] = "move",
        [CHANGED_DATA] = "data",         [CHANGED_REPLICAS] = "replicas", [CHANGED_ENDPOINT] = "endpoint",
        [CHANGED_INPUTS] = "inputs",     [CHANGED_SECRET] = "secret",
};

static void events_on_end(Request *request) {
        registry_unobserve(request->api->host->registry, request->state);
        free(request->state);
}

static void events_write(Request *request, uint64_t index, const char *kind, const char *unit,
                         const char *machine) {
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_add_u64(&t, "index", index);
        json_add_string(&t, "kind", kind);
        json_add_string(&t, "machine", machine);
        json_add_string(&t, "name", unit);
        text_append(&t, "}\n");
        if (t.error < 0 || http_chunk(request->http, t.chars, t.size) < 0)
                request_cut(request, "the reader of events fell too far behind");
}

static void events_on_change(void *userdata, const RegistryChange *change) {
        events_write(userdata, change->index, change_names[change->kind], change->unit, change->machine);
}

/* -- Events with details -- */

static void details_add(Text *t, const LayoutKey *key, const KvNode *node) {
        _cleanup_(kind_value_done) KindValue v = {};
        const Kind *kind = kinds[key->kind];

        if (kind->shown && kind_decode(key, node->value, &v, NULL) >= 0)
                json_write_fields(t, kind->shown, kind->n_shown, v.record);
}

static int details_line(KvWatchEvent *event, Shared **ret) {
        const KvEvent *e = &event->event;
        bool gone = action_removes(e->action);
        _cleanup_text_ Text t = {};
        LayoutKey key;

        if (!layout_parse(e->node.key, &key) || e->node.dir)
                return 0;
        json_open(&t, NULL, '{');
        json_add_u64(&t, "index", e->index);
        json_add_string(&t, "kind", kinds[key.kind]->event);
        if (key.kind != LAYOUT_REVISION)
                json_add_string(&t, "machine", key.machine);
        json_add_string(&t, "name", key.unit);
        json_add_bool(&t, "removed", gone);
        if (key.kind == LAYOUT_REVISION)
                json_add_u64(&t, "revision", revision_parse_number(key.machine));
        json_add_u64(&t, "time", e->now_ms);
        if (!gone)
                details_add(&t, &key, &e->node);
        if (e->has_prev) {
                json_open(&t, "was", '{');
                details_add(&t, &key, &e->prev);
                json_close(&t, '}');
        }
        text_append(&t, "}\n");
        *ret = t.error == 0 ? shared_new(t.chars, t.size) : NULL;
        return *ret ? 1 : -ENOMEM;
}

/* Read "details" and "after", the only parameters. False: one is invalid, for status 400. */
static bool events_read_parameters(const Request *request, bool *ret_details, KvParameters *ret, Error *err) {
        for (size_t i = 0; i < request->parameters.n; i++) {
                const HttpParameter *p = &request->parameters.items[i];

                if (streq(p->name, "details") && parse_bool(p->value, ret_details) >= 0)
                        continue;
                if (streq(p->name, "after") && parse_u64(p->value, &ret->after) >= 0) {
                        ret->has_after = true;
                        continue;
                }
                error_set(err, 400, "%.100s: expected details=BOOL, and with it after=INDEX", p->name);
                return false;
        }
        if (ret->has_after && !*ret_details) {
                error_set(err, 400, "after: only with details=true");
                return false;
        }
        return true;
}

unsigned events_handle(Request *request, Error *err) {
        static const char prefix[] = "/_fleet";
        KvParameters parameters = { .prefix = { prefix, sizeof(prefix) - 1 },
                                    .progress = KV_PROGRESS_DEFAULT_S };
        bool details = false;
        RegistryObserver *observer;

        if (!events_read_parameters(request, &details, &parameters, err))
                return 400;
        if (details) {
                kv_changes_begin(request, &parameters, details_line, true);
                return 0;
        }
        observer = NEW0(RegistryObserver, 1);
        if (!observer)
                return error_set(err, 500, "out of memory");
        *observer = (RegistryObserver) { .on_change = events_on_change, .userdata = request };
        request->state = observer;
        request->on_end = events_on_end;
        registry_observe(request->api->host->registry, observer);
        request_begin(request, "application/x-ndjson", NULL);
        events_write(request, request_cluster(request)->index, NULL, NULL, NULL);
        return 0;
}
