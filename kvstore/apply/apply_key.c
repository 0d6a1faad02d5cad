/* The effect of a command on one key, and the reasons to reject it. */
#include "kvstore/apply/apply_internal.h"

#include "kvstore/apply/apply.h"
#include "kvstore/apply/events.h"

/* -- Parents of a key -- */

typedef struct Way {
        KvBytes missing; /* the topmost missing ancestor; size 0: none */
        size_t n_missing, n_bytes;
        size_t n_long; /* missing ancestors with long keys */
} Way;

static KvBytes parent_of(KvBytes path) {
        const char *slash = memrchr(path.data, '/', path.size);
        size_t size = slash - (const char *) path.data;

        return (KvBytes) { path.data, size > 0 ? size : 1 };
}

/* Read a node that may be created, or an ancestor of one: 1 and *ret_there. */
static int look(Apply *a, KvBytes key, KvNode *node, bool *ret_there, KvResult *ret) {
        int r;

        r = apply_visit(a, key.size, ret);
        if (r <= 0)
                return r;
        r = tree_get(a->txn, key, node);
        if (r == -ENOTUNIQ)
                return apply_refuse(a, ret, KV_TOO_LARGE, kv_string("another long key has this one's hash"));
        if (r < 0 && r != -ENOENT)
                return r;
        *ret_there = r == 0;
        return 1;
}

/* Walk up from a key to its first existing ancestor. All above that exist, since each stored node has its
 * parents. */
static int climb(Apply *a, KvBytes key, Way *way, KvResult *ret) {
        KvNode node;
        bool there;
        int r;

        *way = (Way) {};
        for (KvBytes path = parent_of(key);; path = parent_of(path)) {
                r = look(a, path, &node, &there, ret);
                if (r <= 0)
                        return r;
                if (there)
                        return node.dir ? 1 : apply_refuse(a, ret, KV_NOT_DIR, path);
                way->missing = path;
                way->n_missing++;
                way->n_bytes += path.size;
                way->n_long += tree_is_long(path);
        }
}

/* Read a node that has to exist. */
static int find(Apply *a, KvBytes key, KvNode *node, KvResult *ret) {
        Way way;
        int r;

        r = apply_visit(a, key.size, ret);
        if (r <= 0)
                return r;
        r = apply_get(a, key, node);
        if (r == 0)
                return 1;
        if (r != -ENOENT)
                return r;
        r = climb(a, key, &way, ret);
        return r <= 0 ? r : apply_refuse(a, ret, KV_NOT_FOUND, way.missing.size > 0 ? way.missing : key);
}

static int make_way(Apply *a, KvBytes key, const Way *way, uint64_t index) {
        const char *p = key.data;

        if (way->n_missing == 0)
                return 0;
        for (size_t size = way->missing.size; size < key.size; size++) {
                KvNode dir = { .key = { p, size }, .dir = true, .created = index, .modified = index };

                if (p[size] != '/')
                        continue;
                TRY(tree_put(a->txn, &dir));
        }
        return 0;
}

/* -- Limits -- */

/* Check the quota of the owner of a key that is written. A change that reduces the weight is always allowed.
 */
static int check_quota(const TreeMeta *meta, bool ours, size_t n_more, uint64_t size, uint64_t size_before,
                       Error *err) {
        uint64_t quota = meta->quota > 0 ? meta->quota : APPLY_QUOTA;
        uint64_t n_nodes = (ours ? meta->n_own_nodes : meta->n_nodes) + n_more;
        uint64_t n_bytes = (ours ? meta->n_own_bytes : meta->n_bytes) + size - size_before;

        if (n_more == 0 && size <= size_before)
                return 0;
        if (!ours && n_more > 0 && meta->quota_nodes > 0 && n_nodes > meta->quota_nodes)
                return error_set(err, -EDQUOT,
                                 "the quota of %llu nodes (QuotaKeys=) for users' keys is used up",
                                 (unsigned long long) meta->quota_nodes);
        if (n_bytes + APPLY_NODE_WEIGHT * n_nodes > quota)
                return error_set(err, -EDQUOT, "the quota of %llu bytes for %s is used up",
                                 (unsigned long long) quota, ours ? "/_fleet" : "users' keys");
        return 0;
}

static int check_weight(Apply *a, KvBytes key, size_t n_more, uint64_t size, uint64_t size_before,
                        KvResult *ret) {
        Error err = {};
        TreeMeta now;
        int r;

        TRY(tree_meta(a->txn, &now));
        now.quota = a->meta->quota;
        now.quota_nodes = a->meta->quota_nodes;
        r = check_quota(&now, kv_path_is_ours(key), n_more, size, size_before, &err);
        return r < 0 ? apply_refuse_error(a, ret, KV_TOO_LARGE, &err) : 1;
}

int apply_room(const TreeMeta *meta, const KvCommand *cmd, const KvNode *prev, Error *err) {
        return check_quota(meta, false, !prev,
                           cmd->key.size + (cmd->refresh && prev ? prev->value.size : cmd->value.size),
                           prev ? prev->key.size + prev->value.size : 0, err);
}

/* Keys beyond 480 bytes with equal beginnings are walked together: bound their number. */
static int check_long(Apply *a, KvBytes key, const Way *way, KvResult *ret) {
        Cost counted = {};
        LongGroup *group;
        uint64_t n;
        int r;

        if (!apply_bounds(a) || !tree_is_long(key))
                return 1;
        TRY(long_keys_group(&a->long_keys, a->txn, key, COST_LONG_KEYS_MAX + 1, &group, &n));
        cost_nodes(&counted, n, COST_PASS);
        r = apply_afford(a, &counted, ret);
        if (r <= 0)
                return r;
        group->n += way->n_long + 1; /* a rejection after this ends the command */
        if (group->n <= COST_LONG_KEYS_MAX)
                return 1;
        return apply_refuse(a, ret, KV_TOO_LARGE,
                            kv_string("at most 4096 keys of more than 480 bytes share their first 480 bytes: "
                                      "use shorter names"));
}

/* The nodes below a directory, as far as they were counted. */
typedef struct Below {
        Cost passed, removal; /* of the count; of the removal of the counted nodes */
        uint64_t n;
        uint64_t cost_max, n_max; /* the count stops beyond either */
} Below;

static bool is_beyond(const Below *b) {
        return b->n > b->n_max || b->passed.total + b->removal.total > b->cost_max;
}

/* Return the cost that is left for the command. */
static uint64_t apply_rest(const Apply *a) {
        uint64_t allowed = MIN(a->left, (uint64_t) COST_COMMAND_MAX);

        return apply_bounds(a) ? allowed - MIN(allowed, a->cost.total) : UINT64_MAX;
}

static int count_one(void *userdata, const KvNode *node, bool below) {
        Below *b = userdata;

        cost_nodes(&b->passed, 1, COST_PASS);
        b->n += below;
        if (below)
                cost_below(&b->removal, node->key.size, node->value.size, node->expires_ms > 0);
        return !is_beyond(b);
}

static Below below_limited(const Apply *a, uint64_t cost_max) {
        return (Below) { .cost_max = apply_bounds(a) ? MIN(cost_max, apply_rest(a)) : UINT64_MAX,
                         .n_max = apply_bounds(a) ? UINT64_MAX : APPLY_SUBTREE_MAX };
}

static int count_below(Apply *a, KvBytes path, Below *below) {
        int r = tree_scan(a->txn, path, count_one, below);

        cost_add(&a->cost, &below->passed); /* whether the command succeeds or not */
        return r;
}

/* -- Writing -- */

/* 0: never. A time to live that overflows is the longest possible one. */
static uint64_t expiry_of(Apply *a, const KvCommand *cmd) {
        uint64_t now_ms = a->meta->cluster_ms;

        if (!cmd->has_ttl)
                return 0;
        return cmd->ttl_ms > INT64_MAX - MIN(now_ms, (uint64_t) INT64_MAX) ? INT64_MAX :
                                                                             MAX(now_ms + cmd->ttl_ms, 1u);
}

/* The write is done: fill the result, and add the event. */
static int done(Apply *a, KvAction action, const KvNode *node, const KvNode *prev, bool refresh,
                KvResult *ret) {
        KvEvent event = {
                .action = action,
                .index = a->meta->index,
                .node = *node,
                .has_prev = prev,
                .refresh = refresh,
                .now_ms = a->meta->cluster_ms,
        };
        int r;

        if (prev)
                event.prev = *prev;
        *ret = apply_result(a, KV_OK, action);
        ret->has_node = true;
        ret->node = *node;
        ret->has_prev = prev;
        ret->prev = event.prev;
        ret->refreshed = refresh && apply_bounds(a);
        if (ret->refreshed)
                event.node.value = event.prev.value = (KvBytes) {};
        TRY(events_add(a->txn, &event));

        r = a->applied ? applied_add_event(a->applied, &event) : 0;
        return r < 0 ? r : 1;
}

/* Charge for a change of one key. 'kept': bytes of a value in the result that the command does not hold. */
static int apply_change(Apply *a, const Cost *more, size_t kept, KvResult *ret) {
        int r = apply_afford(a, more, ret);

        if (r <= 0 || !a->in_txn || !apply_bounds(a))
                return r;
        a->answer += kept;
        if (a->answer <= COST_ANSWER_MAX)
                return 1;
        return apply_refuse(a, ret, KV_TOO_LARGE,
                            kv_string("the answer would hold more than 2 MiB of values that were refreshed: "
                                      "refresh them in several transactions"));
}

/* Set, create and in-order child: write a new node, which replaces 'prev' if that is given. */
static int make(Apply *a, const KvCommand *cmd, KvBytes key, KvBytes value, KvAction action, KvNode *prev,
                KvResult *ret) {
        bool refresh = cmd->refresh && action == KV_ACTION_SET;
        uint64_t index = a->meta->index + 1;
        KvNode node = {
                .key = key,
                .value = cmd->dir ? (KvBytes) {} : value,
                .dir = cmd->dir,
                .created = index,
                .modified = index,
                .expires_ms = expiry_of(a, cmd),
        };
        Way way = {};
        Cost more = {};
        int r;

        if (!prev) {
                r = climb(a, key, &way, ret);
                if (r <= 0)
                        return r;
        }
        r = check_weight(a, key, prev ? 0 : way.n_missing + 1, key.size + node.value.size + way.n_bytes,
                         prev ? prev->key.size + prev->value.size : 0, ret);
        if (r <= 0)
                return r;
        if (!prev) {
                r = check_long(a, key, &way, ret);
                if (r <= 0)
                        return r;
        }
        cost_parents(&more, way.n_missing, way.n_bytes);
        cost_change(&more, &(CostChange) { .key = key.size,
                                           .size = node.value.size,
                                           .old = prev ? prev->value.size : 0,
                                           .refresh = refresh,
                                           .expired = prev && prev->expires_ms > 0,
                                           .expires = node.expires_ms > 0 });
        r = apply_change(a, &more, refresh ? node.value.size : 0, ret);
        if (r <= 0)
                return r;
        TRY(prev ? apply_keep(a, prev) : 0);
        if (refresh && prev && !cmd->dir)
                node.value = prev->value;
        r = make_way(a, key, &way, index);
        if (r == 0)
                r = tree_put(a->txn, &node);
        if (r < 0)
                return r;

        a->meta->index = index;
        return done(a, action, &node, prev, refresh, ret);
}

static int apply_set(Apply *a, const KvCommand *cmd, KvResult *ret) {
        KvNode prev;
        bool there;
        int r;

        r = look(a, cmd->key, &prev, &there, ret);
        if (r <= 0)
                return r;
        if (!there && cmd->refresh)
                return find(a, cmd->key, &prev, ret); /* rejects with the missing ancestor */
        if (!there)
                return make(a, cmd, cmd->key, cmd->value, KV_ACTION_SET, NULL, ret);
        if (prev.dir)
                return apply_refuse(a, ret, KV_NOT_FILE, cmd->key);

        return make(a, cmd, cmd->key, cmd->refresh ? prev.value : cmd->value, KV_ACTION_SET, &prev, ret);
}

static int apply_create(Apply *a, const KvCommand *cmd, KvBytes key, KvResult *ret) {
        KvNode node;
        bool there;
        int r;

        r = look(a, key, &node, &there, ret);
        if (r <= 0)
                return r;
        if (there)
                return apply_refuse(a, ret, KV_EXISTS, key);
        return make(a, cmd, key, cmd->value, KV_ACTION_CREATE, NULL, ret);
}

static int apply_post(Apply *a, const KvCommand *cmd, KvResult *ret) {
        size_t base = cmd->key.size == 1 ? 0 : cmd->key.size;
        char name[22], *key;

        key = arena_alloc(a->arena, base + sizeof(name));
        if (!key)
                return -ENOMEM;
        memcpy(key, cmd->key.data, base);
        snprintf(name, sizeof(name), "/%020llu", (unsigned long long) a->meta->index + 1);
        memcpy(key + base, name, sizeof(name));
        return apply_create(a, cmd, (KvBytes) { key, base + sizeof(name) - 1 }, ret);
}

/* Update and compare-and-swap: change value and expiry of an existing node. */
static int replace(Apply *a, const KvCommand *cmd, KvAction action, KvNode *prev, KvResult *ret) {
        bool refresh = prev->dir || cmd->refresh;
        KvNode stored, shown;
        Cost more = {};
        int r;

        r = check_weight(a, cmd->key, 0, refresh ? prev->value.size : cmd->value.size, prev->value.size, ret);
        if (r <= 0)
                return r;
        cost_change(&more, &(CostChange) { .key = cmd->key.size,
                                           .size = refresh ? prev->value.size : cmd->value.size,
                                           .old = prev->value.size,
                                           .refresh = cmd->refresh,
                                           .expired = prev->expires_ms > 0,
                                           .expires = cmd->has_ttl });
        r = apply_change(a, &more, refresh ? prev->value.size : 0, ret);
        if (r <= 0)
                return r;
        TRY(apply_keep(a, prev));
        stored = *prev;
        stored.expires_ms = expiry_of(a, cmd);
        if (!refresh)
                stored.value = cmd->value;

        /* A directory keeps its stored index: only the result and the event have the new one. */
        shown = stored;
        shown.modified = a->meta->index + 1;
        if (!prev->dir)
                stored.modified = shown.modified;
        TRY(tree_put(a->txn, &stored));
        a->meta->index++;
        return done(a, action, &shown, prev, cmd->refresh, ret);
}

static int apply_update(Apply *a, const KvCommand *cmd, KvResult *ret) {
        KvNode node;
        int r;

        r = find(a, cmd->key, &node, ret);
        if (r <= 0)
                return r;
        if (node.dir && cmd->value.size > 0)
                return apply_refuse(a, ret, KV_NOT_FILE, cmd->key);
        return replace(a, cmd, KV_ACTION_UPDATE, &node, ret);
}

/* etcd's text of a failed comparison: "[expected != found]", of value, index, or both. */
static int compare_cause(Apply *a, const KvCommand *cmd, const KvNode *node, bool value, bool index,
                         KvBytes *ret) {
        size_t size = cmd->prev_value.size + node->value.size + 64;
        char *cause = arena_alloc(a->arena, size), *p = cause;

        if (!cause)
                return -ENOMEM;
        if (value) {
                p = mempcpy(p, "[", 1);
                if (cmd->prev_value.size > 0)
                        p = mempcpy(p, cmd->prev_value.data, cmd->prev_value.size);
                p = mempcpy(p, " != ", 4);
                p = mempcpy(p, node->value.data, node->value.size);
                p = mempcpy(p, "]", 1);
        }
        if (index)
                p += snprintf(p, size - (p - cause), "%s[%llu != %llu]", value ? " " : "",
                              (unsigned long long) cmd->prev_index, (unsigned long long) node->modified);
        *ret = (KvBytes) { cause, p - cause };
        return 0;
}

/* Read the file of a comparison, and compare. */
static int compare(Apply *a, const KvCommand *cmd, KvNode *node, KvResult *ret) {
        bool value, index;
        Cost more = {};
        KvBytes cause;
        int r;

        r = find(a, cmd->key, node, ret);
        if (r <= 0)
                return r;
        if (node->dir)
                return apply_refuse(a, ret, KV_NOT_FILE, cmd->key.size > 1 ? cmd->key : (KvBytes) {});
        value = cmd->has_prev_value && !kv_bytes_equal(cmd->prev_value, node->value);
        index = cmd->prev_index > 0 && cmd->prev_index != node->modified;
        if (!value && !index)
                return 1;
        if (value)
                cost_bytes(&more, 4ull * (cmd->prev_value.size + node->value.size));
        r = apply_afford(a, &more, ret);
        if (r <= 0)
                return r;
        r = compare_cause(a, cmd, node, value, index, &cause);
        return r < 0 ? r : apply_refuse(a, ret, KV_COMPARE_FAILED, cause);
}

static int apply_swap(Apply *a, const KvCommand *cmd, KvResult *ret) {
        KvNode node;
        int r = compare(a, cmd, &node, ret);

        return r <= 0 ? r : replace(a, cmd, KV_ACTION_CAS, &node, ret);
}

/* -- Removal -- */

/* Remove a node and the 'n_below' nodes below it, with one event; 'prev' is a copy already. */
static int take_away(Apply *a, KvAction action, const KvNode *prev, uint64_t n_below, KvResult *ret) {
        KvNode node = {
                .key = prev->key, .dir = prev->dir, .created = prev->created, .modified = a->meta->index + 1
        };
        int r = 0;

        long_keys_removed(&a->long_keys, prev->key, n_below);
        if (prev->dir)
                r = tree_delete_below(a->txn, prev->key);
        if (r == 0)
                r = tree_delete(a->txn, prev->key);
        if (r < 0)
                return r;
        a->meta->index++;
        return done(a, action, &node, prev, false, ret);
}

static void cost_removal(Cost *cost, const KvNode *node) {
        cost_change(cost, &(CostChange) { .key = node->key.size,
                                          .old = node->value.size,
                                          .expired = node->expires_ms > 0,
                                          .gone = true });
}

/* Stop at the first node below; skip long keys of other directories with an equal beginning. */
static int check_empty(Apply *a, KvBytes dir, KvResult *ret) {
        Below below = { .cost_max = apply_rest(a), .n_max = 0 };

        TRY(count_below(a, dir, &below));
        if (below.n == 0 && is_beyond(&below))
                return apply_afford(a, &(Cost) {}, ret); /* rejects */
        return below.n == 0 ? 1 : apply_refuse(a, ret, KV_DIR_NOT_EMPTY, dir);
}

static int apply_delete(Apply *a, const KvCommand *cmd, KvResult *ret) {
        bool compares = kv_command_compares(cmd);
        Cost more = {};
        Below below = {};
        KvNode node;
        int r;

        if (!compares && cmd->key.size == 1)
                return apply_refuse(a, ret, KV_ROOT_READ_ONLY, kv_string("/"));
        r = compares ? compare(a, cmd, &node, ret) : find(a, cmd->key, &node, ret);
        if (r <= 0)
                return r;

        if (node.dir && !cmd->dir && !cmd->recursive)
                return apply_refuse(a, ret, KV_NOT_FILE, cmd->key);
        if (node.dir && !cmd->recursive) {
                r = check_empty(a, cmd->key, ret);
                if (r <= 0)
                        return r;
        }
        if (node.dir && cmd->recursive) {
                below = below_limited(a, COST_COMMAND_MAX);
                r = TRY(count_below(a, cmd->key, &below));
                if (below.n > below.n_max)
                        return apply_refuse(
                                a, ret, KV_TOO_LARGE,
                                kv_string("more than 100000 nodes are below: delete them part by part"));
                more = below.removal;
        }
        cost_removal(&more, &node);
        r = apply_change(a, &more, 0, ret);
        if (r <= 0)
                return r;
        r = apply_keep(a, &node);
        return r < 0 ? r : take_away(a, compares ? KV_ACTION_CAD : KV_ACTION_DELETE, &node, below.n, ret);
}

/* Nodes below a directory that have no node below them, up to a limit. */
typedef struct Leaves {
        Apply *apply;
        KvNode *nodes; /* copies; the last one may be a parent */
        size_t n, max, capacity;
        uint64_t budget; /* for their removal; 0: no limit */
        Cost cost;
} Leaves;

static int collect_leaf(void *userdata, const KvNode *node) {
        Leaves *leaves = userdata;
        KvNode copy = *node;

        if (leaves->n > 0 && kv_path_is_below(node->key, leaves->nodes[leaves->n - 1].key))
                leaves->n--; /* walks visit parents first */
        if (leaves->n == leaves->max ||
            (leaves->n > 0 && leaves->budget > 0 && leaves->cost.total > leaves->budget))
                return 0;
        cost_removal(&leaves->cost, node);
        if (apply_keep(leaves->apply, &copy) < 0 || GROW(leaves->nodes, leaves->capacity, leaves->n + 1) < 0)
                return -ENOMEM;
        leaves->nodes[leaves->n++] = copy;
        return 1;
}

/* Remove a directory that is too large for one event from its leaves: 'max' of them now, the others with
 * later entries. */
static int expire_leaves(Apply *a, KvBytes dir, size_t max, uint64_t budget, KvResult *ret) {
        Leaves leaves = { .apply = a, .max = max, .budget = budget };
        int r;

        r = tree_walk(a->txn, dir, true, collect_leaf, &leaves);
        for (size_t i = 0; r >= 0 && i < leaves.n; i++)
                r = take_away(a, KV_ACTION_EXPIRE, &leaves.nodes[i], 0, ret);
        cost_add(&a->cost, &leaves.cost);
        free(leaves.nodes);
        return r < 0 ? r : 1;
}

/* Expire one node that is due, with all below it: 1, and how many of 'left' were removed; 0: a later entry
 * expires it. */
static int expire_one(Apply *a, KvNode *node, uint64_t left, uint64_t *ret_n, KvResult *ret) {
        uint64_t budget = MIN(a->left, (uint64_t) COST_EXPIRE_MAX), rest = 0;
        Below below = { .cost_max = UINT64_MAX, .n_max = UINT64_MAX };
        int r = 0;

        if (node->dir) {
                below = below_limited(a, COST_EXPIRE_MAX / 2);
                r = TRY(count_below(a, node->key, &below));
        }
        if (is_beyond(&below) && apply_bounds(a) && below.cost_max < COST_EXPIRE_MAX / 2)
                return 0; /* the count is incomplete: a later entry has a larger budget */
        if (is_beyond(&below)) {
                *ret_n = left;
                if (apply_bounds(a))
                        rest = budget > a->cost.total ? budget - a->cost.total : 1;
                return expire_leaves(a, node->key, left, rest, ret);
        }
        cost_removal(&below.removal, node);
        if (apply_bounds(a) && a->cost.total + below.removal.total > budget)
                return 0;
        cost_add(&a->cost, &below.removal);
        *ret_n = below.n + 1;
        r = take_away(a, KV_ACTION_EXPIRE, node, below.n, ret);
        return r < 0 ? r : 1;
}

/* Whether the command names this node, or none: the leader may delay the expiry of another node that is due
 * first. */
static bool expires(const KvCommand *cmd, const KvNode *node) {
        return !cmd->has_ttl || (node->expires_ms == cmd->ttl_ms && node->created == cmd->prev_index);
}

int apply_expire(Apply *a, const KvCommand *cmd, KvResult *ret) {
        uint64_t left = MIN(cmd->limit, (uint64_t) APPLY_SUBTREE_MAX), n = 0;
        KvNode node;
        int r;

        for (; left > 0; left -= MIN(left, n)) {
                r = tree_first_due(a->txn, a->meta->cluster_ms, &node);
                if (r == -ENOENT)
                        break;
                if (r < 0)
                        return r;
                cost_visit(&a->cost, node.key.size);
                if (!expires(cmd, &node))
                        break;
                TRY(apply_keep(a, &node));
                r = TRY(expire_one(a, &node, left, &n, ret));
                if (r == 0)
                        break;
        }
        *ret = apply_result(a, KV_OK, KV_ACTION_EXPIRE);
        return 1;
}

int apply_one(Apply *a, const KvCommand *cmd, KvResult *ret) {
        bool compares = kv_command_compares(cmd);

        if (cmd->key.size == 1 && cmd->op != KV_POST && cmd->op != KV_DELETE)
                return apply_refuse(a, ret, KV_ROOT_READ_ONLY, kv_string("/"));
        switch (cmd->op) {
        case KV_SET:
                return compares ? apply_swap(a, cmd, ret) : apply_set(a, cmd, ret);
        case KV_UPDATE:
                return compares ? apply_swap(a, cmd, ret) : apply_update(a, cmd, ret);
        case KV_CREATE:
                return apply_create(a, cmd, cmd->key, ret);
        case KV_POST:
                return apply_post(a, cmd, ret);
        case KV_DELETE:
                return apply_delete(a, cmd, ret);
        default:
                return -EBADMSG;
        }
}
