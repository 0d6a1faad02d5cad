/* The feature level that all hosts support, and since when it has been higher than the tree's:
 * /_fleet/cluster/level, {"level","since"}. */

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"
#include "units/json_record.h"

static const char level_name[] = "level";

typedef struct LevelRecord {
        uint64_t level, since_ms;
} LevelRecord;

static const JsonField fields[] = {
        { "level", JSON_FIELD_U64, offsetof(LevelRecord, level) },
        { "since", JSON_FIELD_U64, offsetof(LevelRecord, since_ms) },
};

static uint64_t cluster_machine_level(const ClusterMachine *m, unsigned own) {
        if (!LIST_EMPTY(&m->unreadable)) /* its level may be in the key that cannot be read */
                return KV_LEVEL_FIRST;
        if (m->member.raft_id != 0)
                return m->member.level;
        return m->facts ? m->facts->level : own;
}

unsigned cluster_level(const Cluster *c, unsigned own, const ClusterMachine **ret_behind) {
        const ClusterMachine *behind = NULL;
        uint64_t level = own;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                uint64_t supported = MAX(cluster_machine_level(m, own), (uint64_t) KV_LEVEL_FIRST);

                if (supported >= level || cluster_machine_is_removed(m))
                        continue;
                level = supported;
                behind = m;
        }
        if (ret_behind)
                *ret_behind = behind;
        return (unsigned) level;
}

static int registry_on_level(void *userdata, const KvNode *node) {
        _cleanup_json_ JsonValue *root = NULL;
        int e;

        e = json_value_parse(node->value.data, node->value.size, &root, NULL);
        return e < 0 ? e : json_read_fields(root, JSON_FIELDS(fields), userdata, NULL);
}

int registry_read_level(Registry *r, uint64_t *ret_level, uint64_t *ret_since_ms) {
        char path[LAYOUT_KEY_MAX];
        LevelRecord record = {};

        TRY(kv_local_get(registry_store(r), kv_string(layout_key(path, LAYOUT_CLUSTER, level_name, NULL)),
                         registry_on_level, &record));

        *ret_level = record.level;
        *ret_since_ms = record.since_ms;
        return 0;
}

int registry_note_level(Registry *r, uint64_t level, const char *user) {
        _cleanup_transaction_ Transaction t = {};
        _cleanup_text_ Text value = {};
        char digits[TEXT_U64_SIZE];

        if (level < KV_LEVEL_HISTORY) {
                registry_propose_for(r, "");
                return 0;
        }
        json_write_object(&value, JSON_FIELDS(fields),
                          &(LevelRecord) { level, kv_cluster_ms(registry_store(r)) });
        transaction_write(&t, KV_SET, LAYOUT_CLUSTER, level_name, NULL, transaction_text(&t, &value));
        transaction_note(
                &t, r,
                &(HistoryNote) { .kind = HISTORY_LEVEL, .user = user, .reason = text_u64(level, digits) });
        return transaction_send(r, &t, 0, NULL, NULL);
}

int registry_record_level(Registry *r, uint64_t term, uint64_t level, uint64_t since_ms, RegistryDone done,
                          void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        _cleanup_text_ Text value = {};

        json_write_object(&value, JSON_FIELDS(fields), &(LevelRecord) { level, since_ms });
        transaction_write(&t, KV_SET, LAYOUT_CLUSTER, level_name, NULL, transaction_text(&t, &value));
        return transaction_send(r, &t, term, done, userdata);
}
