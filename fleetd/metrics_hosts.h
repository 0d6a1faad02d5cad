/* Families of the hosts of the cluster, of their sessions and of their admission. */
#pragma once

#include "fleetd/metrics_table.h"

/* Values of several families, read once. */
typedef struct MetricsView {
        const ComponentHost *host;
        KvState state;
        KvCounts counts;
        size_t window_bytes;
        RegistryCounts registry;
        Turns turns;
        uint64_t leader_changes;
        EngineCounts engine; /* 0s without an engine */
        AgentCounts agent;   /* 0s without an agent, as the next one */
        ChecksCounts checks;
} MetricsView;

void metrics_read_hosts(const MetricsView *v, MetricsWriter *w);
/* Attached hosts without an idle session for a minute. */
void metrics_read_single(const MetricsView *v, MetricsWriter *w);
void metrics_read_maintenance(const MetricsView *v, MetricsWriter *w);
void metrics_read_rollouts(const MetricsView *v, MetricsWriter *w);
/* Tokens that still permit a host to join. */
void metrics_read_tokens(const MetricsView *v, MetricsWriter *w);
/* No sample on a host without a certificate. */
void metrics_read_certificate(const MetricsView *v, MetricsWriter *w);
/* Members only: one sample for each other replica. */
void metrics_read_session_up(const MetricsView *v, MetricsWriter *w);
void metrics_read_sessions(const MetricsView *v, MetricsWriter *w);
void metrics_read_subscriptions(const MetricsView *v, MetricsWriter *w);
void metrics_read_admission(const MetricsView *v, MetricsWriter *w);
