/* A table of units, a table of machines, and the assignments and states between them, kept consistent key by
 * key. An entry of either table exists while a key is about it. */
#include "fleetd/registry/cluster_keys.h"

#include "fleetd/registry/cluster_parts.h"
#include "fleetd/registry/unit_order.h"

/* -- Entries -- */

static void cluster_unreadable_free(ClusterUnreadable *x) {
        if (!x)
                return;
        LIST_REMOVE(x, of_owner);
        free(x);
}

static void cluster_unreadables_free(ClusterUnreadables *list) {
        while (!LIST_EMPTY(list))
                cluster_unreadable_free(LIST_FIRST(list));
}

/* Free a unit whose rules are no longer filed. Return the work: a text may have thousands of options. */
static size_t cluster_unit_free(Cluster *c, ClusterUnit *u) {
        size_t n = 1 + (u->unit ? u->unit->file.n_options / 8 : 0);

        HASH_DEL(c->units, u);
        cluster_owner_remove(c, u);
        cluster_revisions_free(u);
        kinds_done_unit(u);
        unit_free(u->unit);
        cluster_unreadables_free(&u->unreadable);
        free(u);
        return n;
}

/* Return whether 'm' has what both state rather than 'other'. */
static bool claim_precedes(const ClusterMachine *m, const ClusterMachine *other) {
        if (cluster_machine_is_restricted(m) != cluster_machine_is_restricted(other))
                return cluster_machine_is_restricted(other);
        return m->facts_created < other->facts_created;
}

static void claim_choose(Cluster *c, ClusterClaim *claim, ClusterClaimKind kind) {
        ClusterMachine *m;

        claim->first = NULL;
        for (m = c->draining ? NULL : LIST_FIRST(&claim->machines); m; m = LIST_NEXT(m, of_claim[kind])) {
                c->filed.nodes++;
                if (!claim->first || claim_precedes(m, claim->first))
                        claim->first = m;
        }
}

static void cluster_claim_remove(Cluster *c, ClusterMachine *m, ClusterClaimKind kind) {
        ClusterClaim *former = m->claims[kind];

        m->claims[kind] = NULL;
        if (!former)
                return;
        LIST_REMOVE(m, of_claim[kind]);
        if (--former->n == 0) {
                HASH_DEL(c->claims[kind], former);
                free(former);
        } else if (former->first == m)
                claim_choose(c, former, kind);
}

static ClusterClaim *cluster_claim_get(Cluster *c, ClusterClaimKind kind, const char *text) {
        ClusterClaim *claim = TABLE_FIND(c->claims[kind], text);

        if (claim)
                return claim;
        claim = (ClusterClaim *) NEW0(char, sizeof(*claim) + strlen(text) + 1);
        if (!claim)
                return NULL;
        memcpy(claim->text, text, strlen(text) + 1);
        HASH_ADD_KEYPTR(hh, c->claims[kind], claim->text, strlen(text), claim);
        return TABLE_ADDED_OR_FREED(claim) ? claim : NULL;
}

/* Count the machine with what it states now. Without memory it is not counted: the label of an ordinary host
 * is searched, and the statement of a restricted one does not count. */
static void cluster_claim_update(Cluster *c, ClusterMachine *m, ClusterClaimKind kind, bool reranked) {
        const char *text = cluster_machine_claim(m, kind);
        ClusterClaim *claim;

        if (!m->claims[kind] || !text || !streq(m->claims[kind]->text, text)) {
                cluster_claim_remove(c, m, kind);
                m->claims[kind] = text ? cluster_claim_get(c, kind, text) : NULL;
                if (m->claims[kind]) {
                        m->claims[kind]->n++;
                        LIST_INSERT_HEAD(&m->claims[kind]->machines, m, of_claim[kind]);
                }
        }
        claim = m->claims[kind];
        if (!claim)
                return;
        if (!claim->first || claim_precedes(m, claim->first))
                claim->first = m;
        else if (claim->first == m && claim->n > 1 && reranked && m->claimed_restricted)
                claim_choose(c, claim, kind);
}

/* What a machine states has to be compared with others only if its rank among them has changed: a host writes
 * other keys of its own as often as it likes. */
static void cluster_claims_update(Cluster *c, ClusterMachine *m) {
        bool restricted = cluster_machine_is_restricted(m),
             reranked = m->claimed_restricted != restricted || m->claimed_created != m->facts_created;

        m->claimed_restricted = restricted;
        m->claimed_created = m->facts_created;
        for (ClusterClaimKind kind = 0; kind < _CLAIM_MAX; kind++)
                cluster_claim_update(c, m, kind, reranked);
}

static void cluster_count_as(Cluster *c, ClusterMachine *m, unsigned now) {
        for (MachineCount i = 0; now != m->counted && i < _MACHINES_MAX; i++)
                c->counts[i] += (size_t) (now >> i & 1) - (m->counted >> i & 1);
        m->counted = (uint16_t) now;
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
        cluster_count_as(c, m, 0);
        for (ClusterClaimKind kind = 0; kind < _CLAIM_MAX; kind++)
                cluster_claim_remove(c, m, kind);
        if (m->is_member)
                LIST_REMOVE(m, of_members);
        pairs_done(&m->set);
        pairs_done(&m->metadata);
        cluster_unreadables_free(&m->unreadable);
        kinds_done_machine(m);
        free(m);
        return n;
}

static void cluster_drop_unit(Cluster *c, ClusterUnit *u) {
        unit_order_remove(&c->by_name, u);
        (void) cluster_unit_free(c, u);
}

static ClusterUnit *cluster_get_unit(Cluster *c, const char *name) {
        _cleanup_free_ ClusterUnit *fresh = NULL;
        ClusterUnit *u = cluster_any_unit(c, name);

        if (u)
                return u;

        fresh = NEW0(ClusterUnit, 1);
        if (!fresh)
                return NULL;
        snprintf(fresh->name, sizeof(fresh->name), "%s", name);
        HASH_ADD_STR(c->units, name, fresh);
        if (!TABLE_ADDED(fresh))
                return NULL;
        if (unit_order_add(&c->by_name, fresh) < 0) {
                HASH_DEL(c->units, fresh);
                return NULL;
        }
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
        snprintf(fresh->short_id, sizeof(fresh->short_id), "%s", id);
        fresh->presence = PRESENCE_LOST;
        HASH_ADD_STR(c->machines, id, fresh);
        return TABLE_ADDED(fresh) ? TAKE_PTR(fresh) : NULL;
}

static int cluster_stop_at_first(void *userdata, LayoutKind kind, const char *unit, const char *machine) {
        return 1;
}

static void cluster_count_machine(Cluster *c, ClusterMachine *m) {
        bool present = m->presence_index > 0 && m->presence != PRESENCE_LEFT;
        unsigned now = (cluster_machine_is_removed(m) ? 0 : 1u << (MACHINES_BY_PRESENCE + m->presence)) |
                       (m->verdict.of == VERDICT_OF_SESSIONS ? 1u << MACHINES_SINGLE : 0) |
                       (present ? 1u << MACHINES_PRESENT : 0) |
                       (present && m->presence == PRESENCE_LOST ? 1u << MACHINES_LOST : 0) |
                       (m->hold_off_until_ms > 0 ? 1u << MACHINES_HELD_OFF : 0) |
                       (m->maintenance ? 1u << MACHINES_MAINTAINED : 0) |
                       (m->reboot && m->reboot->state != REBOOT_FAILED ? 1u << MACHINES_TO_REBOOT : 0) |
                       (cluster_machine_is_removed(m) ? 1u << MACHINES_REMOVED : 0) |
                       (LIST_EMPTY(&m->unreadable) ? 0 : 1u << MACHINES_UNREADABLE) |
                       (cluster_machine_is_restricted(m) ? 1u << MACHINES_RESTRICTED : 0);

        static_assert(_MACHINES_MAX <= 8 * sizeof(m->counted), "each has a bit");
        cluster_count_as(c, m, now);
}

/* Bring the entries up to date after any change, and drop each after its last key. */
static void cluster_update_entries(Cluster *c, const KindEntries *e) {
        if (e->unit) {
                cluster_update_lists(c, e->unit);
                if (kinds_each(c, &(KindEntries) { .unit = e->unit }, cluster_stop_at_first, NULL) == 0)
                        cluster_drop_unit(c, e->unit);
        }
        if (e->machine) {
                cluster_claims_update(c, e->machine);
                cluster_count_machine(c, e->machine);
        }
        if (e->machine && !e->machine->assignments && !e->machine->states &&
            kinds_each(c, &(KindEntries) { .machine = e->machine }, cluster_stop_at_first, NULL) == 0)
                (void) cluster_machine_free(c, e->machine);
}

/* -- Keys -- */

static KindEntries cluster_find_entries(const Cluster *c, const LayoutKey *k) {
        return (KindEntries) {
                .unit = (kinds[k->kind]->of & OF_UNIT) ? cluster_any_unit(c, k->unit) : NULL,
                .machine = (kinds[k->kind]->of & OF_MACHINE) ? cluster_machine(c, k->machine) : NULL,
        };
}

static bool cluster_has_entries(const KindEntries *e, LayoutKind kind) {
        return (e->unit || !(kinds[kind]->of & OF_UNIT)) && (e->machine || !(kinds[kind]->of & OF_MACHINE));
}

/* Find or create the entries that the key is about; NULL without memory. Each caller ends with
 * cluster_update_entries(). */
static KindEntries cluster_get_entries(Cluster *c, const LayoutKey *k) {
        return (KindEntries) {
                .unit = (kinds[k->kind]->of & OF_UNIT) ? cluster_get_unit(c, k->unit) : NULL,
                .machine = (kinds[k->kind]->of & OF_MACHINE) ? cluster_get_machine(c, k->machine) : NULL,
        };
}

/* Return the list of the key's owner; NULL without that entry. */
static ClusterUnreadables *cluster_unreadables(const Cluster *c, const KindEntries *e, LayoutKind kind) {
        if (kinds[kind]->of & OF_UNIT)
                return e->unit ? &e->unit->unreadable : NULL;
        if (kinds[kind]->of & OF_MACHINE)
                return e->machine ? &e->machine->unreadable : NULL;
        return (ClusterUnreadables *) &c->unreadable;
}

static ClusterUnreadable *cluster_find_unreadable(const Cluster *c, const KindEntries *e,
                                                  const LayoutKey *k) {
        const ClusterUnreadables *list = cluster_unreadables(c, e, k->kind);
        ClusterUnreadable *x = list ? LIST_FIRST(list) : NULL;

        while (x &&
               (x->key.kind != k->kind || !streq(x->key.unit, k->unit) || !streq(x->key.machine, k->machine)))
                x = LIST_NEXT(x, of_owner);
        return x;
}

bool cluster_is_unreadable(const Cluster *c, KvBytes key) {
        KindEntries e;
        LayoutKey k;

        if (!layout_parse(key, &k))
                return false;
        e = cluster_find_entries(c, &k);
        return cluster_find_unreadable(c, &e, &k);
}

/* Apply a value to its entries. On success, the key is readable. */
static int cluster_apply(Cluster *c, const LayoutKey *k, KindValue *v) {
        KindEntries e = cluster_get_entries(c, k);
        int r = cluster_has_entries(&e, k->kind) ? kind_apply(c, &e, k, v) : -ENOMEM;

        if (r >= 0)
                cluster_unreadable_free(cluster_find_unreadable(c, &e, k));
        cluster_update_entries(c, &e);
        return r;
}

/* -ENOMEM: without this key, the metadata of a machine cannot be merged. */
static int cluster_clear(Cluster *c, const LayoutKey *k) {
        KindEntries e = cluster_find_entries(c, k);
        int r = 0;

        cluster_unreadable_free(cluster_find_unreadable(c, &e, k));
        if (cluster_has_entries(&e, k->kind))
                r = kind_clear(c, &e, k);
        cluster_update_entries(c, &e);
        return r;
}

static int cluster_add_unreadable(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterUnreadable *x = cluster_has_entries(e, k->kind) ? NEW0(ClusterUnreadable, 1) : NULL;

        if (!x)
                return -ENOMEM;
        x->key = *k;
        LIST_INSERT_HEAD(cluster_unreadables(c, e, k->kind), x, of_owner);
        return kind_apply_unreadable(c, e, k, v);
}

/* Record that the key exists and its value is not known. Neither the previous value counts, nor its absence.
 */
static int cluster_put_unreadable(Cluster *c, const LayoutKey *k, KindValue *v) {
        KindEntries e;
        int r;

        TRY(cluster_clear(c, k));

        e = cluster_get_entries(c, k);
        r = cluster_add_unreadable(c, &e, k, v);
        cluster_update_entries(c, &e);
        return r;
}

int cluster_put(Cluster *c, const KvNode *node, Error *err) {
        _cleanup_(kind_value_done) KindValue v = { .created = node->created, .modified = node->modified };
        LayoutKey k;
        int r;

        c->index = MAX(c->index, node->modified);
        if (!layout_parse(node->key, &k))
                return 0;

        r = kind_decode(&k, node->value, &v, err);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                r = cluster_put_unreadable(c, &k, &v);
                return r < 0 ? r :
                               error_prefix(err, -EBADMSG, "%.*s", (int) node->key.size,
                                            (const char *) node->key.data);
        }

        return cluster_apply(c, &k, &v);
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
        TRY(GROW(below->keys, below->capacity, below->n + 1));
        if (layout_parse(kv_string(key), &below->keys[below->n]))
                below->n++;
        return 0;
}

/* Only people and `leave` remove a directory, so that a search of the whole view is good enough. */
static int cluster_remove_below(Cluster *c, KvBytes dir) {
        ClusterBelow below = { .dir = dir };
        int r;

        r = kinds_each(c, &(KindEntries) {}, cluster_add_below, &below);
        for (ClusterUnit *u = c->units; u && r >= 0; u = u->hh.next)
                r = kinds_each(c, &(KindEntries) { .unit = u }, cluster_add_below, &below);
        for (ClusterMachine *m = c->machines; m && r >= 0; m = m->hh.next)
                r = kinds_each(c, &(KindEntries) { .machine = m }, cluster_add_below, &below);
        for (size_t i = 0; r >= 0 && i < below.n; i++)
                r = cluster_clear(c, &below.keys[i]);
        free(below.keys);
        return r;
}

int cluster_remove(Cluster *c, KvBytes key) {
        LayoutKey k;

        return layout_parse(key, &k) ? cluster_clear(c, &k) : cluster_remove_below(c, key);
}

/* -- Release -- */

/* The rules are freed first, whole patterns at a time: for each unit of a pattern, the pattern would be
 * searched. */
bool cluster_drain(Cluster *c, size_t n) {
        size_t freed = 0;

        c->draining = true;
        while (c->machines && freed < n)
                freed += cluster_machine_free(c, c->machines);
        for (ClusterRule rule = 0; rule < _CLUSTER_RULE_MAX && freed < n; rule++)
                freed += patterns_drain(&c->rules[rule], n - freed);
        while (c->units && freed < n)
                freed += cluster_unit_free(c, c->units);
        if (freed < n)
                freed += cluster_endpoints_free(c, n - freed);
        if (c->machines || c->units || c->servers)
                return false;
        unit_order_done(&c->by_name);
        kinds_done(c);
        cluster_unreadables_free(&c->unreadable);
        *c = (Cluster) {};
        return true;
}

void cluster_done(Cluster *c) {
        (void) cluster_drain(c, SIZE_MAX);
}
