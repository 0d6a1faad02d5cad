#include "tests/sim/load.h"

static struct {
        SimCluster *cluster; /* NULL: stopped */
        World *world;
        bool (*counts)(const SimMachine *m);
        uint64_t pause_ms;
        uintptr_t number; /* of this load: events of a former one may be due */
        unsigned n, n_acknowledged;
        bool acknowledged[LOAD_WRITES_MAX];
} load;

static void load_on_written(void *userdata, const KvResult *result) {
        bool *acknowledged = userdata;

        *acknowledged = result->status == KV_OK;
        load.n_acknowledged += *acknowledged;
}

static void load_key(char ret[static 32], unsigned i) {
        snprintf(ret, 32, "/load/%u", i);
}

static void load_on_pause(void *userdata) {
        SimMachine *m;
        char key[32];
        KvCommand cmd;

        if (!load.cluster || (uintptr_t) userdata != load.number)
                return;
        m = &load.cluster->machines[world_draw(load.world, load.cluster->n)];
        world_at(load.world, load.pause_ms, NULL, load_on_pause, userdata);
        if (!m->daemon || m->dying || !daemon_host(m->daemon)->store || load.n == LOAD_WRITES_MAX ||
            (load.counts && !load.counts(m)))
                return;
        load_key(key, load.n);
        cmd = (KvCommand) { .op = KV_SET, .key = kv_string(key), .value = kv_string("written") };
        (void) kv_propose(daemon_host(m->daemon)->store, &cmd, load_on_written, &load.acknowledged[load.n++],
                          NULL);
}

void load_start(SimCluster *cluster, uint64_t pause_ms, bool (*counts)(const SimMachine *m)) {
        uintptr_t number = load.number + 1;

        memset(&load, 0, sizeof(load));
        load.number = number;
        load.cluster = cluster;
        load.world = cluster->world;
        load.counts = counts;
        load.pause_ms = pause_ms;
        load_on_pause((void *) number);
}

void load_stop(void) {
        load.cluster = NULL;
}

static int load_on_node(void *userdata, const KvNode *node) {
        return 0;
}

bool load_is_on(const SimMachine *m) {
        char key[32];

        for (unsigned i = 0; i < load.n; i++) {
                load_key(key, i);
                if (load.acknowledged[i] &&
                    kv_local_get(daemon_host(m->daemon)->store, kv_string(key), load_on_node, NULL) < 0)
                        return false;
        }
        return true;
}

void load_check(void) {
        if (load.n_acknowledged < load.n / 2)
                world_failed(load.world, "most-writes-are-acknowledged", "%u of %u", load.n_acknowledged,
                             load.n);
}
