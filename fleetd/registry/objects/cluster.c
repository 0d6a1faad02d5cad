/* Keys of the cluster as a whole. */
#include "base/parse.h"
#include "fleetd/registry/data.h"
#include "fleetd/registry/kinds.h"

static int settings_applied(Cluster *c, const KindEntries *e, const void *was, const KindValue *is) {
        cluster_update_all_sticky(c);
        return 0;
}

KIND(settings, "cluster/settings", "settings", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY, SLICE_ALL,
     { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, kind_stays, .record = &settings_record,
     .applied = settings_applied);

static bool lineage_name_is_valid(const char *name) {
        return parse_hex_id(name, LINEAGE_SIZE - 1) >= 0;
}

KIND(lineage, "cluster/lineage/%u", "lineage", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY, SLICE_ALL,
     { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, kind_stays, .record = &lineage_record,
     .name_is_valid = lineage_name_is_valid);

/* -- /_fleet/cluster/NAME: of these, the view holds that a new lineage adopts -- */

/* Of CLUSTER_ADOPTING, the presence of the key counts. */
static int cluster_text(const LayoutKey *k, const char *text, size_t size, Error *err) {
        return 0;
}

/* With an unreadable time, only reports and people end the adoption. */
static int cluster_value_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        if (!streq(k->unit, CLUSTER_ADOPTING))
                return 0;
        c->adopting = true;
        c->adopting_since_ms = UINT64_MAX;
        (void) parse_u64(v->record, &c->adopting_since_ms);
        return 0;
}

static int cluster_value_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        if (streq(k->unit, CLUSTER_ADOPTING))
                c->adopting = false;
        return 0;
}

static int cluster_value_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        return c->adopting ? found(userdata, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL) : 0;
}

KIND(cluster, "cluster/%u", "cluster", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_FIRST, SLICE_NAMED,
     { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, kind_stays, .text = cluster_text,
     .apply = cluster_value_apply, .clear = cluster_value_clear, .each = cluster_value_each);
