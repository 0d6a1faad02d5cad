/* The texts of assignments: an assignment names the text that runs here, which need not be the wanted one of
 * its unit. This host has it in the cluster view, or in its records; otherwise it is read from the tree. */

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum { TEXT_RETRY_MS = 1000 };

static bool text_is(const Unit *text, const ClusterAssignment *assignment) {
        return text && streq(text->hash, assignment->hash);
}

const ClusterUnit *agent_cluster_unit(const Agent *a, const AgentUnit *u) {
        const ClusterUnit *unit = cluster_any_unit(registry_cluster(a->registry), u->name);

        return unit && (unit->unit || cluster_unit_has_unreadable(unit, LAYOUT_UNIT)) ? unit : NULL;
}

static const Unit *text_known(const Agent *a, const AgentUnit *u, const ClusterAssignment *assignment) {
        const ClusterUnit *unit = agent_cluster_unit(a, u);
        const AssignmentRecord *record = records_get(&a->records, u->name);

        if (!assignment || !unit)
                return NULL;
        if (!assignment->hash[0])
                return assignment->unit_index == unit->index ? unit->unit : NULL;
        if (text_is(unit->unit, assignment))
                return unit->unit;
        return record && text_is(record->unit, assignment) ? record->unit : NULL;
}

const Unit *agent_assigned_text(const Agent *a, const AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const Unit *known = text_known(a, u, assignment);

        if (known || !assignment || !u->text || !text_is(u->text->unit, assignment))
                return known;
        return u->text->unit;
}

/* A revision of a template, with the drop-ins of the instance. If these have changed meanwhile, it is not the
 * text that is assigned. */
static int text_add_drop_ins(AgentUnit *u, AgentText *t) {
        const ClusterUnit *known = agent_cluster_unit(t->agent, u);
        Unit *whole = NULL;
        int r;

        if (!known || !known->unit || known->unit->own_size == 0)
                return 0;
        r = unit_compose(known->unit, t->unit, &whole);
        unit_free(t->unit);
        t->unit = whole;
        return r;
}

static void agent_on_text(void *userdata, int result, const KvFound *found) {
        AgentUnit *u = userdata;
        AgentText *t = u->text;
        int r = result < 0 ? result : found->error;
        Error err = {};

        t->reading = false;
        t->retry_ms = loop_now_ms(t->agent->loop) + TEXT_RETRY_MS;
        if (r == 0)
                r = stored_unit_read(u->name, found->node->value.data, found->node->value.size, &t->unit,
                                     &err);
        if (r >= 0)
                r = text_add_drop_ins(u, t);
        if (r < 0 && !t->failed)
                log_warning(((LogFields) { .unit = u->name, .error = r }),
                            "%s: revision %llu, which is assigned to this host, cannot be read: %s; trying "
                            "again",
                            u->name, (unsigned long long) t->revision,
                            err.code < 0 ? error_text(&err, 0) : strerror(-r));
        t->failed = r < 0;
        agent_dirty(t->agent, u);
}

void agent_forget_text(Agent *a, AgentUnit *u) {
        if (!u->text)
                return;
        if (u->text->reading)
                kv_get_cancel(&u->text->get);
        unit_free(u->text->unit);
        free(u->text);
        u->text = NULL;
}

static AgentText *text_begin(Agent *a, AgentUnit *u, uint64_t revision) {
        if (u->text && u->text->revision != revision)
                agent_forget_text(a, u);
        if (!u->text)
                u->text = NEW0(AgentText, 1);
        if (!u->text) {
                agent_retry_soon(a);
                return NULL;
        }
        u->text->agent = a;
        u->text->revision = revision;
        u->text->unit = unit_free(u->text->unit);
        return u->text;
}

void agent_read_text(Agent *a, AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const ClusterUnit *unit = cluster_unit(registry_cluster(a->registry), u->name);
        char digits[REVISION_NUMBER_SIZE];
        AgentText *t = u->text;

        if (!assignment || assignment->kind == ASSIGNMENT_STOP || assignment->revision == 0 ||
            text_known(a, u, assignment)) {
                agent_forget_text(a, u);
                return;
        }
        if (!a->fresh || agent_assigned_text(a, u) || !unit)
                return;
        if (t && t->revision == assignment->revision && t->reading)
                return;
        if (t && t->revision == assignment->revision && t->retry_ms > loop_now_ms(a->loop)) {
                agent_wake_at(a, t->retry_ms);
                return;
        }
        t = text_begin(a, u, assignment->revision);
        if (!t)
                return;
        t->reading = true;
        t->get = (KvGet) { .key = kv_string(layout_key(t->key, LAYOUT_REVISION, unit->unit->from ?: u->name,
                                                       revision_print_number(t->revision, digits))),
                           .done = agent_on_text,
                           .userdata = u };
        kv_get(registry_store(a->registry), &t->get);
}

/* -- Texts in force -- */

const Unit *agent_unit_text(const Agent *a, const AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const AssignmentRecord *record = records_get(&a->records, u->name);
        const Unit *assigned = agent_assigned_text(a, u);

        if (a->fresh && assignment && assignment->kind != ASSIGNMENT_STOP && assigned)
                return assigned;
        return record ? record->unit : NULL;
}

/* Without the cluster, as at a boot, the recorded text counts; so it does when the template was destroyed. */
int agent_put_template(Agent *a, const AgentUnit *u) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        const Unit *text = agent_unit_text(a, u);
        char template[UNIT_NAME_MAX + 1];
        const ClusterUnit *known;
        const char *content;
        char *copy;
        int r;

        if (!text || !a->systemd->ops->put_template || !unit_class_accepts(u->name, &text->file, template))
                return 0;
        known = a->fresh ? cluster_unit(registry_cluster(a->registry), template) : NULL;
        content = known ? known->unit->text : record ? record->template : NULL;
        if (!content)
                return 0;
        r = a->systemd->ops->put_template(a->systemd, template, content, strlen(content));
        if (r < 0 || !record || (record->template && streq(record->template, content)))
                return r;
        copy = strdup(content);
        if (!copy)
                return -ENOMEM;
        free(record->template);
        record->template = copy;
        a->records.dirty = true;
        return 0;
}

void agent_remove_template(Agent *a, const char *name) {
        char template[UNIT_NAME_MAX + 1];

        if (a->systemd->ops->put_template && unit_class_accepts(name, NULL, template))
                (void) a->systemd->ops->put_template(a->systemd, template, NULL, 0);
}
