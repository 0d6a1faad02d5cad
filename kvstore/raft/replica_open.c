/* Opening, joining and closing of a replica. */
#include "kvstore/raft/replica_internal.h"

#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"

/* -- Opening -- */

static int replica_open_data_dir(Replica *p, bool join, Error *err) {
        Tree *tree = NULL;
        int r;

        r = data_dir_open(&p->data_dir, p->options.tree_path, p->options.machine_id, p->options.boot_id,
                          p->options.quota, &tree, err);
        /* A corrupt checkpoint, which only the other hosts can replace. */
        if (r == -EUCLEAN && p->data_dir.corrupt && join)
                p->recovery.damaged = data_dir_open_empty(&p->data_dir, &tree, NULL) >= 0;
        p->trees.live = tree;
        if (r < 0)
                return r;

        memcpy(p->data_dir.hardware_id, p->options.hardware_id, sizeof(p->data_dir.hardware_id));
        p->recovery.damaged = data_dir_is_quarantined(&p->data_dir, p->reason, sizeof(p->reason)) > 0;
        return p->recovery.damaged ? error_set(err, -EUCLEAN, "%s", p->reason) : 0;
}

/* A restore has ended before it had created the log: create it. Return 1 if that is the case. */
static int replica_finish_restore(Replica *p, Error *err) {
        Identity identity = { .raft_id = BOOTSTRAP_RAFT_ID };
        uint64_t term;
        int r;

        r = data_dir_read_restored(&p->data_dir, &term);
        if (r > 0)
                r = data_dir_read_identity(&p->data_dir, &identity.cluster_id, &identity.lineage) ?: 1;
        if (r < 0)
                return error_set(err, r,
                                 "Failed to complete the restore in %s: %s; fleetd --reset, then restore "
                                 "the backup again",
                                 p->data_dir.path, strerror(-r));
        if (r == 0)
                return 0;
        r = bootstrap_restored(&p->data_dir, p->options.log_disk, &identity, term, err);
        return r < 0 ? r : 1;
}

/* There is no log: the replica was restored, waits to join, or founds a cluster. */
static int replica_begin(Replica *p, bool join, Error *err) {
        TreeMeta meta;
        int r;

        r = replica_finish_restore(p, err);
        if (r != 0)
                return r < 0 ? r : replica_open_log(p, err);
        TRY(replica_tree_meta(p, replica_live_tree(p), &meta, err));
        p->recovery.damaged = meta.applied > 0;
        if (meta.applied > 0)
                return error_set(err, -EUCLEAN,
                                 "%s holds a tree without its log; restore the log, or " RESET_AND_REJOIN,
                                 p->data_dir.path);
        if (err)
                *err = (Error) {};
        if (join)
                return 0;

        TRY(bootstrap_found(&p->data_dir, p->options.log_disk, loop_random(p->loop), p->options.address,
                            p->options.log_file_size, err));
        p->founded = true;
        return replica_open_log(p, err);
}

static int replica_open_all(Replica *p, bool join, Error *err) {
        int r;

        TRY(transfers_new(&p->transfers, p));
        TRY(consistency_new(&p->consistency, p));
        TRY(replica_open_data_dir(p, join, err));
        r = replica_open_log(p, err);
        if (r == -ENOENT)
                r = replica_begin(p, join, err);
        if (r < 0)
                return r;
        r = data_dir_remove_restored(&p->data_dir);
        return r < 0 ? error_set(err, r, "Failed to remove %s/restored: %s", p->data_dir.path, strerror(-r)) :
                       0;
}

static void replica_stop_timers(Replica *p) {
        timer_stop(&p->tick);
        timer_stop(&p->contact.silence);
        timer_stop(&p->checkpoints.compact_again);
        timer_stop(&p->recovery.transfer_timer);
        timer_stop(&p->recovery.retry);
        deferred_cancel(&p->flush);
        deferred_cancel(&p->applying.next);
        deferred_cancel(&p->notices.send);
        deferred_cancel(&p->recovery.stop);
}

static Replica *replica_free(Replica *p) {
        replica_stop_timers(p);
        deferred_cancel(&p->closing.deferred);
        free(p->deferred.bytes);
        replica_reopening_done(p);
        p->transfers = transfers_free(p->transfers);
        p->consistency = consistency_free(p->consistency);
        checkpoint_done(&p->checkpoints.copied);
        closep(&p->checkpoints.drop_fd);
        p->trees.previous = tree_close(p->trees.previous);
        (void) replica_close_live_tree(p);
        applied_clear(&p->applying.applied);
        data_dir_done(&p->data_dir);
        free(p);
        return NULL;
}

int replica_open(Replica **ret, Loop *loop, const ReplicaOptions *options, bool join, Error *err) {
        Replica *p = NEW0(Replica, 1);
        int r;

        if (!p)
                return -ENOMEM;
        p->loop = loop;
        p->options = *options;
        p->has_others = join;
        p->data_dir = (DataDir) { .fd = -1, .checkpoint = { .fd = -1 } };
        p->reopening.copied = (Checkpoint) { .fd = -1 };
        replica_checkpoints_init(p);
        replica_recovery_init(p);
        replica_leadership_init(p);
        replica_inputs_init(p);

        r = replica_open_all(p, join, err);
        if (r < 0 && p->recovery.damaged)
                r = replica_quarantine(p, err) < 0 ? r : 0;
        if (r < 0) {
                raft_log_close(p->log, NULL, NULL);
                replica_free(p);
                return r;
        }

        replica_handle_frames(p, true);
        replica_introduce(p);
        *ret = p;
        return 0;
}

/* -- Joining -- */

static int replica_open_and_start(Replica *p, Error *err) {
        int r = replica_open_log(p, err);

        return r < 0 ? r : replica_start(p, err);
}

static int replica_join_fresh(Replica *p, const Identity *identity, Error *err) {
        int r;

        TRY(bootstrap_join(&p->data_dir, p->options.log_disk, identity, p->options.log_file_size, err));
        r = replica_open_and_start(p, err);
        if (r < 0) { /* the identity is on disk: it is not requested again, and recovery starts from there */
                p->identity = *identity;
                replica_fail(p, r, "Failed to start: %s", error_text(err, r));
        }
        return 0;
}

static int replica_join_again(Replica *p, const Identity *identity, Error *err) {
        TRY(replica_set_aside(p, identity, err));
        TRY(bootstrap_join(&p->data_dir, p->options.log_disk, identity, p->options.log_file_size, err));
        TRY(replica_open_and_start(p, err));
        /* Last: a crash before this leaves the replica quarantined. */
        return data_dir_end_quarantine(&p->data_dir);
}

int replica_join(Replica *p, const Identity *identity, Error *err) {
        int r;

        if (p->state == REPLICA_QUARANTINED) {
                r = replica_join_again(p, identity, err);
                if (r < 0)
                        replica_quarantine_again(p);
        } else if (p->state == REPLICA_WAITING && !p->log)
                r = replica_join_fresh(p, identity, err);
        else
                return error_set(err, -EALREADY, "this host is a member of a cluster already");
        if (r >= 0)
                replica_introduce(p);
        return r;
}

/* -- Closing -- */

/* Deferred: work in flight may have ended. */
static void replica_on_closing(void *userdata) {
        Replica *p = userdata;
        void (*closed)(void *userdata) = p->closing.closed;
        void *closed_userdata = p->closing.userdata;

        if (!replica_is_at_rest(p) || p->checkpoints.dropping)
                return;
        (void) replica_close_live_tree(p);
        if (p->started)
                data_dir_closed(&p->data_dir);
        replica_free(p);
        closed(closed_userdata);
}

Replica *replica_crash(Replica *p) {
        if (!p)
                return NULL;
        replica_handle_frames(p, false);
        p->core = raft_core_free(p->core);
        p->log = raft_log_crash(p->log);
        p->closing.log = raft_log_crash(p->closing.log);
        return replica_free(p);
}

void replica_close(Replica *p, void (*closed)(void *userdata), void *userdata) {
        assert(p->depth == 0);
        replica_move(p, REPLICA_CLOSING);
        p->closing.closed = closed;
        p->closing.userdata = userdata;
        p->closing.deferred = DEFERRED(replica_on_closing, p);

        replica_handle_frames(p, false);
        data_dir_cancel(&p->data_dir);
        replica_stop_timers(p);
        p->core = raft_core_free(p->core);
        replica_close_log(p);
        replica_work_ended(p);
}
