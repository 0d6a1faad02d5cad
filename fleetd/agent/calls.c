/* Calls to systemd about some units, under way. A call may outlive its agent. */

#include "fleetd/agent/agent_internal.h"

AgentCall *agent_call_free(AgentCall *call) {
        if (call)
                names_done(&call->names);
        free(call);
        return NULL;
}

AgentCall *agent_call_new(Agent *a, AgentStep step, AgentUnit *const *units, size_t n) {
        _cleanup_(agent_call_freep) AgentCall *call = NEW0(AgentCall, 1);
        int r = call ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < n; i++)
                r = names_add(&call->names, units[i]->name, strlen(units[i]->name));
        if (r < 0) {
                agent_retry_soon(a);
                return NULL;
        }
        call->agent = a;
        call->step = step;
        for (size_t i = 0; i < n; i++)
                *(step == AGENT_NOTHING ? &units[i]->refreshing : &units[i]->busy) = true;
        a->calls++;
        return TAKE_PTR(call);
}

const char *const *agent_call_names(const AgentCall *call) {
        return (const char *const *) call->names.items;
}

AgentUnit *agent_call_unit(const AgentCall *call, size_t i) {
        return agent_unit(call->agent, call->names.items[i], false);
}

bool agent_call_ended(Agent *a) {
        a->calls--;
        if (!a->closing)
                return true;
        if (a->calls == 0)
                free(a);
        return false;
}
