/* What Raft's log entries cost on the way: how many were sent and came, and how long each member took to
 * answer. For people and for /v2/stats; nothing decides by it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRAFFIC_MEMBERS_MAX = 16 };

/* Of one member, as the host sees it that leads. Times are of round trips, in ms. */
typedef struct ReplicationStatsMember {
        uint64_t raft_id;
        uint64_t n_answers, n_failures;   /* of appends: answered; could not be sent */
        uint64_t waiting_since_ms;        /* the oldest append without an answer was sent then; 0: none */
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
