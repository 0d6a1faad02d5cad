/* The lease of singletons.
 *
 * It is a ReadIndex check: a majority confirmed the leader after this host requested the check, and this
 * host's view has all that was committed by then. So a leader that moves a singleton can wait for its end:
 * leases that were requested before its decision was committed end by themselves, and with later ones the
 * host knows the decision. The lease begins at the request, on the clock that also runs while the host is
 * suspended: an answer may arrive at any later time. It ends at a time, and is passed on as such: this daemon
 * may be stopped at any instruction. */
#include "fleetd/agent/agent_internal.h"
#include "units/singleton.h"

enum {
        LEASE_TICK_MS = 1000,
        RENEWALS = 5, /* in the time of a lease */
};

static uint64_t lease_ms(const Agent *a) {
        return singleton_lease_ms(cluster_settings(registry_cluster(a->registry))->singleton_lease_ms);
}

bool agent_has_lease(const Agent *a) {
        return loop_boot_ms(a->loop) < a->lease.until_ms;
}

/* -- Units -- */

/* While the assigned text is not known here, the recorded one decides: what runs here needs its lease. */
static bool lease_is_for(const Agent *a, const AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const AssignmentRecord *record = records_get(&a->records, u->name);
        const Unit *text = agent_assigned_text(a, u) ?: (record ? record->unit : NULL);

        return !(record && record->done) && assignment && assignment->kind == ASSIGNMENT_RUN && text &&
               text->placement.singleton;
}

void agent_forget_singleton(Agent *a, AgentUnit *u) {
        a->lease.n_units -= u->singleton;
        u->singleton = false;
}

void agent_note_singleton(Agent *a, AgentUnit *u) {
        bool is = lease_is_for(a, u);

        if (is == u->singleton)
                return;
        agent_forget_singleton(a, u);
        u->singleton = is;
        a->lease.n_units += is;
        if (is)
                agent_wake(a); /* requests the lease */
}

/* The guards of the units that run have the lease, too. */
static void lease_pass_on(Agent *a) {
        for (AgentUnit *u = a->systemd->ops->guard ? a->units : NULL; u; u = u->hh.next) {
                int r = 0;

                if (u->singleton && agent_has_started(a, u) && lease_is_for(a, u))
                        r = a->systemd->ops->guard(a->systemd, u->name, a->lease.until_ms, 0);
                if (r < 0)
                        agent_unit_failed(a, u, "renew the lease of", strerror(-r));
        }
}

int agent_begin_guard(Agent *a, const AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);

        if (!lease_is_for(a, u))
                return 0;
        if (!a->systemd->ops->guard)
                return -EOPNOTSUPP;
        return a->systemd->ops->guard(a->systemd, u->name, a->lease.until_ms, assignment->index);
}

void agent_end_guard(Agent *a, const AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);

        if (a->systemd->ops->guard && record && record->unit && record->unit->placement.singleton)
                (void) a->systemd->ops->guard(a->systemd, u->name, 0, 0);
}

/* -- The lease -- */

static void lease_on_synced(void *userdata, KvStatus status) {
        Agent *a = userdata;

        a->lease.requesting = false;
        if (status == KV_OK) {
                a->lease.granted_ms = a->lease.requested_ms;
                a->lease.granted_index = kv_index(registry_store(a->registry));
        }
        agent_wake(a);
}

static void lease_request(Agent *a) {
        AgentLease *lease = &a->lease;
        uint64_t now_ms = loop_boot_ms(a->loop);

        if (lease->requesting || lease->granted_ms > 0 ||
            (lease->requested_ms > 0 && now_ms - lease->requested_ms < lease_ms(a) / RENEWALS))
                return;
        lease->requesting = true;
        lease->requested_ms = now_ms;
        lease->sync = (KvSync) { .done = lease_on_synced, .userdata = a };
        kv_sync(registry_store(a->registry), &lease->sync);
}

/* The lease is valid with a view that has the state of the check. */
static void lease_take(Agent *a) {
        AgentLease *lease = &a->lease;

        if (lease->granted_ms == 0 || !agent_view_has(a, lease->granted_index))
                return;
        lease->until_ms = MAX(lease->until_ms, lease->granted_ms + lease_ms(a));
        lease->granted_ms = 0;
        lease_pass_on(a);
}

void agent_update_lease(Agent *a) {
        AgentLease *lease = &a->lease;
        bool valid;

        if (!a->fresh) /* a check of a former leader, or of another lineage, may end meanwhile */
                agent_end_lease(a);
        else if (lease->n_units > 0) {
                lease_take(a);
                lease_request(a);
        }
        valid = agent_has_lease(a);
        for (AgentUnit *u = valid != lease->valid ? a->units : NULL; u; u = u->hh.next)
                if (u->singleton)
                        agent_dirty(a, u);
        lease->valid = valid;
        if (lease->n_units > 0 && !timer_armed(&lease->tick))
                (void) timer_start(&lease->tick, a->loop, LEASE_TICK_MS);
}

/* A lease that was granted stays valid until its end. */
void agent_end_lease(Agent *a) {
        if (a->lease.requesting)
                kv_sync_cancel(registry_store(a->registry), &a->lease.sync);
        a->lease.requesting = false;
        a->lease.granted_ms = a->lease.requested_ms = 0;
        timer_stop(&a->lease.tick);
}
