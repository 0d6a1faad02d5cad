#include "kvstore/raft/replica.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/replica_internal.h"
#include "kvstore/raft/transfer.h"

/* -- Opening -- */

static int replica_open_data_dir(Replica *p, bool join, Error *err) {
        Tree *tree = NULL;
        int r;

        r = data_dir_open(&p->data_dir, p->options.tree_path, p->options.machine_id, p->options.boot_id,
                          p->options.quota, &tree, err);
        /* A corrupt checkpoint, which this host cannot make again: the other hosts can. */
        if (r == -EUCLEAN && p->data_dir.corrupt && join)
                p->recovery.damaged = data_dir_open_empty(&p->data_dir, &tree, NULL) >= 0;
        replica_set_live_tree(p, tree);
        if (r < 0)
                return r;

        memcpy(p->data_dir.hardware_id, p->options.hardware_id, sizeof(p->data_dir.hardware_id));
        p->recovery.damaged = data_dir_is_quarantined(&p->data_dir, p->reason, sizeof(p->reason)) > 0;
        return p->recovery.damaged ? error_set(err, -EUCLEAN, "%s", p->reason) : 0;
}

/* There is no log: the replica waits to join, or founds a cluster. */
static int replica_begin(Replica *p, bool join, Error *err) {
        uint64_t applied;
        int r;

        r = replica_tree_applied(replica_live_tree(p), &applied);
        if (r < 0)
                return error_set(err, r, "cannot read the tree in %s: %s", p->data_dir.path, strerror(-r));
        p->recovery.damaged = applied > 0;
        if (applied > 0)
                return error_set(err, -EUCLEAN,
                                 "%s holds a tree, but the log that belongs to it is gone; restore the log, "
                                 "or remove this host's "
                                 "state and let it join anew",
                                 p->data_dir.path);
        if (err)
                *err = (Error) {};
        if (join)
                return 0;

        r = bootstrap_found(&p->data_dir, p->options.log_disk, loop_random(p->loop), p->options.address,
                            p->options.log_file_size, err);
        if (r < 0)
                return r;
        p->founded = true;
        return replica_open_log(p, err);
}

static int replica_open_all(Replica *p, bool join, Error *err) {
        int r;

        r = transfers_new(&p->transfers, p);
        if (r < 0)
                return r;
        r = consistency_new(&p->consistency, p);
        if (r < 0)
                return r;
        r = replica_open_data_dir(p, join, err);
        if (r < 0)
                return r;
        r = replica_open_log(p, err);
        return r == -ENOENT ? replica_begin(p, join, err) : r;
}

static Replica *replica_free(Replica *p) {
        deferred_cancel(&p->closing.deferred);
        replica_recovery_stop(p);
        replica_contact_stop(p);
        replica_leadership_stop(p);
        replica_compaction_stop(p);
        replica_inputs_done(p);
        replica_reopening_done(p);
        p->transfers = transfers_free(p->transfers);
        p->consistency = consistency_free(p->consistency);
        replica_checkpoints_done(p);
        replica_close_trees(p);
        replica_applying_done(p);
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
        p->knows_others = join;
        p->data_dir = (DataDir) { .fd = -1, .checkpoint = { .fd = -1 } };
        replica_checkpoints_init(p);
        replica_reopening_init(p);
        replica_recovery_init(p);
        replica_compaction_init(p);
        replica_contact_init(p);
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

static int replica_join_fresh(Replica *p, const Identity *identity, Error *err) {
        int r;

        r = bootstrap_join(&p->data_dir, p->options.log_disk, identity, p->options.log_file_size, err);
        if (r < 0)
                return r;
        r = replica_open_log(p, err);
        if (r >= 0)
                r = replica_start(p, err);
        if (r < 0) { /* the identity is on disk: it is not requested again, and recovery starts from there */
                p->identity = *identity;
                replica_fail(p, r, "cannot start: %s", error_text(err, r));
        }
        return 0;
}

static int replica_join_again(Replica *p, const Identity *identity, Error *err) {
        int r;

        r = replica_set_aside(p, identity, err);
        if (r < 0)
                return r;
        r = bootstrap_join(&p->data_dir, p->options.log_disk, identity, p->options.log_file_size, err);
        if (r < 0)
                return r;
        r = replica_open_log(p, err);
        if (r < 0)
                return r;
        r = replica_start(p, err);
        if (r < 0)
                return r;
        return data_dir_end_quarantine(
                &p->data_dir); /* last: a crash before this leaves the replica quarantined */
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

        if (!replica_is_at_rest(p) || replica_checkpoints_busy(p))
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
        replica_contact_stop(p);
        replica_compaction_stop(p);
        replica_inputs_stop(p);
        replica_recovery_stop(p);
        p->core = raft_core_free(p->core);
        replica_close_log(p);
        replica_work_ended(p);
}
