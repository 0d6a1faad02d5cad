/* Compaction of the log in memory.
 *
 * On disk, the log is kept from the last checkpoint but one. Memory needs only its end: the tree holds what
 * the entries before did, and only lagging followers need them. So the engine gets the live tree's state as a
 * snapshot, much more often than checkpoints are made. A follower that needs removed entries receives a
 * checkpoint, which is made then if the last one is older. While a member lacks entries, they stay as long as
 * they are less than half of the tree, and so the cheaper way. */
#include "kvstore/raft/replica_internal.h"

#include <errno.h>

#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/entries.h"

enum { COMPACT_AGAIN_MS = 2000 };

static int compaction_read_info(Tree *tree, Checkpoint *ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvBytes configuration;
        int r;

        *ret = (Checkpoint) { .fd = -1 };
        r = tree_begin_read(tree, &txn);
        if (r < 0)
                return r;
        r = tree_meta(txn, &ret->meta);
        if (r < 0)
                return r;
        r = tree_configuration(txn, &configuration);
        if (r < 0 || configuration.size == 0)
                return r;

        ret->configuration = malloc(configuration.size);
        if (!ret->configuration)
                return -ENOMEM;
        memcpy(ret->configuration, configuration.data, configuration.size);
        ret->configuration_size = configuration.size;
        return 0;
}

int replica_read_info(Replica *p, Checkpoint *ret, Error *err) {
        int r;

        r = compaction_read_info(replica_live_tree(p), ret);
        if (r == -ENOMEM)
                return r;
        return r < 0 ? error_set(err, r, "cannot read the tree in %s: %s", p->data_dir.path, strerror(-r)) :
                       0;
}

/* Return the first index of the entries at the end that take up to 'max' bytes together. */
static uint64_t compaction_first_within(const RaftCore *core, uint64_t max) {
        uint64_t index = raft_core_last_index(core) + 1, bytes = 0;
        const RaftEntry *e;

        while ((e = raft_core_entry(core, index - 1)) && (bytes += raft_entry_bytes(e)) <= max)
                index--;
        return index;
}

/* A member of the cluster that we lead lacks entries before 'index'. */
static bool compaction_is_lacked(const Replica *p, uint64_t index) {
        const RaftServers *servers = raft_core_servers(p->core);
        uint64_t match;

        for (size_t i = 0; replica_is_leader(p) && i < servers->n; i++)
                if (servers->items[i].id != raft_core_id(p->core) &&
                    servers->items[i].role != RAFT_ROLE_SPARE &&
                    raft_core_match_index(p->core, servers->items[i].id, &match) >= 0 && match + 1 < index)
                        return true;
        return false;
}

/* Return the first index that is kept in memory. *ret_max: compact when the entries take more bytes.
 * Compaction leaves half of that, so that it does not run at each entry. */
static uint64_t compaction_keep_from(const Replica *p, uint64_t *ret_max) {
        uint64_t max = p->options.memory_bytes, from = compaction_first_within(p->core, max / 2);
        Tree *tree = replica_live_tree(p);

        if (tree && compaction_is_lacked(p, from)) {
                max = MAX(max, MIN(p->options.checkpoint_bytes, tree_file_size(tree) / 2));
                from = compaction_first_within(p->core, max / 2);
        }
        *ret_max = max;
        return from;
}

unsigned replica_trailing(Replica *p, uint64_t index) {
        uint64_t max, from = compaction_keep_from(p, &max);

        return from > index ? 1 : (unsigned) MIN(index + 1 - from, (uint64_t) p->options.checkpoint_kept);
}

/* Remove the entries before 'from' that are applied and durable here. */
static void compaction_remove_before(Replica *p, uint64_t from) {
        _cleanup_(checkpoint_done) Checkpoint state = { .fd = -1 };
        uint64_t index = MIN(raft_core_applied_index(p->core), raft_core_stored_index(p->core));
        const RaftEntry *e;
        RaftStateInfo info;
        int r;

        index = MIN(index, raft_core_commit_index(p->core));
        e = raft_core_entry(p->core, index);
        if (!e || from <= raft_core_first_index(p->core) || replica_read_info(p, &state, NULL) < 0 ||
            state.meta.configuration_index > index || state.meta.applied < index)
                return;

        info = replica_checkpoint_info(&state);
        info.index = index;
        info.term = e->term;
        replica_enter_paused(p);
        r = raft_core_checkpointed(p->core, loop_now_ms(p->loop), &info,
                                   from > index ? 1 : (unsigned) (index + 1 - from));
        replica_leave(p, r == -EAGAIN || r == -ESTALE ? 0 : r);
}

void replica_compact(Replica *p) {
        uint64_t bytes = raft_core_entries_bytes(p->core), max, from;

        if (!replica_live_tree(p) || bytes <= MAX(p->options.memory_bytes, p->compaction.bytes) ||
            raft_core_installing(p->core) || consistency_differs(p->consistency) ||
            consistency_undecided(p->consistency))
                return;

        from = compaction_keep_from(p, &max);
        if (bytes > max)
                compaction_remove_before(p, from);
        /* Entries that a member still lacks, or that are not durable: try again with more of them, or later.
         */
        bytes = raft_core_entries_bytes(p->core);
        p->compaction.bytes = bytes > p->options.memory_bytes ? bytes + p->options.memory_bytes / 8 : 0;
        if (p->compaction.bytes > 0 && !timer_armed(&p->compaction.again))
                (void) timer_start(&p->compaction.again, p->loop, COMPACT_AGAIN_MS);
}

static void compaction_on_again(void *userdata) {
        Replica *p = userdata;

        p->compaction.bytes = 0;
        if (replica_is_open(p) && p->depth == 0)
                replica_compact(p);
}

void replica_compaction_init(Replica *p) {
        p->compaction.again = TIMER(compaction_on_again, p);
}

void replica_compaction_stop(Replica *p) {
        timer_stop(&p->compaction.again);
}
