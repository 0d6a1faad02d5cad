/* Units and their states, as fleet's API shows them. */
#include "fleetd/api/fleet_v1.h"

#include <stdio.h>
#include <time.h>

#include "fleetd/engine/drain.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"

/* -- Units -- */

bool unit_is_of_cluster(const Cluster *c, const ClusterMachine *m, const char *unit) {
        const ClusterState *state = m ? cluster_state_on(m, unit) : NULL;

        if (state)
                return !streq(state->state.load, STATE_FOREIGN);
        return cluster_unit_exists(cluster_any_unit(c, unit)) || (m && cluster_assignment_on(m, unit));
}

bool unit_is_readable(const Request *request, const ClusterMachine *m, const char *unit) {
        return !request->sender || sender_may(request->sender, RIGHT_UNITS_CHANGE) ||
               unit_is_of_cluster(registry_cluster(request->api->options.registry), m, unit);
}

int units_count_options(const Unit *unit, size_t *n, Error *err) {
        *n += unit->file.n_options + unit->file.n_sections;
        if (*n <= OPTIONS_READ_MAX)
                return 0;
        return error_set(err, -E2BIG,
                         "the units of the request have too many options and sections (more than %d): send "
                         "fewer units at once",
                         OPTIONS_READ_MAX);
}

bool machine_is_there(const ClusterMachine *machine) {
        return !presence_is_down(machine->presence);
}

uint64_t request_brake_ms(const Request *request) {
        const ApiOptions *o = &request->api->options;

        return o->engine ? engine_brake(o->engine) : 0;
}

bool request_is_braked(const Request *request, const Cluster *c) {
        return engine_is_braked(c, request_brake_ms(request));
}

/* The mass-failure brake holds the unit back. */
static void brake_reason(const Request *request, uint64_t brake_ms, Error *ret) {
        const Api *api = request->api;
        const Cluster *c = registry_cluster(api->options.registry);
        EngineBrake brake = {};
        struct tm when = {};
        char until[16] = "";
        time_t seconds;

        if (engine_brake_state(c, brake_ms, &brake) < 0 || brake.until_ms == 0) {
                error_set(ret, 0,
                          "held back: machines that were lost together are replaced one by one (BrakeSec=)");
                return;
        }
        seconds = (time_t) ((loop_wall_ms(api->loop) + brake.until_ms - c->now_ms) / 1000);
        (void) localtime_r(&seconds, &when);
        (void) strftime(until, sizeof(until), "%H:%M:%S", &when);
        error_set(ret, 0, "held back until %s: %zu of %zu machines were lost within a minute (BrakeSec=)",
                  until, brake.n_lost, brake.n_total);
}

const ClusterMachine *unit_successor(const ClusterUnit *u, const ClusterMachine *where) {
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (a->machine != where && cluster_assignment_is_active(a) &&
                    a->machine->presence == PRESENCE_UP)
                        return a->machine;
        return NULL;
}

/* The unit waits, because it cannot stay on 'where': state the cause, then what follows. A machine that has
 * been lost for an hour is no news. A unit that another machine is starting moves, and does not wait. Return
 * the kind. */
static const char *waiting_reason(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                                  const ClusterMachine *where, const Error *unfit, Error *ret) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        bool old = presence_is_omitted(where, scheduler_view_now_ms(view));
        char buffer[CLUSTER_LABEL_SIZE];
        const char *name = cluster_machine_label(where, buffer);
        const ClusterMachine *other = NULL, *successor = unit_successor(u, where);
        const ClusterAssignment *a = cluster_assignment_on(where, u->name);
        Error cause = {}, next = {}, stays = {};

        if (successor)
                error_set(&next, 0, "%s has it", cluster_machine_name(successor));
        else if (a && where->maintenance && drain_explain_retry(c, a, scheduler_view_now_ms(view), &stays))
                error_set(&next, 0, "%s", stays.message);
        else if (a && cluster_machine_is_draining(where) && where->presence == PRESENCE_UP &&
                 unit_drained(c, view, u, where, &other, &stays) == DRAINED_UNIT_WAITS)
                error_set(&next, 0, "%s", stays.message);
        else if (a && cluster_machine_is_draining(where) && where->presence == PRESENCE_UP &&
                 machine_is_held(c, request_is_braked(request, c), where, &stays))
                error_set(&next, 0, "%s", stays.message);
        else if (scheduler_pick(view, u, &other, NULL) >= 0)
                error_set(&next, 0, "moving to %s", cluster_machine_name(other));
        else
                scheduler_explain(view, u, old ? NULL : where, &next);
        if (unfit)
                error_set(&cause, 0, "%s no longer qualifies (%s); ", name, unfit->message);
        else if (!old)
                error_set(&cause, 0, "%s %s; ", name,
                          where->presence == PRESENCE_LEFT ? "was shut down" : "is lost");
        error_set(ret, 0, "%s: %s%s", successor ? "moving" : "waiting", cause.message, next.message);
        return successor ? API_REASON_MOVING : API_REASON_WAITING;
}

/* Set the reason of a unit that waits for its machine, which is lost or was shut down. */
static void delayed_reason(const Cluster *c, const ClusterUnit *u, const ClusterMachine *where, Error *ret) {
        uint64_t after_ms = u->unit->placement.replace_after_ms, end_ms;

        if (cluster_machine_has_stopped(where) && scheduler_is_bound(u, where))
                error_set(ret, 0,
                          "waiting: %s was shut down, and no other machine takes over (Move=no); to move it: "
                          "fleetctl move %s --force",
                          cluster_machine_name(where), u->name);
        else if (__builtin_add_overflow(where->since_ms, after_ms, &end_ms))
                error_set(ret, 0,
                          "waiting: %s is lost, and no other machine takes over "
                          "(ReplaceAfterSec=never)",
                          cluster_machine_name(where));
        else
                error_set(ret, 0,
                          "waiting: %s is lost, and another machine takes over in %llu s "
                          "(ReplaceAfterSec=)",
                          cluster_machine_name(where),
                          (unsigned long long) (end_ms > c->now_ms ? end_ms - c->now_ms + 999 : 0) / 1000);
}

/* Set the reason of a unit that is assigned to 'where', and return its kind, as unit_reason(). */
static const char *order_reason(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                                const ClusterMachine *where, const ClusterAssignment *order, Error *ret) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        uint64_t brake_ms = request_brake_ms(request);
        EngineVerdict verdict = ENGINE_STAYS;
        const ClusterMachine *to;
        Error why = {};

        if (!u->unit->placement.global && engine_judge(view, c, order, brake_ms, &verdict, &why) < 0)
                return NULL;
        switch (verdict) {
        case ENGINE_FINISHED:
                error_set(ret, 0, "finished on %s: it ended successfully, and is not run again",
                          cluster_machine_name(where));
                return API_REASON_FINISHED;
        case ENGINE_BRAKED:
                brake_reason(request, brake_ms, ret);
                return API_REASON_HELD;
        case ENGINE_DELAYED:
                delayed_reason(c, u, where, ret);
                return API_REASON_WAITING;
        case ENGINE_GONE:
                return waiting_reason(request, view, u, where, NULL, ret);
        case ENGINE_UNFIT:
                return waiting_reason(request, view, u, where, &why, ret);
        case ENGINE_BOUND:
                if (why.message[0])
                        error_set(ret, 0,
                                  "waiting: %s no longer qualifies (%s), and it stays there (Move=no)",
                                  cluster_machine_name(where), why.message);
                else
                        error_set(ret, 0, "waiting: %s", order->reason ?: "");
                return API_REASON_WAITING;
        default:
                break;
        }
        if (where->maintenance && where->maintenance->mode == MAINTENANCE_DRAINING &&
            !u->unit->placement.global && unit_drained(c, view, u, where, &to, &why) == DRAINED_UNIT_WAITS) {
                error_set(ret, 0, "waiting: %s is %s; it stays: %s", cluster_machine_name(where),
                          cluster_machine_is_leaving(where) ? "leaving the cluster" : "being drained",
                          why.message);
                return API_REASON_WAITING;
        }
        error_set(ret, 0, "%s", order->reason ?: "");
        return NULL;
}

/* Set the reason of a unit without an assignment to run, and return its kind. */
static const char *unplaced_reason(const SchedulerView *view, const ClusterUnit *u, Error *ret) {
        const ClusterMachine *to;
        Error why = {};

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (!cluster_machine_is_removed(a->machine) &&
                    (a->hold_ms > 0 || !presence_is_down(a->machine->presence))) {
                        error_set(ret, 0, "waiting: it has to end on %s", cluster_machine_name(a->machine));
                        return API_REASON_WAITING;
                }
        if (scheduler_pick(view, u, &to, &why) < 0) {
                *ret = why;
                return API_REASON_WAITING;
        }
        error_set(ret, 0, "about to be assigned: %s", why.message);
        return NULL;
}

const char *unit_reason(const Request *request, const SchedulerView *view, const ClusterUnit *u, Error *ret) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterMachine *where = NULL;
        const ClusterAssignment *assignment;

        *ret = (Error) {};
        if (cluster_unit_is_unreadable(u)) {
                error_set(ret, 0, "left as it is: %s", CLUSTER_UNREADABLE);
                return NULL;
        }
        if (c->adopting && u->target != TARGET_INACTIVE) {
                error_set(ret, 0, "waiting: " HELD_BY_ADOPTION);
                return API_REASON_HELD;
        }
        if (u->move) {
                move_reason_of(request, view, u, ret);
                return API_REASON_MOVING;
        }
        (void) cluster_current_state(c, u, &where);
        assignment = where ? cluster_assignment(c, where->id, u->name) : NULL;
        if (assignment)
                return order_reason(request, view, u, where, assignment, ret);
        if (u->target == TARGET_INACTIVE)
                error_set(ret, 0, "its target state is inactive");
        else if (!u->unit->placement.global)
                return unplaced_reason(view, u, ret);
        return NULL;
}

const ClusterMachine *unit_machine(const Cluster *c, const char *unit) {
        const ClusterMachine *found = NULL;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                const ClusterAssignment *o = cluster_assignment(c, m->id, unit);

                if (o && o->kind != ASSIGNMENT_STOP && !cluster_machine_is_removed(m) &&
                    (!found || machine_is_there(m)))
                        found = m;
        }
        for (const ClusterMachine *m = c->machines; m && !found; m = m->hh.next)
                if (machine_is_there(m) && cluster_state(c, m->id, unit))
                        found = m;
        return found;
}

/* Return the JSON object of 'u'; its strings borrow from the cluster and 'why'. */
static ApiUnit unit_entity(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                           Error *why) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterMachine *where = NULL;
        bool global = u->unit && u->unit->placement.global;
        TargetState current = cluster_current_state(c, u, &where);
        ApiUnit entity = {
                .name = u->name,
                .desired_state = cluster_unit_has_unreadable(u, LAYOUT_TARGET) ? _TARGET_INVALID : u->target,
                .current_state = global ? _TARGET_INVALID : current,
                .expected_state = _TARGET_INVALID,
                .machine_id = where && !global ? where->id : NULL,
                .reason = why->message,
                .global = global,
        };

        entity.reason_kind = unit_reason(request, view, u, why);
        if (!u->unit)
                return entity;
        if (u->unit->json_size <=
            UNIT_JSON_MAX) /* a larger one is of a former version; its text has all options */
                entity.file = &u->unit->file;
        entity.hash = u->unit->hash;
        entity.text = u->unit->text;
        entity.owner = u->unit->owner;
        return entity;
}

static const ClusterUnit *units_next(const Cluster *c, UnitPosition *at) {
        const ClusterUnit *u;

        do
                u = unit_order_next(&c->by_name, at);
        while (u && !cluster_unit_exists(u));
        return u;
}

/* Set the position after the unit of a key. */
static void units_seek(const Cluster *c, const char *key, UnitPosition *ret) {
        if (unit_order_prefix(&c->by_name, key, strlen(key) + 1, ret) > 0)
                (void) unit_order_next(&c->by_name, ret);
}

void units_list_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        SchedulerView *view = NULL;
        UnitPosition at = {};
        const ClusterUnit *u;
        _cleanup_text_ Text t = {};
        ApiUnit entities[PAGE_SIZE];
        Error why[PAGE_SIZE];
        size_t bytes = 0;
        Page page;

        if (!page_of(request, &page))
                return;
        if (scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (page.after[0]) {
                units_seek(c, page.after, &at);
                page.skip = 0;
        }
        while ((u = units_next(c, &at)) && page_wants(&page)) {
                if (page_skips(&page))
                        continue;
                entities[page.n] = unit_entity(request, view, u, &why[page.n]);
                bytes += u->unit ? u->unit->json_size : 0;
                page_add(&page, u->name, NULL);
                if (bytes >= PAGE_BYTES || scheduler_view_work(view) >= PAGE_WORK)
                        page.full = true;
        }
        api_units_page_write(&t, entities, page.n, page_next(&page, u));
        request_answer_json(request, 200, &t);
        scheduler_view_free(view);
}

void units_get_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterUnit *u = cluster_any_unit(c, request->rest);
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};
        ApiUnit entity;
        KvState state;
        Error why;

        if (!cluster_unit_exists(u)) {
                /* The view of this host may lag behind the host that has accepted the unit. */
                kv_state(request->api->options.store, &state);
                if (!state.ready || request->n_decisions > 0 ||
                    !request_decide_again(request, units_get_handle))
                        request_error(request, 404, "unit does not exist");
                return;
        }
        if (scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        entity = unit_entity(request, view, u, &why);
        api_unit_write(&t, &entity);
        scheduler_view_free(view);
        request_answer_json(request, 200, &t);
}

/* -- States -- */

/* The states of a list, by unit, then machine. */
typedef struct StateWalk {
        const Cluster *cluster;
        const char *machine; /* states of others are omitted; NULL or "": none is */
        bool all;            /* of all units, those of the position and after it */
        UnitPosition at;
        const ClusterState *next;  /* of the present unit */
        const ClusterState **some; /* owned; not NULL: these instead, of one machine */
        size_t n, n_seen;          /* of 'some' */
} StateWalk;

static void state_walk_done(StateWalk *w) {
        free(w->some);
}

static int states_by_unit(const void *a, const void *b) {
        return strcmp((*(const ClusterState *const *) a)->unit, (*(const ClusterState *const *) b)->unit);
}

static int states_collect(StateWalk *w) {
        const ClusterMachine *m = cluster_machine(w->cluster, w->machine);

        w->some = NEW0(const ClusterState *, 1 + (m ? HASH_COUNT(m->states) : 0));
        if (!w->some)
                return -ENOMEM;
        for (const ClusterState *s = m ? m->states : NULL; s; s = s->hh.next)
                w->some[w->n++] = s;
        if (w->n > 0)
                qsort(w->some, w->n, sizeof(*w->some), states_by_unit);
        return 0;
}

/* Continue after the state of a key. */
static void states_seek(StateWalk *w, const char *key) {
        size_t size = strcspn(key, "/");
        char name[UNIT_NAME_MAX + 1];

        snprintf(name, sizeof(name), "%.*s", (int) size, key);
        while (w->n_seen < w->n && strcmp(w->some[w->n_seen]->unit, name) <= 0)
                w->n_seen++;
        if (w->all && unit_order_prefix(&w->cluster->by_name, name, strlen(name) + 1, &w->at) > 0)
                w->next = LIST_FIRST(&unit_order_next(&w->cluster->by_name, &w->at)->states);
        while (w->next && key[size] == '/' && strcmp(w->next->machine->id, key + size + 1) <= 0)
                w->next = LIST_NEXT(w->next, of_unit);
}

/* Begin with the states that a request selects. 0 or -ENOMEM. */
static int states_begin(StateWalk *w, const char *unit, Page *page) {
        const ClusterUnit *u;

        if (unit && *unit) {
                u = cluster_any_unit(w->cluster, unit);
                w->next = u ? LIST_FIRST(&u->states) : NULL;
        } else if (!w->machine || !*w->machine)
                w->all = true;
        else if (states_collect(w) < 0)
                return -ENOMEM;
        if (page && page->after[0]) {
                states_seek(w, page->after);
                page->skip = 0;
        }
        return 0;
}

static const ClusterState *states_next(StateWalk *w) {
        for (;;) {
                const ClusterState *s = w->next;
                const ClusterUnit *u;

                if (w->some)
                        s = w->n_seen < w->n ? w->some[w->n_seen++] : NULL;
                else if (s)
                        w->next = LIST_NEXT(s, of_unit);
                else if (w->all && (u = unit_order_next(&w->cluster->by_name, &w->at))) {
                        w->next = LIST_FIRST(&u->states);
                        continue;
                }
                if (!s || (machine_is_there(s->machine) &&
                           (!w->machine || !*w->machine || streq(s->machine->id, w->machine))))
                        return s;
        }
}

const char *state_health(const ClusterState *s) {
        if (s->state.health == UNIT_HEALTH_NONE)
                return NULL;
        return s->machine->presence == PRESENCE_UP ? unit_health_to_string(s->state.health) : "unknown";
}

static ApiState state_entity(const ClusterState *s) {
        bool known = s->machine->presence == PRESENCE_UP;

        return (ApiState) { .name = s->unit,
                            .machine_id = s->machine->id,
                            .hash = s->state.hash,
                            .load = s->state.load,
                            .active = s->state.active,
                            .sub = s->state.sub,
                            .since_ms = s->state.since_ms,
                            .finished = s->state.done,
                            .job = s->state.job[0] ? s->state.job : NULL,
                            .reason = s->state.reason,
                            .health = state_health(s),
                            .why = known ? s->state.why : NULL,
                            .available = known && s->state.available };
}

void states_get_handle(Request *request) {
        _cleanup_(state_walk_done) StateWalk w = { registry_cluster(request->api->options.registry) };
        const ClusterState *s;
        _cleanup_text_ Text t = {};
        ApiState entity;

        (void) states_begin(&w, request->rest, NULL);
        s = states_next(&w);
        if (!s) {
                request_error(request, 404, "unit state does not exist");
                return;
        }
        entity = state_entity(s);
        api_state_write(&t, &entity);
        request_answer_json(request, 200, &t);
}

void states_list_handle(Request *request) {
        _cleanup_(state_walk_done) StateWalk w = { registry_cluster(request->api->options.registry),
                                                   request_parameter(request, "machineID") };
        const char *unit = request_parameter(request, "unitName");
        ApiState entities[PAGE_SIZE];
        const ClusterState *s;
        _cleanup_text_ Text t = {};
        Page page;

        if (!page_of(request, &page))
                return;
        if (states_begin(&w, unit, &page) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        while ((s = states_next(&w)) && page_wants(&page)) {
                if (page_skips(&page))
                        continue;
                entities[page.n] = state_entity(s);
                page_add(&page, s->unit, s->machine->id);
        }
        api_states_page_write(&t, entities, page.n, page_next(&page, s));
        request_answer_json(request, 200, &t);
}

/* -- The units of this host, as its agent sees them -- */

typedef struct LocalStates {
        ApiState *items; /* owned; they borrow the agent's */
        size_t n, capacity;
        const char *machine_id;
        int error;
} LocalStates;

static void local_add(void *userdata, const SystemdUnit *unit) {
        LocalStates *all = userdata;

        if (GROW(all->items, all->capacity, all->n + 1) < 0) {
                all->error = -ENOMEM;
                return;
        }
        all->items[all->n++] = (ApiState) { .name = unit->name,
                                            .machine_id = all->machine_id,
                                            .hash = unit->hash[0] ? unit->hash : NULL,
                                            .load = unit->load,
                                            .active = unit->active,
                                            .sub = unit->sub };
}

static int local_compare(const void *a, const void *b) {
        return strcmp(((const ApiState *) a)->name, ((const ApiState *) b)->name);
}

/* Also without a replica, and without a cluster view. All are on one page. */
void states_local_handle(Request *request) {
        const ApiOptions *o = &request->api->options;
        LocalStates all = { .machine_id = o->machine_id };
        const ApiMachine self = { .id = o->machine_id, .hostname = o->name };
        _cleanup_text_ Text machines = {}, states = {}, t = {};

        if (o->each_unit)
                o->each_unit(o->userdata, local_add, &all);
        if (all.error == 0 && all.n > 1)
                qsort(all.items, all.n, sizeof(*all.items), local_compare);
        api_machines_page_write(&machines, &self, 1, NULL);
        api_states_page_write(&states, all.items, all.n, NULL);
        free(all.items);
        if (MIN(all.error, MIN(machines.error, states.error)) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        /* Two pages as one object. */
        json_open(&t, NULL, '{');
        request_append_access(request, &t);
        text_append(&t, t.size > 1 ? "," : "");
        text_append_bytes(&t, machines.chars + 1, machines.size - 2);
        text_append(&t, states.size > 2 ? "," : "");
        text_append_bytes(&t, states.chars + 1, states.size - 1);
        /* Without X-Fleet-Stale: this is not state of the cluster. */
        request_answer_built(request, 200, "application/json", NULL, &t);
}
