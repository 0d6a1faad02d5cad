/* Messages into the engine, with the rules around it. */
#include <assert.h>
#include <errno.h>

#include "kvstore/raft/core_internal.h"

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
        const RaftEntry *entries = m->append.entries;
        size_t left = m->append.n_entries, n;
        uint64_t prev_index, prev_term;
        bool rejected = false;
        int r;

        n = rule_cut_below_snapshot(c, m, &prev_index, &prev_term);
        entries += n;
        left -= n;

        do {
                n = rule_split_at_change(c, entries, left);
                r = step_append(c, now_ms, in, m,
                                &(Run) { .prev_index = prev_index,
                                         .prev_term = prev_term,
                                         .entries = entries,
                                         .n = n },
                                &rejected);
                if (r == 0)
                        r = core_apply_committed(c, now_ms);
                if (r < 0)
                        return r;
                if (n > 0) {
                        prev_index += n;
                        prev_term = entries[n - 1].term;
                        entries += n;
                        left -= n;
                }
        } while (left > 0 && !rejected && m->term == raft_current_term(&c->raft));
        return 0;
}

static int receive_snapshot(RaftCore *c, uint64_t now_ms, struct raft_message *in, const RaftMessage *m) {
        struct raft_event event = { .type = RAFT_RECEIVE, .receive.message = in };
        Given given = { .received = m };
        int r;

        in->install_snapshot = (struct raft_install_snapshot) {
                .term = m->term,
                .last_index = m->snapshot.index,
                .last_term = m->snapshot.index_term,
                .conf_index = m->snapshot.configuration_index,
        };
        r = raft_configuration_read(m->snapshot.configuration, m->snapshot.configuration_size,
                                    &in->install_snapshot.conf);
        if (r < 0)
                return r;
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
