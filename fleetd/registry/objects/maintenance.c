/* Machines that are cordoned, drained, or to leave the cluster. */
#include "fleetd/registry/kinds.h"
#include "fleetd/registry/shutdown.h"

/* The machine keeps its units and receives no others. */
static void maintenance_unreadable(void *record) {
        *(MaintenanceRecord *) record = (MaintenanceRecord) { .mode = MAINTENANCE_CORDONED,
                                                              .why = CLUSTER_UNREADABLE };
}

/* A host begins and cancels its own leave, and announces its own shutdown and ends that. The cordon or drain
 * of an operator stays in the record. */
static bool maintenance_own_change(Right right, const void *was, const void *is) {
        const MaintenanceRecord *now = was, *next = is;

        if (right == RIGHT_REPORT)
                return shutdown_allows(now, next);
        return right == RIGHT_LEAVE && !(now && !streq(now->purpose, CLUSTER_FOR_LEAVE)) &&
               (!next || (streq(next->purpose, CLUSTER_FOR_LEAVE) && next->mode == MAINTENANCE_DRAINING));
}

/* It was begun for a reboot or a shutdown, of which the new lineage knows nothing, or for the leave of this
 * host, which is a member now. */
static bool maintenance_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        MaintenanceRecord m = {};

        return stored_maintenance_read(value.data, value.size, &m, NULL) >= 0 &&
               (streq(m.purpose, CLUSTER_FOR_REBOOT) || streq(m.purpose, CLUSTER_FOR_SHUTDOWN) ||
                (streq(k->machine, lineage->machine_id) && streq(m.purpose, CLUSTER_FOR_LEAVE)));
}

KIND(maintenance, "machine/%m/maintenance", "maintenance", CHANGED_MACHINE, OF_MACHINE, KV_LEVEL_IDENTITY,
     SLICE_MACHINE,
     { .set = RIGHT_ADMINISTER,
       .own_change = maintenance_own_change,
       .reports = 1u << KV_REPORT_MAINTENANCE },
     REMOVAL_OF_HOST | REMOVAL_OF_UNREADABLE, maintenance_ends, .record = &maintenance_record,
     .unreadable = maintenance_unreadable);
