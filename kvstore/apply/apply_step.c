/* The steps of a command: what they cost, and the results that reject it. */
#include "kvstore/apply/apply_internal.h"

KvResult apply_result(const Apply *a, KvStatus status, KvAction action) {
        return (KvResult) {
                .status = status, .action = action, .index = a->meta->index, .now_ms = a->meta->cluster_ms
        };
}

int apply_refuse(Apply *a, KvResult *ret, KvStatus status, KvBytes cause) {
        *ret = apply_result(a, status, KV_ACTION_GET);
        ret->cause = cause;
        return 0;
}

int apply_refuse_error(Apply *a, KvResult *ret, KvStatus status, const Error *err) {
        size_t size = strlen(err->message);
        const char *cause = arena_copy(a->arena, err->message, size);

        return cause ? apply_refuse(a, ret, status, (KvBytes) { cause, size }) : -ENOMEM;
}

int apply_afford(Apply *a, const Cost *more, KvResult *ret) {
        uint64_t total = a->cost.total + more->total;
        Error err = {};

        if (!apply_bounds(a) || total <= MIN(a->left, (uint64_t) COST_COMMAND_MAX)) {
                cost_add(&a->cost, more);
                return 1;
        }
        if (total <= COST_COMMAND_MAX) {
                (void) apply_refuse(a, ret, KV_DEFERRED, (KvBytes) {});
                ret->charged = total;
                return 0;
        }
        (void) cost_error(total, &err);
        return apply_refuse_error(a, ret, KV_TOO_LARGE, &err);
}

int apply_visit(Apply *a, size_t key, KvResult *ret) {
        Cost visit = {};

        cost_visit(&visit, key);
        return apply_afford(a, &visit, ret);
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
