/* The instances of a set, and what the cluster view shows of each. */
#include "fleetd/engine/rollout_set.h"

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
        [INSTANCE_SKIPPED] = "skipped",
        [INSTANCE_ENDED] = "ended",
        [INSTANCE_UNREADABLE] = "unreadable",
        [INSTANCE_LOADED] = "loaded",
};

const char *rollout_instance_word(const RolloutInstance *p) {
        bool finished = p->state == INSTANCE_AVAILABLE && plan_has_finished(p->assignment);

        return finished ? "finished" : instance_names[p->state];
}

/* -- The set -- */

const ClusterUnit *rollout_head(const Cluster *cluster, const ClusterUnit *u) {
        const ClusterUnit *head = u->unit && u->unit->from ? cluster_unit(cluster, u->unit->from) : NULL;

        return head ?: u;
}

static bool rollout_is_template(const ClusterUnit *head) {
        return unit_name_is_template(head->name);
}

/* Return whether an instance has the wanted text although its key has another one: that was begun on another
 * machine only, and is abandoned. Its key gets the wanted text again. */
static bool instance_kept_text(const ClusterUnit *head, const ClusterAssignment *a) {
        const ClusterUnit *u = a->of;
        _cleanup_unit_ Unit *whole = NULL;

        return a->hash[0] && streq(a->base, head->unit->hash) && rollout_compose(head, u, &whole) >= 0 &&
               streq(a->hash, (whole ?: head->unit)->hash);
}

uint64_t rollout_content(const ClusterUnit *u) {
        return u->unit && u->inputs && input_policy_restarts(&u->unit->placement.inputs) ? u->inputs->number :
                                                                                           0;
}

static bool state_has_text(const ClusterAssignment *a, const UnitState *s) {
        return !a->hash[0] || (s->hash && streq(s->hash, a->hash));
}

/* Whether it has the content of its unit, or is to have it. One that was assigned before there was a content
 * starts with the present one; a machine may also have started it with a newer one than it was to have. */
static bool instance_has_content(const ClusterAssignment *a) {
        const UnitState *s = a->state ? &a->state->state : NULL;
        uint64_t number = rollout_content(a->of);

        if (a->inputs >= number)
                return true;
        if (s && state_has_text(a, s) && (s->inputs > 0 || plan_is_up(a)))
                return s->inputs >= number;
        return a->inputs == 0;
}

/* Whether the assignment has the wanted text of the set, and the content of its unit. One that names no text
 * has that of its unit key. */
static bool instance_has_text(const ClusterUnit *head, const ClusterAssignment *a) {
        if (!instance_has_content(a))
                return false;
        if (!streq(a->of->unit->base, head->unit->hash) && a->of != head)
                return instance_kept_text(head, a);
        return plan_is_current(a);
}

/* The state of the unit on the machine, if the machine published it after the assignment. */
static const UnitState *instance_state(const ClusterAssignment *a) {
        const ClusterState *s = a->state;

        return s && s->index > a->index ? &s->state : NULL;
}

bool rollout_is_skipped(const ClusterAssignment *a) {
        const UnitState *s = instance_state(a);

        return s && streq(s->job, "condition") && s->hash && streq(s->hash, a->hash) &&
               plan_has_content(a, s);
}

bool rollout_was_available(const ClusterAssignment *a) {
        const ClusterState *s = a->state;

        return s && s->state.available && same_string(s->state.hash, a->hash) &&
               plan_has_content(a, &s->state);
}

/* Return whether the machine has reported a state after it was down: it is about to be up. */
static bool instance_is_back(const ClusterAssignment *a) {
        return a->state && a->state->index > a->machine->presence_index;
}

/* Return why an instance with the wanted text has failed; NULL: it has not. */
static const char *instance_failure(const ClusterAssignment *a) {
        const UnitState *s = instance_state(a);

        if (a->machine->presence == PRESENCE_LEFT)
                return "its machine was shut down during its update";
        if (presence_is_down(a->machine->presence))
                return rollout_was_available(a) ? "its machine was lost after its update" :
                                                  "its machine was lost during its update";
        if (!s || (a->hash[0] && s->hash && !streq(s->hash, a->hash)) || !plan_has_content(a, s))
                return NULL; /* of the former text or content: it stops, for example */
        if (s->job[0] && !streq(s->job, "condition"))
                return s->reason ?: "systemd did not start it";
        if (s->health == UNIT_HEALTH_FAILING)
                return s->why ?: s->reason ?: "it is failing";
        if (s->lapsed)
                return s->reason ?: "it was available, and is not any more";
        return NULL;
}

bool rollout_has_failed(const ClusterAssignment *a) {
        const UnitState *s = instance_state(a);

        return s && !s->lapsed && instance_failure(a);
}

static bool instance_is_unchecked(const ClusterAssignment *a) {
        const UnitState *s = instance_state(a);

        return s && s->unchecked && s->hash && streq(s->hash, a->hash);
}

bool rollout_is_unexecuted(const ClusterAssignment *a) {
        const ClusterState *s = a->state;

        return a->machine->presence == PRESENCE_UP && a->hash[0] &&
               (!rollout_is_executed(a) || streq(s->state.active, "inactive"));
}

bool rollout_is_hindered(const RolloutSet *set, char *ret_why, size_t size) {
        for (size_t i = 0; i < set->n; i++) {
                const RolloutInstance *p = &set->instances[i];

                if (p->state != INSTANCE_UPDATING && p->state != INSTANCE_SURGING)
                        continue;
                if (instance_is_unchecked(p->assignment))
                        text_format(ret_why, size, "the check cannot run on %s: %s: %s", p->machine,
                                    p->unit->name, p->assignment->state->state.why ?: "");
                else if (rollout_is_unexecuted(p->assignment))
                        text_format(ret_why, size,
                                    "%s has not executed the update of %s within UpdateDeadlineSec=",
                                    p->machine, p->unit->name);
                else
                        continue;
                return true;
        }
        return false;
}

bool rollout_is_executed(const ClusterAssignment *a) {
        const ClusterState *s = a->state;

        return s && state_has_text(a, &s->state) && plan_has_content(a, &s->state);
}

/* With the text and the content that are assigned: until its machine has executed the assignment, its step is
 * unfinished. */
static bool instance_is_available(const ClusterAssignment *a) {
        const ClusterState *s = a->state;

        if (!s || !s->state.available || a->machine->presence != PRESENCE_UP)
                return false;
        return rollout_is_executed(a);
}

bool rollout_is_counted(const Cluster *cluster, const ClusterAssignment *a) {
        return rollout_head(cluster, a->of)->unit && instance_is_available(a);
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

int rollout_compose(const ClusterUnit *head, const ClusterUnit *u, Unit **ret) {
        int r = u != head && u->unit->own_size > 0 ? unit_compose(u->unit, head->unit, ret) : 0;

        return r < 0 ? r : *ret != NULL;
}

/* The set of an instance that has left its template has texts with drop-ins. */
const char *rollout_hash_of(const ClusterUnit *head, const ClusterAssignment *a) {
        return a->of == head ? a->hash : a->base;
}

bool rollout_surges(const Cluster *cluster, const ClusterAssignment *surge) {
        const ClusterUnit *head = rollout_head(cluster, surge->of);
        const RolloutRecord *r = head->rollout;

        if (cluster_unit_has_unreadable(head, LAYOUT_ROLLOUT))
                return true;
        if (!r || r->state == ROLLOUT_DONE || !streq(r->to.hash, rollout_hash_of(head, surge)) ||
            !instance_has_content(surge))
                return false;
        return r->state != ROLLOUT_PAUSED || r->n_failed == 0;
}

/* Return whether the rollout, or the next one, has not updated an instance that has the text: its failure is
 * none of the text. */
static bool instance_is_untouched(const RolloutSet *set, const ClusterAssignment *a) {
        const RolloutRecord *r = set->head->rollout;

        return !r || !streq(r->to.hash, set->head->unit->hash) || r->to.inputs != rollout_set_content(set) ||
               a->index <= r->begun;
}

/* Return whether the machine, which is down, was down when it got this text. */
static bool instance_was_down(const ClusterAssignment *a) {
        return a->index > a->machine->presence_index;
}

/* Of a global unit, the other machines are not concerned. */
static bool instance_is_unreadable(const ClusterAssignment *a) {
        if (!a->of->unit || !a->of->unit->placement.global)
                return cluster_unit_is_unreadable(a->of);
        for (const ClusterUnreadable *x = LIST_FIRST(&a->of->unreadable); x; x = LIST_NEXT(x, of_owner))
                if ((x->key.kind == LAYOUT_ASSIGNMENT || x->key.kind == LAYOUT_STATE) &&
                    streq(x->key.machine, a->machine->id))
                        return true;
        return false;
}

static RolloutInstanceState instance_judge(const RolloutSet *set, const ClusterAssignment *a,
                                           const char **ret_why) {
        bool has_text = instance_has_text(set->head, a), available = instance_is_available(a),
             up = a->machine->presence == PRESENCE_UP;
        const ClusterMachine *m = a->machine;

        *ret_why = NULL;
        if (instance_is_unreadable(a))
                return INSTANCE_UNREADABLE;
        if (plan_has_finished(a) && !has_text && up && m->facts && m->facts->takes_finished)
                return INSTANCE_IDLE; /* it gets the text for its next run, and is not run */
        if (plan_has_finished(a))
                return has_text ? INSTANCE_AVAILABLE : INSTANCE_ENDED;
        if (a->kind == ASSIGNMENT_LOAD)
                return has_text ? INSTANCE_LOADED : INSTANCE_IDLE;
        if (!has_text && !up)
                return INSTANCE_UNREACHABLE;
        if (!has_text)
                return available ? INSTANCE_OLD : INSTANCE_BAD;
        if (available)
                return INSTANCE_AVAILABLE;
        if (presence_is_down(m->presence) &&
            (instance_is_untouched(set, a) || instance_was_down(a) || cluster_machine_is_rebooting(m)))
                return INSTANCE_UNREACHABLE;
        /* It was updated. A text may end its machine some time after that: a loss is no proof of another
         * cause, an orderly shutdown is, or that the machine is away. After a shutdown, its agent may report
         * before it is up. */
        if (!up && m->presence != PRESENCE_LOST && (rollout_was_available(a) || instance_is_back(a)))
                return INSTANCE_UNREACHABLE;
        *ret_why = instance_failure(a);
        if (*ret_why)
                return INSTANCE_FAILED;
        return up && rollout_is_skipped(a) ? INSTANCE_SKIPPED : INSTANCE_UPDATING;
}

/* Return whether a unit without a machine has another text in its key, from which it starts. */
static bool set_lacks_text(const ClusterUnit *head, const ClusterUnit *u) {
        if (!u->unit || cluster_unit_is_unreadable(u) || streq(u->unit->base, head->unit->hash))
                return false;
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a))
                        return false;
        return true;
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
        if (u != head && set_lacks_text(head, u))
                return true;
        return head->rollout && (!streq(head->rollout->to.hash, head->unit->hash) ||
                                 !streq(head->rollout->to.hash, head->rollout->completed.hash) ||
                                 head->rollout->to.inputs != head->rollout->completed.inputs ||
                                 head->rollout->to.inputs < rollout_content(u));
}

bool rollout_is_absent(const RolloutSet *set, const RolloutInstance *p) {
        const ClusterMachine *m = p->assignment->machine;

        return set->head->unit->placement.global && m->presence != PRESENCE_UP &&
               !cluster_machine_is_rebooting(m) &&
               (p->state == INSTANCE_UNREACHABLE || p->state == INSTANCE_UPDATING ||
                p->state == INSTANCE_FAILED || p->state == INSTANCE_UNREADABLE);
}

static int set_add(RolloutSet *set, size_t *capacity, const ClusterUnit *u, const ClusterAssignment *a,
                   RolloutInstanceState state, const char *why) {
        TRY(GROW(set->instances, *capacity, set->n + 1));
        set->instances[set->n++] = (RolloutInstance) {
                .unit = u,
                .assignment = a,
                .machine = cluster_machine_name(a->machine),
                .state = state,
                .had_text = state == INSTANCE_UNREACHABLE && instance_has_text(set->head, a) &&
                            (rollout_was_available(a) ||
                             (instance_is_untouched(set, a) && !instance_was_down(a))),
                .why = why,
        };
        set->n_of[state]++;
        set->n_finished += state == INSTANCE_AVAILABLE && plan_has_finished(a);
        set->n_had_text += set->instances[set->n - 1].had_text;
        set->n_leaving += (cluster_machine_is_stopping(a->machine) ||
                           cluster_machine_is_rebooting(a->machine)) &&
                          a->machine->presence == PRESENCE_UP &&
                          (state == INSTANCE_OLD || state == INSTANCE_AVAILABLE);
        if (rollout_is_absent(set, &set->instances[set->n - 1])) {
                set->n_absent++;
                set->n_passed += state == INSTANCE_UNREACHABLE;
        }
        set->n_kept += state == INSTANCE_UNREADABLE && instance_is_available(a);
        set->n_untouched += state == INSTANCE_FAILED && instance_is_untouched(set, a);
        return 0;
}

/* The newest assignment counts. So does an older one on a machine that was lost in its step, which another
 * one has replaced meanwhile; not a failure on a machine that the unit leaves: the text may exclude it. */
static int set_add_unit(RolloutSet *set, size_t *capacity, const ClusterUnit *u) {
        RolloutInstanceState state = INSTANCE_IDLE;
        const ClusterAssignment *newest = NULL, *former;
        const char *why = NULL, *other_why;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && (!newest || cluster_assignment_is_newer(a, newest)))
                        newest = a;
        if (!newest) {
                set->n_waiting += u->target == TARGET_LAUNCHED;
                set->n_moving += u->target == TARGET_LAUNCHED && !LIST_EMPTY(&u->assignments);
                return 0;
        }
        former = rollout_replaced(newest);
        if (former && former->machine->presence == PRESENCE_UP && !instance_has_text(set->head, newest) &&
            instance_has_text(set->head, former)) { /* the one that was started on another machine ends */
                newest = former;
                former = NULL;
        }
        state = instance_judge(set, newest, &why);
        if (state == INSTANCE_SKIPPED && former) { /* it ends, and the former one runs on */
                state = INSTANCE_FAILED;
                why = "a condition is not met on the other machine";
        }
        if (state == INSTANCE_UPDATING && former && instance_is_available(former))
                state = INSTANCE_SURGING;
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a && state == INSTANCE_UPDATING;
             a = LIST_NEXT(a, of_unit))
                if (a != newest && cluster_assignment_is_active(a) &&
                    presence_is_down(a->machine->presence) &&
                    instance_judge(set, a, &other_why) == INSTANCE_FAILED) {
                        state = INSTANCE_FAILED;
                        why = other_why;
                }
        set->n_arrived += state == INSTANCE_AVAILABLE && former;
        set->n_doubled += (state == INSTANCE_UPDATING || state == INSTANCE_UNREACHABLE) && former;
        return set_add(set, capacity, u, newest, state, why);
}

static int set_compare_machines(const void *a, const void *b) {
        const RolloutInstance *p = a, *q = b;
        int r = strcmp(p->machine, q->machine);

        return r != 0 ? r : strcmp(p->assignment->machine->id, q->assignment->machine->id);
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
                state = instance_judge(set, a, &why);
                r = set_add(set, capacity, u, a, state, why);
        }
        set->unsorted = true;
        return r;
}

void rollout_set_sort(RolloutSet *set) {
        if (set->unsorted && set->n > 1)
                qsort(set->instances, set->n, sizeof(*set->instances), set_compare_machines);
        set->unsorted = false;
}

/* -- The order of updates -- */

/* A heap: of ten thousand instances, a step updates a hundred. */
static void order_sift(RolloutOrder *o, size_t at) {
        const RolloutInstance *moved = o->items[at];

        for (size_t child; (child = 2 * at + 1) < o->n; at = child) {
                if (child + 1 < o->n && set_compare_machines(o->items[child + 1], o->items[child]) < 0)
                        child++;
                if (set_compare_machines(moved, o->items[child]) <= 0)
                        break;
                o->items[at] = o->items[child];
        }
        o->items[at] = moved;
}

int rollout_order_begin(const RolloutSet *set, RolloutInstanceState state, RolloutOrder *ret) {
        RolloutOrder order = { .items = calloc(MAX(set->n_of[state], (size_t) 1), sizeof(*order.items)),
                               .is_heap = set->unsorted };

        if (!order.items)
                return -ENOMEM;
        for (size_t i = 0; i < set->n && order.n < set->n_of[state]; i++)
                if (set->instances[i].state == state)
                        order.items[order.n++] = &set->instances[i];
        for (size_t i = order.is_heap ? order.n / 2 : 0; i > 0; i--)
                order_sift(&order, i - 1);
        *ret = order;
        return 0;
}

const RolloutInstance *rollout_order_next(RolloutOrder *o) {
        const RolloutInstance *first;

        if (!o->is_heap)
                return o->at < o->n ? o->items[o->at++] : NULL;
        if (o->n == 0)
                return NULL;
        first = o->items[0];
        o->items[0] = o->items[--o->n];
        order_sift(o, 0);
        return first;
}

void rollout_order_done(RolloutOrder *order) {
        free(order->items);
        *order = (RolloutOrder) {};
}

/* -- Followers -- */

static int set_add_follower(RolloutSet *set, size_t *capacity, const ClusterUnit *u) {
        size_t i;

        if (!set_lacks_text(set->head, u))
                return 0;
        TRY(GROW(set->followers, *capacity, set->n_followers + 1));
        i = set->n_followers++;
        if (u->target == TARGET_LAUNCHED) {
                set->followers[i] = set->followers[set->n_launched];
                i = set->n_launched++;
        }
        set->followers[i] = u;
        return 0;
}

/* An instance that has a text of its own may have the wanted one by now: the template has got it, too. One
 * that is the file of a unit directory keeps the text of the file. */
static bool set_is_joined_by(const RolloutSet *set, const ClusterUnit *u) {
        size_t own;

        return (!u->unit->owner || same_string(u->unit->owner, set->head->unit->owner)) &&
               unit_has_text_of(u->unit, set->head->unit, &own);
}

/* Return whether only the key of a follower has another text. */
static bool set_lacks_key(const RolloutSet *set, const ClusterUnit *u) {
        bool has_text = false;

        if (streq(u->unit->base, set->head->unit->hash))
                return false;
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && !(has_text = instance_kept_text(set->head, a)))
                        return false;
        return has_text;
}

static int set_add_joiner(RolloutSet *set, size_t *capacity, const ClusterUnit *u) {
        if (cluster_unit_is_unreadable(u) ||
            !(u->unit->from ? set_lacks_key(set, u) : set_is_joined_by(set, u)))
                return 0;
        TRY(GROW(set->joiners, *capacity, set->n_joiners + 1));
        set->joiners[set->n_joiners++] = u;
        return 0;
}

static void set_add_content(RolloutSet *set, const ClusterUnit *u) {
        if (rollout_content(u) > rollout_set_content(set))
                set->content = u->inputs;
}

/* Before the instances, which are judged by it. */
static void set_read_content(const Cluster *cluster, RolloutSet *set) {
        UnitPosition at = {};
        const ClusterUnit *u;

        set_add_content(set, set->head);
        if (!set->head->unit || !rollout_is_template(set->head))
                return;
        for (size_t n = unit_order_instances(&cluster->by_name, set->head->name, &at); n > 0; n--) {
                u = unit_order_next(&cluster->by_name, &at);
                if (u && u->unit && u->unit->from && streq(u->unit->from, set->head->name))
                        set_add_content(set, u);
        }
}

static int set_read_followers(const Cluster *cluster, RolloutSet *set, size_t *capacity) {
        const char *name = set->head->name;
        UnitPosition at = {};
        size_t n = unit_order_instances(&cluster->by_name, name, &at), n_followers = 0, n_joiners = 0;
        int r = GROW(set->instances, *capacity, n);

        for (; n > 0 && r == 0; n--) {
                const ClusterUnit *u = unit_order_next(&cluster->by_name, &at);

                if (!u || u == set->head || !u->unit)
                        continue;
                if (!u->unit->from || !streq(u->unit->from, name)) {
                        r = set_add_joiner(set, &n_joiners, u);
                        continue;
                }
                r = set_add_follower(set, &n_followers, u);
                if (r == 0)
                        r = set_add_joiner(set, &n_joiners, u);
                if (r == 0 && plan_is_wanted(u))
                        r = set_add_unit(set, capacity, u);
        }
        return r;
}

/* Without a rollout, all that wait count. */
static void set_count_missing(RolloutSet *set) {
        const RolloutRecord *r = set->head->rollout;
        size_t gone = r && r->placed > set->n ? (size_t) r->placed - set->n : 0;
        bool ends = !r || r->state == ROLLOUT_DONE;

        set->n_missing = ends ? set->n_waiting : MIN(set->n_waiting, MAX(gone, set->n_moving));
}

int rollout_set_read(const Cluster *cluster, const ClusterUnit *head, RolloutSet *ret) {
        RolloutSet set = { .head = head };
        size_t capacity = 0;
        int r = 0;

        set_read_content(cluster, &set);
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
        set_count_missing(&set);
        *ret = set;
        return 0;
}

void rollout_set_done(RolloutSet *set) {
        free(set->followers);
        free(set->joiners);
        free(set->instances);
        *set = (RolloutSet) {};
}

bool rollout_starts_again(const Unit *text, const RolloutInstance *p) {
        const ClusterAssignment *a = p->assignment;
        const ClusterState *s = a->state;

        if (a->kind != ASSIGNMENT_RUN)
                return false;
        return (a->hash[0] && streq(a->hash, text->hash) && !(plan_is_up(a) && !instance_has_content(a))) ||
               (s && s->state.active && streq(s->state.active, "failed"));
}

bool rollout_has_unknown_text(const ClusterAssignment *a) {
        return a->hash[0] && a->revision == 0;
}

bool rollout_joins(const RolloutSet *set, const RolloutInstance *p) {
        const ClusterAssignment *a = p->assignment;

        return rollout_has_unknown_text(a) ||
               (p->unit != set->head && streq(p->unit->unit->base, set->head->unit->hash) &&
                !streq(a->hash, p->unit->unit->hash));
}

bool rollout_failed_before(const RolloutRecord *r, const RolloutInstance *p) {
        for (size_t i = 0; i < r->n_failed && r->reverted.number == 0; i++)
                if (streq(r->failed[i].unit, p->unit->name))
                        return true;
        return false;
}

size_t rollout_joining(const RolloutSet *set, const RolloutRecord *r) {
        size_t n = 0;

        /* The record does not name all that have failed. */
        for (size_t i = 0; i < set->n && r->n_failed < ROLLOUT_FAILURES_MAX; i++) {
                const RolloutInstance *p = &set->instances[i];

                n += (p->state == INSTANCE_OLD || p->state == INSTANCE_BAD) && rollout_joins(set, p) &&
                     !rollout_failed_before(r, p);
        }
        return n;
}

static bool instance_is_other(RolloutInstanceState state) {
        return state == INSTANCE_OLD || state == INSTANCE_SURGING || state == INSTANCE_UPDATING ||
               state == INSTANCE_AVAILABLE || state == INSTANCE_FAILED || state == INSTANCE_UNREACHABLE;
}

/* Return how many instances that do not lack a process are new since the begin of the rollout. Assignments
 * that are newer may be of instances that have moved: of both, at least those that the set got are new. */
static size_t set_count_new(const RolloutSet *set, const RolloutRecord *record) {
        size_t n = 0, n_starting = 0;

        for (size_t i = 0; i < set->n && record->added > 0; i++) {
                const RolloutInstance *p = &set->instances[i];

                if (p->assignment->since_ms <= record->since_ms)
                        continue;
                n += instance_is_other(p->state);
                n_starting += p->state == INSTANCE_BAD;
        }
        return record->added <= n_starting ? 0 : MIN(n, (size_t) record->added - n_starting);
}

size_t rollout_lost(const RolloutSet *set, const RolloutRecord *record) {
        const size_t *n = set->n_of;
        size_t others = 0;

        if (!record || record->state == ROLLOUT_DONE || record->retry > record->begun)
                return 0;
        for (int state = 0; state < _INSTANCE_STATE_MAX; state++)
                others += instance_is_other((RolloutInstanceState) state) ? n[state] : 0;
        others -= set_count_new(set, record);
        if (record->served <= others)
                return 0;
        return MIN(n[INSTANCE_SKIPPED], (size_t) record->served - others);
}
