/* A host's disks are restored to an old image, at the worst moment: the writes that a majority acknowledged
 * since then are only on another host, which is off. If the third host accepted the votes of the old image,
 * the writes would be lost (ARCHITECTURE, handshake and start number). The host joins again under another
 * Raft ID.
 *
 *      test-old_image [--seed N] [--runs N] [--trace]
 */

#include "base/log.h"
#include "tests/lib/scratch.h"
#include "tests/lib/store_inside.h"
#include "tests/sim/cluster.h"
#include "tests/sim/seeds.h"

enum { PATIENCE_MS = 60000, OLD_MS = 15000, WRITES = 5 };

static World *tracing;
static bool refused; /* an old image was, as the journal says */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (tracing)
                world_trace(tracing, "log", "%s", message);
        refused |= strstr(message, "runs an old image of its state") != NULL;
}

#define UNTIL(c, name, expression)                             \
        WORLD_UNTIL((c)->world, PATIENCE_MS, name, expression, \
                    world_run((c)->world, world_now_ms((c)->world) + 50))

static unsigned voters(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        unsigned n = 0;
        KvState state;

        if (!leader)
                return 0;
        kv_state(daemon_host(leader->daemon)->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                n += state.members[i].role == KV_MEMBER_VOTER && state.members[i].reachable;
        return n;
}

/* Wait until three hosts vote. The configuration of a leader counts a voter whose promotion is not committed
 * yet. */
static void wait_for_voters(SimCluster *c, const char *name) {
        UNTIL(c, name, voters(c) == 3);
        world_run(c->world, world_now_ms(c->world) + 1000);
        UNTIL(c, name, voters(c) == 3);
}

/* Return whether 'at' has the record of the current start of 'of'. */
static bool knows_start(const SimMachine *at, const SimMachine *of) {
        const ClusterMachine *m = machine_serves(at) ?
                                          cluster_machine(registry_cluster(daemon_host(at->daemon)->registry),
                                                          of->machine_id) :
                                          NULL;

        return m && m->member.start_number >= of->boots + 1 && m->member.start_nonce[0];
}

static void isolate(SimCluster *c, SimMachine *m, bool is_cut) {
        for (unsigned i = 0; i < c->n; i++)
                if (&c->machines[i] != m)
                        sim_net_cut(c->net, m->host, c->machines[i].host, is_cut);
}

/* -- Keys -- */

typedef struct Written {
        unsigned n, asked;
        bool under_way;
} Written;

static void on_written(void *userdata, const KvResult *result) {
        Written *w = userdata;

        w->under_way = false;
        w->n += result->status == KV_OK;
}

static bool write_all(SimCluster *c, Written *w) {
        SimMachine *leader = cluster_leader(c);
        char key[32];

        if (w->n == WRITES || w->under_way || !leader)
                return w->n == WRITES;
        snprintf(key, sizeof(key), "/since/%u", w->n);
        w->under_way = kv_propose(
                               daemon_host(leader->daemon)->store,
                               &(KvCommand) { .op = KV_SET, .key = kv_string(key), .value = kv_string("1") },
                               on_written, w, NULL) == 0;
        return false;
}

static void check_written(SimCluster *c, const SimMachine *m) {
        TreeMeta meta;

        if (store_meta(daemon_host(m->daemon)->store, &meta) < 0)
                world_failed(c->world, "a-tree-can-be-read", "%s", m->name);
        for (unsigned i = 0; i < WRITES; i++) {
                char key[32];

                snprintf(key, sizeof(key), "/since/%u", i);
                if (!store_has(daemon_host(m->daemon)->store, key))
                        world_failed(c->world, "no-acknowledged-write-lost",
                                     "%s was acknowledged, and is not on %s, which leads", key, m->name);
        }
}

/* -- Images -- */

static void copy_folder(const char *from, const char *to) {
        char command[512];

        snprintf(command, sizeof(command), "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
        if (system(command) != 0)
                abort();
}

static void run_once(uint64_t seed, const Seeds *o) {
        World *w = world_new(seed, o->trace);
        char *image = scratch_new();
        SimMachine *knows, *other, *old;
        Written written = {};
        unsigned first;
        SimCluster *c;
        MemoryDisk *disk;
        uint64_t raft_id;
        KvState state;

        tracing = w;
        refused = false;
        world_set_replay(w, "tests/sim/test-old_image");
        c = cluster_new(w, 3);
        for (unsigned i = 0; i < c->n; i++)
                world_at(w, i * 100, NULL, machine_begin, &c->machines[i]);
        wait_for_voters(c, "a-cluster-forms");

        first = (unsigned) world_draw(w, 3);
        knows = &c->machines[first];
        other = &c->machines[(first + 1) % 3];
        old = &c->machines[(first + 2) % 3];

        /* Copy the image of a host that is off; then it starts again, and all hosts have the record of that
         * start. */
        world_run(w, world_now_ms(w) + world_draw(w, 3000));
        kv_state(daemon_host(old->daemon)->store, &state);
        raft_id = state.raft_id;
        machine_power_cut(old);
        UNTIL(c, "a-daemon-dies", !old->loop);
        copy_folder(old->folder, image);
        disk = memory_disk_copy(old->disk);
        world_run(w, world_now_ms(w) + world_draw(w, 2000));
        machine_power_on(old);
        UNTIL(c, "a-host-comes-back", voters(c) == 3 && knows_start(knows, old) && knows_start(other, old));
        wait_for_voters(c, "a-host-comes-back");

        /* 'knows' does not have the writes that are acknowledged now. */
        isolate(c, knows, true);
        UNTIL(c, "two-of-three-write", cluster_leader(c) != knows && write_all(c, &written));
        machine_power_cut(old);
        machine_power_cut(other);
        UNTIL(c, "daemons-die", !old->loop && !other->loop);

        copy_folder(image, old->folder);
        memory_disk_free(old->disk);
        old->disk = disk;
        isolate(c, knows, false);
        machine_power_on(old);
        world_trace(w, old->name, "runs an old image");
        for (uint64_t end_ms = world_now_ms(w) + OLD_MS; world_now_ms(w) < end_ms;) {
                world_run(w, world_now_ms(w) + 100);
                if (cluster_leader(c))
                        check_written(c, cluster_leader(c));
        }
        if (!refused)
                world_failed(w, "an-old-image-is-refused", "no host reports it");

        /* The host that has the writes completes a majority without the old image. */
        machine_power_on(other);
        UNTIL(c, "the-others-continue", cluster_leader(c));
        check_written(c, cluster_leader(c));

        UNTIL(c, "it-joins-again-by-itself", voters(c) == 3);
        kv_state(daemon_host(old->daemon)->store, &state);
        if (state.raft_id == raft_id)
                world_failed(w, "an-old-image-gets-another-id", "member %llu", (unsigned long long) raft_id);
        check_written(c, cluster_leader(c));

        cluster_free(c);
        scratch_free(image);
        tracing = NULL;
        world_free(w);
}

int main(int argc, char *argv[]) {
        Seeds o = { .seed = 1, .runs = 5 };

        if (!seeds_parse(&o, argc, argv))
                return 2;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_INFO);

        for (uint64_t i = 0; i < o.runs; i++)
                run_once(o.seed + i, &o);
        printf("%llu old images refused, and what was written since is there\n", (unsigned long long) o.runs);
        return 0;
}
