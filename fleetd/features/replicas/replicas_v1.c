/* /fleet/v1/units/NAME/replicas: GET reports the number of instances of a template, PUT sets it, DELETE
 * returns to that of the text. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/plan.h"
#include "fleetd/features/replicas/replicas.h"
#include "fleetd/registry/unit_order.h"

static bool replicas_runs(const ClusterUnit *u) {
        const ClusterAssignment *o;

        LIST_FOREACH(o, &u->assignments, of_unit)
                if (o->kind == ASSIGNMENT_RUN && plan_is_healthy(o))
                        return true;
        return false;
}

/* Write the names of the slots that do not follow the template. Return the number of those that do, and
 * run. */
static uint64_t replicas_write_apart(Text *t, const Cluster *c, const ClusterUnit *head, unsigned slots) {
        size_t list = json_open_list(t, "apart");
        char name[UNIT_NAME_MAX + 1];
        uint64_t n = 0;

        for (unsigned i = 1; i <= slots; i++) {
                const ClusterUnit *u = replicas_slot(head->name, i, name) ? cluster_any_unit(c, name) : NULL;

                if (cluster_unit_exists(u) && replicas_follows(u, head))
                        n += replicas_runs(u);
                else if (cluster_unit_exists(u))
                        json_add_string(t, NULL, name);
        }
        json_close_list(t, list);
        return n;
}

/* Write the names of followers above the highest slot: people have started them. */
static void replicas_write_above(Text *t, const Cluster *c, const ClusterUnit *head, unsigned highest) {
        size_t list = json_open_list(t, "above");
        UnitPosition at = {};

        for (size_t n = unit_order_instances(&c->by_name, head->name, &at); n > 0; n--) {
                const ClusterUnit *u = unit_order_next(&c->by_name, &at);

                if (replicas_follows(u, head) && replicas_number(head->name, u->name) > highest)
                        json_add_string(t, NULL, u->name);
        }
        json_close_list(t, list);
}

static void replicas_write(Text *t, const Request *request, const ClusterUnit *head) {
        const ReplicasRecord *r = head->replicas;
        const Cluster *c = request_cluster(request);
        unsigned n = (unsigned) cluster_replicas(head);
        int file = head->unit->placement.replicas;
        ReplicasStep step;
        uint64_t running;

        json_begin(t, "count");
        text_printf(t, "%u", n);
        json_add_string(t, "desiredState", target_state_to_string(head->target));
        json_begin(t, "file");
        text_printf(t, "%d", file);
        json_add_string(t, "name", head->name);
        if (r && r->is_scaled && r->file == (uint64_t) file) {
                json_add_string(t, "scaledBy", r->by);
                json_add_u64(t, "scaledSince", r->since_ms);
        }
        replicas_write_above(t, c, head, MAX(n, r ? (unsigned) r->slots : 0));
        running = replicas_write_apart(t, c, head, n);
        replicas_step(head, c, &step);
        json_add_u64(t, "due", step.n);
        json_add_u64(t, "running", running);
}

/* Write "replicas": the number, and which slots are missing or have texts of their own. Nothing for a
 * template without Replicas=. */
static void replicas_write_why(Text *t, const Request *request, const ClusterUnit *u) {
        if (cluster_replicas(u) < 0 || cluster_unit_is_unreadable(u))
                return;
        json_open(t, "replicas", '{');
        replicas_write(t, request, u);
        json_close(t, '}');
}

/* Return the template with Replicas= of the request, or NULL, with the status to answer. */
static const ClusterUnit *replicas_of(const Request *request, unsigned *ret_status, Error *err) {
        const ClusterUnit *u = request_unit_of(request, err);

        *ret_status = 409;
        if (!u)
                *ret_status = 404;
        else if (cluster_unit_is_unreadable(u))
                error_set(err, 409, "%s", CLUSTER_UNREADABLE);
        else if (cluster_replicas(u) < 0)
                error_set(err, 409, "%s has no Replicas=: write it into the file of a template", u->name);
        else if (!request_is_below(request, KV_LEVEL_SCHEDULING, "scale requires", err))
                return u;
        return NULL;
}

static unsigned replicas_get_handle(Request *request, Error *err) {
        unsigned status;
        const ClusterUnit *u = replicas_of(request, &status, err);
        _cleanup_text_ Text t = {};

        if (!u)
                return status;
        json_open(&t, NULL, '{');
        replicas_write(&t, request, u);
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

static unsigned replicas_send(Request *request, const ClusterUnit *u, const ReplicasRecord *record) {
        return change_sent(request, "the number of instances",
                           registry_scale(request_registry(request), u, record, request_user(request),
                                          change_on_decided, request));
}

static unsigned replicas_put_handle(Request *request, Error *err) {
        static const JsonField fields[] = { { "count", JSON_FIELD_U64, offsetof(ReplicasRecord, count) } };
        unsigned status;
        const ClusterUnit *u = replicas_of(request, &status, err);
        ReplicasRecord record = { .count = UINT64_MAX };
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        if (!u)
                return status;
        r = json_value_parse(request->http->body, request->http->body_size, &root, err);
        if (r >= 0)
                r = json_read_fields(root, JSON_FIELDS(fields), &record, err);
        if (r >= 0 && record.count > UNIT_REPLICAS_MAX)
                r = error_set(err, -EINVAL, "count: expected a number from 0 to %d", UNIT_REPLICAS_MAX);
        if (r >= 0)
                r = unit_check_replicas(u->unit, (unsigned) record.count, err);
        if (r < 0)
                return request_body_refused(r, err);
        record.is_scaled = true;
        record.file = (uint64_t) u->unit->placement.replicas;
        record.since_ms = loop_wall_ms(request->api->loop);
        record.slots = u->replicas ? u->replicas->slots : 0;
        snprintf(record.by, sizeof(record.by), "%s", request_user(request));
        return replicas_send(request, u, &record);
}

static unsigned replicas_delete_handle(Request *request, Error *err) {
        unsigned status;
        const ClusterUnit *u = replicas_of(request, &status, err);

        if (!u)
                return status;
        if (!u->replicas || !u->replicas->is_scaled)
                return request_answer(request, 204, NULL, NULL, "", 0);
        return replicas_send(request, u, &(ReplicasRecord) { .slots = u->replicas->slots });
}

static const Route replicas_routes[] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/units/*/replicas", RIGHT_UNITS_SEE, AT_VIEW, replicas_get_handle },
        { ROUTE_FLEET, "PUT", "/fleet/v1/units/*/replicas", RIGHT_UNITS_CHANGE, AT_VIEW,
          replicas_put_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/units/*/replicas", RIGHT_UNITS_CHANGE, AT_VIEW,
          replicas_delete_handle },
};

const Component replicas_component = { "replicas",
                                       replicas_open,
                                       replicas_close,
                                       .routes = replicas_routes,
                                       .n_routes = ELEMENTS(replicas_routes),
                                       .write_why = replicas_write_why,
                                       .controller = &replicas_controller };
