/* What comes in: ticks, finished writes, frames, the door's wishes. Each is one input to the core; at its end
 * stand checkpoints and what has to be told. */
#include "kvstore/raft/replica_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"

enum {
        WRITE_MAX_MS = 10000,  /* a write that takes longer: the disk hangs */
        TICK_COUNTS_MS = 1000, /* of the time since the tick before, at most so much was the disk's */
        COPY_RETRY_MS = 10000,
};

/* -- Around an input -- */

void replica_arm(Replica *p) {
        uint64_t now = loop_now_ms(p->loop), due;

        if (!p->core || p->closing) {
                timer_stop(&p->tick);
                return;
        }

        /* Also who had a vote when he heard his leader last: that may have been its end. */
        if (!replica_has_vote(p) && !p->leader_silent && !timer_armed(&p->silence))
                (void) timer_start(&p->silence, p->loop, 2 * p->options.election_ms);

        due = raft_core_timeout_ms(p->core);
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

/* The end of an input; 'r' is the core's answer where it can end the replica, else 0. */
void replica_leave(Replica *p, int r) {
        p->depth = 0;

        if (r == -ERESTART && !p->restarting) {
                p->restarting = true;
                loop_defer(p->loop, &p->stop);
        } else if (r == -ESHUTDOWN)
                replica_fail(p, r,
                             "the log contradicts what the cluster has committed; remove this host's state "
                             "and let it join anew");
        else if (r < 0 && r != -ERESTART)
                replica_fail(p, r, "the replica cannot go on: %s", strerror(-r));
        if (r < 0 && p->stopping)
                loop_defer(p->loop, &p->stop); /* nothing will be handed over any more */
        if (p->core && raft_core_is_behind(p->core))
                loop_defer(p->loop, &p->apply);

        replica_arm(p);
}

/* -- Inputs -- */

void replica_on_tick(void *userdata) {
        Replica *p = userdata;
        uint64_t now = loop_now_ms(p->loop), oldest;

        if (!p->core || p->restarting)
                return;

        /* Counted in ticks: a span in which we stood still ourselves says nothing about the disk. */
        oldest = p->log ? raft_log_oldest_write_ms(p->log) : 0;
        if (oldest == 0 || oldest != p->write_since_ms)
                p->write_waited_ms = 0;
        else
                p->write_waited_ms += MIN(now - p->ticked_ms, (uint64_t) TICK_COUNTS_MS);
        p->write_since_ms = oldest;
        p->ticked_ms = now;
        if (p->write_waited_ms > WRITE_MAX_MS)
                replica_fail(p, -ETIMEDOUT, "a write to the log has not ended for %u s: the disk hangs",
                             WRITE_MAX_MS / 1000);

        replica_enter(p);
        replica_leave(p, raft_core_tick(p->core, now));
        replica_flush_notifications(p);
}

/* Sessions and timers have had their turn since the slice before. */
void replica_on_apply(void *userdata) {
        Replica *p = userdata;

        if (!p->core || p->restarting || p->closing)
                return;
        replica_enter(p);
        replica_leave(p, raft_core_apply(p->core, loop_now_ms(p->loop)));
        replica_flush_notifications(p);
}

void replica_on_appended(void *userdata, uint64_t generation, uint64_t last_index) {
        Replica *p = userdata;

        if (!p->core || p->restarting || p->closing)
                return;
        replica_enter(p);
        replica_leave(p, raft_core_appended(p->core, loop_now_ms(p->loop), generation, last_index));
        replica_flush_notifications(p);
}

void replica_on_log_failed(void *userdata, int error, const char *sentence) {
        replica_fail(userdata, error, "%s", sentence);
}

/* While we have failed a leader goes on to speak to our seat. */
static void overhear(Replica *p, uint64_t id, uint64_t term) {
        bool same = id == p->overheard.id && term == p->overheard.term;

        p->overheard.id = id;
        p->overheard.term = term;
        p->overheard.ms = loop_now_ms(p->loop);
        if (id != 0 && !timer_armed(&p->silence))
                (void) timer_start(&p->silence, p->loop, 2 * p->options.election_ms);
        if (same)
                return;
        p->changed |= RAFT_CHANGED_LEADER;
        loop_defer(p->loop, &p->settle);
}

void replica_on_silence(void *userdata) {
        Replica *p = userdata;
        uint64_t limit = 2 * p->options.election_ms, now = loop_now_ms(p->loop);

        if (!p->core && p->overheard.id != 0) {
                if (now < p->overheard.ms + limit) {
                        (void) timer_start(&p->silence, p->loop, p->overheard.ms + limit - now);
                        return;
                }
                overhear(p, 0, p->overheard.term);
        }
        if (!p->core || p->restarting || replica_has_vote(p))
                return;
        if (now < p->contact_ms + limit) {
                (void) timer_start(&p->silence, p->loop, p->contact_ms + limit - now);
                return;
        }
        p->leader_silent = true;
        p->changed |= RAFT_CHANGED_LEADER;
        replica_flush_notifications(p);
}

static void heard_leader(Replica *p) {
        p->contact_ms = loop_now_ms(p->loop);
        if (p->leader_silent)
                p->changed |= RAFT_CHANGED_LEADER;
        p->leader_silent = false;
        if (!timer_armed(&p->silence) && !replica_has_vote(p))
                (void) timer_start(&p->silence, p->loop, 2 * p->options.election_ms);
}

static void hold(Replica *p, uint64_t from, const char *address, const void *bytes, size_t size) {
        if (p->held || !(p->held = malloc(size)))
                return;
        memcpy(p->held, bytes, size);
        p->held_size = size;
        p->held_from = from;
        snprintf(p->held_address, sizeof(p->held_address), "%s", address);
}

static void receive(Replica *p, uint64_t from, const char *address, const void *bytes, size_t size) {
        _cleanup_(raft_message_done) RaftMessage message = {};
        int r;

        r = raft_message_decode(bytes, size, &message);
        if (r < 0) {
                log_debug(NO_FIELDS, "dropped a message of %s: %s", address, strerror(-r));
                return;
        }

        if (message.type == RAFT_MESSAGE_SNAPSHOT && p->copying) {
                /* The tree cannot be exchanged under a copy of it that is being made. */
                hold(p, from, address, bytes, size);
                return;
        }
        if (message.type == RAFT_MESSAGE_SNAPSHOT) {
                p->incoming = transfers_received(p->transfers, &message);
                if (!p->incoming && message.snapshot.index > raft_core_commit_index(p->core))
                        return;
        }

        if ((message.type == RAFT_MESSAGE_APPEND || message.type == RAFT_MESSAGE_SNAPSHOT) &&
            message.term >= raft_core_term(p->core))
                heard_leader(p);

        if (message.type == RAFT_MESSAGE_APPEND)
                replication_stats_received(&p->traffic);
        else if (message.type == RAFT_MESSAGE_APPEND_RESULT)
                replication_stats_answered(&p->traffic, from, loop_now_ms(p->loop));

        replica_enter(p);
        r = raft_core_receive(p->core, loop_now_ms(p->loop), from, address, &message);
        p->incoming = NULL;
        replica_leave(p, r);

        if (p->core && !p->restarting && p->error == 0 && raft_core_installing(p->core)) {
                replica_enter(p);
                replica_leave(p, raft_core_installed(p->core, loop_now_ms(p->loop)));
        }
        replica_flush_notifications(p);
}

void replica_on_raft(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Replica *p = userdata;
        Reader r = reader_over(payload, size);
        const char *address = peer_handshake(session)->address;
        uint64_t from;

        if (p->restarting || !replica_read_head(p, session, &r, &from))
                return;
        if (!p->core) {
                _cleanup_(raft_message_done) RaftMessage message = {};

                if (p->error == 0 || raft_message_decode(r.bytes, r.left, &message) < 0)
                        return;
                if (message.type == RAFT_MESSAGE_APPEND && message.term >= p->overheard.term)
                        overhear(p, from, message.term);
                return;
        }

        receive(p, from, address, r.bytes, r.left);
}

void replica_on_snapshot(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                         size_t size) {
        Replica *p = userdata;

        if (!p->core || p->restarting || p->error < 0)
                return;
        if (transfers_on_snapshot(p->transfers, session, payload, size))
                heard_leader(p);
}

void replica_on_snapshot_ack(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size) {
        Replica *p = userdata;

        if (p->core && !p->restarting && p->error == 0)
                transfers_on_ack(p->transfers, payload, size);
}

void replica_on_tree(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Replica *p = userdata;

        consistency_on_frame(p->compare, session, payload, size);
}

/* -- Inputs of the door -- */

int replica_submit(Replica *p, const void *bytes, size_t size, uint64_t *ret_index, uint64_t *ret_term) {
        int r;

        if (!replica_is_open(p) || p->transfer_due_ms > 0)
                return -EREMOTE;
        replica_enter(p);
        r = raft_core_submit(p->core, loop_now_ms(p->loop), bytes, size, ret_index, ret_term);
        replica_leave(p,
                      raft_core_error(p->core)); /* what was submitted is, also where this ends the replica */
        if (p->changed)
                loop_defer(p->loop, &p->settle);
        return r;
}

int replica_change(Replica *p, const RaftChange *change, Error *err) {
        uint64_t index;
        int r;

        if (!replica_is_open(p))
                return error_set(err, -EREMOTE, "this host does not lead");
        replica_enter(p);
        r = raft_core_change(p->core, loop_now_ms(p->loop), change, &index, err);
        replica_leave(p, r == -ENOMEM ? r : 0);
        loop_defer(p->loop, &p->settle);
        return r;
}

/* -- Handing over --
 *
 * The engine tells the one that shall lead as soon as everything has been sent to it, and he obeys only if
 * all of that is on his disk: under load he hardly ever does, and is told once. So nothing new is taken, and
 * he is told when he has answered for the last entry. */

static bool may_take_over(const Replica *p, const RaftServer *s) {
        return s->id != raft_core_id(p->core) && s->role == RAFT_ROLE_VOTER &&
               (p->transfer_to == 0 || s->id == p->transfer_to);
}

/* Also while it fails. */
static bool core_leads(const Replica *p) {
        return p->core && !p->restarting && !p->closing && raft_core_state(p->core) == RAFT_STATE_LEADER;
}

/* Of a leader with a transfer that is due: tells a voter that is ready. 0 also while none is. */
static int transfer_step(Replica *p) {
        const RaftServers *servers;
        uint64_t to = 0, match, now = loop_now_ms(p->loop);
        bool hopeful = false;
        int r;

        servers = raft_core_servers(p->core);
        for (size_t i = 0; i < servers->n && to == 0; i++) {
                if (!may_take_over(p, &servers->items[i]))
                        continue;
                hopeful = true;
                if (raft_core_match_index(p->core, servers->items[i].id, &match) >= 0 &&
                    match == raft_core_last_index(p->core))
                        to = servers->items[i].id;
        }
        if (to == 0 && hopeful && now < p->transfer_due_ms)
                return 0;

        p->transfer_due_ms = 0; /* with nobody ready, the engine says what is wrong, or tries what it can */
        replica_enter(p);
        r = raft_core_transfer(p->core, now, to ?: p->transfer_to);
        replica_leave(p, 0);
        loop_defer(p->loop, &p->settle);
        return r;
}

static int begin_transfer(Replica *p, uint64_t raft_id) {
        p->transfer_to = raft_id;
        p->transfer_due_ms = loop_now_ms(p->loop) + p->options.election_ms;
        return transfer_step(p);
}

int replica_transfer(Replica *p, uint64_t raft_id) {
        if (!replica_is_leader(p))
                return -EREMOTE;
        return p->transfer_due_ms > 0 ? -EBUSY : begin_transfer(p, raft_id);
}

int replica_give_up_leadership(Replica *p) {
        return !core_leads(p)                                ? -EREMOTE :
               p->transfer_due_ms > 0 && p->transfer_to == 0 ? 0 :
                                                               begin_transfer(p, 0);
}

/* -- Checkpoints -- */

static void copy_run(void *userdata) {
        Replica *p = userdata;

        p->copy_error = p->probing ? data_dir_probe(&p->folder, p->tree, &p->copy_text) :
                                     data_dir_copy(&p->folder, p->tree, &p->copied, &p->copy_text);
}

/* The core takes a checkpoint only when the log is durable up to there; until then nothing is cut. */
static void tell_checkpoint(Replica *p) {
        const Checkpoint *c = &p->folder.checkpoint;
        RaftStateInfo info;
        uint64_t keep;
        int r;

        if (p->copy_told || !p->core || p->restarting || p->error < 0)
                return;

        info = checkpoint_info(c);
        replica_enter(p);
        r = raft_core_checkpointed(p->core, loop_now_ms(p->loop), &info, replica_trailing(p, info.index));
        replica_leave(p, r == -EAGAIN || r == -ESTALE ? 0 : r);
        if (r < 0 && r != -ESTALE)
                return;

        p->copy_told = true;
        if (r == -ESTALE) {
                replica_checkpoint(p);
                return;
        }
        keep = MIN(p->previous_checkpoint, c->meta.applied > p->options.checkpoint_kept ?
                                                   c->meta.applied - p->options.checkpoint_kept :
                                                   0);
        if (keep > 0 && p->log)
                (void) raft_log_cut(p->log, keep); /* a failed write reports itself */
}

/* The last close of a file without a name frees its blocks: 30 ms for 150 MB. */
static void drop_run(void *userdata) {
        Replica *p = userdata;

        close(TAKE_FD(p->drop_fd));
}

static void drop_done(void *userdata) {
        Replica *p = userdata;

        p->dropping = false;
        replica_work_ended(p);
}

/* The new checkpoint takes the old one's place. */
static void adopt_copied(Replica *p) {
        if (!p->dropping)
                p->drop_fd = TAKE_FD(p->folder.checkpoint.fd);
        data_dir_adopt(&p->folder, &p->copied);
        if (p->dropping || p->drop_fd < 0)
                return;

        p->drop_work =
                (Work) { .name = LOOP_NAME(drop_done), .work = drop_run, .done = drop_done, .userdata = p };
        if (loop_work(p->loop, &p->drop_work) < 0)
                close(TAKE_FD(p->drop_fd));
        else
                p->dropping = true;
}

static void copy_done(void *userdata) {
        Replica *p = userdata;
        _cleanup_free_ void *held = TAKE_PTR(p->held);

        p->copying = false;
        if (p->closing) {
                checkpoint_done(&p->copied);
                replica_close_step(p);
                return;
        }

        if (p->copy_error < 0) {
                log_warning(((LogFields) { .error = p->copy_error }), "%s: %s",
                            p->probing ? "the tree cannot be looked at" : "no checkpoint",
                            error_text(&p->copy_text, p->copy_error));
                p->copy_retry_ms = loop_now_ms(p->loop) + COPY_RETRY_MS;
                if (p->copy_error ==
                    -EUCLEAN) { /* what was copied, or the copy: in either case there is a better one */
                        data_dir_distrust(&p->folder);
                        replica_fail(p, -EUCLEAN, "%s", error_text(&p->copy_text, p->copy_error));
                }
        } else if (p->probing)
                log_notice(NO_FIELDS, "the tree of this host holds what was written to it");
        else {
                log_debug(NO_FIELDS, "checkpoint of entry %" PRIu64 ", %" PRIu64 " bytes",
                          p->copied.meta.applied, p->copied.size);
                p->previous_checkpoint = p->folder.checkpoint.fd >= 0 ? p->folder.checkpoint.meta.applied : 0;
                p->copy_told = false;
                adopt_copied(p);
        }

        if (held && p->core && !p->restarting)
                receive(p, p->held_from, p->held_address, held, p->held_size);
        else
                replica_flush_notifications(p);
        if (p->core)
                transfers_step(p->transfers);
}

static void copy(Replica *p, bool probing) {
        p->copied = (Checkpoint) { .fd = -1 };
        p->copy_text = (Error) {};
        p->copy_work = (Work) { .name = LOOP_NAME(copy_done),
                                .work = copy_run,
                                .done = copy_done,
                                .userdata = p,
                                .nice = WORK_NICE_PATIENT };
        p->probing = probing;
        if (loop_work(p->loop, &p->copy_work) < 0) {
                p->copy_retry_ms = loop_now_ms(p->loop) + COPY_RETRY_MS;
                return;
        }
        p->copying = true;
        if (!probing)
                p->entries_since = p->bytes_since = 0;
}

static bool may_copy(const Replica *p) {
        return !p->copying && p->tree && replica_is_open(p);
}

void replica_checkpoint(Replica *p) {
        if (!may_copy(p) || loop_now_ms(p->loop) < p->copy_retry_ms || consistency_differs(p->compare) ||
            consistency_undecided(p->compare))
                return;

        copy(p, false);
}

void replica_probe(Replica *p) {
        if (may_copy(p))
                copy(p, true);
}

static void maybe_checkpoint(Replica *p) {
        bool by_bytes = p->bytes_since >= p->options.checkpoint_bytes;
        bool by_entries = p->entries_since >= p->options.checkpoint_entries;

        if (p->copying || !p->tree)
                return;

        /* A copy costs the whole tree: a large one waits until the log has grown in proportion. */
        if (by_bytes || (by_entries && p->bytes_since >= tree_file_size(p->tree) / 8))
                replica_checkpoint(p);
}

/* -- Telling -- */

void replica_flush_notifications(Replica *p) {
        unsigned changed;

        if (p->closing)
                return;

        if (!core_leads(p))
                p->transfer_due_ms = 0;
        if (p->transfer_due_ms > 0)
                (void) transfer_step(p);
        if (p->core && !p->restarting && p->error == 0) {
                if (!consistency_differs(p->compare) && !consistency_undecided(p->compare)) {
                        tell_checkpoint(p);
                        maybe_checkpoint(p);
                }
                replica_compact(p);
                if (p->changed)
                        transfers_step(p->transfers);
        }

        if (p->error < 0 && p->stopping && p->core && raft_core_state(p->core) != RAFT_STATE_LEADER)
                loop_defer(p->loop, &p->stop);

        changed = p->changed;
        p->changed = 0;
        consistency_settled(p->compare, changed);
        p->options.events.settled(p->options.events.userdata, changed);
        if (replica_is_leader(
                    p)) /* behind what 'settled' has deferred: new entries carry the commit index, too */
                loop_defer(p->loop, &p->notice);
}

void replica_on_flush(void *userdata) {
        replica_flush_notifications(userdata);
}

/* -- Work in flight -- */

void replica_close_step(Replica *p) {
        if (p->pending > 0 || p->copying || p->dropping || p->reopening.running ||
            transfers_busy(p->transfers))
                return;
        loop_defer(p->loop, &p->closed_deferred);
}

void replica_work_ended(Replica *p) {
        if (p->closing)
                replica_close_step(p);
}
