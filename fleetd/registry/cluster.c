/* The cluster view: a table of units, a table of machines, and the assignments and states between them, kept
 * consistent key by key. An entry of either table exists while a key is about it. */
#include "fleetd/registry/cluster.h"

#include <stdio.h>

#include "fleetd/registry/cluster_internal.h"
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/layout.h"

/* -- Entries -- */

/* Return the place of the first unit in Cluster.by_name whose name does not sort before these bytes. */
static size_t cluster_name_place(const Cluster *c, const char *bytes, size_t size) {
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
        size_t first = cluster_name_place(c, start, size), low = first, high = HASH_COUNT(c->units);

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

static void cluster_drop_unit(Cluster *c, ClusterUnit *u) {
        size_t at = cluster_name_place(c, u->name, sizeof(u->name));

        memmove(&c->by_name[at], &c->by_name[at + 1], (HASH_COUNT(c->units) - at - 1) * sizeof(*c->by_name));
        HASH_DEL(c->units, u);
        free(u);
}

static ClusterUnit *cluster_get_unit(Cluster *c, const char *name) {
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
        at = cluster_name_place(c, fresh->name, sizeof(fresh->name));
        HASH_ADD_STR(c->units, name, fresh);
        if (!TABLE_ADDED(fresh))
                return NULL;
        memmove(&c->by_name[at + 1], &c->by_name[at], (HASH_COUNT(c->units) - 1 - at) * sizeof(*c->by_name));
        c->by_name[at] = fresh;
        return TAKE_PTR(fresh);
}

static ClusterMachine *cluster_get_machine(Cluster *c, const char *id) {
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

/* -- Rules -- */

void cluster_clear_text(Cluster *c, ClusterUnit *u) {
        for (ClusterRule rule = 0; u->unit && rule < _CLUSTER_RULE_MAX; rule++) {
                const Names *names = cluster_rule(&u->unit->placement, rule);

                for (size_t i = 0; i < names->n; i++)
                        c->filed.bytes += sizeof(u) * patterns_remove(&c->rules[rule], names->items[i], u);
                c->filed.nodes += names->n;
        }
        u->unit = unit_free(u->unit);
}

int cluster_set_text(Cluster *c, ClusterUnit *u, Unit *unit) {
        cluster_clear_text(c, u);
        u->unit = unit;
        for (ClusterRule rule = 0; rule < _CLUSTER_RULE_MAX; rule++) {
                const Names *names = cluster_rule(&unit->placement, rule);

                c->filed.nodes += names->n;
                for (size_t i = 0; i < names->n; i++)
                        if (patterns_add(&c->rules[rule], names->items[i], u) < 0) {
                                cluster_clear_text(c, u);
                                return -ENOMEM;
                        }
        }
        return 0;
}

/* -- Updates -- */

static bool cluster_unit_is_waiting(const ClusterUnit *u) {
        if (!u->unit || u->target == TARGET_INACTIVE || u->unit->placement.global)
                return false;
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o) && o->machine->presence == PRESENCE_UP &&
                    !cluster_has_conflicting_unit(u, o->machine))
                        return false;
        return true;
}

static int cluster_stop_at_first(void *userdata, LayoutKind kind, const char *unit, const char *machine) {
        return 1;
}

void cluster_update_unit(Cluster *c, ClusterUnit *u) {
        const Placement *p = u->unit ? &u->unit->placement : NULL;

        cluster_list_set(c, CLUSTER_WAITING, u, cluster_unit_is_waiting(u));
        cluster_list_set(c, CLUSTER_GLOBAL, u, p && p->global);
        cluster_list_set(c, CLUSTER_RELATED, u,
                         p && (p->machine_of.n > 0 || p->conflicts.n > 0 || p->replaces.n > 0));
        cluster_list_set(c, CLUSTER_REPLACING, u, p && p->replaces.n > 0);

        if (kinds_each(c, &(KindEntries) { .unit = u }, cluster_stop_at_first, NULL) == 0)
                cluster_drop_unit(c, u);
}

/* Drop the entry of a machine after its last key. */
static void cluster_update_machine(Cluster *c, ClusterMachine *m) {
        if (m->assignments || m->states ||
            kinds_each(c, &(KindEntries) { .machine = m }, cluster_stop_at_first, NULL) != 0)
                return;

        HASH_DEL(c->machines, m);
        pairs_done(&m->set);
        pairs_done(&m->metadata);
        free(m);
}

/* -- Parts of entries -- */

void cluster_assignment_free(ClusterAssignment *a) {
        ClusterMachine *m = a->machine;

        m->load -= cluster_assignment_is_active(a);
        m->n_replacing -= a->of->listed[CLUSTER_REPLACING];
        HASH_DEL(m->assignments, a);
        LIST_REMOVE(a, of_unit);
        free(a->reason);
        free(a);
}

void cluster_state_free(ClusterState *s) {
        HASH_DEL(s->machine->states, s);
        LIST_REMOVE(s, of_unit);
        unit_state_done(&s->state);
        free(s);
}

void cluster_problem_free(ClusterMachine *m, ClusterProblem *p) {
        HASH_DEL(m->problems, p);
        problem_done(&p->problem);
        free(p);
}

void cluster_facts_free(Machine *facts) {
        if (facts)
                machine_done(facts);
        free(facts);
}

void cluster_set_facts(ClusterMachine *m, Machine *facts, uint64_t index) {
        cluster_facts_free(m->facts);
        m->facts = facts;
        m->facts_index = index;
}

/* -- Keys -- */

static KindEntries cluster_find_entries(const Cluster *c, const LayoutKey *k) {
        return (KindEntries) {
                .unit = (kinds[k->kind].of & OF_UNIT) ? cluster_any_unit(c, k->unit) : NULL,
                .machine = (kinds[k->kind].of & OF_MACHINE) ? cluster_machine(c, k->machine) : NULL,
        };
}

static bool cluster_has_entries(const KindEntries *e, LayoutKind kind) {
        return (e->unit || !(kinds[kind].of & OF_UNIT)) && (e->machine || !(kinds[kind].of & OF_MACHINE));
}

static void cluster_update_entries(Cluster *c, const KindEntries *e) {
        if (e->unit)
                cluster_update_unit(c, e->unit);
        if (e->machine)
                cluster_update_machine(c, e->machine);
}

/* Find or create the entries that the key is about; NULL without memory. Each caller ends with
 * cluster_update_entries(). */
static KindEntries cluster_get_entries(Cluster *c, const LayoutKey *k) {
        return (KindEntries) {
                .unit = (kinds[k->kind].of & OF_UNIT) ? cluster_get_unit(c, k->unit) : NULL,
                .machine = (kinds[k->kind].of & OF_MACHINE) ? cluster_get_machine(c, k->machine) : NULL,
        };
}

/* Return the list of the key's owner; NULL without that entry. */
static ClusterUnreadables *cluster_unreadables(const KindEntries *e, LayoutKind kind) {
        if (kinds[kind].of & OF_UNIT)
                return e->unit ? &e->unit->unreadable : NULL;
        return e->machine ? &e->machine->unreadable : NULL;
}

static ClusterUnreadable *cluster_find_unreadable(const Cluster *c, const LayoutKey *k) {
        KindEntries e = cluster_find_entries(c, k);
        ClusterUnreadables *list = cluster_unreadables(&e, k->kind);
        ClusterUnreadable *x = list ? LIST_FIRST(list) : NULL;

        while (x &&
               (x->key.kind != k->kind || !streq(x->key.unit, k->unit) || !streq(x->key.machine, k->machine)))
                x = LIST_NEXT(x, of_owner);
        return x;
}

static void cluster_unreadable_free(ClusterUnreadable *x) {
        if (!x)
                return;
        LIST_REMOVE(x, of_owner);
        free(x);
}

bool cluster_is_unreadable(const Cluster *c, const char *key, size_t key_size) {
        LayoutKey k;

        return layout_parse((KvBytes) { key, key_size }, &k) && cluster_find_unreadable(c, &k);
}

/* Apply a value to its entries. On success, the key is readable. */
static int cluster_apply_to(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        int r = cluster_has_entries(e, k->kind) ? kinds[k->kind].apply(c, e, k, v) : -ENOMEM;

        if (r < 0)
                return r;
        cluster_unreadable_free(cluster_find_unreadable(c, k));
        return 0;
}

static int cluster_apply(Cluster *c, const LayoutKey *k, KindValue *v) {
        KindEntries e = cluster_get_entries(c, k);
        int r = cluster_apply_to(c, &e, k, v);

        cluster_update_entries(c, &e);
        return r;
}

/* -ENOMEM: without this key, the metadata of a machine cannot be merged. */
static int cluster_clear(Cluster *c, const LayoutKey *k) {
        KindEntries e = cluster_find_entries(c, k);
        int r = 0;

        cluster_unreadable_free(cluster_find_unreadable(c, k));
        if (cluster_has_entries(&e, k->kind))
                r = kinds[k->kind].clear(c, &e, k);
        cluster_update_entries(c, &e);
        return r;
}

static int cluster_add_unreadable(Cluster *c, const KindEntries *e, const LayoutKey *k, uint64_t created,
                                  uint64_t modified) {
        KindValue v = { .created = created, .modified = modified };
        ClusterUnreadable *x = cluster_has_entries(e, k->kind) ? NEW0(ClusterUnreadable, 1) : NULL;

        if (!x)
                return -ENOMEM;
        x->key = *k;
        LIST_INSERT_HEAD(cluster_unreadables(e, k->kind), x, of_owner);
        if (!kinds[k->kind].unreadable)
                return 0;
        kinds[k->kind].unreadable(&v);
        return kinds[k->kind].apply(c, e, k, &v);
}

/* Record that the key exists and its value is not known. Neither the previous value counts, nor its absence.
 */
static int cluster_put_unreadable(Cluster *c, const LayoutKey *k, uint64_t created, uint64_t modified) {
        KindEntries e;
        int r;

        r = cluster_clear(c, k);
        if (r < 0)
                return r;

        e = cluster_get_entries(c, k);
        r = cluster_add_unreadable(c, &e, k, created, modified);
        cluster_update_entries(c, &e);
        return r;
}

int cluster_put(Cluster *c, const char *key, size_t key_size, const void *value, size_t value_size,
                uint64_t created, uint64_t modified, Error *err) {
        KindValue v = { .created = created, .modified = modified };
        LayoutKey k;
        int r;

        if (modified > c->index)
                c->index = modified;
        if (!layout_parse((KvBytes) { key, key_size }, &k))
                return 0;

        r = kinds[k.kind].decode(&k, (KvBytes) { value, value_size }, &v, err);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                r = cluster_put_unreadable(c, &k, created, modified);
                return r < 0 ? r : error_prefix(err, -EBADMSG, "%.*s", (int) key_size, key);
        }

        r = cluster_apply(c, &k, &v);
        if (kinds[k.kind].done)
                kinds[k.kind].done(&v);
        return r;
}

/* The keys of the view that are below a directory. */
typedef struct ClusterBelow {
        KvBytes dir;
        LayoutKey *keys;
        size_t n, capacity;
} ClusterBelow;

static int cluster_add_below(void *userdata, LayoutKind kind, const char *unit, const char *machine) {
        ClusterBelow *below = userdata;
        char key[LAYOUT_KEY_MAX];

        if (!kv_path_is_below(kv_string(layout_key(key, kind, unit, machine)), below->dir))
                return 0;
        if (GROW(below->keys, below->capacity, below->n + 1) < 0)
                return -ENOMEM;
        if (layout_parse(kv_string(key), &below->keys[below->n]))
                below->n++;
        return 0;
}

static int cluster_find_below(const Cluster *c, ClusterBelow *below) {
        int r;

        for (ClusterUnit *u = c->units; u; u = u->hh.next) {
                r = kinds_each(c, &(KindEntries) { .unit = u }, cluster_add_below, below);
                if (r < 0)
                        return r;
        }
        for (ClusterMachine *m = c->machines; m; m = m->hh.next) {
                r = kinds_each(c, &(KindEntries) { .machine = m }, cluster_add_below, below);
                if (r < 0)
                        return r;
        }
        return kinds_each(c, &(KindEntries) {}, cluster_add_below, below);
}

/* Only people and `leave` remove a directory, so that a search of the whole view is good enough. */
static int cluster_remove_below(Cluster *c, KvBytes dir) {
        ClusterBelow below = { .dir = dir };
        int r;

        r = cluster_find_below(c, &below);
        for (size_t i = 0; r >= 0 && i < below.n; i++)
                r = cluster_clear(c, &below.keys[i]);
        free(below.keys);
        return r;
}

int cluster_remove(Cluster *c, const char *key, size_t key_size) {
        LayoutKey k;

        if (!layout_parse((KvBytes) { key, key_size }, &k))
                return cluster_remove_below(c, (KvBytes) { key, key_size });
        return cluster_clear(c, &k);
}

/* -- Release -- */

static void cluster_unreadables_free(ClusterUnreadables *list) {
        while (!LIST_EMPTY(list))
                cluster_unreadable_free(LIST_FIRST(list));
}

/* Free a machine and its parts. Return how many there were. */
static size_t cluster_machine_free(Cluster *c, ClusterMachine *m) {
        size_t n = 1 + HASH_COUNT(m->assignments) + HASH_COUNT(m->states) + HASH_COUNT(m->problems);

        while (m->assignments)
                cluster_assignment_free(m->assignments);
        while (m->states)
                cluster_state_free(m->states);
        while (m->problems)
                cluster_problem_free(m, m->problems);
        HASH_DEL(c->machines, m);
        cluster_facts_free(m->facts);
        pairs_done(&m->set);
        pairs_done(&m->metadata);
        cluster_unreadables_free(&m->unreadable);
        free(m);
        return n;
}

/* Free a unit whose rules are no longer filed. Return the work: a text may have thousands of options. */
static size_t cluster_unit_free(Cluster *c, ClusterUnit *u) {
        size_t n = 1 + (u->unit ? u->unit->file.n_options / 8 : 0);

        HASH_DEL(c->units, u);
        unit_free(u->unit);
        cluster_unreadables_free(&u->unreadable);
        free(u);
        return n;
}

/* The rules are freed first, whole patterns at a time: for each unit of a pattern, the pattern would be
 * searched. */
bool cluster_drain(Cluster *c, size_t n) {
        size_t freed = 0;

        while (c->machines && freed < n)
                freed += cluster_machine_free(c, c->machines);
        for (ClusterRule rule = 0; rule < _CLUSTER_RULE_MAX && freed < n; rule++)
                freed += patterns_drain(&c->rules[rule], n - freed);
        while (c->units && freed < n)
                freed += cluster_unit_free(c, c->units);
        if (c->machines || c->units)
                return false;
        free(c->by_name);
        *c = (Cluster) {};
        return true;
}

void cluster_done(Cluster *c) {
        (void) cluster_drain(c, SIZE_MAX);
}
