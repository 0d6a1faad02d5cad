#include "fleetd/features/data/data.h"

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/controller.h"
#include "fleetd/registry/data.h"
#include "fleetd/registry/unit_order.h"

static void data_record_moved(Transaction *t, const Cluster *c) {
        const ClusterUnit *u;

        LIST_FOREACH(u, &c->lists[CLUSTER_DATA_MOVED], lists[CLUSTER_DATA_MOVED]) {
                DataRecord data = { .since_ms = c->now_ms };

                if (t->n_writes == DATA_STEP_MAX)
                        return;
                memcpy(data.machine, cluster_unit_up(u)->machine->id, sizeof(data.machine));
                transaction_check_index(t, u->data_index, LAYOUT_DATA, u->name, NULL);
                transaction_put(t, LAYOUT_DATA, u->name, NULL, &data);
        }
}

/* Delete the oldest records of units that do not exist. */
static void data_trim(Transaction *t, const Cluster *c) {
        size_t n = c->n_listed[CLUSTER_DATA_LEFT], surplus = n - MIN(n, (size_t) DATA_LEFT_MAX);
        const ClusterUnit *u, *oldest = NULL;

        for (uint64_t last = 0; surplus > 0 && t->n_writes < DATA_STEP_MAX;
             surplus--, last = oldest->data_index) {
                oldest = NULL;
                LIST_FOREACH(u, &c->lists[CLUSTER_DATA_LEFT], lists[CLUSTER_DATA_LEFT])
                        if (u->data_index > last && (!oldest || u->data_index < oldest->data_index))
                                oldest = u;
                if (!oldest) /* written by one transaction: the next pass has the rest */
                        return;
                transaction_check_index(t, oldest->data_index, LAYOUT_DATA, oldest->name, NULL);
                transaction_delete(t, LAYOUT_DATA, oldest->name, NULL);
        }
}

void data_step(Transaction *t, const Cluster *c) {
        if (c->adopting)
                return;
        data_record_moved(t, c);
        data_trim(t, c);
}

static int data_control(Control *control) {
        _cleanup_transaction_ Transaction t = {};
        int r;

        data_step(&t, registry_cluster(control->registry));
        if (t.n_writes == 0)
                return t.error;
        r = transaction_send(control->registry, &t, control->term, control->done, control->userdata);
        return r < 0 ? r : 1;
}

static const Controller data_controller = { "data", data_control };

/* -- The API -- */

enum { LOOKED_AT_MAX = 10000 }; /* units, for a page: about 10 ms */

/* Write what people should know: of a unit with data, or with a path of the host. */
static void data_write_why(Text *t, const Request *request, const ClusterUnit *u) {
        Verdict note;

        if (!cluster_data_note(request_cluster(request), u, &note))
                return;
        json_open(t, "data", '{');
        json_add_string(t, "code", verdict_name(&note));
        verdict_add_message(t, "reason", &note);
        json_close(t, '}');
}

/* Return whether the unit has a record or a note, and its data is on the machine, if one is named; then write
 * it. */
static bool data_write_unit(Text *t, const Request *request, const ClusterUnit *u, const char *machine) {
        const Cluster *c = request_cluster(request);
        const char *id = u->data || u->sticky ? cluster_data_machine(u) : NULL;
        Verdict note = {};

        if ((*machine && !(id && streq(id, machine))) || (!cluster_data_note(c, u, &note) && !id))
                return false;
        json_open(t, NULL, '{');
        json_add_string(t, "code", verdict_name(&note));
        json_add_bool(t, "exists", cluster_unit_exists(u));
        json_add_string(t, "machine", id ? cluster_name_of(c, id) : NULL);
        json_add_string(t, "machineID", id);
        json_add_string(t, "name", u->name);
        verdict_add_message(t, "note", &note);
        json_add_u64(t, "since", u->data ? u->data->since_ms : 0);
        json_add_bool(t, "sticky", u->sticky);
        json_close(t, '}');
        return true;
}

static unsigned data_get_handle(Request *request, Error *err) {
        const char *unit = request_parameter(request, "unit") ?: "",
                   *machine = request_parameter(request, "machine") ?: "";
        const Cluster *c = request_cluster(request);
        _cleanup_text_ Text t = {};
        UnitPosition at = {};
        const ClusterUnit *u = NULL;
        size_t n = 0, left, written;
        Page page;

        if (!page_of(request, &page, err))
                return 400;
        json_open(&t, NULL, '{');
        json_open(&t, "units", '[');
        left = unit_name_is_template(unit) ?
                       unit_order_instances(&c->by_name, unit, &at) :
                       unit_order_prefix(&c->by_name, unit, *unit ? strlen(unit) + 1 : 0, &at);
        if (page.after[0] && !*unit) {
                unit_order_seek(&c->by_name, page.after, &at);
                page.skip = 0;
                left = SIZE_MAX;
        }
        for (; left > 0 && (u = unit_order_next(&c->by_name, &at)) && page_wants(&page); left--) {
                if (page_skips(&page))
                        continue;
                page_add(&page, u->name, NULL);
                written = data_write_unit(&t, request, u, machine);
                page.first += !written; /* the next page is after it as well */
                page.n -= !written;
                page.full = ++n == LOOKED_AT_MAX;
        }
        json_close(&t, ']');
        json_add_string(&t, "nextPageToken", page_next(&page, left > 0 && u));
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

static const Route data_routes[] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/data", RIGHT_UNITS_SEE, AT_VIEW, data_get_handle },
};

const Component data_component = { "data", .routes = data_routes, .n_routes = ELEMENTS(data_routes),
                                   .write_why = data_write_why, .controller = &data_controller };
