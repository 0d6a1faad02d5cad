/* The invariant of attached hosts: the slice of a host equals the tree of its replica, filtered for it. */

#include "fleetd/registry/slice.h"
#include "tests/lib/store_inside.h"
#include "tests/sim/cluster.h"

enum {
        SLICE_AGAIN_MS = 2000, /* compare a slice that has not changed */
        SLICE_FRESH_MS = 4000, /* a host is fresh for 3 s without an answer, and does not notice that while it
                                  pauses */
};

typedef struct SliceKeys {
        const Cluster *cluster;
        const char *machine;
        Text keys; /* "KEY@INDEX" lines, in the order of keys */
} SliceKeys;

static int slice_keys_on_node(void *userdata, const KvNode *node) {
        SliceKeys *slice = userdata;
        LayoutKey k;

        if (!node->dir && layout_parse(node->key, &k) && slice_has(slice->cluster, slice->machine, &k))
                text_printf(&slice->keys, "%.*s@%llu\n", (int) node->key.size, (const char *) node->key.data,
                            (unsigned long long) node->modified);
        return 1;
}

/* Write the keys that 'at' has of the slice of 'machine_id', as 'cluster' selects them. */
static void slice_keys(const SimMachine *at, const Cluster *cluster, const char *machine_id, Text *ret) {
        const KvRange all = { .key = kv_string("/_fleet"), .recursive = true };
        SliceKeys slice = { .cluster = cluster, .machine = machine_id };

        if (kv_local_walk(daemon_host(at->daemon)->store, &all, slice_keys_on_node, &slice) < 0 ||
            slice.keys.error < 0)
                text_done(&slice.keys);
        *ret = slice.keys;
}

bool cluster_slice_equals(const SimMachine *m, const SimMachine *replica) {
        const Cluster *c = registry_cluster(daemon_host(replica->daemon)->registry);
        _cleanup_text_ Text own = {}, filtered = {};

        slice_keys(m, c, m->machine_id, &own);
        slice_keys(replica, c, m->machine_id, &filtered);
        return own.size > 0 && own.size == filtered.size && memcmp(own.chars, filtered.chars, own.size) == 0;
}

/* Return the machine whose replica 'm' uses, or NULL. */
SimMachine *cluster_replica_of(const SimMachine *m) {
        SimCluster *c = m->cluster;

        for (unsigned i = 0; i < c->n && machine_serves(m); i++)
                if (machine_serves(&c->machines[i]) &&
                    streq(c->machines[i].machine_id, kv_replica_in_use(daemon_host(m->daemon)->store)))
                        return &c->machines[i];
        return NULL;
}

static void slice_failed(SimMachine *m, const SimMachine *replica) {
        const Cluster *c = registry_cluster(daemon_host(replica->daemon)->registry);
        _cleanup_text_ Text own = {}, filtered = {};

        slice_keys(m, c, m->machine_id, &own);
        slice_keys(replica, c, m->machine_id, &filtered);
        world_failed(m->cluster->world, "slice-equals-filtered-tree",
                     "%s uses %s; its slice:\n%sthe filtered tree:\n%s", m->name, replica->name,
                     own.chars ?: "", filtered.chars ?: "");
}

/* Return the replica of an attached host whose slice is fresh, and due for a comparison; otherwise NULL. */
static SimMachine *slice_is_due(SimMachine *m) {
        uint64_t now_ms = world_now_ms(m->cluster->world), index;
        SimMachine *replica;
        KvState state;

        if (!machine_is_attached(m))
                return NULL;
        kv_state(daemon_host(m->daemon)->store, &state);
        index = store_slice_index(daemon_host(m->daemon)->store);
        replica = state.ready && index > 0 ? cluster_replica_of(m) : NULL;
        if (!replica || machine_is_attached(replica) ||
            !registry_is_current(daemon_host(replica->daemon)->registry)) {
                m->slice_ms = 0;
                return NULL;
        }
        if (m->slice_ms == 0 && m->slice_index == index && now_ms - m->slice_at_ms < SLICE_AGAIN_MS)
                return NULL;
        m->slice_index = index;
        m->slice_at_ms = now_ms;
        return replica;
}

/* Events and pages are on their way for a moment, and longer if the host pauses or the link is cut: then the
 * tree of the replica has a higher index than the slice. At one index, both are equal at once. */
void check_slices(SimCluster *c) {
        uint64_t now_ms = world_now_ms(c->world);

        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i], *replica = slice_is_due(m);
                bool one_index;

                if (!replica)
                        continue;
                one_index = m->slice_index == kv_index(daemon_host(replica->daemon)->store);
                c->n_slices++;
                c->n_slices_at_once += one_index;
                if (cluster_slice_equals(m, replica))
                        m->slice_ms = 0;
                else if (one_index)
                        slice_failed(m, replica);
                else if (m->slice_ms == 0)
                        m->slice_ms = now_ms;
                else if (now_ms - m->slice_ms > SLICE_FRESH_MS)
                        slice_failed(m, replica);
        }
}
