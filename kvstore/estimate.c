#include "kvstore/estimate.h"

#include "base/table.h"
#include "kvstore/apply/long_keys.h"

/* -- Values in flight -- */

static size_t values_slot(const Values *values, uint64_t hash) {
        size_t i = hash & (VALUES_SLOTS - 1);

        while (values->slots[i].hash != 0 && values->slots[i].hash != hash)
                i = (i + 1) & (VALUES_SLOTS - 1);
        return i;
}

static uint64_t hash_of(KvBytes key) {
        return XXH3_64bits_withSeed(key.data, key.size, table_seed) ?: 1;
}

static void values_put(Values *values, KvBytes key, size_t size, size_t n_max) {
        uint64_t hash = hash_of(key);
        size_t i = values_slot(values, hash);

        if (values->slots[i].hash == 0 && values->n >= n_max) {
                values->left_out = MAX(values->left_out, size);
                return;
        }
        values->n += values->slots[i].hash == 0;
        values->slots[i].hash = hash;
        values->slots[i].size = MAX(values->slots[i].size, size);
}

void values_add(Values *values, KvBytes key, size_t size) {
        if (size >= VALUES_SIZE_MIN)
                values_put(values, key, size, VALUES_SLOTS / 4 * 3);
}

/* Add a value of the estimated transaction, of any size. Small values leave free slots for the maximal number
 * of large values of a command. */
static void values_add_written(Values *values, KvBytes key, size_t size) {
        static_assert(VALUES_SLOTS / 4 > KV_COMMAND_MAX / VALUES_SIZE_MIN, "only small values are left out");

        values_put(values, key, size, size < VALUES_SIZE_MIN ? VALUES_SLOTS / 2 : VALUES_SLOTS / 4 * 3);
}

size_t values_size(const Values *values, KvBytes key) {
        return values->n == 0 ? 0 : values->slots[values_slot(values, hash_of(key))].size;
}

void values_add_command(Values *values, const KvCommand *cmd) {
        if (cmd->op == KV_TXN)
                for (size_t i = 0; i < cmd->n_writes; i++)
                        values_add(values, cmd->writes[i].key, cmd->writes[i].value.size);
        else if (cmd->op != KV_POST)
                values_add(values, cmd->key, cmd->value.size);
}

/* -- One command -- */

enum { REMOVED_MAX = 16 }; /* removed directories that are recorded individually */

/* Record a directory that an earlier write of the transaction creates. Return true if it was recorded before.
 * A directory that is missing from a full table counts as missing from the tree. */
static bool made_add(Values *made, KvBytes dir) {
        if (values_size(made, dir) > 0)
                return true;
        values_put(made, dir, 1, VALUES_SLOTS / 4 * 3);
        return false;
}

/* The effect of a transaction's earlier writes on later ones, which the tree does not contain yet. */
typedef struct Earlier {
        Values values;                /* written */
        Values made;                  /* directories; usually few contain many keys */
        KvBytes removed[REMOVED_MAX]; /* directories */
        size_t n_removed;             /* beyond REMOVED_MAX any directory may be removed */
        bool removes;                 /* a node was removed */
        bool expires;                 /* a node was written with an expiry */
        bool sweeps;                  /* a write removes a directory recursively */
} Earlier;

typedef struct Estimate {
        TreeTxn *txn;
        Values *const *in_flight;
        Earlier *earlier; /* NULL: not a transaction */
        Counted *known;   /* may be NULL */
        LongKeys long_keys;
        EstimateLimits limits;
        Estimated result;
} Estimate;

static bool estimate_is_over(const Estimate *e) {
        return e->result.cost.total > e->limits.cost ||
               e->result.counted.total + e->result.known > e->limits.counted;
}

static void estimate_count_nodes(Estimate *e, uint64_t n) {
        cost_nodes(&e->result.cost, n, COST_PASS);
        cost_nodes(&e->result.counted, n, COST_PASS);
}

static int estimate_get(Estimate *e, KvBytes key, KvNode *ret) {
        int r = tree_get(e->txn, key, ret);

        cost_visit(&e->result.cost, key.size);
        return r == -ENOTUNIQ ? -ENOENT : r;
}

/* Return 1 if the first 'size' bytes of a key are a stored node, otherwise 0. All parents of a stored node
 * are stored. */
static int estimate_exists(const Estimate *e, KvBytes key, size_t size) {
        KvNode node;
        int r = tree_get(e->txn, (KvBytes) { key.data, size }, &node);

        if (r == -ENOENT || r == -ENOTUNIQ)
                return 0;
        return r < 0 ? r : 1;
}

/* Return the size of the topmost directory at or above 'key' that an earlier write has removed; SIZE_MAX:
 * none. */
static size_t removed_above(const Estimate *e, KvBytes key) {
        const Earlier *x = e->earlier;
        size_t size = SIZE_MAX;

        if (!x || x->n_removed > REMOVED_MAX)
                return x ? 1 : size;
        for (size_t i = 0; i < x->n_removed; i++)
                if (kv_bytes_equal(key, x->removed[i]) || kv_path_is_below(key, x->removed[i]))
                        size = MIN(size, x->removed[i].size);
        return size;
}

/* A later write of the transaction may have to remove a directory that this one creates. */
static void estimate_made(Estimate *e, size_t key, size_t value, bool expires) {
        if (!e->earlier || !e->earlier->sweeps)
                return;
        cost_nodes(&e->result.cost, 1, COST_PASS);
        cost_below(&e->result.cost, key, value, expires);
}

/* Add the missing parents of a key, and the cost of finding them in apply. 'removed': parents of at least
 * this size are missing. */
static int estimate_parents(Estimate *e, KvBytes key, bool made, size_t removed) {
        const char *p = key.data;
        size_t ends[KV_DEPTH_MAX + 1], n = 0, low = 0, high;
        int r;

        for (size_t i = 1; i < key.size && n < ELEMENTS(ends); i++)
                if (p[i] == '/')
                        ends[n++] = i;
        for (high = n; low < high;) {
                size_t middle = low + (high - low) / 2;

                if (low == 0 && high == n) /* usually no parent is missing: check the last one first */
                        middle = n - 1;

                r = TRY(ends[middle] < removed ? estimate_exists(e, key, ends[middle]) : 0);
                if (r > 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        cost_visit(&e->result.cost,
                   n > 0 ? ends[n - 1] : 1); /* an existing parent; an earlier write may create it */
        for (size_t i = low; i < n; i++) {
                if (made && e->earlier && made_add(&e->earlier->made, (KvBytes) { p, ends[i] }))
                        continue;
                cost_visit(&e->result.cost, ends[i]);
                if (!made)
                        continue;
                cost_parents(&e->result.cost, 1, ends[i]);
                estimate_made(e, ends[i], 0, false);
        }
        return 0;
}

static size_t old_size(Estimate *e, KvBytes key, const KvNode *node) {
        size_t size = node ? node->value.size : 0, in_flight = 0;

        if (e->earlier)
                size = MAX(size, values_size(&e->earlier->values, key) ?: e->earlier->values.left_out);
        for (Values *const *v = e->in_flight; v && *v; v++)
                in_flight = MAX(in_flight, values_size(*v, key));
        e->result.in_flight |= in_flight > size;
        return MAX(size, in_flight);
}

/* Return the group of a long key. A count that exceeds the limit ends the estimate. */
static int estimate_group(Estimate *e, KvBytes key, LongGroup **ret) {
        uint64_t left = e->limits.counted - MIN(e->limits.counted, e->result.counted.total + e->result.known),
                 counted;

        TRY(long_keys_group(&e->long_keys, e->txn, key,
                            MIN((uint64_t) COST_LONG_KEYS_MAX + 1, left / COST_PASS + 1), ret, &counted));
        estimate_count_nodes(e, counted);
        return 0;
}

static int count_one(void *userdata, const KvNode *node, bool below) {
        Estimate *e = userdata;

        estimate_count_nodes(e, 1);
        if (below)
                cost_below(&e->result.cost, node->key.size, node->value.size, node->expires_ms > 0);
        return !estimate_is_over(e);
}

/* Stop at the first node below. */
static int pass_one(void *userdata, const KvNode *node, bool below) {
        estimate_count_nodes(userdata, 1);
        return !below && !estimate_is_over(userdata);
}

static int tree_index(const Estimate *e, uint64_t *ret) {
        TreeMeta meta;

        TRY(tree_meta(e->txn, &meta));
        *ret = meta.index;
        return 0;
}

/* Return 1 if the count of an earlier estimate below the directory is enough to end this one, too. */
static int known_to_end(Estimate *e, KvBytes dir) {
        uint64_t hash = hash_of(dir), slot = hash & (COUNTED_SLOTS - 1), index;
        Estimated before = e->result;

        if (!e->known || e->known->slots[slot].hash != hash ||
            e->known->now_ms - e->known->slots[slot].at_ms >= COUNTED_MS)
                return 0;
        TRY(tree_index(e, &index));
        cost_bytes(&e->result.cost, e->known->slots[slot].cost);
        e->result.known += e->known->slots[slot].counted;
        e->result.stale |= index != e->known->slots[slot].index;
        if (estimate_is_over(e))
                return 1;
        e->result = before;
        return 0;
}

/* Count all nodes below a directory. */
static int count_below(Estimate *e, KvBytes dir) {
        uint64_t hash = hash_of(dir), slot = hash & (COUNTED_SLOTS - 1), cost = e->result.cost.total,
                 counted = e->result.counted.total, index;
        int r;

        r = known_to_end(e, dir);
        if (r != 0)
                return MIN(r, 0);
        r = tree_scan(e->txn, dir, count_one, e);
        if (r < 0 || !e->known || !estimate_is_over(e))
                return r;
        TRY(tree_index(e, &index));
        e->known->slots[slot].hash = hash;
        e->known->slots[slot].at_ms = e->known->now_ms;
        e->known->slots[slot].index = index;
        e->known->slots[slot].cost = e->result.cost.total - cost;
        e->known->slots[slot].counted = e->result.counted.total - counted;
        return 0;
}

static void earlier_add_removed(Earlier *x, KvBytes dir) {
        if (x->n_removed < REMOVED_MAX)
                x->removed[x->n_removed] = dir;
        x->n_removed += x->n_removed <= REMOVED_MAX;
}

/* 'node' NULL: not in the tree; an earlier write of the transaction may create it. */
static int estimate_delete(Estimate *e, const KvCommand *cmd, const KvNode *node, size_t old) {
        bool walks = cmd->recursive || cmd->dir;
        LongGroup *group;
        int r = 0;

        if (node && node->dir && walks)
                r = cmd->recursive ? count_below(e, cmd->key) : tree_scan(e->txn, cmd->key, pass_one, e);
        if (r == 0 && e->earlier && walks) {
                cost_nodes(&e->result.cost, 1, COST_PASS);
                if ((!node || e->earlier->removes) && tree_prefix_hash(cmd->key) != 0) {
                        r = estimate_group(e, cmd->key, &group);
                        if (r >= 0) /* the walk passes all of them again */
                                cost_nodes(&e->result.cost, group->n, COST_PASS);
                }
                if (node && node->dir)
                        earlier_add_removed(e->earlier, cmd->key);
                if (e->earlier->made.n > 0)
                        e->earlier->made = (Values) {};
        }
        if (e->earlier)
                e->earlier->removes = true;
        cost_change(&e->result.cost, &(CostChange) { .key = cmd->key.size,
                                                     .old = old,
                                                     .gone = true,
                                                     .expired = (node && node->expires_ms > 0) ||
                                                                (e->earlier && e->earlier->expires) });
        return r;
}

/* Estimate a write that creates or replaces a node. */
static int estimate_write(Estimate *e, const KvCommand *cmd, const KvNode *node, size_t old, size_t removed,
                          const Cost *quoted) {
        bool refresh = cmd->refresh && cmd->op != KV_CREATE, makes = cmd->op != KV_UPDATE;
        bool gone = removed <= cmd->key.size, unsure = !node || gone || (e->earlier && e->earlier->removes);
        Cost change = {};
        LongGroup *group;

        TRY(unsure ? estimate_parents(e, cmd->key, makes, removed) : 0);
        if (unsure && makes && tree_is_long(cmd->key)) {
                TRY(estimate_group(e, cmd->key, &group));
                group->n++;
        }
        cost_change(&change, &(CostChange) { .key = cmd->key.size,
                                             .size = refresh ? old : cmd->value.size,
                                             .old = old,
                                             .refresh = refresh,
                                             .expired = (node && node->expires_ms > 0) ||
                                                        (e->earlier && e->earlier->expires),
                                             .expires = cmd->has_ttl });
        cost_add(&e->result.cost, quoted->total > change.total ? quoted : &change);
        estimate_made(e, cmd->key.size, refresh ? old : cmd->value.size, cmd->has_ttl);
        if (e->earlier)
                e->earlier->expires |= cmd->has_ttl;
        return 0;
}

static int estimate_one(Estimate *e, const KvCommand *cmd) {
        size_t removed = removed_above(e, cmd->key), old;
        Cost quoted = {};
        KvNode node;
        bool there;
        int r;

        cost_note(&e->result.cost, &cmd->note);
        r = estimate_get(e, cmd->key, &node);
        if (r < 0 && r != -ENOENT)
                return r;
        there = r == 0;
        old = old_size(e, cmd->key, there ? &node : NULL);
        if (cmd->has_prev_value) /* in the message of a failed comparison */
                cost_bytes(&quoted, 4ull * (cmd->prev_value.size + old));
        if (cmd->op != KV_DELETE)
                return estimate_write(e, cmd, there ? &node : NULL, old, removed, &quoted);
        TRY(there ? 0 : estimate_parents(e, cmd->key, false, removed));
        cost_add(&e->result.cost, &quoted);
        return estimate_delete(e, cmd, there ? &node : NULL, old);
}

/* The name of the child is the next index. The child may be a long key although its directory is not. */
static int estimate_post(Estimate *e, const KvCommand *cmd) {
        size_t base = cmd->key.size > 1 ? MIN(cmd->key.size, (size_t) KV_KEY_MAX) : 0;
        char path[KV_KEY_MAX + 32];
        KvCommand child = *cmd;
        TreeMeta meta;

        TRY(tree_meta(e->txn, &meta));
        memcpy(path, cmd->key.data, base);
        child.op = KV_CREATE;
        child.key = (KvBytes) { path, base + (size_t) snprintf(path + base, 32, "/%020llu",
                                                               (unsigned long long) meta.index + 1) };
        return estimate_one(e, &child);
}

static int estimate_checks(Estimate *e, const KvCommand *cmd) {
        uint64_t largest = 0;

        for (size_t i = 0; i < cmd->n_checks && !estimate_is_over(e); i++) {
                const KvCheck *check = &cmd->checks[i];
                KvNode node;
                int r;

                r = estimate_get(e, check->key, &node);
                if (r < 0 && r != -ENOENT)
                        return r;
                cost_bytes(&e->result.cost, check->value.size);
                largest = MAX(largest, check->key.size + old_size(e, check->key, r == 0 ? &node : NULL));
        }
        cost_bytes(&e->result.cost, 3 * largest); /* the node that a failed check returns */
        return 0;
}

static int estimate_txn(Estimate *e, const KvCommand *cmd) {
        Earlier earlier = {};
        int r;

        for (size_t i = 0; i < cmd->n_writes && !earlier.sweeps; i++)
                earlier.sweeps = cmd->writes[i].op == KV_DELETE && cmd->writes[i].recursive;
        r = TRY(estimate_checks(e, cmd));
        if (cmd->n_writes > 1)
                cost_nodes(&e->result.cost, 1, COST_NESTED);
        e->earlier = cmd->n_writes > 1 ? &earlier : NULL;
        for (size_t i = 0; r >= 0 && i < cmd->n_writes && !estimate_is_over(e); i++) {
                r = estimate_one(e, &cmd->writes[i]);
                values_add_written(&earlier.values, cmd->writes[i].key, cmd->writes[i].value.size);
        }
        e->earlier = NULL;
        return r;
}

int cost_estimate(TreeTxn *txn, Values *const *in_flight, Counted *known, const KvCommand *cmd,
                  const EstimateLimits *limits, Estimated *ret) {
        Estimate e = { .txn = txn, .in_flight = in_flight, .known = known, .limits = *limits };
        int r = 0;

        cost_nodes(&e.result.cost, 1, COST_COMMAND);
        switch (cmd->op) {
        case KV_TXN:
                r = estimate_txn(&e, cmd);
                break;
        case KV_EXPIRE:
                cost_bytes(&e.result.cost, COST_EXPIRE_MAX);
                break;
        case KV_RAISE:
                break;
        case KV_POST:
                r = estimate_post(&e, cmd);
                break;
        default:
                r = estimate_one(&e, cmd);
        }
        long_keys_done(&e.long_keys);
        *ret = e.result;
        return r;
}
