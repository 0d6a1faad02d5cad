/* Start of the core from what is on disk. */
#include "kvstore/raft/replica_internal.h"

#include "base/log.h"

void replica_introduce(Replica *p) {
        PeerHandshake self;

        if (!p->options.peers)
                return;
        self = *peers_self(p->options.peers);
        self.cluster_id = p->identity.cluster_id;
        self.lineage = p->identity.lineage;
        self.raft_id = p->identity.raft_id;
        if (p->start_number > 0)
                self.start_number = p->start_number;
        peers_set_self(p->options.peers, &self);
}

/* Empty a log that does not fit the tree, but only when the state that replaces it is durable: the live tree
 * may be ahead of the log, and survives only as long as the machine runs. In service, reopening has made that
 * checkpoint. */
static int start_drop_log(Replica *p, uint64_t index, Error *err) {
        Checkpoint c = { .fd = -1 };
        int r;

        if (p->data_dir.checkpoint.fd < 0 || p->data_dir.checkpoint.meta.applied < index) {
                r = data_dir_copy(&p->data_dir, replica_live_tree(p), &c, err);
                if (r == -EUCLEAN)
                        data_dir_distrust(&p->data_dir); /* the next attempt rebuilds the tree */
                if (r < 0)
                        return r;
                data_dir_adopt(&p->data_dir, &c);
        }

        log_info(NO_FIELDS,
                 "the log does not fit the tree of entry %" PRIu64 "; the log begins again after it", index);
        r = raft_log_reset(p->log, index);
        return r < 0 ? error_set(err, r, "Failed to empty the log: %s", strerror(-r)) : 0;
}

static int start_core(Replica *p, RaftCoreStart *start, const RaftStateInfo *info, Error *err) {
        int r;

        r = TRY(raft_core_new(
                &(RaftCoreOptions) {
                        .id = p->identity.raft_id,
                        .address = p->options.address[0] ? p->options.address : "-",
                        .election_ms = p->options.election_ms,
                        .heartbeat_ms = p->options.heartbeat_ms,
                        .seed = (unsigned) random_u64(loop_random(p->loop)),
                },
                &replica_core_ops, p, &p->core));
        replica_move(p, REPLICA_OPEN);
        if (raft_core_log_fits(start) == 0) {
                start->first_index = info->index + 1;
                start->n_entries = 0;
                r = TRY(start_drop_log(p, info->index, err));
        }

        if (p->in_service)
                replica_enter_paused(p);
        else
                replica_enter(p);
        r = raft_core_start(p->core, loop_now_ms(p->loop), start);
        p->depth = 0;
        p->applying.paused = false;
        return r;
}

/* The core did not start. At the opening, a tree that failed is rebuilt as in service: the opening succeeds.
 */
static int start_failed(Replica *p, int error, Error *err) {
        p->core = raft_core_free(p->core);
        if (replica_takes_inputs(p))
                replica_move(p, REPLICA_STOPPING);
        if (p->data_dir.distrusted && !p->started) {
                replica_fail(p, error, "%s", error_text(err, error));
                *err = (Error) {};
                return 0;
        }
        if (p->error < 0)
                return error_set(err, error, "%s", p->reason);
        return err && err->code < 0 ? error :
                                      error_set(err, error, "Failed to start Raft: %s", strerror(-error));
}

static void start_succeeded(Replica *p) {
        p->started = true;
        if (p->data_dir.corrupt)
                replica_checkpoint_due(p);
        p->changed |= RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER | RAFT_CHANGED_CONFIGURATION;
        replica_arm(p);
        if (raft_core_is_behind(p->core))
                loop_defer(p->loop, &p->applying.next);
        replica_notify_later(p, 0);
}

static int start_from_log(Replica *p, Error *err) {
        _cleanup_(checkpoint_done) Checkpoint live = { .fd = -1 };
        RaftEntry *entries = NULL;
        RaftCoreStart start;
        RaftStateInfo info;
        const char *torn;
        uint64_t first;
        size_t n = 0;
        int r;

        TRY(replica_read_info(p, &live, err));
        info = replica_checkpoint_info(&live);

        if (raft_log_torn(p->log, &torn))
                log_info(NO_FIELDS, "dropped a write from the log that a crash interrupted: %s", torn);

        TRY(raft_log_take_entries(p->log, &entries, &n, &first));
        if (first > info.index + 1) {
                raft_log_entries_free(entries, n);
                p->recovery.damaged = true;
                return error_set(err, -EUCLEAN,
                                 "the tree in %s ends with entry %" PRIu64
                                 ", but the log begins with %" PRIu64 "; " RESET_AND_REJOIN,
                                 p->data_dir.path, info.index, first);
        }

        start = (RaftCoreStart) {
                .term = raft_log_meta(p->log)->term,
                .vote = raft_log_meta(p->log)->vote,
                .state = info.index > 0 ? &info : NULL,
                .first_index = first,
                .entries = entries,
                .take = true,
                .n_entries = n,
        };
        r = start_core(p, &start, &info, err);
        raft_log_entries_free(entries, n);
        if (r < 0)
                return start_failed(p, r, err);
        start_succeeded(p);
        return 0;
}

int replica_start(Replica *p, Error *err) {
        int r = p->log ? start_from_log(p, err) : 0;

        p->in_service = true;
        return r;
}
