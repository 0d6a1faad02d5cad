/* /fleet/v1/units/NAME/move: PUT moves a unit to another machine, DELETE ends that, GET reports it.
 * fleetd/engine/move_end.c has how a move ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fleetd/api/fleet_v1.h"
#include "fleetd/engine/drain.h"
#include "fleetd/engine/rollout.h"
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
        u = cluster_any_unit(registry_cluster(request->api->options.registry), name);
        if (cluster_unit_exists(u))
                return u;
        request_error(request, 404, "unit does not exist");
        return NULL;
}

/* -- GET -- */

/* Return the assignment that the unit is to leave; NULL: none is left. */
static const ClusterAssignment *move_from(const ClusterUnit *u) {
        const ClusterAssignment *from = NULL;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (!streq(a->machine->id, u->move->to) && (!from || cluster_assignment_is_active(a)))
                        from = a;
        return from;
}

/* The unit is on no machine. */
static DrainedUnit move_state_nowhere(const Cluster *c, const ClusterUnit *u, Error *ret_why) {
        const ClusterAssignment *there = cluster_assignment(c, u->move->to, u->name);
        const ClusterMachine *to = cluster_machine(c, u->move->to);

        if (there && cluster_assignment_is_active(there)) {
                unit_explain_start(c, u, there->machine, ret_why);
                return DRAINED_UNIT_MOVES;
        }
        if (c->adopting)
                error_set(ret_why, 0, HELD_BY_ADOPTION);
        else if (to && to->presence != PRESENCE_UP)
                error_set(ret_why, 0, "%s is %s", cluster_machine_name(to), presence_to_string(to->presence));
        return ret_why->message[0] ? DRAINED_UNIT_WAITS : DRAINED_UNIT_QUEUED;
}

static DrainedUnit move_state(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                              Error *ret_why) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterAssignment *from = move_from(u);
        const ClusterMachine *to;
        const char *spared;
        DrainedUnit state;

        if (!from)
                return move_state_nowhere(c, u, ret_why);
        state = unit_drained(c, view, u, from->machine, &to, ret_why);
        if (state != DRAINED_UNIT_QUEUED || !u->unit)
                return state;
        spared = scheduler_move_spares(u, from->machine);
        if (spared)
                error_set(ret_why, 0, "%s", spared);
        else if (machine_is_held(c, request_is_braked(request, c), from->machine, ret_why))
                return DRAINED_UNIT_WAITS;
        else if (!placement_stops_first(&u->unit->placement) || rollout_may_stop(c, from, ret_why) != 0)
                return state;
        return DRAINED_UNIT_WAITS;
}

void move_reason_of(const Request *request, const SchedulerView *view, const ClusterUnit *u, Error *ret) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const char *to = cluster_name_of(c, u->move->to);
        const ClusterAssignment *from = move_from(u);
        Error why = {};

        switch (move_state(request, view, u, &why)) {
        case DRAINED_UNIT_MOVES:
                error_set(ret, 0, "moves to %s: it starts there", to);
                break;
        case DRAINED_UNIT_STOPS:
                error_set(ret, 0, "moves to %s: %s stops it first", to,
                          from ? cluster_machine_name(from->machine) : "");
                break;
        case DRAINED_UNIT_QUEUED:
                error_set(ret, 0, "moves to %s: queued", to);
                break;
        case DRAINED_UNIT_WAITS:
                error_set(ret, 0, "moves to %s: waiting: %s", to, why.message);
                break;
        }
}

/* Return whether an active assignment on the machine is to leave it after one of these units. */
static bool move_follows(const ClusterAssignment *a, const Names *leaving) {
        const Unit *unit = a->of ? a->of->unit : NULL;

        if (!unit || !cluster_assignment_is_active(a) || names_have(leaving, a->unit))
                return false;
        for (size_t i = 0; i < unit->placement.machine_of.n; i++)
                if (names_have(leaving, unit->placement.machine_of.items[i]))
                        return true;
        return false;
}

/* Write as "followers" the units that leave the machine after this one, by MachineOf= of it or of one of
 * them: by name, up to a limit. */
static void move_write_followers(Text *t, const ClusterUnit *u, const ClusterMachine *from) {
        _cleanup_names_ Names leaving = {};
        size_t before = 0;

        if (names_add(&leaving, u->name, strlen(u->name)) < 0)
                t->error = -ENOMEM;
        while (leaving.n > before) {
                before = leaving.n;
                for (const ClusterAssignment *a = from->assignments; a; a = a->hh.next)
                        if (leaving.n <= FOLLOWERS_MAX && move_follows(a, &leaving) &&
                            names_add(&leaving, a->unit, strlen(a->unit)) < 0)
                                t->error = -ENOMEM;
        }
        if (leaving.n <= 1)
                return;
        qsort(leaving.items + 1, leaving.n - 1, sizeof(*leaving.items), text_compare);
        json_open(t, "followers", '[');
        for (size_t i = 1; i < leaving.n; i++)
                json_add_string(t, NULL, leaving.items[i]);
        json_close(t, ']');
}

void move_get_handle(Request *request) {
        static const char *const names[] = { [DRAINED_UNIT_MOVES] = "moving",
                                             [DRAINED_UNIT_STOPS] = "stopping",
                                             [DRAINED_UNIT_QUEUED] = "queued",
                                             [DRAINED_UNIT_WAITS] = "waiting" };
        const Cluster *c = registry_cluster(request->api->options.registry);
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
                DrainedUnit now = move_state(request, view, u, &why);

                from = move_from(u);
                json_add_string(&t, "by", u->move->by);
                if (from)
                        move_write_followers(&t, u, from->machine);
                json_add_string(&t, "from", from ? cluster_machine_name(from->machine) : NULL);
                json_add_string(&t, "id", u->move->to);
                json_add_string(&t, "machine", cluster_name_of(c, u->move->to));
                json_add_string(&t, "name", u->name);
                json_add_string(&t, "reason", why.message);
                json_add_u64(&t, "since", u->move->since_ms);
                json_add_string(&t, "state", names[now]);
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
        const Cluster *c = registry_cluster(request->api->options.registry);
        uint64_t wall_ms = loop_wall_ms(request->api->loop);
        const ClusterUnit *u = moves_next(LIST_FIRST(&c->lists[CLUSTER_MOVING]), wall_ms);
        SchedulerView *view = NULL; /* it costs a pass over all units: made for the first move */
        size_t n = 0;

        if (u && scheduler_view_new(c, c->now_ms, &view) < 0)
                t->error = -ENOMEM;
        while (view && u && n < MOVES_MAX && scheduler_view_work(view) <= PLAN_WORK_MAX) {
                Error why = {};

                if (move_state(request, view, u, &why) == DRAINED_UNIT_WAITS) {
                        if (n++ == 0)
                                json_open(t, "moves", '[');
                        json_open(t, NULL, '{');
                        json_add_string(t, "machine", cluster_name_of(c, u->move->to));
                        json_add_string(t, "name", u->name);
                        json_add_string(t, "reason", why.message);
                        json_close(t, '}');
                }
                u = moves_next(LIST_NEXT(u, lists[CLUSTER_MOVING]), wall_ms);
        }
        if (n > 0)
                json_close(t, ']');
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

#define MOVE_GLOBAL                                                                                       \
        "it is global (Global=yes), and runs on each machine that qualifies; to take it from a machine, " \
        "with "                                                                                           \
        "MachineMetadata= or Conflicts= in [X-Fleet]: "

/* Return whether the unit moves to no machine at all; then set the reason. */
static bool move_is_refused(const Request *request, const ClusterUnit *u, Error *ret) {
        KvState state;

        kv_state(request->api->options.store, &state);
        if (state.level < KV_LEVEL_UPDATES)
                error_set(
                        ret, 409,
                        "move requires feature level %d, and the level is %u: all hosts need this version of "
                        "fleetd; then: fleetctl cluster level %d",
                        KV_LEVEL_UPDATES, state.level, KV_LEVEL_UPDATES);
        else if (cluster_unit_is_unreadable(u))
                error_set(ret, 409, "%s", CLUSTER_UNREADABLE);
        else if (unit_name_is_template(u->name))
                error_set(ret, 409, "a template runs nowhere; its instances do: fleetctl list-units '%.*s@*'",
                          (int) strcspn(u->name, "@"), u->name);
        else if (u->unit->placement.global && u->unit->owner)
                error_set(ret, 409, MOVE_GLOBAL "correct %s on %s", u->unit->path,
                          cluster_name_of(registry_cluster(request->api->options.registry), u->unit->owner));
        else if (u->unit->placement.global)
                error_set(ret, 409, MOVE_GLOBAL "fleetctl edit %s", u->unit->from ?: u->name);
        else if (u->target == TARGET_INACTIVE)
                error_set(ret, 409, "its target state is inactive; to start it: fleetctl start %s", u->name);
        else
                return false;
        return true;
}

/* Return whether the unit may not leave the machine of an assignment; then set the reason. */
static bool move_must_stay(const Cluster *c, const ClusterUnit *u, const ClusterAssignment *a, bool force,
                           Error *ret) {
        const char *name = cluster_machine_name(a->machine), *spared = scheduler_move_spares(u, a->machine);

        if (spared)
                error_set(ret, 409, "%s", spared);
        else if (cluster_machine_is_draining(a->machine) && !scheduler_drain_spares(u, a->machine, c->now_ms))
                error_set(ret, 409, "%s is being drained, and the drain moves it", name);
        else if (rollout_replaced(a))
                error_set(ret, 409, "its update starts it on %s: fleetctl rollout %s", name,
                          rollout_head(c, u)->name);
        else if (u->unit->placement.move == PLACEMENT_STAYS && !force)
                error_set(ret, 409, "Move=no; to move it: repeat the command with --force");
        else
                return false;
        return true;
}

/* Add how the machine is freed to the reason that a unit there conflicts. */
static void move_add_way(const ClusterUnit *conflict, Error *why) {
        size_t n = strlen(why->message);

        if (conflict && conflict->target == TARGET_INACTIVE)
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; %s is being unloaded: repeat the command when it has ended", conflict->name);
        else if (conflict && conflict->unit && !conflict->unit->placement.global)
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; to free it: fleetctl unload %s, and after the move: fleetctl start %s",
                         conflict->name, conflict->name);
}

/* Add the command that moves the unit of MachineOf=, which this one follows, to the reason. */
static void move_add_companion(const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                               const ClusterMachine *m, Error *why) {
        const Names *units = &u->unit->placement.machine_of;
        size_t n = strlen(why->message);

        if (scheduler_refusal(view, u, m, false, NULL) != RULE_MACHINE_OF)
                return;
        for (size_t i = 0; i < units->n; i++)
                if (!scheduler_view_has(view, m, units->items[i])) {
                        if (cluster_unit(c, units->items[i]))
                                snprintf(why->message + n, sizeof(why->message) - n,
                                         "; to move both: fleetctl move %s %s", units->items[i],
                                         cluster_machine_name(m));
                        return;
                }
}

/* Add the next step to the reason that the machine does not qualify. */
static void move_add_step(const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                          const ClusterMachine *m, Error *why) {
        size_t n = strlen(why->message);

        move_add_way(scheduler_conflict_on(view, u, m), why);
        move_add_companion(c, view, u, m, why);
        if (why->message[n])
                return;
        if (scheduler_would_fit_uncordoned(view, u, m))
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; to let it get units again: fleetctl uncordon %s", cluster_machine_name(m));
        else
                snprintf(why->message + n, sizeof(why->message) - n,
                         "; the rules of all machines: fleetctl why %s", u->name);
}

/* Set the reason that no machine but that of the unit qualifies, and the next step. */
static void move_explain_none(const SchedulerView *view, const ClusterUnit *u, const ClusterMachine *where,
                              Error *ret_why) {
        bool freed = false;
        Error why = {};

        for (size_t i = 0; i < scheduler_view_n_machines(view) && !freed; i++) {
                const ClusterMachine *m = scheduler_view_by_name(view, i);

                freed = m != where && scheduler_would_fit_freed(view, u, m);
        }
        scheduler_explain(view, u, where, &why);
        if (freed)
                error_set(ret_why, 409, "%s; to free one: fleetctl help move", why.message);
        else
                error_set(ret_why, 409, "%s; the rules of all machines: fleetctl why %s", why.message,
                          u->name);
}

/* Find the machine. Return false with the reason if none qualifies, or this one does not. */
static bool move_find_machine(const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                              const MoveBody *body, const ClusterMachine **ret, Error *ret_why) {
        ClusterUnit any = *u; /* as without a move to another machine; it borrows */
        const ClusterMachine *m = cluster_machine(c, body->machine), *where = NULL;
        Error why = {};

        any.move = NULL;
        if (!m) {
                (void) cluster_current_state(c, u, &where);
                if (scheduler_pick(view, &any, &m, NULL) < 0) {
                        move_explain_none(view, &any, where, ret_why);
                        return false;
                }
        } else if (!scheduler_fits(view, &any, m, false, &why)) {
                error_set(ret_why, 409, "%s does not qualify: %s", cluster_machine_name(m), why.message);
                move_add_step(c, view, &any, m, ret_why);
                return false;
        }
        if (scheduler_replaced_by(view, &any, m)) {
                error_set(ret_why, 409,
                          "%s does not qualify: %s there has Replaces=", cluster_machine_name(m),
                          scheduler_replaced_by(view, &any, m)->name);
                return false;
        }
        *ret = m;
        return true;
}

static void move_put(Request *request, const ClusterUnit *u, const ClusterMachine *to) {
        MoveRecord move = { .since_ms = loop_wall_ms(request->api->loop) };
        char user[RECORDED_BY_SIZE], reason[HISTORY_REASON_SIZE];

        memcpy(move.to, to->id, sizeof(move.to));
        snprintf(move.by, sizeof(move.by), "%s", request_user(request, user));
        move_result_write(reason, sizeof(reason), MOVE_RESULT_REQUESTED, u->name, cluster_machine_name(to),
                          "");
        change_sent(request, "the move of the unit", 204, NULL,
                    registry_move(request_registry(request), u, &move, reason, change_on_decided, request));
}

static void move_stop(Request *request, const ClusterUnit *u, const char *why) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        MoveEnd end = { .unit = u };
        char user[RECORDED_BY_SIZE];

        move_result_write(end.reason, sizeof(end.reason), MOVE_RESULT_ENDED, u->name,
                          cluster_name_of(c, u->move->to), why);
        change_sent(request, "the move of the unit", 204, NULL,
                    registry_end_moves(request_registry(request), 0, &end, 1, request_user(request, user),
                                       change_on_decided, request));
}

/* Decide. Return true if the machine is found, and the move is to be written; otherwise the request is
 * answered, or the reason of a rejection is set. */
static bool move_decide(Request *request, const ClusterUnit *u, const MoveBody *body,
                        const ClusterMachine **ret, Error *ret_why) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        SchedulerView *view = NULL;
        size_t n = 0;
        bool found;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                if (!cluster_assignment_is_active(a))
                        continue;
                n++;
                if (move_must_stay(c, u, a, body->force, ret_why))
                        return false;
        }
        if (n == 0) {
                error_set(ret_why, 409, "it is on no machine: fleetctl why %s", u->name);
                return false;
        }
        if (scheduler_view_new(c, c->now_ms, &view) < 0) {
                error_set(ret_why, 500, "out of memory");
                return false;
        }
        found = move_find_machine(c, view, u, body, ret, ret_why);
        scheduler_view_free(view);
        return found;
}

void move_put_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
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
        else if (move_is_refused(request, u, &err))
                request_error(request, 409, "%s", err.message);
        else if (u->move && (!m || streq(m->id, u->move->to)))
                request_answer(request, 204, NULL, NULL, "", 0); /* it moves there already */
        else if (there && cluster_assignment_is_active(there) && u->move)
                move_stop(request, u, "it stays");
        else if (there && cluster_assignment_is_active(there))
                request_answer(request, 204, NULL, NULL, "", 0);
        else if (move_decide(request, u, &body, &to, &err))
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
