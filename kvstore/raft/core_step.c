/* A step of the engine, and the execution of its update: meta, entries and snapshots to the disk, then
 * messages. */
#include "kvstore/raft/core_internal.h"

/* -- Writes in flight -- */

int core_write(RaftCore *c, uint64_t first, uint64_t last) {
        if (last < first)
                return 0;

        TRY(GROW(c->pending, c->pending_capacity, c->n_pending + 1));

        c->pending[c->n_pending++] = (PendingWrite) { .generation = ++c->generation,
                                                      .first = first,
                                                      .last = last };
        return c->ops->append(c->userdata, c->generation, first, raft_entries_get(&c->log, first),
                              last - first + 1);
}

/* The log will hold other entries from 'index' on than the writes in flight. */
static void replace_pending(RaftCore *c, uint64_t index) {
        for (size_t i = 0; i < c->n_pending; i++)
                if (c->pending[i].last >= index)
                        c->pending[i].last = index - 1;
}

uint64_t core_written(RaftCore *c, uint64_t generation, uint64_t last_index) {
        uint64_t stored = 0;
        size_t n = 0;

        while (n < c->n_pending && c->pending[n].generation <= generation) {
                PendingWrite *w = &c->pending[n++];

                if (w->last >= w->first)
                        stored = MAX(stored,
                                     w->generation == generation ? MIN(w->last, last_index) : w->last);
        }
        c->n_pending -= n;
        if (n > 0)
                memmove(c->pending, c->pending + n, c->n_pending * sizeof(*c->pending));
        return stored;
}

/* -- Rules for outgoing messages: each handles a defect of the engine -- */

/* The engine leaves the last index unset in its result for an old term: a success with a random index, if the
 * old sender leads again in this term. */
static void rule_clean_old_term_result(const RaftCore *c, const RaftMessage *received, uint64_t term_before,
                                       struct raft_message *out) {
        if (c->off.clean_old_term_result || out->type != RAFT_APPEND_ENTRIES_RESULT ||
            received->term >= term_before)
                return;

        out->append_entries_result.rejected = 0;
        out->append_entries_result.last_log_index = 0;
}

/* The engine answers a pre-vote with the candidate's own term. A candidate whose term is lower than all
 * others, and whose log is needed for a majority, would never receive the higher term. */
static void rule_tell_term_to_prevote(const RaftCore *c, const RaftMessage *received,
                                      struct raft_message *out) {
        if (c->off.send_term_to_prevote || out->type != RAFT_REQUEST_VOTE_RESULT ||
            out->request_vote_result.vote_granted)
                return;
        if (received->type != RAFT_MESSAGE_VOTE || !received->vote.pre_vote ||
            received->term >= raft_current_term(&c->raft))
                return;

        out->request_vote_result.term = raft_current_term(&c->raft);
}

/* A promotion is sent to the promoted server alone until that server holds it. Another voter that holds it
 * needs the new majority, which counts a server that denies its vote without the promotion: if one more voter
 * is down, no leader can be elected. */
static long rule_order_of_sending(const RaftCore *c, uint64_t to, uint64_t prev_index, size_t n) {
        uint64_t from = c->held_from > 0 && to != c->held_for ? c->held_from : c->unsent_from;

        if (from == 0 || prev_index + n < from)
                return (long) n;

        return prev_index < from ? (long) (from - 1 - prev_index) : -1;
}

/* -- Execution of an update -- */

static const RaftEntry *given_entry(const Given *given, uint64_t index) {
        assert(given->entries && index >= given->first);
        return &given->entries[index - given->first];
}

static int take_entries(RaftCore *c, const struct raft_update *update, const Given *given) {
        uint64_t first = update->entries.index, last = first + update->entries.n - 1;
        void *batch = update->entries.batch[0].batch;
        int r = 0;

        /* Impossible with all rules; the log would be wrong. */
        if (first > raft_entries_last(&c->log) + 1 || first < c->log.first) {
                raft_free(batch);
                return -ESHUTDOWN;
        }

        if (first <= raft_entries_last(&c->log)) {
                replace_pending(c, first);
                raft_entries_truncate(&c->log, first);
                c->servers_stale = true;
        }

        for (unsigned i = 0; i < update->entries.n && r == 0; i++) {
                const struct raft_entry *e = &update->entries.batch[i];
                RaftEntry own = { .term = e->term,
                                  .type = (RaftEntryType) e->type,
                                  .data = e->buf.base,
                                  .size = e->buf.len };

                if (given->entries) {
                        own.data = given_entry(given, first + i)->data;
                        own.size = given_entry(given, first + i)->size;
                }
                if (e->type == RAFT_CHANGE)
                        c->servers_stale = true;
                r = raft_entries_append(&c->log, &own);
        }
        raft_free(batch);
        if (r < 0)
                return r;

        return core_write(c, first, c->held_from > 0 ? MIN(last, c->held_from - 1) : last);
}

static int take_snapshot(RaftCore *c, const struct raft_update *update) {
        _cleanup_free_ void *bytes = NULL;
        RaftStateInfo info;

        c->install = update->snapshot.metadata;
        c->installing = true;
        raft_free(update->snapshot.chunk.base);
        for (size_t i = 0; i < c->n_pending; i++)
                c->pending[i].last = 0; /* first is at least 1 */
        raft_entries_reset(&c->log, c->install.index + 1);

        info = (RaftStateInfo) { .index = c->install.index,
                                 .term = c->install.term,
                                 .configuration_index = c->install.configuration_index };
        TRY(raft_configuration_write(&c->install.configuration, &bytes, &info.configuration_size));

        info.configuration = bytes;
        return c->ops->install(c->userdata, &info, c->applied >= info.index);
}

static void send_append(RaftCore *c, const struct raft_message *out) {
        const struct raft_append_entries *a = &out->append_entries;
        long n = rule_order_of_sending(c, out->server_id, a->prev_log_index, a->n_entries);
        RaftMessage m = { .type = RAFT_MESSAGE_APPEND, .term = a->term };

        if (n < 0)
                return;

        m.append.prev_index = a->prev_log_index;
        m.append.prev_term = a->prev_log_term;
        m.append.commit = a->leader_commit;
        if (n > 0) {
                m.append.entries = (RaftEntry *) raft_entries_get(&c->log, a->prev_log_index + 1);
                m.append.n_entries = (size_t) n;
                assert(m.append.entries && raft_entries_get(&c->log, a->prev_log_index + (uint64_t) n));
        }
        c->ops->send(c->userdata, out->server_id, out->server_address, &m);
}

static void send_message(RaftCore *c, const struct raft_message *out) {
        RaftMessage m = {};

        switch (out->type) {
        case RAFT_APPEND_ENTRIES:
                send_append(c, out);
                return;
        case RAFT_INSTALL_SNAPSHOT:
                c->ops->send_snapshot(c->userdata, out->server_id, out->server_address,
                                      out->install_snapshot.term, out->install_snapshot.last_index);
                return;
        case RAFT_APPEND_ENTRIES_RESULT:
                m.type = RAFT_MESSAGE_APPEND_RESULT;
                m.term = out->append_entries_result.term;
                m.append_result.rejected = out->append_entries_result.rejected;
                m.append_result.last_index = out->append_entries_result.last_log_index;
                m.append_result.features = out->append_entries_result.features;
                m.append_result.capacity = out->append_entries_result.capacity;
                break;
        case RAFT_REQUEST_VOTE:
                m.type = RAFT_MESSAGE_VOTE;
                m.term = out->request_vote.term;
                m.vote.candidate = out->request_vote.candidate_id;
                m.vote.last_index = out->request_vote.last_log_index;
                m.vote.last_term = out->request_vote.last_log_term;
                m.vote.disrupt_leader = out->request_vote.disrupt_leader;
                m.vote.pre_vote = out->request_vote.pre_vote;
                break;
        case RAFT_REQUEST_VOTE_RESULT:
                m.type = RAFT_MESSAGE_VOTE_RESULT;
                m.term = out->request_vote_result.term;
                m.vote_result.granted = out->request_vote_result.vote_granted;
                m.vote_result.pre_vote = out->request_vote_result.pre_vote;
                m.vote_result.features = out->request_vote_result.features;
                m.vote_result.capacity = out->request_vote_result.capacity;
                break;
        case RAFT_TIMEOUT_NOW:
                m.type = RAFT_MESSAGE_TIMEOUT_NOW;
                m.term = out->timeout_now.term;
                m.timeout_now.last_index = out->timeout_now.last_log_index;
                m.timeout_now.last_term = out->timeout_now.last_log_term;
                break;
        }
        c->ops->send(c->userdata, out->server_id, out->server_address, &m);
}

int core_step(RaftCore *c, uint64_t now_ms, struct raft_event *event, const Given *given,
              bool *ret_rejected) {
        uint64_t term_before = raft_current_term(&c->raft);
        struct raft_update update = {};
        int r;

        event->time = now_ms;
        r = raft_errno(raft_step(&c->raft, event, &update));
        raft_free(r < 0 ? given->after_error : given->after);
        if (r < 0)
                return r;
        if (given->received &&
            (given->received->type == RAFT_MESSAGE_APPEND ||
             given->received->type == RAFT_MESSAGE_SNAPSHOT) &&
            given->received->term == raft_current_term(&c->raft))
                c->leader_term = given->received->term;

        if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR))
                r = c->ops->write_meta(c->userdata, raft_current_term(&c->raft), raft_voted_for(&c->raft));

        /* Entries that are held back must not stay in memory unwritten: other servers may have replaced them.
         */
        if (r == 0 && c->held_from > 0 && c->raft.state != RAFT_LEADER)
                r = -ERESTART;

        if (update.flags & RAFT_UPDATE_ENTRIES) {
                if (r == 0)
                        r = take_entries(c, &update, given);
                else
                        raft_free(update.entries.batch[0].batch);
        }
        if (update.flags & RAFT_UPDATE_SNAPSHOT) {
                if (r == 0)
                        r = take_snapshot(c, &update);
                else
                        raft_configuration_close(&update.snapshot.metadata.configuration);
        }
        if (r < 0)
                return r;

        for (unsigned i = 0; (update.flags & RAFT_UPDATE_MESSAGES) && i < update.messages.n; i++) {
                struct raft_message *out = &update.messages.batch[i];

                if (given->received) {
                        rule_clean_old_term_result(c, given->received, term_before, out);
                        rule_tell_term_to_prevote(c, given->received, out);
                }
                if (ret_rejected && out->type == RAFT_APPEND_ENTRIES_RESULT &&
                    out->append_entries_result.rejected > 0)
                        *ret_rejected = true;
                send_message(c, out);
        }
        return 0;
}

/* Return whether this host is the sole voter of 'conf': it would lead without a new term. */
static bool rule_sole_voter_new_term(const RaftCore *c, const struct raft_configuration *conf) {
        const struct raft_server *self = raft_configuration_find(conf, c->raft.id);

        return !c->off.sole_voter_new_term && self && self->role == RAFT_VOTER &&
               raft_configuration_voters(conf) == 1;
}

/* A sole voter elects itself without a message; so no other server detects that it led in this term before.
 */
int core_begin_own_term(RaftCore *c, uint64_t *term, uint64_t *vote, const struct raft_configuration *conf) {
        if (!rule_sole_voter_new_term(c, conf))
                return 0;

        *term += 1;
        *vote = c->raft.id;
        return c->ops->write_meta(c->userdata, *term, *vote);
}
