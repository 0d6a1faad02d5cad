/* Messages into the engine, and the rules for them: each handles a defect of the engine, or a precondition
 * that it does not check. */

#include "kvstore/raft/core_internal.h"

static int acceptable_append(const RaftMessage *m) {
        uint64_t term = m->append.prev_term;

        if ((m->append.prev_index == 0) != (m->append.prev_term == 0))
                return -EBADMSG;
        if (m->append.n_entries > RAFT_MESSAGE_ENTRIES_MAX || m->append.prev_index > UINT64_MAX / 2)
                return -EBADMSG;

        for (size_t i = 0; i < m->append.n_entries; i++) {
                const RaftEntry *e = &m->append.entries[i];

                if (e->term == 0 || e->term < term || e->term > m->term || e->size > RAFT_ENTRY_SIZE_MAX)
                        return -EBADMSG;
                if (e->type == RAFT_ENTRY_CHANGE && raft_configuration_check(e->data, e->size) < 0)
                        return -EBADMSG;
                term = e->term;
        }
        return term <= m->term ? 0 : -EBADMSG;
}

static int rule_acceptable(const RaftCore *c, uint64_t from, const RaftMessage *m) {
        if (from == 0 || from == c->raft.id || m->term == 0)
                return -EBADMSG;

        switch (m->type) {
        case RAFT_MESSAGE_APPEND:
        case RAFT_MESSAGE_SNAPSHOT:
                /* Two leaders in one term: the log is not to be trusted. */
                if (m->term == raft_current_term(&c->raft) && c->raft.state == RAFT_LEADER)
                        return -ESHUTDOWN;
                if (m->type == RAFT_MESSAGE_APPEND)
                        return acceptable_append(m);
                if (m->snapshot.index == 0 || m->snapshot.index_term == 0 ||
                    m->snapshot.index_term > m->term || m->snapshot.configuration_index == 0 ||
                    m->snapshot.configuration_index > m->snapshot.index)
                        return -EBADMSG;
                return raft_configuration_check(m->snapshot.configuration, m->snapshot.configuration_size);
        case RAFT_MESSAGE_VOTE:
                return m->vote.candidate == from ? 0 : -EBADMSG;
        case RAFT_MESSAGE_APPEND_RESULT:
        case RAFT_MESSAGE_VOTE_RESULT:
        case RAFT_MESSAGE_TIMEOUT_NOW:
                return 0;
        }
        return -EBADMSG;
}

/* The engine reads the candidate's member of a union in any state. */
static bool rule_drop_stray_vote_result(const RaftCore *c, const RaftMessage *m) {
        return !c->off.drop_stray_vote_result && m->type == RAFT_MESSAGE_VOTE_RESULT &&
               c->raft.state != RAFT_CANDIDATE;
}

/* The engine would leak the configuration of the second one. */
static bool rule_one_install(const RaftCore *c, const RaftMessage *m) {
        return !c->off.one_install && m->type == RAFT_MESSAGE_SNAPSHOT && c->installing;
}

/* The engine regards compacted entries as missing: it rejects the message, the leader goes back to index 1,
 * and the engine appends those entries after its log. All entries up to the snapshot are committed, so they
 * are equal to the leader's. */
static size_t rule_cut_below_snapshot(const RaftCore *c, const RaftMessage *m, uint64_t *prev_index,
                                      uint64_t *prev_term) {
        uint64_t snapshot = c->raft.trail.snapshot.index;
        size_t n;

        *prev_index = m->append.prev_index;
        *prev_term = m->append.prev_term;
        if (c->off.cut_below_snapshot || c->installing || m->term < raft_current_term(&c->raft) ||
            m->append.prev_index >= snapshot)
                return 0;

        n = MIN(snapshot - m->append.prev_index, m->append.n_entries);
        *prev_index = snapshot;
        *prev_term = c->raft.trail.snapshot.term;
        return n;
}

/* The engine gives each configuration of a message the index of the message's first new entry. */
size_t rule_split_at_change(const RaftCore *c, const RaftEntry *entries, size_t n) {
        if (c->off.split_at_change)
                return n;

        for (size_t i = 1; i < n; i++)
                if (entries[i].type == RAFT_ENTRY_CHANGE)
                        return i;
        return n;
}

/* -- Steps -- */

/* A run of entries of one message, and the entry before it. */
typedef struct Run {
        uint64_t prev_index, prev_term;
        const RaftEntry *entries;
        size_t n;
} Run;

/* Step one run. Only the data of configurations reaches the engine. */
static int step_append(RaftCore *c, uint64_t now_ms, struct raft_message *in, const RaftMessage *m,
                       const Run *run, bool *ret_rejected) {
        const RaftEntry *entries = run->entries;
        size_t n = run->n;
        struct raft_event event = { .type = RAFT_RECEIVE, .receive.message = in };
        Given given = { .received = m, .entries = entries, .first = run->prev_index + 1 };
        struct raft_entry parts[RAFT_MESSAGE_ENTRIES_MAX];
        size_t size = 1, offset = 0;
        uint8_t *batch = NULL;

        for (size_t i = 0; i < n; i++)
                size += entries[i].type == RAFT_ENTRY_CHANGE ? entries[i].size : 0;
        if (n > 0) {
                batch = raft_malloc(size);
                if (!batch)
                        return -ENOMEM;
        }

        for (size_t i = 0; i < n; i++) {
                parts[i] = (struct raft_entry) { .term = entries[i].term,
                                                 .type = (enum raft_entry_type) entries[i].type,
                                                 .batch = batch };
                parts[i].buf.base = batch + offset;
                if (entries[i].type == RAFT_ENTRY_CHANGE) {
                        memcpy(batch + offset, entries[i].data, entries[i].size);
                        parts[i].buf.len = entries[i].size;
                        offset += entries[i].size;
                }
        }

        in->append_entries = (struct raft_append_entries) {
                .term = m->term,
                .prev_log_index = run->prev_index,
                .prev_log_term = run->prev_term,
                .leader_commit = m->append.commit,
                .entries = n > 0 ? parts : NULL,
                .n_entries = (unsigned) n,
        };
        return core_step(c, now_ms, &event, &given, ret_rejected);
}

static int receive_append(RaftCore *c, uint64_t now_ms, struct raft_message *in, const RaftMessage *m) {
        Run run = { .entries = m->append.entries };
        size_t skipped = rule_cut_below_snapshot(c, m, &run.prev_index, &run.prev_term),
               left = m->append.n_entries - skipped;
        bool rejected = false;
        int r;

        run.entries += skipped;
        do {
                run.n = rule_split_at_change(c, run.entries, left);
                r = step_append(c, now_ms, in, m, &run, &rejected);
                if (r == 0)
                        r = core_apply_committed(c, now_ms);
                if (r < 0)
                        return r;
                if (run.n > 0) {
                        run.prev_index += run.n;
                        run.prev_term = run.entries[run.n - 1].term;
                        run.entries += run.n;
                        left -= run.n;
                }
        } while (left > 0 && !rejected && m->term == raft_current_term(&c->raft));
        return 0;
}

static int receive_snapshot(RaftCore *c, uint64_t now_ms, struct raft_message *in, const RaftMessage *m) {
        struct raft_event event = { .type = RAFT_RECEIVE, .receive.message = in };
        Given given = { .received = m };

        in->install_snapshot = (struct raft_install_snapshot) {
                .term = m->term,
                .last_index = m->snapshot.index,
                .last_term = m->snapshot.index_term,
                .conf_index = m->snapshot.configuration_index,
        };
        TRY(raft_configuration_read(m->snapshot.configuration, m->snapshot.configuration_size,
                                    &in->install_snapshot.conf));
        return core_step(c, now_ms, &event, &given, NULL);
}

static int receive_other(RaftCore *c, uint64_t now_ms, struct raft_message *in, const RaftMessage *m) {
        struct raft_event event = { .type = RAFT_RECEIVE, .receive.message = in };
        Given given = { .received = m };

        switch (m->type) {
        case RAFT_MESSAGE_APPEND_RESULT:
                in->append_entries_result = (struct raft_append_entries_result) {
                        .version = 1,
                        .term = m->term,
                        .rejected = m->append_result.rejected,
                        .last_log_index = m->append_result.last_index,
                        .features = m->append_result.features,
                        .capacity = m->append_result.capacity,
                };
                break;
        case RAFT_MESSAGE_VOTE:
                in->request_vote = (struct raft_request_vote) {
                        .version = 2,
                        .term = m->term,
                        .candidate_id = m->vote.candidate,
                        .last_log_index = m->vote.last_index,
                        .last_log_term = m->vote.last_term,
                        .disrupt_leader = m->vote.disrupt_leader,
                        .pre_vote = m->vote.pre_vote,
                };
                break;
        case RAFT_MESSAGE_VOTE_RESULT:
                in->request_vote_result = (struct raft_request_vote_result) {
                        .version = 2,
                        .term = m->term,
                        .vote_granted = m->vote_result.granted,
                        .pre_vote = m->vote_result.pre_vote,
                        .features = m->vote_result.features,
                        .capacity = m->vote_result.capacity,
                };
                break;
        default:
                in->timeout_now = (struct raft_timeout_now) {
                        .term = m->term,
                        .last_log_index = m->timeout_now.last_index,
                        .last_log_term = m->timeout_now.last_term,
                };
        }
        return core_step(c, now_ms, &event, &given, NULL);
}

static int receive(RaftCore *c, uint64_t now_ms, uint64_t from, const char *address, const RaftMessage *m) {
        static const enum raft_message_type types[] = {
                [RAFT_MESSAGE_APPEND] = RAFT_APPEND_ENTRIES,
                [RAFT_MESSAGE_APPEND_RESULT] = RAFT_APPEND_ENTRIES_RESULT,
                [RAFT_MESSAGE_VOTE] = RAFT_REQUEST_VOTE,
                [RAFT_MESSAGE_VOTE_RESULT] = RAFT_REQUEST_VOTE_RESULT,
                [RAFT_MESSAGE_SNAPSHOT] = RAFT_INSTALL_SNAPSHOT,
                [RAFT_MESSAGE_TIMEOUT_NOW] = RAFT_TIMEOUT_NOW,
        };
        struct raft_message in = { .server_id = from, .server_address = address };
        PeerProgress *peer;
        int r;

        r = rule_acceptable(c, from, m);
        if (r < 0)
                return r == -EBADMSG ? 0 : r;
        if (rule_drop_stray_vote_result(c, m) || rule_one_install(c, m))
                return 0;

        in.type = types[m->type];
        if (m->type == RAFT_MESSAGE_APPEND)
                return receive_append(c, now_ms, &in, m);
        if (m->type == RAFT_MESSAGE_SNAPSHOT)
                return receive_snapshot(c, now_ms, &in, m);

        if (m->type == RAFT_MESSAGE_APPEND_RESULT && c->raft.state == RAFT_LEADER) {
                peer = core_peer(c, from);
                if (peer)
                        peer->contact_ms = now_ms;
        }
        return receive_other(c, now_ms, &in, m);
}

int raft_core_receive(RaftCore *c, uint64_t now_ms, uint64_t from, const char *address,
                      const RaftMessage *m) {
        int r = core_begin(c);

        return r < 0 ? r : core_finish(c, now_ms, receive(c, now_ms, from, address, m));
}
