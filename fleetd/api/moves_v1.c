/* /fleet/v1/units/NAME/move: PUT moves a unit to another machine, DELETE ends that, GET reports it.
 * fleetd/engine/move_end.c has how a move ends. */
#include <errno.h>
#include <stdio.h>

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/explain.h"
#include "fleetd/engine/move_request.h"
#include "units/json_record.h"

enum {
        MOVES_MAX = 100,
        FOLLOWERS_MAX = 100,
        MOVE_WAITS_MS = 60000, /* a move that waits for longer is a problem */
};

/* Return the unit of the path; NULL: there is none, and the request is answered. */
static const ClusterUnit *move_unit_of(Request *request) {
        size_t size = strcspn(request->rest, "/");
        char name[UNIT_NAME_MAX + 1] = "";
        const ClusterUnit *u;

        if (size < sizeof(name))
                memcpy(name, request->rest, size);
        u = cluster_any_unit(request_cluster(request), name);
        if (cluster_unit_exists(u))
                return u;
        request_error(request, 404, "unit does not exist");
        return NULL;
}

/* -- GET -- */

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

void move_get_handle(Request *request) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = move_unit_of(request);
        const ClusterMachine *where = NULL;
        const ClusterAssignment *from;
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};
        Error why = {};

        if (!u)
                return;
        if (scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        (void) cluster_current_state(c, u, &where);
        json_open(&t, NULL, '{');
        if (u->move) {
                DrainedUnit now = engine_explain_move(view, u, request_is_braked(request), &why);

                from = engine_move_from(u);
                json_add_string(&t, "by", u->move->by);
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
                json_add_string(&t, "id", where ? where->id : NULL);
                json_add_string(&t, "machine", where ? cluster_machine_name(where) : NULL);
                json_add_string(&t, "name", u->name);
                json_add_string(&t, "state", "none");
        }
        json_close(&t, '}');
        scheduler_view_free(view);
        request_answer_json(request, 200, &t);
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
        bool force;
} MoveBody;

static const JsonField move_body_fields[] = {
        { "force", JSON_FIELD_BOOL, offsetof(MoveBody, force) },
        { "machine", JSON_FIELD_CHARS, offsetof(MoveBody, machine), .size = MACHINE_ID_SIZE },
};

static void move_put(Request *request, const ClusterUnit *u, const ClusterMachine *to) {
        MoveRecord move = { .since_ms = loop_wall_ms(request->api->loop) };
        char user[RECORDED_BY_SIZE];

        memcpy(move.to, to->id, sizeof(move.to));
        snprintf(move.by, sizeof(move.by), "%s", request_user(request, user));
        change_sent(request, "the move of the unit",
                    registry_move(request_registry(request), u, &move, change_on_decided, request));
}

static void move_stop(Request *request, const ClusterUnit *u, const char *why) {
        const Cluster *c = request_cluster(request);
        MoveEnd end = { .unit = u };
        char user[RECORDED_BY_SIZE];

        verdict_set(&end.result, VERDICT_MOVE_ENDED, "%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s",
                    cluster_name_of(c, u->move->to), u->name, why);
        change_sent(request, "the move of the unit",
                    registry_end_moves(request_registry(request), 0, &end, 1, request_user(request, user),
                                       change_on_decided, request));
}

void move_put_handle(Request *request) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = move_unit_of(request);
        const ClusterMachine *to = NULL, *m;
        const ClusterAssignment *there;
        MoveBody body = {};
        Error err = {};
        int r;

        if (!u)
                return;
        r = json_read_record(request->http->body, request->http->body_size, JSON_FIELDS(move_body_fields),
                             &body, sizeof(body), &err);
        if (r < 0) {
                request_refuse_body(request, r, &err);
                return;
        }
        m = cluster_machine(c, body.machine);
        there = m ? cluster_assignment_on(m, u->name) : NULL;
        if (body.machine[0] && (!m || cluster_machine_is_removed(m)))
                request_error(request, 404, "machine does not exist");
        else if (request_is_below(request, KV_LEVEL_UPDATES, "move requires", &err) ||
                 move_request_is_refused(c, u, &err))
                request_error(request, 409, "%s", err.message);
        else if (u->move && (!m || streq(m->id, u->move->to)))
                request_answer(request, 204, NULL, NULL, "", 0); /* it moves there already */
        else if (there && cluster_assignment_is_active(there) && u->move)
                move_stop(request, u, "it stays");
        else if (there && cluster_assignment_is_active(there))
                request_answer(request, 204, NULL, NULL, "", 0);
        else if (move_request_decide(c, u, m, body.force, &to, &err))
                move_put(request, u, to);
        else
                request_error(request, 409, "%s", err.message);
}

/* -- DELETE -- */

void move_delete_handle(Request *request) {
        const ClusterUnit *u = move_unit_of(request);

        if (!u)
                return;
        if (cluster_unit_is_unreadable(u))
                request_error(request, 409, "%s", CLUSTER_UNREADABLE);
        else if (!u->move)
                request_answer(request, 204, NULL, NULL, "", 0);
        else
                move_stop(request, u, "cancelled");
}
