#include "kvstore/command/replication_stats.h"

#include <math.h>

/* NULL when there are more members than a cluster has. */
static ReplicationStatsMember *member(ReplicationStats *t, uint64_t raft_id) {
        for (size_t i = 0; i < t->n_members; i++)
                if (t->members[i].raft_id == raft_id)
                        return &t->members[i];
        if (t->n_members == TRAFFIC_MEMBERS_MAX)
                return NULL;
        t->members[t->n_members] = (ReplicationStatsMember) { .raft_id = raft_id };
        return &t->members[t->n_members++];
}

void replication_stats_sent(ReplicationStats *t, uint64_t to, uint64_t now_ms, bool failed) {
        ReplicationStatsMember *m = member(t, to);

        t->appends_sent++;
        if (!m)
                return;
        if (failed)
                m->n_failures++;
        else if (m->waiting_since_ms == 0)
                m->waiting_since_ms = now_ms;
}

void replication_stats_received(ReplicationStats *t) {
        t->appends_received++;
}

void replication_stats_answered(ReplicationStats *t, uint64_t from, uint64_t now_ms) {
        ReplicationStatsMember *m = member(t, from);
        double difference;

        if (!m || m->waiting_since_ms == 0)
                return;
        m->current = (double) (now_ms - m->waiting_since_ms);
        m->waiting_since_ms = 0;
        m->minimum = m->n_answers == 0 || m->current < m->minimum ? m->current : m->minimum;
        m->maximum = m->current > m->maximum ? m->current : m->maximum;
        m->n_answers++;
        difference = m->current - m->average;
        m->average += difference / (double) m->n_answers;
        m->squares += difference * (m->current - m->average);
}

double replication_stats_deviation(const ReplicationStatsMember *m) {
        return m->n_answers == 0 ? 0 : sqrt(m->squares / (double) m->n_answers);
}
