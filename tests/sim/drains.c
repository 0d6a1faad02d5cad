#include "tests/sim/drains.h"

#include "fleetd/engine/drain.h"
#include "fleetd/engine/explain.h"
#include "tests/sim/reached.h"
#include "tests/lib/words_of.h"

enum {
        AFTER_MS = 20000,    /* after its end, in which a drain still moves units */
        BETWEEN_MS = 10000,  /* in which a unit that has stopped first is expected to start elsewhere */
        DEADLINE_MS = 20000, /* at most */
        GATHER_PERCENT = 25,
        MOVE_PERCENT = 30,
};

typedef enum DrainRequest {
        REQUEST_CORDON,
        REQUEST_DRAIN,
        REQUEST_DEADLINE,
        REQUEST_UNCORDON,
        REQUEST_MOVE,
        _REQUEST_MAX
} DrainRequest;

static const char *const request_names[] = { [REQUEST_CORDON] = "cordon",
                                             [REQUEST_DRAIN] = "drain",
                                             [REQUEST_DEADLINE] = "drain with a deadline",
                                             [REQUEST_UNCORDON] = "uncordon",
                                             [REQUEST_MOVE] = "move" };

static uint64_t totals[_REQUEST_MAX], total_moves, most_between;

enum { MAINTENANCE_NONE = 0 }; /* no record; a mode is one more */
static Reached reached = {
        .table = "maintenance",
        .states = { [MAINTENANCE_NONE] = { "none", 15, 15 },
                    [1 + MAINTENANCE_CORDONED] = { "cordoned", 45, 45 },
                    [1 + MAINTENANCE_DRAINING] = { "draining", 15, 15 },
                    [1 + MAINTENANCE_DRAINED] = { "drained", 15, 15 } },
};

/* -- Requests -- */

static void drains_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        SimCluster *c = userdata;

        if (status != KV_OK)
                world_trace(c->world, "people", "maintenance rejected: %s", message);
}

/* Return the leader's registry; NULL: no leader, or not all hosts support maintenance. */
static Registry *drains_registry(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        KvState state;

        if (!leader)
                return NULL;
        kv_state(daemon_host(leader->daemon)->store, &state);
        return state.level >= KV_LEVEL_MAINTENANCE ? daemon_host(leader->daemon)->registry : NULL;
}

static bool drains_is_maintained(const ClusterMachine *known) {
        return known->maintenance && !cluster_machine_is_leaving(known);
}

/* Return the number of hosts that are up and may get units. */
static unsigned drains_count_free(const Cluster *cluster) {
        unsigned n = 0;

        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next)
                n += m->presence == PRESENCE_UP && !m->maintenance && m->facts;
        return n;
}

static DrainRequest drains_draw(World *w, const ClusterMachine *known) {
        if (known->maintenance && world_chance(w, 60))
                return REQUEST_UNCORDON;
        if (world_chance(w, known->maintenance ? 0 : 20))
                return REQUEST_CORDON;
        return world_chance(w, 25) ? REQUEST_DEADLINE : REQUEST_DRAIN;
}

/* Send a request about a machine that is up, and that does not leave the cluster. */
static void drains_send(SimCluster *c, Registry *r, SimMachine *m, const ClusterMachine *known,
                        DrainRequest what) {
        const Cluster *cluster = registry_cluster(r);
        MaintenanceRecord next = { .by = "root@sim" };
        uint64_t now_ms = world_now_ms(c->world), within_ms;

        world_trace(c->world, "people", "%s %s", request_names[what], m->name);
        if (what == REQUEST_UNCORDON) {
                (void) registry_end_maintenance(r, known, "root@sim", "uncordoned", drains_on_done, c);
                totals[what]++;
                return;
        }
        if (known->maintenance)
                next = *known->maintenance;
        next.mode = what == REQUEST_CORDON ? MAINTENANCE_CORDONED : MAINTENANCE_DRAINING;
        next.since_ms = now_ms;
        if (what == REQUEST_DEADLINE) {
                within_ms = 1000 + world_draw(c->world, DEADLINE_MS);
                next.deadline_ms = cluster->now_ms + within_ms;
                m->overdue_ms = m->overdue_ms == 0 ? now_ms + within_ms :
                                                     MIN(m->overdue_ms, now_ms + within_ms);
        }
        if (registry_maintain(r, 0, known, &next, maintenance_mode_to_string(next.mode), drains_on_done, c) >=
            0)
                totals[what]++;
        c->maintained_ms = now_ms + AFTER_MS;
}

/* Drain all hosts but 'm', so that it gets their units; or with 'back', drain 'm' alone. */
static void drains_gather(SimCluster *c, const SimMachine *m, bool back) {
        Registry *r = drains_registry(c);

        for (unsigned i = 0; r && i < c->n; i++) {
                SimMachine *other = &c->machines[i];
                const ClusterMachine *known = cluster_machine(registry_cluster(r), other->machine_id);
                bool drain = (other == m) == back;

                if (known && known->presence == PRESENCE_UP && !cluster_machine_is_leaving(known) &&
                    (drain || known->maintenance))
                        drains_send(c, r, other, known, drain ? REQUEST_DRAIN : REQUEST_UNCORDON);
        }
}

static void drains_request(SimCluster *c, SimMachine *m) {
        Registry *r = drains_registry(c);
        const ClusterMachine *known = r ? cluster_machine(registry_cluster(r), m->machine_id) : NULL;
        DrainRequest what;

        if (!known || cluster_machine_is_leaving(known) || known->presence != PRESENCE_UP)
                return;
        what = drains_draw(c->world, known);
        /* The API rejects the drain of the only machine. */
        if (known->maintenance || drains_count_free(registry_cluster(r)) > 1)
                drains_send(c, r, m, known, what);
}

/* Move a unit to a host, or end its move. The engine ends a move to a host that does not qualify. */
static void drains_move(SimCluster *c, const SimMachine *to) {
        const SimUserUnit *p = &c->units[world_draw(c->world, c->n_units)];
        Registry *r = drains_registry(c);
        const ClusterUnit *u = r ? cluster_unit(registry_cluster(r), p->name) : NULL;
        MoveRecord move = { .by = "root@sim", .since_ms = world_now_ms(c->world) };
        MoveEnd end = { .unit = u, .result = { VERDICT_MOVE_ENDED } };
        KvState state;

        if (!u || u->unit->placement.global || cluster_unit_is_unreadable(u))
                return;
        kv_state(registry_store(r), &state);
        if (state.level < KV_LEVEL_UPDATES)
                return;
        memcpy(move.to, to->machine_id, sizeof(move.to));
        world_trace(c->world, "people", "%s %s to %s", u->move ? "end the move of" : "move", u->name,
                    to->name);
        if (u->move)
                (void) registry_end_moves(r, 0, &end, 1, "root@sim", drains_on_done, c);
        else if (registry_move(r, u, &move, drains_on_done, c) >= 0)
                totals[REQUEST_MOVE]++;
        c->maintained_ms = world_now_ms(c->world) + AFTER_MS;
}

static void drains_on_turn(void *userdata) {
        SimCluster *c = userdata;
        SimMachine *m = &c->machines[world_draw(c->world, c->n)];

        if (c->quiet)
                return;
        world_at(c->world, 1000 + world_draw(c->world, 7000), NULL, drains_on_turn, c);
        if (c->n_units > 0 && world_chance(c->world, MOVE_PERCENT))
                drains_move(c, m);
        else if (c->gathered) {
                drains_gather(c, c->gathered, true);
                c->gathered = NULL;
        } else if (world_chance(c->world, GATHER_PERCENT)) {
                drains_gather(c, m, false);
                c->gathered = m;
        } else
                drains_request(c, m);
}

void drains_begin(SimCluster *c) {
        c->drains = true;
        world_at(c->world, 8000, NULL, drains_on_turn, c);
}

bool drains_end(SimCluster *c) {
        Registry *r = drains_registry(c);
        bool none = r != NULL;

        for (const ClusterMachine *m = r ? registry_cluster(r)->machines : NULL; m; m = m->hh.next)
                if (drains_is_maintained(m)) {
                        (void) registry_end_maintenance(r, m, "root@sim", "uncordoned", drains_on_done, c);
                        none = false;
                }
        return none;
}

/* -- Checks -- */

static void drains_note_state(SimCluster *c, SimMachine *m, const ClusterMachine *known) {
        unsigned state = known->maintenance ? 1 + (unsigned) known->maintenance->mode : MAINTENANCE_NONE;

        if (state == m->maintained || cluster_machine_is_leaving(known))
                return;
        m->maintained = state;
        reached_enter(&reached, c, state);
}

void drains_watch(SimCluster *c) {
        Registry *r = c->drains ? drains_registry(c) : NULL;

        for (const ClusterMachine *m = r ? registry_cluster(r)->machines : NULL; m; m = m->hh.next)
                if (m->maintenance)
                        c->maintained_ms = world_now_ms(c->world) + AFTER_MS;
        if (r && !LIST_EMPTY(&registry_cluster(r)->lists[CLUSTER_MOVING]))
                c->maintained_ms = world_now_ms(c->world) + AFTER_MS;
        /* Daemons end here, with their views. */
        for (unsigned i = 0; i < c->n && c->drains; i++) {
                const ClusterMachine *known;

                r = drains_registry(c);
                known = r ? cluster_machine(registry_cluster(r), c->machines[i].machine_id) : NULL;
                if (known)
                        drains_note_state(c, &c->machines[i], known);
        }
}

bool drains_may_move(const SimCluster *c, uint64_t since_ms) {
        return c->maintained_ms >= since_ms;
}

static bool drains_runs_elsewhere(const SimMachine *m, const char *unit, uint64_t since_ms) {
        const SimCluster *c = m->cluster;

        for (unsigned i = 0; i < c->n; i++) {
                const SimMachine *other = &c->machines[i];

                if (other == m)
                        continue;
                if (sim_systemd_runs(other->systemd, unit))
                        return true;
                /* It has been started there, or a fault has ended it there, since. */
                for (unsigned k = 0; k < CLUSTER_RUNS_MAX; k++)
                        if (streq(other->runs[k].unit, unit) &&
                            MAX(other->runs[k].since_ms, other->runs[k].ended_ms) >= since_ms)
                                return true;
        }
        return false;
}

static bool drains_runs(const SimCluster *c, const char *unit) {
        for (unsigned i = 0; i < c->n; i++)
                if (sim_systemd_runs(c->machines[i].systemd, unit))
                        return true;
        return false;
}

/* Return the units that have left the host a moment ago, and run nowhere since; 'last' is among them. */
static unsigned drains_count_between(const SimMachine *m, const SimUserUnit *last) {
        const SimCluster *c = m->cluster;
        uint64_t now_ms = world_now_ms(c->world);
        unsigned n = 0;

        for (unsigned i = 0; i < c->n_units; i++) {
                const SimUserUnit *p = &c->units[i];

                n += p == last || (p->left == m && now_ms - p->left_ms < BETWEEN_MS &&
                                   p->touched_ms < p->left_ms && !drains_runs(c, p->name));
        }
        return n;
}

void drains_check_stop(SimMachine *m, const char *unit, uint64_t since_ms) {
        SimCluster *c = m->cluster;
        uint64_t now_ms = world_now_ms(c->world);
        SimUserUnit *p = c->units;
        unsigned n;

        while (p < c->units + c->n_units && !streq(p->name, unit))
                p++;
        total_moves++;
        /* A unit of a group also leaves when another one does, or when it does not any more. */
        if (p == c->units + c->n_units || p->group || drains_runs_elsewhere(m, unit, since_ms) ||
            (m->overdue_ms > 0 && m->overdue_ms <= now_ms))
                return;
        if (!starts_with(unit, DRAINS_STOPS_FIRST))
                world_failed(c->world, "a-drain-starts-elsewhere-first", "%s stops on %s, and runs nowhere",
                             unit, m->name);
        p->left = m;
        p->left_ms = now_ms;
        n = drains_count_between(m, p);
        most_between = MAX(most_between, n);
        if (n > DRAIN_MACHINE_MAX)
                world_failed(c->world, "a-drain-has-a-limit", "%u units of %s run nowhere", n, m->name);
}

static void drains_check_machine(SimCluster *c, const SchedulerView *view, const ClusterMachine *m) {
        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next) {
                const ClusterMachine *to;
                DrainedUnit state;
                Error why;

                if (!drain_awaits(a))
                        continue;
                state = engine_explain_drain(view, a->of, m, &to, &why);
                if ((state != DRAINED_UNIT_WAITS && state != DRAINED_UNIT_QUEUED) || !why.message[0])
                        world_failed(c->world, "each-drain-ends-or-each-unit-has-a-reason",
                                     "%s is on %s in state %d: %s", a->unit, cluster_machine_name(m), state,
                                     words_of(&a->why));
        }
}

void drains_check(SimCluster *c) {
        Registry *r = drains_registry(c);
        const Cluster *cluster = r ? registry_cluster(r) : NULL;
        const ClusterUnit *u;
        SchedulerView *view = NULL;

        if (!cluster || scheduler_view_new(cluster, cluster->now_ms, &view) < 0)
                return;
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                if (!drains_is_maintained(m) || m->maintenance->mode != MAINTENANCE_DRAINING)
                        continue;
                drains_check_machine(c, view, m);
                if (drain_left(m) == 0)
                        world_failed(c->world, "each-drain-ends-or-each-unit-has-a-reason",
                                     "%s is still draining, without units", cluster_machine_name(m));
        }
        scheduler_view_free(view);
        LIST_FOREACH(u, &cluster->lists[CLUSTER_MOVING], lists[CLUSTER_MOVING])
                world_failed(c->world, "each-move-ends", "%s still moves to %s", u->name,
                             cluster_name_of(cluster, u->move->to));
}

void drains_print(void) {
        for (unsigned i = 0; i < _REQUEST_MAX; i++)
                printf(" %s %llu,", request_names[i], (unsigned long long) totals[i]);
        printf(" moves by drains %llu, at most %llu units between machines\n",
               (unsigned long long) total_moves, (unsigned long long) most_between);
        reached_print(&reached);
}
