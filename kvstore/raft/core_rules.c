/* The rules around the engine. Each function handles one defect of the engine, or one precondition that it
 * does not check. Each can be switched off, so that the simulation proves that it is needed. */
#include <assert.h>
#include <errno.h>

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

int rule_acceptable(const RaftCore *c, uint64_t from, const RaftMessage *m) {
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
bool rule_drop_stray_vote_result(const RaftCore *c, const RaftMessage *m) {
        return !c->off.drop_stray_vote_result && m->type == RAFT_MESSAGE_VOTE_RESULT &&
               c->raft.state != RAFT_CANDIDATE;
}

/* The engine would leak the configuration of the second one. */
bool rule_one_install(const RaftCore *c, const RaftMessage *m) {
        return !c->off.one_install && m->type == RAFT_MESSAGE_SNAPSHOT && c->installing;
}

/* The engine regards compacted entries as missing: it rejects the message, the leader goes back to index 1,
 * and the engine appends those entries after its log. All entries up to the snapshot are committed, so they
 * are equal to the leader's. */
size_t rule_cut_below_snapshot(const RaftCore *c, const RaftMessage *m, uint64_t *prev_index,
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

/* The engine leaves the last index unset in its result for an old term: a success with a random index, if the
 * old sender leads again in this term. */
void rule_clean_old_term_result(const RaftCore *c, const RaftMessage *received, uint64_t term_before,
                                struct raft_message *out) {
        if (c->off.clean_old_term_result || out->type != RAFT_APPEND_ENTRIES_RESULT ||
            received->term >= term_before)
                return;

        out->append_entries_result.rejected = 0;
        out->append_entries_result.last_log_index = 0;
}

/* The engine answers a pre-vote with the candidate's own term. A candidate whose term is lower than all
 * others, and whose log is needed for a majority, would never receive the higher term. */
void rule_tell_term_to_prevote(const RaftCore *c, const RaftMessage *received, struct raft_message *out) {
        if (c->off.tell_term_to_prevote || out->type != RAFT_REQUEST_VOTE_RESULT ||
            out->request_vote_result.vote_granted)
                return;
        if (received->type != RAFT_MESSAGE_VOTE || !received->vote.pre_vote ||
            received->term >= raft_current_term(&c->raft))
                return;

        out->request_vote_result.term = raft_current_term(&c->raft);
}

bool rule_sole_voter_new_term(const RaftCore *c, const struct raft_configuration *conf) {
        const struct raft_server *self = raft_configuration_find(conf, c->raft.id);

        return !c->off.sole_voter_new_term && self && self->role == RAFT_VOTER &&
               raft_configuration_voters(conf) == 1;
}

/* With two configurations above the commit index, the engine keeps only the second as pending. Once the first
 * is applied, it is nevertheless the one to return to, and the one that a snapshot between them carries. */
void rule_remember_committed(RaftCore *c, uint64_t index, struct raft_configuration *conf) {
        if (c->off.remember_committed || index <= c->raft.configuration_committed_index) {
                raft_configuration_close(conf);
                return;
        }

        raft_configuration_close(&c->raft.configuration_committed);
        c->raft.configuration_committed = *conf;
        c->raft.configuration_committed_index = index;
}

int rule_snapshot_stored_only(const RaftCore *c, const RaftStateInfo *checkpoint) {
        if (c->installing)
                return -EAGAIN;
        if (c->off.snapshot_stored_only)
                return 0;
        if (checkpoint->index > c->raft.last_stored)
                return -EAGAIN;
        if (c->raft.configuration_committed_index > checkpoint->index)
                return -ESTALE;
        return 0;
}

/* A promotion is sent to the promoted server alone until that server holds it. Another voter that holds it
 * needs the new majority, which counts a server that denies its vote without the promotion: if one more voter
 * is down, no leader can be elected. */
long rule_order_of_sending(const RaftCore *c, uint64_t to, uint64_t prev_index, size_t n) {
        uint64_t from = c->held_from > 0 && to != c->held_for ? c->held_from : c->unsent_from;

        if (from == 0 || prev_index + n < from)
                return (long) n;

        return prev_index < from ? (long) (from - 1 - prev_index) : -1;
}
