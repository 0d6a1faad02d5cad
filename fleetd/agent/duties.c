/* What this host does around a unit, beside its steps. */
#include "fleetd/agent/agent_internal.h"

/* In the order of the calls. NULL: nothing. */
static const struct {
        const char *name;
        int (*prepare)(Agent *a, const AgentUnit *u);   /* before its start; 0 or a negative errno */
        void (*stopping)(Agent *a, const AgentUnit *u); /* before an assigned stop */
        void (*gone)(Agent *a, AgentUnit *u);           /* before it is freed */
} duties[] = {
        { "lease", agent_begin_guard, agent_end_guard, agent_forget_singleton },
        { "text", .gone = agent_forget_text },
        { "health", .gone = agent_end_checks },
};

int agent_begin_duties(Agent *a, const AgentUnit *u, AgentStep s) {
        int r = 0;

        for (size_t i = 0; i < ELEMENTS(duties) && r >= 0; i++) {
                if (s == AGENT_STOP && duties[i].stopping)
                        duties[i].stopping(a, u);
                if (s == AGENT_START && duties[i].prepare)
                        r = duties[i].prepare(a, u);
        }
        return r;
}

void agent_unit_gone(Agent *a, AgentUnit *u) {
        for (size_t i = 0; i < ELEMENTS(duties); i++)
                if (duties[i].gone)
                        duties[i].gone(a, u);
}
