/* Planned reboots in a cluster view. */
#pragma once

#include "fleetd/features/reboot/reboot.h"
#include "fleetd/registry/shutdown.h"
#include "tests/lib/drains.h"

static inline const char *machine_key(const char *machine, const char *kind) {
        static char key[128];
        char id[MACHINE_ID_SIZE];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/%s", cluster_view_id(id, machine), kind);
        return key;
}

static inline const char *name_of(const ClusterMachine *m) {
        return m ? cluster_machine_name(m) : "";
}

/* Execute the step that is due as the registry would. Return the name of its machine; "": none is due. */
static inline const char *execute(ClusterView *p, const KvState *state) {
        RebootStep step = reboot_step(&p->cluster, state, false);
        static char name[32];
        char key[128];

        if (!step.machine)
                return "";
        snprintf(name, sizeof(name), "%s", name_of(step.machine));
        snprintf(key, sizeof(key), "%s", machine_key(name, "reboot"));
        if (step.maintenance == REBOOT_DRAINS) {
                MaintenanceRecord next;
                _cleanup_text_ Text t = {};

                assert_true(reboot_begin(step.machine->maintenance, 0, &next));
                stored_maintenance_write(&t, &next);
                cluster_view_put(p, machine_key(name, "maintenance"), t.chars);
        } else if (step.maintenance == REBOOT_RELEASES)
                cluster_view_remove(p, machine_key(name, "maintenance"));
        if (step.ends)
                cluster_view_remove(p, key);
        else {
                _cleanup_text_ Text t = {};

                stored_reboot_write(&t, &step.next);
                cluster_view_put(p, key, t.chars);
        }
        return name;
}

/* The host has rebooted. */
static inline void boots(ClusterView *p, const char *machine, unsigned n) {
        _cleanup_machine_ Machine facts = {};
        char id[MACHINE_ID_SIZE];
        _cleanup_text_ Text t = {};

        assert_int_equal(json_record_copy(&facts_record,
                                          cluster_machine(&p->cluster, cluster_view_id(id, machine))->facts,
                                          &facts),
                         0);
        snprintf(facts.boot_id, BOOT_ID_SIZE, "%032x", n);
        stored_facts_write(&t, &facts);
        cluster_view_put(p, machine_key(machine, "facts"), t.chars);
        cluster_view_presence(p, machine, PRESENCE_UP);
}
