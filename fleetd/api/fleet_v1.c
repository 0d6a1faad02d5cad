/* Units and their states, as fleet's API shows them. */
#include "fleetd/api/fleet_v1.h"

#include "fleetd/agent/agent.h"
#include "fleetd/engine/engine.h"
#include "fleetd/engine/explain.h"
#include "fleetd/registry/unit_order.h"

/* -- Units -- */

/* Return the JSON object of 'u', with its contents if 'texts'; its strings borrow from the cluster and 'why'.
 */
static ApiUnit unit_entity(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                           bool texts, Error *why) {
        const Cluster *c = request_cluster(request);
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

        entity.reason_kind = request_explain(request, view, u, why);
        if (!u->unit)
                return entity;
        if (texts &&
            u->unit->json_size <=
                    UNIT_JSON_MAX) /* a larger one is of a former version; its text has all options */
                entity.file = &u->unit->file;
        entity.hash = u->unit->hash;
        entity.text = texts ? u->unit->text : NULL;
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

unsigned units_list_handle(Request *request, Error *err) {
        const char *parameter = request_parameter(request, "texts");
        const Cluster *c = request_cluster(request);
        SchedulerView *view = NULL;
        bool texts = true;
        UnitPosition at = {};
        const ClusterUnit *u;
        _cleanup_text_ Text t = {};
        ApiUnit entities[PAGE_SIZE];
        Error why[PAGE_SIZE];
        size_t bytes = 0;
        Page page;

        if (!page_of(request, &page, err))
                return 400;
        if (parameter && parse_bool(parameter, &texts) < 0)
                return error_set(err, 400, "texts=%.20s: expected true or false", parameter);
        if (scheduler_view_new(c, c->now_ms, &view) < 0)
                return error_set(err, 500, "out of memory");
        if (page.after[0]) {
                unit_order_seek(&c->by_name, page.after, &at);
                page.skip = 0;
        }
        while ((u = units_next(c, &at)) && page_wants(&page)) {
                if (page_skips(&page))
                        continue;
                entities[page.n] = unit_entity(request, view, u, texts, &why[page.n]);
                bytes += texts && u->unit ? u->unit->json_size : 0;
                page_add(&page, u->name, NULL);
                if (bytes >= PAGE_BYTES || scheduler_view_work(view) >= PAGE_WORK)
                        page.full = true;
        }
        api_page_write(&t, &api_units_page, entities, page.n, page_next(&page, u));
        scheduler_view_free(view);
        return request_answer_json(request, 200, &t);
}

unsigned units_get_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterUnit *u = cluster_any_unit(c, request->rest);
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};
        ApiUnit entity;
        KvState state;
        Error why;

        if (!cluster_unit_exists(u)) {
                /* The view of this host may lag behind the host that has accepted the unit. */
                kv_state(request->api->host->store, &state);
                if (state.ready && request->n_decisions == 0 && request_decide_again(request))
                        return 0;
                return error_set(err, 404, "unit does not exist");
        }
        if (scheduler_view_new(c, c->now_ms, &view) < 0)
                return error_set(err, 500, "out of memory");
        entity = unit_entity(request, view, u, true, &why);
        api_unit_write(&t, &entity);
        scheduler_view_free(view);
        return request_answer_json(request, 200, &t);
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
                if (!s || (!presence_is_down(s->machine->presence) &&
                           (!w->machine || !*w->machine || streq(s->machine->id, w->machine))))
                        return s;
        }
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
                            .reason_code = verdict_rows[s->state.code].name,
                            .health = cluster_state_health(s),
                            .why = known ? s->state.why : NULL,
                            .available = known && s->state.available };
}

unsigned states_get_handle(Request *request, Error *err) {
        _cleanup_(state_walk_done) StateWalk w = { request_cluster(request) };
        const ClusterState *s;
        _cleanup_text_ Text t = {};
        ApiState entity;

        (void) states_begin(&w, request->rest, NULL);
        s = states_next(&w);
        if (!s)
                return error_set(err, 404, "unit state does not exist");
        entity = state_entity(s);
        api_state_write(&t, &entity);
        return request_answer_json(request, 200, &t);
}

unsigned states_list_handle(Request *request, Error *err) {
        _cleanup_(state_walk_done)
                StateWalk w = { request_cluster(request), request_parameter(request, "machineID") };
        const char *unit = request_parameter(request, "unitName");
        ApiState entities[PAGE_SIZE];
        const ClusterState *s;
        _cleanup_text_ Text t = {};
        Page page;

        if (!page_of(request, &page, err))
                return 400;
        if (states_begin(&w, unit, &page) < 0)
                return error_set(err, 500, "out of memory");
        while ((s = states_next(&w)) && page_wants(&page)) {
                if (page_skips(&page))
                        continue;
                entities[page.n] = state_entity(s);
                page_add(&page, s->unit, s->machine->id);
        }
        api_page_write(&t, &api_states_page, entities, page.n, page_next(&page, s));
        return request_answer_json(request, 200, &t);
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
unsigned states_local_handle(Request *request, Error *err) {
        const ComponentHost *host = request->api->host;
        LocalStates all = { .machine_id = host->settings->machine_id };
        const ApiMachine self = { .id = host->settings->machine_id, .hostname = host->settings->name };
        _cleanup_text_ Text machines = {}, states = {}, t = {};

        if (host->agent)
                agent_each_unit(host->agent, local_add, &all);
        if (all.error == 0 && all.n > 1)
                qsort(all.items, all.n, sizeof(*all.items), local_compare);
        api_page_write(&machines, &api_machines_page, &self, 1, NULL);
        api_page_write(&states, &api_states_page, all.items, all.n, NULL);
        free(all.items);
        if (MIN(all.error, MIN(machines.error, states.error)) < 0)
                return error_set(err, 500, "out of memory");
        /* Two pages as one object. */
        json_open(&t, NULL, '{');
        request_append_access(request, &t);
        text_append(&t, t.size > 1 ? "," : "");
        text_append_bytes(&t, machines.chars + 1, machines.size - 2);
        text_append(&t, states.size > 2 ? "," : "");
        text_append_bytes(&t, states.chars + 1, states.size - 1);
        return request_answer_built(request, 200, "application/json", NULL, &t);
}
