/* /fleet/v1/events: a line for each change of the registry, so that clients do not poll. With details, a line
 * has the values before and after, with their reasons, from the beginning of the event window on. */
#include <errno.h>
#include <stdio.h>

#include "base/parse.h"
#include "fleetd/api/kv_v1.h"
#include "fleetd/registry/layout.h"
#include "units/revision.h"
#include "units/stored_json.h"

static const char *const kinds[] = {
        [CHANGED_ALL] = "all",           [CHANGED_UNIT] = "unit",       [CHANGED_TARGET] = "target",
        [CHANGED_ASSIGNMENT] = "order",  [CHANGED_STATE] = "state",     [CHANGED_MACHINE] = "machine",
        [CHANGED_PRESENCE] = "presence", [CHANGED_PROBLEM] = "problem", [CHANGED_CLUSTER] = "cluster",
        [CHANGED_REVISION] = "revision", [CHANGED_ROLLOUT] = "rollout", [CHANGED_MOVE] = "move",
};

static void events_on_end(Request *request) {
        registry_unobserve(request->api->options.registry, request->state);
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
        events_write(userdata, change->index, kinds[change->kind], change->unit, change->machine);
}

/* -- Events with details -- */

static void add_unit(Text *t, const LayoutKey *key, const KvNode *node) {
        _cleanup_unit_ Unit *unit = NULL;

        if (stored_unit_read(key->unit, node->value.data, node->value.size, &unit, NULL) < 0)
                return;
        json_add_string(t, "hash", unit->hash);
        json_add_string(t, "owner", unit->owner);
}

static void add_order(Text *t, const LayoutKey *key, const KvNode *node) {
        _cleanup_assignment_ Assignment order = {};

        if (stored_assignment_read(node->value.data, node->value.size, &order, NULL) < 0)
                return;
        json_add_string(t, "order", assignment_kind_to_string(order.kind));
        json_add_string(t, "reason", order.reason);
        json_add_u64(t, "term", order.term);
}

static void add_state(Text *t, const LayoutKey *key, const KvNode *node) {
        _cleanup_unit_state_ UnitState state = {};

        if (stored_state_read(node->value.data, node->value.size, &state, NULL) < 0)
                return;
        json_add_string(t, "active", state.active);
        json_add_bool(t, "finished", state.done);
        json_add_string(t, "load", state.load);
        json_add_u64(t, "since", state.since_ms);
        json_add_string(t, "sub", state.sub);
}

static void add_presence(Text *t, const LayoutKey *key, const KvNode *node) {
        PresenceRecord presence;

        if (stored_presence_read(node->value.data, node->value.size, &presence, NULL) < 0)
                return;
        json_add_string(t, "presence", presence_to_string(presence.presence));
        verdict_add_message(t, "reason", &presence.verdict);
}

static void add_problem(Text *t, const LayoutKey *key, const KvNode *node) {
        _cleanup_problem_ Problem problem = {};

        if (stored_problem_read(node->value.data, node->value.size, &problem, NULL) < 0)
                return;
        json_add_bool(t, "confirmed", problem.confirmed);
        json_add_string(t, "problem", problem_kind_to_string(problem.kind));
        json_add_string(t, "reason", problem.text);
}

static void add_facts(Text *t, const LayoutKey *key, const KvNode *node) {
        _cleanup_machine_ Machine facts = {};

        if (stored_facts_read(node->value.data, node->value.size, &facts, NULL) < 0)
                return;
        json_add_string(t, "hostname", facts.name);
        json_add_string(t, "version", facts.version);
}

static void add_text(Text *t, const LayoutKey *key, const KvNode *node) {
        _cleanup_free_ char *value = strndup(node->value.data ?: "", node->value.size);

        json_add_string(t, "value", value);
}

/* One row per kind of event. fleet-api(7) documents the same names. */
static const struct {
        const char *kind;
        void (*add)(Text *t, const LayoutKey *key,
                    const KvNode *node); /* NULL: the fact of the change only */
} detail_kinds[_LAYOUT_MAX] = {
        [LAYOUT_UNIT] = { "unit", add_unit },
        [LAYOUT_TARGET] = { "target", add_text },
        [LAYOUT_REVISION] = { "revision", NULL },
        [LAYOUT_ROLLOUT] = { "rollout", NULL },
        [LAYOUT_FACTS] = { "machine", add_facts },
        [LAYOUT_ASSIGNMENT] = { "order", add_order },
        [LAYOUT_METADATA] = { "metadata", add_text },
        [LAYOUT_PRESENCE] = { "presence", add_presence },
        [LAYOUT_STATE] = { "state", add_state },
        [LAYOUT_PROBLEM] = { "problem", add_problem },
        [LAYOUT_REPORTED] = { "reported", NULL },
        [LAYOUT_MEMBER] = { "member", NULL },
        [LAYOUT_CLUSTER] = { "cluster", NULL },
        [LAYOUT_MAINTENANCE] = { "maintenance", NULL },
        [LAYOUT_MOVE] = { "move", NULL },
        [LAYOUT_REBOOT] = { "reboot", NULL },
        [LAYOUT_HOST] = { "host", NULL },
        [LAYOUT_REMOVED] = { "removed", NULL },
        [LAYOUT_DENIED] = { "denied", NULL },
        [LAYOUT_TOKEN] = { "token", NULL },
        [LAYOUT_PRINCIPAL] = { "principal", NULL },
        [LAYOUT_LINEAGE] = { "lineage", NULL },
        [LAYOUT_CA_ROOTS] = { "ca", NULL },
        [LAYOUT_CA_KEY] = { "ca", NULL },
        [LAYOUT_CA_ROTATION] = { "ca", NULL },
        [LAYOUT_SETTINGS] = { "settings", NULL },
};

static int details_line(KvWatchEvent *event, Shared **ret) {
        const KvEvent *e = &event->event;
        bool gone = action_removes(e->action);
        _cleanup_text_ Text t = {};
        LayoutKey key;

        if (!layout_parse(e->node.key, &key) || e->node.dir)
                return 0;
        json_open(&t, NULL, '{');
        json_add_u64(&t, "index", e->index);
        json_add_string(&t, "kind", detail_kinds[key.kind].kind);
        if (key.kind != LAYOUT_REVISION)
                json_add_string(&t, "machine", key.machine);
        json_add_string(&t, "name", key.unit);
        json_add_bool(&t, "removed", gone);
        if (key.kind == LAYOUT_REVISION)
                json_add_u64(&t, "revision", revision_parse_number(key.machine));
        json_add_u64(&t, "time", e->now_ms);
        if (!gone && detail_kinds[key.kind].add)
                detail_kinds[key.kind].add(&t, &key, &e->node);
        if (e->has_prev) {
                json_open(&t, "was", '{');
                if (detail_kinds[key.kind].add)
                        detail_kinds[key.kind].add(&t, &key, &e->prev);
                json_close(&t, '}');
        }
        text_append(&t, "}\n");
        *ret = t.error == 0 ? shared_new(t.chars, t.size) : NULL;
        return *ret ? 1 : -ENOMEM;
}

/* Read "details" and "after", the only parameters. False: one is invalid, and the request is answered. */
static bool events_read_parameters(Request *request, bool *ret_details, KvParameters *ret) {
        for (size_t i = 0; i < request->parameters.n; i++) {
                const HttpParameter *p = &request->parameters.items[i];

                if (streq(p->name, "details") && parse_bool(p->value, ret_details) >= 0)
                        continue;
                if (streq(p->name, "after") && parse_u64(p->value, &ret->after) >= 0) {
                        ret->has_after = true;
                        continue;
                }
                request_error(request, 400, "%.100s: expected details=BOOL, and with it after=INDEX",
                              p->name);
                return false;
        }
        if (ret->has_after && !*ret_details) {
                request_error(request, 400, "after: only with details=true");
                return false;
        }
        return true;
}

void events_handle(Request *request) {
        static const char prefix[] = "/_fleet";
        KvParameters parameters = { .prefix = { prefix, sizeof(prefix) - 1 },
                                    .progress = KV_PROGRESS_DEFAULT_S };
        bool details = false;
        RegistryObserver *observer;

        if (!events_read_parameters(request, &details, &parameters))
                return;
        if (details) {
                kv_changes_begin(request, &parameters, details_line, true);
                return;
        }
        observer = NEW0(RegistryObserver, 1);
        if (!observer) {
                request_error(request, 500, "out of memory");
                return;
        }
        *observer = (RegistryObserver) { .on_change = events_on_change, .userdata = request };
        request->state = observer;
        request->on_end = events_on_end;
        registry_observe(request->api->options.registry, observer);
        request_begin(request, "application/x-ndjson", NULL);
        events_write(request, registry_cluster(request->api->options.registry)->index, NULL, NULL, NULL);
}
