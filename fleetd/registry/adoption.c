/* Adoption: a new lineage (after --recover or --restore) begins with the key /_fleet/cluster/adopting.
 *
 * Its tree may be old, so that the units that run are not known. Each host reports the units that it runs,
 * then that it has reported all. The engine writes assignments from these reports. Agents execute assignments
 * only after the key was deleted. */
#include "fleetd/registry/registry.h"
#include "fleetd/registry/transaction.h"

/* Report keys that are written or deleted together with the key; those of missing reports first. The others
 * are of a lineage that is never compared again. */
enum { REPORTS_MAX = 500 };

/* Append how the lineage began: "the cluster was restored at index 635 of lineage ...". Return its record, or
 * NULL: there is none. */
static const ClusterLineage *adoption_append_begin(Text *t, const Cluster *c) {
        char lineage[LINEAGE_SIZE];
        const ClusterLineage *begun = cluster_lineage(c, hex64_print(c->lineage, lineage));

        if (begun)
                text_printf(t, "the cluster was %s at index %llu of lineage %s",
                            lineage_kind_to_string(begun->record.kind),
                            (unsigned long long) begun->record.index, begun->record.ancestor);
        return begun;
}

/* Note how the lineage began, on the machine on which that happened: then no host could write a row. */
static void adoption_note_begin(Transaction *t, const Registry *r) {
        _cleanup_text_ Text reason = {};
        const ClusterLineage *begun = adoption_append_begin(&reason, registry_cluster(r));

        t->error = MIN(t->error, reason.error);
        if (begun && streq(begun->record.machine, registry_machine_id(r)))
                transaction_note(
                        t, r,
                        &(HistoryNote) { .kind = HISTORY_ADOPTION,
                                         .machine = begun->record.machine,
                                         .user = begun->record.by,
                                         .code = verdict_code(lineage_kind_to_string(begun->record.kind)),
                                         .reason = reason.chars });
}

/* Note the end; also how the lineage began, if the machine on which that happened has not reported, as one
 * without an agent. */
static void adoption_note_end(Transaction *t, const Registry *r) {
        const Cluster *c = registry_cluster(r);
        _cleanup_text_ Text begin = {}, reason = {};
        const ClusterLineage *begun = adoption_append_begin(&begin, c);
        const ClusterMachine *m = begun ? cluster_machine(c, begun->record.machine) : NULL;

        if (m && m->reported == c->lineage)
                begun = NULL;
        text_printf(&reason, "ended: assignments are in force again%s%s", begun ? "; " : "",
                    begun ? begin.chars ?: "" : "");
        t->error = MIN(t->error, MIN(begin.error, reason.error));
        transaction_note(t, r,
                         &(HistoryNote) { .kind = HISTORY_ADOPTION,
                                          .machine = begun ? begun->record.machine : NULL,
                                          .user = begun ? begun->record.by : NULL,
                                          .reason = reason.chars });
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

/* A host without a report may have newer data than those that have reported: see cluster_data_newer(). */
int registry_end_adoption(Registry *r, uint64_t term, RegistryDone done, void *userdata) {
        const Cluster *c = registry_cluster(r);
        _cleanup_transaction_ Transaction t = {};
        char missed[LINEAGE_SIZE];
        size_t n = 0;

        transaction_delete(&t, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL);
        adoption_note_end(&t, r);
        hex64_print(REPORT_MISSED, missed);
        for (const ClusterMachine *m = c->machines; m && n < REPORTS_MAX; m = m->hh.next)
                if (c->level >= KV_LEVEL_SCHEDULING && cluster_awaits_report(c, m)) {
                        transaction_write(&t, KV_SET, LAYOUT_REPORTED, NULL, m->id, kv_string(missed));
                        n++;
                }
        for (const ClusterMachine *m = c->machines; m && n < REPORTS_MAX; m = m->hh.next)
                if (m->reported != 0 && !cluster_awaits_report(c, m)) {
                        transaction_delete(&t, LAYOUT_REPORTED, NULL, m->id);
                        n++;
                }
        return transaction_send(r, &t, term, done, userdata);
}
