/* The next step of a unit: the plan for what is known about it, and the units and the content that it
 * waits for. */
#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum { TRIGGER_MS = 10000 }; /* a trigger that follows is stopped within a few turns of the engine */

/* Return whether the assignment is of the state from which the cluster was restored or recovered. */
static bool agent_inherits(const Cluster *c, const ClusterAssignment *assignment) {
        return assignment && assignment->index <= cluster_begun_index(c);
}

/* Return the text of a trigger that runs here as ours, or NULL. */
static const Unit *agent_running_trigger(const Agent *a, const AgentUnit *t) {
        const AssignmentRecord *record = records_get(&a->records, t->name);
        const Unit *text = record && record->unit ? record->unit : agent_assigned_text(a, t);

        if (!text || !unit_triggered(text) || !t->observed || !agent_is_started(&t->seen) ||
            t->seen.owner != SYSTEMD_OURS)
                return NULL;
        return text;
}

/* Return whether a trigger is to leave this host, as the unit that it starts is: it is assigned to stop, or
 * the rules of placement keep it beside that unit, which is somewhere else. */
static bool agent_trigger_leaves(const Agent *a, const AgentUnit *t, const Unit *text) {
        const ClusterAssignment *assignment = agent_assignment(a, t->name);
        const ClusterUnit *of = cluster_any_unit(registry_cluster(a->registry), unit_triggered(text));

        if (!assignment || text->placement.global)
                return assignment && assignment->kind == ASSIGNMENT_STOP;
        return assignment->kind == ASSIGNMENT_STOP || (of && of->unit && of->target != TARGET_INACTIVE) ||
               names_have(&text->placement.machine_of, unit_triggered(text));
}

void agent_find_triggered(Agent *a) {
        bool any = false;
        const AgentUnit *u;

        named_clear(&a->triggered);
        TAILQ_FOREACH(u, &a->dirty, dirty_units) {
                const ClusterAssignment *assignment = agent_assignment(a, u->name);

                any |= assignment && assignment->kind == ASSIGNMENT_STOP;
        }
        for (u = any ? a->units : NULL; u; u = u->hh.next) {
                const Unit *text = agent_running_trigger(a, u);

                if (text && agent_trigger_leaves(a, u, text)) /* without memory, nothing waits */
                        (void) named_get(&a->triggered, unit_triggered(text), sizeof(Named));
        }
}

/* Return the unit that has the fixed port, and is about to stop; NULL: none. The cluster does not count the
 * ports of a unit that was destroyed. One without an assignment goes on, as after the restore of a backup. */
static const AgentUnit *agent_port_holder(Agent *a, const AgentUnit *u, const ServicePort *port) {
        uint16_t number = (uint16_t) port->number;
        size_t n;
        const HeldPort *held = records_holders(&a->records, number, port->protocol, &n);

        for (size_t i = 0; i < n; i++) {
                const AgentUnit *other = agent_unit(a, held[i].record->name, false);
                const ClusterAssignment *assignment = other ? agent_assignment(a, other->name) : NULL;
                const Unit *text = assignment && assignment->kind != ASSIGNMENT_STOP ?
                                           agent_assigned_text(a, other) :
                                           NULL;

                if (!held[i].selected && other && other != u && other->seen.owner == SYSTEMD_OURS &&
                    agent_is_started(&other->seen) &&
                    (assignment || streq(other->seen.active, "deactivating")) &&
                    !(text &&
                      record_ports_have(&(RecordPorts) {}, &text->placement.service, number, port->protocol)))
                        return other;
        }
        return NULL;
}

static bool agent_awaits(AgentUnit *u, const char *other, const char *what) {
        (void) snprintf(u->last_error, sizeof(u->last_error), "waiting for %s %s", other, what);
        return true;
}

bool agent_awaits_another(Agent *a, AgentUnit *u, AgentStep s) {
        const ClusterAssignment *assignment;
        const AssignmentRecord *record;
        const AgentUnit *other = NULL;
        const Unit *text;

        if (s == AGENT_STOP || s == AGENT_REMOVE) {
                assignment = agent_assignment(a, u->name);
                if (!assignment || assignment->kind != ASSIGNMENT_STOP || !named_find(a->triggered, u->name))
                        return false;
                if (u->trigger_until_ms == 0)
                        u->trigger_until_ms = loop_now_ms(a->loop) + TRIGGER_MS;
                if (loop_now_ms(a->loop) >= u->trigger_until_ms)
                        return false;
                agent_wake_at(a, u->trigger_until_ms);
                return agent_awaits(u, "its trigger", "to stop first");
        }
        record = records_get(&a->records, u->name);
        text = agent_assigned_text(a, u) ?: (record ? record->unit : NULL);
        if (s != AGENT_START || !text)
                return false;
        for (size_t i = 0; i < text->placement.service.n_ports && !other; i++)
                other = agent_port_holder(a, u, &text->placement.service.ports[i]);
        if (other)
                return agent_awaits(u, other->name, "to stop, which has its port");
        if (!unit_triggered(text))
                return false;
        other = agent_unit(a, unit_triggered(text), false);
        assignment = other ? agent_assignment(a, other->name) : NULL;
        return other && (!assignment || assignment->kind != ASSIGNMENT_STOP) &&
               (!other->observed || streq(other->seen.load, "not-found")) &&
               agent_awaits(u, other->name, "to be loaded");
}

/* Return whether the step begins, or leads to, a run of the unit with what its files have. */
static bool agent_requires_content(const Agent *a, const AgentUnit *u, AgentStep s) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);

        if (s == AGENT_STOP) /* a replacement */
                return a->fresh && assignment && assignment->kind == ASSIGNMENT_RUN;
        return s == AGENT_WRITE || s == AGENT_START || s == AGENT_RELOAD;
}

bool agent_is_provided(Agent *a, AgentUnit *u, AgentStep s) {
        const Unit *text = agent_unit_text(a, u);
        const ClusterAssignment *assignment = a->fresh ? agent_assignment(a, u->name) : NULL;
        const AssignmentRecord *record = records_get(&a->records, u->name);
        /* Without the cluster any content will do, and so it does for the file of a unit that runs on. */
        bool any = !assignment || (s == AGENT_WRITE && agent_is_started(&u->seen));
        _cleanup_text_ Text message = {};
        Verdict why = {};
        int r;

        if (!text || !input_policy_is_set(&text->placement.inputs) || !agent_requires_content(a, u, s))
                return true;
        /* An assignment that is older than the first content has no number. */
        r = agent_provide(a, text, any ? 0 : assignment->inputs ?: UINT64_MAX, &why);
        /* After a boot or a stop because of another unit, which has ended, the former content is in force
         * while the assigned one has a problem. */
        if (r == -ENODATA && s != AGENT_STOP &&
            (!agent_has_started(a, u) || (record->stopped_for && !u->seen.held)))
                r = agent_provide(a, text, 0, &why);
        if (r == 0)
                return true;
        if (r == -ENOMEM)
                agent_retry_soon(a);
        verdict_append(&message, &why);
        if (message.chars && !same_string(u->last_error, message.chars)) {
                log_info(((LogFields) { .unit = u->name }), "%s: %s waits: %s", u->name,
                         agent_step_to_string(s), message.chars);
                text_format(u->last_error, sizeof(u->last_error), "%s", message.chars);
        }
        /* The key of the unit has the other reasons, which the leader finds, too. */
        u->waits = state_code_is_of_inputs(why.code);
        u->unprovided = u->waits ? why.code : VERDICT_NONE;
        return false;
}

AgentStep agent_next_step(Agent *a, const AgentUnit *u, const char **ret_reason) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const Cluster *c = registry_cluster(a->registry);
        const Unit *text = agent_assigned_text(a, u);

        return agent_plan(
                &(AgentView) {
                        .assignment = assignment,
                        .unit = agent_cluster_unit(a, u),
                        .text = text,
                        .record = records_get(&a->records, u->name),
                        .seen = u->observed ? &u->seen : NULL,
                        .boot_id = a->boot_id,
                        .leased = agent_has_lease(a),
                        .fresh = a->fresh,
                        .use_records = a->use_records,
                        .removed = a->removed,
                        .stopping = a->systemd->ops->is_stopping(a->systemd),
                        .link_refused = u->link_refused,
                        .outdated = u->outdated_invocation[0] &&
                                    streq(u->outdated_invocation, u->seen.invocation_id),
                        .alone_ms = a->partition.ms,
                        .inherited = agent_inherits(c, assignment),
                        .content = text ? agent_content(a, text, NULL) : 0,
                },
                ret_reason);
}
