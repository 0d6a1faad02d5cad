/* /fleet/v1/services: the services that units name or that have endpoints; with a name, its endpoints, and
 * the wanted units that have none, with the reason. */
#include "fleetd/api/fleet_v1.h"
#include "fleetd/features/services/endpoints.h"
#include "fleetd/features/services/services_internal.h"

enum {
        PORTS_SHOWN_MAX = 64, /* of one service */
        WORK_MAX = 10000,     /* endpoints and wanted units on a page of services: about 10 ms */
};

/* An endpoint of a service, or a wanted unit without one: of an assignment, or of none. */
typedef struct ServiceRow {
        const char *unit, *machine; /* its ID; "": none */
        const ClusterEndpoint *endpoint;
        const ClusterAssignment *assignment;
} ServiceRow;

typedef struct ServiceRows {
        ServiceRow *rows; /* owned */
        size_t n, capacity;
        int error;
} ServiceRows;

static void service_rows_done(ServiceRows *all) {
        free(all->rows);
}

static int service_row_compare(const void *a, const void *b) {
        const ServiceRow *x = a, *y = b;
        int r = strcmp(x->unit, y->unit);

        return r != 0 ? r : strcmp(x->machine, y->machine);
}

static void service_rows_add(ServiceRows *all, ServiceRow row) {
        if (all->error == 0)
                all->error = GROW(all->rows, all->capacity, all->n + 1);
        if (all->error == 0)
                all->rows[all->n++] = row;
}

/* Add where units are wanted, and have no endpoint of the service. Sort all by unit and machine. */
static void service_rows_read_missing(ServiceRows *all, const Cluster *c, const char *service) {
        const Pattern *named = patterns_find(&c->rules[CLUSTER_SERVICES], service);

        for (size_t i = 0; named && i < named->n; i++) {
                const ClusterUnit *u = named->units[i];
                const ClusterAssignment *a;
                bool any = u->unit->placement.global || unit_name_is_template(u->name);

                if (u->target != TARGET_LAUNCHED)
                        continue;
                LIST_FOREACH(a, &u->assignments, of_unit) {
                        const ClusterEndpoint *e = cluster_endpoint(c, a->machine->id, u->name);

                        if (a->kind != ASSIGNMENT_RUN)
                                continue;
                        any = true;
                        if (!(a->state && a->state->state.done) &&
                            !(e && endpoint_is_of(&e->record, service)))
                                service_rows_add(all,
                                                 (ServiceRow) { u->name, a->machine->id, .assignment = a });
                }
                if (!any)
                        service_rows_add(all, (ServiceRow) { u->name, "" });
        }
        if (all->n > 0)
                qsort(all->rows, all->n, sizeof(*all->rows), service_row_compare);
}

/* Read all rows of a service, sorted by unit and machine. */
static void service_rows_read(ServiceRows *all, const Cluster *c, const char *service) {
        const ClusterService *s = cluster_service(c, service);

        for (size_t i = 0; s && i < s->n_endpoints; i++)
                service_rows_add(all, (ServiceRow) { s->endpoints[i]->unit, s->endpoints[i]->machine,
                                                     .endpoint = s->endpoints[i] });
        service_rows_read_missing(all, c, service);
}

/* -- Why a unit has no endpoint -- */

/* Return the code; what the unit or its machine is instead, or NULL; and the details as a message. */
static VerdictCode service_row_explain(const Request *request, const ServiceRow *row, const char **ret_state,
                                       Error *ret) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *m = row->assignment ? row->assignment->machine : NULL;
        const UnitState *s = m && row->assignment->state ? &row->assignment->state->state : NULL;
        const ClusterService *server;
        Verdict why = {};

        *ret_state = NULL;
        if (!m) {
                *ret_state = "unassigned";
                error_set(ret, 0, "fleetctl why %s", row->unit);
                return VERDICT_ENDPOINT_NOT_ASSIGNED;
        }
        if (presence_is_down(m->presence)) {
                *ret_state = presence_to_string(m->presence);
                verdict_print(&m->verdict, ret);
                return m->verdict.code;
        }
        server = cluster_server(c, m->id);
        why.code = endpoint_why_not(&(EndpointFacts) {
                .text = row->assignment->of->unit,
                .level = request_level(request) >= KV_LEVEL_SERVICES,
                .runs = true,
                .passing = s && s->health == UNIT_HEALTH_PASSING,
                .crashed = s && !s->available,
                .address = server->n_endpoints > 0 ? server->endpoints[0]->record.address :
                                                     endpoint_address(cluster_machine_address(m)),
                .n_others = server->n_endpoints });
        if (why.code == VERDICT_NONE)
                why.code = VERDICT_ENDPOINT_AWAITED;
        if (why.code != VERDICT_ENDPOINT_NOT_PASSING) {
                verdict_print(&why, ret);
                return why.code;
        }
        *ret_state = (s ? cluster_state_health(row->assignment->state) ?: s->active : NULL) ?: "inactive";
        error_set(ret, 0, "%s", (s ? s->why ?: s->reason : NULL) ?: "");
        return why.code;
}

/* -- One service -- */

static int service_add_ports(Names *names, const ServicePort *ports, size_t n, bool numbers) {
        char name[PORT_NAME_MAX + 16];

        for (size_t i = 0; i < n && names->n < PORTS_SHOWN_MAX; i++) {
                int size = snprintf(name, sizeof(name), "%s/%s", ports[i].name,
                                    port_protocol_to_string(ports[i].protocol));

                if (numbers)
                        size += snprintf(name + size, sizeof(name) - (size_t) size, ":%llu",
                                         (unsigned long long) ports[i].number);
                if (!names_have(names, name))
                        TRY(names_add(names, name, (size_t) size));
        }
        return 0;
}

/* 'reason' lives as long as the result, as 'name' does. 0 or -ENOMEM. */
static int service_row_entity(const Request *request, const ServiceRow *row, Error *reason,
                              char name[static ENDPOINT_NAME_SIZE], ApiEndpoint *ret) {
        const EndpointRecord *e = row->endpoint ? &row->endpoint->record : NULL;
        VerdictCode code;

        *ret = (ApiEndpoint) { .unit = row->unit, .machine_id = row->machine };
        if (*row->machine)
                ret->machine = cluster_name_of(request_cluster(request), row->machine);
        if (!e) {
                code = service_row_explain(request, row, &ret->state, reason);
                ret->reason = reason->message;
                ret->reason_code = verdict_rows[code].name;
                return reason->code;
        }
        ret->endpoint = endpoint_name(name, e->name, row->machine, row->unit);
        ret->address = e->address;
        ret->zone = e->zone;
        return service_add_ports(&ret->ports, e->ports, e->n_ports, true);
}

static unsigned service_get_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        _cleanup_(service_rows_done) ServiceRows all = {};
        ApiEndpoint entities[PAGE_SIZE] = {};
        char names[PAGE_SIZE][ENDPOINT_NAME_SIZE];
        Error reasons[PAGE_SIZE];
        _cleanup_text_ Text t = {};
        ServiceRow after;
        char *slash;
        size_t i;
        Page page;

        if (!page_of(request, &page, err))
                return 400;
        if (!patterns_find(&c->rules[CLUSTER_SERVICES], request->rest) && !cluster_service(c, request->rest))
                return error_set(err, 404, "no unit has the service %s", request->rest);
        service_rows_read(&all, c, request->rest);
        if (page.after[0]) { /* "UNIT/ID" */
                slash = strchr(page.after, '/');
                if (slash)
                        *slash++ = 0;
                after = (ServiceRow) { page.after, slash ?: "" };
                page.skip = 0;
                while (page.skip < all.n && service_row_compare(&all.rows[page.skip], &after) <= 0)
                        page.skip++;
        }
        t.error = all.error;
        for (i = page.skip; i < all.n && page_wants(&page); i++) {
                const ServiceRow *row = &all.rows[i];
                int r = service_row_entity(request, row, &reasons[page.n], names[page.n], &entities[page.n]);

                t.error = t.error ?: r;
                page_add(&page, row->unit, row->machine);
        }
        api_page_write(&t, &api_endpoints_page, entities, page.n, page_next(&page, i < all.n));
        for (i = 0; i < page.n; i++)
                names_done(&entities[i].ports);
        return request_answer_json(request, 200, &t);
}

/* -- All services -- */

/* As service_row_entity(). */
static int service_entity(const Request *request, const char *name, Error *reason, ApiService *ret) {
        const Cluster *c = request_cluster(request);
        const Pattern *named = patterns_find(&c->rules[CLUSTER_SERVICES], name);
        const ClusterService *s = cluster_service(c, name);
        _cleanup_(service_rows_done) ServiceRows missing = {};
        const ServiceRow *first;
        const char *machine = "";
        VerdictCode code;

        *ret = (ApiService) { .name = name, .n_endpoints = s ? s->n_endpoints : 0 };
        for (size_t i = 0; named && i < named->n; i++) {
                const ServicePolicy *policy = &named->units[i]->unit->placement.service;

                TRY(service_add_ports(&ret->ports, policy->ports, policy->n_ports, false));
        }
        for (size_t i = 0; s && i < s->n_endpoints; i++) { /* by machine */
                const ClusterEndpoint *e = s->endpoints[i];
                const char *host = cluster_name_of(c, e->machine);

                TRY(service_add_ports(&ret->ports, e->record.ports, e->record.n_ports, false));
                if (!streq(e->machine, machine))
                        TRY(names_add(&ret->machines, host, strlen(host)));
                machine = e->machine;
        }
        if (ret->machines.n > 0)
                qsort(ret->machines.items, ret->machines.n, sizeof(*ret->machines.items), text_compare);
        service_rows_read_missing(&missing, c, name);
        TRY(missing.error);
        ret->n_wanted = ret->n_endpoints + missing.n;
        if (missing.n == 0)
                return 0;
        first = missing.rows;
        code = service_row_explain(request, first, &ret->state, reason);
        ret->unit = first->unit;
        ret->machine = first->assignment ? cluster_machine_name(first->assignment->machine) : NULL;
        ret->reason = reason->message;
        ret->reason_code = verdict_rows[code].name;
        return reason->code;
}

/* Return the names of all services after one, sorted; the caller frees the array. NULL without memory. */
static const char **services_sorted(const Cluster *c, const char *after, size_t *ret_n) {
        const Pattern *named = c->rules[CLUSTER_SERVICES].all;
        const char **names = NEW0(const char *, 1 + HASH_COUNT(named) + HASH_COUNT(c->services));
        size_t n = 0;

        if (!names)
                return NULL;
        for (const Pattern *p = named; p; p = p->hh.next)
                if (strcmp(p->text, after) > 0)
                        names[n++] = p->text;
        for (const ClusterService *s = c->services; s; s = s->hh.next)
                if (strcmp(s->name, after) > 0 && !patterns_find(&c->rules[CLUSTER_SERVICES], s->name))
                        names[n++] = s->name;
        if (n > 0)
                qsort(names, n, sizeof(*names), text_compare);
        *ret_n = n;
        return names;
}

static unsigned services_list_handle(Request *request, Error *err) {
        const Cluster *c = request_cluster(request);
        ApiService entities[PAGE_SIZE] = {};
        Error reasons[PAGE_SIZE];
        _cleanup_free_ const char **names = NULL;
        _cleanup_text_ Text t = {};
        size_t n = 0, work = 0, i;
        Page page;

        if (!page_of(request, &page, err))
                return 400;
        names = services_sorted(c, page.after, &n);
        if (!names)
                return error_set(err, 500, "out of memory");
        for (i = page.after[0] ? 0 : page.skip; i < n && page_wants(&page); i++) {
                ApiService *s = &entities[page.n];
                int r = service_entity(request, names[i], &reasons[page.n], s);

                t.error = t.error ?: r;
                page_add(&page, names[i], NULL);
                work += s->n_wanted;
                page.full = work >= WORK_MAX;
        }
        api_page_write(&t, &api_services_page, entities, page.n, page_next(&page, i < n));
        for (i = 0; i < page.n; i++) {
                names_done(&entities[i].machines);
                names_done(&entities[i].ports);
        }
        return request_answer_json(request, 200, &t);
}

const Route services_routes[SERVICES_ROUTES] = {
        { ROUTE_FLEET, "GET", "/fleet/v1/services", RIGHT_UNITS_SEE, AT_VIEW, services_list_handle },
        { ROUTE_FLEET, "GET", "/fleet/v1/services/*", RIGHT_UNITS_SEE, AT_VIEW, service_get_handle },
};

/* -- Problems -- */

/* A host with more units that have services than it registers. */
static bool services_find_excess(ProblemSearch *s, const ProblemRow *row) {
        size_t n = 0;

        if (HASH_COUNT(s->machine->assignments) <= ENDPOINTS_MAX)
                return false;
        for (const ClusterAssignment *a = s->machine->assignments; a; a = a->hh.next)
                n += a->kind == ASSIGNMENT_RUN && a->of->unit && a->of->unit->placement.service.names.n > 0;
        if (n <= ENDPOINTS_MAX)
                return false;
        (void) problems_add(s, row,
                            "%zu of its units with Service= or Port= are not registered: a host "
                            "registers at most %d",
                            n - ENDPOINTS_MAX, ENDPOINTS_MAX);
        return false;
}

const ProblemRow services_problems[] = {
        { "services", SEVERITY_WARNING, RIGHT_UNITS_SEE, ABOUT_MACHINE, services_find_excess, "services" },
        {},
};
