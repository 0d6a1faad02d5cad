/* Statistics of replication: entries sent and received, and the round trips of each member. For /v2/stats and
 * people; no decision depends on them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRAFFIC_MEMBERS_MAX = 16 };

/* Of one member, on the leader. Times are round trips, in ms. */
typedef struct ReplicationStatsMember {
        uint64_t raft_id;
        uint64_t n_answers, n_failures;   /* appends that were answered; that could not be sent */
        uint64_t waiting_since_ms;        /* when the oldest append without an answer was sent; 0: none */
        double current, minimum, maximum; /* 0 while nothing was answered */
        double average, squares;          /* Welford's: the sum of squared differences from the average */
} ReplicationStatsMember;

typedef struct ReplicationStats {
        uint64_t appends_sent, appends_received;
        ReplicationStatsMember members[TRAFFIC_MEMBERS_MAX];
        size_t n_members;
} ReplicationStats;

void replication_stats_sent(ReplicationStats *t, uint64_t to, uint64_t now_ms, bool failed);
void replication_stats_received(ReplicationStats *t);
void replication_stats_answered(ReplicationStats *t, uint64_t from, uint64_t now_ms);

double replication_stats_deviation(const ReplicationStatsMember *m); /* standard deviation, in ms */
