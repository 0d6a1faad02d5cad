/* Reading checkpoint and log again. Before the first start is over, that blocks. Later a worker reads, while
 * the loop serves sessions, timers and reads of the serving tree.
 *
 * While the worker runs there is neither core nor log. The worker alone uses the log's disk, and checkpoint
 * and live directory for a rebuild. It does not change the replica: its result is in Reopening, and the loop
 * takes or drops it. */
#include "kvstore/raft/replica_internal.h"

#include "kvstore/raft/consistency_check.h"

/* -- The log -- */

static int reopen_check_log(const Replica *p, RaftLog *log, Identity *ret, Error *err) {
        int r;

        TRY(bootstrap_check(&p->data_dir, raft_log_meta(log), ret, err));
        r = bootstrap_own_hardware(p->data_dir.hardware_id, log, false);
        return r < 0 ? error_set(err, r, "Failed to write the log's meta: %s", strerror(-r)) : 0;
}

/* Read the log that belongs to a tree at entry 'applied', from its disk. *ret_corrupt: it cannot be read, or
 * lacks entries. */
static int reopen_read_log(Replica *p, uint64_t applied, RaftLog **ret, Identity *ret_identity,
                           bool *ret_corrupt, Error *err) {
        RaftLogOptions options = {
                .file_size = p->options.log_file_size,
                .applied = applied,
                .loaded_bytes = p->options.memory_bytes / 2,
                .cancelled = &p->data_dir.cancelled,
        };
        RaftLog *log;
        int r;

        *ret_corrupt = false;
        /* Pages that a failed write has left in memory must not count as written. */
        r = p->options.log_disk->ops->drop_caches(p->options.log_disk);
        if (r < 0)
                return error_set(err, r, "Failed to read the log from its disk: %s", strerror(-r));
        r = raft_log_open(
                p->options.log_disk, p->loop, &options,
                &(RaftLogEvents) { .appended = replica_on_appended, .failed = replica_on_log_failed }, p,
                &log, err);
        *ret_corrupt = r == -EUCLEAN;
        if (r < 0)
                return r;
        r = reopen_check_log(p, log, ret_identity, err);
        if (r < 0)
                raft_log_close(log, NULL, NULL);
        else
                *ret = log;
        return r;
}

static int reopen_take_log(Replica *p, RaftLog *log, const Identity *identity, Error *err) {
        p->log = log;
        p->identity = *identity;
        p->start_number = raft_log_meta(log)->start_number;
        return bootstrap_mark_tree(replica_live_tree(p), identity, p->data_dir.path, err);
}

int replica_open_log(Replica *p, Error *err) {
        Identity identity;
        TreeMeta meta;
        RaftLog *log;
        int r;

        TRY(replica_tree_meta(p, replica_live_tree(p), &meta, err));
        r = reopen_read_log(p, meta.applied, &log, &identity, &p->recovery.damaged, err);
        return r < 0 ? r : reopen_take_log(p, log, &identity, err);
}

/* -- In service -- */

/* A log that does not fit the tree is emptied, which requires a checkpoint of that tree. Make it here, off
 * the loop. */
static int reopen_copy_misfit(Replica *p, Reopening *o) {
        RaftStateInfo info = { .index = o->meta.applied, .term = o->meta.applied_term };
        RaftCoreStart start = { .state = info.index > 0 ? &info : NULL };
        int r;

        start.entries = (RaftEntry *) raft_log_entries(o->log, &start.n_entries, &start.first_index);
        if (raft_core_log_fits(&start) != 0 || (o->has_checkpoint && o->checkpoint_applied >= info.index))
                return 0;
        if (!o->may_copy)
                return error_set(&o->text, -EBUSY,
                                 "the log does not fit the tree, of which a checkpoint is being made");
        r = data_dir_copy(&p->data_dir, o->tree ?: replica_live_tree(p), &o->copied, &o->text);
        o->distrusts = r == -EUCLEAN;
        return r;
}

static int reopen_rebuild(Replica *p, Reopening *o) {
        int r;

        r = data_dir_rebuild(&p->data_dir, &o->tree, &o->corrupt_checkpoint, &o->text);
        o->corrupt = r == -EUCLEAN; /* this host has no other source of a tree */
        return r < 0 || !o->tree ? r : replica_tree_meta(p, o->tree, &o->meta, &o->text);
}

static int reopen_steps(Replica *p, Reopening *o) {
        int r;

        if (o->rebuild)
                r = TRY(reopen_rebuild(p, o));
        r = reopen_read_log(p, o->meta.applied, &o->log, &o->identity, &o->corrupt, &o->text);
        return r < 0 ? r : reopen_copy_misfit(p, o);
}

static void reopen_run(void *userdata) {
        Replica *p = userdata;

        p->reopening.error = reopen_steps(p, &p->reopening);
}

static void reopen_done(void *userdata) {
        Replica *p = userdata;

        p->reopening.running = false;
        if (p->state == REPLICA_CLOSING)
                replica_work_ended(p);
        else
                p->reopening.done(p);
        replica_reopening_done(p);
}

int replica_reopen(Replica *p, bool rebuild, void (*done)(Replica *p), Error *err) {
        Reopening *o = &p->reopening;
        int r;

        assert(!p->core && !p->log && !o->running);
        *o = (Reopening) { .done = done,
                           .rebuild = rebuild,
                           .may_copy = !p->checkpoints.copying,
                           .copied = { .fd = -1 },
                           .has_checkpoint = p->data_dir.checkpoint.fd >= 0,
                           .checkpoint_applied = p->data_dir.checkpoint.meta.applied };
        o->work = WORK(reopen_run, reopen_done, p);
        TRY(rebuild ? 0 : replica_tree_meta(p, replica_live_tree(p), &o->meta, err));
        r = loop_work(p->loop, &o->work);
        if (r < 0)
                return error_set(err, r, "Failed to read checkpoint and log: %s", strerror(-r));
        o->running = true;
        return 0;
}

/* Also if the log after the rebuilt tree cannot be read. */
int replica_take_rebuilt(Replica *p, Error *err) {
        Reopening *o = &p->reopening;

        if (o->corrupt_checkpoint)
                data_dir_forget_checkpoint(&p->data_dir);
        if (!o->rebuild)
                return 0;
        if (!o->tree) {
                p->recovery.damaged = o->corrupt;
                return error_set(err, o->error, "%s", error_text(&o->text, o->error));
        }
        data_dir_rebuilt(&p->data_dir);
        consistency_tree_replaced(p->consistency, false);
        return replica_exchange_tree(p, TAKE_PTR(o->tree), p->error == -EUCLEAN);
}

int replica_take_reopened(Replica *p, Error *err) {
        Reopening *o = &p->reopening;

        p->recovery.damaged = o->corrupt;
        if (o->distrusts)
                data_dir_distrust(&p->data_dir);
        if (o->error < 0)
                return error_set(err, o->error, "%s", error_text(&o->text, o->error));
        if (o->copied.fd >= 0)
                data_dir_adopt(&p->data_dir, &o->copied);
        return reopen_take_log(p, TAKE_PTR(o->log), &o->identity, err);
}

void replica_reopening_done(Replica *p) {
        Reopening *o = &p->reopening;

        o->tree = tree_close(o->tree);
        o->log = raft_log_close(o->log, NULL, NULL);
        checkpoint_done(&o->copied);
}
