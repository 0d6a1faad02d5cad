/* How a replica ends, and how it comes back by itself.
 *
 * A write that failed is not retried: page cache and disk may differ. The replica hands over if it leads,
 * closes core and log, and its tree can be read as it was. Then it looks, with growing pauses, whether the
 * disk works again (a full one: whether there is room with a reserve), and begins anew from what the disk
 * says, in the same daemon. A tree that failed is made again of checkpoint and log; until the new one is as
 * far as the old one was, the old one is shown. */
#include "kvstore/raft/replica_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"

enum {
        HAND_OVER_MS = 1000,
        PROBE_MS = 500, /* from the failure to the first attempt; doubled with each one that fails ... */
        PROBE_MAX_MS = 10000,
        STEADY_MS = 60000, /* ... and with each failure within this time after coming back */
        LOOK_MS = 100,     /* while something of the old life is in flight */
};

static const uint64_t RESERVE = 64 * 1024 *
                                1024; /* room on a disk that was full, or an eighth of a small one */

static void on_log_closed(void *userdata);

void replica_close_log(Replica *p) {
        RaftLog *log = TAKE_PTR(p->log);

        if (!log)
                return;
        p->pending++;
        p->closing_log = log;
        raft_log_close(log, on_log_closed, p); /* which may come at once */
}

/* -- Trees: the one that is applied to, and the one that is shown -- */

static void show(Replica *p) {
        p->shown = tree_close(p->shown);
        if (p->shown_wrong)
                p->options.events.replaced(p->options.events.userdata);
        p->shown_wrong = false;
}

void replica_caught_up(Replica *p, uint64_t applied) {
        if (p->shown && applied >= p->shown_applied)
                show(p);
}

/* Takes 'tree', which may be older than ours; 'wrong': ours did not say what it should; 'taken': it is a
 * leader's. */
static int exchange_tree(Replica *p, Tree *tree, bool wrong, bool taken) {
        uint64_t applied;
        int r;

        if (!p->shown && p->tree && replica_tree_applied(p->tree, &p->shown_applied) >= 0) {
                p->shown = TAKE_PTR(p->tree);
                p->shown_wrong = false;
        }
        p->shown_wrong |= wrong;
        p->tree = tree_close(p->tree);
        p->tree = tree;
        consistency_tree_replaced(p->compare, taken);

        r = replica_tree_applied(tree, &applied);
        if (r < 0)
                return r;
        if (!p->shown || applied > p->shown_applied) {
                p->shown_wrong = true; /* nobody was told what lies between */
                show(p);
        } else
                replica_caught_up(p, applied);
        return 0;
}

/* -- The end -- */

static void arm_comeback(Replica *p) {
        uint64_t pause_ms = PROBE_MS << MIN(p->n_attempts, 5u);

        p->n_attempts++;
        (void) timer_start(&p->comeback, p->loop, MIN(pause_ms, (uint64_t) PROBE_MAX_MS));
}

static void stop_now(Replica *p) {
        timer_stop(&p->silence);
        timer_stop(&p->stop_timer);
        timer_stop(&p->tick);
        if (p->core)
                p->durable_index = raft_core_stored_index(p->core);
        p->overheard.id = 0;
        p->overheard.term = p->core ? MAX(raft_core_term(p->core), p->overheard.term) : p->overheard.term;
        p->core = raft_core_free(p->core);
        replica_close_log(p);

        if (p->told_failed)
                return;
        p->told_failed = true;
        p->changed = 0;
        if (loop_now_ms(p->loop) > p->back_ms + STEADY_MS)
                p->n_attempts = 0;
        if (p->error != -ENOTSUP) /* what this program does not know it will not know later */
                arm_comeback(p);
        p->options.events.settled(p->options.events.userdata, RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER);
        p->options.events.failed(p->options.events.userdata, p->error, p->reason);
}

static void on_stop_timer(void *userdata) {
        stop_now(userdata);
}

/* Starts Raft from what was read. */
static int begin_again(Replica *p, Error *err) {
        uint64_t applied = 0;
        int r;

        r = replica_take_reopened(p, err);
        if (r >= 0)
                r = replica_tree_applied(p->tree, &applied);
        if (r >= 0 && MAX(raft_log_last_index(p->log), applied) < p->durable_index) {
                p->damaged = true;
                return error_set(err, -EUCLEAN,
                                 "the log ends with entry %" PRIu64 ", but entries up to %" PRIu64
                                 " had been acknowledged",
                                 raft_log_last_index(p->log), p->durable_index);
        }
        return r < 0 ? r : replica_start(p, err);
}

static int take_received(Replica *p, Error *err) {
        Checkpoint *received = transfers_whole(p->transfers);
        Tree *tree = NULL;
        int r;

        if (!received)
                return 0; /* with the one we have, until there is another */
        r = data_dir_install(&p->folder, received, true, &tree, err);
        if (r < 0) {
                data_dir_distrust(&p->folder);
                return r;
        }
        p->copy_told = true;
        p->previous_checkpoint = p->folder.checkpoint.meta.applied;
        p->entries_since = p->bytes_since = 0;
        log_notice(NO_FIELDS, "this host has the leader's tree of entry %" PRIu64 " now",
                   p->previous_checkpoint);
        transfers_drop(p->transfers);
        return exchange_tree(p, tree, true, true);
}

static void restarted(Replica *p, int r, const Error *err) {
        p->restarting = false;
        if (r < 0)
                replica_fail(p, r, "cannot start again: %s", error_text(err, r));
        else
                replica_flush_notifications(p);
}

static void on_restart_read(Replica *p) {
        Error err = {};
        int r;

        if (p->error < 0) /* meanwhile: it comes back as after any failure */
                return;
        r = begin_again(p, &err);
        restarted(p, r, &err);
}

static void on_log_closed(void *userdata) {
        Replica *p = userdata;
        Error err = {};
        int r = 0;

        p->closing_log = NULL;
        p->pending--;
        if (p->closing) {
                replica_close_step(p);
                return;
        }
        if (p->error < 0)
                return;

        if (p->exchange) {
                r = take_received(p, &err);
                replica_flush_notifications(p);
        }
        p->exchange = false;
        if (r >= 0)
                r = replica_reopen(p, false, on_restart_read, &err);
        if (r < 0)
                restarted(p, r, &err);
}

/* Deferred: the replica has failed, or has to begin again from what is durable. */
static void on_stop(void *userdata) {
        Replica *p = userdata;

        if (p->closing)
                return;

        if (p->error == 0 && p->restarting) {
                if (!p->exchange)
                        log_notice(NO_FIELDS, "leadership was lost during a promotion: starting again from "
                                              "what is durable");
                /* What was held back in a promotion never was acknowledged. */
                p->durable_index = p->exchange && p->core ? raft_core_stored_index(p->core) : 0;
                p->core = raft_core_free(p->core);
                /* Told now: the log closes when its write has ended, and the disk may hang. */
                p->changed = 0;
                p->options.events.settled(p->options.events.userdata,
                                          RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER);
                replica_close_log(p);
                return;
        }

        if (!p->stopping) {
                p->stopping = true;
                if (replica_give_up_leadership(p) >= 0 &&
                    timer_start(&p->stop_timer, p->loop, HAND_OVER_MS) >= 0)
                        return;
        }
        stop_now(p);
}

void replica_replace_tree(Replica *p) {
        if (!replica_is_open(p) || replica_is_leader(p) || p->copying)
                return; /* it will be asked for again */
        p->restarting = p->exchange = true;
        loop_defer(p->loop, &p->stop);
}

/* -- Coming back -- */

static int check_room(Replica *p, Error *err) {
        uint64_t room[2], total[2], need;
        Disk *disk = p->options.log_disk;
        int r;

        if (p->error != -ENOSPC && p->error != -EDQUOT)
                return 0;
        r = disk->ops->space(disk, &room[0], &total[0]);
        if (r >= 0)
                r = data_dir_space(&p->folder, &room[1], &total[1]);
        if (r < 0)
                return error_set(err, r, "cannot ask for the room on the disk: %s", strerror(-r));
        for (size_t i = 0; i < ELEMENTS(room); i++) {
                need = MIN(RESERVE, total[i] / 8);
                if (i == 1 && p->folder.distrusted && p->folder.checkpoint.fd >= 0)
                        need += p->folder.checkpoint.size;
                if (room[i] < need)
                        return error_set(err, p->error,
                                         "the disk of %s is full: %" PRIu64 " of %" PRIu64
                                         " KiB are free, it goes on when it are %" PRIu64,
                                         p->folder.path, room[i] / 1024, total[i] / 1024, need / 1024);
        }
        return 0;
}

static void did_not_begin(Replica *p, int error) {
        deferred_cancel(&p->stop);
        timer_stop(&p->tick);
        p->core = raft_core_free(p->core);
        p->error = error;
        replica_close_log(p);
}

/* The tree that was rebuilt takes the place of the one that failed, also if what follows it cannot be read.
 */
static int take_rebuilt(Replica *p, Error *err) {
        Reopening *o = &p->reopening;

        if (o->rotten)
                data_dir_forget_checkpoint(&p->folder);
        if (!o->rebuild)
                return 0;
        if (!o->tree) {
                p->damaged = o->damaged;
                return error_set(err, o->error, "%s", error_text(&o->text, o->error));
        }
        data_dir_rebuilt(&p->folder);
        return exchange_tree(p, TAKE_PTR(o->tree), p->error == -EUCLEAN, false);
}

static int come_back(Replica *p, Error *err) {
        int r;

        p->damaged = false;
        r = take_rebuilt(p, err);
        if (r < 0)
                return r;

        p->error = 0;
        p->write_since_ms = p->write_waited_ms = 0;
        r = begin_again(p, err);
        if (r >= 0)
                return 0;

        if (p->error < 0) /* what failed inside has said so itself */
                error_set(err, p->error, "%s", p->reason);
        did_not_begin(p, r);
        return r;
}

static void begun(Replica *p) {
        p->told_failed = p->stopping = p->restarting = p->leader_silent = false;
        p->back_ms = loop_now_ms(p->loop);
}

/* 'r': of the attempt that is over. */
static void attempted(Replica *p, int r, Error *err) {
        if (r < 0 && p->damaged && replica_quarantine(p, err) >= 0)
                ; /* it does not come back as it was */
        else if (r < 0) {
                bool changed = !streq(p->reason, error_text(err, r));

                snprintf(p->reason, sizeof(p->reason), "%s", error_text(err, r));
                if (changed)
                        log_warning(((LogFields) { .error = r }), "the replica cannot come back yet: %s",
                                    p->reason);
                arm_comeback(p);
        } else {
                log_notice(NO_FIELDS, "this host's replica works again, from entry %" PRIu64 " of its log",
                           raft_log_last_index(p->log));
                begun(p);
        }
        p->changed |= RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER;
        replica_flush_notifications(p);
}

static void on_comeback_read(Replica *p) {
        Error err = {};
        int r = come_back(p, &err);

        attempted(p, r, &err);
}

static bool is_at_rest(const Replica *p) {
        return p->pending == 0 && !p->copying && !p->reopening.running && !transfers_busy(p->transfers);
}

static void on_comeback(void *userdata) {
        Replica *p = userdata;
        Error err = {};
        int r;

        if (p->closing || p->lost)
                return;
        if (!is_at_rest(p)) {
                (void) timer_start(&p->comeback, p->loop, LOOK_MS);
                return;
        }
        transfers_drop(p->transfers); /* it takes room, and belongs to the life before */

        p->damaged = false;
        r = check_room(p, &err);
        if (r >= 0 && !p->tree)
                data_dir_distrust(&p->folder);
        if (r >= 0 && p->folder.distrusted)
                log_notice(NO_FIELDS, "making the tree in %s again, of its checkpoint and the log",
                           p->folder.path);
        if (r >= 0)
                r = replica_reopen(p, p->folder.distrusted, on_comeback_read, &err);
        if (r < 0)
                attempted(p, r, &err);
}

/* -- What was acknowledged is gone: never under the old id -- */

static bool has_others(Replica *p) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        RaftServers servers = {};
        KvBytes bytes;
        bool others;

        if (!p->options.peers || !p->options.address[0])
                return false;
        if (p->knows_others)
                return true;
        if (!p->tree || tree_begin_read(p->tree, &txn) < 0 || tree_configuration(txn, &bytes) < 0 ||
            bytes.size == 0 || raft_configuration_decode_servers(bytes.data, bytes.size, &servers) < 0)
                return false;
        others = servers.n > 1;
        raft_servers_done(&servers);
        return others;
}

int replica_quarantine(Replica *p, Error *err) {
        Identity identity = {};
        int r;

        if (!replica_serving(p) || !has_others(p))
                return -EUCLEAN;
        r = data_dir_read_identity(&p->folder, &identity.cluster_id, &identity.lineage);
        if (r >= 0)
                r = data_dir_quarantine(&p->folder, error_text(err, -EUCLEAN));
        if (r < 0)
                return r;

        p->identity = identity; /* without an id: nothing that is sent to the old one is for us */
        p->lost = p->told_failed = true;
        p->error = -EUCLEAN;
        snprintf(p->reason, sizeof(p->reason), "%s", error_text(err, -EUCLEAN));
        log_error(((LogFields) { .error = p->error }),
                  "this host's replica is lost: %s; it does not vote any more, and asks to be let in under "
                  "another id; "
                  "where too few are left to vote: fleetd --recover on a host whose log is whole",
                  p->reason);
        replica_introduce(p);
        return 0;
}

int replica_set_aside(Replica *p, const Identity *identity, Error *err) {
        Tree *tree = NULL;
        int r;

        if (identity->cluster_id != p->identity.cluster_id || identity->lineage != p->identity.lineage)
                return error_set(err, -EXDEV,
                                 "this host belongs to another cluster, or to another lineage of it");
        if (!is_at_rest(p))
                return error_set(err, -EBUSY, "the replica that is lost has not ended yet");

        r = bootstrap_set_aside(p->options.log_disk, err);
        if (r >= 0)
                r = data_dir_set_aside(&p->folder, &tree, err);
        if (r >= 0)
                r = exchange_tree(p, tree, true, false);
        if (r < 0)
                return r;

        log_notice(NO_FIELDS,
                   "what this host's replica had is kept in %s/old, and in files old.* beside the new log",
                   p->folder.path);
        p->lost = false;
        p->error = 0;
        p->durable_index = p->previous_checkpoint = p->entries_since = p->bytes_since = 0;
        p->write_since_ms = p->write_waited_ms = 0;
        p->copy_told = true;
        begun(p);
        return 0;
}

void replica_lost_again(Replica *p) {
        did_not_begin(p, -EUCLEAN);
        p->identity.raft_id = 0;
        p->lost = p->told_failed = true;
}

void replica_stop_init(Replica *p) {
        p->stop = DEFERRED(on_stop, p);
        p->stop_timer = TIMER(on_stop_timer, p);
        p->comeback = TIMER(on_comeback, p);
}

void replica_stop_done(Replica *p) {
        deferred_cancel(&p->stop);
        timer_stop(&p->stop_timer);
        timer_stop(&p->comeback);
        p->shown = tree_close(p->shown);
}
