/* What a command does to one key, and what it is refused for. */
#include "kvstore/apply_internal.h"

#include <stdio.h>

#include "kvstore/events.h"

int apply_refuse(Apply *a, KvResult *ret, KvStatus status, KvBytes cause) {
        *ret = (KvResult) { .status = status, .index = a->meta->index, .now_ms = a->meta->cluster_ms, .cause = cause };
        return 0;
}

int apply_get(Apply *a, KvBytes path, KvNode *ret) {
        int r = tree_get(a->txn, path, ret);

        return r == -ENOTUNIQ ? -ENOENT : r;
}

int apply_keep(Apply *a, KvNode *node) {
        node->key.data = arena_copy(a->arena, node->key.data, node->key.size);
        node->value.data = arena_copy(a->arena, node->value.data, node->value.size);
        return node->key.data && node->value.data ? 0 : -ENOMEM;
}

/* -- The way to a key -- */

typedef struct Way {
        KvBytes missing; /* the topmost ancestor that is not there; size 0: none */
        size_t n_missing, n_bytes;
} Way;

static KvBytes parent_of(KvBytes path) {
        const char *slash = memrchr(path.data, '/', path.size);
        size_t size = slash - (const char *) path.data;

        return (KvBytes) { path.data, size > 0 ? size : 1 };
}

/* Climbs from a key until something is there. All above that are directories, since everything stored has its parents. */
static int climb(Apply *a, KvBytes key, Way *way, KvResult *ret) {
        KvNode node;
        int r;

        *way = (Way) {};
        for (KvBytes path = parent_of(key);; path = parent_of(path)) {
                r = tree_get(a->txn, path, &node);
                if (r == 0)
                        return node.dir ? 1 : apply_refuse(a, ret, KV_NOT_DIR, path);
                if (r == -ENOTUNIQ)
                        return apply_refuse(a, ret, KV_TOO_LARGE, kv_string("another long key has this one's hash"));
                if (r < 0 && r != -ENOENT)
                        return r;
                way->missing = path;
                way->n_missing++;
                way->n_bytes += path.size;
        }
}

/* A node that must be there. */
static int find(Apply *a, KvBytes key, KvNode *node, KvResult *ret) {
        Way way;
        int r;

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
                int r;

                if (p[size] != '/')
                        continue;
                r = tree_put(a->txn, &dir);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* -- Limits -- */

/* Refuses what makes the owner of 'key' heavier than allowed. Who is too heavy already may still become lighter. */
static int check_weight(Apply *a, KvBytes key, size_t n_more, uint64_t size, uint64_t size_before, KvResult *ret) {
        uint64_t quota = a->meta->quota > 0 ? a->meta->quota : APPLY_QUOTA, weight;
        bool ours = kv_path_is_ours(key), many;
        TreeMeta now;
        char *cause;
        int r;

        if (n_more == 0 && size <= size_before)
                return 1;
        r = tree_meta(a->txn, &now);
        if (r < 0)
                return r;
        weight = (ours ? now.n_own_bytes : now.n_bytes) + size - size_before +
                 APPLY_NODE_WEIGHT * ((ours ? now.n_own_nodes : now.n_nodes) + n_more);
        many = !ours && n_more > 0 && a->meta->quota_nodes > 0 && now.n_nodes + n_more > a->meta->quota_nodes;
        if (weight <= quota && !many)
                return 1;

        cause = arena_alloc(a->arena, 128);
        if (!cause)
                return -ENOMEM;
        if (many)
                snprintf(cause, 128, "the quota of %llu nodes (QuotaKeys=) for users' keys is used up",
                         (unsigned long long) a->meta->quota_nodes);
        else
                snprintf(cause, 128, "the quota of %llu bytes for %s is used up", (unsigned long long) quota,
                 ours ? "/_fleet" : "users' keys");
        return apply_refuse(a, ret, KV_TOO_LARGE, kv_string(cause));
}

int apply_room(const TreeMeta *meta, const KvCommand *cmd, const KvNode *prev, Error *err) {
        uint64_t quota = meta->quota > 0 ? meta->quota : APPLY_QUOTA;
        uint64_t size = cmd->key.size + (cmd->refresh && prev ? prev->value.size : cmd->value.size);
        uint64_t before = prev ? prev->key.size + prev->value.size : 0;

        if (prev && size <= before)
                return 0;
        if (meta->n_bytes + size - before + APPLY_NODE_WEIGHT * (meta->n_nodes + !prev) > quota)
                return error_set(err, -EDQUOT, "the quota of %llu bytes for users' keys is used up", (unsigned long long) quota);
        if (!prev && meta->quota_nodes > 0 && meta->n_nodes + 1 > meta->quota_nodes)
                return error_set(err, -EDQUOT, "the quota of %llu nodes (QuotaKeys=) for users' keys is used up",
                                 (unsigned long long) meta->quota_nodes);
        return 0;
}

static int count_one(void *userdata, const KvNode *node) {
        return ++*(uint64_t *) userdata <= APPLY_SUBTREE_MAX;
}

/* Nodes below 'path', as far as APPLY_SUBTREE_MAX + 1. */
static int count_below(Apply *a, KvBytes path, uint64_t *ret) {
        *ret = 0;
        return tree_walk(a->txn, path, true, count_one, ret);
}

/* -- Writing -- */

/* 0 is never; a time-to-live too long to be reckoned is as long as can be. */
static uint64_t expiry_of(Apply *a, const KvCommand *cmd) {
        uint64_t now_ms = a->meta->cluster_ms;

        if (!cmd->has_ttl)
                return 0;
        return cmd->ttl_ms > INT64_MAX - MIN(now_ms, (uint64_t) INT64_MAX) ? INT64_MAX : MAX(now_ms + cmd->ttl_ms, 1u);
}

/* The write is done: tells the watchers and the one who asked. */
static int done(Apply *a, KvAction action, const KvNode *node, const KvNode *prev, bool refresh, KvResult *ret) {
        KvEvent event = {
                .action = action, .index = a->meta->index, .node = *node, .has_prev = prev, .refresh = refresh,
                .now_ms = a->meta->cluster_ms,
        };

        int r;

        if (prev)
                event.prev = *prev;
        r = events_add(a->txn, &event);
        if (r < 0)
                return r;
        *ret = (KvResult) {
                .status = KV_OK, .action = action, .index = event.index, .now_ms = event.now_ms,
                .has_node = true, .node = *node, .has_prev = prev, .prev = event.prev,
        };

        if (!a->sink || !a->sink->on_event)
                return 1;
        if (!a->collect) {
                a->sink->on_event(a->sink->userdata, &event);
                return 1;
        }
        if (GROW(a->events, a->capacity, a->n_events + 1) < 0)
                return -ENOMEM;
        a->events[a->n_events++] = event;
        return 1;
}

/* Set, create and the in-order child: a new node, in the place of 'prev' if that is given. */
static int make(Apply *a, const KvCommand *cmd, KvBytes key, KvBytes value, KvAction action, KvNode *prev,
                KvResult *ret) {
        bool refresh = cmd->refresh && action == KV_ACTION_SET;
        uint64_t index = a->meta->index + 1;
        KvNode node = {
                .key = key, .value = cmd->dir ? (KvBytes) {} : value, .dir = cmd->dir, .created = index, .modified = index,
                .expires_ms = expiry_of(a, cmd),
        };
        Way way = {};
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
        r = make_way(a, key, &way, index);
        if (r == 0)
                r = tree_put(a->txn, &node);
        if (r < 0)
                return r;

        a->meta->index = index;
        return done(a, action, &node, prev, refresh, ret);
}

/* What stands where a new node is wanted: 1 and *ret_there. */
static int look(Apply *a, KvBytes key, KvNode *node, bool *ret_there, KvResult *ret) {
        int r = tree_get(a->txn, key, node);

        if (r == -ENOTUNIQ)
                return apply_refuse(a, ret, KV_TOO_LARGE, kv_string("another long key has this one's hash"));
        if (r < 0 && r != -ENOENT)
                return r;
        *ret_there = r == 0;
        return 1;
}

static int apply_set(Apply *a, const KvCommand *cmd, KvResult *ret) {
        KvNode prev;
        bool there;
        int r;

        r = look(a, cmd->key, &prev, &there, ret);
        if (r <= 0)
                return r;
        if (!there && cmd->refresh)
                return find(a, cmd->key, &prev, ret); /* is refused with what is missing */
        if (!there)
                return make(a, cmd, cmd->key, cmd->value, KV_ACTION_SET, NULL, ret);
        if (prev.dir)
                return apply_refuse(a, ret, KV_NOT_FILE, cmd->key);

        r = apply_keep(a, &prev);
        return r < 0 ? r : make(a, cmd, cmd->key, cmd->refresh ? prev.value : cmd->value, KV_ACTION_SET, &prev, ret);
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

/* Update and compare-and-swap: the node stays, its value and expiry change. */
static int replace(Apply *a, const KvCommand *cmd, KvAction action, KvNode *prev, KvResult *ret) {
        KvNode stored, shown;
        int r;

        r = apply_keep(a, prev);
        if (r < 0)
                return r;
        stored = *prev;
        stored.expires_ms = expiry_of(a, cmd);
        if (!prev->dir && !cmd->refresh)
                stored.value = cmd->value;
        r = check_weight(a, cmd->key, 0, stored.value.size, prev->value.size, ret);
        if (r <= 0)
                return r;

        /* A directory keeps its stored index: only the answer and the event show the new one. */
        shown = stored;
        shown.modified = a->meta->index + 1;
        if (!prev->dir)
                stored.modified = shown.modified;
        r = tree_put(a->txn, &stored);
        if (r < 0)
                return r;
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

/* etcd's words for what did not compare: "[asked != found]", of value, index, or both. */
static int compare_cause(Apply *a, const KvCommand *cmd, const KvNode *node, bool value, bool index, KvBytes *ret) {
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
                p += snprintf(p, size - (p - cause), "%s[%llu != %llu]", value ? " " : "", (unsigned long long) cmd->prev_index,
                             (unsigned long long) node->modified);
        *ret = (KvBytes) { cause, p - cause };
        return 0;
}

/* The file that a comparison is about, when it compares. */
static int compare(Apply *a, const KvCommand *cmd, KvNode *node, KvResult *ret) {
        bool value, index;
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
        r = compare_cause(a, cmd, node, value, index, &cause);
        return r < 0 ? r : apply_refuse(a, ret, KV_COMPARE_FAILED, cause);
}

static int apply_swap(Apply *a, const KvCommand *cmd, KvResult *ret) {
        KvNode node;
        int r = compare(a, cmd, &node, ret);

        return r <= 0 ? r : replace(a, cmd, KV_ACTION_CAS, &node, ret);
}

/* -- Removing -- */

/* Removes a node, with all below it, in one event; 'prev' is kept already. */
static int take_away(Apply *a, KvAction action, const KvNode *prev, KvResult *ret) {
        KvNode node = { .key = prev->key, .dir = prev->dir, .created = prev->created, .modified = a->meta->index + 1 };
        int r = 0;

        if (prev->dir)
                r = tree_delete_below(a->txn, prev->key);
        if (r == 0)
                r = tree_delete(a->txn, prev->key);
        if (r < 0)
                return r;
        a->meta->index++;
        return done(a, action, &node, prev, false, ret);
}

static int apply_delete(Apply *a, const KvCommand *cmd, KvResult *ret) {
        bool compares = cmd->prev_index > 0 || cmd->has_prev_value;
        KvNode node;
        uint64_t n;
        int r;

        if (!compares && cmd->key.size == 1)
                return apply_refuse(a, ret, KV_ROOT_READ_ONLY, kv_string("/"));
        r = compares ? compare(a, cmd, &node, ret) : find(a, cmd->key, &node, ret);
        if (r <= 0)
                return r;

        if (node.dir && !cmd->dir && !cmd->recursive)
                return apply_refuse(a, ret, KV_NOT_FILE, cmd->key);
        if (node.dir && !cmd->recursive && tree_has_children(a->txn, cmd->key))
                return apply_refuse(a, ret, KV_DIR_NOT_EMPTY, cmd->key);
        if (node.dir && cmd->recursive) {
                r = count_below(a, cmd->key, &n);
                if (r < 0)
                        return r;
                if (n > APPLY_SUBTREE_MAX)
                        return apply_refuse(a, ret, KV_TOO_LARGE,
                                      kv_string("more than 100000 nodes are below: delete them part by part"));
        }
        r = apply_keep(a, &node);
        return r < 0 ? r : take_away(a, compares ? KV_ACTION_CAD : KV_ACTION_DELETE, &node, ret);
}

/* The nodes below a directory that have nothing below them, as far as wanted. */
typedef struct Leaves {
        Apply *apply;
        KvNode *nodes; /* kept copies; the last may turn out to be a parent */
        size_t n, max, capacity;
} Leaves;

static int collect_leaf(void *userdata, const KvNode *node) {
        Leaves *leaves = userdata;
        KvNode copy = *node;

        if (leaves->n > 0 && kv_path_is_below(node->key, leaves->nodes[leaves->n - 1].key))
                leaves->n--; /* walks visit parents first */
        if (leaves->n == leaves->max)
                return 0;
        if (apply_keep(leaves->apply, &copy) < 0 || GROW(leaves->nodes, leaves->capacity, leaves->n + 1) < 0)
                return -ENOMEM;
        leaves->nodes[leaves->n++] = copy;
        return 1;
}

/* A directory with too much below it for one event goes from its leaves: 'max' of them now, the rest with later entries. */
static int expire_leaves(Apply *a, KvBytes dir, size_t max, KvResult *ret) {
        Leaves leaves = { .apply = a, .max = max };
        int r;

        r = tree_walk(a->txn, dir, true, collect_leaf, &leaves);
        for (size_t i = 0; r >= 0 && i < leaves.n; i++)
                r = take_away(a, KV_ACTION_EXPIRE, &leaves.nodes[i], ret);
        free(leaves.nodes);
        return r < 0 ? r : 1;
}

int apply_expire(Apply *a, const KvCommand *cmd, KvResult *ret) {
        uint64_t left = MIN(cmd->limit, (uint64_t) APPLY_SUBTREE_MAX);
        KvNode node;
        int r;

        while (left > 0) {
                uint64_t n = 0;

                r = tree_first_due(a->txn, a->meta->cluster_ms, &node);
                if (r == -ENOENT)
                        break;
                if (r == 0)
                        r = apply_keep(a, &node);
                if (r == 0 && node.dir)
                        r = count_below(a, node.key, &n);
                if (r < 0)
                        return r;
                if (n > APPLY_SUBTREE_MAX) {
                        r = expire_leaves(a, node.key, left, ret);
                        n = left - 1;
                } else {
                        r = take_away(a, KV_ACTION_EXPIRE, &node, ret);
                }
                if (r < 0)
                        return r;
                left -= MIN(left, n + 1);
        }
        *ret = (KvResult) {
                .status = KV_OK, .action = KV_ACTION_EXPIRE, .index = a->meta->index, .now_ms = a->meta->cluster_ms,
        };
        return 1;
}

int apply_one(Apply *a, const KvCommand *cmd, KvResult *ret) {
        bool compares = cmd->prev_index > 0 || cmd->has_prev_value;

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
