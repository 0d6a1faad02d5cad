/* Commands, transactions and batches of them; what is done to one key is in apply_key.c. */
#include "kvstore/apply/apply.h"

#include "kvstore/apply/apply_internal.h"
#include "kvstore/apply/dedup.h"
#include "kvstore/apply/history.h"

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
                r = TRY(check_holds(a, &cmd->checks[i], &node, &there));
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

/* Apply a write of one key, and add its row to the history. All that may reject it precedes its effect. */
static int apply_noted(Apply *a, const KvCommand *cmd, KvResult *ret) {
        Cost note = {};
        int r;

        if (cmd->note.body.size == 0)
                return apply_one(a, cmd, ret);
        if (a->meta->level < KV_LEVEL_HISTORY)
                return apply_refuse(a, ret, KV_INVALID, kv_string("the history begins at feature level 4"));
        cost_note(&note, &cmd->note);
        r = apply_afford(a, &note, ret);
        if (r <= 0)
                return r;
        r = apply_one(a, cmd, ret);
        if (r <= 0)
                return r;
        r = history_add(a->txn, a->meta->index, &cmd->note);
        return r < 0 ? r : 1;
}

/* Old values go into the answer as far as they fit: what a transaction takes away may be much larger than
 * itself. */
static void note_written(KvWritten *w, const KvResult *one, size_t *size) {
        *w = kv_result_change(one);
        if (!w->has_prev || (*size += w->prev.value.size) <= KV_WRITTEN_MAX)
                return;
        *size -= w->prev.value.size;
        w->prev.value = (KvBytes) {};
        w->prev_cut = true;
}

/* 'written' is NULL if no client receives the effects. */
static int apply_writes(Apply *a, const KvCommand *cmd, KvWritten *written, KvResult *ret) {
        size_t size = 0;
        int r = 1;

        for (size_t i = 0; r > 0 && i < cmd->n_writes; i++) {
                r = apply_noted(a, &cmd->writes[i], ret);
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
        size_t n_events = a->applied ? a->applied->n_events : 0;
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
                r = TRY(tree_begin_nested(outer, &a->txn));
        }
        a->in_txn = true;
        r = apply_writes(a, cmd, written, ret);
        a->in_txn = false;
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
                if (a->applied)
                        applied_truncate(a->applied, a->applied->n_results, n_events);
                a->meta->index = ret->index = index;
                return r;
        }

        *ret = apply_result(a, KV_OK, KV_ACTION_SET);
        ret->written = written;
        ret->n_written = written ? cmd->n_writes : 0;
        return 1;
}

static unsigned apply_level_max(const Applied *applied) {
        return applied && applied->level_max > 0 ? applied->level_max : KV_LEVEL_MAX;
}

static int apply_raise(Apply *a, const KvCommand *cmd, KvResult *ret) {
        if (cmd->limit > apply_level_max(a->applied))
                return -ENOTSUP;
        a->meta->level = MAX(a->meta->level, cmd->limit);
        *ret = apply_result(a, KV_OK, KV_ACTION_SET);
        return 1;
}

static int apply_checked(Apply *a, const KvCommand *cmd, uint64_t term, KvResult *ret) {
        KvStatus status;
        Error err;

        if (kv_command_check(cmd, &status, &err) < 0)
                return apply_refuse_error(a, ret, status, &err);
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
                return apply_noted(a, cmd, ret);
        }
}

int apply_command(TreeTxn *txn, TreeMeta *meta, const KvCommand *cmd, uint64_t term, Arena *arena,
                  Applied *applied, KvResult *ret) {
        uint64_t spent = applied ? applied->cost.total : 0;
        Apply a = { .txn = txn,
                    .meta = meta,
                    .arena = arena,
                    .applied = applied,
                    .left = COST_ENTRY_MAX - MIN(spent, (uint64_t) COST_ENTRY_MAX) };
        Cost base = {};
        int r;

        cost_nodes(&base, 1, COST_COMMAND);
        r = apply_afford(&a, &base, ret);
        if (r > 0)
                r = apply_checked(&a, cmd, term, ret);
        long_keys_done(&a.long_keys);
        if (applied)
                cost_add(&applied->cost, &a.cost);
        return r < 0 ? r : 0;
}

static KvAction action_asked(const KvCommand *cmd) {
        bool conditions = kv_command_compares(cmd);

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

/* An entry that is being applied. */
typedef struct Entry {
        TreeTxn *txn;
        uint64_t raft_index, term;
        TreeMeta meta;
        Dedup dedup;
        Applied *applied;
} Entry;

/* Decide the result of one command. 1: *ret is the result; 0: no proposer waits for one. */
static int apply_decide(Entry *e, const KvBatchItem *item, const KvCommand *cmd, Arena *arena,
                        KvResult *ret) {
        CachedResult kept;
        int r;

        r = dedup_judge(&e->dedup, item, &kept);
        switch (r) {
        case DEDUP_FRESH:
                TRY(apply_command(e->txn, &e->meta, cmd, e->term, arena, e->applied, ret));
                if (ret->status != KV_OK)
                        ret->action = action_asked(cmd);
                if (ret->status == KV_DEFERRED)
                        return 1;
                r = dedup_keep(&e->dedup, item, cmd, ret);
                return r < 0 ? r : 1;
        case DEDUP_KEPT:
                r = result_decode(&kept, e->txn, cmd, arena, ret);
                cost_bytes(&e->applied->cost, kept.bytes.size);
                if (r != -EBADMSG)
                        return r < 0 ? r : 1;
                /* Two commands have one number: no fleetd proposes that. */
                *ret = apply_result(&(Apply) { .meta = &e->meta }, KV_UNKNOWN, action_asked(cmd));
                ret->cause = kv_string("another command had this number");
                return 1;
        case DEDUP_LATE:
                *ret = apply_result(&(Apply) { .meta = &e->meta }, KV_LATE, action_asked(cmd));
                return 1;
        case DEDUP_PASSED:
                return 0;
        default:
                return r;
        }
}

/* Apply one command of an entry. The cost of finding its number is charged after the command: it is the same
 * in each entry, so it would defer the command in each. */
static int apply_item(Entry *e, const KvBatchItem *item) {
        _cleanup_arena_ Arena arena = {};
        _cleanup_free_ void *decoded = NULL;
        KvResult result;
        KvCommand cmd;
        int r;

        TRY(kv_command_decode(item->command, item->command_size, &cmd, &decoded));
        r = apply_decide(e, item, &cmd, &arena, &result);
        if (r == 0)
                return 0; /* found without a search */
        dedup_take_cost(&e->dedup, &e->applied->cost);
        if (r < 0)
                return r;

        if (!result.again) {
                result.internal = cmd.internal;
                result.raft_index = e->raft_index;
                result.term = e->term;
        }
        return applied_add_result(e->applied, item->origin, item->number, &result);
}

/* Advance 'meta' by what the leader wrote into the entry's head. */
static int apply_head(const KvBatchHead *head, const Applied *applied, TreeMeta *meta) {
        if (head->level > apply_level_max(applied) || meta->level > apply_level_max(applied))
                return -ENOTSUP;
        if (head->level > MAX(meta->level, (uint64_t) KV_LEVEL_FIRST))
                return -EBADMSG; /* no leader may use this level yet */
        meta->cluster_ms = MAX(meta->cluster_ms, head->cluster_ms);
        if (head->quota > 0)
                meta->quota = head->quota;
        if (head->quota_nodes > 0)
                meta->quota_nodes = head->quota_nodes;
        return 0;
}

static int apply_items(Entry *e, KvBatch *items) {
        KvBatchItem item;
        int r;

        while ((r = kv_batch_next(items, &item)) > 0)
                r = TRY(apply_item(e, &item));
        return r < 0 ? r : dedup_store(&e->dedup);
}

int apply_batch(TreeTxn *txn, uint64_t raft_index, uint64_t term, const void *bytes, size_t size,
                Applied *applied) {
        Applied none = { .discard = true };
        Entry e = { .txn = txn, .raft_index = raft_index, .term = term, .applied = applied ?: &none };
        KvBatchHead head;
        KvBatch items;
        int r;

        e.applied->cost = (Cost) {};
        TRY(kv_batch_open(&items, bytes, size, &head));
        TRY(tree_meta(txn, &e.meta));
        TRY(apply_head(&head, e.applied, &e.meta));
        e.dedup = (Dedup) { .txn = txn, .entry = raft_index, .term = term, .cluster_ms = e.meta.cluster_ms };
        r = apply_items(&e, &items);
        dedup_done(&e.dedup);
        cost_add(&e.applied->counts.cost, &e.applied->cost);
        if (e.applied->cost.total > e.applied->counts.cost_max.total)
                e.applied->counts.cost_max = e.applied->cost;
        if (r < 0)
                return r;

        e.meta.applied = raft_index;
        e.meta.applied_term = term;
        TRY(tree_set_meta(txn, &e.meta));
        /* The tree counts nodes and results by itself. */
        r = tree_meta(txn, &e.applied->open);
        e.applied->has_open = r == 0;
        return r;
}

int apply_other(TreeTxn *txn, uint64_t raft_index, uint64_t term, const KvBytes *configuration) {
        TreeMeta meta;
        int r;

        r = configuration ? tree_set_configuration(txn, *configuration) : 0;
        if (r == 0)
                r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        meta.applied = raft_index;
        meta.applied_term = term;
        if (configuration)
                meta.configuration_index = raft_index;
        return tree_set_meta(txn, &meta);
}
