#include "tests/sim/services.h"

#include "fleetd/agent/agent.h"

enum {
        DEAD_MS = 2000,  /* until a daemon has removed a unit that has ended from its files */
        KEY_MS = 3000,   /* from the end of a unit until its key is deleted, while its host can write */
        SHOWN_MS = 2500, /* until the files show a cluster view */
        PASS_MS = 50,    /* from a withdrawal, which may be acknowledged at once, until the file shows it */
};

/* Call 'each' with each line of the files of a host. */
static void services_each(SimMachine *m,
                          void (*each)(SimMachine *m, const char *service, const EndpointLine *line,
                                       void *userdata),
                          void *userdata) {
        for (const Named *file = m->services.files; file; file = file->hh.next) {
                _cleanup_free_ char *text = strdup(sim_service_file(&m->services, file->name));
                EndpointLine line;

                for (char *at = text, *end; !streq(file->name, SERVICES_HOST) && *at; at = end + 1) {
                        end = strchr(at, '\n');
                        if (!end)
                                world_failed(m->cluster->world, "files-are-complete", "%s of %s", file->name,
                                             m->name);
                        *end = 0;
                        if (endpoint_line_parse(at, &line) < 0)
                                world_failed(m->cluster->world, "files-are-valid", "%s of %s", file->name,
                                             m->name);
                        each(m, file->name, &line, userdata);
                }
        }
}

static SimListed *services_listed(SimMachine *m, const char *unit) {
        for (unsigned i = 0; i < ELEMENTS(m->listed); i++)
                if (streq(m->listed[i].unit, unit) || !m->listed[i].unit[0]) {
                        snprintf(m->listed[i].unit, sizeof(m->listed[i].unit), "%s", unit);
                        return &m->listed[i];
                }
        abort();
}

/* -- Own endpoints -- */

static void services_watch_line(SimMachine *m, const char *service, const EndpointLine *line,
                                void *userdata) {
        uint64_t now_ms = world_now_ms(m->cluster->world);
        bool own = streq(line->machine_id, m->machine_id);
        SimListed *listed = own ? services_listed(m, line->unit) : NULL;

        *(unsigned *) userdata += !own;
        if (!own)
                return;
        listed->at_ms = now_ms;
        if (sim_systemd_runs(m->systemd, line->unit) || !machine_serves(m) ||
            now_ms <= m->absent_until_ms + DEAD_MS)
                listed->dead_ms = now_ms;
        else if (now_ms - listed->dead_ms > DEAD_MS)
                world_failed(m->cluster->world, "no-file-lists-a-unit-that-has-ended", "%s on %s", line->unit,
                             m->name);
}

void services_check_stop(SimMachine *m, const char *unit) {
        SimListed *listed = services_listed(m, unit);
        uint64_t now_ms = world_now_ms(m->cluster->world);
        unsigned n = 0;

        services_each(m, services_watch_line, &n);
        if (listed->at_ms > 0 && now_ms - listed->at_ms + PASS_MS < WITHDRAW_MS)
                world_failed(m->cluster->world, "a-unit-is-withdrawn-before-it-is-stopped",
                             "%s on %s was listed %llu ms before", unit, m->name,
                             (unsigned long long) (now_ms - listed->at_ms));
}

/* -- Endpoints of others: they change with the view of the host alone -- */

/* A key of a unit that has ended is deleted as soon as its host can write. */
static void services_watch_keys(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        uint64_t now_ms = world_now_ms(c->world);

        for (unsigned i = 0; leader && i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                const ClusterService *server = cluster_server(
                        registry_cluster(daemon_host(leader->daemon)->registry), m->machine_id);

                for (size_t k = 0; k < server->n_endpoints; k++) {
                        const ClusterEndpoint *e = server->endpoints[k];
                        SimListed *listed = services_listed(m, e->unit);

                        if (sim_systemd_runs(m->systemd, e->unit) || !machine_serves(m) || !m->power ||
                            !agent_is_fresh(daemon_host(m->daemon)->agent) ||
                            now_ms <= m->absent_until_ms + DEAD_MS || now_ms > listed->key_seen_ms + SHOWN_MS)
                                listed->key_ms = now_ms;
                        else if (now_ms - listed->key_ms > KEY_MS)
                                world_failed(c->world, "no-key-of-a-unit-that-has-ended", "%s on %s", e->unit,
                                             m->name);
                        listed->key_seen_ms = now_ms;
                }
        }
}

static uint64_t services_index(const SimMachine *m) {
        return machine_serves(m) ? registry_cluster(daemon_host(m->daemon)->registry)->index : 0;
}

void services_watch_end(SimMachine *m) {
        m->listed_index = services_index(m);
}

void services_watch(SimCluster *c) {
        services_watch_keys(c);
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                uint64_t now_ms = world_now_ms(c->world), index = services_index(m);
                bool fresh = machine_serves(m) && agent_is_fresh(daemon_host(m->daemon)->agent);
                unsigned n = 0;

                services_each(m, services_watch_line, &n);
                /* With the word of a majority, the view replaces what a former daemon has listed. */
                if (index != m->listed_index || (fresh && !m->listed_fresh))
                        m->listed_ms = now_ms;
                else if (n < m->n_listed && now_ms - m->listed_ms > SHOWN_MS)
                        world_failed(c->world, "endpoints-of-others-stay-without-a-change",
                                     "%s lists %u of %u", m->name, n, m->n_listed);
                m->listed_index = index;
                m->listed_fresh = fresh;
                m->n_listed = n;
        }
}

/* -- At rest -- */

static void services_check_unit(SimCluster *c, const Cluster *cluster, const SimMachine *m,
                                const ClusterUnit *u) {
        const ClusterAssignment *a = cluster_assignment(cluster, m->machine_id, u->name);
        const ClusterState *state = cluster_state(cluster, m->machine_id, u->name);
        bool is = cluster_endpoint(cluster, m->machine_id, u->name),
             wanted = u->unit && u->unit->placement.service.names.n > 0 && a && a->kind == ASSIGNMENT_RUN &&
                      state && state->state.health == UNIT_HEALTH_PASSING &&
                      sim_systemd_runs(m->systemd, u->name);

        if (is != wanted)
                world_failed(c->world, "keys-equal-what-runs", "%s on %s is %sregistered", u->name, m->name,
                             is ? "" : "not ");
}

typedef struct Found {
        const Cluster *cluster;
        unsigned n;
} Found;

static void services_check_line(SimMachine *m, const char *service, const EndpointLine *line,
                                void *userdata) {
        Found *found = userdata;
        const ClusterEndpoint *e = cluster_endpoint(found->cluster, line->machine_id, line->unit);
        char name[ENDPOINT_NAME_SIZE];

        found->n++;
        if (!e || !streq(e->record.address, line->address) ||
            !streq(endpoint_name(name, e->record.name, e->machine, e->unit), line->endpoint))
                world_failed(m->cluster->world, "files-equal-keys", "%s lists %s of %s", m->name, line->unit,
                             line->machine_id);
}

void services_check_healed(SimCluster *c, const Cluster *cluster) {
        unsigned n_lines = 0;

        for (const ClusterService *s = cluster->services; s; s = s->hh.next)
                for (size_t i = 0; i < s->n_endpoints; i++)
                        n_lines += MAX(s->endpoints[i]->record.n_ports, (size_t) 1);
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                Found found = { .cluster = cluster };

                if (m->leaves || m->has_left || m->is_played)
                        continue;
                for (const ClusterUnit *u = cluster->units; u; u = u->hh.next)
                        services_check_unit(c, cluster, m, u);
                services_each(m, services_check_line, &found);
                if (found.n != n_lines)
                        world_failed(c->world, "files-equal-keys", "%s lists %u of %u", m->name, found.n,
                                     n_lines);
        }
}
