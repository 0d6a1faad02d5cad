#include "kvstore/raft/replica.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "kvstore/apply.h"
#include "kvstore/raft/transfer.h"

enum {
        WRITE_MAX_MS = 10000,      /* a write that takes longer: the disk hangs */
        TICK_COUNTS_MS = 1000,     /* of the time since the tick before, at most so much was the disk's */
        HAND_OVER_MS = 1000,
        COPY_RETRY_MS = 10000,
        CHUNK_ENTRIES = 256,       /* of one transaction */
        CHUNK_BYTES = 4 * 1024 * 1024,
};

static void settle_now(Replica *p);
static void close_step(Replica *p);
static void on_log_closed(void *userdata);

/* -- Inputs -- */

static void arm(Replica *p) {
        uint64_t now = loop_now_ms(p->loop), due;

        if (!p->core || p->closing) {
                timer_stop(&p->tick);
                return;
        }

        due = raft_core_timeout_ms(p->core);
        if (timer_armed(&p->tick) && p->tick.due_ms == due)
                return;
        if (timer_start(&p->tick, p->loop, due > now ? due - now : 0) < 0)
                replica_fail(p, -ENOMEM, "out of memory");
}

static void enter(Replica *p) {
        assert(p->depth == 0);
        p->depth = 1;
}

/* The end of an input; 'r' is the core's answer where it can end the replica, else 0. */
static void leave(Replica *p, int r) {
        p->depth = 0;

        if (r == -ERESTART && !p->restarting) {
                p->restarting = true;
                loop_defer(p->loop, &p->stop);
        } else if (r == -ESHUTDOWN)
                replica_fail(p, r, "the log contradicts what the cluster has committed; remove this host's state and let it join anew");
        else if (r < 0 && r != -ERESTART)
                replica_fail(p, r, "the replica cannot go on: %s", strerror(-r));

        arm(p);
}

static void on_tick(void *userdata) {
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
                replica_fail(p, -ETIMEDOUT, "a write to the log has not ended for %u s: the disk hangs", WRITE_MAX_MS / 1000);

        enter(p);
        leave(p, raft_core_tick(p->core, now));
        settle_now(p);
}

static void on_appended(void *userdata, uint64_t generation, uint64_t last_index) {
        Replica *p = userdata;

        if (!p->core || p->restarting || p->closing)
                return;
        enter(p);
        leave(p, raft_core_appended(p->core, loop_now_ms(p->loop), generation, last_index));
        settle_now(p);
}

static void on_log_failed(void *userdata, int error, const char *sentence) {
        replica_fail(userdata, error, "%s", sentence);
}

static bool has_vote(const Replica *p) {
        return raft_core_role(p->core) == RAFT_ROLE_VOTER;
}

static void on_silence(void *userdata) {
        Replica *p = userdata;
        uint64_t limit = 2 * p->options.election_ms, now = loop_now_ms(p->loop);

        if (!p->core || p->restarting || has_vote(p))
                return;
        if (now < p->heard_ms + limit) {
                (void) timer_start(&p->silence, p->loop, p->heard_ms + limit - now);
                return;
        }
        p->leader_silent = true;
        p->changed |= RAFT_CHANGED_LEADER;
        settle_now(p);
}

static void heard_leader(Replica *p) {
        p->heard_ms = loop_now_ms(p->loop);
        if (p->leader_silent)
                p->changed |= RAFT_CHANGED_LEADER;
        p->leader_silent = false;
        if (!timer_armed(&p->silence) && !has_vote(p))
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
        RaftMessage message;
        int r;

        r = raft_message_decode(bytes, size, &message);
        if (r < 0) {
                log_debug(NO_FIELDS, "dropped a message of %s: %s", address, strerror(-r));
                return;
        }

        if (message.type == RAFT_MESSAGE_SNAPSHOT && p->copying) {
                /* The tree cannot be exchanged under a copy of it that is being made. */
                hold(p, from, address, bytes, size);
                raft_message_done(&message);
                return;
        }
        if (message.type == RAFT_MESSAGE_SNAPSHOT) {
                p->incoming = transfers_received(p->transfers, &message);
                if (!p->incoming && message.snapshot.index > raft_core_commit_index(p->core)) {
                        raft_message_done(&message);
                        return;
                }
        }

        if ((message.type == RAFT_MESSAGE_APPEND || message.type == RAFT_MESSAGE_SNAPSHOT) && message.term >= raft_core_term(p->core))
                heard_leader(p);

        enter(p);
        r = raft_core_receive(p->core, loop_now_ms(p->loop), from, address, &message);
        p->incoming = NULL;
        leave(p, r);
        raft_message_done(&message);

        if (p->core && !p->restarting && p->error == 0 && raft_core_installing(p->core)) {
                enter(p);
                leave(p, raft_core_installed(p->core, loop_now_ms(p->loop)));
        }
        settle_now(p);
}

static void on_raft(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Replica *p = userdata;
        Reader r = reader_over(payload, size);
        const char *address = peer_hello(session)->address;
        uint64_t from;

        if (!p->core || p->restarting || !replica_read_head(p, session, &r, &from))
                return;

        receive(p, from, address, r.bytes, r.left);
}

static void on_bulk(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Replica *p = userdata;

        if (!p->core || p->restarting || p->error < 0)
                return;
        if (transfers_on_bulk(p->transfers, session, payload, size))
                heard_leader(p);
}

static void on_bulk_ack(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Replica *p = userdata;

        if (p->core && !p->restarting && p->error == 0)
                transfers_on_ack(p->transfers, payload, size);
}

/* -- What the core asks for -- */

/* A log that does not fit the state is emptied, but only when what replaces it is durable: the live tree may be ahead of the
 * log, and is whole only as long as the machine runs. */
static int drop_log(Replica *p, uint64_t index, Error *err) {
        Checkpoint c = { .fd = -1 };
        int r;

        if (p->folder.checkpoint.fd < 0 || p->folder.checkpoint.meta.applied < index) {
                r = folder_copy(&p->folder, p->tree, &c, err);
                if (r < 0)
                        return r;
                folder_adopt(&p->folder, &c);
        }

        log_info(NO_FIELDS, "the log does not fit the tree, which is at entry %" PRIu64 ": it begins anew behind that", index);
        r = raft_log_reset(p->log, index);
        return r < 0 ? error_set(err, r, "cannot empty the log: %s", strerror(-r)) : 0;
}

static int op_write_meta(void *userdata, uint64_t term, uint64_t vote) {
        Replica *p = userdata;
        int r;

        if (!p->log)
                return -ESHUTDOWN;
        r = raft_log_write_meta(p->log, term, vote);
        if (r < 0)
                replica_fail(p, r, "cannot write term and vote: %s", strerror(-r));
        return r;
}

static int op_append(void *userdata, uint64_t generation, uint64_t first_index, const RaftEntry *entries, size_t n) {
        Replica *p = userdata;

        if (!p->log)
                return -ESHUTDOWN;
        return raft_log_append(p->log, generation, first_index, entries, n);
}

/* -- The commit index, told at once --
 *
 * The engine tells followers what is committed with its next entries or heartbeat. Who wrote or watches on a follower would
 * wait for that up to a heartbeat, so an empty AppendEntries follows each commit that nothing else has carried. */

static uint64_t *told_to(Replica *p, uint64_t id) {
        uint64_t term = raft_core_term(p->core);

        if (p->followers_term != term) {
                p->followers_term = term;
                p->n_followers = 0;
        }
        for (size_t i = 0; i < p->n_followers; i++)
                if (p->followers[i].id == id)
                        return &p->followers[i].told;
        if (p->n_followers == RAFT_SERVERS_MAX)
                return NULL;
        p->followers[p->n_followers].id = id;
        p->followers[p->n_followers].told = 0;
        return &p->followers[p->n_followers++].told;
}

static void on_notice(void *userdata) {
        Replica *p = userdata;
        const RaftServers *servers;
        uint64_t commit;

        if (!replica_is_leader(p))
                return;
        servers = raft_core_servers(p->core);
        commit = raft_core_commit_index(p->core);

        for (size_t i = 0; i < servers->n; i++) {
                const RaftServer *s = &servers->items[i];
                const RaftEntry *e;
                uint64_t match, *told;

                if (s->id == raft_core_id(p->core) || s->role == RAFT_ROLE_SPARE || raft_core_match_index(p->core, s->id, &match) < 0)
                        continue;
                told = told_to(p, s->id);
                e = raft_core_entry(p->core, match);
                if (!told || !e || MIN(commit, match) <= *told)
                        continue;
                replica_send_message(p, s->id,
                                     &(RaftMessage) { .type = RAFT_MESSAGE_APPEND,
                                                      .term = raft_core_term(p->core),
                                                      .append = { .prev_index = match, .prev_term = e->term, .commit = commit } });
                *told = MIN(commit, match);
        }
}

static void op_send(void *userdata, uint64_t to, const char *address, const RaftMessage *message) {
        Replica *p = userdata;

        if (message->type == RAFT_MESSAGE_APPEND) {
                uint64_t *told = told_to(p, to);

                if (told)
                        *told = MAX(*told, MIN(message->append.commit, message->append.prev_index + message->append.n_entries));
        }
        replica_send_message(p, to, message);
}

static void op_send_snapshot(void *userdata, uint64_t to, const char *address, uint64_t term, uint64_t index) {
        Replica *p = userdata;

        transfers_send(p->transfers, to, index);
}

static int op_install(void *userdata, const RaftStateInfo *info, bool keep_state) {
        Replica *p = userdata;
        Error err = {};
        int r;

        if (!p->incoming)
                return -ESHUTDOWN;

        r = folder_install(&p->folder, p->incoming, !keep_state, &p->tree, &err);
        if (r < 0) {
                replica_fail(p, r, "%s", error_text(&err, r));
                return r;
        }
        p->copy_told = true; /* the core knows: it is the one that installs it */
        p->previous_checkpoint = info->index;
        p->entries_since = p->bytes_since = 0;

        if (!keep_state) {
                r = bootstrap_mark_tree(p->tree, &p->identity, p->folder.path, &err);
                if (r < 0) {
                        replica_fail(p, r, "%s", error_text(&err, r));
                        return r;
                }
                p->options.events.replaced(p->options.events.userdata);
        }

        return raft_log_reset(p->log, info->index);
}

static int apply_entry(Replica *p, TreeTxn *txn, uint64_t index, const RaftEntry *entry) {
        TreeMeta meta;
        int r;

        if (entry->type == RAFT_ENTRY_COMMAND)
                return p->options.events.apply(p->options.events.userdata, txn, index, entry);

        r = apply_empty(txn, index, entry->term);
        if (r < 0 || entry->type != RAFT_ENTRY_CHANGE)
                return r;

        r = tree_set_configuration(txn, (KvBytes) { entry->data, entry->size });
        if (r < 0)
                return r;
        r = tree_meta(txn, &meta);
        if (r < 0)
                return r;
        meta.configuration_index = index;
        return tree_set_meta(txn, &meta);
}

/* One transaction. */
static int apply_chunk(Replica *p, uint64_t first_index, const RaftEntry *entries, size_t n) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;
        int r;

        r = tree_begin_write(p->tree, &txn);
        if (r >= 0)
                r = tree_meta(txn, &meta);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                /* A tree that is ahead (a newer state kept beside a received one) has these already. */
                if (first_index + i <= meta.applied && !p->options.apply_twice)
                        continue;
                r = apply_entry(p, txn, first_index + i, &entries[i]);
                p->entries_since++;
                p->bytes_since += entries[i].size;
        }
        if (r >= 0)
                r = tree_commit(TAKE_PTR(txn));
        if (r >= 0)
                p->options.events.committed(p->options.events.userdata);
        return r;
}

/* In service a step's entries are one transaction; a long log at the start is several, so that no memory grows with it. */
static int op_apply(void *userdata, uint64_t first_index, const RaftEntry *entries, size_t n) {
        Replica *p = userdata;
        int r = 0;

        if (!p->tree)
                return -ESHUTDOWN;

        for (size_t done = 0, chunk; done < n && r >= 0; done += chunk) {
                size_t size = 0;

                for (chunk = 0; done + chunk < n && chunk < CHUNK_ENTRIES && size < CHUNK_BYTES; chunk++)
                        size += entries[done + chunk].size;
                r = apply_chunk(p, first_index + done, entries + done, chunk);
        }
        if (r < 0)
                folder_distrust(&p->folder);
        if (r < 0)
                replica_fail(p, r, "cannot apply entry %" PRIu64 " and those behind it: %s", first_index, strerror(-r));
        return r;
}

static void op_changed(void *userdata, unsigned what) {
        Replica *p = userdata;

        p->changed |= what;
}

static const RaftCoreOps core_ops = {
        .write_meta = op_write_meta,
        .append = op_append,
        .send = op_send,
        .send_snapshot = op_send_snapshot,
        .install = op_install,
        .apply = op_apply,
        .changed = op_changed,
};

/* -- Checkpoints -- */

static void copy_run(void *userdata) {
        Replica *p = userdata;

        p->copy_error = folder_copy(&p->folder, p->tree, &p->copied, &p->copy_text);
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
        enter(p);
        r = raft_core_checkpointed(p->core, loop_now_ms(p->loop), &info, p->options.checkpoint_kept);
        leave(p, r == -EAGAIN || r == -ESTALE ? 0 : r);
        if (r < 0 && r != -ESTALE)
                return;

        p->copy_told = true;
        if (r == -ESTALE) {
                replica_checkpoint(p);
                return;
        }
        keep = MIN(p->previous_checkpoint, c->meta.applied > p->options.checkpoint_kept ? c->meta.applied - p->options.checkpoint_kept : 0);
        if (keep > 0 && p->log)
                (void) raft_log_cut(p->log, keep); /* a failed write reports itself */
}

static void copy_done(void *userdata) {
        Replica *p = userdata;
        _cleanup_free_ void *held = TAKE_PTR(p->held);

        p->copying = false;
        if (p->closing) {
                checkpoint_done(&p->copied);
                close_step(p);
                return;
        }

        if (p->copy_error < 0) {
                log_warning(((LogFields) { .error = p->copy_error }), "no checkpoint: %s", error_text(&p->copy_text, p->copy_error));
                p->copy_retry_ms = loop_now_ms(p->loop) + COPY_RETRY_MS;
        } else {
                log_debug(NO_FIELDS, "checkpoint of entry %" PRIu64 ", %" PRIu64 " bytes", p->copied.meta.applied, p->copied.size);
                p->previous_checkpoint = p->folder.checkpoint.fd >= 0 ? p->folder.checkpoint.meta.applied : 0;
                p->copy_told = false;
                folder_adopt(&p->folder, &p->copied);
        }

        if (held && p->core && !p->restarting)
                receive(p, p->held_from, p->held_address, held, p->held_size);
        else
                settle_now(p);
        if (p->core)
                transfers_step(p->transfers);
}

void replica_checkpoint(Replica *p) {
        if (p->copying || p->closing || !p->tree || !p->core || p->restarting || p->error < 0
            || loop_now_ms(p->loop) < p->copy_retry_ms)
                return;

        p->copied = (Checkpoint) { .fd = -1 };
        p->copy_text = (Error) {};
        p->copy_work = (Work) { .work = copy_run, .done = copy_done, .userdata = p };
        if (loop_work(p->loop, &p->copy_work) < 0) {
                p->copy_retry_ms = loop_now_ms(p->loop) + COPY_RETRY_MS;
                return;
        }
        p->copying = true;
        p->entries_since = p->bytes_since = 0;
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

static void settle_now(Replica *p) {
        unsigned changed;

        if (p->closing)
                return;

        if (p->core && !p->restarting && p->error == 0) {
                tell_checkpoint(p);
                maybe_checkpoint(p);
                if (p->changed)
                        transfers_step(p->transfers);
        }

        if (p->error < 0 && p->stopping && p->core && raft_core_state(p->core) != RAFT_STATE_LEADER)
                loop_defer(p->loop, &p->stop);

        changed = p->changed;
        p->changed = 0;
        p->options.events.settled(p->options.events.userdata, changed);
        if (replica_is_leader(p)) /* behind what 'settled' has deferred: new entries carry the commit index, too */
                loop_defer(p->loop, &p->notice);
}

static void on_settle(void *userdata) {
        settle_now(userdata);
}

/* -- Stopping, and starting anew -- */

void replica_fail(Replica *p, int error, const char *format, ...) {
        va_list ap;

        if (p->error < 0)
                return;

        p->error = error < 0 ? error : -EIO;
        va_start(ap, format);
        vsnprintf(p->reason, sizeof(p->reason), format, ap);
        va_end(ap);
        loop_defer(p->loop, &p->stop);
}

static void close_log(Replica *p) {
        RaftLog *log = TAKE_PTR(p->log);

        if (!log)
                return;
        p->pending++;
        raft_log_close(log, on_log_closed, p); /* which may come at once */
}

static void stop_now(Replica *p) {
        timer_stop(&p->silence);
        timer_stop(&p->stop_timer);
        timer_stop(&p->tick);
        p->core = raft_core_free(p->core);
        close_log(p);

        if (p->told_failed)
                return;
        p->told_failed = true;
        p->changed = 0;
        p->options.events.settled(p->options.events.userdata, RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER);
        p->options.events.failed(p->options.events.userdata, p->error, p->reason);
}

static void on_stop_timer(void *userdata) {
        stop_now(userdata);
}

static void on_log_closed(void *userdata) {
        Replica *p = userdata;
        Error err = {};
        int r;

        p->pending--;
        if (p->closing) {
                close_step(p);
                return;
        }
        if (p->error < 0)
                return;

        p->restarting = false;
        r = raft_log_open(p->options.log_disk, p->loop, &(RaftLogOptions) { .file_size = p->options.log_file_size },
                          &(RaftLogEvents) { .appended = on_appended, .failed = on_log_failed }, p, &p->log, &err);
        if (r >= 0)
                r = replica_start(p, &err);
        if (r < 0)
                replica_fail(p, r, "cannot start again: %s", error_text(&err, r));
        else
                settle_now(p);
}

/* Deferred: the replica has failed, or has to begin again from what is durable. */
static void on_stop(void *userdata) {
        Replica *p = userdata;

        if (p->closing)
                return;

        if (p->error == 0 && p->restarting) {
                log_notice(NO_FIELDS, "leadership was lost during a promotion: starting again from what is durable");
                p->core = raft_core_free(p->core);
                p->changed |= RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER;
                close_log(p);
                return;
        }

        if (!p->stopping && p->core && !p->restarting && raft_core_state(p->core) == RAFT_STATE_LEADER) {
                int r;

                p->stopping = true;
                enter(p);
                r = raft_core_transfer(p->core, loop_now_ms(p->loop), 0);
                leave(p, 0);
                if (r >= 0 && timer_start(&p->stop_timer, p->loop, HAND_OVER_MS) >= 0)
                        return;
        }
        stop_now(p);
}

/* -- Opening -- */

static void introduce(Replica *p) {
        PeerHello self;

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

/* Opens the log that is there, and sees whether it is ours. -ENOENT: none. */
static int open_log(Replica *p, Error *err) {
        int r;

        r = raft_log_open(p->options.log_disk, p->loop, &(RaftLogOptions) { .file_size = p->options.log_file_size },
                          &(RaftLogEvents) { .appended = on_appended, .failed = on_log_failed }, p, &p->log, err);
        if (r < 0)
                return r;
        r = bootstrap_check(&p->folder, raft_log_meta(p->log), &p->identity, err);
        if (r < 0)
                return r;

        p->start_number = raft_log_meta(p->log)->start_number;
        return bootstrap_mark_tree(p->tree, &p->identity, p->folder.path, err);
}

static int tree_applied(Tree *tree, uint64_t *ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;
        int r;

        r = tree_begin_read(tree, &txn);
        if (r >= 0)
                r = tree_meta(txn, &meta);
        if (r >= 0)
                *ret = meta.applied;
        return r;
}

static int open_all(Replica *p, bool join, Error *err) {
        uint64_t applied;
        int r;

        r = folder_open(&p->folder, p->options.tree_path, p->options.machine_id, p->options.boot_id, p->options.quota, &p->tree, err);
        if (r < 0)
                return r;

        r = open_log(p, err);
        if (r != -ENOENT)
                return r;

        r = tree_applied(p->tree, &applied);
        if (r < 0)
                return error_set(err, r, "cannot read the tree in %s: %s", p->folder.path, strerror(-r));
        if (applied > 0)
                return error_set(err, -EUCLEAN,
                                 "%s holds a tree, but the log that belongs to it is gone; restore the log, or remove this host's "
                                 "state and let it join anew", p->folder.path);
        if (err)
                *err = (Error) {};
        if (join)
                return 0;

        r = bootstrap_found(&p->folder, p->options.log_disk, loop_random(p->loop), p->options.address, p->options.log_file_size, err);
        if (r < 0)
                return r;
        return open_log(p, err);
}

static Replica *replica_free(Replica *p) {
        deferred_cancel(&p->settle);
        deferred_cancel(&p->stop);
        deferred_cancel(&p->notice);
        deferred_cancel(&p->closed_deferred);
        timer_stop(&p->tick);
        timer_stop(&p->stop_timer);
        timer_stop(&p->silence);
        p->transfers = transfers_free(p->transfers);
        checkpoint_done(&p->copied);
        tree_close(p->tree);
        folder_done(&p->folder);
        free(p->held);
        free(p);
        return NULL;
}

int replica_open(Replica **ret, Loop *loop, const ReplicaOptions *options, bool join, Error *err) {
        static const struct {
                PeerFrame type;
                PeerHandler handler;
        } frames[] = { { PEER_RAFT, on_raft }, { PEER_BULK, on_bulk }, { PEER_BULK_ACK, on_bulk_ack } };
        Replica *p = NEW0(Replica, 1);
        int r;

        if (!p)
                return -ENOMEM;
        p->loop = loop;
        p->options = *options;
        p->folder = (Folder) { .fd = -1, .checkpoint = { .fd = -1 } };
        p->copied = (Checkpoint) { .fd = -1 };
        p->copy_told = true; /* what is there at opening, the core need not hear */
        p->tick = (Timer) { .fire = on_tick, .userdata = p };
        p->stop_timer = (Timer) { .fire = on_stop_timer, .userdata = p };
        p->silence = (Timer) { .fire = on_silence, .userdata = p };
        p->settle = (Deferred) { .run = on_settle, .userdata = p };
        p->stop = (Deferred) { .run = on_stop, .userdata = p };
        p->notice = (Deferred) { .run = on_notice, .userdata = p };

        r = transfers_new(&p->transfers, p);
        if (r >= 0)
                r = open_all(p, join, err);
        if (r < 0) {
                raft_log_close(p->log, NULL, NULL);
                replica_free(p);
                return r;
        }

        for (size_t i = 0; options->peers && i < ELEMENTS(frames); i++)
                peers_handle(options->peers, frames[i].type, frames[i].handler, p);
        introduce(p);
        *ret = p;
        return 0;
}

/* The state that Raft starts from: the tree's, in memory of our own. */
static int state_of_tree(Replica *p, Checkpoint *ret, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvBytes configuration;
        int r;

        *ret = (Checkpoint) { .fd = -1 };
        r = tree_begin_read(p->tree, &txn);
        if (r >= 0)
                r = tree_meta(txn, &ret->meta);
        if (r >= 0)
                r = tree_configuration(txn, &configuration);
        if (r >= 0 && configuration.size > 0) {
                ret->configuration = malloc(configuration.size);
                if (!ret->configuration)
                        return -ENOMEM;
                memcpy(ret->configuration, configuration.data, configuration.size);
                ret->configuration_size = configuration.size;
        }
        return r < 0 ? error_set(err, r, "cannot read the tree in %s: %s", p->folder.path, strerror(-r)) : 0;
}

int replica_start(Replica *p, Error *err) {
        _cleanup_(checkpoint_done) Checkpoint state = { .fd = -1 };
        RaftEntry *entries = NULL;
        RaftStateInfo info;
        const char *torn;
        uint64_t first;
        size_t n = 0;
        int r;

        if (!p->log)
                return 0;

        r = state_of_tree(p, &state, err);
        if (r < 0)
                return r;
        info = p->options.apply_twice && p->folder.checkpoint.fd < 0 ? (RaftStateInfo) {}
               : p->options.apply_twice                              ? checkpoint_info(&p->folder.checkpoint)
                                                                     : checkpoint_info(&state);

        if (raft_log_torn(p->log, &torn))
                log_info(NO_FIELDS, "a write that a crash had interrupted was dropped from the log: %s", torn);

        r = raft_log_take_entries(p->log, &entries, &n, &first);
        if (r < 0)
                return r;
        if (first > info.index + 1) {
                raft_log_entries_free(entries, n);
                return error_set(err, -EUCLEAN,
                                 "the tree in %s ends with entry %" PRIu64 ", but the log begins with %" PRIu64
                                 ": something was removed; remove this host's state and let it join anew", p->folder.path,
                                 info.index, first);
        }

        r = raft_core_new(&(RaftCoreOptions) {
                                  .id = p->identity.raft_id,
                                  .address = p->options.address[0] ? p->options.address : "-",
                                  .election_ms = p->options.election_ms,
                                  .heartbeat_ms = p->options.heartbeat_ms,
                                  .seed = (unsigned) random_u64(loop_random(p->loop)),
                          },
                          &core_ops, p, &p->core);
        if (r >= 0) {
                RaftCoreStart start = {
                        .term = raft_log_meta(p->log)->term,
                        .vote = raft_log_meta(p->log)->vote,
                        .state = info.index > 0 ? &info : NULL,
                        .first_index = first,
                        .entries = entries,
                        .n_entries = n,
                };

                if (raft_core_log_fits(&start) == 0) {
                        start.first_index = info.index + 1;
                        start.n_entries = 0;
                        r = drop_log(p, info.index, err);
                }
                if (r >= 0) {
                        enter(p);
                        r = raft_core_start(p->core, loop_now_ms(p->loop), &start);
                        p->depth = 0;
                }
        }
        raft_log_entries_free(entries, n);
        if (r < 0) {
                p->core = raft_core_free(p->core);
                if (p->error < 0)
                        return error_set(err, r, "%s", p->reason);
                return err && err->code < 0 ? r : error_set(err, r, "cannot start Raft: %s", strerror(-r));
        }

        p->started = true;
        p->changed |= RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER | RAFT_CHANGED_CONFIGURATION;
        arm(p);
        loop_defer(p->loop, &p->settle);
        return 0;
}

int replica_join(Replica *p, const Identity *identity, Error *err) {
        int r;

        if (p->log || p->error < 0)
                return error_set(err, -EALREADY, "this host is a member of a cluster already");

        r = bootstrap_join(&p->folder, p->options.log_disk, identity, p->options.log_file_size, err);
        if (r >= 0)
                r = open_log(p, err);
        if (r >= 0)
                r = replica_start(p, err);
        if (r < 0)
                return r;

        introduce(p);
        return 0;
}

/* -- Closing -- */

static void on_closed(void *userdata) {
        Replica *p = userdata;
        void (*closed)(void *userdata) = p->closed;
        void *closed_userdata = p->closed_userdata;

        p->tree = tree_close(p->tree);
        if (p->started)
                folder_closed(&p->folder);
        replica_free(p);
        closed(closed_userdata);
}

static void close_step(Replica *p) {
        if (p->pending > 0 || p->copying || transfers_busy(p->transfers))
                return;
        loop_defer(p->loop, &p->closed_deferred);
}

void replica_work_ended(Replica *p) {
        if (p->closing)
                close_step(p);
}

static void unhandle(Replica *p) {
        static const PeerFrame frames[] = { PEER_RAFT, PEER_BULK, PEER_BULK_ACK };

        for (size_t i = 0; p->options.peers && i < ELEMENTS(frames); i++)
                peers_handle(p->options.peers, frames[i], NULL, NULL);
}

Replica *replica_crash(Replica *p) {
        if (!p)
                return NULL;
        unhandle(p);
        p->core = raft_core_free(p->core);
        p->log = raft_log_close(p->log, NULL, NULL);
        return replica_free(p);
}

void replica_close(Replica *p, void (*closed)(void *userdata), void *userdata) {
        assert(!p->closing && p->depth == 0);
        p->closing = true;
        p->closed = closed;
        p->closed_userdata = userdata;
        p->closed_deferred = (Deferred) { .run = on_closed, .userdata = p };

        unhandle(p);
        timer_stop(&p->silence);
        timer_stop(&p->tick);
        timer_stop(&p->stop_timer);
        p->core = raft_core_free(p->core);
        close_log(p);
        close_step(p);
}

/* -- Inputs of the door -- */

static bool is_open(const Replica *p) {
        return p->core && !p->restarting && !p->closing && p->error == 0;
}

int replica_submit(Replica *p, const void *bytes, size_t size, uint64_t *ret_index, uint64_t *ret_term) {
        int r;

        if (!is_open(p))
                return -EREMOTE;
        enter(p);
        r = raft_core_submit(p->core, loop_now_ms(p->loop), bytes, size, ret_index, ret_term);
        leave(p, r == -EREMOTE || r == -EFBIG || r == -EAGAIN || r == -ENOSPC ? 0 : r);
        if (p->changed)
                loop_defer(p->loop, &p->settle);
        return r;
}

int replica_change(Replica *p, const RaftChange *change, Error *err) {
        uint64_t index;
        int r;

        if (!is_open(p))
                return error_set(err, -EREMOTE, "this host does not lead");
        enter(p);
        r = raft_core_change(p->core, loop_now_ms(p->loop), change, &index, err);
        leave(p, r == -ENOMEM ? r : 0);
        loop_defer(p->loop, &p->settle);
        return r;
}

int replica_transfer(Replica *p, uint64_t raft_id) {
        int r;

        if (!is_open(p))
                return -EREMOTE;
        enter(p);
        r = raft_core_transfer(p->core, loop_now_ms(p->loop), raft_id);
        leave(p, 0);
        loop_defer(p->loop, &p->settle);
        return r;
}

bool replica_is_leader(const Replica *p) {
        return is_open(p) && raft_core_state(p->core) == RAFT_STATE_LEADER;
}

uint64_t replica_leader(const Replica *p) {
        const char *address;

        if (!is_open(p) || (p->leader_silent && !has_vote(p)))
                return 0;
        return raft_core_leader(p->core, &address);
}

uint64_t replica_term(const Replica *p) {
        return is_open(p) ? raft_core_term(p->core) : 0;
}

/* -- Frames -- */

void replica_write_head(const Replica *p, Writer *w, uint64_t to) {
        write_u64(w, p->identity.cluster_id);
        write_u64(w, p->identity.raft_id);
        write_u64(w, to);
}

bool replica_read_head(const Replica *p, PeerSession *session, Reader *r, uint64_t *ret_from) {
        uint64_t cluster_id = read_u64(r), from = read_u64(r), to = read_u64(r);
        const PeerHello *hello = peer_hello(session);

        if (r->failed || from == 0 || to == 0)
                return false;
        if (cluster_id != p->identity.cluster_id || to != p->identity.raft_id || from == to)
                return false;
        if (hello->raft_id != 0 && hello->raft_id != from)
                return false;
        *ret_from = from;
        return true;
}

int replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w) {
        if (!p->options.peers)
                return -ENOTCONN;
        if (w->error < 0)
                return w->error;
        return peers_send_raft(p->options.peers, to, type, w->bytes, w->size);
}

void replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w) {
        PeerSession *session = p->options.peers ? peers_session(p->options.peers, session_number) : NULL;

        if (session && w->error == 0)
                (void) peer_reply(session, type, w->bytes, w->size);
}

void replica_send_message(Replica *p, uint64_t to, const RaftMessage *message) {
        _cleanup_writer_ Writer w = {};

        replica_write_head(p, &w, to);
        raft_message_encode(&w, message);
        (void) replica_send(p, to, PEER_RAFT, &w); /* dropping is safe */
}
