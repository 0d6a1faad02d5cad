/* Endpoints: instances of services, in tables of machines, of services and of addresses. */

#include "fleetd/registry/cluster_parts.h"

/* -- Endpoints under one name, sorted by machine and unit -- */

/* Return the endpoint, or NULL; set *ret to its place, or to that of its insertion. */
static ClusterEndpoint *service_find(const ClusterService *s, const char *machine, const char *unit,
                                     size_t *ret) {
        size_t from = 0, to = s ? s->n_endpoints : 0;

        while (from < to) {
                size_t middle = from + (to - from) / 2;
                ClusterEndpoint *x = s->endpoints[middle];
                int order = strcmp(x->machine, machine) ?: strcmp(x->unit, unit);

                *ret = middle;
                if (order == 0)
                        return x;
                if (order < 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        *ret = from;
        return NULL;
}

const ClusterEndpoint *cluster_endpoint(const Cluster *c, const char *machine_id, const char *unit) {
        size_t at;

        return service_find(cluster_server(c, machine_id), machine_id, unit, &at);
}

/* Remove an endpoint, if the name has it, and the name with the last one. */
static void service_remove(ClusterService **table, const char *name, const ClusterEndpoint *x) {
        ClusterService *s = TABLE_FIND(*table, name);
        size_t at;

        if (service_find(s, x->machine, x->unit, &at)) {
                s->n_endpoints--;
                memmove(s->endpoints + at, s->endpoints + at + 1,
                        (s->n_endpoints - at) * sizeof(*s->endpoints));
        }
        if (!s || s->n_endpoints > 0)
                return;
        HASH_DEL(*table, s);
        free(s->endpoints);
        free(s);
}

static int service_add(ClusterService **table, const char *name, ClusterEndpoint *x) {
        ClusterService *s = TABLE_FIND(*table, name);
        size_t at;

        if (!s) {
                s = NEW0(ClusterService, 1);
                if (!s)
                        return -ENOMEM;
                snprintf(s->name, sizeof(s->name), "%s", name);
                HASH_ADD_STR(*table, name, s);
                if (!TABLE_ADDED_OR_FREED(s))
                        return -ENOMEM;
        }
        if (service_find(s, x->machine, x->unit, &at))
                return 0; /* the name is repeated */
        if (GROW(s->endpoints, s->capacity, s->n_endpoints + 1) < 0) {
                service_remove(table, name, x);
                return -ENOMEM;
        }
        memmove(s->endpoints + at + 1, s->endpoints + at, (s->n_endpoints - at) * sizeof(*s->endpoints));
        s->endpoints[at] = x;
        s->n_endpoints++;
        return 0;
}

/* -- One endpoint -- */

/* Take the endpoint from its services, and free its record. */
static void endpoint_clear_record(Cluster *c, ClusterEndpoint *x) {
        for (size_t i = 0; i < x->record.n_services; i++)
                service_remove(&c->services, x->record.services[i], x);
        service_remove(&c->addresses, x->record.address, x);
        endpoint_record_done(&x->record);
}

static void endpoint_free(Cluster *c, ClusterEndpoint *x) {
        endpoint_clear_record(c, x);
        service_remove(&c->servers, x->machine, x);
        free(x);
}

size_t cluster_endpoints_free(Cluster *c, size_t n) {
        size_t freed = 0;

        for (; c->servers && freed < n; freed++)
                endpoint_free(c, c->servers->endpoints[c->servers->n_endpoints - 1]);
        return freed;
}

static int endpoint_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterEndpoint *x = (ClusterEndpoint *) cluster_endpoint(c, k->machine, k->unit);

        if (!x) {
                x = NEW0(ClusterEndpoint, 1);
                if (!x)
                        return -ENOMEM;
                memcpy(x->unit, k->unit, sizeof(x->unit));
                memcpy(x->machine, k->machine, sizeof(x->machine));
                if (service_add(&c->servers, k->machine, x) < 0) {
                        free(x);
                        return -ENOMEM;
                }
        }
        endpoint_clear_record(c, x);
        x->record = *(EndpointRecord *) v->record;
        free(TAKE_PTR(v->record)); /* its contents are the entry's now */
        x->index = v->modified;
        x->unfit_ms = 0;
        for (size_t i = 0; i < x->record.n_services; i++)
                TRY(service_add(&c->services, x->record.services[i], x));
        return service_add(&c->addresses, x->record.address, x);
}

static int endpoint_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterEndpoint *x = (ClusterEndpoint *) cluster_endpoint(c, k->machine, k->unit);

        if (x)
                endpoint_free(c, x);
        return 0;
}

/* Those of a machine, with the unreadable ones, which the cluster view has; or all that can be read. */
static int endpoint_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        const ClusterService *server = e->machine ? cluster_server(c, e->machine->id) : c->servers;
        const ClusterUnreadable *unreadable = e->machine ? LIST_FIRST(&c->unreadable) : NULL;
        int r = 0;

        for (; server && r == 0; server = e->machine ? NULL : server->hh.next)
                for (size_t i = 0; i < server->n_endpoints && r == 0; i++)
                        r = found(userdata, LAYOUT_ENDPOINT, server->endpoints[i]->unit, server->name);
        for (; unreadable && r == 0; unreadable = LIST_NEXT(unreadable, of_owner))
                if (unreadable->key.kind == LAYOUT_ENDPOINT && streq(unreadable->key.machine, e->machine->id))
                        r = found(userdata, LAYOUT_ENDPOINT, unreadable->key.unit, unreadable->key.machine);
        return r;
}

/* A recovery is no reason that units leave the names of their services: each host compares its own endpoints
 * with what runs, and those of the lost ones end with the entry that writes them as lost. */
static bool endpoint_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        return lineage->is_restored;
}

static const JsonField endpoint_shown[] = {
        { "address", JSON_FIELD_CHARS, offsetof(EndpointRecord, address) },
        { "services", JSON_FIELD_LIST, offsetof(EndpointRecord, services), .list = &endpoint_services },
};

KIND(endpoint, "endpoint/%u/%m", "endpoint", CHANGED_ENDPOINT, OF_CLUSTER | NAMES_UNIT | NAMES_MACHINE,
     KV_LEVEL_SERVICES, SLICE_SERVICES,
     { .own_set = RIGHT_REPORT, .own_remove = RIGHT_REPORT, .remove = RIGHT_ADMINISTER }, REMOVAL_OF_MACHINE,
     endpoint_ends, .record = &endpoint_record, .shown = JSON_FIELDS(endpoint_shown), .apply = endpoint_apply,
     .clear = endpoint_clear, .each = endpoint_each);
