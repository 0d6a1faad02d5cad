/* What the core asks for: writes, messages, installs, entries to be applied. */
#include "kvstore/raft/replica_internal.h"

#include <errno.h>
#include <inttypes.h>

#include "base/fault_point.h"
#include "base/log.h"
#include "kvstore/apply/apply.h"
#include "kvstore/cost.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/entries.h"
#include "kvstore/raft/transfer.h"

enum {
        /* Of one transaction: the entries and their bytes, and what memory holds of it until it is committed.
         * It ends with the entry that exceeds one of them. */
        SLICE_ENTRIES = 256,
        SLICE_BYTES = 4 * 1024 * 1024,
        SLICE_HELD_BYTES = 8 * 1024 * 1024,
};

/* -- The log: it is open for as long as there is a core -- */

static int op_write_meta(void *userdata, uint64_t term, uint64_t vote) {
        Replica *p = userdata;
        int r;

        r = raft_log_write_meta(p->log, term, vote);
        if (r < 0)
                replica_fail(p, r, "cannot write term and vote: %s", strerror(-r));
        return r;
}

static int op_append(void *userdata, uint64_t generation, uint64_t first_index, const RaftEntry *entries,
                     size_t n) {
        Replica *p = userdata;

        return raft_log_append(p->log, generation, first_index, entries, n);
}

/* -- The commit index, told at once --
 *
 * The engine tells followers what is committed with its next entries or heartbeat. Who wrote or watches on a
 * follower would wait for that up to a heartbeat, so an empty AppendEntries follows each commit that nothing
 * else has carried. */

static uint64_t *told_to(Replica *p, uint64_t id) {
        uint64_t term = raft_core_term(p->core);

        if (p->followers_term != term) {
                p->followers_term = term;
                p->n_followers = 0;
        }
        for (size_t i = 0; i < p->n_followers; i++)
                if (p->followers[i].id == id)
                        return &p->followers[i].told;
        if (p->n_followers == RAFT_SERVERS_MAX)
                return NULL;
        p->followers[p->n_followers].id = id;
        p->followers[p->n_followers].told = 0;
        return &p->followers[p->n_followers++].told;
}

void replica_on_notice(void *userdata) {
        Replica *p = userdata;
        const RaftServers *servers;
        uint64_t commit;

        if (!replica_is_leader(p))
                return;
        servers = raft_core_servers(p->core);
        commit = raft_core_commit_index(p->core);

        for (size_t i = 0; i < servers->n; i++) {
                const RaftServer *s = &servers->items[i];
                const RaftEntry *e;
                uint64_t match, *told;

                if (s->id == raft_core_id(p->core) || s->role == RAFT_ROLE_SPARE ||
                    raft_core_match_index(p->core, s->id, &match) < 0)
                        continue;
                told = told_to(p, s->id);
                e = raft_core_entry(p->core, match);
                if (!told || !e || MIN(commit, match) <= *told)
                        continue;
                replica_send_message(
                        p, s->id,
                        &(RaftMessage) {
                                .type = RAFT_MESSAGE_APPEND,
                                .term = raft_core_term(p->core),
                                .append = { .prev_index = match, .prev_term = e->term, .commit = commit } });
                *told = MIN(commit, match);
        }
}

static void op_send(void *userdata, uint64_t to, const char *address, const RaftMessage *message) {
        Replica *p = userdata;

        if (message->type == RAFT_MESSAGE_APPEND) {
                uint64_t *told = told_to(p, to);

                if (told)
                        *told = MAX(*told, MIN(message->append.commit,
                                               message->append.prev_index + message->append.n_entries));
        }
        replica_send_message(p, to, message);
}

static void op_send_snapshot(void *userdata, uint64_t to, const char *address, uint64_t term,
                             uint64_t index) {
        Replica *p = userdata;

        transfers_send(p->transfers, to, index);
}

/* -- The tree -- */

static int op_install(void *userdata, const RaftStateInfo *info, bool keep_state) {
        Replica *p = userdata;
        Tree *tree = NULL;
        Error err = {};
        int r;

        if (!p->incoming)
                return -ESHUTDOWN;

        r = data_dir_install(&p->folder, p->incoming, !keep_state, &tree, &err);
        if (r < 0) {
                data_dir_distrust(&p->folder); /* what we have can still be read */
                replica_fail(p, r, "%s", error_text(&err, r));
                return r;
        }
        p->copy_told = true; /* the core knows: it is the one that installs it */
        p->previous_checkpoint = info->index;
        p->entries_since = p->bytes_since = 0;

        if (!keep_state) {
                bool behind = p->shown && info->index < p->shown_applied; /* who begins anew had more: that is
                                                                             shown until it is there again */

                p->shown = behind ? p->shown : tree_close(p->shown);
                p->shown_wrong |= behind;
                p->tree = tree_close(p->tree);
                p->tree = tree;
                consistency_tree_replaced(p->compare, true);
                r = bootstrap_mark_tree(p->tree, &p->identity, p->folder.path, &err);
                if (r < 0) {
                        replica_fail(p, r, "%s", error_text(&err, r));
                        return r;
                }
                if (!behind)
                        p->options.events.replaced(p->options.events.userdata);
        }

        fault_point("install-before-log-reset");
        return raft_log_reset(p->log, info->index);
}

static int apply_entry(Replica *p, TreeTxn *txn, uint64_t index, const RaftEntry *entry) {
        uint64_t cost = 0;
        TreeMeta meta;
        int r;

        if (entry->type == RAFT_ENTRY_COMMAND) {
                r = p->options.events.apply(p->options.events.userdata, txn, index, entry, &cost);
                p->applied_cost += cost;
                return r;
        }

        r = apply_empty(txn, index, entry->term);
        if (r < 0 || entry->type != RAFT_ENTRY_CHANGE)
                return r;

        r = tree_set_configuration(txn, (KvBytes) { entry->data, entry->size });
        if (r < 0)
                return r;
        r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        meta.configuration_index = index;
        return tree_set_meta(txn, &meta);
}

/* Whether the entries that this turn of the loop has applied cost their share. Each input may apply a slice,
 * and a turn may have many inputs: all of them share it. */
static bool turn_is_used(Replica *p) {
        uint64_t turn = loop_turns(p->loop)->n;

        if (p->applied_turn != turn)
                p->applied_cost = 0;
        p->applied_turn = turn;
        return p->in_service && p->applied_cost > COST_SLICE;
}

/* The slice's first entries, inside 'txn': returns how many. */
static int apply_entries(Replica *p, TreeTxn *txn, uint64_t first_index, const RaftEntry *entries, size_t n) {
        uint64_t held = 0;
        size_t size = 0, i;
        TreeMeta meta;
        int r;

        r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        for (i = 0; i < MIN(n, (size_t) SLICE_ENTRIES) && size < SLICE_BYTES; i++) {
                if (p->shown && i > 0 && first_index + i - 1 == p->shown_applied)
                        break; /* from here on it is new */
                if (held > SLICE_HELD_BYTES || (i > 0 && turn_is_used(p)))
                        break;
                /* A tree that is ahead (a newer state kept beside a received one) has these already. */
                if (first_index + i <= meta.applied)
                        continue;
                r = apply_entry(p, txn, first_index + i, &entries[i]);
                if (r < 0)
                        return r;
                consistency_applied(p->compare, txn, first_index + i);
                size += entries[i].size;
                held = tree_touched(txn) + p->options.events.held(p->options.events.userdata);
                p->held_max = MAX(p->held_max, held);
                p->entries_since++;
                p->bytes_since += raft_entry_bytes(&entries[i]);
        }
        return (int) i;
}

/* One transaction; returns how many entries were applied. */
static int apply_slice(Replica *p, uint64_t first_index, const RaftEntry *entries, size_t n) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r, done;

        tree_set_work(p->tree, p->in_service ? &p->loop->turns.now : NULL);
        r = tree_begin_write(p->tree, &txn);
        done = r < 0 ? r : apply_entries(p, txn, first_index, entries, n);
        fault_point("apply-before-commit");
        r = done < 0 ? done : tree_commit(TAKE_PTR(txn));
        fault_point("apply-committed");
        consistency_committed(p->compare, r >= 0);
        if (r < 0)
                return r;
        p->options.events.committed(p->options.events.userdata);
        replica_caught_up(p, first_index + (uint64_t) done - 1);
        return done;
}

/* One slice of what is committed, or none in a turn of the loop that has applied enough: a long log, and what
 * a follower lacked, do not stop the loop. At the opening there is no service yet, and all slices follow at
 * once. */
static int op_apply(void *userdata, uint64_t first_index, const RaftEntry *entries, size_t n) {
        Replica *p = userdata;
        size_t done = 0;
        int r;

        if (turn_is_used(p))
                return 0;

        do {
                r = apply_slice(p, first_index + done, entries + done, n - done);
                done += r < 0 ? 0 : (size_t) r;
        } while (r >= 0 && done < n && !p->in_service);
        if (r >= 0)
                return (int) done;

        data_dir_distrust(&p->folder);
        if (r == -ENOTSUP)
                replica_fail(p, r,
                             "entry %" PRIu64 " or one behind it is of a newer fleetd, of a feature level "
                             "that this one does not know: "
                             "upgrade this host",
                             first_index);
        else
                replica_fail(p, r, "cannot apply entry %" PRIu64 " and those behind it: %s", first_index,
                             strerror(-r));
        return r;
}

static void op_changed(void *userdata, unsigned what) {
        Replica *p = userdata;

        p->changed |= what;
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
