/* The number of instances of a template, and the instances that it demands. */
#include "fleetd/registry/transaction_parts.h"

static void replicas_write(Transaction *t, const ClusterUnit *head, const ReplicasRecord *record) {
        transaction_check_index(t, head->index, LAYOUT_UNIT, head->name, NULL);
        transaction_check_index(t, head->replicas_index, LAYOUT_REPLICAS, head->name, NULL);
        transaction_put(t, LAYOUT_REPLICAS, head->name, NULL, record);
}

int registry_replicate(Registry *r, uint64_t term, const ReplicasWrite *w, RegistryDone done,
                       void *userdata) {
        _cleanup_transaction_ Transaction t = {}, former = {}; /* no instance replaces a text */
        const UnitRequest request = { w->changes, w->n_changes };

        replicas_write(&t, w->head, w->record);
        transaction_check_index(&t, w->head->target_index, LAYOUT_TARGET, w->head->name, NULL);
        for (size_t i = 0; i < w->n_changes; i++) {
                const UnitChange *c = &w->changes[i];
                const ClusterUnit *slot = cluster_any_unit(registry_cluster(r), c->name);
                const char *name = c->name;
                Transaction before = t;

                /* A user may have changed the instance meanwhile. */
                transaction_check_index(&t, slot ? slot->index : 0, LAYOUT_UNIT, name, NULL);
                transaction_check_index(&t, slot ? slot->target_index : 0, LAYOUT_TARGET, name, NULL);
                transaction_change_unit(r, &t, &former, &request, c);
                if (i > 0 && !transaction_fits(&t, &before))
                        break;
        }
        t.error = MIN(t.error, former.error);
        return transaction_send(r, &t, term, done, userdata);
}

int registry_scale(Registry *r, const ClusterUnit *head, const ReplicasRecord *record, const char *user,
                   RegistryDone done, void *userdata) {
        _cleanup_transaction_ Transaction t = {};
        char reason[32] = "replicas of the file";

        replicas_write(&t, head, record);
        if (record->is_scaled)
                snprintf(reason, sizeof(reason), "%u replicas", (unsigned) record->count);
        transaction_note(
                &t, r,
                &(HistoryNote) {
                        .kind = HISTORY_TARGET, .unit = head->name, .user = user, .reason = reason });
        return transaction_send(r, &t, 0, done, userdata);
}
