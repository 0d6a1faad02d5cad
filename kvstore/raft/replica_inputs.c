/* Inputs to the core: ticks, finished writes, frames, proposals. */
#include "kvstore/raft/replica_internal.h"

#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"

/* A leader soon sends nothing more to a replica that does not write, which cannot renew the lease of
 * singletons then. Of the 10 s of a lease, the last renewal may have used 2, and the host waits for 2 before
 * it leaves a failed replica; one is left for attaching. A lower limit would take a slow disk for one that
 * hangs: a write of a few seconds happens on a loaded host. The pauses of replica_recovery.c bound how often
 * a disk that exceeds the limit again and again fails the replica. */
enum { WRITE_MAX_MS = 5000 };

/* -- Notifications -- */

void replica_flush_notifications(Replica *p) {
        unsigned changed;

        if (p->state == REPLICA_CLOSING)
                return;

        replica_transfer_step(p);
        if (replica_is_open(p)) {
                replica_checkpoints_step(p);
                replica_compact(p);
                if (p->changed)
                        transfers_step(p->transfers);
        }
        if (p->state == REPLICA_TRANSFERRING && raft_core_state(p->core) != RAFT_STATE_LEADER)
                loop_defer(p->loop, &p->recovery.stop);

        changed = p->changed;
        p->changed = 0;
        consistency_on_flush(p->consistency, changed);
        replica_notify(p, changed, false);
        replica_send_notices(
                p); /* after what the owner has deferred: new entries carry the commit index, too */
}

/* -- Time and disk -- */

/* Count only time between ticks, of each at most WRITE_TICK_MS: a stall of this process is no evidence about
 * the disk. */
static void inputs_watch_write(Replica *p, uint64_t now) {
        WriteWatch *w = &p->write_watch;
        uint64_t oldest = p->log ? raft_log_oldest_write_ms(p->log) : 0;

        if (oldest != w->since_ms) {
                w->waited_ms = 0;
                w->ticked_ms = oldest;
        }
        if (oldest > 0)
                w->waited_ms += MIN(now - w->ticked_ms, (uint64_t) WRITE_TICK_MS);
        w->since_ms = oldest;
        w->ticked_ms = now;
        if (w->waited_ms >= WRITE_MAX_MS)
                replica_fail(p, -ETIMEDOUT, "a write to the log has not completed for %u s: the disk hangs",
                             WRITE_MAX_MS / 1000);
}

void replica_forget_writes(Replica *p) {
        p->write_watch.since_ms = p->write_watch.waited_ms = 0;
}

static void inputs_on_tick(void *userdata) {
        Replica *p = userdata;
        uint64_t now = loop_now_ms(p->loop);

        if (!replica_takes_inputs(p))
                return;
        inputs_watch_write(p, now);
        replica_enter(p);
        replica_leave(p, raft_core_tick(p->core, now));
        replica_flush_notifications(p);
}

/* The next slice of committed entries; sessions and timers have run since the last one. */
static void inputs_on_apply(void *userdata) {
        Replica *p = userdata;

        if (!replica_takes_inputs(p))
                return;
        replica_enter(p);
        replica_leave(p, raft_core_apply(p->core, loop_now_ms(p->loop)));
        replica_flush_notifications(p);
}

void replica_on_appended(void *userdata, uint64_t generation, uint64_t last_index) {
        Replica *p = userdata;

        if (!replica_takes_inputs(p))
                return;
        replica_enter(p);
        replica_leave(p, raft_core_appended(p->core, loop_now_ms(p->loop), generation, last_index));
        replica_flush_notifications(p);
}

void replica_on_log_failed(void *userdata, int error, const char *message) {
        replica_fail(userdata, error, "%s", message);
}

/* -- Frames -- */

/* The tree cannot be replaced while a copy of it is being made: keep the first snapshot message until then.
 */
static void inputs_defer_snapshot(Replica *p, uint64_t from, const char *address, const void *bytes,
                                  size_t size) {
        DeferredSnapshot *d = &p->deferred;

        if (d->bytes || !(d->bytes = malloc(size)))
                return;
        memcpy(d->bytes, bytes, size);
        d->size = size;
        d->from = from;
        snprintf(d->address, sizeof(d->address), "%s", address);
}

static void inputs_count(Replica *p, uint64_t from, const RaftMessage *message) {
        bool append = message->type == RAFT_MESSAGE_APPEND;

        if ((append || message->type == RAFT_MESSAGE_SNAPSHOT) && message->term >= raft_core_term(p->core))
                replica_on_leader_message(p);
        if (append)
                replication_stats_received(&p->stats);
        else if (message->type == RAFT_MESSAGE_APPEND_RESULT)
                replication_stats_answered(&p->stats, from, loop_now_ms(p->loop));
}

/* Return false if the message is dropped or deferred: nothing was reported. */
static bool inputs_receive(Replica *p, uint64_t from, const char *address, const void *bytes, size_t size) {
        _cleanup_(raft_message_done) RaftMessage message = {};
        int r;

        r = raft_message_decode(bytes, size, &message);
        if (r < 0) {
                log_debug(NO_FIELDS, "dropped a message of %s: %s", address, strerror(-r));
                return false;
        }

        if (message.type == RAFT_MESSAGE_SNAPSHOT && p->checkpoints.copying) {
                inputs_defer_snapshot(p, from, address, bytes, size);
                return false;
        }
        if (message.type == RAFT_MESSAGE_SNAPSHOT) {
                p->incoming = transfers_received(p->transfers, &message);
                if (!p->incoming && message.snapshot.index > raft_core_commit_index(p->core))
                        return false;
        }
        inputs_count(p, from, &message);

        replica_enter(p);
        r = raft_core_receive(p->core, loop_now_ms(p->loop), from, address, &message);
        p->incoming = NULL;
        replica_leave(p, r);

        if (replica_is_open(p) && raft_core_installing(p->core)) {
                replica_enter(p);
                replica_leave(p, raft_core_installed(p->core, loop_now_ms(p->loop)));
        }
        replica_flush_notifications(p);
        return true;
}

static void inputs_on_flush(void *userdata) {
        Replica *p = userdata;
        DeferredSnapshot deferred = p->deferred;

        if (!deferred.bytes || p->checkpoints.copying) {
                replica_flush_notifications(p);
                return;
        }
        p->deferred = (DeferredSnapshot) {};
        if (!replica_takes_inputs(p) ||
            !inputs_receive(p, deferred.from, deferred.address, deferred.bytes, deferred.size))
                replica_flush_notifications(p);
        free(deferred.bytes);
}

static void inputs_on_raft(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Replica *p = userdata;
        Reader r = reader_over(payload, size);
        _cleanup_(raft_message_done) RaftMessage message = {};
        uint64_t from;

        if (!replica_read_head(p, session, &r, &from))
                return;
        if (replica_takes_inputs(p)) {
                (void) inputs_receive(p, from, peer_handshake(session)->address, r.bytes, r.left);
                return;
        }
        if (p->core || p->error == 0 || raft_message_decode(r.bytes, r.left, &message) < 0)
                return;
        if (message.type == RAFT_MESSAGE_APPEND)
                replica_observe_leader(p, from, message.term);
}

static void inputs_on_snapshot(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                               size_t size) {
        Replica *p = userdata;

        if (replica_is_open(p) && transfers_on_snapshot(p->transfers, session, payload, size))
                replica_on_leader_message(p);
}

static const PeerFrameType frame_types[] = {
        { PEER_RAFT, inputs_on_raft },
        { PEER_SNAPSHOT, inputs_on_snapshot },
        { PEER_SNAPSHOT_ACK, transfers_on_ack },
        { PEER_TREE, consistency_on_frame },
};

void replica_handle_frames(Replica *p, bool handle) {
        if (!p->options.peers)
                return;
        if (handle)
                peers_register(p->options.peers, frame_types, ELEMENTS(frame_types), p);
        else
                peers_unregister(p->options.peers, frame_types, ELEMENTS(frame_types));
}

/* -- Inputs of the owner -- */

int replica_submit(Replica *p, const void *bytes, size_t size, uint64_t *ret_index, uint64_t *ret_term) {
        int r;

        if (!replica_is_open(p) || replica_is_transferring(p))
                return -EREMOTE;
        replica_enter_paused(p);
        r = raft_core_submit(p->core, loop_now_ms(p->loop), bytes, size, ret_index, ret_term);
        replica_leave(
                p, raft_core_error(p->core)); /* the entry is submitted even if this error ends the replica */
        if (p->changed)
                replica_notify_later(p, 0);
        return r;
}

int replica_change(Replica *p, const RaftChange *change, Error *err) {
        uint64_t index;
        int r;

        if (!replica_is_open(p))
                return error_set(err, -EREMOTE, "this host does not lead");
        replica_enter_paused(p);
        r = raft_core_change(p->core, loop_now_ms(p->loop), change, &index, err);
        replica_leave(p, r == -ENOMEM ? r : 0);
        replica_notify_later(p, 0);
        return r;
}

void replica_inputs_init(Replica *p) {
        p->tick = TIMER(inputs_on_tick, p);
        p->flush = DEFERRED(inputs_on_flush, p);
        p->applying.next = DEFERRED(inputs_on_apply, p);
}
