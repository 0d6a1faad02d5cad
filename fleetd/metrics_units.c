#include "fleetd/metrics_units.h"

typedef struct UnitsCollected {
        const ComponentHost *host;
        MetricsScrape *scrape;
        size_t n; /* units that the agent has; the first ones are collected */
} UnitsCollected;

static void units_count(void *userdata, const SystemdUnit *unit) {
        (*(size_t *) userdata)++;
}

static void units_add(void *userdata, const SystemdUnit *unit) {
        UnitsCollected *c = userdata;
        const Registry *registry = c->host->registry;
        const ClusterState *published;
        MetricsUnit *u;

        if (c->scrape->n_units == c->n)
                return;
        published = cluster_state(registry_cluster(registry), registry_machine_id(registry), unit->name);
        u = &c->scrape->units[c->scrape->n_units++];
        metrics_unit_init(u, unit->name);
        u->active = streq(unit->active, "active");
        u->inactive = streq(unit->active, "inactive");
        u->failed = streq(unit->active, "failed");
        u->restarts = unit->n_restarts;
        u->since_ms = published ? published->state.since_ms : 0;
}

int metrics_units_collect(const ComponentHost *host, MetricsScrape *scrape) {
        UnitsCollected c = { .host = host, .scrape = scrape };
        size_t n = 0;

        if (!host->agent)
                return 0;
        agent_each_unit(host->agent, units_count, &n);
        c.n = MIN(n, host->settings->metrics_units);
        scrape->n_omitted = n - c.n;
        if (c.n == 0)
                return 0;
        scrape->units = NEW0(MetricsUnit, c.n);
        if (!scrape->units)
                return -ENOMEM;
        agent_each_unit(host->agent, units_add, &c);
        return 0;
}
