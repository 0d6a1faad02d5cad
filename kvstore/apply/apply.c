/* Commands, transactions and batches of them; what is done to one key is in apply_key.c. */
#include "kvstore/apply/apply_internal.h"

#include <stdio.h>

#include "kvstore/events.h"
#include "kvstore/apply/dedup.h"

/* Whether a check holds; *ret_there: 'node' is what stands at its key. */
static int check_holds(Apply *a, const KvCheck *check, KvNode *node, bool *ret_there) {
        int r = apply_get(a, check->key, node);
        bool there = r == 0;

        if (r < 0 && r != -ENOENT)
                return r;
        *ret_there = there;
        switch (check->kind) {
        case KV_CHECK_ABSENT:
                return !there;
        case KV_CHECK_EXISTS:
                return there;
        case KV_CHECK_MODIFIED:
                return check->index == 0 ? !there : there && node->modified == check->index;
        case KV_CHECK_VALUE:
                return there && !node->dir && kv_bytes_equal(node->value, check->value);
        default:
                return -EBADMSG;
        }
}

static int apply_checks(Apply *a, const KvCommand *cmd, KvResult *ret) {
        for (size_t i = 0; i < cmd->n_checks; i++) {
                Cost found = {};
                KvNode node;
                bool there;
                int r;

                r = apply_visit(a, cmd->checks[i].key.size + cmd->checks[i].value.size, ret);
                if (r <= 0)
                        return r;
                r = check_holds(a, &cmd->checks[i], &node, &there);
                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                if (there)
                        cost_bytes(&found, 3 * (node.key.size + node.value.size));
                r = apply_afford(a, &found, ret);
                if (r <= 0)
                        return r;
                if (there && apply_keep(a, &node) < 0)
                        return -ENOMEM;
                (void) apply_refuse(a, ret, KV_COMPARE_FAILED, cmd->checks[i].key);
                ret->refused_at = i + 1;
                ret->has_found = there;
                if (there)
                        ret->found = node;
                return 0;
        }
        return 1;
}

/* Old values go into the answer as far as they fit: what a transaction takes away may be much larger than
 * itself. */
static void note_written(KvWritten *w, const KvResult *one, size_t *size) {
        *w = (KvWritten) { .action = one->action,
                           .node = one->node,
                           .has_prev = one->has_prev,
                           .prev = one->prev,
                           .refreshed = one->refreshed };
        if (!w->has_prev || (*size += w->prev.value.size) <= KV_WRITTEN_MAX)
                return;
        *size -= w->prev.value.size;
        w->prev.value = (KvBytes) {};
        w->prev_cut = true;
}

/* 'written' may be NULL: then nobody asks. */
static int apply_writes(Apply *a, const KvCommand *cmd, KvWritten *written, KvResult *ret) {
        size_t size = 0;
        int r = 1;

        for (size_t i = 0; r > 0 && i < cmd->n_writes; i++) {
                r = apply_one(a, &cmd->writes[i], ret);
                if (r > 0 && written)
                        note_written(&written[i], ret, &size);
                if (r == 0)
                        ret->refused_at = cmd->n_checks + i + 1;
                if (r == 0 && ret->status == KV_COMPARE_FAILED)
                        ret->cause = cmd->writes[i].key;
        }
        return r;
}

static int apply_txn(Apply *a, const KvCommand *cmd, KvResult *ret) {
        uint64_t index = a->meta->index;
        KvWritten *written = NULL;
        TreeTxn *outer = a->txn;
        int r, k;

        r = apply_checks(a, cmd, ret);
        if (r <= 0)
                return r;
        if (!cmd->internal && cmd->n_writes > 0) {
                written = arena_alloc(a->arena, cmd->n_writes * sizeof(KvWritten));
                if (!written)
                        return -ENOMEM;
        }

        /* A single write checks before it changes anything; only the second one has something to take back.
         */
        if (cmd->n_writes > 1) {
                Cost nested = {};

                cost_nodes(&nested, 1, COST_NESTED);
                r = apply_afford(a, &nested, ret);
                if (r <= 0)
                        return r;
                r = tree_begin_nested(outer, &a->txn);
                if (r < 0)
                        return r;
        }
        a->collect = true;
        r = apply_writes(a, cmd, written, ret);
        a->collect = false;
        if (a->txn != outer) {
                if (r > 0) {
                        k = tree_commit(a->txn);
                        r = k < 0 ? k : r;
                } else {
                        tree_abort(a->txn);
                }
                a->txn = outer;
        }
        if (r <= 0) {
                a->meta->index = ret->index = index;
                return r;
        }

        for (size_t i = 0; i < a->n_events; i++)
                a->sink->on_event(a->sink->userdata, &a->events[i]);
        *ret = (KvResult) {
                .status = KV_OK,
                .action = KV_ACTION_SET,
                .index = a->meta->index,
                .now_ms = a->meta->cluster_ms,
                .written = written,
                .n_written = written ? cmd->n_writes : 0,
        };
        return 1;
}

static unsigned level_max(const ApplySink *sink) {
        return sink && sink->level_max > 0 ? sink->level_max : KV_LEVEL_MAX;
}

static int apply_raise(Apply *a, const KvCommand *cmd, KvResult *ret) {
        if (cmd->limit > level_max(a->sink))
                return -ENOTSUP;
        a->meta->level = MAX(a->meta->level, cmd->limit);
        *ret = (KvResult) {
                .status = KV_OK,
                .action = KV_ACTION_SET,
                .index = a->meta->index,
                .now_ms = a->meta->cluster_ms,
        };
        return 1;
}

static int apply_checked(Apply *a, const KvCommand *cmd, uint64_t term, KvResult *ret) {
        Arena *arena = a->arena;
        KvStatus status;
        Error err;

        if (kv_command_check(cmd, &status, &err) < 0) {
                const char *cause = arena_copy(arena, err.message, strlen(err.message));

                if (!cause)
                        return -ENOMEM;
                return apply_refuse(a, ret, status, (KvBytes) { cause, strlen(err.message) });
        }
        if (cmd->term > 0 && cmd->term != term)
                return apply_refuse(a, ret, KV_TERM_CHANGED, (KvBytes) {});

        switch (cmd->op) {
        case KV_TXN:
                return apply_txn(a, cmd, ret);
        case KV_EXPIRE:
                return apply_expire(a, cmd, ret);
        case KV_RAISE:
                return apply_raise(a, cmd, ret);
        default:
                return apply_one(a, cmd, ret);
        }
}

int apply_command(TreeTxn *txn, TreeMeta *meta, const KvCommand *cmd, uint64_t term, Arena *arena,
                  const ApplySink *sink, KvResult *ret) {
        Cost *entry = sink ? sink->cost : NULL;
        uint64_t spent = entry ? entry->total : 0;
        Apply a = { .txn = txn,
                    .meta = meta,
                    .arena = arena,
                    .sink = sink,
                    .left = COST_ENTRY_MAX - MIN(spent, (uint64_t) COST_ENTRY_MAX) };
        Cost base = {};
        int r;

        cost_nodes(&base, 1, COST_COMMAND);
        r = apply_afford(&a, &base, ret);
        if (r > 0)
                r = apply_checked(&a, cmd, term, ret);
        free(a.events);
        long_keys_done(&a.long_keys);
        if (entry)
                cost_add(entry, &a.cost);
        return r < 0 ? r : 0;
}

static KvAction action_asked(const KvCommand *cmd) {
        bool conditions = cmd->prev_index > 0 || cmd->has_prev_value;

        switch (cmd->op) {
        case KV_CREATE:
        case KV_POST:
                return KV_ACTION_CREATE;
        case KV_UPDATE:
                return KV_ACTION_UPDATE;
        case KV_DELETE:
                return conditions ? KV_ACTION_CAD : KV_ACTION_DELETE;
        case KV_EXPIRE:
                return KV_ACTION_EXPIRE;
        default:
                return conditions ? KV_ACTION_CAS : KV_ACTION_SET;
        }
}

/* One command of an entry: an answer unless nobody waits for it. What it took to find its number is charged
 * behind it: the same in each entry, it would defer the command in each. */
static int apply_item(TreeTxn *txn, TreeMeta *meta, const KvBatchItem *item, Dedup *results,
                      uint64_t raft_index, uint64_t term, const ApplySink *sink) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_free_ void *decoded = NULL;
        KvCommand cmd;
        KvResult result;
        CachedResult kept;
        int verdict, r;

        r = kv_command_decode(item->command, item->command_size, &cmd, &decoded);
        if (r < 0)
                return r;
        verdict = dedup_judge(results, item, &kept);
        switch (verdict) {
        case DEDUP_FRESH:
                r = apply_command(txn, meta, &cmd, term, &arena, sink, &result);
                if (r == 0 && result.status != KV_OK)
                        result.action = action_asked(&cmd);
                if (r == 0 && result.status != KV_DEFERRED)
                        r = dedup_keep(results, item, &cmd, &result);
                break;
        case DEDUP_KEPT:
                r = result_decode(&kept, txn, &cmd, &arena, &result);
                cost_bytes(sink->cost, kept.bytes.size);
                if (r == -EBADMSG) { /* two commands of one number: no daemon of ours asks so */
                        (void) apply_refuse(&(Apply) { .meta = meta }, &result, KV_UNKNOWN,
                                            kv_string("another command had this number"));
                        result.action = action_asked(&cmd);
                        r = 0;
                }
                break;
        case DEDUP_LATE:
                result = (KvResult) { .status = KV_LATE,
                                      .action = action_asked(&cmd),
                                      .index = meta->index,
                                      .now_ms = meta->cluster_ms };
                break;
        case DEDUP_PASSED:
                return 0; /* found without a search */
        default:
                r = verdict;
        }
        dedup_take_cost(results, sink->cost);
        if (r < 0)
                return r;

        if (!result.again) {
                result.internal = cmd.internal;
                result.raft_index = raft_index;
                result.term = term;
        }
        if (sink->on_result)
                sink->on_result(sink->userdata, item->origin, item->number, &result);
        return 0;
}

int apply_batch(TreeTxn *txn, uint64_t raft_index, uint64_t term, const void *bytes, size_t size,
                const ApplySink *sink) {
        _cleanup_(dedup_freep) Dedup *results = NULL;
        KvBatchHead head;
        KvBatchItem item;
        KvBatch items;
        ApplySink counted = sink ? *sink : (ApplySink) {};
        Cost cost = {};
        TreeMeta meta;
        int r;

        if (!counted.cost)
                counted.cost = &cost;
        r = kv_batch_open(&items, bytes, size, &head);
        if (r == 0)
                r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        if (head.level > level_max(sink) || meta.level > level_max(sink))
                return -ENOTSUP;
        if (head.level > MAX(meta.level, (uint64_t) KV_LEVEL_FIRST))
                return -EBADMSG; /* nobody may write so yet */
        meta.cluster_ms = MAX(meta.cluster_ms, head.cluster_ms);
        if (head.quota > 0)
                meta.quota = head.quota;
        if (head.quota_nodes > 0)
                meta.quota_nodes = head.quota_nodes;

        r = dedup_new(&results, txn, raft_index, term, meta.cluster_ms);
        if (r < 0)
                return r;
        while ((r = kv_batch_next(&items, &item)) > 0) {
                r = apply_item(txn, &meta, &item, results, raft_index, term, &counted);
                if (r < 0)
                        return r;
        }
        if (r == 0)
                r = dedup_store(results);
        if (r < 0)
                return r;

        meta.applied = raft_index;
        meta.applied_term = term;
        return tree_set_meta(txn, &meta);
}

int apply_empty(TreeTxn *txn, uint64_t raft_index, uint64_t term) {
        TreeMeta meta;
        int r;

        r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        meta.applied = raft_index;
        meta.applied_term = term;
        return tree_set_meta(txn, &meta);
}
