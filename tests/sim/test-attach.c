/* Hosts without a replica: whole daemons whose agents act on a slice of the cluster.
 *
 *      test-attach [--seed N] [--runs N] [--trace]
 */
#include <stdio.h>

#include "fleetd/registry/kinds.h"
#include "fleetd/registry/slice.h"
#include "tests/sim/tokens.h"

static void over(void) {
        cluster = cluster_free(cluster);
}

typedef struct SliceOf {
        const Cluster *cluster;
        const char *machine;
        char keys[64 * 1024];
        size_t size;
} SliceOf;

static int collect(void *userdata, const KvNode *node) {
        SliceOf *slice = userdata;
        LayoutKey k;

        if (node->dir || !layout_parse(node->key, &k) || !slice_has(slice->cluster, slice->machine, &k))
                return 1;
        slice->size += (size_t) snprintf(slice->keys + slice->size, sizeof(slice->keys) - slice->size,
                                         "%.*s@%llu\n", (int) node->key.size, (const char *) node->key.data,
                                         (unsigned long long) node->modified);
        return 1;
}

static void read_slice(SimMachine *at, const Cluster *c, const char *machine, SliceOf *ret) {
        const KvRange all = { .key = kv_string("/_fleet"), .recursive = true };

        *ret = (SliceOf) { .cluster = c, .machine = machine };
        (void) kv_local_walk(daemon_store(at->daemon), &all, collect, ret);
}

/* Whether the host has exactly the keys of its slice, as the leader's tree has them. */
static bool slice_is_equal(SimMachine *m) {
        SimMachine *leader = leader_with(machine(0));
        static SliceOf own, filtered;
        const Cluster *c;

        if (!leader || !serves(m))
                return false;
        c = registry_cluster(daemon_registry(leader->daemon));
        read_slice(m, c, m->machine_id, &own);
        read_slice(leader, c, m->machine_id, &filtered);
        return own.size > 0 && streq(own.keys, filtered.keys);
}

static void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status == KV_OK)
                *(bool *) userdata = true;
        else
                world_failed(world, "a-request-succeeds", "%s", message);
}

/* Submit and start a unit that only one machine may have; NULL: destroy it. */
static void request_unit(SimMachine *at, const char *name, const SimMachine *on) {
        UnitChange change = { .name = name, .has_target = on, .target = TARGET_LAUNCHED, .remove = !on };
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};
        SimUserUnit *u = &cluster->units[0];
        bool done = false;

        snprintf(u->name, sizeof(u->name), "%s", name);
        cluster->n_units = 1;
        u->touched_ms = world_now_ms(world);
        if (!on)
                u->stopping_ms = u->touched_ms;
        text_printf(&text, "[Service]\nExecStart=/bin/sleep 1000\n[X-Fleet]\nMachineID=%s\n",
                    on ? on->machine_id : "");
        if (on && unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(daemon_registry(at->daemon), &change, 1, on_asked, &done) < 0)
                abort();
        UNTIL("a-request-is-answered", done);
}

/* Found a cluster of five members, and attach a host. */
static SimMachine *attached(void) {
        SimMachine *m;
        MadeToken token;

        found(6, 5);
        m = machine(5);
        token = make_token(machine(0), NULL);
        join_with(m, &token);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP);
        return m;
}

static void attach(void) {
        SimMachine *m = attached();

        UNTIL("an-attached-host-has-facts", seen(machine(0), m)->facts);
        request_unit(machine(0), "a.service", m);
        UNTIL("a-unit-runs-on-an-attached-host", sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("its-state-is-published",
              cluster_state_on(seen(machine(0), m), "a.service") &&
                      streq(cluster_state_on(seen(machine(0), m), "a.service")->state.active, "active"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        request_unit(machine(1), "a.service", NULL);
        UNTIL("a-destroyed-unit-stops", !sim_systemd_runs(m->systemd, "a.service"));
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { attach };

        return tokens_main(argc, argv, "tests/sim/test-attach", scenarios, ELEMENTS(scenarios), NULL,
                           "hosts without a replica act on their slice");
}
