/* Units and their states, as fleet's API shows them. */
#include "fleetd/api/fleet_v1.h"

#include <time.h>

#include "fleetd/engine/drain.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"

/* -- Units -- */

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

        return o->brake_ms ? o->brake_ms(o->userdata) : 0;
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

/* Set the reason of a unit that waits for its lost machine. */
static void delayed_reason(const Cluster *c, const ClusterUnit *u, const ClusterMachine *where, Error *ret) {
        uint64_t after_ms = u->unit->placement.replace_after_ms, end_ms;

        if (__builtin_add_overflow(where->since_ms, after_ms, &end_ms))
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
        else if (!u->unit->placement.global && scheduler_pick(view, u, &where, ret) < 0)
                return API_REASON_WAITING;
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

void units_list_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_free_ ClusterUnit **units = NULL;
        SchedulerView *view = NULL;
        size_t known = 0, bytes = 0;
        UnitPosition position = {};
        ClusterUnit *one;
        _cleanup_text_ Text t = {};
        ApiUnit entities[PAGE_SIZE];
        Error why[PAGE_SIZE];
        Page page;

        units = NEW0(ClusterUnit *, HASH_COUNT(c->units) + 1);
        while (units && (one = unit_order_next(&c->by_name, &position)))
                if (cluster_unit_exists(one))
                        units[known++] = one;
        if (!units || scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (page_of(request, known, &page)) {
                for (size_t i = 0; i < page.n; i++) {
                        const ClusterUnit *u = units[page.first + i];

                        entities[i] = unit_entity(request, view, u, &why[i]);
                        bytes += u->unit ? u->unit->json_size : 0;
                        if (bytes >= PAGE_BYTES || scheduler_view_work(view) >= PAGE_WORK)
                                page.n = i + 1;
                }
                api_units_page_write(&t, entities, page.n, page_next(&page));
                request_answer_json(request, 200, &t);
        }
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

static int by_unit_and_machine(const void *a, const void *b) {
        const ClusterState *x = *(const ClusterState *const *) a, *y = *(const ClusterState *const *) b;

        return strcmp(x->unit, y->unit) ?: strcmp(x->machine->id, y->machine->id);
}

static const ClusterState **states_sorted(const Cluster *c, const char *machine, const char *unit,
                                          size_t *ret_n) {
        const ClusterState **all = NULL;
        size_t n = 0;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                n += HASH_COUNT(m->states);
        all = NEW0(const ClusterState *, n + 1);
        n = 0;
        for (const ClusterMachine *m = c->machines; m && all; m = m->hh.next) {
                if (!machine_is_there(m) || (machine && machine[0] && !streq(machine, m->id)))
                        continue;
                for (const ClusterState *s = m->states; s; s = s->hh.next)
                        if (!unit || !unit[0] || streq(unit, s->unit))
                                all[n++] = s;
        }
        if (all && n > 0)
                qsort(all, n, sizeof(*all), by_unit_and_machine);
        *ret_n = n;
        return all;
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
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_free_ const ClusterState **states = NULL;
        _cleanup_text_ Text t = {};
        ApiState entity;
        size_t n;

        states = states_sorted(c, NULL, request->rest, &n);
        if (!states)
                request_error(request, 500, "out of memory");
        else if (n == 0)
                request_error(request, 404, "unit state does not exist");
        else {
                entity = state_entity(states[0]);
                api_state_write(&t, &entity);
                request_answer_json(request, 200, &t);
        }
}

void states_list_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_free_ const ClusterState **states = NULL;
        ApiState entities[PAGE_SIZE];
        _cleanup_text_ Text t = {};
        size_t total;
        Page page;

        states = states_sorted(c, request_parameter(request, "machineID"),
                               request_parameter(request, "unitName"), &total);
        if (!states) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (!page_of(request, total, &page))
                return;
        for (size_t i = 0; i < page.n; i++)
                entities[i] = state_entity(states[page.first + i]);
        api_states_page_write(&t, entities, page.n, page_next(&page));
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
        text_append_bytes(&t, machines.chars, machines.size - 1);
        text_append(&t, states.size > 2 ? "," : "");
        text_append_bytes(&t, states.chars + 1, states.size - 1);
        /* Without X-Fleet-Stale: this is not state of the cluster. */
        request_answer_built(request, 200, "application/json", NULL, &t);
}
