/* A toy: a feature as small as one can be, with a kind of key, routes, a problem, a controller and a duty.
 *
 * The cluster may have a toy, a text. While that is "busy", no host starts a unit; after 2 s, the leader
 * takes it away. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/controller.h"
#include "fleetd/problems/problems.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/transaction.h"

enum { TOY_SIZE = 32, TOY_BUSY_MS = 2000 };

static const char toy_busy[] = "busy";

/* {"since","text"} */
typedef struct ToyRecord {
        uint64_t since_ms; /* cluster time */
        char text[TOY_SIZE];
} ToyRecord;

static const JsonField toy_fields[] = {
        { "since", JSON_FIELD_U64, offsetof(ToyRecord, since_ms) },
        { "text", JSON_FIELD_CHARS, offsetof(ToyRecord, text), true, .size = TOY_SIZE },
};

static const JsonRecord toy_record = { JSON_FIELDS(toy_fields), sizeof(ToyRecord) };

KIND(toy, "cluster/toy", "toy", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_FIRST, SLICE_ALL,
     { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, kind_ends, .record = &toy_record, .shown = toy_fields,
     .n_shown = ELEMENTS(toy_fields));

static bool toy_is_busy(const Cluster *c) {
        return c->toy && streq(c->toy->text, toy_busy);
}

/* -- /fleet/v1/toy -- */

static unsigned toy_get_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        Verdict why = { .code = toy_is_busy(c) ? VERDICT_TOY_BUSY : VERDICT_NONE };
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_write_fields(&t, JSON_FIELDS(toy_fields), c->toy ?: &(ToyRecord) {});
        verdict_add_message(&t, "why", &why);
        json_close(&t, '}');
        return request_answer_json(request, 200, &t);
}

static unsigned toy_put_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        _cleanup_transaction_ Transaction t = {};
        ToyRecord toy = {};
        int r;

        r = json_record_read(&toy_record, request->http->body, request->http->body_size, &toy, err);
        if (r < 0)
                return request_body_refused(r, err);
        toy.since_ms = c->now_ms;
        transaction_check_index(&t, c->toy_index, LAYOUT_TOY, NULL, NULL);
        transaction_put(&t, LAYOUT_TOY, NULL, NULL, &toy);
        return change_sent(request, "the toy",
                           transaction_send(request_registry(request), &t, 0, change_on_done, request));
}

static const Route toy_routes[] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/toy", RIGHT_UNITS_SEE, AT_VIEW, toy_get_handle },
        { ROUTE_FLEET, "PUT", "/fleet/v1/toy", RIGHT_ADMINISTER, AT_VIEW, toy_put_handle },
};

static bool toy_find_busy(ProblemSearch *s, const ProblemRow *row) {
        Verdict why = { .code = VERDICT_TOY_BUSY };

        if (!toy_is_busy(s->cluster))
                return false;
        verdict_append(&s->what, &why);
        s->subject = "toy";
        return problems_add(s, row, ", for 2 s");
}

static const ProblemRow toy_problems[] = {
        { "toy", SEVERITY_INFO, RIGHT_UNITS_SEE, ABOUT_CLUSTER, toy_find_busy, "toy idle" },
        {},
};

/* -- The leader -- */

static int toy_control(Control *control) {
        const Cluster *c = registry_cluster(control->registry);
        _cleanup_transaction_ Transaction t = {};
        uint64_t end_ms = toy_is_busy(c) ? c->toy->since_ms + TOY_BUSY_MS : UINT64_MAX;
        int r;

        if (end_ms > c->now_ms) {
                control->again_ms = end_ms < UINT64_MAX ? end_ms - c->now_ms : UINT64_MAX;
                return 0;
        }
        transaction_check_index(&t, c->toy_index, LAYOUT_TOY, NULL, NULL);
        transaction_delete(&t, LAYOUT_TOY, NULL, NULL);
        r = transaction_send(control->registry, &t, control->term, control->done, control->userdata);
        return r < 0 ? r : 1;
}

static const Controller toy_controller = { "toy", toy_control };

/* -- Each host -- */

static int toy_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        *ret = host->registry; /* no more is needed */
        return 0;
}

static void *toy_close(void *self) {
        return NULL;
}

static int toy_prepare(void *self, const char *unit) {
        return toy_is_busy(registry_cluster(self)) ? -EAGAIN : 0;
}

static const Duty toy_duty = { .prepare = toy_prepare };

const Component toy_component = { "toy",
                                  toy_open,
                                  toy_close,
                                  .duty = &toy_duty,
                                  .routes = toy_routes,
                                  .n_routes = ELEMENTS(toy_routes),
                                  .controller = &toy_controller,
                                  .problems = toy_problems };
