/* Reading checkpoint and log again. At a start, before there is any service, that blocks; a replica in
 * service has it done by a worker, and its loop goes on: sessions, timers and reads of the tree that is
 * shown.
 *
 * While the worker runs there is neither core nor log, the log's disk is the worker's alone, and so are
 * checkpoint and live folder where the tree is rebuilt. It changes nothing of the replica: what it found is
 * in Reopening, and is taken on the loop, or dropped. */
#include "kvstore/raft/replica_internal.h"

#include <assert.h>
#include <errno.h>

int replica_tree_meta(Tree *tree, TreeMeta *ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = tree_begin_read(tree, &txn);
        return r < 0 ? r : tree_meta(txn, ret);
}

int replica_tree_applied(Tree *tree, uint64_t *ret) {
        TreeMeta meta;
        int r;

        r = replica_tree_meta(tree, &meta);
        if (r >= 0)
                *ret = meta.applied;
        return r;
}

/* -- The log -- */

static int check_log(const Replica *p, RaftLog *log, Identity *ret, Error *err) {
        int r;

        r = bootstrap_check(&p->folder, raft_log_meta(log), ret, err);
        if (r < 0)
                return r;
        r = bootstrap_own_hardware(p->folder.hardware_id, log, false);
        return r < 0 ? error_set(err, r, "cannot write the log's meta: %s", strerror(-r)) : 0;
}

/* The log beside a tree that is at entry 'applied', as its disk has it. *ret_damaged: it cannot be read, or
 * lacks what it had. */
static int read_log(Replica *p, uint64_t applied, RaftLog **ret, Identity *ret_identity, bool *ret_damaged,
                    Error *err) {
        RaftLogOptions options = {
                .file_size = p->options.log_file_size,
                .applied = applied,
                .loaded_bytes = p->options.memory_bytes / 2,
                .cancelled = &p->folder.cancelled,
        };
        RaftLog *log;
        int r;

        *ret_damaged = false;
        /* What a failed write has left in memory only must not be taken for written. */
        r = p->options.log_disk->ops->settle(p->options.log_disk);
        if (r < 0)
                return error_set(err, r, "cannot read the log from its disk: %s", strerror(-r));
        r = raft_log_open(
                p->options.log_disk, p->loop, &options,
                &(RaftLogEvents) { .appended = replica_on_appended, .failed = replica_on_log_failed }, p,
                &log, err);
        *ret_damaged = r == -EUCLEAN;
        if (r < 0)
                return r;
        r = check_log(p, log, ret_identity, err);
        if (r < 0)
                raft_log_close(log, NULL, NULL);
        else
                *ret = log;
        return r;
}

static int take_log(Replica *p, RaftLog *log, const Identity *identity, Error *err) {
        p->log = log;
        p->identity = *identity;
        p->start_number = raft_log_meta(log)->start_number;
        return bootstrap_mark_tree(p->tree, identity, p->folder.path, err);
}

int replica_open_log(Replica *p, Error *err) {
        Identity identity;
        uint64_t applied;
        RaftLog *log;
        int r;

        r = replica_tree_applied(p->tree, &applied);
        if (r < 0)
                return error_set(err, r, "cannot read the tree in %s: %s", p->folder.path, strerror(-r));
        r = read_log(p, applied, &log, &identity, &p->damaged, err);
        return r < 0 ? r : take_log(p, log, &identity, err);
}

/* -- In service -- */

/* A log that does not fit the tree is emptied, which takes a checkpoint of that tree: made here, it need not
 * be made on the loop. */
static int copy_misfit(Replica *p, Reopening *o) {
        RaftStateInfo info = { .index = o->meta.applied, .term = o->meta.applied_term };
        RaftCoreStart start = { .state = info.index > 0 ? &info : NULL };
        int r;

        start.entries = (RaftEntry *) raft_log_entries(o->log, &start.n_entries, &start.first_index);
        if (raft_core_log_fits(&start) != 0 || (o->has_checkpoint && o->checkpoint_applied >= info.index))
                return 0;
        if (!o->may_copy)
                return error_set(&o->text, -EBUSY,
                                 "the log does not fit the tree, of which a checkpoint is being made");
        r = data_dir_copy(&p->folder, o->tree ?: p->tree, &o->copied, &o->text);
        o->distrusts = r == -EUCLEAN;
        return r;
}

static int reopen_steps(Replica *p, Reopening *o) {
        int r = 0;

        if (o->rebuild) {
                r = data_dir_rebuild(&p->folder, &o->tree, &o->rotten, &o->text);
                o->damaged = r == -EUCLEAN; /* nothing is left here that it could be made of */
        }
        if (r >= 0 && o->tree) {
                r = replica_tree_meta(o->tree, &o->meta);
                if (r < 0)
                        error_set(&o->text, r, "cannot read the tree in %s: %s", p->folder.path,
                                  strerror(-r));
        }
        if (r >= 0)
                r = read_log(p, o->meta.applied, &o->log, &o->identity, &o->damaged, &o->text);
        return r < 0 ? r : copy_misfit(p, o);
}

static void reopen_run(void *userdata) {
        Replica *p = userdata;

        p->reopening.error = reopen_steps(p, &p->reopening);
}

static void reopen_done(void *userdata) {
        Replica *p = userdata;

        p->reopening.running = false;
        if (p->closing)
                replica_close_step(p);
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
                           .may_copy = !p->copying,
                           .copied = { .fd = -1 },
                           .has_checkpoint = p->folder.checkpoint.fd >= 0,
                           .checkpoint_applied = p->folder.checkpoint.meta.applied };
        o->work = (Work) {
                .name = LOOP_NAME(reopen_done), .work = reopen_run, .done = reopen_done, .userdata = p
        };
        r = rebuild ? 0 : replica_tree_meta(p->tree, &o->meta);
        if (r < 0)
                return error_set(err, r, "cannot read the tree in %s: %s", p->folder.path, strerror(-r));
        r = loop_work(p->loop, &o->work);
        if (r < 0)
                return error_set(err, r, "cannot read checkpoint and log: %s", strerror(-r));
        o->running = true;
        return 0;
}

int replica_take_reopened(Replica *p, Error *err) {
        Reopening *o = &p->reopening;

        p->damaged = o->damaged;
        if (o->distrusts)
                data_dir_distrust(&p->folder);
        if (o->error < 0)
                return error_set(err, o->error, "%s", error_text(&o->text, o->error));
        if (o->copied.fd >= 0)
                data_dir_adopt(&p->folder, &o->copied);
        return take_log(p, TAKE_PTR(o->log), &o->identity, err);
}

void replica_reopening_done(Replica *p) {
        Reopening *o = &p->reopening;

        o->tree = tree_close(o->tree);
        o->log = raft_log_close(o->log, NULL, NULL);
        checkpoint_done(&o->copied);
}
