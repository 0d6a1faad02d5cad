/* Invariants. Each check has a name; one that fails ends the run and prints the seed. */

#include <fcntl.h>

#include "base/file.h"
#include "fleetd/agent/records.h"
#include "fleetd/registry/history.h"
#include "fleetd/scheduler/filters.h"
#include "fleetd/scheduler/scheduler.h"
#include "tests/sim/contents.h"
#include "tests/sim/drains.h"
#include "tests/sim/replicas.h"
#include "tests/sim/rollouts.h"
#include "tests/sim/services.h"
#include "tests/lib/store_inside.h"

enum {
        CATCH_UP_MS = 5000, /* until a daemon that returned has executed the requests of its absence */
        LOST_SILENT_MS = 3000,
        HEARD_MS = 500,   /* until the recovery of a kernel is noticed without a session */
        ATTACH_MS = 2000, /* until a daemon that returned has a session */
};

static RunningUnit *run_of(SimMachine *m, const char *unit) {
        for (unsigned i = 0; i < CLUSTER_RUNS_MAX; i++)
                if (streq(m->runs[i].unit, unit))
                        return &m->runs[i];
        for (unsigned i = 0; i < CLUSTER_RUNS_MAX; i++)
                if (!m->runs[i].unit[0]) {
                        snprintf(m->runs[i].unit, sizeof(m->runs[i].unit), "%s", unit);
                        return &m->runs[i];
                }
        abort();
}

/* Return the time of the last request that may start the unit, or with 'stops': that may stop it. */
static uint64_t touched_ms(const SimCluster *c, const char *unit, bool stops) {
        const SimUserUnit *person = NULL;
        uint64_t latest = 0;

        for (unsigned i = 0; i < c->n_units; i++)
                if (streq(c->units[i].name, unit))
                        person = &c->units[i];
        for (unsigned i = 0; person && i < c->n_units; i++)
                if (&c->units[i] == person)
                        latest = MAX(latest, stops ? person->stopping_ms : person->touched_ms);
                else if (person->group && c->units[i].group && streq(c->units[i].group, person->group))
                        latest = MAX(latest, c->units[i].touched_ms);
        return latest;
}

/* Whether a user requested the change, or the host may have been declared lost meanwhile. Groups move
 * together: a fault of any host may move their members. A unit that started during another host's fault may
 * be a replacement, which stops when that host returns. */
static bool has_cause(const SimMachine *m, const char *unit, uint64_t since_ms, bool stops) {
        const SimCluster *c = m->cluster;
        uint64_t now_ms = world_now_ms(c->world);
        uint64_t asked_since_ms = since_ms;
        const char *group = NULL;

        for (unsigned i = 0; i < c->n_units; i++)
                if (streq(c->units[i].name, unit))
                        group = c->units[i].group;
        if (m->absent_until_ms > 0 && since_ms >= m->absent_from_ms &&
            since_ms <= m->absent_until_ms + CATCH_UP_MS)
                asked_since_ms = m->absent_from_ms;
        if (touched_ms(c, unit, stops) >= asked_since_ms)
                return true;
        for (unsigned i = 0; i < c->n; i++) {
                const SimMachine *other = &c->machines[i];

                if (other != m && other->suspect_from_ms > 0 && other->suspect_from_ms <= since_ms &&
                    since_ms <= other->suspect_until_ms)
                        return true;
                if ((other == m || group) && other->suspect_until_ms >= since_ms &&
                    other->suspect_from_ms > 0 && other->suspect_from_ms <= now_ms)
                        return true;
        }
        return false;
}

/* Units of this name have Singleton=yes; systemd stops them without fleetd. */
static bool is_singleton(const char *unit) {
        return starts_with(unit, "single");
}

/* The unit of this name stays where its data is, which one process at a time writes. */
static void check_data_start(const SimMachine *m, const char *unit) {
        const SimCluster *c = m->cluster;
        SimMachine *leader = cluster_leader((SimCluster *) c);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;
        const ClusterUnit *u = view && !view->adopting ? cluster_unit(view, unit) : NULL;

        if (starts_with(unit, "data-") && u && u->sticky && !u->move && u->data &&
            !streq(u->data->machine, m->machine_id))
                world_failed(c->world, "a-unit-starts-where-its-data-is",
                             "%s starts on %s, its data is on %.8s", unit, m->name, u->data->machine);
        if (!starts_with(unit, "data.") || !c->data_on)
                return;
        if (c->data_on != m)
                world_failed(c->world, "a-unit-starts-where-its-data-is",
                             "%s starts on %s, its data is on %s", unit, m->name, c->data_on->name);
        for (unsigned i = 0; i < c->n; i++)
                if (&c->machines[i] != m && sim_systemd_runs(c->machines[i].systemd, unit))
                        world_failed(c->world, "one-process-writes-data", "%s starts on %s, and runs on %s",
                                     unit, m->name, c->machines[i].name);
}

void check_data(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;

        for (const ClusterUnit *u = view && !view->adopting ? view->units : NULL; u; u = u->hh.next) {
                const char *id = u->sticky && !u->move ? cluster_data_machine(u) : NULL;
                const ClusterAssignment *a;

                LIST_FOREACH(a, &u->assignments, of_unit)
                        if (id && cluster_assignment_is_active(a) && !streq(a->machine->id, id))
                                world_failed(c->world, "a-unit-is-assigned-where-its-data-is",
                                             "%s is assigned to %.8s, its data is on %.8s", u->name,
                                             a->machine->id, id);
                for (unsigned i = 0; u->data && !u->move && i < c->n; i++)
                        if (starts_with(u->name, "data.") && u->sticky &&
                            streq(c->machines[i].machine_id, u->data->machine))
                                c->data_on = &c->machines[i];
        }
}

static bool is_sibling(const ClusterUnit *a, const ClusterUnit *b) {
        size_t n = strcspn(a->name, "@");

        return a->name[n] && strncmp(a->name, b->name, n + 1) == 0;
}

/* Changes that came with the arrival, or after it, do not count: what is there stays. Those just before it
 * were in force when its plan was on the way. */
enum { IN_FLIGHT = 10 }; /* changes */

static void check_arrival(SimCluster *c, const SchedulerView *view, const ClusterAssignment *a) {
        const ClusterMachine *m = a->machine;
        const Placement *wants = &a->of->unit->placement;
        Resources capacity = scheduler_view_capacity(view, m);
        unsigned n = 0, max = wants->max_per_machine;

        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                if (o->of->index + IN_FLIGHT >= a->created ||
                    (o->of->index == 0 && o->kind == ASSIGNMENT_STOP))
                        return;
                n += is_sibling(a->of, o->of);
                if (o->of->unit && is_sibling(a->of, o->of)) /* one with a larger limit arrived last */
                        max = MAX(max, o->of->unit->placement.max_per_machine);
        }
        c->n_sized += resources_are_set(wants->request) || wants->max_per_machine > 0;
        if (wants->max_per_machine > 0 && n > max)
                world_failed(c->world, "an-arrival-is-within-MaxPerMachine", "%s is the %u. on %.8s", a->unit,
                             n, m->id);
        /* that of a restricted host depends on all others */
        for (const ClusterMachine *other = scheduler_view_cluster(view)->machines; other;
             other = other->hh.next)
                if ((other == m || cluster_machine_is_restricted(m)) &&
                    other->place_index + IN_FLIGHT >= a->created)
                        return;
        if (!resources_are_set(capacity))
                return;
        if (wants->request.memory_mib > 0 && m->requested.memory_mib > capacity.memory_mib)
                world_failed(c->world, "a-request-has-room", "%s on %.8s: %llu of %u MiB", a->unit, m->id,
                             (unsigned long long) m->requested.memory_mib, capacity.memory_mib);
        if (wants->request.cpu_percent > 0 && m->requested.cpu_percent > capacity.cpu_percent)
                world_failed(c->world, "a-request-has-room", "%s on %.8s: %llu of %u %%", a->unit, m->id,
                             (unsigned long long) m->requested.cpu_percent, capacity.cpu_percent);
}

static void check_sums(SimCluster *c, const ClusterMachine *m) {
        Sums requested = {}, sized = {};

        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                const Unit *unit = o->of->unit;

                sums_replace(&requested, &(Resources) {}, unit ? unit->placement.request : (Resources) {});
                if (cluster_assignment_is_active(o))
                        sums_replace(&sized, &(Resources) {},
                                     unit ? unit->placement.size : resources_default);
        }
        if (memcmp(&requested, &m->requested, sizeof(requested)) != 0 ||
            memcmp(&sized, &m->sized, sizeof(sized)) != 0)
                world_failed(c->world, "the-sums-are-those-of-the-assignments", "%.8s", m->id);
}

void check_sizes(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;
        SchedulerView *sizes;

        if (!view || !registry_ready(daemon_host(leader->daemon)->registry) || view->index <= c->sized_index)
                return;
        if (scheduler_view_new(view, view->now_ms, &sizes) < 0)
                abort();
        for (const ClusterMachine *m = view->machines; m; m = m->hh.next) {
                for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                        if (a->created > c->sized_index && a->of->unit && cluster_assignment_is_active(a))
                                check_arrival(c, sizes, a);
                if (c->n_full % 100 == 0)
                        check_sums(c, m);
                for (const ClusterUnit *u = c->n_full % 100 == 0 ? view->units : NULL; u; u = u->hh.next)
                        if (u->unit && !resources_are_set(u->unit->placement.request) &&
                            scheduler_check(RULE_RESOURCES, sizes, u, m, false, NULL) == RULE_RESOURCES)
                                world_failed(c->world, "a-unit-without-a-request-never-waits-for-room", "%s",
                                             u->name);
        }
        scheduler_view_free(sizes);
        c->n_full++;
        c->sized_index = view->index;
}

static void check_singleton(const SimMachine *m, const char *unit) {
        const SimCluster *c = m->cluster;

        for (unsigned i = 0; i < c->n; i++)
                if (&c->machines[i] != m && sim_systemd_runs(c->machines[i].systemd, unit))
                        world_failed(c->world, "a-singleton-runs-once", "%s starts on %s, and runs on %s",
                                     unit, m->name, c->machines[i].name);
}

/* Return whether the object that names the unit has the part. */
static bool file_contains(const char *path, const char *unit, const char *part) {
        _cleanup_free_ char *text = NULL, *name = NULL;
        const char *at, *found;

        if (read_file_at(AT_FDCWD, path, RECORDS_SIZE_MAX, &text, NULL) < 0 ||
            asprintf(&name, "\"name\":\"%s\"", unit) < 0)
                return false;
        at = strstr(text, name);
        found = at ? strstr(at, part) : NULL;
        return found && found < (strstr(at, "\"text\":") ?: found);
}

/* No other unit that runs has the port that a unit starts with, and a selected number is in its record on
 * disk.
 */
static void check_ports(const SimMachine *m, const char *unit) {
        const char *at = sim_systemd_ports(m->systemd, unit), *other;
        _cleanup_free_ char *path = NULL, *records = NULL;
        char part[32];
        unsigned number;
        bool selected;

        selected = at && strstr(at, "\n# http=");
        at = at ? strstr(at, "FLEET_PORT_HTTP=") : NULL;
        if (!at || sscanf(at, "FLEET_PORT_HTTP=%u", &number) != 1)
                return;
        other = sim_systemd_port_owner(m->systemd, (uint16_t) number, unit);
        if (other)
                world_failed(m->cluster->world, "one-unit-has-a-port", "%s starts with port %u of %s on %s",
                             unit, number, other, m->name);
        snprintf(part, sizeof(part), "\"ports\":{\"http\":%u}", number);
        assert(settings_agent_path(&m->settings, &path) == 0 &&
               asprintf(&records, "%s/assignment", path) > 0);
        if (selected && !file_contains(records, unit, part))
                world_failed(m->cluster->world, "a-port-is-recorded-before-the-start",
                             "%s starts with port %u on %s, which is not in its record", unit, number,
                             m->name);
}

void check_start(SimMachine *m, const char *unit) {
        RunningUnit *run = run_of(m, unit);

        check_ports(m, unit);
        check_data_start(m, unit);
        if (is_singleton(unit)) {
                check_singleton(m, unit);
                return;
        }
        if (replicas_has(unit) || rollouts_check_start(m, unit) || contents_check_start(m, unit))
                return;
        if (run->stopped_ms > 0 && !has_cause(m, unit, run->since_ms, false) &&
            !drains_may_move(m->cluster, run->since_ms))
                world_failed(m->cluster->world, "nothing-restarted-without-cause",
                             "%s was started again on %s in one boot", unit, m->name);
        run->since_ms = world_now_ms(m->cluster->world);
        run->stopped_ms = 0;
}

void check_stop(SimMachine *m, const char *unit, bool asked) {
        RunningUnit *run = run_of(m, unit);

        if (is_singleton(unit) || replicas_has(unit) || rollouts_check_stop(m, unit, asked) ||
            contents_check_stop(m, unit, asked))
                return;
        if (asked && !has_cause(m, unit, run->since_ms, true)) {
                if (drains_may_move(m->cluster, run->since_ms))
                        drains_check_stop(m, unit, run->since_ms);
                else
                        world_failed(m->cluster->world, "no-stop-without-cause",
                                     "%s was stopped on %s, where it ran since %llu ms", unit, m->name,
                                     (unsigned long long) (run->since_ms - WORLD_START_MS));
        }
        run->stopped_ms = world_now_ms(m->cluster->world);
        if (!asked)
                run->ended_ms = run->stopped_ms;
}

/* Return for how long a host was silent for the host that counts its signs: the leader itself, or any replica
 * that reports it. Without a session to any, as while its daemon does not run, its kernel counts as silent.
 */
static uint64_t silent_ms(SimCluster *c, const SimMachine *lost, const SimMachine *leader) {
        uint64_t ms = sim_net_silent_ms(c->net, lost->host, leader->host, HEARD_MS);

        if (c->may_attach && world_now_ms(c->world) <= lost->absent_until_ms + ATTACH_MS)
                return LOST_SILENT_MS;
        for (unsigned i = 0; i < c->n && c->may_attach; i++)
                if (&c->machines[i] != lost)
                        ms = MAX(ms, sim_net_silent_ms(c->net, lost->host, c->machines[i].host, HEARD_MS));
        return ms;
}

/* A silence that ended just now counts. The leader logs the message when it decides, before it writes the
 * presence. */
void check_message(SimCluster *c, const LogFields *fields, const char *message) {
        const SimMachine *lost = NULL;

        if (!fields->machine || !strstr(message, " is lost: no message from its fleetd or its kernel"))
                return;
        for (unsigned i = 0; i < c->n; i++)
                if (streq(c->machines[i].machine_id, fields->machine) && !c->machines[i].is_played)
                        lost = &c->machines[i];
        for (unsigned i = 0; lost && i < c->n; i++) {
                const SimMachine *m = &c->machines[i];
                uint64_t ms;
                KvState state;

                if (!m->daemon || m->dying || !daemon_host(m->daemon)->store)
                        continue;
                kv_state(daemon_host(m->daemon)->store, &state);
                if (state.role != KV_ROLE_LEADER || state.term != fields->term)
                        continue;
                ms = silent_ms(c, lost, m);
                if (ms < LOST_SILENT_MS)
                        world_failed(c->world, "a-lost-host-was-silent-for-3-s",
                                     "%s declares %s lost; its kernel was heard %llu ms before", m->name,
                                     lost->name, (unsigned long long) ms);
        }
}

/* A tree at the index of its last comparison is not read again: a difference that came later is still there
 * at the next one. */
void check_hashes(SimCluster *c) {
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                uint64_t hash, applied, slot;
                TreeMeta meta;

                if (!machine_serves(m) || m->leaves || machine_is_attached(m) ||
                    store_meta(daemon_host(m->daemon)->store, &meta) < 0 || meta.applied == m->hashed_at ||
                    store_hash(daemon_host(m->daemon)->store, &hash, &applied) < 0)
                        continue;
                m->hashed_at = applied;
                slot = applied % ELEMENTS(c->hashes);
                if (c->hashes_at[slot] == applied && c->hashes[slot] != hash)
                        world_failed(c->world, "replicas-equal", "%s differs at applied index %llu", m->name,
                                     (unsigned long long) applied);
                c->hashes_at[slot] = applied;
                c->hashes[slot] = hash;
        }
}

static void check_writers(SimCluster *c) {
        for (unsigned h = 0; h < c->n; h++) {
                KvStore *store;
                TreeMeta meta;

                if (c->machines[h].leaves || machine_is_attached(&c->machines[h]))
                        continue;
                store = daemon_host(c->machines[h].daemon)->store;
                if (store_meta(store, &meta) < 0)
                        abort();
                for (unsigned i = 0; i < CLUSTER_WRITERS; i++)
                        for (uint64_t k = 1; k <= c->writers[i].attempted; k++) {
                                char key[64];

                                snprintf(key, sizeof(key), "/writer/%u/%llu", i, (unsigned long long) k);
                                if (c->writers[i].acknowledged[k] && !store_has(store, key))
                                        world_failed(c->world, "no-acknowledged-write-lost",
                                                     "%s was acknowledged, and is not on %s", key,
                                                     c->machines[h].name);
                        }
        }
}

static int check_row(void *userdata, const KvHistoryRow *row) {
        SimMachine *m = userdata;
        HistoryEvent event;

        if (history_decode(row->body, &event) < 0 || event.kind >= _HISTORY_KIND_MAX ||
            (event.kind == HISTORY_STATE && (!event.unit[0] || !event.machine[0] || !event.reason[0])))
                world_failed(m->cluster->world, "the-history-is-readable", "row %llu of %s",
                             (unsigned long long) row->index, m->name);
        return 1;
}

/* The history of all hosts is equal, because their trees are. */
static void check_history(SimMachine *m) {
        if (kv_local_history(daemon_host(m->daemon)->store, 0, false, check_row, m) < 0)
                world_failed(m->cluster->world, "the-history-is-readable", "%s has none", m->name);
}

static unsigned running_on(const SimCluster *c, const char *unit, char *ret, size_t size) {
        unsigned n = 0;

        ret[0] = 0;
        for (unsigned i = 0; i < c->n; i++)
                if (sim_systemd_runs(c->machines[i].systemd, unit)) {
                        size_t used = strlen(ret);

                        snprintf(ret + used, size - used, " %s", c->machines[i].name);
                        n++;
                }
        return n;
}

/* While the rollout of its text is paused, a unit that moves starts with the text that was completed last. If
 * none was (its machine was lost before it was available), the unit keeps its own. */
static bool is_held_back(const ClusterUnit *u, const char *hash) {
        const RolloutRecord *r = u->rollout;

        return r && r->state == ROLLOUT_PAUSED &&
               (r->completed.number == 0 || streq(hash, r->completed.hash));
}

static void check_unit(SimCluster *c, const Cluster *cluster, const SchedulerView *view,
                       const ClusterUnit *u) {
        const ClusterMachine *where = NULL;
        unsigned orders = 0, wanted = 0, n;
        char on[128];
        Error why = {};

        n = running_on(c, u->name, on, sizeof(on));
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                const ClusterAssignment *o = cluster_assignment(cluster, m->id, u->name);

                if (o && o->kind == ASSIGNMENT_RUN) {
                        orders++;
                        where = m;
                }
        }
        if (u->target != TARGET_LAUNCHED || unit_name_is_template(u->name)) {
                if (n > 0)
                        world_failed(c->world, "runs-only-if-wanted", "%s is not wanted, but runs on%s",
                                     u->name, on);
                return;
        }
        if (u->unit->placement.global) {
                /* Flap damping excludes a machine that is lost repeatedly. */
                for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next)
                        if (cluster_assignment(cluster, m->id, u->name) ||
                            scheduler_fits(view, u, m, false, NULL))
                                wanted++;
                if (n != wanted)
                        world_failed(c->world, "global-runs-everywhere", "%s runs on%s only", u->name, on);
                return;
        }
        if (orders > 1)
                world_failed(c->world, "a-unit-has-one-machine", "%s has %u orders to run", u->name, orders);
        if (orders == 0 && scheduler_pick(view, u, &where, &why) == 0)
                world_failed(c->world, "a-unit-that-fits-runs", "%s fits on %s, but is nowhere", u->name,
                             where->id);
        if (orders == 0 && n == 0)
                return;
        if (n != 1)
                world_failed(c->world, "a-unit-that-fits-runs-exactly-once", "%s runs on%s (%u hosts)",
                             u->name, n > 0 ? on : " none", n);
        for (unsigned i = 0; i < c->n; i++) {
                const ClusterState *state = cluster_state(cluster, c->machines[i].machine_id, u->name);
                const char *hash = sim_systemd_hash(c->machines[i].systemd, u->name);
                char invocation[INVOCATION_ID_SIZE];

                if (hash && !streq(c->machines[i].machine_id, where->id))
                        world_failed(c->world, "a-unit-runs-where-assigned",
                                     "%s runs on%s, its order is %s's", u->name, on, where->id);
                if (hash && state && (state->state.reason || state->state.job[0]))
                        world_failed(c->world, "a-unit-that-runs-has-no-reason", "%s runs on%s: %s", u->name,
                                     on, state->state.reason ?: state->state.job);
                snprintf(invocation, sizeof(invocation), "%032llx",
                         (unsigned long long) sim_systemd_invocation(c->machines[i].systemd, u->name));
                if (hash && state && !streq(state->state.invocation, invocation))
                        world_failed(c->world, "each-start-is-published", "%s on%s: %s instead of %s",
                                     u->name, on, state->state.invocation, invocation);
                if (hash && !streq(hash, u->unit->hash) && !is_held_back(u, hash) &&
                    !replicas_has(u->name)) /* of many, one after the other gets it */
                        world_failed(c->world, "a-unit-runs-as-submitted", "%s on%s runs an old text",
                                     u->name, on);
        }
}

/* Without a certificate, a host that begins again before it has its tombstone is a host that waits. */
static void check_left(const SimMachine *m, const SimMachine *leader) {
        const ClusterMachine *known = cluster_machine(registry_cluster(daemon_host(leader->daemon)->registry),
                                                      m->machine_id);

        if (!m->has_left && !(known && cluster_machine_has_left(known)))
                world_failed(m->cluster->world, "a-host-that-leaves-has-left", "%s", m->name);
}

/* A daemon that does not run withdraws nothing: what it had proposed before takes effect within some seconds.
 */
static void check_endpoints_stay(SimMachine *m, const Cluster *cluster) {
        const ClusterMachine *known = cluster_machine(cluster, m->machine_id);
        unsigned n = (unsigned) cluster_server(cluster, m->machine_id)->n_endpoints;
        uint64_t now_ms = world_now_ms(m->cluster->world);

        if (!known || presence_is_down(known->presence))
                m->served_ms = now_ms;
        if (now_ms - m->served_ms <= CATCH_UP_MS)
                m->n_endpoints = n;
        else if (n < m->n_endpoints)
                world_failed(m->cluster->world, "endpoints-stay-without-their-daemon", "%s has %u of %u",
                             m->name, n, m->n_endpoints);
}

/* An endpoint exists only for a unit that its machine has an assignment of, also while that is to stop it, or
 * the machine is away; and on no machine that is lost or has left. */
static void check_server(SimCluster *c, const Cluster *cluster, const ClusterService *s) {
        const ClusterMachine *m = cluster_machine(cluster, s->name);

        c->n_endpoints += s->n_endpoints;
        if (!m || presence_is_down(m->presence))
                world_failed(c->world, "a-lost-host-has-no-endpoints", "%s has %zu",
                             cluster_name_of(cluster, s->name), s->n_endpoints);
        for (size_t i = 0; i < s->n_endpoints; i++)
                if (!cluster_assignment_on(m, s->endpoints[i]->unit))
                        world_failed(c->world, "an-endpoint-has-an-assignment", "%s on %s",
                                     s->endpoints[i]->unit, cluster_name_of(cluster, s->name));
}

/* In each complete view: the changes of an entry are in it one after the other. */
void check_endpoints(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        uint64_t term = leader ? kv_leads(daemon_host(leader->daemon)->store) : 0;

        /* What was proposed before takes effect when there is a leader again. */
        for (unsigned i = 0; i < c->n; i++) {
                if (machine_serves(&c->machines[i]) || c->machines[i].served_term != term)
                        c->machines[i].served_ms = world_now_ms(c->world);
                c->machines[i].served_term = term;
        }
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                const Registry *r = machine_serves(m) && !machine_is_attached(m) ?
                                            daemon_host(m->daemon)->registry :
                                            NULL;
                const Cluster *cluster = r && registry_ready(r) && registry_is_current(r) ?
                                                 registry_cluster(r) :
                                                 NULL;

                for (const ClusterService *s = cluster ? cluster->servers : NULL; s; s = s->hh.next)
                        check_server(c, cluster, s);
                for (unsigned k = 0; cluster && m == leader && k < c->n; k++)
                        check_endpoints_stay(&c->machines[k], cluster);
        }
}

void check_healed(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        const Cluster *cluster;
        SchedulerView *view;
        unsigned n = 0;
        KvState state;

        if (!leader)
                world_failed(c->world, "a-host-leads", "no leader after all is well again");
        kv_state(daemon_host(leader->daemon)->store, &state);
        for (unsigned i = 0; i < c->n; i++) {
                KvState other;

                if (c->machines[i].leaves) {
                        check_left(&c->machines[i], leader);
                        continue;
                }
                n++;
                kv_state(daemon_host(c->machines[i].daemon)->store, &other);
                if (other.attached && (!other.ready || !cluster_slice_equals(&c->machines[i], leader)))
                        world_failed(c->world, "every-host-catches-up", "%s has no complete slice: %s",
                                     c->machines[i].name, other.problem);
                if (!other.attached && other.raft_index != state.raft_index)
                        world_failed(c->world, "every-host-catches-up", "%s is at %llu, the leader at %llu",
                                     c->machines[i].name, (unsigned long long) other.raft_index,
                                     (unsigned long long) state.raft_index);
        }
        if (state.n_members != MIN(n, 5u))
                world_failed(c->world, "five-hosts-hold-a-replica", "%zu of %u", state.n_members, n);
        check_hashes(c);
        check_history(leader);
        check_writers(c);

        cluster = registry_cluster(daemon_host(leader->daemon)->registry);
        if (scheduler_view_new(cluster, cluster->now_ms, &view) < 0)
                abort();
        for (const ClusterUnit *u = cluster->units; u; u = u->hh.next)
                if (u->unit)
                        check_unit(c, cluster, view, u);
        services_check_healed(c, cluster);
        for (unsigned i = 0; i < c->n_units; i++) {
                char on[128];

                if (!cluster_unit(cluster, c->units[i].name) &&
                    running_on(c, c->units[i].name, on, sizeof(on)) > 0)
                        world_failed(c->world, "a-destroyed-unit-ends", "%s is gone, but runs on%s",
                                     c->units[i].name, on);
        }
        scheduler_view_free(view);
}
