/* One input to the core: its begin and end, and what an error in it leads to. */
#include "kvstore/raft/replica_internal.h"

static void step_stop_soon(Replica *p) {
        loop_defer(p->loop, &p->recovery.stop);
}

void replica_fail(Replica *p, int error, const char *format, ...) {
        va_list ap;

        if (p->error < 0)
                return;

        p->error = error < 0 ? error : -EIO;
        va_start(ap, format);
        vsnprintf(p->reason, sizeof(p->reason), format, ap);
        va_end(ap);

        /* Only an open core can transfer leadership. A start that is under way fails by itself, or opens
         * first. */
        if (p->state == REPLICA_OPEN)
                replica_move(p, REPLICA_FAILING);
        else if (p->state == REPLICA_WAITING || p->state == REPLICA_RESTARTING)
                replica_move(p, REPLICA_STOPPING);
        step_stop_soon(p);
}

void replica_notify_later(Replica *p, unsigned changed) {
        p->changed |= changed;
        loop_defer(p->loop, &p->flush);
}

uint64_t replica_silence_ms(const Replica *p) {
        return 2 * p->options.election_ms;
}

void replica_contact_wait(Replica *p, uint64_t last_ms) {
        uint64_t due_ms = last_ms + replica_silence_ms(p), now = loop_now_ms(p->loop);

        if (!timer_armed(&p->contact.silence))
                (void) timer_start(&p->contact.silence, p->loop, due_ms > now ? due_ms - now : 0);
}

/* Also of a host that had a vote with the last message: that message may have ended it. */
void replica_contact_watch(Replica *p) {
        if (!replica_has_vote(p) && !p->contact.silent)
                replica_contact_wait(p, loop_now_ms(p->loop));
}

/* -- Around an input -- */

void replica_arm(Replica *p) {
        uint64_t now = loop_now_ms(p->loop), due, oldest = p->log ? raft_log_oldest_write_ms(p->log) : 0;

        if (!p->core) {
                timer_stop(&p->tick);
                return;
        }

        replica_contact_watch(p);
        due = raft_core_timeout_ms(p->core);
        /* The Raft heartbeats of a leader postpone the timeout of a follower again and again. */
        if (oldest > 0)
                due = MIN(due, MAX(oldest, p->write_watch.ticked_ms) + WRITE_TICK_MS);
        if (due == UINT64_MAX) {
                timer_stop(&p->tick);
                return;
        }
        if (timer_armed(&p->tick) && p->tick.due_ms == due)
                return;
        if (timer_start(&p->tick, p->loop, due > now ? due - now : 0) < 0)
                replica_fail(p, -ENOMEM, "out of memory");
}

void replica_enter(Replica *p) {
        assert(p->depth == 0);
        p->depth = 1;
}

void replica_enter_paused(Replica *p) {
        replica_enter(p);
        p->applying.paused = true;
}

/* The core needs a new start from what is durable. A replica that fails has no leadership left to transfer.
 */
static void step_restart(Replica *p) {
        if (!replica_takes_inputs(p))
                return;
        replica_move(p, p->state == REPLICA_OPEN ? REPLICA_RESTARTING : REPLICA_STOPPING);
        step_stop_soon(p);
}

void replica_leave(Replica *p, int r) {
        p->depth = 0;
        p->applying.paused = false;

        if (r == -ERESTART)
                step_restart(p);
        else if (r == -ESHUTDOWN)
                replica_fail(p, r, "the log contradicts what the cluster has committed; " RESET_AND_REJOIN);
        else if (r < 0)
                replica_fail(p, r, "the replica cannot continue: %s", strerror(-r));
        if (r < 0 && p->state == REPLICA_TRANSFERRING)
                step_stop_soon(p); /* this core transfers nothing any more */
        if (p->core && raft_core_is_behind(p->core))
                loop_defer(p->loop, &p->applying.next);

        replica_arm(p);
}

void replica_work_ended(Replica *p) {
        if (p->state == REPLICA_CLOSING)
                loop_defer(p->loop, &p->closing.deferred);
}

void replica_replace_tree(Replica *p) {
        if (!replica_is_open(p) || replica_is_leader(p) || p->checkpoints.copying)
                return; /* the consistency check requests it again */
        p->recovery.with_received_tree = true;
        replica_move(p, REPLICA_RESTARTING);
        loop_defer(p->loop, &p->recovery.stop);
}
