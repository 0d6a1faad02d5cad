#include "fleetd/metrics_table.h"

#include "fleetd/engine/plan.h"
#include "fleetd/metrics_hosts.h"
#include "fleetd/metrics_units.h"
#include "fleetd/problems/daemon.h"

/* A member of MetricsView, or of MetricsScrape, with the value of the first label. */
typedef struct MetricValue {
        const char *label;
        uint16_t offset, size; /* 0: there is none */
} MetricValue;

#define VALUES(...)             \
        (const MetricValue[]) { \
                __VA_ARGS__, {} \
        }
#define VIEW(member)   offsetof(MetricsView, member), sizeof(((MetricsView *) NULL)->member)
#define SCRAPE(member) offsetof(MetricsScrape, member), sizeof(((MetricsScrape *) NULL)->member)

/* A family, and where its samples are: in the memory of the daemon, on the loop; or in files of the kernel,
 * off the loop. */
typedef struct MetricRow {
        MetricFamily family;
        void (*read)(const MetricsView *v, MetricsWriter *w); /* or the next two, members of MetricsView: */
        const MetricValue *values;                            /* one without a size ends */
        uint16_t durations;                                   /* DurationCounts; 0: none */
        bool of_scrape;         /* the values are of MetricsScrape, off the loop */
        MetricsUnitWrite write; /* the same for each unit of this host */
} MetricRow;

/* -- Cluster: from the cluster view, equal on all hosts -- */

static void read_build(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, 1, PACKAGE_VERSION, NULL);
}

static void read_units(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, cluster_n_units(registry_cluster(v->host->registry)), NULL, NULL);
}

static void read_units_by_state(const MetricsView *v, MetricsWriter *w) {
        static const char *const names[_UNIT_CONDITION_MAX] = { [UNIT_ACTIVE] = "active",
                                                                [UNIT_FAILED] = "failed",
                                                                [UNIT_WAITING] = "waiting",
                                                                [UNIT_OTHER] = "other" };

        for (UnitCondition c = UNIT_ACTIVE; c < _UNIT_CONDITION_MAX; c++)
                metrics_add(w, registry_cluster(v->host->registry)->conditions[c], names[c], NULL);
}

static void read_machines(const MetricsView *v, MetricsWriter *w) {
        const size_t *n = registry_cluster(v->host->registry)->counts + MACHINES_BY_PRESENCE;

        for (Presence p = 0; p < _PRESENCE_MAX; p++)
                metrics_add(w, n[p], presence_to_string(p), NULL);
}

/* Until the first search has ended, there are no figures. */
static void read_problems(const MetricsView *v, MetricsWriter *w) {
        const size_t *counts = v->host->problems ? problems_counts(v->host->problems) : NULL;
        const ProblemRow *row;

        for (size_t i = 0; counts && (row = problems_row(v->host->components, i)); i++)
                metrics_add(w, counts[i], row->kind, problem_severity_names[row->severity]);
}

/* -- Engine -- */

static void read_brake(const MetricsView *v, MetricsWriter *w) {
        EngineBrake brake = {};

        if (engine_brake_state(registry_cluster(v->host->registry),
                               v->host->engine ? engine_brake(v->host->engine) : 0, &brake) < 0)
                w->text->error = -ENOMEM;
        metrics_add(w, brake.until_ms > 0, NULL, NULL);
}

static void read_moves(const MetricsView *v, MetricsWriter *w) {
        static const char *const names[_MOVE_REASON_MAX] = { [MOVE_LOST] = "lost",
                                                             [MOVE_DRAINED] = "drained",
                                                             [MOVE_EDITED] = "edited",
                                                             [MOVE_CONFLICT] = "conflict",
                                                             [MOVE_REQUESTED] = "requested" };

        for (MoveReason m = MOVE_NONE + 1; m < _MOVE_REASON_MAX; m++)
                metrics_add(w, v->engine.moves[m], names[m], NULL);
}

static void read_waiting(const MetricsView *v, MetricsWriter *w) {
        const ClusterUnit *u;
        uint64_t n = 0;

        LIST_FOREACH(u, &registry_cluster(v->host->registry)->lists[CLUSTER_WAITING], lists[CLUSTER_WAITING])
                n += u->unit != NULL;
        metrics_add(w, n, NULL, NULL);
}

/* -- Store -- */

static void read_has_leader(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, v->state.leader_id != 0, NULL, NULL);
}

static void read_is_leader(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, v->state.role == KV_ROLE_LEADER, NULL, NULL);
}

static void read_lag(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, v->state.commit - MIN(v->state.commit, v->state.raft_index), NULL, NULL);
}

static void add_actions(MetricsWriter *w, const uint64_t n[static _KV_ACTION_MAX]) {
        for (KvAction a = 0; a < _KV_ACTION_MAX; a++)
                if (a != KV_ACTION_GET)
                        metrics_add(w, n[a], kv_action_name(a), NULL);
}

static void read_operations(const MetricsView *v, MetricsWriter *w) {
        add_actions(w, v->counts.done);
}

static void read_refused_operations(const MetricsView *v, MetricsWriter *w) {
        add_actions(w, v->counts.refused);
}

/* -- HTTP -- */

static void add_requests(void *userdata, const char *name, const HttpCounts *counts) {
        static const char *const classes[HTTP_CLASSES] = { "1xx", "2xx", "3xx", "4xx", "5xx" };

        for (size_t i = 1; i < HTTP_CLASSES; i++)
                metrics_add(userdata, counts->answers[i], name, classes[i]);
}

static void read_requests(const MetricsView *v, MetricsWriter *w) {
        api_each_listener(v->host->api, add_requests, w);
}

static void add_connections(void *userdata, const char *name, const HttpCounts *counts) {
        metrics_add(userdata, counts->n_connections, name, NULL);
}

static void read_connections(const MetricsView *v, MetricsWriter *w) {
        api_each_listener(v->host->api, add_connections, w);
}

static void add_rejected(void *userdata, const char *name, const HttpCounts *counts) {
        for (HttpLimit limit = 0; limit < _HTTP_LIMIT_MAX; limit++)
                metrics_add(userdata, counts->rejected[limit], name, http_limit_name(limit));
}

static void read_rejected(const MetricsView *v, MetricsWriter *w) {
        api_each_listener(v->host->api, add_rejected, w);
}

static void read_watches(const MetricsView *v, MetricsWriter *w) {
        metrics_add(w, api_watches(v->host->api), NULL, NULL);
}

/* -- Agent -- */

static void read_agent_actions(const MetricsView *v, MetricsWriter *w) {
        static const struct {
                AgentStep step;
                const char *name;
        } actions[] = {
                { AGENT_WRITE, "write" }, { AGENT_START, "start" },   { AGENT_RELOAD, "reload" },
                { AGENT_STOP, "stop" },   { AGENT_REMOVE, "remove" }, { AGENT_RESTART, "restart" },
        };

        for (size_t i = 0; i < ELEMENTS(actions); i++) {
                metrics_add(w, v->agent.done[actions[i].step], actions[i].name, "done");
                metrics_add(w, v->agent.failed[actions[i].step], actions[i].name, "failed");
        }
}

/* -- Event loop -- */

static void read_turns(const MetricsView *v, MetricsWriter *w) {
        metrics_add_histogram(w, &(MetricHistogram) { .bounds_ns = turn_bucket_ns,
                                                      .n_bounds = TURN_BUCKETS,
                                                      .buckets = v->turns.buckets,
                                                      .sum_ns = v->turns.cpu_ns });
}

/* -- The table -- */

#define GAUGE     METRIC_GAUGE
#define COUNTER   METRIC_COUNTER
#define HISTOGRAM METRIC_HISTOGRAM

/* clang-format off */
/* Rows with 'of_scrape' or 'write' follow all others. */
static const MetricRow rows[] = {
        { { "fleet_build_info", METRIC_INFO, NULL, { "version" },
            "Version of this fleetd." },
          read_build },

        { { "fleet_units", GAUGE, NULL, {},
            "Units of the cluster." },
          read_units },
        { { "fleet_units_by_state", GAUGE, NULL, { "state" },
            "Units of the cluster, by state: failed on a machine, active on one, waiting for a machine." },
          read_units_by_state },
        { { "fleet_problems", GAUGE, NULL, { "kind", "severity" },
            "Problems of fleetctl status, by kind, as they were at the scrape before. A host without a "
            "replica has its own ones." },
          read_problems },
        { { "fleet_machines", GAUGE, NULL, { "presence" },
            "Machines of the cluster, by presence." },
          read_machines },
        { { "fleet_hosts", GAUGE, NULL, { "kind" },
            "Hosts of the cluster, by kind." },
          metrics_read_hosts },
        { { "fleet_hosts_without_idle_session", GAUGE, NULL, {},
            "Attached hosts that have had a session to one replica only for a minute or more." },
          metrics_read_single },
        { { "fleet_machines_maintenance", GAUGE, NULL, { "mode" },
            "Machines that get no units, by mode of their maintenance: cordoned, draining (also for "
            "a leave), drained." },
          metrics_read_maintenance },
        { { "fleet_rollouts", GAUGE, NULL, { "state" },
            "Rollouts that have not ended, by state." },
          metrics_read_rollouts },
        { { "fleet_tokens", GAUGE, NULL, {},
            "Tokens that still permit a host to join." },
          metrics_read_tokens },
        { { "fleet_certificate_expiry_seconds", GAUGE, "seconds", {},
            "When the last certificate that was issued for this host ends, in seconds since 1970." },
          metrics_read_certificate },

        { { "fleet_engine_leader_start_time", GAUGE, NULL, {},
            "When this host's engine began to place units, in seconds since 1970; 0: it does not." },
          .values = VALUES({ NULL, VIEW(engine.leader_since_s) }) },
        { { "fleet_engine_task_count_total", COUNTER, NULL, { "type" },
            "Assignments that the engine wrote." },
          .values = VALUES({ "attemptscheduleunit", VIEW(engine.scheduled) },
                      { "unscheduleunit", VIEW(engine.unscheduled) }) },
        { { "fleet_engine_task_failure_count_total", COUNTER, NULL, { "type" },
            "Assignments that were rejected, and planned again." },
          .values = VALUES({ "attemptscheduleunit", VIEW(engine.schedule_failures) },
                      { "unscheduleunit", VIEW(engine.unschedule_failures) }) },
        { { "fleet_engine_reconcile_count_total", COUNTER, NULL, {},
            "Passes of the engine." },
          .values = VALUES({ NULL, VIEW(engine.passes) }) },
        { { "fleet_engine_reconcile_failure_count_total", COUNTER, NULL, { "type" },
            "Passes that failed." },
          .values = VALUES({ "schedule", VIEW(engine.pass_failures) }) },
        { { "fleet_engine_moves_total", COUNTER, NULL, { "reason" },
            "Assignments that the engine wrote to move a unit, by what ended its former place." },
          read_moves },
        { { "fleet_engine_brake_active", GAUGE, NULL, {},
            "Whether the mass-failure brake holds back all moves." },
          read_brake },
        { { "fleet_engine_waiting_units", GAUGE, NULL, {},
            "Units that are to run or to be loaded, and have no machine." },
          read_waiting },

        { { "fleet_registry_operation_count_total", COUNTER, NULL, { "type" },
            "Transactions of the registry." },
          .values = VALUES({ "set", VIEW(registry.done) }) },
        { { "fleet_registry_operation_failed_count_total", COUNTER, NULL, { "type" },
            "Transactions that were rejected, or whose outcome is unknown." },
          .values = VALUES({ "set", VIEW(registry.failed) }) },

        { { "fleet_store_has_leader", GAUGE, NULL, {},
            "Whether this host knows a leader." },
          read_has_leader },
        { { "fleet_store_is_leader", GAUGE, NULL, {},
            "Whether this host leads." },
          read_is_leader },
        { { "fleet_store_leader_changes_total", COUNTER, NULL, {},
            "How often this host followed another leader, or began to lead." },
          .values = VALUES({ NULL, VIEW(leader_changes) }) },
        { { "fleet_store_term", GAUGE, NULL, {},
            "Raft's term." },
          .values = VALUES({ NULL, VIEW(state.term) }) },
        { { "fleet_store_index", GAUGE, NULL, {},
            "The store's index, as applied here." },
          .values = VALUES({ NULL, VIEW(state.index) }) },
        { { "fleet_store_raft_index", GAUGE, NULL, {},
            "Raft's index, as applied here." },
          .values = VALUES({ NULL, VIEW(state.raft_index) }) },
        { { "fleet_store_lag_entries", GAUGE, NULL, {},
            "Entries that are committed, as this host knows, and not applied here." },
          read_lag },
        { { "fleet_store_condition", GAUGE, NULL, { "condition" },
            "Whether the replica of this host has this condition." },
          .values = VALUES({ "diverged", VIEW(state.differs) }, { "no-majority", VIEW(state.undecided) },
                      { "stopped", VIEW(state.stopped) }, { "quarantined", VIEW(state.lost) },
                      { "snapshot-refused", VIEW(state.refuses) }) },
        { { "fleet_store_keys", GAUGE, NULL, { "owner" },
            "Keys and directories." },
          .values = VALUES({ "users", VIEW(counts.users.n_keys) }, { "fleet", VIEW(counts.own.n_keys) }) },
        { { "fleet_store_bytes", GAUGE, "bytes", { "owner" },
            "Bytes of keys and values, as the quota counts them." },
          .values = VALUES({ "users", VIEW(counts.users.bytes) }, { "fleet", VIEW(counts.own.bytes) }) },
        { { "fleet_store_quota_bytes", GAUGE, "bytes", { "owner" },
            "Limit of these bytes." },
          .values = VALUES({ "users", VIEW(counts.quota_bytes) }, { "fleet", VIEW(counts.quota_bytes) }) },
        { { "fleet_store_log_memory_bytes", GAUGE, "bytes", {},
            "Bytes of the log's entries that are in memory." },
          .values = VALUES({ NULL, VIEW(counts.entries_bytes) }) },
        { { "fleet_store_event_window_bytes", GAUGE, "bytes", {},
            "Bytes of the event windows in memory." },
          .values = VALUES({ NULL, VIEW(window_bytes) }) },
        { { "fleet_store_apply_cost_total", COUNTER, NULL, {},
            "Cost of the entries that were applied here, in bytes." },
          .values = VALUES({ NULL, VIEW(counts.cost.total) }) },
        { { "fleet_store_apply_cost_max", GAUGE, NULL, {},
            "Cost of the costliest of them." },
          .values = VALUES({ NULL, VIEW(counts.cost_max.total) }) },
        { { "fleet_store_deferred_total", COUNTER, NULL, {},
            "Commands that did not fit into their entry's budget." },
          .values = VALUES({ NULL, VIEW(counts.deferred) }) },
        { { "fleet_store_operations_total", COUNTER, NULL, { "action" },
            "Users' changes that were applied here." },
          read_operations },
        { { "fleet_store_operations_refused_total", COUNTER, NULL, { "action" },
            "Users' changes that were refused." },
          read_refused_operations },

        { { "fleet_store_commit_seconds", HISTOGRAM, "seconds", {},
            "Time from the proposal of a change on this host until it is applied here." },
          .durations = offsetof(MetricsView, counts.commits) },
        { { "fleet_store_log_write_seconds", HISTOGRAM, "seconds", {},
            "Time of a write of the log, with its sync." },
          .durations = offsetof(MetricsView, counts.log_writes) },

        { { "fleet_session_up", GAUGE, NULL, { "peer" },
            "Whether a session to this other member is open, and its kernel has answered recently." },
          metrics_read_session_up },
        { { "fleet_sessions", GAUGE, NULL, { "kind" },
            "Other hosts to which a session is open, by kind." },
          metrics_read_sessions },
        { { "fleet_subscriptions", GAUGE, NULL, {},
            "Slices and keys of hosts without a replica that are followed here." },
          metrics_read_subscriptions },
        { { "fleet_admission_waiting", GAUGE, NULL, {},
            "Connections to ListenPeer= that are not authenticated yet, and hosts that are joining." },
          metrics_read_admission },

        { { "fleet_http_requests_total", COUNTER, NULL, { "listener", "class" },
            "Answers, by the class of their status." }, read_requests },
        { { "fleet_http_connections", GAUGE, NULL, { "listener" },
            "Open connections of clients." }, read_connections },
        { { "fleet_http_watches", GAUGE, NULL, {},
            "Clients that wait for a change of a key." }, read_watches },
        { { "fleet_http_rejected_total", COUNTER, NULL, { "listener", "limit" },
            "Requests and connections that exceeded a limit." }, read_rejected },

        { { "fleet_agent_actions_total", COUNTER, NULL, { "action", "result" },
            "Actions of the agent on units of this host." }, read_agent_actions },
        { { "fleet_agent_start_seconds", HISTOGRAM, "seconds", {},
            "Time from the assignment of a unit until it is active on this host." },
          .durations = offsetof(MetricsView, agent.starts) },
        { { "fleet_health_checks", GAUGE, NULL, {},
            "Health checks of the units that run on this host." },
          .values = VALUES({ NULL, VIEW(checks.n_checks) }) },
        { { "fleet_health_probes_total", COUNTER, NULL, { "result" },
            "Executions of health checks by this host. Late ones are discarded." },
          .values = VALUES({ "passed", VIEW(checks.passed) }, { "failed", VIEW(checks.failed) },
                           { "discarded", VIEW(checks.late) }) },

        { { "fleet_loop_turn_cpu_seconds", HISTOGRAM, "seconds", {},
            "CPU time of the turns of the event loop." },
          read_turns },
        { { "fleet_loop_turn_cpu_max_seconds", GAUGE, "seconds", {},
            "CPU time of the longest turn since the start." },
          .values = VALUES({ NULL, VIEW(turns.cpu_max_ns) }) },
        { { "fleet_loop_turn_wall_max_seconds", GAUGE, "seconds", {},
            "Wall time of the longest turn since the start." },
          .values = VALUES({ NULL, VIEW(turns.wall_max_ns) }) },
        { { "fleet_loop_work_total", COUNTER, NULL, { "unit" },
            "Work of the event loop that grows with its input." },
          .values = VALUES({ "nodes", VIEW(turns.total.nodes) }, { "bytes", VIEW(turns.total.bytes) }) },
        { { "fleet_loop_turn_work_max", GAUGE, NULL, { "unit" },
            "The most such work of one turn since the start." },
          .values = VALUES({ "nodes", VIEW(turns.most.nodes) }, { "bytes", VIEW(turns.most.bytes) }) },

        { { "fleet_unit_active", GAUGE, NULL, { "unit" },
            "Whether this unit of this host is active." },
          .write = metrics_write_active },
        { { "fleet_unit_failed", GAUGE, NULL, { "unit" },
            "Whether it has failed." },
          .write = metrics_write_failed },
        { { "fleet_unit_start_time_seconds", GAUGE, "seconds", { "unit" },
            "When it became active, in seconds since 1970." },
          .write = metrics_write_start },
        { { "fleet_unit_restarts_total", COUNTER, NULL, { "unit" },
            "How often systemd has restarted it since its start." },
          .write = metrics_write_restarts },
        { { "fleet_unit_cpu_seconds_total", COUNTER, "seconds", { "unit" },
            "CPU time of its processes." },
          .write = metrics_write_cpu },
        { { "fleet_unit_memory_bytes", GAUGE, "bytes", { "unit" },
            "Memory that its cgroup uses." },
          .write = metrics_write_memory },
        { { "fleet_unit_tasks", GAUGE, NULL, { "unit" },
            "Its threads and processes." },
          .write = metrics_write_tasks },
        { { "fleet_unit_io_read_bytes_total", COUNTER, "bytes", { "unit" },
            "Bytes that it read from devices." },
          .write = metrics_write_read },
        { { "fleet_unit_io_written_bytes_total", COUNTER, "bytes", { "unit" },
            "Bytes that it wrote to devices." },
          .write = metrics_write_written },
        { { "fleet_unit_pressure_seconds_total", COUNTER, "seconds", { "unit", "resource" },
            "Time in which one of its tasks or more waited for the resource." },
          .write = metrics_write_pressure },
        { { "fleet_metrics_units_omitted", GAUGE, NULL, {},
            "Units of this host without families of their own, because there are more than MetricsUnits=." },
          .of_scrape = true, .values = VALUES({ NULL, SCRAPE(n_omitted) }) },

        { { "process_cpu_seconds_total", COUNTER, "seconds", {},
            "CPU time of this fleetd, of all its threads." },
          .of_scrape = true, .values = VALUES({ NULL, SCRAPE(process.cpu_ns) }) },
        { { "process_resident_memory_bytes", GAUGE, "bytes", {},
            "Memory of this fleetd that is in use, without swap." },
          .of_scrape = true, .values = VALUES({ NULL, SCRAPE(process.resident_bytes) }) },
        { { "process_open_fds", GAUGE, NULL, {},
            "Open file descriptors of this fleetd." },
          .of_scrape = true, .values = VALUES({ NULL, SCRAPE(process.open_fds) }) },
        { { "process_start_time_seconds", GAUGE, "seconds", {},
            "When this fleetd started, in seconds since 1970." },
          .of_scrape = true, .values = VALUES({ NULL, SCRAPE(process.started_ns) }) },
};
/* clang-format on */

const MetricFamily *metrics_family(size_t i) {
        return i < ELEMENTS(rows) ? &rows[i].family : NULL;
}

/* Seconds are kept in nanoseconds. */
static void metrics_add_values(MetricsWriter *w, const MetricRow *row, const void *of) {
        for (const MetricValue *v = row->values; v && v->size > 0; v++) {
                const char *member = (const char *) of + v->offset;
                uint64_t value = v->size == sizeof(bool)     ? *(const bool *) member :
                                 v->size == sizeof(unsigned) ? *(const unsigned *) member :
                                                               *(const uint64_t *) member;

                if (same_string(row->family.unit, "seconds"))
                        metrics_add_ns(w, value, v->label, NULL);
                else
                        metrics_add(w, value, v->label, NULL);
        }
}

static void metrics_add_row(MetricsWriter *w, const MetricRow *row, const MetricsView *v) {
        const DurationCounts *counts = (const void *) ((const char *) v + row->durations);

        if (row->read)
                row->read(v, w);
        else if (row->durations > 0)
                metrics_add_histogram(w, &(MetricHistogram) { .bounds_ns = duration_bounds_ns,
                                                              .n_bounds = DURATION_BUCKETS,
                                                              .buckets = counts->buckets,
                                                              .sum_ns = counts->sum_ns });
        else
                metrics_add_values(w, row, v);
}

static void metrics_complete(MetricsScrape *scrape) {
        MetricsWriter w = { .form = scrape->form, .text = &scrape->text };

        metrics_process_read(&scrape->process);
        metrics_scrape_read_units(scrape, "/sys/fs/cgroup");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                if (!rows[i].of_scrape && !rows[i].write)
                        continue;
                metrics_begin_family(&w, &rows[i].family);
                metrics_add_values(&w, &rows[i], scrape);
                for (size_t k = 0; rows[i].write && k < scrape->n_units; k++)
                        rows[i].write(&w, &scrape->units[k]);
        }
        metrics_end(&w);
}

int metrics_begin(const ComponentHost *host, MetricsForm form, MetricsScrape **ret) {
        _cleanup_(metrics_scrape_freep) MetricsScrape *scrape = NEW0(MetricsScrape, 1);
        MetricsView v = { .host = host, .leader_changes = host->leader_changes };
        MetricsWriter w;

        if (!scrape || metrics_units_collect(host, scrape) < 0)
                return -ENOMEM;
        kv_state(host->store, &v.state);
        kv_counts(host->store, &v.counts);
        v.window_bytes = kv_window_bytes(host->store);
        v.registry = *registry_counts(host->registry);
        v.turns = *loop_turns(host->io.loop);
        if (host->engine)
                engine_counts(host->engine, &v.engine);
        if (host->agent)
                v.agent = *agent_counts(host->agent);
        if (host->agent && agent_checks(host->agent))
                v.checks = *agent_checks(host->agent);
        scrape->form = form;
        scrape->complete = metrics_complete;
        scrape->process.started_ns = host->started_ms * NS_PER_MS;
        w = (MetricsWriter) { .form = form, .text = &scrape->text };
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                if (rows[i].of_scrape || rows[i].write)
                        continue;
                metrics_begin_family(&w, &rows[i].family);
                metrics_add_row(&w, &rows[i], &v);
        }
        if (scrape->text.error < 0)
                return scrape->text.error;
        *ret = TAKE_PTR(scrape);
        return 0;
}
