/* Adoption: a new lineage (after --recover or --restore) begins with the key /_fleet/cluster/adopting.
 *
 * Its tree may be old, so that the units that run are not known. Each host reports the units that it runs,
 * then that it has reported all. The engine writes assignments from these reports. Agents execute assignments
 * only after the key was deleted. */
#include <stdio.h>

#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

/* Report keys that are deleted together with the key. The others are of a lineage that is never compared
 * again. */
enum { REPORTS_MAX = 100 };

/* Note how the lineage began, on the machine on which that happened: then no host could write a row. */
static void adoption_note_begin(Transaction *t, const Registry *r) {
        const Cluster *c = registry_cluster(r);
        char lineage[LINEAGE_SIZE], reason[HISTORY_REASON_SIZE];
        const ClusterLineage *begun = cluster_lineage(c, hex64_print(c->lineage, lineage));

        if (!begun || !streq(begun->record.machine, registry_machine_id(r)))
                return;
        snprintf(reason, sizeof(reason), "the cluster was %s at index %llu of lineage %s",
                 lineage_kind_to_string(begun->record.kind), (unsigned long long) begun->record.index,
                 begun->record.ancestor);
        transaction_note(t, r,
                         &(HistoryNote) { .kind = HISTORY_ADOPTION,
                                          .machine = begun->record.machine,
                                          .user = begun->record.by,
                                          .reason = reason });
}

int registry_report(Registry *r, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        _cleanup_text_ Text value = {};
        char lineage[LINEAGE_SIZE];

        text_append(&value, hex64_print(registry_cluster(r)->lineage, lineage));
        transaction_check(&t, KV_CHECK_EXISTS, 0, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL);
        transaction_write(&t, KV_SET, LAYOUT_REPORTED, NULL, registry_machine_id(r),
                          transaction_text(&t, &value));
        adoption_note_begin(&t, r);
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_adopt_now(Registry *r, const char *user, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};

        transaction_check(&t, KV_CHECK_EXISTS, 0, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL);
        transaction_write(&t, KV_SET, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL, kv_string("0"));
        transaction_note(&t, r,
                         &(HistoryNote) { .kind = HISTORY_ADOPTION,
                                          .user = user,
                                          .reason = "continues without the hosts that have not reported" });
        return transaction_send(r, &t, 0, done, userdata);
}

int registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        size_t n = 0;

        transaction_write(&t, KV_DELETE, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL, NO_VALUE);
        transaction_note(&t, r,
                         &(HistoryNote) { .kind = HISTORY_ADOPTION,
                                          .reason = "ended: assignments are in force again" });
        for (const ClusterMachine *m = registry_cluster(r)->machines; m && n < REPORTS_MAX; m = m->hh.next)
                if (m->reported != 0) {
                        transaction_write(&t, KV_DELETE, LAYOUT_REPORTED, NULL, m->id, NO_VALUE);
                        n++;
                }
        return transaction_send(r, &t, term, done, userdata);
}
