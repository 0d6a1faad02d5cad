#include "kvstore/raft/replica_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"

/* -- Opening -- */

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

static int open_all(Replica *p, bool join, Error *err) {
        uint64_t applied;
        int r;

        r = data_dir_open(&p->folder, p->options.tree_path, p->options.machine_id, p->options.boot_id,
                          p->options.quota, &p->tree, err);
        if (r == -EUCLEAN && p->folder.rotten && join) /* the others have what this host cannot make again */
                p->damaged = data_dir_open_nothing(&p->folder, &p->tree, NULL) >= 0;
        if (r < 0)
                return r;

        memcpy(p->folder.hardware_id, p->options.hardware_id, sizeof(p->folder.hardware_id));
        p->damaged = data_dir_is_quarantined(&p->folder, p->reason, sizeof(p->reason)) > 0;
        if (p->damaged)
                return error_set(err, -EUCLEAN, "%s", p->reason);
        r = replica_open_log(p, err);
        if (r != -ENOENT)
                return r;

        r = replica_tree_applied(p->tree, &applied);
        if (r < 0)
                return error_set(err, r, "cannot read the tree in %s: %s", p->folder.path, strerror(-r));
        p->damaged = applied > 0;
        if (applied > 0)
                return error_set(err, -EUCLEAN,
                                 "%s holds a tree, but the log that belongs to it is gone; restore the log, "
                                 "or remove this host's "
                                 "state and let it join anew",
                                 p->folder.path);
        if (err)
                *err = (Error) {};
        if (join)
                return 0;

        r = bootstrap_found(&p->folder, p->options.log_disk, loop_random(p->loop), p->options.address,
                            p->options.log_file_size, err);
        if (r < 0)
                return r;
        p->founded = true;
        return replica_open_log(p, err);
}

static Replica *replica_free(Replica *p) {
        deferred_cancel(&p->settle);
        deferred_cancel(&p->notice);
        deferred_cancel(&p->apply);
        deferred_cancel(&p->closed_deferred);
        timer_stop(&p->tick);
        timer_stop(&p->silence);
        timer_stop(&p->forget_again);
        replica_stop_done(p);
        replica_reopening_done(p);
        p->transfers = transfers_free(p->transfers);
        p->compare = consistency_free(p->compare);
        checkpoint_done(&p->copied);
        closep(&p->drop_fd);
        tree_close(p->tree);
        data_dir_done(&p->folder);
        free(p->held);
        free(p);
        return NULL;
}

int replica_open(Replica **ret, Loop *loop, const ReplicaOptions *options, bool join, Error *err) {
        static const struct {
                PeerFrame type;
                PeerHandler handler;
        } frames[] = { { PEER_RAFT, replica_on_raft },
                       { PEER_SNAPSHOT, replica_on_snapshot },
                       { PEER_SNAPSHOT_ACK, replica_on_snapshot_ack },
                       { PEER_TREE, replica_on_tree } };
        Replica *p = NEW0(Replica, 1);
        int r;

        if (!p)
                return -ENOMEM;
        p->loop = loop;
        p->options = *options;
        p->knows_others = join;
        p->folder = (DataDir) { .fd = -1, .checkpoint = { .fd = -1 } };
        p->copied = p->reopening.copied = (Checkpoint) { .fd = -1 };
        p->drop_fd = -1;
        p->copy_told = true; /* what is there at opening, the core need not hear */
        p->tick = TIMER(replica_on_tick, p);
        replica_stop_init(p);
        replica_compaction_init(p);
        p->silence = TIMER(replica_on_silence, p);
        p->settle = DEFERRED(replica_on_flush, p);
        p->notice = DEFERRED(replica_on_notice, p);
        p->apply = DEFERRED(replica_on_apply, p);

        r = transfers_new(&p->transfers, p);
        if (r >= 0)
                r = consistency_new(&p->compare, p);
        if (r >= 0)
                r = open_all(p, join, err);
        if (r < 0 && p->damaged)
                r = replica_quarantine(p, err) < 0 ? r : 0;
        if (r < 0) {
                raft_log_close(p->log, NULL, NULL);
                replica_free(p);
                return r;
        }

        for (size_t i = 0; options->peers && i < ELEMENTS(frames); i++)
                peers_handle(options->peers, frames[i].type, frames[i].handler, p);
        replica_introduce(p);
        *ret = p;
        return 0;
}

/* A log that does not fit the state is emptied, but only when what replaces it is durable: the live tree may
 * be ahead of the log, and is whole only as long as the machine runs. In service that is there already
 * (replica_reopen.c). */
static int drop_log(Replica *p, uint64_t index, Error *err) {
        Checkpoint c = { .fd = -1 };
        int r;

        if (p->folder.checkpoint.fd < 0 || p->folder.checkpoint.meta.applied < index) {
                r = data_dir_copy(&p->folder, p->tree, &c, err);
                if (r == -EUCLEAN)
                        data_dir_distrust(&p->folder); /* what is not what was written is made again with the
                                                        next attempt */
                if (r < 0)
                        return r;
                data_dir_adopt(&p->folder, &c);
        }

        log_info(NO_FIELDS,
                 "the log does not fit the tree, which is at entry %" PRIu64 ": it begins anew behind that",
                 index);
        r = raft_log_reset(p->log, index);
        return r < 0 ? error_set(err, r, "cannot empty the log: %s", strerror(-r)) : 0;
}

static int start(Replica *p, Error *err) {
        _cleanup_(checkpoint_done) Checkpoint state = { .fd = -1 };
        RaftEntry *entries = NULL;
        RaftStateInfo info;
        const char *torn;
        uint64_t first;
        size_t n = 0;
        int r;

        r = replica_state(p, &state, err);
        if (r < 0)
                return r;
        info = p->options.apply_twice && p->folder.checkpoint.fd < 0 ? (RaftStateInfo) {} :
               p->options.apply_twice ? checkpoint_info(&p->folder.checkpoint) :
                                        checkpoint_info(&state);

        if (raft_log_torn(p->log, &torn))
                log_info(NO_FIELDS, "a write that a crash had interrupted was dropped from the log: %s",
                         torn);

        r = raft_log_take_entries(p->log, &entries, &n, &first);
        if (r < 0)
                return r;
        if (first > info.index + 1) {
                raft_log_entries_free(entries, n);
                p->damaged = true;
                return error_set(err, -EUCLEAN,
                                 "the tree in %s ends with entry %" PRIu64
                                 ", but the log begins with %" PRIu64
                                 ": something was removed; remove this host's state and let it join anew",
                                 p->folder.path, info.index, first);
        }

        r = raft_core_new(
                &(RaftCoreOptions) {
                        .id = p->identity.raft_id,
                        .address = p->options.address[0] ? p->options.address : "-",
                        .election_ms = p->options.election_ms,
                        .heartbeat_ms = p->options.heartbeat_ms,
                        .seed = (unsigned) random_u64(loop_random(p->loop)),
                },
                &replica_core_ops, p, &p->core);
        if (r >= 0) {
                RaftCoreStart start = {
                        .term = raft_log_meta(p->log)->term,
                        .vote = raft_log_meta(p->log)->vote,
                        .state = info.index > 0 ? &info : NULL,
                        .first_index = first,
                        .entries = entries,
                        .take = true,
                        .n_entries = n,
                };

                if (raft_core_log_fits(&start) == 0) {
                        start.first_index = info.index + 1;
                        start.n_entries = 0;
                        r = drop_log(p, info.index, err);
                }
                if (r >= 0) {
                        replica_enter(p);
                        r = raft_core_start(p->core, loop_now_ms(p->loop), &start);
                        p->depth = 0;
                }
        }
        raft_log_entries_free(entries, n);
        if (r < 0) {
                p->core = raft_core_free(p->core);
                if (p->folder.distrusted &&
                    !p->started) { /* at opening: there it is mended as in a replica at work */
                        replica_fail(p, r, "%s", error_text(err, r));
                        *err = (Error) {};
                        return 0;
                }
                if (p->error < 0)
                        return error_set(err, r, "%s", p->reason);
                return err && err->code < 0 ? r : error_set(err, r, "cannot start Raft: %s", strerror(-r));
        }

        p->started = true;
        if (p->folder.rotten)
                p->bytes_since = p->options.checkpoint_bytes; /* a new one is due at once */
        p->changed |= RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER | RAFT_CHANGED_CONFIGURATION;
        replica_arm(p);
        if (raft_core_is_behind(p->core))
                loop_defer(p->loop, &p->apply);
        loop_defer(p->loop, &p->settle);
        return 0;
}

int replica_start(Replica *p, Error *err) {
        int r = p->log ? start(p, err) : 0;

        p->in_service = true;
        return r;
}

int replica_join(Replica *p, const Identity *identity, Error *err) {
        bool lost = p->lost;
        int r = 0;

        if (!lost && (p->log || p->error < 0 || p->restarting))
                return error_set(err, -EALREADY, "this host is a member of a cluster already");

        if (lost)
                r = replica_set_aside(p, identity, err);
        if (r >= 0)
                r = bootstrap_join(&p->folder, p->options.log_disk, identity, p->options.log_file_size, err);
        if (r < 0 && !lost)
                return r;
        if (r >= 0)
                r = replica_open_log(p, err);
        if (r >= 0)
                r = replica_start(p, err);
        if (r >= 0 && lost)
                r = data_dir_found(
                        &p->folder); /* last: until then a crash finds what is lost, and asks once more */
        if (r < 0 && lost) {
                replica_lost_again(p);
                return r;
        }
        if (r < 0) { /* the disk says who it is: it does not ask again, but starts from there */
                p->identity = *identity;
                replica_fail(p, r, "cannot start: %s", error_text(err, r));
        }

        replica_introduce(p);
        return 0;
}

/* -- Closing -- */

static void on_closed(void *userdata) {
        Replica *p = userdata;
        void (*closed)(void *userdata) = p->closed;
        void *closed_userdata = p->closed_userdata;

        p->tree = tree_close(p->tree);
        if (p->started)
                data_dir_closed(&p->folder);
        replica_free(p);
        closed(closed_userdata);
}

static void unhandle(Replica *p) {
        static const PeerFrame frames[] = { PEER_RAFT, PEER_SNAPSHOT, PEER_SNAPSHOT_ACK, PEER_TREE };

        for (size_t i = 0; p->options.peers && i < ELEMENTS(frames); i++)
                peers_handle(p->options.peers, frames[i], NULL, NULL);
}

Replica *replica_crash(Replica *p) {
        if (!p)
                return NULL;
        unhandle(p);
        p->core = raft_core_free(p->core);
        p->log = raft_log_crash(p->log);
        p->closing_log = raft_log_crash(p->closing_log);
        return replica_free(p);
}

void replica_close(Replica *p, void (*closed)(void *userdata), void *userdata) {
        assert(!p->closing && p->depth == 0);
        p->closing = true;
        p->closed = closed;
        p->closed_userdata = userdata;
        p->closed_deferred = DEFERRED(on_closed, p);

        unhandle(p);
        data_dir_cancel(&p->folder);
        timer_stop(&p->silence);
        timer_stop(&p->forget_again);
        timer_stop(&p->tick);
        timer_stop(&p->stop_timer);
        timer_stop(&p->comeback);
        p->core = raft_core_free(p->core);
        replica_close_log(p);
        replica_close_step(p);
}
