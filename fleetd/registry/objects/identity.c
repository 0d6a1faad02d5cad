/* Hosts, users and tokens; the certificate authority. */
#include "base/parse.h"
#include "fleetd/registry/cluster_parts.h"

static int host_applied(Cluster *c, const KindEntries *e, const void *was, const KindValue *is) {
        const HostRecord *before = was;

        if ((before && before->restricted) == cluster_machine_is_restricted(e->machine))
                return 0;
        return cluster_metadata_merge(e->machine);
}

KIND(host, "cluster/host/%m", "host", CHANGED_CLUSTER, OF_MACHINE, KV_LEVEL_IDENTITY, SLICE_MEMBER,
     { .set = RIGHT_ADMINISTER }, REMOVAL_ITSELF, kind_stays, .record = &host_record,
     .applied = host_applied);

/* The host on which a new lineage begins is its member: its departure from the former one ends, as by a join.
 */
static bool removed_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        return streq(k->machine, lineage->machine_id);
}

KIND(removed, "cluster/removed/%m", "removed", CHANGED_CLUSTER, OF_MACHINE, KV_LEVEL_IDENTITY, SLICE_MACHINE,
     { .set = RIGHT_ADMINISTER }, REMOVAL_ITSELF, removed_ends, .record = &removed_record);

KIND(denied, "cluster/denied/%u", "denied", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY, SLICE_NONE,
     { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, kind_stays, .record = &denied_record,
     .name_is_valid = digest_is_valid);

/* It may have been used or revoked since the backup. */
static bool token_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        return lineage->is_restored;
}

KIND(token, "cluster/token/%u", "token", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY, SLICE_NONE,
     { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, token_ends, .record = &token_record,
     .name_is_valid = token_id_is_valid);

KIND(principal, "cluster/principal/%u", "principal", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY,
     SLICE_USERS, { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, kind_stays, .record = &principal_record,
     .name_is_valid = principal_name_is_valid);

KIND(ca_roots, "cluster/ca/roots", "ca", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY, SLICE_ALL,
     { .leader = true }, REMOVAL_KEEPS, kind_stays, .record = &ca_roots_record);

KIND(ca_keys, "cluster/ca/key", "ca", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY, SLICE_NONE,
     { .leader = true }, REMOVAL_KEEPS, kind_stays, .record = &ca_keys_record);

KIND(ca_rotation, "cluster/ca/rotation", "ca", CHANGED_CLUSTER, OF_CLUSTER, KV_LEVEL_IDENTITY, SLICE_NONE,
     { .set = RIGHT_ADMINISTER }, REMOVAL_KEEPS, kind_stays, .record = &ca_rotation_record);
