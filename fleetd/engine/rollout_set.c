/* The instances of a set, and what the cluster view shows of each. */
#include "fleetd/engine/rollout.h"

#include <stdlib.h>
#include <string.h>

#include "fleetd/engine/plan_internal.h"
#include "fleetd/registry/unit_order.h"

static const char *const instance_names[_INSTANCE_STATE_MAX] = {
        [INSTANCE_IDLE] = "idle",
        [INSTANCE_OLD] = "old",
        [INSTANCE_BAD] = "bad",
        [INSTANCE_UNREACHABLE] = "unreachable",
        [INSTANCE_SURGING] = "updating",
        [INSTANCE_UPDATING] = "updating",
        [INSTANCE_AVAILABLE] = "available",
        [INSTANCE_FAILED] = "failed",
        [INSTANCE_ENDED] = "ended",
};

const char *rollout_instance_state_to_string(RolloutInstanceState state) {
        return instance_names[state];
}

/* -- The set -- */

const ClusterUnit *rollout_head(const Cluster *cluster, const ClusterUnit *u) {
        const ClusterUnit *head = u->unit && u->unit->from ? cluster_unit(cluster, u->unit->from) : NULL;

        return head ?: u;
}

static bool rollout_is_template(const ClusterUnit *head) {
        return unit_name_is_template(head->name);
}

/* Whether the assignment has the wanted text of the set. One that names no text has that of its unit key. */
static bool instance_has_text(const ClusterUnit *head, const ClusterAssignment *a) {
        if (!streq(a->of->unit->hash, head->unit->hash) && a->of != head)
                return false;
        return plan_is_current(a);
}

/* The state of the unit on the machine, if the machine published it after the assignment. */
static const UnitState *instance_state(const ClusterAssignment *a) {
        const ClusterState *s = cluster_state_on(a->machine, a->unit);

        return s && s->index > a->index ? &s->state : NULL;
}

/* Return why an instance with the wanted text has failed; NULL: it has not. */
static const char *instance_failure(const ClusterAssignment *a) {
        const UnitState *s = instance_state(a);

        if (a->machine->presence == PRESENCE_LOST || a->machine->presence == PRESENCE_LEFT)
                return a->machine->presence == PRESENCE_LOST ? "its machine was lost during its update" :
                                                               "its machine was shut down during its update";
        if (!s)
                return NULL;
        if (s->health == UNIT_HEALTH_FAILING)
                return s->why ?: s->reason ?: "it is failing";
        if (s->job[0] && !streq(s->job, "condition"))
                return s->reason ?: "systemd did not start it";
        if (s->lapsed)
                return s->reason ?: "it was available, and is not any more";
        return NULL;
}

/* With the text that is assigned: until its machine has executed the assignment, its step is unfinished. */
static bool instance_is_available(const ClusterAssignment *a) {
        const ClusterState *s = cluster_state_on(a->machine, a->unit);

        if (!s || !s->state.available || a->machine->presence != PRESENCE_UP)
                return false;
        return !a->hash[0] || (s->state.hash && streq(s->state.hash, a->hash));
}

bool rollout_is_available(const ClusterAssignment *a) {
        return instance_is_available(a) || plan_has_finished(a);
}

const ClusterAssignment *rollout_replaced(const ClusterAssignment *surge) {
        const ClusterAssignment *a;

        if (!surge->instead[0])
                return NULL;
        LIST_FOREACH(a, &surge->of->assignments, of_unit)
                if (a != surge && cluster_assignment_is_active(a) && streq(a->machine->id, surge->instead))
                        return a;
        return NULL;
}

bool rollout_surges(const Cluster *cluster, const ClusterAssignment *surge) {
        const RolloutRecord *r = rollout_head(cluster, surge->of)->rollout;

        if (!r || r->state == ROLLOUT_DONE || !streq(r->to.hash, surge->hash))
                return false;
        return r->state != ROLLOUT_PAUSED || r->n_failed == 0;
}

static RolloutInstanceState instance_judge(const ClusterUnit *head, const ClusterAssignment *a,
                                           const char **ret_why) {
        bool has_text = instance_has_text(head, a), available = instance_is_available(a),
             up = a->machine->presence == PRESENCE_UP && !cluster_machine_is_stopping(a->machine);

        *ret_why = NULL;
        if (plan_has_finished(a))
                return has_text ? INSTANCE_AVAILABLE : INSTANCE_ENDED;
        if (a->kind == ASSIGNMENT_LOAD)
                return has_text ? INSTANCE_AVAILABLE : INSTANCE_IDLE;
        if (!has_text)
                return !up ? INSTANCE_UNREACHABLE : available ? INSTANCE_OLD : INSTANCE_BAD;
        if (available)
                return INSTANCE_AVAILABLE;
        *ret_why = instance_failure(a);
        return *ret_why ? INSTANCE_FAILED : INSTANCE_UPDATING;
}

bool rollout_is_due(const ClusterUnit *u, const ClusterUnit *head) {
        if (head->rollout && (!head->unit || head->rollout->state != ROLLOUT_DONE))
                return true;
        if (!head->unit)
                return false;
        if (rollout_is_template(head) && u == head)
                return true;
        for (const ClusterAssignment *a = u->unit ? LIST_FIRST(&u->assignments) : NULL; a;
             a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && !instance_has_text(head, a))
                        return true;
        return head->rollout && !streq(head->rollout->to.hash, head->unit->hash);
}

static int set_add(RolloutSet *set, size_t *capacity, const ClusterUnit *u, const ClusterAssignment *a,
                   RolloutInstanceState state, const char *why) {
        if (GROW(set->instances, *capacity, set->n + 1) < 0)
                return -ENOMEM;
        set->instances[set->n++] = (RolloutInstance) {
                .unit = u,
                .assignment = a,
                .state = state,
                .why = why,
        };
        set->n_of[state]++;
        set->n_leaving += state == INSTANCE_AVAILABLE && cluster_machine_is_stopping(a->machine);
        return 0;
}

/* The newest assignment counts; a failure of an older one, too: another machine may have replaced its machine
 * meanwhile. */
static int set_add_unit(RolloutSet *set, size_t *capacity, const ClusterUnit *u) {
        RolloutInstanceState state = INSTANCE_IDLE;
        const ClusterAssignment *newest = NULL, *former;
        const char *why = NULL, *other_why;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && (!newest || a->since_ms > newest->since_ms))
                        newest = a;
        if (!newest) {
                set->n_waiting += u->target == TARGET_LAUNCHED;
                return 0;
        }
        state = instance_judge(set->head, newest, &why);
        former = rollout_replaced(newest);
        if (state == INSTANCE_UPDATING && former && instance_is_available(former) &&
            !cluster_machine_is_stopping(former->machine))
                state = INSTANCE_SURGING;
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a && state == INSTANCE_UPDATING;
             a = LIST_NEXT(a, of_unit))
                if (a != newest && cluster_assignment_is_active(a) &&
                    instance_judge(set->head, a, &other_why) == INSTANCE_FAILED) {
                        state = INSTANCE_FAILED;
                        why = other_why;
                }
        return set_add(set, capacity, u, newest, state, why);
}

static int set_compare_machines(const void *a, const void *b) {
        const ClusterMachine *m = ((const RolloutInstance *) a)->assignment->machine,
                             *n = ((const RolloutInstance *) b)->assignment->machine;
        int r = strcmp(cluster_machine_name(m), cluster_machine_name(n));

        return r != 0 ? r : strcmp(m->id, n->id);
}

static int set_read_global(RolloutSet *set, size_t *capacity) {
        const ClusterUnit *u = set->head;
        const char *why;
        int r = 0;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a && r == 0;
             a = LIST_NEXT(a, of_unit)) {
                RolloutInstanceState state;

                if (!cluster_assignment_is_active(a))
                        continue;
                state = instance_judge(set->head, a, &why);
                r = set_add(set, capacity, u, a, state, why);
        }
        if (set->n > 1)
                qsort(set->instances, set->n, sizeof(*set->instances), set_compare_machines);
        return r;
}

static int set_read_followers(const Cluster *cluster, RolloutSet *set, size_t *capacity) {
        const char *name = set->head->name;
        UnitPosition at = {};
        size_t n = unit_order_instances(&cluster->by_name, name, &at);
        int r = 0;

        for (; n > 0 && r == 0; n--) {
                const ClusterUnit *u = unit_order_next(&cluster->by_name, &at);

                if (u && u->unit && u->unit->from && streq(u->unit->from, name) && plan_is_wanted(u))
                        r = set_add_unit(set, capacity, u);
        }
        return r;
}

int rollout_set_read(const Cluster *cluster, const ClusterUnit *head, RolloutSet *ret) {
        RolloutSet set = { .head = head };
        size_t capacity = 0;
        int r = 0;

        if (head->unit && rollout_is_template(head))
                r = set_read_followers(cluster, &set, &capacity);
        else if (plan_is_wanted(head) && head->unit->placement.global)
                r = set_read_global(&set, &capacity);
        else if (plan_is_wanted(head))
                r = set_add_unit(&set, &capacity, head);
        if (r < 0) {
                rollout_set_done(&set);
                return r;
        }
        *ret = set;
        return 0;
}

void rollout_set_done(RolloutSet *set) {
        free(set->instances);
        *set = (RolloutSet) {};
}

/* -- The budget -- */

int rollout_may_stop(const Cluster *cluster, const ClusterAssignment *a, size_t n_stopping, Error *ret_why) {
        const ClusterUnit *head = rollout_head(cluster, a->of);
        const UpdatePolicy *policy;
        _cleanup_rollout_set_ RolloutSet set = {};
        size_t available, n;
        unsigned max, min;
        int r;

        if (!head->unit || !instance_is_available(a) || cluster_machine_is_stopping(a->machine))
                return 1;
        r = rollout_set_read(cluster, head, &set);
        if (r < 0)
                return r;
        policy = &head->unit->placement.update;
        n = set.n + set.n_waiting - set.n_of[INSTANCE_IDLE] - set.n_of[INSTANCE_ENDED];
        available = set.n_of[INSTANCE_OLD] + set.n_of[INSTANCE_SURGING] + set.n_of[INSTANCE_AVAILABLE];
        available -= MIN(available, n_stopping + set.n_leaving);
        max = update_max_unavailable(policy, (unsigned) n);
        min = update_min_available(policy, (unsigned) n);
        if (n - MIN(available, n) < max && available > min)
                return 1;
        error_set(ret_why, -EAGAIN,
                  "%zu of %zu instances of %s are unavailable (MaxUnavailable=%u, MinAvailable=%u)",
                  n - MIN(available, n), n, head->name, max, min);
        return 0;
}
