/* Which feature level all hosts know, and since when it has been a higher one than the tree's:
 * /_fleet/cluster/level, {"level","since"}. */
#include <errno.h>

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"
#include "units/json.h"

static const char name[] = "level";

unsigned cluster_level(const Cluster *c, unsigned own, const ClusterMachine **ret_behind) {
        const ClusterMachine *behind = NULL;
        uint64_t level = own;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                uint64_t can = m->raft_id != 0 ? m->level : m->facts ? m->facts->level : own;

                if (!LIST_EMPTY(&m->unreadable)) /* whatever it says, it is not known here */
                        can = KV_LEVEL_FIRST;
                if (MAX(can, (uint64_t) KV_LEVEL_FIRST) >= level)
                        continue;
                level = MAX(can, (uint64_t) KV_LEVEL_FIRST);
                behind = m;
        }
        if (ret_behind)
                *ret_behind = behind;
        return (unsigned) level;
}

typedef struct NotedLevel {
        uint64_t level, since_ms;
} NotedLevel;

static int read_level(void *userdata, const KvNode *node) {
        _cleanup_json_ JsonValue *root = NULL;
        NotedLevel *noted = userdata;
        int e;

        e = json_value_parse(node->value.data, node->value.size, &root, NULL);
        if (e >= 0)
                e = json_read_u64(root, "level", &noted->level, NULL);
        return e < 0 ? e : json_read_u64(root, "since", &noted->since_ms, NULL);
}

int registry_read_level(Registry *r, uint64_t *ret_level, uint64_t *ret_since_ms) {
        char path[LAYOUT_KEY_MAX];
        NotedLevel noted = {};
        int e;

        e = kv_local_get(registry_store(r), kv_string(layout_key(path, LAYOUT_CLUSTER, name, NULL)),
                         read_level, &noted);
        *ret_level = noted.level;
        *ret_since_ms = noted.since_ms;
        return e;
}

int registry_record_level(Registry *r, uint64_t term, uint64_t level, uint64_t since_ms, RegistryDone done,
                          void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        _cleanup_text_ Text value = {};

        json_open(&value, NULL, '{');
        json_add_u64(&value, "level", level);
        json_add_u64(&value, "since", since_ms);
        json_close(&value, '}');
        transaction_write(&t, KV_SET, LAYOUT_CLUSTER, name, NULL, &value);
        return transaction_send(r, &t, term, done, userdata);
}
