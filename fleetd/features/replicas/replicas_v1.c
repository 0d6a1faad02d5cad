/* /fleet/v1/units/NAME/replicas: GET reports the number of instances of a template, PUT sets it, DELETE
 * returns to that of the text. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/features/replicas/replicas.h"
#include "fleetd/registry/unit_order.h"

static void replicas_write_list(Text *t, const char *name, const Names *names) {
        size_t list = json_open_list(t, name);

        for (size_t i = 0; i < names->n; i++)
                json_add_string(t, NULL, names->items[i]);
        json_close_list(t, list);
}

/* The numbers of slots that exist and that are still to be removed, and the names of those that are missing
 * or have a text of their own. */
static void replicas_write_slots(Text *t, const Cluster *c, const ClusterUnit *head, int wanted) {
        _cleanup_names_ Names missing = {}, apart = {};
        char name[UNIT_NAME_MAX + 1];
        uint64_t exist = 0, to_stop = 0;
        ReplicasStep step;

        for (int i = 1; i <= MAX(wanted, head->replicas ? (int) head->replicas->slots : 0); i++) {
                const ClusterUnit *u = NULL;
                Names *list = NULL;

                if (replicas_slot(head->name, (unsigned) i, name))
                        u = cluster_any_unit(c, name);
                if (replicas_follows(u, head)) {
                        exist += i <= wanted;
                        to_stop += i > wanted;
                } else if (i <= wanted)
                        list = cluster_unit_exists(u) ? &apart : &missing;
                if (list && names_add(list, name, strlen(name)) < 0)
                        t->error = -ENOMEM;
        }
        replicas_step(head, c, &step);
        replicas_write_list(t, "apart", &apart);
        json_add_u64(t, "due", step.n);
        json_add_u64(t, "exist", exist);
        replicas_write_list(t, "missing", &missing);
        json_add_u64(t, "surplus", to_stop);
}

static void replicas_write(Text *t, const Request *request, const ClusterUnit *head) {
        const ReplicasRecord *r = head->replicas;
        int wanted = cluster_replicas(head), file = head->unit->placement.replicas;
        bool scaled = r && r->is_scaled && r->file == (uint64_t) file;

        json_begin(t, "count");
        text_printf(t, "%d", wanted);
        json_begin(t, "file");
        text_printf(t, "%d", file);
        json_add_string(t, "name", head->name);
        if (scaled) {
                json_add_string(t, "scaledBy", r->by);
                json_add_u64(t, "scaledSince", r->since_ms);
        }
        replicas_write_slots(t, request_cluster(request), head, wanted);
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
