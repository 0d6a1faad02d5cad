#include "kvstore/node_set.h"

#include "kvstore/tree/format.h"

/* Return the position of the first node at or after 'key'. */
static size_t node_set_position(const NodeSet *set, KvBytes key) {
        KvNode wanted = { .key = key };
        size_t first = 0, end = set->n;

        while (first < end) {
                size_t middle = first + (end - first) / 2;

                if (tree_compare_paths(set->items[middle], &wanted) < 0)
                        first = middle + 1;
                else
                        end = middle;
        }
        return first;
}

static bool node_set_has_at(const NodeSet *set, size_t at, KvBytes key) {
        return at < set->n && kv_bytes_equal(set->items[at]->key, key);
}

const KvNode *node_set_find(const NodeSet *set, KvBytes key) {
        size_t at = node_set_position(set, key);

        return node_set_has_at(set, at, key) ? set->items[at] : NULL;
}

static KvNode *node_copy(const KvNode *node) {
        KvNode *copy = malloc(sizeof(*copy) + node->key.size + node->value.size);
        char *at = (char *) (copy + 1);

        if (!copy)
                return NULL;
        *copy = *node;
        kv_node_place(&at, copy);
        return copy;
}

int node_set_put(NodeSet *set, const KvNode *node) {
        size_t at = node_set_position(set, node->key);
        bool has = node_set_has_at(set, at, node->key);
        KvNode *copy;

        if (has && set->items[at]->modified == node->modified && set->items[at]->created == node->created)
                return 0;
        copy = node_copy(node);
        if (!copy || (!has && GROW(set->items, set->capacity, set->n + 1) < 0)) {
                free(copy);
                return -ENOMEM;
        }
        if (has)
                free(set->items[at]);
        else {
                memmove(&set->items[at + 1], &set->items[at], (set->n - at) * sizeof(*set->items));
                set->n++;
        }
        set->items[at] = copy;
        return 1;
}

bool node_set_remove(NodeSet *set, KvBytes key) {
        size_t at = node_set_position(set, key);

        if (!node_set_has_at(set, at, key))
                return false;
        free(set->items[at]);
        set->n--;
        memmove(&set->items[at], &set->items[at + 1], (set->n - at) * sizeof(*set->items));
        return true;
}

int node_set_walk(const NodeSet *set, const KvRange *range, KvVisit visit, void *userdata) {
        size_t at = range->after.size > 0 ? node_set_position(set, range->after) : 0;

        for (; at < set->n; at++) {
                const KvNode *node = set->items[at];
                int r;

                if (!kv_path_is_below(node->key, range->key) ||
                    (range->after.size > 0 && kv_bytes_equal(node->key, range->after)) ||
                    (!range->recursive && !tree_path_is_child(node->key, range->key)))
                        continue;
                r = visit(userdata, node);
                if (r <= 0)
                        return r;
        }
        return 0;
}

void node_set_done(NodeSet *set) {
        for (size_t i = 0; i < set->n; i++)
                free(set->items[i]);
        free(set->items);
        *set = (NodeSet) {};
}
