#include "kvstore/estimate.h"

#include "base/table.h"

/* -- Values on their way -- */

static size_t slot_of(const Values *values, uint64_t hash) {
        size_t i = hash & (VALUES_SLOTS - 1);

        while (values->slots[i].hash != 0 && values->slots[i].hash != hash)
                i = (i + 1) & (VALUES_SLOTS - 1);
        return i;
}

static uint64_t hash_of(KvBytes key) {
        return XXH3_64bits_withSeed(key.data, key.size, table_seed) ?: 1;
}

void values_add(Values *values, KvBytes key, size_t size) {
        uint64_t hash;
        size_t i;

        if (size < VALUES_SIZE_MIN)
                return;
        values->largest = MAX(values->largest, size);
        if (values->n >= VALUES_SLOTS / 4 * 3)
                return;
        hash = hash_of(key);
        i = slot_of(values, hash);
        values->n += values->slots[i].hash == 0;
        values->slots[i].hash = hash;
        values->slots[i].size = MAX(values->slots[i].size, size);
}

size_t values_size(const Values *values, KvBytes key) {
        if (values->n == 0)
                return 0;
        return values->n >= VALUES_SLOTS / 4 * 3 ? values->largest : values->slots[slot_of(values, hash_of(key))].size;
}

void values_add_command(Values *values, const KvCommand *cmd) {
        if (cmd->op == KV_TXN)
                for (size_t i = 0; i < cmd->n_writes; i++)
                        values_add(values, cmd->writes[i].key, cmd->writes[i].value.size);
        else if (cmd->op != KV_POST)
                values_add(values, cmd->key, cmd->value.size);
}

/* -- One command -- */

enum { MADE_SLOTS = 2048 };

/* Directories that the transaction has made before: commonly many keys are made in few. A full table holds all. */
typedef struct Made {
        uint64_t slots[MADE_SLOTS]; /* hashes; 0: free */
        size_t n;
} Made;

/* True if it was there. */
static bool made_add(Made *made, KvBytes dir) {
        uint64_t hash = hash_of(dir);
        size_t i = hash & (MADE_SLOTS - 1);

        if (made->n >= MADE_SLOTS / 4 * 3)
                return true;
        while (made->slots[i] != 0 && made->slots[i] != hash)
                i = (i + 1) & (MADE_SLOTS - 1);
        if (made->slots[i] == hash)
                return true;
        made->slots[i] = hash;
        made->n++;
        return false;
}

typedef struct Estimate {
        TreeTxn *txn;
        Values *const *on_way;
        Values *own; /* what the transaction has written before; NULL: it is none */
        Made *made;
        KvBytes long_key; /* whose beginning was counted last */
        Cost cost, work;
} Estimate;

static int estimate_get(Estimate *e, KvBytes key, KvNode *ret) {
        int r = tree_get(e->txn, key, ret);

        cost_visit(&e->cost, key.size);
        cost_visit(&e->work, key.size);
        return r == -ENOTUNIQ ? -ENOENT : r;
}

/* Whether the first 'size' bytes of a key are there: whatever is stored has all its parents. */
static bool is_there(Estimate *e, KvBytes key, size_t size) {
        KvNode node;

        cost_visit(&e->work, size);
        return tree_get(e->txn, (KvBytes) { key.data, size }, &node) == 0;
}

/* The ways to a key that are missing, and what apply pays for finding them one by one. */
static void estimate_ways(Estimate *e, KvBytes key, bool made) {
        const char *p = key.data;
        size_t ends[KV_DEPTH_MAX + 1], n = 0, low = 0, high;

        for (size_t i = 1; i < key.size && n < ELEMENTS(ends); i++)
                if (p[i] == '/')
                        ends[n++] = i;
        for (high = n; low < high;) {
                size_t middle = low == 0 && high == n ? n - 1 : low + (high - low) / 2; /* commonly nothing is missing */

                if (is_there(e, key, ends[middle]))
                        low = middle + 1;
                else
                        high = middle;
        }
        cost_visit(&e->cost, low > 0 ? ends[low - 1] : 1);
        for (size_t i = low; i < n; i++) {
                if (made && e->made && made_add(e->made, (KvBytes) { p, ends[i] }))
                        continue;
                cost_visit(&e->cost, ends[i]);
                if (made)
                        cost_ways(&e->cost, 1, ends[i]);
        }
}

static size_t old_size(const Estimate *e, KvBytes key, const KvNode *node) {
        size_t size = node ? node->value.size : 0;

        for (Values *const *v = e->on_way; v && *v; v++)
                size = MAX(size, values_size(*v, key));
        return e->own ? MAX(size, values_size(e->own, key)) : size;
}

/* A child that POST names may be the first of its beginning: its parent's is counted. */
static void estimate_long(Estimate *e, const KvCommand *cmd) {
        uint64_t n = 0;

        if (!tree_is_long(cmd->key) || (e->long_key.size > 0 && tree_share_beginning(e->long_key, cmd->key)))
                return;
        e->long_key = cmd->key;
        if (tree_count_long(e->txn, cmd->key, COST_LONG_KEYS_MAX, &n) < 0)
                return;
        cost_nodes(&e->cost, n, COST_PASS);
        cost_nodes(&e->work, n, COST_PASS);
}

static int count_one(void *userdata, const KvNode *node, bool below) {
        Estimate *e = userdata;

        cost_nodes(&e->work, 1, COST_PASS);
        cost_nodes(&e->cost, 1, COST_PASS);
        if (below)
                cost_below(&e->cost, node->key.size, node->value.size, node->expires_ms > 0);
        return e->cost.total <= COST_COMMAND_MAX;
}

static int pass_one(void *userdata, const KvNode *node, bool below) {
        Estimate *e = userdata;

        cost_nodes(&e->work, 1, COST_PASS);
        cost_nodes(&e->cost, 1, COST_PASS);
        return !below && e->cost.total <= COST_COMMAND_MAX;
}

static int estimate_delete(Estimate *e, const KvCommand *cmd, const KvNode *node, size_t old) {
        int r = 0;

        if (node && node->dir && (cmd->recursive || cmd->dir))
                r = tree_scan(e->txn, cmd->key, cmd->recursive ? count_one : pass_one, e);
        cost_change(&e->cost, &(CostChange) { .key = cmd->key.size, .old = old, .expired = node && node->expires_ms > 0, .gone = true });
        return r;
}

static int estimate_one(Estimate *e, const KvCommand *cmd) {
        size_t key_size = cmd->key.size + (cmd->op == KV_POST ? 21 : 0), old;
        Cost quoted = {}, change = {};
        KvNode node;
        bool there;
        int r;

        r = cmd->op == KV_POST ? -ENOENT : estimate_get(e, cmd->key, &node);
        if (r < 0 && r != -ENOENT)
                return r;
        there = r == 0;
        old = old_size(e, cmd->key, there ? &node : NULL);
        if (!there && cmd->op == KV_POST && !is_there(e, cmd->key, cmd->key.size))
                cost_ways(&e->cost, 1, cmd->key.size);
        if (!there) {
                estimate_ways(e, cmd->key, cmd->op != KV_DELETE && cmd->op != KV_UPDATE);
                if (cmd->op != KV_DELETE)
                        estimate_long(e, cmd);
        }
        if (cmd->has_prev_value)
                cost_bytes(&quoted, 4ull * (cmd->prev_value.size + old));
        if (cmd->op == KV_DELETE) {
                r = estimate_delete(e, cmd, there ? &node : NULL, old);
                if (r < 0)
                        return r;
        } else {
                bool refresh = cmd->refresh && cmd->op != KV_CREATE;

                cost_change(&change, &(CostChange) { .key = key_size, .size = refresh ? old : cmd->value.size, .old = old, .refresh = refresh,
                                                     .expired = there && node.expires_ms > 0, .expires = cmd->has_ttl });
        }
        cost_add(&e->cost, quoted.total > change.total ? &quoted : &change);
        return 0;
}

static int estimate_checks(Estimate *e, const KvCommand *cmd) {
        uint64_t largest = 0;

        for (size_t i = 0; i < cmd->n_checks; i++) {
                const KvCheck *check = &cmd->checks[i];
                KvNode node;
                int r;

                r = estimate_get(e, check->key, &node);
                if (r < 0 && r != -ENOENT)
                        return r;
                cost_bytes(&e->cost, check->value.size);
                largest = MAX(largest, check->key.size + old_size(e, check->key, r == 0 ? &node : NULL));
        }
        cost_bytes(&e->cost, 3 * largest); /* what is found where a check fails */
        return 0;
}

static int estimate_txn(Estimate *e, const KvCommand *cmd) {
        Values own = {};
        Made made = {};
        int r;

        r = estimate_checks(e, cmd);
        if (r < 0)
                return r;
        if (cmd->n_writes > 1)
                cost_nodes(&e->cost, 1, COST_NESTED);
        e->own = &own;
        e->made = &made;
        for (size_t i = 0; r == 0 && i < cmd->n_writes && e->cost.total <= COST_COMMAND_MAX; i++) {
                r = estimate_one(e, &cmd->writes[i]);
                values_add(&own, cmd->writes[i].key, cmd->writes[i].value.size);
        }
        e->own = NULL;
        e->made = NULL;
        return r;
}

int cost_estimate(TreeTxn *txn, Values *const *on_way, const KvCommand *cmd, Cost *ret, Cost *ret_work) {
        Estimate e = { .txn = txn, .on_way = on_way };
        int r = 0;

        cost_nodes(&e.cost, 1, COST_COMMAND);
        switch (cmd->op) {
        case KV_TXN:
                r = estimate_txn(&e, cmd);
                break;
        case KV_EXPIRE:
                cost_bytes(&e.cost, COST_EXPIRE_MAX);
                break;
        case KV_RAISE:
                break;
        default:
                r = estimate_one(&e, cmd);
        }
        *ret = e.cost;
        *ret_work = e.work;
        return r;
}
