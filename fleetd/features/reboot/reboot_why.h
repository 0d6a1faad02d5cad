/* Why the machines of the queue of reboots wait: for people. Pure. */
#pragma once

#include "fleetd/features/reboot/reboot.h"
#include "fleetd/scheduler/scheduler.h"

/* The machines that have a record, first those that have begun, for people. */
typedef struct RebootQueue {
        const Cluster *cluster;
        KvState state;
        bool braked;
        const ClusterMachine **machines; /* owned; up to REBOOTS_MAX */
        size_t n;
        SchedulerView *view; /* owned; it costs a pass over all units: made for the first drain */
} RebootQueue;

/* The index that a voter has is known on the leader only; on other hosts, no voter counts as lagging. 0 or
 * -ENOMEM. */
int reboot_queue_read(const Cluster *cluster, const KvState *state, bool braked, RebootQueue *ret);
void reboot_queue_done(RebootQueue *queue);
/* Set why the reboot of a machine waits, or has failed; the code is DRAINED_UNIT_BLOCKED as of the unit of
 * its drain that waits, which is in *ret_unit; NULL: none, or it waits for something else. 0 or -ENOMEM. */
int reboot_explain(RebootQueue *queue, const ClusterMachine *machine, const ClusterAssignment **ret_unit,
                   Error *ret_why);
/* Return whether the queue has stopped at the i-th machine, or has waited for a minute there, and no time
 * ends that; *ret_unit, of a wait, and *ret_why are as of reboot_explain(). The first machine of the queue
 * waits for the others; the next ones wait for it. 1, 0 or -ENOMEM. */
int reboot_is_stuck(RebootQueue *queue, size_t i, const ClusterAssignment **ret_unit, Error *ret_why);
