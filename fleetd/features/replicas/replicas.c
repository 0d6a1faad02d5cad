#include "fleetd/features/replicas/replicas.h"

#include "base/log.h"
#include "units/named.h"

enum { REPLICAS_RETRY_MS = 100 };

bool replicas_slot(const char *template, unsigned number, char ret[static UNIT_NAME_MAX + 1]) {
        size_t stem = strcspn(template, "@") + 1;

        return snprintf(ret, UNIT_NAME_MAX + 1, "%.*s%u%s", (int) stem, template, number, template + stem) <=
               UNIT_NAME_MAX;
}

unsigned replicas_number(const char *template, const char *unit) {
        char name[UNIT_NAME_MAX + 1];
        unsigned n;

        if (sscanf(unit + strcspn(unit, "@"), "@%9u", &n) != 1 || !replicas_slot(template, n, name))
                return 0;
        return streq(name, unit) ? n : 0;
}

bool replicas_follows(const ClusterUnit *u, const ClusterUnit *head) {
        return u && u->unit && same_string(u->unit->from, head->name);
}

/* -- The plan -- */

static void replicas_add(ReplicasStep *step, ReplicasAction action, unsigned number) {
        step->slots[step->n].action = action;
        step->slots[step->n++].number = number;
}

/* Destroy slots above 'wanted'. One that cannot be read stays, and so do those below it until it can. */
static void replicas_plan_fewer(const ClusterUnit *head, const Cluster *cluster, unsigned wanted,
                                ReplicasStep *step) {
        char name[UNIT_NAME_MAX + 1];

        for (; step->next.slots > wanted && step->n < REPLICAS_CHANGES_MAX; step->next.slots--) {
                unsigned number = (unsigned) step->next.slots;
                const ClusterUnit *u = replicas_slot(head->name, number, name) ?
                                               cluster_any_unit(cluster, name) :
                                               NULL;

                if (u && cluster_unit_is_unreadable(u))
                        return;
                if (replicas_follows(u, head))
                        replicas_add(step, REPLICAS_DESTROY, number);
        }
}

static void replicas_plan_slot(const ClusterUnit *head, const Cluster *cluster, unsigned number,
                               ReplicasStep *step) {
        char name[UNIT_NAME_MAX + 1];
        const ClusterUnit *u;

        if (!replicas_slot(head->name, number, name))
                return;
        u = cluster_any_unit(cluster, name);
        if (u && cluster_unit_is_unreadable(u))
                return;
        if (!cluster_unit_exists(u))
                replicas_add(step, REPLICAS_CREATE, number);
        else if (replicas_follows(u, head) && u->target != head->target &&
                 u->target_index < head->target_index)
                replicas_add(step, REPLICAS_RETARGET, number);
}

void replicas_step(const ClusterUnit *head, const Cluster *cluster, ReplicasStep *ret) {
        const ReplicasRecord *was = head->replicas;
        int wanted = cluster_replicas(head);

        *ret = (ReplicasStep) { .next = was ? *was : (ReplicasRecord) {} };
        if (!unit_name_is_template(head->name) || cluster_unit_is_unreadable(head) || (wanted < 0 && !was))
                return;
        if (head->unit && wanted < 0) { /* people have the instances now */
                ret->writes = ret->remove = true;
                return;
        }
        if (!head->unit || ret->next.file != (uint64_t) head->unit->placement.replicas)
                ret->next = (ReplicasRecord) { .slots = ret->next.slots };
        replicas_plan_fewer(head, cluster, (unsigned) MAX(wanted, 0), ret);
        for (int i = 1; i <= wanted && ret->n < REPLICAS_CHANGES_MAX; i++)
                replicas_plan_slot(head, cluster, (unsigned) i, ret);
        ret->next.slots = MAX(ret->next.slots, (uint64_t) MAX(wanted, 0));
        ret->remove = !head->unit && ret->next.slots == 0;
        ret->writes = ret->n > 0 || ret->remove || !was ||
                      !json_record_equal(&replicas_record, was, &ret->next);
}

/* -- The leader -- */

/* The sets to be looked at, by their templates. Each gets one step, then the next one. */
typedef struct Replicas {
        uint64_t term; /* in which the sets were noted */
        Named *sets;
} Replicas;

/* The text, the name and the change of each slot of a step. */
typedef struct ReplicasTexts {
        ReplicasWrite write;
        Unit units[REPLICAS_CHANGES_MAX]; /* they borrow all but the name */
        char names[REPLICAS_CHANGES_MAX][UNIT_NAME_MAX + 1];
} ReplicasTexts;

static void replicas_read_change(const ClusterUnit *head, const ReplicasStep *step, size_t i,
                                 ReplicasTexts *ret) {
        UnitChange *c = &ret->write.changes[i];

        (void) replicas_slot(head->name, step->slots[i].number, ret->names[i]);
        *c = (UnitChange) { .name = ret->names[i], .target = head->target };
        c->has_target = step->slots[i].action != REPLICAS_DESTROY;
        c->remove = !c->has_target;
        if (step->slots[i].action != REPLICAS_CREATE)
                return;
        ret->units[i] = *head->unit;
        ret->units[i].name = ret->names[i];
        ret->units[i].owner = ret->units[i].path = NULL;
        c->unit = &ret->units[i];
        c->only_if_absent = true;
}

static int replicas_write_step(const Control *control, const ClusterUnit *head, const ReplicasStep *step) {
        _cleanup_free_ ReplicasTexts *texts = NEW0(ReplicasTexts, 1);

        if (!texts)
                return -ENOMEM;
        texts->write.head = head;
        texts->write.record = step->remove ? NULL : &step->next;
        texts->write.n_changes = step->n;
        for (size_t i = 0; i < step->n; i++)
                replicas_read_change(head, step, i, texts);
        return registry_replicate(control->registry, control->term, &texts->write, control->done,
                                  control->userdata);
}

static void replicas_begin(Replicas *r, uint64_t term) {
        if (r->term != term) /* the sets of a former term are those of another view */
                named_clear(&r->sets);
        r->term = term;
}

/* Return whether a change of the unit may demand a step. A step costs as much as the set is large: a change
 * of an instance that is as it is to be, as of its state, causes none. */
static bool replicas_concerns(const ClusterUnit *head, const Cluster *cluster, const char *unit) {
        int number = (int) replicas_number(head->name, unit);
        ReplicasStep step = {};

        if (number > MAX(cluster_replicas(head), 0))
                return head->replicas && number <= (int) head->replicas->slots;
        if (number > 0)
                replicas_plan_slot(head, cluster, (unsigned) number, &step);
        return step.n > 0 || streq(unit, head->name);
}

static int replicas_planned(const Control *control, const char *unit) {
        const Cluster *cluster = registry_cluster(control->registry);
        Replicas *r = control->self;
        _cleanup_free_ char *template = unit_name_template(unit);
        const ClusterUnit *head;

        if (!template)
                return -ENOMEM;
        replicas_begin(r, control->term);
        head = unit_name_is_template(template) ? cluster_any_unit(cluster, template) : NULL;
        if (!head || (cluster_replicas(head) < 0 && !head->replicas) ||
            !replicas_concerns(head, cluster, unit))
                return 0;
        return named_get(&r->sets, template, sizeof(Named)) ? 0 : -ENOMEM;
}

static int replicas_control(Control *control) {
        const Cluster *cluster = registry_cluster(control->registry);
        Replicas *r = control->self;

        replicas_begin(r, control->term);
        if (cluster->adopting || cluster->level < KV_LEVEL_SCHEDULING)
                return 0;
        while (r->sets) {
                char name[UNIT_NAME_MAX + 1];
                const ClusterUnit *head = cluster_any_unit(cluster, r->sets->name);
                ReplicasStep step = {};
                int e;

                snprintf(name, sizeof(name), "%s", r->sets->name);
                if (head)
                        replicas_step(head, cluster, &step);
                named_remove(&r->sets, name);
                if (!step.writes)
                        continue;
                if (!named_get(&r->sets, name, sizeof(Named))) /* its next step, after those of the others */
                        return -ENOMEM;
                e = replicas_write_step(control, head, &step);
                if (e >= 0)
                        return 1;
                if (e == -ENOMEM)
                        return e;
                log_warning(((LogFields) { .unit = name, .error = e, .term = control->term }),
                            "%s: its instances cannot be written: %s; trying again", name, strerror(-e));
                control->again_ms = REPLICAS_RETRY_MS;
                return 0;
        }
        return 0;
}

int replicas_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        *ret = NEW0(Replicas, 1);
        return *ret ? 0 : -ENOMEM;
}

void *replicas_close(void *self) {
        Replicas *r = self;

        named_clear(&r->sets);
        free(r);
        return NULL;
}

const Controller replicas_controller = { "replicas", replicas_control, replicas_planned };
