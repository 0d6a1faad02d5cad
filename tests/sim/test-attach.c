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
        slice->size += (size_t) snprintf(slice->keys + slice->size, sizeof(slice->keys) - slice->size, "%.*s@%llu\n",
                                         (int) node->key.size, (const char *) node->key.data,
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

static void attach(void) {
        MadeToken token;
        SimMachine *m;

        found(6, 5);
        m = machine(5);
        token = make_token(machine(0), NULL);
        join_with(m, &token);
        UNTIL("a-host-is-attached", state_of(m).attached && state_of(m).ready);
        UNTIL("a-slice-is-complete", slice_is_equal(m));
        UNTIL("a-host-is-up", seen(machine(0), m) && seen(machine(0), m)->presence == PRESENCE_UP);
        over();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { attach };

        return tokens_main(argc, argv, "tests/sim/test-attach", scenarios, ELEMENTS(scenarios), NULL,
                           "hosts without a replica act on their slice");
}
