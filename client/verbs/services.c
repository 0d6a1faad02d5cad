/* services: what units register under the names of their services, what is not registered and why, and
 * whether this host resolves a name. */
#include "client/core/resolver.h"
#include "client/verbs/list_columns.h"

static void append_joined(const Row *row, const void *field, Text *t) {
        const Names *names = field;

        for (size_t i = 0; i < names->n; i++)
                text_printf(t, "%s%s", i > 0 ? "," : "", names->items[i]);
}

static void service_endpoints(const Row *row, const void *item, Text *t) {
        const ApiService *s = item;

        text_printf(t, "%llu of %llu", (unsigned long long) s->n_endpoints, (unsigned long long) s->n_wanted);
}

/* Of the first unit that has no endpoint: "db.service is failing on gamma: http:8080/ready: 503". */
static void service_reason(const Row *row, const void *item, Text *t) {
        const ApiService *s = item;

        if (s->unit)
                text_printf(t, "%s%s%s%s%s%s%s", s->unit, s->state ? " is " : "", s->state ?: "",
                            s->machine ? " on " : "", s->machine ?: "", s->reason ? ": " : "",
                            s->reason ?: "");
}

static void endpoint_reason(const Row *row, const void *item, Text *t) {
        const ApiEndpoint *e = item;

        text_printf(t, "%s%s%s", e->state ?: "", e->state && e->reason ? ": " : "", e->reason ?: "");
}

#define SERVICE(member)  offsetof(ApiService, member)
#define ENDPOINT(member) offsetof(ApiEndpoint, member)

/* fleetctl(1) documents the same names. */
static const Column service_columns[] = {
        { "service", append_string, SERVICE(name) },
        { "ports", append_joined, SERVICE(ports) },
        { "endpoints", service_endpoints },
        { "machines", append_joined, SERVICE(machines) },
        { "reason", service_reason },
        {},
};
static const Column endpoint_columns[] = {
        { "endpoint", append_string, ENDPOINT(endpoint) }, { "address", append_string, ENDPOINT(address) },
        { "ports", append_joined, ENDPOINT(ports) },       { "machine", append_string, ENDPOINT(machine) },
        { "unit", append_string, ENDPOINT(unit) },         { "reason", endpoint_reason },
        { "zone", append_string, ENDPOINT(zone) },         {},
};

/* Print the rows. Those of complete services have no reason, and need no column for it. */
static int services_print(const Client *c, bool of_one, const Listing *l) {
        static const char *const fields[2][2] = {
                { "service,ports,endpoints,machines", "service,ports,endpoints,machines,reason" },
                { "endpoint,address,ports,machine,unit", "endpoint,address,ports,machine,unit,reason" },
        };
        _cleanup_table_ Table table = {};
        bool any = false;
        Choice choice;

        for (size_t i = 0; i < l->n; i++)
                any |= of_one ? !l->endpoints[i].endpoint : l->services[i].unit != NULL;
        if (columns_choose(of_one ? endpoint_columns : service_columns,
                           c->options.fields ?: fields[of_one][any], &choice) < 0)
                return EXIT_FAILED;
        table = table_begin(choice.fields);
        for (size_t i = 0; i < l->n; i++)
                columns_add_row(&table, &choice, &(Row) { .item = l->items + i * l->kind->size });
        TRY(table_print(&table, !c->options.no_legend));
        return EXIT_DONE;
}

/* Print whether this host resolves the name. Without an endpoint, no host does: then that of fleet-dns. */
static int services_print_resolver(const Client *c, const char *name, const Listing *l) {
        _cleanup_text_ Text t = {}, host = {};

        if (c->tunnel || !streq(c->options.endpoint, ENDPOINT_DEFAULT) || c->options.no_legend)
                return EXIT_DONE;
        text_append(&host, "ns.fleet");
        for (size_t i = 0; i < l->n; i++)
                if (l->endpoints[i].endpoint) {
                        text_clear(&host);
                        text_printf(&host, "%s.service.fleet", name);
                        break;
                }
        TRY(host.error);
        resolver_append(&t, host.chars);
        output_words(&t, 0);
        return EXIT_DONE;
}

static int services_run(Client *c, char **args, size_t n, Error *err) {
        const char *name = n > 0 ? args[0] : NULL;
        _cleanup_listing_ Listing l = {};
        int r;

        if (n > 1)
                return client_usage("services: expected one name at most");
        r = client_services(c, name, &l, err);
        if (r < 0 && name && l.absent) {
                client_note("no unit has the service %s; for a list: fleetctl services", name);
                return EXIT_ABSENT;
        }
        if (r < 0)
                return client_fail_after(r, err, "Failed to read the services: ");
        client_note_stale(c);
        if (client_prints_json(c)) {
                _cleanup_text_ Text t = {};

                api_page_write(&t, l.kind, l.items, l.n, NULL);
                return output_built(&t);
        }
        TRY_DONE(services_print(c, name != NULL, &l));
        if (l.n == 0 && client_is_interactive())
                client_note("no unit has Service= or Port= (fleetctl help discovery)");
        return name ? services_print_resolver(c, name, &l) : EXIT_DONE;
}

VERB(services, "services", "list json", "[NAME]", "List the services of units, and where they run",
     "With a name: the endpoints of the service, and the units that have none, with the reason; then\n"
     "whether this host resolves the name.\n"
     "Fields: service, ports, endpoints, machines, reason; with a name: endpoint, address, ports, machine,\n"
     "unit, reason, zone.\n",
     services_run);
