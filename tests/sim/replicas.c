#include "tests/sim/replicas.h"

#include "fleetd/features/replicas/replicas.h"

#define SET   "set@.service"
#define OTHER "set@blue.service"

enum {
        COUNT_MAX = 12,
        TURN_MS = 2000,
        KILLED_PERCENT = 30, /* of the requests, soon after which the leader's daemon is killed */
        KILLED_WITHIN_MS = 60,
        AWAY_MS = 1500,
};

typedef enum SetRequest {
        SET_TEXT,
        SET_SCALE,
        SET_FILE,
        SET_TARGET,
        SET_DESTROY_SLOT,
        SET_DESTROY
} SetRequest;

static const char *const request_names[] = { "text", "scale", "file", "target", "destroy slot", "destroy" };
static uint64_t totals[ELEMENTS(request_names)], total_killed, total_sets;
static bool has_set;

bool replicas_has(const char *unit) {
        return starts_with(unit, "set@");
}

static void set_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        SimCluster *c = userdata;

        if (status != KV_OK)
                world_trace(c->world, "people", "request about %s rejected: %s", SET, message);
}

static Unit *set_text(const char *name, unsigned replicas) {
        _cleanup_text_ Text t = {};
        Unit *unit = NULL;

        text_printf(&t, "[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nReplicas=%u\n", replicas);
        if (t.error < 0 || unit_parse(name, t.chars, t.size, &unit, NULL) < 0)
                abort();
        return unit;
}

static void set_submit(SimCluster *c, Registry *r, const char *name, unsigned replicas) {
        _cleanup_unit_ Unit *unit = set_text(name, replicas);

        (void) registry_change_units(
                r,
                &(UnitChange) { .unit = unit, .name = name, .has_target = true, .target = TARGET_LAUNCHED },
                1, set_on_done, c);
}

static void set_change(SimCluster *c, Registry *r, UnitChange change) {
        (void) registry_change_units(r, &change, 1, set_on_done, c);
}

static void set_scale(SimCluster *c, Registry *r, const ClusterUnit *u, bool scaled, unsigned count) {
        ReplicasRecord record = { .slots = u->replicas ? u->replicas->slots : 0 };

        if (scaled)
                record = (ReplicasRecord) { .is_scaled = true,
                                            .count = count,
                                            .file = (uint64_t) u->unit->placement.replicas,
                                            .since_ms = 1,
                                            .slots = record.slots };
        (void) registry_scale(r, u, &record, "root@sim", set_on_done, c);
}

static void set_request(SimCluster *c, Registry *r, const ClusterUnit *u) {
        World *w = c->world;
        unsigned n = (unsigned) world_draw(w, COUNT_MAX + 1), draw = (unsigned) world_draw(w, 12);
        SetRequest what = draw < ELEMENTS(request_names) ? (SetRequest) draw : SET_SCALE;
        char name[UNIT_NAME_MAX + 1];

        totals[what]++;
        world_trace(w, "people", "%s of %s: %u", request_names[what], SET, n);
        switch (what) {
        case SET_TEXT:
                set_submit(c, r, SET, n);
                break;
        case SET_TARGET:
                set_change(c, r,
                           (UnitChange) { .name = SET,
                                          .has_target = true,
                                          .target = (TargetState) (n % (TARGET_LAUNCHED + 1)) });
                break;
        case SET_DESTROY_SLOT:
                (void) replicas_slot(SET, n, name);
                if (cluster_unit(registry_cluster(r), name))
                        set_change(c, r, (UnitChange) { .name = name, .remove = true });
                break;
        case SET_DESTROY:
                set_change(c, r, (UnitChange) { .name = SET, .remove = true });
                break;
        default:
                set_scale(c, r, u, what == SET_SCALE, n);
        }
}

static void set_on_kill(void *userdata) {
        SimCluster *c = userdata;
        SimMachine *m = c->quiet ? NULL : cluster_leader(c);

        if (!m || c->may_attach) /* its attached hosts would count as silent */
                return;
        total_killed++;
        world_trace(c->world, m->name, "is killed: it writes the instances of %s", SET);
        machine_absent(m, AWAY_MS);
        machine_crash_daemon(m);
        world_at(c->world, AWAY_MS, NULL, machine_begin, m);
}

static void set_on_turn(void *userdata) {
        SimCluster *c = userdata;
        SimMachine *m = cluster_leader(c);
        Registry *r = m ? daemon_host(m->daemon)->registry : NULL;
        const ClusterUnit *u;
        KvState state;

        if (c->quiet)
                return;
        world_at(c->world, TURN_MS / 2 + world_draw(c->world, TURN_MS), NULL, set_on_turn, c);
        if (!r)
                return;
        kv_state(registry_store(r), &state);
        if (state.level < KV_LEVEL_SCHEDULING)
                return;
        u = cluster_unit(registry_cluster(r), SET);
        if (!u) {
                set_submit(c, r, SET, 3);
                return;
        }
        if (!cluster_unit(registry_cluster(r), OTHER))
                set_submit(c, r, OTHER, 3);
        set_request(c, r, u);
        if (world_chance(c->world, KILLED_PERCENT))
                world_at(c->world, world_draw(c->world, KILLED_WITHIN_MS), NULL, set_on_kill, c);
}

void replicas_begin(SimCluster *c) {
        has_set = true;
        total_sets++;
        world_at(c->world, TURN_MS, NULL, set_on_turn, c);
}

void replicas_check(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        const Cluster *cluster = registry_cluster(daemon_host(leader->daemon)->registry);
        const ClusterUnit *head = cluster_unit(cluster, SET);
        int wanted = head ? cluster_replicas(head) : 0;

        for (unsigned i = 1; i <= COUNT_MAX && has_set; i++) {
                char name[UNIT_NAME_MAX + 1];
                const ClusterUnit *u;

                (void) replicas_slot(SET, i, name);
                u = cluster_unit(cluster, name);
                if (!u != ((int) i > wanted))
                        world_failed(c->world, "exactly-the-replicas-exist", "%s %s, of %d", name,
                                     u ? "exists" : "is missing", wanted);
                if (u && u->target != head->target)
                        world_failed(c->world, "replicas-have-the-target-of-the-set", "%s is %s, not %s",
                                     name, target_state_to_string(u->target),
                                     target_state_to_string(head->target));
        }
        if (has_set && head && !cluster_unit(cluster, OTHER))
                world_failed(c->world, "other-instances-stay", "%s is gone", OTHER);
        has_set = false;
}

void replicas_print(void) {
        printf(" sets %llu, leaders killed %llu, requests:", (unsigned long long) total_sets,
               (unsigned long long) total_killed);
        for (size_t i = 0; i < ELEMENTS(request_names); i++)
                printf(" %s %llu,", request_names[i], (unsigned long long) totals[i]);
        printf("\n");
}
