/* Endpoints: instances of services, in tables of machines and of services. */

#include "fleetd/registry/cluster_parts.h"

/* -- A service and its endpoints, sorted by machine and unit -- */

static int endpoint_compare(const ClusterEndpoint *a, const ClusterEndpoint *b) {
        int r = strcmp(a->machine, b->machine);

        return r != 0 ? r : strcmp(a->unit, b->unit);
}

/* Return whether the service has the endpoint, and its place, or that of an insertion. */
static bool service_find(const ClusterService *s, const ClusterEndpoint *x, size_t *ret) {
        size_t from = 0, to = s->n_endpoints;

        while (from < to) {
                size_t middle = from + (to - from) / 2;

                if (endpoint_compare(s->endpoints[middle], x) < 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        *ret = from;
        return from < s->n_endpoints && s->endpoints[from] == x;
}

static void service_remove(Cluster *c, ClusterService *s, const ClusterEndpoint *x) {
        size_t at;

        if (service_find(s, x, &at)) {
                s->n_endpoints--;
                memmove(s->endpoints + at, s->endpoints + at + 1,
                        (s->n_endpoints - at) * sizeof(*s->endpoints));
        }
        if (s->n_endpoints > 0)
                return;
        HASH_DEL(c->services, s);
        free(s->endpoints);
        free(s);
}

static int service_add(Cluster *c, const char *name, ClusterEndpoint *x) {
        ClusterService *s = TABLE_FIND(c->services, name);
        size_t at;

        if (!s) {
                s = NEW0(ClusterService, 1);
                if (!s)
                        return -ENOMEM;
                snprintf(s->name, sizeof(s->name), "%s", name);
                HASH_ADD_STR(c->services, name, s);
                if (!TABLE_ADDED_OR_FREED(s))
                        return -ENOMEM;
        }
        if (service_find(s, x, &at))
                return 0; /* the name is repeated */
        if (GROW(s->endpoints, s->capacity, s->n_endpoints + 1) < 0) {
                service_remove(c, s, x);
                return -ENOMEM;
        }
        memmove(s->endpoints + at + 1, s->endpoints + at, (s->n_endpoints - at) * sizeof(*s->endpoints));
        s->endpoints[at] = x;
        s->n_endpoints++;
        return 0;
}

/* -- Endpoints of a machine -- */

/* Take the endpoint from its services, and free its record. */
static void endpoint_clear_record(Cluster *c, ClusterEndpoint *x) {
        for (size_t i = 0; i < SERVICES_MAX && x->record.services[i][0]; i++) {
                ClusterService *s = TABLE_FIND(c->services, x->record.services[i]);

                if (s)
                        service_remove(c, s, x);
        }
        endpoint_record_done(&x->record);
}

static void endpoint_free(Cluster *c, ClusterServer *server, ClusterEndpoint *x) {
        HASH_DEL(server->endpoints, x);
        endpoint_clear_record(c, x);
        free(x);
        if (server->endpoints)
                return;
        HASH_DEL(c->servers, server);
        free(server);
}

size_t cluster_endpoints_free(Cluster *c, size_t n) {
        size_t freed = 0;

        for (; c->servers && freed < n; freed++)
                endpoint_free(c, c->servers, c->servers->endpoints);
        return freed;
}

static ClusterEndpoint *endpoint_new(Cluster *c, const LayoutKey *k) {
        ClusterServer *server = TABLE_FIND(c->servers, k->machine);
        ClusterEndpoint *x = NEW0(ClusterEndpoint, 1);

        if (!x)
                return NULL;
        if (!server) {
                server = NEW0(ClusterServer, 1);
                if (server) {
                        memcpy(server->machine, k->machine, sizeof(server->machine));
                        HASH_ADD_STR(c->servers, machine, server);
                }
                if (!server || !TABLE_ADDED_OR_FREED(server)) {
                        free(x);
                        return NULL;
                }
        }
        memcpy(x->unit, k->unit, sizeof(x->unit));
        memcpy(x->machine, k->machine, sizeof(x->machine));
        HASH_ADD_STR(server->endpoints, unit, x);
        if (TABLE_ADDED_OR_FREED(x))
                return x;
        if (!server->endpoints) {
                HASH_DEL(c->servers, server);
                free(server);
        }
        return NULL;
}

static int endpoint_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterEndpoint *x = (ClusterEndpoint *) cluster_endpoint(c, k->machine, k->unit);

        if (!x)
                x = endpoint_new(c, k);
        if (!x)
                return -ENOMEM;
        endpoint_clear_record(c, x);
        x->record = *(EndpointRecord *) v->record;
        free(TAKE_PTR(v->record)); /* its contents are the entry's now */
        x->index = v->modified;
        for (size_t i = 0; i < SERVICES_MAX && x->record.services[i][0]; i++)
                TRY(service_add(c, x->record.services[i], x));
        return 0;
}

static int endpoint_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterServer *server = TABLE_FIND(c->servers, k->machine);
        ClusterEndpoint *x = server ? TABLE_FIND(server->endpoints, k->unit) : NULL;

        if (x)
                endpoint_free(c, server, x);
        return 0;
}

/* Those of a machine, with the unreadable ones, which the cluster view has; or all that can be read. */
static int endpoint_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        const ClusterServer *server = e->machine ? cluster_server(c, e->machine->id) : c->servers;
        const ClusterUnreadable *unreadable = e->machine ? LIST_FIRST(&c->unreadable) : NULL;
        int r = 0;

        for (; server && r == 0; server = e->machine ? NULL : server->hh.next)
                for (const ClusterEndpoint *x = server->endpoints; x && r == 0; x = x->hh.next)
                        r = found(userdata, LAYOUT_ENDPOINT, x->unit, x->machine);
        for (; unreadable && r == 0; unreadable = LIST_NEXT(unreadable, of_owner))
                if (unreadable->key.kind == LAYOUT_ENDPOINT && streq(unreadable->key.machine, e->machine->id))
                        r = found(userdata, LAYOUT_ENDPOINT, unreadable->key.unit, unreadable->key.machine);
        return r;
}

static const JsonField endpoint_shown[] = {
        { "address", JSON_FIELD_CHARS, offsetof(EndpointRecord, address) },
        { "services", JSON_FIELD_OTHER, offsetof(EndpointRecord, services),
          .write = endpoint_services_write },
};

KIND(endpoint, "endpoint/%u/%m", "endpoint", CHANGED_ENDPOINT, OF_CLUSTER | NAMES_UNIT | NAMES_MACHINE,
     KV_LEVEL_SERVICES, SLICE_SERVICES,
     { .own_set = RIGHT_REPORT, .own_remove = RIGHT_REPORT, .remove = RIGHT_ADMINISTER }, REMOVAL_OF_MACHINE,
     kind_ends, .record = &endpoint_record, .shown = JSON_FIELDS(endpoint_shown), .apply = endpoint_apply,
     .clear = endpoint_clear, .each = endpoint_each);
