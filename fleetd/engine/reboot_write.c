/* Writing the steps of planned reboots; engine/reboot.c plans them, without I/O. */
#include "base/log.h"
#include "fleetd/engine/plan.h"
#include "fleetd/engine/reboot.h"

enum { REBOOT_LOOK_MS = 1000 };

static int reboot_write(Registry *r, uint64_t term, const RebootStep *step, RegistryDone done,
                        void *userdata) {
        RebootChange change = { .machine = step->machine,
                                .record = step->ends ? NULL : &step->next,
                                .maintenance = step->maintenance,
                                .reason = step->reason };

        if (step->maintenance == REBOOT_DRAINS && step->next.deadline_ms > 0)
                change.drain_until_ms = step->next.since_ms + step->next.deadline_ms;
        log_notice(((LogFields) { .machine = step->machine->id,
                                  .term = term,
                                  .message_id = history_message_id(HISTORY_MAINTENANCE) }),
                   "machine %s: %s", cluster_machine_name(step->machine), step->reason);
        return registry_reboot(r, term, &change, 1, NULL, done, userdata);
}

int reboot_advance(Registry *r, uint64_t term, uint64_t brake_ms, Timer *again, Loop *loop, RegistryDone done,
                   void *userdata) {
        const Cluster *cluster = registry_cluster(r);
        RebootStep step;
        KvState state;
        int e;

        if (cluster->counts[MACHINES_REBOOTED] == 0)
                return 0;
        kv_state(registry_store(r), &state);
        step = reboot_step(cluster, &state, engine_is_braked(cluster, brake_ms));
        if (!step.machine)
                return timer_start(again, loop, MIN(step.again_ms, (uint64_t) REBOOT_LOOK_MS));
        e = reboot_write(r, term, &step, done, userdata);
        return e < 0 ? e : 1;
}
