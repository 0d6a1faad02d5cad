/* What this host does around a unit, beside its steps: the agent first, then the components in the order of
 * their table. */
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

/* Return the duty of the component at this place; NULL: it has none, or is not opened here. */
static const Duty *agent_duty(const Agent *a, size_t i) {
        return a->host->selves[i] ? a->host->components[i]->duty : NULL;
}

uint64_t agent_content(const Agent *a, const Unit *text, Verdict *problem) {
        uint64_t content = 0;

        if (!input_policy_is_set(&text->placement.inputs))
                return 0;
        for (size_t i = 0; a->host->components && a->host->components[i]; i++)
                if (agent_duty(a, i) && agent_duty(a, i)->provided)
                        content = agent_duty(a, i)->provided(a->host->selves[i], text, problem);
        return content;
}

int agent_provide(const Agent *a, const Unit *text, uint64_t number, Verdict *why) {
        int r = 0;

        for (size_t i = 0; a->host->components && a->host->components[i] && r == 0; i++)
                if (agent_duty(a, i) && agent_duty(a, i)->provide)
                        r = agent_duty(a, i)->provide(a->host->selves[i], text, number, why);
        return r;
}

int agent_stage_duties(Agent *a, AgentUnit *u, const Unit *text, Error *err) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        RecordPorts ports = record ? record->ports : (RecordPorts) {};
        int r = 0;

        for (size_t i = 0; a->host->components && a->host->components[i] && r >= 0; i++) {
                const Duty *d = agent_duty(a, i);
                int changed = d && d->stage ? d->stage(a->host->selves[i], text, &ports,
                                                       agent_is_started(&u->seen), err) :
                                              0;

                r = changed == 0 ? r : changed;
        }
        if (record && r >= 0)
                r = records_set_ports(&a->records, record, &ports) ?: r;
        if (r > 0 && streq(u->seen.load, "loaded"))
                u->must_reload = u->seen.need_reload = true;
        return r;
}

int agent_begin_duties(Agent *a, const AgentUnit *u, AgentStep s) {
        int r = 0;

        for (size_t i = 0; i < ELEMENTS(duties) && r >= 0; i++) {
                if (s == AGENT_STOP && duties[i].stopping)
                        duties[i].stopping(a, u);
                if (s == AGENT_START && duties[i].prepare)
                        r = duties[i].prepare(a, u);
        }
        for (size_t i = 0; a->host->components && a->host->components[i] && r >= 0; i++) {
                const Duty *d = agent_duty(a, i);

                if (s == AGENT_START && d && d->prepare)
                        r = d->prepare(a->host->selves[i], u->name);
        }
        return r;
}

bool agent_delays_stop(const Agent *a, const AgentUnit *u) {
        bool delays = false;

        for (size_t i = 0; a->host->components && a->host->components[i]; i++) {
                const Duty *d = agent_duty(a, i);

                /* Without contact to the cluster, a stop is planned because others may run the unit. */
                if (d && d->stopping)
                        delays |= d->stopping(a->host->selves[i], u->name, !a->fresh) == -EAGAIN;
        }
        return delays;
}

void agent_publish_duties(const Agent *a, const DutyUnit *unit, StateChange *change) {
        for (size_t i = 0; a->host->components && a->host->components[i]; i++)
                if (agent_duty(a, i) && agent_duty(a, i)->publish)
                        agent_duty(a, i)->publish(a->host->selves[i], unit, change);
}

void agent_unit_gone(Agent *a, AgentUnit *u) {
        for (size_t i = 0; a->host->components && a->host->components[i]; i++)
                if (agent_duty(a, i) && agent_duty(a, i)->gone)
                        agent_duty(a, i)->gone(a->host->selves[i], u->name);
        for (size_t i = 0; i < ELEMENTS(duties); i++)
                if (duties[i].gone)
                        duties[i].gone(a, u);
}

void agent_tell_ready(const Agent *a) {
        const Component *const *all = a->host->components;
        Systemd *s = a->systemd;
        bool booting = s->ops->is_booting && s->ops->is_booting(s);

        for (size_t i = 0; all && all[i]; i++)
                if (a->host->selves[i] && all[i]->systemd_ready)
                        all[i]->systemd_ready(a->host->selves[i], systemd_soft_reboots(s), booting);
}
