#include "fleetd/api/metrics.h"

#include "base/memory.h"

static void describe(Text *t, const char *name, const char *type, const char *help) {
        text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(Text *t, const char *name, const char *type, const char *help, uint64_t value) {
        describe(t, name, type, help);
        text_printf(t, "%s %llu\n", name, (unsigned long long) value);
}

static void labelled(Text *t, const char *name, const char *label, const char *value, uint64_t n) {
        text_printf(t, "%s{%s=\"%s\"} %llu\n", name, label, value, (unsigned long long) n);
}

static void engine_write(Text *t, const EngineCounts *c) {
        single(t, "fleet_engine_leader_start_time", "gauge",
               "When this host's engine began to place units, in seconds since 1970; 0: it does not.",
               c->leader_since_s);
        describe(t, "fleet_engine_task_count_total", "counter", "Assignments that the engine wrote.");
        labelled(t, "fleet_engine_task_count_total", "type", "attemptscheduleunit", c->scheduled);
        labelled(t, "fleet_engine_task_count_total", "type", "unscheduleunit", c->unscheduled);
        describe(t, "fleet_engine_task_failure_count_total", "counter",
                 "Assignments that were rejected, and planned again.");
        labelled(t, "fleet_engine_task_failure_count_total", "type", "attemptscheduleunit",
                 c->schedule_failures);
        labelled(t, "fleet_engine_task_failure_count_total", "type", "unscheduleunit",
                 c->unschedule_failures);
        single(t, "fleet_engine_reconcile_count_total", "counter", "Passes of the engine.", c->passes);
        describe(t, "fleet_engine_reconcile_failure_count_total", "counter", "Passes that failed.");
        labelled(t, "fleet_engine_reconcile_failure_count_total", "type", "schedule", c->pass_failures);
}

static void registry_write(Text *t, const RegistryCounts *c) {
        describe(t, "fleet_registry_operation_count_total", "counter", "Transactions of the registry.");
        labelled(t, "fleet_registry_operation_count_total", "type", "set", c->done);
        describe(t, "fleet_registry_operation_failed_count_total", "counter",
                 "Transactions that were rejected, or whose outcome is unknown.");
        labelled(t, "fleet_registry_operation_failed_count_total", "type", "set", c->failed);
}

static void cluster_write(Text *t, const Cluster *c) {
        uint64_t present[_PRESENCE_MAX] = {}, units = 0;

        for (const ClusterUnit *u = c->units; u; u = u->hh.next)
                units += u->unit != NULL;
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                present[m->presence] += !cluster_machine_is_removed(m);
        single(t, "fleet_units", "gauge", "Units of the cluster.", units);
        describe(t, "fleet_machines", "gauge", "Machines of the cluster, by presence.");
        for (Presence p = 0; p < _PRESENCE_MAX; p++)
                labelled(t, "fleet_machines", "presence", presence_to_string(p), present[p]);
}

static void actions_write(Text *t, const char *name, const char *help, const uint64_t n[_KV_ACTION_MAX]) {
        describe(t, name, "counter", help);
        for (KvAction a = 0; a < _KV_ACTION_MAX; a++)
                if (a != KV_ACTION_GET)
                        labelled(t, name, "action", kv_action_name(a), n[a]);
}

static void store_write(Text *t, const KvStore *store) {
        KvCounts counts;
        KvState state;

        kv_state(store, &state);
        kv_counts(store, &counts);
        single(t, "fleet_store_has_leader", "gauge", "Whether this host knows a leader.",
               state.leader_id != 0);
        single(t, "fleet_store_is_leader", "gauge", "Whether this host leads.", state.role == KV_ROLE_LEADER);
        single(t, "fleet_store_term", "gauge", "Raft's term.", state.term);
        single(t, "fleet_store_index", "gauge", "The store's index, as applied here.", state.index);
        single(t, "fleet_store_raft_index", "gauge", "Raft's index, as applied here.", state.raft_index);
        single(t, "fleet_store_log_memory_bytes", "gauge", "Bytes of the log's entries that are in memory.",
               counts.entries_bytes);
        single(t, "fleet_store_event_window_bytes", "gauge", "Bytes of the event windows in memory.",
               counts.window_bytes);
        single(t, "fleet_store_apply_cost_total", "counter",
               "Cost of the entries that were applied here, in bytes.", counts.cost.total);
        single(t, "fleet_store_apply_cost_max", "gauge", "Cost of the costliest of them.",
               counts.cost_max.total);
        single(t, "fleet_store_deferred_total", "counter",
               "Commands that did not fit into their entry's budget.", counts.deferred);
        actions_write(t, "fleet_store_operations_total", "Users' changes that were applied here.",
                      counts.done);
        actions_write(t, "fleet_store_operations_refused_total", "Users' changes that were refused.",
                      counts.refused);
}

static double seconds(uint64_t ns) {
        return (double) ns / 1e9;
}

static void seconds_max(Text *t, const char *name, const char *help, uint64_t ns) {
        describe(t, name, "gauge", help);
        text_printf(t, "%s %.6f\n", name, seconds(ns));
}

/* A histogram as Prometheus expects it: each bucket holds those before it, too. */
static void loop_write(Text *t, const Turns *turns) {
        static const char name[] = "fleet_loop_turn_cpu_seconds";
        uint64_t n = 0;

        describe(t, name, "histogram", "CPU time of the turns of the event loop.");
        for (size_t i = 0; i < TURN_BUCKETS; i++) {
                n += turns->buckets[i];
                text_printf(t, "%s_bucket{le=\"%g\"} %llu\n", name, seconds(turn_bucket_ns[i]),
                            (unsigned long long) n);
        }
        text_printf(t, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long) turns->n);
        text_printf(t, "%s_sum %.6f\n%s_count %llu\n", name, seconds(turns->cpu_ns), name,
                    (unsigned long long) turns->n);
        seconds_max(t, "fleet_loop_turn_cpu_max_seconds", "CPU time of the longest turn since the start.",
                    turns->cpu_max_ns);
        seconds_max(t, "fleet_loop_turn_wall_max_seconds", "Wall time of the longest turn since the start.",
                    turns->wall_max_ns);
        describe(t, "fleet_loop_work_total", "counter", "Work of the event loop that grows with its input.");
        labelled(t, "fleet_loop_work_total", "unit", "nodes", turns->total.nodes);
        labelled(t, "fleet_loop_work_total", "unit", "bytes", turns->total.bytes);
        describe(t, "fleet_loop_turn_work_max", "gauge", "The most such work of one turn since the start.");
        labelled(t, "fleet_loop_turn_work_max", "unit", "nodes", turns->most.nodes);
        labelled(t, "fleet_loop_turn_work_max", "unit", "bytes", turns->most.bytes);
}

void metrics_write(Text *t, const Loop *loop, const KvStore *store, const Registry *registry,
                   const Engine *engine) {
        EngineCounts counts = {};

        if (engine)
                engine_counts(engine, &counts);
        engine_write(t, &counts);
        registry_write(t, registry_counts(registry));
        cluster_write(t, registry_cluster(registry));
        store_write(t, store);
        loop_write(t, loop_turns(loop));
}
