#include "fleetd/metrics.h"

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
        single(t, "fleet_engine_leader_start_time", "gauge", "When this host's engine began to place units, in seconds since 1970; 0: it does not.", c->leader_since_s);
        describe(t, "fleet_engine_task_count_total", "counter", "Orders that the engine gave.");
        labelled(t, "fleet_engine_task_count_total", "type", "attemptscheduleunit", c->scheduled);
        labelled(t, "fleet_engine_task_count_total", "type", "unscheduleunit", c->unscheduled);
        describe(t, "fleet_engine_task_failure_count_total", "counter", "Orders that were overtaken, and planned again.");
        labelled(t, "fleet_engine_task_failure_count_total", "type", "attemptscheduleunit", c->schedule_failures);
        labelled(t, "fleet_engine_task_failure_count_total", "type", "unscheduleunit", c->unschedule_failures);
        single(t, "fleet_engine_reconcile_count_total", "counter", "Passes of the engine.", c->passes);
        describe(t, "fleet_engine_reconcile_failure_count_total", "counter", "Passes that came to nothing.");
        labelled(t, "fleet_engine_reconcile_failure_count_total", "type", "schedule", c->pass_failures);
}

static void registry_write(Text *t, const RegistryCounts *c) {
        describe(t, "fleet_registry_operation_count_total", "counter", "Transactions of the registry.");
        labelled(t, "fleet_registry_operation_count_total", "type", "set", c->done);
        describe(t, "fleet_registry_operation_failed_count_total", "counter", "Those that were refused, overtaken, or whose outcome is unknown.");
        labelled(t, "fleet_registry_operation_failed_count_total", "type", "set", c->failed);
}

static void cluster_write(Text *t, const Cluster *c) {
        uint64_t present[_PRESENCE_MAX] = {}, units = 0;

        for (const ClusterUnit *u = c->units; u; u = u->hh.next)
                units += u->unit != NULL;
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                present[m->presence]++;
        single(t, "fleet_units", "gauge", "Units of the cluster.", units);
        describe(t, "fleet_machines", "gauge", "Machines of the cluster, by presence.");
        for (Presence p = 0; p < _PRESENCE_MAX; p++)
                labelled(t, "fleet_machines", "presence", presence_to_string(p), present[p]);
}

static void store_write(Text *t, const KvStore *store) {
        KvCounts counts;
        KvState state;

        kv_state(store, &state);
        kv_counts(store, &counts);
        single(t, "fleet_store_has_leader", "gauge", "Whether this host knows a leader.", state.leader_id != 0);
        single(t, "fleet_store_is_leader", "gauge", "Whether this host leads.", state.role == KV_ROLE_LEADER);
        single(t, "fleet_store_term", "gauge", "Raft's term.", state.term);
        single(t, "fleet_store_index", "gauge", "The store's index, as applied here.", state.index);
        single(t, "fleet_store_raft_index", "gauge", "Raft's index, as applied here.", state.raft_index);
        describe(t, "fleet_store_operations_total", "counter", "Users' changes that were applied here.");
        for (KvAction a = 0; a < _KV_ACTION_MAX; a++)
                if (a != KV_ACTION_GET)
                        labelled(t, "fleet_store_operations_total", "action", kv_action_name(a), counts.done[a]);
        describe(t, "fleet_store_operations_refused_total", "counter", "Users' changes that were refused.");
        for (KvAction a = 0; a < _KV_ACTION_MAX; a++)
                if (a != KV_ACTION_GET)
                        labelled(t, "fleet_store_operations_refused_total", "action", kv_action_name(a), counts.refused[a]);
}

void metrics_write(Text *t, const KvStore *store, const Registry *registry, const Engine *engine) {
        EngineCounts counts = {};

        if (engine)
                engine_counts(engine, &counts);
        engine_write(t, &counts);
        registry_write(t, registry_counts(registry));
        cluster_write(t, registry_cluster(registry));
        store_write(t, store);
}
