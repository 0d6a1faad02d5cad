/* Units, their target states, and where their data is. */

#include "fleetd/registry/cluster_parts.h"
#include "fleetd/registry/data.h"
#include "fleetd/registry/protect.h"

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
                if (!TABLE_ADDED_OR_FREED(owner))
                        return -ENOMEM;
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
        if (u->unit) {
                (void) protect_file(c, CLUSTER_PATHS, u, &u->unit->placement.inputs, false);
                cluster_update_leads(c, u);
        }
        cluster_owner_remove(c, u);
        u->unit = unit_free(u->unit);
        u->sticky = false;
}

static void unit_count(ClusterUnit *u) {
        for (ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                cluster_assignment_count(a);
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
        if (protect_file(c, CLUSTER_PATHS, u, &unit->placement.inputs, true) < 0 ||
            (unit->owner && owner_add(c, u, unit->owner) < 0)) {
                unit_clear_text(c, u);
                return -ENOMEM;
        }
        cluster_update_sticky(c, u);
        return 0;
}

static int unit_decode(const LayoutKey *k, KvBytes bytes, void **ret, Error *err) {
        Unit *unit = NULL;
        int r = stored_unit_read(k->unit, bytes.data, bytes.size, &unit, err);

        *ret = unit;
        return r;
}

static void unit_value_free(void *unit) {
        unit_free(unit);
}

static int unit_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        int r = unit_set_text(c, e->unit, TAKE_PTR(v->record));

        unit_count(e->unit);
        e->unit->index = r < 0 ? 0 : v->modified;
        return r;
}

static int unit_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        unit_clear_text(c, e->unit);
        unit_count(e->unit);
        e->unit->index = 0;
        return 0;
}

static const JsonField unit_shown[] = {
        { "hash", JSON_FIELD_CHARS, offsetof(Unit, hash) },
        { "owner", JSON_FIELD_TEXT, offsetof(Unit, owner) },
};

KIND(unit, "unit/%u", "unit", CHANGED_UNIT, OF_UNIT, KV_LEVEL_FIRST, SLICE_UNIT,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_stays, .decode = unit_decode, .free = unit_value_free,
     .shown = JSON_FIELDS(unit_shown), .apply = unit_apply, .clear = unit_clear,
     .present = offsetof(ClusterUnit, index));

/* -- Target states -- */

static int target_text(const LayoutKey *k, const char *text, size_t size, Error *err) {
        return target_state_from_string(text) < 0 ?
                       error_set(err, -EBADMSG, "not a target state: '%.15s'", text) :
                       0;
}

static int target_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        e->unit->target = v->record ? target_state_from_string(v->record) : TARGET_INACTIVE;
        e->unit->target_index = v->modified;
        return 0;
}

static const JsonField target_shown[] = { { "value", JSON_FIELD_CHARS, 0 } };

KIND(target, "target/%u", "target", CHANGED_TARGET, OF_UNIT, KV_LEVEL_FIRST, SLICE_UNIT,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_stays, .text = target_text,
     .shown = JSON_FIELDS(target_shown), .apply = target_apply,
     .present = offsetof(ClusterUnit, target_index));

/* -- Data -- */

/* It outlives the text, the unit, the machine, and a restore. */
KIND(data, "data/%u", "data", CHANGED_DATA, OF_UNIT, KV_LEVEL_SCHEDULING, SLICE_NONE, { .leader = true },
     REMOVAL_KEEPS, kind_stays, .record = &data_record);
