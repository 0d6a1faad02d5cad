/* /fleet/v1/units/NAME/move: PUT moves a unit to another machine, DELETE ends that, GET reports it.
 * fleetd/engine/move_end.c has how a move ends. */

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/explain.h"
#include "fleetd/engine/move_request.h"
#include "units/json_record.h"

enum {
        MOVES_MAX = 100,
        FOLLOWERS_MAX = 100,
        MOVE_WAITS_MS = 60000, /* a move that waits for longer is a problem */
};

/* Return the unit of the path; NULL: there is none, for status 404. */
const ClusterUnit *request_unit_of(const Request *request, Error *err) {
        size_t size = strcspn(request->rest, "/");
        char name[UNIT_NAME_MAX + 1] = "";
        const ClusterUnit *u;

        if (size < sizeof(name))
                memcpy(name, request->rest, size);
        u = cluster_any_unit(request_cluster(request), name);
        if (cluster_unit_exists(u))
                return u;
        error_set(err, 404, "unit does not exist");
        return NULL;
}

/* -- GET -- */

/* Write which data the unit has on its machine, and stays with. */
static void move_write_data(Text *t, const Cluster *c, const ClusterUnit *u) {
        const char *id = u->sticky ? cluster_data_machine(u) : NULL;
        char text[DATA_TEXT_SIZE];

        if (!id)
                return;
        json_add_string(t, "data", cluster_data_text(c, u, text));
        json_add_string(t, "dataMachine", cluster_name_of(c, id));
}

/* Write as "followers" the units that leave the machine after this one. */
static void move_write_followers(Text *t, const ClusterUnit *u, const ClusterMachine *from) {
        _cleanup_names_ Names leaving = {};
        size_t list;

        if (move_request_with_followers(u, from, 1 + FOLLOWERS_MAX, &leaving) < 0)
                t->error = -ENOMEM;
        list = json_open_list(t, "followers");
        for (size_t i = 1; i < leaving.n; i++)
                json_add_string(t, NULL, leaving.items[i]);
        json_close_list(t, list);
}

unsigned move_get_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = request_unit_of(request, err);
        const ClusterMachine *where = NULL;
        const ClusterAssignment *from;
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};
        Error why = {};

        if (!u)
                return 404;
        if (scheduler_view_new(c, c->now_ms, &view) < 0)
                return error_set(err, 500, "out of memory");
        (void) cluster_current_state(c, u, &where);
        json_open(&t, NULL, '{');
        if (u->move) {
                DrainedUnit now = engine_explain_move(view, u, request_is_braked(request), &why);

                from = engine_move_from(u);
                json_add_string(&t, "by", u->move->by);
                move_write_data(&t, c, u);
                if (from)
                        move_write_followers(&t, u, from->machine);
                json_add_string(&t, "from", from ? cluster_machine_name(from->machine) : NULL);
                json_add_string(&t, "id", u->move->to);
                json_add_string(&t, "machine", cluster_name_of(c, u->move->to));
                json_add_string(&t, "name", u->name);
                json_add_string(&t, "reason", why.message);
                json_add_u64(&t, "since", u->move->since_ms);
                json_add_string(&t, "state", drained_unit_to_string(now));
        } else {
                move_write_data(&t, c, u);
                json_add_string(&t, "id", where ? where->id : NULL);
                json_add_string(&t, "machine", where ? cluster_machine_name(where) : NULL);
                json_add_string(&t, "name", u->name);
                json_add_string(&t, "state", "none");
        }
        json_close(&t, '}');
        scheduler_view_free(view);
        return request_answer_json(request, 200, &t);
}

static const ClusterUnit *moves_next(const ClusterUnit *u, uint64_t wall_ms) {
        while (u && u->move->since_ms + MOVE_WAITS_MS > wall_ms)
                u = LIST_NEXT(u, lists[CLUSTER_MOVING]);
        return u;
}

void moves_write(Text *t, const Request *request) {
        const Cluster *c = request_cluster(request);
        uint64_t wall_ms = loop_wall_ms(request->api->loop);
        bool braked = request_is_braked(request);
        const ClusterUnit *u = moves_next(LIST_FIRST(&c->lists[CLUSTER_MOVING]), wall_ms);
        SchedulerView *view = NULL; /* it costs a pass over all units: made for the first move */
        size_t n = 0, list = json_open_list(t, "moves");

        if (u && scheduler_view_new(c, c->now_ms, &view) < 0)
                t->error = -ENOMEM;
        while (view && u && n < MOVES_MAX && scheduler_view_work(view) <= EXPLAIN_WORK_MAX) {
                Error why = {};

                if (engine_explain_move(view, u, braked, &why) == DRAINED_UNIT_WAITS) {
                        n++;
                        json_open(t, NULL, '{');
                        json_add_string(t, "machine", cluster_name_of(c, u->move->to));
                        json_add_string(t, "name", u->name);
                        json_add_string(t, "reason", why.message);
                        json_close(t, '}');
                }
                u = moves_next(LIST_NEXT(u, lists[CLUSTER_MOVING]), wall_ms);
        }
        json_close_list(t, list);
        scheduler_view_free(view);
}

/* -- PUT -- */

typedef struct MoveBody {
        char machine[MACHINE_ID_SIZE]; /* "": the best other one */
        char from[MACHINE_ID_SIZE];    /* the only machine that it may leave; "": any */
        bool force;
} MoveBody;

static const JsonField move_body_fields[] = {
        { "force", JSON_FIELD_BOOL, offsetof(MoveBody, force) },
        { "from", JSON_FIELD_CHARS, offsetof(MoveBody, from), .size = MACHINE_ID_SIZE },
        { "machine", JSON_FIELD_CHARS, offsetof(MoveBody, machine), .size = MACHINE_ID_SIZE },
};

static unsigned move_put(Request *request, const ClusterUnit *u, const ClusterMachine *to, bool force) {
        MoveRecord move = { .since_ms = loop_wall_ms(request->api->loop),
                            .force = force && request_cluster(request)->level >= KV_LEVEL_SCHEDULING };

        memcpy(move.to, to->id, sizeof(move.to));
        snprintf(move.by, sizeof(move.by), "%s", request_user(request));
        return change_sent(request, "the move of the unit",
                           registry_move(request_registry(request), u, &move, change_on_decided, request));
}

static unsigned move_stop(Request *request, const ClusterUnit *u, const char *why) {
        const Cluster *c = request_cluster(request);
        MoveEnd end = { .unit = u };

        verdict_set(&end.result, VERDICT_MOVE_ENDED, "%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s",
                    cluster_name_of(c, u->move->to), u->name, why);
        return change_sent(request, "the move of the unit",
                           registry_end_moves(request_registry(request), 0, &end, 1, request_user(request),
                                              change_on_decided, request));
}

/* Return whether the unit is not on the machine that the request names, or moves elsewhere by another one. */
static bool move_has_left(const Cluster *c, const ClusterUnit *u, const MoveBody *body, Error *ret) {
        const ClusterAssignment *a = cluster_assignment_on(cluster_machine(c, body->from), u->name);

        if (!body->from[0] || (!u->move && a && cluster_assignment_is_active(a)))
                return false;
        error_set(ret, 0, "%s %s", u->move ? "it moves to" : "it is no longer on",
                  cluster_name_of(c, u->move ? u->move->to : body->from));
        return true;
}

unsigned move_put_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = request_unit_of(request, err);
        const ClusterMachine *to = NULL, *m;
        const ClusterAssignment *there;
        MoveBody body = {};
        int r;

        if (!u)
                return 404;
        r = json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(move_body_fields),
                             &body, sizeof(body), err);
        if (r < 0)
                return request_body_refused(r, err);
        m = cluster_machine(c, body.machine);
        there = m ? cluster_assignment_on(m, u->name) : NULL;
        if (body.machine[0] && (!m || cluster_machine_is_removed(m)))
                return error_set(err, 404, "machine does not exist");
        if (request_is_below(request, KV_LEVEL_UPDATES, "move requires", err) ||
            move_request_is_refused(c, u, err))
                return 409;
        if (u->move && (!m || streq(m->id, u->move->to)) && (!u->sticky || u->move->force || !body.force))
                return request_answer(request, 204, NULL, NULL, "", 0); /* it moves there already */
        if (move_has_left(c, u, &body, err))
                return 409;
        if (there && cluster_assignment_is_active(there))
                return u->move ? move_stop(request, u, "it stays") :
                                 request_answer(request, 204, NULL, NULL, "", 0);
        return move_request_decide(c, u, m, body.force, &to, err) ? move_put(request, u, to, body.force) :
                                                                    409;
}

/* -- DELETE -- */

unsigned move_delete_handle(Request *request, Error *err) {
        const ClusterUnit *u = request_unit_of(request, err);

        if (!u)
                return 404;
        if (cluster_unit_is_unreadable(u))
                return error_set(err, 409, "%s", CLUSTER_UNREADABLE);
        if (!u->move)
                return request_answer(request, 204, NULL, NULL, "", 0);
        return move_stop(request, u, "cancelled");
}
