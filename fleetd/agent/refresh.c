/* Reading the states of units from systemd again: of those that have changed, and from time to time of all.
 */
#include "fleetd/agent/agent_internal.h"

enum {
        REFRESH_GAP_MS = 100, /* of a unit that changes all the time */
        REFRESH_AHEAD_MS = 7 * REFRESH_GAP_MS,
};

static void agent_on_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (!agent_call_ended(a))
                return;
        a->refreshing = false;
        for (size_t i = 0; error == 0 && i < n; i++)
                agent_refresh_unit(a, &units[i], call->listing);
        for (size_t i = 0; i < call->names.n; i++) {
                AgentUnit *u = agent_call_unit(call, i);

                u->refreshing = false;
                u->must_refresh |= error < 0;
        }
        if (error == 0) {
                agent_wake(a);
                return;
        }
        a->refresh_all |= call->all;
        agent_retry_soon(a);
}

/* Return whether 'u' is to be read now: eight times in a row, then once each 100 ms. If that is due later,
 * schedule a pass. */
static bool agent_refreshes_unit(Agent *a, const AgentUnit *u) {
        uint64_t due_ms = u->spent_ms > REFRESH_AHEAD_MS ? u->spent_ms - REFRESH_AHEAD_MS : 0;

        if (u->refreshing || (!u->must_refresh && !u->changed))
                return false;
        if (due_ms > loop_now_ms(a->loop))
                agent_wake_at(a, due_ms);
        return due_ms <= loop_now_ms(a->loop);
}

void agent_refresh(Agent *a) {
        _cleanup_free_ AgentUnit **units = NULL;
        bool all = a->refresh_all;
        AgentCall *call;
        AgentUnit *u;
        size_t n = 0;
        int r;

        if (a->refreshing)
                return;

        units = NEW0(AgentUnit *, agent_count_dirty(a) + 1);
        if (!units) {
                agent_retry_soon(a);
                return;
        }
        TAILQ_FOREACH(u, &a->dirty, dirty_units)
                if (all || agent_refreshes_unit(a, u))
                        units[n++] = u;
        if (n == 0 && !all)
                return;
        call = agent_call_new(a, AGENT_NOTHING, units, n);
        if (!call)
                return;
        for (size_t i = 0; i < n; i++) {
                units[i]->must_refresh = units[i]->changed = false;
                units[i]->spent_ms = MAX(units[i]->spent_ms, loop_now_ms(a->loop)) + REFRESH_GAP_MS;
        }
        a->refresh_all = false;
        a->refreshing = true;
        a->counts.listings++;
        a->counts.refreshed += n;
        call->all = all;
        call->listing = ++a->n_listings;
        r = a->systemd->ops->list(a->systemd, agent_call_names(call), call->names.n, all, agent_on_listed,
                                  call);
        if (r < 0)
                agent_on_listed(call, r, NULL, 0);
}
