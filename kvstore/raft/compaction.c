/* What memory holds of the log.
 *
 * The log on disk goes back to the last checkpoint but one; in memory its end is enough: all before is in the
 * tree, and only who lags asks for it. So the engine is told of the live tree's state as of a snapshot, much
 * more often than checkpoints are made. Who lacks what was forgotten gets a checkpoint, which is made then if
 * the last one is older. While a replica lacks entries, they stay as long as they are less than half of the
 * tree, and so the cheaper way. */
#include "kvstore/raft/replica_internal.h"

#include <errno.h>

#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/entries.h"

enum { FORGET_AGAIN_MS = 2000 };

int replica_state(Replica *p, Checkpoint *ret, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvBytes configuration;
        int r;

        *ret = (Checkpoint) { .fd = -1 };
        r = tree_begin_read(p->tree, &txn);
        if (r >= 0)
                r = tree_meta(txn, &ret->meta);
        if (r >= 0)
                r = tree_configuration(txn, &configuration);
        if (r >= 0 && configuration.size > 0) {
                ret->configuration = malloc(configuration.size);
                if (!ret->configuration)
                        return -ENOMEM;
                memcpy(ret->configuration, configuration.data, configuration.size);
                ret->configuration_size = configuration.size;
        }
        return r < 0 ? error_set(err, r, "cannot read the tree in %s: %s", p->folder.path, strerror(-r)) : 0;
}

/* The first index of the entries at the end that take up to 'max' bytes together. */
static uint64_t first_within(const RaftCore *core, uint64_t max) {
        uint64_t index = raft_core_last_index(core) + 1, bytes = 0;
        const RaftEntry *e;

        while ((e = raft_core_entry(core, index - 1)) && (bytes += raft_entry_bytes(e)) <= max)
                index--;
        return index;
}

/* Whether a replica that we lead lacks entries before 'index'. */
static bool lacked(const Replica *p, uint64_t index) {
        const RaftServers *servers = raft_core_servers(p->core);
        uint64_t match;

        for (size_t i = 0; replica_is_leader(p) && i < servers->n; i++)
                if (servers->items[i].id != raft_core_id(p->core) &&
                    servers->items[i].role != RAFT_ROLE_SPARE &&
                    raft_core_match_index(p->core, servers->items[i].id, &match) >= 0 && match + 1 < index)
                        return true;
        return false;
}

/* Where memory's part of the log is to begin; *ret_max: when it is to be cut. It goes to half of what it may
 * be: not at each entry. */
static uint64_t keep_from(const Replica *p, uint64_t *ret_max) {
        uint64_t max = p->options.memory_bytes, from = first_within(p->core, max / 2);

        if (p->tree && lacked(p, from)) {
                max = MAX(max, MIN(p->options.checkpoint_bytes, tree_file_size(p->tree) / 2));
                from = first_within(p->core, max / 2);
        }
        *ret_max = max;
        return from;
}

unsigned replica_trailing(Replica *p, uint64_t index) {
        uint64_t max, from = keep_from(p, &max);

        return from > index ? 1 : (unsigned) MIN(index + 1 - from, (uint64_t) p->options.checkpoint_kept);
}

/* Forgets what lies before 'from', as far as it is applied and durable here. */
static void forget_before(Replica *p, uint64_t from) {
        _cleanup_(checkpoint_done) Checkpoint state = { .fd = -1 };
        uint64_t index = MIN(raft_core_applied_index(p->core), raft_core_stored_index(p->core));
        const RaftEntry *e;
        RaftStateInfo info;
        int r;

        index = MIN(index, raft_core_commit_index(p->core));
        e = raft_core_entry(p->core, index);
        if (!e || from <= raft_core_first_index(p->core) || replica_state(p, &state, NULL) < 0 ||
            state.meta.configuration_index > index || state.meta.applied < index)
                return;

        info = checkpoint_info(&state);
        info.index = index;
        info.term = e->term;
        replica_enter(p);
        r = raft_core_checkpointed(p->core, loop_now_ms(p->loop), &info,
                                   from > index ? 1 : (unsigned) (index + 1 - from));
        replica_leave(p, r == -EAGAIN || r == -ESTALE ? 0 : r);
}

void replica_compact(Replica *p) {
        uint64_t bytes = raft_core_entries_bytes(p->core), max, from;

        if (!p->tree || bytes <= MAX(p->options.memory_bytes, p->forget_bytes) ||
            raft_core_installing(p->core) || consistency_differs(p->compare) ||
            consistency_undecided(p->compare))
                return;

        from = keep_from(p, &max);
        if (bytes > max)
                forget_before(p, from);
        /* What is still lacked, or not durable, is looked at again when there is more, or later. */
        bytes = raft_core_entries_bytes(p->core);
        p->forget_bytes = bytes > p->options.memory_bytes ? bytes + p->options.memory_bytes / 8 : 0;
        if (p->forget_bytes > 0 && !timer_armed(&p->forget_again))
                (void) timer_start(&p->forget_again, p->loop, FORGET_AGAIN_MS);
}

static void on_forget_again(void *userdata) {
        Replica *p = userdata;

        p->forget_bytes = 0;
        if (replica_is_open(p) && p->depth == 0)
                replica_compact(p);
}

void replica_compaction_init(Replica *p) {
        p->forget_again = TIMER(on_forget_again, p);
}
