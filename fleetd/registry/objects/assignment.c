/* Assignments of units to machines. */
#include "fleetd/registry/cluster_parts.h"

/* The unit stays on that machine, and receives no second assignment. */
static void assignment_unreadable(void *record) {
        *(Assignment *) record = (Assignment) { .kind = _ASSIGNMENT_INVALID, .since_ms = UINT64_MAX };
}

void sums_replace(Sums *sums, Resources *part, Resources next) {
        sums->memory_mib += (uint64_t) next.memory_mib - part->memory_mib;
        sums->cpu_percent += (uint64_t) next.cpu_percent - part->cpu_percent;
        sums->n += (size_t) resources_are_set(next) - resources_are_set(*part);
        *part = next;
}

static void assignment_set_sums(ClusterAssignment *a, Resources request, Resources size) {
        sums_replace(&a->machine->requested, &a->request, request);
        sums_replace(&a->machine->sized, &a->size, size);
}

void cluster_assignment_count(ClusterAssignment *a) {
        const Unit *unit = a->of->unit;
        Resources none = {}, size = unit ? unit->placement.size : resources_default;

        assignment_set_sums(a, unit ? unit->placement.request : none,
                            cluster_assignment_is_active(a) ? size : none);
}

void cluster_assignment_free(ClusterAssignment *a) {
        ClusterMachine *m = a->machine;

        m->load -= cluster_assignment_is_active(a);
        assignment_set_sums(a, (Resources) {}, (Resources) {});
        m->n_replacing -= a->of->listed[CLUSTER_REPLACING];
        HASH_DEL(m->assignments, a);
        LIST_REMOVE(a, of_unit);
        free(a);
}

static ClusterAssignment *assignment_new(const KindEntries *e) {
        _cleanup_free_ ClusterAssignment *a = NEW0(ClusterAssignment, 1);

        if (!a)
                return NULL;
        *a = (ClusterAssignment) { .machine = e->machine,
                                   .of = e->unit,
                                   .state = cluster_state_on(e->machine, e->unit->name),
                                   .kind = ASSIGNMENT_STOP };
        memcpy(a->unit, e->unit->name, sizeof(a->unit));
        HASH_ADD_STR(e->machine->assignments, unit, a);
        if (!TABLE_ADDED(a))
                return NULL;
        CLUSTER_LIST_INSERT(&e->unit->assignments, a);
        e->machine->n_replacing += e->unit->listed[CLUSTER_REPLACING];
        return TAKE_PTR(a);
}

static int assignment_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterAssignment *a = cluster_assignment_on(e->machine, k->unit);

        if (!a)
                a = assignment_new(e);
        if (!a)
                return -ENOMEM;

        e->machine->load -= cluster_assignment_is_active(a);
        a->record = *(const Assignment *) v->record;
        if (!*a->base)
                memcpy(a->base, a->hash, sizeof(a->base));
        e->machine->load += cluster_assignment_is_active(a);
        cluster_assignment_count(a);
        a->index = v->modified;
        a->created = v->created;
        a->known_ms = c->now_ms;
        return 0;
}

static int assignment_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterAssignment *a = cluster_assignment_on(e->machine, k->unit);

        if (a)
                cluster_assignment_free(a);
        return 0;
}

static int assignment_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        int r = 0;

        for (ClusterAssignment *a = e->unit ? LIST_FIRST(&e->unit->assignments) : e->machine->assignments;
             a && r == 0; a = e->unit ? LIST_NEXT(a, of_unit) : a->hh.next)
                r = found(userdata, LAYOUT_ASSIGNMENT, a->unit, a->machine->id);
        return r;
}

/* Stop assignments are about the former lineage. The engine writes new ones when all hosts have reported. */
static bool assignment_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        Assignment assignment = {};

        return stored_assignment_read(value.data, value.size, &assignment, NULL) >= 0 &&
               assignment.kind == ASSIGNMENT_STOP;
}

static const JsonField assignment_shown[] = {
        { "order", JSON_FIELD_WORD, offsetof(Assignment, kind), .words = &assignment_words },
        { "reason", JSON_FIELD_OTHER, offsetof(Assignment, why), .write = verdict_add_message },
        { "term", JSON_FIELD_U64, offsetof(Assignment, term) },
};

/* The agent removes that of a unit which it has stopped. */
KIND(assignment, "machine/%m/unit/%u", "order", CHANGED_ASSIGNMENT, OF_UNIT | OF_MACHINE, KV_LEVEL_FIRST,
     SLICE_MACHINE, { .own_remove = RIGHT_REPORT, .remove = RIGHT_ADMINISTER }, REMOVAL_OF_TOMBSTONE,
     assignment_ends, .record = &assignment_record, .shown = JSON_FIELDS(assignment_shown),
     .unreadable = assignment_unreadable, .apply = assignment_apply, .clear = assignment_clear,
     .each = assignment_each);
