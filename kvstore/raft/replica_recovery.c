/* Replica failure and recovery.
 *
 * A failed write is not retried: page cache and disk may differ. The replica transfers leadership if it
 * leads, closes core and log, and serves its tree. Then it checks, with growing pauses, whether the disk
 * works again (after a full disk: whether a reserve is free), and starts again from what is on disk, in the
 * same daemon. A tree that failed is rebuilt from checkpoint and log; the old tree serves until the new one
 * has reached its index. */
#include "kvstore/raft/replica_internal.h"

#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"

enum {
        TRANSFER_MS = 1000,
        RETRY_MS = 500, /* from the failure to the first attempt; doubled with each attempt that fails ... */
        RETRY_MAX_MS = 10000,
        STEADY_MS = 60000, /* ... and with each failure within this time after a recovery */
        WAIT_MS = 100,     /* while work of the old core is in flight */
};

/* Required free space in bytes on a disk that was full; an eighth of a small disk. */
static const uint64_t RESERVE = 64 * 1024 * 1024;

/* -- Failure -- */

static void recovery_schedule(Replica *p) {
        uint64_t pause_ms = RETRY_MS << MIN(p->recovery.n_attempts, 5u);

        p->recovery.n_attempts++;
        (void) timer_start(&p->recovery.retry, p->loop, MIN(pause_ms, (uint64_t) RETRY_MAX_MS));
}

static void recovery_notify_closed(Replica *p) {
        p->changed = 0;
        replica_notify(p, RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER, p->state == REPLICA_FAILED);
}

static void recovery_stop_now(void *userdata) {
        Replica *p = userdata;

        deferred_cancel(&p->recovery.stop);
        timer_stop(&p->recovery.transfer_timer);
        timer_stop(&p->tick);
        replica_contact_lost(p);
        if (p->core)
                p->recovery.durable_index = raft_core_stored_index(p->core);
        p->core = raft_core_free(p->core);
        p->recovery.with_received_tree = false;
        replica_move(p, REPLICA_FAILED);
        replica_close_log(p);

        if (loop_now_ms(p->loop) > p->recovery.recovered_ms + STEADY_MS)
                p->recovery.n_attempts = 0;
        if (p->error != -ENOTSUP) /* another attempt of this program fails in the same way */
                recovery_schedule(p);
        recovery_notify_closed(p);
}

/* The core closes, to start again from what is durable. */
static void recovery_close_for_restart(Replica *p) {
        if (!p->recovery.with_received_tree)
                log_notice(NO_FIELDS, "lost leadership during a promotion; restarting from durable state");
        /* Entries that a promotion holds back were never acknowledged. */
        p->recovery.durable_index = p->recovery.with_received_tree && p->core ?
                                            raft_core_stored_index(p->core) :
                                            0;
        p->core = raft_core_free(p->core);
        /* Now, because the log closes when its write has ended, and the disk may hang. */
        recovery_notify_closed(p);
        replica_close_log(p);
}

/* Deferred: the replica fails or restarts. */
static void recovery_on_stop(void *userdata) {
        Replica *p = userdata;

        switch (p->state) {
        case REPLICA_RESTARTING:
                recovery_close_for_restart(p);
                return;
        case REPLICA_FAILING:
                if (replica_give_up_leadership(p) >= 0 && p->state == REPLICA_FAILING &&
                    timer_start(&p->recovery.transfer_timer, p->loop, TRANSFER_MS) >= 0) {
                        replica_move(p, REPLICA_TRANSFERRING);
                        return;
                }
                recovery_stop_now(p);
                return;
        case REPLICA_TRANSFERRING:
        case REPLICA_STOPPING:
                recovery_stop_now(p);
                return;
        default:
                return;
        }
}

/* -- The core starts again -- */

/* Start from what was read. */
static int recovery_start(Replica *p, Error *err) {
        TreeMeta meta;
        uint64_t last;

        TRY(replica_take_reopened(p, err));
        TRY(replica_tree_meta(p, replica_live_tree(p), &meta, err));
        last = raft_log_last_index(p->log);
        if (MAX(last, meta.applied) < p->recovery.durable_index) {
                p->recovery.damaged = true;
                return error_set(err, -EUCLEAN,
                                 "the log ends with entry %" PRIu64 ", but entries up to %" PRIu64
                                 " had been acknowledged",
                                 last, p->recovery.durable_index);
        }
        return replica_start(p, err);
}

/* Replace the tree by the one that a leader sent. Without one, keep this one until there is another. */
static int recovery_take_received(Replica *p, Error *err) {
        Checkpoint *received = transfers_whole(p->transfers);
        Tree *tree = NULL;
        int r;

        if (!received)
                return 0;
        r = data_dir_install(&p->data_dir, received, true, &tree, err);
        if (r < 0) {
                data_dir_distrust(&p->data_dir);
                return r;
        }
        replica_checkpoint_replaced(p, p->data_dir.checkpoint.meta.applied);
        log_notice(NO_FIELDS, "replaced the tree by the leader's tree of entry %" PRIu64,
                   p->data_dir.checkpoint.meta.applied);
        transfers_drop(p->transfers);
        consistency_tree_replaced(p->consistency, true);
        return replica_exchange_tree(p, tree, true);
}

static void recovery_restarted(Replica *p, int r, const Error *err) {
        if (r < 0)
                replica_fail(p, r, "Failed to start again: %s", error_text(err, r));
        else
                replica_flush_notifications(p);
}

static void recovery_on_restart_read(Replica *p) {
        Error err = {};
        int r;

        if (p->state != REPLICA_RESTARTING) /* it failed meanwhile */
                return;
        r = recovery_start(p, &err);
        recovery_restarted(p, r, &err);
}

/* The log is closed: read it again for a restart. */
static void recovery_reread(Replica *p) {
        Error err = {};
        int r = 0;

        if (p->recovery.with_received_tree) {
                p->recovery.with_received_tree = false;
                r = recovery_take_received(p, &err);
                replica_flush_notifications(p);
        }
        if (r >= 0)
                r = replica_reopen(p, false, recovery_on_restart_read, &err);
        if (r < 0)
                recovery_restarted(p, r, &err);
}

static void recovery_on_log_closed(void *userdata) {
        Replica *p = userdata;

        p->closing.log = NULL;
        p->closing.pending--;
        replica_work_ended(p);
        if (p->state == REPLICA_RESTARTING)
                recovery_reread(p);
}

void replica_close_log(Replica *p) {
        RaftLog *log = TAKE_PTR(p->log);

        if (!log)
                return;
        p->closing.pending++;
        p->closing.log = log;
        raft_log_close(log, recovery_on_log_closed, p); /* may call back at once */
}

/* -- Recovery -- */

static int recovery_check_room(Replica *p, Error *err) {
        uint64_t room[2], total[2], need;
        Disk *disk = p->options.log_disk;
        int r;

        if (p->error != -ENOSPC && p->error != -EDQUOT)
                return 0;
        r = disk->ops->space(disk, &room[0], &total[0]);
        if (r >= 0)
                r = data_dir_space(&p->data_dir, &room[1], &total[1]);
        if (r < 0)
                return error_set(err, r, "Failed to read the free disk space: %s", strerror(-r));
        for (size_t i = 0; i < ELEMENTS(room); i++) {
                need = MIN(RESERVE, total[i] / 8);
                if (i == 1 && p->data_dir.distrusted && p->data_dir.checkpoint.fd >= 0)
                        need += p->data_dir.checkpoint.size;
                if (room[i] < need)
                        return error_set(err, p->error,
                                         "disk of %s full: %" PRIu64 " of %" PRIu64
                                         " KiB free; resuming at %" PRIu64 " KiB free",
                                         p->data_dir.path, room[i] / 1024, total[i] / 1024, need / 1024);
        }
        return 0;
}

/* The core did not start: as after the failure before. */
static void recovery_did_not_start(Replica *p, int error) {
        deferred_cancel(&p->recovery.stop);
        timer_stop(&p->tick);
        p->core = raft_core_free(p->core);
        if (p->state != REPLICA_STOPPING && p->state != REPLICA_PROBING)
                replica_move(p, REPLICA_STOPPING);
        replica_move(p, REPLICA_FAILED);
        p->error = error;
        replica_close_log(p);
}

static int recovery_attempt(Replica *p, Error *err) {
        int r;

        p->recovery.damaged = false;
        r = replica_take_rebuilt(p, err);
        if (r < 0) {
                replica_move(p, REPLICA_FAILED);
                return r;
        }

        p->error = 0;
        replica_forget_writes(p);
        r = recovery_start(p, err);
        if (r >= 0)
                return 0;

        if (p->error < 0) /* the operation that failed has set the message */
                error_set(err, p->error, "%s", p->reason);
        recovery_did_not_start(p, r);
        return r;
}

/* Wait for the next attempt; repeat no message. */
static void recovery_postpone(Replica *p, int error, Error *err) {
        bool changed = !same_string(p->reason, error_text(err, error));

        snprintf(p->reason, sizeof(p->reason), "%s", error_text(err, error));
        if (changed)
                log_warning(((LogFields) { .error = error }), "Failed to recover the replica: %s", p->reason);
        recovery_schedule(p);
}

static void recovery_succeeded(Replica *p) {
        p->contact.silent = false;
        p->recovery.recovered_ms = loop_now_ms(p->loop);
}

/* 'r': result of the attempt that is over. */
static void recovery_attempted(Replica *p, int r, Error *err) {
        if (r >= 0) {
                log_notice(NO_FIELDS, "recovered the replica at entry %" PRIu64 " of its log",
                           raft_log_last_index(p->log));
                recovery_succeeded(p);
        } else if (!p->recovery.damaged || replica_quarantine(p, err) < 0)
                recovery_postpone(p, r, err);
        p->changed |= RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER;
        replica_flush_notifications(p);
}

static void recovery_on_read(Replica *p) {
        Error err = {};
        int r = recovery_attempt(p, &err);

        recovery_attempted(p, r, &err);
}

bool replica_is_at_rest(const Replica *p) {
        return p->closing.pending == 0 && !p->checkpoints.copying && !p->reopening.running &&
               !transfers_busy(p->transfers);
}

static int recovery_probe(Replica *p, Error *err) {
        transfers_drop(p->transfers); /* they use disk space, and belong to the previous core */
        p->recovery.damaged = false;
        TRY(recovery_check_room(p, err));
        if (!replica_live_tree(p))
                data_dir_distrust(&p->data_dir);
        if (p->data_dir.distrusted)
                log_notice(NO_FIELDS, "rebuilding the tree in %s from checkpoint and log", p->data_dir.path);
        return replica_reopen(p, p->data_dir.distrusted, recovery_on_read, err);
}

static void recovery_on_retry(void *userdata) {
        Replica *p = userdata;
        Error err = {};
        int r;

        if (p->state != REPLICA_FAILED)
                return;
        if (!replica_is_at_rest(p)) {
                (void) timer_start(&p->recovery.retry, p->loop, WAIT_MS);
                return;
        }
        if (p->recovery.retired) {
                p->recovery.damaged = true;
                recovery_attempted(p, error_set(&err, -EUCLEAN, "%s", p->reason), &err);
                return;
        }
        r = recovery_probe(p, &err);
        if (r < 0)
                recovery_attempted(p, r, &err);
        else
                replica_move(p, REPLICA_PROBING);
}

/* -- Quarantine: a log that lacks acknowledged data is never used under the old ID -- */

static bool recovery_has_others(Replica *p) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        Tree *tree = replica_live_tree(p);
        RaftServers servers = {};
        KvBytes bytes;
        bool others;

        if (!p->options.peers || !p->options.address[0])
                return false;
        if (p->has_others || p->recovery.retired)
                return true;
        if (!tree || tree_begin_read(tree, &txn) < 0 || tree_configuration(txn, &bytes) < 0 ||
            bytes.size == 0 || raft_configuration_decode_servers(bytes.data, bytes.size, &servers) < 0)
                return false;
        others = servers.n > 1;
        raft_servers_done(&servers);
        return others;
}

int replica_quarantine(Replica *p, Error *err) {
        Identity identity = {};

        if (!replica_serving(p) || !recovery_has_others(p))
                return -EUCLEAN;
        TRY(data_dir_read_identity(&p->data_dir, &identity.cluster_id, &identity.lineage));
        TRY(data_dir_quarantine(&p->data_dir, error_text(err, -EUCLEAN)));

        replica_move(p, REPLICA_QUARANTINED);
        p->identity = identity; /* without an ID: frames for the old one are not for this replica */
        p->error = -EUCLEAN;
        snprintf(p->reason, sizeof(p->reason), "%s", error_text(err, -EUCLEAN));
        if (p->recovery.retired)
                log_notice(NO_FIELDS, "the replica of this host is not used any more: %s", p->reason);
        else
                log_error(((LogFields) { .error = p->error }),
                          "quarantined the replica of this host: %s; requesting to join under a new ID. "
                          "Without a quorum, run fleetd --recover on a host with an intact log",
                          p->reason);
        replica_introduce(p);
        return 0;
}

int replica_retire(Replica *p, const char *reason) {
        if (p->state != REPLICA_OPEN)
                return -EBUSY;
        p->recovery.retired = true;
        replica_fail(p, -EUCLEAN, "%s", reason);
        return 0;
}

int replica_set_aside(Replica *p, const Identity *identity, Error *err) {
        Tree *tree = NULL;

        if (identity->cluster_id != p->identity.cluster_id || identity->lineage != p->identity.lineage)
                return error_set(err, -EXDEV, "this host belongs to another cluster or lineage");
        if (!replica_is_at_rest(p))
                return error_set(err, -EBUSY, "work of the quarantined replica is still in flight");

        TRY(bootstrap_set_aside(p->options.log_disk, err));
        TRY(data_dir_set_aside(&p->data_dir, &tree, err));
        consistency_tree_replaced(p->consistency, false);
        TRY(replica_exchange_tree(p, tree, true));

        log_notice(NO_FIELDS, "kept the quarantined tree in %s/old, and the log in files old.*",
                   p->data_dir.path);
        replica_move(p, REPLICA_WAITING);
        p->error = 0;
        p->recovery.durable_index = 0;
        p->recovery.retired = false;
        replica_checkpoint_replaced(p, 0);
        replica_forget_writes(p);
        recovery_succeeded(p);
        return 0;
}

void replica_quarantine_again(Replica *p) {
        if (p->state == REPLICA_QUARANTINED)
                return;
        recovery_did_not_start(p, -EUCLEAN);
        p->identity.raft_id = 0;
        replica_move(p, REPLICA_QUARANTINED);
}

void replica_recovery_init(Replica *p) {
        p->recovery.stop = DEFERRED(recovery_on_stop, p);
        p->recovery.transfer_timer = TIMER(recovery_stop_now, p);
        p->recovery.retry = TIMER(recovery_on_retry, p);
}
