/* The picture: one table of units, one of machines, and what joins them, kept consistent key by key. An entry
 * of either table lives as long as one key speaks of it. */
#include "fleetd/registry/cluster.h"

#include <assert.h>
#include <stdio.h>

#include "base/parse.h"
#include "fleetd/registry/layout.h"
#include "units/json.h"

/* -- Entries -- */

ClusterUnit *cluster_any_unit(const Cluster *c, const char *name) {
        ClusterUnit *u;

        HASH_FIND_STR(c->units, name, u);
        return u;
}

ClusterUnit *cluster_unit(const Cluster *c, const char *name) {
        ClusterUnit *u = cluster_any_unit(c, name);

        return u && u->unit ? u : NULL;
}

ClusterMachine *cluster_machine(const Cluster *c, const char *id) {
        ClusterMachine *m;

        HASH_FIND_STR(c->machines, id, m);
        return m;
}

static ClusterAssignment *any_order(const Cluster *c, const char *machine_id, const char *unit) {
        ClusterMachine *m = cluster_machine(c, machine_id);
        ClusterAssignment *o = NULL;

        if (m)
                HASH_FIND_STR(m->assignments, unit, o);
        return o;
}

ClusterAssignment *cluster_assignment(const Cluster *c, const char *machine_id, const char *unit) {
        ClusterAssignment *o = any_order(c, machine_id, unit);

        return o && o->kind != _ASSIGNMENT_INVALID ? o : NULL;
}

ClusterState *cluster_state(const Cluster *c, const char *machine_id, const char *unit) {
        ClusterMachine *m = cluster_machine(c, machine_id);
        ClusterState *s = NULL;

        if (m)
                HASH_FIND_STR(m->states, unit, s);
        return s;
}

ClusterProblem *cluster_problem(const Cluster *c, const char *machine_id, const char *unit) {
        ClusterMachine *m = cluster_machine(c, machine_id);
        ClusterProblem *p = NULL;

        if (m)
                HASH_FIND_STR(m->problems, unit, p);
        return p;
}

/* The first unit in the order of names that does not stand before the 'size' bytes. */
static size_t place_by_name(const Cluster *c, const char *bytes, size_t size) {
        size_t low = 0, high = HASH_COUNT(c->units);

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (strncmp(c->by_name[middle]->name, bytes, size) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

ClusterUnit *const *cluster_units_by_prefix(const Cluster *c, const char *start, size_t size, size_t *ret_n) {
        size_t first = place_by_name(c, start, size), low = first, high = HASH_COUNT(c->units);

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (strncmp(c->by_name[middle]->name, start, size) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        *ret_n = low - first;
        return c->by_name + first;
}

static void forget_unit(Cluster *c, ClusterUnit *u) {
        size_t at = place_by_name(c, u->name, sizeof(u->name));

        memmove(&c->by_name[at], &c->by_name[at + 1], (HASH_COUNT(c->units) - at - 1) * sizeof(*c->by_name));
        HASH_DEL(c->units, u);
        free(u);
}

static ClusterUnit *get_unit(Cluster *c, const char *name) {
        _cleanup_free_ ClusterUnit *fresh = NULL;
        ClusterUnit *u = cluster_any_unit(c, name);
        size_t at;

        if (u)
                return u;

        fresh = NEW0(ClusterUnit, 1);
        if (!fresh)
                return NULL;

        if (GROW(c->by_name, c->by_name_capacity, HASH_COUNT(c->units) + 1) < 0)
                return NULL;
        snprintf(fresh->name, sizeof(fresh->name), "%s", name);
        at = place_by_name(c, fresh->name, sizeof(fresh->name));
        HASH_ADD_STR(c->units, name, fresh);
        if (!TABLE_ADDED(fresh))
                return NULL;
        memmove(&c->by_name[at + 1], &c->by_name[at], (HASH_COUNT(c->units) - 1 - at) * sizeof(*c->by_name));
        c->by_name[at] = fresh;
        return TAKE_PTR(fresh);
}

static ClusterMachine *get_machine(Cluster *c, const char *id) {
        _cleanup_free_ ClusterMachine *fresh = NULL;
        ClusterMachine *m = cluster_machine(c, id);

        if (m)
                return m;

        fresh = NEW0(ClusterMachine, 1);
        if (!fresh)
                return NULL;

        snprintf(fresh->id, sizeof(fresh->id), "%s", id);
        fresh->presence = PRESENCE_LOST;
        HASH_ADD_STR(c->machines, id, fresh);
        return TABLE_ADDED(fresh) ? TAKE_PTR(fresh) : NULL;
}

/* -- Lists -- */

static void list_set(Cluster *c, ClusterList list, ClusterUnit *u, bool in) {
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

/* -- Rules -- */

const Names *cluster_rule(const Placement *p, ClusterRule rule) {
        const Names *const names[_CLUSTER_RULE_MAX] = {
                [CLUSTER_CONFLICTS] = &p->conflicts,
                [CLUSTER_REPLACES] = &p->replaces,
                [CLUSTER_MACHINE_OF] = &p->machine_of,
        };

        return names[rule];
}

static void forget_text(Cluster *c, ClusterUnit *u) {
        for (ClusterRule rule = 0; u->unit && rule < _CLUSTER_RULE_MAX; rule++) {
                const Names *names = cluster_rule(&u->unit->placement, rule);

                for (size_t i = 0; i < names->n; i++)
                        c->filed.bytes += sizeof(u) * patterns_remove(&c->rules[rule], names->items[i], u);
                c->filed.nodes += names->n;
        }
        u->unit = unit_free(u->unit);
}

/* 'unit' is taken. -ENOMEM: the unit has no text any more. */
static int set_text(Cluster *c, ClusterUnit *u, Unit *unit) {
        forget_text(c, u);
        u->unit = unit;
        for (ClusterRule rule = 0; rule < _CLUSTER_RULE_MAX; rule++) {
                const Names *names = cluster_rule(&unit->placement, rule);

                c->filed.nodes += names->n;
                for (size_t i = 0; i < names->n; i++)
                        if (patterns_add(&c->rules[rule], names->items[i], u) < 0) {
                                forget_text(c, u);
                                return -ENOMEM;
                        }
        }
        return 0;
}

/* -- Waiting -- */

static bool is_waiting(const ClusterUnit *u) {
        if (!u->unit || u->target == TARGET_INACTIVE || u->unit->placement.global)
                return false;
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o) && o->machine->presence == PRESENCE_UP &&
                    !cluster_has_conflicting_unit(u, o->machine))
                        return false;
        return true;
}

/* Brings the lists up to date after any change of 'u', and lets go of it when no key speaks of it any more.
 */
static void unit_changed(Cluster *c, ClusterUnit *u) {
        const Placement *p = u->unit ? &u->unit->placement : NULL;

        list_set(c, CLUSTER_WAITING, u, is_waiting(u));
        list_set(c, CLUSTER_GLOBAL, u, p && p->global);
        list_set(c, CLUSTER_RELATED, u,
                 p && (p->machine_of.n > 0 || p->conflicts.n > 0 || p->replaces.n > 0));

        list_set(c, CLUSTER_REPLACING, u, p && p->replaces.n > 0);

        if (!u->unit && u->target_index == 0 && LIST_EMPTY(&u->assignments) && LIST_EMPTY(&u->states) &&
            LIST_EMPTY(&u->unreadable))
                forget_unit(c, u);
}

static void machine_changed(Cluster *c, ClusterMachine *m) {
        if (m->facts || m->set.n > 0 || m->presence_index > 0 || m->raft_id > 0 || m->reported != 0 ||
            m->assignments || m->states || m->problems || !LIST_EMPTY(&m->unreadable))
                return;

        HASH_DEL(c->machines, m);
        pairs_done(&m->set);
        pairs_done(&m->metadata);
        free(m);
}

/* -- Orders and states -- */

/* Insert an assignment or a state into a list of its unit, which is sorted by machine id. */
#define CLUSTER_LIST_INSERT(head, element)                                          \
        do {                                                                        \
                typeof(element) _after = NULL, _at = LIST_FIRST(head);              \
                for (; _at && strcmp(_at->machine->id, (element)->machine->id) < 0; \
                     _at = LIST_NEXT(_at, of_unit))                                 \
                        _after = _at;                                               \
                if (_after)                                                         \
                        LIST_INSERT_AFTER(_after, (element), of_unit);              \
                else                                                                \
                        LIST_INSERT_HEAD((head), (element), of_unit);               \
        } while (0)

/* Lets go of a unit and a machine that nothing has come to join. */
static int part(Cluster *c, ClusterUnit *u, ClusterMachine *m) {
        if (u)
                unit_changed(c, u);
        if (m)
                machine_changed(c, m);
        return -ENOMEM;
}

/* The two that an order or a state is about. */
static int join(Cluster *c, const LayoutKey *k, ClusterUnit **ret_unit, ClusterMachine **ret_machine) {
        *ret_unit = get_unit(c, k->unit);
        *ret_machine = get_machine(c, k->machine);
        return *ret_unit && *ret_machine ? 0 : part(c, *ret_unit, *ret_machine);
}

static void remove_order(Cluster *c, ClusterAssignment *o) {
        ClusterMachine *m = o->machine;
        ClusterUnit *u = o->of;

        if (cluster_assignment_is_active(o))
                m->load--;
        m->n_replacing -= u->listed[CLUSTER_REPLACING];
        HASH_DEL(m->assignments, o);
        LIST_REMOVE(o, of_unit);
        free(o->reason);
        free(o);
        unit_changed(c, u);
        machine_changed(c, m);
}

static void remove_state(Cluster *c, ClusterState *s) {
        ClusterMachine *m = s->machine;
        ClusterUnit *u = s->of;

        HASH_DEL(m->states, s);
        LIST_REMOVE(s, of_unit);
        unit_state_done(&s->state);
        free(s);
        unit_changed(c, u);
        machine_changed(c, m);
}

static int put_order(Cluster *c, const LayoutKey *k, Assignment *record, uint64_t created,
                     uint64_t modified) {
        ClusterAssignment *o = any_order(c, k->machine, k->unit);

        if (!o) {
                _cleanup_free_ ClusterAssignment *fresh = NEW0(ClusterAssignment, 1);

                if (!fresh || join(c, k, &fresh->of, &fresh->machine) < 0)
                        return -ENOMEM;
                fresh->kind = ASSIGNMENT_STOP;
                snprintf(fresh->unit, sizeof(fresh->unit), "%s", k->unit);
                HASH_ADD_STR(fresh->machine->assignments, unit, fresh);
                if (!TABLE_ADDED(fresh))
                        return part(c, fresh->of, fresh->machine);
                CLUSTER_LIST_INSERT(&fresh->of->assignments, fresh);
                fresh->machine->n_replacing += fresh->of->listed[CLUSTER_REPLACING];
                o = TAKE_PTR(fresh);
        }

        o->machine->load -= cluster_assignment_is_active(o);
        o->kind = record->kind;
        o->machine->load += cluster_assignment_is_active(o);
        o->unit_index = record->unit_index;
        o->index = modified;
        o->created = created;
        o->since_ms = record->since_ms;
        o->term = record->term;
        free(o->reason);
        o->reason = TAKE_PTR(record->reason);
        unit_changed(c, o->of);
        return 0;
}

static int put_state(Cluster *c, const LayoutKey *k, UnitState *state, uint64_t modified) {
        ClusterState *s = cluster_state(c, k->machine, k->unit);

        if (!s) {
                _cleanup_free_ ClusterState *fresh = NEW0(ClusterState, 1);

                if (!fresh || join(c, k, &fresh->of, &fresh->machine) < 0)
                        return -ENOMEM;
                snprintf(fresh->unit, sizeof(fresh->unit), "%s", k->unit);
                HASH_ADD_STR(fresh->machine->states, unit, fresh);
                if (!TABLE_ADDED(fresh))
                        return part(c, fresh->of, fresh->machine);
                CLUSTER_LIST_INSERT(&fresh->of->states, fresh);
                s = TAKE_PTR(fresh);
        }

        unit_state_done(&s->state);
        s->state = *state;
        *state = (UnitState) {};
        s->index = modified;
        unit_changed(c, s->of);
        return 0;
}

/* -- Problems -- */

static void remove_problem(Cluster *c, ClusterMachine *m, ClusterProblem *p) {
        HASH_DEL(m->problems, p);
        problem_done(&p->problem);
        free(p);
        machine_changed(c, m);
}

static int put_problem(Cluster *c, const LayoutKey *k, Problem *record, uint64_t modified) {
        ClusterProblem *p = cluster_problem(c, k->machine, k->unit);

        if (!p) {
                _cleanup_free_ ClusterProblem *fresh = NEW0(ClusterProblem, 1);
                ClusterMachine *m = get_machine(c, k->machine);

                if (fresh && m) {
                        snprintf(fresh->unit, sizeof(fresh->unit), "%s", k->unit);
                        HASH_ADD_STR(m->problems, unit, fresh);
                }
                if (!fresh || !m || !TABLE_ADDED(fresh)) {
                        if (m)
                                machine_changed(c, m);
                        return -ENOMEM;
                }
                p = TAKE_PTR(fresh);
        }

        problem_done(&p->problem);
        p->problem = *record;
        *record = (Problem) {};
        p->index = modified;
        return 0;
}

/* -- Machines -- */

static ClusterMachine *set_facts(ClusterMachine *m, Machine *facts, uint64_t index) {
        if (m->facts)
                machine_done(m->facts);
        free(m->facts);
        m->facts = facts;
        m->facts_index = index;
        return m;
}

static int merge_metadata(ClusterMachine *m) {
        _cleanup_pairs_ Pairs merged = {};

        if (m->facts && pairs_copy(&m->facts->metadata, &merged) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < m->set.n; i++)
                if (pairs_set(&merged, m->set.items[i].key,
                              *m->set.items[i].value ? m->set.items[i].value : NULL) < 0)
                        return -ENOMEM;
        pairs_done(&m->metadata);
        m->metadata = merged;
        merged = (Pairs) {};
        return 0;
}

/* 'value' NULL: not set any more, so that the machine's own counts. No other key is looked at: one request
 * sets many of them. */
static int set_metadata(ClusterMachine *m, const char *key, const char *value) {
        const char *own = m->facts ? pairs_get(&m->facts->metadata, key) : NULL;
        int r;

        r = pairs_set(&m->set, key, value);
        if (r < 0)
                return r;
        if (!value)
                return pairs_set(&m->metadata, key, own);
        return pairs_set(&m->metadata, key, *value ? value : NULL);
}

static int read_metadata(const char *key, const char *bytes, size_t size,
                         char ret[static METADATA_VALUE_MAX + 1], Error *err) {
        if (size > METADATA_VALUE_MAX || memchr(bytes, 0, size))
                return error_set(err, -EBADMSG, "not a value of machine metadata");
        memcpy(ret, bytes, size);
        ret[size] = 0;
        return machine_metadata_check(key, ret, err);
}

static void set_presence(Cluster *c, ClusterMachine *m, const PresenceRecord *record, uint64_t index) {
        m->presence = record->presence;
        m->since_ms = record->since_ms;
        m->losses = record->losses;
        m->lost_ms = record->lost_ms;
        m->hold_off_until_ms = record->hold_off_until_ms;
        memcpy(m->presence_reason, record->reason, sizeof(m->presence_reason));
        m->presence_index = index;
        for (ClusterAssignment *o = m->assignments; o; o = o->hh.next)
                unit_changed(c, o->of);
}

/* Fills of *ret what the key is about. */
static int read_member(const char *json, size_t size, ClusterMachine *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const char *peer = "", *nonce = "", *client = "";
        uint64_t id = 0, start = 0, level = 0;
        int r;

        r = json_value_parse(json, size, &root, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "raftId", &id, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "start", &start, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "level", &level, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "nonce", &nonce, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "peer", &peer, err);
        if (r < 0)
                return r;
        r = json_read_string(root, "client", &client, err);
        if (r < 0)
                return r;
        if (id == 0 || strlen(peer) >= sizeof(ret->peer) || strlen(nonce) >= sizeof(ret->start_nonce))
                return error_set(err, -EBADMSG, "raftId is missing, or peer or nonce is too long");

        ret->raft_id = id;
        ret->start_number = start;
        ret->level = level;
        snprintf(ret->start_nonce, sizeof(ret->start_nonce), "%s", nonce);
        snprintf(ret->peer, sizeof(ret->peer), "%s", peer);
        if (strlen(client) < sizeof(ret->client))
                snprintf(ret->client, sizeof(ret->client), "%s", client);
        return 0;
}

/* -- A new lineage -- */

static int read_lineage(const char *value, size_t size, uint64_t *ret, Error *err) {
        char hex[LINEAGE_DIGITS + 1] = "";

        if (size == LINEAGE_DIGITS)
                memcpy(hex, value, size);
        if (parse_hex_id(hex, LINEAGE_DIGITS) < 0)
                return error_set(err, -EBADMSG, "expected a lineage of %d hex digits", LINEAGE_DIGITS);
        *ret = strtoull(hex, NULL, 16);
        return 0;
}

/* That the key is there is what counts. A time that nobody can read never comes: then only reports and people
 * end it. */
static void set_adopting(Cluster *c, const char *value, size_t size) {
        char digits[32] = "";

        if (size < sizeof(digits))
                memcpy(digits, value, size);
        c->adopting = true;
        c->adopting_since_ms = UINT64_MAX;
        (void) parse_u64(digits, &c->adopting_since_ms);
}

/* -- Keys that cannot be read -- */

static const bool is_about_unit[_LAYOUT_MAX] = {
        [LAYOUT_UNIT] = true,
        [LAYOUT_TARGET] = true,
        [LAYOUT_ASSIGNMENT] = true,
        [LAYOUT_STATE] = true,
};

static bool lacks(const ClusterUnreadables *list, LayoutKind kind) {
        for (const ClusterUnreadable *x = LIST_FIRST(list); x; x = LIST_NEXT(x, of_object))
                if (x->key.kind == kind)
                        return true;
        return false;
}

bool cluster_unit_has_unreadable(const ClusterUnit *u, LayoutKind kind) {
        return lacks(&u->unreadable, kind);
}

bool cluster_unit_exists(const ClusterUnit *u) {
        return u && (u->unit || cluster_unit_has_unreadable(u, LAYOUT_UNIT));
}

bool cluster_machine_has_unreadable(const ClusterMachine *m, LayoutKind kind) {
        return lacks(&m->unreadable, kind);
}

bool cluster_unit_is_unreadable(const ClusterUnit *u) {
        return !LIST_EMPTY(&u->unreadable);
}

bool cluster_machine_is_unreadable(const ClusterMachine *m) {
        return lacks(&m->unreadable, LAYOUT_FACTS) || lacks(&m->unreadable, LAYOUT_METADATA) ||
               lacks(&m->unreadable, LAYOUT_PRESENCE);
}

/* The list of the unit or machine that the key is about; NULL without that unit or machine. */
static ClusterUnreadables *unreadable_list(const Cluster *c, const LayoutKey *k) {
        ClusterUnit *u = is_about_unit[k->kind] ? cluster_any_unit(c, k->unit) : NULL;
        ClusterMachine *m = is_about_unit[k->kind] ? NULL : cluster_machine(c, k->machine);

        if (u)
                return &u->unreadable;
        return m ? &m->unreadable : NULL;
}

static ClusterUnreadable *find_unreadable(const Cluster *c, const LayoutKey *k) {
        ClusterUnreadables *list = unreadable_list(c, k);
        ClusterUnreadable *x = list ? LIST_FIRST(list) : NULL;

        while (x &&
               (x->key.kind != k->kind || !streq(x->key.unit, k->unit) || !streq(x->key.machine, k->machine)))
                x = LIST_NEXT(x, of_object);
        return x;
}

bool cluster_is_unreadable(const Cluster *c, const char *key, size_t key_size) {
        LayoutKey k;

        return layout_parse((KvBytes) { key, key_size }, &k) && find_unreadable(c, &k);
}

static void free_unreadable(ClusterUnreadable *x) {
        LIST_REMOVE(x, of_object);
        free(x);
}

static void forget_unreadable(const Cluster *c, const LayoutKey *k) {
        ClusterUnreadable *x = find_unreadable(c, k);

        if (x)
                free_unreadable(x);
}

static void free_all_unreadable(ClusterUnreadables *list) {
        while (!LIST_EMPTY(list))
                free_unreadable(LIST_FIRST(list));
}

/* Where absence would have a meaning, the cluster view gets what moves nothing: an order that holds its
 * place, and a machine that is away. */
static int stand_in(Cluster *c, const LayoutKey *k, uint64_t created, uint64_t modified) {
        Assignment order = { .kind = _ASSIGNMENT_INVALID, .since_ms = UINT64_MAX };

        if (k->kind == LAYOUT_ASSIGNMENT)
                return put_order(c, k, &order, created, modified);
        if (k->kind == LAYOUT_PRESENCE)
                set_presence(c, cluster_machine(c, k->machine),
                             &(PresenceRecord) { .presence = PRESENCE_AWAY, .reason = CLUSTER_UNREADABLE },
                             modified);
        return 0;
}

static int put_unreadable(Cluster *c, const LayoutKey *k, uint64_t created, uint64_t modified) {
        ClusterUnreadable *fresh = NEW0(ClusterUnreadable, 1);
        ClusterUnit *u = is_about_unit[k->kind] ? get_unit(c, k->unit) : NULL;
        ClusterMachine *m = is_about_unit[k->kind] ? NULL : get_machine(c, k->machine);

        if (!fresh || (!u && !m)) {
                free(fresh);
                return part(c, u, m);
        }
        fresh->key = *k;
        LIST_INSERT_HEAD(unreadable_list(c, k), fresh, of_object);
        return stand_in(c, k, created, modified);
}

/* -- Keys -- */

static int put(Cluster *c, const LayoutKey *k, const char *value, size_t size, uint64_t created,
               uint64_t modified, Error *err) {
        ClusterUnit *u;
        ClusterMachine *m;
        int r;

        switch (k->kind) {
        case LAYOUT_UNIT: {
                _cleanup_unit_ Unit *unit = NULL;

                r = stored_unit_read(k->unit, value, size, &unit, err);
                if (r < 0)
                        return r;
                u = get_unit(c, k->unit);
                if (!u)
                        return -ENOMEM;
                r = set_text(c, u, TAKE_PTR(unit));
                u->index = r < 0 ? 0 : modified;
                unit_changed(c, u);
                return r;
        }
        case LAYOUT_TARGET: {
                char word[16] = "";
                TargetState target;

                if (size < sizeof(word))
                        memcpy(word, value, size);
                target = target_state_from_string(word);
                if (target < 0)
                        return error_set(err, -EBADMSG, "not a target state: '%s'", word);
                u = get_unit(c, k->unit);
                if (!u)
                        return -ENOMEM;
                u->target = target;
                u->target_index = modified;
                unit_changed(c, u);
                return 0;
        }
        case LAYOUT_FACTS: {
                Machine *facts = NEW0(Machine, 1);

                r = facts ? stored_facts_read(k->machine, value, size, facts, err) : -ENOMEM;
                m = r < 0 ? NULL : get_machine(c, k->machine);
                if (!m) {
                        if (facts && r >= 0)
                                machine_done(facts);
                        free(facts);
                        return r < 0 ? r : -ENOMEM;
                }
                return merge_metadata(set_facts(m, facts, modified));
        }
        case LAYOUT_REPORTED: {
                uint64_t lineage = 0;

                r = read_lineage(value, size, &lineage, err);
                if (r < 0)
                        return r;
                m = get_machine(c, k->machine);
                if (!m)
                        return -ENOMEM;
                m->reported = lineage;
                return 0;
        }
        case LAYOUT_METADATA: {
                char text[METADATA_VALUE_MAX + 1];

                r = read_metadata(k->unit, value, size, text, err);
                if (r < 0)
                        return r;
                m = get_machine(c, k->machine);
                if (!m)
                        return -ENOMEM;
                r = set_metadata(m, k->unit, text);
                machine_changed(c, m);
                return r;
        }
        case LAYOUT_PRESENCE: {
                PresenceRecord record = {};

                r = stored_presence_read(value, size, &record, err);
                if (r < 0)
                        return r;
                m = get_machine(c, k->machine);
                if (!m)
                        return -ENOMEM;
                set_presence(c, m, &record, modified);
                return 0;
        }
        case LAYOUT_ASSIGNMENT: {
                _cleanup_assignment_ Assignment record = {};

                r = stored_assignment_read(value, size, &record, err);
                return r < 0 ? r : put_order(c, k, &record, created, modified);
        }
        case LAYOUT_PROBLEM: {
                _cleanup_problem_ Problem record = {};

                r = stored_problem_read(value, size, &record, err);
                return r < 0 ? r : put_problem(c, k, &record, modified);
        }
        case LAYOUT_STATE: {
                _cleanup_unit_state_ UnitState state = {};

                r = stored_state_read(value, size, &state, err);
                return r < 0 ? r : put_state(c, k, &state, modified);
        }
        case LAYOUT_MEMBER: {
                ClusterMachine said = {};

                r = read_member(value, size, &said, err);
                if (r < 0)
                        return r;
                m = get_machine(c, k->machine);
                if (!m)
                        return -ENOMEM;
                m->raft_id = said.raft_id;
                m->start_number = said.start_number;
                m->level = said.level;
                memcpy(m->start_nonce, said.start_nonce, sizeof(m->start_nonce));
                memcpy(m->peer, said.peer, sizeof(m->peer));
                memcpy(m->client, said.client, sizeof(m->client));
                return 0;
        }
        case LAYOUT_CLUSTER:
                if (streq(k->unit, CLUSTER_ADOPTING))
                        set_adopting(c, value, size);
                return 0;
        case _LAYOUT_MAX:
        case _LAYOUT_OTHER:
                break;
        }
        return 0;
}

/* -ENOMEM: what a machine's metadata are without that key cannot be put together. */
static int remove_key(Cluster *c, const LayoutKey *k) {
        ClusterUnit *u = cluster_any_unit(c, k->unit);
        ClusterMachine *m = cluster_machine(c, k->machine);
        ClusterAssignment *o;
        ClusterProblem *p;
        ClusterState *s;
        int r = 0;

        forget_unreadable(c, k);
        switch (k->kind) {
        case LAYOUT_UNIT:
                if (!u)
                        break;
                forget_text(c, u);
                u->index = 0;
                unit_changed(c, u);
                break;
        case LAYOUT_TARGET:
                if (!u)
                        break;
                u->target = TARGET_INACTIVE;
                u->target_index = 0;
                unit_changed(c, u);
                break;
        case LAYOUT_FACTS:
                if (!m)
                        break;
                r = merge_metadata(set_facts(m, NULL, 0));
                machine_changed(c, m);
                break;
        case LAYOUT_METADATA:
                if (!m)
                        break;
                r = set_metadata(m, k->unit, NULL);
                machine_changed(c, m);
                break;
        case LAYOUT_PRESENCE:
                if (!m)
                        break;
                set_presence(c, m, &(PresenceRecord) { .presence = PRESENCE_LOST }, 0);
                machine_changed(c, m);
                break;
        case LAYOUT_REPORTED:
                if (!m)
                        break;
                m->reported = 0;
                machine_changed(c, m);
                break;
        case LAYOUT_MEMBER:
                if (!m)
                        break;
                m->raft_id = 0;
                m->peer[0] = m->client[0] = 0;
                machine_changed(c, m);
                break;
        case LAYOUT_ASSIGNMENT:
                o = any_order(c, k->machine, k->unit);
                if (o)
                        remove_order(c, o);
                break;
        case LAYOUT_PROBLEM:
                p = cluster_problem(c, k->machine, k->unit);
                if (p)
                        remove_problem(c, m, p);
                else if (m)
                        machine_changed(c, m);
                break;
        case LAYOUT_STATE:
                s = cluster_state(c, k->machine, k->unit);
                if (s)
                        remove_state(c, s);
                else if (u)
                        unit_changed(c, u);
                break;
        case LAYOUT_CLUSTER:
                if (streq(k->unit, CLUSTER_ADOPTING))
                        c->adopting = false;
                break;
        case _LAYOUT_MAX:
        case _LAYOUT_OTHER:
                break;
        }
        return r;
}

int cluster_put(Cluster *c, const char *key, size_t key_size, const void *value, size_t value_size,
                uint64_t created, uint64_t modified, Error *err) {
        LayoutKey k;
        int r;

        if (modified > c->index)
                c->index = modified;
        if (!layout_parse((KvBytes) { key, key_size }, &k))
                return 0;

        r = put(c, &k, value, value_size, created, modified, err);
        if (r >= 0)
                forget_unreadable(c, &k);
        if (r >= 0 || r == -ENOMEM)
                return r;

        /* Neither the value that was replaced counts, nor is the key absent. */
        if (remove_key(c, &k) < 0 || put_unreadable(c, &k, created, modified) < 0)
                return -ENOMEM;
        return error_prefix(err, -EBADMSG, "%.*s", (int) key_size, key);
}

/* All keys of the picture that are below a directory; directories are only ever removed whole by hand or by
 * `leave`, so looking through everything is good enough. */
static int remove_below(Cluster *c, KvBytes dir) {
        typedef struct Victim {
                char key[LAYOUT_KEY_MAX];
        } Victim;
        _cleanup_free_ Victim *victims = NULL;
        size_t n = 0, capacity = 0;
        char key[LAYOUT_KEY_MAX];

#define CONSIDER(kind, unit, machine)                                                               \
        do {                                                                                        \
                if (kv_path_is_below(kv_string(layout_key(key, (kind), (unit), (machine))), dir)) { \
                        if (GROW(victims, capacity, n + 1) < 0)                                     \
                                return -ENOMEM;                                                     \
                        memcpy(victims[n++].key, key, sizeof(key));                                 \
                }                                                                                   \
        } while (0)

        for (ClusterUnit *u = c->units; u; u = u->hh.next) {
                if (u->unit)
                        CONSIDER(LAYOUT_UNIT, u->name, NULL);
                if (u->target_index > 0)
                        CONSIDER(LAYOUT_TARGET, u->name, NULL);
                for (const ClusterUnreadable *x = LIST_FIRST(&u->unreadable); x; x = LIST_NEXT(x, of_object))
                        CONSIDER(x->key.kind, x->key.unit, x->key.machine);
        }
        for (ClusterMachine *m = c->machines; m; m = m->hh.next) {
                if (m->facts)
                        CONSIDER(LAYOUT_FACTS, NULL, m->id);
                for (size_t i = 0; i < m->set.n; i++)
                        CONSIDER(LAYOUT_METADATA, m->set.items[i].key, m->id);
                if (m->presence_index > 0)
                        CONSIDER(LAYOUT_PRESENCE, NULL, m->id);
                if (m->raft_id > 0)
                        CONSIDER(LAYOUT_MEMBER, NULL, m->id);
                if (m->reported != 0)
                        CONSIDER(LAYOUT_REPORTED, NULL, m->id);
                for (ClusterAssignment *o = m->assignments; o; o = o->hh.next)
                        CONSIDER(LAYOUT_ASSIGNMENT, o->unit, m->id);
                for (ClusterState *s = m->states; s; s = s->hh.next)
                        CONSIDER(LAYOUT_STATE, s->unit, m->id);
                for (ClusterProblem *p = m->problems; p; p = p->hh.next)
                        CONSIDER(LAYOUT_PROBLEM, p->unit, m->id);
                for (const ClusterUnreadable *x = LIST_FIRST(&m->unreadable); x; x = LIST_NEXT(x, of_object))
                        CONSIDER(x->key.kind, x->key.unit, x->key.machine);
        }
        if (c->adopting)
                CONSIDER(LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL);
#undef CONSIDER

        for (size_t i = 0; i < n; i++) {
                LayoutKey k;

                if (layout_parse(kv_string(victims[i].key), &k) && remove_key(c, &k) < 0)
                        return -ENOMEM;
        }
        return 0;
}

int cluster_remove(Cluster *c, const char *key, size_t key_size) {
        LayoutKey k;

        if (!layout_parse((KvBytes) { key, key_size }, &k))
                return remove_below(c, (KvBytes) { key, key_size });
        return remove_key(c, &k);
}

/* What a machine has, then the machine; returns how much it was. */
static size_t free_machine(Cluster *c, ClusterMachine *m) {
        size_t n = 1 + HASH_COUNT(m->assignments) + HASH_COUNT(m->states) + HASH_COUNT(m->problems);
        ClusterProblem *p, *next_p;
        ClusterAssignment *o, *next_o;
        ClusterState *s, *next_s;

        HASH_ITER(hh, m->assignments, o, next_o) {
                HASH_DEL(m->assignments, o);
                free(o->reason);
                free(o);
        }
        HASH_ITER(hh, m->states, s, next_s) {
                HASH_DEL(m->states, s);
                unit_state_done(&s->state);
                free(s);
        }
        HASH_ITER(hh, m->problems, p, next_p) {
                HASH_DEL(m->problems, p);
                problem_done(&p->problem);
                free(p);
        }
        HASH_DEL(c->machines, m);
        set_facts(m, NULL, 0);
        pairs_done(&m->set);
        pairs_done(&m->metadata);
        free_all_unreadable(&m->unreadable);
        free(m);
        return n;
}

/* Its rules are filed no more. Returns how much it was: a text may have thousands of options. */
static size_t free_unit(Cluster *c, ClusterUnit *u) {
        size_t n = 1 + (u->unit ? u->unit->file.n_options / 8 : 0);

        HASH_DEL(c->units, u);
        unit_free(u->unit);
        free_all_unreadable(&u->unreadable);
        free(u);
        return n;
}

/* The rules go first, whole patterns at a time: the units of one would be searched for each of them. */
bool cluster_drain(Cluster *c, size_t n) {
        size_t freed = 0;

        while (c->machines && freed < n)
                freed += free_machine(c, c->machines);
        for (ClusterRule rule = 0; rule < _CLUSTER_RULE_MAX && freed < n; rule++)
                freed += patterns_drain(&c->rules[rule], n - freed);
        while (c->units && freed < n)
                freed += free_unit(c, c->units);
        if (c->machines || c->units)
                return false;
        free(c->by_name);
        *c = (Cluster) {};
        return true;
}

void cluster_done(Cluster *c) {
        (void) cluster_drain(c, SIZE_MAX);
}
