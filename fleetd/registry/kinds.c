#include "fleetd/registry/kinds.h"

#include <stdio.h>

#include "base/parse.h"

/* -- Lists -- */

static void cluster_list_set(Cluster *c, ClusterList list, ClusterUnit *u, bool in) {
        if (u->listed[list] == in)
                return;
        if (in)
                LIST_INSERT_HEAD(&c->lists[list], u, lists[list]);
        else
                LIST_REMOVE(u, lists[list]);
        u->listed[list] = in;
        for (ClusterAssignment *o = list == CLUSTER_REPLACING ? LIST_FIRST(&u->assignments) : NULL; o;
             o = LIST_NEXT(o, of_unit))
                o->machine->n_replacing += in ? 1 : -1;
}

static bool cluster_unit_is_waiting(const ClusterUnit *u) {
        if (!u->unit || u->target == TARGET_INACTIVE || u->unit->placement.global)
                return false;
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o) && o->machine->presence == PRESENCE_UP &&
                    !cluster_has_conflicting_unit(u, o->machine))
                        return false;
        return true;
}

static UnitCondition cluster_unit_condition(const ClusterUnit *u) {
        if (!u->unit)
                return UNIT_NOT_COUNTED;
        if (u->n_failed > 0)
                return UNIT_FAILED;
        if (u->n_active > 0)
                return UNIT_ACTIVE;
        return u->listed[CLUSTER_WAITING] ? UNIT_WAITING : UNIT_OTHER;
}

/* Figures are read without a walk over all units. */
static void cluster_count_unit(Cluster *c, ClusterUnit *u) {
        if (u->condition != UNIT_NOT_COUNTED)
                c->conditions[u->condition]--;
        u->condition = cluster_unit_condition(u);
        if (u->condition != UNIT_NOT_COUNTED)
                c->conditions[u->condition]++;
}

void cluster_update_lists(Cluster *c, ClusterUnit *u) {
        const Placement *p = u->unit ? &u->unit->placement : NULL;

        cluster_list_set(c, CLUSTER_WAITING, u, cluster_unit_is_waiting(u));
        cluster_list_set(c, CLUSTER_GLOBAL, u, p && p->global);
        cluster_list_set(c, CLUSTER_RELATED, u,
                         p && p->machine_of.n + p->triggers.n + p->conflicts.n + p->replaces.n > 0);
        cluster_list_set(c, CLUSTER_REPLACING, u, p && p->replaces.n > 0);
        cluster_list_set(c, CLUSTER_ROLLING, u, u->rollout && u->rollout->state != ROLLOUT_DONE);
        cluster_list_set(c, CLUSTER_REVERTED, u,
                         u->rollout && u->rollout->state == ROLLOUT_DONE && u->rollout->reverted.number > 0);
        cluster_list_set(c, CLUSTER_MOVING, u, u->move != NULL);
        cluster_list_set(c, CLUSTER_SURPLUS, u, cluster_unit_has_surplus(u));
        cluster_list_set(c, CLUSTER_STOPS_FIRST, u,
                         p && placement_stops_first(p) && u->target == TARGET_LAUNCHED && u->n_active == 0);
        cluster_count_unit(c, u);
}

/* -- /_fleet/unit/UNIT -- */

void cluster_owner_remove(Cluster *c, ClusterUnit *u) {
        ClusterOwner *owner = u->owner;

        if (!owner)
                return;
        LIST_REMOVE(u, of_owner);
        u->owner = NULL;
        if (!LIST_EMPTY(&owner->units))
                return;
        HASH_DEL(c->owners, owner);
        free(owner);
}

static int owner_add(Cluster *c, ClusterUnit *u, const char *machine) {
        ClusterOwner *owner = cluster_owner(c, machine);

        if (!owner) {
                owner = NEW0(ClusterOwner, 1);
                if (!owner)
                        return -ENOMEM;
                snprintf(owner->machine, sizeof(owner->machine), "%s", machine);
                HASH_ADD_STR(c->owners, machine, owner);
                if (!TABLE_ADDED(owner)) {
                        free(owner);
                        return -ENOMEM;
                }
        }
        LIST_INSERT_HEAD(&owner->units, u, of_owner);
        u->owner = owner;
        return 0;
}

static void unit_clear_text(Cluster *c, ClusterUnit *u) {
        for (ClusterRule rule = 0; u->unit && rule < _CLUSTER_RULE_MAX; rule++) {
                const Names *names = cluster_rule(&u->unit->placement, rule);

                for (size_t i = 0; i < names->n; i++)
                        c->filed.bytes += sizeof(u) * patterns_remove(&c->rules[rule], names->items[i], u);
                c->filed.nodes += names->n;
        }
        cluster_owner_remove(c, u);
        u->unit = unit_free(u->unit);
}

static int unit_set_text(Cluster *c, ClusterUnit *u, Unit *unit) {
        unit_clear_text(c, u);
        u->unit = unit;
        for (ClusterRule rule = 0; rule < _CLUSTER_RULE_MAX; rule++) {
                const Names *names = cluster_rule(&unit->placement, rule);

                c->filed.nodes += names->n;
                for (size_t i = 0; i < names->n; i++)
                        if (patterns_add(&c->rules[rule], names->items[i], u) < 0) {
                                unit_clear_text(c, u);
                                return -ENOMEM;
                        }
        }
        if (unit->owner && owner_add(c, u, unit->owner) < 0) {
                unit_clear_text(c, u);
                return -ENOMEM;
        }
        return 0;
}

static int unit_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        return stored_unit_read(k->unit, bytes.data, bytes.size, &ret->unit, err);
}

static int unit_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        int r = unit_set_text(c, e->unit, TAKE_PTR(v->unit));

        e->unit->index = r < 0 ? 0 : v->modified;
        return r;
}

static int unit_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        unit_clear_text(c, e->unit);
        e->unit->index = 0;
        return 0;
}

/* -- /_fleet/target/UNIT -- */

static int target_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        char word[16] = "";

        if (bytes.size < sizeof(word))
                memcpy(word, bytes.data, bytes.size);
        ret->target = target_state_from_string(word);
        return ret->target < 0 ? error_set(err, -EBADMSG, "not a target state: '%s'", word) : 0;
}

static int target_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        e->unit->target = v->target;
        e->unit->target_index = v->modified;
        return 0;
}

/* -- /_fleet/machine/ID/facts -- */

static int facts_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        Machine *facts = NEW0(Machine, 1);
        int r;

        if (!facts)
                return -ENOMEM;
        r = stored_facts_read(bytes.data, bytes.size, facts, err);
        if (r < 0) {
                free(facts);
                return r;
        }
        ret->facts = facts;
        return 0;
}

void cluster_facts_free(Machine *facts) {
        if (facts)
                machine_done(facts);
        free(facts);
}

static int facts_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterMachine *m = e->machine;
        bool changes = !m->facts || !v->facts || m->facts->quadlet != v->facts->quadlet ||
                       m->facts->takes_finished != v->facts->takes_finished ||
                       (!cluster_machine_is_restricted(m) &&
                        !pairs_equal(&m->facts->metadata, &v->facts->metadata));

        if (changes)
                m->place_index = v->modified;
        cluster_facts_free(m->facts);
        m->facts = TAKE_PTR(v->facts);
        m->facts_index = v->modified;
        m->facts_created = v->created;
        return kind_metadata_merge(m);
}

/* -- /_fleet/machine/ID/metadata/NAME -- */

static int metadata_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        if (bytes.size > METADATA_VALUE_MAX || memchr(bytes.data, 0, bytes.size))
                return error_set(err, -EBADMSG, "not a value of machine metadata");
        memcpy(ret->metadata, bytes.data, bytes.size);
        ret->metadata[bytes.size] = 0;
        return machine_metadata_check(k->unit, ret->metadata, err);
}

/* One request sets many keys: update this key alone, without a merge. */
static int metadata_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        if (pairs_set(&e->machine->set, k->unit, v->metadata) < 0)
                return -ENOMEM;
        return pairs_set(&e->machine->metadata, k->unit, *v->metadata ? v->metadata : NULL);
}

static int metadata_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        const Pairs *stated = kind_metadata_own(e->machine);
        const char *own = stated ? pairs_get(stated, k->unit) : NULL;

        if (pairs_set(&e->machine->set, k->unit, NULL) < 0)
                return -ENOMEM;
        return pairs_set(&e->machine->metadata, k->unit, own);
}

static int metadata_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        int r = 0;

        for (size_t i = 0; i < e->machine->set.n && r == 0; i++)
                r = found(userdata, LAYOUT_METADATA, e->machine->set.items[i].key, e->machine->id);
        return r;
}

/* -- /_fleet/machine/ID/presence -- */

static int presence_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        return stored_presence_read(bytes.data, bytes.size, &ret->presence, err);
}

/* A machine that is away keeps its units and receives no others. */
static int presence_unreadable(KindValue *ret) {
        ret->presence = (PresenceRecord) { .presence = PRESENCE_AWAY };
        verdict_say(&ret->presence.verdict, VERDICT_SAID, CLUSTER_UNREADABLE);
        return 0;
}

static int presence_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterMachine *m = e->machine;

        m->presence = v->presence.presence;
        m->since_ms = v->presence.since_ms;
        m->away_ms = v->presence.away_ms;
        m->losses = v->presence.losses;
        m->lost_ms = v->presence.lost_ms;
        m->announced = v->presence.announced;
        m->hold_off_until_ms = v->presence.hold_off_until_ms;
        m->verdict = v->presence.verdict;
        m->presence_index = v->modified;
        for (ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                cluster_update_lists(c, a->of);
        return 0;
}

static int presence_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        return presence_apply(c, e, k, &(KindValue) { .presence = { .presence = PRESENCE_LOST } });
}

/* -- /_fleet/machine/ID/reported -- */

static int reported_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        char hex[LINEAGE_DIGITS + 1] = "";

        if (bytes.size == LINEAGE_DIGITS)
                memcpy(hex, bytes.data, bytes.size);
        if (parse_hex_id(hex, LINEAGE_DIGITS) < 0)
                return error_set(err, -EBADMSG, "expected a lineage of %d hex digits", LINEAGE_DIGITS);
        ret->reported = strtoull(hex, NULL, 16);
        return 0;
}

static int reported_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        e->machine->reported = v->reported;
        e->machine->reported_index = v->modified;
        return 0;
}

/* -- /_fleet/machine/ID/unit/UNIT -- */

static int assignment_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        return stored_assignment_read(bytes.data, bytes.size, &ret->assignment, err);
}

/* The unit stays on that machine, and receives no second assignment. */
static int assignment_unreadable(KindValue *ret) {
        ret->assignment = (Assignment) { .kind = _ASSIGNMENT_INVALID, .since_ms = UINT64_MAX };
        return 0;
}

void cluster_assignment_free(ClusterAssignment *a) {
        ClusterMachine *m = a->machine;

        m->load -= cluster_assignment_is_active(a);
        m->n_replacing -= a->of->listed[CLUSTER_REPLACING];
        HASH_DEL(m->assignments, a);
        LIST_REMOVE(a, of_unit);
        free(a->reason);
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
        a->kind = v->assignment.kind;
        e->machine->load += cluster_assignment_is_active(a);
        a->unit_index = v->assignment.unit_index;
        a->index = v->modified;
        a->created = v->created;
        a->since_ms = v->assignment.since_ms;
        a->hold_ms = v->assignment.hold_ms;
        a->move_failures = v->assignment.move_failures;
        a->move_after_ms = v->assignment.move_after_ms;
        memcpy(a->move_failed, v->assignment.move_failed, sizeof(a->move_failed));
        a->revision = v->assignment.revision;
        memcpy(a->hash, v->assignment.hash, sizeof(a->hash));
        a->own = v->assignment.own;
        memcpy(a->base, *v->assignment.base ? v->assignment.base : a->hash, sizeof(a->base));
        memcpy(a->instead, v->assignment.instead, sizeof(a->instead));
        a->unless_running = v->assignment.unless_running;
        a->finished = v->assignment.finished;
        a->known_ms = c->now_ms;
        a->term = v->assignment.term;
        free(a->reason);
        a->reason = TAKE_PTR(v->assignment.reason);
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

        for (ClusterAssignment *a = LIST_FIRST(&e->unit->assignments); a && r == 0; a = LIST_NEXT(a, of_unit))
                r = found(userdata, LAYOUT_ASSIGNMENT, a->unit, a->machine->id);
        return r;
}

/* -- /_fleet/machine/ID/problem/UNIT -- */

static int problem_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        return stored_problem_read(bytes.data, bytes.size, &ret->problem, err);
}

void cluster_problem_free(ClusterMachine *m, ClusterProblem *p) {
        HASH_DEL(m->problems, p);
        problem_record_done(&p->problem);
        free(p);
}

static ClusterProblem *problem_new(ClusterMachine *m, const char *unit) {
        _cleanup_free_ ClusterProblem *p = NEW0(ClusterProblem, 1);

        if (!p)
                return NULL;
        snprintf(p->unit, sizeof(p->unit), "%s", unit);
        HASH_ADD_STR(m->problems, unit, p);
        return TABLE_ADDED(p) ? TAKE_PTR(p) : NULL;
}

static int problem_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterProblem *p = cluster_problem(c, k->machine, k->unit);

        if (!p)
                p = problem_new(e->machine, k->unit);
        if (!p)
                return -ENOMEM;
        problem_record_done(&p->problem);
        p->problem = v->problem;
        v->problem = (Problem) {};
        p->index = v->modified;
        return 0;
}

static int problem_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterProblem *p = cluster_problem(c, k->machine, k->unit);

        if (p)
                cluster_problem_free(e->machine, p);
        return 0;
}

static int problem_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        int r = 0;

        for (ClusterProblem *p = e->machine->problems; p && r == 0; p = p->hh.next)
                r = found(userdata, LAYOUT_PROBLEM, p->unit, e->machine->id);
        return r;
}

/* -- /_fleet/state/UNIT/ID -- */

static int state_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        return stored_state_read(bytes.data, bytes.size, &ret->state, err);
}

/* Count the state among those of its unit, or no more. */
static void state_count(ClusterState *s, int by) {
        const char *active = s->state.active ?: "";

        s->of->n_active += active_state_is_up(active) ? by : 0;
        s->of->n_failed += streq(active, "failed") ? by : 0;
}

/* Set the state of the assignment of the unit to the machine, if there is one. */
static void state_assign(const ClusterState *s, ClusterState *now) {
        ClusterAssignment *a = cluster_assignment_on(s->machine, s->unit);

        if (a)
                a->state = now;
}

void cluster_state_free(ClusterState *s) {
        state_assign(s, NULL);
        state_count(s, -1);
        HASH_DEL(s->machine->states, s);
        LIST_REMOVE(s, of_unit);
        unit_state_done(&s->state);
        free(s);
}

static ClusterState *state_new(const KindEntries *e) {
        _cleanup_free_ ClusterState *s = NEW0(ClusterState, 1);

        if (!s)
                return NULL;
        s->machine = e->machine;
        s->of = e->unit;
        memcpy(s->unit, e->unit->name, sizeof(s->unit));
        HASH_ADD_STR(e->machine->states, unit, s);
        if (!TABLE_ADDED(s))
                return NULL;
        CLUSTER_LIST_INSERT(&e->unit->states, s);
        state_assign(s, s);
        return TAKE_PTR(s);
}

static int state_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterState *s = cluster_state_on(e->machine, k->unit) ?: state_new(e);

        if (!s)
                return -ENOMEM;
        state_count(s, -1);
        unit_state_done(&s->state);
        s->state = v->state;
        v->state = (UnitState) {};
        state_count(s, 1);
        s->index = v->modified;
        return 0;
}

static int state_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterState *s = cluster_state_on(e->machine, k->unit);

        if (s)
                cluster_state_free(s);
        return 0;
}

static int state_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        int r = 0;

        for (ClusterState *s = LIST_FIRST(&e->unit->states); s && r == 0; s = LIST_NEXT(s, of_unit))
                r = found(userdata, LAYOUT_STATE, s->unit, s->machine->id);
        return r;
}

/* -- /_fleet/cluster/member/ID -- */

static int member_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        return stored_member_read(bytes.data, bytes.size, &ret->member, err);
}

static void member_list_set(Cluster *c, ClusterMachine *m, bool in) {
        if (m->is_member == in)
                return;
        if (in)
                LIST_INSERT_HEAD(&c->members, m, of_members);
        else
                LIST_REMOVE(m, of_members);
        m->is_member = in;
}

static int member_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        e->machine->member = v->member;
        member_list_set(c, e->machine, true);
        return 0;
}

/* A machine with a member key, which says no more than that. */
static int member_unreadable(KindValue *ret) {
        ret->member = (MemberRecord) {};
        return 0;
}

/* The last start stays: the daemon compares it with its own after it joins again. */
static int member_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        MemberRecord *member = &e->machine->member;

        member->raft_id = 0;
        member->peer[0] = member->client[0] = member->name[0] = 0;
        member_list_set(c, e->machine, false);
        return 0;
}

/* -- /_fleet/cluster/NAME: of these, the view holds that a new lineage adopts -- */

/* The presence of the key counts. With an unreadable time, only reports and people end the adoption. */
static int adopting_decode(const LayoutKey *k, KvBytes bytes, KindValue *ret, Error *err) {
        char digits[32] = "";

        if (bytes.size < sizeof(digits))
                memcpy(digits, bytes.data, bytes.size);
        ret->adopting_since_ms = UINT64_MAX;
        (void) parse_u64(digits, &ret->adopting_since_ms);
        return 0;
}

static int adopting_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        if (!streq(k->unit, CLUSTER_ADOPTING))
                return 0;
        c->adopting = true;
        c->adopting_since_ms = v->adopting_since_ms;
        return 0;
}

static int adopting_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        if (streq(k->unit, CLUSTER_ADOPTING))
                c->adopting = false;
        return 0;
}

static int adopting_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        return c->adopting ? found(userdata, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL) : 0;
}

/* -- The table -- */

#define FUNCTIONS(prefix)    .decode = prefix##_decode, .apply = prefix##_apply
#define CLEARED(prefix)      FUNCTIONS(prefix), .clear = prefix##_clear
#define OF_UNIT_IN(field)    .of = OF_UNIT, .present = offsetof(ClusterUnit, field)
#define OF_MACHINE_IN(field) .of = OF_MACHINE, .present = offsetof(ClusterMachine, field)
#define OF_CLUSTER_IN(field) .present = offsetof(Cluster, field)

const Kind kinds[_LAYOUT_MAX] = {
        [LAYOUT_UNIT] = { CHANGED_UNIT, SLICE_UNIT, OF_UNIT_IN(index), FUNCTIONS(unit), .clear = unit_clear },
        [LAYOUT_TARGET] = { CHANGED_TARGET, SLICE_UNIT, OF_UNIT_IN(target_index), FUNCTIONS(target) },
        [LAYOUT_REVISION] = { CHANGED_REVISION, SLICE_NONE, OF_UNIT, CLEARED(kind_revision),
                              .each = kind_revision_each },
        [LAYOUT_ROLLOUT] = { CHANGED_ROLLOUT, SLICE_UNIT, OF_UNIT_IN(rollout_index), CLEARED(kind_rollout) },
        [LAYOUT_MOVE] = { CHANGED_MOVE, SLICE_NONE, OF_UNIT_IN(move_index), CLEARED(kind_move) },
        [LAYOUT_FACTS] = { CHANGED_MACHINE, SLICE_PLACE, OF_MACHINE_IN(facts_index), FUNCTIONS(facts) },
        [LAYOUT_METADATA] = { CHANGED_MACHINE, SLICE_PLACE, OF_MACHINE, FUNCTIONS(metadata),
                              .clear = metadata_clear, .each = metadata_each },
        [LAYOUT_PRESENCE] = { CHANGED_PRESENCE, SLICE_MACHINE, OF_MACHINE_IN(presence_index),
                              FUNCTIONS(presence), .clear = presence_clear,
                              .unreadable = presence_unreadable },
        [LAYOUT_REPORTED] = { CHANGED_CLUSTER, SLICE_MACHINE, OF_MACHINE_IN(reported), FUNCTIONS(reported) },
        [LAYOUT_ASSIGNMENT] = { CHANGED_ASSIGNMENT, SLICE_MACHINE, OF_UNIT | OF_MACHINE,
                                FUNCTIONS(assignment), .clear = assignment_clear, .each = assignment_each,
                                .unreadable = assignment_unreadable },
        [LAYOUT_PROBLEM] = { CHANGED_PROBLEM, SLICE_MACHINE, OF_MACHINE | NAMES_UNIT, FUNCTIONS(problem),
                             .clear = problem_clear, .each = problem_each },
        [LAYOUT_MAINTENANCE] = { CHANGED_MACHINE, SLICE_MACHINE, OF_MACHINE_IN(maintenance_index),
                                 CLEARED(kind_maintenance), .unreadable = kind_maintenance_unreadable },
        [LAYOUT_REBOOT] = { CHANGED_MACHINE, SLICE_MACHINE, OF_MACHINE_IN(reboot_index),
                            CLEARED(kind_reboot) },
        [LAYOUT_STATE] = { CHANGED_STATE, SLICE_MACHINE, OF_UNIT | OF_MACHINE, FUNCTIONS(state),
                           .clear = state_clear, .each = state_each },
        [LAYOUT_MEMBER] = { CHANGED_CLUSTER, SLICE_ALL, OF_MACHINE_IN(member.raft_id), FUNCTIONS(member),
                            .clear = member_clear, .unreadable = member_unreadable },
        [LAYOUT_HOST] = { CHANGED_CLUSTER, SLICE_MEMBER, OF_MACHINE_IN(host_index),
                          .decode = kind_host_decode, .apply = kind_host_merge },
        [LAYOUT_REMOVED] = { CHANGED_CLUSTER, SLICE_MACHINE, OF_MACHINE_IN(removed_index),
                             CLEARED(kind_removed) },
        [LAYOUT_TOKEN] = { CHANGED_CLUSTER, SLICE_NONE, 0, CLEARED(kind_token), .each = kind_token_each },
        [LAYOUT_DENIED] = { CHANGED_CLUSTER, SLICE_NONE, 0, CLEARED(kind_denied), .each = kind_denied_each },
        [LAYOUT_PRINCIPAL] = { CHANGED_CLUSTER, SLICE_USERS, 0, CLEARED(kind_principal),
                               .each = kind_principal_each },
        [LAYOUT_LINEAGE] = { CHANGED_CLUSTER, SLICE_ALL, 0, CLEARED(kind_lineage),
                             .each = kind_lineage_each },
        [LAYOUT_CA_ROOTS] = { CHANGED_CLUSTER, SLICE_ALL, OF_CLUSTER_IN(ca_roots_index),
                              CLEARED(kind_ca_roots) },
        [LAYOUT_CA_KEY] = { CHANGED_CLUSTER, SLICE_NONE, OF_CLUSTER_IN(ca_keys_index),
                            CLEARED(kind_ca_keys) },
        [LAYOUT_CA_ROTATION] = { CHANGED_CLUSTER, SLICE_NONE, OF_CLUSTER_IN(ca_rotation_index),
                                 CLEARED(kind_ca_rotation) },
        [LAYOUT_SETTINGS] = { CHANGED_CLUSTER, SLICE_ALL, OF_CLUSTER_IN(settings_index),
                              CLEARED(kind_settings) },
        [LAYOUT_CLUSTER] = { CHANGED_CLUSTER, SLICE_NAMED, 0, FUNCTIONS(adopting), .clear = adopting_clear,
                             .each = adopting_each },
};

int kinds_each_of(LayoutKind kind, const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        const Kind *row = &kinds[kind];
        const void *owner = c;
        const uint64_t *present;

        if (e->unit ? !(row->of & OF_UNIT) :
                      (row->of & (OF_UNIT | OF_MACHINE)) != (e->machine ? OF_MACHINE : 0))
                return 0;
        if (row->each)
                return row->each(c, e, found, userdata);
        if (e->unit)
                owner = e->unit;
        else if (e->machine)
                owner = e->machine;
        present = (const uint64_t *) ((const char *) owner + row->present);
        return *present != 0 ? found(userdata, kind, e->unit ? e->unit->name : NULL,
                                     e->machine ? e->machine->id : NULL) :
                               0;
}

void kind_value_done(KindValue *v) {
        unit_free(v->unit);
        cluster_facts_free(v->facts);
        assignment_record_done(&v->assignment);
        problem_record_done(&v->problem);
        unit_state_done(&v->state);
        if (v->record)
                v->record_free(v->record);
}

int kinds_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        const ClusterUnreadable *x;
        int r = 0;

        for (LayoutKind kind = 0; kind < _LAYOUT_MAX && r == 0; kind++)
                r = kinds_each_of(kind, c, e, found, userdata);

        if (e->unit)
                x = LIST_FIRST(&e->unit->unreadable);
        else if (e->machine)
                x = LIST_FIRST(&e->machine->unreadable);
        else
                x = LIST_FIRST(&c->unreadable);
        for (; x && r == 0; x = LIST_NEXT(x, of_owner))
                r = found(userdata, x->key.kind, x->key.unit, x->key.machine);
        return r;
}

RegistryChange kinds_change(const LayoutKey *k, uint64_t index, bool removed) {
        const Kind *kind = &kinds[k->kind];

        return (RegistryChange) {
                .kind = kind->change,
                .unit = kind->of & (OF_UNIT | NAMES_UNIT) ? k->unit : NULL,
                .machine = kind->of & OF_MACHINE ? k->machine : NULL,
                .index = index,
                .removed = removed,
                .key = k,
        };
}
