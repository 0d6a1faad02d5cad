/* The operations of the core: writes, messages, installation of a received tree, application of entries. */
#include "kvstore/raft/replica_internal.h"

#include "base/fault_point.h"
#include "kvstore/apply/apply.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"

enum {
        /* Limits of one transaction: entries, their bytes, and the memory that it holds until it is
         * committed. It ends with the entry that exceeds one of them. */
        SLICE_ENTRIES = 256,
        SLICE_BYTES = 4 * 1024 * 1024,
        SLICE_HELD_BYTES = 8 * 1024 * 1024,
};

/* -- The log: open as long as there is a core -- */

static int op_write_meta(void *userdata, uint64_t term, uint64_t vote) {
        Replica *p = userdata;
        int r;

        r = raft_log_write_meta(p->log, term, vote);
        if (r < 0)
                replica_fail(p, r, "Failed to write term and vote: %s", strerror(-r));
        return r;
}

static int op_append(void *userdata, uint64_t generation, uint64_t first_index, const RaftEntry *entries,
                     size_t n) {
        Replica *p = userdata;

        return raft_log_append(p->log, generation, first_index, entries, n);
}

/* -- Messages -- */

static void op_send(void *userdata, uint64_t to, const char *address, const RaftMessage *message) {
        Replica *p = userdata;

        replica_note_sent(p, to, message);
        replica_send_message(p, to, message);
}

static void op_send_snapshot(void *userdata, uint64_t to, const char *address, uint64_t term,
                             uint64_t index) {
        Replica *p = userdata;

        transfers_send(p->transfers, to, index, false);
}

/* -- The tree -- */

static int op_install(void *userdata, const RaftStateInfo *info, bool keep_state) {
        Replica *p = userdata;
        Tree *tree = NULL;
        Error err = {};
        int r;

        if (!p->incoming)
                return -ESHUTDOWN;

        r = data_dir_install(&p->data_dir, p->incoming, !keep_state, &tree, &err);
        if (r < 0) {
                data_dir_distrust(&p->data_dir); /* the old tree still serves */
                replica_fail(p, r, "%s", error_text(&err, r));
                return r;
        }
        replica_checkpoint_replaced(p, info->index);

        if (!keep_state) {
                replica_install_tree(p, tree, info->index);
                consistency_tree_replaced(p->consistency, true);
                r = bootstrap_mark_tree(tree, &p->identity, p->data_dir.path, &err);
                if (r < 0) {
                        replica_fail(p, r, "%s", error_text(&err, r));
                        return r;
                }
        }

        fault_point("install-before-log-reset");
        return raft_log_reset(p->log, info->index);
}

static int ops_apply_commands(Replica *p, TreeTxn *txn, uint64_t index, const RaftEntry *entry) {
        Applied *a = &p->applying.applied;
        bool rebuilding = replica_is_rebuilding(p);
        int r;

        /* Before the first start is over, there is no proposer or watcher. A tree that is rebuilt applies
         * entries whose results and events the previous tree gave. */
        a->discard = rebuilding || !p->in_service;
        r = apply_batch(txn, index, entry->term, entry->data, entry->size, a);
        p->applying.cost += a->cost.total;
        p->applying.rebuilt |= r < 0 || rebuilding;
        a->has_open &= !rebuilding;
        return r;
}

static int ops_apply_entry(Replica *p, TreeTxn *txn, uint64_t index, const RaftEntry *entry) {
        const KvBytes bytes = { entry->data, entry->size };

        if (entry->type == RAFT_ENTRY_COMMAND)
                return ops_apply_commands(p, txn, index, entry);
        return apply_other(txn, index, entry->term, entry->type == RAFT_ENTRY_CHANGE ? &bytes : NULL);
}

/* The entries that this turn of the loop has applied cost their share. Each input may apply a slice, and a
 * turn may have many inputs: all of them share it. */
static bool ops_turn_is_used(Replica *p) {
        uint64_t turn = loop_turns(p->loop)->n;

        if (p->applying.turn != turn)
                p->applying.cost = 0;
        p->applying.turn = turn;
        return p->in_service && p->applying.cost > COST_SLICE;
}

/* Apply the first entries of a slice inside 'txn'. Return how many. */
static int ops_apply_entries(Replica *p, TreeTxn *txn, uint64_t first_index, const RaftEntry *entries,
                             size_t n) {
        uint64_t held = 0;
        size_t size = 0, i;
        TreeMeta meta;

        TRY(tree_meta(txn, &meta));
        for (i = 0; i < MIN(n, (size_t) SLICE_ENTRIES) && size < SLICE_BYTES; i++) {
                uint64_t index = first_index + i;

                /* Entries after the serving tree's index are new to readers: notify first. */
                if (i > 0 && p->trees.previous && index - 1 == p->trees.previous_applied)
                        break;
                if (held > SLICE_HELD_BYTES || (i > 0 && ops_turn_is_used(p)))
                        break;
                /* A tree that is ahead (a newer state was kept beside a received one) has these already. */
                if (index <= meta.applied)
                        continue;
                TRY(ops_apply_entry(p, txn, index, &entries[i]));
                consistency_applied(p->consistency, txn, index);
                size += entries[i].size;
                held = tree_touched(txn) + p->applying.applied.bytes;
                p->applying.held_max = MAX(p->applying.held_max, held);
                replica_count_entry(p, &entries[i]);
        }
        return (int) i;
}

/* Apply one transaction of entries. Return how many. */
static int ops_apply_slice(Replica *p, uint64_t first_index, const RaftEntry *entries, size_t n) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        Tree *tree = replica_live_tree(p);
        int r, done;

        tree_set_work(tree, p->in_service ? &p->loop->turns.now : NULL);
        r = tree_begin_write(tree, &txn);
        done = r < 0 ? r : ops_apply_entries(p, txn, first_index, entries, n);
        fault_point("apply-before-commit");
        r = done < 0 ? done : tree_commit(TAKE_PTR(txn));
        fault_point("apply-committed");
        consistency_committed(p->consistency, r >= 0);
        if (r < 0) {
                applied_abort(&p->applying.applied);
                return r;
        }
        applied_commit(&p->applying.applied);
        replica_caught_up(p, first_index + (uint64_t) done - 1);
        return done;
}

static void ops_apply_failed(Replica *p, uint64_t first_index, int error) {
        data_dir_distrust(&p->data_dir);
        if (error == -ENOTSUP)
                replica_fail(p, error,
                             "entry %" PRIu64 " or later requires a newer feature level; upgrade this host",
                             first_index);
        else
                replica_fail(p, error, "cannot apply entry %" PRIu64 " and later: %s", first_index,
                             strerror(-error));
}

/* Apply one slice of the committed entries, or none in a turn of the loop that has applied its share: neither
 * a long log nor the entries that a follower lacked block the loop. At the opening there is no service yet,
 * and all slices follow at once. */
static int op_apply(void *userdata, uint64_t first_index, const RaftEntry *entries, size_t n) {
        Replica *p = userdata;
        size_t done = 0;
        int r;

        if (p->applying.paused || ops_turn_is_used(p))
                return 0;

        do {
                r = ops_apply_slice(p, first_index + done, entries + done, n - done);
                if (r < 0) {
                        ops_apply_failed(p, first_index, r);
                        return r;
                }
                done += (size_t) r;
        } while (done < n && !p->in_service);
        return (int) done;
}

static void op_changed(void *userdata, unsigned what) {
        Replica *p = userdata;

        p->changed |= what;
}

/* -- News -- */

ReplicaNews replica_take_news(Replica *p) {
        ReplicaNews news = { .replaced = p->trees.replaced,
                             .rebuilt = p->applying.rebuilt,
                             .applied = applied_take(&p->applying.applied) };

        p->trees.replaced = p->applying.rebuilt = false;
        return news;
}

void replica_notify(Replica *p, unsigned changed, bool failed) {
        ReplicaNews news = replica_take_news(p);

        news.changed = changed;
        news.failed = failed;
        p->options.notify(p->options.userdata, &news);
        applied_clear(&news.applied);
}

Applied *replica_applied(Replica *p) {
        return &p->applying.applied;
}

const RaftCoreOps replica_core_ops = {
        .write_meta = op_write_meta,
        .append = op_append,
        .send = op_send,
        .send_snapshot = op_send_snapshot,
        .install = op_install,
        .apply = op_apply,
        .changed = op_changed,
};
